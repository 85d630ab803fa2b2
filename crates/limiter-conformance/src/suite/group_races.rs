//! Many keys of one group are called at once: what the group allows is admitted, and its count is the sum of theirs.

use std::collections::BTreeMap;

use limiter_core::{Decision, KeysError, NewKey, Search};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // The keys of one subgroup and of another, and those of the group itself.
    suite.story("tasks_on_the_keys_of_a_group_never_exceed_its_limit", |world| {
        for round in 0..ROUNDS {
            let root = format!("acme {round}");
            let group = world.group(named(&root).with_global(requests_per_minute(1_000)));
            let paths = keys_beneath(world, &root);
            let keys: Vec<_> = paths.iter().map(|path| world.member_at(named(path))).collect();
            let admitted = at_once(CALLERS, |caller| {
                let calls = (0..CALLS).map(|call| &keys[(caller + call) % keys.len()]);
                calls.filter(|key| key.check(None, requests(1)).is_allowed()).count()
            });
            assert_eq!(admitted.iter().sum::<usize>(), 1_000);
            assert_eq!((group.uses([1_000, 0, 1_000, 0]).calls(), sum(&keys)), (1_000, 1_000));
        }
    });

    // Each of the calls that are admitted leaves another rest.
    suite.story("tasks_see_each_rest_of_a_group_once", |world| {
        world.group(named("acme").with_global(requests_per_day(1_000)));
        let keys: Vec<_> =
            (0..CALLERS).map(|number| world.member_at(named(&format!("acme/{number}")))).collect();
        let admitted = at_once(CALLERS, |caller| {
            let decisions = (0..CALLS).map(|_| keys[caller].check("m1", requests(1)));
            decisions.filter(Decision::is_allowed).collect::<Vec<_>>()
        });
        let admitted = admitted.concat();
        assert_eq!(admitted.len(), 1_000);
        if world.source.leases {
            return;
        }
        let rests = admitted.iter().flat_map(Decision::rules).map(|rule| rule.remaining);
        let mut rests: Vec<_> = rests.collect();
        rests.sort_unstable();
        assert!(rests.into_iter().eq(0..1_000));
    });

    suite.story("a_budget_of_a_group_is_spent_exactly", |world| {
        let acme = world.group(named("acme").with_budget(millionths(1_000)));
        let keys: Vec<_> =
            (0..CALLERS).map(|number| world.member_at(named(&format!("acme/{number}")))).collect();
        let admitted = at_once(CALLERS, |caller| {
            (0..CALLS).filter(|_| keys[caller].check(None, spend(3)).is_allowed()).count()
        });
        assert_eq!((admitted.iter().sum::<usize>(), acme.spent()), (333, 999));
        assert_eq!(keys.iter().map(Key::spent).sum::<u64>(), 999);
    });

    // A call that a level denies is charged at none.
    suite.story("what_a_key_denies_costs_its_group_nothing", |world| {
        let acme = world.group(named("acme").with_global(requests_per_minute(4_000)));
        let keys: Vec<_> = (0..CALLERS)
            .map(|number| named(&format!("acme/{number}")).with_global(requests_per_minute(20)))
            .map(|config| world.member_at(config))
            .collect();
        at_once(CALLERS, |caller| {
            for _ in 0..CALLS {
                let _denied = keys[caller].check(None, requests(1));
            }
        });
        assert_eq!((acme.calls(), sum(&keys)), (20 * CALLERS as u64, 20 * CALLERS as u64));
    });

    suite.story("corrections_of_many_keys_add_up_at_their_group", |world| {
        let config = named("acme").with_global(tokens_per_minute(1_000_000));
        let acme = world.group(config);
        let keys: Vec<_> =
            (0..CALLERS).map(|number| world.member_at(named(&format!("acme/{number}")))).collect();
        at_once(CALLERS, |caller| {
            let key = &keys[caller];
            for call in 0..CALLS as u64 / 5 {
                let id = format!("r{call}");
                key.reserve(&id, tokens(0, 50));
                match call % 3 {
                    0 => key.settle(&id, output(call)),
                    1 => key.amend(&id, output(70)).settle(&id, output(60)),
                    _ => key.cancel(&id),
                };
            }
        });
        let sums = keys
            .iter()
            .map(Key::used)
            .fold([0; 4], |sums, used| [0, 1, 2, 3].map(|place| sums[place] + used[place]));
        let used = acme.used();
        assert_eq!((used[1], used[2..].to_vec()), (sums[3], sums[2..].to_vec()));
    });

    // A threshold of the group is seen by one caller.
    suite.story("of_many_keys_one_sees_a_threshold_of_the_group_fire", |world| {
        world.group(named("acme").with_global(requests_per_minute(1_000)));
        let keys: Vec<_> =
            (0..CALLERS).map(|number| world.member_at(named(&format!("acme/{number}")))).collect();
        let seen = at_once(CALLERS, |caller| {
            let calls = (0..CALLS).flat_map(|_| crossed(&keys[caller].check(None, requests(1))));
            calls.collect::<Vec<_>>()
        });
        let seen = in_words(&seen.concat());
        let mut times = BTreeMap::new();
        for words in seen {
            *times.entry(words).or_insert(0) += 1;
        }
        let expected = [100, 80].map(|it| (format!("{it} % of acme:global/minute/requests"), 1));
        assert!(
            times.iter().map(|(words, times)| (words.clone(), *times)).eq(expected),
            "{times:?}"
        );
    });

    // Either the key is created and the group stays, or the group is deleted and the key is not created.
    suite.story("a_key_is_never_without_its_group", |world| {
        for round in 0..5 * ROUNDS {
            let root = format!("acme {round}");
            let group = world.group(named(&root));
            let outcomes = at_once(CALLERS, |caller| match caller % 2 {
                0 => group.try_delete().map(|()| "deleted"),
                _ => {
                    let key = at_path(named(&format!("{root}/{caller}")));
                    world.try_create(key).map(|_| "created")
                }
            });
            let done: Vec<_> = outcomes.iter().flatten().collect();
            let refusals = outcomes.iter().filter_map(|it| it.as_ref().err());
            for refusal in refusals {
                let is_expected = match refusal {
                    KeysError::NoGroup(id) | KeysError::NotEmpty(id) => *id == group.id,
                    KeysError::NotFound(id) => *id == root,
                    _ => false,
                };
                assert!(is_expected, "{refusal:?}");
            }
            let beneath = world.search(&Search::all().beneath(group.id.clone())).keys.len();
            let lives = world.keys().get(&group.id).wait().is_ok();
            match lives {
                true => {
                    assert_eq!((done.len(), beneath), (CALLERS / 2, CALLERS / 2), "{outcomes:?}")
                }
                false => assert_eq!((done, beneath), (vec![&"deleted"], 0), "{outcomes:?}"),
            }
        }
    });

    // Each call is admitted or of an unknown key, and the group has counted those that were admitted.
    suite.story("keys_come_and_go_while_others_of_their_group_call", |world| {
        let acme = world.group(named("acme"));
        let admitted = at_once(CALLERS, |caller| {
            let (path, mut admitted) = (format!("acme/{caller}"), 0);
            for _ in 0..ROUNDS {
                let key = world.member_at(named(&path));
                let others = (0..CALLERS).map(|other| world.key(key_id(&format!("acme/{other}"))));
                let decisions = others.map(|other| other.check(None, requests(1)));
                admitted += decisions.filter(Decision::is_allowed).count();
                key.delete();
            }
            admitted
        });
        let (counted, admitted) = (acme.calls(), admitted.iter().sum::<usize>() as u64);
        // A lease of a deleted key stays charged to its group.
        let is_right = if world.source.leases { counted >= admitted } else { counted == admitted };
        assert!(is_right, "{counted} are counted, {admitted} were admitted");
        acme.delete();
    });
}

/// Creates two groups beneath a group, and returns the paths of keys in all three.
fn keys_beneath(world: &World, root: &str) -> Vec<String> {
    let mut paths = vec![format!("{root}/ci")];
    for team in ["search", "chat"] {
        let path = format!("{root}/{team}");
        let group =
            NewKey::group(key_id(&path), named(&path).with_global(requests_per_minute(4_000)));
        world.create(group);
        paths.extend([format!("{path}/one"), format!("{path}/two")]);
    }
    paths
}

/// The requests of these keys together.
fn sum(keys: &[Key<'_>]) -> u64 {
    keys.iter().map(Key::calls).sum()
}

/// Of each caller.
const CALLS: usize = 500;
const ROUNDS: usize = 5;
