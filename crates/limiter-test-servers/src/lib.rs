//! Redis servers for tests, and ways to break them.
//!
//! - [`shared`] is a server that is merely there: one for each process, started when it is first asked for.
//! - [`RedisServer`] is a process of its own, to be killed, frozen and restarted.
//! - [`RedisCluster`] is a cluster of them, whose slots can be moved step by step.
//! - [`RedisSentinel`] is a master and its replica, watched by three sentinels.
//! - [`Proxy`] stands between a client and a server, and loses replies after the server has executed.
//!
//! [`Source`] tells where servers come from. Everything listens on 127.0.0.1 only, keeps its files in a directory of
//! its own, and is gone when it is dropped, and also when the process of the test is killed.
//!
//! All calls block and panic on failure, as suits tests; asynchronous tests may call them too.
//!
//! ```
//! use limiter_test_servers::RedisServer;
//!
//! let server = RedisServer::builder().appendonly(true).run();
//! server.command(&["SET", "greeting", "hello"]);
//! server.restart();
//! assert_eq!(server.text(&["GET", "greeting"]), "hello");
//! ```

mod builder;
mod cluster;
#[cfg(feature = "testcontainers")]
mod container;
mod patience;
mod port;
mod process;
#[cfg(feature = "provider")]
pub mod provider;
mod proxy;
pub mod python;
mod redis_server;
mod sentinel;
mod shared;
mod source;

pub use builder::RedisServerBuilder;
pub use cluster::{RedisCluster, RedisClusterBuilder};
pub use proxy::Proxy;
pub use redis_server::RedisServer;
pub use sentinel::RedisSentinel;
pub use shared::{SharedServer, shared};
pub use source::Source;
