//! Persistence of the in-memory engine: one file with a snapshot of the store, followed by later changes of keys.
//!
//! A **change** of a key is appended and synced before it takes effect, so that `kill -9` loses no acknowledged change.
//! A **save** writes a new snapshot to a second file, appends the changes made meanwhile, and renames it over the old
//! file. Snapshot and log share one file, so that they always match, and a backup is one copy. Counts are saved only
//! with the snapshot: a crash loses those since the last save.

mod lines;
mod target;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use limiter::__private::with_causes;
use limiter::StoreError;
use limiter::memory::{Journal, KeyChange, MemoryStore, MemoryStoreBuilder, Snapshot};
use limiter::store::BoxError;
use parking_lot::Mutex;
use thiserror::Error as ThisError;
use tokio::runtime::{Handle, RuntimeFlavor};

use self::lines::{Found, Lines, Writer};
use crate::metrics;

/// The file in which one server keeps its engine. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct StateFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The path without symbolic links.
    path: PathBuf,
    /// Held during a save, so that saves do not overlap.
    saving: Mutex<()>,
    log: Mutex<Log>,
    trouble: Mutex<Trouble>,
}

/// The file that the path names now, locked while it is open.
#[derive(Debug)]
struct Log {
    file: File,
    /// Bytes of valid content. Anything after them belongs to a change that failed.
    length: u64,
    lines: lines::Sum,
    /// The changes that the next snapshot may lack: number and JSON.
    recent: Vec<(u64, Vec<u8>)>,
    recent_bytes: usize,
    /// Whether the end of the file is known. If not, the next save repairs it with a new file.
    usable: bool,
}

/// Current failures, by operation.
#[derive(Debug, Default)]
struct Trouble {
    saving: Option<String>,
    appending: Option<String>,
}

/// An error that keeps the engine from being kept in a file.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum StateError {
    /// Another server has it.
    #[error("the state file {0} is used by another server: give each server its own file")]
    InUse(PathBuf),
    /// The file is not a state file of this server, or something else has changed it.
    #[error(
        "the state file {path} is damaged in line {line}, or not of this version of the server, and is left as it is: \
         put a good copy in its place, or move it away to start without keys"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line number, from 1: the first line is a snapshot, each other line a change of a key.
        line: usize,
        /// The defect of the line.
        #[source]
        source: BoxError,
    },
    /// It cannot be read, restored or written.
    #[error("the state file {path} cannot be {action}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// The attempt that failed.
        action: &'static str,
        /// Why.
        #[source]
        source: BoxError,
    },
}

impl StateError {
    fn failed<E: Into<BoxError>>(path: &Path, action: &'static str) -> impl Fn(E) -> Self {
        move |error| Self::Failed { path: path.to_owned(), action, source: error.into() }
    }
}

impl StateFile {
    /// The time between two saves: a crash loses the counts since the last one.
    pub(crate) const PERIOD: Duration = Duration::from_secs(10);
    /// Delay before a failed save is tried again.
    pub(crate) const RETRY: Duration = Duration::from_secs(1);

    /// Locks the file, restores its content, and saves it again. Without a file, the engine starts empty.
    pub(crate) fn open(
        path: &Path,
        builder: MemoryStoreBuilder,
    ) -> Result<(Self, MemoryStore), StateError> {
        Self::restore(path, |file| builder.journal(file))
    }

    /// The same for a store whose changes reach the file with the next save: all of them, or none.
    pub(crate) fn open_for_one_save(
        path: &Path,
        builder: MemoryStoreBuilder,
    ) -> Result<(Self, MemoryStore), StateError> {
        Self::restore(path, |_| builder)
    }

    fn restore(
        path: &Path,
        builder: impl FnOnce(Self) -> MemoryStoreBuilder,
    ) -> Result<(Self, MemoryStore), StateError> {
        let (path, mut file) = target::take(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(StateError::failed(&path, "read"))?;
        let (snapshot, changes) = read(&path, &bytes)?;
        drop(bytes);
        let log = Mutex::new(Log {
            file,
            length: 0,
            lines: lines::Sum::default(),
            recent: Vec::new(),
            recent_bytes: 0,
            usable: false,
        });
        let (saving, trouble) = (Mutex::default(), Mutex::default());
        let state = Self(Arc::new(Shared { path: path.clone(), saving, log, trouble }));
        let store = builder(state.clone())
            .restore_with(snapshot, changes)
            .map_err(StateError::failed(&path, "restored, and is left as it is"))?;
        // Save at once, to find a file that cannot be written early, and to drop a change that a crash cut off.
        state.save(&store)?;
        Ok((state, store))
    }

    /// Restores the content of the file, which stays as it is, even while a server uses it. Without a file, the store is empty.
    pub(crate) fn read(
        path: &Path,
        builder: MemoryStoreBuilder,
    ) -> Result<MemoryStore, StateError> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(builder.build()),
            read => read.map_err(StateError::failed(path, "read"))?,
        };
        let (snapshot, changes) = read(path, &bytes)?;
        builder.restore_with(snapshot, changes).map_err(StateError::failed(path, "restored"))
    }

    /// Saves the engine as it is now. A reader of the file sees this state or the one before, never a part of one.
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
                let error = StateError::failed(&self.0.path, "written")(source);
                trouble.saving = Some(with_causes(&error));
                Err(error)
            }
        }
    }

    /// Returns its path, without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns the current failure to keep the state, if any.
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
    /// Writes and syncs a new file, then renames it over the old one.
    fn replace(&self, snapshot: &Snapshot) -> io::Result<()> {
        let (file, lines) = target::write_new(&self.path, snapshot)?;
        // Changes wait from here until the new file is in place.
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
        // If the rename does not reach the disk, a crash restores the old file, without later changes.
        target::sync_folder(&self.path)?;
        log.usable = true;
        Ok(())
    }
}

impl Log {
    fn append(&mut self, path: &Path, change: &KeyChange) -> Result<(), StoreError> {
        if !self.usable {
            return Err(StoreError::unavailable(
                "changes of keys are refused until the state file is saved again, which is tried within seconds",
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

    /// Removes the remains of a change that could not be written.
    fn take_back(&mut self, error: io::Error) -> StoreError {
        match self.file.set_len(self.length).and_then(|()| self.file.sync_data()) {
            Ok(()) => StoreError::unavailable(error),
            Err(_) => {
                // A restart may find the change. The next save omits it, which settles the outcome.
                self.usable = false;
                StoreError::outcome_unknown(error)
            }
        }
    }

    /// Checks that the path still names this file. Unless `must_exist`, a missing file passes too.
    fn check_place(&self, path: &Path, must_exist: bool) -> io::Result<()> {
        let is_here = match target::names(path, &self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => !must_exist,
            is_here => is_here?,
        };
        if is_here {
            return Ok(());
        }
        Err(io::Error::other("something else has removed or replaced it while this server uses it"))
    }

    fn forget_until(&mut self, number: u64) {
        self.recent.retain(|(later, _)| *later > number);
        self.recent_bytes = self.recent.iter().map(|(_, change)| change.len()).sum();
    }
}

/// Reads the snapshot and the changes of a file.
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
            // The snapshot was synced before the file got its name, so a crash never cuts it off.
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

/// Runs work that waits for the disk, without blocking other tasks of a runtime's worker.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Bytes of changes in memory that await a successful save: minutes of nothing but the largest changes.
const MAX_RECENT: usize = 64 << 20;
