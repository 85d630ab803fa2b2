//! Histories to run on the model and on every store.
//!
//! [`histories`] are random ones over a small world in which limits are low and clocks step; [`small_world`] is every
//! short one over a small alphabet. [`histories_with_reservations`] and [`reserved_world`] are the same with reservations.

mod clock;
mod enumerated;
mod random;
mod reserving;

pub use enumerated::{Sequences, reserved_world, small_world};
pub use random::{histories, histories_with_reservations};
