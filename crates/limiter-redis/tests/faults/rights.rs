//! The rights that the Redis user of a store needs: these and no others.

use std::time::Duration;

use limiter_conformance::servers::RedisServer;
use limiter_core::{
    AccessKey, AssetId, Charge, DecisionHandle, DecisionStore, KeyConfig, KeyId, KeyKind, KeyStore,
    Limits, NewRecord, RecordId, RequestId, ReservationStore, Search, StoredSecret, Totals,
};
use limiter_redis::RedisStore;

use crate::load::patient;

/// As the documentation of `RedisStoreBuilder` lists them.
const RIGHTS: &str = "+evalsha +script|load +role +info +ping +time \
    +hget +hgetall +hmget +hset +hdel +exists +get +set +del +unlink +pexpire +pttl \
    +sadd +scard +sismember +srem +zadd +zcard +zcount +zrange +zrangebylex +zrem +zremrangebyrank +zscore";

#[tokio::test]
async fn a_user_with_the_documented_rights_can_do_everything() {
    let store = store_with(RIGHTS).await;
    store.health().await.unwrap();
    everything(&store).await;
}

/// Each right is needed: without it something is refused.
#[tokio::test]
async fn no_right_is_asked_for_that_nothing_needs() {
    let documented = include_str!("../../src/builder.rs");
    for right in RIGHTS.split_whitespace() {
        assert!(documented.contains(right), "{right} is not documented");
    }
    let scripts = concat!(
        include_str!("../../src/lua/decide.lua"),
        include_str!("../../src/lua/keep.lua"),
        include_str!("../../src/lua/known.lua"),
        include_str!("../../src/lua/settle.lua"),
        include_str!("../../src/lua/full.lua"),
        include_str!("../../src/lua/expire.lua"),
        include_str!("../../src/lua/create.lua"),
        include_str!("../../src/lua/remove.lua"),
        include_str!("../../src/lua/reserve.lua"),
        include_str!("../../src/lua/check_once.lua"),
        include_str!("../../src/lua/clock_server.lua"),
        include_str!("../../src/lua/ledger.lua"),
        include_str!("../../src/lua/inspect.lua"),
        include_str!("../../src/lua/pointer_read.lua"),
        include_str!("../../src/lua/pointer_remove.lua"),
        include_str!("../../src/lua/pointer_set.lua"),
        include_str!("../../src/lua/workspace_prelude.lua"),
        include_str!("../../src/lua/workspace_begin.lua"),
        include_str!("../../src/lua/workspace_finish.lua"),
        include_str!("../../src/lua/workspace_list.lua"),
        include_str!("../../src/lua/workspace_abandon.lua"),
    );
    let of_the_client = ["evalsha", "script|load", "role", "info", "ping"];
    for right in RIGHTS.split_whitespace().map(|right| right.trim_start_matches('+')) {
        let called = scripts.contains(&format!("call('{}'", right.to_uppercase()));
        assert!(called || of_the_client.contains(&right), "nothing needs {right}");
    }
}

/// A store whose user has these rights on the keys of its prefix.
async fn store_with(rights: &str) -> RedisStore {
    let server = Box::leak(Box::new(RedisServer::run()));
    let mut user = vec!["ACL", "SETUSER", "limited", "reset", "on", ">password", "~mine:*"];
    user.extend(rights.split_whitespace());
    server.command(&user);
    let url = format!("redis://limited:password@{}", server.address());
    patient(url).key_prefix("mine").connect().await.expect("these rights are enough")
}

async fn everything(store: &RedisStore) {
    let workspace = "home".parse().unwrap();
    let access_key = AccessKey::new("sk-0123456789abcdefghij-01").unwrap();
    let gpt5: AssetId = "gpt-5".parse().unwrap();
    let limits = Limits::builder().requests_per_day(100).build().unwrap();
    let config =
        KeyConfig::named("ci").unwrap().with_global(limits).with_asset(gpt5.clone(), limits);
    let record = |id: &str, kind, config| NewRecord {
        id: id.parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind,
        config,
        secret: (kind == KeyKind::Member).then(|| StoredSecret::from(&access_key)),
        bootstraps: kind == KeyKind::Admin,
    };
    let admin = KeyConfig::named("admin").unwrap();
    store.create(record("admin", KeyKind::Admin, admin.clone())).await.unwrap();
    store
        .create(record("admin 2", KeyKind::Admin, KeyConfig::named("another").unwrap()))
        .await
        .unwrap_err();
    let created = store.create(record("ci", KeyKind::Member, config)).await.unwrap();
    let key: KeyId = created.id.clone();
    assert_eq!(store.resolve(&access_key.digest()).await.unwrap(), Some(key.clone()));
    assert!(store.read(&key).await.unwrap().is_some());
    assert_eq!(
        store.list(&workspace, &Search::all().name_contains("c")).await.unwrap().keys.len(),
        1
    );

    let charge = Charge::request().with_tokens(3, 4).unwrap();
    assert!(store.check_and_consume(&key, Some(&gpt5), &charge).await.unwrap().is_charged());
    assert!(store.peek(&key, Some(&gpt5), &charge).await.unwrap().is_allowed());
    let handle = store.handle(&key, Some(&gpt5)).await.unwrap().unwrap();
    assert!(handle.check_and_consume(&charge).await.unwrap().is_charged());
    let id = |text: &str| text.parse::<RequestId>().unwrap();
    let total = Totals::unchanged().with_output_tokens(9).unwrap();
    for name in [id("settled"), id("cancelled")] {
        let ttl = Duration::from_secs(9);
        let reserved = store.reserve(&key, Some(&gpt5), &charge, &name, ttl).await.unwrap();
        assert!(reserved.is_charged());
        assert!(store.extend(&key, &name, &total).await.unwrap().is_charged());
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

    let renamed = KeyConfig { name: "ci 2".parse().unwrap(), ..created.config() };
    let renamed = store.update(&workspace, &key, 1, &renamed).await.unwrap();
    let without_limits = KeyConfig { assets: [].into(), ..renamed.config() };
    store.update(&workspace, &key, renamed.version, &without_limits).await.unwrap();
    store.delete(&workspace, &key).await.unwrap();
    assert_eq!(store.resolve(&access_key.digest()).await.unwrap(), None);
}
