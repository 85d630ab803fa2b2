//! Numbers, texts and dates at their bounds.

use chrono::{DateTime, Utc};
use limiter_core::{
    AccessKey, AssetId, Charge, Credits, DenialReason, InvalidValue, KeyConfig, KeyId, KeyName,
    KeysError, Limits, MAX_COUNT, NewKey, ScopeId, Thresholds, Timestamp, WorkspaceId,
};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_limit_of_zero_allows_nothing", |world| {
        let by_day = limits(|it| it.tokens_per_day(0));
        let limits = [requests_per_minute(0), requests_per_day(0), tokens_per_minute(0), by_day];
        for zero in limits {
            let denied = world
                .member(named(&zero.to_string()).with_global(zero.clone()))
                .check(None, requests(1));
            assert_eq!(denied.denied().expect("it never fits").retry_at(), None, "{zero}");
        }
    });

    suite.story("the_largest_limits_and_the_largest_budget_are_reached_exactly", |world| {
        let largest = limits(|it| it.requests_per_day(MAX_COUNT).tokens_per_day(MAX_COUNT));
        let key = world.member(named("ci").with_global(largest).with_budget(Credits::MAX));
        let charge = tokens(MAX_COUNT - 1, 0).with_requests(MAX_COUNT - 1).expect("within bounds");
        assert!(key.check(None, charge).is_allowed());
        let last = key.check(None, tokens(1, 0).with_credits(Credits::MAX));
        assert!(last.rules().map(|rule| rule.used).eq([MAX_COUNT; 3]));
        let denied = key.check(None, requests(1));
        let DenialReason::BudgetExhausted(exceeded) = reason(&denied) else { panic!("{denied:?}") };
        assert!(exceeded.violations().map(|violated| violated.used).eq([MAX_COUNT; 3]));
        key.update(|config| set_budget(config, None));
        key.denied(None, tokens(1, 0));
    });

    // Of what has no limit: the call is allowed.
    suite.story("a_count_stays_at_the_largest_number", |world| {
        let key = world.limited(requests_per_day(9));
        for _ in 0..3 {
            let all = tokens(0, MAX_COUNT).with_credits(Credits::MAX);
            assert!(key.check(None, all).is_allowed());
        }
        assert_eq!((key.used()[3], key.usage().credits.spent), (MAX_COUNT, Credits::MAX));
    });

    // No such value exists that a store could be given.
    suite.story("just_above_the_largest_number_is_refused", |_| {
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
    });

    suite.story("empty_and_overlong_texts_are_refused", |_| {
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
    });

    // Each has its own counts.
    suite.story("odd_assets_are_assets", |world| {
        let longest = "a".repeat(256);
        let odd = "global asset a/b a b {x} x nul\0 nul \0 a:b * 🦀 مفتاح 0".split(' ');
        let odd: Vec<_> = odd.chain([" ", &longest]).collect();
        let limit = requests_per_day(odd.len() as u64);
        let config = named("ci").with_global(requests_per_day(1_000));
        let config =
            odd.iter().fold(config, |config, id| config.with_asset(asset(id), limit.clone()));
        let key = world.member(config);
        for (calls, id) in (1..).zip(&odd) {
            key.admit(*id, calls);
        }
        let usage = key.usage();
        for (calls, id) in (1..).zip(&odd) {
            let row = usage.scope(&ScopeId::asset(asset(id))).expect("it is listed");
            assert_eq!(row.account.requests(), calls, "{id:?}");
        }
        assert!(usage.scopes.is_sorted_by_key(|row| row.scope.clone()));
    });

    // A key may be created expired; its denial says since when, and it can be prolonged.
    suite.story("an_expiry_may_lie_in_the_past", |world| {
        for past in [NOON, Timestamp::START_OF_1970] {
            let key = world.member(named(&past.to_string()).with_expiry(past));
            let denied = key.check(None, requests(1));
            assert_eq!(
                reason(&denied),
                &DenialReason::KeyExpired { expired_at: past, group: None }
            );
            assert_eq!(key.read().config.expires_at, Some(past));
            key.update(|config| config.expires_at = None);
            key.admit(None, 1);
        }
    });

    // The last instant of the year 9999 is a valid expiry. For one outside four-digit years, nothing is stored.
    suite.story("an_expiry_that_cannot_be_shown_is_refused", |world| {
        let key = world.member(named("last").with_expiry(Timestamp::END_OF_9999));
        let before = key.admit(None, 1).read();
        for outside in [
            DateTime::<Utc>::MIN_UTC.into(),
            Timestamp::from_unix_ms(-1),
            Timestamp::from_unix_ms(Timestamp::END_OF_9999.unix_ms() + 1),
            DateTime::<Utc>::MAX_UTC.into(),
            Timestamp::MAX,
        ] {
            let config = named("outside").with_expiry(outside);
            let created = world.try_create(NewKey::member(config));
            assert_refused!(created, KeysError::Invalid(InvalidValue::Instant { .. }));
            let updated = key.try_update(|config| config.expires_at = Some(outside));
            assert_refused!(updated, KeysError::Invalid(InvalidValue::Instant { .. }));
        }
        assert_eq!(key.read(), before);
        world.member(named("outside"));
    });

    suite.story("limits_hold_on_the_first_and_the_last_day", |world| {
        let last = Timestamp::from(DateTime::<Utc>::MAX_UTC);
        for (number, now) in [Timestamp::from_unix_ms(0), last, Timestamp::MAX].iter().enumerate() {
            world.set_clock(*now);
            let name = format!("key {number}");
            let key = world.member(named(&name).with_global(requests_per_day(2)));
            let denied = key.admit(None, 2).check(None, requests(1));
            let retry_at =
                denied.denied().and_then(|denied| denied.retry_at()).expect("a day ends");
            assert!(retry_at > *now && retry_at.since(*now) <= DAY, "{retry_at} after {now}");
        }
    });

    suite.story("a_key_has_limits_for_a_bounded_number_of_assets", |world| {
        let most = with_assets(KeyConfig::MAX_ASSETS);
        let too_many = with_assets(KeyConfig::MAX_ASSETS + 1);
        let refused = world.try_create(NewKey::member(too_many.clone()));
        assert_refused!(
            refused,
            KeysError::Invalid(InvalidValue::TooManyAssets { count: 1_025, max: 1_024 })
        );
        let key = world.member(most.clone());
        let updated = key.try_update(|config| *config = too_many);
        assert_refused!(updated, KeysError::Invalid(InvalidValue::TooManyAssets { .. }));
        assert_eq!(key.read().config.clone(), most);
    });

    // On every day, for as long as an admin likes.
    suite.story("all_assets_of_a_key_may_be_exchanged_again_and_again", |world| {
        let key = world.member(with_assets(KeyConfig::MAX_ASSETS));
        for round in 0..8 {
            let limits = limits(|it| it.requests_per_minute(1).tokens_per_day(9));
            let others = (0..KeyConfig::MAX_ASSETS).map(|it| asset(&format!("{round}/{it}")));
            key.update(|config| config.assets = others.map(|it| (it, limits.clone())).collect());
            world.advance(DAY);
        }
    });

    suite.story("a_flood_of_made_up_assets_leaves_no_trace", |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(5)));
        let scopes =
            || -> Vec<_> { key.usage().scopes.into_iter().map(|usage| usage.scope).collect() };
        let before = (scopes(), key.read());
        for number in 0..10_000 {
            key.admit(format!("made up {number}").as_str(), 1);
        }
        assert_eq!((scopes(), key.read()), before);
        assert_eq!(key.global().account.requests(), 10_000);
    });
}

pub(super) fn with_assets(count: usize) -> KeyConfig {
    let assets = (0..count).map(|number| (asset(&format!("m{number:04}")), requests_per_day(1)));
    let config = named("many").with_thresholds(Thresholds::NONE);
    KeyConfig { assets: assets.collect(), ..config }
}
