//! Plays operations of the replay format on a real engine, whatever its store.

mod answer;
pub(crate) mod request;

use answer::Called;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use limiter_core::{
    BoxError, Crossing, DayHistory, Decision, InvalidValue, KeyConfig, KeyId, KeysError, LateEvent,
    ManualClock, NewKey, PlanName, PlanRecord, PlanUpdate, RequestId, ReservationError, Store,
    StoreError, WorkspaceId,
};
use thiserror::Error;

use crate::Managed;
use crate::replay::{
    Action, Answer, Call, Create, Effective, Event, KeyKind, Operation, Plan, Problem, Reserve,
    Totals, Update, parent,
};

/// Runs the operations of one file on an engine, on a clock that they set.
///
/// Its keys and groups live in one workspace, next to a hidden admin key of its own that manages them. The segments of labels
/// may be of any length and number; the names and ids of the keys behind them are made here, and so are the names of plans. An
/// id has the same number of segments as its label, and those of what lies in one group begin alike.
///
/// It listens to the store, to put the thresholds among the events that a level reaches when it takes a changed plan.
///
/// ```
/// # async fn replay(store: std::sync::Arc<dyn limiter_core::Store>, clock: limiter_core::ManualClock)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use limiter_conformance::player::Player;
/// use limiter_conformance::replay::read;
///
/// // The clock is the one that the store reads.
/// let mut player = Player::new(store, clock).await?;
/// for line in std::io::stdin().lines() {
///     println!("{}", player.play(&read(&line?)?).await?.to_line());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Player {
    store: Managed,
    clock: ManualClock,
    workspace: WorkspaceId,
    admin: KeyId,
    keys: HashMap<String, Labelled>,
    /// How many keys have had a label so far.
    made: u64,
    /// The id of no key, for labels that no key ever had.
    nobody: KeyId,
    /// The names of plans, by their labels.
    plans: HashMap<String, PlanName>,
    /// How many plans have had a name so far.
    named: u64,
    late: Late,
    /// The thresholds that have fired and were not asked for yet.
    events: Vec<Event>,
    /// The number of the history, if the ids of keys are made of their labels.
    history: Option<u64>,
    /// How often it has moved to another workspace.
    moved: u64,
}

/// The thresholds that the store has reached outside of an answer since the last operation, by level.
type Late = Arc<Mutex<Vec<(KeyId, Vec<Crossing>)>>>;

/// The key of a label, also before it is made and after its deletion: it is the engine that answers for such a key.
#[derive(Debug)]
struct Labelled {
    id: KeyId,
    lives: bool,
}

/// The reason why an operation has no answer, which ends the run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlayError {
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys of the file could not be managed.
    #[error("the keys of the file cannot be managed: {0}")]
    Keys(#[from] KeysError),
    /// The engine answered what the replay format has no word for.
    #[error("the replay format has no word for what the engine answered: {0}")]
    NoWord(String),
}

impl From<InvalidValue> for PlayError {
    fn from(error: InvalidValue) -> Self {
        Self::Keys(error.into())
    }
}

impl Player {
    /// A player in the workspace `replay` of a store, which must have no keys yet.
    ///
    /// `clock` is the one that the store reads: each operation sets it.
    ///
    /// # Errors
    /// [`PlayError`] if the hidden admin key cannot be created.
    pub async fn new(store: Arc<dyn Store>, clock: ManualClock) -> Result<Self, PlayError> {
        Self::in_workspace(store, clock, WorkspaceId::new("replay")?).await
    }

    /// The same in another workspace, for stores that outlive a run.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn in_workspace(
        store: Arc<dyn Store>,
        clock: ManualClock,
        workspace: WorkspaceId,
    ) -> Result<Self, PlayError> {
        let store = Managed::new(store, |bytes| getrandom::fill(bytes).map_err(BoxError::from));
        let admin = NewKey::admin(KeyConfig::named("player")?).without_access_key();
        let admin = store.bootstrap(workspace.clone(), admin).await?.record.id;
        let late = Late::default();
        let reached = Arc::clone(&late);
        store.listen(Box::new(move |level, event| {
            if let LateEvent::Crossed(crossed) = event {
                let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
                reached.push((level.clone(), crossed.to_vec()));
            }
        }));
        Ok(Self {
            store,
            clock,
            workspace,
            admin,
            keys: HashMap::new(),
            made: 0,
            nobody: KeyId::new("nobody")?,
            plans: HashMap::new(),
            named: 0,
            late,
            events: Vec::new(),
            history: None,
            moved: 0,
        })
    }

    /// Begins another history, in which no label has a key or a plan yet. From now on the id of a key is made of its label: the first
    /// segment is made unique, and the others are as in the label. One that is created again has the id of the one before.
    /// Labels must be short.
    pub fn begin_with_ids_of_labels(&mut self) {
        self.keys.clear();
        self.plans.clear();
        self.events.clear();
        self.history = Some(self.history.map_or(0, |history| history + 1));
    }

    /// Goes on in another workspace after some histories: one has a bound of plans.
    async fn move_on(&mut self) -> Result<(), PlayError> {
        let Some(history) = self.history.filter(|history| history / HISTORIES > self.moved) else {
            return Ok(());
        };
        self.moved = history / HISTORIES;
        let workspace = WorkspaceId::new(format!("{} {}", self.workspace, self.moved))?;
        let admin = NewKey::admin(KeyConfig::named("player")?).without_access_key();
        self.admin = self.store.bootstrap(workspace, admin).await?.record.id;
        Ok(())
    }

    /// Sets the clock, does the operation, and answers it.
    ///
    /// # Errors
    /// [`PlayError`] if there is no answer, as when the store fails.
    pub async fn play(&mut self, operation: &Operation) -> Result<Answer, PlayError> {
        if !operation.is_within_bounds() {
            return Ok(Answer::Error(Problem::Invalid));
        }
        let now = request::instant(operation.at);
        if self.clock.now() != now {
            // While time passes, a store completes what it has postponed.
            let unpaid = self.store.flush(PATIENCE).await;
            assert!(unpaid.is_nothing(), "the store works: {unpaid}");
        }
        self.clock.set(now);
        self.move_on().await?;
        if let Some(key) = operation.action.key() {
            self.meet(key)?;
        }
        let answer = match &operation.action {
            Action::Create(create) => self.create(create).await,
            Action::Update(update) => self.update(update).await,
            Action::Check(call) if let Some(id) = &call.request_id => {
                self.check_once(call, id).await
            }
            Action::Check(call) => {
                self.check(call).await.and_then(|it| self.called(&call.key).of_decision(&it))
            }
            Action::Peek(call) => {
                self.peek(call).await.and_then(|it| self.called(&call.key).of_decision(&it))
            }
            Action::Reserve(reserve) => self.reserve(reserve).await,
            Action::Amend(to) => self.amend(to).await,
            Action::Settle(actual) => self.settle(actual).await,
            Action::Cancel { key, id } => self.cancel(key, id).await,
            Action::Usage { key } => self.usage(key).await,
            Action::History { key, days } => self.days(key, *days).await,
            Action::Events {} => Ok(Answer::Events(std::mem::take(&mut self.events))),
            Action::Reset { key } => self.reset(key).await,
            Action::Delete { key } => self.delete(key).await,
            Action::Plan(plan) => self.plan(plan).await,
            Action::DeletePlan { plan } => self.delete_plan(plan).await,
        };
        let late = std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner));
        let answer = match answer {
            Err(PlayError::Keys(KeysError::NotFound(_))) => Answer::Error(Problem::UnknownKey),
            Err(PlayError::Keys(KeysError::Invalid(_))) => Answer::Error(Problem::Invalid),
            Err(PlayError::Keys(KeysError::Conflict { .. })) => Answer::Error(Problem::Stale),
            Err(PlayError::Keys(KeysError::NoGroup(_))) => Answer::Error(Problem::NoGroup),
            Err(PlayError::Keys(KeysError::NotEmpty(_))) => Answer::Error(Problem::NotEmpty),
            Err(PlayError::Keys(KeysError::NoPlan(_))) => Answer::Error(Problem::NoPlan),
            Err(PlayError::Keys(KeysError::PlanInUse(_))) => Answer::Error(Problem::InUse),
            answer => answer?,
        };
        if let Some(key) = operation.action.key() {
            self.events.extend(self.called(key).late_events(late)?);
        }
        // A peek shows what would fire.
        let fires = !matches!(operation.action, Action::Peek(_));
        if let Some(key) = operation.action.key().filter(|_| fires) {
            self.events.extend(answer.events(key));
        }
        Ok(answer)
    }

    /// The store, with the management of its keys.
    pub const fn store(&self) -> &Managed {
        &self.store
    }

    /// The clock that operations set.
    pub const fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// The admin key that manages the keys of the file.
    pub const fn admin(&self) -> &KeyId {
        &self.admin
    }

    /// The key with a label: the last one created under it, living or deleted, or else the id of no key.
    pub fn key(&self, label: &str) -> KeyId {
        if let Some(labelled) = self.keys.get(label) {
            return labelled.id.clone();
        }
        let group = parent(label).map(|group| self.key(group));
        // Where segments are drawn, none is this one.
        let segment = self.history.map_or("nobody", |_| own(label));
        // A label has at most four segments.
        group.and_then(|group| group.child(segment).ok()).unwrap_or_else(|| self.nobody.clone())
    }

    /// Draws a segment for the label of a key that nobody made, beneath a group of this file.
    fn meet(&mut self, label: &str) -> Result<(), PlayError> {
        let group = parent(label).and_then(|group| self.keys.get(group));
        let group = group.filter(|group| group.lives && self.history.is_none());
        let Some(group) = group.map(|group| group.id.clone()) else { return Ok(()) };
        let is_of_it = |known: &Labelled| known.lives || known.id.group().as_ref() == Some(&group);
        if !self.keys.get(label).is_some_and(is_of_it)
            && let Ok(id) = group.child(random_segment()?)
        {
            self.keys.insert(label.to_owned(), Labelled { id, lives: false });
        }
        Ok(())
    }

    fn called<'a>(&self, label: &'a str) -> Called<'a> {
        Called { label, id: self.key(label) }
    }

    async fn create(&mut self, create: &Create) -> Result<Answer, PlayError> {
        let named = [create.plan.as_ref(), create.open.as_ref()];
        let named = self.plan_names(named)?;
        let config = request::config(create, &format!("key {}", self.made), named)?;
        for plan in [&config.plan, &config.open].into_iter().flatten() {
            self.store.keys_as(&self.admin).plan(plan).await?;
        }
        if self.keys.get(&create.key).is_some_and(|labelled| labelled.lives) {
            return Ok(Answer::Error(Problem::AlreadyExists));
        }
        let id = self.new_id(&create.key)?;
        let key = match create.kind {
            KeyKind::Admin => NewKey::admin(config).with_id(id),
            KeyKind::Group => NewKey::group(id, config),
            _ => NewKey::member(config).with_id(id),
        };
        let created = self.store.keys_as(&self.admin).create(key.without_access_key()).await?;
        self.made += 1;
        self.keys.insert(create.key.clone(), Labelled { id: created.record.id, lives: true });
        Ok(Answer::Ok)
    }

    /// Makes the id of a new key, beneath the id of its group.
    fn new_id(&self, label: &str) -> Result<KeyId, PlayError> {
        let own = own(label);
        let group = parent(label).map(|group| self.key(group));
        let segment = match (self.history, &group) {
            (Some(history), None) => format!("{own} of {history}"),
            (Some(_), Some(_)) => own.to_owned(),
            (None, _) => random_segment()?,
        };
        Ok(group.map_or_else(|| KeyId::new(&segment), |group| group.child(&segment))?)
    }

    /// Reads the configuration, changes what the line names, and saves it at the version that was read.
    async fn update(&mut self, update: &Update) -> Result<Answer, PlayError> {
        let named = self.plan_names([update.plan.value(), update.open.value()])?;
        // Its bounds come first, before the plans and the key are looked up.
        request::apply(update, named.clone(), &mut KeyConfig::named("any")?)?;
        let keys = self.store.keys_as(&self.admin);
        for plan in named.iter().flatten() {
            keys.plan(plan).await?;
        }
        let record = keys.get(&self.key(&update.key)).await?;
        let mut config = record.config.clone();
        request::apply(update, named, &mut config)?;
        let version = update.version.unwrap_or(record.version);
        let updated = match update.effective {
            Effective::Next => keys.update(&record.id, version, &config).await?,
            Effective::Now => keys.update_now(&record.id, version, &config).await?,
        };
        Ok(Answer::Updated { crossed: self.called(&update.key).crossed(&updated.crossed)? })
    }

    pub(crate) async fn check(&self, call: &Call) -> Result<Decision, PlayError> {
        let (asset, charge) = (request::asset(call)?, request::charge(call)?);
        let key = self.key(&call.key);
        Ok(self.store.check_and_consume(&key, asset.as_ref(), &charge).await?)
    }

    pub(crate) async fn peek(&self, call: &Call) -> Result<Decision, PlayError> {
        let (asset, charge) = (request::asset(call)?, request::charge(call)?);
        Ok(self.store.peek(&self.key(&call.key), asset.as_ref(), &charge).await?)
    }

    async fn check_once(&self, call: &Call, id: &str) -> Result<Answer, PlayError> {
        let (asset, charge) = (request::asset(call)?, request::charge(call)?);
        let (called, id) = (self.called(&call.key), RequestId::new(id)?);
        let decision = self.store.check_once(&called.id, asset.as_ref(), &charge, &id).await;
        decided(&called, decision)
    }

    async fn reserve(
        &self,
        Reserve { estimate, id, ttl_ms }: &Reserve,
    ) -> Result<Answer, PlayError> {
        let (asset, charge) = (request::asset(estimate)?, request::charge(estimate)?);
        let (called, id) = (self.called(&estimate.key), RequestId::new(id)?);
        let ttl = Duration::from_millis(*ttl_ms);
        let decision = self.store.reserve(&called.id, asset.as_ref(), &charge, &id, ttl).await;
        decided(&called, decision)
    }

    async fn amend(&self, to: &Totals) -> Result<Answer, PlayError> {
        let (id, totals) = (RequestId::new(&to.id)?, request::totals(to)?);
        let called = self.called(&to.key);
        let decision = self.store.amend(&called.id, &id, &totals).await;
        decided(&called, decision)
    }

    async fn settle(&self, actual: &Totals) -> Result<Answer, PlayError> {
        let (id, totals) = (RequestId::new(&actual.id)?, request::totals(actual)?);
        let called = self.called(&actual.key);
        let settled = self.store.settle(&called.id, &id, &totals).await;
        settled.map_or_else(answer::of_refusal, |settled| called.of_settlement(&settled))
    }

    async fn cancel(&self, key: &str, id: &str) -> Result<Answer, PlayError> {
        let called = self.called(key);
        let cancelled = self.store.cancel(&called.id, &RequestId::new(id)?).await;
        cancelled.map_or_else(answer::of_refusal, |settled| called.of_settlement(&settled))
    }

    async fn usage(&self, label: &str) -> Result<Answer, PlayError> {
        let usage = self.store.keys_as(&self.admin).usage(&self.key(label)).await?;
        answer::of_usage(&usage)
    }

    async fn days(&self, label: &str, days: u64) -> Result<Answer, PlayError> {
        let days = u16::try_from(days).unwrap_or(u16::MAX).min(DayHistory::MOST_DAYS);
        let history = self.store.keys_as(&self.admin).history(&self.key(label), days).await?;
        Ok(answer::of_history(&history))
    }

    async fn reset(&self, label: &str) -> Result<Answer, PlayError> {
        self.store.keys_as(&self.admin).reset(&self.key(label)).await?;
        Ok(Answer::Ok)
    }

    async fn delete(&mut self, label: &str) -> Result<Answer, PlayError> {
        self.store.keys_as(&self.admin).delete(&self.key(label)).await?;
        if let Some(labelled) = self.keys.get_mut(label) {
            labelled.lives = false;
        }
        Ok(Answer::Ok)
    }

    /// Reads the plan, changes what the line names, and saves it at the version that was read.
    async fn plan(&mut self, change: &Plan) -> Result<Answer, PlayError> {
        let name = self.plan_name(&change.plan)?;
        let keys = self.store.keys_as(&self.admin);
        let (mut plan, version) = match keys.plan(&name).await {
            Ok(PlanRecord { plan, version, .. }) => (plan, version),
            Err(KeysError::NoPlan(_)) => (limiter_core::Plan::default(), 0),
            Err(error) => return Err(error.into()),
        };
        request::change_plan(change, &mut plan)?;
        let update = PlanUpdate::new(name, plan).from_version(version);
        keys.save_plan(PlanUpdate { effective: change.effective, ..update }).await?;
        Ok(Answer::Ok)
    }

    async fn delete_plan(&mut self, label: &str) -> Result<Answer, PlayError> {
        let name = self.plan_name(label)?;
        self.store.keys_as(&self.admin).delete_plan(&name).await?;
        Ok(Answer::Ok)
    }

    fn plan_names(
        &mut self,
        labels: [Option<&String>; 2],
    ) -> Result<[Option<PlanName>; 2], PlayError> {
        let [plan, open] = labels.map(|label| label.map(|label| self.plan_name(label)).transpose());
        Ok([plan?, open?])
    }

    /// Returns the name of the plan with a label, living or not. No other history of the store has it.
    fn plan_name(&mut self, label: &str) -> Result<PlanName, PlayError> {
        if let Some(name) = self.plans.get(label) {
            return Ok(name.clone());
        }
        self.named += 1;
        let name = PlanName::new(format!("plan {}", self.named))?;
        self.plans.insert(label.to_owned(), name.clone());
        Ok(name)
    }
}

/// Returns the last segment of a path.
fn own(label: &str) -> &str {
    label.rsplit('/').next().unwrap_or(label)
}

/// Draws a segment that no other key of the store has.
fn random_segment() -> Result<String, PlayError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| KeysError::Entropy(error.into()))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

fn decided(
    called: &Called<'_>,
    decision: Result<Decision, ReservationError>,
) -> Result<Answer, PlayError> {
    decision.map_or_else(answer::of_refusal, |decision| called.of_decision(&decision))
}

/// The histories of a workspace. Each has few plans.
/// Long for a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
const HISTORIES: u64 = 100;
