//! The plans of a workspace.

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use limiter::{Effective, Keys, KeysError, Plan, PlanName, PlanRecord, PlanUpdate};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::problems::{BodyProblems, ProblemSchema, RequestProblems};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{JsonBody, Segment};
use crate::refusal::Refusal;

/// The plans of a workspace.
#[derive(Serialize, ToSchema)]
#[schema(as = Plans)]
pub(crate) struct Plans {
    /// All of them, by the bytes of their names: 1,024 at most.
    plans: Vec<PlanRecord>,
}

/// A plan to be created, or changed if there is one of this name.
#[derive(Deserialize, ToSchema)]
pub(crate) struct SavePlan {
    /// Limits, thresholds and time zone.
    #[serde(flatten, deserialize_with = "of_the_rest")]
    plan: Plan,
    /// The version that a change was made from; 0 if there must be no plan of this name. If left out, the plan is saved whatever
    /// its version is.
    #[serde(default)]
    version: Option<u64>,
    /// When changed limits take effect, for each key that has the plan: at the start of its next window of their kind if left out.
    #[serde(default)]
    effective: Effective,
}

/// Reads a plan from all fields that are left. Serde's own flattening ignores those that a plan does not have.
fn of_the_rest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Plan, D::Error> {
    struct Rest;

    impl<'de> Visitor<'de> for Rest {
        type Value = Plan;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the fields of a plan")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Plan, A::Error> {
            Plan::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Rest)
}

/// List the plans of the workspace, by the bytes of their names.
#[utoipa::path(
    get, path = "/v1/plans", tag = "plans",
    responses(
        (status = 200, description = "All plans", body = Plans),
        RequestProblems,
        (status = 403, description = "A member key lists no plans", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Plans>, Refusal> {
    Ok(Json(Plans { plans: app.limiter.keys(&caller.0).plans().await? }))
}

/// Read a plan of the workspace.
#[utoipa::path(
    get, path = "/v1/plans/{name}", tag = "plans",
    params(("name" = PlanName, Path, description = NAME)),
    responses(
        (status = 200, description = "The plan", body = PlanRecord),
        RequestProblems,
        (status = 403, description = "A member key reads no plans", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such plan in the workspace", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<Json<PlanRecord>, Refusal> {
    let name = plan_name(&name)?;
    let plan = app.limiter.keys(&caller.0).plan(&name).await;
    plan.map(Json).map_err(refused)
}

/// Create a plan, or change the one of this name: the limits that many keys and groups have in common.
///
/// A change is one write, however many keys have the plan. Each takes changed limits with its next window of their kind, or with
/// its next call with `"effective": "now"`. Limits of a key replace those of its plan for the same scope, window and unit, and
/// `"unlimited"` lifts one. A plan that is saved as it is keeps its version.
#[utoipa::path(
    put, path = "/v1/plans/{name}", tag = "plans", request_body = SavePlan,
    params(("name" = PlanName, Path, description = NAME)),
    responses(
        (status = 200, description = "The plan was changed, or is as it was", body = PlanRecord),
        (status = 201, description = "The plan was created", body = PlanRecord),
        RequestProblems,
        BodyProblems,
        (status = 403, description = "A member key changes no plans", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "There is no such plan in the workspace, but the request names a version of it", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "The plan is not at that version", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn save(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(name): Segment,
    JsonBody(request): JsonBody<SavePlan>,
) -> Result<(StatusCode, Json<PlanRecord>), Refusal> {
    let SavePlan { plan, version, effective } = request;
    let update = PlanUpdate { version, effective, ..PlanUpdate::new(name.parse()?, plan) };
    let saved = save_or_create(&app.limiter.keys(&caller.0), update).await;
    saved.map(|(status, plan)| (status, Json(plan))).map_err(refused)
}

/// Saves a plan, and finds out whether it is new.
async fn save_or_create(
    keys: &Keys<'_>,
    update: PlanUpdate,
) -> Result<(StatusCode, PlanRecord), KeysError> {
    let is_new = match update.version {
        Some(version) => version == 0,
        None => match keys.plan(&update.name).await {
            Err(KeysError::NoPlan(_)) => {
                match keys.save_plan(update.clone().from_version(0)).await {
                    // Another request has just created it.
                    Err(KeysError::Conflict { .. }) => false,
                    created => return Ok((StatusCode::CREATED, created?)),
                }
            }
            read => read.map(|_| false)?,
        },
    };
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, keys.save_plan(update).await?))
}

/// Delete a plan that no key and no group has.
#[utoipa::path(
    delete, path = "/v1/plans/{name}", tag = "plans",
    params(("name" = PlanName, Path, description = NAME)),
    responses(
        (status = 204, description = "The plan is deleted"),
        RequestProblems,
        (status = 403, description = "A member key deletes no plans", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 404, description = "No such plan in the workspace", body = ProblemSchema, content_type = "application/problem+json"),
        (status = 409, description = "Keys or groups have the plan", body = ProblemSchema, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<StatusCode, Refusal> {
    let name = plan_name(&name)?;
    app.limiter.keys(&caller.0).delete_plan(&name).await.map_err(refused)?;
    Ok(StatusCode::NO_CONTENT)
}

/// A name of the path. One that no plan can have belongs to no plan.
fn plan_name(text: &str) -> Result<PlanName, Refusal> {
    text.parse().map_err(|error| no_plan(format!("no such plan: {error}")))
}

/// Refuses a request about a plan. One that does not exist is not found; in a key's configuration it is a wrong value.
fn refused(error: KeysError) -> Refusal {
    match error {
        KeysError::NoPlan(_) => no_plan(error.to_string()),
        error => error.into(),
    }
}

fn no_plan(message: String) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "no_plan", message)
}

/// The name in the path of a request.
const NAME: &str = "The name of a plan of the workspace; a slash in it is `%2F`";
