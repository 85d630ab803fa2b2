//! The one trait of all stores: decisions, reservations, and the records of keys.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::access_key::KeyDigest;
use crate::charge::Charge;
use crate::config::{Effective, KeyConfig, KeyKind};
use crate::crossing::Crossing;
use crate::decision::Decision;
use crate::domain::FailureDomain;
use crate::error::{CallError, KeysError, StoreError};
use crate::grant::{Grant, GrantTerms};
use crate::history::DayHistory;
use crate::key::{KeyRecord, StoredSecret};
use crate::ledger::RecordId;
use crate::names::{AssetId, KeyId, KeyName, PlanName, RequestId, WorkspaceId};
use crate::plan::{PlanRecord, PlanUpdate};

use crate::reservation::ReservationError;
use crate::search::{Page, Search};
use crate::settled::{LateEvent, Settled};
use crate::thresholds::Thresholds;
use crate::totals::Totals;
use crate::unpaid::Unpaid;
use crate::usage::Usage;

/// A place where keys and their counts are kept. Each operation is one atomic step, timed by the store's own clock.
///
/// The rules are those of this crate: a store that keeps a [`KeyState`](crate::KeyState) for each key applies
/// [`evaluate`](crate::evaluate) and [`reservation`](crate::reservation) to it. It proves itself by passing the conformance
/// suite. Rights are checked before: see [`Keys`](crate::Keys).
///
/// Its methods are made dyn-compatible by [`async_trait`](mod@async_trait), which an implementation uses too: see
/// [`limiter_core::async_trait`](crate::async_trait).
#[async_trait]
pub trait Store: Debug + Send + Sync + 'static {
    /// Decides whether the key may make this call, and charges it if so.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer; a denial is no error.
    async fn check_and_consume(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError>;

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn peek(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
    ) -> Result<Decision, StoreError>;

    /// Reads the usage of a key; `None` if the key is unknown.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn usage(&self, key: &KeyId) -> Result<Option<Usage>, StoreError>;

    /// As [`check_and_consume`](Self::check_and_consume), but charged once, however often it is repeated under this id
    /// within the dedupe time: a repetition is allowed, flagged as replayed, and charges nothing. The id alone decides,
    /// also if asset or charge differ. Only admitted calls are remembered.
    ///
    /// # Errors
    /// [`ReservationError::TooMany`] or a store error.
    async fn check_once(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RequestId,
    ) -> Result<Decision, ReservationError>;

    /// Counts a call that was allowed elsewhere, such as during an outage of this store, in the windows open now. It
    /// counts once, however often it is repeated under this id while the store remembers the id, for as long as the
    /// caller asked. A limit, the budget, an expiry or the kind of the key never refuses it. Returns the thresholds
    /// that it was the first to reach.
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`] or [`ReservationError::TooMany`], or a store error.
    async fn record(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        id: &RecordId<'_>,
    ) -> Result<Vec<Crossing>, ReservationError>;

    /// As [`check_and_consume`](Self::check_and_consume) of the estimate, which can be corrected once until `ttl` has
    /// passed. Repeated under the same id it is allowed, flagged as replayed, and charges nothing.
    ///
    /// # Errors
    /// [`ReservationError::OtherExists`] or [`ReservationError::TooMany`], or a store error.
    async fn reserve(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Decision, ReservationError>;

    /// Changes the estimate of a running call to new totals. What it adds is checked and charged like a top-up, all or
    /// nothing, in the windows open now; what it takes away is handed back at once.
    ///
    /// # Errors
    /// As [`reservation::amend`](crate::reservation::amend), or a store error.
    async fn amend(
        &self,
        key: &KeyId,
        id: &RequestId,
        to: &Totals,
    ) -> Result<Decision, ReservationError>;

    /// Corrects the estimate to the actual cost of the call, in the windows that admitted it while they are open, and
    /// returns the final charge. An overrun is always counted, in the windows open now if those have closed. A
    /// repetition changes nothing more, and returns the same charge.
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`], as [`reservation::settle`](crate::reservation::settle), or a store error.
    async fn settle(
        &self,
        key: &KeyId,
        id: &RequestId,
        actual: &Totals,
    ) -> Result<Settled, ReservationError>;

    /// Takes the whole charge back: the call never went upstream. A repetition changes nothing more. The final charge is
    /// [`Charge::NOTHING`].
    ///
    /// # Errors
    /// [`ReservationError::KeyUnknown`], as [`reservation::cancel`](crate::reservation::cancel), or a store error.
    async fn cancel(&self, key: &KeyId, id: &RequestId) -> Result<Settled, ReservationError>;

    /// Charges in bulk what the calls of some time are expected to need, or less, so that whoever asked decides them by itself:
    /// see [`grant`](mod@crate::grant). Repeated under the same id it charges nothing, and returns the same grant. `None` if a grant
    /// would be less than a request, or if the key may make no call. A store that grants nothing, which is the default, answers
    /// each call itself.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn grant(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        terms: &GrantTerms,
        id: &RequestId,
    ) -> Result<Option<Grant>, StoreError> {
        let _ = (key, asset, terms, id);
        Ok(None)
    }

    /// Hands a grant back, of which this much was used, into the windows that admitted it while they are open, and forgets it. One
    /// that is not known, or not any more, changes nothing: it stays charged.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn hand_back(
        &self,
        key: &KeyId,
        id: &RequestId,
        used: &Charge,
    ) -> Result<(), StoreError> {
        let _ = (key, id, used);
        Ok(())
    }

    /// Finds the living key whose access key has this digest.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn resolve(&self, digest: &KeyDigest) -> Result<Option<KeyId>, StoreError>;

    /// Reads what a key has counted on each of the last days, the oldest first and today at the end; `None` if the key is
    /// unknown. A store keeps [`DayHistory::DAYS`] days unless set otherwise.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn history(&self, key: &KeyId, days: u16) -> Result<Option<Vec<DayHistory>>, StoreError>;

    /// Finds the living key of this name in a workspace.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn find(
        &self,
        workspace: &WorkspaceId,
        name: &KeyName,
    ) -> Result<Option<KeyId>, StoreError>;

    /// Reads the record of a living key.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn read(&self, id: &KeyId) -> Result<Option<KeyRecord>, StoreError>;

    /// Adds a key or a group, whose limits are in force at once.
    ///
    /// # Errors
    /// [`KeysError::Invalid`] for too many assets, an admin key in a group or an access key of a group,
    /// [`KeysError::AlreadyBootstrapped`], [`KeysError::NoPlan`], [`KeysError::NoGroup`], [`KeysError::IdTaken`], [`KeysError::NameTaken`] or [`KeysError::AccessKeyTaken`], looked for in
    /// this order, or a store error.
    async fn create(&self, key: NewRecord) -> Result<KeyRecord, KeysError>;

    /// Adds several keys with the same results as [`create`](Self::create) one by one in this order: each key has a
    /// result of its own, in the order of the keys, and one that is refused does not stop the others. A key of a batch
    /// is not created before an earlier one with the same id, name or access key has been decided. After a failure of
    /// the store, the keys that are left are [not tried](StoreError::not_tried).
    ///
    /// A store that can create many keys faster than one by one, which is the default, overrides this.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer at all; if it is [`StoreError::OutcomeUnknown`], any of the keys may
    /// have been created.
    async fn create_many(&self, keys: Vec<NewRecord>) -> Result<CreateResults, StoreError> {
        let mut created = CreateResults::with_capacity(keys.len());
        let mut failed = false;
        for key in keys {
            let result =
                if failed { Err(StoreError::not_tried().into()) } else { self.create(key).await };
            failed = failed || matches!(&result, Err(error) if error.is_outage());
            created.push(result);
        }
        Ok(created)
    }

    /// Replaces the configuration of a key of the workspace, if it is still at the version of the update. A save that
    /// changes nothing leaves the version as it is.
    ///
    /// # Errors
    /// [`KeysError::Invalid`] for too many assets, [`KeysError::NoPlan`], [`KeysError::NotFound`], [`KeysError::Conflict`],
    /// [`KeysError::NameTaken`] or [`KeysError::LastAdmin`], looked for in this order, or a store error.
    async fn update(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
    ) -> Result<UpdatedKey, KeysError>;

    /// Sets what a key of the workspace has used to zero, in all windows that end.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], or a store error.
    async fn reset(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError>;

    /// Replaces the access key of a key of the workspace: [`StoredKey::rotated`](crate::StoredKey::rotated). Its version stays
    /// as it is.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], [`KeysError::Invalid`] for a group, [`KeysError::AccessKeyTaken`], or a store error.
    async fn rotate(
        &self,
        workspace: &WorkspaceId,
        rotation: &KeyRotation,
    ) -> Result<KeyRecord, KeysError>;

    /// Deletes a key or a group of the workspace for good, also one whose data is damaged.
    ///
    /// # Errors
    /// [`KeysError::NotFound`], [`KeysError::LastAdmin`] or [`KeysError::NotEmpty`], or a store error.
    async fn delete(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), KeysError>;

    /// Lists a page of the living keys of a workspace, by the bytes of their names. A key whose data is damaged is
    /// listed in [`Page::damaged`] and does not stop the others.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn list(&self, workspace: &WorkspaceId, search: &Search) -> Result<Page, StoreError>;

    /// Creates a plan, or changes the one of this name: [`StoredPlan::updated`](crate::StoredPlan::updated). Each key takes the change with its next step:
    /// [`KeyState::take`](crate::KeyState::take).
    ///
    /// # Errors
    /// [`KeysError::Invalid`] for too many assets or plans, [`KeysError::NoPlan`] or [`KeysError::Conflict`] if the plan is not
    /// at the version of the update, or a store error.
    async fn save_plan(
        &self,
        workspace: &WorkspaceId,
        update: &PlanUpdate,
    ) -> Result<PlanRecord, KeysError>;

    /// Reads the plans of a workspace, by the bytes of their names.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn plans(&self, workspace: &WorkspaceId) -> Result<Vec<PlanRecord>, StoreError>;

    /// Reads a plan of a workspace.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    async fn plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<Option<PlanRecord>, StoreError>;

    /// Deletes a plan of a workspace that no key and no group has.
    ///
    /// # Errors
    /// [`KeysError::NoPlan`] or [`KeysError::PlanInUse`], or a store error.
    async fn delete_plan(&self, workspace: &WorkspaceId, name: &PlanName) -> Result<(), KeysError>;

    /// Names the part of the store that serves this key, by the store's latest knowledge. While one part fails, calls
    /// for keys in other parts may succeed. It is called before each operation, so it must be cheap and must not block.
    fn failure_domain(&self, key: &KeyId) -> FailureDomain {
        let _ = key;
        FailureDomain::WHOLE
    }

    /// Names the part of the store that serves look-ups of this access key: the counterpart of
    /// [`failure_domain`](Self::failure_domain). If the part of the key itself fails, the error of
    /// [`resolve`](Self::resolve) has a [`KeyFailure`](crate::KeyFailure) as its source.
    fn lookup_domain(&self, digest: &KeyDigest) -> FailureDomain {
        let _ = digest;
        FailureDomain::WHOLE
    }

    /// Registers a listener for changes outside of any call, such as when the debts of an outage are paid. Most stores
    /// change nothing by themselves, and never call it.
    fn listen(&self, listener: Listener) {
        drop(listener);
    }

    /// Completes postponed work for at most this long, and returns the rest. Call it at the end of a process. An
    /// example of such work is to charge calls that were allowed while an inner store could not answer. Most stores
    /// postpone nothing, and return at once.
    async fn flush(&self, within: Duration) -> Unpaid {
        let _ = within;
        Unpaid::default()
    }
}

/// A listener for changes that a store makes outside of any call.
pub type Listener = Box<dyn Fn(&KeyId, LateEvent<'_>) + Send + Sync>;

/// The results of creating several keys, one for each key in the order of the keys.
pub type CreateResults = Vec<Result<KeyRecord, KeysError>>;

/// A key to be added to a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRecord {
    /// Its id, which no living key has.
    pub id: KeyId,
    /// The workspace it belongs to.
    pub workspace: WorkspaceId,
    /// Member, admin or group.
    pub kind: KeyKind,
    /// Name, limits and expiry.
    pub config: KeyConfig,
    /// The thresholds of a key that has none of its own.
    pub thresholds: Thresholds,
    /// The stored part of its access key.
    pub secret: Option<StoredSecret>,
    /// Whether it must be the first key of its workspace.
    pub bootstraps: bool,
}

/// A new configuration of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyUpdate {
    /// The key.
    pub id: KeyId,
    /// The version that the update was made from.
    pub version: u64,
    /// The configuration.
    pub config: KeyConfig,
    /// When changed limits take effect.
    pub effective: Effective,
    /// The thresholds of a key that has none of its own.
    pub thresholds: Thresholds,
}

/// A new access key of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotation {
    /// The key.
    pub id: KeyId,
    /// The stored part of its new access key.
    pub secret: StoredSecret,
    /// How long the old one works on.
    pub grace: Duration,
}

/// A key after an update.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdatedKey {
    /// Its record.
    pub record: KeyRecord,
    /// The thresholds that the update itself reached, such as by a limit below what is used.
    pub crossed: Vec<Crossing>,
}

impl UpdatedKey {
    /// Creates the answer to an update.
    #[must_use]
    pub const fn new(record: KeyRecord, crossed: Vec<Crossing>) -> Self {
        Self { record, crossed }
    }
}
