//! A key and an asset, resolved once.

use limiter_core::{AssetId, Charge, Decision, DecisionHandle, KeyId, StoreError};

use crate::schema::{Incarnation, Mode};
use crate::store::RedisStore;

/// A key and an asset for many calls. It never charges a later key of the same id.
#[derive(Clone, Debug)]
pub struct RedisHandle {
    store: RedisStore,
    key: KeyId,
    asset: Option<AssetId>,
    incarnation: Incarnation,
}

impl RedisHandle {
    pub(crate) fn new(
        store: RedisStore,
        key: &KeyId,
        asset: Option<&AssetId>,
        incarnation: Incarnation,
    ) -> Self {
        Self { store, key: key.clone(), asset: asset.cloned(), incarnation }
    }
}

impl DecisionHandle for RedisHandle {
    async fn check_and_consume(&self, charge: &Charge) -> Result<Decision, StoreError> {
        let mode = Mode::Only(self.incarnation);
        self.store.decide(&self.key, self.asset.as_ref(), mode, charge).await
    }

    async fn peek(&self, charge: &Charge) -> Result<Decision, StoreError> {
        let mode = Mode::Only(self.incarnation);
        self.store.peek_as(&self.key, self.asset.as_ref(), mode, charge).await
    }
}
