//! Many tasks at once: what must happen once happens once.

use std::time::Duration;

use limiter_core::{KeyRecord, KeysError, NewRecord};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Waiting, World, admin, config, home, id, member, some_day, update, with_secret};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_creations_of_which_one_may_succeed_one_does() {
    type Key = fn(&str) -> NewRecord;
    type Refusal = fn(&KeysError) -> bool;
    let cases: [(Key, Refusal); 3] = [
        (
            |task| NewRecord { id: id(task), ..member("ci") },
            |it| matches!(it, KeysError::NameTaken(_)),
        ),
        (
            |task| NewRecord { id: id("ci"), ..member(task) },
            |it| matches!(it, KeysError::IdTaken(_)),
        ),
        (
            |task| NewRecord { bootstraps: true, ..admin(task) },
            |it| matches!(it, KeysError::AlreadyBootstrapped),
        ),
    ];
    for (case, (key, is_refusal)) in ["name", "id", "bootstrap"].into_iter().zip(cases) {
        let world = World::new().await;
        let created = at_once(&world, 64, |task| key(&task.to_string())).await;
        let refused = created.iter().filter(|it| it.as_ref().is_err_and(is_refusal)).count();
        let succeeded = created.iter().filter(|created| created.is_ok()).count();
        assert_eq!((succeeded, refused), (1, 63), "{case}: {created:?}");
        assert_eq!(world.names().await.len(), 1, "{case}");
        assert_eq!(world.names().await, world.indexed_names().await, "{case}");
        assert!(!world.is_changing().await, "{case}");
    }
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
async fn admins_that_go_all_at_once_leave_one() {
    let world = World::new().await;
    let names: Vec<_> = (0..8).map(|number| format!("admin {number}")).collect();
    for name in &names {
        world.create(admin(name)).await.unwrap();
    }
    let mut going = JoinSet::new();
    for (number, name) in names.into_iter().enumerate() {
        let directory = world.directory.clone();
        going.spawn(async move {
            if number % 2 == 0 {
                return directory.delete(&home(), &id(&name)).await;
            }
            let expiring = config(&name).with_expiry(some_day());
            directory.update(&home(), &update(&name, 1, &expiring)).await.map(drop)
        });
    }
    let gone = going.join_all().await;
    let refused: Vec<_> = gone.into_iter().filter_map(Result::err).collect();
    assert_is!(refused[..], [KeysError::LastAdmin]);
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
) -> Vec<Result<KeyRecord, KeysError>> {
    let mut running = JoinSet::new();
    for task in 0..tasks {
        let (directory, key) = (world.directory.clone(), key(task));
        running.spawn(async move { directory.create(key).await });
    }
    running.join_all().await
}
