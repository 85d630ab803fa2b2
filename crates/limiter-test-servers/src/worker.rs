//! Processes of their own, each of which runs an ignored test that waits for a word to begin.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

/// A process that runs one test. It is killed when it is dropped.
#[derive(Debug)]
pub struct Worker {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a test of this binary with these environment variables, and waits until it is ready.
    pub fn start(test: &str, variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut worker = Self { process, output };
        worker.line_with(READY);
        worker
    }

    /// Lets it begin.
    pub fn go(&mut self) {
        self.process.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    /// Kills it, as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).expect("an id is a small number");
        let _ended = signal::kill(Pid::from_raw(id), signal);
    }

    /// Waits for a line that contains these words.
    pub fn line_with(&mut self, words: &str) -> String {
        let line = self.lines().find(|line| line.contains(words));
        line.unwrap_or_else(|| panic!("a worker ended without {words:?}"))
    }

    /// The lines of its output, to its end.
    pub fn lines(&mut self) -> impl Iterator<Item = String> {
        self.output.by_ref().lines().map_while(Result::ok)
    }

    /// Waits for its end, and returns whether its test passed.
    pub fn passed(&mut self) -> bool {
        self.process.wait().unwrap().success()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Says that this process is ready, and waits for the word to begin.
pub fn ready() {
    say(READY);
    io::stdin().read_line(&mut String::new()).unwrap();
}

/// Says a line in one write, so that a process that is killed leaves no part of one. The harness may have begun the line.
pub fn say(line: &str) {
    io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

const READY: &str = "ready";
