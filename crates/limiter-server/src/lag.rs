//! The lag of the threads that read requests and write answers.
//!
//! With thousands of connections the longest queue is theirs: a request waits until such a thread reads it, and an answer until
//! one writes it. That wait cannot be seen on the request itself. So a probe takes the way of an answer, again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::workers::Workers;

/// The wait of the last probe. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lag(Arc<Mutex<Probe>>);

#[derive(Debug, Default)]
struct Probe {
    last: Duration,
    under_way: Option<Instant>,
}

impl Lag {
    /// Measures the threads of this runtime, from those of the workers, as long as there are any.
    pub(crate) fn of(threads: Handle, workers: &Workers) -> Self {
        let lag = Self::default();
        let measured = lag.clone();
        workers.spawn(async move {
            loop {
                let asked = Instant::now();
                measured.0.lock().under_way = Some(asked);
                if threads.spawn(async {}).await.is_err() {
                    return; // the runtime is gone
                }
                *measured.0.lock() = Probe { last: asked.elapsed(), under_way: None };
                sleep(PROBE_EVERY).await;
            }
        });
        lag
    }

    /// The wait that an answer would have now.
    pub(crate) fn now(&self) -> Duration {
        let probe = self.0.lock();
        let under_way = probe.under_way.map_or(Duration::ZERO, |asked| asked.elapsed());
        probe.last.max(under_way)
    }
}

/// Short enough to notice an overload early, and negligible against thousands of requests a second.
const PROBE_EVERY: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_thread_that_is_held_up_is_seen_and_so_is_its_recovery() {
        let workers = Workers::start().unwrap();
        // This thread is the one that is measured.
        let lag = Lag::of(Handle::current(), &workers);
        thread::sleep(Duration::from_millis(100));
        assert!(lag.now() > Duration::from_millis(20), "{:?}", lag.now());
        while lag.now() > Duration::from_millis(20) {
            sleep(Duration::from_millis(1)).await;
        }
    }
}
