//! A service is called only after it said that it is ready, and only once for each time.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use limiter_tower::Caller;
use tokio::time::timeout;
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service, ServiceExt};

use crate::world::{World, named, requests_per_minute};

/// Panics when it is called without having been ready. A clone is not ready, as that of a service with permits.
#[derive(Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<Request<Empty<Bytes>>> for Strict {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called before it was ready");
        ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn a_service_is_called_when_it_is_ready_however_long_a_decision_takes() {
    let world = World::new().await;
    let ci = world.member(named("ci").with_global(requests_per_minute(4))).await;
    let at_once = world.layer().build();
    let caller = ci.access_key.clone();
    let later = world.layer().caller_async(move |_| {
        let caller = Caller::from(caller.clone());
        async {
            tokio::task::yield_now().await;
            Ok(Some(caller))
        }
    });
    for layer in [at_once, later.build()] {
        let mut service = layer.layer(Strict::default());
        for _ in 0..2 {
            let call = Request::builder().header("x-api-key", ci.access_key.expose());
            let call = call.body(Empty::new()).unwrap();
            let response = service.ready().await.unwrap().call(call).await.unwrap();
            assert_eq!(response.status(), 200);
        }
    }
    assert_eq!(world.requests_used(&ci).await, 4);
}

/// Cannot be cloned, whatever its type says.
struct Single;

impl Clone for Single {
    fn clone(&self) -> Self {
        panic!("a clone is not needed")
    }
}

impl Service<Request<Empty<Bytes>>> for Single {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Empty<Bytes>>) -> Self::Future {
        ready(Ok(Response::default()))
    }
}

#[tokio::test]
async fn a_decision_in_memory_calls_the_service_without_a_clone() {
    let world = World::new().await;
    let ci = world.member(named("ci").with_global(requests_per_minute(2))).await;
    let mut service = world.layer().build().layer(Single);
    for _ in 0..2 {
        let call = Request::builder().header("x-api-key", ci.access_key.expose());
        let call = call.body(Empty::new()).unwrap();
        let response = service.ready().await.unwrap().call(call).await.unwrap();
        assert_eq!(response.status(), 200);
    }
}

/// The service takes the permit when it becomes ready, for a call that it then never gets.
#[tokio::test]
async fn a_refused_call_gives_back_the_permit_of_the_service_behind() {
    let world = World::new().await;
    let ci = world.member(named("ci").with_global(requests_per_minute(1))).await;
    let later = world.layer().caller_async({
        let caller = Caller::from(ci.access_key.clone());
        move |_| {
            let caller = caller.clone();
            async {
                tokio::task::yield_now().await;
                Ok(Some(caller))
            }
        }
    });
    let call = || {
        let call = Request::builder().header("x-api-key", ci.access_key.expose());
        call.body(Empty::<Bytes>::new()).unwrap()
    };
    let mut statuses = Vec::new();
    for layer in [world.layer().build(), later.build()] {
        let one_at_a_time = ConcurrencyLimit::new(Strict::default(), 1);
        let mut first = layer.layer(one_at_a_time);
        let mut second = first.clone();
        for _ in 0..3 {
            // Both services live on, like those of two connections.
            for service in [&mut first, &mut second] {
                let ready = timeout(PATIENCE, service.ready()).await.expect("the permit is free");
                statuses.push(ready.unwrap().call(call()).await.unwrap().status().as_u16());
            }
        }
    }
    assert_eq!(statuses, [[200].as_slice(), &[429; 11]].concat());
}

/// A permit that is not given back is held forever.
const PATIENCE: Duration = Duration::from_secs(5);
