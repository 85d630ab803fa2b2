//! The settings of a guarded store.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use limiter_core::{BoxError, Store, Throttle};
use parking_lot::Mutex;

use crate::asking::{Asking, Connect, Timing};
use crate::breakers::Breakers;
use crate::later::Later;
use crate::local::Local;
use crate::metrics::LateFigures;
use crate::policy::FailurePolicy;
use crate::store::GuardedStore;

/// Settings of a [`GuardedStore`]. A value out of its bounds becomes the nearest one within them.
#[derive(Clone, Copy, Debug)]
#[must_use = "a store is guarded by `guard` or `connect`"]
pub struct GuardedStoreBuilder {
    policy: FailurePolicy,
    timing: Timing,
    most_failures: u32,
    most_remembered: NonZeroUsize,
    most_calls_remembered: usize,
    payments_remembered_for: Duration,
}

impl GuardedStoreBuilder {
    /// Starts with the default settings.
    pub const fn new(policy: FailurePolicy) -> Self {
        let timing = Timing {
            deadline: DEADLINE,
            connect_deadline: CONNECT_DEADLINE,
            probe_every: PROBE_EVERY,
        };
        Self {
            policy,
            timing,
            most_failures: MOST_FAILURES,
            most_remembered: MOST_REMEMBERED,
            most_calls_remembered: MOST_CALLS_REMEMBERED,
            payments_remembered_for: PAYMENTS_REMEMBERED_FOR,
        }
    }

    /// The most that a call may take: 600 ms by default, 1 ms to 10 minutes. A change of keys may take ten times as long, since
    /// a store may need several steps for it.
    ///
    /// The Redis store has a deadline of its own, 500 ms by default. Set this one a little longer: only the store's own
    /// error says whether a call was sent.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { timing: Timing { deadline: bounded(deadline), ..self.timing }, ..self }
    }

    /// The most that [connecting](Self::connect) may take: 5 s by default, 1 ms to 10 minutes.
    pub fn connect_deadline(self, deadline: Duration) -> Self {
        Self { timing: Timing { connect_deadline: bounded(deadline), ..self.timing }, ..self }
    }

    /// How many calls in a row may fail before the store, or the part that serves them, is given up: 3 by default, at
    /// least 1.
    pub fn most_failures(self, calls: u32) -> Self {
        Self { most_failures: calls.max(1), ..self }
    }

    /// The pause between two probes of a store, or of a part of it, that is given up: 1 s by default, 1 ms to 10
    /// minutes.
    pub fn probe_every(self, pause: Duration) -> Self {
        Self { timing: Timing { probe_every: bounded(pause), ..self.timing }, ..self }
    }

    /// The most entries of each kind that are remembered for an outage. The kinds are access keys whose keys are known,
    /// reservations that were made without the store, ends of reservations that are not yet sent to the store, and keys
    /// and groups that `LocalShare` follows. Under `LocalShare`, open and ended reservations of each key have a bound
    /// of this size each. 10,000 by default, at least 1.
    ///
    /// Under `FailOpen`, one reservation too many without the store displaces one that has ended, else the oldest.
    /// During the outage, settling a forgotten reservation is still `Ok`. Afterwards it is
    /// [`ReservationError::Unknown`](limiter_core::ReservationError::Unknown), and the reservation is never charged.
    /// Set this to at least the number of calls that may be open at a time.
    pub fn most_remembered(self, most: usize) -> Self {
        Self { most_remembered: NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN), ..self }
    }

    /// How many calls `LocalShare` remembers by id, over all keys: reservations made without the store, and calls with
    /// a request id. 100,000 by default, some 60 MB.
    ///
    /// A reservation is remembered until its ttl has passed; once it has ended, for two minutes from then. One more call
    /// is refused with [`ReservationError::TooMany`](limiter_core::ReservationError::TooMany), which says when there is
    /// room.
    pub fn most_calls_remembered(self, most: usize) -> Self {
        Self { most_calls_remembered: most, ..self }
    }

    /// How long the store remembers the id of a payment, the charge of `LocalShare` after an outage: a day by default,
    /// a minute to 30 days. It remembers the id for so long only if the answer was lost, or if no other payment of the
    /// key follows.
    ///
    /// A payment whose answer was lost is sent again under its id until the store confirms it, and counts once. After
    /// seven eighths of this time it is given up instead, with a warning: it may or may not have been charged.
    pub fn payments_remembered_for(self, time: Duration) -> Self {
        let time = time.clamp(SHORTEST_MEMORY, LONGEST_MEMORY);
        Self { payments_remembered_for: time, ..self }
    }

    /// Guards this store.
    pub fn guard(self, store: impl Store) -> GuardedStore {
        let asking = self.asking(None);
        asking.take(Arc::new(store));
        GuardedStore::new(self.policy, asking, self.most_remembered)
    }

    /// Guards a store that may not be there yet: connects now, and if that fails, in the background until it succeeds. Meanwhile
    /// calls are answered by the policy, as in any outage.
    ///
    /// A mistake in the settings of the store is an outage too, and does not end by itself: look at the log, or at the
    /// `source()` of the errors.
    pub async fn connect<S, C, F, E>(self, connect: C) -> GuardedStore
    where
        S: Store,
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<S, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let connect: Connect = Box::new(move || {
            let connecting = connect();
            Box::pin(async move {
                let store = connecting.await.map_err(Into::into)?;
                Ok(Arc::new(store) as Arc<dyn Store>)
            })
        });
        let asking = self.asking(Some(connect));
        asking.connect().await;
        GuardedStore::new(self.policy, asking, self.most_remembered)
    }

    fn asking(&self, connect: Option<Connect>) -> Arc<Asking> {
        Arc::new(Asking {
            store: OnceLock::new(),
            connect,
            breakers: Mutex::new(Breakers::new(self.most_failures)),
            timing: self.timing,
            recovering: AtomicBool::new(false),
            came_back: Mutex::new(None),
            warnings: Throttle::of_warnings(),
            later: Later::new(self.most_remembered.get()),
            catching_up: tokio::sync::Mutex::new(()),
            late: LateFigures::new(self.policy),
            refusals: Throttle::of_warnings(),
            listener: OnceLock::new(),
            local: match self.policy {
                FailurePolicy::LocalShare { share } => Some(Local::new(
                    share,
                    self.most_remembered,
                    self.most_calls_remembered,
                    self.payments_remembered_for,
                )),
                FailurePolicy::FailClosed | FailurePolicy::FailOpen => None,
            },
        })
    }
}

fn bounded(duration: Duration) -> Duration {
    duration.clamp(SHORTEST, LONGEST)
}

/// A little more than the deadline of the Redis store, so that its errors arrive.
const DEADLINE: Duration = Duration::from_millis(600);
/// The default of the Redis store: with name look-up, TLS and authentication.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A short outage then lasts a second at most; a probe each second costs nothing.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A single failure is usual; three in a row, with no success between, are an outage.
const MOST_FAILURES: u32 = 3;
/// A few megabytes.
const MOST_REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("it is more than zero");
/// A few dozen megabytes, however many keys reserve at a time.
const MOST_CALLS_REMEMBERED: usize = 100_000;
/// After a longer outage limits have started new windows, and operators attend to the store.
const PAYMENTS_REMEMBERED_FOR: Duration = Duration::from_secs(86_400);
/// Several deadlines fit into it.
const SHORTEST_MEMORY: Duration = Duration::from_secs(60);
/// A store keeps a hundred bytes or so for each payment.
const LONGEST_MEMORY: Duration = Duration::from_secs(30 * 86_400);
/// The resolution of a timer.
const SHORTEST: Duration = Duration::from_millis(1);
/// No caller waits longer.
const LONGEST: Duration = Duration::from_secs(600);
