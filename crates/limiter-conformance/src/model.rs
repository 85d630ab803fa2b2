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
use std::collections::{BTreeMap, BTreeSet};

use crate::replay::{
    Action, Answer, Call, Change, Create, Crossed, Denial, Event, KeyKind, LARGEST, Operation,
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
    /// Those that nobody registered, beneath open groups.
    unregistered: BTreeMap<String, Key>,
    /// Those of which it is not specified until when whether a store has counted the last call: nothing was left of the key, and the
    /// call made no request.
    unsettled: BTreeMap<String, i64>,
    /// The groups that were deleted while such keys were there.
    left_open: BTreeSet<String>,
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
        for key in self.keys.values_mut().chain(self.unregistered.values_mut()) {
            key.look_at_the_clock(now);
        }
        for key in self.unregistered.values_mut() {
            key.was_gone |= key.is_gone(now);
        }
        match &operation.action {
            Action::Create(create) => self.create(create, now),
            Action::Update(update) => self.update(update, now),
            Action::Check(call) => {
                let may_be_new = call.requests > 0 || call.request_id.is_none();
                self.decide(&call.key, may_be_new, now, |path| match &call.request_id {
                    Some(id) => path.check_once(call, id, &bounds, now),
                    None => path.check(call, now).0,
                })
            }
            Action::Peek(call) => {
                let path = self.latest_path(&call.key, now);
                path.map_or(Answer::Denied(Denial::UnknownKey), |path| path.peek(call, now))
            }
            Action::Reserve(reserve) => {
                let Call { key, requests, .. } = &reserve.estimate;
                self.decide(key, *requests > 0, now, |path| path.reserve(reserve, &bounds, now))
            }
            Action::Amend(to) => self.decide(&to.key, true, now, |path| path.amend(to, now)),
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
        let known = |key: &str| self.keys.get(key).or_else(|| self.unregistered.get(key));
        // Ids are never used again: what keys beneath an earlier group of this id had used may be there.
        let group = operation.action.key().and_then(parent);
        if group.is_some_and(|group| self.left_open.contains(group)) {
            return false;
        }
        let unsettled = operation.action.key().and_then(|key| self.unsettled.get(key));
        if unsettled.is_some_and(|until| now < *until) {
            return false;
        }
        // "Gone when its windows have passed": after a step back, it may be there again or not.
        let own = operation.action.key().and_then(|key| self.unregistered.get(key));
        let may_be_gone = |key: &Key| key.was_gone || key.is_gone(now);
        let is_unclear =
            |key: &&Key| key.may_find_forgotten(now) || may_be_gone(key) && !key.would_be_gone(now);
        if own.filter(is_unclear).is_some() {
            return false;
        }
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
        let key = self.keys.get(path).or_else(|| self.unregistered.get(path));
        let Some(key) = key else { return true };
        let holder = Holder::new(path, key.number, id);
        let mut known = levels(path).filter_map(|level| self.keys.get(level));
        known.all(|level| level.slots.specifies_holder(&holder, now))
    }

    fn create(&mut self, create: &Create, now: i64) -> Answer {
        let plan = create.plan.as_ref().map(|plan| self.plans.get(plan));
        let opens = create.open.as_ref().map(|plan| self.plans.get(plan));
        if plan.is_some_and(|plan| plan.is_none()) || opens.is_some_and(|plan| plan.is_none()) {
            return Answer::Error(Problem::NoPlan);
        }
        if self.keys.contains_key(&create.key) {
            // An expired key still lives: only deletion frees its label.
            return Answer::Error(Problem::AlreadyExists);
        }
        let mut key = Key::created(create, self.made + 1, plan.flatten(), now);
        let may_open = opens.flatten().is_none_or(|plan| plan.config.may_open());
        if create.open.is_some() && !(may_open && key.may_be_open(now)) {
            return Answer::Error(Problem::Invalid);
        }
        // "Every proper prefix names a group that exists".
        let is_group = |path: &str| self.keys.get(path).is_some_and(|it| it.kind == KeyKind::Group);
        if !parent(&create.key).is_none_or(is_group) {
            return Answer::Error(Problem::NoGroup);
        }
        self.made += 1;
        self.unsettled.remove(&create.key);
        let mut left = self.left.remove(&create.key).unwrap_or_default();
        left.extend(
            self.unregistered.remove(&create.key).into_iter().flat_map(|key| key.slots.all_left()),
        );
        key.slots.find_left(left);
        self.keys.insert(create.key.clone(), key);
        Answer::Ok
    }

    /// "A key beneath [an open group] that is not registered has that plan." Returns it as it is with the latest version, and
    /// the thresholds that taking it reaches.
    fn latest_unregistered(&self, path: &str, now: i64) -> Option<(Key, Vec<Crossed>)> {
        let plan = &self.plans[self.keys.get(parent(path)?)?.open.as_ref()?];
        let known = self.unregistered.get(path);
        let Some(stored) = known.filter(|key| !key.was_gone && !key.is_gone(now)) else {
            let mut key = Key::unregistered(plan, now);
            if let Some(gone) = known {
                key.find_forgotten(gone);
            }
            return Some((key, Vec::new()));
        };
        let mut key = stored.clone();
        let is_behind = key.plan.as_ref().is_some_and(|taken| plan.is_ahead_of(taken));
        // One of which nothing is left begins anew, though a call of it is remembered.
        let crossed = if is_behind { key.take(plan, now) } else { Vec::new() };
        if key.has_ended(now) {
            key.take(plan, now);
        }
        Some((key, crossed))
    }

    /// "Plan"s change what their levels have "at each level's next step". Returns the key or group as it is with the latest
    /// version of its plan, and the thresholds that taking it reaches.
    fn latest(&self, path: &str, now: i64) -> Option<(Cow<'_, Key>, Vec<Crossed>)> {
        let Some(key) = self.keys.get(path) else {
            let (key, crossed) = self.latest_unregistered(path, now)?;
            return Some((Cow::Owned(key), crossed));
        };
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
        if self.keys.contains_key(path)
            && let Some((Cow::Owned(key), crossed)) = self.latest(path, now)
        {
            self.keys.insert(path.to_owned(), key);
            let events = crossed.into_iter().map(|it| Event(path.to_owned(), it.rule, it.percent));
            self.events.extend(events);
        }
    }

    /// Returns what a call of a key would meet. A group "makes no calls itself".
    fn latest_path(&self, key: &str, now: i64) -> Option<Path> {
        if self.latest(key, now)?.0.kind == KeyKind::Group {
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
        may_be_new: bool,
        now: i64,
        decision: impl FnOnce(&mut Path) -> Answer,
    ) -> Answer {
        self.call(key, may_be_new, now, decision).unwrap_or(Answer::Denied(Denial::UnknownKey))
    }

    /// All else says so as an error.
    fn end(&mut self, key: &str, now: i64, end: impl FnOnce(&mut Path) -> Answer) -> Answer {
        self.call(key, true, now, end).unwrap_or(Answer::Error(Problem::UnknownKey))
    }

    /// Does an operation on a call of a key: it concerns its groups too. Whatever the answer is, each level takes its plan.
    fn call(
        &mut self,
        key: &str,
        may_be_new: bool,
        now: i64,
        operation: impl FnOnce(&mut Path) -> Answer,
    ) -> Option<Answer> {
        let Some(known) = self.keys.get(key) else {
            return self.call_unregistered(key, may_be_new, now, operation);
        };
        if known.kind == KeyKind::Group {
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

    /// "Its state is made by its first admitted call that makes a request, and gone when its windows have passed".
    fn call_unregistered(
        &mut self,
        key: &str,
        may_be_new: bool,
        now: i64,
        operation: impl FnOnce(&mut Path) -> Answer,
    ) -> Option<Answer> {
        let (own, crossed) = self.latest_unregistered(key, now)?;
        // What leaves no state cannot be remembered: "its state is made by its first admitted call that makes a request".
        let is_over = |stored: &Key| stored.was_gone || stored.has_ended(now);
        if !may_be_new && self.unregistered.get(key).is_none_or(is_over) {
            return None;
        }
        let mut events: Vec<Event> = Vec::new();
        let mut taken = Vec::new();
        for level in levels(key).filter(|level| *level != key) {
            self.take_plan(level, now);
            let group = self.keys.remove_entry(level);
            taken.push(group.expect("an open group lies in groups"));
        }
        taken.push((key.to_owned(), own));
        let mut path = Path::new(taken);
        let answer = operation(&mut path);
        let mut levels = path.into_levels();
        let (_, own) = levels.pop().expect("a key is a level of itself");
        self.keys.extend(levels);
        let before = self.unregistered.get(key);
        let is_stored = before.is_some_and(|before| !before.was_gone);
        if before.is_some() && !is_stored && !own.has_made_requests() {
            // An earlier one may have left more, which a step back would find.
            let until = self.unsettled.entry(key.to_owned()).or_insert(i64::MIN);
            *until = own.last_end().max(*until);
        }
        if is_stored || own.has_made_requests() {
            self.unregistered.insert(key.to_owned(), own);
        }
        events.extend(crossed.into_iter().map(|it| Event(key.to_owned(), it.rule, it.percent)));
        self.events.extend(events);
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
        let opens = match &update.open {
            Change::Set(plan) => Some(plan),
            Change::Keep | Change::Clear => None,
        };
        if opens.is_some_and(|plan| !self.plans.contains_key(plan)) {
            return Answer::Error(Problem::NoPlan);
        }
        let latest = self.latest(&update.key, now);
        let latest = latest.filter(|_| self.keys.contains_key(&update.key));
        let Some((latest, mut crossed)) = latest else {
            return Answer::Error(Problem::UnknownKey);
        };
        let mut key = latest.into_owned();
        let kept = key.plan.as_ref().map(|taken| &taken.name);
        let plan = if update.plan.is_keep() { kept } else { named };
        let version = key.version;
        let answer = key.update(update, plan.map(|plan| &self.plans[plan]), now);
        let Answer::Updated { crossed: updated } = answer else { return answer };
        let may_open = |plan: &String| self.plans[plan].config.may_open() && key.may_be_open(now);
        if !key.open.as_ref().is_none_or(may_open) {
            return Answer::Error(Problem::Invalid);
        }
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
        let opens = self.keys.values().any(|key| key.open.as_ref() == Some(&change.plan));
        if opens && !changed.config.may_open() {
            return Answer::Error(Problem::Invalid);
        }
        self.plans.insert(change.plan.clone(), changed);
        Answer::Ok
    }

    /// "A plan in use cannot be deleted."
    fn delete_plan(&mut self, plan: &str) -> Answer {
        let is_of = |key: &Key| {
            key.plan.as_ref().is_some_and(|taken| taken.name == plan)
                || key.open.as_deref() == Some(plan)
        };
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
        let there = self.unregistered.len();
        self.unregistered.retain(|path, _| parent(path) != Some(key));
        if self.unregistered.len() < there {
            self.left_open.insert(key.to_owned());
        }
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
