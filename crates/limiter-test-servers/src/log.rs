//! A recorder of the log lines that the code under test writes through `tracing`.

use std::fs::{self, File};

use tempfile::TempDir;
use tracing::Level;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing_subscriber::fmt::format::FmtSpan;

/// The log of this thread, from the creation of this value until it is dropped. Each span has a line when it closes.
#[derive(Debug)]
pub struct Log {
    directory: TempDir,
    _subscriber: DefaultGuard,
}

impl Log {
    /// Records lines of this level and of those above it.
    pub fn listen(level: Level) -> Self {
        let directory = TempDir::with_prefix("limiter-test-").expect("there is room for files");
        let file = File::create(directory.path().join("log")).expect("the directory is new");
        let subscriber = tracing_subscriber::fmt()
            .with_writer(file)
            .with_ansi(false)
            .without_time()
            .with_span_events(FmtSpan::CLOSE)
            .with_max_level(level)
            .finish();
        Self { directory, _subscriber: set_default(subscriber) }
    }

    /// Returns all lines so far.
    pub fn text(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("the log is a text")
    }

    /// Returns the lines so far that contain these words.
    pub fn lines_with(&self, words: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }
}
