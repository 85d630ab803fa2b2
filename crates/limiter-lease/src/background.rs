//! The background work of a leased store: it asks for grants, and hands leases back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use limiter_core::{AssetId, Charge, KeyId, Store, Unpaid};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::book::{Book, Whose};
use crate::clock::{self, Clock};
use crate::metrics::{Asked, Metrics};
use crate::pair::{Ask, Back, LATE};
use crate::settings::{LeasedStoreBuilder, Settings};

/// A store, and the leases from it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) book: Book,
    pub(crate) clock: Clock,
    settings: Settings,
    /// Leases whose hand-back failed or was cancelled. The ticks send them again.
    late: Mutex<Vec<Back>>,
    /// The task that hands back dead, idle and late leases. It ends when there are none.
    ticks: Mutex<Option<JoinHandle<()>>>,
    metrics: Metrics,
}

/// A hand-back in flight. If it is dropped before the store has taken the lease, the lease is late.
struct HandBack {
    shared: Arc<Shared>,
    back: Option<Back>,
}

/// A request for a grant. If its task is dropped, the book learns that no grant came.
struct GrantRequest {
    shared: Arc<Shared>,
    key: KeyId,
    asset: Option<AssetId>,
    ask: Ask,
    asked_at: clock::Instant,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The store has charged nothing.
    Unsent,
    /// The store may have charged it.
    Sent,
    Answered,
    /// The grant came too late, and is being handed back.
    Late,
}

impl Shared {
    pub(crate) fn new(builder: LeasedStoreBuilder) -> Self {
        let LeasedStoreBuilder { store, settings, clock } = builder;
        Self {
            store,
            book: Book::new(settings),
            clock,
            settings,
            late: Mutex::default(),
            ticks: Mutex::default(),
            metrics: Metrics::default(),
        }
    }

    /// Hands leases back, and waits for requests and hand-backs in flight.
    pub(crate) async fn hand_back(self: &Arc<Self>, whose: Whose<'_>) {
        let (mut back, waits) = self.book.take_back(whose);
        back.extend(self.take_late(whose));
        self.settle(back, waits).await;
        // Requests that failed meanwhile.
        self.return_all(self.take_late(whose)).await;
    }

    fn take_late(&self, whose: Whose<'_>) -> Vec<Back> {
        self.late.lock().extract_if(.., |back| whose.covers(&back.key)).collect()
    }

    async fn settle(self: &Arc<Self>, back: Vec<Back>, waits: Vec<watch::Receiver<()>>) {
        if back.is_empty() && waits.is_empty() {
            return;
        }
        let back = self.return_all(back);
        // Outside of a runtime there are no timers, and no requests in flight.
        if Handle::try_current().is_err() {
            return back.await;
        }
        let wait = |mut done: watch::Receiver<()>| async move {
            // The sender is dropped when the request or the hand-back ends.
            let _gone = timeout(PATIENCE, done.changed()).await;
        };
        join(back, join_all(waits.into_iter().map(wait))).await;
    }

    /// Hands leases back. If the store fails, the ticks try again until the store has forgotten the lease.
    fn return_all<I: IntoIterator<Item = Back>>(
        self: &Arc<Self>,
        back: I,
    ) -> impl Future<Output = ()> + Send + use<I> {
        // Each lease has its guard before the first await.
        let back = back.into_iter().map(|back| HandBack::new(self, back).send());
        let all = join_all(back);
        async { drop(all.await) }
    }

    /// Asks for a grant in the background, and hands the previous lease back.
    pub(crate) fn ask(self: &Arc<Self>, key: &KeyId, asset: Option<&AssetId>, mut ask: Ask) {
        let back = self.return_all(ask.back.take());
        let request = GrantRequest {
            shared: Arc::clone(self),
            key: key.clone(),
            asset: asset.cloned(),
            ask,
            // The time of a lease counts from before the request.
            asked_at: self.clock.now(),
            state: State::Unsent,
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(request.send(back));
        }
        self.tick();
    }

    /// Starts the ticks, unless they are running.
    pub(crate) fn tick(self: &Arc<Self>) {
        let mut ticks = self.ticks.lock();
        // The task also ends with its runtime.
        if ticks.as_ref().is_some_and(|ticks| !ticks.is_finished()) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let (shared, every) = (Arc::downgrade(self), self.settings.time / TICKS);
        *ticks = Some(runtime.spawn(async move {
            loop {
                sleep(every).await;
                let Some(shared) = shared.upgrade() else { return };
                if shared.tick_once().await {
                    return;
                }
            }
        }));
    }

    /// Hands back dead, idle and late leases. Returns whether the book is empty.
    async fn tick_once(self: &Arc<Self>) -> bool {
        let now = self.clock.now();
        let back = self.return_all(self.book.tick(now));
        // A slower hand-back becomes late, and does not delay the next tick.
        let _ended_in_time = timeout(PATIENCE, join(back, self.return_late(now))).await;
        self.metrics.show(self.book.figures());
        let mut ticks = self.ticks.lock();
        let is_done = self.book.is_empty() && self.has_nothing_late();
        if is_done {
            // The next call starts them again.
            *ticks = None;
        }
        is_done
    }

    fn has_nothing_late(&self) -> bool {
        self.late.lock().is_empty()
    }

    async fn return_late(self: &Arc<Self>, now: clock::Instant) {
        let late = self.take_late(Whose::All).into_iter();
        let (late, stranded): (Vec<_>, Vec<_>) = late.partition(|back| back.until > now);
        stranded.iter().for_each(|back| self.book.is_stranded(back));
        self.return_all(late).await;
    }

    /// Hands all leases back, then flushes the store.
    pub(crate) async fn flush(self: &Arc<Self>, within: Duration) -> Unpaid {
        if Handle::try_current().is_err() {
            return self.store.flush(within).await;
        }
        let began = Instant::now();
        let _ended_in_time = timeout(within, self.hand_back(Whose::All)).await;
        self.metrics.show(self.book.figures());
        self.store.flush(within.saturating_sub(began.elapsed())).await
    }

    /// Hands all leases back after the last owner is dropped.
    pub(crate) fn end(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        let shared = Arc::clone(self);
        runtime.spawn(async move {
            shared.hand_back(Whose::All).await;
            while !shared.has_nothing_late() {
                sleep(shared.settings.time / TICKS).await;
                shared.return_late(shared.clock.now()).await;
            }
        });
    }
}

impl HandBack {
    fn new(shared: &Arc<Shared>, back: Back) -> Self {
        Self { shared: Arc::clone(shared), back: Some(back) }
    }

    async fn send(mut self) {
        let Some(back) = &self.back else { return };
        match self.shared.store.hand_back(&back.key, &back.id, &back.used).await {
            Ok(()) => {
                self.shared.book.has_gone_back(back);
                self.back = None;
            }
            Err(error) => {
                tracing::debug!(key = %back.key, %error, "a lease could not be handed back yet");
            }
        }
    }
}

impl Drop for HandBack {
    fn drop(&mut self) {
        let Some(mut back) = self.back.take() else { return };
        // Calls do not wait for late leases.
        drop(back.done.take());
        self.shared.late.lock().push(back);
        self.shared.tick();
    }
}

impl GrantRequest {
    async fn send(mut self, back: impl Future<Output = ()> + Send) {
        self.state = State::Sent;
        let (shared, Ask { id, terms, .. }) = (Arc::clone(&self.shared), &self.ask);
        let granting = shared.store.grant(&self.key, self.asset.as_ref(), terms, id);
        let ((), granted) = join(back, granting).await;
        #[cfg(test)]
        if shared.settings.bug == crate::bug::Bug::AnchorsAtTheAnswer {
            self.asked_at = shared.clock.now();
        }
        let took = shared.clock.now().saturating_sub(self.asked_at);
        let granted = match granted {
            Ok(granted) => granted,
            Err(error) => {
                shared.metrics.asked(Asked::Failed, took);
                tracing::debug!(key = %self.key, %error, "no lease was granted");
                return;
            }
        };
        let outcome = granted.as_ref().map_or(Asked::Refused, |_| Asked::Granted);
        shared.metrics.asked(outcome, took);
        self.state = State::Answered;
        let (key, asset, now) = (&self.key, self.asset.as_ref(), shared.clock.now());
        let late = shared.book.granted(key, asset, id, self.asked_at, granted, now);
        if let Some(back) = late {
            self.state = State::Late;
            shared.return_all([back]).await;
        }
    }
}

impl Drop for GrantRequest {
    fn drop(&mut self) {
        let Self { shared, key, asset, ask: Ask { id, terms, .. }, asked_at, state } = self;
        let asset = asset.as_ref();
        match state {
            State::Answered => return,
            State::Late => return shared.book.end_asking(key, asset, id),
            // A raise is handed back with its lease.
            State::Sent if terms.held == Charge::NOTHING => {
                let until = asked_at.saturating_add(terms.time + LATE);
                // The charge is unknown.
                drop(HandBack::new(shared, Back::whole(key, id, &Charge::NOTHING, until)));
            }
            State::Sent | State::Unsent => {}
        }
        shared.book.granted(key, asset, id, *asked_at, None, shared.clock.now());
    }
}

/// Ticks in the time of a lease. With more, a key with few calls would lose its lease between calls.
const TICKS: u32 = 2;
/// How long a call waits for a request or a hand-back in flight.
const PATIENCE: Duration = Duration::from_secs(1);
