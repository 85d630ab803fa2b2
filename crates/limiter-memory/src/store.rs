//! The store: cells for decisions, a directory for management.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::keys::check_new;
use limiter_core::{
    AssetId, Charge, Crossing, DayHistory, Decision, Grant, GrantTerms, KeyDigest, KeyId, KeyName,
    KeyRecord, KeyRotation, KeyState, KeyUpdate, KeysError, Ledger, LedgerBounds, LevelsMut,
    Listener, ManualClock, NewRecord, Page, PlanName, PlanRecord, PlanUpdate, RecordId, RequestId,
    ReservationError, Search, Settled, Store, StoreError, StoredKey, Timestamp, Totals, UpdatedKey,
    Usage, WorkspaceId, async_trait, grant, reservation,
};

use crate::cell::Attached;
use crate::changes::{Changes, Journal, KeyAction, KeyChange};
use crate::directory::{Directory, Scan, Then};
use crate::handle::MemoryHandle;
use crate::map::{Absent, CellMap, Needs};
use crate::snapshot::{CopiedCell, RestoreError, SavedKey, SavedUnregistered, Snapshot};
use crate::sync::RwLock;
use crate::time::Time;

/// Keeps keys and counts in the memory of this process. Clones share them.
///
/// Keys are changed one at a time. A change locks the directory and then, for a moment, the shard of the key; a
/// decision locks only the shard.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    directory: Arc<RwLock<Directory>>,
    cells: Arc<CellMap>,
    bounds: LedgerBounds,
    history_days: u16,
    changes: Arc<Changes>,
}

/// Settings of a [`MemoryStore`].
#[derive(Clone, Debug)]
#[must_use = "a store is made by build() or restore()"]
pub struct MemoryStoreBuilder {
    time: Time,
    bounds: LedgerBounds,
    history_days: u16,
    journal: Option<Arc<dyn Journal>>,
    most_unregistered: usize,
}

impl MemoryStoreBuilder {
    /// Uses this clock. By default it is the system's, as of its last tick: a few milliseconds late.
    pub fn clock(self, clock: ManualClock) -> Self {
        Self { time: Time::Manual(clock), ..self }
    }

    /// Sets how many calls of a key are remembered by their ids, and for how long: see [`LedgerBounds`] for the
    /// defaults.
    ///
    /// A call beyond a bound is refused and not charged; nothing is forgotten before its time. The next such call
    /// of the key frees the memory of all whose time has passed.
    pub fn ledger_bounds(self, bounds: LedgerBounds) -> Self {
        Self { bounds, ..self }
    }

    /// Sets how many days the history of a key goes back, today included: [`DayHistory::DAYS`] by default, at most
    /// [`DayHistory::MOST_DAYS`].
    pub fn history_days(self, days: u16) -> Self {
        Self { history_days: days.clamp(1, DayHistory::MOST_DAYS), ..self }
    }

    /// Sets how many unregistered keys are counted at the same time, beneath all open groups together: 1,000,000 by
    /// default. The first call of one more is denied as [too many](limiter_core::DenialReason::TooManyKeys).
    pub fn most_unregistered(self, most: usize) -> Self {
        Self { most_unregistered: most, ..self }
    }

    /// Writes each change of a key to this journal before it takes effect. By default there is no journal.
    ///
    /// With regular snapshots, a crash loses only the counts since the last one:
    ///
    /// ```
    /// use std::fs::File;
    /// use std::io::Write;
    ///
    /// # mod limiter {
    /// #     pub use limiter_core::StoreError;
    /// #     pub mod memory { pub use limiter_memory::*; }
    /// # }
    /// use limiter::memory::{KeyChange, Journal, MemoryStore, Snapshot};
    /// use limiter::StoreError;
    ///
    /// #[derive(Debug)]
    /// struct Log(File);
    ///
    /// impl Journal for Log {
    ///     fn append(&self, change: &KeyChange) -> Result<(), StoreError> {
    ///         let line = serde_json::to_string(change).map_err(StoreError::unavailable)?;
    ///         let written = writeln!(&self.0, "{line}").and_then(|()| self.0.sync_data());
    ///         // After an error, the line may or may not be on the disk.
    ///         written.map_err(StoreError::outcome_unknown)
    ///     }
    /// }
    ///
    /// # fn start(log: Log, snapshot: Snapshot, changes: Vec<KeyChange>) -> Result<(), limiter::memory::RestoreError> {
    /// let store = MemoryStore::builder().journal(log).restore_with(snapshot, changes)?;
    /// # drop(store);
    /// # Ok(())
    /// # }
    /// ```
    pub fn journal(self, journal: impl Journal) -> Self {
        Self { journal: Some(Arc::new(journal)), ..self }
    }

    /// Creates an empty store.
    #[must_use]
    pub fn build(self) -> MemoryStore {
        let cells = Arc::new(CellMap::new(self.time, self.most_unregistered));
        let changes = Arc::new(Changes::new(self.journal));
        let (bounds, history_days) = (self.bounds, self.history_days);
        MemoryStore { directory: Arc::default(), cells, bounds, history_days, changes }
    }

    /// Creates a store that continues from a snapshot.
    ///
    /// # Errors
    /// [`RestoreError`] if another version wrote the snapshot, or if it contradicts itself.
    pub fn restore(self, snapshot: Snapshot) -> Result<MemoryStore, RestoreError> {
        self.restore_with(snapshot, [])
    }

    /// Creates a store from a snapshot and the changes that the [journal](Self::journal) holds after it.
    ///
    /// Changes that the snapshot includes are skipped.
    ///
    /// # Errors
    /// [`RestoreError`] if another version wrote the snapshot, if it contradicts itself, or if the changes do not follow it.
    pub fn restore_with(
        self,
        snapshot: Snapshot,
        changes: impl IntoIterator<Item = KeyChange>,
    ) -> Result<MemoryStore, RestoreError> {
        snapshot.check_format()?;
        let store = self.build();
        let mut last = store.changes.last.lock();
        *last = snapshot.last_change();
        let mut directory = store.directory.write();
        let snapshot_plans = snapshot.plans.iter().cloned();
        snapshot_plans.for_each(|plan| directory.plans.put(plan));
        let (taken_at, mut keys) = (snapshot.taken_at(), snapshot.keys);
        // A group comes before what lies beneath it.
        keys.sort_by_key(|saved| saved.key.id.depth());
        for saved in keys {
            let id = saved.key.id.clone();
            directory
                .insert(saved.key, &saved.state, taken_at)
                .map_err(RestoreError::Inconsistent)?;
            let state = saved.state.keeping_history(store.history_days);
            let attached = directory.attached(&id, &state);
            let ledger = saved.ledger.map(|ledger| Box::new(ledger.into()));
            store.cells.insert(id, state, Attached { ledger, ..attached });
        }
        for SavedUnregistered { id, state, ledger } in snapshot.unregistered {
            let opens = id.group().and_then(|group| directory.opens(&group));
            let is_known = directory.get(&id).is_some() || state.is_registered();
            if opens.is_none() || is_known {
                continue;
            }
            let ledger = ledger.map(|ledger| Box::new(ledger.into()));
            // The group may have been opened with another plan since its last call: the next one takes it.
            let attached = Attached { planned: None, ledger, opens: None, unregistered: true };
            store.cells.insert(id, state, attached);
        }
        drop(directory);
        for change in changes {
            let (expected, number) = (last.saturating_add(1), change.number);
            if number < expected {
                continue;
            }
            if number > expected {
                return Err(RestoreError::Gap { expected, found: number });
            }
            store.replay(&change).map_err(|source| RestoreError::Change { number, source })?;
            *last = number;
        }
        drop(last);
        Ok(store)
    }
}

/// The synchronous calls. [`Store`] offers the same, asynchronously.
impl MemoryStore {
    /// Creates an empty store on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Creates a builder with the default settings.
    pub fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder {
            time: Time::System,
            bounds: LedgerBounds::default(),
            history_days: DayHistory::DAYS,
            journal: None,
            most_unregistered: MOST_UNREGISTERED,
        }
    }

    /// Decides whether the key may make this call, and charges it if so, in one atomic step.
    #[inline]
    pub fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Decision {
        self.cells.charge(key, asset, charge)
    }

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    pub fn peek(&self, key: &KeyId, asset: Option<&AssetId>, charge: &Charge) -> Decision {
        self.cells.peek(key, asset, charge)
    }

    /// As [`Store::check_once`].
    ///
    /// # Errors
    /// [`ReservationError::TooMany`].
    pub fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        let checked = self.step(key, asset, Needs::of_remembered(charge), |levels, ledger, now| {
            reservation::check_once(levels, ledger, &self.bounds, charge, id, now)
        });
        checked.unwrap_or_else(|absent| Ok(self.cells.refuse(key, asset, charge, absent)))
    }

    /// As [`Store::record`].
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`] or [`ReservationError::TooMany`].
    pub fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        let recorded =
            self.step(key, asset, Needs::of_remembered(charge), |levels, ledger, now| {
                reservation::record(levels, ledger, &self.bounds, charge, id, now)
            });
        recorded.unwrap_or_else(|absent| Err(not_remembered(absent)))
    }

    /// As [`Store::reserve`].
    ///
    /// # Errors
    /// [`ReservationError::OtherExists`] or [`ReservationError::TooMany`].
    pub fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        let reserved =
            self.step(key, asset, Needs::of_remembered(estimate), |levels, ledger, now| {
                reservation::reserve(levels, ledger, &self.bounds, estimate, id, ttl, now)
            });
        reserved.unwrap_or_else(|absent| Ok(self.cells.refuse(key, asset, estimate, absent)))
    }

    /// As [`Store::amend`].
    ///
    /// # Errors
    /// As [`reservation::amend`].
    pub fn amend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        let amended = self.step(key, None, Needs::Nothing, |levels, ledger, now| {
            reservation::amend(levels, ledger, &self.bounds, id, to, now)
        });
        amended.unwrap_or_else(|_| Ok(Decision::key_unknown(Some(key), None)))
    }

    /// As [`Store::settle`].
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`], or as [`reservation::settle`].
    pub fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        let settled = self.step(key, None, Needs::Nothing, |levels, ledger, now| {
            reservation::settle(levels, ledger, &self.bounds, id, actual, now)
        });
        settled.unwrap_or_else(|absent| Err(not_remembered(absent)))
    }

    /// As [`Store::cancel`].
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`], or as [`reservation::cancel`].
    pub fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        let cancelled = self.step(key, None, Needs::Nothing, |levels, ledger, now| {
            reservation::cancel(levels, ledger, &self.bounds, id, now)
        });
        cancelled.unwrap_or_else(|absent| Err(not_remembered(absent)))
    }

    /// As [`Store::grant`].
    #[must_use]
    pub fn grant(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        terms: &GrantTerms,
        id: &RequestId,
    ) -> Option<Grant> {
        let needs = Needs::of_remembered(&terms.expected);
        let granted = self.step(key, asset, needs, |levels, ledger, now| {
            grant::grant(levels, ledger, &self.bounds, terms, id, now)
        });
        let mut grant = granted.ok().flatten()?;
        grant.lasts = grant.lasts.saturating_sub(self.cells.time().late_by());
        Some(grant)
    }

    /// As [`Store::hand_back`].
    pub fn hand_back(&self, key: &KeyId, id: &RequestId, used: &Charge) {
        let handed_back = self.step(key, None, Needs::Nothing, |levels, ledger, now| {
            grant::hand_back(levels, ledger, id, used, now);
        });
        // Of a key that is gone, nothing is left to correct.
        handed_back.unwrap_or_default();
    }

    /// Makes one step on the levels of a key and on its ledger, if the key is known.
    fn step<T>(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        needs: Needs,
        step: impl FnOnce(&mut LevelsMut<'_>, &mut Ledger, Timestamp) -> T,
    ) -> Result<T, Absent> {
        self.cells.reach(key, needs, |reached| Ok(reached?.with_ledger(asset, step)))
    }

    /// Returns the usage of the key, or `None` if no such key exists.
    #[must_use]
    pub fn usage(&self, key: &KeyId) -> Option<Usage> {
        self.cells.read(key, Usage::of)
    }

    /// Returns what the key has counted on each of the last days, or `None` if no such key exists.
    #[must_use]
    pub fn history(&self, key: &KeyId, days: u16) -> Option<Vec<DayHistory>> {
        self.cells.read(key, |state, now| state.history(days, now))
    }

    /// Resolves a key and an asset for many calls; `None` if the key is unknown.
    #[must_use]
    pub fn handle(&self, key: &KeyId, asset: Option<&AssetId>) -> Option<MemoryHandle> {
        let place = self.cells.place(key);
        if place.is_none() {
            self.cells.look(key, |_, _| ())?;
        }
        Some(MemoryHandle::new(self.cells.clone(), place, key.clone(), asset.cloned()))
    }

    /// Returns the id of the living key whose access key has this digest.
    #[must_use]
    pub fn resolve(&self, digest: &KeyDigest) -> Option<KeyId> {
        self.directory.read().resolve(digest, self.cells.time().now()).cloned()
    }

    /// Returns the id of the living key of this name.
    #[must_use]
    pub fn find(&self, workspace: &WorkspaceId, name: &KeyName) -> Option<KeyId> {
        self.directory.read().find(workspace, name).cloned()
    }

    /// Reads the record of a living key.
    #[must_use]
    pub fn read(&self, id: &KeyId) -> Option<KeyRecord> {
        let directory = self.directory.read();
        self.record_of(directory.get(id)?)
    }

    /// Adds a key, whose limits are in force at once.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        let id = key.id.clone();
        self.change(KeyAction::Create(key))?;
        self.read(&id).ok_or_else(|| KeysError::NotFound(id.to_string()))
    }

    /// Replaces the configuration of a key of the workspace, if it is still at the version of the update.
    ///
    /// # Errors
    /// As [`Store::update`].
    pub fn update(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
    ) -> Result<UpdatedKey, KeysError> {
        let (workspace, update) = (workspace.clone(), update.clone());
        let id = update.id.clone();
        let crossed = self.change(KeyAction::Update { workspace, update })?;
        let record = self.read(&id).ok_or_else(|| KeysError::NotFound(id.to_string()))?;
        Ok(UpdatedKey::new(record, crossed))
    }

    /// Sets what a key of the workspace has used to zero, in all windows that end.
    ///
    /// # Errors
    /// As [`Store::reset`].
    pub fn reset(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.change(KeyAction::Reset { workspace: workspace.clone(), id: id.clone() }).map(drop)
    }

    /// Replaces the access key of a key of the workspace.
    ///
    /// # Errors
    /// As [`Store::rotate`].
    pub fn rotate(
        &self,
        workspace: &WorkspaceId,
        rotation: &KeyRotation,
    ) -> Result<KeyRecord, KeysError> {
        let (workspace, rotation) = (workspace.clone(), rotation.clone());
        let id = rotation.id.clone();
        self.change(KeyAction::Rotate { workspace, rotation })?;
        self.read(&id).ok_or_else(|| KeysError::NotFound(id.to_string()))
    }

    /// Deletes a key of the workspace for good.
    ///
    /// # Errors
    /// As [`Store::delete`].
    pub fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.change(KeyAction::Delete { workspace: workspace.clone(), id: id.clone() }).map(drop)
    }

    /// Creates a plan, or changes the one of its name.
    ///
    /// # Errors
    /// As [`Store::save_plan`].
    pub fn save_plan(
        &self,
        workspace: &WorkspaceId,
        update: &PlanUpdate,
    ) -> Result<PlanRecord, KeysError> {
        let (workspace, update) = (workspace.clone(), update.clone());
        let name = update.name.clone();
        self.change(KeyAction::SavePlan { workspace: workspace.clone(), update })?;
        self.plan(&workspace, &name).ok_or(KeysError::NoPlan(name))
    }

    /// Reads the plans of a workspace, by the bytes of their names.
    #[must_use]
    pub fn plans(&self, workspace: &WorkspaceId) -> Vec<PlanRecord> {
        let plans = self.directory.read().plans.all_of(workspace);
        plans.iter().map(|plan| PlanRecord::from(&**plan)).collect()
    }

    /// Reads a plan of a workspace.
    #[must_use]
    pub fn plan(&self, workspace: &WorkspaceId, name: &PlanName) -> Option<PlanRecord> {
        let plan = self.directory.read().plans.get(workspace, name)?;
        Some(PlanRecord::from(&*plan))
    }

    /// Deletes a plan that no key and no group has.
    ///
    /// # Errors
    /// As [`Store::delete_plan`].
    pub fn delete_plan(&self, workspace: &WorkspaceId, name: &PlanName) -> Result<(), KeysError> {
        let (workspace, name) = (workspace.clone(), name.clone());
        self.change(KeyAction::DeletePlan { workspace, name }).map(drop)
    }

    /// Changes a key: checks the change, appends it to the journal, and applies it. Returns the thresholds that it reached.
    fn change(&self, action: KeyAction) -> Result<Vec<Crossing>, KeysError> {
        let mut last = self.changes.last.lock();
        let at = self.cells.time().now();
        if !self.check(&action, at)? {
            return Ok(Vec::new());
        }
        let action = self.changes.append(&mut last, at, action)?;
        // The journal may have taken a while, and time must not go back.
        self.apply(&action, at.max(self.cells.time().now()))
    }

    /// Repeats a change of the journal.
    fn replay(&self, change: &KeyChange) -> Result<(), KeysError> {
        self.check(&change.action, change.at)?;
        self.apply(&change.action, change.at).map(drop)
    }

    /// Checks that an action is allowed, and returns whether it changes anything.
    ///
    /// The result holds until the lock of `changes.last` is released: meanwhile only counts grow and windows pass.
    fn check(&self, action: &KeyAction, at: Timestamp) -> Result<bool, KeysError> {
        match action {
            KeyAction::Create(record) => {
                record.config.check()?;
                check_new(record)?;
                let directory = self.directory.read();
                if record.bootstraps && !directory.is_empty(&record.workspace) {
                    return Err(KeysError::AlreadyBootstrapped);
                }
                let NewRecord { kind, config, thresholds, .. } = record;
                let plan = directory.plans.of_config(&record.workspace, config)?;
                if let Some(opens) = directory.plans.opening(&record.workspace, config)? {
                    let plan = plan.as_deref();
                    let state = KeyState::with_plan(*kind, config, plan, *thresholds, at);
                    state.check_open(config, Some(&opens), at)?;
                }
                directory.check_insert(&StoredKey::new(record, at), at).map(|()| true)
            }
            KeyAction::Update { workspace, update } => {
                let KeyUpdate { id, version, config, effective, thresholds } = update;
                config.check()?;
                let directory = self.directory.read();
                let plan = directory.plans.of_config(workspace, config)?;
                let key = directory.get_in(workspace, id)?;
                let state = self.cells.with(id, |cell| Some(cell?.latest(at).into_owned()));
                let state = state.ok_or_else(|| KeysError::NotFound(id.to_string()))?;
                directory.check_update(key, *version, state.kind(), config)?;
                let is_named = key.is_configured(config);
                let plan = plan.as_deref();
                let change = state.change_with(config, plan, *thresholds, *effective, at)?;
                let opens = directory.plans.opening(workspace, config)?;
                change.after.check_open(config, opens.as_deref(), at)?;
                Ok(change.after != state || !is_named)
            }
            KeyAction::Reset { workspace, id } => {
                self.directory.read().get_in(workspace, id).map(|_| true)
            }
            KeyAction::Rotate { workspace, rotation } => {
                let directory = self.directory.read();
                let key = directory.get_in(workspace, &rotation.id)?;
                directory.check_rotation(key, rotation, at).map(|()| true)
            }
            KeyAction::Delete { workspace, id } => {
                self.directory.read().check_remove(workspace, id).map(|()| true)
            }
            KeyAction::SavePlan { workspace, update } => {
                let directory = self.directory.read();
                Ok(directory.plans.updated(workspace, update, at)?.is_some())
            }
            KeyAction::DeletePlan { workspace, name } => {
                self.directory.read().plans.check_remove(workspace, name).map(|()| true)
            }
        }
    }

    /// Applies a [checked](Self::check) change. Returns the thresholds that it reached.
    fn apply(&self, action: &KeyAction, at: Timestamp) -> Result<Vec<Crossing>, KeysError> {
        let mut directory = self.directory.write();
        match action {
            KeyAction::Create(record) => {
                let NewRecord { kind, config, thresholds, .. } = record;
                let key = StoredKey::new(record, at);
                let plan = directory.plans.of_config(&key.workspace, config)?;
                let plan = plan.as_deref();
                let state = KeyState::with_plan(*kind, config, plan, *thresholds, at);
                let state = state.keeping_history(self.history_days);
                directory.insert(key, &state, at)?;
                let attached = directory.attached(&record.id, &state);
                self.cells.insert(record.id.clone(), state, attached);
            }
            KeyAction::Update { workspace, update } => {
                let KeyUpdate { id, config, effective, thresholds, .. } = update;
                let plan = directory.plans.of_config(workspace, config)?;
                let plan = plan.as_deref();
                let configured = self.cells.with(id, |cell| {
                    let cell = cell?;
                    let mut crossed = cell.catch_up(at);
                    let state = &mut cell.state;
                    let change = state.change_with(config, plan, *thresholds, *effective, at);
                    Some(change.map(|change| {
                        crossed.extend(change.crossed);
                        *state = change.after;
                        (state.kind(), crossed)
                    }))
                });
                let (kind, crossed) =
                    configured.ok_or_else(|| KeysError::NotFound(id.to_string()))??;
                directory.update(id, kind, config, at);
                self.cells.with(id, |cell| {
                    if let Some(cell) = cell {
                        let Attached { planned, opens, .. } = directory.attached(id, &cell.state);
                        cell.set_plans(planned, opens);
                    }
                });
                return Ok(crossed);
            }
            KeyAction::Reset { id, .. } => {
                let crossed = self.cells.with(id, |cell| {
                    let Some(cell) = cell else { return Vec::new() };
                    let crossed = cell.catch_up(at);
                    cell.state.reset(at);
                    crossed
                });
                drop(directory);
                self.cells.tell(vec![(id.clone(), crossed)]);
            }
            KeyAction::SavePlan { workspace, update } => {
                if let Some(plan) = directory.plans.updated(workspace, update, at)? {
                    directory.plans.put(plan);
                }
            }
            KeyAction::DeletePlan { workspace, name } => directory.plans.remove(workspace, name),
            KeyAction::Rotate { rotation, .. } => directory.rotate(rotation, at),
            KeyAction::Delete { workspace, id } => {
                directory.remove(workspace, id)?;
                self.cells.remove(id);
            }
        }
        Ok(Vec::new())
    }

    /// Lists a page of the living keys of a workspace, by the bytes of their names.
    ///
    /// A long page takes several steps, each with its own lock of the directory, so that other callers never wait for
    /// all of it. A key that is renamed meanwhile may be missing, or appear twice.
    #[must_use]
    pub fn list(&self, workspace: &WorkspaceId, search: &Search) -> Page {
        let (mut keys, mut usage) = (Vec::<KeyRecord>::new(), Vec::new());
        let mut start = search.start().cloned();
        loop {
            let directory = self.directory.read();
            let room = search.limit().saturating_sub(keys.len());
            let Scan { found, then } = directory.scan(workspace, search, start.as_ref(), room);
            for key in found.into_iter().filter_map(|id| directory.get(id)) {
                let now = self.cells.time().now();
                let read = self.cells.with(&key.id, |cell| {
                    let state = cell?.latest(now);
                    let used = search.wants_usage().then(|| Usage::of(&state, now));
                    Some((KeyRecord::of(key, &state, now), used))
                });
                let Some((record, used)) = read else { continue };
                keys.push(record);
                usage.extend(used);
            }
            let next = match then {
                Then::GoOn(name) => {
                    start = Some(name);
                    continue;
                }
                Then::End => None,
                Then::More => keys.last().map(|key| key.config.name.clone()),
            };
            return Page::new(keys, next).with_usage(usage);
        }
    }

    /// Returns how many keys are counted that nobody registered: see [`MemoryStoreBuilder::most_unregistered`].
    #[must_use]
    pub fn unregistered_keys(&self) -> usize {
        self.cells.unregistered()
    }

    /// Takes a snapshot of all keys with their counts.
    ///
    /// The keys, their names and limits are those of one moment, the end of the snapshot. The counts and reservations
    /// of each key are also those of one moment, which differs between keys. All other work goes on meanwhile. While a
    /// key is copied, decisions about it and about one in 256 other keys wait: about a millisecond for 1,000 open
    /// reservations.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot_in_steps(|| {})
    }

    /// Calls `between` after each key, while it holds no lock that a decision or a change needs.
    fn snapshot_in_steps(&self, mut between: impl FnMut()) -> Snapshot {
        let _only_one = self.changes.snapshot.lock();
        self.directory.write().watch_changes();
        let (mut keys, mut unregistered) = (Vec::new(), Vec::new());
        for shard in 0..self.cells.shards() {
            self.cells.walk(shard, CopiedCell::of, |copied| {
                // A key that changes after this is read again below.
                let key = self.directory.read().get(&copied.id).cloned();
                match key {
                    Some(key) => keys.push(copied.with(key)),
                    None => unregistered.extend(copied.unregistered()),
                }
                between();
            });
        }
        // Keys that changed meanwhile are read again, while no change can come.
        let last_change = self.changes.last.lock();
        let changed = self.directory.write().take_changed();
        let changed_keys: Vec<SavedKey> = changed
            .iter()
            .filter_map(|id| {
                let key = self.directory.read().get(id).cloned()?;
                let copied = self.cells.with(id, |cell| cell.map(|cell| CopiedCell::of(cell)))?;
                Some(copied.with(key))
            })
            .collect();
        let (taken_at, number) = (self.cells.time().now(), *last_change);
        let plans = self.directory.read().plans.all();
        drop(last_change);
        if !changed.is_empty() {
            keys.retain(|saved| !changed.contains(&saved.key.id));
            keys.extend(changed_keys);
        }
        Snapshot::new(taken_at, number, plans, keys, unregistered)
    }

    /// Creates a store on the system's clock that continues from a snapshot.
    ///
    /// # Errors
    /// As [`MemoryStoreBuilder::restore`].
    pub fn restore(snapshot: Snapshot) -> Result<Self, RestoreError> {
        Self::builder().restore(snapshot)
    }

    fn record_of(&self, key: &StoredKey) -> Option<KeyRecord> {
        self.cells.with(&key.id, |cell| {
            let now = self.cells.time().now();
            Some(KeyRecord::of(key, &cell?.latest(now), now))
        })
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Implements [`Store`] by the synchronous calls of the same names. `after turn` waits for other async callers that
/// change keys.
macro_rules! asynchronous {
    ($($call:ident($($name:ident: $type:ty),*) -> $returned:ty $(: $wrapped:ident)? $(, after $turn:ident)?;)*) => {
        #[async_trait]
        impl Store for MemoryStore {
            $(async fn $call(&self, $($name: $type),*) -> $returned {
                $(let _turn = self.changes.$turn().await;)?
                let answer = self.$call($($name),*);
                $(let answer = $wrapped(answer);)?
                answer
            })*

            fn listen(&self, listener: Listener) {
                self.cells.listen(listener);
            }
        }
    };
}

asynchronous! {
    check_and_consume(key: &KeyId, asset: Option<&AssetId>, charge: &Charge) -> Result<Decision, StoreError>: Ok;
    peek(key: &KeyId, asset: Option<&AssetId>, charge: &Charge) -> Result<Decision, StoreError>: Ok;
    usage(key: &KeyId) -> Result<Option<Usage>, StoreError>: Ok;
    check_once(key: &KeyId, asset: Option<&AssetId>, charge: &Charge, id: &RequestId)
        -> Result<Decision, ReservationError>;
    record(key: &KeyId, asset: Option<&AssetId>, charge: &Charge, id: &RecordId<'_>)
        -> Result<Vec<Crossing>, ReservationError>;
    reserve(key: &KeyId, asset: Option<&AssetId>, estimate: &Charge, id: &RequestId, ttl: Duration)
        -> Result<Decision, ReservationError>;
    amend(key: &KeyId, id: &RequestId, to: &Totals) -> Result<Decision, ReservationError>;
    settle(key: &KeyId, id: &RequestId, actual: &Totals) -> Result<Settled, ReservationError>;
    cancel(key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError>;
    grant(key: &KeyId, asset: Option<&AssetId>, terms: &GrantTerms, id: &RequestId)
        -> Result<Option<Grant>, StoreError>: Ok;
    hand_back(key: &KeyId, id: &RequestId, used: &Charge) -> Result<(), StoreError>: Ok;
    resolve(digest: &KeyDigest) -> Result<Option<KeyId>, StoreError>: Ok;
    read(id: &KeyId) -> Result<Option<KeyRecord>, StoreError>: Ok;
    create(key: NewRecord) -> Result<KeyRecord, KeysError>, after turn;
    history(key: &KeyId, days: u16) -> Result<Option<Vec<DayHistory>>, StoreError>: Ok;
    find(workspace: &WorkspaceId, name: &KeyName) -> Result<Option<KeyId>, StoreError>: Ok;
    update(workspace: &WorkspaceId, update: &KeyUpdate) -> Result<UpdatedKey, KeysError>, after turn;
    reset(workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError>, after turn;
    rotate(workspace: &WorkspaceId, rotation: &KeyRotation) -> Result<KeyRecord, KeysError>, after turn;
    delete(workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError>, after turn;
    list(workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError>: Ok;
    save_plan(workspace: &WorkspaceId, update: &PlanUpdate) -> Result<PlanRecord, KeysError>, after turn;
    plans(workspace: &WorkspaceId) -> Result<Vec<PlanRecord>, StoreError>: Ok;
    plan(workspace: &WorkspaceId, name: &PlanName) -> Result<Option<PlanRecord>, StoreError>: Ok;
    delete_plan(workspace: &WorkspaceId, name: &PlanName) -> Result<(), KeysError>, after turn;
}

/// The error of a call on what is remembered of a key that has no cell.
fn not_remembered(absent: Absent) -> ReservationError {
    match absent {
        Absent::Unknown => ReservationError::KeyUnknown,
        Absent::TooMany { most, now: at, retry_at } => {
            let (what, retry_at) = ("unregistered keys", retry_at.unwrap_or(Timestamp::MAX));
            ReservationError::TooMany { what, most, at, retry_at }
        }
    }
}

/// Some 700 MB at most.
const MOST_UNREGISTERED: usize = 1_000_000;

#[cfg(test)]
mod tests;
