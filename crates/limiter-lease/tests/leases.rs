//! Leases on the machine's own clock: when they are taken, what they hold, and how they go back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limiter_conformance::fixtures::{limits, named, requests_per_day, requests_per_minute};
use limiter_conformance::{Around, Called, Interpose};
use limiter_core::{
    Allowed, CallError, Charge, Decision, KeyConfig, KeyId, KeyKind, LedgerBounds, ManualClock,
    NewRecord, Store, StoreError, Thresholds, Timestamp, Totals, WorkspaceId,
};
use limiter_lease::LeasedStore;
use limiter_memory::MemoryStore;
use limiter_policy::{FailurePolicy, GuardedStoreBuilder};
use tokio::time::sleep;

#[tokio::test]
async fn a_key_with_many_calls_is_decided_here() {
    let (inner, store) = stores();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(1_000_000)));
    let leased = call_often(&store, &key, 2_000).await;
    let figures = store.figures();
    println!("{leased} of 2,000 calls out of leases: {figures:?}");
    assert!(leased > 1_500, "{leased}");
    assert_eq!(figures.local, leased);
    assert_eq!(calls(&store, &key).await, 2_000, "what was not used is back");
    let figures = store.figures();
    assert_eq!(figures.leased, figures.local + figures.returned + figures.stranded);
}

#[tokio::test]
async fn a_key_with_few_calls_is_not() {
    let (inner, store) = stores();
    let key = member(&inner, "calm", named("calm").with_global(requests_per_day(1_000_000)));
    for _ in 0..10 {
        assert!(!is_leased(&call(&store, &key).await));
        sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(store.figures().asked, 0);
}

#[tokio::test]
async fn idle_leases_go_back_by_themselves() {
    let (inner, store) = stores();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(1_000_000)));
    call_often(&store, &key, 300).await;
    assert!(inner_calls(&inner, &key) > 300, "a lease is out");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(inner_calls(&inner, &key), 300);
}

/// There is room for one key in each of 64 shards, and each has been called once.
#[tokio::test]
async fn keys_with_few_calls_do_not_take_the_room_of_one_with_many() {
    let inner = MemoryStore::new();
    let store = LeasedStore::builder(inner.clone()).most_pairs(64).build();
    for number in 0..1_000 {
        let id = format!("calm-{number}");
        let key = member(&inner, &id, named(&id).with_global(requests_per_day(1_000)));
        assert!(!is_leased(&call(&store, &key).await));
    }
    sleep(Duration::from_millis(200)).await;
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(1_000_000)));
    assert!(call_often(&store, &key, 300).await > 100);
}

/// A task that only makes calls does not keep what renews its leases from its turn.
#[tokio::test]
async fn leases_are_renewed_also_while_a_task_makes_one_call_after_the_other() {
    let (inner, store) = stores();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(1_000_000)));
    for _ in 0..20_000 {
        let decision = store.check_and_consume(&key, None, &Charge::request()).await;
        assert!(decision.expect("the store answers").is_allowed());
    }
    let figures = store.figures();
    assert!(figures.local > 15_000, "{figures:?}");
}

/// Long before the next tick.
#[tokio::test]
async fn whoever_drops_the_last_clone_hands_back() {
    let inner = MemoryStore::new();
    let store = LeasedStore::builder(inner.clone()).time(Duration::from_secs(10)).build();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(1_000_000)));
    let clone = store.clone();
    call_often(&store, &key, 1_000).await;
    drop(store);
    assert!(inner_calls(&inner, &key) > 1_000, "the other clone still has it");
    drop(clone);
    let began = Instant::now();
    while inner_calls(&inner, &key) != 1_000 {
        assert!(began.elapsed() < Duration::from_secs(2), "that would be the tick");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn flush_hands_back() {
    let (inner, store) = stores();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(1_000_000)));
    call_often(&store, &key, 300).await;
    assert!(store.flush(Duration::from_secs(1)).await.is_nothing());
    assert_eq!(inner_calls(&inner, &key), 300);
}

/// The default thresholds are 80 % and 100 %.
#[tokio::test]
async fn exactly_the_limit_is_admitted_and_thresholds_fire_as_without_leases() {
    let (inner, store) = stores();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(5_000)));
    let (mut admitted, mut fired) = (0, Vec::new());
    for _ in 0..6_000 {
        let decision = call(&store, &key).await;
        admitted += u64::from(decision.is_allowed());
        let crossed = decision.allowed().map_or(&[][..], Allowed::crossed);
        fired.extend(crossed.iter().map(|crossing| (crossing.percent, crossing.used)));
    }
    let figures = store.figures();
    println!("{figures:?}");
    assert_eq!(admitted, 5_000);
    assert_eq!(fired, [(80, 4_000), (100, 5_000)]);
    assert!(figures.local > 1_000 && figures.denied > 900, "{figures:?}");
    assert_eq!(inner_calls(&inner, &key), 5_000);
}

/// Two keys of one group, in one process: the leases of one never deny the other.
#[tokio::test]
async fn the_leases_of_another_key_go_back_before_a_call_is_denied_for_their_group() {
    let (inner, store) = stores();
    let all = requests_per_day(4_000);
    create(&inner, "g", KeyKind::Group, named("g").with_global(all));
    let [a, b] = ["g/a", "g/b"].map(|id| member(&inner, id, named(id)));
    let mut admitted = 0;
    for _ in 0..2_500 {
        admitted += u64::from(call(&store, &a).await.is_allowed());
        admitted += u64::from(call(&store, &b).await.is_allowed());
    }
    assert_eq!(admitted, 4_000);
}

#[tokio::test]
async fn a_denial_holds_here_until_something_is_given_back() {
    let (inner, store) = stores();
    let key =
        member(&inner, "full", named("full").with_global(limits(|it| it.tokens_per_day(100))));
    let tokens = |tokens| Charge::request().with_tokens(tokens, 0).expect("few");
    let id = "r1".parse().expect("an id");
    let reserved = store.reserve(&key, None, &tokens(90), &id, Duration::from_secs(60)).await;
    assert!(reserved.expect("the store answers").is_allowed());
    let check = async |tokens: Charge| {
        store.check_and_consume(&key, None, &tokens).await.expect("the store answers").is_allowed()
    };
    let direct = |store: &LeasedStore| store.figures().direct;
    assert!(!check(tokens(11)).await);
    let asked = direct(&store);
    assert!(!check(tokens(11)).await && !check(tokens(50)).await);
    assert_eq!((direct(&store), store.figures().denied), (asked, 2));
    assert!(check(tokens(5)).await, "it asks for less");
    store
        .settle(&key, &id, &Totals::unchanged().with_input_tokens(10).expect("few"))
        .await
        .expect("it is open");
    assert!(check(tokens(50)).await, "there is room again");
}

/// A grant is remembered among the open reservations until it is handed back, used up or not.
#[tokio::test]
async fn no_reservation_is_refused_since_leases_have_its_place() {
    let bounds = LedgerBounds { open: 1, ..LedgerBounds::default() };
    let inner = MemoryStore::builder().ledger_bounds(bounds).build();
    let store = LeasedStore::builder(inner.clone()).from_rate(0).build();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(1_000_000)));
    for calls in [2, 3, 50] {
        call_often(&store, &key, calls).await;
        let id = "r1".parse().expect("an id");
        let ttl = Duration::from_secs(60);
        let reserved = store.reserve(&key, None, &Charge::request(), &id, ttl).await;
        assert!(reserved.expect("there is a place").is_allowed());
        store.cancel(&key, &id).await.expect("it is open");
    }
}

#[tokio::test]
async fn a_lowered_limit_and_a_deletion_are_seen_at_once_by_whoever_makes_them() {
    let (inner, store) = stores();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(1_000_000)));
    call_often(&store, &key, 300).await;
    store.delete(&home(), &key).await.expect("it is there");
    assert!(call(&store, &key).await.denied().is_some());
}

#[tokio::test]
async fn a_lease_ends_with_its_window() {
    let clock = ManualClock::at(Timestamp::from_unix_ms(1_760_011_259_990));
    let inner = MemoryStore::builder().clock(clock.clone()).build();
    let now = Arc::new(AtomicU64::new(0));
    let passes = Arc::clone(&now);
    let store = LeasedStore::builder(inner.clone())
        .clock(move || Duration::from_millis(passes.load(Ordering::Relaxed)))
        .build();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_minute(100_000)));
    call_often(&store, &key, 300).await;
    assert!(is_leased(&call(&store, &key).await));
    // Ten milliseconds were left of the minute.
    now.store(10, Ordering::Relaxed);
    clock.advance(Duration::from_millis(10));
    assert!(!is_leased(&call(&store, &key).await));
}

/// The clock of the store counts whole milliseconds, and 0.9 of one had passed.
#[tokio::test]
async fn a_lease_ends_with_its_window_by_the_clock_of_the_store() {
    let clock = ManualClock::at(Timestamp::from_unix_ms(1_760_011_259_990));
    let inner = MemoryStore::builder().clock(clock.clone()).build();
    let now = Arc::new(AtomicU64::new(900));
    let passes = Arc::clone(&now);
    let store = LeasedStore::builder(inner.clone())
        .clock(move || Duration::from_micros(passes.load(Ordering::Relaxed)))
        .build();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_minute(100_000)));
    call_often(&store, &key, 300).await;
    assert!(is_leased(&call(&store, &key).await));
    now.store(10_050, Ordering::Relaxed);
    clock.advance(Duration::from_millis(10));
    assert!(!is_leased(&call(&store, &key).await));
}

/// Leased a sixteenth at a time, and each of them for at most a tenth of a second.
#[tokio::test]
async fn what_is_leased_is_a_part_of_what_is_left() {
    let (inner, store) = stores();
    let limit = requests_per_day(100_000);
    let config = named("busy").with_global(limit).with_thresholds(Thresholds::NONE);
    let key = member(&inner, "busy", config);
    for _ in 0..20 {
        call_often(&store, &key, 500).await;
        let figures = store.figures();
        let out = inner_calls(&inner, &key).saturating_sub(figures.local + figures.direct);
        assert!(out <= 2 * 100_000 / 16, "{out} are out");
    }
}

/// What is leased is used up, whatever has become of the store.
#[tokio::test]
async fn while_the_store_is_away_leases_are_used_to_their_end_and_then_it_is_an_error() {
    let (store, away) = leases_that_outlive_the_store();
    let (leased, failed) = calls_without_the_store(&store, &away).await;
    assert!(leased > 0 && matches!(failed, Err(StoreError::Unavailable(_))), "{leased} {failed:?}");
}

#[tokio::test]
async fn then_the_failure_policy_around_it_speaks() {
    let (store, away) = leases_that_outlive_the_store();
    let store = GuardedStoreBuilder::new(FailurePolicy::FailOpen).guard(store);
    let (leased, decided) = calls_without_the_store(&store, &away).await;
    let decided = decided.expect("the policy answers");
    assert!(leased > 0 && decided.is_degraded(), "{leased} {decided:?}");
    away.store(false, Ordering::Relaxed);
    let began = Instant::now();
    while call_of(&store).await.is_ok_and(|decided| decided.is_degraded()) {
        assert!(began.elapsed() < Duration::from_secs(10), "the store is back");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Of two processes one has ten times the calls of the other, and after a while it is the other way round.
#[tokio::test]
async fn shares_follow_demand_within_two_renewals() {
    let clock = ManualClock::at(Timestamp::from_unix_ms(1_760_011_200_000));
    let inner = MemoryStore::builder().clock(clock.clone()).build();
    let key = member(&inner, "busy", named("busy").with_global(requests_per_day(10_000_000)));
    let now = Arc::new(AtomicU64::new(0));
    let stores = [(); 2].map(|()| {
        let passes = Arc::clone(&now);
        let clock = move || Duration::from_millis(passes.load(Ordering::Relaxed));
        LeasedStore::builder(inner.clone()).clock(clock).build()
    });
    // What each leases in so many milliseconds, with so many calls in each of them.
    let lease = async |ms: u64, calls: [u32; 2]| {
        let before = stores.each_ref().map(|store| store.figures().leased);
        for _ in 0..ms {
            now.fetch_add(1, Ordering::Relaxed);
            clock.advance(Duration::from_millis(1));
            for (store, calls) in stores.iter().zip(calls) {
                call_often(store, &key, calls).await;
            }
        }
        let after = stores.each_ref().map(|store| store.figures().leased);
        [after[0] - before[0], after[1] - before[1]]
    };
    let two_renewals = 140;
    lease(1_000, [20, 2]).await;
    let [many, few] = lease(1_000, [20, 2]).await;
    assert!((9..=11).contains(&(many / few)), "{many} : {few}");
    lease(two_renewals, [2, 20]).await;
    let [few, many] = lease(two_renewals, [2, 20]).await;
    assert!(many / few >= 4, "{few} : {many}");
    lease(two_renewals, [2, 20]).await;
    let [few, many] = lease(1_000, [2, 20]).await;
    assert!((9..=11).contains(&(many / few)), "{few} : {many}");
}

/// A store that can be away.
#[derive(Clone, Debug)]
struct GoesAway {
    inner: MemoryStore,
    away: Arc<AtomicBool>,
}

impl Interpose for GoesAway {
    fn store(&self) -> &dyn Store {
        &self.inner
    }

    async fn call<T: Send, E: CallError>(
        &self,
        _called: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::unavailable("it is away").into()),
            false => call.await,
        }
    }
}

/// Leases from such a store, with a key.
fn leases_that_outlive_the_store() -> (LeasedStore, Arc<AtomicBool>) {
    let (inner, away) = (MemoryStore::new(), Arc::new(AtomicBool::new(false)));
    member(&inner, "busy", named("busy").with_global(requests_per_day(1_000_000)));
    let store = GoesAway { inner, away: Arc::clone(&away) };
    (LeasedStore::new(Around(store)), away)
}

/// Calls until one is not decided out of a lease. Returns how many were, and what became of that one.
async fn calls_without_the_store(
    store: &impl Store,
    away: &AtomicBool,
) -> (u64, Result<Decision, StoreError>) {
    for _ in 0..500 {
        assert!(call_of(store).await.is_ok_and(|decided| decided.is_allowed()));
    }
    away.store(true, Ordering::Relaxed);
    let mut leased = 0;
    loop {
        match call_of(store).await {
            Ok(decision) if is_leased(&decision) => leased += 1,
            decided => return (leased, decided),
        }
    }
}

async fn call_of(store: &impl Store) -> Result<Decision, StoreError> {
    let key = "busy".parse().expect("an id");
    let decided = store.check_and_consume(&key, None, &Charge::request()).await;
    tokio::task::yield_now().await;
    decided
}

/// A store in memory, and leases from it.
fn stores() -> (MemoryStore, LeasedStore) {
    let inner = MemoryStore::new();
    (inner.clone(), LeasedStore::new(inner))
}

fn member(store: &MemoryStore, id: &str, config: KeyConfig) -> KeyId {
    create(store, id, KeyKind::Member, config)
}

fn create(store: &MemoryStore, id: &str, kind: KeyKind, config: KeyConfig) -> KeyId {
    let record = NewRecord {
        id: id.parse().expect("an id"),
        workspace: home(),
        kind,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    store.create(record).expect("the key is new").id
}

fn home() -> WorkspaceId {
    "home".parse().expect("a workspace")
}

async fn call(store: &LeasedStore, key: &KeyId) -> Decision {
    let decision = store.check_and_consume(key, None, &Charge::request()).await;
    // What is asked for in the background gets a turn.
    tokio::task::yield_now().await;
    decision.expect("the store answers")
}

/// Makes calls, which are all admitted, and returns how many of them were decided out of leases.
async fn call_often(store: &LeasedStore, key: &KeyId, calls: u32) -> u64 {
    let mut leased = 0;
    for _ in 0..calls {
        let decision = call(store, key).await;
        assert!(decision.is_allowed(), "{decision:?}");
        leased += u64::from(is_leased(&decision));
    }
    leased
}

fn is_leased(decision: &Decision) -> bool {
    decision.allowed().is_some_and(Allowed::leased)
}

/// What the key has counted today; leases are handed back first.
async fn calls(store: &LeasedStore, key: &KeyId) -> u64 {
    let usage = store.usage(key).await.expect("the store answers").expect("the key is there");
    usage.scopes[0].account.requests()
}

/// The same with what is out on lease.
fn inner_calls(store: &MemoryStore, key: &KeyId) -> u64 {
    store.usage(key).expect("the key is there").scopes[0].account.requests()
}
