//! The directory of keys: their workspaces, names and access keys, without their state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use foldhash::quality::RandomState;
use limiter_core::keys::{check_admin_remains, is_permanent_admin};
use limiter_core::{
    InvalidValue, KeyConfig, KeyDigest, KeyId, KeyKind, KeyName, KeyRotation, KeyState, KeysError,
    MaskedKey, PlanName, Search, StoredKey, StoredSecret, Timestamp, WorkspaceId,
};

use crate::cell::Attached;
use crate::plans::{LivePlan, Plans};

/// The keys of all workspaces. No decision uses it.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    keys: HashMap<KeyId, StoredKey, RandomState>,
    /// By all digests of a key, also of replaced access keys that do not work any more.
    by_digest: HashMap<KeyDigest, KeyId, RandomState>,
    workspaces: HashMap<WorkspaceId, Workspace, RandomState>,
    groups: HashMap<KeyId, Group, RandomState>,
    pub(crate) plans: Plans,
    /// The keys that were created, updated or deleted since a snapshot began.
    changed: Option<HashSet<KeyId, RandomState>>,
}

/// What only groups have.
#[derive(Debug, Default)]
struct Group {
    /// The number of keys and groups directly beneath it.
    beneath: usize,
    /// The plan of unregistered keys beneath it, if it is open.
    opens: Option<PlanName>,
}

/// The result of one step of a search.
pub(crate) struct Scan<'a> {
    pub(crate) found: Vec<&'a KeyId>,
    pub(crate) then: Then,
}

/// The continuation of a search.
pub(crate) enum Then {
    /// No key is left.
    End,
    /// The page is full, and another key is left for the next page.
    More,
    /// The search continues after this name.
    GoOn(KeyName),
}

/// The indexes of one workspace: names, the masks of access keys that the engine drew, and the admin keys that never expire.
#[derive(Debug, Default)]
struct Workspace {
    by_name: BTreeMap<KeyName, KeyId>,
    masked: HashSet<MaskedKey, RandomState>,
    permanent_admins: BTreeSet<KeyId>,
}

impl Directory {
    /// Returns the key whose access key has this digest.
    pub(crate) fn resolve(&self, digest: &KeyDigest, now: Timestamp) -> Option<&KeyId> {
        let id = self.by_digest.get(digest)?;
        self.keys.get(id)?.answers_to(digest, now).then_some(id)
    }

    pub(crate) fn get(&self, id: &KeyId) -> Option<&StoredKey> {
        self.keys.get(id)
    }

    /// Returns the key of this name in a workspace.
    pub(crate) fn find(&self, workspace: &WorkspaceId, name: &KeyName) -> Option<&KeyId> {
        self.workspaces.get(workspace)?.by_name.get(name)
    }

    /// Starts to record which keys change.
    pub(crate) fn watch_changes(&mut self) {
        self.changed = Some(HashSet::default());
    }

    /// Returns the keys that have changed since [`watch_changes`](Self::watch_changes), and stops recording.
    pub(crate) fn take_changed(&mut self) -> HashSet<KeyId, RandomState> {
        self.changed.take().unwrap_or_default()
    }

    fn note(&mut self, id: &KeyId) {
        if let Some(changed) = &mut self.changed {
            changed.insert(id.clone());
        }
    }

    /// Returns a key of this workspace. The answer is the same for a key of another workspace as for one that does not
    /// exist.
    pub(crate) fn get_in(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<&StoredKey, KeysError> {
        let key = self.keys.get(id).filter(|key| key.workspace == *workspace);
        key.ok_or_else(|| KeysError::NotFound(id.to_string()))
    }

    /// Returns what the cell of a key or a group looks at.
    pub(crate) fn attached(&self, id: &KeyId, state: &KeyState) -> Attached {
        let Some(key) = self.keys.get(id) else { return Attached::default() };
        let planned = self.plans.planned(&key.workspace, key.own.as_ref());
        let opens = state.opens().and_then(|name| self.plans.live(&key.workspace, name));
        Attached { planned, opens, ..Attached::default() }
    }

    /// Returns the plan with which a group is open, if it is.
    pub(crate) fn opens(&self, group: &KeyId) -> Option<Arc<LivePlan>> {
        let workspace = &self.keys.get(group)?.workspace;
        self.plans.live(workspace, self.groups.get(group)?.opens.as_ref()?)
    }

    pub(crate) fn is_empty(&self, workspace: &WorkspaceId) -> bool {
        !self.workspaces.contains_key(workspace)
    }

    /// Checks that the workspace has the group of a new key, and that no other key has its id, its name or its access key.
    pub(crate) fn check_insert(&self, key: &StoredKey, now: Timestamp) -> Result<(), KeysError> {
        if let Some(group) = key.id.group() {
            let found = self.keys.get(&group).filter(|found| found.workspace == key.workspace);
            if found.is_none() || !self.groups.contains_key(&group) {
                return Err(KeysError::NoGroup(group));
            }
        }
        if self.keys.contains_key(&key.id) {
            return Err(KeysError::IdTaken(key.id.to_string()));
        }
        let workspace = self.workspaces.get(&key.workspace);
        if workspace.is_some_and(|workspace| workspace.by_name.contains_key(&key.name)) {
            return Err(KeysError::NameTaken(key.name.to_string()));
        }
        key.secret.map_or(Ok(()), |secret| self.check_secret(&key.workspace, &secret, now))
    }

    /// Checks that no key has this access key, and that it looks like none of the workspace if the engine drew it.
    fn check_secret(
        &self,
        workspace: &WorkspaceId,
        secret: &StoredSecret,
        now: Timestamp,
    ) -> Result<(), KeysError> {
        let workspace = self.workspaces.get(workspace);
        let looks_alike = secret.is_drawn
            && workspace.is_some_and(|workspace| workspace.masked.contains(&secret.masked));
        if looks_alike || self.resolve(&secret.digest, now).is_some() {
            return Err(KeysError::AccessKeyTaken);
        }
        Ok(())
    }

    /// Adds a key or a group, if it [may be added](Self::check_insert).
    pub(crate) fn insert(
        &mut self,
        mut key: StoredKey,
        state: &KeyState,
        now: Timestamp,
    ) -> Result<(), KeysError> {
        let (kind, expires_at) = (state.kind(), state.expires_at());
        self.check_insert(&key, now)?;
        self.note(&key.id);
        if let Some(group) = key.id.group().and_then(|group| self.groups.get_mut(&group)) {
            group.beneath += 1;
        }
        if kind == KeyKind::Group {
            let opens = state.opens().cloned();
            self.plans.opened(&key.workspace, None, opens.as_ref());
            self.groups.insert(key.id.clone(), Group { beneath: 0, opens });
        }
        let workspace = self.workspaces.entry(key.workspace.clone()).or_default();
        workspace.by_name.insert(key.name.clone(), key.id.clone());
        if is_permanent_admin(kind, expires_at) {
            workspace.permanent_admins.insert(key.id.clone());
        }
        workspace.masked.extend(key.unique_mask());
        key.own = key.own.take().map(|own| self.plans.shared(&key.workspace, own));
        self.plans.moved(&key.workspace, None, key.own.as_ref());
        self.hold_digests(&key);
        self.keys.insert(key.id.clone(), key);
        Ok(())
    }

    /// Checks that a key may get this access key.
    pub(crate) fn check_rotation(
        &self,
        key: &StoredKey,
        rotation: &KeyRotation,
        now: Timestamp,
    ) -> Result<(), KeysError> {
        if self.groups.contains_key(&key.id) {
            return Err(InvalidValue::GroupAccessKey.into());
        }
        self.check_secret(&key.workspace, &rotation.secret, now)
    }

    /// Replaces the access key of a key.
    pub(crate) fn rotate(&mut self, rotation: &KeyRotation, now: Timestamp) {
        let id = &rotation.id;
        self.note(id);
        let Some(key) = self.keys.get_mut(id) else { return };
        let rotated = key.clone().rotated(rotation, now);
        let before = std::mem::replace(key, rotated.clone());
        self.forget_digests(&before);
        self.hold_digests(&rotated);
        if let Some(workspace) = self.workspaces.get_mut(&before.workspace) {
            if let Some(mask) = before.unique_mask() {
                workspace.masked.remove(&mask);
            }
            workspace.masked.extend(rotated.unique_mask());
        }
    }

    /// Lets a key be found by its digests. The time of a replaced one may be over, so that another key may have it by now.
    fn hold_digests(&mut self, key: &StoredKey) {
        for digest in key.digests() {
            self.by_digest.entry(digest).or_insert_with(|| key.id.clone());
        }
        if let Some(secret) = key.secret {
            self.by_digest.insert(secret.digest, key.id.clone());
        }
    }

    /// Forgets the digests of a key, but for those that another key has by now.
    fn forget_digests(&mut self, key: &StoredKey) {
        for digest in key.digests() {
            if self.by_digest.get(&digest).is_some_and(|holder| *holder == key.id) {
                self.by_digest.remove(&digest);
            }
        }
    }

    /// Checks that a key may get this configuration.
    pub(crate) fn check_update(
        &self,
        key: &StoredKey,
        version: u64,
        kind: KeyKind,
        config: &KeyConfig,
    ) -> Result<(), KeysError> {
        if key.version != version {
            return Err(KeysError::Conflict { expected: version, actual: key.version });
        }
        let Some(workspace) = self.workspaces.get(&key.workspace) else { return Ok(()) };
        if workspace.by_name.get(&config.name).is_some_and(|other| *other != key.id) {
            return Err(KeysError::NameTaken(config.name.to_string()));
        }
        if !is_permanent_admin(kind, config.expires_at) {
            workspace.check_may_go(&key.id)
        } else {
            Ok(())
        }
    }

    /// Names and labels a key, counts its change, and notes whether it is an admin key that never expires.
    pub(crate) fn update(&mut self, id: &KeyId, kind: KeyKind, config: &KeyConfig, now: Timestamp) {
        self.note(id);
        let Some(key) = self.keys.get_mut(id) else { return };
        let mut configured = key.clone().configured(config, now);
        let own = configured.own.take();
        configured.own = own.map(|own| self.plans.shared(&configured.workspace, own));
        let before = std::mem::replace(key, configured);
        self.plans.moved(&before.workspace, before.own.as_ref(), key.own.as_ref());
        if let Some(group) = self.groups.get_mut(id) {
            self.plans.opened(&before.workspace, group.opens.as_ref(), config.open.as_ref());
            group.opens.clone_from(&config.open);
        }
        let Some(workspace) = self.workspaces.get_mut(&before.workspace) else { return };
        if before.name != config.name {
            workspace.by_name.remove(&before.name);
            workspace.by_name.insert(config.name.clone(), id.clone());
        }
        if is_permanent_admin(kind, config.expires_at) {
            workspace.permanent_admins.insert(id.clone());
        } else {
            workspace.permanent_admins.remove(id);
        }
    }

    /// Checks that the key is in this workspace, has nothing beneath it, and is not the last that keeps the workspace
    /// manageable.
    pub(crate) fn check_remove(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<(), KeysError> {
        self.get_in(workspace, id)?;
        if self.groups.get(id).is_some_and(|group| group.beneath > 0) {
            return Err(KeysError::NotEmpty(id.clone()));
        }
        self.workspaces.get(workspace).map_or(Ok(()), |workspace| workspace.check_may_go(id))
    }

    /// Removes a key of this workspace, if it [may be removed](Self::check_remove).
    pub(crate) fn remove(&mut self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.check_remove(workspace, id)?;
        self.note(id);
        let Some(key) = self.keys.remove(id) else { return Ok(()) };
        if let Some(group) = self.groups.remove(id) {
            self.plans.opened(workspace, group.opens.as_ref(), None);
        }
        if let Some(group) = id.group().and_then(|group| self.groups.get_mut(&group)) {
            group.beneath -= 1;
        }
        self.forget_digests(&key);
        self.plans.moved(workspace, key.own.as_ref(), None);
        if let Some(keys) = self.workspaces.get_mut(workspace) {
            keys.by_name.remove(&key.name);
            keys.permanent_admins.remove(id);
            if let Some(mask) = key.unique_mask() {
                keys.masked.remove(&mask);
            }
            if keys.by_name.is_empty() {
                self.workspaces.remove(workspace);
            }
        }
        Ok(())
    }

    /// Searches the names after `start` in one short step, and finds at most `room` keys.
    pub(crate) fn scan(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
        start: Option<&KeyName>,
        room: usize,
    ) -> Scan<'_> {
        let mut found = Vec::new();
        let Some(workspace) = self.workspaces.get(workspace) else {
            return Scan { found, then: Then::End };
        };
        let start = start.map_or(Bound::Unbounded, Bound::Excluded);
        let names = workspace.by_name.range::<KeyName, _>((start, Bound::Unbounded));
        for (looked_at, (name, id)) in names.enumerate() {
            if search.matches(name, id) {
                if found.len() == room {
                    return Scan { found, then: Then::More };
                }
                found.push(id);
            }
            if looked_at >= NAMES_A_LOOK {
                return Scan { found, then: Then::GoOn(name.clone()) };
            }
        }
        Scan { found, then: Then::End }
    }
}

impl Workspace {
    fn check_may_go(&self, id: &KeyId) -> Result<(), KeysError> {
        if self.permanent_admins.contains(id) {
            check_admin_remains(self.permanent_admins.len())
        } else {
            Ok(())
        }
    }
}

/// The most names in one step. A step takes a fraction of a millisecond, and changes of keys and look-ups wait for it.
const NAMES_A_LOOK: usize = 256;
