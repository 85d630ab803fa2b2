//! What is kept of keys beside their state: to whom they belong, and by what they are found.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use foldhash::quality::RandomState;
use limiter_core::keys::{check_admin_remains, is_permanent_admin};
use limiter_core::{
    KeyConfig, KeyDigest, KeyId, KeyKind, KeyName, KeysError, MAX_COUNT, MaskedKey, Search,
    StoredKey, WorkspaceId,
};

/// The keys of all workspaces. No decision looks in here.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    keys: HashMap<KeyId, StoredKey, RandomState>,
    by_digest: HashMap<KeyDigest, KeyId, RandomState>,
    workspaces: HashMap<WorkspaceId, Workspace, RandomState>,
}

/// What is unique in a workspace, or must not run out.
#[derive(Debug, Default)]
struct Workspace {
    by_name: BTreeMap<KeyName, KeyId>,
    masked: HashSet<MaskedKey, RandomState>,
    permanent_admins: BTreeSet<KeyId>,
}

impl Directory {
    /// The key whose access key has this digest.
    pub(crate) fn resolve(&self, digest: &KeyDigest) -> Option<&KeyId> {
        let id = self.by_digest.get(digest)?;
        let stored = self.keys.get(id)?.secret?;
        stored.digest.matches(digest).then_some(id)
    }

    pub(crate) fn get(&self, id: &KeyId) -> Option<&StoredKey> {
        self.keys.get(id)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &StoredKey> {
        self.keys.values()
    }

    /// A key of this workspace; a key of another one does not exist, as far as the answer tells.
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

    /// Adds a key, unless another one has its id, its name or the look of its access key.
    pub(crate) fn insert(
        &mut self,
        key: StoredKey,
        permanent_admin: bool,
    ) -> Result<(), KeysError> {
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

        let workspace = self.workspaces.entry(key.workspace.clone()).or_default();
        workspace.by_name.insert(key.name.clone(), key.id.clone());
        if permanent_admin {
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

    /// Renames a key, counts its change, and notes whether it keeps its workspace manageable.
    pub(crate) fn update(&mut self, id: &KeyId, kind: KeyKind, config: &KeyConfig) {
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

    /// Removes a key of this workspace, unless it is the last that keeps it manageable.
    pub(crate) fn remove(&mut self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.get_in(workspace, id)?;
        if let Some(workspace) = self.workspaces.get(workspace) {
            workspace.check_may_go(id)?;
        }
        let Some(key) = self.keys.remove(id) else { return Ok(()) };
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

    /// The ids of a page, and the name after which the next one starts.
    pub(crate) fn search(
        &self,
        workspace: &WorkspaceId,
        search: &Search,
    ) -> (Vec<&KeyId>, Option<KeyName>) {
        let Some(workspace) = self.workspaces.get(workspace) else { return (Vec::new(), None) };
        let start = search.start().map_or(Bound::Unbounded, Bound::Excluded);
        let names = workspace.by_name.range::<KeyName, _>((start, Bound::Unbounded));
        let mut found = names.filter(|(name, _)| search.matches(name));
        let page: Vec<_> = found.by_ref().take(search.limit()).collect();
        let next = found.next().and_then(|_| page.last()).map(|(name, _)| (*name).clone());
        (page.into_iter().map(|(_, id)| id).collect(), next)
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
