//! The decision on a call: all rules in one step on a local state. The strictest rule wins.
//!
//! [`prepare`] → [`apply`](crate::operation::apply) → [`explain`], for a store that holds the state itself and has exclusive
//! access to it. A remote store uses each of the three separately.

use crate::charge::{Amounts, Charge};
use crate::clock::Timestamp;
use crate::crossing::Crossing;
use crate::decision::{Allowed, Decision};
use crate::explain;
use crate::names::KeyId;
use crate::prepare;
use crate::record::Record;
use crate::rule::Scope;
use crate::state::{KeyState, LocatedAsset};

/// Decides a call, and charges it if it is allowed.
///
/// A denial changes nothing, except that it rebases the windows of a key after a clock far ahead was set right.
#[inline(always)] // one instruction in twenty went into the call
pub fn charge(
    state: &mut KeyState,
    key: &KeyId,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    if let Some((global, second)) = take(state, asset, charge, now) {
        return Decision::Allowed(Allowed::of(global, second, now));
    }
    consider(state, key, asset, charge, now)
}

/// Charges a call that makes a request and simply fits: there is room everywhere, no window ends, and no stop is reached.
/// Nearly every call is of this kind. Returns the records of the call.
#[inline(always)]
pub(crate) fn take<'a>(
    state: &'a mut KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Option<(&'a Record, Option<(Scope, &'a Record)>)> {
    let amounts = Amounts::of(charge);
    if !amounts.makes_request() || !state.is_usable(now) {
        return None;
    }
    let (global, second) = state.meet(asset)?;
    if !global.take(&amounts, now) {
        return None;
    }
    let Some((scope, record)) = second else { return Some((global, None)) };
    if record.take(&amounts, now) {
        return Some((global, Some((scope, record))));
    }
    global.give_back(&amounts);
    None
}

/// Decides any call, also where windows end, limits change, a stop is reached or a clock was set right.
#[cold]
fn consider(
    state: &mut KeyState,
    key: &KeyId,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    if let Some(refused) = explain::refused(state, key, asset, charge, now) {
        if let Some(rebase) = prepare::rebase(state, asset, now) {
            rebase.commit(state, asset, now);
        }
        return refused;
    }
    explain::admitted(state, asset, charge, now)
}

/// Returns the answer that [`charge`](self::charge()) would give, and changes nothing.
pub fn peek(
    state: &KeyState,
    key: &KeyId,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    let mut state = state.relevant_to(asset);
    let asset = state.locate(asset.id);
    self::charge(&mut state, key, asset, charge, now)
}

/// Counts a charge in the current windows, whether it fits or not: a call that was allowed elsewhere is never refused. Returns
/// the thresholds that it reached.
pub(crate) fn record(
    state: &mut KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Vec<Crossing> {
    let prepared = prepare::record(state, asset, charge, now);
    prepared.commit(state, asset, now).map_or_else(Vec::new, |committed| committed.crossed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Effective, KeyConfig, KeyKind};
    use crate::limits::Limits;
    use crate::thresholds::Thresholds;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
    const DEFAULT: Thresholds = Thresholds::DEFAULT;

    fn key() -> KeyId {
        "ci".parse().unwrap()
    }

    fn state() -> KeyState {
        let limits = Limits::builder().requests_per_minute(1).build().unwrap();
        let config = KeyConfig::named("ci").unwrap().with_global(limits);
        KeyState::new(KeyKind::Member, &config, DEFAULT, NOON)
    }

    #[test]
    fn decisions_survive_serde_and_are_equal_again() {
        let mut state = state();
        let asset = state.locate(None);
        for shadow in [false, false, true] {
            state.shadow = shadow;
            let call = Charge::request().with_tokens(3, 4).unwrap();
            let decision = charge(&mut state, &key(), asset, &call, NOON);
            let json = serde_json::to_string(&decision).unwrap();
            assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision, "{json}");
        }
    }

    #[test]
    fn a_degraded_decision_says_so_and_is_otherwise_the_same() {
        let mut state = state();
        let asset = state.locate(None);
        for _ in 0..2 {
            let decision = charge(&mut state, &key(), asset, &Charge::request(), NOON);
            let degraded = decision.clone().degrade();
            assert!(degraded.is_degraded() && !decision.is_degraded());
            assert_eq!(degraded.rules().collect::<Vec<_>>(), decision.rules().collect::<Vec<_>>());
            let json = serde_json::to_string(&degraded).unwrap();
            assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), degraded, "{json}");
        }
    }

    #[test]
    fn a_state_survives_serde_and_is_equal_again() {
        let mut state = state().keeping_history(35);
        let limits = Limits::builder().requests_per_day(1).credits_per_month(None).build().unwrap();
        let config =
            KeyConfig::named("ci").unwrap().with_asset("b".parse().unwrap(), limits.clone());
        state.configure(&config, DEFAULT, Effective::Next, NOON).unwrap();
        let config = config.with_asset("a".parse().unwrap(), limits.clone()).with_other(limits);
        state.configure(&config, DEFAULT, Effective::Now, NOON).unwrap();
        state.reset(NOON);
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<KeyState>(&json).unwrap(), state);
    }
}
