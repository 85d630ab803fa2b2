//! The real clients: the aiXplain SDK as it comes from PyPI, and schemathesis on the OpenAPI document.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{ADMIN, Folder, MODEL, Running};

#[test]
fn the_unmodified_sdk_makes_every_call_in_memory() {
    make_every_call(&Running::in_memory());
}

#[test]
fn the_unmodified_sdk_makes_every_call_on_redis() {
    make_every_call(&Running::on_redis());
}

/// Whatever is asked, also what makes no sense, is answered as the document says, and never with a failure of the server.
#[test]
fn every_answer_is_in_the_openapi_document() {
    let server = Running::with(&["--log", "warn"]);
    let limits = json!({
        "globalLimits": {"tpm": 1_000_000, "rpd": 100_000}, "budget": 1000,
        "assetsLimits": [{"rpm": 2, "assetId": MODEL}],
    });
    let (_, key) = server.member("member", limits);
    for (who, key, seed) in [("a member key", key.as_str(), "1"), ("an admin key", ADMIN, "2")] {
        let folder = Folder::new();
        let output = Command::new(program("schemathesis"))
            .args([
                "run",
                &format!("{}/openapi.json", server.url),
                "--header",
                &format!("x-api-key: {key}"),
            ])
            .args(["--seed", seed, "--max-examples", "40", "--phases", "examples,coverage,fuzzing"])
            .args(["--checks", CHECKS, "--generation-database", "none"])
            .current_dir(folder.path())
            .output()
            .expect("schemathesis can be started");
        let told = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "with {who} and the seed {seed}:\n{told}");
    }
    assert!(!server.output().contains("panicked"), "{}", server.output());
}

fn make_every_call(server: &Running) {
    let folder = Folder::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/every_call.py");
    let output = Command::new(program("python3"))
        .arg(script)
        .env("TEAM_API_KEY", ADMIN)
        .env("BACKEND_URL", &server.url)
        .env("MODELS_RUN_URL", format!("{}/api/v2/execute", server.url))
        .env("AIXPLAIN_ALLOW_INSECURE_URLS", "1")
        .current_dir(folder.path()) // the SDK keeps a cache there
        .output()
        .expect("Python can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{error}\n{}", server.output());
    println!("{told}");
}

/// A program of the virtual environment that `scripts/test` makes.
fn program(name: &str) -> PathBuf {
    let environment = env::var_os("LIMITER_TEST_VENV").map_or_else(
        || {
            let binary = Path::new(env!("CARGO_BIN_EXE_limiter-server"));
            binary.ancestors().nth(2).expect("the binary is in target/debug").join("venv")
        },
        PathBuf::from,
    );
    let program = environment.join("bin").join(name);
    assert!(
        program.is_file(),
        "{} is missing: `scripts/test test` makes the virtual environment, or by hand: python3 -m venv {1} && \
         {1}/bin/pip install aixplain schemathesis",
        program.display(),
        environment.display(),
    );
    program
}

/// That what is valid is accepted is not checked: a length in the document is in characters, and bounds are in bytes.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
