//! Numbers, texts and dates at the edges of what may be.

use chrono::{DateTime, Utc};
use limiter_core::{
    AccessKey, AssetId, Charge, Credits, DenialReason, InvalidValue, KeyConfig, KeyId, KeyName,
    KeysError, Limits, MAX_COUNT, NewKey, Thresholds, Timestamp, WorkspaceId,
};

use super::StoreUnderTest;
use super::world::{
    DAY, NEXT_MINUTE, NOON, World, assert_refused, asset, limits, named, requests_per_day, tokens,
};

/// A limit of 0 allows nothing, for ever.
pub async fn a_limit_of_zero_allows_nothing(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    for (number, zero) in [
        limits(|l| l.requests_per_minute(0)),
        limits(|l| l.requests_per_day(0)),
        limits(|l| l.tokens_per_minute(0)),
        limits(|l| l.tokens_per_day(0)),
    ]
    .into_iter()
    .enumerate()
    {
        let key = world.member(named(&format!("key {number}")).with_global(zero)).await;
        let denied = world.check(&key, None, Charge::request()).await;
        assert_eq!(denied.denied().and_then(|denied| denied.retry_at()), None, "{zero}");
        assert!(denied.denied().is_some(), "{zero}");
    }
}

/// A limit of 1 allows one.
pub async fn a_limit_of_one_allows_one(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_day(1))).await;
    world.admit(&key, None, 1).await;
    let denied = world.check(&key, None, Charge::request()).await;
    assert!(denied.denied().is_some());
}

/// The largest limit is reached exactly, by the largest charge.
pub async fn the_largest_limit_is_reached_exactly(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let largest = limits(|l| l.requests_per_day(MAX_COUNT).tokens_per_day(MAX_COUNT));
    let key = world.member(named("ci").with_global(largest)).await;
    let charge = tokens(MAX_COUNT - 1, 0).with_requests(MAX_COUNT - 1).expect("within bounds");
    assert!(world.check(&key, None, charge).await.is_allowed());
    let last = world.check(&key, None, tokens(1, 0)).await;
    assert_eq!(last.rules().map(|rule| rule.used).collect::<Vec<_>>(), [MAX_COUNT, MAX_COUNT]);
    assert!(!world.check(&key, None, tokens(1, 0)).await.is_allowed());
}

/// The largest budget is spent exactly.
pub async fn the_largest_budget_is_spent_exactly(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_budget(Credits::MAX)).await;
    let all = Charge::request().with_credits(Credits::MAX);
    assert!(world.check(&key, None, all).await.is_allowed());
    let denied = world.check(&key, None, Charge::request()).await;
    assert!(matches!(
        denied.denied().map(|denied| denied.reason()),
        Some(DenialReason::BudgetExhausted { credits, .. }) if credits.spent == Credits::MAX
    ));
}

/// A count without a limit stays at the largest number, and the call is allowed.
pub async fn a_count_stays_at_the_largest_number(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_global(requests_per_day(9))).await;
    for _ in 0..3 {
        let all = tokens(0, MAX_COUNT).with_credits(Credits::MAX);
        assert!(world.check(&key, None, all).await.is_allowed());
    }
    let usage = world.usage(&key).await;
    assert_eq!(usage.global.map(|global| global.day.tokens.used), Some(MAX_COUNT));
    assert_eq!(usage.credits.spent, Credits::MAX);
}

/// Just above the largest number nothing exists that a store could be given.
pub async fn just_above_the_largest_number_is_refused(_: impl StoreUnderTest) {
    let above = MAX_COUNT + 1;
    for refused in [
        Limits::builder().requests_per_minute(above).build().map(drop),
        Limits::builder().requests_per_day(above).build().map(drop),
        Limits::builder().tokens_per_minute(above).build().map(drop),
        Limits::builder().tokens_per_day(above).build().map(drop),
        Credits::from_millionths(above).map(drop),
        Charge::request().with_requests(above).map(drop),
        Charge::request().with_tokens(above, 0).map(drop),
        Charge::request().with_tokens(MAX_COUNT, 1).map(drop),
        Charge::request().with_tokens(u64::MAX, u64::MAX).map(drop),
    ] {
        assert_refused!(refused, InvalidValue::TooLarge { .. });
    }
}

/// Ids and names are never empty, and never longer than they may be.
pub async fn empty_and_overlong_texts_are_refused(_: impl StoreUnderTest) {
    let overlong = |max: usize| "é".repeat(max / 2) + "x";
    for refused in [
        KeyId::new("").map(drop),
        KeyId::new(overlong(KeyId::MAX_BYTES)).map(drop),
        AssetId::new("").map(drop),
        AssetId::new(overlong(AssetId::MAX_BYTES)).map(drop),
        KeyName::new("").map(drop),
        KeyName::new(overlong(KeyName::MAX_BYTES)).map(drop),
        WorkspaceId::new("").map(drop),
        WorkspaceId::new(overlong(WorkspaceId::MAX_BYTES)).map(drop),
    ] {
        assert_refused!(refused, InvalidValue::Length { .. });
    }
    assert_refused!(AccessKey::new("fifteen-letters"), InvalidValue::AccessKey { .. });
}

/// Names may have text of any script: right to left, composed, and of the greatest length.
pub async fn odd_names_are_names(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let longest = "n".repeat(256);
    for name in ["🦀🦀", "👩‍👩‍👧‍👦", "مفتاح", "e\u{301}", " ", "a:b/c{d}", "\"'\\", &longest]
    {
        let key = world.member(named(name)).await;
        assert_eq!(world.record(&key).await.name.as_str(), name);
    }
}

/// An asset is any text, and each has its own counts.
pub async fn odd_assets_are_assets(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let longest = "a".repeat(256);
    let odd = [
        "global",
        "asset",
        "a/b",
        "a",
        "b",
        "{x}",
        "x",
        "nul\0",
        "nul",
        "\0",
        "a:b",
        "*",
        "🦀",
        "مفتاح",
        " ",
        "0",
        &longest,
    ];
    let mut config = named("ci").with_global(requests_per_day(1_000));
    for id in odd {
        config = config.with_asset(asset(id), requests_per_day(odd.len() as u64));
    }
    let key = world.member(config).await;
    for (calls, id) in (1_u32..).zip(odd) {
        world.admit(&key, id, calls).await;
    }
    let usage = world.usage(&key).await;
    for (calls, id) in (1_u32..).zip(odd) {
        let row = usage.assets.iter().find(|row| row.asset.as_str() == id).expect("it has limits");
        assert_eq!(row.usage.day.requests.used, u64::from(calls), "{id:?}");
    }
    assert!(usage.assets.is_sorted_by_key(|row| row.asset.as_str().as_bytes()));
}

/// A key may be created expired; it is denied, says since when, and can be prolonged.
pub async fn an_expiry_may_lie_in_the_past(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    for (number, past) in [NOON, Timestamp::START_OF_1970].into_iter().enumerate() {
        let key = world.member(named(&format!("key {number}")).with_expiry(past)).await;
        let denied = world.check(&key, None, Charge::request()).await;
        let reason = denied.denied().map(|denied| denied.reason());
        assert_eq!(reason, Some(&DenialReason::KeyExpired { expired_at: past }));
        assert_eq!(world.record(&key).await.expires_at, Some(past));
        world.update(&key, |config| config.expires_at = None).await.expect("it is prolonged");
        world.admit(&key, None, 1).await;
    }
}

/// A key is expired from the very instant on.
pub async fn a_key_expires_to_the_millisecond(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_expiry(NEXT_MINUTE)).await;
    world.clock.set(Timestamp::from_unix_ms(NEXT_MINUTE.unix_ms() - 1));
    world.admit(&key, None, 1).await;
    world.clock.set(NEXT_MINUTE);
    assert!(!world.check(&key, None, Charge::request()).await.is_allowed());
}

/// The last instant of the year 9999 is a valid expiry. An instant outside four-digit years is refused, and nothing is
/// stored.
pub async fn an_expiry_that_cannot_be_shown_is_refused(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("last").with_expiry(Timestamp::END_OF_9999)).await;
    world.admit(&key, None, 1).await;
    let before = world.record(&key).await;
    let next = Timestamp::from_unix_ms(Timestamp::END_OF_9999.unix_ms() + 1);
    for outside in [
        DateTime::<Utc>::MIN_UTC.into(),
        Timestamp::from_unix_ms(-1),
        next,
        DateTime::<Utc>::MAX_UTC.into(),
        Timestamp::MAX,
    ] {
        let config = named("outside").with_expiry(outside);
        let created = world.keys().create(NewKey::member(config)).await;
        assert_refused!(created, KeysError::Invalid(InvalidValue::Instant { .. }));
        let updated = world.update(&key, |config| config.expires_at = Some(outside)).await;
        assert_refused!(updated, KeysError::Invalid(InvalidValue::Instant { .. }));
    }
    assert_eq!(world.record(&key).await, before);
    world.member(named("outside")).await;
}

/// In the last day that can be told, and on the first, limits count and reset as on any other.
pub async fn limits_hold_on_the_first_and_the_last_day(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let last = Timestamp::from(DateTime::<Utc>::MAX_UTC);
    for (number, now) in [Timestamp::from_unix_ms(0), last, Timestamp::MAX].into_iter().enumerate()
    {
        world.clock.set(now);
        let key =
            world.member(named(&format!("key {number}")).with_global(requests_per_day(2))).await;
        world.admit(&key, None, 2).await;
        let denied = world.check(&key, None, Charge::request()).await;
        let retry_at = denied.denied().and_then(|denied| denied.retry_at()).expect("a day ends");
        assert!(retry_at > now && retry_at.since(now) <= DAY, "{retry_at} after {now}");
    }
}

/// As many assets as a key may have limits for, and one more.
pub async fn a_key_has_limits_for_a_bounded_number_of_assets(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let most = with_assets(KeyConfig::MAX_ASSETS);
    let too_many = with_assets(KeyConfig::MAX_ASSETS + 1);
    let refused = world.keys().create(NewKey::member(too_many.clone())).await;
    assert_refused!(
        refused,
        KeysError::Invalid(InvalidValue::TooManyAssets { count: 1_025, max: 1_024 })
    );
    let key = world.member(most.clone()).await;
    let updated = world.update(&key, |config| *config = too_many).await;
    assert_refused!(updated, KeysError::Invalid(InvalidValue::TooManyAssets { .. }));
    assert_eq!(world.record(&key).await.config(), most);
}

/// An admin may exchange all of them in every window, for as long as it likes.
pub async fn all_assets_of_a_key_may_be_exchanged_again_and_again(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(with_assets(KeyConfig::MAX_ASSETS)).await;
    for round in 0..8 {
        let other = (0..KeyConfig::MAX_ASSETS).map(|number| {
            (
                asset(&format!("{round}/{number}")),
                limits(|l| l.requests_per_minute(1).tokens_per_day(9)),
            )
        });
        let exchanged = world.update(&key, |config| config.assets = other.collect()).await;
        exchanged.unwrap_or_else(|error| panic!("round {round}: {error}"));
        world.advance(super::world::MINUTE);
    }
}

/// What has no limits is not remembered, however many names are made up.
pub async fn a_flood_of_made_up_assets_leaves_no_trace(store: impl StoreUnderTest) {
    let world = World::at_noon(&store).await;
    let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(5))).await;
    let before = (world.usage(&key).await, world.record(&key).await);
    for number in 0..10_000 {
        world.admit(&key, format!("made up {number}").as_str(), 1).await;
    }
    assert_eq!((world.usage(&key).await, world.record(&key).await), before);
}

fn with_assets(count: usize) -> KeyConfig {
    let assets = (0..count).map(|number| (asset(&format!("m{number:04}")), requests_per_day(1)));
    let config = named("many").with_thresholds(Thresholds::NONE);
    KeyConfig { assets: assets.collect(), ..config }
}
