//! The layer on real servers, with real clients.

mod error_formats;
mod gateway;
mod gateway_refusals;
mod gateway_streams;
mod gateway_world;
mod groups;
mod grpc;
mod headers;
mod hyper_server;
mod leaving;
mod methods;
mod names;
mod open_callers;
mod panics;
mod races;
mod readiness;
mod redis;
mod refusals;
mod rendering;
mod retrying;
mod secrecy;
mod settling;
mod who_and_what;
mod world;
