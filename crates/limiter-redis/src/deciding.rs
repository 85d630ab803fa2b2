//! Decisions on the servers: prepare, apply, explain, and again if anything was not as believed.

use std::sync::Arc;

use limiter_core::prepare::Prepared;
use limiter_core::{AssetId, Charge, Decision, KeyId, Timestamp, explain, prepare};
use redis::Value;

use crate::answer::{Answer, Ended};
use crate::error::CommandError;
use crate::keys::{Found, Keys, Request};
use crate::schema::{Known, Layout, Misread, asset_field};
use crate::script::Script;
use crate::scripts::Scripts;
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

/// Calls without an answer, and why.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) group: Group,
    pub(crate) error: CommandError,
}

/// The calls that are not answered yet, with their key as it was found, if it was; none once all are.
type Left = Option<(Group, Option<Found>)>;

/// A group that one script takes, prepared from what is known of its key.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) group: Group,
    pub(crate) script: Arc<Script>,
    pub(crate) argument: Vec<u8>,
    known: Arc<Known>,
    layouts: Vec<Layout>,
    rolls: bool,
}

impl Failed {
    fn new(group: Group, error: CommandError) -> Box<Self> {
        Box::new(Self { group, error })
    }
}

impl Group {
    pub(crate) fn of(call: waiting::Request) -> Self {
        Self { key: call.key.clone(), asset: call.asset.clone(), calls: vec![call] }
    }

    pub(crate) fn takes(&self, call: &waiting::Request) -> bool {
        self.key == call.key && self.asset == call.asset
    }

    pub(crate) fn field(&self) -> Vec<u8> {
        self.asset.as_ref().map(asset_field).unwrap_or_default()
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

    /// A decision for each call, as far as there is one.
    fn decisions(&self, decide: impl FnMut(&Charge) -> Option<Decision>) -> Vec<Option<Decision>> {
        self.calls.iter().map(|call| &call.charge).map(decide).collect()
    }

    fn charges(&self) -> Vec<Charge> {
        self.calls.iter().map(|call| call.charge).collect()
    }
}

impl Keys {
    /// Prepares a group for `take`, from what is known of its key; or gives it back, to be decided by [`decide`](Self::decide).
    pub(crate) fn prepare(&self, group: Group) -> Result<Ready, Group> {
        let asset = group.asset.as_ref();
        let Some(known) = self.known.of(&group.key, asset) else { return Err(group) };
        let now = self.now();
        if known.state.is_usable(now) { self.ready(group, known, now, false) } else { Err(group) }
    }

    /// Prepares a group for `take`, if it can do what is to be done; on request only if it also fits as far as is known.
    fn ready(
        &self,
        group: Group,
        known: Arc<Known>,
        now: Timestamp,
        must_fit: bool,
    ) -> Result<Ready, Group> {
        let located = known.state.locate(group.asset.as_ref());
        let prepared = prepare::check(&known.state, located, &group.charges(), false, now);
        if prepared.changes_limits() || must_fit && !prepared.fits(&known.state, located, now) {
            return Err(group);
        }
        let records: Vec<_> = known.state.records_of(located).collect();
        let shape = Shape::of(prepared.operation(), known.stamp, &records, 0, now);
        let Some((shape, argument)) = shape else { return Err(group) };
        let Some(script) = self.scripts.take(&shape) else { return Err(group) };
        let layouts = records.into_iter().map(Layout::of).collect();
        Ok(Ready { group, script, argument, known, layouts, rolls: shape.rolls() })
    }

    /// Answers the calls that a `take` has decided. The others are left, with the key as it was found, if it was.
    pub(crate) fn explain_take(&self, ready: Ready, reply: &Value) -> Result<Left, Box<Failed>> {
        let Ready { mut group, known, layouts, rolls, .. } = ready;
        let (key, asset) = (group.key.clone(), group.asset.clone());
        let asset = asset.as_ref();
        let answer = match self.answer(&key, asset, Answer::of_take(reply, &layouts)) {
            Ok(answer) => answer,
            Err(error) => return Err(Failed::new(group, error)),
        };
        let explained = match answer.ended {
            Ended::Compared => self.explain(&group, &answer, &known),
            _ if answer.is_whole(asset) => answer.found(asset).map(|found| (Vec::new(), found)),
            _ => return Ok(Some((group, None))),
        };
        let (decisions, found) = match explained {
            Ok(explained) => explained,
            Err(misread) => {
                self.known.forget(&key, asset);
                return Err(Failed::new(group, self.misread(&key, misread)));
            }
        };
        // Before anyone is answered, so that the next call of the same caller finds it.
        if let Some(known) = found.as_ref().filter(|_| rolls) {
            self.known.learn(&key, asset, Arc::new(known.clone()));
        }
        if answer.ended == Ended::Compared {
            group.answer(decisions);
        }
        let found = Found { now: answer.now, known: found };
        Ok((!group.calls.is_empty()).then_some((group, Some(found))))
    }

    /// Decisions for the calls that were applied and for those that are denied, and the key as it is then.
    fn explain(
        &self,
        group: &Group,
        answer: &Answer<'_>,
        known: &Known,
    ) -> Result<(Vec<Option<Decision>>, Option<Known>), Misread> {
        let asset = group.asset.as_ref();
        let mut known = answer.before(known, asset)?;
        let state = &mut known.state;
        let mut letters = answer.letters.iter();
        let decisions = group.decisions(|charge| {
            let located = state.locate(asset);
            match letters.next() {
                Some(b'A') => Some(explain::admitted(state, located, charge, answer.now)),
                // If there is no reason to deny it, it reaches a stop.
                _ => explain::refused(state, &group.key, located, charge, answer.now)
                    .filter(|_| prepare::rebase(state, located, answer.now).is_none()),
            }
        });
        Ok((decisions, Some(known)))
    }

    /// Decides the calls of a group, in as many tries as needed, until no call is left whose caller still waits.
    pub(crate) async fn decide(&self, group: Group, found: Option<Found>) {
        let mut left = Some((group, found));
        while let Some((mut group, found)) = left {
            group.calls.retain(|call| !call.answer.is_closed());
            if group.calls.is_empty() {
                return;
            }
            let tried = match found {
                Some(found) => self.try_again(group, found).await,
                None => match self.read(&group.key, group.asset.as_ref()).await {
                    Ok(found) => Ok(Some((group, Some(found)))),
                    Err(error) => Err(Failed::new(group, error.of_reading())),
                },
            };
            left = match tried {
                Ok(left) => left,
                Err(failed) => {
                    let Failed { group, error } = *failed;
                    self.known.forget(&group.key, group.asset.as_ref());
                    return group.fail(&error);
                }
            };
        }
    }

    /// Answers what is denied, and sends the rest: by `take` if all of it fits, or else with all stops.
    async fn try_again(&self, mut group: Group, found: Found) -> Result<Left, Box<Failed>> {
        let Found { now, known } = found;
        let (key, asset) = (group.key.clone(), group.asset.clone());
        let asset = asset.as_ref();
        let Some(known) = known else {
            group.answer(group.decisions(|_| Some(Decision::key_unknown(Some(&key), asset))));
            return Ok(None);
        };
        let known = Arc::new(known);
        self.known.learn(&key, asset, Arc::clone(&known));
        if known.state.is_usable(now) {
            group = match self.ready(group, Arc::clone(&known), now, true) {
                Ok(ready) => return self.take(ready).await,
                Err(group) => group,
            };
        }
        let located = known.state.locate(asset);
        let denied = |charge: &Charge| explain::refused(&known.state, &key, located, charge, now);
        if group.calls.iter().any(|call| denied(&call.charge).is_some()) {
            if let Err(error) = self.rebase(&key, asset, now, Known::clone(&known)).await {
                return Err(Failed::new(group, error));
            }
            group.answer(group.decisions(denied));
        }
        if group.calls.is_empty() {
            return Ok(None);
        }
        let prepared = prepare::check(&known.state, located, &group.charges(), true, now);
        match self.apply_all(&mut group, &known, &prepared, now).await {
            Ok(found) if !group.calls.is_empty() => Ok(Some((group, found))),
            Ok(_) => Ok(None),
            Err(error) => Err(Failed::new(group, error)),
        }
    }

    async fn take(&self, ready: Ready) -> Result<Left, Box<Failed>> {
        let key = &ready.group.key;
        let keys = [self.keyspace.hot(key), self.keyspace.cold(key)];
        let arguments = self.scripts.timed(vec![ready.group.field(), ready.argument.clone()]);
        let call = Scripts::call(&ready.script, &keys, &arguments);
        match self.servers.run(&call, Lane::Shared).await {
            Ok(reply) => self.explain_take(ready, &reply),
            Err(error) => Err(Failed::new(ready.group, error.of_several_writes())),
        }
    }

    /// Sends calls with all stops, and answers those that are decided.
    async fn apply_all(
        &self,
        group: &mut Group,
        known: &Known,
        prepared: &Prepared,
        now: Timestamp,
    ) -> Result<Option<Found>, CommandError> {
        let (key, asset) = (group.key.clone(), group.asset.clone());
        let asset = asset.as_ref();
        let reply = self.apply(&key, asset, known, prepared, now, Request::default()).await?;
        let answer = self.answer(&key, asset, Answer::of(&reply, known, asset, false))?;
        let misread = |misread| self.misread(&key, misread);
        let (decisions, known) = match answer.ended {
            Ended::Compared => self.explain(group, &answer, known).map_err(misread)?,
            _ if answer.is_whole(asset) => (Vec::new(), answer.found(asset).map_err(misread)?),
            _ => return Ok(None),
        };
        // The stamp is another now, if limits have changed.
        let changed = answer.ended == Ended::Compared && prepared.changes_limits();
        match &known {
            Some(known) if !changed => self.known.learn(&key, asset, Arc::new(known.clone())),
            _ => self.known.forget(&key, asset),
        }
        if answer.ended == Ended::Compared {
            group.answer(decisions);
        }
        let found = Found { now: answer.now, known };
        Ok((!changed).then_some(found))
    }
}
