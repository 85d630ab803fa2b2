//! Calls whose cost is known only afterwards, and repeated calls.

use crate::replay::{Answer, Call, Cost, Crossed, LARGEST, Problem, Reserve, Totals};

use super::Bounds;
use super::key::{Key, instant};
use super::path::{Admission, Held, Path, Reserving};
use super::window::figures;

/// An admitted call that can be corrected.
#[derive(Clone, Debug)]
pub(super) struct Reservation {
    /// The call as reserved, to recognise a repetition.
    reserved: Call,
    /// The estimate after amendments.
    estimate: Call,
    admission: Admission,
    held: Held,
    end: Option<End>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Settled(Call),
    Cancelled,
}

impl Key {
    pub(super) fn look_at_the_clock(&mut self, now: i64) {
        self.latest = self.latest.max(now);
        self.open_calls.look_at_the_clock(now);
        self.ended.look_at_the_clock(now);
        self.checks.look_at_the_clock(now);
        self.slots.look_at_the_clock(now);
    }

    pub(super) fn specifies_check(&self, id: &str, bounds: &Bounds, now: i64) -> bool {
        self.checks.specifies(id, now) && self.checks.specifies_room(bounds.checks, now)
    }

    pub(super) fn specifies_reserve(&self, id: &str, bounds: &Bounds, now: i64) -> bool {
        self.specifies_reservation(id, now)
            && self.open_calls.specifies_room(bounds.open, now)
            && self.ended.specifies_room(bounds.ended, now)
    }

    pub(super) fn specifies_reservation(&self, id: &str, now: i64) -> bool {
        self.open_calls.specifies(id, now) && self.ended.specifies(id, now)
    }

    fn reservation(&mut self, id: &str) -> Option<&mut Reservation> {
        self.open_calls.get(id).or_else(|| self.ended.get(id))
    }
}

/// "An id … belongs to its key", not to a group.
impl Path {
    /// "At a bound the answer is the error `TooMany` …; nothing is charged". A call over its limits is denied even then.
    fn check_if_room(
        &mut self,
        call: &Call,
        full_until: Option<u64>,
        now: i64,
    ) -> (Answer, Admission) {
        match full_until {
            Some(retry_at) if is_charged(&self.peek(call, now)) => {
                (Answer::TooMany { retry_at }, Admission::new())
            }
            _ => self.check(call, now),
        }
    }

    /// "Repeating it within its dedupe time (120 s by default) answers `Allowed`, flagged `replayed`, with the state of
    /// now, also when the key has expired since, and charges nothing."
    pub(super) fn check_once(
        &mut self,
        call: &Call,
        id: &str,
        bounds: &Bounds,
        now: i64,
    ) -> Answer {
        // "The id alone decides": the state shown is that of the repeated call.
        if self.own().checks.get(id).is_some() {
            return self.replayed(call, now);
        }
        let full_until = self.own().checks.full_until(bounds.checks);
        let (answer, _) = self.check_if_room(call, full_until, now);
        // "Only admitted calls are remembered." One that no level has charged is none.
        if is_charged(&answer) {
            self.own().checks.insert(id, now + DEDUPE_MS, ());
        }
        answer
    }

    /// "`check_and_consume` of the estimate that can be corrected".
    pub(super) fn reserve(&mut self, reserve: &Reserve, bounds: &Bounds, now: i64) -> Answer {
        let Reserve { estimate, id, ttl_ms } = reserve;
        if let Some(known) = self.own().reservation(id) {
            // "`reserve` again with a known id answers `Allowed`, flagged `replayed`, with the state of now, also when it is
            // settled or the key has expired; with another asset or other figures (the ttl apart) it is an error."
            if known.reserved != *estimate {
                return Answer::Error(Problem::AlreadyExists);
            }
            let reserving = Reserving { holder: self.holder(id), until: now, held: Held::new() };
            return self.reserving(reserving, |path| path.replayed(estimate, now)).0;
        }
        // It needs room among the open reservations, and for its end room among the ended ones.
        let own = self.own();
        let full_until =
            own.open_calls.full_until(bounds.open).max(own.ended.full_until(bounds.ended));
        // "Never settled …: the reservation is forgotten after its ttl, which runs from `reserve` and is not prolonged." Its slot
        // expires "10 minutes after the reserve or its last amendment …, never later than its ttl".
        let ends = now + instant(*ttl_ms);
        let (holder, until) = (self.holder(id), ends.min(now + SLOT_MS));
        let reserving = Reserving { holder, until, held: Held::new() };
        let ((answer, admission), held) =
            self.reserving(reserving, |path| path.check_if_room(estimate, full_until, now));
        if is_charged(&answer) {
            let reservation = Reservation {
                reserved: estimate.clone(),
                estimate: estimate.clone(),
                admission,
                held,
                end: None,
            };
            self.own().open_calls.insert(id, ends, reservation);
        }
        answer
    }

    /// "The new whole estimate of an open reservation. What it adds is checked and charged like a top-up, all or nothing, in
    /// the windows open now; what it takes away is handed back at once, as settle does."
    pub(super) fn amend(&mut self, to: &Totals, now: i64) -> Answer {
        let Some(reservation) = self.own().reservation(&to.id).cloned() else {
            return Answer::Error(Problem::UnknownReservation);
        };
        let old = &reservation.estimate;
        let Some(new) = filled_in(to, old) else { return Answer::Error(Problem::Invalid) };
        if reservation.end.is_some() {
            return Answer::Error(Problem::AlreadySettled);
        }
        let added = Call {
            requests: new.requests.saturating_sub(old.requests),
            input: new.input.saturating_sub(old.input),
            output: new.output.saturating_sub(old.output),
            credits: new.credits.saturating_sub(old.credits),
            ..old.clone()
        };
        let adds = figures(&added) != [0; 4];
        // "An amendment that adds is denied there" (on an expired key). It fits if the counts after it do; if not, what it
        // adds is denied as a top-up is.
        let calls = [old, &new, &added];
        let refused =
            adds.then(|| self.refused_amendment(&reservation.admission, calls, now)).flatten();
        // "10 minutes after the reserve or its last amendment (also one that changes no figure)".
        if !matches!(refused, Some(Answer::Denied(_))) {
            let ends = self.own().open_calls.until(&to.id).unwrap_or(now);
            let (holder, until) = (self.holder(&to.id), ends.min(now + SLOT_MS));
            self.each_slot(&reservation.held, |slots, name| slots.renew(name, &holder, until));
        }
        if let Some(refused) = refused {
            self.rebase(&new, now);
            return refused;
        }
        let crossed = self.correct(&reservation.admission, old, &new, now);
        let remaining = self.remaining(&new, now);
        if let Some(reservation) = self.own().reservation(&to.id) {
            reservation.estimate = new;
        }
        Answer::Allowed { replayed: false, remaining, crossed }
    }

    pub(super) fn settle(&mut self, actual: &Totals, now: i64) -> Answer {
        let Some(reservation) = self.own().reservation(&actual.id) else {
            return Answer::Error(Problem::UnknownReservation);
        };
        match filled_in(actual, &reservation.estimate) {
            Some(call) => self.end(&actual.id, End::Settled(call), now),
            None => Answer::Error(Problem::Invalid),
        }
    }

    pub(super) fn cancel(&mut self, id: &str, now: i64) -> Answer {
        self.end(id, End::Cancelled, now)
    }

    /// "Settle and cancel are idempotent: repeated after a lost answer, they change nothing more and answer the same.
    /// Settle is final; cancel after settle is an error that changes nothing."
    fn end(&mut self, id: &str, end: End, now: i64) -> Answer {
        let Some(reservation) = self.own().reservation(id) else {
            return Answer::Error(Problem::UnknownReservation);
        };
        match &reservation.end {
            // "They change nothing more and answer the same."
            Some(before) if *before == end => {
                return end.answer(reservation.estimate.asset.clone(), true, Vec::new());
            }
            Some(_) => return Answer::Error(Problem::AlreadySettled),
            None => {}
        }
        let Reservation { estimate, admission, held, .. } = reservation.clone();
        let holder = self.holder(id);
        self.each_slot(&held, |slots, name| slots.free(name, &holder));
        let actual = match &end {
            End::Settled(actual) => actual.clone(),
            // "The call never went upstream: settle at zero, the request refunded too."
            End::Cancelled => {
                Call { requests: 0, input: 0, output: 0, credits: 0, ..estimate.clone() }
            }
        };
        let crossed = self.correct(&admission, &estimate, &actual, now);
        // "An ended reservation is remembered for the dedupe time (120 s by default) from its end." The bounds do
        // not apply here: a refund is never lost.
        let own = self.own();
        if let Some(reservation) = own.open_calls.remove(id) {
            let ended = Reservation { end: Some(end.clone()), ..reservation };
            own.ended.insert(id, now + DEDUPE_MS, ended);
        }
        end.answer(estimate.asset, false, crossed)
    }
}

impl End {
    /// "Settle and cancel answer `actual` and what was charged by it, so that a caller can bill."
    fn answer(&self, asset: Option<String>, repeated: bool, crossed: Vec<Crossed>) -> Answer {
        let cost = match self {
            Self::Settled(Call { requests, input, output, credits, .. }) => Cost {
                asset,
                requests: *requests,
                input: *input,
                output: *output,
                credits: *credits,
            },
            Self::Cancelled => Cost { asset, ..Cost::default() },
        };
        Answer::Settled { cost, repeated, crossed }
    }
}

/// Fills in absent totals from the current estimate; returns `None` if the sum of the tokens is too large.
fn filled_in(totals: &Totals, estimate: &Call) -> Option<Call> {
    let filled = Call {
        requests: totals.requests.unwrap_or(estimate.requests),
        input: totals.input.unwrap_or(estimate.input),
        output: totals.output.unwrap_or(estimate.output),
        credits: totals.credits.unwrap_or(estimate.credits),
        ..estimate.clone()
    };
    (filled.input + filled.output <= LARGEST).then_some(filled)
}

/// Returns whether a call was admitted, and charged to any of its levels.
fn is_charged(answer: &Answer) -> bool {
    matches!(answer, Answer::Allowed { .. } | Answer::Shadowed { charged: Some(_), .. })
}

const DEDUPE_MS: i64 = 120_000;
const SLOT_MS: i64 = 600_000;
