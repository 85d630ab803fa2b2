//! A layer for gateways to LLM providers: it reads requests and answers, and counts their tokens.

mod answer;
mod body;
mod builder;
mod call;
mod config;
mod last_words;
mod layer;
mod read_body;
mod rewritten;
mod service;
mod without_usage;

#[cfg(test)]
pub(crate) use self::{call::NO_MODEL, read_body::BROKEN_OFF};
pub use body::GatewayBody;
pub use builder::GatewayLayerBuilder;
pub use config::GatewayOptions;
pub use layer::GatewayLayer;
pub use service::Gateway;
pub use without_usage::WithoutUsageChunk;
