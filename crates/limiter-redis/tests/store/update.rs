//! Updates of keys by a store, without the checks of an admin.

use limiter_core::{Effective, KeyConfig, KeyId, KeyUpdate, Thresholds};

/// An update of a key from this version, whose limits take effect at the next windows.
pub(crate) fn update(id: &KeyId, version: u64, config: &KeyConfig) -> KeyUpdate {
    let (id, config, effective) = (id.clone(), config.clone(), Effective::Next);
    KeyUpdate { id, version, config, effective, thresholds: Thresholds::DEFAULT }
}
