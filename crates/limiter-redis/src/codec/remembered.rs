//! What is remembered of calls, and what the scripts answer that look there.

use limiter_core::{
    AssetId, Charge, Credits, Crossing, Ledger, RequestId, Reservation, ReservationEnd, Timestamp,
    Told, Totals,
};
use redis::Value;

use super::reader::Reader;
use super::reply::{Limits, NOT_AN_ANSWER, bytes, time_of};
use super::{HotKey, Misread, OUT_OF_BOUNDS, push_int, timestamp, told_of};
use crate::unanswered::Token;

/// What a script answers that looks up an id before it decides.
#[derive(Debug)]
pub(crate) enum Answered<'a> {
    /// The call is new, and this is what the script of decisions answered.
    Decided(&'a Value),
    /// Something is known of the id.
    Told(Telling<'a>),
}

/// What a script says of an id.
#[derive(Debug)]
pub(crate) struct Telling<'a> {
    pub(crate) outcome: Outcome,
    pub(crate) now: Timestamp,
    /// What was remembered under the id, as it was before.
    pub(crate) remembered: Option<&'a [u8]>,
    /// What the script of decisions answered, if it was asked.
    pub(crate) decided: Option<&'a Value>,
    /// Thresholds that were reached, if there are any.
    pub(crate) crossed: Option<Crossed<'a>>,
}

/// What `crossed.lua` tells: what was told before, and the key as it is since.
#[derive(Debug)]
pub(crate) struct Crossed<'a> {
    told: Told,
    h: &'a [u8],
    a: Option<&'a [u8]>,
    limits: (&'a [u8], Option<&'a [u8]>),
}

impl<'a> Crossed<'a> {
    fn read(value: &'a Value) -> Result<Self, Misread> {
        let Value::Array(parts) = value else { return Err(NOT_AN_ANSWER) };
        let [told, h, a, key, asset] = parts.as_slice() else { return Err(NOT_AN_ANSWER) };
        let told = bytes(told).and_then(|told| <[u8; 4]>::try_from(told).ok());
        let [key1, key2, asset1, asset2] = told.ok_or(NOT_AN_ANSWER)?;
        let [g1, g2, g3, g4, budget] = told_of([key1, key2])?;
        let [a1, a2, a3, a4, _] = told_of([asset1, asset2])?;
        Ok(Self {
            told: Told { rules: [g1, g2, g3, g4, a1, a2, a3, a4], budget },
            h: bytes(h).ok_or(NOT_AN_ANSWER)?,
            a: bytes(a),
            limits: (bytes(key).ok_or(NOT_AN_ANSWER)?, bytes(asset)),
        })
    }

    /// The thresholds that a call of this asset has reached.
    pub(crate) fn by(&self, asset: Option<&AssetId>) -> Result<Vec<Crossing>, Misread> {
        let state = Limits::read(self.limits)?.state(&HotKey::read(self.h)?, self.a, asset)?;
        Ok(Crossing::since(&self.told, &state, state.locate(asset)))
    }
}

/// How an operation on an id ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// By a decision.
    Decided,
    /// It was allowed before.
    Replayed,
    /// It has ended so, now or before.
    Done,
    KeyUnknown,
    Unknown,
    OtherExists,
    AlreadySettled,
    Shrinks,
    Invalid,
    TooMany,
}

impl<'a> Answered<'a> {
    pub(crate) fn read(value: &'a Value) -> Result<Self, Misread> {
        let Value::Array(parts) = value else { return Ok(Self::Decided(value)) };
        let [Value::BulkString(letter), seconds, micros, rest @ ..] = parts.as_slice() else {
            return Ok(Self::Decided(value));
        };
        let outcome = match letter.as_slice() {
            b"T" => Outcome::Decided,
            b"P" => Outcome::Replayed,
            b"K" => Outcome::Done,
            b"U" => Outcome::KeyUnknown,
            b"X" => Outcome::Unknown,
            b"O" => Outcome::OtherExists,
            b"D" => Outcome::AlreadySettled,
            b"S" => Outcome::Shrinks,
            b"I" => Outcome::Invalid,
            b"N" => Outcome::TooMany,
            b"F" => return Err(Misread::Newer),
            b"C" => return Err(Misread::Corrupt("a reservation that the script could not read")),
            // The time, where a decision begins.
            _ => return Ok(Self::Decided(value)),
        };
        let (seconds, micros) = bytes(seconds).zip(bytes(micros)).ok_or(NOT_AN_ANSWER)?;
        let (more, done) = (rest.get(1), outcome == Outcome::Done);
        Ok(Self::Told(Telling {
            outcome,
            now: time_of(seconds, micros)?,
            remembered: rest.first().and_then(bytes),
            decided: more.filter(|_| !done),
            crossed: more.filter(|_| done).map(Crossed::read).transpose()?,
        }))
    }
}

fn is_nothing(charge: &Charge) -> bool {
    (charge.input_tokens(), charge.output_tokens(), charge.credits()) == (0, 0, Credits::ZERO)
}

/// A reservation, and until when it is remembered. The windows that admitted it are the script's business.
pub(crate) fn read_reservation(bytes: &[u8]) -> Result<(Timestamp, Reservation), Misread> {
    let mut reader = Reader::of(bytes)?;
    let ended = reader.byte()?;
    let until = timestamp(reader.int::<7>()?)?;
    let requests = reader.count()?;
    let reserved = read_charge(&mut reader, requests)?;
    let estimate = read_charge(&mut reader, requests)?;
    let settled = read_charge(&mut reader, requests)?;
    let end = match ended {
        0 => None,
        SETTLED => Some(ReservationEnd::Settled(settled)),
        // The script compares these figures too; others would be read in two ways.
        CANCELLED if is_nothing(&settled) => Some(ReservationEnd::Cancelled),
        CANCELLED => {
            return Err(Misread::Corrupt("a cancelled reservation that did cost something"));
        }
        _ => return Err(Misread::Corrupt("a reservation of no end")),
    };
    reader.skip(WINDOWS)?;
    let asset = match reader.rest().split_first() {
        None => None,
        Some((b'a', id)) => {
            let id = str::from_utf8(id).ok().and_then(|id| id.parse::<AssetId>().ok());
            Some(id.ok_or(Misread::Corrupt("a reservation of no asset that can be"))?)
        }
        Some(_) => return Err(Misread::Corrupt("a reservation of no asset that can be")),
    };
    Ok((until, Reservation::without_windows(asset, reserved, estimate, end)))
}

/// Returns the token of the call that ended the reservation, if it has ended. `settle.lua` writes it in place of the
/// windows.
pub(crate) fn ended_under(record: &[u8]) -> Option<Token> {
    let ended = record.get(1).is_some_and(|ended| *ended != 0);
    let token = record.get(WINDOWS_AT..)?.first_chunk::<{ size_of::<Token>() }>()?;
    ended.then_some(*token)
}

/// Until when an id is remembered: what `ZSCORE` answers.
pub(crate) fn read_until(score: &[u8]) -> Result<Timestamp, Misread> {
    let unix_ms = str::from_utf8(score).ok().and_then(|text| text.parse::<f64>().ok());
    let unix_ms = unix_ms.filter(|unix_ms| unix_ms.fract() == 0.0).ok_or(OUT_OF_BOUNDS)?;
    // What is out of bounds becomes the nearest number, which is out of bounds too.
    timestamp(unix_ms as i64)
}

/// All that is remembered of a key, from what `ledger.lua` answers; or none, if the key does not exist.
pub(crate) fn read_ledger(value: &Value) -> Result<Option<Ledger>, Misread> {
    let Value::Array(parts) = value else { return Err(NOT_AN_ANSWER) };
    let [
        exists,
        Value::Array(reservations),
        Value::Array(ends),
        Value::Array(checks),
        Value::Array(records),
    ] = parts.as_slice()
    else {
        return Err(NOT_AN_ANSWER);
    };
    if *exists == Value::Int(0) {
        return Ok(None);
    }
    let mut ledger = Ledger::default();
    for pair in reservations.chunks_exact(2) {
        let (id, reservation) = pair_of(pair)?;
        let (until, reservation) = read_reservation(reservation)?;
        ledger.remember_reservation(id, until, reservation);
    }
    for pair in checks.chunks_exact(2) {
        let (id, score) = pair_of(pair)?;
        ledger.remember_check(id, read_until(score)?);
    }
    for pair in records.chunks_exact(2) {
        let (id, score) = pair_of(pair)?;
        ledger.remember_record(id, read_until(score)?);
    }
    let mut listed = Ledger::default();
    for pair in ends.chunks_exact(2) {
        let (id, score) = pair_of(pair)?;
        listed.remember_check(id, read_until(score)?);
    }
    let untils = ledger.reservations().map(|(id, until, _)| (id, until));
    if !untils.eq(listed.checks()) {
        return Err(Misread::Corrupt("reservations that are not listed by their time"));
    }
    Ok(Some(ledger))
}

/// Totals as `extend.lua` takes them.
pub(crate) fn asked_totals(totals: &Totals) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(21);
    let credits = totals.credits().map(Credits::millionths);
    for total in [totals.input_tokens(), totals.output_tokens(), credits] {
        push_int::<7>(&mut bytes, total.map_or(UNCHANGED, u64::cast_signed));
    }
    bytes
}

/// Encodes the end of a reservation for `settle.lua`: its actual totals, or a cancellation; then the token of the call.
pub(crate) fn ended_by(actual: Option<&Totals>, token: Token) -> Vec<u8> {
    let mut bytes = actual
        .map_or_else(|| vec![CANCELLED], |actual| [vec![SETTLED], asked_totals(actual)].concat());
    bytes.extend(token);
    bytes
}

fn read_charge(reader: &mut Reader<'_>, requests: u64) -> Result<Charge, Misread> {
    let (input, output, credits) = (reader.count()?, reader.count()?, reader.count()?);
    let charge = Charge::request().with_requests(requests);
    let charge = charge.and_then(|charge| charge.with_tokens(input, output));
    let credits = Credits::from_millionths(credits).map_err(|_| OUT_OF_BOUNDS)?;
    Ok(charge.map_err(|_| OUT_OF_BOUNDS)?.with_credits(credits))
}

fn pair_of(pair: &[Value]) -> Result<(RequestId, &[u8]), Misread> {
    let [id, value] = pair else { return Err(NOT_AN_ANSWER) };
    let (id, value) = bytes(id).zip(bytes(value)).ok_or(NOT_AN_ANSWER)?;
    let id = str::from_utf8(id).ok().and_then(|id| id.parse().ok());
    Ok((id.ok_or(Misread::Corrupt("an id that cannot be"))?, value))
}

/// A reservation that has ended, and how.
const SETTLED: u8 = 1;
const CANCELLED: u8 = 2;
/// The length of the windows of two scopes, and their offset, in bytes.
const WINDOWS: usize = 30;
const WINDOWS_AT: usize = 79;
/// A total that stays as it is.
const UNCHANGED: i64 = -1;

#[cfg(test)]
mod tests {
    use super::super::FORMAT;
    use super::*;

    /// What `reserve.lua` writes, and `settle.lua` after it.
    fn record(ended: u8, asset: &str) -> Vec<u8> {
        let mut bytes = vec![FORMAT, ended];
        push_int::<7>(&mut bytes, 1_760_011_200_000);
        for number in [1, 2, 3, 4, 2, 5, 4, 0, i64::from(ended == SETTLED), 0] {
            push_int::<7>(&mut bytes, number);
        }
        bytes.extend([7; WINDOWS]);
        bytes.extend(asset.bytes());
        bytes
    }

    fn charge(input: u64, output: u64, credits: u64) -> Charge {
        let charge = Charge::request().with_tokens(input, output).unwrap();
        charge.with_credits(Credits::from_millionths(credits).unwrap())
    }

    #[test]
    fn a_reservation_is_read_as_a_script_wrote_it() {
        let (until, reservation) = read_reservation(&record(1, "am1")).unwrap();
        assert_eq!(until.unix_ms(), 1_760_011_200_000);
        assert_eq!(reservation.asset().map(AssetId::as_str), Some("m1"));
        assert_eq!(*reservation.reserved(), charge(2, 3, 4));
        assert_eq!(*reservation.estimate(), charge(2, 5, 4));
        assert_eq!(reservation.end(), Some(ReservationEnd::Settled(charge(0, 1, 0))));
        let (_, cancelled) = read_reservation(&record(2, "")).unwrap();
        assert_eq!((cancelled.asset(), cancelled.end()), (None, Some(ReservationEnd::Cancelled)));
        assert_eq!(record(0, "").len(), 109, "as reservation.lua expects it");
        assert_eq!(ended_under(&record(1, "")), Some([7; 16]));
        assert_eq!((ended_under(&record(0, "")), ended_under(&[1; 90])), (None, None));
    }

    #[test]
    fn a_reservation_that_cannot_be_is_refused() {
        let mut newer = record(0, "");
        newer[0] = 2;
        assert_eq!(read_reservation(&newer).unwrap_err(), Misread::Newer);
        let mut many = record(0, "");
        many[43] = 0x70;
        let mut cancelled_for_something = record(CANCELLED, "");
        cancelled_for_something[58] = 1;
        for damaged in [
            many,
            cancelled_for_something,
            record(3, ""),
            record(0, "b"),
            record(0, "a"),
            vec![1; 108],
            vec![],
        ] {
            assert!(matches!(read_reservation(&damaged), Err(Misread::Corrupt(_))), "{damaged:?}");
        }
    }

    #[test]
    fn a_time_is_read_however_the_server_writes_it() {
        let ms = |text: &str| read_until(text.as_bytes()).map(Timestamp::unix_ms);
        assert_eq!(ms("1760011320000"), Ok(1_760_011_320_000));
        assert_eq!(ms("9007199254740991"), Ok(9_007_199_254_740_991));
        assert_eq!(ms("1e+15"), Ok(1_000_000_000_000_000));
        for odd in ["", "nan", "inf", "1.5", "1e300"] {
            assert!(ms(odd).is_err(), "{odd}");
        }
    }
}
