//! Worlds of parallel limits: reservations hold slots, of the group and of the key.

use crate::client::Call::{Amend, Cancel, Change, Check, Create, Delete, Reserve, Settle};
use crate::oracle::Wanted;
use crate::path::Path;
use crate::world::World;

pub(crate) fn all() -> Vec<World> {
    vec![slots(), crossing(), expiries(), resized(), given_up(), emptied()]
}

/// A key with two slots, of which calls of the asset may hold one.
pub(crate) fn slots() -> World {
    World {
        name: "slots",
        configs: vec![Wanted { parallel: [Some(2), Some(1)], ..Wanted::default() }],
        calls: [
            vec![
                Reserve { id: 1, tokens: 1 },
                Reserve { id: 2, tokens: 1 },
                Settle { id: 1, tokens: 1 },
            ],
            vec![
                Reserve { id: 3, tokens: 1 },
                Reserve { id: 4, tokens: 1 },
                Amend { id: 3, tokens: 1 },
                Cancel { id: 3 },
            ],
        ],
        assets: [true, false],
        most: [3, 4],
        most_of_all: 6,
        moves: 1,
        instants: &[0, 1],
        ..World::default()
    }
}

/// Two keys that share the slots and the tokens of their group. One has a slot of its own. A check needs none.
pub(crate) fn crossing() -> World {
    World {
        name: "crossing",
        configs: vec![
            Wanted {
                global: [[None, Some(4)], [None; 2]],
                parallel: [Some(2), None],
                ..Wanted::default()
            },
            parallel(1),
            Wanted { global: [[Some(2), None], [None; 2]], ..Wanted::default() },
        ],
        paths: [Path::FIRST, Path::SECOND],
        calls: [
            vec![
                Reserve { id: 1, tokens: 2 },
                Reserve { id: 2, tokens: 1 },
                Settle { id: 1, tokens: 1 },
                Check(1),
            ],
            vec![Reserve { id: 1, tokens: 1 }, Reserve { id: 2, tokens: 3 }, Cancel { id: 1 }],
        ],
        most: [3, 3],
        most_of_all: 5,
        moves: 1,
        instants: &[0, 2],
        ..World::default()
    }
}

/// Slots that expire, unless they are renewed before.
pub(crate) fn expiries() -> World {
    World {
        name: "expiries",
        configs: vec![parallel(2), parallel(1)],
        paths: [Path::FIRST; 2],
        calls: [
            vec![Reserve { id: 1, tokens: 1 }, Amend { id: 1, tokens: 1 }],
            vec![Reserve { id: 2, tokens: 1 }, Amend { id: 1, tokens: 2 }, Cancel { id: 1 }],
        ],
        most: [3, 2],
        most_of_all: 5,
        moves: 2,
        instants: &[0, 1, 2],
        ..World::default()
    }
}

/// Parallel limits that change while slots are held. The new ones count at once.
pub(crate) fn resized() -> World {
    World {
        name: "resized",
        configs: vec![parallel(2), Wanted::default(), parallel(1)],
        paths: [Path::FIRST; 2],
        calls: [
            vec![
                Reserve { id: 1, tokens: 1 },
                Reserve { id: 2, tokens: 1 },
                Change { level: 0, to: 2 },
            ],
            vec![
                Reserve { id: 3, tokens: 1 },
                Amend { id: 3, tokens: 1 },
                Settle { id: 1, tokens: 1 },
                Change { level: 0, to: 1 },
                Change { level: 1, to: 2 },
            ],
        ],
        most: [3, 2],
        most_of_all: 5,
        moves: 1,
        instants: &[0, 1],
        ..World::default()
    }
}

/// Answers that are lost, requests that come late, and a client that crashes with a slot.
pub(crate) fn given_up() -> World {
    World {
        name: "given up",
        configs: vec![parallel(2), parallel(1)],
        paths: [Path::FIRST; 2],
        calls: [
            vec![Reserve { id: 1, tokens: 1 }],
            vec![
                Reserve { id: 2, tokens: 1 },
                Amend { id: 2, tokens: 2 },
                Settle { id: 2, tokens: 1 },
            ],
        ],
        most: [1, 3],
        most_of_all: 4,
        moves: 1,
        instants: &[0, 2],
        losses: 1,
        crashes: 1,
        delays: 1,
        ..World::default()
    }
}

/// A key that is deleted and created again. Its slots are gone; those that its calls hold of the group stay until they expire.
pub(crate) fn emptied() -> World {
    World {
        name: "emptied",
        configs: vec![parallel(2), parallel(1)],
        paths: [Path::FIRST; 2],
        calls: [
            vec![Reserve { id: 1, tokens: 1 }, Cancel { id: 1 }],
            vec![Delete { level: 1 }, Create { level: 1, to: 1 }, Reserve { id: 2, tokens: 1 }],
        ],
        most: [2, 3],
        most_of_all: 4,
        moves: 2,
        instants: &[0, 1, 2],
        delays: 1,
        ..World::default()
    }
}

/// So many calls at the same time.
fn parallel(limit: u64) -> Wanted {
    Wanted { parallel: [Some(limit), None], ..Wanted::default() }
}
