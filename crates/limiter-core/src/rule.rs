//! Rules: the scope, the window and the unit of a limit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::error::InvalidValue;
use crate::window::Window;
use crate::words::words;

/// The calls that a rule counts.
///
/// It does not repeat the asset's id: a decision is about one asset, which its caller has named, and an
/// allowed call pays for no copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Scope {
    /// All calls of the key.
    Global,
    /// The key's calls of the asset.
    Asset,
}

/// The unit that a rule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens, of the type that the scope counts.
    Tokens,
}

/// One limit: a scope, a window and a unit. It reads and prints as in `asset/day/tokens`.
///
/// Rules are ordered as they are listed: global before asset, minute before day, requests before tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule {
    /// The calls that are counted.
    pub scope: Scope,
    /// The window of the count.
    pub window: Window,
    /// The unit that is counted.
    pub unit: Unit,
}

words!(Scope { Global: "global", Asset: "asset" });
words!(Unit { Requests: "requests", Tokens: "tokens" });

impl Rule {
    /// Every rule, in canonical order.
    pub const ALL: [Self; 8] = {
        const fn rule(scope: Scope, window: Window, unit: Unit) -> Rule {
            Rule { scope, window, unit }
        }
        [
            rule(Scope::Global, Window::Minute, Unit::Requests),
            rule(Scope::Global, Window::Minute, Unit::Tokens),
            rule(Scope::Global, Window::Day, Unit::Requests),
            rule(Scope::Global, Window::Day, Unit::Tokens),
            rule(Scope::Asset, Window::Minute, Unit::Requests),
            rule(Scope::Asset, Window::Minute, Unit::Tokens),
            rule(Scope::Asset, Window::Day, Unit::Requests),
            rule(Scope::Asset, Window::Day, Unit::Tokens),
        ]
    };

    /// Returns the name, as it prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.scope, self.window, self.unit) {
            (Scope::Global, Window::Minute, Unit::Requests) => "global/minute/requests",
            (Scope::Global, Window::Minute, Unit::Tokens) => "global/minute/tokens",
            (Scope::Global, Window::Day, Unit::Requests) => "global/day/requests",
            (Scope::Global, Window::Day, Unit::Tokens) => "global/day/tokens",
            (Scope::Asset, Window::Minute, Unit::Requests) => "asset/minute/requests",
            (Scope::Asset, Window::Minute, Unit::Tokens) => "asset/minute/tokens",
            (Scope::Asset, Window::Day, Unit::Requests) => "asset/day/requests",
            (Scope::Asset, Window::Day, Unit::Tokens) => "asset/day/tokens",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl FromStr for Rule {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let found = Self::ALL.into_iter().find(|rule| rule.name() == text);
        found.ok_or_else(|| {
            InvalidValue::unknown_word("rule", text, "scope/window/unit, such as asset/day/tokens")
        })
    }
}

impl TryFrom<String> for Rule {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_prints_and_reads_as_its_three_parts() {
        let rule = Rule { scope: Scope::Asset, window: Window::Day, unit: Unit::Tokens };
        assert_eq!(rule.to_string(), "asset/day/tokens");
        assert_eq!("asset/day/tokens".parse(), Ok(rule));
        assert!("asset/day".parse::<Rule>().is_err());
        for rule in Rule::ALL {
            let Rule { scope, window, unit } = rule;
            assert_eq!(rule.name(), format!("{scope}/{window}/{unit}"));
        }
        assert!(Rule::ALL.is_sorted());
    }
}
