//! Charges for calls that were allowed here, which the store does not know yet.

use std::time::{Duration, SystemTime};

use limiter_core::{Charge, Credits, MAX_COUNT, RequestId};
use tokio::time::Instant;

use crate::pause::Pause;

/// The debt of one key for one asset, and a payment of it that the store has not confirmed.
///
/// A payment that may have arrived keeps its id, so that it counts once, however often it is sent. One that certainly
/// did not arrive goes back to the debt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Debt {
    owed: Sums,
    payment: Option<Payment>,
    /// The last confirmed payment that cannot arrive a second time.
    confirmed: Option<RequestId>,
    pause: Pause,
}

/// A payment of a part of a debt that was sent to the store.
#[derive(Clone, Debug)]
struct Payment {
    id: RequestId,
    charge: Charge,
    /// Taken before the first send: from then on the store may remember the id.
    first_sent: Moment,
    /// How many sends lack an answer that proves that they were not charged.
    unanswered: u32,
}

/// A payment to send to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sending {
    pub(crate) id: RequestId,
    pub(crate) charge: Charge,
    pub(crate) confirms: Option<RequestId>,
}

/// An instant on two clocks: the process's, which never steps back, and the system's, which runs while the machine
/// sleeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) steady: Instant,
    pub(crate) wall: SystemTime,
}

/// The amounts owed. One is below zero after an estimate was paid and the cost was less: the store keeps the payment,
/// and the next one is smaller.
///
/// Requests, input tokens, output tokens, and millionths of a credit.
#[derive(Clone, Copy, Debug, Default)]
struct Sums([i64; 4]);

impl Debt {
    pub(crate) fn add(&mut self, charge: &Charge) {
        self.owed.add(charge, 1);
    }

    pub(crate) fn take_back(&mut self, charge: &Charge) {
        self.owed.add(charge, -1);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.payment.is_none() && self.owed.charge().is_none()
    }

    /// Whether there is a debt to pay now: a debt that the store has just refused waits.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        !self.is_settled() && self.pause.is_over(now)
    }

    /// The charges that the store has not confirmed: the payment, and as much of the rest as one charge holds.
    pub(crate) fn unpaid(&self) -> impl Iterator<Item = Charge> {
        self.payment.iter().map(|payment| payment.charge).chain(self.owed.charge())
    }

    /// Gives up a payment that may have been charged, if the store may have forgotten its id since: sent again, it
    /// could count twice. Returns its charge for a warning.
    pub(crate) fn give_up(&mut self, safe_for: Duration, now: Moment) -> Option<Charge> {
        let too_old = |payment: &mut Payment| payment.first_sent.age(now) > safe_for;
        self.payment.take_if(too_old).map(|payment| payment.charge)
    }

    /// The next payment for the store: the one that it has not confirmed, or all that is owed now, under a new id.
    pub(crate) fn send(
        &mut self,
        now: Moment,
        new_id: impl FnOnce() -> Option<RequestId>,
    ) -> Option<Sending> {
        let payment = match &mut self.payment {
            Some(payment) => payment,
            none => {
                let charge = self.owed.charge()?;
                let payment = Payment { id: new_id()?, charge, first_sent: now, unanswered: 0 };
                self.owed.add(&charge, -1);
                none.insert(payment)
            }
        };
        payment.unanswered = payment.unanswered.saturating_add(1);
        let Payment { id, charge, .. } = payment.clone();
        Some(Sending { id, charge, confirms: self.confirmed.clone() })
    }

    /// Ends the payment: the store has charged it.
    pub(crate) fn confirm(&mut self) {
        // A payment that was sent twice may still arrive again.
        self.confirmed =
            self.payment.take().filter(|payment| payment.unanswered == 1).map(|paid| paid.id);
        self.pause.end();
    }

    /// Takes back the last send, which the store certainly did not charge. If no other send may have arrived, the
    /// charge is owed again.
    pub(crate) fn not_charged(&mut self) {
        if let Some(payment) = &mut self.payment {
            payment.unanswered = payment.unanswered.saturating_sub(1);
            if payment.unanswered == 0 {
                let charge = payment.charge;
                self.owed.add(&charge, 1);
                self.payment = None;
            }
        }
    }

    /// Starts a pause: the store answered, and refused the payment.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.pause.grow(now);
    }
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// The longer of the times that have passed on the two clocks.
    fn age(&self, now: Self) -> Duration {
        let steady = now.steady.saturating_duration_since(self.steady);
        now.wall.duration_since(self.wall).map_or(steady, |wall| wall.max(steady))
    }
}

impl Sums {
    fn add(&mut self, charge: &Charge, sign: i64) {
        // Each is at most 2^53 - 1.
        let (input, output) = (charge.input_tokens(), charge.output_tokens());
        let amounts = [charge.requests(), input, output, charge.credits().millionths()];
        for (sum, amount) in self.0.iter_mut().zip(amounts) {
            *sum = sum.saturating_add(amount.cast_signed().saturating_mul(sign));
        }
    }

    /// As much of it as one charge can hold, if there is anything.
    fn charge(&self) -> Option<Charge> {
        let amounts = self.0.map(|sum| u64::try_from(sum).unwrap_or(0).min(MAX_COUNT));
        let [requests, input, output, credits] = amounts;
        if amounts == [0; 4] {
            return None;
        }
        let output = output.min(MAX_COUNT - input);
        let charge = Charge::request().with_requests(requests).ok()?.with_tokens(input, output);
        Some(charge.ok()?.with_credits(Credits::from_millionths(credits).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input: u64, output: u64) -> Charge {
        Charge::request().with_tokens(input, output).unwrap()
    }

    fn id(text: &str) -> Option<RequestId> {
        text.parse().ok()
    }

    fn send(debt: &mut Debt, new_id: &str) -> Option<Sending> {
        debt.send(Moment::now(), || id(new_id))
    }

    #[test]
    fn what_may_have_been_charged_keeps_its_id_until_it_is_confirmed() {
        let mut debt = Debt::default();
        debt.add(&tokens(1, 2));
        let first = send(&mut debt, "first").unwrap();
        debt.add(&tokens(3, 4));
        assert_eq!(send(&mut debt, "second"), Some(first.clone()));
        // Of two sends, one certainly did not arrive.
        debt.not_charged();
        assert_eq!(send(&mut debt, "second"), Some(first));
        debt.confirm();
        let second = send(&mut debt, "second").unwrap();
        assert_eq!((second.id, second.charge), (id("second").unwrap(), tokens(3, 4)));
        assert_eq!(second.confirms, None, "the first may still arrive again");
        debt.confirm();
        assert!(debt.is_settled());
    }

    #[test]
    fn what_certainly_was_not_charged_goes_with_what_is_owed_since() {
        let mut debt = Debt::default();
        debt.add(&tokens(1, 2));
        assert!(send(&mut debt, "first").is_some());
        debt.add(&tokens(3, 4));
        debt.not_charged();
        let second = send(&mut debt, "second").unwrap();
        assert_eq!(second.id, id("second").unwrap());
        assert_eq!(second.charge, tokens(4, 6).with_requests(2).unwrap());
    }

    #[test]
    fn what_was_sent_once_and_confirmed_is_confirmed_to_the_store_with_the_next() {
        let mut debt = Debt::default();
        for (new_id, confirms) in
            [("first", None), ("second", id("first")), ("third", id("second"))]
        {
            debt.add(&tokens(1, 2));
            assert_eq!(send(&mut debt, new_id).unwrap().confirms, confirms);
            debt.confirm();
        }
    }

    #[test]
    fn what_may_have_been_charged_is_given_up_when_the_store_may_have_forgotten_it() {
        let mut debt = Debt::default();
        debt.add(&tokens(1, 2));
        let (before, hour) = (Moment::now(), Duration::from_secs(3_600));
        assert!(debt.send(before, || id("first")).is_some());
        assert_eq!(debt.give_up(hour, Moment { steady: before.steady + hour, ..before }), None);
        let later = Moment { wall: before.wall + hour * 2, ..before };
        let steps_back = Moment { steady: later.steady, wall: before.wall - hour * 9 };
        assert_eq!(debt.give_up(hour, steps_back), None, "an hour has not passed on any clock");
        assert_eq!(debt.give_up(hour, later), Some(tokens(1, 2)), "the machine was asleep");
        assert!(debt.is_settled());
        debt.add(&tokens(3, 4));
        assert_eq!(debt.give_up(Duration::ZERO, later), None, "it was never sent");
        assert_eq!(send(&mut debt, "second").unwrap().charge, tokens(3, 4));
    }

    #[test]
    fn what_is_too_much_for_one_charge_goes_in_several() {
        let mut debt = Debt::default();
        debt.add(&tokens(MAX_COUNT, 0));
        debt.add(&tokens(0, 5));
        let Sending { charge: first, .. } = send(&mut debt, "first").unwrap();
        assert_eq!(
            (first.requests(), first.input_tokens(), first.output_tokens()),
            (2, MAX_COUNT, 0)
        );
        debt.confirm();
        let Sending { charge: second, .. } = send(&mut debt, "second").unwrap();
        assert_eq!((second.requests(), second.output_tokens()), (0, 5));
    }

    #[test]
    fn a_payment_above_the_actual_cost_reduces_the_next_one() {
        let mut debt = Debt::default();
        debt.add(&tokens(0, 10));
        assert!(send(&mut debt, "first").is_some());
        debt.confirm();
        debt.take_back(&tokens(0, 10));
        debt.add(&tokens(0, 4));
        assert!(debt.is_settled());
        debt.add(&tokens(0, 7));
        assert_eq!(send(&mut debt, "second").unwrap().charge.output_tokens(), 1);
    }
}
