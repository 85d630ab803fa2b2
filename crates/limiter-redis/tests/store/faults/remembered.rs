//! Replies of operations on ids that are lost, late, repeated or out of order: the totals are those of the calls, each made
//! once; and as many are remembered as may be, for as long as they must.

use std::sync::Arc;
use std::time::Duration;

use limiter_conformance::fixtures::NOON;
use limiter_core::{
    Allowed, Charge, Decision, KeyConfig, KeyKind, LedgerBounds, Limits, ManualClock, NewRecord,
    RequestId, ReservationError, SettledAs, Store, StoreError, Thresholds, Totals,
};
use limiter_redis::RedisStore;
use limiter_test_servers::{RedisServer, until_async};
use tokio::task::JoinSet;

use super::load::{connect, create, patient, whole};
use super::lost_replies::Scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_reply_is_lost_is_sent_again_and_counts_once() {
    let scene = Scene::new(LONG).await;
    let (store, key) = (&scene.store, &scene.key);
    let sent = scene.proxy.requests();
    let lose = || scene.proxy.lose_next_reply();

    let _ = store.reserve(key, None, &costs(9), &id("warm"), HOUR).await.unwrap();
    store.cancel(key, &id("warm")).await.unwrap();
    let _ = store.check_once(key, None, &costs(0), &id("warm")).await.unwrap();
    store.amend(key, &id("warm"), &total(1)).await.unwrap_err();
    let warm = scene.proxy.requests() - sent;

    lose();
    let reserved = store.reserve(key, None, &costs(5), &id("r"), HOUR).await.unwrap();
    assert!(is_replayed(&reserved), "our own first try was the one that charged");
    assert_eq!(scene.counted().await, 5);
    lose();
    assert!(store.amend(key, &id("r"), &total(8)).await.unwrap().is_allowed());
    assert_eq!(scene.counted().await, 8);
    lose();
    let settled = store.settle(key, &id("r"), &total(6)).await.unwrap();
    assert_eq!(settled.outcome, SettledAs::First, "our own first try was the one that settled");
    assert_eq!(scene.counted().await, 6);
    lose();
    assert!(is_replayed(&store.check_once(key, None, &costs(3), &id("q")).await.unwrap()));
    assert_eq!(scene.counted().await, 9);
    let _ = store.reserve(key, None, &costs(7), &id("s"), HOUR).await.unwrap();
    lose();
    assert!(store.cancel(key, &id("s")).await.unwrap().is_first());
    assert_eq!((scene.counted().await, scene.proxy.replies_lost()), (9, 5));
    // Each of the five was sent twice, one other once.
    assert_eq!(scene.proxy.requests() - sent - warm, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_never_arrived_is_sent_again() {
    let scene = Scene::new(LONG).await;
    let (store, key) = (&scene.store, &scene.key);
    let _ = store.reserve(key, None, &costs(1), &id("warm"), HOUR).await.unwrap();
    scene.proxy.cut_before_request();
    let reserved = store.reserve(key, None, &costs(5), &id("r"), HOUR).await.unwrap();
    assert!(reserved.is_allowed() && !is_replayed(&reserved));
    assert_eq!((scene.counted().await, scene.proxy.requests_cut()), (6, 1));
}

/// A caller that gets no reply in time repeats the operation, and gets its result.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_whose_reply_is_late_is_unknown_and_may_be_repeated() {
    let scene = Scene::new(Duration::from_millis(500)).await;
    let (store, key) = (&scene.store, &scene.key);
    let _ = store.reserve(key, None, &costs(1), &id("warm"), HOUR).await.unwrap();
    let executed = scene.proxy.executed();
    scene.proxy.hold_replies();
    let late = store.reserve(key, None, &costs(5), &id("r"), HOUR).await.unwrap_err();
    assert!(matches!(late, ReservationError::Store(StoreError::OutcomeUnknown(_))), "{late:?}");
    scene.proxy.wait_until_executed(executed + 1);
    scene.proxy.release();
    until_async("the repetition is answered", async || {
        let again = store.reserve(key, None, &costs(5), &id("r"), HOUR).await;
        again.is_ok_and(|decision| is_replayed(&decision))
    })
    .await;
    assert_eq!(scene.counted().await, 6);
}

/// A caller that repeats a settlement after an error bills it once, even if another process repeats it too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_whose_reply_is_late_is_the_first_when_this_process_repeats_it() {
    let scene = Scene::new(Duration::from_millis(500)).await;
    let (store, key) = (&scene.store, &scene.key);
    for name in ["warm", "ours", "dropped", "theirs"] {
        let _ = store.reserve(key, None, &costs(5), &id(name), HOUR).await.unwrap();
    }
    // Loads the script into the server.
    store.cancel(key, &id("warm")).await.unwrap();
    for (name, leaves) in [("ours", false), ("dropped", true)] {
        let executed = scene.proxy.executed();
        scene.proxy.hold_replies();
        let (store, key) = (store.clone(), key.clone());
        let settling = tokio::spawn(async move { store.settle(&key, &id(name), &total(7)).await });
        scene.proxy.wait_until_executed(executed + 1);
        if leaves {
            settling.abort();
            assert!(settling.await.is_err(), "its caller has left");
        } else {
            let late = settling.await.unwrap();
            let is_unknown =
                matches!(late, Err(ReservationError::Store(StoreError::OutcomeUnknown(_))));
            assert!(is_unknown, "{late:?}");
        }
        scene.proxy.release();
        until_async("the store answers", async || {
            scene.store.cancel(&scene.key, &id("warm")).await.is_ok()
        })
        .await;
    }
    let elsewhere = scene.direct.settle(key, &id("ours"), &total(7)).await.unwrap();
    assert_eq!(elsewhere.outcome, SettledAs::Repeated, "another process did not settle it");
    for name in ["ours", "dropped"] {
        for outcome in [SettledAs::First, SettledAs::Repeated] {
            let mut settled = store.settle(key, &id(name), &total(7)).await;
            while unanswered_yet(&settled) {
                settled = store.settle(key, &id(name), &total(7)).await;
            }
            assert_eq!(settled.unwrap().outcome, outcome, "{name}");
        }
    }
    assert!(scene.direct.settle(key, &id("theirs"), &total(7)).await.unwrap().is_first());
    let ours = store.settle(key, &id("theirs"), &total(7)).await.unwrap();
    assert_eq!((ours.outcome, ours.charge), (SettledAs::Repeated, Some(costs(7))));
    assert_eq!(scene.counted().await, 21);
}

/// Forty calls at once, each reserved, amended and settled, and as many checks; each operation at least twice and each time
/// until it is answered, while replies get lost: some of those that reserve and check, some that amend, some that settle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_are_exact_however_replies_are_lost_and_operations_repeated() {
    let scene = Arc::new(Scene::new(LONG).await);
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let scene = Arc::clone(&scene);
        calls.spawn(async move {
            let (store, key) = (&scene.store, &scene.key);
            let (r, q) = (id(&format!("r{number}")), id(&format!("q{number}")));
            let goes_on = |times, losses| times < 2 || scene.proxy.replies_lost() < losses;
            for _ in (0..).take_while(|times| goes_on(*times, LOSSES / 3)) {
                while unanswered(store.reserve(key, None, &costs(5), &r, HOUR).await) {}
                while unanswered(store.check_once(key, None, &costs(2), &q).await) {}
            }
            for _ in (0..).take_while(|times| goes_on(*times, LOSSES * 2 / 3)) {
                while unanswered(store.amend(key, &r, &total(9)).await) {}
            }
            for _ in (0..).take_while(|times| goes_on(*times, LOSSES)) {
                while unanswered(store.settle(key, &r, &total(7)).await) {}
            }
        });
    }
    for lost in 1..=LOSSES {
        scene.proxy.lose_next_reply();
        until_async("a reply is lost", async || scene.proxy.replies_lost() == lost).await;
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    let (lost, counted) = (scene.proxy.replies_lost(), scene.counted().await);
    println!("{CALLS} calls, {lost} replies lost: {counted} counted");
    assert_eq!(counted, CALLS * (7 + 2));
}

#[tokio::test]
async fn as_many_are_remembered_as_may_be_and_nothing_promised_is_forgotten() {
    let (server, store, clock) = scene(3).await;
    let (key, minute) = (member(&store).await, Duration::from_secs(60));
    for number in 0..3 {
        let ttl = minute * (number + 1);
        assert!(reserve(&store, &format!("r{number}"), ttl).await.is_ok());
        clock.advance(Duration::from_secs(1));
        let checked = store.check_once(&key, None, &costs(1), &id(&format!("q{number}"))).await;
        assert!(checked.is_ok());
    }
    for at_the_cap in [
        reserve(&store, "r3", minute).await,
        store.check_once(&key, None, &costs(1), &id("q3")).await,
    ] {
        let error = at_the_cap.unwrap_err();
        assert!(matches!(error, ReservationError::TooMany { most: 3, .. }), "{error:?}");
    }
    // A call that would be denied is denied, also at the cap.
    let denied = store.reserve(&key, None, &costs(2_000), &id("r3"), minute).await;
    assert!(denied.is_ok_and(|decision| !decision.is_allowed()));
    let spent = store.state(&key).await.unwrap().unwrap().credits().spent;
    assert_eq!(spent, whole(6), "nothing was charged at the cap");
    assert!(is_replayed(&reserve(&store, "r0", minute).await.unwrap()));
    let settle = async |name: &str| {
        store.settle(&key, &id(name), &Totals::unchanged()).await.unwrap().is_first()
    };
    assert!(settle("r1").await);
    assert!(reserve(&store, "r3", minute).await.is_ok(), "one that has ended leaves its place");
    assert!(reserve(&store, "r4", minute).await.is_err(), "the places are taken again");

    clock.advance(Duration::from_secs(57));
    assert!(reserve(&store, "r4", minute).await.is_ok(), "the first has passed");
    assert!(reserve(&store, "r5", minute).await.is_err(), "the others have not");
    assert_eq!(stored(&server), [4, 4, 3]);

    // The ended ones have places of their own, which a reservation needs for its end.
    assert!(settle("r2").await && settle("r3").await);
    let full = reserve(&store, "r5", minute).await.unwrap_err();
    let ended = matches!(full, ReservationError::TooMany { what, most: 3, .. } if what.starts_with("ended"));
    assert!(ended, "{full:?}");
    let begun = clock.now().since(NOON);
    assert_eq!(begun, minute);
    assert_eq!(full.retry_after(), Some(Duration::from_secs(123) - begun), "r1 ended after 3 s");
    assert!(settle("r4").await, "an end needs no free place");
    assert_eq!(stored(&server), [4, 4, 3]);
    clock.advance(Duration::from_secs(63));
    assert!(reserve(&store, "r5", minute).await.is_err(), "three others have ended");
    clock.advance(Duration::from_secs(57));
    assert!(reserve(&store, "r5", minute).await.is_ok(), "they have passed");
    assert_eq!(stored(&server), [1, 1, 3]);
}

/// "What has passed does not count", however much that is, and it goes bit by bit.
#[tokio::test]
async fn what_has_passed_makes_room_at_once() {
    let (server, store, clock) = scene(100).await;
    let key = member(&store).await;
    for round in 0..3 {
        for number in 0..100 {
            let name = format!("{round}-{number}");
            let ttl = Duration::from_secs(120);
            assert!(reserve(&store, &name, ttl).await.unwrap().is_allowed(), "{name}");
            let checked = store.check_once(&key, None, &costs(0), &id(&name)).await;
            assert!(checked.unwrap().is_allowed(), "{name}");
            let [reservations, ends, checks] = stored(&server);
            assert!(reservations == ends && ends <= 100 && checks <= 100);
        }
        assert!(reserve(&store, "more", HOUR).await.is_err());
        clock.advance(Duration::from_secs(120));
    }
}

#[tokio::test]
async fn an_idle_key_leaves_nothing_that_has_passed() {
    let server = RedisServer::run();
    let store = patient(server.url())
        .ledger_bounds(LedgerBounds { dedupe: Duration::from_secs(20), ..LedgerBounds::default() })
        .connect()
        .await
        .unwrap();
    let key = member(&store).await;
    for (number, ttl) in [30, 1, 40].into_iter().enumerate() {
        let name = format!("r{number}");
        assert!(reserve(&store, &name, Duration::from_secs(ttl)).await.is_ok());
        assert!(store.check_once(&key, None, &costs(0), &id(&name)).await.is_ok());
    }
    assert!(store.settle(&key, &id("r0"), &Totals::unchanged()).await.is_ok());
    for (redis_key, longest) in [(RESERVATIONS, 40), (OPEN, 40), (ENDED, 20), (CHECKS, 20)] {
        let left_ms: u64 = server.text(&["PTTL", redis_key]).parse().expect("it has a life");
        println!("{redis_key} lives for {left_ms} ms");
        assert!(left_ms > longest * 1_000 - 5_000 && left_ms <= 2 * longest * 1_000 + 60_000);
    }
    // The counts never expire.
    assert_eq!(server.text(&["PTTL", "limiter:k:{busy}"]), "-1");
}

/// The set once lived for 30 days, whoever had held a slot of it last.
#[tokio::test]
async fn a_set_of_slots_expires_soon_after_the_last_of_them() {
    let server = RedisServer::run();
    let bounds = LedgerBounds { slots: Duration::from_secs(600), ..LedgerBounds::default() };
    let store = patient(server.url()).ledger_bounds(bounds).connect().await.unwrap();
    let limits = Limits::builder().parallel(5).build().unwrap();
    let config = KeyConfig::named("busy").unwrap().with_global(limits);
    create(&store, "busy", config).await;
    let mut lives = Vec::new();
    for seconds in [10, 20, 3_600] {
        let ttl = Duration::from_secs(seconds);
        assert!(reserve(&store, &format!("r{seconds}"), ttl).await.unwrap().is_allowed());
        let left_ms: u64 = server.text(&["PTTL", SLOTS]).parse().expect("it has a life");
        lives.push(left_ms);
    }
    println!("after slots of 10, 20 and 600 s, the set lives for {lives:?} ms");
    assert!((75_000..=80_000).contains(&lives[0]), "{lives:?}");
    assert!((75_000..=80_000).contains(&lives[1]), "it lives long enough: {lives:?}");
    assert!((1_250_000..=1_260_000).contains(&lives[2]), "no slot is held for longer: {lives:?}");
}

/// An ended reservation is remembered for a short time: the Redis keys live on for an open one of the same key.
#[tokio::test]
async fn a_long_reservation_outlives_the_end_of_a_short_one() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = member(&store).await;
    let day = HOUR * 24;
    for (name, ttl) in [("long", day), ("short", HOUR)] {
        assert!(reserve(&store, name, ttl).await.unwrap().is_allowed());
    }
    assert!(store.settle(&key, &id("short"), &Totals::unchanged()).await.unwrap().is_first());
    for redis_key in [RESERVATIONS, OPEN] {
        let left_ms: u128 = server.text(&["PTTL", redis_key]).parse().expect("it has a life");
        assert!(left_ms + 60_000 > day.as_millis(), "{redis_key} lives for {left_ms} ms");
    }
}

#[tokio::test]
async fn a_deleted_key_leaves_nothing_that_was_remembered() {
    let (server, store, _) = scene(10).await;
    let key = member(&store).await;
    assert!(reserve(&store, "r", HOUR).await.is_ok());
    assert!(store.check_once(&key, None, &costs(0), &id("q")).await.is_ok());
    assert_eq!(stored(&server), [1, 1, 1]);
    store.delete(&"home".parse().unwrap(), &key).await.unwrap();
    assert_eq!(server.text(&["DBSIZE"]), "0");
    member(&store).await;
    assert!(!is_replayed(&reserve(&store, "r", HOUR).await.unwrap()), "it is another key");
    let left = store.delete_everything().await.unwrap();
    assert_eq!(left, 7, "counts, limits, record, index, ledger");
    assert_eq!(server.text(&["DBSIZE"]), "0");
}

async fn scene(most: usize) -> (RedisServer, RedisStore, ManualClock) {
    let server = RedisServer::run();
    let clock = ManualClock::at(NOON);
    let store =
        patient(server.url()).ledger_bounds(LedgerBounds::of_each(most)).clock(clock.clone());
    (server, store.connect().await.unwrap(), clock)
}

async fn member(store: &RedisStore) -> limiter_core::KeyId {
    let limits = Limits::builder().requests_per_day(1_000_000).build().unwrap();
    let config = KeyConfig::named("busy").unwrap().with_global(limits).with_budget(whole(1_000));
    let key = NewRecord {
        id: "busy".parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind: KeyKind::Member,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    store.create(key).await.unwrap().id
}

/// Reserves a call that costs one credit.
async fn reserve(
    store: &RedisStore,
    name: &str,
    ttl: Duration,
) -> Result<Decision, ReservationError> {
    store.reserve(&"busy".parse().unwrap(), None, &costs(1), &id(name), ttl).await
}

/// Whether an operation has to be repeated, since its outcome is unknown.
fn unanswered<T>(answer: Result<T, ReservationError>) -> bool {
    match answer {
        Ok(_) => false,
        Err(ReservationError::Store(
            StoreError::OutcomeUnknown(_) | StoreError::Unavailable(_),
        )) => true,
        Err(error) => panic!("{error:?}"),
    }
}

fn unanswered_yet<T>(answer: &Result<T, ReservationError>) -> bool {
    matches!(answer, Err(ReservationError::Store(_)))
}

/// How many reservations, their times, and ids of checks are stored.
fn stored(server: &RedisServer) -> [u64; 3] {
    let number = |words: [&str; 2]| -> u64 { server.text(&words).parse().expect("a number") };
    let times = number(["ZCARD", OPEN]) + number(["ZCARD", ENDED]);
    [number(["HLEN", RESERVATIONS]), times, number(["ZCARD", CHECKS])]
}

fn costs(credits: u64) -> Charge {
    Charge::request().with_credits(whole(credits))
}

fn total(credits: u64) -> Totals {
    Totals::unchanged().with_credits(whole(credits))
}

fn is_replayed(decision: &Decision) -> bool {
    decision.allowed().is_some_and(Allowed::replayed)
}

fn id(text: &str) -> RequestId {
    text.parse().unwrap()
}

/// No call is to end by it.
const LONG: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3_600);
const CALLS: u64 = 40;
/// Each breaks the connection that all calls share.
const LOSSES: u64 = 21;
const RESERVATIONS: &str = "limiter:r:{busy}";
const SLOTS: &str = "limiter:s:{busy}//g";
const OPEN: &str = "limiter:o:{busy}";
const ENDED: &str = "limiter:e:{busy}";
const CHECKS: &str = "limiter:c:{busy}";
