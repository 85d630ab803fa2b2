//! The part of each limit that one process may use without the store.

use std::fmt;
use std::num::NonZeroU32;

use limiter_core::{
    KeyConfig, Limit, Limits, MAX_COUNT, Other, Rule, RuleState, ScopeId, Thresholds, Timestamp,
    Unit, Usage, Window,
};

use crate::level::Learned;

/// A part of each limit, above zero and at most all of it.
///
/// With N processes the total in an outage never passes N times this part of a limit. So a share of at most 1/N keeps
/// the limit; more is the operator's choice. Parts are rounded down: 1/N of a limit smaller than N is zero. Of a parallel limit
/// at least one slot is left, unless it is zero itself.
///
/// ```
/// use std::num::NonZeroU32;
///
/// # mod limiter { pub use limiter_policy::*; pub mod policy { pub use limiter_policy::*; } }
/// use limiter::policy::Share;
///
/// let share = Share::one_in(NonZeroU32::new(3).expect("it is not zero"));
/// assert_eq!(share.to_string(), "1/3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    one_in: NonZeroU32,
}

impl Share {
    /// Creates the share 1/N, for N processes.
    #[must_use]
    pub const fn one_in(processes: NonZeroU32) -> Self {
        Self { one_in: processes }
    }

    pub(crate) const fn of(self, amount: u64) -> u64 {
        amount / self.one_in.get() as u64
    }

    /// Returns this share of the limits in force at `now`, in every scope that has any. `used` is what was used here
    /// before.
    pub(crate) fn in_force(
        self,
        learned: &Learned,
        used: Option<&Usage>,
        now: Timestamp,
    ) -> KeyConfig {
        let mut config = KeyConfig { global: Limits::NONE, ..learned.config.clone() };
        config.assets.values_mut().for_each(|limits| *limits = Limits::NONE);
        if let Other::Limited(limits) = &mut config.other {
            *limits = Limits::NONE;
        }
        for of in &learned.record.limits {
            let come = of.pending.iter().filter(|pending| pending.effective_at <= now);
            let stays = |limit: &Limit| come.clone().all(|it| it.window != limit.window);
            let in_force = of.in_force.iter().filter(stays);
            let limits: Limits =
                in_force.chain(come.clone().flat_map(|it| it.limits.iter())).collect();
            let limits = limits.with_parallel(of.in_force.parallel());
            match (&of.scope.asset, &mut config.other) {
                (Some(asset), _) => drop(config.assets.insert(asset.clone(), limits)),
                (None, _) if of.scope == ScopeId::GLOBAL => config.global = limits,
                (None, Other::Limited(other)) => *other = limits,
                // Denied at once, whatever is still counted.
                (None, Other::Denied) => {}
            }
        }
        self.of_config(config, learned, used)
    }

    /// Returns this share of the configured limits, which come into force when windows end.
    pub(crate) fn configured(self, learned: &Learned, used: Option<&Usage>) -> KeyConfig {
        self.of_config(learned.config.clone(), learned, used)
    }

    fn of_config(
        self,
        mut config: KeyConfig,
        learned: &Learned,
        used: Option<&Usage>,
    ) -> KeyConfig {
        let part = |limits: &Limits, scope: &ScopeId| -> Limits {
            let part = |limit: Limit| match limit.window {
                Window::Ever => {
                    // What was used here before is in the store's counts by now, and what is left is shared again.
                    let left = ever(Some(&learned.usage), scope, limit.unit);
                    let left = left.map_or(limit.amount, |state| state.remaining);
                    let used = ever(used, scope, limit.unit).map_or(0, |state| state.used);
                    Limit { amount: self.of(left).saturating_add(used).min(MAX_COUNT), ..limit }
                }
                _ => Limit { amount: self.of(limit.amount), ..limit },
            };
            // A limit that allows any call allows one here.
            let parallel = limits.parallel().map(|limit| self.of(limit).max(limit.min(1)));
            limits.iter().map(part).collect::<Limits>().with_parallel(parallel)
        };
        config.global = part(&config.global, &ScopeId::GLOBAL);
        for (asset, limits) in &mut config.assets {
            *limits = part(limits, &ScopeId::asset(asset.clone()));
        }
        if let Other::Limited(limits) = &mut config.other {
            *limits = part(limits, &ScopeId::OTHER);
        }
        // Thresholds are those of the whole limit: they fire when the store is charged.
        KeyConfig { thresholds: Some(Thresholds::NONE), ..config }
    }
}

/// Returns the state of a limit that holds for ever.
fn ever<'a>(usage: Option<&'a Usage>, scope: &ScopeId, unit: Unit) -> Option<&'a RuleState> {
    let rule = Rule::of(scope.scope, Window::Ever, unit);
    usage?.scope(scope)?.rules.iter().find(|state| state.rule == rule)
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1/{}", self.one_in)
    }
}
