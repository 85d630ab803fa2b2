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
            ErrorFormat::OpenAi => json(&Envelope { error: self.open_ai() }),
            ErrorFormat::Anthropic => json(&self.anthropic()),
            ErrorFormat::Gemini => json(&Envelope { error: self.gemini() }),
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
            (ErrorFormat::Gemini, _) => event("", &Envelope { error: self.gemini() }, ""),
            (ErrorFormat::OpenAi, Api::OpenAiResponses) => {
                let OpenAiError { message, param, code, .. } = self.open_ai();
                let error = self.open_ai();
                let error = ResponsesError { r#type: "error", code, message, param, error };
                event("event: error\n", &error, "")
            }
            (ErrorFormat::OpenAi, _) => {
                event("", &Envelope { error: self.open_ai() }, "data: [DONE]\n\n")
            }
        }
    }

    fn open_ai(&self) -> OpenAiError<'_> {
        let Names { open_ai: (r#type, code), .. } = Names::of(self.kind());
        // The type of a rate limit error is the unit of the limit.
        let is_of_requests =
            self.binding().is_none_or(|rule| [None, Some(Unit::Requests)].contains(&rule.unit()));
        let r#type = match self.kind() {
            Kind::Limit if !is_of_requests => "tokens",
            _ => r#type,
        };
        let code = code.unwrap_or_else(|| self.reason());
        OpenAiError { message: self.detail(), r#type, param: None, code }
    }

    fn anthropic(&self) -> Anthropic<'_> {
        let r#type = Names::of(self.kind()).anthropic;
        let error = AnthropicError { r#type, message: self.detail() };
        Anthropic { r#type: "error", error, request_id: None }
    }

    fn gemini(&self) -> GeminiError<'_> {
        let status = Names::of(self.kind()).gemini;
        GeminiError { code: self.status().as_u16(), message: self.detail(), status }
    }
}

/// The names of a kind of error in each format.
struct Names {
    /// `type` and `code`, which is the problem's `reason` if none is here.
    open_ai: (&'static str, Option<&'static str>),
    anthropic: &'static str,
    gemini: &'static str,
}

impl Names {
    const fn of(kind: Kind) -> Self {
        let (open_ai, anthropic, gemini) = match kind {
            Kind::Key => {
                ((INVALID, Some("invalid_api_key")), "authentication_error", "UNAUTHENTICATED")
            }
            Kind::Permission => {
                (("request_forbidden", None), "permission_error", "PERMISSION_DENIED")
            }
            Kind::Budget => ((QUOTA, Some(QUOTA)), "billing_error", EXHAUSTED),
            Kind::Limit => {
                (("requests", Some("rate_limit_exceeded")), "rate_limit_error", EXHAUSTED)
            }
            Kind::NotFound => ((INVALID, None), "not_found_error", "NOT_FOUND"),
            Kind::Invalid => ((INVALID, None), INVALID, "INVALID_ARGUMENT"),
            Kind::TooLarge => ((INVALID, Some(TOO_LARGE)), TOO_LARGE, "INVALID_ARGUMENT"),
            Kind::Unavailable => (OVERLOADED, "overloaded_error", "UNAVAILABLE"),
            Kind::Failure => (("server_error", None), "api_error", "INTERNAL"),
        };
        Self { open_ai, anthropic, gemini }
    }
}

const INVALID: &str = "invalid_request_error";
const TOO_LARGE: &str = "request_too_large";
const QUOTA: &str = "insufficient_quota";
const EXHAUSTED: &str = "RESOURCE_EXHAUSTED";
const OVERLOADED: (&str, Option<&str>) =
    ("service_unavailable_error", Some("server_is_overloaded"));

/// OpenAI's and Gemini's body around an error.
#[derive(Serialize)]
struct Envelope<E> {
    error: E,
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
