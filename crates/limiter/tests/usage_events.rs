//! Usage events of a limiter: one for each final charge, in memory and on Redis.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use limiter::decision::SettledAs;
use limiter::events::{Missed, UsageEvent, UsageEvents, UsageKind};
use limiter::memory::MemoryStore;
use limiter::policy::{FailurePolicy, GuardedStoreBuilder, Share};
use limiter::redis::RedisStore;
use limiter::store::Store;
use limiter::{
    AssetId, Charge, Credits, KeyConfig, KeyId, Limiter, Limits, ManualClock, NewKey, RequestId,
    Reservation, ReservationError, Reserved, StoreError, Timestamp, Totals,
};
use limiter_test_servers::{Proxy, RedisServer, shared, until_async};
use tokio::task::{JoinSet, unconstrained};

use crate::{today, total_tokens};

async fn redis(prefix: &str) -> RedisStore {
    let prefix = format!("usage-{prefix}-{}", std::process::id());
    let store = RedisStore::builder(shared().url()).key_prefix(prefix);
    store.clock(ManualClock::at(NOON)).connect().await.unwrap()
}

fn memory() -> MemoryStore {
    MemoryStore::builder().clock(ManualClock::at(NOON)).build()
}

/// Creates a member key of a new workspace.
async fn key(limiter: &Limiter, config: KeyConfig) -> KeyId {
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap().record.id
}

fn ci() -> KeyConfig {
    KeyConfig::named("ci").unwrap()
}

/// A key that may make a thousand requests a day.
fn limited() -> KeyConfig {
    ci().with_global(Limits::builder().requests_per_day(1_000).build().unwrap())
}

fn id(text: &str) -> RequestId {
    text.parse().unwrap()
}

fn gpt5() -> AssetId {
    "gpt-5".parse().unwrap()
}

fn tokens(input: u64, output: u64) -> Charge {
    Charge::request().with_tokens(input, output).unwrap()
}

fn output(tokens: u64) -> Totals {
    Totals::unchanged().with_output_tokens(tokens).unwrap()
}

async fn reserve(limiter: &Limiter, key: &KeyId, name: &str, estimate: Charge) -> Reservation {
    let reserved = limiter.reserve_as(key, &gpt5(), &estimate, &id(name), HOUR).await.unwrap();
    reserved.allowed().expect("there is room")
}

/// Returns all events so far.
fn so_far(events: &mut UsageEvents) -> Vec<UsageEvent> {
    let mut all = Vec::new();
    while let Some(Some(event)) = unconstrained(events.next()).now_or_never() {
        all.push(event.unwrap());
    }
    all
}

/// Returns kind, id and output tokens of all events so far.
fn in_words(events: &mut UsageEvents) -> Vec<(UsageKind, Option<String>, u64)> {
    let words = |event: UsageEvent| {
        let id = event.id.map(|id| id.to_string());
        (event.kind, id, event.charge.output_tokens())
    };
    so_far(events).into_iter().map(words).collect()
}

fn settled(name: &str, output: u64) -> (UsageKind, Option<String>, u64) {
    (UsageKind::Settled, Some(name.to_owned()), output)
}

async fn each_final_charge_is_reported(store: impl Store) {
    let limiter = Limiter::builder(store).build();
    let mut events = limiter.usage_events();
    let key = key(&limiter, limited()).await;
    let charge = tokens(3, 4).with_credits(Credits::whole(2).unwrap());

    assert!(limiter.check_and_consume(&key, &gpt5(), &charge).await.unwrap().is_allowed());
    assert!(limiter.check_once(&key, None, &charge, &id("check")).await.unwrap().is_allowed());
    let handle = limiter.handle(&key, &gpt5()).await.unwrap().unwrap();
    assert!(handle.check_and_consume(&charge).await.unwrap().is_allowed());
    let mut call = reserve(&limiter, &key, "settled", tokens(10, 20)).await;
    assert!(call.amend(&output(30)).await.unwrap().is_allowed());
    let answer = call.settle(&output(45)).await.unwrap();
    assert_eq!((answer.outcome, answer.charge), (SettledAs::First, Some(tokens(10, 45))));
    assert_eq!(answer.asset, Some(gpt5()));
    let mut cancelled = reserve(&limiter, &key, "cancelled", tokens(10, 20)).await;
    let answer = cancelled.cancel().await.unwrap();
    assert_eq!((answer.outcome, answer.charge), (SettledAs::First, Some(Charge::NOTHING)));
    let kept = reserve(&limiter, &key, "kept", tokens(10, 20)).await.keep();
    let answer = limiter.settle(&key, &kept, &output(5)).await.unwrap();
    assert_eq!((answer.asset, answer.charge), (Some(gpt5()), Some(tokens(10, 5))));

    let all = so_far(&mut events);
    assert!(all.iter().all(|event| event.key == key && event.at == NOON));
    let words = all.into_iter().map(|event| (event.kind, event.asset, event.charge, event.id));
    assert_eq!(
        words.collect::<Vec<_>>(),
        [
            (UsageKind::Checked, Some(gpt5()), charge, None),
            (UsageKind::Checked, None, charge, Some(id("check"))),
            (UsageKind::Checked, Some(gpt5()), charge, None),
            (UsageKind::Settled, Some(gpt5()), tokens(10, 45), Some(id("settled"))),
            (UsageKind::Cancelled, Some(gpt5()), Charge::NOTHING, Some(id("cancelled"))),
            (UsageKind::Settled, Some(gpt5()), tokens(10, 5), Some(id("kept"))),
        ]
    );
    drop((limiter, call, cancelled, handle));
    assert_eq!(events.next().await, None, "the limiter is gone");
}

#[tokio::test]
async fn each_final_charge_is_reported_in_memory() {
    each_final_charge_is_reported(memory()).await;
}

#[tokio::test]
async fn each_final_charge_is_reported_on_redis() {
    each_final_charge_is_reported(redis("kinds").await).await;
}

async fn what_is_not_a_final_charge_is_not_reported(store: impl Store) {
    let limiter = Limiter::builder(store).build();
    let two = ci().with_global(Limits::builder().requests_per_day(4).build().unwrap());
    let key = key(&limiter, two).await;
    let charge = Charge::request();
    // All charges come before the first subscription.
    assert!(limiter.check_once(&key, None, &charge, &id("check")).await.unwrap().is_allowed());
    let mut call = reserve(&limiter, &key, "settled", charge).await;
    call.settle(&output(5)).await.unwrap();
    let mut cancelled = reserve(&limiter, &key, "cancelled", charge).await;
    cancelled.cancel().await.unwrap();

    let mut events = limiter.usage_events();
    assert!(limiter.peek(&key, None, &charge).await.unwrap().is_allowed());
    assert!(limiter.check_once(&key, None, &charge, &id("check")).await.unwrap().is_allowed());
    let answer = call.settle(&output(5)).await.unwrap();
    let repeated = (SettledAs::Repeated, Some(charge.with_tokens(0, 5).unwrap()));
    assert_eq!((answer.outcome, answer.charge), repeated);
    let refused = call.settle(&output(6)).await.unwrap_err();
    assert!(matches!(refused, ReservationError::AlreadySettled(_)));
    let answer = cancelled.cancel().await.unwrap();
    assert_eq!((answer.outcome, answer.charge), (SettledAs::Repeated, Some(Charge::NOTHING)));
    let mut open = reserve(&limiter, &key, "open", charge).await;
    let _ = reserve(&limiter, &key, "open", charge).await.keep();
    assert!(open.amend(&output(9)).await.unwrap().is_allowed());
    let _ = open.keep();
    assert!(limiter.check_and_consume(&key, None, &charge).await.unwrap().is_allowed());
    assert_eq!(
        in_words(&mut events),
        [(UsageKind::Checked, None, 0)],
        "the last request of the day"
    );
    let denied = limiter.check_and_consume(&key, None, &charge).await.unwrap();
    assert!(!denied.is_allowed());
    let denied = limiter.check_once(&key, None, &charge, &id("other")).await.unwrap();
    assert!(!denied.is_allowed());
    let handle = limiter.handle(&key, None).await.unwrap().unwrap();
    assert!(!handle.check_and_consume(&charge).await.unwrap().is_allowed());
    let unknown = limiter.settle(&key, &id("unknown"), &output(1)).await.unwrap_err();
    assert!(matches!(unknown, ReservationError::Unknown(_)));
    assert_eq!(in_words(&mut events), []);
}

#[tokio::test]
async fn what_is_not_a_final_charge_is_not_reported_in_memory() {
    what_is_not_a_final_charge_is_not_reported(memory()).await;
}

#[tokio::test]
async fn what_is_not_a_final_charge_is_not_reported_on_redis() {
    what_is_not_a_final_charge_is_not_reported(redis("others").await).await;
}

#[tokio::test]
async fn what_shadow_mode_lets_through_is_not_charged_and_not_reported() {
    let limiter = Limiter::builder(memory()).shadow(true).build();
    let one = ci().with_global(Limits::builder().requests_per_day(1).build().unwrap());
    let key = key(&limiter, one).await;
    assert!(limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap().is_charged());
    let mut events = limiter.usage_events();
    let decision = limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap();
    assert!(decision.is_allowed() && !decision.is_charged());
    for cancels in [false, true] {
        let mut call = reserve(&limiter, &key, "shadowed", tokens(1, 1)).await;
        let answer =
            if cancels { call.cancel().await } else { call.settle(&output(5)).await }.unwrap();
        assert_eq!((answer.outcome, answer.charge), (SettledAs::Uncharged, Some(Charge::NOTHING)));
        assert_eq!(answer.asset, Some(gpt5()));
    }
    assert_eq!(in_words(&mut events), []);
}

/// Each of two limiters stands for a process: the one that settles has the event.
#[tokio::test]
async fn a_reservation_that_another_process_settles_is_reported_there_and_once() {
    let here = Limiter::from(redis("handed-over").await);
    let there = Limiter::from(redis("handed-over").await);
    let (mut at_home, mut abroad) = (here.usage_events(), there.usage_events());
    let key = key(&here, limited()).await;
    let kept = reserve(&here, &key, "kept", tokens(10, 20)).await.keep();
    assert!(there.settle(&key, &kept, &output(7)).await.unwrap().is_first());
    assert!(!here.settle(&key, &kept, &output(7)).await.unwrap().is_first());
    assert_eq!((in_words(&mut at_home), in_words(&mut abroad)), (vec![], vec![settled("kept", 7)]));
}

/// The answer is lost with the connection, and the store asks again. Or it comes too late, and the caller asks again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_whose_answer_is_lost_is_reported_once() {
    let server = RedisServer::run();
    let proxy = Proxy::to(&server.address());
    proxy.count_only(&["EVALSHA"]);
    let store = RedisStore::builder(proxy.url()).command_deadline(Duration::from_millis(800));
    let store = store.connect().await.unwrap();
    let limiter = Limiter::from(store);
    let mut events = limiter.usage_events();
    let key = key(&limiter, limited()).await;
    // Loads the script into the server.
    reserve(&limiter, &key, "warm", tokens(1, 1)).await.settle(&output(1)).await.unwrap();
    assert_eq!(in_words(&mut events), [settled("warm", 1)]);

    let mut call = reserve(&limiter, &key, "lost", tokens(10, 20)).await;
    proxy.lose_next_reply();
    assert!(call.settle(&output(7)).await.unwrap().is_first());
    assert_eq!(proxy.replies_lost(), 1);

    let mut call = reserve(&limiter, &key, "late", tokens(10, 20)).await;
    let executed = proxy.executed();
    proxy.hold_replies();
    let late = call.settle(&output(8)).await.unwrap_err();
    assert!(matches!(late, ReservationError::Store(StoreError::OutcomeUnknown(_))), "{late:?}");
    proxy.wait_until_executed(executed + 1);
    proxy.release();
    until_async("the repetition is answered", async || call.settle(&output(8)).await.is_ok()).await;
    call.settle(&output(8)).await.unwrap();
    assert_eq!(in_words(&mut events), [settled("lost", 7), settled("late", 8)]);
}

#[tokio::test]
async fn a_slow_subscriber_misses_the_oldest_and_gets_their_number() {
    let limiter = Limiter::builder(memory()).kept_usage_events(4).build();
    let (mut slow, mut quick) = (limiter.usage_events(), limiter.usage_events());
    let key = key(&limiter, ci()).await;
    for output in 0..10 {
        let charge = tokens(0, output);
        assert!(limiter.check_and_consume(&key, None, &charge).await.unwrap().is_allowed());
        assert_eq!(in_words(&mut quick), [(UsageKind::Checked, None, output)]);
    }
    let missed: Missed = slow.next().await.unwrap().unwrap_err();
    assert_eq!(missed.events, 6);
    assert_eq!(missed.to_string(), "6 events were missed: the subscriber is too slow");
    let left: Vec<_> = in_words(&mut slow).into_iter().map(|(_, _, output)| output).collect();
    assert_eq!(left, [6, 7, 8, 9]);
}

/// The call is charged already, so it is answered, and all other listeners get the event.
#[tokio::test]
async fn a_callback_is_called_before_the_caller_is_answered_and_its_panic_is_caught() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let after = Arc::clone(&lines);
    let limiter = Limiter::builder(memory())
        .on_usage(|event| panic!("cannot bear {event}"))
        .on_usage(move |event| after.lock().unwrap().push(event.clone()))
        .build();
    let key = key(&limiter, ci()).await;
    let charge = tokens(1, 2).with_credits("0.5".parse().unwrap());
    let _ = limiter.check_and_consume(&key, &gpt5(), &charge).await.unwrap();
    assert_eq!(lines.lock().unwrap().len(), 1);
    reserve(&limiter, &key, "job", charge).await.settle(&output(9)).await.unwrap();
    let events = lines.lock().unwrap().clone();
    assert_eq!(
        events[0].to_string(),
        format!(
            "{key}, checked: requests: 1, input tokens: 1, output tokens: 2, credits: 0.50; \
             asset \"gpt-5\", at 2025-10-09T12:00:00Z"
        )
    );
    let json = serde_json::to_value(&events[1]).unwrap();
    assert_eq!((&json["kind"], &json["id"]), (&"settled".into(), &"job".into()));
    assert_eq!(json["charge"]["output_tokens"], 9);
    assert_eq!(serde_json::from_value::<UsageEvent>(json).unwrap(), events[1]);
}

/// A thousand calls of eight tasks: checks, with and without an id, and reservations that are amended, settled above or
/// below their estimate, cancelled, and settled twice.
async fn the_sum_of_all_events_is_the_usage(store: impl Store) {
    let limiter = Limiter::builder(store).build();
    let mut events = limiter.usage_events();
    let limits = Limits::builder().requests_per_day(700).build().unwrap();
    let key = key(&limiter, ci().with_global(limits).with_asset(gpt5(), Limits::NONE)).await;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (limiter, key) = (limiter.clone(), key.clone());
        tasks.spawn(async move {
            for call in 0..CALLS / TASKS {
                mixed_call(&limiter, &key, task, call).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let (mut requests, mut tokens, mut credits) = (0, 0, 0);
    for UsageEvent { charge, .. } in so_far(&mut events) {
        requests += charge.requests();
        tokens += charge.input_tokens() + charge.output_tokens();
        credits += charge.credits().millionths();
    }
    let usage = limiter.usage(&key).await.unwrap().unwrap();
    let day = today(&usage);
    let used = (day.requests(), total_tokens(&day), usage.credits.spent.millionths());
    assert_eq!((requests, tokens, credits), used);
    assert!(requests > 0 && requests <= 700, "{requests}");
}

async fn mixed_call(limiter: &Limiter, key: &KeyId, task: u64, call: u64) {
    let (asset, name) = (gpt5(), id(&format!("{task}-{call}")));
    let charge = tokens(call % 7, call % 11).with_credits(Credits::from_millionths(call).unwrap());
    match (task + call) % 5 {
        0 => drop(limiter.check_and_consume(key, &asset, &charge).await.unwrap()),
        1 => {
            for _ in 0..2 {
                let _ = limiter.check_once(key, None, &charge, &name).await.unwrap();
            }
        }
        kind => {
            let reserved = limiter.reserve(key, &asset, &charge).await.unwrap();
            let Reserved::Allowed(mut reserved) = reserved else { return };
            match kind {
                2 => drop(reserved.cancel().await.unwrap()),
                3 => {
                    let _ = reserved.amend(&output(20)).await.unwrap();
                    reserved.settle(&output(3)).await.unwrap();
                }
                _ => {
                    for _ in 0..2 {
                        reserved.settle(&output(50)).await.unwrap();
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sum_of_all_events_is_the_usage_in_memory() {
    the_sum_of_all_events_is_the_usage(memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sum_of_all_events_is_the_usage_on_redis() {
    the_sum_of_all_events_is_the_usage(redis("sums").await).await;
}

/// A call that is let through is not charged. A settlement in the outage is reported when the store has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_fails_open_reports_what_the_store_charges_and_nothing_else() {
    let server = RedisServer::durable();
    let store = GuardedStoreBuilder::new(FailurePolicy::FailOpen)
        .probe_every(Duration::from_millis(50))
        .guard(RedisStore::connect(server.url()).await.unwrap());
    let limiter = Limiter::builder(store.clone()).build();
    let key = key(&limiter, limited()).await;
    let mut before = reserve(&limiter, &key, "before", tokens(10, 20)).await;
    let kept = reserve(&limiter, &key, "kept", tokens(10, 20)).await.keep();
    let mut events = limiter.usage_events();
    server.kill();
    let let_through = async || {
        let decision = limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap();
        assert!(decision.is_allowed() && decision.is_degraded());
    };
    let_through().await;
    let mut within = reserve(&limiter, &key, "within", tokens(10, 20)).await;
    let answer = within.settle(&output(3)).await.unwrap();
    assert_eq!((answer.outcome, answer.charge), (SettledAs::Uncharged, Some(Charge::NOTHING)));
    let answer = before.settle(&output(87)).await.unwrap();
    assert_eq!((answer.outcome, answer.charge), (SettledAs::Postponed, Some(tokens(10, 87))));
    assert_eq!(answer.asset, Some(gpt5()));
    let answer = limiter.settle(&key, &kept, &output(4)).await.unwrap();
    assert_eq!((answer.outcome, answer.charge), (SettledAs::Postponed, None));
    assert_eq!(in_words(&mut events), []);
    server.start();
    until_async("the store has all", async || store.is_well()).await;
    assert_eq!(in_words(&mut events), [settled("before", 87), settled("kept", 4)]);
}

/// A call that a share decides is charged and reported at once, and not again when the debt is paid to the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_reports_each_charge_once_and_not_again_when_it_is_paid() {
    let server = RedisServer::durable();
    let share = Share::one_in(NonZeroU32::MIN);
    let store = GuardedStoreBuilder::new(FailurePolicy::LocalShare { share })
        .probe_every(Duration::from_millis(50))
        .guard(RedisStore::connect(server.url()).await.unwrap());
    let limiter = Limiter::builder(store.clone()).build();
    let key = key(&limiter, limited()).await;
    let mut events = limiter.usage_events();
    let charge = tokens(1, 2);
    assert!(limiter.check_and_consume(&key, None, &charge).await.unwrap().is_allowed());
    until_async("the key is known", async || store.knows(&key)).await;
    server.kill();
    let (check, decided) = ((UsageKind::Checked, None, 2), async || {
        let decision = limiter.check_and_consume(&key, None, &charge).await.unwrap();
        assert!(decision.is_charged());
        decision.is_degraded()
    });
    assert!(decided().await);
    let mut call = reserve(&limiter, &key, "settled", tokens(10, 20)).await;
    assert!(call.settle(&output(87)).await.unwrap().is_first());
    assert!(!call.settle(&output(87)).await.unwrap().is_first());
    let mut call = reserve(&limiter, &key, "cancelled", tokens(10, 20)).await;
    assert!(call.cancel().await.unwrap().is_first());
    let cancelled = (UsageKind::Cancelled, Some("cancelled".to_owned()), 0);
    assert_eq!(in_words(&mut events), [check.clone(), check, settled("settled", 87), cancelled]);
    server.start();
    until_async("all is paid", async || store.is_well()).await;
    assert_eq!(in_words(&mut events), []);
    let day = today(&limiter.usage(&key).await.unwrap().unwrap());
    assert_eq!((day.requests(), total_tokens(&day)), (3, 3 + 3 + 97), "the sum of the events");
}

const HOUR: Duration = Duration::from_secs(3_600);
const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
const TASKS: u64 = 8;
const CALLS: u64 = 1_000;
