//! Several processes in one: a store of which each call goes to one of several clients, with beliefs of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use limiter_core::{
    AssetId, Charge, Crossing, DayHistory, Decision, Grant, GrantTerms, KeyDigest, KeyId, KeyName,
    KeyRecord, KeyRotation, KeyUpdate, KeysError, Listener, NewRecord, Page, PlanName, PlanRecord,
    PlanUpdate, RecordId, RequestId, ReservationError, Search, Settled, Store, StoreError, Totals,
    UpdatedKey, Usage, WorkspaceId, async_trait,
};
use limiter_redis::RedisStore;
use parking_lot::Mutex;

/// Clients of the same keys. A clone is the same clients.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    clients: Arc<[RedisStore]>,
    turns: Arc<AtomicU64>,
    /// The admin key of the player, which never changes.
    admin: Arc<Mutex<Option<KeyRecord>>>,
}

impl Clients {
    pub(crate) fn new(clients: impl IntoIterator<Item = RedisStore>) -> Self {
        Self {
            clients: clients.into_iter().collect(),
            turns: Arc::default(),
            admin: Arc::default(),
        }
    }

    pub(crate) fn all(&self) -> &[RedisStore] {
        &self.clients
    }

    /// The next calls go to the clients of these digits, in base 3.
    pub(crate) fn take_turns(&self, turns: u64) {
        self.turns.store(turns, Ordering::Relaxed);
    }

    /// How many scripts were sent since this was asked last.
    pub(crate) fn take_trips(&self) -> u64 {
        self.clients.iter().flat_map(|client| client.take_trips().into_values()).sum()
    }

    fn next(&self) -> &RedisStore {
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns / 3, Ordering::Relaxed);
        &self.clients[(turns % 3) as usize % self.clients.len()]
    }
}

#[async_trait]
impl Store for Clients {
    fn listen(&self, listener: Listener) {
        let listener = Arc::new(listener);
        for client in &*self.clients {
            let listener = Arc::clone(&listener);
            client.listen(Box::new(move |key, event| listener(key, event)));
        }
    }

    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        self.next().check_and_consume(key, asset, charge).await
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        self.next().peek(key, asset, charge).await
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        self.next().usage(key).await
    }

    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        self.next().check_once(key, asset, charge, id).await
    }

    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.next().record(key, asset, charge, id).await
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        self.next().reserve(key, asset, estimate, id, ttl).await
    }

    async fn amend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        self.next().amend(key, id, to).await
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        self.next().settle(key, id, actual).await
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        self.next().cancel(key, id).await
    }

    async fn grant(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        terms: &GrantTerms,
        id: &RequestId,
    ) -> Result<Option<Grant>, StoreError> {
        self.next().grant(key, asset, terms, id).await
    }

    async fn hand_back(
        &self,
        key: &KeyId,
        id: &RequestId,
        used: &Charge,
    ) -> Result<(), StoreError> {
        self.next().hand_back(key, id, used).await
    }

    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        self.next().resolve(digest).await
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        let admin = self.admin.lock().clone();
        match admin {
            Some(admin) if admin.id == *id => Ok(Some(admin)),
            _ => self.next().read(id).await,
        }
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        let bootstraps = key.bootstraps;
        let created = self.next().create(key).await?;
        if bootstraps {
            *self.admin.lock() = Some(created.clone());
        }
        Ok(created)
    }

    async fn history(&self, key: &KeyId, days: u16) -> Result<Option<Vec<DayHistory>>, StoreError> {
        self.next().history(key, days).await
    }

    async fn find(
        &self,
        workspace: &WorkspaceId,
        name: &KeyName,
    ) -> Result<Option<KeyId>, StoreError> {
        self.next().find(workspace, name).await
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
    ) -> Result<UpdatedKey, KeysError> {
        self.next().update(workspace, update).await
    }

    async fn reset(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.next().reset(workspace, id).await
    }

    async fn rotate(
        &self,
        workspace: &WorkspaceId,
        rotation: &KeyRotation,
    ) -> Result<KeyRecord, KeysError> {
        self.next().rotate(workspace, rotation).await
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.next().delete(workspace, id).await
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        self.next().list(workspace, search).await
    }

    async fn save_plan(
        &self,
        workspace: &WorkspaceId,
        update: &PlanUpdate,
    ) -> Result<PlanRecord, KeysError> {
        self.next().save_plan(workspace, update).await
    }

    async fn plans(&self, workspace: &WorkspaceId) -> Result<Vec<PlanRecord>, StoreError> {
        self.next().plans(workspace).await
    }

    async fn plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<Option<PlanRecord>, StoreError> {
        self.next().plan(workspace, name).await
    }

    async fn delete_plan(&self, workspace: &WorkspaceId, name: &PlanName) -> Result<(), KeysError> {
        self.next().delete_plan(workspace, name).await
    }
}
