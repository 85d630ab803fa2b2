//! Nobody watches.

use limiter_core::{AssetId, KeyId};

use super::{Named, Operation};

/// Nothing.
#[derive(Clone, Debug)]
pub(crate) struct Watch;

/// Nothing.
#[derive(Clone, Debug)]
pub(crate) struct Whose;

impl Watch {
    pub(crate) const fn new(_in_memory: bool) -> Self {
        Self
    }

    pub(crate) const fn whose(&self, _key: &KeyId, _asset: Option<&AssetId>) -> Whose {
        Whose
    }

    /// The call as it is.
    pub(crate) fn decision<F>(&self, _operation: Operation, _named: Named<'_, '_>, call: F) -> F {
        call
    }

    /// The call as it is.
    pub(crate) fn answer<F>(&self, _operation: Operation, _key: Option<&KeyId>, call: F) -> F {
        call
    }
}

impl Whose {
    pub(crate) const fn names(&self) -> Named<'static, 'static> {
        (None, None)
    }
}
