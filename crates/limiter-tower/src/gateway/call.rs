//! From a request to a reservation.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use http_body::Body;
use limiter::__private::UserCode;
use limiter::stream::{Api, ApiRequest, RequestChanges, RequestError};
use limiter::{Allowed, AssetId, Charge, Estimate, KeyId, Price, Reservation, Reserved};

use super::config::{GatewayConfig, GatewayOptions};
use super::read_body::read_body;
use crate::decide::{self, identify, refused, tell, unknown};
use crate::path;
use crate::refusal::Refusal;

/// The API and the model that a request calls.
pub(super) struct Target {
    /// The API of its path.
    pub(super) api: Option<Api>,
    /// The model, where the path has it.
    model: Option<String>,
    /// Why the path cannot be read.
    malformed: Option<&'static str>,
}

/// A call that may go on.
pub(super) enum Call<B> {
    /// It is charged one request. Headers show the state of its rules, if there are dialects.
    Plain { body: B, allowed: Option<Box<Allowed>> },
    /// It holds a reservation, which must be settled.
    Metered { body: Bytes, metered: Box<Metered> },
}

/// A call whose answer is counted.
pub(super) struct Metered {
    pub(super) api: Api,
    pub(super) reservation: Reservation,
    /// Whether the provider was asked for usage, and the caller did not ask for it.
    pub(super) asked_for_usage: bool,
}

impl Target {
    pub(super) fn of(parts: &Parts) -> Self {
        match path::readable(parts.uri.path()) {
            Ok(path) => {
                let api = Api::of_path(&path);
                let model = api.and_then(|api| model_in_path(api, &path));
                Self { api, model, malformed: None }
            }
            Err(why) => Self { api: None, model: None, malformed: Some(why) },
        }
    }
}

/// Returns the model of a path: `models/MODEL:generateContent` for Gemini, `openai/deployments/MODEL/…` for Azure.
fn model_in_path(api: Api, path: &str) -> Option<String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let part = match api {
        Api::Gemini | Api::GeminiEmbeddings => path.rsplit('/').next()?.rsplit_once(':')?.0,
        _ => path.split_once("/openai/deployments/")?.1.split('/').next()?,
    };
    Some(path::name(part).into_owned())
}

/// Decides a call. The body is read only after the caller is identified.
pub(super) async fn admit<B>(
    config: &GatewayConfig,
    target: &Target,
    parts: &mut Parts,
    body: B,
) -> Result<Call<B>, Box<Refusal>>
where
    B: Body<Data = Bytes>,
{
    let Some(key) = identify(&config.shared, parts).await? else { return Err(unknown(None)) };
    if let Some(why) = target.malformed {
        return Err(refused(Refusal::malformed(why)));
    }
    let Some(api) = target.api.filter(|_| parts.method == Method::POST) else {
        let allowed = decide::charge(&config.shared, &key, None, &Charge::request()).await?;
        tell(&config.shared, parts, key, None);
        return Ok(Call::Plain { body, allowed });
    };
    if let Some(encoding) = encoding(&parts.headers) {
        return Err(refused(Refusal::malformed(format!(
            "the request body has the content encoding {encoding:?}: send it without one"
        ))));
    }
    let body = read_body(body, config.options.max_body_bytes).await.map_err(refused)?;
    let request = read_request(&config.options, api, &body)?;
    let model = target.model.as_deref().or_else(|| request.model());
    let model = model.ok_or_else(|| refused(Refusal::malformed(NO_MODEL)))?;
    let asset = AssetId::new(model).map_err(refused)?;
    let price = config.options.prices.of(model).copied();
    let reservation = reserve(config, &key, &asset, request.estimate(), price).await?;
    tell(&config.shared, parts, key, Some(&reservation));
    let (body, asked_for_usage) = forwarded(config, parts, body, &request, &reservation);
    let metered = Box::new(Metered { api, reservation, asked_for_usage });
    Ok(Call::Metered { body, metered })
}

fn read_request(
    options: &GatewayOptions,
    api: Api,
    body: &[u8],
) -> Result<ApiRequest, Box<Refusal>> {
    let read = match &options.tokenizer {
        None => ApiRequest::read(api, body),
        Some(tokenizer) => {
            let read = COUNTING_BY.run(|| ApiRequest::read_counting_by(api, body, &***tokenizer));
            read.ok_or_else(|| refused(Refusal::Panicked(COUNTING_BY.name())))?
        }
    };
    read.map_err(|error: RequestError| refused(Refusal::malformed(error.to_string())))
}

async fn reserve(
    config: &GatewayConfig,
    key: &KeyId,
    asset: &AssetId,
    estimate: Estimate,
    price: Option<Price>,
) -> Result<Reservation, Box<Refusal>> {
    let limiter = &config.shared.limiter;
    let estimate = price.map_or(estimate, |price| estimate.price(price));
    let reserved = if config.options.caps_estimates {
        limiter.reserve_estimated(key, asset, &estimate).await
    } else {
        limiter.reserve(key, asset, &estimate.charge().map_err(refused)?).await
    };
    match (reserved.map_err(refused)?, price) {
        (Reserved::Allowed(reservation), Some(price)) => Ok(reservation.with_price(price)),
        (Reserved::Allowed(reservation), None) => Ok(reservation),
        (Reserved::Denied(denied), _) => Err(refused(denied)),
    }
}

/// Returns the body to forward, and whether it asks for usage that the caller did not ask for.
fn forwarded(
    config: &GatewayConfig,
    parts: &mut Parts,
    body: Bytes,
    request: &ApiRequest,
    reservation: &Reservation,
) -> (Bytes, bool) {
    parts.headers.remove(ACCEPT_ENCODING);
    let GatewayOptions { asks_for_usage, sends_bound, .. } = config.options;
    let ask_for_usage = asks_for_usage
        && request.api().reports_usage_if_asked()
        && request.streams()
        && !request.asks_for_usage();
    // A maximum of 0 is no maximum to some providers, and an error to others.
    let bound = reservation.estimate().output_tokens() / request.answers().max(1);
    let has_bound = sends_bound && request.api().has_output();
    let max_output_tokens = has_bound.then_some(bound.max(1));
    let changes = RequestChanges { ask_for_usage, max_output_tokens };
    let Some(rewritten) = request.rewritten(&body, &changes) else { return (body, false) };
    if parts.headers.contains_key(CONTENT_LENGTH) {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(rewritten.len()));
    }
    (rewritten.into(), ask_for_usage)
}

/// Returns the content encoding of a message, if it has one.
pub(super) fn encoding(headers: &HeaderMap) -> Option<&HeaderValue> {
    let is_plain = |value: &&HeaderValue| {
        let value = value.as_bytes().trim_ascii();
        value.is_empty() || value.eq_ignore_ascii_case(b"identity")
    };
    headers.get_all(CONTENT_ENCODING).iter().find(|value| !is_plain(value))
}

pub(crate) const NO_MODEL: &str = "the request has no \"model\": name the model to call";

static COUNTING_BY: UserCode = UserCode::new("counting_by");
