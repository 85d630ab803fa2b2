//! A key to be created, and a new access key for one that exists.

use std::time::Duration;

use crate::access_key::{AccessKey, Entropy, KeyPrefix};
use crate::config::{KeyConfig, KeyKind};
use crate::error::KeysError;
use crate::key::StoredSecret;
use crate::names::KeyId;

/// A key or a group to be created.
#[derive(Clone, Debug)]
#[must_use = "a key is created by Keys::create or by bootstrapping a workspace"]
pub struct NewKey {
    pub(crate) kind: KeyKind,
    pub(crate) config: KeyConfig,
    pub(crate) id: NewId,
    pub(crate) access: NewAccess,
    pub(crate) prefix: Option<KeyPrefix>,
}

#[derive(Clone, Debug)]
pub(crate) enum NewId {
    Drawn,
    /// Its last segment is drawn.
    DrawnBeneath(KeyId),
    Chosen(KeyId),
}

#[derive(Clone, Debug)]
pub(crate) enum NewAccess {
    Generated,
    Brought(AccessKey),
    None,
}

impl NewKey {
    /// Creates a key that makes calls. By default the engine draws its id and its access key.
    pub const fn member(config: KeyConfig) -> Self {
        let (id, access) = (NewId::Drawn, NewAccess::Generated);
        Self { kind: KeyKind::Member, config, id, access, prefix: None }
    }

    /// Creates a key that manages the keys of its workspace. It belongs to no group.
    pub fn admin(config: KeyConfig) -> Self {
        Self { kind: KeyKind::Admin, ..Self::member(config) }
    }

    /// Creates a group of this id, whose limits are shared by the keys beneath it. It has no access key.
    ///
    /// ```
    /// # use limiter_core as limiter;
    /// use limiter::{KeyConfig, Limits, NewKey};
    ///
    /// let limits = Limits::builder().requests_per_minute(1_000).build()?;
    /// let acme = NewKey::group("acme".parse()?, KeyConfig::named("Acme")?.with_global(limits));
    /// let key = NewKey::member(KeyConfig::named("ci")?).beneath("acme".parse()?);
    /// # let _ = (acme, key);
    /// # Ok::<(), limiter::InvalidValue>(())
    /// ```
    pub fn group(id: KeyId, config: KeyConfig) -> Self {
        let (id, access) = (NewId::Chosen(id), NewAccess::None);
        Self { kind: KeyKind::Group, config, id, access, prefix: None }
    }

    /// Sets an id of the caller's choice. The caller must never reuse an id, even after the key is deleted.
    pub fn with_id(mut self, id: KeyId) -> Self {
        self.id = NewId::Chosen(id);
        self
    }

    /// Puts it beneath a group: the engine draws the last segment of its id.
    pub fn beneath(mut self, group: KeyId) -> Self {
        self.id = NewId::DrawnBeneath(group);
        self
    }

    /// Sets an access key that the caller brings.
    pub fn with_access_key(mut self, access_key: AccessKey) -> Self {
        self.access = NewAccess::Brought(access_key);
        self
    }

    /// Omits the access key, for services that authenticate their callers themselves.
    pub fn without_access_key(mut self) -> Self {
        self.access = NewAccess::None;
        self
    }

    /// Sets the visible prefix of its access key: one that the engine draws starts with it, and one that the caller brings
    /// must.
    pub fn with_prefix(mut self, prefix: KeyPrefix) -> Self {
        self.prefix = Some(prefix);
        self
    }
}

/// How the access key of a key is replaced. By default the engine draws the new one, with the prefix of the old one.
///
/// ```
/// # use limiter_core as limiter;
/// use std::time::Duration;
///
/// use limiter::Rotation;
///
/// let leaked = Rotation::at_once();
/// let planned = Rotation::with_grace(Duration::from_secs(24 * 60 * 60));
/// # let _ = (leaked, planned);
/// ```
#[derive(Clone, Debug)]
#[must_use = "Keys::rotate replaces the access key"]
pub struct Rotation {
    pub(crate) grace: Duration,
    pub(crate) access: NewAccess,
    pub(crate) prefix: Option<KeyPrefix>,
}

impl Rotation {
    /// The longest time for which an old access key may work on: 7 days.
    pub const MAX_GRACE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// All access keys that the key had are refused from now on: for one that has leaked.
    pub const fn at_once() -> Self {
        Self::with_grace(Duration::ZERO)
    }

    /// The old access key works on for this long, at most [`MAX_GRACE`](Self::MAX_GRACE), so that callers can change to the
    /// new one. Those that were replaced before keep the rest of their own time, up to four in all.
    pub const fn with_grace(grace: Duration) -> Self {
        Self { grace, access: NewAccess::Generated, prefix: None }
    }

    /// Sets a new access key that the caller brings.
    pub fn with_access_key(self, access_key: AccessKey) -> Self {
        Self { access: NewAccess::Brought(access_key), ..self }
    }

    /// Sets another prefix.
    pub fn with_prefix(self, prefix: KeyPrefix) -> Self {
        Self { prefix: Some(prefix), ..self }
    }
}

impl NewAccess {
    /// Returns the access key, drawn if the caller brought none, and what of it is stored.
    pub(crate) fn draw(
        &self,
        entropy: &Entropy,
        prefix: Option<KeyPrefix>,
    ) -> Result<Option<(AccessKey, StoredSecret)>, KeysError> {
        Ok(match (self, prefix) {
            (Self::None, _) => None,
            (Self::Generated, prefix) => {
                let drawn = AccessKey::generate(entropy, prefix).map_err(KeysError::Entropy)?;
                let secret = StoredSecret::drawn(&drawn);
                Some((drawn, secret))
            }
            (Self::Brought(brought), prefix) => {
                let brought = match prefix {
                    Some(prefix) => brought.clone().with_prefix(prefix)?,
                    None => brought.clone(),
                };
                let secret = StoredSecret::from(&brought);
                Some((brought, secret))
            }
        })
    }
}
