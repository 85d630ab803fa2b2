//! Python programs for tests: clients from PyPI, in the virtual environment that `scripts/test` makes.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the path of a program of the virtual environment. `LIMITER_TEST_VENV` names the environment; the default is
/// `venv` in the target directory of this test.
///
/// # Panics
/// If it is missing.
pub fn program(name: &str) -> PathBuf {
    let environment = env::var_os("LIMITER_TEST_VENV").map_or_else(
        || {
            let test = env::current_exe().expect("a test is a file");
            test.ancestors().nth(3).expect("a test is in target/debug/deps").join("venv")
        },
        PathBuf::from,
    );
    let program = environment.join("bin").join(name);
    assert!(
        program.is_file(),
        "{} is missing: `scripts/test test` makes the virtual environment, or by hand: python3 -m venv {1} && \
         {1}/bin/pip install aixplain schemathesis openai anthropic",
        program.display(),
        environment.display(),
    );
    program
}

/// Runs a script with these variables in this working directory. Returns what it printed, or all of its output if it failed.
///
/// # Errors
/// If the script ends with an error.
pub fn run<'a>(
    script: &Path,
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
    folder: &Path,
) -> Result<String, String> {
    let output = Command::new(program("python3"))
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(variables)
        .current_dir(folder)
        .output()
        .expect("Python can be started");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    Err(format!("{printed}\n{}", String::from_utf8_lossy(&output.stderr)))
}
