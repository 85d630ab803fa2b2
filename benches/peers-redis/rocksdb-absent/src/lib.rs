//! The types that limitador's disk storage needs in order to compile. None of them works: opening a database fails.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

/// A database, of which there is none.
#[derive(Debug)]
pub enum DBWithThreadMode<T> {
    #[doc(hidden)]
    None(Never, PhantomData<T>),
}

/// A database, of which there is none.
pub type DB = DBWithThreadMode<MultiThreaded>;

/// The only mode.
#[derive(Debug)]
pub struct MultiThreaded;

/// Has no values.
#[derive(Clone, Copy, Debug)]
pub enum Never {}

/// Entries of a database.
pub type Entries = std::iter::Empty<Result<(Box<[u8]>, Box<[u8]>), Error>>;

impl<T> DBWithThreadMode<T> {
    /// Fails.
    pub fn open<P: AsRef<Path>>(_: &Options, _: P) -> Result<Self, Error> {
        Err(Error)
    }

    /// Never called.
    pub fn get<K: AsRef<[u8]>>(&self, _: K) -> Result<Option<Vec<u8>>, Error> {
        Err(Error)
    }

    /// Never called.
    pub fn merge<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, _: K, _: V) -> Result<(), Error> {
        Err(Error)
    }

    /// Never called.
    pub fn delete<K: AsRef<[u8]>>(&self, _: K) -> Result<(), Error> {
        Err(Error)
    }

    /// Never called.
    pub fn iterator(&self, _: IteratorMode) -> Entries {
        std::iter::empty()
    }

    /// Never called.
    pub fn prefix_iterator<P: AsRef<[u8]>>(&self, _: P) -> Entries {
        std::iter::empty()
    }
}

/// Settings of a database.
#[derive(Debug, Default)]
pub struct Options;

impl Options {
    /// Does nothing.
    pub fn create_if_missing(&mut self, _: bool) {}

    /// Does nothing.
    pub fn set_compression_type(&mut self, _: DBCompressionType) {}

    /// Does nothing.
    pub fn set_compaction_filter<F>(&mut self, _: &str, _: F)
    where
        F: FnMut(u32, &[u8], &[u8]) -> CompactionDecision + Send + 'static,
    {
    }

    /// Does nothing.
    pub fn set_merge_operator_associative<F>(&mut self, _: &str, _: F)
    where
        F: Fn(&[u8], Option<&[u8]>, &Operands) -> Option<Vec<u8>> + Clone + Send + Sync + 'static,
    {
    }
}

/// The operands of a merge.
#[derive(Debug)]
pub struct Operands;

impl<'a> IntoIterator for &'a Operands {
    type Item = &'a [u8];
    type IntoIter = std::iter::Empty<&'a [u8]>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::empty()
    }
}

/// The compression of a database.
#[derive(Debug)]
pub enum DBCompressionType {
    /// By bzip2.
    Bz2,
    /// Not at all.
    None,
}

/// The fate of an entry.
#[derive(Debug)]
pub enum CompactionDecision {
    /// It does.
    Keep,
    /// It does not.
    Remove,
}

/// The start of an iteration.
#[derive(Debug)]
pub enum IteratorMode {
    /// At the first.
    Start,
}

/// There is no database.
#[derive(Clone, Debug)]
pub struct Error;

impl Error {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Absent
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RocksDB is not here")
    }
}

impl std::error::Error for Error {}

/// Kinds of errors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// Never.
    TimedOut,
    /// Never.
    TryAgain,
    /// Always.
    Absent,
}
