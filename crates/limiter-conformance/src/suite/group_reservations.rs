//! Reservations of keys in groups: what corrects a call corrects it at each level that admitted it.

use limiter_core::{DenialReason, Limits, ReservationError};

use super::groups::{groups_of, three_levels, violations};
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_settlement_corrects_every_level", |world| {
        let levels = three_levels(world);
        levels[2].reserve("r1", tokens(10, 50)).settle("r1", input_and_output(3, 70));
        for level in &levels {
            assert_eq!(level.global().account, tokens(3, 70), "{}", level.id);
        }
        levels[2].settle("r1", input_and_output(3, 70));
        assert_eq!(levels.map(|level| level.global().account), [tokens(3, 70); 3], "once");
    });

    suite.story("a_cancellation_takes_the_call_back_at_every_level", |world| {
        let levels = three_levels(world);
        levels[0].update_now(|config| config.global = requests_per_day(1));
        levels[2].reserve("r1", spend(5)).denied(None, requests(1)).cancel("r1");
        assert_eq!(levels.each_ref().map(|level| (level.calls(), level.spent())), [(0, 0); 3]);
        levels[2].admit(None, 1);
    });

    suite.story("an_amendment_charges_and_hands_back_at_every_level", |world| {
        let levels = three_levels(world);
        levels[2].reserve("r1", tokens(0, 20));
        for total in [50, 10] {
            levels[2].amend("r1", output(total));
            let accounts = levels.each_ref().map(|level| level.global().account);
            assert_eq!(accounts, [tokens(0, total); 3]);
        }
    });

    // All or nothing, at all levels.
    suite.story("an_amendment_that_does_not_fit_in_a_group_changes_nothing", |world| {
        let levels = three_levels(world);
        levels[1].update_now(|config| config.global = tokens_per_minute(30));
        levels[2].reserve("r1", tokens(0, 20));
        let denied = levels[2].try_amend("r1", output(31)).expect("the reservation is known");
        assert_eq!(groups_of(&violations(&denied)), [Some("acme/search")]);
        assert_eq!(levels.each_ref().map(|level| level.global().account), [tokens(0, 20); 3]);
        levels[2].amend("r1", output(30));
    });

    suite.story("a_refund_never_lands_in_another_window_of_any_level", |world| {
        let levels = three_levels(world);
        for level in &levels {
            level.update_now(|config| config.global = tokens_per_minute(100));
        }
        levels[2].reserve("r1", tokens(0, 50)).reserve("r2", tokens(0, 40)).after(MINUTE);
        levels[2].settle("r1", output(10)).settle("r2", output(45));
        for level in &levels {
            level.uses([0, 5, 2, 55]);
        }
    });

    // The day of Kathmandu has ended, that of UTC has not.
    suite.story("each_level_is_corrected_in_its_own_windows", |world| {
        let zone = "Asia/Kathmandu".parse().expect("a zone of the database");
        let acme = world.group(named("acme").with_time_zone(zone));
        let ci = world.member_at(named("acme/ci"));
        ci.reserve("r1", tokens(0, 50)).reserve("r2", tokens(0, 50));
        world.set_clock(instant("2025-10-09T18:15:00Z"));
        ci.settle("r1", output(10)).settle("r2", output(57));
        assert_eq!(ci.global().account, requests(2).with_tokens(0, 67).expect("few tokens"));
        let overrun = requests(0).with_tokens(0, 7).expect("few tokens");
        assert_eq!(acme.global().account, overrun);
    });

    suite.story("a_reset_of_a_group_closes_its_windows_and_not_those_of_its_keys", |world| {
        let acme = world.group(named("acme"));
        let ci = world.member_at(named("acme/ci"));
        ci.reserve("r1", tokens(0, 50));
        acme.reset();
        ci.settle("r1", output(10));
        assert_eq!([&acme, &ci].map(|it| it.global().account.output_tokens()), [0, 10]);
    });

    suite.story("an_asset_that_a_group_lists_later_gets_the_overrun_alone", |world| {
        let acme = world.group(named("acme"));
        let ci = world.member_at(named("acme/ci").with_asset(asset("m1"), Limits::NONE));
        ci.reserve_for(DAY, "r1", Some("m1"), tokens(0, 50));
        ci.reserve_for(DAY, "r2", Some("m1"), tokens(0, 50));
        acme.update(|config| config.assets = [(asset("m1"), Limits::NONE)].into());
        ci.settle("r1", output(10)).settle("r2", output(55));
        assert_eq!(acme.asset("m1").account.output_tokens(), 5);
        assert_eq!(acme.global().account.output_tokens(), 65);
        assert_eq!(ci.asset("m1").account.output_tokens(), 65);
    });

    // "Settle and cancel work on an expired key, an amendment that adds is denied there."
    suite.story("an_expired_group_denies_what_an_amendment_adds_and_no_settlement", |world| {
        let acme = world.group(named("acme"));
        let ci = world.member_at(named("acme/ci"));
        ci.reserve("r1", tokens(0, 20)).reserve("r2", tokens(0, 20));
        acme.update(|config| config.expires_at = Some(NOON));
        let denied = ci.try_amend("r1", output(30)).expect("the reservation is known");
        let group = Some(key_id("acme"));
        assert_eq!(reason(&denied), &DenialReason::KeyExpired { expired_at: NOON, group });
        ci.amend("r1", output(5)).settle("r1", output(25)).cancel("r2");
        assert_eq!([&acme, &ci].map(|level| level.global().account), [tokens(0, 25); 2]);
    });

    suite.story("a_group_that_denies_the_asset_denies_what_an_amendment_adds", |world| {
        let acme = world.group(named("acme"));
        let ci = world.member_at(named("acme/ci"));
        ci.reserve_for(DAY, "r1", Some("m1"), tokens(0, 20));
        acme.update(|config| config.other = limiter_core::Other::Denied);
        let denied = ci.try_amend("r1", output(30)).expect("the reservation is known");
        assert_eq!(reason(&denied), &DenialReason::AssetDenied { group: Some(key_id("acme")) });
        ci.amend("r1", output(5)).settle("r1", output(25));
        assert_eq!(acme.global().account, tokens(0, 25));
    });

    // "On a deleted key all answer `KeyUnknown`." What the key has used stays used.
    suite.story("a_group_keeps_the_estimate_of_a_deleted_key", |world| {
        let acme = world.group(named("acme"));
        let ci = world.member_at(named("acme/ci"));
        ci.reserve("r1", tokens(0, 20)).delete();
        assert_refused!(ci.try_settle("r1", output(5)), ReservationError::KeyUnknown);
        assert_eq!(acme.global().account, tokens(0, 20));
    });

    suite.story("an_overrun_is_debt_at_every_level", |world| {
        let acme = world.group(named("acme").with_global(tokens_per_minute(30)));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        ci.reserve("r1", tokens(0, 10)).settle("r1", output(40));
        acme.uses([0, 40, 1, 40]);
        chat.denied(None, tokens(0, 1)).after(MINUTE);
        chat.admit(None, 1);
    });
}
