//! Log lines that may come by the thousand: one is written in a while, and says how many it stands for.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lets one line through in each period, and counts the others.
///
/// One per kind of line, usually a `static`:
///
/// ```ignore
/// static LOST: AtMostEvery = AtMostEvery::new(AtMostEvery::USUAL);
/// if let Some(suppressed) = LOST.admit() {
///     tracing::error!(suppressed, "an event is lost");
/// }
/// ```
#[derive(Debug)]
pub(crate) struct AtMostEvery {
    period: Duration,
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    last: Option<Instant>,
    suppressed: u64,
}

impl AtMostEvery {
    /// Often enough for a reader of the log, and few enough for the disk.
    pub(crate) const USUAL: Duration = Duration::from_secs(10);

    pub(crate) const fn new(period: Duration) -> Self {
        Self { period, lines: Mutex::new(Lines { last: None, suppressed: 0 }) }
    }

    /// Returns how many lines were suppressed since the last one if a line may be written now, else `None`.
    pub(crate) fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock();
        if lines.last.is_some_and(|last| now.saturating_duration_since(last) < self.period) {
            lines.suppressed = lines.suppressed.saturating_add(1);
            return None;
        }
        lines.last = Some(now);
        Some(std::mem::take(&mut lines.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_each_period_says_how_many_were_suppressed() {
        let (start, period) = (Instant::now(), Duration::from_secs(10));
        let lines = AtMostEvery::new(period);
        let at = |ms| lines.admit_at(start + Duration::from_millis(ms));
        assert_eq!(at(0), Some(0), "the first line is written at once");
        assert_eq!((1..10_000).filter_map(at).count(), 0);
        assert_eq!(at(10_000), Some(9_999));
        assert_eq!(at(10_001), None);
        assert_eq!(at(60_000), Some(1), "nothing is counted twice");
        assert_eq!(at(70_000), Some(0));
    }

    #[test]
    fn threads_share_one_line() {
        let lines = AtMostEvery::new(Duration::from_secs(3_600));
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter_map(|_| lines.admit()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1);
        assert_eq!(lines.lines.lock().suppressed, 3_999);
    }
}
