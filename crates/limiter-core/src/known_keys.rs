//! A bounded cache of the keys that access keys belong to.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use crate::access_key::KeyDigest;
use crate::names::KeyId;

/// A bounded cache from the digests of access keys to the ids of their keys, for one process.
///
/// It saves a look-up in the store. An id is never used again, and each call checks that its key still lives. So only a
/// replaced or deleted access key can leave a stale entry, for at most the maximum age. Misses are not cached: a flood
/// of made-up access keys evicts nothing.
///
/// Entries are in two generations. When the younger one is full, the older one is dropped; an entry that is used moves
/// to the younger one. So an entry in use stays, and no order of use has to be kept.
pub struct KnownKeys {
    max_age: Duration,
    /// The most entries of each generation.
    generation: usize,
    young: HashMap<KeyDigest, Entry>,
    old: HashMap<KeyDigest, Entry>,
}

/// A key in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Its id.
    pub id: KeyId,
    /// Whether the entry is younger than the maximum age. Otherwise the store has to be asked again.
    pub is_fresh: bool,
}

struct Entry {
    id: KeyId,
    found_at: Instant,
}

impl KnownKeys {
    /// The maximum age for requests: 1 s. A replaced or deleted access key identifies its key for no longer than that.
    pub const MAX_AGE: Duration = Duration::from_secs(1);

    /// Creates a cache of at most this many entries, but at least two. They are fresh until the maximum age.
    #[must_use]
    pub fn new(capacity: usize, max_age: Duration) -> Self {
        let generation = (capacity / 2).max(1);
        Self { max_age, generation, young: HashMap::new(), old: HashMap::new() }
    }

    /// Finds the key of an access key.
    pub fn get(&mut self, digest: &KeyDigest, now: Instant) -> Option<KnownKey> {
        if let Some(entry) = self.old.remove(digest) {
            self.add(*digest, entry);
        }
        let Entry { id, found_at } = self.young.get(digest)?;
        let is_fresh = now.saturating_duration_since(*found_at) < self.max_age;
        Some(KnownKey { id: id.clone(), is_fresh })
    }

    /// Adds an answer of the store at `now`.
    pub fn insert(&mut self, digest: &KeyDigest, id: &KeyId, now: Instant) {
        match self.young.get_mut(digest) {
            Some(known) if known.id == *id => known.found_at = now,
            _ => {
                self.old.remove(digest);
                self.add(*digest, Entry { id: id.clone(), found_at: now });
            }
        }
    }

    /// Removes an access key that belongs to no key any longer.
    pub fn remove(&mut self, digest: &KeyDigest) {
        self.young.remove(digest);
        self.old.remove(digest);
    }

    /// Removes all access keys of a key, such as one whose access key was replaced by this process.
    pub fn forget(&mut self, id: &KeyId) {
        for known in [&mut self.young, &mut self.old] {
            known.retain(|_, entry| entry.id != *id);
        }
    }

    fn add(&mut self, digest: KeyDigest, entry: Entry) {
        if self.young.len() >= self.generation {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert(digest, entry);
    }
}

/// Formats without the entries, which may be many.
impl fmt::Debug for KnownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.young.len().saturating_add(self.old.len());
        f.debug_struct("KnownKeys")
            .field("max_age", &self.max_age)
            .field("entries", &entries)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an instant cannot be made otherwise")]
mod tests {
    use super::*;
    use crate::access_key::AccessKey;

    fn digest(number: usize) -> KeyDigest {
        AccessKey::new(format!("access-key-{number:05}")).unwrap().digest()
    }

    fn id(number: usize) -> KeyId {
        format!("key-{number}").parse().unwrap()
    }

    fn known(cache: &mut KnownKeys, number: usize, now: Instant) -> Option<KeyId> {
        cache.get(&digest(number), now).map(|known| known.id)
    }

    #[test]
    fn an_entry_is_fresh_until_the_maximum_age_and_found_until_it_is_removed() {
        let (mut cache, now) = (KnownKeys::new(10, KnownKeys::MAX_AGE), Instant::now());
        assert_eq!(cache.get(&digest(1), now), None);
        cache.insert(&digest(1), &id(1), now);
        let mut after_ms = |ms| cache.get(&digest(1), now + Duration::from_millis(ms));
        assert_eq!(after_ms(999), Some(KnownKey { id: id(1), is_fresh: true }));
        assert_eq!(after_ms(1_000), Some(KnownKey { id: id(1), is_fresh: false }));
        cache.insert(&digest(1), &id(1), now + KnownKeys::MAX_AGE);
        let again = cache.get(&digest(1), now + KnownKeys::MAX_AGE);
        assert!(again.is_some_and(|known| known.is_fresh));
        cache.insert(&digest(1), &id(2), now);
        assert_eq!(known(&mut cache, 1, now), Some(id(2)), "the store's answer replaces the entry");
        cache.remove(&digest(1));
        assert_eq!(known(&mut cache, 1, now), None);
    }

    #[test]
    fn a_key_is_forgotten_with_all_its_access_keys() {
        // Two of each generation.
        let (mut cache, now) = (KnownKeys::new(4, KnownKeys::MAX_AGE), Instant::now());
        for (number, key) in [(1, 7), (2, 8), (3, 7), (4, 8)] {
            cache.insert(&digest(number), &id(key), now);
        }
        cache.forget(&id(7));
        let left = [1, 2, 3, 4].map(|number| known(&mut cache, number, now));
        assert_eq!(left, [None, Some(id(8)), None, Some(id(8))]);
    }

    #[test]
    fn the_number_of_entries_is_bounded_and_those_in_use_stay() {
        let (mut cache, now) = (KnownKeys::new(10, KnownKeys::MAX_AGE), Instant::now());
        for number in 0..100 {
            cache.insert(&digest(number), &id(number), now);
            assert_eq!(known(&mut cache, 0, now), Some(id(0)), "after {number} others");
            assert_eq!(known(&mut cache, number, now), Some(id(number)));
            assert!(cache.young.len() + cache.old.len() <= 10);
        }
        assert_eq!(known(&mut cache, 50, now), None);
        let access_key = AccessKey::new("access-key-00099").unwrap();
        assert!(!format!("{cache:?}").contains(access_key.expose()));
    }
}
