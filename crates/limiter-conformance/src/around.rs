//! A store around another one, for tests that fail, delay, count or redirect its calls.

use std::fmt::Debug;
use std::ops::Deref;
use std::time::Duration;

use limiter_core::{
    AssetId, CallError, Charge, CreateResults, Crossing, Decision, FailureDomain, KeyConfig,
    KeyDigest, KeyId, KeyRecord, KeysError, Listener, NewRecord, Page, RecordId, RequestId,
    ReservationError, Search, Settled, Store, StoreError, Totals, Unpaid, Usage, WorkspaceId,
    async_trait,
};

/// A test's way to stand between a store and its callers. [`Around`] makes a store of it.
pub trait Interpose: Debug + Send + Sync + 'static {
    /// The store that gets the call.
    fn store(&self) -> &dyn Store;

    /// Decides a check or a peek: by the store, unless a test has another way.
    fn decide(
        &self,
        called: Called<'_>,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send {
        async move {
            match called.charges() {
                true => self.store().check_and_consume(key, asset, charge).await,
                false => self.store().peek(key, asset, charge).await,
            }
        }
    }

    /// Makes a call, which does nothing before it is awaited.
    fn call<T: Send, E: CallError>(
        &self,
        called: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> impl Future<Output = Result<T, E>> + Send;
}

/// An operation of a store, and what it names.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// The name of the method.
    pub operation: &'static str,
    /// The key, if the operation is about one.
    pub key: Option<&'a KeyId>,
    /// The id of the request, if it has one.
    pub id: Option<&'a RequestId>,
}

/// The store that an [`Interpose`] makes of another one.
#[derive(Clone, Debug)]
pub struct Around<I>(pub I);

impl<'a> Called<'a> {
    const fn new(operation: &'static str) -> Self {
        Self { operation, key: None, id: None }
    }

    const fn of(operation: &'static str, key: &'a KeyId) -> Self {
        Self { key: Some(key), ..Self::new(operation) }
    }

    const fn with_id(self, id: &'a RequestId) -> Self {
        Self { id: Some(id), ..self }
    }

    /// Whether the operation may charge a key or take a charge back.
    pub fn charges(&self) -> bool {
        let charging =
            ["check_and_consume", "check_once", "record", "reserve", "extend", "settle", "cancel"];
        charging.contains(&self.operation)
    }
}

impl<I> Deref for Around<I> {
    type Target = I;

    fn deref(&self) -> &I {
        &self.0
    }
}

#[async_trait]
impl<I: Interpose> Store for Around<I> {
    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        let called = Called::of("check_and_consume", key);
        self.0.call(called, self.0.decide(called, key, asset, charge)).await
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        let called = Called::of("peek", key);
        self.0.call(called, self.0.decide(called, key, asset, charge)).await
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        self.0.call(Called::of("usage", key), self.0.store().usage(key)).await
    }

    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        let call = self.0.store().check_once(key, asset, charge, id);
        self.0.call(Called::of("check_once", key).with_id(id), call).await
    }

    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        let call = self.0.store().record(key, asset, charge, id);
        self.0.call(Called::of("record", key).with_id(id.id), call).await
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        let call = self.0.store().reserve(key, asset, estimate, id, ttl);
        self.0.call(Called::of("reserve", key).with_id(id), call).await
    }

    async fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        let call = self.0.store().extend(key, id, to);
        self.0.call(Called::of("extend", key).with_id(id), call).await
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        let call = self.0.store().settle(key, id, actual);
        self.0.call(Called::of("settle", key).with_id(id), call).await
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        let call = self.0.store().cancel(key, id);
        self.0.call(Called::of("cancel", key).with_id(id), call).await
    }

    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        self.0.call(Called::new("resolve"), self.0.store().resolve(digest)).await
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.0.call(Called::of("read", id), self.0.store().read(id)).await
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        let id = key.id.clone();
        self.0.call(Called::of("create", &id), self.0.store().create(key)).await
    }

    async fn create_many(&self, keys: Vec<NewRecord>) -> Result<CreateResults, StoreError> {
        self.0.call(Called::new("create_many"), self.0.store().create_many(keys)).await
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<KeyRecord, KeysError> {
        let call = self.0.store().update(workspace, id, version, config);
        self.0.call(Called::of("update", id), call).await
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.0.call(Called::of("delete", id), self.0.store().delete(workspace, id)).await
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        self.0.call(Called::new("list"), self.0.store().list(workspace, search)).await
    }

    fn failure_domain(&self, key: &KeyId) -> FailureDomain {
        self.0.store().failure_domain(key)
    }

    fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain {
        self.0.store().lookup_domain(digest)
    }

    fn listen(&self, listener: Listener) {
        self.0.store().listen(listener);
    }

    async fn flush(&self, within: Duration) -> Unpaid {
        self.0.store().flush(within).await
    }
}
