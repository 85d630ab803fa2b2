//! From a line to an operation.

use limiter_core::{KeyKind, TokenType};
use serde_json::value::RawValue;
use thiserror::Error;

use super::fields::{Fields, number, text};
use super::operation::{Action, Assets, Call, Create, Limits, Operation, Reserve, Totals, Update};

/// The reason why a line cannot be read, which ends the run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// Not one JSON object with each field once.
    #[error("expected one JSON object with each field once: {0}")]
    NotAnObject(serde_json::Error),
    /// A required field is absent.
    #[error("the field `{field}` is missing")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field that the operation does not have.
    #[error("unknown field `{field}`")]
    UnknownField {
        /// Its name.
        field: String,
    },
    /// A value of the wrong type.
    #[error("expected {expected}")]
    MustBe {
        /// What it must be.
        expected: &'static str,
    },
    /// Something is wrong inside a field.
    #[error("in `{field}`: {problem}")]
    Field {
        /// Its name.
        field: String,
        /// What is wrong.
        problem: Box<Self>,
    },
    /// No operation of the format.
    #[error("unknown operation `{name}`")]
    UnknownOperation {
        /// What the line calls it.
        name: String,
    },
}

/// Reads one line, with or without its line end.
///
/// # Errors
///
/// [`Unreadable`] for anything but an object of the format: an unknown or repeated field, a wrong type, a negative
/// number or one written with a fraction or an exponent, a missing field, a null where none is allowed. An operation that
/// [is not within its bounds](Operation::is_within_bounds) is read all the same.
pub fn read(line: &str) -> Result<Operation, Unreadable> {
    let mut fields = Fields::of(line)?;
    let at = fields.required("at", number)?;
    let name = fields.required("op", text)?;
    let action = match name.as_str() {
        "create" => Action::Create(create(&mut fields)?),
        "update" => Action::Update(update(&mut fields)?),
        "check" => {
            let request_id = fields.nullable("request_id", text)?;
            Action::Check(Call { request_id, ..call(&mut fields)? })
        }
        "peek" => Action::Peek(call(&mut fields)?),
        "reserve" => Action::Reserve(reserve(&mut fields)?),
        "extend" => Action::Extend(totals(&mut fields)?),
        "settle" => Action::Settle(totals(&mut fields)?),
        "cancel" => {
            Action::Cancel { key: fields.required("key", text)?, id: fields.required("id", text)? }
        }
        "usage" => Action::Usage { key: fields.required("key", text)? },
        "delete" => Action::Delete { key: fields.required("key", text)? },
        _ => return Err(Unreadable::UnknownOperation { name }),
    };
    fields.finish()?;
    Ok(Operation { at, action })
}

fn create(fields: &mut Fields<'_>) -> Result<Create, Unreadable> {
    Ok(Create {
        key: fields.required("key", text)?,
        kind: fields.optional("kind", kind)?.unwrap_or(KeyKind::Member),
        global: fields.nullable("global", limits)?,
        assets: fields.nullable("assets", assets)?.unwrap_or_default(),
        budget: fields.nullable("budget", number)?,
        expires_at: fields.nullable("expires_at", number)?,
    })
}

fn update(fields: &mut Fields<'_>) -> Result<Update, Unreadable> {
    Ok(Update {
        key: fields.required("key", text)?,
        global: fields.change("global", limits)?,
        assets: fields.change("assets", assets)?,
        budget: fields.change("budget", number)?,
        expires_at: fields.change("expires_at", number)?,
    })
}

fn call(fields: &mut Fields<'_>) -> Result<Call, Unreadable> {
    Ok(Call {
        key: fields.required("key", text)?,
        asset: fields.nullable("asset", text)?,
        requests: fields.optional("requests", number)?.unwrap_or(1),
        input: fields.optional("input", number)?.unwrap_or(0),
        output: fields.optional("output", number)?.unwrap_or(0),
        credits: fields.optional("credits", number)?.unwrap_or(0),
        request_id: None,
    })
}

fn reserve(fields: &mut Fields<'_>) -> Result<Reserve, Unreadable> {
    Ok(Reserve {
        estimate: call(fields)?,
        id: fields.required("id", text)?,
        ttl_ms: fields.required("ttl_ms", number)?,
    })
}

fn totals(fields: &mut Fields<'_>) -> Result<Totals, Unreadable> {
    Ok(Totals {
        key: fields.required("key", text)?,
        id: fields.required("id", text)?,
        input: fields.optional("input", number)?,
        output: fields.optional("output", number)?,
        credits: fields.optional("credits", number)?,
    })
}

fn assets(value: &RawValue) -> Result<Assets, Unreadable> {
    Fields::of(value.get())?.entries(limits)
}

fn limits(value: &RawValue) -> Result<Limits, Unreadable> {
    let mut fields = Fields::of(value.get())?;
    let limits = Limits {
        requests_per_minute: fields.nullable("requests_per_minute", number)?,
        requests_per_day: fields.nullable("requests_per_day", number)?,
        tokens_per_minute: fields.nullable("tokens_per_minute", number)?,
        tokens_per_day: fields.nullable("tokens_per_day", number)?,
        token_type: fields.optional("token_type", token_type)?.unwrap_or_default(),
    };
    fields.finish()?;
    Ok(limits)
}

fn token_type(value: &RawValue) -> Result<TokenType, Unreadable> {
    match text(value)?.as_str() {
        "total" => Ok(TokenType::Total),
        "output" => Ok(TokenType::Output),
        "input" => Ok(TokenType::Input),
        _ => Err(Unreadable::MustBe { expected: "`total`, `output` or `input`" }),
    }
}

fn kind(value: &RawValue) -> Result<KeyKind, Unreadable> {
    match text(value)?.as_str() {
        "member" => Ok(KeyKind::Member),
        "admin" => Ok(KeyKind::Admin),
        _ => Err(Unreadable::MustBe { expected: "`member` or `admin`" }),
    }
}
