//! The hot path: calls that come in while a batch is under way go together with the next.
//!
//! There is no timer: a call that finds nothing under way goes at once, alone, and a batch that is full does not wait for the
//! one before. In a batch each decision costs the server two thirds of a single one, and a sixth if all are of one key, whose
//! records are read and written once. On a cluster each key has a lane of its own: two keys in one script may have different
//! slots.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{AssetId, Charge, Decision, KeyId, StoreError};
use redis::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::codec::{Calls, Mode, asset_field};
use crate::error::{CallError, RedisError};
use crate::explain::explain;
use crate::keyspace::Keyspace;
use crate::known::{Known, KnownLimits};
use crate::metrics::Figures;
use crate::scripts::Scripts;
use crate::servers::{Lane as Connection, Servers};
use crate::waiting::{self, Joined, Lane, Queues, Request, Ticket};

/// Decides calls. A clone is the same queues.
#[derive(Clone, Debug)]
pub(crate) struct Batcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: Servers,
    keyspace: Keyspace,
    scripts: Arc<Scripts>,
    queues: Queues,
    known: Arc<KnownLimits>,
    figures: Figures,
    deadline: Duration,
    waiting: usize,
}

/// The bounds of a batcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most that a call may take, with waiting.
    pub(crate) deadline: Duration,
    /// The most calls in a batch.
    pub(crate) batch: usize,
    /// The most calls that wait.
    pub(crate) waiting: usize,
    /// The most keys and assets whose limits are remembered.
    pub(crate) known: usize,
}

/// The calls of a batch that are of the same key and asset.
#[derive(Debug)]
struct Calling {
    requests: Vec<Request>,
    known: Option<Arc<Known>>,
}

/// A batch, and what came of it.
#[derive(Debug)]
struct Replied {
    groups: Vec<Calling>,
    /// Of each group.
    keys: Vec<Vec<u8>>,
    reply: Result<Value, CallError>,
}

impl Batcher {
    pub(crate) fn new(
        servers: Servers,
        keyspace: Keyspace,
        scripts: Arc<Scripts>,
        known: Arc<KnownLimits>,
        bounds: Bounds,
    ) -> Self {
        let queues = waiting::Bounds { batch: bounds.batch, waiting: bounds.waiting };
        Self(Arc::new(Inner {
            servers,
            keyspace,
            scripts,
            queues: Queues::new(queues),
            known,
            figures: Figures::default(),
            deadline: bounds.deadline,
            waiting: bounds.waiting,
        }))
    }

    /// Decides a call, and charges it if it is allowed.
    ///
    /// A caller that goes away before its call is sent is not charged.
    pub(crate) async fn decide(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        mode: Mode,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        let (answer, answered) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let lane = self.0.servers.is_cluster().then(|| key.clone());
        let request = Request {
            key: key.clone(),
            asset: asset.cloned(),
            mode,
            charge: *charge,
            answer,
            ticket: Arc::clone(&ticket),
        };
        let leaves = Leaves(&ticket);
        match self.0.queues.join(lane.clone(), request) {
            Joined::Full => {
                let waiting = self.0.waiting;
                return Err(CallError::NotRun(RedisError::Overloaded { waiting }).into());
            }
            Joined::Queued => {}
            // In a task of its own: a caller that goes away must not stop the calls of others.
            Joined::Ready => {
                let serving = Serving { inner: Arc::clone(&self.0), lane, open: true };
                drop(tokio::spawn(serving.run()));
            }
        }
        let error = match timeout(self.0.deadline, answered).await {
            Ok(Ok(decision)) => return decision,
            Ok(Err(_)) => RedisError::RuntimeGone,
            Err(_) => RedisError::Deadline { after: self.0.deadline },
        };
        let sent = !leaves.0.give_up();
        Err(if sent { CallError::Unknown(error) } else { CallError::NotRun(error) }.into())
    }
}

/// Gives a call up when its caller goes away.
struct Leaves<'a>(&'a Ticket);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// Takes batches from a lane. Should its task end halfway, or never begin, since its runtime is shut down, the lane is left to
/// whoever else takes some, or else is closed, so that the next call opens it again.
struct Serving {
    inner: Arc<Inner>,
    lane: Lane,
    open: bool,
}

impl Serving {
    /// Takes batch after batch from the lane, as long as there is one for it.
    async fn run(mut self) {
        let mut next = self.next();
        while let Some(batch) = next {
            let replied = self.inner.send(batch).await;
            next = self.next();
            if next.is_some() {
                // In a task of its own: the server decides the next batch while this one is explained.
                let inner = Arc::clone(&self.inner);
                drop(tokio::spawn(async move { inner.answer(replied) }));
            } else {
                self.inner.answer(replied);
            }
        }
    }

    /// The next batch; or none, and then it has left the lane, which may be served by another task by now.
    fn next(&mut self) -> Option<Vec<Request>> {
        let next = self.inner.queues.next(&self.lane);
        self.open = next.is_some();
        next
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.open {
            self.inner.queues.abandon(&self.lane);
        }
    }
}

impl Inner {
    async fn send(&self, batch: Vec<Request>) -> Replied {
        self.figures.batch(batch.len());
        let groups = self.grouped(batch);
        let keys: Vec<_> = groups.iter().map(|group| self.keyspace.state(group.key())).collect();
        let mut arguments = Vec::with_capacity(2 * groups.len());
        for group in &groups {
            arguments.extend([asset_field(group.asset()), group.calls()]);
        }
        let arguments = self.scripts.timed(arguments);
        let call = Scripts::call(&self.scripts.decide, &keys, &arguments);
        let reply = self.servers.run(&call, Connection::Shared).await;
        Replied { groups, keys, reply }
    }

    fn grouped(&self, batch: Vec<Request>) -> Vec<Calling> {
        let mut groups: Vec<Calling> = Vec::new();
        for request in batch {
            match groups.iter_mut().find(|group| group.takes(&request)) {
                Some(group) => group.requests.push(request),
                None => {
                    let known = self.known.of(&request.key, request.asset.as_ref());
                    groups.push(Calling { requests: vec![request], known });
                }
            }
        }
        groups
    }

    fn answer(&self, replied: Replied) {
        let Replied { groups, keys, reply } = replied;
        let replies = match (groups.len(), reply) {
            // A single group is not wrapped.
            (1, Ok(reply)) => vec![reply],
            (_, Ok(Value::Array(replies))) => replies,
            (_, Ok(other)) => vec![other],
            (_, Err(error)) => return fail(groups, error),
        };
        let mut replies = replies.into_iter();
        for (group, key) in groups.into_iter().zip(&keys) {
            let reply = replies.next().unwrap_or(Value::Nil);
            self.answer_group(group, key, &reply);
        }
    }

    fn answer_group(&self, group: Calling, key: &[u8], reply: &Value) {
        let (id, asset) = (group.key().clone(), group.asset().cloned());
        let charges: Vec<_> = group.requests.iter().map(|request| request.charge).collect();
        let explained = explain(reply, asset.as_ref(), &charges, group.known.as_deref());
        match explained {
            Ok((decisions, learnt)) => {
                if let Some(learnt) = learnt {
                    self.known.learn(id.clone(), asset.clone(), learnt);
                }
                if decisions.iter().any(Result::is_err) {
                    self.known.forget(id, asset);
                }
                for (request, decision) in group.requests.into_iter().zip(decisions) {
                    let decision = decision.map_err(|error| CallError::Unknown(error).into());
                    let _ = request.answer.send(decision);
                }
            }
            Err(wrong) => {
                // Should the limits at hand be to blame, the next call is told new ones.
                self.known.forget(id, asset);
                let error = CallError::Unknown(wrong.at(key));
                for request in group.requests {
                    let _ = request.answer.send(Err(error.clone().into()));
                }
            }
        }
    }
}

impl Calling {
    fn takes(&self, request: &Request) -> bool {
        self.requests.first().is_some_and(|first| {
            first.key == request.key && first.asset == request.asset && first.mode == request.mode
        })
    }

    fn key(&self) -> &KeyId {
        &self.requests[0].key
    }

    fn asset(&self) -> Option<&AssetId> {
        self.requests[0].asset.as_ref()
    }

    fn calls(&self) -> Vec<u8> {
        let known = self.known.as_ref().map(|known| known.stamp()).unwrap_or_default();
        let mut calls = Calls::new(self.requests[0].mode, known, self.requests.len());
        for request in &self.requests {
            calls.push(&request.charge);
        }
        calls.into_bytes()
    }
}

/// Tells all callers of a batch that it failed.
fn fail(groups: Vec<Calling>, error: CallError) {
    let error = match error.of_several_writes() {
        // Stopped by what it read of one key, it may have charged others before.
        CallError::NotRun(error @ RedisError::Corrupt { .. }) => CallError::Unknown(error),
        error => error,
    };
    for request in groups.into_iter().flat_map(|group| group.requests) {
        let _ = request.answer.send(Err(error.clone().into()));
    }
}
