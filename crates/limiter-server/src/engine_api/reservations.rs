//! Calls whose cost is known only afterwards.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::response::Response;
use limiter::{AssetId, Charge, Decision, KeyId, RequestId, Reserved, Settled, Totals};
use serde::Deserialize;
use utoipa::ToSchema;

use super::answer::{DecisionAnswer, ReservedAnswer, decided, reserved};
use super::problems::{BodyProblems, ProblemSchema, RequestProblems};
use crate::app::App;
use crate::auth::Identified;
use crate::body::{JsonBody, Segment};
use crate::ids;
use crate::refusal::Refusal;

/// A call to be charged by its estimate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReserveRequest {
    /// The asset to call: a model of the server by its id or path, or any other name, 1 to 256 bytes. Without it, only
    /// the global limits apply.
    asset: Option<AssetId>,
    /// The largest cost of the call; one request if left out.
    #[serde(default)]
    estimate: Charge,
    /// Names the reservation, 1 to 128 bytes; drawn if left out. Repeated under the same id it is charged once.
    request_id: Option<RequestId>,
    /// How long it can be settled, in seconds: 1 to 86,400, an hour if left out.
    #[serde(default = "default_ttl")]
    #[schema(minimum = 1, maximum = 86400)]
    ttl_seconds: u64,
}

/// Decide and charge a call by its estimate, to be settled once its cost is known.
///
/// Never settled, the estimate stands as charged.
#[utoipa::path(
    post, path = "/v1/reserve", tag = "reservations", request_body = ReserveRequest,
    responses(
        (status = 200, description = "The decision, and the id of the reservation if it was allowed", body = ReservedAnswer),
        RequestProblems,
        BodyProblems,
        (status = 403, description = "An admin key makes no calls", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "Another reservation of this key has the id", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 503, description = "The store gave no answer, too many reservations of the key are remembered, or the server is full", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reserve(
    State(app): State<Arc<App>>,
    Identified(key): Identified,
    JsonBody(request): JsonBody<ReserveRequest>,
) -> Result<Response, Refusal> {
    let ReserveRequest { asset, estimate, request_id, ttl_seconds } = request;
    let asset = asset.map(|asset| app.models.resolved(asset));
    if !(1..=MAX_TTL_SECONDS).contains(&ttl_seconds) {
        let message = format!("ttl_seconds is {ttl_seconds}, but must be 1 to {MAX_TTL_SECONDS}");
        return Err(Refusal::malformed(message));
    }
    let id = match request_id {
        Some(id) => id,
        None => draw_id()?,
    };
    let ttl = Duration::from_secs(ttl_seconds);
    let (reservation, decision) =
        match app.limiter.reserve_as(&key, &asset, &estimate, &id, ttl).await? {
            Reserved::Allowed(reservation) => {
                let decision = Decision::Allowed(reservation.decision().clone());
                // It is the client's from here on. If shadow mode alone let the call through, there is nothing to settle.
                let id = Some(reservation.keep()).filter(|_| decision.is_charged());
                (id, decision)
            }
            Reserved::Denied(denied) => (None, Decision::Denied(denied)),
        };
    app.denials.keep_of(&key, &decision);
    reserved(reservation.as_ref(), &decision, &app.dialects)
}

/// Change the estimate of a running call to new totals, up or down. What is added is charged, all or nothing; what is taken
/// away is handed back at once.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/amend", tag = "reservations", request_body = Totals,
    params(("id" = RequestId, Path, description = "The id of a reservation of this key")),
    responses(
        (status = 200, description = "The decision; a denial changes nothing", body = DecisionAnswer),
        RequestProblems,
        BodyProblems,
        (status = 403, description = "An admin key makes no calls", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such reservation of this key, or its time has passed", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "The reservation is settled", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn amend(
    State(app): State<Arc<App>>,
    OwnReservation { key, id }: OwnReservation,
    JsonBody(to): JsonBody<Totals>,
) -> Result<Response, Refusal> {
    let decision = app.limiter.amend(&key, &id, &to).await?;
    app.denials.keep_of(&key, &decision);
    decided(&decision, &app.dialects)
}

/// Correct the estimate to the actual cost of the call, and answer the final charge. Repeating it changes nothing more,
/// and answers the same charge as a repetition.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/settle", tag = "reservations", request_body = Totals,
    params(("id" = RequestId, Path, description = "The id of a reservation of this key")),
    responses(
        (status = 200, description = "It is settled: what the call was charged in the end", body = Settled),
        RequestProblems,
        BodyProblems,
        (status = 401, description = "The access key is missing or not known", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such reservation of this key, or its time has passed", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "The reservation is settled with other amounts, or cancelled", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn settle(
    State(app): State<Arc<App>>,
    OwnReservation { key, id }: OwnReservation,
    JsonBody(actual): JsonBody<Totals>,
) -> Result<Json<Settled>, Refusal> {
    Ok(Json(app.limiter.settle(&key, &id, &actual).await?))
}

/// Take the whole charge back: the call was never made. Repeating it changes nothing more.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/cancel", tag = "reservations",
    params(("id" = RequestId, Path, description = "The id of a reservation of this key")),
    responses(
        (status = 200, description = "It is cancelled: nothing is charged", body = Settled),
        RequestProblems,
        BodyProblems,
        (status = 400, description = "The id is out of bounds", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 401, description = "The access key is missing or not known", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such reservation of this key, or its time has passed", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "The reservation is settled", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    OwnReservation { key, id }: OwnReservation,
) -> Result<Json<Settled>, Refusal> {
    Ok(Json(app.limiter.cancel(&key, &id).await?))
}

/// The reservation that a path names, of the calling key: reservations of other keys cannot be named.
pub(crate) struct OwnReservation {
    key: KeyId,
    id: RequestId,
}

impl FromRequestParts<Arc<App>> for OwnReservation {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let Identified(key) = Identified::from_request_parts(parts, app).await?;
        let Segment(id) = Segment::from_request_parts(parts, app).await?;
        Ok(Self { key, id: id.parse()? })
    }
}

fn draw_id() -> Result<RequestId, Refusal> {
    let id = ids::draw().map_err(|error| Refusal::unavailable("entropy", error.to_string()))?;
    Ok(id.parse()?)
}

const fn default_ttl() -> u64 {
    3_600
}

/// A day, so that memory is bounded.
const MAX_TTL_SECONDS: u64 = 86_400;
