//! Answers that stream: one is read to its end, one is cut by its caller, one runs into a limit.
//!
//! `cargo run --example streaming` starts an upstream that streams as OpenAI does, a gateway before it that limits by
//! API key, and three callers. In the end all accounts agree to the token.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use limiter::stream::{AnswerReader, Api, StreamError, StreamMeter};
use limiter::{
    AccessKey, AssetId, Estimate, KeyConfig, KeyId, Limiter, Limits, ManualClock, NewKey, Reserved,
    Timestamp,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// 44 bytes: eleven tokens by the rule of thumb. The upstream counts nine.
const PROMPT: &str = "Tell me about the sea, and do take your time";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // The limiter's clock stands, so that no minute ends before the table is printed.
    let limiter = Limiter::in_memory_on(&ManualClock::at(START));
    let upstream = serve(Router::new().route("/chat", post(answer))).await?;
    let gateway = Gateway { limiter: limiter.clone(), upstream, client: client() };
    let gateway = serve(Router::new().route("/chat", post(chat)).with_state(gateway)).await?;

    // Each wants an answer of 300 tokens. The second leaves after 40; the upstream pauses there, so that none is on its way.
    let callers = [
        Caller { name: "patient", limit: 1_000, leaves_after: None },
        Caller { name: "hasty", limit: 1_000, leaves_after: Some(40) },
        Caller { name: "small", limit: 150, leaves_after: None },
    ];
    println!("caller   limit  received  used  how it ended");
    for caller in callers {
        let limits = Limits::builder().tokens_per_minute(caller.limit).build()?;
        let key = NewKey::member(KeyConfig::named(caller.name)?.with_global(limits));
        let key = limiter.workspace("acme")?.create(key).await?;
        let access_key = key.access_key.ok_or("a key has one unless it is made without")?;

        let Received { tokens, told, ending } = caller.call(gateway, &access_key).await?;
        // The upstream's usage has the exact tokens of a prompt; without it, the estimate stands.
        let expected = told.unwrap_or_else(|| PROMPT.len().div_ceil(4) as u64 + tokens);
        let used = used_once_settled(&limiter, &key.record.id, expected).await?;
        let Caller { name, limit, .. } = caller;
        println!("{name:<8} {limit:>5}  {tokens:>8}  {used:>4}  {ending}");
        assert_eq!(used, expected, "the books of {name} do not add up");
        assert!(used <= limit, "{name} got more than its limit");
    }
    println!("\nFor each caller, what is used is its prompt and what it received, to the token.");
    Ok(())
}

/// The gateway: limits by API key, and passes answers on as they come.
#[derive(Clone)]
struct Gateway {
    limiter: Limiter,
    upstream: SocketAddr,
    client: Client<HttpConnector, Body>,
}

async fn chat(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    Json(call): Json<Value>,
) -> Result<Response, Failure> {
    let key = match bearer(&headers) {
        Some(access_key) => gateway.limiter.authenticate(&access_key).await?,
        None => None,
    };
    let Some(key) = key else {
        return Err(Failure(StatusCode::UNAUTHORIZED, "unknown key".to_owned()));
    };

    // The reservation covers the longest answer, but no more than the key's limits ever allow.
    let prompt = call["prompt"].as_str().unwrap_or_default();
    let estimate =
        Estimate::for_prompt_bytes(prompt.len()).max_output_tokens(call["max_tokens"].as_u64());
    let gpt5 = AssetId::new("gpt-5")?;
    let mut reserved = match gateway.limiter.reserve_estimated(&key, &gpt5, &estimate).await? {
        Reserved::Allowed(reserved) => reserved,
        Reserved::Denied(denied) => {
            return Err(Failure(StatusCode::TOO_MANY_REQUESTS, denied.to_string()));
        }
    };
    let request = chat_request(gateway.upstream, None, &call)?;
    let answer = match gateway.client.request(request).await {
        Ok(answer) => Body::new(answer.into_body()).into_data_stream(),
        Err(error) => {
            // It never went upstream: nothing is charged.
            reserved.cancel().await?;
            return Err(Failure(StatusCode::BAD_GATEWAY, error.to_string()));
        }
    };

    let metered = StreamMeter::stream(answer, reserved, AnswerReader::new(Api::OpenAiChat))
        .with_step(50)
        .ending_at_limit()
        // Clients of this kind handle an event better than a connection that breaks.
        .or_else(async |error| match error {
            StreamError::Denied(denied) => Ok(event(&json!({ "error": denied.to_string() }))),
            error => Err(error),
        });
    Ok(([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(metered)).into_response())
}

/// The upstream: as many deltas as were asked for, one each millisecond, and then the usage.
async fn answer(Json(call): Json<Value>) -> impl IntoResponse {
    let words = call["max_tokens"].as_u64().unwrap_or(10);
    let deltas =
        (1..=words).map(|n| json!({ "choices": [{ "delta": { "content": format!(" {n}") } }] }));
    let usage =
        json!({ "choices": [], "usage": { "prompt_tokens": 9, "completion_tokens": words } });
    let events: Vec<_> = deltas.chain([usage]).map(|json| event(&json)).collect();
    let pause_after = call["pause_after"].as_u64();
    let paced = stream::iter(events).enumerate().then(move |(sent, event)| async move {
        if pause_after.is_some_and(|pause| sent as u64 == pause) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok::<_, Infallible>(event)
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(paced))
}

struct Caller {
    name: &'static str,
    limit: u64,
    leaves_after: Option<u64>,
}

/// The answer that a caller received.
struct Received {
    tokens: u64,
    /// The tokens of prompt and answer, if the upstream reported them.
    told: Option<u64>,
    ending: String,
}

impl Caller {
    async fn call(
        &self,
        gateway: SocketAddr,
        access_key: &AccessKey,
    ) -> Result<Received, Box<dyn Error>> {
        let call = json!({ "prompt": PROMPT, "max_tokens": 300, "pause_after": self.leaves_after });
        let request = chat_request(gateway, Some(access_key), &call)?;
        let answer = client().request(request).await?;
        if !answer.status().is_success() {
            return Err(format!("{} was refused: {}", self.name, answer.status()).into());
        }
        let mut answer = Body::new(answer.into_body()).into_data_stream();
        let mut received = Received { tokens: 0, told: None, ending: "it was cut".to_owned() };
        let mut text = String::new();
        while let Some(chunk) = answer.next().await {
            text.push_str(std::str::from_utf8(&chunk?)?);
            while let Some((event, rest)) = text.split_once("\n\n") {
                received.read(event)?;
                text = rest.to_owned();
            }
            if self.leaves_after.is_some_and(|leaves| received.tokens >= leaves) {
                received.ending = format!("{} left after {} tokens", self.name, received.tokens);
                break; // Dropping the answer closes the connection.
            }
        }
        Ok(received)
    }
}

impl Received {
    fn read(&mut self, event: &str) -> Result<(), Box<dyn Error>> {
        let event: Value = serde_json::from_str(event.trim_start_matches("data: "))?;
        if event["choices"][0]["delta"]["content"].is_string() {
            self.tokens += 1;
        }
        if let Some(prompt) = event["usage"]["prompt_tokens"].as_u64() {
            self.told = event["usage"]["completion_tokens"].as_u64().map(|answer| prompt + answer);
            self.ending = "it was complete".to_owned();
        }
        if let Some(error) = event["error"].as_str() {
            self.ending = error.to_owned();
        }
        Ok(())
    }
}

/// Returns the usage of the key in its minute. A gateway notices a moment later that a caller has left.
async fn used_once_settled(
    limiter: &Limiter,
    key: &KeyId,
    expected: u64,
) -> Result<u64, Box<dyn Error>> {
    let mut used = 0;
    for _ in 0..1_000 {
        let usage = limiter.usage(key).await?.ok_or("the key lives")?;
        let mut rules = usage.scopes.iter().flat_map(|scope| &scope.rules);
        used = rules.next().ok_or("it has a limit")?.used;
        if used == expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(used)
}

async fn serve(router: Router) -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

fn client() -> Client<HttpConnector, Body> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn chat_request(
    server: SocketAddr,
    access_key: Option<&AccessKey>,
    call: &Value,
) -> Result<Request<Body>, axum::http::Error> {
    let mut request =
        Request::post(format!("http://{server}/chat")).header(CONTENT_TYPE, "application/json");
    if let Some(access_key) = access_key {
        request = request.header(AUTHORIZATION, format!("Bearer {}", access_key.expose()));
    }
    request.body(Body::from(call.to_string()))
}

fn bearer(headers: &HeaderMap) -> Option<AccessKey> {
    headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?.parse().ok()
}

fn event(json: &Value) -> Bytes {
    Bytes::from(format!("data: {json}\n\n"))
}

/// A status and a sentence for the caller.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Every other error: without a decision, the call is not allowed.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

const START: Timestamp = Timestamp::from_unix_ms(1_760_011_230_000);
