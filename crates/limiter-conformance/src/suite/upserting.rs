//! An upsert creates the key of a name, or updates it whatever its version.

use limiter_core::{Effective, KeysError, NewKey, Upserted};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("an_upsert_says_whether_it_created_or_updated", |world| {
        let upsert = |limit, effective| {
            let config = named("ci").with_global(requests_per_minute(limit));
            world.keys().upsert(NewKey::member(config), effective).wait()
        };
        let Ok(Upserted::Created(created)) = upsert(1, Effective::Next) else {
            panic!("there is no such key yet")
        };
        let key = world.key(created.record.id);
        key.admit(None, 1).update(|config| config.shadow = true);
        for (limit, effective, version) in [(2, Effective::Now, 3), (2, Effective::Next, 3)] {
            let Ok(Upserted::Updated(updated)) = upsert(limit, effective) else {
                panic!("there is such a key")
            };
            assert_eq!((&updated.record.id, updated.record.version), (&key.id, version));
        }
        key.admit(None, 1).denied(None, requests(1));
    });

    suite.story("an_upsert_does_not_turn_a_member_into_an_admin", |world| {
        let key = world.member(named("ci"));
        let before = key.read();
        let refused = world.keys().upsert(NewKey::admin(named("ci")), Effective::Next).wait();
        assert_refused!(refused, KeysError::NameTaken(_));
        assert_eq!(key.read(), before);
    });

    // One of them creates it.
    suite.story("upserts_that_race_make_one_key", |world| {
        let upserted = at_once(CALLERS, |caller| {
            let config = named("ci").with_global(requests_per_day(caller as u64));
            world.keys().upsert(NewKey::member(config), Effective::Next).wait()
        });
        let created = upserted.iter().filter(|it| matches!(it, Ok(Upserted::Created(_))));
        assert_eq!(created.count(), 1, "{upserted:?}");
        assert_eq!(world.names(), ["ci", "first admin"]);
    });
}
