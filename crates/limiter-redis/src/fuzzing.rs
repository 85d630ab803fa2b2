//! Entry points for the fuzz targets: bytes from anywhere, read as if a Redis server had sent them.
//!
//! Each may find that the bytes make no sense, and must not panic. It returns whether they did make sense.

#[cfg(feature = "fuzzing")]
pub mod scripts;

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    AssetId, Charge, Credits, DayHistory, Effective, KeyConfig, KeyId, KeyRecord, KeyState, Ledger,
    LedgerBounds, LevelPlace, Levels, LevelsMut, Limits, MAX_COUNT, Place, RequestId,
    ReservationEnd, Thresholds, Timestamp, Totals, Usage, evaluate, explain, prepare, reservation,
};
use redis::Value;

use crate::answer::{Answer, Ended};
use crate::keys::Subject;
use crate::remembering::read_ledger;
use crate::schema::{
    HashFields, Known, KnownLevels, REMEMBERED, amended, closed_days, ended, read_entry,
    read_state, stored_key, whole_key,
};

/// An answer of `take` or of `apply`, explained as decisions.
///
/// A head of the shape of the answer, and of whether the key has a group; then the text of the answer; of each level the hot
/// and the cold fields in it; of each level those at hand; and charges. Fields are those of all calls, of an asset and of other
/// assets.
pub fn reply(bytes: &[u8]) -> bool {
    let mut chunks = Chunks(bytes);
    let [shape, head] = chunks.next_array();
    let (charges, key) = (usize::from(head % 5), if head < 128 { key_id() } else { in_group() });
    let text = chunks.next_chunk();
    let shown: Vec<_> = key.levels().map(|_| chunks.next_fields()).collect();
    let known: Vec<_> = key.levels().map(|_| at_hand(&mut chunks).map(Arc::new)).collect();
    let known = known.into_iter().collect::<Option<_>>().map(KnownLevels::new);
    let charges: Vec<_> = (0..charges).map(|_| chunks.next_charge()).collect();
    let (m1, x) = (m1(), other());
    let mut made_sense = false;
    for asset in [None, Some(&m1), Some(&x)] {
        let of = Subject { key: &key, asset };
        let places = known.as_ref().map(|known| places(known, asset)).unwrap_or_default();
        let layouts = known.iter().flat_map(|known| known.layouts(places.iter().copied()));
        let layouts: Vec<_> = layouts.collect();
        // The records as they were, and what is shown of each level if nothing was compared.
        let before = places.iter().map(|at| {
            let [hot, _] = shown[at.level];
            match at.place {
                Place::Global => hot[0],
                Place::Asset(_) => hot[1],
                Place::Other => hot[2],
            }
        });
        let before: Vec<_> = before.collect();
        let of_call = if asset.is_none() { 1 } else { 3 };
        let found = |count: usize| {
            let fields = shown.iter().flatten().flat_map(move |fields| &fields[..count]);
            fields.map(|text| field(text))
        };
        let mut parts = vec![bulk(text)];
        match shape % 6 {
            0 => parts = Vec::new(),
            1 => parts.extend(found(3)),
            2 => parts.extend([before.first().map_or(Value::Nil, |text| bulk(text)), Value::Nil]),
            3 => parts.extend([Value::Int(0), Value::Nil].into_iter().chain(found(of_call))),
            4 => {
                parts.extend([&b"1760011200000"[..], b";2,;3,1760011200001"].map(bulk));
                parts.extend(before.iter().map(|text| field(text)));
            }
            _ => parts.push(Value::Int(1)),
        }
        let reply = match parts.is_empty() {
            true => bulk(&[&[text], &before[..]].concat().concat()),
            false => Value::Array(parts),
        };
        let answers = [
            Answer::of_take(&reply, &layouts),
            Answer::of_apply(&reply),
            Answer::of(&reply, &layouts, shape % 2 == 0),
        ];
        for answer in answers {
            let Ok(answer) = answer else { continue };
            if let Ok(Some(known)) = answer.found(of) {
                made_sense = true;
                decided(known, &answer, of, &charges);
            }
            let Some(known) = &known else { continue };
            if let Ok(known) = answer.before(known, &places) {
                made_sense = true;
                decided(known, &answer, of, &charges);
            }
        }
    }
    made_sense
}

/// The remembered calls of a key: one entry on its own, and the ledger in which it is listed.
///
/// The entry; the time by which it is listed; the fields of the key, which are those of its group too; a charge.
pub fn remembered(bytes: &[u8]) -> bool {
    let mut chunks = Chunks(bytes);
    let [stored, score] = [(); 2].map(|()| chunks.next_chunk());
    let known = at_hand(&mut chunks);
    let charge = chunks.next_charge();
    let id: RequestId = "r".parse().expect("a short id");
    let list = |texts: &[&[u8]]| Value::Array(texts.iter().map(|text| bulk(text)).collect());
    let key = list(&[b"g", b"hot"]);
    let (entries, listed, none) = (list(&[b"r", stored]), list(&[b"r", score]), list(&[]));
    let parts = |open: &Value, ended: &Value, more: &Value| {
        let time = [bulk(b"1760011200"), bulk(b"0")];
        let keys = [&key, &entries, open, ended, more, more].map(Value::clone);
        Value::Array(time.into_iter().chain(keys).collect())
    };
    let ledgers = [parts(&listed, &none, &none), parts(&none, &listed, &listed)];
    let mut ledger = Ledger::default();
    for read in ledgers.iter().map(read_ledger) {
        if let Ok(Some(read)) = read {
            ledger = read;
        }
    }
    let Ok(entry) = read_entry(stored) else { return false };
    let (reservation, now) = (entry.reservation, entry.until);
    ledger.remember_reservation(id.clone(), now, reservation.clone());
    let Some(known) = known else { return true };
    let totals = Totals::unchanged().with_credits(charge.credits());
    let totals = totals.with_output_tokens(charge.output_tokens()).expect("within bounds");
    let totals = totals.with_requests(charge.requests()).expect("within bounds");
    // The script leaves these bytes as they are.
    let remembered = &stored[..REMEMBERED];
    if let Ok((estimate, _)) = reservation.amended(&id, &totals) {
        let amended = [remembered, &amended(stored, &reservation, &estimate)].concat();
        let read = read_entry(&amended).expect("it is written to be read");
        assert_eq!(read.reservation.estimate(), &estimate);
        assert_eq!(read.reservation.reserved(), reservation.reserved());
        assert_eq!(read.reservation.admission(), reservation.admission());
    }
    for actual in [None, Some(&totals)] {
        let Ok((end, _)) = reservation.ending(&id, actual) else { continue };
        let ended = [remembered, &ended(&reservation, end, [7; 16])].concat();
        let read = read_entry(&ended).expect("it is written to be read");
        assert_eq!(read.reservation.end(), Some(end));
        assert!(actual.is_some() || end == ReservationEnd::Cancelled);
    }
    let (m1, day, bounds) = (m1(), Duration::from_secs(86_400), LedgerBounds::default());
    for key in [key_id(), in_group()] {
        let before = vec![known.state.clone(); key.depth()];
        let levels = Levels::new(&key, reservation.asset(), &before);
        if let Ok((estimate, added)) = reservation.amended(&id, &totals) {
            let prepared = reservation.prepare_amendment(&levels, &estimate, now);
            let _ = reservation.refuses(&levels, &prepared, &added, now);
            let mut after = before.clone();
            let levels = &mut LevelsMut::new(&key, reservation.asset(), &mut after);
            let _ = reservation.amend(levels, &estimate, now);
        }
        for actual in [None, Some(&totals)] {
            let Ok((_, charge)) = reservation.ending(&id, actual) else { continue };
            let prepared = reservation.prepare_end(&levels, &charge, now);
            let mut after = before.clone();
            let levels = &mut LevelsMut::new(&key, reservation.asset(), &mut after);
            let _ = prepared.commit(levels, now);
        }
        let (mut states, ledger) = (before.clone(), &mut ledger.clone());
        for asset in [Some(&m1), None] {
            let levels = &mut LevelsMut::new(&key, asset, &mut states);
            let _ = reservation::check_once(levels, ledger, &bounds, &charge, &id, now);
            let _ = reservation::reserve(levels, ledger, &bounds, &charge, &id, day, now);
            let _ = reservation::amend(levels, ledger, &bounds, &id, &totals, now);
            let _ = reservation::settle(levels, ledger, &bounds, &id, &totals, now);
            let _ = reservation::cancel(levels, ledger, &bounds, &id, now);
        }
        states.iter().for_each(|state| drop(Usage::of(state, now)));
    }
    true
}

/// The three hashes of a key, as `HGETALL` answers them: fields and values by turns.
pub fn record(bytes: &[u8]) -> bool {
    let mut chunks = Chunks(bytes);
    let [hot, cold, more] = chunks.next_array();
    let mut hash = |fields: u8| {
        let pairs =
            (0..fields % 16).flat_map(|_| [named(chunks.next_chunk()), chunks.next_chunk()]);
        let texts = pairs.map(|text| Value::BulkString(text.to_vec())).collect();
        Value::Array(texts)
    };
    let hashes = [hash(hot), hash(cold), hash(more)];
    let [Ok(hot), Ok(cold), Ok(record)] = hashes.each_ref().map(HashFields::read) else {
        return false;
    };
    if let (Ok(known), Ok(stored)) = (whole_key(&hot, &cold), stored_key(&record)) {
        let now = Timestamp::from_unix_ms(i64::from(more));
        let shown = KeyRecord::of(&stored, &known.state, now);
        assert_eq!(shown.version, stored.version);
        return true;
    }
    false
}

/// Days that have ended, and the live day, as the history of a key.
///
/// The number of days; each of them; the fields of the key; the time.
pub fn days(bytes: &[u8]) -> bool {
    let mut chunks = Chunks(bytes);
    let [count] = chunks.next_array();
    let members = (0..count % 8).flat_map(|_| [bulk(chunks.next_chunk()), bulk(b"1760011200")]);
    let members = Value::Array(members.collect());
    let (known, now) = (at_hand(&mut chunks), Timestamp::from_unix_ms(chunks.next_number()));
    let (Some(known), Ok(closed)) = (known, closed_days(&members)) else { return false };
    let history = DayHistory::of(&known.state, closed, u16::from(count), now);
    assert!(history.windows(2).all(|days| days[0].start < days[1].start), "{history:?}");
    true
}

/// Decides on a state that was parsed, changes and resets it: nothing overflows, a peek answers as the call does, and the state
/// afterwards, as a store would keep it, can be read again. It is the state of a key, then that of its group too.
pub fn state(bytes: &[u8]) -> bool {
    let mut chunks = Chunks(bytes);
    let read = at_hand(&mut chunks);
    let (charge, now) = (chunks.next_charge(), chunks.next_number());
    let now = Timestamp::from_unix_ms(now);
    let (m1, x) = (m1(), other());
    let Some(known) = read else { return false };
    for key in [key_id(), in_group()] {
        let mut states = vec![known.state.clone(); key.depth()];
        for asset in [None, Some(&m1), Some(&x)] {
            let peeked = evaluate::peek(&Levels::new(&key, asset, &states), &charge, now);
            let decided = match states.as_mut_slice() {
                [state] => {
                    let located = state.locate(asset);
                    evaluate::charge(state, &key, located, &charge, now)
                }
                states => {
                    evaluate::charge_all(&mut LevelsMut::new(&key, asset, states), &charge, now)
                }
            };
            assert_eq!(peeked, decided);
            assert!(!decided.is_allowed() || !known.state.is_expired(now));
            for state in &states {
                can_be_read_again(state, now);
            }
        }
    }
    let state = known.state;
    let _ = state.reset_change(now);
    let limits = Limits::builder().tokens_per_day(charge.output_tokens()).requests_per_week(1);
    let limits = limits.build().expect("within bounds");
    let config = KeyConfig::named("k").expect("a short name").with_global(limits.clone());
    let config = config.with_asset(x, limits.clone()).with_other(limits);
    for effective in [Effective::Next, Effective::Now] {
        let change = state.change(&config, Thresholds::DEFAULT, effective, now);
        assert!(change.is_ok(), "few assets");
    }
    true
}

fn can_be_read_again(state: &KeyState, now: Timestamp) {
    let _ = Usage::of(state, now);
    let assets = state.assets().map(|(id, listed, scope)| (id.clone(), listed, scope.clone()));
    let global = state.global().clone();
    let again = KeyState::from_parts(state.settings(), global, assets, state.other().cloned());
    assert_eq!(again.expect("few assets"), *state);
}

/// A key of an asset and of others, from its hot fields and its cold ones.
fn at_hand(chunks: &mut Chunks<'_>) -> Option<Known> {
    let [hot, cold] = chunks.next_fields();
    let both = |at: usize| (!hot[at].is_empty()).then_some((hot[at], cold[at]));
    let asset = both(1).map(|(hot, cold)| (m1(), hot, cold));
    read_state(hot[0], cold[0], asset, both(2)).ok()
}

/// The scopes that a call of an asset meets.
fn places(known: &KnownLevels, asset: Option<&AssetId>) -> Vec<LevelPlace> {
    let of_level = |(level, known): (usize, &Arc<Known>)| {
        let met = known.state.met(known.state.locate(asset));
        met.map(move |place| LevelPlace { level, place })
    };
    known.iter().enumerate().flat_map(of_level).collect()
}

/// Explains each call of an answer, as the store does.
fn decided(mut known: KnownLevels, answer: &Answer<'_>, of: Subject<'_>, charges: &[Charge]) {
    let now = answer.now;
    for (number, charge) in charges.iter().enumerate() {
        let applied = answer.applied(number).filter(|_| answer.ended == Ended::Compared);
        if let Some(spared) = applied {
            let decided = explain::admitted(&mut known.met_mut(of), charge, spared, now);
            assert!(decided.is_allowed());
        } else {
            let _ = explain::refused(&known.met(of), charge, now);
            let _ = prepare::rebase(&known.met(of), now);
        }
    }
    let prepared = prepare::check(&known.met(of), charges, true, now);
    for level in known.iter() {
        let _ = Usage::of(&level.state, prepared.operation().from);
    }
}

/// A name that a hash of ours has, for a byte that numbers it, so that most fields have a meaning.
fn named(chunk: &[u8]) -> &[u8] {
    match chunk {
        [number] => NAMES.get(usize::from(*number)).map_or(chunk, |name| name.as_bytes()),
        _ => chunk,
    }
}

fn bulk(text: &[u8]) -> Value {
    Value::BulkString(text.to_vec())
}

/// A field, which is not there if it is empty.
fn field(text: &[u8]) -> Value {
    if text.is_empty() { Value::Nil } else { bulk(text) }
}

fn key_id() -> KeyId {
    "k".parse().expect("a short id")
}

/// A key that a group has.
fn in_group() -> KeyId {
    "g/k".parse().expect("a short id")
}

fn m1() -> AssetId {
    "m1".parse().expect("a short id")
}

/// An asset that the key at hand does not list.
fn other() -> AssetId {
    "x".parse().expect("a short id")
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

    /// The hot and the cold fields of a level.
    fn next_fields(&mut self) -> [[&'a [u8]; 3]; 2] {
        [(); 2].map(|()| [(); 3].map(|()| self.next_chunk()))
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

const NAMES: [&str; 16] = [
    "g",
    "am1",
    "o",
    "format",
    "digest",
    "masked",
    "id",
    "workspace",
    "name",
    "version",
    "created",
    "changed",
    "labels",
    "own",
    "drawn",
    "replaced",
];
