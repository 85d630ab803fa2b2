//! Answers of providers, and their tokens: one table, read whole, in pieces, and cut at every byte.

mod anthropic;
mod attacks;
mod case;
mod charged;
mod gemini;
mod openai_chat;
mod openai_others;
mod readings;

use self::case::Case;

/// The table.
fn corpus() -> impl Iterator<Item = &'static Case> {
    [openai_chat::CASES, openai_others::CASES, anthropic::CASES, gemini::CASES]
        .into_iter()
        .flatten()
}
