//! Deletion takes effect at once, for every caller and for ever, and of the deleted key only.

use limiter_core::{DenialReason, KeysError, NewKey};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // Neither an update, nor a second deletion, nor time brings the key back.
    suite.story("nothing_is_left_of_a_deleted_key", |world| {
        let limited = named("ci").with_global(requests_per_day(5));
        let (key, secret) = world.with_access_key(NewKey::member(limited));
        let record = key.admit("m1", 1).read();
        key.delete();
        let updated = world.keys().update(&key.id, record.version, &record.config.clone()).wait();
        assert_refused!(updated, KeysError::NotFound(_));
        assert_refused!(key.try_delete(), KeysError::NotFound(_));
        for instant in [NOON, NOON.after(DAY)] {
            world.set_clock(instant);
            for decision in [key.check("m1", requests(1)), key.peek("m1", requests(1))] {
                assert_eq!(reason(&decision), &DenialReason::KeyUnknown);
            }
            assert_eq!(world.resolved(&secret), None);
            assert_eq!(world.store.usage(&key.id).wait().expect("the store answers"), None);
            assert_refused!(world.keys().usage(&key.id).wait(), KeysError::NotFound(_));
            assert_refused!(world.keys().get(&key.id).wait(), KeysError::NotFound(_));
            let by_secret = world.keys().get_by_access_key(&secret).wait();
            assert_refused!(by_secret, KeysError::NotFound(_));
        }
    });

    suite.story("a_deletion_leaves_other_keys_alone", |world| {
        let gone = world.member(named("ci"));
        let other = world.member(named("other").with_global(requests_per_day(5)));
        other.admit(None, 2);
        let before = (other.usage(), other.read());
        gone.delete();
        assert_eq!((other.usage(), other.read()), before);
    });

    // Each counts for itself, also where the place of a deleted key could be taken by another.
    suite.story("of_many_keys_each_is_itself", |world| {
        let count = if world.source.slowness < 100 { KEYS } else { KEYS / 10 };
        let new = (0..count).map(|number| {
            let config = named(&format!("key {number}")).with_global(requests_per_day(3));
            NewKey::member(config).without_access_key()
        });
        let created =
            world.keys().create_many(new.collect()).wait().expect("an admin creates keys");
        let ids = created.into_iter().map(|created| created.expect("the name is free").record.id);
        let mut keys: Vec<_> = (0..).zip(ids.map(|id| world.key(id))).collect();
        for (calls, key) in &keys {
            key.admit(None, calls % 4);
        }
        for all in [true, false] {
            for (calls, key) in &keys {
                assert_eq!(key.used()[2], u64::from(calls % 4), "{}", key.id);
            }
            if all {
                for (_, deleted) in keys.extract_if(.., |(calls, _)| *calls % 3 == 0) {
                    deleted.delete();
                }
            }
        }
    });
}

/// Enough that places are shared and taken again, whatever the store keeps its keys in.
const KEYS: usize = 1_000;
