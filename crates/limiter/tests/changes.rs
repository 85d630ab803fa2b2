//! Changes of keys, resets and histories through a limiter, in memory and on Redis.

use std::time::Duration;

use futures_util::FutureExt;
use limiter::events::ThresholdEvents;
use limiter::memory::MemoryStore;
use limiter::redis::RedisStore;
use limiter::store::Store;
use limiter::{
    AssetId, Charge, DenialReason, Effective, KeyConfig, KeyId, KeysError, Limiter, Limits,
    ManualClock, NewKey, Other, Reserved, ScopeId, Timestamp, Totals, Upserted,
};
use limiter_test_servers::{fresh_name, shared};

use crate::{today, used};

/// A workspace on a store of either kind, whose clock stands at noon.
struct Team {
    limiter: Limiter,
    admin: KeyId,
    clock: ManualClock,
}

impl Team {
    async fn of(store: impl Store, clock: ManualClock) -> Self {
        let limiter = Limiter::from(store);
        let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
        let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
        Self { limiter, admin, clock }
    }

    /// One in memory, and one on Redis.
    async fn both(name: &str) -> [Self; 2] {
        let clocks = [ManualClock::at(NOON), ManualClock::at(NOON)];
        let memory = MemoryStore::builder().clock(clocks[0].clone()).build();
        let redis = RedisStore::builder(shared().url()).key_prefix(fresh_name(name));
        let redis = redis.clock(clocks[1].clone()).connect().await.unwrap();
        let [first, second] = clocks;
        [Self::of(memory, first).await, Self::of(redis, second).await]
    }

    async fn member(&self, config: KeyConfig) -> KeyId {
        let key = NewKey::member(config);
        self.limiter.keys_as(&self.admin).create(key).await.unwrap().record.id
    }

    async fn update(&self, key: &KeyId, config: &KeyConfig, effective: Effective) -> u64 {
        let keys = self.limiter.keys_as(&self.admin);
        let version = keys.get(key).await.unwrap().version;
        let updated = match effective {
            Effective::Next => keys.update(key, version, config).await,
            Effective::Now => keys.update_now(key, version, config).await,
        };
        updated.unwrap().record.version
    }

    async fn call(&self, key: &KeyId, asset: Option<&AssetId>) -> bool {
        let charge = Charge::request().with_tokens(2, 3).unwrap();
        self.limiter.check_and_consume(key, asset, &charge).await.unwrap().is_allowed()
    }
}

fn ci(limits: Limits) -> KeyConfig {
    KeyConfig::named("ci").unwrap().with_global(limits)
}

fn requests_per_day(requests: u64) -> Limits {
    Limits::builder().requests_per_day(requests).build().unwrap()
}

fn percents(events: &mut ThresholdEvents) -> Vec<u8> {
    std::iter::from_fn(|| events.next().now_or_never().flatten())
        .map(|event| event.unwrap().crossing.percent)
        .collect()
}

#[tokio::test]
async fn a_change_at_once_denies_from_then_on_and_raises_the_thresholds_that_it_reaches() {
    for team in Team::both("changes-now").await {
        let mut events = team.limiter.threshold_events();
        let key = team.member(ci(requests_per_day(100))).await;
        for _ in 0..5 {
            assert!(team.call(&key, None).await);
        }
        let less = ci(requests_per_day(5));
        assert_eq!(team.update(&key, &less, Effective::Next).await, 2);
        assert!(team.call(&key, None).await, "the day goes on as it began");
        assert_eq!(percents(&mut events), [0; 0]);
        assert_eq!(team.update(&key, &less, Effective::Now).await, 3);
        assert_eq!(percents(&mut events), [80, 100]);
        assert!(!team.call(&key, None).await);
        assert_eq!(team.update(&key, &less, Effective::Now).await, 3, "it is so already");
        assert_eq!(percents(&mut events), [0; 0]);
    }
}

#[tokio::test]
async fn an_upsert_creates_or_updates_by_name() {
    for team in Team::both("changes-upsert").await {
        let mut events = team.limiter.threshold_events();
        let keys = team.limiter.keys_as(&team.admin);
        let upsert = async |limit, effective| {
            let key = NewKey::member(ci(requests_per_day(limit)));
            keys.upsert(key, effective).await.unwrap()
        };
        let Upserted::Created(created) = upsert(9, Effective::Next).await else {
            panic!("there was no such key")
        };
        assert!(created.access_key.is_some());
        assert!(team.call(&created.record.id, None).await);
        let Upserted::Updated(updated) = upsert(1, Effective::Now).await else {
            panic!("the key is there")
        };
        assert_eq!((&updated.record.id, updated.record.version), (&created.record.id, 2));
        assert_eq!(percents(&mut events), [80, 100]);
        let admin = NewKey::admin(KeyConfig::named("ci").unwrap());
        let refused = keys.upsert(admin, Effective::Next).await;
        assert!(matches!(refused, Err(KeysError::NameTaken(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_reset_frees_a_key_and_keeps_its_history() {
    for team in Team::both("changes-reset").await {
        let limits = Limits::builder().requests_per_day(1).tokens_per_minute(100);
        let key = team.member(ci(limits.build().unwrap()).with_budget("9".parse().unwrap())).await;
        assert!(team.call(&key, None).await && !team.call(&key, None).await);
        let keys = team.limiter.keys_as(&team.admin);
        keys.reset(&key).await.unwrap();
        let usage = keys.usage(&key).await.unwrap();
        assert_eq!(used(&usage, "global/day/requests"), 0);
        assert_eq!(used(&usage, "global/minute/tokens"), 0);
        assert_eq!(today(&usage), Charge::NOTHING);
        assert!(team.call(&key, None).await);
        team.clock.advance(DAY);
        assert!(team.call(&key, None).await);

        let history = keys.history(&key, 7).await.unwrap();
        let days = history.iter().map(|day| (day.start, day.scopes[0].account));
        let call = Charge::request().with_tokens(2, 3).unwrap();
        let two = Charge::request().with_requests(2).unwrap().with_tokens(4, 6).unwrap();
        let midnight = Timestamp::from_unix_ms(NOON.unix_ms() + 43_200_000);
        let day_before = Timestamp::from_unix_ms(NOON.unix_ms() - 43_200_000);
        assert_eq!(days.collect::<Vec<_>>(), [(day_before, two), (midnight, call)]);
        assert_eq!(history, team.limiter.history(&key, 7).await.unwrap().unwrap());
        assert_eq!(keys.history(&key, 1).await.unwrap(), history[1..]);

        let nobody = "nobody".parse().unwrap();
        assert!(matches!(keys.reset(&nobody).await, Err(KeysError::NotFound(_))));
        assert!(matches!(keys.history(&nobody, 1).await, Err(KeysError::NotFound(_))));
        assert_eq!(team.limiter.history(&nobody, 1).await.unwrap(), None);
        let as_member = team.limiter.keys_as(&key);
        assert!(as_member.history(&key, 7).await.is_ok());
        assert!(matches!(as_member.reset(&key).await, Err(KeysError::Forbidden)));
    }
}

#[tokio::test]
async fn assets_that_are_not_listed_share_limits_or_are_denied() {
    for team in Team::both("changes-other").await {
        let [listed, one, two] = ["listed", "one", "two"].map(|id| id.parse::<AssetId>().unwrap());
        let config = KeyConfig::named("ci").unwrap().with_asset(listed.clone(), Limits::NONE);
        let key = team.member(config.clone().with_other(requests_per_day(2))).await;
        for (asset, allowed) in [(&one, true), (&two, true), (&two, false), (&listed, true)] {
            assert_eq!(team.call(&key, Some(asset)).await, allowed, "{asset}");
        }
        let usage = team.limiter.usage(&key).await.unwrap().unwrap();
        let requests = |scope| usage.scope(&scope).map(|scope| scope.account.requests());
        assert_eq!(requests(ScopeId::OTHER), Some(2));
        assert_eq!(requests(ScopeId::asset(listed.clone())), Some(1));

        team.update(&key, &config.with_other(Other::Denied), Effective::Next).await;
        assert!(team.call(&key, Some(&listed)).await && team.call(&key, None).await);
        let denied = team.limiter.check_and_consume(&key, &one, &Charge::request()).await.unwrap();
        let reason = denied.denied().map(|denied| denied.reason().clone());
        assert_eq!(reason, Some(DenialReason::AssetDenied { group: None }));
    }
}

#[tokio::test]
async fn an_amendment_goes_up_and_down_and_a_settlement_corrects_the_requests() {
    for team in Team::both("changes-amend").await {
        let limits = Limits::builder().requests_per_day(10).output_tokens_per_minute(100);
        let key = team.member(ci(limits.build().unwrap())).await;
        let batch = Charge::request().with_requests(8).unwrap().with_tokens(0, 60).unwrap();
        let reserved = team.limiter.reserve(&key, None, &batch).await.unwrap();
        let Reserved::Allowed(mut call) = reserved else { panic!("it fits") };
        let output = |tokens| Totals::unchanged().with_output_tokens(tokens).unwrap();
        assert!(!call.amend(&output(101)).await.unwrap().is_allowed());
        assert_eq!(call.estimate().output_tokens(), 60);
        for tokens in [100, 5, 5] {
            assert!(call.amend(&output(tokens)).await.unwrap().is_allowed());
            assert_eq!(call.estimate().output_tokens(), tokens);
            let usage = team.limiter.usage(&key).await.unwrap().unwrap();
            assert_eq!(used(&usage, "global/minute/output_tokens"), tokens);
        }
        let settled = call.settle(&output(7).with_requests(3).unwrap()).await.unwrap();
        assert_eq!(settled.charge.map(|charge| charge.requests()), Some(3));
        let usage = team.limiter.usage(&key).await.unwrap().unwrap();
        assert_eq!(used(&usage, "global/day/requests"), 3);
        assert_eq!(used(&usage, "global/minute/output_tokens"), 7);
    }
}

const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
const DAY: Duration = Duration::from_secs(86_400);
