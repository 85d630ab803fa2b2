//! The directory of keys: their workspaces, names and access keys, without their state.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use foldhash::quality::RandomState;
use limiter_core::keys::{check_admin_remains, is_permanent_admin};
use limiter_core::{
    KeyConfig, KeyDigest, KeyId, KeyKind, KeyName, KeysError, MAX_COUNT, MaskedKey, Search,
    StoredKey, Timestamp, WorkspaceId,
};

/// The keys of all workspaces. No decision uses it.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    keys: HashMap<KeyId, StoredKey, RandomState>,
    by_digest: HashMap<KeyDigest, KeyId, RandomState>,
    workspaces: HashMap<WorkspaceId, Workspace, RandomState>,
    /// The groups, each with the number of keys and groups directly beneath it.
    groups: HashMap<KeyId, usize, RandomState>,
    /// The keys that were created, updated or deleted since a snapshot began.
    changed: Option<HashSet<KeyId, RandomState>>,
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

/// The indexes of one workspace: names, masked access keys, and the admin keys that never expire.
#[derive(Debug, Default)]
struct Workspace {
    by_name: BTreeMap<KeyName, KeyId>,
    masked: HashSet<MaskedKey, RandomState>,
    permanent_admins: BTreeSet<KeyId>,
}

impl Directory {
    /// Returns the key whose access key has this digest.
    pub(crate) fn resolve(&self, digest: &KeyDigest) -> Option<&KeyId> {
        let id = self.by_digest.get(digest)?;
        let stored = self.keys.get(id)?.secret?;
        stored.digest.matches(digest).then_some(id)
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

    pub(crate) fn is_empty(&self, workspace: &WorkspaceId) -> bool {
        !self.workspaces.contains_key(workspace)
    }

    /// Checks that the workspace has the group of a new key, and that no other key has its id, its name or its masked access
    /// key.
    pub(crate) fn check_insert(&self, key: &StoredKey) -> Result<(), KeysError> {
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
        if let Some(secret) = key.secret {
            let looks_alike =
                workspace.is_some_and(|workspace| workspace.masked.contains(&secret.masked));
            if looks_alike || self.by_digest.contains_key(&secret.digest) {
                return Err(KeysError::AccessKeyTaken);
            }
        }
        Ok(())
    }

    /// Adds a key or a group, if it [may be added](Self::check_insert).
    pub(crate) fn insert(
        &mut self,
        key: StoredKey,
        kind: KeyKind,
        expires_at: Option<Timestamp>,
    ) -> Result<(), KeysError> {
        self.check_insert(&key)?;
        self.note(&key.id);
        if let Some(beneath) = key.id.group().and_then(|group| self.groups.get_mut(&group)) {
            *beneath += 1;
        }
        if kind == KeyKind::Group {
            self.groups.insert(key.id.clone(), 0);
        }
        let workspace = self.workspaces.entry(key.workspace.clone()).or_default();
        workspace.by_name.insert(key.name.clone(), key.id.clone());
        if is_permanent_admin(kind, expires_at) {
            workspace.permanent_admins.insert(key.id.clone());
        }
        if let Some(secret) = key.secret {
            workspace.masked.insert(secret.masked);
            self.by_digest.insert(secret.digest, key.id.clone());
        }
        self.keys.insert(key.id.clone(), key);
        Ok(())
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

    /// Renames a key, counts its change, and notes whether it is an admin key that never expires.
    pub(crate) fn update(&mut self, id: &KeyId, kind: KeyKind, config: &KeyConfig) {
        self.note(id);
        let Some(key) = self.keys.get_mut(id) else { return };
        key.version = key.version.saturating_add(1).min(MAX_COUNT);
        let Some(workspace) = self.workspaces.get_mut(&key.workspace) else { return };
        if key.name != config.name {
            workspace.by_name.remove(&key.name);
            workspace.by_name.insert(config.name.clone(), id.clone());
            key.name = config.name.clone();
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
        if self.groups.get(id).is_some_and(|beneath| *beneath > 0) {
            return Err(KeysError::NotEmpty(id.clone()));
        }
        self.workspaces.get(workspace).map_or(Ok(()), |workspace| workspace.check_may_go(id))
    }

    /// Removes a key of this workspace, if it [may be removed](Self::check_remove).
    pub(crate) fn remove(&mut self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.check_remove(workspace, id)?;
        self.note(id);
        let Some(key) = self.keys.remove(id) else { return Ok(()) };
        self.groups.remove(id);
        if let Some(beneath) = id.group().and_then(|group| self.groups.get_mut(&group)) {
            *beneath -= 1;
        }
        if let Some(secret) = key.secret {
            self.by_digest.remove(&secret.digest);
        }
        if let Some(keys) = self.workspaces.get_mut(workspace) {
            keys.by_name.remove(&key.name);
            keys.permanent_admins.remove(id);
            if let Some(secret) = key.secret {
                keys.masked.remove(&secret.masked);
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
