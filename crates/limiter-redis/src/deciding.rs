//! Decisions on the servers: prepare, apply, explain, and again if anything was not as believed.

use std::sync::Arc;

use limiter_core::prepare::Prepared;
use limiter_core::{AssetId, Charge, Decision, KeyId, Place, Timestamp, explain, prepare};
use redis::Value;

use crate::answer::{Answer, Ended};
use crate::error::CommandError;
use crate::keys::{Found, Keys, Request, Subject, named, take_fields};
use crate::schema::{Known, Layout, Misread};
use crate::script::Script;
use crate::servers::Lane;
use crate::shape::Shape;
use crate::waiting;

/// Calls of one key and asset. Each is answered once.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) key: KeyId,
    pub(crate) asset: Option<AssetId>,
    pub(crate) calls: Vec<waiting::Request>,
}

/// An operation for the calls of a group that one script takes, prepared from the known state of their key.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) script: Arc<Script>,
    /// The fields of the records, and the operation.
    pub(crate) arguments: Vec<Vec<u8>>,
    known: Arc<Known>,
    places: Vec<Place>,
    layouts: Vec<Layout>,
    rolls: bool,
}

/// Decisions for some calls of a group, if it was compared with the stored data, and the key after them.
type Explained = (Option<Vec<Option<Decision>>>, Option<Known>);

impl Group {
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
        known: &Known,
        places: &[Place],
    ) -> Result<Explained, Misread> {
        let (asset, now) = (self.asset.as_ref(), answer.now);
        let leaves_out_other = known.leaves_out_other(asset, places);
        let mut known = answer.before(known, places)?;
        let state = &mut known.state;
        let mut letters = answer.letters.iter();
        let decisions = self.decisions(|charge| {
            let located = state.locate(asset);
            match letters.next() {
                Some(b'A') => Some(explain::admitted(state, located, charge, now)),
                // These limits are read first.
                _ if leaves_out_other => None,
                // If there is no reason to deny it, it reaches a stop.
                _ => explain::refused(state, &self.key, located, charge, now)
                    .filter(|_| prepare::rebase(state, located, now).is_none()),
            }
        });
        Ok((Some(decisions), Some(known)))
    }
}

impl Keys {
    /// Prepares a group for `take`, from the known state of its key. Without a result [`decide`](Self::decide) does it.
    pub(crate) fn prepare(&self, group: &Group) -> Option<Ready> {
        let (known, now) = (self.known.of(&group.key, group.asset.clone())?, self.now());
        let located = known.state.locate(group.asset.as_ref());
        if known.state.may_call(located, now) { self.ready(group, known, now, false) } else { None }
    }

    /// Prepares a group for `take`, if that script can do it; on request only if the known state also admits it.
    fn ready(
        &self,
        group: &Group,
        known: Arc<Known>,
        now: Timestamp,
        must_fit: bool,
    ) -> Option<Ready> {
        let located = known.state.locate(group.asset.as_ref());
        let prepared = prepare::check(&known.state, located, &group.charges(), false, now);
        if is_rare(&prepared, &known) || must_fit && !prepared.fits(&known.state, now) {
            return None;
        }
        let places: Vec<_> = prepared.places().collect();
        let records = named(&known.state, &places);
        let (shape, argument) = Shape::of(prepared.operation(), known.stamp, &records, 0, now)?;
        let script = self.scripts.take(&shape)?;
        let mut arguments = take_fields(group.subject(), &known.state, &places);
        arguments.push(argument);
        let (layouts, rolls) = (known.layouts(places.iter().copied()), shape.rolls());
        Some(Ready { script, arguments, known, places, layouts, rolls })
    }

    /// Answers the calls that a `take` has decided, and returns the key as it was found, if it was.
    pub(crate) fn explain_take(
        &self,
        group: &mut Group,
        ready: &Ready,
        reply: &Value,
    ) -> Result<Option<Found>, CommandError> {
        let answer = self.answer(group.subject(), Answer::of_take(reply, &ready.layouts))?;
        self.explain(group, &answer, &ready.known, &ready.places, ready.rolls)
    }

    /// Answers the calls that were applied and those that are denied, and returns the key as it is then; `None` if it has
    /// to be read. With `learns` later calls are prepared from it.
    fn explain(
        &self,
        group: &mut Group,
        answer: &Answer<'_>,
        believed: &Known,
        places: &[Place],
        learns: bool,
    ) -> Result<Option<Found>, CommandError> {
        let of = group.subject();
        let explained = match answer.ended {
            Ended::Compared => group.explain(answer, believed, places),
            _ => answer.found(of.asset).map(|known| (None, known)),
        };
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
            group.answer(decisions);
            let leaves_out_other = believed.leaves_out_other(group.asset.as_ref(), places);
            if leaves_out_other && !group.calls.is_empty() {
                self.forget(group.subject());
                return Ok(None);
            }
        }
        Ok(Some(Found { now: answer.now, known }))
    }

    /// Decides the calls of a group, in as many tries as needed, until no call is left whose caller still waits.
    pub(crate) async fn decide(&self, mut group: Group, mut found: Option<Found>) {
        loop {
            group.calls.retain(|call| !call.answer.is_closed());
            if group.calls.is_empty() {
                return;
            }
            let tried = match found {
                Some(found) => self.try_again(&mut group, found).await,
                None => match self.known_for(&group) {
                    Some((known, now)) => self.send_prepared(&mut group, known, now, false).await,
                    None => {
                        self.read(group.subject()).await.map(Some).map_err(CommandError::of_reading)
                    }
                },
            };
            found = match tried {
                Ok(found) => found,
                Err(error) => {
                    self.forget(group.subject());
                    return group.fail(&error);
                }
            };
        }
    }

    /// Answers the denied calls, and sends the others: by `take` if all of them fit, or else with all stops.
    async fn try_again(
        &self,
        group: &mut Group,
        found: Found,
    ) -> Result<Option<Found>, CommandError> {
        let Found { now, known } = found;
        let (key, asset) = (group.key.clone(), group.asset.clone());
        let of = Subject { key: &key, asset: asset.as_ref() };
        let Some(known) = known else {
            group.answer(group.decisions(|_| Some(Decision::key_unknown(Some(&key), of.asset))));
            return Ok(None);
        };
        let known = Arc::new(known);
        self.known.learn(&key, asset.clone(), Arc::clone(&known));
        let located = known.state.locate(of.asset);
        if known.state.may_call(located, now)
            && let Some(ready) = self.ready(group, Arc::clone(&known), now, true)
        {
            return self.take(group, ready).await;
        }
        let located = known.state.locate(of.asset);
        let denied = |charge: &Charge| explain::refused(&known.state, &key, located, charge, now);
        if group.calls.iter().any(|call| denied(&call.charge).is_some()) {
            self.rebase(of, now, Known::clone(&known)).await?;
            group.answer(group.decisions(denied));
        }
        if group.calls.is_empty() {
            return Ok(None);
        }
        self.send_prepared(group, known, now, true).await
    }

    /// What is known of the key of a group, if `apply` can do its calls by that: a window ends that `take` does not close.
    fn known_for(&self, group: &Group) -> Option<(Arc<Known>, Timestamp)> {
        let (known, now) = (self.known.of(&group.key, group.asset.clone())?, self.now());
        let located = known.state.locate(group.asset.as_ref());
        let prepared = prepare::check(&known.state, located, &group.charges(), false, now);
        let may_be = known.state.may_call(located, now) && !is_rare(&prepared, &known);
        may_be.then_some((known, now))
    }

    /// Sends the calls of a group by `apply`, from what is known of their key.
    async fn send_prepared(
        &self,
        group: &mut Group,
        known: Arc<Known>,
        now: Timestamp,
        stops: bool,
    ) -> Result<Option<Found>, CommandError> {
        let (key, asset) = (group.key.clone(), group.asset.clone());
        let of = Subject { key: &key, asset: asset.as_ref() };
        // Should anything be otherwise, the next try goes by what is found.
        self.forget(of);
        let located = known.state.locate(of.asset);
        let prepared = prepare::check(&known.state, located, &group.charges(), stops, now);
        let reply = self.apply(of, &known, &prepared, now, Request::default()).await?;
        let places: Vec<_> = prepared.places().collect();
        let layouts = known.layouts(places.iter().copied());
        let answer = self.answer(of, Answer::of(&reply, &layouts, false))?;
        // The stamp is another now, if limits have changed.
        let changed = answer.ended == Ended::Compared && is_rare(&prepared, &known);
        let found = self.explain(group, &answer, &known, &places, !changed)?;
        if changed {
            self.forget(of);
        }
        Ok(found.filter(|_| !changed))
    }

    async fn take(&self, group: &mut Group, ready: Ready) -> Result<Option<Found>, CommandError> {
        let keys = [self.keyspace.hot(&group.key), self.keyspace.cold(&group.key)];
        let arguments = self.scripts.timed(ready.arguments.clone());
        let reply = self.servers.run(&ready.script, &keys, &arguments, Lane::Shared).await;
        self.explain_take(group, &ready, &reply.map_err(CommandError::of_several_writes)?)
    }
}

/// Whether an operation changes what is configured: limits come into force, or a scope is not counted any more.
fn is_rare(prepared: &Prepared, known: &Known) -> bool {
    prepared.changes_limits() || prepared.dropped(&known.state).next().is_some()
}
