//! One key or group: its scopes, and the changes of its configuration.

use std::collections::{BTreeMap, BTreeSet};

use crate::replay::{
    Answer, Call, Create, Credits, Crossed, Effective, KeyKind, Limits, Other, Problem, Row,
    RuleUsage, ScopeName, TimeZone, Unit, Update, Usage, Window,
};

use super::fired::THRESHOLDS;
use super::history::Closed;
use super::remembered::Remembered;
use super::reservation::Reservation;
use super::scope::{Changing, RuleState, Scope};
use super::slots::Slots;
use super::window::Admitted;

/// A living key or group, which is one level of a call: the counted scopes, and those whose last counts were not dropped yet.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// No other key has it.
    pub(super) number: u64,
    pub(super) kind: KeyKind,
    pub(super) scopes: BTreeMap<ScopeName, Scope>,
    /// The assets that the configuration lists.
    listed: BTreeSet<String>,
    denies_other: bool,
    expires_at: Option<i64>,
    pub(super) zone: TimeZone,
    /// Its own thresholds, if any.
    thresholds: Option<Vec<u8>>,
    pub(super) shadow: bool,
    pub(super) slots: Slots,
    version: u64,
    pub(super) closed: Vec<Closed>,
    /// The latest instant that the clock has shown.
    pub(super) latest: i64,
    pub(super) open: Remembered<Reservation>,
    pub(super) ended: Remembered<Reservation>,
    /// The ids of checks. "Ids of checks and of reservations are separate."
    pub(super) checks: Remembered<()>,
}

/// The windows of one level that admitted a call, by scope. A level that was spared has none.
pub(super) type AdmittedBy = BTreeMap<ScopeName, Vec<Admitted>>;

/// The limits of every scope, as an admin sets them.
struct Config {
    global: Limits,
    assets: BTreeMap<String, Limits>,
    other: Other,
}

impl Key {
    /// "A new level's limits are in force at once."
    pub(super) fn created(create: &Create, number: u64, now: i64) -> Self {
        let mut key = Self {
            number,
            kind: create.kind,
            scopes: BTreeMap::new(),
            listed: BTreeSet::new(),
            denies_other: false,
            expires_at: create.expires_at.map(instant),
            zone: create.time_zone.clone(),
            thresholds: create.thresholds.as_deref().map(rising),
            shadow: create.shadow,
            slots: Slots::default(),
            version: 1,
            closed: Vec::new(),
            latest: now,
            open: Remembered::default(),
            ended: Remembered::default(),
            checks: Remembered::default(),
        };
        // The global scope of a key is counted "from its creation".
        key.begin(ScopeName::Global, now);
        let config = Config {
            global: Limits {
                parallel: create.parallel,
                ..create.global.with_budget(create.budget)
            },
            assets: listed(&create.assets),
            other: create.other.clone().unwrap_or_else(|| Other::Limited(Limits::default())),
        };
        let zone = key.zone.clone();
        key.configure(&config, true, [&zone, &zone], now);
        key
    }

    /// "Updates carry the version they were read at; a stale one gets a conflict error …, and nothing is written."
    pub(super) fn update(&mut self, update: &Update, now: i64) -> Answer {
        let Config { global, assets, other } = self.config();
        let budget = global.amounts.get(&BUDGET).copied();
        let parallel = update.parallel.changed().unwrap_or(global.parallel);
        let global = match update.global.clone().changed() {
            Some(changed) => changed.unwrap_or_default().with_budget(budget),
            None => global,
        };
        let global = match update.budget.changed() {
            Some(budget) => without_budget(global).with_budget(budget),
            None => global,
        };
        let global = Limits { parallel, ..global };
        let assets = match update.assets.clone().changed() {
            Some(changed) => listed(&changed.unwrap_or_default()),
            None => assets,
        };
        let other = match update.other.clone().changed() {
            Some(changed) => changed.unwrap_or_else(|| Other::Limited(Limits::default())),
            None => other,
        };
        if !global.is_within_bounds() {
            return Answer::Error(Problem::Invalid);
        }
        if update.version.is_some_and(|version| version != self.version) {
            return Answer::Error(Problem::Stale);
        }
        let (before, thresholds) = (self.clone(), self.thresholds());
        if let Some(changed) = update.expires_at.changed() {
            self.expires_at = changed.map(instant);
        }
        if let Some(changed) = update.thresholds.clone().changed() {
            self.thresholds = changed.as_deref().map(rising);
        }
        self.shadow = update.shadow.unwrap_or(self.shadow);
        let zone = self.zone.clone();
        if let Some(changed) = update.time_zone.clone().changed() {
            self.zone = changed.unwrap_or_default();
        }
        let new_zone = self.zone.clone();
        let config = Config { global, assets, other };
        let is_now = update.effective == Effective::Now;
        let mut crossed = self.configure(&config, is_now, [&zone, &new_zone], now);
        // "Changes of … thresholds … are always at once."
        let rearmed = self.thresholds();
        if rearmed != thresholds {
            for scope in self.scopes.values_mut() {
                crossed.extend(scope.rearm(&rearmed, now));
            }
        }
        crossed.sort_by_key(|it| (it.rule.scope, it.asset.clone(), it.rule, it.percent));
        if self.settings(now) == before.settings(now) {
            // "Saving what is already configured changes nothing", also not the version.
            *self = before;
        } else {
            self.version += 1;
        }
        Answer::Updated { crossed }
    }

    /// Changes the limits. Returns the thresholds that this fires by itself.
    fn configure(
        &mut self,
        config: &Config,
        is_now: bool,
        zones: [&TimeZone; 2],
        now: i64,
    ) -> Vec<Crossed> {
        let none = Limits::default();
        let of_other = match &config.other {
            Other::Limited(limits) => limits,
            Other::Denied => &none,
        };
        // "A changed zone first moves all scopes of the level to the window of now."
        let moves = zones[0] != zones[1];
        if moves {
            self.drop_all_over(now);
        }
        self.denies_other = config.other == Other::Denied;
        self.listed = config.assets.keys().cloned().collect();
        for asset in config.assets.keys() {
            self.begin(ScopeName::Asset(asset.clone()), now);
        }
        // "Parallel limits" change "always at once".
        self.slots.limit(ScopeName::Global, config.global.parallel);
        self.slots.unlist();
        for (asset, limits) in &config.assets {
            self.slots.limit(ScopeName::Asset(asset.clone()), limits.parallel);
        }
        self.slots.limit(ScopeName::Other, of_other.parallel);
        if !of_other.amounts.is_empty() {
            self.begin(ScopeName::Other, now);
        }
        let thresholds = self.thresholds();
        let mut crossed = Vec::new();
        for name in self.scopes.keys().cloned().collect::<Vec<_>>() {
            let limits = match &name {
                ScopeName::Global => &config.global,
                ScopeName::Asset(asset) => config.assets.get(asset).unwrap_or(&none),
                ScopeName::Other => of_other,
            };
            let changing = Changing { limits, is_now, thresholds: &thresholds, now, zones };
            let mut scope = self.scopes[&name].clone();
            let is_day_over = scope.day().0 <= now;
            if moves || scope.differs(&changing) {
                crossed.extend(scope.change(&changing, moves));
                self.put(name.clone(), scope.clone(), now);
            }
            let has_limits = scope.as_of(now, &self.zone).has_limits();
            if is_day_over && !self.is_configured(&name) && !has_limits {
                // Nothing is left of it: its limits have ended, now or before, and so has its day.
                if let Some(over) = self.scopes.remove(&name) {
                    self.close(&name, &over, now);
                }
            }
        }
        crossed
    }

    /// Counts a scope from now on, if it is not counted yet.
    fn begin(&mut self, name: ScopeName, now: i64) {
        if self.scope(&name, now).is_none() {
            // Counts of an earlier time under this name are over.
            if let Some(over) = self.scopes.remove(&name) {
                self.close(&name, &over, now);
            }
            let scope = Scope::begun(name.clone(), now, &self.zone);
            self.scopes.insert(name, scope);
        }
    }

    /// "Sets what is used to zero now, in all windows but `Ever`; what the day's account had counted is kept in the day's
    /// row of history; open reservations of those windows then find them closed."
    pub(super) fn reset(&mut self, now: i64) -> Answer {
        self.drop_all_over(now);
        for name in self.scopes.keys().cloned().collect::<Vec<_>>() {
            let moved = self.scopes[&name].as_of(now, &self.zone);
            self.put(name.clone(), moved, now);
            if let Some(scope) = self.scopes.get_mut(&name) {
                let (end, account) = scope.day();
                scope.reset();
                self.closed.push(Closed { end, scope: name, account });
            }
        }
        Answer::Ok
    }

    /// "Reading usage never changes it, and shows a window that has passed as empty."
    pub(super) fn usage(&self, now: i64) -> Usage {
        let scopes = self.scopes.keys().filter_map(|name| self.scope(name, now));
        let mut rows: Vec<Row> = scopes.map(|scope| scope.row()).collect();
        for (name, state) in self.slots.states(now) {
            let rule = RuleUsage {
                measure: state.rule.measure,
                used: state.used,
                limit: state.limit,
                resets_at: None,
            };
            match rows.iter_mut().find(|row| row.scope == name) {
                Some(row) => row.rules.push(rule),
                // A parallel limit alone makes no scope counted.
                None => rows.push(Row::uncounted(name, rule)),
            }
        }
        let global = &self.scopes[&ScopeName::Global];
        let budget = global.in_force().amounts.get(&BUDGET).copied();
        Usage { rows, credits: Credits { spent: global.spent(), budget } }
    }

    /// "A level is expired from its `expires_at` on".
    pub(super) fn has_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|expires_at| now >= expires_at)
    }

    /// "`Other` may instead be `Denied`: then only listed assets may be called."
    pub(super) fn denies_asset(&self, call: &Call) -> bool {
        let is_other = call.asset.as_ref().is_some_and(|asset| !self.listed.contains(asset));
        self.denies_other && is_other
    }

    /// Returns the rules that do not admit the call, in canonical order.
    pub(super) fn violated(&self, call: &Call, reserves: bool, now: i64) -> Vec<RuleState> {
        let rules = self.rules(call, reserves, now);
        rules.into_iter().filter(|state| !state.admits(call)).collect()
    }

    /// Returns the ends of the windows that the call meets.
    pub(super) fn ends(&self, call: &Call, now: i64) -> Vec<i64> {
        self.met(call, now).iter().flat_map(|(_, scope)| scope.ends()).collect()
    }

    /// Returns the rules of this level that the call meets, in canonical order. "A parallel limit of a scope … is met by
    /// `reserve` alone".
    pub(super) fn rules(&self, call: &Call, reserves: bool, now: i64) -> Vec<RuleState> {
        let amounts = self.met(call, now);
        let amounts = amounts.iter().flat_map(|(_, scope)| scope.rules());
        let parallel = self.limited_slots(call).into_iter().filter(|_| reserves);
        let parallel = parallel.filter_map(|name| self.slots.state(&name, now));
        let mut rules: Vec<_> = amounts.chain(parallel).collect();
        rules.sort_by_key(|state| state.rule);
        rules
    }

    /// Returns the scopes of a call in which a reservation needs a slot: a listed asset is one of its own, at once.
    pub(super) fn limited_slots(&self, call: &Call) -> Vec<ScopeName> {
        let of_asset = call.asset.as_ref().map(|asset| match self.listed.contains(asset) {
            true => ScopeName::Asset(asset.clone()),
            false => ScopeName::Other,
        });
        let met = [Some(ScopeName::Global), of_asset].into_iter().flatten();
        met.filter(|name| self.slots.has_limit(name)).collect()
    }

    /// Returns the scope as written now, if it is counted. "One that is no longer listed keeps its scope … until its
    /// limits have ended and its day is over."
    pub(super) fn scope(&self, name: &ScopeName, now: i64) -> Option<Scope> {
        let stored = self.scopes.get(name)?;
        let scope = stored.as_of(now, &self.zone);
        let is_day_over = stored.day().0 <= now;
        (self.is_configured(name) || scope.has_limits() || !is_day_over).then_some(scope)
    }

    /// Returns whether the configuration keeps a scope, limited or not.
    fn is_configured(&self, name: &ScopeName) -> bool {
        match name {
            ScopeName::Global => true,
            ScopeName::Asset(asset) => self.listed.contains(asset),
            ScopeName::Other => false,
        }
    }

    /// Returns the scopes that the call meets, as written now, in canonical order.
    ///
    /// "A call of no asset meets global scopes only." "An asset that is not listed meets `Other`, if that has limits". "As
    /// long as a first limit of it is pending, its calls meet `Other` too."
    fn met(&self, call: &Call, now: i64) -> Vec<(ScopeName, Scope)> {
        let counted = |name: ScopeName| Some((name.clone(), self.scope(&name, now)?));
        let global = counted(ScopeName::Global);
        let Some(asset) = &call.asset else { return global.into_iter().collect() };
        let asset = counted(ScopeName::Asset(asset.clone()));
        let meets_other = asset.as_ref().is_none_or(|(_, scope)| scope.waits_for_its_first_limit());
        let other =
            counted(ScopeName::Other).filter(|(_, other)| meets_other && other.has_limits());
        global.into_iter().chain(asset).chain(other).collect()
    }

    /// Charges a call, or only moves the windows if this level is spared. Returns the thresholds that fire, and the windows
    /// that admitted it.
    pub(super) fn charge(
        &mut self,
        call: &Call,
        is_spared: bool,
        now: i64,
    ) -> (Vec<Crossed>, AdmittedBy) {
        let (thresholds, mut admitted_by) = (self.thresholds(), AdmittedBy::new());
        let mut crossed = Vec::new();
        for (name, mut scope) in self.met(call, now) {
            if !is_spared {
                admitted_by.insert(name.clone(), scope.admit(call));
                crossed.extend(scope.fire(&thresholds));
            }
            self.put(name, scope, now);
        }
        self.drop_over(call, now);
        (crossed, admitted_by)
    }

    /// Returns the scopes that a correction of a call concerns: those that the call meets now, and `Other` if that
    /// admitted it. "A scope that is no longer counted is skipped."
    fn corrected(
        &self,
        call: &Call,
        admitted_by: &AdmittedBy,
        now: i64,
    ) -> Vec<(ScopeName, Scope)> {
        let mut scopes = self.met(call, now);
        let is_met = |name: &ScopeName| scopes.iter().any(|(met, _)| met == name);
        if admitted_by.contains_key(&ScopeName::Other) && !is_met(&ScopeName::Other) {
            scopes.extend(Some(ScopeName::Other).zip(self.scope(&ScopeName::Other, now)));
        }
        scopes
    }

    /// Corrects a call from what was charged to `actual`. Returns the thresholds that fire.
    pub(super) fn correct(
        &mut self,
        admitted_by: &AdmittedBy,
        charged: &Call,
        actual: &Call,
        now: i64,
    ) -> Vec<Crossed> {
        let (thresholds, mut crossed) = (self.thresholds(), Vec::new());
        for (name, mut scope) in self.corrected(charged, admitted_by, now) {
            let admitting = admitted_by.get(&name).map_or(&[][..], Vec::as_slice);
            scope.correct(admitting, charged, actual);
            crossed.extend(scope.fire(&thresholds));
            self.put(name, scope, now);
        }
        self.drop_over(charged, now);
        crossed
    }

    /// Returns whether what an amendment adds fits: the counts after it must.
    pub(super) fn fits(
        &self,
        admitted_by: &AdmittedBy,
        charged: &Call,
        amended: &Call,
        now: i64,
    ) -> bool {
        self.met(amended, now).into_iter().all(|(name, scope)| {
            let admitting = admitted_by.get(&name).map_or(&[][..], Vec::as_slice);
            scope.violated_by_correction(admitting, charged, amended).is_empty()
        })
    }

    /// "A denial, whatever its reason, charges nothing but does store this [the rebase] for the scopes it meets, or a full
    /// key would stay frozen until the far date".
    pub(super) fn rebase(&mut self, call: &Call, now: i64) {
        for (name, _) in self.met(call, now) {
            let rebased = self.scopes[&name].rebased(now, &self.zone);
            self.scopes.insert(name, rebased);
        }
    }

    /// Stores a scope as written now. "The roll that closes it adds it to the row in the same step."
    fn put(&mut self, name: ScopeName, scope: Scope, now: i64) {
        if let Some(before) = self.scopes.remove(&name) {
            self.close(&name, &before, now);
        }
        self.scopes.insert(name, scope);
    }

    /// Drops the scope of the call's asset when it is over.
    fn drop_over(&mut self, call: &Call, now: i64) {
        if let Some(asset) = &call.asset {
            self.drop_if_over(&ScopeName::Asset(asset.clone()), now);
        }
    }

    fn drop_all_over(&mut self, now: i64) {
        for name in self.scopes.keys().cloned().collect::<Vec<_>>() {
            self.drop_if_over(&name, now);
        }
    }

    fn drop_if_over(&mut self, name: &ScopeName, now: i64) {
        if self.scope(name, now).is_none()
            && let Some(over) = self.scopes.remove(name)
        {
            self.close(name, &over, now);
        }
    }

    /// Adds what a day had counted to the history, if it has passed.
    fn close(&mut self, name: &ScopeName, before: &Scope, now: i64) {
        let (end, account) = before.day();
        if end <= now {
            self.closed.push(Closed { end, scope: name.clone(), account });
        }
    }

    fn thresholds(&self) -> Vec<u8> {
        self.thresholds.clone().unwrap_or_else(|| THRESHOLDS.to_vec())
    }

    fn config(&self) -> Config {
        let configured = |name: &ScopeName| {
            let amounts = self.scopes.get(name).map(Scope::configured).unwrap_or_default();
            Limits { parallel: self.slots.configured(name), ..amounts }
        };
        let asset = |asset: &String| (asset.clone(), configured(&ScopeName::Asset(asset.clone())));
        Config {
            global: configured(&ScopeName::Global),
            assets: self.listed.iter().map(asset).collect(),
            other: if self.denies_other {
                Other::Denied
            } else {
                Other::Limited(configured(&ScopeName::Other))
            },
        }
    }

    /// Returns what an update can change.
    fn settings(&self, now: i64) -> impl PartialEq + use<> {
        let scopes = self.scopes.keys().filter_map(|name| {
            let scope = self.scope(name, now)?;
            let row = scope.row();
            scope.has_limits().then(|| (name.clone(), scope.in_force(), row.pending))
        });
        let scopes: Vec<_> = scopes.collect();
        (
            scopes,
            (self.listed.clone(), self.slots.limits()),
            (self.denies_other, self.expires_at, self.shadow),
            self.zone.clone(),
            self.thresholds.clone(),
        )
    }
}

fn without_budget(mut global: Limits) -> Limits {
    global.amounts.remove(&BUDGET);
    global
}

/// Returns the assets that are listed: `null` stands for none.
fn listed(assets: &crate::replay::Assets) -> BTreeMap<String, Limits> {
    let listed = assets.iter().filter_map(|(asset, limits)| Some((asset.clone(), limits.clone()?)));
    listed.collect()
}

fn rising(percents: impl AsRef<[u64]>) -> Vec<u8> {
    let percents: BTreeSet<u64> = percents.as_ref().iter().copied().collect();
    percents.into_iter().filter_map(|percent| percent.try_into().ok()).collect()
}

/// Returns an instant within the bounds of the format.
pub(super) fn instant(unix_ms: u64) -> i64 {
    unix_ms.try_into().expect("an instant within its bounds")
}

/// The window and the unit of the budget.
pub(super) const BUDGET: (Window, Unit) = (Window::Ever, Unit::Credits);
