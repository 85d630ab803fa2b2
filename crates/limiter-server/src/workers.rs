//! Threads of their own for requests that were admitted, where a decision takes round trips.
//!
//! Each step of a round trip waits until a thread is free for it. Were it the threads that also read and refuse the requests
//! beyond what can be served, then with thousands of connections each step would wait for all of them, and what was admitted
//! would miss its deadline. The system shares its processors between threads fairly, however many connections there are.

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

    /// Runs it on the workers if there are some, else here.
    pub(crate) async fn run_on<T: Send + 'static>(
        workers: Option<&Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match workers {
            Some(workers) => workers.run(work).await,
            None => work.await,
        }
    }

    /// Begins it on these threads, for as long as they last.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            drop(runtime.spawn(work));
        }
    }

    /// Runs it on these threads. It ends early if this future is dropped, and panics if it does.
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

/// A runtime must not be waited for by one of its like.
impl Drop for Workers {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread::current;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere() {
        let workers = Workers::start().unwrap();
        let name = workers.run(async { current().name().map(str::to_owned) }).await;
        assert_eq!(name.as_deref(), Some("decisions"));
    }

    #[tokio::test]
    async fn work_ends_with_whoever_waits_for_it() {
        let workers = Workers::start().unwrap();
        let (alive, ended) = oneshot::channel::<()>();
        let endless = workers.run(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert!(timeout(Duration::from_millis(10), endless).await.is_err());
        assert!(ended.await.is_err(), "it is dropped");
    }

    #[tokio::test]
    async fn a_panic_is_passed_on() {
        let workers = Arc::new(Workers::start().unwrap());
        let panicking = tokio::spawn(async move {
            workers.run(async { panic!("of a test") }).await;
        });
        assert!(panicking.await.unwrap_err().is_panic());
    }
}
