//! The store: decisions through the batcher, keys through the directory.

use std::time::Duration;

use limiter_core::{
    AssetId, Charge, CreateResults, Crossing, DayHistory, Decision, FailureDomain, Grant,
    GrantTerms, KeyDigest, KeyId, KeyName, KeyRecord, KeyRotation, KeyState, KeyUpdate, KeysError,
    Ledger, LedgerBounds, Listener, NewRecord, Page, PlanName, PlanRecord, PlanUpdate, RecordId,
    RequestId, ReservationError, Search, Settled, Store, StoreError, Totals, UpdatedKey, Usage,
    WorkspaceId, async_trait, evaluate,
};

use crate::batch::{Batcher, Bounds};
use crate::builder::RedisStoreBuilder;
use crate::directory::{Directory, Waiting};
use crate::error::{CommandError, RedisError};
use crate::keys::{Keys, Subject};
use crate::keyspace::Keyspace;
use crate::records::Records;
use crate::remembering::Remembering;
use crate::runtime::reading_in_runtime;

/// Keys and their counts in Redis, shared by all processes that use the same servers and prefix.
///
/// A clone is the same store: the same connections, batches and remembered limits. It works on the tokio runtime that it
/// was connected on. A call that is polled outside of a runtime fails with [`RedisError::NoRuntime`], and changes nothing.
#[derive(Clone, Debug)]
pub struct RedisStore {
    pub(crate) keys: Keys,
    batcher: Batcher,
    pub(crate) remembering: Remembering,
    records: Records,
    directory: Directory,
}

impl RedisStore {
    /// Connects to the servers that the URL names, with the default settings.
    ///
    /// # Errors
    /// As [`RedisStoreBuilder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, RedisError> {
        Self::builder(url).connect().await
    }

    /// A store whose settings differ from the defaults.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(url.into())
    }

    /// Whether each master that is known answers in time.
    ///
    /// # Errors
    /// The [`RedisError`] of the first that does not.
    pub async fn health(&self) -> Result<(), RedisError> {
        reading_in_runtime(self.keys.servers.health()).await
    }

    /// Returns the state of a living key as stored in Redis, for tests and inspection. No window is moved on; see
    /// [`KeyState`].
    ///
    /// # Errors
    /// [`StoreError`] if Redis cannot answer, or its data is corrupt.
    pub async fn state(&self, key: &KeyId) -> Result<Option<KeyState>, StoreError> {
        self.records.state(key).await
    }

    /// Returns the remembered calls of a living key as stored in Redis, for tests and inspection. The windows that
    /// admitted a reservation are left out, since they are compared in Redis alone.
    ///
    /// # Errors
    /// [`StoreError`] if Redis cannot answer, or its data is corrupt.
    pub async fn ledger(&self, key: &KeyId) -> Result<Option<Ledger>, StoreError> {
        self.remembering.ledger(key).await
    }

    /// Deletes all keys, limits and counts under this store's prefix, for tests and replays with their own prefix.
    /// Returns the number of Redis keys deleted. It scans all keys of the servers.
    ///
    /// It is not atomic: keys created meanwhile may stay, in part. After an error it can be called again.
    ///
    /// # Errors
    /// [`RedisError`] if a server does not answer; some keys are deleted by then.
    pub async fn delete_everything(&self) -> Result<u64, RedisError> {
        let mut deleted = 0;
        for pattern in self.keys.keyspace.patterns() {
            deleted += reading_in_runtime(self.keys.servers.delete_all(&pattern)).await?;
        }
        Ok(deleted)
    }

    pub(crate) fn new(
        keys: Keys,
        bounds: Bounds,
        remembered: LedgerBounds,
        waiting: Waiting,
    ) -> Self {
        let records = Records::new(keys.clone());
        Self {
            batcher: Batcher::new(keys.clone(), bounds),
            remembering: Remembering::new(keys.clone(), remembered, bounds.deadline),
            directory: Directory::new(&keys, waiting),
            keys,
            records,
        }
    }
}

/// A reservation or a check with an id whose answer is lost with the connection is sent again within the deadline, since a
/// repetition charges nothing. So [`replayed`](limiter_core::Allowed::replayed) may also mean that our own first try was the
/// one that charged. The answer to `settle` and `cancel` distinguishes the two.
#[async_trait]
impl Store for RedisStore {
    /// On a cluster, the master of the key's slot.
    fn failure_domain(&self, key: &KeyId) -> FailureDomain {
        self.keys.servers.failure_domain(Keyspace::tag(key).as_bytes())
    }

    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        self.batcher.decide(key, asset, charge).await
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        let found = self.keys.read_as_is(Subject { key, asset }).await;
        let found = found.map_err(CommandError::of_reading)?;
        let Some(known) = found.known else { return Ok(Decision::key_unknown(Some(key), asset)) };
        let known = self.records.latest_levels(key, known, found.now).await?;
        Ok(evaluate::peek(&known.met(Subject { key, asset }), charge, found.now))
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        self.records.usage(key).await
    }

    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        self.remembering.check_once(Subject { key, asset }, charge, id).await
    }

    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.remembering.record(Subject { key, asset }, charge, id).await
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        self.remembering.reserve(Subject { key, asset }, estimate, id, ttl).await
    }

    async fn amend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        self.remembering.amend(key, id, to).await
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        self.remembering.end(key, id, Some(actual)).await
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        self.remembering.end(key, id, None).await
    }

    async fn grant(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        terms: &GrantTerms,
        id: &RequestId,
    ) -> Result<Option<Grant>, StoreError> {
        self.remembering.grant(Subject { key, asset }, terms, id).await
    }

    async fn hand_back(
        &self,
        key: &KeyId,
        id: &RequestId,
        used: &Charge,
    ) -> Result<(), StoreError> {
        self.remembering.hand_back(key, id, used).await
    }

    fn listen(&self, listener: Listener) {
        self.keys.listeners.add(listener);
    }

    /// On a cluster, the master of the slot of the access key's pointer, which is seldom that of the key.
    fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain {
        self.keys.servers.failure_domain(String::from(*digest).as_bytes())
    }

    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        self.directory.resolve(digest).await
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.records.read_latest(id).await?.map(|found| found.record))
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        self.directory.create(key).await
    }

    async fn create_many(&self, keys: Vec<NewRecord>) -> Result<CreateResults, StoreError> {
        self.directory.create_many(keys).await
    }

    async fn history(&self, key: &KeyId, days: u16) -> Result<Option<Vec<DayHistory>>, StoreError> {
        self.records.history(key, days).await
    }

    async fn find(
        &self,
        workspace: &WorkspaceId,
        name: &KeyName,
    ) -> Result<Option<KeyId>, StoreError> {
        self.directory.find(workspace, name).await
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
    ) -> Result<UpdatedKey, KeysError> {
        self.directory.update(workspace, update).await
    }

    async fn reset(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.directory.reset(workspace, id).await
    }

    async fn rotate(
        &self,
        workspace: &WorkspaceId,
        rotation: &KeyRotation,
    ) -> Result<KeyRecord, KeysError> {
        self.directory.rotate(workspace, rotation).await
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.directory.delete(workspace, id).await
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        self.directory.list(workspace, search).await
    }

    async fn save_plan(
        &self,
        workspace: &WorkspaceId,
        update: &PlanUpdate,
    ) -> Result<PlanRecord, KeysError> {
        self.directory.save_plan(workspace, update).await
    }

    async fn plans(&self, workspace: &WorkspaceId) -> Result<Vec<PlanRecord>, StoreError> {
        self.directory.plans(workspace).await
    }

    async fn plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<Option<PlanRecord>, StoreError> {
        self.directory.plan(workspace, name).await
    }

    async fn delete_plan(&self, workspace: &WorkspaceId, name: &PlanName) -> Result<(), KeysError> {
        self.directory.delete_plan(workspace, name).await
    }
}
