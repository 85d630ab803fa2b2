//! What is said through `tracing` on this thread.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;

/// Listens from its making until it is dropped.
pub(crate) struct Log {
    text: Text,
    _listening: DefaultGuard,
}

#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn listen() -> Self {
        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::WARN)
            .finish();
        Self { text, _listening: tracing::subscriber::set_default(subscriber) }
    }

    /// All warnings and errors up to now, a line each: of guards and streams, and not that a store fails, which it does here
    /// because it is told to.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap();
        text.split_inclusive('\n').filter(|line| !line.contains(STORE_FAILS)).collect()
    }
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// With the feature `tracing`.
const STORE_FAILS: &str = "a call has failed in its store";
