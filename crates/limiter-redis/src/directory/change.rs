//! The changes of a workspace's keys, one at a time, and the index that they keep.

use std::sync::LazyLock;
use std::time::Duration;

use limiter_core::keys::is_permanent_admin;
use limiter_core::{KeyId, KeyName, KeyRecord, KeysError, MaskedKey, StoreError, WorkspaceId};
use redis::Value;

use super::chance::Token;
use super::pointer::Pointer;
use super::{changing_nothing, parsed, unexpected_reply};
use crate::error::CallError;
use crate::keyspace::{Keyspace, WorkspaceKey};
use crate::script::{Call, Script};
use crate::servers::{Lane, Servers};

/// The scripts on the slots of workspaces.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    servers: Servers,
    keyspace: Keyspace,
    lease_ms: u64,
}

/// A change that this client has begun or taken over.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) workspace: WorkspaceId,
    pub(super) token: Token,
    /// The last server time at which steps on other slots may run.
    pub(super) not_after: u64,
    /// From when on others may take the change over.
    pub(super) lease_ends: u64,
}

/// What is going to be changed, and what the index must allow.
#[derive(Clone, Debug)]
pub(super) struct Intent<'a> {
    pub(super) id: &'a KeyId,
    /// What must go if it turns out that the key does not exist.
    pub(super) pointer: Option<Pointer>,
    /// The key must be the first of its workspace.
    pub(super) bootstraps: bool,
    /// A key with this id exists already: known before, refused after `bootstraps`.
    pub(super) id_taken: bool,
    /// No other key may have this name.
    pub(super) name: Option<&'a KeyName>,
    /// No other key may have this mask.
    pub(super) masked: Option<MaskedKey>,
    /// The key may not be the last permanent admin.
    pub(super) ceases_as_admin: bool,
}

impl<'a> Intent<'a> {
    /// To change this key in a way that the index always allows.
    pub(super) const fn of(id: &'a KeyId) -> Self {
        Self {
            id,
            pointer: None,
            bootstraps: false,
            id_taken: false,
            name: None,
            masked: None,
            ceases_as_admin: false,
        }
    }
}

/// How a change may begin.
#[derive(Debug)]
pub(super) enum Begin {
    Begun(Change),
    /// Another client is changing a key of this workspace.
    Busy,
    /// Another client has stopped halfway. Its change is ours now, and must be finished first.
    Crashed(Change, Journal),
    Refused(Refusal),
}

/// What a client that stopped was about to change.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    pub(super) id: KeyId,
    pub(super) pointer: Option<Pointer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Bootstrapped,
    IdTaken,
    NameTaken,
    MaskTaken,
    LastAdmin,
}

/// What the index says of a key that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: KeyName,
    pub(super) masked: Option<MaskedKey>,
    pub(super) permanent_admin: bool,
}

impl Changes {
    pub(super) fn new(servers: Servers, keyspace: Keyspace, lease: Duration) -> Self {
        let lease_ms =
            u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).clamp(2, LONGEST_LEASE_MS);
        Self { servers, keyspace, lease_ms }
    }

    /// Begins a change, unless another one is under way or the index forbids it.
    pub(super) async fn begin(
        &self,
        workspace: &WorkspaceId,
        token: &Token,
        intent: &Intent<'_>,
    ) -> Result<Begin, StoreError> {
        let (digest, claim) = Pointer::texts(intent.pointer.as_ref());
        let arguments = [
            token.to_string(),
            self.lease_ms.to_string(),
            intent.id.to_string(),
            digest,
            claim,
            flag(intent.bootstraps),
            flag(intent.id_taken),
            intent.name.map_or_else(String::new, KeyName::to_string),
            masked_text(intent.masked),
            flag(intent.ceases_as_admin),
        ];
        let reply = match self.run_on_all(&BEGIN, workspace, arguments).await {
            Ok(reply) => reply,
            Err(error) => {
                // It may have begun, but it has changed nothing.
                if matches!(error, CallError::Unknown(_)) {
                    let _ = self.end(workspace, token).await;
                }
                return Err(changing_nothing(error));
            }
        };
        let words: Vec<Vec<u8>> = parsed(reply)?;
        self.began(workspace, token, &words).ok_or_else(unexpected_reply)
    }

    /// Makes the index say this of the key, and ends the change. Answers whether the change was still ours.
    pub(super) async fn finish(
        &self,
        change: &Change,
        id: &KeyId,
        entry: Option<&Entry>,
    ) -> Result<bool, CallError> {
        let arguments = [
            change.token.to_string(),
            id.to_string(),
            flag(entry.is_some()),
            entry.map_or_else(String::new, |entry| entry.name.to_string()),
            masked_text(entry.and_then(|entry| entry.masked)),
            flag(entry.is_some_and(|entry| entry.permanent_admin)),
        ];
        let reply = self.run_on_all(&FINISH, &change.workspace, arguments).await?;
        Ok(reply == Value::Int(1))
    }

    /// Ends a change that changed nothing.
    pub(super) async fn abandon(&self, change: &Change) -> Result<(), CallError> {
        self.end(&change.workspace, &change.token).await
    }

    async fn end(&self, workspace: &WorkspaceId, token: &Token) -> Result<(), CallError> {
        let arguments = [token.to_string()];
        self.run(&ABANDON, workspace, &[WorkspaceKey::Change], arguments).await.map(drop)
    }

    fn began(&self, workspace: &WorkspaceId, token: &Token, words: &[Vec<u8>]) -> Option<Begin> {
        let words: Option<Vec<&str>> = words.iter().map(|word| str::from_utf8(word).ok()).collect();
        let change = |now: &str| {
            let now: u64 = now.parse().ok()?;
            Some(Change {
                workspace: workspace.clone(),
                token: token.clone(),
                not_after: now.saturating_add(self.lease_ms / 2),
                lease_ends: now.saturating_add(self.lease_ms),
            })
        };
        Some(match words?.as_slice() {
            ["begun", now] => Begin::Begun(change(now)?),
            ["busy"] => Begin::Busy,
            ["crashed", now, id, digest, claim] => {
                let pointer = Pointer::from_texts(digest, claim);
                Begin::Crashed(change(now)?, Journal { id: id.parse().ok()?, pointer })
            }
            ["refused", why] => Begin::Refused(Refusal::named(why)?),
            _ => return None,
        })
    }

    async fn run_on_all<const N: usize>(
        &self,
        script: &Script,
        workspace: &WorkspaceId,
        arguments: [String; N],
    ) -> Result<Value, CallError> {
        let keys =
            [WorkspaceKey::Names, WorkspaceKey::Taken, WorkspaceKey::Admins, WorkspaceKey::Change];
        self.run(script, workspace, &keys, arguments).await
    }

    /// Runs a script on these structures of a workspace.
    pub(super) async fn run<const N: usize>(
        &self,
        script: &Script,
        workspace: &WorkspaceId,
        keys: &[WorkspaceKey],
        arguments: [String; N],
    ) -> Result<Value, CallError> {
        let keys: Vec<_> =
            keys.iter().map(|kind| self.keyspace.workspace(*kind, workspace)).collect();
        let arguments = arguments.map(String::into_bytes);
        self.servers.run(&Call { script, keys: &keys, arguments: &arguments }, Lane::Apart).await
    }
}

impl Refusal {
    /// What a caller is told who asked for a key of this id and name.
    pub(super) fn into_error(self, id: &KeyId, name: Option<&KeyName>) -> KeysError {
        match self {
            Self::Bootstrapped => KeysError::AlreadyBootstrapped,
            Self::IdTaken => KeysError::IdTaken(id.to_string()),
            Self::NameTaken => {
                KeysError::NameTaken(name.map_or_else(String::new, KeyName::to_string))
            }
            Self::MaskTaken => KeysError::AccessKeyTaken,
            Self::LastAdmin => KeysError::LastAdmin,
        }
    }

    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "bootstrapped" => Self::Bootstrapped,
            "id" => Self::IdTaken,
            "name" => Self::NameTaken,
            "mask" => Self::MaskTaken,
            "admin" => Self::LastAdmin,
            _ => return None,
        })
    }
}

impl Entry {
    pub(super) fn of(record: &KeyRecord) -> Self {
        Self {
            name: record.name.clone(),
            masked: record.access_key,
            permanent_admin: is_permanent_admin(record.kind, record.expires_at),
        }
    }
}

fn flag(set: bool) -> String {
    if set { "1" } else { "0" }.to_owned()
}

fn masked_text(masked: Option<MaskedKey>) -> String {
    masked.map_or_else(String::new, |masked| masked.to_string())
}

static BEGIN: LazyLock<Script> =
    LazyLock::new(|| script("workspace_begin", include_str!("../lua/workspace_begin.lua")));
static FINISH: LazyLock<Script> =
    LazyLock::new(|| script("workspace_finish", include_str!("../lua/workspace_finish.lua")));
static ABANDON: LazyLock<Script> =
    LazyLock::new(|| script("workspace_abandon", include_str!("../lua/workspace_abandon.lua")));

/// With what all scripts on the slots of workspaces share.
pub(super) fn script(name: &'static str, text: &str) -> Script {
    Script::new(name, format!("{}\n{text}", include_str!("../lua/workspace_prelude.lua")))
}

/// A day: a crash must not block its workspace for ever, however the lease is set.
const LONGEST_LEASE_MS: u64 = 86_400_000;
