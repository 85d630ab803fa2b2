//! The configuration of a key, a group or a plan, and the limits in force that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use crate::replay::{
    Amount, Assets, Change, Create, Limits as Written, Other, Plan, TimeZone, Unit, Update, Window,
};

/// The part that keys, groups and plans have in common, as an admin last saved it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// With the budget and the parallel limit.
    global: Written,
    assets: BTreeMap<String, Written>,
    /// Never limits without any amount: they are `None`.
    other: Option<Other>,
    /// Of a key it is never UTC, which is the same as none. A plan may say so.
    zone: Option<TimeZone>,
    thresholds: Option<Vec<u8>>,
}

/// The limits of one scope, after a plan was applied: none is lifted any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) amounts: BTreeMap<(Window, Unit), u64>,
    pub(super) parallel: Option<u64>,
}

/// The configuration in force: that of a level over that of its plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) global: Limits,
    /// The assets that are listed.
    pub(super) assets: BTreeMap<String, Limits>,
    pub(super) other: Limits,
    pub(super) denies_other: bool,
    pub(super) zone: TimeZone,
    pub(super) thresholds: Option<Vec<u8>>,
}

/// The fields of an operation that changes a configuration.
struct Changes<'a> {
    global: &'a Change<Written>,
    budget: Change<Amount>,
    parallel: Change<Amount>,
    assets: &'a Change<Assets>,
    other: &'a Change<Other>,
    zone: &'a Change<TimeZone>,
    thresholds: &'a Change<Vec<u64>>,
}

impl Config {
    pub(super) fn created(create: &Create) -> Self {
        let global = create.global.with_budget(create.budget);
        Self {
            global: Written { parallel: create.parallel, ..global },
            assets: listed(&create.assets),
            other: create.other.clone().filter(is_set),
            zone: Some(create.time_zone.clone()).filter(|zone| !zone.is_utc()),
            thresholds: create.thresholds.as_deref().map(rising),
        }
    }

    /// Returns the configuration after an update; `None` if it is out of bounds.
    pub(super) fn updated(&self, update: &Update) -> Option<Self> {
        let updated = self.changed(&Changes {
            global: &update.global,
            budget: update.budget,
            parallel: update.parallel,
            assets: &update.assets,
            other: &update.other,
            zone: &update.time_zone,
            thresholds: &update.thresholds,
        })?;
        Some(Self { zone: updated.zone.filter(|zone| !zone.is_utc()), ..updated })
    }

    /// Returns whether all calls have a limit of this window and unit.
    pub(super) fn limits_all_calls(&self, of: (Window, Unit)) -> bool {
        self.global.amounts.get(&of).is_some_and(|amount| limits_any(*amount))
    }

    /// "Such a plan has no window above `Day`."
    pub(super) fn may_open(&self) -> bool {
        let of_other = match &self.other {
            Some(Other::Limited(limits)) => Some(limits),
            _ => None,
        };
        let limits = [&self.global].into_iter().chain(self.assets.values()).chain(of_other);
        let mut windows = limits.flat_map(|of| of.amounts.iter());
        windows.all(|((window, _), amount)| *window <= Window::Day || !limits_any(*amount))
    }

    /// Returns that of a plan after its change; `None` if it is out of bounds.
    pub(super) fn planned(&self, plan: &Plan) -> Option<Self> {
        self.changed(&Changes {
            global: &plan.global,
            budget: plan.budget,
            parallel: plan.parallel,
            assets: &plan.assets,
            other: &plan.other,
            zone: &plan.time_zone,
            thresholds: &plan.thresholds,
        })
    }

    /// "A field that is absent stays as it is, null clears it, a value replaces it (`assets` replaces the whole set)." The
    /// budget and the parallel limit are fields of their own.
    fn changed(&self, changes: &Changes<'_>) -> Option<Self> {
        let budget = self.global.amounts.get(&BUDGET).copied();
        let mut global = match changes.global.clone().changed() {
            Some(changed) => changed.unwrap_or_default(),
            None => self.global.clone(),
        };
        global.amounts.remove(&BUDGET);
        let global = global.with_budget(changes.budget.changed().unwrap_or(budget));
        let parallel = changes.parallel.changed().unwrap_or(self.global.parallel);
        let assets = match changes.assets.clone().changed() {
            Some(changed) => listed(&changed.unwrap_or_default()),
            None => self.assets.clone(),
        };
        let other = match changes.other.clone().changed() {
            Some(changed) => changed.filter(is_set),
            None => self.other.clone(),
        };
        let zone = changes.zone.clone().changed().unwrap_or_else(|| self.zone.clone());
        let thresholds = match changes.thresholds.clone().changed() {
            Some(changed) => changed.as_deref().map(rising),
            None => self.thresholds.clone(),
        };
        global.is_within_bounds().then(|| Self {
            global: Written { parallel, ..global },
            assets,
            other,
            zone,
            thresholds,
        })
    }

    /// "A key or group with a plan has the plan's rules; its own limits replace the same (scope, window, unit), and
    /// `unlimited` lifts one."
    pub(super) fn over(&self, plan: Option<&Self>) -> Holds {
        let nothing = Self::default();
        let plan = plan.unwrap_or(&nothing);
        let none = Written::default();
        let assets: BTreeSet<&String> = self.assets.keys().chain(plan.assets.keys()).collect();
        let limits_of = |config: &Self, asset: &String| config.assets.get(asset).cloned();
        let assets = assets.into_iter().map(|asset| {
            let own = limits_of(self, asset).unwrap_or_default();
            (asset.clone(), over(&own, &limits_of(plan, asset).unwrap_or_default()))
        });
        // A key's own limits of other assets replace `denied` of the plan, and its own `denied` replaces the limits there.
        let own_other = match &self.other {
            Some(Other::Limited(own)) => own,
            _ => &none,
        };
        let limits_any =
            own_other.amounts.values().copied().chain(own_other.parallel).any(limits_any);
        let (denies_other, other) = match (&self.other, &plan.other) {
            (Some(Other::Denied), _) => (true, Limits::default()),
            (_, Some(Other::Denied)) if !limits_any => (true, Limits::default()),
            (_, Some(Other::Limited(of_plan))) => (false, over(own_other, of_plan)),
            _ => (false, over(own_other, &none)),
        };
        let zone = self.zone.clone().or_else(|| plan.zone.clone());
        Holds {
            global: over(&self.global, &plan.global),
            assets: assets.collect(),
            other,
            denies_other,
            zone: zone.unwrap_or_default(),
            thresholds: self.thresholds.clone().or_else(|| plan.thresholds.clone()),
        }
    }
}

/// Puts the limits of one scope over those of a plan.
fn over(own: &Written, plan: &Written) -> Limits {
    let mut written = plan.amounts.clone();
    written.extend(&own.amounts);
    let limited = written.into_iter().filter_map(|(of, amount)| Some((of, amount.limit()?)));
    let parallel = own.parallel.or(plan.parallel).and_then(Amount::limit);
    Limits { amounts: limited.collect(), parallel }
}

fn limits_any(amount: Amount) -> bool {
    amount != Amount::Unlimited
}

fn is_set(other: &Other) -> bool {
    *other != Other::Limited(Written::default())
}

/// Returns the assets that are listed: `null` stands for none.
fn listed(assets: &Assets) -> BTreeMap<String, Written> {
    let listed = assets.iter().filter_map(|(asset, limits)| Some((asset.clone(), limits.clone()?)));
    listed.collect()
}

fn rising(percents: impl AsRef<[u64]>) -> Vec<u8> {
    let percents: BTreeSet<u64> = percents.as_ref().iter().copied().collect();
    percents.into_iter().filter_map(|percent| percent.try_into().ok()).collect()
}

/// The window and the unit of the budget.
pub(super) const BUDGET: (Window, Unit) = (Window::Ever, Unit::Credits);
