//! A store with the management of its keys.

use std::ops::Deref;
use std::sync::Arc;

use limiter_core::{
    AccessKey, BoxError, CreatedKey, Issuer, KeyId, Keys, KeysError, NewKey, Store, StoreError,
    Thresholds, WorkspaceId,
};

/// A store with the management of its keys, for tests and replays. It derefs to the store.
#[derive(Debug)]
pub struct Managed {
    store: Arc<dyn Store>,
    issuer: Issuer,
}

impl Managed {
    /// Manages the keys of this store, which are made of these random bytes.
    pub fn new(
        store: Arc<dyn Store>,
        entropy: impl Fn(&mut [u8]) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self { store, issuer: Issuer::new(entropy) }
    }

    /// Sets the thresholds of keys that have none of their own.
    pub fn with_thresholds(self, thresholds: Thresholds) -> Self {
        Self { issuer: self.issuer.with_thresholds(thresholds), ..self }
    }

    /// The store.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Creates the first key of a workspace.
    ///
    /// # Errors
    /// As [`Issuer::bootstrap`].
    pub async fn bootstrap(
        &self,
        workspace: WorkspaceId,
        admin: NewKey,
    ) -> Result<CreatedKey, KeysError> {
        self.issuer.bootstrap(&*self.store, workspace, admin).await
    }

    /// The keys of a workspace, as the holder of this access key sees them.
    pub fn keys<'a>(&'a self, caller: &'a AccessKey) -> Keys<'a> {
        Keys::new(&*self.store, &self.issuer, caller)
    }

    /// The keys of a workspace, as this key sees them.
    pub fn keys_as<'a>(&'a self, caller: &'a KeyId) -> Keys<'a> {
        Keys::new(&*self.store, &self.issuer, caller)
    }

    /// The keys of a workspace, as its owner sees them.
    pub fn workspace(&self, id: WorkspaceId) -> Keys<'_> {
        Keys::new(&*self.store, &self.issuer, id)
    }

    /// The key with this access key.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub async fn authenticate(&self, access_key: &AccessKey) -> Result<Option<KeyId>, StoreError> {
        self.store.resolve(&access_key.digest()).await
    }
}

impl Deref for Managed {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}
