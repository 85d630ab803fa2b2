//! A queue that sheds load by the expected wait.
//!
//! If every request may wait, every answer is late. So the queue refuses a newcomer at once if its wait would be too long, by its
//! position and the speed of the queue, or if the oldest waiter has waited too long already. Waiters are served in order. The
//! length of the queue follows from these rules and needs no setting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// Places, and a first-in-first-out queue for them.
#[derive(Debug)]
pub(crate) struct Queue {
    places: Arc<Semaphore>,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    /// When each came, in this order.
    since: BTreeMap<u64, Instant>,
    next: u64,
    /// How long the queue takes to move up by one, on average over those who were served last.
    step: Duration,
}

impl Queue {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { places, waiters: Mutex::default() })
    }

    /// A place, at once or after a wait; `None` if the wait would be too long.
    pub(crate) fn join(self: &Arc<Self>) -> Option<Entry> {
        // The semaphore hands a free place to its first waiter: a newcomer cannot overtake the queue here.
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(Entry::Served(place));
        }
        let now = Instant::now();
        let mut waiters = self.waiters.lock();
        let position = u32::try_from(waiters.since.len()).ok()?.checked_add(1)?;
        if let Some((_, oldest)) = waiters.since.first_key_value() {
            // The first in line always waits, or a queue that was slow once would never find out that it is fast again.
            let is_slow = waiters.step.saturating_mul(position) > LONG;
            let has_stopped = now.duration_since(*oldest) > LONG;
            if is_slow || has_stopped {
                return None;
            }
        }
        let id = waiters.next;
        waiters.next += 1;
        waiters.since.insert(id, now);
        Some(Entry::Waiting(Waiter { queue: Arc::clone(self), id, since: now, position }))
    }
}

/// The result of joining a queue.
#[derive(Debug)]
pub(crate) enum Entry {
    Served(OwnedSemaphorePermit),
    Waiting(Waiter),
}

impl Entry {
    /// The place; `None` if the wait became too long.
    pub(crate) async fn place(self) -> Option<OwnedSemaphorePermit> {
        match self {
            Self::Served(place) => Some(place),
            Self::Waiting(waiter) => {
                let place = Arc::clone(&waiter.queue.places).acquire_owned();
                let place = timeout_at(waiter.since + PATIENCE, place).await.ok()?.ok()?;
                waiter.was_served();
                Some(place)
            }
        }
    }
}

/// A place in the queue. It ends when the waiter is served, refused or gone.
#[derive(Debug)]
pub(crate) struct Waiter {
    queue: Arc<Queue>,
    id: u64,
    since: Instant,
    /// 1 is the first in line.
    position: u32,
}

impl Waiter {
    fn was_served(&self) {
        let step = self.since.elapsed() / self.position;
        let average = &mut self.queue.waiters.lock().step;
        *average = (*average * (SMOOTHING - 1) + step) / SMOOTHING;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.queue.waiters.lock().since.remove(&self.id);
    }
}

/// The longest expected wait. Under overload most requests that are served wait about that long, which leaves the rest of
/// 100 ms for reading, deciding and writing.
const LONG: Duration = Duration::from_millis(25);
/// How long a waiter waits where the queue has come to a halt, as behind a Redis that is away.
const PATIENCE: Duration = Duration::from_millis(50);
/// The speed is averaged over this many served waiters: some milliseconds.
const SMOOTHING: u32 = 16;

#[cfg(test)]
mod tests {
    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Starts a call that works for a while if it gets a place, and returns how long it waited and whether it got one.
    fn call(queue: &Arc<Queue>, work: Duration) -> JoinHandle<(Duration, bool)> {
        let queue = Arc::clone(queue);
        tokio::spawn(async move {
            let asked = Instant::now();
            let entry = queue.join();
            let place = if let Some(entry) = entry { entry.place().await } else { None };
            let waited = asked.elapsed();
            if place.is_some() {
                sleep(work).await;
            }
            (waited, place.is_some())
        })
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_in_the_order_of_asking() {
        let queue = Queue::new(1);
        let calls = [10 * MS, MS, MS, MS].map(|work| call(&queue, work));
        for (waited, call) in [Duration::ZERO, 10 * MS, 11 * MS, 12 * MS].into_iter().zip(calls) {
            assert_eq!(call.await.unwrap(), (waited, true));
        }
        assert!(queue.waiters.lock().since.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_queue_takes_no_newcomer_and_a_waiter_gives_up_in_time() {
        let queue = Queue::new(1);
        let (_working, old) = (call(&queue, 1_000 * MS), call(&queue, MS));
        sleep(LONG).await;
        // The oldest has waited for the longest time that admits a newcomer.
        let young = call(&queue, MS);
        sleep(MS).await;
        assert_eq!(call(&queue, MS).await.unwrap(), (Duration::ZERO, false), "the queue is old");
        assert_eq!(old.await.unwrap(), (PATIENCE, false));
        // Without the oldest, the queue is young enough again.
        assert_eq!(young.await.unwrap(), (PATIENCE, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_leaves_delays_no_newcomer() {
        let queue = Queue::new(1);
        let (_working, leaving) = (call(&queue, 2 * LONG + MS), call(&queue, MS));
        sleep(LONG).await;
        leaving.abort();
        assert!(leaving.await.is_err());
        sleep(LONG).await;
        assert_eq!(call(&queue, MS).await.unwrap(), (MS, true));
    }

    /// Ten times the load that can be served: all places stay busy, served calls wait about as long as they may, and the
    /// others are refused at once.
    #[tokio::test(start_paused = true)]
    async fn under_overload_the_places_are_busy_and_waits_are_short() {
        const WORK: Duration = Duration::from_millis(8);
        const MILLISECONDS: usize = 1_000;
        let queue = Queue::new(8);
        let mut calls = Vec::new();
        for _ in 0..MILLISECONDS {
            calls.extend([(); 10].map(|()| call(&queue, WORK)));
            sleep(MS).await;
        }
        let (mut served, mut refused) = (Vec::new(), Vec::new());
        for call in calls {
            let (waited, got_place) = call.await.unwrap();
            if got_place { served.push(waited) } else { refused.push(waited) }
        }
        assert!(served.len() >= MILLISECONDS, "{} were served", served.len());
        let long = served.iter().filter(|waited| **waited > LONG + WORK).count();
        assert!(long <= served.len() / 20, "{long} of {} waited for long", served.len());
        assert!(served.iter().max() <= Some(&PATIENCE));
        let late = refused.iter().filter(|waited| !waited.is_zero()).count();
        assert!(late <= refused.len() / 50, "{late} of {} were refused late", refused.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_was_slow_takes_more_again_once_it_is_fast() {
        let queue = Queue::new(1);
        // One works and one waits, all the time.
        let mut steps = Vec::new();
        let _first = call(&queue, 20 * MS);
        for (work, calls) in [(20 * MS, 50), (MS, 500)] {
            for _ in 0..calls {
                drop(call(&queue, work));
                sleep(work).await;
            }
            steps.push(queue.waiters.lock().step);
        }
        assert!(steps[0] > 5 * MS, "{steps:?}");
        for call in [(); 10].map(|()| call(&queue, MS)) {
            assert!(call.await.unwrap().1);
        }
    }
}
