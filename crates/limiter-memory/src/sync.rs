//! The standard library's locks, which stay usable after a panic.

use std::sync::{self, MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};

/// The one lock whose order of events matters, so that a model checker can take its place in unit tests.
#[cfg(not(test))]
pub(crate) use Mutex as ShardMutex;

#[cfg(test)]
pub(crate) use checked::{ShardMutex, model};

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod checked {
    use std::cell::Cell;
    use std::ops::{Deref, DerefMut};

    /// The model checker's lock in a [`model`], and the real one in other unit tests.
    #[derive(Debug)]
    pub(crate) enum ShardMutex<T> {
        Real(super::Mutex<T>),
        Checked(loom::sync::Mutex<T>),
    }

    impl<T> ShardMutex<T> {
        pub(crate) fn new(value: T) -> Self {
            if IN_MODEL.get() {
                Self::Checked(loom::sync::Mutex::new(value))
            } else {
                Self::Real(super::Mutex::new(value))
            }
        }

        pub(crate) fn lock(&self) -> Guard<'_, T> {
            match self {
                Self::Real(lock) => Guard(Box::new(lock.lock())),
                Self::Checked(lock) => {
                    Guard(Box::new(lock.lock().expect("no thread panics while it holds the lock")))
                }
            }
        }
    }

    pub(crate) struct Guard<'a, T>(Box<dyn DerefMut<Target = T> + 'a>);

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }

    /// Runs a story in every interleaving of its threads.
    pub(crate) fn model(story: impl Fn() + Send + Sync + 'static) {
        IN_MODEL.set(true);
        loom::model(story);
    }

    thread_local! {
        /// All threads of a model take turns on one thread of the operating system.
        static IN_MODEL: Cell<bool> = const { Cell::new(false) };
    }
}
