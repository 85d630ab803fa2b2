//! The measured subjects: anything that can decide about a request by its number.

use std::ops::Range;

use crate::governor::{GovernorKeyed, GovernorX8};
use crate::limitador::Limitador8;
use crate::ours::{ByHandle, ByString, InGroup};
use crate::workload::Plan;

/// Every subject, in the order of the reports. Ours are next to the baseline, so that they take their turns next to it.
pub const SUBJECTS: &[Entry] = &[
    Entry { name: BY_STRING, new: |plan| Box::new(ByString::new(plan)) },
    Entry { name: BY_HANDLE, new: |_| Box::new(ByHandle::default()) },
    Entry { name: BASELINE, new: |plan| Box::new(GovernorKeyed::new(plan)) },
    Entry { name: "open", new: |plan| Box::new(InGroup::new(plan, false)) },
    Entry { name: "registered", new: |plan| Box::new(InGroup::new(plan, true)) },
    Entry { name: "governor_x8", new: |plan| Box::new(GovernorX8::new(plan)) },
    Entry { name: "limitador_8", new: |plan| Box::new(Limitador8::new(plan)) },
];

/// Our limiter, called with the ids of a key and an asset.
pub const BY_STRING: &str = "by_string";

/// Our limiter, called with a handle.
pub const BY_HANDLE: &str = "by_handle";

/// The subject that ratios are taken against.
pub const BASELINE: &str = "governor_keyed";

/// A rate limiter, and the requests of its callers.
///
/// It is made in two steps so that memory can be measured between them: [`Entry::new`] makes the callers' requests and
/// an empty limiter, [`fill`](Self::fill) adds the keys to the limiter.
pub trait Subject: Sync {
    /// Adds the keys of `plan` to the limiter and decides once about each: no later decision meets a new key.
    fn fill(&mut self, plan: &Plan);

    /// Makes one decision on the allowed path. The input is hidden from the optimiser by
    /// [`Requests`](crate::workload::Requests), and the outcome is shown to it by reference, since passing it by value
    /// would copy it.
    ///
    /// # Panics
    /// When denied: a benchmark that is denied measures something else.
    fn decide(&self, access: usize);

    /// Makes a decision for each access. Behind `dyn Subject` this is the only dynamic call: the loop is compiled for
    /// each subject, with [`decide`](Self::decide) inside it.
    fn decide_all(&self, accesses: Range<usize>) {
        for access in accesses {
            self.decide(access);
        }
    }
}

/// One line of [`SUBJECTS`].
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name in tables, JSON and arguments.
    pub name: &'static str,
    /// Makes the subject for this plan, not yet filled.
    pub new: fn(&Plan) -> Box<dyn Subject>,
}

impl Entry {
    /// Returns the subject of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        SUBJECTS.iter().copied().find(|entry| entry.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Workload;

    #[test]
    fn every_subject_allows_every_key_again_and_again() {
        let plan = Plan::shortened(Workload::Uniform100k, 128);
        for entry in SUBJECTS {
            let mut subject = (entry.new)(&plan);
            subject.fill(&plan);
            subject.decide_all(0..10 * plan.accesses.len());
        }
    }
}
