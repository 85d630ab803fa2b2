//! Helpers for the saved form of a key.

use serde::{Deserialize, Deserializer};

/// Reads an optional value that must be written even if it is `null`.
///
/// Serde alone takes a missing field as `None`, so that a limit whose name was damaged would load as no limit.
pub(crate) fn required<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}
