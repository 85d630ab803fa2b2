//! Whether the server lives, and whether it wants requests.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use crate::app::App;

/// The process answers.
pub(crate) async fn alive() -> &'static str {
    "ok\n"
}

/// Reports whether the store answers, the state is saved and the server is not stopping. If not, the body gives the
/// reason.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> (StatusCode, String) {
    match app.readiness().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}
