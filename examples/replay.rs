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

/// Runs the command of the arguments.
pub(crate) async fn run(
    arguments: &[String],
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), Failure> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => in_memory(input, output).await,
        ["-h" | "--help", ..] => output.write_all(HELP.as_bytes()).map_err(unwritable),
        ["--redis", url] => on_redis(url, input, output).await,
        ["--redis"] => Err(refused("--redis needs a URL, such as redis://127.0.0.1:6379")),
        [option] if let Some(url) = option.strip_prefix("--redis=") => {
            on_redis(url, input, output).await
        }
        // The argument after all that are known.
        ["--redis", _, other, ..] | [other, ..] => {
            Err(refused(format!("unknown argument {other:?}; --help tells what there is")))
        }
    }
}

async fn in_memory(input: impl BufRead, output: impl Write) -> Result<(), Failure> {
    let clock = ManualClock::at(Timestamp::from_unix_ms(0));
    let store = MemoryStore::builder().clock(clock.clone()).build();
    replayed_on(store, clock, input, output).await
}

/// Replays on Redis, under a prefix of this run alone, which is removed at the end.
async fn on_redis(url: &str, input: impl BufRead, output: impl Write) -> Result<(), Failure> {
    let clock = ManualClock::at(Timestamp::from_unix_ms(0));
    let prefix = format!("replay-{:016x}", getrandom::u64().map_err(failed)?);
    // A replay waits for a slow server rather than end in the middle of a day.
    let store = RedisStore::builder(url).key_prefix(&prefix).command_deadline(PATIENCE);
    let store = store.clock(clock.clone()).connect().await.map_err(|error| match error {
        RedisError::InvalidUrl { .. } => refused(with_causes(&error)),
        error => failed(with_causes(&error)),
    })?;
    let replayed = replayed_on(store.clone(), clock, input, output).await;
    let deleted = store.delete_everything().await.map_err(|error| {
        let why = with_causes(&error);
        failed(format!("keys that begin with {prefix} are left in Redis: {why}"))
    });
    replayed?;
    deleted.map(drop)
}

/// Replays on this store, whose time is that of the clock.
pub(crate) async fn replayed_on<S: Store>(
    store: S,
    clock: ManualClock,
    input: impl BufRead,
    mut output: impl Write,
) -> Result<(), Failure> {
    let player = Player::new(Arc::new(store), clock).await;
    let player = player.map_err(|error| failed(with_causes(&error)))?;
    let played = play(player, input, &mut output).await;
    // Also before an error: the answers so far show how far the run came.
    output.flush().map_err(unwritable).and(played)
}

/// Answers line by line, so that a day may be longer than memory.
async fn play(
    mut player: Player,
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
        writeln!(output, "{}", answer.to_line()).map_err(unwritable)?;
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

Usage: replay [--redis URL] < operations.jsonl > answers.jsonl

Limits are kept in memory, or with --redis in Redis, where the answers are the same:
redis://127.0.0.1:6379, or any other URL that the limiter knows. Keys are made under a prefix of this
run (replay- and random digits) and deleted at its end; only a run that is killed leaves them.

Each line of the input is a JSON object, and gets one line of output:

  {"at":1760000000000,"op":"create","key":"ci","global":{"requests_per_minute":1}}
      {"ok":true}
  {"at":1760000001000,"op":"check","key":"ci","asset":"gpt-5","input":900,"output":70}
      {"allowed":true,"remaining":{"global/minute/requests":0}}
  {"at":1760000002000,"op":"check","key":"ci","asset":"gpt-5","input":900,"output":70}
      {"allowed":false,"reason":"rate_limited","violated":["global/minute/requests"],
       "binding":"global/minute/requests","retry_at":1760000040000}

`at` sets the clock, in unix milliseconds. `key` is a label of the file. The operations are:

  create   key, kind (member, admin), global (limits), assets (limits by asset), budget, expires_at
  update   the same without kind: what is left out stays, null clears
  check    key, asset, requests (1 unless given), input and output tokens, credits, request_id
  peek     the same without request_id, but nothing is charged
  reserve  as peek, id, ttl_ms: the charge is an estimate, to be corrected within the ttl
  extend   key, id, input, output, credits: the new totals of a running call
  settle   the same: what the call did cost; what is left out is as estimated
  cancel   key, id: the call never went upstream
  usage    key: what is used, and the limits in force
  delete   key

A key remembers 100,000 open reservations, and as many ended ones and request ids, for two minutes: one more is
answered {"error":"too_many"}, and charges nothing.

Limits are requests_per_minute, requests_per_day, tokens_per_minute and tokens_per_day, and the
token_type that is counted: total, output or input. Credits and budget are in millionths.

Try it on an invented day, and count what was denied, and why:

  cargo run --release --example replay < examples/data/day.jsonl > answers.jsonl
  grep -o '"reason":"[a-z_]*"' answers.jsonl | sort | uniq -c

The exit status is 2 for a line that cannot be read or an argument that is not known, 1 if something
else failed; a sentence on the standard error tells which. What was answered before is written.
"#;
