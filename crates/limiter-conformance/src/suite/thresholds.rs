//! Thresholds: a charge that is the first to reach a share of a limit says so.

use limiter_core::{Charge, Crossing, MAX_COUNT, TokenType};

use super::StoreUnderTest;
use super::reserved_calls::{Calls, generous, millionths, output};
use super::told::{NOTHING, in_words, told};
use super::world::{
    DAY, MINUTE, NEXT_MINUTE, asset, limits, named, requests_per_day, requests_per_minute, tokens,
};

/// The eighth of ten, and the tenth: with the limit, what is used, and when it can be reached again.
pub async fn the_call_that_reaches_a_share_of_a_limit_tells(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_global(requests_per_minute(10))).await;
    let mut crossings = Vec::new();
    for call in 1..=10 {
        let decision = calls.world.check(&calls.key, None, Charge::request()).await;
        let allowed = decision.allowed().expect("it fits");
        crossings.extend(allowed.crossed().iter().map(|crossing| (call, crossing.clone())));
    }
    let told = crossings.into_iter().map(|(call, crossing)| {
        let Crossing { rule, percent, limit, used, resets_at, .. } = crossing;
        let rule = rule.expect("there is no budget").to_string();
        (call, rule, percent, limit, used, resets_at)
    });
    let requests = || "global/minute/requests".to_owned();
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            (8, requests(), 80, 10, 8, Some(NEXT_MINUTE)),
            (10, requests(), 100, 10, 10, Some(NEXT_MINUTE)),
        ]
    );
}

/// Rising, and both with all that it used.
pub async fn a_call_that_reaches_both_shares_tells_both(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    let decision = calls.world.check(&calls.key, None, tokens(40, 60)).await;
    assert_eq!(told(&decision), ["80 % of global/minute/tokens", "100 % of global/minute/tokens"]);
    let crossed = decision.allowed().expect("it fits").crossed();
    assert!(crossed.iter().all(|crossing| (crossing.limit, crossing.used) == (100, 100)));
}

/// 80 % of 11 are 8.8: eight do not reach them, nine do.
pub async fn a_share_that_is_no_whole_number_is_reached_with_the_unit_that_passes_it(
    store: impl StoreUnderTest,
) {
    let calls = Calls::of(&store, named("ci").with_global(requests_per_minute(11))).await;
    calls.world.admit(&calls.key, None, 7).await;
    assert_eq!(calls.tells(None, Charge::request()).await, NOTHING);
    assert_eq!(calls.tells(None, Charge::request()).await, ["80 % of global/minute/requests"]);
}

/// In the order in which rules are listed.
pub async fn each_rule_tells_for_itself(store: impl StoreUnderTest) {
    let all = limits(|l| {
        l.requests_per_minute(5).requests_per_day(10).tokens_per_minute(100).tokens_per_day(160)
    });
    let calls = Calls::of(&store, named("ci").with_global(all)).await;
    let mut said = Vec::new();
    for call in 1..=10 {
        for words in calls.tells(None, tokens(8, 8)).await {
            said.push(format!("{call}: {words}"));
        }
        if call == 5 {
            calls.world.advance(MINUTE);
        }
    }
    assert_eq!(
        said,
        [
            "4: 80 % of global/minute/requests",
            "5: 100 % of global/minute/requests",
            "5: 80 % of global/minute/tokens",
            "8: 80 % of global/day/requests",
            "8: 80 % of global/day/tokens",
            "9: 80 % of global/minute/requests",
            "10: 100 % of global/minute/requests",
            "10: 80 % of global/minute/tokens",
            "10: 100 % of global/day/requests",
            "10: 100 % of global/day/tokens",
        ]
    );
}

/// A call of an asset may reach a share of its limit, of the key's, or of both; the key's comes first.
pub async fn an_asset_and_its_key_each_tell_of_their_own(store: impl StoreUnderTest) {
    let config = named("ci").with_global(requests_per_minute(10));
    let calls = Calls::of(&store, config.with_asset(asset("m1"), requests_per_minute(5))).await;
    let mut said = Vec::new();
    for called in [None, None, None, None, Some("m1"), Some("m1"), Some("m1"), Some("m1")] {
        said.extend(calls.tells(called, Charge::request()).await);
    }
    assert_eq!(said, ["80 % of global/minute/requests", "80 % of m1/minute/requests"]);
    assert_eq!(calls.tells("made up", Charge::request()).await, NOTHING);
    let last = calls.tells("m1", Charge::request()).await;
    assert_eq!(last, ["100 % of global/minute/requests", "100 % of m1/minute/requests"]);
}

/// Assets of the same limits do not share what was told.
pub async fn each_asset_tells_for_itself(store: impl StoreUnderTest) {
    let assets = ["m1", "m2"].map(|id| (asset(id), requests_per_day(1)));
    let [one, other] = assets;
    let config = named("ci").with_asset(one.0, one.1).with_asset(other.0, other.1);
    let calls = Calls::of(&store, config).await;
    for called in ["m1", "m2"] {
        let said = calls.tells(called, Charge::request()).await;
        assert_eq!(said, [80, 100].map(|it| format!("{it} % of {called}/day/requests")));
    }
}

/// It has no window: it is told once, however long the key lives.
pub async fn what_is_spent_tells_of_the_budget(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_budget(millionths(10))).await;
    let spend = |amount| Charge::request().with_credits(millionths(amount));
    assert_eq!(calls.tells(None, spend(7)).await, NOTHING);
    let decision = calls.world.check(&calls.key, None, spend(1)).await;
    assert_eq!(told(&decision), ["80 % of the budget"]);
    let crossing = &decision.allowed().expect("it fits").crossed()[0];
    assert_eq!((crossing.rule, crossing.limit, crossing.used), (None, 10, 8));
    assert_eq!(crossing.resets_at, None);
    calls.world.advance(DAY);
    assert_eq!(calls.tells(None, spend(1)).await, NOTHING);
    assert_eq!(calls.tells(None, spend(1)).await, ["100 % of the budget"]);
}

/// Of a limit of output tokens, input reaches nothing.
pub async fn tokens_tell_as_they_are_counted(store: impl StoreUnderTest) {
    let output_tokens = limits(|l| l.tokens_per_day(100).token_type(TokenType::Output));
    let calls = Calls::of(&store, named("ci").with_global(output_tokens)).await;
    assert_eq!(calls.tells(None, tokens(1_000, 79)).await, NOTHING);
    assert_eq!(calls.tells(None, tokens(1_000, 1)).await, ["80 % of global/day/tokens"]);
}

/// It is counted, and has no shares.
pub async fn a_count_without_a_limit_tells_nothing(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_global(requests_per_day(9))).await;
    let all = tokens(0, MAX_COUNT).with_credits(millionths(MAX_COUNT));
    assert_eq!(calls.tells(None, all).await, NOTHING);
    assert_eq!(calls.tells("m1", all).await, NOTHING);
}

/// A limit of 0 has no shares: neither calls of nothing reach it, nor what was allowed elsewhere.
pub async fn a_limit_of_zero_tells_nothing(store: impl StoreUnderTest) {
    let zero = limits(|l| l.tokens_per_minute(0).requests_per_day(0));
    let calls = Calls::of(&store, named("ci").with_global(zero).with_budget(millionths(0))).await;
    let nothing = Charge::request().with_requests(0).expect("within bounds");
    assert_eq!(calls.tells(None, nothing).await, NOTHING);
    let charge = tokens(3, 4).with_credits(millionths(5));
    assert_eq!(calls.recording_tells("r1", charge).await, NOTHING);
}

/// The only unit is all of them.
pub async fn a_limit_of_one_tells_both_with_its_one(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_global(requests_per_day(1))).await;
    let said = calls.tells(None, Charge::request()).await;
    assert_eq!(said, ["80 % of global/day/requests", "100 % of global/day/requests"]);
}

/// Where a float would be off by some.
pub async fn the_largest_limit_tells_to_the_unit(store: impl StoreUnderTest) {
    let largest = limits(|l| l.tokens_per_day(MAX_COUNT));
    let budget = millionths(MAX_COUNT);
    let calls = Calls::of(&store, named("ci").with_global(largest).with_budget(budget)).await;
    let charge = |amount| tokens(amount, 0).with_credits(millionths(amount));
    // 4/5 of 2^53 − 1 are 7,205,759,403,792,792.8.
    let share = 7_205_759_403_792_793;
    assert_eq!(calls.tells(None, charge(share - 1)).await, NOTHING);
    let said = calls.tells(None, charge(1)).await;
    assert_eq!(said, ["80 % of global/day/tokens", "80 % of the budget"]);
    assert_eq!(calls.tells(None, charge(MAX_COUNT - share - 1)).await, NOTHING);
    let said = calls.tells(None, charge(1)).await;
    assert_eq!(said, ["100 % of global/day/tokens", "100 % of the budget"]);
}

/// What does not fit reaches nothing, and leaves it to the call that does.
pub async fn a_denied_call_reaches_nothing(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    assert!(!calls.world.check(&calls.key, None, tokens(0, 101)).await.is_allowed());
    assert_eq!(calls.tells(None, tokens(0, 79)).await, NOTHING);
    assert!(!calls.world.check(&calls.key, None, tokens(0, 22)).await.is_allowed());
    assert_eq!(calls.tells(None, tokens(0, 1)).await, ["80 % of global/minute/tokens"]);
}

/// As often as it is asked; and the call then tells all the same.
pub async fn a_peek_tells_what_the_call_would(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    let charge = tokens(0, 80);
    for _ in 0..2 {
        let peeked = calls.world.peek(&calls.key, None, charge).await;
        assert_eq!(told(&peeked), ["80 % of global/minute/tokens"]);
    }
    assert_eq!(calls.tells(None, charge).await, ["80 % of global/minute/tokens"]);
    assert_eq!(told(&calls.world.peek(&calls.key, None, tokens(0, 1)).await), NOTHING);
}

/// They count together with calls by key, and each share is told to one of them.
pub async fn a_call_through_a_handle_tells(store: impl StoreUnderTest) {
    let config = named("ci").with_asset(asset("m1"), requests_per_minute(5));
    let calls = Calls::of(&store, config).await;
    let handle = calls.world.engine.handle(&calls.key, Some(&asset("m1"))).await;
    let handle = handle.expect("the store answers").expect("the key is known");
    calls.world.admit(&calls.key, "m1", 3).await;
    let decision = handle.check_and_consume(&Charge::request()).await.expect("the store answers");
    assert_eq!(told(&decision), ["80 % of m1/minute/requests"]);
    let peeked = handle.peek(&Charge::request()).await.expect("the store answers");
    assert_eq!(told(&peeked), ["100 % of m1/minute/requests"]);
    assert_eq!(calls.tells("m1", Charge::request()).await, ["100 % of m1/minute/requests"]);
}

/// By the estimate, by what it is extended to, and by what it did cost.
pub async fn a_reserved_call_tells_at_each_of_its_steps(store: impl StoreUnderTest) {
    let all = limits(|l| l.requests_per_minute(1).tokens_per_minute(100).tokens_per_day(200));
    let calls = Calls::of(&store, named("ci").with_global(all)).await;
    let reserved = calls.try_reserve("r1", None, tokens(0, 50), MINUTE).await.expect("it is new");
    assert_eq!(
        told(&reserved),
        ["80 % of global/minute/requests", "100 % of global/minute/requests"]
    );
    let extended = calls.extend("r1", output(90)).await.expect("the reservation is known");
    assert_eq!(told(&extended), ["80 % of global/minute/tokens"]);
    assert_eq!(
        calls.settling_tells("r1", output(160)).await,
        ["100 % of global/minute/tokens", "80 % of global/day/tokens"]
    );
}

/// The minute that admitted the call has closed: what exceeds the estimate is the first charge of the minute open now.
pub async fn an_overrun_tells_of_the_minute_open_then(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 90)).await;
    calls.world.advance(MINUTE);
    let crossed = calls.settle("r1", output(170)).await.expect("the reservation is known").crossed;
    assert_eq!(in_words(&crossed), ["80 % of global/minute/tokens"]);
    assert_eq!((crossed[0].used, crossed[0].resets_at), (80, Some(NEXT_MINUTE.after(MINUTE))));
}

/// Also past the limit and the budget, and with all that is used by then.
pub async fn what_was_allowed_elsewhere_tells(store: impl StoreUnderTest) {
    let config = named("ci").with_global(generous()).with_budget(millionths(10));
    let calls = Calls::of(&store, config).await;
    let charge = tokens(0, 250).with_credits(millionths(9));
    let crossed = calls.record("r1", None, charge).await.expect("it is never refused");
    assert_eq!(
        in_words(&crossed),
        ["80 % of global/minute/tokens", "100 % of global/minute/tokens", "80 % of the budget"]
    );
    assert_eq!(crossed.iter().map(|it| it.used).collect::<Vec<_>>(), [250, 250, 9]);
}
