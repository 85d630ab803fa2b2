//! The decision on a call: the groups of its key and the key itself decide it together.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::replay::{
    Answer, Call, Charged, Crossed, Denial, Exceeded, KeyKind, LevelRule, Remaining, ScopeName,
};

use super::config::BUDGET;
use super::key::{AdmittedBy, Key};
use super::scope::RuleState;
use super::slots::{Holder, Slots};

/// The levels that a call meets: the groups of its key, the outermost first, and at last the key itself. Each has its path.
#[derive(Clone, Debug)]
pub(super) struct Path {
    levels: Vec<(String, Key)>,
    /// Of a reservation, which needs slots.
    reserving: Option<Reserving>,
}

/// A reservation that is being made.
#[derive(Clone, Debug)]
pub(super) struct Reserving {
    pub(super) holder: Holder,
    /// Until when it holds its slots.
    pub(super) until: i64,
    /// The slots that it got.
    pub(super) held: Held,
}

/// The windows that admitted a call, by level.
pub(super) type Admission = Vec<AdmittedBy>;

/// The slots that a reservation holds, or held until they expired: of each the level and the scope.
pub(super) type Held = Vec<(usize, ScopeName)>;

/// Some levels, by their places.
type Levels = BTreeSet<usize>;

impl Path {
    pub(super) fn new(levels: Vec<(String, Key)>) -> Self {
        Self { levels, reserving: None }
    }

    /// Does this as a reservation, and returns the slots that it got.
    pub(super) fn reserving<T>(
        &mut self,
        reserving: Reserving,
        act: impl FnOnce(&mut Self) -> T,
    ) -> (T, Held) {
        self.reserving = Some(reserving);
        let done = act(self);
        (done, self.reserving.take().map(|it| it.held).unwrap_or_default())
    }

    fn reserves(&self) -> bool {
        self.reserving.is_some()
    }

    pub(super) fn into_levels(self) -> Vec<(String, Key)> {
        self.levels
    }

    /// Returns the key itself, which remembers its calls.
    pub(super) fn own(&mut self) -> &mut Key {
        &mut self.levels.last_mut().expect("a key is a level of itself").1
    }

    /// Returns what holds the slots of a reservation of the key itself.
    pub(super) fn holder(&self, id: &str) -> Holder {
        let (path, key) = self.levels.last().expect("a key is a level of itself");
        Holder::new(path, key.number, id)
    }

    fn keys(&self) -> impl Iterator<Item = (usize, &Key)> {
        self.levels.iter().map(|(_, key)| key).enumerate()
    }

    fn those(&self, has: impl Fn(usize, &Key) -> bool) -> Levels {
        self.keys().filter(|(level, key)| has(*level, key)).map(|(level, _)| level).collect()
    }

    /// Returns the path of a group by its level; `None` for the key itself.
    fn group(&self, level: usize) -> Option<String> {
        (level + 1 < self.levels.len()).then(|| self.levels[level].0.clone())
    }

    /// `check_and_consume`: "in one atomic step: either all allow and all are charged, or nothing changes".
    ///
    /// "A level in shadow never denies. Where one of its rules would, that level is not charged, all other levels are decided
    /// and charged as ever, and the decision carries what would have been denied." If no level would be charged, nothing is
    /// written.
    pub(super) fn check(&mut self, call: &Call, now: i64) -> (Answer, Admission) {
        let enforced = self.those(|_, key| !key.shadow);
        let denial = self.denial_but_for_rules(now);
        if let Some(denial) = denial.or_else(|| self.denial(call, &enforced, now)) {
            self.rebase(call, now);
            return (Answer::Denied(denial), Admission::new());
        }
        let spared = self.those(|_, key| {
            key.shadow
                && (key.denies_asset(call) || !key.violated(call, self.reserves(), now).is_empty())
        });
        let shadowed = self.denial(call, &spared, now);
        if let Some(denial) = shadowed.clone().filter(|_| spared.len() == self.levels.len()) {
            self.rebase(call, now);
            return (Answer::Shadowed { denial, charged: None }, Admission::new());
        }
        let mut admission = Admission::new();
        let crossed = self.each(|level, key| {
            let (crossed, admitted_by) = key.charge(call, spared.contains(&level), now);
            admission.push(admitted_by);
            crossed
        });
        self.hold_slots(call, &spared);
        let remaining = self.remaining(call, now);
        let answer = match shadowed {
            None => Answer::Allowed { replayed: false, remaining, crossed },
            Some(denial) => {
                Answer::Shadowed { denial, charged: Some(Charged { remaining, crossed }) }
            }
        };
        (answer, admission)
    }

    /// "A check that consumes nothing (`peek`) answers the same decision and changes nothing."
    pub(super) fn peek(&self, call: &Call, now: i64) -> Answer {
        self.clone().check(call, now).0
    }

    /// "Answers `Allowed`, flagged `replayed`, with the state of now": nothing is written.
    pub(super) fn replayed(&self, call: &Call, now: i64) -> Answer {
        let remaining = self.remaining(call, now);
        Answer::Allowed { replayed: true, remaining, crossed: Vec::new() }
    }

    /// Returns the denial of what an amendment adds, or the answer in its place, if there is a reason.
    pub(super) fn refused_amendment(
        &self,
        admission: &Admission,
        [charged, amended, added]: [&Call; 3],
        now: i64,
    ) -> Option<Answer> {
        if let Some(denial) = self.denial_but_for_rules(now) {
            return Some(Answer::Denied(denial));
        }
        let denies = |level: usize, key: &Key| {
            key.denies_asset(added) || !key.fits(&admission[level], charged, amended, now)
        };
        let [enforced, shadow] = [false, true]
            .map(|shadow| self.those(|level, key| key.shadow == shadow && denies(level, key)));
        let denied = self.denial(added, &enforced, now).map(Answer::Denied);
        denied.or_else(|| {
            let denial = self.denial(added, &shadow, now)?;
            Some(Answer::Shadowed { denial, charged: None })
        })
    }

    /// Holds a slot of each parallel limit that a reservation meets. "A level in shadow holds none where it would deny."
    fn hold_slots(&mut self, call: &Call, spared: &Levels) {
        let Some(reserving) = &mut self.reserving else { return };
        for (level, (_, key)) in self.levels.iter_mut().enumerate() {
            let limited = key.limited_slots(call);
            for name in limited.into_iter().filter(|_| !spared.contains(&level)) {
                key.slots.hold(name.clone(), &reserving.holder, reserving.until);
                reserving.held.push((level, name));
            }
        }
    }

    /// Changes each of these slots.
    pub(super) fn each_slot(&mut self, held: &Held, change: impl Fn(&mut Slots, &ScopeName)) {
        for (level, name) in held {
            change(&mut self.levels[*level].1.slots, name);
        }
    }

    /// Corrects a call from what was charged to `actual`. Returns the thresholds that fire.
    pub(super) fn correct(
        &mut self,
        admission: &Admission,
        charged: &Call,
        actual: &Call,
        now: i64,
    ) -> Vec<Crossed> {
        self.each(|level, key| key.correct(&admission[level], charged, actual, now))
    }

    /// "A denial, whatever its reason, charges nothing but does store this [the rebase] for the scopes it meets".
    pub(super) fn rebase(&mut self, call: &Call, now: i64) {
        self.levels.iter_mut().for_each(|(_, key)| key.rebase(call, now));
    }

    /// Changes each level. Returns the thresholds that fire.
    fn each(&mut self, mut change: impl FnMut(usize, &mut Key) -> Vec<Crossed>) -> Vec<Crossed> {
        let mut all = Vec::new();
        for level in 0..self.levels.len() {
            let (crossed, group) = (change(level, &mut self.levels[level].1), self.group(level));
            all.extend(crossed.into_iter().map(|it| Crossed { group: group.clone(), ..it }));
        }
        all
    }

    /// "The first that holds in this order: …, `KeyExpired`, `AdminKey`"; "an expiry names its level".
    fn denial_but_for_rules(&self, now: i64) -> Option<Denial> {
        if let Some((level, _)) = self.keys().find(|(_, key)| key.has_expired(now)) {
            return Some(Denial::ExpiredKey { group: self.group(level) });
        }
        self.keys().any(|(_, key)| key.kind == KeyKind::Admin).then_some(Denial::AdminKey)
    }

    /// Returns the denial by these levels, if any of them has a reason.
    fn denial(&self, call: &Call, by: &Levels, now: i64) -> Option<Denial> {
        let mut keys = self.keys().filter(|(level, _)| by.contains(level));
        if let Some((level, _)) = keys.find(|(_, key)| key.denies_asset(call)) {
            return Some(Denial::AssetDenied { group: self.group(level) });
        }
        let violated = self.violated(call, by, now);
        let of_level = |(level, state): &(usize, RuleState)| LevelRule {
            group: self.group(*level),
            rule: state.rule,
        };
        let exceeded = Exceeded {
            binding: of_level(binding(&violated)?),
            violated: violated.iter().map(of_level).collect(),
            retry_at: self.retry_at(call, by, now).and_then(|at| at.try_into().ok()),
        };
        // "`BudgetExhausted` (a violated rule counts credits for `Ever`), `RateLimited`".
        let counts_budget = violated
            .iter()
            .any(|(_, state)| state.rule.window().zip(state.rule.unit()) == Some(BUDGET));
        Some(if counts_budget {
            Denial::BudgetExhausted(exceeded)
        } else {
            Denial::RateLimited(exceeded)
        })
    }

    /// "Every violated rule in canonical order": "outermost level first".
    fn violated(&self, call: &Call, by: &Levels, now: i64) -> Vec<(usize, RuleState)> {
        let keys = self.keys().filter(|(level, _)| by.contains(level));
        let of_level = |(level, key): (usize, &Key)| {
            key.violated(call, self.reserves(), now).into_iter().map(move |state| (level, state))
        };
        keys.flat_map(of_level).collect()
    }

    /// "The first instant at which this same charge would be admitted if nothing else were consumed. Only ends of the
    /// windows as they stand can be that, each tried in full (by then a pending limit may be in force, or the key may have
    /// expired). If none admits it, `retry_at` is none".
    fn retry_at(&self, call: &Call, by: &Levels, now: i64) -> Option<i64> {
        // "The windows as they stand" are those after the denial, also for a peek: it answers the same decision.
        let mut path = self.clone();
        path.rebase(call, now);
        let keys = path.keys().filter(|(level, _)| by.contains(level));
        let ends = |key: &Key| {
            let slots = key.violated(call, self.reserves(), now).into_iter();
            let slots = slots.filter(|state| state.rule.is_parallel());
            let freed = slots.filter_map(|state| state.resets_at);
            key.ends(call, now).into_iter().chain(freed).collect::<Vec<_>>()
        };
        let ends: BTreeSet<i64> = keys.flat_map(|(_, key)| ends(key)).collect();
        ends.into_iter().find(|&end| {
            let passes = |path: &Self| {
                path.denial_but_for_rules(end).is_none() && path.violated(call, by, end).is_empty()
            };
            let mut begun_again = path.clone();
            let own = begun_again.levels.last_mut();
            let again = own.and_then(|(_, key)| {
                *key = key.perhaps_begun_again_by(end)?;
                Some(())
            });
            passes(&path) && again.is_none_or(|()| passes(&begun_again))
        })
    }

    pub(super) fn remaining(&self, call: &Call, now: i64) -> Remaining {
        let of_level = |(level, key): (usize, &Key)| {
            let group = self.group(level);
            let left = |state: RuleState| {
                (LevelRule { group: group.clone(), rule: state.rule }, state.remaining())
            };
            key.rules(call, self.reserves(), now).into_iter().map(left).collect::<Vec<_>>()
        };
        Remaining(self.keys().flat_map(of_level).collect())
    }
}

/// "The binding rule is the violated one that resets last; ties go to the smaller limit, then to the first in canonical
/// order." One that never resets resets last.
fn binding(violated: &[(usize, RuleState)]) -> Option<&(usize, RuleState)> {
    violated.iter().min_by_key(|(level, state)| {
        (state.resets_at.is_some(), Reverse(state.resets_at), state.limit, *level, state.rule)
    })
}
