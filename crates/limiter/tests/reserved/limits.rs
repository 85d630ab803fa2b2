//! A stream that comes to a limit.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use limiter::stream::{StreamError, StreamMeter};
use limiter::{DenialReason, Denied, KeyConfig, Timestamp};
use proptest::prelude::*;

use super::log::Log;
use super::world::{A_MINUTE, World, charge, chunks, credits, metered, price, says};

#[tokio::test]
async fn by_default_a_stream_goes_on_and_its_overrun_is_debt() {
    let (world, log) = (World::with_tokens_per_minute(150).await, Log::listen());
    let answer = metered([1; 500], world.reserve(100, 20).await).with_step(10);
    assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap().len(), 500);
    assert_eq!(world.minute_tokens().await, 600, "150 are allowed");
    assert_eq!(log.text(), "", "that is as it was ordered");
    world.pass(A_MINUTE);
    assert_eq!(world.minute_tokens().await, 0, "a debt stands until its window ends");
}

#[tokio::test]
async fn asked_to_a_stream_ends_when_the_limit_is_used_up_to_the_token() {
    for step in [1, 7, 10, 1_000] {
        let world = World::with_tokens_per_minute(150).await;
        let call = world.reserve(100, 20).await;
        let mut answer = metered([1; 500], call).with_step(step).ending_at_limit();
        let (passed, denied) = passed(&mut answer).await;
        assert_eq!((passed.len(), world.minute_tokens().await), (50, 150), "in steps of {step}");
        let denied = denied.expect("450 more do not fit");
        let retry_at = Timestamp::from_unix_ms(1_760_011_260_000);
        assert_eq!(denied.retry_at(), Some(retry_at), "{denied}");
        assert!(answer.next().await.is_none(), "nothing follows");
    }
}

#[tokio::test]
async fn a_chunk_that_does_not_fit_is_neither_passed_on_nor_charged() {
    let world = World::with_tokens_per_minute(150).await;
    let mut answer = metered([20, 20, 20, 1], world.reserve(100, 20).await).ending_at_limit();
    let (passed, denied) = passed(&mut answer).await;
    assert!(denied.is_some());
    assert_eq!((passed, world.minute_tokens().await), (vec![20, 20], 140));
}

#[tokio::test]
async fn a_stream_whose_end_just_fits_is_not_denied() {
    let world = World::with_tokens_per_minute(150).await;
    let answer = metered([1; 50], world.reserve(100, 20).await).ending_at_limit();
    assert_eq!(answer.try_collect::<Vec<_>>().await.unwrap().len(), 50);
    assert_eq!(world.minute_tokens().await, 150);
}

#[tokio::test]
async fn a_stream_that_fills_a_minute_goes_on_in_the_next_one() {
    let world = World::with_tokens_per_minute(150).await;
    let call = world.reserve(100, 20).await;
    let mut answer = metered([1; 500], call).with_step(10).ending_at_limit();
    for _ in 0..50 {
        answer.next().await.unwrap().unwrap();
    }
    world.pass(A_MINUTE);
    let (passed, denied) = passed(&mut answer).await;
    assert!(denied.is_some());
    assert_eq!((passed.len(), world.minute_tokens().await), (150, 150));
    assert_eq!(world.day_tokens().await, 300);
}

/// An overrun is charged in the minute that is open when an amendment is allowed again.
#[tokio::test]
async fn an_overrun_of_a_full_minute_is_charged_in_the_next_one() {
    let world = World::with_tokens_per_minute(150).await;
    let mut answer = metered([1; 80], world.reserve(100, 20).await).with_step(50);
    for _ in 0..60 {
        answer.next().await.unwrap().unwrap();
    }
    assert_eq!(world.minute_tokens().await, 120, "a step of 50 does not fit");
    world.pass(A_MINUTE);
    for _ in 0..11 {
        answer.next().await.unwrap().unwrap();
    }
    assert_eq!(world.minute_tokens().await, 100, "both steps at once");
    assert_eq!(answer.count().await, 9);
    // The amendment stays where it was charged; the day has the sum.
    assert_eq!((world.minute_tokens().await, world.day_tokens().await), (100, 180));
}

#[tokio::test]
async fn a_stream_ends_when_the_budget_is_spent_to_the_token() {
    for step in [1, 3, 1_000] {
        // 10 for the prompt, and 2 for each token of the answer.
        let world = World::with_budget("31").await;
        let estimate = charge(10, 4).with_credits(credits("18"));
        let call = world.reserve_charge(&estimate).await;
        let answer = metered([1; 500], call).with_step(step).with_price(price());
        let mut answer = answer.ending_at_limit();
        let (passed, denied) = passed(&mut answer).await;
        assert_eq!((passed.len(), world.spent().await), (10, credits("30")), "in steps of {step}");
        let denied = denied.expect("one credit pays for no token");
        assert!(matches!(denied.reason(), DenialReason::BudgetExhausted(_)), "{denied}");
    }
}

#[tokio::test]
async fn a_budget_and_a_limit_are_both_used_up_to_the_token() {
    let limits = limiter::Limits::builder().tokens_per_minute(18).build().unwrap();
    let config = KeyConfig::named("ci").unwrap().with_global(limits);
    let world = World::new(config.with_budget(credits("31"))).await;
    let call = world.reserve_charge(&charge(10, 4).with_credits(credits("18"))).await;
    let mut answer = metered([1; 500], call).with_price(price()).ending_at_limit();
    let (passed, denied) = passed(&mut answer).await;
    assert!(denied.is_some());
    assert_eq!((passed.len(), world.minute_tokens().await), (8, 18));
}

#[tokio::test]
async fn a_key_that_expires_or_is_deleted_in_mid_stream_ends_it() {
    let limits = limiter::Limits::builder().tokens_per_day(1_000_000).build().unwrap();
    let expires = super::world::NOW.after(A_MINUTE);
    let config = KeyConfig::named("ci").unwrap().with_global(limits).with_expiry(expires);
    for deleted in [false, true] {
        let world = World::new(config.clone()).await;
        let mut answer = metered([1; 500], world.reserve(100, 20).await).ending_at_limit();
        for _ in 0..20 {
            answer.next().await.unwrap().unwrap();
        }
        if deleted {
            world.limiter.keys_as(&world.admin).delete(&world.key).await.unwrap();
        } else {
            world.pass(A_MINUTE);
        }
        let (passed, denied) = passed(&mut answer).await;
        assert!(passed.is_empty(), "{passed:?}");
        match denied.expect("it may not go on").reason() {
            DenialReason::KeyUnknown => assert!(deleted),
            DenialReason::KeyExpired { .. } => assert_eq!(world.day_tokens().await, 120),
            other => panic!("{other:?}"),
        }
    }
}

/// An upstream without a reader must not go on generating tokens, which are billed.
#[tokio::test]
async fn the_upstream_is_dropped_before_the_end_is_reported() {
    let world = World::with_tokens_per_minute(150).await;
    let upstream_lives = Arc::new(());
    let held = upstream_lives.clone();
    let upstream = chunks([1; 500]).map(move |chunk| {
        let _ = &held;
        chunk
    });
    let call = world.reserve(100, 20).await;
    let mut answer = StreamMeter::stream(upstream, call, says).ending_at_limit();
    let (_, denied) = passed(&mut answer).await;
    assert!(denied.is_some());
    assert_eq!(Arc::strong_count(&upstream_lives), 1);
}

/// Two streams of a key share its limit; together they never get more.
#[tokio::test]
async fn streams_of_one_key_share_its_limit() {
    let world = World::with_tokens_per_minute(150).await;
    let (one, other) = (world.reserve(10, 5).await, world.reserve(10, 5).await);
    let one = metered([1; 500], one).with_step(8).ending_at_limit();
    let other = metered([3; 500], other).with_step(5).ending_at_limit();
    let both: Vec<_> = futures_util::stream::select(one, other).collect().await;
    let passed: u64 = both.iter().flatten().sum();
    assert_eq!(both.iter().filter(|item| item.is_err()).count(), 2);
    assert_eq!(world.minute_tokens().await, 20 + passed);
    assert!((148..=150).contains(&(20 + passed)), "{passed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The books of any stream, cut anywhere, add up to the token.
    #[test]
    fn the_books_of_any_stream_add_up(
        tokens in prop::collection::vec(prop_oneof![Just(0), 1_u64..5, 1_u64..200], 0..60),
        limit in 1_u64..1_000,
        (input, reserved) in (0_u64..100, 0_u64..300),
        step in 1_u64..400,
        ends in any::<bool>(),
        cut in prop::option::of(0_usize..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::with_tokens_per_minute(limit).await;
            let estimate = charge(input, reserved);
            let reserved_call = world.limiter.reserve(&world.key, None, &estimate).await.unwrap();
            let Some(call) = reserved_call.allowed() else { return Ok(()) };
            let mut answer = metered(tokens.clone(), call).with_step(step);
            if ends {
                answer = answer.ending_at_limit();
            }
            let mut seen = 0;
            let mut denied = false;
            let mut count = 0;
            while cut.is_none_or(|cut| count < cut) {
                match answer.next().await {
                    None => break,
                    Some(Ok(chunk)) => {
                        seen += chunk;
                        count += 1;
                        if ends {
                            // The minute stands: all that was passed on is charged already.
                            let charged = world.minute_tokens().await;
                            prop_assert!((input + seen..=limit).contains(&charged));
                        }
                    }
                    Some(Err(_)) => denied = true,
                }
            }
            drop(answer);
            world.settlements(1).await;
            prop_assert_eq!(world.minute_tokens().await, input + seen);
            if denied {
                prop_assert!(ends);
                prop_assert!(input + seen + tokens[count] > limit, "the next chunk would have fitted");
            }
            let most_asked = 3 * (count as u64 + 1);
            prop_assert!(world.store.calls("amend") <= most_asked);
            if !ends {
                prop_assert!(world.store.calls("amend") <= seen.saturating_sub(reserved).div_ceil(step));
            }
            Ok(())
        })?;
    }
}

/// The chunks that are passed on, and the denial that ended them.
async fn passed(
    answer: &mut (impl StreamExt<Item = Result<u64, StreamError>> + Unpin),
) -> (Vec<u64>, Option<Denied>) {
    let mut passed = Vec::new();
    while let Some(item) = answer.next().await {
        match item {
            Ok(chunk) => passed.push(chunk),
            Err(StreamError::Denied(denied)) => return (passed, Some(denied)),
            Err(error) => panic!("{error:?}"),
        }
    }
    (passed, None)
}
