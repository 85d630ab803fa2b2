//! A store, and the core beside it, which gets the same at the same time.

use std::collections::BTreeMap;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use limiter_core::{
    AssetId, Decision, DecisionHandle, DecisionStore, KeyConfig, KeyId, KeyKind, KeyRecord,
    KeyState, KeyStore, Ledger, ManualClock, NewRecord, StoredKey, Timestamp, Usage, WorkspaceId,
    evaluate,
};
use limiter_redis::{RedisHandle, RedisStore};

use crate::common;
use crate::history::{Action, Call, Change, History, KEYS};
use crate::order::{Group, after_in_some_order};
use crate::remembering::{BOUNDS, Remembered, give_up, remembered};
use crate::tally::Tally;

/// A store with a clock of its own, in which one history runs after the other.
pub(crate) struct World {
    store: RedisStore,
    clock: ManualClock,
    /// A way to what is stored, behind the store's back.
    server: redis::Connection,
    prefix: String,
    histories: u64,
}

/// How the store and the core differ.
pub(crate) type Divergence = String;

/// The keys of one history.
struct Play<'a> {
    world: &'a mut World,
    /// Their ids and names differ from those of every other history of the store.
    number: u64,
    keys: [Option<Key>; KEYS],
    /// With how many keys of that number there had been.
    handles: BTreeMap<(usize, Option<&'static str>), (u64, RedisHandle)>,
    created: [u64; KEYS],
    tally: Tally,
}

/// A living key, as the core has it.
struct Key {
    stored: StoredKey,
    state: KeyState,
    ledger: Ledger,
    config: KeyConfig,
    before: KeyConfig,
}

impl World {
    pub(crate) async fn new(url: &str) -> Self {
        let clock = ManualClock::at(Timestamp::from_unix_ms(0));
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("differential-{}-{number}", process::id());
        let store = common::empty(url).key_prefix(&prefix).clock(clock.clone());
        let store = store.remembered(BOUNDS.most).dedupe_time(BOUNDS.dedupe).connect().await;
        let store = store.expect("the test server accepts a store");
        let config = KeyConfig::named("permanent admin").expect("a short name");
        // The last permanent admin of a workspace cannot go: with this one, those of the histories can.
        let admin = record(&key_id("admin"), KeyKind::Admin, config);
        store.create(admin).await.expect("an empty workspace takes an admin key");
        let server = redis::Client::open(url).and_then(|client| client.get_connection());
        let server = server.expect("the test server takes connections");
        Self { store, clock, server, prefix, histories: 0 }
    }

    /// Runs a history, up to the first thing that differs.
    pub(crate) async fn run(&mut self, history: &History) -> Result<Tally, Divergence> {
        self.histories += 1;
        self.clock.set(history.start);
        let number = self.histories;
        let mut play = Play {
            world: self,
            number,
            keys: [const { None }; KEYS],
            handles: BTreeMap::new(),
            created: [0; KEYS],
            tally: Tally::default(),
        };
        let mut compared = Ok(());
        for (number, round) in history.rounds.iter().enumerate() {
            play.set_clock(round.step.from(play.now()));
            compared = play.round(&round.action).await;
            if compared.is_ok() && (number + 1) % history.compare_every == 0 {
                compared = play.compare_states().await;
            }
            if let Err(divergence) = &mut compared {
                *divergence = format!("round {number}, at {}: {divergence}", play.now());
                break;
            }
        }
        let compared = match compared {
            Ok(()) => play.compare_states().await,
            diverged => diverged,
        };
        let tally = play.end().await;
        compared.map(|()| tally)
    }
}

impl Play<'_> {
    async fn round(&mut self, action: &Action) -> Result<(), Divergence> {
        match action {
            Action::Create { key, kind, changes } => self.create(*key, *kind, changes).await,
            Action::Update { key, changes } => self.update(*key, changes).await,
            Action::Delete { key } => self.delete(*key).await,
            Action::Calls(calls) => self.call(calls).await,
            Action::Remembered(operation) => self.remembered(operation).await,
            Action::Peek(call) => self.peek(call).await,
            Action::Usage { key } => self.usage(*key).await,
        }
    }

    async fn create(
        &mut self,
        key: usize,
        kind: KeyKind,
        changes: &[Change],
    ) -> Result<(), Divergence> {
        if self.keys[key].is_some() {
            return Ok(());
        }
        let now = self.now();
        let name = format!("{}-{key}", self.number);
        let mut config = KeyConfig::named(name).expect("a short name");
        let before = config.clone();
        for change in changes {
            change.apply(&mut config, &before, now);
        }
        let created = self.store().create(record(&self.id(key), kind, config.clone())).await;
        let stored = StoredKey {
            id: self.id(key),
            workspace: workspace(),
            name: config.name.clone(),
            secret: None,
            version: 1,
        };
        let state = KeyState::new(kind, &config, now);
        let expected = KeyRecord::of(&stored, &state, now);
        self.created[key] += 1;
        self.keys[key] =
            Some(Key { stored, state, ledger: Ledger::default(), before: config.clone(), config });
        self.tally.records += 1;
        same("the record", created.map_err(chain), Ok(expected))
    }

    async fn update(&mut self, key: usize, changes: &[Change]) -> Result<(), Divergence> {
        let (id, now, store) = (self.id(key), self.now(), self.store().clone());
        let Some(key) = &mut self.keys[key] else { return Ok(()) };
        let mut config = key.config.clone();
        for change in changes {
            change.apply(&mut config, &key.before, now);
        }
        let updated = store.update(&workspace(), &id, key.stored.version, &config).await;
        let renamed = key.stored.name != config.name;
        let changed = key.state.configure(&config, now).expect("few assets");
        key.stored.version += u64::from(changed || renamed);
        key.stored.name = config.name.clone();
        key.before = std::mem::replace(&mut key.config, config);
        self.tally.records += 1;
        let expected = KeyRecord::of(&key.stored, &key.state, now);
        same("the record", updated.map_err(chain), Ok(expected))
    }

    async fn delete(&mut self, key: usize) -> Result<(), Divergence> {
        if self.keys[key].take().is_none() {
            return Ok(());
        }
        let deleted = self.store().delete(&workspace(), &self.id(key)).await;
        same("the deletion", deleted.map_err(chain), Ok(()))
    }

    /// All calls at once: they reach the server in one batch. In which order calls of different assets are decided
    /// there is not told, only that those of one asset keep theirs.
    async fn call(&mut self, calls: &[Call]) -> Result<(), Divergence> {
        for call in calls {
            self.prepare(call).await?;
        }
        let mut answers = Vec::with_capacity(calls.len());
        let mut tasks = Vec::with_capacity(calls.len());
        for call in calls {
            let (store, id, handle) = (self.store().clone(), self.id(call.key), self.handle(call));
            let (asset, charge) = (asset_id(call.asset), call.charge);
            let task = async move {
                match handle {
                    Some(handle) => handle.check_and_consume(&charge).await,
                    None => store.check_and_consume(&id, asset.as_ref(), &charge).await,
                }
            };
            tasks.push((self.is_stale(call), tokio::spawn(task)));
        }
        for (stale, task) in tasks {
            let answer = task.await.map_err(|panic| panic.to_string())?;
            answers.push((stale, answer.map_err(chain)?));
        }
        self.tally.calls(answers.iter().map(|(_, decision)| decision));
        for number in 0..KEYS {
            let groups = groups(number, calls, &answers);
            self.tally.groups(&groups);
            let state = self.keys[number].as_ref().map(|key| &key.state);
            let after = after_in_some_order(state, &groups, self.now())?;
            if let (Some(key), Some(after)) = (&mut self.keys[number], after) {
                key.state = after;
            }
        }
        // The next call is by a handle of the key as it is now.
        let created = self.created;
        self.handles.retain(|(key, _), (made_for, _)| *made_for == created[*key]);
        Ok(())
    }

    async fn remembered(&mut self, operation: &Remembered) -> Result<(), Divergence> {
        let (id, now) = (self.id(operation.key), self.now());
        let stored = operation.on_store(self.store(), &id).await;
        let key = self.keys[operation.key].as_mut();
        let expected = operation.on_core(key.map(|key| (&mut key.state, &mut key.ledger)), now);
        self.tally.remembered(&expected);
        same(&format!("{operation:?}"), Ok(stored), Ok(expected))
    }

    async fn peek(&mut self, call: &Call) -> Result<(), Divergence> {
        let (id, asset) = (self.id(call.key), asset_id(call.asset));
        self.prepare(call).await?;
        let peeked = match self.handle(call) {
            Some(handle) => handle.peek(&call.charge).await,
            None => self.store().peek(&id, asset.as_ref(), &call.charge).await,
        };
        let expected = match &self.keys[call.key] {
            Some(Key { state, .. }) if !self.is_stale(call) => {
                evaluate::peek(state, state.locate(asset.as_ref()), &call.charge, self.now())
            }
            _ => Decision::key_unknown(asset.as_ref()),
        };
        self.tally.peeks += 1;
        same("the peek", peeked.map_err(chain), Ok(expected))
    }

    async fn usage(&mut self, key: usize) -> Result<(), Divergence> {
        let usage = self.store().usage(&self.id(key)).await;
        let expected = self.keys[key].as_ref().map(|key| Usage::of(&key.state, self.now()));
        self.tally.usages += 1;
        same("the usage", usage.map_err(chain), Ok(expected))
    }

    async fn compare_states(&mut self) -> Result<(), Divergence> {
        for (number, key) in self.keys.iter().enumerate().filter(|(_, key)| key.is_some()) {
            let stored = self.store().state(&self.id(number)).await;
            self.tally.states += 1;
            let expected = key.as_ref().map(|key| key.state.clone());
            same(&format!("the state of key {number}"), stored.map_err(chain), Ok(expected))?;
            let stored = self.store().ledger(&self.id(number)).await.map_err(chain)?;
            let stored = stored.map(|ledger| remembered(&ledger, self.now()));
            let expected = key.as_ref().map(|key| remembered(&key.ledger, self.now()));
            same(&format!("what is remembered of key {number}"), Ok(stored), Ok(expected))?;
        }
        Ok(())
    }

    /// Makes the handle of a call, if there is none yet and a key to make it for.
    async fn prepare(&mut self, call: &Call) -> Result<(), Divergence> {
        let place = (call.key, call.asset);
        if call.by_handle && !self.handles.contains_key(&place) {
            let asset = asset_id(call.asset);
            let handle = self.store().handle(&self.id(call.key), asset.as_ref()).await;
            if let Some(handle) = handle.map_err(chain)? {
                self.handles.insert(place, (self.created[call.key], handle));
            }
        }
        Ok(())
    }

    fn handle(&self, call: &Call) -> Option<RedisHandle> {
        let (_, handle) = self.handles.get(&(call.key, call.asset)).filter(|_| call.by_handle)?;
        Some(handle.clone())
    }

    /// Whether a call is by the handle of an earlier key.
    fn is_stale(&self, call: &Call) -> bool {
        let handle = self.handles.get(&(call.key, call.asset));
        call.by_handle && handle.is_some_and(|(created, _)| *created != self.created[call.key])
    }

    /// Keeps the server small.
    async fn end(mut self) -> Tally {
        for key in 0..KEYS {
            if self.keys[key].take().is_some() {
                let _ = self.store().delete(&workspace(), &self.id(key)).await;
            }
        }
        self.tally
    }

    /// Before the clock steps back, whatever has passed is given up, on both sides.
    fn set_clock(&mut self, next: Timestamp) {
        let now = self.now();
        if next < now {
            for number in 0..KEYS {
                let id = self.id(number);
                let Some(key) = &mut self.keys[number] else { continue };
                give_up(&mut self.world.server, &self.world.prefix, &id, now);
                key.ledger.forget_until(now);
            }
        }
        self.world.clock.set(next);
    }

    fn store(&self) -> &RedisStore {
        &self.world.store
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    fn id(&self, key: usize) -> KeyId {
        key_id(&format!("{}-{key}", self.number))
    }
}

/// The calls of one key as the batcher puts them together: by asset, and by whether a handle made them.
fn groups(key: usize, calls: &[Call], answers: &[(bool, Decision)]) -> Vec<Group> {
    let mut groups: Vec<(bool, Group)> = Vec::new();
    for (call, (stale, decision)) in calls.iter().zip(answers).filter(|(call, _)| call.key == key) {
        let asset = asset_id(call.asset);
        let found = groups.iter_mut().find(|(by_handle, group)| {
            *by_handle == call.by_handle && group.asset == asset && group.stale == *stale
        });
        let decided = (call.charge, decision.clone());
        match found {
            Some((_, group)) => group.calls.push(decided),
            None => {
                groups.push((call.by_handle, Group { asset, stale: *stale, calls: vec![decided] }));
            }
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    store: Result<T, String>,
    core: Result<T, String>,
) -> Result<(), Divergence> {
    if store == core {
        return Ok(());
    }
    Err(format!("{what} differs\n store: {store:?}\n core:  {core:?}"))
}

/// An error with all that is below it.
fn chain(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn record(id: &KeyId, kind: KeyKind, config: KeyConfig) -> NewRecord {
    let (id, workspace) = (id.clone(), workspace());
    NewRecord { id, workspace, kind, config, secret: None, bootstraps: false }
}

fn workspace() -> WorkspaceId {
    "w".parse().expect("a short id")
}

fn key_id(id: &str) -> KeyId {
    id.parse().expect("a short id")
}

fn asset_id(asset: Option<&str>) -> Option<AssetId> {
    asset.map(|asset| asset.parse().expect("a short id"))
}

/// How many worlds there have been.
static WORLDS: AtomicU64 = AtomicU64::new(0);
