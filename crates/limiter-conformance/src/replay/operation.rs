//! Operations: the lines of a history.

use std::collections::{BTreeMap, BTreeSet};

use limiter_core::{Effective, KeyKind, TimeZone, Unit, Window};
use serde::ser::SerializeMap;
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

/// An action, mostly on the key or group with a label of this file.
///
/// A label is a path: `acme/search/ci` is the key `ci` of the group `acme/search`. Each segment is of this file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Action {
    /// Makes a key or a group. The label of a deleted one may be used again, for a new one.
    Create(Create),
    /// Changes the given fields and leaves the rest.
    Update(Update),
    /// `check_and_consume`: decides, and charges when it admits.
    Check(Call),
    /// Decides like [`Check`](Self::Check) and changes nothing.
    Peek(Call),
    /// Decides and charges an estimate, which can be corrected.
    Reserve(Reserve),
    /// Changes the estimate of a running call. `extend` is another name.
    Amend(Totals),
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
    /// Shows what was counted on each of the last days.
    History {
        /// The label of the key.
        key: String,
        /// The number of days, today included.
        days: u64,
    },
    /// Shows the thresholds that have fired since the last time that this was asked.
    Events {},
    /// Sets what is used to zero, in all windows that end.
    Reset {
        /// The label of the key.
        key: String,
    },
    /// Ends a key, or a group with nothing beneath it, for good.
    Delete {
        /// The label of the key.
        key: String,
    },
    /// Makes a plan, or changes the given fields of the one with this label.
    Plan(Plan),
    /// Ends a plan that no key and no group has. Its label may be used again, for a new one.
    DeletePlan {
        /// The label of the plan.
        plan: String,
    },
}

/// A new key or group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Create {
    /// The label of the key.
    pub key: String,
    /// The kind of the key.
    pub kind: KeyKind,
    /// The label of its plan, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Of a group, the label of the plan of keys beneath it that nobody made, if they may make calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<String>,
    /// The limits of all its calls, without the budget.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub global: Limits,
    /// How many of all its reservations may be open at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Amount>,
    /// The assets that are listed, with their limits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub assets: Assets,
    /// The rule for assets that are not listed, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<Other>,
    /// The budget, in millionths of a credit: the limit `ever/credits` of all its calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Amount>,
    /// The instant from which on the key is expired, in unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// The zone of its days, weeks and months.
    #[serde(skip_serializing_if = "TimeZone::is_utc")]
    pub time_zone: TimeZone,
    /// Its own thresholds, in percent, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<Vec<u64>>,
    /// Whether calls beyond a limit are let through.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// A change of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Update {
    /// The label of the key.
    pub key: String,
    /// When changed limits take effect.
    #[serde(skip_serializing_if = "is_next")]
    pub effective: Effective,
    /// The version that the key must have, if it matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The label of its plan.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub plan: Change<String>,
    /// Of a group, the label of the plan of keys beneath it that nobody made.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub open: Change<String>,
    /// The limits of all its calls, without the budget.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub global: Change<Limits>,
    /// How many of all its reservations may be open at the same time.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub parallel: Change<Amount>,
    /// The assets that are listed: the whole set is replaced.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub assets: Change<Assets>,
    /// The rule for assets that are not listed.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub other: Change<Other>,
    /// The budget, in millionths of a credit.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub budget: Change<Amount>,
    /// The instant from which on the key is expired, in unix milliseconds.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub expires_at: Change<u64>,
    /// The zone of its days, weeks and months.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub time_zone: Change<TimeZone>,
    /// Its own thresholds, in percent.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub thresholds: Change<Vec<u64>>,
    /// Whether calls beyond a limit are let through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<bool>,
}

/// A new plan, or a change of one. Of a new one, what is absent is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The label of the plan.
    pub plan: String,
    /// When changed limits take effect, for each key and group that has the plan.
    #[serde(skip_serializing_if = "is_next")]
    pub effective: Effective,
    /// The limits of all calls of a key, without the budget.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub global: Change<Limits>,
    /// How many reservations of a key may be open at the same time.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub parallel: Change<Amount>,
    /// The assets that are listed: the whole set is replaced.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub assets: Change<Assets>,
    /// The rule for assets that are not listed.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub other: Change<Other>,
    /// The budget of each key, in millionths of a credit.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub budget: Change<Amount>,
    /// The zone of the days, weeks and months of keys whose own is UTC.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub time_zone: Change<TimeZone>,
    /// The thresholds of keys that have none of their own, in percent.
    #[serde(skip_serializing_if = "Change::is_keep")]
    pub thresholds: Change<Vec<u64>>,
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
    /// All requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
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

/// Assets with their limits, by the bytes of their ids. `None` is written `null`, and the asset is not listed; without any
/// limit it is listed, and only counted.
pub type Assets = BTreeMap<String, Option<Limits>>;

/// The rule for assets that are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// All of them together meet these limits.
    Limited(Limits),
    /// They are refused.
    Denied,
}

/// The limits of one scope, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The limits on amounts.
    pub amounts: BTreeMap<(Window, Unit), Amount>,
    /// How many reservations may be open at the same time; of all calls it has a field of its own.
    pub parallel: Option<Amount>,
}

/// One limit, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// This much, and no more.
    Limited(u64),
    /// The limit of the plan is lifted.
    Unlimited,
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
            && self.action.key().is_none_or(is_path)
            && match &self.action {
                Action::Create(create) => {
                    // An admin key belongs to no group.
                    (create.kind != KeyKind::Admin || parent(&create.key).is_none())
                        && create.global.with_budget(create.budget).is_within_bounds()
                        && create.parallel.is_none_or(Amount::fits)
                        && assets_fit(&create.assets)
                        && create.other.as_ref().is_none_or(Other::is_within_bounds)
                        && create.expires_at.is_none_or(is_enterable)
                        && create.thresholds.as_deref().is_none_or(are_thresholds)
                }
                Action::Update(update) => {
                    let budget = update.budget.value().copied();
                    let global = update.global.value().cloned().unwrap_or_default();
                    global.with_budget(budget).is_within_bounds()
                        && update.parallel.value().copied().is_none_or(Amount::fits)
                        && update.version.is_none_or(fits)
                        && update.assets.value().is_none_or(assets_fit)
                        && update.other.value().is_none_or(Other::is_within_bounds)
                        && update.expires_at.value().copied().is_none_or(is_enterable)
                        && update.thresholds.value().is_none_or(|it| are_thresholds(it))
                }
                Action::Plan(plan) => plan.is_within_bounds(),
                Action::Check(call) | Action::Peek(call) => call.is_within_bounds(),
                Action::Reserve(reserve) => {
                    reserve.estimate.is_within_bounds()
                        && is_request_id(&reserve.id)
                        && reserve.ttl_ms >= 1
                        && fits(reserve.ttl_ms)
                }
                Action::Amend(totals) | Action::Settle(totals) => totals.is_within_bounds(),
                Action::Cancel { id, .. } => is_request_id(id),
                Action::History { days, .. } => *days >= 1 && fits(*days),
                Action::Usage { .. }
                | Action::Events {}
                | Action::Reset { .. }
                | Action::Delete { .. }
                | Action::DeletePlan { .. } => true,
            }
    }
}

impl Action {
    /// Returns the label of its key or group, if it is about one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Create(create) => Some(&create.key),
            Self::Update(update) => Some(&update.key),
            Self::Check(call) | Self::Peek(call) => Some(&call.key),
            Self::Reserve(reserve) => Some(&reserve.estimate.key),
            Self::Amend(totals) | Self::Settle(totals) => Some(&totals.key),
            Self::Cancel { key, .. }
            | Self::Usage { key }
            | Self::History { key, .. }
            | Self::Reset { key }
            | Self::Delete { key } => Some(key),
            Self::Events {} | Self::Plan(_) | Self::DeletePlan { .. } => None,
        }
    }
}

impl Plan {
    fn is_within_bounds(&self) -> bool {
        let budget = self.budget.value().copied();
        let global = self.global.value().cloned().unwrap_or_default();
        global.with_budget(budget).is_within_bounds()
            && self.parallel.value().copied().is_none_or(Amount::fits)
            && self.assets.value().is_none_or(assets_fit)
            && self.other.value().is_none_or(Other::is_within_bounds)
            && self.thresholds.value().is_none_or(|it| are_thresholds(it))
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
        let numbers = [self.requests, self.input, self.output, self.credits];
        is_request_id(&self.id) && numbers.into_iter().flatten().all(fits)
    }
}

impl Limits {
    /// Returns whether there is no limit at all.
    pub fn is_none(&self) -> bool {
        self.amounts.is_empty() && self.parallel.is_none()
    }

    /// Returns the limits with the budget, if there is one.
    #[must_use]
    pub fn with_budget(&self, budget: Option<Amount>) -> Self {
        let budget = budget.map(|budget| ((Window::Ever, Unit::Credits), budget));
        let amounts = self.amounts.clone().into_iter().chain(budget).collect();
        Self { amounts, parallel: self.parallel }
    }

    /// Returns whether no limit is too large, and there are not too many.
    pub fn is_within_bounds(&self) -> bool {
        let limited = self.amounts.values().filter(|it| **it != Amount::Unlimited).count();
        let mut limits = self.amounts.values().copied().chain(self.parallel);
        limited <= MOST_LIMITS && limits.all(Amount::fits)
    }
}

impl Amount {
    /// Returns the limit, if there is one.
    pub fn limit(self) -> Option<u64> {
        match self {
            Self::Limited(limit) => Some(limit),
            Self::Unlimited => None,
        }
    }

    fn fits(self) -> bool {
        self.limit().is_none_or(fits)
    }
}

impl From<u64> for Amount {
    fn from(limit: u64) -> Self {
        Self::Limited(limit)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Limited(limit) => limit.serialize(serializer),
            Self::Unlimited => serializer.serialize_str(UNLIMITED),
        }
    }
}

impl Other {
    fn is_within_bounds(&self) -> bool {
        match self {
            Self::Limited(limits) => limits.is_within_bounds(),
            Self::Denied => true,
        }
    }
}

/// Writes the form of the second version.
impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named =
            self.amounts.iter().map(|((window, unit), it)| (format!("{window}/{unit}"), it));
        let named: Vec<(String, &Amount)> = named.collect();
        let mut object = serializer.serialize_map(None)?;
        if !named.is_empty() {
            object.serialize_entry("limits", &InOrder(named))?;
        }
        if let Some(limit) = self.parallel {
            object.serialize_entry("parallel", &limit)?;
        }
        object.end()
    }
}

/// An object whose fields are in this order.
struct InOrder<'a>(Vec<(String, &'a Amount)>);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for Other {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Limited(limits) => limits.serialize(serializer),
            Self::Denied => serializer.serialize_str("denied"),
        }
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

fn are_thresholds(percents: &[u64]) -> bool {
    let different: BTreeSet<_> = percents.iter().collect();
    different.len() <= MOST_THRESHOLDS && percents.iter().all(|it| (1..=100).contains(it))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_next(effective: &Effective) -> bool {
    *effective == Effective::Next
}

/// Returns the paths of the groups of a key, the outermost first, and at last its own.
pub fn levels(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end]).chain([path])
}

/// Returns the path of the group that a path lies in, if it has more than one segment.
pub fn parent(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(group, _)| group)
}

fn is_path(label: &str) -> bool {
    label.split('/').count() <= MOST_SEGMENTS
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

/// The word for a limit that is lifted.
pub(super) const UNLIMITED: &str = "unlimited";
/// "A path of one to four segments."
const MOST_SEGMENTS: usize = 4;
/// "At most 12 in a scope."
const MOST_LIMITS: usize = 12;
/// Thresholds of one key.
const MOST_THRESHOLDS: usize = 4;
/// In bytes, as the specification's terms have it.
const LONGEST_ASSET_ID: usize = 256;
/// The same for the ids of calls.
const LONGEST_REQUEST_ID: usize = 128;
