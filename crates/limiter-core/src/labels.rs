//! Labels: names and values of a key, for the service's own use.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::error::InvalidValue;
use crate::names::{check_length, shown};
use crate::object::distinct_keys;

/// Up to 16 labels of a key, each a name of 1 to 64 bytes with a value of up to 256, without control and bidirectional control
/// characters. The engine keeps and shows them, and does nothing else with them.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::{KeyConfig, Labels};
///
/// let config = KeyConfig::named("ci")?.with_labels(Labels::new([("team", "search"), ("tier", "")])?);
/// assert_eq!(config.labels.get("team"), Some("search"));
/// assert_eq!(serde_json::to_value(&config.labels)?, serde_json::json!({"team": "search", "tier": ""}));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Labels(BTreeMap<SmolStr, SmolStr>);

impl Labels {
    /// No labels.
    pub const NONE: Self = Self(BTreeMap::new());
    /// The most labels of a key.
    pub const MOST: usize = 16;
    /// The most bytes of a name.
    pub const MAX_NAME_BYTES: usize = 64;
    /// The most bytes of a value.
    pub const MAX_VALUE_BYTES: usize = 256;

    /// Creates labels from their names and values. Of several values of one name, the last one stays.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyLabels`], [`InvalidValue::Length`] for a name, [`InvalidValue::LabelValue`] for the length of a
    /// value, or [`InvalidValue::Character`].
    pub fn new<N: AsRef<str>, V: AsRef<str>>(
        labels: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, InvalidValue> {
        let mut all = BTreeMap::new();
        for (name, value) in labels {
            let (name, value) = (name.as_ref(), value.as_ref());
            check_length("the name of a label", name, Self::MAX_NAME_BYTES)?;
            shown("the name of a label", name)?;
            let (length, max) = (value.len(), Self::MAX_VALUE_BYTES);
            if length > max {
                return Err(InvalidValue::LabelValue { name: name.to_owned(), length, max });
            }
            shown("the value of a label", value)?;
            all.insert(SmolStr::new(name), SmolStr::new(value));
        }
        let (count, max) = (all.len(), Self::MOST);
        if count > max {
            return Err(InvalidValue::TooManyLabels { count, max });
        }
        Ok(Self(all))
    }

    /// Returns the value of a label, if there is one of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(SmolStr::as_str)
    }

    /// Returns names and values, by the bytes of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let labels: BTreeMap<SmolStr, SmolStr> = distinct_keys(deserializer)?;
        Self::new(labels).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_bounds() {
        let numbered = |count: usize| Labels::new((0..count).map(|n| (format!("l{n}"), "")));
        assert!(numbered(0).unwrap().is_empty());
        assert_eq!(numbered(16).unwrap().iter().count(), 16);
        assert_eq!(numbered(17), Err(InvalidValue::TooManyLabels { count: 17, max: 16 }));
        assert!(Labels::new([("n".repeat(64), "v".repeat(256))]).is_ok());
        let name = "the name of a label";
        for (label, refused) in [
            (("".to_owned(), ""), InvalidValue::Length { what: name, length: 0, max: 64 }),
            (("n".repeat(65), ""), InvalidValue::Length { what: name, length: 65, max: 64 }),
            (("a\n".to_owned(), ""), InvalidValue::Character { what: name, character: '\n' }),
            (
                ("a".to_owned(), "\u{202e}"),
                InvalidValue::Character { what: "the value of a label", character: '\u{202e}' },
            ),
            (
                ("a".to_owned(), "v".repeat(257).as_str()),
                InvalidValue::LabelValue { name: "a".to_owned(), length: 257, max: 256 },
            ),
        ] {
            assert_eq!(Labels::new([label]), Err(refused));
        }
    }

    #[test]
    fn a_label_is_given_once() {
        let error = serde_json::from_str::<Labels>(r#"{"a":"1","a":"2"}"#).unwrap_err();
        assert!(error.to_string().contains("duplicate field"), "{error}");
    }
}
