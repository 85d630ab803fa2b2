//! The APIs of LLM providers: the cost estimate of a request, and the tokens of its answer.
//!
//! Each file named after an API maps the paths of its JSON to meanings. The readers walk a request or an answer once,
//! and look up each path.

mod anthropic;
mod api;
mod figures;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gemini;
mod iterations;
mod meaning;
mod media;
mod openai_chat;
mod openai_completions;
mod openai_embeddings;
mod openai_responses;
mod part;
mod reader;
mod reported;
mod request;
mod request_reading;
mod rerank;
mod rewrite;
mod scalar;
mod sse;
mod tokens_of_text;
mod values;
mod walk;

pub use self::api::{Api, UnknownApi};
pub use self::reader::AnswerReader;
pub(crate) use self::reported::answer_accounted;
pub use self::reported::{Reported, TokenSource};
pub use self::request::{ApiRequest, RequestChanges, RequestError};
pub use self::tokens_of_text::tokens_of_text;
