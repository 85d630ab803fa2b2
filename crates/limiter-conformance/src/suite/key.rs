//! A key of a story: what an admin does with it, and its calls.

use std::time::Duration;

use limiter_core::{
    Charge, Crossing, DayHistory, Decision, DenialReason, KeyConfig, KeyId, KeyRecord, Keys,
    KeysError, Rule, ScopeId, ScopeUsage, Unit, UpdatedKey, Usage, Window,
};

use super::world::World;
use crate::fixtures::{asset, tokens};
use crate::waiting::Wait;

/// A key of the workspace `home`, unless a story says otherwise. What is done with it is expected to succeed, but for the
/// functions that return a result. Most others return the key, so that a story reads as one sentence.
pub(super) struct Key<'w> {
    pub(super) world: &'w World,
    pub(super) id: KeyId,
}

impl Key<'_> {
    /// The keys of its workspace, as this key sees them.
    pub(super) fn keys(&self) -> Keys<'_> {
        self.world.store.keys_as(&self.id)
    }

    /// Its record, as the first admin reads it.
    pub(super) fn read(&self) -> KeyRecord {
        self.world.keys().get(&self.id).wait().expect("an admin reads the keys of its workspace")
    }

    pub(super) fn usage(&self) -> Usage {
        let usage = self.world.keys().usage(&self.id).wait();
        usage.expect("an admin reads the usage of its workspace's keys")
    }

    /// The usage of a scope, if it is counted.
    pub(super) fn scope(&self, scope: &ScopeId) -> Option<ScopeUsage> {
        self.usage().scope(scope).cloned()
    }

    pub(super) fn global(&self) -> ScopeUsage {
        self.scope(&ScopeId::GLOBAL).expect("the global scope is always counted")
    }

    /// The usage of an asset that is counted.
    pub(super) fn asset(&self, id: &str) -> ScopeUsage {
        self.scope(&ScopeId::asset(asset(id))).expect("the asset is counted")
    }

    /// The usage of assets that are not listed, which is counted.
    pub(super) fn other(&self) -> ScopeUsage {
        self.scope(&ScopeId::OTHER).expect("other assets are counted")
    }

    pub(super) fn history(&self, days: u16) -> Vec<DayHistory> {
        let history = self.world.keys().history(&self.id, days).wait();
        history.expect("an admin reads the history of its workspace's keys")
    }

    /// Reads the key, changes its configuration, and saves it.
    pub(super) fn try_update(
        &self,
        change: impl FnOnce(&mut KeyConfig),
    ) -> Result<KeyRecord, KeysError> {
        let KeyRecord { mut config, version, .. } = self.read();
        change(&mut config);
        let updated = self.world.keys().update(&self.id, version, &config).wait();
        updated.map(|updated| updated.record)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut KeyConfig)) -> KeyRecord {
        self.try_update(change).expect("an admin updates the keys of its workspace")
    }

    /// The same with limits that take effect at once.
    pub(super) fn update_now(&self, change: impl FnOnce(&mut KeyConfig)) -> UpdatedKey {
        let KeyRecord { mut config, version, .. } = self.read();
        change(&mut config);
        let updated = self.world.keys().update_now(&self.id, version, &config).wait();
        updated.expect("an admin updates the keys of its workspace")
    }

    /// Updates the key, and asserts which thresholds that fires.
    #[track_caller]
    pub(super) fn updating_fires<const N: usize>(
        &self,
        change: impl FnOnce(&mut KeyConfig),
        expected: [&str; N],
    ) -> &Self {
        let KeyRecord { mut config, version, .. } = self.read();
        change(&mut config);
        let updated = self.world.keys().update(&self.id, version, &config).wait();
        let updated = updated.expect("an admin updates the keys of its workspace");
        assert_eq!(in_words(&updated.crossed), expected);
        self
    }

    /// Updates the key with limits that take effect at once, and asserts which thresholds that fires.
    #[track_caller]
    pub(super) fn updating_now_fires<const N: usize>(
        &self,
        change: impl FnOnce(&mut KeyConfig),
        expected: [&str; N],
    ) -> &Self {
        assert_eq!(in_words(&self.update_now(change).crossed), expected);
        self
    }

    pub(super) fn reset(&self) -> &Self {
        self.world.keys().reset(&self.id).wait().expect("an admin resets its workspace's keys");
        self
    }

    pub(super) fn try_delete(&self) -> Result<(), KeysError> {
        self.world.keys().delete(&self.id).wait()
    }

    pub(super) fn delete(&self) -> &Self {
        self.try_delete().expect("an admin deletes the keys of its workspace");
        self
    }

    pub(super) fn check<'a>(&self, called: impl Into<Option<&'a str>>, charge: Charge) -> Decision {
        let called = called.into().map(asset);
        let decision = self.world.store.check_and_consume(&self.id, called.as_ref(), &charge);
        decision.wait().expect("the store answers")
    }

    pub(super) fn peek<'a>(&self, called: impl Into<Option<&'a str>>, charge: Charge) -> Decision {
        let called = called.into().map(asset);
        let decision = self.world.store.peek(&self.id, called.as_ref(), &charge);
        decision.wait().expect("the store answers")
    }

    /// Makes calls of one request each.
    #[track_caller]
    pub(super) fn admit<'a>(&self, called: impl Into<Option<&'a str>>, calls: u32) -> &Self {
        let called = called.into();
        for _ in 0..calls {
            let decision = self.check(called, Charge::request());
            assert!(decision.is_allowed(), "{decision:?}");
        }
        self
    }

    /// Makes a call that does not fit.
    #[track_caller]
    pub(super) fn denied<'a>(&self, called: impl Into<Option<&'a str>>, charge: Charge) -> &Self {
        let decision = self.check(called, charge);
        assert!(decision.denied().is_some(), "{decision:?}");
        self
    }

    /// Whether a call of one output token would be admitted.
    pub(super) fn admits(&self) -> bool {
        self.peek(None, tokens(0, 1)).is_allowed()
    }

    /// Asserts what the global scope counts: requests and tokens of the minute, then of the day.
    #[track_caller]
    pub(super) fn uses(&self, expected: [u64; 4]) -> &Self {
        assert_eq!(self.used(), expected);
        self
    }

    /// Of the minute, what its limits count; of the day, the account.
    pub(super) fn used(&self) -> [u64; 4] {
        let global = self.global();
        let ScopeUsage { account, .. } = &global;
        [
            used_of(&global, Window::Minute, Unit::Requests),
            used_of(&global, Window::Minute, Unit::Tokens),
            account.requests(),
            account.amount(Unit::Tokens),
        ]
    }

    /// The requests of today.
    pub(super) fn calls(&self) -> u64 {
        self.global().account.requests()
    }

    /// The credits spent, in millionths.
    pub(super) fn spent(&self) -> u64 {
        self.usage().credits.spent.millionths()
    }

    /// Makes a call of no asset, and asserts which thresholds it fires.
    #[track_caller]
    pub(super) fn fires<const N: usize>(&self, charge: Charge, expected: [&str; N]) -> &Self {
        assert_eq!(fired(&self.check(None, charge)), expected);
        self
    }

    /// Sets the clock to this many milliseconds after noon, or before it.
    pub(super) fn at(&self, ms: i64) -> &Self {
        self.world.at(ms);
        self
    }

    /// Moves the clock forward.
    pub(super) fn after(&self, duration: Duration) -> &Self {
        self.world.advance(duration);
        self
    }
}

/// The thresholds that a call has fired, which must be admitted and charged.
#[track_caller]
pub(super) fn fired(decision: &Decision) -> Vec<String> {
    assert!(decision.is_charged(), "{decision:?}");
    in_words(&crossed(decision))
}

/// The thresholds that a decision has fired; a denial has fired none.
pub(super) fn crossed(decision: &Decision) -> Vec<Crossing> {
    decision.allowed().map(|allowed| allowed.crossed().to_vec()).unwrap_or_default()
}

/// Thresholds such as `80 % of global/minute/requests`, `80 % of m1/minute/requests`, `80 % of the budget`, or with a group
/// `80 % of acme:global/minute/requests`.
pub(super) fn in_words(crossed: &[Crossing]) -> Vec<String> {
    let words = crossed.iter().map(|Crossing { group, rule, asset, percent, .. }| {
        let rule = if *rule == Rule::BUDGET { "the budget" } else { rule.name() };
        let group = group.as_ref().map_or_else(String::new, |group| format!("{group}:"));
        match asset {
            Some(asset) => {
                format!("{percent} % of {group}{}", rule.replace("asset", asset.as_str()))
            }
            None => format!("{percent} % of {group}{rule}"),
        }
    });
    words.collect()
}

/// What a limit has counted; nothing if there is no such limit.
pub(super) fn used_of(scope: &ScopeUsage, window: Window, unit: Unit) -> u64 {
    let mut rules = scope.rules.iter();
    let rule =
        rules.find(|state| (state.rule.window(), state.rule.unit()) == (Some(window), Some(unit)));
    rule.map_or(0, |state| state.used)
}

/// The thresholds of 100 tokens a minute.
pub(super) const MOST_TOKENS: &str = "80 % of global/minute/tokens";
pub(super) const ALL_TOKENS: &str = "100 % of global/minute/tokens";

/// The reason of a denial.
#[track_caller]
pub(super) fn reason(decision: &Decision) -> &DenialReason {
    decision.denied().expect("the call is denied").reason()
}
