//! The limits of a scope: amounts by window and unit.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, IntoDeserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::object::FromObject;
use crate::rule::Unit;
use crate::window::Window;

/// The largest count or limit, 2^53 − 1: every integer up to it is exact in JSON readers and in Lua.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// The limits of one scope: amounts by window and unit, at most [`Self::MOST`]; and how many calls may be open at the same
/// time.
///
/// A limit of 0 allows nothing; one that is absent does not limit. Of a key with a [plan](crate::Plan) those that are absent are
/// the plan's, and one that is `unlimited` lifts it. In JSON each has a name such as `requests_per_minute`,
/// `output_tokens_per_day`, `credits_ever` or `parallel`; amounts of credits are decimal texts:
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::{Limits, Unit, Window};
///
/// let limits = Limits::builder()
///     .requests_per_minute(2)
///     .output_tokens_per_day(30)
///     .credits_per_month("12.50".parse::<limiter::Credits>()?)
///     .limit(Window::Week, Unit::Requests, 100)
///     .parallel(4)
///     .build()?;
/// assert_eq!(limits.get(Window::Minute, Unit::Requests), Some(2));
/// assert_eq!(limits.get(Window::Day, Unit::Tokens), None);
/// assert_eq!(limits.parallel(), Some(4));
///
/// let json = r#"{"requests_per_minute":2,"output_tokens_per_day":30,"requests_per_week":100,"credits_per_month":"12.50","parallel":4}"#;
/// assert_eq!(serde_json::from_str::<Limits>(json)?, limits);
/// assert_eq!(serde_json::to_string(&limits)?, json);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Limits {
    amounts: Vec<Limit>,
    parallel: Option<u64>,
    /// Limits of a plan that do not hold, sorted.
    lifted: Vec<(Window, Unit)>,
    lifts_parallel: bool,
}

/// One limit of a scope on an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    /// The window in which it holds.
    pub window: Window,
    /// The unit that it counts.
    pub unit: Unit,
    /// The most that may be used in a window, up to [`MAX_COUNT`]; credits in millionths.
    pub amount: u64,
}

impl Limit {
    /// Returns the limit of credits for ever.
    pub(crate) const fn budget(amount: u64) -> Self {
        Self { window: Window::Ever, unit: Unit::Credits, amount }
    }

    pub(crate) fn is_budget(&self) -> bool {
        (self.window, self.unit) == (Window::Ever, Unit::Credits)
    }
}

impl Limits {
    /// No limits.
    pub const NONE: Self =
        Self { amounts: Vec::new(), parallel: None, lifted: Vec::new(), lifts_parallel: false };

    /// The most limits of a scope, its parallel limit apart.
    pub const MOST: usize = 12;

    /// Creates a builder without any limit.
    pub fn builder() -> LimitsBuilder {
        LimitsBuilder::default()
    }

    /// Creates a builder with these limits, to change some of them.
    pub fn to_builder(&self) -> LimitsBuilder {
        LimitsBuilder(self.clone())
    }

    /// Returns the amount of a limit, if there is such a limit.
    #[must_use]
    pub fn get(&self, window: Window, unit: Unit) -> Option<u64> {
        let found = self.iter().find(|limit| (limit.window, limit.unit) == (window, unit));
        found.map(|limit| limit.amount)
    }

    /// Returns how many [reservations](crate::Store::reserve) may be open at the same time, if that is limited.
    #[must_use]
    pub const fn parallel(&self) -> Option<u64> {
        self.parallel
    }

    /// Returns the limits on amounts: shorter window first, then by unit.
    pub fn iter(&self) -> impl Iterator<Item = Limit> {
        self.amounts.iter().copied()
    }

    /// Returns the limits on amounts.
    pub(crate) fn amounts(&self) -> &[Limit] {
        &self.amounts
    }

    /// Returns whether there is no limit at all.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.amounts.is_empty() && self.parallel.is_none()
    }

    /// Returns the limits of a plan that these lift.
    pub fn lifted(&self) -> impl Iterator<Item = (Window, Unit)> {
        self.lifted.iter().copied()
    }

    /// Returns whether these lift the parallel limit of a plan.
    #[must_use]
    pub const fn lifts_parallel(&self) -> bool {
        self.lifts_parallel
    }

    /// Returns these limits with another one.
    pub(crate) fn with(&self, limit: Limit) -> Self {
        self.to_builder().limit(limit.window, limit.unit, limit.amount).0
    }

    /// Returns these limits without one of credits for ever.
    pub(crate) fn without_budget(&self) -> Self {
        let amounts = self.iter().filter(|limit| !limit.is_budget()).collect();
        Self { amounts, ..self.clone() }
    }

    pub(crate) fn lifts_any(&self) -> bool {
        self.lifts_parallel || !self.lifted.is_empty()
    }

    /// Returns the limits that hold: these, and those of the plan that they neither replace nor lift.
    pub(crate) fn over(&self, plan: &Self) -> Self {
        let holds = |limit: &Limit| !self.lifted.contains(&(limit.window, limit.unit));
        let amounts: Self = plan.iter().filter(holds).chain(self.iter()).collect();
        let of_plan = plan.parallel.filter(|_| !self.lifts_parallel);
        amounts.with_parallel(self.parallel.or(of_plan))
    }

    /// Returns the limits with this parallel limit, of [`MAX_COUNT`] at most, in place of theirs.
    #[must_use]
    pub fn with_parallel(self, parallel: Option<u64>) -> Self {
        let parallel = parallel.map(|limit| limit.min(MAX_COUNT));
        Self { parallel, lifts_parallel: self.lifts_parallel && parallel.is_none(), ..self }
    }

    /// Returns the limits on amounts of one window.
    #[must_use]
    pub fn of(&self, window: Window) -> Self {
        self.iter().filter(|limit| limit.window == window).collect()
    }

    /// Returns the windows that have limits, the shorter first.
    pub fn windows(&self) -> impl Iterator<Item = Window> {
        Window::ALL.into_iter().filter(|window| self.iter().any(|limit| limit.window == *window))
    }
}

/// Collects limits on amounts that were checked before; of two for the same window and unit the last one holds.
impl FromIterator<Limit> for Limits {
    fn from_iter<I: IntoIterator<Item = Limit>>(limits: I) -> Self {
        let mut builder = LimitsBuilder::default();
        for Limit { window, unit, amount } in limits {
            builder = builder.limit(window, unit, amount);
        }
        builder.0
    }
}

/// Formats as in `2 requests per minute, 5.00 credits in all, unlimited tokens per day, 4 calls in parallel`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lifted = self.lifted();
        let lifted =
            lifted.map(|(window, unit)| format!("{UNLIMITED} {} {}", unit.label(), Within(window)));
        let parallel = match self.parallel {
            Some(limit) => Some(format!("{limit} calls in parallel")),
            None => self.lifts_parallel.then(|| format!("{UNLIMITED} calls in parallel")),
        };
        let amounts = self.iter().map(|limit| limit.to_string());
        let parts: Vec<String> = amounts.chain(lifted).chain(parallel).collect();
        if parts.is_empty() { f.write_str("no limits") } else { f.write_str(&parts.join(", ")) }
    }
}

/// Formats as in `30 output tokens per day`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, unit, amount } = *self;
        write!(f, "{} {} {}", Quantity(amount, unit), unit.label(), Within(window))
    }
}

/// An amount of a unit, for people: credits as a decimal number.
pub(crate) struct Quantity(pub(crate) u64, pub(crate) Unit);

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(amount, unit) = *self;
        match unit {
            Unit::Credits => Credits::of_count(amount).fmt(f),
            _ => amount.fmt(f),
        }
    }
}

/// A window, for people: `per day`, or `in all`.
pub(crate) struct Within(pub(crate) Window);

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Window::Ever => f.write_str("in all"),
            window => write!(f, "per {window}"),
        }
    }
}

/// Collects [`Limits`]; bounds are checked by [`build`](Self::build).
#[derive(Clone, Debug, Default)]
#[must_use = "limits are made by build()"]
pub struct LimitsBuilder(Limits);

impl LimitsBuilder {
    /// Sets a limit; credits are in millionths. `None` for no such limit.
    pub fn limit(mut self, window: Window, unit: Unit, amount: impl Into<Option<u64>>) -> Self {
        let amounts = &mut self.0.amounts;
        let place =
            amounts.binary_search_by_key(&(window, unit), |limit| (limit.window, limit.unit));
        match (place, amount.into()) {
            (Ok(place), Some(amount)) => amounts[place].amount = amount,
            (Ok(place), None) => drop(amounts.remove(place)),
            (Err(place), Some(amount)) => amounts.insert(place, Limit { window, unit, amount }),
            (Err(_), None) => {}
        }
        self.0.lifted.retain(|lifted| *lifted != (window, unit));
        self
    }

    /// Lifts this limit of a plan. Without a plan it does nothing.
    ///
    /// ```
    /// # use limiter_core as limiter;
    /// use limiter::{Limits, Unit, Window};
    ///
    /// let limits = Limits::builder().unlimited(Window::Day, Unit::Tokens).build()?;
    /// assert_eq!(serde_json::to_string(&limits)?, r#"{"tokens_per_day":"unlimited"}"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unlimited(mut self, window: Window, unit: Unit) -> Self {
        self = self.limit(window, unit, None);
        let place = self.0.lifted.partition_point(|lifted| *lifted < (window, unit));
        self.0.lifted.insert(place, (window, unit));
        self
    }

    /// Lifts the parallel limit of a plan.
    pub fn unlimited_parallel(self) -> Self {
        Self(Limits { parallel: None, lifts_parallel: true, ..self.0 })
    }

    /// Sets how many reservations may be open at the same time; `None`, the default, for any number. A change takes effect at
    /// once, and a check needs no slot.
    pub fn parallel(self, limit: impl Into<Option<u64>>) -> Self {
        Self(Limits { parallel: limit.into(), lifts_parallel: false, ..self.0 })
    }

    /// Checks the bounds, and builds the limits.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] for a limit above [`MAX_COUNT`]; [`InvalidValue::TooManyLimits`] above
    /// [`Limits::MOST`].
    pub fn build(self) -> Result<Limits, InvalidValue> {
        let (count, max) = (self.0.amounts.len(), Limits::MOST);
        if count > max {
            return Err(InvalidValue::TooManyLimits { count, max });
        }
        for limit in self.0.iter().map(|limit| limit.amount).chain(self.0.parallel) {
            counted("a limit", limit)?;
        }
        Ok(self.0)
    }
}

macro_rules! setters {
    ($($name:ident($amount:ty) $window:ident $unit:ident: $what:literal;)*) => {
        impl LimitsBuilder {
            $(
                #[doc = concat!("Sets the limit of ", $what, "; `None`, the default, for no such limit.")]
                pub fn $name(self, limit: impl Into<Option<$amount>>) -> Self {
                    let amount: Option<$amount> = limit.into();
                    self.limit(Window::$window, Unit::$unit, amount.map(u64::from))
                }
            )*
        }
    };
}

setters! {
    requests_per_minute(u64) Minute Requests: "requests per minute";
    requests_per_hour(u64) Hour Requests: "requests per hour";
    requests_per_day(u64) Day Requests: "requests per day";
    requests_per_week(u64) Week Requests: "requests per week";
    requests_per_month(u64) Month Requests: "requests per month";
    tokens_per_minute(u64) Minute Tokens: "input and output tokens per minute";
    tokens_per_hour(u64) Hour Tokens: "input and output tokens per hour";
    tokens_per_day(u64) Day Tokens: "input and output tokens per day";
    tokens_per_week(u64) Week Tokens: "input and output tokens per week";
    tokens_per_month(u64) Month Tokens: "input and output tokens per month";
    input_tokens_per_minute(u64) Minute InputTokens: "input tokens per minute";
    input_tokens_per_hour(u64) Hour InputTokens: "input tokens per hour";
    input_tokens_per_day(u64) Day InputTokens: "input tokens per day";
    input_tokens_per_month(u64) Month InputTokens: "input tokens per month";
    output_tokens_per_minute(u64) Minute OutputTokens: "output tokens per minute";
    output_tokens_per_hour(u64) Hour OutputTokens: "output tokens per hour";
    output_tokens_per_day(u64) Day OutputTokens: "output tokens per day";
    output_tokens_per_month(u64) Month OutputTokens: "output tokens per month";
    credits_per_day(Credits) Day Credits: "credits per day";
    credits_per_week(Credits) Week Credits: "credits per week";
    credits_per_month(Credits) Month Credits: "credits per month";
    credits_ever(Credits) Ever Credits: "credits over the whole life of the key: the budget";
}

impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let has_parallel = self.parallel.is_some() || self.lifts_parallel;
        let count = self.amounts.len().saturating_add(self.lifted.len());
        let mut map =
            serializer.serialize_map(Some(count.saturating_add(usize::from(has_parallel))))?;
        for Limit { window, unit, amount } in self.iter() {
            let name = limit_name(window, unit);
            match unit {
                Unit::Credits => map.serialize_entry(name, &Credits::of_count(amount))?,
                _ => map.serialize_entry(name, &amount)?,
            }
        }
        for (window, unit) in self.lifted() {
            map.serialize_entry(limit_name(window, unit), UNLIMITED)?;
        }
        match self.parallel {
            Some(limit) => map.serialize_entry(PARALLEL, &limit)?,
            None if self.lifts_parallel => map.serialize_entry(PARALLEL, UNLIMITED)?,
            None => {}
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            FromObject(deserializer).deserialize_map(Names)
        } else {
            deserializer.deserialize_map(Names)
        }
    }
}

/// Reads limits by their names; null is no limit.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Limits;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Limits, A::Error> {
        let (mut seen, mut builder) = (Vec::new(), Limits::builder());
        let mut seen_parallel = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == PARALLEL && !seen_parallel {
                seen_parallel = true;
                builder = match map.next_value::<Option<OrUnlimited<u64>>>()? {
                    Some(OrUnlimited::Unlimited) => builder.unlimited_parallel(),
                    Some(OrUnlimited::Amount(limit)) => builder.parallel(limit),
                    None => builder.parallel(None),
                };
                continue;
            }
            if name == PARALLEL {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
            let found = every_name().find(|(_, known)| *known == name);
            let Some(((window, unit), _)) = found else {
                return Err(A::Error::custom(format!(
                    "unknown field `{name}`, expected a limit such as `requests_per_minute`, \
                     `output_tokens_per_day`, `credits_per_month` or `parallel`"
                )));
            };
            if seen.contains(&(window, unit)) {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
            seen.push((window, unit));
            let amount = match unit {
                Unit::Credits => {
                    let credits = map.next_value::<Option<OrUnlimited<Credits>>>()?;
                    credits.map(|credits| credits.map(Credits::millionths))
                }
                _ => map.next_value()?,
            };
            builder = match amount {
                Some(OrUnlimited::Unlimited) => builder.unlimited(window, unit),
                Some(OrUnlimited::Amount(amount)) => builder.limit(window, unit, amount),
                None => builder.limit(window, unit, None),
            };
        }
        builder.build().map_err(A::Error::custom)
    }
}

/// An amount, or the word `unlimited`.
enum OrUnlimited<T> {
    Unlimited,
    Amount(T),
}

impl<T> OrUnlimited<T> {
    fn map<U>(self, of: impl FnOnce(T) -> U) -> OrUnlimited<U> {
        match self {
            Self::Unlimited => OrUnlimited::Unlimited,
            Self::Amount(amount) => OrUnlimited::Amount(of(amount)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrUnlimited<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A self-describing format alone can tell a word from a number.
        if !deserializer.is_human_readable() {
            return T::deserialize(deserializer).map(Self::Amount);
        }
        deserializer.deserialize_any(AmountOrWord(PhantomData))
    }
}

struct AmountOrWord<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for AmountOrWord<T> {
    type Value = OrUnlimited<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount or \"unlimited\"")
    }

    fn visit_u64<E: Error>(self, amount: u64) -> Result<Self::Value, E> {
        T::deserialize(amount.into_deserializer()).map(OrUnlimited::Amount)
    }

    fn visit_i64<E: Error>(self, amount: i64) -> Result<Self::Value, E> {
        T::deserialize(amount.into_deserializer()).map(OrUnlimited::Amount)
    }

    fn visit_f64<E: Error>(self, amount: f64) -> Result<Self::Value, E> {
        T::deserialize(amount.into_deserializer()).map(OrUnlimited::Amount)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        match word {
            UNLIMITED => Ok(OrUnlimited::Unlimited),
            _ => {
                let amount = T::deserialize(word.into_deserializer());
                let amount =
                    amount.map_err(|error: E| E::custom(format!("{error}, or \"{UNLIMITED}\"")));
                amount.map(OrUnlimited::Amount)
            }
        }
    }
}

/// The word for a limit that does not hold.
pub(crate) const UNLIMITED: &str = "unlimited";

/// The name of a parallel limit in serialized forms.
pub(crate) const PARALLEL: &str = "parallel";

/// Returns the name of a limit on an amount in serialized forms.
pub(crate) const fn limit_name(window: Window, unit: Unit) -> &'static str {
    macro_rules! of_unit {
        ($unit:literal) => {
            [
                concat!($unit, "_per_minute"),
                concat!($unit, "_per_hour"),
                concat!($unit, "_per_day"),
                concat!($unit, "_per_week"),
                concat!($unit, "_per_month"),
                concat!($unit, "_ever"),
            ]
        };
    }
    const NAMES: [[&str; 6]; 5] = [
        of_unit!("requests"),
        of_unit!("tokens"),
        of_unit!("input_tokens"),
        of_unit!("output_tokens"),
        of_unit!("credits"),
    ];
    NAMES[unit as usize][window as usize]
}

/// Returns the window and the unit of each possible limit on an amount, and its name.
pub(crate) fn every_name() -> impl Iterator<Item = ((Window, Unit), &'static str)> {
    let units = |window| Unit::ALL.into_iter().map(move |unit| (window, unit));
    let every = Window::ALL.into_iter().flat_map(units);
    every.map(|(window, unit)| ((window, unit), limit_name(window, unit)))
}

/// Checks that a number can be counted exactly, if there is one.
pub(crate) fn counted_if_any(
    what: &'static str,
    value: Option<u64>,
) -> Result<Option<u64>, InvalidValue> {
    value.map(|value| counted(what, value)).transpose()
}

/// Checks that a number can be counted exactly.
pub(crate) fn counted(what: &'static str, value: u64) -> Result<u64, InvalidValue> {
    if value <= MAX_COUNT {
        Ok(value)
    } else {
        Err(InvalidValue::TooLarge { what, value: value.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_at_most_what_a_double_counts_exactly() {
        assert!(Limits::builder().tokens_per_day(MAX_COUNT).build().is_ok());
        let above = Limits::builder().tokens_per_day(MAX_COUNT + 1).build();
        assert_eq!(above, Err(InvalidValue::TooLarge { what: "a limit", value: 1 << 53 }));
    }

    #[test]
    fn a_scope_has_at_most_twelve_limits() {
        let limits = |most| {
            let all = every_name().take(most);
            all.fold(Limits::builder(), |builder, ((window, unit), _)| {
                builder.limit(window, unit, 1)
            })
            .build()
        };
        assert!(limits(12).is_ok());
        assert_eq!(limits(13), Err(InvalidValue::TooManyLimits { count: 13, max: 12 }));
    }

    #[test]
    fn limits_are_ordered_by_window_and_unit_however_they_were_set() {
        let one = Limits::builder().tokens_per_day(3).requests_per_minute(1).requests_per_day(2);
        let other = Limits::builder()
            .requests_per_day(2)
            .tokens_per_day(9)
            .tokens_per_day(3)
            .requests_per_minute(1);
        let (one, other) = (one.build().unwrap(), other.build().unwrap());
        assert_eq!(one, other);
        assert_eq!(one.to_string(), "1 requests per minute, 2 requests per day, 3 tokens per day");
        assert_eq!(one.of(Window::Day).iter().count(), 2);
        assert_eq!(one.windows().collect::<Vec<_>>(), [Window::Minute, Window::Day]);
        assert_eq!(
            one.to_builder().tokens_per_day(None).build().unwrap().get(Window::Day, Unit::Tokens),
            None
        );
    }

    #[test]
    fn limits_do_not_come_in_unchecked_by_serde() {
        for json in [
            r#"{"tokens_per_day":9007199254740992}"#,
            r#"{"tokens_per_dya":1}"#,
            r#"{"tokens_per_day":1,"tokens_per_day":1}"#,
            r#"{"credits_ever":"1.2345678"}"#,
            r#"{"requests_per_day":-1}"#,
            r#"{"requests_per_day":1.5}"#,
        ] {
            assert!(serde_json::from_str::<Limits>(json).is_err(), "{json}");
        }
        let nulls = serde_json::from_str::<Limits>(r#"{"tokens_per_day":null}"#);
        assert_eq!(nulls.unwrap(), Limits::NONE);
    }

    #[test]
    fn limits_read_like_a_sentence() {
        let limits = Limits::builder().requests_per_minute(2).output_tokens_per_day(30);
        let limits = limits.credits_ever(Credits::whole(5).unwrap()).build().unwrap();
        assert_eq!(
            limits.to_string(),
            "2 requests per minute, 30 output tokens per day, 5.00 credits in all"
        );
        assert_eq!(Limits::NONE.to_string(), "no limits");
    }
}
