//! The vocabulary of the stories.

pub(super) use super::key::*;
pub(super) use super::reserving::{is_new, is_replayed};
pub(super) use super::world::*;
pub(super) use super::{Source, Suite};
pub(super) use crate::fixtures::*;
pub(super) use crate::waiting::{CALLERS, Wait, at_once};
