//! What the calls of a key and an asset need in the time of a lease: a moving average.

use std::time::Duration;

use limiter_core::{Charge, Credits, MAX_COUNT};

use crate::clock::Instant;

/// The average of the spans before, which are as long as a lease, and what this span has seen so far.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    average: Charge,
    seen: Charge,
    began: Instant,
}

impl Demand {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { average: Charge::NOTHING, seen: Charge::NOTHING, began: now }
    }

    #[inline]
    pub(crate) fn add(&mut self, charge: &Charge, now: Instant, span: Duration) {
        self.pass(now, span);
        self.seen = self.seen.plus(charge);
    }

    /// What is expected in the time of a lease. Calls that have just become many are seen at once.
    pub(crate) fn expected(&self) -> Charge {
        self.average.plus(&self.seen.beyond(&self.average))
    }

    /// Lets the time pass: each span counts three times as much as all before it together, so that shares follow demand.
    #[inline]
    pub(crate) fn pass(&mut self, now: Instant, span: Duration) {
        let passed = now.saturating_sub(self.began);
        if passed < span {
            return;
        }
        let spans = passed.as_nanos().checked_div(span.as_nanos().max(1)).unwrap_or(1);
        let seen = self.seen.plus(&self.seen).plus(&self.seen);
        self.average = quarter(&self.average.plus(&seen));
        // Spans without a call.
        for _ in 1..spans.min(32) {
            self.average = quarter(&self.average);
        }
        (self.seen, self.began) = (Charge::NOTHING, now);
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.average.requests() == 0 && self.seen.requests() == 0
    }
}

fn quarter(charge: &Charge) -> Charge {
    let quarter = |amount: u64| (amount / 4).min(MAX_COUNT);
    let charged = Charge::NOTHING.with_requests(quarter(charge.requests())).and_then(|quartered| {
        quartered.with_tokens(quarter(charge.input_tokens()), quarter(charge.output_tokens()))
    });
    let credits = Credits::from_millionths(quarter(charge.credits().millionths()));
    // The quarter of a charge is one.
    charged.unwrap_or(Charge::NOTHING).with_credits(credits.unwrap_or(Credits::ZERO))
}
