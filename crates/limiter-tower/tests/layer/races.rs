//! Many calls at once: together they get what the limit allows, and no more.

use http::StatusCode;
use tokio::task::JoinSet;

use crate::world::{World, bearer, hello, named, requests_per_minute};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_calls_at_once_exactly_the_limit_is_admitted() {
    let world = World::new().await;
    let service = hello(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(100))).await;
    let authorization = bearer(&ci.access_key);
    let mut callers = JoinSet::new();
    for _ in 0..TASKS {
        let (service, authorization) = (service.clone(), authorization.clone());
        callers.spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..CALLS {
                statuses.push(service.send("/", &[("authorization", &authorization)]).await.status);
            }
            statuses
        });
    }
    let statuses = callers.join_all().await.concat();
    let count = |status| statuses.iter().filter(|other| **other == status).count();
    assert_eq!(count(StatusCode::OK), 100);
    assert_eq!(count(StatusCode::TOO_MANY_REQUESTS), TASKS * CALLS - 100);
    assert_eq!(world.requests_used(&ci).await, 100);
}

const TASKS: usize = 64;
const CALLS: usize = 5;
