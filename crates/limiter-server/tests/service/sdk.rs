//! The real clients: the SDKs of aiXplain, OpenAI and Anthropic as they come from PyPI, and schemathesis on the OpenAPI
//! document.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use serde_json::json;

use crate::provider::{Provider, STREAM_HEAD, whole};
use crate::support::{ADMIN, Folder, MODEL, Running};

#[test]
fn the_unmodified_sdk_makes_every_call_in_memory() {
    make_every_call(&Running::in_memory());
}

#[test]
fn the_unmodified_sdk_makes_every_call_on_redis() {
    make_every_call(&Running::on_redis());
}

#[test]
fn the_unmodified_sdks_of_openai_and_anthropic_call_models() {
    let provider = Provider::answering(say_hi);
    let folder = Folder::new();
    let config = folder.file("config.toml");
    let model = format!(
        "[[models]]\nid = \"far\"\npath = \"far\"\nupstream = \"{provider}/v1/chat/completions\"\n"
    );
    fs::write(&config, model).unwrap();
    let servers = Running::on_each_store_with(&["--config", config.to_str().unwrap()]);
    let arguments = servers.iter().flat_map(|server| {
        let (_, key) = server.member("member", json!({}));
        let (_, full) = server.member("full", json!({"globalLimits": {"rpd": 1}}));
        let used = server.post(&full, "/v1/check", &json!({}));
        assert_eq!(used.status, 200, "{used:?}");
        [server.url.clone(), key, full]
    });
    run_script("providers.py", &servers, |python| python.args(arguments));
}

/// An answer to each API: "Hi there", of 3 input tokens and 4 output tokens.
fn say_hi(request: &str) -> String {
    let path = request.split(' ').nth(1).unwrap_or_default();
    let usage = json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7});
    let of_responses = json!({
        "input_tokens": 3, "output_tokens": 4, "total_tokens": 7,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    });
    let response = json!({
        "id": "r", "object": "response", "created_at": 0, "model": "far", "status": "completed", "tools": [],
        "parallel_tool_calls": true, "tool_choice": "auto", "usage": of_responses,
        "output": [{"type": "message", "id": "m", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": "Hi there", "annotations": []}]}],
    });
    let message = |content: serde_json::Value| {
        json!({
            "id": "m", "type": "message", "role": "assistant", "model": "far", "content": content,
            "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 4},
        })
    };
    let text = json!([{"type": "text", "text": "Hi there"}]);
    if !request.contains("\"stream\":true") {
        let answer = match path {
            "/v1/chat/completions" => {
                json!({"id": "c", "object": "chat.completion", "created": 0, "model": "far", "usage": usage,
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi there"}}]})
            }
            "/v1/completions" => {
                json!({"id": "c", "object": "text_completion", "created": 0, "model": "far", "usage": usage,
                "choices": [{"index": 0, "finish_reason": "stop", "text": "Hi there"}]})
            }
            "/v1/responses" => response,
            "/v1/embeddings" => {
                json!({"object": "list", "model": "far", "usage": {"prompt_tokens": 3, "total_tokens": 3},
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]})
            }
            _ => message(text),
        };
        return whole("200 OK", "content-type: application/json\r\n", &answer.to_string());
    }
    let events = match path {
        "/v1/chat/completions" => {
            let chunk = |choices: serde_json::Value, usage: serde_json::Value| {
                json!({"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "far",
                    "choices": choices, "usage": usage})
            };
            let delta = |text: &str| json!([{"index": 0, "delta": {"content": text}}]);
            let null = serde_json::Value::Null;
            vec![
                chunk(delta("Hi"), null.clone()),
                chunk(delta(" there"), null),
                chunk(json!([]), usage),
            ]
        }
        "/v1/responses" => vec![
            json!({"type": "response.output_text.delta", "sequence_number": 0, "item_id": "m", "output_index": 0,
                "content_index": 0, "delta": "Hi there", "logprobs": []}),
            json!({"type": "response.completed", "sequence_number": 1, "response": response}),
        ],
        _ => vec![
            json!({"type": "message_start", "message": message(json!([]))}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi there"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                "usage": {"output_tokens": 4}}),
            json!({"type": "message_stop"}),
        ],
    };
    let events = events.iter().map(|event| match event["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {event}\n\n"),
        None => format!("data: {event}\n\n"),
    });
    let end = if path == "/v1/chat/completions" { "data: [DONE]\n\n" } else { "" };
    format!("{STREAM_HEAD}{}{end}", events.collect::<String>())
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
    run_script("every_call.py", std::slice::from_ref(server), |python| {
        python
            .env("TEAM_API_KEY", ADMIN)
            .env("BACKEND_URL", &server.url)
            .env("MODELS_RUN_URL", format!("{}/api/v2/execute", server.url))
            .env("AIXPLAIN_ALLOW_INSECURE_URLS", "1")
    });
}

/// Runs a script of `tests/sdk` against these servers, which must succeed.
fn run_script(name: &str, servers: &[Running], set_up: impl FnOnce(&mut Command) -> &mut Command) {
    let folder = Folder::new();
    let mut python = Command::new(program("python3"));
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(name));
    let output = set_up(&mut python)
        .current_dir(folder.path()) // an SDK keeps a cache there
        .output()
        .expect("Python can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    let logs: String = servers.iter().map(Running::output).collect();
    assert!(output.status.success(), "{told}\n{error}\n{logs}");
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
         {1}/bin/pip install aixplain schemathesis openai anthropic",
        program.display(),
        environment.display(),
    );
    program
}

/// That what is valid is accepted is not checked: a length in the document is in characters, and bounds are in bytes.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
