//! Scripts on the slot of a key: read its stored data, or do one operation on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use limiter_core::operation::{Guard, Operation};
use limiter_core::prepare::{self, Prepared};
use limiter_core::{AssetId, KeyId, KeyState, Place, Timestamp, Window};
use redis::Value;

use crate::answer::{Answer, Ended, found};
use crate::cache::KnownKeys;
use crate::error::{CommandError, RedisError};
use crate::keyspace::Keyspace;
use crate::schema::{
    Counted, GLOBAL, Known, Misread, NOT_AN_ANSWER, OTHER, Stamp, asset_field, bytes, look, packed,
    push_int, scope_field, time_of, write_asset, write_global,
};
use crate::script::Script;
use crate::scripts::Scripts;
use crate::servers::{Lane, Servers};
use crate::shape::{Named, Shape};

/// The keys of one store. A clone is the same connections.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) servers: Servers,
    pub(crate) keyspace: Keyspace,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) known: Arc<KnownKeys>,
    /// How many days the history of a key goes back.
    pub(crate) history_days: u16,
    /// The lead of the servers' clock over ours at the last answer, in ms. It is only an estimate: a server compares the
    /// time itself.
    ahead: Arc<AtomicI64>,
    #[cfg(feature = "fuzzing")]
    pub(crate) wrong_by: Arc<AtomicI64>,
}

/// The key of a call, and its asset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) key: &'a KeyId,
    pub(crate) asset: Option<&'a AssetId>,
}

/// A key as it was at one instant; without `known` there is none.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) now: Timestamp,
    pub(crate) known: Option<Known>,
}

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
    /// The number of the key of closed days, and the end of the last one that is not kept.
    pub(crate) history: Option<(usize, Timestamp)>,
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
        history_days: u16,
    ) -> Self {
        let known = Arc::new(KnownKeys::new(most_known));
        Self {
            servers,
            keyspace,
            scripts,
            known,
            history_days,
            ahead: Arc::default(),
            #[cfg(feature = "fuzzing")]
            wrong_by: Arc::default(),
        }
    }

    /// The estimated time of the servers.
    pub(crate) fn now(&self) -> Timestamp {
        let ahead = self.ahead.load(Ordering::Relaxed);
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
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// Reads the records that a call meets.
    pub(crate) async fn read(&self, of: Subject<'_>) -> Result<Found, CommandError> {
        let reply =
            self.run(&self.scripts.read, of.key, &[], of.fields(), false, Lane::Shared).await?;
        let found =
            read_found(&reply, of.asset).map_err(|misread| self.misread(of.key, misread))?;
        self.saw(found.now);
        match &found.known {
            Some(known) => self.learn(of, known),
            None => self.forget(of),
        }
        Ok(found)
    }

    pub(crate) fn learn(&self, of: Subject<'_>, known: &Known) {
        self.known.learn(of.key, of.asset.cloned(), Arc::new(known.clone()));
    }

    pub(crate) fn forget(&self, of: Subject<'_>) {
        self.known.forget(of.key, of.asset.cloned());
    }

    /// Does an operation on the records that a call meets: by `take`, if that can do it.
    pub(crate) async fn apply(
        &self,
        of: Subject<'_>,
        known: &Known,
        prepared: &Prepared,
        now: Timestamp,
        mut request: Request,
    ) -> Result<Value, CommandError> {
        let operation = prepared.operation();
        let places: Vec<_> = prepared.places().collect();
        let mut stamps = [known.stamp; 2];
        if prepared.changes_limits() || prepared.dropped(&known.state).next().is_some() {
            let mut after = known.state.clone();
            prepared.put_limits(&mut after);
            put_changed(&mut request, &known.state, &after);
            stamps[1] = Stamp::draw();
        } else if let Some((shape, argument)) =
            Shape::of(operation, known.stamp, &named(&known.state, &places), request.kind(), now)
            && let Some(script) = self.scripts.take(&shape)
        {
            let mut arguments = take_fields(of, &known.state, &places);
            arguments.push(argument);
            let is_repeatable = request.ledger.is_some();
            arguments.extend(request.ledger.into_iter().flat_map(Listed::arguments));
            let (key, more) = (of.key, &request.keys);
            let run = self.run(&script, key, more, arguments, is_repeatable, Lane::Shared);
            return run.await.map_err(CommandError::of_several_writes);
        }
        let fields = fields_of(&known.state, &places);
        self.close_days(of.key, operation, &mut request, now);
        let apply = &self.scripts.apply;
        self.send(apply, of.key, operation, fields, of.fields(), stamps, request, Lane::Shared)
            .await
    }

    /// Names the key of closed days, if an operation may close one.
    pub(crate) fn close_days(
        &self,
        key: &KeyId,
        operation: &Operation,
        request: &mut Request,
        now: Timestamp,
    ) {
        let windows = operation.steps.iter().flat_map(|step| &step.windows);
        let mut days = windows.filter(|of| of.window == Window::Day);
        if days.any(|of| matches!(of.guard, Guard::Roll(_) | Guard::Anew(..))) {
            request.keys.push(self.keyspace.history(key));
            // A day more than are kept: days have up to 25 hours.
            let kept_ms = (i64::from(self.history_days) + 1) * 25 * 3_600_000;
            let kept_after = Timestamp::from_unix_ms(now.unix_ms().saturating_sub(kept_ms));
            request.history = Some((COLD + request.keys.len(), kept_after));
        }
    }

    /// Looks at the ledger and at the records that a call meets, and does nothing: the time is never right.
    pub(crate) async fn look(
        &self,
        of: Subject<'_>,
        request: Request,
    ) -> Result<Value, CommandError> {
        let mut arguments = vec![look(of.fields().len(), request.kind())];
        arguments.extend(of.fields());
        arguments.extend(request.ledger.into_iter().flat_map(Listed::arguments));
        let apply = &self.scripts.apply;
        let looked = self.run(apply, of.key, &request.keys, arguments, true, Lane::Shared).await;
        looked.map_err(CommandError::of_reading)
    }

    /// Sends an operation on the records in these fields.
    #[expect(clippy::too_many_arguments, reason = "all parts of a request")]
    pub(crate) async fn send(
        &self,
        script: &Script,
        key: &KeyId,
        operation: &Operation,
        fields: Vec<Vec<u8>>,
        shown: Vec<Vec<u8>>,
        stamps: [Stamp; 2],
        request: Request,
        lane: Lane,
    ) -> Result<Value, CommandError> {
        let (more, is_repeatable) = (request.keys.clone(), request.ledger.is_some());
        let arguments = arguments(operation, fields, shown, stamps, request);
        let sent = self.run(script, key, &more, arguments, is_repeatable, lane).await;
        sent.map_err(CommandError::of_several_writes)
    }

    /// Runs a script on the hot and the cold key, and on `more` keys.
    async fn run(
        &self,
        script: &Script,
        key: &KeyId,
        more: &[Vec<u8>],
        arguments: Vec<Vec<u8>>,
        is_repeatable: bool,
        lane: Lane,
    ) -> Result<Value, CommandError> {
        let keys = [&[self.keyspace.hot(key), self.keyspace.cold(key)], more].concat();
        let arguments = self.scripts.timed(arguments);
        // A call that is remembered by an id charges nothing when it is repeated.
        match is_repeatable {
            true => self.servers.run_repeatable(script, &keys, &arguments, lane).await,
            false => self.servers.run(script, &keys, &arguments, lane).await,
        }
    }

    /// Reads these fields of Redis keys, or without any the whole keys. The script has this name.
    pub(crate) async fn read_all(
        &self,
        name: &'static str,
        keys: &[Vec<u8>],
        fields: &[&str],
    ) -> Result<Value, CommandError> {
        let fields = fields.iter().map(|field| field.as_bytes().to_vec());
        let arguments = self.scripts.timed(fields.collect());
        let script = Script { name, ..self.scripts.read.clone() };
        let read = self.servers.run(&script, keys, &arguments, Lane::Apart).await;
        read.map_err(CommandError::of_reading)
    }

    /// Stores that windows of a key are rebased, after its clock was set right. A denial does no more than this.
    pub(crate) async fn rebase(
        &self,
        of: Subject<'_>,
        mut now: Timestamp,
        mut known: Known,
    ) -> Result<(), CommandError> {
        loop {
            let located = known.state.locate(of.asset);
            let Some(prepared) = prepare::rebase(&known.state, located, now) else { return Ok(()) };
            let reply = self.apply(of, &known, &prepared, now, Request::default()).await?;
            let layouts = known.layouts(prepared.places());
            let answer = self.answer(of, Answer::of(&reply, &layouts, false))?;
            if answer.ended == Ended::Compared {
                self.forget(of);
                return Ok(());
            }
            let found = self.read(of).await?;
            let Some(found_known) = found.known else { return Ok(()) };
            (now, known) = (found.now, found_known);
        }
    }

    /// An answer, or the error for what cannot be read of the key.
    pub(crate) fn answer<'a>(
        &self,
        of: Subject<'_>,
        answer: Result<Answer<'a>, Misread>,
    ) -> Result<Answer<'a>, CommandError> {
        match answer {
            Ok(answer) => {
                self.saw(answer.now);
                Ok(answer)
            }
            Err(misread) => {
                // Should what is at hand be to blame, the next call reads it again.
                self.forget(of);
                Err(self.misread(of.key, misread))
            }
        }
    }

    pub(crate) fn misread(&self, key: &KeyId, misread: Misread) -> CommandError {
        CommandError::Unknown(RedisError::misread(&self.keyspace.hot(key), misread))
    }
}

impl Subject<'_> {
    /// The fields of all records that a call may meet.
    pub(crate) fn fields(&self) -> Vec<Vec<u8>> {
        let of_asset = self.asset.map(|asset| [asset_field(asset), OTHER.to_vec()]);
        std::iter::once(GLOBAL.to_vec()).chain(of_asset.into_iter().flatten()).collect()
    }
}

/// The records at these places, each with whether it is the global one.
pub(crate) fn named<'a>(state: &'a KeyState, places: &[Place]) -> Vec<Named<'a>> {
    let named = |place: &Place| Some((*place == Place::Global, state.scope_at(*place)?.record()));
    places.iter().filter_map(named).collect()
}

/// The fields of the records at these places.
pub(crate) fn fields_of(state: &KeyState, places: &[Place]) -> Vec<Vec<u8>> {
    places.iter().map(|place| scope_field(&state.id_at(*place))).collect()
}

/// The fields that `take` is given for a group: that of the second record, and that of the asset.
pub(crate) fn take_fields(of: Subject<'_>, state: &KeyState, places: &[Place]) -> Vec<Vec<u8>> {
    let second = fields_of(state, places).into_iter().nth(1).unwrap_or_default();
    vec![second, of.asset.map(asset_field).unwrap_or_default()]
}

impl Request {
    /// The kind of ledger operation; 0 for none.
    fn kind(&self) -> u8 {
        self.ledger.as_ref().map_or(0, |ledger| ledger.kind)
    }
}

/// The arguments of `apply` for an operation on the records in these fields, which shows others if nothing was compared.
pub(crate) fn arguments(
    operation: &Operation,
    fields: Vec<Vec<u8>>,
    shown: Vec<Vec<u8>>,
    stamps: [Stamp; 2],
    request: Request,
) -> Vec<Vec<u8>> {
    let kind = request.kind();
    let Request { keys: _, not_after, guards, puts, drops, ledger, history } = request;
    let counted = Counted {
        shown: shown.len(),
        guards: guards.len(),
        puts: puts.len(),
        drops: drops.len(),
        ledger: kind,
        history,
    };
    let mut arguments = vec![packed(operation, stamps, not_after, counted)];
    arguments.extend(fields);
    arguments.extend(shown);
    for (key, field, value) in guards.into_iter().chain(puts) {
        arguments.extend([number(key), field, value]);
    }
    for (key, field) in drops {
        arguments.extend([number(key), field]);
    }
    arguments.extend(ledger.into_iter().flat_map(Listed::arguments));
    arguments
}

/// Puts the limits that differ between two states of a key, and drops the scopes that are gone.
pub(crate) fn put_changed(request: &mut Request, before: &KeyState, after: &KeyState) {
    let written = write_global(after);
    if written != write_global(before) {
        request.puts.push((COLD, GLOBAL.to_vec(), written));
    }
    let written = |state: &KeyState| -> BTreeMap<Vec<u8>, Vec<u8>> {
        let of_asset =
            |(id, listed, scope): (&AssetId, _, &_)| (asset_field(id), write_asset(scope, listed));
        let other = state.other().map(|scope| (OTHER.to_vec(), write_asset(scope, false)));
        state.assets().map(of_asset).chain(other).collect()
    };
    let (before, after) = (written(before), written(after));
    for (field, limits) in &after {
        if before.get(field) != Some(limits) {
            request.puts.push((COLD, field.clone(), limits.clone()));
        }
    }
    for field in before.keys().filter(|field| !after.contains_key(*field)) {
        request.drops.extend([(HOT, field.clone()), (COLD, field.clone())]);
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
    let known = found(at(0), at(1), at(2), asset)?;
    Ok(Found { now: time_of(now.0, now.1)?, known })
}

fn number(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}
