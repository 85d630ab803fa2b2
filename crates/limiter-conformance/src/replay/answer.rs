//! Answers, and how they are written.

use limiter_core::Rule;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A key was created, updated or deleted.
    Ok,
    /// A reservation was settled or cancelled. It is written as [`Ok`](Self::Ok) is.
    Settled {
        /// The final charge of the call. Like the thresholds, it is compared, and never written.
        cost: Cost,
        /// Whether the reservation had ended in this way before.
        repeated: bool,
        /// The thresholds that fire.
        crossed: Vec<Crossed>,
    },
    /// The operation was not done.
    Error(Problem),
    /// The key has no room for another call of this kind. It is written as an [`Error`](Self::Error) is.
    TooMany {
        /// The instant at which there is room for the call, in unix milliseconds. It is compared, and never written.
        retry_at: u64,
    },
    /// The call is admitted.
    Allowed {
        /// Whether it was admitted before under the same id, and is not charged again.
        replayed: bool,
        /// The rest of each limit after it.
        remaining: Remaining,
        /// The thresholds that fire.
        crossed: Vec<Crossed>,
    },
    /// The call is not admitted, and charged nothing.
    Denied(Denial),
    /// The usage.
    Usage(Usage),
}

/// The reason why an operation was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// A number, an id or a sum is out of its bounds.
    Invalid,
    /// The key does not exist, or was deleted.
    UnknownKey,
    /// The label is that of a living key, or the id that of another reservation.
    AlreadyExists,
    /// There is no such reservation: its ttl has passed, or the dedupe time since its end.
    UnknownReservation,
    /// The reservation was cancelled, or settled with other totals.
    AlreadySettled,
}

/// The reason for a denial: the first that holds, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The key does not exist, or was deleted.
    UnknownKey,
    /// The key has expired.
    ExpiredKey,
    /// An admin key makes no calls.
    AdminKey,
    /// The call exceeds the budget.
    BudgetExhausted,
    /// The call exceeds the limit of at least one rule.
    RateLimited {
        /// Every violated rule: global before asset, minute before day, requests before tokens.
        violated: Vec<Rule>,
        /// The rule to wait for.
        binding: Rule,
        /// The instant at which the same call would be admitted, in unix milliseconds; `None` if it never fits.
        retry_at: Option<u64>,
    },
}

/// The remaining amounts, at least 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    /// Of each rule in force, in the order of [`Denial::RateLimited::violated`].
    pub rules: Vec<(Rule, u64)>,
    /// Of the budget, if there is one, in millionths of a credit.
    pub budget: Option<u64>,
}

/// The final charge of a reserved call: nothing, if it was cancelled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The asset, if the call named one.
    pub asset: Option<String>,
    /// Requests.
    pub requests: u64,
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Millionths of a credit.
    pub credits: u64,
}

/// A threshold that fires: a share of a limit that was reached.
///
/// It is compared, and never written. The format has no field for it, so that the committed answers can check a model
/// in another language that has no thresholds. All keys of a file have the default ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossed {
    /// The rule whose limit it is a share of; `None` for the budget.
    pub rule: Option<Rule>,
    /// The asset, if the rule is one of an asset.
    pub asset: Option<String>,
    /// The share of the limit, in percent.
    pub percent: u8,
    /// The limit, or the budget.
    pub limit: u64,
    /// The used amount at that time.
    pub used: u64,
    /// The end of the window, in unix milliseconds; `None` for the budget.
    pub resets_at: Option<u64>,
}

/// The usage of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The global scope, then each asset with limits, now or pending, by the bytes of its name.
    pub rows: Vec<Row>,
    /// Credits, which have no window.
    pub credits: Credits,
}

/// The usage of one scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `global` in the first row; the asset in the others, which may be called `global` too.
    pub scope: String,
    /// In the minute open now.
    pub minute: WindowUsage,
    /// In the day open now.
    pub day: WindowUsage,
}

/// The usage of one scope in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WindowUsage {
    /// Requests.
    pub requests: Used,
    /// Tokens, of the type in force in that window.
    pub tokens: Used,
}

/// One count and its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Used {
    /// The count; `None` if the scope is not counted.
    pub used: Option<u64>,
    /// The limit in force, if any.
    pub limit: Option<u64>,
}

/// Millionths of a credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Credits {
    /// The credits spent, counted also without a budget.
    pub spent: u64,
    /// The budget, if there is one.
    pub budget: Option<u64>,
}

impl Answer {
    /// Returns the line of this answer, without a line end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("strings and whole numbers are always JSON")
    }

    /// Returns the thresholds that fired, which the line leaves out.
    pub fn crossed(&self) -> &[Crossed] {
        match self {
            Self::Settled { crossed, .. } | Self::Allowed { crossed, .. } => crossed,
            _ => &[],
        }
    }
}

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        match self {
            Self::Ok | Self::Settled { .. } => line.serialize_entry("ok", &true)?,
            Self::Error(problem) => line.serialize_entry("error", problem)?,
            Self::TooMany { .. } => line.serialize_entry("error", "too_many")?,
            Self::Allowed { replayed, remaining, .. } => {
                line.serialize_entry("allowed", &true)?;
                if *replayed {
                    line.serialize_entry("replayed", &true)?;
                }
                line.serialize_entry("remaining", remaining)?;
            }
            Self::Denied(denial) => {
                line.serialize_entry("allowed", &false)?;
                line.serialize_entry("reason", denial.reason())?;
                if let Denial::RateLimited { violated, binding, retry_at } = denial {
                    line.serialize_entry("violated", violated)?;
                    line.serialize_entry("binding", binding)?;
                    line.serialize_entry("retry_at", retry_at)?;
                }
            }
            Self::Usage(Usage { rows, credits }) => {
                line.serialize_entry("rows", rows)?;
                line.serialize_entry("credits", credits)?;
            }
        }
        line.end()
    }
}

impl Denial {
    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_key",
            Self::ExpiredKey => "expired_key",
            Self::AdminKey => "admin_key",
            Self::BudgetExhausted => "budget_exhausted",
            Self::RateLimited { .. } => "rate_limited",
        }
    }
}

impl Serialize for Remaining {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        for (rule, remaining) in &self.rules {
            line.serialize_entry(rule, remaining)?;
        }
        if let Some(budget) = self.budget {
            line.serialize_entry("budget", &budget)?;
        }
        line.end()
    }
}
