//! What was compared.

use std::fmt;
use std::ops::AddAssign;

use limiter_core::{Decision, DenialReason};

use crate::order::Group;

/// How often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) decisions: u64,
    allowed: u64,
    limited: u64,
    spent: u64,
    expired: u64,
    batches: u64,
    in_batches: u64,
    mixed_groups: u64,
    of_several_groups: u64,
    /// Thresholds that were told, and calls that were let through in shadow mode.
    crossed: u64,
    shadowed: u64,
    pub(crate) peeks: u64,
    pub(crate) usages: u64,
    pub(crate) states: u64,
    pub(crate) records: u64,
    /// Operations on ids, those that were repetitions, and those that were refused.
    pub(crate) on_ids: u64,
    replayed: u64,
    refused: u64,
}

impl Tally {
    /// An operation on an id, and what the core said of it.
    pub(crate) fn remembered(&mut self, told: &str) {
        self.on_ids += 1;
        self.replayed += u64::from(told.contains("replayed: true"));
        let answered =
            ["Allowed", "Denied", "[", "()"].iter().any(|answer| told.starts_with(answer));
        self.refused += u64::from(!answered);
    }

    /// Calls that were made at once.
    pub(crate) fn calls<'a>(&mut self, decisions: impl ExactSizeIterator<Item = &'a Decision>) {
        let count = decisions.len() as u64;
        self.decisions += count;
        if count > 1 {
            self.batches += 1;
            self.in_batches += count;
        }
        for decision in decisions {
            match decision {
                Decision::Allowed(allowed) => {
                    self.allowed += 1;
                    self.crossed += allowed.crossed().len() as u64;
                    self.shadowed += u64::from(allowed.shadowed().is_some());
                }
                Decision::Denied(denied) => match denied.reason() {
                    DenialReason::RateLimited(_) => self.limited += 1,
                    DenialReason::BudgetExhausted { .. } => self.spent += 1,
                    DenialReason::KeyExpired { .. } => self.expired += 1,
                    _ => {}
                },
            }
        }
    }

    /// What became of the calls of one key.
    pub(crate) fn groups(&mut self, groups: &[Group]) {
        self.of_several_groups += u64::from(groups.len() > 1);
        for group in groups {
            let allowed = group.calls.iter().filter(|(_, decision)| decision.is_allowed()).count();
            self.mixed_groups += u64::from(allowed > 0 && allowed < group.calls.len());
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.decisions += other.decisions;
        self.allowed += other.allowed;
        self.limited += other.limited;
        self.spent += other.spent;
        self.expired += other.expired;
        self.batches += other.batches;
        self.in_batches += other.in_batches;
        self.mixed_groups += other.mixed_groups;
        self.of_several_groups += other.of_several_groups;
        self.crossed += other.crossed;
        self.shadowed += other.shadowed;
        self.peeks += other.peeks;
        self.usages += other.usages;
        self.states += other.states;
        self.records += other.records;
        self.on_ids += other.on_ids;
        self.replayed += other.replayed;
        self.refused += other.refused;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { decisions, allowed, limited, spent, expired, .. } = self;
        writeln!(
            f,
            "{decisions} decisions: {allowed} allowed, {limited} over a limit, {spent} over the budget, \
             {expired} expired, {} of no member key",
            decisions - allowed - limited - spent - expired
        )?;
        writeln!(
            f,
            "{} of them in {} batches; {} times one key with several groups, {} groups of mixed decisions",
            self.in_batches, self.batches, self.of_several_groups, self.mixed_groups
        )?;
        writeln!(
            f,
            "{} thresholds told, {} calls let through in shadow",
            self.crossed, self.shadowed
        )?;
        if self.on_ids > 0 {
            let Self { on_ids, replayed, refused, .. } = self;
            writeln!(f, "{on_ids} operations on ids: {replayed} replayed, {refused} refused")?;
        }
        write!(
            f,
            "{} stored states, {} records, {} peeks, {} usages compared",
            self.states, self.records, self.peeks, self.usages
        )
    }
}
