//! A script as the server knows it: by the digest of its text.

/// A Lua script that runs on the server as one atomic step.
#[derive(Debug)]
pub(crate) struct Script {
    /// For error messages and traces.
    pub(crate) name: &'static str,
    pub(crate) text: String,
    /// SHA-1 in hexadecimal digits, as `EVALSHA` wants it.
    pub(crate) digest: String,
}

/// One run of a script.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) script: &'a Script,
    /// Every key that the script touches. All of them have the slot of the first.
    pub(crate) keys: &'a [Vec<u8>],
    pub(crate) arguments: &'a [Vec<u8>],
}

impl Script {
    pub(crate) fn new(name: &'static str, text: String) -> Self {
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { name, text, digest }
    }
}
