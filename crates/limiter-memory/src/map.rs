//! The cells of all living keys and groups, in shards, so that callers of different keys rarely wait for each other, and the
//! clock of all of them. Keys and groups with the same first segment share a shard: one lock covers a key and its groups.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::ops::DerefMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use limiter_core::{
    AssetId, Charge, Crossing, Decision, KeyId, KeyKind, KeyState, LateEvent, Listener, Timestamp,
};
use smallvec::SmallVec;

use crate::cell::{self, Attached, Cell, Reached};
use crate::plans::{LivePlan, Planned};
use crate::sync::{Mutex, RwLock, ShardMutex};
use crate::time::Time;

/// All living cells.
///
/// One lock covers the search for a key and the step on its cell, which is shorter than a second lock.
/// A cell stays where it is for as long as its key lives, so that a handle finds it without a search.
pub(crate) struct CellMap {
    shards: Box<[Shard]>,
    /// Seeded at random, so that no caller can choose ids that collide.
    hasher: RandomState,
    inserted: AtomicU32,
    /// The cells of unregistered keys, and the most that there may be.
    unregistered: AtomicUsize,
    most_unregistered: usize,
    /// The earliest time, in ms, at which the cell of one of them may be gone: none is before.
    room_at: AtomicI64,
    makes_room: Mutex<()>,
    time: Time,
    listeners: RwLock<Vec<Arc<Listener>>>,
}

/// On a cache line of its own: a shard that is busy must not slow its neighbours.
#[repr(align(64))]
struct Shard(ShardMutex<Slots>);

#[derive(Default)]
struct Slots {
    /// Maps the hash of an id to its slot. It is small, so that it stays in the processor's caches.
    index: HashTable<u32>,
    /// The keys. A chunk is allocated whole and never moves, so that a growing store does not pause to copy cells.
    chunks: Vec<Vec<Option<Cell>>>,
    free: Vec<u32>,
    /// The groups, apart from the keys, since a call needs both at once. Their slots are marked by [`GROUP`].
    groups: Vec<Option<Box<Cell>>>,
    free_groups: Vec<u32>,
    /// The unregistered keys, by the time at which each may be gone.
    unregistered: Unregistered,
}

/// The slots of unregistered keys, each with its serial.
#[derive(Default)]
struct Unregistered {
    due: BTreeMap<Timestamp, Vec<(u32, u32)>>,
    /// How many there are in `due`: also of cells that are gone, since only those that are due are taken out.
    noted: usize,
    count: usize,
}

/// A call that holds the lock of a shard. What is left to do comes at its end, so that the answer is written once, where the
/// caller wants it: to move it costs as much as to find the key.
struct Call<'a, L: DerefMut<Target = Slots>> {
    /// Unlocked before `after` goes.
    slots: L,
    now: Timestamp,
    after: AfterCall<'a>,
}

/// How a call finds its key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    /// With the latest version of its plan.
    Standing,
    /// Without a cell.
    Nothing,
    /// As a cell of an unregistered key of which nothing is left.
    Gone,
    /// As a cell beneath a group that is closed, or as one that is over and cannot remember a call that makes no request.
    Unknown,
}

/// What is done while no lock is held.
struct AfterCall<'a> {
    cells: &'a CellMap,
    gone: usize,
    late: Late,
}

/// What a call needs of an unregistered key that has no cell yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: it makes no request, so that it is decided without leaving a trace at the key.
    Nothing,
    /// A cell, which it gets if it is admitted: it makes a request.
    Cell,
    /// To be remembered, although it makes no request.
    Memory,
}

impl Needs {
    pub(crate) const fn of_check(charge: &Charge) -> Self {
        if charge.requests() > 0 { Self::Cell } else { Self::Nothing }
    }

    pub(crate) const fn of_remembered(charge: &Charge) -> Self {
        if charge.requests() > 0 { Self::Cell } else { Self::Memory }
    }
}

/// Why there is no cell for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// There is no such key.
    Unknown,
    /// Nobody registered the key, and there is no room for another one of these.
    TooMany {
        most: usize,
        now: Timestamp,
        /// When there may be room; `None` if never.
        retry_at: Option<Timestamp>,
    },
}

/// Thresholds that a plan has reached, by level.
pub(crate) type Late = Vec<(KeyId, Vec<Crossing>)>;

/// The place of a cell: valid while its key lives, and never valid for another key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    shard: u32,
    slot: u32,
    serial: u32,
}

impl CellMap {
    pub(crate) fn new(time: Time, most_unregistered: usize) -> Self {
        Self {
            time,
            unregistered: AtomicUsize::new(0),
            most_unregistered,
            room_at: AtomicI64::new(i64::MIN),
            makes_room: Mutex::default(),
            listeners: RwLock::default(),
            shards: (0..SHARDS).map(|_| Shard(ShardMutex::new(Slots::default()))).collect(),
            hasher: RandomState::default(),
            inserted: AtomicU32::new(0),
        }
    }

    pub(crate) const fn time(&self) -> &Time {
        &self.time
    }

    /// Calls `then` with the cell of a key or of a group, if there is one.
    pub(crate) fn with<R>(&self, id: &KeyId, then: impl FnOnce(Option<&mut Cell>) -> R) -> R {
        let (shard, hash) = self.place_of(id);
        let mut slots = shard.0.lock();
        let slot = slots.find(hash, id);
        then(slot.and_then(|slot| slots.get_mut(slot)))
    }

    /// Calls `then` with the cell of a key and those of its groups, if there is such a key. An unregistered key is
    /// there if its group is open, and gets a cell if the call is charged and makes a request.
    #[inline]
    pub(crate) fn reach<R>(
        &self,
        id: &KeyId,
        needs: Needs,
        then: impl FnOnce(Result<Reached<'_, '_>, Absent>) -> R,
    ) -> R {
        let (shard, hash) = self.place_of(id);
        let mut call = self.call(shard);
        let Call { slots, now, after } = &mut call;
        let found = match slots.find_key(hash, id).and_then(|slot| slots.key_mut(slot)) {
            Some((cell, groups)) => match stand(cell, groups, needs, *now, &mut after.late) {
                Found::Standing => return reach_in(cell, groups, *now, &mut after.late, then),
                found => found,
            },
            None => Found::Nothing,
        };
        if found == Found::Unknown {
            return then(Err(Absent::Unknown));
        }
        drop(call);
        self.reach_absent(id, needs, then)
    }

    /// Locks a shard for a call, whose time is read then.
    #[inline]
    fn call<'a>(&'a self, shard: &'a Shard) -> Call<'a, impl DerefMut<Target = Slots>> {
        let (slots, now) = (shard.0.lock(), self.time.now());
        Call { slots, now, after: AfterCall { cells: self, gone: 0, late: Late::new() } }
    }

    /// The same for a key that has no cell.
    #[cold]
    fn reach_absent<R>(
        &self,
        id: &KeyId,
        needs: Needs,
        then: impl FnOnce(Result<Reached<'_, '_>, Absent>) -> R,
    ) -> R {
        if needs == Needs::Cell && self.is_full() {
            self.make_room();
        }
        let (shard, hash) = self.place_of(id);
        let mut call = self.call(shard);
        let Call { slots, now, after } = &mut call;
        let found = slots.find_key(hash, id).and_then(|slot| slots.key_mut(slot));
        let found = found.map_or(Found::Nothing, |(cell, groups)| {
            stand(cell, groups, needs, *now, &mut after.late)
        });
        match found {
            Found::Nothing => {}
            Found::Gone => call.after.gone += call.slots.remove(self, id),
            Found::Standing | Found::Unknown => {
                drop(call);
                return self.reach(id, needs, then);
            }
        }
        let (slots, now) = (&mut *call.slots, call.now);
        let open = slots.open_group(self, id).filter(|_| needs != Needs::Memory);
        let Some((group, opens)) = open else { return then(Err(Absent::Unknown)) };
        // One that has just gone leaves its room.
        if needs == Needs::Cell && self.is_full_but(call.after.gone) {
            drop(call);
            let room_at = self.room_at.load(Ordering::Relaxed);
            let retry_at = (room_at != NO_ROOM).then(|| Timestamp::from_unix_ms(room_at).max(now));
            return then(Err(Absent::TooMany { most: self.most_unregistered, now, retry_at }));
        }
        let serial = self.inserted.fetch_add(1, Ordering::Relaxed);
        let planned = Some(Planned::of_unregistered(&opens));
        let attached = Attached { planned, unregistered: true, ..Attached::default() };
        let state = KeyState::unregistered(&opens.get(), now);
        let mut cell = Cell { id: id.clone(), serial, group, state, attached: attached.boxed() };
        let done = reach_in(&mut cell, &mut slots.groups, now, &mut call.after.late, then);
        // Without limits on what it has made, nothing is left of it at once.
        if cell.state.has_made_requests() && cell.lasts_until() > now {
            let due = cell.looked_at_next(now);
            let slot = slots.put_key(cell);
            slots.index(self, slot);
            slots.unregistered.put(due, slot, serial);
            self.unregistered.fetch_add(1, Ordering::Relaxed);
            self.room_at.fetch_min(due.unix_ms(), Ordering::Relaxed);
        }
        done
    }

    fn is_full(&self) -> bool {
        self.is_full_but(0)
    }

    fn is_full_but(&self, gone: usize) -> bool {
        self.unregistered.load(Ordering::Relaxed).saturating_sub(gone) >= self.most_unregistered
    }

    /// Counts that the cells of so many unregistered keys are gone.
    #[inline]
    fn forget(&self, gone: usize) {
        if gone > 0 {
            self.unregistered.fetch_sub(gone, Ordering::Relaxed);
        }
    }

    /// Frees the cells of some unregistered keys whose windows have ended, wherever there are any. A flood of calls for which
    /// there is no room looks through all shards once, and again when the first cell may be gone.
    fn make_room(&self) {
        let (_one_at_a_time, now) = (self.makes_room.lock(), self.time.now());
        if !self.is_full() || now.unix_ms() < self.room_at.load(Ordering::Relaxed) {
            return;
        }
        // A cell that is put meanwhile is met by this look, or lowers the time after it.
        self.room_at.store(NO_ROOM, Ordering::Relaxed);
        let mut first = NO_ROOM;
        for shard in &self.shards {
            let mut slots = shard.0.lock();
            let gone = slots.drop_ended(self, now, ENDED_A_LOOK);
            let next = slots.unregistered.due.keys().next().copied();
            drop(slots);
            self.forget(gone);
            if gone > 0 {
                first = i64::MIN;
                break;
            }
            first = first.min(next.map_or(NO_ROOM, Timestamp::unix_ms));
        }
        self.room_at.fetch_min(first, Ordering::Relaxed);
    }

    /// Returns the number of unregistered keys that have cells.
    pub(crate) fn unregistered(&self) -> usize {
        self.unregistered.load(Ordering::Relaxed)
    }

    /// Calls `then` with the states of a key and its groups with the latest plans, the outermost first and the key at last, if
    /// there is such a key.
    pub(crate) fn look<R>(
        &self,
        id: &KeyId,
        then: impl FnOnce(&[Cow<'_, KeyState>], Timestamp) -> R,
    ) -> Option<R> {
        let (shard, hash) = self.place_of(id);
        let (slots, now) = (shard.0.lock(), self.time.now());
        let states = match slots.find_living(hash, id, now) {
            Some(slot) => slots.states(slot, None, now)?,
            None => {
                let (group, opens) = slots.open_group(self, id)?;
                let mut states = slots.states(group, None, now)?;
                states.push(Cow::Owned(KeyState::unregistered(&opens.get(), now)));
                states
            }
        };
        Some(then(&states, now))
    }

    /// The same at a place.
    pub(crate) fn look_at<R>(
        &self,
        place: Place,
        then: impl FnOnce(&[Cow<'_, KeyState>], Timestamp) -> R,
    ) -> Option<R> {
        let (slots, now) = (self.shards[place.shard as usize].0.lock(), self.time.now());
        slots.states(place.slot, Some(place.serial), now).map(|states| then(&states, now))
    }

    /// Decides whether a key may make this call, and charges it if so.
    #[inline]
    pub(crate) fn charge(&self, id: &KeyId, asset: Option<&AssetId>, charge: &Charge) -> Decision {
        self.reach(id, Needs::of_check(charge), |reached| match reached {
            Ok(reached) => reached.charge(asset, charge),
            Err(absent) => self.refuse(id, asset, charge, absent),
        })
    }

    /// Answers a call for which there is no cell. For an unregistered key for which there is no room, by its limits, if the
    /// call does not fit in them.
    #[cold]
    pub(crate) fn refuse(
        &self,
        id: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        absent: Absent,
    ) -> Decision {
        let Absent::TooMany { most, retry_at, now } = absent else {
            return Decision::key_unknown(Some(id), asset);
        };
        let peeked = self.peek(id, asset, charge);
        if !peeked.is_allowed() {
            return peeked;
        }
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        Decision::too_many_keys(id, asset, most, retry_at, now)
    }

    /// Answers as [`charge`](Self::charge) would, and changes nothing.
    pub(crate) fn peek(&self, id: &KeyId, asset: Option<&AssetId>, charge: &Charge) -> Decision {
        let peeked = self.look(id, |states, now| cell::peek(id, states, asset, charge, now));
        peeked.unwrap_or_else(|| Decision::key_unknown(Some(id), asset))
    }

    /// Calls `then` with the state of a key or of a group with the latest plan, if there is one.
    pub(crate) fn read<R>(
        &self,
        id: &KeyId,
        then: impl FnOnce(&KeyState, Timestamp) -> R,
    ) -> Option<R> {
        let (shard, hash) = self.place_of(id);
        let group = {
            let (slots, now) = (shard.0.lock(), self.time.now());
            let slot = slots.find(hash, id).filter(|slot| slot & GROUP != 0);
            slot.and_then(|slot| Some((slots.states(slot, None, now)?.pop()?.into_owned(), now)))
        };
        match group {
            Some((state, now)) => Some(then(&state, now)),
            None => self.look(id, |states, now| Some(then(states.last()?, now)))?,
        }
    }

    /// Adds a function that is told of thresholds that a plan has reached.
    pub(crate) fn listen(&self, listener: Listener) {
        self.listeners.write().push(Arc::new(listener));
    }

    /// Tells of thresholds that a plan has reached, while no lock is held.
    #[inline]
    pub(crate) fn tell(&self, late: Late) {
        if !late.is_empty() {
            self.tell_each(late);
        }
    }

    #[cold]
    fn tell_each(&self, mut late: Late) {
        // The outermost first.
        late.sort_by_key(|(level, _)| level.depth());
        // One may add another.
        let listeners = self.listeners.read().clone();
        for (level, crossed) in late.into_iter().filter(|(_, crossed)| !crossed.is_empty()) {
            for listener in &listeners {
                listener(&level, LateEvent::Crossed(&crossed));
            }
        }
    }

    /// Calls `then` with the cells at a place; or `gone`, while no lock is held, if its key lives no more.
    #[inline]
    pub(crate) fn reach_place<R>(
        &self,
        place: Place,
        then: impl FnOnce(Result<Reached<'_, '_>, Absent>) -> R,
        gone: impl FnOnce() -> R,
    ) -> R {
        let mut call = self.call(&self.shards[place.shard as usize]);
        let Call { slots, now, after } = &mut call;
        if let Some((cell, groups)) = slots.key_mut(place.slot)
            && cell.serial == place.serial
        {
            catch_up(cell, *now, &mut after.late);
            return reach_in(cell, groups, *now, &mut after.late, then);
        }
        drop(call);
        gone()
    }

    /// Copies each cell of a shard in turn, and calls `then` with the copy, while no lock is held.
    ///
    /// A cell never moves, so this meets each cell that is there from start to end.
    pub(crate) fn walk<T>(&self, shard: usize, copy: impl Fn(&Cell) -> T, mut then: impl FnMut(T)) {
        for first in [0, GROUP] {
            for slot in first.. {
                let copied = self.shards[shard].0.lock().look(slot).map(|cell| cell.map(&copy));
                match copied {
                    Some(Some(copied)) => then(copied),
                    Some(None) => {}
                    None => break,
                }
            }
        }
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns the place of a registered key's cell, if there is one.
    pub(crate) fn place(&self, id: &KeyId) -> Option<Place> {
        let (shard, hash) = (self.shard_of(id, self.hash(id)), self.hash(id));
        let slots = self.shards[shard].0.lock();
        let slot = slots.find_key(hash, id)?;
        let cell = slots.look(slot)??;
        let place = Place { shard: shard as u32, slot, serial: cell.serial };
        cell.is_registered().then_some(place)
    }

    /// Adds the cell of a key or of a group that is not in the map but as an unregistered key, and whose groups are.
    pub(crate) fn insert(&self, id: KeyId, state: KeyState, attached: Attached) {
        let serial = self.inserted.fetch_add(1, Ordering::Relaxed);
        let (shard, _) = self.place_of(&id);
        let mut slots = shard.0.lock();
        let gone = slots.remove(self, &id);
        let group = id.group().and_then(|group| slots.find(self.hash(&group), &group));
        let group = group.unwrap_or(NO_SLOT);
        let is_group = state.kind() == KeyKind::Group;
        let is_registered = !attached.unregistered;
        let cell = Cell { id, serial, group, state, attached: attached.boxed() };
        let due = if is_registered { Timestamp::MAX } else { cell.looked_at_next(self.time.now()) };
        let slot = if is_group { slots.put_group(cell) } else { slots.put_key(cell) };
        slots.index(self, slot);
        if !is_registered {
            slots.unregistered.put(due, slot, serial);
            self.unregistered.fetch_add(1, Ordering::Relaxed);
        }
        drop(slots);
        self.forget(gone);
    }

    /// Removes the cell of a key; or of a group, with those of unregistered keys beneath it.
    pub(crate) fn remove(&self, id: &KeyId) {
        let (shard, hash) = self.place_of(id);
        let mut slots = shard.0.lock();
        let mut gone = 0;
        if let Some(group) = slots.find(hash, id).filter(|slot| slot & GROUP != 0) {
            for id in slots.unregistered_in(group) {
                gone += slots.remove(self, &id);
            }
        }
        gone += slots.remove(self, id);
        drop(slots);
        self.forget(gone);
    }

    #[inline]
    fn hash(&self, id: &KeyId) -> u64 {
        self.hash_of(id.as_str())
    }

    #[inline]
    fn hash_of(&self, text: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    /// Returns the shard of an id, and its hash.
    #[inline]
    fn place_of(&self, id: &KeyId) -> (&Shard, u64) {
        let hash = self.hash(id);
        (&self.shards[self.shard_of(id, hash)], hash)
    }

    /// Returns the number of the shard of an id: that of its first segment. It uses bits from the middle: the index itself
    /// uses both ends.
    #[inline]
    fn shard_of(&self, id: &KeyId, hash: u64) -> usize {
        let of_root = if id.is_root() { hash } else { self.hash_of(id.root()) };
        (of_root >> 32) as usize % SHARDS
    }
}

impl<L: DerefMut<Target = Slots>> Drop for Call<'_, L> {
    #[inline]
    fn drop(&mut self) {
        self.after.gone += self.slots.tidy(self.after.cells, self.now);
    }
}

impl Drop for AfterCall<'_> {
    #[inline]
    fn drop(&mut self) {
        self.cells.forget(self.gone);
        self.cells.tell(std::mem::take(&mut self.late));
    }
}

impl Slots {
    #[inline]
    fn find(&self, hash: u64, id: &KeyId) -> Option<u32> {
        self.index.find(hash, |slot| is_at(&self.chunks, &self.groups, *slot, id)).copied()
    }

    /// Finds a key; not a group of this id.
    #[inline]
    fn find_key(&self, hash: u64, id: &KeyId) -> Option<u32> {
        let chunks = &self.chunks;
        let is_at = |slot: &u32| {
            *slot & GROUP == 0
                && chunks[chunk_of(*slot)][within(*slot)]
                    .as_ref()
                    .is_some_and(|cell| cell.id == *id)
        };
        self.index.find(hash, is_at).copied()
    }

    /// Finds a key; not an unregistered one of which nothing is left.
    fn find_living(&self, hash: u64, id: &KeyId, now: Timestamp) -> Option<u32> {
        let slot = self.find_key(hash, id)?;
        let cell = self.look(slot)??;
        (cell.is_registered() || !cell.is_gone(now)).then_some(slot)
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Cell> {
        if slot & GROUP != 0 {
            return self.groups.get_mut((slot & !GROUP) as usize)?.as_deref_mut();
        }
        self.chunks.get_mut(chunk_of(slot))?.get_mut(within(slot))?.as_mut()
    }

    /// Returns the cell in a slot, if one is there; `None` beyond the last chunk.
    fn look(&self, slot: u32) -> Option<Option<&Cell>> {
        cell_at(&self.chunks, &self.groups, slot)
    }

    /// Returns a key's cell, and all groups.
    #[inline]
    fn key_mut(&mut self, slot: u32) -> Option<(&mut Cell, &mut [Option<Box<Cell>>])> {
        let cell = self.chunks.get_mut(chunk_of(slot))?.get_mut(within(slot))?.as_mut()?;
        Some((cell, &mut self.groups))
    }

    /// Returns the states of a key and its groups with the latest plans, the outermost first and the key at last.
    fn states(
        &self,
        slot: u32,
        serial: Option<u32>,
        now: Timestamp,
    ) -> Option<SmallVec<[Cow<'_, KeyState>; 4]>> {
        let own = self.look(slot)??;
        let own = Some(own).filter(|cell| serial.is_none_or(|serial| cell.serial == serial))?;
        let around = |cell: &&Cell| group_in(&self.groups, cell.group);
        let mut levels: SmallVec<[_; 4]> =
            std::iter::successors(around(&own), around).map(|group| group.latest(now)).collect();
        levels.reverse();
        levels.push(match own.is_registered() {
            true => own.latest(now),
            false => own.latest_beneath(group_in(&self.groups, own.group)?.opens()?, now),
        });
        Some(levels)
    }

    /// Returns the slot of the group directly around an id that is no group itself, and the plan with which it is open, if it
    /// is.
    fn open_group(&self, cells: &CellMap, id: &KeyId) -> Option<(u32, Arc<LivePlan>)> {
        let group = id.group()?;
        if self.find(cells.hash(id), id).is_some_and(|slot| slot & GROUP != 0) {
            return None;
        }
        let slot = self.find(cells.hash(&group), &group)?;
        Some((slot, Arc::clone(self.look(slot)??.opens()?)))
    }

    /// Lets a cell be found.
    fn index(&mut self, cells: &CellMap, slot: u32) {
        let Self { index, chunks, groups, .. } = self;
        let hash_at = |slot: &u32| match cell_at(chunks, groups, *slot) {
            Some(Some(cell)) => cells.hash(&cell.id),
            _ => unreachable!("only slots in use are in the index"),
        };
        index.insert_unique(hash_at(&slot), slot, hash_at);
    }

    /// Removes the cell of this id, if there is one. Returns how many cells of unregistered keys are gone with it.
    fn remove(&mut self, cells: &CellMap, id: &KeyId) -> usize {
        let hash = cells.hash(id);
        let Self { index, chunks, free, groups, free_groups, unregistered } = self;
        let found = index.find_entry(hash, |slot| is_at(chunks, groups, *slot, id));
        let Ok(found) = found else { return 0 };
        let (slot, _) = found.remove();
        if slot & GROUP != 0 {
            groups[(slot & !GROUP) as usize] = None;
            free_groups.push(slot);
            return 0;
        }
        let chunk = &mut chunks[chunk_of(slot)];
        let removed = chunk[within(slot)].take();
        // A flood of unregistered keys gives its memory back.
        if chunk.len() == CHUNK && chunk.iter().all(Option::is_none) {
            *chunk = Vec::new();
        }
        free.push(slot);
        let gone = usize::from(removed.is_some_and(|cell| !cell.is_registered()));
        unregistered.count -= gone;
        if unregistered.count <= FEW && index.capacity() / SPARSE > index.len() + FEW {
            index.shrink_to_fit(|slot| match cell_at(chunks, groups, *slot) {
                Some(Some(cell)) => cells.hash(&cell.id),
                _ => unreachable!("only slots in use are in the index"),
            });
        }
        gone
    }

    /// Returns the unregistered keys beneath the group in a slot.
    fn unregistered_in(&self, group: u32) -> Vec<KeyId> {
        let slots = self.unregistered.due.values().flatten();
        let cells = slots.filter_map(|(slot, serial)| {
            let cell = self.look(*slot)??;
            (cell.serial == *serial && cell.group == group).then(|| cell.id.clone())
        });
        cells.collect()
    }

    /// Frees a few cells of unregistered keys whose windows have ended, if there are more than a few. Returns how many.
    #[inline]
    fn tidy(&mut self, cells: &CellMap, now: Timestamp) -> usize {
        if self.unregistered.noted <= FEW {
            return 0;
        }
        let ended = Timestamp::from_unix_ms(now.unix_ms().saturating_sub(GRACE_MS));
        self.drop_ended(cells, ended, ENDED_A_CALL)
    }

    /// Frees the cells of unregistered keys whose windows had ended by then, but looks at no more than `most`.
    fn drop_ended(&mut self, cells: &CellMap, by: Timestamp, most: usize) -> usize {
        let mut gone = 0;
        for _ in 0..most {
            let Some((slot, serial)) = self.unregistered.pop(by) else { break };
            let cell = self.get_mut(slot).filter(|cell| cell.serial == serial);
            let Some(cell) = cell else { continue };
            if cell.lasts_until() > by {
                let due = cell.looked_at_next(by);
                self.unregistered.note(due, slot, serial);
                continue;
            }
            let id = cell.id.clone();
            gone += self.remove(cells, &id);
        }
        gone
    }

    /// Puts a key into an empty slot, in a new chunk if all others are in use.
    fn put_key(&mut self, cell: Cell) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            let is_full = |chunk: &Vec<_>| chunk.len() == CHUNK || chunk.is_empty();
            if self.chunks.last().is_none_or(is_full) {
                self.chunks.push(Vec::with_capacity(CHUNK));
            }
            let chunk = self.chunks.len() - 1;
            self.chunks[chunk].push(None);
            (chunk * CHUNK + self.chunks[chunk].len() - 1) as u32
        });
        let chunk = &mut self.chunks[chunk_of(slot)];
        if chunk.len() <= within(slot) {
            chunk.reserve_exact(CHUNK - chunk.len());
            chunk.resize_with(CHUNK, || None);
        }
        chunk[within(slot)] = Some(cell);
        slot
    }

    fn put_group(&mut self, cell: Cell) -> u32 {
        let slot = self.free_groups.pop().unwrap_or_else(|| {
            self.groups.push(None);
            (self.groups.len() - 1) as u32 | GROUP
        });
        self.groups[(slot & !GROUP) as usize] = Some(Box::new(cell));
        slot
    }
}

/// Lets a key take the latest version of its plan, and an unregistered one begin anew that is over and of which a call is
/// remembered.
#[inline]
fn stand(
    cell: &mut Cell,
    groups: &[Option<Box<Cell>>],
    needs: Needs,
    now: Timestamp,
    late: &mut Late,
) -> Found {
    if cell.is_registered() {
        catch_up(cell, now, late);
        return Found::Standing;
    }
    let Some(opens) = group_in(groups, cell.group).and_then(Cell::opens) else {
        return if cell.is_gone(now) { Found::Gone } else { Found::Unknown };
    };
    // Whether it was over counts as it stood, before it takes another plan.
    let was_over = cell.state.is_over(now);
    if was_over && cell.is_gone(now) {
        return Found::Gone;
    }
    if was_over && needs == Needs::Memory {
        return Found::Unknown;
    }
    let takes_plan = !cell.follows(opens) || cell.is_behind();
    if takes_plan {
        take_plan(cell, opens, now, late);
    }
    if was_over || takes_plan && cell.state.is_over(now) {
        cell.begin_anew(opens, now);
    }
    Found::Standing
}

/// Calls `then` with the cell of a key that stands, and with those of its groups.
#[inline]
fn reach_in<R>(
    cell: &mut Cell,
    groups: &mut [Option<Box<Cell>>],
    now: Timestamp,
    late: &mut Late,
    then: impl FnOnce(Result<Reached<'_, '_>, Absent>) -> R,
) -> R {
    if cell.group == NO_SLOT {
        return then(Ok(Reached { cell, groups: &mut [], now }));
    }
    let mut around = |slot: u32| {
        let group = groups.get_mut((slot & !GROUP) as usize)?.as_deref_mut()?;
        catch_up(group, now, late);
        Some(group.group)
    };
    let mut around = |slot| around(slot).unwrap_or(NO_SLOT);
    let inner = cell.group;
    let middle = around(inner);
    match (middle, around(middle)) {
        (NO_SLOT, _) => then(reached(cell, states_at(groups, [inner]).as_mut(), now)),
        (middle, NO_SLOT) => then(reached(cell, states_at(groups, [middle, inner]).as_mut(), now)),
        (middle, outer) => {
            then(reached(cell, states_at(groups, [outer, middle, inner]).as_mut(), now))
        }
    }
}

/// Lets an unregistered key take the plan with which its group is open.
#[cold]
fn take_plan(cell: &mut Cell, opens: &Arc<LivePlan>, now: Timestamp, late: &mut Late) {
    if !cell.follows(opens) {
        let crossed = cell.follow(opens, now);
        note(late, cell, crossed);
    }
    catch_up(cell, now, late);
}

/// Lets a cell take the latest version of its plan.
#[inline]
fn catch_up(cell: &mut Cell, now: Timestamp, late: &mut Late) {
    if cell.is_behind() {
        let crossed = cell.catch_up(now);
        note(late, cell, crossed);
    }
}

fn note(late: &mut Late, cell: &Cell, crossed: Vec<Crossing>) {
    if !crossed.is_empty() {
        late.push((cell.id.clone(), crossed));
    }
}

fn reached<'a, 'b, const N: usize>(
    cell: &'a mut Cell,
    groups: Option<&'a mut [&'b mut KeyState; N]>,
    now: Timestamp,
) -> Result<Reached<'a, 'b>, Absent> {
    groups.map(|groups| Reached { cell, groups: &mut groups[..], now }).ok_or(Absent::Unknown)
}

/// Returns the states of the groups in these slots.
fn states_at<const N: usize>(
    groups: &mut [Option<Box<Cell>>],
    slots: [u32; N],
) -> Option<[&mut KeyState; N]> {
    let places = slots.map(|slot| (slot & !GROUP) as usize);
    let cells = groups.get_disjoint_mut(places).ok()?;
    Some(cells.map(|cell| match cell {
        Some(cell) => &mut cell.state,
        None => unreachable!("a group stays as long as a key lies beneath it"),
    }))
}

impl Unregistered {
    fn put(&mut self, due: Timestamp, slot: u32, serial: u32) {
        self.note(due, slot, serial);
        self.count += 1;
    }

    fn note(&mut self, due: Timestamp, slot: u32, serial: u32) {
        self.due.entry(due).or_default().push((slot, serial));
        self.noted += 1;
    }

    /// Takes one out that is due by then.
    fn pop(&mut self, by: Timestamp) -> Option<(u32, u32)> {
        let mut first = self.due.first_entry().filter(|first| *first.key() <= by)?;
        let popped = first.get_mut().pop();
        if first.get().is_empty() {
            first.remove();
        }
        self.noted -= usize::from(popped.is_some());
        popped
    }
}

impl fmt::Debug for CellMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: usize = self.shards.iter().map(|shard| shard.0.lock().index.len()).sum();
        f.debug_struct("CellMap").field("keys", &keys).finish()
    }
}

fn group_in(groups: &[Option<Box<Cell>>], slot: u32) -> Option<&Cell> {
    groups.get((slot & !GROUP) as usize)?.as_deref()
}

/// Returns the cell in a slot, if one is there; `None` beyond the last chunk.
fn cell_at<'a>(
    chunks: &'a [Vec<Option<Cell>>],
    groups: &'a [Option<Box<Cell>>],
    slot: u32,
) -> Option<Option<&'a Cell>> {
    if slot & GROUP != 0 {
        return Some(groups.get((slot & !GROUP) as usize)?.as_deref());
    }
    // A chunk that has been freed has slots all the same, none of them in use.
    Some(chunks.get(chunk_of(slot))?.get(within(slot)).and_then(Option::as_ref))
}

#[inline]
fn is_at(
    chunks: &[Vec<Option<Cell>>],
    groups: &[Option<Box<Cell>>],
    slot: u32,
    id: &KeyId,
) -> bool {
    cell_at(chunks, groups, slot).flatten().is_some_and(|cell| cell.id == *id)
}

#[inline]
const fn chunk_of(slot: u32) -> usize {
    slot as usize / CHUNK
}

#[inline]
const fn within(slot: u32) -> usize {
    slot as usize % CHUNK
}

/// Many more than the threads that decide at once, so that two of them rarely meet in one shard. An empty shard takes
/// two cache lines.
const SHARDS: usize = 256;
/// Small enough for a small empty store, and large enough for a short list of chunks.
const CHUNK: usize = 32;
/// Marks the slots of groups.
const GROUP: u32 = 1 << 31;
/// Cells of unregistered keys that a shard keeps without looking whether their windows have ended.
const FEW: usize = 64;
/// How many of the others a call looks at: more than it adds.
const ENDED_A_CALL: usize = 4;
/// How many a call looks at that finds no room.
const ENDED_A_LOOK: usize = 64;
/// A clock that is set back by less finds the counts of a window that has just ended.
const GRACE_MS: i64 = 60_000;
/// An index that is larger than this many times what it holds is made smaller after a flood.
const SPARSE: usize = 4;
/// In place of the time at which there may be room: never, as far as anybody knows.
const NO_ROOM: i64 = i64::MAX;
/// In place of the slot of a group that there is not.
const NO_SLOT: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use limiter_core::{
        AssetId, Credits, DenialReason, KeyConfig, KeyKind, Limits, Plan, PlanName, PlanUpdate,
        StoredPlan, Thresholds, WorkspaceId,
    };

    use super::*;
    use crate::plans::Plans;

    /// Measures the memory that decisions use, without the directory of keys: nine meters of 16 bytes, two accounts, and room
    /// for every window.
    #[test]
    fn a_key_with_one_limited_asset_takes_at_most_600_bytes() {
        let now = limiter_conformance::fixtures::NOON;
        let asset: AssetId = "6895d6d1d50c89537c1cf237".parse().unwrap();
        let builder = Limits::builder().requests_per_minute(60).requests_per_day(1_000);
        let limits = builder.tokens_per_minute(10_000).tokens_per_day(100_000).build().unwrap();
        let config =
            KeyConfig::named("ci").unwrap().with_global(limits.clone()).with_asset(asset, limits);
        let config = config.with_budget(Credits::whole(10).unwrap()).with_expiry(now);

        let cells = CellMap::new(Time::System, 0);
        let allocated = allocation_counter::measure(|| {
            for index in 0..KEYS {
                let id = KeyId::new(format!("{index:022}")).unwrap();
                let state = KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, now);
                cells.insert(id, state, Attached::default());
            }
        });
        let bytes = allocated.bytes_current / KEYS;
        println!("{bytes} bytes for each of {KEYS} keys");
        assert!(bytes <= 600, "{bytes} bytes for each key");
    }

    /// A flood at the bound once locked each shard with each call, so that calls of all keys waited for one another.
    #[test]
    fn a_call_for_which_there_is_no_room_looks_through_other_shards_only_once() {
        let cells = CellMap::new(Time::System, 1);
        open_group(&cells, "ip");
        let is_too_many = |name: &str| {
            let decision = cells.charge(&key(name), None, &Charge::request());
            let reason = decision.denied().map(|denied| denied.reason().clone());
            matches!(reason, Some(DenialReason::TooManyKeys { .. }))
        };
        assert!(!is_too_many("ip/a"));
        assert!(is_too_many("ip/b"), "it looks through all shards, none of which has room");

        let of_group = cells.shard_of(&key("ip"), cells.hash(&key("ip")));
        let locked = cells.shards[(of_group + 1) % SHARDS].0.lock();
        std::thread::scope(|scope| {
            let (say, hear) = std::sync::mpsc::channel();
            scope.spawn(move || say.send(is_too_many("ip/c")));
            let heard = hear.recv_timeout(std::time::Duration::from_secs(10));
            drop(locked);
            assert_eq!(heard, Ok(true), "it waits for a shard that has no room");
        });
    }

    /// A group in which each key may make 9 requests a day, and all together 99.
    fn open_group(cells: &CellMap, id: &str) {
        let (workspace, now): (WorkspaceId, _) = ("w".parse().unwrap(), cells.time().now());
        let per_day = |most| Limits::builder().requests_per_day(most).build().unwrap();
        let name: PlanName = "each".parse().unwrap();
        let update = PlanUpdate::new(name.clone(), Plan::from(per_day(9)));
        let mut plans = Plans::default();
        plans.put(StoredPlan::updated(None, &workspace, &update, now));
        let opens = plans.live(&workspace, &name);
        let config = KeyConfig::named(id).unwrap().with_global(per_day(99)).with_open(name);
        let state = KeyState::new(KeyKind::Group, &config, Thresholds::DEFAULT, now);
        cells.insert(key(id), state, Attached { opens, ..Attached::default() });
    }

    fn key(id: &str) -> KeyId {
        id.parse().unwrap()
    }

    const KEYS: i64 = 200_000;
}
