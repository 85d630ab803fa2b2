//! Decisions on the servers: prepare, apply, explain, and again if anything was not as believed.

use std::sync::Arc;

use limiter_core::{AssetId, Charge, Decision, KeyId, LevelPlace, Timestamp, explain, prepare};
use redis::Value;

use crate::answer::{Answer, Ended};
use crate::error::CommandError;
use crate::keys::{Found, Keys, Request, Subject, is_rare, named, take_fields};
use crate::schema::{KnownLevels, Layout, Misread};
use crate::script::Script;
use crate::servers::Lane;
use crate::shape::Shape;
use crate::waiting;

/// Calls of one key and asset. Each is answered once.
#[derive(Debug)]
pub(crate) struct Calls {
    pub(crate) key: KeyId,
    pub(crate) asset: Option<AssetId>,
    pub(crate) calls: Vec<waiting::Request>,
}

/// An operation for calls that one script takes, prepared from what is known of their key.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) script: Arc<Script>,
    /// The fields of the records, and the operation.
    pub(crate) arguments: Vec<Vec<u8>>,
    known: KnownLevels,
    places: Vec<LevelPlace>,
    layouts: Vec<Layout>,
    rolls: bool,
}

/// A decision for each call that has one, if they were compared with the stored data, and the key after them.
type Explained = (Option<Vec<Option<Decision>>>, Option<KnownLevels>);

impl Calls {
    pub(crate) fn of(call: waiting::Request) -> Self {
        Self { key: call.key.clone(), asset: call.asset.clone(), calls: vec![call] }
    }

    pub(crate) fn takes(&self, call: &waiting::Request) -> bool {
        self.key == call.key && self.asset == call.asset
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { key: &self.key, asset: self.asset.as_ref() }
    }

    /// Answers all calls that are left with an error.
    pub(crate) fn fail(self, error: &CommandError) {
        for call in self.calls {
            let _ = call.answer.send(Err(error.clone().into()));
        }
    }

    /// Answers those calls for which there is a decision, and keeps the others.
    fn answer(&mut self, decisions: Vec<Option<Decision>>) {
        let calls = std::mem::take(&mut self.calls);
        for (call, decision) in calls.into_iter().zip(decisions) {
            match decision {
                Some(decision) => drop(call.answer.send(Ok(decision))),
                None => self.calls.push(call),
            }
        }
    }

    /// A decision for each call that has one.
    fn decisions(&self, decide: impl FnMut(&Charge) -> Option<Decision>) -> Vec<Option<Decision>> {
        self.calls.iter().map(|call| &call.charge).map(decide).collect()
    }

    fn charges(&self) -> Vec<Charge> {
        self.calls.iter().map(|call| call.charge).collect()
    }

    /// Decisions for the calls that were applied and for those that are denied, and the key as it is then.
    fn explain(
        &self,
        answer: &Answer<'_>,
        known: &KnownLevels,
        places: &[LevelPlace],
    ) -> Result<Explained, Misread> {
        let (of, now) = (self.subject(), answer.now);
        let leaves_out_other = known.leaves_out_other(of.asset, places);
        let mut known = answer.before(known, places)?;
        let (mut numbers, mut is_stored) = (0.., false);
        let decisions = self.decisions(|charge| {
            let applied = numbers.next().and_then(|number| answer.applied(number));
            match applied {
                Some(spared) => {
                    is_stored |= charge.requests() > 0;
                    Some(explain::admitted(&mut known.met_mut(of), charge, spared, now))
                }
                // These limits are read first.
                None if leaves_out_other => None,
                // If there is no reason to deny it, it reaches a stop.
                None => {
                    let levels = known.met(of);
                    explain::refused(&levels, charge, now)
                        .filter(|_| prepare::rebase(&levels, now).is_none())
                }
            }
        });
        if is_stored {
            known = known.after_storing();
        }
        Ok((Some(decisions), Some(known)))
    }
}

impl Keys {
    /// Prepares calls for `take`, from what is known of their key. Without a result [`decide`](Self::decide) does it.
    pub(crate) fn prepare(&self, calls: &Calls) -> Option<Ready> {
        let (known, now) = (self.at_hand(calls.subject())?, self.now());
        let may_call = known.met(calls.subject()).may_call(now);
        if may_call { self.ready(calls, known, now, false) } else { None }
    }

    /// Prepares calls for `take`, if that script can do it; on request only if the known state also admits them.
    fn ready(
        &self,
        calls: &Calls,
        known: KnownLevels,
        now: Timestamp,
        must_fit: bool,
    ) -> Option<Ready> {
        let of = calls.subject();
        let (arguments, script, places, layouts, rolls) = {
            let levels = known.met(of);
            let prepared = prepare::check(&levels, &calls.charges(), false, now);
            if is_rare(&prepared, &known, of) || must_fit && !prepared.fits(&levels, now) {
                return None;
            }
            let places: Vec<_> = prepared.places().collect();
            let (records, stamps) = (named(&known, &places), known.stamps());
            let (shape, argument) = Shape::of(prepared.operation(), &stamps, &records, 0, now)?;
            if shape.rolls() && !known.is_registered() || known.is_new() {
                return None;
            }
            let script = self.scripts.take(&shape)?;
            let mut arguments = take_fields(of, &known, &places);
            arguments.push(argument);
            let layouts = known.layouts(places.iter().copied());
            (arguments, script, places, layouts, shape.rolls())
        };
        Some(Ready { script, arguments, known, places, layouts, rolls })
    }

    /// Answers the calls that a `take` has decided, and returns the key as it was found, if it was.
    pub(crate) fn explain_take(
        &self,
        calls: &mut Calls,
        ready: &Ready,
        reply: &Value,
    ) -> Result<Option<Found>, CommandError> {
        let answer = self.answer(calls.subject(), Answer::of_take(reply, &ready.layouts))?;
        self.explain(calls, &answer, &ready.known, &ready.places, ready.rolls)
    }

    /// Answers the calls that were applied and those that are denied, and returns the key as it is then; `None` if it has
    /// to be read. With `learns` later calls are prepared from it.
    fn explain(
        &self,
        calls: &mut Calls,
        answer: &Answer<'_>,
        believed: &KnownLevels,
        places: &[LevelPlace],
        learns: bool,
    ) -> Result<Option<Found>, CommandError> {
        let of = calls.subject();
        let explained = match answer.ended {
            Ended::Compared => calls.explain(answer, believed, places),
            _ => answer.found(of).map(|known| (None, known)),
        };
        // A key that is not there may have an open group: it is read again.
        if matches!(explained, Ok((None, None))) && !of.key.is_root() {
            self.forget(of);
            return Ok(None);
        }
        let (decisions, known) = explained.map_err(|misread| {
            self.forget(of);
            self.misread(of.key, misread)
        })?;
        // Before any call is answered, so that the next call of the same caller finds it.
        match &known {
            Some(known) if learns => self.learn(of, known),
            None if learns => self.forget(of),
            _ => {}
        }
        if let Some(decisions) = decisions {
            calls.answer(decisions);
            let of = calls.subject();
            if believed.leaves_out_other(of.asset, places) && !calls.calls.is_empty() {
                self.forget(of);
                return Ok(None);
            }
        }
        Ok(Some(Found { now: answer.now, known }))
    }

    /// Decides calls, in as many tries as needed, until none is left whose caller still waits.
    pub(crate) async fn decide(&self, mut calls: Calls, mut found: Option<Found>) {
        loop {
            calls.calls.retain(|call| !call.answer.is_closed());
            if calls.calls.is_empty() {
                return;
            }
            let tried = match found {
                Some(found) => self.try_again(&mut calls, found).await,
                None => match self.known_for(&calls) {
                    Some((known, now)) => self.send_prepared(&mut calls, known, now, false).await,
                    None => {
                        self.read(calls.subject()).await.map(Some).map_err(CommandError::of_reading)
                    }
                },
            };
            found = match tried {
                Ok(found) => found,
                Err(error) => {
                    self.forget(calls.subject());
                    return calls.fail(&error);
                }
            };
        }
    }

    /// Answers the denied calls, and sends the others: by `take` if all of them fit, or else with all stops.
    async fn try_again(
        &self,
        calls: &mut Calls,
        found: Found,
    ) -> Result<Option<Found>, CommandError> {
        let Found { now, known } = found;
        let (key, asset) = (calls.key.clone(), calls.asset.clone());
        let of = Subject { key: &key, asset: asset.as_ref() };
        // A group makes no calls.
        let Some(known) = known.filter(|known| !known.is_group()) else {
            calls.answer(calls.decisions(|_| Some(Decision::key_unknown(Some(&key), of.asset))));
            return Ok(None);
        };
        self.learn(of, &known);
        if self.catch_up(known.each(of.key), now).await? {
            return self.read(of).await.map(Some).map_err(CommandError::of_reading);
        }
        let may_call = known.met(of).may_call(now);
        if may_call && let Some(ready) = self.ready(calls, known.clone(), now, true) {
            return self.take(calls, ready).await;
        }
        let denied = |charge: &Charge| explain::refused(&known.met(of), charge, now);
        if calls.calls.iter().any(|call| denied(&call.charge).is_some()) {
            self.rebase(of, now, known.clone()).await?;
            calls.answer(calls.decisions(denied));
        }
        if calls.calls.is_empty() {
            return Ok(None);
        }
        // What the first call of a new key makes, the next ones go by.
        let rest = calls.calls.split_off(if known.is_new() { 1 } else { calls.calls.len() });
        let sent = self.send_prepared(calls, known, now, true).await;
        calls.calls.extend(rest);
        sent
    }

    /// The known levels of the key of calls, if `apply` can do them from those: a window ends that `take` does not close.
    fn known_for(&self, calls: &Calls) -> Option<(KnownLevels, Timestamp)> {
        let of = calls.subject();
        let (known, now) = (self.at_hand(of)?, self.now());
        let may_be = {
            let levels = known.met(of);
            let prepared = prepare::check(&levels, &calls.charges(), false, now);
            levels.may_call(now) && !is_rare(&prepared, &known, of)
        };
        may_be.then_some((known, now))
    }

    /// Sends calls by `apply`, from what is known of their key.
    async fn send_prepared(
        &self,
        calls: &mut Calls,
        known: KnownLevels,
        now: Timestamp,
        stops: bool,
    ) -> Result<Option<Found>, CommandError> {
        let (key, asset) = (calls.key.clone(), calls.asset.clone());
        let of = Subject { key: &key, asset: asset.as_ref() };
        // Should anything be otherwise, the next try goes by what is found.
        self.forget(of);
        let prepared = prepare::check(&known.met(of), &calls.charges(), stops, now);
        let makes_no_request = calls.calls.iter().all(|call| call.charge.requests() == 0);
        let request = Request { makes_no_request, ..Request::default() };
        let reply = self.apply(of, &known, &prepared, now, request).await?;
        let places: Vec<_> = prepared.places().collect();
        let layouts = known.layouts(places.iter().copied());
        let answer = self.answer(of, Answer::of(&reply, &layouts, false))?;
        // The stamp is another now, if limits have changed.
        let changed = answer.ended == Ended::Compared && is_rare(&prepared, &known, of);
        let found = self.explain(calls, &answer, &known, &places, !changed)?;
        if changed {
            self.forget(of);
        }
        Ok(found.filter(|_| !changed))
    }

    async fn take(&self, calls: &mut Calls, ready: Ready) -> Result<Option<Found>, CommandError> {
        let keys = self.names_of(&calls.key);
        let arguments = self.scripts.timed(ready.arguments.clone());
        let reply = self.servers.run(&ready.script, &keys, &arguments, Lane::Shared).await;
        self.explain_take(calls, &ready, &reply.map_err(CommandError::of_several_writes)?)
    }
}
