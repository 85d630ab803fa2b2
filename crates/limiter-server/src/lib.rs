//! The HTTP service of the limiter crates: the wire of the aiXplain SDK, the APIs of OpenAI and Anthropic, and the engine
//! as JSON.
//!
//! Most users run the binary: `limiter-server --help`. As a library it puts the same service into another process:
//!
//! ```no_run
//! use limiter::{KeyConfig, Limiter, NewKey};
//! use limiter_server::{Bounds, Dialect, Server};
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let limiter = Limiter::in_memory();
//! limiter.bootstrap("team-a".parse()?, NewKey::admin(KeyConfig::named("admin")?)).await?;
//! let address = "127.0.0.1:0".parse()?;
//! let server = Server::embedded(limiter, address, Vec::new(), Bounds::default(), [Dialect::Ietf]).await?;
//! println!("http://{}", server.address()?);
//! server.run(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The way of a request
//! [`serve`] accepts it. The guard ([`guarded`]) applies the bounds, counts it and logs it. `routes` leads it to `wire` (the paths
//! of the SDK), `engine_api` (`/v1`), `gateway` (the APIs of OpenAI and Anthropic) or `console` (pages for operators), which call
//! the limiter. No rule is
//! written here; headers and problem details are those of `limiter_tower`.
//!
//! # Configuration as code
//! [`apply`] compares the plans, groups and keys of a file with those of a store, shows the changes, and makes them.

mod admission;
mod app;
mod apply;
mod auth;
mod body;
mod bounds;
mod client;
mod config;
mod console;
mod cors;
mod denials;
mod engine;
mod engine_api;
#[cfg(test)]
mod fixtures;
mod gateway;
mod guard;
mod health;
mod ids;
mod lag;
mod linger;
#[cfg(test)]
mod messages;
mod metrics;
mod models;
mod openapi;
mod queue;
mod refusal;
mod routes;
mod run;
mod serve;
mod server;
mod state;
mod unread;
mod upstream;
mod webhook;
mod welcome;
mod wire;
mod workers;

pub use apply::{Applied, ApplyError, Manner, apply};
pub use bounds::Bounds;
pub use config::{Command, CommandLine, ConfigError, Origin, Settings};
pub use engine::StartError;
pub use guard::guarded;
pub use limiter_tower::Dialect;
pub use models::Model;
pub use serve::serve;
pub use server::Server;
pub use state::StateError;
