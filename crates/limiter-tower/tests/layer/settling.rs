//! Calls that are charged by an estimate, and settled when the body of their response ends.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use limiter::Totals;
use limiter_test_servers::until_async;
use limiter_tower::{BodyEnd, RateLimitLayer, ResponseCost, Settlement};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::world::{Member, World, bearer, named, serve, tokens, tokens_per_minute};

/// A cost of one output token for each line, however the body ends.
#[derive(Default)]
struct Lines {
    output_tokens: u64,
}

impl ResponseCost for Lines {
    fn data(&mut self, data: &Bytes) {
        self.output_tokens += data.iter().filter(|byte| **byte == b'\n').count() as u64;
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(used) = trailers.get("x-used") {
            self.output_tokens = used.to_str().unwrap().parse().unwrap();
        }
    }

    fn settlement(&mut self, _: BodyEnd) -> Settlement {
        Totals::unchanged().with_output_tokens(self.output_tokens).unwrap().into()
    }
}

fn lines_of(_: &response::Parts) -> Lines {
    Lines::default()
}

/// A body of several parts without a known length.
struct Streamed(VecDeque<Result<Frame<Bytes>, io::Error>>);

impl Streamed {
    fn new(parts: impl IntoIterator<Item = Result<Frame<Bytes>, io::Error>>) -> Self {
        Self(parts.into_iter().collect())
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(self.0.pop_front())
    }
}

/// A body that a test writes while it is sent.
struct Written(mpsc::UnboundedReceiver<Bytes>);

impl Body for Written {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

fn part(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn broken() -> Result<Frame<Bytes>, io::Error> {
    Err(io::Error::other("the upstream went away"))
}

/// Creates a service that streams three lines.
fn three_lines() -> Router {
    streaming(|| [part("one\n"), part("two\n"), part("three\n")])
}

fn streaming<P>(parts: fn() -> P) -> Router
where
    P: IntoIterator<Item = Result<Frame<Bytes>, io::Error>> + 'static,
{
    Router::new()
        .fallback(any(move || async move { axum::body::Body::new(Streamed::new(parts())) }))
}

/// Creates a layer that reserves 5 tokens in and 100 out, and settles one for each line.
fn counting_lines(world: &World) -> RateLimitLayer {
    world.layer().reserve(|_| Ok(tokens(5, 100)), lines_of).build()
}

async fn member(world: &World) -> Member {
    world.member(named("ci").with_global(tokens_per_minute(1_000))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_settled_when_its_body_has_ended() {
    for world in World::on_each_store().await {
        let service = serve(three_lines().layer(counting_lines(&world))).await;
        let ci = member(&world).await;
        let answer = service.call(&ci).await;
        assert_eq!(&answer.body[..], b"one\ntwo\nthree\n");
        assert_eq!(world.tokens_used(&ci).await, 5 + 3);
    }
}

#[tokio::test]
async fn headers_show_the_limits_as_the_estimate_left_them() {
    let world = World::new().await;
    let service = serve(three_lines().layer(counting_lines(&world))).await;
    let ci = member(&world).await;
    let answer = service.call(&ci).await;
    assert_eq!(answer.header("ratelimit"), Some(r#""tokens-permin";r=895;t=31"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_known_length_is_settled_before_its_last_part_is_sent() {
    for world in World::on_each_store().await {
        let router = Router::new().fallback(any(|| async { "one\ntwo\n" }));
        let service = serve(router.layer(counting_lines(&world))).await;
        let ci = member(&world).await;
        let answer = service.call(&ci).await;
        assert_eq!(answer.header("content-length"), Some("8"));
        assert_eq!(world.tokens_used(&ci).await, 5 + 2);
    }
}

#[tokio::test]
async fn a_response_without_a_body_is_settled() {
    let world = World::new().await;
    let router = Router::new().fallback(any(|| async { StatusCode::NO_CONTENT }));
    let service = serve(router.layer(counting_lines(&world))).await;
    let ci = member(&world).await;
    assert_eq!(service.call(&ci).await.status, 204);
    eventually(&world, &ci, 5).await;
}

#[tokio::test]
async fn the_head_of_a_response_may_report_the_cost() {
    let world = World::new().await;
    let router = Router::new().fallback(any(|| async { ([("x-used", "42")], "one\ntwo\n") }));
    let in_head = |parts: &response::Parts| {
        let used = parts.headers["x-used"].to_str().unwrap().parse().unwrap();
        Totals::unchanged().with_input_tokens(7).unwrap().with_output_tokens(used).unwrap()
    };
    let layer = world.layer().reserve(|_| Ok(tokens(5, 100)), in_head).build();
    let service = serve(router.layer(layer)).await;
    let ci = member(&world).await;
    assert_eq!(service.call(&ci).await.status, 200);
    assert_eq!(world.tokens_used(&ci).await, 7 + 42);
}

#[tokio::test]
async fn trailers_may_report_the_cost() {
    let world = World::new().await;
    let trailers = || {
        let trailers = [("x-used".parse().unwrap(), "42".parse().unwrap())];
        [part("one\n"), Ok(Frame::trailers(trailers.into_iter().collect()))]
    };
    let service =
        counting_lines(&world).layer(service_fn(move |_: Request<Empty<Bytes>>| async move {
            Ok::<_, Infallible>(Response::new(Streamed::new(trailers())))
        }));
    let ci = member(&world).await;
    let response = service.oneshot(request(&ci)).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert!(collected.trailers().is_some());
    assert_eq!(world.tokens_used(&ci).await, 5 + 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_says_so_takes_the_charge_back() {
    for world in World::on_each_store().await {
        let router =
            Router::new().fallback(any(|| async { (StatusCode::BAD_GATEWAY, "no upstream") }));
        let cancel = |parts: &response::Parts| match parts.status.is_server_error() {
            true => Settlement::Cancel,
            false => Settlement::Keep,
        };
        let layer = world.layer().reserve(|_| Ok(tokens(5, 100)), cancel).build();
        let service = serve(router.layer(layer)).await;
        let ci = member(&world).await;
        assert_eq!(service.call(&ci).await.status, 502);
        assert_eq!((world.tokens_used(&ci).await, world.requests_used(&ci).await), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_estimate_charges_nothing() {
    for world in World::on_each_store().await {
        let service = serve(three_lines().layer(counting_lines(&world))).await;
        let small = world.member(named("small").with_global(tokens_per_minute(104))).await;
        let answer = service.call(&small).await;
        assert_eq!(
            (answer.status, &answer.problem()["reason"]),
            (StatusCode::TOO_MANY_REQUESTS, &"rate_limited".into())
        );
        assert_eq!(world.tokens_used(&small).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_in_mid_stream_pays_for_what_was_sent() {
    for world in World::on_each_store().await {
        let (writer, written) = mpsc::unbounded_channel();
        let written = Arc::new(std::sync::Mutex::new(Some(written)));
        let router = Router::new().fallback(any(move || async move {
            axum::body::Body::new(Written(written.lock().unwrap().take().unwrap()))
        }));
        let service = serve(router.layer(counting_lines(&world))).await;
        let ci = member(&world).await;

        let mut client = TcpStream::connect(service.address).await.unwrap();
        let head = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n",
            bearer(&ci.access_key)
        );
        client.write_all(head.as_bytes()).await.unwrap();
        writer.send(Bytes::from_static(b"one\ntwo\n")).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"two\n\r\n") {
            client.read_buf(&mut seen).await.unwrap();
        }
        assert_eq!(world.tokens_used(&ci).await, 5 + 100, "the call goes on");
        drop(client);
        eventually(&world, &ci, 5 + 2).await;
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_settled_by_what_was_sent() {
    let world = World::new().await;
    let service = streaming(|| [part("one\n"), broken(), part("never sent\n")]);
    let mut service = service.layer(counting_lines(&world)).into_service::<axum::body::Body>();
    let ci = member(&world).await;
    let response = service.ready().await.unwrap().call(request(&ci)).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(world.tokens_used(&ci).await, 5 + 1);
}

/// Bodies end in three ways, and a `ResponseCost` decides the settlement for each.
#[tokio::test]
async fn a_cost_gets_the_end_of_the_body() {
    struct Strict;
    impl ResponseCost for Strict {
        fn settlement(&mut self, end: BodyEnd) -> Settlement {
            let totals = |output| Totals::unchanged().with_output_tokens(output).unwrap().into();
            match end {
                BodyEnd::Complete => totals(1),
                BodyEnd::Failed => totals(2),
                BodyEnd::Dropped => Settlement::Keep,
                other => panic!("{other:?}"),
            }
        }
    }
    let world = World::new().await;
    let layer = world.layer().reserve(|_| Ok(tokens(0, 100)), |_| Strict).build();
    let service = layer.layer(service_fn(|request: Request<Empty<Bytes>>| async move {
        let second = if request.uri() == "/broken" { broken() } else { part("two") };
        Ok::<_, Infallible>(Response::new(Streamed::new([part("one"), second])))
    }));
    for (path, read, output_tokens) in [("/", true, 1), ("/broken", true, 2), ("/", false, 100)] {
        let ci = world
            .member(named(&format!("{path} {read}")).with_global(tokens_per_minute(1_000)))
            .await;
        let mut request = request(&ci);
        *request.uri_mut() = path.parse().unwrap();
        let mut body = service.clone().oneshot(request).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        if read {
            let _ = body.collect().await;
        } else {
            drop(body);
        }
        assert_eq!(world.tokens_used(&ci).await, output_tokens, "{path} {read}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_service_keeps_the_estimate_by_default() {
    for world in World::on_each_store().await {
        for (settlement, used) in [
            (None, (105, 1)),
            (Some(Settlement::Cancel), (0, 0)),
            (Some(Totals::unchanged().with_output_tokens(0).unwrap().into()), (5, 1)),
        ] {
            let mut layer = world.layer().reserve(|_| Ok(tokens(5, 100)), lines_of);
            if let Some(settlement) = settlement {
                layer = layer.on_service_error(settlement);
            }
            let service = layer.build().layer(service_fn(|_: Request<Empty<Bytes>>| async {
                Err::<Response<Full<Bytes>>, _>(io::Error::other("connection refused"))
            }));
            let ci = world
                .member(named(&format!("{used:?}")).with_global(tokens_per_minute(1_000)))
                .await;
            let error = service.oneshot(request(&ci)).await.unwrap_err();
            assert_eq!(error.to_string(), "connection refused");
            assert_eq!((world.tokens_used(&ci).await, world.requests_used(&ci).await), used);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_before_the_response_pays_the_estimate() {
    for world in World::on_each_store().await {
        let reached = Arc::new(Notify::new());
        let upstream = Arc::clone(&reached);
        let service = counting_lines(&world).layer(service_fn(move |_: Request<Empty<Bytes>>| {
            upstream.notify_one();
            std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
        }));
        let ci = member(&world).await;
        tokio::select! {
            response = service.oneshot(request(&ci)) => panic!("{:?}", response.map(|_| ())),
            () = reached.notified() => {}
        }
        assert_eq!(world.tokens_used(&ci).await, 5 + 100);
    }
}

fn request<B: Default>(member: &Member) -> Request<B> {
    Request::builder().header("x-api-key", member.access_key.expose()).body(B::default()).unwrap()
}

/// Waits until the key has used this many tokens: a server notices late that its client has gone.
async fn eventually(world: &World, member: &Member, tokens: u64) {
    let settled = async || world.tokens_used(member).await == tokens;
    until_async(format_args!("{tokens} tokens are charged"), settled).await;
}
