//! Identification of the caller and the asset, and the call as the service sees it.

use axum::routing::any;
use axum::{Extension, Router};
use http::HeaderName;
use http::request::Parts;
use limiter::KeyId;
use limiter_tower::{Admitted, Caller, Credential};

use crate::world::{
    World, asset, bearer, hello, named, requests_per_minute, serve, tokens, tokens_per_minute,
};

#[tokio::test]
async fn an_access_key_comes_as_bearer_token_or_in_x_api_key() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci")).await;
    let (bearer, plain) = (bearer(&ci.access_key), ci.access_key.expose());
    assert_eq!(service.send("/", &[("authorization", &bearer)]).await.status, 200);
    assert_eq!(service.send("/", &[("x-api-key", plain)]).await.status, 200);
    let both = [("x-api-key", plain), ("authorization", "Basic bm9ib2R5")];
    assert_eq!(service.send("/", &both).await.status, 200);
}

#[tokio::test]
async fn the_first_credential_that_a_call_has_counts() {
    let world = World::new().await;
    let [one, other] = [world.member(named("one")).await, world.member(named("other")).await];
    let credentials =
        [Credential::Header(HeaderName::from_static("x-team-key")), Credential::Bearer];
    let service = hello(world.layer().credentials(credentials).build()).await;
    let stranger =
        [("x-team-key", "a-key-that-nobody-has"), ("authorization", &bearer(&one.access_key))];
    assert_eq!(service.send("/", &stranger).await.status, 401);
    let known = [("x-team-key", other.access_key.expose()), ("authorization", "Bearer nonsense")];
    assert_eq!(service.send("/", &known).await.status, 200);
    let elsewhere = [("x-api-key", one.access_key.expose())];
    assert_eq!(service.send("/", &elsewhere).await.status, 401);
}

#[tokio::test]
async fn a_service_may_authenticate_its_callers_itself() {
    let world = World::new().await;
    let ci = world.member(named("ci").with_global(requests_per_minute(9))).await;
    let user = |parts: &Parts| {
        let id = parts.headers.get("x-user")?.to_str().ok()?;
        id.parse::<KeyId>().ok().map(Caller::from)
    };
    let at_once = hello(world.layer().caller(user).build()).await;
    let later = world.layer().caller_async(move |parts| {
        let caller = user(parts);
        async {
            tokio::task::yield_now().await;
            Ok(caller)
        }
    });
    let later = hello(later.build()).await;
    for service in [at_once, later] {
        assert_eq!(service.send("/", &[("x-user", ci.id.as_str())]).await.status, 200);
        assert_eq!(service.send("/", &[("x-user", "nobody")]).await.status, 401);
        assert_eq!(service.send("/", &[]).await.status, 401);
    }
    assert_eq!(world.requests_used(&ci).await, 2);
}

#[tokio::test]
async fn a_function_may_find_the_access_key() {
    let world = World::new().await;
    let ci = world.member(named("ci")).await;
    let in_query = |parts: &Parts| {
        let access_key = parts.uri.query()?.strip_prefix("key=")?;
        access_key.parse().ok().map(Caller::AccessKey)
    };
    let service = hello(world.layer().caller(in_query).build()).await;
    assert_eq!(service.send(&format!("/?key={}", ci.access_key.expose()), &[]).await.status, 200);
    assert_eq!(service.send("/?key=a-key-that-nobody-has", &[]).await.status, 401);
}

#[tokio::test]
async fn an_asset_is_found_in_path_or_header_and_limited_alone() {
    let world = World::new().await;
    let config = named("ci").with_asset(asset("gpt-5"), requests_per_minute(1));
    let ci = world.member(config).await;
    let in_path = world.layer().asset_in_path(|path| path.strip_prefix("/v1/"));
    let in_path = hello(in_path.build()).await;
    let in_header = world.layer().asset_in_header(HeaderName::from_static("x-model"));
    let in_header = hello(in_header.build()).await;
    let key = ("x-api-key", ci.access_key.expose());
    assert_eq!(in_path.send("/v1/gpt-5", &[key]).await.status, 200);
    assert_eq!(in_path.send("/v1/gpt-5", &[key]).await.status, 429);
    assert_eq!(in_header.send("/", &[key, ("x-model", "gpt-5")]).await.status, 429);
    assert_eq!(in_header.send("/", &[key, ("x-model", "gpt-6")]).await.status, 200);
    assert_eq!(in_header.send("/", &[key]).await.status, 200);
}

#[tokio::test]
async fn a_service_gets_the_admitted_call_if_it_asks_for_it() {
    let world = World::new().await;
    let ci = world.member(named("ci").with_global(tokens_per_minute(1_000))).await;
    let router = || {
        Router::new().fallback(any(|admitted: Option<Extension<Admitted>>| async move {
            match admitted {
                None => "nothing".to_owned(),
                Some(Extension(admitted)) => {
                    format!("{} {}", admitted.key, admitted.reservation.is_some())
                }
            }
        }))
    };
    let silent = serve(router().layer(world.layer().build())).await;
    assert_eq!(&silent.call(&ci).await.body[..], b"nothing");
    let telling = serve(router().layer(world.layer().tell_service().build())).await;
    assert_eq!(telling.call(&ci).await.body, format!("{} false", ci.id));
    let keep = |_: &http::response::Parts| limiter_tower::Settlement::Keep;
    let reserving = world.layer().reserve(|_| Ok(tokens(1, 1)), keep).tell_service();
    let reserving = serve(router().layer(reserving.build())).await;
    assert_eq!(reserving.call(&ci).await.body, format!("{} true", ci.id));
}
