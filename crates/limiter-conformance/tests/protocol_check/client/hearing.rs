//! Handling of an answer by a client.

use limiter_core::{
    Crossing, Decision, InvalidValue, LevelSet, Parallel, Timestamp, explain, prepare,
};

use super::{Busy, Call, Client, Phase, admission_after};
use crate::bug::Bug;
use crate::oracle::{Cost, Wanted};
use crate::path::Subject;
use crate::server::{Answer, Asked, Ended, Entry, InLedger, Known, Request};

/// The outcome of an answer.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) next: Option<Busy>,
    /// The decisions on this answer, each with its cost, and with the number of its call if that was applied or refused.
    pub(crate) decided: Vec<(Decision, Cost, Option<usize>)>,
    /// The thresholds that the applied operation reached.
    pub(crate) crossed: Option<Vec<Crossing>>,
    /// Whether the call has ended as denied.
    pub(crate) denied: bool,
}

impl Client {
    /// Handles an answer.
    pub(crate) fn hear(
        &mut self,
        busy: Busy,
        request: &Request,
        answer: &Answer,
        configs: &[Wanted],
        bug: Option<Bug>,
    ) -> Heard {
        self.saw = Some(answer.now);
        match (busy.call, busy.phase) {
            (Call::Change { to, .. }, phase) => busy.hear_of_change(phase, answer, &configs[to]),
            (Call::Create { .. }, _) => {
                let again = answer.ended == Ended::Untimely;
                let next = again.then(|| Busy { estimated: answer.now, ..busy.failing() });
                Heard { next, ..Heard::default() }
            }
            (Call::Delete { .. }, _) => Heard::default(),
            (_, Phase::Rebase | Phase::RebaseAgain) => self.hear_of_rebase(busy, answer),
            (Call::Check(_) | Call::Pair(..), _) => self.hear_of_check(busy, request, answer, bug),
            _ => self.hear_of_remembered(busy, request, answer, bug),
        }
    }

    /// Like `explain_take`, `decide` and `try_again`.
    fn hear_of_check(
        &mut self,
        mut busy: Busy,
        request: &Request,
        answer: &Answer,
        bug: Option<Bug>,
    ) -> Heard {
        let mut heard = Heard::default();
        let shown = || answer.before.clone().map(|known| known.met(self.of.asset));
        let found = match (&busy.at, answer.ended, busy.phase) {
            (Some((_, known)), Ended::Applied | Ended::Refused, Phase::Take | Phase::Apply) => {
                let (known, left) = self.explain(&busy, known, answer, &mut heard);
                busy.left = left;
                let restamps = answer.ended == Ended::Applied && request.restamps();
                if restamps {
                    self.known = None;
                } else if busy.phase == Phase::Apply || request.rolls() && busy.left.is_empty() {
                    self.known = Some(known.clone());
                }
                if busy.left.is_empty() {
                    return heard;
                }
                if restamps {
                    heard.next = Some(Busy { phase: Phase::Read, at: None, ..busy.failing() });
                    return heard;
                }
                Some(known)
            }
            _ => shown(),
        };
        let Some(known) = found else {
            heard
                .decided
                .extend(busy.costs().map(|cost| (Decision::key_unknown(None, None), cost, None)));
            return heard;
        };
        self.try_again(busy, known, answer.now, heard, bug)
    }

    /// Explains each call that was applied or denied. Returns the key after them, and the tokens of the other calls.
    fn explain(
        &self,
        busy: &Busy,
        known: &Known,
        answer: &Answer,
        heard: &mut Heard,
    ) -> (Known, Vec<u64>) {
        let mut known = answer.on(known).expect("it was read before");
        let mut left = Vec::new();
        for (number, cost) in busy.costs().enumerate() {
            let (charge, now) = (cost.charge(), answer.now);
            let done = answer.ended == Ended::Applied && answer.done.get(number) == Some(&true);
            let decision = if done {
                Some(explain::admitted(
                    &mut known.levels_mut(self.of),
                    &charge,
                    LevelSet::NONE,
                    now,
                ))
            } else {
                let levels = self.levels(&known);
                let refused = explain::refused(&levels, &charge, now);
                refused.filter(|_| prepare::rebase(&levels, now).is_none())
            };
            match decision {
                Some(decision) => {
                    heard.denied |= decision.denied().is_some();
                    heard.decided.push((decision, cost, Some(number)));
                }
                None => left.push(busy.left[number]),
            }
        }
        (known, left)
    }

    fn try_again(
        &mut self,
        mut busy: Busy,
        known: Known,
        now: Timestamp,
        mut heard: Heard,
        bug: Option<Bug>,
    ) -> Heard {
        self.known = Some(known.clone());
        let levels = self.levels(&known);
        let takes = self.may_take(&busy, &known, now, true);
        let mut denies = false;
        if !takes {
            let denied = |cost: Cost| explain::refused(&levels, &cost.charge(), now);
            let denials = busy.costs().filter_map(|cost| Some((denied(cost)?, cost, None)));
            let before = heard.decided.len();
            heard.decided.extend(denials);
            denies = heard.decided.len() > before;
            busy.left.retain(|tokens| denied(super::cost(1, *tokens)).is_none());
        }
        let rebases =
            denies && bug != Some(Bug::StoresNoRebase) && prepare::rebase(&levels, now).is_some();
        if busy.left.is_empty() && !rebases {
            heard.denied |= denies;
            return heard;
        }
        let phase = match (takes, rebases) {
            (true, _) => Phase::Take,
            (_, true) => Phase::Rebase,
            _ => Phase::Apply,
        };
        drop(levels);
        let busy = if busy.phase == Phase::Read { busy } else { busy.failing() };
        let failed = if rebases { 0 } else { busy.failed };
        heard.next = Some(Busy { phase, at: Some((now, known)), failed, ..busy });
        heard
    }

    /// Like `reserve`, `amend` and `end`, with `ask`.
    fn hear_of_remembered(
        &mut self,
        mut busy: Busy,
        request: &Request,
        answer: &Answer,
        bug: Option<Bug>,
    ) -> Heard {
        let id = busy.call.id().expect("it is remembered by its id");
        if busy.phase == Phase::Find {
            return self.hear_of_entry(busy, id, answer);
        }
        let believed =
            matches!(answer.ended, Ended::Applied | Ended::Refused) && request.operation.is_some();
        let applied = answer.ended == Ended::Applied;
        let known = match &busy.at {
            Some((_, known)) if believed => Some(answer.on(known).expect("it was read before")),
            _ => answer.before.clone().map(|known| known.met(self.of.asset)),
        };
        let restamps = request.restamps();
        self.known = known.clone().filter(|_| !(applied && restamps));
        let Some(known) = known else { return Heard::unknown(busy.cost()) };
        let now = answer.now;
        let reserves = matches!(busy.call, Call::Reserve { .. });
        let asked = self.asked(&busy);
        let are_others = self.levels(&known).parallel_limits().ne(asked.iter().cloned());
        if reserves && are_others && bug != Some(Bug::ExplainsByOldSlots) {
            // Nothing was done, and the slots that count now are not seen yet.
            return self.again(busy, now, known);
        }
        let parallel: Vec<_> = asked.iter().zip(&answer.open).map(parallel_of).collect();
        let mut after = known.clone();
        if applied {
            return match busy.call {
                Call::Settle { .. } | Call::Cancel { .. } => {
                    let prepared = self.prepared(&busy, &known, now);
                    let committed = prepared.commit(&mut after.levels_mut(self.of), now);
                    self.forget_entry(id);
                    let crossed = committed.map_or_else(Vec::new, |committed| committed.crossed);
                    Heard { crossed: Some(crossed), ..Heard::default() }
                }
                Call::Amend { .. } => {
                    let entry = busy.entry.clone().expect("it was amended");
                    let put = busy.put(&entry);
                    let decision = entry.reservation().amend(
                        &mut after.levels_mut(self.of_entry(&entry)),
                        &put.estimate,
                        now,
                    );
                    self.learn_entry(id, put);
                    Heard::decided(decision, busy.cost())
                }
                _ => {
                    let cost = busy.cost();
                    let decision = {
                        let mut levels = after.levels_mut(self.of);
                        let mut levels = levels.reserving(&parallel);
                        explain::admitted(&mut levels, &cost.charge(), LevelSet::NONE, now)
                    };
                    if let (Some(InLedger::New { entry, .. }), false) = (&request.ledger, restamps)
                    {
                        let prepared = self.prepared(&busy, &known, now);
                        let admission = if bug == Some(Bug::BelievesTheClientsWindows) {
                            entry.admission.clone()
                        } else {
                            admission_after(&after, &prepared)
                        };
                        self.learn_entry(id, Entry { admission, ..(**entry).clone() });
                    }
                    Heard::decided(decision, cost)
                }
            };
        }
        if answer.ended == Ended::Listed {
            let Some(entry) = answer.entry.clone() else { return self.without_entry(id) };
            if reserves {
                // The reservation exists already. Another cost is an error.
                let cost = busy.cost();
                let is_same = (entry.asset, entry.reserved) == (self.of.asset, cost.charge());
                let replayed = || explain::replayed(&self.levels(&known).reserving(&parallel), now);
                return if is_same { Heard::replayed(replayed(), cost) } else { Heard::default() };
            }
            let keeps = matches!(busy.call, Call::Settle { .. } | Call::Cancel { .. });
            (busy.at, busy.is_found) = (keeps.then_some((now, known)), keeps);
            return self.with_entry(busy.failing(), entry);
        }
        let cost = busy.cost();
        let denied = match (busy.call, &busy.entry) {
            (Call::Settle { .. } | Call::Cancel { .. }, _) => None,
            (Call::Amend { .. }, Some(entry)) => {
                let prepared = self.prepared(&busy, &known, now);
                entry.reservation().refuses(
                    &known.levels(self.of_entry(entry)),
                    &prepared,
                    &cost.charge(),
                    now,
                )
            }
            _ => explain::refused(&self.levels(&known).reserving(&parallel), &cost.charge(), now),
        };
        if let Some(denied) = denied {
            return self.denied(busy, denied, cost, now, known, bug);
        }
        self.again(busy, now, known)
    }

    /// Prepares again from the levels that a try has found.
    fn again(&self, busy: Busy, now: Timestamp, known: Known) -> Heard {
        let failing = if busy.at.is_none() { busy } else { busy.failing() };
        let next = Busy { phase: Phase::Apply, at: Some((now, known)), is_found: true, ..failing };
        Heard { next: Some(next), ..Heard::default() }
    }

    /// Like `find`, which reads the global record alone.
    fn hear_of_entry(&mut self, busy: Busy, id: u8, answer: &Answer) -> Heard {
        if !self.of.asset {
            self.known = answer.before.clone().map(|known| known.met(false));
        }
        match &answer.entry {
            Some(entry) => self.with_entry(Busy { at: None, ..busy }, entry.clone()),
            None => self.without_entry(id),
        }
    }

    /// The call of a reservation.
    const fn of_entry(&self, entry: &Entry) -> Subject {
        Subject { asset: entry.asset, ..self.of }
    }

    /// Goes on with the entry of a reservation that was looked up.
    fn with_entry(&mut self, busy: Busy, entry: Entry) -> Heard {
        // The worlds do not check the answer to a settlement or cancellation after the reservation has ended.
        if entry.ended.is_some() {
            return Heard::default();
        }
        let at = busy.at.clone().or_else(|| self.saw.zip(self.known.clone()));
        Heard {
            next: Some(Busy { phase: Phase::Apply, at, entry: Some(entry), ..busy }),
            ..Heard::default()
        }
    }

    fn without_entry(&mut self, id: u8) -> Heard {
        self.forget_entry(id);
        Heard::default()
    }

    /// Denies a call, and stores a rebase of its windows if they need one.
    fn denied(
        &mut self,
        busy: Busy,
        denied: Decision,
        cost: Cost,
        now: Timestamp,
        known: Known,
        bug: Option<Bug>,
    ) -> Heard {
        let rebases = prepare::rebase(&self.levels(&known), now).is_some();
        if !rebases || bug == Some(Bug::StoresNoRebase) {
            return Heard::decided(denied, cost);
        }
        let next = Busy { phase: Phase::Rebase, at: Some((now, known)), failed: 0, ..busy };
        Heard { next: Some(next), decided: vec![(denied, cost, None)], ..Heard::default() }
    }

    /// Like `rebase`.
    fn hear_of_rebase(&mut self, busy: Busy, answer: &Answer) -> Heard {
        // Calls that are left read the key again.
        let left = !busy.left.is_empty();
        let next = left.then(|| Busy { phase: Phase::Read, at: None, ..busy.clone() });
        let done = Heard { denied: true, next, ..Heard::default() };
        match (busy.phase, answer.ended) {
            (Phase::Rebase, Ended::Applied) => {
                self.known = None;
                done
            }
            (Phase::Rebase, _) => Heard {
                next: Some(Busy { phase: Phase::RebaseAgain, ..busy.failing() }),
                ..Heard::default()
            },
            _ => {
                let Some(known) = answer.before.clone().map(|known| known.met(self.of.asset))
                else {
                    return done;
                };
                if prepare::rebase(&self.levels(&known), answer.now).is_none() {
                    return done;
                }
                let at = Some((answer.now, known));
                Heard { next: Some(Busy { phase: Phase::Rebase, at, ..busy }), ..Heard::default() }
            }
        }
    }
}

impl Busy {
    fn hear_of_change(self, phase: Phase, answer: &Answer, wanted: &Wanted) -> Heard {
        if answer.ended == Ended::Applied {
            return Heard::default();
        }
        if phase != Phase::Read {
            return Heard {
                next: Some(Self { phase: Phase::Read, ..self.failing() }),
                ..Heard::default()
            };
        }
        let Some(known) = answer.before.clone() else { return Heard::default() };
        let another = self.version.is_some_and(|version| version != answer.version);
        let [level] = &known.0[..] else { panic!("a change concerns one level") };
        let same = wanted.change(&level.state, answer.now).after == level.state;
        if another || same {
            return Heard::default();
        }
        let at = Some((answer.now, known));
        let next = Self { phase: Phase::Apply, at, version: Some(answer.version), ..self };
        Heard { next: Some(next), ..Heard::default() }
    }

    fn costs(&self) -> impl Iterator<Item = Cost> + use<> {
        self.left.clone().into_iter().map(|tokens| super::cost(1, tokens))
    }

    fn failing(self) -> Self {
        let failed = self.failed + 1;
        Self { failed, ..self }
    }
}

impl Heard {
    fn decided(decision: Decision, cost: Cost) -> Self {
        let denied = decision.denied().is_some();
        Self { decided: vec![(decision, cost, (!denied).then_some(0))], denied, ..Self::default() }
    }

    fn replayed(decision: Decision, cost: Cost) -> Self {
        Self { decided: vec![(decision, cost, None)], ..Self::default() }
    }

    fn unknown(cost: Cost) -> Self {
        Self { decided: vec![(Decision::key_unknown(None, None), cost, None)], ..Self::default() }
    }
}

impl Answer {
    /// The key as a client reads it from the answer: on its own, or with the cached limits.
    pub(crate) fn shown(&self, busy: &Busy) -> Result<(), InvalidValue> {
        let compared = matches!(self.ended, Ended::Applied | Ended::Refused);
        match &busy.at {
            // The answers to creating, changing and deleting contain no records.
            Some((_, known))
                if compared && busy.call.level().is_none() && busy.phase != Phase::Read =>
            {
                self.on(known).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The levels as they were, with the cached limits.
    fn on(&self, known: &Known) -> Result<Known, InvalidValue> {
        match &self.before {
            Some(before) => known.with_numbers_of(before),
            None => Ok(known.clone()),
        }
    }
}

/// A parallel limit that was asked for, with what was found of its slots.
fn parallel_of(
    ((level, scope, limit), (open, frees_at)): (&Asked, &(u64, Option<Timestamp>)),
) -> Parallel {
    let (level, scope, limit, open, frees_at) = (*level, scope.scope, *limit, *open, *frees_at);
    Parallel { level, scope, limit, open, frees_at }
}
