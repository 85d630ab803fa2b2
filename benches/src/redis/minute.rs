//! The ends of minutes, at which decisions cost more than others, and the clock of a client may be wrong.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Waits for the next minute, unless this much is left of the current one.
pub(super) async fn with_at_least(needed: Duration) {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let left = Duration::from_secs(60 - since_1970.as_secs() % 60);
    if left < needed {
        tokio::time::sleep(left).await;
    }
}
