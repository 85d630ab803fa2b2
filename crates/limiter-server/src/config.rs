//! The settings: flags, environment variables and a file, in this order of precedence.

mod file;
mod flags;
mod headers;
mod origins;
mod percents;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fmt, io};

use axum::http::Uri;
use clap::Parser;
use limiter::{AccessKey, InvalidValue, Thresholds, WorkspaceId};
use limiter_tower::Dialect;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::bounds::{Bounds, LONGEST_DEDUPE, MOST_REMEMBERED};
use crate::models::{Model, Models};
use crate::webhook::WebhookSettings;

use self::file::File;
use self::flags::Flags;
pub use self::origins::Origin;

/// The settings of a server.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The address to listen on: 127.0.0.1:8080 by default.
    pub listen: SocketAddr,
    /// The servers that keep keys and counts; in memory by default.
    pub redis: Option<String>,
    /// The prefix of all Redis keys.
    pub redis_prefix: String,
    /// The workspace whose first admin key is made at the start.
    pub workspace: WorkspaceId,
    /// The access key of its admin; made at the first start by default.
    pub admin_key: Option<AccessKey>,
    /// The file that keeps the in-memory engine over restarts; none by default.
    pub state: Option<PathBuf>,
    /// The models that can be run; three that echo by default.
    pub models: Vec<Model>,
    /// Bounds on requests and connections.
    pub bounds: Bounds,
    /// The rate limit headers on `/v1`: [`Dialect::Ietf`] by default, none if empty. Calls to the APIs of OpenAI and
    /// Anthropic get that provider's own headers too, unless this is empty. The aiXplain SDK's paths have none.
    pub dialects: Vec<Dialect>,
    /// Origins of web pages that may call from a browser: none by default, and then answers have no CORS headers.
    pub cors_origins: Vec<Origin>,
    /// Shares of limits that fire an event when a key reaches them, unless the key has its own: 80 % and 100 % by default.
    pub thresholds: Thresholds,
    /// The webhook for threshold events, in addition to the log; none by default.
    pub webhook: Option<WebhookSettings>,
    /// Whether all keys are in shadow mode: calls beyond a limit are let through.
    pub shadow: bool,
    /// The log filter, as `tracing` reads it.
    pub log: String,
    /// Whether log lines are JSON.
    pub log_json: bool,
}

/// An error in the settings.
#[derive(Debug, Error)]
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
    /// Two models share an id or a path.
    #[error("two models have the id or path {0:?}: each needs its own")]
    ModelTwice(String),
    /// The upstream of a model is no URL, or not one of HTTP.
    #[error("the upstream of the model {0:?} is no http:// or https:// URL with a host")]
    Upstream(String),
    /// Both stores were asked for.
    #[error(
        "--state keeps the in-memory engine over restarts, and --redis has none: leave one of them out"
    )]
    StateAndRedis,
    /// `none` was combined with other headers.
    #[error("`none` cannot be combined with other header formats: leave one of them out")]
    NoHeadersAndSome,
    /// The value is not an origin of web pages.
    #[error(
        "{0:?} is no origin of web pages: it must be \"*\", or a scheme and a host in lower case with nothing after them, as in \
         https://example.com or http://localhost:3000"
    )]
    CorsOrigin(String),
    /// The longest body exceeds the bound of all bodies together.
    #[error(
        "max-buffered-bytes must be at least max-body-bytes, or the longest body is never accepted"
    )]
    BufferedBytes,
    /// A bound that would let nothing in.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// A bound that memory does not allow.
    #[error("{0} must be at most {1}")]
    TooLarge(&'static str, u64),
    /// The webhook is no URL, or not one of HTTP.
    #[error("--webhook is no http:// or https:// URL with a host")]
    Webhook,
    /// There is a webhook and nothing to sign with.
    #[error("{WEBHOOK_SECRET} must have at least 16 characters, to sign what goes to the webhook")]
    WebhookSecret,
    /// The access key for the admin is none.
    #[error("{ADMIN_KEY} cannot be used")]
    AdminKey(#[source] InvalidValue),
    /// A value out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
}

impl Settings {
    /// From the command line, the environment and the file that they name. `--help` and mistakes end the process.
    ///
    /// # Errors
    /// [`ConfigError`], each with a sentence of what to do.
    pub fn from_command_line() -> Result<Self, ConfigError> {
        let flags = Flags::parse();
        let file = flags.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
        let admin_key = std::env::var(ADMIN_KEY).ok().filter(|text| !text.is_empty());
        let secret = std::env::var(WEBHOOK_SECRET).ok();
        Self::merge(flags, file, admin_key, secret)
    }

    fn merge(
        flags: Flags,
        file: File,
        admin_key: Option<String>,
        webhook_secret: Option<String>,
    ) -> Result<Self, ConfigError> {
        let mut bounds = Bounds::default();
        file.bounds.0.apply(&mut bounds);
        flags.bounds.apply(&mut bounds);
        let webhook = flags.webhook.or(file.webhook);
        let webhook = webhook.map(|url| webhook_to(&url, webhook_secret, bounds.max_events));
        let settings = Self {
            listen: flags.listen.or(file.listen).unwrap_or(DEFAULT_LISTEN),
            redis: flags.redis.or(file.redis),
            redis_prefix: flags
                .redis_prefix
                .or(file.redis_prefix)
                .unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
            workspace: match flags.workspace.or(file.workspace) {
                Some(workspace) => workspace,
                None => DEFAULT_WORKSPACE.parse()?,
            },
            admin_key: admin_key.map(AccessKey::new).transpose().map_err(ConfigError::AdminKey)?,
            state: flags.state.or(file.state),
            models: match file.models {
                Some(models) => {
                    models.into_iter().map(|model| model.0.priced_by(&file.prices)).collect()
                }
                None => Models::built_in()?,
            },
            bounds,
            thresholds: flags
                .thresholds
                .or(file.thresholds)
                .map_or_else(Thresholds::default, |percents| percents.0),
            webhook: webhook.transpose()?,
            shadow: flags.shadow || file.shadow.unwrap_or(false),
            dialects: match flags.headers.or(file.headers) {
                Some(named) => headers::dialects(&named)?,
                None => vec![DEFAULT_DIALECT],
            },
            cors_origins: flags.cors_origins.or(file.cors_origins).unwrap_or_default(),
            log: flags.log.or(file.log).unwrap_or_else(|| DEFAULT_LOG.to_owned()),
            log_json: flags.log_json || file.log_json.unwrap_or(false),
        };
        settings.check()?;
        Ok(settings)
    }

    /// Checks what depends on several settings.
    fn check(&self) -> Result<(), ConfigError> {
        if self.state.is_some() && self.redis.is_some() {
            return Err(ConfigError::StateAndRedis);
        }
        let bounds = &self.bounds;
        for (name, is_zero) in [
            ("max-body-bytes", bounds.max_body_bytes == 0),
            ("max-connections", bounds.max_connections == 0),
            ("max-requests", bounds.max_requests == 0),
            ("max-events", bounds.max_events == 0),
            ("read-timeout", bounds.read_timeout.is_zero()),
            ("request-timeout", bounds.request_timeout.is_zero()),
            ("dedupe-time", bounds.ledger.dedupe.is_zero()),
        ] {
            if is_zero {
                return Err(ConfigError::Zero(name));
            }
        }
        for (name, most) in [
            ("max-open-reservations", bounds.ledger.open),
            ("max-ended-reservations", bounds.ledger.ended),
            ("max-request-ids", bounds.ledger.checks),
        ] {
            match most {
                0 => return Err(ConfigError::Zero(name)),
                1..=MOST_REMEMBERED => {}
                _ => return Err(ConfigError::TooLarge(name, MOST_REMEMBERED as u64)),
            }
        }
        if bounds.ledger.dedupe > LONGEST_DEDUPE {
            return Err(ConfigError::TooLarge("dedupe-time", LONGEST_DEDUPE.as_secs()));
        }
        if bounds.max_buffered_bytes < bounds.max_body_bytes {
            return Err(ConfigError::BufferedBytes);
        }
        Models::new(self.models.clone()).map(|_| ())
    }
}

impl Default for Settings {
    /// The settings with no flag, variable or file.
    fn default() -> Self {
        let settings = Self::merge(Flags::default(), File::default(), None, None);
        settings.unwrap_or_else(|error| unreachable!("the defaults are valid: {error}"))
    }
}

fn webhook_to(
    url: &str,
    secret: Option<String>,
    queue: usize,
) -> Result<WebhookSettings, ConfigError> {
    let secret = Zeroizing::new(secret.unwrap_or_default());
    let url: Uri = url.parse().map_err(|_| ConfigError::Webhook)?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
        return Err(ConfigError::Webhook);
    }
    if secret.chars().count() < SHORTEST_SECRET {
        return Err(ConfigError::WebhookSecret);
    }
    Ok(WebhookSettings { url, secret, queue })
}

/// A URL of Redis may have a password in it.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("redis", &self.redis.as_ref().map(|_| "…"))
            .field("workspace", &self.workspace)
            .field("state", &self.state)
            .field("bounds", &self.bounds)
            .field("dialects", &self.dialects)
            .field("cors_origins", &self.cors_origins)
            .field("thresholds", &self.thresholds)
            .field("webhook", &self.webhook)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}

/// The variable with the access key of the workspace's admin. There is no flag for it: everybody on a machine sees the
/// flags of its processes.
const ADMIN_KEY: &str = "LIMITER_ADMIN_KEY";

/// The variable with the secret of the webhook, for the same reason.
const WEBHOOK_SECRET: &str = "LIMITER_WEBHOOK_SECRET";
/// Random characters, too many to be guessed.
const SHORTEST_SECRET: usize = 16;

const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
const DEFAULT_PREFIX: &str = "limiter";
const DEFAULT_WORKSPACE: &str = "default";
const DEFAULT_LOG: &str = "info";
/// The draft of a standard.
const DEFAULT_DIALECT: Dialect = Dialect::Ietf;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(arguments: &[&str], file: &str) -> Result<Settings, ConfigError> {
        let flags = Flags::try_parse_from([&["limiter-server"], arguments].concat()).unwrap();
        let secret = Some("a secret of the test".to_owned());
        Settings::merge(flags, File::parse("test.toml".as_ref(), file)?, None, secret)
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = "listen = '127.0.0.1:1'\n[bounds]\nmax_requests = 5\nread_timeout_s = 2\n";
        let settings = settings(&["--listen", "127.0.0.1:2", "--max-requests", "7"], file).unwrap();
        assert_eq!(settings.listen.port(), 2);
        assert_eq!(settings.bounds.max_requests, 7);
        assert_eq!(settings.bounds.read_timeout, Duration::from_secs(2));
        assert_eq!(settings.bounds.max_connections, Bounds::default().max_connections);
    }

    #[test]
    fn the_sample_configuration_is_what_the_server_does_without_one_apart_from_models() {
        let sample = include_str!("../limiter-server.toml");
        let (sample, default) = (settings(&[], sample).unwrap(), Settings::default());
        assert_eq!((sample.listen, sample.bounds), (default.listen, default.bounds));
        assert_eq!((sample.workspace, sample.log), (default.workspace, default.log));
        assert_eq!(sample.dialects, default.dialects);
        assert_eq!(sample.cors_origins, default.cors_origins);
        assert_eq!((sample.thresholds, sample.shadow), (default.thresholds, default.shadow));
        assert!(sample.models.iter().any(|model| model.upstream.is_some()));
    }

    #[test]
    fn headers_are_named_alike_in_the_file_and_in_flags() {
        let both = [Dialect::Ietf, Dialect::OpenAi];
        assert_eq!(settings(&[], "headers = ['ietf', 'openai']").unwrap().dialects, both);
        assert_eq!(settings(&["--headers", "ietf,openai"], "").unwrap().dialects, both);
        assert_eq!(settings(&["--headers", "none"], "").unwrap().dialects, []);
        assert_eq!(settings(&[], "headers = []").unwrap().dialects, []);
        let flag_beats_file = settings(&["--headers", "none"], "headers = ['legacy']").unwrap();
        assert_eq!(flag_beats_file.dialects, []);
        let contradiction = settings(&[], "headers = ['none', 'ietf']");
        assert!(matches!(contradiction, Err(ConfigError::NoHeadersAndSome)));
        let error = settings(&[], "headers = ['itef']").unwrap_err().to_string();
        assert!(error.contains("itef") && error.contains("anthropic"), "{error}");
    }

    #[test]
    fn origins_are_what_browsers_send() {
        let origins = |text| settings(&["--cors-origins", text], "").unwrap().cors_origins;
        assert_eq!(origins("https://example.com,http://localhost:3000").len(), 2);
        assert!(origins("*")[0].is_any());
        assert_eq!(settings(&[], "cors_origins = ['https://a.b']").unwrap().cors_origins.len(), 1);
        for wrong in [
            "example.com",
            "https://example.com/",
            "https://example.com/path",
            "https://Example.com",
            "https://me@example.com",
            "null",
            "",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong:?}");
            let file = format!("cors_origins = ['{wrong}']");
            let error = settings(&[], &file).unwrap_err().to_string();
            assert!(error.contains("https://example.com"), "{error}");
        }
    }

    #[test]
    fn thresholds_are_percents_or_none() {
        let percents =
            |arguments: &[&str], file| settings(arguments, file).unwrap().thresholds.to_string();
        assert_eq!(percents(&[], ""), "80,100");
        assert_eq!(percents(&[], "thresholds = [50, 90]"), "50,90");
        assert_eq!(percents(&["--thresholds", "95"], "thresholds = [50, 90]"), "95");
        assert_eq!(percents(&["--thresholds", "none"], ""), "");
    }

    #[test]
    fn a_webhook_takes_a_url_and_a_secret_that_is_not_shown() {
        let settings =
            settings(&["--webhook", "https://example.com/hook?key=password"], "").unwrap();
        let shown = format!("{settings:?}");
        assert!(
            shown.contains("example.com")
                && !shown.contains("secret of")
                && !shown.contains("password")
        );
        let flags = |url| Flags::try_parse_from(["limiter-server", "--webhook", url]).unwrap();
        let short = Some("too short".to_owned());
        let refused = Settings::merge(flags("https://example.com"), File::default(), None, short);
        assert!(matches!(refused, Err(ConfigError::WebhookSecret)));
        for url in ["example.com/hook", "ftp://example.com", "https://"] {
            let secret = Some("a secret of the test".to_owned());
            let refused = Settings::merge(flags(url), File::default(), None, secret);
            assert!(matches!(refused, Err(ConfigError::Webhook)), "{url}");
        }
    }

    #[test]
    fn a_mistyped_setting_is_named_with_its_place() {
        let error = settings(&[], "listn = '127.0.0.1:1'").unwrap_err().to_string();
        assert!(error.contains("test.toml") && error.contains("listn"), "{error}");
    }

    #[test]
    fn an_array_is_no_table() {
        for file in [
            "bounds = [1, 2, 3, 4, 5, 6, 7]",
            "models = [['id', 'path']]",
            "[[models]]\nid = 'id'\npath = 'path'\nprice = [5, 1, 1]",
        ] {
            let error = settings(&[], file).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("expected an object"), "{error}");
        }
    }

    #[test]
    fn a_model_without_a_price_has_that_of_the_table() {
        let file = "
            [prices.'openai/*']
            input = '1.25'
            [prices.'*']
            request = 1
            [[models]]
            id = 'a'
            path = 'openai/gpt-5/openai'
            [[models]]
            id = 'b'
            path = 'meta/llama/local'
            [[models]]
            id = 'c'
            path = 'openai/gpt-4o-mini/openai'
            price = { output = 2 }
        ";
        let prices = settings(&[], file).unwrap().models.into_iter().map(|model| model.price);
        let expected = ["input = '1.25'", "request = 1", "output = 2"];
        assert!(prices.eq(expected.map(|text| Some(toml::from_str(text).unwrap()))));
    }

    #[test]
    fn a_float_or_a_mistyped_kind_in_a_price_is_named_with_its_place() {
        for (file, error) in [
            ("[prices.'gpt-5*']\ninput = 1.25", "in quotes such as \"1.25\""),
            ("[[models]]\nid = 'a'\npath = 'a'\nprice = { output = 0.6 }", "in quotes"),
            ("[prices.'gpt-5*']\nouput = 1", "unknown field `ouput`"),
            ("prices = ['gpt-5*']", "expected a table of prices by model"),
        ] {
            let message = settings(&[], file).map(|_| ()).unwrap_err().to_string();
            assert!(message.contains(error) && message.contains("line"), "{message}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let both = settings(&["--redis", "redis://127.0.0.1", "--state", "state.json"], "");
        assert!(matches!(both, Err(ConfigError::StateAndRedis)));
        let nothing = settings(&["--max-requests", "0"], "");
        assert!(matches!(nothing, Err(ConfigError::Zero("max-requests"))));
        let longer = settings(&["--max-body-bytes", "11", "--max-buffered-bytes", "10"], "");
        assert!(matches!(longer, Err(ConfigError::BufferedBytes)));
    }

    #[test]
    fn what_is_remembered_of_a_key_is_bounded_by_flags_and_file() {
        let file = "[bounds]\nmax_request_ids = 5\ndedupe_time_s = 60\n";
        let arguments = ["--max-open-reservations", "7", "--max-ended-reservations", "8"];
        let ledger = settings(&arguments, file).unwrap().bounds.ledger;
        assert_eq!((ledger.open, ledger.ended, ledger.checks), (7, 8, 5));
        assert_eq!(ledger.dedupe, Duration::from_secs(60));
        for (flag, value, sentence) in [
            ("--max-open-reservations", "0", "max-open-reservations must be at least 1"),
            (
                "--max-ended-reservations",
                "1000001",
                "max-ended-reservations must be at most 1000000",
            ),
            ("--max-request-ids", "0", "max-request-ids must be at least 1"),
            ("--dedupe-time", "0", "dedupe-time must be at least 1"),
            ("--dedupe-time", "86401", "dedupe-time must be at most 86400"),
        ] {
            let refused = settings(&[flag, value], "").unwrap_err().to_string();
            assert_eq!(refused, sentence);
        }
    }

    #[test]
    fn a_short_admin_key_is_refused_and_not_shown() {
        let key = Some("too-short".into());
        let error = Settings::merge(Flags::default(), File::default(), key, None).unwrap_err();
        assert!(matches!(error, ConfigError::AdminKey(_)));
        assert!(!format!("{error:?}").contains("too-short"));
    }

    #[test]
    fn the_password_of_redis_is_not_in_the_debug_output() {
        let settings = settings(&["--redis", "redis://:secret@127.0.0.1"], "").unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
