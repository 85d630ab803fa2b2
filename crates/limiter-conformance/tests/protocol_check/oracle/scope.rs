//! The scopes of a key and their windows, as the oracle counts them.

use limiter_core::MAX_COUNT;

use super::Limits;

/// A scope that is counted: its number, minute and day. The minute counts only while it has limits, in force or pending; the
/// day always, for its account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) number: u32,
    /// Whether it is counted without limits too.
    pub(super) listed: bool,
    pub(super) windows: [Counted; 2],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Counted {
    pub(super) end: i64,
    pub(super) rebases: u32,
    pub(super) used: [u64; 2],
    pub(super) credits: u64,
    pub(super) limits: [Option<u64>; 2],
    pub(super) pending: Option<[Option<u64>; 2]>,
    pub(super) fired: [Vec<u8>; 2],
}

impl Scope {
    /// The identity of a window that is counted.
    pub(super) fn id(&self, window: usize) -> Option<(u32, i64, u32)> {
        let counted = &self.windows[window];
        (window == 1 || counted.is_limited()).then_some((self.number, counted.end, counted.rebases))
    }

    /// The scope as it stands; `None` if neither limits are left nor the day in which it counted.
    pub(super) fn as_of(&self, now: i64) -> Option<Self> {
        let scope = self.rolled(now);
        let day_ended = self.windows[1].end <= now;
        (scope.listed || !day_ended || scope.has_limits()).then_some(scope)
    }

    fn rolled(&self, now: i64) -> Self {
        let mut scope = self.clone();
        for (window, length) in scope.windows.iter_mut().zip(LENGTHS) {
            if window.end <= now {
                window.limits = window.pending.take().unwrap_or(window.limits);
                window.end = end_of(length, now);
                (window.used, window.credits, window.fired) = ([0; 2], 0, Default::default());
            }
            window.rebase(length, now);
        }
        scope
    }

    /// The scope after a change; `None` if it is over.
    pub(super) fn changed(self, limits: Limits, keeps: bool, now: i64) -> Option<Self> {
        let day_ended = self.windows[1].end <= now;
        let is_over = !keeps && day_ended && !self.rolled(now).has_limits();
        let changes = self.configured() != limits;
        let mut scope = if changes || is_over { self.rolled(now) } else { self };
        if changes {
            scope.limit(limits, now);
        }
        scope.listed = keeps;
        (keeps || !day_ended || scope.has_limits()).then_some(scope)
    }

    /// Sets the limits from the next windows on.
    pub(super) fn limit(&mut self, limits: Limits, now: i64) {
        for ((window, limits), length) in self.windows.iter_mut().zip(limits).zip(LENGTHS) {
            let begins = length == LENGTHS[0] && !window.is_limited();
            window.pending = (limits != window.limits).then_some(limits);
            if begins {
                (window.end, window.rebases) = (end_of(length, now), 0);
                (window.used, window.fired) = ([0; 2], Default::default());
            }
        }
    }

    fn configured(&self) -> Limits {
        self.windows.each_ref().map(|window| window.pending.unwrap_or(window.limits))
    }

    fn has_limits(&self) -> bool {
        self.windows.iter().any(Counted::is_limited)
    }
}

impl Counted {
    pub(super) fn is_limited(&self) -> bool {
        self.pending.is_some() || self.limits != [None; 2]
    }

    /// Carries the counts into the current window, if this one is later than the next one.
    pub(super) fn rebase(&mut self, length: i64, now: i64) {
        if length == LENGTHS[0] && !self.is_limited() {
            return;
        }
        if self.end - now > 2 * length {
            (self.end, self.rebases) = (end_of(length, now), self.rebases + 1);
        }
    }
}

pub(super) fn reaches(used: u64, limit: Option<u64>, percent: u8) -> bool {
    limit.is_some_and(|limit| {
        limit > 0 && u128::from(used) * 100 >= u128::from(limit) * u128::from(percent)
    })
}

/// A count stays between nothing and the largest number.
pub(super) fn moved(used: u64, more: u64, less: u64) -> u64 {
    (used + more).min(MAX_COUNT).saturating_sub(less)
}

pub(super) fn end_of(length: i64, now: i64) -> i64 {
    now - now % length + length
}

/// Of a minute and of a day, in ms.
pub(super) const LENGTHS: [i64; 2] = [60_000, 86_400_000];
