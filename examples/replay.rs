//! A replay of recorded traffic against limits: runs a recorded day through the engine.
//!
//! `cargo run --release --example replay < operations.jsonl > answers.jsonl`; `-- --redis URL` does it on Redis, and
//! `-- --help` lists all options.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use limiter::memory::MemoryStore;
use limiter::redis::{RedisError, RedisStore};
use limiter::store::Store;
use limiter::{ManualClock, Timestamp};
use limiter_conformance::player::Player;
use limiter_conformance::replay::read;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned());
    let arguments: Vec<String> = arguments.collect();
    if arguments.is_empty() && io::stdin().is_terminal() {
        eprintln!("replay: reading operations from the terminal; --help tells what they are");
    }
    let (input, output) = (BufReader::new(io::stdin()), BufWriter::new(io::stdout().lock()));
    match run(&arguments, input, output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, sentence }) => {
            eprintln!("replay: {sentence}");
            ExitCode::from(status)
        }
    }
}

/// The reason why a run ended before its input did.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: u8,
    pub(crate) sentence: String,
}

/// The command of the arguments.
#[derive(Debug, Default)]
struct Command<'a> {
    help: bool,
    redis: Option<&'a str>,
    /// Whether the answers are those of the first version of the format.
    first: bool,
}

/// Runs the command of the arguments.
pub(crate) async fn run(
    arguments: &[String],
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), Failure> {
    let command = Command::read(arguments)?;
    match command {
        Command { help: true, .. } => output.write_all(HELP.as_bytes()).map_err(unwritable),
        Command { redis: Some(url), first, .. } => on_redis(url, first, input, output).await,
        Command { first, .. } => in_memory(first, input, output).await,
    }
}

impl<'a> Command<'a> {
    fn read(arguments: &'a [String]) -> Result<Self, Failure> {
        let mut command = Self::default();
        let mut arguments = arguments.iter().map(String::as_str);
        while let Some(argument) = arguments.next() {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            let mut value = || value.or_else(|| arguments.next());
            match name {
                "-h" | "--help" => return Ok(Self { help: true, ..Self::default() }),
                "--redis" => {
                    let missing = "--redis needs a URL, such as redis://127.0.0.1:6379";
                    command.redis = Some(value().ok_or_else(|| refused(missing))?);
                }
                "--rows" => match value() {
                    Some("v1") => command.first = true,
                    Some("v2") => command.first = false,
                    _ => return Err(refused("--rows needs v1 or v2")),
                },
                _ => {
                    let unknown = format!("unknown argument {argument:?}; --help lists all");
                    return Err(refused(unknown));
                }
            }
        }
        Ok(command)
    }
}

async fn in_memory(first: bool, input: impl BufRead, output: impl Write) -> Result<(), Failure> {
    let clock = ManualClock::at(Timestamp::from_unix_ms(0));
    let store = MemoryStore::builder().clock(clock.clone()).build();
    replayed_on(store, clock, first, input, output).await
}

/// Replays on Redis, under a prefix of this run alone, which is removed at the end.
async fn on_redis(
    url: &str,
    first: bool,
    input: impl BufRead,
    output: impl Write,
) -> Result<(), Failure> {
    let clock = ManualClock::at(Timestamp::from_unix_ms(0));
    let prefix = format!("replay-{:016x}", getrandom::u64().map_err(failed)?);
    // A replay waits for a slow server rather than end in the middle of a day.
    let store = RedisStore::builder(url).key_prefix(&prefix).command_deadline(PATIENCE);
    let store = store.clock(clock.clone()).connect().await.map_err(|error| match error {
        RedisError::InvalidUrl { .. } => refused(with_causes(&error)),
        error => failed(with_causes(&error)),
    })?;
    let replayed = replayed_on(store.clone(), clock, first, input, output).await;
    let deleted = store.delete_everything().await.map_err(|error| {
        let why = with_causes(&error);
        failed(format!("keys that begin with {prefix} are left in Redis: {why}"))
    });
    replayed?;
    deleted.map(drop)
}

/// Replays on this store, whose time is that of the clock, and answers in the first version of the format or the second.
pub(crate) async fn replayed_on<S: Store>(
    store: S,
    clock: ManualClock,
    first: bool,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), Failure> {
    let player = Player::new(Arc::new(store), clock).await;
    let player = player.map_err(|error| failed(with_causes(&error)))?;
    let played = play(player, first, input, &mut output).await;
    // Also before an error: the answers so far show how far the run came.
    output.flush().map_err(unwritable).and(played)
}

/// Answers line by line, so that a day may be longer than memory.
async fn play(
    mut player: Player,
    first: bool,
    input: impl BufRead,
    output: &mut impl Write,
) -> Result<(), Failure> {
    for (number, line) in (1_u64..).zip(input.split(b'\n')) {
        let line = line.map_err(|error| failed(format!("cannot read line {number}: {error}")))?;
        let unreadable = |problem: &dyn Display| refused(format!("line {number}: {problem}"));
        let line = str::from_utf8(&line).map_err(|error| unreadable(&error))?;
        let operation = read(line).map_err(|error| unreadable(&error))?;
        let answer = player.play(&operation).await;
        let answer =
            answer.map_err(|error| failed(format!("line {number}: {}", with_causes(&error))))?;
        let answer = if first { answer.to_first_line() } else { answer.to_line() };
        writeln!(output, "{answer}").map_err(unwritable)?;
    }
    Ok(())
}

/// An error that the caller can correct: in the arguments, or in a line.
fn refused(sentence: impl Display) -> Failure {
    Failure { status: 2, sentence: sentence.to_string() }
}

fn failed(sentence: impl Display) -> Failure {
    Failure { status: 1, sentence: sentence.to_string() }
}

/// Formats the error and its causes, in one sentence.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn unwritable(error: io::Error) -> Failure {
    failed(format!("cannot write the answers: {error}"))
}

const PATIENCE: Duration = Duration::from_secs(10);

const HELP: &str = r#"Runs the API calls of a day through the engine, on a clock that follows the file: what would
these limits have done to this traffic?

Usage: replay [--redis URL] [--rows v1] < operations.jsonl > answers.jsonl

Limits are kept in memory, or with --redis in Redis, where the answers are the same:
redis://127.0.0.1:6379, or any other URL that the limiter knows. Keys are made under a prefix of this
run (replay- and random digits) and deleted at its end; only a run that is killed leaves them.
With --rows v1, answers have the form of the first version of the format.

Each line of the input is a JSON object, and gets one line of output:

  {"at":1760000000000,"op":"create","key":"ci","global":{"limits":{"minute/requests":1}}}
      {"ok":true}
  {"at":1760000001000,"op":"check","key":"ci","asset":"gpt-5","input":900,"output":70}
      {"allowed":true,"remaining":{"global/minute/requests":0}}
  {"at":1760000002000,"op":"check","key":"ci","asset":"gpt-5","input":900,"output":70}
      {"allowed":false,"reason":"rate_limited","violated":["global/minute/requests"],
       "binding":"global/minute/requests","retry_at":1760000040000}

`at` sets the clock, in unix milliseconds. `key` is a label of the file. The operations are:

  create   key, kind (member, admin, group), plan, global (limits), assets (limits by asset), other
           (limits of all other assets, or "denied"), budget, parallel, expires_at, time_zone,
           thresholds, shadow; a limit of "unlimited" lifts that of the plan
  update   the same without kind: what is left out stays, null clears; effective (next, now), version
  check    key, asset, requests (1 unless given), input and output tokens, credits, request_id
  peek     the same without request_id, but nothing is charged
  reserve  as peek, id, ttl_ms: the charge is an estimate, to be corrected within the ttl
  amend    key, id, requests, input, output, credits: the new totals of a running call
  settle   the same: what the call did cost; what is left out is as estimated
  cancel   key, id: the call never went upstream
  usage    key: what was counted today, and each limit in force with what is used of it
  history  key, days: what was counted on each of the last days
  events   the thresholds that have fired since the last time
  reset    key: nothing is used any more, in all windows that end
  delete   key
  plan     plan, effective (next, now), and as in create: global, assets, other, budget, parallel,
           time_zone, thresholds: makes a plan, or changes it as update changes a key
  delete_plan  plan: one that no key has

A key remembers 100,000 open reservations, and as many ended ones and request ids, for two minutes: one more is
answered {"error":"too_many"}, and charges nothing.

Limits are named by window (minute, hour, day, week, month, ever) and unit (requests, tokens,
input_tokens, output_tokens, credits). Credits and budget are in millionths.

Try it on an invented day, and count what was denied, and why:

  cargo run --release --example replay < examples/data/day.jsonl > answers.jsonl
  grep -o '"reason":"[a-z_]*"' answers.jsonl | sort | uniq -c

The exit status is 2 for a line that cannot be read or an argument that is not known, 1 if something
else failed; a sentence on the standard error tells which. What was answered before is written.
"#;
