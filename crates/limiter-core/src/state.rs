//! The live state of a key: everything that a decision about it depends on.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::config::{KeyConfig, KeyKind, Other};
use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::history::{ClosedDay, DayHistory};
use crate::limits::{Limits, counted};
use crate::names::{AssetId, KeyId, PlanName, RequestId};
use crate::parallel::ParallelScopes;
use crate::plan::{self, StoredPlan, TakenPlan};
use crate::prepare::Staged;
use crate::record::Record;
use crate::rule::{Scope, Unit};
use crate::schedule::{SavedScope, ScopeState};
use crate::thresholds::Thresholds;
use crate::window::{NEVER, Window};
use crate::zone::TimeZone;

/// The live state of one key: its kind, expiry, and the scopes that are counted.
///
/// A store keeps one for each key, and gives a step exclusive access to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "SavedState", into = "SavedState")]
pub struct KeyState {
    pub(crate) kind: KeyKind,
    /// The instant of the expiry; [`NEVER`] for none.
    expires: Timestamp,
    pub(crate) global: ScopeState,
    /// Whether calls beyond a limit are let through.
    pub(crate) shadow: bool,
    /// Whether calls of assets that are not listed are refused.
    pub(crate) denies_other: bool,
    /// Whether the key has thresholds of its own, instead of those of the limiter.
    pub(crate) own_thresholds: bool,
    /// Sorted by id. Most keys have limits for one asset, which is stored inline.
    pub(crate) assets: SmallVec<[AssetState; 1]>,
    /// The scope of assets that are not listed, while it has limits.
    pub(crate) other: Option<Box<ScopeState>>,
    /// The number of the last counting of a scope that began.
    pub(crate) generations: u32,
    pub(crate) zone: TimeZone,
    /// Parallel limits and the slots that are held, if there are any.
    pub(crate) parallel: Option<Box<ParallelScopes>>,
    /// What few keys have, and a history. A decision of a registered key does not read it.
    extras: Option<Box<Extras>>,
}

/// The rare parts of a key, and its history.
#[derive(Clone, Debug, Default)]
struct Extras {
    /// The plan that it has, as it took it last.
    plan: Option<TakenPlan>,
    /// Of an open group, the plan of unregistered keys beneath it.
    opens: Option<PlanName>,
    /// Whether nobody registered it.
    unregistered: bool,
    /// Days that have ended, for a store that keeps the history here.
    closed: Option<ClosedDays>,
}

#[derive(Clone, Debug)]
pub(crate) struct AssetState {
    pub(crate) id: AssetId,
    /// Whether the configuration lists it. Otherwise it is counted until its limits and its day have ended.
    pub(crate) listed: bool,
    pub(crate) scope: ScopeState,
}

/// The days of a key that have ended.
#[derive(Clone, Debug)]
struct ClosedDays {
    days: Vec<ClosedDay>,
    kept: u16,
}

/// A scope of a key, by its name: `{"scope":"global"}`, `{"scope":"asset","asset":"gpt-5"}` or `{"scope":"other"}` in JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct ScopeId {
    /// The kind of scope.
    pub scope: Scope,
    /// The asset, if the scope is one of an asset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset: Option<AssetId>,
}

/// A scope of a key, by its place in the key's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All calls.
    Global,
    /// The asset at this position.
    Asset(usize),
    /// All assets that are not listed.
    Other,
}

/// Credits spent, and the budget that limits them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct CreditUsage {
    /// Credits that the key has spent in its life, counted also without a budget.
    pub spent: Credits,
    /// The most that it may ever spend, if there is a budget.
    pub budget: Option<Credits>,
}

/// The asset of a call, and its position in the key's state.
#[derive(Clone, Copy, Debug)]
pub struct LocatedAsset<'a> {
    pub(crate) id: Option<&'a AssetId>,
    position: Option<usize>,
}

/// The place where an asset was found the last time. It saves the next search if the asset is still there, and is
/// never wrong if it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AssetHint {
    /// The position among the assets.
    pub position: u32,
    /// The generation of the asset's record that was found there. Where none was found, the newest of the key.
    pub generation: u32,
}

/// The parts of a key's state that are no scopes.
#[derive(Clone, Debug)]
pub struct KeySettings {
    /// Member or admin.
    pub kind: KeyKind,
    /// When the key expires.
    pub expires_at: Option<Timestamp>,
    /// Whether calls beyond a limit are let through.
    pub shadow: bool,
    /// Whether calls of assets that are not listed are refused.
    pub denies_other: bool,
    /// Whether the thresholds are the key's own.
    pub own_thresholds: bool,
    /// The number of the last counting of a scope that began.
    pub generations: u32,
    /// The zone of its days, weeks and months.
    pub time_zone: TimeZone,
    /// The plan that it has, as it took it last.
    pub plan: Option<TakenPlan>,
    /// Of an open group, the plan of unregistered keys beneath it.
    pub opens: Option<PlanName>,
    /// Whether somebody registered it, and not merely a call has met it beneath an open group.
    pub registered: bool,
}

impl Extras {
    fn boxed(self) -> Option<Box<Self>> {
        let Self { plan, opens, unregistered, closed } = &self;
        let is_any = plan.is_some() || opens.is_some() || *unregistered || closed.is_some();
        is_any.then(|| Box::new(self))
    }
}

impl Place {
    /// Returns the kind of the scope.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::Global => Scope::Global,
            Self::Asset(_) => Scope::Asset,
            Self::Other => Scope::Other,
        }
    }
}

impl ScopeId {
    /// All calls.
    pub const GLOBAL: Self = Self { scope: Scope::Global, asset: None };

    /// All assets that are not listed.
    pub const OTHER: Self = Self { scope: Scope::Other, asset: None };

    /// Returns the scope of an asset.
    #[must_use]
    pub const fn asset(asset: AssetId) -> Self {
        Self { scope: Scope::Asset, asset: Some(asset) }
    }
}

/// Formats as in `all calls`, `asset "gpt-5"`, `other assets`.
impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scope, &self.asset) {
            (Scope::Asset, Some(asset)) => write!(f, "asset {asset:?}"),
            (Scope::Asset, None) => f.write_str("the asset"),
            (Scope::Global, _) => f.write_str("all calls"),
            (Scope::Other, _) => f.write_str("other assets"),
        }
    }
}

/// A scope of a key or of one of its groups, for people: `all calls`, `group acme`, `asset "gpt-5" of group acme`.
pub(crate) struct ScopeOf<'a>(pub(crate) Option<&'a KeyId>, pub(crate) &'a ScopeId);

impl fmt::Display for ScopeOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (None, scope) => scope.fmt(f),
            (Some(group), ScopeId { scope: Scope::Global, .. }) => write!(f, "group {group}"),
            (Some(group), scope) => write!(f, "{scope} of group {group}"),
        }
    }
}

impl<'a> LocatedAsset<'a> {
    /// Returns whether the key has no scope for the asset.
    pub(crate) const fn is_other(&self) -> bool {
        self.id.is_some() && self.position.is_none()
    }

    pub(crate) fn place(&self) -> Option<Place> {
        self.position.map(Place::Asset)
    }
}

impl KeyState {
    /// Creates the state of a new key: its limits are in force at once. `thresholds` are those of the limiter, for a key
    /// without thresholds of its own.
    #[must_use]
    pub fn new(kind: KeyKind, config: &KeyConfig, thresholds: Thresholds, now: Timestamp) -> Self {
        Self::with_plan(kind, config, None, thresholds, now)
    }

    /// Creates the state of a new key, with its plan if it has one: its limits are in force at once.
    #[must_use]
    pub fn with_plan(
        kind: KeyKind,
        own: &KeyConfig,
        plan: Option<&StoredPlan>,
        thresholds: Thresholds,
        now: Timestamp,
    ) -> Self {
        let config = plan::in_force(own, plan);
        let thresholds = plan.map_or(thresholds, |plan| plan.thresholds);
        let zone = config.time_zone.clone();
        let own_thresholds = config.thresholds.is_some();
        let thresholds = config.thresholds.unwrap_or(thresholds);
        let global =
            ScopeState::new(true, &config.global, thresholds, FIRST_GENERATION, now, &zone);
        let mut state = Self {
            kind,
            expires: config.expires_at.unwrap_or(NEVER),
            global,
            shadow: config.shadow,
            denies_other: config.other == Other::Denied,
            own_thresholds,
            assets: SmallVec::new(),
            other: None,
            generations: FIRST_GENERATION,
            zone,
            parallel: None,
            extras: Extras {
                plan: plan.map(StoredPlan::taken),
                opens: config.open.clone(),
                ..Extras::default()
            }
            .boxed(),
        };
        for (id, limits) in &config.assets {
            let scope = state.begun(limits, thresholds, now);
            state.assets.push(AssetState { id: id.clone(), listed: true, scope });
        }
        if let Other::Limited(limits) = &config.other
            && !limits.amounts().is_empty()
        {
            state.other = Some(Box::new(state.begun(limits, thresholds, now)));
        }
        state.with_parallel_limits(config.parallel_limits())
    }

    /// Creates the state of an unregistered key, beneath a group that is open with this plan.
    #[must_use]
    pub fn unregistered(plan: &StoredPlan, now: Timestamp) -> Self {
        let own = KeyConfig::of_unregistered();
        let mut state =
            Self::with_plan(KeyKind::Member, &own, Some(plan), Thresholds::DEFAULT, now);
        state.extras.get_or_insert_default().unregistered = true;
        state
    }

    /// Returns the state with other numbers for the countings of its scopes: after those of an earlier state.
    pub(crate) fn numbered_after(mut self, generations: u32) -> Self {
        for place in self.places() {
            if let Some(scope) = self.scope_at_mut(place) {
                scope.record.generation = scope.record.generation.wrapping_add(generations);
            }
        }
        self.generations = self.generations.wrapping_add(generations);
        self
    }

    /// Returns whether a call was charged to it that made a request, since its day began: of an unregistered key, whether its
    /// state is worth to be kept.
    #[must_use]
    pub fn has_made_requests(&self) -> bool {
        self.global.record.account().requests() > 0
    }

    fn begun(&mut self, limits: &Limits, thresholds: Thresholds, now: Timestamp) -> ScopeState {
        let generation = self.next_generation();
        ScopeState::new(false, limits, thresholds, generation, now, &self.zone)
    }

    /// Creates a state from its stored parts, or from those that a call needs. Each asset comes with whether the
    /// configuration lists it.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] above [`Self::MAX_COUNTED_ASSETS`].
    pub fn from_parts(
        settings: KeySettings,
        global: ScopeState,
        assets: impl IntoIterator<Item = (AssetId, bool, ScopeState)>,
        other: Option<ScopeState>,
    ) -> Result<Self, InvalidValue> {
        let assets = assets.into_iter().map(|(id, listed, scope)| AssetState { id, listed, scope });
        let mut assets: SmallVec<[AssetState; 1]> = assets.collect();
        assets.sort_by(|one, other| one.id.cmp(&other.id));
        assets.dedup_by(|one, other| one.id == other.id);
        check_count(assets.len())?;
        let KeySettings {
            kind,
            expires_at,
            shadow,
            denies_other,
            own_thresholds,
            generations,
            time_zone,
            plan,
            opens,
            registered,
        } = settings;
        Ok(Self {
            kind,
            expires: expires_at.unwrap_or(NEVER),
            global,
            shadow,
            denies_other,
            own_thresholds,
            assets,
            other: other.map(Box::new),
            generations,
            zone: time_zone,
            parallel: None,
            extras: Extras { plan, opens, unregistered: !registered, closed: None }.boxed(),
        })
    }

    /// Keeps the accounts of days that end, for this many days, today included.
    #[must_use]
    pub fn keeping_history(mut self, days: u16) -> Self {
        if !self.is_registered() {
            return self;
        }
        let extras = self.extras.get_or_insert_default();
        let closed = extras.closed.take().map_or_else(Vec::new, |closed| closed.days);
        let kept = days.min(DayHistory::MOST_DAYS);
        extras.closed = Some(ClosedDays { days: closed, kept });
        self
    }

    /// Returns the days that have ended, for a store that keeps the history elsewhere.
    pub fn closed_days(&self) -> impl Iterator<Item = &ClosedDay> {
        let closed = self.extras.as_ref().and_then(|extras| extras.closed.as_ref());
        closed.into_iter().flat_map(|closed| &closed.days)
    }

    /// Returns the history of the last days, the oldest first and today at the end.
    #[must_use]
    pub fn history(&self, days: u16, now: Timestamp) -> Vec<DayHistory> {
        if !self.is_registered() {
            return Vec::new();
        }
        let closed = self.extras.as_ref().and_then(|extras| extras.closed.as_ref());
        let days = days.min(closed.map_or(1, |closed| closed.kept));
        DayHistory::of(
            self,
            closed.map_or(&[][..], |closed| &closed.days).iter().cloned(),
            days,
            now,
        )
    }

    pub(crate) fn close(&mut self, day: ClosedDay, now: Timestamp) {
        let closed = self.extras.as_mut().and_then(|extras| extras.closed.as_mut());
        let Some(closed) = closed else { return };
        // A row of days more than are asked for: days have up to 25 hours.
        let kept_ms = i64::from(closed.kept).saturating_add(1).saturating_mul(25 * 3_600_000);
        let first = Timestamp::from_unix_ms(now.unix_ms().saturating_sub(kept_ms));
        closed.days.push(day);
        closed.days.retain(|day| day.span.end > first);
    }

    /// Finds the asset of a call.
    #[must_use]
    #[inline]
    pub fn locate<'a>(&self, asset: Option<&'a AssetId>) -> LocatedAsset<'a> {
        let position = match (asset, self.assets.as_slice()) {
            (None, _) => None,
            // Most keys have limits for few assets: one needs no search.
            (Some(id), [only]) => (only.id == *id).then_some(0),
            (Some(id), _) => self.search(id).ok(),
        };
        LocatedAsset { id: asset, position }
    }

    /// Finds the asset of a call at the position of the hint, if it is still there; or nowhere, if it still has no scope.
    #[must_use]
    #[inline]
    pub fn locate_hinted<'a>(
        &self,
        asset: Option<&'a AssetId>,
        hint: AssetHint,
    ) -> Option<LocatedAsset<'a>> {
        if hint.position == NOWHERE {
            let position = None;
            return (hint.generation == self.generations)
                .then_some(LocatedAsset { id: asset, position });
        }
        let position = usize::try_from(hint.position).ok()?;
        let found = self.assets.get(position)?;
        (found.scope.record.generation == hint.generation)
            .then_some(LocatedAsset { id: asset, position: Some(position) })
    }

    /// Returns a hint for the next call of the asset.
    #[must_use]
    pub fn hint(&self, located: LocatedAsset<'_>) -> AssetHint {
        let hint = located.position.and_then(|position| {
            let generation = self.assets.get(position)?.scope.record.generation;
            Some(AssetHint { position: u32::try_from(position).ok()?, generation })
        });
        // Any scope that begins draws a number.
        hint.unwrap_or(AssetHint { position: NOWHERE, generation: self.generations })
    }

    /// The most assets that one key has counts for: those that are listed, and those that were listed and whose limits or
    /// day have not ended. It bounds the memory of a key.
    pub const MAX_COUNTED_ASSETS: usize = 4 * KeyConfig::MAX_ASSETS;

    /// Returns the parts that are no scopes.
    #[must_use]
    pub fn settings(&self) -> KeySettings {
        KeySettings {
            kind: self.kind,
            expires_at: self.expires_at(),
            shadow: self.shadow,
            denies_other: self.denies_other,
            own_thresholds: self.own_thresholds,
            generations: self.generations,
            time_zone: self.zone.clone(),
            plan: self.plan().cloned(),
            opens: self.opens().cloned(),
            registered: self.is_registered(),
        }
    }

    /// Returns the plan that the key has, as it took it last.
    #[must_use]
    #[inline]
    pub fn plan(&self) -> Option<&TakenPlan> {
        self.extras.as_ref()?.plan.as_ref()
    }

    pub(crate) fn set_plan(&mut self, plan: Option<TakenPlan>) {
        let extras = self.extras.take().map(|extras| *extras).unwrap_or_default();
        self.extras = Extras { plan, ..extras }.boxed();
    }

    /// Returns the plan of unregistered keys beneath it, if it is an open group.
    #[must_use]
    pub fn opens(&self) -> Option<&PlanName> {
        self.extras.as_ref()?.opens.as_ref()
    }

    pub(crate) fn set_opens(&mut self, opens: Option<PlanName>) {
        let extras = self.extras.take().map(|extras| *extras).unwrap_or_default();
        self.extras = Extras { opens, ..extras }.boxed();
    }

    /// Returns whether somebody registered it, and not merely a call has met it beneath an open group.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        !self.extras.as_ref().is_some_and(|extras| extras.unregistered)
    }

    /// Returns the generation of the newest counting of a scope.
    #[must_use]
    pub const fn generations(&self) -> u32 {
        self.generations
    }

    /// Returns the kind: member or admin.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Returns the instant at which the key expires, if ever.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.expires < NEVER).then_some(self.expires)
    }

    pub(crate) fn set_expiry(&mut self, expires_at: Option<Timestamp>) {
        self.expires = expires_at.unwrap_or(NEVER);
    }

    /// Returns the zone of its days, weeks and months.
    #[must_use]
    pub const fn time_zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Returns whether the key is expired at `now`.
    #[must_use]
    #[inline]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }

    /// Returns whether kind and expiry of the key allow calls at `now`.
    #[must_use]
    #[inline]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.kind == KeyKind::Member && !self.is_expired(now)
    }

    /// Returns whether kind and expiry of the key and its list of assets allow a call of this asset at `now`.
    #[must_use]
    pub fn may_call(&self, asset: LocatedAsset<'_>, now: Timestamp) -> bool {
        self.is_usable(now) && !self.denies(asset)
    }

    /// Returns whether a call of this asset is refused because only listed ones may be called.
    pub(crate) fn denies(&self, asset: LocatedAsset<'_>) -> bool {
        let listed = asset.position.and_then(|position| self.assets.get(position));
        self.denies_other && asset.id.is_some() && !listed.is_some_and(|asset| asset.listed)
    }

    /// Returns the credits spent, and the budget.
    #[must_use]
    pub fn credits(&self) -> CreditUsage {
        let record = &self.global.record;
        let meter = record.meter(Window::Ever, Unit::Credits);
        CreditUsage {
            spent: Credits::of_count(meter.map_or(0, |meter| meter.used(record.thresholds))),
            budget: meter.and_then(|meter| meter.limit()).map(Credits::of_count),
        }
    }

    /// Returns the shares of its limits that raise an event when they are reached.
    #[must_use]
    pub const fn thresholds(&self) -> Thresholds {
        self.global.record.thresholds
    }

    /// Returns whether calls of an asset may meet other assets at another time: it is counted, but not listed any more.
    #[must_use]
    pub fn may_meet_other(&self, asset: LocatedAsset<'_>) -> bool {
        let found = asset.position.and_then(|position| self.assets.get(position));
        self.other.is_some() && found.is_some_and(|asset| !asset.listed)
    }

    /// Returns whether the key is in shadow mode.
    #[must_use]
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Returns the global scope.
    #[must_use]
    pub const fn global(&self) -> &ScopeState {
        &self.global
    }

    /// Returns the assets that are counted, by the bytes of their ids, each with whether it is listed.
    pub fn assets(&self) -> impl Iterator<Item = (&AssetId, bool, &ScopeState)> {
        self.assets.iter().map(|asset| (&asset.id, asset.listed, &asset.scope))
    }

    /// Returns the scope of assets that are not listed, if it is counted.
    #[must_use]
    pub fn other(&self) -> Option<&ScopeState> {
        self.other.as_deref()
    }

    /// Returns every scope that is counted, in canonical order.
    pub fn every_scope(&self) -> impl Iterator<Item = (ScopeId, &ScopeState)> {
        let assets = self.assets.iter();
        let assets = assets.map(|asset| (ScopeId::asset(asset.id.clone()), &asset.scope));
        let other = self.other.iter().map(|other| (ScopeId::OTHER, &**other));
        std::iter::once((ScopeId::GLOBAL, &self.global)).chain(assets).chain(other)
    }

    /// Returns the places of every scope, in canonical order.
    pub fn every_place(&self) -> impl Iterator<Item = Place> + use<> {
        self.places()
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let other = self.other.is_some().then_some(Place::Other);
        let assets = (0..self.assets.len()).map(Place::Asset);
        std::iter::once(Place::Global).chain(assets).chain(other)
    }

    /// Returns the scope at a place.
    #[must_use]
    pub fn scope_at(&self, place: Place) -> Option<&ScopeState> {
        match place {
            Place::Global => Some(&self.global),
            Place::Asset(position) => self.assets.get(position).map(|asset| &asset.scope),
            Place::Other => self.other.as_deref(),
        }
    }

    pub(crate) fn scope_at_mut(&mut self, place: Place) -> Option<&mut ScopeState> {
        match place {
            Place::Global => Some(&mut self.global),
            Place::Asset(position) => self.assets.get_mut(position).map(|asset| &mut asset.scope),
            Place::Other => self.other.as_deref_mut(),
        }
    }

    /// Returns the name of the scope at a place.
    #[must_use]
    pub fn id_at(&self, place: Place) -> ScopeId {
        let asset = match place {
            Place::Asset(position) => self.assets.get(position).map(|asset| asset.id.clone()),
            _ => None,
        };
        ScopeId { scope: place.scope(), asset }
    }

    /// Returns whether the configuration keeps the scope at a place, limited or not.
    pub(crate) fn is_kept(&self, place: Place) -> bool {
        match place {
            Place::Global => true,
            Place::Asset(position) => self.assets.get(position).is_some_and(|asset| asset.listed),
            Place::Other => false,
        }
    }

    /// Returns the records that a call of this kind meets, for a call that simply fits: the global one, and at most one
    /// more. `None` if the call may need a longer look.
    #[inline]
    pub(crate) fn meet(
        &mut self,
        asset: LocatedAsset<'_>,
    ) -> Option<(&mut Record, Option<(Scope, &mut Record)>)> {
        let second = match asset.position {
            Some(position) => {
                let AssetState { scope, listed, .. } = self.assets.get_mut(position)?;
                if scope.joins_other() || self.denies_other && !*listed {
                    return None;
                }
                Some((Scope::Asset, &mut scope.record))
            }
            None if asset.id.is_none() => None,
            None if self.denies_other => return None,
            None => match &mut self.other {
                Some(other) if other.has_limits() => Some((Scope::Other, &mut other.record)),
                _ => None,
            },
        };
        Some((&mut self.global.record, second))
    }

    /// Returns the scopes that a call of this asset meets, as they are stored.
    pub fn met(&self, asset: LocatedAsset<'_>) -> impl Iterator<Item = Place> + use<> {
        let place = asset.place();
        let joins =
            place.and_then(|place| self.scope_at(place)).is_some_and(ScopeState::joins_other);
        let other = self.other().is_some_and(ScopeState::has_limits);
        let other = (other && (asset.is_other() || joins)).then_some(Place::Other);
        std::iter::once(Place::Global).chain(place).chain(other)
    }

    /// Returns the records of these places.
    pub fn records_of(
        &self,
        places: impl IntoIterator<Item = Place>,
    ) -> impl Iterator<Item = &Record> {
        places.into_iter().filter_map(|place| Some(self.scope_at(place)?.record()))
    }

    /// Replaces the record at a place by that of another place.
    pub fn set_record(&mut self, place: Place, record: Record) {
        if let Some(scope) = self.scope_at_mut(place) {
            scope.record = record;
        }
    }

    /// Puts a record, and what is still pending of the scope.
    pub(crate) fn put(&mut self, place: Place, record: Record, staged: &Staged) {
        if let Some(scope) = self.scope_at_mut(place) {
            scope.record = record;
            if scope.all_pending() != &staged.pending[..] {
                scope.set_pending(staged.pending.clone());
            }
        }
    }

    pub(crate) fn drop_scope(&mut self, place: Place) {
        match place {
            Place::Asset(position) if position < self.assets.len() => {
                drop(self.assets.remove(position));
            }
            Place::Other => self.other = None,
            _ => {}
        }
    }

    /// Copies the part of the state that a call of this asset depends on.
    #[must_use]
    pub fn relevant_to(&self, located: LocatedAsset<'_>) -> Self {
        let asset = located.position.and_then(|position| self.assets.get(position));
        Self {
            global: self.global.clone(),
            assets: asset.cloned().into_iter().collect(),
            other: self.other.clone().filter(|_| located.id.is_some()),
            zone: self.zone.clone(),
            parallel: None,
            extras: Extras { unregistered: !self.is_registered(), ..Extras::default() }.boxed(),
            ..*self
        }
    }

    /// Returns whether the configuration lists an asset.
    pub(crate) fn lists(&self, asset: &AssetId) -> bool {
        let found = self.search(asset).ok().and_then(|position| self.assets.get(position));
        found.is_some_and(|asset| asset.listed)
    }

    pub(crate) fn search(&self, id: &AssetId) -> Result<usize, usize> {
        self.assets.binary_search_by(|asset| asset.id.cmp(id))
    }

    /// Draws a number for a new counting of a scope; numbers that turn out not to be needed are skipped.
    pub(crate) const fn next_generation(&mut self) -> u32 {
        self.generations = self.generations.wrapping_add(1);
        self.generations
    }

    /// Returns the configuration of its scopes: limits over all calls, of assets that are listed, and of other assets.
    #[must_use]
    pub fn configured(&self) -> (Limits, BTreeMap<AssetId, Limits>, Other) {
        let of = |scope: ScopeId, configured: Limits| {
            let parallel = self.parallel_limit(&scope);
            configured.with_parallel(parallel)
        };
        let listed = self.assets.iter().filter(|asset| asset.listed);
        let assets = listed.map(|asset| {
            let limits = of(ScopeId::asset(asset.id.clone()), asset.scope.configured());
            (asset.id.clone(), limits)
        });
        let of_other = || self.other.as_ref().map_or(Limits::NONE, |other| other.configured());
        let other = match self.denies_other {
            true => Other::Denied,
            false => Other::Limited(of(ScopeId::OTHER, of_other())),
        };
        (of(ScopeId::GLOBAL, self.global.configured()), assets.collect(), other)
    }
}

/// Equality ignores the identities of windows and the history: equal states decide every future call alike.
impl PartialEq for KeyState {
    fn eq(&self, other: &Self) -> bool {
        let settings = |state: &Self| {
            (state.kind, state.expires, state.shadow, state.denies_other, state.own_thresholds)
        };
        settings(self) == settings(other)
            && self.zone == other.zone
            && self.plan() == other.plan()
            && (self.opens(), self.is_registered()) == (other.opens(), other.is_registered())
            && self.global == other.global
            && self.assets().eq(other.assets())
            && self.other == other.other
            && self.parallel == other.parallel
    }
}

impl Eq for KeyState {}

impl CreditUsage {
    /// Returns the remaining budget, at least 0, if there is a budget.
    #[must_use]
    pub fn remaining(&self) -> Option<Credits> {
        Some(self.budget? - self.spent)
    }
}

/// Formats as in `1.50 of 25.00 credits`, or `1.50 credits` without a budget.
impl fmt::Display for CreditUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.budget {
            Some(budget) => write!(f, "{} of {budget} credits", self.spent),
            None => write!(f, "{} credits", self.spent),
        }
    }
}

/// The serialized form. Every field is required, here and in all saved forms, if only as `null`: a limit with a damaged
/// field name must not load as no limit. By default serde reads a missing field as `None`; `deserialize_with` does not.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedState {
    kind: KeyKind,
    #[serde(deserialize_with = "Option::deserialize")]
    expires_at: Option<Timestamp>,
    thresholds: Thresholds,
    own_thresholds: bool,
    shadow: bool,
    time_zone: TimeZone,
    #[serde(deserialize_with = "Option::deserialize")]
    plan: Option<TakenPlan>,
    #[serde(deserialize_with = "Option::deserialize")]
    opens: Option<PlanName>,
    registered: bool,
    denies_other: bool,
    generations: u32,
    global: SavedScope,
    assets: BTreeMap<AssetId, SavedAsset>,
    #[serde(deserialize_with = "Option::deserialize")]
    other: Option<SavedScope>,
    parallel: Vec<SavedParallel>,
    slots: Vec<SavedSlot>,
    /// The number of days that are kept, and those that have ended.
    #[serde(deserialize_with = "Option::deserialize")]
    history: Option<(u16, Vec<ClosedDay>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedParallel {
    of: ScopeId,
    #[serde(deserialize_with = "parallel_limit")]
    limit: u64,
}

/// A slot that a reservation holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedSlot {
    of: ScopeId,
    key: KeyId,
    id: RequestId,
    until: Timestamp,
}

fn parallel_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    counted("a limit", u64::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedAsset {
    listed: bool,
    scope: SavedScope,
}

impl From<KeyState> for SavedState {
    fn from(state: KeyState) -> Self {
        let assets = state.assets.iter().map(|asset| {
            let scope = SavedScope::from(&asset.scope);
            (asset.id.clone(), SavedAsset { listed: asset.listed, scope })
        });
        Self {
            kind: state.kind,
            expires_at: state.expires_at(),
            thresholds: state.thresholds(),
            own_thresholds: state.own_thresholds,
            shadow: state.shadow,
            denies_other: state.denies_other,
            generations: state.generations,
            global: SavedScope::from(&state.global),
            assets: assets.collect(),
            other: state.other.as_deref().map(SavedScope::from),
            parallel: state
                .parallel_limits()
                .map(|(of, limit)| SavedParallel { of: of.clone(), limit })
                .collect(),
            slots: state
                .slots()
                .map(|(of, (key, id), until)| SavedSlot {
                    of: of.clone(),
                    key: key.clone(),
                    id: id.clone(),
                    until,
                })
                .collect(),
            plan: state.plan().cloned(),
            opens: state.opens().cloned(),
            registered: state.is_registered(),
            history: state
                .extras
                .and_then(|extras| extras.closed)
                .map(|closed| (closed.kept, closed.days)),
            time_zone: state.zone,
        }
    }
}

impl TryFrom<SavedState> for KeyState {
    type Error = InvalidValue;

    fn try_from(saved: SavedState) -> Result<Self, InvalidValue> {
        let (thresholds, zone) = (saved.thresholds, saved.time_zone);
        let global = saved.global.restored(true, thresholds, &zone)?;
        let assets = saved.assets.into_iter().map(|(id, SavedAsset { listed, scope })| {
            Ok((id, listed, scope.restored(false, thresholds, &zone)?))
        });
        let assets = assets.collect::<Result<Vec<_>, InvalidValue>>()?;
        let other =
            saved.other.map(|other| other.restored(false, thresholds, &zone)).transpose()?;
        let settings = KeySettings {
            kind: saved.kind,
            expires_at: saved.expires_at,
            shadow: saved.shadow,
            denies_other: saved.denies_other,
            own_thresholds: saved.own_thresholds,
            generations: saved.generations,
            time_zone: zone,
            plan: saved.plan,
            opens: saved.opens,
            registered: saved.registered,
        };
        let limits = saved.parallel.into_iter().map(|SavedParallel { of, limit }| (of, limit));
        let state = Self::from_parts(settings, global, assets, other)?;
        let mut state = state.with_parallel_limits(limits);
        for SavedSlot { of, key, id, until } in saved.slots {
            state.hold_slot(of, (key, id), until);
        }
        if let Some((kept, days)) = saved.history {
            state.extras.get_or_insert_default().closed = Some(ClosedDays { days, kept });
        }
        Ok(state)
    }
}

const fn check_count(count: usize) -> Result<(), InvalidValue> {
    if count > KeyState::MAX_COUNTED_ASSETS {
        return Err(InvalidValue::TooManyAssets { count, max: KeyState::MAX_COUNTED_ASSETS });
    }
    Ok(())
}

/// The position of an asset that has no scope.
const NOWHERE: u32 = u32::MAX;
/// The generation of a new key's global scope; its assets follow. Zero is none.
const FIRST_GENERATION: u32 = 1;
