//! Plans: a key or a group has the limits of its plan, and its own over them; a changed plan is one write.

use std::sync::{Arc, Mutex, PoisonError};

use limiter_core::{
    KeyConfig, KeyRecord, LateEvent, Limits, Plan, PlanName, PlanRecord, PlanUpdate, Thresholds,
    Unit, Window,
};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_key_has_the_limits_of_its_plan_and_its_own_over_them", |world| {
        save(world, free(limits(|it| it.requests_per_minute(2).requests_per_day(9))));
        let more = limits(|it| it.requests_per_minute(3).requests_per_hour(7));
        let [plain, more] = [named("plain"), named("more").with_global(more)]
            .map(|config| world.member(config.with_plan(name("free"))));
        plain.admit(None, 2).denied(None, requests(1));
        more.admit(None, 3).denied(None, requests(1));
        let rules = more.global().rules;
        let limits: Vec<_> = rules.iter().map(|it| (it.rule.window(), it.limit)).collect();
        let [minute, hour, day] = [Window::Minute, Window::Hour, Window::Day].map(Some);
        assert_eq!(limits, [(minute, 3), (hour, 7), (day, 9)]);
    });

    // Of an asset, of other assets and of open calls too.
    suite.story("unlimited_lifts_a_limit_of_the_plan", |world| {
        let one = limits(|it| it.requests_per_minute(1).parallel(1));
        let plan = Plan::default().with_global(one.clone()).with_asset(asset("m1"), one.clone());
        save(world, PlanUpdate::new(name("free"), plan.with_other(one)));
        let lifted = limits(|it| it.unlimited(Window::Minute, Unit::Requests).unlimited_parallel());
        let config = named("ci").with_plan(name("free")).with_global(lifted.clone());
        let key = world.member(config.clone());
        key.admit(None, 3).admit("m1", 1).denied("m1", requests(1));
        let lifted = config.with_asset(asset("m1"), lifted.clone()).with_other(lifted);
        let key = world.member(KeyConfig { name: named("all").name, ..lifted });
        key.admit("m1", 3).admit("m2", 3).reserve("r1", requests(1)).reserve("r2", requests(1));
    });

    suite.story("assets_zone_and_thresholds_are_those_of_the_plan_unless_set", |world| {
        let thresholds = Thresholds::new([50]).expect("one of 1 to 100");
        let plan = Plan::default().with_global(requests_per_minute(4)).with_thresholds(thresholds);
        let plan = plan.with_asset(asset("m1"), requests_per_minute(1));
        save(world, PlanUpdate::new(name("free"), plan));
        let key = world.member(on_free("ci"));
        key.fires(requests(1), []).fires(requests(1), ["50 % of global/minute/requests"]);
        key.admit("m1", 1).denied("m1", requests(1)).admit("m2", 1);
        let own = on_free("own").with_thresholds(Thresholds::NONE);
        world.member(own).fires(requests(4), []);
    });

    // One that has called in this window takes it with the next one; so does one that has not, and calls then first.
    suite.story("a_changed_plan_comes_with_the_next_window", |world| {
        save(world, free(requests_per_minute(1)));
        let [called, idle] = ["called", "idle"].map(|key| world.member(on_free(key)));
        called.admit(None, 1);
        save(world, free(requests_per_minute(3)));
        called.denied(None, requests(1));
        assert_eq!(called.global().rules[0].limit, 1);
        idle.after(MINUTE).admit(None, 3).denied(None, requests(1));
        called.admit(None, 3).denied(None, requests(1));
    });

    // Though the change was made after the window began.
    suite.story("a_window_takes_the_plan_as_it_is_at_its_first_step", |world| {
        save(world, free(requests_per_minute(1)));
        let key = world.member(on_free("ci"));
        key.admit(None, 1).at(60_000);
        save(world, free(requests_per_minute(2)));
        key.at(60_001).admit(None, 1);
        save(world, free(requests_per_minute(9)));
        key.at(60_002).admit(None, 1).denied(None, requests(1)).at(120_000).admit(None, 9);
    });

    suite.story("a_plan_that_changes_now_holds_at_the_next_call", |world| {
        save(world, free(requests_per_day(2)));
        let key = world.member(on_free("ci"));
        key.admit(None, 2).denied(None, requests(1));
        save(world, free(requests_per_day(3)).at_once());
        key.admit(None, 1).denied(None, requests(1));
        save(world, free(requests_per_day(9)));
        key.denied(None, requests(1));
        let waits = save(world, free(requests_per_day(9)).at_once());
        assert_eq!(waits.version, 4, "one that waits for the next window may be wanted at once");
        key.admit(None, 6).denied(None, requests(1));
    });

    // No key is written before it calls: its record and its version stay.
    suite.story("a_plan_is_raised_for_many_keys_with_one_write", |world| {
        save(world, free(requests_per_day(1)));
        let many = if world.source.slowness >= 100 { 20 } else { 200 };
        let keys: Vec<_> = (0..many).map(|n| world.member(on_free(&format!("ci {n}")))).collect();
        for key in &keys {
            key.admit(None, 1).denied(None, requests(1));
        }
        let raised = save(world, free(requests_per_day(2)).at_once());
        assert_eq!(raised.version, 2);
        for key in &keys {
            assert!(key.admits(), "also for a peek, which takes nothing");
            key.admit(None, 1).denied(None, requests(1));
            let KeyRecord { version, config, .. } = key.read();
            assert_eq!(
                (version, config.plan, config.global),
                (1, Some(name("free")), Limits::NONE)
            );
        }
    });

    suite.story("groups_have_plans_too", |world| {
        save(world, free(requests_per_minute(3)));
        save(
            world,
            PlanUpdate::new(name("one"), Plan::default().with_global(requests_per_minute(1))),
        );
        let acme = world.group(named("acme").with_plan(name("free")));
        let [ci, chat] = ["acme/ci", "acme/chat"].map(|path| world.member_at(named(path)));
        ci.admit(None, 2);
        chat.admit(None, 1).denied(None, requests(1));
        acme.update(|config| config.plan = Some(name("one")));
        ci.denied(None, requests(1)).after(MINUTE).admit(None, 1);
        chat.denied(None, requests(1));
        save(world, PlanUpdate::new(name("one"), free(requests_per_minute(2)).plan).at_once());
        chat.admit(None, 1).denied(None, requests(1));
        assert_eq!(acme.calls(), 5);
    });

    // As a change of its limits is: with the next window, or at once.
    suite.story("changing_the_plan_of_a_key_is_a_change_of_limits", |world| {
        save(world, free(requests_per_minute(1)));
        save(world, PlanUpdate::new(name("pro"), free(requests_per_minute(3)).plan));
        let key = world.member(on_free("ci"));
        let raised = key.admit(None, 1).update(|config| config.plan = Some(name("pro")));
        assert_eq!((raised.version, key.global().pending.len()), (2, 1));
        key.denied(None, requests(1)).after(MINUTE).admit(None, 3).denied(None, requests(1));
        key.update_now(|config| config.plan = None);
        key.admit(None, 9).update_now(|config| config.plan = Some(name("free")));
        key.admit(None, 1).denied(None, requests(1));
    });

    // With the step that takes the plan, and not with another one.
    suite.story("thresholds_that_a_changed_plan_reaches_fire_once", |world| {
        let late = late_thresholds(world);
        save(world, free(requests_per_day(100)));
        let key = world.member(on_free("ci"));
        key.admit(None, 9);
        save(world, free(requests_per_day(10)).at_once());
        assert!(key.peek(None, requests(1)).is_allowed());
        key.usage();
        assert!(late().is_empty(), "what is only read takes nothing");
        key.fires(requests(1), ["100 % of global/day/requests"]);
        assert_eq!(late(), ["80 % of global/day/requests"]);
        key.denied(None, requests(1)).denied(None, requests(1));
        assert!(late().is_empty());
        save(world, free(requests_per_day(12)).at_once());
        key.fires(requests(1), []);
        assert!(late().is_empty(), "80 % of another limit, which had been reached before");
    });

    // Before what the update itself reaches.
    suite.story("an_update_of_the_key_takes_its_plan_first", |world| {
        save(world, free(requests_per_day(100)));
        let key = world.member(on_free("ci"));
        key.admit(None, 9);
        save(world, free(requests_per_day(10)).at_once());
        key.updating_now_fires(
            |config| config.thresholds = Some(Thresholds::new([50, 80]).expect("two")),
            ["80 % of global/day/requests", "50 % of global/day/requests"],
        );
        key.fires(requests(1), []);
    });
}

/// Returns a function that returns the thresholds that the store has fired outside of answers since its last call.
fn late_thresholds(world: &World) -> impl Fn() -> Vec<String> + use<> {
    let fired = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&fired);
    world.store.listen(Box::new(move |_, event| {
        if let LateEvent::Crossed(crossed) = event {
            listener.lock().unwrap_or_else(PoisonError::into_inner).extend(in_words(crossed));
        }
    }));
    move || std::mem::take(&mut *fired.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Saves a plan of `home`.
pub(super) fn save(world: &World, plan: PlanUpdate) -> PlanRecord {
    world.keys().save_plan(plan).wait().expect("an admin saves plans")
}

/// The plan `free` with these limits over all calls of each key.
pub(super) fn free(global: Limits) -> PlanUpdate {
    PlanUpdate::new(name("free"), Plan::default().with_global(global))
}

/// A configuration of this name with the plan `free`.
pub(super) fn on_free(key: &str) -> KeyConfig {
    named(key).with_plan(name("free"))
}

pub(super) fn name(plan: &str) -> PlanName {
    plan.parse().expect("a name of 1 to 128 bytes")
}
