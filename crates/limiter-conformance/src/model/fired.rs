//! Thresholds: the shares of a limit that fire when they are reached, each once.

use std::collections::BTreeSet;

/// The thresholds that have fired: of one count in one window, or of the budget as it stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Fired(BTreeSet<u8>);

impl Fired {
    /// Those that are passed already when a budget is set: they never fire for it.
    pub(super) fn passed(limit: u64, used: u64) -> Self {
        Self(reached(limit, used).collect())
    }

    /// Fires those that are reached. "Exactly once per window and amount": one that has fired does not fire again,
    /// whatever is given back and used again.
    pub(super) fn fire(&mut self, limit: u64, used: u64) -> Vec<u8> {
        reached(limit, used).filter(|percent| self.0.insert(*percent)).collect()
    }
}

/// A share that is no whole number is reached with the unit that passes it; a limit of 0 has none.
fn reached(limit: u64, used: u64) -> impl Iterator<Item = u8> {
    let is_reached = move |percent: &u8| {
        u128::from(used) * 100 >= u128::from(limit) * u128::from(*percent) && limit >= 1
    };
    THRESHOLDS.into_iter().filter(is_reached)
}

/// In percent. The replay format has no word for others.
const THRESHOLDS: [u8; 2] = [80, 100];
