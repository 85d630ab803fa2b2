//! Bugs that can be planted. Each removes one thing that the protocol relies on.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The server only requires that no result falls below zero, and does not compare each meter with its own least value.
    ComparesSums,
    /// The client plans which stops its call passes, and the server compares the marks afterwards with the plan.
    GuardsMarks,
    /// A window that rolls takes the count of rebases that the client believes in.
    TakesTheClientsRebases,
    /// Where the client's cache is older than the window that admitted a call, its correction is fenced by the end of the
    /// window alone, as a roll is.
    FencesByTheRoll,
    /// The client says which windows admitted its call, as it believes them to be.
    BelievesTheClientsWindows,
    /// Each incarnation of the key counts its stamps from zero.
    UsesStampsAgain,
    /// Each change forgets the generations that were used.
    UsesGenerationsAgain,
    /// The server compares no stamp.
    ComparesNoStamp,
    /// The server compares the stamp of the key, and not that of its group.
    ComparesTheKeysStampAlone,
    /// The server deletes a group with keys beneath it.
    DeletesGroupsOfKeys,
    /// The server charges each level that admits a call, though another one refuses it.
    ChargesEachLevelAlone,
    /// The server does not compare its time with that for which an operation is valid.
    ComparesNoTime,
    /// The server does not compare a reservation with what the client believes it to be.
    ComparesNoEntry,
    /// A denial does not rebase windows after a clock was set right.
    StoresNoRebase,
    /// A count may leave the range of numbers.
    StopsAtNoEnd,
    /// If one window of a record rolls, so does the other.
    RollsAllAtOnce,
    /// A slot is counted without its holder: an amendment takes another one.
    CountsSlotsWithoutIds,
    /// The server looks for free slots before it looks for the id of the reservation.
    LooksForSlotsFirst,
    /// A client explains an answer by the parallel limits that it asked for, though others hold by then.
    ExplainsByOldSlots,
    /// A slot that has expired is counted.
    CountsExpiredSlots,
    /// An amendment brings back a slot that has expired.
    RenewsExpiredSlots,
    /// The end of a call does not free its slots.
    FreesNoSlot,
    /// The slots of a key that is deleted stay.
    KeepsSlotsOfDeletedKeys,
}
