//! The usage of keys today.

use std::iter;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use limiter::usage::ScopeUsage;
use limiter::{AssetId, Usage};
use serde::Serialize;

use super::keys::key_id;
use crate::app::App;
use crate::auth::Caller;
use crate::body::Segment;
use crate::refusal::Refusal;

/// The figures of a day, of one model or of all calls.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsageRow {
    request_count: Option<u64>,
    request_count_limit: Option<u64>,
    token_count: Option<u64>,
    token_count_limit: Option<u64>,
    asset_id: Option<AssetId>,
}

pub(crate) async fn own(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Vec<UsageRow>>, Refusal> {
    Ok(Json(rows(&app.limiter.keys(&caller.0).own_usage().await?)))
}

pub(crate) async fn of_key(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Vec<UsageRow>>, Refusal> {
    Ok(Json(rows(&app.limiter.keys(&caller.0).usage(&key_id(&id)?).await?)))
}

/// One row for all calls, without counts if they have no limits, and one for each limited model.
fn rows(usage: &Usage) -> Vec<UsageRow> {
    let global = usage.global.as_ref().map(|scope| row(None, scope)).unwrap_or_default();
    let assets = usage.assets.iter().map(|asset| row(Some(&asset.asset), &asset.usage));
    iter::once(global).chain(assets).collect()
}

/// Renders a row. Null means no limit here, so that a limit of 0 is shown as it is.
fn row(asset: Option<&AssetId>, usage: &ScopeUsage) -> UsageRow {
    let day = &usage.day;
    UsageRow {
        request_count: Some(day.requests.used),
        request_count_limit: day.requests.limit,
        token_count: Some(day.tokens.used),
        token_count_limit: day.tokens.limit,
        asset_id: asset.cloned(),
    }
}
