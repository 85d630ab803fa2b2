//! The changes of a workspace's keys, one at a time, and the index that they keep.

use std::sync::LazyLock;
use std::time::Duration;

use limiter_core::keys::is_permanent_admin;
use limiter_core::{
    KeyId, KeyName, KeyRecord, KeysError, MaskedKey, NewRecord, StoreError, StoredSecret,
    WorkspaceId,
};
use redis::Value;

use super::chance::Token;
use super::journal::{self, Noted};
use super::pointer::Pointer;
use super::{changing_nothing, parsed, unexpected_reply};
use crate::error::CommandError;
use crate::keys::Keys;
use crate::keyspace::WorkspaceKey;
use crate::records::Found;
use crate::schema::bytes;
use crate::script::Script;
use crate::scripts::Scripts;
use crate::servers::Lane;

/// The scripts on the slots of workspaces.
#[derive(Clone, Debug)]
pub(super) struct Changes {
    keys: Keys,
    lease_ms: u64,
}

/// A change of one or more keys that this client has begun or taken over.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) workspace: WorkspaceId,
    pub(super) token: Token,
    /// The last server time at which steps on other slots may run.
    pub(super) not_after: u64,
    /// From when on others may take the change over.
    pub(super) lease_ends: u64,
}

impl Change {
    /// How long steps may be begun: each of them has as long again.
    pub(super) fn quarter_of_lease(&self) -> Duration {
        Duration::from_millis(self.lease_ends.saturating_sub(self.not_after) / 2)
    }
}

/// The keys that a change concerns, and the conditions that the index must meet.
#[derive(Clone, Debug, Default)]
pub(super) struct Intent<'a> {
    pub(super) token: Token,
    /// The keys that are changed.
    pub(super) journal: Vec<Noted>,
    /// The key must be the first of its workspace.
    pub(super) bootstraps: bool,
    /// This key may not be the last permanent admin.
    pub(super) ceases_as_admin: Option<&'a KeyId>,
    /// The ids, names and masks that must be free. The change begins if all of them are free for at least one of the keys.
    pub(super) needs: Vec<Need<'a>>,
}

/// The values that a key gets, and that no other key may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need<'a> {
    pub(super) id: &'a KeyId,
    pub(super) name: Option<&'a KeyName>,
    pub(super) masked: Option<MaskedKey>,
}

impl<'a> Intent<'a> {
    /// To change this key in a way that the index always allows.
    pub(super) fn of(id: &KeyId) -> Self {
        Self::with_pointers(id, Vec::new())
    }

    /// The same of a key that may lose these pointers.
    pub(super) fn with_pointers(id: &KeyId, pointers: Vec<Pointer>) -> Self {
        let pointer = |pointer| Noted { id: id.clone(), pointer: Some(pointer) };
        let mut journal: Vec<_> = pointers.into_iter().map(pointer).collect();
        if journal.is_empty() {
            journal.push(Noted { id: id.clone(), pointer: None });
        }
        Self { journal, ..Self::default() }
    }

    /// Notes another pointer that the key may lose.
    pub(super) fn note(&mut self, id: &KeyId, pointer: Pointer) {
        self.journal.push(Noted { id: id.clone(), pointer: Some(pointer) });
    }

    /// To create these keys, whose pointers have the change's token as their claim.
    pub(super) fn to_create(keys: impl IntoIterator<Item = &'a NewRecord> + Clone) -> Self {
        let token = Token::default();
        let pointer =
            |secret: StoredSecret| Pointer { digest: secret.digest, claim: token.clone() };
        let noted = keys
            .clone()
            .into_iter()
            .map(|key| Noted { id: key.id.clone(), pointer: key.secret.map(pointer) });
        let needs = keys.clone().into_iter().map(|key| Need {
            id: &key.id,
            name: Some(&key.config.name),
            masked: key.secret.and_then(|secret| secret.unique_mask()),
        });
        let (journal, needs) = (noted.collect(), needs.collect());
        let bootstraps = keys.into_iter().any(|key| key.bootstraps);
        Self { token, journal, bootstraps, ceases_as_admin: None, needs }
    }
}

/// The result of beginning a change.
#[derive(Debug)]
pub(super) enum Begin {
    /// The change has begun, with the refusal of each need that is refused.
    Begun(Change, Vec<Option<Refusal>>),
    /// Another client is changing keys of this workspace.
    Busy,
    /// Another client has stopped halfway. This client has taken over its change, and must finish it first.
    Crashed(Change, Vec<Noted>),
    /// Nothing has begun: the refusals of each need, or of all together.
    Refused(Vec<Option<Refusal>>),
}

/// How a change may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Done,
    /// Others waited for its end.
    Wanted,
    /// Another client has taken it over.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Bootstrapped,
    NameTaken,
    MaskTaken,
    LastAdmin,
}

/// The entry of an existing key in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: KeyName,
    pub(super) masked: Option<MaskedKey>,
    pub(super) permanent_admin: bool,
}

impl Changes {
    pub(super) fn new(keys: Keys, lease: Duration) -> Self {
        let lease_ms =
            u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).clamp(2, LONGEST_LEASE_MS);
        Self { keys, lease_ms }
    }

    pub(super) const fn lease_ms(&self) -> u64 {
        self.lease_ms
    }

    /// Begins a change, unless another one is under way or the index forbids it.
    pub(super) async fn begin(
        &self,
        workspace: &WorkspaceId,
        intent: &Intent<'_>,
    ) -> Result<Begin, StoreError> {
        let token = &intent.token;
        let mut arguments = vec![
            token.to_string(),
            self.lease_ms.to_string(),
            journal::written(&intent.journal),
            flag(intent.bootstraps),
            intent.ceases_as_admin.map_or_else(String::new, KeyId::to_string),
        ];
        for Need { id, name, masked } in &intent.needs {
            let name = name.map_or_else(String::new, KeyName::to_string);
            arguments.extend([id.to_string(), name, masked_text(*masked)]);
        }
        let reply = self.run_on_all(&BEGIN, workspace, arguments).await;
        // It may have begun, but it has changed nothing.
        if matches!(reply, Err(CommandError::Unknown(_))) {
            let _ = self.end(workspace, token).await;
        }
        let reply = reply.map_err(changing_nothing)?;
        let words: Vec<Vec<u8>> = parsed(reply)?;
        self.began(workspace, token, &words).ok_or_else(unexpected_reply)
    }

    /// Makes the index say this of each key, or that it does not exist, and ends the change. Of other keys the index
    /// stays as it is, also where one of these entries has the name or the mask of another key.
    pub(super) async fn finish(
        &self,
        change: &Change,
        entries: &[(&KeyId, Option<Entry>)],
    ) -> Result<Finish, CommandError> {
        let mut arguments = vec![change.token.to_string()];
        for (id, entry) in entries {
            let entry = entry.as_ref();
            arguments.extend([
                id.to_string(),
                flag(entry.is_some()),
                entry.map_or_else(String::new, |entry| entry.name.to_string()),
                masked_text(entry.and_then(|entry| entry.masked)),
                flag(entry.is_some_and(|entry| entry.permanent_admin)),
            ]);
        }
        let reply = self.run_on_all(&FINISH, &change.workspace, arguments).await?;
        Ok(match bytes(&reply) {
            Some(b"done") => Finish::Done,
            Some(b"wanted") => Finish::Wanted,
            _ => Finish::Lost,
        })
    }

    /// Whether the index has a key of this id.
    pub(super) async fn knows(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<bool, StoreError> {
        // The index maps the id back to its name.
        let names = self.taken(workspace, vec![format!("i{id}")]).await?;
        Ok(names.iter().any(Option::is_some))
    }

    /// For each name the id of the key that has it by the index.
    pub(super) async fn named(
        &self,
        workspace: &WorkspaceId,
        names: &[&KeyName],
    ) -> Result<Vec<Option<KeyId>>, StoreError> {
        let fields: Vec<_> = names.iter().map(|name| format!("n{name}")).collect();
        let ids = self.taken(workspace, fields).await?.into_iter();
        Ok(ids.map(|id| str::from_utf8(&id?).ok()?.parse().ok()).collect())
    }

    async fn taken(
        &self,
        workspace: &WorkspaceId,
        fields: Vec<String>,
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let reply = self.run(&KNOWS, workspace, &[WorkspaceKey::Taken], fields).await;
        let reply = reply.map_err(changing_nothing)?;
        let values = match &reply {
            Value::Array(parts) => parts.get(2),
            _ => None,
        };
        let Some(Value::Array(values)) = values else { return Ok(Vec::new()) };
        Ok(values.iter().map(|value| bytes(value).map(<[u8]>::to_vec)).collect())
    }

    /// Ends a change that changed nothing.
    pub(super) async fn abandon(&self, change: &Change) -> Result<(), CommandError> {
        self.end(&change.workspace, &change.token).await
    }

    async fn end(&self, workspace: &WorkspaceId, token: &Token) -> Result<(), CommandError> {
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
        let refusals = |words: &[&str]| {
            words.iter().map(|word| Refusal::named(word)).collect::<Option<Vec<_>>>()
        };
        Some(match words?.as_slice() {
            ["begun", now, words @ ..] => Begin::Begun(change(now)?, refusals(words)?),
            ["busy"] => Begin::Busy,
            ["crashed", now, journal] => Begin::Crashed(change(now)?, journal::read(journal)?),
            ["refused", _, words @ ..] => Begin::Refused(refusals(words)?),
            _ => return None,
        })
    }

    async fn run_on_all(
        &self,
        script: &Script,
        workspace: &WorkspaceId,
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<Value, CommandError> {
        let keys =
            [WorkspaceKey::Names, WorkspaceKey::Taken, WorkspaceKey::Admins, WorkspaceKey::Change];
        self.run(script, workspace, &keys, arguments).await
    }

    /// Runs a script on these structures of a workspace.
    pub(super) async fn run(
        &self,
        script: &Script,
        workspace: &WorkspaceId,
        keys: &[WorkspaceKey],
        arguments: impl IntoIterator<Item = String>,
    ) -> Result<Value, CommandError> {
        let Keys { servers, keyspace, .. } = &self.keys;
        let keys: Vec<_> = keys.iter().map(|kind| keyspace.workspace(*kind, workspace)).collect();
        let arguments: Vec<_> = arguments.into_iter().map(String::into_bytes).collect();
        servers.run(script, &keys, &arguments, Lane::Apart).await
    }
}

impl Refusal {
    /// The error for a caller that asked for this name.
    pub(super) fn into_error(self, name: Option<&KeyName>) -> KeysError {
        match self {
            Self::Bootstrapped => KeysError::AlreadyBootstrapped,
            Self::NameTaken => {
                KeysError::NameTaken(name.map_or_else(String::new, KeyName::to_string))
            }
            Self::MaskTaken => KeysError::AccessKeyTaken,
            Self::LastAdmin => KeysError::LastAdmin,
        }
    }

    /// Reads the word of an answer, if it is a known one: `free` is no refusal.
    fn named(word: &str) -> Option<Option<Self>> {
        Some(Some(match word {
            "bootstrapped" => Self::Bootstrapped,
            "name" => Self::NameTaken,
            "mask" => Self::MaskTaken,
            "admin" => Self::LastAdmin,
            "free" => return Some(None),
            _ => return None,
        }))
    }
}

impl Entry {
    /// The entry of a key whose mask must be unique, or of one that has no such mask.
    pub(super) fn of(record: &KeyRecord, masked: Option<MaskedKey>) -> Self {
        Self {
            name: record.config.name.clone(),
            masked,
            permanent_admin: is_permanent_admin(record.kind, record.config.expires_at),
        }
    }

    pub(super) fn of_found(found: &Found) -> Self {
        Self::of(&found.record, found.stored.unique_mask())
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
static KNOWS: LazyLock<Script> =
    LazyLock::new(|| Script { name: "workspace_knows", ..Scripts::new(None, false).read });
static ABANDON: LazyLock<Script> =
    LazyLock::new(|| script("workspace_abandon", include_str!("../lua/workspace_abandon.lua")));

/// With what all scripts on the slots of workspaces share.
pub(super) fn script(name: &'static str, text: &str) -> Script {
    Script::new(name, format!("{}\n{text}", include_str!("../lua/workspace_prelude.lua")))
}

/// A day: a crash must not block its workspace for ever, however the lease is set.
const LONGEST_LEASE_MS: u64 = 86_400_000;
