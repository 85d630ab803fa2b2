//! The answer to a call, from the records before it: allowed or denied, by which rules, and when to retry.

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::config::KeyKind;
use crate::decision::{Allowed, Decision};
use crate::denied::{DenialReason, Denied, LimitExceeded};
use crate::evaluate;
use crate::levels::{LevelSet, Levels, LevelsMut};
use crate::names::KeyId;
use crate::parallel::Parallel;
use crate::prepare::{self, Committed, Plan};
use crate::state::KeyState;
use smallvec::SmallVec;

/// Charges an admitted call to the levels as they were before the call, and returns the answer. These levels in shadow did not
/// admit it, and are not charged.
pub fn admitted(
    levels: &mut LevelsMut<'_>,
    charge: &Charge,
    spared: LevelSet,
    now: Timestamp,
) -> Decision {
    if spared.is_empty()
        && levels.parallel.is_empty()
        && let Some(decision) = evaluate::take_all(levels, charge, now)
    {
        return decision;
    }
    let (shadowed, prepared) = {
        let before = levels.as_ref();
        let shadowed = (!spared.is_empty()).then(|| denial(&before, charge, spared, now));
        (shadowed.flatten(), prepare::record(&before, charge, spared, now))
    };
    let parallel = levels.parallel.iter().map(|limit| limit.taken(spared));
    let parallel: SmallVec<[Parallel; 2]> = parallel.collect();
    let committed = match parallel.is_empty() {
        true => prepared.commit(levels, now),
        false => prepared.commit(&mut levels.reserving(&parallel), now),
    };
    match committed {
        Some(committed) => match allowed(committed, now) {
            Decision::Allowed(allowed) => Decision::Allowed(match shadowed {
                Some(denied) => allowed.shadowing(denied),
                None => allowed,
            }),
            denied => denied,
        },
        // An operation always applies to the state that it was prepared from.
        None => Decision::unchecked(now),
    }
}

/// Returns the answer to an operation that was done.
pub(crate) fn allowed(committed: Committed, now: Timestamp) -> Decision {
    let Committed { rules, crossed } = committed;
    Decision::Allowed(Allowed::new(rules, now).crossing(crossed))
}

/// Returns the denial of a call if there is a reason; or, if all its levels are in shadow mode and would deny it, the allowed
/// decision in its place.
pub fn refused(levels: &Levels<'_>, charge: &Charge, now: Timestamp) -> Option<Decision> {
    let shadow = levels.in_shadow();
    if let Some(denied) = denial_but_for_rules(levels, now) {
        return Some(Decision::Denied(denied));
    }
    if let Some(denied) = denial(levels, charge, shadow.others(), now) {
        return Some(Decision::Denied(denied));
    }
    let spared = spared(levels, charge, now);
    if !spared.has_all(levels.states.len()) {
        return None;
    }
    Some(Decision::Denied(denial(levels, charge, spared, now)?).in_shadow())
}

/// Returns the denial of what an amendment adds, if there is a reason: it does not fit in the levels that are `short`. If all
/// that have a reason are in shadow mode, it is let through.
pub(crate) fn refused_amendment(
    levels: &Levels<'_>,
    added: &Charge,
    short: LevelSet,
    now: Timestamp,
) -> Option<Decision> {
    let (shadow, by) = (levels.in_shadow(), short.and_also(levels.denying()));
    if let Some(denied) = denial_but_for_rules(levels, now) {
        return Some(Decision::Denied(denied));
    }
    if let Some(denied) = denial(levels, added, by.within(shadow.others()), now) {
        return Some(Decision::Denied(denied));
    }
    denial(levels, added, by.within(shadow), now).map(|denied| Decision::Denied(denied).in_shadow())
}

/// Returns the levels in shadow mode that would deny a call.
#[must_use]
pub fn spared(levels: &Levels<'_>, charge: &Charge, now: Timestamp) -> LevelSet {
    let shadow = levels.in_shadow();
    if shadow.is_empty() {
        return LevelSet::NONE;
    }
    let (plan, denying) = (Plan::at(levels, now), levels.denying());
    let is_spared = |level: &usize| {
        let of_level = LevelSet::NONE.with(*level);
        shadow.contains(*level)
            && (denying.contains(*level)
                || plan.rules(levels, of_level).violated_by(charge).next().is_some())
    };
    (0..levels.states.len()).filter(is_spared).collect()
}

/// Returns the answer to a repeated call that was allowed before: the current rules of the call, without any charge.
pub fn replayed(levels: &Levels<'_>, now: Timestamp) -> Decision {
    let parallel = levels.parallel.iter().map(|limit| limit.with_open(limit.open));
    let parallel: SmallVec<[Parallel; 2]> = parallel.collect();
    let levels = &levels.reserving(&parallel);
    let rules = Plan::at(levels, now).rules(levels, LevelSet::ALL);
    Decision::Allowed(Allowed::new(rules, now).replay())
}

/// Returns the denial for a reason that shadow mode does not lift.
fn denial_but_for_rules(levels: &Levels<'_>, now: Timestamp) -> Option<Denied> {
    let denied = |at, reason| Some(Denied::new(Some(levels.key), levels.asset, at, reason));
    let kind = levels.states.last().map(|key| key.kind);
    if kind.is_none_or(|kind| kind == KeyKind::Group) {
        return denied(None, DenialReason::KeyUnknown);
    }
    let expired = |state: &&KeyState| state.expires_at().filter(|expires_at| *expires_at <= now);
    let expired = levels.states.iter().map(expired).enumerate();
    let mut expired = expired.filter_map(|(level, expired_at)| Some((level, expired_at?)));
    if let Some((level, expired_at)) = expired.next() {
        let group = levels.group(level);
        return denied(Some(now), DenialReason::KeyExpired { expired_at, group });
    }
    (kind == Some(KeyKind::Admin)).then(|| denied(Some(now), DenialReason::AdminKey)).flatten()
}

/// Returns the denial by these levels, if any of them has a reason.
fn denial(levels: &Levels<'_>, charge: &Charge, by: LevelSet, now: Timestamp) -> Option<Denied> {
    let denied = |reason| Some(Denied::new(Some(levels.key), levels.asset, Some(now), reason));
    if let Some(level) = first(levels.denying(), by) {
        return denied(DenialReason::AssetDenied { group: levels.group(level) });
    }
    let rules = Plan::at(levels, now).rules(levels, by);
    let is_budget = {
        let mut violated = rules.violated_by(charge).peekable();
        violated.peek()?;
        violated.any(|(state, _)| state.rule.is_budget())
    };
    let retry_at = retry_at(levels, charge, by, now);
    let exceeded = Box::new(LimitExceeded::new(rules, *charge, retry_at));
    denied(match is_budget {
        true => DenialReason::BudgetExhausted(exceeded),
        false => DenialReason::RateLimited(exceeded),
    })
}

fn first(levels: LevelSet, of: LevelSet) -> Option<usize> {
    (0..KeyId::MAX_SEGMENTS).find(|level| levels.contains(*level) && of.contains(*level))
}

/// Returns the first instant at which these levels would admit the charge if nothing else were consumed.
///
/// Only the end of a window or the expiry of a slot makes room, so that each is tried in full: by then a pending limit may
/// be in force, a level may have expired, or an unregistered key may have begun anew. If that is not certain, the charge must
/// be admitted in both cases.
fn retry_at(
    levels: &Levels<'_>,
    charge: &Charge,
    by: LevelSet,
    now: Timestamp,
) -> Option<Timestamp> {
    let (key, asset, parallel) = (levels.key, levels.asset, levels.parallel);
    let states = levels.states.iter();
    let mut states: Vec<_> = states.map(|state| state.relevant_to(state.locate(asset))).collect();
    let mut levels = LevelsMut::new(key, asset, &mut states);
    let rebase = prepare::rebase(&levels.as_ref(), now);
    if let Some(rebase) = rebase {
        rebase.commit(&mut levels, now);
    }
    let levels = levels.as_ref();
    let freed = parallel.iter().filter(|limit| by.contains(limit.level));
    let freed = freed.filter_map(|limit| limit.frees_at);
    let mut instants: Vec<_> = Plan::at(&levels, now).ends(by).chain(freed).collect();
    instants.sort_unstable();
    instants.dedup();
    let admits = |at: &Timestamp| {
        let parallel: SmallVec<[Parallel; 2]> =
            parallel.iter().map(|limit| limit.at(*at)).collect();
        let Some((own, groups)) = levels.states.split_last() else { return false };
        let anew = own.perhaps_begun_anew_by(*at);
        [Some(*own), anew.as_ref()].into_iter().flatten().all(|own| {
            let states = groups.iter().copied().chain([own]);
            let levels = Levels { parallel: &parallel, ..Levels::new(key, asset, states) };
            denial_but_for_rules(&levels, *at).is_none() && {
                let rules = Plan::at(&levels, *at).rules(&levels, by);
                rules.violated_by(charge).next().is_none()
            }
        })
    };
    instants.into_iter().find(admits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KeyConfig, Other};
    use crate::limits::Limits;
    use crate::thresholds::Thresholds;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

    fn level(kind: KeyKind, requests: u64) -> KeyState {
        let limits = Limits::builder().requests_per_minute(requests).build().unwrap();
        let config = KeyConfig::named("a level").unwrap().with_global(limits);
        KeyState::new(kind, &config, Thresholds::NONE, NOON)
    }

    fn in_shadow(mut state: KeyState) -> KeyState {
        state.shadow = true;
        state
    }

    fn decide(group: &mut KeyState, own: &mut KeyState) -> Decision {
        let (key, asset) = ("acme/ci".parse().unwrap(), "gpt-5".parse().unwrap());
        let groups = &mut [group];
        evaluate::charge_in_groups(&key, Some(&asset), groups, own, &Charge::request(), NOON)
    }

    fn requests(state: &KeyState) -> u64 {
        state.global().record().account().requests()
    }

    #[test]
    fn a_level_in_shadow_is_not_charged_for_what_it_would_deny_and_the_others_are() {
        let denying = KeyConfig::named("acme").unwrap().with_other(Other::Denied);
        let denying = KeyState::new(KeyKind::Group, &denying, Thresholds::NONE, NOON);
        for (story, group, would_deny) in [
            ("it is full", level(KeyKind::Group, 0), true),
            ("it denies the asset", denying, true),
            ("the call fits", level(KeyKind::Group, 5), false),
        ] {
            let (mut group, mut own) = (in_shadow(group), level(KeyKind::Member, 5));
            let decision = decide(&mut group, &mut own);
            let allowed = decision.allowed().unwrap_or_else(|| panic!("{story}: {decision:?}"));
            assert_eq!(allowed.shadowed().is_some(), would_deny, "{story}");
            assert_eq!((requests(&group), requests(&own)), (u64::from(!would_deny), 1), "{story}");
        }
    }

    #[test]
    fn of_two_levels_in_shadow_the_one_that_would_not_deny_is_charged() {
        let mut full = in_shadow(level(KeyKind::Group, 0));
        let mut free = in_shadow(level(KeyKind::Group, 5));
        let mut own = level(KeyKind::Member, 5);
        let key = "acme/search/ci".parse().unwrap();
        let groups = &mut [&mut full, &mut free];
        let call = Charge::request();
        assert!(evaluate::charge_in_groups(&key, None, groups, &mut own, &call, NOON).is_allowed());
        assert_eq!([&full, &free, &own].map(requests), [0, 1, 1]);
    }

    #[test]
    fn a_call_that_only_levels_in_shadow_decide_is_let_through_and_charges_nothing() {
        let mut group = in_shadow(level(KeyKind::Group, 0));
        let mut own = in_shadow(level(KeyKind::Member, 0));
        let decision = decide(&mut group, &mut own);
        assert!(decision.is_allowed() && !decision.is_charged(), "{decision:?}");
        assert!(decision.shadowed().is_some());
        assert_eq!((requests(&group), requests(&own)), (0, 0));
    }

    #[test]
    fn a_level_that_is_not_in_shadow_denies() {
        for (group, own) in [
            (in_shadow(level(KeyKind::Group, 0)), level(KeyKind::Member, 0)),
            (level(KeyKind::Group, 0), in_shadow(level(KeyKind::Member, 5))),
            (level(KeyKind::Group, 0), in_shadow(level(KeyKind::Member, 0))),
        ] {
            let (mut group, mut own) = (group, own);
            assert!(decide(&mut group, &mut own).denied().is_some());
            assert_eq!((requests(&group), requests(&own)), (0, 0));
        }
    }
}
