//! Open groups: a key beneath one that nobody registered has a plan, and comes and goes with its calls.

use limiter_core::{
    DenialReason, InvalidValue, KeyConfig, KeysError, Limits, Plan, PlanName, PlanUpdate,
    ReservationError,
};

use super::key::reason;
use super::plans::{name, save};
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_key_that_nobody_registered_has_the_plan_of_its_group", |world| {
        open(world, requests_per_minute(2), requests_per_day(9));
        let [a, b] = ["ip/a", "ip/b"].map(|path| nobody(world, path));
        a.admit(None, 2).denied(None, requests(1));
        b.admit(None, 2).denied(None, requests(1));
        a.after(MINUTE).admit(None, 2).denied(None, requests(1));
    });

    suite.story("its_calls_count_at_the_group", |world| {
        let group = open(world, requests_per_minute(9), requests_per_minute(3));
        nobody(world, "ip/a").admit(None, 2);
        nobody(world, "ip/b").admit(None, 1).denied(None, requests(1));
        assert_eq!(group.calls(), 3);
    });

    // Nor does one beneath a group within it that is closed, or one that has more segments.
    suite.story("a_group_that_is_not_open_has_no_such_keys", |world| {
        open(world, requests_per_minute(2), requests_per_day(9));
        world.group(named("closed").with_global(requests_per_day(9)));
        world.group(named("ip/inner").with_global(requests_per_day(9)));
        for path in ["closed/a", "ip/inner/a", "ip/a/b", "none/a", "a"] {
            let denied = nobody(world, path).check(None, requests(1));
            assert_eq!(*reason(&denied), DenialReason::KeyUnknown, "{path}");
        }
        nobody(world, "ip/inner").denied(None, requests(1));
    });

    suite.story("a_group_within_a_group_may_be_open", |world| {
        plan(world, "each", requests_per_minute(2));
        world.group(named("acme").with_global(requests_per_minute(3)));
        world.group(opened("acme/ip", requests_per_day(9)));
        nobody(world, "acme/ip/a").admit(None, 2).denied(None, requests(1));
        nobody(world, "acme/ip/b").admit(None, 1).denied(None, requests(1));
    });

    // What it has used is shown while its windows last, but no account and no history.
    suite.story("an_admin_reads_what_it_has_used", |world| {
        open(world, requests_per_minute(2), requests_per_day(9));
        let key = nobody(world, "ip/a");
        for expected in [0, 1, 2] {
            let global = key.global();
            let counts: Vec<_> = global.rules.iter().map(|it| (it.used, it.limit)).collect();
            assert_eq!(
                (counts, global.account),
                (vec![(expected, 2)], limiter_core::Charge::NOTHING)
            );
            if expected < 2 {
                key.admit(None, 1);
            }
        }
        assert_eq!(key.spent(), 0);
        assert!(key.history(7).is_empty());
        assert_eq!(key.after(MINUTE).global().rules[0].used, 0);
        let read = world.keys().get(&key.id).wait();
        assert!(matches!(read, Err(KeysError::NotFound(_))), "it has no record: {read:?}");
    });

    // A day's limit has counted, and the changed plan has none: by that the key would be over.
    suite.story("whether_it_is_there_counts_as_before_its_plan_changed", |world| {
        open(world, requests_per_day(5), requests_per_day(9));
        let key = nobody(world, "ip/a");
        key.admit(None, 1);
        save(world, PlanUpdate::new(name("each"), Plan::from(Limits::NONE)).at_once());
        let reserved = key.try_reserve("r1", None, requests(0), DAY).expect("it is there");
        assert!(reserved.is_allowed(), "{reserved:?}");
    });

    suite.story("what_concerns_registered_keys_does_not_find_it", |world| {
        open(world, requests_per_minute(2), requests_per_day(9));
        let key = nobody(world, "ip/a");
        key.admit(None, 2);
        assert_refused!(world.keys().reset(&key.id).wait(), KeysError::NotFound(_));
        assert_refused!(key.try_delete(), KeysError::NotFound(_));
        let page = world.keys().search(&limiter_core::Search::default()).wait().expect("a page");
        assert!(page.keys.iter().all(|record| record.id != key.id));
        key.denied(None, requests(1));
    });

    // Also where the group denies it, and where the call makes no request.
    suite.story("a_call_that_is_denied_or_makes_no_request_leaves_no_trace", |world| {
        open(world, limits(|it| it.tokens_per_day(5)), requests_per_minute(1));
        let key = nobody(world, "ip/a");
        key.denied(None, tokens(6, 0));
        nobody(world, "ip/b").admit(None, 1);
        key.denied(None, requests(1));
        let top_up = tokens(4, 0).with_requests(0).expect("no request");
        assert!(key.check(None, top_up).is_allowed());
        assert_eq!(key.global().rules[0].used, 0);
        assert!(key.after(MINUTE).check(None, tokens(5, 0)).is_allowed());
        key.denied(None, tokens(1, 0));
    });

    suite.story("a_call_of_no_request_cannot_be_remembered_of_a_key_without_a_state", |world| {
        open(world, requests_per_minute(2), requests_per_day(9));
        let key = nobody(world, "ip/a");
        let top_up = tokens(4, 0).with_requests(0).expect("no request");
        let reserved = key.try_reserve("r1", None, top_up, DAY).expect("the store answers");
        assert_eq!(*reason(&reserved), DenialReason::KeyUnknown);
        key.reserve("r1", requests(1)).reserve("r2", top_up);
        let settled = nobody(world, "ip/b").try_settle("r1", limiter_core::Totals::unchanged());
        assert_refused!(settled, ReservationError::Unknown(_));
    });

    suite.story("its_reservations_are_settled_after_its_windows", |world| {
        let group = open(world, limits(|it| it.tokens_per_minute(9)), requests_per_day(9));
        let key = nobody(world, "ip/a");
        key.reserve("r1", tokens(5, 0)).after(MINUTE);
        let actual = limiter_core::Totals::unchanged().with_input_tokens(2).expect("a total");
        let settled = key.try_settle("r1", actual).expect("it is remembered");
        assert_eq!(settled.charge.map(|charge| charge.input_tokens()), Some(2));
        assert_eq!(group.global().account.input_tokens(), 2);
    });

    suite.story("a_changed_plan_comes_with_the_next_window_or_at_once", |world| {
        open(world, requests_per_minute(1), requests_per_day(99));
        let key = nobody(world, "ip/a");
        key.admit(None, 1);
        plan(world, "each", requests_per_minute(3));
        key.denied(None, requests(1)).after(MINUTE).admit(None, 3).denied(None, requests(1));
        let raised = Plan::default().with_global(requests_per_minute(5));
        save(world, PlanUpdate::new(name("each"), raised).at_once());
        key.admit(None, 2).denied(None, requests(1));
    });

    suite.story("a_group_that_is_closed_forgets_nobody_and_another_plan_is_a_change", |world| {
        let group = open(world, requests_per_minute(1), requests_per_day(99));
        plan(world, "more", requests_per_minute(3));
        let key = nobody(world, "ip/a");
        key.admit(None, 1);
        group.update(|config| config.open = None);
        assert_eq!(*reason(&key.check(None, requests(1))), DenialReason::KeyUnknown);
        group.update(|config| config.open = Some(name("more")));
        key.denied(None, requests(1)).after(MINUTE).admit(None, 3).denied(None, requests(1));
    });

    suite.story("a_key_that_is_registered_begins_anew_and_so_does_one_that_is_deleted", |world| {
        open(world, requests_per_day(1), requests_per_day(99));
        let key = nobody(world, "ip/a");
        key.admit(None, 1).denied(None, requests(1));
        let registered = world.member_at(named("ip/a").with_global(requests_per_day(2)));
        registered.admit(None, 2).denied(None, requests(1));
        assert_eq!((registered.calls(), registered.history(1).len()), (2, 1));
        registered.delete();
        key.admit(None, 1).denied(None, requests(1));
        assert!(key.history(1).is_empty());
    });

    // Its slot went with what it was before: nobody could end that reservation any more.
    suite.story("a_key_that_is_registered_holds_no_slot_of_before", |world| {
        open(world, limits(|it| it.requests_per_minute(9).parallel(1)), requests_per_day(99));
        nobody(world, "ip/a").reserve("r1", requests(1));
        let registered = world.member_at(named("ip/a").with_global(limits(|it| it.parallel(1))));
        registered.reserve("r2", requests(1));
    });

    suite.story("a_group_that_is_deleted_leaves_no_keys_that_nobody_registered", |world| {
        let group = open(world, requests_per_day(2), requests_per_day(99));
        let key = nobody(world, "ip/a");
        key.admit(None, 1).reserve("r1", requests(1));
        group.delete();
        assert_eq!(*reason(&key.check(None, requests(1))), DenialReason::KeyUnknown);
        let reserved = key.try_reserve("r2", None, requests(1), DAY).expect("the store answers");
        assert_eq!(*reason(&reserved), DenialReason::KeyUnknown);
        let settled = key.try_settle("r1", limiter_core::Totals::unchanged());
        assert_refused!(settled, ReservationError::KeyUnknown);
    });

    suite.story("opening_a_group_under_the_name_of_another_changes_nothing", |world| {
        let config = named("ip").with_global(requests_per_minute(7));
        let created = world.try_create(limiter_core::NewKey::group(key_id("team"), config.clone()));
        let before = created.expect("it is new").record;
        let each = Plan::from(requests_per_minute(1));
        let opened = world.keys().open(key_id("ip"), each, requests_per_day(9)).wait();
        assert_refused!(opened, KeysError::NameTaken(_));
        assert_eq!(world.keys().get(&before.id).wait().expect("the group").config, config);
        assert_refused!(world.keys().plan(&name("ip")).wait(), KeysError::NoPlan(_));
    });

    suite.story("a_group_that_cannot_be_opened_leaves_its_plan_as_it_is", |world| {
        let open = |each, group| world.keys().open(key_id("ip"), Plan::from(each), group).wait();
        open(requests_per_minute(1), requests_per_day(9)).expect("it is bounded");
        let unlimited = open(requests_per_minute(2), tokens_per_minute(9));
        assert_refused!(unlimited, KeysError::Invalid(InvalidValue::OpenUnlimited));
        let monthly = open(limits(|it| it.requests_per_month(9)), requests_per_day(9));
        assert_refused!(monthly, KeysError::Invalid(InvalidValue::OpenPlan { .. }));
        assert_eq!(world.keys().plan(&name("ip")).wait().expect("it is there").version, 1);
    });

    for (story, limits, is_open) in [
        ("its_requests_per_minute", requests_per_minute(9), true),
        ("its_requests_per_day", requests_per_day(9), true),
        ("its_requests_per_week", limits(|it| it.requests_per_week(9)), false),
        ("its_tokens", tokens_per_minute(9), false),
        ("nothing", Limits::NONE, false),
    ] {
        let story = format!("whether_a_group_may_be_open_that_limits_{story}");
        suite.story(&story, move |world| {
            plan(world, "each", requests_per_minute(1));
            let created = try_group(world, opened("ip", limits));
            match is_open {
                true => drop(created.expect("it is bounded")),
                false => {
                    assert_refused!(created, KeysError::Invalid(InvalidValue::OpenUnlimited));
                }
            }
        });
    }

    suite.story("no_change_takes_away_the_limit_that_bounds_an_open_group", |world| {
        let group = open(world, requests_per_minute(1), requests_per_minute(9));
        let unlimited = group.try_update(|config| config.global = Limits::NONE);
        assert_refused!(unlimited, KeysError::Invalid(InvalidValue::OpenUnlimited));
        // There would be none from the end of this minute until tomorrow.
        let later = group.try_update(|config| config.global = requests_per_day(9));
        assert_refused!(later, KeysError::Invalid(InvalidValue::OpenUnlimited));
        let shadow = group.try_update(|config| config.shadow = true);
        assert_refused!(shadow, KeysError::Invalid(InvalidValue::OpenInShadow));
        group.update(|config| config.global = requests_per_minute(2));
        group.update_now(|config| config.global = requests_per_day(9));
        group.update(|config| (config.open, config.global) = (None, Limits::NONE));
    });

    suite.story("a_plan_of_unregistered_keys_has_no_window_above_a_day", |world| {
        let monthly = limits(|it| it.requests_per_month(9));
        plan(world, "each", monthly.clone());
        let refused = |error| matches!(error, KeysError::Invalid(InvalidValue::OpenPlan { .. }));
        let created = try_group(world, opened("ip", requests_per_day(9)));
        assert!(created.is_err_and(refused));
        let group = open(world, requests_per_minute(1), requests_per_day(9));
        let saved = |limits: Limits| {
            let plan = Plan::default().with_asset(asset("m1"), limits);
            world.keys().save_plan(PlanUpdate::new(name("each"), plan)).wait()
        };
        assert!(saved(monthly.clone()).is_err_and(refused));
        saved(requests_per_minute(2)).expect("it is as short");
        group.update(|config| config.open = None);
        saved(monthly).expect("no group is open with it");
    });

    suite.story("a_plan_with_which_a_group_is_open_is_in_use", |world| {
        let group = open(world, requests_per_minute(1), requests_per_day(9));
        let deleted = world.keys().delete_plan(&name("each")).wait();
        assert_refused!(deleted, KeysError::PlanInUse(_));
        group.update(|config| config.open = None);
        world.keys().delete_plan(&name("each")).wait().expect("nobody has it");
        let opened = group.try_update(|config| config.open = Some(name("each")));
        assert_refused!(opened, KeysError::NoPlan(_));
    });

    suite.story("only_groups_can_be_open", |world| {
        plan(world, "each", requests_per_minute(1));
        let key = world.member(named("ci").with_global(requests_per_day(9)));
        let opened = key.try_update(|config| config.open = Some(name("each")));
        assert_refused!(opened, KeysError::Invalid(InvalidValue::OpenKey));
        let config = named("chat").with_open(name("each")).with_global(requests_per_day(9));
        let created = world.keys().create(limiter_core::NewKey::member(config)).wait();
        assert_refused!(created, KeysError::Invalid(InvalidValue::OpenKey));
    });

    suite.story("the_configuration_of_an_open_group_is_read_as_it_was_saved", |world| {
        let group = open(world, requests_per_minute(1), requests_per_day(9));
        let config = group.read().config;
        assert_eq!(config.open, Some(name("each")));
        let json = serde_json::to_string(&config).expect("a configuration is JSON");
        assert_eq!(serde_json::from_str::<KeyConfig>(&json).ok(), Some(config));
    });

    // The message says whose limit it is and when to retry, and so does the value for programs.
    suite.story("callers_that_nobody_registered_do_not_see_the_figures_of_groups", |world| {
        open(world, requests_per_minute(9), requests_per_minute(2));
        let key = nobody(world, "ip/a");
        let allowed = key.admit(None, 1).check(None, requests(1));
        let shown: Vec<_> = allowed.shown_rules().map(|state| state.group).collect();
        assert_eq!((shown, allowed.rules().count()), (vec![None], 2));
        let denied = key.check(None, requests(1));
        let told = denied.denied().expect("the group is full").to_string();
        assert_eq!(
            told,
            "ip/a: no more requests per minute are left for group ip, this call asks for 1, reset at \
             2025-10-09T12:01:00Z. Retry at 2025-10-09T12:01:00Z"
        );
        let json = serde_json::to_value(&denied).expect("a decision is JSON");
        assert!(json["violated"].as_array().is_some_and(Vec::is_empty), "{json}");
        let registered = world.member_at(named("ip/b"));
        let told = registered.check(None, requests(1)).denied().expect("full").to_string();
        assert!(told.contains("2 of 2 requests per minute are used for group ip"), "{told}");
    });
}

/// A group that is open with the plan `each`.
fn open(world: &World, each: Limits, group: Limits) -> Key<'_> {
    plan(world, "each", each);
    world.group(opened("ip", group))
}

fn try_group(world: &World, config: KeyConfig) -> Result<limiter_core::CreatedKey, KeysError> {
    world.try_create(limiter_core::NewKey::group(key_id(config.name.as_str()), config))
}

fn opened(path: &str, limits: Limits) -> KeyConfig {
    named(path).with_open(name("each")).with_global(limits)
}

fn plan(world: &World, plan: &str, limits: Limits) -> PlanName {
    save(world, PlanUpdate::new(name(plan), Plan::default().with_global(limits)));
    name(plan)
}

/// An unregistered key.
fn nobody<'w>(world: &'w World, path: &str) -> Key<'w> {
    Key { world, id: key_id(path) }
}
