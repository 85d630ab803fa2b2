//! Answers of the scripts.

use std::sync::Arc;

use limiter_core::{AssetId, LevelPlace, LevelSet, Place, Timestamp};
use redis::Value;

use crate::keys::Subject;
use crate::schema::{
    Known, KnownLevels, Layout, Misread, NOT_AN_ANSWER, bytes, head_of, read_state, read_until,
};

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
    /// Of each set of slots how many are held, and when one is free if none is.
    pub(crate) open: Vec<(u64, Option<Timestamp>)>,
    /// The records as they were; or, if nothing was compared, of each level the hot and the cold fields of a call.
    shown: Vec<Option<&'a [u8]>>,
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
                let mut shown = Vec::with_capacity(records.len());
                for layout in records {
                    let (record, after) =
                        rest.split_at_checked(layout.size()).ok_or(NOT_AN_ANSWER)?;
                    shown.push(Some(record));
                    rest = after;
                }
                let ended = ended(letters)?;
                Ok(Self { now, ended, letters, entry: None, open: Vec::new(), shown })
            }
            Value::Array(parts) => {
                let [head, parts @ ..] = parts.as_slice() else { return Err(NOT_AN_ANSWER) };
                Self::read(head, None, None, parts)
            }
            _ => Err(NOT_AN_ANSWER),
        }
    }

    /// Reads what `apply` answers.
    pub(crate) fn of_apply(value: &'a Value) -> Result<Self, Misread> {
        let Value::Array(parts) = value else { return Err(NOT_AN_ANSWER) };
        let [head, entry, open, parts @ ..] = parts.as_slice() else { return Err(NOT_AN_ANSWER) };
        Self::read(head, bytes(entry), bytes(open), parts)
    }

    /// Reads what [`Keys::apply`](crate::keys::Keys::apply) answers for an operation on records of these layouts.
    pub(crate) fn of(value: &'a Value, layouts: &[Layout], listed: bool) -> Result<Self, Misread> {
        match value {
            // Any operation without the ledger may be done by `take`. In place of an entry, `apply` has a number then.
            Value::BulkString(_) => Self::of_take(value, layouts),
            Value::Array(parts) if !listed && !matches!(parts.get(1), Some(Value::Int(_))) => {
                Self::of_take(value, layouts)
            }
            _ => Self::of_apply(value),
        }
    }

    fn read(
        head: &'a Value,
        entry: Option<&'a [u8]>,
        open: Option<&[u8]>,
        parts: &'a [Value],
    ) -> Result<Self, Misread> {
        let (now, letters) = head_of(bytes(head).ok_or(NOT_AN_ANSWER)?)?;
        let (ended, open) = (ended(letters)?, read_open(open.unwrap_or_default())?);
        Ok(Self { now, ended, letters, entry, open, shown: parts.iter().map(bytes).collect() })
    }

    /// The levels in shadow in which a call did not fit that was applied; none if it was refused.
    pub(crate) fn applied(&self, call: usize) -> Option<LevelSet> {
        match self.letters.get(call)? {
            b'A' => Some(LevelSet::NONE),
            letter @ b'b'..=b'p' => Some(LevelSet::from_bits(letter - b'a')),
            _ => None,
        }
    }

    /// The levels as they were before, by the limits at hand: with the records at these places.
    pub(crate) fn before(
        &self,
        known: &KnownLevels,
        places: &[LevelPlace],
    ) -> Result<KnownLevels, Misread> {
        let mut before = known.clone();
        for (level, known) in known.iter().enumerate() {
            let mut known = Known::clone(known);
            let zone = known.state.time_zone().clone();
            for (at, place) in places.iter().enumerate().filter(|(_, at)| at.level == level) {
                let place = place.place;
                let bytes = self.shown.get(at).copied().flatten().ok_or(NOT_AN_ANSWER)?;
                let scope = known.state.scope_at(place).ok_or(NOT_AN_ANSWER)?;
                let layout = Layout::of(place == Place::Global, scope.record());
                let (stamp, record) = layout.read(bytes, scope.record(), &zone)?;
                if place == Place::Global && stamp != known.stamp {
                    return Err(NOT_AN_ANSWER);
                }
                known.state.set_record(place, record);
            }
            before.set(level, known);
        }
        Ok(before)
    }

    /// The levels as they are, with their limits; `None` if there is no such key, or none that anybody registered.
    pub(crate) fn found(&self, of: Subject<'_>) -> Result<Option<KnownLevels>, Misread> {
        let levels = of.key.depth();
        let fields = (self.shown.len() / levels / 2).max(1);
        let parts = self.shown.chunks(2 * fields);
        let mut found = Vec::with_capacity(levels);
        for parts in parts.take(levels) {
            let at = |at: usize| parts.get(at).copied().flatten();
            let pair = |number| (at(number), at(fields + number));
            let [of_asset, other] = if fields > 1 { [pair(1), pair(2)] } else { [(None, None); 2] };
            found.push(self::found(pair(0), of_asset, other, of.asset)?);
        }
        let known = all_of(found, levels)?;
        Ok(known.filter(KnownLevels::is_in_place))
    }
}

/// Reads the state of each set of slots: `;`, the number of slots that are held, a comma, and the time at which one is free.
fn read_open(told: &[u8]) -> Result<Vec<(u64, Option<Timestamp>)>, Misread> {
    let told = str::from_utf8(told).map_err(|_| NOT_AN_ANSWER)?;
    let sets = told.split(';').skip(1).map(|set| {
        let (held, frees_at) = set.split_once(',').ok_or(NOT_AN_ANSWER)?;
        let frees_at = (!frees_at.is_empty()).then(|| read_until(frees_at.as_bytes()));
        Ok((held.parse().map_err(|_| NOT_AN_ANSWER)?, frees_at.transpose()?))
    });
    sets.collect()
}

/// The levels of a key, if all are there; `None` if there is no such key.
pub(crate) fn all_of(
    mut found: Vec<Option<Known>>,
    levels: usize,
) -> Result<Option<KnownLevels>, Misread> {
    found.resize_with(levels, || None);
    let Some(own) = found.last().and_then(Option::as_ref) else { return Ok(None) };
    // Its group may have been deleted, and what it has used is still there.
    if !own.state.is_registered() && found.iter().any(Option::is_none) {
        return Ok(None);
    }
    let known = found.into_iter().map(|known| known.map(Arc::new)).collect::<Option<_>>();
    known.map(|known| Some(KnownLevels::new(known))).ok_or(NO_GROUP)
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

fn ended(letters: &[u8]) -> Result<Ended, Misread> {
    match letters.first() {
        Some(b'A' | b'R' | b'b'..=b'p') => Ok(Ended::Compared),
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

const NO_GROUP: Misread = Misread::Corrupt("a group of the key is gone");
