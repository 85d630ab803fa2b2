//! The vocabulary of the stories.

pub(super) use super::key::{Key, fired, in_words, reason};
pub(super) use super::reserving::{is_new, is_replayed};
pub(super) use super::world::{
    World, assert_refused, at_noon_and, generous, generous_config, managed, member,
};
pub(super) use super::{Source, Suite};
pub(super) use crate::fixtures::*;
pub(super) use crate::waiting::{CALLERS, Wait, at_once};
