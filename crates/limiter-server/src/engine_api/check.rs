//! Deciding a call whose cost is known.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use limiter::{AssetId, Charge, RequestId};
use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::{DecisionAnswer, decided};
use super::problems::{BodyProblems, ProblemSchema, RequestProblems};
use crate::app::App;
use crate::auth::Identified;
use crate::body::JsonBody;
use crate::refusal::Refusal;

/// A call to be decided.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckRequest {
    /// The asset to call: a model of the server by its id or path, or any other name, 1 to 256 bytes. Without it, only
    /// the global limits apply.
    asset: Option<AssetId>,
    /// The cost of the call; one request if left out.
    #[serde(default)]
    charge: Charge,
    /// Repeated under the same id within two minutes, the call is charged once: a retry after a timeout is safe. 1 to 128
    /// bytes.
    request_id: Option<RequestId>,
}

/// Decide whether the key may make a call, and charge it if so, in one step.
///
/// A denial is an answer too: 200, with `"outcome": "denied"`, the reason, every violated rule and when to retry.
#[utoipa::path(
    post, path = "/v1/check", tag = "calls", request_body = CheckRequest,
    responses(
        (status = 200, description = "The decision: allowed and charged, or denied and not charged", body = DecisionAnswer),
        RequestProblems,
        BodyProblems,
        (status = 403, description = "An admin key makes no calls", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    Identified(key): Identified,
    JsonBody(request): JsonBody<CheckRequest>,
) -> Result<Response, Refusal> {
    let CheckRequest { asset, charge, request_id } = request;
    let asset = asset.map(|asset| app.models.resolved(asset));
    let decision = match &request_id {
        None => app.limiter.check_and_consume(&key, &asset, &charge).await?,
        Some(id) => app.limiter.check_once(&key, &asset, &charge, id).await?,
    };
    app.denials.keep_of(&key, &decision);
    decided(&decision, &app.dialects)
}

/// A call to be decided without a charge.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeekRequest {
    /// The asset to call: a model of the server by its id or path, or any other name, 1 to 256 bytes. Without it, only
    /// the global limits apply.
    asset: Option<AssetId>,
    /// The cost of the call; one request if left out.
    #[serde(default)]
    charge: Charge,
}

/// Decide whether the key may make a call right now, without charging it.
///
/// The answer is that of `/v1/check` at this instant. It reserves nothing: another call may be charged before the next.
#[utoipa::path(
    post, path = "/v1/peek", tag = "calls", request_body = PeekRequest,
    responses(
        (status = 200, description = "The decision, as a check would make it; nothing is charged", body = DecisionAnswer),
        RequestProblems,
        BodyProblems,
        (status = 403, description = "An admin key makes no calls", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn peek(
    State(app): State<Arc<App>>,
    Identified(key): Identified,
    JsonBody(request): JsonBody<PeekRequest>,
) -> Result<Response, Refusal> {
    let PeekRequest { asset, charge } = request;
    let asset = asset.map(|asset| app.models.resolved(asset));
    decided(&app.limiter.peek(&key, &asset, &charge).await?, &app.dialects)
}
