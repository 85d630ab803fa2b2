//! A slow, obviously right model of what the engine means.
//!
//! It is written from the sentences of the specification, quoted where they are subtle, and shares no rule with the
//! engine, only plain words such as `Window` and `Unit`. For every scope and kind of window it keeps the plain list of what was admitted, and counts it again each
//! time. Whatever an operation sees is first made, as a copy, what it would be if it were written now; then the
//! operation either keeps the copy or forgets it.

mod calendar;
mod fired;
mod history;
mod key;
mod path;
mod remembered;
mod reservation;
mod scope;
mod slots;
mod window;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::replay::{
    Action, Answer, Create, Denial, Event, KeyKind, LARGEST, Operation, Problem, levels, parent,
};

use key::{Key, instant};
use path::Path;
use slots::{Holder, Left};

/// The keys and groups of one workspace, by their labels.
#[derive(Clone, Debug, Default)]
pub struct Model {
    keys: BTreeMap<String, Key>,
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
            Action::Update(update) => self.change(&update.key, |key| key.update(update, now)),
            Action::Check(call) => self.decide(&call.key, |path| match &call.request_id {
                Some(id) => path.check_once(call, id, &bounds, now),
                None => path.check(call, now).0,
            }),
            Action::Peek(call) => {
                let peeked = self.call(&call.key, |path| path.peek(call, now));
                peeked.unwrap_or(Answer::Denied(Denial::UnknownKey))
            }
            Action::Reserve(reserve) => {
                self.decide(&reserve.estimate.key, |path| path.reserve(reserve, &bounds, now))
            }
            Action::Amend(to) => self.decide(&to.key, |path| path.amend(to, now)),
            Action::Settle(actual) => self.end(&actual.key, |path| path.settle(actual, now)),
            Action::Cancel { key, id } => self.end(key, |path| path.cancel(id, now)),
            Action::Usage { key } => self.change(key, |key| Answer::Usage(key.usage(now))),
            Action::History { key, days } => {
                self.change(key, |key| Answer::History(key.history(*days, now)))
            }
            Action::Events {} => Answer::Events(std::mem::take(&mut self.events)),
            Action::Reset { key } => self.change(key, |key| key.reset(now)),
            Action::Delete { key } => self.delete(key),
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
            Action::Usage { key } => known(key).is_none_or(|key| key.slots.specifies(now)),
            Action::Cancel { key, id } => {
                known(key).is_none_or(|key| key.specifies_reservation(id, now))
            }
            // A store may forget the days before the latest one that it has seen.
            Action::History { key, .. } => known(key).is_none_or(|key| key.latest <= now),
            _ => true,
        }
    }

    fn specifies_slots(&self, path: &str, now: i64) -> bool {
        levels(path).all(|level| self.keys.get(level).is_none_or(|it| it.slots.specifies(now)))
    }

    fn specifies_holder(&self, path: &str, id: &str, now: i64) -> bool {
        let Some(key) = self.keys.get(path) else { return true };
        let holder = Holder::new(path, key.number, id);
        let mut known = levels(path).filter_map(|level| self.keys.get(level));
        known.all(|level| level.slots.specifies_holder(&holder, now))
    }

    fn create(&mut self, create: &Create, now: i64) -> Answer {
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
                let mut key = Key::created(create, self.made, now);
                key.slots.find_left(self.left.remove(&create.key).unwrap_or_default());
                free.insert(key);
                Answer::Ok
            }
        }
    }

    /// Of a key that is not known, what decides says so as a reason.
    fn decide(&mut self, key: &str, decision: impl FnOnce(&mut Path) -> Answer) -> Answer {
        let answer = self.call(key, decision);
        self.fired(key, answer).unwrap_or(Answer::Denied(Denial::UnknownKey))
    }

    /// All else says so as an error.
    fn end(&mut self, key: &str, end: impl FnOnce(&mut Path) -> Answer) -> Answer {
        let answer = self.call(key, end);
        self.fired(key, answer).unwrap_or(Answer::Error(Problem::UnknownKey))
    }

    /// Does an operation on one key or group, whatever lies above and beneath it.
    fn change(&mut self, key: &str, change: impl FnOnce(&mut Key) -> Answer) -> Answer {
        let answer = self.keys.get_mut(key).map(change);
        self.fired(key, answer).unwrap_or(Answer::Error(Problem::UnknownKey))
    }

    /// Does an operation on a call of a key: it concerns its groups too. A group "makes no calls itself".
    fn call(&mut self, key: &str, operation: impl FnOnce(&mut Path) -> Answer) -> Option<Answer> {
        if self.keys.get(key)?.kind == KeyKind::Group {
            return None;
        }
        let taken = levels(key).map(|level| {
            let taken = self.keys.remove_entry(level);
            taken.expect("a group lives as long as anything beneath it")
        });
        let mut path = Path::new(taken.collect());
        let answer = operation(&mut path);
        self.keys.extend(path.into_levels());
        Some(answer)
    }

    /// Notes the thresholds that an operation has fired.
    fn fired(&mut self, key: &str, answer: Option<Answer>) -> Option<Answer> {
        self.events.extend(answer.iter().flat_map(|answer| answer.events(key)));
        answer
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
