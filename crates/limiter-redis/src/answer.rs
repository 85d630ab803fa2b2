//! Answers of the scripts.

use limiter_core::{AssetId, Place, Timestamp};
use redis::Value;

use crate::schema::{Known, Layout, Misread, NOT_AN_ANSWER, bytes, head_of, read_state};

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Something was compared: whether each call was applied follows from its letter.
    Compared,
    /// It is too early or too late, or a record is not as believed.
    Stale,
    /// It is later than the last time for it.
    Late,
    /// A guard differs.
    Guarded,
    /// The ledger has something else.
    Listed,
    /// The ledger is full.
    Full,
}

/// An answer of `take` for one group, or of `apply`.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) now: Timestamp,
    pub(crate) ended: Ended,
    /// Of each call, in their order.
    pub(crate) letters: &'a [u8],
    /// The entry of the ledger, or the time at which it has room.
    pub(crate) entry: Option<&'a [u8]>,
    hot: Vec<Option<&'a [u8]>>,
    cold: Vec<Option<&'a [u8]>>,
}

impl<'a> Answer<'a> {
    /// Reads what `take` answers for a group of calls of a key, and of an asset whose record is among them or not.
    pub(crate) fn of_take(value: &'a Value, records: &[Layout]) -> Result<Self, Misread> {
        match value {
            Value::BulkString(text) => {
                let size: usize = records.iter().map(Layout::size).sum();
                let head = text.len().checked_sub(size).ok_or(NOT_AN_ANSWER)?;
                let (head, mut rest) = text.split_at(head);
                let (now, letters) = head_of(head)?;
                let mut hot = Vec::with_capacity(2);
                for layout in records {
                    let (record, after) =
                        rest.split_at_checked(layout.size()).ok_or(NOT_AN_ANSWER)?;
                    hot.push(Some(record));
                    rest = after;
                }
                let ended = ended(letters)?;
                Ok(Self { now, ended, letters, entry: None, hot, cold: Vec::new() })
            }
            Value::Array(parts) => {
                let [head, parts @ ..] = parts.as_slice() else { return Err(NOT_AN_ANSWER) };
                Self::read(head, None, parts, parts.len() / 2)
            }
            _ => Err(NOT_AN_ANSWER),
        }
    }

    /// Reads what `apply` answers for an operation on this many records.
    pub(crate) fn of_apply(value: &'a Value, records: usize) -> Result<Self, Misread> {
        let Value::Array(parts) = value else { return Err(NOT_AN_ANSWER) };
        let [head, entry, parts @ ..] = parts.as_slice() else { return Err(NOT_AN_ANSWER) };
        Self::read(head, bytes(entry), parts, records)
    }

    /// Reads what [`Keys::apply`](crate::keys::Keys::apply) answers for an operation on records of these layouts.
    pub(crate) fn of(value: &'a Value, layouts: &[Layout], listed: bool) -> Result<Self, Misread> {
        match value {
            // Any operation without the ledger may be done by `take`.
            Value::BulkString(_) => Self::of_take(value, layouts),
            Value::Array(parts) if !listed && !was_compared(parts) && parts.len() % 2 == 1 => {
                Self::of_take(value, layouts)
            }
            _ => Self::of_apply(value, layouts.len()),
        }
    }

    fn read(
        head: &'a Value,
        entry: Option<&'a [u8]>,
        parts: &'a [Value],
        records: usize,
    ) -> Result<Self, Misread> {
        let (now, letters) = head_of(bytes(head).ok_or(NOT_AN_ANSWER)?)?;
        let ended = ended(letters)?;
        let hot = match ended {
            Ended::Compared | Ended::Full => records,
            // The limits come along, of all records that the call may meet.
            _ => parts.len() / 2,
        };
        let (hot, cold) = parts.split_at_checked(hot).unwrap_or((parts, &[]));
        let [hot, cold] = [hot, cold].map(|parts| parts.iter().map(bytes).collect());
        Ok(Self { now, ended, letters, entry, hot, cold })
    }

    /// The key as it was before, by its limits at hand: with the records at these places.
    pub(crate) fn before(&self, known: &Known, places: &[Place]) -> Result<Known, Misread> {
        let mut known = known.clone();
        let zone = known.state.time_zone().clone();
        for (at, place) in places.iter().enumerate() {
            let bytes = self.hot.get(at).copied().flatten().ok_or(NOT_AN_ANSWER)?;
            let scope = known.state.scope_at(*place).ok_or(NOT_AN_ANSWER)?;
            let layout = Layout::of(*place == Place::Global, scope.record());
            let (stamp, record) = layout.read(bytes, scope.record(), &zone)?;
            if *place == Place::Global && stamp != known.stamp {
                return Err(NOT_AN_ANSWER);
            }
            known.state.set_record(*place, record);
        }
        Ok(known)
    }

    /// The key as it is, with its limits; `None` if there is none.
    pub(crate) fn found(&self, asset: Option<&AssetId>) -> Result<Option<Known>, Misread> {
        let at = |parts: &[Option<&'a [u8]>], at: usize| parts.get(at).copied().flatten();
        let pair = |number| (at(&self.hot, number), at(&self.cold, number));
        found(pair(0), pair(1), pair(2), asset)
    }
}

/// The hot and the cold field of a scope.
type Fields<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// The same, of a scope that is there.
type HotAndCold<'a> = (&'a [u8], &'a [u8]);

/// A key from the fields of all calls, of an asset, and of other assets.
pub(crate) fn found(
    global: Fields<'_>,
    of_asset: Fields<'_>,
    other: Fields<'_>,
    asset: Option<&AssetId>,
) -> Result<Option<Known>, Misread> {
    let Some((hot, cold)) = both(global)? else { return Ok(None) };
    let of_asset = match asset {
        Some(asset) => both(of_asset)?.map(|(hot, cold)| (asset.clone(), hot, cold)),
        None => None,
    };
    read_state(hot, cold, of_asset, both(other)?).map(Some)
}

fn both(fields: Fields<'_>) -> Result<Option<HotAndCold<'_>>, Misread> {
    match fields {
        (None, None) => Ok(None),
        (Some(hot), Some(cold)) => Ok(Some((hot, cold))),
        _ => Err(Misread::Corrupt("a field is missing")),
    }
}

/// Whether an answer has a letter for each call.
fn was_compared(parts: &[Value]) -> bool {
    let head = parts.first().and_then(bytes).and_then(|head| head_of(head).ok());
    head.is_some_and(|(_, letters)| matches!(letters.first(), Some(b'A' | b'R')))
}

fn ended(letters: &[u8]) -> Result<Ended, Misread> {
    match letters.first() {
        Some(b'A' | b'R') => Ok(Ended::Compared),
        Some(b'T' | b'S') => Ok(Ended::Stale),
        Some(b'X') => Ok(Ended::Late),
        Some(b'G') => Ok(Ended::Guarded),
        Some(b'L') => Ok(Ended::Listed),
        Some(b'N') => Ok(Ended::Full),
        Some(b'W') => Err(Misread::WrongType),
        Some(b'C') => Err(Misread::Corrupt("a record of another size")),
        _ => Err(NOT_AN_ANSWER),
    }
}
