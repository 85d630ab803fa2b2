//! A running server, and clients for it.

use std::collections::HashSet;
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use limiter::Credits;
use limiter_test_servers::{Process, fresh_name, shared};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The admin key of every server of a test.
pub(crate) const ADMIN: &str = "admin-key-of-a-test-7Qm2vXc94bLr";
/// The secret with which the servers of tests sign events.
pub(crate) const WEBHOOK_SECRET: &str = "secret-of-the-webhook-of-a-test";
/// A built-in model.
pub(crate) const MODEL: &str = "669a63646eb56306647e1091";

/// The binary, on a free port of 127.0.0.1. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Running {
    process: Process,
    pub(crate) url: String,
    _folder: TempDir,
}

impl Running {
    /// Starts a server in memory, without a state file.
    pub(crate) fn in_memory() -> Self {
        Self::with(&[])
    }

    /// Starts a server on the shared Redis, under its own prefix.
    pub(crate) fn on_redis() -> Self {
        Self::on_redis_with(&[])
    }

    /// Starts a server in memory and one on Redis: both must behave alike.
    pub(crate) fn on_each_store() -> [Self; 2] {
        Self::on_each_store_with(&[])
    }

    /// Starts a server in memory and one on Redis, with these flags.
    pub(crate) fn on_each_store_with(flags: &[&str]) -> [Self; 2] {
        [Self::with(flags), Self::on_redis_with(flags)]
    }

    /// Starts a server on the shared Redis, with these flags.
    pub(crate) fn on_redis_with(flags: &[&str]) -> Self {
        let (url, prefix) = (shared().url(), fresh_name("server"));
        Self::with(&[&["--redis", url, "--redis-prefix", &prefix], flags].concat())
    }

    /// Starts a server with these flags and the admin key of tests.
    pub(crate) fn with(flags: &[&str]) -> Self {
        Self::try_with(flags, Some(ADMIN))
            .unwrap_or_else(|output| panic!("it does not start: {output}"))
    }

    /// Starts a server with these flags. Returns its output if it does not start.
    pub(crate) fn try_with(flags: &[&str], admin_key: Option<&str>) -> Result<Self, String> {
        Self::start(Command::new(env!("CARGO_BIN_EXE_limiter-server")), flags, admin_key)
    }

    /// Starts a server whose files cannot exceed this size in KiB, as on a full disk.
    pub(crate) fn with_small_files(kib: u32, flags: &[&str]) -> Self {
        let mut shell = Command::new("bash");
        let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_limiter-server")]);
        Self::start(shell, flags, Some(ADMIN))
            .unwrap_or_else(|output| panic!("it does not start: {output}"))
    }

    fn start(
        mut command: Command,
        flags: &[&str],
        admin_key: Option<&str>,
    ) -> Result<Self, String> {
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        command.env_remove("LIMITER_ADMIN_KEY").env("LIMITER_WEBHOOK_SECRET", WEBHOOK_SECRET);
        if let Some(admin_key) = admin_key {
            command.env("LIMITER_ADMIN_KEY", admin_key);
        }
        let folder = TempDir::new().expect("there is room for files");
        let mut process = Process::start(&command, folder.path());
        let line = process.line_with("listens on http://")?;
        let url = line.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.expect("it says where it listens").trim_end_matches(';').to_owned();
        Ok(Self { process, url, _folder: folder })
    }

    /// Returns all output so far, of both streams.
    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the end of the process, and returns its status.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.process.ended()
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended()
    }

    /// Returns the address, such as `127.0.0.1:12345`.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Makes a POST call with a body of JSON.
    pub(crate) fn post(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.call("POST", key, path, &body.to_string())
    }

    /// Makes a GET call.
    pub(crate) fn get(&self, key: &str, path: &str) -> Answer {
        self.call("GET", key, path, "")
    }

    /// Makes any call; without a key if `key` is empty.
    pub(crate) fn call(&self, method: &str, key: &str, path: &str, body: &str) -> Answer {
        let key = Some(("x-api-key", key)).filter(|(_, key)| !key.is_empty());
        self.call_with(method, path, key, body)
    }

    /// Makes a call with these headers.
    pub(crate) fn call_with<'a>(
        &self,
        method: &str,
        path: &str,
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &str,
    ) -> Answer {
        try_call_with(&self.url, method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}; {}", self.output()))
    }

    /// Returns the peak resident memory of the server, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("the server runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
        peak.expect("Linux reports VmHWM").trim().parse().expect("it is a number")
    }

    /// Makes a call to a server that may be killed meanwhile.
    pub(crate) fn try_call(
        &self,
        method: &str,
        key: &str,
        path: &str,
        body: &str,
    ) -> Result<Answer, String> {
        try_call(&self.url, method, key, path, body)
    }

    /// Returns the requests and tokens of the day, and the millionths of a credit, that a key has used.
    pub(crate) fn used(&self, key: &str) -> (u64, u64, u64) {
        let usage = self.get(key, "/v1/usage").body;
        let (requests, tokens) = account(&usage["scopes"][0]);
        let spent = Credits::deserialize(&usage["credits"]["spent"]).expect("it is an amount");
        (requests, tokens, spent.millionths())
    }

    /// Creates a member key with these fields of the wire. Returns its id and its access key.
    pub(crate) fn member(&self, name: &str, fields: Value) -> (String, String) {
        let mut request = fields;
        request["name"] = json!(name);
        let answer = self.post(ADMIN, "/sdk/api-keys", &request);
        assert_eq!(answer.status, 201, "{answer:?}");
        let text = |field: &str| answer.body[field].as_str().expect("it is text").to_owned();
        (text("id"), text("accessKey"))
    }

    /// Runs the built-in model.
    pub(crate) fn run(&self, key: &str, text: &str) -> Answer {
        self.post(key, &format!("/api/v2/execute/{MODEL}"), &json!({ "text": text }))
    }

    /// Returns the requests and tokens that a key has used today.
    pub(crate) fn used_today(&self, key: &str) -> (u64, u64) {
        account(&self.get(key, "/v1/usage").body["scopes"][0])
    }
}

/// Returns the requests and tokens that a scope has counted today.
fn account(scope: &Value) -> (u64, u64) {
    let of = |unit: &str| scope["account"][unit].as_u64().expect("it is counted");
    (of("requests"), of("input_tokens") + of("output_tokens"))
}

/// The answer of a server.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Null if it is no JSON.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    fn of(mut answer: ureq::http::Response<ureq::Body>) -> Result<Self, String> {
        let headers = answer.headers().iter();
        let headers = headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").to_owned()));
        let headers = headers.collect();
        let text = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Self { status: answer.status().as_u16(), headers, body, text })
    }

    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Asserts that it is an error of the wire, with this status.
    pub(crate) fn assert_refused_on_the_wire(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.body["statusCode"], json!(status), "{self:?}");
        assert!(
            self.body["error"].as_str().is_some_and(|error| error.starts_with("err.")),
            "{self:?}"
        );
        self.body["message"].as_str().expect("it has a message")
    }

    /// Asserts that `x-should-retry` is `false` exactly if there is no `Retry-After`, or one of more than a minute.
    pub(crate) fn assert_retry_is_bounded(&self) {
        let wait = self.header("retry-after").map(|text| text.parse::<u64>().expect("seconds"));
        let expected = wait.is_none_or(|seconds| seconds > 60).then_some("false");
        assert_eq!(self.header("x-should-retry"), expected, "{self:?}");
    }

    /// Asserts that it is a problem of the engine's API, with this status.
    pub(crate) fn assert_problem(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.body.as_object().expect("it is an object");
        let members: Vec<&str> = problem.keys().map(String::as_str).collect();
        assert_eq!(members, ["detail", "reason", "status", "title", "type"], "{self:?}");
        assert_eq!(self.body["status"], json!(status), "{self:?}");
        assert_eq!(self.body["type"], json!("about:blank"), "{self:?}");
        self.body["detail"].as_str().expect("it has a detail")
    }
}

/// Waits until this much of the minute is left, so that no minute ends within a test of a few calls.
pub(crate) fn room_in_this_minute(room: Duration) {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("it is after 1970");
    let left = Duration::from_millis(
        60_000 - u64::try_from(now.as_millis() % 60_000).expect("it is below a minute"),
    );
    if left < room {
        thread::sleep(left + Duration::from_millis(50));
    }
}

/// Waits until enough of the minute is left for two or three calls.
pub(crate) fn enough_of_this_minute() {
    room_in_this_minute(Duration::from_secs(3));
}

/// Returns the secrets that are in the text.
pub(crate) fn found_in<'a>(text: &str, secrets: &[&'a str]) -> HashSet<&'a str> {
    secrets.iter().copied().filter(|secret| text.contains(secret)).collect()
}

/// Makes a call to the server at this URL, without an access key if `key` is empty.
pub(crate) fn call_at(url: &str, method: &str, key: &str, path: &str, body: &str) -> Answer {
    try_call(url, method, key, path, body)
        .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

fn try_call(url: &str, method: &str, key: &str, path: &str, body: &str) -> Result<Answer, String> {
    let key = Some(("x-api-key", key)).filter(|(_, key)| !key.is_empty());
    try_call_with(url, method, path, key, body)
}

fn try_call_with<'a>(
    url: &str,
    method: &str,
    path: &str,
    headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    body: &str,
) -> Result<Answer, String> {
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{url}{path}"));
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let answer = agent().run(request.body(body.to_owned()).expect("it is a request"));
    Answer::of(answer.map_err(|error| error.to_string())?)
}

/// Returns the length of the body that follows this head.
pub(crate) fn content_length(head: &str) -> usize {
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
    length.map_or(0, |length| length.parse().expect("a length is a number"))
}

fn agent() -> &'static ureq::Agent {
    static AGENT: OnceLock<ureq::Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true);
        // A connection that is kept may be closed by a server that stops; each call has its own.
        let config = config.max_idle_connections(0).timeout_global(Some(PATIENCE)).proxy(None);
        ureq::Agent::new_with_config(config.build())
    })
}

/// Enough for a busy machine; a longer wait is a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
