//! What this process goes on with by itself: the keys whose limits it knows.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use limiter_core::{
    AssetId, Charge, KeyId, KeyRecord, LedgerBounds, RequestId, ReservationError, Store, Timestamp,
    Usage,
};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::asking::{Asking, Effect};
use crate::error::CallError;
use crate::here::{Here, Learned};
use crate::share::Share;

/// The keys that are followed, so that this process can go on with them, and what they owe the store.
///
/// One lock guards them all; it is held for one decision and never across a call of the store.
#[derive(Debug)]
pub(crate) struct Local {
    share: Share,
    bounds: LedgerBounds,
    keys: Mutex<Keys>,
    /// How many may learn at a time.
    pub(crate) learning: Arc<Semaphore>,
}

#[derive(Debug)]
struct Keys {
    followed: LruCache<KeyId, Followed>,
    owing: HashSet<KeyId>,
}

#[derive(Debug)]
struct Followed {
    asked_at: Instant,
    learned: Option<Arc<Learned>>,
    here: Option<Box<Here>>,
}

impl Local {
    pub(crate) fn new(share: Share, most: NonZeroUsize) -> Self {
        let keys = Keys { followed: LruCache::new(most), owing: HashSet::new() };
        let bounds = LedgerBounds { most: most.get(), ..LedgerBounds::default() };
        let learning = Arc::new(Semaphore::new(MOST_LEARNING));
        Self { share, bounds, keys: Mutex::new(keys), learning }
    }

    /// Does something with a key by the time of this process, if its limits are known.
    pub(crate) fn with<T>(
        &self,
        key: &KeyId,
        act: impl FnOnce(&mut Here, Timestamp) -> T,
    ) -> Option<T> {
        let now = Timestamp::from(SystemTime::now());
        let mut keys = self.keys.lock();
        let Keys { followed, owing } = &mut *keys;
        let Followed { learned, here, .. } = followed.get_mut(key)?;
        let learned = learned.as_ref()?;
        let here =
            here.get_or_insert_with(|| Box::new(Here::new(self.share, learned, self.bounds, now)));
        here.learn(learned, now);
        let acted = act(here, now);
        if here.owes() && !owing.contains(key) {
            owing.insert(key.clone());
        }
        Some(acted)
    }

    pub(crate) fn knows(&self, key: &KeyId) -> bool {
        self.keys.lock().followed.peek(key).is_some_and(|followed| followed.learned.is_some())
    }

    /// Does something with a call that was reserved here.
    pub(crate) fn with_reserved<T>(
        &self,
        key: &KeyId,
        id: &RequestId,
        act: impl FnOnce(&mut Here, Timestamp) -> T,
    ) -> Option<T> {
        self.with(key, |here, now| here.has_reserved(id).then(|| act(here, now))).flatten()
    }

    /// Whether it is time to learn about a key that has just made a call.
    pub(crate) fn wants(&self, key: &KeyId) -> bool {
        let mut keys = self.keys.lock();
        if let Some(followed) = keys.followed.get_mut(key) {
            let due = followed.asked_at.elapsed() >= LEARN_EVERY;
            if due {
                followed.asked_at = Instant::now();
            }
            return due;
        }
        // A key that owes something is not let go for another.
        let Keys { followed, owing } = &mut *keys;
        let is_full = followed.len() == followed.cap().get();
        if is_full && followed.peek_lru().is_some_and(|(oldest, _)| owing.contains(oldest)) {
            return false;
        }
        let asked_at = Instant::now();
        followed.put(key.clone(), Followed { asked_at, learned: None, here: None });
        true
    }

    /// Takes what the store says of a key. One that does not exist is not followed.
    pub(crate) fn learn(&self, key: &KeyId, record: Option<KeyRecord>, usage: Option<Usage>) {
        let mut keys = self.keys.lock();
        match (record, usage, keys.followed.get_mut(key)) {
            (Some(record), Some(usage), Some(followed)) => {
                let left = usage.credits.remaining();
                followed.learned = Some(Arc::new(Learned { record, left }));
            }
            (None, _, _) => keys.forget(key),
            _ => {}
        }
    }

    /// Learning failed: the next call tries again.
    pub(crate) fn learned_nothing(&self, key: &KeyId) {
        if let Some(followed) = self.keys.lock().followed.get_mut(key)
            && let Some(before) = Instant::now().checked_sub(LEARN_EVERY)
        {
            followed.asked_at = before;
        }
    }

    /// The store says that there is no such key, or no longer.
    pub(crate) fn forget(&self, key: &KeyId) {
        self.keys.lock().forget(key);
    }

    pub(crate) fn owes_nothing(&self) -> bool {
        self.keys.lock().owing.is_empty()
    }

    /// Charges what was allowed here to the store, until nothing is left or it fails again.
    pub(crate) async fn pay<S: Store>(&self, asking: &Arc<Asking<S>>) {
        while let Some((key, payment)) = self.next_payment() {
            let Some((asset, id, charge)) = payment else { return };
            let record = |store| S::record(store, &key, asset.as_ref(), &charge, &id);
            match asking.ask(&key, Effect::Charges, record).await {
                Ok(crossed) => {
                    self.confirm(&key, &asset);
                    asking.crossed(&key, &crossed);
                }
                Err(ReservationError::KeyUnknown) => self.forget(&key),
                Err(error) if error.is_outage() => return,
                Err(error) => {
                    tracing::warn!(%key, %error, "what was allowed without the store is not charged yet");
                    return;
                }
            }
        }
    }

    /// The next key that owes something, and what to tell the store; nothing if no id can be drawn.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn next_payment(&self) -> Option<(KeyId, Option<(Option<AssetId>, RequestId, Charge)>)> {
        let mut keys = self.keys.lock();
        loop {
            let Keys { followed, owing } = &mut *keys;
            let key = owing.iter().next()?.clone();
            // `peek`, since to pay is not to be in use.
            match followed.peek_mut(&key).and_then(|followed| followed.here.as_mut()) {
                Some(here) if here.owes() => return Some((key, here.send(new_id))),
                _ => drop(owing.remove(&key)),
            }
        }
    }

    fn confirm(&self, key: &KeyId, asset: &Option<AssetId>) {
        if let Some(here) =
            self.keys.lock().followed.peek_mut(key).and_then(|key| key.here.as_mut())
        {
            here.confirm(asset);
        }
    }
}

impl<S: Store> Asking<S> {
    /// Asks the store about a key that is followed: its limits, and what is left of its budget.
    pub(crate) async fn learn(self: &Arc<Self>, key: &KeyId) {
        let Some(local) = &self.local else { return };
        let record = self.ask(key, Effect::Reads, |store| S::read(store, key)).await;
        let usage = self.ask(key, Effect::Reads, |store| S::usage(store, key)).await;
        match (record, usage) {
            (Ok(record), Ok(usage)) => local.learn(key, record, usage),
            _ => local.learned_nothing(key),
        }
    }
}

impl Keys {
    fn forget(&mut self, key: &KeyId) {
        self.followed.pop(key);
        self.owing.remove(key);
    }
}

/// An id that nobody else draws: 128 random bits.
fn new_id() -> Option<RequestId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    RequestId::new(format!("outage-{:032x}", u128::from_be_bytes(bytes))).ok()
}

/// Limits change rarely, and two reads of a key each minute cost nothing.
const LEARN_EVERY: Duration = Duration::from_secs(60);
/// Enough to follow a thousand keys within a second, and a small part of what a store does at a time.
const MOST_LEARNING: usize = 16;
