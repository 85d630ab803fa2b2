//! Which server has a key, and which one has it when that server has it no more.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::FailureDomain;
use tokio::time::{Instant, sleep_until};

use super::cluster::Cluster;
use super::node::Node;
use super::sentinel::Sentinels;
use crate::error::RedisError;

/// One of three kinds of places.
#[derive(Debug)]
pub(super) enum Place {
    Standalone(Arc<Node>),
    Sentinel(Sentinels),
    Cluster(Cluster),
}

impl Place {
    /// The node that has a key. A cluster looks it up again if the map that is known has proved to be wrong.
    pub(super) async fn owner(
        &self,
        key: &[u8],
        is_known_wrong: bool,
        end: Instant,
    ) -> Result<Arc<Node>, RedisError> {
        match self {
            Self::Standalone(node) => Ok(Arc::clone(node)),
            Self::Sentinel(sentinels) => sentinels.master(end).await,
            Self::Cluster(cluster) => cluster.owner(key, is_known_wrong, end).await,
        }
    }

    /// Returns another node for the key when this one cannot be reached, if there is one by now.
    pub(super) async fn owner_instead(
        &self,
        gone: &Arc<Node>,
        error: RedisError,
        key: &[u8],
        end: Instant,
    ) -> Result<Arc<Node>, RedisError> {
        let other = self.owner(key, true, end).await;
        // Without another node, the error is that this node cannot be reached, not the failed search for another.
        other.ok().filter(|other| !Arc::ptr_eq(other, gone)).ok_or(error)
    }

    /// Returns the successor of a node that refused since it is no longer a master; other refusals stay errors.
    pub(super) async fn owner_after(
        &self,
        error: RedisError,
        key: &[u8],
        end: Instant,
    ) -> Result<Arc<Node>, RedisError> {
        let has_successor = !matches!(self, Self::Standalone(_));
        match error {
            RedisError::ReadOnly { .. } if has_successor && pause(end).await => {
                self.owner(key, true, end).await
            }
            RedisError::ClusterDown { .. } => {
                self.doubt();
                Err(error)
            }
            _ => Err(error),
        }
    }

    /// The part that serves keys with this hash tag: on a cluster the last known master of their slot. A single server,
    /// also behind Sentinels, has no parts.
    pub(super) fn failure_domain(&self, tag: &[u8]) -> FailureDomain {
        match self {
            Self::Standalone(_) | Self::Sentinel(_) => FailureDomain::WHOLE,
            Self::Cluster(cluster) => cluster.failure_domain(tag),
        }
    }

    /// Returns the node to which another node redirects.
    pub(super) fn redirect_target(&self, to: &str, by: &Node) -> Result<Arc<Node>, RedisError> {
        match self {
            Self::Cluster(cluster) => cluster.redirect_target(to, by),
            Self::Standalone(_) | Self::Sentinel(_) => {
                let (by, hint) = (by.address(), "write redis+cluster:// for it");
                let reason = format!("{by} belongs to a cluster and sends us to {to}: {hint}");
                Err(RedisError::setting("url", reason))
            }
        }
    }

    /// Marks the known map as doubtful, so that later calls get a newer one.
    pub(super) fn doubt(&self) {
        if let Self::Cluster(cluster) = self {
            cluster.doubt();
        }
    }

    pub(super) async fn masters(&self, end: Instant) -> Result<Vec<Arc<Node>>, RedisError> {
        match self {
            Self::Standalone(node) => Ok(vec![Arc::clone(node)]),
            Self::Sentinel(sentinels) => Ok(vec![sentinels.master(end).await?]),
            Self::Cluster(cluster) => cluster.masters(end).await,
        }
    }
}

/// Waits a little before another attempt. False at once if that would have less time than this pause: an error that says
/// why nothing ran is better than an attempt whose answer comes too late.
pub(super) async fn pause(end: Instant) -> bool {
    let later = Instant::now() + PAUSE;
    let in_time = later + PAUSE < end;
    if in_time {
        sleep_until(later).await;
    }
    in_time
}

/// Before the same is tried again: a key of a moving slot is on its way for about a millisecond, a failover is
/// known to all for longer, and the deadline ends it anyway.
const PAUSE: Duration = Duration::from_millis(20);
