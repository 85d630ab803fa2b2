//! THE decision: every rule, the strictest wins, in one step.
//!
//! A step looks at each counted scope that the call meets as it stands now, judges them together, and
//! either charges all of them or none. It is the only copy of the rules in Rust.

use crate::charge::{Amounts, Charge};
use crate::clock::Timestamp;
use crate::config::KeyKind;
use crate::counts::ScopeCounts;
use crate::crossing::Crossing;
use crate::decision::{Allowed, Decision};
use crate::denied::{DenialReason, Denied, RateLimited};
use crate::meter::{Gauge, Meter};
use crate::rule::{RULES, Scope};
use crate::rules::Rules;
use crate::schedule::{ScopeState, StagedScope};
use crate::settlement::Settlement;
use crate::state::{CreditUsage, KeyState, LocatedAsset, MetScopes};
use crate::thresholds::Thresholds;

/// Decides, and charges what it allows.
///
/// A denial changes nothing, but it stores that a clock which had been far ahead was mended.
#[inline(always)] // one instruction in twenty went into the call
pub fn check_and_consume(
    state: &mut KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    let amounts = Amounts::of(charge);
    let usable = state.kind == KeyKind::Member && !state.is_expired(now);
    let (credits, mut scopes) = state.meet(asset);
    if usable && fits(credits, &scopes, &amounts, now) {
        return Decision::Allowed(take(credits, &mut scopes, &amounts, now));
    }
    consider(state, asset, charge, now)
}

/// Whether the call makes a request and simply fits: there is room everywhere, no window ends, and no threshold is reached.
///
/// Nearly every call is of this kind. One that is not may still be allowed.
#[inline(always)]
fn fits(credits: &Gauge, scopes: &MetScopes<'_>, amounts: &Amounts, now: Timestamp) -> bool {
    let scope_fits = |scope: &Option<&mut ScopeState>| match scope {
        Some(scope) => scope.fits(amounts, now),
        None => true,
    };
    amounts.requests() > 0
        && credits.has_room(amounts.credits().max(1))
        && scope_fits(&scopes.global)
        && scope_fits(&scopes.asset)
}

/// Charges what [fits].
#[inline(always)]
fn take(
    credits: &mut Gauge,
    scopes: &mut MetScopes<'_>,
    amounts: &Amounts,
    now: Timestamp,
) -> Allowed {
    let charged = |scope: &mut Option<&mut ScopeState>| match scope {
        Some(scope) => scope.take(amounts),
        None => ScopeCounts::UNCOUNTED,
    };
    credits.take(amounts.credits());
    let rules = Rules::new([charged(&mut scopes.global), charged(&mut scopes.asset)]);
    Allowed::new(rules, *credits, now)
}

/// Decides any call, also where windows end, limits change, something runs out or a clock is mended.
#[cold]
fn consider(
    state: &mut KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    let mut staged = Staged::at(state, asset, now);
    if let Some(refusal) = staged.refusal(state, charge, now) {
        mend(state, asset, now);
        return staged.denied(refusal, state, asset, charge, now);
    }
    staged.add(charge);
    let crossed = staged.tell(asset);
    staged.store(state, asset);
    Decision::Allowed(staged.allowed(now).crossing(crossed))
}

/// Answers as [`check_and_consume`] would, and changes nothing.
pub fn peek(
    state: &KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    let mut staged = Staged::at(state, asset, now);
    if let Some(refusal) = staged.refusal(state, charge, now) {
        return staged.denied(refusal, state, asset, charge, now);
    }
    staged.add(charge);
    let crossed = staged.tell(asset);
    Decision::Allowed(staged.allowed(now).crossing(crossed))
}

/// How the rules of a call stand, without any charge: what is told to a caller whose call was allowed before.
pub(crate) fn replayed(state: &KeyState, asset: LocatedAsset<'_>, now: Timestamp) -> Decision {
    Decision::Allowed(Staged::at(state, asset, now).allowed(now).replay())
}

/// Corrects a charge that was allowed earlier, in the windows of then as far as they still go on, to what the call
/// did cost; whatever it exceeds the charge by counts in any case. Never refused. Answers the thresholds that it reached.
pub(crate) fn settle(
    state: &mut KeyState,
    asset: LocatedAsset<'_>,
    settlement: &Settlement<'_>,
    now: Timestamp,
) -> Vec<Crossing> {
    let mut staged = Staged::at(state, asset, now);
    let Settlement { admitted, charged, actual, overrun } = settlement;
    for (scope, admitted) in
        [(&mut staged.global, &admitted.global), (&mut staged.asset, &admitted.asset)]
    {
        if let Some(scope) = scope {
            scope.settle(admitted, charged, actual, overrun);
        }
    }
    staged.credits.correct(charged.credits().millionths(), actual.credits().millionths());
    let crossed = staged.tell(asset);
    staged.store(state, asset);
    crossed
}

/// Counts a charge in the windows of now, whether it fits or not: what was allowed elsewhere is never refused. Answers the
/// thresholds that it reached.
pub(crate) fn record(
    state: &mut KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Vec<Crossing> {
    let mut staged = Staged::at(state, asset, now);
    staged.add(charge);
    let crossed = staged.tell(asset);
    staged.store(state, asset);
    crossed
}

/// All that a step may write, as it stands at one instant.
struct Staged {
    global: Option<StagedScope>,
    asset: Option<StagedScope>,
    credits: Meter,
    thresholds: Thresholds,
}

#[derive(Clone, Copy)]
enum Refusal {
    KeyExpired,
    AdminKey,
    BudgetExhausted,
    RateLimited,
}

impl Staged {
    fn at(state: &KeyState, asset: LocatedAsset<'_>, now: Timestamp) -> Self {
        Self {
            global: state.global.as_ref().map(|scope| scope.staged(now)),
            asset: state.asset(asset).map(|scope| scope.staged(now)),
            credits: state.credits.meter(),
            thresholds: state.thresholds(),
        }
    }

    /// The first reason to refuse that holds.
    fn refusal(&self, state: &KeyState, charge: &Charge, now: Timestamp) -> Option<Refusal> {
        if state.is_expired(now) {
            Some(Refusal::KeyExpired)
        } else if state.kind == KeyKind::Admin {
            Some(Refusal::AdminKey)
        } else if !self.credits.admits(charge.credits().millionths(), charge.requests() > 0) {
            Some(Refusal::BudgetExhausted)
        } else if !self.scopes().all(|scope| scope.admits(charge)) {
            Some(Refusal::RateLimited)
        } else {
            None
        }
    }

    fn add(&mut self, charge: &Charge) {
        self.credits.add(charge.credits().millionths());
        for scope in [&mut self.global, &mut self.asset].into_iter().flatten() {
            scope.add(charge);
        }
    }

    /// Tells the thresholds that are reached and were not told yet.
    fn tell(&mut self, asset: LocatedAsset<'_>) -> Vec<Crossing> {
        let mut crossed = Vec::new();
        for rule in RULES {
            let scope = match rule.scope {
                Scope::Global => &mut self.global,
                Scope::Asset => &mut self.asset,
            };
            crossed.extend(scope.iter_mut().flat_map(|scope| scope.tell(rule, asset.id)));
        }
        let percents = self.credits.tell(self.thresholds);
        crossed.extend(percents.map(|percent| Crossing::of_budget(percent, &self.credits)));
        crossed
    }

    fn store(&self, state: &mut KeyState, asset: LocatedAsset<'_>) {
        state.credits = Gauge::new(self.credits, self.thresholds);
        if let (Some(scope), Some(staged)) = (&mut state.global, &self.global) {
            scope.store(staged);
        }
        if let (Some(scope), Some(staged)) = (state.asset_mut(asset), &self.asset) {
            scope.store(staged);
        }
        drop_what_is_over(state, asset);
    }

    fn rules(&self) -> Rules {
        let counts = |scope: Option<StagedScope>| scope.map(|scope| scope.counts());
        let counts = [self.global, self.asset].map(counts);
        Rules::new(counts.map(|counts| counts.unwrap_or(ScopeCounts::UNCOUNTED)))
    }

    fn allowed(&self, now: Timestamp) -> Allowed {
        Allowed::new(self.rules(), Gauge::new(self.credits, self.thresholds), now)
    }

    fn scopes(&self) -> impl Iterator<Item = &StagedScope> {
        [&self.global, &self.asset].into_iter().flatten()
    }

    fn denied(
        &self,
        refusal: Refusal,
        state: &KeyState,
        asset: LocatedAsset<'_>,
        charge: &Charge,
        now: Timestamp,
    ) -> Decision {
        let reason = match refusal {
            Refusal::KeyExpired => {
                DenialReason::KeyExpired { expired_at: state.expires_at.unwrap_or(now) }
            }
            Refusal::AdminKey => DenialReason::AdminKey,
            Refusal::BudgetExhausted => DenialReason::BudgetExhausted {
                credits: CreditUsage::of(&self.credits),
                asked: charge.credits(),
            },
            Refusal::RateLimited => {
                let retry_at = retry_at(state, asset, charge, now);
                DenialReason::RateLimited(Box::new(RateLimited::new(
                    self.rules(),
                    *charge,
                    retry_at,
                )))
            }
        };
        let denied = Decision::Denied(Denied::new(asset.id.cloned(), Some(now), reason));
        if state.shadow { denied.in_shadow() } else { denied }
    }
}

fn drop_what_is_over(state: &mut KeyState, asset: LocatedAsset<'_>) {
    if state.global.as_ref().is_some_and(ScopeState::is_over) {
        state.global = None;
    }
    if state.asset(asset).is_some_and(ScopeState::is_over) {
        state.drop_asset(asset);
    }
}

fn mend(state: &mut KeyState, asset: LocatedAsset<'_>, now: Timestamp) {
    if let Some(global) = &mut state.global {
        global.mend(now);
    }
    if let Some(scope) = state.asset_mut(asset) {
        scope.mend(now);
    }
}

/// The first instant at which the charge would be admitted if nothing else were consumed.
///
/// Only the end of a window makes room, so that each end is tried in full: by then a pending limit may
/// be in force, or the key may have expired.
fn retry_at(
    state: &KeyState,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Option<Timestamp> {
    let mut mended = state.relevant_to(asset);
    let asset = mended.locate(asset.id);
    mend(&mut mended, asset, now);
    let staged = Staged::at(&mended, asset, now);
    let mut ends: Vec<_> = staged.scopes().flat_map(StagedScope::ends).collect();
    ends.sort_unstable();
    ends.into_iter()
        .find(|end| Staged::at(&mended, asset, *end).refusal(&mended, charge, *end).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyConfig;
    use crate::limits::Limits;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

    /// One rule of eight: what the other seven count does not show.
    fn state() -> KeyState {
        let limits = Limits::builder().requests_per_minute(1).build().unwrap();
        let config = KeyConfig::named("ci").unwrap().with_global(limits);
        KeyState::new(KeyKind::Member, &config, NOON)
    }

    #[test]
    fn decisions_survive_serde_and_are_equal_again() {
        let mut state = state();
        let asset = state.locate(None);
        for shadow in [false, false, true] {
            state.shadow = shadow;
            let charge = Charge::request().with_tokens(3, 4).unwrap();
            let decision = check_and_consume(&mut state, asset, &charge, NOON);
            let json = serde_json::to_string(&decision).unwrap();
            assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision, "{json}");
        }
    }

    #[test]
    fn a_degraded_decision_says_so_and_is_otherwise_the_same() {
        let mut state = state();
        let asset = state.locate(None);
        for _ in 0..2 {
            let decision = check_and_consume(&mut state, asset, &Charge::request(), NOON);
            let degraded = decision.clone().degrade();
            assert!(degraded.is_degraded() && !decision.is_degraded());
            assert_eq!(degraded.rules().collect::<Vec<_>>(), decision.rules().collect::<Vec<_>>());
            let json = serde_json::to_string(&degraded).unwrap();
            assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), degraded, "{json}");
        }
    }

    #[test]
    fn a_state_survives_serde_and_is_equal_again() {
        let mut state = state();
        let limits = Limits::builder().requests_per_day(1).build().unwrap();
        let config = KeyConfig::named("ci").unwrap().with_asset("b".parse().unwrap(), limits);
        state.configure(&config, NOON).unwrap();
        state.configure(&config.with_asset("a".parse().unwrap(), limits), NOON).unwrap();
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(serde_json::from_str::<KeyState>(&json).unwrap(), state);
    }
}
