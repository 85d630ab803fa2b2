//! The state of one key: everything that a decision depends on.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::charge::Amount;
use crate::clock::Timestamp;
use crate::config::{KeyConfig, KeyKind};
use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::meter::Meter;
use crate::names::AssetId;
use crate::record::{CREDITS, Record};
use crate::rules::Rules;
use crate::schedule::ScopeState;
use crate::thresholds::Thresholds;

/// The live state of one key: its kind, expiry, and the scopes that are counted.
///
/// A store keeps one for each key, and gives a step exclusive access to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawKeyState", into = "RawKeyState")]
pub struct KeyState {
    pub(crate) kind: KeyKind,
    pub(crate) expires_at: Option<Timestamp>,
    /// Credits always; requests and tokens while the key has limits over all calls.
    pub(crate) global: ScopeState,
    /// Whether calls beyond a limit are let through.
    pub(crate) shadow: bool,
    /// Sorted by id. Most keys have limits for one asset, which is stored inline.
    pub(crate) assets: SmallVec<[AssetState; 1]>,
    /// The number of the last counting of a scope that began.
    pub(crate) generations: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct AssetState {
    pub(crate) id: AssetId,
    pub(crate) scope: ScopeState,
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
    /// The generation of the asset's record that was found there; 0 for none.
    pub generation: u32,
}

impl KeyState {
    /// Creates the state of a new key: its limits are in force at once.
    #[must_use]
    pub fn new(kind: KeyKind, config: &KeyConfig, now: Timestamp) -> Self {
        let thresholds = config.thresholds.unwrap_or_default();
        let budget = Meter::new(config.budget.map(Credits::millionths));
        let mut global = ScopeState::global(budget, thresholds);
        if !config.global.is_none() {
            global.begin(now, FIRST_GENERATION);
            global = global.with_limits_now(config.global);
        }
        let mut state = Self {
            kind,
            expires_at: config.expires_at,
            global,
            shadow: config.shadow,
            assets: SmallVec::new(),
            generations: FIRST_GENERATION,
        };
        for (id, limits) in config.assets.iter().filter(|(_, limits)| !limits.is_none()) {
            let scope = ScopeState::asset(now, state.next_generation(), thresholds);
            let scope = scope.with_limits_now(*limits);
            state.assets.push(AssetState { id: id.clone(), scope });
        }
        state
    }

    /// Creates a state from its stored parts, or from those that a call needs.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] above [`Self::MAX_COUNTED_ASSETS`].
    pub fn from_parts(
        kind: KeyKind,
        expires_at: Option<Timestamp>,
        shadow: bool,
        generations: u32,
        global: ScopeState,
        assets: impl IntoIterator<Item = (AssetId, ScopeState)>,
    ) -> Result<Self, InvalidValue> {
        let assets = assets.into_iter().map(|(id, scope)| AssetState { id, scope });
        let mut assets: SmallVec<[AssetState; 1]> = assets.collect();
        assets.sort_by(|one, other| one.id.cmp(&other.id));
        assets.dedup_by(|one, other| one.id == other.id);
        check_count(assets.len())?;
        Ok(Self { kind, expires_at, global, shadow, assets, generations })
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

    /// Finds the asset of a call at the position of the hint, if it is still there.
    #[must_use]
    #[inline]
    pub fn locate_hinted<'a>(
        &self,
        asset: Option<&'a AssetId>,
        hint: AssetHint,
    ) -> Option<LocatedAsset<'a>> {
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
        hint.unwrap_or_default()
    }

    /// The most assets that one key has counts for: those in force and those that are still pending or
    /// winding down after changes within the same day. It bounds the memory of a key.
    pub const MAX_COUNTED_ASSETS: usize = 4 * KeyConfig::MAX_ASSETS;

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
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Returns whether the key is expired at `now`.
    #[must_use]
    #[inline]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Returns whether kind and expiry of the key allow calls at `now`.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.kind == KeyKind::Member && !self.is_expired(now)
    }

    /// Returns the credits spent, and the budget.
    #[must_use]
    pub fn credits(&self) -> CreditUsage {
        CreditUsage::of(&self.global.record.meter(CREDITS))
    }

    /// Returns the shares of its limits that raise an event when they are reached.
    #[must_use]
    pub const fn thresholds(&self) -> Thresholds {
        self.global.record.thresholds
    }

    /// Returns whether the key is in shadow mode.
    #[must_use]
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Returns the global scope, if it counts requests and tokens.
    #[must_use]
    pub fn global(&self) -> Option<&ScopeState> {
        Some(&self.global).filter(|scope| scope.record.has_windows())
    }

    /// Returns the global record. It always counts credits.
    #[must_use]
    pub const fn global_scope(&self) -> &ScopeState {
        &self.global
    }

    /// Returns the assets that are counted, by the bytes of their ids.
    pub fn assets(&self) -> impl Iterator<Item = (&AssetId, &ScopeState)> {
        self.assets.iter().map(|asset| (&asset.id, &asset.scope))
    }

    /// Returns the records that a call meets.
    #[inline]
    pub(crate) fn meet(&mut self, asset: LocatedAsset<'_>) -> (&mut Record, Option<&mut Record>) {
        let of_asset = match asset.position {
            Some(position) => self.assets.get_mut(position).map(|asset| &mut asset.scope.record),
            None => None,
        };
        (&mut self.global.record, of_asset)
    }

    /// Returns the scopes that a call meets: the global one, then that of its asset if it is counted.
    pub(crate) fn scopes(&self, asset: LocatedAsset<'_>) -> impl Iterator<Item = &ScopeState> {
        std::iter::once(&self.global).chain(self.asset(asset))
    }

    pub(crate) fn scopes_mut(
        &mut self,
        asset: LocatedAsset<'_>,
    ) -> impl Iterator<Item = &mut ScopeState> {
        let of_asset = asset.position.and_then(|position| self.assets.get_mut(position));
        std::iter::once(&mut self.global).chain(of_asset.map(|asset| &mut asset.scope))
    }

    /// Returns the records that a call meets: the global one, then that of its asset if it is counted.
    pub fn records_of(&self, asset: LocatedAsset<'_>) -> impl Iterator<Item = &Record> {
        self.scopes(asset).map(|scope| &scope.record)
    }

    /// Replaces the records that a call meets by those of another place.
    pub fn set_records(
        &mut self,
        asset: LocatedAsset<'_>,
        global: Record,
        of_asset: Option<Record>,
    ) {
        let records = std::iter::once(global).chain(of_asset);
        for (scope, record) in self.scopes_mut(asset).zip(records) {
            scope.record = record;
        }
    }

    /// Returns the state of the rules that a call meets.
    pub(crate) fn rules(&self, asset: LocatedAsset<'_>) -> Rules {
        let of_asset = self.asset(asset).map_or(Record::UNCOUNTED, |scope| scope.record);
        Rules::new([self.global.record, of_asset])
    }

    pub(crate) fn asset(&self, located: LocatedAsset<'_>) -> Option<&ScopeState> {
        self.assets.get(located.position?).map(|asset| &asset.scope)
    }

    pub(crate) fn drop_asset(&mut self, located: LocatedAsset<'_>) {
        if let Some(position) = located.position
            && position < self.assets.len()
        {
            self.assets.remove(position);
        }
    }

    /// Copies the part of the state that a call of this asset depends on.
    #[must_use]
    pub fn relevant_to(&self, located: LocatedAsset<'_>) -> Self {
        let asset = located.position.and_then(|position| self.assets.get(position));
        Self { global: self.global.clone(), assets: asset.cloned().into_iter().collect(), ..*self }
    }

    pub(crate) fn search(&self, id: &AssetId) -> Result<usize, usize> {
        self.assets.binary_search_by(|asset| asset.id.cmp(id))
    }

    /// Draws a number for a new counting of a scope; numbers that turn out not to be needed are skipped.
    pub(crate) const fn next_generation(&mut self) -> u32 {
        self.generations = self.generations.wrapping_add(1);
        self.generations
    }
}

/// Equality ignores the identities of windows: equal states decide every future call alike.
impl PartialEq for KeyState {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.expires_at == other.expires_at
            && self.shadow == other.shadow
            && self.global == other.global
            && self.assets().eq(other.assets())
    }
}

impl Eq for KeyState {}

impl CreditUsage {
    #[inline]
    pub(crate) fn of(credits: &Meter) -> Self {
        // A meter's counts are within the bounds of `Credits`.
        let amount = |millionths| Credits::from_millionths(millionths).unwrap_or(Credits::MAX);
        Self { spent: amount(credits.used()), budget: credits.limit().map(amount) }
    }

    /// Returns the meter of the credits.
    pub(crate) fn meter(&self) -> Meter {
        let meter = Meter::new(self.budget.map(Credits::millionths));
        meter.with_used(self.spent.millionths())
    }

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
struct RawKeyState {
    kind: KeyKind,
    #[serde(deserialize_with = "Option::deserialize")]
    expires_at: Option<Timestamp>,
    credits: Meter,
    #[serde(deserialize_with = "Option::deserialize")]
    global: Option<ScopeState>,
    assets: BTreeMap<AssetId, ScopeState>,
    generations: u32,
    thresholds: Thresholds,
    shadow: bool,
}

impl From<KeyState> for RawKeyState {
    fn from(state: KeyState) -> Self {
        Self {
            kind: state.kind,
            expires_at: state.expires_at,
            thresholds: state.thresholds(),
            shadow: state.shadow,
            credits: state.global.record.meter(CREDITS),
            global: Some(state.global).filter(|scope| scope.record.has_windows()),
            assets: state.assets.into_iter().map(|asset| (asset.id, asset.scope)).collect(),
            generations: state.generations,
        }
    }
}

impl TryFrom<RawKeyState> for KeyState {
    type Error = InvalidValue;

    fn try_from(raw: RawKeyState) -> Result<Self, InvalidValue> {
        check_count(raw.assets.len())?;
        let RawKeyState { thresholds, credits, .. } = raw;
        let mut global = match raw.global {
            Some(global) => global.with_thresholds(thresholds)?,
            None => ScopeState::global(credits, thresholds),
        };
        global.record.counts[CREDITS] = Amount::Credits;
        global.record.set_meter(CREDITS, credits);
        global.record.check()?;
        let assets = raw
            .assets
            .into_iter()
            .map(|(id, scope)| Ok(AssetState { id, scope: scope.with_thresholds(thresholds)? }));
        Ok(Self {
            kind: raw.kind,
            expires_at: raw.expires_at,
            global,
            shadow: raw.shadow,
            assets: assets.collect::<Result<_, InvalidValue>>()?,
            generations: raw.generations,
        })
    }
}

const fn check_count(count: usize) -> Result<(), InvalidValue> {
    if count > KeyState::MAX_COUNTED_ASSETS {
        return Err(InvalidValue::TooManyAssets { count, max: KeyState::MAX_COUNTED_ASSETS });
    }
    Ok(())
}

/// The generation of a new key's global scope; its assets follow. Zero is none.
const FIRST_GENERATION: u32 = 1;
