//! Answers, and how they are written.

use std::cmp::Ordering;
use std::fmt;

use limiter_core::{Measure, Rule, Unit, Window};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// The answer to one operation.
///
/// Answers are compared with all their fields. Some of them are never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A key was created, reset or deleted; or a plan was saved or deleted.
    Ok,
    /// A key was updated. It is written as [`Ok`](Self::Ok) is.
    Updated {
        /// The thresholds that the update itself fires. They are never written.
        crossed: Vec<Crossed>,
    },
    /// A reservation was settled or cancelled.
    Settled {
        /// The final charge of the call.
        cost: Cost,
        /// Whether the reservation had ended in this way before. It is never written.
        repeated: bool,
        /// The thresholds that fire. They are never written.
        crossed: Vec<Crossed>,
    },
    /// The operation was not done.
    Error(Problem),
    /// The key has no room for another call of this kind. It is written as an [`Error`](Self::Error) is.
    TooMany {
        /// The instant at which there is room for the call, in unix milliseconds. It is never written.
        retry_at: u64,
    },
    /// The call is admitted.
    Allowed {
        /// Whether it was admitted before under the same id, and is not charged again.
        replayed: bool,
        /// The rest of each limit after it.
        remaining: Remaining,
        /// The thresholds that fire. They are never written.
        crossed: Vec<Crossed>,
    },
    /// The call is beyond a limit, and admitted because the levels that deny it are in shadow mode. They charged nothing.
    Shadowed {
        /// The denial by these levels alone.
        denial: Denial,
        /// The charges of the other levels; `None` if there is no other, or if an amendment changed nothing. It is never written.
        charged: Option<Charged>,
    },
    /// The call is not admitted, and charged nothing.
    Denied(Denial),
    /// The usage.
    Usage(Usage),
    /// The days that have counted anything, the oldest first.
    History(Vec<Day>),
    /// The thresholds that have fired, in their order.
    Events(Vec<Event>),
}

/// The charges of a call that some levels in shadow mode would have denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charged {
    /// The rest of each limit after it, of all levels.
    pub remaining: Remaining,
    /// The thresholds that fire.
    pub crossed: Vec<Crossed>,
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
    /// The key has another version than the update was made from.
    Stale,
    /// The path of a new key or group lies beneath no living group.
    NoGroup,
    /// Keys or groups lie beneath a group that was to be deleted.
    NotEmpty,
    /// There is no such plan.
    NoPlan,
    /// Keys or groups have a plan that was to be deleted.
    InUse,
}

/// The reason for a denial: the first that holds, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The key does not exist, or was deleted, or is a group.
    UnknownKey,
    /// The key or a group of it has expired.
    ExpiredKey {
        /// The path of the group, if it is one. It is never written.
        group: Option<String>,
    },
    /// An admin key makes no calls.
    AdminKey,
    /// The key or a group of it does not list the asset, and denies all others.
    AssetDenied {
        /// The path of the group, if it is one. It is never written.
        group: Option<String>,
    },
    /// The call exceeds a limit of credits for ever.
    BudgetExhausted(Exceeded),
    /// The call exceeds the limit of at least one rule.
    RateLimited(Exceeded),
}

/// The rules that a denied call exceeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Every violated rule, in canonical order.
    pub violated: Vec<LevelRule>,
    /// The rule to wait for.
    pub binding: LevelRule,
    /// The instant at which the same call would be admitted, in unix milliseconds; `None` if it never fits.
    pub retry_at: Option<u64>,
}

/// A rule as a call meets it: one of a group of its key, or of the key itself.
///
/// The rules of one call are ordered with those of the outermost group first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LevelRule {
    /// The path of the group; `None` for a rule of the key itself.
    pub group: Option<String>,
    /// The rule of this level.
    pub rule: Rule,
}

/// The remaining amount of each rule in force, at least 0, in canonical order. The budget is one of the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaining(pub Vec<(LevelRule, u64)>);

/// The final charge of a reserved call: nothing, if it was cancelled. Or what a scope has counted in a day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// The asset, if the call named one. It is never written.
    #[serde(skip)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossed {
    /// The path of the group whose rule it is, if it is none of the key itself.
    pub group: Option<String>,
    /// The rule whose limit it is a share of.
    pub rule: Rule,
    /// The asset, if the rule is one of an asset.
    pub asset: Option<String>,
    /// The share of the limit, in percent.
    pub percent: u8,
    /// The limit.
    pub limit: u64,
    /// The used amount at that time.
    pub used: u64,
    /// The end of the window, in unix milliseconds; `None` if it does not end.
    pub resets_at: Option<u64>,
}

/// A threshold that has fired: the path of its key or group, its rule, and the share in percent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event(pub String, pub Rule, pub u8);

/// The name of a scope of a key, in canonical order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScopeName {
    /// All calls.
    Global,
    /// The calls of one asset.
    Asset(String),
    /// The calls of assets that are not listed.
    Other,
}

/// The usage of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Every scope that is counted, in canonical order.
    pub rows: Vec<Row>,
    /// Credits, which have no window.
    pub credits: Credits,
}

/// The usage of one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The scope.
    pub scope: ScopeName,
    /// The account of today.
    pub account: Cost,
    /// The rules in force, in canonical order.
    pub rules: Vec<RuleUsage>,
    /// The limits that are pending, by window, with the instant of the change. They are never written.
    pub pending: Vec<PendingLimits>,
}

/// The pending limits of a window, with the instant of the change.
pub(crate) type PendingLimits = (Window, Vec<(Unit, u64)>, u64);

/// The usage of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleUsage {
    /// The window and the unit, or the calls in parallel.
    pub measure: Measure,
    /// The amount used, or the calls that are open.
    pub used: u64,
    /// The limit.
    pub limit: u64,
    /// The end of the window, in unix milliseconds; `None` if it does not end.
    pub resets_at: Option<u64>,
}

/// Millionths of a credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Credits {
    /// The credits spent, counted also without a budget.
    pub spent: u64,
    /// The budget, if there is one.
    pub budget: Option<u64>,
}

/// The account of a key on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Day {
    /// The start of the day, in unix milliseconds. In a zone east of UTC, the first day begins before 1970.
    pub start: i64,
    /// The scopes that have counted anything, in canonical order.
    pub scopes: Vec<(ScopeName, Cost)>,
}

impl Answer {
    /// Returns what is left of an answer for a store that decides checks out of leases: whether and why, but no figures of
    /// rules, and not which threshold has fired when.
    #[must_use]
    pub fn without_figures(&self) -> Self {
        let exceeded = || Exceeded {
            violated: Vec::new(),
            binding: LevelRule { group: None, rule: Rule::BUDGET },
            retry_at: None,
        };
        let denied = |denial: &Denial| match denial {
            // A call that asks for more may exceed the budget as well.
            Denial::BudgetExhausted(_) | Denial::RateLimited(_) => Denial::RateLimited(exceeded()),
            denial => denial.clone(),
        };
        match self {
            Self::Updated { .. } => Self::Updated { crossed: Vec::new() },
            Self::Settled { cost, repeated, .. } => {
                Self::Settled { cost: cost.clone(), repeated: *repeated, crossed: Vec::new() }
            }
            Self::Allowed { replayed, .. } => Self::Allowed {
                replayed: *replayed,
                remaining: Remaining(Vec::new()),
                crossed: Vec::new(),
            },
            Self::Shadowed { denial, .. } => {
                Self::Shadowed { denial: denied(denial), charged: None }
            }
            Self::Denied(denial) => Self::Denied(denied(denial)),
            Self::Events(_) => Self::Events(Vec::new()),
            answer => answer.clone(),
        }
    }

    /// Returns the line of this answer, without a line end.
    pub fn to_line(&self) -> String {
        self.line(false)
    }

    /// Returns the line that the first version of the format has for this answer: rows of its form, the budget behind
    /// the rules, no charge of an ended reservation, and no rules of an exhausted budget.
    pub fn to_first_line(&self) -> String {
        self.line(true)
    }

    fn line(&self, is_first: bool) -> String {
        let line = Line { answer: self, is_first };
        serde_json::to_string(&line).expect("strings and whole numbers are always JSON")
    }

    /// Returns the thresholds that fired, which the line leaves out.
    pub fn crossed(&self) -> &[Crossed] {
        match self {
            Self::Updated { crossed }
            | Self::Settled { crossed, .. }
            | Self::Allowed { crossed, .. }
            | Self::Shadowed { charged: Some(Charged { crossed, .. }), .. } => crossed,
            _ => &[],
        }
    }

    /// Returns the thresholds that fired, as events of the key with this path and of its groups.
    pub fn events(&self, key: &str) -> impl Iterator<Item = Event> {
        self.crossed().iter().map(move |it| {
            let level = it.group.as_deref().unwrap_or(key);
            Event(level.to_owned(), it.rule, it.percent)
        })
    }
}

/// An answer, and the version of the format in which it is written.
struct Line<'a> {
    answer: &'a Answer,
    is_first: bool,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_first = self.is_first;
        let mut line = serializer.serialize_map(None)?;
        match self.answer {
            Answer::Ok | Answer::Updated { .. } => line.serialize_entry("ok", &true)?,
            Answer::Settled { cost, .. } => {
                line.serialize_entry("ok", &true)?;
                if !is_first {
                    line.serialize_entry("charged", cost)?;
                }
            }
            Answer::Error(problem) => line.serialize_entry("error", problem)?,
            Answer::TooMany { .. } => line.serialize_entry("error", "too_many")?,
            Answer::Allowed { replayed, remaining, .. } => {
                line.serialize_entry("allowed", &true)?;
                if *replayed {
                    line.serialize_entry("replayed", &true)?;
                }
                line.serialize_entry("remaining", &remaining.fields(is_first))?;
            }
            Answer::Shadowed { denial, .. } => {
                line.serialize_entry("allowed", &true)?;
                line.serialize_entry("shadowed", &Reason { denial, is_first })?;
            }
            Answer::Denied(denial) => {
                line.serialize_entry("allowed", &false)?;
                denial.write(&mut line, is_first)?;
            }
            Answer::Usage(Usage { rows, credits }) => {
                if is_first {
                    let shown = |row: &&Row| row.scope == ScopeName::Global || row.is_limited();
                    let rows: Vec<_> = rows.iter().filter(shown).map(FirstRow).collect();
                    line.serialize_entry("rows", &rows)?;
                } else {
                    line.serialize_entry("rows", rows)?;
                }
                line.serialize_entry("credits", credits)?;
            }
            Answer::History(days) => line.serialize_entry("days", days)?,
            Answer::Events(events) => line.serialize_entry("events", events)?,
        }
        line.end()
    }
}

/// A denial as an object of its own.
struct Reason<'a> {
    denial: &'a Denial,
    is_first: bool,
}

impl Serialize for Reason<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        self.denial.write(&mut object, self.is_first)?;
        object.end()
    }
}

impl Denial {
    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_key",
            Self::ExpiredKey { .. } => "expired_key",
            Self::AdminKey => "admin_key",
            Self::AssetDenied { .. } => "asset_denied",
            Self::BudgetExhausted(_) => "budget_exhausted",
            Self::RateLimited(_) => "rate_limited",
        }
    }

    /// Returns the rules that are exceeded, if that is the reason.
    pub fn exceeded(&self) -> Option<&Exceeded> {
        match self {
            Self::BudgetExhausted(exceeded) | Self::RateLimited(exceeded) => Some(exceeded),
            _ => None,
        }
    }

    fn write<M: SerializeMap>(&self, line: &mut M, is_first: bool) -> Result<(), M::Error> {
        line.serialize_entry("reason", self.reason())?;
        let is_silent = is_first && matches!(self, Self::BudgetExhausted(_));
        let Some(exceeded) = self.exceeded().filter(|_| !is_silent) else { return Ok(()) };
        line.serialize_entry("violated", &exceeded.violated)?;
        line.serialize_entry("binding", &exceeded.binding)?;
        line.serialize_entry("retry_at", &exceeded.retry_at)
    }
}

impl Remaining {
    /// Returns the fields in the order in which they are written.
    fn fields(&self, is_first: bool) -> Fields<'_> {
        let mut rules: Vec<_> = self.0.iter().map(|(rule, left)| (rule, left)).collect();
        if is_first {
            rules.sort_by_key(|(rule, _)| rule.rule == Rule::BUDGET);
        }
        Fields(rules)
    }
}

/// The fields of an object, in this order.
struct Fields<'a>(Vec<(&'a LevelRule, &'a u64)>);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl fmt::Display for ScopeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Asset(asset) => write!(f, "asset:{asset}"),
            Self::Other => f.write_str("other"),
        }
    }
}

impl Serialize for ScopeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ScopeName {
    /// Returns the name in a row, where an asset stands for itself.
    fn in_row(&self) -> &str {
        match self {
            Self::Global => "global",
            Self::Asset(asset) => asset,
            Self::Other => "other",
        }
    }
}

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_map(None)?;
        row.serialize_entry("scope", self.scope.in_row())?;
        row.serialize_entry("account", &self.account)?;
        row.serialize_entry("rules", &Rules(&self.rules))?;
        row.end()
    }
}

struct Rules<'a>(&'a [RuleUsage]);

impl Serialize for Rules<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Of {
            used: u64,
            limit: u64,
            resets_at: Option<u64>,
        }
        serializer.collect_map(self.0.iter().map(|rule| {
            let RuleUsage { measure, used, limit, resets_at } = *rule;
            let name = match measure {
                Measure::Amount(window, unit) => format!("{window}/{unit}"),
                Measure::Parallel => "parallel".to_owned(),
            };
            (name, Of { used, limit, resets_at })
        }))
    }
}

/// A row of the first version: requests and tokens of the minute and of the day.
///
/// Without a limit, the minute counts nothing, and the day is what the account says.
struct FirstRow<'a>(&'a Row);

#[derive(Default, Serialize)]
struct FirstWindow {
    requests: Used,
    tokens: Used,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Used {
    used: Option<u64>,
    limit: Option<u64>,
}

impl Row {
    /// Returns the row of a scope that has a parallel limit alone, and so is not counted.
    pub fn uncounted(scope: ScopeName, rule: RuleUsage) -> Self {
        let (account, pending) = (Cost::default(), Vec::new());
        Self { scope, account, rules: vec![rule], pending }
    }

    /// Returns whether it has limits on amounts but for the budget, in force or pending.
    fn is_limited(&self) -> bool {
        const BUDGET: Measure = Measure::Amount(Window::Ever, Unit::Credits);
        let mut rules = self.rules.iter();
        rules.any(|rule| ![BUDGET, Measure::Parallel].contains(&rule.measure))
            || !self.pending.is_empty()
    }
}

impl FirstRow<'_> {
    fn window(&self, window: Window) -> FirstWindow {
        let Self(row) = *self;
        if !row.is_limited() {
            return FirstWindow::default();
        }
        let of_day = |count: u64| (window == Window::Day).then_some(count);
        let rule = |unit| row.rules.iter().find(|it| it.measure == Measure::Amount(window, unit));
        let used = |it: &RuleUsage| Used { used: Some(it.used), limit: Some(it.limit) };
        let requests = of_day(row.account.requests);
        let tokens = of_day(row.account.input.saturating_add(row.account.output));
        let of_tokens = [Unit::Tokens, Unit::InputTokens, Unit::OutputTokens];
        let without_limit = |count| Used { used: count, limit: None };
        FirstWindow {
            requests: rule(Unit::Requests).map_or_else(|| without_limit(requests), used),
            tokens: of_tokens
                .into_iter()
                .find_map(rule)
                .map_or_else(|| without_limit(tokens), used),
        }
    }
}

impl Serialize for FirstRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_map(None)?;
        row.serialize_entry("scope", self.0.scope.in_row())?;
        row.serialize_entry("minute", &self.window(Window::Minute))?;
        row.serialize_entry("day", &self.window(Window::Day))?;
        row.end()
    }
}

impl From<Rule> for LevelRule {
    fn from(rule: Rule) -> Self {
        Self { group: None, rule }
    }
}

/// The groups of one call are prefixes of each other, so that the bytes of their paths order them.
impl Ord for LevelRule {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = |it: &Self| (it.group.is_none(), it.group.clone(), it.rule);
        order(self).cmp(&order(other))
    }
}

impl PartialOrd for LevelRule {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The name of the rule in answers, as in `global/minute/requests` or `acme:budget`.
impl fmt::Display for LevelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = &self.group {
            write!(f, "{group}:")?;
        }
        f.write_str(if self.rule == Rule::BUDGET { BUDGET } else { self.rule.name() })
    }
}

impl Serialize for LevelRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const BUDGET: &str = "budget";
