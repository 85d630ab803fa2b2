//! Actions on a key that need a confirmation: replacing its access key, a reset, a deletion.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use limiter::{KeyId, KeyKind, KeyRecord, Rotation};
use maud::{Markup, html};
use serde::Deserialize;

use super::edit::shown_once;
use super::form::Form;
use super::key::path;
use super::page::{Page, encoded, form_token, see};
use super::session::Operator;
use crate::app::App;
use crate::body::Segment;
use crate::refusal::Refusal;
use crate::wire::keys::key_id;

/// The grace of a replaced access key.
#[derive(Debug, Deserialize)]
pub(super) struct Replacement {
    grace_seconds: u32,
}

/// A confirmation without any choice.
#[derive(Debug, Deserialize)]
pub(super) struct Confirmed {}

pub(super) async fn confirm_rotation(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(id): Segment,
) -> Result<Page, Refusal> {
    let key = operator.keys(&app).get(&key_id(&id)?).await?;
    let choices = html! {
        p { "A new access key is drawn, and shown once. Limits and counts stay as they are." }
        fieldset {
            legend { "The old access key works on for" }
            @for (seconds, text) in [(0, "no time: it has leaked"), (3_600, "an hour"), (86_400, "a day"), (604_800, "seven days")] {
                label { input type="radio" name="grace_seconds" value=(seconds) checked[seconds == 86_400]; " " (text) }
            }
        }
    };
    Ok(confirmation(&operator, &key, "rotate", "Replace the access key of", choices, "Replace"))
}

pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(id): Segment,
    Form(Replacement { grace_seconds }): Form<Replacement>,
) -> Result<Page, Refusal> {
    let id = key_id(&id)?;
    let rotation = Rotation::with_grace(Duration::from_secs(grace_seconds.into()));
    let rotated = operator.keys(&app).rotate(&id, &rotation).await?;
    app.authenticator.forget(&id);
    Ok(shown_once(&operator, &rotated))
}

pub(super) async fn confirm_reset(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(id): Segment,
) -> Result<Page, Refusal> {
    let key = operator.keys(&app).get(&key_id(&id)?).await?;
    let meaning = html! {
        p { "What it has used of each limit with an end starts again from zero, at once. Its budget and its history stay." }
        @if key.kind == KeyKind::Group { p { "The keys beneath it stay as they are." } }
    };
    Ok(confirmation(&operator, &key, "reset", "Reset", meaning, "Reset"))
}

pub(super) async fn reset(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(id): Segment,
    _: Form<Confirmed>,
) -> Result<Response, Refusal> {
    let id = key_id(&id)?;
    operator.keys(&app).reset(&id).await?;
    Ok(see(&format!("{}?done=reset", path(&id))))
}

pub(super) async fn confirm_deletion(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(id): Segment,
) -> Result<Response, Refusal> {
    let id = key_id(&id)?;
    let name = match operator.keys(&app).get(&id).await {
        Ok(key) => key.config.name.to_string(),
        // It cannot be read, and can be deleted.
        Err(limiter::KeysError::Damaged { .. }) => id.to_string(),
        Err(error) => return Err(error.into()),
    };
    let meaning = html! {
        p { "Its calls are refused from then on, and its counts and its history are gone. Its id must not be used again. This cannot be undone." }
    };
    Ok(confirmation_of(&operator, &id, &name, "delete", "Delete", meaning, "Delete for good")
        .into_response())
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(id): Segment,
    _: Form<Confirmed>,
) -> Result<Response, Refusal> {
    let id = key_id(&id)?;
    operator.keys(&app).delete(&id).await?;
    app.authenticator.forget(&id);
    let group = id.group().map(|group| format!("beneath={}&", encoded(group.as_str())));
    Ok(see(&format!("/console?{}done=deleted", group.unwrap_or_default())))
}

fn confirmation(
    operator: &Operator,
    key: &KeyRecord,
    action: &str,
    title: &str,
    meaning: Markup,
    button: &str,
) -> Page {
    confirmation_of(operator, &key.id, key.config.name.as_str(), action, title, meaning, button)
}

fn confirmation_of(
    operator: &Operator,
    id: &KeyId,
    name: &str,
    action: &str,
    title: &str,
    meaning: Markup,
    button: &str,
) -> Page {
    let title = format!("{title} {name}");
    let class = if action == "delete" { "danger" } else { "main" };
    let main = html! {
        h1 { (title) }
        form class="stacked" method="post" action=(format!("{}/{action}", path(id))) {
            (form_token(operator))
            (meaning)
            p class="actions" { button class=(class) { (button) } a href=(path(id)) { "Cancel" } }
        }
    };
    Page::new(operator, &title, main)
}
