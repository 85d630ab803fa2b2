//! The server: the stored data of keys and groups, and the one operation on them.
//!
//! It does what `apply.lua` of limiter-redis does, in its order: it compares the ledger, the time, guards and the stamps, then
//! calls the core's `apply`, and stores the other data of the request. A second implementation does the same arithmetic on
//! bare numbers; most bugs are planted there.

mod hand;
mod known;
mod slots;
mod stored;

use std::collections::BTreeMap;

use limiter_core::operation::{Operation, Verdict, apply};
use limiter_core::{
    Admission, Charge, KeySettings, KeyState, Reservation, ReservationEnd, ScopeId, ScopeState,
    Slots, Stored, Timestamp,
};

use self::hand::by_hand;
pub(crate) use self::known::Known;
use self::slots::SlotSets;
pub(crate) use self::slots::{Asked, Slot};
pub(crate) use self::stored::{ASSET, Snapshot, admission_of};
use self::stored::{parallel_of, scopes_of, state_of_scopes, with_numbers};
use crate::bug::Bug;
use crate::oracle::Effect;
use crate::path::Path;

/// A reservation as it is stored, without its ttl, which the check of reservations covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) asset: bool,
    pub(crate) reserved: Charge,
    pub(crate) estimate: Charge,
    pub(crate) admission: Admission,
    pub(crate) slots: Slots,
    pub(crate) ended: Option<Option<Charge>>,
}

/// The server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    /// The keys and groups that exist, by their numbers.
    pub(crate) keys: BTreeMap<usize, Key>,
    slots: SlotSets,
    /// Stamps and incarnations that were ever drawn.
    drawn: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    group: Option<usize>,
    pub(crate) version: u32,
    pub(crate) stored: Snapshot,
    pub(crate) ledger: Vec<(u8, Entry)>,
}

/// An operation with all that is stored with it, and what it means.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Without an operation, the server only reads.
    pub(crate) operation: Option<Operation>,
    /// The levels of the call, or the one that is changed.
    pub(crate) path: Path,
    /// The scopes of its records, each with its place in the path.
    pub(crate) scopes: Vec<(usize, ScopeId)>,
    /// The stamp and the changes of each level; nothing of a request that only reads.
    pub(crate) stamps: Vec<u32>,
    pub(crate) puts: Vec<Puts>,
    pub(crate) version: Option<u32>,
    pub(crate) manages: Option<Manages>,
    pub(crate) ledger: Option<InLedger>,
    /// The effect of each call, or the only effect of an operation without calls.
    pub(crate) effects: Vec<Effect>,
    /// The records that the client believes in, and those that it expects afterwards. Only planted bugs use them.
    pub(crate) believed: Vec<Stored>,
    pub(crate) planned: Option<Vec<Stored>>,
}

/// The parts of the configuration of a level that change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Puts {
    pub(crate) settings: Option<KeySettings>,
    /// Whether each is listed, and its limits; `None` if it is not counted any more. The numbers of a scope that is counted
    /// already stay.
    pub(crate) scopes: Vec<(ScopeId, Option<(bool, ScopeState)>)>,
    pub(crate) parallel: Option<Vec<(ScopeId, u64)>>,
}

/// A change of what exists.
#[derive(Clone, Debug)]
pub(crate) enum Manages {
    /// The group must exist, if there is one, and the key must not.
    Create { group: Option<usize>, state: Box<KeyState> },
    /// Nothing may lie beneath it.
    Delete,
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
        /// The sets of which it takes a slot.
        asked: Vec<Asked>,
    },
    /// The entry must be the first of these, and becomes the second.
    Known {
        id: u8,
        entries: Box<[Entry; 2]>,
        /// The sets of which it holds a slot, or held it until it expired.
        asked: Vec<Asked>,
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
    /// The levels as they were, if all of them existed.
    pub(crate) before: Option<Known>,
    pub(crate) version: u32,
    pub(crate) entry: Option<Entry>,
    /// Of each set of slots how many are held, and when one is free if none is.
    pub(crate) open: Vec<(u64, Option<Timestamp>)>,
}

impl Server {
    pub(crate) fn apply(&mut self, request: &Request, now: Timestamp, bug: Option<Bug>) -> Answer {
        let key = self.keys.get(&request.path.own());
        let mut answer = Answer {
            now,
            ended: Ended::Stale,
            done: vec![true],
            before: self.known(request.path),
            version: key.map_or(0, |key| key.version),
            entry: None,
            open: self.open(request, now, bug),
        };
        let is_out_of_slots = request.is_out_of_slots(&answer.open);
        if is_out_of_slots && bug == Some(Bug::LooksForSlotsFirst) {
            return Answer { ended: Ended::Refused, ..answer };
        }
        if let Some(ledger) = &request.ledger {
            answer.entry = key.and_then(|key| key.entry(ledger.id())).cloned();
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
        if let Some(manages) = &request.manages {
            let is_done = self.manage(request.path.own(), manages, bug);
            let ended = if is_done { Ended::Applied } else { Ended::Guarded };
            return Answer { ended, ..answer };
        }
        let is_current = |version| key.is_some_and(|key| key.version == version);
        if !request.version.is_none_or(is_current) {
            return Answer { ended: Ended::Guarded, ..answer };
        }
        if !self.has_stamps(request, bug) {
            return answer;
        }
        let Some(records) = self.records(request) else { return answer };
        let (ended, moved, done) = by_hand(&records, operation, request, bug);
        if bug.is_none() {
            let by_core = by_core(records.clone(), operation, now);
            assert_eq!(
                by_core,
                (ended, moved.clone(), done.clone()),
                "two hands that differ: {operation:?} on {records:?}"
            );
        }
        if ended == Ended::Applied && is_out_of_slots {
            return Answer { ended: Ended::Refused, ..answer };
        }
        if ended == Ended::Applied || moved != records {
            self.put(request, &moved, now, bug);
        }
        Answer { ended, done, ..answer }
    }

    /// The levels of a path, if all of them exist.
    pub(crate) fn known(&self, path: Path) -> Option<Known> {
        let levels = path.levels().map(|level| Some(self.keys.get(&level)?.stored.clone()));
        levels.collect::<Option<_>>().map(Known)
    }

    /// Creates or deletes a key or a group. Returns whether the guards held.
    fn manage(&mut self, level: usize, manages: &Manages, bug: Option<Bug>) -> bool {
        match manages {
            Manages::Create { group, state } => {
                let has_group = group.is_none_or(|group| self.keys.contains_key(&group));
                if !has_group || self.keys.contains_key(&level) {
                    return false;
                }
                let (stamp, incarnation) = (self.draw(0, bug), self.draw(0, bug));
                let state = (**state).clone();
                let stored = Snapshot { stamp, incarnation, state, damage: None }.with_bug(bug);
                let (group, ledger) = (*group, Vec::new());
                self.keys.insert(level, Key { group, version: 1, stored, ledger });
                true
            }
            Manages::Delete => {
                let has_keys = self.keys.values().any(|key| key.group == Some(level));
                let may_delete = !has_keys || bug == Some(Bug::DeletesGroupsOfKeys);
                if may_delete && bug != Some(Bug::KeepsSlotsOfDeletedKeys) {
                    self.slots.retain(|(of, _), _| *of != level);
                }
                may_delete && self.keys.remove(&level).is_some()
            }
        }
    }

    fn has_stamps(&self, request: &Request, bug: Option<Bug>) -> bool {
        let mut levels = request.path.levels().zip(&request.stamps);
        levels.all(|(level, stamp)| {
            let is_compared = match bug {
                Some(Bug::ComparesNoStamp) => false,
                Some(Bug::ComparesTheKeysStampAlone) => level == request.path.own(),
                _ => true,
            };
            let stored = self.keys.get(&level).map(|key| key.stored.stamp);
            stored.is_some_and(|stored| !is_compared || stored == *stamp)
        })
    }

    /// The records of an operation, if all of them are there.
    fn records(&self, request: &Request) -> Option<Vec<Stored>> {
        let record = |(place, id): &(usize, ScopeId)| {
            self.keys.get(&request.path.at(*place))?.stored.record(id)
        };
        request.scopes.iter().map(record).collect()
    }

    /// Stores the records and all that comes with them.
    fn put(&mut self, request: &Request, moved: &[Stored], now: Timestamp, bug: Option<Bug>) {
        let copied = {
            let states = |place: usize| Some(&self.keys.get(&request.path.at(place))?.stored.state);
            admission_of(states, request.scopes.iter().zip(moved))
        };
        if let (Some(ledger), Some(key)) = (&request.ledger, self.keys.get_mut(&request.path.own()))
        {
            key.put_entry(ledger, copied, bug);
            self.put_slots(request.path, ledger, now, bug);
        }
        for (place, level) in request.path.levels().enumerate() {
            let scopes = request.scopes.iter().zip(moved).filter(|((at, _), _)| *at == place);
            let records: Vec<_> = scopes.map(|((_, id), moved)| (id, moved)).collect();
            let none = Puts::default();
            let puts = request.puts.get(place).unwrap_or(&none);
            let last = self.keys.get(&level).map_or(0, |key| key.stored.stamp);
            let stamp = if puts.restamps() { self.draw(last, bug) } else { last };
            let Some(key) = self.keys.get_mut(&level) else { continue };
            key.put(puts, &records, bug);
            key.stored.stamp = stamp;
        }
        if let (Some(version), Some(key)) =
            (request.version, self.keys.get_mut(&request.path.own()))
        {
            key.version = version + 1;
        }
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

    fn put_entry(&mut self, ledger: &InLedger, copied: Admission, bug: Option<Bug>) {
        match ledger {
            InLedger::Find { .. } => {}
            InLedger::New { id, entry, .. } => {
                let believes = bug == Some(Bug::BelievesTheClientsWindows);
                let admission = if believes { entry.admission.clone() } else { copied };
                self.ledger.push((*id, Entry { admission, ..(**entry).clone() }));
                self.ledger.sort_by_key(|(id, _)| *id);
            }
            InLedger::Known { id, entries, .. } => {
                let place =
                    self.ledger.iter().position(|(other, _)| other == id).expect("it was compared");
                self.ledger[place].1 = entries[1].clone();
            }
        }
    }

    fn put(&mut self, puts: &Puts, records: &[(&ScopeId, &Stored)], bug: Option<Bug>) {
        let state = &self.stored.state;
        let mut damage = None;
        let mut scopes = scopes_of(state);
        let settings = puts.settings.clone().unwrap_or_else(|| state.settings());
        for (id, put) in &puts.scopes {
            match put {
                Some(put) => drop(scopes.insert(id.clone(), put.clone())),
                None => drop(scopes.remove(id)),
            }
        }
        for (id, moved) in records {
            if let Some((_, scope)) = scopes.get_mut(id) {
                match with_numbers(scope, moved, state) {
                    Ok(with_numbers) => *scope = with_numbers,
                    Err(error) => damage = Some(error.to_string()),
                }
            }
        }
        let parallel = puts.parallel.clone().unwrap_or_else(|| parallel_of(state));
        self.stored.state = state_of_scopes(settings, scopes, parallel);
        self.stored.damage = damage;
        self.stored = self.stored.clone().with_bug(bug.filter(|_| puts.restamps()));
    }
}

impl InLedger {
    const fn id(&self) -> u8 {
        match self {
            Self::Find { id } | Self::New { id, .. } | Self::Known { id, .. } => *id,
        }
    }

    fn asked(&self) -> &[Asked] {
        match self {
            Self::Find { .. } => &[],
            Self::New { asked, .. } | Self::Known { asked, .. } => asked,
        }
    }
}

impl Entry {
    pub(crate) fn reservation(&self) -> Reservation {
        let asset_id = self.asset.then(|| ASSET.clone());
        let end = self
            .ended
            .map(|actual| actual.map_or(ReservationEnd::Cancelled, ReservationEnd::Settled));
        let (reserved, estimate, admission) =
            (self.reserved, self.estimate, self.admission.clone());
        let reservation = Reservation::from_parts(asset_id, reserved, estimate, admission, end);
        reservation.with_slots(self.slots)
    }
}
