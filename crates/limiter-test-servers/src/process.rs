//! Processes that never outlive their test.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::{env, fmt, fs};

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::wait::until;

/// A running program, and the shell that watches over it. Dropping it kills the program and waits until it is gone.
///
/// The program is a child of the shell, and the shell reads from a pipe of the test. When the pipe closes because the
/// test was killed, the shell kills the program and removes its directory. No destructor has to run for that.
#[derive(Debug)]
pub struct Process {
    shell: Child,
    pipe: ChildStdin,
    id: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts the program of a command in a directory of its own. Its output goes to a file there.
    pub fn start(command: &Command, directory: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH, "watch"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let mut shell = shell
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C would end the shell before it has tidied up.
            .process_group(0)
            .spawn()
            .expect("sh can be started");
        let pipe = shell.stdin.take().expect("it is piped");
        let mut id = String::new();
        let stdout = shell.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut id).expect("the shell prints the process id");
        let id = Pid::from_raw(id.trim().parse().expect("an id is a number"));
        Self { shell, pipe, id, log: directory.join(LOG) }
    }

    /// The id of the process.
    pub const fn id(&self) -> i32 {
        self.id.as_raw()
    }

    /// All that the program has printed so far, to both of its outputs.
    pub fn output(&self) -> String {
        text_of(&self.log)
    }

    /// Waits until the program prints a line with these words, and returns the line. Returns the output if it ends instead.
    ///
    /// # Errors
    /// If the program ends.
    pub fn line_with(&mut self, words: &str) -> Result<String, String> {
        let mut found = None;
        until(format_args!("the program prints {words:?} or ends"), || {
            // In this order: the last words of a program are read, too.
            let ended = self.has_ended();
            let output = self.output();
            let line = output.split_inclusive('\n').find(|line| line.contains(words));
            found = match line {
                Some(line) if line.ends_with('\n') => Some(Ok(line.trim_end().to_owned())),
                _ => ended.then_some(Err(output)),
            };
            found.is_some()
        });
        found.expect("it was waited for")
    }

    /// Whether the program has ended, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        self.status().is_some()
    }

    /// Waits until the program has ended. Returns its status; that of a signal is 128 and the number of the signal.
    pub fn ended(&mut self) -> ExitStatus {
        let (log, mut status) = (self.log.clone(), None);
        let condition = fmt::from_fn(|f| write!(f, "the program ends:\n{}", text_of(&log)));
        until(condition, || {
            status = self.status();
            status.is_some()
        });
        status.expect("it was waited for")
    }

    /// Sends a signal to the program, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let sent = signal::kill(self.id, signal);
        assert!(matches!(sent, Ok(()) | Err(Errno::ESRCH)), "{signal}: {sent:?}");
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.shell.try_wait().expect("the shell is our child")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails if the program has ended by itself, and the shell after it.
        let _ = self.pipe.write_all(b"kill\n");
        let _ = self.shell.wait();
    }
}

/// The command that runs an example of the package under test. Cargo builds the examples with the tests, into the next folder.
pub fn example(name: &str) -> Command {
    let test = env::current_exe().expect("a test is a file");
    let folder = test.ancestors().nth(2).expect("a test is in target/debug/deps");
    let example = folder.join("examples").join(name);
    assert!(example.is_file(), "{} is missing: cargo build --examples makes it", example.display());
    Command::new(example)
}

/// The text of a file; empty if there is none.
pub(crate) fn text_of(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// The output of a program, in its directory.
pub(crate) const LOG: &str = "log";

/// Starts the program and prints its id. A line on standard input means: kill it. The end of standard input means: the
/// test is dead, so kill the program and remove its files. The shell ends after the program, with its status.
///
/// When the test dies while its program is frozen, the system sends SIGHUP to both shells, which must not die of it
/// before they have tidied up.
const WATCH: &str = r#"
trap '' HUP
exec 3<&0
"$@" </dev/null >>log 2>&1 3<&- &
program=$!
{ read -r _ <&3 || : >orphaned; kill -9 "$program"; } >/dev/null 2>&1 &
watch=$!
echo "$program"
exec >/dev/null
wait "$program"
status=$?
kill "$watch"
wait "$watch"
if [ -e orphaned ]; then directory=$PWD; cd / && rm -rf "$directory"; fi
exit "$status"
"#;
