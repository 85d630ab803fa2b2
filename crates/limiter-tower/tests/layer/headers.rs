//! The headers of each dialect, on allowed and denied calls, as a client reads them.

use limiter::{Credits, Limits, Unit, Window};
use limiter_tower::Dialect;

use crate::world::{
    World, asset, hello, items, named, requests_per_day, requests_per_minute, tokens,
};

/// Global: 50 requests a minute, 1,000 tokens a day. Of the asset: 200 output tokens a minute, 10 requests a day.
async fn ci(world: &World) -> crate::world::Member {
    let global = Limits::builder().requests_per_minute(50).tokens_per_day(1_000).build().unwrap();
    let limits =
        Limits::builder().requests_per_day(10).output_tokens_per_minute(200).build().unwrap();
    world.member(named("ci").with_global(global).with_asset(asset("gpt-5"), limits)).await
}

async fn answers(dialect: Dialect) -> (crate::world::Answer, crate::world::Answer) {
    let world = World::new().await;
    let layer = world
        .layer()
        .dialects([dialect])
        .charge(|_| Ok(tokens(20, 120)))
        .asset(|_| Ok(Some(asset("gpt-5"))));
    let service = hello(layer.build()).await;
    let ci = ci(&world).await;
    let (allowed, denied) = (service.call(&ci).await, service.call(&ci).await);
    assert_eq!((allowed.status.as_u16(), denied.status.as_u16()), (200, 429));
    (allowed, denied)
}

fn owned(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
    parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn the_draft_lists_every_limit_and_first_the_one_that_binds() {
    let (allowed, denied) = answers(Dialect::Ietf).await;
    let policies = [
        ("permin".to_owned(), owned(&[("q", "50"), ("w", "60")])),
        ("tokens-perday".to_owned(), owned(&[("q", "1000"), ("qu", "tokens"), ("w", "86400")])),
        (
            "asset-output-tokens-permin".to_owned(),
            owned(&[("q", "200"), ("qu", "output-tokens"), ("w", "60")]),
        ),
        ("asset-perday".to_owned(), owned(&[("q", "10"), ("w", "86400")])),
    ];
    assert_eq!(items(&allowed.headers, "ratelimit-policy"), policies);
    assert_eq!(items(&denied.headers, "ratelimit-policy"), policies);
    // The first item has the smallest share left, and is the limit that the second call violates. Clients that read one
    // item wait as long as `Retry-After`.
    let limits = [
        ("asset-output-tokens-permin".to_owned(), owned(&[("r", "80"), ("t", "31")])),
        ("permin".to_owned(), owned(&[("r", "49"), ("t", "31")])),
        ("tokens-perday".to_owned(), owned(&[("r", "860"), ("t", "43231")])),
        ("asset-perday".to_owned(), owned(&[("r", "9"), ("t", "43231")])),
    ];
    assert_eq!(items(&allowed.headers, "ratelimit"), limits);
    assert_eq!(items(&denied.headers, "ratelimit"), limits);
    assert_eq!(denied.header("retry-after"), Some("31"));
}

/// Clients that read one item of a denied call get a wait that is long enough.
#[tokio::test]
async fn the_draft_lists_violated_limits_first_and_of_these_the_one_to_wait_for() {
    let world = World::new().await;
    let layer = world.layer().charge(|_| Ok(tokens(60, 0))).asset(|_| Ok(Some(asset("gpt-5"))));
    let service = hello(layer.build()).await;
    let global = Limits::builder().requests_per_day(9).tokens_per_minute(100).build().unwrap();
    let limits = Limits::builder().requests_per_day(1).tokens_per_day(500).build().unwrap();
    let config = named("ci").with_global(global).with_asset(asset("gpt-5"), limits);
    let ci = world.member(config).await;
    assert_eq!(service.call(&ci).await.status, 200);
    let denied = service.call(&ci).await;
    let listed = items(&denied.headers, "ratelimit").into_iter().map(|(name, _)| name);
    let expected = ["asset-perday", "tokens-permin", "perday", "asset-tokens-perday"];
    assert_eq!(listed.collect::<Vec<_>>(), expected);
    assert_eq!(denied.header("retry-after"), Some("43231"));
}

/// Credits are no unit of the dialects, and a limit for ever has no reset.
#[tokio::test]
async fn limits_of_credits_and_limits_for_ever_are_left_out() {
    let world = World::new().await;
    let all = [Dialect::Ietf, Dialect::Legacy, Dialect::OpenAi, Dialect::Anthropic];
    let layer = world.layer().dialects(all).charge(|_| Ok(tokens(20, 120)));
    let service = hello(layer.build()).await;
    let one = Credits::whole(1).unwrap();
    let limits = Limits::builder()
        .credits_per_day(one)
        .credits_ever(one)
        .limit(Window::Ever, Unit::Requests, 1)
        .limit(Window::Ever, Unit::Tokens, 140);
    let hidden = limits.clone().build().unwrap();
    let ci = world.member(named("hidden").with_global(hidden)).await;
    for status in [200, 429] {
        let answer = service.call(&ci).await;
        assert_eq!(answer.status, status);
        let mut names = answer.headers.keys().map(|name| name.as_str());
        assert!(!names.any(|name| name.contains("ratelimit")), "{answer:?}");
    }
    let shown = limits.requests_per_hour(9).input_tokens_per_month(50).build().unwrap();
    let ci = world.member(named("shown").with_global(shown)).await;
    for (status, requests, input) in [(200, "8", "30"), (429, "8", "30")] {
        let answer = service.call(&ci).await;
        assert_eq!(answer.status, status);
        let policies =
            r#""perhour";q=9;w=3600, "input-tokens-permonth";q=50;qu="input-tokens";w=2678400"#;
        assert_eq!(answer.header("ratelimit-policy"), Some(policies));
        let of = |name: &str| answer.header(&format!("anthropic-ratelimit-{name}-remaining"));
        assert_eq!((of("requests"), of("input-tokens")), (Some(requests), Some(input)));
        assert_eq!((of("tokens"), of("output-tokens")), (Some(input), None));
        assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some(input));
    }
}

#[tokio::test]
async fn the_example_of_the_draft_is_written_as_there() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(50))).await;
    let answer = service.call(&ci).await;
    assert_eq!(answer.header("ratelimit-policy"), Some(r#""permin";q=50;w=60"#));
    assert_eq!(answer.header("ratelimit"), Some(r#""permin";r=49;t=31"#));
}

#[tokio::test]
async fn the_earlier_drafts_know_one_limit() {
    let (allowed, denied) = answers(Dialect::Legacy).await;
    for answer in [allowed, denied] {
        assert_eq!(answer.header("ratelimit-limit"), Some("200"));
        assert_eq!(answer.header("ratelimit-remaining"), Some("80"));
        assert_eq!(answer.header("ratelimit-reset"), Some("31"));
    }
}

#[tokio::test]
async fn openais_clients_read_requests_and_tokens() {
    let (allowed, denied) = answers(Dialect::OpenAi).await;
    for answer in [allowed, denied] {
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("10"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("9"));
        assert_eq!(answer.header("x-ratelimit-reset-requests"), Some("12h0m31s"));
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("200"));
        assert_eq!(answer.header("x-ratelimit-remaining-tokens"), Some("80"));
        assert_eq!(answer.header("x-ratelimit-reset-tokens"), Some("31s"));
    }
}

#[tokio::test]
async fn anthropics_clients_read_tokens_by_type_and_instants() {
    let (allowed, denied) = answers(Dialect::Anthropic).await;
    for answer in [allowed, denied] {
        let header = |name: &str| answer.header(&format!("anthropic-ratelimit-{name}"));
        assert_eq!(header("requests-limit"), Some("10"));
        assert_eq!(header("requests-remaining"), Some("9"));
        assert_eq!(header("requests-reset"), Some("2026-01-02T00:00:00Z"));
        assert_eq!(header("tokens-limit"), Some("200"));
        assert_eq!(header("tokens-remaining"), Some("80"));
        assert_eq!(header("tokens-reset"), Some("2026-01-01T12:00:00Z"));
        assert_eq!(header("output-tokens-limit"), Some("200"));
        assert_eq!(header("output-tokens-remaining"), Some("80"));
        assert_eq!(header("output-tokens-reset"), Some("2026-01-01T12:00:00Z"));
        assert_eq!(header("input-tokens-limit"), None);
    }
}

/// Other calls use 15 of 30 requests a minute: a smaller share is left than of the asset's three requests a day.
/// Remaining numbers must not jump from 14 to 1.
#[tokio::test]
async fn remaining_requests_and_tokens_count_down_to_the_limit_that_is_met_first() {
    for world in World::on_each_store().await {
        let layer = world
            .layer()
            .dialects([Dialect::OpenAi, Dialect::Anthropic])
            .charge(|_| Ok(tokens(200, 50)))
            .asset(|_| Ok(Some(asset("gpt-5"))));
        let service = hello(layer.build()).await;
        let limits = Limits::builder;
        let global = limits().requests_per_minute(30).input_tokens_per_minute(6_000);
        let global = global.build().unwrap();
        let limits = limits().requests_per_day(3).input_tokens_per_day(600).build().unwrap();
        let ci = named("ci").with_global(global).with_asset(asset("gpt-5"), limits);
        let ci = world.member(ci).await;
        let others = tokens(3_000, 0).with_requests(15).unwrap();
        let elsewhere = world.limiter.check_and_consume(&ci.id, None, &others).await.unwrap();
        assert!(elsewhere.is_allowed());
        for (status, requests, tokens) in
            [(200, "2", "400"), (200, "1", "200"), (200, "0", "0"), (429, "0", "0")]
        {
            let answer = service.call(&ci).await;
            assert_eq!(answer.status.as_u16(), status);
            for (name, remaining) in [
                ("x-ratelimit-remaining-requests", requests),
                ("x-ratelimit-remaining-tokens", tokens),
                ("anthropic-ratelimit-requests-remaining", requests),
                ("anthropic-ratelimit-tokens-remaining", tokens),
                ("anthropic-ratelimit-input-tokens-remaining", tokens),
                ("x-ratelimit-limit-requests", "3"),
                ("x-ratelimit-limit-tokens", "600"),
                ("x-ratelimit-reset-requests", "12h0m31s"),
                ("anthropic-ratelimit-input-tokens-limit", "600"),
            ] {
                assert_eq!(answer.header(name), Some(remaining), "{name}: {answer:?}");
            }
        }
    }
}

/// After the call, 2 are left of both limits: the smaller limit is shown. Of equal limits it is the first rule, global
/// before asset.
#[tokio::test]
async fn of_equal_rests_that_of_the_smaller_limit_is_shown() {
    for (asset_limit, reset) in [(3, "12h0m31s"), (5, "31s")] {
        let world = World::new().await;
        let layer = world.layer().dialects([Dialect::OpenAi]).asset(|_| Ok(Some(asset("gpt-5"))));
        let service = hello(layer.build()).await;
        let config = named("ci").with_global(requests_per_minute(5));
        let config = config.with_asset(asset("gpt-5"), requests_per_day(asset_limit));
        let ci = world.member(config).await;
        for _ in 0..5 - asset_limit {
            let call = tokens(0, 0);
            assert!(
                world.limiter.check_and_consume(&ci.id, None, &call).await.unwrap().is_allowed()
            );
        }
        let answer = service.call(&ci).await;
        let shown = ["limit", "remaining", "reset"]
            .map(|what| answer.header(&format!("x-ratelimit-{what}-requests")).unwrap());
        assert_eq!(shown, [&*asset_limit.to_string(), &*(asset_limit - 1).to_string(), reset]);
    }
}

#[tokio::test]
async fn dialects_can_be_combined_or_left_out() {
    let world = World::new().await;
    let ci = world.member(named("ci").with_global(requests_per_minute(50))).await;
    let all = [Dialect::Ietf, Dialect::Legacy, Dialect::OpenAi, Dialect::Anthropic];
    let names = [
        "ratelimit",
        "ratelimit-limit",
        "x-ratelimit-limit-requests",
        "anthropic-ratelimit-requests-limit",
    ];
    let answer = hello(world.layer().dialects(all).build()).await.call(&ci).await;
    assert!(names.iter().all(|name| answer.header(name).is_some()), "{answer:?}");
    let answer = hello(world.layer().dialects([]).build()).await.call(&ci).await;
    assert!(names.iter().all(|name| answer.header(name).is_none()), "{answer:?}");
}

#[tokio::test]
async fn a_call_that_meets_no_limit_has_no_headers() {
    let world = World::new().await;
    let all = [Dialect::Ietf, Dialect::Legacy, Dialect::OpenAi, Dialect::Anthropic];
    let service = hello(world.layer().dialects(all).build()).await;
    let free = world.member(named("free")).await;
    let answer = service.call(&free).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.keys().any(|name| name.as_str().contains("ratelimit")), "{answer:?}");
}

#[tokio::test]
async fn headers_of_the_service_give_way() {
    let world = World::new().await;
    let upstream = [("x-ratelimit-limit-requests", "999999"), ("x-request-id", "abc")];
    let router = axum::Router::new().fallback(move || async move { (upstream, "hello") });
    let layer = world.layer().dialects([Dialect::OpenAi]).build();
    let service = crate::world::serve(router.layer(layer)).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(50))).await;
    let answer = service.call(&ci).await;
    assert_eq!(answer.headers.get_all("x-ratelimit-limit-requests").iter().count(), 1);
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("50"));
    assert_eq!(answer.header("x-request-id"), Some("abc"));
}
