//! The usage of a key.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::limits::Limits;
use crate::prepare::{Rolls, Staged};
use crate::record::Record;
use crate::rule::Scope;
use crate::rules::{RuleState, Rules};
use crate::schedule::ScopeState;
use crate::state::{CreditUsage, KeyState, ScopeId};
use crate::window::Window;

/// The usage of a key at one instant. Reading it changes nothing.
///
/// It prints each limit in force with the amount used, and the credits:
///
/// ```
/// # mod limiter { pub use limiter_core::*; pub mod store { pub use limiter_core::*; } }
/// # use limiter::store::KeyState;
/// # use limiter::{Charge, Credits, KeyConfig, KeyKind, Limits, Thresholds, Timestamp, Usage, evaluate};
/// # let noon = Timestamp::from_unix_ms(1_760_011_200_000);
/// # let config = KeyConfig::named("ci")?
/// #     .with_global(Limits::builder().requests_per_minute(60).requests_per_day(1_000).build()?)
/// #     .with_asset("gpt-5".parse()?, Limits::builder().tokens_per_minute(10_000).build()?)
/// #     .with_budget(Credits::whole(25)?);
/// # let mut state = KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, noon);
/// # let (key, gpt5) = ("ci".parse()?, "gpt-5".parse()?);
/// # let asset = state.locate(Some(&gpt5));
/// # let charge = Charge::request().with_tokens(1_200, 350)?.with_credits("1.5".parse()?);
/// # assert!(evaluate::charge(&mut state, &key, asset, &charge, noon).is_allowed());
/// # let usage = Usage::of(&state, noon);
/// assert_eq!(
///     usage.to_string(),
///     "1 of 60 requests per minute, 1 of 1000 requests per day for all calls; \
///      1550 of 10000 tokens per minute for asset \"gpt-5\"; 1.50 of 25.00 credits"
/// );
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Usage {
    /// The scopes that are counted: all calls, assets by the bytes of their ids, other assets.
    pub scopes: Vec<ScopeUsage>,
    /// Credits spent, and the budget.
    pub credits: CreditUsage,
    /// When this was read, by the store's clock.
    pub read_at: Timestamp,
}

/// The usage of one scope. A window that has passed is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ScopeUsage {
    /// The scope.
    #[serde(flatten)]
    pub scope: ScopeId,
    /// What was counted today, limited or not.
    pub account: Charge,
    /// The limits in force, with the amount used of each.
    pub rules: Vec<RuleState>,
    /// The changes that are not in force yet.
    pub pending: Vec<PendingLimits>,
}

/// Limits of one window that are not in force yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct PendingLimits {
    /// The window.
    pub window: Window,
    /// All limits of that window, from then on.
    pub limits: Limits,
    /// The instant of the change: the end of the current window.
    pub effective_at: Timestamp,
}

impl Usage {
    /// Returns the usage of a key at `now`.
    #[must_use]
    pub fn of(state: &KeyState, now: Timestamp) -> Self {
        let usage = |place| ScopeUsage::of(state, place, now);
        let mut scopes: Vec<_> = state.places().filter_map(usage).collect();
        for (scope, _) in state.parallel_limits() {
            let open = state.parallel_at(0, scope, now);
            let state = open.map(|of| RuleState { resets_at: None, ..of.state() });
            match scopes.iter_mut().find(|usage| usage.scope == *scope) {
                Some(usage) => usage.rules.extend(state),
                None => scopes.push(ScopeUsage::of_parallel(scope.clone(), state)),
            }
        }
        let mut credits = state.credits();
        if !state.is_registered() {
            // An unregistered key has no account: it would end with its windows, at no fixed time.
            scopes.iter_mut().for_each(|usage| usage.account = Charge::NOTHING);
            credits.spent = Credits::ZERO;
        }
        Self { scopes, credits, read_at: now }
    }

    /// Returns the usage of one scope, if it is counted.
    #[must_use]
    pub fn scope(&self, scope: &ScopeId) -> Option<&ScopeUsage> {
        self.scopes.iter().find(|usage| usage.scope == *scope)
    }
}

impl ScopeUsage {
    fn of(state: &KeyState, place: crate::state::Place, now: Timestamp) -> Option<Self> {
        let scope = state.scope_at(place)?;
        let staged = Staged::at(scope, None, now, state.time_zone(), Rolls::Go);
        if staged.is_over(state) && !state.is_kept(place) {
            return None;
        }
        let mut rules = Rules::NONE;
        rules.add(Scope::Global, &staged.record);
        let rules = rules.of_level().map(|mut rule| {
            rule.rule.scope = place.scope();
            rule
        });
        Some(Self {
            scope: state.id_at(place),
            account: staged.record.account(),
            rules: rules.collect(),
            pending: PendingLimits::of(&staged.record, &staged.pending),
        })
    }
}

impl ScopeUsage {
    /// Other assets that have a parallel limit alone are not counted.
    fn of_parallel(scope: ScopeId, state: Option<RuleState>) -> Self {
        let (account, pending) = (Charge::NOTHING, Vec::new());
        Self { scope, account, rules: state.into_iter().collect(), pending }
    }
}

impl PendingLimits {
    pub(crate) fn of(record: &Record, pending: &[(Window, Limits)]) -> Vec<Self> {
        let of = |(window, limits): &(Window, Limits)| Self {
            window: *window,
            limits: limits.clone(),
            effective_at: record.span(*window).end,
        };
        pending.iter().map(of).collect()
    }
}

impl ScopeState {
    /// Returns the changes that are not in force yet.
    #[must_use]
    pub fn pending_limits(&self) -> Vec<PendingLimits> {
        PendingLimits::of(self.record(), self.all_pending())
    }
}

/// Formats each scope with a limit in force, and the credits.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for scope in &self.scopes {
            let mut separator = "";
            for rule in scope.rules.iter().filter(|rule| rule.rule != crate::rule::Rule::BUDGET) {
                write!(f, "{separator}{rule}")?;
                separator = ", ";
            }
            if !separator.is_empty() {
                write!(f, " for {}; ", scope.scope)?;
            }
        }
        self.credits.fmt(f)
    }
}
