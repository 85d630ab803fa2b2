//! Separate threads for admitted requests, where a decision takes round trips.
//!
//! Each step of a round trip waits for a free thread. On the threads that also read and refuse the excess requests, each step
//! would wait behind thousands of connections, and admitted requests would miss their deadline. In a storm of retries over 2,000
//! connections on two cores, separate threads serve six times as many requests. The operating system shares its processors
//! fairly between threads, however many connections there are.

use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// The threads.
#[derive(Debug)]
pub(crate) struct Workers(Option<Runtime>);

impl Workers {
    /// As many threads as half of the processors: the other half reads requests and writes answers.
    pub(crate) fn start() -> io::Result<Self> {
        let processors = available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(processors.div_ceil(2))
            .thread_name("decisions")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs the work on the workers, or here if there are none.
    pub(crate) async fn run_on<T: Send + 'static>(
        workers: Option<&Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match workers {
            Some(workers) => workers.run(work).await,
            None => work.await,
        }
    }

    /// Starts a task on these threads; it ends with them at the latest.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            drop(runtime.spawn(work));
        }
    }

    /// Runs the work on these threads. Dropping this future cancels it; a panic of the work is passed on.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let mut running = JoinSet::new();
        if let Some(runtime) = &self.0 {
            running.spawn_on(work, runtime.handle());
        }
        match running.join_next().await {
            Some(Ok(done)) => done,
            Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            // Only with the runtime, whose owner is gone then.
            _ => std::future::pending().await,
        }
    }
}

/// A runtime must not be dropped, which waits, on a thread of another one.
impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::current;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere_and_a_panic_is_passed_on() {
        let workers = Workers::start().unwrap();
        let name = workers.run(async { current().name().map(str::to_owned) }).await;
        assert_eq!(name.as_deref(), Some("decisions"));
        let panicking =
            tokio::spawn(async move { workers.run(async { panic!("of a test") }).await });
        assert!(panicking.await.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn work_ends_with_its_waiter() {
        let workers = Workers::start().unwrap();
        let (alive, ended) = oneshot::channel::<()>();
        let endless = workers.run(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert!(timeout(Duration::from_millis(10), endless).await.is_err());
        assert!(ended.await.is_err(), "it is dropped");
    }
}
