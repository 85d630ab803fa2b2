//! The command line of the benchmarks: each stage is a subcommand.

use std::env;
use std::error::Error;
use std::process::ExitCode;

/// Runs the stage that the arguments name. Prints its error, if it fails.
pub fn run(stage: impl FnOnce(&[&str]) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match stage(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
