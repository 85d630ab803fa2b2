//! Bounded memory of a store's answers, for the time when it cannot answer.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use limiter_core::{KeyDigest, KeyId, KnownKeys, RequestId};
use lru::LruCache;
use parking_lot::Mutex;

/// Access keys that were looked up, for the time when the store cannot answer.
#[derive(Debug)]
pub(crate) struct LookedUp(Mutex<LookUps>);

#[derive(Debug)]
struct LookUps {
    found: KnownKeys,
    /// Keys whose look-up failed at the record of the key: nothing shows that the key exists.
    located: KnownKeys,
}

/// The reservations that were made without the store. Of each: whether the store may have charged the call nevertheless,
/// since it was sent, and its answer was lost.
#[derive(Debug)]
pub(crate) struct Unbacked(Mutex<LruCache<(KeyId, RequestId), bool>>);

impl LookedUp {
    pub(crate) fn new(most: NonZeroUsize) -> Self {
        let cache = || KnownKeys::new(most.get(), MAX_AGE);
        Self(Mutex::new(LookUps { found: cache(), located: cache() }))
    }

    /// The id of a key that was found.
    pub(crate) fn found(&self, digest: &KeyDigest) -> Option<KeyId> {
        self.0.lock().found.get(digest, Instant::now()).map(|known| known.id)
    }

    /// The id of a key that was found or located.
    pub(crate) fn located(&self, digest: &KeyDigest) -> Option<KeyId> {
        let (mut look_ups, now) = (self.0.lock(), Instant::now());
        let LookUps { found, located } = &mut *look_ups;
        let known = found.get(digest, now).or_else(|| located.get(digest, now));
        known.map(|known| known.id)
    }

    /// Adds the id that a look-up reached before it failed.
    pub(crate) fn locate(&self, digest: &KeyDigest, id: &KeyId) {
        self.0.lock().located.insert(digest, id, Instant::now());
    }

    /// Removes all access keys of a key: this process has replaced them, or deleted the key.
    pub(crate) fn forget(&self, id: &KeyId) {
        let mut look_ups = self.0.lock();
        look_ups.found.forget(id);
        look_ups.located.forget(id);
    }

    /// Adds the store's answer. A key that is gone is removed.
    pub(crate) fn answered(&self, digest: &KeyDigest, answer: Option<&KeyId>) {
        let mut look_ups = self.0.lock();
        match answer {
            Some(id) => look_ups.found.insert(digest, id, Instant::now()),
            None => {
                look_ups.found.remove(digest);
                look_ups.located.remove(digest);
            }
        }
    }
}

impl Unbacked {
    pub(crate) fn new(most: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(most)))
    }

    pub(crate) fn remember(&self, key: &KeyId, id: &RequestId, may_stand: bool) {
        self.0.lock().put((key.clone(), id.clone()), may_stand);
    }

    /// Ends a call that certainly never reached the store, and returns whether this is one. The call stays known, but
    /// is the first to be forgotten.
    pub(crate) fn end(&self, key: &KeyId, id: &RequestId) -> bool {
        let (mut known, call) = (self.0.lock(), (key.clone(), id.clone()));
        let never_heard_of = known.peek(&call) == Some(&false);
        if never_heard_of {
            known.demote(&call);
        }
        never_heard_of
    }

    pub(crate) fn has(&self, key: &KeyId, id: &RequestId) -> bool {
        self.0.lock().contains(&(key.clone(), id.clone()))
    }
}

/// An id is used without the store only during an outage, however long that is.
const MAX_AGE: Duration = Duration::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroUsize = NonZeroUsize::MIN;

    #[test]
    fn of_too_many_reservations_the_oldest_is_forgotten() {
        let unbacked = Unbacked::new(ONE);
        let (key, [first, second]) =
            ("ci".parse().unwrap(), ["first", "second"].map(|id| id.parse().unwrap()));
        unbacked.remember(&key, &first, false);
        assert!(unbacked.has(&key, &first));
        unbacked.remember(&key, &second, false);
        assert!(unbacked.has(&key, &second) && !unbacked.has(&key, &first));
    }

    #[test]
    fn what_has_ended_is_forgotten_before_what_goes_on() {
        let unbacked = Unbacked::new(NonZeroUsize::new(2).unwrap());
        let (key, ids) = ("ci".parse().unwrap(), ["a", "b", "c"].map(|id| id.parse().unwrap()));
        unbacked.remember(&key, &ids[0], true);
        unbacked.remember(&key, &ids[1], false);
        assert!(!unbacked.end(&key, &ids[0]), "the store must end it");
        assert!(unbacked.end(&key, &ids[1]) && unbacked.end(&key, &ids[1]));
        unbacked.remember(&key, &ids[2], false);
        assert_eq!(ids.map(|id| unbacked.has(&key, &id)), [true, false, true]);
    }

    #[test]
    fn an_access_key_of_a_deleted_key_is_forgotten() {
        let look_ups = LookedUp::new(ONE);
        let access_key = limiter_core::AccessKey::new("0123456789abcdef0123456789abcdef").unwrap();
        let (digest, id): (_, KeyId) = (access_key.digest(), "ci".parse().unwrap());
        let known = || (look_ups.found(&digest), look_ups.located(&digest));
        look_ups.locate(&digest, &id);
        assert_eq!(known(), (None, Some(id.clone())));
        look_ups.answered(&digest, Some(&id));
        look_ups.locate(&digest, &id);
        assert_eq!(known(), (Some(id.clone()), Some(id)));
        look_ups.answered(&digest, None);
        assert_eq!(known(), (None, None));
        look_ups.answered(&digest, Some(&"ci".parse().unwrap()));
        look_ups.locate(&digest, &"ci".parse().unwrap());
        look_ups.forget(&"other".parse().unwrap());
        assert!(known().0.is_some());
        look_ups.forget(&"ci".parse().unwrap());
        assert_eq!(known(), (None, None));
    }
}
