//! Creating and editing keys and groups.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use limiter::{
    CreatedKey, Effective, KeyConfig, KeyId, KeyKind, KeyPrefix, KeysError, NewKey, PlanRecord,
};
use maud::{Markup, html};
use serde::Deserialize;

use super::as_toml::{filled, read, written};
use super::form::Form;
use super::key::path;
use super::name_of;
use super::page::{Page, encoded, form_token, see, sentence};
use super::session::Operator;
use crate::app::App;
use crate::body::{Queried, Segment};
use crate::refusal::Refusal;
use crate::wire::keys::key_id;

/// The fields that a new key and a changed one have in common.
#[derive(Clone, Debug, Default, Deserialize)]
struct Fields {
    #[serde(default)]
    name: String,
    #[serde(default)]
    plan: String,
    #[serde(default)]
    expires_at: String,
    #[serde(default)]
    time_zone: String,
    #[serde(default)]
    shadow: String,
    /// The rest, as TOML.
    #[serde(default)]
    toml: String,
}

/// The place and the kind of a new key.
#[derive(Debug, Deserialize)]
pub(super) struct Place {
    beneath: Option<KeyId>,
    #[serde(default)]
    kind: Option<KeyKind>,
}

/// A new key.
#[derive(Debug, Deserialize)]
pub(super) struct Creation {
    kind: KeyKind,
    #[serde(default)]
    beneath: String,
    #[serde(default)]
    segment: String,
    #[serde(default)]
    prefix: String,
    #[serde(flatten)]
    fields: Fields,
}

/// A changed key.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    version: String,
    effective: Effective,
    #[serde(flatten)]
    fields: Fields,
}

pub(super) async fn new(
    State(app): State<Arc<App>>,
    operator: Operator,
    Queried(Place { beneath, kind }): Queried<Place>,
) -> Result<Page, Refusal> {
    let plans = operator.keys(&app).plans().await?;
    let creation = Creation {
        kind: kind.unwrap_or(KeyKind::Member),
        beneath: beneath.map_or_else(String::new, |group| group.to_string()),
        segment: String::new(),
        prefix: String::new(),
        fields: Fields { time_zone: "UTC".to_owned(), ..Fields::default() },
    };
    Ok(creation_page(&operator, &creation, &plans, None))
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    operator: Operator,
    Form(creation): Form<Creation>,
) -> Result<Response, Refusal> {
    let keys = operator.keys(&app);
    let again = async |problem: String, status| {
        let plans = operator.keys(&app).plans().await?;
        let page = creation_page(&operator, &creation, &plans, Some(&problem));
        Ok(page.with_status(status).into_response())
    };
    let key = match creation.read() {
        Ok(key) => key,
        Err(problem) => return again(problem, StatusCode::BAD_REQUEST).await,
    };
    match keys.create(key).await {
        Ok(created) => match &created.access_key {
            Some(_) => Ok(shown_once(&operator, &created).into_response()),
            None => Ok(see(&format!("{}?done=created", path(&created.record.id)))),
        },
        Err(error) => {
            let refusal = refused(error)?;
            again(refusal.message, refusal.status).await
        }
    }
}

pub(super) async fn edit(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(id): Segment,
) -> Result<Page, Refusal> {
    let keys = operator.keys(&app);
    let key = keys.get(&key_id(&id)?).await?;
    let change = Change {
        version: key.version.to_string(),
        effective: Effective::Next,
        fields: Fields::of(&key.config),
    };
    Ok(change_page(&operator, &key.id, key.kind, &change, &keys.plans().await?, None))
}

pub(super) async fn change(
    State(app): State<Arc<App>>,
    operator: Operator,
    Segment(id): Segment,
    Form(change): Form<Change>,
) -> Result<Response, Refusal> {
    let (keys, id) = (operator.keys(&app), key_id(&id)?);
    let kind = keys.get(&id).await?.kind;
    let again = async |problem: String, status| {
        let plans = operator.keys(&app).plans().await?;
        let page = change_page(&operator, &id, kind, &change, &plans, Some(&problem));
        Ok(page.with_status(status).into_response())
    };
    let read = change
        .version
        .parse::<u64>()
        .map_err(|_| "the version is not a number: open the page again".to_owned());
    let (version, config) = match read.and_then(|version| Ok((version, change.fields.config()?))) {
        Ok(read) => read,
        Err(problem) => return again(problem, StatusCode::BAD_REQUEST).await,
    };
    let changed = match change.effective {
        Effective::Next => keys.update(&id, version, &config).await,
        Effective::Now => keys.update_now(&id, version, &config).await,
    };
    match changed {
        Ok(_) => Ok(see(&format!("{}?done=saved", path(&id)))),
        Err(error) => {
            let refusal = refused(error)?;
            again(refusal.message, refusal.status).await
        }
    }
}

/// The page that shows a drawn access key.
pub(super) fn shown_once(operator: &Operator, created: &CreatedKey) -> Page {
    let name = &created.record.config.name;
    let access_key = created.access_key.as_ref().map_or("", |access_key| access_key.expose());
    let main = html! {
        h1 { "The access key of " (name) }
        p role="status" class="done" { "It is shown this once. Copy it now, and keep it secret." }
        p id="access-key" class="secret" { (access_key) }
        p class="actions" { a href=(path(&created.record.id)) { "I have copied it" } }
    };
    Page::new(operator, "Access key", main)
}

/// Returns what the operator can mend in the form, or else the error of the request.
pub(super) fn refused(error: KeysError) -> Result<Refusal, Refusal> {
    let is_about_the_form = matches!(
        error,
        KeysError::NameTaken(_)
            | KeysError::IdTaken(_)
            | KeysError::NoGroup(_)
            | KeysError::NoPlan(_)
            | KeysError::LastAdmin
            | KeysError::Conflict { .. }
            | KeysError::Invalid(_)
    );
    let refusal = Refusal::from(error);
    if is_about_the_form { Ok(refusal) } else { Err(refusal) }
}

impl Fields {
    fn of(config: &KeyConfig) -> Self {
        let text = |text: Option<String>| text.unwrap_or_default();
        Self {
            name: config.name.to_string(),
            plan: text(config.plan.as_ref().map(ToString::to_string)),
            expires_at: text(config.expires_at.map(|at| at.to_string())),
            time_zone: config.time_zone.to_string(),
            shadow: if config.shadow { "on".to_owned() } else { String::new() },
            toml: written(config, &["name", "plan", "expires_at", "time_zone", "shadow"]),
        }
    }

    fn config(&self) -> Result<KeyConfig, String> {
        let shadow = (!self.shadow.is_empty()).then_some(toml::Value::Boolean(true));
        read(
            &self.toml,
            [
                ("name", Some(toml::Value::String(self.name.clone()))),
                ("plan", filled(&self.plan)),
                ("expires_at", filled(&self.expires_at)),
                ("time_zone", filled(&self.time_zone)),
                ("shadow", shadow),
            ],
        )
    }

    fn inputs(&self, kind: KeyKind, plans: &[PlanRecord]) -> Markup {
        html! {
            label { "Name" input name="name" value=(self.name) required maxlength="256"; }
            @if kind != KeyKind::Admin {
                label { "Plan"
                    select name="plan" {
                        option value="" { "None" }
                        @for plan in plans { option value=(plan.name) selected[plan.name.as_str() == self.plan] { (plan.name) } }
                        @if !self.plan.is_empty() && !plans.iter().any(|plan| plan.name.as_str() == self.plan) {
                            option value=(self.plan) selected { (self.plan) }
                        }
                    }
                }
            }
            label { "Expires at, in UTC, as in 2027-01-31T00:00:00Z; empty for never" input name="expires_at" value=(self.expires_at); }
            label { "Time zone of its days, weeks and months, as in Europe/Berlin" input name="time_zone" value=(self.time_zone); }
            @if kind != KeyKind::Admin {
                label { input type="checkbox" name="shadow" value="on" checked[!self.shadow.is_empty()]; " Shadow mode: calls beyond a limit are let through, and flagged" }
                label { "Limits and everything else, in TOML"
                    textarea name="toml" spellcheck="false" autocapitalize="off" { (self.toml) } }
                (help())
            }
        }
    }
}

impl Creation {
    fn read(&self) -> Result<NewKey, String> {
        let config = self.fields.config()?;
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let parsed = |text: String| text.parse::<KeyId>().map_err(|error| error.to_string());
        let group = text(&self.beneath).map(parsed).transpose()?;
        let id = match (text(&self.segment), &group) {
            (None, _) => None,
            (Some(segment), None) => Some(parsed(segment)?),
            (Some(segment), Some(group)) => {
                Some(group.child(segment).map_err(|error| error.to_string())?)
            }
        };
        let key = match (self.kind, id, group) {
            (KeyKind::Group, Some(id), _) => return Ok(NewKey::group(id, config)),
            (KeyKind::Group, None, _) => return Err("a group needs an id".to_owned()),
            (KeyKind::Admin, ..) => NewKey::admin(config),
            (_, Some(id), _) => NewKey::member(config).with_id(id),
            (_, None, Some(group)) => NewKey::member(config).beneath(group),
            (_, None, None) => NewKey::member(config),
        };
        match text(&self.prefix) {
            Some(prefix) => {
                let prefix = KeyPrefix::new(prefix).map_err(|error| error.to_string())?;
                Ok(key.with_prefix(prefix))
            }
            None => Ok(key),
        }
    }
}

fn creation_page(
    operator: &Operator,
    creation: &Creation,
    plans: &[PlanRecord],
    problem: Option<&str>,
) -> Page {
    let kind = creation.kind;
    let title = match kind {
        KeyKind::Group => "New group",
        KeyKind::Admin => "New admin key",
        _ => "New key",
    };
    let main = html! {
        h1 { (title) }
        @if kind == KeyKind::Member { p { "For an admin key: " a href="/console/new?kind=admin" { "new admin key" } "." } }
        (of_problem(problem))
        form class="stacked" method="post" action="/console/new" {
            (form_token(operator))
            input type="hidden" name="kind" value=(name_of(kind));
            @if kind != KeyKind::Admin {
                label { "Group, by its id; empty for none" input name="beneath" value=(creation.beneath); }
                label { "Last part of its id" @if kind != KeyKind::Group { "; empty to have one drawn" }
                    input name="segment" value=(creation.segment) required[kind == KeyKind::Group] maxlength="128"; }
            }
            @if kind != KeyKind::Group {
                label { "Visible start of its access key, as in sk-acme-; empty for none" input name="prefix" value=(creation.prefix); }
            }
            (creation.fields.inputs(kind, plans))
            p { button class="main" { "Create" } }
        }
    };
    Page::new(operator, title, main)
}

fn change_page(
    operator: &Operator,
    id: &KeyId,
    kind: KeyKind,
    change: &Change,
    plans: &[PlanRecord],
    problem: Option<&str>,
) -> Page {
    let title = format!("Edit {}", change.fields.name);
    let main = html! {
        h1 { (title) }
        (of_problem(problem))
        form class="stacked" method="post" action=(format!("/console/keys/{}/edit", encoded(id.as_str()))) {
            (form_token(operator))
            input type="hidden" name="version" value=(change.version);
            (change.fields.inputs(kind, plans))
            @if kind != KeyKind::Admin { (effective_choice(change.effective)) }
            @else { input type="hidden" name="effective" value="next"; }
            p class="actions" { button class="main" { "Save" } a href=(path(id)) { "Cancel" } }
        }
    };
    Page::new(operator, &title, main)
}

/// When changed limits take effect, explained.
pub(super) fn effective_choice(effective: Effective) -> Markup {
    let now = effective == Effective::Now;
    html! {
        fieldset {
            legend { "Changed limits take effect" }
            label { input type="radio" name="effective" value="next" checked[!now];
                " from the next window: a limit per minute with the next minute, one per month with the next month; budgets at once" }
            label { input type="radio" name="effective" value="now" checked[now];
                " now, in the windows as they stand: what was used stays used, so a lower limit may deny the next call" }
        }
    }
}

/// A mistake in the form above.
pub(super) fn of_problem(problem: Option<&str>) -> Markup {
    html! { @if let Some(problem) = problem { p role="alert" class="problem" { (sentence(problem)) } } }
}

/// The words of limits.
pub(super) fn help() -> Markup {
    html! {
        details {
            summary { "How limits are written" }
            pre { "global = { requests_per_minute = 60, tokens_per_day = 200_000 }\n"
                "assets.gpt-5 = { output_tokens_per_day = 50_000, parallel = 4 }\n"
                "other = { requests_per_day = 100 }      # or \"denied\"\n"
                "budget = \"25.00\"                        # credits in all\n"
                "thresholds = [50, 80, 100]" }
            p { "requests, tokens, input_tokens, output_tokens or credits; per minute, hour, day, week or month, or _ever. "
                "\"unlimited\" lifts a limit of the plan." }
        }
    }
}
