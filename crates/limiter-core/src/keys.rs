//! Who may do what with the keys of a workspace.

use crate::access_key::{AccessKey, Entropy, generate_key_id};
use crate::clock::Timestamp;
use crate::config::{KeyConfig, KeyKind, NewAccess, NewKey};
use crate::error::KeysError;
use crate::key::{CreatedKey, KeyRecord, StoredSecret};
use crate::names::{KeyId, WorkspaceId};
use crate::store::{KeyStore, NewRecord, Page, Search, Store};
use crate::thresholds::Thresholds;
use crate::usage::Usage;

/// The keys of a workspace, as one of its keys sees them.
///
/// An admin key creates, reads, updates and deletes the keys of its workspace, itself included, and reads
/// their usage. A member key reads its own usage; all else is [`KeysError::Forbidden`]. A key of another
/// workspace does not exist, as far as any answer tells.
///
/// The caller is looked up anew by every operation, so that it stops working as soon as its key is
/// deleted or expired ([`KeysError::UnknownCaller`], [`KeysError::ExpiredCaller`]).
#[derive(Debug)]
pub struct Keys<'a, S> {
    store: &'a S,
    entropy: &'a Entropy,
    /// Of keys that say none.
    thresholds: Thresholds,
    caller: Caller<'a>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller<'a> {
    AccessKey(&'a AccessKey),
    Id(&'a KeyId),
}

impl<'a, S: Store> Keys<'a, S> {
    pub(crate) const fn new(
        store: &'a S,
        entropy: &'a Entropy,
        thresholds: Thresholds,
        caller: Caller<'a>,
    ) -> Self {
        Self { store, entropy, thresholds, caller }
    }

    /// Creates a key in the caller's workspace; its limits are in force at once.
    ///
    /// The answer is the only place that ever shows the access key.
    ///
    /// # Errors
    /// [`KeysError::IdTaken`], [`KeysError::NameTaken`] or [`KeysError::AccessKeyTaken`] if another living
    /// key has what this one asks for; [`KeysError::Invalid`] for too many assets; and what every
    /// operation may answer: a caller that may not, a store that cannot.
    pub async fn create(&self, key: NewKey) -> Result<CreatedKey, KeysError> {
        let admin = self.admin().await?;
        create(self.store, self.entropy, self.thresholds, admin.workspace, key, false).await
    }

    /// What is known of a key of the workspace.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], or what every operation may answer.
    pub async fn get(&self, id: &KeyId) -> Result<KeyRecord, KeysError> {
        let admin = self.admin().await?;
        self.read(&admin.workspace, id).await
    }

    /// What is known of the key that has this access key.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], or what every operation may answer.
    pub async fn get_by_access_key(&self, access_key: &AccessKey) -> Result<KeyRecord, KeysError> {
        let admin = self.admin().await?;
        let id = self.store.resolve(&access_key.digest()).await?;
        let id = id.ok_or_else(|| KeysError::NotFound(access_key.to_string()))?;
        // A key of another workspace is named as it was asked for: its id is none of the caller's business.
        self.read(&admin.workspace, &id).await.map_err(|error| match error {
            KeysError::NotFound(_) => KeysError::NotFound(access_key.to_string()),
            error => error,
        })
    }

    /// A page of the keys of the workspace, ordered by the bytes of their names.
    ///
    /// ```no_run
    /// # async fn all<S: limiter_core::Store>(keys: limiter_core::Keys<'_, S>) -> Result<(), limiter_core::KeysError> {
    /// use limiter_core::Search;
    ///
    /// let mut search = Some(Search::all().name_contains("ci"));
    /// while let Some(page_of) = search {
    ///     let page = keys.search(&page_of).await?;
    ///     page.keys.iter().for_each(|key| println!("{} {}", key.id, key.name));
    ///     search = page_of.following(&page);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What every operation may answer.
    pub async fn search(&self, search: &Search) -> Result<Page, KeysError> {
        let admin = self.admin().await?;
        Ok(self.store.list(&admin.workspace, search).await?)
    }

    /// Replaces the configuration of a key that was read at `version`.
    ///
    /// Name, budget, expiry, thresholds and shadow mode take effect at once, limits per minute at the next minute and limits per
    /// day at the next day. To stop a key at once, set its expiry. Saving what is already configured changes nothing, also not the version.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Conflict`] if the key has changed since; [`KeysError::NameTaken`];
    /// [`KeysError::LastAdmin`] if the workspace's last admin key would get an expiry;
    /// [`KeysError::Invalid`] for too many assets; or what every operation may answer.
    pub async fn update(
        &self,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<KeyRecord, KeysError> {
        let admin = self.admin().await?;
        config.check()?;
        let config = &config.or_thresholds(self.thresholds);
        self.store.update(&admin.workspace, id, version, config).await
    }

    /// Deletes a key for good: its next call is refused. The engine never makes its id again; who chooses
    /// ids must not either.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::LastAdmin`]; or what every operation may answer.
    pub async fn delete(&self, id: &KeyId) -> Result<(), KeysError> {
        let admin = self.admin().await?;
        self.store.delete(&admin.workspace, id).await
    }

    /// What a key has used: any key of the workspace for an admin, its own for a member.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Forbidden`] for a member that asks for another key; or what
    /// every operation may answer.
    pub async fn usage(&self, id: &KeyId) -> Result<Usage, KeysError> {
        let caller = self.caller().await?;
        if caller.id != *id {
            require_admin(&caller)?;
            self.read(&caller.workspace, id).await?;
        }
        self.store.usage(id).await?.ok_or_else(|| KeysError::NotFound(id.to_string()))
    }

    /// What the calling key itself has used.
    ///
    /// # Errors
    /// What every operation may answer.
    pub async fn own_usage(&self) -> Result<Usage, KeysError> {
        let caller = self.caller().await?;
        self.store.usage(&caller.id).await?.ok_or(KeysError::UnknownCaller)
    }

    /// The calling key itself.
    async fn caller(&self) -> Result<KeyRecord, KeysError> {
        let id = match self.caller {
            Caller::Id(id) => Some(id.clone()),
            Caller::AccessKey(access_key) => self.store.resolve(&access_key.digest()).await?,
        };
        let record = match id {
            Some(id) => self.store.read(&id).await?,
            None => None,
        };
        let record = record.ok_or(KeysError::UnknownCaller)?;
        if record.is_expired() { Err(KeysError::ExpiredCaller) } else { Ok(record) }
    }

    /// The calling key, which must be an admin key.
    async fn admin(&self) -> Result<KeyRecord, KeysError> {
        let caller = self.caller().await?;
        require_admin(&caller).map(|()| caller)
    }

    async fn read(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<KeyRecord, KeysError> {
        let record = self.store.read(id).await?.filter(|record| record.workspace == *workspace);
        record.ok_or_else(|| KeysError::NotFound(id.to_string()))
    }
}

/// Creates the first key of a workspace, an admin key that never expires.
pub(crate) async fn bootstrap<S: Store>(
    store: &S,
    entropy: &Entropy,
    thresholds: Thresholds,
    workspace: WorkspaceId,
    admin: NewKey,
) -> Result<CreatedKey, KeysError> {
    if !is_permanent_admin(admin.kind, admin.config.expires_at) {
        return Err(KeysError::FirstMustBeAdmin);
    }
    create(store, entropy, thresholds, workspace, admin, true).await
}

/// Whether a key keeps its workspace manageable for ever.
#[must_use]
pub fn is_permanent_admin(kind: KeyKind, expires_at: Option<Timestamp>) -> bool {
    kind == KeyKind::Admin && expires_at.is_none()
}

/// Checks that a workspace keeps an admin key that never expires, when one of its `permanent_admins` is
/// deleted or given an expiry.
///
/// # Errors
/// [`KeysError::LastAdmin`] if it was the last one.
pub const fn check_admin_remains(permanent_admins: usize) -> Result<(), KeysError> {
    if permanent_admins > 1 { Ok(()) } else { Err(KeysError::LastAdmin) }
}

async fn create<S: KeyStore>(
    store: &S,
    entropy: &Entropy,
    thresholds: Thresholds,
    workspace: WorkspaceId,
    key: NewKey,
    bootstraps: bool,
) -> Result<CreatedKey, KeysError> {
    let NewKey { kind, config, id, access } = key;
    config.check()?;
    let config = config.or_thresholds(thresholds);
    for _ in 0..ATTEMPTS {
        let access_key = match &access {
            NewAccess::Generated => Some(AccessKey::generate(entropy).map_err(KeysError::Entropy)?),
            NewAccess::Brought(access_key) => Some(access_key.clone()),
            NewAccess::None => None,
        };
        let record = NewRecord {
            id: match &id {
                Some(id) => id.clone(),
                None => generate_key_id(entropy).map_err(KeysError::Entropy)?,
            },
            workspace: workspace.clone(),
            kind,
            config: config.clone(),
            secret: access_key.as_ref().map(StoredSecret::from),
            bootstraps,
        };
        match store.create(record).await {
            // The ends of a generated key are those of another one: make it again.
            Err(KeysError::AccessKeyTaken) if matches!(access, NewAccess::Generated) => {}
            created => return created.map(|record| CreatedKey { record, access_key }),
        }
    }
    Err(KeysError::AccessKeyTaken)
}

fn require_admin(caller: &KeyRecord) -> Result<(), KeysError> {
    if caller.kind == KeyKind::Admin { Ok(()) } else { Err(KeysError::Forbidden) }
}

/// The ends of a key have 47 bits: even among a million keys of one workspace, the chance that this many
/// in a row collide is below 2^-400.
const ATTEMPTS: usize = 16;
