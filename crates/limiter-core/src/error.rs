//! Errors: a value out of bounds, a store that cannot answer, a refused operation on keys.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use thiserror::Error;

use crate::access_key::KeyPrefix;
use crate::clock::Timestamp;
use crate::limits::Within;
use crate::names::{KeyId, PlanName};
use crate::reservation::ReservationError;
use crate::window::Window;

/// A value that is malformed or out of bounds. It is refused on input, and nothing changes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidValue {
    /// A count, limit or sum above 2^53 − 1.
    #[error("{what} is {value}, but at most 9007199254740991 (2^53 - 1) can be counted exactly")]
    TooLarge {
        /// The purpose of the number.
        what: &'static str,
        /// The number, or the sum.
        value: u128,
    },
    /// An id or a name that is empty or too long.
    #[error("{what} has {length} bytes, but must have 1 to {max}")]
    Length {
        /// The purpose of the text.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The most bytes it may have.
        max: usize,
    },
    /// A key id with more segments than a path may have.
    #[error(
        "a key id has {count} segments, but may have at most {max}: one for each group, and one for the key"
    )]
    TooManySegments {
        /// The number of segments.
        count: usize,
        /// The most there may be.
        max: usize,
    },
    /// A segment that is two.
    #[error("a segment of a key id has a '/', which begins another segment: leave it out")]
    Slash,
    /// An admin key beneath a group.
    #[error(
        "the id of an admin key has one segment, but this one has {segments}: an admin key belongs to no group"
    )]
    AdminInGroup {
        /// The number of segments.
        segments: usize,
    },
    /// An access key for a group.
    #[error(
        "a group makes no calls, so it has no access key: leave it out, or create a key beneath the group"
    )]
    GroupAccessKey,
    /// An id or a name with a character that changes how the text around it is shown.
    #[error(
        "{what} has the character U+{:04X}, a control character that changes how text is shown: leave it out",
        u32::from(*.character)
    )]
    Character {
        /// The kind of value, such as "a key name".
        what: &'static str,
        /// The first such character.
        character: char,
    },
    /// An instant before 1970 or after 9999.
    #[error("{what} is {instant}, but must lie in the years 1970 to 9999")]
    Instant {
        /// The kind of value, such as an expiry.
        what: &'static str,
        /// The instant.
        instant: Timestamp,
    },
    /// An access key that its caller brought is too short, too long, or not made of visible ASCII.
    #[error(
        "an access key must have {min} to {max} visible ASCII characters without spaces, \
         so that it is hard to guess and fits into an HTTP header"
    )]
    AccessKey {
        /// The fewest characters.
        min: usize,
        /// The most characters.
        max: usize,
    },
    /// A prefix of access keys that is empty, too long, or has a character that may not be visible.
    #[error(
        "a prefix of access keys must have 1 to {max} ASCII letters, digits, - and _, such as sk-acme-"
    )]
    KeyPrefix {
        /// The most characters.
        max: usize,
    },
    /// An access key that does not start with the prefix that was named.
    #[error(
        "an access key with the prefix {prefix} must start with it and have at least {min} other characters after it"
    )]
    AccessKeyPrefix {
        /// The prefix.
        prefix: KeyPrefix,
        /// The fewest characters after it.
        min: usize,
    },
    /// A grace time that is longer than an old access key may work on.
    #[error("an old access key may work on for at most {} days, but {} s were asked for", max.as_secs() / 86_400, grace.as_secs())]
    TooLongGrace {
        /// The time that was asked for.
        grace: Duration,
        /// The longest time.
        max: Duration,
    },
    /// More labels than one key may have.
    #[error("{count} labels are given, but a key may have at most {max}")]
    TooManyLabels {
        /// The number of labels.
        count: usize,
        /// The most there may be.
        max: usize,
    },
    /// A value of a label that is too long.
    #[error("the value of the label {name:?} has {length} bytes, but may have at most {max}")]
    LabelValue {
        /// The name of the label.
        name: String,
        /// The length of its value in bytes.
        length: usize,
        /// The most bytes it may have.
        max: usize,
    },
    /// More assets with limits than one key may have.
    #[error(
        "{count} assets have limits, but a key may have limits for at most {max} assets at a time"
    )]
    TooManyAssets {
        /// The number of assets that would have limits.
        count: usize,
        /// The most there may be.
        max: usize,
    },
    /// More limits than one scope may have.
    #[error("{count} limits are given, but a scope may have at most {max}")]
    TooManyLimits {
        /// The number of limits.
        count: usize,
        /// The most there may be.
        max: usize,
    },
    /// More keys than can be created in one call.
    #[error("{count} keys cannot be created at once: create at most {max} in one call")]
    TooManyKeys {
        /// The number of keys.
        count: usize,
        /// The most there may be.
        max: usize,
    },
    /// One plan more than a workspace may have.
    #[error("a workspace may have at most {max} plans: delete one that no key has")]
    TooManyPlans {
        /// The most there may be.
        max: usize,
    },
    /// A key that is to be open.
    #[error(
        "a key cannot be open to unregistered keys, only a group can: leave `open` out, or create a group"
    )]
    OpenKey,
    /// An open group in shadow mode.
    #[error(
        "a group in shadow mode cannot be open: nothing would bound the keys that callers make up beneath it; \
         close it first, or leave shadow mode"
    )]
    OpenInShadow,
    /// An open group that does not limit its requests all the time.
    #[error(
        "an open group must limit its own requests per minute, hour or day, now and after the change: nothing else bounds the \
         keys that callers make up beneath it; keep such a limit until another is in force, or close the group first"
    )]
    OpenUnlimited,
    /// A plan of unregistered keys with limits of a long window.
    #[error(
        "the plan {plan:?} of unregistered keys has a limit {}: it may have limits per minute, hour and day alone",
        Within(*.window)
    )]
    OpenPlan {
        /// The plan.
        plan: PlanName,
        /// The window.
        window: Window,
    },
    /// A word that is not one of the accepted ones.
    #[error("{text:?} is not a {what}: expected {expected}")]
    UnknownWord {
        /// The purpose of the word.
        what: &'static str,
        /// The word, its first 64 characters.
        text: String,
        /// The accepted words.
        expected: &'static str,
    },
    /// Text that is not a decimal number of credits with at most six digits after the point.
    #[error(
        "{text:?} is not an amount of credits: expected a number such as 5 or 0.000125, at most six decimals"
    )]
    Credits {
        /// The text, its first 64 characters.
        text: String,
    },
    /// A threshold that is not from 1 to 100 percent.
    #[error("{percent} % is not a threshold: expected 1 to 100 % of a limit")]
    Threshold {
        /// The percents given.
        percent: u8,
    },
    /// More thresholds than one key may have.
    #[error("{count} thresholds are given, but a key may have at most {max}")]
    TooManyThresholds {
        /// The number of different thresholds.
        count: usize,
        /// The most there may be.
        max: usize,
    },
    /// Saved state that contradicts itself.
    #[error("the saved state of a key is inconsistent: {what}")]
    Inconsistent {
        /// The contradiction.
        what: &'static str,
    },
}

/// So that a value that is valid already may stand where one is read.
impl From<Infallible> for InvalidValue {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl InvalidValue {
    pub(crate) fn unknown_word(what: &'static str, text: &str, expected: &'static str) -> Self {
        Self::UnknownWord { what, text: shortened(text), expected }
    }

    pub(crate) fn credits(text: &str) -> Self {
        Self::Credits { text: shortened(text) }
    }
}

/// The store could not answer. An error never allows a call: the caller chooses what to do next.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached or does not work; nothing was charged or changed.
    #[error("the store is unavailable; nothing was charged")]
    Unavailable(#[source] BoxError),
    /// The store did not answer in time, or the connection broke before the answer: a charge or a change may
    /// stand.
    #[error(
        "the store's answer was lost: the operation may have taken effect; check the usage or the key before repeating it"
    )]
    OutcomeUnknown(#[source] BoxError),
    /// Stored data is corrupt, or a newer version or another program wrote it. The call is not allowed.
    #[error("stored data is corrupt")]
    Corrupt(#[source] BoxError),
}

impl KeysError {
    /// Adds the key to an error about corrupt data, whose own message does not name it.
    pub(crate) fn of_key(id: &KeyId, error: impl Into<Self>) -> Self {
        match error.into() {
            Self::Store(StoreError::Corrupt(source)) => Self::Damaged { id: id.clone(), source },
            error => error,
        }
    }
}

impl StoreError {
    /// Creates an [`Unavailable`](Self::Unavailable) error with this cause.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::Unavailable(source.into())
    }

    /// Creates the error for a part of a larger operation that was not tried, since the store had failed at an earlier
    /// part.
    #[must_use]
    pub fn not_tried() -> Self {
        Self::unavailable(
            "not attempted, because the store had just failed: retry when the store answers",
        )
    }

    /// Creates the error for a part of a larger operation that has no answer of its own.
    pub(crate) fn not_answered() -> Self {
        Self::outcome_unknown("the store did not answer for every part of the operation")
    }

    /// Returns the errors of this many parts of an operation that failed as a whole. The first one is this error.
    pub fn spread(self, parts: usize) -> impl Iterator<Item = Self> {
        let unknown = matches!(self, Self::OutcomeUnknown(_));
        let others = move || if unknown { Self::not_answered() } else { Self::not_tried() };
        std::iter::once(self).chain(std::iter::repeat_with(others)).take(parts)
    }

    /// Creates an [`OutcomeUnknown`](Self::OutcomeUnknown) error with this cause.
    pub fn outcome_unknown(source: impl Into<BoxError>) -> Self {
        Self::OutcomeUnknown(source.into())
    }
}

/// The reason why an operation on keys was refused. Nothing was changed, unless the error is
/// [`StoreError::OutcomeUnknown`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The caller's access key belongs to no living key.
    #[error("unknown access key of the caller: it never existed or was deleted")]
    UnknownCaller,
    /// The caller's key has expired.
    #[error("the caller's key has expired: an admin of its workspace can set a later expiry")]
    ExpiredCaller,
    /// The caller is a member key; only admin keys manage keys.
    #[error("forbidden: a member key may only read its own usage; an admin key manages keys")]
    Forbidden,
    /// The owner of a workspace asked for usage of its own.
    #[error(
        "the owner of a workspace makes no calls and has no usage: ask for that of one of its keys"
    )]
    OwnerIsNoKey,
    /// No such key in the caller's workspace.
    #[error("no key {0:?} in this workspace")]
    NotFound(String),
    /// Another living key of the workspace has this name.
    #[error(
        "another key of this workspace is named {0:?}: choose another name, or delete that key first"
    )]
    NameTaken(String),
    /// The store holds data of this key that cannot be read. Other keys are unaffected.
    #[error(
        "the key {id:?} cannot be read: its stored data is damaged, or a later version wrote it; \
         delete the key to free its name, restore its data, or upgrade"
    )]
    Damaged {
        /// The id of the key.
        id: KeyId,
        /// The store's own error.
        #[source]
        source: BoxError,
    },
    /// A living key has this id already.
    #[error("the key id {0:?} is in use: choose another one")]
    IdTaken(String),
    /// There is no such group in the workspace, beneath which a key was to be created.
    #[error("no group {0:?} in this workspace: create it first")]
    NoGroup(KeyId),
    /// The workspace has no plan of this name.
    #[error("no plan {0:?} in this workspace: create it first")]
    NoPlan(PlanName),
    /// Keys or groups have a plan that was to be deleted.
    #[error("keys or groups have the plan {0:?}: give them another plan, or none, first")]
    PlanInUse(PlanName),
    /// Keys or groups lie beneath a group that was to be deleted.
    #[error("keys or groups lie beneath group {0:?}: delete them first")]
    NotEmpty(KeyId),
    /// The access key, or its first and last four characters, are those of another key of the workspace.
    #[error(
        "the access key is taken: another key has the same first and last four characters; bring another access key"
    )]
    AccessKeyTaken,
    /// The workspace has its first admin key already.
    #[error("the workspace has keys already: use an admin key of it to create more")]
    AlreadyBootstrapped,
    /// The first key of a workspace must keep it manageable for ever.
    #[error("the first key of a workspace must be an admin key without an expiry")]
    FirstMustBeAdmin,
    /// The workspace would be left without an admin key that never expires.
    #[error("this is the workspace's last admin key: it cannot be deleted or given an expiry")]
    LastAdmin,
    /// The key or the plan was changed since it was read.
    #[error(
        "it was changed meanwhile: the update was made from version {expected}, \
         and it is at version {actual}; read it again and repeat the change"
    )]
    Conflict {
        /// The version that the update was made from.
        expected: u64,
        /// The version that it is at.
        actual: u64,
    },
    /// A value out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// The operating system gave no random bytes for a new access key.
    #[error("the operating system returned no random bytes for a new access key")]
    Entropy(#[source] BoxError),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The error of an operation on a store, which may be the store's own.
pub trait CallError: Error + From<StoreError> + Send {
    /// Returns the store's own error, if it is one.
    fn of_store(&self) -> Option<&StoreError>;

    /// Returns whether the store gave no answer. Corrupt data is an answer.
    fn is_outage(&self) -> bool {
        matches!(self.of_store(), Some(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)))
    }
}

impl CallError for StoreError {
    fn of_store(&self) -> Option<&StoreError> {
        Some(self)
    }
}

impl CallError for ReservationError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl CallError for KeysError {
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }
}

/// A cause of any type.
pub type BoxError = Box<dyn Error + Send + Sync>;

fn shortened(text: &str) -> String {
    text.chars().take(SHOWN_CHARACTERS).collect()
}

/// Enough to recognise a mistyped word; a message must not carry a megabyte of input.
const SHOWN_CHARACTERS: usize = 64;

/// Formats an error with all its causes, in one line.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
