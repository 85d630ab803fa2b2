//! The history of a key: what was counted on each day.

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::error::InvalidValue;
use crate::limits::MAX_COUNT;
use crate::operation::Closed;
use crate::prepare::Staged;
use crate::record::{ACCOUNT, Span, account};
use crate::state::{KeyState, ScopeId};
use crate::window::Window;
use crate::zone::TimeZone;

/// The account of a key on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DayHistory {
    /// When the day started.
    pub start: Timestamp,
    /// The scopes that have counted anything: global first, then assets by the bytes of their ids, then other assets.
    pub scopes: Vec<ScopeAccount>,
}

/// What one scope has counted on a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ScopeAccount {
    /// The scope.
    #[serde(flatten)]
    pub scope: ScopeId,
    /// What was counted.
    pub account: Charge,
}

/// The account of a day that has ended, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosedDay {
    /// The window in which it was counted.
    pub span: Span,
    /// The scope.
    pub scope: ScopeId,
    /// What was counted.
    pub account: Charge,
}

impl DayHistory {
    /// The most days that a history goes back, today included.
    pub const MOST_DAYS: u16 = 400;

    /// The days that a history goes back unless set otherwise, today included.
    pub const DAYS: u16 = 35;

    /// Returns the last days, the oldest first and today at the end, of the closed days and of what a key counts at `now`.
    /// Days without any charge are left out.
    #[must_use]
    pub fn of(
        state: &KeyState,
        closed: impl IntoIterator<Item = ClosedDay>,
        days: u16,
        now: Timestamp,
    ) -> Vec<Self> {
        let zone = state.time_zone();
        let first = first_day(days.min(Self::MOST_DAYS), now, zone);
        let live = state.every_scope().map(|(id, scope)| {
            // Only a clock that was far ahead is set right: a day that has passed is still that day.
            let rebased = Staged::rebased(scope, now, zone);
            let span = rebased.span(Window::Day);
            ClosedDay { span, scope: id, account: rebased.account() }
        });
        let mut rows: Vec<(Timestamp, ScopeId, Charge)> = closed
            .into_iter()
            .chain(live)
            .map(|day| (Window::Day.start(day.span.end, zone), day.scope, day.account))
            .filter(|(start, _, account)| *start >= first && *account != Charge::NOTHING)
            .collect();
        rows.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        let mut history: Vec<Self> = Vec::new();
        for (start, scope, account) in rows {
            if history.last().is_none_or(|day| day.start != start) {
                history.push(Self { start, scopes: Vec::new() });
            }
            let Some(day) = history.last_mut() else { continue };
            match day.scopes.last_mut() {
                Some(last) if last.scope == scope => last.account = last.account.plus(&account),
                _ => day.scopes.push(ScopeAccount { scope, account }),
            }
        }
        history
    }
}

impl ClosedDay {
    pub(crate) fn of(closed: &Closed, scope: ScopeId) -> Self {
        Self { span: closed.span, scope, account: account(&closed.left) }
    }

    /// Creates a day from its stored parts: what was left of [`MAX_COUNT`](crate::MAX_COUNT), by the units of
    /// [`ACCOUNT`](crate::ACCOUNT).
    ///
    /// # Errors
    /// [`InvalidValue::Inconsistent`] if a count is out of bounds.
    pub fn of_stored(
        span: Span,
        scope: ScopeId,
        left: [i64; ACCOUNT.len()],
    ) -> Result<Self, InvalidValue> {
        let bounds = 0..=MAX_COUNT.cast_signed();
        if !left.iter().all(|left| bounds.contains(left)) {
            return Err(InvalidValue::Inconsistent { what: "a count is out of bounds" });
        }
        Ok(Self { span, scope, account: account(&left) })
    }
}

/// Returns the start of the first of the last days, today included.
pub(crate) fn first_day(days: u16, now: Timestamp, zone: &TimeZone) -> Timestamp {
    let mut start = Window::Day.start(Window::Day.end(now, zone), zone);
    for _ in 1..days {
        start = Window::Day.start(start, zone);
    }
    start
}
