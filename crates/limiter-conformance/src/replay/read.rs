//! From a line to an operation.
//!
//! Derived readers are laxer than the format: they take an array for a struct, `{"output":null}` for an enum, and
//! the last of two equal names in a map. And they see 2^64 as a float, which the format calls a number.

use std::collections::BTreeMap;
use std::fmt;

use limiter_core::{Effective, KeyKind, TimeZone, Unit, Window};
use serde::Deserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use super::operation::{
    Action, Amount, Assets, Call, Change, Create, Limits, Operation, Other, Plan, Reserve, Totals,
    UNLIMITED, Update,
};

/// The reason why a line cannot be read, which ends the run. It names the field.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// Reads one line, with or without its line end.
///
/// # Errors
///
/// [`Unreadable`] for anything but an object of the format: an unknown or repeated field, a wrong type, a negative
/// number or one written with a fraction or an exponent, a missing field, a null where none is allowed. An operation that
/// [is not within its bounds](Operation::is_within_bounds) is read all the same.
pub fn read(line: &str) -> Result<Operation, Unreadable> {
    let mut fields = Fields::of(line)?;
    let at = fields.get("at")?;
    let name: String = fields.get("op")?;
    let action = match name.as_str() {
        "create" => Action::Create(create(&mut fields)?),
        "update" => Action::Update(update(&mut fields)?),
        "check" => {
            let request_id = fields.get("request_id")?;
            Action::Check(Call { request_id, ..call(&mut fields)? })
        }
        "peek" => Action::Peek(call(&mut fields)?),
        "reserve" => Action::Reserve(Reserve {
            estimate: call(&mut fields)?,
            id: fields.get("id")?,
            ttl_ms: fields.get("ttl_ms")?,
        }),
        "amend" | "extend" => Action::Amend(totals(&mut fields)?),
        "settle" => Action::Settle(totals(&mut fields)?),
        "cancel" => Action::Cancel { key: fields.get("key")?, id: fields.get("id")? },
        "usage" => Action::Usage { key: fields.get("key")? },
        "history" => Action::History { key: fields.get("key")?, days: fields.get("days")? },
        "events" => Action::Events {},
        "reset" => Action::Reset { key: fields.get("key")? },
        "delete" => Action::Delete { key: fields.get("key")? },
        "plan" => Action::Plan(plan(&mut fields)?),
        "delete_plan" => Action::DeletePlan { plan: fields.get("plan")? },
        _ => return Err(Unreadable(format!("unknown operation `{name}`"))),
    };
    fields.finish()?;
    Ok(Operation { at, action })
}

fn create(fields: &mut Fields<'_>) -> Result<Create, Unreadable> {
    let create = Create {
        key: fields.get("key")?,
        kind: fields.optional("kind")?.unwrap_or(KeyKind::Member),
        plan: fields.get("plan")?,
        open: fields.get("open")?,
        global: fields.get::<Option<_>>("global")?.unwrap_or_default(),
        parallel: fields.get("parallel")?,
        assets: fields.get::<Option<_>>("assets")?.unwrap_or_default(),
        other: fields.get("other")?,
        budget: fields.get("budget")?,
        expires_at: fields.get("expires_at")?,
        time_zone: fields.get::<Option<_>>("time_zone")?.unwrap_or_default(),
        thresholds: fields.get("thresholds")?,
        shadow: fields.optional("shadow")?.unwrap_or(false),
    };
    let mut budget = create.budget;
    let global = split(create.global, budget.is_some(), |named| budget = Some(named))?;
    Ok(Create { global, budget, ..create })
}

fn update(fields: &mut Fields<'_>) -> Result<Update, Unreadable> {
    let mut update = Update {
        key: fields.get("key")?,
        effective: fields.optional("effective")?.unwrap_or_default(),
        version: fields.optional("version")?,
        plan: fields.get("plan")?,
        open: fields.get("open")?,
        global: fields.get("global")?,
        parallel: fields.get("parallel")?,
        assets: fields.get("assets")?,
        other: fields.get("other")?,
        budget: fields.get("budget")?,
        expires_at: fields.get("expires_at")?,
        time_zone: fields.get("time_zone")?,
        thresholds: fields.get("thresholds")?,
        shadow: fields.optional("shadow")?,
    };
    update.global = split_change(update.global, &mut update.budget)?;
    Ok(update)
}

fn plan(fields: &mut Fields<'_>) -> Result<Plan, Unreadable> {
    let mut plan = Plan {
        plan: fields.get("plan")?,
        effective: fields.optional("effective")?.unwrap_or_default(),
        global: fields.get("global")?,
        parallel: fields.get("parallel")?,
        assets: fields.get("assets")?,
        other: fields.get("other")?,
        budget: fields.get("budget")?,
        time_zone: fields.get("time_zone")?,
        thresholds: fields.get("thresholds")?,
    };
    plan.global = split_change(plan.global, &mut plan.budget)?;
    Ok(plan)
}

fn split_change(
    global: Change<Limits>,
    budget: &mut Change<Amount>,
) -> Result<Change<Limits>, Unreadable> {
    let Change::Set(global) = global else { return Ok(global) };
    let is_named = !budget.is_keep();
    split(global, is_named, |named| *budget = Change::Set(named)).map(Change::Set)
}

/// Takes the budget out of the limits of all calls. It is named there or in a field of its own; a parallel limit in such a field
/// alone.
fn split(
    mut global: Limits,
    is_named: bool,
    budget: impl FnOnce(Amount),
) -> Result<Limits, Unreadable> {
    if global.parallel.is_some() {
        let sentence = "`parallel` of all calls is a field of the line, not of `global`";
        return Err(Unreadable(sentence.to_owned()));
    }
    if let Some(named) = global.amounts.remove(&(Window::Ever, Unit::Credits)) {
        if is_named {
            let sentence = "`budget` is the limit `ever/credits` of `global`: name one of them";
            return Err(Unreadable(sentence.to_owned()));
        }
        budget(named);
    }
    Ok(global)
}

fn call(fields: &mut Fields<'_>) -> Result<Call, Unreadable> {
    Ok(Call {
        key: fields.get("key")?,
        asset: fields.get("asset")?,
        requests: fields.optional("requests")?.unwrap_or(1),
        input: fields.optional("input")?.unwrap_or(0),
        output: fields.optional("output")?.unwrap_or(0),
        credits: fields.optional("credits")?.unwrap_or(0),
        request_id: None,
    })
}

fn totals(fields: &mut Fields<'_>) -> Result<Totals, Unreadable> {
    Ok(Totals {
        key: fields.get("key")?,
        id: fields.get("id")?,
        requests: fields.optional("requests")?,
        input: fields.optional("input")?,
        output: fields.optional("output")?,
        credits: fields.optional("credits")?,
    })
}

/// The fields of one object that have not been asked for yet.
struct Fields<'line>(BTreeMap<String, &'line RawValue>);

impl<'line> Fields<'line> {
    /// The fields of the object that `text` is.
    fn of(text: &'line str) -> Result<Self, Unreadable> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let fields = deserializer.deserialize_map(EachOnce);
        let fields = fields.and_then(|fields| deserializer.end().map(|()| Self(fields)));
        fields.map_err(|error| {
            Unreadable(format!("expected one JSON object with each field once: {error}"))
        })
    }

    /// A field that must be there, unless its type says otherwise.
    fn get<T: FromField>(&mut self, name: &str) -> Result<T, Unreadable> {
        let absent =
            || T::ABSENT.ok_or_else(|| Unreadable(format!("the field `{name}` is missing")));
        self.optional(name)?.map_or_else(absent, Ok)
    }

    /// A field that may be absent.
    fn optional<T: FromField>(&mut self, name: &str) -> Result<Option<T>, Unreadable> {
        self.0.remove(name).map(|value| T::read_named(name, value)).transpose()
    }

    /// There must be no other field.
    fn finish(self) -> Result<(), Unreadable> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(field) => Err(Unreadable(format!("unknown field `{field}`"))),
        }
    }
}

/// The value of a field.
trait FromField: Sized {
    /// The value of an absent field, if it has one.
    const ABSENT: Option<Self> = None;

    fn read(value: &RawValue) -> Result<Self, Unreadable>;

    fn read_named(name: &str, value: &RawValue) -> Result<Self, Unreadable> {
        Self::read(value)
            .map_err(|Unreadable(problem)| Unreadable(format!("in `{name}`: {problem}")))
    }
}

/// One that does not fit is read as the largest `u64`, which is out of bounds everywhere.
impl FromField for u64 {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        let text = value.get();
        let is_whole = text.bytes().all(|byte| byte.is_ascii_digit());
        is_whole
            .then(|| text.parse().unwrap_or(Self::MAX))
            .ok_or_else(|| expected("a whole number from 0"))
    }
}

impl FromField for String {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        serde_json::from_str(value.get()).map_err(|_| expected("a string"))
    }
}

impl FromField for KeyKind {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        match String::read(value)?.as_str() {
            "member" => Ok(Self::Member),
            "admin" => Ok(Self::Admin),
            "group" => Ok(Self::Group),
            _ => Err(expected("`member`, `admin` or `group`")),
        }
    }
}

impl FromField for bool {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        match value.get() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(expected("`true` or `false`")),
        }
    }
}

impl FromField for Effective {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        match String::read(value)?.as_str() {
            "next" => Ok(Self::Next),
            "now" => Ok(Self::Now),
            _ => Err(expected("`next` or `now`")),
        }
    }
}

impl FromField for TimeZone {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        String::read(value)?.parse().map_err(|error| Unreadable(format!("{error}")))
    }
}

/// A list of numbers.
impl FromField for Vec<u64> {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        let items: Vec<&RawValue> = serde_json::from_str(value.get())
            .map_err(|_| expected("a list of whole numbers from 0"))?;
        items.into_iter().map(u64::read).collect()
    }
}

impl FromField for Other {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        if !value.get().starts_with('"') {
            return Limits::read(value).map(Self::Limited);
        }
        match String::read(value)?.as_str() {
            "denied" => Ok(Self::Denied),
            _ => Err(expected("`denied` or limits")),
        }
    }
}

/// The token limits of the first version are limits of the unit that their type names.
struct TokenUnit(Unit);

impl FromField for TokenUnit {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        match String::read(value)?.as_str() {
            "total" => Ok(Self(Unit::Tokens)),
            "output" => Ok(Self(Unit::OutputTokens)),
            "input" => Ok(Self(Unit::InputTokens)),
            _ => Err(expected("`total`, `output` or `input`")),
        }
    }
}

impl FromField for Amount {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        if !value.get().starts_with('"') {
            return u64::read(value).map(Self::Limited);
        }
        match String::read(value)?.as_str() {
            UNLIMITED => Ok(Self::Unlimited),
            _ => Err(expected("a whole number from 0, or `unlimited`")),
        }
    }
}

/// The limits of both versions: a map, and four short forms.
impl FromField for Limits {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        let mut fields = Fields::of(value.get())?;
        let parallel = fields.get("parallel")?;
        let NamedLimits(mut amounts) = fields.optional("limits")?.unwrap_or_default();
        let tokens = fields.optional("token_type")?.unwrap_or(TokenUnit(Unit::Tokens)).0;
        for (name, window, unit) in [
            ("requests_per_minute", Window::Minute, Unit::Requests),
            ("requests_per_day", Window::Day, Unit::Requests),
            ("tokens_per_minute", Window::Minute, tokens),
            ("tokens_per_day", Window::Day, tokens),
        ] {
            if let Some(limit) = fields.get::<Option<_>>(name)?
                && amounts.insert((window, unit), limit).is_some()
            {
                let sentence = format!("`{name}` is the limit `{window}/{unit}`: name one of them");
                return Err(Unreadable(sentence));
            }
        }
        fields.finish()?;
        Ok(Self { amounts, parallel })
    }
}

/// Limits by names such as `minute/requests`; null is no limit.
#[derive(Default)]
struct NamedLimits(BTreeMap<(Window, Unit), Amount>);

impl FromField for NamedLimits {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        let Fields(named) = Fields::of(value.get())?;
        let mut limits = BTreeMap::new();
        for (name, value) in named {
            let parts = name.split_once('/');
            let limit =
                parts.and_then(|(window, unit)| Some((window.parse().ok()?, unit.parse().ok()?)));
            let unknown = || {
                Unreadable(format!(
                    "`{name}` is no limit: expected window/unit, such as day/output_tokens"
                ))
            };
            let limit: (Window, Unit) = limit.ok_or_else(unknown)?;
            if let Some(amount) = Option::read_named(&name, value)? {
                limits.insert(limit, amount);
            }
        }
        Ok(Self(limits))
    }
}

impl FromField for Assets {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        let Fields(limits) = Fields::of(value.get())?;
        let read = |(name, value): (String, &RawValue)| {
            Ok((name.clone(), Option::read_named(&name, value)?))
        };
        limits.into_iter().map(read).collect()
    }
}

/// Absent and null are the same.
impl<T: FromField> FromField for Option<T> {
    const ABSENT: Option<Self> = Some(None);

    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        (value.get() != "null").then(|| T::read(value)).transpose()
    }
}

/// Absent and null are different things.
impl<T: FromField> FromField for Change<T> {
    const ABSENT: Option<Self> = Some(Self::Keep);

    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        Ok(Option::read(value)?.map_or(Self::Clear, Self::Set))
    }
}

fn expected(what: &str) -> Unreadable {
    Unreadable(format!("expected {what}"))
}

struct EachOnce;

impl<'line> Visitor<'line> for EachOnce {
    type Value = BTreeMap<String, &'line RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'line>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, &'line RawValue>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the field `{name}` is there twice")));
            }
            fields.insert(name, value);
        }
        Ok(fields)
    }
}
