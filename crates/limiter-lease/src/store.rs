//! The leased store: it draws on leases, and asks the store for what they do not hold.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    AssetId, Charge, CreateResults, Crossing, DayHistory, Decision, Denied, FailureDomain, Grant,
    GrantTerms, KeyDigest, KeyId, KeyName, KeyRecord, KeyRotation, KeyUpdate, KeysError, Listener,
    NewRecord, Page, PlanName, PlanRecord, PlanUpdate, RecordId, RequestId, ReservationError,
    Search, Settled, Store, StoreError, Totals, Unpaid, UpdatedKey, Usage, WorkspaceId,
    async_trait,
};
use tokio::task::coop::consume_budget;

use crate::background::Shared;
use crate::book::{Drawn, Figures, Whose};
use crate::settings::LeasedStoreBuilder;

/// A store whose checks are decided out of leases, where that pays.
///
/// Clones share the leases. They are taken on the tokio runtime that a call comes from, which needs its timers; outside of any, each
/// call goes to the store.
#[derive(Clone, Debug)]
pub struct LeasedStore {
    owner: Arc<Owner>,
}

/// Whoever drops the last of it hands all leases back.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl LeasedStore {
    /// Leases from this store, with the default settings.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        LeasedStoreBuilder::new(store).build()
    }

    /// Creates a builder with the default settings.
    pub fn builder(store: impl Store) -> LeasedStoreBuilder {
        LeasedStoreBuilder::new(store)
    }

    pub(crate) fn of(builder: LeasedStoreBuilder) -> Self {
        Self { owner: Arc::new(Owner { shared: Arc::new(Shared::new(builder)) }) }
    }

    /// Returns what has become of the calls and leases so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.shared().book.figures()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// Hands back the leases of all keys that share a level with this one, and waits until that is done.
    async fn hand_back_around(&self, key: &KeyId) {
        let Ok(root) = key.root().parse() else { return };
        self.shared().hand_back(Whose::Beneath(&root)).await;
    }

    /// Asks the store. If a limit denies the call, hands back the leases that count against that limit, and asks again if any lease
    /// came back since the first request. New grants pause meanwhile. Also returns the denial epoch of the decision.
    async fn ask<E, F>(&self, key: &KeyId, call: impl Fn() -> F) -> Result<(Decision, u64), E>
    where
        F: Future<Output = Result<Decision, E>> + Send,
    {
        let book = &self.shared().book;
        let epoch = book.epoch(key);
        let decision = call().await?;
        let Some(exceeded) = decision.denied().and_then(Denied::exceeded) else {
            return Ok((decision, epoch));
        };
        // The outermost first.
        let groups = exceeded.violations().filter_map(|violation| violation.group);
        let group = groups.min_by_key(KeyId::depth);
        let whose = group.as_ref().map_or(Whose::Key(key), Whose::Beneath);
        let _pause = book.pause_grants(Some(key));
        self.shared().hand_back(whose).await;
        let epoch_now = book.epoch(key);
        if epoch_now == epoch {
            return Ok((decision, epoch));
        }
        Ok((call().await?, epoch_now))
    }

    /// Hands back all leases that share a level with the key, then changes it. New grants pause meanwhile.
    async fn change<T>(&self, key: &KeyId, change: impl Future<Output = T>) -> T {
        let book = &self.shared().book;
        let (_pause, _epoch) = (book.pause_grants(Some(key)), book.end_epoch(Some(key)));
        self.hand_back_around(key).await;
        change.await
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.end();
    }
}

#[async_trait]
impl Store for LeasedStore {
    fn failure_domain(&self, key: &KeyId) -> FailureDomain {
        self.shared().store.failure_domain(key)
    }

    fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain {
        self.shared().store.lookup_domain(digest)
    }

    fn listen(&self, listener: Listener) {
        self.shared().store.listen(listener);
    }

    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        // A task that waits for nothing lets others have their turn all the same, those that renew leases too.
        consume_budget().await;
        let shared = self.shared();
        let asked_at = shared.clock.now();
        let is_new = match shared.book.draw(key, asset, charge, asked_at) {
            Drawn::Allowed(allowed, ask) => {
                if let Some(ask) = ask {
                    shared.ask(key, asset, ask);
                }
                return Ok(Decision::Allowed(Arc::unwrap_or_clone(allowed)));
            }
            Drawn::Denied(denied) => return Ok(Decision::Denied(Arc::unwrap_or_clone(denied))),
            Drawn::Direct(ask) => {
                if let Some(ask) = ask {
                    shared.ask(key, asset, ask);
                }
                false
            }
            Drawn::Unseen => true,
        };
        let call = || shared.store.check_and_consume(key, asset, charge);
        let (decision, epoch) = self.ask(key, call).await?;
        match &decision {
            Decision::Denied(denied) => {
                shared.book.denied(key, asset, charge, denied, (asked_at, epoch));
            }
            Decision::Allowed(_) if is_new => shared.book.begin(key, asset, charge, asked_at),
            Decision::Allowed(_) => {}
        }
        // What the book has of the key is forgotten by a tick.
        shared.tick();
        Ok(decision)
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        self.hand_back_around(key).await;
        self.shared().store.peek(key, asset, charge).await
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        self.hand_back_around(key).await;
        self.shared().store.usage(key).await
    }

    async fn history(&self, key: &KeyId, days: u16) -> Result<Option<Vec<DayHistory>>, StoreError> {
        self.hand_back_around(key).await;
        self.shared().store.history(key, days).await
    }

    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        let call = || self.shared().store.check_once(key, asset, charge, id);
        Ok(self.ask(key, call).await?.0)
    }

    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.shared().store.record(key, asset, charge, id).await
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        let shared = self.shared();
        let reserve = || shared.store.reserve(key, asset, estimate, id, ttl);
        let call = || async {
            let epoch = shared.book.epoch(key);
            let decided = reserve().await;
            if !matches!(decided, Err(ReservationError::TooMany { .. })) {
                return decided;
            }
            // Leases have places among the open reservations.
            let _pause = shared.book.pause_grants(Some(key));
            shared.hand_back(Whose::Key(key)).await;
            if shared.book.epoch(key) == epoch { decided } else { reserve().await }
        };
        Ok(self.ask(key, call).await?.0)
    }

    async fn amend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        let call = || self.shared().store.amend(key, id, to);
        // It may give something back.
        let _epoch = self.shared().book.end_epoch(Some(key));
        Ok(self.ask(key, call).await?.0)
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        let _epoch = self.shared().book.end_epoch(Some(key));
        self.shared().store.settle(key, id, actual).await
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        let _epoch = self.shared().book.end_epoch(Some(key));
        self.shared().store.cancel(key, id).await
    }

    async fn grant(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        terms: &GrantTerms,
        id: &RequestId,
    ) -> Result<Option<Grant>, StoreError> {
        self.shared().store.grant(key, asset, terms, id).await
    }

    async fn hand_back(
        &self,
        key: &KeyId,
        id: &RequestId,
        used: &Charge,
    ) -> Result<(), StoreError> {
        self.shared().store.hand_back(key, id, used).await
    }

    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        self.shared().store.resolve(digest).await
    }

    async fn find(
        &self,
        workspace: &WorkspaceId,
        name: &KeyName,
    ) -> Result<Option<KeyId>, StoreError> {
        self.shared().store.find(workspace, name).await
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.shared().store.read(id).await
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        let id = key.id.clone();
        // Should there be an unregistered key of its id, it begins anew.
        self.change(&id, self.shared().store.create(key)).await
    }

    async fn create_many(&self, keys: Vec<NewRecord>) -> Result<CreateResults, StoreError> {
        let shared = self.shared();
        let ids: Vec<KeyId> = keys.iter().map(|key| key.id.clone()).collect();
        let mut guards = Vec::with_capacity(ids.len());
        for id in &ids {
            guards.push((shared.book.pause_grants(Some(id)), shared.book.end_epoch(Some(id))));
            self.hand_back_around(id).await;
        }
        shared.store.create_many(keys).await
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
    ) -> Result<UpdatedKey, KeysError> {
        self.change(&update.id, self.shared().store.update(workspace, update)).await
    }

    async fn reset(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.change(id, self.shared().store.reset(workspace, id)).await
    }

    async fn rotate(
        &self,
        workspace: &WorkspaceId,
        rotation: &KeyRotation,
    ) -> Result<KeyRecord, KeysError> {
        self.shared().store.rotate(workspace, rotation).await
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.change(id, self.shared().store.delete(workspace, id)).await
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        self.shared().store.list(workspace, search).await
    }

    async fn save_plan(
        &self,
        workspace: &WorkspaceId,
        update: &PlanUpdate,
    ) -> Result<PlanRecord, KeysError> {
        let shared = self.shared();
        // Whose plan it is, only the store knows.
        let (_pause, _epoch) = (shared.book.pause_grants(None), shared.book.end_epoch(None));
        shared.hand_back(Whose::All).await;
        shared.store.save_plan(workspace, update).await
    }

    async fn plans(&self, workspace: &WorkspaceId) -> Result<Vec<PlanRecord>, StoreError> {
        self.shared().store.plans(workspace).await
    }

    async fn plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<Option<PlanRecord>, StoreError> {
        self.shared().store.plan(workspace, name).await
    }

    async fn delete_plan(&self, workspace: &WorkspaceId, name: &PlanName) -> Result<(), KeysError> {
        self.shared().store.delete_plan(workspace, name).await
    }

    async fn flush(&self, within: Duration) -> Unpaid {
        self.shared().flush(within).await
    }
}
