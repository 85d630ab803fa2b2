//! The service as its clients meet it: the real binary on a free port, over HTTP, in memory and on Redis.

mod apply;
mod bounds;
mod browser;
mod connections;
mod console;
mod cors;
mod dashboard;
mod echo;
mod engine;
mod gateway;
mod groups;
mod headers;
mod keys;
mod not_shown;
mod plans;
mod provider;
mod redis;
mod sdk;
mod secrets;
mod state;
mod stopping;
mod strangers;
mod support;
mod upstream;
mod webhook;
mod wire;
