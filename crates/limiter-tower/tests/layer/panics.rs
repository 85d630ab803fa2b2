//! Panics of the service's code inside of the layer: no call and no charge is lost, and the process goes on.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use limiter::store::BoxError;
use limiter_test_servers::Log;
use limiter_tower::{
    BodyEnd, Caller, Dialect, Refusal, ResponseCost, Retry, Settlement, StatusMap,
};
use tower::{Layer, ServiceExt, service_fn};
use tracing::Level;

use crate::world::{Member, World, hello, named, serve, tokens, tokens_per_minute};

const STANDS: &str = "its estimate stands as charged";

async fn member(world: &World) -> Member {
    world.member(named("ci").with_global(tokens_per_minute(1_000))).await
}

#[tokio::test]
async fn a_call_that_cannot_be_read_for_a_panic_is_refused_and_not_charged() {
    let world = World::new().await;
    let ci = member(&world).await;
    let keep = |_: &response::Parts| Settlement::Keep;
    let at_once = |_: &http::request::Parts| -> std::future::Ready<Result<_, BoxError>> {
        panic!("identify")
    };
    let later = |_: &http::request::Parts| async {
        tokio::task::yield_now().await;
        if true {
            panic!("identify")
        }
        Ok::<Option<Caller>, BoxError>(None)
    };
    for (name, layer) in [
        ("identify", world.layer().caller(|_| panic!("identify"))),
        ("identify", world.layer().caller_async(at_once)),
        ("identify", world.layer().caller_async(later)),
        ("asset", world.layer().asset(|_| panic!("asset"))),
        ("asset", world.layer().asset_in_path(|_| panic!("asset in path"))),
        ("charge", world.layer().charge(|_| panic!("charge"))),
        ("reserve", world.layer().reserve(|_| panic!("estimate"), keep)),
    ] {
        let log = Log::listen(Level::TRACE);
        let service = hello(layer.build()).await;
        for _ in 0..3 {
            let answer = service.call(&ci).await;
            let problem = answer.problem();
            assert_eq!((answer.status.as_u16(), &problem["reason"]), (500, &"internal".into()));
        }
        let text = log.text();
        let lines = text.lines().filter(|line| line.contains("has panicked"));
        assert!(lines.clone().count() <= 1, "{name}: {text}");
        assert!(lines.clone().all(|line| line.contains(name)), "{name}: {text}");
    }
    assert_eq!((world.requests_used(&ci).await, world.tokens_used(&ci).await), (0, 0));
}

#[test]
fn over_grpc_a_panic_is_an_internal_error() {
    let refusal = Refusal::Panicked("asset");
    let response = refusal.to_grpc_response(&[Dialect::Ietf], Retry::BOUND);
    assert_eq!(response.headers()["grpc-status"], "13");
    assert_eq!(StatusMap::new().of(&refusal), 500);
}

/// A cost that panics in the methods chosen, and counts its calls of `settlement`.
#[derive(Clone, Default)]
struct Panics {
    in_data: bool,
    in_trailers: bool,
    in_settlement: bool,
    settlements: Arc<AtomicUsize>,
}

impl ResponseCost for Panics {
    fn data(&mut self, _: &Bytes) {
        assert!(!self.in_data, "data");
    }

    fn trailers(&mut self, _: &HeaderMap) {
        assert!(!self.in_trailers, "trailers");
    }

    fn settlement(&mut self, _: BodyEnd) -> Settlement {
        self.settlements.fetch_add(1, Ordering::Relaxed);
        assert!(!self.in_settlement, "settlement");
        Settlement::Cancel
    }
}

/// A body of some data and trailers, with an end or a panic after them.
struct Parts {
    left: Vec<Frame<Bytes>>,
    panics: bool,
}

impl Parts {
    fn new(panics: bool) -> Self {
        let trailers = [("x-used".parse().unwrap(), "1".parse().unwrap())];
        let data = Frame::data(Bytes::from_static(b"one"));
        let trailers = Frame::trailers(trailers.into_iter().collect());
        Self { left: if panics { vec![data] } else { vec![trailers, data] }, panics }
    }
}

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.left.pop();
        assert!(part.is_some() || !self.panics, "the body panics");
        Poll::Ready(part.map(Ok))
    }
}

/// Calls once a service of this body and cost, and returns the answer.
async fn answer(
    world: &World,
    member: &Member,
    cost: Panics,
    panics: bool,
) -> limiter_tower::ResponseBody<Parts> {
    let layer = world.layer().reserve(|_| Ok(tokens(5, 100)), move |_| cost.clone()).build();
    let service = layer.layer(service_fn(move |_: Request<Empty<Bytes>>| async move {
        Ok::<_, Infallible>(Response::new(Parts::new(panics)))
    }));
    let request = Request::builder().header("x-api-key", member.access_key.expose());
    service.oneshot(request.body(Empty::new()).unwrap()).await.unwrap().into_body()
}

#[tokio::test]
async fn an_answer_whose_cost_panics_goes_on_and_keeps_its_estimate() {
    let everywhere =
        Panics { in_data: true, in_trailers: true, in_settlement: true, ..Panics::default() };
    for (cost, settlements) in [
        (Panics { in_data: true, ..Panics::default() }, 0),
        (Panics { in_trailers: true, ..Panics::default() }, 0),
        (Panics { in_settlement: true, ..Panics::default() }, 1),
        (everywhere, 0),
    ] {
        let (world, log) = (World::new().await, Log::listen(Level::TRACE));
        let ci = member(&world).await;
        let asked = Arc::clone(&cost.settlements);
        let body = answer(&world, &ci, cost, false).await.collect().await.unwrap();
        assert!(body.trailers().is_some());
        assert_eq!(body.to_bytes(), "one");
        assert_eq!(asked.load(Ordering::Relaxed), settlements);
        assert_eq!(world.tokens_used(&ci).await, 105);
        let text = log.text();
        assert!(text.contains(STANDS) && text.contains(&format!("key={}", ci.id)), "{text}");
    }
}

#[tokio::test]
async fn a_response_whose_cost_cannot_be_begun_is_answered_and_keeps_its_estimate() {
    let (world, log) = (World::new().await, Log::listen(Level::TRACE));
    let ci = member(&world).await;
    let cost = |_: &response::Parts| -> Settlement { panic!("cost") };
    let layer = world.layer().reserve(|_| Ok(tokens(5, 100)), cost).build();
    let service = serve(Router::new().fallback(any(|| async { "hello" })).layer(layer)).await;
    let answer = service.call(&ci).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
    assert!(answer.header("ratelimit").is_some());
    assert_eq!(world.tokens_used(&ci).await, 105);
    assert!(log.text().contains(STANDS), "{}", log.text());
}

/// The body is dropped as by a leaving client; a second panic in the drop would abort the process.
#[tokio::test]
async fn an_answer_that_is_dropped_with_a_cost_that_panics_keeps_its_estimate() {
    for in_data in [false, true] {
        let (world, log) = (World::new().await, Log::listen(Level::TRACE));
        let ci = member(&world).await;
        let cost = Panics { in_data, in_settlement: true, ..Panics::default() };
        let mut body = answer(&world, &ci, cost, false).await;
        assert!(body.frame().await.unwrap().is_ok());
        drop(body);
        assert_eq!(world.tokens_used(&ci).await, 105);
        assert!(log.text().contains(STANDS), "{}", log.text());
    }
}

/// The cost would panic too: it is not called, and the process does not abort.
#[tokio::test]
async fn an_answer_that_is_dropped_in_a_panic_asks_no_cost_and_keeps_its_estimate() {
    let (world, log) = (World::new().await, Log::listen(Level::TRACE));
    let ci = member(&world).await;
    let cost = Panics { in_settlement: true, ..Panics::default() };
    let asked = Arc::clone(&cost.settlements);
    let body = answer(&world, &ci, cost, true).await;
    let reading = tokio::spawn(body.collect());
    assert!(reading.await.unwrap_err().is_panic());
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert_eq!(world.tokens_used(&ci).await, 105);
    let text = log.text();
    assert!(text.contains(STANDS) && text.contains(&format!("key={}", ci.id)), "{text}");
}
