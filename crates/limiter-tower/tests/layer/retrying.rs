//! Retry advice for refused calls, as the SDKs of OpenAI and Anthropic read it.

use std::time::Duration;

use http::request::Parts;
use limiter::store::BoxError;
use limiter::{Limits, NewKey};
use limiter_tower::Retry;

use crate::world::{
    Answer, Member, World, asset, at, bearer, hello, named, requests_per_day, requests_per_minute,
    tokens, tokens_per_minute,
};

/// `Retry-After` and `x-should-retry`.
fn advice(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (answer.header("retry-after"), answer.header("x-should-retry"))
}

#[tokio::test]
async fn clients_wait_for_a_minute_and_not_for_a_day() {
    for world in World::on_each_store().await {
        let service = hello(world.layer().build()).await;
        let by_minute = world.member(named("minute").with_global(requests_per_minute(1))).await;
        let by_day = world.member(named("day").with_global(requests_per_day(1))).await;
        for (member, expected) in
            [(&by_minute, (Some("31"), None)), (&by_day, (Some("43231"), Some("false")))]
        {
            let allowed = service.call(member).await;
            assert_eq!((allowed.status.as_u16(), advice(&allowed)), (200, (None, None)));
            let denied = service.call(member).await;
            assert_eq!((denied.status.as_u16(), advice(&denied)), (429, expected));
        }
    }
}

/// The longest wait for a limit per minute is a whole minute, which is the default bound.
#[tokio::test]
async fn a_whole_minute_is_within_the_bound() {
    let world = World::new().await;
    world.clock.set(at("2026-01-01T12:00:00Z"));
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(0))).await;
    assert_eq!(advice(&service.call(&ci).await), (None, Some("false")), "it never fits");
    let ci = world.member(named("one").with_global(requests_per_minute(1))).await;
    service.call(&ci).await;
    assert_eq!(advice(&service.call(&ci).await), (Some("60"), None));
    assert_eq!(Retry::BOUND, Duration::from_secs(60));
}

#[tokio::test]
async fn the_bound_of_the_wait_can_be_set() {
    let world = World::new().await;
    let ci = world.member(named("ci").with_global(requests_per_minute(1))).await;
    for (bound, advised) in [
        (Duration::from_secs(31), None),
        (Duration::from_millis(30_999), Some("false")),
        (Duration::ZERO, Some("false")),
        (Duration::MAX, None),
    ] {
        let service = hello(world.layer().retry_bound(bound).build()).await;
        service.call(&ci).await;
        assert_eq!(advice(&service.call(&ci).await), (Some("31"), advised), "{bound:?}");
    }
    let service = hello(world.layer().retry_bound(Duration::MAX).build()).await;
    let never = world.member(named("never").with_global(requests_per_minute(0))).await;
    assert_eq!(advice(&service.call(&never).await), (None, Some("false")));
}

#[tokio::test]
async fn what_waiting_does_not_change_is_not_repeated() {
    let world = World::new().await;
    let price = |_: &Parts| Ok(tokens(10, 0).with_credits("0.6".parse()?));
    let layer = world.layer().charge(price).asset_in_path(|path| path.strip_prefix("/v1/"));
    let service = hello(layer.build()).await;
    let ask = async |member: &Member, path: &str| {
        service.send(path, &[("authorization", &bearer(&member.access_key))]).await
    };
    let free = world.member(named("free")).await;
    let old = world.member(named("old").with_expiry(at("2025-12-31T00:00:00Z"))).await;
    let admin = world.create(NewKey::admin(named("second"))).await;
    let small = world.member(named("small").with_global(tokens_per_minute(9))).await;
    let poor = world.member(named("poor").with_budget("0.5".parse().unwrap())).await;
    let long = format!("/v1/{}", "x".repeat(257));
    for (answer, status) in [
        (service.send("/", &[]).await, 401),
        (service.send("/", &[("x-api-key", "a-key-that-nobody-has")]).await, 401),
        (ask(&old, "/").await, 401),
        (ask(&admin, "/").await, 403),
        (ask(&poor, "/").await, 402),
        (ask(&small, "/").await, 429),
        (ask(&free, &long).await, 400),
        (ask(&free, "/v1/gpt%").await, 400),
    ] {
        assert_eq!(
            (answer.status.as_u16(), advice(&answer)),
            (status, (None, Some("false"))),
            "{answer:?}"
        );
    }
}

/// The wait is for the last of the violated limits.
#[tokio::test]
async fn the_longest_of_the_waits_counts() {
    let world = World::new().await;
    let layer = world.layer().asset(|_| Ok(Some(asset("gpt-5"))));
    let service = hello(layer.build()).await;
    let limits = Limits::builder().requests_per_minute(1).requests_per_day(1).build().unwrap();
    let ci = world.member(named("ci").with_asset(asset("gpt-5"), limits)).await;
    service.call(&ci).await;
    assert_eq!(advice(&service.call(&ci).await), (Some("43231"), Some("false")));
}

#[tokio::test]
async fn a_directory_that_is_down_may_be_asked_again() {
    let world = World::new().await;
    let identify = |_: &Parts| async { Err(BoxError::from("the directory is down")) };
    let service = hello(world.layer().caller_async(identify).build()).await;
    let answer = service.send("/", &[]).await;
    assert_eq!((answer.status.as_u16(), advice(&answer)), (503, (Some("1"), None)));
}

/// After a bug in the service, the result of a retry is unknown.
#[tokio::test]
async fn a_panic_says_nothing_about_the_next_call() {
    let world = World::new().await;
    let broken = world.layer().asset(|_| panic!("as the test wants it"));
    let service = hello(broken.build()).await;
    let ci = world.member(named("ci")).await;
    let answer = service.call(&ci).await;
    assert_eq!((answer.status.as_u16(), advice(&answer)), (500, (None, None)));
}
