//! Checks of a new connection before it is used: it must lead to a master that can run our scripts and keeps the data
//! that it stores.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{ServerErrorKind, Value};

use super::answer;
use super::policy::Policy;
use crate::error::RedisError;

/// Runs all checks in one round trip, and loads the scripts on the way. Only the `first` connection to a server checks
/// for eviction, and warns of checks that the user's rights do not allow.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    server: &str,
    policy: &Policy,
    first: bool,
) -> Result<(), RedisError> {
    let mut questions = redis::pipe();
    questions.cmd("ROLE");
    for section in SECTIONS {
        questions.cmd("INFO").arg(section);
    }
    for script in &policy.scripts {
        questions.cmd("SCRIPT").arg("LOAD").arg(script);
    }
    let count = questions.len();
    let replies = connection
        .send_packed_commands(&questions, 0, count)
        .await
        .map_err(|error| answer::connecting(error, server))?;

    let mut replies = replies.into_iter();
    let role = replies.next().unwrap_or(Value::Nil);
    let mut info = HashMap::new();
    for reply in replies.by_ref().take(SECTIONS.len()) {
        info.extend(read_info(reply, server)?);
    }
    is_master(&role, &info, server, first)?;
    is_new_enough(&info, server, policy, first)?;
    if first {
        keeps_limits(&info, server, policy)?;
    }
    for reply in replies {
        refusal(reply, server)?;
    }
    Ok(())
}

/// Asks for the role alone. The error is one of redis-rs, since the hook of a pool can return no other.
pub(super) async fn check_role(connection: &mut MultiplexedConnection) -> redis::RedisResult<()> {
    let reply = connection.send_packed_command(&redis::cmd("ROLE")).await?;
    match named_role(&reply) {
        None | Some(MASTER) => Ok(()),
        // Read again by `answer::connecting`, as what a replica says of itself.
        Some(_) => Err(redis::make_extension_error("MASTERDOWN".to_owned(), None)),
    }
}

fn is_master(role: &Value, info: &Info, server: &str, warn: bool) -> Result<(), RedisError> {
    match named_role(role).or_else(|| info.get("role").map(String::as_str)) {
        Some(MASTER) => Ok(()),
        Some(_) => Err(RedisError::Replica { server: server.to_owned() }),
        None => {
            if warn {
                tracing::warn!(
                    server,
                    "the Redis user may use neither ROLE nor INFO: nothing shows that this is a master"
                );
            }
            Ok(())
        }
    }
}

fn is_new_enough(info: &Info, server: &str, policy: &Policy, warn: bool) -> Result<(), RedisError> {
    // Valkey gives the version of Redis that it is like.
    let version = info.get("redis_version").map_or("", String::as_str);
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
        policy.saw_no_shebangs();
        if warn {
            tracing::warn!(
                server,
                "the Redis user may not use INFO, so the version of the server is not known"
            );
        }
        return Ok(());
    };
    if (major, minor) < OLDEST {
        let version = version.to_owned();
        return Err(RedisError::ServerTooOld { server: server.to_owned(), version });
    }
    if major < FIRST_WITH_SHEBANGS {
        policy.saw_no_shebangs();
    }
    Ok(())
}

fn keeps_limits(info: &Info, server: &str, policy: &Policy) -> Result<(), RedisError> {
    let Some(evicts) = info.get("maxmemory_policy").filter(|name| *name != "noeviction") else {
        return Ok(());
    };
    let error = RedisError::Evicts { server: server.to_owned(), policy: evicts.clone() };
    if policy.refuse_eviction {
        return Err(error);
    }
    tracing::warn!("{error}");
    Ok(())
}

fn named_role(reply: &Value) -> Option<&str> {
    let Value::Array(parts) = reply else { return None };
    match parts.first()? {
        Value::BulkString(name) => std::str::from_utf8(name).ok(),
        Value::SimpleString(name) => Some(name),
        _ => None,
    }
}

/// The lines `name:value` of a section of INFO; none if the user may not see it.
fn read_info(reply: Value, server: &str) -> Result<Info, RedisError> {
    if let Value::ServerError(error) = &reply
        && error.kind() == Some(ServerErrorKind::NoPerm)
    {
        return Ok(Info::new());
    }
    let reply = refusal(reply, server)?;
    let text: String =
        redis::from_redis_value(reply).map_err(|error| RedisError::unreachable(server, error))?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

fn refusal(reply: Value, server: &str) -> Result<Value, RedisError> {
    reply.extract_error().map_err(|error| answer::connecting(error, server))
}

type Info = HashMap<String, String>;

/// Asked one by one, since 6.2 takes one at a time.
const SECTIONS: [&str; 3] = ["server", "replication", "memory"];

const MASTER: &str = "master";

/// The oldest that we test against.
const OLDEST: (u32, u32) = (6, 2);

/// Scripts may begin with `#!lua flags=…` from here on.
const FIRST_WITH_SHEBANGS: u32 = 7;
