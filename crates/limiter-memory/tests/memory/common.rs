//! A store at noon, and a member key in it.

use limiter_conformance::fixtures::{limits, tokens, workspace};
use limiter_core::{
    AccessKey, AssetId, Effective, KeyConfig, KeyId, KeyKind, KeyUpdate, Limits, ManualClock,
    NewRecord, StoredSecret, Thresholds, Timestamp, WorkspaceId,
};
use limiter_memory::MemoryStore;

pub(crate) fn store_at(now: Timestamp) -> (MemoryStore, ManualClock) {
    let clock = ManualClock::at(now);
    (MemoryStore::builder().clock(clock.clone()).build(), clock)
}

/// Creates a member key of this id, with an access key made from it.
pub(crate) fn create(store: &MemoryStore, id: &str, config: KeyConfig) -> KeyId {
    create_of_kind(store, KeyKind::Member, id, config)
}

pub(crate) fn create_of_kind(
    store: &MemoryStore,
    kind: KeyKind,
    id: &str,
    config: KeyConfig,
) -> KeyId {
    let record = NewRecord {
        id: id.parse().expect("an id"),
        workspace: home(),
        kind,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: (kind != KeyKind::Group).then(|| StoredSecret::from(&secret_of(id))),
        bootstraps: false,
    };
    store.create(record).expect("the key is new").id
}

/// Saves a changed configuration of a key.
pub(crate) fn update(store: &MemoryStore, key: &KeyId, change: impl FnOnce(&mut KeyConfig)) {
    let record = store.read(key).expect("the key lives");
    let mut config = record.config;
    change(&mut config);
    let update = update_of(key, record.version, &config);
    store.update(&home(), &update).expect("the version is the one read");
}

/// An update of a key from this version, whose limits take effect at the next windows.
pub(crate) fn update_of(id: &KeyId, version: u64, config: &KeyConfig) -> KeyUpdate {
    let (id, config, effective) = (id.clone(), config.clone(), Effective::Next);
    KeyUpdate { id, version, config, effective, thresholds: Thresholds::DEFAULT }
}

/// What the rules of all calls have counted, with their limits.
pub(crate) fn counted(store: &MemoryStore, key: &KeyId) -> Vec<(u64, u64)> {
    let usage = store.usage(key).expect("the key lives");
    usage.scopes[0].rules.iter().map(|rule| (rule.used, rule.limit)).collect()
}

/// Makes calls of one request and one output token each, which must be allowed.
pub(crate) fn admit(store: &MemoryStore, key: &KeyId, asset: Option<&AssetId>, calls: u32) {
    for _ in 0..calls {
        let decision = store.check_and_consume(key, asset, &tokens(0, 1));
        assert!(decision.is_allowed(), "{decision:?}");
    }
}

pub(crate) fn secret_of(id: &str) -> AccessKey {
    AccessKey::new(format!("{id}-the-secret-part-{id}")).expect("at least 16 visible characters")
}

pub(crate) fn home() -> WorkspaceId {
    workspace("home")
}

pub(crate) fn requests(per_minute: Option<u64>, per_day: Option<u64>) -> Limits {
    limits(|it| it.requests_per_minute(per_minute).requests_per_day(per_day))
}
