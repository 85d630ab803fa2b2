//! Threshold events and shadow mode, as users of a limiter meet them.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use limiter::events::{Missed, ThresholdEvent, ThresholdEvents};
use limiter::memory::MemoryStore;
use limiter::redis::RedisStore;
use limiter::store::Store;
use limiter::{
    Charge, DenialReason, Handle, KeyConfig, KeyId, Limiter, LimiterBuilder, Limits, ManualClock,
    NewKey, Reserved, Thresholds, Timestamp, Totals,
};
use limiter_test_servers::shared;

use crate::{today, used};

/// A limiter in memory, on a clock that stands at noon.
fn in_memory() -> LimiterBuilder {
    Limiter::builder(MemoryStore::builder().clock(ManualClock::at(NOON)).build())
}

async fn redis_store(prefix: &str) -> RedisStore {
    let prefix = format!("{prefix}-{}", std::process::id());
    RedisStore::builder(shared().url()).key_prefix(prefix).connect().await.unwrap()
}

/// A member key of a new workspace.
async fn key(limiter: &Limiter, config: KeyConfig) -> KeyId {
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap().record.id
}

fn requests_per_day(requests: u64) -> KeyConfig {
    let limits = Limits::builder().requests_per_day(requests).build().unwrap();
    KeyConfig::named("ci").unwrap().with_global(limits)
}

async fn call(limiter: &Limiter, key: &KeyId) {
    let _ = limiter.check_and_consume(key, None, &Charge::request()).await.unwrap();
}

/// Returns the events so far.
fn received(events: &mut ThresholdEvents) -> Vec<Result<ThresholdEvent, Missed>> {
    let mut received = Vec::new();
    while let Some(Some(event)) = futures_util::FutureExt::now_or_never(events.next()) {
        received.push(event);
    }
    received
}

fn percents(events: Vec<Result<ThresholdEvent, Missed>>) -> Vec<u8> {
    events.into_iter().map(|event| event.unwrap().crossing.percent).collect()
}

#[tokio::test]
async fn a_subscriber_gets_each_threshold_once() {
    let limiter = in_memory().build();
    let mut events = limiter.threshold_events();
    let key = key(&limiter, requests_per_day(10)).await;
    for _ in 0..7 {
        call(&limiter, &key).await;
    }
    assert_eq!(received(&mut events), []);
    call(&limiter, &key).await;
    let event = events.next().await.unwrap().unwrap();
    assert_eq!(event.key, key);
    assert_eq!((event.crossing.percent, event.crossing.used, event.crossing.limit), (80, 8, 10));
    for _ in 0..5 {
        call(&limiter, &key).await;
    }
    assert_eq!(percents(received(&mut events)), [100]);
    drop(limiter);
    assert_eq!(events.next().await, None);
}

/// By a handle, by an id, and by a reservation and its actual cost.
#[tokio::test]
async fn every_kind_of_charge_fires_thresholds() {
    let limiter = in_memory().thresholds("10,20,30,40".parse().unwrap()).build();
    let mut events = limiter.threshold_events();
    let limits = Limits::builder().tokens_per_minute(100).build().unwrap();
    let key = key(&limiter, KeyConfig::named("ci").unwrap().with_global(limits)).await;
    let ten = Charge::request().with_tokens(0, 10).unwrap();
    let handle: Handle = limiter.handle(&key, None).await.unwrap().unwrap();
    assert!(handle.check_and_consume(&ten).await.unwrap().is_allowed());
    assert_eq!(percents(received(&mut events)), [10]);
    let id = "once".parse().unwrap();
    for _ in 0..3 {
        assert!(limiter.check_once(&key, None, &ten, &id).await.unwrap().is_allowed());
    }
    assert_eq!(percents(received(&mut events)), [20]);
    let Reserved::Allowed(mut call) = limiter.reserve(&key, None, &ten).await.unwrap() else {
        panic!("there is room");
    };
    assert_eq!(percents(received(&mut events)), [30]);
    call.settle(&Totals::unchanged().with_output_tokens(20).unwrap()).await.unwrap();
    assert_eq!(percents(received(&mut events)), [40]);
}

#[tokio::test]
async fn a_callback_runs_before_the_caller_is_answered() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let (first, second) = (Arc::clone(&told), Arc::clone(&told));
    let limiter = in_memory()
        .on_threshold(move |event| first.lock().unwrap().push(event.to_string()))
        .on_threshold(move |_| second.lock().unwrap().push("again".to_owned()))
        .build();
    let key = key(&limiter, requests_per_day(1)).await;
    call(&limiter, &key).await;
    let told = told.lock().unwrap().clone();
    let of = |percent| {
        format!(
            "{key} has used {percent} % of 1 requests per day for all calls: 1, until 2025-10-10T00:00:00Z"
        )
    };
    assert_eq!(told, [of(80), "again".to_owned(), of(100), "again".to_owned()]);
}

#[tokio::test]
async fn a_slow_subscriber_gets_the_number_of_missed_events_and_delays_no_call() {
    let limiter = in_memory().kept_events(4).thresholds("1,2,3,4".parse().unwrap()).build();
    let (mut slow, mut quick) = (limiter.threshold_events(), limiter.threshold_events());
    let key = key(&limiter, requests_per_day(100)).await;
    for _ in 0..2 {
        call(&limiter, &key).await;
    }
    assert_eq!(percents(received(&mut quick)), [1, 2]);
    let all = Limits::builder().requests_per_minute(1).requests_per_day(1).build().unwrap();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-b".parse().unwrap(), admin).await.unwrap().record.id;
    let other = NewKey::member(KeyConfig::named("other").unwrap().with_global(all));
    let other = limiter.keys_as(&admin).create(other).await.unwrap().record.id;
    call(&limiter, &other).await; // 4 thresholds of each of its 2 rules
    let missed = slow.next().await.unwrap().unwrap_err();
    assert_eq!(missed.events, 6);
    assert_eq!(missed.to_string(), "6 events were missed: the subscriber is too slow");
    assert_eq!(percents(received(&mut slow)), [1, 2, 3, 4]);
}

/// The call is charged already: it is answered, and all other listeners get the event.
#[tokio::test]
async fn a_callback_that_panics_stops_neither_the_call_nor_the_others() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let after = Arc::clone(&told);
    let limiter = in_memory()
        .on_threshold(|event| panic!("cannot bear {event}"))
        .on_threshold(move |event| after.lock().unwrap().push(event.crossing.percent))
        .build();
    let mut events = limiter.threshold_events();
    let key = key(&limiter, requests_per_day(2)).await;
    for allowed in [true, true, false] {
        let decision = limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap();
        assert_eq!(decision.is_allowed(), allowed);
    }
    let usage = limiter.usage(&key).await.unwrap().unwrap();
    assert_eq!(used(&usage, "global/day/requests"), 2);
    assert_eq!(*told.lock().unwrap(), [80, 100]);
    assert_eq!(percents(received(&mut events)), [80, 100]);
}

/// The waker of a subscriber is code of its own runtime.
#[tokio::test]
async fn a_subscriber_that_panics_when_it_is_woken_stops_no_call() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("do not wake me");
        }
    }
    let limiter = in_memory().build();
    let mut events = limiter.threshold_events();
    let key = key(&limiter, requests_per_day(1)).await;
    {
        let mut next = pin!(events.next());
        let waker = Waker::from(Arc::new(Bomb));
        assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        call(&limiter, &key).await;
    }
    assert_eq!(percents(received(&mut events)), [80, 100]);
}

/// Each of two limiters stands for a process: they share nothing but the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_writers_of_two_processes_on_redis_raise_one_event_each() {
    let first = Limiter::builder(redis_store("thresholds-writers").await).build();
    let second = Limiter::builder(redis_store("thresholds-writers").await).build();
    let mut events = [first.threshold_events(), second.threshold_events()];
    let key = key(&first, requests_per_day(1_000)).await;
    let mut writers = Vec::new();
    for writer in 0..64 {
        let (limiter, key) =
            (if writer % 2 == 0 { first.clone() } else { second.clone() }, key.clone());
        writers.push(tokio::spawn(async move {
            for _ in 0..20 {
                call(&limiter, &key).await;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let mut all: Vec<u8> =
        events.iter_mut().flat_map(|events| percents(received(events))).collect();
    all.sort_unstable();
    assert_eq!(all, [80, 100]);
}

/// The count falls by a settlement below its estimate, and rises again, across both processes.
#[tokio::test]
async fn a_count_that_goes_down_and_up_again_on_redis_raises_nothing_more() {
    let told = Arc::new(AtomicU64::new(0));
    let counting = |store: RedisStore| {
        let told = Arc::clone(&told);
        let count = move |_: &ThresholdEvent| {
            told.fetch_add(1, Ordering::Relaxed);
        };
        Limiter::builder(store).on_threshold(count).build()
    };
    let first = counting(redis_store("thresholds-down").await);
    let second = counting(redis_store("thresholds-down").await);
    let limits = Limits::builder().tokens_per_day(100).build().unwrap();
    let key = key(&first, KeyConfig::named("ci").unwrap().with_global(limits)).await;
    for round in 0..5 {
        let limiter = if round % 2 == 0 { &first } else { &second };
        let estimate = Charge::request().with_tokens(0, 85).unwrap();
        let Reserved::Allowed(mut call) = limiter.reserve(&key, None, &estimate).await.unwrap()
        else {
            panic!("all was given back");
        };
        call.settle(&Totals::unchanged().with_output_tokens(0).unwrap()).await.unwrap();
    }
    assert_eq!(told.load(Ordering::Relaxed), 1);
    // An overrun of an estimate raises an event too.
    let small = Charge::request().with_tokens(0, 1).unwrap();
    let Reserved::Allowed(mut call) = second.reserve(&key, None, &small).await.unwrap() else {
        panic!("there is room");
    };
    call.settle(&Totals::unchanged().with_output_tokens(150).unwrap()).await.unwrap();
    assert_eq!(told.load(Ordering::Relaxed), 2, "100 % of the tokens");
}

#[tokio::test]
async fn the_thresholds_of_a_limiter_are_written_down_with_its_keys() {
    let limiter = in_memory().thresholds(Thresholds::new([50]).unwrap()).build();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let keys = limiter.keys_as(&admin);
    let mut events = limiter.threshold_events();
    let record = keys.create(NewKey::member(requests_per_day(10))).await.unwrap().record;
    assert_eq!(record.config.thresholds, None);
    for _ in 0..5 {
        call(&limiter, &record.id).await;
    }
    assert_eq!(percents(received(&mut events)), [50]);
    let own = record.config.with_thresholds("60".parse().unwrap());
    let record = keys.update(&record.id, record.version, &own).await.unwrap().record;
    assert_eq!((record.config.thresholds, record.version), (own.thresholds, 2));
    call(&limiter, &record.id).await;
    assert_eq!(percents(received(&mut events)), [60]);
    let back = KeyConfig { thresholds: None, ..record.config };
    let record = keys.update(&record.id, record.version, &back).await.unwrap().record;
    assert_eq!(record.config.thresholds, None);
    // What is used has reached the 50 % of the limiter before.
    assert_eq!(percents(received(&mut events)), [50]);
}

async fn shadow_lets_through(store: impl Store) {
    let limiter = Limiter::builder(store).shadow(true).build();
    let key = key(&limiter, requests_per_day(1)).await;
    call(&limiter, &key).await;
    let handle = limiter.handle(&key, None).await.unwrap().unwrap();
    let charge = Charge::request();
    for decision in [
        limiter.check_and_consume(&key, None, &charge).await.unwrap(),
        limiter.peek(&key, None, &charge).await.unwrap(),
        limiter.check_once(&key, None, &charge, &"a".parse().unwrap()).await.unwrap(),
        handle.check_and_consume(&charge).await.unwrap(),
        handle.peek(&charge).await.unwrap(),
    ] {
        assert!(decision.is_allowed() && !decision.is_charged(), "{decision:?}");
        let denied = decision.shadowed().unwrap();
        assert!(matches!(denied.reason(), DenialReason::RateLimited(_)), "{denied}");
    }
    let Reserved::Allowed(mut shadowed) = limiter.reserve(&key, None, &charge).await.unwrap()
    else {
        panic!("shadow mode denies nothing");
    };
    let more = Totals::unchanged().with_output_tokens(5).unwrap();
    assert!(shadowed.amend(&more).await.unwrap().is_allowed());
    shadowed.settle(&more).await.unwrap();
    let usage = limiter.usage(&key).await.unwrap().unwrap();
    assert_eq!(today(&usage), charge, "as if limits were enforced");
    let nobody = "nobody".parse().unwrap();
    assert!(!limiter.check_and_consume(&nobody, None, &charge).await.unwrap().is_allowed());
}

#[tokio::test]
async fn a_limiter_in_shadow_mode_lets_through_what_it_would_deny_and_says_so() {
    shadow_lets_through(MemoryStore::new()).await;
}

#[tokio::test]
async fn a_limiter_in_shadow_mode_does_so_on_redis() {
    shadow_lets_through(redis_store("thresholds-shadow").await).await;
}

#[tokio::test]
async fn a_key_can_be_in_shadow_mode_by_itself() {
    let clock = ManualClock::at(NOON);
    let limiter = Limiter::in_memory_on(&clock);
    let key = key(&limiter, requests_per_day(1).with_shadow(true)).await;
    call(&limiter, &key).await;
    let decision = limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap();
    assert!(decision.shadowed().is_some());
    clock.advance(Duration::from_secs(86_400));
    let decision = limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap();
    assert!(decision.is_charged());
}

const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
