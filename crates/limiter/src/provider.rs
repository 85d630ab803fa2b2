//! What LLM providers send, and how it is read.

#![cfg_attr(
    not(any(test, feature = "fuzzing")),
    expect(dead_code, reason = "the readers of answers come next")
)]

mod bom;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod part;
mod sse;
mod values;
