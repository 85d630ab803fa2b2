//! The limited methods: all unless chosen, and never `OPTIONS`.

use axum::routing::any;
use axum::{Extension, Router};
use http::Method;
use limiter_tower::{Admitted, Dialect, Settlement};

use crate::world::{World, hello, named, requests_per_minute, serve, tokens};

/// A CORS preflight has no access key. Browsers send it before each call that is not in their preflight cache.
#[tokio::test]
async fn a_preflight_needs_no_key_and_is_never_limited() {
    for world in World::on_each_store().await {
        let ci = world.member(named("ci").with_global(requests_per_minute(2))).await;
        let all = [Dialect::Ietf, Dialect::Legacy, Dialect::OpenAi, Dialect::Anthropic];
        let plain = || world.layer().dialects(all);
        let keep = |_: &http::response::Parts| Settlement::Keep;
        for (configuration, layer) in [
            ("default", plain()),
            ("chosen", plain().methods([Method::POST])),
            ("named", plain().methods([Method::OPTIONS, Method::POST])),
            ("reserving", plain().reserve(|_| Ok(tokens(1, 1)), keep)),
            ("later", plain().caller_async(|_| async { Err("the directory is down".into()) })),
            ("unreadable", plain().asset_in_path(|path| path.strip_prefix('/'))),
        ] {
            let service = hello(layer.build()).await;
            let key = ("x-api-key", ci.access_key.expose());
            for headers in [&[][..], &[key], &[("x-api-key", "a-key-that-nobody-has")]] {
                let answer = service.request(Method::OPTIONS, "/a%zz", headers).await;
                assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
                let told = |name: &str| name.contains("ratelimit") || name.contains("retry");
                let told = answer.headers.keys().any(|name| told(name.as_str()));
                assert!(!told, "{configuration}: {answer:?}");
            }
        }
        assert_eq!(world.requests_used(&ci).await, 0);
    }
}

#[tokio::test]
async fn every_method_but_options_is_limited_by_default() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(20))).await;
    let extension = Method::from_bytes(b"PURGE").unwrap();
    // Methods are case-sensitive: this one is different.
    let small = Method::from_bytes(b"options").unwrap();
    let methods =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, extension, small];
    for (made, method) in methods.into_iter().enumerate() {
        let key = ("x-api-key", ci.access_key.expose());
        assert_eq!(service.request(method.clone(), "/", &[]).await.status, 401, "{method}");
        assert_eq!(service.request(method.clone(), "/", &[key]).await.status, 200, "{method}");
        assert_eq!(world.requests_used(&ci).await, made as u64 + 1);
    }
}

#[tokio::test]
async fn only_the_methods_that_are_chosen_are_limited() {
    for world in World::on_each_store().await {
        let router =
            Router::new().fallback(any(|admitted: Option<Extension<Admitted>>| async move {
                if admitted.is_some() { "limited" } else { "free" }
            }));
        let layer = world.layer().methods([Method::POST, Method::PUT]).tell_service();
        let service = serve(router.layer(layer.build())).await;
        let ci = world.member(named("ci").with_global(requests_per_minute(2))).await;
        let key = ("x-api-key", ci.access_key.expose());
        // A list of models, say: anyone may read it, and it takes nothing from the limit.
        for headers in [&[][..], &[key], &[("authorization", "Bearer of nothing")]] {
            for method in [Method::GET, Method::DELETE] {
                let answer = service.request(method, "/", headers).await;
                assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"free"[..]));
                assert!(answer.header("ratelimit").is_none(), "{answer:?}");
            }
        }
        assert_eq!(service.request(Method::POST, "/", &[]).await.status, 401);
        for (method, status) in [(Method::POST, 200), (Method::PUT, 200), (Method::POST, 429)] {
            let answer = service.request(method, "/", &[key]).await;
            assert_eq!(answer.status.as_u16(), status);
            assert!(answer.header("ratelimit").is_some(), "{answer:?}");
            assert_eq!(status == 200, &answer.body[..] == b"limited");
        }
    }
}

/// A router sends HEAD to the handler for GET. Without a limit on HEAD, clients could run it without bound.
#[tokio::test]
async fn head_is_limited_with_get() {
    let world = World::new().await;
    let service = hello(world.layer().methods([Method::GET]).build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(1))).await;
    let key = ("x-api-key", ci.access_key.expose());
    assert_eq!(service.request(Method::HEAD, "/", &[key]).await.status, 200);
    assert_eq!(service.request(Method::HEAD, "/", &[key]).await.status, 429);
    assert_eq!(service.request(Method::GET, "/", &[key]).await.status, 429);
    assert_eq!(service.request(Method::POST, "/", &[key]).await.status, 200);
    assert_eq!(world.requests_used(&ci).await, 1);
}
