//! What keys have used today.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use limiter::{AssetId, ScopeUsage, Usage};
use serde::Serialize;

use super::keys::key_id;
use super::record::unshowable;
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
    Ok(Json(rows(&app.limiter.keys(&caller.0).own_usage().await?)?))
}

pub(crate) async fn of_key(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<Json<Vec<UsageRow>>, Refusal> {
    Ok(Json(rows(&app.limiter.keys(&caller.0).usage(&key_id(&id)?).await?)?))
}

/// One row for all calls, without counts if they have no limits, and one for each limited model.
fn rows(usage: &Usage) -> Result<Vec<UsageRow>, Refusal> {
    let global = usage.global.as_ref().map(|scope| row(None, scope)).transpose()?;
    let mut rows = vec![global.unwrap_or_default()];
    for asset in &usage.assets {
        rows.push(row(Some(&asset.asset), &asset.usage)?);
    }
    Ok(rows)
}

fn row(asset: Option<&AssetId>, usage: &ScopeUsage) -> Result<UsageRow, Refusal> {
    let day = &usage.day;
    let scope = asset
        .map_or_else(|| "all calls".to_owned(), |asset| format!("the asset {:?}", asset.as_str()));
    let shown = |unit: &str, limit: Option<u64>| match limit {
        Some(0) => Err(unshowable(&format!("the limit of {unit} per day for {scope} is 0"))),
        limit => Ok(limit),
    };
    Ok(UsageRow {
        request_count: Some(day.requests.used),
        request_count_limit: shown("requests", day.requests.limit)?,
        token_count: Some(day.tokens.used),
        token_count_limit: shown("tokens", day.tokens.limit)?,
        asset_id: asset.cloned(),
    })
}
