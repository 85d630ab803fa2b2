//! The ledger of calls that are remembered by ids, and operations on it: the part of `apply.lua` that concerns it, in Rust.

use std::collections::BTreeMap;

use limiter_core::{LevelSet, Timestamp};

use super::case::MOST;
use super::random::Random;

/// A ledger operation, and the stored ledger before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// 1 an id that must be new, 2 a reservation that must be new, 3 a reservation that must be as given.
    pub(crate) kind: u8,
    pub(crate) given: Vec<Vec<u8>>,
    /// The ids of the first kind or the open reservations, by the time until which they are remembered.
    pub(crate) order: Times,
    pub(crate) ended: Times,
    pub(crate) entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A sorted set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times(pub(crate) Vec<(i64, Vec<u8>)>);

impl Ledger {
    pub(crate) fn random(now: Timestamp, random: &mut Random) -> Self {
        let kind = random.between(1, 3) as u8;
        let mut entries = BTreeMap::new();
        let (order, ended) = (Times::random(now, random), Times::random(now, random));
        for _ in 0..random.below(6) {
            let mut entry = about(now, random).to_le_bytes()[..7].to_vec();
            entry.extend((0..random.below(4)).map(|_| random.below(256) as u8));
            if random.percent(10) {
                entry.truncate(random.index(entry.len()));
            }
            entries.insert(id(random), entry);
        }
        let id = if random.percent(60) { entries.keys().next().cloned() } else { None }
            .unwrap_or_else(|| id(random));
        let life = |random: &mut Random| {
            random.one_of(&["0", "1", "1000", "18014398509481984"]).as_bytes().to_vec()
        };
        let most = |random: &mut Random| {
            random.one_of(&[0_u64, 1, 2, 3, 16, 17, 100_000]).to_string().into_bytes()
        };
        let text = |random: &mut Random| vec![random.below(256) as u8; random.index(3)];
        let given = match kind {
            1 => {
                let mut given = vec![id, life(random), most(random)];
                if random.percent(50) {
                    given.extend([self::id(random), life(random)]);
                }
                given
            }
            2 => vec![id, life(random), most(random), most(random), text(random), text(random)],
            _ => {
                let stored = entries.get(&id).cloned().filter(|_| random.percent(90));
                let instead = match text(random) {
                    entry if entry.is_empty() => entry,
                    entry => [&[random.one_of(&[GOES_ON, 1, 255])], &entry[..]].concat(),
                };
                // What goes on may be remembered as long as before, what ends may not.
                let as_before = instead.first().is_none_or(|first| *first == GOES_ON);
                let life = if as_before && random.percent(50) { Vec::new() } else { life(random) };
                vec![id, life, Vec::new(), stored.unwrap_or_else(|| text(random)), instead]
            }
        };
        Self { kind, given, order, ended, entries }
    }

    /// The entry of the id.
    pub(crate) fn entry(&self) -> Option<&Vec<u8>> {
        self.entries.get(&self.given[0])
    }

    /// The stored entry, or time, of the id if the ledger refuses the operation.
    pub(crate) fn refusal(&self, now: Timestamp) -> Option<Option<Vec<u8>>> {
        let now = now.unix_ms();
        if self.kind == 1 {
            let until = self.order.of(&self.given[0]).filter(|until| *until > now)?;
            return Some(Some(until.to_string().into_bytes()));
        }
        let lives = self.entry().is_some_and(|entry| entry.len() > 7 && until_of(entry) > now);
        let is_given = self.entry() == self.given.get(3);
        let refused = if self.kind == 2 { lives } else { !(lives && is_given) };
        refused.then(|| self.entry().cloned())
    }

    /// Makes room: `None` if there is room, else the time at which there will be. Expired entries are dropped in either case.
    pub(crate) fn full(&mut self, now: Timestamp) -> Option<Vec<u8>> {
        let now = now.unix_ms();
        let most = |at: usize| String::from_utf8_lossy(&self.given[at]).parse().expect("a number");
        match self.kind {
            1 => {
                let full = room(&mut self.order, None, most(2), now);
                (!full.is_empty()).then(|| full.into_bytes())
            }
            2 => {
                let (open, ended) = (most(2), most(3));
                let open = room(&mut self.order, Some(&mut self.entries), open, now);
                let ended = room(&mut self.ended, Some(&mut self.entries), ended, now);
                let full = format!("{open},{ended}");
                (full != ",").then(|| full.into_bytes())
            }
            _ => None,
        }
    }

    /// Remembers the id, which may have had an entry; the identities are those of the windows afterwards. The call did not fit
    /// in these levels.
    pub(crate) fn remember(
        &mut self,
        identities: &[u8],
        spared: LevelSet,
        had_entry: bool,
        now: Timestamp,
    ) {
        let id = self.given[0].clone();
        let until = |life: &[u8]| {
            let life: i64 = String::from_utf8_lossy(life).parse().expect("a number");
            now.unix_ms().saturating_add(life).min(MOST)
        };
        let stored = self.entry().cloned().unwrap_or_default();
        let given = &self.given;
        let ends = (!given[1].is_empty()).then(|| until(&given[1]));
        let head =
            |ends: i64, spared: LevelSet| [&ends.to_le_bytes()[..7], &[spared.bits()]].concat();
        match (self.kind, ends) {
            (1, Some(ends)) => {
                self.order.put(ends, &id);
                if let [_, _, _, sooner, life] = given.as_slice() {
                    let ends = until(life);
                    if self.order.of(sooner).is_some_and(|confirmed| confirmed > ends) {
                        self.order.put(ends, sooner);
                    }
                }
            }
            (2, Some(ends)) => {
                let entry = [&head(ends, spared), &given[4][..], identities, &given[5]].concat();
                self.entries.insert(id.clone(), entry);
                self.order.put(ends, &id);
                if had_entry {
                    self.ended.drop(&id);
                }
            }
            // It is to be forgotten.
            _ if given[4].is_empty() => {
                self.entries.remove(&id);
                self.order.drop(&id);
            }
            (_, ends) if given[4][0] == GOES_ON => {
                let mut entry = [&stored[..8], &given[4]].concat();
                if let Some(ends) = ends {
                    entry[..7].copy_from_slice(&ends.to_le_bytes()[..7]);
                    self.order.put(ends, &id);
                }
                self.entries.insert(id, entry);
            }
            (_, None) => unreachable!("what ends is remembered for some time"),
            (_, Some(ends)) => {
                let entry = [&head(ends, LevelSet::NONE), &given[4][..]].concat();
                self.entries.insert(id.clone(), entry);
                self.order.drop(&id);
                self.ended.put(ends, &id);
            }
        }
    }
}

/// How the entry begins of a reservation that goes on.
const GOES_ON: u8 = 0;

impl Times {
    fn random(now: Timestamp, random: &mut Random) -> Self {
        let mut times = Self::default();
        let count = if random.percent(5) { random.between(15, 40) } else { random.below(4) };
        for number in 0..count {
            let id = if count > 8 { number.to_string().into_bytes() } else { id(random) };
            times.put(about(now, random), &id);
        }
        times
    }

    fn of(&self, id: &[u8]) -> Option<i64> {
        self.0.iter().find(|(_, listed)| listed == id).map(|(until, _)| *until)
    }

    fn drop(&mut self, id: &[u8]) {
        self.0.retain(|(_, listed)| listed != id);
    }

    fn put(&mut self, until: i64, id: &[u8]) {
        self.drop(id);
        self.0.push((until, id.to_vec()));
        self.0.sort();
    }
}

fn room(
    times: &mut Times,
    entries: Option<&mut BTreeMap<Vec<u8>, Vec<u8>>>,
    most: usize,
    now: i64,
) -> String {
    let (count, mut passed) = (times.0.len(), 0);
    if count >= most || (count.is_multiple_of(16) && count > 0) {
        passed = times.0.iter().filter(|(until, _)| *until <= now).count();
        if let Some(above) = (count - passed).checked_sub(most) {
            let first = times.0.get(passed + above);
            return first.map_or_else(|| "never".to_owned(), |(until, _)| until.to_string());
        }
    }
    let gone: Vec<_> = times.0.drain(..passed.min(32)).collect();
    if let Some(entries) = entries {
        gone.iter().for_each(|(_, id)| drop(entries.remove(id)));
    }
    String::new()
}

fn until_of(entry: &[u8]) -> i64 {
    let mut wide = [0; 8];
    wide[1..].copy_from_slice(&entry[..7]);
    i64::from_le_bytes(wide) >> 8
}

fn about(now: Timestamp, random: &mut Random) -> i64 {
    let by = random.one_of(&[-1_000, -1, 0, 1, 1_000, 1_000, 100_000]);
    (now.unix_ms() + by).clamp(-MOST, MOST)
}

fn id(random: &mut Random) -> Vec<u8> {
    random.one_of(&["a", "b", "c", "d"]).as_bytes().to_vec()
}
