//! Unregistered callers: they come by their address, beneath an open group.

use http::request::Parts;
use limiter::Limits;
use limiter_tower::{Caller, Dialect};
use serde_json::json;

use crate::world::{World, hello, items, requests_per_day, requests_per_minute};

/// As the proxy in front of the service writes it.
fn client_ip(head: &Parts) -> &str {
    head.headers.get("x-real-ip").and_then(|address| address.to_str().ok()).unwrap_or_default()
}

async fn open(world: &World, each: Limits, all: Limits) {
    let keys = world.limiter.workspace("acme").unwrap();
    keys.open("ip", each, all).await.unwrap();
}

#[tokio::test]
async fn each_address_has_limits_of_its_own_and_sees_no_figures_of_the_group() {
    for world in World::on_each_store().await {
        open(&world, requests_per_minute(2), requests_per_day(3)).await;
        let layer = world.layer().caller(|head| Caller::path("ip", client_ip(head)));
        let service = hello(layer.dialects([Dialect::Ietf, Dialect::OpenAi]).build()).await;
        let from = |address: &'static str| {
            let service = service.clone();
            async move { service.send("/", &[("x-real-ip", address)]).await }
        };
        let answer = from("203.0.113.7").await;
        assert_eq!(answer.status, 200);
        let policies: Vec<_> =
            items(&answer.headers, "ratelimit-policy").into_iter().map(|(name, _)| name).collect();
        assert_eq!(policies, ["permin"], "the limit of the group is nobody's business");
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(from("203.0.113.7").await.status, 200);
        assert_eq!(from("203.0.113.7").await.status, 429);
        assert_eq!(from("2001:db8::1").await.status, 200);

        let answer = from("198.51.100.9").await;
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (429.try_into().unwrap(), Some("43231"))
        );
        let problem = answer.problem();
        assert_eq!(
            problem["detail"],
            "ip/198.51.100.9: no more requests per day are left for group ip, this call asks for 1, reset at \
             2026-01-02T00:00:00Z. Retry at 2026-01-02T00:00:00Z"
        );
        let violation = &problem["violations"][0];
        assert_eq!((&violation["group"], &violation["asked"]), (&json!("ip"), &json!(1)));
        assert!(violation.get("limit").is_none() && violation.get("used").is_none(), "{problem}");
        let left: Vec<_> =
            items(&answer.headers, "ratelimit").into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["permin"], "what is left of the group is nobody's business either");
    }
}

#[tokio::test]
async fn a_caller_without_an_address_is_refused_as_one_without_an_access_key() {
    let world = World::new().await;
    open(&world, requests_per_minute(2), requests_per_day(3)).await;
    let layer = world.layer().caller(|head| Caller::path("ip", client_ip(head)));
    let service = hello(layer.build()).await;
    let answer = service.send("/", &[]).await;
    assert_eq!(answer.status, 401);
}
