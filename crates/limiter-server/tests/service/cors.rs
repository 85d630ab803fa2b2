//! Calls from web pages of other origins.

use serde_json::json;

use crate::support::{Answer, Running};

#[test]
fn without_the_setting_no_answer_has_a_header_of_cors() {
    let server = Running::in_memory();
    let (_, key) = server.member("member", json!({}));
    for answer in
        [from_page(&server, "POST", &key, PAGE), server.call("OPTIONS", "", "/v1/check", "")]
    {
        let found = answer.headers.iter().find(|(name, _)| name.starts_with("access-control-"));
        assert_eq!(found, None);
    }
    assert_eq!(server.call("OPTIONS", "", "/v1/check", "").status, 405);
}

#[test]
fn pages_of_the_named_origins_may_call_and_read_how_limits_stand() {
    let flags = ["--cors-origins", "https://app.example,http://localhost:3000"];
    let server = Running::with(&[&flags[..], &["--headers", "ietf,openai"]].concat());
    let (_, key) = server.member("member", json!({"globalLimits": {"rpm": 1}}));

    // A preflight comes without an access key.
    let preflight = from_page(&server, "OPTIONS", "", PAGE);
    assert_eq!(preflight.status, 200, "{preflight:?}");
    assert_eq!(preflight.header("access-control-allow-origin"), Some(PAGE));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("content-type,x-api-key"));
    let methods = preflight.header("access-control-allow-methods").unwrap();
    for method in ["GET", "POST", "PUT", "DELETE"] {
        assert!(methods.contains(method), "{methods}");
    }

    // Answers of every kind can be read: an allowed call, a denied one, and a refusal.
    for (key, status) in [(key.as_str(), 200), (&key, 200), ("", 401)] {
        let answer = from_page(&server, "POST", key, PAGE);
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE), "{answer:?}");
        let exposed = answer.header("access-control-expose-headers").unwrap();
        let limits = answer.headers.iter().map(|(name, _)| name.as_str());
        let limits = limits.filter(|name| name.contains("ratelimit") || *name == "retry-after");
        let always = ["retry-after", "x-should-retry", "ratelimit", "x-ratelimit-remaining-tokens"];
        for name in limits.chain(always) {
            assert!(exposed.split(',').any(|known| known == name), "{name} is not in {exposed}");
        }
        assert!(!exposed.contains("anthropic"), "{exposed}");
    }

    let other = from_page(&server, "POST", &key, "https://evil.example");
    assert_eq!(other.header("access-control-allow-origin"), None);
    assert_eq!(server.get("", "/healthz").header("access-control-allow-origin"), None);
}

#[test]
fn any_origin_may_be_named_and_what_is_none_is_refused_at_the_start() {
    let server = Running::with(&["--cors-origins", "*"]);
    let answer = from_page(&server, "OPTIONS", "", PAGE);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let output = Running::try_with(&["--cors-origins", "app.example"], None).unwrap_err();
    assert!(output.contains("app.example") && output.contains("https://"), "{output}");
}

fn from_page(server: &Running, method: &str, key: &str, origin: &str) -> Answer {
    let headers = [
        ("x-api-key", key),
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type,x-api-key"),
    ];
    let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
    let body = if method == "POST" { "{}" } else { "" };
    server.call_with(method, "/v1/check", headers, body)
}

const PAGE: &str = "https://app.example";
