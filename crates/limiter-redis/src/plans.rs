//! The plans that this process knows, each for at most a second.
//!
//! A key's hash has the limits of its plan as the key took them last, with the plan's version. A decision goes by those, and
//! costs no more than one of a key without a plan. What a process must know is whether the plan has changed since: it reads
//! each plan again while calls go on by the one it knows, once half of the second is over.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use limiter_core::{
    Crossing, KeyConfig, KeyId, KeyState, KeysError, LateEvent, Listener, PlanName, StoredPlan,
    TakenPlan, Timestamp, WorkspaceId,
};
use parking_lot::RwLock;
use redis::Value;

use crate::answer::all_of;
use crate::error::CommandError;
use crate::keys::{Keys, Subject};
use crate::keyspace::WorkspaceKey;
use crate::records::{Records, Undone};
use crate::runtime;
use crate::schema::{Known, KnownLevels, Misread, NOT_AN_ANSWER, Stamp, bytes, read_plan};

/// The plans that were read, by workspace and name.
#[derive(Debug)]
pub(crate) struct KnownPlans {
    plans: RwLock<HashMap<(WorkspaceId, PlanName), Entry>>,
    known_for: Duration,
}

#[derive(Debug)]
struct Entry {
    /// `None` if there is no such plan.
    plan: Option<Arc<StoredPlan>>,
    read_at: Instant,
    is_being_read: AtomicBool,
}

/// The functions that are told of thresholds that a plan has reached.
#[derive(Default)]
pub(crate) struct Listeners(RwLock<Vec<Arc<Listener>>>);

impl Listeners {
    pub(crate) fn add(&self, listener: Listener) {
        self.0.write().push(Arc::new(listener));
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listeners")
    }
}

impl KnownPlans {
    /// By a manual clock nothing is known for longer than an operation takes: the process learns of changes at once.
    pub(crate) fn new(is_manual: bool) -> Self {
        let known_for = if is_manual { Duration::ZERO } else { KNOWN_FOR };
        Self { plans: RwLock::default(), known_for }
    }

    pub(crate) fn learn(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
        plan: Option<Arc<StoredPlan>>,
        read_at: Instant,
    ) {
        let mut plans = self.plans.write();
        if plans.len() >= MOST_KNOWN {
            plans.clear();
        }
        let entry = Entry { plan, read_at, is_being_read: AtomicBool::new(false) };
        plans.insert((workspace.clone(), name.clone()), entry);
    }

    /// A plan, if it is known well enough.
    fn known(&self, workspace: &WorkspaceId, name: &PlanName) -> Option<Option<Arc<StoredPlan>>> {
        let plans = self.plans.read();
        let entry = plans.get(&(workspace.clone(), name.clone()))?;
        (entry.read_at.elapsed() < self.known_for).then(|| entry.plan.clone())
    }

    /// Whether a key has taken the latest version that is known, and whether it is time to read the plan again.
    fn standing(&self, taken: &TakenPlan) -> (bool, bool) {
        let plans = self.plans.read();
        let Some(entry) = plans.get(&(taken.workspace.clone(), taken.name.clone())) else {
            return (false, false);
        };
        let age = entry.read_at.elapsed();
        let is_behind = entry.plan.as_ref().is_some_and(|plan| taken.is_behind(plan));
        let is_current = age < self.known_for && !is_behind;
        let wants = is_current
            && age > self.known_for / 2
            && !entry.is_being_read.swap(true, Ordering::Relaxed);
        (is_current, wants)
    }
}

impl Keys {
    /// Whether a level has taken the latest version of its plan that is known, and known well enough.
    pub(crate) fn is_current(&self, known: &Known) -> bool {
        let Some(taken) = known.state.plan() else { return true };
        let (is_current, wants) = self.plans.standing(taken);
        if wants && let Ok(runtime) = runtime::current() {
            let (keys, taken) = (self.clone(), taken.clone());
            // Should it fail, a call that needs the plan reads it, and tells.
            runtime.spawn(
                async move { keys.read_plan(&taken.workspace, &taken.name).await.map(drop) },
            );
        }
        is_current
    }

    /// Lets each of these levels take the latest version of its plan, and an unregistered key of which nothing is left begin anew.
    /// Answers whether there was any.
    pub(crate) async fn catch_up(
        &self,
        levels: impl Iterator<Item = (KeyId, &Known)>,
        now: Timestamp,
    ) -> Result<bool, CommandError> {
        let (mut any, mut opens) = (false, None);
        for (level, known) in levels {
            let of_group = std::mem::replace(&mut opens, known.state.opens());
            if known.is_new {
                continue;
            }
            if known.may_begin_anew(now)
                && let Some(name) = of_group
                && let Some(taken) = known.state.plan()
                && let Some(plan) = self.current_plan(&taken.workspace, name).await?
                && Records::new(self.clone()).begin_anew_if_over(&level, &plan).await?
            {
                any = true;
            } else if let Some(plan) = self.newer_plan(&known.state, of_group).await? {
                let records = Records::new(self.clone());
                let crossed = match known.state.is_registered() {
                    true => records.take_plan(&level, &plan).await?,
                    false => records.take_plan_of_group(&level, &plan).await?,
                };
                self.tell(&level, &crossed);
                any = true;
            }
        }
        Ok(any)
    }

    /// The plan of a level, if the level has not taken its latest version. An unregistered key has the one with which its group
    /// is open.
    pub(crate) async fn newer_plan(
        &self,
        state: &KeyState,
        opens: Option<&PlanName>,
    ) -> Result<Option<Arc<StoredPlan>>, CommandError> {
        let Some(taken) = state.plan() else { return Ok(None) };
        let name = opens.filter(|_| !state.is_registered()).unwrap_or(&taken.name);
        let plan = self.current_plan(&taken.workspace, name).await?;
        // One that was lost leaves its keys the limits that they have.
        Ok(plan.filter(|plan| state.is_behind(plan)))
    }

    /// A plan, as it was less than a second ago.
    pub(crate) async fn current_plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<Option<Arc<StoredPlan>>, CommandError> {
        match self.plans.known(workspace, name) {
            Some(known) => Ok(known),
            None => self.read_plan(workspace, name).await,
        }
    }

    /// The levels of a key as they were read, with a new one for a key that is not there and whose group is open; `None` if there
    /// is no such key.
    pub(crate) async fn with_unregistered(
        &self,
        of: Subject<'_>,
        mut levels: Vec<Option<Known>>,
        now: Timestamp,
    ) -> Result<Option<KnownLevels>, CommandError> {
        let own = levels.pop().flatten();
        let group = levels.last().and_then(Option::as_ref);
        let opens = group.and_then(|group| group.state.opens()).cloned();
        let own = match own {
            Some(own) if own.state.is_registered() || opens.is_some() => Some(own),
            Some(_) => None,
            None => match of.key.group().zip(opens) {
                Some((id, opens)) => {
                    let stamp = group.map(|group| group.stamp).unwrap_or_default();
                    self.new_beneath(&id, stamp, &opens, now).await?
                }
                None => None,
            },
        };
        levels.push(own);
        let depth = levels.len();
        all_of(levels, depth).map_err(|misread| self.misread(of.key, misread))
    }

    /// An unregistered key, beneath a group that has this stamp and is open with this plan.
    pub(crate) async fn new_beneath(
        &self,
        group: &KeyId,
        stamp: Stamp,
        opens: &PlanName,
        now: Timestamp,
    ) -> Result<Option<Known>, CommandError> {
        let known = self.workspaces.of(group, stamp);
        let workspace = match known {
            Some(workspace) => Some(workspace),
            None => Records::new(self.clone()).remains(group).await?.workspace,
        };
        let Some(workspace) = workspace else { return Ok(None) };
        self.workspaces.learn(group, stamp, workspace.clone());
        let plan = self.current_plan(&workspace, opens).await?;
        Ok(plan.map(|plan| Known::unregistered(&plan, now)))
    }

    /// The plan that a configuration names.
    pub(crate) async fn plan_of(
        &self,
        workspace: &WorkspaceId,
        config: &KeyConfig,
    ) -> Result<Option<Arc<StoredPlan>>, Undone> {
        self.named_plan(workspace, config.plan.as_ref()).await
    }

    /// The plan with which a configuration opens a group.
    pub(crate) async fn opening_plan(
        &self,
        workspace: &WorkspaceId,
        config: &KeyConfig,
    ) -> Result<Option<Arc<StoredPlan>>, Undone> {
        self.named_plan(workspace, config.open.as_ref()).await
    }

    async fn named_plan(
        &self,
        workspace: &WorkspaceId,
        name: Option<&PlanName>,
    ) -> Result<Option<Arc<StoredPlan>>, Undone> {
        let Some(name) = name else { return Ok(None) };
        match self.read_plan(workspace, name).await? {
            Some(plan) => Ok(Some(plan)),
            None => Err(KeysError::NoPlan(name.clone()).into()),
        }
    }

    /// Reads a plan.
    pub(crate) async fn read_plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<Option<Arc<StoredPlan>>, CommandError> {
        let (key, asked_at) =
            (self.keyspace.workspace(WorkspaceKey::Plans, workspace), Instant::now());
        let reply = self.read_all(PLAN, &[key], &[name.as_str()]).await?;
        let read = || {
            let Value::Array(parts) = &reply else { return Err(NOT_AN_ANSWER) };
            let Some(Value::Array(values)) = parts.get(2) else { return Err(Misread::WrongType) };
            values.first().and_then(bytes).map(read_plan).transpose()
        };
        let plan = read().map_err(|misread| self.misread_plan(workspace, misread))?.map(Arc::new);
        self.plans.learn(workspace, name, plan.clone(), asked_at);
        Ok(plan)
    }

    pub(crate) fn misread_plan(&self, workspace: &WorkspaceId, misread: Misread) -> CommandError {
        self.misread_at(&self.keyspace.workspace(WorkspaceKey::Plans, workspace), misread)
    }

    /// Tells of thresholds that a plan has reached.
    pub(crate) fn tell(&self, level: &KeyId, crossed: &[Crossing]) {
        if !crossed.is_empty() {
            // One may add another.
            let listeners = self.listeners.0.read().clone();
            for listener in &listeners {
                listener(level, LateEvent::Crossed(crossed));
            }
        }
    }
}

/// How long after it was read a plan is known.
const KNOWN_FOR: Duration = Duration::from_millis(900);
/// Some megabytes; those in use are read again.
const MOST_KNOWN: usize = 10_000;
const PLAN: &str = "plan";
