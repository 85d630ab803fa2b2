//! A charge that is corrected once the call's cost is known, in the windows that it was charged to.

use serde::{Deserialize, Serialize};

use crate::charge::Charge;
use crate::counts::WindowId;
use crate::schedule::ScopeState;
use crate::state::{KeyState, LocatedAsset};

/// How a charge is corrected.
pub(crate) struct Settlement<'a> {
    pub(crate) admitted: &'a AdmittingWindows,
    pub(crate) charged: &'a Charge,
    pub(crate) actual: &'a Charge,
    /// What the actual tokens exceed the charged ones by, input and output each.
    pub(crate) overrun: &'a Charge,
}

/// The windows that a call was charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdmittingWindows {
    pub(crate) global: [Option<WindowId>; 2],
    pub(crate) asset: [Option<WindowId>; 2],
}

impl AdmittingWindows {
    /// No window that can be found again.
    pub(crate) const NONE: Self = Self { global: [None; 2], asset: [None; 2] };

    /// Those that are stored now, right after the call was charged.
    pub(crate) fn of(state: &KeyState, asset: LocatedAsset<'_>) -> Self {
        let ids = |scope: Option<&ScopeState>| {
            scope.map_or([None; 2], |scope| scope.window_ids().map(Some))
        };
        Self { global: ids(state.global()), asset: ids(state.asset(asset)) }
    }
}
