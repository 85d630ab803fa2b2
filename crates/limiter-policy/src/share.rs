//! The part of each limit that one process may use without the store.

use std::fmt;
use std::num::NonZeroU32;

use limiter_core::{
    Credits, InForce, KeyConfig, KeyRecord, Limits, Thresholds, Timestamp, TokenType, WindowLimits,
};

/// A part of each limit, above zero and at most all of it.
///
/// With N processes the total in an outage never passes N times this part of a limit. So a share of at most 1/N keeps
/// the limit; more is the operator's choice. Parts are rounded down: 1/N of a limit smaller than N is zero.
///
/// ```
/// use std::num::NonZeroU32;
///
/// # mod limiter { pub use limiter_policy::*; pub use limiter_policy as policy; }
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

    /// Returns this share of the limits in force at `now`, and of the rest of the budget.
    pub(crate) fn in_force(
        self,
        record: &KeyRecord,
        left: Option<Credits>,
        now: Timestamp,
    ) -> KeyConfig {
        let at = |limits: &InForce| match limits.pending {
            Some(pending) if pending.effective_at <= now => pending.limits,
            _ => limits.limits,
        };
        let assets = record.assets.iter();
        KeyConfig {
            global: self.of_windows(at(&record.global.minute), at(&record.global.day)),
            assets: assets
                .map(|(asset, limits)| {
                    (asset.clone(), self.of_windows(at(&limits.minute), at(&limits.day)))
                })
                .collect(),
            ..self.configured(record, left)
        }
    }

    /// Returns this share of the configured limits, which come into force when windows end.
    pub(crate) fn configured(self, record: &KeyRecord, left: Option<Credits>) -> KeyConfig {
        let config = record.config();
        let assets = config.assets.iter();
        KeyConfig {
            global: self.of_limits(&config.global),
            assets: assets.map(|(asset, limits)| (asset.clone(), self.of_limits(limits))).collect(),
            budget: left.and_then(|left| Credits::from_millionths(self.of(left.millionths())).ok()),
            // Thresholds are those of the whole limit: they fire when the store is charged.
            thresholds: Some(Thresholds::NONE),
            ..config
        }
    }

    fn of_limits(self, limits: &Limits) -> Limits {
        use limiter_core::Window;

        self.of_windows(limits.of(Window::Minute), limits.of(Window::Day))
    }

    fn of_windows(self, minute: WindowLimits, day: WindowLimits) -> Limits {
        let part = |limit: Option<u64>| limit.map(|limit| self.of(limit));
        let token_type = match (minute.tokens(), day.tokens()) {
            (Some(_), None) => minute.token_type(),
            (None, Some(_)) => day.token_type(),
            _ if minute.token_type() == day.token_type() => day.token_type(),
            // They may differ for a day after a change. Counting both input and output never counts too little.
            _ => TokenType::Total,
        };
        let builder = Limits::builder()
            .requests_per_minute(part(minute.requests()))
            .requests_per_day(part(day.requests()))
            .tokens_per_minute(part(minute.tokens()))
            .tokens_per_day(part(day.tokens()))
            .token_type(token_type);
        builder.build().expect("a part of a limit is no larger than the limit")
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1/{}", self.one_in)
    }
}
