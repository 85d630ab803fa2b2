//! The cell of one key: everything that a decision about it needs.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use limiter_core::{
    AssetHint, AssetId, Charge, Crossing, Decision, KeyId, KeyState, Ledger, Levels, LevelsMut,
    LocatedAsset, Timestamp, evaluate,
};

use crate::plans::{LivePlan, Planned};

/// One key or group. Access to it requires the lock of its shard.
///
/// The time is read under that lock too, once for each call: a caller that read it before and then had to wait would look
/// like a clock that steps back.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) id: KeyId,
    /// Distinguishes it from the cells that had its slot before. The numbers begin again after 2^32 cells.
    pub(crate) serial: u32,
    /// The slot of the group that it belongs to.
    pub(crate) group: u32,
    pub(crate) state: KeyState,
    /// Its plan, its ledger, and what it is to unregistered keys, if it has any.
    pub(crate) attached: Option<Box<Attached>>,
}

/// What most cells have none of.
#[derive(Debug, Default)]
pub(crate) struct Attached {
    /// Its plan.
    pub(crate) planned: Option<Planned>,
    /// The ledger of its calls, if any reserved or had an id. Boxed: a key with a plan alone has none.
    pub(crate) ledger: Option<Box<Ledger>>,
    /// Of an open group, the plan of unregistered keys beneath it.
    pub(crate) opens: Option<Arc<LivePlan>>,
    /// Whether nobody registered the key: the cell goes when its windows have ended.
    pub(crate) unregistered: bool,
}

impl Attached {
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        let Self { planned, ledger, opens, unregistered } = &self;
        let is_any = planned.is_some() || ledger.is_some() || opens.is_some() || *unregistered;
        is_any.then(|| Box::new(self))
    }
}

/// A key with its groups, the outermost first.
#[derive(Debug)]
pub(crate) struct Reached<'a, 'b> {
    pub(crate) cell: &'a mut Cell,
    pub(crate) groups: &'a mut [&'b mut KeyState],
    /// The time of the call.
    pub(crate) now: Timestamp,
}

impl Cell {
    /// Returns whether its plan has a later version than it has taken.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        self.planned().is_some_and(|planned| planned.is_ahead_of(&self.state))
    }

    #[inline]
    fn planned(&self) -> Option<&Planned> {
        self.attached.as_ref()?.planned.as_ref()
    }

    /// Takes the latest version of its plan, if it has one. Returns the thresholds that this reached.
    pub(crate) fn catch_up(&mut self, now: Timestamp) -> Vec<Crossing> {
        match self.attached.as_ref().and_then(|attached| attached.planned.as_ref()) {
            Some(planned) => planned.catch_up(&mut self.state, now),
            None => Vec::new(),
        }
    }

    /// Sets its plan, and the one with which it is open.
    pub(crate) fn set_plans(&mut self, planned: Option<Planned>, opens: Option<Arc<LivePlan>>) {
        let attached = self.attached.take().map(|attached| *attached).unwrap_or_default();
        self.attached = Attached { planned, opens, ..attached }.boxed();
    }

    /// Returns the plan of unregistered keys beneath it, if it is an open group.
    pub(crate) fn opens(&self) -> Option<&Arc<LivePlan>> {
        self.attached.as_ref()?.opens.as_ref()
    }

    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        !self.attached.as_ref().is_some_and(|attached| attached.unregistered)
    }

    /// Returns whether an unregistered key has the plan with which its group is open now.
    #[inline]
    pub(crate) fn follows(&self, opens: &Arc<LivePlan>) -> bool {
        self.planned().is_some_and(|planned| planned.is_of(opens))
    }

    /// Lets an unregistered key have the plan with which its group is open now. Returns the thresholds that this reached.
    #[cold]
    pub(crate) fn follow(&mut self, opens: &Arc<LivePlan>, now: Timestamp) -> Vec<Crossing> {
        let planned = Planned::of_unregistered(opens);
        let crossed = planned.take(&mut self.state, now);
        self.attached.get_or_insert_default().planned = Some(planned);
        crossed
    }

    /// Lets an unregistered key begin anew, of which a call is remembered.
    #[cold]
    pub(crate) fn begin_anew(&mut self, opens: &Arc<LivePlan>, now: Timestamp) {
        self.state = self.state.begun_anew(&opens.get(), now);
        self.attached.get_or_insert_default().planned = Some(Planned::of_unregistered(opens));
    }

    /// Returns whether nothing is left of an unregistered key: its windows have ended, and no call is remembered.
    #[inline]
    pub(crate) fn is_gone(&self, now: Timestamp) -> bool {
        self.state.is_over(now) && self.remembers_until().is_none_or(|until| until <= now)
    }

    fn remembers_until(&self) -> Option<Timestamp> {
        self.attached.as_ref()?.ledger.as_deref()?.last_forgotten_at()
    }

    /// Returns the instant from which on an unregistered key is as if it had never made a call, if it makes none until then.
    pub(crate) fn lasts_until(&self) -> Timestamp {
        self.remembers_until().unwrap_or(Timestamp::MIN).max(self.state.lasts_until())
    }

    /// Returns when to look whether an unregistered key may go. A call that is remembered may end, and then be remembered for a
    /// shorter time: such a key is looked at within a minute.
    pub(crate) fn looked_at_next(&self, now: Timestamp) -> Timestamp {
        let remembered = self.remembers_until().unwrap_or(Timestamp::MIN);
        self.state.lasts_until().max(remembered.min(now.after(LOOKED_AT)))
    }

    /// Returns the state of an unregistered key as it is with the plan with which its group is open now.
    pub(crate) fn latest_beneath(
        &self,
        opens: &Arc<LivePlan>,
        now: Timestamp,
    ) -> Cow<'_, KeyState> {
        let latest = match self.planned() {
            Some(planned) if planned.is_of(opens) => self.latest(now),
            _ => {
                let mut state = self.state.clone();
                Planned::of_unregistered(opens).take(&mut state, now);
                Cow::Owned(state)
            }
        };
        if latest.is_over(now) { Cow::Owned(latest.begun_anew(&opens.get(), now)) } else { latest }
    }

    /// Returns the state as it is with the latest version of its plan.
    pub(crate) fn latest(&self, now: Timestamp) -> Cow<'_, KeyState> {
        match self.planned() {
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
    pub(crate) fn charge(self, asset: Option<&AssetId>, charge: &Charge) -> Decision {
        if !self.groups.is_empty() {
            return self.charge_all(asset, charge);
        }
        let Cell { id, state, .. } = self.cell;
        evaluate::charge(state, id, state.locate(asset), charge, self.now)
    }

    /// Decides as [`charge`](Self::charge), for a caller that remembers the position of its asset.
    #[inline]
    pub(crate) fn charge_hinted(
        self,
        asset: Option<&AssetId>,
        hint: &SharedHint,
        charge: &Charge,
    ) -> Decision {
        if !self.groups.is_empty() {
            return self.charge_all(asset, charge);
        }
        let now = self.now;
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

    fn charge_all(self, asset: Option<&AssetId>, charge: &Charge) -> Decision {
        let Cell { id, state, .. } = self.cell;
        evaluate::charge_in_groups(id, asset, self.groups, state, charge, self.now)
    }

    /// Makes one step of a reservation on the levels and the ledger of the key. An empty ledger takes no memory.
    pub(crate) fn with_ledger<T>(
        self,
        asset: Option<&AssetId>,
        step: impl FnOnce(&mut LevelsMut<'_>, &mut Ledger, Timestamp) -> T,
    ) -> T {
        let now = self.now;
        let Cell { id, state, attached, .. } = self.cell;
        let of_key = attached.get_or_insert_default();
        let ledger = of_key.ledger.get_or_insert_default();
        ledger.forget_until(now);
        let done = step(&mut levels(id, asset, self.groups, state), ledger, now);
        if ledger.is_empty() {
            of_key.ledger = None;
            *attached = attached.take().and_then(|attached| attached.boxed());
        }
        done
    }
}

/// Decides a call of a key, whose state is the last of these, in its groups, and changes nothing.
pub(crate) fn peek(
    key: &KeyId,
    states: &[Cow<'_, KeyState>],
    asset: Option<&AssetId>,
    charge: &Charge,
    now: Timestamp,
) -> Decision {
    let levels = Levels::new(key, asset, states.iter().map(|state| &**state));
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

const LOOKED_AT: Duration = Duration::from_secs(60);

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
