//! Plans, and how levels take their changes.

use crate::replay::{Crossed, Effective, Plan as Change};

use super::config::Config;
use super::key::{Key, Manner};

/// A plan of the workspace.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    name: String,
    pub(super) config: Config,
    /// Each change is a new version.
    version: u64,
    /// The version of the last change that came at once.
    at_once: u64,
}

/// The plan of a level, and the version that it took last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) name: String,
    version: u64,
}

impl Plan {
    /// Returns the plan after a change, from the one before if there was one; `None` if it is out of bounds. "Saving what is
    /// already configured changes nothing", unless it waits for the next windows and is to come at once.
    pub(super) fn changed(before: Option<&Self>, change: &Change) -> Option<Self> {
        let nothing = Config::default();
        let config = before.map_or(&nothing, |before| &before.config).planned(change)?;
        let is_now = change.effective == Effective::Now;
        if let Some(before) = before
            && before.config == config
            && (!is_now || before.at_once == before.version)
        {
            return Some(before.clone());
        }
        let version = before.map_or(1, |before| before.version + 1);
        let at_once = if is_now { version } else { before.map_or(0, |before| before.at_once) };
        Some(Self { name: change.plan.clone(), config, version, at_once })
    }

    pub(super) fn taken(&self) -> Taken {
        Taken { name: self.name.clone(), version: self.version }
    }

    /// Returns whether a level that took this has a change of the plan before it.
    pub(super) fn is_ahead_of(&self, taken: &Taken) -> bool {
        self.version > taken.version || self.name != taken.name
    }
}

impl Key {
    /// "Changing … a plan is a change of limits … for the levels concerned: a window takes the plan as it is at its first step,
    /// a later change waits for the next; with `Effective::Now` it applies at each level's next step." Returns the thresholds
    /// that this reaches by itself.
    pub(super) fn take(&mut self, plan: &Plan, now: i64) -> Vec<Crossed> {
        let Some(taken) = self.plan.replace(plan.taken()) else { return Vec::new() };
        if !self.is_registered() && self.has_ended(now) {
            // Nothing is left of what an unregistered key had used.
            let mut new = Self::unregistered(plan, now);
            new.find_forgotten(self);
            *self = new;
            return Vec::new();
        }
        let comes_at_once = plan.name == taken.name && plan.at_once > taken.version;
        let manner = if comes_at_once { Manner::AtOnce } else { Manner::AtTheFirstStep };
        let mut changed = self.clone();
        let crossed = changed.configure(&self.own.over(Some(&plan.config)), manner, now);
        if changed.settings(now) != self.settings(now) {
            *self = changed;
        }
        crossed
    }
}
