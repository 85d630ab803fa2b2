//! `llm-limiter` as its users see it, in one binary: linking many takes longer than running them. `spans.rs` is another,
//! since it counts warnings that a process logs once in ten seconds.

mod answers;
mod custom_store;
mod figures;
mod guarded;
mod handles;
mod parts;
mod price;
mod price_table;
mod quickstart;
mod redis;
mod requests;
mod reserved;
mod thresholds;
mod usage_events;
