//! The number of comparisons, and of their trips.

use std::collections::BTreeMap;
use std::fmt;

use limiter_conformance::replay::{Action, Operation};

/// For each kind of operation, how many took how many scripts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    trips: BTreeMap<&'static str, [u64; MOST]>,
    pub(crate) decisions: u64,
    pub(crate) histories: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, operation: &Operation, trips: u64) {
        // An operation with values out of bounds is refused before any trip.
        self.decisions += u64::from(decides(operation) && trips > 0);
        let trips = (trips as usize).min(MOST - 1);
        self.trips.entry(kind(operation)).or_default()[trips] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.decisions += other.decisions;
        self.histories += other.histories;
        for (kind, trips) in &other.trips {
            let sums = self.trips.entry(kind).or_default();
            sums.iter_mut().zip(trips).for_each(|(sum, trips)| *sum += trips);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} decisions\n{:16}", self.decisions, "scripts sent")?;
        (0..MOST).try_for_each(|trips| write!(f, "{trips:>9}"))?;
        for (kind, trips) in &self.trips {
            write!(f, "\n{kind:16}")?;
            trips.iter().try_for_each(|count| write!(f, "{count:>9}"))?;
        }
        Ok(())
    }
}

/// Whether it admits, denies, or corrects a charge.
pub(crate) fn decides(operation: &Operation) -> bool {
    matches!(
        operation.action,
        Action::Check(_)
            | Action::Reserve(_)
            | Action::Amend(_)
            | Action::Settle(_)
            | Action::Cancel { .. }
    )
}

fn kind(operation: &Operation) -> &'static str {
    match &operation.action {
        Action::Create(_) => "create",
        Action::Update(_) => "update",
        Action::Check(call) if call.request_id.is_some() => "check_once",
        Action::Check(_) => "check",
        Action::Peek(_) => "peek",
        Action::Reserve(_) => "reserve",
        Action::Amend(_) => "amend",
        Action::Settle(_) => "settle",
        Action::Cancel { .. } => "cancel",
        Action::Usage { .. } => "usage",
        Action::History { .. } => "history",
        Action::Events {} => "events",
        Action::Reset { .. } => "reset",
        Action::Delete { .. } => "delete",
        Action::Plan(_) => "plan",
        Action::DeletePlan { .. } => "delete_plan",
    }
}

const MOST: usize = 12;
