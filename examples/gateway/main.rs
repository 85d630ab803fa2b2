//! A small gateway that speaks OpenAI's protocol, streaming included, and limits its callers by their keys.
//!
//! `cargo run --example gateway` starts it, an upstream behind it, and a client that shows what it sees.

mod client;
mod upstream;

use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, response};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::post;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use limiter::{
    AnswerReader, Api, AssetId, Charge, InvalidValue, KeyConfig, Limiter, Limits, ManualClock,
    NewKey, Totals,
};
use limiter_tower::{BodyEnd, Dialect, RateLimitLayer, ResponseCost, Settlement};
use serde::Deserialize;

use tokio::net::TcpListener;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    // The clock stands, so that no minute ends while we look.
    let limiter = Limiter::in_memory_on(&ManualClock::at("2026-01-01T12:00:29Z".parse()?));
    let admin = NewKey::admin(KeyConfig::named("ops")?).without_access_key();
    let admin = limiter.bootstrap("acme".parse()?, admin).await?.record.id;
    let global = Limits::builder().requests_per_minute(60).tokens_per_day(10_000).build()?;
    let gpt5 = Limits::builder().tokens_per_minute(100).build()?;
    let config = KeyConfig::named("team-a")?.with_global(global).with_asset("gpt-5".parse()?, gpt5);
    let key = limiter.keys_as(&admin).create(NewKey::member(config)).await?;

    let gateway = gateway(limiter.clone(), serve(upstream::router()).await?);
    let gateway = serve(gateway).await?;
    client::tour(gateway, key.access_key.ok_or("it has an access key")?.expose()).await?;
    client::print_usage(&limiter.usage(&key.record.id).await?.ok_or("the key lives")?);
    Ok(())
}

/// A call is read, limited by an estimate, forwarded, and settled by what the upstream says that it did cost.
fn gateway(limiter: Limiter, upstream: SocketAddr) -> Router {
    let limits = RateLimitLayer::builder(limiter)
        .asset(|call| Ok(call.extensions.get::<Chat>().map(|chat| chat.model.clone())))
        .reserve(estimate, Metered::of)
        .dialects([Dialect::Ietf, Dialect::OpenAi])
        .build();
    let client = Client::builder(TokioExecutor::new()).build_http();
    Router::new()
        .route("/v1/chat/completions", post(forward))
        .with_state((client, upstream))
        .layer(limits)
        .layer(from_fn(read_chat))
}

/// What the limits of a chat completion depend on.
#[derive(Clone, Deserialize)]
struct Chat {
    model: AssetId,
    messages: Vec<Message>,
    max_tokens: u64,
}

#[derive(Clone, Deserialize)]
struct Message {
    content: String,
}

/// The model and the prompt are in the body, which the layer does not read: so this is done around it.
async fn read_chat(request: Request, next: Next) -> Result<Response, (StatusCode, String)> {
    let refuse = |error: &dyn Error| (StatusCode::BAD_REQUEST, format!("{error}\n"));
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, LARGEST_BODY).await.map_err(|error| refuse(&error))?;
    let chat: Chat = serde_json::from_slice(&body).map_err(|error| refuse(&error))?;
    parts.extensions.insert(chat);
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

/// The prompt, and the longest answer. A word is a token here; a real gateway has a tokenizer.
fn estimate(call: &Parts) -> Result<Charge, InvalidValue> {
    let words = |message: &Message| message.content.split_whitespace().count() as u64;
    let (input, output) = call
        .extensions
        .get::<Chat>()
        .map_or((0, 0), |chat| (chat.messages.iter().map(words).sum(), chat.max_tokens));
    Charge::request().with_tokens(input, output)
}

type Upstream = (Client<HttpConnector, Body>, SocketAddr);

async fn forward(
    State((client, upstream)): State<Upstream>,
    request: Request,
) -> Result<Response, StatusCode> {
    let uri: Uri = format!("http://{upstream}{}", request.uri().path())
        .parse()
        .map_err(|_| StatusCode::BAD_REQUEST)?;
    // Without the headers: the access key is ours, not the upstream's.
    let mut forwarded = Request::post(uri).body(request.into_body()).expect("it has a URI");
    forwarded.headers_mut().insert("content-type", "application/json".parse().expect("ASCII"));
    let response = client.request(forwarded).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(response.map(Body::new))
}

/// Reads the tokens of an answer, whole or streamed. An answer that reports nothing, and of which nothing could be counted,
/// keeps its estimate.
struct Metered(AnswerReader);

impl Metered {
    fn of(_: &response::Parts) -> Self {
        Self(AnswerReader::new(Api::OpenAiChat))
    }
}

impl ResponseCost for Metered {
    fn data(&mut self, data: &Bytes) {
        self.0.read(data);
    }

    fn settlement(&mut self, end: BodyEnd) -> Settlement {
        if end == BodyEnd::Complete {
            self.0.finish();
        }
        let reported = self.0.reported();
        let mut totals = Totals::unchanged();
        if let Some(input) = reported.input {
            totals = totals.with_input_tokens(input).unwrap_or(totals);
        }
        if let Some(output) = reported.output {
            totals = totals.with_output_tokens(output).unwrap_or(totals);
        }
        totals.into()
    }
}

/// Puts a service on a free port.
async fn serve(router: Router) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(address)
}

/// Of a request, and of a whole answer: no chat is larger.
const LARGEST_BODY: usize = 1 << 20;
