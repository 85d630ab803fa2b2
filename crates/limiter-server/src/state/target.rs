//! The file that a path names: found behind links, locked, and replaced as a whole.
//!
//! The lock (flock) is on the state file itself. So it holds for every path to the file, and there is no separate lock
//! file to remove. A save locks the new file before the rename, so the file that the path names is always locked. After
//! locking a file, a server checks that the path still names it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use limiter::memory::{MemoryStore, Snapshot};

use super::StateError;
use super::lines::{Sum, Writer};

/// Finds the file behind the path, creates it if it is missing, and locks it. The returned path has no links.
pub(super) fn take(path: &Path) -> Result<(PathBuf, File), StateError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock => StateError::InUse(path.to_owned()),
        _ => StateError::failed(path, "written")(error),
    };
    let target = target(path).map_err(failed)?;
    for _ in 0..TURNS {
        if let Some(file) = lock(&target).map_err(failed)? {
            return Ok((target, file));
        }
    }
    Err(StateError::InUse(path.to_owned()))
}

/// Opens and locks the file. `None` if it was missing, or another server has replaced it meanwhile: look again.
fn lock(target: &Path) -> io::Result<Option<File>> {
    let file = match OpenOptions::new().read(true).append(true).open(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return make(target).map(|()| None);
        }
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    file.try_lock()?;
    match names(target, &file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        is_named => Ok(is_named?.then_some(file)),
    }
}

/// Returns whether the path names this very file.
pub(super) fn names(path: &Path, file: &File) -> io::Result<bool> {
    let (named, open) = (fs::symlink_metadata(path)?, file.metadata()?);
    Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
}

/// Writes and syncs a new file with this snapshot, next to the one that the path names. The new file is locked.
pub(super) fn write_new(path: &Path, snapshot: &Snapshot) -> io::Result<(File, Sum)> {
    let new = new_of(path);
    // A file that a crash left behind may have other permissions.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Only the server may read the file: it holds digests, names and limits.
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new)?;
    // One that an operator writes as root stays the server's.
    if let Ok(old) = fs::metadata(path)
        && old.uid() != file.metadata()?.uid()
    {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    file.try_lock()?;
    let mut writer = Writer::new(BufWriter::new(&file));
    serde_json::to_writer(&mut writer, snapshot)?;
    writer.end_line()?;
    let lines = writer.finish()?;
    file.sync_all()?;
    Ok((file, lines))
}

/// Renames the file [written](write_new) before to its final name.
pub(super) fn put_in_place(path: &Path) -> io::Result<()> {
    fs::rename(new_of(path), path)
}

/// Syncs a rename to the disk.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Follows symbolic links, even to a file that does not exist yet.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        match fs::read_link(&path) {
            Ok(link) => path = folder_of(&path).join(link),
            Err(_) => {
                let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
                return Ok(folder_of(&path).canonicalize()?.join(name));
            }
        }
    }
    Err(io::ErrorKind::InvalidFilename.into())
}

/// Creates a file with an empty store, unless the file exists.
///
/// Servers that start at the same time take turns by a lock on the folder, so that none replaces another's file.
fn make(path: &Path) -> io::Result<()> {
    let folder = File::open(folder_of(path))?;
    for _ in 0..TURNS {
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(TURN),
            // Some file systems cannot lock folders. There the lock of the file separates servers that start at the
            // same instant. It fails only if one creates the file between the other's check and rename.
            Ok(()) | Err(TryLockError::Error(_)) => {
                if fs::symlink_metadata(path).is_err() {
                    drop(write_new(path, &MemoryStore::new().snapshot())?);
                    put_in_place(path)?;
                    sync_folder(path)?;
                }
                return Ok(());
            }
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

fn new_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}

/// Attempts while other servers replace or create the file.
const TURNS: usize = 100;
/// Pause between attempts. Creating an empty file takes a few of them on a slow disk.
const TURN: Duration = Duration::from_millis(20);
/// Symbolic links to follow, as operating systems allow.
const MAX_LINKS: usize = 40;
