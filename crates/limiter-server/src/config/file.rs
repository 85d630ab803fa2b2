//! The configuration file, in TOML.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use limiter::__private::Object;
use limiter::{PriceTable, WorkspaceId};
use serde::Deserialize;

use super::ConfigError;
use super::flags::BoundSettings;
use super::headers::Headers;
use super::origins::Origin;
use super::percents::Percents;
use crate::models::Model;

/// All that a file may say; what it leaves out is said by flags, the environment or the defaults.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Option<SocketAddr>,
    pub(super) redis: Option<String>,
    pub(super) redis_prefix: Option<String>,
    pub(super) state: Option<PathBuf>,
    pub(super) workspace: Option<WorkspaceId>,
    pub(super) headers: Option<Vec<Headers>>,
    pub(super) cors_origins: Option<Vec<Origin>>,
    pub(super) thresholds: Option<Percents>,
    pub(super) webhook: Option<String>,
    pub(super) shadow: Option<bool>,
    pub(super) log: Option<String>,
    pub(super) log_json: Option<bool>,
    pub(super) bounds: Object<BoundSettings>,
    pub(super) prices: PriceTable,
    pub(super) models: Option<Vec<Object<Model>>>,
}

impl File {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path);
        let text =
            text.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        // Only the message and the line: the text around may have a password in it.
        toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map(|before| before.lines().count().max(1));
            let place = line.map(|line| format!(", around line {line}")).unwrap_or_default();
            ConfigError::Wrong {
                path: path.to_owned(),
                message: format!("{}{place}", error.message()),
            }
        })
    }
}
