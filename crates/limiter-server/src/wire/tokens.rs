//! The token type of the wire, which chooses the unit of `tpm` and `tpd`.

use limiter::{Unit, Window};
use serde::{Deserialize, Serialize};

/// The tokens that `tpm` and `tpd` limit. Null means the total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TokenType {
    Total,
    Input,
    Output,
}

impl TokenType {
    /// Every type, in the order in which a record shows one if a scope limits several.
    const ALL: [Self; 3] = [Self::Total, Self::Input, Self::Output];

    /// Returns the type of the limits per minute and day that a record shows, of those that a scope has.
    pub(crate) fn shown(is_limited: impl Fn(Window, Unit) -> bool) -> Self {
        let shown = |of: &Self| WINDOWS.into_iter().any(|window| is_limited(window, of.unit()));
        Self::ALL.into_iter().find(shown).unwrap_or(Self::Total)
    }

    pub(crate) const fn unit(self) -> Unit {
        match self {
            Self::Total => Unit::Tokens,
            Self::Input => Unit::InputTokens,
            Self::Output => Unit::OutputTokens,
        }
    }

    /// Returns the type as it is answered.
    pub(crate) fn answered(self) -> Option<Self> {
        (self != Self::Total).then_some(self)
    }
}

/// The windows of this wire.
pub(crate) const WINDOWS: [Window; 2] = [Window::Minute, Window::Day];
