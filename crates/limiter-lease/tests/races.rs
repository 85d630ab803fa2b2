//! What happens to leases while a call is under way: another call, a change of the key, the end of the caller or of its runtime.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use limiter_conformance::fixtures::{limits, named, requests_per_day};
use limiter_conformance::{Around, Called, Interpose};
use limiter_core::{
    Allowed, CallError, Charge, Decision, Effective, KeyConfig, KeyId, KeyKind, KeyUpdate,
    NewRecord, Store, StoreError, Thresholds, Totals, WorkspaceId,
};
use limiter_lease::LeasedStore;
use limiter_memory::MemoryStore;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The update is on its way. Whoever calls meanwhile is decided by the limits of before, and after it by the new ones.
#[tokio::test]
async fn no_lease_is_taken_while_a_limit_is_lowered() {
    let scene = Scene::new(LONG);
    let key = scene.member("busy", named("busy").with_global(requests_per_day(1_000_000)));
    scene.take_a_lease(&key).await;
    scene.hold("update", When::Before);
    let updating = tokio::spawn({
        let (store, version) =
            (scene.store.clone(), scene.inner.read(&key).expect("it is there").version);
        let config = named("busy").with_global(requests_per_day(1));
        let (id, effective, thresholds) = (key.clone(), Effective::Now, Thresholds::NONE);
        let update = KeyUpdate { id, version, config, effective, thresholds };
        async move { store.update(&home(), &update).await }
    });
    scene.calls_are_direct(&key).await;
    scene.let_go();
    updating.await.expect("it ends").expect("it is done");
    assert!(!scene.call(&key).await.is_allowed(), "a lease of the limit before is out");
}

/// What was leased of a key that is gone would stay charged to its group.
#[tokio::test]
async fn no_lease_is_taken_while_a_key_is_deleted() {
    let scene = Scene::new(LONG);
    let group =
        scene.create("g", KeyKind::Group, named("g").with_global(requests_per_day(1_000_000)));
    let key = scene.member("g/busy", named("busy"));
    let told = scene.take_a_lease(&key).await;
    scene.hold("delete", When::Before);
    let deleting = tokio::spawn({
        let (store, key) = (scene.store.clone(), key.clone());
        async move { store.delete(&home(), &key).await }
    });
    let told = told + scene.calls_are_direct(&key).await;
    scene.let_go();
    deleting.await.expect("it ends").expect("it is done");
    assert_eq!(scene.counted(&group), told);
}

#[tokio::test]
async fn what_a_caller_does_not_wait_for_goes_back_all_the_same() {
    let scene = Scene::new(SHORT);
    let key = scene.member("busy", named("busy").with_global(requests_per_day(1_000_000)));
    let mut told = 0;
    for waits_for in ["usage", "flush"] {
        told += scene.take_a_lease(&key).await;
        scene.hold("hand_back", When::Before);
        let soon = Duration::from_millis(20);
        match waits_for {
            "usage" => assert!(timeout(soon, scene.store.usage(&key)).await.is_err()),
            _ => drop(scene.store.flush(soon).await),
        }
        scene.let_go();
        scene.comes_to(&key, told).await;
    }
    assert_eq!(scene.store.figures().stranded, 0);
}

/// The first has the lease on its way back, when the second is denied for it.
#[tokio::test]
async fn two_calls_that_are_denied_together_are_both_asked_again() {
    let scene = Scene::new(LONG);
    let key = scene.member("full", named("full").with_global(requests_per_day(1_000)));
    let told = scene.take_a_lease(&key).await;
    scene.hold("hand_back", When::Before);
    // None of them asks for a lease itself.
    let check = |id: &str, requests| {
        let (store, key, id) = (scene.store.clone(), key.clone(), id.parse().expect("an id"));
        let charge = Charge::NOTHING.with_requests(requests).expect("few");
        tokio::spawn(async move { store.check_once(&key, None, &charge, &id).await })
    };
    let first = check("r1", 1_001);
    settle().await;
    let second = check("r2", 1_000 - told);
    settle().await;
    scene.let_go();
    let [first, second] =
        [first.await, second.await].map(|it| it.expect("it ends").expect("it is decided"));
    assert!(!first.is_allowed() && second.is_allowed(), "{second:?}");
}

/// While the lease of a call that is denied goes back, others of its key go on.
#[tokio::test]
async fn no_lease_is_taken_while_a_denied_call_is_asked_again() {
    let scene = Scene::new(LONG);
    let key = scene.member("full", named("full").with_global(requests_per_day(1_000)));
    let told = scene.take_a_lease(&key).await;
    scene.hold("hand_back", When::Before);
    let rest = Charge::NOTHING.with_requests(1_000 - told - 1).expect("few");
    let checked = tokio::spawn({
        let (store, key) = (scene.store.clone(), key.clone());
        async move { store.check_and_consume(&key, None, &rest).await }
    });
    settle().await;
    let asked = scene.store.figures().asked;
    assert!(scene.call(&key).await.is_allowed());
    assert_eq!(scene.store.figures().asked, asked);
    scene.let_go();
    let decision = checked.await.expect("it ends").expect("it is decided");
    assert!(decision.is_allowed(), "{decision:?}");
}

/// Its caller did not wait, and the ticks have not come yet.
#[tokio::test]
async fn what_is_late_goes_back_before_its_key_is_deleted() {
    let scene = Scene::new(LONG);
    let limit = requests_per_day(1_000_000);
    let group = scene.create("g", KeyKind::Group, named("g").with_global(limit));
    let key = scene.member("g/busy", named("busy"));
    let told = scene.take_a_lease(&key).await;
    scene.hold("hand_back", When::Before);
    assert!(timeout(SHORT, scene.store.usage(&key)).await.is_err());
    scene.let_go();
    scene.store.delete(&home(), &key).await.expect("it is there");
    assert_eq!(scene.counted(&group), told);
}

/// With the last owner there are no ticks any more.
#[tokio::test]
async fn what_could_not_be_handed_back_by_the_last_owner_is_sent_again() {
    let scene = Scene::new(SHORT);
    let key = scene.member("busy", named("busy").with_global(requests_per_day(1_000_000)));
    let told = scene.take_a_lease(&key).await;
    scene.hold("hand_back", When::Fails);
    let Scene { inner, held, store } = scene;
    drop(store);
    settle().await;
    held.send_replace(None);
    let began = Instant::now();
    while inner.usage(&key).expect("it is there").scopes[0].account.requests() != told {
        assert!(began.elapsed() < Duration::from_secs(1), "the store has forgotten it");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_grant_that_failed_is_no_request_that_was_lost() {
    let scene = Scene::new(SHORT);
    let key = scene.member("busy", named("busy").with_global(requests_per_day(1_000_000)));
    scene.hold("grant", When::Fails);
    while scene.store.figures().asked == 0 {
        assert!(scene.call(&key).await.is_allowed());
    }
    scene.let_go();
    assert!(scene.store.flush(LONG).await.is_nothing());
    let figures = scene.store.figures();
    assert_eq!((figures.leased, figures.returned, figures.stranded), (0, 0, 0), "{figures:?}");
}

/// The store has denied the call; before its answer comes, there is room again.
#[tokio::test]
async fn a_denial_of_before_a_settlement_is_not_given_after_it() {
    let scene = Scene::new(LONG);
    let key = scene.member("full", named("full").with_global(limits(|it| it.tokens_per_day(100))));
    let tokens = |tokens| Charge::request().with_tokens(tokens, 0).expect("few");
    let id = "r1".parse().expect("an id");
    let minute = Duration::from_secs(60);
    let reserved = scene.store.reserve(&key, None, &tokens(90), &id, minute).await;
    assert!(reserved.expect("it is decided").is_allowed());
    scene.hold("check_and_consume", When::After);
    let checked = tokio::spawn({
        let (store, key) = (scene.store.clone(), key.clone());
        async move { store.check_and_consume(&key, None, &tokens(50)).await }
    });
    settle().await;
    let actual = Totals::unchanged().with_input_tokens(10).expect("few");
    scene.store.settle(&key, &id, &actual).await.expect("it is open");
    scene.let_go();
    assert!(checked.await.expect("it ends").expect("it is decided").is_allowed());
}

#[test]
fn leases_go_back_by_themselves_also_when_the_runtime_is_another() {
    let scene = Scene::new(SHORT);
    let key = scene.member("busy", named("busy").with_global(requests_per_day(1_000_000)));
    let first = runtime().block_on(scene.take_a_lease(&key));
    runtime().block_on(async {
        let (asked, mut second) = (scene.store.figures().asked, 0);
        while scene.store.figures().asked == asked {
            assert!(scene.call(&key).await.is_allowed());
            second += 1;
        }
        scene.comes_to(&key, first + second).await;
    });
}

/// A runtime ends while a grant is asked for: it was charged, and nobody heard of it.
#[test]
fn a_grant_whose_runtime_has_ended_goes_back_and_nobody_waits_for_it() {
    let scene = Scene::new(SHORT);
    let key = scene.member("busy", named("busy").with_global(requests_per_day(1_000_000)));
    scene.hold("grant", When::After);
    let first = runtime().block_on(async {
        let mut calls = 0;
        while scene.store.figures().asked == 0 {
            assert!(scene.call(&key).await.is_allowed());
            calls += 1;
        }
        settle().await;
        calls
    });
    scene.let_go();
    assert!(scene.counted(&key) > first, "it was charged");
    runtime().block_on(async {
        let began = Instant::now();
        scene.store.usage(&key).await.expect("the store answers");
        assert!(began.elapsed() < Duration::from_millis(500), "it waits for a grant");
        let second = scene.take_a_lease(&key).await;
        scene.comes_to(&key, first + second).await;
    });
}

#[test]
fn a_flush_outside_of_a_runtime_asks_the_store() {
    let scene = Scene::new(SHORT);
    let key = scene.member("busy", named("busy").with_global(requests_per_day(1_000_000)));
    runtime().block_on(scene.take_a_lease(&key));
    let flushed = pin!(scene.store.flush(SHORT)).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(flushed, Poll::Ready(unpaid) if unpaid.is_nothing()));
}

/// A store in memory whose calls can be held, and leases from it.
struct Scene {
    inner: MemoryStore,
    held: watch::Sender<Option<(&'static str, When)>>,
    store: LeasedStore,
}

/// Whether a call waits before it reaches the store, or before it is answered; or never reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    After,
    Fails,
}

#[derive(Debug)]
struct Holds {
    inner: MemoryStore,
    held: watch::Receiver<Option<(&'static str, When)>>,
}

impl Interpose for Holds {
    fn store(&self) -> &dyn Store {
        &self.inner
    }

    async fn call<T: Send, E: CallError>(
        &self,
        called: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        self.wait(called, When::Before).await;
        if *self.held.borrow() == Some((called.operation, When::Fails)) {
            return Err(StoreError::unavailable("it is away").into());
        }
        let answer = call.await;
        self.wait(called, When::After).await;
        answer
    }
}

impl Holds {
    async fn wait(&self, called: Called<'_>, when: When) {
        let is_free = |held: &Option<_>| *held != Some((called.operation, when));
        self.held.clone().wait_for(is_free).await.expect("the scene lives");
    }
}

impl Scene {
    /// Leases of this time.
    fn new(time: Duration) -> Self {
        let (inner, (held, holds)) = (MemoryStore::new(), watch::channel(None));
        let holds = Around(Holds { inner: inner.clone(), held: holds });
        Self { inner, held, store: LeasedStore::builder(holds).time(time).from_rate(0).build() }
    }

    fn member(&self, id: &str, config: KeyConfig) -> KeyId {
        self.create(id, KeyKind::Member, config)
    }

    fn create(&self, id: &str, kind: KeyKind, config: KeyConfig) -> KeyId {
        let record = NewRecord {
            id: id.parse().expect("an id"),
            workspace: home(),
            kind,
            config: config.with_thresholds(Thresholds::NONE),
            thresholds: Thresholds::NONE,
            secret: None,
            bootstraps: false,
        };
        self.inner.create(record).expect("the key is new").id
    }

    fn hold(&self, operation: &'static str, when: When) {
        self.held.send_replace(Some((operation, when)));
    }

    fn let_go(&self) {
        self.held.send_replace(None);
    }

    async fn call(&self, key: &KeyId) -> Decision {
        let decided = self.store.check_and_consume(key, None, &Charge::request()).await;
        settle().await;
        decided.expect("the store answers")
    }

    /// Calls until more than a call is out on lease, and returns how many were admitted.
    async fn take_a_lease(&self, key: &KeyId) -> u64 {
        let mut calls = 0;
        loop {
            let decision = self.call(key).await;
            assert!(decision.is_allowed(), "{decision:?}");
            calls += 1;
            let figures = self.store.figures();
            let is_out = figures.leased > figures.local + figures.returned + 1;
            if is_out && decision.allowed().is_some_and(Allowed::leased) {
                return calls;
            }
        }
    }

    /// Makes calls, which are all admitted, none of them out of a lease, and returns how many.
    async fn calls_are_direct(&self, key: &KeyId) -> u64 {
        settle().await;
        for _ in 0..100 {
            let decision = self.call(key).await;
            assert!(decision.allowed().is_some_and(|allowed| !allowed.leased()), "{decision:?}");
        }
        100
    }

    /// What the store has counted today, with what is out on lease.
    fn counted(&self, key: &KeyId) -> u64 {
        self.inner.usage(key).expect("it is there").scopes[0].account.requests()
    }

    /// Waits until no more is counted than this.
    async fn comes_to(&self, key: &KeyId, told: u64) {
        let began = Instant::now();
        while self.counted(key) != told {
            let (counted, figures) = (self.counted(key), self.store.figures());
            assert!(began.elapsed() < Duration::from_secs(2), "{counted}, {told} {figures:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Lets all that can go on do so.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn home() -> WorkspaceId {
    "home".parse().expect("a workspace")
}

const SHORT: Duration = Duration::from_millis(100);
/// Longer than a test.
const LONG: Duration = Duration::from_secs(10);
