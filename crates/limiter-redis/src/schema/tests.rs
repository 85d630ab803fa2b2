//! The layout of what is stored, byte by byte, and bytes that are none of it.

use limiter_conformance::fixtures::NOON;
use limiter_core::operation::{Guard, Operation, Step};
use limiter_core::prepare::AdmittingWindows;
use limiter_core::{
    ANY, Amount, Charge, Credits, KeyConfig, KeyKind, Ladder, Limits, MAX_COUNT, METERS,
    Reservation, ReservationEnd, ScopeState, Span, Stops, Take, Thresholds, TokenType, Window,
    WindowId, WindowLimits,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use redis::Value;

use super::bytes::{Reader, push_limit};
use super::*;
use crate::fuzzing;

/// An entry point of fuzzing: whether the bytes made sense.
type Reads = fn(&[u8]) -> bool;

/// A key with limits over all calls and for `m1`, of which nothing is used.
fn key(kind: KeyKind) -> KeyState {
    let global = Limits::builder().requests_per_minute(5).tokens_per_day(7);
    let asset = Limits::builder().tokens_per_minute(3).token_type(TokenType::Input);
    let config = KeyConfig::named("ci")
        .unwrap()
        .with_global(global.token_type(TokenType::Output).build().unwrap())
        .with_asset(m1(), asset.build().unwrap())
        .with_budget(Credits::from_millionths(50).unwrap());
    KeyState::new(kind, &config, NOON)
}

fn ints<const N: usize>(numbers: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    numbers.iter().for_each(|number| push_int::<N>(&mut bytes, *number));
    bytes
}

/// The minute and the day of noon, rebased that often.
fn windows(rebases: [u8; 2]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (window, rebases) in Window::ALL.into_iter().zip(rebases) {
        push_end(&mut bytes, window, window.end(NOON));
        bytes.push(rebases);
    }
    bytes
}

/// Of 5 requests 2 are beyond the first stop, at 80 %; of 7 tokens 2, of 50 credits 11.
fn hot() -> Vec<u8> {
    let values = ints::<7>(&[5 - 2, MOST, MOST, 7 - 2, 50 - 11]);
    [STAMP.0.to_vec(), vec![1, 0, 0, 0], windows([0; 2]), vec![0; 5], values].concat()
}

fn hot_asset() -> Vec<u8> {
    let values = ints::<7>(&[MOST, 3 - 1, MOST, MOST]);
    [vec![2, 0, 0, 0], windows([0; 2]), vec![0; 4], values].concat()
}

fn cold(kind: u8) -> Vec<u8> {
    let (mut bytes, output) = (vec![1, kind], 1);
    bytes.extend(ints::<7>(&[1 << 54]));
    bytes.extend([0, 80, 100, 0, 0, 2, 0, 0, 0]);
    bytes.extend(ints::<7>(&[50]));
    // A minute that limits no tokens counts them all.
    bytes.push(1 + 3 * output);
    bytes.extend(ints::<7>(&[5, -1, -1, 7]));
    bytes.push(0);
    bytes
}

fn cold_asset() -> Vec<u8> {
    let input = 2;
    [vec![1 + input], ints::<7>(&[-1, 3, -1, -1]), vec![0]].concat()
}

/// A call of 1 request for `m1`, with tokens and credits, that was reserved before the first rebase.
fn entry() -> Vec<u8> {
    let numbers = [1, 2, 3, 4, 5, 6, 7];
    let admitted = [vec![1, 1, 1, 0, 0, 0], windows([0, 1]), vec![2, 0, 0, 0], windows([2, 3])];
    let until = ints::<7>(&[NOON.unix_ms() + 1]);
    [until, vec![0], ints::<7>(&numbers), admitted.concat(), b"am1".to_vec()].concat()
}

/// The hot and the cold field of a key, and those of its asset.
fn fields(kind: u8) -> [Vec<u8>; 4] {
    [hot(), cold(kind), hot_asset(), cold_asset()]
}

fn read([hot, cold, hot_asset, cold_asset]: &[Vec<u8>; 4]) -> Result<Known, Misread> {
    read_state(hot, cold, [(m1(), &hot_asset[..], &cold_asset[..])])
}

#[test]
fn a_key_is_written_and_read_by_its_layout() {
    for (kind, code) in [(KeyKind::Member, 0), (KeyKind::Admin, 1)] {
        let state = key(kind);
        let global = state.global_scope().record();
        let (_, asset) = state.assets().next().unwrap();
        assert_eq!(Layout::of(global).write(STAMP, global), hot());
        assert_eq!(Layout::of(asset.record()).write(STAMP, asset.record()), hot_asset());
        assert_eq!(write_global(&state), cold(code));
        assert_eq!(write_asset(asset), cold_asset());
        let known = read(&fields(code)).unwrap();
        assert_eq!((known.stamp, known.state), (STAMP, state));
    }
}

#[test]
fn no_hot_record_is_longer_than_a_compact_hash_holds() {
    let without = Layout { global: true, windows: 0, meters: 1 };
    assert_eq!([hot().len(), hot_asset().len(), without.size()], [64, 48, 20]);
    let state = key(KeyKind::Member);
    let layout = Layout::of(state.global_scope().record());
    assert_eq!([layout.size(), layout.prefix(), layout.identity()], [64, 12, 24]);
}

#[test]
fn pending_limits_of_each_window_are_read_as_they_were_written() {
    let limits = |requests, tokens, token_type| {
        Some(WindowLimits::from_parts(requests, tokens, token_type).unwrap())
    };
    let state = key(KeyKind::Member);
    let choices = [
        None,
        limits(Some(1), None, TokenType::Total),
        limits(None, Some(MAX_COUNT), TokenType::Input),
    ];
    for pending in choices.into_iter().flat_map(|minute| choices.map(|day| [minute, day])) {
        let (id, asset) = state.assets().next().unwrap();
        let scope = ScopeState::from_parts(*asset.record(), pending).unwrap();
        let known = read(&[hot(), cold(0), hot_asset(), write_asset(&scope)]).unwrap();
        let (read_id, read) = known.state.assets().next().unwrap();
        assert_eq!((read_id, Window::ALL.map(|window| read.pending(window))), (id, pending));
    }
}

/// Each changes some bytes of one field, and what is read of it then.
#[test]
fn bytes_that_no_version_writes_are_no_key() {
    let too_long = [9; 5];
    let unaligned = ints::<5>(&[i64::from(u32::MAX) * 64]);
    let damages: [(&str, usize, usize, &[u8]); 19] = [
        ("no format", 1, 0, &[0]),
        ("no kind", 1, 1, &[2]),
        ("an expiry out of bounds", 1, 2, &[1, 0, 0, 0, 0, 0, 0x40]),
        ("no mode", 1, 9, &[2]),
        ("a threshold above 100 %", 1, 11, &[101]),
        ("thresholds that fall", 1, 10, &[100, 80]),
        ("a threshold after none", 1, 12, &[0, 90]),
        ("a budget out of bounds", 1, 18, &[0, 0, 0, 0, 0, 0, 0x40]),
        ("a negative budget", 1, 18, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("no token type", 1, 25, &[10]),
        ("a limit out of bounds", 1, 26, &[0, 0, 0, 0, 0, 0, 0x20]),
        ("pending limits of no token type", 1, 54, &[16]),
        ("a window that does not exist", 0, 12, &unaligned),
        ("a window after the last", 0, 18, &[0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("more thresholds fired than there are", 0, 24, &[3]),
        ("more left than the limit", 0, 29, &[4]),
        ("more used than can be counted", 0, 29, &[0, 0, 0, 0, 0, 0, 0x80]),
        ("an asset without limits", 3, 0, &[0]),
        ("a limit of an asset out of bounds", 3, 1, &too_long),
    ];
    for (what, field, at, bytes) in damages {
        let mut fields = fields(0);
        fields[field][at..at + bytes.len()].copy_from_slice(bytes);
        assert_is!(read(&fields), Err(Misread::Corrupt(_)), "{what}");
    }
}

#[test]
fn a_key_of_a_later_format_says_so() {
    for format in 2..=u8::MAX {
        let mut newer = fields(0);
        newer[1][0] = format;
        assert_eq!(read(&newer).unwrap_err(), Misread::Newer);
        let hash = ["format".as_bytes(), format.to_string().as_bytes()].map(bulk);
        let hash = Value::Array(hash.into());
        let record = HashFields::read(&hash).unwrap();
        assert_eq!(stored_key(&record).unwrap_err(), Misread::Newer);
    }
}

#[test]
fn a_field_that_is_cut_short_or_too_long_is_no_part_of_a_key() {
    for field in 0..4 {
        let whole = fields(0);
        let cut = (0..whole[field].len()).map(|at| whole[field][..at].to_vec());
        let longer = [whole[field].clone(), vec![0]].concat();
        for damaged in cut.chain([longer]) {
            let mut fields = whole.clone();
            fields[field] = damaged;
            assert_is!(read(&fields), Err(Misread::Corrupt(_)), "{fields:?}");
        }
    }
}

#[test]
fn an_open_reservation_is_written_and_read_by_its_layout() {
    let stored = entry();
    let Entry { until, reservation, ended_by } = read_entry(&stored).unwrap();
    assert_eq!((until, ended_by, reservation.end()), (after_noon(), None, None));
    assert_eq!(reservation, reserved());
    let parts = [
        ints::<7>(&[after_noon().unix_ms()]),
        before_windows(&charge(2, 3, 4), true, true),
        stored[7 + 1 + 7 * 7 + 2..stored.len() - 3].to_vec(),
        after_windows(Some(&m1())),
    ];
    let read = read_entry(&parts.concat()).unwrap().reservation;
    assert_eq!((read.reserved(), read.estimate()), (&charge(2, 3, 4), &charge(2, 3, 4)));

    let more = raised(&stored, &reservation, &charge(5, 6, 8));
    assert_eq!(more.len(), stored.len() - 7);
    let read = read_entry(&[&stored[..7], &more].concat()).unwrap().reservation;
    let expected =
        Reservation::from_parts(Some(m1()), charge(2, 3, 4), charge(5, 6, 8), admitted(), None);
    assert_eq!(read, expected);
}

#[test]
fn an_ended_reservation_is_written_and_read_by_its_layout() {
    for end in [ReservationEnd::Settled(charge(8, 9, 10)), ReservationEnd::Cancelled] {
        let token = *b"sixteen letters.";
        let written =
            [&ints::<7>(&[after_noon().unix_ms()])[..], &ended(&reserved(), end, token)].concat();
        let (state, actual) = match end {
            ReservationEnd::Settled(_) => (1, [8, 9, 10]),
            ReservationEnd::Cancelled => (2, [0; 3]),
        };
        let numbers = [&[1, 2, 3, 4, 5, 6, 7], &actual[..]].concat();
        assert_eq!(written[7..], [&[state], &ints::<7>(&numbers)[..], &token, b"am1"].concat());
        let read = read_entry(&written).unwrap();
        assert_eq!((read.until, read.ended_by), (after_noon(), Some(token)));
        assert_eq!((read.reservation.end(), read.reservation.asset()), (Some(end), Some(&m1())));
    }
}

#[test]
fn bytes_that_no_version_writes_are_no_reservation() {
    let stored = entry();
    let asset_at = stored.len() - 3;
    // All but the last bytes of the asset's name: what is left of it is a name too.
    for at in 0..asset_at {
        assert_is!(read_entry(&stored[..at]), Err(Misread::Corrupt(_)), "{at}");
    }
    let damages: [(&str, usize, &[u8]); 9] = [
        ("a time out of bounds", 0, &[0, 0, 0, 0, 0, 0, 0x20]),
        ("no end", 7, &[3]),
        ("negative tokens", 15, &[0xff; 7]),
        ("more tokens than can be counted", 15, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f]),
        ("credits out of bounds", 29, &[0, 0, 0, 0, 0, 0, 0x20]),
        ("windows that do not exist", 57, &[2]),
        ("a window after the last", 63, &[0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("no asset", asset_at, b"b"),
        ("an asset that is no text", asset_at + 1, &[0xff]),
    ];
    for (what, at, bytes) in damages {
        let mut damaged = stored.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        assert_is!(read_entry(&damaged), Err(Misread::Corrupt(_)), "{what}");
    }
    assert!(read_entry(&[&stored[..asset_at], b"a"].concat()).is_err(), "an empty name");
}

#[test]
fn the_time_until_which_an_id_is_remembered_is_a_whole_number_within_bounds() {
    assert_eq!(read_until(b"1760011200001"), Ok(after_noon()));
    assert_eq!(read_until(b"9007199254740991"), Ok(Timestamp::MAX));
    for odd in ["", "nan", "inf", "-inf", "0.5", "1e300", "9007199254740992", "soon", "\u{fffd}"] {
        assert!(read_until(odd.as_bytes()).is_err(), "{odd:?}");
    }
    assert!(read_until(&[0xff]).is_err());
}

#[test]
fn the_head_of_an_answer_is_a_time_and_letters() {
    assert_eq!(head_of(b"1760011200AR1999"), Ok((after_noon(), &b"AR"[..])));
    assert_eq!(head_of(b"-1T0"), Ok((Timestamp::from_unix_ms(-1_000), &b"T"[..])));
    for odd in ["", "A", "1A", "A1", "1A2B", "1A 2", "99999999999999999999A0", "1a2", "1-A0"] {
        assert_eq!(head_of(odd.as_bytes()), Err(NOT_AN_ANSWER), "{odd:?}");
    }
}

#[test]
fn a_step_is_packed_as_the_script_unpacks_it() {
    let span = |window: Window, rebases| Span { end: window.end(NOON), rebases };
    let [minute, day] = Window::ALL.map(|window| span(window, 4));
    let rebased = Span { rebases: 5, ..day };
    let ten = Stops::new(Some(10), Thresholds::default());
    let mut ladders = [Ladder::same(ten); METERS];
    ladders[1] =
        Ladder { from: Stops::new(None, Thresholds::NONE), start: [0, 0, 2, 3, 4], to: ten };
    let counts =
        [Amount::Requests, Amount::Tokens, Amount::Requests, Amount::OutputTokens, Amount::Nothing];
    let step = Step {
        generations: [7, 8],
        guards: [Guard::Roll(minute.end), Guard::Same(day, rebased)],
        start: [11, 12, 13, 14, 15],
        has_windows: true,
        counts,
        ladders: None,
    };
    let block = |mode: u8, meters: u8, window: Window, spans: [Span; 2]| {
        let mut bytes = vec![mode, meters];
        for span in spans {
            push_end(&mut bytes, window, span.end);
            bytes.push(span.rebases);
        }
        bytes
    };
    let none = Span { end: Timestamp::START_OF_1970, rebases: 0 };
    let stamps = [STAMP, Stamp([9; 8])];
    let prefixes = |windows: &[u8]| {
        let prefix = |(stamp, generation): (&Stamp, u8)| {
            let size = 12 + windows.len() as u8;
            [&[size], &stamp.0[..], &[generation, 0, 0, 0], windows].concat()
        };
        stamps.iter().zip([7, 8]).flat_map(prefix).collect::<Vec<u8>>()
    };
    // The amounts that each call takes from the meters that are counted.
    let take =
        |meter: usize| Take { least: if meter == 0 { ANY } else { 1 }, less: -(meter as i64) };
    let until = Window::Day.end(Timestamp::MAX);
    let packed_with = |step: &Step| {
        let call = [std::array::from_fn(take)].into_iter().collect();
        let steps = [step.clone()].into_iter().collect();
        let calls = [call].into_iter().collect();
        let operation = Operation { from: NOON, until, steps, calls };
        let counted = Counted { guards: 3, puts: 4, drops: 70_000, ledger: 3 };
        packed(&operation, stamps, u64::MAX, counted)
    };
    let numbers = [1, 0, 1, 0, 3, 0, 4, 0, 0xff, 0xff, 3];
    let head = [&ints::<7>(&[NOON.unix_ms(), until.unix_ms(), 1 << 54])[..], &numbers].concat();
    let takes = ints::<7>(&[ANY, 0, 1, -1, 1, -2, 1, -3]);

    // Windows and meters that are stored, meters afterwards, blocks, meters of no window; then whether the record has another
    // shape afterwards, whether starts follow, the kind of stops, and the numbers of each meter among them.
    let roll = block(2, 2, Window::Minute, [Span { rebases: 0, ..minute }, none]);
    let same = block(1, 2, Window::Day, [day, rebased]);
    let moved_windows = [ints::<7>(&[11, 12, 13, 14]), roll, same].concat();
    let without_stops = [vec![2, 4, 4, 2, 0, 0, 1, 0, 1], moved_windows.clone()].concat();
    assert_eq!(
        packed_with(&step),
        [head.clone(), prefixes(&[]), without_stops, takes.clone()].concat()
    );

    // Stops by mark, and at last the cap: those after, those before, and where to start. Of 10, 3 are beyond 80 %, and 1 beyond
    // the limit.
    let with_stops = Step { ladders: Some(ladders), ..step.clone() };
    let stops = |floors: [i64; 2], cap: i64| ints::<7>(&[floors[0], floors[1], cap]);
    let (of_ten, of_none) = (stops([3, 1], 10), stops([0, 0], MAX_COUNT.cast_signed()));
    let after = of_ten.repeat(4);
    let before = [of_ten.clone(), of_none, of_ten.clone(), of_ten.clone()].concat();
    let starts = vec![0, 1, 0, 0, 0, 1, 0, 1];
    let moved = [vec![2, 4, 4, 2, 0, 0, 1, 2, 3], moved_windows, after, before, starts].concat();
    assert_eq!(
        packed_with(&with_stops),
        [head.clone(), prefixes(&[]), moved, takes.clone()].concat()
    );

    // Windows that are only compared belong to what the record begins with.
    let as_seen = Step { guards: [Guard::Same(minute, minute), Guard::Same(day, day)], ..step };
    let mut windows = Vec::new();
    for (window, span) in [(Window::Minute, minute), (Window::Day, day)] {
        push_end(&mut windows, window, span.end);
        windows.push(span.rebases);
    }
    let seen = vec![0, 4, 4, 0, 0, 0, 0, 0, 1];
    assert_eq!(packed_with(&as_seen), [head.clone(), prefixes(&windows), seen, takes].concat());

    // A global record that counts credits alone: a meter of no window.
    let credits_alone = Step {
        guards: [Guard::Keep; 2],
        has_windows: false,
        counts: [
            Amount::Nothing,
            Amount::Nothing,
            Amount::Nothing,
            Amount::Nothing,
            Amount::Credits,
        ],
        ..with_stops
    };
    let alone = [vec![0, 1, 1, 0, 1, 0, 0, 1, 3], of_ten].concat();
    let takes = ints::<7>(&[1, -4]);
    assert_eq!(packed_with(&credits_alone), [head, prefixes(&[]), alone, takes].concat());
}

/// They were once of an older layout, and no target got past the first record.
#[test]
fn what_fuzzing_begins_with_makes_sense() {
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
    #[test]
    fn numbers_of_seven_bytes_are_read_as_they_were_written(number in -(1_i64 << 55)..1 << 55) {
        let bytes = ints::<7>(&[number]);
        prop_assert_eq!(Reader::new(&bytes).int::<7>(), Ok(number));
    }

    #[test]
    fn limits_are_read_as_they_were_written(limit in prop::option::of(0..=MAX_COUNT)) {
        let mut bytes = Vec::new();
        push_limit(&mut bytes, limit);
        prop_assert_eq!(Reader::new(&bytes).limit(), Ok(limit));
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
    fn no_changed_bytes_make_the_reading_panic(
        changes in vec((any::<Index>(), any::<u8>()), 0..6),
        rest in vec(any::<u8>(), 0..50),
    ) {
        for (reads, mut bytes) in inputs() {
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.extend(&rest);
            reads(&bytes);
        }
    }
}

/// For each entry point of fuzzing, bytes that make sense to it.
fn inputs() -> Vec<(Reads, Vec<u8>)> {
    let framed = |chunk: Vec<u8>| [vec![chunk.len() as u8], chunk].concat();
    let all = |chunks: Vec<Vec<u8>>| chunks.into_iter().map(framed).collect::<Vec<_>>().concat();
    let fields = || vec![hot(), hot_asset(), cold(0), cold_asset()];
    let numbers = |numbers: &[i64]| ints::<8>(numbers);
    let state = [all(fields()), numbers(&[1, 1, 1, 1, NOON.unix_ms()])].concat();
    // A charge of a little; the state shows the order of fields.
    let at_hand = [all(fields()), numbers(&[1, 1, 1, 1, 1, 0, 0, 1])].concat();
    let text = |text: &str| all([vec![text.as_bytes().to_vec()], fields()].concat());
    let replies =
        [(0, "1760011200AA0"), (1, "1760011200S0"), (3, "1760011200A0"), (4, "1760011200N0")];
    let replies =
        replies.map(|(shape, of_text)| [vec![shape, 2], text(of_text), at_hand.clone()].concat());
    let end = [
        &ints::<7>(&[NOON.unix_ms()])[..],
        &ended(&reserved(), ReservationEnd::Cancelled, [1; 16]),
    ];
    let remembered =
        [(entry(), "1760011200001"), (end.concat(), "1760011200000")].map(|(entry, score)| {
            [all(vec![entry, score.as_bytes().to_vec()]), at_hand.clone()].concat()
        });
    let [hot, hot_asset, cold, cold_asset] = [hot(), hot_asset(), cold(0), cold_asset()];
    let hash = |fields: &[(&str, Vec<u8>)]| {
        all(fields
            .iter()
            .flat_map(|(field, value)| [field.as_bytes().to_vec(), value.clone()])
            .collect())
    };
    let texts =
        ["id", "workspace", "name", "digest", "masked"].map(|field| (field, b"ci".to_vec()));
    let mut texts = [&texts[..], &[("format", b"1".to_vec()), ("version", b"3".to_vec())]].concat();
    (texts[3].1, texts[4].1) = Default::default();
    let record = [
        vec![2, 2, 7],
        hash(&[("g", hot), ("am1", hot_asset)]),
        hash(&[("g", cold), ("am1", cold_asset)]),
        hash(&texts),
    ];
    let mut inputs: Vec<(Reads, Vec<u8>)> =
        vec![(fuzzing::state, state), (fuzzing::record, record.concat())];
    inputs.extend(replies.map(|reply| (fuzzing::reply as Reads, reply)));
    inputs.extend(remembered.map(|bytes| (fuzzing::remembered as Reads, bytes)));
    inputs
}

#[test]
fn what_the_changed_bytes_begin_with_makes_sense() {
    for (number, (reads, bytes)) in inputs().into_iter().enumerate() {
        assert!(reads(&bytes), "{number}");
    }
}

fn bulk(text: &[u8]) -> Value {
    Value::BulkString(text.to_vec())
}

fn charge(input: u64, output: u64, credits: u64) -> Charge {
    let charge = Charge::request().with_tokens(input, output).unwrap();
    charge.with_credits(Credits::from_millionths(credits).unwrap())
}

fn reserved() -> Reservation {
    Reservation::from_parts(Some(m1()), charge(2, 3, 4), charge(5, 6, 7), admitted(), None)
}

fn admitted() -> AdmittingWindows {
    let ids = |generation, [minute, day]: [u8; 2]| {
        let id = |window: Window, rebases| {
            Some(WindowId { generation, span: Span { end: window.end(NOON), rebases } })
        };
        [id(Window::Minute, minute), id(Window::Day, day)]
    };
    AdmittingWindows { global: ids(1, [0, 1]), asset: ids(2, [2, 3]) }
}

fn after_noon() -> Timestamp {
    Timestamp::from_unix_ms(NOON.unix_ms() + 1)
}

fn m1() -> AssetId {
    "m1".parse().unwrap()
}

const STAMP: Stamp = Stamp([1, 2, 3, 4, 5, 6, 7, 8]);
const MOST: i64 = MAX_COUNT.cast_signed();
