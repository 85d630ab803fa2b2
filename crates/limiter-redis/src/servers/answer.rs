//! The meaning of a server's error for the call.
//!
//! Every such answer proves that the script changed nothing: it was not run, or it stopped before it wrote, which our
//! scripts do at their very end.

use redis::{ErrorKind, ServerError};

#[cfg(feature = "tls")]
use super::tls;
use crate::error::RedisError;
use crate::keyspace;
use crate::rights;
use crate::script::{Call, Script};

/// An error that a server answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// The slot lives at another node, for good.
    Moved { to: String },
    /// The slot is moving, and the key is at another node already or would be made there.
    Ask { to: String },
    /// The slot is moving, and some keys of the call are here and some are there.
    TryAgain { answer: String },
    /// The server does not know the script, or not any more.
    NoScript,
    /// Anything else.
    Refused(RedisError),
}

/// Reads the answer of the server at this address to this call.
pub(super) fn read(error: &ServerError, server: &str, call: &Call<'_>) -> Answer {
    let text = Text::of(error);
    let to = || text.rest.split_whitespace().nth(1).unwrap_or_default().to_owned();
    match text.code.as_str() {
        "MOVED" => Answer::Moved { to: to() },
        "ASK" => Answer::Ask { to: to() },
        "TRYAGAIN" => Answer::TryAgain { answer: text.whole() },
        "NOSCRIPT" => Answer::NoScript,
        "LIMITER" => Answer::Refused(ours(&text.rest, call)),
        "NOPERM" if text.is_about_keys() => {
            let key = call.keys.first().map_or(&[][..], Vec::as_slice);
            Answer::Refused(RedisError::KeysForbidden { pattern: keyspace::pattern_of(key) })
        }
        "ERR" if text.is_forbidden() => Answer::Refused(text.forbidden_in(call.script)),
        "WRONGTYPE" => Answer::Refused(RedisError::WrongType { key: keys(call) }),
        "ERR" if STOPPED.iter().any(|start| text.rest.starts_with(start)) => {
            Answer::Refused(RedisError::Corrupt { key: keys(call), what: text.rest })
        }
        _ => Answer::Refused(text.common(server).unwrap_or_else(|| RedisError::ScriptFailed {
            script: call.script.name.to_owned(),
            answer: text.whole(),
        })),
    }
}

/// Reads an error that stopped us from connecting to the server at this address, or its answer to a command there.
pub(super) fn connecting(error: redis::RedisError, server: &str) -> RedisError {
    #[cfg(feature = "tls")]
    if let Some(failure) = tls::failure(&error, server) {
        return failure;
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            return RedisError::Authentication {
                server: server.to_owned(),
                source: std::sync::Arc::new(error),
            };
        }
        ErrorKind::RESP3NotSupported => {
            return RedisError::ServerTooOld {
                server: server.to_owned(),
                version: "below 6.0".to_owned(),
            };
        }
        ErrorKind::Io => return RedisError::unreachable(server, error),
        _ => {}
    }
    if error.to_string().contains("refused to switch database") {
        return RedisError::InvalidSetting {
            setting: "url",
            reason: format!(
                "{server} does not let us use the database: {}; choose another one, or none",
                error.detail().unwrap_or_default()
            ),
        };
    }
    match ServerError::try_from(error.clone()) {
        Ok(answer) => Text::of(&answer)
            .common(server)
            .unwrap_or_else(|| RedisError::unreachable(server, error)),
        Err(error) => RedisError::unreachable(server, error),
    }
}

/// The words of an error, unwrapped: its code and what follows it.
struct Text {
    code: String,
    rest: String,
    /// The line of the script that was stopped.
    line: Option<usize>,
}

impl Text {
    fn of(error: &ServerError) -> Self {
        let (rest, mut line) = without_place(error.details().unwrap_or_default());
        // Redis 6.2 wraps what stopped a script: `ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -OOM …`.
        if error.code() == "ERR" && rest.starts_with("Error running script (call to ") {
            let mut inner = rest.split_once("): ").map_or(rest, |(_, inner)| inner);
            while let Some((number, after)) = without_line(inner) {
                (inner, line) = (after, Some(number));
            }
            let inner = inner.strip_prefix('-').unwrap_or(inner);
            let (code, after) = inner.split_once(' ').unwrap_or((inner, ""));
            if FORBIDDEN.iter().any(|start| inner.starts_with(start)) {
                return Self { code: "ERR".to_owned(), rest: inner.to_owned(), line };
            }
            if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Self { code: code.to_owned(), rest: after.to_owned(), line };
            }
        }
        Self { code: error.code().to_owned(), rest: rest.to_owned(), line }
    }

    fn whole(&self) -> String {
        format!("{} {}", self.code, self.rest)
    }

    /// The error for an answer that any command can get.
    fn common(&self, server: &str) -> Option<RedisError> {
        let server = server.to_owned();
        Some(match self.code.as_str() {
            "LOADING" => RedisError::Loading { server },
            "BUSY" => RedisError::Busy { server },
            "OOM" => RedisError::OutOfMemory { server },
            "READONLY" => RedisError::ReadOnly { server },
            "MASTERDOWN" => RedisError::Replica { server },
            "CLUSTERDOWN" => RedisError::ClusterDown { answer: self.whole() },
            "WRONGPASS" | "NOAUTH" => RedisError::Authentication {
                server,
                source: std::sync::Arc::new(std::io::Error::other(self.whole())),
            },
            "NOPERM" => forbidden(&self.rest),
            _ => return None,
        })
    }
}

impl Text {
    /// `this user has no permissions to access one of the keys used as arguments`, or `No permissions to access a key`.
    fn is_about_keys(&self) -> bool {
        self.rest.contains("permissions to access")
    }

    /// Whether a script was stopped by what its user may not.
    fn is_forbidden(&self) -> bool {
        FORBIDDEN.iter().any(|start| self.rest.starts_with(start))
    }

    /// The command that stopped the script: newer servers name it, older ones only its line.
    fn forbidden_in(&self, script: &Script) -> RedisError {
        if self.rest.contains(" '") {
            return forbidden(&self.rest);
        }
        let line = self.line.and_then(|line| script.text.lines().nth(line.checked_sub(1)?));
        let calls = line.unwrap_or_default().split("call('").skip(1);
        let mut commands: Vec<_> = calls.filter_map(|call| call.split('\'').next()).collect();
        commands.dedup();
        if commands.is_empty() || self.rest.contains("keys") {
            RedisError::Permission {
                what: format!("what the script {:?} calls", script.name),
                allow: rights::RIGHTS.split_whitespace().collect::<Vec<_>>().join(" "),
            }
        } else {
            RedisError::commands_forbidden(&commands)
        }
    }
}

/// `LIMITER newer <key>` and `LIMITER corrupt <what>`, which our scripts raise.
fn ours(rest: &str, call: &Call<'_>) -> RedisError {
    let (word, argument) = rest.split_once(' ').unwrap_or((rest, ""));
    match word {
        "newer" => RedisError::NewerFormat { key: argument.to_owned() },
        "corrupt" => RedisError::Corrupt { key: keys(call), what: argument.to_owned() },
        _ => RedisError::ScriptFailed {
            script: call.script.name.to_owned(),
            answer: format!("LIMITER {rest}"),
        },
    }
}

/// `User x has no permissions to run the 'evalsha' command`, in a script or by itself.
fn forbidden(text: &str) -> RedisError {
    match text.split('\'').nth(1) {
        Some(command) if command.starts_with("script") || command.starts_with("eval") => {
            RedisError::ScriptsForbidden { command: command.to_uppercase().replace('|', " ") }
        }
        Some(command) => RedisError::commands_forbidden(&[command]),
        None => RedisError::Permission {
            what: format!("what it is asked for ({text})"),
            allow: rights::RIGHTS.split_whitespace().collect::<Vec<_>>().join(" "),
        },
    }
}

/// From version 7 on, servers say where a script stopped: `… script: <40 digits>, on @user_script:12.`, without the digits
/// in Valkey 9.
fn without_place(text: &str) -> (&str, Option<usize>) {
    match text.rsplit_once(" script: ") {
        Some((before, place)) if place.contains("on @user_script:") => {
            let line = place.trim_end_matches('.').rsplit(':').next();
            (before, line.and_then(|line| line.parse().ok()))
        }
        _ => (text, None),
    }
}

/// The number in one `@user_script:12: `, `@user_script: 12: ` or `user_script:12: ` at the beginning, and what follows.
fn without_line(text: &str) -> Option<(usize, &str)> {
    let after = text.strip_prefix('@').unwrap_or(text).strip_prefix("user_script:")?;
    let (line, after) = after.trim_start().split_once(": ")?;
    Some((line.parse().ok()?, after))
}

/// The keys of a call, for a person to look at: which one it was, the server does not say.
fn keys(call: &Call<'_>) -> String {
    let keys: Vec<_> = call.keys.iter().map(|key| keyspace::shown(key)).collect();
    keys.join(", ")
}

/// How a script is stopped that calls a command its user may not: by older servers and by newer ones.
const FORBIDDEN: [&str; 2] = ["The user executing the script can't", "ACL failure in script: "];

/// How Redis 7 and 6.2 begin when a script stops by itself, which ours do only on what they never wrote.
const STOPPED: [&str; 2] = ["user_script:", "Error running script (call to "];

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    fn answer(line: &str) -> Answer {
        let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = reply else { panic!("{reply:?}") };
        let script = Script::new("decide", "-- \nredis.call('TIME')".to_owned());
        let keys = [b"limiter:k:{a}".to_vec()];
        read(&error, "here:1", &Call { script: &script, keys: &keys, arguments: &[] })
    }

    fn refused(line: &str) -> RedisError {
        match answer(line) {
            Answer::Refused(error) => error,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn redirects() {
        assert!(
            matches!(answer("MOVED 866 10.0.0.2:7001"), Answer::Moved { to } if to == "10.0.0.2:7001")
        );
        assert!(matches!(answer("ASK 866 ::1:7001"), Answer::Ask { to } if to == "::1:7001"));
        assert!(matches!(answer("TRYAGAIN Multiple keys request"), Answer::TryAgain { .. }));
        assert!(matches!(answer("NOSCRIPT No matching script."), Answer::NoScript));
    }

    #[test]
    fn what_redis_6_wraps_and_redis_7_places_is_the_same() {
        const WRAPPED: &str = "ERR Error running script (call to f_e0e1f9fabfc9d4800c877a703b823ac0578ff8db): @user_script:1: @user_script: 1: ";
        const PLACE: &str = " script: e0e1f9fabfc9d4800c877a703b823ac0578ff8db, on @user_script:1.";
        let both = |text: &str| [format!("{WRAPPED}-{text}"), format!("{text}{PLACE}")];
        for line in both("READONLY You can't write against a read only replica.") {
            assert!(matches!(refused(&line), RedisError::ReadOnly { .. }), "{line}");
        }
        for line in both("OOM command not allowed when used memory > 'maxmemory'.") {
            assert!(matches!(refused(&line), RedisError::OutOfMemory { .. }), "{line}");
        }
        for line in both("WRONGTYPE Operation against a key holding the wrong kind of value") {
            assert!(
                matches!(refused(&line), RedisError::WrongType { key } if key == "limiter:k:{a}")
            );
        }
        for line in both("NOREPLICAS Not enough good replicas to write.") {
            let RedisError::ScriptFailed { script, answer } = refused(&line) else {
                panic!("{line}")
            };
            assert_eq!((script.as_str(), &answer[..10]), ("decide", "NOREPLICAS"));
        }
        let line =
            format!("{WRAPPED}The user executing the script can't run this command or subcommand");
        assert!(matches!(refused(&line), RedisError::Permission { .. }), "{line}");
        // The line of the script, once or twice, with the minus or without.
        let line = format!("{WRAPPED}user_script:1: LIMITER newer limiter:k:{{a}}");
        assert!(
            matches!(refused(&line), RedisError::NewerFormat { key } if key == "limiter:k:{a}")
        );
    }

    #[test]
    fn what_our_scripts_say() {
        let newer = refused("LIMITER newer limiter:k:{a} script: x");
        assert!(
            matches!(newer, RedisError::NewerFormat { key } if key == "limiter:k:{a} script: x")
        );
        let corrupt = refused("LIMITER corrupt the record is short");
        assert!(
            matches!(corrupt, RedisError::Corrupt { what, .. } if what == "the record is short")
        );
        let stopped = refused(
            "ERR user_script:3: attempt to index a nil value script: 00, on @user_script:3.",
        );
        assert!(
            matches!(stopped, RedisError::Corrupt { what, .. } if what.ends_with("a nil value"))
        );
    }

    #[test]
    fn what_is_forbidden_is_named() {
        let old =
            "NOPERM this user has no permissions to run the 'evalsha' command or its subcommand";
        assert!(
            matches!(refused(old), RedisError::ScriptsForbidden { command } if command == "EVALSHA")
        );
        let new = "NOPERM User x has no permissions to run the 'script|load' command";
        assert!(
            matches!(refused(new), RedisError::ScriptsForbidden { command } if command == "SCRIPT LOAD")
        );
        let role = "NOPERM User x has no permissions to run the 'role' command";
        assert!(refused(role).to_string().ends_with("SETUSER <user> +role"), "{}", refused(role));
        for keys in [
            "NOPERM this user has no permissions to access one of the keys used as arguments",
            "NOPERM No permissions to access a key",
        ] {
            assert!(
                matches!(refused(keys), RedisError::KeysForbidden { pattern } if pattern == "limiter:*")
            );
        }
    }

    /// The script has `redis.call('TIME')` in its second line.
    #[test]
    fn what_is_forbidden_in_a_script_is_named() {
        const DIGEST: &str = "436dd02fabdcca867d59427671a5780b9f0f749d";
        let old = "The user executing the script can't run this command or subcommand";
        let new = "ACL failure in script: User x has no permissions to run the 'time' command";
        for line in [
            format!(
                "ERR Error running script (call to f_{DIGEST}): @user_script:2: @user_script: 2: {old}"
            ),
            format!("ERR {old} script: {DIGEST}, on @user_script:2."),
            format!("ERR {new} script: {DIGEST}, on @user_script:2."),
            format!("ERR {new} script: on @user_script:2."),
        ] {
            let RedisError::Permission { what, allow } = refused(&line) else { panic!("{line}") };
            assert_eq!((what.as_str(), allow.as_str()), ("TIME", "+time"), "{line}");
        }
        let elsewhere = refused(&format!("ERR {old} script: {DIGEST}, on @user_script:1."));
        assert!(elsewhere.to_string().contains("\"decide\""), "{elsewhere}");
        assert!(elsewhere.to_string().contains(" +time "), "{elsewhere}");
    }
}
