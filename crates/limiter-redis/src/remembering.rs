//! Calls that are remembered by their ids: each operation is one script, and its outcome is judged again by the core.
//!
//! Repeating such an operation charges nothing. So, unlike a decision, one whose answer was lost is sent again. A flag of
//! a repetition may then mean that our own first try was the one that charged.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::{
    AssetId, Charge, Crossing, Decision, KeyId, Ledger, LedgerBounds, RecordId, RequestId,
    ReservationError, Settled, SettledAs, StoreError, Totals, reservation,
};
use redis::Value;

use crate::codec::{
    Calls, Misread, Mode, asked_totals, asset_field, ended_by, ended_under, read_ledger,
    read_reservation, read_until,
};
use crate::error::{CallError, RedisError};
use crate::judge::Judged;
use crate::keyspace::Keyspace;
use crate::known::KnownLimits;
use crate::script::{Call, Script};
use crate::scripts::Scripts;
use crate::servers::{Lane, Servers};
use crate::unanswered::Unanswered;

/// Does what needs an id. A clone is the same connections.
#[derive(Clone, Debug)]
pub(crate) struct Remembering {
    pub(crate) servers: Servers,
    pub(crate) keyspace: Keyspace,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) known: Arc<KnownLimits>,
    pub(crate) bounds: LedgerBounds,
    pub(crate) unanswered: Arc<Unanswered>,
}

impl Remembering {
    pub(crate) async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        let keys = [self.keyspace.state(key), self.keyspace.checks(key)];
        let script = &self.scripts.check_once;
        let dedupe = self.bounds.dedupe;
        let reply = self.call(script, &keys, key, asset, charge, id, dedupe).await?;
        let remembered = |score: &[u8]| {
            let mut ledger = Ledger::default();
            ledger.remember_check(id.clone(), read_until(score)?);
            Ok(ledger)
        };
        let judged = self.judged(key, asset, &keys, &reply, remembered)?;
        let Some(mut judged) = judged else { return Ok(Decision::key_unknown(asset)) };
        let bounds = judged.bounds(&self.bounds);
        let Judged { state, ledger, now, .. } = &mut judged;
        let decision = reservation::check_once(state, ledger, &bounds, asset, charge, id, *now);
        self.agreed(key, asset, judged.agrees(decision))
    }

    pub(crate) async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        let keys = [self.keyspace.state(key), self.keyspace.records(key)];
        let life = id.remembered_for;
        let mut arguments = self.arguments(key, asset, charge, id.id, life);
        arguments.push(id.confirms.map(bytes_of).unwrap_or_default());
        arguments.push(ms(self.bounds.dedupe));
        let reply = self.ask(&self.scripts.record, &keys, arguments).await?;
        let judged = self.judged(key, asset, &keys, &reply, |_| Ok(Ledger::default()))?;
        let mut judged = judged.ok_or(ReservationError::KeyUnknown)?;
        // Nothing is decided by the state of the key, so that the script does not tell it.
        let bounds = judged.bounds(&self.bounds);
        let Judged { state, ledger, now, .. } = &mut judged;
        let recorded = reservation::record(state, ledger, &bounds, asset, charge, id, *now);
        self.agreed(key, asset, judged.agrees(recorded.map(drop)))?;
        Ok(judged.take_crossed())
    }

    pub(crate) async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        let keys = [
            self.keyspace.state(key),
            self.keyspace.reservations(key),
            self.keyspace.reservation_ends(key),
        ];
        let script = &self.scripts.reserve;
        let reply = self.call(script, &keys, key, asset, estimate, id, ttl).await?;
        let judged = self.judged(key, asset, &keys, &reply, |record| reserved(id, record))?;
        let Some(mut judged) = judged else { return Ok(Decision::key_unknown(asset)) };
        let bounds = judged.bounds(&self.bounds);
        let Judged { state, ledger, now, .. } = &mut judged;
        let decision = reservation::reserve(state, ledger, &bounds, asset, estimate, id, ttl, *now);
        self.agreed(key, asset, judged.agrees(decision))
    }

    pub(crate) async fn extend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        let keys = [self.keyspace.state(key), self.keyspace.reservations(key)];
        let arguments = vec![bytes_of(id), asked_totals(to)];
        let reply = self.ask(&self.scripts.extend, &keys, arguments).await?;
        let judged = self.judged(key, None, &keys, &reply, |record| reserved(id, record))?;
        let Some(mut judged) = judged else { return Ok(Decision::key_unknown(None)) };
        let Judged { state, ledger, now, .. } = &mut judged;
        let decision = reservation::extend(state, ledger, id, to, *now);
        self.agreed(key, None, judged.agrees(decision))
    }

    /// Settles with the actual totals, or cancels without.
    pub(crate) async fn end(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: Option<&Totals>,
    ) -> Result<Settled, ReservationError> {
        let keys = [self.keyspace.state(key), self.keyspace.reservations(key)];
        let ending = self.unanswered.start(key, id);
        let token = ending.token;
        let arguments = vec![bytes_of(id), ended_by(actual, token)];
        let reply = self.ask(&self.scripts.settle, &keys, arguments).await?;
        ending.answered();
        let by_lost_try = Cell::new(false);
        let remembered = |record: &[u8]| {
            by_lost_try.set(ended_under(record) == Some(token));
            reserved(id, record)
        };
        let judged = self.judged(key, None, &keys, &reply, remembered)?;
        let mut judged = judged.ok_or(ReservationError::KeyUnknown)?;
        let Judged { state, ledger, now, .. } = &mut judged;
        let ended = match actual {
            Some(actual) => reservation::settle(state, ledger, id, actual, *now),
            None => reservation::cancel(state, ledger, id, *now),
        };
        let mut settled = self.agreed(key, None, judged.agrees(ended))?;
        if by_lost_try.get() && settled.outcome == SettledAs::Repeated {
            settled.outcome = SettledAs::First;
        }
        Ok(settled.crossing(judged.take_crossed()))
    }

    /// All that is remembered of a living key.
    pub(crate) async fn ledger(&self, key: &KeyId) -> Result<Option<Ledger>, StoreError> {
        let keys = [
            self.keyspace.state(key),
            self.keyspace.reservations(key),
            self.keyspace.reservation_ends(key),
            self.keyspace.checks(key),
            self.keyspace.records(key),
        ];
        let arguments = self.scripts.timed(Vec::new());
        let call = Scripts::call(&self.scripts.ledger, &keys, &arguments);
        let reply = self.servers.run(&call, Lane::Apart).await.map_err(CallError::of_reading)?;
        read_ledger(&reply).map_err(|misread| misread_at(&keys[1], misread))
    }

    /// A call that may be new.
    #[expect(clippy::too_many_arguments, reason = "all that a call is about")]
    async fn call(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
        life: Duration,
    ) -> Result<Value, ReservationError> {
        self.ask(script, keys, self.arguments(key, asset, charge, id, life)).await
    }

    fn arguments(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
        life: Duration,
    ) -> Vec<Vec<u8>> {
        let known = self.known.of(key, asset).map(|known| known.stamp()).unwrap_or_default();
        let mut call = Calls::new(Mode::Named, known, 1);
        call.push(charge);
        let most = self.bounds.most.min(MOST).to_string().into_bytes();
        vec![bytes_of(id), asset_field(asset), call.into_bytes(), ms(life), most]
    }

    async fn ask(
        &self,
        script: &Script,
        keys: &[Vec<u8>],
        arguments: Vec<Vec<u8>>,
    ) -> Result<Value, ReservationError> {
        let arguments = self.scripts.timed(arguments);
        let call = Call { script, keys, arguments: &arguments };
        let reply = self.servers.run_repeatable(&call, Lane::Shared).await;
        reply.map_err(|error| StoreError::from(error.of_several_writes()).into())
    }

    fn judged(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        keys: &[Vec<u8>],
        reply: &Value,
        remembered: impl Fn(&[u8]) -> Result<Ledger, Misread>,
    ) -> Result<Option<Judged>, ReservationError> {
        let known = self.known.of(key, asset);
        let judged = Judged::read(reply, asset, known.as_deref(), keys, remembered);
        match judged {
            Ok(mut judged) => {
                if let Some(learnt) = judged.as_mut().and_then(|judged| judged.learnt.take()) {
                    self.known.learn(key.clone(), asset.cloned(), learnt);
                }
                Ok(judged)
            }
            Err(error) => {
                // Should the limits at hand be to blame, the next call is told new ones.
                self.known.forget(key.clone(), asset.cloned());
                Err(StoreError::from(CallError::Unknown(error)).into())
            }
        }
    }

    fn agreed<T>(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        agreed: Result<Result<T, ReservationError>, RedisError>,
    ) -> Result<T, ReservationError> {
        let outcome = agreed.map_err(|error| {
            self.known.forget(key.clone(), asset.cloned());
            StoreError::from(CallError::Unknown(error))
        })?;
        outcome.map_err(|error| match error {
            ReservationError::TooMany { what, .. } => {
                ReservationError::TooMany { what, most: self.bounds.most }
            }
            error => error,
        })
    }
}

/// A ledger of one reservation.
fn reserved(id: &RequestId, record: &[u8]) -> Result<Ledger, Misread> {
    let (until, reservation) = read_reservation(record)?;
    let mut ledger = Ledger::default();
    ledger.remember_reservation(id.clone(), until, reservation);
    Ok(ledger)
}

fn ms(life: Duration) -> Vec<u8> {
    life.as_millis().min(LONGEST_MS).to_string().into_bytes()
}

fn bytes_of(id: &RequestId) -> Vec<u8> {
    id.as_str().as_bytes().to_vec()
}

fn misread_at(key: &[u8], misread: Misread) -> StoreError {
    CallError::NotRun(RedisError::misread(key, misread)).into()
}

/// From whatever time there is, this leads beyond the last; and a script reads it exactly.
const LONGEST_MS: u128 = 1 << 54;
/// More than a server holds; and a script reads it exactly.
const MOST: usize = 1 << 31;
