//! Keys at their own slot: state and record, created, changed, read and deleted together.

use std::sync::Arc;

use limiter_core::{
    Credits, KeyConfig, KeyId, KeyKind, KeyRecord, KeyState, NewRecord, StoreError, StoredKey,
    StoredSecret, Timestamp, Usage, WorkspaceId,
};
use redis::Value;

use crate::codec::{
    HashFields, Incarnation, Misread, NEVER, Version, asset_field, bytes, packed_limits,
    packed_thresholds, push_int, push_limit, stored_key, time_of,
};
use crate::error::{CallError, RedisError};
use crate::keyspace::Keyspace;
use crate::script::{Call, Script};
use crate::scripts::Scripts;
use crate::servers::{Lane, Servers};

/// The scripts on the slots of keys that manage them.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    servers: Servers,
    keyspace: Keyspace,
    scripts: Arc<Scripts>,
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: KeyRecord,
    pub(crate) secret: Option<StoredSecret>,
}

/// How creating a record ended.
#[derive(Debug)]
pub(crate) enum Create {
    Created(Box<KeyRecord>),
    IdTaken,
    TooLate,
}

/// How updating a record ended.
#[derive(Debug)]
pub(crate) enum Update {
    Updated(Box<KeyRecord>),
    NotFound,
    Conflict { actual: u64 },
    TooManyAssets { count: usize },
    TooLate,
}

/// How deleting a record ended.
#[derive(Debug)]
pub(crate) enum Delete {
    Deleted,
    NotFound,
    TooLate,
}

/// A key as it was at one instant.
#[derive(Debug)]
pub(crate) struct Inspected {
    now: Timestamp,
    stored: StoredKey,
    state: KeyState,
}

impl Records {
    pub(crate) const fn new(servers: Servers, keyspace: Keyspace, scripts: Arc<Scripts>) -> Self {
        Self { servers, keyspace, scripts }
    }

    /// What is known of a living key.
    pub(crate) async fn read(&self, id: &KeyId) -> Result<Option<Found>, StoreError> {
        let inspected = self.inspect(id).await?;
        Ok(inspected.map(|key| Found { record: key.record(), secret: key.stored.secret }))
    }

    /// What a living key has used.
    pub(crate) async fn usage(&self, id: &KeyId) -> Result<Option<Usage>, StoreError> {
        let inspected = self.inspect(id).await?;
        Ok(inspected.map(|key| Usage::of(&key.state, key.now)))
    }

    /// The state of a living key.
    pub(crate) async fn state(&self, id: &KeyId) -> Result<Option<KeyState>, StoreError> {
        Ok(self.inspect(id).await?.map(|key| key.state))
    }

    /// Creates state and record, unless there is one, or the server's time is past `not_after`.
    pub(crate) async fn create(
        &self,
        key: &NewRecord,
        not_after: u64,
    ) -> Result<Create, CallError> {
        let NewRecord { id, workspace, kind, config, secret, .. } = key;
        let mut head = vec![u8::from(*kind == KeyKind::Admin)];
        head.extend(Incarnation::draw().bytes());
        head.extend(packed(config));
        let (digest, masked) = secret.map_or_else(Default::default, |secret| {
            (String::from(secret.digest), secret.masked.to_string())
        });
        let texts =
            [id.as_str(), workspace.as_str(), config.name.as_str(), &digest, &masked, FORMAT];
        let mut arguments = vec![not_after.to_string().into_bytes(), head];
        arguments.extend(texts.map(|text| text.as_bytes().to_vec()));
        arguments.extend(packed_assets(config));
        let reply = self.run(&self.scripts.create, id, arguments).await;
        let reply = reply.map_err(CallError::of_several_writes)?;
        match self.read_reply(id, &reply)? {
            ("created", Some(key)) => Ok(Create::Created(Box::new(key.record()))),
            ("taken", _) => Ok(Create::IdTaken),
            ("late", _) => Ok(Create::TooLate),
            _ => Err(self.unexpected(id)),
        }
    }

    /// Changes the configuration of a key of this workspace that is at this version.
    pub(crate) async fn update(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        version: u64,
        config: &KeyConfig,
        not_after: Option<u64>,
    ) -> Result<Update, CallError> {
        let texts = [
            not_after.unwrap_or(ANY_TIME).to_string(),
            workspace.to_string(),
            version.to_string(),
            config.name.to_string(),
            KeyState::MAX_COUNTED_ASSETS.to_string(),
        ];
        let mut arguments: Vec<_> = texts.map(String::into_bytes).into();
        // Random, so that no version is ever used twice, not even if a failover has lost an update.
        let mut head = Version::draw().bytes().to_vec();
        head.extend(packed(config));
        arguments.push(head);
        arguments.extend(packed_assets(config));
        let reply = self.run(&self.scripts.configure, id, arguments).await;
        let reply = reply.map_err(CallError::of_several_writes)?;
        match self.read_reply(id, &reply)? {
            ("updated", Some(key)) => Ok(Update::Updated(Box::new(key.record()))),
            ("missing", _) => Ok(Update::NotFound),
            ("late", _) => Ok(Update::TooLate),
            ("conflict", _) => {
                let actual = number(&reply).ok_or_else(|| self.unexpected(id))?;
                Ok(Update::Conflict { actual })
            }
            ("assets", _) => {
                let count = number(&reply).and_then(|count| usize::try_from(count).ok());
                Ok(Update::TooManyAssets { count: count.ok_or_else(|| self.unexpected(id))? })
            }
            _ => Err(self.unexpected(id)),
        }
    }

    /// Deletes state and record of a key of this workspace.
    pub(crate) async fn delete(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        not_after: u64,
    ) -> Result<Delete, CallError> {
        let arguments =
            vec![not_after.to_string().into_bytes(), workspace.to_string().into_bytes()];
        let keys = [
            self.keyspace.state(id),
            self.keyspace.record(id),
            self.keyspace.reservations(id),
            self.keyspace.reservation_ends(id),
            self.keyspace.checks(id),
            self.keyspace.records(id),
        ];
        let reply = self.run_on(&self.scripts.remove, &keys, arguments).await?;
        match status(&reply) {
            Some("deleted") => Ok(Delete::Deleted),
            Some("missing") => Ok(Delete::NotFound),
            Some("late") => Ok(Delete::TooLate),
            _ => Err(self.unexpected(id)),
        }
    }

    async fn inspect(&self, id: &KeyId) -> Result<Option<Inspected>, StoreError> {
        let reply = self.run(&self.scripts.inspect, id, Vec::new()).await;
        let reply = reply.map_err(CallError::of_reading)?;
        let (_, key) = self.read_reply(id, &reply)?;
        Ok(key)
    }

    async fn run(
        &self,
        script: &Script,
        id: &KeyId,
        arguments: Vec<Vec<u8>>,
    ) -> Result<Value, CallError> {
        let keys = [self.keyspace.state(id), self.keyspace.record(id)];
        self.run_on(script, &keys, arguments).await
    }

    async fn run_on(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        arguments: Vec<Vec<u8>>,
    ) -> Result<Value, CallError> {
        let arguments = self.scripts.timed(arguments);
        self.servers.run(&Call { script, keys, arguments: &arguments }, Lane::Apart).await
    }

    /// The status of an answer, and the key that it shows, if it shows one that exists.
    fn read_reply<'a>(
        &self,
        id: &KeyId,
        reply: &'a Value,
    ) -> Result<(&'a str, Option<Inspected>), CallError> {
        let status = status(reply).ok_or_else(|| self.unexpected(id))?;
        let shown = || match reply {
            Value::Array(parts) => match parts.as_slice() {
                [_, seconds, micros, state, record] => {
                    Inspected::read(seconds, micros, state, record)
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        };
        Ok((status, shown().map_err(|misread| self.misread(id, misread))?))
    }

    fn unexpected(&self, id: &KeyId) -> CallError {
        self.misread(id, Misread::Corrupt("the script answered what it never answers"))
    }

    fn misread(&self, id: &KeyId, misread: Misread) -> CallError {
        CallError::Unknown(RedisError::misread(&self.keyspace.state(id), misread))
    }
}

impl Inspected {
    fn read(
        seconds: &Value,
        micros: &Value,
        state: &Value,
        record: &Value,
    ) -> Result<Option<Self>, Misread> {
        let record = HashFields::read(record)?;
        if record.is_empty() {
            return Ok(None);
        }
        let time = bytes(seconds).zip(bytes(micros));
        let (seconds, micros) = time.ok_or(Misread::Corrupt("a time that cannot be"))?;
        let (_, state) = HashFields::read(state)?.state()?;
        Ok(Some(Self { now: time_of(seconds, micros)?, stored: stored_key(&record)?, state }))
    }

    fn record(&self) -> KeyRecord {
        KeyRecord::of(&self.stored, &self.state, self.now)
    }
}

fn status(reply: &Value) -> Option<&str> {
    let Value::Array(parts) = reply else { return None };
    str::from_utf8(bytes(parts.first()?)?).ok()
}

/// The number that follows the status.
fn number(reply: &Value) -> Option<u64> {
    let Value::Array(parts) = reply else { return None };
    match parts.get(1)? {
        Value::Int(number) => u64::try_from(*number).ok(),
        value => str::from_utf8(bytes(value)?).ok()?.parse().ok(),
    }
}

/// Expiry, budget, thresholds and mode, and global limits.
fn packed(config: &KeyConfig) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(49);
    push_int::<7>(&mut bytes, config.expires_at.map_or(NEVER, Timestamp::unix_ms));
    push_limit(&mut bytes, config.budget.map(Credits::millionths));
    bytes.extend(packed_thresholds(config.thresholds.unwrap_or_default()));
    bytes.push(u8::from(config.shadow));
    packed_limits(&mut bytes, &config.global);
    bytes
}

/// How many assets have limits, and the field and the limits of each.
fn packed_assets(config: &KeyConfig) -> Vec<Vec<u8>> {
    let mut arguments = vec![Vec::new()];
    let mut count = 0_usize;
    for (id, limits) in config.assets.iter().filter(|(_, limits)| !limits.is_none()) {
        let mut bytes = Vec::with_capacity(30);
        packed_limits(&mut bytes, limits);
        arguments.extend([asset_field(Some(id)), bytes]);
        count += 1;
    }
    if let Some(first) = arguments.first_mut() {
        *first = count.to_string().into_bytes();
    }
    arguments
}

/// The format of records.
const FORMAT: &str = "1";
/// A time that no server's clock reaches.
const ANY_TIME: u64 = 1 << 52;
