//! Scripts on the slot of a key: read its stored data, or do one operation on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::SystemTime;

use limiter_core::operation::{Guard, Operation};
use limiter_core::prepare::{self, Prepared};
use limiter_core::{AssetId, KeyId, KeyState, LevelPlace, Place, ScopeId, Timestamp, Window};
use redis::Value;

use crate::answer::{Answer, Ended, found};
use crate::cache::{KnownKeys, Workspaces};
use crate::error::{CommandError, RedisError};
use crate::keyspace::Keyspace;
use crate::plans::{KnownPlans, Listeners};
use crate::schema::{
    Counted, GLOBAL, Known, KnownLevels, Layout, Misread, NOT_AN_ANSWER, OTHER, Stamp, asset_field,
    bytes, look, packed, push_int, scope_field, time_of, write_asset, write_global,
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
    pub(crate) plans: Arc<KnownPlans>,
    pub(crate) listeners: Arc<Listeners>,
    /// The workspaces of open groups.
    pub(crate) workspaces: Arc<Workspaces>,
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

/// The levels of a key as they were at one instant; without `known` there is no such key.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) now: Timestamp,
    pub(crate) known: Option<KnownLevels>,
}

/// An operation, and all that is stored with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// The keys after the hot and the cold ones of its levels.
    pub(crate) keys: Vec<Vec<u8>>,
    /// The time of the server after which nothing may be done; 0 for none.
    pub(crate) not_after: u64,
    /// The number of a key, a field, and the value that it must have; nothing for none. Without a field, a key that must not be
    /// there.
    pub(crate) guards: Vec<(usize, Vec<u8>, Vec<u8>)>,
    pub(crate) puts: Vec<(usize, Vec<u8>, Vec<u8>)>,
    /// The number of a key, and a field that gets the time of the step.
    pub(crate) times: Vec<(usize, &'static str)>,
    /// The number of a key and a field; nothing for the whole key.
    pub(crate) drops: Vec<(usize, Vec<u8>)>,
    /// The numbers of the keys that are to live for a while at least.
    pub(crate) lives: Vec<(usize, Life)>,
    /// Of a level that begins with the operation: its number, from 1, and its records.
    pub(crate) begins: (usize, Vec<Vec<u8>>),
    /// Whether its calls make no request, so that an unregistered key is left as it is: without a trace, if it is new.
    pub(crate) makes_no_request: bool,
    pub(crate) ledger: Option<Listed>,
    /// The number of the key of closed days of the outermost level, which those of the others follow, and the end of the last one that is not kept.
    pub(crate) history: Option<(usize, Timestamp)>,
}

/// How long the Redis keys of an unregistered key live. [`GRACE_MS`] comes on top, should the clock step back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// When its windows have ended, by the clock of the server, in ms.
    pub(crate) until: i64,
    /// How long is remembered what comes with the request, in ms from then on.
    pub(crate) remembered: i64,
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
    /// The texts that ledger.lua describes for each kind.
    pub(crate) texts: Vec<Vec<u8>>,
    /// The slots of a reservation.
    pub(crate) slots: Option<SlotSets>,
}

/// The slots that a reservation takes, renews or frees.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotSets {
    /// The number of the key of each set, its level, and the most slots that may be held.
    pub(crate) sets: Vec<(usize, usize, u64)>,
    /// How long they are held, in ms.
    pub(crate) life: i64,
    /// The name of the reservation in all sets.
    pub(crate) holder: Vec<u8>,
    /// Whether a level in shadow is known to have none, so that the others go on without it.
    pub(crate) is_short: bool,
}

impl Listed {
    pub(crate) fn arguments(self) -> Vec<Vec<u8>> {
        let Self { kind, id, life, numbers: [most, other], mut texts, slots } = self;
        let mut numbers = Vec::with_capacity(21);
        for number in [life.unwrap_or(-1), most, other] {
            push_int::<7>(&mut numbers, number);
        }
        if kind != OF_NO_RESERVATION {
            texts.resize(2, Vec::new());
            texts.extend(slots.map_or_else(Default::default, SlotSets::arguments));
        }
        [vec![id, numbers], texts].concat()
    }
}

impl SlotSets {
    fn arguments(self) -> [Vec<u8>; 2] {
        let Self { sets, life, holder, .. } = self;
        let mut packed = Vec::with_capacity(8 + 9 * sets.len());
        packed.push(sets.len() as u8);
        push_int::<7>(&mut packed, life);
        for (key, level, limit) in sets {
            packed.extend([key as u8, level as u8]);
            push_int::<7>(&mut packed, limit.cast_signed());
        }
        [packed, holder]
    }
}

/// A clock that is set back by less finds the counts of an unregistered key whose windows have just ended.
const GRACE_MS: i64 = 60_000;
/// Redis takes no longer life.
const LONGEST_LIFE_MS: i64 = 1 << 50;
/// The kind of ledger operation that is about an id alone.
const OF_NO_RESERVATION: u8 = 1;
/// The number of the hot key of the outermost level in a [`Request`], and that of the cold one. Those of other levels follow.
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
        let plans = Arc::new(KnownPlans::new(scripts.manual_now().is_some()));
        Self {
            servers,
            keyspace,
            scripts,
            known,
            plans,
            listeners: Arc::default(),
            workspaces: Arc::new(Workspaces::new(most_known)),
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

    /// Reads the records that a call meets, when its levels have taken the latest versions of their plans.
    pub(crate) async fn read(&self, of: Subject<'_>) -> Result<Found, CommandError> {
        let mut found = self.read_as_is(of).await?;
        while let Some(known) = &found.known
            && !known.is_group()
            && self.catch_up(known.each(of.key), found.now).await?
        {
            found = self.read_as_is(of).await?;
        }
        Ok(found)
    }

    /// Reads the records that a call meets.
    pub(crate) async fn read_as_is(&self, of: Subject<'_>) -> Result<Found, CommandError> {
        let names = self.names_of(of.key);
        let read = &self.scripts.read;
        let reply = self.run(read, names, of.fields(), false, Lane::Shared).await?;
        let read = read_found(&reply, of).map_err(|(id, misread)| self.misread(&id, misread))?;
        let (now, levels) = read;
        self.saw(now);
        let found = Found { now, known: self.with_unregistered(of, levels, now).await? };
        match &found.known {
            Some(known) => self.learn(of, known),
            None => self.forget(of),
        }
        Ok(found)
    }

    /// What is known of all levels of a key, unless their plans may have changed.
    pub(crate) fn at_hand(&self, of: Subject<'_>) -> Option<KnownLevels> {
        let known = of.key.levels().map(|level| {
            let known = self.known.of(&level, of.asset.cloned());
            known.filter(|known| self.is_current(known))
        });
        let known = known.collect::<Option<_>>().map(KnownLevels::new);
        let known = known.filter(KnownLevels::is_in_place);
        known.filter(|known| !known.own().is_some_and(|own| own.may_begin_anew(self.now())))
    }

    pub(crate) fn learn(&self, of: Subject<'_>, known: &KnownLevels) {
        for (level, known) in of.key.levels().zip(known.iter().filter(|known| !known.is_new)) {
            self.known.learn(&level, of.asset.cloned(), Arc::clone(known));
        }
    }

    pub(crate) fn forget(&self, of: Subject<'_>) {
        for level in of.key.levels() {
            self.known.forget(&level, of.asset.cloned());
        }
    }

    /// The hot and the cold key of each level, the outermost first.
    pub(crate) fn names_of(&self, key: &KeyId) -> Vec<Vec<u8>> {
        let names = |level: KeyId| [self.keyspace.hot(&level), self.keyspace.cold(&level)];
        key.levels().flat_map(names).collect()
    }

    /// Does an operation on the records that a call meets: by `take`, if that can do it.
    pub(crate) async fn apply(
        &self,
        of: Subject<'_>,
        known: &KnownLevels,
        prepared: &Prepared,
        now: Timestamp,
        mut request: Request,
    ) -> Result<Value, CommandError> {
        let operation = prepared.operation();
        let places: Vec<_> = prepared.places().collect();
        let mut names = self.names_of(of.key);
        let mut stamps: Vec<_> = known.stamps().into_iter().map(|stamp| [stamp; 2]).collect();
        let is_registered = known.is_registered();
        let own = known.len() - 1;
        if known.is_new() {
            begin(known, &places, now, &mut request);
        } else if !is_registered {
            let life = known.own().map(|known| life_of(&known.state, now, &request));
            let hot = HOT + 2 * own;
            request.lives = life.into_iter().flat_map(|it| [(hot, it), (hot + 1, it)]).collect();
        }
        if is_rare(prepared, known, of) {
            let mut after = known.clone();
            prepared.put_limits(&mut after.met_mut(of));
            for (level, (before, after)) in known.iter().zip(after.iter()).enumerate() {
                let of_level = [HOT + 2 * level, COLD + 2 * level];
                if put_changed(&mut request, &before.state, &after.state, of_level)
                    && let Some([_, next]) = stamps.get_mut(level)
                {
                    *next = Stamp::draw();
                }
            }
        } else if (operation.soft.is_empty()
            || prepared.fits(&known.met(of), now) && !request.is_short_of_slots())
            // It refuses what does not fit in a level in shadow.
            && !known.is_new()
            && (is_registered || request.ledger.is_none())
            && let Some((shape, argument)) =
                Shape::of(operation, &known.stamps(), &named(known, &places), request.kind(), now)
            && (is_registered || !shape.rolls())
            && let Some(script) = self.scripts.take(&shape)
        {
            let mut arguments = take_fields(of, known, &places);
            arguments.push(argument);
            let is_repeatable = request.ledger.is_some();
            arguments.extend(request.ledger.into_iter().flat_map(Listed::arguments));
            names.extend(request.keys);
            let run = self.run(&script, names, arguments, is_repeatable, Lane::Shared);
            return run.await.map_err(CommandError::of_several_writes);
        }
        let fields = fields_of(known, &places);
        // An unregistered key has no history.
        let with_history = of.key.levels().take(known.len() - usize::from(!is_registered));
        self.close_days(with_history, operation, &mut request, names.len(), now);
        let apply = &self.scripts.apply;
        self.send(apply, names, operation, fields, of.fields(), &stamps, request, Lane::Shared)
            .await
    }

    /// Names the keys of closed days of these levels, if an operation may close one. So many keys come before those of the
    /// request.
    pub(crate) fn close_days(
        &self,
        levels: impl Iterator<Item = KeyId>,
        operation: &Operation,
        request: &mut Request,
        before: usize,
        now: Timestamp,
    ) {
        let windows = operation.steps.iter().flat_map(|step| &step.windows);
        let mut days = windows.filter(|of| of.window == Window::Day);
        if days.any(|of| matches!(of.guard, Guard::Roll(_) | Guard::Anew(..))) {
            // A day more than are kept: days have up to 25 hours.
            let kept_ms = (i64::from(self.history_days) + 1) * 25 * 3_600_000;
            let kept_after = Timestamp::from_unix_ms(now.unix_ms().saturating_sub(kept_ms));
            request.history = Some((before + request.keys.len() + 1, kept_after));
            request.keys.extend(levels.map(|level| self.keyspace.history(&level)));
        }
    }

    /// Looks at the ledger and at the records that a call meets, and does nothing: the time is never right.
    pub(crate) async fn look(
        &self,
        of: Subject<'_>,
        request: Request,
    ) -> Result<Value, CommandError> {
        let mut arguments = vec![look(of.key.depth(), of.fields().len(), request.kind())];
        arguments.extend(of.fields());
        arguments.extend(request.ledger.into_iter().flat_map(Listed::arguments));
        let mut names = self.names_of(of.key);
        names.extend(request.keys);
        let looked = self.run(&self.scripts.apply, names, arguments, true, Lane::Shared).await;
        looked.map_err(CommandError::of_reading)
    }

    /// Does what a request asks for, and nothing to records.
    pub(crate) async fn touch(
        &self,
        of: Subject<'_>,
        request: Request,
    ) -> Result<(), CommandError> {
        let (names, nothing) = (self.names_of(of.key), Operation::nothing());
        let stamps = vec![[Stamp::default(); 2]; of.key.depth()];
        let apply = &self.scripts.apply;
        let (none, shown) = (Vec::new(), Vec::new());
        let sent = self.send(apply, names, &nothing, none, shown, &stamps, request, Lane::Shared);
        sent.await.map(drop)
    }

    /// Sends an operation on the records in these fields, of the levels with these hot and cold keys.
    #[expect(clippy::too_many_arguments, reason = "all parts of a request")]
    pub(crate) async fn send(
        &self,
        script: &Script,
        mut names: Vec<Vec<u8>>,
        operation: &Operation,
        fields: Vec<Vec<u8>>,
        shown: Vec<Vec<u8>>,
        stamps: &[[Stamp; 2]],
        mut request: Request,
        lane: Lane,
    ) -> Result<Value, CommandError> {
        names.extend(std::mem::take(&mut request.keys));
        let is_repeatable = request.ledger.is_some();
        let arguments = arguments(operation, fields, shown, stamps, request);
        let sent = self.run(script, names, arguments, is_repeatable, lane).await;
        sent.map_err(CommandError::of_several_writes)
    }

    /// Runs a script on these keys.
    async fn run(
        &self,
        script: &Script,
        keys: Vec<Vec<u8>>,
        arguments: Vec<Vec<u8>>,
        is_repeatable: bool,
        lane: Lane,
    ) -> Result<Value, CommandError> {
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
        mut known: KnownLevels,
    ) -> Result<(), CommandError> {
        loop {
            let Some(prepared) = prepare::rebase(&known.met(of), now) else { return Ok(()) };
            // A denial makes no state of an unregistered key.
            let request = Request { makes_no_request: true, ..Request::default() };
            let reply = self.apply(of, &known, &prepared, now, request).await?;
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
        self.misread_at(&self.keyspace.hot(key), misread)
    }

    pub(crate) fn misread_at(&self, key: &[u8], misread: Misread) -> CommandError {
        CommandError::Unknown(RedisError::misread(key, misread))
    }
}

impl Subject<'_> {
    /// The fields of all records that a call may meet.
    pub(crate) fn fields(&self) -> Vec<Vec<u8>> {
        let of_asset = self.asset.map(|asset| [asset_field(asset), OTHER.to_vec()]);
        std::iter::once(GLOBAL.to_vec()).chain(of_asset.into_iter().flatten()).collect()
    }
}

/// The records at these places, each with its level and whether it is the global one.
pub(crate) fn named<'a>(known: &'a KnownLevels, places: &[LevelPlace]) -> Vec<Named<'a>> {
    let named = |at: &LevelPlace| {
        Some((at.level, at.place == Place::Global, known.scope_at(*at)?.record()))
    };
    places.iter().filter_map(named).collect()
}

/// The fields of the records at these places.
pub(crate) fn fields_of(known: &KnownLevels, places: &[LevelPlace]) -> Vec<Vec<u8>> {
    let field = |at: &LevelPlace| Some(scope_field(&known.level(at.level)?.state.id_at(at.place)));
    places.iter().filter_map(field).collect()
}

/// The fields that `take` is given for calls: of each level that of the second record, and that of the asset.
pub(crate) fn take_fields(
    of: Subject<'_>,
    known: &KnownLevels,
    places: &[LevelPlace],
) -> Vec<Vec<u8>> {
    let mut fields = vec![Vec::new(); known.len()];
    for (at, field) in places.iter().zip(fields_of(known, places)) {
        if at.place != Place::Global
            && let Some(of_level) = fields.get_mut(at.level)
        {
            *of_level = field;
        }
    }
    fields.push(of.asset.map(asset_field).unwrap_or_default());
    fields
}

/// Whether an operation changes what is configured: limits come into force, or a scope is not counted any more.
pub(crate) fn is_rare(prepared: &Prepared, known: &KnownLevels, of: Subject<'_>) -> bool {
    prepared.changes_limits() || prepared.dropped(&known.met(of)).next().is_some()
}

impl Request {
    /// The kind of ledger operation; 0 for none.
    fn kind(&self) -> u8 {
        self.ledger.as_ref().map_or(0, |ledger| ledger.kind)
    }

    fn is_short_of_slots(&self) -> bool {
        let slots = self.ledger.as_ref().and_then(|ledger| ledger.slots.as_ref());
        slots.is_some_and(|slots| slots.is_short)
    }
}

/// The arguments of `apply` for an operation on the records in these fields, which shows others if nothing was compared.
pub(crate) fn arguments(
    operation: &Operation,
    fields: Vec<Vec<u8>>,
    shown: Vec<Vec<u8>>,
    stamps: &[[Stamp; 2]],
    request: Request,
) -> Vec<Vec<u8>> {
    let kind = request.kind();
    let mut request = request;
    let (lives, begins) = (std::mem::take(&mut request.lives), std::mem::take(&mut request.begins));
    let Request { keys: _, not_after, guards, puts, times, drops, ledger, history, .. } = request;
    let (level, records) = begins;
    let counted = Counted {
        shown: shown.len(),
        guards: guards.len(),
        puts: puts.len() + times.len(),
        drops: drops.len(),
        lives: lives.len(),
        begins: level as u8,
        ledger: kind,
        history,
    };
    let mut arguments = vec![packed(operation, stamps, not_after, counted)];
    arguments.extend(fields);
    arguments.extend(shown);
    for (key, field, value) in guards.into_iter().chain(puts) {
        arguments.extend([number(key), field, value]);
    }
    for (key, field) in times {
        arguments.extend([format!("-{key}").into_bytes(), field.into(), Vec::new()]);
    }
    for (key, field) in drops {
        arguments.extend([number(key), field]);
    }
    for (key, Life { until, remembered }) in lives {
        let with_grace = |ms: i64| ms.saturating_add(GRACE_MS).to_string().into_bytes();
        arguments.extend([number(key), with_grace(until), with_grace(remembered)]);
    }
    arguments.extend(records);
    arguments.extend(ledger.into_iter().flat_map(Listed::arguments));
    arguments
}

/// Puts the limits that differ between two states of a level, and drops the scopes that are gone. Its hot and its cold key have
/// these numbers. Returns whether anything differs.
pub(crate) fn put_changed(
    request: &mut Request,
    before: &KeyState,
    after: &KeyState,
    [hot, cold]: [usize; 2],
) -> bool {
    let parts = |request: &Request| (request.puts.len(), request.drops.len());
    let unchanged = parts(request);
    let global = write_global(after);
    if global != write_global(before) {
        request.puts.push((cold, GLOBAL.to_vec(), global));
    }
    let (before, after) = (written(before), written(after));
    for (field, limits) in &after {
        if before.get(field) != Some(limits) {
            request.puts.push((cold, field.clone(), limits.clone()));
        }
    }
    for field in before.keys().filter(|field| !after.contains_key(*field)) {
        request.drops.extend([(hot, field.clone()), (cold, field.clone())]);
    }
    parts(request) != unchanged
}

/// Puts the cold fields of a new unregistered key, which has these numbers, and lets it live for as long as its windows do.
pub(crate) fn put_whole(
    request: &mut Request,
    new: &Known,
    now: Timestamp,
    [hot, cold]: [usize; 2],
) {
    let global = (GLOBAL.to_vec(), write_global(&new.state));
    let cold_fields = written(&new.state).into_iter().chain([global]);
    request.puts.extend(cold_fields.map(|(field, limits)| (cold, field, limits)));
    let life = life_of(&new.state, now, request);
    request.lives = vec![(hot, life), (cold, life)];
}

/// Lets an operation store a key that is not there yet; or, if its calls make no request, leave no trace of it.
fn begin(known: &KnownLevels, places: &[LevelPlace], now: Timestamp, request: &mut Request) {
    let Some(new) = known.own() else { return };
    let own = known.len() - 1;
    let (hot, cold) = (HOT + 2 * own, COLD + 2 * own);
    let record_of = |place: Place| {
        let record = new.state.scope_at(place)?.record();
        Some(Layout::of(place == Place::Global, record).write(new.stamp, &record.stored()))
    };
    let compared = places.iter().filter(|at| at.level == own).map(|at| at.place);
    let compared: Vec<Place> = compared.collect();
    request.begins = (own + 1, compared.iter().filter_map(|place| record_of(*place)).collect());
    request.guards.push((hot, Vec::new(), Vec::new()));
    if request.makes_no_request {
        request.drops.push((hot, Vec::new()));
        return;
    }
    // What may be left there belongs to no key.
    request.drops.push((cold, Vec::new()));
    for place in new.state.every_place().filter(|place| !compared.contains(place)) {
        let field = scope_field(&new.state.id_at(place));
        request.puts.extend(record_of(place).map(|record| (hot, field, record)));
    }
    put_whole(request, new, now, [hot, cold]);
}

/// The cold fields of the assets of a level, and of other assets.
fn written(state: &KeyState) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let of_asset = |(id, listed, scope): (&AssetId, _, &_)| {
        let parallel = state.parallel_limit(&ScopeId::asset(id.clone()));
        (asset_field(id), write_asset(scope, listed, parallel))
    };
    let other = state.other().map(|scope| (OTHER.to_vec(), write_asset(scope, false, None)));
    state.assets().map(of_asset).chain(other).collect()
}

/// How long an unregistered key is to live: until its windows and all that is remembered of it have ended.
fn life_of(state: &KeyState, now: Timestamp, request: &Request) -> Life {
    let remembered = request.ledger.as_ref().and_then(|ledger| ledger.life).unwrap_or(0);
    // What ends is remembered for a while again.
    let remembered = remembered.saturating_mul(2).min(LONGEST_LIFE_MS);
    Life { until: state.may_last_until(now).unix_ms(), remembered }
}

/// Reads what `read` answers for the fields of a call. An error comes with the level whose data is damaged.
fn read_found(reply: &Value, of: Subject<'_>) -> Result<Read, (KeyId, Misread)> {
    let of_key = |misread| (of.key.clone(), misread);
    let parts = match reply {
        Value::Array(parts) => parts.as_slice(),
        _ => &[],
    };
    let [seconds, micros, hashes @ ..] = parts else { return Err(of_key(NOT_AN_ANSWER)) };
    let now = bytes(seconds).zip(bytes(micros)).ok_or(NOT_AN_ANSWER);
    let now = now.and_then(|(seconds, micros)| time_of(seconds, micros)).map_err(of_key)?;
    let read = |level: &[Value]| {
        let [Value::Array(hot), Value::Array(cold)] = level else {
            return Err(Misread::WrongType);
        };
        let at =
            |number: usize| (hot.get(number).and_then(bytes), cold.get(number).and_then(bytes));
        found(at(0), at(1), at(2), of.asset)
    };
    let levels = of.key.levels().zip(hashes.chunks_exact(2));
    let levels = levels.map(|(id, level)| read(level).map_err(|misread| (id, misread)));
    let mut levels: Vec<_> = levels.collect::<Result<_, _>>()?;
    levels.resize_with(of.key.depth(), || None);
    Ok((now, levels))
}

/// The time, and of each level what is stored.
type Read = (Timestamp, Vec<Option<Known>>);

fn number(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use limiter_core::{Limits, Plan, PlanUpdate, StoredPlan};

    use super::*;

    /// The server takes its own time off: a client whose clock was behind once let the state of a caller expire too late, and one
    /// whose clock was ahead too early.
    #[test]
    fn a_life_has_the_same_end_whatever_time_the_client_believes_it_is() {
        let minute = Limits::builder().requests_per_minute(2).build().unwrap();
        let plan = PlanUpdate::new("each".parse().unwrap(), Plan::from(minute));
        let plan = StoredPlan::updated(None, &"home".parse().unwrap(), &plan, NOON);
        let state = KeyState::unregistered(&plan, NOON);
        for seconds in [0, 1, 59] {
            let now = NOON.after(Duration::from_secs(seconds));
            let life = life_of(&state, now, &Request::default());
            assert_eq!((life.until, life.remembered), (NOON.unix_ms() + 60_000, 0));
        }
    }

    const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
}
