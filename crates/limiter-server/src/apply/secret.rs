//! Access keys outside of the file: in environment variables and in files of their own.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use limiter::{AccessKey, KeyPrefix};
use nix::unistd::geteuid;
use zeroize::Zeroizing;

use super::wanted::Access;
use crate::ids;

/// Reads an access key where it is; `None` if there is none yet. The error is a sentence.
pub(super) fn read(access: &Access) -> Result<Option<AccessKey>, String> {
    let (text, place) = match access {
        Access::Without => return Ok(None),
        Access::Variable(name) => (std::env::var(name).ok().map(Zeroizing::new), name.clone()),
        Access::File(path) | Access::WrittenTo(path) => {
            let place = format!("{}", path.display());
            let is_ours = matches!(access, Access::WrittenTo(_));
            let text = read_file(path, is_ours).map_err(|error| format!("{place}: {error}"))?;
            (text, place)
        }
    };
    let key = text.map(|text| AccessKey::new(text.trim())).transpose();
    key.map_err(|error| format!("{place} has no usable access key: {error}"))
}

/// Reads a short file; `None` if it is missing. One that was written here must belong to this user alone: another could have
/// put an access key of their own into it.
fn read_file(path: &Path, is_ours: bool) -> io::Result<Option<Zeroizing<String>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    let is_private = metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0;
    if is_ours && !is_private {
        return Err(io::Error::other(
            "others may have written it: remove it, or give it to this user alone (chmod 600)",
        ));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

/// Draws an access key, and writes it to a new file that its owner alone may read. The file is there in full, or not at all.
pub(super) fn draw(path: &Path, prefix: Option<KeyPrefix>) -> io::Result<AccessKey> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let drawn = Zeroizing::new(ids::draw()? + &ids::draw()?);
    let prefix = prefix.as_ref().map_or("", KeyPrefix::as_str);
    let access_key = AccessKey::new(format!("{prefix}{}", *drawn)).map_err(io::Error::other)?;
    let new = with_end(path, ".new");
    // One that a crash has left behind.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let text = Zeroizing::new(format!("{}\n", access_key.expose()));
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    // Unlike a rename, a link replaces nothing.
    let linked = fs::hard_link(&new, path);
    fs::remove_file(&new)?;
    linked.map(|()| access_key)
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// More than any access key has.
const MOST_BYTES: u64 = 4_096;
