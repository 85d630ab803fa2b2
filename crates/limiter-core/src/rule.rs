//! Rules: the scope of a limit, and what it measures: a unit in a window, or calls in parallel.

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
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Scope {
    /// All calls of the key.
    Global,
    /// The key's calls of one asset.
    Asset,
    /// The key's calls of all assets that its configuration does not list.
    Other,
}

/// The unit that a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub enum Unit {
    /// Requests.
    Requests,
    /// Input and output tokens together.
    Tokens,
    /// Input tokens.
    InputTokens,
    /// Output tokens.
    OutputTokens,
    /// Credits, in millionths.
    Credits,
}

/// One limit as a call meets it: a scope, and what is measured. It reads and prints as in `asset/day/tokens` and
/// `global/parallel`.
///
/// Rules are ordered as they are listed: global, asset, other; shorter window first; then by unit, in the order of
/// [`Unit::ALL`]; the parallel limit of a scope last.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::{Measure, Rule, Scope, Unit, Window};
///
/// let rule: Rule = "asset/day/tokens".parse()?;
/// assert_eq!(rule, Rule::of(Scope::Asset, Window::Day, Unit::Tokens));
/// assert_eq!((rule.window(), rule.unit()), (Some(Window::Day), Some(Unit::Tokens)));
/// assert_eq!("global/parallel".parse::<Rule>()?.measure, Measure::Parallel);
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule {
    /// The calls that are counted.
    pub scope: Scope,
    /// The amount or the calls that are limited.
    pub measure: Measure,
}

/// The quantity that a rule limits: an amount in a window, or the calls that are open at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// The amount of a unit in a window.
    Amount(Window, Unit),
    /// The calls that are open at the same time.
    Parallel,
}

words!(
    Scope { Global: "global", Asset: "asset", Other: "other" },
    "scope",
    "global, asset or other"
);
words!(
    Unit {
        Requests: "requests",
        Tokens: "tokens",
        InputTokens: "input_tokens",
        OutputTokens: "output_tokens",
        Credits: "credits"
    },
    "unit",
    "requests, tokens, input_tokens, output_tokens or credits"
);

impl Scope {
    /// Every scope, in canonical order.
    pub const ALL: [Self; 3] = [Self::Global, Self::Asset, Self::Other];
}

impl Unit {
    /// Every unit, in canonical order.
    pub const ALL: [Self; 5] =
        [Self::Requests, Self::Tokens, Self::InputTokens, Self::OutputTokens, Self::Credits];

    /// Returns the name for people: `requests`, `tokens`, `input tokens`, `output tokens`, `credits`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input tokens",
            Self::OutputTokens => "output tokens",
            Self::Credits => "credits",
        }
    }
}

/// The names of all rules of amounts, by scope, window and unit.
macro_rules! names {
    ($($scope:literal)+) => { [$(names!(@ $scope "minute" "hour" "day" "week" "month" "ever")),+] };
    (@ $scope:literal $($window:literal)+) => {
        [$([
            concat!($scope, "/", $window, "/requests"),
            concat!($scope, "/", $window, "/tokens"),
            concat!($scope, "/", $window, "/input_tokens"),
            concat!($scope, "/", $window, "/output_tokens"),
            concat!($scope, "/", $window, "/credits"),
        ]),+]
    };
}

impl Rule {
    /// The limit that is also called the budget: credits over the whole life of the key.
    pub const BUDGET: Self = Self::of(Scope::Global, Window::Ever, Unit::Credits);

    /// Returns the rule of a unit in a window.
    #[must_use]
    pub const fn of(scope: Scope, window: Window, unit: Unit) -> Self {
        Self { scope, measure: Measure::Amount(window, unit) }
    }

    /// Returns the parallel limit of a scope.
    #[must_use]
    pub const fn parallel(scope: Scope) -> Self {
        Self { scope, measure: Measure::Parallel }
    }

    /// Returns every rule, in canonical order.
    pub fn all() -> impl Iterator<Item = Self> {
        Scope::ALL.into_iter().flat_map(|scope| {
            let amounts = Window::ALL.into_iter().flat_map(move |window| {
                Unit::ALL.into_iter().map(move |unit| Self::of(scope, window, unit))
            });
            amounts.chain([Self::parallel(scope)])
        })
    }

    /// Returns the window of the count; `None` for a parallel limit.
    #[must_use]
    pub const fn window(self) -> Option<Window> {
        match self.measure {
            Measure::Amount(window, _) => Some(window),
            Measure::Parallel => None,
        }
    }

    /// Returns the unit that is counted; `None` for a parallel limit.
    #[must_use]
    pub const fn unit(self) -> Option<Unit> {
        match self.measure {
            Measure::Amount(_, unit) => Some(unit),
            Measure::Parallel => None,
        }
    }

    /// Returns whether it limits the calls that are open at the same time.
    #[must_use]
    pub const fn is_parallel(self) -> bool {
        matches!(self.measure, Measure::Parallel)
    }

    /// Returns the name, as it prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        const NAMES: [[[&str; 5]; 6]; 3] = names!("global" "asset" "other");
        const PARALLEL: [&str; 3] = ["global/parallel", "asset/parallel", "other/parallel"];
        match self.measure {
            Measure::Amount(window, unit) => {
                NAMES[self.scope as usize][window as usize][unit as usize]
            }
            Measure::Parallel => PARALLEL[self.scope as usize],
        }
    }

    /// Returns whether it counts credits for ever, as the budget does.
    #[must_use]
    pub const fn is_budget(self) -> bool {
        matches!(self.measure, Measure::Amount(Window::Ever, Unit::Credits))
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
        Self::all().find(|rule| rule.name() == text).ok_or_else(|| {
            let known = "scope/window/unit, such as asset/day/tokens, or scope/parallel";
            InvalidValue::unknown_word("rule", text, known)
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
    fn a_rule_prints_and_reads_as_its_parts() {
        let rule = Rule::of(Scope::Asset, Window::Day, Unit::OutputTokens);
        assert_eq!(rule.to_string(), "asset/day/output_tokens");
        assert!("asset/day".parse::<Rule>().is_err());
        for rule in Rule::all() {
            let name = match rule.measure {
                Measure::Amount(window, unit) => format!("{}/{window}/{unit}", rule.scope),
                Measure::Parallel => format!("{}/parallel", rule.scope),
            };
            assert_eq!(rule.name(), name);
            assert_eq!(rule.name().parse(), Ok(rule));
        }
        assert!(Rule::all().is_sorted());
        assert_eq!(Rule::all().count(), 93);
    }
}
