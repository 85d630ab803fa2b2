//! A slow, obviously right model of what the engine means.
//!
//! It is written from the sentences of the specification, quoted where they are subtle, and shares no rule with the
//! engine, only plain words such as `Window` and `Unit`. For every scope and kind of window it keeps the plain list of what was admitted, and counts it again each
//! time. Whatever an operation sees is first made, as a copy, what it would be if it were written now; then the
//! operation either keeps the copy or forgets it.

mod calendar;
mod config;
mod fired;
mod history;
mod key;
mod path;
mod plan;
mod remembered;
mod reservation;
mod scope;
mod slots;
mod window;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::replay::{
    Action, Answer, Change, Create, Crossed, Denial, Event, KeyKind, LARGEST, Operation,
    Plan as PlanChange, Problem, Update, levels, parent,
};

use key::{Key, instant};
use path::Path;
use plan::Plan;
use slots::{Holder, Left};

/// The keys, groups and plans of one workspace, by their labels.
#[derive(Clone, Debug, Default)]
pub struct Model {
    keys: BTreeMap<String, Key>,
    plans: BTreeMap<String, Plan>,
    /// The slots that deleted keys have left behind.
    left: BTreeMap<String, Left>,
    /// How many keys there have been.
    made: u64,
    bounds: Bounds,
    /// Those that were not asked for yet.
    events: Vec<Event>,
}

/// The most that a key remembers of each kind. "100,000 open reservations a key, and 100,000 ended ones and request
/// ids."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Open reservations.
    pub open: usize,
    /// Ended reservations with which another call can be reserved.
    pub ended: usize,
    /// Request ids of checks.
    pub checks: usize,
}

impl Model {
    /// A workspace without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// A workspace without keys, whose keys remember no more than this.
    pub fn bounded(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// Does one operation at its instant, and answers it.
    pub fn answer(&mut self, operation: &Operation) -> Answer {
        // "Bounds are checked first."
        if !operation.is_within_bounds() {
            return Answer::Error(Problem::Invalid);
        }
        let (now, bounds) = (instant(operation.at), self.bounds);
        for key in self.keys.values_mut() {
            key.look_at_the_clock(now);
        }
        match &operation.action {
            Action::Create(create) => self.create(create, now),
            Action::Update(update) => self.update(update, now),
            Action::Check(call) => self.decide(&call.key, now, |path| match &call.request_id {
                Some(id) => path.check_once(call, id, &bounds, now),
                None => path.check(call, now).0,
            }),
            Action::Peek(call) => {
                let path = self.latest_path(&call.key, now);
                path.map_or(Answer::Denied(Denial::UnknownKey), |path| path.peek(call, now))
            }
            Action::Reserve(reserve) => {
                self.decide(&reserve.estimate.key, now, |path| path.reserve(reserve, &bounds, now))
            }
            Action::Amend(to) => self.decide(&to.key, now, |path| path.amend(to, now)),
            Action::Settle(actual) => self.end(&actual.key, now, |path| path.settle(actual, now)),
            Action::Cancel { key, id } => self.end(key, now, |path| path.cancel(id, now)),
            Action::Usage { key } => self.read(key, now, |key| Answer::Usage(key.usage(now))),
            Action::History { key, days } => {
                self.read(key, now, |key| Answer::History(key.history(*days, now)))
            }
            Action::Events {} => Answer::Events(std::mem::take(&mut self.events)),
            Action::Reset { key } => self.reset(key, now),
            Action::Delete { key } => self.delete(key),
            Action::Plan(plan) => self.save_plan(plan),
            Action::DeletePlan { plan } => self.delete_plan(plan),
        }
    }

    /// Whether the specification says what the answer is. "After a step back, whether an id or a ttl that had passed
    /// holds again is unspecified": such an operation is left out of a comparison.
    pub fn specifies(&self, operation: &Operation) -> bool {
        let (now, bounds) = (instant(operation.at.min(LARGEST)), &self.bounds);
        let known = |key: &str| self.keys.get(key);
        match &operation.action {
            Action::Check(call) => call.request_id.as_ref().is_none_or(|id| {
                known(&call.key).is_none_or(|key| key.specifies_check(id, bounds, now))
            }),
            Action::Reserve(reserve) => {
                let path = &reserve.estimate.key;
                self.specifies_slots(path, now)
                    && self.specifies_holder(path, &reserve.id, now)
                    && known(path).is_none_or(|key| key.specifies_reserve(&reserve.id, bounds, now))
            }
            Action::Amend(totals) => {
                let known = known(&totals.key);
                self.specifies_slots(&totals.key, now)
                    && known.is_none_or(|key| key.specifies_reservation(&totals.id, now))
            }
            Action::Settle(totals) => {
                known(&totals.key).is_none_or(|key| key.specifies_reservation(&totals.id, now))
            }
            Action::Usage { key } => {
                self.latest(key, now).is_none_or(|(key, _)| key.slots.specifies(now))
            }
            Action::Cancel { key, id } => {
                known(key).is_none_or(|key| key.specifies_reservation(id, now))
            }
            // A store may forget the days before the latest one that it has seen.
            Action::History { key, .. } => known(key).is_none_or(|key| key.latest <= now),
            _ => true,
        }
    }

    fn specifies_slots(&self, path: &str, now: i64) -> bool {
        let mut levels = levels(path).filter_map(|level| self.latest(level, now));
        levels.all(|(level, _)| level.slots.specifies(now))
    }

    fn specifies_holder(&self, path: &str, id: &str, now: i64) -> bool {
        let Some(key) = self.keys.get(path) else { return true };
        let holder = Holder::new(path, key.number, id);
        let mut known = levels(path).filter_map(|level| self.keys.get(level));
        known.all(|level| level.slots.specifies_holder(&holder, now))
    }

    fn create(&mut self, create: &Create, now: i64) -> Answer {
        let plan = create.plan.as_ref().map(|plan| self.plans.get(plan));
        if plan.is_some_and(|plan| plan.is_none()) {
            return Answer::Error(Problem::NoPlan);
        }
        // "Every proper prefix names a group that exists".
        let is_group = |path: &str| self.keys.get(path).is_some_and(|it| it.kind == KeyKind::Group);
        if !parent(&create.key).is_none_or(is_group) {
            return Answer::Error(Problem::NoGroup);
        }
        match self.keys.entry(create.key.clone()) {
            // An expired key still lives: only deletion frees its label.
            Entry::Occupied(_) => Answer::Error(Problem::AlreadyExists),
            Entry::Vacant(free) => {
                self.made += 1;
                let mut key = Key::created(create, self.made, plan.flatten(), now);
                key.slots.find_left(self.left.remove(&create.key).unwrap_or_default());
                free.insert(key);
                Answer::Ok
            }
        }
    }

    /// "Plan"s change what their levels have "at each level's next step". Returns the key or group as it is with the latest
    /// version of its plan, and the thresholds that taking it reaches.
    fn latest(&self, path: &str, now: i64) -> Option<(Cow<'_, Key>, Vec<Crossed>)> {
        let key = self.keys.get(path)?;
        let plan = key.plan.as_ref().map(|taken| (taken, &self.plans[&taken.name]));
        let Some((_, plan)) = plan.filter(|(taken, plan)| plan.is_ahead_of(taken)) else {
            return Some((Cow::Borrowed(key), Vec::new()));
        };
        let mut key = key.clone();
        let crossed = key.take(plan, now);
        Some((Cow::Owned(key), crossed))
    }

    /// Lets a level take the latest version of its plan.
    fn take_plan(&mut self, path: &str, now: i64) {
        if let Some((Cow::Owned(key), crossed)) = self.latest(path, now) {
            self.keys.insert(path.to_owned(), key);
            let events = crossed.into_iter().map(|it| Event(path.to_owned(), it.rule, it.percent));
            self.events.extend(events);
        }
    }

    /// Returns what a call of a key would meet. A group "makes no calls itself".
    fn latest_path(&self, key: &str, now: i64) -> Option<Path> {
        if self.keys.get(key)?.kind == KeyKind::Group {
            return None;
        }
        let levels = levels(key).map(|level| {
            let latest = self.latest(level, now);
            let (latest, _) = latest.expect("a group lives as long as anything beneath it");
            (level.to_owned(), latest.into_owned())
        });
        Some(Path::new(levels.collect()))
    }

    /// Of a key that is not known, what decides says so as a reason.
    fn decide(
        &mut self,
        key: &str,
        now: i64,
        decision: impl FnOnce(&mut Path) -> Answer,
    ) -> Answer {
        self.call(key, now, decision).unwrap_or(Answer::Denied(Denial::UnknownKey))
    }

    /// All else says so as an error.
    fn end(&mut self, key: &str, now: i64, end: impl FnOnce(&mut Path) -> Answer) -> Answer {
        self.call(key, now, end).unwrap_or(Answer::Error(Problem::UnknownKey))
    }

    /// Does an operation on a call of a key: it concerns its groups too. Whatever the answer is, each level takes its plan.
    fn call(
        &mut self,
        key: &str,
        now: i64,
        operation: impl FnOnce(&mut Path) -> Answer,
    ) -> Option<Answer> {
        if self.keys.get(key)?.kind == KeyKind::Group {
            return None;
        }
        let taken = levels(key).map(|level| {
            self.take_plan(level, now);
            let taken = self.keys.remove_entry(level);
            taken.expect("a group lives as long as anything beneath it")
        });
        let mut path = Path::new(taken.collect());
        let answer = operation(&mut path);
        self.keys.extend(path.into_levels());
        self.events.extend(answer.events(key));
        Some(answer)
    }

    /// Reads a key or a group, whatever lies above and beneath it.
    fn read(&self, key: &str, now: i64, read: impl FnOnce(&Key) -> Answer) -> Answer {
        let read = self.latest(key, now).map(|(key, _)| read(&key));
        read.unwrap_or(Answer::Error(Problem::UnknownKey))
    }

    fn reset(&mut self, path: &str, now: i64) -> Answer {
        self.take_plan(path, now);
        let key = self.keys.get_mut(path);
        key.map_or(Answer::Error(Problem::UnknownKey), |key| key.reset(now))
    }

    /// One that is refused or that changes nothing writes nothing, so that the key does not take its plan either.
    fn update(&mut self, update: &Update, now: i64) -> Answer {
        let named = match &update.plan {
            Change::Set(plan) => Some(plan),
            Change::Keep | Change::Clear => None,
        };
        if named.is_some_and(|plan| !self.plans.contains_key(plan)) {
            return Answer::Error(Problem::NoPlan);
        }
        let Some((latest, mut crossed)) = self.latest(&update.key, now) else {
            return Answer::Error(Problem::UnknownKey);
        };
        let mut key = latest.into_owned();
        let kept = key.plan.as_ref().map(|taken| &taken.name);
        let plan = if update.plan.is_keep() { kept } else { named };
        let version = key.version;
        let answer = key.update(update, plan.map(|plan| &self.plans[plan]), now);
        let Answer::Updated { crossed: updated } = answer else { return answer };
        if key.version == version {
            return Answer::Updated { crossed: Vec::new() };
        }
        crossed.extend(updated);
        self.keys.insert(update.key.clone(), key);
        let answer = Answer::Updated { crossed };
        self.events.extend(answer.events(&update.key));
        answer
    }

    fn save_plan(&mut self, change: &PlanChange) -> Answer {
        let before = self.plans.get(&change.plan);
        let changed = Plan::changed(before, change);
        let is_one_more = before.is_none() && self.plans.len() >= MOST_PLANS;
        let Some(changed) = changed.filter(|_| !is_one_more) else {
            return Answer::Error(Problem::Invalid);
        };
        self.plans.insert(change.plan.clone(), changed);
        Answer::Ok
    }

    /// "A plan in use cannot be deleted."
    fn delete_plan(&mut self, plan: &str) -> Answer {
        let is_of = |key: &Key| key.plan.as_ref().is_some_and(|taken| taken.name == plan);
        if self.keys.values().any(is_of) {
            return Answer::Error(Problem::InUse);
        }
        match self.plans.remove(plan) {
            Some(_) => Answer::Ok,
            None => Answer::Error(Problem::NoPlan),
        }
    }

    /// "Deletion is irreversible." A key made later under the same label is another key: nothing of this one is left. "A group
    /// with anything beneath it cannot be deleted".
    fn delete(&mut self, key: &str) -> Answer {
        let beneath = format!("{key}/");
        if self.keys.keys().any(|path| path.starts_with(&beneath)) {
            return Answer::Error(Problem::NotEmpty);
        }
        let Some(deleted) = self.keys.remove(key) else {
            return Answer::Error(Problem::UnknownKey);
        };
        self.left.insert(key.to_owned(), deleted.slots.left_behind());
        Answer::Ok
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { open: 100_000, ended: 100_000, checks: 100_000 }
    }
}

/// The most plans of a workspace.
const MOST_PLANS: usize = 1_024;
