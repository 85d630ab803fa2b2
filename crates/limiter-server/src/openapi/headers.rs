//! The headers that a decision comes with, as the OpenAPI document describes them: those of every dialect, by the name that
//! a server is configured with.

use utoipa::Modify;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::{Object, OpenApi, Ref, RefOr, Type};

/// Adds them to the components, and references to every 200 of a POST: these are decisions, and answers of models.
pub(super) struct LimitHeaders;

impl Modify for LimitHeaders {
    fn modify(&self, document: &mut OpenApi) {
        let headers = headers();
        for operation in document.paths.paths.values_mut().filter_map(|item| item.post.as_mut()) {
            if let Some(RefOr::T(decision)) = operation.responses.responses.get_mut("200") {
                decision.headers.extend(headers.iter().map(|(name, _)| reference(name)));
            }
        }
        let components = document.components.get_or_insert_default();
        components.headers.extend(headers.into_iter().map(|(name, header)| (name, header.into())));
    }
}

fn reference(name: &str) -> (String, RefOr<Header>) {
    (name.to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))))
}

pub(crate) fn headers() -> Vec<(String, Header)> {
    let mut headers = vec![
        header(
            Type::Integer,
            "Retry-After",
            "Of a denial: the seconds until the same call would be allowed. Missing where no wait is known to help",
        ),
        header(
            Type::String,
            "x-should-retry",
            "`false` of a denial for which no wait is known to help, or only one of more than a minute: for the SDKs of LLM services, which would repeat the call or sleep inside it",
        ),
        header(
            Type::String,
            "RateLimit-Policy",
            "`ietf`: every limit that the call met, a list of structured fields: `\"permin\";q=50;w=60`, and `\"group1-permin\"` for one of the outermost group",
        ),
        header(
            Type::String,
            "RateLimit",
            "`ietf`: what is left of each limit, and the seconds until it resets, first of the limit that binds: `\"permin\";r=12;t=31`",
        ),
        header(Type::Integer, "RateLimit-Limit", "`legacy`: the limit that binds"),
        header(Type::Integer, "RateLimit-Remaining", "`legacy`: what is left of it"),
        header(Type::Integer, "RateLimit-Reset", "`legacy`: the seconds until it resets"),
    ];
    let mut add = |dialect: &str, unit: &str, name: &dyn Fn(&str) -> String, reset: &str| {
        let limit = format!("`{dialect}`: the limit with the fewest {unit} left");
        headers.extend([
            header(Type::Integer, &name("limit"), &limit),
            header(Type::Integer, &name("remaining"), &format!("`{dialect}`: what is left of it")),
            header(Type::String, &name("reset"), &format!("`{dialect}`: {reset}")),
        ]);
    };
    for unit in ["requests", "tokens"] {
        let name = |what: &str| format!("x-ratelimit-{what}-{unit}");
        add("openai", unit, &name, "how long until it resets: `6m0s`");
    }
    for unit in ["requests", "tokens", "input-tokens", "output-tokens"] {
        let name = |what: &str| format!("anthropic-ratelimit-{unit}-{what}");
        add("anthropic", &unit.replace('-', " "), &name, "when it resets, by RFC 3339");
    }
    headers
}

fn header(of: Type, name: &str, description: &str) -> (String, Header) {
    let header = HeaderBuilder::from(Header::new(Object::with_type(of)));
    (name.to_owned(), header.description(Some(description)).build())
}
