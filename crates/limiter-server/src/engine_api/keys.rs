//! The keys and groups of a workspace, many at a time.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use limiter::{
    AccessKey, CreatedKey, DayHistory, KeyConfig, KeyId, KeyKind, KeyName, KeyPrefix, KeyRecord,
    Keys, KeysError, NewKey, Page, Search,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problems::{BodyProblems, ProblemSchema, RequestProblems};
use super::usage::history_days;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{JsonBody, Queried};
use crate::metrics;
use crate::refusal::Refusal;

/// Keys to be created.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKeys {
    /// The keys, 1,000 at most.
    #[schema(max_items = 1000)]
    keys: Vec<CreateKey>,
}

/// A key or a group to be created.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKey {
    /// Member if left out.
    #[serde(default = "member")]
    pub(super) kind: KeyKind,
    /// Its name, limits, expiry and time zone.
    pub(super) config: KeyConfig,
    /// Its id, with the ids of its groups before it: `acme/search/ci`. Drawn if left out. No id may be used again, also after a
    /// deletion.
    pub(super) id: Option<KeyId>,
    /// In place of an id, the group that it belongs to: the last segment of its id is drawn.
    pub(super) beneath: Option<KeyId>,
    /// An access key of the caller's, 16 to 256 visible ASCII characters; drawn if left out. A group has none.
    #[schema(min_length = 16, max_length = 256)]
    pub(super) access_key: Option<String>,
    /// The visible start of its access key: one that is drawn starts with it, and one of the caller's must.
    pub(super) prefix: Option<KeyPrefix>,
    /// Whether the key has no access key at all.
    #[serde(default)]
    pub(super) without_access_key: bool,
}

/// The result for each key, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedKeys {
    results: Vec<CreatedOrNot>,
}

/// The result for one key.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct CreatedOrNot {
    /// 201 if it was created, else the status of a request for this key alone.
    status: u16,
    /// The key, if it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<KeyRecord>,
    /// Its access key, which is never shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key: Option<String>,
    /// Of a key that was not created: a name for programs, such as `name_taken`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Of a key that was not created: a sentence with the remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Create many keys and groups in the workspace of an admin key, much faster than one by one.
///
/// Each key has a result of its own, in the order of the request: one that is refused does not stop the others. A group may stand
/// before its keys. The access keys in the answer are shown this once.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", request_body = CreateKeys,
    responses(
        (status = 200, description = "The result for each key; look at the status of each", body = CreatedKeys),
        RequestProblems,
        BodyProblems,
        (status = 403, description = "A member key creates no keys", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(CreateKeys { keys }): JsonBody<CreateKeys>,
) -> Result<Json<CreatedKeys>, Refusal> {
    let (count, max) = (keys.len(), Keys::MAX_CREATED_AT_ONCE);
    if count > max {
        let message = format!(
            "the request has {count} keys, but one request creates at most {max}: split it"
        );
        return Err(Refusal::malformed(message));
    }
    let keys: Vec<NewKey> = keys.into_iter().map(CreateKey::read).collect::<Result<_, _>>()?;
    let created = app.limiter.keys(&caller.0).create_many(keys).await?;
    Ok(Json(CreatedKeys { results: created.into_iter().map(CreatedOrNot::from).collect() }))
}

/// The keys to list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    after: Option<KeyName>,
    name_contains: Option<String>,
    beneath: Option<KeyId>,
    #[serde(default)]
    direct: bool,
    page_size: Option<usize>,
    #[serde(default)]
    usage: bool,
    history_days: Option<u16>,
}

/// A page of keys and groups.
#[derive(Serialize, ToSchema)]
#[schema(as = KeysPage)]
pub(crate) struct KeysPage {
    #[serde(flatten)]
    page: Page,
    /// The charges of each key on each of the last days, in the order of `keys`, if `history_days` asks for it. Days without
    /// any charge are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    history: Vec<Vec<DayHistory>>,
}

/// A page of the keys and groups of an admin key's workspace, by the bytes of their names.
///
/// `damaged` names keys whose stored data cannot be read: delete them to free their names, or have their data restored.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys",
    params(
        ("after" = Option<KeyName>, Query, description = "The name after which the page starts: `next` of the page before"),
        ("name_contains" = Option<String>, Query, description = "Only keys whose name contains this text, in upper or lower case"),
        ("beneath" = Option<KeyId>, Query, description = "Only keys and groups beneath this group, directly or not"),
        ("direct" = Option<bool>, Query, description = "Whether to go down one level only: to what is directly beneath the group, or in no group if none is named"),
        ("page_size" = Option<usize>, Query, description = "The most keys of a page: 1 to 1,000, or to 100 with their history; 100 if left out", minimum = 1, maximum = 1000),
        ("usage" = Option<bool>, Query, description = "Whether to show what each of the keys has used: `usage`, in the order of `keys`"),
        ("history_days" = Option<u16>, Query, description = "The days of history to show for each key, today included: `history`, in the order of `keys`; none if left out", minimum = 1, maximum = 400),
    ),
    responses(
        (status = 200, description = "Some of the keys, and where the next page starts", body = KeysPage),
        RequestProblems,
        (status = 403, description = "A member key lists no keys", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Queried(query): Queried<ListQuery>,
) -> Result<Json<KeysPage>, Refusal> {
    let mut search = Search::all().name_contains(query.name_contains.unwrap_or_default());
    if let Some(group) = query.beneath {
        search = search.beneath(group);
    }
    if query.direct {
        search = search.direct();
    }
    if let Some(page_size) = query.page_size {
        search = search.page_size(page_size);
    }
    let days = query.history_days.map(history_days).transpose()?;
    if days.is_some() && search.limit() > MOST_HISTORIES {
        let message = format!(
            "page_size is {}, but a page with history has at most {MOST_HISTORIES} keys: ask for more pages",
            search.limit()
        );
        return Err(Refusal::malformed(message));
    }
    if let Some(after) = query.after {
        search = search.after(after);
    }
    if query.usage {
        search = search.with_usage();
    }
    let keys = app.limiter.keys(&caller.0);
    let page = keys.search(&search).await?;
    metrics::damaged_keys(page.damaged.len());
    let history = match days {
        Some(days) => histories(&keys, &page, days).await?,
        None => Vec::new(),
    };
    Ok(Json(KeysPage { page, history }))
}

/// Reads the history of each key of a page. A key that was deleted meanwhile has none.
async fn histories(
    keys: &Keys<'_>,
    page: &Page,
    days: u16,
) -> Result<Vec<Vec<DayHistory>>, Refusal> {
    let ids: Vec<KeyId> = page.keys.iter().map(|key| key.id.clone()).collect();
    let reading = ids.into_iter().map(|id| async move {
        match keys.history(&id, days).await {
            Err(KeysError::NotFound(_)) => Ok(Vec::new()),
            read => read.map_err(Refusal::from),
        }
    });
    stream::iter(reading).buffered(READ_AT_ONCE).try_collect().await
}

impl CreateKey {
    pub(super) fn read(self) -> Result<NewKey, Refusal> {
        let of_kind = |config| match self.kind {
            KeyKind::Admin => NewKey::admin(config),
            _ => NewKey::member(config),
        };
        let key = match (self.kind, self.id, self.beneath) {
            (_, Some(_), Some(_)) => {
                return Err(Refusal::malformed("a key has both id and beneath: send one of them"));
            }
            (KeyKind::Group, None, None) => {
                return Err(Refusal::malformed(
                    "a group has neither id nor beneath: send one of them",
                ));
            }
            (KeyKind::Group, Some(id), None) => NewKey::group(id, self.config),
            (KeyKind::Group, None, Some(group)) => {
                NewKey::group(group.clone(), self.config).beneath(group)
            }
            (_, Some(id), None) => of_kind(self.config).with_id(id),
            (_, None, Some(group)) => of_kind(self.config).beneath(group),
            (_, None, None) => of_kind(self.config),
        };
        let key = match self.prefix {
            Some(prefix) => key.with_prefix(prefix),
            None => key,
        };
        match (self.access_key, self.without_access_key) {
            (None, false) => Ok(key),
            (None, true) => Ok(key.without_access_key()),
            (Some(access_key), false) => Ok(key.with_access_key(AccessKey::new(access_key)?)),
            (Some(_), true) => {
                let message = "a key has both access_key and without_access_key: send one of them";
                Err(Refusal::malformed(message))
            }
        }
    }
}

/// Without the access key.
impl std::fmt::Debug for CreateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreateKey").field("config", &self.config).finish_non_exhaustive()
    }
}

impl From<Result<CreatedKey, KeysError>> for CreatedOrNot {
    fn from(created: Result<CreatedKey, KeysError>) -> Self {
        match created {
            Ok(CreatedKey { record, access_key, .. }) => Self {
                status: 201,
                key: Some(record),
                access_key: access_key.map(|access_key| access_key.expose().to_owned()),
                ..Self::default()
            },
            Err(error) => {
                let Refusal { status, code, message, .. } = error.into();
                let (status, reason, detail) = (status.as_u16(), Some(code), Some(message));
                Self { status, reason, detail, ..Self::default() }
            }
        }
    }
}

pub(super) const fn member() -> KeyKind {
    KeyKind::Member
}

/// The most keys of a page with their history, so that an answer has a few megabytes at most.
const MOST_HISTORIES: usize = 100;
/// The histories that are read from the store at the same time.
const READ_AT_ONCE: usize = 16;
