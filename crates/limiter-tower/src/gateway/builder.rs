//! The builder of a gateway's layer.

use std::sync::Arc;

use http::HeaderName;
use limiter::{Limiter, PriceTable};

use super::config::{GatewayConfig, GatewayOptions};
use super::layer::GatewayLayer;
use crate::builder::{LayerBuilder, RateLimitLayerBuilder, X_API_KEY};
use crate::caller::Credential;
use crate::dialect::Dialect;
use crate::error_format::ErrorFormat;
use crate::function::Function;

/// Makes a [`GatewayLayer`]; each setting has a default.
///
/// A panic in a function of yours is handled [as in any layer](RateLimitLayerBuilder).
pub type GatewayLayerBuilder = LayerBuilder<GatewayOptions>;

impl LayerBuilder<GatewayOptions> {
    /// 32 MiB, the largest request that Anthropic's API accepts: enough for pictures and documents in base64. Each call
    /// in progress may hold that much memory.
    pub const MAX_BODY_BYTES: usize = 32 << 20;

    pub(crate) fn for_gateway(limiter: Limiter, format: ErrorFormat, dialect: Dialect) -> Self {
        let options = GatewayOptions {
            format,
            prices: PriceTable::default(),
            tokenizer: None,
            max_body_bytes: Self::MAX_BODY_BYTES,
            caps_estimates: false,
            ends_at_limit: false,
            sends_bound: false,
            asks_for_usage: true,
        };
        let headers = [X_API_KEY, API_KEY, X_GOOG_API_KEY].map(Credential::Header);
        RateLimitLayerBuilder::new(limiter)
            .credentials([Credential::Bearer].into_iter().chain(headers))
            .dialects([Dialect::Ietf, dialect])
            .with_options(options)
    }

    /// Charges credits by the price of the model. By default calls cost no credits. Calls of a model without a price
    /// cost none: an entry `"*"` in the table prices all models.
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.options.prices = prices;
        self
    }

    /// Counts text by this function, for example a tokenizer, in requests and in answers whose usage the provider does not
    /// report. By default [`tokens_of_text`](limiter::stream::tokens_of_text), a token for each 4 bytes.
    pub fn counting_by<F>(mut self, tokenizer: F) -> Self
    where
        F: Fn(&str) -> u64 + Send + Sync + 'static,
    {
        self.options.tokenizer = Some(Function(Arc::new(tokenizer)));
        self
    }

    /// Reserves no more output than the whole limit: see [`reserve_estimated`](Limiter::reserve_estimated). By default
    /// a call whose maximum exceeds a limit is denied.
    pub fn capping_estimates(mut self) -> Self {
        self.options.caps_estimates = true;
        self
    }

    /// Ends a stream at the limit, instead of charging what exceeds it: see
    /// [`StreamMeter::ending_at_limit`](limiter::stream::StreamMeter::ending_at_limit). The last event is an error in the format of
    /// the API. Answers that do not stream, or are compressed, are passed on whole.
    pub fn ending_at_limit(mut self) -> Self {
        self.options.ends_at_limit = true;
        self
    }

    /// Sends the reserved output to the provider as the maximum, so that no answer costs more. By default the provider
    /// gets the caller's maximum.
    ///
    /// A request without a maximum gets one of [1,000 tokens](limiter::Estimate::DEFAULT_OUTPUT_TOKENS), which cuts longer
    /// answers.
    pub fn sending_bound(mut self) -> Self {
        self.options.sends_bound = true;
        self
    }

    /// Does not set `stream_options.include_usage`, for providers that refuse it. Without it, most streams of chat
    /// completions and completions report no usage, and their text is counted. By default it is set if the caller did
    /// not set it, and the extra chunk of the provider is removed.
    pub fn without_asking_for_usage(mut self) -> Self {
        self.options.asks_for_usage = false;
        self
    }

    /// Sets the largest size of a request body; [`MAX_BODY_BYTES`](Self::MAX_BODY_BYTES) by default. A larger one is
    /// refused with 413.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.options.max_body_bytes = bytes;
        self
    }

    /// Builds the layer.
    #[must_use]
    pub fn build(self) -> GatewayLayer {
        let (shared, options) = self.into_parts();
        GatewayLayer::new(Arc::new(GatewayConfig { shared, options }))
    }
}

const API_KEY: HeaderName = HeaderName::from_static("api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
