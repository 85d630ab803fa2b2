//! Keys by the numbers of their levels. Level 0 is a key alone, or the group of keys 1 and 2.

use std::sync::LazyLock;

use limiter_core::KeyId;

/// The levels of a key by their numbers: its group, if it has one, and at last the key itself. A change concerns one level alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Path(pub(crate) &'static [usize]);

/// A key, and whether its calls are for the asset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    pub(crate) path: Path,
    pub(crate) asset: bool,
}

impl Path {
    pub(crate) const ALONE: Self = Self(&[0]);
    pub(crate) const FIRST: Self = Self(&[0, 1]);
    pub(crate) const SECOND: Self = Self(&[0, 2]);

    /// One level, without its group.
    pub(crate) const fn of_level(level: usize) -> Self {
        const LEVELS: [Path; 3] = [Path(&[0]), Path(&[1]), Path(&[2])];
        LEVELS[level]
    }

    pub(crate) fn levels(self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator {
        self.0.iter().copied()
    }

    /// The level at this place.
    pub(crate) const fn at(self, place: usize) -> usize {
        self.0[place]
    }

    /// The group of one of the levels.
    pub(crate) fn group_of(self, level: usize) -> Option<usize> {
        self.levels().take_while(|other| *other != level).last()
    }

    /// The last level: the key itself.
    pub(crate) const fn own(self) -> usize {
        self.0[self.0.len() - 1]
    }

    pub(crate) fn key_id(self) -> &'static KeyId {
        &KEY_IDS[self.own()]
    }
}

impl Default for Path {
    fn default() -> Self {
        Self::ALONE
    }
}

static KEY_IDS: LazyLock<[KeyId; 3]> =
    LazyLock::new(|| ["k", "k/1", "k/2"].map(|id| id.parse().unwrap()));
