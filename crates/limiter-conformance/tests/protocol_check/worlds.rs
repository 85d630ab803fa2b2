//! Small worlds, each with room for one kind of trouble.

pub(crate) mod groups;
pub(crate) mod slots;

use limiter_core::MAX_COUNT;

use crate::client::Call::{Amend, Cancel, Change, Check, Create, Delete, Pair, Reserve, Settle};
use crate::oracle::Wanted;
use crate::world::{EXPIRY, World};

pub(crate) fn all() -> Vec<World> {
    [alone(), groups::all(), slots::all()].concat()
}

/// Worlds of one key without a group.
fn alone() -> Vec<World> {
    vec![
        thresholds(),
        network(),
        stops(),
        rolls(),
        rebases(),
        far(),
        limits(),
        relisted(),
        expiring(),
        reborn(),
        ends(),
    ]
}

/// Limits and thresholds that several calls reach at once.
pub(crate) fn thresholds() -> World {
    World {
        name: "thresholds",
        configs: vec![base()],
        calls: [
            vec![Check(0), Check(2), Pair(1, 2), Pair(1, 0)],
            vec![
                Check(1),
                Reserve { id: 1, tokens: 2 },
                Settle { id: 1, tokens: 3 },
                Cancel { id: 1 },
            ],
        ],
        most: [2, 3],
        most_of_all: 5,
        moves: 1,
        instants: &[0, 1],
        ..World::default()
    }
}

/// Answers that are lost, requests that come late, and a client that crashes.
pub(crate) fn network() -> World {
    World {
        name: "network",
        calls: [
            vec![Check(2)],
            vec![
                Reserve { id: 1, tokens: 2 },
                Settle { id: 1, tokens: 3 },
                Amend { id: 1, tokens: 3 },
            ],
        ],
        most_of_all: 4,
        losses: 1,
        crashes: 1,
        delays: 1,
        ..thresholds()
    }
}

/// A call that passes a stop if another one is there, and does not if it is not.
pub(crate) fn stops() -> World {
    let [one, other] = [1, 2];
    World {
        name: "stops",
        configs: vec![Wanted {
            global: [[None, Some(6)], [None; 2]],
            thresholds: vec![50],
            ..Wanted::default()
        }],
        calls: [
            vec![Check(1)],
            vec![
                Reserve { id: one, tokens: 2 },
                Cancel { id: one },
                Reserve { id: other, tokens: 2 },
                Cancel { id: other },
            ],
        ],
        most: [2, 4],
        most_of_all: 6,
        instants: &[0],
        ..World::default()
    }
}

/// Reservations whose minute ends, or whose minute and day end, before they do.
pub(crate) fn rolls() -> World {
    World {
        name: "rolls",
        configs: vec![Wanted { asset: [[Some(2), None], [None, Some(4)]], ..base() }],
        calls: [
            vec![
                Check(1),
                Reserve { id: 1, tokens: 2 },
                Settle { id: 1, tokens: 1 },
                Amend { id: 1, tokens: 3 },
            ],
            vec![Check(1), Settle { id: 1, tokens: 4 }, Cancel { id: 1 }],
        ],
        assets: [true, true],
        most: [2, 2],
        most_of_all: 4,
        moves: 2,
        instants: &[0, 2, 3],
        ..World::default()
    }
}

/// A clock that goes two minutes ahead, over midnight, and is set right: minutes are rebased, days are not.
pub(crate) fn rebases() -> World {
    World {
        name: "rebases",
        configs: vec![Wanted { asset: [[Some(3), None], [None, Some(6)]], ..Wanted::default() }],
        calls: [
            vec![Check(1), Reserve { id: 1, tokens: 2 }],
            vec![Check(1), Reserve { id: 1, tokens: 2 }, Cancel { id: 1 }],
        ],
        assets: [true, true],
        most: [3, 3],
        most_of_all: 4,
        moves: 3,
        instants: &[0, 2],
        ..World::default()
    }
}

/// A clock that goes days ahead, and is set right: both windows are rebased. One client calls an asset, the other none.
pub(crate) fn far() -> World {
    World {
        name: "far",
        configs: vec![Wanted { asset: [[None; 2], [Some(2), None]], ..base() }],
        calls: [
            vec![Pair(1, 2), Reserve { id: 1, tokens: 2 }, Settle { id: 1, tokens: 1 }],
            vec![Check(2), Reserve { id: 2, tokens: 1 }, Settle { id: 2, tokens: 3 }],
        ],
        assets: [true, false],
        most: [3, 3],
        most_of_all: 4,
        moves: 2,
        instants: &[0, 1, 4],
        ..World::default()
    }
}

/// Limits, thresholds and budget that change while calls are under way; the asset's limits go and come back.
pub(crate) fn limits() -> World {
    let asset = [[None; 2], [None, Some(2)]];
    World {
        name: "limits",
        configs: vec![
            Wanted { asset, ..base() },
            Wanted {
                global: [[Some(2), Some(4)], [None; 2]],
                budget: Some(3),
                thresholds: vec![80],
                ..base()
            },
        ],
        calls: [
            vec![Check(1), Reserve { id: 1, tokens: 2 }, Change { level: 0, to: 0 }],
            vec![Check(2), Settle { id: 1, tokens: 1 }, Change { level: 0, to: 1 }],
        ],
        assets: [true, true],
        most: [3, 2],
        most_of_all: 5,
        moves: 2,
        instants: &[0, 2],
        ..World::default()
    }
}

/// An asset whose limits go, whose day ends, and which is listed again after the clock was set right.
pub(crate) fn relisted() -> World {
    World {
        name: "relisted",
        calls: [
            vec![Reserve { id: 1, tokens: 2 }, Change { level: 0, to: 0 }, Check(1)],
            vec![Check(1), Settle { id: 1, tokens: 1 }, Change { level: 0, to: 1 }],
        ],
        most: [3, 3],
        most_of_all: 6,
        ..limits()
    }
}

/// A key that expires while calls are under way, unless it is prolonged.
pub(crate) fn expiring() -> World {
    World {
        name: "expiring",
        configs: vec![Wanted { expires_at: Some(EXPIRY), ..base() }, base()],
        calls: [
            vec![
                Check(1),
                Reserve { id: 1, tokens: 1 },
                Amend { id: 1, tokens: 2 },
                Change { level: 0, to: 1 },
            ],
            vec![Check(2), Settle { id: 1, tokens: 2 }, Change { level: 0, to: 0 }],
        ],
        most: [3, 2],
        most_of_all: 4,
        moves: 2,
        instants: &[0, 1],
        ..World::default()
    }
}

/// A key that is deleted, and created again under its id, with other limits.
pub(crate) fn reborn() -> World {
    World {
        name: "reborn",
        configs: vec![base(), Wanted { global: [[None, Some(1)], [Some(3), None]], ..base() }],
        calls: [
            vec![Check(1), Reserve { id: 1, tokens: 2 }, Settle { id: 1, tokens: 1 }],
            vec![
                Delete { level: 0 },
                Create { level: 0, to: 0 },
                Create { level: 0, to: 1 },
                Reserve { id: 1, tokens: 1 },
            ],
        ],
        most: [3, 3],
        most_of_all: 5,
        moves: 1,
        instants: &[0, 1],
        delays: 1,
        ..World::default()
    }
}

/// Counts at the ends of the numbers.
pub(crate) fn ends() -> World {
    let most = MAX_COUNT;
    World {
        name: "ends",
        configs: vec![Wanted {
            global: [[Some(9), None], [None, Some(most)]],
            ..Wanted::default()
        }],
        calls: [
            vec![Reserve { id: 1, tokens: 2 }, Settle { id: 1, tokens: most }, Cancel { id: 1 }],
            vec![
                Reserve { id: 2, tokens: 1 },
                Settle { id: 2, tokens: most },
                Check(1),
                Cancel { id: 2 },
            ],
        ],
        most: [3, 3],
        most_of_all: 6,
        moves: 1,
        instants: &[0, 1],
        ..World::default()
    }
}

fn base() -> Wanted {
    Wanted {
        global: [[None, Some(3)], [Some(3), None]],
        budget: Some(5),
        thresholds: vec![50, 100],
        ..Wanted::default()
    }
}
