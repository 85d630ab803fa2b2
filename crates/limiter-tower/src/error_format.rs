//! Errors in the formats of LLM providers' APIs, so that their SDKs show message and code.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use limiter::Unit;
use limiter::stream::Api;
use serde::Serialize;

use crate::kind::Kind;
use crate::problem::Problem;
use crate::status::StatusMap;

/// The error format of an LLM provider's API.
///
/// | | kind | OpenAI: `type`, `code` | Anthropic: `type` | Gemini: `status` |
/// |---|---|---|---|---|
/// | 400 | invalid request | `invalid_request_error`, the `reason` of the problem | `invalid_request_error` | `INVALID_ARGUMENT` |
/// | 401 | no or unknown key | `invalid_request_error`, `invalid_api_key` | `authentication_error` | `UNAUTHENTICATED` |
/// | 402, 429 | budget | `insufficient_quota`, `insufficient_quota` | `billing_error` | `RESOURCE_EXHAUSTED` |
/// | 403 | not permitted | `request_forbidden`, the `reason` | `permission_error` | `PERMISSION_DENIED` |
/// | 404 | not found | `invalid_request_error`, the `reason` | `not_found_error` | `NOT_FOUND` |
/// | 413 | too large | `invalid_request_error`, `request_too_large` | `request_too_large` | `INVALID_ARGUMENT` |
/// | 429 | limit | `requests` or `tokens`, `rate_limit_exceeded` | `rate_limit_error` | `RESOURCE_EXHAUSTED` |
/// | 503 | cannot answer now | `service_unavailable_error`, `server_is_overloaded` | `overloaded_error` | `UNAVAILABLE` |
/// | other | failure | `server_error`, the `reason` | `api_error` | `INTERNAL` |
///
/// ```
/// use http::StatusCode;
/// use limiter_tower::{ErrorFormat, Problem};
///
/// let problem = Problem::new(StatusCode::NOT_FOUND, "model_not_found", "there is no model \"gpt-6\"");
/// let response = problem.to_api_response(ErrorFormat::OpenAi);
/// assert_eq!(response.status(), 404);
/// let error: serde_json::Value = serde_json::from_slice(response.body())?;
/// assert_eq!(error["error"]["code"], "model_not_found");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorFormat {
    /// `{"error":{"message","type","param","code"}}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id":null}`
    Anthropic,
    /// `{"error":{"code","message","status"}}`, where `code` is the HTTP status.
    Gemini,
}

impl ErrorFormat {
    /// Returns the statuses of this API for refused calls: [the default ones](StatusMap::new), except that OpenAI's is
    /// 429 for an exhausted budget.
    pub const fn statuses(self) -> StatusMap {
        match self {
            Self::OpenAi => StatusMap::new().with_budget_exhausted(StatusCode::TOO_MANY_REQUESTS),
            Self::Anthropic | Self::Gemini => StatusMap::new(),
        }
    }
}

/// The format of an API's own errors. Rerank, which several providers offer, has OpenAI's.
impl From<Api> for ErrorFormat {
    fn from(api: Api) -> Self {
        match api {
            Api::AnthropicMessages => Self::Anthropic,
            Api::Gemini | Api::GeminiEmbeddings => Self::Gemini,
            _ => Self::OpenAi,
        }
    }
}

impl Problem {
    /// Returns the response in the format of an API: the status, and the error as `application/json`.
    ///
    /// [`Refusal::to_api_response`](crate::Refusal::to_api_response) does this for refused calls, with their headers.
    #[must_use]
    pub fn to_api_response(&self, format: ErrorFormat) -> Response<Bytes> {
        let json = match format {
            ErrorFormat::OpenAi => json(&OpenAi { error: self.open_ai() }),
            ErrorFormat::Anthropic => json(&self.anthropic()),
            ErrorFormat::Gemini => json(&Gemini { error: self.gemini() }),
        };
        let mut response = Response::new(Bytes::from(json));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        response
    }

    /// Returns the error as the last server-sent event of a stream of this API, followed by `[DONE]` if the API ends
    /// its streams with it. The bytes before it must end with a blank line.
    #[must_use]
    pub fn to_api_event(&self, api: Api) -> Bytes {
        match (ErrorFormat::from(api), api) {
            (ErrorFormat::Anthropic, _) => event("event: error\n", &self.anthropic(), ""),
            (ErrorFormat::Gemini, _) => event("", &Gemini { error: self.gemini() }, ""),
            (ErrorFormat::OpenAi, Api::OpenAiResponses) => {
                let OpenAiError { message, param, code, .. } = self.open_ai();
                let error = self.open_ai();
                let error = ResponsesError { r#type: "error", code, message, param, error };
                event("event: error\n", &error, "")
            }
            (ErrorFormat::OpenAi, _) => {
                event("", &OpenAi { error: self.open_ai() }, "data: [DONE]\n\n")
            }
        }
    }

    fn open_ai(&self) -> OpenAiError<'_> {
        let reason = self.reason();
        let (r#type, code) = match self.kind() {
            Kind::Key => ("invalid_request_error", "invalid_api_key"),
            Kind::Permission => ("request_forbidden", reason),
            Kind::Budget => ("insufficient_quota", "insufficient_quota"),
            Kind::Limit => (self.limited_unit(), "rate_limit_exceeded"),
            Kind::NotFound | Kind::Invalid => ("invalid_request_error", reason),
            Kind::TooLarge => ("invalid_request_error", "request_too_large"),
            Kind::Unavailable => ("service_unavailable_error", "server_is_overloaded"),
            Kind::Failure => ("server_error", reason),
        };
        OpenAiError { message: self.detail(), r#type, param: None, code }
    }

    /// OpenAI's type of a rate limit error is the unit of the limit.
    fn limited_unit(&self) -> &'static str {
        match self.binding().map(|rule| rule.unit) {
            Some(Unit::Tokens) => "tokens",
            _ => "requests",
        }
    }

    fn anthropic(&self) -> Anthropic<'_> {
        let r#type = match self.kind() {
            Kind::Key => "authentication_error",
            Kind::Permission => "permission_error",
            Kind::Budget => "billing_error",
            Kind::Limit => "rate_limit_error",
            Kind::NotFound => "not_found_error",
            Kind::Invalid => "invalid_request_error",
            Kind::TooLarge => "request_too_large",
            Kind::Unavailable => "overloaded_error",
            Kind::Failure => "api_error",
        };
        let error = AnthropicError { r#type, message: self.detail() };
        Anthropic { r#type: "error", error, request_id: None }
    }

    fn gemini(&self) -> GeminiError<'_> {
        let status = match self.kind() {
            Kind::Key => "UNAUTHENTICATED",
            Kind::Permission => "PERMISSION_DENIED",
            Kind::Budget | Kind::Limit => "RESOURCE_EXHAUSTED",
            Kind::NotFound => "NOT_FOUND",
            Kind::Invalid | Kind::TooLarge => "INVALID_ARGUMENT",
            Kind::Unavailable => "UNAVAILABLE",
            Kind::Failure => "INTERNAL",
        };
        GeminiError { code: self.status().as_u16(), message: self.detail(), status }
    }
}

#[derive(Serialize)]
struct OpenAi<'a> {
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct OpenAiError<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'static str>,
    code: &'static str,
}

/// The API reference of responses has `code`, `message` and `param` at the top. The SDKs raise an error for a member `error`.
#[derive(Serialize)]
struct ResponsesError<'a> {
    r#type: &'static str,
    code: &'static str,
    message: &'a str,
    param: Option<&'static str>,
    error: OpenAiError<'a>,
}

#[derive(Serialize)]
struct Anthropic<'a> {
    r#type: &'static str,
    error: AnthropicError<'a>,
    /// Anthropic's own id. A refused call never reached Anthropic, so it has none.
    request_id: Option<&'static str>,
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    r#type: &'static str,
    message: &'a str,
}

#[derive(Serialize)]
struct Gemini<'a> {
    error: GeminiError<'a>,
}

#[derive(Serialize)]
struct GeminiError<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
}

/// Serializes an error. This cannot fail: only maps can, and no type here has one.
fn json(error: &impl Serialize) -> String {
    serde_json::to_string(error).unwrap_or_default()
}

fn event(name: &str, error: &impl Serialize, after: &str) -> Bytes {
    format!("{name}data: {}\n\n{after}", json(error)).into()
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
