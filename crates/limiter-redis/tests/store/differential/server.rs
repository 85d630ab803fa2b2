//! A real server, on which the real scripts run.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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
        if self.takes.len() > MOST_SCRIPTS {
            self.forget_scripts();
        }
        let mut batch = Batch::default();
        let names: Vec<_> = (0..cases.len()).map(names).collect();
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
            let taken = scripts::take(&case.operation, case.stamps[0], &case.named(), kind(case));
            let (shape, argument) = taken.expect("it only takes");
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
            let each = if kind(first) > 0 { 5 } else { 2 };
            let keys = (each * numbers.len()).to_string();
            let mut words: Vec<&[u8]> = vec![b"EVALSHA", &digest, keys.as_bytes()];
            for number in &numbers {
                words.extend(names[*number][..each].iter().map(Vec::as_slice));
            }
            for (number, argument) in numbers.iter().zip(&arguments) {
                let case = &cases[*number];
                let second = case.records.get(1).map_or(&b""[..], |record| FIELDS[record.field]);
                words.extend([second, case.asset().unwrap_or_default(), argument]);
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
        let (third, field) = (3, b"f".to_vec());
        let extras = &case.extras;
        let with = |value: &Vec<u8>| (third, field.clone(), value.clone());
        let dropped = extras.drop.map(|dropped| match dropped {
            Dropped::Field => (third, field.clone()),
            Dropped::Whole => (third, Vec::new()),
            Dropped::Record => {
                let last = case.records.last().map_or(0, |record| record.field);
                (1, FIELDS[last].to_vec())
            }
        });
        let stored = scripts::Extras {
            not_after: extras.not_after,
            guards: extras.guard.iter().map(with).collect(),
            puts: extras.put.iter().map(with).collect(),
            drops: dropped.into_iter().collect(),
            ledger: extras.ledger.as_ref().map(|ledger| (ledger.kind, ledger.given.clone())),
            history: extras.kept_after.map(|kept_after| (HISTORY, kept_after)),
        };
        let mut arguments = scripts::apply(&case.operation, fields, shown, case.stamps, stored);
        arguments.extend(scripts::time(case.now));
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", &self.apply, b"6"];
        words.extend(names.iter().map(Vec::as_slice));
        words.extend(arguments.iter().map(Vec::as_slice));
        batch.add(&words)
    }
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
    let [hot, cold, third, entries, ended, days] = names;
    match case.script {
        Script::Take if kind(case) == 0 => batch.add(&[b"DEL", hot, cold]),
        _ => batch.add(&[b"DEL", hot, cold, third, entries, ended, days]),
    };
    let limits = FIELDS.iter().zip(&case.extras.cold);
    for (field, value) in limits.filter_map(|(field, value)| Some((field, value.as_ref()?))) {
        batch.add(&[b"HSET", cold, field, value]);
    }
    for end in &case.extras.closed {
        let end = end.to_string();
        batch.add(&[b"ZADD", days, end.as_bytes(), end.as_bytes()]);
    }
    if case.other_type {
        batch.add(&[b"SET", hot, b"text"]);
    } else {
        let mut words: Vec<&[u8]> = vec![b"HSET", hot];
        for stored in &case.records {
            if let Some(bytes) = &stored.bytes {
                words.extend([FIELDS[stored.field], bytes]);
            }
        }
        if words.len() > 2 {
            batch.add(&words);
        }
    }
    if let Some(field) = &case.extras.field {
        batch.add(&[b"HSET", third, b"f", field]);
    }
    if let Some(ledger) = &case.extras.ledger {
        for (id, entry) in &ledger.entries {
            batch.add(&[b"HSET", entries, id, entry]);
        }
        for (key, times) in [(third, &ledger.order), (ended, &ledger.ended)] {
            for (until, id) in &times.0 {
                batch.add(&[b"ZADD", key, until.to_string().as_bytes(), id]);
            }
        }
    }
}

/// Reads the data after a case.
fn look(batch: &mut Batch, case: &Case, names: &Names) -> Vec<usize> {
    let [hot, _, third, entries, ended, days] = names;
    let all = |key| [&b"ZRANGE"[..], key, b"0", b"-1", b"WITHSCORES"];
    let fields = [&[&b"HMGET"[..], hot], &FIELDS[..]].concat();
    let mut looks = vec![batch.add(&fields), batch.add(&all(days))];
    if case.extras.ledger.is_some() {
        looks.push(batch.add(&all(third)));
        looks.push(batch.add(&all(ended)));
        looks.push(batch.add(&[b"HGETALL", entries]));
    } else if case.script == Script::Apply {
        looks.push(batch.add(&[b"HGETALL", third]));
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
    let [hot, days, extras @ ..] = sent.after.as_slice() else {
        unreachable!("each case has a hash")
    };
    let found = texts(&replies[*hot]);
    if !case.other_type && found.as_ref().is_none_or(|found| *found != expected.hot) {
        let wanted = &expected.hot;
        return Err(format!("{letters}: expected {wanted:?}, but stored was {found:?}"));
    }
    let is_one_text = matches!(reply, Value::BulkString(_));
    if !is_one_text && parts != expected.shown {
        let wanted = &expected.shown;
        return Err(format!("{letters}: expected the fields {wanted:?}, but shown was {parts:?}"));
    }
    let found: BTreeSet<_> = times(&replies[*days]).0.into_iter().collect();
    if case.script == Script::Apply && found != expected.days {
        let wanted = &expected.days;
        return Err(format!("{letters}: expected the days {wanted:?}, but there were {found:?}"));
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
        (None, [third]) => {
            let (found, wanted) = (hash(&replies[*third]), &expected.field);
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
    let head = String::from_utf8(head).ok()?;
    let [seconds, micros] = scripts::time(case.now).map(|text| String::from_utf8(text).ok());
    let letters = head.strip_prefix(&seconds?)?.strip_suffix(&micros?)?;
    let possible = !letters.is_empty() && letters.bytes().all(|letter| letter.is_ascii_uppercase());
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

/// The names of the keys of a case: hot and cold, a third one, entries, ended ones, closed days.
type Names = [Vec<u8>; 6];

fn names(number: usize) -> Names {
    ["k", "l", "x", "r", "e", "h"].map(|kind| format!("{kind}{number}").into_bytes())
}

/// The number of the key of closed days.
const HISTORY: usize = 6;
/// The most scripts that a server is given before all of them are forgotten.
const MOST_SCRIPTS: usize = 1_000;
