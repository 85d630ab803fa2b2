//! The counts of a scope in its minute and its day, and how they are charged.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::charge::{Amounts, Charge};
use crate::clock::Timestamp;
use crate::limits::WindowLimits;
use crate::meter::{Gauge, Meter};
use crate::rule::Unit;
use crate::thresholds::Thresholds;
use crate::token_type::TokenType;
use crate::window::Window;

/// The counts of one window of one scope, with the limits that are in force in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowCounts {
    pub(crate) resets_at: Timestamp,
    pub(crate) requests: Meter,
    pub(crate) tokens: Meter,
    pub(crate) token_type: TokenType,
    /// How often a clock that had been far ahead was mended since the scope is counted.
    pub(crate) mended: u8,
}

/// Which window of a key's life this is: found again as long as it goes on, and never another one.
///
/// After a mending every earlier window is closed, and a scope that is counted anew never finds those of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WindowId {
    resets_at: Timestamp,
    mended: u8,
    counting: u32,
}

impl WindowCounts {
    /// A window without any count yet.
    pub(crate) const fn new(limits: WindowLimits, resets_at: Timestamp) -> Self {
        Self {
            resets_at,
            requests: Meter::new(limits.requests()),
            tokens: Meter::new(limits.tokens()),
            token_type: limits.token_type(),
            mended: 0,
        }
    }

    /// The window that follows, with these limits.
    pub(crate) const fn next(&self, limits: WindowLimits, resets_at: Timestamp) -> Self {
        Self { mended: self.mended, ..Self::new(limits, resets_at) }
    }

    /// The same counts, where a clock that had been far ahead was mended.
    pub(crate) const fn mended(&self, resets_at: Timestamp) -> Self {
        Self { resets_at, mended: self.mended.wrapping_add(1), ..*self }
    }

    /// Counts as a store kept them, of a window that ends at `resets_at`. Tokens count in total where they have
    /// no limit.
    #[must_use]
    pub const fn from_parts(
        resets_at: Timestamp,
        requests: Meter,
        tokens: Meter,
        token_type: TokenType,
    ) -> Self {
        Self { resets_at, requests, tokens, token_type, mended: 0 }.normalized()
    }

    /// When the window ends and counting starts again from zero.
    #[must_use]
    pub const fn resets_at(&self) -> Timestamp {
        self.resets_at
    }

    /// Requests.
    #[must_use]
    pub const fn requests(&self) -> &Meter {
        &self.requests
    }

    /// Requests or tokens.
    pub(crate) const fn meter(&self, unit: Unit) -> &Meter {
        match unit {
            Unit::Requests => &self.requests,
            Unit::Tokens => &self.tokens,
        }
    }

    /// Tokens, counted as [`token_type`](Self::token_type) says.
    #[must_use]
    pub const fn tokens(&self) -> &Meter {
        &self.tokens
    }

    /// Which tokens are counted.
    #[must_use]
    pub const fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// The limits in force in this window.
    #[must_use]
    pub const fn limits(&self) -> WindowLimits {
        WindowLimits::new(self.requests.limit(), self.tokens.limit(), self.token_type)
    }

    pub(crate) const fn admits(&self, charge: &Charge) -> bool {
        let makes_request = charge.requests() > 0;
        self.requests.admits(charge.requests(), makes_request)
            && self.tokens.admits(charge.tokens(self.token_type), makes_request)
    }

    pub(crate) const fn add(&mut self, charge: &Charge) {
        self.requests.add(charge.requests());
        self.tokens.add(charge.tokens(self.token_type));
    }

    /// Makes the counts what they would have been had `actual` been charged instead of `charged`.
    pub(crate) const fn correct(&mut self, charged: &Charge, actual: &Charge) {
        self.requests.correct(charged.requests(), actual.requests());
        self.tokens.correct(charged.tokens(self.token_type), actual.tokens(self.token_type));
    }

    /// Counts the total where there is no limit of tokens, as counts that were saved may not.
    pub(crate) const fn normalized(self) -> Self {
        Self { token_type: self.limits().token_type(), ..self }
    }

    /// Whether a window of this kind can end when these counts say.
    pub(crate) fn is_aligned(&self, window: Window) -> bool {
        window.end(window.start(self.resets_at)) == self.resets_at
    }
}

/// The counts of one scope: its minute and its day.
///
/// What can be charged stands side by side for all four [gauges](Gauge), so that the common case, in which all of them
/// have room, is decided with a few instructions. All else looks at one [window](Self::window) at a time.
#[derive(Clone, Copy)]
pub(crate) struct ScopeCounts {
    /// Requests and tokens of the minute, then of the day, as in [`Gauge`].
    ahead: [i64; 4],
    limits: [u64; 4],
    told: [u8; 4],
    thresholds: Thresholds,
    resets_at: [Timestamp; 2],
    token_types: [TokenType; 2],
    mended: [u8; 2],
    /// Tells this counting of the scope from every other that its key has had.
    counting: u32,
}

impl ScopeCounts {
    /// What stands for a scope that is not counted: no rule, no end.
    pub(crate) const UNCOUNTED: Self = {
        let end = Timestamp::from_window_end(i64::MAX);
        let window = WindowCounts::new(WindowLimits::NONE, end);
        Self::new(window, window, 0, Thresholds::NONE)
    };

    pub(crate) const fn new(
        minute: WindowCounts,
        day: WindowCounts,
        counting: u32,
        thresholds: Thresholds,
    ) -> Self {
        let meters = [minute.requests, minute.tokens, day.requests, day.tokens];
        let [a, b, c, d] = meters;
        let gauge = [
            Gauge::new(a, thresholds),
            Gauge::new(b, thresholds),
            Gauge::new(c, thresholds),
            Gauge::new(d, thresholds),
        ];
        let [gauge_a, gauge_b, gauge_c, gauge_d] = gauge;
        Self {
            ahead: [gauge_a.ahead(), gauge_b.ahead(), gauge_c.ahead(), gauge_d.ahead()],
            limits: [a.limit, b.limit, c.limit, d.limit],
            told: [a.told, b.told, c.told, d.told],
            thresholds,
            resets_at: [minute.resets_at, day.resets_at],
            token_types: [minute.token_type, day.token_type],
            mended: [minute.mended, day.mended],
            counting,
        }
    }

    pub(crate) const fn counting(&self) -> u32 {
        self.counting
    }

    pub(crate) const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    pub(crate) const fn set_counting(&mut self, counting: u32) {
        self.counting = counting;
    }

    pub(crate) const fn id(&self, window: Window) -> WindowId {
        let WindowCounts { resets_at, mended, .. } = self.window(window);
        WindowId { resets_at, mended, counting: self.counting }
    }

    pub(crate) const fn window(&self, window: Window) -> WindowCounts {
        let [minute_mended, day_mended] = self.mended;
        WindowCounts {
            resets_at: self.resets_at(window),
            requests: self.meter(window, Unit::Requests),
            tokens: self.meter(window, Unit::Tokens),
            token_type: self.token_type(window),
            mended: match window {
                Window::Minute => minute_mended,
                Window::Day => day_mended,
            },
        }
    }

    #[inline]
    pub(crate) const fn meter(&self, window: Window, unit: Unit) -> Meter {
        let ([a, b, c, d], [limit_a, limit_b, limit_c, limit_d]) = (self.ahead, self.limits);
        let [told_a, told_b, told_c, told_d] = self.told;
        let (left, limit, told) = match (window, unit) {
            (Window::Minute, Unit::Requests) => (a, limit_a, told_a),
            (Window::Minute, Unit::Tokens) => (b, limit_b, told_b),
            (Window::Day, Unit::Requests) => (c, limit_c, told_c),
            (Window::Day, Unit::Tokens) => (d, limit_d, told_d),
        };
        Gauge::of(left, limit, told, self.thresholds).meter()
    }

    #[inline]
    pub(crate) const fn resets_at(&self, window: Window) -> Timestamp {
        let [minute, day] = self.resets_at;
        match window {
            Window::Minute => minute,
            Window::Day => day,
        }
    }

    #[inline]
    pub(crate) const fn token_type(&self, window: Window) -> TokenType {
        let [minute, day] = self.token_types;
        match window {
            Window::Minute => minute,
            Window::Day => day,
        }
    }

    /// Whether a charge that makes a request simply fits at `now`: both windows go on, and nothing runs out
    /// or over, or reaches a threshold.
    #[inline]
    pub(crate) fn fits(&self, amounts: &Amounts, now: Timestamp) -> bool {
        let [minute_end, day_end] = self.resets_at;
        // A new call needs one unit left also where it adds nothing.
        let room = |(ahead, amount): (&i64, i64)| *ahead >= amount.max(1);
        Window::Minute.stays(minute_end, now)
            && Window::Day.stays(day_end, now)
            && self.ahead.iter().zip(self.amounts(amounts)).all(room)
    }

    /// Charges what [fits](Self::fits), and answers the counts as they are then.
    #[inline]
    pub(crate) fn take(&mut self, amounts: &Amounts) -> Self {
        let mut ahead = self.ahead;
        for (ahead, amount) in ahead.iter_mut().zip(self.amounts(amounts)) {
            *ahead = ahead.wrapping_sub(amount);
        }
        self.ahead = ahead;
        Self { ahead, ..*self }
    }

    #[inline]
    fn amounts(&self, amounts: &Amounts) -> [i64; 4] {
        let [minute_type, day_type] = self.token_types;
        let requests = amounts.requests();
        [requests, amounts.tokens(minute_type), requests, amounts.tokens(day_type)]
    }
}

/// Two countings that decide alike are equal, whatever came before them.
impl PartialEq for ScopeCounts {
    fn eq(&self, other: &Self) -> bool {
        (self.ahead, self.limits, self.told, self.thresholds)
            == (other.ahead, other.limits, other.told, other.thresholds)
            && (self.resets_at, self.token_types) == (other.resets_at, other.token_types)
    }
}

impl Eq for ScopeCounts {}

impl fmt::Debug for ScopeCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(Window::ALL.map(|window| self.window(window))).finish()
    }
}
