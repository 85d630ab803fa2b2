//! Callbacks of the application: a panic in one is caught, counted and logged, and never ends a call.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use limiter_core::Throttle;

use crate::observe::{self, Counted};

/// A call site of a callback of the application: one static for each, named like the callback.
///
/// It is public for `limiter-tower` only, and not part of the interface.
#[derive(Debug)]
pub struct UserCode {
    name: &'static str,
    warnings: Throttle,
}

impl UserCode {
    /// Creates a call site of this name, which is the label `callback` of the metric.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, warnings: Throttle::of_warnings() }
    }

    /// Returns the name of the callback.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the callback; returns `None` if it panics.
    ///
    /// Each panic is counted, and logged at most every ten seconds. Its message is left to the panic hook, since it may
    /// quote a client's input.
    ///
    /// While this thread unwinds, the callback does not run, since a second panic could abort the process: `None` too.
    pub fn run<T>(&self, code: impl FnOnce() -> T) -> Option<T> {
        if std::thread::panicking() {
            return None;
        }
        // Each caller ensures that a half-changed value is the application's own, or is not used again.
        match catch_unwind(AssertUnwindSafe(code)) {
            Ok(value) => Some(value),
            Err(payload) => {
                self.panicked(payload);
                None
            }
        }
    }

    #[cold]
    fn panicked(&self, payload: Box<dyn Any + Send>) {
        // Only a message is dropped: the drop of any other payload may panic.
        if !payload.is::<&'static str>() && !payload.is::<String>() {
            mem::forget(payload);
        }
        observe::count(Counted::CallbackPanics, &[("callback", self.name)], 1);
        if let Some(suppressed) = self.warnings.admit(Instant::now()) {
            tracing::error!(
                callback = self.name,
                suppressed,
                "a callback of the application has panicked: the limiter goes on without it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    #[test]
    fn a_panic_is_caught_whatever_its_payload() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }
        static CODE: UserCode = UserCode::new("test");
        assert_eq!(CODE.run(|| 1), Some(1));
        assert_eq!(CODE.run(|| panic!("a message")), None::<u8>);
        assert_eq!(CODE.run(|| panic!("a {}", "message")), None::<u8>);
        assert_eq!(CODE.run(|| panic_any(Bomb)), None::<u8>);
    }

    #[test]
    fn nothing_runs_while_the_thread_unwinds() {
        struct RunsWhenDropped<'a>(&'a mut Option<Option<u8>>);
        impl Drop for RunsWhenDropped<'_> {
            fn drop(&mut self) {
                *self.0 = Some(UserCode::new("test").run(|| 1));
            }
        }
        let mut ran = None;
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _drops = RunsWhenDropped(&mut ran);
            panic!("unwinding");
        }));
        assert!(unwound.is_err());
        assert_eq!(ran, Some(None));
    }
}
