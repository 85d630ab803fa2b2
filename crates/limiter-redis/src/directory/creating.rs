//! Creating keys: their pointers first, then their records, then their places in the index.
//!
//! One change covers a batch of keys. It begins and ends in one step for all of them; in between, each key goes its own way,
//! several at a time. The keys of a batch belong to one workspace, share no id, name, access key or mask, and none is the group of another, so
//! that their order does not matter; the others wait for the next batch. A single key is a batch of one.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use limiter_core::keys::check_new;
use limiter_core::{
    CallError, CreateResults, KeyConfig, KeyDigest, KeyId, KeyName, KeyRecord, KeysError,
    MaskedKey, NewRecord, PlanName, StoreError, WorkspaceId,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::change::{Change, Entry, Intent, Refusal};
use super::planning::Hold;
use super::pointer::{Pointer, Set};
use super::{Directory, Stop, to_the_end, unexpected_reply};

/// A key that is not created yet, and its place among all of the caller's keys.
type Waiting = VecDeque<(usize, Arc<NewRecord>)>;
/// The result of a key; none if the time of its batch was over, or if the store had failed.
type Tried = Option<Result<KeyRecord, KeysError>>;

/// The result of a key, and whether nothing of the key can happen any more.
type Outcome = (Result<KeyRecord, KeysError>, bool);

/// A value that only one key of a workspace may have.
#[derive(PartialEq, Eq, Hash)]
enum Unique<'a> {
    Id(&'a KeyId),
    Name(&'a KeyName),
    Mask(MaskedKey),
    Digest(KeyDigest),
}

impl Directory {
    /// Creates keys as if one by one in this order. If the caller goes away, the batch under way is brought to its end.
    pub(crate) async fn create_many(
        &self,
        keys: Vec<NewRecord>,
    ) -> Result<CreateResults, StoreError> {
        let mut results: Vec<Tried> = Vec::with_capacity(keys.len());
        let mut waiting = Waiting::new();
        let holds = self.hold_all(&keys).await?;
        let mut noted: BTreeMap<PlanOf, Vec<KeyId>> = BTreeMap::new();
        for (place, key) in keys.into_iter().enumerate() {
            let invalid = key.config.check().and_then(|()| check_new(&key)).err();
            let invalid = invalid.map(KeysError::from).or_else(|| {
                let (_, missing) = plans_of(&key).find(|of| !holds.contains_key(of))?;
                Some(KeysError::NoPlan(missing))
            });
            if invalid.is_none() {
                waiting.push_back((place, Arc::new(key)));
            }
            results.push(invalid.map(Err));
        }
        let (mut is_first, mut failed) = (true, false);
        while !waiting.is_empty() && !failed {
            let batch: Vec<_> = waiting.drain(..together(&waiting)).collect();
            let keys: Vec<_> = batch.iter().map(|(_, key)| Arc::clone(key)).collect();
            let directory = self.clone();
            let tried = to_the_end(async move { directory.create_batch(&keys).await }).await;
            let tried = match tried {
                Ok(tried) => tried,
                Err(error) if is_first => return Err(error),
                Err(error) => {
                    error.spread(batch.len()).map(|error| Some(Err(error.into()))).collect()
                }
            };
            is_first = false;
            // Those that the batch had no time for come first in the next one.
            for ((place, key), tried) in batch.into_iter().zip(tried).rev() {
                for of in plans_of(&key).filter(|_| tried.as_ref().is_some_and(is_certain)) {
                    noted.entry(of).or_default().push(key.id.clone());
                }
                failed |= matches!(&tried, Some(Err(error)) if error.is_outage());
                match (tried, results.get_mut(place)) {
                    (Some(tried), Some(result)) => *result = Some(tried),
                    _ => waiting.push_front((place, key)),
                }
            }
        }
        for (of, ids) in &noted {
            if let Some(hold) = holds.get(of) {
                self.held(hold, &ids.iter().collect::<Vec<_>>()).await;
            }
        }
        let results = results.into_iter();
        Ok(results
            .map(|tried| tried.unwrap_or_else(|| Err(StoreError::not_tried().into())))
            .collect())
    }

    /// Notes that keys are about to get their plans. A plan that does not exist is left out.
    async fn hold_all(&self, keys: &[NewRecord]) -> Result<BTreeMap<PlanOf, Hold>, StoreError> {
        let mut wanted: BTreeMap<PlanOf, Vec<&KeyId>> = BTreeMap::new();
        for key in keys {
            for of in plans_of(key) {
                wanted.entry(of).or_default().push(&key.id);
            }
        }
        let mut holds = BTreeMap::new();
        for (of, ids) in wanted {
            match self.hold(&of.0, &of.1, &ids).await {
                Ok(hold) => drop(holds.insert(of, hold)),
                Err(KeysError::Store(error)) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(holds)
    }

    async fn create_batch(&self, keys: &[Arc<NewRecord>]) -> Result<Vec<Tried>, StoreError> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let intent = Intent::to_create(keys.iter().map(|key| &**key));
        let (change, refusals) = self.begin_many(&first.workspace, &intent).await?;
        let end = change.as_ref().map(|change| Instant::now() + change.quarter_of_lease());
        let change = change.map(Arc::new);
        let mut sets = match &change {
            Some(change) => self.claim_together(change, keys, &refusals).await,
            None => Vec::new(),
        }
        .into_iter();

        let mut outcomes: Vec<Option<Outcome>> = keys.iter().map(|_| None).collect();
        let mut waiting = keys.iter().zip(refusals).enumerate();
        let mut running = JoinSet::new();
        let mut failed = false;
        loop {
            while running.len() < CREATED_AT_ONCE
                && !failed
                && let Some((place, (key, refusal))) = waiting.next()
            {
                // One is created however slow the server is, or none would ever be.
                if place > 0 && end.is_some_and(|end| Instant::now() >= end) {
                    break;
                }
                let (directory, change) = (self.clone(), change.clone());
                let (key, set) = (Arc::clone(key), sets.next().flatten());
                running.spawn(async move {
                    (place, directory.create_in(change.as_deref(), &key, refusal, set).await)
                });
            }
            let Some(done) = running.join_next().await else { break };
            let (place, outcome) = done.map_err(StoreError::outcome_unknown)?;
            failed |= outcome.0.as_ref().is_err_and(CallError::is_outage);
            if let Some(of_key) = outcomes.get_mut(place) {
                *of_key = Some(outcome);
            }
        }
        if let Some(change) = &change {
            let mut settled = outcomes.iter().flatten().all(|(_, settled)| *settled);
            // Those that were not tried may have their pointers.
            for (key, _) in keys.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_none()) {
                settled = settled && self.took_back(change, key).await;
            }
            if settled {
                self.conclude(change, keys, &outcomes).await;
            }
        }
        Ok(outcomes.into_iter().map(|outcome| Some(outcome?.0)).collect())
    }

    /// Sets the pointers of all keys that are not refused in one step, if one server has them all. A pointer that was
    /// not set here is set when its key is created.
    async fn claim_together(
        &self,
        change: &Change,
        keys: &[Arc<NewRecord>],
        refusals: &[Option<Refusal>],
    ) -> Vec<Option<Set>> {
        let digest = |key: &NewRecord, refusal: &Option<Refusal>| match (key.secret, refusal) {
            (Some(secret), None) => Some(secret.digest),
            _ => None,
        };
        let digests = keys.iter().zip(refusals).map(|(key, refusal)| digest(key, refusal));
        let digests: Vec<Option<KeyDigest>> = digests.collect();
        let pointers = keys.iter().zip(&digests);
        let pointers: Vec<_> =
            pointers.filter_map(|(key, digest)| Some(((*digest)?, &key.id, None))).collect();
        if pointers.len() < 2 || !self.pointers.have_one_server() {
            return Vec::new();
        }
        let mut sets =
            self.pointers.set_all(change, &pointers).await.unwrap_or_default().into_iter();
        digests.into_iter().map(|digest| digest.and_then(|_| sets.next())).collect()
    }

    /// Adds the keys that were created to the index, and ends the change.
    async fn conclude(
        &self,
        change: &Change,
        keys: &[Arc<NewRecord>],
        outcomes: &[Option<Outcome>],
    ) {
        let created = keys.iter().zip(outcomes).filter_map(|(key, outcome)| {
            let record = outcome.as_ref()?.0.as_ref().ok()?;
            let masked = key.secret.and_then(|secret| secret.unique_mask());
            Some((&key.id, Some(Entry::of(record, masked))))
        });
        let is_wanted = self.finish(change, &created.collect::<Vec<_>>()).await;
        // One batch follows the other, and waiting clients ask again only now and then.
        if is_wanted && keys.len() > 1 {
            sleep(TURN_OF_OTHERS).await;
        }
    }

    async fn create_in(
        &self,
        change: Option<&Change>,
        key: &NewRecord,
        refusal: Option<Refusal>,
        set: Option<Set>,
    ) -> Outcome {
        let (error, settled) = match (change, refusal) {
            (_, Some(refusal)) => (refusal.into_error(Some(&key.config.name)), true),
            (None, None) => (unexpected_reply().into(), true),
            (Some(change), None) => match self.create_record(change, key, set).await {
                Ok(record) => return (Ok(record), true),
                Err(Stop::Unknown(error)) => return (Err(error), false),
                Err(Stop::Refused(error)) => (error, self.took_back(change, key).await),
            },
        };
        (Err(self.first_reason(key, error).await), settled)
    }

    async fn create_record(
        &self,
        change: &Change,
        key: &NewRecord,
        set: Option<Set>,
    ) -> Result<KeyRecord, Stop> {
        if let Some(secret) = &key.secret {
            self.claim(change, &key.id, &secret.digest, set).await?;
        }
        Ok(self.records.create(key, change.not_after).await?)
    }

    /// Removes the pointer of a key that was refused, if it has one.
    async fn took_back(&self, change: &Change, key: &NewRecord) -> bool {
        let Some(secret) = &key.secret else { return true };
        self.unclaimed(change, secret.digest).await
    }

    /// Removes the pointer that a refused change has claimed. If that fails, the next client after the lease does it.
    pub(super) async fn unclaimed(&self, change: &Change, digest: KeyDigest) -> bool {
        let pointer = Pointer { digest, claim: change.token.clone() };
        let Err(error) = self.pointers.remove(&pointer).await else { return true };
        let error: &dyn std::error::Error = &error;
        tracing::warn!(workspace = %change.workspace, error, "a refused change of keys is to be taken back later");
        false
    }

    /// Of several reasons to refuse a key, that there is no such group comes before its id, and that before its name and its
    /// access key.
    async fn first_reason(&self, key: &NewRecord, error: KeysError) -> KeysError {
        if !matches!(error, KeysError::NameTaken(_) | KeysError::AccessKeyTaken) {
            return error;
        }
        if let Err(no_group @ KeysError::NoGroup(_)) =
            self.records.check_group(&key.workspace, &key.id).await
        {
            return no_group;
        }
        match self.records.read(&key.id).await {
            // A key that cannot be read has the id, too.
            Ok(Some(_)) | Err(StoreError::Corrupt(_)) => KeysError::IdTaken(key.id.to_string()),
            Ok(None) | Err(_) => error,
        }
    }

    /// Points the digest to a key, which exists or is about to, unless that was done, a key has it, or another may be about to
    /// get it.
    pub(super) async fn claim(
        &self,
        change: &Change,
        id: &KeyId,
        digest: &KeyDigest,
        set: Option<Set>,
    ) -> Result<(), Stop> {
        let set = match set {
            Some(set) => set,
            None => {
                let set = self.pointers.set(change, digest, id, None).await;
                set.map_err(Stop::before_commit)?
            }
        };
        let (held, now) = match set {
            Set::Pointed => return Ok(()),
            // It was set together with others, and the answer was lost.
            Set::Held(held, _) if held.claim == change.token => return Ok(()),
            Set::TooLate => return Err(Stop::too_late()),
            Set::Held(held, now) => (held, now),
        };
        let holder = match self.records.read(&held.id).await {
            Ok(holder) => holder,
            // Until it is deleted, a damaged key keeps its access key.
            Err(StoreError::Corrupt(_)) => return Err(Stop::Refused(KeysError::AccessKeyTaken)),
            Err(error) => return Err(Stop::Refused(error.into())),
        };
        // Without a key, the pointer is either left behind or a moment ahead of its key, which then has the digest. With a key
        // that does not answer to it, it is that of an access key that was replaced, or a moment ahead of a rotation: not in
        // our own workspace, where no other change is under way.
        let in_use = holder.as_ref().is_some_and(|holder| holder.answers_to(digest));
        let was_replaced = holder.is_some_and(|holder| holder.record.workspace == change.workspace);
        if in_use || now <= held.until && !was_replaced {
            return Err(Stop::Refused(KeysError::AccessKeyTaken));
        }
        let set = self.pointers.set(change, digest, id, Some(&held)).await;
        match set.map_err(Stop::before_commit)? {
            Set::Pointed => Ok(()),
            Set::TooLate => Err(Stop::too_late()),
            // Another client was faster in replacing it.
            Set::Held(..) => Err(Stop::Refused(KeysError::AccessKeyTaken)),
        }
    }
}

/// Whether it is known what has become of a key.
fn is_certain(tried: &Result<KeyRecord, KeysError>) -> bool {
    !matches!(tried, Err(KeysError::Store(_)))
}

/// A plan, by its workspace and name.
type PlanOf = (WorkspaceId, PlanName);

/// The plan of a key, and that with which it opens a group.
fn plans_of(key: &NewRecord) -> impl Iterator<Item = PlanOf> {
    let KeyConfig { plan, open, .. } = &key.config;
    let plans = [plan, open].into_iter().flatten().collect::<BTreeSet<_>>().into_iter();
    plans.map(|plan| (key.workspace.clone(), plan.clone()))
}

/// How many of the first keys make a batch.
fn together(waiting: &Waiting) -> usize {
    let Some((_, first)) = waiting.front() else { return 0 };
    let most = if first.bootstraps { 1 } else { BATCH };
    let (mut seen, mut groups) = (HashSet::new(), HashSet::new());
    let batch = waiting.iter().map(|(_, key)| key).take(most).take_while(|key| {
        let mask = key.secret.and_then(|secret| secret.unique_mask()).map(Unique::Mask);
        let digest = key.secret.map(|secret| Unique::Digest(secret.digest));
        let name = Some(Unique::Name(&key.config.name));
        let unique = [Some(Unique::Id(&key.id)), name, mask, digest];
        // A group comes before or after what lies beneath it, never beside it.
        let group = key.id.group();
        let waits = groups.contains(&key.id)
            || group.as_ref().is_some_and(|group| seen.contains(&Unique::Id(group)));
        groups.extend(group);
        key.workspace == first.workspace
            && key.bootstraps == first.bootstraps
            && !waits
            && unique.into_iter().flatten().all(|unique| seen.insert(unique))
    });
    batch.count()
}

/// Keys of one change. Finishing it occupies the server for half a millisecond. Beginning and finishing cost little compared
/// with the steps of that many keys.
pub(super) const BATCH: usize = 100;
/// Keys of a batch whose steps run at the same time: more than the connections of the pool, which then never rest.
const CREATED_AT_ONCE: usize = 16;
/// Longer than those who wait for a change pause, so that each of them gets its turn between two batches.
const TURN_OF_OTHERS: Duration = Duration::from_millis(50);
