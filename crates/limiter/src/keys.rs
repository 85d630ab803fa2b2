//! The keys of a workspace, managed on behalf of one of them.

use limiter_core::{
    AccessKey, CreatedKey, KeyConfig, KeyId, KeyRecord, KeysError, NewKey, Page, Search, Usage,
};

use crate::answer::Answer;
use crate::limiter::Limiter;
use crate::observe::{Call, Operation};

/// The keys of a workspace, managed on behalf of one of them: see [`Limiter::keys`].
///
/// An admin key creates, reads, updates and deletes the keys of its workspace, itself included, and reads their usage.
/// A member key reads its own usage; all else is [`KeysError::Forbidden`]. No answer reveals that a key of another
/// workspace exists.
///
/// Every operation looks the caller up again, so that it stops working as soon as its key is deleted or expired
/// ([`KeysError::UnknownCaller`], [`KeysError::ExpiredCaller`]).
#[derive(Clone, Copy, Debug)]
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

    /// Creates a key in the caller's workspace; its limits are in force at once.
    ///
    /// The answer is the only place that ever shows the access key.
    ///
    /// # Errors
    /// [`KeysError::IdTaken`], [`KeysError::NameTaken`] or [`KeysError::AccessKeyTaken`] if another living key has the id,
    /// name or access key of this one; [`KeysError::Invalid`] for too many assets; an error about the caller; or a store
    /// error.
    pub fn create(
        &self,
        key: NewKey,
    ) -> Answer<impl Future<Output = Result<CreatedKey, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = *self;
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
        let Self { limiter, keys } = *self;
        limiter
            .observed(Call::new(Operation::CreateMany), async move { keys.create_many(new).await })
    }

    /// Reads a key of the workspace.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Damaged`] if its stored data is corrupt; an error about the caller; or a store
    /// error.
    pub fn get(
        &self,
        id: &'a KeyId,
    ) -> Answer<impl Future<Output = Result<KeyRecord, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = *self;
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
        let Self { limiter, keys } = *self;
        limiter.observed(Call::new(Operation::Get), async move {
            keys.get_by_access_key(access_key).await
        })
    }

    /// Lists a page of the keys of the workspace, ordered by the bytes of their names. [`Page::damaged`] names keys whose
    /// stored data is corrupt.
    ///
    /// ```no_run
    /// # async fn all(keys: limiter::Keys<'_>) -> Result<(), limiter::KeysError> {
    /// use limiter::Search;
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
    /// An error about the caller, or a store error.
    pub fn search(
        &self,
        search: &'a Search,
    ) -> Answer<impl Future<Output = Result<Page, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = *self;
        limiter.observed(Call::new(Operation::Search), async move { keys.search(search).await })
    }

    /// Replaces the configuration of a key that was read at `version`.
    ///
    /// Name, budget, expiry, thresholds and shadow mode take effect at once. Limits per minute take effect at the next
    /// minute, limits per day at the next day. To stop a key at once, set its expiry. Saving the configuration as it is
    /// changes nothing, also not the version.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Conflict`] if the key has changed since; [`KeysError::NameTaken`];
    /// [`KeysError::LastAdmin`] if the workspace's last admin key would get an expiry; [`KeysError::Invalid`] for too many
    /// assets; [`KeysError::Damaged`]; an error about the caller; or a store error.
    pub fn update(
        &self,
        id: &'a KeyId,
        version: u64,
        config: &'a KeyConfig,
    ) -> Answer<impl Future<Output = Result<KeyRecord, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = *self;
        limiter.observed(Call::of(Operation::Update, id), async move {
            keys.update(id, version, config).await
        })
    }

    /// Deletes a key for good: its next call is refused. A key whose stored data is damaged can be deleted too.
    ///
    /// The engine never draws its id again; a caller who chooses ids must not use it again either.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::LastAdmin`]; [`KeysError::Damaged`] if a later version wrote the key; an error
    /// about the caller; or a store error.
    pub fn delete(
        &self,
        id: &'a KeyId,
    ) -> Answer<impl Future<Output = Result<(), KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = *self;
        limiter.observed(Call::of(Operation::Delete, id), async move { keys.delete(id).await })
    }

    /// Reads the usage of a key: any key of the workspace for an admin, its own for a member.
    ///
    /// # Errors
    /// [`KeysError::NotFound`]; [`KeysError::Forbidden`] for a member that asks for another key; an error about the caller;
    /// or a store error.
    pub fn usage(
        &self,
        id: &'a KeyId,
    ) -> Answer<impl Future<Output = Result<Usage, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = *self;
        limiter.observed(Call::of(Operation::Usage, id), async move { keys.usage(id).await })
    }

    /// Reads the usage of the calling key itself.
    ///
    /// # Errors
    /// An error about the caller, or a store error.
    pub fn own_usage(
        &self,
    ) -> Answer<impl Future<Output = Result<Usage, KeysError>> + Send + use<'a>> {
        let Self { limiter, keys } = *self;
        limiter.observed(Call::new(Operation::Usage), async move { keys.own_usage().await })
    }
}
