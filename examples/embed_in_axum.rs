//! An HTTP service whose calls are limited by the key that comes with them.
//!
//! `cargo run --example embed_in_axum [ADDRESS]`, then try the `curl` line that it prints.

use std::error::Error;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use limiter::{
    AccessKey, AssetId, Charge, Credits, DenialReason, Denied, InvalidValue, KeyConfig, Limiter,
    Limits, NewKey, StoreError,
};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let limiter = Limiter::in_memory();
    let limits = Limits::builder().requests_per_minute(3).build()?;
    // The global limits hold for whatever name a caller makes up; ids of assets are case-sensitive.
    let global = Limits::builder().requests_per_minute(10).build()?;
    let config = KeyConfig::named("demo")?.with_global(global).with_asset("gpt-5".parse()?, limits);
    let key = limiter.workspace("acme")?.create(NewKey::member(config)).await?;
    let key = key.access_key.ok_or("a key has an access key unless it is made without one")?;

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(&address).await?;
    let (key, url) = (key.expose(), format!("http://{}/v1/chat/gpt-5", listener.local_addr()?));
    println!("Three calls a minute of gpt-5 are allowed to the key {key}. Try four:\n");
    println!("curl -i -H 'Authorization: Bearer {key}' -d 'Hello, who are you?' {url}");
    Ok(axum::serve(listener, router(limiter)).await?)
}

/// The service. Clones of a limiter share one store.
pub(crate) fn router(limiter: Limiter) -> Router {
    Router::new().route("/v1/chat/{asset}", post(chat)).with_state(limiter)
}

async fn chat(
    State(limiter): State<Limiter>,
    Path(asset): Path<AssetId>,
    headers: HeaderMap,
    prompt: String,
) -> Result<Response, (StatusCode, String)> {
    let unavailable = |error: StoreError| (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"));

    let key = match bearer(&headers) {
        Some(access_key) => limiter.authenticate(&access_key).await.map_err(unavailable)?,
        None => None,
    };
    let Some(key) = key else {
        let challenge = [(WWW_AUTHENTICATE, "Bearer")];
        return Ok((StatusCode::UNAUTHORIZED, challenge, "unknown key\n").into_response());
    };
    let charge = charge(&prompt);
    let charge = charge.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;

    let decision = limiter.check_and_consume(&key, &asset, &charge).await.map_err(unavailable)?;
    Ok(match decision.denied() {
        None => format!("Here {asset} would answer {} bytes.\n", prompt.len()).into_response(),
        Some(denied) => {
            let (status, header) = refusal(denied);
            (status, header.map(|header| [header]), Json(&decision)).into_response()
        }
    })
}

fn bearer(headers: &HeaderMap) -> Option<AccessKey> {
    let (scheme, access_key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| access_key.trim().parse().ok())?
}

/// Returns the charge of a call. Words stand for tokens here; the length of the answer is not known yet.
fn charge(prompt: &str) -> Result<Charge, InvalidValue> {
    let input_tokens = prompt.split_whitespace().count() as u64;
    let price = Credits::from_millionths(2 * input_tokens)?;
    Ok(Charge::request().with_tokens(input_tokens, 0)?.with_credits(price))
}

/// Returns the status, and the header with the time to retry.
fn refusal(denied: &Denied) -> (StatusCode, Option<(HeaderName, String)>) {
    match denied.reason() {
        DenialReason::KeyUnknown | DenialReason::KeyExpired { .. } => {
            (StatusCode::UNAUTHORIZED, Some((WWW_AUTHENTICATE, "Bearer".to_owned())))
        }
        DenialReason::BudgetExhausted(_) => (StatusCode::PAYMENT_REQUIRED, None),
        DenialReason::RateLimited(_) => {
            // Without the header, waiting does not help: the call exceeds a limit itself.
            let retry_after =
                denied.retry_after().map(|wait| (RETRY_AFTER, whole_seconds(wait).to_string()));
            (StatusCode::TOO_MANY_REQUESTS, retry_after)
        }
        // An admin key, an asset that the key denies, or a reason that this version does not know.
        _ => (StatusCode::FORBIDDEN, None),
    }
}

/// Rounds up, to at least one second: a caller that comes back a moment too early is denied again.
pub(crate) fn whole_seconds(wait: Duration) -> u128 {
    wait.as_nanos().div_ceil(1_000_000_000).max(1)
}
