//! Reading keys at their own slot: records, usage, slots and history.

use std::collections::BTreeMap;

use limiter_core::{
    DayHistory, KeyConfig, KeyDigest, KeyId, KeyRecord, KeyState, PlanName, RequestId, ScopeId,
    StoreError, Timestamp, Usage,
};
use redis::Value;

use super::{Found, Records};
use crate::error::CommandError;
use crate::keyspace::Keyspace;
use crate::schema::{
    HashFields, Known, KnownLevels, Misread, NOT_AN_ANSWER, bytes, closed_days, read_until,
    stored_key, time_of, whole_key,
};

/// A slot: the key and the id of the reservation that holds it, and until when.
type Slot = (KeyId, RequestId, Timestamp);

impl Records {
    /// What the keys of one slot have in common; nothing distinguishes keys without a cluster.
    pub(crate) fn slot_of(&self, id: &KeyId) -> Option<String> {
        self.0.servers.is_cluster().then(|| Keyspace::tag(id).into_owned())
    }

    /// Reads living keys in one trip: those of a cluster must have one slot. Each that exists comes with its record, or with
    /// what is wrong with it.
    pub(crate) async fn read_many(
        &self,
        ids: &[KeyId],
    ) -> Result<Vec<(KeyId, Result<Found, StoreError>)>, StoreError> {
        let keyspace = &self.0.keyspace;
        let keys: Vec<_> = ids
            .iter()
            .flat_map(|id| [keyspace.hot(id), keyspace.cold(id), keyspace.record(id)])
            .collect();
        let reply = self.0.read_all(INSPECT, &keys, &[]).await?;
        let unread = |misread| match ids.first() {
            Some(id) => StoreError::from(self.0.misread(id, misread)),
            None => StoreError::not_tried(),
        };
        let Value::Array(parts) = &reply else { return Err(unread(NOT_AN_ANSWER)) };
        let [seconds, micros, hashes @ ..] = parts.as_slice() else {
            return Err(unread(NOT_AN_ANSWER));
        };
        let read = ids.iter().zip(hashes.chunks_exact(3)).filter_map(|(id, hashes)| {
            let of_key = [&[seconds.clone(), micros.clone()], hashes].concat();
            let found = Found::of(&of_key).and_then(|found| match found {
                Some(found) if found.record.id != *id => Err(OF_ANOTHER_KEY),
                found => Ok(found),
            });
            let found = found.map_err(|misread| self.0.misread(id, misread).into()).transpose()?;
            Some((id.clone(), found))
        });
        Ok(read.collect())
    }

    /// Reads a living key.
    pub(crate) async fn read(&self, id: &KeyId) -> Result<Option<Found>, StoreError> {
        Ok(self.inspect(id).await?)
    }

    /// Reads a living key as it is with the latest version of its plan.
    pub(crate) async fn read_latest(&self, id: &KeyId) -> Result<Option<Found>, StoreError> {
        match self.inspect(id).await? {
            Some(found) => Ok(Some(self.latest(found).await?)),
            None => Ok(None),
        }
    }

    /// A key as it will be when it has taken the latest version of its plan.
    pub(crate) async fn latest(&self, found: Found) -> Result<Found, CommandError> {
        let Found { stored, now, mut known, .. } = found;
        if let Some(plan) = self.0.newer_plan(&known.state, None).await? {
            known.state = known.state.take(&stored.config(&known.state), &plan, now).after;
        }
        let record = KeyRecord::of(&stored, &known.state, now);
        Ok(Found { record, stored, now, known })
    }

    /// The levels of a key as they will be when they have taken the latest versions of their plans.
    pub(crate) async fn latest_levels(
        &self,
        key: &KeyId,
        known: KnownLevels,
        now: Timestamp,
    ) -> Result<KnownLevels, StoreError> {
        let mut latest = known.clone();
        let mut opens = None;
        for (level, (id, known)) in known.each(key).enumerate() {
            let of_group = std::mem::replace(&mut opens, known.state.opens());
            let newer = self.0.newer_plan(&known.state, of_group).await?;
            if !known.state.is_registered() {
                // What is known of it are the scopes of the call, and how it takes a plan or begins anew depends on all.
                if !known.is_new && (newer.is_some() || known.may_begin_anew(now)) {
                    let Some((_, whole)) = self.unregistered(&id).await? else { continue };
                    let state = self.unregistered_with(whole.state.clone(), of_group, now).await?;
                    latest.set(level, whole.with_state(state));
                }
                continue;
            }
            let Some(plan) = newer else { continue };
            let Some(found) = self.inspect(&id).await? else { continue };
            let own = found.stored.config(&found.known.state);
            let state = known.state.take(&own, &plan, now).after;
            latest.set(level, known.with_state(state));
        }
        Ok(latest)
    }

    /// The usage of a living key.
    pub(crate) async fn usage(&self, id: &KeyId) -> Result<Option<Usage>, StoreError> {
        let Some(key) = self.read_latest(id).await? else {
            let Some((now, mut state)) = self.latest_unregistered(id).await? else {
                return Ok(None);
            };
            self.add_slots(vec![(id, &mut state)]).await?;
            return Ok(Some(Usage::of(&state, now)));
        };
        Ok(self.usage_of(&[key]).await?.pop())
    }

    /// What these keys have used, with their slots as they are by now: those of one slot of a cluster are read together, and
    /// without a cluster all.
    pub(crate) async fn usage_of(&self, keys: &[Found]) -> Result<Vec<Usage>, StoreError> {
        let mut states: Vec<_> =
            keys.iter().map(|key| (&key.stored.id, key.known.state.clone())).collect();
        let mut together: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
        for (place, (id, state)) in states.iter().enumerate() {
            if state.parallel_limits().next().is_some() {
                together.entry(self.slot_of(id)).or_default().push(place);
            }
        }
        for places in together.values().flat_map(|places| places.chunks(READ_TOGETHER)) {
            let of_places = states.iter_mut().enumerate();
            let of_places = of_places.filter(|(place, _)| places.contains(place));
            self.add_slots(of_places.map(|(_, (id, state))| (*id, state)).collect()).await?;
        }
        let used = keys.iter().zip(&states);
        Ok(used.map(|(key, (_, state))| Usage::of(state, key.now)).collect())
    }

    /// What a living key has counted on each of the last days.
    pub(crate) async fn history(
        &self,
        id: &KeyId,
        days: u16,
    ) -> Result<Option<Vec<DayHistory>>, StoreError> {
        let keyspace = &self.0.keyspace;
        let keys = [keyspace.hot(id), keyspace.cold(id), keyspace.record(id), keyspace.history(id)];
        let reply = self.0.read_all(HISTORY, &keys, &[]).await?;
        let days = days.min(self.0.history_days);
        let read = || {
            let Value::Array(parts) = &reply else { return Err(NOT_AN_ANSWER) };
            let [key @ .., closed] = parts.as_slice() else { return Err(NOT_AN_ANSWER) };
            let Some(key) = Found::of(key)? else { return Ok(None) };
            Ok(Some((key, closed_days(closed)?)))
        };
        let Some((mut key, closed)) = read().map_err(|misread| self.0.misread(id, misread))? else {
            return Ok(self.latest_unregistered(id).await?.map(|_| Vec::new()));
        };
        // The days that end when it takes the latest version of its plan.
        key.known.state = key.known.state.keeping_history(DayHistory::MOST_DAYS);
        let key = self.latest(key).await?;
        let closed = closed.into_iter().chain(key.known.state.closed_days().cloned());
        Ok(Some(DayHistory::of(&key.known.state, closed, days, key.now)))
    }

    /// The state of a living key.
    pub(crate) async fn state(&self, id: &KeyId) -> Result<Option<KeyState>, StoreError> {
        let Some(mut key) = self.inspect(id).await? else { return Ok(None) };
        self.add_slots(vec![(id, &mut key.known.state)]).await?;
        Ok(Some(key.known.state))
    }

    /// Adds the slots that reservations hold, where levels have parallel limits, in one trip.
    async fn add_slots(&self, levels: Vec<(&KeyId, &mut KeyState)>) -> Result<(), CommandError> {
        let scopes_of = |state: &KeyState| -> Vec<_> {
            state.parallel_limits().map(|(scope, _)| scope.clone()).collect()
        };
        let levels = levels.into_iter().map(|(id, state)| (id, scopes_of(state), state));
        let levels: Vec<_> = levels.filter(|(_, scopes, _)| !scopes.is_empty()).collect();
        let sets = levels.iter().flat_map(|(id, scopes, _)| {
            scopes.iter().map(|scope| self.0.keyspace.slots(id, scope))
        });
        let sets: Vec<_> = sets.collect();
        if sets.is_empty() {
            return Ok(());
        }
        let reply = self.0.read_all(SLOTS, &sets, &[]).await?;
        let mut sets = sets_of(&reply).iter();
        for (id, scopes, state) in levels {
            for scope in scopes {
                let held = sets.next().ok_or(NOT_AN_ANSWER).and_then(read_slots);
                for (key, id, until) in held.map_err(|misread| self.0.misread(id, misread))? {
                    state.hold_slot(scope.clone(), (key, id), until);
                }
            }
        }
        Ok(())
    }

    /// Reads an unregistered key; `None` if no state of it is stored.
    pub(crate) async fn unregistered(
        &self,
        id: &KeyId,
    ) -> Result<Option<(Timestamp, Known)>, CommandError> {
        let keys = [self.0.keyspace.hot(id), self.0.keyspace.cold(id)];
        let reply = self.0.read_all(INSPECT, &keys, &[]).await?;
        let read = || {
            let Value::Array(parts) = &reply else { return Err(NOT_AN_ANSWER) };
            let [seconds, micros, hot, cold] = parts.as_slice() else { return Err(NOT_AN_ANSWER) };
            let (hot, cold) = (HashFields::read(hot)?, HashFields::read(cold)?);
            let (seconds, micros) = bytes(seconds).zip(bytes(micros)).ok_or(NOT_AN_ANSWER)?;
            if hot.is_empty() {
                return Ok(None);
            }
            Ok(Some((time_of(seconds, micros)?, whole_key(&hot, &cold)?)))
        };
        let read = read().map_err(|misread| self.0.misread(id, misread))?;
        Ok(read.filter(|(_, known)| !known.state.is_registered()))
    }

    /// The state of an unregistered key when it has taken the plan with which its group is open, and has begun anew if nothing is
    /// left of it.
    async fn unregistered_with(
        &self,
        mut state: KeyState,
        opens: Option<&PlanName>,
        now: Timestamp,
    ) -> Result<KeyState, CommandError> {
        if let Some(plan) = self.0.newer_plan(&state, opens).await? {
            state = state.take(&KeyConfig::of_unregistered(), &plan, now).after;
        }
        let taken = state.plan().filter(|_| state.is_over(now));
        let Some((taken, opens)) = taken.zip(opens) else { return Ok(state) };
        let plan = self.0.current_plan(&taken.workspace, opens).await?;
        Ok(plan.map_or_else(|| state.clone(), |plan| state.begun_anew(&plan, now)))
    }

    /// The state of an unregistered key with the plan with which its group is open, if it is.
    async fn latest_unregistered(
        &self,
        id: &KeyId,
    ) -> Result<Option<(Timestamp, KeyState)>, CommandError> {
        let Some(group) = id.group() else { return Ok(None) };
        let Some(of_group) = self.inspect(&group).await? else { return Ok(None) };
        let Some(opens) = of_group.known.state.opens() else { return Ok(None) };
        let stored = self.unregistered(id).await?;
        let stored = stored.filter(|(now, known)| !known.state.is_over(*now));
        let Some((now, known)) = stored else {
            let new = self.0.new_beneath(&group, of_group.known.stamp, opens, of_group.now).await?;
            return Ok(new.map(|new| (of_group.now, new.state)));
        };
        let state = self.unregistered_with(known.state, Some(opens), now).await?;
        Ok(Some((now, state)))
    }

    pub(super) async fn inspect(&self, id: &KeyId) -> Result<Option<Found>, CommandError> {
        let keyspace = &self.0.keyspace;
        let keys = [keyspace.hot(id), keyspace.cold(id), keyspace.record(id)];
        let reply = self.0.read_all(INSPECT, &keys, &[]).await?;
        let key = Found::read(&reply).map_err(|misread| self.0.misread(id, misread))?;
        if key.as_ref().is_some_and(|key| key.record.id != *id) {
            return Err(self.0.misread(id, OF_ANOTHER_KEY));
        }
        Ok(key)
    }
}

impl Found {
    fn read(reply: &Value) -> Result<Option<Self>, Misread> {
        let Value::Array(parts) = reply else { return Err(NOT_AN_ANSWER) };
        Self::of(parts)
    }

    /// Whether a caller with the access key of this digest is this key.
    pub(crate) fn answers_to(&self, digest: &KeyDigest) -> bool {
        self.stored.answers_to(digest, self.now)
    }

    /// Every scope that is counted.
    pub(crate) fn scopes(&self) -> Vec<ScopeId> {
        self.known.state.every_scope().map(|(id, _)| id).collect()
    }

    /// A key from the time, and from its three hashes.
    fn of(parts: &[Value]) -> Result<Option<Self>, Misread> {
        let [seconds, micros, hot, cold, record] = parts else {
            return Err(NOT_AN_ANSWER);
        };
        let [hot, cold, record] = [hot, cold, record].map(HashFields::read);
        let (hot, cold, record) = (hot?, cold?, record?);
        if record.is_empty() {
            // All of them are written and deleted together.
            let lost = Misread::Corrupt("its record is gone, its counts are not");
            let is_unregistered =
                || whole_key(&hot, &cold).is_ok_and(|it| !it.state.is_registered());
            return if hot.is_empty() || is_unregistered() { Ok(None) } else { Err(lost) };
        }
        let (seconds, micros) = bytes(seconds).zip(bytes(micros)).ok_or(NOT_AN_ANSWER)?;
        let (now, stored) = (time_of(seconds, micros)?, stored_key(&record)?);
        let known = whole_key(&hot, &cold)?;
        let record = KeyRecord::of(&stored, &known.state, now);
        Ok(Some(Self { record, stored, now, known }))
    }
}

/// What `read` answers for sets of slots, after the time.
fn sets_of(reply: &Value) -> &[Value] {
    match reply {
        Value::Array(parts) => parts.get(2..).unwrap_or_default(),
        _ => &[],
    }
}

/// The reservations that hold a slot of a set, and until when.
fn read_slots(set: &Value) -> Result<Vec<Slot>, Misread> {
    let slot = |pair: &[Value]| {
        let (holder, score) = bytes(&pair[0]).zip(bytes(&pair[1])).ok_or(NOT_AN_ANSWER)?;
        let holder = str::from_utf8(holder).ok().and_then(|holder| holder.split_once("//"));
        let (key, id) = holder.ok_or(NO_HOLDER)?;
        let holder = key.parse().ok().zip(id.parse().ok());
        let (key, id) = holder.ok_or(NO_HOLDER)?;
        Ok((key, id, read_until(score)?))
    };
    match set {
        Value::Array(list) => list.chunks_exact(2).map(slot).collect(),
        _ => Err(Misread::WrongType),
    }
}

/// Bounds how long one script keeps the server, also where keys have many assets.
pub(crate) const READ_TOGETHER: usize = 25;
const HISTORY: &str = "history";
const INSPECT: &str = "inspect";
const SLOTS: &str = "slots";
const OF_ANOTHER_KEY: Misread = Misread::Corrupt("its record is that of another key");
const NO_HOLDER: Misread = Misread::Corrupt("a slot that no reservation holds");
