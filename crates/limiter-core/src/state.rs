//! Everything that a decision about one key depends on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::config::{KeyConfig, KeyKind};
use crate::credits::Credits;
use crate::error::InvalidValue;
use crate::limits::Limits;
use crate::meter::{Gauge, Meter};
use crate::names::AssetId;
use crate::saved::required;
use crate::schedule::ScopeState;
use crate::thresholds::Thresholds;

/// The live state of one key: its kind, expiry, credits, and the scopes that are counted.
///
/// A store keeps one for each key and lets nobody else at it during a step.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawKeyState", into = "RawKeyState")]
pub struct KeyState {
    pub(crate) kind: KeyKind,
    pub(crate) expires_at: Option<Timestamp>,
    /// Credits spent, limited by the budget.
    pub(crate) credits: Gauge,
    pub(crate) global: Option<ScopeState>,
    /// What would be denied for a limit is let through.
    pub(crate) shadow: bool,
    /// Sorted by id. Most keys have limits for one asset, which stands in line with the rest.
    assets: SmallVec<[AssetState; 1]>,
    /// The number of the last counting of a scope that began.
    countings: u32,
}

#[derive(Clone, Debug)]
struct AssetState {
    id: AssetId,
    scope: ScopeState,
}

/// Credits spent, and the budget that limits them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CreditUsage {
    /// Credits that the key has spent in its life, counted also without a budget.
    pub spent: Credits,
    /// The credits that it may ever spend, if that is limited.
    pub budget: Option<Credits>,
}

/// The asset of a call, and where in the key's state it was found.
#[derive(Clone, Copy, Debug)]
pub struct LocatedAsset<'a> {
    pub(crate) id: Option<&'a AssetId>,
    position: Option<usize>,
}

/// Where an asset was found the last time. It saves the next search if the asset is still there, and is
/// never wrong if it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AssetHint {
    /// The position among the assets.
    pub position: u32,
    /// Which counting of an asset was found there; 0 for none.
    pub counting: u32,
}

/// The scopes that a call meets, as far as they are counted.
pub(crate) struct MetScopes<'a> {
    pub(crate) global: Option<&'a mut ScopeState>,
    pub(crate) asset: Option<&'a mut ScopeState>,
}

impl KeyState {
    /// The state of a new key: its limits are in force at once.
    #[must_use]
    pub fn new(kind: KeyKind, config: &KeyConfig, now: Timestamp) -> Self {
        let thresholds = config.thresholds.unwrap_or_default();
        let credits = Meter::new(config.budget.map(Credits::millionths));
        let mut state = Self {
            kind,
            expires_at: config.expires_at,
            credits: Gauge::new(credits, thresholds),
            global: ScopeState::in_force(config.global, now, FIRST_COUNTING, thresholds),
            shadow: config.shadow,
            assets: SmallVec::new(),
            countings: FIRST_COUNTING,
        };
        for (id, limits) in &config.assets {
            let counting = state.next_counting();
            let scope = ScopeState::in_force(*limits, now, counting, thresholds);
            state.assets.extend(scope.map(|scope| AssetState { id: id.clone(), scope }));
        }
        state
    }

    /// A state as a store kept it, or as much of it as a call meets.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] above [`Self::MAX_COUNTED_ASSETS`].
    pub fn from_parts(
        kind: KeyKind,
        expires_at: Option<Timestamp>,
        shadow: bool,
        thresholds: Thresholds,
        credits: Meter,
        global: Option<ScopeState>,
        assets: impl IntoIterator<Item = (AssetId, ScopeState)>,
    ) -> Result<Self, InvalidValue> {
        let global = global.map(|scope| scope.with_thresholds(thresholds));
        let credits = Gauge::new(credits, thresholds);
        let assets = assets.into_iter().map(|(id, scope)| {
            let scope = scope.with_thresholds(thresholds);
            AssetState { id, scope }
        });
        let mut assets: SmallVec<[AssetState; 1]> = assets.collect();
        assets.sort_by(|one, other| one.id.cmp(&other.id));
        assets.dedup_by(|one, other| one.id == other.id);
        check_count(assets.len())?;
        let mut state = Self { kind, expires_at, credits, global, shadow, assets, countings: 0 };
        state.number_countings();
        Ok(state)
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

    /// Finds the asset of a call where the hint says, if it is still there.
    #[must_use]
    #[inline]
    pub fn locate_hinted<'a>(
        &self,
        asset: Option<&'a AssetId>,
        hint: AssetHint,
    ) -> Option<LocatedAsset<'a>> {
        let position = usize::try_from(hint.position).ok()?;
        let found = self.assets.get(position)?;
        (found.scope.counting() == hint.counting)
            .then_some(LocatedAsset { id: asset, position: Some(position) })
    }

    /// A hint for the next call of the asset.
    #[must_use]
    pub fn hint(&self, located: LocatedAsset<'_>) -> AssetHint {
        let hint = located.position.and_then(|position| {
            let counting = self.assets.get(position)?.scope.counting();
            Some(AssetHint { position: u32::try_from(position).ok()?, counting })
        });
        hint.unwrap_or_default()
    }

    /// Changes budget, expiry, thresholds and shadow mode at once, and limits from the next window of each kind.
    ///
    /// A threshold that what is used has passed already is not told.
    /// An asset that is not in the configuration loses its limits. Returns whether anything changed.
    ///
    /// # Errors
    /// [`InvalidValue::TooManyAssets`] if more than [`Self::MAX_COUNTED_ASSETS`] scopes would be counted;
    /// then nothing was changed.
    pub fn configure(&mut self, config: &KeyConfig, now: Timestamp) -> Result<bool, InvalidValue> {
        let mut changed = self.clone();
        changed.expires_at = config.expires_at;
        changed.shadow = config.shadow;
        let thresholds = config.thresholds.unwrap_or_default();
        changed.set_thresholds(thresholds);
        let budget = config.budget.map(Credits::millionths);
        let mut credits = changed.credits.meter();
        if credits.limit() != budget {
            credits.set_limit(budget, thresholds);
            changed.credits = Gauge::new(credits, thresholds);
        }
        let counting = changed.next_counting();
        ScopeState::configure(&mut changed.global, config.global, now, counting, thresholds);
        changed.configure_assets(&config.assets, now, thresholds);
        if changed.assets.len() > Self::MAX_COUNTED_ASSETS {
            changed.assets.retain(|asset| asset.scope.at(now).is_some());
        }
        if changed.assets.len() > Self::MAX_COUNTED_ASSETS {
            let count = changed.assets.len();
            return Err(InvalidValue::TooManyAssets { count, max: Self::MAX_COUNTED_ASSETS });
        }
        let differs = *self != changed;
        *self = changed;
        Ok(differs)
    }

    /// The most assets that one key has counts for: those in force and those that are still pending or
    /// winding down after changes within the same day. It bounds the memory of a key.
    pub const MAX_COUNTED_ASSETS: usize = 4 * KeyConfig::MAX_ASSETS;

    /// Member or admin.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// From when on the key is expired, if ever.
    #[must_use]
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether the key is expired at `now`.
    #[must_use]
    #[inline]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// Credits spent and the budget.
    #[must_use]
    pub fn credits(&self) -> CreditUsage {
        CreditUsage::of(&self.credits.meter())
    }

    /// Credits as they are counted, with what was told of the budget.
    #[must_use]
    pub const fn credit_meter(&self) -> Meter {
        self.credits.meter()
    }

    /// The shares of its limits that are told when they are reached.
    #[must_use]
    pub const fn thresholds(&self) -> Thresholds {
        self.credits.thresholds()
    }

    /// Whether what would be denied for a limit is let through.
    #[must_use]
    pub const fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// The global scope, if it is counted.
    #[must_use]
    pub fn global(&self) -> Option<&ScopeState> {
        self.global.as_ref()
    }

    /// The assets that are counted, by the bytes of their ids.
    pub fn assets(&self) -> impl Iterator<Item = (&AssetId, &ScopeState)> {
        self.assets.iter().map(|asset| (&asset.id, &asset.scope))
    }

    /// The credits, and the scopes that a call meets.
    #[inline]
    pub(crate) fn meet(&mut self, asset: LocatedAsset<'_>) -> (&mut Gauge, MetScopes<'_>) {
        let asset = match asset.position {
            Some(position) => self.assets.get_mut(position).map(|asset| &mut asset.scope),
            None => None,
        };
        (&mut self.credits, MetScopes { global: self.global.as_mut(), asset })
    }

    pub(crate) fn asset(&self, located: LocatedAsset<'_>) -> Option<&ScopeState> {
        self.assets.get(located.position?).map(|asset| &asset.scope)
    }

    pub(crate) fn asset_mut(&mut self, located: LocatedAsset<'_>) -> Option<&mut ScopeState> {
        self.assets.get_mut(located.position?).map(|asset| &mut asset.scope)
    }

    pub(crate) fn drop_asset(&mut self, located: LocatedAsset<'_>) {
        if let Some(position) = located.position
            && position < self.assets.len()
        {
            self.assets.remove(position);
        }
    }

    /// A copy of what a call of this asset depends on.
    pub(crate) fn relevant_to(&self, located: LocatedAsset<'_>) -> Self {
        let asset = located.position.and_then(|position| self.assets.get(position));
        Self {
            kind: self.kind,
            expires_at: self.expires_at,
            credits: self.credits,
            global: self.global.clone(),
            shadow: self.shadow,
            assets: asset.cloned().into_iter().collect(),
            countings: self.countings,
        }
    }

    fn search(&self, id: &AssetId) -> Result<usize, usize> {
        self.assets.binary_search_by(|asset| asset.id.cmp(id))
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        let before = self.thresholds();
        if thresholds == before {
            return;
        }
        let mut credits = self.credits.meter();
        credits.set_thresholds(before, thresholds);
        self.credits = Gauge::new(credits, thresholds);
        let assets = self.assets.iter_mut().map(|asset| &mut asset.scope);
        for scope in self.global.iter_mut().chain(assets) {
            scope.set_thresholds(thresholds);
        }
    }

    fn configure_assets(
        &mut self,
        assets: &BTreeMap<AssetId, Limits>,
        now: Timestamp,
        thresholds: Thresholds,
    ) {
        for asset in std::mem::take(&mut self.assets) {
            let limits = assets.get(&asset.id).copied().unwrap_or(Limits::NONE);
            let mut scope = Some(asset.scope);
            let counting = self.next_counting();
            ScopeState::configure(&mut scope, limits, now, counting, thresholds);
            self.assets.extend(scope.map(|scope| AssetState { scope, ..asset }));
        }
        for (id, limits) in assets {
            if let Err(position) = self.search(id) {
                let mut scope = None;
                let counting = self.next_counting();
                ScopeState::configure(&mut scope, *limits, now, counting, thresholds);
                if let Some(scope) = scope {
                    self.assets.insert(position, AssetState { id: id.clone(), scope });
                }
            }
        }
    }

    /// Whether no more thresholds were told than there are.
    fn check_told(&self) -> Result<(), InvalidValue> {
        let most = self.thresholds().percents().count();
        let scopes = self.global.iter().chain(self.assets.iter().map(|asset| &asset.scope));
        let told = scopes.flat_map(ScopeState::told).chain([self.credits.meter().told]);
        match told.max() {
            Some(told) if usize::from(told) > most => {
                Err(InvalidValue::Inconsistent { what: "a threshold that is not there was told" })
            }
            _ => Ok(()),
        }
    }

    /// Gives a number to scopes that were kept without one.
    fn number_countings(&mut self) {
        let mut countings = self.countings;
        let assets = self.assets.iter_mut().map(|asset| &mut asset.scope);
        for scope in self.global.iter_mut().chain(assets).filter(|scope| scope.counting() == 0) {
            countings = countings.wrapping_add(1);
            scope.set_counting(countings);
        }
        self.countings = countings;
    }

    /// A number for a scope that may be counted anew; those that are not needed are left out.
    const fn next_counting(&mut self) -> u32 {
        self.countings = self.countings.wrapping_add(1);
        self.countings
    }
}

/// Two states that decide alike are equal, whatever came before them.
impl PartialEq for KeyState {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.expires_at == other.expires_at
            && self.shadow == other.shadow
            && self.credits == other.credits
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

    /// The same as it is counted, of a key without thresholds.
    pub(crate) fn gauge(&self) -> Gauge {
        let mut credits = Meter::new(self.budget.map(Credits::millionths));
        credits.add(self.spent.millionths());
        Gauge::new(credits, Thresholds::NONE)
    }

    /// What is left of the budget, at least 0, if there is one.
    #[must_use]
    pub fn remaining(&self) -> Option<Credits> {
        let left = self.budget?.millionths().saturating_sub(self.spent.millionths());
        Credits::from_millionths(left).ok()
    }
}

/// The serialized form. Every field is required: a limit with a damaged field name must not load as no limit.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeyState {
    kind: KeyKind,
    #[serde(deserialize_with = "required")]
    expires_at: Option<Timestamp>,
    credits: Meter,
    #[serde(deserialize_with = "required")]
    global: Option<ScopeState>,
    assets: BTreeMap<AssetId, ScopeState>,
    countings: u32,
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
            credits: state.credits.meter(),
            global: state.global,
            assets: state.assets.into_iter().map(|asset| (asset.id, asset.scope)).collect(),
            countings: state.countings,
        }
    }
}

impl TryFrom<RawKeyState> for KeyState {
    type Error = InvalidValue;

    fn try_from(raw: RawKeyState) -> Result<Self, InvalidValue> {
        check_count(raw.assets.len())?;
        let thresholds = raw.thresholds;
        let counted = |scope: ScopeState| scope.with_thresholds(thresholds);
        let assets =
            raw.assets.into_iter().map(|(id, scope)| AssetState { id, scope: counted(scope) });
        let mut state = Self {
            kind: raw.kind,
            expires_at: raw.expires_at,
            credits: Gauge::new(raw.credits, thresholds),
            global: raw.global.map(counted),
            shadow: raw.shadow,
            assets: assets.collect(),
            countings: raw.countings,
        };
        state.number_countings();
        state.check_told()?;
        Ok(state)
    }
}

const fn check_count(count: usize) -> Result<(), InvalidValue> {
    if count > KeyState::MAX_COUNTED_ASSETS {
        return Err(InvalidValue::TooManyAssets { count, max: KeyState::MAX_COUNTED_ASSETS });
    }
    Ok(())
}

/// The global scope of a new key; its assets follow.
const FIRST_COUNTING: u32 = 1;
