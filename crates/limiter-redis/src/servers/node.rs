//! One server, and the connections to it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_redis::{HookError, Pool, PoolError};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, Value};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{self, Answer};
use super::policy::Policy;
use super::shared::{Making, Number, Shared};
use super::wire::{eval, evalsha, open, pool};
use super::{Lane, checks};
use crate::error::RedisError;
use crate::script::Call;

/// One server. Nothing is connected before it is needed.
pub(super) struct Node {
    info: ConnectionInfo,
    address: String,
    policy: Arc<Policy>,
    /// The one connection that all decisions share.
    link: Shared<Link>,
    /// Whether the server was checked once: its warnings are not repeated at each reconnect.
    checked: Arc<AtomicBool>,
    pool: Pool,
}

/// The reason why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The script was not sent.
    NotSent(RedisError),
    /// The script was sent, and no answer came.
    Lost(RedisError),
    /// The server answered an error, so that the script changed nothing.
    Answered(Answer),
}

/// A connection that was checked.
#[derive(Clone)]
struct Link {
    connection: MultiplexedConnection,
    /// Set by redis-rs as soon as it notices, which is at once if the server closes the connection.
    closed: Arc<AtomicBool>,
}

/// The connection that one attempt uses.
enum Line {
    Shared(Number, Box<MultiplexedConnection>),
    Apart(deadpool_redis::Connection),
}

impl Node {
    pub(super) fn new(info: ConnectionInfo, policy: Arc<Policy>) -> Result<Self, RedisError> {
        let pool = pool(&info, &policy)?;
        Ok(Self {
            address: info.addr().to_string(),
            info,
            link: Shared::new(policy.command_deadline),
            policy,
            checked: Arc::new(AtomicBool::new(false)),
            pool,
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn host(&self) -> &str {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "",
        }
    }

    /// Returns false if the shared connection is known to be closed.
    pub(super) fn is_connected(&self) -> bool {
        self.link.peek().is_some_and(|link| !link.closed.load(Ordering::Acquire))
    }

    /// Connects and checks the server, unless that is done.
    pub(super) async fn connect(&self, end: Instant) -> Result<(), RedisError> {
        self.shared(end).await.map(drop)
    }

    /// Pings the server on the shared connection.
    pub(super) async fn ping(&self, end: Instant) -> Result<(), RedisError> {
        let mut line = self.shared(end).await?;
        match self.ask(line.connection(), &redis::cmd("PING"), false, end).await {
            Ok(Value::ServerError(error)) => Err(answer::connecting(error.into(), &self.address)),
            Ok(_) => Ok(()),
            Err(lost) => {
                self.discard(line);
                Err(lost)
            }
        }
    }

    /// Deletes all keys whose names match, and returns their number. The deadline is that of each command.
    pub(super) async fn delete_all(
        &self,
        pattern: &str,
        deadline: Duration,
    ) -> Result<u64, RedisError> {
        let mut line = self.apart(Instant::now() + deadline).await?;
        let deleted = self.delete_on(line.connection(), pattern, deadline).await;
        if deleted.is_err() {
            self.discard(line);
        }
        deleted
    }

    async fn delete_on(
        &self,
        connection: &mut MultiplexedConnection,
        pattern: &str,
        deadline: Duration,
    ) -> Result<u64, RedisError> {
        let (mut deleted, mut cursor) = (0, 0_u64);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(KEYS_AT_ONCE);
            let found: (u64, Vec<Vec<u8>>) = self.ask_as(connection, &scan, deadline).await?;
            for key in found.1 {
                // One by one: on a cluster, a command has keys of one slot only.
                let mut unlink = redis::cmd("UNLINK");
                unlink.arg(key);
                deleted += self.ask_as::<u64>(connection, &unlink, deadline).await?;
            }
            cursor = found.0;
            if cursor == 0 {
                return Ok(deleted);
            }
        }
    }

    async fn ask_as<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
        command: &Cmd,
        deadline: Duration,
    ) -> Result<T, RedisError> {
        let reply = match self.ask(connection, command, false, Instant::now() + deadline).await? {
            Value::ServerError(error) => Err(error.into()),
            reply => redis::from_redis_value(reply).map_err(redis::RedisError::from),
        };
        reply.map_err(|error| answer::connecting(error, &self.address))
    }

    /// Runs the script here, once; `asking` if another node redirected the call here by ASK.
    pub(super) async fn attempt(
        &self,
        call: &Call<'_>,
        lane: Lane,
        asking: bool,
        end: Instant,
    ) -> Result<Value, Failure> {
        let line = match lane {
            Lane::Shared => self.shared(end).await,
            Lane::Apart => self.apart(end).await,
        };
        let mut line = line.map_err(Failure::NotSent)?;
        let outcome = self.send(line.connection(), call, asking, end).await;
        match &outcome {
            Err(Failure::NotSent(_) | Failure::Lost(_)) => self.discard(line),
            // No connection to it is of use now; the next connect checks whether it is a master again.
            Err(Failure::Answered(Answer::Refused(
                RedisError::ReadOnly { .. } | RedisError::Replica { .. },
            ))) => {
                self.discard(line);
                self.link.clear();
            }
            Ok(_) | Err(Failure::Answered(_)) => {}
        }
        outcome
    }

    /// Runs the script by its digest, or by its text if the server does not have it: it was restarted or flushed, or a
    /// replica without scripts took over. Sending the text also loads the script again.
    async fn send(
        &self,
        connection: &mut MultiplexedConnection,
        call: &Call<'_>,
        asking: bool,
        end: Instant,
    ) -> Result<Value, Failure> {
        let (mut command, mut is_text) = (evalsha(call), false);
        loop {
            // Without this, a call past its deadline would still be sent, and its answer never awaited.
            if Instant::now() >= end {
                return Err(Failure::NotSent(self.policy.too_late()));
            }
            let reply = self.ask(connection, &command, asking, end).await.map_err(Failure::Lost)?;
            let Value::ServerError(error) = reply else { return Ok(reply) };
            match answer::read(&error, &self.address, call) {
                Answer::NoScript if !is_text => (command, is_text) = (eval(call), true),
                answer => return Err(Failure::Answered(answer)),
            }
        }
    }

    /// Sends a command and awaits its answer, which may be an error of the server.
    async fn ask(
        &self,
        connection: &mut MultiplexedConnection,
        command: &Cmd,
        asking: bool,
        end: Instant,
    ) -> Result<Value, RedisError> {
        let reply = async {
            if !asking {
                return connection.send_packed_command(command).await;
            }
            // In one message, so that no other call on this connection comes in between.
            let mut both = redis::pipe();
            both.cmd("ASKING").add_command(command.clone());
            let mut replies = connection.send_packed_commands(&both, 0, 2).await?;
            Ok(replies.pop().unwrap_or(Value::Nil))
        };
        let reply = timeout_at(end, reply).await.map_err(|_| self.policy.too_late())?;
        reply.map_err(|error| RedisError::lost(&self.address, error))
    }

    async fn shared(&self, end: Instant) -> Result<Line, RedisError> {
        let is_open = |link: &Link| !link.closed.load(Ordering::Acquire);
        let (number, link) = self.link.get_sound(end, || self.make_link(), is_open).await?;
        if is_open(&link) {
            return Ok(Line::Shared(number, Box::new(link.connection)));
        }
        let reset = std::io::ErrorKind::ConnectionReset;
        Err(RedisError::unreachable(&self.address, std::io::Error::from(reset)))
    }

    async fn apart(&self, end: Instant) -> Result<Line, RedisError> {
        let Ok(connection) = timeout_at(end, self.pool.get()).await else {
            return Err(self.policy.too_late());
        };
        connection.map(Line::Apart).map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                answer::connecting(error, &self.address)
            }
            PoolError::Timeout(deadpool_redis::TimeoutType::Wait) => self.policy.too_late(),
            other => RedisError::unreachable(&self.address, other),
        })
    }

    fn make_link(&self) -> impl Making<Link> + use<> {
        let (info, policy) = (self.info.clone(), Arc::clone(&self.policy));
        let (address, checked) = (self.address.clone(), Arc::clone(&self.checked));
        async move {
            let closed = Arc::new(AtomicBool::new(false));
            let made = async {
                let mut connection = open(info, &policy, Some(Arc::clone(&closed))).await?;
                let first = !checked.load(Ordering::Relaxed);
                checks::check(&mut connection, &address, &policy, first).await?;
                checked.store(true, Ordering::Relaxed);
                Ok(connection)
            };
            let connection = timeout(policy.connect_deadline, made)
                .await
                .unwrap_or_else(|elapsed| Err(RedisError::unreachable(&address, elapsed)))?;
            Ok(Link { connection, closed })
        }
    }

    fn discard(&self, line: Line) {
        match line {
            Line::Shared(number, _) => self.link.forget(number),
            Line::Apart(connection) => drop(deadpool_redis::Connection::take(connection)),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Line {
    fn connection(&mut self) -> &mut MultiplexedConnection {
        match self {
            Self::Shared(_, connection) => connection,
            Self::Apart(connection) => connection,
        }
    }
}

/// The keys that a server visits in one step of a search, which takes a fraction of a millisecond.
const KEYS_AT_ONCE: usize = 500;
