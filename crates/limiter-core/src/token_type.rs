//! The tokens that a limit counts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;

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

impl fmt::Display for TokenType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Total => "total",
            Self::Output => "output",
            Self::Input => "input",
        })
    }
}

impl FromStr for TokenType {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "total" => Ok(Self::Total),
            "output" => Ok(Self::Output),
            "input" => Ok(Self::Input),
            _ => Err(InvalidValue::unknown_word("token type", text, "total, output, input")),
        }
    }
}
