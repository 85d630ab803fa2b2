//! A store around another one, for tests that fail, delay, count or redirect its calls.

use std::fmt::Debug;
use std::ops::Deref;
use std::time::Duration;

use limiter_core::{
    AssetId, CallError, Charge, CreateResults, Crossing, DayHistory, Decision, FailureDomain,
    Grant, GrantTerms, KeyDigest, KeyId, KeyName, KeyRecord, KeyRotation, KeyUpdate, KeysError,
    Listener, NewRecord, Page, PlanName, PlanRecord, PlanUpdate, RecordId, RequestId,
    ReservationError, Search, Settled, Store, StoreError, Totals, Unpaid, UpdatedKey, Usage,
    WorkspaceId, async_trait,
};

/// A test's way to stand between a store and its callers. [`Around`] makes a store of it.
pub trait Interpose: Debug + Send + Sync + 'static {
    /// The store that gets the call.
    fn store(&self) -> &dyn Store;

    /// Decides a check or a peek: by the store, unless a test has another way.
    fn decide(
        &self,
        called: Called<'_>,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> impl Future<Output = Result<Decision, StoreError>> + Send {
        async move {
            match called.charges() {
                true => self.store().check_and_consume(key, asset, charge).await,
                false => self.store().peek(key, asset, charge).await,
            }
        }
    }

    /// Makes a call, which does nothing before it is awaited.
    fn call<T: Send, E: CallError>(
        &self,
        called: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> impl Future<Output = Result<T, E>> + Send;
}

/// An operation of a store, and what it names.
#[derive(Clone, Copy, Debug)]
pub struct Called<'a> {
    /// The name of the method.
    pub operation: &'static str,
    /// The key, if the operation is about one.
    pub key: Option<&'a KeyId>,
    /// The id of the request, if it has one.
    pub id: Option<&'a RequestId>,
    /// The terms, if a grant is asked for.
    pub terms: Option<&'a GrantTerms>,
}

/// The store that an [`Interpose`] makes of another one.
#[derive(Clone, Debug)]
pub struct Around<I>(pub I);

impl<'a> Called<'a> {
    const NOTHING: Self = Self { operation: "", key: None, id: None, terms: None };

    const fn of(key: &'a KeyId) -> Self {
        Self { key: Some(key), ..Self::NOTHING }
    }

    const fn with_id(self, id: &'a RequestId) -> Self {
        Self { id: Some(id), ..self }
    }

    const fn with_terms(self, terms: &'a GrantTerms) -> Self {
        Self { terms: Some(terms), ..self }
    }

    /// Whether the operation may charge a key or take a charge back.
    pub fn charges(&self) -> bool {
        let charging = [
            "check_and_consume",
            "check_once",
            "record",
            "reserve",
            "amend",
            "settle",
            "cancel",
            "grant",
            "hand_back",
        ];
        charging.contains(&self.operation)
    }
}

impl<I> Deref for Around<I> {
    type Target = I;

    fn deref(&self) -> &I {
        &self.0
    }
}

/// Makes each of these operations a call of the [`Interpose`], which names the operation and what stands behind the comma.
macro_rules! interposed {
    ($($operation:ident($($argument:ident: $type:ty),*) -> $answer:ty, $called:expr;)*) => {
        #[async_trait]
        impl<I: Interpose> Store for Around<I> {
            $(async fn $operation(&self, $($argument: $type),*) -> $answer {
                let called = Called { operation: stringify!($operation), ..$called };
                self.0.call(called, self.0.store().$operation($($argument),*)).await
            })*

            async fn check_and_consume(
                &self,
                key: &KeyId,
                asset: Option<&AssetId>,
                charge: &Charge,
            ) -> Result<Decision, StoreError> {
                let called = Called { operation: "check_and_consume", ..Called::of(key) };
                self.0.call(called, self.0.decide(called, key, asset, charge)).await
            }

            async fn peek(
                &self,
                key: &KeyId,
                asset: Option<&AssetId>,
                charge: &Charge,
            ) -> Result<Decision, StoreError> {
                let called = Called { operation: "peek", ..Called::of(key) };
                self.0.call(called, self.0.decide(called, key, asset, charge)).await
            }

            async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError> {
                let id = key.id.clone();
                let called = Called { operation: "create", ..Called::of(&id) };
                self.0.call(called, self.0.store().create(key)).await
            }

            fn failure_domain(&self, key: &KeyId) -> FailureDomain {
                self.0.store().failure_domain(key)
            }

            fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain {
                self.0.store().lookup_domain(digest)
            }

            fn listen(&self, listener: Listener) {
                self.0.store().listen(listener);
            }

            async fn flush(&self, within: Duration) -> Unpaid {
                self.0.store().flush(within).await
            }
        }
    };
}

interposed! {
    usage(key: &KeyId) -> Result<Option<Usage>, StoreError>, Called::of(key);
    check_once(key: &KeyId, asset: Option<&AssetId>, charge: &Charge, id: &RequestId)
        -> Result<Decision, ReservationError>, Called::of(key).with_id(id);
    record(key: &KeyId, asset: Option<&AssetId>, charge: &Charge, id: &RecordId<'_>)
        -> Result<Vec<Crossing>, ReservationError>, Called::of(key).with_id(id.id);
    reserve(key: &KeyId, asset: Option<&AssetId>, charge: &Charge, id: &RequestId, ttl: Duration)
        -> Result<Decision, ReservationError>, Called::of(key).with_id(id);
    amend(key: &KeyId, id: &RequestId, to: &Totals)
        -> Result<Decision, ReservationError>, Called::of(key).with_id(id);
    settle(key: &KeyId, id: &RequestId, actual: &Totals)
        -> Result<Settled, ReservationError>, Called::of(key).with_id(id);
    cancel(key: &KeyId, id: &RequestId)
        -> Result<Settled, ReservationError>, Called::of(key).with_id(id);
    grant(key: &KeyId, asset: Option<&AssetId>, terms: &GrantTerms, id: &RequestId)
        -> Result<Option<Grant>, StoreError>, Called::of(key).with_id(id).with_terms(terms);
    hand_back(key: &KeyId, id: &RequestId, used: &Charge)
        -> Result<(), StoreError>, Called::of(key).with_id(id);
    resolve(digest: &KeyDigest) -> Result<Option<KeyId>, StoreError>, Called::NOTHING;
    read(id: &KeyId) -> Result<Option<KeyRecord>, StoreError>, Called::of(id);
    create_many(keys: Vec<NewRecord>) -> Result<CreateResults, StoreError>, Called::NOTHING;
    history(key: &KeyId, days: u16) -> Result<Option<Vec<DayHistory>>, StoreError>, Called::of(key);
    find(workspace: &WorkspaceId, name: &KeyName) -> Result<Option<KeyId>, StoreError>,
        Called::NOTHING;
    update(workspace: &WorkspaceId, update: &KeyUpdate)
        -> Result<UpdatedKey, KeysError>, Called::of(&update.id);
    reset(workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError>, Called::of(id);
    rotate(workspace: &WorkspaceId, rotation: &KeyRotation)
        -> Result<KeyRecord, KeysError>, Called::of(&rotation.id);
    delete(workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError>, Called::of(id);
    list(workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError>, Called::NOTHING;
    save_plan(workspace: &WorkspaceId, update: &PlanUpdate)
        -> Result<PlanRecord, KeysError>, Called::NOTHING;
    plans(workspace: &WorkspaceId) -> Result<Vec<PlanRecord>, StoreError>, Called::NOTHING;
    plan(workspace: &WorkspaceId, name: &PlanName)
        -> Result<Option<PlanRecord>, StoreError>, Called::NOTHING;
    delete_plan(workspace: &WorkspaceId, name: &PlanName)
        -> Result<(), KeysError>, Called::NOTHING;
}
