//! The usage of a key.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use limiter::{KeyId, Usage};
use serde::Deserialize;

use super::problems::{ProblemSchema, RequestProblems};
use crate::app::App;
use crate::auth::Caller;
use crate::body::Queried;
use crate::refusal::Refusal;

/// The key whose usage is read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageQuery {
    key_id: Option<KeyId>,
}

/// The usage of a key in this minute and on this day, and of its budget. Reading it changes nothing.
///
/// A member key reads its own usage, an admin key that of every key of its workspace.
#[utoipa::path(
    get, path = "/v1/usage", tag = "usage",
    params(("key_id" = Option<KeyId>, Query, description = "The id of a key of the workspace, for admin keys; that of the calling key if left out")),
    responses(
        (status = 200, description = "Used, limit, remaining and reset of every limited scope", body = Usage),
        RequestProblems,
        (status = 403, description = "A member key asks for the usage of another key", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such key in the workspace", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn usage(
    State(app): State<Arc<App>>,
    caller: Caller,
    Queried(query): Queried<UsageQuery>,
) -> Result<Json<Usage>, Refusal> {
    let keys = app.limiter.keys(&caller.0);
    let usage = match &query.key_id {
        Some(id) => keys.usage(id).await?,
        None => keys.own_usage().await?,
    };
    Ok(Json(usage))
}
