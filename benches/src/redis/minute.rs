//! The ends of minutes, at which decisions cost more than others, and the clock of a client may be wrong.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Waits for the next minute, unless this much is left of the current one.
pub(super) async fn with_at_least(needed: Duration) {
    let left = left();
    if left < needed {
        tokio::time::sleep(left).await;
    }
}

/// Waits for the beginning of the next minute.
pub(crate) async fn next() {
    tokio::time::sleep(left()).await;
}

fn left() -> Duration {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let into = u64::try_from(since_1970.as_millis() % 60_000).unwrap_or_default();
    Duration::from_millis(60_001 - into)
}
