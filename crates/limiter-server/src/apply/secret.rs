//! Access keys outside of the file: in environment variables and in files of their own.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use limiter::AccessKey;
use zeroize::Zeroizing;

use super::wanted::Access;

/// Reads an access key where it is; `None` if there is none yet. The error is a sentence.
pub(super) fn read(access: &Access) -> Result<Option<AccessKey>, String> {
    let (text, place) = match access {
        Access::Without => return Ok(None),
        Access::Variable(name) => (std::env::var(name).ok().map(Zeroizing::new), name.clone()),
        Access::File(path) | Access::WrittenTo(path) => {
            let place = path.display().to_string();
            let text =
                read_file(path).map_err(|error| format!("{place} cannot be read: {error}"))?;
            (text, place)
        }
    };
    let text = text.as_ref().map(|text| text.trim()).filter(|text| !text.is_empty());
    let key = text.map(AccessKey::new).transpose();
    key.map_err(|error| format!("{place} has no usable access key: {error}"))
}

/// Reads a short file; `None` if it is missing.
fn read_file(path: &Path) -> io::Result<Option<Zeroizing<String>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = Zeroizing::new(String::new());
    file.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Makes the file to which an access key will be written, so that a path that cannot be written fails before the key is
/// created.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    open(path).map(drop)
}

/// Writes an access key to its file, for the owner of the file alone.
pub(super) fn write(path: &Path, access_key: &AccessKey) -> io::Result<()> {
    let mut file = open(path)?;
    // One that was there may be readable by others.
    file.set_permissions(Permissions::from_mode(OWNER_ALONE))?;
    let text = Zeroizing::new(format!("{}\n", access_key.expose()));
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(OWNER_ALONE).open(path)
}

/// The mode of a file that its owner alone may read and write.
const OWNER_ALONE: u32 = 0o600;
/// More than any access key has.
const MOST_BYTES: u64 = 4_096;
