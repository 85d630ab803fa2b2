//! One counted scope: all calls of a key, its calls of one asset, or its calls of assets that are not listed.

use std::collections::BTreeMap;

use crate::replay::{
    Call, Cost, Crossed, Measure, Row, Rule, RuleUsage, Scope as RuleScope, ScopeName, TimeZone,
    Unit, Window as WindowKind,
};

use super::config::Limits;
use super::key::Manner;
use super::window::{Admitted, Amounts, Starts, Window, amount, figures};

/// Its windows. "A counted scope counts its account and each limit in force, and nothing else": the day is always there,
/// any other window while it has limits, in force or pending. The global scope also counts for ever.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    name: ScopeName,
    windows: BTreeMap<WindowKind, Window>,
}

/// One limit in force, and its usage.
#[derive(Clone, Copy, Debug)]
pub(super) struct RuleState {
    pub(super) rule: Rule,
    pub(super) limit: u64,
    pub(super) used: u64,
    pub(super) resets_at: Option<i64>,
}

/// How the limits of a scope change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changing<'a> {
    pub(super) limits: &'a Limits,
    pub(super) manner: Manner,
    /// Whether the zone changes, which moves the windows first.
    pub(super) moves: bool,
    pub(super) thresholds: &'a [u8],
    pub(super) now: i64,
    /// "It has no account", if nobody registered the key.
    pub(super) has_account: bool,
    /// The zone in which the windows move, and the one in which others begin.
    pub(super) zones: [&'a TimeZone; 2],
}

impl Changing<'_> {
    /// Whether windows that have ended stay as they are.
    pub(super) fn stays(&self) -> bool {
        self.manner == Manner::AtTheFirstStep && !self.moves
    }
}

impl Scope {
    /// Creates a scope that is counted from now on, without limits.
    pub(super) fn begun(name: ScopeName, now: i64, zone: &TimeZone) -> Self {
        let mut scope = Self { name, windows: BTreeMap::new() };
        for kind in KINDS {
            if is_always_counted(&scope.name, kind) {
                scope.windows.insert(kind, Window::begun(kind, now, zone));
            }
        }
        scope
    }

    /// Returns the scope as written now.
    pub(super) fn as_of(&self, now: i64, zone: &TimeZone) -> Self {
        self.each(|window| window.as_of(now, zone))
    }

    /// Returns the scope after a denial.
    pub(super) fn rebased(&self, now: i64, zone: &TimeZone) -> Self {
        self.each(|window| window.rebased(now, zone))
    }

    fn each(&self, moved: impl Fn(&Window) -> Window) -> Self {
        let windows = self.windows.iter().map(|(kind, window)| (*kind, moved(window)));
        let mut scope = Self { name: self.name.clone(), windows: windows.collect() };
        scope.drop_windows();
        scope
    }

    /// Drops the windows that have nothing to count.
    fn drop_windows(&mut self) {
        let Self { name, windows } = self;
        windows.retain(|kind, window| is_always_counted(name, *kind) || window.has_limits());
    }

    /// Returns whether any limit is in force or pending.
    pub(super) fn has_limits(&self) -> bool {
        self.windows.values().any(Window::has_limits)
    }

    /// Returns the last end of a window in which a limit has counted anything.
    pub(super) fn last_end(&self) -> Option<i64> {
        let counted = self.windows.values().filter(|window| window.has_counted());
        counted.filter_map(|window| window.end).max()
    }

    /// Returns whether all windows have ended in which a limit has counted anything.
    pub(super) fn has_ended(&self, now: i64) -> bool {
        self.last_end().is_none_or(|end| end <= now)
    }

    /// Returns whether no limit is in force, and one is pending.
    pub(super) fn waits_for_its_first_limit(&self) -> bool {
        self.has_limits() && self.windows.values().all(|window| window.in_force().is_empty())
    }

    /// Returns the end of its day, and what was counted in it.
    pub(super) fn day(&self) -> (i64, Cost) {
        let day = &self.windows[&WindowKind::Day];
        (day.end.expect("a day ends"), day.account())
    }

    /// Returns the credits that were counted for ever.
    pub(super) fn spent(&self) -> u64 {
        self.windows.get(&WindowKind::Ever).map_or(0, |ever| ever.account().credits)
    }

    /// Changes limits and thresholds. Returns the thresholds that the change itself fires.
    pub(super) fn change(&mut self, changing: &Changing<'_>) -> Vec<Crossed> {
        let Changing { limits, manner, thresholds, now, zones, .. } = *changing;
        if !changing.stays() {
            *self = self.as_of(now, zones[0]);
        }
        if !self.differs(changing) {
            return Vec::new();
        }
        let mut fired = Vec::new();
        for kind in KINDS {
            let limits = of_window(limits, kind);
            if limits.is_empty() && !self.windows.contains_key(&kind) {
                continue;
            }
            let is_global = self.name == ScopeName::Global;
            let starts = Starts { is_global, has_account: changing.has_account };
            let window =
                self.windows.entry(kind).or_insert_with(|| Window::begun(kind, now, zones[1]));
            // "Changes of `Ever` are always at once."
            if manner == Manner::AtOnce || kind == WindowKind::Ever {
                let of_window = window.change_now(&limits, starts, thresholds);
                fired.extend(of_window.into_iter().map(|(unit, percent)| (kind, unit, percent)));
            } else {
                window.change_next(&limits);
            }
        }
        self.drop_windows();
        fired.into_iter().filter_map(|fired| self.crossed(fired)).collect()
    }

    /// "Saving what is already configured changes nothing", but for what is pending and is to hold now.
    pub(super) fn differs(&self, changing: &Changing<'_>) -> bool {
        let Changing { limits, manner, now, zones, .. } = *changing;
        let in_force = || self.as_of(now, zones[0]).in_force();
        self.configured().amounts != limits.amounts
            || manner == Manner::AtOnce && in_force().amounts != limits.amounts
    }

    /// Puts other thresholds in force, and returns those that they fire by themselves. A window that has passed is empty
    /// and fires nothing.
    pub(super) fn rearm(&mut self, thresholds: &[u8], now: i64) -> Vec<Crossed> {
        let mut fired = Vec::new();
        for (kind, window) in &mut self.windows {
            let of_window = window.rearm(thresholds);
            if !window.has_passed(now) {
                fired.extend(of_window.into_iter().map(|(unit, percent)| (*kind, unit, percent)));
            }
        }
        fired.into_iter().filter_map(|fired| self.crossed(fired)).collect()
    }

    /// Sets what is used to zero in all windows that end.
    pub(super) fn reset(&mut self) {
        for window in self.windows.values_mut().filter(|window| window.end.is_some()) {
            window.reset();
        }
    }

    /// Charges a call: "all windows of each scope it meets, also when it adds zero".
    pub(super) fn admit(&mut self, call: &Call) -> Vec<Admitted> {
        self.windows.values_mut().map(|window| window.admit(call)).collect()
    }

    pub(super) fn correct(&mut self, admitting: &[Admitted], charged: &Call, actual: &Call) {
        for window in self.windows.values_mut() {
            window.correct(admitting, charged, actual);
        }
    }

    /// Fires the thresholds that were reached.
    pub(super) fn fire(&mut self, thresholds: &[u8]) -> Vec<Crossed> {
        let mut fired = Vec::new();
        for (kind, window) in &mut self.windows {
            let of_window = window.fire(thresholds);
            fired.extend(of_window.into_iter().map(|(unit, percent)| (*kind, unit, percent)));
        }
        fired.into_iter().filter_map(|fired| self.crossed(fired)).collect()
    }

    fn crossed(&self, (kind, unit, percent): (WindowKind, Unit, u8)) -> Option<Crossed> {
        let states = self.rules();
        let state = states.iter().find(|it| it.rule.measure == Measure::Amount(kind, unit))?;
        let asset = match &self.name {
            ScopeName::Asset(asset) => Some(asset.clone()),
            _ => None,
        };
        let RuleState { rule, limit, used, resets_at } = *state;
        let resets_at = resets_at.map(unix_ms);
        Some(Crossed { group: None, rule, asset, percent, limit, used, resets_at })
    }

    /// Returns the rules in canonical order.
    pub(super) fn rules(&self) -> Vec<RuleState> {
        let scope = match self.name {
            ScopeName::Global => RuleScope::Global,
            ScopeName::Asset(_) => RuleScope::Asset,
            ScopeName::Other => RuleScope::Other,
        };
        let of_window = |(kind, window): (&WindowKind, &Window)| {
            let rule = |(unit, limit)| RuleState {
                rule: Rule::of(scope, *kind, unit),
                limit,
                used: window.used(unit),
                resets_at: window.end,
            };
            window.in_force().into_iter().map(rule).collect::<Vec<_>>()
        };
        self.windows.iter().flat_map(of_window).collect()
    }

    /// Returns the rules that what a correction adds does not fit into.
    pub(super) fn violated_by_correction(
        &self,
        admitting: &[Admitted],
        charged: &Call,
        actual: &Call,
    ) -> Vec<RuleState> {
        let mut rules = self.rules();
        rules.retain(|RuleState { rule, limit, used, .. }| {
            let (window, unit) = rule.window().zip(rule.unit()).expect("a rule of amounts");
            let added = self.windows[&window].added(unit, admitting, charged, actual);
            added > 0 && i128::from(*used) + added > i128::from(*limit)
        });
        rules
    }

    /// Returns the ends of the stored windows.
    pub(super) fn ends(&self) -> Vec<i64> {
        self.windows.values().filter_map(|window| window.end).collect()
    }

    /// Returns the configured limits: the pending ones, or else those in force.
    pub(super) fn configured(&self) -> Limits {
        self.limits(Window::configured)
    }

    /// Returns the limits in force.
    pub(super) fn in_force(&self) -> Limits {
        self.limits(Window::in_force)
    }

    fn limits(&self, of: impl Fn(&Window) -> Amounts) -> Limits {
        let named = self.windows.iter().flat_map(|(kind, window)| {
            of(window).into_iter().map(move |(unit, limit)| ((*kind, unit), limit))
        });
        Limits { amounts: named.collect(), parallel: None }
    }

    /// Returns its row of the usage.
    pub(super) fn row(&self) -> Row {
        let rules = self.rules().into_iter().map(|state| RuleUsage {
            measure: state.rule.measure,
            used: state.used,
            limit: state.limit,
            resets_at: state.resets_at.map(unix_ms),
        });
        let pending = self.windows.values().filter_map(|window| {
            let limits = window.pending()?.iter().map(|(unit, limit)| (*unit, *limit)).collect();
            Some((window.kind, limits, unix_ms(window.end?)))
        });
        let (_, account) = self.day();
        Row {
            scope: self.name.clone(),
            account,
            rules: rules.collect(),
            pending: pending.collect(),
        }
    }
}

impl RuleState {
    /// Returns whether the rule admits a call.
    pub(super) fn admits(&self, call: &Call) -> bool {
        let (used, limit) = (i128::from(self.used), i128::from(self.limit));
        // "How many reservations of a scope may be open at once": one more must fit.
        let Some(unit) = self.rule.unit() else { return used < limit };
        let added = amount(unit, &figures(call));
        if added > 0 {
            // "n > 0: U + n ≤ L"
            used + added <= limit
        } else if call.requests >= 1 {
            // "n = 0 and the charge makes a request (requests ≥ 1): U < L. A new call needs at least one unit left in every
            // rule, also when its cost is not known yet"
            used < limit
        } else {
            // "n = 0 and requests = 0 (a top-up of a running call): always"
            true
        }
    }

    /// "Remaining = max(0, limit − used)".
    pub(super) fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// "A counted scope counts its account", of the day, and "in a global scope also credits for ever".
fn is_always_counted(name: &ScopeName, kind: WindowKind) -> bool {
    kind == WindowKind::Day || kind == WindowKind::Ever && *name == ScopeName::Global
}

fn of_window(limits: &Limits, kind: WindowKind) -> Amounts {
    let of_kind = limits.amounts.iter().filter(|((window, _), _)| *window == kind);
    of_kind.map(|((_, unit), limit)| (*unit, *limit)).collect()
}

/// No window ends before 1970: the clock shows no instant before it.
fn unix_ms(end: i64) -> u64 {
    u64::try_from(end).expect("a window that contains an instant from 1970 on ends after it")
}

const KINDS: [WindowKind; 6] = WindowKind::ALL;
