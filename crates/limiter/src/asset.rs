//! The asset of a call, as callers name it.

use limiter_core::AssetId;

/// The asset of a call: `&AssetId`, or `None` for a call of no asset; also from a `&Option<AssetId>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the asset of a call",
    label = "expected `&AssetId` or `None`",
    note = "parse the id of an asset once, and pass it by reference: `let gpt5: AssetId = \"gpt-5\".parse()?;`"
)]
pub trait OfAsset<'a>: Send {
    /// Returns the asset, if the call has one.
    fn asset(self) -> Option<&'a AssetId>;
}

impl<'a> OfAsset<'a> for &'a AssetId {
    fn asset(self) -> Option<&'a AssetId> {
        Some(self)
    }
}

impl<'a> OfAsset<'a> for Option<&'a AssetId> {
    fn asset(self) -> Self {
        self
    }
}

impl<'a> OfAsset<'a> for &'a Option<AssetId> {
    fn asset(self) -> Option<&'a AssetId> {
        self.as_ref()
    }
}
