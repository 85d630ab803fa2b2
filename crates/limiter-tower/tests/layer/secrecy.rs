//! An access key is shown nowhere.

use limiter_tower::{Caller, RateLimitLayer};

use crate::world::{World, bearer, hello, named};

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
