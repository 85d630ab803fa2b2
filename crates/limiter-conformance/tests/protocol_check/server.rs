//! The server: the stored data of one key, and the one operation on it.
//!
//! It does what `apply.lua` of limiter-redis does, in its order: it compares the ledger, the time, guards and the stamp, then
//! calls the core's `apply`, and stores the other data of the request. A second implementation does the same arithmetic on
//! bare numbers; most bugs are planted there.

mod hand;
mod stored;

use limiter_core::operation::{Operation, Verdict, apply};
use limiter_core::{
    Admission, Charge, KeySettings, KeyState, Reservation, ReservationEnd, ScopeId, ScopeState,
    Stored, Timestamp,
};

use self::hand::by_hand;
pub(crate) use self::stored::{ASSET, Snapshot, admission_of, ids_of, levels, levels_mut};
use self::stored::{scopes_of, state_of_scopes, with_numbers};
use crate::bug::Bug;
use crate::oracle::Effect;

/// A reservation as it is stored, without its ttl, which the check of reservations covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) asset: bool,
    pub(crate) reserved: Charge,
    pub(crate) estimate: Charge,
    pub(crate) admission: Admission,
    pub(crate) ended: Option<Option<Charge>>,
}

/// The server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) key: Option<Key>,
    /// Stamps and incarnations that were ever drawn.
    drawn: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) version: u32,
    pub(crate) stored: Snapshot,
    pub(crate) ledger: Vec<(u8, Entry)>,
}

/// An operation with all that is stored with it, and what it means.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Without an operation, the server only reads.
    pub(crate) operation: Option<Operation>,
    /// The scopes of its records.
    pub(crate) scopes: Vec<ScopeId>,
    pub(crate) stamp: u32,
    pub(crate) version: Option<u32>,
    pub(crate) puts: Puts,
    pub(crate) ledger: Option<InLedger>,
    /// The effect of each call, or the only effect of an operation without calls.
    pub(crate) effects: Vec<Effect>,
    /// The records that the client believes in, and those that it expects afterwards. Only planted bugs use them.
    pub(crate) believed: Vec<Stored>,
    pub(crate) planned: Option<Vec<Stored>>,
}

/// The parts of the configuration that change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Puts {
    pub(crate) settings: Option<KeySettings>,
    /// Whether each is listed, and its limits; `None` if it is not counted any more. The numbers of a scope that is counted
    /// already stay.
    pub(crate) scopes: Vec<(ScopeId, Option<(bool, ScopeState)>)>,
    pub(crate) creates: Option<Box<KeyState>>,
    pub(crate) deletes: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum InLedger {
    Find {
        id: u8,
    },
    /// The entry must be absent. Its windows are copied from the records of the operation.
    New {
        id: u8,
        entry: Box<Entry>,
    },
    /// The entry must be the first of these, and becomes the second.
    Known {
        id: u8,
        entries: Box<[Entry; 2]>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Applied,
    Refused,
    Stale,
    Untimely,
    Guarded,
    Listed,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) now: Timestamp,
    pub(crate) ended: Ended,
    /// Whether each call was done.
    pub(crate) done: Vec<bool>,
    /// The key as it was, if it existed.
    pub(crate) before: Option<Snapshot>,
    pub(crate) version: u32,
    pub(crate) entry: Option<Entry>,
}

impl Server {
    pub(crate) fn apply(&mut self, request: &Request, now: Timestamp, bug: Option<Bug>) -> Answer {
        let key = self.key.as_ref();
        let mut answer = Answer {
            now,
            ended: Ended::Stale,
            done: vec![true],
            before: key.map(|key| key.stored.clone()),
            version: key.map_or(0, |key| key.version),
            entry: None,
        };
        if let Some(ledger) = &request.ledger {
            let (InLedger::Find { id } | InLedger::New { id, .. } | InLedger::Known { id, .. }) =
                ledger;
            answer.entry = key.and_then(|key| key.entry(*id)).cloned();
            let as_given = match ledger {
                InLedger::Find { .. } => false,
                InLedger::New { .. } => answer.entry.is_none(),
                InLedger::Known { .. } if bug == Some(Bug::ComparesNoEntry) => {
                    answer.entry.is_some()
                }
                InLedger::Known { entries, .. } => answer.entry.as_ref() == Some(&entries[0]),
            };
            if !as_given {
                return Answer { ended: Ended::Listed, ..answer };
            }
        }
        let Some(operation) = &request.operation else {
            return Answer { ended: Ended::Untimely, ..answer };
        };
        let timely = operation.from <= now && now < operation.until;
        if !timely && bug != Some(Bug::ComparesNoTime) {
            return Answer { ended: Ended::Untimely, ..answer };
        }
        if let Some(created) = &request.puts.creates {
            if key.is_some() {
                return Answer { ended: Ended::Guarded, ..answer };
            }
            let (stamp, incarnation) = (self.draw(0, bug), self.draw(0, bug));
            let state = (**created).clone();
            let stored = Snapshot { stamp, incarnation, state, damage: None };
            self.key = Some(Key { version: 1, stored: stored.with_bug(bug), ledger: Vec::new() });
            return Answer { ended: Ended::Applied, ..answer };
        }
        if request.puts.deletes {
            let ended = if self.key.take().is_some() { Ended::Applied } else { Ended::Guarded };
            return Answer { ended, ..answer };
        }
        let Some(mut key) = self.key.clone() else { return answer };
        if request.version.is_some_and(|version| version != key.version) {
            return Answer { ended: Ended::Guarded, ..answer };
        }
        if request.stamp != key.stored.stamp && bug != Some(Bug::ComparesNoStamp) {
            return answer;
        }
        let Some(records) = key.stored.records(&request.scopes) else { return answer };
        let (ended, moved, done) = by_hand(&records, operation, request, bug);
        if bug.is_none() {
            let by_core = by_core(records.clone(), operation, now);
            assert_eq!(
                by_core,
                (ended, moved.clone(), done.clone()),
                "two hands that differ: {operation:?} on {records:?}"
            );
        }
        if ended != Ended::Applied {
            return Answer { ended, ..answer };
        }
        key.put(request, moved, bug);
        if request.puts.restamps() {
            key.stored.stamp = self.draw(key.stored.stamp, bug);
        }
        self.key = Some(key);
        Answer { ended, done, ..answer }
    }

    /// A new stamp or incarnation, after this one.
    fn draw(&mut self, last: u32, bug: Option<Bug>) -> u32 {
        if bug == Some(Bug::UsesStampsAgain) {
            return last + 1;
        }
        self.drawn += 1;
        self.drawn
    }
}

fn by_core(
    mut records: Vec<Stored>,
    operation: &Operation,
    now: Timestamp,
) -> (Ended, Vec<Stored>, Vec<bool>) {
    let mut done = vec![true];
    let ended = match apply(&mut records, operation, now, &mut Vec::new()) {
        Verdict::Applied(calls) => {
            if !calls.is_empty() {
                done = calls.iter().map(Option::is_some).collect();
            }
            Ended::Applied
        }
        Verdict::Refused => Ended::Refused,
        Verdict::Stale => Ended::Stale,
        Verdict::Untimely => Ended::Untimely,
    };
    (ended, records, done)
}

impl Key {
    pub(crate) fn entry(&self, id: u8) -> Option<&Entry> {
        self.ledger.iter().find(|(other, _)| *other == id).map(|(_, entry)| entry)
    }

    fn put(&mut self, request: &Request, moved: Vec<Stored>, bug: Option<Bug>) {
        match &request.ledger {
            Some(InLedger::New { id, entry }) => {
                let copied = admission_of(&self.stored.state, request.scopes.iter().zip(&moved));
                let believes = bug == Some(Bug::BelievesTheClientsWindows);
                let admission = if believes { entry.admission.clone() } else { copied };
                self.ledger.push((*id, Entry { admission, ..(**entry).clone() }));
                self.ledger.sort_by_key(|(id, _)| *id);
            }
            Some(InLedger::Known { id, entries }) => {
                let place =
                    self.ledger.iter().position(|(other, _)| other == id).expect("it was compared");
                self.ledger[place].1 = entries[1].clone();
            }
            _ => {}
        }
        let state = &self.stored.state;
        let mut damage = None;
        let mut scopes = scopes_of(state);
        let settings = request.puts.settings.clone().unwrap_or_else(|| state.settings());
        for (id, put) in &request.puts.scopes {
            match put {
                Some(put) => drop(scopes.insert(id.clone(), put.clone())),
                None => drop(scopes.remove(id)),
            }
        }
        for (id, moved) in request.scopes.iter().zip(&moved) {
            if let Some((_, scope)) = scopes.get_mut(id) {
                match with_numbers(scope, moved, state) {
                    Ok(with_numbers) => *scope = with_numbers,
                    Err(error) => damage = Some(error.to_string()),
                }
            }
        }
        self.stored.state = state_of_scopes(settings, scopes);
        self.stored.damage = damage;
        self.stored = self.stored.clone().with_bug(bug.filter(|_| request.puts.restamps()));
        self.version += u32::from(request.version.is_some());
    }
}

impl Entry {
    pub(crate) fn reservation(&self) -> Reservation {
        let asset_id = self.asset.then(|| ASSET.clone());
        let end = self
            .ended
            .map(|actual| actual.map_or(ReservationEnd::Cancelled, ReservationEnd::Settled));
        Reservation::from_parts(asset_id, self.reserved, self.estimate, self.admission.clone(), end)
    }
}
