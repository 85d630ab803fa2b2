//! Accounts: what is counted whether limited or not, of today in the usage and of each day in the history.

use limiter_core::{Charge, DayHistory, Limits, ScopeId, Timestamp};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("every_scope_counts_its_account", |world| {
        let config = named("ci").with_asset(asset("m1"), Limits::NONE);
        let key = world.member(config.with_other(requests_per_month(9)));
        let charge = tokens(3, 4).with_credits(millionths(5));
        for called in [None, Some("m1"), Some("made up")] {
            assert!(key.check(called, charge).is_allowed());
        }
        let three = requests(3).with_tokens(9, 12).expect("within bounds");
        assert_eq!(key.global().account, three.with_credits(millionths(15)));
        assert_eq!((key.asset("m1").account, key.other().account), (charge, charge));
        world.set_clock(MIDNIGHT);
        let accounts = key.usage().scopes.into_iter().map(|scope| scope.account);
        assert!(accounts.eq([Charge::NOTHING; 3]), "a day that has passed is empty");
    });

    // The counts at the end of the day, and those of today so far. Days without any charge are left out.
    suite.story("the_history_has_a_row_for_each_day_and_scope", |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), Limits::NONE));
        let counted = [("m1", 0, 2), ("made up", 0, 1), ("m1", 2, 3)];
        for (called, day, calls) in counted {
            world.set_clock(NOON.after(day * DAY));
            key.admit(called, calls);
        }
        let today = midnight_before(NOON).after(2 * DAY);
        let expected = [
            row(midnight_before(NOON), "global", 3),
            row(midnight_before(NOON), "m1", 2),
            row(today, "global", 3),
            row(today, "m1", 3),
        ];
        assert_eq!(rows(&key.history(35)), expected);
        assert_eq!(rows(&key.history(2)), expected[2..]);
        world.set_clock(NOON.after(3 * DAY));
        assert_eq!(rows(&key.history(35)), expected, "a day that nothing has closed");
        assert_eq!(rows(&key.history(1)), []);
    });

    // A refund counts where its call was counted, and a late one nowhere.
    suite.calls("history_shows_what_was_counted_when_the_day_ended", |key| {
        key.reserve("r1", tokens(0, 50)).reserve("r2", tokens(0, 30)).settle("r1", output(10));
        key.after(DAY).settle("r2", output(35));
        let tokens = key.history(35).into_iter().map(|day| day.scopes[0].account.output_tokens());
        assert_eq!(tokens.collect::<Vec<_>>(), [40, 5]);
    });

    suite.story("the_history_goes_back_for_35_days", |world| {
        let key = world.member(named("ci"));
        for day in 0..50 {
            world.set_clock(NOON.after(day * DAY));
            key.admit(None, 1);
        }
        assert_eq!(key.history(400).len(), 35);
        assert_eq!(key.history(3).len(), 3);
    });

    // Also when nothing but a change of the configuration closes its day.
    suite.story("an_asset_that_is_no_longer_listed_stays_in_the_history", |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(9)));
        key.admit("m1", 2).update(|config| config.assets.clear());
        key.after(2 * DAY).update(|config| config.global = requests_per_day(1));
        assert_eq!(key.scope(&ScopeId::asset(asset("m1"))), None);
        let day = midnight_before(NOON);
        assert_eq!(rows(&key.history(35)), [row(day, "global", 2), row(day, "m1", 2)]);
    });

    suite.story("a_key_that_does_not_exist_has_no_history", |world| {
        let history = world.store.history(&key_id("nobody"), 7).wait();
        assert_eq!(history.expect("the store answers"), None);
    });
}

type Row = (Timestamp, String, u64);

fn row(start: Timestamp, scope: &str, requests: u64) -> Row {
    (start, scope.to_owned(), requests)
}

/// The start of the day, the scope and the requests of each row.
fn rows(history: &[DayHistory]) -> Vec<Row> {
    let of_day = |day: &DayHistory| -> Vec<Row> {
        let name = |scope: &ScopeId| {
            scope.asset.clone().map_or_else(|| "global".to_owned(), |it| it.to_string())
        };
        let scopes = day.scopes.iter();
        scopes.map(|it| row(day.start, &name(&it.scope), it.account.requests())).collect()
    };
    history.iter().flat_map(of_day).collect()
}

const fn midnight_before(noon: Timestamp) -> Timestamp {
    Timestamp::from_unix_ms(noon.unix_ms() - 43_200_000)
}
