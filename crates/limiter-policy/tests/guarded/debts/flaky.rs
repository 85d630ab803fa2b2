//! A store in memory with injected faults: it goes away, loses answers and refuses. Clones share it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    AssetId, Charge, Crossing, Decision, DecisionStore, KeyConfig, KeyDigest, KeyId, KeyRecord,
    KeyStore, KeysError, NewRecord, Page, RecordId, RequestId, ReservationError, ReservationStore,
    Search, Settled, StoreError, Totals, Usage, WorkspaceId,
};
use limiter_memory::{MemoryHandle, MemoryStore};
use parking_lot::Mutex;

#[derive(Clone, Debug)]
pub(crate) struct Flaky {
    pub(crate) inner: MemoryStore,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Default)]
struct Faults {
    is_away: bool,
    loses_answers: bool,
    damaged: HashSet<KeyId>,
    records: Vec<(KeyId, RequestId)>,
}

impl Flaky {
    pub(crate) fn new(inner: MemoryStore) -> Self {
        Self { inner, faults: Arc::default() }
    }

    pub(crate) fn goes_away(&self) {
        self.faults.lock().is_away = true;
    }

    pub(crate) fn comes_back(&self) {
        let mut faults = self.faults.lock();
        (faults.is_away, faults.loses_answers) = (false, false);
    }

    /// Loses answers from now on: it answers probes and makes charges, but no answer to a charge arrives.
    pub(crate) fn loses_answers(&self) {
        let mut faults = self.faults.lock();
        (faults.is_away, faults.loses_answers) = (false, true);
    }

    pub(crate) fn damages(&self, key: &KeyId) {
        self.faults.lock().damaged.insert(key.clone());
    }

    pub(crate) fn repairs(&self, key: &KeyId) {
        self.faults.lock().damaged.remove(key);
    }

    /// The ids of this key's records that the store was asked to count.
    pub(crate) fn recorded(&self, key: &KeyId) -> Vec<RequestId> {
        let faults = self.faults.lock();
        let of_key = faults.records.iter().filter(|(of, _)| of == key);
        of_key.map(|(_, id)| id.clone()).collect()
    }

    fn is_there(&self) -> Result<(), StoreError> {
        match self.faults.lock().is_away {
            true => Err(StoreError::unavailable("the store is away")),
            false => Ok(()),
        }
    }

    /// Checks that the record of this key can be read.
    fn has(&self, key: &KeyId) -> Result<(), StoreError> {
        self.is_there()?;
        match self.faults.lock().damaged.contains(key) {
            true => Err(StoreError::Corrupt("the record is damaged".into())),
            false => Ok(()),
        }
    }

    /// Returns the answer, unless answers are lost.
    fn answer<T>(&self, answer: T) -> Result<T, StoreError> {
        match self.faults.lock().loses_answers {
            true => Err(StoreError::outcome_unknown("the connection broke")),
            false => Ok(answer),
        }
    }
}

impl DecisionStore for Flaky {
    type Handle = MemoryHandle;

    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        self.has(key)?;
        self.answer(self.inner.check_and_consume(key, asset, charge))
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        self.has(key)?;
        Ok(self.inner.peek(key, asset, charge))
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        self.has(key)?;
        Ok(self.inner.usage(key))
    }

    async fn handle(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
    ) -> Result<Option<MemoryHandle>, StoreError> {
        self.has(key)?;
        Ok(self.inner.handle(key, asset))
    }
}

impl ReservationStore for Flaky {
    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        self.has(key)?;
        self.answer(self.inner.check_once(key, asset, charge, id))?
    }

    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.is_there()?;
        self.faults.lock().records.push((key.clone(), id.id.clone()));
        self.has(key)?;
        self.answer(self.inner.record(key, asset, charge, id))?
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        self.has(key)?;
        self.answer(self.inner.reserve(key, asset, estimate, id, ttl))?
    }

    async fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        self.has(key)?;
        self.answer(self.inner.extend(key, id, to))?
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        self.has(key)?;
        self.answer(self.inner.settle(key, id, actual))?
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        self.has(key)?;
        self.answer(self.inner.cancel(key, id))?
    }
}

impl KeyStore for Flaky {
    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        self.is_there()?;
        Ok(self.inner.resolve(digest))
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.has(id)?;
        Ok(self.inner.read(id))
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        self.is_there()?;
        self.inner.create(key)
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<KeyRecord, KeysError> {
        self.is_there()?;
        self.inner.update(workspace, id, version, config)
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.is_there()?;
        self.inner.delete(workspace, id)
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        self.is_there()?;
        Ok(self.inner.list(workspace, search))
    }
}
