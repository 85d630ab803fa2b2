//! The data of a key is bounded by its configuration, and nothing is left of deleted keys and removed limits.

use std::time::Duration;

use limiter_conformance::fixtures::NOON;
use limiter_core::{
    AccessKey, AssetId, Charge, KeyConfig, KeyId, KeyKind, Limits, ManualClock, NewRecord, Store,
    StoredSecret, Thresholds, Timestamp,
};
use limiter_redis::RedisStore;
use limiter_test_servers::RedisServer;

use super::load::{create, patient, whole};
use crate::update::update;

#[tokio::test]
async fn a_deleted_key_leaves_nothing() {
    let (server, store, _) = scene().await;
    let workspace = "home".parse().unwrap();
    for number in 0..20 {
        let access_key =
            AccessKey::new(format!("sk-{number:02}-0123456789ab-{number:02}")).unwrap();
        let key = NewRecord {
            id: format!("key {number}").parse().unwrap(),
            workspace: "home".parse().unwrap(),
            kind: KeyKind::Member,
            config: configured(&format!("name {number}")),
            thresholds: Thresholds::DEFAULT,
            secret: Some(StoredSecret::from(&access_key)),
            bootstraps: false,
        };
        let id = store.create(key).await.unwrap().id;
        admit(&store, &id, Some("m1")).await;
    }
    let full = server.text_of(&["DBSIZE"]);
    for number in 0..20 {
        store.delete(&workspace, &format!("key {number}").parse().unwrap()).await.unwrap();
    }
    println!("20 keys: {full} Redis keys, {} after deleting them", server.text_of(&["DBSIZE"]));
    assert_eq!(server.text_of(&["KEYS", "*"]), "array([])");
}

#[tokio::test]
async fn assets_without_limits_create_nothing() {
    let (server, store, _) = scene().await;
    let key = create(&store, "busy", configured("busy")).await;
    let before = size(&server);
    for number in 0..1_000 {
        admit(&store, &key, Some(&format!("asset {number}"))).await;
    }
    println!("1000 assets without limits: {before:?} before, {:?} after", size(&server));
    assert_eq!(size(&server), before);
}

#[tokio::test]
async fn keys_that_do_not_exist_create_nothing() {
    let (server, store, _) = scene().await;
    for number in 0..100 {
        let id: KeyId = format!("nobody {number}").parse().unwrap();
        let decision = store.check_and_consume(&id, None, &Charge::request()).await.unwrap();
        assert!(!decision.is_allowed());
        assert!(store.usage(&id).await.unwrap().is_none());
    }
    println!("100 unknown keys: {} Redis keys", server.text_of(&["DBSIZE"]));
    assert_eq!(server.text_of(&["DBSIZE"]), "int(0)");
}

#[tokio::test]
async fn an_asset_whose_limits_are_gone_leaves_nothing_when_it_is_called_after_both_windows() {
    let (server, store, clock) = scene().await;
    let key = create(&store, "busy", configured("busy")).await;
    admit(&store, &key, Some("m1")).await;
    let full = fields(&server);
    let config = KeyConfig::named("busy").unwrap().with_global(limits());
    store.update(&"home".parse().unwrap(), &update(&key, 1, &config)).await.unwrap();
    let pending = fields(&server);
    clock.advance(2 * DAY);
    for asset in ASSETS {
        admit(&store, &key, Some(asset)).await;
    }
    println!("fields: {full} with limits, {pending} as they end, {} afterwards", fields(&server));
    assert_eq!((full, pending, fields(&server)), (2 + 2 * 3, 2 + 2 * 3, 2));
    let usage = store.usage(&key).await.unwrap().unwrap();
    assert_eq!(usage.scopes.len(), 1, "{usage:?}");
}

/// But for the history: a row for each scope and day that is kept.
#[tokio::test]
async fn what_a_key_stores_does_not_grow_with_its_calls() {
    let (server, clock) = (RedisServer::run(), ManualClock::at(NOON));
    let store = patient(server.url()).clock(clock.clone()).history_days(DAYS);
    let store = store.connect().await.unwrap();
    let key = create(&store, "busy", configured("busy")).await;
    let (before, keys) = (size(&server), number(&server, &["DBSIZE"]));
    let rows = || number(&server, &["ZCARD", HISTORY]);
    let mut most = 0;
    for call in 0..600 {
        admit(&store, &key, Some(ASSETS[call % 3])).await;
        clock.advance(Duration::from_secs(1_200));
        most = most.max(rows());
    }
    println!("600 calls in eight days: {before:?} before, {:?} after, {most} rows", size(&server));
    assert_eq!((size(&server), number(&server, &["DBSIZE"])), (before, keys + 1));
    // The days that are kept, and one that lasts longer than others.
    let scopes = 1 + ASSETS.len() as u64;
    assert!((scopes..=scopes * (u64::from(DAYS) + 2)).contains(&most), "{most}");
    let history = store.history(&key, 400).await.unwrap().unwrap();
    assert_eq!(history.len(), usize::from(DAYS));
}

#[tokio::test]
async fn a_configured_key_never_expires_in_redis() {
    let (server, store, clock) = scene().await;
    let config = configured("busy").with_expiry(Timestamp::from_unix_ms(1_000));
    let key = create(&store, "busy", config).await;
    let decision = store.check_and_consume(&key, None, &Charge::request()).await.unwrap();
    assert!(!decision.is_allowed(), "its own expiry is over");
    let other = create(&store, "other", configured("other")).await;
    admit(&store, &other, Some("m1")).await;
    clock.advance(400 * DAY);
    admit(&store, &other, Some("m1")).await;
    let names = redis_names(&server);
    let lives: Vec<_> = names.iter().map(|name| server.text_of(&["TTL", name])).collect();
    println!("{names:?}: {lives:?}");
    assert!(names.len() >= 4 && lives.iter().all(|life| life == "int(-1)"));
}

async fn scene() -> (RedisServer, RedisStore, ManualClock) {
    let server = RedisServer::run();
    let clock = ManualClock::at(NOON);
    let store = patient(server.url()).clock(clock.clone()).connect().await.unwrap();
    (server, store, clock)
}

fn limits() -> Limits {
    Limits::builder().requests_per_minute(10_000).tokens_per_day(1_000_000).build().unwrap()
}

fn configured(name: &str) -> KeyConfig {
    let config = KeyConfig::named(name).unwrap().with_global(limits()).with_budget(whole(1_000));
    ASSETS.iter().fold(config, |config, asset| config.with_asset(asset.parse().unwrap(), limits()))
}

async fn admit(store: &RedisStore, key: &KeyId, asset: Option<&str>) {
    let asset: Option<AssetId> = asset.map(|asset| asset.parse().unwrap());
    let charge = Charge::request().with_tokens(1, 1).unwrap();
    let decision = store.check_and_consume(key, asset.as_ref(), &charge).await.unwrap();
    assert!(decision.is_allowed(), "{decision:?}");
}

fn fields(server: &RedisServer) -> u64 {
    [STATE, LIMITS].iter().map(|key| number(server, &["HLEN", key])).sum()
}

/// Fields and bytes of the key's counts and limits.
fn size(server: &RedisServer) -> (u64, u64) {
    let bytes = [STATE, LIMITS].iter().map(|key| number(server, &["MEMORY", "USAGE", key]));
    (fields(server), bytes.sum())
}

fn number(server: &RedisServer, words: &[&str]) -> u64 {
    let text = server.text_of(words);
    text.trim_start_matches("int(").trim_end_matches(')').parse().unwrap()
}

fn redis_names(server: &RedisServer) -> Vec<String> {
    redis::from_redis_value(server.command(&["KEYS", "*"])).unwrap()
}

/// The answer of a server as text, whatever its type.
trait TextOf {
    fn text_of(&self, words: &[&str]) -> String;
}

impl TextOf for RedisServer {
    fn text_of(&self, words: &[&str]) -> String {
        format!("{:?}", self.command(words))
    }
}

const ASSETS: [&str; 3] = ["m1", "m2", "m3"];
const DAY: Duration = Duration::from_secs(86_400);
/// The days that the history goes back.
const DAYS: u16 = 3;
const HISTORY: &str = "limiter:h:{busy}";
const STATE: &str = "limiter:k:{busy}";
const LIMITS: &str = "limiter:l:{busy}";
