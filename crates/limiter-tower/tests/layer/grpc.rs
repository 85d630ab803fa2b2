//! The layer on a tonic server, called by a tonic client.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut};
use http::Request as HttpRequest;
use limiter::{NewKey, Totals};
use limiter_tower::{RateLimitLayer, Settlement};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::client::Grpc as Client;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc as Server, NamedService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tower::{Service, service_fn};

use crate::world::{
    Member, World, at, bearer, named, requests_per_minute, tokens, tokens_per_minute,
};

#[tokio::test]
async fn a_call_within_its_limits_is_answered_with_headers() {
    let world = World::new().await;
    let address = serve(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(5))).await;
    let answer = call(address, Some(&ci), "hello").await.unwrap();
    assert_eq!(answer.get_ref(), "hello");
    assert_eq!(answer.metadata().get("ratelimit").unwrap(), r#""permin";r=4;t=31"#);
}

#[tokio::test]
async fn a_limited_call_gets_resource_exhausted_and_a_retry_time() {
    let world = World::new().await;
    let address = serve(world.layer().build()).await;
    let ci = world.member(named("ci").with_global(requests_per_minute(1))).await;
    call(address, Some(&ci), "hello").await.unwrap();
    let status = call(address, Some(&ci), "hello").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains(": 1 of 1 requests per minute are used"), "{status:?}");
    assert_eq!(status.metadata().get("retry-after").unwrap(), "31");
    assert!(status.metadata().get("x-should-retry").is_none());
    assert_eq!(status.metadata().get("ratelimit-policy").unwrap(), r#""permin";q=1;w=60"#);
    assert_eq!(status.metadata().get("ratelimit").unwrap(), r#""permin";r=0;t=31"#);
}

#[tokio::test]
async fn a_message_may_have_any_characters() {
    let world = World::new().await;
    let layer = world.layer().asset(|_| Ok(Some("100% «é»".parse()?))).build();
    let address = serve(layer).await;
    let limits = requests_per_minute(0);
    let ci = world.member(named("ci").with_asset("100% «é»".parse().unwrap(), limits)).await;
    let status = call(address, Some(&ci), "hello").await.unwrap_err();
    assert!(status.message().contains("100% «é»"), "{status:?}");
}

#[tokio::test]
async fn who_has_no_key_that_lives_is_unauthenticated() {
    let world = World::new().await;
    let address = serve(world.layer().build()).await;
    let old = world.member(named("old").with_expiry(at("2025-12-31T00:00:00Z"))).await;
    for member in [None, Some(&old)] {
        let status = call(address, member, "hello").await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert_eq!(status.metadata().get("www-authenticate").unwrap(), "Bearer");
        assert_eq!(status.metadata().get("x-should-retry").unwrap(), "false");
    }
}

#[tokio::test]
async fn an_admin_key_is_denied_its_permission() {
    let world = World::new().await;
    let address = serve(world.layer().build()).await;
    let admin = world.create(NewKey::admin(named("second"))).await;
    let status = call(address, Some(&admin), "hello").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_exhausted_budget_is_an_exhausted_resource() {
    let world = World::new().await;
    let layer = world.layer().charge(|_| Ok(tokens(0, 0).with_credits("1".parse()?))).build();
    let address = serve(layer).await;
    let ci = world.member(named("ci").with_budget("0.5".parse().unwrap())).await;
    let status = call(address, Some(&ci), "hello").await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("0.50 credits in all"), "{status:?}");
}

#[tokio::test]
async fn what_cannot_be_a_charge_is_an_invalid_argument_and_who_cannot_be_asked_is_unavailable() {
    let world = World::new().await;
    let ci = world.member(named("ci")).await;
    let address = serve(world.layer().asset(|_| Ok(Some("".parse()?))).build()).await;
    let status = call(address, Some(&ci), "hello").await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let failing = world.layer().caller_async(|_| async { Err("no directory".into()) });
    let address = serve(failing.build()).await;
    let status = call(address, Some(&ci), "hello").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_call_over_grpc_is_settled_when_its_trailers_are_sent() {
    let world = World::new().await;
    let actual = Totals::unchanged().with_output_tokens(7).unwrap();
    let layer = world.layer().reserve(|_| Ok(tokens(5, 100)), move |_| Settlement::Settle(actual));
    let address = serve(layer.build()).await;
    let ci = world.member(named("ci").with_global(tokens_per_minute(1_000))).await;
    call(address, Some(&ci), "hello").await.unwrap();
    assert_eq!(world.tokens_used(&ci).await, 5 + 7);
    // A status without a message: there is no body to end.
    call(address, Some(&ci), "fail").await.unwrap_err();
    assert_eq!(world.tokens_used(&ci).await, 2 * (5 + 7));
}

async fn serve(layer: RateLimitLayer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().layer(layer).add_service(Echo);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}

async fn call(
    address: SocketAddr,
    member: Option<&Member>,
    text: &str,
) -> Result<Response<String>, Status> {
    let channel: Channel =
        Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut client = Client::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(text.to_owned());
    if let Some(member) = member {
        let authorization = bearer(&member.access_key).parse().unwrap();
        request.metadata_mut().insert("authorization", authorization);
    }
    client.unary(request, "/test.Echo/Say".parse().unwrap(), Text).await
}

/// A service that echoes its request, and fails on `fail`.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

impl Service<HttpRequest<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let say = service_fn(|request: Request<String>| async {
            match request.into_inner().as_str() {
                "fail" => Err(Status::aborted("as told")),
                text => Ok(Response::new(text.to_owned())),
            }
        });
        Box::pin(async move { Ok(Server::new(Text).unary(say, request).await) })
    }
}

/// A codec of UTF-8 messages, so that no protobuf is needed.
#[derive(Clone, Copy)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining()).to_vec();
        String::from_utf8(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
