//! A guarded store in and after outages, in one binary: linking many takes longer than running them.

#[cfg(feature = "metrics")]
mod debts;
mod no_runtime;
mod outages;
mod reservations;
