//! The layer: one configuration for all the services that it is put around.

use std::sync::Arc;

use limiter::Limiter;
use tower_layer::Layer;

use crate::builder::RateLimitLayerBuilder;
use crate::config::Config;
use crate::dialect::Dialect;
use crate::error_format::ErrorFormat;
use crate::gateway::GatewayLayerBuilder;
use crate::service::RateLimit;

/// Puts a [`Limiter`] in front of a service: see the [crate](crate).
///
/// Clones share one configuration. It is a [`Layer`] for axum's `Router::layer`, tonic's `Server::layer` and
/// tower's `ServiceBuilder`.
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    config: Arc<Config>,
}

impl RateLimitLayer {
    /// A layer that looks for access keys as bearer tokens or in `x-api-key`, charges each call one request, and shows
    /// [`Dialect::Ietf`](crate::Dialect::Ietf).
    #[must_use]
    pub fn new(limiter: Limiter) -> Self {
        Self::builder(limiter).build()
    }

    /// A layer with settings of your own.
    pub fn builder(limiter: Limiter) -> RateLimitLayerBuilder {
        RateLimitLayerBuilder::new(limiter)
    }

    /// Builds a layer for a gateway to OpenAI's API or a compatible one: see [`GatewayLayer`](crate::GatewayLayer).
    ///
    /// Refusals on paths without an [`Api`](limiter::stream::Api) have OpenAI's format. The headers are those of
    /// [`Dialect::Ietf`](crate::Dialect::Ietf) and [`Dialect::OpenAi`](crate::Dialect::OpenAi).
    pub fn for_openai(limiter: Limiter) -> GatewayLayerBuilder {
        GatewayLayerBuilder::for_gateway(limiter, ErrorFormat::OpenAi, Dialect::OpenAi)
    }

    /// Builds a layer for a gateway to Anthropic's API: as [`for_openai`](Self::for_openai), with Anthropic's format
    /// and headers.
    pub fn for_anthropic(limiter: Limiter) -> GatewayLayerBuilder {
        GatewayLayerBuilder::for_gateway(limiter, ErrorFormat::Anthropic, Dialect::Anthropic)
    }

    pub(crate) const fn with_config(config: Arc<Config>) -> Self {
        Self { config }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, service: S) -> RateLimit<S> {
        RateLimit::new(service, self.config.clone())
    }
}
