//! The status, headers and body of each refusal, over HTTP.

use std::time::Duration;

use http::StatusCode;
use limiter::memory::MemoryStore;
use limiter::store::{BoxError, LedgerBounds};
use limiter::{Limiter, Limits, ManualClock, NewKey, Other};
use limiter_tower::{Refusal, Retry, Settlement, StatusMap};
use serde_json::{Value, json};

use crate::world::{
    World, asset, at, bearer, hello, named, requests_per_day, requests_per_minute, tokens,
    tokens_per_minute,
};

#[tokio::test]
async fn a_call_within_its_limits_reaches_the_service() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(1))).await;
    let answer = service.call(&ci).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(world.requests_used(&ci).await, 1);
}

#[tokio::test]
async fn who_comes_without_a_key_is_asked_for_one() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    for headers in [&[][..], &[("authorization", "Basic abc")], &[("x-api-key", "too short")]] {
        let answer = service.send("/", headers).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(answer.problem()["reason"], "no_access_key");
    }
}

#[tokio::test]
async fn an_unknown_key_is_unauthorized() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let answer = service.send("/", &[("x-api-key", "a-key-that-nobody-has")]).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    let problem = answer.problem();
    assert_eq!(
        (&problem["reason"], &problem["type"]),
        (&json!("key_unknown"), &json!("about:blank"))
    );
    assert_eq!(problem["title"], "Unauthorized");
}

#[tokio::test]
async fn an_expired_key_is_unauthorized_and_its_expiry_is_shown() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let old = world.member(named("old").with_expiry(at("2025-12-31T00:00:00Z"))).await;
    let answer = service.call(&old).await;
    assert_eq!(
        (answer.status, answer.header("www-authenticate")),
        (StatusCode::UNAUTHORIZED, Some("Bearer"))
    );
    let problem = answer.problem();
    assert_eq!(problem["reason"], "key_expired");
    assert_eq!(problem["expired_at"], "2025-12-31T00:00:00Z");
}

#[tokio::test]
async fn a_key_that_was_deleted_after_it_was_remembered_is_unauthorized() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci")).await;
    assert_eq!(service.call(&ci).await.status, 200);
    world.limiter.keys_as(&world.admin).delete(&ci.id).await.unwrap();
    let answer = service.call(&ci).await;
    assert_eq!(
        (answer.status, &answer.problem()["reason"]),
        (StatusCode::UNAUTHORIZED, &json!("key_unknown"))
    );
}

#[tokio::test]
async fn an_admin_key_makes_no_calls() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let admin = world.create(NewKey::admin(named("second"))).await;
    let answer = service.call(&admin).await;
    assert_eq!(
        (answer.status, &answer.problem()["reason"]),
        (StatusCode::FORBIDDEN, &json!("admin_key"))
    );
    assert_eq!(answer.header("www-authenticate"), None);
}

#[tokio::test]
async fn an_exhausted_budget_asks_for_payment() {
    let world = World::new().await;
    let price = |_: &http::request::Parts| Ok(tokens(0, 0).with_credits("0.6".parse()?));
    let service = hello(world.layer().charge(price).build()).await;
    let ci = world.member(named("ci").with_budget("1".parse().unwrap())).await;
    assert_eq!(service.call(&ci).await.status, 200);
    let answer = service.call(&ci).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::PAYMENT_REQUIRED, None));
    let problem = answer.problem();
    assert_eq!(problem["reason"], "budget_exhausted");
    assert_eq!(
        [&problem["spent"], &problem["budget"], &problem["asked"]],
        [&json!("0.60"), &json!("1.00"), &json!("0.60")]
    );
    assert_eq!(problem["violated-policies"], json!(["credits-ever"]));
    assert_eq!(problem["retry_at"], Value::Null);
}

#[tokio::test]
async fn an_asset_that_the_key_denies_is_forbidden() {
    let world = World::new().await;
    let layer = world.layer().asset_in_path(|path| path.strip_prefix("/v1/"));
    let service = hello(layer.build()).await;
    let config = named("ci").with_asset(asset("gpt-5"), Limits::NONE).with_other(Other::Denied);
    let ci = bearer(&world.member(config).await.access_key);
    assert_eq!(service.send("/v1/gpt-5", &[("authorization", &ci)]).await.status, 200);
    let answer = service.send("/v1/gpt-6", &[("authorization", &ci)]).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(answer.problem()["reason"], "asset_denied");
    assert_eq!(answer.problem()["asset"], "gpt-6");
}

#[tokio::test]
async fn a_limited_call_gets_every_violated_rule_and_a_retry_time() {
    let world = World::new().await;
    let layer =
        world.layer().charge(|_| Ok(tokens(3, 4))).asset_in_path(|path| path.strip_prefix("/v1/"));
    let service = hello(layer.build()).await;
    let config = named("ci")
        .with_global(requests_per_day(1))
        .with_asset(asset("gpt-5"), tokens_per_minute(10));
    let ci = world.member(config).await;
    let authorization = bearer(&ci.access_key);
    let headers = [("authorization", authorization.as_str())];
    assert_eq!(service.send("/v1/gpt-5", &headers).await.status, 200);

    let answer = service.send("/v1/gpt-5", &headers).await;
    assert_eq!(answer.status, 429);
    let seconds_of_the_day = 12 * 3_600 + 31;
    assert_eq!(answer.header("retry-after"), Some(seconds_of_the_day.to_string().as_str()));
    let problem = answer.problem();
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!(problem["title"], "Quota Exceeded");
    assert_eq!(problem["reason"], "rate_limited");
    assert!(!problem["key"].as_str().unwrap().is_empty(), "{problem}");
    assert_eq!(problem["asset"], "gpt-5");
    assert_eq!(problem["binding"], "global/day/requests");
    assert_eq!(problem["retry_at"], "2026-01-02T00:00:00Z");
    assert_eq!(problem["retry_after"], seconds_of_the_day);
    assert_eq!(problem["violated-policies"], json!(["perday", "asset-tokens-permin"]));
    assert_eq!(
        problem["violations"],
        json!([
            {
                "rule": "global/day/requests", "policy": "perday",
                "scope": "global", "window": "day", "unit": "requests",
                "limit": 1, "used": 1, "asked": 1, "resets_at": "2026-01-02T00:00:00Z",
            },
            {
                "rule": "asset/minute/tokens", "policy": "asset-tokens-permin",
                "scope": "asset", "window": "minute", "unit": "tokens",
                "limit": 10, "used": 7, "asked": 7, "resets_at": "2026-01-01T12:00:00Z",
            },
        ])
    );
}

#[tokio::test]
async fn a_wait_is_rounded_up_and_then_long_enough() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(1))).await;
    world.clock.set(at("2026-01-01T11:59:58.999Z"));
    assert_eq!(service.call(&ci).await.status, 200);
    let answer = service.call(&ci).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (StatusCode::TOO_MANY_REQUESTS, Some("2"))
    );
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(service.call(&ci).await.status, 200);
}

/// It is a bound of the service: no limit of the caller is exceeded, and the answer has the time at which there is room.
#[tokio::test]
async fn a_call_that_cannot_be_remembered_is_503_with_the_time_at_which_there_is_room() {
    let clock = ManualClock::at(at("2026-01-01T11:59:29.001Z"));
    let bounds = LedgerBounds { ended: 1, ..LedgerBounds::default() };
    let store = MemoryStore::builder().clock(clock.clone()).ledger_bounds(bounds).build();
    let world = World::on(Limiter::from(store), clock).await;
    let layer = world.layer().reserve(|_| Ok(tokens(1, 0)), |_| Settlement::Keep);
    let service = hello(layer.build()).await;
    let ci = world.member(named("ci").with_global(requests_per_day(9))).await;
    assert_eq!(service.call(&ci).await.status, 200);
    world.clock.advance(Duration::from_millis(500));
    let answer = service.call(&ci).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("120")));
    assert_eq!(answer.header("x-should-retry"), Some("false"), "two minutes are long");
    let problem = answer.problem();
    assert_eq!(problem["reason"], "too_many_reservations");
    assert_eq!(problem["retry_at"], "2026-01-01T12:01:29.001Z");
    assert_eq!(problem["retry_after"], 120);
    assert_eq!(world.requests_used(&ci).await, 1, "nothing was charged");

    let error = limiter::ReservationError::TooMany {
        what: "open reservations of this key",
        most: 1,
        at: at("2026-01-01T12:00:00Z"),
        retry_at: at("2026-01-01T12:00:30Z"),
    };
    let over_grpc = Refusal::from(error).to_grpc_response(&[], Retry::BOUND);
    assert_eq!(over_grpc.headers()["grpc-status"], "14", "unavailable");
    assert_eq!(over_grpc.headers()["retry-after"], "30");
}

/// Most calls end long before their slots expire, so that a caller tries again soon.
#[tokio::test]
async fn a_call_that_finds_no_slot_is_429_and_retried_after_a_second() {
    let world = World::new().await;
    let layer = world.layer().reserve(|_| Ok(tokens(1, 0)), |_| Settlement::Keep);
    let statuses = StatusMap::new().with_minute_limits(StatusCode::from_u16(497).unwrap());
    let service = hello(layer.statuses(statuses).build()).await;
    let limits = Limits::builder().requests_per_day(9).parallel(1).build().unwrap();
    let ci = world.member(named("ci").with_global(limits)).await;
    let open = world.limiter.reserve(&ci.id, None, &tokens(1, 0)).await.unwrap();
    let mut open = open.allowed().expect("a slot is free");
    let answer = service.call(&ci).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (497, Some("1")));
    // What has no window is in no header.
    let policies = answer.header("ratelimit-policy").unwrap();
    assert_eq!(policies, r#""perday";q=9;w=86400"#);
    let problem = answer.problem();
    assert_eq!(problem["violated-policies"][0], "parallel");
    assert_eq!(
        (&problem["binding"], &problem["retry_after"]),
        (&"global/parallel".into(), &1.into())
    );
    let violation = &problem["violations"][0];
    assert_eq!(
        (&violation["limit"], &violation["used"], &violation["asked"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert!(violation.get("window").is_none() && violation.get("unit").is_none(), "{violation}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("1 of 1 calls in parallel are open for all calls"), "{detail}");
    open.cancel().await.unwrap();
    assert_eq!(service.call(&ci).await.status, 200);
    assert_eq!(service.call(&ci).await.status, 200, "each call gives its slot back");
}

#[tokio::test]
async fn a_call_that_never_fits_gets_no_retry_time() {
    let world = World::new().await;
    let service = hello(world.layer().charge(|_| Ok(tokens(10, 0))).build()).await;
    let ci = world.member(named("ci").with_global(tokens_per_minute(9))).await;
    let answer = service.call(&ci).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (StatusCode::TOO_MANY_REQUESTS, None)
    );
    let problem = answer.problem();
    assert!(problem["retry_at"].is_null() && problem["retry_after"].is_null(), "{problem}");
    assert!(problem["violations"][0]["resets_at"].is_null(), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.ends_with("The call exceeds the limit itself; retrying will not help"),
        "{detail}"
    );
}

#[tokio::test]
async fn each_status_can_be_another() {
    let world = World::new().await;
    let status = |code: u16| StatusCode::from_u16(code).unwrap();
    let statuses = StatusMap::new()
        .with_unauthenticated(status(470))
        .with_forbidden(status(471))
        .with_budget_exhausted(status(472))
        .with_rate_limited(status(473))
        .with_minute_limits(status(497))
        .with_invalid(status(474));
    let price = |_: &http::request::Parts| Ok(tokens(0, 0).with_credits("1".parse()?));
    let layer = world.layer().statuses(statuses).charge(price);
    let service = hello(layer.asset_in_path(|path| path.strip_prefix('/')).build()).await;

    let nobody = service.send("/", &[]).await;
    assert_eq!((nobody.status.as_u16(), &nobody.problem()["title"]), (470, &json!("Call Refused")));
    let admin = world.create(NewKey::admin(named("second"))).await;
    let admin = bearer(&admin.access_key);
    assert_eq!(service.send("/a", &[("authorization", &admin)]).await.status, 471);
    let poor = world.member(named("poor").with_budget("0.5".parse().unwrap())).await;
    let poor = bearer(&poor.access_key);
    assert_eq!(service.send("/a", &[("authorization", &poor)]).await.status, 472);
    let daily = world.member(named("daily").with_global(requests_per_day(0))).await;
    let daily = bearer(&daily.access_key);
    assert_eq!(service.send("/a", &[("authorization", &daily)]).await.status, 473);
    let minutely = world.member(named("minutely").with_global(requests_per_minute(0))).await;
    let minutely = bearer(&minutely.access_key);
    let answer = service.send("/a", &[("authorization", &minutely)]).await;
    assert_eq!((answer.status.as_u16(), &answer.problem()["status"]), (497, &json!(497)));
    let long = format!("/{}", "x".repeat(257));
    assert_eq!(service.send(&long, &[("authorization", &minutely)]).await.status, 474);
}

#[tokio::test]
async fn what_cannot_be_an_asset_is_a_bad_request_and_charges_nothing() {
    let world = World::new().await;
    let layer = world.layer().asset_in_path(|path| path.strip_prefix("/v1/"));
    let service = hello(layer.build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(5))).await;
    let path = format!("/v1/{}", "x".repeat(257));
    let answer = service.send(&path, &[("x-api-key", ci.access_key.expose())]).await;
    assert_eq!(
        (answer.status, &answer.problem()["reason"]),
        (StatusCode::BAD_REQUEST, &json!("invalid"))
    );
    assert_eq!(world.requests_used(&ci).await, 0);
}

#[tokio::test]
async fn a_charge_that_cannot_be_is_a_bad_request() {
    let world = World::new().await;
    let huge = |_: &http::request::Parts| limiter::Charge::request().with_tokens(u64::MAX, 1);
    let service = hello(world.layer().charge(huge).build()).await;
    let ci = world.member(named("ci")).await;
    assert_eq!(service.call(&ci).await.status, 400);
}

#[tokio::test]
async fn a_service_that_cannot_identify_callers_allows_nothing() {
    let world = World::new().await;
    let identify =
        |_: &http::request::Parts| async { Err(BoxError::from("the directory is down")) };
    let service = hello(world.layer().caller_async(identify).build()).await;
    let answer = service.send("/", &[]).await;
    assert_eq!(answer.status, 503);
    let problem = answer.problem();
    assert!(!problem["detail"].as_str().unwrap().contains("directory"), "{problem}");
}
