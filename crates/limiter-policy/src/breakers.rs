//! The circuit breakers of a store: one for each part that fails on its own.

use std::num::NonZeroUsize;
use std::sync::Arc;

use limiter_core::{FailureDomain, KeyDigest, KeyId};
use lru::LruCache;

use crate::breaker::{Breaker, BreakerState, Turn};

/// One breaker for the whole store, and one for each of its parts that was called.
///
/// The breaker of the whole store is open until the store is connected. Afterwards it counts the calls of a store that
/// fails as one. Calls of a store with parts count for their part.
#[derive(Debug)]
pub(crate) struct Breakers {
    whole: Part,
    /// Ordered by the last call.
    parts: LruCache<FailureDomain, Part>,
    most_failures: u32,
    /// How many breakers were made for parts.
    made: u64,
}

/// A part of the store.
#[derive(Debug)]
struct Part {
    breaker: Breaker,
    last_failure: Arc<str>,
    /// The subject of the first call or of the last failed call; a probe asks about it too.
    witness: Witness,
}

/// The subject of a probe, which changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// A key that need not exist, so any server of the store can answer.
    Nobody,
    Key(KeyId),
    AccessKey(KeyDigest),
}

/// A call that may be sent. Its outcome is reported with the turn.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) turn: Turn,
    /// Whether it is the first call to this part.
    pub(crate) is_first: bool,
}

impl Breakers {
    /// Creates closed breakers. A part is given up after `most_failures` failures in a row.
    pub(crate) fn new(most_failures: u32) -> Self {
        Self {
            whole: Part::new(Breaker::new(most_failures, 0), Witness::Nobody),
            parts: LruCache::new(MOST_PARTS),
            most_failures,
            made: 0,
        }
    }

    /// The worst state of all breakers.
    pub(crate) fn state(&self) -> BreakerState {
        let states = || self.all().map(|part| part.breaker.state());
        [BreakerState::Open, BreakerState::HalfOpen]
            .into_iter()
            .find(|worst| states().any(|state| state == *worst))
            .unwrap_or(BreakerState::Closed)
    }

    /// The state that applies to calls to this part. A part without calls is closed.
    pub(crate) fn state_of(&self, domain: &FailureDomain) -> BreakerState {
        let whole = self.whole.breaker.state();
        let part = if domain.is_whole() { None } else { self.parts.peek(domain) };
        match part {
            Some(part) if whole == BreakerState::Closed => part.breaker.state(),
            _ => whole,
        }
    }

    /// Admits a call to this part, or refuses it with the reason why the part is given up.
    pub(crate) fn admit(
        &mut self,
        domain: &FailureDomain,
        witness: impl FnOnce() -> Witness,
    ) -> Result<Admission, Arc<str>> {
        if domain.is_whole() || self.whole.breaker.state() != BreakerState::Closed {
            return self.whole.admit(false);
        }
        match self.parts.get(domain) {
            Some(part) => part.admit(false),
            None => self.add(domain, witness()).admit(true),
        }
    }

    /// Why the part was given up, or its last failure.
    pub(crate) fn last_failure(&self, domain: &FailureDomain) -> Arc<str> {
        let part = self.parts.peek(domain).filter(|_| self.whole.breaker.admit().is_some());
        Arc::clone(&part.unwrap_or(&self.whole).last_failure)
    }

    pub(crate) fn succeeded(&mut self, domain: &FailureDomain, began: Turn) {
        if let Some(part) = self.part(domain) {
            part.breaker.succeeded(began);
        }
    }

    /// Counts a failure, and returns whether it opened the breaker of the part.
    pub(crate) fn failed(
        &mut self,
        domain: &FailureDomain,
        began: Turn,
        failure: &Arc<str>,
        witness: impl FnOnce() -> Witness,
    ) -> bool {
        let Some(part) = self.part(domain) else { return false };
        if part.breaker.admit() == Some(began) {
            part.last_failure = Arc::clone(failure);
            if !domain.is_whole() {
                part.witness = witness();
            }
        }
        part.breaker.failed(began)
    }

    /// Opens the breaker of the whole store: it is not connected yet.
    pub(crate) fn open_whole(&mut self) {
        self.whole.breaker.open();
    }

    /// Begins a probe of each part that is given up, or of the whole store alone if its breaker is open.
    pub(crate) fn begin_probes(&mut self) -> Vec<(FailureDomain, Witness)> {
        if self.whole.breaker.begin_probe() {
            return vec![(FailureDomain::WHOLE, self.whole.witness.clone())];
        }
        let parts = self.parts.iter_mut().filter_map(|(domain, part)| {
            part.breaker.begin_probe().then(|| (domain.clone(), part.witness.clone()))
        });
        parts.collect()
    }

    pub(crate) fn end_probe(&mut self, domain: &FailureDomain, outcome: Result<(), Arc<str>>) {
        if let Some(part) = self.part(domain) {
            part.breaker.end_probe(outcome.is_ok());
            if let Err(failure) = outcome {
                part.last_failure = failure;
            }
        }
    }

    /// Ends the probes that are still open as failed: their task has gone.
    pub(crate) fn abandon_probes(&mut self) {
        self.whole.breaker.end_probe(false);
        for (_, part) in self.parts.iter_mut() {
            part.breaker.end_probe(false);
        }
    }

    /// The witness of each part.
    pub(crate) fn witnesses(&self) -> Vec<(FailureDomain, Witness)> {
        let parts = self.parts.iter().map(|(domain, part)| (domain.clone(), part.witness.clone()));
        parts.collect()
    }

    /// Forgets a part that serves no keys any more.
    pub(crate) fn forget(&mut self, domain: &FailureDomain) {
        self.parts.pop(domain);
    }

    fn add(&mut self, domain: &FailureDomain, witness: Witness) -> &mut Part {
        self.made += 1;
        let (most_failures, made) = (self.most_failures, self.made);
        self.parts.get_or_insert_mut(domain.clone(), || {
            Part::new(Breaker::new(most_failures, made), witness)
        })
    }

    fn part(&mut self, domain: &FailureDomain) -> Option<&mut Part> {
        if domain.is_whole() { Some(&mut self.whole) } else { self.parts.peek_mut(domain) }
    }

    fn all(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.whole).chain(self.parts.iter().map(|(_, part)| part))
    }
}

impl Part {
    fn new(breaker: Breaker, witness: Witness) -> Self {
        Self { breaker, last_failure: Arc::from("nothing has failed"), witness }
    }

    fn admit(&self, is_first: bool) -> Result<Admission, Arc<str>> {
        let turn = self.breaker.admit().ok_or_else(|| Arc::clone(&self.last_failure))?;
        Ok(Admission { turn, is_first })
    }
}

/// A Redis cluster has at most some 1,000 nodes. Beyond that, the parts with the oldest calls are forgotten; their next
/// call starts a new breaker.
const MOST_PARTS: NonZeroUsize = NonZeroUsize::new(1_024).expect("it is more than zero");

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> FailureDomain {
        FailureDomain::named(name)
    }

    fn witness(id: &str) -> impl Fn() -> Witness {
        let key = Witness::Key(id.parse().unwrap());
        move || key.clone()
    }

    fn admitted(breakers: &mut Breakers, domain: &FailureDomain) -> Option<Turn> {
        breakers.admit(domain, witness("first")).ok().map(|admission| admission.turn)
    }

    fn fail(breakers: &mut Breakers, domain: &FailureDomain, why: &str) -> bool {
        let turn = admitted(breakers, domain).unwrap();
        breakers.failed(domain, turn, &why.into(), witness("last"))
    }

    #[test]
    fn a_part_that_fails_is_given_up_alone_and_probed_by_the_key_that_failed_last() {
        let mut breakers = Breakers::new(2);
        let (dead, alive) = (part("dead"), part("alive"));
        assert!(admitted(&mut breakers, &alive).is_some());
        assert!(!fail(&mut breakers, &dead, "cable cut"));
        assert!(fail(&mut breakers, &dead, "still cut"));
        assert!(admitted(&mut breakers, &dead).is_none());
        assert_eq!(&*breakers.last_failure(&dead), "still cut");
        assert!(admitted(&mut breakers, &alive).is_some());
        assert_eq!(breakers.state(), BreakerState::Open);
        assert_eq!(breakers.state_of(&alive), BreakerState::Closed);

        assert_eq!(breakers.begin_probes(), [(dead.clone(), witness("last")())]);
        assert_eq!(breakers.begin_probes(), []);
        assert_eq!(breakers.state(), BreakerState::HalfOpen);
        breakers.end_probe(&dead, Ok(()));
        assert!(admitted(&mut breakers, &dead).is_some());
        assert_eq!(breakers.state(), BreakerState::Closed);
    }

    #[test]
    fn without_a_store_every_part_is_refused_and_one_probe_looks_for_it() {
        let mut breakers = Breakers::new(1);
        assert!(fail(&mut breakers, &part("dead"), "cable cut"));
        breakers.open_whole();
        assert!(admitted(&mut breakers, &part("alive")).is_none());
        assert_eq!(breakers.state_of(&part("alive")), BreakerState::Open);
        assert_eq!(breakers.begin_probes(), [(FailureDomain::WHOLE, Witness::Nobody)]);
        breakers.abandon_probes();
        assert_eq!(breakers.begin_probes().len(), 1);
        breakers.end_probe(&FailureDomain::WHOLE, Ok(()));
        assert!(admitted(&mut breakers, &part("alive")).is_some());
        assert!(admitted(&mut breakers, &part("dead")).is_none());
    }

    #[test]
    fn a_call_to_a_part_that_was_forgotten_says_nothing_about_its_successor() {
        let mut breakers = Breakers::new(1);
        let dead = part("dead");
        let before = admitted(&mut breakers, &dead).unwrap();
        breakers.forget(&dead);
        assert!(!breakers.failed(&dead, before, &"late".into(), witness("last")));
        let now = admitted(&mut breakers, &dead).unwrap();
        assert!(!breakers.failed(&dead, before, &"late".into(), witness("last")));
        assert!(breakers.failed(&dead, now, &"cable cut".into(), witness("last")));
    }

    #[test]
    fn of_too_many_parts_the_one_that_was_called_least_recently_is_forgotten() {
        let mut breakers = Breakers::new(1);
        assert!(fail(&mut breakers, &part("first"), "cable cut"));
        for number in 0..MOST_PARTS.get() {
            assert!(admitted(&mut breakers, &part(&number.to_string())).is_some());
        }
        assert_eq!(breakers.witnesses().len(), MOST_PARTS.get());
        assert_eq!(breakers.state_of(&part("first")), BreakerState::Closed);
    }
}
