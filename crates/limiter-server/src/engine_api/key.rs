//! One key or group of a workspace.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use limiter::{
    AccessKey, CreatedKey, Effective, InvalidValue, KeyConfig, KeyId, KeyKind, KeyPrefix,
    KeyRecord, Rotation, Upserted,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::keys::{CreateKey, member};
use super::problems::{BodyProblems, ProblemSchema, RequestProblems};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{JsonBody, Segment};
use crate::refusal::Refusal;
use crate::wire::keys::key_id;

/// A key or a group to be created, or to be updated if there is one of its name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpsertKey {
    /// Member if left out.
    #[serde(default = "member")]
    kind: KeyKind,
    /// Its name, limits, expiry and time zone.
    config: KeyConfig,
    /// The id of a key that is created, with the ids of its groups before it: `acme/search/ci`. Drawn if left out.
    id: Option<KeyId>,
    /// In place of an id, the group that a key that is created belongs to: the last segment of its id is drawn.
    beneath: Option<KeyId>,
    /// An access key of the caller's for a key that is created, 16 to 256 visible ASCII characters; drawn if left out. A group
    /// has none.
    #[schema(min_length = 16, max_length = 256)]
    access_key: Option<String>,
    /// The visible start of the access key of a key that is created: one that is drawn starts with it, and one of the caller's
    /// must.
    prefix: Option<KeyPrefix>,
    /// Whether a key that is created has no access key at all.
    #[serde(default)]
    without_access_key: bool,
    /// When changed limits of a key that is updated take effect: at the start of the next window of their kind if left out.
    #[serde(default)]
    effective: Effective,
}

/// A key after an upsert.
#[derive(Serialize, ToSchema)]
#[schema(as = UpsertedKey)]
pub(crate) struct UpsertedKey {
    /// Whether the key is new.
    created: bool,
    /// The key.
    key: KeyRecord,
    /// The access key of a new key, which is never shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key: Option<String>,
}

/// A new configuration of a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateKey {
    /// The version that the update was made from.
    version: u64,
    /// The whole configuration.
    config: KeyConfig,
    /// When changed limits take effect: at the start of the next window of their kind if left out.
    #[serde(default)]
    effective: Effective,
}

/// Create a key or a group, or update the one of its name, whatever its version.
///
/// An id, a group and an access key do not matter for a key that is there already.
#[utoipa::path(
    put, path = "/v1/keys", tag = "keys", request_body = UpsertKey,
    responses(
        (status = 200, description = "The key was updated, or is as it was", body = UpsertedKey),
        (status = 201, description = "The key was created", body = UpsertedKey),
        RequestProblems,
        BodyProblems,
        (status = 403, description = "A member key changes no keys", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "Its id or its access key is taken, or other callers change the key again and again", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "The key of this name is of another kind, or there is no plan or group that the request names", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn upsert(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(request): JsonBody<UpsertKey>,
) -> Result<(StatusCode, Json<UpsertedKey>), Refusal> {
    let UpsertKey { kind, config, id, beneath, access_key, prefix, without_access_key, effective } =
        request;
    let new = CreateKey { kind, config, id, beneath, access_key, prefix, without_access_key };
    let new = new.read()?;
    let (status, key, access_key) = match app.limiter.keys(&caller.0).upsert(new, effective).await?
    {
        Upserted::Created(created) => (StatusCode::CREATED, created.record, created.access_key),
        Upserted::Updated(updated) => (StatusCode::OK, updated.record, None),
    };
    let access_key = access_key.map(|access_key| access_key.expose().to_owned());
    Ok((status, Json(UpsertedKey { created: status == StatusCode::CREATED, key, access_key })))
}

/// Read a key or a group of the workspace: its configuration, the limits in force and pending, and its version.
#[utoipa::path(
    get, path = "/v1/keys/{id}", tag = "keys",
    params(("id" = KeyId, Path, description = ID)),
    responses(
        (status = 200, description = "The key", body = KeyRecord),
        RequestProblems,
        (status = 403, description = "A member key reads no keys", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such key in the workspace", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<KeyRecord>, Refusal> {
    Ok(Json(app.limiter.keys(&caller.0).get(&key_id(&id)?).await?))
}

/// Replace the configuration of a key or a group that was read at a version.
///
/// Name, expiry, thresholds, shadow mode and limits for ever take effect at once. All other limits take effect at the start
/// of the next window of their kind, or at once with `"effective": "now"`: what was used stays used.
#[utoipa::path(
    put, path = "/v1/keys/{id}", tag = "keys", request_body = UpdateKey,
    params(("id" = KeyId, Path, description = ID)),
    responses(
        (status = 200, description = "The key after the update", body = KeyRecord),
        RequestProblems,
        BodyProblems,
        (status = 403, description = "A member key changes no keys", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such key in the workspace", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "The key was changed since that version, or is the workspace's last admin key", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 422, description = "Another key has the name, or there is no plan that the configuration names", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
    JsonBody(request): JsonBody<UpdateKey>,
) -> Result<Json<KeyRecord>, Refusal> {
    let (keys, id) = (app.limiter.keys(&caller.0), key_id(&id)?);
    let UpdateKey { version, config, effective } = request;
    let updated = match effective {
        Effective::Next => keys.update(&id, version, &config).await?,
        Effective::Now => keys.update_now(&id, version, &config).await?,
    };
    Ok(Json(updated.record))
}

/// Set what a key or a group has used to zero, in all windows that end.
///
/// What the day had counted stays in the history. Reservations of these windows find them closed. The reset of a group changes
/// nothing of the keys beneath it.
#[utoipa::path(
    post, path = "/v1/keys/{id}/reset", tag = "keys",
    params(("id" = KeyId, Path, description = ID)),
    responses(
        (status = 204, description = "The key is reset"),
        RequestProblems,
        (status = 403, description = "A member key resets no keys", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such key in the workspace", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reset(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, Refusal> {
    app.limiter.keys(&caller.0).reset(&key_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How the access key of a key is replaced.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RotateKey {
    /// The seconds for which the old access key works on, at most 604,800 (7 days); 0 if left out: then all old ones are
    /// refused from now on.
    #[schema(minimum = 0, maximum = 604_800)]
    grace_seconds: u32,
    /// An access key of the caller's, 16 to 256 visible ASCII characters; drawn if left out.
    #[schema(min_length = 16, max_length = 256)]
    access_key: Option<String>,
    /// The visible start of the new access key; that of the old one if left out.
    prefix: Option<KeyPrefix>,
}

/// A key with a new access key.
#[derive(Serialize, ToSchema)]
#[schema(as = RotatedKey)]
pub(crate) struct RotatedKey {
    /// The key.
    key: KeyRecord,
    /// Its new access key, which is never shown again.
    access_key: String,
}

impl RotateKey {
    fn read(self) -> Result<Rotation, InvalidValue> {
        let rotation = Rotation::with_grace(Duration::from_secs(self.grace_seconds.into()));
        let rotation = match self.access_key {
            Some(access_key) => rotation.with_access_key(AccessKey::new(access_key)?),
            None => rotation,
        };
        Ok(match self.prefix {
            Some(prefix) => rotation.with_prefix(prefix),
            None => rotation,
        })
    }
}

/// Replace the access key of a key. The new one is shown this once.
///
/// The configuration of the key, its counts and its version stay as they are. Other processes refuse an access key that has ended
/// within a second. If the answer was lost, rotate again: with a
/// grace time, the access key that nobody has seen counts as one of the old ones.
#[utoipa::path(
    post, path = "/v1/keys/{id}/rotate", tag = "keys", request_body = RotateKey,
    params(("id" = KeyId, Path, description = ID)),
    responses(
        (status = 200, description = "The key, and its new access key", body = RotatedKey),
        RequestProblems,
        BodyProblems,
        (status = 403, description = "A member key rotates no keys", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such key in the workspace", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "A living key has this access key", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
    JsonBody(request): JsonBody<RotateKey>,
) -> Result<Json<RotatedKey>, Refusal> {
    let (id, rotation) = (key_id(&id)?, request.read()?);
    let rotated = app.limiter.keys(&caller.0).rotate(&id, &rotation).await?;
    app.authenticator.forget(&id);
    let CreatedKey { record: key, access_key, .. } = rotated;
    let access_key = access_key.map_or_else(String::new, |key| key.expose().to_owned());
    Ok(Json(RotatedKey { key, access_key }))
}

/// Delete a key or an empty group for good.
///
/// The next call of the key is refused. Its id must not be used again.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys",
    params(("id" = KeyId, Path, description = ID)),
    responses(
        (status = 204, description = "The key is deleted"),
        RequestProblems,
        (status = 403, description = "A member key deletes no keys", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such key in the workspace", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "Keys or groups lie beneath the group, or the key is the workspace's last admin key", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, Refusal> {
    app.limiter.keys(&caller.0).delete(&key_id(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The id in the path of a request.
const ID: &str = "The id of a key or a group of the workspace; a slash in it is `%2F`";

/// Without the access key.
impl std::fmt::Debug for UpsertKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpsertKey").field("config", &self.config).finish_non_exhaustive()
    }
}
