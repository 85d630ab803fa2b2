//! The store: cells for decisions, a directory for management.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::keys::is_permanent_admin;
use limiter_core::{
    AssetId, Charge, Crossing, Decision, DecisionStore, KeyConfig, KeyDigest, KeyId, KeyRecord,
    KeyState, KeyStore, KeysError, Ledger, LedgerBounds, ManualClock, NewRecord, Page, RecordId,
    RequestId, ReservationError, ReservationStore, Search, StoreError, StoredKey, Timestamp,
    Totals, Usage, WorkspaceId, reservation,
};
use parking_lot::RwLock;

use crate::directory::Directory;
use crate::handle::MemoryHandle;
use crate::map::CellMap;
use crate::snapshot::{RestoreError, SavedKey, Snapshot};
use crate::time::Time;

/// Keeps keys and counts in the memory of this process. Clones share them.
///
/// Management locks the directory and then, for a moment, the shard that a key is in; a decision locks
/// the shard alone.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    directory: Arc<RwLock<Directory>>,
    cells: Arc<CellMap>,
    bounds: LedgerBounds,
}

/// Settings of a [`MemoryStore`].
#[derive(Clone, Debug)]
#[must_use = "a store is made by build() or restore()"]
pub struct MemoryStoreBuilder {
    time: Time,
    bounds: LedgerBounds,
}

impl MemoryStoreBuilder {
    /// Uses this clock. By default it is the system's, as of its last tick: a few milliseconds late.
    pub fn clock(self, clock: ManualClock) -> Self {
        Self { time: Time::Manual(clock), ..self }
    }

    /// How many reservations, how many request ids of checks, and how many ids of records are remembered for a key: 10,000 of each
    /// by default.
    ///
    /// What would be one too many is refused and not charged; nothing is forgotten before its time. What has passed is
    /// given up by the next such call of the key.
    pub fn remembered(self, most: usize) -> Self {
        Self { bounds: LedgerBounds { most, ..self.bounds }, ..self }
    }

    /// How long the request id of a check is remembered: 120 s by default.
    pub fn dedupe_time(self, dedupe: Duration) -> Self {
        Self { bounds: LedgerBounds { dedupe, ..self.bounds }, ..self }
    }

    /// An empty store.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        let cells = Arc::new(CellMap::new(self.time));
        MemoryStore { directory: Arc::default(), cells, bounds: self.bounds }
    }

    /// A store that goes on from a snapshot.
    ///
    /// # Errors
    /// [`RestoreError`] if another version wrote the snapshot, or if it contradicts itself.
    pub fn restore(self, snapshot: Snapshot) -> Result<MemoryStore, RestoreError> {
        snapshot.check_format()?;
        let store = self.build();
        let mut directory = store.directory.write();
        for saved in snapshot.keys {
            let permanent_admin = is_permanent_admin(saved.state.kind(), saved.state.expires_at());
            let id = saved.key.id.clone();
            directory.insert(saved.key, permanent_admin).map_err(RestoreError::Inconsistent)?;
            store.cells.insert(id, saved.state, saved.ledger.map(Box::new));
        }
        drop(directory);
        Ok(store)
    }
}

/// The synchronous calls. The traits of `limiter-core` offer the same, asynchronously.
impl MemoryStore {
    /// An empty store on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts with the default settings.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { time: Time::System, bounds: LedgerBounds::default() }
    }

    /// Decides whether the key may make this call, and charges it if so, in one atomic step.
    #[inline]
    pub fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Decision {
        self.cells.with(key, |cell| match cell {
            Some(cell) => cell.check_and_consume(asset, charge, self.cells.time()),
            None => Decision::key_unknown(asset),
        })
    }

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    pub fn peek(&self, key: &KeyId, asset: Option<&AssetId>, charge: &Charge) -> Decision {
        self.cells.with(key, |cell| match cell {
            Some(cell) => cell.peek(asset, charge, self.cells.time()),
            None => Decision::key_unknown(asset),
        })
    }

    /// As [`ReservationStore::check_once`](limiter_core::ReservationStore::check_once).
    ///
    /// # Errors
    /// [`ReservationError::TooMany`].
    pub fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        self.step(key, |state, ledger, now| {
            reservation::check_once(state, ledger, &self.bounds, asset, charge, id, now)
        })
        .unwrap_or_else(|| Ok(Decision::key_unknown(asset)))
    }

    /// As [`ReservationStore::record`](limiter_core::ReservationStore::record).
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`] or [`ReservationError::TooMany`].
    pub fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.step(key, |state, ledger, now| {
            reservation::record(state, ledger, &self.bounds, asset, charge, id, now)
        })
        .unwrap_or(Err(ReservationError::KeyUnknown))
    }

    /// As [`ReservationStore::reserve`](limiter_core::ReservationStore::reserve).
    ///
    /// # Errors
    /// [`ReservationError::OtherExists`] or [`ReservationError::TooMany`].
    pub fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        self.step(key, |state, ledger, now| {
            reservation::reserve(state, ledger, &self.bounds, asset, estimate, id, ttl, now)
        })
        .unwrap_or_else(|| Ok(Decision::key_unknown(asset)))
    }

    /// As [`ReservationStore::extend`](limiter_core::ReservationStore::extend).
    ///
    /// # Errors
    /// As [`reservation::extend`].
    pub fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        self.step(key, |state, ledger, now| reservation::extend(state, ledger, id, to, now))
            .unwrap_or_else(|| Ok(Decision::key_unknown(None)))
    }

    /// As [`ReservationStore::settle`](limiter_core::ReservationStore::settle).
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`], or as [`reservation::settle`].
    pub fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.step(key, |state, ledger, now| reservation::settle(state, ledger, id, actual, now))
            .unwrap_or(Err(ReservationError::KeyUnknown))
    }

    /// As [`ReservationStore::cancel`](limiter_core::ReservationStore::cancel).
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`], or as [`reservation::cancel`].
    pub fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<(), ReservationError> {
        self.step(key, |state, ledger, now| reservation::cancel(state, ledger, id, now))
            .unwrap_or(Err(ReservationError::KeyUnknown))
    }

    /// One step on the state of a key and on what is remembered of it, if the key is known.
    fn step<T>(
        &self,
        key: &KeyId,
        step: impl FnOnce(&mut KeyState, &mut Ledger, Timestamp) -> T,
    ) -> Option<T> {
        self.cells.with(key, |cell| {
            let now = self.cells.time().now();
            Some(cell?.with_ledger(now, |state, ledger| step(state, ledger, now)))
        })
    }

    /// What the key has used, or `None` if it is not known.
    #[must_use]
    pub fn usage(&self, key: &KeyId) -> Option<Usage> {
        self.cells.with(key, |cell| Some(cell?.usage(self.cells.time())))
    }

    /// Resolves a key and an asset for many calls, or `None` if the key is not known.
    #[must_use]
    pub fn handle(&self, key: &KeyId, asset: Option<&AssetId>) -> Option<MemoryHandle> {
        let place = self.cells.place(key)?;
        Some(MemoryHandle::new(self.cells.clone(), place, asset.cloned()))
    }

    /// The id of the living key whose access key has this digest.
    #[must_use]
    pub fn resolve(&self, digest: &KeyDigest) -> Option<KeyId> {
        self.directory.read().resolve(digest).cloned()
    }

    /// What is known of a living key.
    #[must_use]
    pub fn read(&self, id: &KeyId) -> Option<KeyRecord> {
        let directory = self.directory.read();
        self.record_of(directory.get(id)?)
    }

    /// Adds a key, whose limits are in force at once.
    ///
    /// # Errors
    /// As [`KeyStore::create`].
    pub fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        let NewRecord { id, workspace, kind, config, secret, bootstraps } = key;
        config.check()?;
        let stored = StoredKey { id, workspace, name: config.name.clone(), secret, version: 1 };
        let mut directory = self.directory.write();
        if bootstraps && !directory.is_empty(&stored.workspace) {
            return Err(KeysError::AlreadyBootstrapped);
        }
        directory.insert(stored.clone(), is_permanent_admin(kind, config.expires_at))?;
        let now = self.cells.time().now();
        let state = KeyState::new(kind, &config, now);
        let record = KeyRecord::of(&stored, &state, now);
        self.cells.insert(stored.id, state, None);
        Ok(record)
    }

    /// Replaces the configuration of a key of the workspace, if it is still at `version`.
    ///
    /// # Errors
    /// As [`KeyStore::update`].
    pub fn update(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<KeyRecord, KeysError> {
        config.check()?;
        let not_found = || KeysError::NotFound(id.to_string());
        let mut directory = self.directory.write();
        let key = directory.get_in(workspace, id)?;
        let kind = self.record_of(key).ok_or_else(not_found)?.kind;
        directory.check_update(key, version, kind, config)?;
        let renamed = key.name != config.name;
        let reconfigured = self.cells.with(id, |cell| {
            cell.map(|cell| cell.state.configure(config, self.cells.time().now()))
        });
        if reconfigured.ok_or_else(not_found)?? || renamed {
            directory.update(id, kind, config);
        }
        self.record_of(directory.get_in(workspace, id)?).ok_or_else(not_found)
    }

    /// Deletes a key of the workspace for good.
    ///
    /// # Errors
    /// As [`KeyStore::delete`].
    pub fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        let mut directory = self.directory.write();
        directory.remove(workspace, id)?;
        self.cells.remove(id);
        Ok(())
    }

    /// A page of the living keys of a workspace, by the bytes of their names.
    #[must_use]
    pub fn list(&self, workspace: &WorkspaceId, search: &Search) -> Page {
        let directory = self.directory.read();
        let (ids, next) = directory.search(workspace, search);
        let keys = ids.into_iter().filter_map(|id| self.record_of(directory.get(id)?));
        Page::new(keys.collect(), next)
    }

    /// All keys with their counts, each as of one moment.
    ///
    /// Decisions go on meanwhile; changes of keys wait for it, and look-ups of access keys behind them:
    /// about half a second for 300,000 keys.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let directory = self.directory.read();
        let saved = directory.keys().filter_map(|key| {
            let saved = self.cells.with(&key.id, |cell| {
                let cell = cell?;
                Some((cell.state.clone(), cell.ledger.as_deref().cloned()))
            });
            let (state, ledger) = saved?;
            Some(SavedKey { key: key.clone(), state, ledger })
        });
        Snapshot::new(self.cells.time().now(), saved.collect())
    }

    /// A store on the system's clock that goes on from a snapshot.
    ///
    /// # Errors
    /// As [`MemoryStoreBuilder::restore`].
    pub fn restore(snapshot: Snapshot) -> Result<Self, RestoreError> {
        Self::builder().restore(snapshot)
    }

    fn record_of(&self, key: &StoredKey) -> Option<KeyRecord> {
        self.cells.with(&key.id, |cell| Some(cell?.record(key, self.cells.time())))
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl DecisionStore for MemoryStore {
    type Handle = MemoryHandle;

    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        Ok(self.check_and_consume(key, asset, charge))
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        Ok(self.peek(key, asset, charge))
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        Ok(self.usage(key))
    }

    async fn handle(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
    ) -> Result<Option<MemoryHandle>, StoreError> {
        Ok(self.handle(key, asset))
    }
}

impl ReservationStore for MemoryStore {
    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        self.check_once(key, asset, charge, id)
    }

    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.record(key, asset, charge, id)
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        self.reserve(key, asset, estimate, id, ttl)
    }

    async fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        self.extend(key, id, to)
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.settle(key, id, actual)
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<(), ReservationError> {
        self.cancel(key, id)
    }
}

impl KeyStore for MemoryStore {
    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        Ok(self.resolve(digest))
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.read(id))
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        self.create(key)
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<KeyRecord, KeysError> {
        self.update(workspace, id, version, config)
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.delete(workspace, id)
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        Ok(self.list(workspace, search))
    }
}
