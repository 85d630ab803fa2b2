//! What `decide.lua` and `peek.lua` answer.

use limiter_core::{AssetId, KeyState, Timestamp};
use redis::Value;

use super::{ColdKey, ColdScope, HotKey, HotScope, Misread};

/// What a script says of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    KeyExpired,
    AdminKey,
    BudgetExhausted,
    RateLimited,
    /// A number out of bounds: never of ours.
    Invalid,
}

/// What a script answers for one group of calls.
#[derive(Debug)]
pub(crate) enum Group<'a> {
    KeyUnknown,
    /// Another type than a hash.
    WrongType,
    Decided(Decided<'a>),
}

/// Verdicts, and the records as they were before.
#[derive(Debug)]
pub(crate) struct Decided<'a> {
    pub(crate) now: Timestamp,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) reading: Reading<'a>,
}

/// Records as a script found them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) h: &'a [u8],
    pub(crate) a: Option<&'a [u8]>,
    /// The limits, if the caller did not know them.
    pub(crate) limits: Option<(&'a [u8], Option<&'a [u8]>)>,
}

impl<'a> Group<'a> {
    /// Reads the answer for a group of so many calls.
    pub(crate) fn read(value: &'a Value, calls: usize) -> Result<Self, Misread> {
        let (text, limits) = match value {
            Value::BulkString(text) => (text.as_slice(), None),
            Value::Array(parts) => match parts.as_slice() {
                [Value::BulkString(text), Value::BulkString(key)] => {
                    (text.as_slice(), Some((key.as_slice(), None)))
                }
                [Value::BulkString(text), Value::BulkString(key), asset] => {
                    (text.as_slice(), Some((key.as_slice(), bytes(asset))))
                }
                _ => return Err(NOT_AN_ANSWER),
            },
            _ => return Err(NOT_AN_ANSWER),
        };
        match text.first() {
            Some(b'U') => Ok(Self::KeyUnknown),
            Some(b'W') => Ok(Self::WrongType),
            Some(b'F') => Err(Misread::Newer),
            Some(b'C') => Err(Misread::Corrupt("a record that the script could not read")),
            _ => Decided::read(text, limits, calls).map(Self::Decided),
        }
    }
}

impl<'a> Decided<'a> {
    fn read(
        text: &'a [u8],
        limits: Option<(&'a [u8], Option<&'a [u8]>)>,
        calls: usize,
    ) -> Result<Self, Misread> {
        let (seconds, text) = text.split_at(digits(text));
        let (verdicts, text) = text.split_at_checked(calls).ok_or(NOT_AN_ANSWER)?;
        let (micros, records) = text.split_at(digits(text));
        let (h, a) = records.split_at_checked(KEY_BYTES).ok_or(NOT_AN_ANSWER)?;
        let verdicts = verdicts.iter().map(|letter| {
            Ok(match letter {
                b'A' => Verdict::Allowed,
                b'E' => Verdict::KeyExpired,
                b'M' => Verdict::AdminKey,
                b'B' => Verdict::BudgetExhausted,
                b'R' => Verdict::RateLimited,
                b'I' => Verdict::Invalid,
                _ => return Err(NOT_AN_ANSWER),
            })
        });
        Ok(Self {
            now: time_of(seconds, micros)?,
            verdicts: verdicts.collect::<Result<_, _>>()?,
            reading: Reading { h, a: (!a.is_empty()).then_some(a), limits },
        })
    }
}

/// The limits of a key and of an asset of it.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    key: ColdKey,
    asset: Option<ColdScope>,
}

impl Limits {
    pub(crate) fn read((key, asset): (&[u8], Option<&[u8]>)) -> Result<Self, Misread> {
        let asset = asset.filter(|asset| !asset.is_empty()).map(ColdScope::read).transpose()?;
        Ok(Self { key: ColdKey::read(key)?, asset })
    }

    /// The state of a key, as far as a call of this asset meets it.
    pub(crate) fn state(
        &self,
        key: &HotKey,
        a: Option<&[u8]>,
        asset: Option<&AssetId>,
    ) -> Result<KeyState, Misread> {
        let scope = match (a, asset, &self.asset) {
            (None, _, _) => None,
            (Some(a), Some(id), Some(limits)) => {
                let scope = HotScope::read_asset(a)?.state(limits, self.key.thresholds())?;
                Some((id.clone(), scope))
            }
            (Some(_), _, _) => return Err(Misread::Corrupt("an asset without limits is counted")),
        };
        key.state(&self.key, scope)
    }
}

/// Reads the two texts of TIME.
pub(crate) fn time_of(seconds: &[u8], micros: &[u8]) -> Result<Timestamp, Misread> {
    let number = |text: &[u8]| str::from_utf8(text).ok()?.parse::<i64>().ok();
    let (seconds, micros) = number(seconds).zip(number(micros)).ok_or(NOT_AN_ANSWER)?;
    let unix_ms = seconds.checked_mul(1_000).and_then(|ms| ms.checked_add(micros / 1_000));
    Ok(Timestamp::from_unix_ms(unix_ms.ok_or(NOT_AN_ANSWER)?))
}

pub(crate) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

/// The length of the number at the start.
fn digits(text: &[u8]) -> usize {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
    text.iter().position(|byte| !is_digit(byte)).unwrap_or(text.len())
}

pub(crate) const NOT_AN_ANSWER: Misread =
    Misread::Corrupt("the script answered what it never answers");
/// The length of the field `h`. It begins with its format, which is no digit.
const KEY_BYTES: usize = 64;
