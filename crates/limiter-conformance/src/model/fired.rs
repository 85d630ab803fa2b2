//! Thresholds: the shares of a limit that fire when they are reached, each once.

use std::collections::BTreeSet;

/// The thresholds that have fired, of one rule in one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fired(BTreeSet<u8>);

impl Fired {
    pub(super) fn has_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Fires those that are reached. "Exactly once per window and amount": one that has fired does not fire again,
    /// whatever is given back and used again.
    pub(super) fn fire(&mut self, thresholds: &[u8], limit: u64, used: u64) -> Vec<u8> {
        reached(thresholds, limit, used).filter(|percent| self.0.insert(*percent)).collect()
    }

    /// "After a change …, marks are derived anew from what is used: thresholds above fire when they are reached, and a
    /// change fires those that it reaches itself."
    pub(super) fn derive(&mut self, thresholds: &[u8], limit: u64, used: u64) -> Vec<u8> {
        let before = std::mem::replace(self, Self(reached(thresholds, limit, used).collect()));
        self.0.difference(&before.0).copied().collect()
    }
}

/// A share that is no whole number is reached with the unit that passes it; a limit of 0 has none.
fn reached(thresholds: &[u8], limit: u64, used: u64) -> impl Iterator<Item = u8> {
    let is_reached = move |percent: &u8| {
        u128::from(used) * 100 >= u128::from(limit) * u128::from(*percent) && limit >= 1
    };
    thresholds.iter().copied().filter(is_reached)
}

/// In percent: "80 % and 100 % … unless set".
pub(super) const THRESHOLDS: [u8; 2] = [80, 100];
