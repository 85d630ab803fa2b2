//! `take.lua` for records of one shape: which windows, and which amount each meter counts. An unrolled script costs a server a
//! third of one that loops.

use std::fmt::Write as _;

use limiter_core::operation::{Guard, Operation, Step};
use limiter_core::{Amount, Ladder, MAX_COUNT, METERS, Record, Take, Timestamp, Window};

use crate::schema::{Layout, Stamp, counted_meters, push_end, push_int, push_stops, stops_of};

/// The shape of the records of a call, and what a script does with them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    records: Vec<(Layout, Vec<Amount>)>,
    /// Whether any window gives way to the next.
    rolls: bool,
    /// The number of stops of each meter before its cap, if marks move along them.
    stops: Option<usize>,
    /// The kind of operation on the ledger; 0 for none.
    ledger: u8,
}

impl Shape {
    /// The shape and the argument of an operation that `take.lua` can do: one that only compares windows or lets them roll, and
    /// whose stops stay as they are. The records are those that it was prepared from.
    pub(crate) fn of(
        operation: &Operation,
        stamp: Stamp,
        records: &[&Record],
        ledger: u8,
        now: Timestamp,
    ) -> Option<(Self, Vec<u8>)> {
        // It knows whole seconds alone: in the second of an expiry, `apply` is needed.
        let second = now.unix_ms().div_euclid(1_000);
        let is_timely = first_second(operation) <= second && second < last_second(operation);
        if is_timely { Self::at_any_time(operation, stamp, records, ledger) } else { None }
    }

    /// The same, whether or not it is the time for it.
    pub(crate) fn at_any_time(
        operation: &Operation,
        stamp: Stamp,
        records: &[&Record],
        ledger: u8,
    ) -> Option<(Self, Vec<u8>)> {
        let steps = &operation.steps;
        if operation.calls.is_empty() || !steps.iter().all(is_simple) {
            return None;
        }
        let is_roll = |guard| matches!(guard, Guard::Roll(_));
        let rolls = steps.iter().flat_map(|step| step.guards).any(is_roll);
        let stops = steps.iter().filter_map(stops_of_step).max();
        let shapes = records.iter().map(|record| {
            let counts = record.counted().map(|meter| record.counts()[meter]);
            (Layout::of(record), counts.collect())
        });
        let shape = Self { records: shapes.collect(), rolls, stops, ledger };
        let argument = shape.argument(operation, stamp, records);
        Some((shape, argument))
    }

    pub(crate) const fn rolls(&self) -> bool {
        self.rolls
    }

    fn argument(&self, operation: &Operation, stamp: Stamp, records: &[&Record]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 + 48 * operation.calls.len());
        push_int::<6>(&mut bytes, first_second(operation));
        push_int::<6>(&mut bytes, last_second(operation));
        for ((record, step), (layout, _)) in records.iter().zip(&operation.steps).zip(&self.records)
        {
            let stored = layout.write(stamp, record);
            if !self.rolls {
                bytes.extend_from_slice(&stored[..layout.identity()]);
                continue;
            }
            bytes.extend_from_slice(&stored[..layout.prefix()]);
            for (window, guard) in Window::ALL.into_iter().zip(step.guards).take(layout.windows) {
                let (end, rebases) = match guard {
                    Guard::Roll(end) => (end, ANY_REBASES),
                    _ => (record.span(window).end, record.span(window).rebases.into()),
                };
                push_end(&mut bytes, window, end);
                push_int::<2>(&mut bytes, rebases);
            }
            for start in &step.start[..2 * layout.windows] {
                push_int::<7>(&mut bytes, *start);
            }
        }
        if let Some(count) = self.stops {
            for (step, record) in operation.steps.iter().zip(records) {
                let ladders = step
                    .ladders
                    .iter()
                    .flat_map(|ladders| record.counted().map(|meter| &ladders[meter]));
                push_stops(&mut bytes, count + 1, ladders.map(|ladder| &ladder.to));
            }
        }
        for call in &operation.calls {
            let takes = || {
                operation.steps.iter().zip(call).flat_map(|(step, takes)| {
                    counted_meters(step).map(|meter| (step.counts[meter], takes[meter]))
                })
            };
            if self.stops.is_some() {
                takes().for_each(|(_, take)| push_take(&mut bytes, take));
                continue;
            }
            for amount in self.amounts() {
                let of_amount = takes().filter(|(counts, _)| *counts == amount);
                let strictest = of_amount.map(|(_, take)| take).max_by_key(|take| take.least);
                push_take(&mut bytes, strictest.unwrap_or(Take { least: 0, less: 0 }));
            }
        }
        bytes
    }

    /// The amounts that are counted, each once.
    fn amounts(&self) -> Vec<Amount> {
        let mut amounts: Vec<_> =
            self.records.iter().flat_map(|(_, counts)| counts.clone()).collect();
        amounts.sort_unstable();
        amounts.dedup();
        amounts
    }

    /// The text of the script.
    pub(crate) fn script(&self) -> String {
        let amounts = self.amounts();
        let mut names = Names { stops: self.stops, ..Names::default() };
        for (number, (layout, counts)) in (1..).zip(&self.records) {
            names.record(number, layout, counts, &amounts, self.rolls);
        }
        names.all_stops();
        let taken = if self.stops.is_some() { names.values.len() } else { amounts.len() };
        let takes: Vec<_> = (1..=taken).map(|amount| format!("l{amount}, n{amount}")).collect();
        let records = |name: &str| {
            let names =
                (1..=self.records.len()).map(|number| name.replace('#', &number.to_string()));
            names.collect::<Vec<_>>()
        };
        let (listed, two) = (self.ledger > 0, self.records.len() > 1);
        let only = |text: &str| if listed { text.to_owned() } else { String::new() };
        let ledger = format!(
            "local now, ledger, given = second * 1000 + (time[2] - time[2] % 1000) / 1000, {}, 3\n--ledger",
            self.ledger
        );
        let filled = [
            ("{ledger}", only(&ledger)),
            ("{answers}", if listed { "false" } else { "#KEYS > 2 and {}" }.to_owned()),
            ("{last_key}", if listed { "2" } else { "#KEYS" }.to_owned()),
            ("{fields}", if two { "'g', field" } else { "'g'" }.to_owned()),
            ("{believed}", names.believed.join(", ")),
            ("{believed_format}", names.believed_format.clone()),
            ("{listed}", only("if is_listed() then verdict = 'L' end")),
            ("{not_listed}", only("verdict ~= 'L' and ")),
            ("{sizes}", names.sizes.join(" and ")),
            ("{unpack}", names.unpack.join("\n      ")),
            ("{same}", names.same.join(" and ")),
            ("{roll}", names.roll.join("\n        ")),
            ("{amounts}", takes.join(", ")),
            ("{amounts_format}", "i7i7".repeat(taken)),
            ("{left}", names.left.join("\n          ")),
            ("{enough}", names.enough.join(" and ")),
            ("{take}", names.take()),
            ("{full}", only("if applied and is_full() then letters, applied = 'N', false end")),
            ("{pack}", names.pack.join(", ")),
            ("{remember}", only(&format!("remember({})", names.identities.join(" .. ")))),
            (
                "{answer}",
                if listed {
                    format!(
                        "{{ time[1] .. letters .. time[2], entry, {} }}",
                        records("r#").join(", ")
                    )
                } else {
                    format!("time[1] .. letters .. time[2] .. {}", records("r#").join(" .. "))
                },
            ),
            ("{entry}", only("entry, ")),
            // The records that are found instead may include the asset's.
            (
                "{found}",
                if two { "r1, r2" } else { "r1, redis.call('HGET', hot, field)" }.to_owned(),
            ),
        ];
        filled.into_iter().fold(TAKE.to_owned(), |text, (name, with)| text.replace(name, &with))
    }
}

/// The names of a script's variables, and what is done with them.
#[derive(Default)]
struct Names {
    stops: Option<usize>,
    believed: Vec<String>,
    believed_format: String,
    sizes: Vec<String>,
    unpack: Vec<String>,
    same: Vec<String>,
    roll: Vec<String>,
    left: Vec<String>,
    enough: Vec<String>,
    values: Vec<String>,
    taken: Vec<String>,
    along_stops: Vec<String>,
    pack: Vec<String>,
    identities: Vec<String>,
    windows: usize,
}

impl Names {
    fn record(
        &mut self,
        number: usize,
        layout: &Layout,
        counts: &[Amount],
        amounts: &[Amount],
        rolls: bool,
    ) {
        let first = self.values.len() + 1;
        let meters: Vec<_> = (first..first + counts.len()).collect();
        for (meter, counts) in meters.iter().zip(counts) {
            self.meter(*meter, 1 + amounts.iter().position(|amount| amount == counts).unwrap_or(0));
        }
        self.sizes.push(format!("r{number} and #r{number} == {}", layout.size()));
        self.believed.push(format!("p{number}"));
        self.same.push(format!("q{number} == p{number}"));
        // The variables that the record is read into, and its format.
        let (mut stored, mut format) = (vec![format!("q{number}")], String::new());
        let prefix = if rolls { layout.prefix() } else { layout.identity() };
        let _ = write!(format, "c{prefix}");
        let _ = write!(self.believed_format, "c{prefix}");
        let mut identity = vec![match layout.global {
            true => format!("string.sub(q{number}, 9)"),
            false => format!("q{number}"),
        }];
        if rolls {
            for window in 0..layout.windows {
                self.window(&meters[2 * window..2 * window + 2]);
                let window = self.windows;
                stored.extend([format!("e{window}"), format!("b{window}")]);
                format.push_str("i5B");
                identity.push(format!("pack('<i5B', e{window}, b{window})"));
            }
            for meter in &meters[..2 * layout.windows] {
                self.believed.push(format!("s{meter}"));
                self.believed_format.push_str("i7");
            }
        }
        if rolls || self.stops.is_some() {
            stored.extend(meters.iter().map(|meter| format!("m{meter}")));
            format.push_str(&"B".repeat(meters.len()));
        } else {
            stored.push(format!("m{number}"));
            let _ = write!(format, "c{}", meters.len());
        }
        stored.extend(meters.iter().map(|meter| format!("v{meter}")));
        format.push_str(&"i7".repeat(meters.len()));
        let stored = stored.join(", ");
        self.unpack.push(format!("local {stored} = unpack('<{format}', r{number})"));
        let field = if number == 1 { "'g'" } else { "field" };
        self.pack.push(format!("{field}, pack('<{format}', {stored})"));
        self.identities.push(identity.join(" .. "));
    }

    /// A meter, and the number of the amount that it counts.
    fn meter(&mut self, m: usize, amount: usize) {
        self.values.push(format!("v{m}"));
        let Some(stops) = self.stops else {
            self.taken.push(format!("v{m} - n{amount}"));
            self.enough.push(format!("v{m} >= l{amount}"));
            return;
        };
        let by_mark = (0..stops).map(|stop| format!("m{m} == {stop} and f{m}_{stop} or "));
        let floor = format!("({}0)", by_mark.collect::<String>());
        self.left.push(format!("local x{m} = v{m} + {floor}"));
        self.enough.push(format!("x{m} >= l{m}"));
        let along = (0..stops).map(|stop| {
            let next = stop + 1;
            format!(" if m{m} == {stop} and f{m}_{stop} > 0 and x{m} < f{m}_{stop} then m{m} = {next} end")
        });
        self.along_stops.push(format!(
            "x{m} = x{m} - n{m} if x{m} > c{m} then x{m} = c{m} elseif x{m} < c{m} - {MAX_COUNT} then x{m} = c{m} - {MAX_COUNT} end{} \
             v{m} = x{m} - {floor}",
            along.collect::<String>()
        ));
    }

    /// The stops of all meters, which come after what is believed of the records.
    fn all_stops(&mut self) {
        let Some(stops) = self.stops else { return };
        for m in 1..=self.values.len() {
            self.believed.extend((0..stops).map(|stop| format!("f{m}_{stop}")));
            self.believed.push(format!("c{m}"));
            self.believed_format.push_str(&"i7".repeat(stops + 1));
        }
    }

    fn take(&self) -> String {
        match self.stops {
            Some(_) => self.along_stops.join("\n            "),
            None => format!("{} = {}", self.values.join(", "), self.taken.join(", ")),
        }
    }

    /// A window that may roll: its end and the count of rebases that it must have, or a negative number if it may roll.
    fn window(&mut self, meters: &[usize]) {
        self.windows += 1;
        let w = self.windows;
        self.believed.extend([format!("w{w}"), format!("h{w}")]);
        self.believed_format.push_str("i5i2");
        self.same.push(format!(
            "(e{w} == w{w} and (h{w} < 0 or h{w} == b{w}) or h{w} < 0 and e{w} < w{w})"
        ));
        let (a, b) = (meters[0], meters[1]);
        self.roll.push(format!(
            "if e{w} < w{w} then e{w}, v{a}, v{b}, m{a}, m{b} = w{w}, s{a}, s{b}, 0, 0 end"
        ));
    }
}

/// The first second all of which is valid.
fn first_second(operation: &Operation) -> i64 {
    -(-operation.from.unix_ms()).div_euclid(1_000)
}

/// The first second after those that are valid.
fn last_second(operation: &Operation) -> i64 {
    operation.until.unix_ms().div_euclid(1_000).min(NO_END)
}

/// Whether a step compares windows as they are or lets them roll, along stops that stay as they are.
fn is_simple(step: &Step) -> bool {
    let simple = |guard: &Guard| match guard {
        Guard::Same(seen, next) => seen == next,
        Guard::Roll(_) => true,
        _ => false,
    };
    let [seen, next] = step.generations;
    let stays = |ladders: &[Ladder; METERS]| {
        ladders.iter().all(|ladder| *ladder == Ladder::same(ladder.to))
    };
    step.ladders.as_ref().is_none_or(stays)
        && seen == next
        && (!step.has_windows || step.guards.iter().all(simple))
}

/// The most stops of a meter before its cap, if marks move along them.
fn stops_of_step(step: &Step) -> Option<usize> {
    let ladders = step.ladders.as_ref()?;
    counted_meters(step).map(|meter| stops_of(&ladders[meter])).max()
}

fn push_take(bytes: &mut Vec<u8>, take: Take) {
    push_int::<7>(bytes, take.least);
    push_int::<7>(bytes, take.less);
}

const TAKE: &str = include_str!("lua/take.lua");
/// Of a window that may roll.
const ANY_REBASES: i64 = -1;
/// Fits into six bytes.
const NO_END: i64 = 1 << 46;
