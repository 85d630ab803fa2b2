//! The settings: flags, environment variables and a file, in this order of precedence.

mod flags;
mod origins;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use axum::http::Uri;
use clap::{ArgMatches, Args, FromArgMatches};
use limiter::__private::Object;
use limiter::{AccessKey, Effective, InvalidValue, PriceTable, Thresholds, WorkspaceId};
use limiter_tower::Dialect;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::apply::{Manner, Wanted};
use crate::bounds::Bounds;
use crate::models::{Model, Models};

use self::flags::{Flags, Subcommand};
pub use self::origins::Origin;

/// The settings of a server, as flags, as environment variables and in a file.
#[derive(Clone, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
#[allow(rustdoc::bare_urls, reason = "--help shows the text as it is here")]
pub struct Settings {
    /// Address to listen on [default: 127.0.0.1:8080]
    ///
    /// TLS is left to a proxy in front, such as nginx, Caddy or a cloud's load balancer: access keys must not travel in
    /// the clear. So listen on the loopback, or on a network that only the proxy reaches.
    #[arg(long, env = "LIMITER_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,

    /// Keep keys and counts in Redis instead of in memory
    ///
    /// redis://, rediss://, redis+sentinel://… or redis+cluster://…, as the library takes them. All servers with the same
    /// URL and prefix share keys and limits. A URL with a password belongs into the environment.
    #[arg(long, env = "LIMITER_REDIS", value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,

    /// The prefix of all Redis keys [default: limiter]
    #[arg(long, env = "LIMITER_REDIS_PREFIX", value_name = "PREFIX")]
    pub redis_prefix: String,

    /// Decide most calls in this process, out of what Redis has charged for them in advance
    ///
    /// Keys with a hundred calls a second or more take leases, each for a tenth of a second: a hundred times the decisions, and never
    /// one too many. Used and remaining are as of the lease, and other servers' changes of a key are seen when it ends. Needs --redis.
    #[arg(long, env = "LIMITER_LEASES")]
    pub leases: bool,

    /// Keep the in-memory engine over restarts in this file
    ///
    /// Changes of keys are on the disk before they are acknowledged. Counts are saved every ten seconds and at the end:
    /// a crash loses those since. Without this file a restart forgets all keys.
    #[arg(long, env = "LIMITER_STATE", value_name = "FILE")]
    pub state: Option<PathBuf>,

    /// The workspace whose first admin key is made at the first start [default: default]
    #[arg(long, env = "LIMITER_WORKSPACE", value_name = "NAME")]
    pub workspace: WorkspaceId,

    /// Rate limit headers on /v1, separated by commas [default: ietf]
    ///
    /// ietf: RateLimit and RateLimit-Policy, of draft-ietf-httpapi-ratelimit-headers-11; legacy: RateLimit-Limit, -Remaining
    /// and -Reset, of the earlier drafts; openai: x-ratelimit-limit-requests, -remaining-tokens and so on; anthropic:
    /// anthropic-ratelimit-requests-limit and so on; none: no headers, cannot be combined with others.
    ///
    /// Answers to /v1/check, /v1/reserve and amend have them if the call meets a limit. Calls to the APIs of OpenAI and
    /// Anthropic have that provider's own too, unless this is none. The paths of the aiXplain SDK never have any.
    #[arg(long = "headers", env = "LIMITER_HEADERS", value_name = "DIALECT,…", value_parser = dialects)]
    #[serde(rename = "headers", deserialize_with = "dialects_of_file")]
    pub dialects: Dialects,

    /// Origins of web pages that may call from a browser, as in https://example.com, or '*' [default: none]
    ///
    /// Answers to them have CORS headers. Leave it out behind a proxy that adds these itself.
    #[arg(long, env = "LIMITER_CORS_ORIGINS", value_name = "ORIGIN,…", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,

    /// Shares of limits and budgets, in percent, that fire an event when a key reaches them [default: 80,100]
    ///
    /// They hold for keys that are created or updated from now on. Each fires once in its window, as a line of the log and
    /// to the webhook, if there is one. 'none' for none.
    #[arg(long, env = "LIMITER_THRESHOLDS", value_name = "PERCENT,…", value_parser = percents)]
    pub thresholds: Thresholds,

    /// URL that threshold events are posted to, signed with LIMITER_WEBHOOK_SECRET
    ///
    /// JSON, with a header limiter-signature: t=UNIX_SECONDS,v1=HEX, the HMAC-SHA-256 of the time, a point and the body. An
    /// event is posted again until the answer is 2xx, or a final 4xx: it arrives at least once, always with the same id.
    #[arg(long, env = "LIMITER_WEBHOOK", value_name = "URL", hide_env_values = true)]
    pub webhook: Option<String>,

    /// Let calls beyond a limit or a budget through, and flag them: to introduce limits
    #[arg(long, env = "LIMITER_SHADOW")]
    pub shadow: bool,

    /// Log level: off, error, warn, info or debug, also for each part, as in warn,limiter_server=info [default: info]
    ///
    /// Each request is a line at info. No line ever has an access key.
    #[arg(long, env = "LIMITER_LOG", value_name = "FILTER")]
    pub log: String,

    /// Log lines are JSON
    #[arg(long, env = "LIMITER_LOG_JSON")]
    pub log_json: bool,

    /// Bounds on requests and connections.
    #[command(flatten)]
    #[serde(deserialize_with = "table")]
    pub bounds: Bounds,

    /// The models that can be run, in the file alone; three that echo by default.
    #[arg(skip)]
    #[serde(deserialize_with = "tables")]
    pub models: Vec<Model>,

    /// The prices of models without their own.
    #[arg(skip)]
    prices: PriceTable,

    /// The plans, groups and keys that `apply` brings to the store. A server leaves them to it.
    #[arg(skip)]
    pub(crate) workspaces: BTreeMap<WorkspaceId, Wanted>,

    /// The access key of the workspace's admin, from the environment alone: everybody on a machine sees the flags of its
    /// processes. Made at the first start by default.
    #[arg(skip)]
    #[serde(skip)]
    pub admin_key: Option<AccessKey>,

    /// The secret of the webhook, from the environment alone.
    #[arg(skip)]
    #[serde(skip)]
    pub webhook_secret: Zeroizing<String>,
}

/// An error in the settings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what is expected.
    #[error("the configuration file {path} is wrong: {message}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The mistake, and its place.
        message: String,
    },
    /// A setting is out of bounds, or contradicts another one.
    #[error("{0}")]
    Setting(String),
    /// The admin's access key from the environment is malformed.
    #[error("{ADMIN_KEY} cannot be used")]
    AdminKey(#[source] InvalidValue),
}

/// What the command line asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Command {
    /// To serve.
    Serve(Settings),
    /// To bring the plans, groups and keys of a file to the store, or to show how the store differs from it.
    Apply(Settings, Manner),
}

/// A command line, before the file that it names is read.
#[derive(Clone, Debug)]
pub struct CommandLine {
    matches: ArgMatches,
    subcommand: Option<Subcommand>,
}

impl CommandLine {
    /// Reads the arguments of this process. `--help` and mistakes end the process.
    #[must_use]
    pub fn of_process() -> Self {
        let matches = flags::command().get_matches();
        Self { subcommand: Subcommand::of(&matches), matches }
    }

    /// Returns the exit status after an error: that of `diff` is 2, since 1 is for differences.
    #[must_use]
    pub const fn status_of_errors(&self) -> u8 {
        match self.subcommand {
            Some(Subcommand::Diff { .. }) => 2,
            _ => 1,
        }
    }

    /// Reads the file and the environment.
    ///
    /// # Errors
    /// [`ConfigError`], each with a sentence of what to do.
    pub fn command(&self) -> Result<Command, ConfigError> {
        let file = self.subcommand.as_ref().map(Subcommand::file);
        let settings = Settings::of(&self.matches, file)?;
        Ok(match self.subcommand {
            None => {
                settings.check_webhook()?;
                Command::Serve(settings)
            }
            Some(Subcommand::Apply { dry_run, now, .. }) => {
                let effective = if now { Effective::Now } else { Effective::Next };
                Command::Apply(settings, Manner { dry_run, effective })
            }
            Some(Subcommand::Diff { .. }) => {
                Command::Apply(settings, Manner { dry_run: true, ..Manner::default() })
            }
        })
    }

    /// Returns whether the exit status tells of differences.
    #[must_use]
    pub const fn is_diff(&self) -> bool {
        matches!(self.subcommand, Some(Subcommand::Diff { .. }))
    }
}

impl Settings {
    /// From the flags, the environment and the file of a subcommand, or else the one that they name.
    fn of(matches: &ArgMatches, file: Option<&PathBuf>) -> Result<Self, ConfigError> {
        let file = match file.or_else(|| matches.get_one::<PathBuf>("config")) {
            None => Self::default(),
            Some(path) => match fs::read_to_string(path) {
                Ok(text) => Self::parse(path, &text)?,
                Err(source) => return Err(ConfigError::Unreadable { path: path.clone(), source }),
            },
        };
        let variable = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
        file.overridden_by(matches, variable(ADMIN_KEY), variable(WEBHOOK_SECRET))
    }

    /// Reads a file, in TOML.
    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        // Only the message and the line: the text around may have a password in it.
        toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let place =
                before.map(|before| format!(", around line {}", before.lines().count().max(1)));
            let message = format!("{}{}", error.message(), place.unwrap_or_default());
            ConfigError::Wrong { path: path.to_owned(), message }
        })
    }

    /// Replaces what flags and variables set, and checks the result.
    fn overridden_by(
        self,
        matches: &ArgMatches,
        admin_key: Option<String>,
        webhook_secret: Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut flags = Flags { settings: self.clone(), config: None };
        flags.update_from_arg_matches(matches).unwrap_or_else(|error| error.exit());
        let mut settings = flags.settings;
        // A flag that is absent counts as false.
        settings.shadow |= self.shadow;
        settings.leases |= self.leases;
        settings.log_json |= self.log_json;
        settings.admin_key =
            admin_key.map(AccessKey::new).transpose().map_err(ConfigError::AdminKey)?;
        settings.webhook_secret = webhook_secret.unwrap_or_default().into();
        let models = settings.models.into_iter();
        settings.models = models.map(|model| model.priced_by(&settings.prices)).collect();
        settings.check()?;
        Ok(settings)
    }

    /// Checks what depends on several settings.
    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |message: &str| Err(ConfigError::Setting(message.to_owned()));
        if self.state.is_some() && self.redis.is_some() {
            return wrong(
                "--state keeps the in-memory engine over restarts, and --redis has none: leave one of them out",
            );
        }
        if self.leases && self.redis.is_none() {
            return wrong(
                "--leases saves round trips to Redis, and the engine in memory makes none: leave it out, or set --redis",
            );
        }
        self.bounds.check()?;
        Models::new(self.models.clone()).map(|_| ())
    }

    /// Checks what a server needs to sign events. Who reviews the file need not have the secret.
    fn check_webhook(&self) -> Result<(), ConfigError> {
        let wrong = |message: &str| Err(ConfigError::Setting(message.to_owned()));
        if let Some(url) = &self.webhook {
            if http_url(url).is_none() {
                return wrong("--webhook must be an http:// or https:// URL with a host");
            }
            if self.webhook_secret.chars().count() < SHORTEST_SECRET {
                return wrong(
                    "LIMITER_WEBHOOK_SECRET must have at least 16 characters, to sign what goes to the webhook",
                );
            }
        }
        Ok(())
    }
}

impl Default for Settings {
    /// The settings with no flag, variable or file.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            redis: None,
            redis_prefix: "limiter".to_owned(),
            leases: false,
            state: None,
            workspace: "default".parse().expect("it is a name"),
            dialects: vec![Dialect::Ietf],
            cors_origins: Vec::new(),
            thresholds: Thresholds::default(),
            webhook: None,
            shadow: false,
            log: "info".to_owned(),
            log_json: false,
            bounds: Bounds::default(),
            models: Models::built_in(),
            prices: PriceTable::default(),
            workspaces: BTreeMap::new(),
            admin_key: None,
            webhook_secret: Zeroizing::default(),
        }
    }
}

/// A URL of Redis or of the webhook may have a password in it.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let webhook = self.webhook.as_deref().and_then(http_url);
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("redis", &self.redis.as_ref().map(|_| "…"))
            .field("leases", &self.leases)
            .field("workspace", &self.workspace)
            .field("state", &self.state)
            .field("bounds", &self.bounds)
            .field("dialects", &self.dialects)
            .field("cors_origins", &self.cors_origins)
            .field("thresholds", &self.thresholds)
            .field("webhook", &webhook.as_ref().map(Uri::host))
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}

/// Several dialects in one argument. By its own name, `Vec` would be a list of arguments.
type Dialects = Vec<Dialect>;

/// Reads names of header dialects, separated by commas.
fn dialects(names: &str) -> Result<Dialects, ConfigError> {
    if names == "none" {
        return Ok(Vec::new());
    }
    let dialect = |name| match name {
        "ietf" => Ok(Dialect::Ietf),
        "legacy" => Ok(Dialect::Legacy),
        "openai" => Ok(Dialect::OpenAi),
        "anthropic" => Ok(Dialect::Anthropic),
        "none" => {
            Err("`none` cannot be combined with other header formats: leave one of them out"
                .to_owned())
        }
        _ => Err(format!(
            "{name:?} is not a header format: expected ietf, legacy, openai, anthropic or none"
        )),
    };
    names.split(',').map(dialect).collect::<Result<_, _>>().map_err(ConfigError::Setting)
}

fn dialects_of_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Dialects, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() {
        Ok(Vec::new())
    } else {
        dialects(&names.join(",")).map_err(Error::custom)
    }
}

/// Reads `80,100`, or `none`.
fn percents(text: &str) -> Result<Thresholds, InvalidValue> {
    if text == "none" { Ok(Thresholds::NONE) } else { text.parse() }
}

/// Reads a table: serde's derive accepts an array too.
fn table<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

fn tables<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let tables = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(tables.into_iter().map(|Object(value)| value).collect())
}

/// Reads an HTTP URL with a host.
pub(crate) fn http_url(url: &str) -> Option<Uri> {
    let url: Uri = url.parse().ok()?;
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    (has_host && matches!(url.scheme_str(), Some("http" | "https"))).then_some(url)
}

/// Reads such a URL. The error does not show it: it may have a password in it.
pub(crate) fn read_http_url<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Uri>, D::Error> {
    let url = http_url(&String::deserialize(d)?);
    url.map(Some)
        .ok_or_else(|| Error::custom("an upstream must be an http:// or https:// URL with a host"))
}

/// The variable with the access key of the workspace's admin.
const ADMIN_KEY: &str = "LIMITER_ADMIN_KEY";
/// The variable with the secret of the webhook.
const WEBHOOK_SECRET: &str = "LIMITER_WEBHOOK_SECRET";
/// Random characters, too many to be guessed.
const SHORTEST_SECRET: usize = 16;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn read(arguments: &[&str], file: &str, secret: &str) -> Result<Settings, ConfigError> {
        let (arguments, command) = ([&["limiter-server"], arguments].concat(), flags::command());
        // The flags do not contradict each other.
        command.clone().debug_assert();
        let matches = command.try_get_matches_from(arguments).unwrap();
        let file = Settings::parse("test.toml".as_ref(), file)?;
        let settings = file.overridden_by(&matches, None, Some(secret.to_owned()))?;
        settings.check_webhook().map(|()| settings)
    }

    fn settings(arguments: &[&str], file: &str) -> Settings {
        read(arguments, file, "a secret of the test").unwrap()
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = "
            listen = '127.0.0.1:1'
            shadow = true
            [bounds]
            max_requests = 5
            read_timeout_s = 2
            max_request_ids = 5
            dedupe_time_s = 60
            slot_time_s = 300
        ";
        let flags = "--listen 127.0.0.1:2 --max-requests 7 --max-open-reservations 7 --max-ended-reservations 8";
        let settings = settings(&flags.split(' ').collect::<Vec<_>>(), file);
        assert_eq!((settings.listen.port(), settings.shadow), (2, true));
        let expected = Bounds {
            max_requests: 7,
            read_timeout_s: 2,
            max_open_reservations: 7,
            max_ended_reservations: 8,
            max_request_ids: 5,
            dedupe_time_s: 60,
            slot_time_s: 300,
            ..Bounds::default()
        };
        assert_eq!(settings.bounds, expected);
        let ledger = settings.bounds.ledger();
        assert_eq!(
            (
                ledger.open,
                ledger.ended,
                ledger.checks,
                ledger.dedupe.as_secs(),
                ledger.slots.as_secs()
            ),
            (7, 8, 5, 60, 300)
        );
    }

    #[test]
    fn the_sample_configuration_is_the_default_except_for_models() {
        let (sample, default) =
            (settings(&[], include_str!("../limiter-server.toml")), Settings::default());
        assert_eq!(format!("{sample:?}"), format!("{default:?}"));
        assert_eq!((sample.log, sample.redis_prefix), (default.log, default.redis_prefix));
        assert!(sample.models.iter().any(|model| model.upstream.is_some()));
    }

    #[test]
    fn headers_origins_and_thresholds_are_read_alike_in_flags_and_in_the_file() {
        type Shown = fn(&Settings) -> String;
        let headers: Shown = |settings| format!("{:?}", settings.dialects);
        let origins: Shown = |settings| format!("{:?}", settings.cors_origins);
        let thresholds: Shown = |settings| settings.thresholds.to_string();
        for (shown, flags, file, expected) in [
            (headers, "", "", "[Ietf]"),
            (headers, "", "headers = ['ietf', 'openai']", "[Ietf, OpenAi]"),
            (headers, "--headers=ietf,openai", "", "[Ietf, OpenAi]"),
            (headers, "--headers=none", "headers = ['legacy']", "[]"),
            (headers, "", "headers = []", "[]"),
            (origins, "", "cors_origins = ['https://a.b']", r#"[Origin("https://a.b")]"#),
            (
                origins,
                "--cors-origins=https://example.com,http://localhost:3000",
                "",
                r#"[Origin("https://example.com"), Origin("http://localhost:3000")]"#,
            ),
            (thresholds, "", "", "80,100"),
            (thresholds, "", "thresholds = [50, 90]", "50,90"),
            (thresholds, "--thresholds=95", "thresholds = [50, 90]", "95"),
            (thresholds, "--thresholds=none", "", ""),
        ] {
            let flags: Vec<_> = flags.split_whitespace().collect();
            assert_eq!(shown(&settings(&flags, file)), expected, "{flags:?} {file}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let flags = [
            "--webhook",
            "https://example.com/hook?key=password",
            "--redis",
            "redis://:password@127.0.0.1",
        ];
        let shown = format!("{:?}", settings(&flags, ""));
        assert!(shown.contains("example.com"), "{shown}");
        assert!(!shown.contains("secret of") && !shown.contains("password"), "{shown}");
        let matches = flags::command().get_matches_from(["limiter-server"]);
        let error = Settings::default().overridden_by(&matches, Some("too-short".into()), None);
        assert!(!format!("{:?}", error.unwrap_err()).contains("too-short"));
    }

    #[test]
    fn a_model_without_a_price_has_that_of_the_table() {
        let file = "
            [prices.'openai/*']
            input = '1.25'
            [[models]]
            id = 'a'
            path = 'openai/gpt-5/openai'
            [[models]]
            id = 'c'
            path = 'openai/gpt-4o-mini/openai'
            price = { output = 2 }
        ";
        let prices = settings(&[], file).models.into_iter().map(|model| model.price);
        let expected = ["input = '1.25'", "output = 2"];
        assert!(prices.eq(expected.map(|text| Some(toml::from_str(text).unwrap()))));
    }

    /// Returns the message of each mistake, for `docs/messages.txt`.
    pub(crate) fn mistakes() -> Vec<(String, String)> {
        let long = "a secret of the test";
        let mistakes = [
            ("", "listn = '127.0.0.1:1'", long),
            ("", "bounds = [1, 2, 3, 4, 5, 6, 7]", long),
            ("", "models = [['id', 'path']]", long),
            ("", "[[models]]\nid = 'id'\npath = 'path'\nprice = [5, 1, 1]", long),
            ("", "[[models]]\nid = 'a'\npath = 'a'\nprice = { output = 0.6 }", long),
            ("", "[[models]]\nid = 'a'\npath = 'a'\nupstream = 'a.b/run'", long),
            ("", "[[models]]\nid = 'a'\npath = 'b'\n[[models]]\nid = 'b'\npath = 'c'", long),
            ("", "[prices.'gpt-5*']\ninput = 1.25", long),
            ("", "[prices.'gpt-5*']\nouput = 1", long),
            ("", "prices = ['gpt-5*']", long),
            ("", "headers = ['itef']", long),
            ("", "headers = ['none', 'ietf']", long),
            ("", "cors_origins = ['https://Example.com']", long),
            ("--redis=redis://127.0.0.1 --state=state.json", "", long),
            ("--leases", "", long),
            ("--max-requests=0", "", long),
            ("--max-body-bytes=11 --max-buffered-bytes=10", "", long),
            ("--max-open-reservations=0", "", long),
            ("--max-ended-reservations=1000001", "", long),
            ("--max-request-ids=0", "", long),
            ("--dedupe-time=0", "", long),
            ("--dedupe-time=86401", "", long),
            ("--slot-time=86401", "", long),
            ("--history-days=401", "", long),
            ("--webhook=ftp://example.com", "", long),
            ("--webhook=https://example.com", "", "too short"),
        ];
        let messages = mistakes.map(|(flags, file, secret)| {
            let error = read(&flags.split_whitespace().collect::<Vec<_>>(), file, secret);
            let error = error.expect_err(flags).to_string();
            (format!("ConfigError of {flags}{}", file.replace('\n', ", ")), error)
        });
        messages.into()
    }
}
