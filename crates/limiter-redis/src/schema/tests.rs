//! The layout of what is stored, byte by byte, and bytes that are none of it.

use limiter_conformance::fixtures::NOON;
use limiter_core::operation::{CellStep, Guard, Operation, Origin, Step, WindowStep};
use limiter_core::{
    ANY, Admission, AdmittedScope, Charge, Credits, DayHistory, KeyConfig, KeyId, KeyKind, Ladder,
    LevelSet, Limits, MAX_COUNT, Pending, Reservation, ReservationEnd, Scope, ScopeState, Since,
    Slots, Span, Stops, Take, Thresholds, TimeZone, Unit, Window, prepare,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use redis::Value;

use super::bytes::Reader;
use super::hot::push_span;
use super::*;
use crate::answer::Answer;
use crate::fuzzing;

/// An entry point of fuzzing: whether the bytes made sense.
type Reads = fn(&[u8]) -> bool;

/// A key with limits over all calls, for `m1` and for other assets, of which nothing is used.
fn key(kind: KeyKind) -> KeyState {
    let limits = |builder: limiter_core::LimitsBuilder| builder.build().unwrap();
    let global = Limits::builder().requests_per_minute(5).output_tokens_per_day(7);
    let config = KeyConfig::named("ci")
        .unwrap()
        .with_global(limits(global))
        .with_asset(m1(), limits(Limits::builder().input_tokens_per_minute(3)))
        .with_other(limits(Limits::builder().tokens_per_week(9)))
        .with_budget(Credits::from_millionths(50).unwrap());
    KeyState::new(kind, &config, Thresholds::DEFAULT, NOON)
}

fn ints<const N: usize>(numbers: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    numbers.iter().for_each(|number| push_int::<N>(&mut bytes, *number));
    bytes
}

/// The windows of noon, each rebased that often.
fn windows<const N: usize>(windows: [(Window, u8); N]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (window, rebases) in windows {
        push_span(&mut bytes, span(window, rebases));
    }
    bytes
}

fn span(window: Window, rebases: u8) -> Span {
    Span { end: window.end(NOON, &TimeZone::UTC), rebases }
}

/// Of 5 requests 2 are beyond the first stop, at 80 %; of 7 tokens 2, of 50 credits 11. Between them is the account.
fn hot() -> Vec<u8> {
    let windows = windows([(Window::Minute, 0), (Window::Day, 0)]);
    let values = ints::<7>(&[5 - 2, MOST, MOST, MOST, MOST, 7 - 2, 50 - 11]);
    [STAMP.0.to_vec(), vec![1, 0, 0, 0], windows, vec![0; 7], values].concat()
}

fn hot_asset() -> Vec<u8> {
    let windows = windows([(Window::Minute, 0), (Window::Day, 0)]);
    let values = ints::<7>(&[3 - 1, MOST, MOST, MOST, MOST]);
    [vec![2, 0, 0, 0], windows, vec![0; 5], values].concat()
}

fn hot_other() -> Vec<u8> {
    let windows = windows([(Window::Day, 0), (Window::Week, 0)]);
    let values = ints::<7>(&[MOST, MOST, MOST, MOST, 9 - 2]);
    [vec![3, 0, 0, 0], windows, vec![0; 5], values].concat()
}

/// Limits by window and unit, with none pending, none changed at once.
fn limits(listed: u8, limits: &[(u8, i64)]) -> Vec<u8> {
    let mut bytes = vec![listed, limits.len() as u8];
    for (code, amount) in limits {
        bytes.push(*code);
        bytes.extend(ints::<7>(&[*amount]));
    }
    bytes.extend([0; 6]);
    bytes
}

fn cold(kind: u8) -> Vec<u8> {
    let mut bytes = vec![1, kind, 0];
    bytes.extend(ints::<7>(&[1 << 54]));
    bytes.extend([80, 100, 0, 0, 3, 0, 0, 0, 3]);
    bytes.extend(b"UTC");
    // Eight codes a window: requests of the first, output tokens of the third, credits of the last.
    bytes.extend(limits(1, &[(0, 5), (2 * 8 + 3, 7), (5 * 8 + 4, 50)]));
    bytes
}

fn cold_asset() -> Vec<u8> {
    limits(1, &[(2, 3)])
}

fn cold_other() -> Vec<u8> {
    limits(0, &[(3 * 8 + 1, 9)])
}

/// A call of 1 request for `m1`, with tokens and credits, that was reserved before the first rebase, and amended to 5 requests.
/// Its key has a group, the first level.
fn entry() -> Vec<u8> {
    let numbers = [1, 2, 3, 4, 5, 6, 7, 8];
    let admitted = [
        vec![3],
        vec![0, 0b10_0101, 0, 0, 0, 0],
        vec![4, 0b10_0101, 0, 0, 0, 0],
        vec![4 + 1, 0b101, 9, 0, 0, 0],
        vec![7, 0, 0, 0],
        windows([(Window::Minute, 4), (Window::Day, 5)]),
        vec![1, 0, 0, 0],
        windows([(Window::Minute, 0), (Window::Day, 1)]),
        vec![2, 0, 0, 0],
        windows([(Window::Minute, 2), (Window::Day, 3)]),
    ];
    let (until, spared) = (ints::<7>(&[NOON.unix_ms() + 1]), vec![0]);
    // Of all calls of the group, and of the asset of the key.
    let slots = vec![0b10_0001, 0];
    [until, spared, vec![0], ints::<7>(&numbers), slots, admitted.concat(), b"am1".to_vec()]
        .concat()
}

/// A key and its group, as they were read: the two are alike.
fn two_levels() -> KnownLevels {
    let known = || Arc::new(read(&fields(0)).unwrap());
    KnownLevels::new(vec![known(), known()])
}

/// The hot and the cold field of a key, those of its asset, and those of other assets.
fn fields(kind: u8) -> [Vec<u8>; 6] {
    [hot(), cold(kind), hot_asset(), cold_asset(), hot_other(), cold_other()]
}

fn read(fields: &[Vec<u8>; 6]) -> Result<Known, Misread> {
    let [hot, cold, hot_asset, cold_asset, hot_other, cold_other] = fields.each_ref();
    read_state(hot, cold, [(m1(), &hot_asset[..], &cold_asset[..])], Some((hot_other, cold_other)))
}

#[test]
fn a_key_is_written_and_read_by_its_layout() {
    for (kind, code) in [(KeyKind::Member, 0), (KeyKind::Admin, 1), (KeyKind::Group, 1 << 4)] {
        let state = key(kind);
        let written = state.every_scope().map(|(id, scope)| {
            let (is_global, record) = (id == ScopeId::GLOBAL, scope.record());
            Layout::of(is_global, record).write(STAMP, &record.stored())
        });
        assert_eq!(written.collect::<Vec<_>>(), [hot(), hot_asset(), hot_other()]);
        let (_, listed, asset) = state.assets().next().unwrap();
        assert_eq!(write_global(&state), cold(code));
        assert_eq!(write_asset(asset, listed, None), cold_asset());
        assert_eq!(write_asset(state.other().unwrap(), false, None), cold_other());
        let known = read(&fields(code)).unwrap();
        assert_eq!((known.stamp, known.state), (STAMP, state));
    }
}

#[test]
fn settings_are_read_as_they_were_written() {
    let state = |change: fn(KeyConfig) -> KeyConfig| {
        let config = change(KeyConfig::named("ci").unwrap());
        KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, NOON)
    };
    for state in [
        state(|config| config.with_shadow(true)),
        state(|config| config.with_other(limiter_core::Other::Denied)),
        state(|config| config.with_thresholds(Thresholds::new([1, 2, 3, 4]).unwrap())),
        state(|config| config.with_thresholds(Thresholds::NONE)),
        state(|config| config.with_expiry(Timestamp::START_OF_1970)),
        state(|config| config.with_asset(m1(), Limits::NONE)),
    ] {
        let hot = |(id, scope): (ScopeId, &ScopeState)| {
            Layout::of(id == ScopeId::GLOBAL, scope.record()).write(STAMP, &scope.record().stored())
        };
        let hot: Vec<_> = state.every_scope().map(hot).collect();
        let assets: Vec<_> =
            state.assets().map(|(_, listed, scope)| write_asset(scope, listed, None)).collect();
        let assets = hot[1..].iter().zip(&assets).map(|(hot, cold)| (m1(), &hot[..], &cold[..]));
        let known = read_state(&hot[0], &write_global(&state), assets, None).unwrap();
        assert_eq!(known.state, state);
    }
}

/// Hashes of values up to 64 bytes are compact by default; of longer ones a server keeps a table. Most keys limit little.
#[test]
fn records_have_the_sizes_that_their_layouts_say() {
    let state = key(KeyKind::Member);
    let layouts = state.every_scope().map(|(id, scope)| {
        let layout = Layout::of(id == ScopeId::GLOBAL, scope.record());
        [layout.prefix(), layout.identity(), layout.size()]
    });
    assert_eq!(layouts.collect::<Vec<_>>(), [[12, 26, 82], [4, 18, 58], [4, 18, 58]]);
    assert_eq!([hot().len(), hot_asset().len(), hot_other().len()], [82, 58, 58]);
    let nothing =
        KeyState::new(KeyKind::Member, &KeyConfig::named("ci").unwrap(), Thresholds::DEFAULT, NOON);
    assert_eq!(Layout::of(true, nothing.global().record()).size(), 59);
}

#[test]
fn pending_limits_of_each_window_are_read_as_they_were_written() {
    let state = key(KeyKind::Member);
    let (id, _, asset) = state.assets().next().unwrap();
    let choices = |window| {
        let limits =
            |unit, amount| Some(Limits::builder().limit(window, unit, amount).build().unwrap());
        [None, Some(Limits::NONE), limits(Unit::Requests, 1), limits(Unit::Credits, MAX_COUNT)]
    };
    for (minute, day) in choices(Window::Minute)
        .into_iter()
        .flat_map(|minute| choices(Window::Day).map(|day| (minute.clone(), day)))
    {
        let windows = [(Window::Minute, minute), (Window::Day, day)];
        let pending: Pending =
            windows.into_iter().filter_map(|(window, limits)| Some((window, limits?))).collect();
        let since: Since = [(Window::Minute, Unit::InputTokens, 7)].into_iter().collect();
        let scope = ScopeState::from_parts(asset.record().clone(), pending, u32::MAX, since);
        let mut fields = fields(0);
        fields[3] = write_asset(&scope, true, None);
        let known = read(&fields).unwrap();
        assert_eq!(known.state.assets().next().unwrap(), (id, true, &scope));
    }
}

/// A window whose first limits are pending is counted, and has no cell yet.
#[test]
fn a_window_that_will_have_limits_is_read_as_it_was_written() {
    let hourly = Limits::builder().requests_per_hour(1).build().unwrap();
    let pending: Pending = [(Window::Hour, hourly.clone())].into_iter().collect();
    let state = key(KeyKind::Member);
    let (_, _, asset) = state.assets().next().unwrap();
    let scope = ScopeState::from_parts(asset.record().clone(), pending, 0, Since::new());
    let mut fields = fields(0);
    fields[2].splice(11..11, windows([(Window::Hour, 5)]));
    fields[3] = write_asset(&scope, true, None);
    let known = read(&fields).unwrap();
    let (_, _, read) = known.state.assets().next().unwrap();
    assert_eq!(read.pending(Window::Hour), Some(&hourly));
    assert_eq!(read.record().span(Window::Hour), span(Window::Hour, 5));
}

/// Each changes some bytes of one field, and what is read of it then.
#[test]
fn bytes_that_no_version_writes_are_no_key() {
    let too_much = [0, 0, 0, 0, 0, 0, 0x20];
    let unaligned = ints::<6>(&[NOON.unix_ms() / 1_000 + 61]);
    let damages: [(&str, usize, usize, &[u8]); 30] = [
        ("no format", 1, 0, &[0]),
        ("a setting that does not exist", 1, 2, &[1 << 1]),
        ("an admin and a group", 1, 1, &[1 | 1 << 4]),
        ("an expiry out of bounds", 1, 3, &[1, 0, 0, 0, 0, 0, 0x40]),
        ("a threshold above 100 %", 1, 11, &[101]),
        ("thresholds that fall", 1, 10, &[100, 80]),
        ("a threshold after none", 1, 12, &[0, 90]),
        ("a time zone that does not exist", 1, 19, b"XYZ"),
        ("a time zone that is no text", 1, 19, &[0xff]),
        ("a time zone of another length", 1, 18, &[2]),
        ("neither listed nor not", 1, 22, &[4]),
        ("more limits than there are", 1, 23, &[4]),
        ("less limits than there are", 1, 23, &[2]),
        ("a limit of no window", 1, 24, &[6 * 8]),
        ("a limit of no unit", 1, 24, &[5]),
        ("the same limit twice", 1, 32, &[0]),
        ("limits that are out of order", 1, 24, &[5 * 8]),
        ("a limit out of bounds", 1, 25, &too_much),
        ("a negative limit", 1, 25, &[0xff; 7]),
        ("a budget out of bounds", 1, 41, &too_much),
        ("pending limits of no window", 1, 48, &[1, 6]),
        ("pending limits for ever", 1, 48, &[1, 5]),
        ("a window that does not exist", 0, 12, &unaligned),
        ("more thresholds fired than there are", 0, 26, &[3]),
        ("more left than the limit", 0, 33, &[4]),
        ("more used than can be counted", 0, 33, &[0, 0, 0, 0, 0, 0, 0x80]),
        ("more left of an account than can be counted", 0, 40, &too_much),
        ("more used of an account than can be counted", 0, 40, &[0xff; 7]),
        ("an asset that is neither listed nor not", 3, 0, &[2]),
        ("a limit of an asset out of bounds", 3, 3, &too_much),
    ];
    for (what, field, at, bytes) in damages {
        let mut fields = fields(0);
        fields[field][at..at + bytes.len()].copy_from_slice(bytes);
        assert_is!(read(&fields), Err(Misread::Corrupt(_)), "{what}");
    }
}

/// Both say so in the field of all calls: a group with what plan it is open, and an unregistered key its plan.
#[test]
fn open_groups_and_unregistered_keys_are_read_as_they_were_written() {
    let limits = Limits::builder().requests_per_minute(5).build().unwrap();
    let plan = limiter_core::Plan::default().with_global(limits.clone());
    let update = limiter_core::PlanUpdate::new("free".parse().unwrap(), plan);
    let plan = StoredPlan::updated(None, &"w".parse().unwrap(), &update, NOON);
    let config = KeyConfig::named("ip").unwrap().with_global(limits);
    let config = config.with_open("free".parse().unwrap());
    let group = KeyState::new(KeyKind::Group, &config, Thresholds::DEFAULT, NOON);
    let key = KeyState::unregistered(&plan, NOON);
    for state in [group, key] {
        let record = state.global().record();
        let hot = Layout::of(true, record).write(STAMP, &record.stored());
        let known = read_state(&hot, &write_global(&state), [], None).unwrap();
        assert_eq!(known.state.opens(), state.opens());
        assert_eq!(known.state, state);
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
    for field in 0..6 {
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

    let (known, key) = (two_levels(), in_group());
    let (estimate, asset) = (charge([1, 2, 3, 4]), m1());
    let of = Subject { key: &key, asset: Some(&asset) };
    let prepared = prepare::check(&known.met(of), &[estimate], true, NOON);
    let scopes_at = 1 + 8 * 7;
    let slots = Slots::NONE.with(0, Scope::Global).with(3, Scope::Other);
    let before = before_windows(&estimate, slots, &prepared, &known);
    assert_eq!(before[..1 + 4 * 7], stored[REMEMBERED..REMEMBERED + 1 + 4 * 7]);
    assert_eq!(before[1 + 4 * 7..scopes_at], stored[9..9 + 4 * 7], "the same as estimated");
    // Of each level the global scope and that of the asset. No change of limits had taken effect at once.
    let scopes = [(0, 0b10_0101), (1, 0b101), (4, 0b10_0101), (5, 0b101)];
    let scopes = scopes.map(|(scope, windows)| [scope, windows, 0, 0, 0, 0]).concat();
    assert_eq!(before[scopes_at..], [vec![1, 0b100_0000, 4], scopes].concat());
    assert_eq!(after_windows(Some(&asset)), b"am1");
    assert_eq!(after_windows(None), b"");

    for more in [[5, 6, 7, 9], [0, 0, 0, 0]].map(charge) {
        let amended = amended(&stored, &reservation, &more);
        assert_eq!(amended.len(), stored.len() - REMEMBERED);
        let read = read_entry(&[&stored[..REMEMBERED], &amended].concat()).unwrap().reservation;
        let expected =
            Reservation::from_parts(Some(m1()), charge([1, 2, 3, 4]), more, admitted(), None);
        assert_eq!(read, expected.with_slots(reservation.slots()));
    }
}

/// It was not charged there, so that nothing is handed back; and an amendment does not change that.
#[test]
fn a_level_that_a_reservation_was_not_charged_to_is_none_that_admitted_it() {
    let admitted_by = |spared: &[usize]| {
        let mut stored = entry();
        stored[7] = LevelSet::from_iter(spared.iter().copied()).bits();
        let reservation = read_entry(&stored).unwrap().reservation;
        let amended = amended(&stored, &reservation, &charge([0; 4]));
        let read = read_entry(&[&stored[..REMEMBERED], &amended].concat()).unwrap().reservation;
        assert_eq!(read.admission(), reservation.admission());
        let scopes = reservation.admission().scopes().iter();
        let scopes = scopes.map(|scope| (scope.level, scope.scope)).collect::<Vec<_>>();
        (scopes, read.slots().iter().collect::<Vec<_>>())
    };
    let (group, key, asset) = ((0, Scope::Global), (1, Scope::Global), (1, Scope::Asset));
    assert_eq!(admitted_by(&[]), (vec![group, key, asset], vec![group, asset]));
    assert_eq!(admitted_by(&[0]), (vec![key, asset], vec![asset]));
    assert_eq!(admitted_by(&[1]), (vec![group], vec![group]));
    assert_eq!(admitted_by(&[0, 1]), (vec![], vec![]));
    assert_eq!(admitted_by(&[2, 3]), (vec![group, key, asset], vec![group, asset]));
}

#[test]
fn an_ended_reservation_is_written_and_read_by_its_layout() {
    for end in [ReservationEnd::Settled(charge([9, 10, 11, 12])), ReservationEnd::Cancelled] {
        let token = *b"sixteen letters.";
        let written =
            [&ints::<7>(&[after_noon().unix_ms()])[..], &[0], &ended(&reserved(), end, token)]
                .concat();
        let (state, actual) = match end {
            ReservationEnd::Settled(_) => (1, [9, 10, 11, 12]),
            ReservationEnd::Cancelled => (2, [0; 4]),
        };
        let numbers = [&[1, 2, 3, 4, 5, 6, 7, 8], &actual[..]].concat();
        let expected = [&[state], &ints::<7>(&numbers)[..], &token, b"am1"].concat();
        assert_eq!(written[REMEMBERED..], expected);
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
    let damages: [(&str, usize, &[u8]); 11] = [
        ("a time out of bounds", 0, &[0, 0, 0, 0, 0, 0, 0x20]),
        ("no end", 8, &[3]),
        ("negative requests", 9, &[0xff; 7]),
        ("negative tokens", 16, &[0xff; 7]),
        ("more tokens than can be counted", 16, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f]),
        ("credits out of bounds", 30, &[0, 0, 0, 0, 0, 0, 0x20]),
        ("a slot of no scope", 65, &[0b1000]),
        ("a slot of no scope of the fourth level", 66, &[0b1000_0000]),
        ("a scope that does not exist", 68, &[3]),
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
    assert_eq!(head_of(b"1760011200Ab1999"), Ok((after_noon(), &b"Ab"[..])));
    for odd in ["", "A", "1A", "A1", "1A2B", "1A 2", "99999999999999999999A0", "1-A0"] {
        assert_eq!(head_of(odd.as_bytes()), Err(NOT_AN_ANSWER), "{odd:?}");
    }
}

#[test]
fn a_step_is_packed_as_the_script_unpacks_it() {
    let [minute, day] = [span(Window::Minute, 4), span(Window::Day, 4)];
    let rebased = Span { rebases: 5, ..day };
    let ten = Stops::new(Some(10), Thresholds::DEFAULT);
    let cell = |unit, origin| CellStep { unit, origin, ladder: Ladder::same(ten) };
    let window = |window, guard, before: usize| WindowStep {
        window,
        guard,
        before,
        cells: (0..before).map(|at| cell(Unit::Requests, Origin::Kept(at))).collect(),
    };
    let step = |windows: [WindowStep; 3], stops| Step {
        level: 0,
        generation: 7,
        windows: windows.into_iter().collect(),
        stops,
    };
    let block = |mode: u8, ends: u8, is_day: u8, cells: [u8; 2], spans: &[Span]| {
        let mut bytes = vec![mode, ends, is_day, cells[0], cells[1]];
        spans.iter().for_each(|span| push_span(&mut bytes, *span));
        bytes
    };
    let none = Span { end: Timestamp::START_OF_1970, rebases: 0 };
    let prefixes = |windows: &[u8]| {
        let prefix = |stamp: [u8; 8]| {
            let size = 12 + windows.len() as u8;
            [&[size], &stamp[..], &[7, 0, 0, 0], windows].concat()
        };
        [prefix(STAMP.0), prefix([9; 8])].concat()
    };
    // The amounts that each call takes from the cells that are counted.
    let take = |at: usize| Take { least: if at == 0 { ANY } else { 1 }, less: -(at as i64) };
    let until = Window::Day.end(Timestamp::MAX, &TimeZone::UTC);
    let packed_with = |step: &Step| {
        let call = [step.cells().enumerate().map(|(at, _)| take(at)).collect()];
        let steps = [step.clone()].into_iter().collect();
        let calls = [call.into_iter().collect()].into_iter().collect();
        let operation = Operation { from: NOON, until, steps, soft: LevelSet::ALL, calls };
        let history = Some((6, NOON));
        let (drops, lives, begins) = (70_000, 5, 1);
        let counted =
            Counted { shown: 2, guards: 3, puts: 4, drops, lives, begins, ledger: 3, history };
        packed(&operation, &[[STAMP, Stamp([9; 8])]], u64::MAX, counted)
    };
    let numbers = [1, 0, 2, 0, 1, 0, 3, 0, 4, 0, 0xff, 0xff, 3, 6];
    let head = [
        &ints::<7>(&[NOON.unix_ms(), until.unix_ms(), 1 << 54])[..],
        &numbers,
        &ints::<6>(&[NOON.unix_ms() / 1_000]),
        // One level, all that are soft, the level that begins, the keys that live on, and the records of that level.
        &[1, 0xff, 1, 5, 1, 0],
    ]
    .concat();
    let takes = ints::<7>(&[ANY, 0, 1, -1, 1, -2, 1, -3]);
    let starts = ints::<7>(&[7; 4]);

    // Windows that are compared, cells before and afterwards, blocks; then whether the record has another shape afterwards,
    // whether starts follow, the kind of stops, and the numbers of each cell among them.
    let moved = [
        window(Window::Minute, Guard::Roll(minute.end), 1),
        window(Window::Day, Guard::Same(day, rebased), 2),
        window(Window::Ever, Guard::Keep, 1),
    ];
    let blocks = [
        block(2, 1, 0, [1, 1], &[Span { rebases: 0, ..minute }, none]),
        block(1, 1, 1, [2, 2], &[day, rebased]),
        block(0, 0, 0, [1, 1], &[]),
    ]
    .concat();
    let without_stops = [vec![2, 4, 4, 3, 0, 1, 0, 1], starts.clone(), blocks.clone()].concat();
    assert_eq!(
        packed_with(&step(moved.clone(), false)),
        [head.clone(), prefixes(&[]), without_stops, takes.clone()].concat()
    );

    // Stops by mark, and at last the cap: those after, those before, and where to start. Of 10, 3 are beyond 80 %, and 1 beyond
    // the limit.
    let stops = |floors: [i64; 2], cap: i64| ints::<7>(&[floors[0], floors[1], cap]);
    let (of_ten, of_none) = (stops([3, 1], 10), stops([0, 0], MOST));
    let mut with_stops = moved.clone();
    with_stops[1].cells[0].ladder =
        Ladder { from: Stops::new(None, Thresholds::NONE), start: [0, 0, 2, 3, 4], to: ten };
    let after = of_ten.repeat(4);
    let before = [of_ten.clone(), of_none, of_ten.repeat(2)].concat();
    let marks = vec![0, 1, 0, 0, 0, 1, 0, 1];
    // A cell that starts is full by the stops before: the call then takes the difference.
    let starts_before = ints::<7>(&[7, MOST, 7, 7]);
    let with_ladders =
        [vec![2, 4, 4, 3, 0, 1, 2, 3], starts_before, after, before, marks, blocks].concat();
    assert_eq!(
        packed_with(&step(with_stops, true)),
        [head.clone(), prefixes(&[]), with_ladders, takes.clone()].concat()
    );

    // Windows that are only compared belong to what the record begins with.
    let as_seen = [
        window(Window::Minute, Guard::Same(minute, minute), 1),
        window(Window::Day, Guard::Same(day, day), 2),
        window(Window::Ever, Guard::Keep, 1),
    ];
    let windows = windows([(Window::Minute, 4), (Window::Day, 4)]);
    let seen = vec![0, 4, 4, 0, 0, 0, 0, 1];
    assert_eq!(
        packed_with(&step(as_seen.clone(), false)),
        [head.clone(), prefixes(&windows), seen, takes.clone()].concat()
    );

    // Cells of another shape afterwards: each says where it comes from.
    let mut reshaped = as_seen;
    reshaped[0].guard = Guard::End(minute);
    reshaped[0].cells.clear();
    reshaped[1].cells = [Origin::Kept(1), Origin::Started, Origin::Account { first: 0, count: 2 }]
        .map(|origin| cell(Unit::Requests, origin))
        .into_iter()
        .collect();
    let blocks = [
        block(5, 1, 0, [1, 0], &[minute, none]),
        block(1, 1, 1, [2, 3], &[day, day]),
        vec![1, 255, 254, 0, 2],
        block(0, 0, 0, [1, 1], &[]),
        vec![0],
    ]
    .concat();
    let other_shape = [vec![2, 4, 4, 3, 1, 1, 0, 1], starts, blocks].concat();
    assert_eq!(
        packed_with(&step(reshaped, false)),
        [head, prefixes(&[]), other_shape, takes].concat()
    );
}

/// The first record of each level is the global one, which begins with a stamp.
#[test]
fn each_level_is_packed_with_its_records_and_its_stamps() {
    let step = |level, generation| {
        let windows = Default::default();
        Step { level, generation, windows, stops: false }
    };
    let steps = [step(0, 1), step(1, 2), step(1, 3), step(2, 4)].into_iter().collect();
    let soft = LevelSet::from_iter([1]);
    let until = Timestamp::MAX;
    let operation = Operation { from: NOON, until, steps, soft, calls: Default::default() };
    let stamps = [1, 3, 5].map(|number| [number, number + 1].map(|byte| Stamp([byte; 8])));
    let bytes = packed(&operation, &stamps, 0, Counted::default());
    let times = 3 * 7;
    let records = [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(bytes[times..times + 12], records, "all records");
    let levels_at = times + 12 + 2 + 6;
    let levels = [3, 0b10, 0, 0, 1, 0, 2, 0, 1, 0];
    assert_eq!(bytes[levels_at..levels_at + 10], levels, "those of each level");
    let prefix = |stamp: &[u8], generation: u8| {
        let prefix = [stamp, &[generation, 0, 0, 0]].concat();
        [vec![prefix.len() as u8], prefix].concat()
    };
    let packed = |stamps: Option<[u8; 2]>, generation| {
        let prefixes = match stamps {
            Some(stamps) => stamps.map(|stamp| prefix(&[stamp; 8], generation)).concat(),
            None => [prefix(&[], generation), prefix(&[], generation)].concat(),
        };
        [prefixes, vec![0, 0, 0, 0, 0, 0, 0, 1]].concat()
    };
    let steps = [
        packed(Some([1, 2]), 1),
        packed(Some([3, 4]), 2),
        packed(None, 3),
        packed(Some([5, 6]), 4),
    ];
    assert_eq!(bytes[levels_at + 10..], steps.concat());
}

/// An answer of `apply`, of a head and of no entry, with these parts.
fn answer(head: &[u8], parts: &[Option<Vec<u8>>]) -> Value {
    let parts = parts.iter().map(|part| part.as_deref().map_or(Value::Nil, bulk));
    Value::Array([bulk(head), Value::Nil, Value::Nil].into_iter().chain(parts).collect())
}

#[test]
fn the_levels_are_read_from_what_an_answer_shows_of_each() {
    let (key, asset) = (in_group(), m1());
    let [hot, cold, hot_asset, cold_asset, hot_other, cold_other] = fields(1 << 4);
    let group = [hot, hot_asset, hot_other, cold, cold_asset, cold_other].map(Some);
    let [hot, cold, ..] = fields(0);
    let own = [Some(hot), None, None, Some(cold), None, None];
    let found = |group: &[Option<Vec<u8>>], own: &[Option<Vec<u8>>]| {
        let of = Subject { key: &key, asset: Some(&asset) };
        let reply = answer(b"1760011200S0", &[group, own].concat());
        Answer::of_apply(&reply).unwrap().found(of)
    };
    let known = found(&group, &own).unwrap().unwrap();
    let kinds: Vec<_> = known.iter().map(|known| known.state.kind()).collect();
    assert_eq!(kinds, [KeyKind::Group, KeyKind::Member]);
    let assets: Vec<_> = known.iter().map(|known| known.state.assets().count()).collect();
    assert_eq!(assets, [1, 0]);

    assert_is!(found(&group, &[const { None }; 6]), Ok(None), "no such key");
    assert_is!(found(&[const { None }; 6], &[const { None }; 6]), Ok(None), "no such key");
    assert_is!(found(&[const { None }; 6], &own), Err(Misread::Corrupt(_)), "its group is gone");
    for field in 0..6 {
        for by in [None, Some(vec![0])] {
            let mut damaged = group.clone();
            damaged[field] = by;
            assert_is!(found(&damaged, &own), Err(Misread::Corrupt(_)), "{field}");
        }
    }
}

#[test]
fn the_records_of_an_answer_are_those_of_their_levels() {
    let known = two_levels();
    let places: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|level| [Place::Global, Place::Asset(0)].map(|place| LevelPlace { level, place }))
        .collect();
    // One request less is left of the group, one input token less of the asset of the key.
    let [mut group, mut of_asset] = [hot(), hot_asset()];
    group[33] -= 1;
    of_asset[23] -= 1;
    let records = [group.clone(), hot_asset(), hot(), of_asset].map(Some);
    let reply = answer(b"1760011200b0", &records);
    let read = Answer::of_apply(&reply).unwrap();
    assert_eq!(read.applied(0), Some(LevelSet::from_iter([0])));
    let before = read.before(&known, &places).unwrap();
    let left = |at: &LevelPlace| {
        let record = before.scope_at(*at).unwrap().record().stored();
        record.windows[0].cells[0].value
    };
    assert_eq!(places.iter().map(left).collect::<Vec<_>>(), [5 - 2 - 1, 3 - 1, 5 - 2, 3 - 1 - 1]);

    for record in 0..4 {
        let mut damaged = records.clone();
        damaged[record].as_mut().unwrap().pop();
        let reply = answer(b"1760011200A0", &damaged);
        let before = Answer::of_apply(&reply).unwrap().before(&known, &places);
        assert_is!(before, Err(Misread::Corrupt(_)), "{record}");
    }
    // With another stamp, these are not the limits of the group.
    group[0] += 1;
    let reply =
        answer(b"1760011200A0", &[Some(group), records[1].clone(), Some(hot()), Some(hot_asset())]);
    assert_is!(Answer::of_apply(&reply).unwrap().before(&known, &places), Err(NOT_AN_ANSWER));
}

#[test]
fn a_letter_says_in_which_levels_a_call_did_not_fit() {
    let reply = answer(b"1760011200AbRp0", &[]);
    let answer = Answer::of_apply(&reply).unwrap();
    let applied = [0, 1, 2, 3, 4].map(|call| answer.applied(call).map(LevelSet::bits));
    assert_eq!(applied, [Some(0), Some(1), None, Some(15), None]);
    for odd in ["a", "q", "B"] {
        let reply = self::answer(format!("1760011200{odd}0").as_bytes(), &[]);
        assert_is!(Answer::of_apply(&reply), Err(NOT_AN_ANSWER), "{odd}");
    }
}

#[test]
fn an_answer_tells_how_many_slots_are_held_and_when_one_is_free() {
    let open = |told: &str| {
        let reply = Value::Array(vec![bulk(b"1760011200R0"), Value::Nil, bulk(told.as_bytes())]);
        Answer::of_apply(&reply).map(|answer| answer.open)
    };
    assert_eq!(open(""), Ok(vec![]));
    let told = open(";2,;3,1760011200001");
    assert_eq!(told, Ok(vec![(2, None), (3, Some(after_noon()))]));
    for odd in [";", ";2", ";x,", ";2,x", ";2,1.5", ";-1,"] {
        assert!(open(odd).is_err(), "{odd}");
    }
}

/// With it alone, other assets have no field of their own.
#[test]
fn parallel_limits_are_written_and_read_again() {
    let known = read(&fields(0)).unwrap();
    let (of_asset, scopes) = (ScopeId::asset(m1()), [ScopeId::GLOBAL, ScopeId::OTHER]);
    let limits = scopes.into_iter().chain([of_asset.clone()]).zip([0, 7, MAX_COUNT]);
    let state = known.state.clone().with_parallel_limits(limits.clone());
    let mut fields = fields(0);
    fields[1] = write_global(&state);
    let (_, listed, scope) = state.assets().next().unwrap();
    fields[3] = write_asset(scope, listed, state.parallel_limit(&of_asset));
    assert_eq!(read(&fields).unwrap().state, state);
    assert_eq!(fields[1].len() - write_global(&known.state).len(), 14, "two more numbers");
    let mut damaged = fields.clone();
    damaged[1].truncate(30);
    assert!(read(&damaged).is_err());
    damaged[3][0] = 4;
    assert!(read(&damaged).is_err());
}

fn closed(account: [i64; 4], field: &[u8]) -> Vec<u8> {
    let span = windows([(Window::Day, 2)]);
    [span, vec![1, 0, 0, 0], ints::<7>(&account), field.to_vec()].concat()
}

fn closed_at(members: &[Vec<u8>]) -> Value {
    Value::Array(members.iter().flat_map(|member| [bulk(member), bulk(b"1760054400")]).collect())
}

#[test]
fn closed_days_are_read_by_their_layout() {
    let members = [
        closed([MOST - 1, MOST - 2, MOST - 3, MOST - 4], b"g"),
        closed([MOST, 0, MOST, MOST], b"am1"),
        closed([MOST - 1, MOST, MOST, MOST], b"o"),
    ];
    let days = closed_days(&closed_at(&members)).unwrap();
    let scopes: Vec<_> = days.iter().map(|day| day.scope.clone()).collect();
    assert_eq!(scopes, [ScopeId::GLOBAL, ScopeId::asset(m1()), ScopeId::OTHER]);
    assert!(days.iter().all(|day| day.span == span(Window::Day, 2)), "{days:?}");
    assert_eq!(days[0].account, charge([1, 2, 3, 4]));
    assert_eq!(days[1].account.input_tokens(), MAX_COUNT);
    // Two parts of a day are one row, and so is what is counted live.
    let known = read(&fields(0)).unwrap();
    let twice = [&members[..], &members[..1]].concat();
    let history = DayHistory::of(&known.state, closed_days(&closed_at(&twice)).unwrap(), 1, NOON);
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!(history[0].scopes[0].account, charge([2, 4, 6, 8]));
}

#[test]
fn bytes_that_no_version_writes_are_no_closed_day() {
    let whole = closed([MOST; 4], b"am1");
    let refused = |member: &[u8]| {
        assert_is!(closed_days(&closed_at(&[member.to_vec()])), Err(Misread::Corrupt(_)));
    };
    (0..whole.len() - 2).for_each(|at| refused(&whole[..at]));
    refused(&closed([MOST + 1, MOST, MOST, MOST], b"g"));
    refused(&closed([MOST, MOST, MOST, -1], b"g"));
    refused(&closed([MOST; 4], b"global"));
    refused(&closed([MOST; 4], b"a\xff"));
    assert_eq!(closed_days(&Value::Nil).unwrap_err(), Misread::WrongType);
    assert_eq!(closed_days(&Value::Array(vec![Value::Nil; 2])).unwrap_err(), NOT_AN_ANSWER);
}

/// They were once of an older layout, and no target got past the first record.
#[test]
fn what_fuzzing_begins_with_makes_sense() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
    let targets: [(&str, Reads); 5] = [
        ("reply", fuzzing::reply),
        ("remembered", fuzzing::remembered),
        ("record", fuzzing::record),
        ("state", fuzzing::state),
        ("days", fuzzing::days),
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
    fn limits_are_read_as_they_were_written(
        limits in vec((0..6_usize, 0..5_usize, 0..=MAX_COUNT), 0..=12),
    ) {
        let limits = limits.into_iter().fold(Limits::builder(), |builder, (window, unit, amount)| {
            builder.limit(Window::ALL[window], Unit::ALL[unit], amount)
        });
        let config = KeyConfig::named("ci").unwrap().with_global(limits.build().unwrap());
        let state = KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, NOON);
        let record = state.global().record();
        let hot = Layout::of(true, record).write(STAMP, &record.stored());
        let known = read_state(&hot, &write_global(&state), [], None);
        prop_assert_eq!(known.unwrap().state, state);
    }

    #[test]
    fn no_bytes_make_the_reading_panic(bytes in vec(any::<u8>(), 0..300)) {
        fuzzing::reply(&bytes);
        fuzzing::record(&bytes);
        fuzzing::state(&bytes);
        fuzzing::remembered(&bytes);
        fuzzing::days(&bytes);
    }

    /// Most of them still parse, unlike random ones.
    #[test]
    fn no_changed_bytes_make_the_reading_panic(
        changes in vec((any::<Index>(), any::<u8>()), 0..6),
        rest in vec(any::<u8>(), 0..50),
    ) {
        for (_, reads, mut bytes) in inputs() {
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            bytes.extend(&rest);
            reads(&bytes);
        }
    }
}

/// For each entry point of fuzzing by its name, bytes that make sense to it.
fn inputs() -> Vec<(&'static str, Reads, Vec<u8>)> {
    let framed = |chunk: Vec<u8>| [vec![chunk.len() as u8], chunk].concat();
    let all = |chunks: Vec<Vec<u8>>| chunks.into_iter().map(framed).collect::<Vec<_>>().concat();
    let fields = || vec![hot(), hot_asset(), hot_other(), cold(0), cold_asset(), cold_other()];
    let numbers = |numbers: &[i64]| ints::<8>(numbers);
    let state = [all(fields()), numbers(&[1, 1, 1, 1, NOON.unix_ms()])].concat();
    // A charge of a little; the state shows the order of fields.
    let at_hand = [all(fields()), numbers(&[1, 1, 1, 1, 1, 0, 0, 1])].concat();
    // Two calls of a key without a group, or, from 128 on, with one.
    let replies = [
        (0, 2, "1760011200AA0"),
        (1, 2, "1760011200S0"),
        (3, 2, "1760011200A0"),
        (4, 2, "1760011200N0"),
        (0, 132, "1760011200AR0"),
        (1, 132, "1760011200S0"),
        (4, 132, "1760011200bA0"),
    ];
    let replies = replies.map(|(shape, head, text)| {
        let levels = if head < 128 { 1 } else { 2 };
        let shown = [&[text.as_bytes().to_vec()][..], &vec![fields(); 2 * levels].concat()];
        [vec![shape, head], all(shown.concat()), numbers(&[1, 1, 1, 1, 1, 0, 0, 1])].concat()
    });
    let end = [
        &ints::<7>(&[NOON.unix_ms()])[..],
        &[0],
        &ended(&reserved(), ReservationEnd::Cancelled, [1; 16]),
    ];
    let remembered =
        [(entry(), "1760011200001"), (end.concat(), "1760011200000")].map(|(entry, score)| {
            [all(vec![entry, score.as_bytes().to_vec()]), at_hand.clone()].concat()
        });
    let members = vec![closed([MOST - 1; 4], b"g"), closed([MOST - 2; 4], b"o")];
    let days = [vec![2], all([members, fields()].concat()), numbers(&[NOON.unix_ms()])].concat();
    let hash = |fields: &[(&str, Vec<u8>)]| {
        all(fields
            .iter()
            .flat_map(|(field, value)| [field.as_bytes().to_vec(), value.clone()])
            .collect())
    };
    let texts =
        ["id", "workspace", "name", "digest", "masked"].map(|field| (field, b"ci".to_vec()));
    let numbers = ["format", "version", "created", "changed"].map(|field| (field, b"1".to_vec()));
    let mut texts = [&texts[..], &numbers].concat();
    (texts[3].1, texts[4].1) = Default::default();
    let record = [
        vec![3, 3, 9],
        hash(&[("g", hot()), ("am1", hot_asset()), ("o", hot_other())]),
        hash(&[("g", cold(0)), ("am1", cold_asset()), ("o", cold_other())]),
        hash(&texts),
    ];
    let mut inputs: Vec<(_, Reads, Vec<u8>)> = vec![
        ("state", fuzzing::state, state),
        ("record", fuzzing::record, record.concat()),
        ("days", fuzzing::days, days),
    ];
    inputs.extend(replies.map(|reply| ("reply", fuzzing::reply as Reads, reply)));
    inputs.extend(remembered.map(|bytes| ("remembered", fuzzing::remembered as Reads, bytes)));
    inputs
}

#[test]
fn what_the_changed_bytes_begin_with_makes_sense() {
    for (number, (target, reads, bytes)) in inputs().into_iter().enumerate() {
        assert!(reads(&bytes), "{number}: {target}");
    }
}

fn bulk(text: &[u8]) -> Value {
    Value::BulkString(text.to_vec())
}

fn charge([requests, input, output, credits]: [u64; 4]) -> Charge {
    let charge = Charge::request().with_requests(requests).unwrap();
    let charge = charge.with_tokens(input, output).unwrap();
    charge.with_credits(Credits::from_millionths(credits).unwrap())
}

fn reserved() -> Reservation {
    let (reserved, estimate) = (charge([1, 2, 3, 4]), charge([5, 6, 7, 8]));
    let reservation = Reservation::from_parts(Some(m1()), reserved, estimate, admitted(), None);
    reservation.with_slots(Slots::NONE.with(0, Scope::Global).with(1, Scope::Asset))
}

fn admitted() -> Admission {
    let scope = |level, scope, generation, changes, windows: &[(Window, Span)]| AdmittedScope {
        level,
        scope,
        generation,
        changes,
        windows: windows.iter().copied().collect(),
    };
    let spans = |rebases: [u8; 2]| {
        [
            (Window::Minute, span(Window::Minute, rebases[0])),
            (Window::Day, span(Window::Day, rebases[1])),
        ]
    };
    let ever = |rebases| [&spans(rebases)[..], &[(Window::Ever, Span::EVER)]].concat();
    Admission::new([
        scope(0, Scope::Global, 7, 0, &ever([4, 5])),
        scope(1, Scope::Global, 1, 0, &ever([0, 1])),
        scope(1, Scope::Asset, 2, 9, &spans([2, 3])),
    ])
}

fn after_noon() -> Timestamp {
    Timestamp::from_unix_ms(NOON.unix_ms() + 1)
}

fn in_group() -> KeyId {
    "g/k".parse().unwrap()
}

fn m1() -> AssetId {
    "m1".parse().unwrap()
}

const STAMP: Stamp = Stamp([1, 2, 3, 4, 5, 6, 7, 8]);
const MOST: i64 = MAX_COUNT.cast_signed();
