//! Many tasks manage keys at once: what must happen once happens once.

use std::sync::Arc;

use limiter_core::{
    Charge, Credits, DenialReason, KeyConfig, KeyId, KeysError, ManualClock, NewKey, Store,
};

use super::StoreUnderTest;
use super::world::{NOON, World, access_key, engine, key_id, named, requests_per_day, workspace};

/// Eight tasks bootstrap one workspace.
pub async fn a_workspace_is_bootstrapped_once(store: impl StoreUnderTest) {
    let engine = Arc::new(engine(store.fresh(ManualClock::at(NOON)).await));
    let outcomes = at_once(|task| {
        let engine = engine.clone();
        async move {
            let admin = NewKey::admin(named(&format!("admin {task}")));
            engine.bootstrap(workspace("home"), admin).await
        }
    });
    let outcomes = outcomes.await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused = outcomes.iter().filter(|o| matches!(o, Err(KeysError::AlreadyBootstrapped)));
    assert_eq!(refused.count(), TASKS - 1);
}

/// Eight tasks create a key of one name.
pub async fn a_name_is_given_once(store: impl StoreUnderTest) {
    let created = create_at_once(store, |_| NewKey::member(named("ci"))).await;
    assert_eq!(created.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let refused =
        created.iter().filter(|o| matches!(o, Err(KeysError::NameTaken(name)) if name == "ci"));
    assert_eq!(refused.count(), TASKS - 1);
}

/// Eight tasks create a key of one id.
pub async fn an_id_is_given_once(store: impl StoreUnderTest) {
    let of_one_id = |task| NewKey::member(named(&format!("key {task}"))).with_id(key_id("chosen"));
    let created = create_at_once(store, of_one_id).await;
    assert_eq!(created.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

/// Eight tasks bring one access key.
pub async fn an_access_key_is_taken_once(store: impl StoreUnderTest) {
    let with_one_secret = |task| {
        NewKey::member(named(&format!("key {task}")))
            .with_access_key(access_key("brought-by-eight-tasks"))
    };
    let created = create_at_once(store, with_one_secret).await;
    assert_eq!(created.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

/// Two admins delete each other, again and again: one remains each time.
pub async fn admins_who_delete_each_other_leave_one(store: impl StoreUnderTest) {
    let world = Arc::new(World::at_noon(&store).await);
    for round in 0..ROUNDS {
        let home = format!("home {round}");
        let one = world.admin_of(&home).await;
        let other = NewKey::admin(named("other")).without_access_key();
        let other = world
            .engine
            .keys_as(&one)
            .create(other)
            .await
            .expect("an admin creates admins")
            .record
            .id;
        let pair = [(one.clone(), other.clone()), (other, one)];
        let outcomes = at_once(|task| {
            let (world, (caller, victim)) = (world.clone(), pair[task % 2].clone());
            async move { world.engine.keys_as(&caller).delete(&victim).await }
        });
        assert_eq!(outcomes.await.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{home}");
    }
}

/// Each of 8 × 20 top-ups is made from the version that was read, and made again after a conflict: none is lost.
pub async fn no_update_is_lost(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_budget(Credits::ZERO)).await;
    let world = Arc::new(world);
    at_once(|_| top_up(world.clone(), key.clone())).await;
    let record = world.record(&key).await;
    let expected = (TASKS * ROUNDS) as u64;
    assert_eq!(record.budget.map(Credits::millionths), Some(expected));
    assert_eq!(record.version, 1 + expected);
}

/// While eight tasks call, the key is deleted: each task sees allowed calls, then an unknown key, and never back again.
pub async fn deletion_ends_calls_in_full_run(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_day(1_000_000))).await;
    let world = Arc::new(world);
    let outcomes = at_once(|task| {
        let (world, key) = (world.clone(), key.clone());
        async move {
            if task == 0 {
                world.keys().delete(&key).await.expect("the key is deleted");
                let after = world.check(&key, None, Charge::request()).await;
                return !after.is_allowed();
            }
            let mut deleted = false;
            for _ in 0..500 {
                let decision = world.check(&key, None, Charge::request()).await;
                let unknown =
                    decision.denied().map(|denied| denied.reason() == &DenialReason::KeyUnknown);
                match unknown {
                    None if deleted => return false,
                    Some(false) => return false,
                    None => {}
                    Some(true) => deleted = true,
                }
            }
            true
        }
    });
    assert_eq!(outcomes.await, [true; TASKS]);
}

async fn top_up<S: Store>(world: Arc<World<S>>, key: KeyId) {
    for _ in 0..ROUNDS {
        let raise = |config: &mut KeyConfig| {
            let budget = config.budget.map_or(0, Credits::millionths);
            config.budget = Credits::from_millionths(budget + 1).ok();
        };
        loop {
            match world.update(&key, raise).await {
                Ok(_) => break,
                Err(KeysError::Conflict { expected, actual }) => assert!(expected < actual),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn create_at_once(
    store: impl StoreUnderTest,
    key: impl Fn(usize) -> NewKey,
) -> Vec<Result<(), KeysError>> {
    let world = Arc::new(World::at_noon(&store).await);
    at_once(|task| {
        let (world, key) = (world.clone(), key(task));
        async move { world.keys().create(key).await.map(drop) }
    })
    .await
}

async fn at_once<Task>(task: impl Fn(usize) -> Task) -> Vec<Task::Output>
where
    Task: Future<Output: Send> + Send + 'static,
{
    let tasks: Vec<_> = (0..TASKS).map(|number| tokio::spawn(task(number))).collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.expect("no task panics"));
    }
    outcomes
}

/// More than there are cores, so that tasks are interrupted anywhere.
const TASKS: usize = 8;
const ROUNDS: usize = 20;
