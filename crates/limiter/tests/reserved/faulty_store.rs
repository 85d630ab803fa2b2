//! A store in memory that counts its calls, and fails those of reservations on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use limiter::StoreError;
use limiter::memory::MemoryStore;
use limiter::store::{CallError, Store};
use limiter_conformance::{Around, Called, Interpose};
use tokio::sync::Notify;

pub(crate) type FaultyStore = Around<Faults>;

/// Clones share the store and the faults.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    store: MemoryStore,
    shared: Arc<Shared>,
}

/// The fault of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is done, but its answer gets lost.
    AnswerLost,
    /// It is not done.
    Unavailable,
    /// It is done once [`Faults::go_on`] is called.
    Waits,
    /// As the variant above, and the answer is lost.
    WaitsAndAnswerLost,
}

#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<Vec<&'static str>>,
    faults: Mutex<VecDeque<Fault>>,
    go_on: Notify,
}

impl Faults {
    pub(crate) fn new(store: MemoryStore) -> FaultyStore {
        Around(Self { store, shared: Arc::default() })
    }

    /// The next calls of reservations have these faults, one after the other.
    pub(crate) fn fail<const N: usize>(&self, faults: [Fault; N]) {
        self.shared.faults.lock().unwrap().extend(faults);
    }

    /// Lets the call that waits be done.
    pub(crate) fn go_on(&self) {
        self.shared.go_on.notify_one();
    }

    /// The number of calls of this operation.
    pub(crate) fn calls(&self, operation: &str) -> u64 {
        let calls = self.shared.calls.lock().unwrap();
        calls.iter().filter(|call| **call == operation).count() as u64
    }
}

impl Interpose for Faults {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn call<T: Send, E: CallError>(
        &self,
        called: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        if called.id.is_none() {
            return call.await;
        }
        self.shared.calls.lock().unwrap().push(called.operation);
        let fault = self.shared.faults.lock().unwrap().pop_front();
        if matches!(fault, Some(Fault::Unavailable)) {
            return Err(StoreError::unavailable("nobody listens there").into());
        }
        if matches!(fault, Some(Fault::Waits | Fault::WaitsAndAnswerLost)) {
            self.shared.go_on.notified().await;
        }
        let answer = call.await;
        if matches!(fault, Some(Fault::AnswerLost | Fault::WaitsAndAnswerLost)) {
            return Err(StoreError::outcome_unknown("the line was cut").into());
        }
        answer
    }
}
