//! Coming back: one task looks after a store that has failed, so that no caller has to.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use limiter_core::{BoxError, Charge, KeyId, Store};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use crate::asking::Asking;
use crate::catch_up::Round;
use crate::error::{CallError, Outage, told};

impl<S: Store> Asking<S> {
    /// Sees to it that a task looks after the store, until it answers and has been told all that it is to be told.
    pub(crate) fn recover(self: &Arc<Self>) {
        if !self.recovering.swap(true, Ordering::AcqRel) {
            let recovery = Recovery { asking: Arc::downgrade(self), ended: false };
            // Without a runtime the recovery is dropped here, and the next call tries again.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(recovery.run());
            }
        }
    }

    /// How long to leave the store alone before the first probe. One whose probes are answered but whose calls fail would
    /// otherwise come back and be given up all the time.
    fn first_pause(&self) -> Duration {
        let since = self.came_back.lock().map_or(Duration::MAX, |came_back| came_back.elapsed());
        self.timing.probe_every.saturating_sub(since)
    }

    pub(crate) fn is_well(&self) -> bool {
        self.is_closed() && self.owes_nothing()
    }

    /// Sends one probe if the store is given up, and nothing else before it has succeeded.
    async fn look_after(self: &Arc<Self>) {
        if self.breaker.lock().begin_probe() {
            let outcome = self.probe().await;
            self.breaker.lock().end_probe(outcome.is_ok());
            match outcome {
                Ok(()) => {
                    *self.came_back.lock() = Some(Instant::now());
                    tracing::info!("the store answers again");
                }
                Err(error) => *self.last_failure.lock() = told(&*error),
            }
        }
        if self.is_closed() {
            self.catch_up(Round::default()).await;
        }
    }

    /// Connects if that is still to be done, and asks for what changes nothing.
    async fn probe(&self) -> Result<(), BoxError> {
        let store = match (self.store.get(), &self.connect) {
            (Some(store), _) => store,
            (None, Some(connect)) => {
                let deadline = self.timing.connect_deadline;
                let connected = timeout(deadline, connect()).await;
                let store = connected.map_err(|_| Outage::Deadline { after: deadline })??;
                self.store.get_or_init(|| store)
            }
            (None, None) => return Err("there is no store, and no way to connect to one".into()),
        };
        let deadline = self.timing.deadline;
        let nobody = KeyId::new(NOBODY)?;
        let charge = Charge::request();
        match timeout(deadline, store.peek(&nobody, None, &charge)).await {
            Ok(Err(error)) if error.is_outage() => Err(error.into()),
            Ok(_) => Ok(()),
            Err(_) => Err(Outage::Deadline { after: deadline }.into()),
        }
    }

    /// Connects for the first time. If that fails, the store is given up from the start.
    pub(crate) async fn connect(self: &Arc<Self>) {
        self.breaker.lock().open();
        self.look_after().await;
        if !self.is_closed() {
            let failure = Arc::clone(&self.last_failure.lock());
            tracing::warn!(%failure, "the store cannot be connected to yet");
            self.recover();
        }
    }
}

/// The task. It ends with the last owner of the store.
struct Recovery<S: Store> {
    asking: Weak<Asking<S>>,
    ended: bool,
}

impl<S: Store> Recovery<S> {
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
                // Whoever finds something to do from here on begins anew, or is heard.
                asking.recovering.store(false, Ordering::Release);
                if asking.is_well() || asking.recovering.swap(true, Ordering::AcqRel) {
                    self.ended = true;
                    return;
                }
            }
        }
    }
}

/// A runtime that is shut down drops the task at any point: a probe that was under way has failed then, and the next call
/// begins another task.
impl<S: Store> Drop for Recovery<S> {
    fn drop(&mut self) {
        if let Some(asking) = self.asking.upgrade()
            && !self.ended
        {
            asking.breaker.lock().end_probe(false);
            asking.recovering.store(false, Ordering::Release);
        }
    }
}

/// The key that a probe asks about. Whether it exists does not matter: nothing is charged.
const NOBODY: &str = "limiter-policy-probe";
