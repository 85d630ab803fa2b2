//! A slow, obviously right model of what the engine means.
//!
//! It is written from the sentences of the specification, quoted where they are subtle, and shares no code with the
//! engine. For every scope and kind of window it keeps the plain list of what was admitted, and counts it again each
//! time. Whatever an operation sees is first made, as a copy, what it would be if it were written now; then the
//! operation either keeps the copy or forgets it.

mod key;
mod scope;
mod window;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::replay::{Action, Answer, Call, Create, Denial, Operation, Problem, Update};

use key::Key;

/// The keys of one workspace, by their labels.
#[derive(Clone, Debug, Default)]
pub struct Model {
    keys: BTreeMap<String, Key>,
}

impl Model {
    /// A workspace without keys.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Does one operation at its instant, and answers it.
    pub fn answer(&mut self, operation: &Operation) -> Answer {
        // "Bounds are checked first."
        if !operation.is_within_bounds() {
            return Answer::Error(Problem::Invalid);
        }
        let now = operation.at;
        match &operation.action {
            Action::Create(create) => self.create(create, now),
            Action::Update(update) => self.update(update, now),
            Action::Check(call) => self.check(call, now),
            Action::Peek(call) => self.peek(call, now),
            Action::Usage { key } => self.usage(key, now),
            Action::Delete { key } => self.delete(key),
        }
    }

    fn create(&mut self, create: &Create, now: u64) -> Answer {
        match self.keys.entry(create.key.clone()) {
            // An expired key still lives: only deletion frees its label.
            Entry::Occupied(_) => Answer::Error(Problem::AlreadyExists),
            Entry::Vacant(free) => {
                free.insert(Key::created(create, now));
                Answer::Ok
            }
        }
    }

    fn update(&mut self, update: &Update, now: u64) -> Answer {
        match self.keys.get_mut(&update.key) {
            None => Answer::Error(Problem::UnknownKey),
            Some(key) => {
                key.update(update, now);
                Answer::Ok
            }
        }
    }

    fn check(&mut self, call: &Call, now: u64) -> Answer {
        match self.keys.get_mut(&call.key) {
            None => Answer::Denied(Denial::UnknownKey),
            Some(key) => key.check(call, now),
        }
    }

    fn peek(&self, call: &Call, now: u64) -> Answer {
        match self.keys.get(&call.key) {
            None => Answer::Denied(Denial::UnknownKey),
            Some(key) => key.decide(call, now),
        }
    }

    fn usage(&self, key: &str, now: u64) -> Answer {
        match self.keys.get(key) {
            None => Answer::Error(Problem::UnknownKey),
            Some(key) => Answer::Usage(key.usage(now)),
        }
    }

    /// "Budget, expiry, name and deletion take effect at once. Deletion is irreversible." A key made later under the
    /// same label is another key: nothing of this one is left.
    fn delete(&mut self, key: &str) -> Answer {
        match self.keys.remove(key) {
            None => Answer::Error(Problem::UnknownKey),
            Some(_) => Answer::Ok,
        }
    }
}
