//! The cell of one key: everything that a decision about it needs.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use limiter_core::{
    AssetHint, AssetId, Charge, Crossing, Decision, KeyId, KeyState, Ledger, Levels, LevelsMut,
    LocatedAsset, Timestamp, evaluate,
};

use crate::plans::Planned;
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
    /// Its plan and its ledger, if it has either.
    pub(crate) attached: Option<Box<Attached>>,
}

/// The plan and the ledger of a cell. Most cells have neither.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    /// Its plan.
    pub(crate) planned: Option<Planned>,
    /// The ledger of its calls, if any reserved or had an id. Boxed: a key with a plan alone has none.
    pub(crate) ledger: Option<Box<Ledger>>,
}

impl Attached {
    pub(crate) fn boxed(
        planned: Option<Planned>,
        ledger: Option<Box<Ledger>>,
    ) -> Option<Box<Self>> {
        let is_any = planned.is_some() || ledger.is_some();
        is_any.then(|| Box::new(Self { planned, ledger }))
    }
}

/// A key with its groups, the outermost first.
#[derive(Debug)]
pub(crate) struct Reached<'a, 'b> {
    pub(crate) cell: &'a mut Cell,
    pub(crate) groups: &'a mut [&'b mut KeyState],
}

impl Cell {
    /// Takes the latest version of its plan, if it has one. Returns the thresholds that this reached.
    #[inline]
    pub(crate) fn catch_up(&mut self, now: Timestamp) -> Vec<Crossing> {
        match self.attached.as_ref().and_then(|attached| attached.planned.as_ref()) {
            Some(planned) => planned.catch_up(&mut self.state, now),
            None => Vec::new(),
        }
    }

    pub(crate) fn set_planned(&mut self, planned: Option<Planned>) {
        let ledger = self.attached.take().and_then(|attached| attached.ledger);
        self.attached = Attached::boxed(planned, ledger);
    }

    /// Returns the state as it is with the latest version of its plan.
    pub(crate) fn latest(&self, now: Timestamp) -> Cow<'_, KeyState> {
        match self.attached.as_ref().and_then(|attached| attached.planned.as_ref()) {
            Some(planned) if planned.is_ahead_of(&self.state) => {
                let mut state = self.state.clone();
                planned.catch_up(&mut state, now);
                Cow::Owned(state)
            }
            _ => Cow::Borrowed(&self.state),
        }
    }
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
        let Cell { id, state, attached, .. } = self.cell;
        let of_key = attached.get_or_insert_default();
        let ledger = of_key.ledger.get_or_insert_default();
        ledger.forget_until(now);
        let done = step(&mut levels(id, asset, self.groups, state), ledger);
        if ledger.is_empty() {
            of_key.ledger = None;
            if of_key.planned.is_none() {
                *attached = None;
            }
        }
        done
    }
}

/// Decides a call of a key, the last of these cells, in its groups, and changes nothing.
pub(crate) fn peek(
    levels: &[&Cell],
    asset: Option<&AssetId>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    let Some(own) = levels.last() else { return Decision::key_unknown(None, asset) };
    let states: Vec<_> = levels.iter().map(|cell| cell.latest(now)).collect();
    let levels = Levels::new(&own.id, asset, states.iter().map(|state| &**state));
    evaluate::peek(&levels, charge, now)
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
