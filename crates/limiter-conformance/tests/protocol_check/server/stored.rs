//! A key or a group as it is stored, and its parts.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::LazyLock;

use limiter_core::{
    Admission, AdmittedScope, AssetId, InvalidValue, KeySettings, KeyState, Place, Scope, ScopeId,
    ScopeState, Stored,
};

use super::Puts;
use crate::bug::Bug;

/// A key or a group as it is stored, or as a client has it in its cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) stamp: u32,
    pub(crate) incarnation: u32,
    pub(crate) state: KeyState,
    /// Why its numbers are impossible, by a planted bug.
    pub(crate) damage: Option<String>,
}

impl Puts {
    /// Whether limits change, and so the stamp.
    pub(crate) fn restamps(&self) -> bool {
        self.settings.is_some() || self.parallel.is_some() || !self.scopes.is_empty()
    }

    /// The changes of the configuration from one state of a key to another.
    pub(crate) fn of_change(before: &KeyState, after: &KeyState) -> Self {
        let [was, is] = [before, after].map(scopes_of);
        let ids: BTreeMap<_, _> = was.iter().chain(&is).map(|(id, _)| (id.clone(), ())).collect();
        let configured = |of: Option<&(bool, ScopeState)>| {
            of.map(|(listed, scope)| {
                let limits = (scope.record().limits(), scope.all_pending().to_vec());
                let rest = (scope.changes(), scope.since().to_vec());
                let windows: Vec<_> = scope.record().windows().collect();
                (*listed, limits, rest, windows)
            })
        };
        let changed =
            ids.into_keys().filter(|id| configured(was.get(id)) != configured(is.get(id)));
        let scopes = changed.map(|id| (id.clone(), is.get(&id).cloned())).collect::<Vec<_>>();
        let of_key =
            |state: &KeyState| (state.expires_at(), state.thresholds(), state.generations());
        let differs = of_key(before) != of_key(after);
        let parallel = (parallel_of(before) != parallel_of(after)).then(|| parallel_of(after));
        let mut puts = Self { settings: differs.then(|| after.settings()), scopes, parallel };
        if before.thresholds() != after.thresholds() {
            // They are those of every scope.
            puts.scopes = is
                .into_iter()
                .map(|(id, scope)| (id, Some(scope)))
                .chain(puts.scopes.into_iter().filter(|(_, scope)| scope.is_none()))
                .collect();
        }
        puts
    }
}

impl Snapshot {
    pub(super) fn record(&self, id: &ScopeId) -> Option<Stored> {
        Some(self.state.scope_at(place_of(&self.state, id)?)?.record().stored())
    }

    /// The part that a client keeps whose calls are for the asset, or for none.
    pub(crate) fn met(self, asset: bool) -> Self {
        let state = self.state.relevant_to(self.state.locate(called(asset)));
        let mut parallel = parallel_of(&self.state);
        parallel.retain(|(id, _)| asset || id.asset.is_none());
        Self { state: state.with_parallel_limits(parallel), ..self }
    }

    /// This level with the numbers that the server has shown.
    pub(crate) fn with_numbers_of(&self, shown: &Self) -> Result<Self, InvalidValue> {
        let mut scopes = scopes_of(&self.state);
        for (id, scope) in shown.state.every_scope() {
            if let Some((_, own)) = scopes.get_mut(&id) {
                *own = with_numbers(own, &scope.record().stored(), &self.state)?;
            }
        }
        let (settings, parallel) = (self.state.settings(), parallel_of(&self.state));
        Ok(Self { state: state_of_scopes(settings, scopes, parallel), ..self.clone() })
    }

    pub(super) fn with_bug(mut self, bug: Option<Bug>) -> Self {
        if bug == Some(Bug::UsesGenerationsAgain) {
            let settings = KeySettings { generations: 1, ..self.state.settings() };
            self.state =
                state_of_scopes(settings, scopes_of(&self.state), parallel_of(&self.state));
        }
        self
    }
}

/// All that makes a key differ from another: the core compares keys without the numbers that are drawn for scopes.
impl Hash for Snapshot {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let state = &self.state;
        (self.stamp, self.incarnation, &self.damage, state.generations()).hash(hasher);
        (state.expires_at(), state.thresholds(), parallel_of(state)).hash(hasher);
        for (id, (listed, scope)) in scopes_of(state) {
            (id, listed, scope.record().stored(), scope.record().limits()).hash(hasher);
            (scope.all_pending(), scope.changes(), scope.since()).hash(hasher);
        }
    }
}

pub(super) fn called(asset: bool) -> Option<&'static AssetId> {
    asset.then(|| &*ASSET)
}

/// The windows of these records, by which a reservation finds them again. `state` is that of a level by its place.
pub(crate) fn admission_of<'a>(
    state: impl Fn(usize) -> Option<&'a KeyState>,
    records: impl Iterator<Item = (&'a (usize, ScopeId), &'a Stored)>,
) -> Admission {
    let admitted = |((level, id), stored): (&(usize, ScopeId), &Stored)| {
        let state = state(*level)?;
        let scope = state.scope_at(place_of(state, id)?)?;
        Some(AdmittedScope {
            level: *level,
            scope: id.scope,
            generation: stored.generation,
            changes: scope.changes(),
            windows: stored.windows.iter().map(|of| (of.window, of.span)).collect(),
        })
    };
    Admission::new(records.filter_map(admitted))
}

fn place_of(state: &KeyState, id: &ScopeId) -> Option<Place> {
    let assets = (0..state.assets().count()).map(Place::Asset);
    let mut places = [Place::Global, Place::Other].into_iter().chain(assets);
    places.find(|place| state.scope_at(*place).is_some() && state.id_at(*place) == *id)
}

pub(super) fn scopes_of(state: &KeyState) -> BTreeMap<ScopeId, (bool, ScopeState)> {
    let is_listed = |id: &ScopeId| {
        state.assets().any(|(asset, listed, _)| listed && Some(asset) == id.asset.as_ref())
    };
    let scopes = state.every_scope();
    scopes.map(|(id, scope)| (id.clone(), (is_listed(&id), scope.clone()))).collect()
}

pub(super) fn parallel_of(state: &KeyState) -> Vec<(ScopeId, u64)> {
    state.parallel_limits().map(|(id, limit)| (id.clone(), limit)).collect()
}

pub(super) fn state_of_scopes(
    settings: KeySettings,
    mut scopes: BTreeMap<ScopeId, (bool, ScopeState)>,
    parallel: Vec<(ScopeId, u64)>,
) -> KeyState {
    let mut take = |scope| {
        let id = scopes.keys().find(|id| id.scope == scope).cloned()?;
        scopes.remove(&id).map(|(_, scope)| scope)
    };
    let (global, other) = (take(Scope::Global).expect("every key has it"), take(Scope::Other));
    let assets =
        scopes.into_iter().filter_map(|(id, (listed, scope))| Some((id.asset?, listed, scope)));
    let state = KeyState::from_parts(settings, global, assets, other).expect("one asset");
    state.with_parallel_limits(parallel)
}

pub(super) fn with_numbers(
    scope: &ScopeState,
    stored: &Stored,
    of: &KeyState,
) -> Result<ScopeState, InvalidValue> {
    let record = scope.record().with_stored(stored, of.time_zone())?;
    let (pending, since) = (scope.all_pending().into(), scope.since().into());
    Ok(ScopeState::from_parts(record, pending, scope.changes(), since))
}

/// The asset that the calls of some clients are for.
pub(crate) static ASSET: LazyLock<AssetId> = LazyLock::new(|| "gpt-5".parse().unwrap());
