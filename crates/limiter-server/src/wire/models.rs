//! The record of a model.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use limiter::{Charge, KeyId, TokenUsage};
use serde_json::{Value, json};

use super::amount;
use crate::app::App;
use crate::auth::Identified;
use crate::body::Segment;
use crate::models::Model;
use crate::refusal::{Refusal, shortened};

/// Returns the record of a model, by its id or path, to every living key.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Identified(key): Identified,
    Segment(id_or_path): Segment,
) -> Result<Json<Value>, Refusal> {
    refuse_unless_living(&app, &key).await?;
    Ok(Json(record(find(&app, &id_or_path)?)))
}

/// Refuses a key that is expired or deleted. Admin keys pass.
pub(crate) async fn refuse_unless_living(app: &App, key: &KeyId) -> Result<(), Refusal> {
    let decision = app.limiter.peek(key, None, &Charge::request()).await?;
    match decision.denied().and_then(Refusal::of_caller) {
        Some(refusal) if refusal.status != StatusCode::FORBIDDEN => Err(refusal),
        _ => Ok(()),
    }
}

pub(crate) fn find<'a>(app: &'a App, id_or_path: &str) -> Result<&'a Arc<Model>, Refusal> {
    app.models.find(id_or_path).ok_or_else(|| Refusal::not_found(no_model(id_or_path)))
}

/// Returns the message for an unknown model.
pub(crate) fn no_model(id_or_path: &str) -> String {
    format!(
        "unknown model {:?}: name a model of this server by its id or path",
        shortened(id_or_path)
    )
}

fn record(model: &Model) -> Value {
    json!({
        "id": model.id,
        "name": model.title(),
        "path": model.path,
        "status": "onboarded",
        "function": { "id": "text-generation" },
        "connectionType": ["synchronous"],
        "supportsStreaming": true,
        "supplier": model.path.rsplit('/').next(),
        // Without these two, version 1 of the SDK does not take the record.
        "version": { "id": "1" },
        "pricing": { "price": amount::number(model.price().of(&TokenUsage::default())) },
        "params": [{
            "name": "text",
            "required": true,
            "dataType": "text",
            "dataSubType": "text",
            "values": [],
            "defaultValues": [],
            "availableOptions": [],
            "multipleValues": false,
            "isFixed": false,
        }],
    })
}
