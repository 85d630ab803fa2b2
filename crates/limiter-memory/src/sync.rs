//! The one lock whose order of events matters, so that the model checker can take its place.

#[cfg(not(limiter_loom))]
pub(crate) use parking_lot::Mutex;

#[cfg(limiter_loom)]
pub(crate) use checked::Mutex;

#[cfg(limiter_loom)]
mod checked {
    use loom::sync::MutexGuard;

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("no thread panics while it holds the lock")
        }
    }
}
