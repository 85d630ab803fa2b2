//! Settling: what was estimated becomes what it did cost, in the windows that admitted the call.

use limiter_core::{Charge, Limits, MAX_COUNT, ReservationError, Store};

use super::StoreUnderTest;
use super::reserved_calls::{Calls, at_noon_and, generous, input_and_output, millionths, output};
use super::world::{
    DAY, MINUTE, NOON, assert_refused, asset, limits, named, requests_per_day, tokens,
};

/// A surplus goes back to the minute and the day that the call was charged to; the request stays.
pub async fn a_settled_call_counts_what_it_cost(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(10, 50)).await;
    assert_eq!(calls.used().await, [1, 60, 1, 60]);
    calls.settle("r1", input_and_output(8, 20)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 28, 1, 28]);
}

/// Each total that is left out is as in the estimate as it stands, after extensions.
pub async fn what_is_left_out_is_as_estimated(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(10, 50).with_credits(millionths(7))).await;
    let extended = calls.extend("r1", output(60)).await;
    assert!(extended.is_ok_and(|decision| decision.is_allowed()));
    calls.settle("r1", input_and_output(3, 60)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 63, 1, 63]);
    assert_eq!(calls.spent().await, 7);
    calls.settle("r1", input_and_output(3, 60)).await.expect("it is the same");
}

/// "An overrun is always recorded, even past the limit: it stands as debt until the window ends."
pub async fn an_overrun_is_a_debt_until_the_window_ends(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    calls.settle("r1", output(150)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 150, 1, 150]);
    assert!(!calls.admits().await);
    calls.world.advance(MINUTE);
    assert!(calls.admits().await);
    assert_eq!(calls.used().await, [0, 0, 1, 150]);
}

/// The minute has closed: what it was charged too much is forgotten. The day goes on, and gets it back.
pub async fn a_refund_never_lands_in_another_window(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    calls.world.advance(MINUTE);
    calls.reserve("r2", tokens(0, 30)).await;
    calls.settle("r1", output(10)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 30, 2, 40]);
}

/// A long stream cannot slip past the limit of a minute: what exceeds the estimate counts in the minute open then.
pub async fn an_overrun_counts_in_the_minute_open_then(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    calls.world.advance(MINUTE);
    calls.settle("r1", output(170)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [0, 120, 1, 170]);
    assert!(!calls.admits().await);
}

/// In a window that has closed since, fewer input tokens do not make up for more output tokens.
pub async fn input_and_output_overrun_each_for_itself(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(40, 40)).await;
    calls.world.advance(MINUTE);
    calls.settle("r1", input_and_output(10, 45)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [0, 5, 1, 55]);
}

/// The call never went upstream: also its request is given back.
pub async fn a_cancelled_call_gives_back_everything(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(10, 50).with_credits(millionths(7))).await;
    calls.cancel("r1").await.expect("the reservation is known");
    assert_eq!(calls.used().await, [0, 0, 0, 0]);
    assert_eq!(calls.spent().await, 0);
}

/// A minute later, only the day is open to give anything back.
pub async fn a_call_cancelled_late_gives_back_to_the_day(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(10, 50)).await;
    calls.world.advance(MINUTE);
    calls.reserve("r2", tokens(0, 5)).await;
    calls.cancel("r1").await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 5, 1, 5]);
}

/// Credits have no window: they come back however late, and an overrun may pass the budget.
pub async fn credits_are_settled_without_windows(store: impl StoreUnderTest) {
    let config = named("ci").with_budget(millionths(10));
    let calls = Calls::of(&store, config).await;
    let estimate = Charge::request().with_credits(millionths(6));
    calls.reserve("r1", estimate).await;
    calls.world.advance(3 * DAY);
    calls.settle("r1", credits(2)).await.expect("the reservation is known");
    assert_eq!(calls.spent().await, 2);
    calls.reserve("r2", estimate).await;
    calls.settle("r2", credits(20)).await.expect("the reservation is known");
    assert_eq!(calls.spent().await, 22);
    assert!(!calls.admits().await);
}

/// Limits that came after the call did not count it: of the estimate they know nothing, of an overrun they do.
pub async fn a_scope_that_did_not_count_the_call_counts_the_overrun(store: impl StoreUnderTest) {
    for (actual, counted) in [(10, 0), (50, 0), (70, 20)] {
        let calls = Calls::of(&store, named("ci")).await;
        calls.reserve("r1", tokens(0, 50)).await;
        let limited = calls.world.update(&calls.key, |config| config.global = generous()).await;
        assert!(limited.is_ok());
        calls.settle("r1", output(actual)).await.expect("the reservation is known");
        assert_eq!(calls.used().await, [0, counted, 0, counted]);
    }
}

/// Cleared, over, and set again: the counts begin anew, also where the day is still the same.
pub async fn a_scope_that_is_counted_anew_does_not_find_its_windows_again(
    store: impl StoreUnderTest,
) {
    let per_minute = limits(|limits| limits.tokens_per_minute(100));
    let calls = Calls::of(&store, named("ci").with_global(per_minute)).await;
    calls.reserve("r1", tokens(0, 50)).await;
    for limits in [Limits::NONE, per_minute] {
        let changed = calls.world.update(&calls.key, |config| config.global = limits).await;
        assert!(changed.is_ok());
        calls.world.advance(MINUTE);
    }
    calls.reserve("r2", tokens(0, 5)).await;
    assert_eq!(calls.used().await, [1, 5, 1, 5], "it began anew");
    calls.settle("r1", output(10)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 5, 1, 5]);
}

/// "A scope whose limits are gone is skipped."
pub async fn a_scope_whose_limits_are_gone_is_skipped(store: impl StoreUnderTest) {
    let config = named("ci").with_global(generous()).with_asset(asset("m1"), requests_per_day(5));
    let calls = Calls::of(&store, config).await;
    let reserved = calls.try_reserve("r1", Some("m1"), tokens(0, 50), 3 * DAY).await;
    assert!(reserved.is_ok_and(|decision| decision.is_allowed()));
    assert!(calls.world.update(&calls.key, |config| config.assets.clear()).await.is_ok());
    calls.world.advance(DAY);
    calls.settle("r1", output(60)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [0, 10, 0, 10]);
    assert!(calls.world.usage(&calls.key).await.assets.is_empty());
}

/// A step back of two minutes mends the minute: the counts are carried over, but it is another minute.
pub async fn after_a_mending_every_earlier_window_is_closed(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    calls.world.clock.set(at_noon_and(-120_000));
    calls.reserve("r2", tokens(0, 5)).await;
    assert_eq!(calls.used().await, [2, 55, 2, 55], "the counts are carried over");
    calls.settle("r1", output(10)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [2, 55, 2, 15], "the day is the same, the minute is not");
}

/// A small step back opens no window again, and closes none.
pub async fn a_small_step_back_leaves_the_window_as_it_is(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    calls.world.clock.set(at_noon_and(-60_000));
    calls.settle("r1", output(10)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 10, 1, 10]);
}

/// A settlement tells what it did cost, whatever became of the limits meanwhile.
pub async fn other_limits_do_not_change_what_is_given_back(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    let lower = limits(|limits| limits.requests_per_minute(1).tokens_per_day(1));
    assert!(calls.world.update(&calls.key, |config| config.global = lower).await.is_ok());
    calls.settle("r1", output(10)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 10, 1, 10]);
}

/// "Settle and cancel work on an expired key": the call ran before.
pub async fn an_expired_key_is_settled(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    calls.reserve("r2", tokens(0, 50)).await;
    let expired = calls.world.update(&calls.key, |config| config.expires_at = Some(NOON)).await;
    assert!(expired.is_ok());
    calls.settle("r1", output(10)).await.expect("the reservation is known");
    calls.cancel("r2").await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 10, 1, 10]);
}

/// The caller died: the estimate stands, and who comes after the ttl is told so.
pub async fn what_is_never_settled_stands_as_estimated(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    let reserved = calls.try_reserve("r1", None, tokens(0, 50), MINUTE).await;
    assert!(reserved.is_ok_and(|decision| decision.is_allowed()));
    calls.world.advance(MINUTE);
    assert_refused!(calls.settle("r1", output(10)).await, ReservationError::Unknown(_));
    assert_refused!(calls.cancel("r1").await, ReservationError::Unknown(_));
    assert_refused!(calls.extend("r1", output(60)).await, ReservationError::Unknown(_));
    assert_eq!(calls.used().await, [0, 0, 1, 50]);
}

/// "Its ttl, which runs from `reserve` and is not prolonged."
pub async fn a_ttl_runs_from_the_reservation(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    for id in ["extended", "repeated"] {
        let reserved = calls.try_reserve(id, None, tokens(0, 5), 2 * MINUTE).await;
        assert!(reserved.is_ok_and(|decision| decision.is_allowed()));
    }
    calls.world.clock.set(at_noon_and(119_999));
    assert!(calls.extend("extended", output(6)).await.is_ok());
    assert!(calls.try_reserve("repeated", None, tokens(0, 5), DAY).await.is_ok());
    calls.world.clock.set(NOON.after(2 * MINUTE));
    for id in ["extended", "repeated"] {
        assert_refused!(calls.settle(id, output(4)).await, ReservationError::Unknown(_));
    }
}

/// A reservation of several requests keeps them when it is settled, and gives all of them back when it is cancelled.
pub async fn requests_are_settled_as_estimated(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    let three = Charge::request().with_requests(3).expect("within bounds");
    calls.reserve("r1", three).await;
    calls.reserve("r2", three).await;
    calls.settle("r1", output(1)).await.expect("the reservation is known");
    calls.cancel("r2").await.expect("the reservation is known");
    assert_eq!(calls.used().await, [3, 1, 3, 1]);
}

/// What is left out counts towards the sum: refused, and nothing is settled.
pub async fn a_sum_above_the_largest_number_is_refused(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(2, 0)).await;
    let too_much = calls.settle("r1", output(MAX_COUNT - 1)).await;
    assert_refused!(too_much, ReservationError::Invalid(_));
    calls.settle("r1", output(MAX_COUNT - 2)).await.expect("it is not settled yet");
    assert_eq!(calls.used().await, [1, MAX_COUNT, 1, MAX_COUNT]);
}

/// Another key's reservation of the same id is another reservation.
pub async fn an_id_belongs_to_its_key(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 50)).await;
    let world = &calls.world;
    let other = world.member(named("other").with_global(generous())).await;
    let settled =
        world.engine.settle(&other, &super::reserved_calls::request_id("r1"), &output(1)).await;
    assert_refused!(settled, ReservationError::Unknown(_));
    assert_eq!(calls.used().await, [1, 50, 1, 50]);
}

fn credits(amount: u64) -> limiter_core::Totals {
    limiter_core::Totals::unchanged().with_credits(millionths(amount))
}
