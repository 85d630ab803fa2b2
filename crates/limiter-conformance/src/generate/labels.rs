//! The keys and groups of random histories.

use proptest::option;
use proptest::prelude::*;
use proptest::strategy::Union;

use super::planning;

/// Labels, by what a history does with them. A history is about something when its operations meet, so that one label comes
/// most often.
pub(super) struct Labels {
    /// Of calls.
    pub(super) called: BoxedStrategy<String>,
    /// Of keys and groups that are created, changed and read.
    pub(super) managed: BoxedStrategy<String>,
    /// Of those that are deleted: rarely the first, for the same reason.
    pub(super) deleted: BoxedStrategy<String>,
    /// Those that are created first, each with the share of histories. Without a key to begin with, much of a history is about
    /// none.
    pub(super) firsts: &'static [(&'static str, f64)],
    /// Those of plans, which are created before all. Most keys and groups have one.
    pub(super) plans: &'static [&'static str],
    /// The share of groups that are open to unregistered keys.
    pub(super) open: f64,
    /// The share of keys and groups in shadow mode.
    pub(super) shadow: f64,
    /// The share of scopes with limits. A call that meets many levels would be denied too often.
    pub(super) limited: f64,
}

impl Labels {
    /// Three keys.
    pub(super) fn flat() -> Self {
        let keys = || prop_oneof![14 => Just("k1"), 3 => Just("k2"), 1 => Just("k3")];
        let deleted = prop_oneof![2 => Just("k2"), 2 => Just("k1"), 1 => Just("k3")];
        Self {
            called: keys().prop_map(str::to_owned).boxed(),
            managed: keys().prop_map(str::to_owned).boxed(),
            deleted: deleted.prop_map(str::to_owned).boxed(),
            firsts: &[("k1", 1.0), ("k2", 0.3)],
            plans: &[],
            open: 0.0,
            shadow: 0.05,
            limited: 1.0,
        }
    }

    /// A group with two keys, and more groups and keys beneath it.
    pub(super) fn grouped() -> Self {
        Self {
            called: weighted(&[
                (24, "g/k1"),
                (12, "g/t/k1"),
                (5, "g/k2"),
                (4, "g/t/u/k1"),
                (1, "k1"),
                (1, "g"),
                (1, "g/t"),
            ]),
            managed: weighted(&[
                (12, "g"),
                (10, "g/k1"),
                (4, "g/t"),
                (4, "g/k2"),
                (3, "g/t/k1"),
                (1, "g/t/u"),
                (1, "g/t/u/k1"),
                (1, "k1"),
                // Beneath a key, and beneath nothing.
                (1, "g/k1/k1"),
                (1, "h/k1"),
            ]),
            deleted: weighted(&[
                (2, "g/k2"),
                (2, "g/k1"),
                (2, "g/t"),
                (1, "g"),
                (1, "g/t/k1"),
                (1, "g/t/u"),
            ]),
            firsts: &[
                ("g", 1.0),
                ("g/k1", 1.0),
                ("g/t", 0.7),
                ("g/t/k1", 0.9),
                ("g/k2", 0.5),
                ("g/t/u", 0.4),
                ("g/t/u/k1", 0.9),
                ("k1", 0.2),
            ],
            plans: &[],
            open: 0.0,
            shadow: 0.2,
            limited: 0.4,
        }
    }

    /// A group with two keys, and one key outside, of two plans.
    pub(super) fn planned() -> Self {
        Self {
            called: weighted(&[(20, "k1"), (20, "g/k1"), (4, "g/k2"), (1, "g")]),
            managed: weighted(&[(12, "k1"), (6, "g"), (6, "g/k1"), (2, "g/k2"), (1, "h/k1")]),
            deleted: weighted(&[(2, "k1"), (2, "g/k2"), (2, "g/k1"), (1, "g")]),
            firsts: &[("k1", 1.0), ("g", 0.7), ("g/k1", 0.9), ("g/k2", 0.4)],
            plans: &["free", "pro"],
            open: 0.0,
            shadow: 0.05,
            limited: 0.3,
        }
    }

    /// Open groups, and beneath them unregistered keys, a few of which are made later.
    pub(super) fn open() -> Self {
        Self {
            called: weighted(&[
                (20, "g/k1"),
                (6, "g/k2"),
                (3, "g/k3"),
                (8, "g/t/k1"),
                (1, "g"),
                (1, "h/k1"),
                (1, "g/k1/k1"),
            ]),
            managed: weighted(&[
                (12, "g"),
                (6, "g/k1"),
                (2, "g/k2"),
                (4, "g/t"),
                (1, "g/t/k1"),
                (1, "g/k1/k1"),
            ]),
            deleted: weighted(&[(4, "g/k2"), (4, "g/k1"), (1, "g/t"), (1, "g")]),
            firsts: &[("g", 1.0), ("g/t", 0.4), ("g/k2", 0.3)],
            plans: &["free", "pro"],
            open: 0.9,
            shadow: 0.03,
            limited: 0.3,
        }
    }

    /// The plan of a new key or group.
    pub(super) fn plan(&self) -> BoxedStrategy<Option<String>> {
        match self.plans {
            [] => Just(None).boxed(),
            _ => option::weighted(0.8, planning::labels()).boxed(),
        }
    }

    /// How many of a hundred limits are lifted.
    pub(super) const fn lifts(&self) -> u32 {
        if self.plans.is_empty() { 0 } else { 15 }
    }

    /// Returns whether it is mostly a group that has this label.
    pub(super) fn is_group(label: &str) -> bool {
        ["g", "g/t", "g/t/u"].contains(&label)
    }
}

pub(super) fn weighted(labels: &[(u32, &'static str)]) -> BoxedStrategy<String> {
    let labels = labels.iter().map(|(weight, label)| (*weight, Just((*label).to_owned())));
    Union::new_weighted(labels.collect()).boxed()
}
