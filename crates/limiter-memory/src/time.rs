//! The clock of a store, its one authority for time.

use std::time::Duration;

use limiter_core::{ManualClock, Timestamp};

/// The source of a store's time.
#[derive(Clone, Debug)]
pub(crate) enum Time {
    /// The system's clock, as of its last tick.
    System,
    Manual(ManualClock),
}

impl Time {
    /// Returns the current time, never before 1970.
    #[inline]
    pub(crate) fn now(&self) -> Timestamp {
        let now = match self {
            Self::System => system_time(),
            Self::Manual(clock) => clock.now(),
        };
        now.max(EPOCH)
    }

    /// How late it may be, at most, besides the fraction of a millisecond that it does not show.
    pub(crate) fn late_by(&self) -> Duration {
        match self {
            Self::System => tick(),
            Self::Manual(_) => Duration::ZERO,
        }
    }
}

/// Reads the coarse clock. A read of the exact one costs more than a whole decision, and gains nothing where a window
/// is a minute.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
#[inline]
fn system_time() -> Timestamp {
    use nix::time::{ClockId, clock_gettime};

    match clock_gettime(ClockId::CLOCK_REALTIME_COARSE) {
        Ok(time) => Timestamp::from_unix_ms(time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000),
        Err(_) => exact_system_time(),
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn tick() -> Duration {
    use nix::time::{ClockId, clock_getres};

    // Where it does not say, it ticks a hundred times a second or more often.
    clock_getres(ClockId::CLOCK_REALTIME_COARSE).map_or(Duration::from_millis(10), Duration::from)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
const fn tick() -> Duration {
    Duration::ZERO
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn system_time() -> Timestamp {
    exact_system_time()
}

#[cold]
fn exact_system_time() -> Timestamp {
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    EPOCH.after(since_1970.unwrap_or_default())
}

const EPOCH: Timestamp = Timestamp::from_unix_ms(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_is_a_few_milliseconds_late_at_most() {
        let (coarse, exact) = (Time::System.now(), exact_system_time());
        assert!(exact >= coarse);
        assert!(exact.since(coarse).as_millis() < 100, "{coarse} is not {exact}");
        assert!((1..=10).contains(&Time::System.late_by().as_millis()));
    }

    #[test]
    fn a_clock_before_1970_shows_1970() {
        let clock = ManualClock::at(Timestamp::MIN);
        assert_eq!(Time::Manual(clock).now(), EPOCH);
    }
}
