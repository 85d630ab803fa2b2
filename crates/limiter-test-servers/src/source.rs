//! Where servers come from.

use std::env;
use std::path::{self, Path, PathBuf};

/// Where the server comes from that a test merely uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A standalone server that runs already: `LIMITER_TEST_REDIS_URL` has its URL.
    Running(String),
    /// A binary: that of `LIMITER_TEST_REDIS_SERVER`, else `redis-server` or `valkey-server` on the `PATH`.
    Binary(PathBuf),
    /// A container, if nothing else is there.
    #[cfg(feature = "testcontainers")]
    Container,
}

impl Source {
    /// The first of the sources that is there.
    ///
    /// # Panics
    /// If there is none: a test that needs a server is never skipped.
    pub fn find() -> Self {
        if let Ok(url) = env::var(RUNNING) {
            return Self::Running(url);
        }
        if let Some(binary) = binary() {
            return Self::Binary(binary);
        }
        #[cfg(feature = "testcontainers")]
        return Self::Container;
        #[cfg(not(feature = "testcontainers"))]
        panic!("{HELP}");
    }

    /// The binary for the servers that a test breaks. A server that runs already, or in a container, is not for that.
    ///
    /// # Panics
    /// If there is none.
    pub fn binary() -> PathBuf {
        binary().unwrap_or_else(|| {
            panic!("this test breaks servers, so it starts them: install redis-server, or set {BINARY} to its path")
        })
    }
}

fn binary() -> Option<PathBuf> {
    if let Some(path) = env::var_os(BINARY) {
        let path = Path::new(&path);
        assert!(path.is_file(), "{BINARY} is {}: there is no such file", path.display());
        // Tests run in the directory of their crate, and the server in its own. Links stay: a distribution's server may be
        // a link to a program that looks at the name by which it is called.
        return Some(path::absolute(path).expect("it has a name"));
    }
    let path = env::var_os("PATH")?;
    NAMES.iter().find_map(|name| {
        env::split_paths(&path).map(|folder| folder.join(name)).find(|binary| binary.is_file())
    })
}

/// What to do where nothing is found.
pub(super) const HELP: &str =
    "this test needs a Redis server: install redis-server, or set LIMITER_TEST_REDIS_URL";
const RUNNING: &str = "LIMITER_TEST_REDIS_URL";
const BINARY: &str = "LIMITER_TEST_REDIS_SERVER";
const NAMES: [&str; 2] = ["redis-server", "valkey-server"];
