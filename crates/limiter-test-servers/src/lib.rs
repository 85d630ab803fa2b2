//! Servers for tests, and ways to break them.
//!
//! - [`shared`] is a Redis server that no test breaks: one for each process, started by the first call.
//! - [`RedisServer`] is a Redis server of one test, which kills, freezes and restarts it.
//! - [`RedisCluster`] is a cluster of them, whose slots move step by step.
//! - [`RedisSentinel`] is a master and its replica, watched by three sentinels.
//! - [`Proxy`] stands between a client and a server, and loses replies after the server has executed the requests.
//! - [`Process`] is any other program, such as the binary under test; [`example`] is an example of its package.
//! - A [`Worker`](worker::Worker) is the binary of a test once more, in a process that can be stopped and killed.
//! - `provider`, with the feature of that name, is an LLM provider, and [`python`] runs clients from PyPI.
//! - [`Log`] and [`Metrics`] record the log and the metrics of the code under test; [`until`] waits for another thread
//!   or process.
//!
//! Everything listens on 127.0.0.1 only, keeps its files in a directory of its own, and is gone when it is dropped, and
//! also when the process of the test is killed.
//!
//! Calls block and panic on failure, as suits tests. Asynchronous tests may call them too.
//!
//! ```
//! use limiter_test_servers::RedisServer;
//!
//! let server = RedisServer::durable();
//! server.command(&["SET", "greeting", "hello"]);
//! server.restart();
//! assert_eq!(server.text(&["GET", "greeting"]), "hello");
//! ```

mod cluster;
mod log;
mod metrics;
mod port;
mod process;
#[cfg(feature = "provider")]
pub mod provider;
mod proxy;
pub mod python;
mod redis_server;
mod sentinel;
mod shared;
mod wait;
pub mod worker;

pub use cluster::RedisCluster;
pub use log::Log;
pub use metrics::Metrics;
pub use port::Port;
pub use process::{Process, example};
pub use proxy::Proxy;
pub use redis_server::RedisServer;
pub use sentinel::RedisSentinel;
pub use shared::{SharedServer, fresh_name, shared};
pub use wait::{at_once, until, until_async};
