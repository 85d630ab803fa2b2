//! A gateway for the APIs of OpenAI and Anthropic, which limits its callers by their keys.
//!
//! `cargo run --example gateway` starts it, a provider behind it, and a client that prints the answers.
//! `cargo run --example gateway -- --listen 127.0.0.1:8080` serves until it is stopped, for example the SDKs of OpenAI and
//! Anthropic.

mod client;
mod gateway;
mod upstream;

use std::error::Error;
use std::future::pending;
use std::net::SocketAddr;
use std::process::ExitCode;

use axum::Router;
use limiter::redis::RedisStore;
use limiter::{AccessKey, KeyConfig, KeyId, Limiter, Limits, ManualClock, NewKey};
use tokio::net::TcpListener;

use crate::gateway::gateway;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => tour().await?,
        ["--listen", address] => listen(address, Limiter::in_memory()).await?,
        ["--listen", address, "--redis", url] => {
            let prefix = format!("gateway-{:016x}", getrandom::u64()?);
            let store = RedisStore::builder(*url).key_prefix(prefix).connect().await?;
            listen(address, store.into()).await?;
        }
        ["-h" | "--help"] => print!("{HELP}"),
        _ => {
            eprint!("{HELP}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the client on a stopped clock, so that no minute ends meanwhile.
async fn tour() -> Result<(), Failure> {
    let limiter = Limiter::in_memory_on(&ManualClock::at("2026-01-01T12:00:29Z".parse()?));
    let [(key, access_key), _] = keys(&limiter).await?;
    let gateway = start("127.0.0.1:0", limiter.clone()).await?;
    client::tour(gateway, access_key.expose()).await?;
    client::print_usage(&limiter.usage(&key).await?.ok_or("the key lives")?);
    Ok(())
}

async fn listen(address: &str, limiter: Limiter) -> Result<(), Failure> {
    let [(_, access_key), (_, of_today)] = keys(&limiter).await?;
    let gateway = start(address, limiter).await?;
    println!("url: http://{gateway}");
    println!("access key: {}", access_key.expose());
    println!("access key for one call a day: {}", of_today.expose());
    pending().await
}

/// Creates a key with limits for all its calls and for `gpt-5`, and a key for one call a day.
async fn keys(limiter: &Limiter) -> Result<[(KeyId, AccessKey); 2], Failure> {
    let create = async |config: KeyConfig| -> Result<_, Failure> {
        let key = limiter.workspace("acme")?.create(NewKey::member(config)).await?;
        Ok((key.record.id, key.access_key.ok_or("it has an access key")?))
    };
    let global = Limits::builder().requests_per_minute(60).tokens_per_day(10_000).build()?;
    let gpt5 = Limits::builder().tokens_per_minute(100).build()?;
    let team = KeyConfig::named("team-a")?.with_global(global).with_asset("gpt-5".parse()?, gpt5);
    let once = Limits::builder().requests_per_day(1).build()?;
    let trial = KeyConfig::named("trial")?.with_global(once);
    Ok([create(team).await?, create(trial).await?])
}

/// Starts a provider, and the gateway on this address.
async fn start(address: &str, limiter: Limiter) -> Result<SocketAddr, Failure> {
    let upstream = serve("127.0.0.1:0", upstream::router()).await?;
    let upstream = format!("http://{upstream}").leak();
    serve(address, gateway(limiter, upstream)).await
}

async fn serve(address: &str, router: Router) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(address)
}

const HELP: &str = "\
A gateway for the APIs of OpenAI and Anthropic, before a provider that knows one answer.

usage: gateway                              shows what a client sees
       gateway --listen ADDRESS             serves until it is stopped; prints its URL and access keys
       gateway --listen ADDRESS --redis URL the same, with all counts in Redis
";
