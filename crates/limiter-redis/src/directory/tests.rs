//! Against a real server, each under a prefix of its own.

mod batches;
mod crashes;
mod damaged;
mod faults;
mod listing;
mod races;
mod storm;

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    AccessKey, Effective, KeyConfig, KeyId, KeyKind, KeyRecord, KeyRotation, KeyUpdate, KeysError,
    NewRecord, Page, Search, StoreError, StoredSecret, Thresholds, Timestamp, WorkspaceId,
};
use limiter_test_servers::{fresh_name, shared};
use tokio::time::sleep;

use super::change::{Begin, Change, Intent};
use super::pointer::Set;
use super::{Directory, Waiting};
use crate::keys::Keys;
use crate::keyspace::{Keyspace, WorkspaceKey};
use crate::scripts::Scripts;
use crate::servers::faults::Fault;
use crate::servers::{Servers, Settings};

/// A directory with a prefix of its own.
struct World {
    directory: Directory,
    servers: Servers,
    keyspace: Keyspace,
    prefix: String,
}

impl World {
    async fn new() -> Self {
        Self::waiting(Waiting { patience: DEADLINE * 3, ..Waiting::default() }).await
    }

    /// Changes that are left behind can be taken over soon.
    async fn with_short_lease() -> Self {
        Self::waiting(Waiting { lease: LEASE, ..Waiting::default() }).await
    }

    async fn waiting(waiting: Waiting) -> Self {
        let prefix = fresh_name("directory");
        let settings = Settings {
            target: shared().url().parse().expect("the address is one"),
            connect_deadline: DEADLINE,
            command_deadline: DEADLINE,
            pool_size: 8,
            refuse_eviction: false,
        };
        let servers = Servers::connect(settings, &[]).await.expect("the server has started");
        let keyspace = Keyspace::new(prefix.clone());
        let scripts = Arc::new(Scripts::new(None, servers.understand_shebangs()));
        let keys = Keys::new(servers.clone(), keyspace.clone(), scripts, 1, 35);
        let directory = Directory::new(&keys, waiting);
        Self { directory, servers, keyspace, prefix }
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        self.directory.create(key).await
    }

    async fn update(
        &self,
        key: &str,
        version: u64,
        to: &KeyConfig,
    ) -> Result<KeyRecord, KeysError> {
        let updated = self.directory.update(&home(), &update(key, version, to)).await;
        updated.map(|updated| updated.record)
    }

    async fn delete(&self, key: &str) -> Result<(), KeysError> {
        self.directory.delete(&home(), &id(key)).await
    }

    async fn exists(&self, key: &KeyId) -> bool {
        self.directory.records.read(key).await.unwrap().is_some()
    }

    /// The keys of the workspace on one page.
    async fn page(&self) -> Page {
        let page = self.directory.list(&home(), &Search::all().page_size(1_000)).await;
        page.expect("the server answers")
    }

    async fn names(&self) -> Vec<String> {
        names(&self.page().await.keys)
    }

    async fn begin(&self, intent: &Intent<'_>) -> Change {
        match self.directory.changes.begin(&home(), intent).await {
            Ok(Begin::Begun(change, _)) => change,
            other => panic!("{other:?}"),
        }
    }

    /// Begins to create keys, sets the pointers of some and creates the records of some, and stops.
    async fn stop_creating(&self, keys: &[NewRecord], pointed: usize, created: usize) -> Change {
        let change = self.begin(&Intent::to_create(keys)).await;
        for key in &keys[..pointed] {
            let digest = key.secret.unwrap().digest;
            let set = self.directory.pointers.set(&change, &digest, &key.id, None).await;
            assert_is!(set, Ok(Set::Pointed));
        }
        for key in &keys[..created] {
            assert_is!(self.directory.records.create(key, change.not_after).await, Ok(_));
        }
        change
    }

    /// The names in the index, in the order of Redis.
    async fn indexed_names(&self) -> Vec<String> {
        let names = self.keyspace.workspace(WorkspaceKey::Names, &home());
        self.command(redis::cmd("ZRANGE").arg(names).arg(0).arg(-1)).await
    }

    /// All fields but the names of keys that exist.
    async fn taken(&self) -> usize {
        let taken = self.keyspace.workspace(WorkspaceKey::Taken, &home());
        self.command(redis::cmd("HLEN").arg(taken)).await
    }

    async fn is_changing(&self) -> bool {
        let change = self.keyspace.workspace(WorkspaceKey::Change, &home());
        self.command(redis::cmd("EXISTS").arg(change)).await
    }

    async fn keys_in_redis(&self) -> usize {
        let keys: Vec<String> =
            self.command(redis::cmd("KEYS").arg(format!("{}:*", self.prefix))).await;
        keys.len()
    }

    async fn command<T: redis::FromRedisValue>(&self, command: &mut redis::Cmd) -> T {
        let client = redis::Client::open(shared().url()).expect("the address is one");
        let mut connection =
            client.get_multiplexed_async_connection().await.expect("the server runs");
        command.query_async(&mut connection).await.expect("the command is right")
    }

    async fn resolve(&self, secret: &str) -> Option<KeyId> {
        self.directory.resolve(&secret_of(secret).digest).await.expect("the server answers")
    }
}

/// Sets the name in a record alone.
async fn set_name(world: &World, key: &str, name: &str) {
    let record = world.keyspace.record(&id(key));
    let _: () = world.command(redis::cmd("HSET").arg(record).arg("name").arg(name)).await;
}

fn names(keys: &[KeyRecord]) -> Vec<String> {
    keys.iter().map(|key| key.config.name.to_string()).collect()
}

/// Checks that the outcome of a change with a fault says whether it happened. Answers whether it leaves that open, which may
/// only be after a lost answer.
fn is_unknown<T>(outcome: &Result<T, KeysError>, happened: bool, fault: Fault, case: &str) -> bool {
    match outcome {
        Ok(_) => assert!(happened, "{case}"),
        Err(KeysError::Store(StoreError::Unavailable(_))) => assert!(!happened, "{case}"),
        Err(KeysError::Store(StoreError::OutcomeUnknown(_))) => {
            assert_eq!(happened, fault == Fault::AnswerLost, "{case}");
            return true;
        }
        Err(error) => panic!("{case}: {error:?}"),
    }
    false
}

fn home() -> WorkspaceId {
    WorkspaceId::new("home").unwrap()
}

fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

fn config(name: &str) -> KeyConfig {
    KeyConfig::named(name).unwrap()
}

/// An update of a key, from this version of it.
fn update(key: &str, version: u64, to: &KeyConfig) -> KeyUpdate {
    let (config, effective) = (to.clone(), Effective::Next);
    KeyUpdate { id: id(key), version, config, effective, thresholds: Thresholds::DEFAULT }
}

/// A member whose id is its name.
fn member(name: &str) -> NewRecord {
    NewRecord {
        id: id(name),
        workspace: home(),
        kind: KeyKind::Member,
        config: config(name),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    }
}

fn admin(name: &str) -> NewRecord {
    NewRecord { kind: KeyKind::Admin, ..member(name) }
}

fn with_secret(key: NewRecord, secret: &str) -> NewRecord {
    NewRecord { secret: Some(secret_of(secret)), ..key }
}

fn secret_of(secret: &str) -> StoredSecret {
    StoredSecret::drawn(&AccessKey::new(secret).unwrap())
}

fn rotation(of: &str, secret: &str, grace: Duration) -> KeyRotation {
    KeyRotation { id: id(of), secret: secret_of(secret), grace }
}

fn some_day() -> Timestamp {
    Timestamp::from_unix_ms(4_000_000_000_000)
}

/// Nothing here is about slow servers, and the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(10);
/// Long enough for a step on a busy machine, short enough to wait for.
const LEASE: Duration = Duration::from_millis(600);

#[tokio::test]
async fn a_key_is_created_found_renamed_and_deleted() {
    let world = World::new().await;
    let secret = "a secret of ours".replace(' ', "-");
    let created = world.create(with_secret(member("ci"), &secret)).await.unwrap();
    assert_eq!((created.config.name.as_str(), created.version), ("ci", 1));
    assert_eq!(world.resolve(&secret).await, Some(id("ci")));

    let renamed = world.update("ci", 1, &config("ö 2")).await.unwrap();
    assert_eq!(renamed.version, 2);
    assert_eq!(world.names().await, ["ö 2"]);
    assert_eq!(world.indexed_names().await, ["ö 2"]);

    world.delete("ci").await.unwrap();
    assert_eq!(world.resolve(&secret).await, None);
    assert!(world.names().await.is_empty());
    assert_eq!(world.keys_in_redis().await, 0, "nothing is left");
}

#[tokio::test]
async fn refusals_come_in_order_and_leave_nothing() {
    let world = World::new().await;
    let (secret, alike) = ("abcd-the-first-one-wxyz", "abcd-the-other-one-wxyz");
    let first = with_secret(NewRecord { bootstraps: true, ..admin("first") }, secret);
    world.create(first.clone()).await.unwrap();
    let before = (world.keys_in_redis().await, world.taken().await);

    assert_is!(world.create(first.clone()).await, Err(KeysError::AlreadyBootstrapped));
    let same = world.create(NewRecord { bootstraps: false, ..first.clone() }).await;
    assert_is!(same, Err(KeysError::IdTaken(_)));
    let elsewhere = WorkspaceId::new("elsewhere").unwrap();
    let theirs = NewRecord { workspace: elsewhere.clone(), ..first.clone() };
    assert_is!(world.create(theirs.clone()).await, Err(KeysError::IdTaken(_)));
    let foreign_secret = world.create(NewRecord { id: id("theirs"), ..theirs }).await;
    assert_is!(foreign_secret, Err(KeysError::AccessKeyTaken));
    let of_name = with_secret(NewRecord { id: id("other"), ..member("first") }, secret);
    assert_is!(world.create(of_name).await, Err(KeysError::NameTaken(_)));
    let mask = world.create(with_secret(member("other"), alike)).await;
    assert_is!(mask, Err(KeysError::AccessKeyTaken));

    let stale = world.update("first", 7, &config("first")).await;
    assert_is!(stale, Err(KeysError::Conflict { expected: 7, actual: 1 }));
    let expiring = config("first").with_expiry(some_day());
    assert_is!(world.update("first", 1, &expiring).await, Err(KeysError::LastAdmin));
    assert_is!(world.delete("first").await, Err(KeysError::LastAdmin));
    assert_is!(world.directory.delete(&elsewhere, &id("first")).await, Err(KeysError::NotFound(_)));

    assert_eq!((world.keys_in_redis().await, world.taken().await), before);
}

#[tokio::test]
async fn a_replaced_access_key_works_until_its_time_and_leaves_nothing() {
    let world = World::new().await;
    let before = world.keys_in_redis().await;
    let [first, second, third] =
        ["abcd-the-first-one-wxyz", "abcd-the-second-one-wxyy", "abcd-the-third-one-wxyx"];
    let created = world.create(with_secret(member("ci"), first)).await.unwrap();
    let taken = world.taken().await;
    let rotate = |to: &'static str, grace| {
        let (directory, rotation) = (&world.directory, rotation("ci", to, grace));
        async move { directory.rotate(&home(), &rotation).await }
    };
    let day = Duration::from_secs(86_400);

    let record = rotate(second, day).await.unwrap();
    assert_eq!(record.access_key, Some(secret_of(second).masked));
    assert_eq!(record.replaced[0].access_key, secret_of(first).masked);
    assert_eq!((record.version, record.created_at), (1, created.created_at));
    for secret in [first, second] {
        assert_eq!(world.resolve(secret).await, Some(id("ci")));
        assert_is!(rotate(secret, day).await, Err(KeysError::AccessKeyTaken));
        let other = world.create(with_secret(member("other"), secret)).await;
        assert_is!(other, Err(KeysError::AccessKeyTaken));
    }
    assert_eq!(world.taken().await, taken, "one name and one mask");
    let page = world.page().await;
    assert_eq!(
        (&page.keys[0].access_key, &page.keys[0].replaced),
        (&record.access_key, &record.replaced)
    );

    rotate(third, Duration::ZERO).await.unwrap();
    assert_eq!(world.resolve(third).await, Some(id("ci")));
    for secret in [first, second] {
        assert_eq!(world.resolve(secret).await, None);
        world.create(with_secret(member("other"), secret)).await.unwrap();
        world.delete("other").await.unwrap();
    }
    // An access key that has ended may come back.
    rotate(first, Duration::from_millis(1)).await.unwrap();
    sleep(Duration::from_millis(2)).await;
    rotate(third, day).await.unwrap();
    assert_eq!(world.resolve(third).await, Some(id("ci")));

    world.delete("ci").await.unwrap();
    assert_eq!(world.keys_in_redis().await, before, "nothing is left");
}

#[tokio::test]
async fn only_access_keys_that_the_engine_drew_look_different() {
    let world = World::new().await;
    let (one, alike, third) =
        ("sk-p-the-first-one-wxyz", "sk-p-the-other-one-wxyz", "sk-p-the-third-one-wxyz");
    let brought = |secret: &str| StoredSecret::from(&AccessKey::new(secret).unwrap());
    for (name, secret) in [("a", one), ("b", alike)] {
        let key = NewRecord { secret: Some(brought(secret)), ..member(name) };
        world.create(key).await.unwrap();
        assert_eq!(world.resolve(secret).await, Some(id(name)));
    }
    world.create(with_secret(member("c"), third)).await.unwrap();
    let drawn = world.create(with_secret(member("d"), "sk-p-a-fourth-of-all-wxyz")).await;
    assert_is!(drawn, Err(KeysError::AccessKeyTaken));
    let to_drawn = rotation("a", "sk-p-a-fourth-of-all-wxyz", Duration::ZERO);
    let rotated = world.directory.rotate(&home(), &to_drawn).await;
    assert_is!(rotated, Err(KeysError::AccessKeyTaken));
    assert_eq!(world.resolve(one).await, Some(id("a")), "a refused rotation changes nothing");
    let to_brought = KeyRotation { secret: brought("sk-p-a-fourth-of-all-wxyz"), ..to_drawn };
    world.directory.rotate(&home(), &to_brought).await.unwrap();
}
