//! One way to the slot of a key: read what is stored, or do one operation on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use limiter_core::operation::Operation;
use limiter_core::prepare::{self, Prepared};
use limiter_core::{AssetId, KeyId, KeyState, Timestamp};
use redis::Value;

use crate::answer::{Answer, Ended, found};
use crate::error::{CommandError, RedisError};
use crate::keyspace::Keyspace;
use crate::known::KnownKeys;
use crate::schema::{
    Counted, Known, Misread, NOT_AN_ANSWER, Stamp, asset_field, bytes, fields_of, look, packed,
    push_int, time_of, write_asset, write_global,
};
use crate::script::Script;
use crate::scripts::Scripts;
use crate::servers::{Lane, Servers};
use crate::shape::Shape;

/// The keys of one store. A clone is the same connections.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) servers: Servers,
    pub(crate) keyspace: Keyspace,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) known: Arc<KnownKeys>,
    ahead: Arc<Ahead>,
    #[cfg(feature = "fuzzing")]
    pub(crate) wrong_by: Arc<AtomicI64>,
}

/// A key as it was at one instant; without `known` there is none.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) now: Timestamp,
    pub(crate) known: Option<Known>,
}

/// The lead of the servers' clock over ours at the last answer, in ms. It is only an estimate: a server compares the time
/// itself.
#[derive(Debug, Default)]
struct Ahead(AtomicI64);

/// An operation, and all that is stored with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// The keys after the hot and the cold one.
    pub(crate) keys: Vec<Vec<u8>>,
    /// The time of the server after which nothing may be done; 0 for none.
    pub(crate) not_after: u64,
    /// The number of a key, a field, and the value that it must have; nothing for none.
    pub(crate) guards: Vec<(usize, Vec<u8>, Vec<u8>)>,
    pub(crate) puts: Vec<(usize, Vec<u8>, Vec<u8>)>,
    /// The number of a key and a field; nothing for the whole key.
    pub(crate) drops: Vec<(usize, Vec<u8>)>,
    pub(crate) ledger: Option<Listed>,
}

/// An operation as a call of `take`.
struct TakeCall {
    script: Arc<Script>,
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

/// The ledger operation of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) kind: u8,
    pub(crate) id: Vec<u8>,
    /// How long it is remembered, in ms; `None` for as long as before.
    pub(crate) life: Option<i64>,
    /// The bounds, or the time for which the confirmed id is remembered.
    pub(crate) numbers: [i64; 2],
    /// The texts that apply.lua describes for each kind.
    pub(crate) texts: Vec<Vec<u8>>,
}

impl Listed {
    pub(crate) fn arguments(self) -> Vec<Vec<u8>> {
        let Self { id, life, numbers: [most, other], texts, .. } = self;
        let mut numbers = Vec::with_capacity(21);
        for number in [life.unwrap_or(-1), most, other] {
            push_int::<7>(&mut numbers, number);
        }
        [vec![id, numbers], texts].concat()
    }
}

/// The number of the hot key in a [`Request`], and that of the cold one. Others follow.
pub(crate) const HOT: usize = 1;
pub(crate) const COLD: usize = 2;

impl Keys {
    pub(crate) fn new(
        servers: Servers,
        keyspace: Keyspace,
        scripts: Arc<Scripts>,
        most_known: usize,
    ) -> Self {
        let known = Arc::new(KnownKeys::new(most_known));
        Self {
            servers,
            keyspace,
            scripts,
            known,
            ahead: Arc::default(),
            #[cfg(feature = "fuzzing")]
            wrong_by: Arc::default(),
        }
    }

    /// The time of the servers, as far as it can be estimated.
    pub(crate) fn now(&self) -> Timestamp {
        let ahead = self.ahead.0.load(Ordering::Relaxed);
        let estimated = || Timestamp::from(SystemTime::now()).unix_ms().saturating_add(ahead);
        let now = self.scripts.manual_now().unwrap_or_else(|| Timestamp::from_unix_ms(estimated()));
        #[cfg(feature = "fuzzing")]
        let now = Timestamp::from_unix_ms(
            now.unix_ms().saturating_add(self.wrong_by.load(Ordering::Relaxed)),
        );
        now
    }

    pub(crate) fn saw(&self, now: Timestamp) {
        let ahead = now.unix_ms().saturating_sub(Timestamp::from(SystemTime::now()).unix_ms());
        self.ahead.0.store(ahead, Ordering::Relaxed);
    }

    /// Reads what a call of an asset meets.
    pub(crate) async fn read(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
    ) -> Result<Found, CommandError> {
        let keys = [self.keyspace.hot(key), self.keyspace.cold(key)];
        let arguments = self.scripts.timed(fields_of(asset));
        let call = Scripts::call(&self.scripts.read, &keys, &arguments);
        let reply = self.servers.run(&call, Lane::Shared).await?;
        let read = read_found(&reply, asset);
        let found = read.map_err(|misread| self.misread(key, misread))?;
        self.saw(found.now);
        match &found.known {
            Some(known) => self.known.learn(key, asset, Arc::new(known.clone())),
            None => self.known.forget(key, asset),
        }
        Ok(found)
    }

    /// Does an operation on the records that a call of an asset meets.
    pub(crate) async fn apply(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        known: &Known,
        prepared: &Prepared,
        now: Timestamp,
        mut request: Request,
    ) -> Result<Value, CommandError> {
        let operation = prepared.operation();
        if let Some(call) = self.as_take(key, asset, known, prepared, now, &request) {
            let TakeCall { script, keys, arguments } = call;
            let is_repeatable = request.ledger.is_some();
            return self.run(&script, &keys, &arguments, is_repeatable, Lane::Shared).await;
        }
        let stamps = self.limits(asset, known, prepared, &mut request);
        let fields = fields_of(asset).into_iter().take(operation.steps.len()).collect();
        self.send(&self.scripts.apply, key, operation, fields, stamps, request, Lane::Shared).await
    }

    /// An operation as a call of `take`, if that can do it: the script, its keys and its arguments.
    fn as_take(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        known: &Known,
        prepared: &Prepared,
        now: Timestamp,
        request: &Request,
    ) -> Option<TakeCall> {
        if prepared.changes_limits() {
            return None;
        }
        let records: Vec<_> = known.state.records_of(known.state.locate(asset)).collect();
        let ledger = request.ledger.clone();
        let kind = ledger.as_ref().map_or(0, |ledger| ledger.kind);
        let (shape, argument) = Shape::of(prepared.operation(), known.stamp, &records, kind, now)?;
        let script = self.scripts.take(&shape)?;
        let mut keys = vec![self.keyspace.hot(key), self.keyspace.cold(key)];
        keys.extend(request.keys.iter().cloned());
        let field = asset.map(asset_field).unwrap_or_default();
        let mut arguments = vec![field, argument];
        arguments.extend(ledger.into_iter().flat_map(Listed::arguments));
        Some(TakeCall { script, keys, arguments })
    }

    async fn run(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        arguments: &[Vec<u8>],
        is_repeatable: bool,
        lane: Lane,
    ) -> Result<Value, CommandError> {
        let arguments = self.scripts.timed(arguments.to_vec());
        let call = Scripts::call(script, keys, &arguments);
        let reply = if is_repeatable {
            // A call that is remembered by an id charges nothing when it is repeated.
            self.servers.run_repeatable(&call, lane).await
        } else {
            self.servers.run(&call, lane).await
        };
        reply.map_err(CommandError::of_several_writes)
    }

    /// Looks at the ledger and at the records that a call of an asset meets, and does nothing: the time is never right.
    pub(crate) async fn look(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        request: Request,
    ) -> Result<Value, CommandError> {
        let fields = fields_of(asset);
        let Request { keys: more, ledger, .. } = request;
        let keys = [vec![self.keyspace.hot(key), self.keyspace.cold(key)], more].concat();
        let kind = ledger.as_ref().map_or(0, |ledger| ledger.kind);
        let mut arguments = vec![look(fields.len(), kind)];
        arguments.extend(fields);
        arguments.extend(ledger.into_iter().flat_map(Listed::arguments));
        let arguments = self.scripts.timed(arguments);
        let call = Scripts::call(&self.scripts.apply, &keys, &arguments);
        self.servers.run_repeatable(&call, Lane::Shared).await.map_err(CommandError::of_reading)
    }

    /// Adds what becomes of the limits, and answers the stamps before and after.
    fn limits(
        &self,
        asset: Option<&AssetId>,
        known: &Known,
        prepared: &Prepared,
        request: &mut Request,
    ) -> [Stamp; 2] {
        if !prepared.changes_limits() {
            return [known.stamp; 2];
        }
        let mut after = known.state.clone();
        let located = after.locate(asset);
        prepared.put_limits(&mut after, located);
        put_changed(request, &known.state, &after);
        [known.stamp, Stamp::draw()]
    }

    /// Sends an operation on the records in these fields.
    #[expect(clippy::too_many_arguments, reason = "all parts of a request")]
    pub(crate) async fn send(
        &self,
        script: &Script,
        key: &KeyId,
        operation: &Operation,
        fields: Vec<Vec<u8>>,
        stamps: [Stamp; 2],
        request: Request,
        lane: Lane,
    ) -> Result<Value, CommandError> {
        let is_repeatable = request.ledger.is_some();
        let mut keys = vec![self.keyspace.hot(key), self.keyspace.cold(key)];
        keys.extend_from_slice(&request.keys);
        let arguments = arguments(operation, fields, stamps, request);
        self.run(script, &keys, &arguments, is_repeatable, lane).await
    }

    /// Stores that windows of a key are rebased, after its clock was set right. A denial does no more than this.
    pub(crate) async fn rebase(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        mut now: Timestamp,
        mut known: Known,
    ) -> Result<(), CommandError> {
        loop {
            let located = known.state.locate(asset);
            let Some(prepared) = prepare::rebase(&known.state, located, now) else { return Ok(()) };
            let reply = self.apply(key, asset, &known, &prepared, now, Request::default()).await?;
            let answer = self.answer(key, asset, Answer::of(&reply, &known, asset, false))?;
            if answer.ended == Ended::Compared {
                self.known.forget(key, asset);
                return Ok(());
            }
            let found = self.read(key, asset).await?;
            let Some(found_known) = found.known else { return Ok(()) };
            (now, known) = (found.now, found_known);
        }
    }

    /// An answer, or the error for what cannot be read of the key.
    pub(crate) fn answer<'a>(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        answer: Result<Answer<'a>, Misread>,
    ) -> Result<Answer<'a>, CommandError> {
        match answer {
            Ok(answer) => {
                self.saw(answer.now);
                Ok(answer)
            }
            Err(misread) => {
                // Should what is at hand be to blame, the next call reads it again.
                self.known.forget(key, asset);
                Err(self.misread(key, misread))
            }
        }
    }

    pub(crate) fn misread(&self, key: &KeyId, misread: Misread) -> CommandError {
        CommandError::Unknown(RedisError::misread(&self.keyspace.hot(key), misread))
    }
}

/// The arguments of `apply` for an operation on the records in these fields.
pub(crate) fn arguments(
    operation: &Operation,
    fields: Vec<Vec<u8>>,
    stamps: [Stamp; 2],
    request: Request,
) -> Vec<Vec<u8>> {
    let Request { keys: _, not_after, guards, puts, drops, ledger } = request;
    let counted = Counted {
        guards: guards.len(),
        puts: puts.len(),
        drops: drops.len(),
        ledger: ledger.as_ref().map_or(0, |ledger| ledger.kind),
    };
    let mut arguments = vec![packed(operation, stamps, not_after, counted)];
    arguments.extend(fields);
    for (key, field, value) in guards.into_iter().chain(puts) {
        arguments.extend([number(key), field, value]);
    }
    for (key, field) in drops {
        arguments.extend([number(key), field]);
    }
    arguments.extend(ledger.into_iter().flat_map(Listed::arguments));
    arguments
}

/// Puts the limits that differ between two states of a key, and drops those of assets that are gone.
pub(crate) fn put_changed(request: &mut Request, before: &KeyState, after: &KeyState) {
    let field = asset_field;
    let written = write_global(after);
    if written != write_global(before) {
        request.puts.push((COLD, crate::schema::GLOBAL.to_vec(), written));
    }
    for (id, scope) in after.assets() {
        let written = write_asset(scope);
        let same =
            before.assets().any(|(before, scope)| before == id && write_asset(scope) == written);
        if !same {
            request.puts.push((COLD, field(id), written));
        }
    }
    for (id, _) in before.assets().filter(|(id, _)| after.assets().all(|(after, _)| after != *id)) {
        request.drops.extend([(HOT, field(id)), (COLD, field(id))]);
    }
}

/// Reads what `read` answers for the fields of a call.
fn read_found(reply: &Value, asset: Option<&AssetId>) -> Result<Found, Misread> {
    let Value::Array(parts) = reply else { return Err(NOT_AN_ANSWER) };
    let [seconds, micros, hot, cold] = parts.as_slice() else { return Err(NOT_AN_ANSWER) };
    let now = bytes(seconds).zip(bytes(micros)).ok_or(NOT_AN_ANSWER)?;
    let (Value::Array(hot), Value::Array(cold)) = (hot, cold) else {
        return Err(Misread::WrongType);
    };
    let at = |number: usize| (hot.get(number).and_then(bytes), cold.get(number).and_then(bytes));
    let known = found(at(0), at(1), asset)?;
    Ok(Found { now: time_of(now.0, now.1)?, known })
}

fn number(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}
