//! Replies of decisions and of reads that are lost on purpose: what ran is charged once, and what cannot be known is
//! reported as unknown.

use std::time::{Duration, Instant};

use limiter_core::{Charge, KeyConfig, KeyId, Search, Store, StoreError};
use limiter_redis::RedisStore;
use limiter_test_servers::{Proxy, RedisServer, until_async};
use tokio::task::JoinSet;

use super::load::{Load, Tally, call, connect, counted, create, key_with_budget, patient, whole};

/// A store behind a proxy that harms scripts only, and a key that has made no call.
pub(crate) struct Scene {
    pub(crate) server: RedisServer,
    pub(crate) proxy: Proxy,
    pub(crate) store: RedisStore,
    /// A store that bypasses the proxy.
    pub(crate) direct: RedisStore,
    pub(crate) key: KeyId,
}

impl Scene {
    pub(crate) async fn new(deadline: Duration) -> Self {
        let server = RedisServer::run();
        let proxy = Proxy::to(&server.address());
        proxy.count_only(&["EVALSHA"]);
        let direct = connect(server.url()).await;
        let key = key_with_budget(&direct, 1_000_000).await;
        // So that all scripts are there, also the one for records like those of the key.
        assert!(direct.peek(&key, None, &Charge::request()).await.unwrap().is_allowed());
        let config = KeyConfig::named("other").unwrap().with_budget(whole(10));
        let other = create(&direct, "other", config).await;
        for _ in 0..2 {
            assert!(call(&direct, &other).await.unwrap().is_allowed());
        }
        let store = patient(proxy.url()).command_deadline(deadline).connect().await.unwrap();
        Self { server, proxy, store, direct, key }
    }

    /// Makes a call that nothing happens to, so that the limits of the key are at hand.
    async fn warm(&self) {
        assert!(call(&self.store, &self.key).await.unwrap().is_allowed());
    }

    pub(crate) async fn counted(&self) -> u64 {
        counted(&self.direct, &self.key).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charge_whose_reply_is_lost_is_unknown_and_made_once() {
    let scene = Scene::new(LONG).await;
    scene.warm().await;
    let (sent, mut tally) = (scene.proxy.requests(), Tally::default());
    for _ in 0..100 {
        scene.proxy.lose_next_reply();
        tally.add(&call(&scene.store, &scene.key).await, Duration::ZERO);
    }
    tally.assert_counted("100 replies lost", scene.counted().await - 1);
    assert_eq!((tally.unknown, tally.failed_for("was lost before its answer came")), (100, 100));
    assert_eq!(scene.proxy.replies_lost(), 100);
    assert_eq!(scene.counted().await, 101, "each ran");
    assert_eq!(scene.proxy.requests() - sent, 100, "and none was sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_never_arrives_is_unknown_and_not_charged() {
    let scene = Scene::new(LONG).await;
    scene.warm().await;
    let mut tally = Tally::default();
    for _ in 0..50 {
        scene.proxy.cut_before_request();
        tally.add(&call(&scene.store, &scene.key).await, Duration::ZERO);
    }
    tally.assert_counted("50 requests cut", scene.counted().await - 1);
    assert_eq!((tally.unknown, scene.proxy.requests_cut()), (50, 50));
    assert_eq!(scene.counted().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_the_script_was_not_there_may_be_lost_too() {
    let scene = Scene::new(LONG).await;
    scene.warm().await;
    scene.server.command(&["SCRIPT", "FLUSH"]);
    scene.proxy.lose_next_reply();
    let error = call(&scene.store, &scene.key).await.unwrap_err();
    assert!(matches!(error, StoreError::OutcomeUnknown(_)), "{error:?}");
    println!("NOSCRIPT lost: 1 call, 1 unknown, {} counted", scene.counted().await - 1);
    assert_eq!((scene.counted().await, scene.proxy.replies_lost()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_reply_is_lost_is_charged_once_for_each_of_its_calls() {
    lose_the_reply_of_the_first_of(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_behind_one_whose_reply_is_lost_are_unknown_and_charged_once_as_well() {
    lose_the_reply_of_the_first_of(7).await;
}

/// One call is under way, and behind it this many full batches, which do not wait for its reply. It gets its reply, and the
/// connection breaks instead of the next one.
async fn lose_the_reply_of_the_first_of(batches: u64) {
    let scene = Scene::new(LONG).await;
    scene.warm().await;
    let (sent, executed) = (scene.proxy.requests(), scene.proxy.executed());
    scene.proxy.hold_replies();
    scene.proxy.lose_reply_after(1);
    let mut calls = JoinSet::new();
    let mut spawn = || {
        let (store, key) = (scene.store.clone(), scene.key.clone());
        calls.spawn(async move { call(&store, &key).await });
    };
    spawn();
    scene.proxy.wait_until_executed(executed + 1);
    (0..32 * batches).for_each(|_| spawn());
    until_async("all are charged", async || scene.counted().await == 2 + 32 * batches).await;
    scene.proxy.release();
    let mut tally = Tally::default();
    while let Some(answer) = calls.join_next().await {
        tally.add(&answer.unwrap(), Duration::ZERO);
    }
    tally.assert_counted(&format!("the first of {batches} lost"), scene.counted().await - 1);
    assert_eq!((scene.proxy.requests(), scene.proxy.replies_lost()), (sent + 1 + batches, 1));
    assert_eq!((tally.allowed, tally.unknown), (1, 32 * batches));
    assert_eq!(scene.counted().await, 2 + 32 * batches, "none was sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_late_is_unknown_and_not_taken_for_the_next() {
    let scene = Scene::new(Duration::from_millis(500)).await;
    scene.warm().await;
    scene.proxy.hold_replies();
    let began = Instant::now();
    let error = call(&scene.store, &scene.key).await.unwrap_err();
    println!("an answer held: {error:?} after {:?}", began.elapsed());
    assert!(matches!(error, StoreError::OutcomeUnknown(_)), "{error:?}");
    scene.proxy.release();
    let mut spent = Vec::new();
    while spent.len() < 20 {
        // On a busy machine, one of them may be late as well.
        if let Ok(decision) = call(&scene.store, &scene.key).await {
            let credits = decision.allowed().unwrap().credits();
            spent.push(credits.spent.millionths() / 1_000_000);
        }
    }
    assert!(spent[0] >= 3 && spent.is_sorted_by(|one, next| one < next), "{spent:?}");
    assert_eq!(scene.counted().await, spent[19]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_go_away_before_their_call_is_sent_are_not_charged() {
    let scene = Scene::new(LONG).await;
    scene.warm().await;
    let executed = scene.proxy.executed();
    scene.proxy.hold_replies();
    let begin = || {
        let (store, key) = (scene.store.clone(), scene.key.clone());
        async move { call(&store, &key).await }
    };
    let sent = tokio::spawn(begin());
    scene.proxy.wait_until_executed(executed + 1);
    // They wait behind the one that is under way.
    let mut waiting = JoinSet::new();
    for _ in 0..20 {
        waiting.spawn(begin());
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    waiting.shutdown().await;
    scene.proxy.release();
    assert!(sent.await.unwrap().unwrap().is_allowed());
    scene.warm().await;
    println!("20 callers gone: {} counted of 3 that were sent", scene.counted().await);
    assert_eq!(scene.counted().await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_goes_away_after_its_call_was_sent_is_charged_once() {
    let scene = Scene::new(LONG).await;
    scene.warm().await;
    let executed = scene.proxy.executed();
    scene.proxy.hold_replies();
    let (store, key) = (scene.store.clone(), scene.key.clone());
    let sent = tokio::spawn(async move { call(&store, &key).await });
    scene.proxy.wait_until_executed(executed + 1);
    sent.abort();
    assert!(sent.await.unwrap_err().is_cancelled());
    scene.proxy.release();
    scene.warm().await;
    println!("a caller gone: {} counted of 3 that were sent", scene.counted().await);
    assert_eq!(scene.counted().await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_lost_under_load_charge_nothing_twice() {
    let scene = Scene::new(LONG).await;
    scene.warm().await;
    let load = Load::start(&scene.store, &scene.key, 16);
    for lost in 1..=100 {
        scene.proxy.lose_next_reply();
        until_async("the reply is lost", async || scene.proxy.replies_lost() == lost).await;
    }
    load.until_allowed(100).await;
    let tally = load.end().await;
    tally.assert_counted("100 replies lost under load", scene.counted().await - 1);
    assert!(tally.unknown >= 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_whose_reply_is_lost_changed_nothing_for_sure() {
    let scene = Scene::new(LONG).await;
    scene.warm().await;
    let (store, key, proxy) = (&scene.store, &scene.key, &scene.proxy);
    let digest = limiter_core::AccessKey::new("sk-0123456789abcdef").unwrap().digest();
    let (charge, workspace) = (Charge::request(), "home".parse().unwrap());
    let mut wrong = Vec::new();
    let mut see = |what: &'static str, error: Option<StoreError>| match error {
        Some(StoreError::Unavailable(_)) => println!("{what}: lost, unavailable"),
        other => wrong.push((what, other)),
    };
    for lost in 1..=5 {
        proxy.lose_next_reply();
        match lost {
            1 => see("peek", store.peek(key, None, &charge).await.err()),
            2 => see("usage", store.usage(key).await.err()),
            3 => see("read", store.read(key).await.err()),
            4 => see("resolve", store.resolve(&digest).await.err()),
            _ => see("list", store.list(&workspace, &Search::all()).await.err()),
        }
        assert_eq!(proxy.replies_lost(), lost);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(scene.counted().await, 1);
}

/// No call is to end by it.
const LONG: Duration = Duration::from_secs(10);
