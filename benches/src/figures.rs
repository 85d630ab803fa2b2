//! Named numbers, which one stage passes to the next as a flat JSON object.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Serialize, Serializer};

/// Figures by name, in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    /// Adds a figure.
    pub fn add(&mut self, name: &str, figure: f64) {
        self.0.push((name.to_owned(), figure));
    }

    /// Returns a figure, if it exists.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, figure)| *figure)
    }

    /// Adds the figures that a stage has written to a file.
    ///
    /// # Errors
    /// If the file cannot be read, or has something else in it.
    pub fn read(&mut self, path: &Path) -> io::Result<()> {
        let figures: BTreeMap<String, f64> = serde_json::from_str(&fs::read_to_string(path)?)?;
        self.0.extend(figures);
        Ok(())
    }

    /// Merges them into a file, which keeps figures of other names: for a file that several suites fill.
    ///
    /// # Errors
    /// If it cannot be written, or has something else in it.
    pub fn merge_into(&self, path: &Path) -> io::Result<()> {
        let mut merged: BTreeMap<String, f64> = if path.exists() {
            serde_json::from_str(&fs::read_to_string(path)?)?
        } else {
            BTreeMap::new()
        };
        merged.extend(self.0.iter().cloned());
        fs::write(path, serde_json::to_string_pretty(&merged)? + "\n")
    }

    /// Writes them to a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Serialize for Figures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, figure)| (name, figure)))
    }
}
