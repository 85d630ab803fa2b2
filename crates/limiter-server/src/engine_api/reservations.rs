//! Calls whose cost is known only afterwards.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use limiter::{AssetId, Charge, Decision, RequestId, Reservation, Reserved, Totals};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::schema::{ChargeSchema, DecisionSchema, ReservedSchema, TotalsSchema};
use super::{answer, denial, retry_after};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{JsonBody, Segment};
use crate::refusal::{Problem, Refusal};

/// A call to be charged by its estimate.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReserveRequest {
    /// What is called, a model or tool: 1 to 256 bytes. Left out, the call meets the global limits alone.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    asset: Option<AssetId>,
    /// What it may cost; one request if left out.
    #[serde(default)]
    #[schema(value_type = ChargeSchema)]
    estimate: Charge,
    /// Names the reservation, 1 to 128 bytes; drawn if left out. Repeated under the same id it is charged once.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128)]
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
        (status = 200, description = "The decision, and the id of the reservation if it was allowed", body = ReservedSchema),
        (status = 400, description = "The request cannot be read, or a value is out of bounds", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The access key is missing, not known or expired", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "An admin key makes no calls", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not come in time", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Another reservation of this key has the id", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too long", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store gave no answer, the key has too many reservations, or the server is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn reserve(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(request): JsonBody<ReserveRequest>,
) -> Result<Response, Refusal> {
    let ReserveRequest { asset, estimate, request_id, ttl_seconds } = request;
    if !(1..=MAX_TTL_SECONDS).contains(&ttl_seconds) {
        let message = format!("ttl_seconds is {ttl_seconds}, but must be 1 to {MAX_TTL_SECONDS}");
        return Err(Refusal::malformed(message));
    }
    let key = app.authenticator.identify(&caller).await?;
    let id = match request_id {
        Some(id) => id,
        None => crate::run::draw_id()?,
    };
    let ttl = Duration::from_secs(ttl_seconds);
    match app.limiter.reserve_as(&key, &asset, &estimate, &id, ttl).await? {
        Reserved::Allowed(reservation) => Ok(allowed(reservation)),
        Reserved::Denied(denied) => {
            let decision = denial(&denied)?;
            Ok((retry_after(&denied), Json(json!({ "reservation": null, "decision": decision })))
                .into_response())
        }
    }
}

/// Raise the estimate of a running call; what is missing is charged, all or nothing.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/extend", tag = "reservations", request_body = TotalsSchema,
    params(("id" = String, Path, description = "The id of a reservation of this key", min_length = 1, max_length = 128)),
    responses(
        (status = 200, description = "The decision; a denial changes nothing", body = DecisionSchema),
        (status = 400, description = "The request cannot be read, or a total is below the estimate", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The access key is missing, not known or expired", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "An admin key makes no calls", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such reservation of this key, or its time has passed", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not come in time", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The reservation is settled", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too long", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store gave no answer, or the server is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn extend(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
    JsonBody(to): JsonBody<Totals>,
) -> Result<Response, Refusal> {
    let key = app.authenticator.identify(&caller).await?;
    let decision = app.limiter.extend(&key, &id.parse()?, &to).await?;
    answer(&decision)
}

/// Correct the estimate to what the call did cost. Repeating it changes nothing more.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/settle", tag = "reservations", request_body = TotalsSchema,
    params(("id" = String, Path, description = "The id of a reservation of this key", min_length = 1, max_length = 128)),
    responses(
        (status = 204, description = "It is settled"),
        (status = 400, description = "The request cannot be read, or a value is out of bounds", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The access key is missing or not known", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such reservation of this key, or its time has passed", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not come in time", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The reservation is settled with other figures, or cancelled", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too long", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store gave no answer, or the server is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn settle(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
    JsonBody(actual): JsonBody<Totals>,
) -> Result<StatusCode, Refusal> {
    let key = app.authenticator.identify(&caller).await?;
    app.limiter.settle(&key, &id.parse()?, &actual).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take the whole charge back: the call was never made. Repeating it changes nothing more.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/cancel", tag = "reservations",
    params(("id" = String, Path, description = "The id of a reservation of this key", min_length = 1, max_length = 128)),
    responses(
        (status = 204, description = "It is cancelled"),
        (status = 400, description = "The id is out of bounds", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "The access key is missing or not known", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such reservation of this key, or its time has passed", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The reservation is settled", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store gave no answer, or the server is full", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, Refusal> {
    let key = app.authenticator.identify(&caller).await?;
    app.limiter.cancel(&key, &id.parse()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The reservation is the client's from here on.
fn allowed(reservation: Reservation) -> Response {
    let decision = Decision::Allowed(reservation.decision().clone());
    let id = reservation.keep();
    Json(json!({ "reservation": id, "decision": decision })).into_response()
}

const fn default_ttl() -> u64 {
    3_600
}

/// A day: what is remembered has an end.
const MAX_TTL_SECONDS: u64 = 86_400;
