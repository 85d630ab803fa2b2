//! What a file wants in a workspace: its plans, groups and keys.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use limiter::__private::Object;
use limiter::{KeyConfig, KeyId, KeyKind, KeyName, KeyPrefix, NewKey, Plan, PlanName};
use serde::de::{Error, IntoDeserializer};
use serde::{Deserialize, Deserializer};

/// The plans, groups and keys of a workspace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(super) plans: BTreeMap<PlanName, Plan>,
    /// Groups first, each after the group around it.
    pub(super) keys: Vec<WantedKey>,
}

/// A key or a group. It is found by its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WantedKey {
    pub(super) kind: KeyKind,
    pub(super) place: Place,
    pub(super) access: Access,
    pub(super) prefix: Option<KeyPrefix>,
    pub(super) config: KeyConfig,
}

/// The place of a key among the groups.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// In no group: its id is drawn.
    Alone,
    /// The last segment of its id is drawn.
    Beneath(KeyId),
    /// It has this id.
    At(KeyId),
}

/// The source of an access key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Access {
    /// This environment variable has it.
    Variable(String),
    /// This file has it.
    File(PathBuf),
    /// It is drawn with the key, and written to this file.
    WrittenTo(PathBuf),
    /// The key has none.
    Without,
}

impl WantedKey {
    /// Returns the key to be created, without its access key.
    pub(super) fn new_key(&self) -> NewKey {
        let config = self.config.clone();
        let new = match (self.kind, &self.place) {
            (KeyKind::Admin, _) => NewKey::admin(config),
            (KeyKind::Group, Place::At(id)) => return NewKey::group(id.clone(), config),
            _ => NewKey::member(config),
        };
        let new = match &self.place {
            Place::Alone => new,
            Place::Beneath(group) => new.beneath(group.clone()),
            Place::At(id) => new.with_id(id.clone()),
        };
        match self.prefix {
            Some(prefix) => new.with_prefix(prefix),
            None => new,
        }
    }

    /// Returns whether the key of this id is in its place.
    pub(super) fn is_at(&self, id: &KeyId) -> bool {
        match &self.place {
            Place::Alone => id.group().is_none(),
            Place::Beneath(group) => id.group().as_ref() == Some(group),
            Place::At(wanted) => wanted == id,
        }
    }
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(File { plans, groups, keys }) = Object::deserialize(deserializer)?;
        let mut groups = read_each(groups, read_group).map_err(D::Error::custom)?;
        let depth = |group: &WantedKey| match &group.place {
            Place::At(id) => id.as_str().split('/').count(),
            _ => 0,
        };
        groups.sort_by_key(depth);
        let keys = read_each(keys, read_key).map_err(D::Error::custom)?;
        let keys: Vec<WantedKey> = groups.into_iter().chain(keys).collect();
        let mut ids = HashSet::new();
        if let Some(twice) = keys.iter().find_map(|key| match &key.place {
            Place::At(id) => (!ids.insert(id)).then_some(id),
            _ => None,
        }) {
            return Err(D::Error::custom(format!("two keys or groups have the id {twice}")));
        }
        let mut names = HashSet::new();
        if let Some(twice) = keys.iter().find(|key| !names.insert(&key.config.name)) {
            let name = &twice.config.name;
            let message =
                format!("two keys or groups are named {name:?}: give each a name of its own");
            return Err(D::Error::custom(message));
        }
        Ok(Self { plans, keys })
    }
}

/// A workspace, as it is written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    plans: BTreeMap<PlanName, Plan>,
    groups: Vec<toml::Table>,
    keys: Vec<toml::Table>,
}

/// What is written of a key beside its configuration.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Beside {
    admin: bool,
    id: Option<KeyId>,
    beneath: Option<KeyId>,
    prefix: Option<KeyPrefix>,
    access_key_env: Option<String>,
    access_key_file: Option<PathBuf>,
    write_access_key_to: Option<PathBuf>,
    without_access_key: bool,
}

fn read_each(
    tables: Vec<toml::Table>,
    read: impl Fn(Beside, KeyConfig) -> Result<WantedKey, String>,
) -> Result<Vec<WantedKey>, String> {
    let each = tables.into_iter().enumerate().map(|(place, mut table)| {
        let name = |key: &str| table.get(key).and_then(|name| name.as_str().map(str::to_owned));
        let name = name("name").or_else(|| name("id"));
        let name = name.map_or_else(|| format!("number {}", place + 1), |name| format!("{name:?}"));
        let beside = BESIDE.iter().filter_map(|field| table.remove_entry(*field));
        let beside: toml::Table = beside.collect();
        if let Some(id) = beside.get("id").filter(|_| !table.contains_key("name")) {
            // A group is often called like its id.
            table.insert("name".to_owned(), id.clone());
        }
        let read = || {
            let beside = Beside::deserialize(beside.into_deserializer()).map_err(message)?;
            let config = KeyConfig::deserialize(table.into_deserializer()).map_err(message)?;
            read(beside, config)
        };
        read().map_err(|message| format!("{name}: {message}"))
    });
    each.collect()
}

fn message(error: toml::de::Error) -> String {
    error.message().to_owned()
}

fn read_group(beside: Beside, config: KeyConfig) -> Result<WantedKey, String> {
    let Beside { id: Some(id), beneath: None, admin: false, prefix: None, .. } = &beside else {
        return Err("a group has an id, and neither beneath, admin nor prefix".to_owned());
    };
    match access(&beside) {
        Ok(None) => {}
        _ => return Err("a group has no access key: leave it out".to_owned()),
    }
    let (kind, place, access) = (KeyKind::Group, Place::At(id.clone()), Access::Without);
    Ok(WantedKey { kind, place, access, prefix: None, config })
}

fn read_key(beside: Beside, config: KeyConfig) -> Result<WantedKey, String> {
    let access = access(&beside)?.ok_or(
        "it has no source of an access key: set access_key_env, access_key_file, write_access_key_to or \
         without_access_key",
    )?;
    let Beside { admin, id, beneath, prefix, .. } = beside;
    let place = match (id, beneath) {
        (None, None) => Place::Alone,
        (Some(id), None) => Place::At(id),
        (None, Some(group)) => Place::Beneath(group),
        (Some(_), Some(_)) => return Err("both id and beneath are set: leave one out".to_owned()),
    };
    if admin && !matches!(place, Place::Alone) {
        return Err("an admin key has neither id nor beneath: leave them out".to_owned());
    }
    let kind = if admin { KeyKind::Admin } else { KeyKind::Member };
    Ok(WantedKey { kind, place, access, prefix, config })
}

fn access(beside: &Beside) -> Result<Option<Access>, String> {
    let variable = beside.access_key_env.clone().map(Access::Variable);
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if beside.access_key_env.as_deref().is_some_and(|name| !is_name(name)) {
        // It may be the access key itself, which is not shown.
        return Err("access_key_env has other characters than the name of a variable".to_owned());
    }
    let file = beside.access_key_file.clone().map(Access::File);
    let written = beside.write_access_key_to.clone().map(Access::WrittenTo);
    let without = beside.without_access_key.then_some(Access::Without);
    let mut sources = [variable, file, written, without].into_iter().flatten();
    let source = sources.next();
    match sources.next() {
        None => Ok(source),
        Some(_) => Err("its access key has two sources: leave one out".to_owned()),
    }
}

/// The fields of [`Beside`].
const BESIDE: [&str; 8] = [
    "admin",
    "id",
    "beneath",
    "prefix",
    "access_key_env",
    "access_key_file",
    "write_access_key_to",
    "without_access_key",
];

/// Returns the name of a key, as its configuration has it.
pub(super) const fn name(key: &WantedKey) -> &KeyName {
    &key.config.name
}
