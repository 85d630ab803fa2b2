//! A rotation replaces the access key of a key, at once or after a grace time.

use std::time::Duration;

use limiter_core::{AccessKey, CreatedKey, InvalidValue, KeysError, Rotation, ScopeId};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("an_access_key_that_leaked_ends_at_once", |world| {
        let (key, leaked) = world.with_access_key(member("ci"));
        let new = rotated(&key, &Rotation::at_once());
        assert_eq!(world.resolved(&leaked), None);
        assert_eq!(world.resolved(&new), Some(key.id.clone()));
        let record = key.read();
        assert_eq!((record.access_key, record.replaced), (Some(new.masked()), Vec::new()));
    });

    // From that instant on it is refused; until then the record shows it.
    suite.story("an_old_access_key_works_to_the_end_of_its_grace", |world| {
        let (key, old) = world.with_access_key(member("ci"));
        let new = rotated(&key, &Rotation::with_grace(MINUTE));
        let shown = key.read().replaced;
        assert_eq!((shown[0].access_key, shown[0].works_until), (old.masked(), NOON.after(MINUTE)));
        for (ms, works) in [(0, true), (59_999, true), (60_000, false)] {
            world.at(ms);
            assert_eq!(world.resolved(&old), works.then(|| key.id.clone()), "{ms}");
            assert_eq!(world.resolved(&new), Some(key.id.clone()));
            assert_eq!(key.read().replaced.len(), usize::from(works));
        }
    });

    // Limits, counts and version are those of the key, whichever access key it has.
    suite.story("a_rotation_changes_nothing_but_the_access_key", |world| {
        let new = member("ci").with_id(key_id("ci"));
        let (key, _) = world.with_access_key(new);
        key.update(|config| config.global = generous());
        let (before, usage) = (key.admit(None, 3).read(), key.usage());
        world.at(5_000);
        let CreatedKey { record, .. } =
            world.keys().rotate(&key.id, &Rotation::at_once()).wait().expect("an admin rotates");
        assert_eq!((&record.config, record.version), (&before.config, before.version));
        assert_eq!((record.created_at, record.changed_at), (NOON, at_noon_and(5_000)));
        assert_eq!(key.read(), record);
        assert_eq!(key.usage().scope(&ScopeId::GLOBAL), usage.scope(&ScopeId::GLOBAL));
        // An update with the version from before the rotation is no conflict.
        let saved = world.keys().update(&key.id, before.version, &named("renamed")).wait();
        assert_eq!(saved.expect("it is the same version").record.access_key, record.access_key);
    });

    // If the answer to a rotation was lost, callers can still use the first access key after a second rotation.
    suite.story("each_replaced_access_key_has_a_grace_of_its_own", |world| {
        let (key, first) = world.with_access_key(member("ci"));
        let second = rotated(&key, &Rotation::with_grace(MINUTE));
        world.at(30_000);
        let third = rotated(&key, &Rotation::with_grace(MINUTE));
        let working = || [&first, &second, &third].map(|secret| world.resolved(secret).is_some());
        assert_eq!(working(), [true; 3]);
        world.at(60_000);
        assert_eq!(working(), [false, true, true]);
        rotated(&key, &Rotation::at_once());
        assert_eq!(working(), [false; 3]);
    });

    suite.story("a_key_has_at_most_four_replaced_access_keys", |world| {
        let (key, first) = world.with_access_key(member("ci"));
        let mut secrets = vec![first];
        for _ in 0..5 {
            secrets.push(rotated(&key, &Rotation::with_grace(MINUTE)));
        }
        let works = |secret| world.resolved(secret).is_some();
        assert_eq!(
            secrets.iter().map(works).collect::<Vec<_>>(),
            [false, true, true, true, true, true]
        );
        assert_eq!(key.read().replaced.len(), 4);
    });

    // Not while it works; after that its time is over, and it may come back.
    suite.story("an_access_key_is_given_once_while_it_works", |world| {
        let (one, other) = ("the-first-access-key", "the-other-access-key");
        let (key, _) = world.with_access_key(member("ci").with_access_key(access_key(one)));
        let to = |secret| Rotation::with_grace(MINUTE).with_access_key(access_key(secret));
        assert_eq!(rotated(&key, &to(other)).expose(), other);
        for taken in [one, other] {
            let again = world.keys().rotate(&key.id, &to(taken)).wait();
            assert_refused!(again, KeysError::AccessKeyTaken);
            let created = world.try_create(member("next").with_access_key(access_key(taken)));
            assert_refused!(created, KeysError::AccessKeyTaken);
        }
        world.at(60_000);
        let (next, _) = world.with_access_key(member("next").with_access_key(access_key(one)));
        assert_eq!(world.resolved(&access_key(one)), Some(next.id.clone()));
        // The old key lets go of it without harm to the next one.
        key.delete();
        assert_eq!(world.resolved(&access_key(one)), Some(next.id.clone()));
    });

    suite.story("a_prefix_stays_unless_another_is_asked_for", |world| {
        let new = member("ci").with_prefix(prefix("sk-acme-"));
        let (key, first) = world.with_access_key(new);
        let second = rotated(&key, &Rotation::at_once());
        let third = rotated(&key, &Rotation::at_once().with_prefix(prefix("pk-")));
        for (secret, start) in [(first, "sk-acme-"), (second, "sk-acme-"), (third, "pk-")] {
            assert!(secret.expose().starts_with(start), "{secret}");
            assert!(secret.to_string().starts_with(start), "{secret}");
            assert_eq!(secret.expose().len(), start.len() + 36);
        }
        assert_eq!(key.read().access_key.and_then(|masked| masked.prefix()), Some(prefix("pk-")));
    });

    suite.story("a_brought_access_key_has_the_prefix_that_is_named", |world| {
        let brought = |secret| member("ci").with_access_key(access_key(secret));
        let named = |secret| brought(secret).with_prefix(prefix("sk-proj-"));
        let refused = world.try_create(named("pk-proj-0123456789abcdef"));
        assert_refused!(refused, KeysError::Invalid(InvalidValue::AccessKeyPrefix { .. }));
        let (key, _) = world.with_access_key(named("sk-proj-0123456789abcdef"));
        let shown = key.read().access_key.map(|masked| masked.to_string());
        assert_eq!(shown.as_deref(), Some("sk-proj-0123****cdef"));
    });

    // It is made for people whose old key works on; a week is enough for that.
    suite.story("a_grace_ends_within_a_week", |world| {
        let (key, old) = world.with_access_key(member("ci"));
        let longer = Rotation::with_grace(Rotation::MAX_GRACE + Duration::from_millis(1));
        let refused = world.keys().rotate(&key.id, &longer).wait();
        assert_refused!(refused, KeysError::Invalid(InvalidValue::TooLongGrace { .. }));
        assert_eq!(world.resolved(&old), Some(key.id.clone()), "nothing was changed");
        rotated(&key, &Rotation::with_grace(Rotation::MAX_GRACE));
    });

    suite.story("a_key_without_an_access_key_gets_one_and_a_group_does_not", |world| {
        let key = world.member(named("ci"));
        let secret = rotated(&key, &Rotation::at_once());
        assert_eq!(world.resolved(&secret), Some(key.id.clone()));
        let group = world.group(named("acme"));
        let refused = world.keys().rotate(&group.id, &Rotation::at_once()).wait();
        assert_refused!(refused, KeysError::Invalid(InvalidValue::GroupAccessKey));
    });

    // Each of them gets one that works until the next of them rotates.
    suite.story("rotations_that_race_leave_one_access_key", |world| {
        let (key, old) = world.with_access_key(member("ci"));
        let made = at_once(CALLERS, |_| world.keys().rotate(&key.id, &Rotation::at_once()).wait());
        let made = made.into_iter().filter_map(|made| made.ok()?.access_key);
        let working: Vec<_> = made.filter(|secret| world.resolved(secret).is_some()).collect();
        let [last] = &working[..] else { panic!("{working:?}") };
        assert_eq!(key.read().access_key, Some(last.masked()));
        assert_eq!(world.resolved(&old), None);
    });

    suite.story("a_deleted_key_answers_to_none_of_its_access_keys", |world| {
        let (key, old) = world.with_access_key(member("ci"));
        let new = rotated(&key, &Rotation::with_grace(MINUTE));
        key.delete();
        for secret in [&old, &new] {
            assert_eq!(world.resolved(secret), None);
            world.create(member(&secret.to_string()).with_access_key(secret.clone()));
        }
    });
}

/// Rotates the access key of a key, and returns the new one.
fn rotated(key: &Key<'_>, rotation: &Rotation) -> AccessKey {
    let rotated = key.world.keys().rotate(&key.id, rotation).wait();
    rotated.expect("an admin rotates access keys").access_key.expect("it is shown this once")
}
