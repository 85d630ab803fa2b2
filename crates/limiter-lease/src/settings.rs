//! Settings of a leased store.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::Store;

use crate::clock::Clock;
use crate::store::LeasedStore;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) time: Duration,
    pub(crate) part: NonZeroU32,
    /// Calls a second.
    pub(crate) from_rate: u32,
    pub(crate) most_pairs: usize,
    #[cfg(test)]
    pub(crate) bug: crate::bug::Bug,
}

impl Settings {
    /// The fewest requests in the time of a lease for which there is one.
    pub(crate) fn least_requests(&self) -> u64 {
        let rate = u128::from(self.from_rate);
        let least = rate.saturating_mul(self.time.as_millis()).div_ceil(1_000);
        u64::try_from(least).unwrap_or(u64::MAX).max(1)
    }
}

/// Settings of a [`LeasedStore`].
#[derive(Clone, Debug)]
#[must_use = "a store is made by build()"]
pub struct LeasedStoreBuilder {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
}

impl LeasedStoreBuilder {
    /// Leases from this store, with the default settings.
    pub fn new(store: impl Store) -> Self {
        Self::shared(Arc::new(store))
    }

    /// The same with a store that others use too.
    pub fn shared(store: Arc<dyn Store>) -> Self {
        let settings = Settings {
            time: TIME,
            part: PART,
            from_rate: FROM_RATE,
            most_pairs: MOST_PAIRS,
            #[cfg(test)]
            bug: crate::bug::Bug::None,
        };
        Self { store, settings, clock: Clock::Boot }
    }

    /// Sets how long a lease lasts at most: 100 ms by default, at least 1 ms and at most 10 s. For so long a change of limits may go
    /// unseen, and so much of the expected calls is lost with a process that crashes.
    pub fn time(mut self, time: Duration) -> Self {
        self.settings.time = time.clamp(Duration::from_millis(1), Duration::from_secs(10));
        self
    }

    /// Sets which part of what is left of any rule, up to its next threshold, a lease may be at most: 16 by default, for a
    /// sixteenth. Near a limit every call goes to the store.
    pub const fn part(mut self, part: NonZeroU32) -> Self {
        self.settings.part = part;
        self
    }

    /// Sets from how many calls a second on a key and an asset have leases: 100 by default. Those with fewer go to the store, where a
    /// decision that shares its round trip with others costs less than a tenth of a lease.
    pub const fn from_rate(mut self, calls_a_second: u32) -> Self {
        self.settings.from_rate = calls_a_second;
        self
    }

    /// Sets for how many keys and assets this process may have leases at the same time: 100,000 by default. Calls of others go to
    /// the store.
    pub const fn most_pairs(mut self, most: usize) -> Self {
        self.settings.most_pairs = most;
        self
    }

    /// Reads the time from here, as the time since some start: for tests. It must go on while the process is stopped. By default
    /// it is `CLOCK_BOOTTIME`, which goes on in suspend too.
    pub fn clock(mut self, now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        self.clock = Clock::Given(Arc::new(now));
        self
    }

    #[cfg(test)]
    pub(crate) const fn planted(mut self, bug: crate::bug::Bug) -> Self {
        self.settings.bug = bug;
        self
    }

    /// Creates the store.
    #[must_use]
    pub fn build(self) -> LeasedStore {
        LeasedStore::of(self)
    }
}

const TIME: Duration = Duration::from_millis(100);
const PART: NonZeroU32 = NonZeroU32::new(16).expect("it is not zero");
const FROM_RATE: u32 = 100;
/// Some 100 MB at most.
const MOST_PAIRS: usize = 100_000;
