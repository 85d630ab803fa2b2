//! Calls to the store: within a deadline, and refused at once while the breaker is open.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use limiter_core::{
    BoxError, CallError, Crossing, FailureDomain, KeyDigest, KeyFailure, KeyId, LateEvent,
    Listener, Store, StoreError, Throttle,
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::breaker::{BreakerState, Turn};
use crate::breakers::{Admission, Breakers, Witness};
use crate::error::{Outage, with_causes};
use crate::later::Later;
use crate::local::Local;
use crate::metrics::LateFigures;
use crate::runtime::{NoRuntime, in_runtime};

/// The store, as soon as it is connected, and its breakers.
///
/// The breakers are behind a lock that is held for a few instructions and never across a call.
pub(crate) struct Asking {
    pub(crate) store: OnceLock<Arc<dyn Store>>,
    pub(crate) connect: Option<Connect>,
    pub(crate) breakers: Mutex<Breakers>,
    pub(crate) timing: Timing,
    /// Whether the recovery task runs: there is one at most.
    pub(crate) recovering: AtomicBool,
    /// The time of the last successful probe.
    pub(crate) came_back: Mutex<Option<Instant>>,
    /// Throttles the warnings that a part of the store is given up.
    pub(crate) warnings: Throttle,
    /// Ends of reservations for the store, once it is back.
    pub(crate) later: Later,
    /// Held by the one task that replays late operations to the store.
    pub(crate) catching_up: tokio::sync::Mutex<()>,
    /// Counts the operations that the store receives late.
    pub(crate) late: LateFigures,
    /// Throttles the warnings about operations that the store refuses.
    pub(crate) refusals: Throttle,
    /// The keys that this process can decide for, by the policy `LocalShare`.
    pub(crate) local: Option<Local>,
    /// Gets the events of late operations, and those of the store itself.
    pub(crate) listener: OnceLock<Listener>,
}

/// Connects to the store, if that is done later.
pub(crate) type Connect = Box<dyn Fn() -> Connecting + Send + Sync>;
pub(crate) type Connecting = Pin<Box<dyn Future<Output = Result<Arc<dyn Store>, BoxError>> + Send>>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) deadline: Duration,
    pub(crate) connect_deadline: Duration,
    pub(crate) probe_every: Duration,
}

/// The subject of a call, which decides the part of the store that serves it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject<'a> {
    Key(&'a KeyId),
    AccessKey(&'a KeyDigest),
    /// Several keys, as in a listing. In a store with parts, the outcome of such a call counts for no part. The call is
    /// sent even while some parts are given up.
    Several,
}

/// The effect of a call on the store, which decides the meaning of an answer that does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    Reads,
    Charges,
    /// It changes a key: rarely, in several steps, and not at the store's fault if another change is under way.
    ChangesKeys,
}

impl Asking {
    /// Reports the thresholds that a late payment has reached.
    pub(crate) fn crossed(&self, key: &KeyId, crossed: &[Crossing]) {
        if !crossed.is_empty() {
            self.report(key, LateEvent::Crossed(crossed));
        }
    }

    /// Reports a change that is not the answer to a call.
    pub(crate) fn report(&self, key: &KeyId, event: LateEvent<'_>) {
        if let Some(listener) = self.listener.get() {
            listener(key, event);
        }
    }

    /// Takes over a store that has just been connected, unless one is there, and passes its events on.
    pub(crate) fn take(self: &Arc<Self>, store: Arc<dyn Store>) -> &dyn Store {
        &**self.store.get_or_init(|| {
            // The store does not keep its guard alive.
            let asking = Arc::downgrade(self);
            store.listen(Box::new(move |key, event| {
                if let Some(asking) = asking.upgrade() {
                    asking.report(key, event);
                }
            }));
            store
        })
    }

    /// The store, once it has been connected.
    pub(crate) fn store(&self) -> Option<&dyn Store> {
        self.store.get().map(|store| &**store)
    }

    /// Calls the store. Returns an error at once if the part that serves the subject is given up.
    pub(crate) async fn ask<'a, T, E, F>(
        self: &'a Arc<Self>,
        subject: impl Into<Subject<'a>>,
        effect: Effect,
        call: impl FnOnce(&'a dyn Store) -> F,
    ) -> Result<T, E>
    where
        E: CallError,
        F: Future<Output = Result<T, E>>,
    {
        let subject = subject.into();
        let asked = in_runtime(async {
            let (store, admitted) = self.admit(subject, effect).inspect_err(|_| {
                // The recovery task is gone if its runtime is, or if there was none.
                self.recover();
            })?;
            let deadline = self.timing.deadline * effect.steps();
            let leaving = Leaving { asking: self, admitted, began: Instant::now() };
            let answer = match timeout(deadline, call(store)).await {
                Ok(answer) => answer,
                Err(_) => Err(effect.unanswered(Outage::Deadline { after: deadline }).into()),
            };
            if let Some(admitted) = leaving.stays() {
                match &answer {
                    Err(error) if error.is_outage() => self.failed(&admitted, error),
                    _ => self.breakers.lock().succeeded(&admitted.domain, admitted.turn),
                }
            }
            answer
        });
        asked.await.unwrap_or_else(|outside| {
            Err(match outside {
                NoRuntime::NotBegun => StoreError::unavailable(Outage::NoRuntime).into(),
                NoRuntime::Left => effect.unanswered(Outage::NoRuntime).into(),
            })
        })
    }

    /// The store, and the breaker that counts the outcome of the call, if one does.
    fn admit<'a>(
        &'a self,
        subject: Subject<'a>,
        effect: Effect,
    ) -> Result<(&'a dyn Store, Option<Admitted<'a>>), StoreError> {
        let store = self.store();
        let domain = store.map_or(FailureDomain::WHOLE, |store| subject.domain(store));
        let admission = self.breakers.lock().admit(&domain, || subject.witness());
        let Admission { turn, is_first } = admission
            .map_err(|last_failure| StoreError::unavailable(Outage::GivenUp { last_failure }))?;
        let Some(store) = store else { return Err(self.given_up(&domain)) };
        if is_first {
            self.forget_moved(store);
        }
        let counts = effect != Effect::ChangesKeys && subject.is_served_by(&domain, store);
        Ok((store, counts.then_some(Admitted { subject, domain, turn })))
    }

    /// Forgets the parts that no longer serve their witnesses. It runs when a part is new: another may have gone.
    fn forget_moved(&self, store: &dyn Store) {
        let witnesses = self.breakers.lock().witnesses();
        for (domain, witness) in witnesses {
            if witness.domain(store) != domain {
                self.breakers.lock().forget(&domain);
            }
        }
    }

    fn failed(self: &Arc<Self>, admitted: &Admitted<'_>, error: &impl CallError) {
        let Admitted { subject, domain, turn } = admitted;
        match (failed_key(error), self.store()) {
            // The part that serves the subject has answered.
            (Some(key), Some(store)) => {
                let of_key = store.failure_domain(key);
                let mut breakers = self.breakers.lock();
                breakers.succeeded(domain, *turn);
                let admission = breakers.admit(&of_key, || Witness::Key(key.clone()));
                drop(breakers);
                if let Ok(Admission { turn, .. }) = admission {
                    self.count_failure(&of_key, turn, Subject::Key(key), with_causes(error));
                }
            }
            _ => self.count_failure(domain, *turn, *subject, with_causes(error)),
        }
    }

    fn count_failure(
        self: &Arc<Self>,
        domain: &FailureDomain,
        turn: Turn,
        subject: Subject<'_>,
        failure: Arc<str>,
    ) {
        if self.breakers.lock().failed(domain, turn, &failure, || subject.witness()) {
            if let Some(suppressed) = self.warnings.admit(std::time::Instant::now()) {
                tracing::warn!(%failure, suppressed, "{domain} is given up until it answers a probe");
            }
            self.recover();
        }
    }

    /// The error for a call to a part that is given up.
    fn given_up(&self, domain: &FailureDomain) -> StoreError {
        let last_failure = self.breakers.lock().last_failure(domain);
        StoreError::unavailable(Outage::GivenUp { last_failure })
    }

    /// The immediate error for a call about this key, if the part of the store that serves it is given up.
    pub(crate) fn refusal_of(&self, key: &KeyId) -> Option<StoreError> {
        (!self.is_closed_for(key)).then(|| self.given_up(&self.domain_of(key)))
    }

    /// Whether the breaker of the part that serves this key is closed.
    pub(crate) fn is_closed_for(&self, key: &KeyId) -> bool {
        self.state_for(key) == BreakerState::Closed
    }

    pub(crate) fn state_for(&self, key: &KeyId) -> BreakerState {
        let domain = self.domain_of(key);
        self.breakers.lock().state_of(&domain)
    }

    /// Whether every breaker of the store is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.breakers.lock().state() == BreakerState::Closed
    }

    /// Whether the store is connected and its own breaker closed, though parts of it may be given up.
    pub(crate) fn is_there(&self) -> bool {
        self.breakers.lock().state_of(&FailureDomain::WHOLE) == BreakerState::Closed
    }

    fn domain_of(&self, key: &KeyId) -> FailureDomain {
        self.store().map_or(FailureDomain::WHOLE, |store| store.failure_domain(key))
    }
}

/// The breaker that counts the outcome of a call, and the call's subject.
#[derive(Debug)]
struct Admitted<'a> {
    subject: Subject<'a>,
    domain: FailureDomain,
    turn: Turn,
}

/// A call under way. If the caller leaves after it has waited long enough, the call counts as a failure. If the caller
/// leaves sooner, the call does not count.
struct Leaving<'a> {
    asking: &'a Arc<Asking>,
    admitted: Option<Admitted<'a>>,
    began: Instant,
}

impl<'a> Leaving<'a> {
    /// Ends the watch: the caller is still there at the end of the call.
    fn stays(mut self) -> Option<Admitted<'a>> {
        self.admitted.take()
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let waited = self.began.elapsed();
        let enough = (self.asking.timing.deadline / PART_OF_DEADLINE).max(SHORTEST_WAIT);
        if let Some(Admitted { subject, domain, turn }) = self.admitted.take()
            && waited >= enough
            && !thread::panicking()
        {
            let failure = format!("a caller left after {waited:?} without an answer");
            self.asking.count_failure(&domain, turn, subject, failure.into());
        }
    }
}

impl Subject<'_> {
    fn domain(self, store: &dyn Store) -> FailureDomain {
        match self {
            Self::Key(key) => store.failure_domain(key),
            Self::AccessKey(digest) => store.lookup_domain(digest),
            Self::Several => FailureDomain::WHOLE,
        }
    }

    /// Whether the outcome of the call counts for this part.
    fn is_served_by(self, domain: &FailureDomain, store: &dyn Store) -> bool {
        match self {
            Self::Key(_) | Self::AccessKey(_) => true,
            Self::Several => Witness::Nobody.domain(store) == *domain,
        }
    }

    fn witness(self) -> Witness {
        match self {
            Self::Key(key) => Witness::Key(key.clone()),
            Self::AccessKey(digest) => Witness::AccessKey(*digest),
            Self::Several => Witness::Nobody,
        }
    }
}

impl<'a> From<&'a KeyId> for Subject<'a> {
    fn from(key: &'a KeyId) -> Self {
        Self::Key(key)
    }
}

impl<'a> From<&'a KeyDigest> for Subject<'a> {
    fn from(digest: &'a KeyDigest) -> Self {
        Self::AccessKey(digest)
    }
}

impl Effect {
    fn unanswered(self, outage: Outage) -> StoreError {
        match self {
            Self::Reads => StoreError::unavailable(outage),
            Self::Charges | Self::ChangesKeys => StoreError::outcome_unknown(outage),
        }
    }

    /// How many deadlines it may take.
    const fn steps(self) -> u32 {
        match self {
            Self::Reads | Self::Charges => 1,
            Self::ChangesKeys => MANAGEMENT_STEPS,
        }
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking")
            .field("store", &self.store())
            .field("breakers", &*self.breakers.lock())
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// The key whose part of the store failed, if the error names one.
pub(crate) fn failed_key(error: &impl CallError) -> Option<&KeyId> {
    let cause = std::error::Error::source(error.of_store()?)?;
    cause.downcast_ref().map(KeyFailure::key)
}

/// A key is created in four steps on Redis, and a hundred keys in as long as some thirty: this leaves room for steps that
/// have to be repeated.
const MANAGEMENT_STEPS: u32 = 10;
/// A caller that leaves after a tenth of the deadline has waited for much longer than an answer takes. If the store is
/// merely slow, the calls that it answers in between keep the breaker closed.
const PART_OF_DEADLINE: u32 = 10;
/// A caller that leaves sooner has not waited for the store.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::Ordering;

    use limiter_core::{
        Charge, KeyConfig, KeyKind, Limits, NewRecord, Plan, PlanUpdate, Thresholds,
    };
    use limiter_memory::MemoryStore;
    use limiter_test_servers::Log;
    use tokio::time::sleep;
    use tracing::Level;

    use super::*;
    use crate::{FailurePolicy, GuardedStore, GuardedStoreBuilder};

    const DEADLINE: Duration = Duration::from_millis(600);

    fn guarded() -> GuardedStore {
        GuardedStoreBuilder::new(FailurePolicy::FailClosed)
            .deadline(DEADLINE)
            .probe_every(Duration::from_secs(600))
            .guard(MemoryStore::new())
    }

    fn key() -> KeyId {
        "ci".parse().unwrap()
    }

    /// A call that gets no answer from the store.
    async fn call(store: &GuardedStore, effect: Effect) -> StoreError {
        let call = |_: &dyn Store| pending::<Result<(), StoreError>>();
        store.asking().ask(&key(), effect, call).await.unwrap_err()
    }

    /// Starts such a call, and drops it before the deadline.
    async fn leave_after(store: &GuardedStore, patience: Duration) {
        let left = timeout(patience, call(store, Effect::Charges)).await;
        assert!(left.is_err(), "{left:?}");
    }

    /// Makes 8 of 100 calls, and then the plan allows 10. Returns the percents that were fired.
    async fn fired_by_a_plan(store: GuardedStore, inner: &MemoryStore) -> Vec<u8> {
        let (workspace, key) = ("home".parse().unwrap(), key());
        let plan = |requests| {
            let limits = Limits::builder().requests_per_day(requests).build().unwrap();
            PlanUpdate::new("free".parse().unwrap(), Plan::default().with_global(limits)).at_once()
        };
        store.save_plan(&workspace, &plan(100)).await.unwrap();
        let new = NewRecord {
            id: key.clone(),
            workspace: workspace.clone(),
            kind: KeyKind::Member,
            config: KeyConfig::named("ci").unwrap().with_plan("free".parse().unwrap()),
            thresholds: Thresholds::DEFAULT,
            secret: None,
            bootstraps: false,
        };
        store.create(new).await.unwrap();
        let (fires, fired) = std::sync::mpsc::channel();
        store.listen(Box::new(move |_, event| {
            let LateEvent::Crossed(crossed) = event else { panic!("{event:?}") };
            crossed.iter().for_each(|crossing| fires.send(crossing.percent).unwrap());
        }));
        let call = |requests| Charge::request().with_requests(requests).unwrap();
        let charged = store.check_and_consume(&key, None, &call(8)).await.unwrap();
        assert!(charged.is_charged());
        store.save_plan(&workspace, &plan(10)).await.unwrap();
        assert!(store.check_and_consume(&key, None, &call(1)).await.unwrap().is_charged());
        drop(store);
        // The listener of the guard is gone with it.
        inner.save_plan(&workspace, &plan(9)).unwrap();
        assert!(inner.check_and_consume(&key, None, &call(1)).denied().is_some());
        fired.into_iter().collect()
    }

    #[tokio::test]
    async fn thresholds_that_a_plan_reaches_are_reported_by_a_store_that_is_there_or_comes_late() {
        let inner = MemoryStore::new();
        let builder = GuardedStoreBuilder::new(FailurePolicy::FailClosed);
        assert_eq!(fired_by_a_plan(builder.guard(inner.clone()), &inner).await, [80]);

        let (inner, failed) = (MemoryStore::new(), Arc::new(AtomicBool::new(false)));
        let connects_to = inner.clone();
        let connect = move || {
            let is_there = failed.swap(true, Ordering::Relaxed);
            let (store, refused) = (connects_to.clone(), BoxError::from("not yet"));
            async move { if is_there { Ok(store) } else { Err(refused) } }
        };
        let store = builder.probe_every(Duration::from_millis(1)).connect(connect).await;
        while store.breaker() != BreakerState::Closed {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(fired_by_a_plan(store, &inner).await, [80]);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_leave_after_they_have_waited_open_the_breaker() {
        let store = guarded();
        for _ in 0..3 {
            assert_eq!(store.breaker(), BreakerState::Closed);
            leave_after(&store, DEADLINE / 2).await;
        }
        assert_eq!(store.breaker(), BreakerState::Open);
        let refused = call(&store, Effect::Charges).await;
        let Some(Outage::GivenUp { last_failure }) =
            std::error::Error::source(&refused).and_then(|source| source.downcast_ref())
        else {
            panic!("{refused:?}")
        };
        assert!(last_failure.contains("300ms"), "{last_failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_leave_at_once_and_those_that_change_keys_say_nothing() {
        let store = guarded();
        for _ in 0..100 {
            leave_after(&store, Duration::ZERO).await;
            leave_after(&store, DEADLINE / PART_OF_DEADLINE - SHORTEST_WAIT).await;
        }
        for _ in 0..10 {
            assert!(timeout(DEADLINE, call(&store, Effect::ChangesKeys)).await.is_err());
        }
        assert_eq!(store.breaker(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_between_callers_that_leave_keeps_the_breaker_closed() {
        let store = guarded();
        let key = key();
        for _ in 0..10 {
            leave_after(&store, DEADLINE / 2).await;
            leave_after(&store, DEADLINE / 2).await;
            let call = |_: &dyn Store| async {
                sleep(DEADLINE / 2).await;
                Ok::<_, StoreError>(())
            };
            assert!(store.asking().ask(&key, Effect::Charges, call).await.is_ok());
        }
        assert_eq!(store.breaker(), BreakerState::Closed);
    }

    /// Such a server answers probes and cannot serve calls, for example because it is out of memory.
    #[tokio::test(start_paused = true)]
    async fn a_store_that_comes_back_and_fails_again_is_warned_of_once() {
        let log = Log::listen(Level::WARN);
        let (store, key) = (guarded(), key());
        for _ in 0..20 {
            while store.breaker() == BreakerState::Closed {
                let fails = async |_: &dyn Store| Err::<(), _>(StoreError::unavailable("full"));
                assert!(store.asking().ask(&key, Effect::Charges, fails).await.is_err());
            }
            while store.breaker() != BreakerState::Closed {
                sleep(Duration::from_secs(1)).await;
            }
        }
        let warnings = log.lines_with("is given up");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
}
