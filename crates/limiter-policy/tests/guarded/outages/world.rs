//! A server, the way to it, and a guarded store at the end of the way.

use std::time::Duration;

use limiter_core::{Charge, Credits, KeyConfig, KeyId, KeyKind, NewRecord, Store, Thresholds};
use limiter_policy::{BreakerState, FailurePolicy, GuardedStore, GuardedStoreBuilder};
use limiter_redis::RedisStore;
use limiter_test_servers::{Proxy, RedisServer, until_async};

pub(crate) type Guarded = GuardedStore;

pub(crate) struct World {
    pub(crate) server: RedisServer,
    pub(crate) proxy: Proxy,
    pub(crate) store: Guarded,
    pub(crate) key: KeyId,
    policy: FailurePolicy,
}

impl World {
    /// With a key whose budget nothing in here reaches. What is written survives the server.
    pub(crate) async fn new(policy: FailurePolicy) -> Self {
        let server = RedisServer::durable();
        let proxy = Proxy::to(&server.address());
        let inner = connect(proxy.url()).await.expect("the server is there");
        let store = settings(policy).guard(inner);
        let config =
            KeyConfig::named("busy").unwrap().with_budget(Credits::whole(9_000_000).unwrap());
        let key = create(&store, config).await;
        Self { server, proxy, store, key, policy }
    }

    /// How many calls the server has charged, as it says itself.
    pub(crate) async fn counted(&self) -> u64 {
        until_async("the store knows all", async || self.store.is_well()).await;
        let direct = connect(self.server.url()).await.expect("the server is back");
        let usage = Store::usage(&direct, &self.key).await.unwrap();
        usage.expect("the key is there").credits.spent.millionths() / 1_000_000
    }

    /// Until the policy has learned what it needs.
    pub(crate) async fn until_known(&self) {
        if matches!(self.policy, FailurePolicy::LocalShare { .. }) {
            until_async("the key is known", async || self.store.knows(&self.key)).await;
        }
    }

    pub(crate) async fn until_closed(&self) -> Duration {
        until_async("the store is asked again", async || {
            self.store.breaker() == BreakerState::Closed
        })
        .await
    }
}

/// The settings of all tests: short, so that they are, and long enough for a busy machine.
pub(crate) fn settings(policy: FailurePolicy) -> GuardedStoreBuilder {
    GuardedStoreBuilder::new(policy).deadline(DEADLINE).probe_every(PROBE_EVERY)
}

pub(crate) async fn connect(url: String) -> Result<RedisStore, limiter_redis::RedisError> {
    RedisStore::builder(url).command_deadline(DEADLINE - SHORTER).connect().await
}

pub(crate) async fn create(store: &impl Store, config: KeyConfig) -> KeyId {
    create_as(store, "busy", config).await
}

pub(crate) async fn create_as(store: &impl Store, id: &str, config: KeyConfig) -> KeyId {
    let key = NewRecord {
        id: id.parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind: KeyKind::Member,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    store.create(key).await.expect("the key is created").id
}

/// A call that costs one credit.
pub(crate) fn one_credit() -> Charge {
    Charge::request().with_credits(Credits::whole(1).unwrap())
}

/// Of a guarded store.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(100);
/// So much sooner the store itself gives up.
const SHORTER: Duration = Duration::from_millis(100);
/// For a machine that is busy with other tests.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);
