//! A workspace with an admin key, on an empty store at noon: where most tests begin.

use std::time::Duration;

use crate::engine::Engine;
use limiter_core::{
    AccessKey, AssetId, BoxError, Charge, CreatedKey, Decision, KeyConfig, KeyId, KeyRecord, Keys,
    KeysError, LedgerBounds, Limits, LimitsBuilder, ManualClock, NewKey, Store, Timestamp, Usage,
    WorkspaceId,
};

use super::StoreUnderTest;

/// An engine whose clock stands until the test moves it, and the first admin key of the workspace `home`.
pub(super) struct World<S> {
    pub(super) engine: Engine<S>,
    pub(super) clock: ManualClock,
    pub(super) admin: KeyId,
}

impl<S: Store> World<S> {
    pub(super) async fn at_noon(store: &impl StoreUnderTest<Store = S>) -> Self {
        Self::bounded(store, LedgerBounds::default()).await
    }

    pub(super) async fn bounded(
        store: &impl StoreUnderTest<Store = S>,
        bounds: LedgerBounds,
    ) -> Self {
        let clock = ManualClock::at(NOON);
        let engine = engine(store.with_bounds(clock.clone(), bounds).await);
        let admin = NewKey::admin(named("first admin")).without_access_key();
        let admin = engine.bootstrap(workspace("home"), admin).await;
        let admin = admin.expect("an empty workspace gets its first admin key").record.id;
        Self { engine, clock, admin }
    }

    /// The keys of `home`, as its first admin sees them.
    pub(super) fn keys(&self) -> Keys<'_> {
        self.engine.keys_as(&self.admin)
    }

    pub(super) async fn create(&self, key: NewKey) -> CreatedKey {
        self.keys().create(key).await.expect("an admin creates keys")
    }

    /// A new member key without an access key.
    pub(super) async fn member(&self, config: KeyConfig) -> KeyId {
        self.create(NewKey::member(config).without_access_key()).await.record.id
    }

    /// Another admin key without an access key.
    pub(super) async fn another_admin(&self, config: KeyConfig) -> KeyId {
        self.create(NewKey::admin(config).without_access_key()).await.record.id
    }

    /// The first admin key of another workspace.
    pub(super) async fn admin_of(&self, other: &str) -> KeyId {
        let admin = NewKey::admin(named("first admin")).without_access_key();
        let admin = self.engine.bootstrap(workspace(other), admin).await;
        admin.expect("an empty workspace gets its first admin key").record.id
    }

    pub(super) async fn check(
        &self,
        key: &KeyId,
        called: impl Into<Option<&str>>,
        charge: Charge,
    ) -> Decision {
        let called = called.into().map(asset);
        let decision = self.engine.check_and_consume(key, called.as_ref(), &charge).await;
        decision.expect("the store answers")
    }

    /// Makes calls of one request each, which must be allowed.
    pub(super) async fn admit(&self, key: &KeyId, called: impl Into<Option<&str>>, calls: u32) {
        let called = called.into();
        for _ in 0..calls {
            let decision = self.check(key, called, Charge::request()).await;
            assert!(decision.is_allowed(), "{decision:?}");
        }
    }

    pub(super) async fn peek(
        &self,
        key: &KeyId,
        called: impl Into<Option<&str>>,
        charge: Charge,
    ) -> Decision {
        let called = called.into().map(asset);
        self.engine.peek(key, called.as_ref(), &charge).await.expect("the store answers")
    }

    pub(super) async fn usage(&self, key: &KeyId) -> Usage {
        self.keys().usage(key).await.expect("an admin reads the usage of its workspace's keys")
    }

    pub(super) async fn record(&self, key: &KeyId) -> KeyRecord {
        self.keys().get(key).await.expect("an admin reads the keys of its workspace")
    }

    /// Reads a key, changes its configuration, and saves it.
    pub(super) async fn update(
        &self,
        key: &KeyId,
        change: impl FnOnce(&mut KeyConfig),
    ) -> Result<KeyRecord, KeysError> {
        let record = self.record(key).await;
        let mut config = record.config();
        change(&mut config);
        self.keys().update(key, record.version, &config).await
    }

    pub(super) fn advance(&self, duration: Duration) {
        self.clock.advance(duration);
    }
}

/// An engine that makes keys from the operating system's random bytes.
pub(super) fn engine<S: Store>(store: S) -> Engine<S> {
    Engine::new(store, |bytes| getrandom::fill(bytes).map_err(BoxError::from))
}

pub(super) fn named(name: &str) -> KeyConfig {
    KeyConfig::named(name).expect("a name of 1 to 256 bytes")
}

pub(super) fn workspace(id: &str) -> WorkspaceId {
    id.parse().expect("an id of 1 to 128 bytes")
}

pub(super) fn asset(id: &str) -> AssetId {
    id.parse().expect("an id of 1 to 256 bytes")
}

pub(super) fn key_id(id: &str) -> KeyId {
    id.parse().expect("an id of 1 to 128 bytes")
}

pub(super) fn access_key(secret: &str) -> AccessKey {
    secret.parse().expect("at least 16 visible characters")
}

pub(super) fn limits(set: impl FnOnce(LimitsBuilder) -> LimitsBuilder) -> Limits {
    set(Limits::builder()).build().expect("limits within bounds")
}

pub(super) fn requests_per_minute(limit: u64) -> Limits {
    limits(|limits| limits.requests_per_minute(limit))
}

pub(super) fn requests_per_day(limit: u64) -> Limits {
    limits(|limits| limits.requests_per_day(limit))
}

/// One request of this many tokens.
pub(super) fn tokens(input: u64, output: u64) -> Charge {
    Charge::request().with_tokens(input, output).expect("tokens within bounds")
}

/// What an error says, with the id that was asked for left out.
pub(super) fn wording(error: &KeysError, asked_for: &str) -> String {
    error.to_string().replace(asked_for, "…")
}

/// Asserts that a key operation was refused for this reason.
macro_rules! assert_refused {
    ($result:expr, $reason:pat $(if $guard:expr)?) => {
        match $result {
            Err($reason) $(if $guard)? => {}
            other => panic!("expected {}, but got {other:?}", stringify!($reason)),
        }
    };
}
pub(super) use assert_refused;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
/// 2025-10-09T12:00:00Z, where a minute begins.
pub(super) const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
pub(super) const NEXT_MINUTE: Timestamp = Timestamp::from_unix_ms(1_760_011_260_000);
/// 2025-10-10T00:00:00Z, where the next day begins.
pub(super) const MIDNIGHT: Timestamp = Timestamp::from_unix_ms(1_760_054_400_000);
