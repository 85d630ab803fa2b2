//! Reading a key shows what is configured, what is in force, and what comes when.

use limiter_core::{
    Credits, Limits, Scope, ScopeLimits, Store, Thresholds, Timestamp, TokenType, Window,
    WindowLimits,
};

use super::StoreUnderTest;
use super::world::{
    DAY, MIDNIGHT, MINUTE, NEXT_MINUTE, NOON, World, asset, limits, named, requests_per_day,
    requests_per_minute, tokens,
};

/// The limits of a new key do not wait.
pub async fn a_new_keys_limits_are_in_force_at_once(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(old())).await;
    let global = world.record(&key).await.global;
    assert_eq!(global.configured, old());
    assert_eq!(in_force(&global), [old().of(Window::Minute), old().of(Window::Day)]);
    assert_eq!((global.minute.pending, global.day.pending), (None, None));
}

/// The minute part comes with the next minute, the day part with the next day.
pub async fn a_change_is_pending_until_the_next_window_of_each_kind(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(old())).await;
    let updated = world.update(&key, |config| config.global = new()).await.expect("an update");
    assert_eq!(world.record(&key).await, updated);
    let global = updated.global;
    assert_eq!(global.configured, new());
    assert_eq!(in_force(&global), [old().of(Window::Minute), old().of(Window::Day)]);
    let minute = global.minute.pending.expect("the minute part is pending");
    assert_eq!((minute.limits, minute.effective_at), (new().of(Window::Minute), NEXT_MINUTE));
    let day = global.day.pending.expect("the day part is pending");
    assert_eq!((day.limits, day.effective_at), (new().of(Window::Day), MIDNIGHT));
}

/// To the millisecond.
pub async fn a_change_comes_into_force_when_it_was_said_to(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(old())).await;
    world.update(&key, |config| config.global = new()).await.expect("an update");
    let [old_minute, old_day] = [old().of(Window::Minute), old().of(Window::Day)];
    let [new_minute, new_day] = [new().of(Window::Minute), new().of(Window::Day)];
    for (instant, expected) in [
        (just_before(NEXT_MINUTE), [old_minute, old_day]),
        (NEXT_MINUTE, [new_minute, old_day]),
        (just_before(MIDNIGHT), [new_minute, old_day]),
        (MIDNIGHT, [new_minute, new_day]),
    ] {
        world.clock.set(instant);
        assert_eq!(in_force(&world.record(&key).await.global), expected, "at {instant}");
    }
    assert_eq!(world.record(&key).await.global.day.pending, None);
}

/// What is in force is what calls meet.
pub async fn calls_meet_what_is_in_force(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(old())).await;
    world.update(&key, |config| config.global = new()).await.expect("an update");
    for instant in [NOON, NEXT_MINUTE, MIDNIGHT] {
        world.clock.set(instant);
        let met: Vec<_> =
            world.peek(&key, None, tokens(0, 0)).await.rules().map(|rule| rule.limit).collect();
        let [minute, day] = in_force(&world.record(&key).await.global);
        let expected: Vec<_> =
            [minute, day].iter().flat_map(|l| [l.requests(), l.tokens()]).flatten().collect();
        assert_eq!(met, expected, "at {instant}");
    }
}

/// A second change replaces the pending one.
pub async fn the_last_of_several_changes_counts(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_minute(1))).await;
    for limit in [5, 7, 3] {
        world
            .update(&key, |config| config.global = requests_per_minute(limit))
            .await
            .expect("an update");
    }
    world.advance(MINUTE);
    assert_eq!(in_force(&world.record(&key).await.global)[0].requests(), Some(3));
}

/// A change back leaves no trace but its versions.
pub async fn a_change_back_drops_what_was_pending(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(old())).await;
    let mut before = world.record(&key).await;
    world.update(&key, |config| config.global = new()).await.expect("an update");
    let back = world.update(&key, |config| config.global = old()).await.expect("an update");
    before.version = 3;
    assert_eq!(back, before);
}

/// Limits that a living key never had begin with the next window, too.
pub async fn a_first_limit_of_a_living_key_waits(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    let added = [(asset("m1"), requests_per_minute(1))];
    world.update(&key, |config| config.assets = added.into()).await.expect("an update");
    world.admit(&key, "m1", 5).await;
    let m1 = world.record(&key).await.assets[&asset("m1")];
    assert_eq!(in_force(&m1), [WindowLimits::NONE, WindowLimits::NONE]);
    assert_eq!(m1.minute.pending.map(|pending| pending.effective_at), Some(NEXT_MINUTE));
    assert_eq!(m1.day.pending, None);
    world.advance(MINUTE);
    world.admit(&key, "m1", 1).await;
    assert!(!world.check(&key, "m1", tokens(0, 0)).await.is_allowed());
}

/// Limits that are cleared stay in force to the end of their window, and then are gone.
pub async fn a_removed_asset_is_limited_to_the_end_of_its_window(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(1))).await;
    world.admit(&key, "m1", 1).await;
    world.update(&key, |config| config.assets.clear()).await.expect("an update");
    assert!(!world.check(&key, "m1", tokens(0, 0)).await.is_allowed());
    let m1 = world.record(&key).await.assets[&asset("m1")];
    assert!(m1.configured.is_none());
    let pending = m1.day.pending.expect("the end is pending");
    assert_eq!((pending.limits, pending.effective_at), (WindowLimits::NONE, MIDNIGHT));
    world.clock.set(MIDNIGHT);
    assert!(world.record(&key).await.assets.is_empty());
    world.admit(&key, "m1", 9).await;
}

/// What is configured reads the same as it was saved, whatever is in force.
pub async fn the_configuration_reads_as_it_was_saved(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(old()).with_asset(asset("m1"), new())).await;
    let saved = named("renamed")
        .with_global(new())
        .with_asset(asset("m2"), old())
        .with_budget(Credits::MAX)
        .with_expiry(NOON.after(7 * DAY))
        .with_thresholds(Thresholds::NONE)
        .with_shadow(true);
    world.update(&key, |config| *config = saved.clone()).await.expect("an update");
    for instant in [NOON, NEXT_MINUTE, MIDNIGHT, MIDNIGHT.after(DAY)] {
        world.clock.set(instant);
        assert_eq!(world.record(&key).await.config(), saved, "at {instant}");
    }
}

/// Budget and expiry take effect at once, in both directions.
pub async fn budget_and_expiry_do_not_wait(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci")).await;
    let allowed = async || world.check(&key, None, tokens(0, 0)).await.is_allowed();
    world.update(&key, |config| config.budget = Some(Credits::ZERO)).await.expect("an update");
    assert!(!allowed().await);
    world.update(&key, |config| config.budget = None).await.expect("an update");
    assert!(allowed().await);
    world.update(&key, |config| config.expires_at = Some(NOON)).await.expect("an update");
    assert!(!allowed().await);
    world.update(&key, |config| config.expires_at = None).await.expect("an update");
    assert!(allowed().await);
}

/// A token type is part of the limits: it changes with the next window, and counts of this one stay as they are.
pub async fn a_token_type_changes_with_the_next_window(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let of_type = |kind| limits(|l| l.tokens_per_minute(100).token_type(kind));
    let key = world.member(named("ci").with_global(of_type(TokenType::Output))).await;
    world
        .update(&key, |config| config.global = of_type(TokenType::Input))
        .await
        .expect("an update");
    for (token_type, used) in [(TokenType::Output, 7), (TokenType::Input, 5)] {
        let decision = world.check(&key, None, tokens(5, 7)).await;
        let rule = decision.rules().next().expect("one rule is met");
        assert_eq!((rule.token_type, rule.used), (token_type, used));
        world.advance(MINUTE);
    }
}

/// Each rule of a decision tells when it resets.
pub async fn a_rule_tells_when_it_resets(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(old())).await;
    let decision = world.peek(&key, None, tokens(0, 0)).await;
    for rule in decision.rules() {
        let expected = if rule.rule.window == Window::Minute { NEXT_MINUTE } else { MIDNIGHT };
        assert_eq!((rule.rule.scope, rule.resets_at), (Scope::Global, expected));
    }
    assert_resets(&world, &key).await;
}

/// So does each window of the usage.
async fn assert_resets<S: Store>(world: &World<S>, key: &limiter_core::KeyId) {
    let global = world.usage(key).await.global.expect("the key has global limits");
    assert_eq!((global.minute.resets_at, global.day.resets_at), (NEXT_MINUTE, MIDNIGHT));
}

fn in_force(scope: &ScopeLimits) -> [WindowLimits; 2] {
    [scope.minute.limits, scope.day.limits]
}

fn just_before(instant: Timestamp) -> Timestamp {
    Timestamp::from_unix_ms(instant.unix_ms() - 1)
}

fn old() -> Limits {
    limits(|l| {
        l.requests_per_minute(10)
            .requests_per_day(100)
            .tokens_per_minute(1_000)
            .tokens_per_day(10_000)
    })
}

fn new() -> Limits {
    limits(|l| {
        l.requests_per_minute(20)
            .tokens_per_minute(1_000)
            .tokens_per_day(9_000)
            .token_type(TokenType::Output)
    })
}
