//! Processes that decide without the store, each with its share, and pay when it is back.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use limiter_core::{
    AssetId, Charge, Credits, KeyConfig, KeyId, LateEvent, LedgerBounds, Limits, RecordId,
    ReservationError, Store, StoreError, Totals, Usage,
};
use limiter_policy::{BreakerState, FailurePolicy, Share};
use limiter_redis::RedisStore;
use limiter_test_servers::{RedisServer, until_async};
use tokio::task::JoinSet;

use crate::used;

use super::world::{Guarded, LONGEST, World, connect, create, create_as, one_credit, settings};

/// Three processes on one server, each with a share of 1/3.
struct Processes {
    server: RedisServer,
    direct: RedisStore,
    stores: Vec<Guarded>,
    key: KeyId,
}

impl Processes {
    async fn three(config: KeyConfig) -> Self {
        let server = RedisServer::durable();
        let direct = connect(server.url()).await.unwrap();
        let key = create(&direct, config).await;
        let share = Share::one_in(NonZeroU32::new(3).unwrap());
        let mut stores = Vec::new();
        for _ in 0..3 {
            let policy = FailurePolicy::LocalShare { share };
            stores.push(settings(policy).guard(connect(server.url()).await.unwrap()));
        }
        Self { server, direct, stores, key }
    }

    /// Makes one call of each through the store, and waits until each knows the key.
    async fn know_the_key(&self) {
        for store in &self.stores {
            let decision = store.check_and_consume(&self.key, None, &one_credit()).await.unwrap();
            assert!(decision.is_allowed() && !decision.is_degraded());
        }
        for store in &self.stores {
            until_async("the key is known", async || store.knows(&self.key)).await;
        }
    }

    /// Kills the server, and lets each process notice.
    async fn lose_the_store(&self) {
        self.server.kill();
        for store in &self.stores {
            while store.breaker() == BreakerState::Closed {
                let peeked = store.peek(&self.key, None, &one_credit()).await;
                assert!(peeked.is_ok_and(|decision| decision.is_degraded()));
            }
        }
    }

    /// Makes this many calls in each of many tasks of each process, and returns how many were allowed.
    async fn call(&self, calls: u64, charge: Charge) -> u64 {
        let mut tasks = JoinSet::new();
        for store in &self.stores {
            for _ in 0..64 {
                let (store, key) = (store.clone(), self.key.clone());
                tasks.spawn(async move {
                    let mut allowed = 0;
                    for _ in 0..calls {
                        let decision = store.check_and_consume(&key, None, &charge).await.unwrap();
                        assert!(decision.is_degraded(), "{decision:?}");
                        allowed += u64::from(decision.is_allowed());
                    }
                    allowed
                });
            }
        }
        tasks.join_all().await.into_iter().sum()
    }

    async fn find_the_store(&self) {
        self.server.start();
        for store in &self.stores {
            until_async("the store knows all", async || store.is_well()).await;
        }
    }

    async fn usage(&self) -> Usage {
        let usage = self.direct.usage(&self.key).await.unwrap();
        usage.expect("the key is there")
    }
}

fn per_day(requests: u64) -> KeyConfig {
    let limits = Limits::builder().requests_per_day(requests).build().unwrap();
    KeyConfig::named("busy").unwrap().with_global(limits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_with_a_third_each_never_pass_the_limit_and_pay_all_of_it() {
    let processes = Processes::three(per_day(1_000)).await;
    processes.know_the_key().await;
    processes.lose_the_store().await;
    let allowed = processes.call(20, one_credit()).await;
    assert_eq!(allowed, 999, "333 each of 1,280 calls");
    processes.find_the_store().await;

    let usage = processes.usage().await;
    let counted = used(&usage, "global/day/requests");
    println!(
        "3 processes, 1/3 of 1,000 requests each: 3 allowed by the store, {allowed} without it, {counted} counted"
    );
    assert_eq!(counted, 3 + allowed, "what is above the limit stands as debt");
    assert_eq!(usage.credits.spent, Credits::whole(3 + allowed).unwrap());
    let decision = processes.stores[0].check_and_consume(&processes.key, None, &one_credit()).await;
    assert!(decision.is_ok_and(|decision| !decision.is_allowed() && !decision.is_degraded()));
}

/// No threshold fires in the outage: thresholds are those of the whole limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_an_outage_fire_thresholds_when_they_are_paid() {
    let processes = Processes::three(per_day(1_000)).await;
    let fired = Arc::new(Mutex::new(Vec::new()));
    for store in &processes.stores {
        let (fired, key) = (Arc::clone(&fired), processes.key.clone());
        store.listen(Box::new(move |of, event| {
            assert_eq!(*of, key);
            let LateEvent::Crossed(crossed) = event else { panic!("{event:?}") };
            fired.lock().unwrap().extend(crossed.iter().map(|crossing| crossing.percent));
        }));
    }
    processes.know_the_key().await;
    processes.lose_the_store().await;
    assert_eq!(processes.call(20, one_credit()).await, 999);
    assert!(fired.lock().unwrap().is_empty());
    processes.find_the_store().await;
    let mut fired = fired.lock().unwrap().clone();
    fired.sort_unstable();
    assert_eq!(fired, [80, 100], "once each, by the payment that reaches it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_of_a_budget_is_shared_too() {
    let config = KeyConfig::named("busy").unwrap().with_budget(Credits::whole(93).unwrap());
    let processes = Processes::three(config).await;
    processes.know_the_key().await;
    processes.lose_the_store().await;
    let allowed = processes.call(2, one_credit()).await;
    processes.find_the_store().await;
    println!("3 processes, a budget of 93 credits, 3 spent: {allowed} without the store");
    assert_eq!(allowed, 90, "90 to 92 were left as each looked: a third is 30");
    assert_eq!(processes.usage().await.credits.spent, Credits::whole(3 + allowed).unwrap());
}

#[tokio::test]
async fn a_key_that_was_never_seen_is_the_stores_error() {
    let processes = Processes::three(per_day(1_000)).await;
    processes.server.kill();
    let never_seen =
        processes.stores[0].check_and_consume(&processes.key, None, &one_credit()).await;
    assert!(
        matches!(never_seen, Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))),
        "{never_seen:?}"
    );
}

#[tokio::test]
async fn a_reservation_that_is_made_in_the_outage_is_corrected_there_and_paid_as_it_ended() {
    let gpt5: AssetId = "gpt-5".parse().unwrap();
    let limits = Limits::builder().tokens_per_day(3_000).build().unwrap();
    let processes = Processes::three(per_day(30).with_asset(gpt5.clone(), limits)).await;
    processes.know_the_key().await;
    processes.lose_the_store().await;
    let (store, key) = (&processes.stores[0], &processes.key);
    let tokens = |output| Charge::request().with_tokens(0, output).unwrap();
    let output = |output| Totals::unchanged().with_output_tokens(output).unwrap();
    let [kept, settled, cancelled] = ["kept", "settled", "cancelled"].map(|id| id.parse().unwrap());
    let hour = std::time::Duration::from_secs(3_600);
    for (id, estimate) in [(&kept, 100), (&settled, 600), (&cancelled, 200)] {
        let reserved = store.reserve(key, Some(&gpt5), &tokens(estimate), id, hour).await.unwrap();
        assert!(reserved.is_allowed() && reserved.is_degraded());
    }
    let amended = store.amend(key, &kept, &output(400)).await.unwrap();
    assert!(!amended.is_allowed() && amended.is_degraded(), "a third of 3,000 is 1,000");
    store.cancel(key, &cancelled).await.unwrap();
    assert!(store.amend(key, &kept, &output(400)).await.unwrap().is_allowed());
    store.settle(key, &settled, &output(50)).await.unwrap();
    let again = store.settle(key, &settled, &output(51)).await;
    assert!(matches!(again, Err(ReservationError::AlreadySettled(_))), "{again:?}");
    processes.find_the_store().await;

    let both =
        |usage: Usage| (used(&usage, "global/day/requests"), used(&usage, "asset/day/tokens"));
    assert_eq!(both(processes.usage().await), (3 + 2, 450));
    // The running call is settled here, and the overrun is paid.
    store.settle(key, &kept, &output(500)).await.unwrap();
    until_async("the store knows all", async || store.is_well()).await;
    assert_eq!(both(processes.usage().await), (3 + 2, 550));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nothing_that_was_allowed_goes_uncounted() {
    let processes = Processes::three(per_day(900_000)).await;
    processes.know_the_key().await;
    let mut tasks = JoinSet::new();
    for store in &processes.stores {
        for _ in 0..22 {
            let (store, key) = (store.clone(), processes.key.clone());
            tasks.spawn(async move {
                let mut tally = (0, 0);
                while tally.0 < 100 || tally.1 == 0 {
                    let decision =
                        store.check_and_consume(&key, None, &one_credit()).await.unwrap();
                    assert!(decision.is_allowed());
                    let by = if decision.is_degraded() { &mut tally.1 } else { &mut tally.0 };
                    *by += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                }
                tally
            });
        }
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    processes.server.kill();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    processes.server.start();
    let tallies = tasks.join_all().await;
    for store in &processes.stores {
        until_async("the store knows all", async || store.is_well()).await;
    }
    let by_store: u64 = tallies.iter().map(|tally| tally.0).sum();
    let degraded: u64 = tallies.iter().map(|tally| tally.1).sum();
    let counted = used(&processes.usage().await, "global/day/requests");
    println!(
        "kill -9 under load: {by_store} allowed by the store, {degraded} without it, {counted} counted"
    );
    let in_flight = 3 * 22;
    assert!((3 + by_store + degraded..=3 + by_store + degraded + in_flight).contains(&counted));
}

/// The server itself refuses both payments: one sorted set has no room, and one hash is damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_with_a_full_ledger_and_one_damaged_keep_no_other_debt_waiting() {
    let server = RedisServer::durable();
    let inner = RedisStore::builder(server.url())
        .ledger_bounds(LedgerBounds::of_each(1))
        .connect()
        .await
        .unwrap();
    let share = Share::one_in(NonZeroU32::MIN);
    let store = settings(FailurePolicy::LocalShare { share }).guard(inner);
    let config = |name: &str| KeyConfig { name: name.parse().unwrap(), ..per_day(1_000) };
    let mut keys = Vec::new();
    for number in 0..100 {
        let key = create_as(&store, &format!("key-{number}"), config(&format!("{number}"))).await;
        assert!(store.check_and_consume(&key, None, &one_credit()).await.unwrap().is_allowed());
        until_async("the key is known", async || store.knows(&key)).await;
        keys.push(key);
    }
    let full = &keys[0];
    let id = "of another process".parse().unwrap();
    let id = RecordId::new(&id, std::time::Duration::from_secs(3_600));
    store.record(full, None, &one_credit(), &id).await.unwrap();
    server.command(&["HSET", "limiter:k:{key-1}", "g", "damaged"]);
    server.kill();
    for key in &keys {
        while !store.check_and_consume(key, None, &one_credit()).await.unwrap().is_degraded() {}
    }
    server.start();
    let direct = connect(server.url()).await.unwrap();
    let used =
        async |key: &KeyId| used(&direct.usage(key).await.unwrap().unwrap(), "global/day/requests");
    let began = std::time::Instant::now();
    let unpaid = loop {
        let unpaid = store.flush(std::time::Duration::from_millis(100)).await;
        if unpaid.keys == 2 || began.elapsed() > LONGEST {
            break unpaid;
        }
    };
    assert_eq!(unpaid.keys, 2, "{unpaid}");
    for key in &keys[2..] {
        // The call that was under way when the server died may or may not count.
        let used = used(key).await;
        assert!((2..=3).contains(&used), "{used} requests of {key}");
    }
    assert_eq!(used(full).await, 2, "as before");
    server.command(&["DEL", "limiter:p:{key-0}"]);
    assert_eq!(store.flush(LONGEST).await.keys, 1);
    assert_eq!(used(full).await, 3, "it is paid as soon as there is room");
}

/// The first script that runs when the store is back is the probe, the second charges the allowed calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_paid_counts_once_also_if_the_answer_is_lost() {
    let share = Share::one_in(NonZeroU32::MIN);
    let world = World::new(FailurePolicy::LocalShare { share }).await;
    let call = async || world.store.check_and_consume(&world.key, None, &one_credit()).await;
    assert!(call().await.is_ok_and(|decision| !decision.is_degraded()));
    world.until_known().await;
    world.server.kill();
    let mut degraded = 0;
    while degraded < 50 {
        let decision = call().await.unwrap();
        assert!(decision.is_allowed() && decision.is_degraded());
        degraded += 1;
    }
    world.proxy.count_only(&["EVALSHA", "EVAL"]);
    world.proxy.lose_reply_after(1);
    world.server.start();
    until_async("the store knows all", async || world.store.is_well()).await;
    assert_eq!(world.proxy.replies_lost(), 1);
    let counted = world.counted().await;
    assert!((51..=52).contains(&counted), "the call that was under way may count twice: {counted}");
}
