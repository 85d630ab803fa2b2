//! The servers that run scripts: one server, the master that Sentinels name, or the master of a slot in a cluster.
//!
//! A script is sent again only after an answer that proves that it changed nothing, or if it may run twice without harm.
//! Any other script without an answer has an unknown outcome. redis-rs's cluster and manager connections may send twice.

mod answer;
mod checks;
mod cluster;
#[cfg(test)]
pub(crate) mod faults;
mod node;
mod place;
mod policy;
mod sentinel;
mod shared;
mod speaks;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
mod wire;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::FailureDomain;
use redis::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::answer::Answer;
use self::cluster::Cluster;
use self::node::{Failure, Node};
use self::place::Place;
use self::policy::Policy;
use self::sentinel::Sentinels;
use crate::address::Target;
use crate::error::{CommandError, RedisError};
use crate::runtime::{in_runtime, reading_in_runtime};
use crate::script::{Call, Script};

/// The address of the servers, and the settings of connections.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) target: Target,
    /// The most that one connect may take, with all checks.
    pub(crate) connect_deadline: Duration,
    /// The most that one call may take, with connecting and redirects.
    pub(crate) command_deadline: Duration,
    /// Connections to each server for [`Lane::Apart`].
    pub(crate) pool_size: usize,
    /// A server that may evict limits is refused, and not only warned of.
    pub(crate) refuse_eviction: bool,
}

/// The connection of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The connection that all decisions share.
    Shared,
    /// A connection of a pool, so that a long listing delays no decision.
    Apart,
}

/// The servers of one deployment. Clones share the connections.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    place: Arc<Place>,
    policy: Arc<Policy>,
    #[cfg(test)]
    pub(crate) faults: faults::Faults,
    /// The number of times that each script was sent.
    #[cfg(feature = "fuzzing")]
    pub(crate) sent: Arc<parking_lot::Mutex<std::collections::BTreeMap<&'static str, u64>>>,
    /// Whether all calls use the one shared connection.
    #[cfg(feature = "fuzzing")]
    pub(crate) never_apart: bool,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<Value, CommandError>> + Send + 'a>>;

impl Servers {
    /// Connects to all masters, checks them and loads the scripts.
    ///
    /// A part of a cluster may be unreachable.
    pub(crate) async fn connect(
        settings: Settings,
        scripts: &[&Script],
    ) -> Result<Self, RedisError> {
        if settings.target.uses_tls() {
            choose_cryptography();
        }
        let target = settings.target.clone();
        let policy = Arc::new(Policy::new(settings, scripts)?);
        let place = match target {
            Target::Standalone(info) => {
                Place::Standalone(Arc::new(Node::new(info, Arc::clone(&policy))?))
            }
            Target::Sentinel { sentinels, service, master } => {
                Place::Sentinel(Sentinels::new(sentinels, service, master, Arc::clone(&policy)))
            }
            Target::Cluster { seeds } => Place::Cluster(Cluster::new(seeds, Arc::clone(&policy))),
        };
        let servers = Self {
            place: Arc::new(place),
            policy,
            #[cfg(test)]
            faults: faults::Faults::default(),
            #[cfg(feature = "fuzzing")]
            sent: Arc::default(),
            #[cfg(feature = "fuzzing")]
            never_apart: false,
        };
        reading_in_runtime(servers.connect_masters()).await?;
        Ok(servers)
    }

    /// Returns a handle with its own counts that uses the shared connection alone.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn for_one_of_many(&self) -> Self {
        Self { sent: Arc::default(), never_apart: true, ..self.clone() }
    }

    /// Runs a script on the master that has the slot of its first key, within the deadline of commands.
    ///
    /// Boxed: the futures of callers, and of their callers, are small then, and quick to compile.
    pub(crate) fn run<'a>(
        &'a self,
        script: &'a Script,
        keys: &'a [Vec<u8>],
        arguments: &'a [Vec<u8>],
        lane: Lane,
    ) -> Running<'a> {
        let call = Call { script, keys, arguments };
        let run = self.run_until(call, lane, Instant::now() + self.policy.command_deadline);
        #[cfg(test)]
        let run = self.faults.around(script.name, run);
        Box::pin(in_runtime(run))
    }

    /// Runs an idempotent script: if its answer is lost with the connection, it is sent again, a few times and within the
    /// deadline.
    pub(crate) fn run_repeatable<'a>(
        &'a self,
        script: &'a Script,
        keys: &'a [Vec<u8>],
        arguments: &'a [Vec<u8>],
        lane: Lane,
    ) -> Running<'a> {
        let call = Call { script, keys, arguments };
        Box::pin(in_runtime(async move {
            let end = Instant::now() + self.policy.command_deadline;
            let mut lost = 0;
            loop {
                match self.run_until(call, lane, end).await {
                    Err(CommandError::Unknown(RedisError::ConnectionLost { .. }))
                        if lost < REPETITIONS =>
                    {
                        lost += 1;
                    }
                    Err(CommandError::NotRun(error)) if lost > 0 => {
                        return Err(CommandError::Unknown(error));
                    }
                    answer => return answer,
                }
            }
        }))
    }

    async fn run_until(
        &self,
        call: Call<'_>,
        lane: Lane,
        end: Instant,
    ) -> Result<Value, CommandError> {
        #[cfg(feature = "fuzzing")]
        let lane = {
            *self.sent.lock().entry(call.script.name).or_default() += 1;
            if self.never_apart { Lane::Shared } else { lane }
        };
        let key = call.keys.first().map_or(&[][..], Vec::as_slice);
        let mut node = self.place.owner(key, false, end).await.map_err(CommandError::NotRun)?;
        let (mut asking, mut hops) = (false, 0);
        // The deadline bounds how often the same node is asked again, and this how often another one is.
        while hops <= MAX_HOPS {
            let failure = match node.attempt(&call, lane, asking, end).await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            let next = match failure {
                Failure::Lost(error) => {
                    self.place.doubt();
                    return Err(CommandError::Unknown(error));
                }
                Failure::NotSent(error) => self.place.owner_instead(&node, error, key, end).await,
                Failure::Answered(Answer::TryAgain { answer }) => {
                    if place::pause(end).await {
                        continue;
                    }
                    return Err(CommandError::NotRun(RedisError::ClusterDown { answer }));
                }
                Failure::Answered(Answer::Moved { to }) => {
                    self.place.doubt();
                    self.place.redirect_target(&to, &node)
                }
                Failure::Answered(Answer::Ask { to }) => {
                    node = self.place.redirect_target(&to, &node).map_err(CommandError::NotRun)?;
                    asking = true;
                    hops += 1;
                    continue;
                }
                Failure::Answered(Answer::Refused(error)) => {
                    self.place.owner_after(error, key, end).await
                }
                Failure::Answered(Answer::NoScript) => Err(RedisError::ScriptFailed {
                    script: call.script.name.to_owned(),
                    answer: "NOSCRIPT, although it was sent along".to_owned(),
                }),
            };
            node = next.map_err(CommandError::NotRun)?;
            asking = false;
            hops += 1;
        }
        Err(CommandError::NotRun(RedisError::TooManyRedirects { hops: MAX_HOPS }))
    }

    /// Returns the part of the servers that serves keys with this hash tag, by the last known topology. Sends no request.
    pub(crate) fn failure_domain(&self, tag: &[u8]) -> FailureDomain {
        self.place.failure_domain(tag)
    }

    /// Returns whether the keys of one call must have one slot.
    pub(crate) fn is_cluster(&self) -> bool {
        matches!(*self.place, Place::Cluster(_))
    }

    /// Returns whether all servers seen so far take scripts that begin with `#!lua`: Redis from 7.0 on, and Valkey.
    pub(crate) fn understand_shebangs(&self) -> bool {
        self.policy.shebangs()
    }

    /// Pings every master, all at once, each within the deadline of commands.
    pub(crate) async fn health(&self) -> Result<(), RedisError> {
        let end = Instant::now() + self.policy.command_deadline;
        let mut pings = JoinSet::new();
        for node in self.place.masters(end).await? {
            pings.spawn(async move { node.ping(end).await });
        }
        while let Some(ping) = pings.join_next().await {
            // A task ends early only with its runtime, and then no caller waits for this.
            ping.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// Deletes all keys whose names match, on every master, and returns their number.
    pub(crate) async fn delete_all(&self, pattern: &str) -> Result<u64, RedisError> {
        let deadline = self.policy.command_deadline;
        let mut deleted = 0;
        for node in self.place.masters(Instant::now() + deadline).await? {
            deleted += node.delete_all(pattern, deadline).await?;
        }
        Ok(deleted)
    }

    async fn connect_masters(&self) -> Result<(), RedisError> {
        // Finding the masters takes up to one deadline, connecting another; the third leaves time to return the errors
        // of these two.
        let end = Instant::now() + self.policy.connect_deadline * 3;
        let mut connects = JoinSet::new();
        let masters = self.place.masters(end).await?;
        let mut missing = masters.len();
        for node in masters {
            connects.spawn(async move { node.connect(end).await });
        }
        while let Some(outcome) = connects.join_next().await {
            let Ok(Err(error)) = outcome else { continue };
            missing -= 1;
            // The other masters can serve their keys meanwhile, and this one may be back before it is needed.
            let passing =
                matches!(error, RedisError::Unreachable { .. } | RedisError::Loading { .. });
            if !passing || missing == 0 {
                return Err(error);
            }
            tracing::warn!("a master of the cluster is missing: {error}");
        }
        Ok(())
    }
}

/// Installs a cryptography provider for rustls, which panics without one, unless the process has chosen one.
fn choose_cryptography() {
    #[cfg(feature = "tls")]
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been faster, which does no harm.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

/// Repetitions of an idempotent call. One lost connection is usual when a server is replaced, and a second may follow
/// from the first; more are a network failure to report to the caller.
const REPETITIONS: usize = 2;

/// Redirects of one call. One is usual when a slot has moved, two while it moves; more mean that the nodes disagree.
const MAX_HOPS: usize = 5;
