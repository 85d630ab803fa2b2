//! A key and an asset, resolved once.

use std::sync::Arc;

use limiter_core::{AssetId, Charge, Decision, DecisionHandle, StoreError};

use crate::cell::{Cell, SharedHint};
use crate::time::Time;

/// Decides calls of one key and asset without looking either of them up.
///
/// It sees changed limits, expiry and deletion of its key at once, because it decides on the same cell
/// as everybody else. It keeps a deleted key's cell alive, but not its counts.
#[derive(Debug)]
pub struct MemoryHandle {
    cell: Arc<Cell>,
    asset: Option<AssetId>,
    time: Time,
    hint: SharedHint,
}

impl MemoryHandle {
    pub(crate) fn new(cell: Arc<Cell>, asset: Option<AssetId>, time: Time) -> Self {
        Self { cell, asset, time, hint: SharedHint::default() }
    }

    /// Decides whether the key may make this call, and charges it if so.
    #[inline]
    pub fn check_and_consume(&self, charge: &Charge) -> Decision {
        self.cell.check_and_consume_hinted(self.asset.as_ref(), &self.hint, charge, &self.time)
    }

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    pub fn peek(&self, charge: &Charge) -> Decision {
        self.cell.peek(self.asset.as_ref(), charge, &self.time)
    }
}

impl Clone for MemoryHandle {
    fn clone(&self) -> Self {
        Self::new(self.cell.clone(), self.asset.clone(), self.time.clone())
    }
}

impl DecisionHandle for MemoryHandle {
    async fn check_and_consume(&self, charge: &Charge) -> Result<Decision, StoreError> {
        Ok(self.check_and_consume(charge))
    }

    async fn peek(&self, charge: &Charge) -> Result<Decision, StoreError> {
        Ok(self.peek(charge))
    }
}
