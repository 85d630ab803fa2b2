//! Entries of the ledger: reservations.
//!
//! | part | bytes |
//! |---|---|
//! | until when it is remembered | 7 |
//! | of an open one: the levels in shadow that did not admit it, as bits | 1 |
//! | 0 open, 1 settled, 2 cancelled | 1 |
//! | requests, input tokens, output tokens and credits as reserved, and the same as estimated now | 2 × 4 × 7 |
//! | of an open one: the slots that it holds, as bits; those of levels that did not admit it are none | 2 |
//! | of an open one: the number of scopes that were compared; of each its level and which one it is, its windows as bits, and the number of changes of its limits | 1 + n × (1 + 1 + 4) |
//! | … then of each: the generation, and of each window that ends its end and rebases | 4 + n × (6 + 1) |
//! | of an ended one: requests, input tokens, output tokens and credits as charged; the token of the call that ended it | 4 × 7 + 16 |
//! | `a` and the asset, or nothing | |

use limiter_core::prepare::Prepared;
use limiter_core::{
    Admission, AdmittedScope, AssetId, Charge, Credits, LevelPlace, LevelSet, Reservation,
    ReservationEnd, Scope, Slots, Span, Timestamp, Window,
};

use super::bytes::{OUT_OF_BOUNDS, Reader, push_int, timestamp};
use super::hot::read_span;
use super::{KnownLevels, Misread, asset_field};

/// The unique name of one call that ends a reservation. No other call of any process has it.
pub(crate) type Token = [u8; 16];

/// A reservation as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) until: Timestamp,
    pub(crate) reservation: Reservation,
    /// The token of the call that ended it.
    pub(crate) ended_by: Option<Token>,
}

/// The bytes before the windows that admitted a new reservation: those that the operation leads to.
pub(crate) fn before_windows(
    estimate: &Charge,
    slots: Slots,
    prepared: &Prepared,
    known: &KnownLevels,
) -> Vec<u8> {
    let mut bytes = vec![OPEN];
    push_charge(&mut bytes, estimate);
    push_charge(&mut bytes, estimate);
    bytes.extend(slots.bits().to_le_bytes());
    let places: Vec<_> = prepared.places().collect();
    bytes.push(places.len() as u8);
    for (place, step) in places.into_iter().zip(&prepared.operation().steps) {
        let windows = step.windows.iter().filter(|of| of.is_counted());
        let bits = windows.fold(0, |bits, of| bits | 1 << of.window as u8);
        let changes = known.scope_at(place).map_or(0, |scope| scope.changes());
        bytes.extend([scope_code(place), bits]);
        bytes.extend(changes.to_le_bytes());
    }
    bytes
}

/// The bytes after them.
pub(crate) fn after_windows(asset: Option<&AssetId>) -> Vec<u8> {
    asset.map(asset_field).unwrap_or_default()
}

/// A reservation that goes on with another estimate: all but the first [`REMEMBERED`] bytes.
pub(crate) fn amended(before: &[u8], reservation: &Reservation, estimate: &Charge) -> Vec<u8> {
    let mut bytes = vec![OPEN];
    push_charge(&mut bytes, reservation.reserved());
    push_charge(&mut bytes, estimate);
    bytes.extend_from_slice(before.get(SLOTS_AT..).unwrap_or_default());
    bytes
}

/// A reservation that has ended: all but the first [`REMEMBERED`] bytes.
pub(crate) fn ended(reservation: &Reservation, end: ReservationEnd, token: Token) -> Vec<u8> {
    let (state, actual) = match end {
        ReservationEnd::Settled(actual) => (SETTLED, actual),
        ReservationEnd::Cancelled => (CANCELLED, Charge::NOTHING),
    };
    let mut bytes = vec![state];
    for charge in [reservation.reserved(), reservation.estimate(), &actual] {
        push_charge(&mut bytes, charge);
    }
    bytes.extend(token);
    bytes.extend(after_windows(reservation.asset()));
    bytes
}

fn push_charge(bytes: &mut Vec<u8>, charge: &Charge) {
    let credits = charge.credits().millionths();
    for amount in [charge.requests(), charge.input_tokens(), charge.output_tokens(), credits] {
        push_int::<7>(bytes, amount.cast_signed());
    }
}

/// Reads a reservation.
pub(crate) fn read_entry(bytes: &[u8]) -> Result<Entry, Misread> {
    let mut reader = Reader::new(bytes);
    let until = timestamp(reader.int::<7>()?)?;
    let spared = LevelSet::from_bits(reader.byte()?);
    let state = reader.byte()?;
    let reserved = read_charge(&mut reader)?;
    let estimate = read_charge(&mut reader)?;
    let (mut admission, mut ended_by) = (Admission::default(), None);
    let mut slots = Slots::NONE;
    let end = if state == OPEN {
        let held = Slots::from_bits(u16::from_le_bytes(reader.array()?));
        if held.but(LevelSet::NONE) != held {
            return Err(NO_SLOTS);
        }
        slots = held.but(spared);
        admission = read_admission(&mut reader, spared)?;
        None
    } else {
        let actual = read_charge(&mut reader)?;
        ended_by = Some(reader.array()?);
        match state {
            SETTLED => Some(ReservationEnd::Settled(actual)),
            CANCELLED => Some(ReservationEnd::Cancelled),
            _ => return Err(Misread::Corrupt("a reservation of no end")),
        }
    };
    let asset = match reader.rest().split_first() {
        None => None,
        Some((b'a', id)) => {
            let id = str::from_utf8(id).ok().and_then(|id| id.parse::<AssetId>().ok());
            Some(id.ok_or(NO_ASSET)?)
        }
        Some(_) => return Err(NO_ASSET),
    };
    let reservation = Reservation::from_parts(asset, reserved, estimate, admission, end);
    Ok(Entry { until, reservation: reservation.with_slots(slots), ended_by })
}

fn read_admission(reader: &mut Reader<'_>, spared: LevelSet) -> Result<Admission, Misread> {
    let mut scopes = Vec::new();
    for _ in 0..reader.byte()? {
        let code = usize::from(reader.byte()?);
        let (level, scope) = (code / SCOPES, Scope::ALL.get(code % SCOPES).ok_or(NO_WINDOWS)?);
        let bits = reader.byte()?;
        scopes.push((level, *scope, bits, u32::from_le_bytes(reader.array()?)));
    }
    let mut admitted = Vec::new();
    for (level, scope, bits, changes) in scopes {
        let generation = u32::from_le_bytes(reader.array()?);
        let mut windows = Vec::new();
        for window in Window::ALL.into_iter().filter(|window| bits & (1 << *window as u8) != 0) {
            let span = if window.ends() { read_span(reader)? } else { Span::EVER };
            windows.push((window, span));
        }
        let windows = windows.into_iter().collect();
        if !spared.contains(level) {
            admitted.push(AdmittedScope { level, scope, generation, changes, windows });
        }
    }
    Ok(Admission::new(admitted))
}

fn read_charge(reader: &mut Reader<'_>) -> Result<Charge, Misread> {
    let [requests, input, output] = [reader.count()?, reader.count()?, reader.count()?];
    let credits = Credits::from_millionths(reader.count()?).map_err(|_| OUT_OF_BOUNDS)?;
    let charge = Charge::request().with_requests(requests);
    let charge = charge.and_then(|charge| charge.with_tokens(input, output));
    Ok(charge.map_err(|_| OUT_OF_BOUNDS)?.with_credits(credits))
}

/// Reads the time until which an id is remembered: what `ZSCORE` answers.
pub(crate) fn read_until(score: &[u8]) -> Result<Timestamp, Misread> {
    let unix_ms = str::from_utf8(score).ok().and_then(|text| text.parse::<f64>().ok());
    let unix_ms = unix_ms.filter(|unix_ms| unix_ms.fract() == 0.0).ok_or(OUT_OF_BOUNDS)?;
    // A number that is out of bounds becomes the nearest `i64`, which is out of bounds too.
    timestamp(unix_ms as i64)
}

const fn scope_code(at: LevelPlace) -> u8 {
    (at.level * SCOPES) as u8 + at.place.scope() as u8
}

/// The bytes that a script writes by itself: until when it is remembered, and who did not admit it.
pub(crate) const REMEMBERED: usize = 7 + 1;
const OPEN: u8 = 0;
const SETTLED: u8 = 1;
const CANCELLED: u8 = 2;
/// Where its slots stand, and then the scopes that admitted it.
const SLOTS_AT: usize = 7 + 1 + 1 + 8 * 7;
/// How many kinds of scopes a level has room for.
const SCOPES: usize = 4;
const NO_WINDOWS: Misread = Misread::Corrupt("a reservation of windows that do not exist");
const NO_SLOTS: Misread = Misread::Corrupt("slots of scopes that do not exist");
const NO_ASSET: Misread = Misread::Corrupt("a reservation of no asset that exists");
