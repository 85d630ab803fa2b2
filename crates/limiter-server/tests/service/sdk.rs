//! The real clients: the SDKs of aiXplain, OpenAI and Anthropic as they come from PyPI, and schemathesis on the OpenAPI
//! document.

use std::path::Path;
use std::process::Command;

use limiter_test_servers::provider;
use limiter_test_servers::python::{self, program};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{ADMIN, MODEL, Running};

#[test]
fn the_unmodified_sdk_makes_every_call_in_memory() {
    make_every_call(&Running::in_memory());
}

#[test]
fn the_unmodified_sdk_makes_every_call_on_redis() {
    make_every_call(&Running::on_redis());
}

#[test]
fn the_unmodified_openai_sdk_makes_every_call_in_memory() {
    call_provider(Store::Memory, "openai_calls.py");
}

#[test]
fn the_unmodified_openai_sdk_makes_every_call_on_redis() {
    call_provider(Store::Redis, "openai_calls.py");
}

#[test]
fn the_unmodified_anthropic_sdk_makes_every_call_in_memory() {
    call_provider(Store::Memory, "anthropic_calls.py");
}

#[test]
fn the_unmodified_anthropic_sdk_makes_every_call_on_redis() {
    call_provider(Store::Redis, "anthropic_calls.py");
}

/// Every request, also a nonsensical one, gets an answer that the document describes, and never a server error.
#[test]
fn every_answer_to_a_member_key_is_in_the_openapi_document() {
    let server = Running::with(&["--log", "warn"]);
    let limits = json!({
        "globalLimits": {"tpm": 1_000_000, "rpd": 100_000}, "budget": 1000,
        "assetsLimits": [{"rpm": 2, "assetId": MODEL}],
    });
    let (_, key) = server.member("member", limits);
    // `/v1/keys` answers 403 to every request of a member key, and generating many keys takes long.
    ask_for_nonsense(&server, &key, "1", &["--exclude-path", "/v1/keys"]);
}

#[test]
fn every_answer_to_an_admin_key_is_in_the_openapi_document() {
    ask_for_nonsense(&Running::with(&["--log", "warn"]), ADMIN, "2", &[]);
}

fn ask_for_nonsense(server: &Running, key: &str, seed: &str, more: &[&str]) {
    let folder = TempDir::new().unwrap();
    let output = Command::new(program("schemathesis"))
        .args([
            "run",
            &format!("{}/openapi.json", server.url),
            "--header",
            &format!("x-api-key: {key}"),
        ])
        .args(["--seed", seed, "--max-examples", "40", "--phases", "examples,coverage,fuzzing"])
        .args(["--checks", CHECKS, "--generation-database", "none"])
        .args(more)
        .current_dir(folder.path())
        .output()
        .expect("schemathesis can be started");
    let [printed, errors] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "with the seed {seed}:\n{printed}{errors}");
    assert!(!server.output().contains("panicked"), "{}", server.output());
}

fn make_every_call(server: &Running) {
    let run_url = format!("{}/api/v2/execute", server.url);
    run_script(
        server,
        "every_call.py",
        [
            ("TEAM_API_KEY", ADMIN),
            ("BACKEND_URL", &server.url),
            ("MODELS_RUN_URL", &run_url),
            ("AIXPLAIN_ALLOW_INSECURE_URLS", "1"),
        ],
    );
}

#[derive(Clone, Copy, Debug)]
enum Store {
    Memory,
    Redis,
}

/// Makes the calls of a script to a provider behind the server, with the keys that `trial.py` describes.
fn call_provider(store: Store, script: &str) {
    let (folder, provider) = (TempDir::new().unwrap(), provider::start());
    let config = folder.path().join("config.toml");
    let model = format!(
        "[[models]]\nid = \"far\"\npath = \"far/away\"\nupstream = \"{provider}/v1/chat/completions\"\n\
         price = {{ request = \"0.000005\" }}\n[bounds]\nmax_body_bytes = {TOO_LONG_BYTES}\n"
    );
    std::fs::write(&config, model).unwrap();
    let flags = ["--config", config.to_str().unwrap()];
    let server = match store {
        Store::Memory => Running::with(&flags),
        Store::Redis => Running::on_redis_with(&flags),
    };
    let limits = [
        ("ample", json!({"globalLimits": {"rpm": 1_000, "tpd": 1_000_000}})),
        ("minute", json!({"globalLimits": {"rpm": 1}})),
        ("minute2", json!({"globalLimits": {"rpm": 1}})),
        ("day", json!({"globalLimits": {"rpd": 1}})),
        ("small", json!({"globalLimits": {"tpd": 200}})),
        ("poor", json!({"budget": 0.000_001})),
    ];
    let keys: serde_json::Map<_, _> = limits
        .into_iter()
        .map(|(name, fields)| (name.to_owned(), json!(server.member(name, fields).1)))
        .collect();
    let (keys, too_long) = (json!(keys).to_string(), TOO_LONG_BYTES.to_string());
    let variables = [
        ("BASE_URL", server.url.as_str()),
        ("MODEL", "far/away"),
        ("KEYS", &keys),
        ("TOO_LONG_BYTES", &too_long),
        ("HAS_MORE", "1"),
    ];
    run_script(&server, script, variables);
}

fn run_script<'a>(
    server: &Running,
    script: &str,
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    let folder = TempDir::new().unwrap(); // the SDK of aiXplain keeps a cache in it
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(script);
    let printed = python::run(&script, variables, folder.path());
    println!("{}", printed.unwrap_or_else(|output| panic!("{output}\n{}", server.output())));
}

const TOO_LONG_BYTES: usize = 100_000;

/// That what is valid is accepted is not checked: a length in the document is in characters, and bounds are in bytes.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
