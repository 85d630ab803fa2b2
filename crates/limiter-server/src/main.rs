//! `limiter-server`: rate limits for API keys of LLM services, over HTTP. `limiter-server --help` tells the rest.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

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

#[tokio::main]
async fn start() -> Result<(), Box<dyn Error>> {
    let settings = Settings::from_command_line()?;
    start_logging(&settings)?;
    raise_file_limit();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = Box::pin(Server::start(&settings)).await?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", server.welcome())?;
    stdout.flush()?;
    drop(stdout);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server.run(stop).await.map_err(StartError::into)
}

/// Logs go to standard error, so that standard output has the welcome alone.
fn start_logging(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let filter = EnvFilter::try_new(&settings.log)
        .map_err(|error| format!("{:?} is no log filter: {error}", settings.log))?;
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

fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
