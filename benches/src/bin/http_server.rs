//! The cost of the decision in an HTTP request: `/v1/check` of limiter-server, side by side with the same server that
//! reads the same POST and answers a constant of the same size: the body and the headers of a decision. Both use the
//! same guard and accept loop; `wrk` calls them in turns.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::post;
use limiter::{AccessKey, KeyConfig, Limiter, Limits, NewKey};
use limiter_benches::figures::Figures;
use limiter_benches::stages;
use limiter_server::{Bounds, Dialect, Server, guarded, serve};
use tokio::net::TcpListener;

fn main() -> ExitCode {
    stages::run(|arguments| match *arguments {
        [directory] => measure(Path::new(directory), ROUNDS, SECONDS),
        [directory, "--quick"] => measure(Path::new(directory), 3, 1),
        _ => Err("Usage: http_server DIRECTORY [--quick]; wrk must be on the PATH".into()),
    })
}

fn measure(directory: &Path, rounds: usize, seconds: u64) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (check, key) = runtime.block_on(start_server())?;
    let answer = ask(check, &key)?;
    let constant = runtime.block_on(start_constant(&answer))?;
    let constant_bytes = ask(constant, &key)?.len();
    if constant_bytes != answer.len() {
        let bytes = answer.len();
        return Err(format!("the constant has {constant_bytes} bytes, the answer {bytes}").into());
    }

    let script = directory.join("http-server.lua");
    let headers = format!("wrk.headers[\"x-api-key\"] = \"{}\"", key.expose());
    fs::write(&script, format!("wrk.method = \"POST\"\nwrk.body = '{BODY}'\n{headers}\n"))?;
    let wrk = |address: SocketAddr| requests_per_second(address, &script, seconds);
    for address in [check, constant] {
        wrk(address)?; // both are warm
    }
    println!("{:>5}  {:>12}  {:>12}  {:>6}", "round", "/v1/check", "constant", "ratio");
    let mut ratios = Vec::new();
    for round in 0..rounds {
        // The order alternates, so that a machine that slows down favours neither.
        let (decided, answered) = if round % 2 == 0 {
            let decided = wrk(check)?;
            (decided, wrk(constant)?)
        } else {
            let answered = wrk(constant)?;
            (wrk(check)?, answered)
        };
        let ratio = decided / answered;
        println!("{round:>5}  {decided:>10.0}/s  {answered:>10.0}/s  {ratio:>6.3}");
        ratios.push(ratio);
    }
    fs::remove_file(&script)?;
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
    println!("server_over_constant: {ratio:.3} (the median; the target is 0.8 or more)");
    let mut figures = Figures::default();
    figures.add("server_over_constant", (ratio * 1_000.0).round() / 1_000.0);
    Ok(figures.merge_into(&directory.join("http.json"))?)
}

/// Starts the server as it is, in memory, and a key with all eight rules and a budget, none of which is ever reached.
async fn start_server() -> Result<(SocketAddr, AccessKey), Box<dyn Error>> {
    let limiter = Limiter::in_memory();
    let admin = NewKey::admin(KeyConfig::named("admin")?).without_access_key();
    let admin = limiter.bootstrap("bench".parse()?, admin).await?.record.id;
    let limits = Limits::builder()
        .requests_per_minute(limiter::MAX_COUNT)
        .requests_per_day(limiter::MAX_COUNT)
        .tokens_per_minute(limiter::MAX_COUNT)
        .tokens_per_day(limiter::MAX_COUNT)
        .build()?;
    let config =
        KeyConfig::named("ci")?.with_global(limits.clone()).with_asset("gpt-5".parse()?, limits);
    let config = config.with_budget(limiter::Credits::MAX);
    let key = limiter.keys_as(&admin).create(NewKey::member(config)).await?;
    let (address, bounds) = (ANY_PORT.parse()?, Bounds::default());
    let server = Server::embedded(limiter, address, Vec::new(), bounds, [Dialect::Ietf]).await?;
    let address = server.address()?;
    tokio::spawn(server.run(std::future::pending()));
    Ok((address, key.access_key.ok_or("a key has an access key")?))
}

/// Starts the same server without a decision: it repeats one recorded answer with its headers.
async fn start_constant(answer: &str) -> Result<SocketAddr, Box<dyn Error>> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("an answer has a head and a body")?;
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1) {
        let (name, value) = line.split_once(": ").ok_or("a header has a name and a value")?;
        // The server adds these itself.
        if !["connection", "content-length", "date"].contains(&name) {
            headers.insert(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
        }
    }
    let answer = (headers, Bytes::from(body.to_owned()));
    let handler = move |_body: Bytes| async move { answer };
    let bounds = Bounds::default();
    let service = guarded(Router::new().route("/v1/check", post(handler)), &bounds);
    let listener = TcpListener::bind(ANY_PORT).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { serve(listener, service, &bounds, std::future::pending()).await });
    Ok(address)
}

/// Requests one answer, and returns it unchanged.
fn ask(address: SocketAddr, key: &AccessKey) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    let (key, length) = (key.expose(), BODY.len());
    write!(
        stream,
        "POST /v1/check HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-api-key: {key}\r\ncontent-length: {length}\r\n\r\n{BODY}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(answer.into()) }
}

fn requests_per_second(
    address: SocketAddr,
    script: &Path,
    seconds: u64,
) -> Result<f64, Box<dyn Error>> {
    let output = Command::new("wrk")
        .args([
            "--threads",
            "1",
            "--connections",
            "32",
            "--duration",
            &format!("{seconds}s"),
            "--script",
        ])
        .arg(script)
        .arg(format!("http://{address}/v1/check"))
        .output()
        .map_err(|error| format!("wrk cannot be started: {error}"))?;
    let told = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || told.contains("Non-2xx") || told.contains("Socket errors") {
        return Err(format!("wrk: {told}{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let rate = told.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(rate.ok_or("wrk reports no rate")?.trim().parse()?)
}

const ANY_PORT: &str = "127.0.0.1:0";
const BODY: &str =
    r#"{"asset":"gpt-5","charge":{"input_tokens":1200,"output_tokens":350,"credits":42}}"#;
const ROUNDS: usize = 9;
const SECONDS: u64 = 3;
