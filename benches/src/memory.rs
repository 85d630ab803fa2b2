//! Memory: what a key adds to the resident set of the process.

use std::any::Any;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::ours;
use crate::subject::{BASELINE, BY_STRING, Entry};
use crate::workload::{Plan, key_id};

/// The memory of one subject.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Footprint {
    /// The subject.
    pub subject: String,
    /// The data that it keeps of each key, in words.
    pub what: String,
    /// Keys that it was filled with.
    pub keys: usize,
    /// Resident bytes for each key, without the keys or handles that callers hold.
    pub bytes_per_key: u64,
}

/// An object whose memory is measured: a subject, or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Its name in tables, JSON and arguments.
    pub name: &'static str,
    /// The data that it keeps of each key, in words.
    pub what: &'static str,
    /// The number of keys to measure it with.
    pub keys: usize,
    filled: fn(&Plan) -> Box<dyn Any>,
}

/// All that is measured, in the order of the reports. Every key has one limited asset.
///
/// The handles of ours share the store of [`BY_STRING`].
pub const MEASURED: &[Measured] = &[
    Measured {
        name: BY_STRING,
        what: "everything: rules, budget, expiry, name of 28 bytes, digest of the access key",
        keys: KEYS,
        filled: |plan| filled_subject(BY_STRING, plan),
    },
    Measured {
        name: "by_string_bare",
        what: "the same with names of at most 7 bytes and no access keys; the directory is still in it",
        keys: KEYS,
        filled: |plan| Box::new(ours::bare_store(plan)),
    },
    Measured {
        name: "key_state",
        what: "limiter_core's KeyState alone, in a Vec: no id, no lock, no map, no directory",
        keys: KEYS,
        filled: |plan| Box::new(ours::states(plan)),
    },
    Measured {
        name: BASELINE,
        what: "one rule",
        keys: KEYS,
        filled: |plan| filled_subject(BASELINE, plan),
    },
    Measured {
        name: "governor_x8",
        what: "eight rules",
        keys: KEYS,
        filled: |plan| filled_subject("governor_x8", plan),
    },
    // A tenth of the keys: it grows as evenly as the others, to some ten gigabytes at a million, which takes minutes.
    Measured {
        name: "limitador_8",
        what: "eight rules",
        keys: KEYS / 10,
        filled: |plan| filled_subject("limitador_8", plan),
    },
];

impl Measured {
    /// Returns the entry of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        MEASURED.iter().copied().find(|measured| measured.name == name)
    }

    /// Fills it with `keys` keys and returns the growth of the process.
    ///
    /// It must be called once in a process: memory that was given back would be used again, unseen.
    ///
    /// # Panics
    /// Where there is no `/proc/self/status`.
    #[must_use]
    pub fn footprint(&self, keys: usize) -> Footprint {
        let plan = Plan { ids: (0..keys).map(key_id).collect(), accesses: vec![0] };
        let before = resident_bytes();
        let filled = (self.filled)(&plan);
        let grown = resident_bytes().saturating_sub(before);
        drop(filled);
        Footprint {
            subject: self.name.to_owned(),
            what: self.what.to_owned(),
            keys,
            bytes_per_key: grown / keys as u64,
        }
    }
}

fn filled_subject(name: &str, plan: &Plan) -> Box<dyn Any> {
    let mut subject = (Entry::named(name).expect("a subject").new)(plan);
    subject.fill(plan);
    Box::new(subject)
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let kibibytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .and_then(|figure| figure.parse::<u64>().ok())
        .expect("`VmRSS:` and a figure in kB");
    kibibytes * 1024
}

/// Enough that the fixed memory of a store is negligible, and that tables have doubled often.
const KEYS: usize = 1_000_000;
