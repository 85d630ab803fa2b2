//! The layout of the records, byte by byte, and bytes that are none.

use limiter_core::{Charge, DenialReason, KeyConfig, KeyKind, Limits as CoreLimits, MAX_COUNT};
use proptest::collection::vec;
use proptest::prelude::*;
use redis::Value;

use super::*;
use crate::error::RedisError;
use crate::explain::{Wrong, explain};
use crate::fuzzing;

/// What `create.lua` writes for [`state`] if all 5 requests are left, and `decide.lua` if none is. Of 5 requests, 2 are kept
/// free until 80 % are told.
fn h(kind: u8, requests_left: i64) -> Vec<u8> {
    let (told, requests_ahead) = if requests_left == 0 { (2, 0) } else { (0, requests_left - 2) };
    let mut h = vec![1, 1 + 3 + 16 * kind, told, 0, 80, 1, 0, 0, 0, 9, 8, 7, 6];
    push_int::<5>(&mut h, Window::Minute.number_of_end(Window::Minute.end(NOON)));
    push_int::<4>(&mut h, Window::Day.number_of_end(Window::Day.end(NOON)));
    push_int::<7>(&mut h, NEVER);
    for ahead in [requests_ahead, UNLIMITED, UNLIMITED, 7 - 2, 50 - 11] {
        push_int::<7>(&mut h, ahead);
    }
    h
}

fn limits(numbers: [Option<u64>; 4], flags: u8, pending: &[Option<u64>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    numbers.iter().for_each(|limit| push_limit(&mut bytes, *limit));
    bytes.push(flags);
    pending.iter().for_each(|limit| push_limit(&mut bytes, *limit));
    bytes
}

fn cold_key() -> Vec<u8> {
    let mut bytes = vec![80, 100, 0, 0, 0];
    push_limit(&mut bytes, Some(50));
    [bytes, limits([Some(5), None, None, Some(7)], 0, &[])].concat()
}

fn cold_asset() -> Vec<u8> {
    limits([None, Some(3), None, None], 0, &[])
}

fn asset() -> Vec<u8> {
    let mut a = vec![1, 1 + 2, 0, 0];
    push_int::<5>(&mut a, Window::Minute.number_of_end(Window::Minute.end(NOON)));
    push_int::<4>(&mut a, Window::Day.number_of_end(Window::Day.end(NOON)));
    for ahead in [UNLIMITED, 3 - 1, UNLIMITED, UNLIMITED] {
        a.extend((ahead as f64).to_le_bytes());
    }
    a
}

/// What `reserve.lua` writes.
fn reservation() -> Vec<u8> {
    let mut bytes = vec![1, 0];
    push_int::<7>(&mut bytes, NOON.unix_ms() + 1);
    for number in [1, 2, 3, 4, 2, 3, 4, 0, 0, 0] {
        push_int::<7>(&mut bytes, number);
    }
    bytes.extend([0; 30]);
    [bytes, b"am1".to_vec()].concat()
}

fn state(kind: KeyKind) -> KeyState {
    let global = CoreLimits::builder().requests_per_minute(5).tokens_per_day(7);
    let asset = CoreLimits::builder().tokens_per_minute(3).token_type(TokenType::Input);
    let config = KeyConfig::named("ci")
        .unwrap()
        .with_global(global.token_type(TokenType::Output).build().unwrap())
        .with_asset("m1".parse().unwrap(), asset.build().unwrap())
        .with_budget(limiter_core::Credits::from_millionths(50).unwrap());
    KeyState::new(kind, &config, NOON)
}

#[test]
fn records_as_scripts_write_them_are_the_state_of_the_core() {
    for (kind, code) in [(KeyKind::Member, 0), (KeyKind::Admin, 1)] {
        let (thresholds, limits) = (cold_key()[..5].to_vec(), cold_key()[5..].to_vec());
        let key = [("h", h(code, 5)), ("H", limits), ("T", thresholds)];
        let asset = [("am1", asset()), ("Am1", cold_asset())];
        let hash = key.into_iter().chain(asset);
        let texts = hash.map(|(field, value)| [field.as_bytes().to_vec(), value]);
        let texts = Value::Array(texts.flatten().map(Value::BulkString).collect());
        let (key, read) = HashFields::read(&texts).unwrap().state().unwrap();
        assert_eq!(read, state(kind));
        assert_eq!(key.stamp().bytes(), [1, 0, 0, 0, 9, 8, 7, 6]);
    }
}

#[test]
fn no_value_is_longer_than_a_compact_hash_holds() {
    let pending = [Some(1), None, None, Some(MAX_COUNT)];
    let longest = [cold_key(), pending.iter().flat_map(|_| [0; 7]).collect()].concat();
    // The thresholds are a field of their own.
    assert_eq!([h(0, 5).len(), asset().len(), longest.len() - 5], [64, 45, 64]);
    let scope = ColdScope::read(&limits([None; 4], 1 + 4 * 2, &pending)).unwrap();
    let window = |requests, tokens, token_type| {
        Some(WindowLimits::from_parts(requests, tokens, token_type).unwrap())
    };
    let [minute, day] = scope.pending;
    assert_eq!(minute, window(Some(1), None, TokenType::Total));
    assert_eq!(day, window(None, Some(MAX_COUNT), TokenType::Output));
}

#[test]
fn a_record_of_a_later_format_says_so() {
    let newer = [&[2], &h(0, 5)[1..]].concat();
    assert_eq!(HotKey::read(&newer).unwrap_err(), Misread::Newer);
    assert!(matches!(HotKey::read(&h(0, 5)[..63]).unwrap_err(), Misread::Corrupt(_)));
}

/// It stands in two places, of which a window that begins reads one and everything else the other.
#[test]
fn a_first_threshold_that_is_not_that_of_the_key_is_none() {
    let state = |h: &[u8]| HotKey::read(h)?.state(&ColdKey::read(&cold_key())?, []);
    let mut h = h(0, 5);
    assert!(state(&h).is_ok());
    h[4] = 79;
    assert_eq!(state(&h).unwrap_err(), NO_THRESHOLDS);
}

/// There are three bits for each count, and an asset has no credits.
#[test]
fn more_told_than_there_are_counts_is_no_record() {
    let (mut h, mut a) = (h(0, 5), asset());
    (h[3], a[3]) = (0x80, 0x10);
    assert_eq!(HotKey::read(&h).unwrap_err(), NO_THRESHOLDS);
    assert_eq!(HotScope::read_asset(&a).unwrap_err(), NO_THRESHOLDS);
}

/// A number that a count cannot be: no room, not all the room there is.
#[test]
fn a_count_of_an_asset_that_is_no_whole_number_is_no_count() {
    for odd in [f64::NAN, f64::INFINITY, 0.5, -1e300, 9_007_199_254_740_994.0] {
        let mut a = asset();
        a.splice(13..21, odd.to_le_bytes());
        assert!(matches!(HotScope::read_asset(&a), Err(Misread::Corrupt(_))), "{odd}");
    }
}

#[test]
fn what_the_script_allows_against_the_rules_is_not_allowed() {
    let reply = |verdict: &str, left| {
        let text = [format!("1760011200{verdict}0").into_bytes(), h(0, left)].concat();
        Value::Array([text, cold_key()].map(Value::BulkString).into())
    };
    let explained = |verdict, left| {
        let (mut decisions, _) =
            explain(&reply(verdict, left), None, &[Charge::request()], None).unwrap();
        decisions.remove(0)
    };
    assert!(explained("A", 5).unwrap().is_allowed());
    let denied = explained("R", 0).unwrap();
    assert!(matches!(denied.denied().unwrap().reason(), DenialReason::RateLimited(_)));
    for (verdict, left) in [("A", 0), ("R", 5), ("I", 5), ("B", 0)] {
        assert!(matches!(explained(verdict, left), Err(RedisError::Disagreement { .. })));
    }
    let longer = explain(&reply("AA", 5), None, &[Charge::request()], None);
    assert!(matches!(longer, Err(Wrong::Misread(_))));
}

/// They were once of an older layout, and no target got past the first record.
#[test]
fn what_fuzzing_begins_with_makes_sense() {
    type Reads = fn(&[u8]) -> bool;
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
    let targets: [(&str, Reads); 4] = [
        ("reply", fuzzing::reply),
        ("remembered", fuzzing::remembered),
        ("record", fuzzing::record),
        ("state", fuzzing::state),
    ];
    for (target, reads) in targets {
        for seed in std::fs::read_dir(format!("{seeds}/{target}")).unwrap() {
            let seed = seed.unwrap().path();
            assert!(reads(&std::fs::read(&seed).unwrap()), "{}", seed.display());
        }
    }
}

proptest! {
    /// The scripts compare stamps as floating-point numbers, of which one differs from itself.
    #[test]
    fn a_stamp_equals_itself_as_a_number(version: [u8; 4], random: [u8; 4]) {
        let [a, b, c, d] = version;
        let [e, f, g, h] = Incarnation::new(random).bytes();
        prop_assert!(f64::from_le_bytes([a, b, c, d, e, f, g, h]).is_finite());
    }

    #[test]
    fn numbers_of_seven_bytes_are_read_as_they_were_written(number in -(1_i64 << 55)..1 << 55) {
        let mut bytes = Vec::new();
        push_int::<7>(&mut bytes, number);
        prop_assert_eq!(Reader::new(&bytes).int::<7>(), Ok(number));
    }

    #[test]
    fn no_bytes_make_the_reading_panic(bytes in vec(any::<u8>(), 0..300)) {
        fuzzing::reply(&bytes);
        fuzzing::record(&bytes);
        fuzzing::state(&bytes);
        fuzzing::remembered(&bytes);
    }

    /// Most of them still parse, unlike random ones.
    #[test]
    fn no_changed_record_makes_the_reading_panic(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        rest in vec(any::<u8>(), 0..50),
    ) {
        let records = [h(0, 5), asset(), cold_key(), cold_asset()];
        let hash_of_key = [h(0, 5), asset(), cold_key()[5..].to_vec(), cold_asset(), cold_key()[..5].to_vec()];
        let framed = |chunk: Vec<u8>| [vec![chunk.len() as u8], chunk].concat();
        let mut text = b"1760011200A0".to_vec();
        text.extend(h(0, 5));
        let mut state = records.clone().map(framed).concat();
        let told = text.clone();
        let mut reply = [vec![1, 2, 0], [text, cold_key(), cold_asset()].map(framed).concat()].concat();
        let hash = ["h", "am1", "H", "Am1", "T"].iter().zip(hash_of_key);
        let hash = hash.flat_map(|(field, value)| [field.as_bytes().to_vec(), value]);
        let mut remembered = [vec![0, 0, 0], [reservation(), told, cold_key(), cold_asset()]
            .map(framed).concat()].concat();
        let mut record = [vec![5, 0], hash.map(framed).collect::<Vec<_>>().concat()].concat();
        for bytes in [&mut state, &mut reply, &mut record, &mut remembered] {
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.extend(&rest);
        }
        fuzzing::state(&state);
        fuzzing::reply(&reply);
        fuzzing::record(&record);
        fuzzing::remembered(&remembered);
    }
}

const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
const UNLIMITED: i64 = MAX_COUNT.cast_signed();
