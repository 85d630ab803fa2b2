//! The guarded store: a store of any kind, and what to answer when it cannot.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use limiter_core::{
    AssetId, Charge, Decision, DecisionStore, KeyConfig, KeyDigest, KeyId, KeyRecord, KeyStore,
    KeysError, NewRecord, Page, RequestId, ReservationError, ReservationStore, Search, Store,
    StoreError, Timestamp, Totals, Usage, WorkspaceId,
};

use crate::asking::{Asking, Effect};
use crate::breaker::BreakerState;
use crate::error::CallError;
use crate::handle::GuardedHandle;
use crate::known::{KnownKeys, Unbacked};
use crate::later::Ended;
use crate::policy::FailurePolicy;

/// A store, and what is answered when it cannot: by the [`FailurePolicy`], at the latest after a deadline.
///
/// Made by a [`GuardedStoreBuilder`](crate::GuardedStoreBuilder). A clone is the same store. It works on a tokio runtime whose timer is on.
pub struct GuardedStore<S: Store> {
    asking: Arc<Asking<S>>,
    policy: FailurePolicy,
    known_keys: Arc<KnownKeys>,
    unbacked: Arc<Unbacked>,
}

impl<S: Store> GuardedStore<S> {
    /// The store, if it is or has been there.
    #[must_use]
    pub fn inner(&self) -> Option<&S> {
        self.asking.store.get()
    }

    /// Whether the store is asked.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        self.asking.breaker.lock().state()
    }

    /// How many ends of reservations the store is yet to be told.
    #[must_use]
    pub fn untold(&self) -> usize {
        self.asking.later.len()
    }

    pub(crate) fn new(
        policy: FailurePolicy,
        asking: Arc<Asking<S>>,
        most_remembered: NonZeroUsize,
    ) -> Self {
        Self {
            asking,
            policy,
            known_keys: Arc::new(KnownKeys::new(most_remembered)),
            unbacked: Arc::new(Unbacked::new(most_remembered)),
        }
    }

    pub(crate) const fn asking(&self) -> &Arc<Asking<S>> {
        &self.asking
    }

    pub(crate) fn fails_open(&self) -> bool {
        self.policy == FailurePolicy::FailOpen
    }

    /// The store's answer, or that of the policy if there is none.
    pub(crate) fn or_policy<E: CallError>(
        &self,
        asked: Result<Decision, E>,
    ) -> Result<Decision, E> {
        match asked {
            Err(error) if error.is_outage() && self.fails_open() => Ok(unchecked()),
            asked => asked,
        }
    }

    /// Tells the store how a reservation has ended, now or, if the policy goes on without it, later.
    async fn end(&self, ended: Ended) -> Result<(), ReservationError> {
        match ended.tell(&self.asking).await {
            Err(error) if error.is_outage() && self.fails_open() => {
                let kept = self.asking.later.keep(ended);
                self.asking.recover();
                if kept { Ok(()) } else { Err(error) }
            }
            Err(ReservationError::Unknown(_)) if self.unbacked.has(&ended.key, &ended.id) => Ok(()),
            told => told,
        }
    }
}

impl<S: Store> DecisionStore for GuardedStore<S> {
    type Handle = GuardedHandle<S>;

    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        let call = |store| S::check_and_consume(store, key, asset, charge);
        self.or_policy(self.asking.ask(Effect::Charges, call).await)
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        let call = |store| S::peek(store, key, asset, charge);
        self.or_policy(self.asking.ask(Effect::Reads, call).await)
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        self.asking.ask(Effect::Reads, |store| S::usage(store, key)).await
    }

    async fn handle(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
    ) -> Result<Option<GuardedHandle<S>>, StoreError> {
        let handle = |resolved| GuardedHandle::new(self.clone(), key, asset, resolved);
        match self.asking.ask(Effect::Reads, |store| S::handle(store, key, asset)).await {
            Ok(found) => Ok(found.map(|found| handle(Some(found)))),
            Err(error) if error.is_outage() && self.fails_open() => Ok(Some(handle(None))),
            Err(error) => Err(error),
        }
    }
}

impl<S: Store> ReservationStore for GuardedStore<S> {
    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        let call = |store| S::check_once(store, key, asset, charge, id);
        self.or_policy(self.asking.ask(Effect::Charges, call).await)
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        let call = |store| S::reserve(store, key, asset, estimate, id, ttl);
        let decision = self.or_policy(self.asking.ask(Effect::Charges, call).await)?;
        if decision.is_degraded() {
            self.unbacked.remember(key, id);
        }
        Ok(decision)
    }

    async fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        let call = |store| S::extend(store, key, id, to);
        match self.or_policy(self.asking.ask(Effect::Charges, call).await) {
            Err(ReservationError::Unknown(_)) if self.unbacked.has(key, id) => Ok(unchecked()),
            extended => extended,
        }
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<(), ReservationError> {
        self.end(Ended { key: key.clone(), id: id.clone(), actual: Some(*actual) }).await
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<(), ReservationError> {
        self.end(Ended { key: key.clone(), id: id.clone(), actual: None }).await
    }
}

/// Managing keys is an error while the store cannot answer, under every policy. An access key that was found before is
/// still found if the policy goes on without the store.
impl<S: Store> KeyStore for GuardedStore<S> {
    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        let asked = self.asking.ask(Effect::Reads, |store| S::resolve(store, digest)).await;
        if !self.fails_open() {
            return asked;
        }
        match asked {
            Ok(found) => {
                self.known_keys.heard(digest, found.as_ref());
                Ok(found)
            }
            Err(error) if error.is_outage() => self.known_keys.get(digest).map(Some).ok_or(error),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.asking.ask(Effect::Reads, |store| S::read(store, id)).await
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        self.asking.ask(Effect::ChangesKeys, |store| S::create(store, key)).await
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<KeyRecord, KeysError> {
        let call = |store| S::update(store, workspace, id, version, config);
        self.asking.ask(Effect::ChangesKeys, call).await
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.asking.ask(Effect::ChangesKeys, |store| S::delete(store, workspace, id)).await
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        self.asking.ask(Effect::Reads, |store| S::list(store, workspace, search)).await
    }
}

impl<S: Store> Clone for GuardedStore<S> {
    fn clone(&self) -> Self {
        Self {
            asking: Arc::clone(&self.asking),
            policy: self.policy,
            known_keys: Arc::clone(&self.known_keys),
            unbacked: Arc::clone(&self.unbacked),
        }
    }
}

/// Without what it remembers: a store may have many keys.
impl<S: Store> std::fmt::Debug for GuardedStore<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedStore")
            .field("policy", &self.policy)
            .field("asking", &self.asking)
            .finish_non_exhaustive()
    }
}

/// Let through by the policy, at the time of this process.
fn unchecked() -> Decision {
    Decision::unchecked(Timestamp::from(SystemTime::now()))
}
