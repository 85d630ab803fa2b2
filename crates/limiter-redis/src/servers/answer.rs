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
            let source = std::sync::Arc::new(error);
            return RedisError::Authentication { server: server.to_owned(), source };
        }
        ErrorKind::RESP3NotSupported => {
            let (server, version) = (server.to_owned(), "below 6.0".to_owned());
            return RedisError::ServerTooOld { server, version };
        }
        ErrorKind::Io => return RedisError::unreachable(server, error),
        _ => {}
    }
    if error.to_string().contains("refused to switch database") {
        let detail = error.detail().unwrap_or_default();
        let hint = "choose another one, or none";
        let reason = format!("{server} does not let us use the database: {detail}; {hint}");
        return RedisError::setting("url", reason);
    }
    match ServerError::try_from(error.clone()) {
        Ok(answer) => Text::of(&answer)
            .common(server)
            .unwrap_or_else(|| RedisError::unreachable(server, error)),
        Err(error) => RedisError::unreachable(server, error),
    }
}

/// The text of an error, unwrapped: its code and the rest.
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
            any_right(format!("what the script {:?} calls", script.name))
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
        None => any_right(format!("what it is asked for ({text})")),
    }
}

/// Creates the error of a user without some right that the server does not name.
fn any_right(what: String) -> RedisError {
    let allow = rights::RIGHTS.split_whitespace().collect::<Vec<_>>().join(" ");
    RedisError::Permission { what, allow }
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

/// Splits `@user_script:12: `, `@user_script: 12: ` or `user_script:12: ` off the beginning: its number, and the rest.
fn without_line(text: &str) -> Option<(usize, &str)> {
    let after = text.strip_prefix('@').unwrap_or(text).strip_prefix("user_script:")?;
    let (line, after) = after.trim_start().split_once(": ")?;
    Some((line.parse().ok()?, after))
}

/// Formats the keys of a call for an error: the server does not say which one failed.
fn keys(call: &Call<'_>) -> String {
    let keys: Vec<_> = call.keys.iter().map(|key| keyspace::shown(key)).collect();
    keys.join(", ")
}

/// The errors of a script that calls a command its user may not run: of older servers and of newer ones.
const FORBIDDEN: [&str; 2] = ["The user executing the script can't", "ACL failure in script: "];

/// The beginnings of errors of Redis 7 and 6.2 when a script stops by itself: the store's scripts do so on foreign data.
const STOPPED: [&str; 2] = ["user_script:", "Error running script (call to "];

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    /// How an answer to the script `decide` is read, whose second line calls TIME.
    fn read_as(line: &str) -> String {
        let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = reply else { panic!("{reply:?}") };
        let script = Script::new("decide", "-- \nredis.call('TIME')".to_owned());
        let keys = [b"limiter:k:{a}".to_vec()];
        let call = Call { script: &script, keys: &keys, arguments: &[] };
        match read(&error, "here:1", &call) {
            Answer::Refused(error) => format!("{error:?}"),
            other => format!("{other:?}"),
        }
    }

    const DIGEST: &str = "e0e1f9fabfc9d4800c877a703b823ac0578ff8db";

    #[test]
    fn an_answer_has_a_meaning() {
        const TIME: &str = r#"Permission { what: "TIME", allow: "+time" }"#;
        const NO_KEYS: &str = r#"KeysForbidden { pattern: "limiter:*" }"#;
        for (line, meaning) in [
            ("MOVED 866 10.0.0.2:7001", r#"Moved { to: "10.0.0.2:7001" }"#),
            ("ASK 866 ::1:7001", r#"Ask { to: "::1:7001" }"#),
            ("TRYAGAIN Multiple keys", r#"TryAgain { answer: "TRYAGAIN Multiple keys" }"#),
            ("NOSCRIPT No matching script.", "NoScript"),
            // Raised by our scripts.
            (
                "LIMITER newer limiter:k:{a} script: x",
                r#"NewerFormat { key: "limiter:k:{a} script: x" }"#,
            ),
            (
                "LIMITER corrupt the record is short",
                r#"Corrupt { key: "limiter:k:{a}", what: "the record is short" }"#,
            ),
            (
                "ERR user_script:3: a nil value script: 00, on @user_script:3.",
                r#"Corrupt { key: "limiter:k:{a}", what: "user_script:3: a nil value" }"#,
            ),
            // By old servers and by new ones.
            (
                "NOPERM this user has no permissions to run the 'evalsha' command or its subcommand",
                r#"ScriptsForbidden { command: "EVALSHA" }"#,
            ),
            (
                "NOPERM User x has no permissions to run the 'script|load' command",
                r#"ScriptsForbidden { command: "SCRIPT LOAD" }"#,
            ),
            (
                "NOPERM User x has no permissions to run the 'role' command",
                r#"Permission { what: "ROLE", allow: "+role" }"#,
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                NO_KEYS,
            ),
            ("NOPERM No permissions to access a key", NO_KEYS),
        ] {
            assert_eq!(read_as(line), meaning, "{line}");
        }
        // A command that a script calls may be forbidden too.
        let old = "The user executing the script can't run this command or subcommand";
        let new = "ACL failure in script: User x has no permissions to run the 'time' command";
        let wrapped = format!("ERR Error running script (call to f_{DIGEST}): @user_script:2: ");
        for line in [
            format!("{wrapped}@user_script: 2: {old}"),
            format!("ERR {old} script: {DIGEST}, on @user_script:2."),
            format!("ERR {new} script: {DIGEST}, on @user_script:2."),
            format!("ERR {new} script: on @user_script:2."),
        ] {
            assert_eq!(read_as(&line), TIME, "{line}");
        }
        let elsewhere = read_as(&format!("ERR {old} script: {DIGEST}, on @user_script:1."));
        assert!(elsewhere.starts_with("Permission"), "{elsewhere}");
        assert!(elsewhere.contains("decide") && elsewhere.contains(" +time "), "{elsewhere}");
    }

    #[test]
    fn what_redis_6_wraps_and_redis_7_places_is_the_same() {
        let wrapped = format!(
            "ERR Error running script (call to f_{DIGEST}): @user_script:1: @user_script: 1: "
        );
        for (text, meaning) in [
            ("READONLY You can't write against a replica.", r#"ReadOnly { server: "here:1" }"#),
            ("OOM command not allowed", r#"OutOfMemory { server: "here:1" }"#),
            ("WRONGTYPE Operation against a key", r#"WrongType { key: "limiter:k:{a}" }"#),
            (
                "NOREPLICAS Not enough good replicas.",
                r#"ScriptFailed { script: "decide", answer: "NOREPLICAS Not enough good replicas." }"#,
            ),
        ] {
            let placed = format!("{text} script: {DIGEST}, on @user_script:1.");
            for line in [format!("{wrapped}-{text}"), placed] {
                assert_eq!(read_as(&line), meaning, "{line}");
            }
        }
        let line = format!("{wrapped}The user executing the script can't run this command");
        assert!(read_as(&line).starts_with("Permission"), "{line}");
        // The line of the script, once or twice, with the minus or without.
        let line = format!("{wrapped}user_script:1: LIMITER newer limiter:k:{{a}}");
        assert_eq!(read_as(&line), r#"NewerFormat { key: "limiter:k:{a}" }"#);
    }
}
