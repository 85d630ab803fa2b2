//! One random operation on random stored records.

use limiter_core::operation::{CellStep, Guard, Operation, Origin, Step, WindowStep};
use limiter_core::{
    ACCOUNT, ANY, Cell, KeyId, Ladder, LevelSet, Limit, Limits, MAX_COUNT, Record, STOPS, Span,
    Stops, Take, Thresholds, TimeZone, Timestamp, Unit, Window,
};
use limiter_redis::fuzzing::scripts::{self, TakeShape};

use super::ledger::Ledger;
use super::random::Random;

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
    /// The outermost first.
    pub(crate) levels: Vec<Level>,
    /// Of each level the global record, then those of an asset and of other assets.
    pub(crate) records: Vec<StoredRecord>,
    pub(crate) operation: Operation,
    pub(crate) extras: Extras,
}

/// A level of the case.
#[derive(Clone, Debug)]
pub(crate) struct Level {
    /// Whether there is a text instead of a hash of records.
    pub(crate) other_type: bool,
    /// The stamp that must be there, and the next.
    pub(crate) stamps: [[u8; 8]; 2],
    /// The limits in the fields of the records.
    pub(crate) cold: [Option<Vec<u8>>; FIELDS.len()],
    /// The days that were closed before: their ends in seconds.
    pub(crate) closed: Vec<i64>,
}

/// A record of the case.
#[derive(Clone, Debug)]
pub(crate) struct StoredRecord {
    pub(crate) level: usize,
    /// The place of its field in [`FIELDS`].
    pub(crate) field: usize,
    /// A record of the shape before, with generation and windows as the operation believes.
    pub(crate) believed: Record,
    /// The bytes before any damage.
    pub(crate) whole: Vec<u8>,
    /// The stored bytes, if there is a field; or those that come along.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Other data that is compared and stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    pub(crate) not_after: u64,
    /// The fields that `apply` shows of each level if nothing was compared.
    pub(crate) shown: Vec<usize>,
    /// The value of the only field of a hash more.
    pub(crate) field: Option<Vec<u8>>,
    /// The required value of that field; empty for no field.
    pub(crate) guard: Option<Vec<u8>>,
    /// Whether that hash must not be there.
    pub(crate) is_absent: bool,
    pub(crate) put: Option<Vec<u8>>,
    pub(crate) drop: Option<Dropped>,
    /// The level that begins with the operation, so that its records come along and are not stored.
    pub(crate) begins: Option<usize>,
    pub(crate) ledger: Option<Ledger>,
    /// The end of the last day that is not kept, if closed days are.
    pub(crate) kept_after: Option<Timestamp>,
}

/// The part of a key that is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// The field of the hash more.
    Field,
    /// That hash.
    Whole,
    /// The last record.
    Record,
}

/// The limits of the records of a batch, so that these have few shapes.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// By level.
    records: Vec<[Shape; FIELDS.len()]>,
    /// The levels and fields of the records that `take` is about: few, and so are its scripts.
    met: Vec<Vec<(usize, usize)>>,
    /// The number of thresholds of each stop.
    thresholds: u64,
}

/// The windows and units of a record.
#[derive(Clone, Debug)]
struct Shape {
    limits: Limits,
    /// Windows that are counted because of pending limits.
    pending: Vec<Window>,
}

impl Family {
    /// The family of this number: of all the same, whatever the seed.
    pub(crate) fn numbered(number: u64) -> Self {
        let random = &mut Random::from_seed(number);
        let levels = random.one_of(&[1, 1, 1, 1, 2, 2, 2, 3, 3, KeyId::MAX_SEGMENTS]);
        // Many records of many limits have too many cells for `take`.
        let most: &[u64] = match levels {
            1 => &[0, 1, 2, 2, 3, 4, 6, Limits::MOST as u64],
            2 => &[0, 1, 2, 2, 3, 4],
            _ => &[0, 1, 1, 2],
        };
        Self::with(levels, most, random)
    }

    /// One whose records have up to as many limits as there may be.
    pub(crate) fn of_many_limits(levels: usize, random: &mut Random) -> Self {
        Self::with(levels, &[0, 1, 2, 2, 3, 4, 6, Limits::MOST as u64], random)
    }

    fn with(levels: usize, most: &[u64], random: &mut Random) -> Self {
        let records = (0..levels).map(|_| [(); FIELDS.len()].map(|()| Shape::random(most, random)));
        let records = records.collect();
        let thresholds = random.below(5);
        let mut met = vec![Vec::new(); 3];
        for (first, met) in met.iter_mut().enumerate() {
            for level in 0..levels {
                // Of one level each choice comes once.
                let choice = if level == 0 { first } else { random.index(3) };
                let fields = [&[0][..], &[0, 1], &[0, 2]][choice];
                met.extend(fields.iter().map(|field| (level, *field)));
            }
        }
        Self { records, met, thresholds }
    }

    /// The level and the field of each record of an operation.
    fn records(&self, script: Script, random: &mut Random) -> Vec<(usize, usize)> {
        if script == Script::Take {
            return random.one_of(&self.met);
        }
        let fields = |random: &mut Random| -> &[usize] {
            match random.below(20) {
                0..=7 => &[0],
                8..=13 => &[0, 1],
                14 => &[0, 1, 2],
                _ => &[0, 2],
            }
        };
        let levels = 0..self.records.len();
        let mut of_level = |level| fields(random).iter().map(move |field| (level, *field));
        levels.flat_map(|level| of_level(level).collect::<Vec<_>>()).collect()
    }
}

impl Shape {
    fn random(most: &[u64], random: &mut Random) -> Self {
        let most = random.one_of(most);
        let limit = |random: &mut Random| {
            let (window, unit) = (random.one_of(&Window::ALL), random.one_of(&Unit::ALL));
            Limit { window, unit, amount: 1 }
        };
        let limits = (0..most).map(|_| limit(random)).collect();
        let pending = (0..random.one_of(&[0, 0, 0, 1, 2])).map(|_| random.one_of(&Window::ENDING));
        Self { limits, pending: pending.collect() }
    }

    /// A record of this shape: its numbers are of no importance.
    fn record(&self, global: bool) -> Record {
        let pending = self.pending.iter().copied();
        Record::of_limits(global, &self.limits, pending, Thresholds::NONE)
    }
}

impl Case {
    /// A random one for a script, at this time, of records of a family.
    pub(crate) fn random(
        script: Script,
        now: Timestamp,
        family: &Family,
        random: &mut Random,
    ) -> Self {
        let calls = match random.below(10) {
            0 if script == Script::Apply => 0,
            0..=6 => 1,
            _ => random.between(2, 4) as usize,
        };
        let stops = random.percent(if script == Script::Apply { 60 } else { 30 });
        let fields = match random.below(40) {
            0 if script == Script::Apply => Vec::new(),
            _ => family.records(script, random),
        };
        let now_s = now.unix_ms().div_euclid(1_000);
        let stamp = |random: &mut Random| [random.below(256) as u8; 8];
        let stored: Vec<_> = family.records.iter().map(|_| stamp(random)).collect();
        let levels = stored.iter().map(|stored| {
            let seen = if random.percent(96) { *stored } else { stamp(random) };
            let next = if script == Script::Take { seen } else { stamp(random) };
            let days = if script == Script::Take { 0 } else { random.below(3) };
            Level {
                other_type: random.below(150) == 0,
                stamps: [seen, next],
                cold: FIELDS
                    .map(|field| random.percent(70).then(|| [b"limits of ", field].concat())),
                closed: (0..days).map(|_| now_s - random.below(60) as i64 * 86_400).collect(),
            }
        });
        let levels: Vec<_> = levels.collect();
        let (stops, rolls) = (stops.then_some(family.thresholds), random.percent(65));
        let made: Vec<_> = fields
            .iter()
            .map(|(level, field)| {
                let (level, field) = (*level, *field);
                let of = Making { script, level, field, family, now, stops, rolls, calls };
                of.record(stored[level], random)
            })
            .collect();
        let steps: Vec<Step> = made.iter().map(|(_, step)| step.clone()).collect();
        // `take` refuses a call that does not fit in any level.
        let soft = match random.below(10) {
            0..=5 if script == Script::Apply => LevelSet::from_bits(random.below(16) as u8),
            6 if script == Script::Apply => LevelSet::ALL,
            _ => LevelSet::NONE,
        };
        let calls = (0..calls).map(|_| {
            // In some of the soft levels little is left for it.
            let short = LevelSet::from_bits(random.below(16) as u8 & random.below(16) as u8);
            let by_unit = Unit::ALL.map(|_| take(false, random));
            let of_cell = |cell: &CellStep, stops: bool, random: &mut Random| match script {
                // Without stops, it compares each amount of a call once.
                Script::Take if !stops => by_unit[cell.unit as usize],
                _ => take(stops, random),
            };
            let of_step = |step: &Step| {
                let is_short = soft.within(short).contains(step.level);
                let takes = step.cells().map(|cell| match of_cell(cell, step.stops, random) {
                    take if is_short && random.percent(50) => Take { least: MOST, ..take },
                    take => take,
                });
                takes.collect()
            };
            steps.iter().map(of_step).collect()
        });
        let calls = calls.collect();
        let (from, until) = interval(now, random);
        let steps = steps.into_iter().collect();
        let operation = Operation { from, until, steps, soft, calls };
        let records = made.into_iter().map(|(record, _)| record).collect();
        let extras = Extras::default();
        let mut case = Self { script, now, levels, records, operation, extras };
        if script == Script::Apply {
            case.extras = case.some_extras(random);
        } else if random.percent(25) {
            case.extras.ledger = Some(Ledger::random(now, random));
        }
        if case.extras.ledger.is_some() {
            // The entry says in which levels its one call did not fit.
            case.operation.calls.truncate(1);
        }
        // Beside the others, so that a seed has the cases that it had before.
        let random = &mut random.clone();
        if script == Script::Apply && random.percent(8) {
            case.begin(random.index(case.levels.len()));
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
                extras.is_absent = random.percent(20);
                extras.put = random.percent(50).then(|| text(random));
                let is_listed = !self.records.is_empty();
                extras.drop = random.one_of(&[
                    None,
                    Some(Dropped::Field),
                    Some(Dropped::Whole),
                    is_listed.then_some(Dropped::Record),
                ]);
            }
            1 | 2 => extras.ledger = Some(Ledger::random(self.now, random)),
            _ => {}
        }
        extras.shown = random.one_of(&[vec![], vec![0], vec![0, 1, 2], vec![0, 1, 2]]);
        extras.kept_after = random.percent(80).then(|| {
            let days = random.one_of(&[35, 1, 0]);
            let kept_after = self.now.unix_ms().saturating_sub(days * DAY_MS);
            Timestamp::from_unix_ms(kept_after.div_euclid(1_000) * 1_000)
        });
        extras
    }

    fn begin(&mut self, level: usize) {
        self.extras.begins = Some(level);
        for record in self.records.iter_mut().filter(|record| record.level == level) {
            record.bytes.get_or_insert_with(|| record.whole.clone());
        }
    }

    /// Whether this record is stored before the operation, not brought by it.
    pub(crate) fn stores(&self, record: &StoredRecord) -> bool {
        self.extras.begins != Some(record.level)
    }

    /// Whether anything stored is not as it was written.
    pub(crate) fn is_damaged(&self) -> bool {
        let damaged = |record: &StoredRecord| record.bytes.as_ref() != Some(&record.whole);
        self.levels.iter().any(|level| level.other_type) || self.records.iter().any(damaged)
    }

    /// The operation for `take`, if that script can do it, with a kind of ledger operation or 0.
    pub(crate) fn taken(&self) -> Option<(TakeShape, Vec<u8>)> {
        let kind = self.extras.ledger.as_ref().map_or(0, |ledger| ledger.kind);
        let stamps: Vec<_> = self.levels.iter().map(|level| level.stamps[0]).collect();
        let named = self.records.iter();
        let named = named.map(|stored| (stored.level, stored.is_global(), &stored.believed));
        scripts::take(&self.operation, &stamps, &named.collect::<Vec<_>>(), kind)
    }
}

impl StoredRecord {
    pub(crate) const fn is_global(&self) -> bool {
        self.field == 0
    }
}

/// A record under way.
struct Making<'a> {
    script: Script,
    level: usize,
    field: usize,
    family: &'a Family,
    now: Timestamp,
    /// The number of thresholds, if marks move.
    stops: Option<u64>,
    /// Whether `take` lets windows roll.
    rolls: bool,
    calls: usize,
}

impl Making<'_> {
    /// A number that is below a hundred as often as one of as many as the operation has levels: the more records, the rarer is
    /// each damage.
    fn percent(&self, random: &mut Random) -> u64 {
        random.below(100 * self.family.records.len() as u64)
    }
}

impl Making<'_> {
    /// A record, and the step for it.
    fn record(&self, stamp: [u8; 8], random: &mut Random) -> (StoredRecord, Step) {
        let global = self.field == 0;
        let before = self.family.records[self.level][self.field].record(global);
        let after = match self.script {
            Script::Apply if random.percent(30) => {
                Shape::random(&[0, 1, 2, 3, 6], random).record(global)
            }
            _ => before.clone(),
        };
        let number = |random: &mut Random| random.one_of(&[0, 1, 1, 1, 2, u32::MAX]);
        let generation = number(random);
        let seen = if self.percent(random) < 3 { number(random) } else { generation };
        let (mut stored, mut believed) = (before.stored(), before.stored());
        (stored.generation, believed.generation) = (generation, seen);
        let mut windows = Vec::new();
        for window in Window::ALL {
            let is_after = after.windows().any(|of| of == window);
            let at = stored.windows.iter().position(|of| of.window == window);
            if let Some(at) = at {
                stored.windows[at].span = span(window, self.now, random);
            }
            let span = at.map(|at| stored.windows[at].span);
            let guard = match span {
                Some(span) => self.guard(window, span, is_after, random),
                None if is_after => Guard::Begin(self::span(window, self.now, random)),
                None => continue,
            };
            if let (Some(at), Some(span)) = (at, span) {
                believed.windows[at].span = match guard {
                    Guard::Same(seen, _) | Guard::Anew(seen, _) | Guard::End(seen) => seen,
                    _ => span,
                };
            }
            let before = at.map_or(0, |at| stored.windows[at].cells.len());
            let counted: Vec<_> = after.counted_in(window).collect();
            let counted = if is_after { &counted[..] } else { &[] };
            let is_reshaped = self.script == Script::Apply && random.percent(15);
            let cells = counted.iter().enumerate().map(|(place, counted)| {
                let origin = match self.script {
                    Script::Apply if is_reshaped || before != counted_len(&after, window) => {
                        self.origin(before, at.is_some(), random)
                    }
                    _ => Origin::Kept(place),
                };
                let ladder = self.ladder(random);
                CellStep { unit: counted.unit, origin, ladder }
            });
            windows.push(WindowStep { window, guard, before, cells: cells.collect() });
        }
        for of in &mut stored.windows {
            let step = windows.iter().find(|step| step.window == of.window);
            for (place, cell) in of.cells.iter_mut().enumerate() {
                let kept = |it: &&CellStep| it.origin == Origin::Kept(place);
                let step = step.and_then(|step| step.cells.iter().find(kept));
                let from = step.filter(|_| self.stops.is_some()).map(|step| step.ladder.from);
                let mark = random.one_of(&[0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 255]);
                *cell = Cell { value: value(from, mark, random), mark };
            }
            if of.window == Window::Day && random.percent(60) {
                let used = random.one_of(&[0, 0, 1, 30]);
                for cell in &mut of.cells[..ACCOUNT.len()] {
                    let used = random.below(used + 1) as i64;
                    *cell = Cell { value: MOST - used, mark: 0 };
                }
            }
        }
        let whole = scripts::write(global, stamp, &stored);
        let bytes = damaged(&whole, self.percent(random), random);
        let believed = before.with_stored(&believed, &TimeZone::UTC).expect("windows that exist");
        let windows = windows.into_iter().collect();
        let (level, stops) = (self.level, self.stops.is_some());
        let step = Step { level, generation: seen, windows, stops };
        (StoredRecord { level, field: self.field, believed, whole, bytes }, step)
    }

    fn guard(&self, window: Window, stored: Span, is_after: bool, random: &mut Random) -> Guard {
        let seen = near(stored, window, self.now, self.percent(random), random);
        if !is_after {
            return Guard::End(seen);
        }
        if !window.ends() {
            return Guard::Keep;
        }
        // A day that ends is closed by `apply`.
        let rolls = self.script == Script::Apply || self.rolls && window != Window::Day;
        let end = window.end(self.now, &TimeZone::UTC);
        match random.below(10) {
            0..=3 => Guard::Same(seen, seen),
            4..=6 if rolls => Guard::Roll(if random.percent(80) { end } else { seen.end }),
            _ if self.script == Script::Take => Guard::Same(seen, seen),
            7 => Guard::Same(seen, span(window, self.now, random)),
            8 => Guard::Anew(seen, span(window, self.now, random)),
            _ => Guard::Same(seen, seen),
        }
    }

    /// Where a cell comes from in a record of another shape: often from the account.
    fn origin(&self, before: usize, goes_on: bool, random: &mut Random) -> Origin {
        let has_account = self.stops.is_some() && goes_on && before > 0;
        match random.below(10) {
            0..=4 if before > 0 => Origin::Kept(random.index(before)),
            5..=8 if has_account => {
                let first = random.index(before);
                let count = (random.between(1, 2) as usize).min(before - first);
                Origin::Account { first, count }
            }
            _ => Origin::Started,
        }
    }

    fn ladder(&self, random: &mut Random) -> Ladder {
        let from = stops(self.stops.unwrap_or(0), random);
        let mut ladder = Ladder::same(from);
        // `take` knows only stops that stay as they are; and limits change with one call at most.
        if self.script == Script::Apply {
            if self.calls < 2 && random.percent(30) {
                ladder.to = stops(random.below(5), random);
            }
            if random.percent(30) {
                ladder.start = [(); STOPS].map(|()| random.one_of(&[0, 1, 2, 3, 4, 4, 200]));
            }
        }
        ladder
    }
}

fn counted_len(record: &Record, window: Window) -> usize {
    record.counted_in(window).count()
}

/// Around now, or at an end of time.
fn span(window: Window, now: Timestamp, random: &mut Random) -> Span {
    if !window.ends() {
        return Span::EVER;
    }
    let utc = &TimeZone::UTC;
    let end = window.end(now, utc);
    let length = end.unix_ms() - window.start(end, utc).unix_ms();
    let windows = random.one_of(&[-2, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let about = Timestamp::from_unix_ms(now.unix_ms() + windows * length);
    let at = match random.below(100) {
        0 => Timestamp::from_unix_ms(-LAST_MS),
        1 => Timestamp::from_unix_ms(LAST_MS),
        _ => about,
    };
    Span { end: window.end(at, utc), rebases: random.one_of(&[0, 0, 0, 1, 255]) }
}

/// The same window in most cases.
fn near(stored: Span, window: Window, now: Timestamp, percent: u64, random: &mut Random) -> Span {
    match percent {
        0 => span(window, now, random),
        1 if window.ends() => Span { rebases: stored.rebases.wrapping_add(1), ..stored },
        _ => stored,
    }
}

fn stops(thresholds: u64, random: &mut Random) -> Stops {
    let limit = match random.below(10) {
        0 => None,
        1 => Some(random.between(MAX_COUNT - 5, MAX_COUNT)),
        2..=5 => Some(random.below(30)),
        _ => Some(random.below(1_000)),
    };
    let percents: Vec<_> = match thresholds {
        2 => vec![80, 100],
        _ => (0..thresholds).map(|_| random.between(1, 100) as u8).collect(),
    };
    Stops::new(limit, Thresholds::new(percents).expect("few of them, within bounds"))
}

/// A stored value of a cell with these stops: often near a stop, else anything.
fn value(stops: Option<Stops>, mark: u8, random: &mut Random) -> i64 {
    let Some(stops) = stops else {
        return match random.below(40) {
            0..=4 => random.below(20) as i64,
            5 => random.between(0, 10) as i64 - 5,
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
        0..=69 if any => ANY,
        70..=75 if any => random.below(4) as i64 - 1,
        76 if stops && random.percent(20) => MOST,
        77..=80 => less.max(random.below(10) as i64),
        _ => less,
    };
    Take { least, less }
}

/// Most contain now; some begin or end with it.
fn interval(now: Timestamp, random: &mut Random) -> (Timestamp, Timestamp) {
    let by = |ms| Timestamp::from_unix_ms(now.unix_ms().saturating_add(ms));
    let last = Window::Day.end(Timestamp::MAX, &TimeZone::UTC);
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
        4..=20 => Window::Minute.end(now, &TimeZone::UTC),
        _ => last,
    };
    (from, until)
}

/// The stored part of these bytes: in most cases all of them.
fn damaged(whole: &[u8], percent: u64, random: &mut Random) -> Option<Vec<u8>> {
    let mut bytes = whole.to_vec();
    match percent {
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
        3 => LAST_MS - random.below(100_000_000) as i64,
        4 => random.below(100_000_000) as i64 - LAST_MS,
        5 | 6 => MIDNIGHT_MS + random.below(3) as i64 - 1,
        _ => MIDNIGHT_MS + random.below(86_400_000) as i64,
    };
    Timestamp::from_unix_ms(unix_ms)
}

/// The fields of the records: of all calls, of an asset, of other assets.
pub(crate) const FIELDS: [&[u8]; 3] = [b"g", b"am1", b"o"];
pub(crate) const MOST: i64 = MAX_COUNT.cast_signed();
const DAY_MS: i64 = 86_400_000;
const LAST_MS: i64 = Timestamp::MAX.unix_ms();
/// The beginning of some day in October 2025.
const MIDNIGHT_MS: i64 = 20_370 * DAY_MS;
