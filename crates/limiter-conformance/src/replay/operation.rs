//! Operations: the lines of a history.

use std::collections::BTreeMap;

use limiter_core::{KeyKind, TokenType};
use serde::{Serialize, Serializer};

use super::{END_OF_9999, LARGEST};

/// One line: an action and its time.
///
/// Any value can be written; one that [is not within its bounds](Self::is_within_bounds) is answered `invalid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Operation {
    /// The time of the clock, in unix milliseconds. It may step back from one operation to the next.
    pub at: u64,
    /// The action.
    #[serde(flatten)]
    pub action: Action,
}

/// An action on the key with a label of this file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Action {
    /// Makes a key. The label of a deleted key may be used again, for a new key.
    Create(Create),
    /// Changes the given fields and leaves the rest.
    Update(Update),
    /// `check_and_consume`: decides, and charges when it admits.
    Check(Call),
    /// Decides like [`Check`](Self::Check) and changes nothing.
    Peek(Call),
    /// Decides and charges an estimate, which can be corrected once.
    Reserve(Reserve),
    /// Raises the estimate of a running call.
    Extend(Totals),
    /// Corrects the estimate to the actual cost of the call.
    Settle(Totals),
    /// Takes the whole charge back: the call never went upstream.
    Cancel {
        /// The label of the key.
        key: String,
        /// The id of the reservation.
        id: String,
    },
    /// Shows the usage.
    Usage {
        /// The label of the key.
        key: String,
    },
    /// Ends a key for good.
    Delete {
        /// The label of the key.
        key: String,
    },
}

/// A new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Create {
    /// The label of the key.
    pub key: String,
    /// The kind of the key.
    pub kind: KeyKind,
    /// The limits of all its calls, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global: Option<Limits>,
    /// The limits of its calls of one asset each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub assets: Assets,
    /// The budget, in millionths of a credit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u64>,
    /// The instant from which on the key is expired, in unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
}

/// A change of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Update {
    /// The label of the key.
    pub key: String,
    /// The limits of all its calls.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub global: Change<Limits>,
    /// The limits of the assets: the whole set is replaced.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub assets: Change<Assets>,
    /// The budget, in millionths of a credit.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub budget: Change<u64>,
    /// The instant from which on the key is expired, in unix milliseconds.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub expires_at: Change<u64>,
}

/// A call, made or only peeked at, and its cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The label of the key.
    pub key: String,
    /// The asset; a call without one meets the global rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
    /// The number of requests: 1 by default, 0 for a top-up of a running call.
    pub requests: u64,
    /// Input tokens.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Millionths of a credit.
    pub credits: u64,
    /// The id under which a [`Check`](Action::Check) is charged once. A peek and a reservation have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A call that is charged by its estimate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reserve {
    /// The call and its estimated cost.
    #[serde(flatten)]
    pub estimate: Call,
    /// The id of the reservation.
    pub id: String,
    /// The time in which it can be corrected, from now on.
    pub ttl_ms: u64,
}

/// The cost of a reserved call; `None` stays as it was estimated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// The label of the key.
    pub key: String,
    /// The id of the reservation.
    pub id: String,
    /// All input tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// All output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// All millionths of a credit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credits: Option<u64>,
}

/// The limits of assets, by the bytes of their ids. `None` is written `null`: no limits.
pub type Assets = BTreeMap<String, Option<Limits>>;

/// The limits of one scope, as written. Without a single number they are no limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Requests in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Requests in a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// Tokens in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Tokens in a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// The tokens that a token limit counts.
    pub token_type: TokenType,
}

/// A change of one field by an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// The field is absent: it stays as it is.
    #[default]
    Keep,
    /// The field is null: there is none from now on.
    Clear,
    /// The field has a value, which replaces the old one.
    Set(T),
}

/// Writes a history as the lines of a file, each with its line end.
pub fn to_jsonl(operations: &[Operation]) -> String {
    operations.iter().map(|operation| operation.to_line() + "\n").collect()
}

impl Operation {
    /// Returns the line of this operation, without a line end.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("strings and whole numbers are always JSON")
    }

    /// Returns whether every number, every id, and the sum of the tokens of a call are within their bounds. An
    /// implementation checks this first, and answers `invalid` if not. The sum of [`Totals`] is not checked here: absent
    /// totals are those of the reservation.
    pub fn is_within_bounds(&self) -> bool {
        fits(self.at)
            && match &self.action {
                Action::Create(create) => {
                    create.global.iter().all(Limits::is_within_bounds)
                        && assets_fit(&create.assets)
                        && create.budget.is_none_or(fits)
                        && create.expires_at.is_none_or(is_enterable)
                }
                Action::Update(update) => {
                    update.global.value().is_none_or(Limits::is_within_bounds)
                        && update.assets.value().is_none_or(assets_fit)
                        && update.budget.value().copied().is_none_or(fits)
                        && update.expires_at.value().copied().is_none_or(is_enterable)
                }
                Action::Check(call) | Action::Peek(call) => call.is_within_bounds(),
                Action::Reserve(reserve) => {
                    reserve.estimate.is_within_bounds()
                        && is_request_id(&reserve.id)
                        && reserve.ttl_ms >= 1
                        && fits(reserve.ttl_ms)
                }
                Action::Extend(totals) | Action::Settle(totals) => totals.is_within_bounds(),
                Action::Cancel { id, .. } => is_request_id(id),
                Action::Usage { .. } | Action::Delete { .. } => true,
            }
    }
}

impl Call {
    fn is_within_bounds(&self) -> bool {
        // "A charge whose input + output exceed 2^53 − 1 is refused"; the sum covers each of the two.
        self.asset.as_deref().is_none_or(is_asset_id)
            && fits(self.requests)
            && u128::from(self.input) + u128::from(self.output) <= u128::from(LARGEST)
            && fits(self.credits)
            && self.request_id.as_deref().is_none_or(is_request_id)
    }
}

impl Totals {
    fn is_within_bounds(&self) -> bool {
        let numbers = [self.input, self.output, self.credits];
        is_request_id(&self.id) && numbers.into_iter().flatten().all(fits)
    }
}

impl Limits {
    fn is_within_bounds(&self) -> bool {
        let numbers = [
            self.requests_per_minute,
            self.requests_per_day,
            self.tokens_per_minute,
            self.tokens_per_day,
        ];
        numbers.into_iter().flatten().all(fits)
    }
}

impl<T> Change<T> {
    /// Returns whether the field stays as it is.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// Returns the value that replaces the old one, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Keep | Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }

    /// Returns the new value, which may be none, if the field changes.
    pub fn changed(self) -> Option<Option<T>> {
        match self {
            Self::Keep => None,
            Self::Clear => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }
}

/// `Keep` has no JSON; the fields of [`Update`] skip it.
impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

fn assets_fit(assets: &Assets) -> bool {
    assets
        .iter()
        .all(|(asset, limits)| is_asset_id(asset) && limits.iter().all(Limits::is_within_bounds))
}

fn is_asset_id(asset: &str) -> bool {
    (1..=LONGEST_ASSET_ID).contains(&asset.len())
}

fn is_request_id(id: &str) -> bool {
    (1..=LONGEST_REQUEST_ID).contains(&id.len())
}

fn fits(number: u64) -> bool {
    number <= LARGEST
}

/// "Instants lie in the years 1970 to 9999; any other is refused when it enters."
fn is_enterable(unix_ms: u64) -> bool {
    unix_ms <= END_OF_9999
}

/// In bytes, as the specification's terms have it.
const LONGEST_ASSET_ID: usize = 256;
/// The same for the ids of calls.
const LONGEST_REQUEST_ID: usize = 128;
