//! One random operation on random stored records.

use limiter_core::operation::{Guard, Operation, Step, Takes};
use limiter_core::{
    ANY, Amount, Ladder, MAX_COUNT, METERS, Record, STOPS, Span, Stops, Take, Thresholds,
    Timestamp, TokenType, WINDOWS, Window, WindowLimits,
};
use limiter_redis::fuzzing::scripts;

use super::ledger::Ledger;
use super::random::Random;

/// The tokens that minute and day count.
pub(crate) type Types = [TokenType; WINDOWS];

/// The script that does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Take,
    Apply,
}

/// An operation, and the stored data before it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) script: Script,
    pub(crate) now: Timestamp,
    /// The global record, then that of an asset.
    pub(crate) records: Vec<Stored>,
    /// Whether there is a text instead of a hash of records.
    pub(crate) other_type: bool,
    pub(crate) operation: Operation,
    /// The stamp that must be there, and the next.
    pub(crate) stamps: [[u8; 8]; 2],
    pub(crate) extras: Extras,
}

/// A record of the case.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// A record of the shape before, with generation and windows as the operation believes.
    pub(crate) believed: Record,
    /// A record of the shape afterwards.
    pub(crate) after: Record,
    /// The bytes before any damage.
    pub(crate) whole: Vec<u8>,
    /// The stored bytes, if there is a field.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Other data that is compared and stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    pub(crate) not_after: u64,
    /// The value of the only field of a third hash.
    pub(crate) field: Option<Vec<u8>>,
    /// The required value of that field; empty for no field.
    pub(crate) guard: Option<Vec<u8>>,
    pub(crate) put: Option<Vec<u8>>,
    pub(crate) drop: Option<Dropped>,
    pub(crate) ledger: Option<Ledger>,
}

/// The part of the third hash that is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    Field,
    Whole,
}

impl Case {
    /// A random one for a script, at this time, of records of which the windows count these types of tokens.
    pub(crate) fn random(
        script: Script,
        now: Timestamp,
        types: [Types; 2],
        random: &mut Random,
    ) -> Self {
        let calls = match random.below(10) {
            0 if script == Script::Apply => 0,
            0..=6 => 1,
            _ => random.between(2, 4) as usize,
        };
        let ladders = random.percent(if script == Script::Apply { 60 } else { 30 });
        let count = match random.below(20) {
            0 if script == Script::Apply => 0,
            1..=8 => 1,
            _ => 2,
        };
        let stamp = |random: &mut Random| [random.below(256) as u8; 8];
        let stored = stamp(random);
        let seen = if random.percent(95) { stored } else { stamp(random) };
        let next = if script == Script::Take { seen } else { stamp(random) };
        let made: Vec<_> = (0..count)
            .map(|number| {
                let scope = Scope { global: number == 0, types: types[number] };
                record(script, scope, now, stored, ladders, calls, random)
            })
            .collect();
        let steps: Vec<Step> = made.iter().map(|(_, step)| step.clone()).collect();
        let calls = (0..calls).map(|_| {
            let by_amount = [(); 6].map(|()| take(false, random));
            let of_step = |step: &Step| -> Takes {
                std::array::from_fn(|meter| match script {
                    // Without stops, it compares each amount of a call once.
                    Script::Take if step.ladders.is_none() => {
                        by_amount[step.counts[meter] as usize]
                    }
                    _ => take(step.ladders.is_some(), random),
                })
            };
            steps.iter().map(of_step).collect()
        });
        let calls = calls.collect();
        let (from, until) = interval(now, random);
        let operation = Operation { from, until, steps: steps.into_iter().collect(), calls };
        let records = made.into_iter().map(|(record, _)| record).collect();
        let other_type = count > 0 && random.percent(1);
        let stamps = [seen, next];
        let mut case =
            Self { script, now, records, other_type, operation, stamps, extras: Extras::default() };
        if script == Script::Apply {
            case.extras = case.some_extras(random);
        } else if random.percent(25) {
            case.extras.ledger = Some(Ledger::random(now, random));
        }
        case
    }

    fn some_extras(&self, random: &mut Random) -> Extras {
        let mut extras = Extras::default();
        match random.below(10) {
            0 => {
                extras.not_after = random.one_of(&[0, 0, 1, u64::MAX]);
                let text = |random: &mut Random| random.one_of(&["", "1", "2"]).as_bytes().to_vec();
                extras.field = random.percent(70).then(|| text(random));
                extras.guard = random.percent(50).then(|| text(random));
                extras.put = random.percent(50).then(|| text(random));
                extras.drop = random.one_of(&[None, Some(Dropped::Field), Some(Dropped::Whole)]);
            }
            1 | 2 => extras.ledger = Some(Ledger::random(self.now, random)),
            _ => {}
        }
        extras
    }

    /// Whether anything stored is not as it was written.
    pub(crate) fn is_damaged(&self) -> bool {
        let damaged = |record: &Stored| record.bytes.as_ref() != Some(&record.whole);
        self.other_type || self.records.iter().any(damaged)
    }
}

/// Some types, so that the records of a batch have few shapes.
pub(crate) fn some_types(random: &mut Random) -> [Types; 2] {
    let all = [TokenType::Total, TokenType::Output, TokenType::Input];
    [(); 2].map(|()| [(); WINDOWS].map(|()| random.one_of(&all)))
}

/// Whether it is the global record, and which tokens it counts.
#[derive(Clone, Copy)]
struct Scope {
    global: bool,
    types: Types,
}

/// A record, and the step and takes for it.
fn record(
    script: Script,
    Scope { global, types }: Scope,
    now: Timestamp,
    stamp: [u8; 8],
    ladders: bool,
    calls: usize,
    random: &mut Random,
) -> (Stored, Step) {
    let counted = template(Some(types), global);
    let uncounted = template(None, global);
    let has_windows = !global || random.percent(80);
    let before = if has_windows { counted } else { uncounted };
    let spans = Window::ALL.map(|window| span(window, now, random));
    let number = |random: &mut Random| random.one_of(&[0, 1, 1, 1, 2, u32::MAX]);
    let generation = number(random);
    let seen = if random.percent(97) { generation } else { number(random) };
    let mut generations = [seen; 2];
    let mut after = before;
    let mut guards = [Guard::Keep; WINDOWS];
    if !has_windows && script == Script::Apply && random.percent(40) {
        guards = Window::ALL.map(|window| Guard::Begin(span(window, now, random)));
        (generations[1], after) = (number(random), counted);
    } else if has_windows && global && script == Script::Apply && random.percent(8) {
        guards = [0, 1].map(|at| Guard::End(near(spans[at], Window::ALL[at], now, random)));
        (generations[1], after) = (0, uncounted);
    } else if has_windows {
        guards = [0, 1].map(|at| guard(script, spans[at], Window::ALL[at], now, random));
        if script == Script::Apply && random.percent(10) {
            generations[1] = number(random);
        }
    }
    let counts = *after.counts();
    let ladder = |random: &mut Random| match script {
        // It only knows stops that stay as they are.
        Script::Take => Ladder::same(stops(random)),
        Script::Apply => ladder(calls, random),
    };
    let ladders: Option<[Ladder; METERS]> = ladders.then(|| [(); METERS].map(|()| ladder(random)));
    let (mut values, mut marks, mut start) = ([0; METERS], [0; METERS], [0; METERS]);
    for meter in 0..METERS {
        marks[meter] = random.one_of(&[0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 255]);
        let from = ladders.as_ref().map(|ladders| ladders[meter].from);
        values[meter] = value(from, marks[meter], random);
        start[meter] = value(from, 0, random);
    }
    let whole = scripts::write(stamp, &before.with_unchecked(generation, spans, values, marks));
    let bytes = damaged(&whole, random);
    let believed_spans = [0, 1].map(|at| match guards[at] {
        Guard::Same(seen, _) => seen,
        _ => spans[at],
    });
    let believed = before.with_unchecked(seen, believed_spans, [0; METERS], [0; METERS]);
    let step = Step { generations, guards, start, has_windows, counts, ladders };
    (Stored { believed, after, whole, bytes }, step)
}

/// A record of a shape: its numbers are of no importance.
fn template(types: Option<Types>, credits: bool) -> Record {
    let limits =
        |token_type| WindowLimits::from_parts(Some(1), Some(1), token_type).expect("within bounds");
    Record::with_limits(
        Thresholds::NONE,
        types.map(|types| types.map(limits)),
        credits.then_some(None),
    )
}

/// Around now, or at an end of time.
fn span(window: Window, now: Timestamp, random: &mut Random) -> Span {
    let length = window.end(Timestamp::START_OF_1970).unix_ms();
    let windows = random.one_of(&[-2, -1, 0, 0, 0, 0, 0, 1, 2]);
    let about = Timestamp::from_unix_ms(now.unix_ms() + windows * length);
    let at = match random.below(40) {
        0 => Timestamp::MIN,
        1 => Timestamp::MAX,
        _ => about,
    };
    Span { end: window.end(at), rebases: random.one_of(&[0, 0, 0, 1, 255]) }
}

/// The same window in most cases.
fn near(stored: Span, window: Window, now: Timestamp, random: &mut Random) -> Span {
    match random.below(40) {
        0 => span(window, now, random),
        1 => Span { rebases: stored.rebases.wrapping_add(1), ..stored },
        _ => stored,
    }
}

fn guard(
    script: Script,
    stored: Span,
    window: Window,
    now: Timestamp,
    random: &mut Random,
) -> Guard {
    let seen = near(stored, window, now, random);
    match random.below(10) {
        0..=3 => Guard::Same(seen, seen),
        4..=6 => Guard::Roll(if random.percent(80) { window.end(now) } else { seen.end }),
        _ if script == Script::Take => Guard::Same(seen, seen),
        7 => Guard::Same(seen, span(window, now, random)),
        8 => Guard::Anew(seen, span(window, now, random)),
        _ => Guard::Keep,
    }
}

fn ladder(calls: usize, random: &mut Random) -> Ladder {
    let from = stops(random);
    let mut ladder = Ladder::same(from);
    // Limits change with one call at most.
    if calls < 2 && random.percent(30) {
        ladder.to = stops(random);
    }
    if random.percent(30) {
        ladder.start = [(); STOPS].map(|()| random.one_of(&[0, 1, 2, 3, 4, 4, 200]));
    }
    ladder
}

fn stops(random: &mut Random) -> Stops {
    let limit = match random.below(10) {
        0 => None,
        1 => Some(random.between(MAX_COUNT - 5, MAX_COUNT)),
        2..=5 => Some(random.below(30)),
        _ => Some(random.below(1_000)),
    };
    let percents = match random.below(4) {
        0 => vec![],
        1 => vec![80, 100],
        _ => (0..random.between(1, 4)).map(|_| random.between(1, 100) as u8).collect(),
    };
    Stops::new(limit, Thresholds::new(percents).expect("few of them, within bounds"))
}

/// A stored value of a meter with these stops: often near a stop, else anything.
fn value(stops: Option<Stops>, mark: u8, random: &mut Random) -> i64 {
    let Some(stops) = stops else {
        return match random.below(40) {
            0..=9 => random.below(20) as i64,
            10 => random.between(0, 10) as i64 - 5,
            11..=13 => MOST - random.below(5) as i64,
            14 => random.below(5) as i64 - MOST,
            _ => random.below(2_000) as i64,
        };
    };
    let floor = stops.floors().get(usize::from(mark)).copied().unwrap_or(0);
    let used = match random.below(40) {
        0..=4 => 0,
        5 => random.between(MAX_COUNT - 5, MAX_COUNT) as i64,
        6..=30 => random.below(30) as i64,
        _ => random.below(1_100) as i64,
    };
    stops.cap() - used - floor
}

/// With stops a take may be anything; without, it takes nothing that it has not compared. Most are small, so that all of a
/// call fit now and then.
fn take(stops: bool, random: &mut Random) -> Take {
    let small = random.between(1, 12) as i64;
    let less = match random.below(100) {
        0 => random.between(MAX_COUNT - 5, MAX_COUNT) as i64,
        1 if stops => random.below(5) as i64 - MOST,
        2..=15 if stops => -small,
        16..=40 => 0,
        _ => small,
    };
    let any = stops || less == 0;
    let least = match random.below(100) {
        0..=49 if any => ANY,
        50..=59 if any => random.below(4) as i64 - 1,
        60 if stops => MOST,
        61..=65 => less.max(random.below(10) as i64),
        _ => less,
    };
    Take { least, less }
}

/// Most contain now; some begin or end with it.
fn interval(now: Timestamp, random: &mut Random) -> (Timestamp, Timestamp) {
    let by = |ms| Timestamp::from_unix_ms(now.unix_ms().saturating_add(ms));
    let last = Window::Day.end(Timestamp::MAX);
    let from = match random.below(40) {
        0 => by(1),
        1 => by(0),
        2 => by(-(random.below(2_000) as i64)),
        3 => by(60_000),
        _ => Timestamp::MIN,
    };
    let until = match random.below(40) {
        0 => by(0),
        1 => by(1),
        2 => by(random.below(2_000) as i64),
        3 => by(-60_000),
        4..=20 => Window::Minute.end(now),
        _ => last,
    };
    (from, until)
}

/// The stored part of these bytes: in most cases all of them.
fn damaged(whole: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut bytes = whole.to_vec();
    match random.below(100) {
        0 => return None,
        1 => bytes.truncate(random.index(whole.len())),
        2 => bytes.extend((0..random.between(1, 9)).map(|_| random.below(256) as u8)),
        3..=6 => {
            let at = random.index(whole.len());
            bytes[at] ^= 1 << random.below(8);
        }
        7 | 8 => {
            let at = random.index(whole.len());
            bytes[at] = random.one_of(&[0, 1, 0x7f, 0x80, 0xff]);
        }
        9 => bytes = (0..whole.len()).map(|_| random.below(256) as u8).collect(),
        _ => {}
    }
    Some(bytes)
}

/// Times of which any window, and any sign, is some.
pub(crate) fn some_time(random: &mut Random) -> Timestamp {
    let unix_ms = match random.below(20) {
        0 => 0,
        1 => -1,
        2 => random.below(200_000_000) as i64 - 100_000_000,
        3 => MOST - random.below(100_000_000) as i64,
        4 => random.below(100_000_000) as i64 - MOST,
        5 | 6 => MIDNIGHT_MS + random.below(3) as i64 - 1,
        _ => MIDNIGHT_MS + random.below(86_400_000) as i64,
    };
    Timestamp::from_unix_ms(unix_ms)
}

/// The amounts that the meters of a record count, in their order.
pub(crate) fn counted(record: &Record) -> Vec<usize> {
    (0..METERS).filter(|meter| record.counts()[*meter] != Amount::Nothing).collect()
}

pub(crate) const MOST: i64 = MAX_COUNT.cast_signed();
/// The beginning of some day in October 2025.
const MIDNIGHT_MS: i64 = 20_370 * 86_400_000;
