//! Many tasks call one key at once: exactly what its limits allow is admitted, and the totals are exact afterwards.

use std::sync::Arc;

use limiter_core::{Charge, Credits, Decision, KeyConfig, KeyId, Store, Usage};

use tokio::sync::Barrier;

use super::StoreUnderTest;
use super::world::{World, asset, limits, named, requests_per_day, requests_per_minute, tokens};

/// 4,000 calls meet a limit of 1,000 requests, and each of the 1,000 is told another rest.
pub async fn exactly_the_limit_of_requests_is_admitted(store: impl StoreUnderTest) {
    let config = named("busy").with_global(requests_per_minute(1_000));
    race(
        store,
        config,
        |_| (None, Charge::request()),
        |admitted, usage| {
            assert_eq!(usage.global.map(|global| global.minute.requests.used), Some(1_000));
            let mut rests: Vec<_> =
                admitted.iter().flat_map(Decision::rules).map(|rule| rule.remaining).collect();
            rests.sort_unstable();
            assert_eq!(rests, (0..1_000).collect::<Vec<_>>());
        },
    )
    .await;
}

/// 4,000 calls of 2,500 tokens each meet a limit of a million.
pub async fn exactly_the_limit_of_tokens_is_admitted(store: impl StoreUnderTest) {
    let config = named("busy").with_global(limits(|l| l.tokens_per_minute(1_000_000)));
    race(
        store,
        config,
        |_| (None, tokens(1_500, 1_000)),
        |admitted, usage| {
            assert_eq!(admitted.len(), 400);
            let minute = usage.global.expect("the key has global limits").minute;
            assert_eq!((minute.requests.used, minute.tokens.used), (400, 1_000_000));
        },
    )
    .await;
}

/// A charge that leaves a rest: what does not fit is denied, and the rest stays.
pub async fn a_rest_that_is_too_small_stays(store: impl StoreUnderTest) {
    let config = named("busy").with_global(limits(|l| l.tokens_per_minute(9_999)));
    race(
        store,
        config,
        |_| (None, tokens(0, 2_500)),
        |admitted, usage| {
            assert_eq!(admitted.len(), 3);
            assert_eq!(usage.global.map(|global| global.minute.tokens.used), Some(7_500));
        },
    )
    .await;
}

/// Four assets with limits of their own share a global one: no count exceeds its limit, and the sums agree.
pub async fn mixed_assets_share_one_global_limit(store: impl StoreUnderTest) {
    let mut config = named("busy").with_global(requests_per_minute(500));
    for called in ASSETS {
        config = config.with_asset(asset(called), requests_per_day(150));
    }
    race(
        store,
        config,
        |call| (Some(ASSETS[call % 4]), Charge::request()),
        |admitted, usage| {
            assert_eq!(admitted.len(), 500);
            assert_eq!(usage.global.map(|global| global.minute.requests.used), Some(500));
            let by_asset: Vec<_> =
                usage.assets.iter().map(|row| row.usage.day.requests.used).collect();
            assert!(by_asset.iter().all(|used| *used <= 150), "{by_asset:?}");
            assert_eq!(by_asset.iter().sum::<u64>(), 500);
        },
    )
    .await;
}

/// What an asset's limit denies is not charged to the global scope.
pub async fn what_an_asset_denies_costs_the_global_limit_nothing(store: impl StoreUnderTest) {
    let config = named("busy")
        .with_global(requests_per_minute(4_000))
        .with_asset(asset("m1"), requests_per_minute(100));
    race(
        store,
        config,
        |_| (Some("m1"), tokens(1, 1)),
        |admitted, usage| {
            assert_eq!(admitted.len(), 100);
            let minute = usage.global.expect("the key has global limits").minute;
            assert_eq!((minute.requests.used, minute.tokens.used), (100, 200));
        },
    )
    .await;
}

/// 4,000 calls of 3 millionths each meet a budget of 1,000.
pub async fn a_budget_is_spent_exactly(store: impl StoreUnderTest) {
    let config = named("busy").with_budget(millionths(1_000));
    let charge = Charge::request().with_credits(millionths(3));
    race(
        store,
        config,
        move |_| (None, charge),
        |admitted, usage| {
            assert_eq!(admitted.len(), 333);
            assert_eq!(usage.credits.spent, millionths(999));
        },
    )
    .await;
}

/// The same through a handle for each task, clones of one, and by key at once.
pub async fn handles_and_keys_share_the_limit(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("busy").with_global(requests_per_minute(1_000))).await;
    let handle = world.engine.handle(&key, None).await.expect("the store answers");
    let handle = handle.expect("the key is known");
    let (world, start) = (Arc::new(world), Arc::new(Barrier::new(TASKS)));
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (world, start, key, handle) =
            (world.clone(), start.clone(), key.clone(), handle.clone());
        tasks.push(tokio::spawn(async move {
            start.wait().await;
            let mut admitted = 0;
            for _ in 0..CALLS {
                let decision = if task % 2 == 0 {
                    handle.check_and_consume(&Charge::request()).await.expect("the store answers")
                } else {
                    world.check(&key, None, Charge::request()).await
                };
                admitted += u64::from(decision.is_allowed());
            }
            admitted
        }));
    }
    let mut admitted = 0;
    for task in tasks {
        admitted += task.await.expect("no task panics");
    }
    assert_eq!(admitted, 1_000);
}

/// Lets all tasks call one key, and has what was admitted and the usage afterwards judged; then once more with another
/// key, as a race does not go wrong each time.
async fn race<T: StoreUnderTest>(
    store: T,
    config: KeyConfig,
    call: impl Fn(usize) -> (Option<&'static str>, Charge) + Clone + Send + 'static,
    judge: impl Fn(Vec<Decision>, Usage),
) {
    let world = Arc::new(World::at_noon(&store).await);
    for round in 0..ROUNDS {
        let name = named(&format!("busy {round}")).name;
        let key = world.member(KeyConfig { name, ..config.clone() }).await;
        let start = Arc::new(Barrier::new(TASKS));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| tokio::spawn(calls(world.clone(), start.clone(), key.clone(), call.clone())))
            .collect();
        let mut admitted = Vec::new();
        for task in tasks {
            admitted.extend(task.await.expect("no task panics"));
        }
        judge(admitted, world.usage(&key).await);
    }
}

async fn calls<S: Store>(
    world: Arc<World<S>>,
    start: Arc<Barrier>,
    key: KeyId,
    call: impl Fn(usize) -> (Option<&'static str>, Charge) + Send,
) -> Vec<Decision> {
    start.wait().await;
    let mut admitted = Vec::new();
    for number in 0..CALLS {
        let (called, charge) = call(number);
        let decision = world.check(&key, called, charge).await;
        if decision.is_allowed() {
            admitted.push(decision);
        }
    }
    admitted
}

fn millionths(millionths: u64) -> Credits {
    Credits::from_millionths(millionths).expect("an amount within bounds")
}

const ASSETS: [&str; 4] = ["m1", "m2", "m3", "m4"];
/// More than there are cores, so that tasks are interrupted anywhere.
const TASKS: usize = 8;
const CALLS: usize = 500;
const ROUNDS: usize = 5;
