//! The body, status and headers of each refusal in the formats of the APIs.

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Response, StatusCode};
use limiter::stream::Api;
use limiter::{AssetId, Charge, Decision, Denied, NewKey, ReservationError, StoreError};
use limiter_tower::{Dialect, ErrorFormat, Problem, Refusal, Retry};
use serde_json::{Value, json};

use crate::world::{World, at, named, requests_per_minute, tokens, tokens_per_minute};

/// Each refusal: OpenAI's status, type and code, Anthropic's status and type, Gemini's status word.
type Row = (Refusal, (u16, &'static str, &'static str), (u16, &'static str), &'static str);

#[tokio::test]
async fn every_refusal_has_the_words_of_each_api() {
    let key = "invalid_request_error";
    let limit = (429, "rate_limit_error");
    let exhausted = "RESOURCE_EXHAUSTED";
    let [requests, tokens, budget, unknown, expired, admin, asset] = denials().await;
    let rows: [Row; 13] = [
        (requests, (429, "requests", "rate_limit_exceeded"), limit, exhausted),
        (tokens, (429, "tokens", "rate_limit_exceeded"), limit, exhausted),
        (
            budget,
            (429, "insufficient_quota", "insufficient_quota"),
            (402, "billing_error"),
            exhausted,
        ),
        (unknown, (401, key, "invalid_api_key"), (401, "authentication_error"), "UNAUTHENTICATED"),
        (expired, (401, key, "invalid_api_key"), (401, "authentication_error"), "UNAUTHENTICATED"),
        (
            admin,
            (403, "request_forbidden", "admin_key"),
            (403, "permission_error"),
            "PERMISSION_DENIED",
        ),
        (asset, (400, key, "invalid"), (400, key), "INVALID_ARGUMENT"),
        (
            Refusal::NoAccessKey,
            (401, key, "invalid_api_key"),
            (401, "authentication_error"),
            "UNAUTHENTICATED",
        ),
        (
            Refusal::TooManyReservations(ReservationError::TooMany {
                what: "reservations",
                most: 9,
                at: at("2026-01-01T12:00:00Z"),
                retry_at: at("2026-01-01T12:00:30Z"),
            }),
            (503, "service_unavailable_error", "server_is_overloaded"),
            (503, "overloaded_error"),
            "UNAVAILABLE",
        ),
        (
            Refusal::Malformed(Cow::Borrowed("the request body is no JSON")),
            (400, key, "invalid"),
            (400, key),
            "INVALID_ARGUMENT",
        ),
        (
            Refusal::TooLarge { max_bytes: 9 },
            (413, key, "request_too_large"),
            (413, "request_too_large"),
            "INVALID_ARGUMENT",
        ),
        (
            Refusal::Store(StoreError::unavailable("down")),
            (503, "service_unavailable_error", "server_is_overloaded"),
            (503, "overloaded_error"),
            "UNAVAILABLE",
        ),
        (
            Refusal::Panicked("asset"),
            (500, "server_error", "internal"),
            (500, "api_error"),
            "INTERNAL",
        ),
    ];
    for (refusal, open_ai, anthropic, gemini) in rows {
        let message = refusal.to_string();
        let (status, r#type, code) = open_ai;
        let error = json!({"message": message, "type": r#type, "param": null, "code": code});
        assert_rendered(&refusal, ErrorFormat::OpenAi, status, json!({"error": error}));
        let (status, r#type) = anthropic;
        let error = json!({"type": r#type, "message": message});
        let error = json!({"type": "error", "error": error, "request_id": null});
        assert_rendered(&refusal, ErrorFormat::Anthropic, status, error);
        let error = json!({"code": status, "message": message, "status": gemini});
        assert_rendered(&refusal, ErrorFormat::Gemini, status, json!({"error": error}));
    }
}

/// Asserts the status and body, and that the headers are those of the plain response.
fn assert_rendered(refusal: &Refusal, format: ErrorFormat, status: u16, body: Value) {
    let statuses = format.statuses();
    let dialects = [Dialect::Ietf, Dialect::OpenAi, Dialect::Anthropic];
    let response = refusal.to_api_response(format, &statuses, &dialects, Retry::BOUND);
    assert_eq!(response.status().as_u16(), status, "{refusal:?}");
    assert_eq!(serde_json::from_slice::<Value>(response.body()).unwrap(), body);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    let plain = refusal.to_response(&statuses, &dialects, Retry::BOUND);
    assert_eq!(without_content_type(&response), without_content_type(&plain));
    assert_eq!(response.headers().contains_key(WWW_AUTHENTICATE), status == 401);
}

fn without_content_type<B>(response: &Response<B>) -> HeaderMap {
    let mut headers = response.headers().clone();
    headers.remove(CONTENT_TYPE);
    headers
}

#[tokio::test]
async fn a_limit_gets_a_retry_time_and_a_budget_gets_none() {
    let [requests, _, budget, ..] = denials().await;
    let render = |refusal: &Refusal| {
        let format = ErrorFormat::OpenAi;
        refusal.to_api_response(format, &format.statuses(), &[Dialect::OpenAi], Retry::BOUND)
    };
    let limited = render(&requests);
    assert_eq!(limited.headers()[RETRY_AFTER], "31");
    assert_eq!(limited.headers()["x-ratelimit-remaining-requests"], "0");
    assert!(!limited.headers().contains_key("x-should-retry"));
    let exhausted = render(&budget);
    assert!(!exhausted.headers().contains_key(RETRY_AFTER));
    assert_eq!(exhausted.headers()["x-should-retry"], "false");
}

#[test]
fn an_error_of_a_service_is_rendered_by_its_status() {
    for (status, open_ai, code, anthropic, gemini) in [
        (400, "invalid_request_error", "bad_stream", "invalid_request_error", "INVALID_ARGUMENT"),
        (
            401,
            "invalid_request_error",
            "invalid_api_key",
            "authentication_error",
            "UNAUTHENTICATED",
        ),
        (402, "insufficient_quota", "insufficient_quota", "billing_error", "RESOURCE_EXHAUSTED"),
        (403, "request_forbidden", "bad_stream", "permission_error", "PERMISSION_DENIED"),
        (404, "invalid_request_error", "bad_stream", "not_found_error", "NOT_FOUND"),
        (405, "invalid_request_error", "bad_stream", "invalid_request_error", "INVALID_ARGUMENT"),
        (
            413,
            "invalid_request_error",
            "request_too_large",
            "request_too_large",
            "INVALID_ARGUMENT",
        ),
        (429, "requests", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"),
        (500, "server_error", "bad_stream", "api_error", "INTERNAL"),
        (502, "server_error", "bad_stream", "api_error", "INTERNAL"),
        (
            503,
            "service_unavailable_error",
            "server_is_overloaded",
            "overloaded_error",
            "UNAVAILABLE",
        ),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let problem = Problem::new(status, "bad_stream", "the stream is \"bad\"");
        let error = |format| -> Value {
            let response = problem.to_api_response(format);
            assert_eq!(response.status(), status);
            let body: Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(body["error"]["message"], "the stream is \"bad\"");
            body["error"].clone()
        };
        let told = error(ErrorFormat::OpenAi);
        assert_eq!((&told["type"], &told["code"]), (&json!(open_ai), &json!(code)));
        assert_eq!(error(ErrorFormat::Anthropic)["type"], anthropic);
        assert_eq!(error(ErrorFormat::Gemini)["status"], gemini);
    }
}

#[test]
fn the_last_event_of_a_stream_is_an_error_that_sdks_raise() {
    let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "no\nmore");
    for api in Api::ALL {
        let event = problem.to_api_event(api);
        let text = str::from_utf8(&event).unwrap();
        let named = matches!(api, Api::AnthropicMessages | Api::OpenAiResponses);
        assert_eq!(text.starts_with("event: error\ndata: {"), named, "{text}");
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["error"]["message"], "no\nmore", "{text}");
        let is_done = text.ends_with("}\n\ndata: [DONE]\n\n");
        let ends_with_done =
            ErrorFormat::from(api) == ErrorFormat::OpenAi && api != Api::OpenAiResponses;
        assert_eq!(is_done, ends_with_done, "{text}");
        assert!(text.ends_with("\n\n"));
        if named {
            assert_eq!(data["type"], "error");
        }
    }
}

/// Denials by a limit of requests, of tokens and by a budget; of an unknown, an expired and an admin key; and an
/// invalid asset.
async fn denials() -> [Refusal; 7] {
    let world = World::new().await;
    let denied = async |config, charge: &Charge| -> Denied {
        let member = world.member(config).await;
        loop {
            let decided = world.limiter.check_and_consume(&member.id, None, charge).await;
            if let Decision::Denied(denied) = decided.unwrap() {
                return denied;
            }
        }
    };
    let one = Charge::request();
    let requests = denied(named("a").with_global(requests_per_minute(1)), &one).await;
    let by_tokens = denied(named("b").with_global(tokens_per_minute(9)), &tokens(4, 4)).await;
    let cost = one.with_credits("0.6".parse().unwrap());
    let budget = denied(named("c").with_budget("1".parse().unwrap()), &cost).await;
    let expired = denied(named("d").with_expiry(at("2025-12-31T00:00:00Z")), &one).await;
    let admin = world.create(NewKey::admin(named("e"))).await;
    let admin = world.limiter.check_and_consume(&admin.id, None, &one).await.unwrap();
    let Decision::Denied(unknown) = Decision::key_unknown(None, None) else { unreachable!() };
    let Decision::Denied(admin) = admin else { panic!("admin keys make no calls") };
    let asset = AssetId::new("x".repeat(300)).unwrap_err();
    let denied = [requests, by_tokens, budget, unknown, expired, admin].map(Refusal::from);
    let [requests, by_tokens, budget, unknown, expired, admin] = denied;
    [requests, by_tokens, budget, unknown, expired, admin, asset.into()]
}
