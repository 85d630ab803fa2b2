//! The clock of leases: monotonic, and it goes on while the machine is suspended.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An instant, as the time since some start.
pub(crate) type Instant = Duration;

/// The source of the time. A process that was stopped, and a machine that was suspended, find that it has passed.
#[derive(Clone, Default)]
pub(crate) enum Clock {
    #[default]
    Boot,
    Given(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl Clock {
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Boot => since_boot(),
            Self::Given(now) => now(),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "Boot",
            Self::Given(_) => "Given",
        })
    }
}

/// `CLOCK_MONOTONIC`, which [`std::time::Instant`] reads, stands still in suspend.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
fn since_boot() -> Instant {
    use nix::time::{ClockId, clock_gettime};

    match clock_gettime(ClockId::CLOCK_BOOTTIME) {
        Ok(time) => Duration::from(time),
        // A kernel without it has no lease that lives.
        Err(_) => Duration::MAX,
    }
}

/// Where there is no such clock, the one that there is: the machine must not be suspended.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn since_boot() -> Instant {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
