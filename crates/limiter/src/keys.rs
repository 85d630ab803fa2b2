//! The keys, groups and plans of a workspace, managed on behalf of one of its keys or of its owner.

use limiter_core::{
    AccessKey, CreatedKey, DayHistory, Effective, InvalidValue, KeyConfig, KeyId, KeyRecord,
    KeysError, Limits, NewKey, Page, Plan, PlanName, PlanRecord, PlanUpdate, Rotation, Search,
    UpdatedKey, Upserted, Usage,
};

use crate::answer::Answer;
use crate::limiter::Limiter;
use crate::observe::{Call, Operation};

/// The keys, groups and plans of a workspace, managed on behalf of its owner or of one of its keys: see [`Limiter::workspace`]
/// and [`Limiter::keys`].
///
/// The owner is the process itself, which is trusted: it needs no key, and may do what an admin key may. An admin key creates, reads, updates and deletes the keys of its workspace, itself included, and reads their usage.
/// A member key reads its own usage; all else is [`KeysError::Forbidden`]. No answer reveals that a key of another
/// workspace exists.
///
/// A group is managed as a key is: [`NewKey::group`] creates it, and all other methods take its id. It has no access key. Member
/// keys read no usage of their groups.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use limiter::{Charge, KeyConfig, KeyId, Limiter, Limits, NewKey, Search};
///
/// let limiter = Limiter::in_memory();
/// let (keys, acme) = (limiter.workspace("team-a")?, "acme".parse::<KeyId>()?);
/// let limits = Limits::builder().requests_per_day(1).build()?;
/// keys.create(NewKey::group(acme.clone(), KeyConfig::named("Acme")?.with_global(limits))).await?;
/// let ci = NewKey::member(KeyConfig::named("ci")?).with_id("acme/ci".parse()?);
/// let ci = keys.create(ci).await?.record.id;
///
/// assert!(limiter.check_and_consume(&ci, None, &Charge::request()).await?.is_allowed());
/// let decision = limiter.check_and_consume(&ci, None, &Charge::request()).await?;
/// let denied = decision.denied().expect("the group allows one request a day").to_string();
/// assert!(denied.starts_with("acme/ci: 1 of 1 requests per day are used for group acme"));
///
/// let beneath = keys.search(&Search::all().beneath(acme.clone())).await?;
/// assert_eq!(beneath.keys[0].id, ci);
/// # Ok(())
/// # }
/// ```
///
/// A [plan](Self::save_plan) has limits that many keys and groups share by name, each with its own counts. Only admin keys and
/// the owner read and change plans.
///
/// Every operation looks the caller up again, so that it stops working as soon as its key is deleted or expired
/// ([`KeysError::UnknownCaller`], [`KeysError::ExpiredCaller`]).
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    limiter: &'a Limiter,
    keys: limiter_core::Keys<'a>,
}

impl<'a> Keys<'a> {
    /// The most keys that [`create_many`](Self::create_many) takes.
    pub const MAX_CREATED_AT_ONCE: usize = limiter_core::Keys::MAX_CREATED_AT_ONCE;

    pub(crate) const fn new(limiter: &'a Limiter, keys: limiter_core::Keys<'a>) -> Self {
        Self { limiter, keys }
    }

    /// Creates a key or a group in the caller's workspace; its limits are in force at once.
    ///
    /// The answer is the only place that ever shows the access key.
    ///
    /// # Errors
    /// [`KeysError::NoPlan`] if the workspace has no plan that its configuration names; [`KeysError::NoGroup`] if it has no
    /// group that its id names; [`KeysError::IdTaken`],
    /// [`KeysError::NameTaken`] or [`KeysError::AccessKeyTaken`] if another living key has the id, name or access key of this
    /// one; [`KeysError::Invalid`] for too many assets, an admin key in a group or an access key of a group; an error about the
    /// caller; or a store error.
    pub fn create(
        &self,
        key: NewKey,
    ) -> Answer<impl Future<Output = Result<CreatedKey, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::new(Operation::Create), async move { keys.create(key).await })
    }

    /// Creates up to [`MAX_CREATED_AT_ONCE`](Self::MAX_CREATED_AT_ONCE) keys in the caller's workspace, much faster than one
    /// by one where each [`create`](Self::create) takes several round trips.
    ///
    /// Each key has a result of its own, in the order of the keys: one that is refused, such as for a name that is taken,
    /// does not stop the others. A name or an id of two of the keys goes to the first. After a failure of the store, the
    /// keys that are left were not tried, and their errors say so. For more keys, call this again.
    ///
    /// If the future is dropped, some of the keys may have been created, and their access keys are lost.
    ///
    /// ```no_run
    /// # async fn import(keys: limiter::Keys<'_>) -> Result<(), limiter::KeysError> {
    /// use limiter::{InvalidValue, KeyConfig, NewKey};
    ///
    /// let names = ["ci", "search", "chat"];
    /// let new = names.iter().map(|name| Ok(NewKey::member(KeyConfig::named(name)?)));
    /// let new = new.collect::<Result<_, InvalidValue>>()?;
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
    pub fn create_many(
        &self,
        new: Vec<NewKey>,
    ) -> Answer<
        impl Future<Output = Result<Vec<Result<CreatedKey, KeysError>>, KeysError>> + Send + use<'a>,
    > {
        let Self { limiter, keys } = self.clone();
        limiter
            .observed(Call::new(Operation::CreateMany), async move { keys.create_many(new).await })
    }

    /// Reads a key or a group of the workspace.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Damaged`] if its stored data is corrupt; an error about the caller; or a store
    /// error.
    pub fn get(
        &self,
        id: &'a KeyId,
    ) -> Answer<impl Future<Output = Result<KeyRecord, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::of(Operation::Get, id), async move { keys.get(id).await })
    }

    /// Reads the key of the workspace that has this access key.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_by_access_key(
        &self,
        access_key: &'a AccessKey,
    ) -> Answer<impl Future<Output = Result<KeyRecord, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::new(Operation::Get), async move {
            keys.get_by_access_key(access_key).await
        })
    }

    /// Lists a page of the keys and groups of the workspace, ordered by the bytes of their names. [`Page::damaged`] names keys whose
    /// stored data is corrupt.
    ///
    /// ```no_run
    /// # async fn all(keys: limiter::Keys<'_>) -> Result<(), limiter::KeysError> {
    /// use limiter::Search;
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
    /// [`Search::with_usage`] adds what each of them has used.
    ///
    /// # Errors
    /// An error about the caller, or a store error.
    pub fn search(
        &self,
        search: &'a Search,
    ) -> Answer<impl Future<Output = Result<Page, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::new(Operation::Search), async move { keys.search(search).await })
    }

    /// Replaces the configuration of a key or a group that was read at `version`.
    ///
    /// Name, expiry, thresholds, shadow mode and limits for ever take effect at once. All other limits take effect at the
    /// next window of their kind: limits per minute at the next minute, and so on. To change them at once, call
    /// [`update_now`](Self::update_now). To stop a key at once, set its expiry. Saving the configuration as it is changes
    /// nothing, also not the version.
    ///
    /// Thresholds that the change itself reaches raise [events](Limiter::threshold_events).
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::NoPlan`] if the workspace has no plan that the configuration names;
    /// [`KeysError::Conflict`] if the key has changed since; [`KeysError::NameTaken`]; [`KeysError::LastAdmin`] if the workspace's last admin key would get an expiry; [`KeysError::Invalid`] for too many
    /// assets; [`KeysError::Damaged`]; an error about the caller; or a store error.
    pub fn update(
        &self,
        id: &'a KeyId,
        version: u64,
        config: &'a KeyConfig,
    ) -> Answer<impl Future<Output = Result<UpdatedKey, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::of(Operation::Update, id), async move {
            keys.update(id, version, config).await.inspect(|updated| limiter.updated(updated))
        })
    }

    /// As [`update`](Self::update), but all limits take effect at once, in the windows as they stand: what was used stays
    /// used.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_now(
        &self,
        id: &'a KeyId,
        version: u64,
        config: &'a KeyConfig,
    ) -> Answer<impl Future<Output = Result<UpdatedKey, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::of(Operation::Update, id), async move {
            keys.update_now(id, version, config).await.inspect(|updated| limiter.updated(updated))
        })
    }

    /// Creates a key or a group, or updates the one of its name, whatever its version. An id and an access key that the new key would
    /// have had do not matter then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use limiter::{Effective, KeyConfig, Limiter, NewKey, Upserted};
    ///
    /// let limiter = Limiter::in_memory();
    /// let keys = limiter.workspace("team-a")?;
    /// let ci: KeyConfig = serde_json::from_str(r#"{"name": "ci", "global": {"requests_per_day": 100}}"#)?;
    /// for is_new in [true, false] {
    ///     let upserted = keys.upsert(NewKey::member(ci.clone()), Effective::Next).await?;
    ///     assert_eq!(matches!(upserted, Upserted::Created(_)), is_new);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`create`](Self::create) and [`update`](Self::update), but [`KeysError::Conflict`] only if other callers change the
    /// key again and again; [`KeysError::NameTaken`] if the key of this name is of another kind.
    pub fn upsert(
        &self,
        key: NewKey,
        effective: Effective,
    ) -> Answer<impl Future<Output = Result<Upserted, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::new(Operation::Upsert), async move {
            keys.upsert(key, effective).await.inspect(|upserted| {
                if let Upserted::Updated(updated) = upserted {
                    limiter.updated(updated);
                }
            })
        })
    }

    /// Opens a group to unregistered keys, such as the addresses of anonymous callers: each directly beneath it may use
    /// these limits, and all together those of the group.
    ///
    /// A plan and a group, both named like the path, are created; or they are changed, with their next windows, if they are
    /// there. A key counts from its first admitted call on, and takes no memory any more when its windows have ended. It has
    /// no record, no account and no history.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use limiter::{Charge, KeyId, Limiter, Limits};
    ///
    /// let limiter = Limiter::in_memory();
    /// let each = Limits::builder().requests_per_minute(1).build()?;
    /// let all = Limits::builder().requests_per_day(1_000_000).build()?;
    /// limiter.workspace("web")?.open("ip", each, all).await?;
    ///
    /// let address: KeyId = "ip/203.0.113.7".parse()?;
    /// assert!(limiter.check_and_consume(&address, None, &Charge::request()).await?.is_allowed());
    /// assert!(!limiter.check_and_consume(&address, None, &Charge::request()).await?.is_allowed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The group must limit its requests per minute, hour or day: nothing else bounds the keys that callers make up. Callers do
    /// not see its figures. For a group with more than limits over all calls, [save a plan](Self::save_plan) and create a group
    /// that is [open](KeyConfig::with_open) with it.
    ///
    /// # Errors
    /// [`KeysError::Invalid`] for a malformed path, if the group does not limit its requests, or if each key has a limit of more
    /// than a day; [`KeysError::NoGroup`] if the group around it does not exist; [`KeysError::NameTaken`] if a key or another
    /// group has this name; and as [`upsert`](Self::upsert).
    pub fn open<P, E>(
        &self,
        path: P,
        each: E,
        group: Limits,
    ) -> Answer<impl Future<Output = Result<KeyRecord, KeysError>> + Send + use<'a, P, E>>
    where
        P: TryInto<KeyId>,
        E: Into<Plan>,
        InvalidValue: From<P::Error>,
    {
        let Self { limiter, keys } = self.clone();
        let (path, each) = (path.try_into().map_err(InvalidValue::from), each.into());
        limiter.observed(Call::new(Operation::Upsert), async move {
            keys.open(path?, each, group).await
        })
    }

    /// Sets what a key or a group has used to zero, in all windows that end: the answer to a customer who is stuck. What the
    /// day had counted stays in the [history](Self::history). Reservations of these windows find them closed. The reset of a
    /// group changes nothing of the keys beneath it.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Damaged`]; an error about the caller; or a store error.
    pub fn reset(
        &self,
        id: &'a KeyId,
    ) -> Answer<impl Future<Output = Result<(), KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::of(Operation::Reset, id), async move { keys.reset(id).await })
    }

    /// Replaces the access key of a key, and shows the new one this once. The old one is refused from now on, or works on for
    /// the grace time of the rotation. A key that has none gets one. Its configuration, its counts and its version stay as they
    /// are.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use limiter::{KeyConfig, Limiter, NewKey, Rotation};
    ///
    /// let limiter = Limiter::in_memory();
    /// let keys = limiter.workspace("team-a")?;
    /// let new = NewKey::member(KeyConfig::named("ci")?).with_prefix("sk-acme-".parse()?);
    /// let ci = keys.create(new).await?;
    /// let a_day = Rotation::with_grace(Duration::from_secs(24 * 60 * 60));
    /// let rotated = keys.rotate(&ci.record.id, &a_day).await?;
    /// for access_key in [ci.access_key, rotated.access_key].into_iter().flatten() {
    ///     assert!(access_key.expose().starts_with("sk-acme-"));
    ///     assert_eq!(limiter.authenticate(&access_key).await?.as_ref(), Some(&ci.record.id));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If the answer was lost, rotate again: the key that nobody has seen then counts as one of the old ones.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Invalid`] for a group, a grace time above [`Rotation::MAX_GRACE`], or a brought
    /// access key without the prefix that is asked for; [`KeysError::AccessKeyTaken`] if a living key has the brought one;
    /// [`KeysError::Damaged`]; an error about the caller; or a store error.
    pub fn rotate(
        &self,
        id: &'a KeyId,
        rotation: &'a Rotation,
    ) -> Answer<impl Future<Output = Result<CreatedKey, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(
            Call::of(Operation::Rotate, id),
            async move { keys.rotate(id, rotation).await },
        )
    }

    /// Deletes a key or an empty group for good: the next call of the key is refused. A key whose stored data is damaged can be
    /// deleted too.
    ///
    /// The engine never draws its id again; a caller who chooses ids must not use it again either.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::LastAdmin`]; [`KeysError::NotEmpty`] for a group with anything beneath it;
    /// [`KeysError::Damaged`] if a later version wrote the key; an error about the caller; or a store error.
    pub fn delete(
        &self,
        id: &'a KeyId,
    ) -> Answer<impl Future<Output = Result<(), KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::of(Operation::Delete, id), async move { keys.delete(id).await })
    }

    /// Creates a plan, or changes the one of its name. However many keys have it, this is one write: each takes the changed
    /// limits with the next of its windows, or with its next call if the update says [`at_once`](PlanUpdate::at_once).
    ///
    /// Limits of a key replace those of its plan for the same scope, window and unit, and `unlimited` lifts one. On Redis other
    /// processes learn of the change within a second. Saving a plan as it is changes nothing, also not its version.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use limiter::{KeyConfig, Limiter, NewKey, Plan, PlanUpdate};
    ///
    /// let limiter = Limiter::in_memory();
    /// let keys = limiter.workspace("team-a")?;
    /// let free: Plan = serde_json::from_str(
    ///     r#"{"global": {"requests_per_minute": 20, "tokens_per_day": 10000}, "other": "denied", "assets": {"gpt-5": {}}}"#,
    /// )?;
    /// let saved = keys.save_plan(PlanUpdate::new("free".parse()?, free.clone())).await?;
    /// let ci = KeyConfig::named("ci")?.with_plan("free".parse()?);
    /// let ci = keys.create(NewKey::member(ci)).await?;
    /// assert_eq!(ci.record.limits[0].in_force, free.global);
    ///
    /// // Changed by nobody since:
    /// let update = PlanUpdate::new(saved.name, free.with_thresholds("50,100".parse()?));
    /// assert_eq!(keys.save_plan(update.from_version(saved.version)).await?.version, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Thresholds that a change reaches raise [events](Limiter::threshold_events), for each key with its next call.
    ///
    /// # Errors
    /// [`KeysError::NoPlan`] or [`KeysError::Conflict`] if the plan is not at the version that the update was made from;
    /// [`KeysError::Invalid`] for too many assets, limits or plans; an error about the caller; or a store error.
    pub fn save_plan(
        &self,
        update: PlanUpdate,
    ) -> Answer<impl Future<Output = Result<PlanRecord, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter
            .observed(Call::new(Operation::SavePlan), async move { keys.save_plan(update).await })
    }

    /// Reads all plans of the workspace, ordered by the bytes of their names.
    ///
    /// # Errors
    /// An error about the caller, or a store error.
    pub fn plans(
        &self,
    ) -> Answer<impl Future<Output = Result<Vec<PlanRecord>, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::new(Operation::Plans), async move { keys.plans().await })
    }

    /// Reads a plan of the workspace.
    ///
    /// # Errors
    /// [`KeysError::NoPlan`]; an error about the caller; or a store error.
    pub fn plan(
        &self,
        name: &'a PlanName,
    ) -> Answer<impl Future<Output = Result<PlanRecord, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::new(Operation::Plan), async move { keys.plan(name).await })
    }

    /// Deletes a plan that no key and no group has.
    ///
    /// # Errors
    /// [`KeysError::NoPlan`]; [`KeysError::PlanInUse`]; an error about the caller; or a store error.
    pub fn delete_plan(
        &self,
        name: &'a PlanName,
    ) -> Answer<impl Future<Output = Result<(), KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter
            .observed(Call::new(Operation::DeletePlan), async move { keys.delete_plan(name).await })
    }

    /// Reads the usage of a key or a group: any of the workspace for an admin, its own for a member.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Forbidden`] for a member that asks for another key; an error about the caller;
    /// or a store error.
    pub fn usage(
        &self,
        id: &'a KeyId,
    ) -> Answer<impl Future<Output = Result<Usage, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::of(Operation::Usage, id), async move { keys.usage(id).await })
    }

    /// Reads what a key or a group has counted on each of the last days, the oldest first and today at the end: any of the
    /// workspace for an admin, its own for a member. Days without any charge are left out.
    ///
    /// A store keeps [`DayHistory::DAYS`] days unless set otherwise: the one in memory by
    /// [`history_days`](limiter_memory::MemoryStoreBuilder::history_days).
    ///
    /// # Errors
    /// As [`usage`](Self::usage).
    pub fn history(
        &self,
        id: &'a KeyId,
        days: u16,
    ) -> Answer<impl Future<Output = Result<Vec<DayHistory>, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter
            .observed(Call::of(Operation::History, id), async move { keys.history(id, days).await })
    }

    /// Reads the usage of the calling key itself.
    ///
    /// # Errors
    /// [`KeysError::OwnerIsNoKey`]; an error about the caller; or a store error.
    pub fn own_usage(
        &self,
    ) -> Answer<impl Future<Output = Result<Usage, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = self.clone();
        limiter.observed(Call::new(Operation::Usage), async move { keys.own_usage().await })
    }
}
