//! The kinds of events that the states of a world must reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of times that each kind of event was seen, so that worlds that are too small are found. A world counts together
/// with its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<[AtomicU64; Sight::ALL.len()]>);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight {
    Allowed,
    Denied,
    /// By a rule of the group.
    DeniedByGroup,
    /// By rules of the group and of the key.
    DeniedByBothLevels,
    /// Since the group has expired.
    DeniedByAnExpiredGroup,
    Fired,
    /// By one call at both levels.
    FiredAtBothLevels,
    Refunded,
    /// The windows of the other level had closed.
    RefundedAtOneLevel,
    Overran,
    FailedAgain,
    Rebased,
    ChangedLimits,
    /// The group was deleted before, and its key.
    CreatedAGroupAgain,
    OutOfSlots,
    OutOfSlotsOfTheGroup,
    /// It was free since another had expired.
    TookAnExpiredSlot,
    RenewedSlots,
    /// A call went on after its slots had expired.
    OutlivedItsSlots,
    /// A call was reserved that had been reserved before.
    ReservedAgain,
    CameLate,
}

impl Sight {
    pub(crate) const ALL: [Self; 21] = [
        Self::Allowed,
        Self::Denied,
        Self::DeniedByGroup,
        Self::DeniedByBothLevels,
        Self::DeniedByAnExpiredGroup,
        Self::Fired,
        Self::FiredAtBothLevels,
        Self::Refunded,
        Self::RefundedAtOneLevel,
        Self::Overran,
        Self::FailedAgain,
        Self::Rebased,
        Self::ChangedLimits,
        Self::CreatedAGroupAgain,
        Self::OutOfSlots,
        Self::OutOfSlotsOfTheGroup,
        Self::TookAnExpiredSlot,
        Self::RenewedSlots,
        Self::OutlivedItsSlots,
        Self::ReservedAgain,
        Self::CameLate,
    ];
}

impl Seen {
    pub(super) fn saw(&self, sight: Sight) {
        self.0[sight as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, sight: Sight) -> u64 {
        self.0[sight as usize].load(Ordering::Relaxed)
    }
}
