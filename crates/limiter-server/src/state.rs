//! The in-memory engine over restarts: a file that is whole at every instant.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use limiter::{MemoryStore, MemoryStoreBuilder, RestoreError, Snapshot};
use parking_lot::Mutex;
use thiserror::Error;

use crate::metrics;

/// A file that one server keeps its engine in.
#[derive(Clone, Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    /// Held for as long as the server lives, and by one save at a time. A file of its own: the state's is replaced by
    /// every save.
    lock: Arc<Mutex<File>>,
}

/// Why the engine cannot be kept in a file.
#[derive(Debug, Error)]
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
    /// It is no state of this server.
    #[error(
        "the state file {path} is damaged or not of this server, and is left as it is: move it away to start anew, or \
         put a good copy in its place"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
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

    /// Takes the file, and restores what is in it. If there is none, the engine starts empty.
    pub(crate) fn open(
        path: PathBuf,
        builder: MemoryStoreBuilder,
    ) -> Result<(Self, MemoryStore), StateError> {
        let lock = lock(&path)?;
        let store = match fs::read(&path) {
            Ok(bytes) => {
                let snapshot: Snapshot = serde_json::from_slice(&bytes)
                    .map_err(|source| StateError::Damaged { path: path.clone(), source })?;
                builder
                    .restore(snapshot)
                    .map_err(|source| StateError::Unfit { path: path.clone(), source })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => builder.build(),
            Err(source) => return Err(StateError::Unreadable { path, source }),
        };
        Ok((Self { path, lock: Arc::new(Mutex::new(lock)) }, store))
    }

    /// Saves the engine as it is now. Whoever reads the file sees this state or the one before, never a part of one.
    pub(crate) fn save(&self, store: &MemoryStore) -> Result<(), StateError> {
        let _one_at_a_time = self.lock.lock();
        let saved = serde_json::to_vec(&store.snapshot())
            .map_err(io::Error::from)
            .and_then(|bytes| replace(&self.path, &bytes));
        metrics::state_saved(saved.is_ok());
        saved.map_err(|source| StateError::Unwritable { path: self.path.clone(), source })
    }
}

fn lock(path: &Path) -> Result<File, StateError> {
    let unwritable = |source| StateError::Unwritable { path: path.to_owned(), source };
    let file = private().truncate(false).open(beside(path, "lock")).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(unwritable(source)),
    }
}

/// Writes a new file beside the old one, down to the disk, and then puts it in its place.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = beside(path, "new");
    // One that a crash left behind may have other permissions.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private().create_new(true).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The rename itself must reach the disk too.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// It holds digests, names and limits: nobody's business but the server's.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}
