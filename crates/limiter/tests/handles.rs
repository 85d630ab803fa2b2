//! A handle decides as calls by its key do.

use std::sync::Arc;

use limiter::memory::MemoryStore;
use limiter::redis::RedisStore;
use limiter::{
    AssetId, Charge, CreatedKey, DenialReason, Handle, KeyConfig, KeyId, Limiter, LimiterBuilder,
    Limits, ManualClock, NewKey, Timestamp,
};
use limiter_test_servers as servers;
use tokio::sync::Barrier;

/// A limiter with the admin key of a workspace.
struct Team {
    limiter: Limiter,
    admin: KeyId,
}

impl Team {
    async fn of(builder: LimiterBuilder) -> Self {
        let limiter = builder.build();
        let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
        let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap();
        Self { limiter, admin: admin.record.id }
    }

    async fn member(&self, config: KeyConfig) -> CreatedKey {
        self.limiter.keys_as(&self.admin).create(NewKey::member(config)).await.unwrap()
    }

    async fn handle(&self, key: &KeyId, asset: Option<&AssetId>) -> Handle {
        self.limiter.handle(key, asset).await.unwrap().expect("the key is known")
    }

    async fn delete(&self, key: &KeyId) {
        self.limiter.keys_as(&self.admin).delete(key).await.unwrap();
    }
}

/// Each story, in memory and on Redis.
macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                let store = super::MemoryStore::builder().clock(super::clock()).build();
                super::$story(super::Limiter::builder(store)).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(super::Limiter::builder(super::redis(stringify!($story)).await)).await;
            })*
        }
    };
}

stories! {
    a_handle_sees_the_deletion_of_its_key,
    an_unknown_key_has_no_handle,
    a_handle_does_not_pass_to_the_next_key_of_the_name,
    handles_and_keys_share_the_limit,
    a_handle_is_in_shadow_as_its_key_is,
    a_handle_raises_events_as_its_key_does,
    a_handle_shows_no_secret,
}

async fn a_handle_sees_the_deletion_of_its_key(builder: LimiterBuilder) {
    let team = Team::of(builder).await;
    let key = team.member(named("ci").with_asset(asset("m1"), per_day(9))).await.record.id;
    let mut handles = Vec::new();
    for called in [None, Some(asset("m1")), Some(asset("m2"))] {
        let handle = team.handle(&key, called.as_ref()).await;
        assert!(handle.check_and_consume(&Charge::request()).await.unwrap().is_allowed());
        handles.extend([handle.clone(), handle]);
    }
    team.delete(&key).await;
    for handle in handles {
        assert_unknown(&handle).await;
    }
}

async fn an_unknown_key_has_no_handle(builder: LimiterBuilder) {
    let team = Team::of(builder).await;
    let key = team.member(named("ci")).await.record.id;
    team.delete(&key).await;
    for unknown in [key, "nobody".parse().unwrap()] {
        assert!(team.limiter.handle(&unknown, None).await.unwrap().is_none());
    }
}

/// Also in memory, where the next key may take the place of the one before.
async fn a_handle_does_not_pass_to_the_next_key_of_the_name(builder: LimiterBuilder) {
    let team = Team::of(builder).await;
    let mut handles = Vec::new();
    for _ in 0..20 {
        let key = team.member(named("ci")).await.record.id;
        handles.push(team.handle(&key, None).await);
        team.delete(&key).await;
    }
    let key = team.member(named("ci")).await.record.id;
    for handle in &handles {
        assert_unknown(handle).await;
    }
    assert!(team.handle(&key, None).await.peek(&Charge::request()).await.unwrap().is_allowed());
}

/// By a handle, its clones, and by the key at once.
async fn handles_and_keys_share_the_limit(builder: LimiterBuilder) {
    let team = Team::of(builder).await;
    let key = team.member(named("busy").with_global(per_day(100))).await.record.id;
    let handle = team.handle(&key, None).await;
    let start = Arc::new(Barrier::new(TASKS));
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (start, limiter) = (start.clone(), team.limiter.clone());
        let (handle, key) = (handle.clone(), key.clone());
        tasks.push(tokio::spawn(async move {
            let charge = Charge::request();
            start.wait().await;
            let mut admitted = 0;
            for _ in 0..CALLS {
                let decision = match task % 2 {
                    0 => handle.check_and_consume(&charge).await,
                    _ => limiter.check_and_consume(&key, None, &charge).await,
                };
                admitted += usize::from(decision.unwrap().is_allowed());
            }
            admitted
        }));
    }
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.unwrap();
    }
    assert_eq!(admitted, 100);
}

/// At once, also for handles that exist already, and for those of a limiter in shadow.
async fn a_handle_is_in_shadow_as_its_key_is(builder: LimiterBuilder) {
    let team = Team::of(builder).await;
    let record = team.member(named("ci").with_global(per_day(1))).await.record;
    let handle = team.handle(&record.id, None).await;
    assert!(handle.check_and_consume(&Charge::request()).await.unwrap().is_allowed());
    let mut version = record.version;
    for shadow in [true, false, true] {
        let config = record.config.clone().with_shadow(shadow);
        let updated = team.limiter.keys_as(&team.admin).update(&record.id, version, &config).await;
        version = updated.unwrap().record.version;
        let charge = Charge::request();
        for decision in [handle.check_and_consume(&charge).await, handle.peek(&charge).await] {
            let decision = decision.unwrap();
            assert_eq!((decision.is_allowed(), decision.is_charged()), (shadow, false));
        }
    }
}

/// The threshold of 80 % is at the fourth of five requests. A peek raises no event.
async fn a_handle_raises_events_as_its_key_does(builder: LimiterBuilder) {
    let team = Team::of(builder).await;
    let mut thresholds = team.limiter.threshold_events();
    let mut charges = team.limiter.usage_events();
    let key = team.member(named("ci").with_asset(asset("m1"), per_day(5))).await.record.id;
    let handle = team.handle(&key, Some(&asset("m1"))).await;
    for _ in 0..3 {
        assert!(handle.check_and_consume(&Charge::request()).await.unwrap().is_allowed());
    }
    assert!(handle.peek(&Charge::request()).await.unwrap().is_allowed());
    let decision = handle.check_and_consume(&Charge::request()).await.unwrap();
    assert_eq!(decision.allowed().unwrap().crossed().len(), 1);
    let event = thresholds.next().await.unwrap().unwrap();
    assert_eq!((event.key, event.crossing.percent), (key.clone(), 80));
    for _ in 0..4 {
        let event = charges.next().await.unwrap().unwrap();
        assert_eq!((event.key, event.asset), (key.clone(), Some(asset("m1"))));
    }
    drop((team, handle));
    assert!(thresholds.next().await.is_none() && charges.next().await.is_none());
}

async fn a_handle_shows_no_secret(builder: LimiterBuilder) {
    let team = Team::of(builder).await;
    let created = team.member(named("ci")).await;
    let handle = team.handle(&created.record.id, None).await;
    let secret = created.access_key.unwrap();
    assert!(!format!("{handle:?}").contains(secret.expose()));
}

async fn assert_unknown(handle: &Handle) {
    let charge = Charge::request();
    for decision in [handle.check_and_consume(&charge).await, handle.peek(&charge).await] {
        let decision = decision.unwrap();
        assert_eq!(
            decision.denied().map(|denied| denied.reason()),
            Some(&DenialReason::KeyUnknown)
        );
    }
}

fn named(name: &str) -> KeyConfig {
    KeyConfig::named(name).unwrap()
}

fn asset(id: &str) -> AssetId {
    id.parse().unwrap()
}

fn per_day(requests: u64) -> Limits {
    Limits::builder().requests_per_day(requests).build().unwrap()
}

fn clock() -> ManualClock {
    // 2025-10-09T12:00:00Z
    ManualClock::at(Timestamp::from_unix_ms(1_760_011_200_000))
}

/// An empty store.
async fn redis(story: &str) -> RedisStore {
    let prefix = format!("handles-{story}-{}", std::process::id());
    let store = RedisStore::builder(servers::shared().url()).key_prefix(prefix);
    store.clock(clock()).connect().await.unwrap()
}

const TASKS: usize = 16;
const CALLS: usize = 20;
