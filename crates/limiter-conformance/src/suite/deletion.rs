//! Deletion takes effect at once, for every caller, and for ever.

use limiter_core::{DenialReason, KeysError, NewKey};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_deleted_key_makes_no_calls", |world| {
        let key = world.member(named("ci"));
        is_unknown(key.admit("m1", 1).delete());
    });

    suite.story("a_deleted_key_is_not_authenticated", |world| {
        let created = world.create(NewKey::member(named("ci")));
        let secret = created.access_key.expect("an access key was made");
        world.key(created.record.id).delete();
        let resolved = world.store.authenticate(&secret).wait();
        assert_eq!(resolved.expect("the store answers"), None);
        assert_refused!(world.keys().get_by_access_key(&secret).wait(), KeysError::NotFound(_));
    });

    suite.story("nothing_is_left_to_read_of_a_deleted_key", |world| {
        let key = world.limited(requests_per_day(5));
        key.delete();
        assert_eq!(world.store.usage(&key.id).wait().expect("the store answers"), None);
        assert_refused!(world.keys().usage(&key.id).wait(), KeysError::NotFound(_));
        assert_refused!(world.keys().get(&key.id).wait(), KeysError::NotFound(_));
    });

    // Neither an update, nor a second deletion, nor time brings the key back.
    suite.story("a_deleted_key_stays_deleted", |world| {
        let key = world.member(named("ci"));
        let record = key.read();
        key.delete();
        let updated = world.keys().update(&key.id, record.version, &record.config()).wait();
        assert_refused!(updated, KeysError::NotFound(_));
        assert_refused!(key.try_delete(), KeysError::NotFound(_));
        is_unknown(key.after(DAY));
    });

    suite.story("a_deletion_leaves_other_keys_alone", |world| {
        let gone = world.member(named("ci"));
        let other = world.member(named("other").with_global(requests_per_day(5)));
        other.admit(None, 2);
        let before = (other.usage(), other.read());
        gone.delete();
        assert_eq!((other.usage(), other.read()), before);
    });
}

fn is_unknown(key: &Key<'_>) {
    for decision in [key.check("m1", requests(1)), key.peek("m1", requests(1))] {
        assert_eq!(reason(&decision), &DenialReason::KeyUnknown);
    }
}
