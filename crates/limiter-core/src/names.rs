//! Ids and names: texts that are valid once they exist.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;

/// Declares a text of 1 to `$max` bytes of UTF-8.
macro_rules! bounded_text {
    ($(#[$docs:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$docs])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "CompactString", into = "CompactString")]
        pub struct $name(CompactString);

        impl $name {
            /// The most bytes that it may have.
            pub const MAX_BYTES: usize = $max;

            /// Checks the length, in bytes.
            ///
            /// # Errors
            /// [`InvalidValue::Length`] if the text is empty or longer than [`Self::MAX_BYTES`].
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidValue> {
                let text = text.as_ref();
                check_length($what, text, $max).map(|()| Self(CompactString::new(text)))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<CompactString> for $name {
            type Error = InvalidValue;

            fn try_from(text: CompactString) -> Result<Self, InvalidValue> {
                check_length($what, &text, $max).map(|()| Self(text))
            }
        }

        impl From<$name> for CompactString {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidValue;

            fn try_from(text: &str) -> Result<Self, InvalidValue> {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

bounded_text! {
    /// Names an API key: 1 to 128 bytes, made by the engine or chosen by the caller.
    ///
    /// An id is not a secret and is never used for a second key: who chooses ids keeps to that.
    ///
    /// ```
    /// use limiter_core::KeyId;
    ///
    /// let key: KeyId = "team-a/ci".parse()?;
    /// assert!(KeyId::new("").is_err());
    /// # Ok::<(), limiter_core::InvalidValue>(())
    /// ```
    KeyId, "a key id", 128
}

bounded_text! {
    /// Names what is called, a model or tool: an opaque id of 1 to 256 bytes.
    AssetId, "an asset id", 256
}

bounded_text! {
    /// Names a workspace, the tenant that keys belong to: 1 to 128 bytes.
    WorkspaceId, "a workspace id", 128
}

bounded_text! {
    /// What people call a key: 1 to 256 bytes, unique among the living keys of its workspace.
    KeyName, "a key name", 256
}

bounded_text! {
    /// Names one call, so that repeating it does not charge it twice: 1 to 128 bytes, chosen by the caller, of one
    /// key.
    RequestId, "a request id", 128
}

fn check_length(what: &'static str, text: &str, max: usize) -> Result<(), InvalidValue> {
    match text.len() {
        length if (1..=max).contains(&length) => Ok(()),
        length => Err(InvalidValue::Length { what, length, max }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_counted_in_bytes() {
        assert!(KeyName::new("é".repeat(128)).is_ok());
        assert_eq!(
            KeyName::new("é".repeat(129)),
            Err(InvalidValue::Length { what: "a key name", length: 258, max: 256 })
        );
    }

    #[test]
    fn any_text_may_be_a_name() {
        for text in ["\u{0}\n\t", "🦀 cargo", "مفتاح", "a/b{c}:d"] {
            assert_eq!(KeyName::new(text).map(|name| name.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn an_overlong_id_does_not_come_in_by_serde() {
        let json = format!("{:?}", "x".repeat(129));
        assert!(serde_json::from_str::<KeyId>(&json).is_err());
    }
}
