//! The builder of a gateway's layer.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, Method};
use limiter::{BoxError, Limiter, PriceTable};

use super::config::{GatewayConfig, Options};
use super::layer::GatewayLayer;
use crate::builder::{RateLimitLayerBuilder, X_API_KEY};
use crate::caller::{Caller, Credential};
use crate::dialect::Dialect;
use crate::error_format::ErrorFormat;
use crate::settlement::Settlement;
use crate::status::StatusMap;

/// Makes a [`GatewayLayer`]; each setting has a default.
///
/// A panic in a function of yours is handled [as in any layer](RateLimitLayerBuilder).
#[derive(Debug)]
#[must_use]
pub struct GatewayLayerBuilder {
    shared: RateLimitLayerBuilder,
    options: Options,
}

impl GatewayLayerBuilder {
    /// 32 MiB, the largest request that Anthropic's API accepts: enough for pictures and documents in base64. Each call
    /// in progress may hold that much memory.
    pub const MAX_BODY_BYTES: usize = 32 << 20;

    pub(crate) fn new(limiter: Limiter, format: ErrorFormat, dialect: Dialect) -> Self {
        let options = Options {
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
        let shared = RateLimitLayerBuilder::new(limiter)
            .credentials([Credential::Bearer].into_iter().chain(headers))
            .dialects([Dialect::Ietf, dialect]);
        Self { shared, options }
    }

    /// Charges credits by the price of the model. By default calls cost no credits. Calls of a model without a price
    /// cost none: an entry `"*"` in the table prices all models.
    pub fn prices(mut self, prices: PriceTable) -> Self {
        self.options.prices = prices;
        self
    }

    /// Counts text by this function, for example a tokenizer, in requests and in answers whose usage the provider does not
    /// report. By default [`tokens_of_text`](limiter::tokens_of_text), a token for each 4 bytes.
    pub fn counting_by<F>(mut self, tokenizer: F) -> Self
    where
        F: Fn(&str) -> u64 + Send + Sync + 'static,
    {
        self.options.tokenizer = Some(Arc::new(tokenizer));
        self
    }

    /// Reserves no more output than the whole limit: see [`reserve_estimated`](Limiter::reserve_estimated). By default
    /// a call whose maximum exceeds a limit is denied.
    pub fn capping_estimates(mut self) -> Self {
        self.options.caps_estimates = true;
        self
    }

    /// Ends a stream at the limit, instead of charging what exceeds it: see
    /// [`StreamMeter::ending_at_limit`](limiter::StreamMeter::ending_at_limit). The last event is an error in the format of
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

    /// As [`RateLimitLayerBuilder::methods`].
    pub fn methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.shared(|shared| shared.methods(methods))
    }

    /// As [`RateLimitLayerBuilder::credentials`]. By default [`Bearer`](Credential::Bearer), then the headers `x-api-key`,
    /// `api-key` (Azure) and `x-goog-api-key` (Gemini).
    pub fn credentials(self, credentials: impl IntoIterator<Item = Credential>) -> Self {
        self.shared(|shared| shared.credentials(credentials))
    }

    /// As [`RateLimitLayerBuilder::identify`].
    pub fn identify<F>(self, identify: F) -> Self
    where
        F: Fn(&Parts) -> Option<Caller> + Send + Sync + 'static,
    {
        self.shared(|shared| shared.identify(identify))
    }

    /// As [`RateLimitLayerBuilder::identify_async`].
    pub fn identify_async<F, I>(self, identify: F) -> Self
    where
        F: Fn(&Parts) -> I + Send + Sync + 'static,
        I: Future<Output = Result<Option<Caller>, BoxError>> + Send + 'static,
    {
        self.shared(|shared| shared.identify_async(identify))
    }

    /// As [`RateLimitLayerBuilder::on_service_error`].
    pub fn on_service_error(self, settlement: Settlement) -> Self {
        self.shared(|shared| shared.on_service_error(settlement))
    }

    /// As [`RateLimitLayerBuilder::statuses`]; by default those of the API that is called
    /// ([`ErrorFormat::statuses`]).
    pub fn statuses(self, statuses: StatusMap) -> Self {
        self.shared(|shared| shared.statuses(statuses))
    }

    /// As [`RateLimitLayerBuilder::dialects`]; by default [`Dialect::Ietf`] and the dialect of the preset.
    pub fn dialects(self, dialects: impl IntoIterator<Item = Dialect>) -> Self {
        self.shared(|shared| shared.dialects(dialects))
    }

    /// As [`RateLimitLayerBuilder::retry_bound`].
    pub fn retry_bound(self, longest_wait: Duration) -> Self {
        self.shared(|shared| shared.retry_bound(longest_wait))
    }

    /// As [`RateLimitLayerBuilder::tell_service`].
    pub fn tell_service(self) -> Self {
        self.shared(RateLimitLayerBuilder::tell_service)
    }

    /// As [`RateLimitLayerBuilder::remember_keys`].
    pub fn remember_keys(self, access_keys: usize) -> Self {
        self.shared(|shared| shared.remember_keys(access_keys))
    }

    /// Builds the layer.
    #[must_use]
    pub fn build(self) -> GatewayLayer {
        let Self { shared, options } = self;
        GatewayLayer::new(Arc::new(GatewayConfig { shared: shared.into_config(), options }))
    }

    fn shared(self, set: impl FnOnce(RateLimitLayerBuilder) -> RateLimitLayerBuilder) -> Self {
        Self { shared: set(self.shared), ..self }
    }
}

const API_KEY: HeaderName = HeaderName::from_static("api-key");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
