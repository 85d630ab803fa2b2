//! Thresholds as they are written in flags, in the environment and in the file.

use std::str::FromStr;

use limiter::{InvalidValue, Thresholds};
use serde::Deserialize;

/// `80,100`, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Thresholds")]
pub(super) struct Percents(pub(super) Thresholds);

impl FromStr for Percents {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "none" { Ok(Self(Thresholds::NONE)) } else { text.parse().map(Self) }
    }
}

impl From<Thresholds> for Percents {
    fn from(thresholds: Thresholds) -> Self {
        Self(thresholds)
    }
}
