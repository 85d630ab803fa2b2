//! A store in memory that tells which calls it got, and fails as it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use limiter::{
    AssetId, Charge, Crossing, Decision, DecisionStore, KeyConfig, KeyDigest, KeyId, KeyRecord,
    KeyStore, KeysError, MemoryHandle, MemoryStore, NewRecord, Page, RecordId, RequestId,
    ReservationError, ReservationStore, Search, Settled, StoreError, Totals, Usage, WorkspaceId,
};
use tokio::sync::Notify;

/// Clones are the same store.
#[derive(Clone, Debug)]
pub(crate) struct WatchedStore {
    store: MemoryStore,
    watched: Arc<Watched>,
}

/// How a call of a reservation goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is done, but its answer gets lost.
    AnswerLost,
    /// It is not done.
    Unavailable,
    /// It is done once [`WatchedStore::go_on`] is called.
    Waits,
    /// As the variant above, and the answer is lost.
    WaitsAndAnswerLost,
}

#[derive(Debug, Default)]
struct Watched {
    calls: Mutex<Vec<&'static str>>,
    faults: Mutex<VecDeque<Fault>>,
    go_on: Notify,
}

impl WatchedStore {
    pub(crate) fn new(store: MemoryStore) -> Self {
        Self { store, watched: Arc::default() }
    }

    /// The next calls of reservations go wrong like this, one after the other.
    pub(crate) fn fail<const N: usize>(&self, faults: [Fault; N]) {
        self.watched.faults.lock().unwrap().extend(faults);
    }

    /// Lets the call that waits be done.
    pub(crate) fn go_on(&self) {
        self.watched.go_on.notify_one();
    }

    /// How many calls of this name there were.
    pub(crate) fn calls(&self, name: &str) -> u64 {
        self.watched.calls.lock().unwrap().iter().filter(|call| **call == name).count() as u64
    }

    async fn watch<T>(
        &self,
        name: &'static str,
        step: impl FnOnce() -> Result<T, ReservationError>,
    ) -> Result<T, ReservationError> {
        self.watched.calls.lock().unwrap().push(name);
        let fault = self.watched.faults.lock().unwrap().pop_front();
        match fault {
            Some(Fault::AnswerLost) => {
                let _ = step();
                Err(StoreError::outcome_unknown("the line was cut").into())
            }
            Some(Fault::Unavailable) => Err(StoreError::unavailable("nobody listens there").into()),
            Some(Fault::Waits) => {
                self.watched.go_on.notified().await;
                step()
            }
            Some(Fault::WaitsAndAnswerLost) => {
                self.watched.go_on.notified().await;
                let _ = step();
                Err(StoreError::outcome_unknown("the line was cut").into())
            }
            None => step(),
        }
    }
}

impl ReservationStore for WatchedStore {
    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        self.watch("check_once", || self.store.check_once(key, asset, charge, id)).await
    }

    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.watch("record", || self.store.record(key, asset, charge, id)).await
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        self.watch("reserve", || self.store.reserve(key, asset, estimate, id, ttl)).await
    }

    async fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        self.watch("extend", || self.store.extend(key, id, to)).await
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        self.watch("settle", || self.store.settle(key, id, actual)).await
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        self.watch("cancel", || self.store.cancel(key, id)).await
    }
}

impl DecisionStore for WatchedStore {
    type Handle = MemoryHandle;

    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        Ok(self.store.check_and_consume(key, asset, charge))
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        Ok(self.store.peek(key, asset, charge))
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        Ok(self.store.usage(key))
    }

    async fn handle(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
    ) -> Result<Option<MemoryHandle>, StoreError> {
        Ok(self.store.handle(key, asset))
    }
}

impl KeyStore for WatchedStore {
    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        Ok(self.store.resolve(digest))
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.store.read(id))
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        self.store.create(key)
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<KeyRecord, KeysError> {
        self.store.update(workspace, id, version, config)
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.store.delete(workspace, id)
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        Ok(self.store.list(workspace, search))
    }
}
