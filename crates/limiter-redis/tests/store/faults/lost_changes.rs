//! Changes of keys take several steps: the reply of each step is lost on purpose, one after the other. In each case the
//! change has happened or has not, its caller gets a true answer, and the same change can be made afterwards.

use std::time::{Duration, Instant};

use limiter_core::{
    AccessKey, KeyConfig, KeyId, KeyKind, KeyRecord, KeyRotation, KeysError, Limits, NewRecord,
    Search, Store, StoreError, StoredSecret, Thresholds, WorkspaceId,
};
use limiter_redis::RedisStore;
use limiter_test_servers::{Proxy, RedisServer};

use super::load::{call, patient};
use crate::update::update;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_whose_replies_are_lost_has_happened_or_not() {
    each_reply_lost(
        "create",
        async |scene, store| store.create(scene.new_key()).await.map(drop),
        |scene, found| {
            found.as_ref().is_some_and(|key| key.config.name == scene.new_key().config.name)
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_name_whose_replies_are_lost_is_in_force_or_not() {
    each_reply_lost(
        "rename",
        async |scene, store| scene.update(store, KeyConfig::named("new name").unwrap()).await,
        |_, found| found.as_ref().is_some_and(|key| key.config.name.as_str() == "new name"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_limits_whose_replies_are_lost_are_in_force_or_not() {
    let limits = Limits::builder().requests_per_day(5).build().unwrap();
    let config = KeyConfig::named("old name").unwrap().with_global(limits);
    each_reply_lost(
        "limits",
        async |scene, store| scene.update(store, config.clone()).await,
        |_, found| found.as_ref().is_some_and(|key| key.version == 2),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_whose_replies_are_lost_has_happened_or_not() {
    each_reply_lost(
        "delete",
        async |scene, store| store.delete(&scene.workspace, &scene.id).await,
        |_, found| found.is_none(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_whose_replies_are_lost_has_happened_or_not() {
    each_reply_lost(
        "rotate",
        async |scene, store| {
            let secret = StoredSecret::from(&scene.next_access_key);
            let rotation = KeyRotation { id: scene.id.clone(), secret, grace: Duration::ZERO };
            store.rotate(&scene.workspace, &rotation).await.map(drop)
        },
        |scene, found| {
            let shown = found.as_ref().and_then(|key| key.access_key);
            shown == Some(scene.next_access_key.masked())
        },
    )
    .await;
}

/// A client that stops halfway leaves its change for others to finish after the lease. Until then the keys of the
/// workspace cannot be created, renamed or deleted. Decisions do not wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_left_behind_blocks_its_workspace_for_the_lease_at_most() {
    let Servers { _server, proxy, store, direct } = Servers::start().await;
    let mut waited = Vec::new();
    // Creating a key takes four scripts.
    for number in 0..=4 {
        let (scene, other) = (Scene::new(number), Scene::new(100 + number));
        let key = direct.create(other.new_key()).await.unwrap().id;
        if let Some(step) = number.checked_sub(1) {
            proxy.lose_reply_after(step);
        }
        let outcome = store.create(scene.new_key()).await;
        assert_eq!(outcome.is_err(), number > 0 && number < 4, "{number}: {outcome:?}");
        proxy.forward();
        let next = NewRecord {
            id: format!("next {number}").parse().unwrap(),
            config: KeyConfig::named("next").unwrap(),
            thresholds: Thresholds::DEFAULT,
            secret: None,
            ..scene.new_key()
        };
        assert!(call(&direct, &key).await.unwrap().is_allowed());
        let began = Instant::now();
        direct.create(next).await.unwrap();
        waited.push(began.elapsed());
    }
    println!("the next change, after the reply of each step was lost: {waited:.0?}");
    let longest = waited.iter().max().unwrap();
    assert!(*longest <= LEASE + Duration::from_secs(2), "{longest:?}");
}

struct Servers {
    _server: RedisServer,
    proxy: Proxy,
    store: RedisStore,
    /// A store that bypasses the proxy.
    direct: RedisStore,
}

impl Servers {
    async fn start() -> Self {
        let server = RedisServer::run();
        let proxy = Proxy::to(&server.address());
        proxy.count_only(&["EVALSHA"]);
        let connect = |url| patient(url).management_lease(LEASE).connect();
        let direct = connect(server.url()).await.unwrap();
        let store = connect(proxy.url()).await.unwrap();
        Self { _server: server, proxy, store, direct }
    }
}

/// A key of a workspace, which exists already unless the change creates it.
struct Scene {
    workspace: WorkspaceId,
    id: KeyId,
    access_key: AccessKey,
    /// The one that a rotation gives it.
    next_access_key: AccessKey,
}

impl Scene {
    fn new(number: u64) -> Self {
        Self {
            workspace: format!("workspace {number}").parse().unwrap(),
            id: format!("key {number}").parse().unwrap(),
            access_key: AccessKey::new(format!("sk-{number:03}-0123456789-{number:03}")).unwrap(),
            next_access_key: AccessKey::new(format!("pk-{number:03}-0123456789-{number:03}"))
                .unwrap(),
        }
    }

    fn new_key(&self) -> NewRecord {
        NewRecord {
            id: self.id.clone(),
            workspace: self.workspace.clone(),
            kind: KeyKind::Member,
            config: KeyConfig::named("old name").unwrap(),
            thresholds: Thresholds::DEFAULT,
            secret: Some(StoredSecret::from(&self.access_key)),
            bootstraps: false,
        }
    }

    async fn update(&self, store: &RedisStore, config: KeyConfig) -> Result<(), KeysError> {
        store.update(&self.workspace, &update(&self.id, 1, &config)).await.map(drop)
    }

    /// Returns the key. It must be found by the access key of its record and in the list if it exists, and only then.
    async fn found(&self, store: &RedisStore) -> Option<KeyRecord> {
        let found = store.read(&self.id).await.unwrap();
        let shown = found.as_ref().and_then(|key| key.access_key);
        for access_key in [&self.access_key, &self.next_access_key] {
            let resolved = store.resolve(&access_key.digest()).await.unwrap();
            assert_eq!(resolved.is_some(), shown == Some(access_key.masked()), "{access_key}");
        }
        let listed = store.list(&self.workspace, &Search::all()).await.unwrap().keys;
        let known = |key: &KeyRecord| (key.id.clone(), key.config.name.clone(), key.version);
        let listed: Vec<_> = listed.iter().map(known).collect();
        assert_eq!(listed, found.iter().map(known).collect::<Vec<_>>(), "in the list");
        found
    }
}

/// Repeats a change, each time with another reply lost, until no reply is left to lose.
async fn each_reply_lost(
    what: &str,
    change: impl AsyncFn(&Scene, &RedisStore) -> Result<(), KeysError>,
    has_happened: impl Fn(&Scene, &Option<KeyRecord>) -> bool,
) {
    let Servers { _server, proxy, store, direct } = Servers::start().await;
    let (mut happened, mut not, mut unknown, mut unavailable) = (0, 0, 0, 0);
    for number in 0..MOST_STEPS {
        let scene = Scene::new(number);
        if what != "create" {
            direct.create(scene.new_key()).await.unwrap();
        }
        // The first round has no fault, and loads the scripts.
        let lost_before = proxy.replies_lost();
        if let Some(step) = number.checked_sub(1) {
            proxy.lose_reply_after(step);
        }
        let outcome = change(&scene, &store).await;
        let lost = proxy.replies_lost() > lost_before;
        proxy.forward();

        let found = direct.read(&scene.id).await.unwrap();
        let is_so = has_happened(&scene, &found);
        match &outcome {
            Ok(()) => assert!(is_so, "{what} {number}: it was said to have happened"),
            Err(KeysError::Store(StoreError::OutcomeUnknown(_))) => unknown += 1,
            Err(KeysError::Store(StoreError::Unavailable(_))) => {
                unavailable += 1;
                assert!(!is_so, "{what} {number}: it was said not to have happened");
            }
            other => panic!("{what} {number}: {other:?}"),
        }
        *(if is_so { &mut happened } else { &mut not }) += 1;
        // A client that repeats the change is not stuck, and the index agrees.
        match change(&scene, &direct).await {
            Ok(()) => assert!(!is_so || what == "limits", "{what} {number}: it happened twice"),
            Err(
                KeysError::IdTaken(_)
                | KeysError::AccessKeyTaken
                | KeysError::NotFound(_)
                | KeysError::Conflict { .. },
            ) => {
                assert!(is_so, "{what} {number}: it had not happened");
            }
            other => panic!("{what} {number}, again: {other:?}"),
        }
        let found = scene.found(&direct).await;
        assert!(has_happened(&scene, &found), "{what} {number}");
        if number > 0 && !lost {
            let lost = number - 1;
            println!(
                "{what}: {lost} replies lost, one at a time: {unknown} unknown, {unavailable} unavailable; \
                 {happened} happened, {not} did not"
            );
            assert!(lost > 0);
            return;
        }
    }
    panic!("{what} has more steps than {MOST_STEPS}");
}

/// A crash blocks the workspace for this long; half of it must suffice for a change on a busy machine.
const LEASE: Duration = Duration::from_millis(1_000);
const MOST_STEPS: u64 = 20;
