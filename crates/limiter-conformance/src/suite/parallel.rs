//! Parallel limits: how many reservations may be open at the same time. A slot comes back when the call ends, or by itself.

use std::time::Duration;

use limiter_core::{
    Decision, DenialReason, KeyConfig, LedgerBounds, Limits, Other, Rule, RuleState, Scope,
    ScopeId, Violation,
};

use super::groups::{groups_of, three_levels, violations};
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("no_more_reservations_are_open_than_the_limit_allows", |world| {
        let ci = world.limited(parallel(2));
        ci.reserve("r1", requests(1)).reserve("r2", requests(1));
        let denied = ci.try_reserve("r3", None, requests(1), DAY).expect("the id is free");
        let [violation] = &violations(&denied)[..] else { panic!("{denied:?}") };
        let Violation { rule, limit, used, asked, resets_at, .. } = violation;
        assert_eq!((*rule, *limit, *used, *asked), (Rule::parallel(Scope::Global), 2, 2, 1));
        assert_eq!(*resets_at, Some(NOON.after(SLOT)));
        assert!(matches!(reason(&denied), DenialReason::RateLimited(_)));
        assert_eq!(ci.calls(), 2, "a denial charges nothing");
        ci.knows_no("r3");
    });

    suite.story("an_admitted_reservation_shows_how_many_are_open", |world| {
        let ci = world.limited(parallel(2));
        for (id, open) in [("r1", 1), ("r2", 2)] {
            let reserved = ci.try_reserve(id, None, requests(1), DAY).expect("the id is free");
            let [RuleState { used, remaining, resets_at, .. }] = &rules(&reserved)[..] else {
                panic!("{reserved:?}")
            };
            assert_eq!((*used, *remaining, *resets_at), (open, 2 - open, None));
        }
        assert_eq!(ci.open(&ScopeId::GLOBAL), (2, 2));
    });

    // Calls that end sooner are not foreseen; most do.
    suite.story("a_caller_waits_a_second_for_a_slot", |world| {
        let ci = world.limited(parallel(1));
        ci.reserve("r1", requests(1));
        let denied = ci.try_reserve("r2", None, requests(1), DAY).expect("the id is free");
        let denied = denied.denied().expect("no slot is free");
        assert_eq!(denied.retry_at(), Some(NOON.after(SLOT)));
        assert_eq!(denied.retry_after(), Some(Duration::from_secs(1)));
    });

    suite.story("a_caller_waits_for_a_slot_and_for_the_window_of_another_rule", |world| {
        let ci = world.limited(limits(|it| it.requests_per_minute(1).parallel(1)));
        ci.reserve("r1", requests(1));
        let denied = ci.try_reserve("r2", None, requests(1), DAY).expect("the id is free");
        let denied = denied.denied().expect("nothing fits");
        assert_eq!(denied.retry_at(), Some(NOON.after(SLOT)), "then both have room");
        assert_eq!(denied.retry_after(), Some(MINUTE));
    });

    for ending in ["settle", "cancel"] {
        suite.story(&format!("the_slot_comes_back_with_{ending}_and_only_once"), move |world| {
            let ci = world.limited(parallel(1));
            let end = |id| match ending {
                "settle" => ci.settle(id, output(1)),
                _ => ci.cancel(id),
            };
            ci.reserve("r1", requests(1));
            end("r1").reserve("r2", requests(1));
            end("r1").takes_none("r3");
            assert_eq!(ci.open(&ScopeId::GLOBAL), (1, 1));
        });
    }

    suite.story("the_slot_of_a_caller_that_crashed_comes_back_by_itself", |world| {
        let ci = world.limited(parallel(1));
        ci.reserve("r1", requests(1)).at(SLOT_MS - 1).takes_none("r2");
        assert_eq!(ci.open(&ScopeId::GLOBAL), (1, 1));
        ci.at(SLOT_MS);
        assert_eq!(ci.open(&ScopeId::GLOBAL), (0, 1));
        ci.reserve("r2", requests(1));
    });

    // Its holder still settles what it used.
    suite.story("a_slot_that_has_expired_never_comes_back_twice", |world| {
        let ci = world.limited(parallel(1));
        ci.reserve("r1", tokens(0, 5)).at(SLOT_MS).reserve("r2", requests(1));
        ci.settle("r1", output(9)).takes_none("r3");
        assert_eq!(ci.global().account.output_tokens(), 9);
    });

    suite.story("a_slot_lasts_no_longer_than_the_ttl", |world| {
        let ci = world.limited(parallel(1));
        ci.reserve_for(MINUTE, "r1", None, requests(1)).at(59_999).takes_none("r2");
        ci.amend("r1", output(1)).at(60_000).reserve("r2", requests(1));
    });

    // Also one that changes no figure.
    suite.story("an_amendment_holds_the_slot_for_its_whole_time_again", |world| {
        let ci = world.limited(parallel(1));
        ci.reserve("r1", tokens(0, 5));
        for round in 1..4 {
            ci.at(round * (SLOT_MS - 1)).amend("r1", output(5)).takes_none("r2");
        }
        ci.at(3 * (SLOT_MS - 1) + SLOT_MS - 1).takes_none("r2").after(Duration::from_millis(1));
        ci.reserve("r2", requests(1));
    });

    suite.story("an_amendment_does_not_bring_back_a_slot_that_has_expired", |world| {
        let ci = world.limited(parallel(1));
        ci.reserve("r1", tokens(0, 5)).at(SLOT_MS).amend("r1", output(6));
        assert_eq!(ci.open(&ScopeId::GLOBAL), (0, 1));
        ci.reserve("r2", requests(1)).amend("r1", output(7)).settle("r1", output(7));
        assert_eq!(ci.open(&ScopeId::GLOBAL), (1, 1));
    });

    suite.story("an_amendment_that_is_denied_leaves_the_slot_as_it_was", |world| {
        let ci = world.limited(limits(|it| it.tokens_per_day(5).parallel(1)));
        ci.reserve("r1", tokens(0, 5)).at(SLOT_MS - 1);
        let denied = ci.try_amend("r1", output(6)).expect("the reservation is known");
        assert!(!denied.is_allowed());
        ci.at(SLOT_MS);
        assert_eq!(ci.open(&ScopeId::GLOBAL), (0, 1));
    });

    // It changes nothing else.
    suite.story("an_amendment_that_shadow_mode_lets_through_renews_the_slot", |world| {
        let config = limits(|it| it.tokens_per_day(5).parallel(1));
        let ci = world.member(named("ci").with_global(config).with_shadow(true));
        ci.reserve("r1", tokens(0, 5)).at(SLOT_MS - 1).amend("r1", output(6)).at(SLOT_MS);
        assert_eq!(ci.open(&ScopeId::GLOBAL), (1, 1));
    });

    suite.story("checks_meet_no_parallel_limit", |world| {
        let ci = world.limited(parallel(1));
        ci.reserve("r1", requests(1)).admit(None, 3);
        assert!(rules(&ci.check(None, requests(1))).is_empty());
        assert!(is_new(&ci.check_once("q1", None, requests(1))) && ci.admits());
        ci.record("d1", requests(1)).takes_none("r2");
    });

    // Also one that is repeated by a caller that has crashed since.
    suite.story("a_repeated_reserve_holds_one_slot_and_does_not_renew_it", |world| {
        let ci = world.limited(parallel(1));
        ci.reserve("r1", requests(1)).at(SLOT_MS - 1);
        let repeated = ci.try_reserve("r1", None, requests(1), DAY).expect("it is the same");
        let open = rules(&repeated).iter().map(|state| state.used).collect::<Vec<_>>();
        assert_eq!((is_replayed(&repeated), open), (true, vec![1]));
        ci.at(SLOT_MS).reserve("r2", requests(1));
        assert_eq!(ci.open(&ScopeId::GLOBAL), (1, 1));
    });

    suite.story("a_reservation_that_is_refused_for_want_of_room_holds_no_slot", |world| {
        let bounds = LedgerBounds { open: 1, ..LedgerBounds::default() };
        let world = world.with_bounds(bounds);
        let ci = world.limited(parallel(2));
        ci.reserve_for(MINUTE, "r1", None, requests(1));
        assert!(ci.try_reserve("r2", None, requests(1), DAY).is_err());
        assert_eq!(ci.open(&ScopeId::GLOBAL), (1, 2));
    });

    suite.story("how_long_a_slot_lasts_can_be_set", |world| {
        let bounds = LedgerBounds { slots: MINUTE, ..LedgerBounds::default() };
        let world = world.with_bounds(bounds);
        let ci = world.limited(parallel(1));
        ci.reserve("r1", requests(1)).at(30_000).amend("r1", output(1));
        ci.at(89_999).takes_none("r2").at(90_000).reserve("r2", requests(1));
    });

    suite.story("each_scope_has_slots_of_its_own", |world| {
        let config = named("ci").with_global(parallel(3)).with_asset(asset("m1"), parallel(1));
        let ci = world.member(config.with_other(parallel(1)));
        ci.reserve_for(DAY, "r1", Some("m1"), requests(1));
        ci.takes_none_of("r2", Some("m1"), Scope::Asset);
        // All other assets share one.
        ci.reserve_for(DAY, "r2", Some("m2"), requests(1));
        ci.takes_none_of("r3", Some("m3"), Scope::Other);
        ci.reserve("r3", requests(1));
        ci.takes_none_of("r4", None, Scope::Global);
        ci.settle("r1", nothing()).reserve_for(DAY, "r4", Some("m1"), requests(1));
        let open = [ScopeId::GLOBAL, ScopeId::asset(asset("m1")), ScopeId::OTHER];
        assert_eq!(open.map(|scope| ci.open(&scope)), [(3, 3), (1, 1), (1, 1)]);
    });

    // A made-up name then creates no state.
    suite.story("other_assets_with_a_parallel_limit_alone_are_not_counted", |world| {
        let ci = world.member(named("ci").with_other(parallel(1)));
        ci.reserve_for(DAY, "r1", Some("m1"), requests(1));
        let other = ci.other();
        assert_eq!((other.account, other.rules.len()), (requests(0), 1));
        let scopes = ci.history(1).into_iter().flat_map(|day| day.scopes);
        assert!(scopes.map(|of| of.scope).eq([ScopeId::GLOBAL]));
        ci.takes_none_of("r2", Some("m2"), Scope::Other);
        ci.settle("r1", nothing()).reserve_for(DAY, "r2", Some("m2"), requests(1));
    });

    // A first limit of it would be pending.
    suite.story("an_asset_that_is_listed_has_its_parallel_limit_at_once", |world| {
        let ci = world.member(named("ci").with_other(parallel(1)));
        ci.reserve_for(DAY, "r1", Some("m2"), requests(1));
        let both = limits(|it| it.requests_per_day(9).parallel(1));
        ci.update(|config| config.assets = [(asset("m1"), both)].into());
        ci.reserve_for(DAY, "r2", Some("m1"), requests(1));
        ci.takes_none_of("r3", Some("m1"), Scope::Asset);
        ci.update(|config| config.assets.clear());
        ci.takes_none_of("r3", Some("m1"), Scope::Other);
    });

    // On Redis, the limits of other assets are read before the answer says when to retry.
    suite.story("an_asset_that_was_listed_is_denied_for_want_of_a_slot", |world| {
        let config = named("ci").with_global(parallel(1)).with_other(requests_per_day(9));
        let ci = world.member(config.with_asset(asset("m1"), requests_per_day(9)));
        ci.reserve("r1", requests(1)).update(|config| config.assets.clear());
        ci.takes_none_of("r2", Some("m1"), Scope::Global);
    });

    suite.story("a_parallel_limit_changes_at_once", |world| {
        let ci = world.limited(parallel(2));
        ci.reserve("r1", requests(1)).reserve("r2", requests(1));
        ci.update(|config| config.global = parallel(3));
        ci.reserve("r3", requests(1)).update(|config| config.global = parallel(1));
        // Those that are open stay open.
        for id in ["r1", "r2"] {
            ci.takes_none("r4").settle(id, nothing());
        }
        ci.takes_none("r4").settle("r3", nothing()).reserve("r4", requests(1));
        ci.update(|config| config.global = Limits::NONE);
        ci.reserve("r5", requests(1));
        ci.update(|config| config.global = parallel(1));
        assert_eq!(
            ci.open(&ScopeId::GLOBAL),
            (1, 1),
            "what was reserved without a limit holds none"
        );
    });

    suite.story("a_limit_below_what_is_open_is_met_when_enough_slots_have_expired", |world| {
        let ci = world.limited(parallel(3));
        for (number, id) in (0..).zip(["r1", "r2", "r3"]) {
            ci.at(number * 1_000).reserve(id, requests(1));
        }
        ci.update(|config| config.global = parallel(2));
        let denied = ci.try_reserve("r4", None, requests(1), DAY).expect("the id is free");
        let retry_at = denied.denied().and_then(|denied| denied.retry_at());
        assert_eq!(retry_at, Some(at_noon_and(SLOT_MS + 1_000)), "the second of three");
    });

    suite.story("a_limit_of_zero_admits_no_reservation_ever", |world| {
        let ci = world.limited(parallel(0));
        let denied = ci.try_reserve("r1", None, requests(1), DAY).expect("the id is free");
        let denied = denied.denied().expect("no slot is free");
        assert!(denied.never_fits() && denied.retry_after().is_none());
        assert!(denied.exceeded().and_then(|it| it.binding()).is_some_and(|it| it.exceeds_limit()));
        ci.admit(None, 1);
    });

    suite.story("the_parallel_limit_of_a_scope_is_listed_after_its_other_rules", |world| {
        let both = || limits(|it| it.requests_per_day(1).parallel(1));
        let ci = world.member(named("ci").with_global(both()).with_asset(asset("m1"), both()));
        ci.reserve_for(DAY, "r1", Some("m1"), requests(1));
        let denied = ci.try_reserve("r2", Some("m1"), requests(1), DAY).expect("the id is free");
        let violated = violations(&denied).iter().map(|it| it.rule.name()).collect::<Vec<_>>();
        let in_order =
            ["global/day/requests", "global/parallel", "asset/day/requests", "asset/parallel"];
        assert_eq!(violated, in_order);
        assert_eq!(denied.denied().and_then(|it| it.retry_at()), Some(MIDNIGHT));
        let exceeded = denied.denied().and_then(|denied| denied.exceeded());
        let binding = exceeded.and_then(|exceeded| exceeded.binding()).expect("a rule denies");
        assert_eq!(binding.rule.name(), "global/day/requests", "it resets last");
    });

    suite.story("a_key_that_expires_before_a_slot_is_free_has_no_retry", |world| {
        let config = named("ci").with_global(parallel(1)).with_expiry(NOON.after(MINUTE));
        let ci = world.member(config);
        ci.reserve("r1", requests(1));
        let denied = ci.try_reserve("r2", None, requests(1), DAY).expect("the id is free");
        assert!(denied.denied().is_some_and(limiter_core::Denied::never_fits));
    });

    // "Outside the twelve."
    suite.story("a_parallel_limit_is_one_more_than_the_most_limits", |world| {
        let most = |builder: limiter_core::LimitsBuilder| {
            let windows = [limiter_core::Window::Hour, limiter_core::Window::Month];
            let units =
                limiter_core::Unit::ALL.into_iter().flat_map(|unit| windows.map(|it| (it, unit)));
            units.fold(builder.requests_per_day(9).tokens_per_day(9), |builder, (window, unit)| {
                builder.limit(window, unit, 9)
            })
        };
        let config = named("ci").with_global(limits(|it| most(it).parallel(7)));
        assert_eq!(config.global.iter().count(), Limits::MOST);
        let ci = world.member(config.clone());
        assert_eq!(ci.read().config, config);
    });

    suite.story("what_is_configured_is_read_back", |world| {
        let config = named("ci")
            .with_global(parallel(3))
            .with_asset(asset("m1"), limits(|it| it.requests_per_day(1).parallel(2)))
            .with_asset(asset("m2"), parallel(9_007_199_254_740_991))
            .with_other(parallel(0))
            .with_budget(millionths(5));
        let ci = world.member(config.clone());
        assert_eq!(ci.read().config, config);
        let version = ci.update(|config| config.budget().map(drop).expect("it is there")).version;
        assert_eq!(version, 1, "saving the same changes nothing");
        let fewer = KeyConfig { other: Other::Denied, ..config.with_global(Limits::NONE) };
        assert_eq!(ci.update(|config| *config = fewer.clone()).config, fewer);
    });

    suite.story("a_reset_frees_no_slot", |world| {
        let ci = world.limited(parallel(1));
        ci.reserve("r1", requests(1)).reset().takes_none("r2");
    });

    suite.story("the_slots_of_a_group_are_shared_by_its_keys", |world| {
        let acme = world.group(named("acme").with_global(parallel(2)));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        // Ids belong to their keys.
        ci.reserve("r1", requests(1));
        chat.reserve("r1", requests(1));
        let denied = ci.try_reserve("r2", None, requests(1), DAY).expect("the id is free");
        assert_eq!(groups_of(&violations(&denied)), [Some("acme")]);
        chat.settle("r1", nothing());
        ci.reserve("r2", requests(1));
        assert_eq!(
            (acme.open(&ScopeId::GLOBAL), chat.scope(&ScopeId::GLOBAL).is_some()),
            ((2, 2), true)
        );
    });

    suite.story("a_reservation_takes_a_slot_at_every_level_or_at_none", |world| {
        let levels = three_levels(world);
        for (level, limit) in levels.iter().zip([3, 2, 1]) {
            level.update(|config| config.global = parallel(limit));
        }
        let open = || levels.each_ref().map(|level| level.open(&ScopeId::GLOBAL).0);
        levels[2].reserve("r1", requests(1)).takes_none("r2");
        assert_eq!(open(), [1, 1, 1]);
        world.member_at(named("acme/ci")).reserve("r1", requests(1));
        assert_eq!(open(), [2, 1, 1]);
        levels[2].amend("r1", output(1)).cancel("r1");
        assert_eq!(open(), [1, 0, 0]);
    });

    // It may not be created again under its id; should it be, it is another key.
    suite.story("a_key_that_is_made_again_finds_none_of_the_old_slots", |world| {
        let all = || {
            let config = named("ci").with_global(parallel(1)).with_other(parallel(1));
            world.member_at(config.with_asset(asset("m1"), parallel(1)))
        };
        let scopes = [ScopeId::GLOBAL, ScopeId::asset(asset("m1")), ScopeId::OTHER];
        for called in ["m1", "m2"] {
            let ci = all();
            ci.reserve_for(DAY, "r1", Some(called), requests(1)).delete();
            let again = all();
            assert_eq!(scopes.each_ref().map(|scope| again.open(scope)), [(0, 1); 3]);
            again.delete();
        }
    });

    // No caller can settle a call of a deleted key.
    suite.story("a_group_gets_back_the_slot_of_a_deleted_key_when_it_expires", |world| {
        let acme = world.group(named("acme").with_global(parallel(1)));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        ci.reserve("r1", requests(1)).delete();
        chat.takes_none("r1").at(SLOT_MS).reserve("r1", requests(1));
        assert_eq!(acme.open(&ScopeId::GLOBAL), (1, 1));
    });

    suite.story("a_level_in_shadow_holds_no_slot_where_it_would_deny", |world| {
        let acme = world.group(named("acme").with_global(parallel(1)).with_shadow(true));
        let ci = world.member_at(named("acme/ci").with_global(parallel(9)));
        ci.reserve("r1", requests(1));
        let shadowed = ci.try_reserve("r2", None, requests(1), DAY).expect("the id is free");
        assert!(shadowed.is_charged() && shadowed.shadowed().is_some(), "{shadowed:?}");
        assert_eq!([&acme, &ci].map(|level| level.open(&ScopeId::GLOBAL)), [(1, 1), (2, 9)]);
        assert_eq!([&acme, &ci].map(Key::calls), [1, 2]);
        // It has nothing to free there.
        ci.settle("r2", nothing());
        assert_eq!([&acme, &ci].map(|level| level.open(&ScopeId::GLOBAL)), [(1, 1), (1, 9)]);
    });

    suite.story("a_level_in_shadow_that_denies_for_another_rule_holds_no_slot", |world| {
        let both = limits(|it| it.requests_per_day(1).parallel(9));
        let acme = world.group(named("acme").with_global(both).with_shadow(true));
        let ci = world.member_at(named("acme/ci"));
        ci.reserve("r1", requests(1)).reserve("r2", requests(1));
        assert_eq!(acme.open(&ScopeId::GLOBAL), (1, 9));
    });

    suite.story("a_key_in_shadow_without_a_free_slot_reserves_nothing", |world| {
        let ci = world.member(named("ci").with_global(parallel(1)).with_shadow(true));
        ci.reserve("r1", requests(1));
        let decision = ci.try_reserve("r2", None, requests(1), DAY).expect("the id is free");
        assert!(decision.is_allowed() && !decision.is_charged(), "{decision:?}");
        ci.knows_no("r2");
        assert_eq!((ci.open(&ScopeId::GLOBAL), ci.calls()), ((1, 1), 1));
    });

    suite.story("many_callers_never_open_more_than_the_limit", |world| {
        let acme = world.group(named("acme").with_global(parallel(5)));
        let ci = world.member_at(named("acme/ci").with_global(parallel(3)));
        let chat = world.member_at(named("acme/chat").with_global(parallel(3)));
        for round in 0..8 {
            let reserved = at_once(CALLERS, |caller| {
                let (key, id) =
                    (if caller % 2 == 0 { &ci } else { &chat }, format!("{round}-{caller}"));
                let reserved =
                    key.try_reserve(&id, None, requests(1), DAY).expect("the id is free");
                (key, id, reserved.is_allowed())
            });
            let open: Vec<_> = reserved.iter().filter(|(.., is_open)| *is_open).collect();
            assert_eq!(open.len(), 5);
            assert_eq!(acme.open(&ScopeId::GLOBAL), (5, 5));
            assert!([&ci, &chat].iter().all(|key| key.open(&ScopeId::GLOBAL).0 <= 3));
            at_once(open.len(), |number| {
                let (key, id, _) = open[number];
                key.try_settle(id, nothing()).expect("the reservation is known");
            });
            let levels = [&acme, &ci, &chat].map(|level| level.open(&ScopeId::GLOBAL).0);
            assert_eq!(levels, [0; 3], "all slots are back");
        }
    });
}

impl Key<'_> {
    /// How many slots of a scope are held, and its limit.
    #[track_caller]
    pub(super) fn open(&self, scope: &ScopeId) -> (u64, u64) {
        let usage = self.scope(scope).expect("the scope has a limit");
        let mut rules = usage.rules.iter();
        let state = rules.find(|state| state.rule.is_parallel()).expect("it has a parallel limit");
        assert_eq!(state.remaining, state.limit.saturating_sub(state.used));
        (state.used, state.limit)
    }

    /// Asserts that a reservation finds no slot among all calls.
    #[track_caller]
    fn takes_none(&self, id: &str) -> &Self {
        self.takes_none_of(id, None, Scope::Global)
    }

    /// Asserts that a reservation finds no slot in a scope, which alone denies it.
    #[track_caller]
    fn takes_none_of(&self, id: &str, called: Option<&str>, scope: Scope) -> &Self {
        let denied = self.try_reserve(id, called, requests(1), DAY).expect("the id is free");
        let violated: Vec<_> = violations(&denied).iter().map(|it| it.rule).collect();
        assert_eq!(violated, [Rule::parallel(scope)]);
        self
    }
}

fn rules(decision: &Decision) -> Vec<RuleState> {
    decision.rules().filter(|state| state.rule.is_parallel()).collect()
}

fn parallel(limit: u64) -> Limits {
    limits(|it| it.parallel(limit))
}

const SLOT: Duration = Duration::from_secs(600);
const SLOT_MS: i64 = 600_000;
