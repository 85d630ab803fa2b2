//! The four workloads: the keys, and the order of the accesses to them.
//!
//! Everything is computed before a clock starts and from a fixed seed, so every subject of every run decides
//! about the same keys in the same order.

use std::hint::black_box;
use std::ops::Index;

/// A distribution of accesses over keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// One key, one thread: the decision itself, everything in the nearest cache.
    Hot,
    /// 100 k keys, all equally likely.
    Uniform100k,
    /// 1 M keys by Zipf's law with exponent 0.99: a few keys do much of the traffic, most are rare.
    Zipf1m,
    /// One key, two threads at once: the cost of contention.
    Hot2Threads,
}

impl Workload {
    /// Every workload, in the order of the reports.
    pub const ALL: [Self; 4] = [Self::Hot, Self::Uniform100k, Self::Zipf1m, Self::Hot2Threads];

    /// Returns the name in tables, JSON and arguments.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Uniform100k => "uniform_100k",
            Self::Zipf1m => "zipf_1m",
            Self::Hot2Threads => "hot_2_threads",
        }
    }

    /// Returns the workload of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name() == name)
    }

    /// Returns the number of keys.
    #[must_use]
    pub const fn keys(self) -> usize {
        match self {
            Self::Hot | Self::Hot2Threads => 1,
            Self::Uniform100k => 100_000,
            Self::Zipf1m => 1_000_000,
        }
    }

    /// Returns the number of threads that decide at once.
    #[must_use]
    pub const fn threads(self) -> usize {
        match self {
            Self::Hot2Threads => 2,
            Self::Hot | Self::Uniform100k | Self::Zipf1m => 1,
        }
    }

    /// Returns the first `length` accesses: indices of keys, below [`keys`](Self::keys).
    #[must_use]
    pub fn accesses(self, length: usize) -> Vec<u32> {
        let mut random = Random(SEED);
        match self {
            Self::Hot | Self::Hot2Threads => vec![0; length],
            Self::Uniform100k => (0..length).map(|_| random.below(self.keys()) as u32).collect(),
            Self::Zipf1m => zipf(self.keys(), length, &mut random),
        }
    }
}

/// The keys and accesses of one measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The keys that exist.
    pub ids: Vec<String>,
    /// The accesses, as indices into `ids`, repeated without end.
    pub accesses: Vec<u32>,
}

impl Plan {
    /// Creates a plan of all keys of the workload, and of enough accesses that the caches have evicted the first one
    /// before the last.
    #[must_use]
    pub fn whole(workload: Workload) -> Self {
        Self {
            ids: (0..workload.keys()).map(key_id).collect(),
            accesses: workload.accesses(if workload.keys() == 1 { 1 } else { ACCESSES }),
        }
    }

    /// Creates a plan of the first `length` accesses, a power of two, and of their keys alone.
    ///
    /// Use it where time matters and caches do not. Filling a limiter with a million keys takes callgrind minutes, and
    /// searching a hash table takes the same instructions for a thousand keys as for a million.
    #[must_use]
    pub fn shortened(workload: Workload, length: usize) -> Self {
        let accesses = workload.accesses(length);
        let mut asked_for = accesses.clone();
        asked_for.sort_unstable();
        asked_for.dedup();
        let position = |key: &u32| asked_for.partition_point(|asked| asked < key) as u32;
        Self {
            accesses: accesses.iter().map(position).collect(),
            ids: asked_for.iter().map(|&key| key_id(key as usize)).collect(),
        }
    }

    /// Makes the caller's data for each access, from the id of the key.
    #[must_use]
    pub fn requests<T>(&self, make: impl Fn(&str) -> T) -> Requests<T> {
        Requests::new(self.accesses.iter().map(|&key| make(&self.ids[key as usize])).collect())
    }
}

/// The caller's data for each access, a key or a handle, in the order of accesses and repeated without end.
///
/// A server has just read the key of its request, so it is in the cache when the limiter gets it. Here it is read from
/// memory, but in order, so that the processor fetches it ahead. With one entry for each key instead, two or three
/// cache misses of the benchmark itself would hide the differences of the subjects.
///
/// The request is hidden from the optimiser, so that it computes nothing before the loop.
#[derive(Clone, Debug)]
pub struct Requests<T>(Box<[T]>);

impl<T> Requests<T> {
    /// # Panics
    /// Unless there are a power of two: a division would cost more than a subject's own arithmetic.
    #[must_use]
    pub fn new(requests: Vec<T>) -> Self {
        assert!(requests.len().is_power_of_two());
        Self(requests.into())
    }
}

impl<T> Index<usize> for Requests<T> {
    type Output = T;

    #[inline]
    fn index(&self, access: usize) -> &T {
        black_box(&self.0[access & (self.0.len() - 1)])
    }
}

/// Creates an empty list, whose access panics.
impl<T> Default for Requests<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

/// Returns the id of key number `index`: 22 characters, as long as the ids that the engine draws, in no order that a
/// map could profit from.
#[must_use]
pub fn key_id(index: usize) -> String {
    let mut random = Random(index as u64);
    format!("{:016x}{:06x}", random.next(), random.next() & 0xff_ffff)
}

/// Returns `length` draws of Zipf's law over `keys` keys, by inversion of the cumulative distribution.
///
/// Ranks are dealt to keys at random: otherwise popular keys would be neighbours in memory.
pub(crate) fn zipf(keys: usize, length: usize, random: &mut Random) -> Vec<u32> {
    let mut total = 0.0;
    let cumulative: Vec<f64> = (1..=keys)
        .map(|rank| {
            total += (rank as f64).powf(-ZIPF_EXPONENT);
            total
        })
        .collect();
    let mut key_of_rank: Vec<u32> = (0..keys as u32).collect();
    for last in (1..keys).rev() {
        key_of_rank.swap(last, random.below(last + 1));
    }
    (0..length)
        .map(|_| {
            let point = random.unit() * total;
            let rank = cumulative.partition_point(|&sum| sum <= point);
            key_of_rank[rank.min(keys - 1)]
        })
        .collect()
}

/// SplitMix64: eight lines that give the same sequence for ever, which no library promises.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Uniform in `0.0..1.0`.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A million, or as many as a power of two can be.
const ACCESSES: usize = 1 << 20;

/// The exponent of YCSB's zipfian workloads, the usual one for key-value stores.
const ZIPF_EXPONENT: f64 = 0.99;

/// Any number would do; a fixed one makes runs comparable.
const SEED: u64 = 20_260_101;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_are_repeatable_and_in_range() {
        for workload in Workload::ALL {
            let accesses = workload.accesses(10_000);
            assert_eq!(accesses, workload.accesses(10_000));
            assert!(accesses.iter().all(|&key| (key as usize) < workload.keys()));
        }
    }

    #[test]
    fn a_shortened_plan_asks_for_the_same_keys() {
        let workload = Workload::Zipf1m;
        let plan = Plan::shortened(workload, 1_024);
        let asked: Vec<&String> =
            plan.accesses.iter().map(|&key| &plan.ids[key as usize]).collect();
        let meant: Vec<String> =
            workload.accesses(1_024).iter().map(|&key| key_id(key as usize)).collect();
        assert!(asked.into_iter().eq(&meant));
        assert!(plan.ids.len() < 1_024);
    }

    #[test]
    fn zipf_favours_few_keys_but_touches_many() {
        let accesses = Workload::Zipf1m.accesses(100_000);
        let mut counts = std::collections::HashMap::new();
        for key in accesses {
            *counts.entry(key).or_insert(0_u32) += 1;
        }
        // The most popular of a million keys has a share of 1 / 15.4 when the exponent is 0.99.
        let most = counts.values().max().copied().unwrap_or_default();
        assert!((6_000..7_000).contains(&most), "{most}");
        assert!(counts.len() > 20_000, "{}", counts.len());
    }
}
