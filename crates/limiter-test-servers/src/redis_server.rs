//! One server, in a process of its own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, fs};

use nix::sys::signal::Signal;
use redis::{Client, ErrorKind, RedisResult, ServerErrorKind, Value};

use super::patience::{holds_within, until};
use super::port::Port;
use super::process::{LOG, Process};
use crate::{RedisServerBuilder, Source};

/// A server of Redis or Valkey on a free port of 127.0.0.1, with a directory of its own. It is killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    sentinel: bool,
    password: Option<String>,
    directory: PathBuf,
    port: Port,
    process: Mutex<Option<Process>>,
}

impl RedisServer {
    /// Starts a server with the settings of an empty [`builder`](Self::builder).
    pub fn run() -> Self {
        Self::builder().run()
    }

    /// A server with settings.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// `redis://127.0.0.1:12345`, with the password if there is one. It stays the same over restarts.
    pub fn url(&self) -> String {
        let login = self.password.as_ref().map(|password| format!(":{password}@"));
        format!("redis://{}127.0.0.1:{}", login.unwrap_or_default(), self.port())
    }

    /// `127.0.0.1:12345`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The port, which stays the same over restarts, and is kept free while the server is down.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where the server keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The id of the process, if the server was started and neither killed nor stopped since.
    pub fn process_id(&self) -> Option<u32> {
        self.process().as_ref().map(Process::id)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join(LOG)).unwrap_or_default()
    }

    /// The version of Redis, or that of Valkey: `7.0.15`.
    pub fn version(&self) -> String {
        let info = self.text(&["INFO", "server"]);
        let field = |name| field(&info, name).map(str::to_owned);
        field("valkey_version").or_else(|| field("redis_version")).expect("a server has a version")
    }

    /// A field of `INFO`.
    pub fn info(&self, name: &str) -> Option<String> {
        field(&self.text(&["INFO", "everything"]), name).map(str::to_owned)
    }

    /// What the server answers to a command.
    ///
    /// # Panics
    /// If it does not answer, or with an error.
    pub fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// What the server answers to a command, as text.
    ///
    /// # Panics
    /// As [`command`](Self::command) does, and if the answer is no text.
    pub fn text(&self, words: &[&str]) -> String {
        redis::from_redis_value(self.command(words)).expect("the answer is a text")
    }

    /// What the server answers to a command, on a connection of its own.
    ///
    /// # Errors
    /// If it answers with an error, cannot be reached, or is silent for ten seconds.
    pub fn try_command(&self, words: &[&str]) -> RedisResult<Value> {
        ask(&self.url(), words)
    }

    /// Kills the server with SIGKILL, and waits until it is gone. Its files stay.
    pub fn kill(&self) {
        if let Some(process) = self.process().take() {
            process.kill();
        }
    }

    /// Ends the server by SIGTERM, on which it writes what it is configured to save, and waits until it is gone.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn stop_gracefully(&self) {
        if let Some(mut process) = self.process().take() {
            process.signal(Signal::SIGCONT);
            process.signal(Signal::SIGTERM);
            let ended = process.ends_within(LONGEST_START);
            process.kill();
            assert!(ended, "the server does not stop:\n{}", self.end_of_log());
        }
    }

    /// Starts the server again on the same port, with the same files, and waits until it answers.
    ///
    /// # Panics
    /// If it runs already, or does not start.
    pub fn start(&self) {
        for _ in 0..TRIES {
            if self.try_start().is_ok() {
                return;
            }
        }
        panic!("port {} is taken:\n{}", self.port(), self.end_of_log());
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
    ///
    /// # Panics
    /// If it takes too long.
    pub fn wait_for_master(&self) {
        until("the replica follows its master", || {
            self.info("master_link_status").as_deref() == Some("up")
        });
    }

    pub(super) fn with(settings: RedisServerBuilder) -> Self {
        let program = Source::binary();
        for _ in 0..TRIES {
            let port = Port::take();
            let directory = new_directory();
            let configuration = settings.configuration(port.number());
            fs::write(directory.join(CONFIGURATION), configuration).expect("the directory is ours");
            let server = Self {
                program: program.clone(),
                sentinel: settings.sentinel,
                password: settings.password.clone(),
                directory,
                port,
                process: Mutex::new(None),
            };
            if server.try_start().is_ok() {
                return server;
            }
        }
        panic!("{TRIES} ports were taken, one after the other");
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Starts the process, and waits until it answers.
    fn try_start(&self) -> Result<(), PortTaken> {
        let mut running = self.process();
        assert!(running.is_none(), "the server runs already");
        let mut arguments = vec![CONFIGURATION.to_owned()];
        arguments.extend(self.sentinel.then(|| "--sentinel".to_owned()));
        let mut process = Process::start(&self.program, &arguments, &self.directory);

        let up = holds_within(LONGEST_START, || process.has_ended() || self.answers(process.id()));
        if up && !process.has_ended() {
            *running = Some(process);
            return Ok(());
        }
        process.kill();
        let log = self.end_of_log();
        if log.contains("Address already in use") {
            return Err(PortTaken);
        }
        panic!("{} does not start:\n{log}", self.program.display());
    }

    /// Whether the server of that process answers a PING, with whatever: another could have taken the port.
    fn answers(&self, process: u32) -> bool {
        match self.try_command(&["INFO", "server"]) {
            Ok(info) => {
                let info: String = redis::from_redis_value(info).expect("INFO is a text");
                field(&info, "process_id") == Some(process.to_string().as_str())
                    && self
                        .try_command(&["PING"])
                        .map_or_else(|error| is_an_answer(&error), |_| true)
            }
            Err(error) => is_an_answer(&error),
        }
    }

    fn signal(&self, signal: Signal) {
        self.process().as_mut().expect("the server was started").signal(signal);
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        // A server that has not started leaves nothing behind that is half done.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        drop(self.process().take());
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What the server of that URL answers to a command, on a connection of its own.
pub(super) fn ask(url: &str, words: &[&str]) -> RedisResult<Value> {
    let mut connection = Client::open(url)?.get_connection_with_timeout(LONGEST_ANSWER)?;
    connection.set_read_timeout(Some(LONGEST_ANSWER))?;
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.query(&mut connection)
}

/// Somebody else listens on the port.
struct PortTaken;

/// Refusals are answers, such as NOAUTH; that the server is still loading is not.
fn is_an_answer(error: &redis::RedisError) -> bool {
    error.code().is_some() && error.kind() != ErrorKind::Server(ServerErrorKind::BusyLoading)
        || error.kind() == ErrorKind::AuthenticationFailed
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn new_directory() -> PathBuf {
    let number = getrandom::u64().expect("the system has random bytes");
    let directory = env::temp_dir().join(format!("limiter-test-{number:016x}"));
    fs::create_dir(&directory).expect("there is room for temporary files");
    directory
}

/// In the directory of the server.
const CONFIGURATION: &str = "server.conf";
/// Others may take a port between our look at it and the server's start, but hardly twice.
const TRIES: u32 = 10;
/// Also with a large file to load, on a busy machine.
const LONGEST_START: Duration = Duration::from_secs(30);
/// More than any command of a test takes.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);
