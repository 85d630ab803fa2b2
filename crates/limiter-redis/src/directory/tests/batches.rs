//! Many keys in one change: each has a result of its own, and what stops halfway is healed as for one key.

use std::collections::BTreeSet;
use std::time::Duration;

use limiter_core::{KeyRecord, KeysError, NewRecord};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::creating::BATCH;
use super::{LEASE, World, admin, id, is_unknown, member, with_secret};
use crate::servers::faults::{ALL, Fault};

/// More than one batch.
const MANY: usize = 230;

fn secret(number: usize) -> String {
    format!("{number:04}-of-a-batch-{number:04}")
}

fn key(number: usize) -> NewRecord {
    with_secret(member(&format!("key {number:04}")), &secret(number))
}

impl World {
    async fn create_many(&self, keys: Vec<NewRecord>) -> Vec<Result<KeyRecord, KeysError>> {
        self.directory.create_many(keys).await.unwrap()
    }

    /// All keys of the range exist, are listed and are found by their access keys; no others are.
    async fn has_keys(&self, expected: impl IntoIterator<Item = usize>, case: &str) {
        let expected: BTreeSet<usize> = expected.into_iter().collect();
        let names: Vec<_> = expected.iter().map(|number| format!("key {number:04}")).collect();
        assert_eq!(self.names().await, names, "{case}");
        assert_eq!(self.indexed_names().await, names, "{case}");
        assert_eq!(self.taken().await, 4 * names.len(), "{case}");
        for number in 0..MANY {
            let found = self.resolve(&secret(number)).await;
            let exists = expected.contains(&number);
            assert_eq!(found, exists.then(|| key(number).id), "{case}: {number}");
        }
        assert!(!self.is_changing().await, "{case}");
    }
}

#[tokio::test]
async fn many_keys_are_created_in_order() {
    let world = World::new().await;
    let created = world.create_many((0..MANY).map(key).collect()).await;
    for (number, created) in created.iter().enumerate() {
        assert_eq!(created.as_ref().unwrap().id, key(number).id);
    }
    world.has_keys(0..MANY, "all").await;
    assert!(world.create_many(Vec::new()).await.is_empty());
}

#[tokio::test]
async fn each_key_has_a_result_of_its_own() {
    let world = World::new().await;
    world.create(admin("first")).await.unwrap();
    world.create(with_secret(member("taken"), "abcd-the-first-one-wxyz")).await.unwrap();
    let elsewhere = NewRecord { workspace: "elsewhere".parse().unwrap(), ..member("foreign") };
    world.create(with_secret(elsewhere, "ABCD-of-another-place-WXYZ")).await.unwrap();
    let before = (world.keys_in_redis().await, world.taken().await);

    let named = |id_of: &str, name: &str| NewRecord { id: id(id_of), ..member(name) };
    let assets = |key: NewRecord| {
        let mut key = key;
        let too_many = limiter_core::KeyConfig::MAX_ASSETS + 1;
        for number in 0..too_many {
            let asset = format!("asset {number}").parse().unwrap();
            key.config.assets.insert(asset, limiter_core::Limits::NONE);
        }
        key
    };
    let created = world
        .create_many(vec![
            member("one"),
            named("other", "taken"),
            named("taken", "another"),
            named("foreign", "taken"),
            with_secret(member("alike"), "abcd-with-the-same-ends-wxyz"),
            with_secret(member("theirs"), "ABCD-of-another-place-WXYZ"),
            assets(member("big")),
            NewRecord { bootstraps: true, ..admin("boots") },
            member("two"),
            // Taken by keys of the batch itself.
            named("three", "one"),
            named("two", "four"),
            with_secret(member("five"), "efgh-in-one-batch-stuv"),
            with_secret(member("six"), "efgh-in-one-batch-stuv"),
            // Free all the same, since those before it were refused.
            named("three", "four"),
        ])
        .await;
    let outcomes: Vec<_> = created
        .iter()
        .map(|created| match created {
            Ok(key) => key.config.name.to_string(),
            Err(KeysError::IdTaken(id)) => format!("id {id}"),
            Err(KeysError::NameTaken(name)) => format!("name {name}"),
            Err(KeysError::AccessKeyTaken) => "access key".to_owned(),
            Err(KeysError::AlreadyBootstrapped) => "bootstrapped".to_owned(),
            Err(KeysError::Invalid(_)) => "invalid".to_owned(),
            Err(error) => panic!("{error:?}"),
        })
        .collect();
    assert_eq!(
        outcomes,
        [
            "one",
            "name taken",
            "id taken",
            "id foreign",
            "access key",
            "access key",
            "invalid",
            "bootstrapped",
            "two",
            "name one",
            "id two",
            "five",
            "access key",
            "four",
        ]
    );
    let names = ["first", "five", "four", "one", "taken", "two"];
    assert_eq!(world.names().await, names);
    assert_eq!(world.indexed_names().await, names);
    // Counts, limits and record of four keys, and the pointer of one; name and id of four, and the mask of one twice.
    let after = (world.keys_in_redis().await, world.taken().await);
    assert_eq!(after, (before.0 + 13, before.1 + 10));
    assert!(!world.is_changing().await);
}

#[tokio::test]
async fn a_creation_that_stopped_is_healed_key_by_key() {
    for next in ["list", "create another", "create of the same name", "create the same", "delete"] {
        let mut cases = JoinSet::new();
        // How many keys are to be created, how many have their pointer, and how many their record too.
        for steps in [[1, 0, 0], [1, 1, 0], [1, 1, 1], [3, 0, 0], [3, 3, 0], [3, 3, 2], [3, 3, 3]] {
            cases.spawn(healed(steps, next));
        }
        cases.join_all().await;
    }
}

async fn healed([count, pointed, created]: [usize; 3], next: &'static str) {
    const OTHER: usize = MANY - 1;
    let world = World::with_short_lease().await;
    world.create(key(OTHER)).await.unwrap();
    let keys: Vec<_> = (0..count).map(key).collect();
    world.stop_creating(&keys, pointed, created).await;
    let case = format!("{next} after {count} keys, {pointed} pointers, {created} records");
    // Before the lease ends, what exists is shown and found.
    let mut expected: BTreeSet<_> = (0..created).chain([OTHER]).collect();
    assert_eq!(world.names().await.len(), expected.len(), "{case}");
    assert!(world.is_changing().await, "{case}");
    assert_eq!(world.resolve(&secret(0)).await.is_some(), created > 0, "{case}");
    sleep(LEASE).await;

    match next {
        "list" => assert_eq!(world.names().await.len(), expected.len(), "{case}"),
        "create another" => {
            world.create(key(created)).await.unwrap();
            expected.insert(created);
        }
        "create of the same name" => {
            let name = key(0).config.name.to_string();
            let of_name = NewRecord { id: id("of the same name"), ..member(&name) };
            match world.create(of_name).await {
                Err(KeysError::NameTaken(_)) => assert!(created > 0, "{case}"),
                Ok(_) if created == 0 => world.delete("of the same name").await.unwrap(),
                other => panic!("{case}: {other:?}"),
            }
        }
        "create the same" => {
            let again = world.create_many(keys).await;
            let refused = again.iter().filter(|r| matches!(r, Err(KeysError::IdTaken(_))));
            assert_eq!(refused.count(), created, "{case}: {again:?}");
            expected.extend(0..count);
        }
        _ => {
            world.delete(key(OTHER).id.as_str()).await.unwrap();
            expected.remove(&OTHER);
        }
    }
    // Counts, limits, record and pointer of each, names and taken.
    let left = if expected.is_empty() { 0 } else { 2 + 4 * expected.len() };
    assert_eq!(world.keys_in_redis().await, left, "{case}");
    world.has_keys(expected, &case).await;
}

#[tokio::test]
async fn a_batch_with_a_fault() {
    let mut cases = JoinSet::new();
    for script in ["workspace_begin", "pointer_set", "create", "workspace_finish"] {
        for fault in ALL {
            cases.spawn(batch_with(script, fault));
        }
    }
    cases.join_all().await;
}

async fn batch_with(script: &'static str, fault: Fault) {
    const KEYS: usize = 40;
    let world = World::with_short_lease().await;
    world.servers.faults.once(script, fault);
    let created = world.directory.create_many((0..KEYS).map(key).collect()).await;
    let case = format!("{script} {fault:?}");
    assert!(world.servers.faults.have_happened(), "{case}");
    let mut existing = Vec::new();
    for number in 0..KEYS {
        if world.exists(&key(number).id).await {
            existing.push(number);
        }
    }
    let Ok(created) = created else {
        assert_eq!((script, existing.len()), ("workspace_begin", 0), "{case}: {created:?}");
        sleep(LEASE).await;
        return world.has_keys([], &case).await;
    };
    let mut unknown = 0;
    for (number, created) in created.iter().enumerate() {
        let exists = existing.contains(&number);
        unknown += usize::from(is_unknown(created, exists, fault, &format!("{case}: {number}")));
    }
    assert_eq!(unknown, usize::from(script == "create" && fault != Fault::NotRun), "{case}");
    if script == "create" {
        assert!(existing.len() < KEYS, "{case}: after a failure no more are tried");
    } else {
        assert_eq!(existing.len(), KEYS, "{case}: pointers are set one by one then");
    }
    assert_eq!(world.names().await.len(), existing.len(), "{case}: all that exist are listed");
    sleep(LEASE).await;
    world.names().await;
    world.has_keys(existing.iter().copied(), &case).await;
    // The missing keys can be created now.
    world.create_many((0..KEYS).map(key).collect()).await;
    world.has_keys(0..KEYS, &case).await;
}

/// Two clients create the same keys, and a third one other keys of the same workspace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_batches_with_the_same_names_each_key_is_created_once() {
    let world = World::new().await;
    let batch = |ids: &'static str| {
        let directory = world.directory.clone();
        let keys = (0..MANY).map(move |number| {
            let name = format!("key {number:04}");
            NewRecord { id: id(&format!("{ids} {number}")), ..member(&name) }
        });
        tokio::spawn(async move { directory.create_many(keys.collect()).await.unwrap() })
    };
    let (one, two) = (batch("one"), batch("two"));
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    for (number, both) in one.iter().zip(&two).enumerate() {
        let refused = |result| matches!(result, &Err(KeysError::NameTaken(_)));
        assert!(
            both.0.is_ok() && refused(both.1) || both.1.is_ok() && refused(both.0),
            "{number}: {both:?}"
        );
    }
    assert_eq!(world.names().await.len(), MANY);
    assert_eq!(world.taken().await, 2 * MANY);
}

/// A long import does not keep others from changing keys of the workspace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_have_their_turn_between_two_batches() {
    let world = World::new().await;
    let directory = world.directory.clone();
    let import = tokio::spawn(async move {
        let keys = (0..10 * MANY).map(|number| member(&format!("key {number:04}")));
        directory.create_many(keys.collect()).await.unwrap()
    });
    let (mut longest, mut turns) = (Duration::ZERO, 0);
    while !import.is_finished() {
        let begun = Instant::now();
        world.create(member(&format!("other {turns}"))).await.unwrap();
        longest = longest.max(begun.elapsed());
        turns += 1;
    }
    assert!(import.await.unwrap().iter().all(Result::is_ok));
    // A waiting client asks again in each pause, and then several keys fit into it. Without pauses it is one key at most.
    let batches = 10 * MANY / BATCH;
    println!("{turns} turns during {batches} batches, the longest took {longest:?}");
    assert!(turns > 2 * batches, "{turns} turns, the longest took {longest:?}");
}

/// A server that is slow for one batch: what the batch has no time for is left to the next one.
#[tokio::test]
async fn a_batch_never_outlasts_its_lease() {
    let world = World::with_short_lease().await;
    world.servers.faults.slow("create", LEASE / 12);
    let created = world.create_many((0..100).map(key).collect()).await;
    world.servers.faults.slow("create", Duration::ZERO);
    let failed: Vec<_> = created.iter().filter(|created| created.is_err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    world.has_keys(0..100, "slow").await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_whole_batches() {
    let world = World::new().await;
    let keys: Vec<_> = (0..MANY).map(key).collect();
    let pause = Duration::from_millis(20);
    let _ = tokio::time::timeout(pause, world.directory.create_many(keys)).await;
    // It waits for the batch that is under way.
    world.create(member("after all")).await.unwrap();
    let names = world.names().await;
    assert_eq!(names, world.indexed_names().await);
    let created = names.len() - 1;
    assert!(created % BATCH == 0 || created == MANY, "{created} were created");
}
