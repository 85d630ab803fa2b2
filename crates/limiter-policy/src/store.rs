//! The guarded store: a store of any kind, and the policy for its outages.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use limiter_core::{
    AssetId, CallError, Charge, CreateResults, Crossing, DayHistory, Decision, DenialReason,
    FailureDomain, Grant, GrantTerms, KeyDigest, KeyId, KeyName, KeyRecord, KeyRotation, KeyUpdate,
    KeysError, Listener, NewRecord, Page, PlanName, PlanRecord, PlanUpdate, RecordId, RequestId,
    ReservationError, Search, Settled, Store, StoreError, Timestamp, Totals, Unpaid, UpdatedKey,
    Usage, WorkspaceId, async_trait,
};

use tokio::runtime::Handle;

use crate::asking::{Asking, Effect, Subject, failed_key};
use crate::breaker::BreakerState;
use crate::here::Here;
use crate::known::{LookedUp, Unbacked};
use crate::later::Ended;
use crate::local::Local;
use crate::metrics::AnswerFigures;
use crate::policy::FailurePolicy;

/// A store with a [`FailurePolicy`], which answers when the store cannot, at the latest after a deadline.
///
/// Built by a [`GuardedStoreBuilder`](crate::GuardedStoreBuilder); clones share the store. It needs a tokio runtime
/// with a timer: a call polled elsewhere is an [outage](crate::Outage::NoRuntime), answered by the policy.
#[derive(Clone)]
pub struct GuardedStore {
    asking: Arc<Asking>,
    policy: FailurePolicy,
    looked_up: Arc<LookedUp>,
    unbacked: Arc<Unbacked>,
    figures: Arc<AnswerFigures>,
}

impl GuardedStore {
    /// Returns the state of the circuit breaker. A store with parts that fail on their own, such as the masters of a
    /// cluster, has one breaker for each part: this is the worst of their states.
    #[must_use]
    pub fn breaker(&self) -> BreakerState {
        self.asking.breakers.lock().state()
    }

    /// Returns the breaker's state for calls of this key: that of the part of the store that serves it.
    #[must_use]
    pub fn breaker_of(&self, key: &KeyId) -> BreakerState {
        self.asking.state_for(key)
    }

    /// Returns whether [`LocalShare`](FailurePolicy::LocalShare) could decide for this key: its limits and those of its
    /// groups are known.
    #[must_use]
    pub fn knows(&self, key: &KeyId) -> bool {
        self.asking.local.as_ref().is_some_and(|local| local.knows(key))
    }

    /// Returns whether all breakers are closed, and the store has received all ends of reservations and all calls that
    /// were allowed without it.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.asking.is_well()
    }

    /// Sends the store all late operations, for at most this long: charges for calls that were allowed without it, and
    /// ends of reservations. Returns those that are left.
    ///
    /// While the store is away, this waits for it until the time has passed. Call it at the end of a process, after the
    /// last call. Debts that are not paid when the last clone and handle are dropped are lost, and a warning states
    /// their sum. An operation that the store refuses is tried once more, without a wait.
    ///
    /// ```no_run
    /// # async fn end(store: limiter_policy::GuardedStore) {
    /// let unpaid = store.flush(std::time::Duration::from_secs(5)).await;
    /// if !unpaid.is_nothing() {
    ///     eprintln!("lost: {unpaid}");
    /// }
    /// # }
    /// ```
    pub async fn flush(&self, within: Duration) -> Unpaid {
        self.asking.flush(within).await
    }

    pub(crate) fn new(
        policy: FailurePolicy,
        asking: Arc<Asking>,
        most_remembered: NonZeroUsize,
    ) -> Self {
        Self {
            asking,
            policy,
            looked_up: Arc::new(LookedUp::new(most_remembered)),
            unbacked: Arc::new(Unbacked::new(most_remembered)),
            figures: Arc::new(AnswerFigures::new(policy)),
        }
    }

    #[cfg(test)]
    pub(crate) const fn asking(&self) -> &Arc<Asking> {
        &self.asking
    }

    fn fails_open(&self) -> bool {
        self.policy == FailurePolicy::FailOpen
    }

    /// Returns whether the policy goes on without the store.
    fn goes_on(&self) -> bool {
        self.policy != FailurePolicy::FailClosed
    }

    /// Returns the store's answer, or the policy's if there is none. `here` decides by this process's share.
    pub(crate) fn or_policy<E: CallError>(
        &self,
        key: &KeyId,
        asked: Result<Decision, E>,
        here: impl FnOnce(&mut Here<'_>, Timestamp) -> Result<Decision, E>,
    ) -> Result<Decision, E> {
        match asked {
            Err(error) if error.is_outage() && self.goes_on() => match &self.asking.local {
                Some(local) => {
                    let decided = local.with(key, here).unwrap_or(Err(error));
                    self.recover_if_owing(local);
                    decided.map(|decision| self.degraded(decision))
                }
                None => Ok(self.degraded(unchecked())),
            },
            asked => {
                if let (Ok(decision), Some(local)) = (&asked, &self.asking.local) {
                    self.follow(local, key, decision);
                }
                asked
            }
        }
    }

    /// The decision, flagged as given without the store.
    fn degraded(&self, decision: Decision) -> Decision {
        self.figures.degraded(&decision);
        decision.degrade()
    }

    /// Reads the limits of the key and its groups in the background, to know the share of them.
    fn follow(&self, local: &Local, key: &KeyId, decision: &Decision) {
        if let Decision::Denied(denied) = decision {
            if *denied.reason() == DenialReason::KeyUnknown {
                local.forget_key(key);
            }
        } else if decision.is_registered()
            && let Ok(permit) = Arc::clone(&local.learning).try_acquire_owned()
        {
            let due = local.due_to_learn(key);
            if !due.is_empty()
                && let Ok(runtime) = Handle::try_current()
            {
                let asking = Arc::clone(&self.asking);
                runtime.spawn(async move {
                    for level in due {
                        asking.learn(&level).await;
                    }
                    drop(permit);
                });
            }
        }
    }

    fn recover_if_owing(&self, local: &Local) {
        self.asking.tidy_later();
        if !local.owes_nothing() {
            self.asking.recover();
        }
    }

    /// Sends the end of a reservation to the store: now or, if the policy goes on without the store, later.
    async fn end(&self, ended: Ended) -> Result<Settled, ReservationError> {
        let Ended { key, id, actual, .. } = &ended;
        if let Some(local) = &self.asking.local {
            let here = |here: &mut Here<'_>, now| here.end(id, actual.as_ref(), now);
            if let Some(done) = local.with_reserved(key, id, here) {
                self.recover_if_owing(local);
                return done;
            }
        }
        if self.unbacked.end(key, id) {
            return Ok(Settled::uncharged(None));
        }
        match ended.tell(&self.asking).await {
            Err(error) if error.is_outage() && self.goes_on() => {
                // The store rarely knows reservations that were made without it: if the queue is full, such an end may
                // be left out.
                let unbacked = self.unbacked.has(key, id);
                let cancelled = ended.actual.is_none().then_some(Charge::NOTHING);
                if self.tell_later(ended) {
                    return Ok(Settled::postponed(cancelled));
                }
                if unbacked { Ok(Settled::uncharged(None)) } else { Err(error) }
            }
            Err(ReservationError::Unknown(_)) if self.unbacked.has(key, id) => {
                Ok(Settled::uncharged(None))
            }
            answer => answer,
        }
    }

    fn tell_later(&self, ended: Ended) -> bool {
        let kept = self.asking.later.keep(ended);
        self.asking.recover();
        kept
    }
}

/// Managing keys is an error while the store cannot answer, under every policy. An access key that was found before is
/// still found if the policy goes on without the store.
#[async_trait]
impl Store for GuardedStore {
    fn failure_domain(&self, key: &KeyId) -> FailureDomain {
        self.asking.store().map_or(FailureDomain::WHOLE, |store| store.failure_domain(key))
    }

    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        let asked = self
            .asking
            .ask(key, Effect::Charges, |store| store.check_and_consume(key, asset, charge))
            .await;
        self.or_policy(key, asked, |here, now| Ok(here.check(asset, charge, now)))
    }

    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError> {
        let asked =
            self.asking.ask(key, Effect::Reads, |store| store.peek(key, asset, charge)).await;
        self.or_policy(key, asked, |here, now| Ok(here.peek(asset, charge, now)))
    }

    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError> {
        self.asking.ask(key, Effect::Reads, |store| store.usage(key)).await
    }

    async fn history(&self, key: &KeyId, days: u16) -> Result<Option<Vec<DayHistory>>, StoreError> {
        self.asking.ask(key, Effect::Reads, |store| store.history(key, days)).await
    }

    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError> {
        let asked = self
            .asking
            .ask(key, Effect::Charges, |store| store.check_once(key, asset, charge, id))
            .await;
        self.or_policy(key, asked, |here, now| here.check_once(asset, charge, id, now))
    }

    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError> {
        self.asking.ask(key, Effect::Charges, |store| store.record(key, asset, charge, id)).await
    }

    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        let asked = self
            .asking
            .ask(key, Effect::Charges, |store| store.reserve(key, asset, estimate, id, ttl))
            .await;
        let may_stand =
            matches!(asked, Err(ReservationError::Store(StoreError::OutcomeUnknown(_))));
        let here = |here: &mut Here<'_>, now| here.reserve(asset, estimate, id, ttl, now);
        let decision = self.or_policy(key, asked, here)?;
        if self.asking.local.is_none() && decision.is_degraded() {
            self.unbacked.remember(key, id, may_stand);
        } else if may_stand && decision.is_degraded() {
            // It is counted here, and must not count twice if the store has received it after all.
            let ended = Ended::by_caller(key, id, None);
            self.tell_later(Ended { is_reported: false, ..ended });
        }
        Ok(decision)
    }

    async fn amend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError> {
        if let Some(local) = &self.asking.local {
            let here = |here: &mut Here<'_>, now| here.amend(id, to, now);
            if let Some(amended) = local.with_reserved(key, id, here) {
                self.recover_if_owing(local);
                return amended.map(|decision| self.degraded(decision));
            }
        }
        match self.asking.ask(key, Effect::Charges, |store| store.amend(key, id, to)).await {
            Err(error) if error.is_outage() && self.fails_open() => Ok(self.degraded(unchecked())),
            Err(ReservationError::Unknown(_)) if self.unbacked.has(key, id) => {
                Ok(self.degraded(unchecked()))
            }
            amended => amended,
        }
    }

    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError> {
        self.end(Ended::by_caller(key, id, Some(*actual))).await
    }

    /// Registers a listener for the changes that the store gets after an outage, and for the events of the store itself; only
    /// the first listener is kept.
    fn listen(&self, listener: Listener) {
        let _ = self.asking.listener.set(listener);
    }

    async fn flush(&self, within: Duration) -> Unpaid {
        self.flush(within).await
    }

    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError> {
        self.end(Ended::by_caller(key, id, None)).await
    }

    async fn grant(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        terms: &GrantTerms,
        id: &RequestId,
    ) -> Result<Option<Grant>, StoreError> {
        self.asking.ask(key, Effect::Charges, |store| store.grant(key, asset, terms, id)).await
    }

    async fn hand_back(
        &self,
        key: &KeyId,
        id: &RequestId,
        used: &Charge,
    ) -> Result<(), StoreError> {
        self.asking.ask(key, Effect::Charges, |store| store.hand_back(key, id, used)).await
    }

    fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain {
        self.asking.store().map_or(FailureDomain::WHOLE, |store| store.lookup_domain(digest))
    }

    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError> {
        // The part that holds the key may be given up, though another part serves the look-up.
        let located = self.looked_up.located(digest);
        let refusal = located.and_then(|id| self.asking.refusal_of(&id));
        let asked = match refusal {
            Some(refusal) => Err(refusal),
            None => self.asking.ask(digest, Effect::Reads, |store| store.resolve(digest)).await,
        };
        match asked {
            Ok(found) => {
                self.looked_up.answered(digest, found.as_ref());
                Ok(found)
            }
            Err(error) => {
                if let Some(id) = failed_key(&error) {
                    self.looked_up.locate(digest, id);
                }
                let known = self.looked_up.found(digest);
                known
                    .filter(|_| self.goes_on() && error.is_outage())
                    .map_or(Err(error), |id| Ok(Some(id)))
            }
        }
    }

    async fn find(
        &self,
        workspace: &WorkspaceId,
        name: &KeyName,
    ) -> Result<Option<KeyId>, StoreError> {
        self.asking.ask(Subject::Several, Effect::Reads, |store| store.find(workspace, name)).await
    }

    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.asking.ask(id, Effect::Reads, |store| store.read(id)).await
    }

    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
        self.asking.ask(Subject::Several, Effect::ChangesKeys, |store| store.create(key)).await
    }

    async fn create_many(&self, keys: Vec<NewRecord>) -> Result<CreateResults, StoreError> {
        self.asking
            .ask(Subject::Several, Effect::ChangesKeys, |store| store.create_many(keys))
            .await
    }

    async fn update(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
    ) -> Result<UpdatedKey, KeysError> {
        self.asking
            .ask(Subject::Several, Effect::ChangesKeys, |store| store.update(workspace, update))
            .await
    }

    async fn reset(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        self.asking
            .ask(Subject::Several, Effect::ChangesKeys, |store| store.reset(workspace, id))
            .await
    }

    async fn rotate(
        &self,
        workspace: &WorkspaceId,
        rotation: &KeyRotation,
    ) -> Result<KeyRecord, KeysError> {
        let rotated = self
            .asking
            .ask(Subject::Several, Effect::ChangesKeys, |store| store.rotate(workspace, rotation))
            .await;
        // An access key that has leaked must not work in an outage.
        self.looked_up.forget(&rotation.id);
        rotated
    }

    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError> {
        let deleted = self
            .asking
            .ask(Subject::Several, Effect::ChangesKeys, |store| store.delete(workspace, id))
            .await;
        self.looked_up.forget(id);
        deleted
    }

    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError> {
        self.asking
            .ask(Subject::Several, Effect::Reads, |store| store.list(workspace, search))
            .await
    }

    async fn save_plan(
        &self,
        workspace: &WorkspaceId,
        update: &PlanUpdate,
    ) -> Result<PlanRecord, KeysError> {
        self.asking
            .ask(Subject::Several, Effect::ChangesKeys, |store| store.save_plan(workspace, update))
            .await
    }

    async fn plans(&self, workspace: &WorkspaceId) -> Result<Vec<PlanRecord>, StoreError> {
        self.asking.ask(Subject::Several, Effect::Reads, |store| store.plans(workspace)).await
    }

    async fn plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<Option<PlanRecord>, StoreError> {
        self.asking.ask(Subject::Several, Effect::Reads, |store| store.plan(workspace, name)).await
    }

    async fn delete_plan(&self, workspace: &WorkspaceId, name: &PlanName) -> Result<(), KeysError> {
        self.asking
            .ask(Subject::Several, Effect::ChangesKeys, |store| store.delete_plan(workspace, name))
            .await
    }
}

/// Without the remembered keys: a store may have many.
impl std::fmt::Debug for GuardedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedStore")
            .field("policy", &self.policy)
            .field("asking", &self.asking)
            .finish_non_exhaustive()
    }
}

/// Returns the answer of a policy that allows the call, at the time of this process.
fn unchecked() -> Decision {
    Decision::unchecked(Timestamp::from(SystemTime::now()))
}
