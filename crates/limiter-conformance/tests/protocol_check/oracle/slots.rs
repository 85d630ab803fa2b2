//! Parallel limits, as the oracle counts them: a set of the calls that hold a slot.

use std::collections::BTreeMap;

use super::Holder;

/// The parallel limit of a scope, and until when each call holds a slot of it. The limit may have changed since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Slots {
    pub(super) limit: Option<u64>,
    pub(super) held: BTreeMap<Holder, i64>,
}

impl Slots {
    /// How many slots are held, and the limit, if there is one.
    pub(super) fn rule(&self, now: i64) -> Option<(u64, u64)> {
        Some((self.untils(now).len() as u64, self.limit?))
    }

    /// The instant at which enough slots have expired for one to be free, if none is free now.
    pub(super) fn frees_at(&self, now: i64) -> Option<i64> {
        let untils = self.untils(now);
        let above = untils.len().checked_sub(usize::try_from(self.limit?).ok()?)?;
        untils.get(above).copied()
    }

    pub(super) fn hold(&mut self, holder: Holder, until: i64) {
        self.held.insert(holder, until);
    }

    /// Holds a slot that has not expired for longer.
    pub(super) fn renew(&mut self, holder: Holder, now: i64, until: i64) {
        if let Some(held_until) = self.held.get_mut(&holder).filter(|until| **until > now) {
            *held_until = until;
        }
    }

    pub(super) fn free(&mut self, holder: Holder) {
        self.held.remove(&holder);
    }

    pub(super) fn has_expired(&self, holder: Holder, now: i64) -> bool {
        self.held.get(&holder).is_some_and(|until| *until <= now)
    }

    /// Whether slots that have expired leave room that there would not be otherwise.
    pub(super) fn has_room_of_expired(&self, now: i64) -> bool {
        self.rule(now).is_some_and(|(held, limit)| held < limit && self.held.len() as u64 >= limit)
    }

    fn untils(&self, now: i64) -> Vec<i64> {
        let mut untils: Vec<_> = self.held.values().copied().filter(|until| *until > now).collect();
        untils.sort_unstable();
        untils
    }
}
