//! Open groups on a server's own clock: unregistered keys expire in Redis, and no others.

use std::time::Duration;

use limiter_core::{
    Charge, Decision, KeyConfig, KeyId, KeyKind, Limits, NewRecord, Plan, PlanUpdate, RequestId,
    Store, Thresholds, Totals, WorkspaceId,
};
use limiter_redis::RedisStore;
use limiter_test_servers::{fresh_name, shared};

use crate::common;

/// A minute at most, and a minute more, should the clock step back. What is remembered of a call by its id lasts longer.
#[tokio::test]
async fn the_state_of_an_unregistered_key_expires_with_its_windows() {
    let (store, names) = open().await;
    let address: KeyId = "ip/203.0.113.7".parse().unwrap();
    assert!(
        store.check_and_consume(&address, None, &Charge::request()).await.unwrap().is_allowed()
    );
    let lives = names.lives("203.0.113.7");
    assert_eq!(lives.len(), 2, "the counts and the limits: {lives:?}");
    assert!(lives.iter().all(|(_, ms)| (60_000..=120_000).contains(ms)), "{lives:?}");

    let (id, hour): (RequestId, _) = ("r".parse().unwrap(), Duration::from_secs(3_600));
    let reserved = store.reserve(&address, None, &Charge::request(), &id, hour).await.unwrap();
    assert!(reserved.is_allowed());
    store.settle(&address, &id, &Totals::unchanged()).await.unwrap();
    let lives = names.lives("203.0.113.7");
    assert!(lives.iter().all(|(_, ms)| *ms > 120_000), "it is remembered: {lives:?}");
}

#[tokio::test]
async fn a_denied_call_and_one_without_a_request_store_nothing() {
    let (store, names) = open().await;
    let address: KeyId = "ip/203.0.113.7".parse().unwrap();
    let top_up = Charge::request().with_requests(0).unwrap().with_tokens(5, 0).unwrap();
    assert!(store.check_and_consume(&address, None, &top_up).await.unwrap().is_allowed());
    let too_many = Charge::request().with_requests(21).unwrap();
    assert!(!store.check_and_consume(&address, None, &too_many).await.unwrap().is_allowed());
    assert_eq!(names.lives("203.0.113.7"), []);
    let usage = store.usage(&"ip".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(usage.scopes[0].account.input_tokens(), 5, "the group has counted it");
}

#[tokio::test]
async fn a_key_that_is_registered_later_does_not_expire() {
    let (store, names) = open().await;
    let address: KeyId = "ip/203.0.113.7".parse().unwrap();
    assert!(
        store.check_and_consume(&address, None, &Charge::request()).await.unwrap().is_allowed()
    );
    store
        .create(record("ip/203.0.113.7", KeyKind::Member, KeyConfig::named("a").unwrap()))
        .await
        .unwrap();
    assert!(
        store.check_and_consume(&address, None, &Charge::request()).await.unwrap().is_allowed()
    );
    let lives = names.lives("203.0.113.7");
    assert!(lives.iter().all(|(_, ms)| *ms == -1), "{lives:?}");
}

/// A server that lost its data may get a group of the same id in another workspace. Which one a group had was once known for good.
#[tokio::test]
async fn a_group_that_comes_back_in_another_workspace_has_the_plan_of_that_one() {
    let (store, names) = open().await;
    let call = async |address: &str| {
        let address: KeyId = address.parse().unwrap();
        store.check_and_consume(&address, None, &Charge::request()).await.unwrap()
    };
    assert!(call("ip/a").await.is_allowed());
    names.lose();
    open_in(
        &common::empty(shared().url()).key_prefix(&names.0).connect().await.unwrap(),
        "away",
        1,
    )
    .await;
    let of_plan = |decision: Decision| decision.rules().map(|rule| rule.limit).last();
    assert_eq!(of_plan(call("ip/b").await), Some(1));
    assert!(!call("ip/b").await.is_allowed());
}

/// The first of all reads the workspace of the group too. This process knows the plan, which it has saved.
#[cfg(feature = "fuzzing")]
#[tokio::test]
async fn a_call_of_an_unregistered_key_takes_one_trip_and_its_first_one_two() {
    let (store, _) = open().await;
    let trips = async |name: &str| {
        store.take_trips();
        let address: KeyId = format!("ip/{name}").parse().unwrap();
        let decision = store.check_and_consume(&address, None, &Charge::request()).await.unwrap();
        assert!(decision.is_allowed());
        store.take_trips().into_values().sum::<u64>()
    };
    assert_eq!(trips("a").await, 3);
    assert_eq!([trips("b").await, trips("b").await], [2, 1]);
}

/// The Redis keys of a store.
struct Names(String);

impl Names {
    /// Those with this text in their names, each with its life in ms, or -1 if it does not expire.
    fn lives(&self, text: &str) -> Vec<(String, i64)> {
        let mut connection = redis::Client::open(shared().url()).unwrap().get_connection().unwrap();
        let pattern = format!("*{}*", self.0);
        let names: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut connection).unwrap();
        let names = names.into_iter().filter(|name| name.contains(text));
        let mut life = |name| redis::cmd("PTTL").arg(name).query(&mut connection).unwrap();
        names.map(|name| (name.clone(), life(name))).collect()
    }

    /// Deletes all of them, unseen by the store.
    fn lose(&self) {
        let mut connection = redis::Client::open(shared().url()).unwrap().get_connection().unwrap();
        let pattern = format!("*{}*", self.0);
        let names: Vec<String> = redis::cmd("KEYS").arg(pattern).query(&mut connection).unwrap();
        redis::cmd("DEL").arg(names).exec(&mut connection).unwrap();
    }
}

/// A store with a group in which each address may make 20 requests a minute.
async fn open() -> (RedisStore, Names) {
    let prefix = fresh_name("open");
    let store = common::empty(shared().url()).key_prefix(&prefix).connect().await.unwrap();
    open_in(&store, "home", 20).await;
    (store, Names(prefix))
}

/// Opens the group in a workspace, with this many requests a minute for each address.
async fn open_in(store: &RedisStore, workspace: &str, requests: u64) {
    let workspace: WorkspaceId = workspace.parse().unwrap();
    let per_minute = |requests| Limits::builder().requests_per_minute(requests).build().unwrap();
    let plan = PlanUpdate::new("each".parse().unwrap(), Plan::from(per_minute(requests)));
    store.save_plan(&workspace, &plan).await.unwrap();
    let config = KeyConfig::named("ip").unwrap().with_open("each".parse().unwrap());
    let group = record("ip", KeyKind::Group, config.with_global(per_minute(99)));
    store.create(NewRecord { workspace, ..group }).await.unwrap();
}

fn record(id: &str, kind: KeyKind, config: KeyConfig) -> NewRecord {
    NewRecord {
        id: id.parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    }
}
