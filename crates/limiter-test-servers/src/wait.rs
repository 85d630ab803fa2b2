//! Waiting for another thread or process.

use std::fmt::Display;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Waits until a condition holds. Returns how long it took.
pub fn until(condition: impl Display, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert_patience(&condition, began);
        sleep(PAUSE);
    }
    began.elapsed()
}

/// Waits in the same way in an asynchronous test, whose other tasks go on meanwhile.
pub async fn until_async(
    condition: impl Display,
    mut holds: impl AsyncFnMut() -> bool,
) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert_patience(&condition, began);
        tokio::time::sleep(PAUSE).await;
    }
    began.elapsed()
}

/// Polls a future once, where no runtime is. Returns its answer.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("the future has to wait"),
    }
}

fn assert_patience(condition: &impl Display, began: Instant) {
    assert!(began.elapsed() < PATIENCE, "after {PATIENCE:?}, it is not true that {condition}");
}

/// Clusters agree within seconds; a machine that is busy with other tests may take ten times as long.
const PATIENCE: Duration = Duration::from_secs(60);
/// A server is up after some ten of them.
const PAUSE: Duration = Duration::from_millis(2);
