//! The plans of all workspaces. A cell whose key has a plan looks at it before each step, without any other lock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use limiter_core::{
    Crossing, InvalidValue, KeyConfig, KeyState, KeysError, PlanName, PlanUpdate, StoredPlan,
    Timestamp, WorkspaceId,
};

use crate::sync::RwLock;

/// The plans, by workspace and name.
#[derive(Debug, Default)]
pub(crate) struct Plans(BTreeMap<WorkspaceId, BTreeMap<PlanName, Held>>);

/// A plan, and how many keys and groups have it.
#[derive(Debug)]
struct Held {
    plan: Arc<LivePlan>,
    held_by: usize,
    /// How many groups are open with it.
    opens: usize,
}

/// A plan that its keys look at.
#[derive(Debug)]
pub(crate) struct LivePlan {
    version: AtomicU64,
    stored: RwLock<Arc<StoredPlan>>,
    /// The configuration of its keys that have nothing of their own: of the first one, for all of them.
    plain: OnceLock<Arc<KeyConfig>>,
    /// That of unregistered keys.
    unregistered: OnceLock<Arc<KeyConfig>>,
}

/// The plan of a key, and the key's own configuration.
#[derive(Debug)]
pub(crate) struct Planned {
    plan: Arc<LivePlan>,
    own: Arc<KeyConfig>,
}

impl LivePlan {
    fn new(stored: StoredPlan) -> Self {
        let (version, stored) = (AtomicU64::new(stored.version), RwLock::new(Arc::new(stored)));
        Self { version, stored, plain: OnceLock::new(), unregistered: OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Arc<StoredPlan> {
        Arc::clone(&self.stored.read())
    }

    fn set(&self, stored: StoredPlan) {
        let version = stored.version;
        *self.stored.write() = Arc::new(stored);
        self.version.store(version, Ordering::Release);
    }
}

impl Planned {
    pub(crate) const fn new(plan: Arc<LivePlan>, own: Arc<KeyConfig>) -> Self {
        Self { plan, own }
    }

    /// The plan of an unregistered key.
    pub(crate) fn of_unregistered(plan: &Arc<LivePlan>) -> Self {
        let own = plan.unregistered.get_or_init(|| Arc::new(KeyConfig::of_unregistered()));
        Self { own: Arc::clone(own), plan: Arc::clone(plan) }
    }

    pub(crate) fn is_of(&self, plan: &Arc<LivePlan>) -> bool {
        Arc::ptr_eq(&self.plan, plan)
    }

    pub(crate) fn is_ahead_of(&self, state: &KeyState) -> bool {
        let taken = state.plan().map_or(0, |taken| taken.version);
        self.plan.version.load(Ordering::Acquire) != taken
    }

    /// Takes the latest version of the plan, if the key is behind. Returns the thresholds that this reached.
    #[inline]
    pub(crate) fn catch_up(&self, state: &mut KeyState, now: Timestamp) -> Vec<Crossing> {
        if self.is_ahead_of(state) { self.take(state, now) } else { Vec::new() }
    }

    #[cold]
    pub(crate) fn take(&self, state: &mut KeyState, now: Timestamp) -> Vec<Crossing> {
        let plan = self.plan.get();
        if !state.is_behind(&plan) {
            return Vec::new();
        }
        let change = state.take(&self.own, &plan, now);
        *state = change.after;
        change.crossed
    }
}

impl Plans {
    pub(crate) fn get(&self, workspace: &WorkspaceId, name: &PlanName) -> Option<Arc<StoredPlan>> {
        Some(self.0.get(workspace)?.get(name)?.plan.get())
    }

    /// Returns the plans of a workspace, by the bytes of their names.
    pub(crate) fn all_of(&self, workspace: &WorkspaceId) -> Vec<Arc<StoredPlan>> {
        let plans = self.0.get(workspace).into_iter().flat_map(BTreeMap::values);
        plans.map(|held| held.plan.get()).collect()
    }

    pub(crate) fn all(&self) -> Vec<StoredPlan> {
        let plans = self.0.values().flat_map(BTreeMap::values);
        plans.map(|held| StoredPlan::clone(&held.plan.get())).collect()
    }

    /// Returns the plan that a configuration names.
    pub(crate) fn of_config(
        &self,
        workspace: &WorkspaceId,
        config: &KeyConfig,
    ) -> Result<Option<Arc<StoredPlan>>, KeysError> {
        config.plan.as_ref().map(|name| self.named(workspace, name)).transpose()
    }

    /// Returns the plan with which a configuration opens a group.
    pub(crate) fn opening(
        &self,
        workspace: &WorkspaceId,
        config: &KeyConfig,
    ) -> Result<Option<Arc<StoredPlan>>, KeysError> {
        config.open.as_ref().map(|name| self.named(workspace, name)).transpose()
    }

    fn named(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<Arc<StoredPlan>, KeysError> {
        self.get(workspace, name).ok_or_else(|| KeysError::NoPlan(name.clone()))
    }

    /// Returns a plan that unregistered keys look at.
    pub(crate) fn live(&self, workspace: &WorkspaceId, name: &PlanName) -> Option<Arc<LivePlan>> {
        Some(Arc::clone(&self.0.get(workspace)?.get(name)?.plan))
    }

    /// Returns the same configuration, in the memory of other keys that have it.
    pub(crate) fn shared(&self, workspace: &WorkspaceId, own: Arc<KeyConfig>) -> Arc<KeyConfig> {
        let plan = own.plan.as_ref().and_then(|name| self.0.get(workspace)?.get(name));
        let Some(held) = plan else { return own };
        let plain = held.plan.plain.get_or_init(|| Arc::clone(&own));
        if **plain == *own { Arc::clone(plain) } else { own }
    }

    /// Returns what a cell of a key of this configuration looks at.
    pub(crate) fn planned(
        &self,
        workspace: &WorkspaceId,
        own: Option<&Arc<KeyConfig>>,
    ) -> Option<Planned> {
        let own = own?;
        let held = self.0.get(workspace)?.get(own.plan.as_ref()?)?;
        Some(Planned::new(Arc::clone(&held.plan), Arc::clone(own)))
    }

    /// Returns the plan after an update, if that changes anything.
    pub(crate) fn updated(
        &self,
        workspace: &WorkspaceId,
        update: &PlanUpdate,
        now: Timestamp,
    ) -> Result<Option<StoredPlan>, KeysError> {
        update.plan.check()?;
        let plans = self.0.get(workspace);
        let held = plans.and_then(|plans| plans.get(&update.name));
        if held.is_some_and(|held| held.opens > 0) {
            update.plan.check_for_open_groups(&update.name)?;
        }
        let before = held.map(|held| held.plan.get());
        let before = before.as_deref();
        update.check_version(before)?;
        let (count, max) = (plans.map_or(0, BTreeMap::len), StoredPlan::MOST);
        if before.is_none() && count >= max {
            return Err(InvalidValue::TooManyPlans { max }.into());
        }
        let updated = StoredPlan::updated(before, workspace, update, now);
        Ok(Some(updated).filter(|updated| Some(updated) != before))
    }

    pub(crate) fn put(&mut self, plan: StoredPlan) {
        let plans = self.0.entry(plan.workspace.clone()).or_default();
        match plans.get(&plan.name) {
            Some(held) => held.plan.set(plan),
            None => {
                let name = plan.name.clone();
                let plan = Arc::new(LivePlan::new(plan));
                plans.insert(name, Held { plan, held_by: 0, opens: 0 });
            }
        }
    }

    /// Checks that a plan exists, and that no key has it.
    pub(crate) fn check_remove(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<(), KeysError> {
        let held = self.0.get(workspace).and_then(|plans| plans.get(name));
        match held {
            None => Err(KeysError::NoPlan(name.clone())),
            Some(held) if held.held_by > 0 || held.opens > 0 => {
                Err(KeysError::PlanInUse(name.clone()))
            }
            Some(_) => Ok(()),
        }
    }

    pub(crate) fn remove(&mut self, workspace: &WorkspaceId, name: &PlanName) {
        if let Some(plans) = self.0.get_mut(workspace) {
            plans.remove(name);
            if plans.is_empty() {
                self.0.remove(workspace);
            }
        }
    }

    /// Counts that a key has the plan of one configuration in place of that of another.
    pub(crate) fn moved(
        &mut self,
        workspace: &WorkspaceId,
        before: Option<&Arc<KeyConfig>>,
        after: Option<&Arc<KeyConfig>>,
    ) {
        let Some(plans) = self.0.get_mut(workspace) else { return };
        let name = |own: Option<&Arc<KeyConfig>>| own?.plan.clone();
        if let Some(left) = name(before).and_then(|name| plans.get_mut(&name)) {
            left.held_by = left.held_by.saturating_sub(1);
        }
        if let Some(found) = name(after).and_then(|name| plans.get_mut(&name)) {
            found.held_by += 1;
        }
    }

    /// Counts that a group is open with one plan in place of another.
    pub(crate) fn opened(
        &mut self,
        workspace: &WorkspaceId,
        before: Option<&PlanName>,
        after: Option<&PlanName>,
    ) {
        let Some(plans) = self.0.get_mut(workspace) else { return };
        if let Some(left) = before.and_then(|name| plans.get_mut(name)) {
            left.opens = left.opens.saturating_sub(1);
        }
        if let Some(found) = after.and_then(|name| plans.get_mut(name)) {
            found.opens += 1;
        }
    }
}
