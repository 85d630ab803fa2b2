//! How a store is asked: within a deadline, and not at all while it is given up.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use limiter_core::{BoxError, Crossing, KeyId, Listener, Store, StoreError};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::breaker::{Breaker, BreakerState, Turn};
use crate::error::{CallError, Outage, told};
use crate::later::Later;
use crate::local::Local;
use crate::metrics::LateFigures;
use crate::pause::Seldom;

/// The store, as soon as there is one, and what is known of how it fares.
///
/// The breaker and the last failure are each behind a lock that is held for a few instructions and never across a call.
pub(crate) struct Asking<S> {
    pub(crate) store: OnceLock<S>,
    pub(crate) connect: Option<Connect<S>>,
    pub(crate) breaker: Mutex<Breaker>,
    pub(crate) last_failure: Mutex<Arc<str>>,
    pub(crate) timing: Timing,
    /// Whether the task runs that looks after a store which has failed: there is one at most.
    pub(crate) recovering: AtomicBool,
    /// When a probe has succeeded last.
    pub(crate) came_back: Mutex<Option<Instant>>,
    /// What the store is to be told when it is back.
    pub(crate) later: Later,
    /// Held by the one task that tells it so.
    pub(crate) catching_up: tokio::sync::Mutex<()>,
    /// Counts what the store is told late.
    pub(crate) late: LateFigures,
    /// When it was warned last of what the store refuses.
    pub(crate) refusals: Seldom,
    /// What goes on without the store, by the policy of that name.
    pub(crate) local: Option<Local>,
    /// Who wants to hear of thresholds that are reached by what the store is told later.
    pub(crate) listener: OnceLock<Listener>,
}

/// Makes a store, where it is connected to later.
pub(crate) type Connect<S> = Box<dyn Fn() -> Connecting<S> + Send + Sync>;
pub(crate) type Connecting<S> = Pin<Box<dyn Future<Output = Result<S, BoxError>> + Send>>;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) deadline: Duration,
    pub(crate) connect_deadline: Duration,
    pub(crate) probe_every: Duration,
}

/// What a call does to the store, which says what it means that its answer does not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    Reads,
    Charges,
    /// It changes a key: rarely, in several steps, and not at the store's fault if another change is under way.
    ChangesKeys,
}

impl<S: Store> Asking<S> {
    /// Says that what the store was told later has reached thresholds.
    pub(crate) fn crossed(&self, key: &KeyId, crossed: &[Crossing]) {
        if !crossed.is_empty()
            && let Some(listener) = self.listener.get()
        {
            listener(key, crossed);
        }
    }

    /// Asks, unless the store is given up: then the answer is an error at once.
    pub(crate) async fn ask<'a, T, E, F>(
        self: &'a Arc<Self>,
        effect: Effect,
        call: impl FnOnce(&'a S) -> F,
    ) -> Result<T, E>
    where
        E: CallError,
        F: Future<Output = Result<T, E>>,
    {
        let admitted = self.breaker.lock().admit();
        let (Some(began), Some(store)) = (admitted, self.store.get()) else {
            self.recover();
            return Err(self.given_up().into());
        };
        let deadline = self.timing.deadline * effect.steps();
        let answer = match timeout(deadline, call(store)).await {
            Ok(answer) => answer,
            Err(_) => Err(effect.unanswered(Outage::Deadline { after: deadline }).into()),
        };
        match &answer {
            _ if effect == Effect::ChangesKeys => {}
            Err(error) if error.is_outage() => self.failed(began, error),
            _ => self.breaker.lock().succeeded(began),
        }
        answer
    }

    fn failed(self: &Arc<Self>, began: Turn, error: &impl CallError) {
        let failure = told(error);
        *self.last_failure.lock() = Arc::clone(&failure);
        if self.breaker.lock().failed(began) {
            tracing::warn!(%failure, "the store is given up until it answers a probe");
            self.recover();
        }
    }

    fn given_up(&self) -> StoreError {
        let last_failure = Arc::clone(&self.last_failure.lock());
        StoreError::unavailable(Outage::GivenUp { last_failure })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.breaker.lock().state() == BreakerState::Closed
    }
}

impl Effect {
    fn unanswered(self, outage: Outage) -> StoreError {
        match self {
            Self::Reads => StoreError::unavailable(outage),
            Self::Charges | Self::ChangesKeys => StoreError::outcome_unknown(outage),
        }
    }

    /// How many deadlines it may take.
    const fn steps(self) -> u32 {
        match self {
            Self::Reads | Self::Charges => 1,
            Self::ChangesKeys => MANAGEMENT_STEPS,
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Asking<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking")
            .field("store", &self.store.get())
            .field("breaker", &*self.breaker.lock())
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

/// A key is created in five steps on Redis; twice as many leave room for one that has to be repeated.
const MANAGEMENT_STEPS: u32 = 10;
