//! The warnings of guards and streams on this thread.

use limiter_test_servers as servers;
use tracing::Level;

pub(crate) struct Log(servers::Log);

impl Log {
    pub(crate) fn listen() -> Self {
        Self(servers::Log::listen(Level::WARN))
    }

    /// All warnings and errors so far, a line each, without those of the store, which fails here on demand.
    pub(crate) fn text(&self) -> String {
        let text = self.0.text();
        text.split_inclusive('\n').filter(|line| !line.contains(STORE_FAILS)).collect()
    }
}

/// With the feature `tracing`.
const STORE_FAILS: &str = "the store gave no answer to a call";
