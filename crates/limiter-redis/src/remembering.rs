//! Calls that are remembered by their ids: one operation each on the records and on the ledger.
//!
//! Repeating such an operation charges nothing. So, unlike a decision, one whose answer was lost is sent again. A flag of
//! a repetition may then mean that our own first try was the one that charged.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::prepare::{self, Prepared};
use limiter_core::{
    AssetId, Charge, Crossing, Decision, Grant, GrantTerms, KeyId, Ledger, LedgerBounds,
    LevelPlace, LevelSet, Parallel, RecordId, RequestId, Reservation, ReservationError, ScopeId,
    Settled, SettledAs, Slots, StoreError, Timestamp, Totals, explain, grant,
};
use parking_lot::Mutex;
use redis::Value;
use tokio::time::timeout;

use crate::answer::{Answer, Ended};
use crate::cache::Entries;
use crate::error::{CommandError, RedisError};
use crate::keys::{Keys, Listed, Request, SlotSets, Subject, named};
use crate::records::Records;
use crate::runtime;
use crate::schema::{
    Entry, GENERATION, Known, KnownLevels, Layout, Misread, NOT_AN_ANSWER, REMEMBERED, Stamp,
    after_windows, amended, before_windows, bytes, ended, push_int, read_entry, read_until,
};
use crate::unanswered::Unanswered;

/// Operations on reservations and calls with ids. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Remembering {
    keys: Keys,
    bounds: LedgerBounds,
    deadline: Duration,
    unanswered: Arc<Unanswered>,
    pub(crate) entries: Arc<Entries>,
}

/// A key as it was, or as it is believed to be at an estimated time.
#[derive(Clone, Debug)]
struct AtHand {
    now: Timestamp,
    known: KnownLevels,
    /// Whether a try has found it.
    is_found: bool,
    /// The parallel limits as that try has found them.
    parallel: Vec<Parallel>,
}

/// The result of a try.
struct Tried {
    now: Timestamp,
    ended: Ended,
    /// If it was applied, the levels in shadow in which it did not fit.
    applied: Option<LevelSet>,
    /// The entry of the ledger, or the times at which it has room.
    entry: Option<Vec<u8>>,
    /// Of each set of slots how many are held, and when one is free if none is.
    open: Vec<(u64, Option<Timestamp>)>,
    /// Of a reservation, the parallel limits that it meets.
    parallel: Vec<Parallel>,
    /// The key as it was before.
    known: KnownLevels,
}

/// The parallel limits that a reservation asks for slots of: of each the level, the scope and the limit.
type Asked = Vec<(usize, ScopeId, u64)>;

/// A reservation, and its entry.
type Stored = (Vec<u8>, Reservation);

/// The reservation that a call changes or ends, as the last try has found it.
struct Reserved {
    stored: Option<Stored>,
    at_hand: Option<AtHand>,
    /// Whether a try has found the reservation.
    is_fresh: bool,
    /// When that was, or else the estimated time.
    seen_at: Timestamp,
}

impl Remembering {
    pub(crate) fn new(keys: Keys, bounds: LedgerBounds, deadline: Duration) -> Self {
        let (unanswered, entries) = (Arc::default(), Arc::new(Entries::new(MOST_ENTRIES)));
        Self { keys, bounds, deadline, unanswered, entries }
    }

    pub(crate) async fn check_once(
        &self,
        of: Subject<'_>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        let [.., checks, _] = self.keys.keyspace.ledger(of.key);
        let request = |_: Option<&Prepared>, _: Option<&AtHand>| Request {
            keys: vec![checks.clone()],
            ledger: Some(Listed {
                kind: NEW_ID,
                id: bytes_of(id),
                life: Some(ms(self.bounds.dedupe)),
                numbers: [most(self.bounds.checks), 0],
                texts: vec![Vec::new()],
                slots: None,
            }),
            ..Request::default()
        };
        let checked = self.admit(of, charge, false, request, |tried| {
            let Tried { now, applied, ended, entry, mut known, .. } = tried;
            if let Some(spared) = applied {
                return Ok(explain::admitted(&mut known.met_mut(of), charge, spared, now));
            }
            match ended {
                Ended::Listed => Ok(explain::replayed(&known.met(of), now)),
                _ => Err(self.full(CHECKS, self.bounds.checks, entry.as_deref(), now)),
            }
        });
        self.within_deadline(checked).await.or_else(|error| unknown(of, error))
    }

    pub(crate) async fn record(
        &self,
        of: Subject<'_>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        let confirmed = id.confirms.filter(|confirmed| *confirmed != id.id);
        let [.., records] = self.keys.keyspace.ledger(of.key);
        let request = || Request {
            keys: vec![records.clone()],
            ledger: Some(Listed {
                kind: NEW_ID,
                id: bytes_of(id.id),
                life: Some(ms(id.remembered_for)),
                numbers: [most(self.bounds.records), ms(self.bounds.dedupe)],
                texts: vec![confirmed.map(bytes_of).unwrap_or_default()],
                slots: None,
            }),
            ..Request::default()
        };
        self.within_deadline(async {
            let (mut at_hand, mut is_there) = (self.at_hand(of), false);
            loop {
                if charge.requests() == 0 {
                    at_hand = self.for_no_request(of, at_hand, &mut is_there).await?;
                }
                let prepared = at_hand.as_ref().map(|AtHand { now, known, .. }| {
                    prepare::record(&known.met(of), charge, LevelSet::NONE, *now)
                });
                let tried = self.ask(of, at_hand.as_ref(), prepared.as_ref(), request()).await?;
                let Tried { now, ended, applied, entry, mut known, .. } = tried;
                if applied.is_some() {
                    let prepared = prepare::record(&known.met(of), charge, LevelSet::NONE, now);
                    let committed = prepared.commit(&mut known.met_mut(of), now);
                    return Ok(committed.map_or_else(Vec::new, |committed| committed.crossed));
                }
                match ended {
                    Ended::Listed => return Ok(Vec::new()),
                    Ended::Full => {
                        let most = self.bounds.records;
                        return Err(self.full(RECORDS, most, entry.as_deref(), now));
                    }
                    _ => at_hand = Some(AtHand::found(now, known)),
                }
            }
        })
        .await
    }

    pub(crate) async fn reserve(
        &self,
        of: Subject<'_>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        let Subject { key, asset } = of;
        // The entry of the last try, if the limits stay as they are.
        let entry = Mutex::new(None);
        let request = |prepared: Option<&Prepared>, at: Option<&AtHand>| {
            let asked = at.map_or_else(Vec::new, |at| at.known.asked(of));
            let slots = asked.iter().map(|(level, scope, _)| (*level, scope.scope));
            let slots = slots.fold(Slots::NONE, |slots, (level, scope)| slots.with(level, scope));
            let texts = prepared.zip(at).map_or_else(Default::default, |(prepared, at)| {
                [before_windows(estimate, slots, prepared, &at.known), after_windows(asset)]
            });
            let stays = prepared.filter(|prepared| !prepared.changes_limits());
            *entry.lock() =
                stays.map(|prepared| (texts.clone(), prepared.places().collect::<Vec<_>>()));
            let listed = Listed {
                kind: NEW_RESERVATION,
                id: bytes_of(id),
                life: Some(ms(ttl)),
                numbers: [self.bounds.open, self.bounds.ended].map(most),
                texts: texts.into(),
                slots: None,
            };
            let is_short = at.is_some_and(|at| at.parallel.iter().any(Parallel::is_full));
            self.with_slots(of, id, listed, asked, ttl.min(self.bounds.slots), is_short)
        };
        let reserved = self.admit(of, estimate, true, request, |tried| {
            let Tried { now, applied, ended, entry: stored, parallel, mut known, .. } = tried;
            if let Some(spared) = applied {
                let decision = {
                    let mut levels = known.met_mut(of);
                    explain::admitted(&mut levels.reserving(&parallel), estimate, spared, now)
                };
                if let Some((texts, places)) = entry.lock().take() {
                    let stored = whole_entry(now.after(ttl), spared, texts, &known, &places);
                    self.entries.learn(key, id.clone(), stored);
                }
                return Ok(decision);
            }
            if ended == Ended::Full {
                return Err(self.full_of_reservations(stored.as_deref(), now));
            }
            let stored =
                self.entry(key, stored)?.ok_or_else(|| self.misread(key, NOT_AN_ANSWER))?;
            let (stored, Entry { reservation: listed, .. }) = stored;
            if listed.asset() != asset || listed.reserved() != estimate {
                return Err(ReservationError::OtherExists(id.clone()));
            }
            self.entries.learn(key, id.clone(), stored);
            Ok(explain::replayed(&known.met(of).reserving(&parallel), now))
        });
        self.within_deadline(reserved).await.or_else(|error| unknown(of, error))
    }

    pub(crate) async fn amend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        let decided = self.within_deadline(async {
            let mut reserved = self.reserved(key, id);
            loop {
                let (stored, reservation) = reserved.next(self, key, id).await?;
                let of = Subject { key, asset: reservation.asset() };
                let (estimate, added) = match reservation.amended(id, to) {
                    Ok(amended) => amended,
                    Err(error) if reserved.is_fresh => return Err(error),
                    // It may be another by now.
                    Err(_) => continue,
                };
                let at_hand = reserved.at_hand.take().or_else(|| self.at_hand(of));
                // Where nothing may be added, there is nothing to compare.
                let may_be =
                    |at: &&AtHand| added == Charge::NOTHING || at.known.met(of).may_add(at.now);
                let prepared =
                    at_hand.as_ref().filter(may_be).map(|AtHand { now, known, .. }| {
                        reservation.prepare_amendment(&known.met(of), &estimate, *now)
                    });
                let put = amended(&stored, &reservation, &estimate);
                let listed = Listed::known(id, None, stored.clone(), put.clone());
                let request = self.with_own_slots(of, id, listed, &reservation);
                let tried = self.ask(of, at_hand.as_ref(), prepared.as_ref(), request).await?;
                let Tried { now, ended, applied, entry, known, .. } = tried;
                let mut after = known.clone();
                if applied.is_some() {
                    self.entries.learn(key, id.clone(), [&stored[..REMEMBERED], &put].concat());
                    return Ok(reservation.amend(&mut after.met_mut(of), &estimate, now));
                }
                if ended == Ended::Listed {
                    let found = self.living(key, id, entry, now)?;
                    // Amended already, perhaps by a try of ours whose answer was lost: nothing more is charged.
                    let is_done = found.1.asset() == of.asset
                        && found.1.slots().is_empty()
                        && found.1.amended(id, to).is_ok_and(|(to, _)| to == *found.1.estimate());
                    if is_done {
                        let done = found.1.amend(&mut after.met_mut(of), found.1.estimate(), now);
                        // Windows that have moved are to be stored.
                        let states = known.iter().zip(after.iter());
                        if states.into_iter().all(|(before, after)| before.state == after.state) {
                            self.entries.learn(key, id.clone(), found.0);
                            return Ok(done);
                        }
                    }
                    reserved.found(found, of.asset, now, known);
                    continue;
                }
                let refused = {
                    let levels = known.met(of);
                    let again = reservation.prepare_amendment(&levels, &estimate, now);
                    reservation.refuses(&levels, &again, &added, now)
                };
                if let Some(refused) = refused {
                    self.rebase(of, now, known).await?;
                    if refused.is_allowed() && !reservation.slots().is_empty() {
                        self.renew_slots(of, id, stored, &reservation).await?;
                    }
                    return Ok(refused);
                }
                reserved.again((stored, reservation), now, known);
            }
        });
        decided.await.or_else(|error| unknown(Subject { key, asset: None }, error))
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
            let mut reserved = self.reserved(key, id);
            loop {
                let (stored, reservation) = reserved.next(self, key, id).await?;
                let of = Subject { key, asset: reservation.asset() };
                let (end, charge) = match reservation.ending(id, actual) {
                    Ok(ending) => ending,
                    Err(error) if reserved.is_fresh => return Err(error),
                    // It may be another by now.
                    Err(_) => continue,
                };
                let asset = of.asset.cloned();
                if reservation.end().is_some() {
                    if !reserved.is_fresh {
                        continue;
                    }
                    let mut settled = Settled::repeated(asset, charge, reserved.seen_at);
                    // A try of ours whose answer was lost was the first.
                    if read_entry(&stored).ok().and_then(|entry| entry.ended_by) == Some(token) {
                        settled.outcome = SettledAs::First;
                    }
                    return Ok(settled);
                }
                let at_hand = reserved.at_hand.take().or_else(|| self.at_hand(of));
                let prepared = at_hand.as_ref().map(|AtHand { now, known, .. }| {
                    reservation.prepare_end(&known.met(of), &charge, *now)
                });
                let put = ended(&reservation, end, token);
                let listed = Listed::known(id, Some(ms(self.bounds.dedupe)), stored.clone(), put);
                let request = self.with_own_slots(of, id, listed, &reservation);
                let tried = self.ask(of, at_hand.as_ref(), prepared.as_ref(), request).await?;
                let Tried { now, ended, applied, entry, mut known, .. } = tried;
                if applied.is_some() {
                    let prepared = reservation.prepare_end(&known.met(of), &charge, now);
                    let committed = prepared.commit(&mut known.met_mut(of), now);
                    let crossed = committed.map_or_else(Vec::new, |committed| committed.crossed);
                    self.entries.forget(key, id.clone());
                    return Ok(Settled::first(asset, charge, now).crossing(crossed));
                }
                if ended == Ended::Listed {
                    reserved.found(self.living(key, id, entry, now)?, of.asset, now, known);
                } else {
                    reserved.again((stored, reservation), now, known);
                }
            }
        });
        let settled = settled.await;
        if !matches!(settled, Err(ReservationError::Store(_))) {
            ending.answered();
        }
        settled
    }

    pub(crate) async fn grant(
        &self,
        of: Subject<'_>,
        terms: &GrantTerms,
        id: &RequestId,
    ) -> Result<Option<Grant>, StoreError> {
        let granted = self.within_deadline(async {
            if terms.held != Charge::NOTHING {
                return self.raise(of, terms, id).await;
            }
            let mut at_hand = self.at_hand(of);
            loop {
                let sized = at_hand
                    .as_ref()
                    .and_then(|at| grant::prepare(&at.known.met(of), terms, at.now));
                let is_found = at_hand.as_ref().is_some_and(|at| at.is_found);
                if is_found && sized.is_none() {
                    return Ok(None);
                }
                let texts = sized.as_ref().zip(at_hand.as_ref());
                let texts = texts.map(|((charge, prepared), at)| {
                    let before = before_windows(charge, Slots::NONE, prepared, &at.known);
                    [before, after_windows(of.asset)]
                });
                let listed = Listed {
                    kind: NEW_RESERVATION,
                    id: bytes_of(id),
                    life: Some(ms(grant::remembered_for(terms))),
                    numbers: [self.bounds.open, self.bounds.ended].map(most),
                    texts: texts.clone().unwrap_or_default().into(),
                    slots: None,
                };
                let prepared = sized.as_ref().map(|(_, prepared)| prepared);
                let request = self.on_reservations(of.key, listed);
                let tried = self.ask(of, at_hand.as_ref(), prepared, request).await?;
                let Tried { now, ended, applied, entry, mut known, .. } = tried;
                if let (Some(_), Some((charge, prepared)), Some(texts)) = (applied, &sized, texts) {
                    let granted = grant::granted(&mut known.met_mut(of), charge, terms, now);
                    if !prepared.changes_limits() {
                        let places: Vec<_> = prepared.places().collect();
                        let until = now.after(grant::remembered_for(terms));
                        let stored = whole_entry(until, LevelSet::NONE, texts, &known, &places);
                        self.entries.learn(of.key, id.clone(), stored);
                    }
                    return Ok(granted);
                }
                match ended {
                    // A try of ours whose answer was lost.
                    Ended::Listed => {
                        let (stored, entry) = self
                            .entry(of.key, entry)?
                            .ok_or_else(|| self.misread(of.key, NOT_AN_ANSWER))?;
                        let granted = entry.reservation.granted_again(&known.met(of), terms, now);
                        self.entries.learn(of.key, id.clone(), stored);
                        return Ok(granted);
                    }
                    Ended::Full => return Ok(None),
                    // Others use up what is left: then this process has to ask for each call.
                    Ended::Compared if is_found => return Ok(None),
                    _ => at_hand = Some(AtHand::found(now, known)),
                }
            }
        });
        match granted.await {
            Err(ReservationError::KeyUnknown | ReservationError::Unknown(_)) => Ok(None),
            granted => granted.map_err(of_store),
        }
    }

    /// Raises a grant, or repeats it if it is not what its holder knows.
    async fn raise(
        &self,
        of: Subject<'_>,
        terms: &GrantTerms,
        id: &RequestId,
    ) -> Result<Option<Grant>, ReservationError> {
        let remembered_for = grant::remembered_for(terms);
        let mut reserved = self.reserved(of.key, id);
        loop {
            let (stored, held) = reserved.next(self, of.key, id).await?;
            let is_known = *held.estimate() == terms.held;
            let at_hand = reserved.at_hand.take().or_else(|| self.at_hand(of));
            let sized = at_hand.as_ref().and_then(|AtHand { now, known, .. }| {
                let may_be = is_known && held.may_be_raised(&known.met(of), *now);
                may_be.then(|| grant::prepare(&known.met(of), terms, *now)).flatten()
            });
            let to = sized.as_ref().map_or(terms.held, |(charge, _)| terms.held.plus(charge));
            let put = amended(&stored, &held, &to);
            let listed = Listed::known(id, Some(ms(remembered_for)), stored.clone(), put.clone());
            let prepared = sized.as_ref().map(|(_, prepared)| prepared);
            let request = self.on_reservations(of.key, listed);
            let tried = self.ask(of, at_hand.as_ref(), prepared, request).await?;
            let Tried { now, ended, applied, entry, mut known, .. } = tried;
            if let (Some(_), Some((charge, _))) = (applied, &sized) {
                let mut raised = Vec::with_capacity(stored.len());
                push_int::<UNTIL>(&mut raised, now.after(remembered_for).unix_ms());
                raised.extend_from_slice(&stored[UNTIL..REMEMBERED]);
                raised.extend(put);
                self.entries.learn(of.key, id.clone(), raised);
                return Ok(grant::granted(&mut known.met_mut(of), charge, terms, now));
            }
            if ended == Ended::Listed {
                reserved.found(self.living(of.key, id, entry, now)?, of.asset, now, known);
            } else if !is_known {
                return Ok(held.granted_again(&known.met(of), terms, now));
            } else if at_hand.is_some_and(|at| at.is_found)
                || !held.may_be_raised(&known.met(of), now)
            {
                return Ok(None);
            } else {
                reserved.again((stored, held), now, known);
            }
        }
    }

    pub(crate) async fn hand_back(
        &self,
        key: &KeyId,
        id: &RequestId,
        used: &Charge,
    ) -> Result<(), StoreError> {
        let handed_back = self.within_deadline(async {
            let mut reserved = self.reserved(key, id);
            loop {
                let (stored, reservation) = reserved.next(self, key, id).await?;
                if reservation.end().is_some() {
                    return Ok(());
                }
                let of = Subject { key, asset: reservation.asset() };
                let at_hand = reserved.at_hand.take().or_else(|| self.at_hand(of));
                let prepared = at_hand.as_ref().map(|AtHand { now, known, .. }| {
                    reservation.prepare_hand_back(&known.met(of), used, *now)
                });
                let listed = Listed::known(id, None, stored.clone(), FORGOTTEN);
                let request = self.on_reservations(key, listed);
                let tried = self.ask(of, at_hand.as_ref(), prepared.as_ref(), request).await?;
                let Tried { now, ended, applied, entry, known, .. } = tried;
                if applied.is_some() {
                    self.entries.forget(key, id.clone());
                    return Ok(());
                }
                if ended == Ended::Listed {
                    reserved.found(self.living(key, id, entry, now)?, of.asset, now, known);
                } else {
                    reserved.again((stored, reservation), now, known);
                }
            }
        });
        match handed_back.await {
            Err(ReservationError::KeyUnknown | ReservationError::Unknown(_)) => Ok(()),
            handed_back => handed_back.map_err(of_store),
        }
    }

    /// Everything that is remembered of a living key.
    pub(crate) async fn ledger(&self, key: &KeyId) -> Result<Option<Ledger>, StoreError> {
        let keyspace = &self.keys.keyspace;
        let keys = [&[keyspace.hot(key)][..], &keyspace.ledger(key)].concat();
        let reply = self.keys.read_all("read", &keys, &[]).await?;
        let misread = |misread| CommandError::NotRun(RedisError::misread(&keys[1], misread)).into();
        read_ledger(&reply).map_err(misread)
    }

    /// Checks a call with a new id, in as many tries as needed. `explain` has the last one: it was applied, or the ledger
    /// has the id or is full.
    async fn admit(
        &self,
        of: Subject<'_>,
        charge: &Charge,
        reserves: bool,
        request: impl Fn(Option<&Prepared>, Option<&AtHand>) -> Request,
        explain: impl FnOnce(Tried) -> Result<Decision, ReservationError>,
    ) -> Result<Decision, ReservationError> {
        let (mut at_hand, mut only_looks) = (self.at_hand(of), false);
        let mut is_there = false;
        loop {
            if charge.requests() == 0 {
                at_hand = self.for_no_request(of, at_hand, &mut is_there).await?;
            }
            let compared = at_hand.as_ref().filter(|_| !std::mem::take(&mut only_looks));
            let prepared = compared.and_then(|at| at.check(of, charge));
            let request = request(prepared.as_ref(), at_hand.as_ref());
            let mut tried = self.ask(of, at_hand.as_ref(), prepared.as_ref(), request).await?;
            if reserves {
                let asked = at_hand.as_ref().map_or_else(Vec::new, |at| at.known.asked(of));
                if tried.known.asked(of) != asked {
                    // Nothing was done, and the slots that count now are not seen yet.
                    at_hand = Some(AtHand::found(tried.now, tried.known));
                    continue;
                }
                tried.parallel = with_limits(&asked, &tried.open);
            }
            if tried.applied.is_some() || tried.ended == Ended::Listed {
                return explain(tried);
            }
            let now = tried.now;
            let refused = {
                let levels = tried.known.met(of);
                explain::refused(&levels.reserving(&tried.parallel), charge, now)
            };
            if let Some(refused) = refused {
                // The retry may look at limits that the operation did not compare: those are read first.
                let places = prepared.iter().flat_map(Prepared::places).collect::<Vec<_>>();
                if !places.is_empty() && tried.known.leaves_out_other(of.asset, &places) {
                    (at_hand, only_looks) = (Some(AtHand::found(now, tried.known)), true);
                    continue;
                }
                self.rebase(of, now, tried.known).await?;
                return Ok(refused);
            }
            if tried.ended == Ended::Full {
                return explain(tried);
            }
            let parallel = tried.parallel;
            at_hand = Some(AtHand { parallel, ..AtHand::found(now, tried.known) });
        }
    }

    /// The levels of a call that makes no request and is to be remembered. Of an unregistered key, which has no state yet or none
    /// any more, it cannot be. That counts as it stood before it takes another version of its plan: once it `is_there`, it is.
    async fn for_no_request(
        &self,
        of: Subject<'_>,
        at_hand: Option<AtHand>,
        is_there: &mut bool,
    ) -> Result<Option<AtHand>, ReservationError> {
        if *is_there && at_hand.as_ref().is_some_and(|at| !at.known.is_new()) {
            return Ok(at_hand);
        }
        if of.key.is_root() || at_hand.as_ref().is_some_and(|at| at.known.is_registered()) {
            return Ok(at_hand);
        }
        // All its scopes count, as they are before it takes another version of its plan.
        let whole = Records::new(self.keys.clone()).unregistered(of.key).await;
        if let Some((now, whole)) = whole.map_err(StoreError::from)? {
            if whole.state.is_over(now) {
                return Err(ReservationError::KeyUnknown);
            }
            *is_there = true;
            return Ok(at_hand);
        }
        // Of an unknown key, no group takes its plan either.
        let found = self.keys.read_as_is(of).await.map_err(StoreError::from)?;
        let is_here = |known: &KnownLevels| known.is_registered() && !known.is_group();
        let Some(known) = found.known.filter(is_here) else {
            return Err(ReservationError::KeyUnknown);
        };
        // What was read is as good as what a try finds, unless a level is to take its plan first.
        let is_current = known.iter().all(|known| self.keys.is_current(known));
        Ok(is_current.then(|| AtHand::found(found.now, known)))
    }

    /// Does an operation on the ledger and on the records of a call; without a prepared one it only looks.
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`] if there is no such key.
    async fn ask(
        &self,
        of: Subject<'_>,
        at_hand: Option<&AtHand>,
        prepared: Option<&Prepared>,
        request: Request,
    ) -> Result<Tried, ReservationError> {
        let mut tried = self.ask_once(of, at_hand, prepared, request.clone()).await?;
        // A level that has not taken the latest version of its plan takes it, and then it is looked at again.
        while tried.applied.is_none() && self.catch_up(tried.known.each(of.key), tried.now).await? {
            tried = self.ask_once(of, None, None, request.clone()).await?;
        }
        Ok(tried)
    }

    async fn catch_up(
        &self,
        levels: impl Iterator<Item = (KeyId, &Known)>,
        now: Timestamp,
    ) -> Result<bool, ReservationError> {
        let any = self.keys.catch_up(levels, now).await;
        any.map_err(|error| StoreError::from(error).into())
    }

    async fn ask_once(
        &self,
        of: Subject<'_>,
        at_hand: Option<&AtHand>,
        prepared: Option<&Prepared>,
        request: Request,
    ) -> Result<Tried, ReservationError> {
        let failed = |error: CommandError| {
            self.keys.forget(of);
            ReservationError::from(StoreError::from(error))
        };
        let misread = |misread| failed(self.keys.misread(of.key, misread));
        let places: Vec<_> = prepared.into_iter().flat_map(Prepared::places).collect();
        let reply = match (at_hand, prepared) {
            (Some(at), Some(prepared)) => {
                self.keys.apply(of, &at.known, prepared, at.now, request).await
            }
            _ => self.keys.look(of, request).await,
        };
        let reply = reply.map_err(failed)?;
        let answer = match at_hand.filter(|_| prepared.is_some()) {
            Some(at) => Answer::of(&reply, &at.known.layouts(places.iter().copied()), true),
            None => Answer::of_apply(&reply),
        };
        let answer = self.keys.answer(of, answer).map_err(failed)?;
        // Everything was as believed, up to whether it fits.
        let was_as_believed = matches!(answer.ended, Ended::Compared | Ended::Full);
        let applied = answer.applied(0).filter(|_| answer.ended == Ended::Compared);
        let known = match at_hand {
            Some(at) if was_as_believed => Some(answer.before(&at.known, &places)),
            _ => answer.found(of).transpose(),
        };
        let mut known = known.transpose().map_err(misread)?;
        let (mut now, mut ended) = (answer.now, answer.ended);
        if known.is_none() && !of.key.is_root() {
            // Its group may be open.
            let found = self.keys.read(of).await.map_err(failed)?;
            (now, known) = (found.now, found.known);
            // What the ledger has was compared before all else.
            if ended != Ended::Listed {
                ended = Ended::Stale;
            }
        }
        let Some(known) = known.filter(|known| !known.is_group()) else {
            self.keys.forget(of);
            return Err(ReservationError::KeyUnknown);
        };
        // The operation has moved the windows: what is at hand stays good enough, unless the limits are others now.
        if applied.is_some() && prepared.is_some_and(Prepared::changes_limits) {
            self.keys.forget(of);
        } else if applied.is_some() {
            self.keys.learn(of, &known.clone().after_storing());
        } else {
            self.keys.learn(of, &known);
        }
        let (entry, open) = (answer.entry.map(<[u8]>::to_vec), answer.open);
        Ok(Tried { now, ended, applied, entry, open, parallel: Vec::new(), known })
    }

    fn at_hand(&self, of: Subject<'_>) -> Option<AtHand> {
        let known = self.keys.at_hand(of)?;
        Some(AtHand { now: self.keys.now(), known, is_found: false, parallel: Vec::new() })
    }

    /// A reservation by its entry at hand, if there is one.
    fn reserved(&self, key: &KeyId, id: &RequestId) -> Reserved {
        let stored = self.entries.of(key, id.clone()).and_then(|stored| {
            let entry = read_entry(&stored).ok()?;
            Some((stored, entry.reservation))
        });
        Reserved { stored, at_hand: None, is_fresh: false, seen_at: self.keys.now() }
    }

    /// Looks a reservation up.
    async fn find(&self, key: &KeyId, id: &RequestId) -> Result<Stored, ReservationError> {
        // No entry is like this, so that the answer shows the one that is there.
        let listed = Listed::known(id, None, Vec::new(), Vec::new());
        let request = self.on_reservations(key, listed);
        let tried = self.ask(Subject { key, asset: None }, None, None, request).await?;
        self.living(key, id, tried.entry, tried.now)
    }

    /// A reservation from its entry, if it is still remembered.
    fn living(
        &self,
        key: &KeyId,
        id: &RequestId,
        stored: Option<Vec<u8>>,
        now: Timestamp,
    ) -> Result<Stored, ReservationError> {
        match self.entry(key, stored)? {
            Some((stored, entry)) if entry.until > now => Ok((stored, entry.reservation)),
            _ => {
                self.entries.forget(key, id.clone());
                Err(ReservationError::Unknown(id.clone()))
            }
        }
    }

    fn entry(
        &self,
        key: &KeyId,
        stored: Option<Vec<u8>>,
    ) -> Result<Option<(Vec<u8>, Entry)>, ReservationError> {
        let Some(stored) = stored else { return Ok(None) };
        let entry = read_entry(&stored).map_err(|misread| self.misread(key, misread))?;
        Ok(Some((stored, entry)))
    }

    fn on_reservations(&self, key: &KeyId, listed: Listed) -> Request {
        let [reservations, open, ended, ..] = self.keys.keyspace.ledger(key);
        let keys = vec![open, reservations, ended];
        Request { keys, ledger: Some(listed), ..Request::default() }
    }

    /// The same, with slots of these limits.
    fn with_slots(
        &self,
        of: Subject<'_>,
        id: &RequestId,
        listed: Listed,
        limits: Asked,
        held_for: Duration,
        is_short: bool,
    ) -> Request {
        let mut request = self.on_reservations(of.key, listed);
        if limits.is_empty() {
            return request;
        }
        let levels: Vec<KeyId> = of.key.levels().collect();
        let first = 2 * levels.len() + request.keys.len() + 1;
        let mut slots = SlotSets {
            life: ms(held_for),
            holder: holder(of.key, id),
            is_short,
            ..Default::default()
        };
        for (number, (level, scope, limit)) in limits.into_iter().enumerate() {
            let Some(of_level) = levels.get(level) else { continue };
            request.keys.push(self.keys.keyspace.slots(of_level, &scope));
            slots.sets.push((first + number, level, limit));
        }
        if let Some(listed) = &mut request.ledger {
            listed.slots = Some(slots);
        }
        request
    }

    /// The same, with the slots that a reservation holds.
    fn with_own_slots(
        &self,
        of: Subject<'_>,
        id: &RequestId,
        listed: Listed,
        reservation: &Reservation,
    ) -> Request {
        let slots = reservation.slots().iter();
        let slots = slots.map(|(level, scope)| (level, ScopeId::of_call(scope, of.asset), 0));
        self.with_slots(of, id, listed, slots.collect(), self.bounds.slots, false)
    }

    /// Renews the slots of a reservation, and changes nothing else. If it is not as stored any more, whoever changed it has
    /// renewed or freed them.
    async fn renew_slots(
        &self,
        of: Subject<'_>,
        id: &RequestId,
        stored: Vec<u8>,
        reservation: &Reservation,
    ) -> Result<(), ReservationError> {
        let put = stored.get(REMEMBERED..).unwrap_or_default().to_vec();
        let listed = Listed::known(id, None, stored, put);
        let request = self.with_own_slots(of, id, listed, reservation);
        let renewed = self.keys.touch(of, request).await;
        renewed.map_err(|error| StoreError::from(error).into())
    }

    async fn rebase(
        &self,
        of: Subject<'_>,
        now: Timestamp,
        known: KnownLevels,
    ) -> Result<(), ReservationError> {
        let rebased = self.keys.rebase(of, now, known).await;
        rebased.map_err(|error| StoreError::from(error).into())
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
        let (kind, numbers) = (KNOWN_RESERVATION, [0; 2]);
        Self { kind, id: bytes_of(id), life, numbers, texts, slots: None }
    }
}

impl AtHand {
    const fn found(now: Timestamp, known: KnownLevels) -> Self {
        Self { now, known, is_found: true, parallel: Vec::new() }
    }

    /// A check, unless the key may make no calls: then there is nothing to compare.
    ///
    /// The short form, without stops, is sent if what is at hand was not found by a try, or if it fits. One that finds no slot
    /// in a level in shadow does not.
    fn check(&self, of: Subject<'_>, charge: &Charge) -> Option<Prepared> {
        let (levels, now) = (self.known.met(of), self.now);
        if !levels.may_call(now) {
            return None;
        }
        let short = prepare::check(&levels, &[*charge], false, now);
        let has_slots = !self.parallel.iter().any(Parallel::is_full);
        if !self.is_found || has_slots && short.fits(&levels, now) {
            return Some(short);
        }
        Some(prepare::check(&levels, &[*charge], true, now))
    }
}

impl Reserved {
    /// The reservation that the next try goes by. It is looked up if a try could do nothing with it.
    async fn next(
        &mut self,
        store: &Remembering,
        key: &KeyId,
        id: &RequestId,
    ) -> Result<Stored, ReservationError> {
        if let Some(stored) = self.stored.take() {
            return Ok(stored);
        }
        let found = store.find(key, id).await?;
        (self.is_fresh, self.seen_at) = (true, store.keys.now());
        Ok(found)
    }

    /// Goes on with the reservation that a try has found. The id may be that of a later one, of another asset.
    fn found(
        &mut self,
        found: Stored,
        asset: Option<&AssetId>,
        now: Timestamp,
        known: KnownLevels,
    ) {
        let is_same = found.1.asset() == asset;
        self.again(found, now, known);
        (self.is_fresh, self.at_hand) = (true, self.at_hand.take().filter(|_| is_same));
    }

    /// Goes on with the same reservation, and the key as a try has found it.
    fn again(&mut self, stored: Stored, now: Timestamp, known: KnownLevels) {
        (self.stored, self.at_hand) = (Some(stored), Some(AtHand::found(now, known)));
        self.seen_at = now;
    }
}

/// The decision on a call of a key that does not exist.
fn unknown(of: Subject<'_>, error: ReservationError) -> Result<Decision, ReservationError> {
    match error {
        ReservationError::KeyUnknown => Ok(Decision::key_unknown(Some(of.key), of.asset)),
        error => Err(error),
    }
}

/// The error of an operation that can have no other.
fn of_store(error: ReservationError) -> StoreError {
    match error {
        ReservationError::Store(error) => error,
        error => StoreError::unavailable(error),
    }
}

/// The name of a reservation among those of all keys. No id of a key has two slashes in a row.
fn holder(key: &KeyId, id: &RequestId) -> Vec<u8> {
    format!("{key}//{id}").into_bytes()
}

/// The parallel limits that were asked for, with what was found of their slots.
fn with_limits(asked: &Asked, open: &[(u64, Option<Timestamp>)]) -> Vec<Parallel> {
    let found = asked.iter().zip(open).map(|((level, scope, limit), (open, frees_at))| Parallel {
        level: *level,
        scope: scope.scope,
        limit: *limit,
        open: *open,
        frees_at: *frees_at,
    });
    found.collect()
}

impl KnownLevels {
    fn asked(&self, of: Subject<'_>) -> Asked {
        self.met(of).parallel_limits().collect()
    }
}

/// The entry of a new reservation, as the script writes it.
fn whole_entry(
    until: Timestamp,
    spared: LevelSet,
    [before, after]: [Vec<u8>; 2],
    known: &KnownLevels,
    places: &[LevelPlace],
) -> Vec<u8> {
    let mut entry = Vec::with_capacity(128);
    push_int::<UNTIL>(&mut entry, until.unix_ms());
    entry.push(spared.bits());
    entry.extend(before);
    for (_, global, record) in named(known, places) {
        let layout = Layout::of(global, record);
        let stored = layout.write(Stamp::default(), &record.stored());
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
    for pair in pairs_of(reservations) {
        let (id, stored) = pair?;
        let Entry { until, reservation, .. } = read_entry(stored)?;
        ledger.remember_reservation(id, until, reservation);
    }
    for pair in pairs_of(checks) {
        let (id, score) = pair?;
        ledger.remember_check(id, read_until(score)?);
    }
    for pair in pairs_of(records) {
        let (id, score) = pair?;
        ledger.remember_record(id, read_until(score)?);
    }
    for (is_open, list) in [(true, open), (false, ended)] {
        let mut listed = Ledger::default();
        for pair in pairs_of(list) {
            let (id, score) = pair?;
            listed.remember_check(id, read_until(score)?);
        }
        let of_kind = ledger.reservations().filter(|(_, _, it)| it.end().is_none() == is_open);
        if !of_kind.map(|(id, until, _)| (id, until)).eq(listed.checks()) {
            return Err(Misread::Corrupt("reservations that are not listed by their time"));
        }
    }
    Ok(Some(ledger))
}

/// Ids and values by turns.
fn pairs_of(list: &[Value]) -> impl Iterator<Item = Result<(RequestId, &[u8]), Misread>> {
    list.chunks_exact(2).map(|pair| {
        let (id, value) = bytes(&pair[0]).zip(bytes(&pair[1])).ok_or(NOT_AN_ANSWER)?;
        let id = str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        Ok((id.ok_or(Misread::Corrupt("an id that is none"))?, value))
    })
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

/// What takes the place of a reservation that is to be forgotten.
const FORGOTTEN: Vec<u8> = Vec::new();
/// The kinds of ledger operations.
const NEW_ID: u8 = 1;
const NEW_RESERVATION: u8 = 2;
const KNOWN_RESERVATION: u8 = 3;
const CHECKS: &str = "checks with a request id of this key";
const RECORDS: &str = "records of this key";
/// The bytes of the time until which an entry is remembered.
const UNTIL: usize = 7;
/// From whatever time there is, this leads beyond the last; and a script reads it exactly.
const LONGEST_MS: i64 = 1 << 54;
/// More than a server holds; and a script reads it exactly.
const MOST: i64 = 1 << 31;
/// Some 6 MB at most. The settlement of one that is forgotten takes another trip.
const MOST_ENTRIES: usize = 20_000;
