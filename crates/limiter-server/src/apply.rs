//! Configuration as code: brings the plans, groups and keys of a file to the store, and shows the differences before.
//!
//! Nothing is ever deleted. A key is found by its name, so that a second run changes nothing.

mod differences;
mod secret;
mod wanted;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use limiter::memory::MemoryStore;
use limiter::redis::RedisStore;
use limiter::store::BoxError;
use limiter::{
    AccessKey, Effective, KeyKind, KeyName, KeyRecord, Keys, Limiter, NewKey, PlanUpdate, Rotation,
    Search, WorkspaceId,
};
use thiserror::Error as ThisError;

use self::differences::Difference;
pub(crate) use self::wanted::Wanted;
use self::wanted::{Access, Place, WantedKey};
use crate::config::Settings;
use crate::state::{StateError, StateFile};

/// How a file is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manner {
    /// Whether to show the changes only.
    pub dry_run: bool,
    /// When changed limits take effect.
    pub effective: Effective,
}

/// How many plans, groups and keys a file concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied {
    /// Those that were created, or would be.
    pub created: usize,
    /// Those that were changed, or would be.
    pub changed: usize,
    /// Those that are as the file says.
    pub left_alone: usize,
    /// Those that the file does not name. They stay as they are.
    pub not_named: usize,
}

/// An error that keeps a file from being applied.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ApplyError {
    /// The settings name no store.
    #[error(
        "there is nothing to apply the file to: set redis or state in it, or LIMITER_REDIS or LIMITER_STATE; \
         a server without them keeps its keys in its own memory"
    )]
    NoStore,
    /// The file names no workspace.
    #[error("the file names no workspace: add [workspaces.NAME] with plans, groups or keys")]
    Nothing,
    /// A server has the state file.
    #[error("a server uses the state file {0}: stop it first, or send the changes to its /v1/keys")]
    InUse(PathBuf),
    /// The state file cannot be used.
    #[error(transparent)]
    State(StateError),
    /// Redis cannot be used.
    #[error("the Redis of --redis cannot be used")]
    Redis(#[source] BoxError),
    /// The file contradicts the store, or what it names is missing. Nothing was changed.
    #[error("nothing was changed:\n  {}", .0.join("\n  "))]
    Contradictions(Vec<String>),
    /// A change failed. Those before it have taken effect, and another run goes on from there.
    #[error("{what} failed; run it again to go on from there")]
    Failed {
        /// The change.
        what: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The changes cannot be shown.
    #[error("standard output cannot be written")]
    Output(#[from] io::Error),
}

impl Applied {
    /// Returns whether the store is as the file says.
    #[must_use]
    pub const fn is_same(&self) -> bool {
        self.created == 0 && self.changed == 0
    }

    fn and(self, other: Self) -> Self {
        Self {
            created: self.created.saturating_add(other.created),
            changed: self.changed.saturating_add(other.changed),
            left_alone: self.left_alone.saturating_add(other.left_alone),
            not_named: self.not_named.saturating_add(other.not_named),
        }
    }
}

/// Brings the workspaces of these settings to the store that they name. Writes each change before it is made.
///
/// # Errors
/// [`ApplyError`], each with a sentence of what to do.
pub async fn apply(
    settings: &Settings,
    manner: Manner,
    out: &mut (dyn Write + Send),
) -> Result<Applied, ApplyError> {
    if settings.workspaces.is_empty() {
        return Err(ApplyError::Nothing);
    }
    let (limiter, state) = open(settings, manner.dry_run).await?;
    let mut changes = Vec::new();
    let mut contradictions = Vec::new();
    for (workspace, wanted) in &settings.workspaces {
        let found = Changes::find(&limiter, workspace, wanted, manner.effective).await?;
        contradictions.extend(found.contradictions.iter().map(|it| format!("{workspace}: {it}")));
        changes.push(found);
    }
    if !contradictions.is_empty() {
        return Err(ApplyError::Contradictions(contradictions));
    }
    let mut applied = Applied::default();
    for changes in &changes {
        write!(out, "{changes}")?;
        applied = applied.and(changes.applied());
    }
    if !manner.dry_run {
        for changes in changes {
            changes.make(&limiter, manner.effective).await?;
        }
        if let Some((file, store)) = state {
            file.save(&store).map_err(ApplyError::State)?;
        }
    }
    Ok(applied)
}

/// Opens the store. To show the changes only, a state file is read as it is, even while a server uses it.
async fn open(
    settings: &Settings,
    only_to_read: bool,
) -> Result<(Limiter, Option<(StateFile, MemoryStore)>), ApplyError> {
    let (bounds, days) = (settings.bounds.ledger(), settings.bounds.history_days);
    let memory = MemoryStore::builder().ledger_bounds(bounds).history_days(days);
    let (builder, state) = match (&settings.redis, &settings.state) {
        (Some(url), _) => {
            let builder = RedisStore::builder(url).key_prefix(&settings.redis_prefix);
            let builder = builder.ledger_bounds(bounds).history_days(days);
            let store = builder.connect().await.map_err(|error| ApplyError::Redis(error.into()))?;
            (Limiter::builder(store), None)
        }
        (None, Some(path)) if only_to_read => {
            (Limiter::builder(StateFile::read(path, memory).map_err(ApplyError::State)?), None)
        }
        (None, Some(path)) => {
            let (file, store) = StateFile::open(path, memory).map_err(|error| match error {
                StateError::InUse(path) => ApplyError::InUse(path),
                error => ApplyError::State(error),
            })?;
            (Limiter::builder(store.clone()), Some((file, store)))
        }
        (None, None) => return Err(ApplyError::NoStore),
    };
    Ok((builder.thresholds(settings.thresholds).build(), state))
}

/// The changes that bring a workspace to what a file wants.
struct Changes<'a> {
    workspace: &'a WorkspaceId,
    plans: Vec<(PlanUpdate, Option<Vec<Difference>>)>,
    created: Vec<(&'a WantedKey, Option<AccessKey>)>,
    changed: Vec<Changed<'a>>,
    left_alone: usize,
    not_named: Vec<KeyName>,
    contradictions: Vec<String>,
}

/// A key that has another configuration or another access key.
struct Changed<'a> {
    wanted: &'a WantedKey,
    before: KeyRecord,
    differences: Vec<Difference>,
    /// The one that replaces its access key.
    access_key: Option<AccessKey>,
}

impl<'a> Changes<'a> {
    async fn find(
        limiter: &Limiter,
        workspace: &'a WorkspaceId,
        wanted: &'a Wanted,
        effective: Effective,
    ) -> Result<Self, ApplyError> {
        let keys = limiter.workspace(workspace.clone()).map_err(reading)?;
        let mut changes = Self {
            workspace,
            plans: Vec::new(),
            created: Vec::new(),
            changed: Vec::new(),
            left_alone: 0,
            not_named: Vec::new(),
            contradictions: Vec::new(),
        };
        changes.find_plans(&keys, wanted, effective).await?;
        let (mut found, damaged) = all(&keys).await?;
        let mut known = Vec::new();
        for key in &wanted.keys {
            match found.remove(wanted::name(key)) {
                _ if damaged.contains(wanted::name(key)) => {
                    let name = wanted::name(key);
                    changes.contradictions.push(format!(
                        "the stored data of {name:?} is damaged: delete it, or restore its data"
                    ));
                }
                None => changes.create(key),
                Some(record) => known.push((key, record)),
            }
        }
        let compared = stream::iter(known)
            .map(|(key, record)| compared(limiter, key, record, effective))
            .buffered(AT_A_TIME);
        let compared: Vec<_> = compared.try_collect().await?;
        for compared in compared {
            match compared {
                Ok(None) => changes.left_alone += 1,
                Ok(Some(changed)) => changes.changed.push(changed),
                Err(contradiction) => changes.contradictions.push(contradiction),
            }
        }
        changes.not_named = found.into_keys().collect();
        changes.not_named.sort_unstable();
        Ok(changes)
    }

    async fn find_plans(
        &mut self,
        keys: &Keys<'_>,
        wanted: &Wanted,
        effective: Effective,
    ) -> Result<(), ApplyError> {
        let found = keys.plans().await.map_err(reading)?;
        for (name, plan) in &wanted.plans {
            let update = PlanUpdate::new(name.clone(), plan.clone());
            let update = if effective == Effective::Now { update.at_once() } else { update };
            match found.iter().find(|found| found.name == *name) {
                None => self.plans.push((update, None)),
                Some(found) if found.plan == *plan => self.left_alone += 1,
                Some(found) => {
                    let between = differences::between(&found.plan, plan, effective);
                    let between = between.map_err(reading)?;
                    self.plans.push((update.from_version(found.version), Some(between)));
                }
            }
        }
        Ok(())
    }

    fn create(&mut self, key: &'a WantedKey) {
        let name = wanted::name(key);
        match (secret::read(&key.access), &key.access) {
            (Err(problem), _) => self.contradictions.push(format!("{name:?}: {problem}")),
            (Ok(None), Access::Variable(variable)) => self
                .contradictions
                .push(format!("{name:?} is new, and {variable} has no access key for it: set it")),
            (Ok(None), Access::File(path)) => {
                let path = path.display();
                self.contradictions.push(format!(
                    "{name:?} is new, and {path} has no access key for it: write one, or have one drawn by \
                     write_access_key_to"
                ));
            }
            (Ok(access_key), _) => self.created.push((key, access_key)),
        }
    }

    fn applied(&self) -> Applied {
        let new_plans = self.plans.iter().filter(|(_, between)| between.is_none()).count();
        Applied {
            created: new_plans + self.created.len(),
            changed: self.plans.len() - new_plans + self.changed.len(),
            left_alone: self.left_alone,
            not_named: self.not_named.len(),
        }
    }

    async fn make(self, limiter: &Limiter, effective: Effective) -> Result<(), ApplyError> {
        let keys = limiter.workspace(self.workspace.clone()).map_err(reading)?;
        for (update, _) in self.plans {
            let name = update.name.clone();
            keys.save_plan(update).await.map_err(failed(|| format!("saving the plan {name}")))?;
        }
        for chunk in self.created.chunks(Keys::MAX_CREATED_AT_ONCE) {
            create(&keys, chunk).await?;
        }
        let changes = self.changed.into_iter().map(Ok);
        stream::iter(changes)
            .try_for_each_concurrent(AT_A_TIME, |changed| {
                let keys = keys.clone();
                async move { changed.make(&keys, effective).await }
            })
            .await
    }
}

impl Changed<'_> {
    async fn make(self, keys: &Keys<'_>, effective: Effective) -> Result<(), ApplyError> {
        let Self { wanted, before, differences, access_key } = self;
        let (id, version, config) = (&before.id, before.version, &wanted.config);
        let changing = || format!("changing {}", named(wanted));
        if !differences.is_empty() {
            match effective {
                Effective::Next => keys.update(id, version, config).await,
                Effective::Now => keys.update_now(id, version, config).await,
            }
            .map_err(failed(changing))?;
        }
        if let Some(access_key) = access_key {
            let rotation = Rotation::at_once().with_access_key(access_key);
            keys.rotate(id, &rotation).await.map_err(failed(changing))?;
        }
        Ok(())
    }
}

/// Creates keys, and writes the access keys that are drawn.
async fn create(
    keys: &Keys<'_>,
    wanted: &[(&WantedKey, Option<AccessKey>)],
) -> Result<(), ApplyError> {
    let mut new = Vec::with_capacity(wanted.len());
    for (key, access_key) in wanted {
        new.push(match (access_key, &key.access) {
            (Some(access_key), _) => key.new_key().with_access_key(access_key.clone()),
            (None, Access::WrittenTo(path)) => {
                let writing = || format!("writing {}", path.display());
                secret::prepare(path).map_err(failed(writing))?;
                key.new_key()
            }
            (None, _) if key.kind == KeyKind::Group => key.new_key(),
            (None, _) => NewKey::without_access_key(key.new_key()),
        });
    }
    let created = keys.create_many(new).await.map_err(failed(|| "creating keys".to_owned()))?;
    for ((key, _), created) in wanted.iter().zip(created) {
        let created = created.map_err(failed(|| format!("creating {}", named(key))))?;
        if let (Access::WrittenTo(path), Some(drawn)) = (&key.access, &created.access_key) {
            let writing = || format!("writing {}", path.display());
            secret::write(path, drawn).map_err(failed(writing))?;
        }
    }
    Ok(())
}

/// Returns how a key differs from what is wanted, or the contradiction that no change resolves.
async fn compared<'a>(
    limiter: &Limiter,
    wanted: &'a WantedKey,
    before: KeyRecord,
    effective: Effective,
) -> Result<Result<Option<Changed<'a>>, String>, ApplyError> {
    let name = wanted::name(wanted);
    if wanted.kind != before.kind {
        return Ok(Err(format!("{name:?} is {}: choose another name", a(before.kind))));
    }
    if !wanted.is_at(&before.id) {
        let place = match &wanted.place {
            Place::Alone => "in no group".to_owned(),
            Place::Beneath(group) => format!("beneath {group}"),
            Place::At(id) => format!("to have the id {id}"),
        };
        let id = &before.id;
        return Ok(Err(format!(
            "{name:?} is wanted {place}, and has the id {id}, which never changes: delete it, or choose another name"
        )));
    }
    let access_key = match secret::read(&wanted.access) {
        Err(problem) => return Ok(Err(format!("{name:?}: {problem}"))),
        Ok(None) => None,
        Ok(Some(access_key)) => match limiter.authenticate(&access_key).await.map_err(reading)? {
            Some(id) if id == before.id => None,
            Some(id) => {
                return Ok(Err(format!("the access key for {name:?} is that of {id}")));
            }
            None => Some(access_key),
        },
    };
    let differences = differences::between(&before.config, &wanted.config, effective);
    let differences = differences.map_err(reading)?;
    let is_same = differences.is_empty() && access_key.is_none();
    Ok(Ok((!is_same).then_some(Changed { wanted, before, differences, access_key })))
}

/// Reads all keys and groups of a workspace, and the names of those that cannot be read.
async fn all(keys: &Keys<'_>) -> Result<(HashMap<KeyName, KeyRecord>, Vec<KeyName>), ApplyError> {
    let mut search = Some(Search::all().page_size(Search::MAX_PAGE_SIZE));
    let (mut found, mut damaged) = (HashMap::new(), Vec::new());
    while let Some(one) = search {
        let page = keys.search(&one).await.map_err(reading)?;
        search = one.following(&page);
        damaged.extend(page.damaged.into_iter().map(|key| key.name));
        found.extend(page.keys.into_iter().map(|key| (key.config.name.clone(), key)));
    }
    Ok((found, damaged))
}

fn reading(error: impl Into<BoxError>) -> ApplyError {
    ApplyError::Failed { what: "reading the store".to_owned(), source: error.into() }
}

fn failed<E: Into<BoxError>>(what: impl FnOnce() -> String) -> impl FnOnce(E) -> ApplyError {
    |error| ApplyError::Failed { what: what(), source: error.into() }
}

fn named(key: &WantedKey) -> String {
    let kind = if key.kind == KeyKind::Group { "group" } else { "key" };
    format!("{kind} {:?}", wanted::name(key).as_str())
}

const fn a(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Admin => "an admin key",
        KeyKind::Group => "a group",
        _ => "a member key",
    }
}

/// A line for each change.
impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workspace = self.workspace;
        for (update, between) in &self.plans {
            let verb = if between.is_some() { "change" } else { "create" };
            writeln!(f, "{workspace}: {verb} plan {:?}", update.name.as_str())?;
            lines(f, between.iter().flatten())?;
        }
        for (key, access_key) in &self.created {
            write!(f, "{workspace}: create {}", named(key))?;
            match (&key.access, access_key) {
                (Access::WrittenTo(path), None) => {
                    writeln!(f, ", and write its access key to {}", path.display())?;
                }
                _ => writeln!(f)?,
            }
        }
        for Changed { wanted, differences, access_key, .. } in &self.changed {
            writeln!(f, "{workspace}: change {}", named(wanted))?;
            lines(f, differences)?;
            if access_key.is_some() {
                writeln!(f, "    access key: another one → the one of the file, at once")?;
            }
        }
        Ok(())
    }
}

fn lines<'a>(
    f: &mut fmt::Formatter<'_>,
    differences: impl IntoIterator<Item = &'a Difference>,
) -> fmt::Result {
    differences.into_iter().try_for_each(|difference| writeln!(f, "    {difference}"))
}

/// Keys that are looked at, or changed, at the same time.
const AT_A_TIME: usize = 64;
