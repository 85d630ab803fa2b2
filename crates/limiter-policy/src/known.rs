//! What is remembered of a store for the time when it cannot answer, and never more than so much.

use std::num::NonZeroUsize;

use limiter_core::{KeyDigest, KeyId, RequestId};
use lru::LruCache;
use parking_lot::Mutex;

/// Ids of the access keys that were looked up, by digest. The id never changes, and no other key gets it.
#[derive(Debug)]
pub(crate) struct KnownKeys(Mutex<LruCache<KeyDigest, KnownKey>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownKey {
    pub(crate) id: KeyId,
    /// False if the look-up failed at the record of the key: nothing shows that the key exists.
    pub(crate) found: bool,
}

/// The reservations that were made without the store.
#[derive(Debug)]
pub(crate) struct Unbacked(Mutex<LruCache<(KeyId, RequestId), MayStand>>);

/// Whether the store may have charged a call nevertheless: the call was sent, and its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayStand {
    Yes,
    No,
}

impl KnownKeys {
    pub(crate) fn new(most: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(most)))
    }

    pub(crate) fn get(&self, digest: &KeyDigest) -> Option<KnownKey> {
        self.0.lock().get(digest).cloned()
    }

    /// Remembers the id that the look-up of an access key reached before it failed.
    pub(crate) fn came_to(&self, digest: &KeyDigest, id: &KeyId) {
        let mut known = self.0.lock();
        if !known.contains(digest) {
            known.put(*digest, KnownKey { id: id.clone(), found: false });
        }
    }

    /// Remembers what the store has answered: a key that is gone is forgotten.
    pub(crate) fn heard(&self, digest: &KeyDigest, found: Option<&KeyId>) {
        let mut known = self.0.lock();
        match found {
            Some(id) if known.get(digest).is_some_and(|known| known.found && known.id == *id) => {}
            Some(id) => drop(known.put(*digest, KnownKey { id: id.clone(), found: true })),
            None => drop(known.pop(digest)),
        }
    }
}

impl Unbacked {
    pub(crate) fn new(most: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(most)))
    }

    pub(crate) fn remember(&self, key: &KeyId, id: &RequestId, may_stand: MayStand) {
        self.0.lock().put((key.clone(), id.clone()), may_stand);
    }

    /// Ends a call that certainly never reached the store, and returns whether this is one. The call stays known, but
    /// is the first to be forgotten.
    pub(crate) fn end(&self, key: &KeyId, id: &RequestId) -> bool {
        let (mut known, call) = (self.0.lock(), (key.clone(), id.clone()));
        let never_heard_of = known.peek(&call) == Some(&MayStand::No);
        if never_heard_of {
            known.demote(&call);
        }
        never_heard_of
    }

    pub(crate) fn has(&self, key: &KeyId, id: &RequestId) -> bool {
        self.0.lock().contains(&(key.clone(), id.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroUsize = NonZeroUsize::MIN;

    #[test]
    fn of_too_many_reservations_the_oldest_is_forgotten() {
        let unbacked = Unbacked::new(ONE);
        let (key, [first, second]) =
            ("ci".parse().unwrap(), ["first", "second"].map(|id| id.parse().unwrap()));
        unbacked.remember(&key, &first, MayStand::No);
        assert!(unbacked.has(&key, &first));
        unbacked.remember(&key, &second, MayStand::No);
        assert!(unbacked.has(&key, &second) && !unbacked.has(&key, &first));
    }

    #[test]
    fn what_has_ended_is_forgotten_before_what_goes_on() {
        let unbacked = Unbacked::new(NonZeroUsize::new(2).unwrap());
        let (key, ids) = ("ci".parse().unwrap(), ["a", "b", "c"].map(|id| id.parse().unwrap()));
        unbacked.remember(&key, &ids[0], MayStand::Yes);
        unbacked.remember(&key, &ids[1], MayStand::No);
        assert!(!unbacked.end(&key, &ids[0]), "the store is to be told");
        assert!(unbacked.end(&key, &ids[1]) && unbacked.end(&key, &ids[1]));
        unbacked.remember(&key, &ids[2], MayStand::No);
        assert_eq!(ids.map(|id| unbacked.has(&key, &id)), [true, false, true]);
    }

    #[test]
    fn an_access_key_of_a_deleted_key_is_forgotten() {
        let known = KnownKeys::new(ONE);
        let access_key = limiter_core::AccessKey::new("0123456789abcdef0123456789abcdef").unwrap();
        let (digest, id): (_, KeyId) = (access_key.digest(), "ci".parse().unwrap());
        known.came_to(&digest, &id);
        assert_eq!(known.get(&digest), Some(KnownKey { id: id.clone(), found: false }));
        known.heard(&digest, Some(&id));
        known.came_to(&digest, &id);
        assert_eq!(known.get(&digest), Some(KnownKey { id, found: true }));
        known.heard(&digest, None);
        assert_eq!(known.get(&digest), None);
    }
}
