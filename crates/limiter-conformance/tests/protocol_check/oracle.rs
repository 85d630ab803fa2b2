//! The oracle: it replays the effects of operations, in the order in which the server did them. It shares no code with the
//! core: whole numbers, plain sums, a set of the thresholds that have fired in each window.

mod level;
mod scope;
mod slots;
mod stored;

use std::collections::BTreeMap;

use limiter_core::Timestamp;

use self::level::{Call, Level};
use self::slots::Slots;
use crate::path::{Path, Subject};
use crate::server::Slot;
use crate::world::SLOT_TIME;

/// The effect of an operation that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Check { of: Subject, cost: Cost },
    Reserve { id: u8, of: Subject, cost: Cost },
    Amend { id: u8, path: Path, to: Cost },
    End { id: u8, path: Path, actual: Cost },
    Rebase { of: Subject },
    Change { level: usize, to: Wanted },
    Create { level: usize, group: Option<usize>, wanted: Wanted },
    Delete { level: usize },
}

/// The cost of a call, with its credits in millionths, and whether it holds a slot of each parallel limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cost {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    pub(crate) credits: u64,
    pub(crate) slot: bool,
}

/// Requests and tokens of a minute, then of a day.
pub(crate) type Limits = [[Option<u64>; 2]; 2];

/// A configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) global: Limits,
    pub(crate) asset: Limits,
    /// The parallel limits of all calls and of the asset.
    pub(crate) parallel: [Option<u64>; 2],
    pub(crate) budget: Option<u64>,
    pub(crate) thresholds: Vec<u8>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// The levels that exist, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Oracle {
    levels: BTreeMap<usize, Level>,
}

/// A reservation that holds a slot: its key and its id.
pub(crate) type Holder = (usize, u8);

/// A rule with its count and limit: its place in the path of the call, its scope, window and unit.
pub(crate) type Counted = ([usize; 4], u64, u64);

/// A threshold: its rule, percent, used, limit.
pub(crate) type Fired = ([usize; 4], u8, u64, u64);

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    Allowed,
    Unknown,
    /// The place of the outermost level that has expired.
    Expired(usize),
    /// The rules that are violated, whether a budget is among them, and when the call would fit.
    Limited {
        violated: Vec<Counted>,
        budget: bool,
        retry_at: Option<i64>,
    },
}

impl Oracle {
    pub(crate) fn decide(&self, of: Subject, cost: Cost, now: Timestamp) -> Decided {
        let Some(levels) = self.levels_of(of.path) else { return Decided::Unknown };
        let now = now.unix_ms();
        let decided = decide(&levels, of.asset, cost, now);
        let Decided::Limited { violated, budget, .. } = decided else { return decided };
        let rebased: Vec<_> = levels.iter().map(|level| level.rebased(of.asset, now)).collect();
        let rebased: Vec<_> = rebased.iter().collect();
        let instants = rebased.iter().flat_map(|level| level.instants(of.asset, cost, now));
        let mut instants: Vec<_> = instants.collect();
        instants.sort_unstable();
        let fits = |at: &i64| decide(&rebased, of.asset, cost, *at) == Decided::Allowed;
        Decided::Limited { violated, budget, retry_at: instants.into_iter().find(fits) }
    }

    /// The rules that apply to a call, with their counts and limits.
    pub(crate) fn rules(&self, of: Subject, cost: Cost, now: Timestamp) -> Vec<Counted> {
        let levels = self.levels_of(of.path).unwrap_or_default();
        rules(&levels, of.asset, cost, now.unix_ms())
    }

    /// All slots, in order, with those that have expired.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let mut all = Vec::new();
        for (number, level) in &self.levels {
            for (scope, slots) in level.slots.iter().enumerate() {
                all.extend(slots.held.iter().map(|(by, until)| (*number, scope, *by, *until)));
            }
        }
        all
    }

    /// Whether a key has a reservation of this id.
    pub(crate) fn has_reserved(&self, path: Path, id: u8) -> bool {
        self.levels.get(&path.own()).is_some_and(|key| key.calls.contains_key(&id))
    }

    /// Whether the group of a key has a slot of a call of this id that the key does not have: an older key had it.
    pub(crate) fn has_left(&self, path: Path, id: u8) -> bool {
        let held = self.slots().iter().any(|(_, _, holder, _)| *holder == (path.own(), id));
        held && !self.has_reserved(path, id)
    }

    /// Whether slots that have expired leave room for a call that there would not be otherwise.
    pub(crate) fn has_room_of_expired(&self, of: Subject, now: Timestamp) -> bool {
        let levels = self.levels_of(of.path).unwrap_or_default();
        let mut met = levels.iter().flat_map(|level| level.slots_met(of.asset));
        met.any(|(_, slots)| slots.has_room_of_expired(now.unix_ms()))
    }

    /// Whether each slot of a reservation has expired. It holds one at least.
    pub(crate) fn has_outlived_its_slots(&self, path: Path, id: u8, now: Timestamp) -> bool {
        let held = self.open(path, id).map(|call| &call.slots).filter(|held| !held.is_empty());
        held.is_some_and(|held| {
            held.iter().all(|(place, scope)| {
                let level = self.levels.get(&path.at(*place));
                let slots = level.map(|level| &level.slots[*scope]);
                slots.is_some_and(|slots| slots.has_expired((path.own(), id), now.unix_ms()))
            })
        })
    }

    /// The sum of the counts of each level.
    pub(crate) fn used(&self) -> Vec<u128> {
        self.levels.values().map(Level::used).collect()
    }

    /// Whether a window of the call's scopes is so far in the future that it must be rebased.
    pub(crate) fn is_ahead(&self, of: Subject, now: Timestamp) -> bool {
        let levels = self.levels_of(of.path).unwrap_or_default();
        levels.into_iter().any(|level| level.rebased(of.asset, now.unix_ms()) != *level)
    }

    /// The levels of a key, if all of them exist.
    fn levels_of(&self, path: Path) -> Option<Vec<&Level>> {
        path.levels().map(|level| self.levels.get(&level)).collect()
    }

    /// Applies the effect of an operation, if that is allowed. Returns the thresholds that fire.
    pub(crate) fn take_effect(
        &mut self,
        effect: &Effect,
        now: Timestamp,
    ) -> Result<Vec<Fired>, String> {
        let ms = now.unix_ms();
        match effect {
            Effect::Check { of, cost } => {
                self.admit(*of, *cost, now)?;
                Ok(self.charge(*of, *cost, now))
            }
            Effect::Reserve { id, of, cost } => {
                self.admit(*of, *cost, now)?;
                let fired = self.charge(*of, *cost, now);
                let levels = self.levels_of(of.path).ok_or("a reservation of no key")?;
                let admitted = levels.iter().map(|level| level.ids(of.asset)).collect();
                let met = levels.iter().enumerate().flat_map(|(place, level)| {
                    level.slots_met(of.asset).map(move |(scope, _)| (place, scope))
                });
                let slots = met.collect();
                let call = Call { asset: of.asset, cost: *cost, admitted, slots, ended: false };
                let until = now.after(SLOT_TIME).unix_ms();
                self.each_slot(of.path, *id, &call, |slots, holder| slots.hold(holder, until));
                let key = self.levels.get_mut(&of.path.own()).ok_or("a reservation of no key")?;
                match key.calls.insert(*id, call) {
                    Some(_) => Err("a call was reserved twice".to_owned()),
                    None => Ok(fired),
                }
            }
            Effect::Amend { id, path, to } => {
                let call = self.open(*path, *id).ok_or("an amendment of nothing")?;
                let of = Subject { path: *path, asset: call.asset };
                let (call, added) = (call.clone(), to.beyond(call.cost));
                if added != Cost::default() {
                    self.admit(of, added, now)?;
                }
                let until = now.after(SLOT_TIME).unix_ms();
                self.each_slot(*path, *id, &call, |slots, holder| slots.renew(holder, ms, until));
                Ok(self.correct(of, *id, *to, now))
            }
            Effect::End { id, path, actual } => {
                let call = self.open(*path, *id).ok_or("the end of a call that is not open")?;
                let of = Subject { path: *path, asset: call.asset };
                let call = call.clone();
                self.each_slot(*path, *id, &call, |slots, holder| slots.free(holder));
                let fired = self.correct(of, *id, *actual, now);
                self.call_mut(*path, *id).ended = true;
                Ok(fired)
            }
            Effect::Rebase { of } => Ok(self.each(of.path, |_, level| {
                *level = level.rebased(of.asset, ms);
                Vec::new()
            })),
            Effect::Change { level, to } => {
                let changed = self.levels.get_mut(level).ok_or("a change of no key")?;
                changed.change(to, ms);
                Ok(Vec::new())
            }
            Effect::Create { level, group, wanted } => {
                if group.is_some_and(|group| !self.levels.contains_key(&group)) {
                    return Err("a key was created beneath no group".to_owned());
                }
                let created = Level::created(wanted, *group, ms);
                match self.levels.insert(*level, created) {
                    Some(_) => Err("a key was created twice".to_owned()),
                    None => Ok(Vec::new()),
                }
            }
            Effect::Delete { level } => {
                if self.levels.values().any(|other| other.group == Some(*level)) {
                    return Err("a group was deleted with a key beneath it".to_owned());
                }
                self.levels
                    .remove(level)
                    .map(|_| Vec::new())
                    .ok_or_else(|| "no key was deleted".to_owned())
            }
        }
    }

    fn admit(&self, of: Subject, cost: Cost, now: Timestamp) -> Result<(), String> {
        match self.decide(of, cost, now) {
            Decided::Allowed => Ok(()),
            denied => Err(format!("{cost:?} of {of:?} was admitted: {denied:?}")),
        }
    }

    fn charge(&mut self, of: Subject, cost: Cost, now: Timestamp) -> Vec<Fired> {
        self.each(of.path, |_, level| level.charge(of.asset, cost, now.unix_ms()))
    }

    /// Corrects the cost of a call.
    fn correct(&mut self, of: Subject, id: u8, to: Cost, now: Timestamp) -> Vec<Fired> {
        let call = self.call_mut(of.path, id);
        let before = call.clone();
        call.cost = to;
        self.each(of.path, |place, level| level.correct(&before, place, to, now.unix_ms()))
    }

    /// Changes each level of a path. Returns the thresholds that fire.
    fn each(
        &mut self,
        path: Path,
        mut change: impl FnMut(usize, &mut Level) -> Vec<([usize; 3], u8, u64, u64)>,
    ) -> Vec<Fired> {
        let mut all = Vec::new();
        for (place, number) in path.levels().enumerate() {
            let Some(level) = self.levels.get_mut(&number) else { continue };
            let fired = change(place, level).into_iter();
            all.extend(
                fired.map(|(rule, percent, used, limit)| (at(place, rule), percent, used, limit)),
            );
        }
        all.sort_unstable();
        all
    }

    /// Changes each set in which a reservation holds a slot, or held one until it expired.
    fn each_slot(&mut self, path: Path, id: u8, call: &Call, change: impl Fn(&mut Slots, Holder)) {
        for (place, scope) in &call.slots {
            if let Some(level) = self.levels.get_mut(&path.at(*place)) {
                change(&mut level.slots[*scope], (path.own(), id));
            }
        }
    }

    /// A reservation of a key that has not ended.
    fn open(&self, path: Path, id: u8) -> Option<&Call> {
        self.levels.get(&path.own())?.calls.get(&id).filter(|call| !call.ended)
    }

    fn call_mut(&mut self, path: Path, id: u8) -> &mut Call {
        let key = self.levels.get_mut(&path.own());
        key.and_then(|key| key.calls.get_mut(&id)).expect("the call is open")
    }
}

fn decide(levels: &[&Level], asset: bool, cost: Cost, now: i64) -> Decided {
    if let Some(place) = levels.iter().position(|level| level.has_expired(now)) {
        return Decided::Expired(place);
    }
    let mut violated = rules(levels, asset, cost, now);
    violated.retain(|(rule, used, limit)| match rule[2] {
        PARALLEL => used >= limit,
        _ => !admits(*limit, *used, cost.of(rule[3]), cost.requests),
    });
    if violated.is_empty() {
        return Decided::Allowed;
    }
    let budget = violated.iter().any(|(rule, ..)| rule[2] == EVER);
    Decided::Limited { violated, budget, retry_at: None }
}

fn rules(levels: &[&Level], asset: bool, cost: Cost, now: i64) -> Vec<Counted> {
    let of_level = |(place, level): (usize, &&Level)| {
        let rules = level.rules(asset, cost, now).into_iter();
        rules.map(move |(rule, used, limit)| (at(place, rule), used, limit)).collect::<Vec<_>>()
    };
    let mut rules: Vec<_> = levels.iter().enumerate().flat_map(of_level).collect();
    rules.sort_unstable();
    rules
}

/// A rule of the level at this place of a path.
fn at(place: usize, [scope, window, unit]: [usize; 3]) -> [usize; 4] {
    [place, scope, window, unit]
}

/// Whether a limit of which `used` is used admits `more`.
fn admits(limit: u64, used: u64, more: u64, requests: u64) -> bool {
    match (more, requests) {
        (0, 0) => true,
        (0, _) => used < limit,
        _ => used + more <= limit,
    }
}

impl Wanted {
    /// Whether it limits or lists a scope: 0 for all calls, 1 for the asset.
    pub(crate) fn lists(&self, scope: usize) -> bool {
        scope == 0 || self.asset != NO_LIMITS || self.parallel[1].is_some()
    }
}

impl Cost {
    pub(crate) fn of(self, unit: usize) -> u64 {
        [self.requests, self.tokens, self.credits][unit]
    }

    /// The tokens and credits by which it exceeds another cost.
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self {
            requests: 0,
            tokens: self.tokens.saturating_sub(other.tokens),
            credits: self.credits.saturating_sub(other.credits),
            slot: false,
        }
    }
}

const NO_LIMITS: Limits = [[None; 2]; 2];
/// The window of the budget, after the minute and the day.
const EVER: usize = 2;
/// In place of the window of a parallel limit. Its unit is 0.
pub(crate) const PARALLEL: usize = 3;
