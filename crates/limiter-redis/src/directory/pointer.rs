//! From the digest of an access key to the id of its key.
//!
//! A pointer is set before its key exists, so it carries a claim: the token of the change that creates the key, and
//! until when that change may still succeed. Two keys can never have one digest: a client that finds a pointer whose key
//! does not exist replaces it only if its claim has run out, and only if it is still that very pointer.

use std::sync::LazyLock;

use limiter_core::{KeyDigest, KeyId, StoreError};
use redis::Value;

use super::chance::Token;
use super::change::Change;
use super::{changing_nothing, parsed, unexpected_reply};
use crate::error::CommandError;
use crate::keys::Keys;
use crate::script::Script;
use crate::servers::Lane;

/// The scripts on the slots of digests.
#[derive(Clone, Debug)]
pub(super) struct Pointers(Keys);

/// A pointer as the client that set it knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    pub(super) digest: KeyDigest,
    pub(super) claim: Token,
}

/// A pointer as it is found: `claim until id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) claim: Token,
    /// From this server time on, the change that set it cannot succeed any more.
    pub(super) until: u64,
    pub(super) id: KeyId,
    text: String,
}

/// How setting a pointer may end.
#[derive(Debug)]
pub(super) enum Set {
    Pointed,
    TooLate,
    Held(Held, Now),
}

/// The time of the pointer's server, in ms.
pub(super) type Now = u64;

impl Pointers {
    pub(super) const fn new(keys: Keys) -> Self {
        Self(keys)
    }

    pub(super) async fn read(&self, digest: &KeyDigest) -> Result<Option<Held>, StoreError> {
        let text: Option<String> =
            parsed(self.run(&READ, digest, &[]).await.map_err(changing_nothing)?)?;
        text.map(|text| Held::read(text).ok_or_else(unexpected_reply)).transpose()
    }

    /// Points to a key that this change is about to create, if nothing or `replaced` is there.
    pub(super) async fn set(
        &self,
        change: &Change,
        digest: &KeyDigest,
        id: &KeyId,
        replaced: Option<&Held>,
    ) -> Result<Set, CommandError> {
        let set = self.set_all(change, &[(*digest, id, replaced)]).await?.pop();
        Ok(set.unwrap_or(Set::TooLate))
    }

    /// The same of several pointers at once, each by itself. Not on a cluster, where they have slots of their own.
    pub(super) async fn set_all(
        &self,
        change: &Change,
        pointers: &[(KeyDigest, &KeyId, Option<&Held>)],
    ) -> Result<Vec<Set>, CommandError> {
        let keys: Vec<_> =
            pointers.iter().map(|(digest, ..)| self.0.keyspace.digest(digest)).collect();
        let mut arguments = vec![change.not_after.to_string().into_bytes()];
        for (_, id, replaced) in pointers {
            arguments.push(format!("{} {} {id}", change.token, change.lease_ends).into_bytes());
            arguments.push(replaced.map_or("", |held| &held.text).into());
        }
        let reply = self.0.servers.run(&SET, &keys, &arguments, Lane::Apart).await?;
        // An answer that cannot be read means that the pointers are not ours.
        let set = Set::read(reply, pointers.len());
        Ok(set.unwrap_or_else(|| pointers.iter().map(|_| Set::TooLate).collect()))
    }

    /// Whether [`set_all`](Self::set_all) can take more than one pointer.
    pub(super) fn have_one_server(&self) -> bool {
        !self.0.servers.is_cluster()
    }

    /// Removes this very pointer, if it is still there.
    pub(super) async fn remove(&self, pointer: &Pointer) -> Result<(), CommandError> {
        let claim = format!("{} ", pointer.claim).into_bytes();
        self.run(&REMOVE, &pointer.digest, &[claim]).await.map(drop)
    }

    async fn run(
        &self,
        script: &Script,
        digest: &KeyDigest,
        arguments: &[Vec<u8>],
    ) -> Result<Value, CommandError> {
        let keys = [self.0.keyspace.digest(digest)];
        self.0.servers.run(script, &keys, arguments, Lane::Apart).await
    }
}

impl Held {
    fn read(text: String) -> Option<Self> {
        let mut words = text.splitn(3, ' ');
        let claim = Token(words.next()?.to_owned());
        let until = words.next()?.parse().ok()?;
        let id = words.next()?.parse().ok()?;
        Some(Self { claim, until, id, text })
    }
}

impl Set {
    fn read(reply: Value, pointers: usize) -> Option<Vec<Self>> {
        let mut words = parsed::<Vec<String>>(reply).ok()?.into_iter();
        let now = words.next()?.parse().ok()?;
        let sets = words.map(|held| match held.as_str() {
            "" => Some(Self::Pointed),
            _ => Some(Self::Held(Held::read(held)?, now)),
        });
        sets.collect::<Option<Vec<_>>>().filter(|sets| sets.len() == pointers)
    }
}

static READ: LazyLock<Script> =
    LazyLock::new(|| script("pointer_read", include_str!("../lua/pointer_read.lua")));
static SET: LazyLock<Script> =
    LazyLock::new(|| script("pointer_set", include_str!("../lua/pointer_set.lua")));
static REMOVE: LazyLock<Script> =
    LazyLock::new(|| script("pointer_remove", include_str!("../lua/pointer_remove.lua")));

fn script(name: &'static str, text: &str) -> Script {
    Script::new(name, text.to_owned())
}
