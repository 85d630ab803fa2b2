//! Management of a workspace's keys, by the rights of the calling key or as the owner.

mod batch;
mod draft;

use self::batch::Batch;
use self::draft::Draft;
use crate::access_key::{AccessKey, Entropy};
use crate::clock::Timestamp;
use crate::config::{Effective, KeyConfig, KeyKind};
use crate::error::{BoxError, InvalidValue, KeysError};
use crate::history::DayHistory;
use crate::key::{CreatedKey, KeyRecord};
use crate::limits::Limits;
use crate::managed::{ManagedAs, ManagedKey, Report};
use crate::names::{KeyId, PlanName, WorkspaceId};
use crate::new_key::{NewAccess, NewId, NewKey, Rotation};
use crate::plan::{Plan, PlanRecord, PlanUpdate};
use crate::search::{Page, Search};
use crate::state::KeyState;
use crate::store::{KeyRotation, KeyUpdate, NewRecord, Store, UpdatedKey};
use crate::thresholds::Thresholds;
use crate::usage::Usage;

/// The keys of a workspace, managed on behalf of one of them, or of its owner.
///
/// An admin key creates, reads, updates and deletes the keys of its workspace, itself included, and reads their usage.
/// A member key reads its own usage; all else is [`KeysError::Forbidden`]. No answer reveals that a key of another
/// workspace exists.
///
/// Every operation looks the caller up again, so that it stops working as soon as its key is deleted or expired
/// ([`KeysError::UnknownCaller`], [`KeysError::ExpiredCaller`]). The owner of a workspace may do what an admin key may.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    store: &'a dyn Store,
    issuer: &'a Issuer,
    caller: Caller<'a>,
}

/// On whose behalf keys are managed.
#[derive(Clone, Debug)]
pub enum Caller<'a> {
    /// By its access key.
    AccessKey(&'a AccessKey),
    /// By its id, for services that authenticate their callers themselves.
    Id(&'a KeyId),
    /// The owner of this workspace, who needs no key: the process itself, which is trusted.
    Owner(WorkspaceId),
}

/// What an upsert did.
#[derive(Clone, Debug)]
pub enum Upserted {
    /// It created the key.
    Created(CreatedKey),
    /// It updated the key of that name.
    Updated(UpdatedKey),
}

/// The settings by which keys are made: a source of random bytes, the thresholds of keys that set none, and a function that is
/// called for each management operation.
#[derive(Debug)]
pub struct Issuer {
    entropy: Entropy,
    thresholds: Thresholds,
    report: Report,
}

/// On whose behalf a key is managed, and in which workspace.
struct Manager {
    admin: Option<KeyId>,
    workspace: WorkspaceId,
}

impl Issuer {
    /// Creates an issuer whose ids and access keys are made of these random bytes: `entropy` fills a buffer from the
    /// operating system's source or one as good. Keys without thresholds of their own get 80 % and 100 %.
    pub fn new(
        entropy: impl Fn(&mut [u8]) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        let (entropy, thresholds) = (Entropy::new(entropy), Thresholds::default());
        Self { entropy, thresholds, report: Report::NONE }
    }

    /// Sets a function that is called for each management operation that has taken effect, before its caller is answered. It
    /// must not block. An update that changes nothing is none, nor is one whose outcome is unknown.
    #[must_use]
    pub fn on_managed(self, report: impl Fn(&ManagedKey<'_>) + Send + Sync + 'static) -> Self {
        Self { report: Report::to(report), ..self }
    }

    /// Sets the thresholds of keys that are created or updated without thresholds of their own.
    #[must_use]
    pub fn with_thresholds(self, thresholds: Thresholds) -> Self {
        Self { thresholds, ..self }
    }

    /// Creates the first key of a workspace: an admin key without an expiry.
    ///
    /// Repeated with the access key that the caller brought, or without an access key under the id that the caller chose, it
    /// returns that admin key as it is: a service may call it at each start.
    ///
    /// # Errors
    /// [`KeysError::AlreadyBootstrapped`] if the workspace has other keys; [`KeysError::FirstMustBeAdmin`]
    /// if the key is no admin key or has an expiry; and the errors of [`Keys::create`].
    pub async fn bootstrap(
        &self,
        store: &dyn Store,
        workspace: WorkspaceId,
        admin: NewKey,
    ) -> Result<CreatedKey, KeysError> {
        if !is_permanent_admin(admin.kind, admin.config.expires_at) {
            return Err(KeysError::FirstMustBeAdmin);
        }
        let manager = Manager { admin: None, workspace: workspace.clone() };
        match self.create(store, &manager, admin.clone(), true).await {
            Err(KeysError::AlreadyBootstrapped) => {
                let id = match (&admin.access, admin.id) {
                    (NewAccess::Brought(access_key), _) => {
                        store.resolve(&access_key.digest()).await?
                    }
                    (NewAccess::None, NewId::Chosen(id)) => Some(id),
                    _ => None,
                };
                let record = match id {
                    Some(id) => {
                        store.read(&id).await.map_err(|error| KeysError::of_key(&id, error))?
                    }
                    None => None,
                };
                let is_it =
                    |key: &KeyRecord| key.workspace == workspace && key.kind == KeyKind::Admin;
                let record = record.filter(is_it).ok_or(KeysError::AlreadyBootstrapped)?;
                let access_key = match admin.access {
                    NewAccess::Brought(access_key) => Some(access_key),
                    _ => None,
                };
                Ok(CreatedKey { record, access_key })
            }
            created => created,
        }
    }

    async fn create(
        &self,
        store: &dyn Store,
        manager: &Manager,
        key: NewKey,
        bootstraps: bool,
    ) -> Result<CreatedKey, KeysError> {
        let draft = Draft::of(key, self.thresholds)?;
        for _ in 0..ATTEMPTS {
            let (record, access_key) = draft.draw(&self.entropy, &manager.workspace, bootstraps)?;
            match store.create(record).await {
                // Another key has the same prefix and ends as the generated one: draw again.
                Err(KeysError::AccessKeyTaken) if draft.is_generated() => {}
                created => {
                    let record = created?;
                    self.managed(manager, &record.id, ManagedAs::Created);
                    return Ok(CreatedKey { record, access_key });
                }
            }
        }
        Err(KeysError::AccessKeyTaken)
    }

    fn managed(&self, manager: &Manager, key: &KeyId, change: ManagedAs) {
        let Manager { admin, workspace } = manager;
        self.report.send(&ManagedKey { by: admin.as_ref(), workspace, key, change });
    }
}

impl<'a> Keys<'a> {
    /// The most keys that [`create_many`](Self::create_many) takes: some hundred milliseconds of work on Redis, and a
    /// bound on what one request of a service may ask for.
    pub const MAX_CREATED_AT_ONCE: usize = 1_000;

    /// Creates the interface to the keys in this store, on behalf of this caller.
    pub fn new(store: &'a dyn Store, issuer: &'a Issuer, caller: impl Into<Caller<'a>>) -> Self {
        Self { store, issuer, caller: caller.into() }
    }

    /// Creates a key in the caller's workspace; its limits are in force at once.
    ///
    /// The answer is the only place that ever shows the access key.
    ///
    /// # Errors
    /// [`KeysError::NoGroup`] if the workspace has no group that its id names; [`KeysError::IdTaken`],
    /// [`KeysError::NameTaken`] or [`KeysError::AccessKeyTaken`] if another living key has the id, name or access key of this
    /// one; [`KeysError::Invalid`] for too many assets, an admin key in a group or an access key of a group; an error about the
    /// caller; or a store error.
    pub async fn create(&self, key: NewKey) -> Result<CreatedKey, KeysError> {
        let manager = self.manager().await?;
        self.issuer.create(self.store, &manager, key, false).await
    }

    /// Creates up to [`MAX_CREATED_AT_ONCE`](Self::MAX_CREATED_AT_ONCE) keys in the caller's workspace, much faster than
    /// one by one where each [`create`](Self::create) takes several round trips.
    ///
    /// Each key has a result of its own, in the order of the keys: one that is refused, such as for a name that is
    /// taken, does not stop the others. A name or an id of two of the keys goes to the first. After a failure of the
    /// store, the keys that are left were not tried, and their errors say so. For more keys, call this again.
    ///
    /// If the future is dropped, some of the keys may have been created, and their access keys are lost.
    ///
    /// ```no_run
    /// # async fn import(keys: limiter_core::Keys<'_>) -> Result<(), limiter_core::KeysError> {
    /// use limiter_core::{KeyConfig, NewKey};
    ///
    /// let names = ["ci", "search", "chat"];
    /// let new = names.iter().map(|name| Ok(NewKey::member(KeyConfig::named(name)?)));
    /// let new = new.collect::<Result<_, limiter_core::InvalidValue>>()?;
    /// for (name, created) in names.iter().zip(keys.create_many(new).await?) {
    ///     match created {
    ///         Ok(key) => println!("{name} has the id {}", key.record.id),
    ///         Err(error) => println!("{name} was not created: {error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`KeysError::Invalid`] for more keys than that; an error about the caller; or a store error. Nothing was created
    /// then. The errors of single keys are those of [`create`](Self::create).
    pub async fn create_many(
        &self,
        keys: Vec<NewKey>,
    ) -> Result<Vec<Result<CreatedKey, KeysError>>, KeysError> {
        let manager = self.manager().await?;
        let (count, max) = (keys.len(), Self::MAX_CREATED_AT_ONCE);
        if count > max {
            return Err(InvalidValue::TooManyKeys { count, max }.into());
        }
        let drafts = keys.into_iter().map(|key| Draft::of(key, self.issuer.thresholds));
        let workspace = manager.workspace.clone();
        let batch = Batch::new(self.store, &self.issuer.entropy, workspace, drafts);
        let created = batch.create().await;
        for key in created.iter().flatten() {
            self.issuer.managed(&manager, &key.record.id, ManagedAs::Created);
        }
        Ok(created)
    }

    /// Reads a key of the workspace.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Damaged`] if its stored data is corrupt; an error about the caller; or a
    /// store error.
    pub async fn get(&self, id: &KeyId) -> Result<KeyRecord, KeysError> {
        let workspace = self.managed().await?;
        self.read(&workspace, id).await
    }

    /// Reads the key of the workspace that has this access key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_by_access_key(&self, access_key: &AccessKey) -> Result<KeyRecord, KeysError> {
        let workspace = self.managed().await?;
        let id = self.store.resolve(&access_key.digest()).await?;
        let id = id.ok_or_else(|| KeysError::NotFound(access_key.to_string()))?;
        // The error shows the access key that was asked for, not the id of a key of another workspace.
        self.read(&workspace, &id).await.map_err(|error| match error {
            KeysError::NotFound(_) => KeysError::NotFound(access_key.to_string()),
            error => error,
        })
    }

    /// Lists a page of the keys of the workspace, ordered by the bytes of their names. [`Page::damaged`] names keys
    /// whose stored data is corrupt.
    ///
    /// ```no_run
    /// # async fn all(keys: limiter_core::Keys<'_>) -> Result<(), limiter_core::KeysError> {
    /// use limiter_core::Search;
    ///
    /// let mut search = Some(Search::all().name_contains("ci"));
    /// while let Some(page_of) = search {
    ///     let page = keys.search(&page_of).await?;
    ///     page.keys.iter().for_each(|key| println!("{} {}", key.id, key.config.name));
    ///     search = page_of.following(&page);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// An error about the caller, or a store error.
    pub async fn search(&self, search: &Search) -> Result<Page, KeysError> {
        let workspace = self.managed().await?;
        Ok(self.store.list(&workspace, search).await?)
    }

    /// Replaces the configuration of a key that was read at `version`.
    ///
    /// Name, expiry, thresholds, shadow mode and limits for ever take effect at once. All other limits take effect at the
    /// next window of their kind: limits per minute at the next minute, and so on. To change them at once, call
    /// [`update_now`](Self::update_now). Saving the configuration as it is changes nothing, also not the version.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Conflict`] if the key has changed since; [`KeysError::NameTaken`];
    /// [`KeysError::LastAdmin`] if the workspace's last admin key would get an expiry; [`KeysError::Invalid`] for too
    /// many assets; [`KeysError::Damaged`]; an error about the caller; or a store error.
    pub async fn update(
        &self,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<UpdatedKey, KeysError> {
        self.save(id, version, config, Effective::Next).await
    }

    /// As [`update`](Self::update), but all limits take effect at once, in the windows as they stand: what was used stays
    /// used.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub async fn update_now(
        &self,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
    ) -> Result<UpdatedKey, KeysError> {
        self.save(id, version, config, Effective::Now).await
    }

    async fn save(
        &self,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
        effective: Effective,
    ) -> Result<UpdatedKey, KeysError> {
        let manager = self.manager().await?;
        config.check()?;
        let (config, thresholds) = (config.clone(), self.issuer.thresholds);
        let update = KeyUpdate { id: id.clone(), version, config, effective, thresholds };
        let updated = self.store.update(&manager.workspace, &update).await;
        let updated = updated.map_err(|error| KeysError::of_key(id, error))?;
        if updated.record.version != version {
            self.issuer.managed(&manager, id, ManagedAs::Updated);
        }
        Ok(updated)
    }

    /// Creates a key, or updates the key of its name, whatever its version. An id and an access key that the new key would
    /// have had do not matter then.
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`update`](Self::update), but [`KeysError::Conflict`] only if other callers change the
    /// key again and again; [`KeysError::NameTaken`] if the key of this name is of the other kind.
    pub async fn upsert(&self, key: NewKey, effective: Effective) -> Result<Upserted, KeysError> {
        let workspace = self.managed().await?;
        let mut refused = KeysError::NameTaken(key.config.name.to_string());
        for _ in 0..ATTEMPTS {
            let Some(id) = self.store.find(&workspace, &key.config.name).await? else {
                match self.create(key.clone()).await {
                    Err(KeysError::NameTaken(name)) => refused = KeysError::NameTaken(name),
                    created => return created.map(Upserted::Created),
                }
                continue;
            };
            let record = match self.read(&workspace, &id).await {
                Err(KeysError::NotFound(_)) => continue,
                record => record?,
            };
            if record.kind != key.kind {
                return Err(KeysError::NameTaken(key.config.name.to_string()));
            }
            match self.save(&id, record.version, &key.config, effective).await {
                Err(error @ (KeysError::Conflict { .. } | KeysError::NotFound(_))) => {
                    refused = error
                }
                updated => return updated.map(Upserted::Updated),
            }
        }
        Err(refused)
    }

    /// Opens a group to unregistered keys: each directly beneath it has these limits, and all of them together those
    /// of the group. The plan and the group, both named like the path, are created, or changed with their next windows.
    ///
    /// # Errors
    /// [`KeysError::Invalid`] if the group does not limit its requests per minute, hour or day, or each key has a limit of a
    /// longer window; [`KeysError::NameTaken`] if a key or another group has this name; and as [`upsert`](Self::upsert).
    pub async fn open(
        &self,
        group: KeyId,
        each: Plan,
        limits: Limits,
    ) -> Result<KeyRecord, KeysError> {
        let workspace = self.managed().await?;
        let name = PlanName::new(group.as_str())?;
        let config = KeyConfig::named(group.as_str())?.with_open(name.clone()).with_global(limits);
        // The plan is saved first: nothing that the group would be refused for changes it.
        let any_time = Timestamp::START_OF_1970;
        let state = KeyState::new(KeyKind::Group, &config, self.issuer.thresholds, any_time);
        state.check_open(&config, None, any_time)?;
        each.check_for_open_groups(&name)?;
        let found = self.store.find(&workspace, &config.name).await?;
        if found.is_some_and(|found| found != group) {
            return Err(KeysError::NameTaken(group.to_string()));
        }
        self.save_plan(PlanUpdate::new(name, each)).await?;
        let upserted = self.upsert(NewKey::group(group.clone(), config), Effective::Next).await?;
        let record = match upserted {
            Upserted::Created(created) => created.record,
            Upserted::Updated(updated) => updated.record,
        };
        if record.id == group { Ok(record) } else { Err(KeysError::NameTaken(group.to_string())) }
    }

    /// Sets what a key has used to zero, in all windows that end: the answer to a customer who is stuck. What the day had
    /// counted stays in the history. Reservations of these windows find them closed.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Damaged`]; an error about the caller; or a store error.
    pub async fn reset(&self, id: &KeyId) -> Result<(), KeysError> {
        let manager = self.manager().await?;
        let reset = self.store.reset(&manager.workspace, id).await;
        reset.map_err(|error| KeysError::of_key(id, error))?;
        self.issuer.managed(&manager, id, ManagedAs::Reset);
        Ok(())
    }

    /// Replaces the access key of a key, and shows the new one this once. The old one is refused from now on, or works on for
    /// the grace time of the rotation. A key that has none gets one. Its configuration, its counts and its version stay as
    /// they are.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Invalid`] for a group, a grace time above [`Rotation::MAX_GRACE`], or a brought
    /// access key without the prefix that is asked for; [`KeysError::AccessKeyTaken`] if a living key has the brought one;
    /// [`KeysError::Damaged`]; an error about the caller; or a store error.
    pub async fn rotate(&self, id: &KeyId, rotation: &Rotation) -> Result<CreatedKey, KeysError> {
        let manager = self.manager().await?;
        let (grace, max) = (rotation.grace, Rotation::MAX_GRACE);
        if grace > max {
            return Err(InvalidValue::TooLongGrace { grace, max }.into());
        }
        let record = self.read(&manager.workspace, id).await?;
        if record.kind == KeyKind::Group {
            return Err(InvalidValue::GroupAccessKey.into());
        }
        let is_drawn = matches!(rotation.access, NewAccess::Generated);
        let kept = record.access_key.and_then(|masked| masked.prefix()).filter(|_| is_drawn);
        let prefix = rotation.prefix.or(kept);
        for _ in 0..ATTEMPTS {
            let drawn = rotation.access.draw(&self.issuer.entropy, prefix)?;
            let Some((access_key, secret)) = drawn else { break };
            let rotation = KeyRotation { id: id.clone(), secret, grace };
            match self.store.rotate(&manager.workspace, &rotation).await {
                // Another key has the same prefix and ends as the generated one: draw again.
                Err(KeysError::AccessKeyTaken) if is_drawn => {}
                rotated => {
                    let record = rotated.map_err(|error| KeysError::of_key(id, error))?;
                    self.issuer.managed(&manager, id, ManagedAs::Rotated);
                    return Ok(CreatedKey { record, access_key: Some(access_key) });
                }
            }
        }
        Err(KeysError::AccessKeyTaken)
    }

    /// Creates a plan of the workspace, or changes the one of this name. However many keys have it, this is one write: each
    /// takes the changed limits with the next of its windows, or at once if the update says so. Other processes that use the
    /// same store learn of it within a second.
    ///
    /// # Errors
    /// [`KeysError::Invalid`] for too many assets, limits or plans; [`KeysError::NoPlan`] or [`KeysError::Conflict`] if the plan
    /// is not at the version that the update was made from; an error about the caller; or a store error.
    pub async fn save_plan(&self, update: PlanUpdate) -> Result<PlanRecord, KeysError> {
        let workspace = self.managed().await?;
        update.plan.check()?;
        let update = PlanUpdate { thresholds: self.issuer.thresholds, ..update };
        self.store.save_plan(&workspace, &update).await
    }

    /// Reads the plans of the workspace, by the bytes of their names.
    ///
    /// # Errors
    /// An error about the caller, or a store error.
    pub async fn plans(&self) -> Result<Vec<PlanRecord>, KeysError> {
        let workspace = self.managed().await?;
        Ok(self.store.plans(&workspace).await?)
    }

    /// Reads a plan of the workspace.
    ///
    /// # Errors
    /// [`KeysError::NoPlan`]; an error about the caller; or a store error.
    pub async fn plan(&self, name: &PlanName) -> Result<PlanRecord, KeysError> {
        let workspace = self.managed().await?;
        let plan = self.store.plan(&workspace, name).await?;
        plan.ok_or_else(|| KeysError::NoPlan(name.clone()))
    }

    /// Deletes a plan that no key and no group has.
    ///
    /// # Errors
    /// [`KeysError::NoPlan`]; [`KeysError::PlanInUse`]; an error about the caller; or a store error.
    pub async fn delete_plan(&self, name: &PlanName) -> Result<(), KeysError> {
        let workspace = self.managed().await?;
        self.store.delete_plan(&workspace, name).await
    }

    /// Reads what a key has counted on each of the last days: any key of the workspace for an admin, its own for a member.
    /// Days without any charge are left out.
    ///
    /// # Errors
    /// As [`usage`](Self::usage).
    pub async fn history(&self, id: &KeyId, days: u16) -> Result<Vec<DayHistory>, KeysError> {
        self.may_watch(id).await?;
        let history = self.store.history(id, days).await;
        let history = history.map_err(|error| KeysError::of_key(id, error))?;
        history.ok_or_else(|| KeysError::NotFound(id.to_string()))
    }

    /// Deletes a key for good: its next call is refused. A key whose stored data is damaged can be deleted too.
    ///
    /// The engine never draws its id again; a caller who chooses ids must not use it again either.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::LastAdmin`]; [`KeysError::NotEmpty`] for a group with anything beneath it;
    /// [`KeysError::Damaged`] if a later version wrote the key; an error about the caller; or a store error.
    pub async fn delete(&self, id: &KeyId) -> Result<(), KeysError> {
        let manager = self.manager().await?;
        let deleted = self.store.delete(&manager.workspace, id).await;
        deleted.map_err(|error| KeysError::of_key(id, error))?;
        self.issuer.managed(&manager, id, ManagedAs::Deleted);
        Ok(())
    }

    /// Reads the usage of a key: any key of the workspace for an admin, its own for a member.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Forbidden`] for a member that asks for another key; an error about the
    /// caller; or a store error.
    pub async fn usage(&self, id: &KeyId) -> Result<Usage, KeysError> {
        self.may_watch(id).await?;
        let usage = self.store.usage(id).await.map_err(|error| KeysError::of_key(id, error))?;
        usage.ok_or_else(|| KeysError::NotFound(id.to_string()))
    }

    /// Checks that the caller may read what this key has used.
    async fn may_watch(&self, id: &KeyId) -> Result<(), KeysError> {
        if let Some(caller) = self.caller().await?
            && caller.id == *id
        {
            return Ok(());
        }
        let workspace = self.managed().await?;
        match (self.read(&workspace, id).await, id.group()) {
            // One that nobody registered belongs to the workspace of its group.
            (Err(KeysError::NotFound(_)), Some(group)) => {
                let group = self.read(&workspace, &group).await.map(drop);
                group.map_err(|error| match error {
                    KeysError::NotFound(_) => KeysError::NotFound(id.to_string()),
                    error => error,
                })
            }
            (found, _) => found.map(drop),
        }
    }

    /// Reads the usage of the calling key itself.
    ///
    /// # Errors
    /// [`KeysError::OwnerIsNoKey`]; an error about the caller; or a store error.
    pub async fn own_usage(&self) -> Result<Usage, KeysError> {
        let caller = self.caller().await?.ok_or(KeysError::OwnerIsNoKey)?;
        self.store.usage(&caller.id).await?.ok_or(KeysError::UnknownCaller)
    }

    /// Reads the calling key; `None` for the owner of the workspace.
    async fn caller(&self) -> Result<Option<KeyRecord>, KeysError> {
        let id = match &self.caller {
            Caller::Owner(_) => return Ok(None),
            Caller::Id(id) => Some((*id).clone()),
            Caller::AccessKey(access_key) => self.store.resolve(&access_key.digest()).await?,
        };
        let record = match id {
            Some(id) => self.store.read(&id).await?,
            None => None,
        };
        let record = record.ok_or(KeysError::UnknownCaller)?;
        if record.is_expired() { Err(KeysError::ExpiredCaller) } else { Ok(Some(record)) }
    }

    /// Returns the workspace that the caller manages: as its owner, or by an admin key.
    async fn managed(&self) -> Result<WorkspaceId, KeysError> {
        self.manager().await.map(|manager| manager.workspace)
    }

    async fn manager(&self) -> Result<Manager, KeysError> {
        match (self.caller().await?, &self.caller) {
            (Some(key), _) if key.kind == KeyKind::Admin => {
                Ok(Manager { admin: Some(key.id), workspace: key.workspace })
            }
            (None, Caller::Owner(workspace)) => {
                Ok(Manager { admin: None, workspace: workspace.clone() })
            }
            _ => Err(KeysError::Forbidden),
        }
    }

    async fn read(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<KeyRecord, KeysError> {
        let record = self.store.read(id).await.map_err(|error| KeysError::of_key(id, error))?;
        let record = record.filter(|record| record.workspace == *workspace);
        record.ok_or_else(|| KeysError::NotFound(id.to_string()))
    }
}

/// Checks that a record may be stored: an admin key belongs to no group, and a group has no access key.
///
/// # Errors
/// [`InvalidValue::AdminInGroup`] or [`InvalidValue::GroupAccessKey`].
pub fn check_new(record: &NewRecord) -> Result<(), InvalidValue> {
    match record.kind {
        KeyKind::Admin => check_admin_id(&record.id),
        KeyKind::Group if record.secret.is_some() => Err(InvalidValue::GroupAccessKey),
        _ => Ok(()),
    }
}

fn check_admin_id(id: &KeyId) -> Result<(), InvalidValue> {
    match id.depth() {
        1 => Ok(()),
        segments => Err(InvalidValue::AdminInGroup { segments }),
    }
}

/// Returns whether this is an admin key that never expires. It keeps its workspace manageable for ever.
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

impl<'a> From<&'a AccessKey> for Caller<'a> {
    fn from(access_key: &'a AccessKey) -> Self {
        Self::AccessKey(access_key)
    }
}

impl<'a> From<&'a KeyId> for Caller<'a> {
    fn from(id: &'a KeyId) -> Self {
        Self::Id(id)
    }
}

impl From<WorkspaceId> for Caller<'_> {
    fn from(workspace: WorkspaceId) -> Self {
        Self::Owner(workspace)
    }
}

/// The ends of a key have 47 bits: even among a million keys of one workspace, the chance that this many
/// in a row collide is below 2^-400.
const ATTEMPTS: usize = 16;
