//! What the store is to be told when it is back: how calls have ended meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use limiter_core::{Crossing, KeyId, RequestId, ReservationError, Store, Totals};
use parking_lot::Mutex;

use crate::asking::{Asking, Effect};
use crate::error::CallError;

/// Ends of reservations that could not be told yet, in the order in which they came.
///
/// They are idempotent, so one whose answer is lost is told again. Only the task that looks after the store takes them out.
#[derive(Debug)]
pub(crate) struct Later {
    ends: Mutex<VecDeque<Ended>>,
    most: usize,
}

/// How a reservation has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) key: KeyId,
    pub(crate) id: RequestId,
    /// What it did cost, or `None` if it was cancelled.
    pub(crate) actual: Option<Totals>,
}

impl Later {
    pub(crate) fn new(most: usize) -> Self {
        Self { ends: Mutex::default(), most }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.lock().is_empty()
    }

    /// Keeps it, unless there are too many already.
    pub(crate) fn keep(&self, ended: Ended) -> bool {
        let mut ends = self.ends.lock();
        let has_room = ends.len() < self.most;
        if has_room {
            ends.push_back(ended);
        }
        has_room
    }

    /// Tells the store, until there is nothing left or it fails again.
    pub(crate) async fn tell<S: Store>(&self, asking: &Arc<Asking<S>>) {
        loop {
            let Some(ended) = self.ends.lock().front().cloned() else { return };
            match ended.tell(asking).await {
                Err(error) if error.is_outage() => return,
                // A reservation that the store never heard of was made without it.
                Err(ReservationError::Unknown(_)) => {}
                Ok(crossed) => asking.crossed(&ended.key, &crossed),
                Err(error) => tracing::warn!(
                    key = %ended.key, reservation = %ended.id, %error,
                    "a reservation that ended while the store was away stays as it was"
                ),
            }
            self.ends.lock().pop_front();
        }
    }
}

impl Ended {
    /// Asks the store to settle or to cancel.
    pub(crate) async fn tell<S: Store>(
        &self,
        asking: &Arc<Asking<S>>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        let Self { key, id, actual } = self;
        match actual {
            Some(actual) => {
                asking.ask(key, Effect::Charges, |store| store.settle(key, id, actual)).await
            }
            None => {
                asking.ask(key, Effect::Charges, |store| store.cancel(key, id)).await?;
                Ok(Vec::new())
            }
        }
    }
}
