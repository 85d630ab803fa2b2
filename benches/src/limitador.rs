//! `limitador`: named limits over counters in memory (a `moka` cache), eight of them as our rules.

use std::collections::HashMap;
use std::hint::black_box;
use std::thread;

use limitador::limit::{Context, Expression, Limit, Namespace};
use limitador::{CheckResult, RateLimiter};

use crate::subject::Subject;
use crate::workload::{Plan, Requests};
use crate::{ASSET, RULES};

/// Eight limits in one namespace, four by key and four by key and asset, decided in one call of the sync API.
///
/// `check_rate_limited_and_update` fills in the rest of each counter (0.14 always does; up to 0.8 only with
/// `load_counters`), so the outcome has the same numbers as ours. It charges the same amount to every limit.
///
/// The context is made within the decision, because it cannot be made before. It holds the values of one request and
/// takes no others, and it is too big to keep one for each of a million keys.
pub(crate) struct Limitador8 {
    limiter: RateLimiter,
    namespace: Namespace,
    requests: Requests<String>,
}

impl Limitador8 {
    pub(crate) fn new(plan: &Plan) -> Self {
        let limiter = RateLimiter::new(capacity(plan.ids.len()));
        for limit in limits() {
            assert!(limiter.add_limit(limit), "limitador takes two limits for the same");
        }
        Self { limiter, namespace: namespace(), requests: plan.requests(str::to_owned) }
    }

    fn check(&self, key: &str) -> CheckResult {
        self.limiter
            .check_rate_limited_and_update(&self.namespace, &context(key, ASSET), 1)
            .expect("memory does not fail")
    }
}

impl Subject for Limitador8 {
    /// Fills with all threads: eight million counters take minutes.
    fn fill(&mut self, plan: &Plan) {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = plan.ids.len().div_ceil(threads);
        thread::scope(|scope| {
            for ids in plan.ids.chunks(share) {
                let this = &*self;
                scope.spawn(move || {
                    for id in ids {
                        assert!(!this.check(id).limited);
                    }
                });
            }
        });
    }

    #[inline]
    fn decide(&self, access: usize) {
        let outcome = self.check(&self.requests[access]);
        black_box(&outcome);
        assert!(!outcome.limited);
    }
}

/// Returns the eight limits, for any storage.
#[must_use]
pub fn limits() -> Vec<Limit> {
    WINDOWS_SECONDS.into_iter().flat_map(|seconds| limits_of(u64::MAX, seconds)).collect()
}

/// Returns two limits of `most` calls in a window of `seconds`: one by key, one by key and asset.
pub fn limits_of(most: u64, seconds: u64) -> impl Iterator<Item = Limit> {
    let scopes = [&["key"][..], &["key", "asset"]];
    scopes.into_iter().map(move |variables| {
        let variable = |name: &&str| Expression::parse(*name).expect("a name is an expression");
        Limit::new(namespace(), most, seconds, [], variables.iter().map(variable))
    })
}

/// Returns the namespace of the limits.
#[must_use]
pub fn namespace() -> Namespace {
    Namespace::from("calls")
}

/// Returns the values of one request.
#[must_use]
pub fn context(key: &str, asset: &str) -> Context<'static> {
    Context::from(HashMap::from([
        ("key".to_owned(), key.to_owned()),
        ("asset".to_owned(), asset.to_owned()),
    ]))
}

/// Returns room for every counter, twice: the cache evicts counters beyond it, which then start again.
fn capacity(keys: usize) -> u64 {
    (keys * RULES * 2) as u64
}

/// The minute and the day, for requests and for tokens. Limits are distinguished by namespace, window and variables
/// alone, so those of the tokens last a second longer.
const WINDOWS_SECONDS: [u64; RULES / 2] = [60, 61, 86_400, 86_401];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    /// A counter that was evicted would have forgotten the fill.
    #[test]
    fn no_counter_is_evicted() {
        let plan = Plan::shortened(Workload::Uniform100k, 1_024);
        let mut subject = Limitador8::new(&plan);
        subject.fill(&plan);
        for id in &plan.ids {
            let outcome = subject.check(id);
            assert_eq!(outcome.counters.len(), RULES);
            for counter in outcome.counters {
                assert_eq!(counter.remaining(), Some(u64::MAX - 2));
            }
        }
    }
}
