//! The usage of keys today.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use limiter::usage::ScopeUsage;
use limiter::{AssetId, Measure, Scope, Unit, Usage, Window};
use serde::Serialize;

use super::keys::{key_id, refuse_group};
use super::tokens::TokenType;
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
    let (keys, id) = (app.limiter.keys(&caller.0), key_id(&id)?);
    let usage = keys.usage(&id).await?;
    refuse_group(&keys, &id).await?;
    Ok(Json(rows(&usage)))
}

/// One row for all calls, without counts if requests and tokens have no limits, and one for each model that is counted.
fn rows(usage: &Usage) -> Vec<UsageRow> {
    let rows = usage.scopes.iter().filter_map(|scope| match scope.scope.scope {
        Scope::Global if !is_capped(scope) => Some(UsageRow::default()),
        Scope::Global | Scope::Asset => Some(row(scope)),
        Scope::Other => None,
    });
    rows.collect()
}

/// Returns whether a scope has a limit of requests or tokens, in force or pending.
fn is_capped(usage: &ScopeUsage) -> bool {
    let in_force = usage.rules.iter().filter_map(|state| state.rule.unit());
    let pending = usage.pending.iter().flat_map(|pending| pending.limits.iter());
    in_force.chain(pending.map(|limit| limit.unit)).any(|unit| unit != Unit::Credits)
}

/// Renders a row: the account of the day, and the limits that hold on it. Null means no limit here, so that a limit of 0 is
/// shown as it is.
fn row(usage: &ScopeUsage) -> UsageRow {
    let limit = |window, unit| {
        let mut rules = usage.rules.iter();
        rules.find(|state| state.rule.measure == Measure::Amount(window, unit))
    };
    let tokens = TokenType::shown(|window, unit| limit(window, unit).is_some()).unit();
    let of_day = |unit| limit(Window::Day, unit).map(|state| state.limit);
    UsageRow {
        request_count: Some(usage.account.requests()),
        request_count_limit: of_day(Unit::Requests),
        token_count: Some(usage.account.amount(tokens)),
        token_count_limit: of_day(tokens),
        asset_id: usage.scope.asset.clone(),
    }
}
