//! Calls that are remembered by their ids: one operation each on the records and on the ledger.
//!
//! Repeating such an operation charges nothing. So, unlike a decision, one whose answer was lost is sent again. A flag of
//! a repetition may then mean that our own first try was the one that charged.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::prepare::{self, Prepared};
use limiter_core::{
    AssetId, Charge, Crossing, Decision, KeyId, Ledger, LedgerBounds, RecordId, RequestId,
    Reservation, ReservationError, Settled, SettledAs, StoreError, Timestamp, Totals, explain,
};
use lru::LruCache;
use parking_lot::Mutex;
use redis::Value;
use tokio::time::timeout;

use crate::answer::{Answer, Ended};
use crate::error::{CommandError, RedisError};
use crate::keys::{Keys, Listed, Request};
use crate::runtime;
use crate::schema::{
    Entry, Known, Layout, Misread, NOT_AN_ANSWER, after_windows, before_windows, bytes, ended,
    push_int, raised, read_entry, read_until,
};
use crate::scripts::Scripts;
use crate::servers::Lane;
use crate::unanswered::Unanswered;

/// Does what needs an id. A clone is the same connections.
#[derive(Clone, Debug)]
pub(crate) struct Remembering {
    pub(crate) keys: Keys,
    pub(crate) bounds: LedgerBounds,
    pub(crate) deadline: Duration,
    pub(crate) unanswered: Arc<Unanswered>,
    pub(crate) entries: Arc<Entries>,
}

/// Entries of reservations that this process has made or changed, as they were then. They save a settlement a trip.
#[derive(Debug)]
pub(crate) struct Entries(Mutex<LruCache<(KeyId, RequestId), Vec<u8>>>);

/// A key as it was, or as it is believed to be at an estimated time.
#[derive(Clone, Debug)]
struct AtHand {
    now: Timestamp,
    known: Arc<Known>,
    /// Whether a try has found it.
    is_found: bool,
}

/// The result of a try.
struct Tried {
    now: Timestamp,
    ended: Ended,
    applied: bool,
    /// The entry of the ledger, or the times at which it has room.
    entry: Option<Vec<u8>>,
    /// The key as it was before; `None` if there is none.
    known: Option<Known>,
}

impl Remembering {
    pub(crate) async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        let request = || Request {
            keys: vec![self.keys.keyspace.checks(key)],
            ledger: Some(Listed {
                kind: NEW_ID,
                id: bytes_of(id),
                life: Some(ms(self.bounds.dedupe)),
                numbers: [most(self.bounds.checks), 0],
                texts: vec![Vec::new()],
            }),
            ..Request::default()
        };
        self.within_deadline(async {
            let mut at_hand = self.at_hand(key, asset);
            loop {
                let prepared = at_hand.as_ref().and_then(|at| at.check(asset, charge));
                let tried =
                    self.ask(key, asset, at_hand.as_ref(), prepared.as_ref(), request()).await?;
                let Some(known) = tried.known else {
                    return Ok(Decision::key_unknown(Some(key), asset));
                };
                let (mut state, now) = (known.state.clone(), tried.now);
                let located = state.locate(asset);
                if tried.applied {
                    return Ok(explain::admitted(&mut state, located, charge, now));
                }
                if tried.ended == Ended::Listed {
                    return Ok(explain::replayed(&state, located, now));
                }
                if let Some(refused) = explain::refused(&state, key, located, charge, now) {
                    self.rebase(key, asset, now, known).await?;
                    return Ok(refused);
                }
                if tried.ended == Ended::Full {
                    return Err(self.full(CHECKS, self.bounds.checks, tried.entry.as_deref(), now));
                }
                at_hand = Some(AtHand::found(now, known));
            }
        })
        .await
    }

    pub(crate) async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        let confirmed = id.confirms.filter(|confirmed| *confirmed != id.id);
        let ledger = Listed {
            kind: NEW_ID,
            id: bytes_of(id.id),
            life: Some(ms(id.remembered_for)),
            numbers: [most(self.bounds.records), ms(self.bounds.dedupe)],
            texts: vec![confirmed.map(bytes_of).unwrap_or_default()],
        };
        let request = || Request {
            keys: vec![self.keys.keyspace.records(key)],
            ledger: Some(ledger.clone()),
            ..Request::default()
        };
        self.within_deadline(async {
            let mut at_hand = self.at_hand(key, asset);
            loop {
                let prepared = at_hand.as_ref().map(|AtHand { now, known, .. }| {
                    prepare::record(&known.state, known.state.locate(asset), charge, *now)
                });
                let tried =
                    self.ask(key, asset, at_hand.as_ref(), prepared.as_ref(), request()).await?;
                let Some(known) = tried.known else { return Err(ReservationError::KeyUnknown) };
                let now = tried.now;
                if tried.applied {
                    let mut state = known.state;
                    let located = state.locate(asset);
                    let committed = prepare::record(&state, located, charge, now)
                        .commit(&mut state, located, now);
                    return Ok(committed.map_or_else(Vec::new, |committed| committed.crossed));
                }
                match tried.ended {
                    Ended::Listed => return Ok(Vec::new()),
                    Ended::Full => {
                        let most = self.bounds.records;
                        return Err(self.full(RECORDS, most, tried.entry.as_deref(), now));
                    }
                    _ => at_hand = Some(AtHand::found(now, known)),
                }
            }
        })
        .await
    }

    pub(crate) async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        self.within_deadline(async {
            let mut at_hand = self.at_hand(key, asset);
            loop {
                let prepared = at_hand.as_ref().and_then(|at| at.check(asset, estimate));
                let (before, after) = match &prepared {
                    Some(prepared) => {
                        let [global, of_asset] = prepared.scopes_counted();
                        (before_windows(estimate, global, of_asset), after_windows(asset))
                    }
                    None => Default::default(),
                };
                let request = self.on_reservations(
                    key,
                    Listed {
                        kind: NEW_RESERVATION,
                        id: bytes_of(id),
                        life: Some(ms(ttl)),
                        numbers: [self.bounds.open, self.bounds.ended].map(most),
                        texts: vec![before.clone(), after.clone()],
                    },
                );
                let tried =
                    self.ask(key, asset, at_hand.as_ref(), prepared.as_ref(), request).await?;
                let Some(known) = tried.known else {
                    return Ok(Decision::key_unknown(Some(key), asset));
                };
                let (mut state, now) = (known.state.clone(), tried.now);
                let located = state.locate(asset);
                if tried.applied {
                    let decision = explain::admitted(&mut state, located, estimate, now);
                    if prepared.is_some_and(|prepared| !prepared.changes_limits()) {
                        let known = Known { state, ..known };
                        let until = now.after(ttl);
                        self.entries.learn(
                            key,
                            id,
                            whole_entry(until, before, &known, asset, after),
                        );
                    }
                    return Ok(decision);
                }
                if tried.ended == Ended::Listed {
                    let entry = self.entry(key, tried.entry.as_deref())?;
                    let (stored, entry) = entry.ok_or_else(|| self.misread(key, NOT_AN_ANSWER))?;
                    let listed = entry.reservation;
                    if listed.asset() != asset || listed.reserved() != estimate {
                        return Err(ReservationError::OtherExists(id.clone()));
                    }
                    self.entries.learn(key, id, stored);
                    return Ok(explain::replayed(&state, located, now));
                }
                if let Some(refused) = explain::refused(&state, key, located, estimate, now) {
                    self.rebase(key, asset, now, known).await?;
                    return Ok(refused);
                }
                if tried.ended == Ended::Full {
                    return Err(self.full_of_reservations(tried.entry.as_deref(), now));
                }
                at_hand = Some(AtHand::found(now, known));
            }
        })
        .await
    }

    pub(crate) async fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        self.within_deadline(async {
            let mut entry = self.entry_at_hand(key, id);
            let mut at_hand = None;
            let mut is_fresh = false;
            loop {
                let Some((stored, reservation)) = entry.take() else {
                    let found = self.find(key, id).await?;
                    let Some(found) = found else {
                        return Ok(Decision::key_unknown(Some(key), None));
                    };
                    (entry, at_hand, is_fresh) = (Some(found?), None, true);
                    continue;
                };
                let asset = reservation.asset().cloned();
                let asset = asset.as_ref();
                at_hand = at_hand.or_else(|| self.at_hand(key, asset));
                let (estimate, missing) = match reservation.raised(id, to) {
                    Ok(raised) => raised,
                    Err(error) if is_fresh => return Err(error),
                    // It may be another by now.
                    Err(_) => continue,
                };
                let prepared = at_hand.as_ref().and_then(|at| at.check(asset, &missing));
                let put = raised(&stored, &reservation, &estimate);
                let listed = Listed::known(id, None, stored.clone(), put.clone());
                let request = self.on_reservations(key, listed);
                let tried =
                    self.ask(key, asset, at_hand.as_ref(), prepared.as_ref(), request).await?;
                let Some(known) = tried.known else {
                    return Ok(Decision::key_unknown(Some(key), None));
                };
                let (mut state, now) = (known.state.clone(), tried.now);
                let located = state.locate(asset);
                if tried.applied {
                    self.entries.learn(key, id, [&stored[..UNTIL], &put].concat());
                    return Ok(explain::admitted(&mut state, located, &missing, now));
                }
                if tried.ended == Ended::Listed {
                    let found = self.living(key, id, tried.entry.as_deref(), now)??;
                    // Raised already, perhaps by a try of ours whose answer was lost: nothing more is charged.
                    let is_done =
                        found.1.raised(id, to).is_ok_and(|(_, more)| more == Charge::NOTHING);
                    let is_refused =
                        || explain::refused(&state, key, located, &Charge::NOTHING, now).is_some();
                    if is_done && found.1.asset() == asset && !is_refused() {
                        let before = state.clone();
                        let done = explain::admitted(&mut state, located, &Charge::NOTHING, now);
                        // Windows that have moved are to be stored.
                        if state == before {
                            self.entries.learn(key, id, found.0);
                            return Ok(done);
                        }
                    }
                    at_hand = (found.1.asset() == asset).then(|| AtHand::found(now, known));
                    (entry, is_fresh) = (Some(found), true);
                    continue;
                }
                if let Some(refused) = explain::refused(&state, key, located, &missing, now) {
                    self.rebase(key, asset, now, known).await?;
                    return Ok(refused);
                }
                entry = Some((stored, reservation));
                at_hand = Some(AtHand::found(now, known));
            }
        })
        .await
    }

    /// Settles with the actual totals, or cancels without.
    pub(crate) async fn end(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: Option<&Totals>,
    ) -> Result<Settled, ReservationError> {
        let ending = self.unanswered.start(key, id);
        let token = ending.token;
        let settled = self.within_deadline(async {
            let mut entry = self.entry_at_hand(key, id);
            let mut at_hand: Option<AtHand> = None;
            let (mut is_fresh, mut answered_at) = (false, self.keys.now());
            loop {
                let Some((stored, reservation)) = entry.take() else {
                    let found = self.find(key, id).await?.ok_or(ReservationError::KeyUnknown)?;
                    (entry, is_fresh, answered_at) = (Some(found?), true, self.keys.now());
                    continue;
                };
                let asset = reservation.asset().cloned();
                let asset = asset.as_ref();
                let (end, charge) = match reservation.ending(id, actual) {
                    Ok(ending) => ending,
                    Err(error) if is_fresh => return Err(error),
                    // It may be another by now.
                    Err(_) => continue,
                };
                if reservation.end().is_some() {
                    if !is_fresh {
                        continue;
                    }
                    let mut settled = Settled::repeated(asset.cloned(), charge, answered_at);
                    // A try of ours whose answer was lost was the first.
                    if read_entry(&stored).ok().and_then(|entry| entry.ended_by) == Some(token) {
                        settled.outcome = SettledAs::First;
                    }
                    return Ok(settled);
                }
                at_hand = at_hand.or_else(|| self.at_hand(key, asset));
                let prepared = at_hand.as_ref().map(|AtHand { now, known, .. }| {
                    reservation.prepare_end(&known.state, known.state.locate(asset), &charge, *now)
                });
                let put = ended(&reservation, end, token);
                let listed = Listed::known(id, Some(ms(self.bounds.dedupe)), stored.clone(), put);
                let request = self.on_reservations(key, listed);
                let tried =
                    self.ask(key, asset, at_hand.as_ref(), prepared.as_ref(), request).await?;
                let known = tried.known.ok_or(ReservationError::KeyUnknown)?;
                let now = tried.now;
                if tried.applied {
                    let mut state = known.state;
                    let located = state.locate(asset);
                    let prepared = reservation.prepare_end(&state, located, &charge, now);
                    let committed = prepared.commit(&mut state, located, now);
                    let crossed = committed.map_or_else(Vec::new, |committed| committed.crossed);
                    self.entries.forget(key, id);
                    return Ok(Settled::first(asset.cloned(), charge, now).crossing(crossed));
                }
                if tried.ended == Ended::Listed {
                    let found = self.living(key, id, tried.entry.as_deref(), now)??;
                    // The id may be that of a later reservation, of another asset.
                    at_hand = (found.1.asset() == asset).then(|| AtHand::found(now, known));
                    (entry, is_fresh) = (Some(found), true);
                } else {
                    entry = Some((stored, reservation));
                    at_hand = Some(AtHand::found(now, known));
                }
                answered_at = now;
            }
        });
        let settled = settled.await;
        if !matches!(settled, Err(ReservationError::Store(_))) {
            ending.answered();
        }
        settled
    }

    /// Everything that is remembered of a living key.
    pub(crate) async fn ledger(&self, key: &KeyId) -> Result<Option<Ledger>, StoreError> {
        let keyspace = &self.keys.keyspace;
        let keys = [
            keyspace.hot(key),
            keyspace.reservations(key),
            keyspace.open(key),
            keyspace.ended(key),
            keyspace.checks(key),
            keyspace.records(key),
        ];
        let arguments = self.keys.scripts.timed(Vec::new());
        let call = Scripts::call(&self.keys.scripts.read, &keys, &arguments);
        let reply =
            self.keys.servers.run(&call, Lane::Apart).await.map_err(CommandError::of_reading)?;
        let misread = |misread| CommandError::NotRun(RedisError::misread(&keys[1], misread)).into();
        read_ledger(&reply).map_err(misread)
    }

    /// Does an operation on the ledger and on the records of a call; without a prepared one it only looks.
    async fn ask(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        at_hand: Option<&AtHand>,
        prepared: Option<&Prepared>,
        request: Request,
    ) -> Result<Tried, ReservationError> {
        let failed = |error: CommandError| {
            self.keys.known.forget(key, asset);
            ReservationError::from(StoreError::from(error))
        };
        let misread = |misread| failed(self.keys.misread(key, misread));
        let reply = match (at_hand, prepared) {
            (Some(at), Some(prepared)) => {
                self.keys.apply(key, asset, &at.known, prepared, at.now, request.clone()).await
            }
            _ => self.keys.look(key, asset, request.clone()).await,
        };
        let reply = reply.map_err(failed)?;
        let answer = match at_hand.filter(|_| prepared.is_some()) {
            Some(at) => Answer::of(&reply, &at.known, asset, true),
            None => Answer::of_apply(&reply, 1 + usize::from(asset.is_some())),
        };
        let answer = self.keys.answer(key, asset, answer).map_err(failed)?;
        // Everything was as believed, up to whether it fits.
        let was_as_believed = matches!(answer.ended, Ended::Compared | Ended::Full);
        if !was_as_believed && !answer.is_whole(asset) {
            return Box::pin(self.ask(key, asset, None, None, request)).await;
        }
        let applied = answer.ended == Ended::Compared && answer.letters == b"A";
        let known = match at_hand {
            Some(at) if was_as_believed => Some(answer.before(&at.known, asset).map_err(misread)?),
            _ => answer.found(asset).map_err(misread)?,
        };
        match &known {
            // The operation has moved the windows: what is at hand stays good enough, unless the limits are others now.
            Some(_) if applied && prepared.is_some_and(Prepared::changes_limits) => {
                self.keys.known.forget(key, asset);
            }
            Some(known) => self.keys.known.learn(key, asset, Arc::new(known.clone())),
            None => self.keys.known.forget(key, asset),
        }
        let entry = answer.entry.map(<[u8]>::to_vec);
        Ok(Tried { now: answer.now, ended: answer.ended, applied, entry, known })
    }

    fn at_hand(&self, key: &KeyId, asset: Option<&AssetId>) -> Option<AtHand> {
        let known = self.keys.known.of(key, asset)?;
        Some(AtHand { now: self.keys.now(), known, is_found: false })
    }

    fn entry_at_hand(&self, key: &KeyId, id: &RequestId) -> Option<(Vec<u8>, Reservation)> {
        let stored = self.entries.of(key, id)?;
        let entry = read_entry(&stored).ok()?;
        Some((stored, entry.reservation))
    }

    /// Looks a reservation up; `None` if there is no such key.
    async fn find(
        &self,
        key: &KeyId,
        id: &RequestId,
    ) -> Result<Option<Result<(Vec<u8>, Reservation), ReservationError>>, ReservationError> {
        // No entry is like this, so that the answer shows the one that is there.
        let listed = Listed::known(id, None, Vec::new(), Vec::new());
        let request = self.on_reservations(key, listed);
        let tried = self.ask(key, None, None, None, request).await?;
        if tried.known.is_none() {
            return Ok(None);
        }
        self.living(key, id, tried.entry.as_deref(), tried.now).map(Some)
    }

    /// A reservation from its entry, if it is still remembered.
    fn living(
        &self,
        key: &KeyId,
        id: &RequestId,
        stored: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Result<(Vec<u8>, Reservation), ReservationError>, ReservationError> {
        let found = self.entry(key, stored)?.filter(|(_, entry)| entry.until > now);
        if found.is_none() {
            self.entries.forget(key, id);
        }
        Ok(match found {
            Some((stored, entry)) => Ok((stored, entry.reservation)),
            None => Err(ReservationError::Unknown(id.clone())),
        })
    }

    fn entry(
        &self,
        key: &KeyId,
        stored: Option<&[u8]>,
    ) -> Result<Option<(Vec<u8>, Entry)>, ReservationError> {
        let Some(stored) = stored else { return Ok(None) };
        let entry = read_entry(stored).map_err(|misread| self.misread(key, misread))?;
        Ok(Some((stored.to_vec(), entry)))
    }

    fn on_reservations(&self, key: &KeyId, listed: Listed) -> Request {
        let keyspace = &self.keys.keyspace;
        Request {
            keys: vec![keyspace.open(key), keyspace.reservations(key), keyspace.ended(key)],
            ledger: Some(listed),
            ..Request::default()
        }
    }

    async fn rebase(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        now: Timestamp,
        known: Known,
    ) -> Result<(), ReservationError> {
        self.keys
            .rebase(key, asset, now, known)
            .await
            .map_err(|error| StoreError::from(error).into())
    }

    fn misread(&self, key: &KeyId, misread: Misread) -> ReservationError {
        let key = self.keys.keyspace.reservations(key);
        StoreError::from(CommandError::Unknown(RedisError::misread(&key, misread))).into()
    }

    fn full(
        &self,
        what: &'static str,
        most: usize,
        room: Option<&[u8]>,
        at: Timestamp,
    ) -> ReservationError {
        let retry_at = room.and_then(|room| read_until(room).ok()).unwrap_or(Timestamp::MAX);
        ReservationError::TooMany { what, most, at, retry_at }
    }

    /// There is room when both sets have some: their times come together.
    fn full_of_reservations(&self, room: Option<&[u8]>, at: Timestamp) -> ReservationError {
        let mut rooms = room.unwrap_or_default().split(|byte| *byte == b',');
        let mut full = |what, most| {
            let room = rooms.next().filter(|room| !room.is_empty())?;
            Some(self.full(what, most, Some(room), at))
        };
        let open = full("open reservations of this key", self.bounds.open);
        let ended = full("ended reservations of this key", self.bounds.ended);
        let last = open.into_iter().chain(ended).max_by_key(ReservationError::retry_at);
        last.unwrap_or_else(|| self.full("reservations of this key", self.bounds.open, None, at))
    }

    async fn within_deadline<T>(
        &self,
        tries: impl Future<Output = Result<T, ReservationError>>,
    ) -> Result<T, ReservationError> {
        runtime::current().map_err(|error| StoreError::from(CommandError::NotRun(error)))?;
        let late = RedisError::Deadline { after: self.deadline };
        let tried = timeout(self.deadline, tries).await;
        tried.unwrap_or_else(|_| Err(StoreError::from(CommandError::Unknown(late)).into()))
    }
}

impl Listed {
    /// A reservation that must be as stored, and what takes its place.
    fn known(id: &RequestId, life: Option<i64>, stored: Vec<u8>, put: Vec<u8>) -> Self {
        let texts = vec![stored, put];
        Self { kind: KNOWN_RESERVATION, id: bytes_of(id), life, numbers: [0; 2], texts }
    }
}

impl AtHand {
    fn found(now: Timestamp, known: Known) -> Self {
        Self { now, known: Arc::new(known), is_found: true }
    }

    /// A check, unless the key may make no calls: then there is nothing to compare.
    ///
    /// The short form, without stops, is sent if what is at hand was not found by a try, or if it fits.
    fn check(&self, asset: Option<&AssetId>, charge: &Charge) -> Option<Prepared> {
        let (state, now) = (&self.known.state, self.now);
        if !state.is_usable(now) {
            return None;
        }
        let located = state.locate(asset);
        let short = prepare::check(state, located, &[*charge], false, now);
        if !self.is_found || short.fits(state, located, now) {
            return Some(short);
        }
        Some(prepare::check(state, located, &[*charge], true, now))
    }
}

impl Default for Entries {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST_ENTRIES)))
    }
}

impl Entries {
    fn of(&self, key: &KeyId, id: &RequestId) -> Option<Vec<u8>> {
        self.0.lock().get(&(key.clone(), id.clone())).cloned()
    }

    fn learn(&self, key: &KeyId, id: &RequestId, stored: Vec<u8>) {
        self.0.lock().put((key.clone(), id.clone()), stored);
    }

    fn forget(&self, key: &KeyId, id: &RequestId) {
        self.0.lock().pop(&(key.clone(), id.clone()));
    }

    /// All of them, the one that was used last at the end.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn all(&self) -> Vec<((KeyId, RequestId), Vec<u8>)> {
        let entries = self.0.lock();
        entries.iter().rev().map(|(id, entry)| (id.clone(), entry.clone())).collect()
    }

    /// These and no others.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn replace(&self, with: Vec<((KeyId, RequestId), Vec<u8>)>) {
        let mut entries = self.0.lock();
        entries.clear();
        with.into_iter().for_each(|(id, entry)| drop(entries.put(id, entry)));
    }
}

/// The entry of a new reservation, as the script writes it.
fn whole_entry(
    until: Timestamp,
    before: Vec<u8>,
    known: &Known,
    asset: Option<&AssetId>,
    after: Vec<u8>,
) -> Vec<u8> {
    let mut entry = Vec::with_capacity(128);
    push_int::<UNTIL>(&mut entry, until.unix_ms());
    entry.extend(before);
    for record in known.state.records_of(known.state.locate(asset)) {
        let layout = Layout::of(record);
        let stored = layout.write(known.stamp, record);
        entry.extend_from_slice(&stored[layout.prefix() - GENERATION..layout.identity()]);
    }
    entry.extend(after);
    entry
}

/// Reads what `read` answers for the keys of a ledger.
pub(crate) fn read_ledger(reply: &Value) -> Result<Option<Ledger>, Misread> {
    let Value::Array(parts) = reply else { return Err(NOT_AN_ANSWER) };
    let [_, _, key, parts @ ..] = parts.as_slice() else { return Err(NOT_AN_ANSWER) };
    let lists = parts.iter().map(|part| match part {
        Value::Array(list) => Ok(list.as_slice()),
        _ => Err(Misread::WrongType),
    });
    let lists: Vec<_> = lists.collect::<Result<_, _>>()?;
    let [reservations, open, ended, checks, records] = lists[..] else { return Err(NOT_AN_ANSWER) };
    if matches!(key, Value::Array(fields) if fields.is_empty()) {
        return Ok(None);
    }
    let mut ledger = Ledger::default();
    for pair in reservations.chunks_exact(2) {
        let (id, stored) = pair_of(pair)?;
        let Entry { until, reservation, .. } = read_entry(stored)?;
        ledger.remember_reservation(id, until, reservation);
    }
    for pair in checks.chunks_exact(2) {
        let (id, score) = pair_of(pair)?;
        ledger.remember_check(id, read_until(score)?);
    }
    for pair in records.chunks_exact(2) {
        let (id, score) = pair_of(pair)?;
        ledger.remember_record(id, read_until(score)?);
    }
    for (is_open, list) in [(true, open), (false, ended)] {
        let mut listed = Ledger::default();
        for pair in list.chunks_exact(2) {
            let (id, score) = pair_of(pair)?;
            listed.remember_check(id, read_until(score)?);
        }
        let of_kind = ledger.reservations().filter(|(_, _, it)| it.end().is_none() == is_open);
        if !of_kind.map(|(id, until, _)| (id, until)).eq(listed.checks()) {
            return Err(Misread::Corrupt("reservations that are not listed by their time"));
        }
    }
    Ok(Some(ledger))
}

fn pair_of(pair: &[Value]) -> Result<(RequestId, &[u8]), Misread> {
    let [id, value] = pair else { return Err(NOT_AN_ANSWER) };
    let (id, value) = bytes(id).zip(bytes(value)).ok_or(NOT_AN_ANSWER)?;
    let id = str::from_utf8(id).ok().and_then(|id| id.parse().ok());
    Ok((id.ok_or(Misread::Corrupt("an id that is none"))?, value))
}

fn ms(life: Duration) -> i64 {
    i64::try_from(life.as_millis()).unwrap_or(LONGEST_MS).min(LONGEST_MS)
}

fn most(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(MOST).min(MOST)
}

fn bytes_of(id: &RequestId) -> Vec<u8> {
    id.as_str().as_bytes().to_vec()
}

/// The kinds of ledger operations.
const NEW_ID: u8 = 1;
const NEW_RESERVATION: u8 = 2;
const KNOWN_RESERVATION: u8 = 3;
const CHECKS: &str = "checks with a request id of this key";
const RECORDS: &str = "records of this key";
/// The bytes of the time until which an entry is remembered, and of a generation.
const UNTIL: usize = 7;
const GENERATION: usize = 4;
/// From whatever time there is, this leads beyond the last; and a script reads it exactly.
const LONGEST_MS: i64 = 1 << 54;
/// More than a server holds; and a script reads it exactly.
const MOST: i64 = 1 << 31;
/// Some 6 MB at most. The settlement of one that is forgotten takes another trip.
const MOST_ENTRIES: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();
