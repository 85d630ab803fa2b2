//! Mistakes that a lease must not make, planted to see that the simulation finds them.

/// A planted mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bug {
    #[default]
    None,
    /// The time of a lease counts from the answer.
    AnchorsAtTheAnswer,
    /// A lease goes on in the next window.
    GoesOnInTheNextWindow,
    /// What goes back stays in the book meanwhile, and is drawn from.
    DrawsFromWhatGoesBack,
}
