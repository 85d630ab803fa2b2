//! Signing in with an admin key, and signing out.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use limiter::{AccessKey, KeysError};
use maud::html;
use serde::Deserialize;

use super::form::{self, Form};
use super::page::{Page, see};
use super::session::{self, Operator};
use crate::app::App;
use crate::body::{self, Queried};
use crate::refusal::Refusal;

/// The page to see after signing in.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
struct SignIn {
    #[serde(default)]
    access_key: String,
    #[serde(default)]
    next: String,
}

pub(super) async fn show(Queried(Next { next }): Queried<Next>) -> Page {
    page(&next, None)
}

pub(super) async fn sign_in(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    refuse_other_sites(&head.headers)?;
    // No caller is known yet: a form has some hundred bytes.
    let (body, _room) = body::read_up_to(MAX_BYTES, body, &app).await?;
    let SignIn { access_key, next } = form::read(&body)?;
    let refused =
        |status, problem| Ok(page(&next, Some(problem)).with_status(status).into_response());
    let unknown = "This is not the access key of a living key.";
    let Ok(access_key) = AccessKey::new(access_key) else {
        return refused(StatusCode::UNAUTHORIZED, unknown);
    };
    let id = match app.authenticator.identify(&access_key).await {
        Ok(id) => id,
        Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED => {
            return refused(StatusCode::UNAUTHORIZED, unknown);
        }
        Err(refusal) => return Err(refusal),
    };
    match app.limiter.keys(&access_key).get(&id).await {
        Err(KeysError::Forbidden) => {
            let problem = "This is a member key. Sign in with an admin key of the workspace.";
            return refused(StatusCode::FORBIDDEN, problem);
        }
        Err(KeysError::UnknownCaller | KeysError::ExpiredCaller) => {
            return refused(StatusCode::UNAUTHORIZED, unknown);
        }
        found => drop(found?),
    }
    let by_tls = head.headers.get(X_FORWARDED_PROTO).is_some_and(|proto| proto == "https");
    let cookie = app.sessions.open(access_key, by_tls);
    let cookie = cookie.map_err(|error| Refusal::unavailable("entropy", error.to_string()))?;
    let next = if is_of_the_console(&next) { &*next } else { "/console" };
    Ok(with_cookie(see(next), &cookie))
}

pub(super) async fn sign_out(
    State(app): State<Arc<App>>,
    _: Operator,
    headers: HeaderMap,
    _: Form<Next>,
) -> Response {
    app.sessions.close(&headers);
    with_cookie(see("/console/sign-in"), session::ENDED)
}

fn page(next: &str, problem: Option<&str>) -> Page {
    let main = html! {
        h1 { "Sign in" }
        @if let Some(problem) = problem { p role="alert" class="problem" { (problem) } }
        form class="stacked" method="post" action="/console/sign-in" {
            @if is_of_the_console(next) { input type="hidden" name="next" value=(next); }
            label { "Access key of an admin key"
                input type="password" name="access_key" autocomplete="current-password" required autofocus; }
            p { button class="main" { "Sign in" } }
        }
        p class="faint" { "The server keeps it in memory until the session ends, and never shows it." }
    };
    Page::open("Sign in", main)
}

/// Refuses a form that a page of another site sent: it could sign an operator in to a workspace of its own.
fn refuse_other_sites(headers: &HeaderMap) -> Result<(), Refusal> {
    let site = headers.get(SEC_FETCH_SITE).and_then(|site| site.to_str().ok());
    match site {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) => {
            let message = "this form was sent by a page of another site: open the console itself";
            Err(Refusal::new(StatusCode::FORBIDDEN, "forged_form", message))
        }
    }
}

/// Returns whether a text is a path of the console, and nothing that a browser takes for another host.
fn is_of_the_console(next: &str) -> bool {
    next.strip_prefix("/console")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const MAX_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_signing_in_one_sees_pages_of_the_console_only() {
        for next in ["/console", "/console/keys/acme%2Fci?done=saved", "/console?name=ci"] {
            assert!(is_of_the_console(next), "{next}");
        }
        for next in [
            "",
            "/",
            "//evil.example",
            "/consoles",
            "https://evil.example/console",
            "/console\\x",
            "/console\r\nx: y",
        ] {
            assert!(!is_of_the_console(next), "{next}");
        }
    }
}
