//! How late the threads are that read requests and write answers.
//!
//! With thousands of connections the longest queue is theirs: a request that is there waits until one of them reads it, and an
//! answer until one of them writes it. No request can tell how long it has waited. So a probe does what an answer does, again
//! and again.

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

    /// What an answer would wait now.
    pub(crate) fn now(&self) -> Duration {
        let probe = self.0.lock();
        let under_way = probe.under_way.map_or(Duration::ZERO, |asked| asked.elapsed());
        probe.last.max(under_way)
    }
}

/// Often enough to see an overload before it is felt, and nothing beside thousands of requests a second.
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
