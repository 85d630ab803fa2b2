//! The usage and the history of a key or a group.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use limiter::{DayHistory, KeyId, Usage};
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

/// The usage of a key or a group: what it has counted today, limited or not, and each limit in force, by scope. Reading it changes
/// nothing.
///
/// A member key reads its own usage, an admin key that of every key and group of its workspace.
#[utoipa::path(
    get, path = "/v1/usage", tag = "usage",
    params(("key_id" = Option<KeyId>, Query, description = "The id of a key or a group of the workspace, for admin keys; that of the calling key if left out")),
    responses(
        (status = 200, description = "The account of today, and used, limit, remaining and reset of each limit, by scope", body = Usage),
        RequestProblems,
        (status = 403, description = "A member key asks for the usage of another key or of a group", body = ProblemSchema, content_type = "application/problem+json"),
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

/// The key whose history is read, and how far.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryQuery {
    key_id: Option<KeyId>,
    days: Option<u16>,
}

/// What a key or a group has counted on each of the last days, the oldest first and today at the end. Days without any charge are left
/// out.
///
/// A member key reads its own history, an admin key that of every key and group of its workspace.
#[utoipa::path(
    get, path = "/v1/history", tag = "usage",
    params(
        ("key_id" = Option<KeyId>, Query, description = "The id of a key or a group of the workspace, for admin keys; that of the calling key if left out"),
        ("days" = Option<u16>, Query, description = "The days, today included: 1 to 400, and at most as many as the store keeps; 35 if left out", minimum = 1, maximum = 400),
    ),
    responses(
        (status = 200, description = "The account of each day, by scope", body = Vec<DayHistory>),
        RequestProblems,
        (status = 403, description = "A member key asks for the history of another key or of a group", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such key in the workspace", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    caller: Caller,
    Queried(query): Queried<HistoryQuery>,
) -> Result<Json<Vec<DayHistory>>, Refusal> {
    let days = history_days(query.days.unwrap_or(DayHistory::DAYS))?;
    let id = match query.key_id {
        Some(id) => id,
        None => app.limiter.authenticate(&caller.0).await?.ok_or_else(Refusal::unknown_key)?,
    };
    Ok(Json(app.limiter.keys(&caller.0).history(&id, days).await?))
}

/// Checks how many days of a history are asked for.
pub(super) fn history_days(days: u16) -> Result<u16, Refusal> {
    match days {
        1..=DayHistory::MOST_DAYS => Ok(days),
        _ => {
            let message = format!("days is {days}, but must be 1 to {}", DayHistory::MOST_DAYS);
            Err(Refusal::malformed(message))
        }
    }
}
