//! Clients: the loops of limiter-redis (its deciding.rs, remembering.rs, records.rs and keys.rs), one step for each trip.
//!
//! A client prepares from its cache, however old, and explains the answers, by the core's own functions. Its work between two
//! trips takes no time: the next request of a slow client arrives later.

mod call;
mod hearing;

use limiter_core::operation::{Guard, Operation};
use limiter_core::prepare::{self, Prepared};
use limiter_core::{Admission, Charge, Levels, ScopeId, Slots, Stored, Timestamp};

pub(crate) use self::call::Call;
use self::call::cost;
use crate::bug::Bug;
use crate::oracle::{Cost, Effect, Wanted};
use crate::path::{Path, Subject};
use crate::server::{Asked, Entry, InLedger, Known, Manages, Puts, Request, admission_of};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    /// The key of its calls, and whether they are for the asset.
    pub(crate) of: Subject,
    /// The levels of the key as the client saw them last. After a call for no asset, they have no record of the asset.
    pub(crate) known: Option<Known>,
    /// The time of the server when it answered last.
    pub(crate) saw: Option<Timestamp>,
    pub(crate) entries: Vec<(u8, Entry)>,
    pub(crate) busy: Option<Busy>,
    pub(crate) calls: u8,
}

/// A call that waits for its next request to arrive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Busy {
    pub(crate) call: Call,
    pub(crate) phase: Phase,
    /// The believed state of the levels, and its time.
    at: Option<(Timestamp, Known)>,
    /// The tokens of the checks that are not answered yet.
    left: Vec<u64>,
    /// Whether a try of this call has found it.
    is_found: bool,
    entry: Option<Entry>,
    version: Option<u32>,
    /// The time at which it is believed to begin.
    estimated: Timestamp,
    /// Requests that failed since the clock, the limits or the reservation changed last.
    pub(crate) failed: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The records are read.
    Read,
    /// The short form: it reaches no stop.
    Take,
    /// The form with all stops, and with the ledger.
    Apply,
    /// The entry is looked up.
    Find,
    /// The rebase that a denial found is stored.
    Rebase,
    /// The records are read again before the rebase is stored.
    RebaseAgain,
}

impl Client {
    /// Begins a call, at an estimated time that may be wrong.
    pub(crate) fn begin(&mut self, call: Call, estimated: Timestamp) {
        self.calls += 1;
        let at = self.known.clone().map(|known| (estimated, known));
        let mut busy = Busy {
            call,
            phase: Phase::Apply,
            at,
            is_found: false,
            left: call.checks(),
            entry: None,
            version: None,
            estimated,
            failed: 0,
        };
        match call {
            Call::Check(_) | Call::Pair(..) => busy.phase = self.first_phase(&busy),
            Call::Amend { id, .. } | Call::Settle { id, .. } | Call::Cancel { id } => {
                busy.entry = self
                    .entries
                    .iter()
                    .find(|(other, _)| *other == id)
                    .map(|(_, entry)| entry.clone());
                if busy.entry.is_none() {
                    (busy.phase, busy.at) = (Phase::Find, None);
                }
            }
            Call::Change { .. } => busy.phase = Phase::Read,
            Call::Create { .. } => busy.at = None,
            Call::Reserve { .. } | Call::Delete { .. } => {}
        }
        self.busy = Some(busy);
    }

    /// The first phase of a check: the short form, if the cached key allows it.
    fn first_phase(&self, busy: &Busy) -> Phase {
        let at = busy.at.as_ref();
        let takes = at.is_some_and(|(now, known)| self.may_take(busy, known, *now, false));
        if takes { Phase::Take } else { Phase::Read }
    }

    /// Whether `take` can do a check; with `must_fit`, only if the check also fits the known state. Like `ready`.
    fn may_take(&self, busy: &Busy, known: &Known, now: Timestamp, must_fit: bool) -> bool {
        let levels = self.levels(known);
        if !levels.may_call(now) {
            return false;
        }
        let prepared = self.checking(busy, known, now, false);
        let simple = |guard: &Guard| match guard {
            Guard::Same(seen, next) => seen == next,
            Guard::Roll(_) | Guard::Keep => true,
            _ => false,
        };
        let steps = &prepared.operation().steps;
        steps.iter().flat_map(|step| &step.windows).all(|of| simple(&of.guard))
            && !prepared.changes_limits()
            && prepared.dropped(&levels).next().is_none()
            && (!must_fit || prepared.fits(&levels, now))
    }

    /// The operation of a call on a state.
    fn prepared(&self, busy: &Busy, known: &Known, now: Timestamp) -> Prepared {
        let levels = self.levels(known);
        match (busy.call, &busy.entry, busy.phase) {
            (Call::Settle { .. } | Call::Cancel { .. }, Some(entry), _) => {
                let charge = busy.actual().charge();
                entry.reservation().prepare_end(&levels, &charge, now)
            }
            (Call::Amend { .. }, Some(entry), _) => {
                let amended = busy.put(entry).estimate;
                entry.reservation().prepare_amendment(&levels, &amended, now)
            }
            (_, _, Phase::Take) => self.checking(busy, known, now, false),
            (Call::Check(_) | Call::Pair(..), ..) => self.checking(busy, known, now, true),
            // Like `AtHand::check`.
            _ => {
                let short = self.checking(busy, known, now, false);
                if !busy.is_found || short.fits(&levels, now) {
                    return short;
                }
                self.checking(busy, known, now, true)
            }
        }
    }

    fn checking(&self, busy: &Busy, known: &Known, now: Timestamp, stops: bool) -> Prepared {
        prepare::check(&self.levels(known), &busy.charges(), stops, now)
    }

    fn levels<'a>(&self, known: &'a Known) -> Levels<'a> {
        known.levels(self.of)
    }

    /// The next request of a call.
    pub(crate) fn request(&self, busy: &Busy, configs: &[Wanted], bug: Option<Bug>) -> Request {
        let look = Request::looking(busy.call.level().map_or(self.of.path, Path::of_level));
        match (busy.phase, busy.call) {
            (Phase::Read | Phase::RebaseAgain, _) => look,
            (Phase::Find, call) => {
                let ledger = call.id().map(|id| InLedger::Find { id });
                Request { ledger, ..look }
            }
            (_, Call::Change { level, to }) => busy.change(level, &configs[to], look),
            (_, Call::Create { level, to }) => {
                configs[to].created(self.of.path, level, busy.estimated)
            }
            (_, Call::Delete { level }) => Request {
                operation: Some(Operation::nothing()),
                manages: Some(Manages::Delete),
                effects: vec![Effect::Delete { level }],
                ..look
            },
            (phase, _) => self.applying(busy, phase, look, bug),
        }
    }

    /// A request with an operation on the records of a call.
    fn applying(&self, busy: &Busy, phase: Phase, look: Request, bug: Option<Bug>) -> Request {
        let Some((now, known)) = &busy.at else {
            return Request { ledger: self.in_ledger(busy, None, None), ..look };
        };
        let levels = self.levels(known);
        let ends = matches!(busy.call, Call::Settle { .. } | Call::Cancel { .. });
        let adds = !ends && busy.adds();
        if phase == Phase::Apply && adds && !levels.may_call(*now) {
            return Request { ledger: self.in_ledger(busy, None, None), ..look };
        }
        let (prepared, effects) = if phase == Phase::Rebase {
            let prepared = prepare::rebase(&levels, *now);
            (prepared.expect("there is something to rebase"), vec![Effect::Rebase { of: self.of }])
        } else {
            (self.prepared(busy, known, *now), busy.effects(self.of))
        };
        let mut operation = prepared.operation().clone();
        let mut puts = Vec::new();
        if prepared.changes_limits() || prepared.dropped(&levels).next().is_some() {
            let mut after = known.clone();
            prepared.put_limits(&mut after.levels_mut(self.of));
            let pairs = known.0.iter().zip(&after.0);
            puts =
                pairs.map(|(before, after)| Puts::of_change(&before.state, &after.state)).collect();
        }
        let believed = known.records_of(prepared.places());
        if bug == Some(Bug::FencesByTheRoll) && ends {
            fence_by_the_roll(&mut operation, &believed);
        }
        let planned = (bug == Some(Bug::GuardsMarks) && operation.steps[0].stops).then(|| {
            let mut records = believed.clone();
            let _verdict = limiter_core::operation::apply(
                &mut records,
                prepared.operation(),
                *now,
                &mut Vec::new(),
            );
            records
        });
        let ledger = match phase {
            Phase::Apply => self.in_ledger(busy, Some(&prepared), Some((known.clone(), *now))),
            _ => None,
        };
        Request {
            operation: Some(operation),
            scopes: known.ids_of(prepared.places()),
            stamps: known.stamps(),
            puts,
            ledger,
            effects,
            believed,
            planned,
            ..look
        }
    }

    fn in_ledger(
        &self,
        busy: &Busy,
        prepared: Option<&Prepared>,
        believed: Option<(Known, Timestamp)>,
    ) -> Option<InLedger> {
        let id = busy.call.id()?;
        Some(match (busy.call, &busy.entry) {
            (Call::Reserve { .. }, _) => {
                let charge = busy.cost().charge();
                // The server copies the windows; only a planted bug uses the client's own.
                let admission = match (prepared, believed) {
                    (Some(prepared), Some((mut known, now))) => {
                        drop(prepared.commit(&mut known.levels_mut(self.of), now));
                        admission_after(&known, prepared)
                    }
                    _ => Admission::default(),
                };
                let asked = self.asked(busy);
                let slots = asked
                    .iter()
                    .fold(Slots::NONE, |slots, (level, scope, _)| slots.with(*level, scope.scope));
                let entry = Entry {
                    asset: self.of.asset,
                    reserved: charge,
                    estimate: charge,
                    admission,
                    slots,
                    ended: None,
                };
                InLedger::New { id, entry: Box::new(entry), asked }
            }
            (_, Some(entry)) => {
                let reservation = entry.reservation();
                let of_call = |scope| ScopeId::of_call(scope, reservation.asset());
                let slots = reservation.slots().iter();
                let asked = slots.map(|(level, scope)| (level, of_call(scope), 0)).collect();
                let entries = Box::new([entry.clone(), busy.put(entry)]);
                InLedger::Known { id, entries, asked }
            }
            (_, None) => InLedger::Find { id },
        })
    }

    /// The parallel limits of a reservation, as the client believes them to be.
    fn asked(&self, busy: &Busy) -> Vec<Asked> {
        let known = busy.at.iter();
        known
            .flat_map(|(_, known)| self.levels(known).parallel_limits().collect::<Vec<_>>())
            .collect()
    }

    fn learn_entry(&mut self, id: u8, entry: Entry) {
        self.forget_entry(id);
        self.entries.push((id, entry));
        self.entries.sort_by_key(|(id, _)| *id);
    }

    fn forget_entry(&mut self, id: u8) {
        self.entries.retain(|(other, _)| *other != id);
    }

    /// Ends its call without an answer, and drops the cached key, which may be the cause.
    pub(crate) fn gives_up(&mut self) {
        (self.busy, self.known) = (None, None);
    }

    /// Restarts the client with an empty cache.
    pub(crate) fn crashes(&mut self) {
        *self = Self { of: self.of, calls: self.calls, ..Self::default() };
    }
}

impl Busy {
    /// Whether it is sent again after a lost answer: a call with an id is never charged twice.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.call.id().is_some()
    }

    /// The cost that the call asks for now; for an amendment, the part that is missing.
    fn cost(&self) -> Cost {
        match (self.call, &self.entry) {
            (Call::Reserve { tokens, .. }, _) => Cost { slot: true, ..cost(1, tokens) },
            (Call::Amend { tokens, .. }, Some(entry)) => {
                cost(0, tokens.saturating_sub(entry.estimate.input_tokens()))
            }
            _ => Cost::default(),
        }
    }

    /// Whether it asks for more. An amendment may not.
    fn adds(&self) -> bool {
        self.cost() != Cost::default() || !matches!(self.call, Call::Amend { .. })
    }

    /// The actual cost with which a reserved call ends.
    fn actual(&self) -> Cost {
        match self.call {
            Call::Settle { tokens, .. } => cost(1, tokens),
            _ => Cost::default(),
        }
    }

    fn put(&self, entry: &Entry) -> Entry {
        match self.call {
            Call::Amend { tokens, .. } => {
                Entry { estimate: cost(1, tokens).charge(), ..entry.clone() }
            }
            Call::Settle { .. } => {
                Entry { ended: Some(Some(self.actual().charge())), ..entry.clone() }
            }
            _ => Entry { ended: Some(None), ..entry.clone() },
        }
    }

    fn charges(&self) -> Vec<Charge> {
        match self.left[..] {
            [] => vec![self.cost().charge()],
            _ => self.left.iter().map(|tokens| cost(1, *tokens).charge()).collect(),
        }
    }

    fn effects(&self, of: Subject) -> Vec<Effect> {
        let checks = self.left.iter().map(|tokens| Effect::Check { of, cost: cost(1, *tokens) });
        let remembered = match self.call {
            Call::Reserve { id, .. } => Some(Effect::Reserve { id, of, cost: self.cost() }),
            Call::Amend { id, tokens } => {
                Some(Effect::Amend { id, path: of.path, to: cost(1, tokens) })
            }
            Call::Settle { id, .. } | Call::Cancel { id } => {
                Some(Effect::End { id, path: of.path, actual: self.actual() })
            }
            _ => None,
        };
        checks.chain(remembered).collect()
    }

    fn change(&self, level: usize, wanted: &Wanted, look: Request) -> Request {
        let (now, known) = self.at.as_ref().expect("it was read");
        let [known] = &known.0[..] else { panic!("a change concerns one level") };
        let change = wanted.change(&known.state, *now);
        Request {
            puts: vec![Puts::of_change(&known.state, &change.after)],
            operation: Some(change.operation),
            scopes: change.scopes.into_iter().map(|id| (0, id)).collect(),
            stamps: vec![known.stamp],
            version: self.version,
            effects: vec![Effect::Change { level, to: wanted.clone() }],
            ..look
        }
    }
}

impl Request {
    /// A request that only reads the records of these levels.
    const fn looking(path: Path) -> Self {
        Self {
            operation: None,
            path,
            scopes: Vec::new(),
            stamps: Vec::new(),
            puts: Vec::new(),
            version: None,
            manages: None,
            ledger: None,
            effects: Vec::new(),
            believed: Vec::new(),
            planned: None,
        }
    }

    fn restamps(&self) -> bool {
        self.puts.iter().any(Puts::restamps)
    }

    fn rolls(&self) -> bool {
        let steps = self.operation.iter().flat_map(|operation| &operation.steps);
        steps.flat_map(|step| &step.windows).any(|of| matches!(of.guard, Guard::Roll(_)))
    }
}

/// The windows that have admitted a call, in the levels after it.
fn admission_after(known: &Known, prepared: &Prepared) -> Admission {
    let (scopes, records) = (known.ids_of(prepared.places()), known.records_of(prepared.places()));
    admission_of(|level| Some(&known.0.get(level)?.state), scopes.iter().zip(&records))
}

/// Guards the windows of a correction that began after the client's last read by their ends alone.
fn fence_by_the_roll(operation: &mut Operation, believed: &[Stored]) {
    for (step, believed) in operation.steps.iter_mut().zip(believed) {
        for of in &mut step.windows {
            let seen = believed.windows.iter().find(|seen| seen.window == of.window);
            match of.guard {
                Guard::Same(span, next)
                    if span == next && seen.is_some_and(|seen| seen.span.end != span.end) =>
                {
                    of.guard = Guard::Roll(span.end);
                }
                _ => {}
            }
        }
    }
}
