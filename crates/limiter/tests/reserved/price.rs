//! Tokens and credits of one call agree: they are reserved, amended and settled at one price.

use futures_util::StreamExt;
use limiter::{Estimate, KeyConfig, Limits, Price, Reservation, ReservationError, TokenUsage};

use super::world::{World, charge, credits, metered, price};

#[tokio::test]
async fn a_reservation_keeps_the_price_of_its_estimate() {
    for (tokens_per_minute, reserved) in [(1_000, "90"), (30, "50")] {
        let limits = Limits::builder().tokens_per_minute(tokens_per_minute).build().unwrap();
        let config = KeyConfig::named("ci").unwrap().with_global(limits);
        let world = World::new(config.with_budget(credits("100"))).await;
        let call = reserve(&world, estimate().price(price())).await;
        assert_eq!(call.price(), Some(&price()));
        assert_eq!(call.estimate().credits(), credits(reserved), "whole, or cut to the limit");
    }
}

#[tokio::test]
async fn a_reservation_without_an_estimate_has_the_price_that_it_is_given() {
    let world = World::with_budget("100").await;
    let call = world.reserve(1, 1).await;
    assert_eq!(call.price(), None);
    let mut call = call.with_price(price());
    assert_eq!(call.price(), Some(&price()));
    call.settle_usage(&TokenUsage::new(3, 4)).await.unwrap();
    assert_eq!((world.day_tokens().await, world.spent().await), (7, credits("11")));
}

#[tokio::test]
async fn a_usage_is_settled_at_the_price_of_each_kind() {
    let world = World::with_budget("1000").await;
    let price = price().cached_input(credits("100000")).per_request(credits("5"));
    let mut call = reserve(&world, estimate().price(price)).await;
    assert_eq!(world.spent().await, credits("95"));
    let usage = TokenUsage { cached_input: 8, ..TokenUsage::new(10, 3) };
    call.settle_usage(&usage).await.unwrap();
    assert_eq!((world.day_tokens().await, world.spent().await), (13, credits("13.8")));
}

#[tokio::test]
async fn a_usage_without_a_price_leaves_the_credits_as_reserved() {
    let world = World::with_budget("100").await;
    let mut call = world.reserve_charge(&charge(10, 5).with_credits(credits("20"))).await;
    call.settle_usage(&TokenUsage::new(1, 2)).await.unwrap();
    assert_eq!((world.day_tokens().await, world.spent().await), (3, credits("20")));
}

#[tokio::test]
async fn a_usage_that_cannot_be_counted_leaves_the_reservation_open() {
    let world = World::with_budget("100").await;
    let mut call = reserve(&world, estimate().price(price())).await;
    let refused = call.settle_usage(&TokenUsage::new(u64::MAX, 1)).await;
    assert!(matches!(refused, Err(ReservationError::Invalid(_))), "{refused:?}");
    assert_eq!(world.spent().await, credits("90"));
    call.settle_usage(&TokenUsage::new(1, 1)).await.unwrap();
    assert_eq!(world.spent().await, credits("3"));
}

/// A cache write may cost more than other input, and reasoning more than other output.
#[tokio::test]
async fn no_budget_is_overspent_by_tokens_that_were_estimated() {
    let world = World::with_budget("200").await;
    let price = price().cache_write(credits("2500000")).reasoning(credits("4000000"));
    let mut call = reserve(&world, estimate().price(price)).await;
    assert_eq!(world.spent().await, credits("185"));
    let usage = TokenUsage { cache_write: 10, reasoning: 40, ..TokenUsage::new(10, 40) };
    call.settle_usage(&usage).await.unwrap();
    assert_eq!(world.spent().await, credits("185"));
}

#[tokio::test]
async fn a_stream_is_amended_and_settled_at_the_price_of_its_reservation() {
    let world = World::with_budget("1000").await;
    let call = reserve(&world, estimate().max_output_tokens(5).price(price())).await;
    let mut answer = metered([1; 7], call).with_step(10);
    for _ in 0..6 {
        answer.next().await.unwrap().unwrap();
    }
    assert_eq!(world.spent().await, credits("40"), "10 for the prompt, and 30 for 15 tokens");
    assert_eq!(answer.count().await, 1);
    assert_eq!((world.day_tokens().await, world.spent().await), (17, credits("24")));
}

#[tokio::test]
async fn a_stream_whose_client_goes_away_is_priced_by_what_was_seen() {
    let world = World::with_budget("1000").await;
    let call = reserve(&world, estimate().price(price())).await;
    let mut answer = metered([1; 7], call);
    answer.next().await.unwrap().unwrap();
    answer.next().await.unwrap().unwrap();
    drop(answer);
    world.settlements(1).await;
    assert_eq!((world.day_tokens().await, world.spent().await), (12, credits("14")));
}

#[tokio::test]
async fn another_price_of_a_stream_counts_instead() {
    let world = World::with_budget("1000").await;
    let call = reserve(&world, estimate().price(price())).await;
    let answer = metered([1; 7], call).with_price(Price::FREE.per_request(credits("3")));
    assert_eq!(answer.count().await, 7);
    assert_eq!((world.day_tokens().await, world.spent().await), (17, credits("3")));
}

/// Returns an estimate of 10 tokens of input, and up to 40 of output.
fn estimate() -> Estimate {
    Estimate::for_input_tokens(10).max_output_tokens(40)
}

async fn reserve(world: &World, estimate: Estimate) -> Reservation {
    let reserved = world.limiter.reserve_estimated(&world.key, None, &estimate).await.unwrap();
    reserved.allowed().expect("it fits")
}
