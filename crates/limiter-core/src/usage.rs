//! The usage of a key.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::meter::Meter;
use crate::names::AssetId;
use crate::record::WindowCounts;
use crate::rule::Unit;
use crate::rules::{percent, unit_name};
use crate::schedule::ScopeState;
use crate::state::{CreditUsage, KeyState};
use crate::token_type::TokenType;
use crate::window::Window;

/// The usage of a key at one instant. Reading it changes nothing.
///
/// It prints each limit in force with the amount used, and the credits:
///
/// ```
/// # mod limiter { pub use limiter_core::*; pub use limiter_core as store; }
/// # use limiter::store::KeyState;
/// # use limiter::{Charge, Credits, KeyConfig, KeyKind, Limits, Timestamp, Usage, evaluate};
/// # let noon = Timestamp::from_unix_ms(1_760_011_200_000);
/// # let config = KeyConfig::named("ci")?
/// #     .with_global(Limits::builder().requests_per_minute(60).requests_per_day(1_000).build()?)
/// #     .with_asset("gpt-5".parse()?, Limits::builder().tokens_per_minute(10_000).build()?)
/// #     .with_budget(Credits::whole(25)?);
/// # let mut state = KeyState::new(KeyKind::Member, &config, noon);
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
    /// All calls of the key; null if the key has no global limits, in force or pending.
    pub global: Option<ScopeUsage>,
    /// Each asset that has limits, in force or pending, by the bytes of its id.
    pub assets: Vec<AssetUsage>,
    /// Credits spent, and the budget.
    pub credits: CreditUsage,
}

/// The usage of one asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct AssetUsage {
    /// The asset.
    pub asset: AssetId,
    /// Its usage.
    #[serde(flatten)]
    pub usage: ScopeUsage,
}

/// The usage in the windows of one scope. A window that has passed is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ScopeUsage {
    /// In this minute.
    pub minute: WindowUsage,
    /// On this day.
    pub day: WindowUsage,
}

/// The usage in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct WindowUsage {
    /// Requests.
    pub requests: UnitUsage,
    /// Tokens, of the type that is counted.
    pub tokens: UnitUsage,
    /// Which tokens are counted.
    pub token_type: TokenType,
    /// When the window ends and counting starts again from zero.
    pub resets_at: Timestamp,
}

/// The usage of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct UnitUsage {
    /// The amount used.
    pub used: u64,
    /// The limit in this window, if there is one.
    pub limit: Option<u64>,
    /// The amount left, at least 0, if there is a limit.
    pub remaining: Option<u64>,
}

impl Usage {
    /// Returns the usage of a key at `now`.
    #[must_use]
    pub fn of(state: &KeyState, now: Timestamp) -> Self {
        let assets = state.assets().filter_map(|(asset, scope)| {
            ScopeUsage::of(scope, now).map(|usage| AssetUsage { asset: asset.clone(), usage })
        });
        Self {
            global: state.global().and_then(|scope| ScopeUsage::of(scope, now)),
            assets: assets.collect(),
            credits: state.credits(),
        }
    }

    /// Returns the global scope, if it has limits, and then each asset that has some.
    pub fn scopes(&self) -> impl Iterator<Item = (Option<&AssetId>, &ScopeUsage)> {
        let global = self.global.iter().map(|usage| (None, usage));
        global.chain(self.assets.iter().map(|asset| (Some(&asset.asset), &asset.usage)))
    }
}

impl ScopeUsage {
    /// Returns each kind of window, the shorter first.
    pub fn windows(&self) -> impl Iterator<Item = (Window, &WindowUsage)> {
        [(Window::Minute, &self.minute), (Window::Day, &self.day)].into_iter()
    }

    fn of(scope: &ScopeState, now: Timestamp) -> Option<Self> {
        let scope = scope.at(now)?;
        Some(Self {
            minute: WindowUsage::of(&scope.counts(Window::Minute)),
            day: WindowUsage::of(&scope.counts(Window::Day)),
        })
    }

    /// Returns each limit in force: its window, its unit, the amount used, and the limit.
    fn limited(&self) -> impl Iterator<Item = (Window, &'static str, u64, u64)> {
        self.windows().flat_map(|(window, usage)| {
            usage.units().filter_map(move |(unit, UnitUsage { used, limit, .. })| {
                Some((window, unit_name(unit, usage.token_type), *used, (*limit)?))
            })
        })
    }
}

impl WindowUsage {
    /// Returns each unit, requests first.
    pub fn units(&self) -> impl Iterator<Item = (Unit, &UnitUsage)> {
        [(Unit::Requests, &self.requests), (Unit::Tokens, &self.tokens)].into_iter()
    }

    fn of(counts: &WindowCounts) -> Self {
        Self {
            requests: UnitUsage::of(&counts.requests),
            tokens: UnitUsage::of(&counts.tokens),
            token_type: counts.token_type,
            resets_at: counts.resets_at,
        }
    }
}

impl UnitUsage {
    fn of(meter: &Meter) -> Self {
        Self { used: meter.used(), limit: meter.limit(), remaining: meter.remaining() }
    }

    /// Returns the share of the limit that is used, in whole percent rounded down; `None` without a limit.
    ///
    /// A limit of 0 is fully used from the start.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        self.limit.map(|limit| percent(self.used, limit))
    }
}

/// Formats each scope with a limit in force, and the credits.
impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limited = self.scopes().filter(|(_, scope)| scope.limited().next().is_some());
        for (asset, scope) in limited {
            match asset {
                Some(asset) => write!(f, "{scope} for asset {asset:?}; ")?,
                None => write!(f, "{scope} for all calls; ")?,
            }
        }
        self.credits.fmt(f)
    }
}

/// Formats each limit in force as in `1 of 60 requests per minute, 340 of 10000 output tokens per day`.
impl fmt::Display for ScopeUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (window, unit, used, limit)) in self.limited().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{used} of {limit} {unit} per {window}")?;
        }
        Ok(())
    }
}
