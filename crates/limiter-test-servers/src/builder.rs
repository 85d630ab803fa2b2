//! How a server is to be.

use crate::RedisServer;

/// The settings of a [`RedisServer`]: without persistence and without a password, unless they are set.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct RedisServerBuilder {
    options: Vec<(String, String)>,
    pub(super) password: Option<String>,
    pub(super) sentinel: bool,
}

impl RedisServerBuilder {
    /// Whether every write is appended to a file, which is synced each second. Default: no.
    pub fn appendonly(self, appendonly: bool) -> Self {
        self.option("appendonly", if appendonly { "yes" } else { "no" })
    }

    /// A line of the server's configuration, such as `maxmemory 10mb`. Of two lines of one name the later counts, or
    /// both do, as the server has it.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The password of the default user, which becomes part of the URL. Default: none.
    ///
    /// # Panics
    /// If it has other characters than ASCII letters and digits, which a URL would have to escape.
    pub fn password(mut self, password: &str) -> Self {
        assert!(
            password.bytes().all(|byte| byte.is_ascii_alphanumeric()),
            "{password:?} needs escaping"
        );
        self.password = Some(password.to_owned());
        self.option("requirepass", password)
    }

    /// A user besides the default one, by the rules of an access control list: `user("ci", "on >secret ~* +@all")`.
    pub fn user(self, name: &str, rules: &str) -> Self {
        self.option("user", &format!("{name} {rules}"))
    }

    /// `debug`, `verbose`, `notice` or `warning`. Default: `notice`.
    pub fn loglevel(self, loglevel: &str) -> Self {
        self.option("loglevel", loglevel)
    }

    /// A replica of that server. Default: a server for itself.
    pub fn replica_of(self, master: &RedisServer) -> Self {
        let replica = self.option("replicaof", &format!("127.0.0.1 {}", master.port()));
        match master.password() {
            Some(password) => replica.option("masterauth", password),
            None => replica,
        }
    }

    /// A node of a cluster that has yet to be made; [`RedisCluster`](super::RedisCluster) makes one.
    pub fn cluster(self) -> Self {
        self.option("cluster-enabled", "yes").option("cluster-announce-ip", "127.0.0.1")
    }

    /// Starts the server, and waits until it answers.
    ///
    /// # Panics
    /// If there is no binary, or the server does not start; the message has the end of its log.
    pub fn run(self) -> RedisServer {
        RedisServer::with(self)
    }

    pub(super) fn add_options_of(&mut self, other: &Self) {
        self.options.extend(other.options.iter().cloned());
    }

    /// A sentinel instead of a server.
    pub(super) fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// The text of the configuration file.
    pub(super) fn configuration(&self, port: u16) -> String {
        let mut text = format!("bind 127.0.0.1\nport {port}\n");
        if !self.sentinel {
            // Nothing is saved that was not asked for, and a replica is fed without waiting for more to come.
            text.push_str("save \"\"\nappendonly no\nrepl-diskless-sync-delay 0\n");
        }
        for (name, value) in &self.options {
            text.push_str(&format!("{name} {value}\n"));
        }
        text
    }
}
