//! `take.lua` for records of one shape: how many levels, which windows, and which amount each meter counts. An unrolled script
//! costs a server a third of one that loops.

use std::fmt::Write as _;

use limiter_core::operation::{Guard, Operation, Origin, Step, WindowStep};
use limiter_core::{Ladder, MAX_COUNT, Record, Take, Timestamp, Unit, Window};

use crate::schema::{Layout, Stamp, push_end, push_int, push_stops, stops_of};

/// The shape of the records of a call, and what a script does with them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// By level, the outermost first: one or two of each.
    levels: Vec<Vec<RecordShape>>,
    /// Whether any window gives way to the next.
    rolls: bool,
    /// The number of stops of each cell before its cap, if marks move along them.
    stops: Option<usize>,
    /// The kind of operation on the ledger; 0 for none.
    ledger: u8,
}

/// The layout of a record, and the unit that each of its cells counts.
type RecordShape = (Layout, Vec<Unit>);

/// A record of a call, its level, and whether it is the global one.
pub(crate) type Named<'a> = (usize, bool, &'a Record);

impl Shape {
    /// The shape and the argument of an operation that `take.lua` can do: one that only compares windows or lets them roll, and
    /// whose stops stay as they are. The records are those that it was prepared from.
    pub(crate) fn of(
        operation: &Operation,
        stamps: &[Stamp],
        records: &[Named<'_>],
        ledger: u8,
        now: Timestamp,
    ) -> Option<(Self, Vec<u8>)> {
        // It knows whole seconds alone: in the second of an expiry, `apply` is needed.
        let second = now.unix_ms().div_euclid(1_000);
        let is_timely = first_second(operation) <= second && second < last_second(operation);
        if is_timely { Self::at_any_time(operation, stamps, records, ledger) } else { None }
    }

    /// The same, whether or not it is the time for it.
    pub(crate) fn at_any_time(
        operation: &Operation,
        stamps: &[Stamp],
        records: &[Named<'_>],
        ledger: u8,
    ) -> Option<(Self, Vec<u8>)> {
        let steps = &operation.steps;
        if operation.calls.is_empty() || !steps.iter().all(is_simple) {
            return None;
        }
        let is_roll = |of: &WindowStep| matches!(of.guard, Guard::Roll(_));
        let rolls = steps.iter().flat_map(|step| &step.windows).any(is_roll);
        let stops = steps.iter().filter_map(stops_of_step).max();
        let mut levels = vec![Vec::new(); stamps.len()];
        for (level, global, record) in records {
            let units = record.counted().map(|counted| counted.unit);
            levels.get_mut(*level)?.push((Layout::of(*global, record), units.collect()));
        }
        let shape = Self { levels, rolls, stops, ledger };
        let is_of_call = |level: &Vec<RecordShape>| (1..=2).contains(&level.len());
        if !shape.levels.iter().all(is_of_call) || shape.variables() > MOST_VARIABLES {
            return None;
        }
        let argument = shape.argument(operation, stamps, records);
        Some((shape, argument))
    }

    pub(crate) const fn rolls(&self) -> bool {
        self.rolls
    }

    fn records(&self) -> impl Iterator<Item = &RecordShape> {
        self.levels.iter().flatten()
    }

    /// About how many variables the script has: Lua has at most 200.
    fn variables(&self) -> usize {
        let cells: usize = self.records().map(|(layout, _)| layout.cells()).sum();
        let windows: usize = self.records().map(|(layout, _)| layout.windows.len()).sum();
        let of_cell = match (self.rolls, self.stops) {
            (rolls, None) => 1 + 2 * usize::from(rolls),
            (rolls, Some(stops)) => 6 + stops + usize::from(rolls),
        };
        // Of each record itself, how it was, and what it begins with, as believed and as stored.
        cells * of_cell + 4 * windows * usize::from(self.rolls) + 4 * self.records().count()
    }

    fn argument(&self, operation: &Operation, stamps: &[Stamp], records: &[Named<'_>]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 + 48 * operation.calls.len());
        push_int::<6>(&mut bytes, first_second(operation));
        push_int::<6>(&mut bytes, last_second(operation));
        for (((level, _, record), step), (layout, _)) in
            records.iter().zip(&operation.steps).zip(self.records())
        {
            let stamp = stamps.get(*level).copied().unwrap_or_default();
            let stored = layout.write(stamp, &record.stored());
            if !self.rolls {
                bytes.extend_from_slice(&stored[..layout.identity()]);
                continue;
            }
            bytes.extend_from_slice(&stored[..layout.prefix()]);
            let ending = || step.windows.iter().filter(|of| of.window.ends());
            for of in ending() {
                let (end, rebases) = match of.guard {
                    Guard::Roll(end) => (end, ANY_REBASES),
                    _ => {
                        let span = record.span(of.window);
                        (span.end, span.rebases.into())
                    }
                };
                push_end(&mut bytes, end);
                push_int::<2>(&mut bytes, rebases);
            }
            for cell in ending().flat_map(|of| &of.cells) {
                push_int::<7>(&mut bytes, cell.ladder.from.full());
            }
        }
        if let Some(count) = self.stops {
            for step in &operation.steps {
                push_stops(&mut bytes, count + 1, step.cells().map(|cell| &cell.ladder.to));
            }
        }
        let units = self.units();
        for call in &operation.calls {
            let takes = || {
                let of_steps = operation.steps.iter().zip(call);
                of_steps.flat_map(|(step, takes)| step.cells().zip(takes))
            };
            if self.stops.is_some() {
                takes().for_each(|(_, take)| push_take(&mut bytes, *take));
                continue;
            }
            for unit in &units {
                let of_unit = takes().filter(|(cell, _)| cell.unit == *unit);
                let strictest = of_unit.map(|(_, take)| *take).max_by_key(|take| take.least);
                push_take(&mut bytes, strictest.unwrap_or(Take { least: 0, less: 0 }));
            }
        }
        bytes
    }

    /// The units that are counted, each once.
    fn units(&self) -> Vec<Unit> {
        let mut units: Vec<_> = self.records().flat_map(|(_, units)| units.clone()).collect();
        units.sort_unstable();
        units.dedup();
        units
    }

    /// The text of the script.
    pub(crate) fn script(&self) -> String {
        let amounts = self.units();
        let mut names = Names { stops: self.stops, ..Names::default() };
        let (levels, mut number) = (self.levels.len(), 0);
        let (mut read, mut failed, mut write) = (Vec::new(), Vec::new(), Vec::new());
        for (level, records) in (1..).zip(&self.levels) {
            let first = number + 1;
            for (layout, counts) in records {
                number += 1;
                names.record(number, layout, counts, &amounts, self.rolls);
            }
            let hot = format!("KEYS[keys + {}]", 2 * level - 1);
            let fields = ["'g'".to_owned(), format!("ARGV[args + {level}]")];
            let fields = &fields[..records.len()];
            let numbers = first..=number;
            let each = |text: &dyn Fn(usize) -> String| {
                numbers.clone().map(text).collect::<Vec<_>>().join(", ")
            };
            let (names_of, values) = (
                each(&|at| format!("r{at}")),
                each(&|at| format!("found{level}[{}]", at - first + 1)),
            );
            let fields_of = fields.join(", ");
            read.push(format!(
                "local found{level} = redis.pcall('HMGET', {hot}, {fields_of}) local {names_of} = {values}"
            ));
            failed.push(format!("found{level}.err and found{level}"));
            let packed = fields.iter().zip(&names.pack[first - 1..]);
            let packed: Vec<_> = packed.map(|(field, pack)| format!("{field}, {pack}")).collect();
            write.push(format!("redis.call('HSET', {hot}, {})", packed.join(", ")));
        }
        names.all_stops();
        let taken = if self.stops.is_some() { names.values.len() } else { amounts.len() };
        let takes: Vec<_> = (1..=taken).map(|amount| format!("l{amount}, n{amount}")).collect();
        let records = |name: &str| {
            let names = (1..=number).map(|number| name.replace('#', &number.to_string()));
            names.collect::<Vec<_>>()
        };
        let listed = self.ledger > 0;
        let only = |text: &str| if listed { text.to_owned() } else { String::new() };
        let ledger = format!(
            "local now, ledger, given, levels = second * 1000 + (time[2] - time[2] % 1000) / 1000, {}, {}, {levels}\n--ledger",
            self.ledger,
            levels + 3
        );
        let [keys, arguments, asset] = [2 * levels, levels + 2, levels + 1];
        let several = format!("#KEYS > {keys} and {{}}");
        let last = format!("#KEYS / {keys}");
        let filled = [
            ("{ledger}", only(&ledger)),
            ("{answers}", if listed { "false".to_owned() } else { several }),
            ("{last_group}", if listed { "1".to_owned() } else { last }),
            ("{keys}", keys.to_string()),
            ("{arguments}", arguments.to_string()),
            ("{asset}", asset.to_string()),
            ("{read}", read.join("\n  ")),
            ("{failed}", failed.join(" or ")),
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
            ("{write}", write.join("\n          ")),
            ("{remember}", only(&format!("remember({}, 0)", names.identities.join(" .. ")))),
            (
                "{answer}",
                if listed {
                    format!(
                        "{{ time[1] .. letters .. time[2], entry, open, {} }}",
                        records("r#").join(", ")
                    )
                } else {
                    format!("time[1] .. letters .. time[2] .. {}", records("r#").join(" .. "))
                },
            ),
            ("{entry}", only(", entry, open")),
            ("{slots}", only(" and not next(out_of_slots)")),
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
        counts: &[Unit],
        amounts: &[Unit],
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
            let mut rest = meters.as_slice();
            for (_, cells) in layout.windows.iter().filter(|(window, _)| window.ends()) {
                let (of_window, after) = rest.split_at(*cells);
                rest = after;
                self.window(of_window);
                let window = self.windows;
                stored.extend([format!("e{window}"), format!("b{window}")]);
                format.push_str("i6B");
                identity.push(format!("pack('<i6B', e{window}, b{window})"));
            }
            for meter in &meters[..meters.len() - rest.len()] {
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
        self.pack.push(format!("pack('<{format}', {stored})"));
        self.identities.push(identity.join(" .. "));
    }

    /// A meter, and the number of the amount that it counts.
    fn meter(&mut self, m: usize, amount: usize) {
        self.values.push(format!("v{m}"));
        let Some(stops) = self.stops else {
            self.taken.push(format!("v{m} = v{m} - n{amount}"));
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
            // One after the other: together they would need as many places again, and Lua has 250 for both.
            None => self.taken.join(" "),
        }
    }

    /// A window that may roll: its end and the count of rebases that it must have, or a negative number if it may roll.
    fn window(&mut self, meters: &[usize]) {
        self.windows += 1;
        let w = self.windows;
        self.believed.extend([format!("w{w}"), format!("h{w}")]);
        self.believed_format.push_str("i6i2");
        self.same.push(format!(
            "(e{w} == w{w} and (h{w} < 0 or h{w} == b{w}) or h{w} < 0 and e{w} < w{w})"
        ));
        let each =
            |name: &str| meters.iter().map(|meter| format!("{name}{meter}")).collect::<Vec<_>>();
        let moved = [vec![format!("e{w}")], each("v"), each("m")].concat().join(", ");
        let zeros = vec!["0".to_owned(); meters.len()];
        let next = [vec![format!("w{w}")], each("s"), zeros].concat().join(", ");
        self.roll.push(format!("if e{w} < w{w} then {moved} = {next} end"));
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

/// Whether a step compares windows as they are or lets them roll, along stops that stay as they are. A day that ends is closed
/// by `apply`.
fn is_simple(step: &Step) -> bool {
    let simple = |of: &WindowStep| {
        let guard = match of.guard {
            Guard::Keep => true,
            Guard::Same(seen, next) => seen == next,
            Guard::Roll(_) => of.window != Window::Day,
            _ => false,
        };
        let mut cells = of.cells.iter().enumerate();
        guard
            && of.before == of.cells.len()
            && cells.all(|(place, cell)| {
                cell.origin == Origin::Kept(place)
                    && (!step.stops || cell.ladder == Ladder::same(cell.ladder.to))
            })
    };
    step.windows.iter().all(simple)
}

/// The most stops of a cell before its cap, if marks move along them.
fn stops_of_step(step: &Step) -> Option<usize> {
    step.stops.then(|| step.cells().map(|cell| stops_of(&cell.ladder)).max()).flatten()
}

fn push_take(bytes: &mut Vec<u8>, take: Take) {
    push_int::<7>(bytes, take.least);
    push_int::<7>(bytes, take.less);
}

/// Of the 200 that Lua has, some are the template's own.
const MOST_VARIABLES: usize = 138;
const TAKE: &str = include_str!("lua/take.lua");
/// Of a window that may roll.
const ANY_REBASES: i64 = -1;
/// Fits into six bytes.
const NO_END: i64 = 1 << 46;
