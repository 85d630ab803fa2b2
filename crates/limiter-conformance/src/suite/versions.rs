//! An update is made from the version that was read; one that is stale writes nothing.

use limiter_core::{Credits, KeyConfig, KeysError};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // A new key is at version 1. Calls count none.
    suite.story("each_change_counts_a_version", |world| {
        let key = world.limited(requests_per_day(1));
        assert_eq!(key.admit(None, 1).denied(None, requests(1)).read().version, 1);
        let changes: [fn(&mut KeyConfig); 5] = [
            |config| config.name = named("renamed").name,
            |config| config.global = requests_per_day(2),
            |config| config.assets = [(asset("m1"), requests_per_day(1))].into(),
            |config| set_budget(config, Some(Credits::ZERO)),
            |config| config.expires_at = Some(NOON.after(DAY)),
        ];
        for (version, change) in (2..).zip(changes) {
            let updated = key.update(change);
            assert_eq!(updated.version, version);
            assert_eq!(key.read(), updated);
        }
    });

    // Both versions are named.
    suite.story("a_stale_update_is_a_conflict_that_writes_nothing", |world| {
        let key = world.member(named("ci"));
        let stale = key.read();
        key.update(|config| config.global = requests_per_day(5));
        let before = key.read();
        let all = stale.config.clone().with_budget(Credits::ZERO).with_global(requests_per_day(9));
        let refused = world.keys().update(&key.id, stale.version, &all.with_expiry(NOON)).wait();
        assert_refused!(&refused, KeysError::Conflict { expected: 1, actual: 2 });
        let sentence = refused.expect_err("it is stale").to_string();
        assert!(sentence.contains("version 1") && sentence.contains("version 2"), "{sentence}");
        let of_the_future = world.keys().update(&key.id, 3, &named("renamed")).wait();
        assert_refused!(of_the_future, KeysError::Conflict { expected: 3, actual: 2 });
        assert_eq!(key.read(), before);
    });

    // Also where the update asks for nothing new, or for what would be refused anyway.
    suite.story("a_conflict_comes_before_any_other_error", |world| {
        let (key, admin) = (world.member(named("ci")), world.first_admin());
        for (key, config) in [
            (&key, key.read().config.clone()),
            (&key, named("first admin")),
            (&admin, admin.read().config.clone().with_expiry(NOON)),
        ] {
            let refused = world.keys().update(&key.id, 7, &config).wait();
            assert_refused!(refused, KeysError::Conflict { .. });
        }
    });

    // Not even the version, neither at once, nor while a change is pending, nor windows later.
    suite.story("saving_what_is_configured_changes_nothing", |world| {
        let config = named("ci").with_global(requests_per_minute(5)).with_budget(Credits::MAX);
        let config = config.with_asset(asset("m1"), requests_per_day(3));
        let key = world.member(config.with_expiry(NOON.after(30 * DAY)));
        key.admit("m1", 1).update(|config| config.global = requests_per_minute(6));
        for _ in 0..3 {
            let (record, usage) = (key.read(), key.usage());
            assert_eq!(key.update(|_| {}), record);
            assert_eq!((key.read(), key.usage()), (record, usage));
            world.advance(MINUTE);
        }
    });
}
