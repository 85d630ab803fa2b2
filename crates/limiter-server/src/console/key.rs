//! One key or group: its rules, its history, its last denials, and what can be done with it.

use std::sync::Arc;

use axum::extract::State;
use limiter::{DayHistory, Denied, KeyId, KeyKind, KeyRecord};
use maud::{Markup, html};
use serde::Deserialize;

use super::page::{Page, encoded, time};
use super::session::Operator;
use super::{ThresholdsOf, charts, name_of, rules};
use crate::app::App;
use crate::body::{Queried, Segment};
use crate::refusal::Refusal;
use crate::wire::keys::key_id;

#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    /// The action on the page before, which has succeeded.
    #[serde(default)]
    done: String,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(id): Segment,
    Queried(shown): Queried<Shown>,
) -> Result<Page, Refusal> {
    let (keys, id) = (operator.keys(&app), key_id(&id)?);
    let key = keys.get(&id).await?;
    let usage = keys.usage(&id).await?;
    let history = keys.history(&id, DayHistory::DAYS).await?;
    let mut groups = Vec::new();
    for group in id.groups() {
        groups.push((keys.get(&group).await?, keys.usage(&group).await?));
    }
    let records = groups.iter().map(|(group, _)| group).chain([&key]);
    let thresholds = ThresholdsOf::read(&app, &operator, records).await?;
    let main = html! {
        h1 { (key.config.name) " " span class="badge" { (name_of(key.kind)) } }
        (super::done(&shown.done))
        (way(&groups.iter().map(|(group, _)| group).collect::<Vec<_>>(), &key))
        (actions(&key))
        (facts(&key))
        @if key.kind != KeyKind::Admin {
            h2 { "Limits" }
            (rules::all(&usage, thresholds.of(&key)))
            @for (group, usage) in groups.iter().rev() {
                h2 { "Limits of the group " a href=(format!("/console/keys/{}", encoded(group.id.as_str()))) { (group.config.name) } }
                (rules::all(usage, thresholds.of(group)))
            }
            h2 { "The last " (DayHistory::DAYS) " days" }
            (charts::of(&history, usage.read_at, &key.config.time_zone))
            h2 { "Last denials" }
            (denials(&app.denials.of(&id), key.kind))
        }
    };
    Ok(Page::new(&operator, key.config.name.as_str(), main))
}

/// Links to the groups around a key.
fn way(groups: &[&KeyRecord], key: &KeyRecord) -> Markup {
    html! {
        nav aria-label="Groups" {
            a href="/console" { "All keys and groups" }
            @for group in groups {
                span aria-hidden="true" { "›" }
                a href=(format!("/console?beneath={}", encoded(group.id.as_str()))) { (group.config.name) }
            }
            @if key.kind == KeyKind::Group {
                span aria-hidden="true" { "›" }
                a href=(format!("/console?beneath={}", encoded(key.id.as_str()))) { "What lies beneath" }
            }
        }
    }
}

fn actions(key: &KeyRecord) -> Markup {
    let id = encoded(key.id.as_str());
    html! {
        p class="actions" {
            a href=(format!("/console/keys/{id}/edit")) { "Edit" }
            @if key.access_key.is_some() { a href=(format!("/console/keys/{id}/rotate")) { "Replace the access key" } }
            a href=(format!("/console/keys/{id}/reset")) { "Reset" }
            a href=(format!("/console/keys/{id}/delete")) { "Delete" }
        }
    }
}

fn facts(key: &KeyRecord) -> Markup {
    let config = &key.config;
    html! {
        dl {
            dt { "Id" } dd { code { (key.id) } }
            @if let Some(access_key) = &key.access_key { dt { "Access key" } dd { code { (access_key) } } }
            @for replaced in &key.replaced {
                dt { "Replaced" } dd { code { (replaced.access_key) } " works until " (time(replaced.works_until)) }
            }
            @if let Some(plan) = &config.plan {
                dt { "Plan" } dd { a href=(format!("/console/plans/{}", encoded(plan.as_str()))) { (plan) } }
            }
            @if let Some(plan) = &config.open {
                dt { "Open" } dd { "Unregistered callers have the plan "
                    a href=(format!("/console/plans/{}", encoded(plan.as_str()))) { (plan) } }
            }
            @if let Some(expires_at) = config.expires_at {
                dt { @if key.is_expired() { "Expired" } @else { "Expires" } } dd { (time(expires_at)) }
            }
            @if !config.time_zone.is_utc() { dt { "Time zone" } dd { (config.time_zone) } }
            @if config.shadow { dt { "Shadow mode" } dd { "Calls beyond a limit are let through" } }
            @for (name, value) in config.labels.iter() { dt { (name) } dd { (value) } }
            dt { "Changed" } dd { (time(key.changed_at)) ", version " (key.version) }
        }
    }
}

fn denials(denials: &[Arc<Denied>], kind: KeyKind) -> Markup {
    html! {
        p class="faint" {
            @if kind == KeyKind::Group { "Calls that a limit of this group denied, " } @else { "Calls that were denied, " }
            "as this server process decided them; the latest first."
        }
        @if denials.is_empty() { p { "None since the start." } }
        ul { @for denied in denials { li { (denial(denied)) } } }
    }
}

fn denial(denied: &Denied) -> Markup {
    html! {
        @if let Some(at) = denied.decided_at() { (time(at)) ": " }
        (denied.to_string())
    }
}

/// Returns the path of a key's page.
pub(super) fn path(id: &KeyId) -> String {
    format!("/console/keys/{}", encoded(id.as_str()))
}
