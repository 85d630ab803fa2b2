//! A scope of a key: its record, and the limits that are pending for the next windows.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::error::InvalidValue;
use crate::limits::{Limit, Limits};
use crate::meter::Meter;
use crate::record::{ACCOUNT, Cell, Counted, Record, Span, Stored, StoredWindow};
use crate::rule::Unit;
use crate::thresholds::Thresholds;
use crate::window::Window;
use crate::zone::TimeZone;

/// A scope: its counts, the limits in force, and for each window at most one change of its limits, which comes into force
/// when that window ends.
///
/// A change is always pending for the window after the stored one. The change itself moves the stored windows to the
/// current ones, and every later move to a new window puts it in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeState {
    pub(crate) record: Record,
    /// Boxed because it is rare, and the size of this struct decides what a key costs in memory.
    rare: Option<Box<Rare>>,
}

/// What few scopes have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rare {
    pending: Pending,
    /// The number of changes of limits that took effect at once.
    changes: u32,
    since: Since,
}

/// The limits that come into force with the next window, by window. A window whose limits end has none.
pub type Pending = SmallVec<[(Window, Limits); 2]>;

/// Since which change a limit counts, for those that began to count at zero within a window.
pub type Since = SmallVec<[(Window, Unit, u32); 2]>;

impl ScopeState {
    /// Creates a scope from its stored parts.
    #[must_use]
    pub fn from_parts(record: Record, pending: Pending, changes: u32, since: Since) -> Self {
        let mut scope = Self { record, rare: None };
        scope.set_rare(Rare { pending, changes, since });
        scope
    }

    /// Creates a scope that is counted from now on, with these limits in force.
    pub(crate) fn new(
        is_global: bool,
        limits: &Limits,
        thresholds: Thresholds,
        generation: u32,
        now: Timestamp,
        zone: &TimeZone,
    ) -> Self {
        let record = Record::of_limits(is_global, limits, [], thresholds);
        Self { record: record.begun(generation, now, zone), rare: None }
    }

    /// Returns the record: the stored numbers, and the limits in force.
    #[must_use]
    pub const fn record(&self) -> &Record {
        &self.record
    }

    /// Returns the limits that come into force when a window of this kind ends; none if its limits end then.
    #[must_use]
    pub fn pending(&self, window: Window) -> Option<&Limits> {
        self.all_pending().iter().find(|(of, _)| *of == window).map(|(_, limits)| limits)
    }

    /// Returns the limits that are pending, by window.
    #[must_use]
    pub fn all_pending(&self) -> &[(Window, Limits)] {
        self.rare.as_deref().map_or(&[], |rare| &rare.pending)
    }

    /// Returns the number of changes of limits that took effect at once.
    #[must_use]
    pub fn changes(&self) -> u32 {
        self.rare.as_deref().map_or(0, |rare| rare.changes)
    }

    /// Returns since which change limits count that began to count at zero within a window.
    #[must_use]
    pub fn since(&self) -> &[(Window, Unit, u32)] {
        self.rare.as_deref().map_or(&[], |rare| &rare.since)
    }

    pub(crate) fn set_pending(&mut self, pending: Pending) {
        let (changes, since) = (self.changes(), self.since().into());
        self.set_rare(Rare { pending, changes, since });
    }

    pub(crate) fn set_since(&mut self, changes: u32, since: Since) {
        let pending = self.all_pending().into();
        self.set_rare(Rare { pending, changes, since });
    }

    fn set_rare(&mut self, rare: Rare) {
        self.rare = (rare != Rare::default()).then(|| Box::new(rare));
    }

    /// Returns the limits as an admin last set them: those pending, or else those in force.
    #[must_use]
    pub fn configured(&self) -> Limits {
        let in_force = self.record.limits();
        let pending = self.all_pending();
        let stays = |limit: &Limit| pending.iter().all(|(window, _)| *window != limit.window);
        in_force
            .iter()
            .filter(stays)
            .chain(pending.iter().flat_map(|(_, limits)| limits.iter()))
            .collect()
    }

    /// Returns whether its calls meet the limits of other assets too: its first limit is pending.
    #[inline]
    pub(crate) fn joins_other(&self) -> bool {
        self.rare.is_some() && self.awaits_its_first_limit()
    }

    #[cold]
    fn awaits_its_first_limit(&self) -> bool {
        !self.record.has_limits() && self.all_pending().iter().any(|(_, limits)| !limits.is_none())
    }

    /// Returns whether any limit is in force or pending.
    pub(crate) fn has_limits(&self) -> bool {
        self.record.has_limits() || !self.all_pending().is_empty()
    }
}

/// The saved form of a scope.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedScope {
    generation: u32,
    windows: Vec<SavedWindow>,
    changes: u32,
    since: Vec<(Window, Unit, u32)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedWindow {
    window: Window,
    #[serde(deserialize_with = "Option::deserialize")]
    end: Option<Timestamp>,
    rebases: u8,
    /// By [`ACCOUNT`], of the day alone.
    #[serde(deserialize_with = "Option::deserialize")]
    account: Option<[u64; ACCOUNT.len()]>,
    counts: Vec<SavedCount>,
    #[serde(deserialize_with = "Option::deserialize")]
    pending: Option<Limits>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedCount {
    unit: Unit,
    #[serde(deserialize_with = "Option::deserialize")]
    limit: Option<u64>,
    used: u64,
    mark: u8,
}

impl From<&ScopeState> for SavedScope {
    fn from(scope: &ScopeState) -> Self {
        let record = &scope.record;
        let windows = record.stored().windows.into_iter().map(|stored| {
            let StoredWindow { window, span, .. } = stored;
            let count = |meter: &Meter| SavedCount {
                unit: meter.unit(),
                limit: meter.limit(),
                used: meter.used(record.thresholds),
                mark: meter.mark(),
            };
            let charge = record.account();
            SavedWindow {
                window,
                end: window.ends().then_some(span.end),
                rebases: span.rebases,
                account: (window == Window::Day).then(|| ACCOUNT.map(|unit| charge.amount(unit))),
                counts: record.meters_in(window).map(count).collect(),
                pending: scope.pending(window).cloned(),
            }
        });
        Self {
            generation: record.generation,
            windows: windows.collect(),
            changes: scope.changes(),
            since: scope.since().to_vec(),
        }
    }
}

impl SavedScope {
    /// Restores the scope.
    pub(crate) fn restored(
        self,
        is_global: bool,
        thresholds: Thresholds,
        zone: &TimeZone,
    ) -> Result<ScopeState, InvalidValue> {
        let counts = self.windows.iter().flat_map(|of| {
            of.counts.iter().filter_map(|count| {
                Some(Limit { window: of.window, unit: count.unit, amount: count.limit? })
            })
        });
        let limits = counts.fold(Limits::builder(), |builder, limit| {
            builder.limit(limit.window, limit.unit, limit.amount)
        });
        let windows = self.windows.iter().map(|of| of.window);
        let record = Record::of_limits(is_global, &limits.build()?, windows, thresholds);
        let windows = self.windows.iter().map(|of| of.stored(thresholds));
        let stored =
            Stored { generation: self.generation, windows: windows.collect::<Result<_, _>>()? };
        let record = record.with_stored(&stored, zone)?;
        let pending = self.windows.into_iter().filter_map(|of| Some((of.window, of.pending?)));
        Ok(ScopeState::from_parts(record, pending.collect(), self.changes, self.since.into()))
    }
}

impl SavedWindow {
    fn stored(&self, thresholds: Thresholds) -> Result<StoredWindow, InvalidValue> {
        let impossible = InvalidValue::Inconsistent { what: "a count is out of bounds" };
        let cell = |counted: Counted, used: u64, mark: u8| {
            let stops = crate::meter::Stops::new(counted.limit, thresholds);
            let used = i64::try_from(used).ok()?;
            let left = stops.cap().checked_sub(used)?;
            let value = left.checked_sub(*stops.floors().get(usize::from(mark)).unwrap_or(&0))?;
            Some(Cell { value, mark })
        };
        let counted = |unit, limit| Counted { window: self.window, unit, limit };
        let account = self.account.iter().flatten().zip(ACCOUNT);
        let account = account.map(|(used, unit)| cell(counted(unit, None), *used, 0));
        let counts = self.counts.iter();
        let counts = counts.map(|of| cell(counted(of.unit, of.limit), of.used, of.mark));
        let cells = account.chain(counts).collect::<Option<_>>().ok_or(impossible)?;
        let span = match self.end {
            Some(end) => Span { end, rebases: self.rebases },
            None => Span::EVER,
        };
        Ok(StoredWindow { window: self.window, span, cells })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

    fn scope(limits: &Limits) -> ScopeState {
        ScopeState::new(false, limits, Thresholds::DEFAULT, 1, NOON, &TimeZone::UTC)
    }

    fn hourly() -> Limits {
        Limits::builder().requests_per_hour(5).build().unwrap()
    }

    #[test]
    fn what_is_pending_is_found_by_its_window() {
        let mut scope = scope(&Limits::NONE);
        scope.set_pending([(Window::Hour, hourly())].into_iter().collect());
        assert_eq!(scope.pending(Window::Hour), Some(&hourly()));
        assert_eq!(scope.pending(Window::Day), None);
        assert_eq!(scope.configured(), hourly());
    }

    #[test]
    fn changes_and_what_is_pending_are_kept_beside_each_other() {
        let mut scope = scope(&Limits::NONE);
        let since: Since = [(Window::Hour, Unit::Requests, 2)].into_iter().collect();
        scope.set_since(2, since.clone());
        scope.set_pending([(Window::Hour, hourly())].into_iter().collect());
        assert_eq!((scope.changes(), scope.since()), (2, &since[..]));
        scope.set_since(3, Since::new());
        assert_eq!((scope.changes(), scope.since(), scope.all_pending().len()), (3, &[][..], 1));
    }

    #[test]
    fn a_scope_joins_other_assets_until_its_first_limit_comes() {
        let mut awaiting = scope(&Limits::NONE);
        assert!(!awaiting.joins_other(), "no limit will come");
        awaiting.set_pending([(Window::Hour, hourly())].into_iter().collect());
        assert!(awaiting.joins_other());
        let mut limited = scope(&hourly());
        assert!(!limited.joins_other());
        limited.set_pending([(Window::Hour, Limits::NONE)].into_iter().collect());
        assert!(!limited.joins_other(), "its last limit ends");
        limited.set_pending([(Window::Day, hourly())].into_iter().collect());
        assert!(!limited.joins_other(), "it has one already");
    }
}
