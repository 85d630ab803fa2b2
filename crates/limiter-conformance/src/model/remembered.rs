//! The memory of a key: calls by their ids.

use crate::replay::LARGEST;

/// Entries by id, each with its own expiry.
#[derive(Clone, Debug)]
pub(super) struct Remembered<T>(Vec<One<T>>);

#[derive(Clone, Debug)]
struct One<T> {
    id: String,
    until: i64,
    /// Whether the clock has reached that instant.
    has_passed: bool,
    what: T,
}

impl<T> Remembered<T> {
    /// Returns the entry of this id.
    pub(super) fn get(&mut self, id: &str) -> Option<&mut T> {
        let one = self.0.iter_mut().find(|one| one.id == id && !one.has_passed);
        one.map(|one| &mut one.what)
    }

    /// Returns until when an entry is remembered.
    pub(super) fn until(&self, id: &str) -> Option<i64> {
        let one = self.0.iter().find(|one| one.id == id && !one.has_passed);
        one.map(|one| one.until)
    }

    pub(super) fn insert(&mut self, id: &str, until: i64, what: T) {
        self.0.retain(|one| one.id != id);
        self.0.push(One { id: id.to_owned(), until, has_passed: false, what });
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<T> {
        let place = self.0.iter().position(|one| one.id == id && !one.has_passed)?;
        Some(self.0.swap_remove(place).what)
    }

    /// "At a bound the answer is the error `TooMany` with the time at which there is room": the earliest one, if there
    /// is no room now.
    pub(super) fn full_until(&self, most: usize) -> Option<u64> {
        let mut untils: Vec<i64> =
            self.0.iter().filter(|one| !one.has_passed).map(|one| one.until).collect();
        untils.sort_unstable();
        let above = untils.len().checked_sub(most)?;
        Some(untils.get(above).map_or(LARGEST, |until| until.unsigned_abs().min(LARGEST)))
    }

    /// Returns until when each entry is remembered.
    pub(super) fn untils(&self) -> Vec<i64> {
        self.0.iter().filter(|one| !one.has_passed).map(|one| one.until).collect()
    }

    /// Returns whether the specification says of every entry if it is remembered.
    pub(super) fn specifies_all(&self, now: i64) -> bool {
        !self.0.iter().any(|one| one.has_passed && now < one.until)
    }

    /// Returns whether the specification says if there is room for one more.
    pub(super) fn specifies_room(&self, most: usize, now: i64) -> bool {
        let perhaps = self.0.iter().filter(|one| one.has_passed && now < one.until).count();
        let certainly = self.0.iter().filter(|one| !one.has_passed).count();
        perhaps == 0 || certainly + perhaps < most
    }

    /// Returns whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|one| one.has_passed)
    }

    pub(super) fn look_at_the_clock(&mut self, now: i64) {
        for one in &mut self.0 {
            one.has_passed |= now >= one.until;
        }
    }

    /// Returns the latest instant until which any entry was to be remembered.
    pub(super) fn untils_at_most(&self) -> Option<i64> {
        self.0.iter().map(|one| one.until).max()
    }

    /// Returns the ids of entries that are remembered, perhaps after a step back.
    pub(super) fn ids_at(&self, now: i64) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |one| now < one.until).map(|one| one.id.as_str())
    }

    /// "After a step back, whether an id or a ttl that had passed holds again is unspecified."
    pub(super) fn specifies(&self, id: &str, now: i64) -> bool {
        !self.0.iter().any(|one| one.id == id && one.has_passed && now < one.until)
    }
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}
