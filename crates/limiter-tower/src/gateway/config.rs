//! The settings of a gateway's layer.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use limiter::PriceTable;
use limiter::stream::Api;

use crate::config::Config;
use crate::error_format::ErrorFormat;
use crate::function::Function;
use crate::problem::Problem;
use crate::refusal::Refusal;

#[derive(Debug)]
pub(super) struct GatewayConfig {
    /// The settings of any layer.
    pub(super) shared: Config,
    pub(super) options: GatewayOptions,
}

/// The options of a [`GatewayLayer`](crate::GatewayLayer), in its builder.
#[derive(Debug)]
pub struct GatewayOptions {
    /// The format of errors on paths that no API has.
    pub(super) format: ErrorFormat,
    pub(super) prices: PriceTable,
    pub(super) tokenizer: Option<Function<Arc<Tokenizer>>>,
    pub(super) max_body_bytes: usize,
    pub(super) caps_estimates: bool,
    pub(super) ends_at_limit: bool,
    pub(super) sends_bound: bool,
    pub(super) asks_for_usage: bool,
}

pub(super) type Tokenizer = dyn Fn(&str) -> u64 + Send + Sync;

impl GatewayConfig {
    /// Returns the response to a refused call, in the format of the called API.
    pub(super) fn respond(&self, api: Option<Api>, refusal: &Refusal) -> Response<Bytes> {
        let format = api.map_or(self.options.format, ErrorFormat::from);
        let Config { dialects, retry_bound, .. } = &self.shared;
        let statuses = self.shared.statuses_or(format.statuses());
        refusal.to_api_response(format, &statuses, dialects, *retry_bound)
    }

    /// Returns the last event of a stream that ends early.
    pub(super) fn last_event(&self, api: Api, refusal: &Refusal) -> Bytes {
        let statuses = self.shared.statuses_or(ErrorFormat::from(api).statuses());
        Problem::of(refusal, statuses.of(refusal)).to_api_event(api)
    }
}
