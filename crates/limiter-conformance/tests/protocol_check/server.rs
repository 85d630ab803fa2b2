//! The server: the stored data of one key, and the one operation on it.
//!
//! It does what `apply.lua` of limiter-redis does, in its order: it compares the ledger, the time, guards and the stamp, then
//! calls the core's `apply`, and stores the other data of the request. A second implementation does the same arithmetic on
//! bare numbers; most bugs are planted there.

mod hand;

use std::sync::LazyLock;

use limiter_core::operation::{Operation, Verdict, apply};
use limiter_core::prepare::AdmittingWindows;
use limiter_core::{
    AssetId, CREDITS, Charge, InvalidValue, KeyKind, KeyState, METERS, Record, Reservation,
    ReservationEnd, ScopeState, Span, Thresholds, Timestamp, Window, WindowId, WindowLimits,
};

use self::hand::by_hand;
use crate::bug::Bug;
use crate::oracle::Effect;

/// The numbers of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hot {
    pub(crate) generation: u32,
    pub(crate) ends: [Timestamp; 2],
    pub(crate) rebases: [u8; 2],
    pub(crate) values: [i64; METERS],
    pub(crate) marks: [u8; METERS],
}

/// The limits of a scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Limited {
    windows: Option<[WindowLimits; 2]>,
    pending: [Option<WindowLimits>; 2],
}

/// The configuration of a key, with the limits of its global scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cold {
    expires_at: Option<Timestamp>,
    thresholds: Thresholds,
    generations: u32,
    budget: Option<u64>,
    limited: Limited,
}

/// A key as it is stored, or as a client has it in its cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Snapshot {
    pub(crate) stamp: u32,
    pub(crate) incarnation: u32,
    pub(crate) hot: Hot,
    pub(crate) cold: Cold,
    pub(crate) asset: Option<(Hot, Limited)>,
}

/// A reservation as it is stored, without its ttl, which the check of reservations covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) asset: bool,
    pub(crate) reserved: Charge,
    pub(crate) estimate: Charge,
    /// Generation, end and rebases, of minute and day, of the global scope and of the asset's.
    pub(crate) admitted: [[Option<(u32, Timestamp, u8)>; 2]; 2],
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
    /// Whether the record of the asset is asked for.
    pub(crate) asset: bool,
    /// Without an operation, the server only reads.
    pub(crate) operation: Option<Operation>,
    pub(crate) stamp: u32,
    pub(crate) version: Option<u32>,
    pub(crate) puts: Puts,
    pub(crate) ledger: Option<InLedger>,
    /// The effect of each call, or the only effect of an operation without calls.
    pub(crate) effects: Vec<Effect>,
    /// The rebases of the windows that the client believes in, and the marks that it plans. Only planted bugs use them.
    pub(crate) rebases: [[u8; 2]; 2],
    pub(crate) planned: Option<Vec<[u8; METERS]>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Puts {
    pub(crate) cold: Option<Cold>,
    pub(crate) limited: Option<Limited>,
    /// The record of an asset that is counted from now on.
    pub(crate) begins: Option<Hot>,
    pub(crate) drops_asset: bool,
    pub(crate) creates: Option<Box<Snapshot>>,
    pub(crate) deletes: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum InLedger {
    Find {
        id: u8,
    },
    /// The entry must be absent. Its windows are copied from the records of these scopes.
    New {
        id: u8,
        entry: Box<Entry>,
        counted: [bool; 2],
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
    /// How many records were read.
    pub(crate) records: usize,
    pub(crate) entry: Option<Entry>,
}

impl Server {
    pub(crate) fn apply(&mut self, request: &Request, now: Timestamp, bug: Option<Bug>) -> Answer {
        let asked = 1 + usize::from(request.asset);
        let records = request.operation.as_ref().map_or(asked, |operation| operation.steps.len());
        let key = self.key.as_ref();
        let mut answer = Answer {
            now,
            ended: Ended::Stale,
            done: vec![true],
            before: key.map(|key| key.stored.clone()),
            version: key.map_or(0, |key| key.version),
            records,
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
            let mut stored = Snapshot { stamp, incarnation, ..(**created).clone() };
            if bug == Some(Bug::UsesGenerationsAgain) {
                stored.cold.generations = 0;
            }
            self.key = Some(Key { version: 1, stored, ledger: Vec::new() });
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
        let stamp_differs = request.stamp != key.stored.stamp && bug != Some(Bug::ComparesNoStamp);
        if stamp_differs || records > 1 && key.stored.asset.is_none() {
            return answer;
        }
        let stored = [Some(&key.stored.hot), key.stored.asset.as_ref().map(|(hot, _)| hot)];
        let hot: Vec<Hot> = stored.into_iter().flatten().take(records).cloned().collect();
        let (ended, moved, done) = by_hand(&hot, operation, request, bug);
        if bug.is_none() {
            let by_core = key.stored.by_core(operation, now);
            assert_eq!(
                by_core,
                (ended, moved.clone(), done.clone()),
                "two hands that differ: {operation:?} on {hot:?}"
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

impl Key {
    pub(crate) fn entry(&self, id: u8) -> Option<&Entry> {
        self.ledger.iter().find(|(other, _)| *other == id).map(|(_, entry)| entry)
    }

    fn put(&mut self, request: &Request, moved: Vec<Hot>, bug: Option<Bug>) {
        let puts = &request.puts;
        let mut moved = moved.into_iter();
        let global = moved.next().expect("the global record");
        let of_asset = moved.next();
        match &request.ledger {
            Some(InLedger::New { id, entry, counted }) => {
                let scopes = [Some(&global), of_asset.as_ref()].into_iter().zip(counted);
                let ids: Vec<_> =
                    scopes.map(|(hot, counted)| hot.filter(|_| *counted).map(Hot::ids)).collect();
                let copied = [0, 1].map(|scope| ids[scope].unwrap_or_default());
                let admitted = if bug == Some(Bug::BelievesTheClientsWindows) {
                    entry.admitted
                } else {
                    copied
                };
                self.ledger.push((*id, Entry { admitted, ..(**entry).clone() }));
                self.ledger.sort_by_key(|(id, _)| *id);
            }
            Some(InLedger::Known { id, entries }) => {
                let place =
                    self.ledger.iter().position(|(other, _)| other == id).expect("it was compared");
                self.ledger[place].1 = entries[1].clone();
            }
            _ => {}
        }
        self.stored.hot = global;
        if let (Some((hot, _)), Some(moved)) = (&mut self.stored.asset, of_asset) {
            *hot = moved;
        }
        if let Some(cold) = &puts.cold {
            let again = bug == Some(Bug::UsesGenerationsAgain);
            let generations = if again { 0 } else { cold.generations };
            self.stored.cold = Cold { generations, ..cold.clone() };
        }
        if puts.drops_asset {
            self.stored.asset = None;
        }
        if let Some(limited) = &puts.limited {
            let hot = self.stored.asset.take().map(|(hot, _)| hot);
            let hot = puts.begins.clone().or(hot).expect("a record for the limits of an asset");
            self.stored.asset = Some((hot, limited.clone()));
        }
        self.version += u32::from(request.version.is_some());
    }
}

impl Puts {
    /// Whether limits change, and so the stamp.
    pub(crate) fn restamps(&self) -> bool {
        self.cold.is_some() || self.limited.is_some() || self.drops_asset
    }

    /// The changes of the configuration from one state of a key to another.
    pub(crate) fn of_change(before: &Snapshot, after: &Snapshot) -> Self {
        let [of_asset, was] =
            [after, before].map(|key| key.asset.as_ref().map(|(_, limited)| limited));
        Self {
            cold: (before.cold != after.cold).then(|| after.cold.clone()),
            limited: of_asset.filter(|_| of_asset != was).cloned(),
            drops_asset: was.is_some() && of_asset.is_none(),
            ..Self::default()
        }
    }
}

impl Snapshot {
    /// A state, and the stamp and incarnation of another one.
    pub(crate) fn of(state: &KeyState, stamp: u32, incarnation: u32) -> Self {
        let global = state.global_scope();
        let record = global.record();
        Self {
            stamp,
            incarnation,
            hot: Hot::of(record),
            cold: Cold {
                expires_at: state.expires_at(),
                thresholds: state.thresholds(),
                generations: state.generations(),
                budget: record.limits()[CREDITS],
                limited: Limited::of(global),
            },
            asset: state
                .assets()
                .next()
                .map(|(_, scope)| (Hot::of(scope.record()), Limited::of(scope))),
        }
    }

    pub(crate) fn state(&self) -> Result<KeyState, InvalidValue> {
        let Cold { expires_at, thresholds, generations, budget, limited } = &self.cold;
        let global = limited.read(&self.hot, *thresholds, Some(*budget))?;
        let of_asset =
            self.asset.as_ref().map(|(hot, limited)| limited.read(hot, *thresholds, None));
        let of_asset = of_asset.transpose()?.map(|scope| (ASSET.clone(), scope));
        KeyState::from_parts(KeyKind::Member, *expires_at, false, *generations, global, of_asset)
    }

    /// The records of a call: without an asset, the global record alone.
    pub(crate) fn met(mut self, asset: bool) -> Self {
        self.asset = self.asset.filter(|_| asset);
        self
    }

    fn by_core(&self, operation: &Operation, now: Timestamp) -> (Ended, Vec<Hot>, Vec<bool>) {
        let state = self.state().expect("what was stored by the core");
        let located = state.locate(Some(&*ASSET));
        let mut records: Vec<Record> = state.records_of(located).copied().collect();
        records.truncate(operation.steps.len());
        let mut done = vec![true];
        let ended = match apply(&mut records.iter_mut().collect::<Vec<_>>(), operation, now) {
            Verdict::Applied(calls) => {
                if !calls.is_empty() {
                    done = calls.to_vec();
                }
                Ended::Applied
            }
            Verdict::Refused => Ended::Refused,
            Verdict::Stale => Ended::Stale,
            Verdict::Untimely => Ended::Untimely,
        };
        (ended, records.iter().map(Hot::of).collect(), done)
    }
}

impl Hot {
    pub(crate) fn of(record: &Record) -> Self {
        let spans = Window::ALL.map(|window| record.span(window));
        Self {
            generation: record.generation(),
            ends: spans.map(|span| span.end),
            rebases: spans.map(|span| span.rebases),
            values: *record.values(),
            marks: *record.marks(),
        }
    }

    pub(crate) fn ids(&self) -> [Option<(u32, Timestamp, u8)>; 2] {
        [0, 1].map(|window| Some((self.generation, self.ends[window], self.rebases[window])))
    }

    fn span(&self, window: usize) -> Span {
        Span { end: self.ends[window], rebases: self.rebases[window] }
    }

    fn set_span(&mut self, window: usize, span: Span) {
        (self.ends[window], self.rebases[window]) = (span.end, span.rebases);
    }
}

impl Limited {
    fn of(scope: &ScopeState) -> Self {
        let windows = scope.record().has_windows();
        Self {
            windows: windows.then(|| Window::ALL.map(|window| scope.counts(window).limits())),
            pending: Window::ALL.map(|window| scope.pending(window)),
        }
    }

    fn read(
        &self,
        hot: &Hot,
        thresholds: Thresholds,
        budget: Option<Option<u64>>,
    ) -> Result<ScopeState, InvalidValue> {
        let full = Record::with_limits(thresholds, self.windows, budget);
        let spans = [0, 1].map(|window| hot.span(window));
        let record = full.with_stored(hot.generation, spans, hot.values, hot.marks)?;
        ScopeState::from_parts(record, self.pending)
    }
}

impl Entry {
    pub(crate) fn reservation(&self) -> Reservation {
        let [global, asset] = self.admitted.map(|scope| {
            scope.map(|id| {
                id.map(|(generation, end, rebases)| WindowId {
                    generation,
                    span: Span { end, rebases },
                })
            })
        });
        let asset_id = self.asset.then(|| ASSET.clone());
        let end = self
            .ended
            .map(|actual| actual.map_or(ReservationEnd::Cancelled, ReservationEnd::Settled));
        Reservation::from_parts(
            asset_id,
            self.reserved,
            self.estimate,
            AdmittingWindows { global, asset },
            end,
        )
    }
}

/// The asset that the calls of some clients are for.
pub(crate) static ASSET: LazyLock<AssetId> = LazyLock::new(|| "gpt-5".parse().unwrap());
