//! A key and an asset, resolved once.

use limiter_core::{AssetId, Charge, Decision, KeyId, StoreError};
use limiter_memory::MemoryHandle;

use crate::answer::Answer;
use crate::deciding::Deciding;
use crate::limiter::Limiter;
use crate::observe::{Call, Operation};

/// A key and an asset, resolved once for many calls: see [`Limiter::handle`].
///
/// Limits apply as soon as they are in force, expiry and deletion of its key at once.
#[derive(Clone, Debug)]
pub struct Handle {
    limiter: Limiter,
    key: KeyId,
    asset: Option<AssetId>,
    memory: Option<MemoryHandle>,
}

impl Handle {
    pub(crate) fn new(
        limiter: &Limiter,
        key: &KeyId,
        asset: Option<&AssetId>,
        memory: Option<MemoryHandle>,
    ) -> Self {
        Self { limiter: limiter.clone(), key: key.clone(), asset: asset.cloned(), memory }
    }

    /// Decides whether the key may make this call, and charges it if so, as [`Limiter::check_and_consume`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer; a denial is no error.
    #[inline(always)] // its future is small, and a call would build it on the stack
    pub fn check_and_consume<'a>(
        &'a self,
        charge: &'a Charge,
    ) -> Answer<impl Future<Output = Result<Decision, StoreError>> + Send + 'a> {
        let call = move || self.call(Operation::CheckAndConsume).checking(charge, None);
        self.limiter.answer(match &self.memory {
            Some(memory) => {
                let decide = move || memory.check_and_consume(charge);
                Deciding::Now { observer: self.limiter.observer(), call, decide }
            }
            None => {
                let store = self.limiter.store();
                let answer = store.check_and_consume(&self.key, self.asset(), charge);
                self.limiter.later(call(), answer)
            }
        })
    }

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    #[inline]
    pub fn peek<'a>(
        &'a self,
        charge: &'a Charge,
    ) -> Answer<impl Future<Output = Result<Decision, StoreError>> + Send + 'a> {
        let call = move || self.call(Operation::Peek);
        self.limiter.answer(match &self.memory {
            Some(memory) => {
                let decide = move || memory.peek(charge);
                Deciding::Now { observer: self.limiter.observer(), call, decide }
            }
            None => {
                let answer = self.limiter.store().peek(&self.key, self.asset(), charge);
                self.limiter.later(call(), answer)
            }
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

    #[inline]
    const fn call(&self, operation: Operation) -> Call<'_> {
        Call::of(operation, &self.key).for_asset(self.asset())
    }
}
