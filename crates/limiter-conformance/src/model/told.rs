//! Thresholds: the shares of a limit that are told when they are reached, each once.

use std::collections::BTreeSet;

/// The thresholds that were told: of one count in one window, or of the budget as it stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Told(BTreeSet<u8>);

impl Told {
    /// What was passed already when a budget is set: that is never told of it.
    pub(super) fn passed(limit: u64, used: u64) -> Self {
        Self(reached(limit, used).collect())
    }

    /// Tells those that are reached. "Exactly once per window and threshold": one that was told is not told again,
    /// whatever is given back and used again.
    pub(super) fn tell(&mut self, limit: u64, used: u64) -> Vec<u8> {
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
