//! The whole suite in one test, for stores that share what is slow to set up.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// A function of the suite, on a store. [`conformance_parts!`](crate::conformance_parts) makes all there are.
pub struct Part<'a> {
    name: &'static str,
    run: Box<dyn Fn() + Send + Sync + 'a>,
}

impl<'a> Part<'a> {
    /// A part that panics if it fails.
    pub fn new(name: &'static str, run: impl Fn() + Send + Sync + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }

    /// Its module and its function, such as `races::a_budget_is_spent_exactly`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What it panicked with, if it did.
    fn failure(&self) -> Option<String> {
        thread::scope(|scope| {
            // The name is part of what a panic prints.
            let thread = thread::Builder::new().name(self.name.to_owned());
            let thread = thread.spawn_scoped(scope, || (self.run)());
            let panic = thread.expect("the system gives threads").join().err()?;
            Some(format!("{}: {}", self.name, message(&*panic)))
        })
    }
}

impl fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Part").field(&self.name).finish()
    }
}

/// Runs all parts, some at a time, and prints the name of each and how long it took.
///
/// # Panics
/// At the end, if any has failed, with the names and messages of all that have.
pub fn run_all<'a>(parts: impl IntoIterator<Item = Part<'a>>, at_once: usize) {
    let parts: Vec<_> = parts.into_iter().collect();
    let (next, failures) = (Mutex::new(parts.iter()), Mutex::new(Vec::new()));
    let worker = || {
        loop {
            let part = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(part) = part else { return };
            let started = Instant::now();
            let failure = part.failure();
            let outcome = if failure.is_none() { "ok" } else { "FAILED" };
            println!("{:>8.2} s {outcome} {}", started.elapsed().as_secs_f64(), part.name);
            failures.lock().unwrap_or_else(PoisonError::into_inner).extend(failure);
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once.max(1) {
            scope.spawn(worker);
        }
    });
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(
        failures.is_empty(),
        "{} of {} parts failed:\n{}",
        failures.len(),
        parts.len(),
        failures.join("\n")
    );
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn all_run_and_those_that_fail_are_named() {
        let ran = Mutex::new(Vec::new());
        let part = |name| {
            let ran = &ran;
            Part::new(name, move || {
                ran.lock().unwrap().push(name);
                assert!(!name.starts_with("bad"), "this is {name}");
            })
        };
        let parts = ["a", "bad b", "c", "bad d"].map(part);
        let run = std::panic::AssertUnwindSafe(|| run_all(parts, 1));
        let panic = catch_unwind(run).unwrap_err();
        let message = message(&*panic);
        assert!(message.starts_with("2 of 4 parts failed:"), "{message}");
        for failed in ["bad b: this is bad b", "bad d: this is bad d"] {
            assert!(message.contains(failed), "{message}");
        }
        assert_eq!(*ran.lock().unwrap(), ["a", "bad b", "c", "bad d"]);
    }
}
