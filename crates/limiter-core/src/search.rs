//! Searches for the keys of a workspace, and their pages.

use serde::{Deserialize, Deserializer, Serialize};

use crate::key::KeyRecord;
use crate::names::{KeyId, KeyName};
use crate::usage::Usage;

/// A search for keys: which keys to list, and how many at a time.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::Search;
///
/// let search = Search::all().name_contains("ci").page_size(20);
/// assert_eq!(search, serde_json::from_str(r#"{"name_contains":"ci","page_size":20}"#)?);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Search {
    #[serde(deserialize_with = "any_case")]
    name_contains: String,
    beneath: Option<KeyId>,
    direct: bool,
    after: Option<KeyName>,
    #[serde(deserialize_with = "bounded")]
    page_size: usize,
    usage: bool,
}

impl Search {
    /// The largest page.
    pub const MAX_PAGE_SIZE: usize = 1_000;

    /// Creates a search for all keys of the workspace, 100 a page.
    #[must_use]
    pub const fn all() -> Self {
        let page_size = DEFAULT_PAGE_SIZE;
        let name_contains = String::new();
        Self { name_contains, beneath: None, direct: false, after: None, page_size, usage: false }
    }

    /// Restricts the search to keys whose name contains this text, in upper or lower case.
    #[must_use]
    pub fn name_contains(self, text: impl AsRef<str>) -> Self {
        Self { name_contains: folded(text.as_ref()), ..self }
    }

    /// Restricts the search to keys and groups beneath a group, directly or not.
    #[must_use]
    pub fn beneath(self, group: KeyId) -> Self {
        Self { beneath: Some(group), ..self }
    }

    /// Restricts the search to keys and groups directly beneath the group; or, without a group, to those in no group.
    #[must_use]
    pub fn direct(self) -> Self {
        Self { direct: true, ..self }
    }

    /// Restricts the search to keys after this name: [`Page::next`] of the page before.
    #[must_use]
    pub fn after(self, name: KeyName) -> Self {
        Self { after: Some(name), ..self }
    }

    /// Sets the most keys of a page; a number out of bounds becomes 1 or [`Self::MAX_PAGE_SIZE`].
    #[must_use]
    pub fn page_size(self, keys: usize) -> Self {
        Self { page_size: keys.clamp(1, Self::MAX_PAGE_SIZE), ..self }
    }

    /// Asks for what each key has used, too: [`Page::usage`].
    #[must_use]
    pub fn with_usage(self) -> Self {
        Self { usage: true, ..self }
    }

    /// Returns whether the search asks for what each key has used.
    #[must_use]
    pub const fn wants_usage(&self) -> bool {
        self.usage
    }

    /// Returns the search for the page that follows the given one, if there is one.
    #[must_use]
    pub fn following(&self, page: &Page) -> Option<Self> {
        page.next.clone().map(|next| self.clone().after(next))
    }

    /// Returns whether the search includes a key of this name and id, on any page.
    #[must_use]
    pub fn matches(&self, name: &KeyName, id: &KeyId) -> bool {
        let group = self.beneath.as_ref();
        let is_beneath = group.is_none_or(|group| id.is_beneath(group));
        let is_too_deep =
            self.direct && id.depth() > group.map_or(0, KeyId::depth).saturating_add(1);
        is_beneath && !is_too_deep && self.matches_name(name)
    }

    fn matches_name(&self, name: &KeyName) -> bool {
        self.name_contains.is_empty() || folded(name.as_str()).contains(&self.name_contains)
    }

    /// Returns the name after which the page starts.
    #[must_use]
    pub const fn start(&self) -> Option<&KeyName> {
        self.after.as_ref()
    }

    /// Returns the most keys of a page.
    #[must_use]
    pub const fn limit(&self) -> usize {
        self.page_size
    }
}

impl Default for Search {
    fn default() -> Self {
        Self::all()
    }
}

/// Some of the keys that were searched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Page {
    /// The keys, by the bytes of their names.
    pub keys: Vec<KeyRecord>,
    /// Where the next page starts: the next search is `after` this name. Null on the last page.
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    pub next: Option<KeyName>,
    /// Keys of this page whose stored data is damaged, by the bytes of their names. They count towards the size of
    /// the page. To delete such a key frees its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedKey>,
    /// What each key has used, in the order of `keys`, if the search asks for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<Usage>,
}

/// A key whose stored data is damaged: it cannot be read, has the id or the name of another key, or a later version wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct DamagedKey {
    /// Its id.
    pub id: KeyId,
    /// Its name, by the index of its workspace.
    pub name: KeyName,
}

impl Page {
    /// Creates a page of these keys.
    #[must_use]
    pub const fn new(keys: Vec<KeyRecord>, next: Option<KeyName>) -> Self {
        Self { keys, next, damaged: Vec::new(), usage: Vec::new() }
    }

    /// Sets the damaged keys of the page.
    #[must_use]
    pub fn with_damaged(self, damaged: Vec<DamagedKey>) -> Self {
        Self { damaged, ..self }
    }

    /// Sets what each key has used, in the order of the keys.
    #[must_use]
    pub fn with_usage(self, usage: Vec<Usage>) -> Self {
        Self { usage, ..self }
    }
}

fn any_case<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| folded(&text))
}

fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    usize::deserialize(deserializer).map(|keys| keys.clamp(1, Search::MAX_PAGE_SIZE))
}

/// Folds upper and lower case, character by character, so that a part of a text folds to a part of the folded text.
/// `str::to_lowercase` does not promise that: a Greek sigma has a form of its own at an end.
fn folded(text: &str) -> String {
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

const DEFAULT_PAGE_SIZE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_any_part_of_it_in_either_case() {
        for (name, text) in
            [("ΟΔΟΣΑ", "ΟΔΟΣ"), ("ΟΔΟΣ", "Σ"), ("οδος", "ΟΔΟΣ"), ("CI runner", "ci R")]
        {
            let name = KeyName::new(name).unwrap();
            assert!(Search::all().name_contains(text).matches_name(&name), "{text:?} in {name:?}");
        }
        assert!(!Search::all().name_contains("cd").matches_name(&KeyName::new("ci").unwrap()));
        let (name, search) =
            (KeyName::new("ci").unwrap(), Search::all().beneath("acme".parse().unwrap()));
        assert!(search.matches(&name, &"acme/search/ci".parse().unwrap()));
        assert!(!search.matches(&name, &"acme".parse().unwrap()));
    }

    #[test]
    fn a_search_goes_down_one_level_only_if_it_is_direct() {
        let (name, id) = (KeyName::new("ci").unwrap(), |id: &str| id.parse::<KeyId>().unwrap());
        let found = |search: &Search| {
            let ids = ["acme", "acme/search", "acme/search/ci", "other"].map(id);
            ids.map(|id| search.matches(&name, &id))
        };
        assert_eq!(found(&Search::all().direct()), [true, false, false, true]);
        assert_eq!(found(&Search::all().beneath(id("acme")).direct()), [false, true, false, false]);
        assert_eq!(found(&Search::all().beneath(id("acme"))), [false, true, true, false]);
    }
}
