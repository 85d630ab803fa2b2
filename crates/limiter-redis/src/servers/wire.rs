//! Connections and commands of redis-rs.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deadpool_redis::{Hook, HookError, Pool, Runtime};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ConnectionInfo, PushInfo, PushKind};

use super::policy::Policy;
use super::{checks, speaks};
use crate::error::RedisError;
use crate::script::Call;

/// Opens a connection that waits for answers without an end of its own: each call brings its deadline. `closed` is set
/// when it is closed.
pub(super) async fn open(
    info: ConnectionInfo,
    policy: &Policy,
    closed: Option<Arc<AtomicBool>>,
) -> Result<MultiplexedConnection, RedisError> {
    let mut config = config(policy);
    if let Some(closed) = closed {
        config = config.set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                closed.store(true, Ordering::Release);
            }
            Ok::<(), ()>(())
        });
    }
    let to = info.addr().clone();
    let opened = async {
        redis::Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
    };
    tokio::select! {
        opened = opened => match opened {
            Ok(connection) => Ok(connection),
            Err(error) => Err(speaks::why_closed(&to, error).await),
        },
        error = speaks::plain_text(&to, policy.connect_deadline) => Err(error),
    }
}

/// Runs a script that the server knows.
pub(super) fn evalsha(call: &Call<'_>) -> Cmd {
    run("EVALSHA", &call.script.digest, call)
}

/// Runs a script that the server need not know.
pub(super) fn eval(call: &Call<'_>) -> Cmd {
    run("EVAL", &call.script.text, call)
}

fn run(command: &str, script: &str, call: &Call<'_>) -> Cmd {
    let mut command = redis::cmd(command);
    command.arg(script).arg(call.keys.len());
    for part in call.keys.iter().chain(call.arguments) {
        command.arg(part.as_slice());
    }
    command
}

fn config(policy: &Policy) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(policy.connect_deadline))
        .set_response_timeout(None)
}

/// Connections of their own to one server, of which each is seen to lead to a master when it is made.
pub(super) fn pool(info: &ConnectionInfo, policy: &Policy) -> Result<Pool, RedisError> {
    let unusable = |error: &dyn fmt::Display| {
        let reason = format!("no pool can be made for {}: {error}", info.addr());
        RedisError::setting("pool_size", reason)
    };
    let manager = deadpool_redis::Manager::new_with_config(info.clone(), config(policy))
        .map_err(|error| unusable(&error))?;
    Pool::builder(manager)
        .max_size(policy.pool_size)
        .wait_timeout(Some(policy.command_deadline))
        .create_timeout(Some(policy.connect_deadline))
        .recycle_timeout(Some(policy.connect_deadline))
        .runtime(Runtime::Tokio1)
        .post_create(Hook::async_fn(|connection, _| {
            Box::pin(async { checks::check_role(connection).await.map_err(HookError::Backend) })
        }))
        .build()
        .map_err(|error| unusable(&error))
}
