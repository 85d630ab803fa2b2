//! The one way that every call of a limiter takes: to its store, and past the watch that counts it.

#[cfg(feature = "stream")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "stream")]
use limiter_core::Throttle;
use limiter_core::{
    AssetId, Charge, CreateResults, Crossing, Decision, DecisionHandle, DecisionStore,
    FailureDomain, KeyConfig, KeyDigest, KeyId, KeyRecord, KeyStore, KeysError, Listener,
    NewRecord, Page, RecordId, RequestId, ReservationError, ReservationStore, Search, Settled,
    Store, StoreError, Totals, Unpaid, Usage, WorkspaceId,
};
#[cfg(feature = "memory")]
use limiter_memory::{MemoryHandle, MemoryStore};
#[cfg(feature = "policy")]
use limiter_policy::GuardedStore;
#[cfg(feature = "redis")]
use limiter_redis::RedisStore;

use crate::any_store::{AnyHandle, AnyStore};
use crate::events::{Call, EventSink, UsageKind};
use crate::watch::{Operation, Watch, Whose};

/// The store behind a [`Limiter`](crate::Limiter): one of those compiled in, or a user's own.
///
/// With the features `metrics` and `tracing` each of its calls is counted, and has a span; without them it is that store
/// and nothing more.
#[derive(Clone, Debug)]
pub struct WatchedStore {
    store: AnyStore,
    watch: Watch,
    events: EventSink,
    /// Throttles the warnings that streams could not be extended: a failing store fails all of them.
    #[cfg(feature = "stream")]
    stream_warnings: Arc<Throttle>,
}

/// A key and an asset, resolved once: see [`Limiter::handle`](crate::Limiter::handle).
///
/// It sees limits as soon as they are in force, and expiry and deletion of its key at once.
#[derive(Clone, Debug)]
pub struct Handle {
    handle: AnyHandle,
    watch: Watch,
    whose: Whose,
    events: EventSink,
    key: KeyId,
    asset: Option<AssetId>,
}

impl WatchedStore {
    /// A user's own store.
    pub fn custom(store: impl Store) -> Self {
        Self::new(AnyStore::custom(store))
    }

    pub(crate) const fn is_in_memory(&self) -> bool {
        self.store.is_in_memory()
    }

    #[cfg(feature = "memory")]
    pub(crate) const fn memory(&self) -> Option<&MemoryStore> {
        self.store.memory()
    }

    /// The same store, under another watch.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    pub(crate) fn rewatched(&self, rewatch: impl FnOnce(&Watch) -> Watch) -> Self {
        Self { watch: rewatch(&self.watch), ..self.clone() }
    }

    /// Returns the same store with this event sink.
    pub(crate) fn reporting_to(self, events: EventSink) -> Self {
        let late = events.clone();
        self.store.listen(Box::new(move |key, event| late.late(key, event)));
        Self { events, ..self }
    }

    pub(crate) const fn events(&self) -> &EventSink {
        &self.events
    }

    #[cfg(feature = "stream")]
    pub(crate) fn stream_warnings(&self) -> &Throttle {
        &self.stream_warnings
    }

    fn new(store: AnyStore) -> Self {
        let watch = Watch::new(store.is_in_memory());
        Self {
            store,
            watch,
            events: EventSink::default(),
            #[cfg(feature = "stream")]
            stream_warnings: Arc::new(Throttle::of_warnings()),
        }
    }

    /// Settles or cancels a reservation, and sends the events.
    async fn ending(
        &self,
        key: &KeyId,
        id: &RequestId,
        kind: UsageKind,
        call: impl Future<Output = Result<Settled, ReservationError>> + Send,
    ) -> Result<Settled, ReservationError> {
        let settled = call.await?;
        self.events.ended(key, id, kind, &settled);
        Ok(settled)
    }
}

#[cfg(feature = "memory")]
impl From<MemoryStore> for WatchedStore {
    fn from(store: MemoryStore) -> Self {
        Self::new(AnyStore::from(store))
    }
}

#[cfg(feature = "redis")]
impl From<RedisStore> for WatchedStore {
    fn from(store: RedisStore) -> Self {
        Self::new(AnyStore::from(store))
    }
}

#[cfg(feature = "policy")]
impl<S: Store> From<GuardedStore<S>> for WatchedStore {
    fn from(store: GuardedStore<S>) -> Self {
        Self::custom(store)
    }
}

impl Handle {
    /// Decides whether the key may make this call, and charges it if so.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer; a denial is no error.
    pub fn check_and_consume(
        &self,
        charge: &Charge,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send {
        let of = Call::checked(&self.key, self.asset.as_ref(), charge, None);
        let call = self.events.charging(of, self.handle.check_and_consume(charge));
        self.watch.decision(Operation::CheckAndConsume, self.whose.names(), call)
    }

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub fn peek(
        &self,
        charge: &Charge,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send {
        let call = self.events.looking(self.handle.peek(charge));
        self.watch.decision(Operation::Peek, self.whose.names(), call)
    }

    /// The in-memory handle, whose calls are synchronous, if that store is the one in use. What is asked there is not
    /// counted and raises no event, and is in shadow mode only if its key is.
    #[cfg(feature = "memory")]
    #[must_use]
    pub const fn memory(&self) -> Option<&MemoryHandle> {
        self.handle.memory()
    }
}

impl DecisionHandle for Handle {
    fn check_and_consume(
        &self,
        charge: &Charge,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send {
        self.check_and_consume(charge)
    }

    fn peek(&self, charge: &Charge) -> impl Future<Output = Result<Decision, StoreError>> + Send {
        self.peek(charge)
    }
}

impl DecisionStore for WatchedStore {
    type Handle = Handle;

    fn failure_domain(&self, key: &KeyId) -> FailureDomain {
        self.store.failure_domain(key)
    }

    fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send {
        let of = Call::checked(key, asset, charge, None);
        let call = self.events.charging(of, self.store.check_and_consume(key, asset, charge));
        self.watch.decision(Operation::CheckAndConsume, (Some(key), asset), call)
    }

    fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send {
        let call = self.events.looking(self.store.peek(key, asset, charge));
        self.watch.decision(Operation::Peek, (Some(key), asset), call)
    }

    fn usage(&self, key: &KeyId) -> impl Future<Output = Result<Option<Usage>, StoreError>> + Send {
        self.watch.answer(Operation::Usage, Some(key), self.store.usage(key))
    }

    async fn handle(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
    ) -> Result<Option<Handle>, StoreError> {
        let call = self.store.handle(key, asset);
        let found = self.watch.answer(Operation::Handle, Some(key), call).await?;
        Ok(found.map(|handle| Handle {
            handle,
            watch: self.watch.clone(),
            whose: self.watch.whose(key, asset),
            events: self.events.clone(),
            key: key.clone(),
            asset: asset.cloned(),
        }))
    }
}

impl ReservationStore for WatchedStore {
    fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> impl Future<Output = Result<Decision, ReservationError>> + Send {
        let of = Call::checked(key, asset, charge, Some(id));
        let call = self.events.charging(of, self.store.check_once(key, asset, charge, id));
        self.watch.decision(Operation::CheckOnce, (Some(key), asset), call)
    }

    fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> impl Future<Output = Result<Vec<Crossing>, ReservationError>> + Send {
        let call = async move {
            let crossed = self.store.record(key, asset, charge, id).await?;
            self.events.crossed(key, &crossed);
            Ok(crossed)
        };
        self.watch.answer(Operation::Record, Some(key), call)
    }

    fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> impl Future<Output = Result<Decision, ReservationError>> + Send {
        let of = Call::estimated(key);
        let call = self.events.charging(of, self.store.reserve(key, asset, estimate, id, ttl));
        self.watch.decision(Operation::Reserve, (Some(key), asset), call)
    }

    fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> impl Future<Output = Result<Decision, ReservationError>> + Send {
        let call = self.events.charging(Call::estimated(key), self.store.extend(key, id, to));
        self.watch.decision(Operation::Extend, (Some(key), None), call)
    }

    fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> impl Future<Output = Result<Settled, ReservationError>> + Send {
        let call = self.ending(key, id, UsageKind::Settled, self.store.settle(key, id, actual));
        self.watch.answer(Operation::Settle, Some(key), call)
    }

    async fn flush(&self, within: Duration) -> Unpaid {
        self.store.flush(within).await
    }

    fn listen(&self, listener: Listener) {
        self.store.listen(listener);
    }

    fn cancel(
        &self,
        key: &KeyId,
        id: &RequestId,
    ) -> impl Future<Output = Result<Settled, ReservationError>> + Send {
        let call = self.ending(key, id, UsageKind::Cancelled, self.store.cancel(key, id));
        self.watch.answer(Operation::Cancel, Some(key), call)
    }
}

impl KeyStore for WatchedStore {
    fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain {
        self.store.lookup_domain(digest)
    }

    fn resolve(
        &self,
        digest: &KeyDigest,
    ) -> impl Future<Output = Result<Option<KeyId>, StoreError>> + Send {
        self.watch.answer(Operation::Resolve, None, self.store.resolve(digest))
    }

    fn read(
        &self,
        id: &KeyId,
    ) -> impl Future<Output = Result<Option<KeyRecord>, StoreError>> + Send {
        self.watch.answer(Operation::Read, Some(id), self.store.read(id))
    }

    fn create(&self, key: NewRecord) -> impl Future<Output = Result<KeyRecord, KeysError>> + Send {
        self.watch.answer(Operation::Create, None, self.store.create(key))
    }

    fn create_many(
        &self,
        keys: Vec<NewRecord>,
    ) -> impl Future<Output = Result<CreateResults, StoreError>> + Send {
        self.watch.answer(Operation::CreateMany, None, self.store.create_many(keys))
    }

    fn update(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> impl Future<Output = Result<KeyRecord, KeysError>> + Send {
        let call = self.store.update(workspace, id, version, config);
        self.watch.answer(Operation::Update, Some(id), call)
    }

    fn delete(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> impl Future<Output = Result<(), KeysError>> + Send {
        self.watch.answer(Operation::Delete, Some(id), self.store.delete(workspace, id))
    }

    fn list(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
    ) -> impl Future<Output = Result<Page, StoreError>> + Send {
        self.watch.answer(Operation::List, None, self.store.list(workspace, search))
    }
}
