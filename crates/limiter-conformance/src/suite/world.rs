//! A workspace with an admin key, on an empty store at noon: the start of each story.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    AccessKey, BoxError, Charge, CreatedKey, KeyConfig, KeyId, Keys, KeysError, LedgerBounds,
    Limits, ManualClock, NewKey, Page, Search, Store, Timestamp, Totals,
};

use super::Source;
use super::key::Key;
use crate::Managed;
use crate::fixtures::{NOON, key_id, limits, millionths, named, output, tokens, workspace};
use crate::player::PATIENCE;
use crate::waiting::Wait;

/// A store whose clock stands until the story moves it, and the first admin key of the workspace `home`.
pub(super) struct World {
    /// Other stores come from here.
    pub(super) source: Arc<Source>,
    pub(super) store: Managed,
    pub(super) clock: ManualClock,
    pub(super) admin: KeyId,
}

impl World {
    pub(super) fn at_noon(source: &Arc<Source>) -> Self {
        Self::of(source, LedgerBounds::default())
    }

    fn of(source: &Arc<Source>, bounds: LedgerBounds) -> Self {
        let clock = ManualClock::at(NOON);
        let store = managed((source.empty)(clock.clone(), bounds));
        let admin = bootstrap(&store, "home");
        Self { source: Arc::clone(source), store, clock, admin }
    }

    /// Another world, with these ledger bounds.
    pub(super) fn with_bounds(&self, bounds: LedgerBounds) -> Self {
        Self::of(&self.source, bounds)
    }

    /// An empty store at noon, without any key.
    pub(super) fn empty_store(&self) -> Arc<dyn Store> {
        (self.source.empty)(ManualClock::at(NOON), LedgerBounds::default())
    }

    /// The keys of `home`, as its first admin sees them.
    pub(super) fn keys(&self) -> Keys<'_> {
        self.store.keys_as(&self.admin)
    }

    pub(super) fn try_create(&self, key: NewKey) -> Result<CreatedKey, KeysError> {
        self.keys().create(key).wait()
    }

    pub(super) fn create(&self, key: NewKey) -> CreatedKey {
        self.try_create(key).expect("an admin creates keys")
    }

    /// A new key, and its access key.
    pub(super) fn with_access_key(&self, key: NewKey) -> (Key<'_>, AccessKey) {
        let CreatedKey { record, access_key, .. } = self.create(key);
        (self.key(record.id), access_key.expect("it was made or brought"))
    }

    /// The key with this access key.
    pub(super) fn resolved(&self, access_key: &AccessKey) -> Option<KeyId> {
        self.store.authenticate(access_key).wait().expect("the store answers")
    }

    /// A new member key without an access key.
    pub(super) fn member(&self, config: KeyConfig) -> Key<'_> {
        self.key(self.create(NewKey::member(config).without_access_key()).record.id)
    }

    /// A new member key with these limits over all its calls.
    pub(super) fn limited(&self, limits: Limits) -> Key<'_> {
        self.member(named("ci").with_global(limits))
    }

    /// A new member key with [`generous`] limits.
    pub(super) fn generous(&self) -> Key<'_> {
        self.limited(generous())
    }

    /// A new group with the path that is its name.
    pub(super) fn group(&self, config: KeyConfig) -> Key<'_> {
        self.key(self.create(NewKey::group(key_id(config.name.as_str()), config)).record.id)
    }

    /// A new member key with the path that is its name.
    pub(super) fn member_at(&self, config: KeyConfig) -> Key<'_> {
        self.key(self.create(at_path(config)).record.id)
    }

    /// Another admin key without an access key.
    pub(super) fn another_admin(&self, config: KeyConfig) -> Key<'_> {
        self.key(self.create(NewKey::admin(config).without_access_key()).record.id)
    }

    /// The first admin key of another workspace.
    pub(super) fn admin_of(&self, other: &str) -> Key<'_> {
        self.key(bootstrap(&self.store, other))
    }

    pub(super) fn first_admin(&self) -> Key<'_> {
        self.key(self.admin.clone())
    }

    /// The key with this id, if there is one.
    pub(super) const fn key(&self, id: KeyId) -> Key<'_> {
        Key { world: self, id }
    }

    pub(super) fn search(&self, search: &Search) -> Page {
        self.keys().search(search).wait().expect("an admin searches")
    }

    /// The names of all keys of `home`.
    pub(super) fn names(&self) -> Vec<String> {
        let page = self.search(&Search::all().page_size(1_000));
        page.keys.iter().map(|key| key.config.name.to_string()).collect()
    }

    /// Sets the clock to this many milliseconds after noon, or before it.
    pub(super) fn at(&self, ms: i64) {
        self.set_clock(at_noon_and(ms));
    }

    pub(super) fn advance(&self, duration: Duration) {
        self.set_clock(self.clock.now().after(duration));
    }

    /// Sets the clock. Before time passes, a store completes what it has postponed.
    pub(super) fn set_clock(&self, now: Timestamp) {
        let unpaid = self.store.flush(PATIENCE).wait();
        assert!(unpaid.is_nothing(), "the store works: {unpaid}");
        self.clock.set(now);
    }
}

fn bootstrap(store: &Managed, id: &str) -> KeyId {
    let admin = NewKey::admin(named("first admin")).without_access_key();
    let admin = store.bootstrap(workspace(id), admin).wait();
    admin.expect("an empty workspace gets its first admin key").record.id
}

/// A store whose keys are made of the operating system's random bytes.
pub(super) fn managed(store: Arc<dyn Store>) -> Managed {
    Managed::new(store, |bytes| getrandom::fill(bytes).map_err(BoxError::from))
}

/// A member key with the path that is its name, to be created without an access key.
pub(super) fn at_path(config: KeyConfig) -> NewKey {
    let id = key_id(config.name.as_str());
    NewKey::member(config).with_id(id).without_access_key()
}

/// A member key of this name, to be created.
pub(super) fn member(name: &str) -> NewKey {
    NewKey::member(named(name))
}

/// 10 requests and 100 tokens a minute, 1,000 tokens a day.
pub(super) fn generous() -> Limits {
    limits(|it| it.requests_per_minute(10).tokens_per_minute(100).tokens_per_day(1_000))
}

pub(super) fn generous_config() -> KeyConfig {
    named("ci").with_global(generous())
}

/// The charge of as many output tokens as millionths of a credit.
pub(super) fn both(amount: u64) -> Charge {
    tokens(0, amount).with_credits(millionths(amount))
}

/// The totals of a call that used nothing but its request.
pub(super) fn nothing() -> Totals {
    output(0).with_credits(millionths(0))
}

/// An instant of this many milliseconds after noon, or before it.
pub(super) const fn at_noon_and(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(NOON.unix_ms() + ms)
}

/// Asserts that an operation was refused for this reason.
macro_rules! assert_refused {
    ($result:expr, $reason:pat $(if $guard:expr)?) => {
        match $result {
            Err($reason) $(if $guard)? => {}
            other => panic!("expected {}, but got {other:?}", stringify!($reason)),
        }
    };
}
pub(super) use assert_refused;
