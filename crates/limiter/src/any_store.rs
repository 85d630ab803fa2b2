//! The stores that are compiled in, behind one type.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    AssetId, Charge, CreateResults, Crossing, Decision, DecisionHandle, DecisionStore,
    FailureDomain, KeyConfig, KeyDigest, KeyId, KeyRecord, KeyStore, KeysError, Listener,
    NewRecord, Page, RecordId, RequestId, ReservationError, ReservationStore, Search, Settled,
    Store, StoreError, Totals, Unpaid, Usage, WorkspaceId,
};
#[cfg(feature = "memory")]
use limiter_memory::{MemoryHandle, MemoryStore};
#[cfg(feature = "redis")]
use limiter_redis::{RedisHandle, RedisStore};

use crate::dynamic::{DynamicHandle, DynamicStore};

/// One of the stores that are compiled in, or a user's own.
///
/// Choosing it at run time costs a branch, not a boxed future; only a user's own store is boxed.
#[derive(Clone, Debug)]
pub(crate) struct AnyStore(Choice);

#[derive(Clone, Debug)]
enum Choice {
    #[cfg(feature = "memory")]
    Memory(MemoryStore),
    #[cfg(feature = "redis")]
    Redis(Arc<RedisStore>),
    Custom(Arc<dyn DynamicStore>),
}

/// A key and an asset of such a store.
#[derive(Clone, Debug)]
pub(crate) struct AnyHandle(HandleChoice);

#[derive(Clone, Debug)]
enum HandleChoice {
    #[cfg(feature = "memory")]
    Memory(MemoryHandle),
    #[cfg(feature = "redis")]
    Redis(Arc<RedisHandle>),
    Custom(Arc<dyn DynamicHandle>),
}

impl AnyStore {
    pub(crate) fn custom(store: impl Store) -> Self {
        Self(Choice::Custom(Arc::new(store)))
    }

    pub(crate) const fn is_in_memory(&self) -> bool {
        match self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(_) => true,
            _ => false,
        }
    }

    #[cfg(feature = "memory")]
    pub(crate) const fn memory(&self) -> Option<&MemoryStore> {
        match &self.0 {
            Choice::Memory(store) => Some(store),
            _ => None,
        }
    }
}

#[cfg(feature = "memory")]
impl From<MemoryStore> for AnyStore {
    fn from(store: MemoryStore) -> Self {
        Self(Choice::Memory(store))
    }
}

#[cfg(feature = "redis")]
impl From<RedisStore> for AnyStore {
    fn from(store: RedisStore) -> Self {
        Self(Choice::Redis(Arc::new(store)))
    }
}

impl AnyHandle {
    #[cfg(feature = "memory")]
    pub(crate) const fn memory(&self) -> Option<&MemoryHandle> {
        match &self.0 {
            HandleChoice::Memory(handle) => Some(handle),
            _ => None,
        }
    }

    pub(crate) fn custom(handle: Arc<dyn DynamicHandle>) -> Self {
        Self(HandleChoice::Custom(handle))
    }
}

impl DecisionHandle for AnyHandle {
    async fn check_and_consume(&self, charge: &Charge) -> Result<Decision, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            HandleChoice::Memory(handle) => Ok(handle.check_and_consume(charge)),
            #[cfg(feature = "redis")]
            HandleChoice::Redis(handle) => {
                DecisionHandle::check_and_consume(&**handle, charge).await
            }
            HandleChoice::Custom(handle) => handle.check_and_consume(charge).await,
        }
    }

    async fn peek(&self, charge: &Charge) -> Result<Decision, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            HandleChoice::Memory(handle) => Ok(handle.peek(charge)),
            #[cfg(feature = "redis")]
            HandleChoice::Redis(handle) => DecisionHandle::peek(&**handle, charge).await,
            HandleChoice::Custom(handle) => handle.peek(charge).await,
        }
    }
}

impl DecisionStore for AnyStore {
    type Handle = AnyHandle;

    fn failure_domain(&self, key: &KeyId) -> FailureDomain {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(_) => FailureDomain::WHOLE,
            #[cfg(feature = "redis")]
            Choice::Redis(store) => DecisionStore::failure_domain(&**store, key),
            Choice::Custom(store) => store.failure_domain(key),
        }
    }

    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => Ok(store.check_and_consume(key, asset, charge)),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => {
                DecisionStore::check_and_consume(&**store, key, asset, charge).await
            }
            Choice::Custom(store) => store.check_and_consume(key, asset, charge).await,
        }
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => Ok(store.peek(key, asset, charge)),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => DecisionStore::peek(&**store, key, asset, charge).await,
            Choice::Custom(store) => store.peek(key, asset, charge).await,
        }
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => Ok(store.usage(key)),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => DecisionStore::usage(&**store, key).await,
            Choice::Custom(store) => store.usage(key).await,
        }
    }

    async fn handle(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
    ) -> Result<Option<AnyHandle>, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => {
                let handle = store.handle(key, asset);
                Ok(handle.map(|handle| AnyHandle(HandleChoice::Memory(handle))))
            }
            #[cfg(feature = "redis")]
            Choice::Redis(store) => {
                let handle = DecisionStore::handle(&**store, key, asset).await?;
                Ok(handle.map(|handle| AnyHandle(HandleChoice::Redis(Arc::new(handle)))))
            }
            Choice::Custom(store) => store.handle(key, asset).await,
        }
    }
}

impl ReservationStore for AnyStore {
    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => store.check_once(key, asset, charge, id),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => {
                ReservationStore::check_once(&**store, key, asset, charge, id).await
            }
            Choice::Custom(store) => store.check_once(key, asset, charge, id).await,
        }
    }

    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => store.record(key, asset, charge, id),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => {
                ReservationStore::record(&**store, key, asset, charge, id).await
            }
            Choice::Custom(store) => store.record(key, asset, charge, id).await,
        }
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => store.reserve(key, asset, estimate, id, ttl),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => {
                ReservationStore::reserve(&**store, key, asset, estimate, id, ttl).await
            }
            Choice::Custom(store) => store.reserve(key, asset, estimate, id, ttl).await,
        }
    }

    async fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => store.extend(key, id, to),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => ReservationStore::extend(&**store, key, id, to).await,
            Choice::Custom(store) => store.extend(key, id, to).await,
        }
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => store.settle(key, id, actual),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => ReservationStore::settle(&**store, key, id, actual).await,
            Choice::Custom(store) => store.settle(key, id, actual).await,
        }
    }

    fn listen(&self, listener: Listener) {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => ReservationStore::listen(store, listener),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => ReservationStore::listen(&**store, listener),
            Choice::Custom(store) => store.listen(listener),
        }
    }

    async fn flush(&self, within: Duration) -> Unpaid {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => ReservationStore::flush(store, within).await,
            #[cfg(feature = "redis")]
            Choice::Redis(store) => ReservationStore::flush(&**store, within).await,
            Choice::Custom(store) => store.flush(within).await,
        }
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => store.cancel(key, id),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => ReservationStore::cancel(&**store, key, id).await,
            Choice::Custom(store) => store.cancel(key, id).await,
        }
    }
}

impl KeyStore for AnyStore {
    fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(_) => FailureDomain::WHOLE,
            #[cfg(feature = "redis")]
            Choice::Redis(store) => KeyStore::lookup_domain(&**store, digest),
            Choice::Custom(store) => store.lookup_domain(digest),
        }
    }

    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => Ok(store.resolve(digest)),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => KeyStore::resolve(&**store, digest).await,
            Choice::Custom(store) => store.resolve(digest).await,
        }
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => Ok(store.read(id)),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => KeyStore::read(&**store, id).await,
            Choice::Custom(store) => store.read(id).await,
        }
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => store.create(key),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => KeyStore::create(&**store, key).await,
            Choice::Custom(store) => store.create(key).await,
        }
    }

    async fn create_many(&self, keys: Vec<NewRecord>) -> Result<CreateResults, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => KeyStore::create_many(store, keys).await,
            #[cfg(feature = "redis")]
            Choice::Redis(store) => KeyStore::create_many(&**store, keys).await,
            Choice::Custom(store) => store.create_many(keys).await,
        }
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<KeyRecord, KeysError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => store.update(workspace, id, version, config),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => {
                KeyStore::update(&**store, workspace, id, version, config).await
            }
            Choice::Custom(store) => store.update(workspace, id, version, config).await,
        }
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => store.delete(workspace, id),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => KeyStore::delete(&**store, workspace, id).await,
            Choice::Custom(store) => store.delete(workspace, id).await,
        }
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        match &self.0 {
            #[cfg(feature = "memory")]
            Choice::Memory(store) => Ok(store.list(workspace, search)),
            #[cfg(feature = "redis")]
            Choice::Redis(store) => KeyStore::list(&**store, workspace, search).await,
            Choice::Custom(store) => store.list(workspace, search).await,
        }
    }
}
