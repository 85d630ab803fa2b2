//! A URL, read once: which servers it means, and as whom we come.

use std::fmt;
use std::str::FromStr;

use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion};

use crate::error::RedisError;

/// The servers to connect to. `Debug` shows no password, since that of `ConnectionInfo` does not.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// One server.
    Standalone(ConnectionInfo),
    /// The master that Sentinels name.
    Sentinel {
        /// The Sentinels, in the order in which they are asked.
        sentinels: Vec<ConnectionInfo>,
        /// The name of the master.
        service: String,
        /// All about the connection to the master but its address.
        master: ConnectionInfo,
    },
    /// The masters of a cluster, which any of the seeds knows.
    Cluster {
        /// Nodes to ask for the others.
        seeds: Vec<ConnectionInfo>,
    },
}

impl Target {
    /// True if the connections are encrypted.
    pub(crate) fn uses_tls(&self) -> bool {
        let any = match self {
            Self::Standalone(server) | Self::Sentinel { master: server, .. } => Some(server),
            Self::Cluster { seeds } => seeds.first(),
        };
        any.is_some_and(|server| matches!(server.addr(), ConnectionAddr::TcpTls { .. }))
    }
}

impl FromStr for Target {
    type Err = RedisError;

    fn from_str(url: &str) -> Result<Self, RedisError> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid("it has no ://"))?;
        if rest.contains('#') {
            return Err(invalid("nothing may follow a # (in a password write %23)"));
        }
        // By TLS or not, the rest is the same.
        let plain = match scheme.strip_prefix("rediss") {
            Some(kind) => format!("redis{kind}"),
            None => scheme.to_owned(),
        };
        let security = if plain == scheme { "redis" } else { "rediss" };
        let target = match plain.as_str() {
            "redis" => without_query(url).and_then(server).map(Self::Standalone),
            "unix" | "redis+unix" if plain == scheme => {
                knows_all_parameters(Parts::of(rest).query)?;
                server(url).map(Self::Standalone)
            }
            "redis+cluster" => cluster(security, rest),
            "redis+sentinel" => sentinel(security, rest),
            _ => return Err(invalid("what precedes :// is none of the schemes known here")),
        };
        // Without TLS compiled in, every `rediss` URL fails, and should say how to change that.
        target.map_err(|error| match cfg!(feature = "tls") || plain == scheme {
            true => error,
            false => invalid(format!(
                "{scheme}:// needs TLS: enable the feature `redis-tls` of llm-limiter, or `tls` of limiter-redis"
            )),
        })
    }
}

/// The same server settings for another address, as a cluster or a Sentinel gives it.
pub(crate) fn at(info: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let host = host.to_owned();
    let address = match info.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.clone().set_addr(address)
}

/// Host and port of an address; a host of six parts with colons may have brackets or none.
pub(crate) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?))
}

fn cluster(scheme: &str, rest: &str) -> Result<Target, RedisError> {
    let parts = Parts::of(rest);
    if !parts.path.trim_matches('/').is_empty() {
        return Err(invalid("a cluster has no databases, so nothing may follow the hosts"));
    }
    without_query(rest)?;
    Ok(Target::Cluster { seeds: parts.servers(scheme, parts.user)? })
}

fn sentinel(scheme: &str, rest: &str) -> Result<Target, RedisError> {
    let parts = Parts::of(rest);
    let (service, database) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    if service.is_empty() {
        return Err(invalid("the name of the master is missing: …/service after the Sentinels"));
    }
    let (mut user, mut password) = ("", None);
    for pair in parts.query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sentinel_user", value)) => user = value,
            Some(("sentinel_password", value)) => password = Some(value),
            _ => return Err(invalid("after ? only sentinel_user and sentinel_password are known")),
        }
    }
    let of_sentinels = password.map(|password| format!("{user}:{password}"));
    if of_sentinels.is_none() && !user.is_empty() {
        return Err(invalid("sentinel_user needs a sentinel_password"));
    }
    let sentinels = parts.servers(scheme, of_sentinels.as_deref())?;
    // The address is a stand-in: it is replaced by the one that the Sentinels give.
    let master = server(&spelled(scheme, parts.user, "localhost", database))?;
    Ok(Target::Sentinel { sentinels, service: service.to_owned(), master })
}

/// redis-rs would pass over a parameter that it does not know, and so over one that is mistyped.
fn without_query(url: &str) -> Result<&str, RedisError> {
    if url.contains('?') {
        return Err(invalid("nothing may follow a ? here (in a password write %3F)"));
    }
    Ok(url)
}

/// Those of a socket, which has no other place for them.
fn knows_all_parameters(query: &str) -> Result<(), RedisError> {
    let known = |pair: &str| {
        pair.split_once('=').is_some_and(|(name, _)| ["db", "user", "pass"].contains(&name))
    };
    if query.split('&').filter(|pair| !pair.is_empty()).all(known) {
        Ok(())
    } else {
        Err(invalid("after ? only db, user and pass are known"))
    }
}

/// One server, by the rules of redis-rs, which also decodes what is percent-encoded.
fn server(url: &str) -> Result<ConnectionInfo, RedisError> {
    // The message of redis-rs names a part of the URL and never its value.
    let info = url.into_connection_info().map_err(|error| match error.kind() {
        ErrorKind::InvalidClientConfig => match error.to_string().split_once(" - ") {
            Some((reason, _)) if reason != NOT_PARSED => invalid(reason),
            _ => invalid(
                "it cannot be read (a port is a number up to 65535, / and @ in a password are written %2F and %40, \
                 several hosts need redis+cluster:// or redis+sentinel://)",
            ),
        },
        _ => invalid("it cannot be read"),
    })?;
    // With RESP3 redis-rs reports when a connection closes, so that nothing is sent into a dead one.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    if settings.db() < 0 {
        return Err(invalid("the number of the database is negative"));
    }
    Ok(info.set_redis_settings(settings))
}

fn spelled(scheme: &str, user: Option<&str>, host: &str, database: &str) -> String {
    match user {
        Some(user) => format!("{scheme}://{user}@{host}/{database}"),
        None => format!("{scheme}://{host}/{database}"),
    }
}

/// The parts of a URL after `://`.
struct Parts<'a> {
    user: Option<&'a str>,
    hosts: &'a str,
    /// Without its first slash.
    path: &'a str,
    query: &'a str,
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        Self { user, hosts, path, query }
    }

    fn servers(&self, scheme: &str, user: Option<&str>) -> Result<Vec<ConnectionInfo>, RedisError> {
        let hosts: Vec<_> = self.hosts.split(',').collect();
        if hosts.len() > MAX_HOSTS {
            let count = hosts.len();
            return Err(invalid(format!("it names {count} servers, {MAX_HOSTS} are enough")));
        }
        hosts.into_iter().map(|host| server(&spelled(scheme, user, host, ""))).collect()
    }
}

fn invalid(reason: impl Into<String>) -> RedisError {
    RedisError::InvalidUrl { reason: reason.into() }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = match self {
            Self::Standalone(server) => std::slice::from_ref(server),
            Self::Sentinel { sentinels, .. } => sentinels,
            Self::Cluster { seeds } => seeds,
        };
        let addresses: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
        f.write_str(&addresses.join(","))
    }
}

/// Seeds or Sentinels: a few are plenty to find the rest, and each may have to be asked in turn.
const MAX_HOSTS: usize = 32;

/// All that redis-rs says of many a mistake.
const NOT_PARSED: &str = "Redis URL did not parse";

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn reason(url: &str) -> String {
        url.parse::<Target>().expect_err(url).to_string()
    }

    /// A server as `user:password@address/database`.
    fn shown(server: &ConnectionInfo) -> String {
        let settings = server.redis_settings();
        let [user, password] =
            [settings.username(), settings.password()].map(Option::unwrap_or_default);
        format!("{user}:{password}@{}/{}", server.addr(), settings.db())
    }

    #[test]
    fn a_url_names_servers() {
        for (url, servers) in [
            (
                "redis://us%40er:p%3Aw%2F@example.org:7000/3",
                &["one", "us@er:p:w/@example.org:7000/3"][..],
            ),
            ("redis://example.org", &["one", ":@example.org:6379/0"]),
            ("unix:///run/redis.sock", &["one", ":@/run/redis.sock/0"]),
            ("unix:///run/redis.sock?db=2&pass=secret", &["one", ":secret@/run/redis.sock/2"]),
            (
                "redis+cluster://:s%2Cecret@a:1,b,[::1]:3",
                &["cluster", ":s,ecret@a:1/0", ":s,ecret@b:6379/0", ":s,ecret@::1:3/0"],
            ),
            // Sentinels may want another password than the master.
            (
                "redis+sentinel://me:mine@a:1,b:2/main/4?sentinel_user=s&sentinel_password=th%65irs",
                &["main", "s:theirs@a:1/0", "s:theirs@b:2/0", "me:mine@localhost:6379/4"],
            ),
        ] {
            let (kind, named) = match target(url) {
                Target::Standalone(server) => ("one".to_owned(), vec![server]),
                Target::Cluster { seeds } => ("cluster".to_owned(), seeds),
                Target::Sentinel { sentinels, service, master } => {
                    (service, [sentinels, vec![master]].concat())
                }
            };
            let named = named.iter().map(shown);
            assert_eq!(std::iter::once(kind).chain(named).collect::<Vec<_>>(), servers, "{url}");
        }
        assert_eq!(target("redis+cluster://:secret@a:1,b").to_string(), "a:1,b:6379");
    }

    #[test]
    fn settings_are_kept_at_another_address() {
        let Target::Sentinel { master, .. } = target("redis+sentinel://me:mine@a/main/4") else {
            panic!("no Sentinels")
        };
        assert_eq!(shown(&at(&master, "::1", 9)), "me:mine@::1:9/4");
    }

    #[test]
    fn a_url_with_more_or_less_than_it_may_have_is_refused() {
        for (url, reason_part) in [
            ("redis://a:1?timeout=5", "nothing may follow a ?"),
            ("redis://a:1/3?protocol=resp2", "nothing may follow a ?"),
            ("redis://u:p?w@a:1", "nothing may follow a ?"),
            ("unix:///run/redis.sock?db=2&timeout=5", "db, user and pass"),
            ("redis+cluster://a:1/2", "no databases"),
            ("redis+cluster://a:1?x=y", "?"),
            ("redis+sentinel://a:1", "name of the master"),
            ("redis+sentinel://a:1/main?sentinel_user=x", "sentinel_password"),
        ] {
            assert!(reason(url).contains(reason_part), "{url}: {}", reason(url));
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secrets() {
        for url in [
            "redis://me:hunter2@host:notaport",
            "redis://me:hunter2@host/notadatabase",
            "redis://me:hunter2@host/-1",
            "redis://me:hunter2@",
            "redis://me:hunter2@host#insecure",
            "http://me:hunter2@host",
            "redis+cluster://me:hunter2@",
            "redis+cluster://me:hunter2@a,,b",
            "redis+sentinel://me:hunter2@a/main/x",
            "me:hunter2@host",
            "",
        ] {
            let message = reason(url);
            assert!(!message.contains("hunter2"), "{url}: {message}");
        }
        let shown = format!("{:?}", target("redis+cluster://me:hunter2@a,b"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn tls_is_a_feature() {
        for url in ["rediss://host", "rediss+cluster://a,b", "rediss+sentinel://a/main"] {
            if cfg!(feature = "tls") {
                assert!(target(url).uses_tls(), "{url}");
            } else {
                assert!(reason(url).contains("`tls`"), "{url}");
            }
        }
        assert!(!target("redis://host").uses_tls());
    }

    #[test]
    fn addresses_as_nodes_give_them() {
        assert_eq!(host_and_port("10.0.0.1:7000"), Some(("10.0.0.1", 7000)));
        assert_eq!(host_and_port("::1:7000"), Some(("::1", 7000)));
        assert_eq!(host_and_port("[::1]:7000"), Some(("::1", 7000)));
        assert_eq!(host_and_port(":7000"), Some(("", 7000)));
        assert_eq!(host_and_port("host"), None);
    }
}
