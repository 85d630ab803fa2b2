//! A client, and all that it sees of the limits.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use limiter::decision::RuleState;
use limiter::{Measure, Usage};
use serde_json::{Value, json};

use crate::Failure;

/// Asks the same question in each API, whole or streamed, then makes a call over the limit, and one with an unknown
/// key.
pub(crate) async fn tour(gateway: SocketAddr, access_key: &str) -> Result<(), Failure> {
    let question = "How is the weather today?";
    let messages = json!([{"role": "user", "content": question}]);
    let chat = |max_tokens: u64, stream: bool| json!({"model": "gpt-5", "max_tokens": max_tokens, "stream": stream, "messages": messages});
    let chat_path = "/v1/chat/completions";
    call(gateway, access_key, chat_path, chat(50, false)).await?;
    call(gateway, access_key, chat_path, chat(50, true)).await?;
    let responses =
        json!({"model": "gpt-5-mini", "max_output_tokens": 50, "stream": true, "input": question});
    call(gateway, access_key, "/v1/responses", responses).await?;
    let embeddings = json!({"model": "text-embedding-3-small", "input": question});
    call(gateway, access_key, "/v1/embeddings", embeddings).await?;
    let claude = json!({"model": "claude-sonnet-4-5", "max_tokens": 50, "stream": true, "messages": messages});
    call(gateway, access_key, "/v1/messages", claude).await?;
    call(gateway, access_key, chat_path, chat(80, false)).await?;
    call(gateway, "a-key-that-nobody-has", "/v1/messages", chat(50, false)).await
}

async fn call(
    gateway: SocketAddr,
    access_key: &str,
    path: &str,
    body: Value,
) -> Result<(), Failure> {
    println!("--> POST {path} {body}");
    let request = Request::post(format!("http://{gateway}{path}"))
        .header("authorization", format!("Bearer {access_key}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))?;
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let mut response = client.request(request).await?;
    println!("<-- {}", response.status());
    for (name, value) in response.headers() {
        let of_limits = name.as_str().contains("ratelimit") || name == "retry-after";
        if of_limits || name == "content-type" {
            println!("    {name}: {}", value.to_str()?);
        }
    }
    let mut body = Vec::new();
    while let Some(frame) = response.frame().await {
        body.extend(frame?.into_data().unwrap_or_default());
    }
    match serde_json::from_slice::<Value>(&body) {
        Ok(json) => println!("{json:#}\n"),
        Err(_) => println!("{}", String::from_utf8(body)?),
    }
    Ok(())
}

pub(crate) fn print_usage(usage: &Usage) {
    println!("{:<28} {:>6} {:>6} {:>6}   resets at", "usage of team-a", "used", "limit", "left");
    for scope in &usage.scopes {
        let name = scope.scope.asset.as_ref().map_or("all calls", |asset| asset.as_str());
        for RuleState { rule, used, limit, remaining, resets_at, .. } in &scope.rules {
            let what = match rule.measure {
                Measure::Amount(window, unit) => format!("{name}, {} per {window}", unit.label()),
                Measure::Parallel => format!("{name}, in parallel"),
            };
            let resets_at = resets_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
            println!("{what:<28} {used:>6} {limit:>6} {remaining:>6}   {resets_at}");
        }
    }
}
