//! The OpenAPI document of the engine's API, and of the paths of the providers' APIs.

mod gateway;
pub(crate) mod headers;

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr, Schema, SecurityRequirement};
use utoipa::{Modify, OpenApi};

use self::gateway::ProviderApis;
use self::headers::LimitHeaders;
use crate::engine_api::problems::ProblemSchema;
use crate::engine_api::{check, key, keys, plans, reservations, usage};

/// The document, made once.
pub(crate) async fn document() -> impl IntoResponse {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| Bytes::from(Api::openapi().to_pretty_json().unwrap_or_default()));
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "limiter",
        description = "Rate limits for API keys of LLM services. The access key of a request is that of the key to be \
                       charged, or of an admin key that reads usage or manages keys. Instants are RFC 3339 in UTC, credits are \
                       decimal numbers in quotes. Decisions come with the headers of the dialects that the server is \
                       configured with, by default those of the IETF draft.",
    ),
    paths(
        check::check,
        check::peek,
        reservations::reserve,
        reservations::amend,
        reservations::settle,
        reservations::cancel,
        usage::usage,
        usage::history,
        keys::list,
        keys::create,
        key::upsert,
        key::get,
        key::update,
        key::reset,
        key::rotate,
        key::delete,
        plans::list,
        plans::get,
        plans::save,
        plans::delete,
    ),
    components(schemas(ProblemSchema)),
    modifiers(&AccessKeys, &Reasons, &ProviderApis, &LimitHeaders),
    tags(
        (name = "calls", description = "Calls whose cost is known"),
        (name = "reservations", description = "Calls whose cost is known only afterwards"),
        (name = "usage", description = "What keys and groups have used"),
        (name = "keys", description = "The keys and groups of a workspace, for admin keys"),
        (name = "plans", description = "Limits that keys and groups have in common, for admin keys"),
        (name = "models", description = "Models, in the words of their providers' APIs"),
    ),
)]
struct Api;

/// The ways to send an access key.
struct AccessKeys;

impl Modify for AccessKeys {
    fn modify(&self, document: &mut Document) {
        let header = |name: &str, description: &str| {
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, description)))
        };
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("access_key", header("x-api-key", "The access key"));
        components
            .add_security_scheme("token", header("Authorization", "`Token `, and the access key"));
        let bearer = Http::new(HttpAuthScheme::Bearer);
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let schemes = ["access_key", "bearer", "token"];
        document.security =
            Some(schemes.map(|name| SecurityRequirement::new(name, Vec::<String>::new())).into());
    }
}

/// Keeps only the reasons of a denial: those about the key itself are errors of this API.
struct Reasons;

impl Modify for Reasons {
    fn modify(&self, document: &mut Document) {
        let schemas = &mut document.components.get_or_insert_default().schemas;
        if let Some(RefOr::T(Schema::OneOf(reasons))) = schemas.get_mut("DenialReason") {
            reasons.items.retain(|reason| {
                let json = serde_json::to_string(reason).unwrap_or_default();
                ["asset_denied", "budget_exhausted", "rate_limited"]
                    .iter()
                    .any(|name| json.contains(name))
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_has_three_reasons_and_every_operation_has_all_of_its_errors() {
        let document = serde_json::to_value(Api::openapi()).unwrap();
        let reasons = &document["components"]["schemas"]["DenialReason"]["oneOf"];
        assert_eq!(reasons.as_array().unwrap().len(), 3, "{reasons:#}");
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), 14 + 7);
        for (path, operations) in paths {
            let is_provider = crate::gateway::error_format(path).is_some();
            let kind = if is_provider { "application/json" } else { "application/problem+json" };
            for operation in operations.as_object().unwrap().values() {
                let responses = operation["responses"].as_object().unwrap();
                for status in ["400", "401", "503"] {
                    let kinds = responses[status]["content"].as_object().unwrap();
                    assert!(kinds.contains_key(kind), "{path} {status}");
                }
            }
        }
    }
}
