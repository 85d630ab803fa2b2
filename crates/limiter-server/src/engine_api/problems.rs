//! The errors of requests, described for the OpenAPI document. No value of these types is created.
#![expect(dead_code, reason = "they are descriptions")]

use utoipa::{IntoResponses, ToSchema};

/// An error, as RFC 9457 has it.
#[derive(ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemSchema {
    /// Always `about:blank`: the status says what kind it is.
    r#type: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A name for programs, such as `key_unknown`.
    reason: String,
    /// The error, its subject, and the remedy.
    detail: String,
}

/// The errors of any request.
#[derive(IntoResponses)]
pub(crate) enum RequestProblems {
    /// The request cannot be read, or a value is out of bounds
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(ProblemSchema),
    /// The access key is missing, not known or expired
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthenticated(ProblemSchema),
    /// The store gave no answer, or the server is overloaded
    #[response(
        status = 503,
        content_type = "application/problem+json",
        headers(("Retry-After" = u64, description = "With the reasons `busy`, `store` and `too_many_reservations`: the seconds after which to try again"))
    )]
    Unavailable(ProblemSchema),
}

/// The errors of a request with a body.
#[derive(IntoResponses)]
pub(crate) enum BodyProblems {
    /// The body did not come in time
    #[response(status = 408, content_type = "application/problem+json")]
    TooSlow(ProblemSchema),
    /// The body is too long
    #[response(status = 413, content_type = "application/problem+json")]
    TooLong(ProblemSchema),
}
