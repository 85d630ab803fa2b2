//! The command line: the settings, the file with more of them, and the help.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand as _};

use super::Settings;

/// Rate limits for API keys of LLM services, over HTTP.
///
/// Answers to the SDKs of aiXplain, OpenAI and Anthropic as they come from PyPI, and offers the engine itself as JSON (see
/// /openapi.json). Keys and counts are in this process, or in Redis for many of them.
#[derive(Debug, Parser)]
#[command(version, after_help = SHORT_HELP, after_long_help = LONG_HELP, mut_args(hide_bounds))]
pub(super) struct Flags {
    /// A file with all of these settings, and with the models
    ///
    /// A flag beats its environment variable, which beats the file, which beats the default.
    #[arg(long, env = "LIMITER_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    #[command(flatten)]
    pub(super) settings: Settings,
}

/// Returns the command line. All flags are optional in it, since the file may have them.
pub(super) fn command() -> Command {
    Subcommand::augment_subcommands(Flags::command_for_update())
}

// What to do instead of serving. A doc comment would replace that of the flags in --help.
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Subcommand {
    /// Bring the plans, groups and keys of a file to Redis or to a state file
    ///
    /// Prints each change, with the old and the new value and when it takes effect, then makes them. What the file does not name
    /// stays as it is, and a second run changes nothing. Give --redis or --state before the word apply, or in the file.
    Apply {
        /// The configuration file, with a table [workspaces.NAME]
        file: PathBuf,
        /// Only print the changes
        #[arg(long)]
        dry_run: bool,
        /// Changed limits take effect at once, and not with the next window of their kind
        #[arg(long)]
        now: bool,
    },
    /// Print how the store differs from a file; the exit status is 1 if it does, and 2 after an error
    Diff {
        /// The configuration file, with a table [workspaces.NAME]
        file: PathBuf,
    },
}

impl Subcommand {
    pub(super) fn of(matches: &ArgMatches) -> Option<Self> {
        matches.subcommand_name()?;
        Some(Self::from_arg_matches(matches).unwrap_or_else(|error| error.exit()))
    }

    pub(super) const fn file(&self) -> &PathBuf {
        match self {
            Self::Apply { file, .. } | Self::Diff { file } => file,
        }
    }
}

/// Leaves the bounds to the long help.
fn hide_bounds(arg: Arg) -> Arg {
    let names = arg.get_value_names().unwrap_or_default();
    let is_bound = names.iter().any(|name| ["BYTES", "COUNT", "SECONDS"].contains(&name.as_str()));
    arg.hide_short_help(is_bound)
}

const SHORT_HELP: &str = "\
--help shows more, such as the bounds on requests.";

const LONG_HELP: &str = "\
The admin key:
  The first start makes an admin key and shows it, once. LIMITER_ADMIN_KEY brings one instead (at least 16 characters,
  22 random letters and digits or more): for automation, and for restarts, where it must be the same again.
  It comes as x-api-key: KEY, Authorization: Bearer KEY or Authorization: Token KEY, as all access keys do.

Try it:
  limiter-server                                        in memory, on 127.0.0.1:8080
  limiter-server --state keys.json                      the same, kept over restarts
  limiter-server --redis redis://127.0.0.1:6379         shared by all servers on this Redis
  limiter-server --config limiter-server.toml           with models of your own
  limiter-server apply company.toml --dry-run           what would change in Redis or the state file of company.toml

Paths:
  /sdk/api-keys, /v2/models, /api/v2/execute            what the aiXplain SDK calls
  /v1/chat/completions, /v1/responses, /v1/messages,    models by the APIs of OpenAI and Anthropic, for their
  /v1/completions, /v1/embeddings, /v1/rerank           SDKs: those with an upstream in the configuration
  /v1/models                                            the list of them
  /v1/check, /v1/peek, /v1/reserve, /v1/usage           the engine
  /openapi.json                                         its description
  /healthz, /readyz, /metrics                           for monitoring; keep them behind the proxy

SIGTERM and SIGINT end it gracefully.";
