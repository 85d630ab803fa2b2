//! The cell of one key: everything that a decision about it needs.

use std::sync::atomic::{AtomicU64, Ordering};

use limiter_core::{
    AssetHint, AssetId, Charge, Decision, KeyId, KeyState, Ledger, LocatedAsset, Timestamp,
    evaluate,
};

use crate::time::Time;

/// One key. Access to it requires the lock of its shard.
///
/// The time is read under that lock too: a caller that read it before and then had to wait would look
/// like a clock that steps back.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) id: KeyId,
    /// Distinguishes it from every other cell that this store has had.
    pub(crate) serial: u64,
    pub(crate) state: KeyState,
    /// The ledger of its calls, if it ever reserved a call or gave one an id.
    pub(crate) ledger: Option<Box<Ledger>>,
}

impl Cell {
    /// Decides a call, and charges it if it is allowed.
    #[inline]
    pub(crate) fn charge(
        &mut self,
        asset: Option<&AssetId>,
        charge: &Charge,
        time: &Time,
    ) -> Decision {
        let asset = self.state.locate(asset);
        evaluate::charge(&mut self.state, &self.id, asset, charge, time.now())
    }

    /// Decides as [`charge`](Self::charge), for a caller that remembers the position of its asset.
    #[inline]
    pub(crate) fn charge_hinted(
        &mut self,
        asset: Option<&AssetId>,
        hint: &SharedHint,
        charge: &Charge,
        time: &Time,
    ) -> Decision {
        let now = time.now();
        match self.state.locate_hinted(asset, hint.get()) {
            Some(asset) => evaluate::charge(&mut self.state, &self.id, asset, charge, now),
            None => {
                let asset = self.state.locate(asset);
                hint.set(self.state.hint(asset));
                self.decide(asset, charge, now)
            }
        }
    }

    #[inline(never)]
    fn decide(&mut self, asset: LocatedAsset<'_>, charge: &Charge, now: Timestamp) -> Decision {
        evaluate::charge(&mut self.state, &self.id, asset, charge, now)
    }

    /// Makes one step of a reservation on the state and the ledger. An empty ledger takes no memory.
    pub(crate) fn with_ledger<T>(
        &mut self,
        now: Timestamp,
        step: impl FnOnce(&mut KeyState, &mut Ledger) -> T,
    ) -> T {
        let ledger = self.ledger.get_or_insert_default();
        ledger.forget_until(now);
        let done = step(&mut self.state, ledger);
        if ledger.is_empty() {
            self.ledger = None;
        }
        done
    }

    pub(crate) fn peek(&self, asset: Option<&AssetId>, charge: &Charge, time: &Time) -> Decision {
        evaluate::peek(&self.state, &self.id, self.state.locate(asset), charge, time.now())
    }
}

/// The position at which a caller's asset was found the last time. It is only a hint, so that no ordering is needed.
#[derive(Debug, Default)]
pub(crate) struct SharedHint(AtomicU64);

impl SharedHint {
    #[inline]
    fn get(&self) -> AssetHint {
        let packed = self.0.load(Ordering::Relaxed);
        AssetHint { position: (packed >> 32) as u32, generation: packed as u32 }
    }

    fn set(&self, hint: AssetHint) {
        let packed = u64::from(hint.position) << 32 | u64::from(hint.generation);
        self.0.store(packed, Ordering::Relaxed);
    }
}
