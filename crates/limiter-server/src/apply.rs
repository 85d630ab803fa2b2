//! Configuration as code: brings the plans, groups and keys of a file to the store, and shows the differences before.
//!
//! Nothing is ever deleted. A key is found by its name, so that a second run changes nothing.

mod differences;
mod secret;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use limiter::memory::{MemoryStore, MemoryStoreBuilder};
use limiter::redis::RedisStore;
use limiter::store::BoxError;
use limiter::{
    AccessKey, DayHistory, Effective, KeyConfig, KeyId, KeyKind, KeyName, KeyRecord, Keys, Limiter,
    PlanName, PlanUpdate, Rotation, Search, WorkspaceId,
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
    /// Keys and groups that the file does not name. They stay as they are.
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
    #[error(
        "a server or another run uses the state file {0}: stop the server first, or send the changes to its /v1/keys"
    )]
    InUse(PathBuf),
    /// The state file cannot be used.
    #[error(transparent)]
    State(StateError),
    /// Redis cannot be used.
    #[error("the Redis of --redis cannot be used")]
    Redis(#[source] BoxError),
    /// The file contradicts the store, or what it names is missing. Nothing was changed.
    #[error("the file contradicts the store, and nothing was changed:\n  {}", .0.join("\n  "))]
    Contradictions(Vec<String>),
    /// A change failed. On Redis those before it have taken effect, and another run goes on from there.
    #[error("{what} failed")]
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

/// Brings the workspaces of these settings to the store that they name. Writes all changes before the first is made.
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
    let limiter = open(settings).await?;
    let changes = find(&limiter, settings, manner).await?;
    let mut applied = Applied::default();
    for changes in &changes {
        write!(out, "{changes}")?;
        applied = applied.and(changes.applied());
    }
    if manner.dry_run {
        return Ok(applied);
    }
    let Some(path) = settings.state.as_ref().filter(|_| settings.redis.is_none()) else {
        make(changes, &limiter, manner).await?;
        return Ok(applied);
    };
    if applied.is_same() {
        return Ok(applied);
    }
    // From here on no server has the file, and nobody changes it meanwhile.
    let opened = StateFile::open_for_one_save(path, memory(settings));
    let (file, store) = opened.map_err(|error| match error {
        StateError::InUse(path) => ApplyError::InUse(path),
        error => ApplyError::State(error),
    })?;
    let limiter = Limiter::builder(store.clone()).thresholds(settings.thresholds).build();
    let changes = find(&limiter, settings, manner).await?;
    make(changes, &limiter, manner).await?;
    file.save(&store).map_err(ApplyError::State)?;
    Ok(applied)
}

/// Opens the store: a state file as it is now, to be read, even while a server uses it.
async fn open(settings: &Settings) -> Result<Limiter, ApplyError> {
    let builder = match (&settings.redis, &settings.state) {
        (Some(url), _) => {
            let builder = RedisStore::builder(url).key_prefix(&settings.redis_prefix);
            let builder = builder.ledger_bounds(settings.bounds.ledger());
            let builder = builder.history_days(DayHistory::MOST_DAYS);
            let store = builder.connect().await.map_err(|error| ApplyError::Redis(error.into()))?;
            Limiter::builder(store)
        }
        (None, Some(path)) => {
            let store = StateFile::read(path, memory(settings)).map_err(ApplyError::State)?;
            Limiter::builder(store)
        }
        (None, None) => return Err(ApplyError::NoStore),
    };
    Ok(builder.thresholds(settings.thresholds).build())
}

/// All days of the histories are kept, however many a server keeps.
fn memory(settings: &Settings) -> MemoryStoreBuilder {
    let memory = MemoryStore::builder().ledger_bounds(settings.bounds.ledger());
    memory.history_days(DayHistory::MOST_DAYS)
}

/// Finds all changes. To be made, none may be contradicted.
async fn find<'a>(
    limiter: &Limiter,
    settings: &'a Settings,
    manner: Manner,
) -> Result<Vec<Changes<'a>>, ApplyError> {
    let (mut all, mut contradictions) = (Vec::new(), Vec::new());
    let mut written = HashSet::new();
    for (workspace, wanted) in &settings.workspaces {
        let mut changes = Changes::find(limiter, workspace, wanted, manner).await?;
        for key in &wanted.keys {
            if let Access::WrittenTo(path) = &key.access
                && !written.insert(path)
            {
                let path = path.display();
                let twice =
                    format!("two access keys are written to {path}: give each its own file");
                changes.contradictions.push(twice);
            }
        }
        contradictions.extend(changes.contradictions.iter().map(|it| format!("{workspace}: {it}")));
        all.push(changes);
    }
    match contradictions.is_empty() {
        true => Ok(all),
        false => Err(ApplyError::Contradictions(contradictions)),
    }
}

async fn make(
    changes: Vec<Changes<'_>>,
    limiter: &Limiter,
    manner: Manner,
) -> Result<(), ApplyError> {
    for changes in changes {
        changes.make(limiter, manner.effective).await?;
    }
    Ok(())
}

/// The changes that bring a workspace to what a file wants.
struct Changes<'a> {
    workspace: &'a WorkspaceId,
    plans: Vec<(PlanUpdate, Option<Vec<Difference>>)>,
    /// With the access key, if it is there already.
    created: Vec<(&'a WantedKey, Option<AccessKey>)>,
    changed: Vec<Changed<'a>>,
    left_alone: usize,
    not_named: usize,
    /// Whether an admin key that never expires is there, or will be.
    has_admin: bool,
    contradictions: Vec<String>,
}

/// A key that has another configuration or another access key.
struct Changed<'a> {
    wanted: &'a WantedKey,
    before: KeyRecord,
    differences: Vec<Difference>,
    /// Whether limits that wait for their next window are to take effect now.
    hastens: bool,
    /// The one that replaces its access key.
    access_key: Option<AccessKey>,
}

impl<'a> Changes<'a> {
    async fn find(
        limiter: &Limiter,
        workspace: &'a WorkspaceId,
        wanted: &'a Wanted,
        manner: Manner,
    ) -> Result<Self, ApplyError> {
        let keys = limiter.workspace(workspace.clone()).map_err(reading)?;
        let mut changes = Self {
            workspace,
            plans: Vec::new(),
            created: Vec::new(),
            changed: Vec::new(),
            left_alone: 0,
            not_named: 0,
            has_admin: false,
            contradictions: Vec::new(),
        };
        let plans = changes.find_plans(&keys, wanted, manner.effective).await?;
        let mut found = Found::read(&keys).await?;
        changes.contradictions.extend(found.missing(wanted, &plans));
        let is_admin =
            |kind, config: &KeyConfig| kind == KeyKind::Admin && config.expires_at.is_none();
        let of_wanted = wanted.keys.iter().any(|key| is_admin(key.kind, &key.config));
        let of_found = found.keys.values().any(|key| is_admin(key.kind, &key.config));
        changes.has_admin = of_wanted || of_found;
        let (mut known, mut new) = (Vec::new(), Vec::new());
        for key in &wanted.keys {
            match found.take(key) {
                Err(contradiction) => changes.contradictions.push(contradiction),
                Ok(Some(record)) => known.push((key, record)),
                Ok(None) => new.push(key),
            }
        }
        let compared = stream::iter(known)
            .map(|(key, record)| compared(limiter, key, record, manner.effective))
            .buffered(AT_A_TIME);
        for compared in compared.try_collect::<Vec<_>>().await? {
            match compared {
                Ok(None) => changes.left_alone = changes.left_alone.saturating_add(1),
                Ok(Some(changed)) => changes.changed.push(changed),
                Err(contradiction) => changes.contradictions.push(contradiction),
            }
        }
        let new = stream::iter(new).map(|key| of_new(limiter, key, manner.dry_run));
        for of_new in new.buffered(AT_A_TIME).try_collect::<Vec<_>>().await? {
            match of_new {
                Ok(created) => changes.created.push(created),
                Err(contradiction) => changes.contradictions.push(contradiction),
            }
        }
        changes.not_named = found.keys.len();
        Ok(changes)
    }

    async fn find_plans(
        &mut self,
        keys: &Keys<'_>,
        wanted: &Wanted,
        effective: Effective,
    ) -> Result<HashSet<PlanName>, ApplyError> {
        let found = keys.plans().await.map_err(reading)?;
        for (name, plan) in &wanted.plans {
            let update = PlanUpdate::new(name.clone(), plan.clone());
            let update = if effective == Effective::Now { update.at_once() } else { update };
            match found.iter().find(|found| found.name == *name) {
                None => self.plans.push((update.from_version(0), None)),
                Some(found) if found.plan == *plan => {
                    self.left_alone = self.left_alone.saturating_add(1);
                }
                Some(found) => {
                    let between = differences::between(&found.plan, plan, effective);
                    let between = between.map_err(reading)?;
                    self.plans.push((update.from_version(found.version), Some(between)));
                }
            }
        }
        let found = found.into_iter().map(|found| found.name);
        Ok(found.chain(wanted.plans.keys().cloned()).collect())
    }

    fn applied(&self) -> Applied {
        let new_plans = self.plans.iter().filter(|(_, between)| between.is_none()).count();
        let changed_plans = self.plans.len().saturating_sub(new_plans);
        Applied {
            created: new_plans.saturating_add(self.created.len()),
            changed: changed_plans.saturating_add(self.changed.len()),
            left_alone: self.left_alone,
            not_named: self.not_named,
        }
    }

    async fn make(self, limiter: &Limiter, effective: Effective) -> Result<(), ApplyError> {
        let keys = limiter.workspace(self.workspace.clone()).map_err(reading)?;
        for (update, _) in self.plans {
            let name = update.name.clone();
            keys.save_plan(update).await.map_err(failed(|| format!("saving the plan {name}")))?;
        }
        let mut created = self.created.into_iter().peekable();
        while created.peek().is_some() {
            create(&keys, created.by_ref().take(Keys::MAX_CREATED_AT_ONCE).collect()).await?;
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
        let Self { wanted, before, differences, hastens, access_key } = self;
        let (id, version, config) = (&before.id, before.version, &wanted.config);
        let changing = || format!("changing {}", named(wanted));
        if hastens || !differences.is_empty() {
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

/// Creates keys. An access key that is drawn is in its file before the key is there, so that none is lost.
async fn create(
    keys: &Keys<'_>,
    wanted: Vec<(&WantedKey, Option<AccessKey>)>,
) -> Result<(), ApplyError> {
    let mut new = Vec::with_capacity(wanted.len());
    for (key, access_key) in &wanted {
        let access_key = match (access_key, &key.access) {
            (None, Access::WrittenTo(path)) => {
                let writing = || format!("writing {}", path.display());
                Some(secret::draw(path, key.prefix).map_err(failed(writing))?)
            }
            (access_key, _) => access_key.clone(),
        };
        new.push(match access_key {
            Some(access_key) => key.new_key().with_access_key(access_key),
            None if key.kind == KeyKind::Group => key.new_key(),
            None => key.new_key().without_access_key(),
        });
    }
    let created = keys.create_many(new).await.map_err(failed(|| "creating keys".to_owned()))?;
    for ((key, _), created) in wanted.iter().zip(created) {
        created.map_err(failed(|| format!("creating {}", named(key))))?;
    }
    Ok(())
}

/// Returns a key to be created, with its access key if it is there already.
async fn of_new<'a>(
    limiter: &Limiter,
    wanted: &'a WantedKey,
    dry_run: bool,
) -> Result<Result<(&'a WantedKey, Option<AccessKey>), String>, ApplyError> {
    let name = wanted::name(wanted);
    let access_key = match (secret::read(&wanted.access), &wanted.access) {
        (Err(problem), _) => return Ok(Err(format!("{name:?}: {problem}"))),
        // Who reviews a change need not have the access keys.
        (Ok(None), Access::Variable(variable)) if !dry_run => {
            return Ok(Err(format!(
                "{name:?} is new, and {variable} has no access key for it: set it"
            )));
        }
        (Ok(None), Access::File(path)) if !dry_run => {
            let path = path.display();
            return Ok(Err(format!(
                "{name:?} is new, and {path} has no access key for it: write one, or have one drawn by write_access_key_to"
            )));
        }
        (Ok(access_key), _) => access_key,
    };
    let Some(access_key) = access_key else { return Ok(Ok((wanted, None))) };
    if let Some(id) = limiter.authenticate(&access_key).await.map_err(reading)? {
        return Ok(Err(format!(
            "{name:?} is new, and its access key is that of {id}: bring another"
        )));
    }
    let with_prefix = wanted.prefix.map(|prefix| access_key.clone().with_prefix(prefix));
    if let Some(Err(error)) = with_prefix {
        return Ok(Err(format!("{name:?}: {error}")));
    }
    Ok(Ok((wanted, Some(access_key))))
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
            Place::At(id) => format!("at {id}"),
        };
        let id = &before.id;
        return Ok(Err(format!(
            "{name:?} lies {place} in the file, and has the id {id}, which never changes: choose another name"
        )));
    }
    let replacement = match &wanted.access {
        // Of a key that is there, it has been drawn.
        Access::Without | Access::WrittenTo(_) => Ok(None),
        access => secret::read(access),
    };
    let access_key = match replacement {
        Err(problem) => return Ok(Err(format!("{name:?}: {problem}"))),
        Ok(None) => None,
        Ok(Some(access_key)) => match limiter.authenticate(&access_key).await.map_err(reading)? {
            Some(id) if id == before.id => None,
            Some(id) => {
                return Ok(Err(format!("{name:?} has the access key of {id}: bring another")));
            }
            None => Some(access_key),
        },
    };
    let differences = differences::between(&before.config, &wanted.config, effective);
    let differences = differences.map_err(reading)?;
    let waits = before.limits.iter().any(|scope| !scope.pending.is_empty());
    let hastens = effective == Effective::Now && waits;
    let is_same = before.config == wanted.config && !hastens && access_key.is_none();
    Ok(Ok((!is_same).then_some(Changed { wanted, before, differences, hastens, access_key })))
}

/// The keys and groups of a workspace, as they are.
struct Found {
    keys: HashMap<KeyName, KeyRecord>,
    names: HashMap<KeyId, KeyName>,
    /// Those whose stored data cannot be read.
    damaged: HashSet<KeyName>,
}

impl Found {
    async fn read(keys: &Keys<'_>) -> Result<Self, ApplyError> {
        let mut found =
            Self { keys: HashMap::new(), names: HashMap::new(), damaged: HashSet::new() };
        let mut search = Some(Search::all().page_size(Search::MAX_PAGE_SIZE));
        while let Some(one) = search {
            let page = keys.search(&one).await.map_err(reading)?;
            search = one.following(&page);
            found.damaged.extend(page.damaged.into_iter().map(|key| key.name));
            for key in page.keys {
                found.names.insert(key.id.clone(), key.config.name.clone());
                found.keys.insert(key.config.name.clone(), key);
            }
        }
        Ok(found)
    }

    /// Takes a key out by its name, or else by its id: then it is renamed.
    fn take(&mut self, wanted: &WantedKey) -> Result<Option<KeyRecord>, String> {
        let name = wanted::name(wanted);
        if self.damaged.contains(name) {
            return Err(format!(
                "the stored data of {name:?} is damaged: delete it, or restore its data"
            ));
        }
        if let Some(found) = self.keys.remove(name) {
            return Ok(Some(found));
        }
        let Place::At(id) = &wanted.place else { return Ok(None) };
        Ok(self.names.get(id).and_then(|name| self.keys.remove(name)))
    }

    /// Returns a sentence for each plan and each group that is named, and that neither the store nor the file has.
    fn missing(&self, wanted: &Wanted, plans: &HashSet<PlanName>) -> Vec<String> {
        let is_group = |id: &KeyId| {
            let of_store = self.names.get(id).and_then(|name| self.keys.get(name));
            let of_file = wanted.keys.iter().any(|key| key.place == Place::At(id.clone()));
            of_file || of_store.is_some_and(|key| key.kind == KeyKind::Group)
        };
        let mut groups = HashMap::new();
        let mut missing = Vec::new();
        for key in &wanted.keys {
            let name = wanted::name(key);
            for plan in [&key.config.plan, &key.config.open].into_iter().flatten() {
                if !plans.contains(plan) {
                    missing.push(format!(
                        "{name:?} has the plan {plan}, and there is none of this name"
                    ));
                }
            }
            let group = match &key.place {
                Place::Alone => None,
                Place::Beneath(group) => Some(group.clone()),
                Place::At(id) => id.group(),
            };
            let Some(group) = group else { continue };
            if !*groups.entry(group.clone()).or_insert_with(|| is_group(&group)) {
                missing.push(format!(
                    "{name:?} lies in the group {group}, and there is none of this id"
                ));
            }
        }
        missing
    }
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
                    writeln!(f, ", and write its access key to {path:?}")?;
                }
                (Access::WrittenTo(path) | Access::File(path), _) => {
                    writeln!(f, " with the access key in {path:?}")?;
                }
                (Access::Variable(variable), _) => {
                    writeln!(f, " with the access key in {variable}")?;
                }
                (Access::Without, _) => writeln!(f)?,
            }
        }
        for Changed { wanted, differences, hastens, access_key, .. } in &self.changed {
            writeln!(f, "{workspace}: change {}", named(wanted))?;
            lines(f, differences)?;
            if *hastens {
                writeln!(f, "    limits that wait for their next window: at once")?;
            }
            match &wanted.access {
                Access::Variable(variable) if access_key.is_some() => {
                    writeln!(f, "    access key: replaced by the one in {variable}, at once")?;
                }
                Access::File(path) if access_key.is_some() => {
                    writeln!(f, "    access key: replaced by the one in {path:?}, at once")?;
                }
                _ => {}
            }
        }
        if !self.has_admin {
            writeln!(
                f,
                "{workspace}: has no admin key that never expires: /v1 cannot manage it; add a key with admin = true"
            )?;
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
