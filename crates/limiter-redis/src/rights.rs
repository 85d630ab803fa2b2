//! The rights that the Redis user of a store needs, and the search for those that it lacks.

use redis::Value;

use crate::error::{CommandError, RedisError};
use crate::keyspace::Keyspace;
use crate::script::Script;
use crate::servers::{Lane, Servers};

/// Fails if the user lacks a right, and names it. It does not wait for a server that cannot answer now: the first call
/// that needs a missing right names it later.
///
/// # Errors
/// [`RedisError::Permission`] with all commands that are missing, [`RedisError::ScriptsForbidden`] or
/// [`RedisError::KeysForbidden`].
pub(crate) async fn check(servers: &Servers, keyspace: &Keyspace) -> Result<(), RedisError> {
    let (script, keys) = (Script::new("rights", TRY.to_owned()), [keyspace.absent()]);
    let commands: Vec<_> = commands().map(|name| name.as_bytes().to_vec()).collect();
    match servers.run(&script, &keys, &commands, Lane::Shared).await {
        Ok(Value::Array(refused)) if !refused.is_empty() => {
            let names: Vec<String> = refused.into_iter().filter_map(text).collect();
            Err(RedisError::commands_forbidden(&names))
        }
        Err(CommandError::NotRun(
            error @ (RedisError::ScriptsForbidden { .. } | RedisError::KeysForbidden { .. }),
        )) => Err(error),
        _ => Ok(()),
    }
}

/// The commands that the rights allow.
fn commands() -> impl Iterator<Item = &'static str> {
    RIGHTS.split_whitespace().map(|right| right.trim_start_matches('+'))
}

fn text(reply: Value) -> Option<String> {
    redis::from_redis_value(reply).ok()
}

/// All of them, as `ACL SETUSER` takes them; the pattern of the keys comes on top.
pub(crate) const RIGHTS: &str = include_str!("rights.txt");

/// Tries the commands among ARGV, each on a key that never exists, followed by the number of arguments in the table. Those
/// that could write have one argument too many for that; `SADD` takes any number, and is undone.
const TRY: &str = "
local arguments = {
  del = 0, unlink = 0, pexpire = 1, pttl = 0, get = 0, set = 3,
  hget = 1, hgetall = 0, hmget = 1, hset = 3, hdel = 1, hlen = 0,
  scard = 0, sismember = 1, srem = 1,
  zadd = 3, zcard = 0, zcount = 2, zrange = 2, zrangebylex = 2, zrangebyscore = 2,
  zrem = 1, zremrangebyrank = 2, zremrangebyscore = 2, zscore = 1,
}
local ones, refused = { '1', '1', '1' }, {}
local function try(name, ...)
  local reply = redis.pcall(name, ...)
  local said = type(reply) == 'table' and reply.err or ''
  if said:find('no permissions to run', 1, true) or said:find('run this command', 1, true) then
    refused[#refused + 1], refused[name] = name, true
  end
end
for _, name in ipairs(ARGV) do
  local count = arguments[name]
  if count then try(name, KEYS[1], unpack(ones, 1, count)) end
end
try('time')
if not refused.srem then
  try('sadd', KEYS[1], '1')
  redis.pcall('srem', KEYS[1], '1')
end
return refused
";

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the scripts and those that are tried are those that are documented.
    #[test]
    fn the_rights_are_those_that_scripts_and_connections_need() {
        let of_connections = ["evalsha", "eval", "script|load", "role", "info", "ping"];
        let rights: Vec<_> = commands().collect();
        let mut needed: Vec<_> = of_connections.map(str::to_owned).into();
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lua")).unwrap() {
            let lua = std::fs::read_to_string(file.unwrap().path()).unwrap();
            needed.extend(
                lua.split("call('")
                    .skip(1)
                    .map(|call| call.split('\'').next().unwrap().to_lowercase()),
            );
        }
        for right in &needed {
            assert!(rights.contains(&right.as_str()), "rights.txt lacks {right}");
            let is_tried =
                TRY.contains(&format!(" {right} = ")) || TRY.contains(&format!("'{right}'"));
            assert!(
                is_tried || of_connections.contains(&right.as_str()) || right == "sadd",
                "{right}"
            );
        }
        for right in rights {
            assert!(needed.iter().any(|needed| needed == right), "nothing needs {right}");
        }
    }
}
