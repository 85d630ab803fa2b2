//! Prices by model.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use limiter_core::AssetId;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Price;

/// The prices of many models, each by the name of the model or by a pattern.
///
/// In a pattern, each `*` stands for any text, also for none. The entry with the exact name of the model counts; else,
/// of the patterns that match, the one with the most characters other than `*`. Of patterns with equally many, the first
/// in the order of their text counts. Names are case-sensitive.
///
/// ```
/// use limiter::PriceTable;
///
/// let prices: PriceTable = toml::from_str(r#"
/// "gpt-5" = { input = "1.25", cached_input = "0.125", output = 10 }
/// "gpt-5-mini*" = { input = "0.25", cached_input = "0.025", output = 2 }
/// "anthropic/*" = { input = 3, cached_input = "0.3", cache_write = "3.75", output = 15 }
/// "*" = { request = "0.01" }
/// "#)?;
/// assert_eq!(prices.of("gpt-5-mini-2025-08-07"), prices.of("gpt-5-mini*"));
/// assert_ne!(prices.of("gpt-5-mini-2025-08-07"), prices.of("gpt-5"));
/// assert_eq!(prices.of("gpt-6"), prices.of("*"));
/// # Ok::<(), toml::de::Error>(())
/// ```
///
/// Without `"*"`, models that no entry matches have no price.
///
/// A table has at most [`MAX_ENTRIES`](Self::MAX_ENTRIES), each of at most
/// [`MAX_MODEL_BYTES`](Self::MAX_MODEL_BYTES). A lookup takes time in proportion to the number of patterns and allocates
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceTable {
    exact: BTreeMap<String, Price>,
    /// The most specific first.
    patterns: Vec<Pattern>,
}

/// An entry that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PriceTableError {
    /// A name or pattern that is empty or too long.
    #[error(
        "a model in a price table has {length} bytes, but must have 1 to {max}",
        max = PriceTable::MAX_MODEL_BYTES
    )]
    Length {
        /// Its length in bytes.
        length: usize,
    },
    /// The same name or pattern twice.
    #[error("{model:?} has two prices: remove one of them")]
    Twice {
        /// The name or pattern.
        model: String,
    },
    /// More entries than a table may have.
    #[error(
        "a price table may have at most {} entries: join some of them by a pattern",
        PriceTable::MAX_ENTRIES
    )]
    TooMany,
}

impl PriceTable {
    /// The largest number of entries: twice the number of models in the largest public price lists.
    pub const MAX_ENTRIES: usize = 5_000;
    /// The longest name or pattern in bytes, as for an [`AssetId`].
    pub const MAX_MODEL_BYTES: usize = AssetId::MAX_BYTES;

    /// Makes a table of names or patterns and their prices.
    ///
    /// ```
    /// use limiter::{Price, PriceTable};
    ///
    /// let price = Price::per_million_tokens("1.25".parse()?, "10".parse()?);
    /// let prices = PriceTable::new([("gpt-5*", price)])?;
    /// assert_eq!(prices.of("gpt-5-2025-08-07"), Some(&price));
    /// assert_eq!(prices.of("gpt-4"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PriceTableError`] for the first entry that is refused.
    pub fn new<M: Into<String>>(
        prices: impl IntoIterator<Item = (M, Price)>,
    ) -> Result<Self, PriceTableError> {
        let mut table = Self::default();
        for (model, price) in prices {
            table.insert(model.into(), price)?;
        }
        Ok(table)
    }

    /// Returns the price of a model, or `None` if no entry matches.
    ///
    /// A name longer than [`MAX_MODEL_BYTES`](Self::MAX_MODEL_BYTES) matches `*` only.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<&Price> {
        self.of_any(&[model])
    }

    /// Returns the price of a model that has several names, such as a path and an id. An entry with an exact
    /// name comes first, in the order of the names. Otherwise the most specific pattern that matches any name counts.
    #[must_use]
    pub fn of_any(&self, names: &[&str]) -> Option<&Price> {
        let names = || names.iter().filter(|name| name.len() <= Self::MAX_MODEL_BYTES);
        let exact = names().find_map(|name| self.exact.get(*name));
        exact.or_else(|| {
            let found = self.patterns.iter().find(|pattern| {
                pattern.literals == 0 || names().any(|name| matches(&pattern.text, name))
            });
            found.map(|pattern| &pattern.price)
        })
    }

    /// Iterates over the entries: first the exact names, then the patterns, the most specific first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Price)> {
        let exact = self.exact.iter().map(|(model, price)| (model.as_str(), price));
        let patterns = self.patterns.iter().map(|pattern| (pattern.text.as_str(), &pattern.price));
        exact.chain(patterns)
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.patterns.len()
    }

    /// Returns whether no model has a price.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn insert(&mut self, model: String, price: Price) -> Result<(), PriceTableError> {
        if !(1..=Self::MAX_MODEL_BYTES).contains(&model.len()) {
            return Err(PriceTableError::Length { length: model.len() });
        }
        if self.len() == Self::MAX_ENTRIES {
            return Err(PriceTableError::TooMany);
        }
        if model.contains(WILDCARD) {
            let pattern = Pattern::new(model, price);
            match self.patterns.binary_search_by(|other| other.order().cmp(&pattern.order())) {
                Ok(_) => return Err(PriceTableError::Twice { model: pattern.text }),
                Err(place) => self.patterns.insert(place, pattern),
            }
        } else {
            match self.exact.entry(model) {
                Entry::Occupied(other) => {
                    return Err(PriceTableError::Twice { model: other.key().clone() });
                }
                Entry::Vacant(place) => {
                    place.insert(price);
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    text: String,
    /// Characters other than wildcards.
    literals: usize,
    price: Price,
}

impl Pattern {
    fn new(text: String, price: Price) -> Self {
        let literals = text.chars().filter(|character| *character != WILDCARD).count();
        Self { text, literals, price }
    }

    fn order(&self) -> (Reverse<usize>, &str) {
        (Reverse(self.literals), &self.text)
    }
}

/// Takes each part of the pattern where it first occurs, which is enough: a later place leaves less for the next part.
/// So the time is linear in the lengths of both.
fn matches(pattern: &str, model: &str) -> bool {
    let mut parts = pattern.split(WILDCARD);
    let first = parts.next().unwrap_or_default();
    let Some(rest) = model.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    let Some(mut rest) = rest.strip_suffix(last) else {
        return false;
    };
    parts.all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    })
}

impl Serialize for PriceTable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for PriceTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = PriceTable;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of prices by model")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PriceTable, A::Error> {
                let mut table = PriceTable::default();
                while let Some(model) = map.next_key()? {
                    let price = map.next_value()?;
                    table.insert(model, price).map_err(A::Error::custom)?;
                }
                Ok(table)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

const WILDCARD: char = '*';
