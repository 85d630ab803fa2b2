//! Many callers manage keys at once: what must happen once happens once.

use limiter_core::{Credits, DenialReason, KeyConfig, KeysError, NewKey};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_workspace_is_bootstrapped_once", |world| {
        let store = managed(world.empty_store());
        let outcomes = at_once(CALLERS, |caller| {
            let admin = NewKey::admin(named(&format!("admin {caller}")));
            store.bootstrap(workspace("home"), admin).wait()
        });
        one_succeeds(&outcomes, |error| matches!(error, KeysError::AlreadyBootstrapped));
    });

    type Race = (&'static str, fn(String) -> NewKey, fn(&KeysError) -> bool);
    let races: [Race; 3] = [
        (
            "a_name_is_given_once",
            |_| member("ci"),
            |error| matches!(error, KeysError::NameTaken(name) if name == "ci"),
        ),
        (
            "an_id_is_given_once",
            |name| member(&name).with_id(key_id("chosen")),
            |error| matches!(error, KeysError::IdTaken(_)),
        ),
        (
            "an_access_key_is_taken_once",
            |name| member(&name).with_access_key(access_key("brought-by-eight-tasks")),
            |error| matches!(error, KeysError::AccessKeyTaken),
        ),
    ];
    for (name, new, is_expected) in races {
        suite.story(name, move |world| {
            let create = |caller| world.try_create(new(format!("key {caller}")));
            one_succeeds(&at_once(CALLERS, create), is_expected);
        });
    }

    suite.story("of_admins_that_delete_each_other_one_remains", |world| {
        for round in 0..ROUNDS {
            let home = format!("home {round}");
            let one = world.admin_of(&home);
            let other = NewKey::admin(named("other")).without_access_key();
            let other = one.keys().create(other).wait().expect("an admin creates admins").record.id;
            let pair = [(&one.id, &other), (&other, &one.id)];
            let outcomes = at_once(CALLERS, |caller| {
                let (caller, victim) = pair[caller % 2];
                world.store.keys_as(caller).delete(victim).wait()
            });
            assert_eq!(outcomes.iter().flatten().count(), 1, "{home}");
        }
    });

    // Each of 8 × 20 top-ups is made from the version that was read, and made again after a conflict.
    suite.story("no_update_is_lost", |world| {
        let key = world.member(named("ci").with_budget(Credits::ZERO));
        at_once(CALLERS, |_| (0..ROUNDS).for_each(|_| top_up(&key)));
        let (record, expected) = (key.read(), (CALLERS * ROUNDS) as u64);
        assert_eq!(record.config.budget().map(Credits::millionths), Some(expected));
        assert_eq!(record.version, 1 + expected);
    });

    // Each caller sees allowed calls, then an unknown key, and never an allowed call again.
    suite.story("deletion_ends_calls_in_full_run", |world| {
        let key = world.limited(requests_per_day(1_000_000));
        at_once(CALLERS, |caller| {
            if caller == 0 {
                key.delete().denied(None, requests(1));
                return;
            }
            let mut deleted = false;
            for _ in 0..500 {
                match key.check(None, requests(1)).denied() {
                    None => assert!(!deleted, "a deleted key makes a call"),
                    Some(denied) => {
                        assert_eq!(denied.reason(), &DenialReason::KeyUnknown);
                        deleted = true;
                    }
                }
            }
        });
    });
}

fn one_succeeds<R>(outcomes: &[Result<R, KeysError>], is_expected: impl Fn(&KeysError) -> bool) {
    let refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert_eq!(refused.filter(|error| is_expected(error)).count(), CALLERS - 1);
    assert_eq!(outcomes.iter().flatten().count(), 1);
}

fn top_up(key: &Key<'_>) {
    let raise = |config: &mut KeyConfig| {
        let budget = config.budget().map_or(0, Credits::millionths);
        set_budget(config, Some(millionths(budget + 1)));
    };
    loop {
        match key.try_update(raise) {
            Ok(_) => return,
            Err(KeysError::Conflict { expected, actual }) => assert!(expected < actual),
            Err(error) => panic!("{error}"),
        }
    }
}

const ROUNDS: usize = 20;
