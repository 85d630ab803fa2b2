//! A key and an asset of a guarded store.

use std::fmt;
use std::sync::{Arc, OnceLock};

use limiter_core::{
    AssetId, Charge, Decision, DecisionHandle, KeyId, Store, StoreError, Timestamp,
};

use crate::asking::Effect;
use crate::here::Here;
use crate::store::GuardedStore;

/// A key and an asset, resolved once. What could not be resolved in an outage is resolved by the first call after it.
pub struct GuardedHandle<S: Store> {
    store: GuardedStore<S>,
    key: KeyId,
    asset: Option<AssetId>,
    resolved: Arc<OnceLock<S::Handle>>,
}

impl<S: Store> GuardedHandle<S> {
    pub(crate) fn new(
        store: GuardedStore<S>,
        key: &KeyId,
        asset: Option<&AssetId>,
        resolved: Option<S::Handle>,
    ) -> Self {
        let resolved = Arc::new(resolved.map_or_else(OnceLock::new, OnceLock::from));
        Self { store, key: key.clone(), asset: asset.cloned(), resolved }
    }

    async fn decide<F: Future<Output = Result<Decision, StoreError>>>(
        &self,
        effect: Effect,
        call: impl FnOnce(S::Handle) -> F,
        here: impl FnOnce(&mut Here, Timestamp) -> Result<Decision, StoreError>,
    ) -> Result<Decision, StoreError> {
        let asset = self.asset.as_ref();
        let ask = |store| async move {
            let handle = match self.resolved.get() {
                Some(handle) => handle,
                None => match S::handle(store, &self.key, asset).await? {
                    Some(found) => self.resolved.get_or_init(|| found),
                    None => return Ok(Decision::key_unknown(Some(&self.key), asset)),
                },
            };
            call(handle.clone()).await
        };
        let asked = self.store.asking().ask(&self.key, effect, ask).await;
        self.store.or_policy(&self.key, asked, here)
    }
}

impl<S: Store> DecisionHandle for GuardedHandle<S> {
    async fn check_and_consume(&self, charge: &Charge) -> Result<Decision, StoreError> {
        let call = |handle: S::Handle| async move { handle.check_and_consume(charge).await };
        let asset = self.asset.as_ref();
        let here = |here: &mut Here, now| Ok(here.check(asset, charge, now));
        self.decide(Effect::Charges, call, here).await
    }

    async fn peek(&self, charge: &Charge) -> Result<Decision, StoreError> {
        let call = |handle: S::Handle| async move { handle.peek(charge).await };
        let asset = self.asset.as_ref();
        let here = |here: &mut Here, now| Ok(here.peek(asset, charge, now));
        self.decide(Effect::Reads, call, here).await
    }
}

impl<S: Store> Clone for GuardedHandle<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            key: self.key.clone(),
            asset: self.asset.clone(),
            resolved: Arc::clone(&self.resolved),
        }
    }
}

impl<S: Store> fmt::Debug for GuardedHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedHandle")
            .field("key", &self.key)
            .field("asset", &self.asset)
            .finish_non_exhaustive()
    }
}
