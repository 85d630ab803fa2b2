//! The cell of one key: everything that a decision about it needs.

use std::sync::atomic::{AtomicU64, Ordering};

use limiter_core::{
    AssetHint, AssetId, Charge, Decision, KeyId, KeyState, Ledger, Levels, LevelsMut, LocatedAsset,
    Timestamp, evaluate,
};

use crate::time::Time;

/// One key or group. Access to it requires the lock of its shard.
///
/// The time is read under that lock too: a caller that read it before and then had to wait would look
/// like a clock that steps back.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) id: KeyId,
    /// Distinguishes it from the cells that had its slot before. The numbers begin again after 2^32 cells.
    pub(crate) serial: u32,
    /// The slot of the group that it belongs to.
    pub(crate) group: u32,
    pub(crate) state: KeyState,
    /// The ledger of its calls, if it ever reserved a call or gave one an id.
    pub(crate) ledger: Option<Box<Ledger>>,
}

/// A key with its groups, the outermost first.
#[derive(Debug)]
pub(crate) struct Reached<'a, 'b> {
    pub(crate) cell: &'a mut Cell,
    pub(crate) groups: &'a mut [&'b mut KeyState],
}

impl Reached<'_, '_> {
    /// Decides a call, and charges it if it is allowed.
    #[inline]
    pub(crate) fn charge(self, asset: Option<&AssetId>, charge: &Charge, time: &Time) -> Decision {
        if !self.groups.is_empty() {
            return self.charge_all(asset, charge, time.now());
        }
        let Cell { id, state, .. } = self.cell;
        evaluate::charge(state, id, state.locate(asset), charge, time.now())
    }

    /// Decides as [`charge`](Self::charge), for a caller that remembers the position of its asset.
    #[inline]
    pub(crate) fn charge_hinted(
        self,
        asset: Option<&AssetId>,
        hint: &SharedHint,
        charge: &Charge,
        time: &Time,
    ) -> Decision {
        let now = time.now();
        if !self.groups.is_empty() {
            return self.charge_all(asset, charge, now);
        }
        let Cell { id, state, .. } = self.cell;
        match state.locate_hinted(asset, hint.get()) {
            Some(asset) => evaluate::charge(state, id, asset, charge, now),
            None => {
                let asset = state.locate(asset);
                hint.set(state.hint(asset));
                decide(state, id, asset, charge, now)
            }
        }
    }

    fn charge_all(self, asset: Option<&AssetId>, charge: &Charge, now: Timestamp) -> Decision {
        let Cell { id, state, .. } = self.cell;
        evaluate::charge_in_groups(id, asset, self.groups, state, charge, now)
    }

    /// Makes one step of a reservation on the levels and the ledger of the key. An empty ledger takes no memory.
    pub(crate) fn with_ledger<T>(
        self,
        asset: Option<&AssetId>,
        now: Timestamp,
        step: impl FnOnce(&mut LevelsMut<'_>, &mut Ledger) -> T,
    ) -> T {
        let Cell { id, state, ledger: of_key, .. } = self.cell;
        let ledger = of_key.get_or_insert_default();
        ledger.forget_until(now);
        let done = step(&mut levels(id, asset, self.groups, state), ledger);
        if ledger.is_empty() {
            *of_key = None;
        }
        done
    }

    pub(crate) fn peek(self, asset: Option<&AssetId>, charge: &Charge, time: &Time) -> Decision {
        let Cell { id, state, .. } = self.cell;
        let states = self.groups.iter().map(|state| &**state).chain([&*state]);
        evaluate::peek(&Levels::new(id, asset, states), charge, time.now())
    }
}

fn levels<'a>(
    id: &'a KeyId,
    asset: Option<&'a AssetId>,
    groups: &'a mut [&mut KeyState],
    state: &'a mut KeyState,
) -> LevelsMut<'a> {
    LevelsMut::new(id, asset, groups.iter_mut().map(|group| &mut **group).chain([state]))
}

#[inline(never)]
fn decide(
    state: &mut KeyState,
    id: &KeyId,
    asset: LocatedAsset<'_>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    evaluate::charge(state, id, asset, charge, now)
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
