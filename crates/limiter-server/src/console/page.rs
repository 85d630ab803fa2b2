//! The frame of every page, and its headers.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use limiter::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::session::Operator;
use crate::refusal::Refusal;

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    status: StatusCode,
    html: String,
}

impl Page {
    /// A page of an operator.
    pub(super) fn new(operator: &Operator, title: &str, main: Markup) -> Self {
        let navigation = html! {
            nav aria-label="Console" {
                a href="/console" { "Keys and groups" }
                a href="/console/plans" { "Plans" }
                a href="/console/health" { "Health" }
                form method="post" action="/console/sign-out" {
                    (form_token(operator))
                    button class="quiet" { "Sign out" }
                }
            }
        };
        Self { status: StatusCode::OK, html: framed(title, navigation, main) }
    }

    /// A page without a session.
    pub(super) fn open(title: &str, main: Markup) -> Self {
        Self { status: StatusCode::OK, html: framed(title, PreEscaped(String::new()), main) }
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = self.html.into_response();
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for (name, value) in [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (CACHE_CONTROL, "no-store"),
            (REFERRER_POLICY, "no-referrer"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// Sends the browser to another page.
pub(super) fn see(location: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::from_str(location) {
        headers.insert(LOCATION, location);
    }
    response
}

/// Renders a refused request: without a session, the way to one and back.
pub(crate) fn refused(refusal: &Refusal, method: &Method, asked: &Uri) -> Response {
    if refusal.status == StatusCode::UNAUTHORIZED {
        let next = asked.path_and_query().filter(|_| method == Method::GET);
        return match next {
            Some(next) => see(&format!("/console/sign-in?next={}", encoded(next.as_str()))),
            None => see("/console/sign-in"),
        };
    }
    let main = html! {
        h1 { "This did not work" }
        p role="alert" class="problem" { (sentence(&refusal.message)) }
        p { a href="/console" { "Keys and groups" } }
    };
    Page::open("This did not work", main).with_status(refusal.status).into_response()
}

/// The field by which a form shows that it belongs to the operator's session.
pub(super) fn form_token(operator: &Operator) -> Markup {
    html! { input type="hidden" name="form_token" value=(operator.0.form_token()); }
}

/// An instant in UTC; the script adds the time of the viewer's zone.
pub(super) fn time(at: Timestamp) -> Markup {
    let text = at.to_string();
    let shown = text.get(..16).map(|text| text.replace('T', " "));
    html! { time datetime=(text) { (shown.unwrap_or_else(|| text.clone())) " UTC" } }
}

/// A text with a capital and a point, as a sentence of a page.
pub(super) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    let point = if text.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{}{}{point}", first.unwrap_or_default(), letters.as_str())
}

/// A text as a part of a path or of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

fn framed(title: &str, navigation: Markup, main: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " – limiter" }
                link rel="stylesheet" href="/console/console.css";
                link rel="icon" href="data:,";
                script src="/console/console.js" defer {}
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                header { strong { "limiter" } (navigation) }
                main id="main" tabindex="-1" { (main) }
            }
        }
    };
    page.into_string()
}

pub(super) async fn stylesheet() -> impl IntoResponse {
    asset("text/css; charset=utf-8", include_str!("console.css"))
}

pub(super) async fn script() -> impl IntoResponse {
    asset("text/javascript; charset=utf-8", include_str!("console.js"))
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    // A new version of the server may have other ones.
    let headers =
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, "max-age=300"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, text)
}

/// Nothing is loaded from elsewhere, no page has a script or a style in it, and no other page may frame one.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// Characters that are not escaped in a part of a path.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_a_link() {
        assert_eq!(encoded("acme/search ci?x=\"&"), "acme%2Fsearch%20ci%3Fx%3D%22%26");
        assert_eq!(sentence("no such key"), "No such key.");
        assert_eq!(sentence(""), ".");
    }
}
