//! The cell of one key: its state behind its lock.

use std::sync::atomic::{AtomicU64, Ordering};

use limiter_core::{
    AssetHint, AssetId, Charge, Decision, InvalidValue, KeyConfig, KeyId, KeyRecord, KeyState,
    StoredKey, Usage, evaluate,
};

use crate::sync::Mutex;
use crate::time::Time;

/// The state of one key. Every step on it happens under this lock, and nowhere else.
///
/// The time is read under the lock too: a caller that read it before and then had to wait would
/// look like a clock that steps back.
#[derive(Debug)]
pub(crate) struct Cell {
    id: KeyId,
    /// `None` once the key is deleted, for those who still hold the cell.
    state: Mutex<Option<KeyState>>,
}

impl Cell {
    pub(crate) fn new(id: KeyId, state: KeyState) -> Self {
        Self { id, state: Mutex::new(Some(state)) }
    }

    pub(crate) const fn id(&self) -> &KeyId {
        &self.id
    }

    /// Decides and charges.
    #[inline]
    pub(crate) fn check_and_consume(
        &self,
        asset: Option<&AssetId>,
        charge: &Charge,
        time: &Time,
    ) -> Decision {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return Decision::key_unknown(asset) };
        let asset = state.locate(asset);
        evaluate::check_and_consume(state, asset, charge, time.now())
    }

    /// The same for a caller that remembers where its asset is.
    #[inline]
    pub(crate) fn check_and_consume_hinted(
        &self,
        asset: Option<&AssetId>,
        hint: &SharedHint,
        charge: &Charge,
        time: &Time,
    ) -> Decision {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else { return Decision::key_unknown(asset) };
        let asset = match state.locate_hinted(asset, hint.get()) {
            Some(asset) => asset,
            None => {
                let asset = state.locate(asset);
                hint.set(state.hint(asset));
                asset
            }
        };
        evaluate::check_and_consume(state, asset, charge, time.now())
    }

    pub(crate) fn peek(&self, asset: Option<&AssetId>, charge: &Charge, time: &Time) -> Decision {
        let state = self.state.lock();
        match state.as_ref() {
            Some(state) => evaluate::peek(state, state.locate(asset), charge, time.now()),
            None => Decision::key_unknown(asset),
        }
    }

    pub(crate) fn usage(&self, time: &Time) -> Option<Usage> {
        self.state.lock().as_ref().map(|state| Usage::of(state, time.now()))
    }

    pub(crate) fn record(&self, key: &StoredKey, time: &Time) -> Option<KeyRecord> {
        self.state.lock().as_ref().map(|state| KeyRecord::of(key, state, time.now()))
    }

    /// Changes limits, budget and expiry; answers whether anything changed. A deleted key stays as it is.
    pub(crate) fn configure(&self, config: &KeyConfig, time: &Time) -> Result<bool, InvalidValue> {
        match self.state.lock().as_mut() {
            Some(state) => state.configure(config, time.now()),
            None => Ok(false),
        }
    }

    /// The state as it stands.
    pub(crate) fn state(&self) -> Option<KeyState> {
        self.state.lock().clone()
    }

    /// Deletes the key for everybody who holds its cell.
    pub(crate) fn delete(&self) {
        *self.state.lock() = None;
    }
}

/// Where a caller's asset was found the last time. It is only a hint, so that no ordering is needed.
#[derive(Debug, Default)]
pub(crate) struct SharedHint(AtomicU64);

impl SharedHint {
    #[inline]
    fn get(&self) -> AssetHint {
        let packed = self.0.load(Ordering::Relaxed);
        AssetHint { position: (packed >> 32) as u32, serial: packed as u32 }
    }

    fn set(&self, hint: AssetHint) {
        let packed = u64::from(hint.position) << 32 | u64::from(hint.serial);
        self.0.store(packed, Ordering::Relaxed);
    }
}
