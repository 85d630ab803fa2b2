//! The console: pages for operators, at `/console`.
//!
//! Pages are rendered here. They load one stylesheet and one script, both from here, and the browser is told to load nothing else.
//! An operator signs in with an admin key, which a [`session`] keeps for a bounded time. Each [`form`] carries the token of its
//! session. Nothing is decided here: every page calls the same functions as `/v1`, with the operator's access key.

mod actions;
mod as_toml;
mod charts;
mod edit;
mod form;
mod health;
mod key;
mod page;
mod plans;
mod rules;
mod session;
mod sign_in;
mod tree;

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use limiter::{KeyKind, KeyRecord, PlanName, Thresholds};
use maud::{Markup, html};

pub(crate) use self::page::refused;
use self::session::Operator;
pub(crate) use self::session::Sessions;
use crate::admission;
use crate::app::App;
use crate::refusal::Refusal;

/// Returns whether a path is one of the console.
pub(crate) fn is_of(path: &str) -> bool {
    path.strip_prefix("/console").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The paths that need a session.
pub(crate) fn paths() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/console", get(tree::show)),
        ("/console/new", get(edit::new).post(edit::create)),
        ("/console/keys/{id}", get(key::show)),
        ("/console/keys/{id}/edit", get(edit::edit).post(edit::change)),
        ("/console/keys/{id}/rotate", get(actions::confirm_rotation).post(actions::rotate)),
        ("/console/keys/{id}/reset", get(actions::confirm_reset).post(actions::reset)),
        ("/console/keys/{id}/delete", get(actions::confirm_deletion).post(actions::delete)),
        ("/console/plans", get(plans::list).post(plans::save)),
        ("/console/new-plan", get(plans::new)),
        ("/console/plans/{name}", get(plans::show)),
        ("/console/plans/{name}/delete", get(plans::confirm_deletion).post(plans::delete)),
        ("/console/health", get(health::show)),
        ("/console/sign-out", post(sign_in::sign_out)),
    ]
}

/// The paths without a session.
pub(crate) fn open_paths() -> Vec<(&'static str, MethodRouter<Arc<App>>)> {
    vec![
        ("/console/sign-in", get(sign_in::show).post(sign_in::sign_in)),
        ("/console/console.css", get(page::stylesheet)),
        ("/console/console.js", get(page::script)),
    ]
}

/// Admits the requests of operators.
pub(crate) async fn admit(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (mut head, body) = request.into_parts();
    let session = app.sessions.find(&head.headers).ok_or_else(Refusal::unknown_key)?;
    head.extensions.insert(Operator(session));
    admission::admitted(app, head, body, next).await
}

/// The thresholds of keys.
struct ThresholdsOf {
    plans: HashMap<PlanName, Thresholds>,
    of_server: Thresholds,
}

impl ThresholdsOf {
    /// Reads the plans, if any of these keys has one.
    async fn read<'a>(
        app: &App,
        operator: &Operator,
        mut keys: impl Iterator<Item = &'a KeyRecord>,
    ) -> Result<Self, Refusal> {
        let plans = match keys.any(|key| key.config.plan.is_some()) {
            true => operator.keys(app).plans().await?,
            false => Vec::new(),
        };
        let plans = plans.into_iter().filter_map(|it| Some((it.name, it.plan.thresholds?)));
        Ok(Self { plans: plans.collect(), of_server: app.thresholds })
    }

    /// Returns the thresholds of a key: its own, or else those of its plan, or else those of the server.
    fn of(&self, key: &KeyRecord) -> Thresholds {
        let of_plan = || self.plans.get(key.config.plan.as_ref()?).copied();
        key.config.thresholds.or_else(of_plan).unwrap_or(self.of_server)
    }
}

/// Returns the name of a kind of key.
const fn name_of(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Admin => "admin",
        KeyKind::Group => "group",
        _ => "member",
    }
}

/// The status line of an action that has succeeded.
fn done(done: &str) -> Markup {
    let text = match done {
        "created" => "Created.",
        "saved" => "Saved.",
        "reset" => "Reset: what was used starts again from zero.",
        "deleted" => "Deleted.",
        _ => return html! {},
    };
    html! { p role="status" class="done" { (text) } }
}
