//! The id of a key: a path of segments, whose beginnings name the groups of the key.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{check_length, shown};
use crate::error::InvalidValue;

/// The id of an API key or of a group: a path of one to four segments, as in `acme/search/ci`.
///
/// Each segment has 1 to 64 bytes, without control and bidirectional control characters. What stands before the last slash is
/// the id of the group that the key belongs to, and so on: `acme/search`, and `acme`.
///
/// An id is made by the engine or chosen by the caller. It is not a secret. A caller that chooses ids must never use one for a
/// second key.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::KeyId;
///
/// let key: KeyId = "acme/search/ci".parse()?;
/// let groups: Vec<_> = key.groups().map(|group| group.to_string()).collect();
/// assert_eq!(groups, ["acme", "acme/search"]);
/// assert_eq!(key.group().map(|group| group.depth()), Some(2));
/// assert!(KeyId::new("acme//ci").is_err(), "an empty segment");
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct KeyId {
    text: SmolStr,
    /// The length of the first of several segments, which decides where a key is kept; 0 if there is one.
    root: u8,
}

impl KeyId {
    /// The most segments.
    pub const MAX_SEGMENTS: usize = 4;

    /// The most bytes of a segment.
    pub const MAX_SEGMENT_BYTES: usize = 64;

    /// The most bytes of an id, with its slashes.
    pub const MAX_BYTES: usize = Self::MAX_SEGMENTS * (Self::MAX_SEGMENT_BYTES + 1) - 1;

    /// Checks the segments.
    ///
    /// # Errors
    /// [`InvalidValue::Length`] if a segment is empty or longer than [`Self::MAX_SEGMENT_BYTES`];
    /// [`InvalidValue::TooManySegments`] above [`Self::MAX_SEGMENTS`]; [`InvalidValue::Character`] for a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidValue> {
        let text = text.as_ref();
        let root = checked(text)?;
        Ok(Self { text: SmolStr::new(text), root })
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the first segment. All ids with the same one are kept together.
    #[must_use]
    #[inline]
    pub fn root(&self) -> &str {
        match self.root {
            0 => &self.text,
            root => self.text.get(..usize::from(root)).unwrap_or(&self.text),
        }
    }

    /// Returns whether it has one segment, and so no group.
    #[must_use]
    #[inline]
    pub const fn is_root(&self) -> bool {
        self.root == 0
    }

    /// Returns the segments, the outermost first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text.split('/')
    }

    /// Returns the number of segments: 1 to [`Self::MAX_SEGMENTS`].
    #[must_use]
    pub fn depth(&self) -> usize {
        self.segments().count()
    }

    /// Returns the id of the group that it belongs to, if it has more than one segment.
    #[must_use]
    pub fn group(&self) -> Option<Self> {
        let (group, _) = self.text.rsplit_once('/')?;
        Some(self.beginning(group))
    }

    /// Returns the ids of its groups, the outermost first.
    pub fn groups(&self) -> impl Iterator<Item = Self> {
        let ends = self.text.match_indices('/').map(|(end, _)| end);
        ends.filter_map(|end| Some(self.beginning(self.text.get(..end)?)))
    }

    fn beginning(&self, text: &str) -> Self {
        let is_root = text.len() == usize::from(self.root);
        Self { text: SmolStr::new(text), root: if is_root { 0 } else { self.root } }
    }

    /// Returns the ids of its groups and its own, the outermost first.
    pub fn levels(&self) -> impl Iterator<Item = Self> {
        self.groups().chain([self.clone()])
    }

    /// Returns the id of this segment beneath it.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`InvalidValue::Slash`]: a caller that chooses a segment must not choose its group.
    pub fn child(&self, segment: impl AsRef<str>) -> Result<Self, InvalidValue> {
        let segment = segment.as_ref();
        check_length(SEGMENT, segment, Self::MAX_SEGMENT_BYTES)?;
        if segment.contains('/') {
            return Err(InvalidValue::Slash);
        }
        Self::new(format!("{self}/{segment}"))
    }

    /// Returns whether it lies beneath a group, directly or not.
    #[must_use]
    pub fn is_beneath(&self, group: &Self) -> bool {
        let rest = self.text.strip_prefix(group.as_str());
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

/// Checks the segments, and returns the length of the first of several.
fn checked(text: &str) -> Result<u8, InvalidValue> {
    for segment in text.split('/') {
        check_length(SEGMENT, segment, KeyId::MAX_SEGMENT_BYTES)?;
    }
    let (count, max) = (text.split('/').count(), KeyId::MAX_SEGMENTS);
    if count > max {
        return Err(InvalidValue::TooManySegments { count, max });
    }
    shown("a key id", text)?;
    let root = text.find('/').unwrap_or(0);
    Ok(u8::try_from(root).unwrap_or(u8::MAX))
}

impl TryFrom<SmolStr> for KeyId {
    type Error = InvalidValue;

    fn try_from(text: SmolStr) -> Result<Self, InvalidValue> {
        let root = checked(&text)?;
        Ok(Self { text, root })
    }
}

impl From<KeyId> for SmolStr {
    fn from(id: KeyId) -> Self {
        id.text
    }
}

impl FromStr for KeyId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::new(text)
    }
}

impl TryFrom<&str> for KeyId {
    type Error = InvalidValue;

    fn try_from(text: &str) -> Result<Self, InvalidValue> {
        Self::new(text)
    }
}

impl AsRef<str> for KeyId {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl Borrow<str> for KeyId {
    fn borrow(&self) -> &str {
        &self.text
    }
}

/// By its text, which says the rest.
impl PartialEq for KeyId {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// As its text, by which a map may be asked for it.
impl Hash for KeyId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

const SEGMENT: &str = "a segment of a key id";

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> KeyId {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_has_one_to_four_segments_of_1_to_64_bytes() {
        let longest = "s".repeat(64);
        for text in ["a", "a/b", "a/b/c/d", " / ", &longest, &format!("{longest}/{longest}")] {
            assert_eq!(KeyId::new(text).map(|id| id.to_string()).as_deref(), Ok(text));
        }
        let refused = |length| Err(InvalidValue::Length { what: SEGMENT, length, max: 64 });
        for text in ["", "/", "/a", "a/", "a//b"] {
            assert_eq!(KeyId::new(text), refused(0), "{text:?}");
        }
        assert_eq!(KeyId::new(format!("a/{}", "é".repeat(33))), refused(66));
        let deep = Err(InvalidValue::TooManySegments { count: 5, max: 4 });
        assert_eq!(KeyId::new("a/b/c/d/e"), deep);
        assert_eq!(serde_json::from_str::<KeyId>(r#""a/b""#).unwrap(), id("a/b"));
        assert!(serde_json::from_str::<KeyId>(r#""a//b""#).is_err());
    }

    #[test]
    fn an_id_names_its_groups() {
        let key = id("acme/search/ci");
        assert_eq!((key.root(), key.depth(), key.is_root()), ("acme", 3, false));
        assert!(key.groups().eq([id("acme"), id("acme/search")]));
        assert!(key.levels().eq([id("acme"), id("acme/search"), id("acme/search/ci")]));
        assert_eq!(key.group(), Some(id("acme/search")));
        let root = id("acme");
        assert_eq!((root.root(), root.depth(), root.is_root()), ("acme", 1, true));
        assert_eq!((root.group(), root.groups().count()), (None, 0));
    }

    #[test]
    fn a_group_has_beneath_it_what_begins_with_its_whole_path() {
        let group = id("acme");
        for (text, is_beneath) in
            [("acme/ci", true), ("acme/search/ci", true), ("acme", false), ("acmes/ci", false)]
        {
            assert_eq!(id(text).is_beneath(&group), is_beneath, "{text}");
        }
        assert_eq!(group.child("ci"), Ok(id("acme/ci")));
        assert!(group.child("").is_err());
        assert_eq!(group.child("partners/ci"), Err(InvalidValue::Slash));
        assert!(id("a/b/c/d").child("e").is_err());
    }
}
