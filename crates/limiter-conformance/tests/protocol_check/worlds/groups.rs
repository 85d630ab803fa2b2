//! Worlds of keys that lie beneath a group: each call meets two levels.

use super::base;
use crate::client::Call::{Amend, Cancel, Change, Check, Create, Delete, Pair, Reserve, Settle};
use crate::oracle::Wanted;
use crate::path::Path;
use crate::world::{EXPIRY, World};

pub(crate) fn all() -> Vec<World> {
    vec![sharing(), levels(), moving(), lost(), regrouped(), outlived()]
}

/// Two keys that share the limits of their group. Each has limits and thresholds of its own, too.
pub(crate) fn sharing() -> World {
    World {
        name: "sharing",
        configs: vec![
            Wanted { thresholds: vec![50, 100], ..tokens(4) },
            base(),
            Wanted { budget: Some(2), ..tokens(3) },
        ],
        paths: [Path::FIRST, Path::SECOND],
        calls: [
            vec![Check(0), Check(1), Pair(1, 2)],
            vec![
                Check(1),
                Reserve { id: 1, tokens: 2 },
                Settle { id: 1, tokens: 3 },
                Cancel { id: 1 },
            ],
        ],
        most: [3, 3],
        most_of_all: 5,
        moves: 1,
        instants: &[0, 1],
        ..World::default()
    }
}

/// Limits of the group and of the key that change while calls are under way.
pub(crate) fn levels() -> World {
    World {
        name: "levels",
        configs: vec![tokens(4), tokens(3), tokens(2), base()],
        paths: [Path::FIRST; 2],
        calls: [
            vec![Check(1), Reserve { id: 1, tokens: 2 }, Change { level: 0, to: 2 }],
            vec![Check(2), Settle { id: 1, tokens: 1 }, Change { level: 1, to: 3 }],
        ],
        most: [3, 2],
        most_of_all: 5,
        moves: 1,
        instants: &[0, 1],
        ..World::default()
    }
}

/// Two keys, of which one moves the windows of the group, while the clock goes ahead and is set right.
pub(crate) fn moving() -> World {
    World {
        name: "moving",
        configs: vec![tokens(4), tokens(3), tokens(3)],
        paths: [Path::FIRST, Path::SECOND],
        calls: [
            vec![Reserve { id: 1, tokens: 2 }, Cancel { id: 1 }, Amend { id: 1, tokens: 3 }],
            vec![Check(1), Check(3)],
        ],
        most: [3, 2],
        most_of_all: 5,
        moves: 3,
        instants: &[0, 2],
        ..World::default()
    }
}

/// Answers that are lost, requests that come late, and a client that crashes.
pub(crate) fn lost() -> World {
    World {
        name: "lost",
        configs: vec![tokens(4), Wanted { thresholds: vec![50], ..tokens(5) }],
        paths: [Path::FIRST; 2],
        calls: [vec![Check(2)], vec![Reserve { id: 1, tokens: 2 }, Settle { id: 1, tokens: 3 }]],
        most: [2, 2],
        most_of_all: 3,
        moves: 1,
        instants: &[0, 1],
        losses: 1,
        crashes: 1,
        delays: 1,
        ..World::default()
    }
}

/// A key, and then its group, that are deleted and created again, while a call is under way.
pub(crate) fn regrouped() -> World {
    World {
        name: "regrouped",
        configs: vec![tokens(4), tokens(3), tokens(1)],
        paths: [Path::FIRST; 2],
        calls: [
            vec![Check(1), Reserve { id: 1, tokens: 2 }, Settle { id: 1, tokens: 1 }],
            vec![
                Delete { level: 1 },
                Delete { level: 0 },
                Create { level: 0, to: 2 },
                Create { level: 1, to: 1 },
            ],
        ],
        most: [3, 4],
        most_of_all: 7,
        moves: 1,
        instants: &[0, 1],
        delays: 1,
        ..World::default()
    }
}

/// A group that expires before its key does, unless it is prolonged.
pub(crate) fn outlived() -> World {
    World {
        name: "outlived",
        configs: vec![Wanted { expires_at: Some(EXPIRY), ..tokens(4) }, tokens(3), tokens(4)],
        paths: [Path::FIRST; 2],
        calls: [
            vec![Check(1), Reserve { id: 1, tokens: 1 }, Amend { id: 1, tokens: 2 }],
            vec![Check(2), Settle { id: 1, tokens: 2 }, Change { level: 0, to: 2 }],
        ],
        most: [3, 2],
        most_of_all: 4,
        moves: 1,
        instants: &[0, 1],
        ..World::default()
    }
}

/// So many tokens in a minute.
fn tokens(limit: u64) -> Wanted {
    Wanted { global: [[None, Some(limit)], [None; 2]], ..Wanted::default() }
}
