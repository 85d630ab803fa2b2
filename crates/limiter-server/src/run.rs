//! Runs of models: built-in ones, and those that run at a provider.

pub(crate) mod echo;
mod refused;
mod send;
pub(crate) mod upstream;

pub(crate) use self::upstream::{Answered, Call, Stopped, forward, give_up};
