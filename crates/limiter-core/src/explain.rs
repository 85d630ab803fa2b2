//! The answer to a call, from the records before it: allowed or denied, by which rules, and when to retry.

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::config::KeyKind;
use crate::decision::{Allowed, Decision};
use crate::denied::{DenialReason, Denied, LimitExceeded};
use crate::evaluate;
use crate::names::KeyId;
use crate::prepare::{self, Committed, Plan, Staged};
use crate::state::{KeyState, LocatedAsset};

/// Charges an admitted call to the state as it was before the call, and returns the answer.
pub fn admitted(
    state: &mut KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    if let Some((global, second)) = evaluate::take(state, asset, charge, now) {
        return Decision::Allowed(Allowed::of(global, second, now));
    }
    let prepared = prepare::record(state, asset, charge, now);
    match prepared.commit(state, asset, now) {
        Some(committed) => allowed(committed, now),
        // An operation always applies to the state that it was prepared from.
        None => Decision::unchecked(now),
    }
}

/// Returns the answer to an operation that was done.
pub(crate) fn allowed(committed: Committed, now: Timestamp) -> Decision {
    let Committed { rules, crossed } = committed;
    Decision::Allowed(Allowed::new(rules, now).crossing(crossed))
}

/// Returns the denial of a call if there is a reason, or in shadow mode the allowed decision in its place.
pub fn refused(
    state: &KeyState,
    key: &KeyId,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Option<Decision> {
    let reason = match refusal(state, asset, charge, now)? {
        Refusal::KeyExpired(expired_at) => DenialReason::KeyExpired { expired_at },
        Refusal::AdminKey => DenialReason::AdminKey,
        Refusal::AssetDenied => DenialReason::AssetDenied,
        Refusal::Exceeded { budget } => {
            let rules = Plan::at(state, asset, now).rules();
            let retry_at = retry_at(state, asset, charge, now);
            let exceeded = Box::new(LimitExceeded::new(rules, *charge, retry_at));
            if budget {
                DenialReason::BudgetExhausted(exceeded)
            } else {
                DenialReason::RateLimited(exceeded)
            }
        }
    };
    let denied = Decision::Denied(Denied::new(Some(key), asset.id, Some(now), reason));
    Some(if state.shadow { denied.in_shadow() } else { denied })
}

/// Returns the answer to a repeated call that was allowed before: the current rules of the call, without any charge.
pub fn replayed(state: &KeyState, asset: LocatedAsset<'_>, now: Timestamp) -> Decision {
    Decision::Allowed(Allowed::new(Plan::at(state, asset, now).rules(), now).replay())
}

#[derive(Clone, Copy)]
enum Refusal {
    KeyExpired(Timestamp),
    AdminKey,
    AssetDenied,
    Exceeded { budget: bool },
}

/// Returns the first reason to refuse the call, if there is any.
fn refusal(
    state: &KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Option<Refusal> {
    if let Some(expired_at) = state.expires_at.filter(|expires_at| *expires_at <= now) {
        return Some(Refusal::KeyExpired(expired_at));
    }
    if state.kind == KeyKind::Admin {
        return Some(Refusal::AdminKey);
    }
    if state.denies(asset) {
        return Some(Refusal::AssetDenied);
    }
    let rules = Plan::at(state, asset, now).rules();
    let mut violated = rules.violated_by(charge).peekable();
    violated.peek()?;
    Some(Refusal::Exceeded { budget: violated.any(|(state, _)| state.rule.is_budget()) })
}

/// Returns the first instant at which the charge would be admitted if nothing else were consumed.
///
/// Only the end of a window makes room, so that each end is tried in full: by then a pending limit may
/// be in force, or the key may have expired.
fn retry_at(
    state: &KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut state = state.relevant_to(asset);
    let asset = state.locate(asset.id);
    if let Some(rebase) = prepare::rebase(&state, asset, now) {
        rebase.commit(&mut state, asset, now);
    }
    let plan = Plan::at(&state, asset, now);
    let mut ends: Vec<_> = plan.scopes().flat_map(Staged::ends).collect();
    ends.sort_unstable();
    ends.dedup();
    ends.into_iter().find(|end| refusal(&state, asset, charge, *end).is_none())
}
