//! Handles of a limiter in memory pass the suite that every store passes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use limiter::memory::MemoryStore;
use limiter::store::{CallError, LedgerBounds, Store};
use limiter::{AssetId, Charge, Decision, Handle, KeyId, Limiter, ManualClock, StoreError};
use limiter_conformance::suite::{self, StoreUnderTest};
use limiter_conformance::{Around, Called, Interpose};

#[derive(Debug)]
struct InMemory;

impl StoreUnderTest for InMemory {
    type Store = Around<ByHandles>;

    async fn with_bounds(&self, clock: ManualClock, bounds: LedgerBounds) -> Around<ByHandles> {
        let store = MemoryStore::builder().clock(clock).ledger_bounds(bounds).build();
        let limiter = Limiter::from(store.clone());
        Around(ByHandles { store, limiter, handles: Mutex::default() })
    }
}

/// A store whose checks and peeks go through handles: one for each key and asset, obtained by their first call and
/// kept, also when the key is changed or deleted.
#[derive(Debug)]
struct ByHandles {
    store: MemoryStore,
    limiter: Limiter,
    handles: Mutex<HashMap<(KeyId, Option<AssetId>), Handle>>,
}

impl ByHandles {
    async fn handle(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
    ) -> Result<Option<Handle>, StoreError> {
        let named = (key.clone(), asset.cloned());
        let kept = self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(&named).cloned();
        if kept.is_some() {
            return Ok(kept);
        }
        let handle = self.limiter.handle(key, asset).await?;
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &handle {
            handles.insert(named, handle.clone());
        }
        Ok(handle)
    }
}

impl Interpose for ByHandles {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn decide(
        &self,
        called: Called<'_>,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        match self.handle(key, asset).await? {
            Some(handle) if called.charges() => handle.check_and_consume(charge).await,
            Some(handle) => handle.peek(charge).await,
            None => Ok(Decision::key_unknown(Some(key), asset)),
        }
    }

    async fn call<T: Send, E: CallError>(
        &self,
        called: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        if let ("create", Some(id)) = (called.operation, called.key) {
            // The handles stay with the key that had the id before.
            let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
            handles.retain(|(key, _), _| key != id);
        }
        call.await
    }
}

fn main() {
    suite::main(InMemory);
}
