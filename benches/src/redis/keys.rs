//! Keys as they are in production: eight rules, a budget, an expiry, a name and an access key.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    AssetId, Charge, Decision, KeyConfig, KeyId, KeyKind, Limits, NewRecord, Store, Thresholds,
};
use limiter_redis::{RedisStore, RedisStoreBuilder};

use crate::ours;
use crate::workload::key_id;

/// The keys of a store, by their number. Clones share them.
#[derive(Clone, Debug)]
pub struct Keys {
    store: RedisStore,
    charge: Charge,
    /// The ids by number, made before a clock starts: a service has its ids too.
    ids: Arc<[KeyId]>,
    assets: Arc<[AssetId]>,
}

impl Keys {
    /// The bound on the numbers of keys and of assets. With this many keys, two calls of a batch are rarely of the
    /// same.
    pub const MOST: usize = 1_000;

    /// Connects to a server, with the default settings but for the time that a call may take.
    ///
    /// # Panics
    /// If the server does not accept a store.
    pub async fn connect(url: &str) -> Self {
        Self::connect_with(RedisStore::builder(url)).await
    }

    /// Connects with other settings.
    ///
    /// # Panics
    /// As [`connect`](Self::connect).
    pub async fn connect_with(builder: RedisStoreBuilder) -> Self {
        let store = builder.connect_deadline(PATIENCE).command_deadline(PATIENCE).connect().await;
        Self {
            store: store.expect("the server accepts a store"),
            charge: ours::charge(),
            ids: (0..Self::MOST).map(id).collect(),
            assets: (0..Self::MOST).map(asset_id).collect(),
        }
    }

    /// Returns the store that they are in.
    pub(super) const fn store(&self) -> &RedisStore {
        &self.store
    }

    /// Creates a key with limits for itself and for this many assets, none of which is ever reached.
    ///
    /// # Panics
    /// If it exists already.
    pub async fn create(&self, key: usize, assets: usize) {
        self.create_with(key, ours::limits(), assets).await;
    }

    /// Creates a key that is denied from its second call of a day on.
    ///
    /// # Panics
    /// If it exists already.
    pub async fn create_exhausted(&self, key: usize) {
        let limits = ours::limits().to_builder().requests_per_minute(1 << 46).requests_per_day(1);
        self.create_with(key, limits.build().expect("valid limits"), 1).await;
    }

    /// Creates a key with one more limit: requests per month.
    ///
    /// # Panics
    /// If it exists already.
    pub async fn create_with_month(&self, key: usize) {
        let limits = ours::limits().to_builder().requests_per_month(1 << 46);
        self.create_with(key, limits.build().expect("valid limits"), 1).await;
    }

    pub(super) async fn create_with(&self, key: usize, global: Limits, assets: usize) {
        self.create_level(KeyKind::Member, id(key), key, global, assets).await;
    }

    /// Creates a key beneath this number of groups. Each group has the limits of a key.
    ///
    /// # Panics
    /// If there is one.
    pub async fn create_beneath(&self, groups: usize) -> KeyId {
        let mut path = id(0);
        for level in 0..groups {
            self.create_level(KeyKind::Group, path.clone(), level, ours::limits(), 1).await;
            path = path.child(format!("level-{level}")).expect("four levels at most");
        }
        self.create_level(KeyKind::Member, path.clone(), groups, ours::limits(), 1).await;
        path
    }

    /// Creates a group that is open, with one limit for each key and one of its own, and a registered key with the same limit.
    ///
    /// # Panics
    /// If there is one.
    pub async fn create_open(&self) {
        let limits = Limits::builder().requests_per_minute(1 << 46).build().expect("valid limits");
        let name: limiter_core::PlanName = "each".parse().expect("a plan's name");
        let each = limiter_core::PlanUpdate::new(name.clone(), limits.clone().into());
        let workspace = "w".parse().expect("a workspace's id");
        self.store.save_plan(&workspace, &each).await.expect("the plan is new");
        let config = |name| KeyConfig::named(name).expect("a name").with_global(limits.clone());
        for (id, kind, config) in [
            ("ip", KeyKind::Group, config("ip").with_open(name)),
            ("ip/registered-0", KeyKind::Member, config("registered")),
        ] {
            let record = NewRecord {
                id: id.parse().expect("an id"),
                workspace: workspace.clone(),
                kind,
                config,
                thresholds: Thresholds::DEFAULT,
                secret: None,
                bootstraps: false,
            };
            self.store.create(record).await.expect("the key is new");
        }
    }

    /// Makes one decision of one request, without an asset.
    ///
    /// # Panics
    /// If the store fails.
    pub async fn decide_request(&self, key: &KeyId) -> Decision {
        let charge = Charge::request();
        self.store.check_and_consume(key, None, &charge).await.expect("the server decides")
    }

    async fn create_level(
        &self,
        kind: KeyKind,
        id: KeyId,
        number: usize,
        global: Limits,
        assets: usize,
    ) {
        let record = new_record(kind, id, number, global, assets);
        self.store.create(record).await.expect("the key is new");
    }

    /// Makes one decision of this key, with the first asset.
    ///
    /// # Panics
    /// If the store fails.
    pub async fn decide_at(&self, key: &KeyId) -> Decision {
        let decision = self.store.check_and_consume(key, Some(&self.assets[0]), &self.charge);
        decision.await.expect("the server decides")
    }

    /// Makes one decision, which charges every limit of the key and of the asset.
    ///
    /// # Panics
    /// If the store fails.
    pub async fn decide(&self, key: usize, asset: usize) -> Decision {
        let (key, asset) = (&self.ids[key], &self.assets[asset]);
        let decision = self.store.check_and_consume(key, Some(asset), &self.charge);
        decision.await.expect("the server decides")
    }

    /// Makes one decision on a call of no asset.
    ///
    /// # Panics
    /// If the store fails.
    pub async fn decide_global(&self, key: usize) -> Decision {
        let decision = self.store.check_and_consume(&self.ids[key], None, &self.charge);
        decision.await.expect("the server decides")
    }

    /// Makes a decision that must allow: a benchmark of denials measures something else.
    ///
    /// # Panics
    /// If it is denied, or the store fails.
    pub async fn allow(&self, key: usize, asset: usize) {
        let decision = self.decide(key, asset).await;
        assert!(decision.is_allowed(), "{decision:?}");
    }
}

/// Returns the record of a new key, with limits for this many assets.
pub(crate) fn new_record(
    kind: KeyKind,
    id: KeyId,
    number: usize,
    global: Limits,
    assets: usize,
) -> NewRecord {
    let config = ours::config_of(ours::realistic_name(number), global);
    let with_asset = |config: KeyConfig, asset| config.with_asset(asset_id(asset), ours::limits());
    NewRecord {
        id,
        workspace: "w".parse().expect("a workspace's id"),
        kind,
        config: (0..assets).fold(config, with_asset),
        thresholds: Thresholds::DEFAULT,
        secret: (kind == KeyKind::Member).then(|| ours::secret(number)),
        bootstraps: false,
    }
}

/// Returns the id of a key: 22 characters.
pub(crate) fn id(key: usize) -> KeyId {
    ours::key(&key_id(key))
}

/// Returns the id of an asset: 15 characters, as names of models have.
pub(crate) fn asset_id(asset: usize) -> AssetId {
    format!("gpt-5-mini-{asset:04}").parse().expect("an asset's id")
}

/// Returns the name of the Redis key with the amounts left of each limit of a key.
pub(super) fn counts_of(key: usize) -> String {
    format!("limiter:k:{{{}}}", id(key))
}

/// Returns the name of the Redis key with the limits of a key.
pub(super) fn limits_of(key: usize) -> String {
    format!("limiter:l:{{{}}}", id(key))
}

/// Returns the name of the Redis key with the management record of a key.
pub(super) fn record_of(key: usize) -> String {
    format!("limiter:m:{{{}}}", id(key))
}

/// Under callgrind a server is fifty times slower.
const PATIENCE: Duration = Duration::from_secs(60);
