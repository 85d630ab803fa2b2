//! Helpers for the saved form of a key.

use serde::{Deserialize, Deserializer};

/// Deserializes an optional field that must be present, if only as `null`.
///
/// By default serde reads a missing field as `None`: a limit with a damaged field name would load as no limit.
pub(crate) fn required<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}
