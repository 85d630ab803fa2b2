//! The keys and groups of a workspace, level by level, or those that a search finds.

use std::sync::Arc;

use axum::extract::State;
use limiter::{KeyId, KeyKind, KeyName, KeyRecord, Search, Thresholds, Usage};
use maud::{Markup, html};
use serde::Deserialize;

use super::page::{Page, encoded};
use super::session::Operator;
use super::{ThresholdsOf, name_of, rules};
use crate::app::App;
use crate::body::Queried;
use crate::metrics;
use crate::refusal::Refusal;

/// The part of the tree that is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    beneath: Option<KeyId>,
    #[serde(default)]
    name: String,
    after: Option<KeyName>,
    /// The action on the page before, which has succeeded.
    #[serde(default)]
    done: String,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    operator: Operator,
    Queried(shown): Queried<Shown>,
) -> Result<Page, Refusal> {
    let keys = operator.keys(&app);
    let Shown { beneath, name, after, done } = shown;
    let mut search = Search::all().name_contains(&name).page_size(PAGE_SIZE).with_usage();
    if let Some(group) = &beneath {
        search = search.beneath(group.clone());
    }
    if name.is_empty() {
        search = search.direct();
    }
    if let Some(after) = &after {
        search = search.after(after.clone());
    }
    let page = keys.search(&search).await?;
    metrics::damaged_keys(page.damaged.len());
    let mut groups = Vec::new();
    for id in beneath.iter().flat_map(KeyId::levels) {
        groups.push((keys.get(&id).await?, keys.usage(&id).await?));
    }

    let records = page.keys.iter().chain(groups.iter().map(|(group, _)| group));
    let thresholds = ThresholdsOf::read(&app, &operator, records).await?;
    let row = |key: &KeyRecord, usage| row(key, usage, thresholds.of(key));

    let place = beneath
        .as_ref()
        .map_or_else(String::new, |id| format!("beneath={}&", encoded(id.as_str())));
    let title = groups.last().map_or("Keys and groups", |(group, _)| group.config.name.as_str());
    let rows = html! {
        ul class="tree" {
            @for (key, usage) in page.keys.iter().zip(&page.usage) { li { (row(key, usage)) } }
            @for key in &page.damaged {
                li { (key.name) " " span class="badge full" { "Damaged" }
                    p { "Its stored data cannot be read. Delete it to free its name, or have its data restored." }
                    p class="actions" { a href=(format!("/console/keys/{}/delete", encoded(key.id.as_str()))) { "Delete" } } }
            }
            @if page.keys.is_empty() && page.damaged.is_empty() { li class="faint" { "No keys and no groups here." } }
        }
    };
    let nested = groups.iter().rev().fold(rows, |inner, (group, usage)| {
        html! { ul class="tree" { li { (row(group, usage)) (inner) } } }
    });
    let main = html! {
        h1 { (title) }
        (super::done(&done))
        @if beneath.is_some() { p { a href="/console" { "All keys and groups" } } }
        form class="search" role="search" method="get" action="/console" {
            @if let Some(group) = &beneath { input type="hidden" name="beneath" value=(group); }
            label { "Name contains " input type="search" name="name" value=(name) maxlength="256"; }
            button { "Search" }
        }
        p class="actions" {
            a href=(format!("/console/new?{place}kind=member")) { "New key" }
            a href=(format!("/console/new?{place}kind=group")) { "New group" }
        }
        (nested)
        @if let Some(next) = &page.next {
            p class="actions" {
                a rel="next" href=(format!("/console?{place}name={}&after={}", encoded(&name), encoded(next.as_str()))) { "Next page" }
            }
        }
    };
    Ok(Page::new(&operator, title, main))
}

/// A key or a group of the tree.
fn row(key: &KeyRecord, usage: &Usage, thresholds: Thresholds) -> Markup {
    let id = encoded(key.id.as_str());
    html! {
        a href=(format!("/console/keys/{id}")) { (key.config.name) }
        " " span class="badge" { (name_of(key.kind)) }
        @if key.is_expired() { " " span class="badge full" { "expired" } }
        @if key.config.shadow { " " span class="badge near" { "shadow" } }
        @if let Some(plan) = &key.config.plan { " " span class="badge" { "plan " (plan) } }
        @if key.kind == KeyKind::Group { " " a href=(format!("/console?beneath={id}")) { "Open" } }
        @if key.kind != KeyKind::Admin { (rules::fullest(usage, thresholds)) }
    }
}

/// So that a page stays below 60 kB, also if each key has many rules.
const PAGE_SIZE: usize = 25;
