//! A script as the server knows it: by the digest of its text.

use std::fmt;

/// A Lua script that runs on the server as one atomic step.
#[derive(Clone)]
pub(crate) struct Script {
    /// For error messages and traces.
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// SHA-1 in hexadecimal digits, as `EVALSHA` wants it.
    pub(crate) digest: String,
}

/// One run of a script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) script: &'a Script,
    /// Every key that the script touches. All of them have the slot of the first.
    pub(crate) keys: &'a [Vec<u8>],
    pub(crate) arguments: &'a [Vec<u8>],
}

/// By its name: its text would fill pages of a log.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Script {
    pub(crate) fn new(name: &'static str, text: String) -> Self {
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { name, text, digest }
    }
}
