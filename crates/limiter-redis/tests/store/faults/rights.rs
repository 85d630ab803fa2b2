//! The rights that the Redis user of a store needs: these and no others.

use std::error::Error;
use std::time::Duration;

use limiter_core::{
    AccessKey, AssetId, Charge, KeyConfig, KeyId, KeyKind, Limits, NewRecord, RecordId, RequestId,
    Search, Store, StoreError, StoredSecret, Thresholds, Totals,
};
use limiter_redis::{RedisError, RedisStore};
use limiter_test_servers::RedisServer;

use super::load::patient;
use crate::update::update;

/// As the documentation of `RedisStoreBuilder` has them.
const RIGHTS: &str = include_str!("../../../src/rights.txt");

#[tokio::test]
async fn a_user_with_the_documented_rights_can_do_everything() {
    let server = server_for(RIGHTS.split_whitespace(), "~mine:*");
    let store = connect(&server).await.expect("these rights are enough");
    store.health().await.unwrap();
    everything(&store).await;
}

#[test]
fn the_readme_of_the_server_has_the_documented_rights() {
    let readme = include_str!("../../../../limiter-server/README.md");
    for line in RIGHTS.lines() {
        assert!(readme.contains(line), "the README lacks {line}");
    }
}

/// Each right is needed: without it something is refused, on connecting if possible, and named.
#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    for missing in RIGHTS.split_whitespace() {
        let others = RIGHTS.split_whitespace().filter(|right| *right != missing);
        let server = server_for(others, "~mine:*");
        let connected = connect(&server).await;
        let error = match (missing, connected) {
            // Neither is worth a refusal.
            ("+role" | "+info", connected) => {
                connected.unwrap().health().await.unwrap();
                continue;
            }
            ("+ping", connected) => connected.unwrap().health().await.unwrap_err(),
            (_, connected) => connected.unwrap_err(),
        };
        let allow = match missing {
            "+evalsha" | "+eval" | "+script|load" => {
                "<user> +evalsha +eval +script|load".to_owned()
            }
            missing => format!("<user> {missing}"),
        };
        assert!(error.to_string().ends_with(&allow), "{missing}: {error}");
    }
}

#[tokio::test]
async fn all_rights_that_are_missing_are_named_at_once() {
    let server = server_for(["+@all", "-@sortedset", "+zadd"].into_iter(), "~mine:*");
    let error = connect(&server).await.unwrap_err();
    assert!(error.to_string().contains("may not use ZCARD, ZCOUNT, ZRANGE, "), "{error}");
    assert!(error.to_string().contains("ACL SETUSER <user> +zcard +zcount +zrange "), "{error}");
}

#[tokio::test]
async fn keys_that_the_user_may_not_use_are_named() {
    let server = server_for(RIGHTS.split_whitespace(), "~other:*");
    let error = connect(&server).await.unwrap_err();
    assert!(error.to_string().ends_with("ACL SETUSER <user> ~mine:*"), "{error}");
}

/// The server stops a script, and may say no more than in which line.
#[tokio::test]
async fn a_right_that_is_taken_away_later_is_named_by_the_call_that_needs_it() {
    let server = server_for(RIGHTS.split_whitespace(), "~mine:*");
    let store = connect(&server).await.unwrap();
    let key = "ci".parse().unwrap();
    server.command(&["ACL", "SETUSER", "limited", "-time"]);
    let error = store.check_and_consume(&key, None, &Charge::request()).await.unwrap_err();
    assert!(cause_of(&error).ends_with("<user> +time"), "{}", cause_of(&error));
    server.command(&["ACL", "SETUSER", "limited", "+time", "-hgetall"]);
    let error = store.read(&key).await.unwrap_err();
    assert!(cause_of(&error).ends_with("<user> +hgetall"), "{}", cause_of(&error));
    server.command(&["ACL", "SETUSER", "limited", "+hgetall"]);
    assert!(store.read(&key).await.unwrap().is_none());
    server.command(&["ACL", "SETUSER", "limited", "resetkeys", "~other:*"]);
    let error = store.check_and_consume(&key, None, &Charge::request()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(cause_of(&error).ends_with("<user> ~mine:*"), "{}", cause_of(&error));
}

/// A server with a user `limited` who has these rights on these keys.
fn server_for<'a>(rights: impl Iterator<Item = &'a str>, keys: &'a str) -> RedisServer {
    let server = RedisServer::run();
    let mut user = vec!["ACL", "SETUSER", "limited", "reset", "on", ">password", keys];
    user.extend(rights);
    server.command(&user);
    server
}

async fn connect(server: &RedisServer) -> Result<RedisStore, RedisError> {
    let url = format!("redis://limited:password@{}", server.address());
    patient(url).key_prefix("mine").connect().await
}

/// The innermost error.
fn cause_of(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

fn admin(id: &str) -> NewRecord {
    NewRecord {
        id: id.parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind: KeyKind::Admin,
        config: KeyConfig::named(id).unwrap(),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: true,
    }
}

async fn everything(store: &RedisStore) {
    let workspace = "home".parse().unwrap();
    let access_key = AccessKey::new("sk-0123456789abcdefghij-01").unwrap();
    let gpt5: AssetId = "gpt-5".parse().unwrap();
    let limits = Limits::builder().requests_per_day(100).build().unwrap();
    let config = KeyConfig::named("ci").unwrap().with_global(limits.clone());
    let config = config.with_asset(gpt5.clone(), limits);
    let record = |id: &str, kind, config| NewRecord {
        id: id.parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: (kind == KeyKind::Member).then(|| StoredSecret::from(&access_key)),
        bootstraps: kind == KeyKind::Admin,
    };
    store.create(admin("admin")).await.unwrap();
    store
        .create(record("admin 2", KeyKind::Admin, KeyConfig::named("another").unwrap()))
        .await
        .unwrap_err();
    let created = store.create(record("ci", KeyKind::Member, config)).await.unwrap();
    let key: KeyId = created.id.clone();
    let named = |name: &str| KeyConfig::named(name).unwrap();
    let more = ["a", "b"]
        .map(|id| record(id, KeyKind::Member, named(id)))
        .map(|key| NewRecord { secret: None, ..key });
    assert!(store.create_many(more.into()).await.unwrap().iter().all(Result::is_ok));
    assert_eq!(store.resolve(&access_key.digest()).await.unwrap(), Some(key.clone()));
    assert!(store.read(&key).await.unwrap().is_some());
    assert_eq!(
        store.list(&workspace, &Search::all().name_contains("c")).await.unwrap().keys.len(),
        1
    );

    let charge = Charge::request().with_tokens(3, 4).unwrap();
    assert!(store.check_and_consume(&key, Some(&gpt5), &charge).await.unwrap().is_charged());
    assert!(store.peek(&key, Some(&gpt5), &charge).await.unwrap().is_allowed());
    let id = |text: &str| text.parse::<RequestId>().unwrap();
    let total = Totals::unchanged().with_output_tokens(9).unwrap();
    for name in [id("settled"), id("cancelled")] {
        let ttl = Duration::from_secs(9);
        let reserved = store.reserve(&key, Some(&gpt5), &charge, &name, ttl).await.unwrap();
        assert!(reserved.is_charged());
        assert!(store.amend(&key, &name, &total).await.unwrap().is_charged());
    }
    store.settle(&key, &id("settled"), &total).await.unwrap();
    store.cancel(&key, &id("cancelled")).await.unwrap();
    assert!(store.check_once(&key, None, &charge, &id("once")).await.unwrap().is_charged());
    store
        .record(&key, None, &charge, &RecordId::new(&id("recorded"), Duration::from_secs(86_400)))
        .await
        .unwrap();
    store.ledger(&key).await.unwrap().unwrap();
    assert!(store.usage(&key).await.unwrap().is_some());
    assert!(store.history(&key, 35).await.unwrap().is_some());
    let ci = "ci".parse().unwrap();
    assert_eq!(store.find(&workspace, &ci).await.unwrap(), Some(key.clone()));

    let renamed = KeyConfig { name: "ci 2".parse().unwrap(), ..created.config };
    let renamed = store.update(&workspace, &update(&key, 1, &renamed)).await.unwrap().record;
    let without_limits = KeyConfig { assets: [].into(), ..renamed.config };
    store.update(&workspace, &update(&key, renamed.version, &without_limits)).await.unwrap();
    // It closes the day.
    store.reset(&workspace, &key).await.unwrap();
    store.delete(&workspace, &key).await.unwrap();
    assert_eq!(store.resolve(&access_key.digest()).await.unwrap(), None);
}
