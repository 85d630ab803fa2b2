//! `limiter-server`: rate limits for API keys of LLM services, over HTTP. See `limiter-server --help`.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::process::ExitCode;

use limiter::__private::with_causes;
use limiter_server::{Server, Settings, StartError};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limiter-server: {}", with_causes(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), Box<dyn Error>> {
    let settings = Settings::from_command_line()?;
    start_logging(&settings)?;
    raise_file_limit();
    // Results of other threads arrive in the global queue. With the default interval of 61, they would wait for
    // thousands of new requests under constant load.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .global_queue_interval(2)
        .enable_all()
        .build()?;
    match runtime.block_on(run(&settings)) {
        Err(StartError::Stopped) => {
            tracing::info!("stopped while it waited for Redis");
            // A DNS look-up that cannot be cancelled may be in progress.
            runtime.shutdown_background();
            Ok(())
        }
        ended => Ok(ended?),
    }
}

async fn run(settings: &Settings) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::failed(NO_SIGNALS))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::failed(NO_SIGNALS))?;
    let mut stop = pin!(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let server = Box::pin(Server::start(settings, &mut stop)).await?;
    say(server.welcome()).map_err(StartError::failed("standard output cannot be written"))?;
    server.run(stop).await
}

fn say(welcome: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{welcome}")?;
    stdout.flush()
}

/// Logs go to standard error, so that standard output has the welcome alone.
fn start_logging(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|error| format!("{:?} is not a log filter: {error}", settings.log))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if settings.log_json {
        logs.json().init();
    } else {
        logs.with_ansi(io::stderr().is_terminal()).init();
    }
    Ok(())
}

/// Each connection takes a file descriptor, and many systems allow 1,024 of them unless one asks for more.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

const NO_SIGNALS: &str = "the server cannot wait for SIGTERM and SIGINT";
