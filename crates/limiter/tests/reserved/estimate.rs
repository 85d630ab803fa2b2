//! Estimates against the limits of a key: calls that fit, that fit later, and that never fit.

use limiter::config::LimitsBuilder;
use limiter::{AssetId, Denied, Estimate, KeyConfig, Limits, ReservationError, Reserved};

use super::world::{A_MINUTE, World, credits, price};

#[tokio::test]
async fn what_fits_is_reserved_as_it_is_with_one_call_of_the_store() {
    let world = World::with_tokens_per_minute(1_000).await;
    assert_eq!(reserve(&world, 100, 900).await.unwrap(), 900);
    assert_eq!(world.store.calls("reserve"), 1);
}

#[tokio::test]
async fn an_answer_longer_than_the_limit_is_cut_to_what_it_allows() {
    for (limits, most) in [
        (limits().tokens_per_minute(1_000), 900),
        (limits().tokens_per_minute(1_000).tokens_per_day(500), 400),
        (limits().output_tokens_per_day(500), 500),
        (limits().input_tokens_per_minute(100), 32_000),
        (limits().requests_per_minute(3), 32_000),
    ] {
        let limits = limits.build().unwrap();
        let world = World::new(named().with_global(limits.clone())).await;
        assert_eq!(reserve(&world, 100, 32_000).await.unwrap(), most, "{limits}");
    }
}

#[tokio::test]
async fn the_smallest_limit_of_key_and_asset_decides() {
    let gpt5: AssetId = "gpt-5".parse().unwrap();
    let day = limits().tokens_per_day(1_000).build().unwrap();
    let minute = limits().output_tokens_per_minute(300).build().unwrap();
    let world = World::new(named().with_global(day).with_asset(gpt5.clone(), minute)).await;
    let estimate = Estimate::for_input_tokens(100).max_output_tokens(32_000);
    let reserved = world.limiter.reserve_estimated(&world.key, &gpt5, &estimate).await.unwrap();
    assert_eq!(reserved.allowed().unwrap().estimate().output_tokens(), 300);
}

/// The limit itself counts, not the rest of it: a call that fits later is denied with the time to retry.
#[tokio::test]
async fn a_call_over_an_exhausted_limit_gets_a_retry_time() {
    let world = World::with_tokens_per_minute(1_000).await;
    assert_eq!(reserve(&world, 100, 700).await.unwrap(), 700);
    let denied = reserve(&world, 100, 32_000).await.unwrap_err();
    assert!(!denied.never_fits(), "{denied}");
    assert_eq!(denied.exceeded().unwrap().charge().output_tokens(), 900);
    world.clock.set(denied.retry_at().unwrap());
    assert_eq!(reserve(&world, 100, 32_000).await.unwrap(), 900);
}

#[tokio::test]
async fn a_prompt_longer_than_the_limit_never_fits() {
    let world = World::with_tokens_per_minute(1_000).await;
    assert_eq!(reserve(&world, 1_000, 32_000).await.unwrap(), 0, "a prompt that just fits");
    world.pass(A_MINUTE);
    let denied = reserve(&world, 1_001, 32_000).await.unwrap_err();
    assert!(denied.never_fits(), "{denied}");
    assert_eq!(denied.retry_at(), None);
    assert_eq!(world.minute_tokens().await, 0);
}

/// A limit that is raised from the next minute on makes a long prompt one that fits, only not now.
#[tokio::test]
async fn a_prompt_that_fits_a_pending_limit_fits_later() {
    let world = World::with_tokens_per_minute(1_000).await;
    let keys = world.limiter.keys_as(&world.admin);
    let record = keys.get(&world.key).await.unwrap();
    let raised = limits().tokens_per_minute(5_000).build().unwrap();
    let config = record.config.with_global(raised);
    keys.update(&world.key, record.version, &config).await.unwrap();

    let denied = reserve(&world, 1_001, 32_000).await.unwrap_err();
    assert!(!denied.never_fits(), "{denied}");
    // A prompt that fits already need not wait for the raise.
    assert_eq!(reserve(&world, 100, 3_000).await.unwrap(), 900);
    world.clock.set(denied.retry_at().unwrap());
    assert_eq!(reserve(&world, 1_001, 32_000).await.unwrap(), 3_999);
}

#[tokio::test]
async fn credits_are_those_of_the_answer_that_is_reserved() {
    let limits = limits().tokens_per_minute(30).build().unwrap();
    let world = World::new(named().with_global(limits).with_budget(credits("100"))).await;
    let estimate = Estimate::for_input_tokens(10).max_output_tokens(40).price(price());
    let reserved = world.limiter.reserve_estimated(&world.key, None, &estimate).await.unwrap();
    assert_eq!(reserved.allowed().unwrap().estimate().credits(), credits("50"));
    assert_eq!(world.spent().await, credits("50"));
}

/// A budget does not end: waiting makes no room in it, and an answer is not shortened to it.
#[tokio::test]
async fn a_budget_that_does_not_pay_for_the_estimate_denies_it() {
    let world = World::with_budget("49").await;
    let estimate = Estimate::for_input_tokens(10).max_output_tokens(20).price(price());
    let reserved = world.limiter.reserve_estimated(&world.key, None, &estimate).await.unwrap();
    let denied = reserved.denied().expect("50 credits are more than 49");
    assert!(denied.never_fits());
    assert_eq!(denied.retry_at(), None);
    assert_eq!(world.store.calls("reserve"), 1);
}

#[tokio::test]
async fn an_estimate_that_cannot_be_counted_is_refused() {
    let world = World::with_tokens_per_minute(1_000).await;
    let estimate = Estimate::for_input_tokens(u64::MAX);
    let refused = world.limiter.reserve_estimated(&world.key, None, &estimate).await;
    assert!(matches!(refused, Err(ReservationError::Invalid(_))), "{refused:?}");
}

/// The output tokens that were reserved, or why none were.
async fn reserve(world: &World, input: u64, output: u64) -> Result<u64, Denied> {
    let estimate = Estimate::for_input_tokens(input).max_output_tokens(output);
    match world.limiter.reserve_estimated(&world.key, None, &estimate).await.unwrap() {
        Reserved::Allowed(call) => {
            let output = call.estimate().output_tokens();
            call.keep();
            Ok(output)
        }
        Reserved::Denied(denied) => Err(denied),
    }
}

fn named() -> KeyConfig {
    KeyConfig::named("ci").unwrap()
}

fn limits() -> LimitsBuilder {
    Limits::builder()
}
