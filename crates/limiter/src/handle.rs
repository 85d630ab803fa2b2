//! A key and an asset, resolved once.

use limiter_core::{AssetId, Charge, Decision, KeyId, StoreError};
#[cfg(feature = "memory")]
use limiter_memory::MemoryHandle;

use crate::answer::Answer;
use crate::limiter::Limiter;
#[cfg(feature = "memory")]
use crate::observe::{Call, Operation};

/// A key and an asset, resolved once for many calls: see [`Limiter::handle`].
///
/// It sees limits as soon as they are in force, and expiry and deletion of its key at once.
#[derive(Clone, Debug)]
pub struct Handle {
    limiter: Limiter,
    key: KeyId,
    asset: Option<AssetId>,
    #[cfg(feature = "memory")]
    memory: Option<MemoryHandle>,
}

impl Handle {
    pub(crate) fn new(limiter: &Limiter, key: &KeyId, asset: Option<&AssetId>) -> Self {
        Self {
            limiter: limiter.clone(),
            key: key.clone(),
            asset: asset.cloned(),
            #[cfg(feature = "memory")]
            memory: None,
        }
    }

    #[cfg(feature = "memory")]
    pub(crate) fn in_memory(self, memory: MemoryHandle) -> Self {
        Self { memory: Some(memory), ..self }
    }

    /// Decides whether the key may make this call, and charges it if so, as [`Limiter::check_and_consume`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer; a denial is no error.
    pub fn check_and_consume<'a>(
        &'a self,
        charge: &'a Charge,
    ) -> Answer<impl Future<Output = Result<Decision, StoreError>> + Send + 'a> {
        let asset = self.asset.as_ref();
        self.limiter.answer(async move {
            #[cfg(feature = "memory")]
            if let Some(memory) = &self.memory {
                let call = Call::of(Operation::CheckAndConsume, &self.key);
                let call = call.for_asset(asset).checking(charge, None);
                let decide = || memory.check_and_consume(charge);
                return Ok(self.limiter.observer().decide(call, decide));
            }
            self.limiter.check_and_consume(&self.key, asset, charge).await
        })
    }

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub fn peek<'a>(
        &'a self,
        charge: &'a Charge,
    ) -> Answer<impl Future<Output = Result<Decision, StoreError>> + Send + 'a> {
        let asset = self.asset.as_ref();
        self.limiter.answer(async move {
            #[cfg(feature = "memory")]
            if let Some(memory) = &self.memory {
                let call = Call::of(Operation::Peek, &self.key).for_asset(asset);
                return Ok(self.limiter.observer().decide(call, || memory.peek(charge)));
            }
            self.limiter.peek(&self.key, asset, charge).await
        })
    }

    /// Returns the key.
    #[must_use]
    pub const fn key(&self) -> &KeyId {
        &self.key
    }

    /// Returns the asset, if there is one.
    #[must_use]
    pub const fn asset(&self) -> Option<&AssetId> {
        self.asset.as_ref()
    }
}
