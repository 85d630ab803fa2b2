//! The hot path: calls that come in while a batch is under way go together with the next.
//!
//! There is no timer: a call that finds nothing under way goes at once, alone, and a batch that is full does not wait for the
//! one before. In a batch each decision costs the server two thirds of a single one, and a tenth if all are of one key, whose
//! records are read and written once. On a cluster each first segment of keys has a lane of its own: other keys in one
//! script may have different slots.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{AssetId, Charge, Decision, KeyId, StoreError};
use redis::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::deciding::{Calls, Ready};
use crate::error::{CommandError, RedisError};
use crate::keys::{Found, Keys};
use crate::metrics::Figures;
use crate::runtime;
use crate::servers::Lane as Connection;
use crate::waiting::{Joined, Lane, Queues, Request, Ticket};

/// Decides calls. A clone is the same queues.
#[derive(Clone, Debug)]
pub(crate) struct Batcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: Keys,
    queues: Queues,
    figures: Figures,
    bounds: Bounds,
}

/// The bounds of a batcher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most that a call may take, with waiting.
    pub(crate) deadline: Duration,
    /// The most calls in a batch.
    pub(crate) batch: usize,
    /// The most calls that wait, in all lanes together.
    pub(crate) waiting: usize,
    /// The most keys and assets whose limits are remembered.
    pub(crate) known: usize,
}

/// Calls that one script decides, and its answer.
#[derive(Debug)]
struct Replied {
    calls: Vec<(Calls, Ready)>,
    reply: Result<Value, CommandError>,
}

impl Batcher {
    pub(crate) fn new(keys: Keys, bounds: Bounds) -> Self {
        let (queues, figures) = (Queues::new(bounds), Figures::default());
        Self(Arc::new(Inner { keys, queues, figures, bounds }))
    }

    /// Decides a call, and charges it if it is allowed.
    ///
    /// A caller that goes away before its call is sent is not charged.
    pub(crate) async fn decide(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        let runtime = runtime::current().map_err(CommandError::NotRun)?;
        let (answer, answered) = oneshot::channel();
        let ticket = Arc::new(Ticket::default());
        let lane = self.0.keys.servers.is_cluster().then(|| key.root().to_owned());
        let request = Request {
            key: key.clone(),
            asset: asset.cloned(),
            charge: *charge,
            answer,
            ticket: Arc::clone(&ticket),
        };
        let leaves = Leaves(&ticket);
        match self.0.queues.join(lane.clone(), request) {
            Joined::Full => {
                let waiting = self.0.bounds.waiting;
                return Err(CommandError::NotRun(RedisError::Overloaded { waiting }).into());
            }
            Joined::Queued => {}
            // In a task of its own: a caller that goes away must not stop the calls of others.
            Joined::Ready => {
                let serving = Serving { inner: Arc::clone(&self.0), lane, open: true };
                drop(runtime.spawn(serving.run()));
            }
        }
        let deadline = self.0.bounds.deadline;
        let error = match timeout(deadline, answered).await {
            Ok(Ok(decision)) => return decision,
            Ok(Err(_)) => RedisError::RuntimeGone,
            Err(_) => RedisError::Deadline { after: deadline },
        };
        let sent = !leaves.0.give_up();
        Err(if sent { CommandError::Unknown(error) } else { CommandError::NotRun(error) }.into())
    }
}

/// Gives a call up when its caller goes away.
struct Leaves<'a>(&'a Ticket);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// Takes batches from a lane. If its task ends halfway, or never begins, because its runtime is shut down, the lane is left to
/// the other tasks that take batches. Without any, it is closed, so that the next call opens it again.
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
                drop(tokio::spawn(
                    async move { replied.into_iter().for_each(|it| inner.answer(it)) },
                ));
            } else {
                replied.into_iter().for_each(|it| self.inner.answer(it));
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
    /// Sends a batch: in one script, unless records of several shapes are among them.
    async fn send(self: &Arc<Self>, batch: Vec<Request>) -> Vec<Replied> {
        self.figures.batch(batch.len());
        let mut scripts: Vec<Vec<(Calls, Ready)>> = Vec::new();
        for calls in by_key(batch) {
            let Some(ready) = self.keys.prepare(&calls) else {
                self.go_on(calls, None);
                continue;
            };
            let same =
                |other: &&mut Vec<(Calls, Ready)>| Arc::ptr_eq(&other[0].1.script, &ready.script);
            match scripts.iter_mut().find(same) {
                Some(other) => other.push((calls, ready)),
                None => scripts.push(vec![(calls, ready)]),
            }
        }
        let mut replied = Vec::with_capacity(scripts.len());
        let Some(last) = scripts.pop() else { return replied };
        let mut others = JoinSet::new();
        for calls in scripts {
            let inner = Arc::clone(self);
            others.spawn(async move { inner.run(calls).await });
        }
        replied.push(self.run(last).await);
        while let Some(other) = others.join_next().await {
            replied.extend(other);
        }
        replied
    }

    async fn run(&self, calls: Vec<(Calls, Ready)>) -> Replied {
        let keys = &self.keys;
        let names: Vec<_> =
            calls.iter().flat_map(|(of_key, _)| keys.names_of(&of_key.key)).collect();
        let given = calls.iter().flat_map(|(_, ready)| ready.arguments.clone());
        let arguments = keys.scripts.timed(given.collect());
        let script = &calls[0].1.script;
        let reply = keys.servers.run(script, &names, &arguments, Connection::Shared).await;
        Replied { calls, reply }
    }

    /// Goes on with calls that one script did not decide, in a task of their own: they delay no other call.
    fn go_on(&self, calls: Calls, found: Option<Found>) {
        let keys = self.keys.clone();
        drop(tokio::spawn(async move { keys.decide(calls, found).await }));
    }

    fn answer(&self, replied: Replied) {
        let Replied { calls, reply } = replied;
        let replies = match (calls.len(), reply) {
            // The answer to those of one key is not wrapped.
            (1, Ok(reply)) => vec![reply],
            (_, Ok(Value::Array(replies))) => replies,
            (_, Ok(other)) => vec![other],
            (_, Err(error)) => return fail(calls, error),
        };
        let mut replies = replies.into_iter();
        for (mut calls, ready) in calls {
            let reply = replies.next().unwrap_or(Value::Nil);
            match self.keys.explain_take(&mut calls, &ready, &reply) {
                Ok(_) if calls.calls.is_empty() => {}
                Ok(found) => self.go_on(calls, found),
                Err(error) => calls.fail(&error),
            }
        }
    }
}

/// The calls of a batch by key and asset.
fn by_key(batch: Vec<Request>) -> Vec<Calls> {
    let mut by_key: Vec<Calls> = Vec::new();
    for call in batch {
        match by_key.iter_mut().find(|calls| calls.takes(&call)) {
            Some(calls) => calls.calls.push(call),
            None => by_key.push(Calls::of(call)),
        }
    }
    by_key
}

/// Answers all callers of a script that failed.
fn fail(calls: Vec<(Calls, Ready)>, error: CommandError) {
    let error = match error.of_several_writes() {
        // Stopped by what it read of one key, it may have charged others before.
        CommandError::NotRun(error @ RedisError::Corrupt { .. }) => CommandError::Unknown(error),
        error => error,
    };
    for (calls, _) in calls {
        calls.fail(&error);
    }
}
