//! Extending: a running stream asks for more.

use limiter_core::{Charge, DenialReason, ReservationError, Totals};

use super::StoreUnderTest;
use super::reserved_calls::{Calls, input_and_output, millionths, output};
use super::world::{MINUTE, NOON, assert_refused, named, requests_per_minute, tokens};

/// The new totals are told, and the difference is charged, without a request.
pub async fn an_extension_charges_what_is_missing(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(10, 20)).await;
    let extended = calls.extend("r1", output(50)).await.expect("the reservation is known");
    assert!(extended.is_allowed());
    assert_eq!(calls.used().await, [1, 60, 1, 60]);
}

/// An answer that was lost is asked for again: nothing more is charged.
pub async fn a_repeated_extension_charges_nothing(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 20)).await;
    for _ in 0..3 {
        let extended = calls.extend("r1", output(90)).await.expect("the reservation is known");
        assert!(extended.is_allowed());
    }
    assert_eq!(calls.used().await, [1, 90, 1, 90]);
}

/// All or nothing: what does not fit is denied, and the estimate stays as it was.
pub async fn an_extension_that_does_not_fit_changes_nothing(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(10, 20)).await;
    let extended = calls.extend("r1", output(91)).await.expect("the reservation is known");
    let denied = extended.denied().and_then(|denied| denied.rate_limited());
    assert!(denied.is_some_and(|limited| limited.retry_at().is_some()), "{extended:?}");
    assert_eq!(calls.used().await, [1, 30, 1, 30]);
    calls.settle("r1", Totals::unchanged()).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [1, 30, 1, 30]);
}

/// "Never below the old one": not even where another total is above it.
pub async fn an_extension_never_shrinks(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(10, 20)).await;
    assert_refused!(calls.extend("r1", input_and_output(9, 30)).await, ReservationError::Shrinks);
    assert_eq!(calls.used().await, [1, 30, 1, 30]);
}

/// A running call makes no new request, so no limit of requests denies it.
pub async fn an_extension_needs_no_request(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_global(requests_per_minute(1))).await;
    calls.reserve("r1", Charge::request()).await;
    assert!(!calls.admits().await);
    let extended = calls.extend("r1", output(50)).await.expect("the reservation is known");
    assert!(extended.is_allowed());
}

/// "What an extension charged to a window later than the admitting ones stays there."
pub async fn what_an_extension_charged_to_a_later_window_stays_there(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 20)).await;
    calls.world.advance(MINUTE);
    let extended = calls.extend("r1", output(70)).await.expect("the reservation is known");
    assert!(extended.is_allowed());
    assert_eq!(calls.used().await, [0, 50, 1, 70]);
    calls.settle("r1", output(5)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [0, 50, 1, 5]);
}

/// What exceeds the estimate is judged against the estimate as extended.
pub async fn an_overrun_is_what_exceeds_the_extension(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 20)).await;
    assert!(calls.extend("r1", output(70)).await.is_ok_and(|decision| decision.is_allowed()));
    calls.world.advance(MINUTE);
    calls.settle("r1", output(80)).await.expect("the reservation is known");
    assert_eq!(calls.used().await, [0, 10, 1, 80]);
}

/// Credits are asked for like tokens, and denied like tokens.
pub async fn an_extension_asks_for_credits_too(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_budget(millionths(10))).await;
    calls.reserve("r1", Charge::request().with_credits(millionths(4))).await;
    let to = |amount| Totals::unchanged().with_credits(millionths(amount));
    assert!(calls.extend("r1", to(10)).await.is_ok_and(|decision| decision.is_allowed()));
    let denied = calls.extend("r1", to(11)).await.expect("the reservation is known");
    assert!(matches!(
        denied.denied().map(|denied| denied.reason()),
        Some(DenialReason::BudgetExhausted { .. })
    ));
    assert_eq!(calls.spent().await, 10);
}

/// "Extend is denied" on an expired key, even if nothing is missing.
pub async fn an_expired_key_extends_nothing(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 20)).await;
    let expired = calls.world.update(&calls.key, |config| config.expires_at = Some(NOON)).await;
    assert!(expired.is_ok());
    for to in [20, 30] {
        let denied = calls.extend("r1", output(to)).await.expect("the reservation is known");
        assert!(matches!(
            denied.denied().map(|denied| denied.reason()),
            Some(DenialReason::KeyExpired { .. })
        ));
    }
    assert_eq!(calls.used().await, [1, 20, 1, 20]);
}

/// Settle is final, and so is cancel.
pub async fn what_has_ended_is_not_extended(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 20)).await;
    calls.reserve("r2", tokens(0, 20)).await;
    calls.settle("r1", output(10)).await.expect("the reservation is known");
    calls.cancel("r2").await.expect("the reservation is known");
    for id in ["r1", "r2"] {
        assert_refused!(calls.extend(id, output(30)).await, ReservationError::AlreadySettled(_));
    }
    assert_eq!(calls.used().await, [1, 10, 1, 10]);
}
