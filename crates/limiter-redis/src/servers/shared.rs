//! Something that takes time to get, and that many want at once: a connection, the map of a cluster, a master.
//!
//! It is got once, by a task of its own, and all waiting callers share the result. A caller that gives up disturbs no other.
//! After a failure the same error is the answer to all for a moment, so that a dead server is not besieged.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::error::RedisError;

/// See the module.
#[derive(Debug)]
pub(super) struct Shared<T> {
    state: Arc<Mutex<State<T>>>,
    deadline: Duration,
}

/// Gets one.
pub(super) trait Making<T>: Future<Output = Result<T, RedisError>> + Send + 'static {}

impl<T, F: Future<Output = Result<T, RedisError>> + Send + 'static> Making<T> for F {}

/// Which of the things that were got one after another this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number(u64);

/// `None` until the attempt is over.
type Coming<T> = watch::Receiver<Option<Result<(Number, T), RedisError>>>;

/// Changed under its lock only, which is never held while anything is awaited.
#[derive(Debug)]
struct State<T> {
    here: Option<(Number, T)>,
    /// A task is getting the next one.
    coming: Option<Coming<T>>,
    /// When `here` was got.
    made: Option<Instant>,
    failed: Option<(RedisError, Instant)>,
    last: u64,
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    /// The error of a caller that waits too long for it names this deadline.
    pub(super) fn new(deadline: Duration) -> Self {
        let state = State { here: None, coming: None, made: None, failed: None, last: 0 };
        Self { state: Arc::new(Mutex::new(state)), deadline }
    }

    /// The current value, if there is one.
    pub(super) fn peek(&self) -> Option<T> {
        self.state.lock().here.as_ref().map(|(_, value)| value.clone())
    }

    /// The current value, or else the result of getting one, awaited until `end`.
    pub(super) async fn get<F: Making<T>>(
        &self,
        end: Instant,
        make: impl FnOnce() -> F,
    ) -> Result<(Number, T), RedisError> {
        let here = self.state.lock().here.clone();
        if let Some(here) = here { Ok(here) } else { self.renew(end, make).await }
    }

    /// The current value if it is sound, or else another one, which was sound at least when it was made.
    pub(super) async fn get_sound<F: Making<T>>(
        &self,
        end: Instant,
        make: impl Fn() -> F,
        is_sound: impl Fn(&T) -> bool,
    ) -> Result<(Number, T), RedisError> {
        let (number, value) = self.get(end, &make).await?;
        if is_sound(&value) {
            return Ok((number, value));
        }
        self.forget(number);
        self.get(end, make).await
    }

    /// A new one, awaited until `end`; the old one stays until the new one is here. One that was got a moment ago is
    /// new enough.
    pub(super) async fn renew<F: Making<T>>(
        &self,
        end: Instant,
        make: impl FnOnce() -> F,
    ) -> Result<(Number, T), RedisError> {
        if let Some(recent) = self.younger_than(PAUSE) {
            return Ok(recent);
        }
        let too_late = || RedisError::Deadline { after: self.deadline };
        let mut coming = self.start(make)?;
        let outcome = match timeout_at(end, coming.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone(),
            // The task has ended without a result, with its runtime: no caller shall wait for it again.
            Ok(Err(_)) => None,
            Err(_) => return Err(too_late()),
        };
        outcome.unwrap_or_else(|| {
            let mut state = self.state.lock();
            state.coming.take_if(|now| now.same_channel(&coming));
            Err(too_late())
        })
    }

    /// Begins to get a new one, unless that is going on or the one that is here is younger than this. Awaits nothing.
    pub(super) fn renew_later<F: Making<T>>(&self, age: Duration, make: impl FnOnce() -> F) {
        if self.younger_than(age).is_none() {
            drop(self.start(make));
        }
    }

    /// Drops a broken value: the next caller makes a new one.
    pub(super) fn forget(&self, broken: Number) {
        let mut state = self.state.lock();
        if state.here.as_ref().is_some_and(|(number, _)| *number == broken) {
            state.here = None;
        }
    }

    /// Drops the current value, which is of no use any more.
    pub(super) fn clear(&self) {
        self.state.lock().here = None;
    }

    fn younger_than(&self, age: Duration) -> Option<(Number, T)> {
        let state = self.state.lock();
        let made = state.made?;
        state.here.clone().filter(|_| made.elapsed() < age)
    }

    fn start<F: Making<T>>(&self, make: impl FnOnce() -> F) -> Result<Coming<T>, RedisError> {
        let mut state = self.state.lock();
        // One whose task is gone without a word, with its runtime, will never come.
        let alive = |coming: &&Coming<T>| coming.has_changed().is_ok();
        if let Some(coming) = state.coming.as_ref().filter(alive) {
            return Ok(coming.clone());
        }
        if let Some((error, until)) = &state.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        state.last += 1;
        let number = Number(state.last);
        let (sender, coming) = watch::channel(None);
        state.coming = Some(coming.clone());
        drop(state);
        let (made, shared) = (make(), Arc::clone(&self.state));
        tokio::spawn(async move {
            let outcome = made.await.map(|value| (number, value));
            let mut state = shared.lock();
            state.coming = None;
            state.failed =
                outcome.as_ref().err().map(|error| (error.clone(), Instant::now() + PAUSE));
            if let Ok(here) = &outcome {
                state.here = Some(here.clone());
                state.made = Some(Instant::now());
            }
            drop(state);
            sender.send_replace(Some(outcome));
        });
        Ok(coming)
    }
}

/// The pause after an attempt that failed or that was for nothing. Long enough that a dead server sees ten attempts a second
/// from each process and not thousands; short enough not to be noticed when the server is back.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn in_ms(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn many_who_want_it_share_one_attempt() {
        let (shared, attempts) = (Shared::new(PAUSE), AtomicUsize::new(0));
        let make = || {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(attempt)
            }
        };
        let (one, two, impatient) = tokio::join!(
            shared.get(in_ms(1000), make),
            shared.get(in_ms(1000), make),
            shared.get(in_ms(1), make)
        );
        assert_eq!((one.unwrap().1, two.unwrap().1), (0, 0));
        assert_is!(impatient, Err(RedisError::Deadline { .. }));
        let (number, _) = shared.get(in_ms(1000), make).await.unwrap();
        shared.forget(number);
        assert_eq!(shared.peek(), None);
        assert_eq!(shared.get(in_ms(1000), make).await.unwrap().1, 1);
        shared.forget(number);
        assert_eq!(shared.peek(), Some(1), "an old number forgets nothing new");
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_moment() {
        let shared = Shared::<()>::new(PAUSE);
        let fails = || async { Err(RedisError::Overloaded { waiting: 1 }) };
        assert_is!(shared.get(in_ms(1000), fails).await, Err(RedisError::Overloaded { .. }));
        let works = || async { Ok(()) };
        assert_is!(shared.get(in_ms(1000), works).await, Err(RedisError::Overloaded { .. }));
        tokio::time::sleep(PAUSE).await;
        assert!(shared.get(in_ms(1000), works).await.is_ok());
    }

    #[tokio::test]
    async fn the_old_one_stays_until_the_new_one_is_here() {
        let shared = Shared::new(PAUSE);
        shared.get(in_ms(1000), || async { Ok(1) }).await.unwrap();
        assert_eq!(shared.renew(in_ms(1000), || async { Ok(9) }).await.unwrap().1, 1, "new enough");
        tokio::time::sleep(PAUSE).await;
        shared.renew_later(PAUSE, || async { Ok(2) });
        assert_eq!(shared.peek(), Some(1));
        assert_eq!(shared.renew(in_ms(1000), || async { Ok(3) }).await.unwrap().1, 2);
        assert_eq!(shared.peek(), Some(2));
    }

    #[test]
    fn a_runtime_that_ends_leaves_nobody_waiting() {
        let shared = Shared::new(PAUSE);
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stuck = std::future::pending::<Result<u8, RedisError>>;
        assert!(runtime().block_on(shared.get(in_ms(10), stuck)).is_err());
        assert_eq!(runtime().block_on(shared.get(in_ms(1000), || async { Ok(1) })).unwrap().1, 1);
    }
}
