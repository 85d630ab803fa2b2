//! More keys than a few: each is itself, also where the place of a deleted one is taken by another.

use limiter_core::NewKey;

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("each_key_counts_for_itself", |world| {
        let keys = create(world, "key");
        for (calls, key) in (0..).zip(&keys) {
            key.admit(None, calls % 4);
        }
        for (calls, key) in (0..).zip(&keys) {
            assert_eq!(key.used()[2], calls % 4, "{}", key.id);
        }
    });

    suite.story("deleted_keys_take_nothing_with_them", |world| {
        let keys = create(world, "key");
        for key in &keys {
            key.admit(None, 2);
        }
        for key in keys.iter().step_by(2) {
            key.delete();
        }
        for key in keys.iter().skip(1).step_by(2) {
            assert_eq!(key.used()[2], 2, "{}", key.id);
        }
    });
}

/// Keys of three requests a day.
pub(super) fn create<'w>(world: &'w World, prefix: &str) -> Vec<Key<'w>> {
    let count = if world.source.slowness < 100 { KEYS } else { KEYS / 10 };
    let new = (0..count).map(|number| {
        let config = named(&format!("{prefix} {number}")).with_global(requests_per_day(3));
        NewKey::member(config).without_access_key()
    });
    let created = world.keys().create_many(new.collect()).wait().expect("an admin creates keys");
    let ids = created.into_iter().map(|created| created.expect("the name is free").record.id);
    ids.map(|id| world.key(id)).collect()
}

/// Enough that places are shared and taken again, whatever the store keeps its keys in.
const KEYS: usize = 1_000;
