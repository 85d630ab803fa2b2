//! Plans: a part of a configuration that many keys and groups have.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;
use crate::config::{Effective, KeyConfig, Other};
use crate::credits::Credits;
use crate::error::{InvalidValue, KeysError};
use crate::limits::{Limit, Limits, MAX_COUNT};
use crate::names::{AssetId, PlanName, WorkspaceId};
use crate::object::{Object, distinct_keys};
use crate::rule::Unit;
use crate::thresholds::Thresholds;
use crate::window::Window;
use crate::zone::TimeZone;

/// A named part of a configuration that many keys and groups share: limits, thresholds and a time zone.
///
/// Limits of a key replace the plan's for the same scope, window and unit, and one that is
/// [unlimited](crate::LimitsBuilder::unlimited) lifts it. A changed plan is one write, however many keys have it: each takes
/// the new limits with the next of its windows, or at once if the change [says so](PlanUpdate::at_once).
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::{KeyConfig, Limits, Plan};
///
/// let free = Plan::default()
///     .with_global(Limits::builder().requests_per_minute(20).tokens_per_day(10_000).build()?);
/// // A key of this plan that may use more tokens:
/// let config = KeyConfig::named("ci")?
///     .with_plan("free".parse()?)
///     .with_global(Limits::builder().tokens_per_day(50_000).build()?);
/// # let _ = (free, config);
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Limits over all calls of each key.
    pub global: Limits,
    /// The assets that are listed, with their limits.
    pub assets: BTreeMap<AssetId, Limits>,
    /// The rule for calls of assets that are not listed. A key that sets limits for them is not denied.
    pub other: Other,
    /// The thresholds of keys that have none of their own; `None` for those of the limiter.
    pub thresholds: Option<Thresholds>,
    /// The time zone of keys whose own is UTC; `None` for UTC.
    pub time_zone: Option<TimeZone>,
}

/// A plan, as read at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct PlanRecord {
    /// Its name, unique in the workspace.
    pub name: PlanName,
    /// The workspace it belongs to.
    pub workspace: WorkspaceId,
    /// Limits, thresholds and time zone.
    #[serde(flatten)]
    pub plan: Plan,
    /// Counts its changes; an update may name the version that it was made from.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed, or else when it was created.
    pub changed_at: Timestamp,
}

/// A plan to be created, or changed if there is one of this name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "a plan is saved by Keys::save_plan"]
pub struct PlanUpdate {
    /// Its name.
    pub name: PlanName,
    /// Limits, thresholds and time zone.
    pub plan: Plan,
    /// The version that the update was made from; `None` to save it whatever the version is.
    pub version: Option<u64>,
    /// When changed limits take effect, for each key that has the plan.
    pub effective: Effective,
    /// The thresholds of keys for which neither they nor the plan have any.
    pub thresholds: Thresholds,
}

/// A plan, as a store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPlan {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: PlanName,
    /// Limits, thresholds and time zone.
    pub plan: Plan,
    /// Starts at 1 and grows with each change, up to [`MAX_COUNT`].
    pub version: u64,
    /// The version of the last change that takes effect at once.
    pub at_once: u64,
    /// The thresholds of keys for which neither they nor the plan have any.
    pub thresholds: Thresholds,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub changed_at: Timestamp,
}

/// The plan of a key or a group, as it took it last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenPlan {
    /// The workspace of the plan.
    pub workspace: WorkspaceId,
    /// Its name.
    pub name: PlanName,
    /// When the plan was created. A plan that is deleted and created again starts at version 1, and this tells the two apart.
    pub created_at: Timestamp,
    /// The version that was taken.
    pub version: u64,
}

impl Plan {
    /// Sets the limits over all calls of each key.
    #[must_use]
    pub fn with_global(self, global: Limits) -> Self {
        Self { global, ..self }
    }

    /// Lists an asset, with its limits: without any, it is only counted.
    #[must_use]
    pub fn with_asset(mut self, asset: AssetId, limits: Limits) -> Self {
        self.assets.insert(asset, limits);
        self
    }

    /// Sets what calls of assets that are not listed may do: their limits together, or [`Other::Denied`].
    #[must_use]
    pub fn with_other(self, other: impl Into<Other>) -> Self {
        Self { other: other.into(), ..self }
    }

    /// Sets the budget: the limit of credits for ever, over all calls of each key.
    #[must_use]
    pub fn with_budget(self, budget: Credits) -> Self {
        Self { global: self.global.with(Limit::budget(budget.millionths())), ..self }
    }

    /// Sets the thresholds of keys that have none of their own.
    #[must_use]
    pub fn with_thresholds(self, thresholds: Thresholds) -> Self {
        Self { thresholds: Some(thresholds), ..self }
    }

    /// Sets the zone of the days, weeks and months of keys whose own zone is UTC.
    #[must_use]
    pub fn with_time_zone(self, time_zone: TimeZone) -> Self {
        Self { time_zone: Some(time_zone), ..self }
    }

    /// Checks the numbers of assets and of limits, as every store does; the types guarantee the rest.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] or [`InvalidValue::TooManyLimits`], as [`KeyConfig::check`].
    pub fn check(&self) -> Result<(), InvalidValue> {
        let (count, max) = (self.assets.len(), KeyConfig::MAX_ASSETS);
        if count > max {
            return Err(InvalidValue::TooManyAssets { count, max });
        }
        match (self.global.iter().count(), Limits::MOST) {
            (count, max) if count > max => Err(InvalidValue::TooManyLimits { count, max }),
            _ => Ok(()),
        }
    }
}

impl PlanUpdate {
    /// Creates an update to this plan, whatever its version is now. Changed limits take effect at the next window of their
    /// kind: for each key the plan is that of the first call in a window, until the window ends.
    pub const fn new(name: PlanName, plan: Plan) -> Self {
        let (version, effective, thresholds) = (None, Effective::Next, Thresholds::DEFAULT);
        Self { name, plan, version, effective, thresholds }
    }

    /// Checks that the plan is at the version that the update was made from, if it names one.
    ///
    /// # Errors
    /// [`KeysError::NoPlan`] or [`KeysError::Conflict`].
    pub fn check_version(&self, before: Option<&StoredPlan>) -> Result<(), KeysError> {
        let actual = before.map_or(0, |before| before.version);
        match self.version {
            Some(expected) if expected > 0 && before.is_none() => {
                Err(KeysError::NoPlan(self.name.clone()))
            }
            Some(expected) if expected != actual => Err(KeysError::Conflict { expected, actual }),
            _ => Ok(()),
        }
    }

    /// Saves it only if the plan is still at this version; 0 if there must be none of this name.
    pub fn from_version(self, version: u64) -> Self {
        Self { version: Some(version), ..self }
    }

    /// Lets changed limits take effect at once: for each key with its next call, in the windows as they stand.
    pub fn at_once(self) -> Self {
        Self { effective: Effective::Now, ..self }
    }
}

impl StoredPlan {
    /// The most plans of a workspace.
    pub const MOST: usize = 1_024;

    /// Returns the plan after an update at `now`, from the one before. An update that changes nothing keeps the version.
    #[must_use]
    pub fn updated(
        before: Option<&Self>,
        workspace: &WorkspaceId,
        update: &PlanUpdate,
        now: Timestamp,
    ) -> Self {
        let PlanUpdate { name, plan, effective, thresholds, .. } = update;
        let version = before.map_or(0, |before| before.version);
        let same = |before: &&Self| before.plan == *plan && before.thresholds == *thresholds;
        // One that waited for the next window may be wanted at once.
        if let Some(same) = before.filter(same)
            && (*effective == Effective::Next || same.at_once == same.version)
        {
            return same.clone();
        }
        let version = version.saturating_add(1).min(MAX_COUNT);
        let at_once = match effective {
            Effective::Now => version,
            Effective::Next => before.map_or(0, |before| before.at_once),
        };
        Self {
            workspace: workspace.clone(),
            name: name.clone(),
            plan: plan.clone(),
            version,
            at_once,
            thresholds: *thresholds,
            created_at: before.map_or(now, |before| before.created_at),
            changed_at: now,
        }
    }

    /// Returns what a key takes of the plan.
    #[must_use]
    pub fn taken(&self) -> TakenPlan {
        let Self { workspace, name, created_at, version, .. } = self;
        let (workspace, name) = (workspace.clone(), name.clone());
        TakenPlan { workspace, name, created_at: *created_at, version: *version }
    }
}

impl TakenPlan {
    /// Returns whether this is the same plan, at an earlier version or as it was before it was created again.
    #[must_use]
    pub fn is_behind(&self, plan: &StoredPlan) -> bool {
        (&self.workspace, &self.name) == (&plan.workspace, &plan.name)
            && (self.created_at, self.version) < (plan.created_at, plan.version)
    }
}

impl Plan {
    /// Returns the configuration that holds for a key or a group of this plan: its own over the plan's.
    #[must_use]
    pub fn beneath(&self, own: &KeyConfig) -> KeyConfig {
        let Self { global, assets, other, thresholds, time_zone } = self;
        let mut all = assets.clone();
        for (asset, limits) in &own.assets {
            let of_plan = all.remove(asset).unwrap_or_default();
            all.insert(asset.clone(), limits.over(&of_plan));
        }
        let other = match (&own.other, other) {
            (Other::Denied, _) => Other::Denied,
            (Other::Limited(own), Other::Denied) if own.is_none() => Other::Denied,
            (Other::Limited(own), Other::Denied) => Other::Limited(own.over(&Limits::NONE)),
            (Other::Limited(own), Other::Limited(of_plan)) => Other::Limited(own.over(of_plan)),
        };
        let own_zone = Some(&own.time_zone).filter(|zone| **zone != TimeZone::UTC);
        KeyConfig {
            global: own.global.over(global),
            assets: all,
            other,
            thresholds: own.thresholds.or(*thresholds),
            time_zone: own_zone.or(time_zone.as_ref()).cloned().unwrap_or_default(),
            ..own.clone()
        }
    }
}

/// Returns the configuration that holds for a key, with its plan if it has one.
pub(crate) fn in_force(own: &KeyConfig, plan: Option<&StoredPlan>) -> KeyConfig {
    match plan {
        Some(plan) => plan.plan.beneath(own),
        None => {
            let alone = |limits: &Limits| limits.over(&Limits::NONE);
            let assets = own.assets.iter().map(|(id, limits)| (id.clone(), alone(limits)));
            let other = match &own.other {
                Other::Limited(limits) => Other::Limited(alone(limits)),
                Other::Denied => Other::Denied,
            };
            KeyConfig { global: alone(&own.global), assets: assets.collect(), other, ..own.clone() }
        }
    }
}

/// A plan with these limits over all calls of each key.
impl From<Limits> for Plan {
    fn from(global: Limits) -> Self {
        Self::default().with_global(global)
    }
}

impl From<&StoredPlan> for PlanRecord {
    fn from(stored: &StoredPlan) -> Self {
        let StoredPlan { workspace, name, plan, version, created_at, changed_at, .. } =
            stored.clone();
        Self { name, workspace, plan, version, created_at, changed_at }
    }
}

/// Limits, thresholds and time zone of a plan.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
struct RawPlan {
    /// Limits over all calls of each key; none if left out.
    #[serde(default)]
    global: Limits,
    /// The assets that are listed, 1,024 at most, with their limits. One without limits is only counted.
    #[serde(default, deserialize_with = "distinct_keys")]
    assets: BTreeMap<AssetId, Limits>,
    /// Limits of all assets that are not listed, together; or `"denied"`.
    #[serde(default)]
    other: Other,
    /// The credits that each key may ever spend: another name for the limit `credits_ever` over all calls.
    #[serde(default)]
    budget: Option<Credits>,
    /// The thresholds of keys that have none of their own, in percent; those of the limiter if left out.
    #[serde(default)]
    thresholds: Option<Thresholds>,
    /// The zone of the days, weeks and months of keys whose own is UTC, by its IANA name; UTC if left out.
    #[serde(default)]
    time_zone: Option<TimeZone>,
}

impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { global, assets, other, thresholds, time_zone } = self.clone();
        let budget = global.get(Window::Ever, Unit::Credits).map(Credits::of_count);
        let global = global.without_budget();
        RawPlan { global, assets, other, budget, thresholds, time_zone }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(raw) = Object::<RawPlan>::deserialize(deserializer)?;
        let RawPlan { global, assets, other, budget, thresholds, time_zone } = raw;
        if budget.is_some() && global.get(Window::Ever, Unit::Credits).is_some() {
            let both =
                InvalidValue::Inconsistent { what: "both budget and credits_ever are given" };
            return Err(serde::de::Error::custom(both));
        }
        let plan = Self { global, assets, other, thresholds, time_zone };
        let plan = match budget {
            Some(budget) => plan.with_budget(budget),
            None => plan,
        };
        plan.check().map(|()| plan).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "utoipa")]
crate::openapi::open_schema_of!(Plan, RawPlan);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KeyKind;
    use crate::state::KeyState;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);

    fn later(minutes: i64) -> Timestamp {
        Timestamp::from_unix_ms(NOON.unix_ms() + minutes * 60_000)
    }

    fn requests(per_minute: u64) -> Limits {
        Limits::builder().requests_per_minute(per_minute).build().unwrap()
    }

    fn update(plan: Plan) -> PlanUpdate {
        PlanUpdate::new("free".parse().unwrap(), plan)
    }

    fn saved(before: Option<&StoredPlan>, update: &PlanUpdate) -> StoredPlan {
        StoredPlan::updated(before, &"acme".parse().unwrap(), update, NOON)
    }

    fn own() -> KeyConfig {
        KeyConfig::named("ci").unwrap().with_plan("free".parse().unwrap())
    }

    fn key(plan: &StoredPlan) -> KeyState {
        KeyState::with_plan(KeyKind::Member, &own(), Some(plan), Thresholds::NONE, NOON)
    }

    fn in_force(state: &KeyState, now: Timestamp) -> Option<u64> {
        let global = state.global().at(now, state.time_zone());
        global.record().limits().get(Window::Minute, Unit::Requests)
    }

    #[test]
    fn own_limits_replace_those_of_the_plan_and_unlimited_lifts_one() {
        let of_plan = Limits::builder().requests_per_minute(5).tokens_per_day(70).parallel(2);
        let plan = saved(None, &update(Plan::default().with_global(of_plan.build().unwrap())));
        let of_key = Limits::builder().requests_per_minute(9).unlimited(Window::Day, Unit::Tokens);
        let of_key = of_key.unlimited_parallel().requests_per_day(40).build().unwrap();
        let merged = plan.plan.beneath(&own().with_global(of_key));
        let expected = Limits::builder().requests_per_minute(9).requests_per_day(40);
        assert_eq!(merged.global, expected.build().unwrap());
    }

    #[test]
    fn assets_are_those_of_both_and_other_assets_are_denied_by_either() {
        let [m1, m2, m3]: [AssetId; 3] = ["m1", "m2", "m3"].map(|id| id.parse().unwrap());
        let plan = Plan::default().with_asset(m1.clone(), requests(1));
        let plan = plan.with_asset(m2.clone(), requests(2)).with_other(Other::Denied);
        let plan = saved(None, &update(plan));
        let of_key = own().with_asset(m2.clone(), requests(20)).with_asset(m3.clone(), requests(3));
        let merged = plan.plan.beneath(&of_key);
        let assets = [(m1, requests(1)), (m2, requests(20)), (m3, requests(3))];
        assert_eq!(merged.assets, BTreeMap::from(assets));
        assert_eq!(merged.other, Other::Denied);
        let allowed = plan.plan.beneath(&of_key.with_other(requests(7)));
        assert_eq!(allowed.other, Other::Limited(requests(7)));
        let open = saved(None, &update(Plan::default().with_other(requests(4))));
        assert_eq!(open.plan.beneath(&own()).other, Other::Limited(requests(4)));
        assert_eq!(open.plan.beneath(&own().with_other(Other::Denied)).other, Other::Denied);
    }

    #[test]
    fn limits_that_lift_are_read_as_they_were_written() {
        let json = r#"{"requests_per_day":3,"tokens_per_minute":"unlimited","credits_ever":"unlimited","parallel":"unlimited"}"#;
        let limits: Limits = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&limits).unwrap(), json);
        let lifted: Vec<_> = limits.lifted().collect();
        assert_eq!(lifted, [(Window::Minute, Unit::Tokens), (Window::Ever, Unit::Credits)]);
        assert!(limits.lifts_parallel());
        assert_eq!(
            limits.to_string(),
            "3 requests per day, unlimited tokens per minute, unlimited credits in all, \
             unlimited calls in parallel"
        );
        for wrong in [r#"{"requests_per_day":"unlimted"}"#, r#"{"parallel":"5"}"#] {
            let error = serde_json::from_str::<Limits>(wrong).unwrap_err().to_string();
            assert!(error.contains("unlimited"), "{error}");
        }
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        for json in [
            r#"{"global":{},"assets":{},"other":{},"budget":null,"thresholds":null,"time_zone":null}"#,
            r#"{"global":{"requests_per_minute":5},"assets":{"m1":{}},"other":"denied","budget":"2.50","thresholds":[50],"time_zone":"UTC"}"#,
        ] {
            let plan: Plan = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&plan).unwrap(), json);
            let stored = saved(None, &update(plan));
            let written = serde_json::to_string(&stored).unwrap();
            assert_eq!(serde_json::from_str::<StoredPlan>(&written).unwrap(), stored);
        }
        assert!(serde_json::from_str::<Plan>(r#"{"globl":{}}"#).is_err());
    }

    #[test]
    fn an_update_that_changes_nothing_keeps_the_version_unless_it_comes_at_once() {
        let next = update(Plan::default().with_global(requests(5)));
        let first = saved(None, &next);
        assert_eq!((first.version, first.at_once), (1, 0));
        assert_eq!(saved(Some(&first), &next), first);
        let now = next.at_once();
        let second = saved(Some(&first), &now);
        assert_eq!((second.version, second.at_once), (2, 2));
        assert_eq!(saved(Some(&second), &now), second);
    }

    #[test]
    fn an_update_names_the_version_that_it_was_made_from() {
        let update = || update(Plan::default());
        let first = saved(None, &update());
        let is_accepted = |update: PlanUpdate, before| update.check_version(before).is_ok();
        assert!(is_accepted(update(), None) && is_accepted(update(), Some(&first)));
        assert!(is_accepted(update().from_version(1), Some(&first)));
        assert!(is_accepted(update().from_version(0), None));
        let stale = update().from_version(0).check_version(Some(&first));
        assert!(matches!(stale, Err(KeysError::Conflict { expected: 0, actual: 1 })));
        let gone = update().from_version(1).check_version(None);
        assert!(matches!(gone, Err(KeysError::NoPlan(_))));
    }

    #[test]
    fn a_window_takes_the_plan_as_it_is_at_its_first_step() {
        let first = saved(None, &update(Plan::default().with_global(requests(5))));
        let second = saved(Some(&first), &update(Plan::default().with_global(requests(7))));
        let third = saved(Some(&second), &update(Plan::default().with_global(requests(9))));
        let mut state = key(&first);
        assert!(state.is_behind(&second) && !state.is_behind(&first));
        // In the minute of its creation it stays as it was.
        state = state.take(&own(), &second, NOON).after;
        assert_eq!((in_force(&state, NOON), in_force(&state, later(1))), (Some(5), Some(7)));
        // No step was made in the next minute: it takes the latest.
        state = state.take(&own(), &third, later(1)).after;
        assert_eq!((in_force(&state, NOON), in_force(&state, later(1))), (Some(5), Some(9)));
        assert!(!state.is_behind(&third));
    }

    #[test]
    fn a_plan_that_is_created_again_is_later_than_each_version_of_the_one_before() {
        let first = saved(None, &update(Plan::default().with_global(requests(5))));
        let old = StoredPlan { version: 5, ..first.clone() };
        let again = StoredPlan { created_at: later(1), ..first };
        assert!(key(&old).is_behind(&again));
        assert!(!key(&again).is_behind(&old), "known from before it was deleted");
    }

    #[test]
    fn a_change_at_once_is_taken_at_once_also_if_another_follows_it() {
        let first = saved(None, &update(Plan::default().with_global(requests(5))));
        let raised = update(Plan::default().with_global(requests(7))).at_once();
        let second = saved(Some(&first), &raised);
        let third = saved(Some(&second), &update(Plan::default().with_global(requests(9))));
        let limit = |plan| in_force(&key(&first).take(&own(), plan, NOON).after, NOON);
        assert_eq!((limit(&second), limit(&third)), (Some(7), Some(9)));
    }

    /// A process that has the old record at hand must see that it is stale.
    #[test]
    fn a_version_that_changes_nothing_for_a_key_is_an_operation_on_its_record() {
        let first = saved(None, &update(Plan::default().with_global(requests(5))));
        let lowered =
            Plan::default().with_global(requests(5)).with_other(Other::Limited(requests(1)));
        let second = saved(Some(&first), &update(lowered));
        let of_own = own().with_other(requests(3));
        let state =
            KeyState::with_plan(KeyKind::Member, &of_own, Some(&first), Thresholds::NONE, NOON);
        let change = state.take(&of_own, &second, NOON);
        assert_eq!(change.scopes.len(), 1);
        assert_eq!(change.after.plan(), Some(&second.taken()));
        assert_ne!(change.after, state);
    }
}
