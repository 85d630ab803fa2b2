//! The engine: a store, and what is the same for every store.

use std::time::Duration;

use crate::access_key::{AccessKey, Entropy};
use crate::charge::Charge;
use crate::config::NewKey;
use crate::decision::Decision;
use crate::error::{BoxError, KeysError, StoreError};
use crate::key::CreatedKey;
use crate::keys::{self, Caller, Keys};
use crate::names::{AssetId, KeyId, RequestId, WorkspaceId};
use crate::reservation::ReservationError;
use crate::settled::Settled;
use crate::store::Store;
use crate::thresholds::Thresholds;
use crate::totals::Totals;
use crate::usage::Usage;

/// Rate limits for API keys on a store of any kind.
///
/// Users of the `limiter` crate meet it as `Limiter`, which chooses the store at run time.
#[derive(Debug)]
pub struct Engine<S> {
    store: S,
    entropy: Entropy,
    thresholds: Thresholds,
}

impl<S: Store> Engine<S> {
    /// An engine on this store. `entropy` fills a buffer with random bytes for new keys, from the
    /// operating system's source or one as good.
    pub fn new(
        store: S,
        entropy: impl Fn(&mut [u8]) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        let entropy = Entropy::new(entropy);
        Self { store, entropy, thresholds: Thresholds::default() }
    }

    /// The same with these thresholds for keys that are created or updated without thresholds of their own; 80 % and
    /// 100 % unless set.
    #[must_use]
    pub fn with_thresholds(self, thresholds: Thresholds) -> Self {
        Self { thresholds, ..self }
    }

    /// The thresholds of keys that have none of their own.
    pub const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// The store.
    pub const fn store(&self) -> &S {
        &self.store
    }

    /// The id of the key with this access key, or `None` if it belongs to no living key.
    ///
    /// An expired key is found; its calls are denied.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub async fn authenticate(&self, access_key: &AccessKey) -> Result<Option<KeyId>, StoreError> {
        self.store.resolve(&access_key.digest()).await
    }

    /// Decides whether the key may make this call, and charges it if so, in one atomic step.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer; a denial is no error.
    pub async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        self.store.check_and_consume(key, asset, charge).await
    }

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        self.store.peek(key, asset, charge).await
    }

    /// Resolves a key and an asset for many calls, or `None` if the key is not known.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub async fn handle(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
    ) -> Result<Option<S::Handle>, StoreError> {
        self.store.handle(key, asset).await
    }

    /// What the key has used, or `None` if it is not known. Nobody's rights are checked here; see
    /// [`Keys::usage`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        self.store.usage(key).await
    }

    /// Creates the first key of a workspace: an admin key without an expiry.
    ///
    /// # Errors
    /// [`KeysError::AlreadyBootstrapped`] if the workspace has keys; [`KeysError::FirstMustBeAdmin`]
    /// if the key is no admin key or has an expiry; and what [`Keys::create`] may answer.
    pub async fn bootstrap(
        &self,
        workspace: WorkspaceId,
        admin: NewKey,
    ) -> Result<CreatedKey, KeysError> {
        keys::bootstrap(&self.store, &self.entropy, self.thresholds, workspace, admin).await
    }

    /// The keys of a workspace, as the holder of this access key sees them.
    pub fn keys<'a>(&'a self, caller: &'a AccessKey) -> Keys<'a, S> {
        Keys::new(&self.store, &self.entropy, self.thresholds, Caller::AccessKey(caller))
    }

    /// The keys of a workspace, as this key sees them: for services that authenticate their callers
    /// themselves.
    pub fn keys_as<'a>(&'a self, caller: &'a KeyId) -> Keys<'a, S> {
        Keys::new(&self.store, &self.entropy, self.thresholds, Caller::Id(caller))
    }
}

/// Calls that are repeated, and calls whose cost is known only afterwards.
impl<S: Store> Engine<S> {
    /// As [`check_and_consume`](Self::check_and_consume), but charged once, however often it is repeated under this id
    /// within the dedupe time: a retry after a timeout is safe.
    ///
    /// A repetition is allowed, flagged as replayed, and charges nothing, whatever its asset and charge. Only what was
    /// allowed is remembered; what was denied is decided anew.
    ///
    /// # Errors
    /// [`ReservationError::TooMany`] if no more ids can be remembered, or a store error.
    pub async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        self.store.check_once(key, asset, charge, id).await
    }

    /// Decides and charges a call by its estimate, which can be [extended](Self::extend), and
    /// [settled](Self::settle) or [cancelled](Self::cancel) once, until `ttl` has passed. What is never settled stands as
    /// estimated.
    ///
    /// Repeated under the same id it is allowed, flagged as replayed, and charges nothing.
    ///
    /// # Errors
    /// [`ReservationError::OtherExists`] if the id is that of a reservation of another asset or other figures,
    /// [`ReservationError::TooMany`] if no more can be remembered, or a store error.
    pub async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        self.store.reserve(key, asset, estimate, id, ttl).await
    }

    /// Raises the estimate of a running call to new totals: what is missing is charged like a top-up, all or nothing,
    /// in the windows open now. So a repetition charges nothing.
    ///
    /// # Errors
    /// As [`reservation::extend`](crate::reservation::extend), or a store error.
    pub async fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        self.store.extend(key, id, to).await
    }

    /// Corrects the estimate to what the call did cost: in the windows that admitted it, as far as they go on. What
    /// exceeds the estimate is always counted, in the windows open now if those have closed.
    ///
    /// Answers the final charge. Repeating it changes nothing more, and answers the same charge as a repetition.
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`], as [`reservation::settle`](crate::reservation::settle), or a store error.
    pub async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        self.store.settle(key, id, actual).await
    }

    /// Takes the whole charge back, the request too: the call never went upstream. Repeating it changes nothing more.
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`], as [`reservation::cancel`](crate::reservation::cancel), or a store error.
    pub async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        self.store.cancel(key, id).await
    }
}
