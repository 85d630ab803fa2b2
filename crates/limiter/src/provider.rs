//! What LLM providers send, and how it is read.

#![cfg_attr(not(test), expect(dead_code, reason = "the readers of answers come next"))]

mod bom;
mod part;
mod sse;
mod values;
