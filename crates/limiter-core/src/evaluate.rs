//! The decision on a call: all rules in one step on a local state. The strictest rule wins.
//!
//! [`prepare`] → [`apply`](crate::operation::apply) → [`explain`], for a store that holds the state itself and has exclusive
//! access to it. A remote store uses each of the three separately.

use smallvec::SmallVec;

use crate::charge::{Amounts, Charge};
use crate::clock::Timestamp;
use crate::config::KeyKind;
use crate::crossing::Crossing;
use crate::decision::{Allowed, Decision};
use crate::explain;
use crate::levels::{LevelSet, Levels, LevelsMut};
use crate::names::{AssetId, KeyId};
use crate::prepare;
use crate::record::Record;
use crate::rule::Scope;
use crate::rules::{More, Rules};
use crate::state::{KeyState, LocatedAsset};

/// The records of a level that a call meets, if it meets no more than two.
type Met<'a> = (&'a Record, Option<(Scope, &'a Record)>);

/// The place of a call's asset in each level.
type Located<'a> = [LocatedAsset<'a>; KeyId::MAX_SEGMENTS];

/// Decides a call of a key without groups, and charges it if it is allowed.
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
    let amounts = Amounts::of(charge);
    if state.kind == KeyKind::Member
        && let Some((global, second)) = take(state, asset, &amounts, now)
    {
        return Decision::Allowed(Allowed::of(global, second, None, false, now));
    }
    consider(&mut LevelsMut::of_key(key, asset.id, state), charge, now)
}

/// Decides a call that meets several levels, and charges all of them if it is allowed.
pub fn charge_all(levels: &mut LevelsMut<'_>, charge: &Charge, now: Timestamp) -> Decision {
    let taken = if levels.parallel.is_empty() { take_all(levels, charge, now) } else { None };
    taken.unwrap_or_else(|| consider(levels, charge, now))
}

/// Charges a call to all its levels, if it simply fits in each.
pub(crate) fn take_all(
    levels: &mut LevelsMut<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Option<Decision> {
    let (own, groups) = levels.states.split_last_mut()?;
    let located = take_in_groups(levels.asset, groups, own, charge, now)?;
    Some(taken(levels.key, groups, own, &located, now))
}

/// As [`charge_all`], of the key itself and of its groups, the outermost first.
pub fn charge_in_groups(
    key: &KeyId,
    asset: Option<&AssetId>,
    groups: &mut [&mut KeyState],
    own: &mut KeyState,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    match take_in_groups(asset, groups, own, charge, now) {
        Some(located) => taken(key, groups, own, &located, now),
        None => {
            let states = groups.iter_mut().map(|group| &mut **group).chain([own]);
            consider(&mut LevelsMut::new(key, asset, states), charge, now)
        }
    }
}

/// Charges a call that simply fits in each of its levels. Returns where its asset is in each: of the key itself at last, and
/// first in those of groups.
#[inline]
fn take_in_groups<'a>(
    asset: Option<&'a AssetId>,
    groups: &mut [&mut KeyState],
    own: &mut KeyState,
    charge: &Charge,
    now: Timestamp,
) -> Option<Located<'a>> {
    let amounts = Amounts::of(charge);
    if own.kind != KeyKind::Member {
        return None;
    }
    let asset_in_own = own.locate(asset);
    let mut located = [asset_in_own; KeyId::MAX_SEGMENTS];
    let mut taken = 0_usize;
    for (group, asset_in) in groups.iter_mut().zip(&mut located) {
        *asset_in = group.locate(asset);
        if take(group, *asset_in, &amounts, now).is_none() {
            break;
        }
        taken = taken.saturating_add(1);
    }
    if taken < groups.len() || take(own, asset_in_own, &amounts, now).is_none() {
        for (group, asset) in groups.iter_mut().zip(located).take(taken) {
            let (global, second) = group.meet(asset)?;
            global.give_back(&amounts);
            if let Some((_, second)) = second {
                second.give_back(&amounts);
            }
        }
        return None;
    }
    Some(located)
}

/// Answers a call that was charged to all its levels.
#[inline]
fn taken(
    key: &KeyId,
    groups: &mut [&mut KeyState],
    own: &mut KeyState,
    located: &Located<'_>,
    now: Timestamp,
) -> Decision {
    let mut outer = None;
    for (level, (group, asset)) in groups.iter_mut().zip(located).enumerate() {
        outer = Some(More::of_group(key, level, || {
            let (global, second) = met(group, *asset);
            Rules::of_records(global, second, outer, false)
        }));
    }
    let unregistered = !own.is_registered();
    let [.., asset] = located;
    let (global, second) = met(own, *asset);
    Decision::Allowed(Allowed::of(global, second, outer, unregistered, now))
}

/// Returns the records that a call has met.
#[inline(always)]
fn met<'a>(state: &'a mut KeyState, asset: LocatedAsset<'_>) -> Met<'a> {
    match state.meet(asset) {
        Some((global, second)) => (&*global, second.map(|(scope, record)| (scope, &*record))),
        None => (&Record::NOTHING, None),
    }
}

/// Charges a call that makes a request and simply fits in a level: there is room everywhere, no window ends, and no stop is
/// reached. Nearly every call is of this kind. Returns the records of the call.
#[inline(always)]
fn take<'a>(
    state: &'a mut KeyState,
    asset: LocatedAsset<'_>,
    amounts: &Amounts,
    now: Timestamp,
) -> Option<Met<'a>> {
    if !amounts.makes_request() || state.is_expired(now) {
        return None;
    }
    let (global, second) = state.meet(asset)?;
    if !global.take(amounts, now) {
        return None;
    }
    let Some((scope, record)) = second else { return Some((global, None)) };
    if record.take(amounts, now) {
        return Some((global, Some((scope, record))));
    }
    global.give_back(amounts);
    None
}

/// Decides any call, also where windows end, limits change, a stop is reached or a clock was set right.
#[cold]
fn consider(levels: &mut LevelsMut<'_>, charge: &Charge, now: Timestamp) -> Decision {
    let refused = explain::refused(&levels.as_ref(), charge, now);
    if let Some(refused) = refused {
        let rebase = prepare::rebase(&levels.as_ref(), now);
        if let Some(rebase) = rebase {
            rebase.commit(levels, now);
        }
        return refused;
    }
    let spared = explain::spared(&levels.as_ref(), charge, now);
    explain::admitted(levels, charge, spared, now)
}

/// Returns the answer that a charge of the call would give, and changes nothing.
pub fn peek(levels: &Levels<'_>, charge: &Charge, now: Timestamp) -> Decision {
    let states = levels.states.iter();
    let mut states: SmallVec<[KeyState; 1]> =
        states.map(|state| state.relevant_to(state.locate(levels.asset))).collect();
    let mut copies = LevelsMut::new(levels.key, levels.asset, &mut states);
    charge_all(&mut copies.reserving(levels.parallel), charge, now)
}

/// Counts a charge in the current windows, whether it fits or not: a call that was allowed elsewhere is never refused. Returns
/// the thresholds that it reached.
pub(crate) fn record(levels: &mut LevelsMut<'_>, charge: &Charge, now: Timestamp) -> Vec<Crossing> {
    let prepared = prepare::record(&levels.as_ref(), charge, LevelSet::NONE, now);
    prepared.commit(levels, now).map_or_else(Vec::new, |committed| committed.crossed)
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
