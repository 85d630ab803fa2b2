//! Ends of reservations that are sent to the store when it is back.

use std::collections::BTreeMap;
use std::sync::Arc;

use limiter_core::{CallError, KeyId, LateEvent, RequestId, ReservationError, Settled, Totals};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::asking::{Asking, Effect};
use crate::catch_up::{Round, is_final};
use crate::metrics::{Late, Outcome};
use crate::pause::Pause;

/// Ends of reservations that could not be sent yet, in the order in which they came.
///
/// They are idempotent, so an end whose answer is lost is sent again. An end stays in the queue until it is answered, so
/// that a task that is dropped during a call loses none.
#[derive(Debug)]
pub(crate) struct Later {
    ends: Mutex<Ends>,
    most: usize,
}

#[derive(Debug, Default)]
struct Ends {
    waiting: BTreeMap<u64, (Ended, Pause)>,
    next: u64,
}

/// The end of a reservation.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) key: KeyId,
    pub(crate) id: RequestId,
    /// Its actual totals, or `None` if it was cancelled.
    pub(crate) actual: Option<Totals>,
    /// Whether this is the end of the call for its caller. Otherwise it only takes back a charge that the store may
    /// have made for a call that is counted here, and is not reported.
    pub(crate) is_reported: bool,
}

impl Later {
    pub(crate) fn new(most: usize) -> Self {
        Self { ends: Mutex::default(), most }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.lock().waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps it unless the queue is full; returns whether it was kept.
    pub(crate) fn keep(&self, ended: Ended) -> bool {
        let mut ends = self.ends.lock();
        let has_room = ends.waiting.len() < self.most;
        if has_room {
            let number = ends.next;
            ends.next += 1;
            ends.waiting.insert(number, (ended, Pause::default()));
        }
        has_room
    }

    /// Sends the store each end once, except those that it has just refused. A failed end does not stop the next.
    pub(crate) async fn tell(&self, asking: &Arc<Asking>, round: &mut Round) {
        for (number, ended) in self.due(round.also_refused) {
            match ended.tell(asking).await {
                Err(error) if error.is_outage() => {
                    round.meets_outage = true;
                    continue;
                }
                // A reservation that the store does not know was made without it.
                Err(ReservationError::Unknown(_)) => {}
                Ok(settled) => {
                    asking.late.count(ended.late(), Outcome::Done);
                    asking.crossed(&ended.key, &settled.crossed);
                    if ended.is_reported && settled.is_first() {
                        let report = match ended.actual {
                            Some(_) => LateEvent::Settled(&ended.id, &settled),
                            None => LateEvent::Cancelled(&ended.id, &settled),
                        };
                        asking.report(&ended.key, report);
                    }
                }
                Err(error) => {
                    asking.late.count(ended.late(), Outcome::Refused);
                    let stays = is_final(&error);
                    round.refused(&ended.key, ended.late(), &error);
                    if !stays {
                        if let Some((_, pause)) = self.ends.lock().waiting.get_mut(&number) {
                            pause.grow(Instant::now());
                        }
                        continue;
                    }
                }
            }
            self.ends.lock().waiting.remove(&number);
        }
    }

    fn due(&self, also_refused: bool) -> Vec<(u64, Ended)> {
        let (ends, now) = (self.ends.lock(), Instant::now());
        let due = ends.waiting.iter().filter(|(_, (_, pause))| also_refused || pause.is_over(now));
        due.map(|(number, (ended, _))| (*number, ended.clone())).collect()
    }
}

impl Ended {
    pub(crate) fn by_caller(key: &KeyId, id: &RequestId, actual: Option<Totals>) -> Self {
        Self { key: key.clone(), id: id.clone(), actual, is_reported: true }
    }

    /// Asks the store to settle or to cancel.
    pub(crate) async fn tell(&self, asking: &Arc<Asking>) -> Result<Settled, ReservationError> {
        let Self { key, id, actual, .. } = self;
        match actual {
            Some(actual) => {
                asking.ask(key, Effect::Charges, |store| store.settle(key, id, actual)).await
            }
            None => asking.ask(key, Effect::Charges, |store| store.cancel(key, id)).await,
        }
    }

    const fn late(&self) -> Late {
        match self.actual {
            Some(_) => Late::Settle,
            None => Late::Cancel,
        }
    }
}
