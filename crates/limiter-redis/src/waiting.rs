//! Calls that wait for their batch: whoever stops waiting in time is not charged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use limiter_core::{AssetId, Charge, Decision, KeyId, StoreError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::codec::Mode;

/// One call on its way.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) key: KeyId,
    pub(crate) asset: Option<AssetId>,
    pub(crate) mode: Mode,
    pub(crate) charge: Charge,
    pub(crate) answer: oneshot::Sender<Result<Decision, StoreError>>,
    pub(crate) ticket: Arc<Ticket>,
}

/// Whether a call has been sent, or its caller has gone. Only one of both can come first.
#[derive(Debug, Default)]
pub(crate) struct Ticket(AtomicU8);

/// What waits, and in how many lanes. One batch of a lane is under way at a time.
#[derive(Debug)]
pub(crate) struct Queues {
    lanes: Mutex<Lanes>,
    most: usize,
}

/// All keys, or on a cluster a lane for each key.
pub(crate) type Lane = Option<KeyId>;

#[derive(Debug, Default)]
struct Lanes {
    waiting: HashMap<Lane, Vec<Request>>,
    /// In all lanes together.
    count: usize,
}

/// What became of a request that was to join a queue.
#[derive(Debug)]
pub(crate) enum Joined {
    /// Nobody takes batches from this lane: the caller must see to it.
    First,
    /// The next batch takes it along.
    Queued,
    /// Too many wait already.
    Full,
}

impl Ticket {
    /// Whether the call may be sent: its caller still waits.
    fn send(&self) -> bool {
        self.0.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether the call will never be sent: it had not been yet.
    pub(crate) fn give_up(&self) -> bool {
        self.0.compare_exchange(WAITING, GONE, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl Queues {
    /// Queues in which at most so many calls wait.
    pub(crate) fn new(most: usize) -> Self {
        Self { lanes: Mutex::default(), most }
    }

    pub(crate) fn join(&self, lane: Lane, request: Request) -> Joined {
        let mut lanes = self.lanes.lock();
        if lanes.count >= self.most {
            return Joined::Full;
        }
        lanes.count += 1;
        let joined = if lanes.waiting.contains_key(&lane) { Joined::Queued } else { Joined::First };
        lanes.waiting.entry(lane).or_default().push(request);
        joined
    }

    /// Closes a lane that is served no more. What still waits there is dropped, and its callers are told.
    pub(crate) fn abandon(&self, lane: &Lane) {
        let mut lanes = self.lanes.lock();
        let dropped = lanes.waiting.remove(lane).unwrap_or_default();
        lanes.count -= dropped.len();
    }

    /// The next batch of a lane, of calls whose callers still wait; or none, and then the lane is closed.
    pub(crate) fn next(&self, lane: &Lane, most: usize) -> Option<Vec<Request>> {
        let mut lanes = self.lanes.lock();
        let lanes = &mut *lanes;
        loop {
            let queue = lanes.waiting.get_mut(lane)?;
            if queue.is_empty() {
                lanes.waiting.remove(lane);
                return None;
            }
            let taken = queue.len().min(most);
            let mut batch: Vec<_> = queue.drain(..taken).collect();
            lanes.count -= taken;
            batch.retain(|request| request.ticket.send());
            if !batch.is_empty() {
                return Some(batch);
            }
        }
    }
}

const WAITING: u8 = 0;
const SENT: u8 = 1;
const GONE: u8 = 2;
