//! A server, the way to it, and a guarded store at the end of the way.

use std::time::{Duration, Instant};

use limiter_conformance::servers::{Proxy, RedisServer};
use limiter_core::{Charge, Credits, KeyConfig, KeyId, KeyKind, KeyStore, NewRecord};
use limiter_policy::{BreakerState, FailurePolicy, GuardedStore, GuardedStoreBuilder};
use limiter_redis::RedisStore;
use tokio::time::sleep;

pub(crate) type Guarded = GuardedStore<RedisStore>;

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
        let server = RedisServer::builder().appendonly(true).option("appendfsync", "always").run();
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
        until("the store knows all", || self.store.is_well()).await;
        let direct = connect(self.server.url()).await.expect("the server is back");
        let usage = limiter_core::DecisionStore::usage(&direct, &self.key).await.unwrap();
        usage.expect("the key is there").credits.spent.millionths() / 1_000_000
    }

    /// Until the policy has learned what it needs.
    pub(crate) async fn until_known(&self) {
        if matches!(self.policy, FailurePolicy::LocalShare { .. }) {
            until("the key is known", || self.store.knows(&self.key)).await;
        }
    }

    pub(crate) async fn until_closed(&self) -> Duration {
        until("the store is asked again", || self.store.breaker() == BreakerState::Closed).await
    }
}

/// The settings of all tests: short, so that they are, and long enough for a busy machine.
pub(crate) fn settings(policy: FailurePolicy) -> GuardedStoreBuilder {
    GuardedStoreBuilder::new(policy).deadline(DEADLINE).probe_every(PROBE_EVERY)
}

pub(crate) async fn connect(url: String) -> Result<RedisStore, limiter_redis::RedisError> {
    RedisStore::builder(url).command_deadline(DEADLINE - SHORTER).connect().await
}

pub(crate) async fn create(store: &impl KeyStore, config: KeyConfig) -> KeyId {
    create_as(store, "busy", config).await
}

pub(crate) async fn create_as(store: &impl KeyStore, id: &str, config: KeyConfig) -> KeyId {
    let key = NewRecord {
        id: id.parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind: KeyKind::Member,
        config,
        secret: None,
        bootstraps: false,
    };
    store.create(key).await.expect("the key is created").id
}

/// A call that costs one credit.
pub(crate) fn one_credit() -> Charge {
    Charge::request().with_credits(Credits::whole(1).unwrap())
}

/// Waits until something holds, and tells how long it took.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LONGEST, "after {LONGEST:?}, it is not true that {what}");
        sleep(Duration::from_millis(1)).await;
    }
    began.elapsed()
}

/// Of a guarded store.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(100);
/// So much sooner the store itself gives up.
const SHORTER: Duration = Duration::from_millis(100);
/// For a machine that is busy with other tests.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);
