//! The keys of a workspace: list, get, create, update, delete.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use limiter::{KeyId, KeyKind, KeyRecord, Keys, KeysError, NewKey, Search};
use serde_json::{Value, json};

use super::record::{KeyAnswer, KeyRequest};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{JsonBody, Segment};
use crate::models::Models;
use crate::refusal::Refusal;

/// All keys, members before admins: the SDK's examples edit the limits of the first one.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Vec<KeyAnswer>>, Refusal> {
    let keys = app.limiter.keys(&caller.0);
    let mut answers = Vec::new();
    let mut search = Some(Search::all().page_size(Search::MAX_PAGE_SIZE));
    while let Some(page_of) = search {
        let page = keys.search(&page_of).await?;
        answers.extend(page.keys.iter().map(KeyAnswer::of));
        search = page_of.following(&page);
    }
    answers.sort_by_key(|answer| answer.is_admin);
    Ok(Json(answers))
}

pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<KeyAnswer>, Refusal> {
    let record = app.limiter.keys(&caller.0).get(&key_id(&id)?).await?;
    Ok(Json(KeyAnswer::of(&record)))
}

pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(request): JsonBody<KeyRequest>,
) -> Result<(StatusCode, Json<KeyAnswer>), Refusal> {
    let kind = request.kind();
    let config = request.config(&app.models)?;
    let key = match kind {
        KeyKind::Admin => NewKey::admin(config),
        _ => NewKey::member(config),
    };
    let created = app.limiter.keys(&caller.0).create(key).await?;
    let answer = KeyAnswer::of(&created.record).with_access_key(created.access_key.as_ref());
    Ok((StatusCode::CREATED, Json(answer)))
}

pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
    JsonBody(request): JsonBody<KeyRequest>,
) -> Result<Json<KeyAnswer>, Refusal> {
    let keys = app.limiter.keys(&caller.0);
    let record = replace(&keys, &key_id(&id)?, &request, &app.models).await?;
    Ok(Json(KeyAnswer::of(&record)))
}

pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Value>, Refusal> {
    let id = key_id(&id)?;
    app.limiter.keys(&caller.0).delete(&id).await?;
    Ok(Json(json!({ "id": id })))
}

/// The wire knows no versions: a PUT replaces what it can say of the version of now, again if another change was faster.
async fn replace(
    keys: &Keys<'_>,
    id: &KeyId,
    request: &KeyRequest,
    models: &Models,
) -> Result<KeyRecord, Refusal> {
    let mut retries = 0;
    loop {
        let record = keys.get(id).await?;
        let config = request.replacing(&record, models)?;
        match keys.update(id, record.version, &config).await {
            Err(KeysError::Conflict { .. }) if retries < CONFLICT_RETRIES => retries += 1,
            updated => return Ok(updated?),
        }
    }
}

/// An id of the path. One that no key can have belongs to no key.
pub(crate) fn key_id(text: &str) -> Result<KeyId, Refusal> {
    text.parse().map_err(|error| Refusal::not_found(format!("no such key: {error}")))
}

/// Whoever loses so often in a row is told, and can look at what the others do.
const CONFLICT_RETRIES: u32 = 3;
