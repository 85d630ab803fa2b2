//! A key and an asset, resolved once.

use std::sync::Arc;

use limiter_core::{AssetId, Charge, Decision, KeyId};

use crate::cell::{Reached, SharedHint, peek};
use crate::map::{Absent, CellMap, Place};

/// A key and an asset, resolved once, to decide calls without a look-up.
///
/// Limits apply as soon as they are in force, expiry and deletion of its key at once: it decides on the same cell as
/// all other callers.
#[derive(Debug)]
pub struct MemoryHandle {
    cells: Arc<CellMap>,
    /// `None` for an unregistered key, whose cell comes and goes. That of a key deleted since is invalid: beneath an
    /// open group, calls go on without it.
    place: Option<Place>,
    key: KeyId,
    asset: Option<AssetId>,
    hint: SharedHint,
}

impl MemoryHandle {
    pub(crate) fn new(
        cells: Arc<CellMap>,
        place: Option<Place>,
        key: KeyId,
        asset: Option<AssetId>,
    ) -> Self {
        Self { cells, place, key, asset, hint: SharedHint::default() }
    }

    /// Decides whether the key may make this call, and charges it if so.
    #[inline]
    pub fn check_and_consume(&self, charge: &Charge) -> Decision {
        let asset = self.asset.as_ref();
        let searched = || self.cells.charge(&self.key, asset, charge);
        let Some(place) = self.place else { return searched() };
        let charged = |reached: Result<Reached<'_, '_>, Absent>| match reached {
            Ok(reached) => reached.charge_hinted(asset, &self.hint, charge),
            Err(absent) => self.cells.refuse(&self.key, asset, charge, absent),
        };
        self.cells.reach_place(place, charged, searched)
    }

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    pub fn peek(&self, charge: &Charge) -> Decision {
        let asset = self.asset.as_ref();
        let peeked = self.place.and_then(|place| {
            self.cells.look_at(place, |states, now| peek(&self.key, states, asset, charge, now))
        });
        peeked.unwrap_or_else(|| self.cells.peek(&self.key, asset, charge))
    }
}

impl Clone for MemoryHandle {
    fn clone(&self) -> Self {
        Self::new(self.cells.clone(), self.place, self.key.clone(), self.asset.clone())
    }
}
