//! A real server, on which the real scripts run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use limiter_core::KeyId;
use limiter_redis::fuzzing::scripts::{self, TakeShape};
use redis::{Connection, ConnectionLike, Value};

use super::case::{Case, Dropped, FIELDS, Script};
use super::ledger::{Ledger, Times};
use super::reference::Expected;

/// A connection to a server of its own, and the digests of the scripts that are loaded.
pub(crate) struct Server {
    connection: Connection,
    takes: HashMap<TakeShape, Vec<u8>>,
    apply: Vec<u8>,
    /// The text of `apply`.
    apply_text: String,
    /// The change to the text of a script before it is loaded.
    plant: fn(&str) -> String,
    planted: bool,
}

/// A difference between the server and the core.
pub(crate) type Divergence = String;

/// Commands that are sent together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    commands: usize,
}

impl Batch {
    /// Adds a command, and returns its number.
    fn add(&mut self, words: &[&[u8]]) -> usize {
        self.bytes.extend(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.bytes.extend(format!("${}\r\n", word.len()).as_bytes());
            self.bytes.extend_from_slice(word);
            self.bytes.extend(b"\r\n");
        }
        self.commands += 1;
        self.commands - 1
    }

    fn send(self, connection: &mut Connection) -> Vec<Value> {
        let Self { bytes, commands } = self;
        connection.req_packed_commands(&bytes, 0, commands).expect("the test server answers")
    }
}

/// A case under way: the numbers of its commands.
struct Sent {
    script: usize,
    /// The number of the case in its script.
    group: usize,
    groups: usize,
    after: Vec<usize>,
}

impl Server {
    pub(crate) fn connect(url: &str, plant: fn(&str) -> String) -> Self {
        let client = redis::Client::open(url).expect("a URL");
        let mut connection = client.get_connection().expect("the test server takes connections");
        let apply_text = plant(&scripts::apply_text());
        let planted = apply_text != scripts::apply_text();
        let apply = load(&mut connection, &apply_text);
        Self { connection, takes: HashMap::new(), apply, apply_text, plant, planted }
    }

    /// Whether the text of any script was changed.
    pub(crate) const fn is_planted(&self) -> bool {
        self.planted
    }

    /// Runs cases of one script and one time, and compares the outcome of each.
    pub(crate) fn run(
        &mut self,
        cases: &[Case],
        expected: &[Expected],
    ) -> Vec<Result<(), Divergence>> {
        if cases.is_empty() {
            return Vec::new();
        }
        if self.takes.len() > MOST_SCRIPTS {
            self.forget_scripts();
        }
        let mut batch = Batch::default();
        let names: Vec<_> = (0..cases.len()).map(Names::numbered).collect();
        for (case, names) in cases.iter().zip(&names) {
            store(&mut batch, case, names);
        }
        let mut sent = self.send_scripts(&mut batch, cases, &names);
        for ((case, sent), names) in cases.iter().zip(&mut sent).zip(&names) {
            sent.after = look(&mut batch, case, names);
        }
        let replies = batch.send(&mut self.connection);
        let all = cases.iter().zip(expected).zip(&sent);
        all.map(|((case, expected), sent)| compare(case, expected, sent, &replies)).collect()
    }

    /// Frees the memory of the server: a script takes some for good.
    fn forget_scripts(&mut self) {
        let flushed: String =
            redis::cmd("SCRIPT").arg("FLUSH").query(&mut self.connection).expect("it is allowed");
        assert_eq!(flushed, "OK");
        self.takes.clear();
        self.apply = load(&mut self.connection, &self.apply_text);
    }

    fn send_scripts(&mut self, batch: &mut Batch, cases: &[Case], names: &[Names]) -> Vec<Sent> {
        let Some(first) = cases.first() else { return Vec::new() };
        let time = scripts::time(first.now);
        let nothing = |script| Sent { script, group: 0, groups: 1, after: Vec::new() };
        if first.script == Script::Apply {
            let each = cases.iter().zip(names);
            return each
                .map(|(case, names)| nothing(self.send_apply(batch, case, names)))
                .collect();
        }
        // All of one shape go in one script.
        let mut by_shape: Vec<(TakeShape, Vec<usize>, Vec<Vec<u8>>)> = Vec::new();
        for (number, case) in cases.iter().enumerate() {
            let (shape, argument) = case.taken().expect("it only takes");
            // With a ledger a script does one at a time.
            let is_alone = kind(case) > 0;
            let group = by_shape.iter_mut().find(|(other, ..)| *other == shape && !is_alone);
            match group {
                Some((_, numbers, arguments)) => {
                    numbers.push(number);
                    arguments.push(argument);
                }
                None => by_shape.push((shape, vec![number], vec![argument])),
            }
        }
        let mut sent: Vec<_> = cases.iter().map(|_| nothing(0)).collect();
        for (shape, numbers, arguments) in by_shape {
            let (connection, planted) = (&mut self.connection, &mut self.planted);
            let plant = self.plant;
            let digest = self
                .takes
                .entry(shape)
                .or_insert_with_key(|shape| {
                    let text = plant(&shape.text());
                    *planted |= text != shape.text();
                    load(connection, &text)
                })
                .clone();
            let first = &cases[numbers[0]];
            let ledger = if kind(first) > 0 { LEDGER } else { 0 };
            let keys = ((2 * first.levels.len() + ledger) * numbers.len()).to_string();
            let mut words: Vec<&[u8]> = vec![b"EVALSHA", &digest, keys.as_bytes()];
            for number in &numbers {
                words.extend(names[*number].of_levels(first.levels.len()));
                words.extend(names[*number].more[..ledger].iter().map(Vec::as_slice));
            }
            for (number, argument) in numbers.iter().zip(&arguments) {
                let case = &cases[*number];
                let second = |level| {
                    let of_level = case.records.iter().filter(move |record| record.level == level);
                    of_level.skip(1).map(|record| FIELDS[record.field]).next().unwrap_or_default()
                };
                words.extend((0..case.levels.len()).map(second));
                words.extend([case.asset().unwrap_or_default(), argument]);
            }
            let listed = first.extras.ledger.as_ref();
            let listed = listed.map(|ledger| scripts::ledger(ledger.kind, &ledger.given));
            let listed = listed.unwrap_or_default();
            words.extend(listed.iter().map(Vec::as_slice));
            words.extend(time.iter().map(Vec::as_slice));
            let script = batch.add(&words);
            for (group, number) in numbers.iter().enumerate() {
                sent[*number] = Sent { group, groups: numbers.len(), ..nothing(script) };
            }
        }
        sent
    }

    fn send_apply(&self, batch: &mut Batch, case: &Case, names: &Names) -> usize {
        let fields = case.records.iter().map(|record| FIELDS[record.field].to_vec()).collect();
        let shown = case.extras.shown.iter().map(|at| FIELDS[*at].to_vec()).collect();
        let levels = case.levels.len();
        let (more, field) = (2 * levels + 1, b"f".to_vec());
        let extras = &case.extras;
        let with = |value: &Vec<u8>| (more, field.clone(), value.clone());
        let absent = extras.is_absent.then(|| (more, Vec::new(), Vec::new()));
        let dropped = extras.drop.and_then(|dropped| match dropped {
            Dropped::Field => Some((more, field.clone())),
            Dropped::Whole => Some((more, Vec::new())),
            Dropped::Record => {
                let last = case.records.last()?;
                Some((2 * last.level + 1, FIELDS[last.field].to_vec()))
            }
        });
        let stored = scripts::Extras {
            not_after: extras.not_after,
            guards: extras.guard.iter().map(with).chain(absent).collect(),
            puts: extras.put.iter().map(with).collect(),
            drops: dropped.into_iter().collect(),
            begins: begun(case),
            ledger: extras.ledger.as_ref().map(|ledger| (ledger.kind, ledger.given.clone())),
            history: extras.kept_after.map(|kept_after| (2 * levels + LEDGER + 1, kept_after)),
        };
        let stamps: Vec<_> = case.levels.iter().map(|level| level.stamps).collect();
        let mut arguments = scripts::apply(&case.operation, fields, shown, &stamps, stored);
        arguments.extend(scripts::time(case.now));
        let keys = (3 * levels + LEDGER).to_string();
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", &self.apply, keys.as_bytes()];
        words.extend(names.of_levels(levels));
        words.extend(names.more.iter().map(Vec::as_slice));
        words.extend(names.days[..levels].iter().map(Vec::as_slice));
        words.extend(arguments.iter().map(Vec::as_slice));
        batch.add(&words)
    }
}

/// The number of the level that begins, or 0, and its records.
fn begun(case: &Case) -> (usize, Vec<Vec<u8>>) {
    let brought = case.records.iter().filter(|record| !case.stores(record));
    let records = brought.filter_map(|record| record.bytes.clone()).collect();
    (case.extras.begins.map_or(0, |level| level + 1), records)
}

/// The kind of ledger operation, or 0.
fn kind(case: &Case) -> u8 {
    case.extras.ledger.as_ref().map_or(0, |ledger| ledger.kind)
}

fn load(connection: &mut Connection, text: &str) -> Vec<u8> {
    let digest: String = redis::cmd("SCRIPT")
        .arg("LOAD")
        .arg(text)
        .query(connection)
        .expect("the script can be compiled");
    digest.into_bytes()
}

/// Stores the data before a case.
fn store(batch: &mut Batch, case: &Case, names: &Names) {
    let [more, entries, ended] = &names.more;
    let levels = case.levels.len();
    let mut words = vec![&b"DEL"[..]];
    words.extend(names.of_levels(levels));
    if case.script == Script::Apply || kind(case) > 0 {
        words.extend([&more[..], entries, ended]);
        words.extend(names.days[..levels].iter().map(Vec::as_slice));
    }
    batch.add(&words);
    for (number, level) in case.levels.iter().enumerate() {
        let [hot, cold] = &names.levels[number];
        let mut words: Vec<&[u8]> = vec![b"HSET", cold];
        let limits = FIELDS.iter().zip(&level.cold);
        for (field, value) in limits.filter_map(|(field, value)| Some((field, value.as_ref()?))) {
            words.extend([field, &value[..]]);
        }
        if words.len() > 2 {
            batch.add(&words);
        }
        for end in &level.closed {
            let end = end.to_string();
            batch.add(&[b"ZADD", &names.days[number], end.as_bytes(), end.as_bytes()]);
        }
        if level.other_type {
            batch.add(&[b"SET", hot, b"text"]);
            continue;
        }
        let mut words: Vec<&[u8]> = vec![b"HSET", hot];
        for stored in case.records.iter().filter(|stored| stored.level == number) {
            if let Some(bytes) = stored.bytes.as_ref().filter(|_| case.stores(stored)) {
                words.extend([FIELDS[stored.field], bytes]);
            }
        }
        if words.len() > 2 {
            batch.add(&words);
        }
    }
    if let Some(field) = &case.extras.field {
        batch.add(&[b"HSET", more, b"f", field]);
    }
    if let Some(ledger) = &case.extras.ledger {
        for (id, entry) in &ledger.entries {
            batch.add(&[b"HSET", entries, id, entry]);
        }
        for (key, times) in [(more, &ledger.order), (ended, &ledger.ended)] {
            for (until, id) in &times.0 {
                batch.add(&[b"ZADD", key, until.to_string().as_bytes(), id]);
            }
        }
    }
}

/// Reads the data after a case: of each level the records, and what `apply` has closed; then what else may have changed.
fn look(batch: &mut Batch, case: &Case, names: &Names) -> Vec<usize> {
    let [more, entries, ended] = &names.more;
    let all = |key| [&b"ZRANGE"[..], key, b"0", b"-1", b"WITHSCORES"];
    let mut looks = Vec::new();
    for level in 0..case.levels.len() {
        let [hot, _] = &names.levels[level];
        looks.push(batch.add(&[&[&b"HMGET"[..], hot], &FIELDS[..]].concat()));
        if case.script == Script::Apply {
            looks.push(batch.add(&all(&names.days[level])));
        }
    }
    if case.extras.ledger.is_some() {
        looks.push(batch.add(&all(more)));
        looks.push(batch.add(&all(ended)));
        looks.push(batch.add(&[b"HGETALL", entries]));
    } else if case.script == Script::Apply {
        looks.push(batch.add(&[b"HGETALL", more]));
    }
    looks
}

fn compare(
    case: &Case,
    expected: &Expected,
    sent: &Sent,
    replies: &[Value],
) -> Result<(), Divergence> {
    let reply = match &replies[sent.script] {
        Value::Array(groups) if sent.groups > 1 => &groups[sent.group],
        reply => reply,
    };
    let Some(Answered { letters, entry, parts }) = answer(case, reply) else {
        return Err(format!("expected {}, but the script answered {reply:?}", expected.letters));
    };
    if expected.inexact {
        return Ok(());
    }
    if letters != expected.letters {
        return Err(format!("expected {}, but the script said {letters}", expected.letters));
    }
    let each = if case.script == Script::Apply { 2 } else { 1 };
    let (of_levels, extras) = sent.after.split_at(each * case.levels.len());
    for (level, looks) in of_levels.chunks(each).enumerate() {
        let (found, wanted) = (texts(&replies[looks[0]]), &expected.hot[level]);
        if !case.levels[level].other_type && found.as_ref().is_none_or(|found| found != wanted) {
            return Err(format!(
                "{letters}: expected {wanted:?} of level {level}, but stored was {found:?}"
            ));
        }
        let Some(days) = looks.get(1) else { continue };
        let found: BTreeSet<_> = times(&replies[*days]).0.into_iter().collect();
        let wanted = &expected.days[level];
        if found != *wanted {
            return Err(format!(
                "{letters}: expected the days {wanted:?} of level {level}, but there were {found:?}"
            ));
        }
    }
    let is_one_text = matches!(reply, Value::BulkString(_));
    if !is_one_text && parts != expected.shown {
        let wanted = &expected.shown;
        return Err(format!("{letters}: expected the fields {wanted:?}, but shown was {parts:?}"));
    }
    match (&expected.ledger, extras) {
        (Some(ledger), [order, ended, entries]) => {
            let is_said = matches!(letters.as_str(), "L" | "N");
            if is_said && entry != expected.entry {
                let wanted = &expected.entry;
                return Err(format!(
                    "{letters}: expected the entry {wanted:?}, but it was {entry:?}"
                ));
            }
            let found =
                (times(&replies[*order]), times(&replies[*ended]), hash(&replies[*entries]));
            let Ledger { order, ended, entries, .. } = ledger;
            if found != (order.clone(), ended.clone(), entries.clone()) {
                return Err(format!("{letters}: expected {ledger:?}, but there was {found:?}"));
            }
        }
        (None, [more]) => {
            let (found, wanted) = (hash(&replies[*more]), &expected.field);
            if found.get(&b"f"[..]) != wanted.as_ref() {
                return Err(format!(
                    "{letters}: expected {wanted:?} of the extras, but there was {found:?}"
                ));
            }
        }
        _ => {}
    }
    Ok(())
}

/// An answer of a script.
struct Answered {
    letters: String,
    /// What it says of the ledger.
    entry: Option<Vec<u8>>,
    /// The fields that it shows, unless they are part of one text.
    parts: Vec<Option<Vec<u8>>>,
}

fn answer(case: &Case, reply: &Value) -> Option<Answered> {
    let (head, mut parts) = match reply {
        Value::Array(_) => {
            let mut parts = texts(reply)?;
            (parts.remove(0)?, parts)
        }
        Value::BulkString(text) if case.script == Script::Take => {
            let before = case.records.iter().map(|stored| stored.bytes.clone().unwrap_or_default());
            let before = before.collect::<Vec<_>>().concat();
            (text.strip_suffix(&before[..])?.to_vec(), Vec::new())
        }
        _ => return None,
    };
    let has_entry = (case.script == Script::Apply || kind(case) > 0) && !parts.is_empty();
    let entry = if has_entry { parts.remove(0) } else { None };
    if has_entry {
        // Of slots, which no operation here has.
        parts.remove(0);
    }
    let head = String::from_utf8(head).ok()?;
    let [seconds, micros] = scripts::time(case.now).map(|text| String::from_utf8(text).ok());
    let letters = head.strip_prefix(&seconds?)?.strip_suffix(&micros?)?;
    let is_one = |letter: u8| letter.is_ascii_uppercase() || matches!(letter, b'b'..=b'p');
    let possible = !letters.is_empty() && letters.bytes().all(is_one);
    possible.then(|| Answered { letters: letters.to_owned(), entry, parts })
}

fn texts(value: &Value) -> Option<Vec<Option<Vec<u8>>>> {
    let Value::Array(values) = value else { return None };
    let texts = values.iter().map(|value| match value {
        Value::BulkString(bytes) => Some(bytes.clone()),
        _ => None,
    });
    Some(texts.collect())
}

fn pairs(value: &Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    let texts: Vec<_> = texts(value).unwrap_or_default().into_iter().flatten().collect();
    texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

fn hash(value: &Value) -> BTreeMap<Vec<u8>, Vec<u8>> {
    pairs(value).into_iter().collect()
}

fn times(value: &Value) -> Times {
    let number = |text: Vec<u8>| String::from_utf8(text).ok()?.parse().ok();
    let pairs = pairs(value).into_iter();
    Times(pairs.map(|(id, until)| (number(until).unwrap_or(i64::MAX), id)).collect())
}

/// The names of the keys of a case.
struct Names {
    /// Of each level the hot and the cold hash.
    levels: [[Vec<u8>; 2]; KeyId::MAX_SEGMENTS],
    /// The hash more or the ids of a ledger, its entries, and the ids of ended ones.
    more: [Vec<u8>; LEDGER],
    /// Of each level the closed days.
    days: [Vec<u8>; KeyId::MAX_SEGMENTS],
}

impl Names {
    fn numbered(number: usize) -> Self {
        let named = |kind: &str| format!("{kind}{number}").into_bytes();
        Self {
            levels: ["1", "2", "3", "4"]
                .map(|level| ["k", "l"].map(|kind| named(&[kind, level, "-"].concat()))),
            more: ["x", "r", "e"].map(named),
            days: ["h1-", "h2-", "h3-", "h4-"].map(named),
        }
    }

    fn of_levels(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        self.levels[..count].iter().flatten().map(Vec::as_slice)
    }
}

/// The number of the keys of a ledger.
const LEDGER: usize = 3;
/// The most scripts that a server is given before all of them are forgotten.
const MOST_SCRIPTS: usize = 1_000;
