//! A process that does not outlive the test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::patience::holds_within;

/// A running server, and the shell that watches over it.
///
/// The server is a child of the shell, and the shell reads from a pipe of ours. When the pipe closes because the test
/// was killed, the shell kills the server and removes its directory. No destructor has to run for that.
#[derive(Debug)]
pub(super) struct Process {
    shell: Child,
    pipe: Option<ChildStdin>,
    server: Pid,
    directory: PathBuf,
}

impl Process {
    /// Starts the program in the directory, where what it prints goes to [`LOG`].
    pub(super) fn start(program: &Path, arguments: &[String], directory: &Path) -> Self {
        let mut shell = Command::new("sh")
            .args(["-c", WATCH, "watch"])
            .arg(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C would end the shell before it has tidied up.
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        let pipe = shell.stdin.take();
        let mut line = String::new();
        let stdout = shell.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the shell tells the id");
        let server = Pid::from_raw(line.trim().parse().expect("an id is a number"));
        Self { shell, pipe, server, directory: directory.to_owned() }
    }

    /// The id of the server's process.
    pub(super) fn id(&self) -> u32 {
        self.server.as_raw().unsigned_abs()
    }

    /// Whether the server has ended, of itself or by a signal.
    pub(super) fn has_ended(&mut self) -> bool {
        self.shell.try_wait().expect("the shell is our child").is_some()
    }

    /// Whether it has ended in time.
    pub(super) fn ends_within(&mut self, limit: Duration) -> bool {
        holds_within(limit, || self.has_ended())
    }

    /// Sends a signal to the server, if it has not ended.
    pub(super) fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            signal::kill(self.server, signal).expect("the server is there, and ours");
        }
    }

    /// Kills the server with SIGKILL, waits until it is gone, and leaves its files.
    pub(super) fn kill(mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // It fails if the server has ended of itself, and the shell after it.
            let _ = pipe.write_all(b"\n");
            let _ = self.shell.wait();
        }
    }
}

/// Kills the server and waits until it is gone; its files go too, unless it was killed by then.
impl Drop for Process {
    fn drop(&mut self) {
        if self.pipe.take().is_some() {
            let _ = self.shell.wait();
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// What the server prints, in its directory.
pub(super) const LOG: &str = "log";

/// Starts the server and tells its id. A line on standard input means: kill it. The end of standard input means: the
/// test is over or dead, so kill it and remove its files. The shell ends after the server.
///
/// When the test dies while its server is frozen, the system sends SIGHUP to both shells. Servers ignore it; shells that
/// did not would die of it before they have tidied up.
const WATCH: &str = r#"
trap '' HUP
exec 3<&0
"$@" </dev/null >>log 2>&1 3<&- &
server=$!
{ read -r _ <&3 || : >orphaned; kill -9 "$server"; } >/dev/null 2>&1 &
watch=$!
echo "$server"
exec >/dev/null
wait "$server"
kill "$watch"
wait "$watch"
if [ -e orphaned ]; then directory=$PWD; cd / && rm -rf "$directory"; fi
"#;
