//! Calls from web pages of other origins (CORS), off unless origins are configured.

use std::time::Duration;

use axum::Router;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderName, Method};
use limiter_tower::{Dialect, Retry};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::config::Origin;

/// Adds CORS to the routes. Preflights, which have no access key, are answered; pages of these origins can read answers
/// and the rate limit headers. Cookies are not used: a page needs an access key.
pub(crate) fn allow(routes: Router, origins: &[Origin], dialects: &[Dialect]) -> Router {
    if origins.is_empty() {
        return routes;
    }
    let allowed = match origins.iter().any(Origin::is_any) {
        true => AllowOrigin::any(),
        false => AllowOrigin::list(origins.iter().map(|origin| origin.value().clone())),
    };
    let exposed = dialects.iter().flat_map(|dialect| dialect.header_names()).chain(RETRY_HEADERS);
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        // Clients of LLM services send many headers of their own; none of them grants access.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.collect::<Vec<_>>())
        .max_age(MAX_AGE);
    routes.layer(layer)
}

/// The headers with retry advice, in every dialect.
const RETRY_HEADERS: [HeaderName; 2] = [RETRY_AFTER, Retry::SHOULD_RETRY];

/// Time for which browsers may cache a preflight; Chrome caps it at two hours.
const MAX_AGE: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::openapi::headers::headers;

    #[test]
    fn every_header_that_the_document_describes_is_exposed() {
        let dialects = [Dialect::Ietf, Dialect::Legacy, Dialect::OpenAi, Dialect::Anthropic];
        let exposed = dialects.into_iter().flat_map(Dialect::header_names).chain(RETRY_HEADERS);
        let exposed: BTreeSet<String> = exposed.map(|name| name.to_string()).collect();
        let described = headers().into_iter().map(|(name, _)| name.to_lowercase());
        assert_eq!(exposed, described.collect());
    }
}
