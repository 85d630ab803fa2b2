//! The names of fields.

use limiter_core::AssetId;

/// The field of an asset's counts; for no asset, a field that never exists.
pub(crate) fn asset_field(asset: Option<&AssetId>) -> Vec<u8> {
    prefixed(b'a', asset)
}

/// The field of an asset's limits.
pub(crate) fn asset_limits_field(asset: Option<&AssetId>) -> Vec<u8> {
    prefixed(b'A', asset)
}

fn prefixed(prefix: u8, asset: Option<&AssetId>) -> Vec<u8> {
    let Some(asset) = asset else { return Vec::new() };
    let asset = asset.as_str().as_bytes();
    let mut field = Vec::with_capacity(1 + asset.len());
    field.push(prefix);
    field.extend_from_slice(asset);
    field
}
