//! What was allowed here and the store does not know yet.

use limiter_core::{Charge, Credits, MAX_COUNT, RequestId};

/// What one key owes for one asset, and the part of it that is on its way to the store.
///
/// That part keeps its id until the store has confirmed it, so that it counts once, however often it is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Debt {
    owed: Sums,
    on_its_way: Option<(RequestId, Charge)>,
}

/// Below zero where a call that the store knows by its estimate did cost less in the end: that stands, and is made up for by what
/// comes next.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    requests: i64,
    input: i64,
    output: i64,
    credits: i64,
}

impl Debt {
    pub(crate) fn add(&mut self, charge: &Charge) {
        self.owed.add(charge, 1);
    }

    pub(crate) fn take_back(&mut self, charge: &Charge) {
        self.owed.add(charge, -1);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.on_its_way.is_none() && self.owed.charge().is_none()
    }

    /// What to tell the store: what it has not confirmed, or all that is owed now, under a new id.
    pub(crate) fn send(
        &mut self,
        new_id: impl FnOnce() -> Option<RequestId>,
    ) -> Option<(RequestId, Charge)> {
        if self.on_its_way.is_none() {
            let charge = self.owed.charge()?;
            let id = new_id()?;
            self.owed.add(&charge, -1);
            self.on_its_way = Some((id, charge));
        }
        self.on_its_way.clone()
    }

    pub(crate) fn confirm(&mut self) {
        self.on_its_way = None;
    }
}

impl Sums {
    fn add(&mut self, charge: &Charge, sign: i64) {
        // Each is at most 2^53 - 1.
        let signed = |amount: u64| amount.cast_signed().saturating_mul(sign);
        self.requests = self.requests.saturating_add(signed(charge.requests()));
        self.input = self.input.saturating_add(signed(charge.input_tokens()));
        self.output = self.output.saturating_add(signed(charge.output_tokens()));
        self.credits = self.credits.saturating_add(signed(charge.credits().millionths()));
    }

    /// As much of it as one charge can hold, if there is anything.
    fn charge(&self) -> Option<Charge> {
        let amount = |sum: i64| u64::try_from(sum).unwrap_or(0).min(MAX_COUNT);
        let (requests, credits) = (amount(self.requests), amount(self.credits));
        let input = amount(self.input);
        let output = amount(self.output).min(MAX_COUNT - input);
        if (requests, credits, input, output) == (0, 0, 0, 0) {
            return None;
        }
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

    #[test]
    fn what_is_on_its_way_keeps_its_id_until_it_is_confirmed() {
        let mut debt = Debt::default();
        debt.add(&tokens(1, 2));
        let first = debt.send(|| id("first")).unwrap();
        debt.add(&tokens(3, 4));
        assert_eq!(debt.send(|| id("second")), Some(first));
        debt.confirm();
        assert_eq!(debt.send(|| id("second")), Some((id("second").unwrap(), tokens(3, 4))));
        debt.confirm();
        assert!(debt.is_settled());
    }

    #[test]
    fn what_is_too_much_for_one_charge_goes_in_several() {
        let mut debt = Debt::default();
        debt.add(&tokens(MAX_COUNT, 0));
        debt.add(&tokens(0, 5));
        let (_, first) = debt.send(|| id("first")).unwrap();
        assert_eq!(
            (first.requests(), first.input_tokens(), first.output_tokens()),
            (2, MAX_COUNT, 0)
        );
        debt.confirm();
        let (_, second) = debt.send(|| id("second")).unwrap();
        assert_eq!((second.requests(), second.output_tokens()), (0, 5));
    }

    #[test]
    fn what_was_told_by_its_estimate_and_did_cost_less_is_made_up_for() {
        let mut debt = Debt::default();
        debt.add(&tokens(0, 10));
        assert!(debt.send(|| id("first")).is_some());
        debt.confirm();
        debt.take_back(&tokens(0, 10));
        debt.add(&tokens(0, 4));
        assert!(debt.is_settled());
        debt.add(&tokens(0, 7));
        assert_eq!(debt.send(|| id("second")).unwrap().1.output_tokens(), 1);
    }
}
