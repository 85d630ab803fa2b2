//! A bounded map of values by id, each remembered for a time.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use crate::clock::Timestamp;

/// Values by id, each with its own expiry.
#[derive(Clone, Debug)]
pub(crate) struct Remembered<I, T> {
    by_id: HashMap<I, (Timestamp, T)>,
    by_time: BTreeSet<(Timestamp, I)>,
}

impl<I: Clone + Eq + Hash + Ord, T> Remembered<I, T> {
    pub(crate) fn get(&mut self, id: &I, now: Timestamp) -> Option<&mut T> {
        self.forget_until(now);
        self.by_id.get_mut(id).map(|(_, value)| value)
    }

    /// Remembers a value until a time.
    pub(crate) fn insert(&mut self, id: I, until: Timestamp, value: T) {
        if let Some((before, _)) = self.by_id.insert(id.clone(), (until, value)) {
            self.by_time.remove(&(before, id.clone()));
        }
        self.by_time.insert((until, id));
    }

    /// Returns the value, even after its time has passed.
    pub(crate) fn peek(&self, id: &I) -> Option<&T> {
        self.by_id.get(id).map(|(_, value)| value)
    }

    /// Takes the value out, even after its time has passed.
    pub(crate) fn remove(&mut self, id: &I) -> Option<(I, T)> {
        let (id, (until, value)) = self.by_id.remove_entry(id)?;
        // The set can be searched only by an owned pair.
        let entry = (until, id);
        self.by_time.remove(&entry);
        Some((entry.1, value))
    }

    /// Returns the first instant at which there is room for one more of `most`; `None` if there is room at `now`, and
    /// [`Timestamp::MAX`] if there never is.
    ///
    /// It takes time in proportion to the number of values above `most`.
    pub(crate) fn full_until(&mut self, most: usize, now: Timestamp) -> Option<Timestamp> {
        self.forget_until(now);
        let above = self.len().checked_sub(most)?;
        Some(self.by_time.iter().nth(above).map_or(Timestamp::MAX, |(until, _)| *until))
    }

    /// Returns how many values are remembered at `now`; and, if that is `most` or more, the first instant at which it is less.
    ///
    /// It takes time in proportion to the number of values that have passed or are above `most`.
    pub(crate) fn standing(&self, most: usize, now: Timestamp) -> (usize, Option<Timestamp>) {
        let in_order = || self.by_time.iter().map(|(until, _)| *until);
        let passed = in_order().take_while(|until| *until <= now).count();
        let count = self.len().saturating_sub(passed);
        let less_at = count.checked_sub(most);
        (count, less_at.and_then(|above| in_order().nth(passed.saturating_add(above))))
    }

    /// Returns until when a value is remembered.
    pub(crate) fn until(&self, id: &I) -> Option<Timestamp> {
        self.by_id.get(id).map(|(until, _)| *until)
    }

    /// Returns the first instant at which a value is forgotten.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(until, _)| *until)
    }

    /// Returns the last instant at which a value is forgotten.
    pub(crate) fn last(&self) -> Option<Timestamp> {
        self.by_time.last().map(|(until, _)| *until)
    }

    /// Shortens the time until which the id is remembered to `at_most`. A shorter time stays.
    pub(crate) fn forget_sooner(&mut self, id: &I, at_most: Timestamp) {
        if let Some((until, _)) = self.by_id.get_mut(id)
            && *until > at_most
        {
            self.by_time.remove(&(*until, id.clone()));
            *until = at_most;
            self.by_time.insert((at_most, id.clone()));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Iterates over the entries, ordered by the time until which each is remembered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&I, Timestamp, &T)> {
        let in_order = self.by_time.iter();
        in_order.filter_map(|(until, id)| Some((id, *until, &self.by_id.get(id)?.1)))
    }

    /// Iterates over all entries, in the fastest order.
    pub(crate) fn unordered(&self) -> impl ExactSizeIterator<Item = (&I, Timestamp, &T)> {
        self.by_id.iter().map(|(id, (until, value))| (id, *until, value))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Forgets expired values. Each value is removed once, so that on average a call removes no more than it adds.
    pub(crate) fn forget_until(&mut self, now: Timestamp) {
        while let Some((until, _)) = self.by_time.first()
            && *until <= now
            && let Some((_, id)) = self.by_time.pop_first()
        {
            self.by_id.remove(&id);
        }
        // A table that was full once would keep its size for ever. Half of the new size stays free for values to come.
        if self.by_id.capacity() / SPARSE > self.by_id.len() {
            self.by_id.shrink_to(self.by_id.len().saturating_mul(2));
        }
    }
}

impl<I, T> Default for Remembered<I, T> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), by_time: BTreeSet::new() }
    }
}

impl<I: Eq + Hash + Ord, T: PartialEq> PartialEq for Remembered<I, T> {
    fn eq(&self, other: &Self) -> bool {
        (&self.by_id, &self.by_time) == (&other.by_id, &other.by_time)
    }
}

impl<I: Eq + Hash + Ord, T: Eq> Eq for Remembered<I, T> {}

/// A table shrinks once fewer than one in this many places is used: rare enough not to shrink often.
const SPARSE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::RequestId;

    fn id(text: &str) -> RequestId {
        text.parse().unwrap()
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn what_has_passed_is_forgotten_and_what_is_taken_out_takes_its_time_along() {
        let mut remembered = Remembered::default();
        remembered.insert(id("b"), at(20), 2);
        remembered.insert(id("a"), at(10), 1);
        assert_eq!(remembered.get(&id("a"), at(9)), Some(&mut 1));
        assert_eq!(remembered.get(&id("a"), at(10)), None);
        assert_eq!(remembered.len(), 1);
        assert_eq!(remembered.remove(&id("b")), Some((id("b"), 2)));
        assert_eq!(remembered.remove(&id("b")), None);
        assert_eq!((remembered.first(), remembered.len()), (None, 0));
    }

    #[test]
    fn what_is_remembered_again_until_the_same_time_is_forgotten_then() {
        let mut remembered = Remembered::default();
        remembered.insert(id("a"), at(10), 1);
        remembered.insert(id("a"), at(10), 2);
        assert_eq!(
            (remembered.first(), remembered.get(&id("a"), at(9))),
            (Some(at(10)), Some(&mut 2))
        );
        assert_eq!(remembered.get(&id("a"), at(10)), None);
    }

    #[test]
    fn there_is_room_when_as_many_have_gone_as_exceed_the_bound() {
        let mut remembered = Remembered::default();
        for until in [40, 20, 30, 10] {
            remembered.insert(id(&until.to_string()), at(until), ());
        }
        let mut full_until = |most, now| remembered.full_until(most, at(now));
        assert_eq!(full_until(5, 9), None);
        assert_eq!(full_until(4, 9), Some(at(10)));
        assert_eq!(full_until(2, 9), Some(at(30)));
        assert_eq!(full_until(2, 29), Some(at(30)));
        assert_eq!(full_until(2, 30), None);
        assert_eq!(full_until(0, 30), Some(Timestamp::MAX));
    }

    #[test]
    fn how_many_stand_does_not_count_those_that_have_passed() {
        let mut remembered = Remembered::default();
        for until in [40, 20, 30, 10] {
            remembered.insert(id(&until.to_string()), at(until), ());
        }
        let standing = |most, now| remembered.standing(most, at(now));
        assert_eq!(standing(5, 9), (4, None));
        assert_eq!(standing(4, 9), (4, Some(at(10))));
        assert_eq!(standing(2, 9), (4, Some(at(30))));
        assert_eq!(standing(2, 10), (3, Some(at(30))));
        assert_eq!(standing(2, 30), (1, None));
        assert_eq!(standing(0, 9), (4, None), "there are never fewer than none");
        assert_eq!(remembered.len(), 4, "looking forgets nothing");
    }

    #[test]
    fn what_was_many_takes_little_room_when_it_has_passed() {
        let mut remembered = Remembered::default();
        for number in 0..1_000 {
            remembered.insert(id(&number.to_string()), at(10), ());
        }
        remembered.insert(id("stays"), at(11), ());
        assert!(remembered.get(&id("stays"), at(10)).is_some());
        assert!(remembered.by_id.capacity() < 16, "{}", remembered.by_id.capacity());
    }

    #[test]
    fn what_may_be_forgotten_sooner_is_and_nothing_is_kept_longer() {
        let mut remembered = Remembered::default();
        remembered.insert(id("a"), at(20), 1);
        remembered.forget_sooner(&id("a"), at(30));
        assert_eq!(remembered.get(&id("a"), at(19)), Some(&mut 1));
        remembered.forget_sooner(&id("a"), at(10));
        assert_eq!(remembered.get(&id("a"), at(10)), None);
        assert!(remembered.is_empty() && remembered.by_time.is_empty());
    }
}
