//! The in-memory engine over restarts: one file with a snapshot of the store, and after it the changes of keys since.
//!
//! A **change** of a key is appended and synced before it takes effect, so that `kill -9` loses none that was acknowledged.
//! A **save** writes a new snapshot beside the file, appends the changes that came meanwhile, and renames it over the old
//! one. Snapshot and log are in one file, so that they can never be of different times, and a backup is one copy.
//! Counts are saved with the snapshot only: a crash loses those since the last save.

mod lines;
mod target;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use limiter::{
    BoxError, Journal, KeyChange, MemoryStore, MemoryStoreBuilder, RestoreError, Snapshot,
    StoreError,
};
use parking_lot::Mutex;
use thiserror::Error as ThisError;
use tokio::runtime::{Handle, RuntimeFlavor};

use self::lines::{Found, Lines, Writer};
use crate::metrics;

/// A file that one server keeps its engine in. A clone is the same file.
#[derive(Clone, Debug)]
pub(crate) struct StateFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Without symbolic links.
    path: PathBuf,
    /// One save at a time.
    saving: Mutex<()>,
    log: Mutex<Log>,
    trouble: Mutex<Trouble>,
}

/// The file that the path names now. It is locked for as long as it is open.
#[derive(Debug)]
struct Log {
    file: File,
    /// Bytes that are safe: what comes after is of a change that failed.
    length: u64,
    lines: lines::Sum,
    /// The changes that may not be in the next snapshot, as JSON by their numbers.
    recent: Vec<(u64, Vec<u8>)>,
    recent_bytes: usize,
    /// Whether the end of the file is known. If not, the next save mends it, with a new file.
    usable: bool,
}

/// What fails at the moment.
#[derive(Debug, Default)]
struct Trouble {
    saving: Option<String>,
    appending: Option<String>,
}

/// Why the engine cannot be kept in a file.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum StateError {
    /// Another server has it.
    #[error("the state file {0} is used by another server: give each its own")]
    InUse(PathBuf),
    /// It cannot be read.
    #[error("the state file {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no state of this server, or was changed by something else.
    #[error(
        "the state file {path} is damaged in line {line}, or not of this version of the server, and is left as it is: \
         put a good copy in its place, or move it away to start anew without keys"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1 on: the first is a snapshot, each other a change of a key.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: BoxError,
    },
    /// It contradicts itself, or another version wrote it.
    #[error("the state file {path} cannot be restored, and is left as it is")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RestoreError,
    },
    /// It cannot be written.
    #[error("the state file {path} cannot be written")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StateFile {
    /// How often it is saved: what a crash can lose of the counts.
    pub(crate) const PERIOD: Duration = Duration::from_secs(10);
    /// How soon a save that failed is tried again.
    pub(crate) const RETRY: Duration = Duration::from_secs(1);

    /// Takes the file, restores what is in it, and saves it anew. If there is none, the engine starts empty.
    pub(crate) fn open(
        path: &Path,
        builder: MemoryStoreBuilder,
    ) -> Result<(Self, MemoryStore), StateError> {
        let (path, mut file) = target::take(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|source| StateError::Unreadable { path: path.clone(), source })?;
        let (snapshot, changes) = read(&path, &bytes)?;
        drop(bytes);
        let log = Log {
            file,
            length: 0,
            lines: lines::Sum::default(),
            recent: Vec::new(),
            recent_bytes: 0,
            usable: false,
        };
        let (saving, trouble) = (Mutex::default(), Mutex::default());
        let state =
            Self(Arc::new(Shared { path: path.clone(), saving, log: Mutex::new(log), trouble }));
        let store = builder
            .journal(state.clone())
            .restore_with(snapshot, changes)
            .map_err(|source| StateError::Unfit { path, source })?;
        // At once: a file that cannot be written is no surprise later, and what a crash has torn off is gone.
        state.save(&store)?;
        Ok((state, store))
    }

    /// Saves the engine as it is now. Whoever reads the file sees this state or the one before, never a part of one.
    pub(crate) fn save(&self, store: &MemoryStore) -> Result<(), StateError> {
        let _one_at_a_time = self.0.saving.lock();
        let saved = self.0.replace(&store.snapshot());
        metrics::state_saved(saved.is_ok());
        let mut trouble = self.0.trouble.lock();
        match saved {
            Ok(()) => {
                *trouble = Trouble::default();
                Ok(())
            }
            Err(source) => {
                let error = StateError::Unwritable { path: self.0.path.clone(), source };
                trouble.saving = Some(with_causes(&error));
                Err(error)
            }
        }
    }

    /// Why the state is not kept at the moment, if it is not.
    pub(crate) fn trouble(&self) -> Option<String> {
        let trouble = self.0.trouble.lock();
        trouble.appending.clone().or_else(|| trouble.saving.clone())
    }
}

impl Journal for StateFile {
    fn append(&self, change: &KeyChange) -> Result<(), StoreError> {
        let appended = blocking(|| self.0.log.lock().append(&self.0.path, change));
        self.0.trouble.lock().appending = appended.as_ref().err().map(|error| {
            let path = self.0.path.display();
            format!(
                "a change of a key cannot be written to the state file {path}: {}",
                with_causes(error)
            )
        });
        appended
    }
}

impl Shared {
    /// Writes a new file beside the old one, down to the disk, and then puts it in its place.
    fn replace(&self, snapshot: &Snapshot) -> io::Result<()> {
        let (file, lines) = target::write_new(&self.path, snapshot)?;
        // Changes wait from here on, until there is one file again.
        let mut log = self.log.lock();
        log.check_place(&self.path, false)?;
        log.forget_until(snapshot.last_change());
        let mut writer = Writer::go_on(BufWriter::new(&file), lines);
        for (_, change) in &log.recent {
            writer.write_all(change)?;
            writer.end_line()?;
        }
        let lines = writer.finish()?;
        file.sync_all()?;
        let length = file.metadata()?.len();
        target::put_in_place(&self.path)?;
        let (recent, recent_bytes) = (std::mem::take(&mut log.recent), log.recent_bytes);
        *log = Log { file, length, lines, recent, recent_bytes, usable: false };
        // If the rename does not reach the disk, a crash brings the old file back, without the changes to come.
        target::sync_folder(&self.path)?;
        log.usable = true;
        Ok(())
    }
}

impl Log {
    fn append(&mut self, path: &Path, change: &KeyChange) -> Result<(), StoreError> {
        if !self.usable {
            return Err(StoreError::unavailable(
                "the state file must be saved anew first, which is tried within seconds",
            ));
        }
        if self.recent_bytes > MAX_RECENT {
            return Err(StoreError::unavailable("too many changes of keys since the last save"));
        }
        self.check_place(path, true).map_err(StoreError::unavailable)?;
        let json = serde_json::to_vec(change).map_err(StoreError::unavailable)?;
        let mut line = Vec::with_capacity(json.len() + lines::EXTRA);
        let mut writer = Writer::go_on(&mut line, self.lines.clone());
        let lines = writer
            .write_all(&json)
            .and_then(|()| writer.end_line())
            .and_then(|()| writer.finish())
            .map_err(StoreError::unavailable)?;
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            return Err(self.take_back(error));
        }
        self.length = self.length.saturating_add(line.len() as u64);
        self.lines = lines;
        self.recent_bytes = self.recent_bytes.saturating_add(json.len());
        self.recent.push((change.number, json));
        Ok(())
    }

    /// Removes what there is of a change that could not be written.
    fn take_back(&mut self, error: io::Error) -> StoreError {
        match self.file.set_len(self.length).and_then(|()| self.file.sync_data()) {
            Ok(()) => StoreError::unavailable(error),
            Err(_) => {
                // A restart may find the change. The next save, without it, settles that.
                self.usable = false;
                StoreError::outcome_unknown(error)
            }
        }
    }

    /// Checks that the path still names this file, or nothing if that will do.
    fn check_place(&self, path: &Path, must_exist: bool) -> io::Result<()> {
        let is_here = match target::names(path, &self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => !must_exist,
            is_here => is_here?,
        };
        if is_here {
            return Ok(());
        }
        let what = "something else has removed or replaced it while this server uses it";
        Err(io::Error::other(what))
    }

    fn forget_until(&mut self, number: u64) {
        self.recent.retain(|(later, _)| *later > number);
        self.recent_bytes = self.recent.iter().map(|(_, change)| change.len()).sum();
    }
}

/// The snapshot and the changes of a file.
fn read(path: &Path, bytes: &[u8]) -> Result<(Snapshot, Vec<KeyChange>), StateError> {
    let mut lines = Lines::new(bytes);
    let (mut snapshot, mut changes) = (None, Vec::new());
    let damaged = |line, source| StateError::Damaged { path: path.to_owned(), line, source };
    for line in 1.. {
        match lines.next() {
            Found::Line(json) if snapshot.is_none() => {
                let read = serde_json::from_slice(json);
                snapshot = Some(read.map_err(|error| damaged(line, error.into()))?);
            }
            Found::Line(json) => {
                let read = serde_json::from_slice(json);
                changes.push(read.map_err(|error| damaged(line, error.into()))?);
            }
            // The snapshot was synced before the file got its name: it is never torn by a crash.
            Found::Torn(length) if snapshot.is_some() => {
                let path = path.display();
                tracing::warn!(
                    line,
                    length,
                    "the last change in the state file {path} was cut off by a crash before it was acknowledged: it is dropped"
                );
            }
            Found::Torn(_) => return Err(damaged(line, "the snapshot is cut off".into())),
            Found::Damage => return Err(damaged(line, "its checksum is wrong".into())),
            Found::End => break,
        }
    }
    snapshot.map(|snapshot| (snapshot, changes)).ok_or_else(|| damaged(1, "it is empty".into()))
}

/// Runs what waits for the disk, without keeping a worker of the runtime from its other tasks.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// An error with all its causes, in one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Of changes in memory that wait for a save that succeeds: minutes of nothing but the largest changes.
const MAX_RECENT: usize = 64 << 20;
