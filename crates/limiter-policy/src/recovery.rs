//! Recovery: one task probes a failed store, so that no caller has to.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use limiter_core::{BoxError, CallError, Charge, FailureDomain, KeyId, Store, StoreError};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::asking::{Asking, failed_key};
use crate::breakers::Witness;
use crate::catch_up::Round;
use crate::error::{Outage, with_causes};
use crate::runtime::in_runtime;

impl Asking {
    /// Starts a task, unless one runs, that probes the store until it answers and all late operations are sent.
    pub(crate) fn recover(self: &Arc<Self>) {
        if !self.recovering.swap(true, Ordering::AcqRel) {
            let recovery = Recovery { asking: Arc::downgrade(self), ended: false };
            // Without a runtime the recovery is dropped here, and the next call tries again.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(recovery.run());
            }
        }
    }

    /// Returns the pause before the first probe. Without it, a store that answers probes but fails calls would come back
    /// and be given up all the time.
    fn first_pause(&self) -> Duration {
        let since = self.came_back.lock().map_or(Duration::MAX, |came_back| came_back.elapsed());
        self.timing.probe_every.saturating_sub(since)
    }

    pub(crate) fn is_well(&self) -> bool {
        self.is_closed() && self.owes_nothing()
    }

    /// Sends one probe to each part of the store that is given up, and late operations if the store is connected. A
    /// part gets no other calls before its probe succeeds.
    async fn look_after(self: &Arc<Self>) {
        let mut probes = JoinSet::new();
        for (domain, witness) in self.breakers.lock().begin_probes() {
            let asking = Arc::clone(self);
            probes.spawn(async move { asking.probe_part(domain, witness).await });
        }
        // A probe that panics, or is dropped with its runtime, has failed.
        while probes.join_next().await.is_some() {}
        self.breakers.lock().abandon_probes();
        if self.is_there() {
            self.catch_up(Round::default()).await;
        }
    }

    async fn probe_part(self: &Arc<Self>, domain: FailureDomain, witness: Witness) {
        let outcome = self.probe(&witness).await;
        let moved = self.store().is_some_and(|store| witness.domain(store) != domain);
        if outcome.is_ok() {
            *self.came_back.lock() = Some(Instant::now());
            tracing::info!("{domain} answers again");
        }
        let mut breakers = self.breakers.lock();
        breakers.end_probe(&domain, outcome.map_err(|error| with_causes(&*error)));
        // Another part now serves the key, such as the replica that took over.
        if moved && !domain.is_whole() {
            breakers.forget(&domain);
        }
    }

    /// Connects if not yet connected, and sends a call that changes nothing.
    async fn probe(self: &Arc<Self>, witness: &Witness) -> Result<(), BoxError> {
        let store = match (self.store(), &self.connect) {
            (Some(store), _) => store,
            (None, Some(connect)) => {
                let deadline = self.timing.connect_deadline;
                let connected = timeout(deadline, connect()).await;
                self.take(connected.map_err(|_| Outage::Deadline { after: deadline })??)
            }
            (None, None) => return Err("there is no store, and no way to connect to one".into()),
        };
        // No single server represents a store with parts: it is back once it is connected.
        if *witness == Witness::Nobody && !witness.domain(store).is_whole() {
            return Ok(());
        }
        let deadline = self.timing.deadline;
        let answer = timeout(deadline, witness.ask(store)).await;
        match answer.map_err(|_| Outage::Deadline { after: deadline })? {
            Err(error) if error.is_outage() && failed_key(&error).is_none() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Connects for the first time. If that fails, the store is given up from the start.
    pub(crate) async fn connect(self: &Arc<Self>) {
        self.breakers.lock().open_whole();
        if in_runtime(self.look_after()).await.is_err() {
            tracing::warn!(
                "the store is connected to by the first call in a tokio runtime: {}",
                Outage::NoRuntime
            );
        } else if !self.is_there() {
            let failure = self.breakers.lock().last_failure(&FailureDomain::WHOLE);
            tracing::warn!(%failure, "the store cannot be connected to yet");
            self.recover();
        }
    }
}

/// The recovery task. It ends with the last owner of the store.
struct Recovery {
    asking: Weak<Asking>,
    ended: bool,
}

impl Recovery {
    async fn run(mut self) {
        let Some(mut pause) = self.asking.upgrade().map(|asking| asking.first_pause()) else {
            return;
        };
        loop {
            sleep(pause).await;
            let Some(asking) = self.asking.upgrade() else { return };
            pause = asking.timing.probe_every;
            asking.look_after().await;
            if asking.is_well() {
                // A call that fails from here on starts a new task, or is seen by the check below.
                asking.recovering.store(false, Ordering::Release);
                if asking.is_well() || asking.recovering.swap(true, Ordering::AcqRel) {
                    self.ended = true;
                    return;
                }
            }
        }
    }
}

/// The runtime's shutdown may drop the task at any point: the probes under way have failed then, and the next call
/// begins another task.
impl Drop for Recovery {
    fn drop(&mut self) {
        if let Some(asking) = self.asking.upgrade()
            && !self.ended
        {
            asking.breakers.lock().abandon_probes();
            asking.recovering.store(false, Ordering::Release);
        }
    }
}

impl Witness {
    /// Returns the part of the store that serves the witness.
    pub(crate) fn domain(&self, store: &dyn Store) -> FailureDomain {
        match self {
            Self::Nobody => store.failure_domain(&NOBODY),
            Self::Key(key) => store.failure_domain(key),
            Self::AccessKey(digest) => store.lookup_domain(digest),
        }
    }

    /// Sends a call that changes nothing.
    async fn ask(&self, store: &dyn Store) -> Result<(), StoreError> {
        let charge = Charge::request();
        match self {
            Self::Nobody => store.peek(&NOBODY, None, &charge).await.map(drop),
            Self::Key(key) => store.peek(key, None, &charge).await.map(drop),
            Self::AccessKey(digest) => store.resolve(digest).await.map(drop),
        }
    }
}

/// The key that a probe of a whole store asks about. It need not exist: nothing is charged.
static NOBODY: LazyLock<KeyId> =
    LazyLock::new(|| KeyId::new("limiter-policy-probe").expect("it is a valid id"));
