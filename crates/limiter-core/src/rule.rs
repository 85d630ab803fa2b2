//! Rules: whose calls are counted, in which window, and what is counted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;
use crate::window::Window;

/// Whose calls a rule counts.
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

/// What a rule counts.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// Whose calls are counted.
    pub scope: Scope,
    /// In which window.
    pub window: Window,
    /// What is counted.
    pub unit: Unit,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Global => "global",
            Self::Asset => "asset",
        })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}/{}", self.scope, self.window, self.unit))
    }
}

impl FromStr for Rule {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let scopes = [Scope::Global, Scope::Asset].into_iter();
        let windows = scopes.flat_map(|scope| Window::ALL.map(|window| (scope, window)));
        let mut rules =
            windows.flat_map(|(scope, window)| UNITS.map(|unit| Self { scope, window, unit }));
        rules.find(|rule| rule.to_string() == text).ok_or_else(|| {
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

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

pub(crate) const UNITS: [Unit; 2] = [Unit::Requests, Unit::Tokens];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_prints_and_reads_as_its_three_parts() {
        let rule = Rule { scope: Scope::Asset, window: Window::Day, unit: Unit::Tokens };
        assert_eq!(rule.to_string(), "asset/day/tokens");
        assert_eq!("asset/day/tokens".parse(), Ok(rule));
        assert!("asset/day".parse::<Rule>().is_err());
    }
}
