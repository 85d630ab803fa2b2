//! `governor`: the keyed limiter most used in Rust, with its default store (a `DashMap`) and clock (the time stamp
//! counter, through `quanta`).

use std::hint::black_box;
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::subject::Subject;
use crate::workload::{Plan, Requests};
use crate::{ASSET, RULES};

/// One limit for each key: the least that a rate limiter can do, and the baseline of every ratio.
pub(crate) struct GovernorKeyed {
    limiter: DefaultKeyedRateLimiter<String>,
    requests: Requests<String>,
}

impl GovernorKeyed {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { limiter: RateLimiter::keyed(quota()), requests: plan.requests(str::to_owned) }
    }
}

impl Subject for GovernorKeyed {
    fn fill(&mut self, plan: &Plan) {
        plan.ids.iter().for_each(|id| check(&self.limiter, id));
    }

    #[inline]
    fn decide(&self, access: usize) {
        check(&self.limiter, &self.requests[access]);
    }
}

/// One limiter for each of our eight rules, each of them called: the cost of our rules with `governor`.
///
/// It does still less than our decision: nothing is taken back when a later rule denies, tokens count as one each, and
/// no remaining values are returned.
pub(crate) struct GovernorX8 {
    limiters: EightLimiters,
    requests: Requests<(String, String)>,
}

impl GovernorX8 {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { limiters: EightLimiters::new(), requests: plan.requests(key_and_scoped_key) }
    }
}

impl Subject for GovernorX8 {
    fn fill(&mut self, plan: &Plan) {
        for id in &plan.ids {
            self.limiters.check(&key_and_scoped_key(id));
        }
    }

    #[inline]
    fn decide(&self, access: usize) {
        self.limiters.check(&self.requests[access]);
    }
}

struct EightLimiters {
    global: [DefaultKeyedRateLimiter<String>; RULES / 2],
    of_asset: [DefaultKeyedRateLimiter<String>; RULES / 2],
}

impl EightLimiters {
    fn new() -> Self {
        Self {
            global: std::array::from_fn(|_| RateLimiter::keyed(quota())),
            of_asset: std::array::from_fn(|_| RateLimiter::keyed(quota())),
        }
    }

    #[inline]
    fn check(&self, (key, scoped_key): &(String, String)) {
        self.global.iter().for_each(|limiter| check(limiter, key));
        self.of_asset.iter().for_each(|limiter| check(limiter, scoped_key));
    }
}

/// Returns the keys of the global rules and of the asset's.
fn key_and_scoped_key(id: &str) -> (String, String) {
    (id.to_owned(), format!("{id}/{ASSET}"))
}

#[inline]
fn check(limiter: &DefaultKeyedRateLimiter<String>, key: &String) {
    let outcome = limiter.check_key(key);
    black_box(&outcome);
    assert!(outcome.is_ok());
}

/// Never denies, yet takes the usual path: the interval between two cells is rounded up to governor's least, one
/// nanosecond, and no decision is as short as that; each one reads the clock, compares and swaps the state.
fn quota() -> Quota {
    Quota::per_second(NonZeroU32::MAX)
}
