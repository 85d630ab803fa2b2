//! Rerank. Cohere reports `meta.billed_units` and, since version 2, `meta.tokens`. Jina, Voyage and vLLM report
//! `usage`, some of them only its total.
//!
//! Sources: <https://docs.cohere.com/reference/rerank>, <https://api.jina.ai/redoc>, <https://docs.voyageai.com/docs/reranker>.

use super::meaning::Meaning;
use super::media::Kind;

pub(super) fn answer(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["meta"] => Meaning::Enter,
        ["meta", "billed_units" | "tokens"] => Meaning::Usage,
        _ => return None,
    })
}

/// Returns the meaning of a path. The model reads the query with each document. In Cohere's first version documents are
/// objects.
pub(super) fn request(path: &[&str]) -> Option<Meaning> {
    Some(match path {
        ["model"] => Meaning::Model,
        ["query", ..] => Meaning::Query,
        ["documents", "image" | "image_url"] => Meaning::Media(Kind::Picture),
        ["documents", ..] => Meaning::Document,
        _ => return None,
    })
}
