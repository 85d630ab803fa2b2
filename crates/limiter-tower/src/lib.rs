//! [`limiter`] in front of a service: a [tower](tower_layer) layer for axum, hyper and tonic.
//!
//! The layer identifies the caller, asks a [`Limiter`](limiter::Limiter), and lets the call through or answers it. No rule is
//! written here: it reads requests and renders decisions.
//!
//! ```
//! use axum::Router;
//! use axum::body::Body;
//! use axum::http::Request;
//! use axum::routing::get;
//! use limiter::{KeyConfig, Limiter, Limits, NewKey};
//! use limiter_tower::{Dialect, RateLimitLayer};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limiter = Limiter::in_memory();
//! let limits = Limits::builder().requests_per_day(1).build()?;
//! let config = KeyConfig::named("ci")?.with_asset("gpt-5".parse()?, limits);
//! let key = limiter.workspace("team-a")?.create(NewKey::member(config)).await?;
//! let access_key = key.access_key.expect("it is generated");
//!
//! let layer = RateLimitLayer::builder(limiter)
//!     .asset_in_path(|path| path.strip_prefix("/v1/chat/"))
//!     .dialects([Dialect::Ietf, Dialect::OpenAi])
//!     .build();
//! let service = Router::new().route("/v1/chat/{model}", get(|| async { "Hello" })).layer(layer);
//!
//! let call = || {
//!     let request = Request::get("/v1/chat/gpt-5").header("x-api-key", access_key.expose());
//!     service.clone().oneshot(request.body(Body::empty()).expect("a request"))
//! };
//! let answer = call().await?;
//! assert_eq!(answer.status(), 200);
//! assert_eq!(answer.headers()["x-ratelimit-remaining-requests"], "0");
//!
//! let answer = call().await?;
//! assert_eq!(answer.status(), 429);
//! assert_eq!(answer.headers()["content-type"], "application/problem+json");
//! assert!(answer.headers().contains_key("retry-after"));
//! # Ok(())
//! # }
//! ```
//!
//! # Calls whose cost is known only afterwards
//! [`reserve`](RateLimitLayerBuilder::reserve) charges a call by its estimate and settles it when the body of its response
//! ends, by the settlement that a [`ResponseCost`] returns after head, body and trailers.
//!
//! # Gateways to LLM providers
//! [`RateLimitLayer::for_openai`] and [`for_anthropic`](RateLimitLayer::for_anthropic) read the bodies of requests and
//! answers. They find key, model, cost and usage without functions of yours. See [`GatewayLayer`].
//!
//! ```
//! # use axum::{Router, routing::post};
//! # use limiter::Limiter;
//! # use limiter_tower::RateLimitLayer;
//! # async fn forward() {}
//! let layer = RateLimitLayer::for_openai(Limiter::in_memory()).build();
//! let gateway: Router = Router::new()
//!     .route("/v1/chat/completions", post(forward))
//!     .route("/v1/messages", post(forward))
//!     .layer(layer);
//! ```
//!
//! # Calls that are not limited
//! `OPTIONS` bypasses the layer, because browsers send it without an access key. If
//! [`methods`](RateLimitLayerBuilder::methods) are chosen, all others bypass it too.
//!
//! # Calls that are refused
//! A [`Refusal`] is answered with a status ([`StatusMap`]), `Retry-After` and `x-should-retry` ([`Retry`]), headers
//! ([`Dialect`]) and a [`Problem`] in the body; by a gateway's layer in the [`ErrorFormat`] of the API. A denial by a group of the
//! key names the group. A call over gRPC, by its
//! `content-type`, gets a gRPC status instead, with the same headers:
//! `RESOURCE_EXHAUSTED`, `UNAUTHENTICATED`, `PERMISSION_DENIED`, `INVALID_ARGUMENT`, `UNAVAILABLE` or `INTERNAL`. A store that cannot
//! answer refuses the call: no error is ever an allow.
//!
//! # Without the layer
//! [`Dialect::write`], [`Retry::write`], [`Refusal::to_response`], [`Refusal::to_api_response`] and [`Problem`] are functions of
//! a decision, for services that ask the limiter themselves.
//!
//! # Bounds and secrets
//! Only the head of a request is read, whose size the server must bound. A gateway's layer reads the body too, up to
//! [a bound](GatewayLayerBuilder::max_body_bytes). An access key of more than 256 bytes is ignored. No access key is
//! kept, logged or shown in an error.

mod any_body;
mod body;
mod builder;
mod caller;
mod config;
mod decide;
mod dialect;
mod error_format;
mod function;
mod future;
mod gateway;
mod grpc;
mod kind;
mod layer;
#[cfg(test)]
mod messages;
mod path;
mod problem;
mod refusal;
mod retry;
mod service;
mod settlement;
mod standing;
mod status;

pub use body::ResponseBody;
pub use builder::{LayerBuilder, RateLimitLayerBuilder};
pub use caller::{Caller, Credential};
pub use decide::Admitted;
pub use dialect::{Dialect, policy_name};
pub use error_format::ErrorFormat;
pub use future::ResponseFuture;
pub use gateway::{
    Gateway, GatewayBody, GatewayLayer, GatewayLayerBuilder, GatewayOptions, WithoutUsageChunk,
};
pub use layer::RateLimitLayer;
pub use problem::Problem;
pub use refusal::Refusal;
pub use retry::Retry;
pub use service::RateLimit;
pub use settlement::{BodyEnd, ResponseCost, Settlement};
pub use standing::Standing;
pub use status::StatusMap;
