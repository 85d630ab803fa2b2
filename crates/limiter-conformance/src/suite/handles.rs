//! Handles: a key and an asset, resolved once. They decide as calls by key do, and see each change of the key at once.

use limiter_core::{Charge, Decision, DecisionHandle, DecisionStore, DenialReason};

use super::many_keys;
use super::prelude::*;

pub(super) fn stories<T: StoreUnderTest>(suite: &mut Suite<T>) {
    // So do its clones.
    suite.story("a_handle_sees_the_deletion_of_its_key", |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(9)));
        let handles = [None, Some("m1"), Some("m2")].map(|called| of(&key, called));
        for handle in &handles {
            assert!(decide(handle).iter().all(Decision::is_allowed));
        }
        key.delete();
        for handle in handles.into_iter().flat_map(|handle| [handle.clone(), handle]) {
            is_unknown(&handle);
        }
    });

    suite.story("a_deleted_key_has_no_handle", |world| {
        let key = world.member(named("ci"));
        key.delete();
        let handle = world.engine.handle(&key.id, None).wait();
        assert!(handle.expect("the store answers").is_none());
    });

    suite.story("a_handle_does_not_pass_to_the_next_key_of_the_name", |world| {
        let key = world.member(named("ci"));
        let handle = of(&key, None);
        key.delete();
        world.member(named("ci"));
        is_unknown(&handle);
    });

    // All keys are deleted and as many created again, while the handles of the old ones are kept.
    suite.story("handles_of_deleted_keys_never_find_new_ones", |world| {
        let old = many_keys::create(world, "old");
        let handles: Vec<_> = old.iter().map(|key| of(key, None)).collect();
        for key in &old {
            key.delete();
        }
        let new = many_keys::create(world, "new");
        handles.iter().for_each(is_unknown);
        for key in &new {
            assert_eq!(key.used()[2], 0, "{}", key.id);
        }
    });

    // Each caller has a clone of one handle, or calls by key.
    suite.story("handles_and_keys_share_the_limit", |world| {
        let key = world.member(named("busy").with_global(requests_per_minute(1_000)));
        let handle = of(&key, None);
        let admitted = at_once(CALLERS, |caller| {
            let handle = handle.clone();
            let by_handle = || handle.check_and_consume(&requests(1)).wait().expect("an answer");
            let by_key = || key.check(None, requests(1));
            let calls = (0..500).map(|_| if caller % 2 == 0 { by_handle() } else { by_key() });
            calls.filter(Decision::is_allowed).count()
        });
        assert_eq!(admitted.iter().sum::<usize>(), 1_000);
    });

    // Each threshold fires for one call, by key or by handle.
    suite.story("a_call_through_a_handle_fires_thresholds", |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), requests_per_minute(5)));
        let handle = of(&key, Some("m1"));
        key.admit("m1", 3);
        let decision = handle.check_and_consume(&requests(1)).wait().expect("the store answers");
        assert_eq!(fired(&decision), ["80 % of m1/minute/requests"]);
        let peeked = handle.peek(&requests(1)).wait().expect("the store answers");
        for decision in [peeked, key.check("m1", requests(1))] {
            assert_eq!(fired(&decision), ["100 % of m1/minute/requests"]);
        }
    });

    suite.story("a_handle_lets_calls_through_in_shadow", |world| {
        let config = named("ci").with_asset(asset("m1"), requests_per_day(1));
        let key = world.member(config.with_shadow(true));
        let through = key.admit("m1", 1).check("m1", requests(1));
        assert!(through.shadowed().is_some());
        assert_eq!(decide(&of(&key, Some("m1"))), [through.clone(), through]);
        assert_eq!(key.usage().assets[0].usage.day.requests.used, 1);
    });

    suite.story("a_handle_sees_that_shadow_mode_begins_and_ends", |world| {
        let key = world.limited(requests_per_day(1));
        let handle = of(key.admit(None, 1), None);
        for shadow in [true, false, true] {
            key.update(|config| config.shadow = shadow);
            let decision = handle.check_and_consume(&requests(1)).wait().expect("an answer");
            assert_eq!((decision.is_allowed(), decision.is_charged()), (shadow, false));
        }
    });
}

/// The handle of a key and an asset.
pub(super) fn of<T: StoreUnderTest>(
    key: &Key<'_, T>,
    called: Option<&str>,
) -> <T::Store as DecisionStore>::Handle {
    let handle = key.world.engine.handle(&key.id, called.map(asset).as_ref()).wait();
    handle.expect("the store answers").expect("the key is known")
}

/// Makes a call of one request, and peeks at another.
fn decide(handle: &impl DecisionHandle) -> [Decision; 2] {
    let charge = Charge::request();
    let decisions = [handle.check_and_consume(&charge).wait(), handle.peek(&charge).wait()];
    decisions.map(|decision| decision.expect("the store answers"))
}

fn is_unknown(handle: &impl DecisionHandle) {
    for decision in decide(handle) {
        assert_eq!(reason(&decision), &DenialReason::KeyUnknown);
    }
}
