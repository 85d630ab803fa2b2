//! Histories to run on the model and on every store.
//!
//! [`histories`] are random ones over a small world in which limits are low and clocks step; [`small_world`] is every
//! short one over a small alphabet.

mod clock;
mod random;
mod small_world;

pub use clock::ClockStep;
pub use random::histories;
pub use small_world::{ALPHABET, Letter, SmallWorld, small_world};
