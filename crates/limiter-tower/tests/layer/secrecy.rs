//! An access key is shown nowhere.

use std::time::Duration;

use limiter::{AccessKey, Charge};
use limiter_test_servers::{Log, Proxy, RedisServer};
use limiter_tower::{Caller, RateLimitLayer, Settlement};
use tracing::Level;

use crate::world::{Service, World, bearer, hello, named, requests_per_minute, tokens};

#[tokio::test]
async fn no_debug_output_and_no_answer_shows_an_access_key() {
    let world = World::new().await;
    let ci = world.member(named("ci")).await;
    let layer: RateLimitLayer = world.layer().build();
    let service = hello(layer.clone()).await;
    assert_eq!(service.call(&ci).await.status, 200);
    world.limiter.keys_as(&world.admin).delete(&ci.id).await.unwrap();
    let refused = service.send("/", &[("authorization", &bearer(&ci.access_key))]).await;
    assert_eq!(refused.status, 401);

    let caller = Caller::from(ci.access_key.clone());
    let secret = ci.access_key.expose();
    for shown in [format!("{layer:?}"), format!("{caller:?}"), format!("{refused:?}")] {
        // Neither whole nor in the part that a mask hides.
        assert!(!shown.contains(&secret[4..secret.len() - 4]), "{shown}");
    }
}

/// One thread, so that all of it is heard: the server, the layer, the store and the client.
#[tokio::test(flavor = "current_thread")]
async fn no_line_of_the_log_has_an_access_key_whatever_becomes_of_the_call() {
    let log = Log::listen(Level::TRACE);
    let redis = RedisServer::run();
    let proxy = Proxy::to(&redis.address());
    let world = World::on_redis(&proxy.url()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(4))).await;
    let secret = ci.access_key.expose();
    let (misspelt, cut) = (format!("{}x", &secret[1..]), &secret[..AccessKey::MIN_LENGTH - 1]);
    // Where it belongs, and where somebody puts it by mistake.
    let path = format!("/models/{secret}?key={secret}");
    let layer = || world.layer().asset_in_path(|path| path.strip_prefix("/models/"));
    let plain = hello(layer().build()).await;
    let settled =
        hello(layer().reserve(|_| Ok(tokens(5, 100)), |_| Settlement::Keep).build()).await;
    let call = async |service: &Service, access_key: &str| {
        let answer =
            service.send(&path, &[("authorization", &format!("Bearer {access_key}"))]).await;
        answer.status.as_u16()
    };

    assert_eq!(call(&plain, secret).await, 200, "allowed");
    assert_eq!(call(&settled, secret).await, 200, "allowed and reserved");
    for access_key in [&misspelt, cut] {
        assert_eq!(call(&plain, access_key).await, 401, "unknown");
    }
    proxy.lose_next_reply();
    assert_eq!(call(&plain, secret).await, 503, "its answer is lost");
    proxy.forward();
    // The one before was charged, and reached no threshold.
    assert_eq!(call(&plain, secret).await, 200, "the last that is allowed");
    for service in [&plain, &settled] {
        assert_eq!(call(service, secret).await, 429, "denied");
    }
    // The store goes away while a call is served: it cannot be settled, and no other can be decided.
    let without_store = move |_: &http::response::Parts| {
        redis.kill();
        Settlement::Cancel
    };
    let dying = hello(layer().reserve(|_| Ok(Charge::request()), without_store).build()).await;
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(call(&dying, secret).await, 200, "not settled");
    for (service, access_key) in [(&plain, secret), (&settled, secret), (&plain, &misspelt)] {
        assert_eq!(call(service, access_key).await, 503, "without a store");
    }

    let log = log.text();
    for told in
        ["a call was refused because it could not be decided", "a call could not be settled"]
    {
        assert!(log.contains(told), "{told} is expected in\n{log}");
    }
    // In the middle of all that came, and in what a mask hides.
    let part = &secret[4..12];
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(part)).collect();
    assert!(lines.is_empty(), "{lines:#?}");
}
