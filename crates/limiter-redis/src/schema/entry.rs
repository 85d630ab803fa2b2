//! Entries of the ledger: reservations.
//!
//! | part | bytes |
//! |---|---|
//! | until when it is remembered | 7 |
//! | 0 open, 1 settled, 2 cancelled | 1 |
//! | requests; input tokens, output tokens and credits as reserved, and the same as estimated now | 7 each |
//! | of an open one: the windows that admitted it: whether the global record has windows, and whether the asset is counted | 1 + 1 |
//! | … then for each of the two records: generation 4, and for each window its end 5 and rebases 1 | 4 to 32 |
//! | of an ended one: input tokens, output tokens and credits as charged; the token of the call that ended it | 3 × 7 + 16 |
//! | `a` and the asset, or nothing | |

use limiter_core::prepare::AdmittingWindows;
use limiter_core::{
    AssetId, Charge, Credits, Reservation, ReservationEnd, Timestamp, Window, WindowId,
};

use super::bytes::{OUT_OF_BOUNDS, Reader, push_int, timestamp};
use super::hot::read_span;
use super::{Misread, asset_field};

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

/// The bytes before the windows that admitted a new reservation.
pub(crate) fn before_windows(estimate: &Charge, global: bool, asset: bool) -> Vec<u8> {
    let mut bytes = vec![OPEN];
    push_charges(&mut bytes, estimate, estimate);
    bytes.extend([u8::from(global), u8::from(asset)]);
    bytes
}

/// The bytes after them.
pub(crate) fn after_windows(asset: Option<&AssetId>) -> Vec<u8> {
    asset.map(asset_field).unwrap_or_default()
}

/// A reservation that goes on with another estimate: all but until when it is remembered.
pub(crate) fn raised(before: &[u8], reservation: &Reservation, estimate: &Charge) -> Vec<u8> {
    let mut bytes = vec![OPEN];
    push_charges(&mut bytes, reservation.reserved(), estimate);
    bytes.extend_from_slice(before.get(WINDOWS_AT..).unwrap_or_default());
    bytes
}

/// A reservation that has ended: all but until when it is remembered.
pub(crate) fn ended(reservation: &Reservation, end: ReservationEnd, token: Token) -> Vec<u8> {
    let (state, actual) = match end {
        ReservationEnd::Settled(actual) => (SETTLED, actual),
        ReservationEnd::Cancelled => (CANCELLED, Charge::NOTHING),
    };
    let mut bytes = vec![state];
    push_charges(&mut bytes, reservation.reserved(), reservation.estimate());
    push_amounts(&mut bytes, &actual);
    bytes.extend(token);
    bytes.extend(after_windows(reservation.asset()));
    bytes
}

fn push_charges(bytes: &mut Vec<u8>, reserved: &Charge, estimate: &Charge) {
    push_int::<7>(bytes, reserved.requests().cast_signed());
    push_amounts(bytes, reserved);
    push_amounts(bytes, estimate);
}

fn push_amounts(bytes: &mut Vec<u8>, charge: &Charge) {
    let credits = charge.credits().millionths();
    for amount in [charge.input_tokens(), charge.output_tokens(), credits] {
        push_int::<7>(bytes, amount.cast_signed());
    }
}

/// Reads a reservation.
pub(crate) fn read_entry(bytes: &[u8]) -> Result<Entry, Misread> {
    let mut reader = Reader::new(bytes);
    let until = timestamp(reader.int::<7>()?)?;
    let state = reader.byte()?;
    let requests = reader.count()?;
    let reserved = read_charge(&mut reader, requests)?;
    let estimate = read_charge(&mut reader, requests)?;
    let (mut admitted, mut ended_by) = (AdmittingWindows::NONE, None);
    let end = if state == OPEN {
        let [global, asset] = [reader.flag(NO_WINDOWS)?, reader.flag(NO_WINDOWS)?];
        admitted.global = read_windows(&mut reader, global)?;
        if asset {
            admitted.asset = read_windows(&mut reader, true)?;
        }
        None
    } else {
        let actual = read_charge(&mut reader, requests)?;
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
    let reservation = Reservation::from_parts(asset, reserved, estimate, admitted, end);
    Ok(Entry { until, reservation, ended_by })
}

fn read_windows(reader: &mut Reader<'_>, windows: bool) -> Result<[Option<WindowId>; 2], Misread> {
    let generation = u32::from_le_bytes(reader.array()?);
    let mut ids = [None; 2];
    if windows {
        for (window, id) in Window::ALL.into_iter().zip(&mut ids) {
            *id = Some(WindowId { generation, span: read_span(reader, window)? });
        }
    }
    Ok(ids)
}

fn read_charge(reader: &mut Reader<'_>, requests: u64) -> Result<Charge, Misread> {
    let (input, output, credits) = (reader.count()?, reader.count()?, reader.count()?);
    let charge = Charge::request().with_requests(requests);
    let charge = charge.and_then(|charge| charge.with_tokens(input, output));
    let credits = Credits::from_millionths(credits).map_err(|_| OUT_OF_BOUNDS)?;
    Ok(charge.map_err(|_| OUT_OF_BOUNDS)?.with_credits(credits))
}

/// Reads the time until which an id is remembered: what `ZSCORE` answers.
pub(crate) fn read_until(score: &[u8]) -> Result<Timestamp, Misread> {
    let unix_ms = str::from_utf8(score).ok().and_then(|text| text.parse::<f64>().ok());
    let unix_ms = unix_ms.filter(|unix_ms| unix_ms.fract() == 0.0).ok_or(OUT_OF_BOUNDS)?;
    // A number that is out of bounds becomes the nearest `i64`, which is out of bounds too.
    timestamp(unix_ms as i64)
}

const OPEN: u8 = 0;
const SETTLED: u8 = 1;
const CANCELLED: u8 = 2;
/// Where the windows that admitted it begin.
const WINDOWS_AT: usize = 7 + 1 + 7 * 7;
const NO_WINDOWS: &str = "a reservation of windows that do not exist";
const NO_ASSET: Misread = Misread::Corrupt("a reservation of no asset that exists");
