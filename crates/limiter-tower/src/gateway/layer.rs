//! The layer of a gateway: one configuration for all services that it wraps.

use std::sync::Arc;

use tower_layer::Layer;

use super::config::GatewayConfig;
use super::service::Gateway;

/// Puts a [`Limiter`](limiter::Limiter) in front of a service that forwards calls to an LLM provider. Made by
/// [`RateLimitLayer::for_openai`](crate::RateLimitLayer::for_openai) and
/// [`for_anthropic`](crate::RateLimitLayer::for_anthropic).
///
/// A `POST` to a path of a provider's [`Api`](limiter::stream::Api), such as `/v1/chat/completions`, `/v1/responses`,
/// `/v1/embeddings` or `/v1/messages`, is limited by its tokens:
/// 1. The caller is identified from the head of the request. Without a known key the body is not read.
/// 2. The body is read, up to [a bound](super::GatewayLayerBuilder::max_body_bytes). The asset is its `model`, or that
///    of the path for Gemini and Azure. The largest answer that it allows is [reserved](limiter::Limiter::reserve), or
///    [1,000 tokens](limiter::Estimate::DEFAULT_OUTPUT_TOKENS) if it has no maximum (16 for legacy completions).
/// 3. The service gets the request with the same bytes. Only `stream_options.include_usage` is added to a stream of OpenAI's
///    chat completions or completions if the caller did not set it, and a maximum
///    [if chosen](super::GatewayLayerBuilder::sending_bound). `Accept-Encoding` is removed, since a compressed answer cannot
///    be read: compress outside of this layer.
/// 4. The answer is counted while it is sent, and the call is settled when it ends or the client leaves: see
///    [`AnswerReader`](limiter::stream::AnswerReader) and [`StreamMeter`](limiter::stream::StreamMeter). An answer without a success
///    status costs nothing. The usage chunk is removed from a stream if the caller did not ask for it.
///
/// Any other limited call, such as `GET /v1/models`, is charged one request without an asset. So route only the paths
/// that you offer. `OPTIONS` is not limited.
///
/// A refusal has the error format of the called API ([`ErrorFormat`](crate::ErrorFormat)), so that the official SDKs
/// show message and code.
///
/// ```
/// use axum::{Router, routing::post};
/// use limiter::Limiter;
/// use limiter_tower::RateLimitLayer;
///
/// # async fn forward() {}
/// let layer = RateLimitLayer::for_openai(Limiter::in_memory()).ending_at_limit().build();
/// let gateway: Router = Router::new().route("/v1/chat/completions", post(forward)).layer(layer);
/// ```
///
/// # Bounds
/// Each call in progress holds its request body until the service has taken it. The server must bound the time that a
/// client takes to send it.
#[derive(Clone, Debug)]
pub struct GatewayLayer {
    config: Arc<GatewayConfig>,
}

impl GatewayLayer {
    pub(super) const fn new(config: Arc<GatewayConfig>) -> Self {
        Self { config }
    }
}

impl<S> Layer<S> for GatewayLayer {
    type Service = Gateway<S>;

    fn layer(&self, service: S) -> Gateway<S> {
        Gateway::new(service, self.config.clone())
    }
}
