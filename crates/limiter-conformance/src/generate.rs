//! Histories to run on the model and on every store.
//!
//! [`histories`] are random ones over a small world in which limits are low and clocks step; [`small_world`] is every
//! short one over a small alphabet. [`histories_with_reservations`] and [`reserved_world`] are the same for stores with
//! reservations.

mod clock;
mod random;
mod reserved_world;
mod reserving;
mod sequences;
mod small_world;

pub use clock::ClockStep;
pub use random::{histories, histories_with_reservations};
pub use reserved_world::{RESERVED_ALPHABET, ReservedLetter, reserved_world};
pub use sequences::Sequences;
pub use small_world::{ALPHABET, Letter, small_world};
