//! Which thresholds a key has, and what happens to those that were told when they change, or what they are a share of.

use limiter_core::{Charge, Limits, Store, Thresholds};

use super::StoreUnderTest;
use super::reserved_calls::{Calls, generous, millionths, output};
use super::told::{NOTHING, told};
use super::world::{DAY, MINUTE, World, limits, named, requests_per_day, tokens};

/// Those of the limiter are for keys that have none of their own.
pub async fn the_thresholds_of_a_key_replace_those_of_the_limiter(store: impl StoreUnderTest) {
    let calls = of_limiter(&store, percents([25])).await;
    for _ in 0..2 {
        assert_eq!(calls.tells(None, tokens(0, 12)).await, NOTHING);
    }
    assert_eq!(calls.tells(None, tokens(0, 1)).await, ["25 % of global/minute/tokens"]);
    let config = named("own").with_global(hundred_tokens()).with_thresholds(percents([50]));
    let own = calls.world.member(config).await;
    let decision = calls.world.check(&own, None, tokens(0, 100)).await;
    assert_eq!(told(&decision), ["50 % of global/minute/tokens"]);
}

/// As many as there may be, each with the call that reaches it.
pub async fn each_of_four_thresholds_is_told(store: impl StoreUnderTest) {
    let config = named("ci").with_global(hundred_tokens());
    let config = config.with_thresholds(percents([100, 1, 75, 50]));
    let calls = Calls::of(&store, config).await;
    let mut said = Vec::new();
    for tokens in [1, 48, 1, 25, 24, 1].map(|amount| tokens(0, amount)) {
        said.push(calls.tells(None, tokens).await.len());
    }
    assert_eq!(said, [1, 0, 1, 1, 0, 1]);
    calls.world.advance(MINUTE);
    let said = calls.tells(None, tokens(0, 100)).await;
    assert_eq!(said, [1, 50, 75, 100].map(|it| format!("{it} % of global/minute/tokens")));
}

/// Nothing is told of the limits, and nothing of the budget.
pub async fn a_key_without_thresholds_tells_nothing(store: impl StoreUnderTest) {
    let config = named("ci").with_global(generous()).with_budget(millionths(1));
    let calls = Calls::of(&store, config.with_thresholds(Thresholds::NONE)).await;
    let all = tokens(0, 100).with_credits(millionths(1));
    assert_eq!(calls.tells(None, all).await, NOTHING);
    assert_eq!(calls.recording_tells("r1", all).await, NOTHING);
}

/// Those it was given, or else those that the limiter had then.
pub async fn a_key_shows_the_thresholds_that_it_has(store: impl StoreUnderTest) {
    let calls = of_limiter(&store, percents([25])).await;
    let record = calls.world.record(&calls.key).await;
    assert_eq!(record.thresholds, percents([25]));
    assert_eq!(record.config().thresholds, Some(percents([25])));
    for (set, has) in [
        (Some(percents([50])), percents([50])),
        (Some(Thresholds::NONE), Thresholds::NONE),
        (None, percents([25])),
    ] {
        let updated = calls.world.update(&calls.key, |config| config.thresholds = set).await;
        let updated = updated.expect("an update");
        assert_eq!(updated.thresholds, has);
        assert_eq!(calls.world.record(&calls.key).await, updated);
    }
}

/// Unlike limits, they do not wait for the next window.
pub async fn other_thresholds_hold_at_once(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    assert_eq!(calls.tells(None, tokens(0, 49)).await, NOTHING);
    set(&calls, percents([50, 90])).await;
    assert_eq!(calls.tells(None, tokens(0, 1)).await, ["50 % of global/minute/tokens"]);
    assert_eq!(calls.tells(None, tokens(0, 39)).await, NOTHING);
    assert_eq!(calls.tells(None, tokens(0, 1)).await, ["90 % of global/minute/tokens"]);
}

/// They would be told of what happened before there was anybody to be told.
pub async fn a_threshold_that_was_passed_before_it_was_set_is_not_told(store: impl StoreUnderTest) {
    let config = named("ci").with_global(generous()).with_budget(millionths(100));
    let calls = Calls::of(&store, config).await;
    let charge = |amount| tokens(0, amount).with_credits(millionths(amount));
    assert_eq!(calls.tells(None, charge(60)).await, NOTHING);
    set(&calls, percents([50, 60, 70])).await;
    assert_eq!(calls.tells(None, charge(9)).await, NOTHING);
    assert_eq!(
        calls.tells(None, charge(1)).await,
        ["70 % of global/minute/tokens", "70 % of the budget"]
    );
    calls.world.advance(MINUTE);
    assert_eq!(
        calls.tells(None, tokens(0, 60)).await,
        ["50 % of global/minute/tokens", "60 % of global/minute/tokens"],
        "it is another minute"
    );
}

/// Who knows of 80 % knows of 50 %, however much was given back in between.
pub async fn a_threshold_below_one_that_was_told_is_not_told(store: impl StoreUnderTest) {
    let config = named("ci").with_global(generous()).with_budget(millionths(100));
    let calls = Calls::of(&store, config).await;
    calls.reserve("r1", tokens(0, 80).with_credits(millionths(80))).await;
    let nothing = output(0).with_credits(millionths(0));
    assert_eq!(calls.settling_tells("r1", nothing).await, NOTHING);
    set(&calls, percents([50, 80, 90])).await;
    let charge = |amount| tokens(0, amount).with_credits(millionths(amount));
    assert_eq!(calls.tells(None, charge(89)).await, NOTHING);
    assert_eq!(
        calls.tells(None, charge(1)).await,
        ["90 % of global/minute/tokens", "90 % of the budget"]
    );
}

/// Who takes a threshold away and sets it again sets another one: it is told, unless it is passed by then.
pub async fn a_threshold_that_comes_back_is_another_one(store: impl StoreUnderTest) {
    let (once, twice) = (&NOTHING[..], &["80 % of global/minute/tokens"][..]);
    for (settled, expected) in [(80, once), (79, twice)] {
        let calls = of_limiter(&store, Thresholds::default()).await;
        calls.reserve("r1", tokens(0, 80)).await;
        assert_eq!(calls.settling_tells("r1", output(settled)).await, NOTHING);
        set(&calls, Thresholds::NONE).await;
        set(&calls, Thresholds::default()).await;
        assert_eq!(calls.tells(None, tokens(0, 1)).await, expected);
    }
}

/// With what was configured, or only a name that changes.
pub async fn a_key_that_is_saved_again_tells_nothing_again(store: impl StoreUnderTest) {
    let config = named("ci").with_global(generous()).with_budget(millionths(100));
    let calls = Calls::of(&store, config).await;
    calls.reserve("r1", tokens(0, 80).with_credits(millionths(80))).await;
    let nothing = output(0).with_credits(millionths(0));
    assert_eq!(calls.settling_tells("r1", nothing).await, NOTHING);
    for name in ["ci", "renamed"] {
        let saved = calls.world.update(&calls.key, |config| config.name = named(name).name).await;
        assert!(saved.is_ok());
    }
    let charge = tokens(0, 80).with_credits(millionths(80));
    assert_eq!(calls.tells(None, charge).await, NOTHING);
}

/// More or less of it, also where the share was told of the budget before.
pub async fn another_budget_is_told_of_anew(store: impl StoreUnderTest) {
    let calls = of_budget(&store, 10).await;
    assert_eq!(calls.tells(None, spend(9)).await, ["80 % of the budget"]);
    change_budget(&calls, Some(20)).await;
    assert_eq!(calls.tells(None, spend(6)).await, NOTHING);
    assert_eq!(calls.tells(None, spend(1)).await, ["80 % of the budget"]);
    change_budget(&calls, None).await;
    assert_eq!(calls.tells(None, spend(83)).await, NOTHING);
    change_budget(&calls, Some(125)).await;
    assert_eq!(calls.tells(None, spend(1)).await, ["80 % of the budget"]);
}

/// What it has passed when it is set, whoever sets it can see.
pub async fn what_is_spent_already_tells_nothing_of_another_budget(store: impl StoreUnderTest) {
    let calls = of_budget(&store, 100).await;
    assert_eq!(calls.tells(None, spend(17)).await, NOTHING);
    change_budget(&calls, Some(20)).await;
    assert_eq!(calls.tells(None, spend(2)).await, NOTHING);
    assert_eq!(calls.tells(None, spend(1)).await, ["100 % of the budget"]);
    change_budget(&calls, Some(15)).await;
    let said = calls.recording_tells("r1", spend(5)).await;
    assert_eq!(said, NOTHING, "the whole of it was spent before");
}

/// From the window on in which it is in force; in the one before, shares are those of the old one.
pub async fn another_limit_is_told_of_from_its_window_on(store: impl StoreUnderTest) {
    let per_minute = |limit| limits(|l| l.tokens_per_minute(limit));
    let calls = Calls::of(&store, named("ci").with_global(per_minute(100))).await;
    let raised = calls.world.update(&calls.key, |config| config.global = per_minute(1_000)).await;
    assert!(raised.is_ok());
    assert_eq!(calls.tells(None, tokens(0, 80)).await, ["80 % of global/minute/tokens"]);
    calls.world.advance(MINUTE);
    assert_eq!(calls.tells(None, tokens(0, 799)).await, NOTHING);
    assert_eq!(calls.tells(None, tokens(0, 1)).await, ["80 % of global/minute/tokens"]);
}

/// A limit that is lowered for the next day tells nothing of today.
pub async fn a_change_of_limits_tells_nothing_by_itself(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_global(requests_per_day(100))).await;
    calls.world.admit(&calls.key, None, 9).await;
    let lowered = calls.world.update(&calls.key, |config| config.global = requests_per_day(10));
    assert!(lowered.await.is_ok());
    assert_eq!(calls.tells(None, Charge::request()).await, NOTHING);
    calls.world.advance(DAY);
    calls.world.admit(&calls.key, None, 7).await;
    assert_eq!(calls.tells(None, Charge::request()).await, ["80 % of global/day/requests"]);
}

/// A key with [`hundred_tokens`], of a limiter that has these thresholds.
async fn of_limiter<S: Store>(
    store: &impl StoreUnderTest<Store = S>,
    thresholds: Thresholds,
) -> Calls<S> {
    let world = World::at_noon(store).await;
    let world = World { engine: world.engine.with_thresholds(thresholds), ..world };
    let key = world.member(named("ci").with_global(hundred_tokens())).await;
    Calls { world, key }
}

/// A key with this budget, in millionths, and no limits.
async fn of_budget<S: Store>(store: &impl StoreUnderTest<Store = S>, budget: u64) -> Calls<S> {
    Calls::of(store, named("ci").with_budget(millionths(budget))).await
}

async fn set<S: Store>(calls: &Calls<S>, thresholds: Thresholds) {
    let updated = calls.world.update(&calls.key, |config| config.thresholds = Some(thresholds));
    updated.await.expect("an update");
}

async fn change_budget<S: Store>(calls: &Calls<S>, budget: Option<u64>) {
    let budget = budget.map(millionths);
    let updated = calls.world.update(&calls.key, |config| config.budget = budget).await;
    updated.expect("an update");
}

/// A minute.
fn hundred_tokens() -> Limits {
    limits(|l| l.tokens_per_minute(100))
}

fn spend(amount: u64) -> Charge {
    Charge::request().with_credits(millionths(amount))
}

fn percents<const COUNT: usize>(percents: [u8; COUNT]) -> Thresholds {
    Thresholds::new(percents).expect("at most four, from 1 to 100")
}
