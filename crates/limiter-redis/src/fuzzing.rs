//! Entry points for the fuzz targets: bytes from anywhere, read as if a Redis server had sent them.
//!
//! Each may find that the bytes make no sense, and must not panic. It returns whether they did make sense.

use std::time::Duration;

use limiter_core::{
    AssetId, Charge, Credits, Decision, KeyRecord, KeyState, Ledger, LedgerBounds, MAX_COUNT,
    RequestId, Timestamp, Totals, Usage, evaluate, reservation,
};
use redis::Value;

use crate::codec::{Group, HashFields, HotKey, Limits, read_reservation, read_until, stored_key};
use crate::explain::explain;
use crate::judge::Judged;
use crate::known::Known;

/// An answer of `decide.lua`, explained.
///
/// A head of how many calls, the shape of the answer and what the caller knows; then the answer, the limits of key and
/// asset in it, those that the caller knows, and charges.
pub fn reply(bytes: &[u8]) -> bool {
    let mut chunks = Chunks(bytes);
    let [calls, shape, knows] = chunks.next_array();
    let calls = usize::from(calls % 5);
    let [text, key, asset] = [(); 3].map(|()| Value::BulkString(chunks.next_chunk().to_vec()));
    let reply = match shape % 7 {
        0 => text,
        1 => Value::Array(vec![text, key]),
        2 => Value::Array(vec![text, key, asset]),
        3 => Value::Array(vec![text, key, Value::Nil]),
        4 => Value::Array(vec![key]),
        5 => Value::Nil,
        _ => Value::Array(vec![Value::Int(1), text, key, asset]),
    };
    let (key, asset) = (chunks.next_chunk(), chunks.next_chunk());
    // Limits are of use only under the stamp that the answer has.
    let known = match Group::read(&reply, calls) {
        Ok(Group::Decided(decided)) if knows > 0 => HotKey::read(decided.reading.h)
            .and_then(|hot| Ok(Known::new(hot.stamp(), Limits::read((key, Some(asset)))?)))
            .ok(),
        _ => None,
    };
    let charges: Vec<_> = (0..calls).map(|_| chunks.next_charge()).collect();
    let mut made_sense = false;
    for asset in [None, Some(m1())] {
        if let Ok((decisions, _)) = explain(&reply, asset.as_ref(), &charges, known.as_ref()) {
            assert_eq!(decisions.len(), calls);
            made_sense = true;
        }
    }
    made_sense
}

/// An answer about an id, judged.
///
/// A head of a letter, the shape of the answer and of what is remembered; then that, what the script of decisions answered,
/// the limits of key and asset, and totals.
pub fn remembered(bytes: &[u8]) -> bool {
    let mut chunks = Chunks(bytes);
    let [letter, shape, kind] = chunks.next_array();
    let letter = LETTERS[usize::from(letter) % LETTERS.len()];
    let record = chunks.next_chunk();
    let [text, key, asset] = [(); 3].map(|()| Value::BulkString(chunks.next_chunk().to_vec()));
    let group = match shape % 4 {
        0 => Value::Array(vec![text, key, asset]),
        1 => Value::Array(vec![text, key]),
        2 => text,
        _ => Value::Nil,
    };
    let told = |text: &[u8]| Value::BulkString(text.to_vec());
    let mut parts = vec![told(&[letter]), told(b"1760011200"), told(b"0"), told(record), group];
    parts.truncate(5 - usize::from(shape / 4 % 3));
    let (charge, id) = (chunks.next_charge(), "r".parse().expect("a short id"));
    let totals = Totals::unchanged().with_credits(charge.credits());
    let totals = totals.with_output_tokens(charge.output_tokens()).expect("within bounds");
    let remembered = |record: &[u8]| {
        let mut ledger = Ledger::default();
        if kind % 2 == 0 {
            let (until, reservation) = read_reservation(record)?;
            ledger.remember_reservation(RequestId::clone(&id), until, reservation);
        } else {
            ledger.remember_check(RequestId::clone(&id), read_until(record)?);
        }
        Ok(ledger)
    };
    let (reply, m1) = (Value::Array(parts), m1());
    let mut made_sense = false;
    for asset in [None, Some(&m1)] {
        let keys = [b"k".to_vec(), b"r".to_vec()];
        let judge = || Judged::read(&reply, asset, None, &keys, remembered).ok().flatten();
        let Some(mut judged) = judge() else { continue };
        made_sense = true;
        let bounds = judged.bounds(&LedgerBounds::default());
        let Judged { state, ledger, now, .. } = &mut judged;
        let (now, day) = (*now, Duration::from_secs(86_400));
        let _ = reservation::check_once(state, ledger, &bounds, asset, &charge, &id, now);
        let reserved = reservation::reserve(state, ledger, &bounds, asset, &charge, &id, day, now);
        let _ = reservation::extend(state, ledger, &id, &totals, now);
        let settled = reservation::settle(state, ledger, &id, &totals, now);
        let _ = reservation::cancel(state, ledger, &id, now);
        let _ = Usage::of(state, now);
        let _ = judged.agrees(reserved);
        let _ = judged.agrees(settled);
    }
    made_sense
}

/// The two hashes of a key, as `HGETALL` answers them: fields and values by turns.
pub fn record(bytes: &[u8]) -> bool {
    let mut chunks = Chunks(bytes);
    let [fields, more] = chunks.next_array();
    let mut hash = |fields: u8| {
        let pairs =
            (0..fields % 12).flat_map(|_| [named(chunks.next_chunk()), chunks.next_chunk()]);
        let texts = pairs.map(|text| Value::BulkString(text.to_vec())).collect();
        Value::Array(texts)
    };
    let (state, record) = (hash(fields), hash(more));
    let (Ok(state), Ok(record)) = (HashFields::read(&state), HashFields::read(&record)) else {
        return false;
    };
    if let (Ok((_, state)), Ok(stored)) = (state.state(), stored_key(&record)) {
        let now = Timestamp::from_unix_ms(i64::from(more));
        let shown = KeyRecord::of(&stored, &state, now);
        assert_eq!(shown.version, stored.version);
        return true;
    }
    false
}

/// What parses into a state can be decided on: nothing overflows, a peek answers as the call does, and what a store
/// would keep of the state after it is a state again.
pub fn state(bytes: &[u8]) -> bool {
    let mut chunks = Chunks(bytes);
    let [h, a, key, asset] = [(); 4].map(|()| chunks.next_chunk());
    let (charge, now) = (chunks.next_charge(), chunks.next_number());
    let now = Timestamp::from_unix_ms(now);
    let m1 = m1();
    let read = HotKey::read(h)
        .and_then(|hot| Limits::read((key, Some(asset)))?.state(&hot, Some(a), Some(&m1)));
    let Ok(mut state) = read else { return false };
    for asset in [None, Some(&m1)] {
        let peeked = evaluate::peek(&state, state.locate(asset), &charge, now);
        let located = state.locate(asset);
        let decided = evaluate::check_and_consume(&mut state, located, &charge, now);
        assert_eq!(peeked, decided);
        assert!(!matches!(&decided, Decision::Allowed(_)) || !state.is_expired(now));
        let _ = Usage::of(&state, now);
        let assets = state.assets().map(|(id, scope)| (id.clone(), scope.clone()));
        let again = KeyState::from_parts(
            state.kind(),
            state.expires_at(),
            state.is_shadow(),
            state.thresholds(),
            state.credit_meter(),
            state.global().cloned(),
            assets,
        );
        assert_eq!(again.expect("few assets"), state);
    }
    true
}

/// A name that a hash of ours has, for a byte that numbers it, so that most fields have a meaning.
fn named(chunk: &[u8]) -> &[u8] {
    match chunk {
        [number] => NAMES.get(usize::from(*number)).map_or(chunk, |name| name.as_bytes()),
        _ => chunk,
    }
}

fn m1() -> AssetId {
    "m1".parse().expect("a short id")
}

/// Pieces, each after its length in a byte; empty ones when nothing is left.
struct Chunks<'a>(&'a [u8]);

impl<'a> Chunks<'a> {
    fn next_chunk(&mut self) -> &'a [u8] {
        let Some((length, rest)) = self.0.split_first() else { return &[] };
        let (chunk, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        self.0 = rest;
        chunk
    }

    fn next_array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let chunk = self.0.split_off(..N.min(self.0.len())).unwrap_or_default();
        for (byte, given) in array.iter_mut().zip(chunk) {
            *byte = *given;
        }
        array
    }

    fn next_number(&mut self) -> i64 {
        i64::from_le_bytes(self.next_array())
    }

    fn next_charge(&mut self) -> Charge {
        let [requests, input, output, credits] =
            [(); 4].map(|()| self.next_number().cast_unsigned() & MAX_COUNT);
        let charge = Charge::request().with_requests(requests).expect("within bounds");
        let charge = charge.with_tokens(input, output.min(MAX_COUNT - input));
        let credits = Credits::from_millionths(credits).expect("within bounds");
        charge.expect("within bounds").with_credits(credits)
    }
}

/// What a script may say of an id, and something that it never says.
const LETTERS: &[u8] = b"TPKUXODSINFC?";
const NAMES: [&str; 13] = [
    "h",
    "H",
    "T",
    "am1",
    "Am1",
    "format",
    "digest",
    "masked",
    "id",
    "workspace",
    "name",
    "version",
    "am2",
];
