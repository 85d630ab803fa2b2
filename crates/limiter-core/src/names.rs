//! Ids and names: texts that are valid once they exist.

mod key_id;

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::error::InvalidValue;

pub use self::key_id::KeyId;

/// Declares a text of 1 to `$max` bytes of UTF-8, whose characters `$checked` checks: [`opaque`] or [`shown`].
macro_rules! bounded_text {
    ($(#[$docs:meta])* $name:ident, $what:literal, $max:literal, $checked:ident) => {
        $(#[$docs])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "SmolStr", into = "SmolStr")]
        pub struct $name(SmolStr);

        impl $name {
            /// The most bytes that it may have.
            pub const MAX_BYTES: usize = $max;

            /// Checks the length in bytes, and the characters of texts that people read.
            ///
            /// # Errors
            /// [`InvalidValue::Length`] if the text is empty or longer than [`Self::MAX_BYTES`];
            /// [`InvalidValue::Character`] if it has a character that the type does not allow.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidValue> {
                let text = text.as_ref();
                check_length($what, text, $max)?;
                $checked($what, text).map(|()| Self(SmolStr::new(text)))
            }

            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<SmolStr> for $name {
            type Error = InvalidValue;

            fn try_from(text: SmolStr) -> Result<Self, InvalidValue> {
                check_length($what, &text, $max)?;
                $checked($what, &text).map(|()| Self(text))
            }
        }

        impl From<$name> for SmolStr {
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
    /// The id of an asset, such as a model or a tool: opaque, 1 to 256 bytes.
    ///
    /// It may have any character. Print it with `{:?}`, which escapes the characters that a terminal acts on.
    AssetId, "an asset id", 256, opaque
}

bounded_text! {
    /// The id of a workspace, the tenant that owns keys: 1 to 128 bytes, without control and bidirectional control
    /// characters.
    WorkspaceId, "a workspace id", 128, shown
}

bounded_text! {
    /// The display name of a key: 1 to 256 bytes, unique among the living keys of its workspace, without control and
    /// bidirectional control characters.
    ///
    /// ```
    /// # use limiter_core as limiter;
    /// use limiter::KeyName;
    ///
    /// assert!(KeyName::new("مفتاح 1").is_ok());
    /// assert!(KeyName::new("ci\u{202e}nimda").is_err(), "it would read as another name");
    /// ```
    KeyName, "a key name", 256, shown
}

bounded_text! {
    /// The name of a plan, unique in its workspace: 1 to 128 bytes, without control and bidirectional control characters.
    PlanName, "the name of a plan", 128, shown
}

bounded_text! {
    /// The id of one call of a key, so that a repetition is not charged twice: 1 to 128 bytes, chosen by the caller.
    RequestId, "a request id", 128, opaque
}

impl KeyName {
    /// In place of a name that stands elsewhere.
    pub(crate) const NONE: Self = Self(SmolStr::new_static("-"));
}

pub(crate) fn check_length(what: &'static str, text: &str, max: usize) -> Result<(), InvalidValue> {
    match text.len() {
        length if (1..=max).contains(&length) => Ok(()),
        length => Err(InvalidValue::Length { what, length, max }),
    }
}

/// Accepts any character, for texts that only programs compare.
const fn opaque(_: &'static str, _: &str) -> Result<(), InvalidValue> {
    Ok(())
}

/// Refuses characters that change how the text around them is shown, for texts that people read in lists, logs and
/// terminals.
pub(crate) fn shown(what: &'static str, text: &str) -> Result<(), InvalidValue> {
    match text.chars().find(|character| character.is_control() || is_bidi_control(*character)) {
        Some(character) => Err(InvalidValue::Character { what, character }),
        None => Ok(()),
    }
}

/// Returns whether the character has the Unicode property `Bidi_Control`.
const fn is_bidi_control(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
        assert!(serde_json::from_value::<KeyName>("é".repeat(129).into()).is_err());
    }

    #[test]
    fn a_text_of_any_script_may_be_a_name() {
        for text in ["🦀 cargo", "👩\u{200d}👩", "مفتاح", "a/b{c}:d", " "] {
            assert_eq!(KeyName::new(text).map(|name| name.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_people_read_has_no_control_characters() {
        let c0_and_c1 = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
        let bidi = ['\u{61c}', '\u{200e}', '\u{200f}'].into_iter();
        let bidi = bidi.chain('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        for character in c0_and_c1.chain(bidi) {
            let text = format!("ci{character}");
            let refused = Err(InvalidValue::Character { what: "a key name", character });
            assert_eq!(KeyName::new(&text), refused);
            assert!(KeyId::new(&text).is_err(), "{text:?}");
            assert!(WorkspaceId::new(&text).is_err(), "{text:?}");
            assert!(serde_json::from_value::<KeyName>(text.as_str().into()).is_err(), "{text:?}");
            assert!(AssetId::new(&text).is_ok() && RequestId::new(&text).is_ok(), "{text:?}");
        }
        let message = KeyName::new("\u{202e}yek").unwrap_err().to_string();
        assert!(message.contains("U+202E") && !message.contains('\u{202e}'), "{message}");
    }
}
