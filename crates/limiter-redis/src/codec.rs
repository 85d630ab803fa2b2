//! How a key looks in Redis, and what the scripts answer.
//!
//! A key's state is one hash. Numbers are little-endian; `i7` is a signed number of seven bytes, which holds every count
//! and every [`Timestamp`]. A window is kept as the number of its end ([`Window::number_of_end`]). What is *ahead* stands for
//! what is used: what can be charged before the next threshold is reached, or else before the limit is passed; an absent
//! limit is −1. How many thresholds were *told* takes three bits for each count: of the minute's requests and tokens, the
//! day's, and the credits.
//!
//! | field | bytes |
//! |---|---|
//! | `h` | format 1, types 1, told thresholds 2, the first threshold 1, version 4, incarnation 4, minute 5, day 4, expiry 7, ahead 4 × 7, credits ahead 7 |
//! | `H` | budget 7, limits 4 × 7, what is pending 1 and up to 4 × 7 |
//! | `T` | thresholds in percent 4, rising and 0 where there is none; 1 for shadow mode 1 |
//! | `a` + asset | format 1, types 1, told thresholds 2, minute 5, day 4, ahead 4 × 8 (floating point, which is cheaper to read) |
//! | `A` + asset | limits 4 × 7, what is pending 1 and up to 4 × 7 |
//! | `w`, `w` + asset | which windows a scope has, if not those of a new key: counting 4, how often its minute and its day were mended 1 + 1 |
//!
//! `h` and `a` are all that a call looks at which simply fits; the first threshold is there again, since it is all that a
//! window which begins needs to know of them; no value has more than 64 bytes, so that Redis keeps the
//! hash in one compact piece. *Types* is 0 for a scope that is not counted, else 1 plus the token type of the minute plus
//! three times that of the day; admin keys add 16. *Version* changes with any limits of the key:
//! an update draws a new one, limits that come into force take the next. The *incarnation* is random and tells a key from an earlier one of the same id. Both together
//! are the *stamp* by which a client knows whether it has the limits of a key at hand. The *counting* of a scope is the
//! version of the update that began it.
//!
//! What is remembered of calls is kept beside it:
//!
//! | key | |
//! |---|---|
//! | `r` | hash, by the id of a reservation: format 1, end 1 (settled 1, cancelled 2), until 7, as reserved 4 × 7, its estimate 3 × 7, as settled 3 × 7, the windows that admitted it 2 × 15 (`w`, minute and day), `a` + asset |
//! | `e` | sorted set: ids of reservations by the time until which they are remembered |
//! | `c` | sorted set: ids of checks by the time until which they are remembered |

mod calls;
mod fields;
mod reader;
mod record;
mod remembered;
mod reply;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};

use limiter_core::{
    AssetId, KeyKind, KeyState, Meter, ScopeState, Thresholds, Timestamp, TokenType, Window,
    WindowCounts, WindowLimits,
};
use thiserror::Error;

pub(crate) use self::calls::{Calls, Mode, packed_limits, push_int, push_limit};
pub(crate) use self::fields::{asset_field, asset_limits_field};
pub(crate) use self::record::{HashFields, stored_key};
pub(crate) use self::remembered::{
    Answered, Outcome, Telling, asked_totals, ended_by, ended_under, read_ledger, read_reservation,
    read_until,
};
pub(crate) use self::reply::{Decided, Group, Limits, Verdict, bytes, time_of};

use self::reader::Reader;

/// Which limits of a key a client knows: the version and the incarnation of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Stamp([u8; 8]);

/// Tells a key from an earlier one of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incarnation([u8; 4]);

/// A version of a key's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version([u8; 4]);

/// Why bytes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Misread {
    /// A later version of this crate wrote them.
    #[error("written by a later version")]
    Newer,
    /// Something else wrote them.
    #[error("{0}")]
    Corrupt(&'static str),
}

/// The field `h`.
#[derive(Clone, Debug)]
pub(crate) struct HotKey {
    kind: KeyKind,
    stamp: Stamp,
    expires_at: Option<Timestamp>,
    credits_ahead: i64,
    credits_told: u8,
    first_threshold: u8,
    global: Option<HotScope>,
}

/// The counts of a scope.
#[derive(Clone, Debug)]
pub(crate) struct HotScope {
    types: [TokenType; 2],
    ends: [Timestamp; 2],
    /// What can be charged before the next threshold, or else the limit.
    ahead: [i64; 4],
    /// How many thresholds were told.
    told: [u8; 4],
}

/// The fields `T` and `H`, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColdKey {
    budget: Option<u64>,
    thresholds: Thresholds,
    shadow: bool,
    global: ColdScope,
}

/// The limits of a scope, in force and pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColdScope {
    limits: [Option<u64>; 4],
    pending: [Option<WindowLimits>; 2],
}

impl Stamp {
    pub(crate) const fn bytes(self) -> [u8; 8] {
        self.0
    }

    pub(crate) const fn incarnation(self) -> Incarnation {
        let [.., a, b, c, d] = self.0;
        Incarnation([a, b, c, d])
    }
}

impl Version {
    /// A random one. Zero is none: it stands for limits that are not known. One is that of a new key.
    pub(crate) fn draw() -> Self {
        Self(random().max(2).to_le_bytes())
    }

    pub(crate) const fn bytes(self) -> [u8; 4] {
        self.0
    }
}

/// Need not be hard to guess.
fn random() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(0).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl Incarnation {
    /// Of random bytes. The highest bits are left out, so that a stamp read as a floating-point number, as the
    /// scripts compare it, is never one that differs from itself.
    pub(crate) const fn new([a, b, c, d]: [u8; 4]) -> Self {
        Self([a, b, c, d & 0x3f])
    }

    /// A random one.
    pub(crate) fn draw() -> Self {
        Self::new(random().to_le_bytes())
    }

    pub(crate) const fn bytes(self) -> [u8; 4] {
        self.0
    }
}

impl HotKey {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Misread> {
        let mut reader = Reader::of(bytes)?;
        let types = reader.byte()?;
        let ([told @ .., credits_told], first_threshold) =
            (told_of(reader.array()?)?, reader.byte()?);
        let stamp = Stamp(reader.array()?);
        let ends = [reader.int::<5>()?, reader.int::<4>()?];
        let expires_at = match reader.int::<7>()? {
            NEVER => None,
            unix_ms => Some(timestamp(unix_ms)?),
        };
        let ahead = reader.ints()?;
        let credits_ahead = reader.int::<7>()?;
        reader.end()?;
        let kind = match types / 16 {
            0 => KeyKind::Member,
            1 => KeyKind::Admin,
            _ => return Err(Misread::Corrupt("a key of no kind")),
        };
        let global = match types % 16 {
            0 => None,
            types => Some(HotScope::new(types, told, ends, ahead)?),
        };
        Ok(Self { kind, stamp, expires_at, credits_ahead, credits_told, first_threshold, global })
    }

    pub(crate) const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The state of the key, as far as these assets go.
    pub(crate) fn state(
        &self,
        limits: &ColdKey,
        assets: impl IntoIterator<Item = (AssetId, ScopeState)>,
    ) -> Result<KeyState, Misread> {
        let ColdKey { budget, thresholds, shadow, .. } = *limits;
        if packed_thresholds(thresholds).first() != Some(&self.first_threshold) {
            return Err(NO_THRESHOLDS);
        }
        let credits = Meter::with_ahead(self.credits_ahead, budget, self.credits_told, thresholds)
            .map_err(|_| OUT_OF_BOUNDS)?;
        let global = match &self.global {
            Some(global) => Some(global.state(&limits.global, thresholds)?),
            None if limits.global.is_none() => None,
            None => return Err(Misread::Corrupt("a scope has limits, but is not counted")),
        };
        let Self { kind, expires_at, .. } = *self;
        KeyState::from_parts(kind, expires_at, shadow, thresholds, credits, global, assets)
            .map_err(|_| Misread::Corrupt("more assets than a key may have"))
    }
}

impl HotScope {
    pub(crate) fn read_asset(bytes: &[u8]) -> Result<Self, Misread> {
        let mut reader = Reader::of(bytes)?;
        let types = reader.byte()?;
        let [told @ .., credits_told] = told_of(reader.array()?)?;
        if credits_told != 0 {
            return Err(NO_THRESHOLDS);
        }
        let ends = [reader.int::<5>()?, reader.int::<4>()?];
        let ahead = [reader.float()?, reader.float()?, reader.float()?, reader.float()?];
        reader.end()?;
        Self::new(types, told, ends, ahead)
    }

    fn new(types: u8, told: [u8; 4], ends: [i64; 2], ahead: [i64; 4]) -> Result<Self, Misread> {
        let types = types.checked_sub(1).ok_or(Misread::Corrupt("a scope of no type"))?;
        let [minute, day] = ends;
        let end = |window: Window, number| {
            window.end_of_number(number).ok_or(Misread::Corrupt("a window that cannot be"))
        };
        Ok(Self {
            types: [token_type(types % 3)?, token_type(types / 3)?],
            ends: [end(Window::Minute, minute)?, end(Window::Day, day)?],
            ahead,
            told,
        })
    }

    pub(crate) fn state(
        &self,
        limits: &ColdScope,
        thresholds: Thresholds,
    ) -> Result<ScopeState, Misread> {
        let [ahead1, ahead2, ahead3, ahead4] = self.ahead;
        let [limit1, limit2, limit3, limit4] = limits.limits;
        let [told1, told2, told3, told4] = self.told;
        let meter = |ahead, limit, told| {
            Meter::with_ahead(ahead, limit, told, thresholds).map_err(|_| OUT_OF_BOUNDS)
        };
        let ([minute_end, day_end], [minute_type, day_type]) = (self.ends, self.types);
        let counts = [
            WindowCounts::from_parts(
                minute_end,
                meter(ahead1, limit1, told1)?,
                meter(ahead2, limit2, told2)?,
                minute_type,
            ),
            WindowCounts::from_parts(
                day_end,
                meter(ahead3, limit3, told3)?,
                meter(ahead4, limit4, told4)?,
                day_type,
            ),
        ];
        ScopeState::from_parts(counts, limits.pending)
            .map_err(|_| Misread::Corrupt("a scope that contradicts itself"))
    }
}

impl ColdKey {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Misread> {
        let mut reader = Reader::new(bytes);
        let percents: [u8; Thresholds::MOST] = reader.array()?;
        let given = percents.into_iter().take_while(|percent| *percent > 0);
        let thresholds = Thresholds::new(given).map_err(|_| NO_THRESHOLDS)?;
        if packed_thresholds(thresholds) != percents {
            return Err(NO_THRESHOLDS);
        }
        let shadow = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(Misread::Corrupt("a mode that cannot be")),
        };
        let budget = reader.limit()?;
        let global = ColdScope::read_from(&mut reader)?;
        reader.end()?;
        Ok(Self { budget, thresholds, shadow, global })
    }

    pub(crate) const fn thresholds(&self) -> Thresholds {
        self.thresholds
    }
}

impl ColdScope {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Misread> {
        let mut reader = Reader::new(bytes);
        let scope = Self::read_from(&mut reader)?;
        reader.end()?;
        Ok(scope)
    }

    fn read_from(reader: &mut Reader<'_>) -> Result<Self, Misread> {
        let limits = [reader.limit()?, reader.limit()?, reader.limit()?, reader.limit()?];
        let flags = reader.byte()?;
        let mut pending = |flag: u8| {
            let Some(type_code) = flag.checked_sub(1) else { return Ok(None) };
            let (requests, tokens) = (reader.limit()?, reader.limit()?);
            let limits = WindowLimits::from_parts(requests, tokens, token_type(type_code)?);
            limits.map(Some).map_err(|_| OUT_OF_BOUNDS)
        };
        let pending = [pending(flags % 4)?, pending(flags / 4)?];
        Ok(Self { limits, pending })
    }

    fn is_none(&self) -> bool {
        self.limits.iter().all(Option::is_none) && self.pending.iter().all(Option::is_none)
    }
}

/// In percent, rising; 0 for those that are not there.
pub(crate) fn packed_thresholds(thresholds: Thresholds) -> [u8; Thresholds::MOST] {
    let mut percents = [0; Thresholds::MOST];
    for (place, percent) in percents.iter_mut().zip(thresholds.percents()) {
        *place = percent;
    }
    percents
}

/// How many thresholds were told of the four counts of a scope, and of the credits.
fn told_of(bytes: [u8; 2]) -> Result<[u8; 5], Misread> {
    let told = u16::from_le_bytes(bytes);
    let of = |at: u16| (told >> at & 7) as u8;
    if told < 1 << 15 { Ok([of(0), of(3), of(6), of(9), of(12)]) } else { Err(NO_THRESHOLDS) }
}

fn timestamp(unix_ms: i64) -> Result<Timestamp, Misread> {
    let at = Timestamp::from_unix_ms(unix_ms);
    if at.unix_ms() == unix_ms { Ok(at) } else { Err(OUT_OF_BOUNDS) }
}

fn token_type(code: u8) -> Result<TokenType, Misread> {
    match code {
        0 => Ok(TokenType::Total),
        1 => Ok(TokenType::Output),
        2 => Ok(TokenType::Input),
        _ => Err(Misread::Corrupt("a token type that cannot be")),
    }
}

const NO_THRESHOLDS: Misread = Misread::Corrupt("thresholds that cannot be");
const OUT_OF_BOUNDS: Misread = Misread::Corrupt("a number out of bounds");

/// The only format so far; the first byte of each record that a call looks at.
const FORMAT: u8 = 1;
/// The expiry of a key that never expires: above every [`Timestamp`].
pub(crate) const NEVER: i64 = 1 << 54;
/// A limit that is not there.
const NO_LIMIT: i64 = -1;
