//! Calls whose cost is known only afterwards, and repeated calls.

use crate::replay::{Answer, Call, Cost, Crossed, LARGEST, Problem, Reserve, Totals};

use super::Bounds;
use super::key::Key;
use super::window::WindowId;

/// An admitted call that can be corrected once.
#[derive(Clone, Debug)]
pub(super) struct Reservation {
    /// The call as reserved, to recognise a repetition.
    reserved: Call,
    /// The estimate after extensions.
    estimate: Call,
    admitting: Vec<WindowId>,
    end: Option<End>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Settled(Call),
    Cancelled,
}

impl Key {
    pub(super) fn look_at_the_clock(&mut self, now: u64) {
        self.open.look_at_the_clock(now);
        self.ended.look_at_the_clock(now);
        self.checks.look_at_the_clock(now);
    }

    pub(super) fn specifies_check(&self, id: &str, bounds: &Bounds, now: u64) -> bool {
        self.checks.specifies(id, now) && self.checks.specifies_room(bounds.checks, now)
    }

    pub(super) fn specifies_reserve(&self, id: &str, bounds: &Bounds, now: u64) -> bool {
        self.specifies_reservation(id, now)
            && self.open.specifies_room(bounds.open, now)
            && self.ended.specifies_room(bounds.ended, now)
    }

    pub(super) fn specifies_reservation(&self, id: &str, now: u64) -> bool {
        self.open.specifies(id, now) && self.ended.specifies(id, now)
    }

    fn reservation(&mut self, id: &str) -> Option<&mut Reservation> {
        self.open.get(id).or_else(|| self.ended.get(id))
    }

    /// "At a bound the answer is the error `TooMany` …; nothing is charged". A call over its limits is denied even then.
    fn check_if_room(&mut self, call: &Call, full_until: Option<u64>, now: u64) -> Answer {
        match full_until {
            Some(retry_at) if is_allowed(&self.decide(call, now)) => Answer::TooMany { retry_at },
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
        now: u64,
    ) -> Answer {
        // "The id alone decides": the state shown is that of the repeated call.
        if self.checks.get(id).is_some() {
            return self.replayed(call, now);
        }
        let answer = self.check_if_room(call, self.checks.full_until(bounds.checks), now);
        // "Only admitted calls are remembered."
        if is_allowed(&answer) {
            self.checks.insert(id, now + DEDUPE_MS, ());
        }
        answer
    }

    /// "`check_and_consume` of the estimate that can be corrected once".
    pub(super) fn reserve(&mut self, reserve: &Reserve, bounds: &Bounds, now: u64) -> Answer {
        let Reserve { estimate, id, ttl_ms } = reserve;
        if let Some(known) = self.reservation(id) {
            // "`reserve` again with a known id answers `Allowed`, flagged `replayed`, with the state of now, also when it is
            // settled or the key has expired; with another asset or other figures (the ttl apart) it is an error."
            return if known.reserved == *estimate {
                self.replayed(estimate, now)
            } else {
                Answer::Error(Problem::AlreadyExists)
            };
        }
        // It needs room among the open reservations, and for its end room among the ended ones.
        let full_until = self.open.full_until(bounds.open).max(self.ended.full_until(bounds.ended));
        let answer = self.check_if_room(estimate, full_until, now);
        if is_allowed(&answer) {
            let reservation = Reservation {
                reserved: estimate.clone(),
                estimate: estimate.clone(),
                admitting: self.admitting_windows(estimate),
                end: None,
            };
            // "Never settled …: the reservation is forgotten after its ttl, which runs from `reserve` and is not
            // prolonged."
            self.open.insert(id, now + ttl_ms, reservation);
        }
        answer
    }

    /// "A running stream asks for more. `to` is the new whole estimate (input, output, credits), never below the old
    /// one".
    pub(super) fn extend(&mut self, to: &Totals, now: u64) -> Answer {
        let Some(reservation) = self.reservation(&to.id) else {
            return Answer::Error(Problem::UnknownReservation);
        };
        let old = reservation.estimate.clone();
        let Some(new) = filled_in(to, &old) else { return Answer::Error(Problem::Invalid) };
        if new.input < old.input || new.output < old.output || new.credits < old.credits {
            return Answer::Error(Problem::Invalid);
        }
        if reservation.end.is_some() {
            return Answer::Error(Problem::AlreadySettled);
        }
        // "What is missing is checked and charged like a top-up, all or nothing, in the windows open now."
        let missing = Call {
            requests: 0,
            input: new.input - old.input,
            output: new.output - old.output,
            credits: new.credits - old.credits,
            ..old
        };
        let answer = self.check(&missing, now);
        if is_allowed(&answer)
            && let Some(reservation) = self.reservation(&to.id)
        {
            reservation.estimate = new;
        }
        answer
    }

    pub(super) fn settle(&mut self, actual: &Totals, now: u64) -> Answer {
        let Some(reservation) = self.reservation(&actual.id) else {
            return Answer::Error(Problem::UnknownReservation);
        };
        match filled_in(actual, &reservation.estimate) {
            Some(call) => self.end(&actual.id, End::Settled(call), now),
            None => Answer::Error(Problem::Invalid),
        }
    }

    pub(super) fn cancel(&mut self, id: &str, now: u64) -> Answer {
        self.end(id, End::Cancelled, now)
    }

    /// "Settle and cancel are idempotent: repeated after a lost answer, they change nothing more and answer the same.
    /// Settle is final; cancel after settle is an error that changes nothing."
    fn end(&mut self, id: &str, end: End, now: u64) -> Answer {
        let Some(reservation) = self.reservation(id) else {
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
        let Reservation { estimate, admitting, .. } = reservation.clone();
        let actual = match &end {
            End::Settled(actual) => actual.clone(),
            // "The call never went upstream: settle at zero, the request refunded too."
            End::Cancelled => {
                Call { requests: 0, input: 0, output: 0, credits: 0, ..estimate.clone() }
            }
        };
        let (corrected, crossed) = self.corrected(&admitting, &estimate, &actual, now);
        *self = corrected;
        // "An ended reservation is remembered for the dedupe time (120 s by default) from its end." The bounds do
        // not apply here: a refund is never lost.
        if let Some(reservation) = self.open.remove(id) {
            let ended = Reservation { end: Some(end.clone()), ..reservation };
            self.ended.insert(id, now + DEDUPE_MS, ended);
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
        input: totals.input.unwrap_or(estimate.input),
        output: totals.output.unwrap_or(estimate.output),
        credits: totals.credits.unwrap_or(estimate.credits),
        ..estimate.clone()
    };
    (filled.input + filled.output <= LARGEST).then_some(filled)
}

fn is_allowed(answer: &Answer) -> bool {
    matches!(answer, Answer::Allowed { .. })
}

const DEDUPE_MS: u64 = 120_000;
