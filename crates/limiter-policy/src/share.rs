//! The part of each limit that one process may use by itself.

use std::fmt;
use std::num::NonZeroU32;

use limiter_core::{
    Credits, InForce, KeyConfig, KeyRecord, Limits, Thresholds, Timestamp, TokenType, WindowLimits,
};

/// A part of each limit, above nothing and at most all of it.
///
/// With N processes the total in an outage never passes N times this part of a limit. So at most one in N keeps the limit itself;
/// more is the operator's choice. Parts are rounded down: of a limit smaller than N, one in N is nothing.
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
    /// One part of so many: for as many processes.
    #[must_use]
    pub const fn one_in(processes: NonZeroU32) -> Self {
        Self { one_in: processes }
    }

    pub(crate) const fn of(self, amount: u64) -> u64 {
        amount / self.one_in.get() as u64
    }

    /// What is in force at `now`, and its part of what is left of the budget.
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

    /// What is configured, and so in force as soon as windows end.
    pub(crate) fn configured(self, record: &KeyRecord, left: Option<Credits>) -> KeyConfig {
        let config = record.config();
        let assets = config.assets.iter();
        KeyConfig {
            global: self.of_limits(&config.global),
            assets: assets.map(|(asset, limits)| (asset.clone(), self.of_limits(limits))).collect(),
            budget: left.and_then(|left| Credits::from_millionths(self.of(left.millionths())).ok()),
            // A share of a limit says little of the limit: what is reached is told when the store has been charged.
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
            // For a day after a change they may differ. What counts both input and output is never too little.
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
