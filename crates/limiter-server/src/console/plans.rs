//! The plans of a workspace.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use limiter::{Effective, KeysError, Limits, Other, Plan, PlanName, PlanUpdate};
use maud::{Markup, html};
use serde::Deserialize;

use super::actions::Confirmed;
use super::as_toml::{read, written};
use super::edit::{effective_choice, help, of_problem};
use super::form::Form;
use super::page::{Page, encoded, form_token, see, time};
use super::session::Operator;
use crate::app::App;
use crate::body::{Queried, Segment};
use crate::refusal::Refusal;

#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    after: Option<PlanName>,
    #[serde(default)]
    done: String,
}

/// A plan that is saved.
#[derive(Debug, Deserialize)]
pub(super) struct Saved {
    #[serde(default)]
    name: String,
    /// 0 for a new one.
    version: u64,
    effective: Effective,
    #[serde(default)]
    toml: String,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
    Queried(Shown { after, done }): Queried<Shown>,
) -> Result<Page, Refusal> {
    let mut plans = operator.keys(&app).plans().await?;
    if let Some(after) = &after {
        plans.retain(|plan| plan.name > *after);
    }
    let next =
        plans.get(PAGE_SIZE - 1).filter(|_| plans.len() > PAGE_SIZE).map(|plan| plan.name.clone());
    plans.truncate(PAGE_SIZE);
    let main = html! {
        h1 { "Plans" }
        (super::done(&done))
        p class="actions" { a href="/console/new-plan" { "New plan" } }
        ul class="tree" {
            @for plan in &plans {
                li {
                    a href=(path(&plan.name)) { (plan.name) }
                    (limits(&plan.plan))
                    p class="faint" { "Changed " (time(plan.changed_at)) ", version " (plan.version) }
                }
            }
            @if plans.is_empty() { li class="faint" { "No plans." } }
        }
        @if let Some(next) = next {
            p class="actions" { a rel="next" href=(format!("/console/plans?after={}", encoded(next.as_str()))) { "Next page" } }
        }
    };
    Ok(Page::new(&operator, "Plans", main))
}

pub(super) async fn new(operator: Operator) -> Page {
    let new =
        Saved { name: String::new(), version: 0, effective: Effective::Next, toml: String::new() };
    form(&operator, &new, None)
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(name): Segment,
) -> Result<Page, Refusal> {
    let plan = operator.keys(&app).plan(&name.parse()?).await.map_err(not_found)?;
    let saved = Saved {
        name,
        version: plan.version,
        effective: Effective::Next,
        toml: written(&plan.plan, &[]),
    };
    Ok(form(&operator, &saved, None))
}

pub(super) async fn save(
    State(app): State<Arc<App>>,
    operator: Operator,
    Form(saved): Form<Saved>,
) -> Result<Response, Refusal> {
    let again = |problem: &str, status| {
        Ok(form(&operator, &saved, Some(problem)).with_status(status).into_response())
    };
    let name = match saved.name.parse::<PlanName>() {
        Ok(name) => name,
        Err(error) => return again(&error.to_string(), StatusCode::BAD_REQUEST),
    };
    let plan: Plan = match read(&saved.toml, []) {
        Ok(plan) => plan,
        Err(problem) => return again(&problem, StatusCode::BAD_REQUEST),
    };
    let update = PlanUpdate { effective: saved.effective, ..PlanUpdate::new(name, plan) };
    match operator.keys(&app).save_plan(update.from_version(saved.version)).await {
        Ok(_) => Ok(see("/console/plans?done=saved")),
        Err(
            error @ (KeysError::Invalid(_) | KeysError::Conflict { .. } | KeysError::NoPlan(_)),
        ) => {
            let refusal = Refusal::from(error);
            again(&refusal.message, refusal.status)
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn confirm_deletion(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(name): Segment,
) -> Result<Page, Refusal> {
    let plan = operator.keys(&app).plan(&name.parse()?).await.map_err(not_found)?;
    let title = format!("Delete the plan {}", plan.name);
    let main = html! {
        h1 { (title) }
        form class="stacked" method="post" action=(format!("{}/delete", path(&plan.name))) {
            (form_token(&operator))
            p { "A plan that keys or groups have cannot be deleted." }
            p class="actions" { button class="danger" { "Delete" } a href=(path(&plan.name)) { "Cancel" } }
        }
    };
    Ok(Page::new(&operator, &title, main))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(name): Segment,
    _: Form<Confirmed>,
) -> Result<Response, Refusal> {
    operator.keys(&app).delete_plan(&name.parse()?).await.map_err(not_found)?;
    Ok(see("/console/plans?done=deleted"))
}

fn form(operator: &Operator, saved: &Saved, problem: Option<&str>) -> Page {
    let is_new = saved.version == 0;
    let title = if is_new { "New plan".to_owned() } else { format!("Plan {}", saved.name) };
    let main = html! {
        h1 { (title) }
        (of_problem(problem))
        form class="stacked" method="post" action="/console/plans" {
            (form_token(operator))
            input type="hidden" name="version" value=(saved.version);
            @if is_new { label { "Name" input name="name" value=(saved.name) required maxlength="128"; } }
            @else { input type="hidden" name="name" value=(saved.name); }
            label { "Limits, thresholds and time zone, in TOML"
                textarea name="toml" spellcheck="false" autocapitalize="off" { (saved.toml) } }
            (help())
            @if is_new { input type="hidden" name="effective" value="next"; }
            @else { (effective_choice(saved.effective)) }
            p class="actions" { button class="main" { @if is_new { "Create" } @else { "Save" } } a href="/console/plans" { "Cancel" } }
        }
        @if !is_new {
            p class="actions" { a href=(format!("/console/plans/{}/delete", encoded(&saved.name))) { "Delete" } }
        }
    };
    Page::new(operator, &title, main)
}

fn limits(plan: &Plan) -> Markup {
    html! {
        ul {
            @if plan.global != Limits::NONE { li { "All calls: " (plan.global) } }
            @for (asset, limits) in plan.assets.iter().take(MOST_ASSETS) { li { (asset) ": " (limits) } }
            @if plan.assets.len() > MOST_ASSETS { li { (plan.assets.len() - MOST_ASSETS) " more models" } }
            @match &plan.other {
                Other::Denied => li { "All other models: denied" },
                Other::Limited(limits) if *limits != Limits::NONE => li { "All other models: " (limits) },
                _ => {}
            }
        }
    }
}

fn path(name: &PlanName) -> String {
    format!("/console/plans/{}", encoded(name.as_str()))
}

fn not_found(error: KeysError) -> Refusal {
    match error {
        KeysError::NoPlan(_) => Refusal::not_found(error.to_string()),
        error => error.into(),
    }
}

const PAGE_SIZE: usize = 50;
/// So that a page of plans with many models stays small.
const MOST_ASSETS: usize = 8;
