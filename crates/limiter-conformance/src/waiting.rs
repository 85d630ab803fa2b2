//! Synchronous tests of asynchronous code: they wait for each answer.

use std::sync::Barrier;
use std::thread;

use tokio::runtime::{Builder, Handle};

/// Waits for a future on the runtime that the thread has entered.
pub trait Wait: Future + Sized {
    /// Blocks the thread until the future is ready.
    fn wait(self) -> Self::Output {
        Handle::current().block_on(self)
    }
}

impl<F: Future> Wait for F {}

/// Does something on a thread that has entered a runtime with several threads.
///
/// # Panics
/// If the system gives no threads.
pub fn on_a_runtime<R>(action: impl FnOnce() -> R) -> R {
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.expect("the system gives threads");
    let _entered = runtime.enter();
    action()
}

/// Does something on several threads that begin together, and collects what each returns.
///
/// # Panics
/// If one of them panics.
pub fn at_once<R: Send>(threads: usize, action: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let (runtime, start) = (Handle::current(), Barrier::new(threads));
    let run = |number| {
        let _entered = runtime.enter();
        start.wait();
        action(number)
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    })
}

/// More than the cores of a small machine, so that tasks are interrupted anywhere.
pub const CALLERS: usize = 8;
/// For the same reason.
const WORKERS: usize = 4;
