//! The keys of a workspace: list, get, create, update, delete.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use limiter::{KeyId, KeyKind, KeyRecord, Keys, KeysError, NewKey, Search};
use serde_json::{Value, json};

use super::record::{KeyAnswer, KeyRequest};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{JsonBody, Segment};
use crate::metrics;
use crate::models::Models;
use crate::refusal::Refusal;

/// All keys, members before admins, without groups: the SDK's examples edit the limits of the first one.
///
/// A workspace may have many thousands of keys. Each page is rendered as it is read, and then other requests run.
pub(crate) async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Refusal> {
    let keys = app.limiter.keys(&caller.0);
    let (mut members, mut admins) = (List::default(), List::default());
    let mut search = Some(Search::all().page_size(LISTED_A_TURN));
    while let Some(page_of) = search {
        let page = keys.search(&page_of).await?;
        // The wire has no words for them; the store logs their ids.
        metrics::damaged_keys(page.damaged.len());
        for record in page.keys.iter().filter(|record| record.kind != KeyKind::Group) {
            let answer = KeyAnswer::of(record);
            if answer.is_admin { admins.push(&answer)? } else { members.push(&answer)? }
        }
        members.end_turn();
        admins.end_turn();
        search = page_of.following(&page);
        tokio::task::yield_now().await;
    }
    Ok(members.followed_by(admins))
}

/// Keys as JSON, in one piece for each page.
#[derive(Debug, Default)]
struct List {
    pieces: Vec<Bytes>,
    piece: Vec<u8>,
}

impl List {
    fn push(&mut self, key: &KeyAnswer) -> Result<(), Refusal> {
        self.piece.push(b',');
        serde_json::to_writer(&mut self.piece, key)
            .map_err(|error| Refusal::unavailable("rendering", error.to_string()))
    }

    fn end_turn(&mut self) {
        if !self.piece.is_empty() {
            self.pieces.push(std::mem::take(&mut self.piece).into());
        }
    }

    /// Joins both lists into one array.
    fn followed_by(self, others: Self) -> Response {
        let mut pieces: Vec<Bytes> = self.pieces.into_iter().chain(others.pieces).collect();
        if let Some(first) = pieces.first_mut() {
            // Drop the comma before the first key.
            *first = first.slice(1..);
        }
        pieces.insert(0, Bytes::from_static(b"["));
        pieces.push(Bytes::from_static(b"]"));
        let length: usize = pieces.iter().map(Bytes::len).sum();
        let pieces = stream::iter(pieces.into_iter().map(Ok::<_, Infallible>));
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CONTENT_LENGTH, length.into()),
        ];
        (headers, Body::from_stream(pieces)).into_response()
    }
}

pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<KeyAnswer>, Refusal> {
    let record = read(&app.limiter.keys(&caller.0), &key_id(&id)?).await?;
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
    let (keys, id) = (app.limiter.keys(&caller.0), key_id(&id)?);
    match read(&keys, &id).await {
        // It can be deleted too, to free its name.
        Ok(_) | Err(KeysError::Damaged { .. }) => keys.delete(&id).await?,
        Err(error) => return Err(error.into()),
    }
    Ok(Json(json!({ "id": id })))
}

/// Reads a key. A group is none.
async fn read(keys: &Keys<'_>, id: &KeyId) -> Result<KeyRecord, KeysError> {
    let record = keys.get(id).await?;
    match record.kind {
        KeyKind::Group => Err(KeysError::NotFound(id.to_string())),
        _ => Ok(record),
    }
}

/// Refuses the id of a group, as that of no key. A member reads none but itself, which is no group.
pub(super) async fn refuse_group(keys: &Keys<'_>, id: &KeyId) -> Result<(), KeysError> {
    match read(keys, id).await {
        Ok(_) | Err(KeysError::Forbidden) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Replaces the settings that this wire can express. The wire has no versions: after a concurrent change, the update is
/// tried again.
async fn replace(
    keys: &Keys<'_>,
    id: &KeyId,
    request: &KeyRequest,
    models: &Models,
) -> Result<KeyRecord, Refusal> {
    let mut retries = 0;
    loop {
        let record = read(keys, id).await?;
        let config = request.replacing(&record, models)?;
        match keys.update(id, record.version, &config).await {
            Err(KeysError::Conflict { .. }) if retries < CONFLICT_RETRIES => retries += 1,
            updated => return Ok(updated?.record),
        }
    }
}

/// An id of the path. One that no key can have belongs to no key.
pub(crate) fn key_id(text: &str) -> Result<KeyId, Refusal> {
    text.parse().map_err(|error| Refusal::not_found(format!("no such key: {error}")))
}

/// Keys in a page of the list: less than a millisecond of work, so that a check never waits long behind it.
const LISTED_A_TURN: usize = 100;
/// A client that loses more often in a row gets the conflict, and can look at the changes of the others.
const CONFLICT_RETRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use axum::body::to_bytes;
    use limiter::{AccessKey, KeyConfig};

    use super::*;
    use crate::bounds::Bounds;
    use crate::engine::Backing;
    use crate::fixtures::{self, engine};

    /// Returns the result of a future, and how often it was polled.
    fn finished<T>(future: impl Future<Output = T>) -> (T, usize) {
        let mut future = pin!(future);
        for polls in 1.. {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            {
                return (done, polls);
            }
        }
        unreachable!("it is polled until it is ready")
    }

    /// Creates a workspace with an admin `m` and a number of members.
    fn app(members: usize) -> (Arc<App>, AccessKey) {
        let ((limiter, admin), _) = finished(engine());
        for number in 0..members {
            // Half of the names sort before the admin's, half after.
            let name = format!("{}{number:05}", if number % 2 == 0 { "a" } else { "z" });
            let key = NewKey::member(KeyConfig::named(&name).unwrap()).without_access_key();
            finished(limiter.keys(&admin).create(key)).0.unwrap();
        }
        (fixtures::app(limiter, Backing::default(), Bounds::default()), admin)
    }

    /// Each page takes one poll; other requests run after it.
    #[test]
    fn a_long_list_is_read_page_by_page_and_members_come_first() {
        for members in [0, 1, 99, 100, 2_000] {
            let (app, admin) = app(members);
            let (response, polls) = finished(list(State(app), Caller(admin)));
            let response = response.unwrap();
            assert!(polls > members / LISTED_A_TURN, "{polls} polls for {members} members");
            let length = response.headers()[CONTENT_LENGTH].to_str().unwrap().to_owned();
            let body = finished(to_bytes(response.into_body(), usize::MAX)).0.unwrap();
            assert_eq!(length, body.len().to_string());
            let keys: Vec<Value> = serde_json::from_slice(&body).unwrap();
            let (admins, others): (Vec<_>, Vec<_>) =
                keys.iter().enumerate().partition(|(_, key)| key["isAdmin"] == true);
            assert_eq!((admins.len(), others.len()), (1, members));
            assert_eq!(admins[0].0, members, "the admin comes last");
            assert!(others.is_sorted_by_key(|(_, key)| key["name"].as_str().unwrap()));
        }
    }
}
