//! The management of plans: names, versions, rights and workspaces.

use limiter_core::{
    Effective, KeyConfig, KeyRecord, KeysError, NewKey, Other, Plan, PlanRecord, PlanUpdate,
    Thresholds, Unit, Window,
};

use super::plans::{free, name, on_free, save};
use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // As a value and as JSON.
    suite.story("a_plan_is_read_as_it_was_saved", |world| {
        let all = limits(|it| it.requests_per_minute(1).tokens_per_day(9).parallel(2));
        let plan = Plan::default().with_global(all.clone()).with_asset(asset("m1"), all.clone());
        let plan = plan.with_asset(asset("m2"), limits(|it| it)).with_other(Other::Denied);
        let plan = plan.with_budget(millionths(7)).with_thresholds(Thresholds::NONE);
        let plan = plan.with_time_zone("Europe/Berlin".parse().expect("a zone"));
        world.at(1_000);
        for (at, (version, plan)) in (1..).zip([Plan::default(), plan.clone()]).enumerate() {
            world.at(1_000 + at as i64);
            let saved = save(world, PlanUpdate::new(name("free"), plan.clone()));
            let read = world.keys().plan(&name("free")).wait().expect("it is there");
            for record in [&saved, &read] {
                assert_eq!((&record.plan, record.version), (&plan, version));
                assert_eq!((&record.name, &record.workspace), (&name("free"), &workspace("home")));
                assert_eq!(record.created_at, at_noon_and(1_000));
                assert_eq!(record.changed_at, at_noon_and(1_000 + at as i64));
                let json = serde_json::to_string(record).expect("a record is JSON");
                assert_eq!(serde_json::from_str::<PlanRecord>(&json).ok().as_ref(), Some(record));
            }
        }
        world.at(9_000);
        let again = save(world, PlanUpdate::new(name("free"), plan.clone()));
        assert_eq!((again.version, again.changed_at), (2, at_noon_and(1_001)));
        let json = serde_json::to_string(&plan).expect("a plan is JSON");
        assert_eq!(serde_json::from_str::<Plan>(&json).ok(), Some(plan));
    });

    suite.story("the_configuration_of_a_key_with_a_plan_is_read_as_it_was_saved", |world| {
        save(world, free(requests_per_minute(1)));
        let lifted = limits(|it| {
            it.unlimited(Window::Minute, Unit::Requests)
                .unlimited(Window::Ever, Unit::Credits)
                .unlimited_parallel()
                .tokens_per_day(7)
        });
        let configs: [KeyConfig; 4] = [
            on_free("a"),
            on_free("b").with_global(requests_per_minute(1)).with_expiry(NOON.after(DAY)),
            on_free("c").with_global(lifted.clone()).with_other(lifted.clone()),
            named("d").with_asset(asset("m1"), lifted).with_shadow(true),
        ];
        for config in configs {
            let key = world.member(config.clone());
            let record = key.read();
            assert_eq!(record.config, config);
            let json = serde_json::to_string(&record).expect("a record is JSON");
            assert_eq!(serde_json::from_str::<KeyRecord>(&json).ok(), Some(record));
            save(world, free(requests_per_minute(2)).at_once());
            key.admit(None, 1);
            let same = key.update(|_| {});
            assert_eq!((same.config, same.version), (config, 1));
            save(world, free(requests_per_minute(1)));
        }
    });

    suite.story("plans_are_listed_by_name", |world| {
        for plan in ["pro", "free", "Pro", "é"] {
            save(world, PlanUpdate::new(name(plan), Plan::default()));
        }
        assert_eq!(names(world), ["Pro", "free", "pro", "é"]);
        world.keys().delete_plan(&name("free")).wait().expect("no key has it");
        assert_eq!(names(world), ["Pro", "pro", "é"]);
        assert_refused!(world.keys().plan(&name("free")).wait(), KeysError::NoPlan(_));
    });

    suite.story("a_plan_in_use_is_not_deleted_before_the_last_key_has_left_it", |world| {
        save(world, free(requests_per_minute(1)));
        save(world, PlanUpdate::new(name("pro"), Plan::default()));
        let group = world.group(on_free("acme"));
        let [deleted, moved] = ["deleted", "moved"].map(|key| world.member(on_free(key)));
        let expired = world.member(on_free("expired").with_expiry(NOON));
        let delete = || world.keys().delete_plan(&name("free")).wait();
        let leave: [&dyn Fn(); 4] = [
            &|| {
                deleted.delete();
            },
            &|| drop(moved.update(|config| config.plan = Some(name("pro")))),
            &|| drop(group.update(|config| config.plan = None)),
            &|| drop(expired.update(|config| config.plan = None)),
        ];
        for leave in leave {
            assert_refused!(delete(), KeysError::PlanInUse(plan) if plan == name("free"));
            leave();
        }
        delete().expect("no key has it");
        assert_refused!(delete(), KeysError::NoPlan(plan) if plan == name("free"));
        moved.after(MINUTE).admit(None, 9);
    });

    // It has the counts of none before it.
    suite.story("a_plan_that_is_made_again_is_another_one", |world| {
        save(world, free(requests_per_minute(1)).at_once());
        let key = world.member(on_free("ci"));
        key.update(|config| config.plan = None);
        world.keys().delete_plan(&name("free")).wait().expect("no key has it");
        assert_eq!(save(world, free(requests_per_minute(2))).version, 1);
        key.update_now(|config| config.plan = Some(name("free")));
        key.admit(None, 2).denied(None, requests(1));
    });

    suite.story("a_key_cannot_have_a_plan_that_there_is_not", |world| {
        let key = world.member(named("ci"));
        let gone = |plan: &KeysError| matches!(plan, KeysError::NoPlan(it) if *it == name("free"));
        let refused = world.try_create(NewKey::member(on_free("other"))).expect_err("no plan");
        assert!(gone(&refused), "{refused:?}");
        let refused = key.try_update(|config| config.plan = Some(name("free")));
        assert!(refused.as_ref().is_err_and(gone), "{refused:?}");
        let new = NewKey::member(on_free("ci"));
        let refused = world.keys().upsert(new, Effective::Now).wait().map(drop);
        assert!(refused.as_ref().is_err_and(gone), "{refused:?}");
        // Before all that is wrong with the key.
        let refused = world.try_create(at_path(on_free("acme/ci"))).expect_err("no plan");
        assert!(gone(&refused), "{refused:?}");
        assert_eq!((world.names(), key.read().version), (words(&["ci", "first admin"]), 1));
    });

    // 0 is that of a plan that there is not yet.
    suite.story("a_stale_change_of_a_plan_is_a_conflict_that_writes_nothing", |world| {
        let from = |version| {
            let update = free(requests_per_minute(version + 1)).from_version(version);
            world.keys().save_plan(update).wait().map(|record| record.version)
        };
        assert_refused!(from(1), KeysError::NoPlan(_));
        assert_eq!(from(0).ok(), Some(1));
        assert_eq!(from(1).ok(), Some(2));
        let before = world.keys().plan(&name("free")).wait().ok();
        assert_refused!(from(0), KeysError::Conflict { expected: 0, actual: 2 });
        assert_refused!(from(1), KeysError::Conflict { expected: 1, actual: 2 });
        assert_refused!(from(3), KeysError::Conflict { expected: 3, actual: 2 });
        assert_eq!(world.keys().plan(&name("free")).wait().ok(), before);
    });

    // A plan of the same name there is another one.
    suite.story("the_plans_of_another_workspace_are_not_there", |world| {
        let stranger = world.admin_of("elsewhere");
        let theirs = stranger.keys().save_plan(free(requests_per_minute(1))).wait();
        assert_eq!(theirs.map(|plan| plan.workspace).ok(), Some(workspace("elsewhere")));
        assert_refused!(world.keys().plan(&name("free")).wait(), KeysError::NoPlan(_));
        assert_refused!(world.keys().delete_plan(&name("free")).wait(), KeysError::NoPlan(_));
        assert_refused!(world.try_create(NewKey::member(on_free("ci"))), KeysError::NoPlan(_));
        assert!(names(world).is_empty());
        save(world, free(requests_per_minute(2)));
        world.member(on_free("ci")).admit(None, 2).denied(None, requests(1));
        let their_key = NewKey::member(on_free("ci")).without_access_key();
        let their_key = stranger.keys().create(their_key).wait().expect("an admin creates keys");
        world.key(their_key.record.id).admit(None, 1).denied(None, requests(1));
        world.keys().plan(&name("free")).wait().expect("it is there");
    });
}

fn names(world: &World) -> Vec<String> {
    let plans = world.keys().plans().wait().expect("an admin lists plans");
    plans.iter().map(|plan| plan.name.to_string()).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}
