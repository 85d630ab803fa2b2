//! A user's own store behind a pointer: the traits of the core with boxed futures.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    AssetId, Charge, CreateResults, Crossing, Decision, DecisionHandle, FailureDomain, KeyConfig,
    KeyDigest, KeyId, KeyRecord, KeysError, Listener, NewRecord, Page, RecordId, RequestId,
    ReservationError, Search, Settled, Store, StoreError, Totals, Unpaid, Usage, WorkspaceId,
};

use crate::any_store::AnyHandle;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub(crate) trait DynamicStore: Debug + Send + Sync {
    fn failure_domain(&self, key: &KeyId) -> FailureDomain;
    fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain;
    fn check_and_consume<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        charge: &'a Charge,
    ) -> Boxed<'a, Result<Decision, StoreError>>;
    fn peek<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        charge: &'a Charge,
    ) -> Boxed<'a, Result<Decision, StoreError>>;
    fn usage<'a>(&'a self, key: &'a KeyId) -> Boxed<'a, Result<Option<Usage>, StoreError>>;
    fn handle<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
    ) -> Boxed<'a, Result<Option<AnyHandle>, StoreError>>;
    fn check_once<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        charge: &'a Charge,
        id: &'a RequestId,
    ) -> Boxed<'a, Result<Decision, ReservationError>>;
    fn record<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        charge: &'a Charge,
        id: &'a RecordId<'a>,
    ) -> Boxed<'a, Result<Vec<Crossing>, ReservationError>>;
    fn reserve<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        estimate: &'a Charge,
        id: &'a RequestId,
        ttl: Duration,
    ) -> Boxed<'a, Result<Decision, ReservationError>>;
    fn extend<'a>(
        &'a self,
        key: &'a KeyId,
        id: &'a RequestId,
        to: &'a Totals,
    ) -> Boxed<'a, Result<Decision, ReservationError>>;
    fn settle<'a>(
        &'a self,
        key: &'a KeyId,
        id: &'a RequestId,
        actual: &'a Totals,
    ) -> Boxed<'a, Result<Settled, ReservationError>>;
    fn listen(&self, listener: Listener);
    fn flush(&self, within: Duration) -> Boxed<'_, Unpaid>;
    fn cancel<'a>(
        &'a self,
        key: &'a KeyId,
        id: &'a RequestId,
    ) -> Boxed<'a, Result<Settled, ReservationError>>;
    fn resolve<'a>(&'a self, digest: &'a KeyDigest)
    -> Boxed<'a, Result<Option<KeyId>, StoreError>>;
    fn read<'a>(&'a self, id: &'a KeyId) -> Boxed<'a, Result<Option<KeyRecord>, StoreError>>;
    fn create(&self, key: NewRecord) -> Boxed<'_, Result<KeyRecord, KeysError>>;
    fn create_many(&self, keys: Vec<NewRecord>) -> Boxed<'_, Result<CreateResults, StoreError>>;
    fn update<'a>(
        &'a self,
        workspace: &'a WorkspaceId,
        id: &'a KeyId,
        version: u64,
        config: &'a KeyConfig,
    ) -> Boxed<'a, Result<KeyRecord, KeysError>>;
    fn delete<'a>(
        &'a self,
        workspace: &'a WorkspaceId,
        id: &'a KeyId,
    ) -> Boxed<'a, Result<(), KeysError>>;
    fn list<'a>(
        &'a self,
        workspace: &'a WorkspaceId,
        search: &'a Search,
    ) -> Boxed<'a, Result<Page, StoreError>>;
}

pub(crate) trait DynamicHandle: Debug + Send + Sync {
    fn check_and_consume<'a>(
        &'a self,
        charge: &'a Charge,
    ) -> Boxed<'a, Result<Decision, StoreError>>;
    fn peek<'a>(&'a self, charge: &'a Charge) -> Boxed<'a, Result<Decision, StoreError>>;
}

impl<S: Store> DynamicStore for S {
    fn failure_domain(&self, key: &KeyId) -> FailureDomain {
        self.failure_domain(key)
    }

    fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain {
        self.lookup_domain(digest)
    }

    fn check_and_consume<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        charge: &'a Charge,
    ) -> Boxed<'a, Result<Decision, StoreError>> {
        Box::pin(self.check_and_consume(key, asset, charge))
    }

    fn peek<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        charge: &'a Charge,
    ) -> Boxed<'a, Result<Decision, StoreError>> {
        Box::pin(self.peek(key, asset, charge))
    }

    fn usage<'a>(&'a self, key: &'a KeyId) -> Boxed<'a, Result<Option<Usage>, StoreError>> {
        Box::pin(self.usage(key))
    }

    fn handle<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
    ) -> Boxed<'a, Result<Option<AnyHandle>, StoreError>> {
        Box::pin(async move {
            let handle = self.handle(key, asset).await?;
            Ok(handle.map(|handle| AnyHandle::custom(Arc::new(handle))))
        })
    }

    fn check_once<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        charge: &'a Charge,
        id: &'a RequestId,
    ) -> Boxed<'a, Result<Decision, ReservationError>> {
        Box::pin(self.check_once(key, asset, charge, id))
    }

    fn record<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        charge: &'a Charge,
        id: &'a RecordId<'a>,
    ) -> Boxed<'a, Result<Vec<Crossing>, ReservationError>> {
        Box::pin(self.record(key, asset, charge, id))
    }

    fn reserve<'a>(
        &'a self,
        key: &'a KeyId,
        asset: Option<&'a AssetId>,
        estimate: &'a Charge,
        id: &'a RequestId,
        ttl: Duration,
    ) -> Boxed<'a, Result<Decision, ReservationError>> {
        Box::pin(self.reserve(key, asset, estimate, id, ttl))
    }

    fn extend<'a>(
        &'a self,
        key: &'a KeyId,
        id: &'a RequestId,
        to: &'a Totals,
    ) -> Boxed<'a, Result<Decision, ReservationError>> {
        Box::pin(self.extend(key, id, to))
    }

    fn settle<'a>(
        &'a self,
        key: &'a KeyId,
        id: &'a RequestId,
        actual: &'a Totals,
    ) -> Boxed<'a, Result<Settled, ReservationError>> {
        Box::pin(self.settle(key, id, actual))
    }

    fn listen(&self, listener: Listener) {
        S::listen(self, listener);
    }

    fn flush(&self, within: Duration) -> Boxed<'_, Unpaid> {
        Box::pin(S::flush(self, within))
    }

    fn cancel<'a>(
        &'a self,
        key: &'a KeyId,
        id: &'a RequestId,
    ) -> Boxed<'a, Result<Settled, ReservationError>> {
        Box::pin(self.cancel(key, id))
    }

    fn resolve<'a>(
        &'a self,
        digest: &'a KeyDigest,
    ) -> Boxed<'a, Result<Option<KeyId>, StoreError>> {
        Box::pin(self.resolve(digest))
    }

    fn read<'a>(&'a self, id: &'a KeyId) -> Boxed<'a, Result<Option<KeyRecord>, StoreError>> {
        Box::pin(self.read(id))
    }

    fn create(&self, key: NewRecord) -> Boxed<'_, Result<KeyRecord, KeysError>> {
        Box::pin(self.create(key))
    }

    fn create_many(&self, keys: Vec<NewRecord>) -> Boxed<'_, Result<CreateResults, StoreError>> {
        Box::pin(self.create_many(keys))
    }

    fn update<'a>(
        &'a self,
        workspace: &'a WorkspaceId,
        id: &'a KeyId,
        version: u64,
        config: &'a KeyConfig,
    ) -> Boxed<'a, Result<KeyRecord, KeysError>> {
        Box::pin(self.update(workspace, id, version, config))
    }

    fn delete<'a>(
        &'a self,
        workspace: &'a WorkspaceId,
        id: &'a KeyId,
    ) -> Boxed<'a, Result<(), KeysError>> {
        Box::pin(self.delete(workspace, id))
    }

    fn list<'a>(
        &'a self,
        workspace: &'a WorkspaceId,
        search: &'a Search,
    ) -> Boxed<'a, Result<Page, StoreError>> {
        Box::pin(self.list(workspace, search))
    }
}

impl<H: DecisionHandle> DynamicHandle for H {
    fn check_and_consume<'a>(
        &'a self,
        charge: &'a Charge,
    ) -> Boxed<'a, Result<Decision, StoreError>> {
        Box::pin(self.check_and_consume(charge))
    }

    fn peek<'a>(&'a self, charge: &'a Charge) -> Boxed<'a, Result<Decision, StoreError>> {
        Box::pin(self.peek(charge))
    }
}
