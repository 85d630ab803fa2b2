//! From a line to an operation.
//!
//! Derived readers are laxer than the format: they take an array for a struct, `{"output":null}` for an enum, and
//! the last of two equal names in a map. And they see 2^64 as a float, which the format calls a number.

use std::collections::BTreeMap;
use std::fmt;

use limiter_core::{KeyKind, TokenType};
use serde::Deserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

use super::operation::{
    Action, Assets, Call, Change, Create, Limits, Operation, Reserve, Totals, Update,
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
        "extend" => Action::Extend(totals(&mut fields)?),
        "settle" => Action::Settle(totals(&mut fields)?),
        "cancel" => Action::Cancel { key: fields.get("key")?, id: fields.get("id")? },
        "usage" => Action::Usage { key: fields.get("key")? },
        "delete" => Action::Delete { key: fields.get("key")? },
        _ => return Err(Unreadable(format!("unknown operation `{name}`"))),
    };
    fields.finish()?;
    Ok(Operation { at, action })
}

fn create(fields: &mut Fields<'_>) -> Result<Create, Unreadable> {
    Ok(Create {
        key: fields.get("key")?,
        kind: fields.optional("kind")?.unwrap_or(KeyKind::Member),
        global: fields.get("global")?,
        assets: fields.get::<Option<_>>("assets")?.unwrap_or_default(),
        budget: fields.get("budget")?,
        expires_at: fields.get("expires_at")?,
    })
}

fn update(fields: &mut Fields<'_>) -> Result<Update, Unreadable> {
    Ok(Update {
        key: fields.get("key")?,
        global: fields.get("global")?,
        assets: fields.get("assets")?,
        budget: fields.get("budget")?,
        expires_at: fields.get("expires_at")?,
    })
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
            _ => Err(expected("`member` or `admin`")),
        }
    }
}

impl FromField for TokenType {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        match String::read(value)?.as_str() {
            "total" => Ok(Self::Total),
            "output" => Ok(Self::Output),
            "input" => Ok(Self::Input),
            _ => Err(expected("`total`, `output` or `input`")),
        }
    }
}

impl FromField for Limits {
    fn read(value: &RawValue) -> Result<Self, Unreadable> {
        let mut fields = Fields::of(value.get())?;
        let limits = Self {
            requests_per_minute: fields.get("requests_per_minute")?,
            requests_per_day: fields.get("requests_per_day")?,
            tokens_per_minute: fields.get("tokens_per_minute")?,
            tokens_per_day: fields.get("tokens_per_day")?,
            token_type: fields.optional("token_type")?.unwrap_or_default(),
        };
        fields.finish()?;
        Ok(limits)
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
