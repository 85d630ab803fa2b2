//! `tower_governor`: the layer most used in Rust, with one limit for each value of `x-api-key`.

use std::time::Duration;

use axum::Router;
use axum::http::Request;
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

/// The key is the header's text, as its documentation shows it for headers.
#[derive(Clone)]
struct ApiKey;

impl KeyExtractor for ApiKey {
    type Key = String;

    fn extract<T>(&self, request: &Request<T>) -> Result<String, GovernorError> {
        let key = request.headers().get("x-api-key").and_then(|value| value.to_str().ok());
        key.map(str::to_owned).ok_or(GovernorError::UnableToExtractKey)
    }
}

/// Adds a limit that is never reached.
pub(super) fn one_limit(router: Router, headers: bool) -> Router {
    let mut config = GovernorConfigBuilder::default();
    config.period(Duration::from_nanos(1)).burst_size(u32::MAX);
    let mut config = config.key_extractor(ApiKey);
    if headers {
        let config = config.use_headers().finish().expect("neither is zero");
        router.layer(GovernorLayer::new(config))
    } else {
        router.layer(GovernorLayer::new(config.finish().expect("neither is zero")))
    }
}
