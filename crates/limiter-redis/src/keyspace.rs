//! The names of the keys in Redis, so chosen that no two things of ours can ever meet.
//!
//! All that belongs to one API key has one hash tag, and so one slot of a cluster: the first segment of its id. A key and its
//! groups therefore lie together.

use std::borrow::Cow;
use std::fmt;

use limiter_core::{KeyDigest, KeyId, PlanName, ScopeId, WorkspaceId};

use crate::schema::scope_field;

/// The names of one deployment: all begin with its prefix.
#[derive(Clone, Debug)]
pub(crate) struct Keyspace {
    prefix: String,
}

impl Keyspace {
    /// The prefix has no braces, which would be taken for the hash tag.
    pub(crate) const fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// The counts of an API key.
    pub(crate) fn hot(&self, id: &KeyId) -> Vec<u8> {
        self.of_key("k", id)
    }

    /// Returns the name of the hash with the limits of an API key and its other settings.
    pub(crate) fn cold(&self, id: &KeyId) -> Vec<u8> {
        self.of_key("l", id)
    }

    /// The management record of an API key: name, workspace, secret and version.
    pub(crate) fn record(&self, id: &KeyId) -> Vec<u8> {
        self.of_key("m", id)
    }

    /// The reservations of an API key, by their ids.
    pub(crate) fn reservations(&self, id: &KeyId) -> Vec<u8> {
        self.of_key("r", id)
    }

    /// Its reservations; then the ids of the open ones, of the ended ones, of its checks and of its records, each by the time
    /// until which they are remembered.
    pub(crate) fn ledger(&self, id: &KeyId) -> [Vec<u8>; 5] {
        ["r", "o", "e", "c", "p"].map(|kind| self.of_key(kind, id))
    }

    /// The slots of a scope of an API key that reservations hold. No id has two slashes in a row.
    pub(crate) fn slots(&self, id: &KeyId, scope: &ScopeId) -> Vec<u8> {
        [self.of_key("s", id), b"//".to_vec(), scope_field(scope)].concat()
    }

    /// The days of an API key that have ended.
    pub(crate) fn history(&self, id: &KeyId) -> Vec<u8> {
        self.of_key("h", id)
    }

    /// The ids of what lies directly beneath a group.
    pub(crate) fn beneath(&self, id: &KeyId) -> Vec<u8> {
        self.of_key("b", id)
    }

    /// The id of the API key with this digest.
    pub(crate) fn digest(&self, digest: &KeyDigest) -> Vec<u8> {
        format!("{}:d:{{{}}}", self.prefix, String::from(*digest)).into_bytes()
    }

    /// One of the structures that a workspace is managed by; all of them have one slot.
    pub(crate) fn workspace(&self, kind: WorkspaceKey, workspace: &WorkspaceId) -> Vec<u8> {
        format!("{}:{kind}:{{{}}}", self.prefix, escaped(workspace.as_str())).into_bytes()
    }

    /// A sorted set of the ids of the keys that have a plan, at the slot of the workspace.
    pub(crate) fn holders(&self, workspace: &WorkspaceId, plan: &PlanName) -> Vec<u8> {
        let workspace = escaped(workspace.as_str());
        format!("{}:wh:{{{workspace}}}{plan}", self.prefix).into_bytes()
    }

    /// A key that is never there: no API key has an empty id.
    pub(crate) fn absent(&self) -> Vec<u8> {
        format!("{}:k:{{}}", self.prefix).into_bytes()
    }

    /// The two patterns, in the form of `SCAN`, that match the names of this deployment's keys and of no other keys. Each name
    /// matches one of them.
    pub(crate) fn patterns(&self) -> [String; 2] {
        let prefix = literal(&self.prefix);
        // Both kinds of kinds: those of keys and digests, and those of workspaces. The brace is in no prefix, so that
        // `a:b` is not taken for what belongs to `a`.
        [format!("{prefix}:?:{{*"), format!("{prefix}:w?:{{*")]
    }

    /// The hash tag of all names of an API key: it decides the slot.
    pub(crate) fn tag(id: &KeyId) -> Cow<'_, str> {
        escaped(id.root())
    }

    fn of_key(&self, kind: &str, id: &KeyId) -> Vec<u8> {
        let (tag, rest) = id.as_str().split_at(id.root().len());
        [&self.prefix, ":", kind, ":{", &escaped(tag), "}", rest].concat().into_bytes()
    }
}

/// The name of a key as people may see it: without the digest of an access key.
pub(crate) fn shown(key: &[u8]) -> String {
    let name = String::from_utf8_lossy(key);
    match name.split_once(DIGEST) {
        Some((prefix, digest)) if digest.len() == DIGEST_LENGTH => format!("{prefix}{DIGEST}…}}"),
        _ => name.into_owned(),
    }
}

/// The pattern, in the form of `ACL SETUSER`, that matches the names of all keys under the prefix of this one.
pub(crate) fn pattern_of(key: &[u8]) -> String {
    let name = String::from_utf8_lossy(key);
    let before_tag = name.split('{').next().unwrap_or_default();
    // The prefix may have colons of its own; the kind of the key stands between the last two.
    let prefix = before_tag.strip_suffix(':').and_then(|named| named.rsplit_once(':'));
    prefix.map_or_else(|| "*".to_owned(), |(prefix, _)| format!("{}:*", literal(prefix)))
}

/// A pattern that the text alone matches.
fn literal(text: &str) -> String {
    let mut pattern = String::new();
    for letter in text.chars() {
        if "*?[]\\^-".contains(letter) {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}

/// The structures of a workspace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WorkspaceKey {
    /// A sorted set of the names of its keys.
    Names,
    /// A hash from each unique value to the id of its key, and back: `n` + name and `m` + mask of an access key that the engine drew to the id,
    /// `i` + id to the name, `s` + id to the masked access key. So all entries of a key can be dropped by its id
    /// alone.
    Taken,
    /// A set of the ids of its permanent admin keys.
    Admins,
    /// The client that is changing keys of the workspace, and its change.
    Change,
    /// A hash of its plans, by their names.
    Plans,
}

impl fmt::Display for WorkspaceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Names => "wn",
            Self::Taken => "wt",
            Self::Admins => "wa",
            Self::Change => "wc",
            Self::Plans => "wp",
        })
    }
}

/// The text without the brace that would end a hash tag early; different texts stay different.
fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['%', '}']) {
        Cow::Owned(text.replace('%', "%25").replace('}', "%7D"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Before the digest in the name of a pointer.
const DIGEST: &str = ":d:{";
/// 32 bytes in hexadecimal digits, and a brace.
const DIGEST_LENGTH: usize = 65;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_digest_is_shown() {
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(shown(format!("limiter:d:{{{digest}}}").as_bytes()), "limiter:d:{…}");
        assert_eq!(shown(b"limiter:k:{a:d:{b}"), "limiter:k:{a:d:{b}");
    }

    #[test]
    fn a_pattern_is_that_of_the_prefix() {
        assert_eq!(pattern_of(b"limiter:k:{acme}/ci"), "limiter:*");
        assert_eq!(pattern_of(b"a:b*:wn:{acme:x:{y}"), "a:b\\*:*");
        assert_eq!(pattern_of(&Keyspace::new("gateway".into()).absent()), "gateway:*");
        assert_eq!(pattern_of(b"no key of ours"), "*");
    }

    fn state(id: &str) -> String {
        String::from_utf8(Keyspace::new("limiter".into()).hot(&id.parse().unwrap())).unwrap()
    }

    #[test]
    fn the_hash_tag_is_the_first_segment() {
        assert_eq!(state("acme/ci/1"), "limiter:k:{acme}/ci/1");
        assert_eq!(state("acme"), "limiter:k:{acme}");
        for id in ["acme/ci/1", "a}/b", "a"] {
            let tag = Keyspace::tag(&id.parse().unwrap()).into_owned();
            assert!(state(id).starts_with(&format!("limiter:k:{{{tag}}}")), "{id}: {tag}");
        }
    }

    #[test]
    fn odd_ids_have_names_of_their_own() {
        let ids = ["a", "a/b", "a}", "a%7D", "a}/b", "{a", "a%", "a%25", "}", "%7D", "}/}"];
        let names: std::collections::BTreeSet<_> = ids.into_iter().map(state).collect();
        assert_eq!(names.len(), ids.len(), "{names:?}");
    }
}
