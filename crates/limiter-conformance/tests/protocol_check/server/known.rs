//! The levels of a key as they were at one instant.

use limiter_core::{InvalidValue, LevelPlace, Levels, LevelsMut, ScopeId, Stored};

use super::Snapshot;
use super::stored::called;
use crate::path::Subject;

/// The levels of a key, the outermost first; or one level alone, to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Known(pub(crate) Vec<Snapshot>);

impl Known {
    /// The levels that a call meets.
    pub(crate) fn levels(&self, of: Subject) -> Levels<'_> {
        let states = self.0.iter().map(|level| &level.state);
        Levels::new(of.path.key_id(), called(of.asset), states)
    }

    /// The same, to be changed.
    pub(crate) fn levels_mut(&mut self, of: Subject) -> LevelsMut<'_> {
        let states = self.0.iter_mut().map(|level| &mut level.state);
        LevelsMut::new(of.path.key_id(), called(of.asset), states)
    }

    /// The part that a client keeps whose calls are for the asset, or for none.
    pub(crate) fn met(self, asset: bool) -> Self {
        Self(self.0.into_iter().map(|level| level.met(asset)).collect())
    }

    /// These levels with the numbers that the server has shown.
    pub(crate) fn with_numbers_of(&self, shown: &Self) -> Result<Self, InvalidValue> {
        let pairs = self.0.iter().zip(&shown.0);
        pairs.map(|(level, shown)| level.with_numbers_of(shown)).collect::<Result<_, _>>().map(Self)
    }

    pub(crate) fn stamps(&self) -> Vec<u32> {
        self.0.iter().map(|level| level.stamp).collect()
    }

    /// The scopes at these places, each with its level.
    pub(crate) fn ids_of(&self, places: impl Iterator<Item = LevelPlace>) -> Vec<(usize, ScopeId)> {
        places.map(|at| (at.level, self.0[at.level].state.id_at(at.place))).collect()
    }

    /// The records at these places.
    pub(crate) fn records_of(&self, places: impl Iterator<Item = LevelPlace>) -> Vec<Stored> {
        let record =
            |at: LevelPlace| Some(self.0[at.level].state.scope_at(at.place)?.record().stored());
        places.filter_map(record).collect()
    }
}
