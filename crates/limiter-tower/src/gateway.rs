//! A gateway to an LLM provider.

#![cfg_attr(not(test), expect(dead_code, reason = "the presets for gateways come next"))]

mod without_usage;
