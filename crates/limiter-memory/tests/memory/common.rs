//! A store at noon, and a member key in it.

use std::time::Duration;

use limiter_core::{
    AccessKey, AssetId, Charge, KeyConfig, KeyId, KeyKind, Limits, ManualClock, NewRecord,
    StoredSecret, Timestamp, WorkspaceId,
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
        secret: Some(StoredSecret::from(&secret_of(id))),
        bootstraps: false,
    };
    store.create(record).expect("the key is new").id
}

/// Saves a changed configuration of a key.
pub(crate) fn update(store: &MemoryStore, key: &KeyId, change: impl FnOnce(&mut KeyConfig)) {
    let record = store.read(key).expect("the key lives");
    let mut config = record.config();
    change(&mut config);
    store.update(&home(), key, record.version, &config).expect("the version is the one read");
}

/// Makes calls of one request and one output token each, which must be allowed.
pub(crate) fn admit(store: &MemoryStore, key: &KeyId, asset: Option<&AssetId>, calls: u32) {
    let charge = Charge::request().with_tokens(0, 1).expect("within bounds");
    for _ in 0..calls {
        let decision = store.check_and_consume(key, asset, &charge);
        assert!(decision.is_allowed(), "{decision:?}");
    }
}

pub(crate) fn secret_of(id: &str) -> AccessKey {
    AccessKey::new(format!("{id}-the-secret-part-{id}")).expect("at least 16 visible characters")
}

pub(crate) fn named(name: &str) -> KeyConfig {
    KeyConfig::named(name).expect("a name")
}

pub(crate) fn asset(id: &str) -> AssetId {
    id.parse().expect("an id")
}

pub(crate) fn home() -> WorkspaceId {
    "home".parse().expect("an id")
}

pub(crate) fn requests(per_minute: Option<u64>, per_day: Option<u64>) -> Limits {
    let limits = Limits::builder().requests_per_minute(per_minute).requests_per_day(per_day);
    limits.build().expect("limits within bounds")
}

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// 2025-10-09T12:00:00Z, where a minute begins.
pub(crate) const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
/// Where the next day begins.
pub(crate) const MIDNIGHT: Timestamp = Timestamp::from_unix_ms(1_760_054_400_000);
