//! One Redis server, in a process of its own.

use std::io::Write;
use std::path::{self, Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fs};

use nix::sys::signal::Signal;
use redis::{Client, FromRedisValue, RedisResult, Value};
use tempfile::TempDir;

use crate::process::{LOG, text_of};
use crate::wait::until;
use crate::{Port, Process};

/// A server of Redis or Valkey on a free port of 127.0.0.1, with a directory of its own. It is killed when it is dropped.
///
/// The binary is that of `LIMITER_TEST_REDIS_SERVER`, or else `redis-server` or `valkey-server` on the `PATH`.
#[derive(Debug)]
pub struct RedisServer {
    command: Command,
    process: Mutex<Option<Process>>,
    directory: TempDir,
    port: Port,
    password: Option<String>,
}

impl RedisServer {
    /// Starts a server that saves nothing.
    pub fn run() -> Self {
        Self::with(&[])
    }

    /// Starts a server that has each write on its disk before it replies.
    pub fn durable() -> Self {
        Self::with(&["appendonly yes", "appendfsync always"])
    }

    /// Starts a server with these lines in its configuration, such as `maxmemory 10mb`, and waits until it answers.
    pub fn with(configuration: &[&str]) -> Self {
        let server = Self::prepared(configuration);
        server.start();
        server
    }

    /// Starts a replica of another server.
    pub fn replica_of(master: &Self) -> Self {
        let mut configuration = vec![format!("replicaof 127.0.0.1 {}", master.port())];
        configuration
            .extend(master.password.iter().map(|password| format!("masterauth {password}")));
        Self::with(&configuration.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a sentinel with these lines in its configuration, such as `sentinel monitor main 127.0.0.1 6379 1`.
    pub fn sentinel(configuration: &[&str]) -> Self {
        let sentinel = Self::prepared_sentinel();
        sentinel.configure(configuration);
        sentinel.start();
        sentinel
    }

    /// `redis://127.0.0.1:12345`, with the password if there is one. It stays the same over restarts.
    pub fn url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{password}@"));
        format!("redis://{}{}", login.unwrap_or_default(), self.address())
    }

    /// `127.0.0.1:12345`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The port, which stays the same over restarts, and is kept free while the server is down.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The log of the server.
    pub fn log(&self) -> String {
        text_of(&self.file(LOG))
    }

    /// The version of Redis, or that of Valkey: `7.0.15`.
    pub fn version(&self) -> String {
        let version = self.info("valkey_version").or_else(|| self.info("redis_version"));
        version.expect("a server has a version")
    }

    /// A field of `INFO`.
    pub fn info(&self, field: &str) -> Option<String> {
        let info = self.text(&["INFO", "everything"]);
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::to_owned)
    }

    /// The reply to a command.
    pub fn command(&self, words: &[&str]) -> Value {
        self.query(words)
    }

    /// The reply to a command, as text.
    pub fn text(&self, words: &[&str]) -> String {
        self.query(words)
    }

    /// The reply to a command, on a connection of its own.
    ///
    /// # Errors
    /// If it is an error, or the server cannot be reached, or is silent for ten seconds.
    pub fn try_command(&self, words: &[&str]) -> RedisResult<Value> {
        query(&self.url(), words)
    }

    /// Kills the server with SIGKILL, and waits until it is gone. Its files stay.
    pub fn kill(&self) {
        drop(self.process().take());
    }

    /// Ends the server by SIGTERM, on which it writes what it is configured to save, and waits until it is gone.
    pub fn stop_gracefully(&self) {
        if let Some(mut process) = self.process().take() {
            process.signal(Signal::SIGCONT);
            process.signal(Signal::SIGTERM);
            process.ended();
        }
    }

    /// Starts the server again on the same port, with the same files, and waits until it answers.
    pub fn start(&self) {
        let mut running = self.process();
        assert!(running.is_none(), "the server runs already");
        let mut process = Process::start(&self.command, self.directory.path());
        until("the server answers", || {
            assert!(
                !process.has_ended(),
                "{:?} does not start:\n{}",
                self.command,
                process.output()
            );
            self.try_command(&["PING"]).is_ok()
        });
        *running = Some(process);
    }

    /// [`kill`](Self::kill), then [`start`](Self::start).
    pub fn restart(&self) {
        self.kill();
        self.start();
    }

    /// Stops the process with SIGSTOP: connections stay open, and nothing answers.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Waits until this server, a replica, has copied its master and follows it.
    pub fn wait_for_master(&self) {
        until("the replica follows its master", || {
            self.info("master_link_status").as_deref() == Some("up")
        });
    }

    /// A server with these lines in its configuration, which has yet to be started.
    pub(crate) fn prepared(configuration: &[&str]) -> Self {
        let password = configuration.iter().find_map(|line| line.strip_prefix("requirepass "));
        let mut server = Self::bare();
        server.password = password.map(str::to_owned);
        // Nothing is saved that was not asked for, and a replica is fed without waiting for others.
        server.configure(&["save \"\"", "appendonly no", "repl-diskless-sync-delay 0"]);
        server.configure(configuration);
        server
    }

    /// A sentinel, which has yet to be configured and started.
    pub(crate) fn prepared_sentinel() -> Self {
        let mut sentinel = Self::bare();
        sentinel.command.arg("--sentinel");
        sentinel
    }

    fn bare() -> Self {
        let Some(binary) = Self::binary() else {
            panic!(
                "this test needs a Redis server: install redis-server, or set {BINARY} to its path"
            )
        };
        let mut command = Command::new(binary);
        command.arg(CONFIGURATION);
        let directory = TempDir::with_prefix("limiter-test-").expect("there is room for files");
        let port = Port::take();
        let server = Self { command, process: Mutex::default(), directory, port, password: None };
        server.configure(&["bind 127.0.0.1", &format!("port {}", server.port())]);
        server
    }

    /// Adds lines to the configuration, for the next start.
    pub(crate) fn configure(&self, lines: &[impl AsRef<str>]) {
        let path = self.file(CONFIGURATION);
        let file = fs::OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.expect("the directory is ours");
        for line in lines {
            writeln!(file, "{}", line.as_ref()).expect("there is room for files");
        }
    }

    /// The path of a file in the directory of the server.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whether it was started and neither killed nor stopped since.
    pub(crate) fn is_running(&self) -> bool {
        self.process().is_some()
    }

    /// The reply to a command, as a value of that type.
    pub(crate) fn query<T: FromRedisValue>(&self, words: &[&str]) -> T {
        query(&self.url(), words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The binary, if there is one.
    fn binary() -> Option<PathBuf> {
        if let Some(path) = env::var_os(BINARY) {
            let path = Path::new(&path);
            assert!(path.is_file(), "{BINARY} is {}: there is no such file", path.display());
            // The server has another working directory than the test. Links stay: a distribution's server may be a link to a
            // program that looks at the name by which it is called.
            return Some(path::absolute(path).expect("it has a name"));
        }
        let path = env::var_os("PATH")?;
        let binaries = ["redis-server", "valkey-server"];
        binaries.iter().find_map(|name| {
            env::split_paths(&path).map(|folder| folder.join(name)).find(|binary| binary.is_file())
        })
    }

    fn signal(&self, signal: Signal) {
        self.process().as_ref().expect("the server runs").signal(signal);
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // A server that has not started leaves nothing behind that is half done.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reply of the server at that URL to a command, on a connection of its own.
pub(crate) fn query<T: FromRedisValue>(url: &str, words: &[&str]) -> RedisResult<T> {
    let mut connection = Client::open(url)?.get_connection_with_timeout(LONGEST_ANSWER)?;
    connection.set_read_timeout(Some(LONGEST_ANSWER))?;
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query(&mut connection)
}

/// In the directory of the server.
const CONFIGURATION: &str = "server.conf";
const BINARY: &str = "LIMITER_TEST_REDIS_SERVER";
/// More than any command of a test takes.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);
