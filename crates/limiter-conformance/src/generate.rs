//! Histories to run on the model and on every store.
//!
//! [`histories`] are random ones over a small world in which limits are low and clocks step; [`small_world`] is every
//! short one over a small alphabet. [`histories_with_reservations`] and [`reserved_world`] are the same with reservations,
//! [`histories_with_groups`] and [`grouped_world`] with groups too, [`parallel_world`] with parallel limits,
//! [`histories_with_plans`] and [`planned_world`] with plans, [`histories_with_open_groups`] with unregistered keys.

mod clock;
mod enumerated;
mod labels;
mod planning;
mod random;
mod reserving;

pub use enumerated::{
    Sequences, grouped_world, parallel_world, planned_world, reserved_world, small_world,
};
pub use random::{
    histories, histories_with_groups, histories_with_open_groups, histories_with_plans,
    histories_with_reservations,
};
