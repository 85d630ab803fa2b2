//! Running a model, within the limits of the calling key.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value};

use super::models::find;
use crate::admission::Turn;
use crate::app::App;
use crate::auth::Identified;
use crate::body::{JsonBody, Segment};
use crate::refusal::Refusal;
use crate::run::{Run, echo, upstream};

pub(crate) async fn run(
    State(app): State<Arc<App>>,
    Identified(key): Identified,
    turn: Turn,
    Segment(id_or_path): Segment,
    JsonBody(request): JsonBody<Map<String, Value>>,
) -> Result<Response, Refusal> {
    let model = Arc::clone(find(&app, &id_or_path)?);
    let run = Run { key, model, request, turn };
    match run.model.upstream.is_some() {
        true => upstream::run(&app, run).await,
        false => echo::run(&app, run).await,
    }
}
