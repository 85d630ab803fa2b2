//! The tokens that a limit counts.

use serde::{Deserialize, Serialize};

use crate::words::words;

/// The tokens that a limit counts.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum TokenType {
    /// Input and output tokens together.
    #[default]
    Total,
    /// Output tokens alone.
    Output,
    /// Input tokens alone.
    Input,
}

impl TokenType {
    /// Returns the name of the tokens that are counted.
    #[must_use]
    pub const fn tokens(self) -> &'static str {
        match self {
            Self::Total => "tokens",
            Self::Output => "output tokens",
            Self::Input => "input tokens",
        }
    }
}

words!(
    TokenType { Total: "total", Output: "output", Input: "input" },
    "token type",
    "total, output, input"
);
