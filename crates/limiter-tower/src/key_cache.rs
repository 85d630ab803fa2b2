//! Which key an access key belongs to, for those that were seen before: it never changes.

use std::fmt;

use limiter::KeyId;
use parking_lot::Mutex;
use siphasher::sip128::SipHasher24;

/// A bounded memory of access keys that belong to keys.
///
/// It saves the digest of an access key, and on Redis a round trip. Whether the key still lives is decided in the step
/// itself, so that nothing here can be out of date. Misses are not remembered: a flood of made-up access keys displaces
/// nothing.
///
/// No access key is kept, but a tag of it: SipHash-2-4 with 128 bits under a key that this process drew. Its authors made
/// it a MAC of short messages: to whom the key is unknown, finding a text with the tag of another takes about as many
/// tries as guessing an access key. Tags cannot be predicted from outside, so the time of a comparison tells nothing.
pub(crate) struct KeyCache {
    hasher: SipHasher24,
    buckets: Box<[Mutex<Bucket>]>,
}

/// The tag of an access key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tag(u128);

/// Where tags that begin alike are; the oldest goes when a new one comes.
#[derive(Default)]
struct Bucket {
    entries: [Option<(u128, KeyId)>; WAYS],
    oldest: usize,
}

impl KeyCache {
    /// Room for about so many access keys; `None` if there is to be none, or no random key can be drawn.
    pub(crate) fn with_capacity(access_keys: usize) -> Option<Self> {
        if access_keys == 0 {
            return None;
        }
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).ok()?;
        let buckets = access_keys.min(MOST_ACCESS_KEYS).div_ceil(WAYS).next_power_of_two();
        Some(Self {
            hasher: SipHasher24::new_with_key(&secret),
            buckets: (0..buckets).map(|_| Mutex::default()).collect(),
        })
    }

    pub(crate) fn tag(&self, access_key: &[u8]) -> Tag {
        Tag(self.hasher.hash(access_key).as_u128())
    }

    pub(crate) fn get(&self, tag: Tag) -> Option<KeyId> {
        let bucket = self.bucket(tag).lock();
        let mut entries = bucket.entries.iter().flatten();
        entries.find(|(known, _)| *known == tag.0).map(|(_, key)| key.clone())
    }

    pub(crate) fn insert(&self, tag: Tag, key: KeyId) {
        let mut bucket = self.bucket(tag).lock();
        // Two calls that came at once may both have missed.
        if bucket.entries.iter().flatten().any(|(known, _)| *known == tag.0) {
            return;
        }
        let oldest = bucket.oldest;
        bucket.entries[oldest] = Some((tag.0, key));
        bucket.oldest = (oldest + 1) % WAYS;
    }

    /// Tags are uniform, so that any of their bits will do.
    fn bucket(&self, tag: Tag) -> &Mutex<Bucket> {
        let index = tag.0 as usize & (self.buckets.len() - 1);
        &self.buckets[index]
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").field("capacity", &(self.buckets.len() * WAYS)).finish()
    }
}

/// Few enough to be looked at one after the other, enough that keys in use rarely displace each other.
const WAYS: usize = 4;

/// 50 MB of tags and ids.
const MOST_ACCESS_KEYS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> KeyId {
        name.parse().unwrap()
    }

    #[test]
    fn what_was_seen_is_known_and_nothing_else() {
        let cache = KeyCache::with_capacity(64).unwrap();
        let tag = cache.tag(b"an-access-key-of-ci");
        assert_eq!(cache.get(tag), None);
        cache.insert(tag, key("ci"));
        assert_eq!(cache.get(tag), Some(key("ci")));
        assert_eq!(cache.get(cache.tag(b"an-access-key-of-cI")), None);
    }

    #[test]
    fn a_full_bucket_forgets_the_oldest_first() {
        let cache = KeyCache::with_capacity(1).unwrap();
        let tags: Vec<Tag> = (0..=WAYS as u128).map(Tag).collect();
        for (index, tag) in tags.iter().enumerate() {
            cache.insert(*tag, key(&format!("key {index}")));
        }
        assert_eq!(cache.get(tags[0]), None);
        assert!(tags[1..].iter().all(|tag| cache.get(*tag).is_some()));
    }

    #[test]
    fn two_processes_tag_the_same_access_key_differently() {
        let [one, other] = [(); 2].map(|()| KeyCache::with_capacity(1).unwrap());
        assert_ne!(one.tag(b"an-access-key-of-ci").0, other.tag(b"an-access-key-of-ci").0);
    }

    #[test]
    fn a_cache_may_be_left_out() {
        assert!(KeyCache::with_capacity(0).is_none());
    }
}
