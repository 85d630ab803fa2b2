//! One key or group: its scopes, and the changes of its configuration.

use std::collections::{BTreeMap, BTreeSet};

use crate::replay::{
    Answer, Call, Cost, Create, Credits, Crossed, Effective, KeyKind, Limits as Written, Problem,
    Row, RuleUsage, ScopeName, TimeZone, Unit, Update, Usage, Window,
};

use super::config::{BUDGET, Config, Holds, Limits};
use super::fired::THRESHOLDS;
use super::history::Closed;
use super::plan::{Plan, Taken};
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
    /// As an admin last saved it. The fields below have its result with the plan.
    pub(super) own: Config,
    pub(super) plan: Option<Taken>,
    /// Of an open group, the plan of keys beneath it that nobody registered.
    pub(super) open: Option<String>,
    /// Whether somebody registered it.
    is_registered: bool,
    /// Of one that nobody registered, whether the clock has shown an instant at which nothing was left of it.
    pub(super) was_gone: bool,
    /// The end of all that an earlier state of it had.
    forgotten_until: i64,
    pub(super) scopes: BTreeMap<ScopeName, Scope>,
    /// The assets that the configuration lists.
    listed: BTreeSet<String>,
    denies_other: bool,
    expires_at: Option<i64>,
    pub(super) zone: TimeZone,
    /// Those of its own or of its plan, if any.
    thresholds: Option<Vec<u8>>,
    pub(super) shadow: bool,
    pub(super) slots: Slots,
    pub(super) version: u64,
    pub(super) closed: Vec<Closed>,
    /// The latest instant that the clock has shown.
    pub(super) latest: i64,
    pub(super) open_calls: Remembered<Reservation>,
    pub(super) ended: Remembered<Reservation>,
    /// The ids of checks. "Ids of checks and of reservations are separate."
    pub(super) checks: Remembered<()>,
}

/// The windows of one level that admitted a call, by scope. A level that was spared has none.
pub(super) type AdmittedBy = BTreeMap<ScopeName, Vec<Admitted>>;

/// When changed limits take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// In the windows as they stand.
    AtOnce,
    /// The next window of its kind.
    WithTheNext,
    /// The same, but windows that have ended stay as they are: the next one has the limits from its first step on.
    AtTheFirstStep,
}

impl Key {
    /// "A new level's limits are in force at once."
    pub(super) fn created(create: &Create, number: u64, plan: Option<&Plan>, now: i64) -> Self {
        let own = Config::created(create);
        let holds = own.over(plan.map(|plan| &plan.config));
        let mut key = Self {
            number,
            kind: create.kind,
            own,
            plan: plan.map(Plan::taken),
            open: create.open.clone(),
            is_registered: true,
            was_gone: false,
            forgotten_until: i64::MIN,
            scopes: BTreeMap::new(),
            listed: BTreeSet::new(),
            denies_other: false,
            expires_at: create.expires_at.map(instant),
            zone: holds.zone.clone(),
            thresholds: holds.thresholds.clone(),
            shadow: create.shadow,
            slots: Slots::default(),
            version: 1,
            closed: Vec::new(),
            latest: now,
            open_calls: Remembered::default(),
            ended: Remembered::default(),
            checks: Remembered::default(),
        };
        // The global scope of a key is counted "from its creation".
        key.begin(ScopeName::Global, now);
        key.configure(&holds, Manner::AtOnce, now);
        key
    }

    /// "Updates carry the version they were read at; a stale one gets a conflict error …, and nothing is written." From then on
    /// it has this plan, if any.
    pub(super) fn update(&mut self, update: &Update, plan: Option<&Plan>, now: i64) -> Answer {
        let Some(own) = self.own.updated(update) else { return Answer::Error(Problem::Invalid) };
        if update.version.is_some_and(|version| version != self.version) {
            return Answer::Error(Problem::Stale);
        }
        let before = self.clone();
        if let Some(changed) = update.expires_at.changed() {
            self.expires_at = changed.map(instant);
        }
        self.shadow = update.shadow.unwrap_or(self.shadow);
        if let Some(open) = update.open.clone().changed() {
            self.open = open;
        }
        (self.own, self.plan) = (own, plan.map(Plan::taken));
        let manner = match update.effective {
            Effective::Now => Manner::AtOnce,
            Effective::Next => Manner::WithTheNext,
        };
        let holds = self.own.over(plan.map(|plan| &plan.config));
        let crossed = self.configure(&holds, manner, now);
        let is_saved = (&self.own, &self.plan) == (&before.own, &before.plan);
        let is_in_force = self.settings(now) == before.settings(now);
        if is_in_force {
            // "Saving what is already configured changes nothing", also not the version.
            let (own, plan) = (self.own.clone(), self.plan.clone());
            *self = Self { own, plan, ..before };
        }
        if !(is_saved && is_in_force) {
            self.version += 1;
        }
        Answer::Updated { crossed }
    }

    /// Changes limits, zone and thresholds. Returns the thresholds that this fires by itself.
    pub(super) fn configure(&mut self, holds: &Holds, manner: Manner, now: i64) -> Vec<Crossed> {
        let none = Limits::default();
        let before = self.thresholds();
        let zones = [&self.zone.clone(), &holds.zone];
        // "A changed zone first moves all scopes of the level to the window of now."
        let moves = zones[0] != zones[1];
        if moves {
            self.drop_all_over(now, |name| match name {
                ScopeName::Global => true,
                ScopeName::Asset(asset) => holds.assets.contains_key(asset),
                ScopeName::Other => !holds.other.amounts.is_empty(),
            });
        }
        self.zone = holds.zone.clone();
        self.thresholds = holds.thresholds.clone();
        self.denies_other = holds.denies_other;
        self.listed = holds.assets.keys().cloned().collect();
        for asset in holds.assets.keys() {
            self.begin(ScopeName::Asset(asset.clone()), now);
        }
        // "Parallel limits" change "always at once".
        self.slots.limit(ScopeName::Global, holds.global.parallel);
        self.slots.unlist();
        for (asset, limits) in &holds.assets {
            self.slots.limit(ScopeName::Asset(asset.clone()), limits.parallel);
        }
        self.slots.limit(ScopeName::Other, holds.other.parallel);
        // One that is over, but was not dropped yet, is counted again.
        if !holds.other.amounts.is_empty() && !self.scopes.contains_key(&ScopeName::Other) {
            self.begin(ScopeName::Other, now);
        }
        let thresholds = self.thresholds();
        let mut crossed = Vec::new();
        for name in self.scopes.keys().cloned().collect::<Vec<_>>() {
            let limits = match &name {
                ScopeName::Global => &holds.global,
                ScopeName::Asset(asset) => holds.assets.get(asset).unwrap_or(&none),
                ScopeName::Other => &holds.other,
            };
            let has_account = self.is_registered;
            let thresholds = &thresholds;
            let changing = Changing { limits, manner, moves, thresholds, now, has_account, zones };
            let mut scope = self.scopes[&name].clone();
            let is_day_over = self.is_day_over(&scope, now);
            let had_limits = scope.as_of(now, zones[0]).has_limits();
            if moves || scope.differs(&changing) {
                crossed.extend(scope.change(&changing));
                if changing.stays() {
                    self.scopes.insert(name.clone(), scope.clone());
                } else {
                    self.put(name.clone(), scope.clone(), now);
                }
            }
            // Where its windows stay, limits that end with the change are there until they are moved.
            let has_limits =
                scope.as_of(now, &self.zone).has_limits() || changing.stays() && had_limits;
            if is_day_over && !self.is_configured(&name) && !has_limits {
                // Nothing is left of it: its limits have ended, now or before, and so has its day.
                if let Some(over) = self.scopes.remove(&name) {
                    self.close(&name, &over, now);
                }
            }
        }
        // "Changes of … thresholds … are always at once."
        if thresholds != before {
            for scope in self.scopes.values_mut() {
                crossed.extend(scope.rearm(&thresholds, now));
            }
        }
        crossed.sort_by_key(|it| (it.rule.scope, it.asset.clone(), it.rule, it.percent));
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
        self.drop_all_over(now, |_| false);
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
        let mut spent = global.spent();
        if !self.is_registered {
            // "It has no account".
            rows.iter_mut().for_each(|row| row.account = Cost::default());
            spent = 0;
        }
        Usage { rows, credits: Credits { spent, budget } }
    }

    /// "A key beneath it that is not registered has that plan." Nothing is used yet.
    pub(super) fn unregistered(plan: &Plan, now: i64) -> Self {
        let create = Create {
            key: String::new(),
            kind: KeyKind::Member,
            plan: None,
            open: None,
            global: Written::default(),
            parallel: None,
            assets: BTreeMap::new(),
            other: None,
            budget: None,
            expires_at: None,
            time_zone: TimeZone::default(),
            thresholds: None,
            shadow: false,
        };
        Self { is_registered: false, ..Self::created(&create, 0, Some(plan), now) }
    }

    pub(super) const fn is_registered(&self) -> bool {
        self.is_registered
    }

    /// Returns what a call may find if none comes before: one that nobody registered begins again when it has ended, with all that
    /// is configured and nothing used. Of its scopes only that of all calls is looked at: others may go on, so that it may not
    /// have ended either.
    pub(super) fn perhaps_begun_again_by(&self, now: i64) -> Option<Self> {
        if self.is_registered || !self.scopes[&ScopeName::Global].has_ended(now) {
            return None;
        }
        let mut found = self.clone();
        let configured = |name: &ScopeName| {
            let limits = self.scopes.get(name).map(Scope::configured);
            limits.unwrap_or_default()
        };
        let listed = self.listed.iter();
        let holds = Holds {
            global: configured(&ScopeName::Global),
            assets: listed
                .map(|asset| (asset.clone(), configured(&ScopeName::Asset(asset.clone()))))
                .collect(),
            other: configured(&ScopeName::Other),
            denies_other: self.denies_other,
            zone: self.zone.clone(),
            thresholds: self.thresholds.clone(),
        };
        found.scopes.clear();
        found.begin(ScopeName::Global, now);
        found.configure(&holds, Manner::AtOnce, now);
        found.slots = self.slots.clone();
        Some(found)
    }

    /// Takes over what an earlier state had remembered. Where all of it is for a time that has passed, it is not specified whether
    /// it holds again after a step back.
    pub(super) fn find_forgotten(&mut self, gone: &Self) {
        self.open_calls = gone.open_calls.clone();
        self.ended = gone.ended.clone();
        self.checks = gone.checks.clone();
        self.slots.find_expired(&gone.slots);
        self.forgotten_until = gone.last_end().max(gone.forgotten_until);
    }

    /// "Its state is made by its first admitted call that makes a request".
    pub(super) fn has_made_requests(&self) -> bool {
        let (_, account) = self.scopes[&ScopeName::Global].day();
        account.requests > 0
    }

    /// Returns whether all windows have ended in which a limit has counted anything.
    pub(super) fn has_ended(&self, now: i64) -> bool {
        self.scopes.values().all(|scope| scope.has_ended(now))
    }

    /// Returns the last end of a window in which a limit has counted anything.
    pub(super) fn last_end(&self) -> i64 {
        self.scopes.values().filter_map(Scope::last_end).max().unwrap_or(i64::MIN)
    }

    /// "And gone when its windows have passed", unless a call of it is still remembered by its id.
    pub(super) fn is_gone(&self, now: i64) -> bool {
        let remembers_none =
            self.open_calls.is_empty() && self.ended.is_empty() && self.checks.is_empty();
        remembers_none && self.has_ended(now)
    }

    /// The same if a store had forgotten nothing yet when the clock steps back.
    pub(super) fn would_be_gone(&self, now: i64) -> bool {
        let untils = [
            self.open_calls.untils_at_most(),
            self.ended.untils_at_most(),
            self.checks.untils_at_most(),
        ];
        now >= self.forgotten_until
            && self.has_ended(now)
            && untils.into_iter().flatten().all(|until| until <= now)
    }

    /// Returns whether the clock is so far back that something of an earlier state may be there again.
    pub(super) const fn may_find_forgotten(&self, now: i64) -> bool {
        now < self.forgotten_until
    }

    /// "An open group must limit its own requests in a window of at most a day, and no change may take that away": there is such
    /// a limit now, and it is configured. One in shadow does not limit them.
    pub(super) fn may_be_open(&self, now: i64) -> bool {
        let Some(global) = self.scope(&ScopeName::Global, now) else { return false };
        let in_force = global.in_force();
        let bounds = |window: &Window| {
            let of = (*window, Unit::Requests);
            in_force.amounts.contains_key(&of) && self.own.limits_all_calls(of)
        };
        let is_bounded = [Window::Minute, Window::Hour, Window::Day].iter().any(bounds);
        self.kind == KeyKind::Group && !self.shadow && is_bounded
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
        let is_day_over = self.is_day_over(stored, now);
        (self.is_configured(name) || scope.has_limits() || !is_day_over).then_some(scope)
    }

    /// An unregistered key "has no account": it does not count until the end of the day.
    fn is_day_over(&self, scope: &Scope, now: i64) -> bool {
        scope.day().0 <= now || !self.is_registered
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

    fn drop_all_over(&mut self, now: i64, but: impl Fn(&ScopeName) -> bool) {
        for name in self.scopes.keys().cloned().collect::<Vec<_>>() {
            if !but(&name) {
                self.drop_if_over(&name, now);
            }
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

    /// Returns what an update can change, but for what is only saved.
    pub(super) fn settings(&self, now: i64) -> impl PartialEq + use<> {
        let scopes = self.scopes.keys().filter_map(|name| {
            let scope = self.scope(name, now)?;
            let row = scope.row();
            scope.has_limits().then(|| (name.clone(), scope.in_force(), row.pending))
        });
        let scopes: Vec<_> = scopes.collect();
        (
            scopes,
            (self.listed.clone(), self.slots.limits()),
            (self.denies_other, self.expires_at, self.shadow, self.open.clone()),
            self.zone.clone(),
            self.thresholds.clone(),
        )
    }
}

/// Returns an instant within the bounds of the format.
pub(super) fn instant(unix_ms: u64) -> i64 {
    unix_ms.try_into().expect("an instant within its bounds")
}
