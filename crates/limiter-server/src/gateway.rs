//! The APIs of OpenAI and Anthropic, so that their SDKs work against this server.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use axum::response::Response;
use limiter::Denied;
use limiter::stream::Api;
use limiter_tower::{Dialect, ErrorFormat, Refusal as LayerRefusal, Retry, Standing};
use serde_json::{Value, json};

use crate::admission::Turn;
use crate::app::App;
use crate::auth::Identified;
use crate::body::{self, Whole};
use crate::models::Model;
use crate::refusal::Refusal;
use crate::run::{Answered, Call, Stopped, forward, give_up};
use crate::upstream::Upstream;
use crate::wire::models::{no_model, refuse_unless_living};

/// Calls a model through the API of the path.
pub(crate) async fn call(
    State(app): State<Arc<App>>,
    Identified(key): Identified,
    turn: Turn,
    uri: Uri,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Result<Response, Refusal> {
    let api = api(uri.path()).ok_or_else(|| {
        Refusal::not_found("unknown API: /openapi.json lists the paths of this server")
    })?;
    let request = body::api_request(api, &body)?;
    let Some(name) = request.model() else {
        return Err(Refusal::malformed(
            "the request has no \"model\": send the id or path of a model",
        ));
    };
    let model = app.models.find(name).ok_or_else(|| Refusal::model_not_found(no_model(name)))?;
    let (model, upstream) = (Arc::clone(model), upstream(model, api)?);
    let dialects = app.dialects_of(api);
    let call = Call { key, model, upstream, request, body, headers, turn };
    match forward(&app, call).await {
        Ok(answer) => pass_on(answer, &dialects).await,
        Err(Stopped::Denied(denied)) => Ok(refuse(*denied, api, &dialects)),
        Err(Stopped::Refused(refusal)) => Err(refusal),
        Err(Stopped::ByProvider(response)) => Ok(*response),
    }
}

/// Lists the models with an upstream, in OpenAI's format.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Identified(key): Identified,
) -> Result<Json<Value>, Refusal> {
    refuse_unless_living(&app, &key).await?;
    let models = app.models.with_upstream();
    let models = models.into_iter().map(|(path, model)| {
        let owner = path.rsplit_once('/').map_or_else(|| model.title(), |(_, supplier)| supplier);
        json!({ "id": path, "object": "model", "created": 0, "owned_by": owner })
    });
    Ok(Json(json!({ "object": "list", "data": models.collect::<Vec<_>>() })))
}

/// Returns the error format of a path of these APIs.
pub(crate) fn error_format(path: &str) -> Option<ErrorFormat> {
    if path == MODELS {
        return Some(ErrorFormat::OpenAi);
    }
    api(path).map(ErrorFormat::from)
}

/// Returns the API of one of these paths.
fn api(path: &str) -> Option<Api> {
    PATHS.contains(&path).then(|| Api::of_path(path)).flatten()
}

fn upstream(model: &Model, api: Api) -> Result<Upstream, Refusal> {
    let Some(upstream) = Upstream::of(model) else {
        let message =
            format!("the model {:?} has no provider: run it at /api/v2/execute", model.path);
        return Err(Refusal::model_not_found(message));
    };
    upstream.offering(api).ok_or_else(|| {
        let message = format!(
            "the provider of the model {:?} does not offer the API {api}: call it by another API",
            model.path
        );
        Refusal::model_not_found(message)
    })
}

/// Passes on the provider's answer as it comes, with rate limit headers.
async fn pass_on(mut answer: Answered, dialects: &[Dialect]) -> Result<Response, Refusal> {
    let streams = answer.streams();
    if !streams && !answer.is_json() {
        let message = "the answer of the model's provider is neither JSON nor an event stream";
        return Err(give_up(&mut answer.reservation, message).await);
    }
    let mut headers = HeaderMap::new();
    let passed = answer.response.headers();
    for name in [CONTENT_TYPE, X_REQUEST_ID, REQUEST_ID] {
        if let Some(value) = passed.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    if streams {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    let standing = Standing::from(answer.reservation.decision());
    Dialect::write_all(dialects, standing, &mut headers);
    let mut response = Response::new(answer.into_body());
    *response.headers_mut() = headers;
    Ok(response)
}

/// Returns a denial in the format of an API.
fn refuse(denied: Denied, api: Api, dialects: &[Dialect]) -> Response {
    let format = ErrorFormat::from(api);
    let refusal = LayerRefusal::Denied(denied);
    refusal.to_api_response(format, &format.statuses(), dialects, Retry::BOUND).map(Body::from)
}

pub(crate) const CHAT: &str = "/v1/chat/completions";
pub(crate) const COMPLETIONS: &str = "/v1/completions";
pub(crate) const RESPONSES: &str = "/v1/responses";
pub(crate) const EMBEDDINGS: &str = "/v1/embeddings";
pub(crate) const RERANK: &str = "/v1/rerank";
pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const MODELS: &str = "/v1/models";

/// The paths of calls.
pub(crate) const PATHS: [&str; 6] = [CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, RERANK, MESSAGES];

/// A provider's support finds a call by these ids.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
