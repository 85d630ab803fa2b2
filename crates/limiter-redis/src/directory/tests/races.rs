//! Many tasks at once: what must happen once happens once.

use std::time::Duration;

use limiter_core::{KeysError, NewRecord};
use tokio::time::{Instant, sleep, timeout};

use super::{Waiting, World, admin, config, home, id, member, some_day, with_secret};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_creations_of_one_name_one_succeeds() {
    let world = World::new().await;
    let created =
        at_once(&world, 64, |task| NewRecord { id: id(&format!("{task}")), ..member("ci") }).await;
    assert_eq!(created.iter().filter(|created| created.is_ok()).count(), 1);
    let refused = created.iter().filter(|c| matches!(c, Err(KeysError::NameTaken(_)))).count();
    assert_eq!(refused, 63, "{created:?}");
    assert_eq!(world.names().await, ["ci"]);
    assert!(!world.is_changing().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_creations_of_one_id_one_succeeds() {
    let world = World::new().await;
    let created =
        at_once(&world, 64, |task| NewRecord { id: id("one"), ..member(&format!("{task}")) }).await;
    assert_eq!(created.iter().filter(|created| created.is_ok()).count(), 1);
    let refused = created.iter().filter(|c| matches!(c, Err(KeysError::IdTaken(_)))).count();
    assert_eq!(refused, 63, "{created:?}");
    assert_eq!(world.names().await, world.indexed_names().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_creations_with_different_names_all_succeed() {
    let world = World::new().await;
    let created = at_once(&world, 64, |task| member(&format!("{task}"))).await;
    assert!(created.iter().all(Result::is_ok), "{created:?}");
    assert_eq!(world.names().await.len(), 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_access_key_is_taken_once_among_all_workspaces() {
    let world = World::new().await;
    for round in 0..10 {
        let secret = format!("{round}-brought-by-all-of-them");
        let created = at_once(&world, 16, |task| {
            let key = with_secret(member(&format!("{round} {task}")), &secret);
            NewRecord { workspace: format!("{task}").parse().unwrap(), ..key }
        });
        let created = created.await;
        assert_eq!(created.iter().filter(|created| created.is_ok()).count(), 1, "{created:?}");
        let owner = created.into_iter().find_map(Result::ok).unwrap().id;
        assert_eq!(world.resolve(&secret).await, Some(owner));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_is_bootstrapped_once() {
    let world = World::new().await;
    let created =
        at_once(&world, 32, |task| NewRecord { bootstraps: true, ..admin(&format!("{task}")) });
    let created = created.await;
    assert_eq!(created.iter().filter(|created| created.is_ok()).count(), 1);
    let refused = created.iter().filter(|c| matches!(c, Err(KeysError::AlreadyBootstrapped)));
    assert_eq!(refused.count(), 31);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admins_that_go_all_at_once_leave_one() {
    let world = World::new().await;
    let names: Vec<_> = (0..8).map(|number| format!("admin {number}")).collect();
    for name in &names {
        world.create(admin(name)).await.unwrap();
    }
    let tasks: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let (directory, name) = (world.directory.clone(), name.clone());
            tokio::spawn(async move {
                if number % 2 == 0 {
                    directory.delete(&home(), &id(&name)).await
                } else {
                    let expiring = config(&name).with_expiry(some_day());
                    directory.update(&home(), &id(&name), 1, &expiring).await.map(drop)
                }
            })
        })
        .collect();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => {}
            Err(KeysError::LastAdmin) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_no_change_behind() {
    let world = World::new().await;
    for number in 0..20 {
        let key = member(&format!("{number}"));
        let pause = Duration::from_micros(number * 100);
        let _ = timeout(pause, world.directory.create(key)).await;
    }
    world.create(member("after all")).await.unwrap();
    // Each was begun, and is brought to its end. What was left behind would stay for a lease, which is longer.
    let end = Instant::now() + Waiting::default().lease / 2;
    while world.indexed_names().await.len() < 21 || world.is_changing().await {
        assert!(Instant::now() < end, "{:?}", world.indexed_names().await);
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.names().await, world.indexed_names().await);
}

async fn at_once(
    world: &World,
    tasks: usize,
    key: impl Fn(usize) -> NewRecord,
) -> Vec<Result<limiter_core::KeyRecord, KeysError>> {
    let tasks: Vec<_> = (0..tasks)
        .map(|task| {
            let (directory, key) = (world.directory.clone(), key(task));
            tokio::spawn(async move { directory.create(key).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}
