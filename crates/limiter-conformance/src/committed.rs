//! The histories in the folder `histories` of this crate.

use std::fs;
use std::path::{Path, PathBuf};

use crate::replay::{Answer, Operation, read};

/// A history that shows something, or that failed once.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The file of its operations.
    pub file: PathBuf,
    /// The operations.
    pub operations: Vec<Operation>,
    /// The lines of the answers, if they were worked out by hand.
    pub answers: Option<String>,
}

/// Reads all histories of a folder, which is `histories` or one in it.
///
/// # Panics
/// If there are none, or one cannot be read.
pub fn committed(folder: &str) -> Vec<Committed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).expect("the folder of histories is here");
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "jsonl"));
    assert!(!files.is_empty(), "{} has no histories", folder.display());
    files.sort();
    files.into_iter().map(Committed::read).collect()
}

/// Returns the line of an answer in the version of the format in which the answers of a folder are committed.
pub fn line_of(folder: &str, answer: &Answer) -> String {
    let is_second = ["second", "groups"].iter().any(|second| folder.ends_with(second));
    if is_second { answer.to_line() } else { answer.to_first_line() }
}

impl Committed {
    fn read(file: PathBuf) -> Self {
        let text = fs::read_to_string(&file).expect("a history is a text file");
        let operations = text.lines().enumerate().map(|(index, line)| {
            let unreadable = |error| panic!("{}, line {}: {error}", file.display(), index + 1);
            read(line).unwrap_or_else(unreadable)
        });
        let operations = operations.collect();
        let (folder, name) = file.parent().zip(file.file_name()).expect("a file in a folder");
        let answers = fs::read_to_string(folder.join("answers").join(name)).ok();
        Self { file, operations, answers }
    }
}
