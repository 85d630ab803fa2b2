//! Keys at their own slot: state and record, created, changed, read and deleted together.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use limiter_core::operation::Operation;
use limiter_core::{
    Change, DayHistory, KeyDigest, KeyId, KeyKind, KeyRecord, KeyState, KeyUpdate, KeysError,
    LevelPlace, NewRecord, Place, RequestId, Scope, ScopeId, StoreError, StoredKey, Timestamp,
    UpdatedKey, Usage, WorkspaceId,
};
use redis::Value;

use crate::answer::{Answer, Ended};
use crate::error::CommandError;
use crate::keys::{COLD, HOT, Keys, Request, Subject, put_changed};
use crate::keyspace::Keyspace;
use crate::schema::{
    GLOBAL, HashFields, Known, KnownLevels, Layout, Misread, NOT_AN_ANSWER, Stamp, bytes,
    closed_days, read_until, scope_field, secret_fields, stored_key, time_of, whole_key,
    write_asset, write_global, written_labels,
};
use crate::script::Script;
use crate::servers::Lane;

/// The records of keys: for management.
#[derive(Clone, Debug)]
pub(crate) struct Records(Keys);

/// A key as it was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: KeyRecord,
    pub(crate) stored: StoredKey,
    pub(crate) now: Timestamp,
    known: Known,
}

/// Why a step on a record changed nothing, or may have changed something.
#[derive(Debug)]
pub(crate) enum Undone {
    Refused(KeysError),
    /// The server's time is past the last one for it.
    TooLate,
    Failed(CommandError),
}

/// The readable data of a key that is damaged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Remains {
    pub(crate) workspace: Option<WorkspaceId>,
    pub(crate) digest: Option<KeyDigest>,
}

impl Records {
    pub(crate) const fn new(keys: Keys) -> Self {
        Self(keys)
    }

    /// Reads a living key.
    pub(crate) async fn read(&self, id: &KeyId) -> Result<Option<Found>, StoreError> {
        Ok(self.inspect(id).await?)
    }

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

    /// The usage of a living key.
    pub(crate) async fn usage(&self, id: &KeyId) -> Result<Option<Usage>, StoreError> {
        let Some(key) = self.inspect(id).await? else { return Ok(None) };
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
            Ok(Some(DayHistory::of(&key.known.state, closed_days(closed)?, days, key.now)))
        };
        Ok(read().map_err(|misread| self.0.misread(id, misread))?)
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

    /// Creates state and record, unless there is one, or the server's time is past `not_after`.
    pub(crate) async fn create(
        &self,
        key: &NewRecord,
        not_after: u64,
    ) -> Result<KeyRecord, Undone> {
        let NewRecord { id, workspace, kind, config, thresholds, .. } = key;
        let stamp = Stamp::draw();
        let mut now = self.0.now();
        loop {
            let state = KeyState::new(*kind, config, *thresholds, now);
            let mut request = Request { not_after, ..Request::default() };
            request.keys = vec![self.0.keyspace.record(id)];
            let text = |text: &str| text.as_bytes().to_vec();
            let absent = |key: usize, field: &[u8]| (key, field.to_vec(), Vec::new());
            request.guards = vec![absent(HOT, GLOBAL), absent(RECORD, b"id")];
            if let Some(group) = id.group() {
                let of_group = [self.0.keyspace.record(&group), self.0.keyspace.beneath(&group)];
                request.keys.extend(of_group);
                request.guards.extend([
                    (GROUP_RECORD, text("workspace"), text(workspace.as_str())),
                    (GROUP_RECORD, text("kind"), text(GROUP)),
                ]);
            }
            let stored = StoredKey::new(key, now);
            request.puts = vec![(COLD, GLOBAL.to_vec(), write_global(&state))];
            if !id.is_root() {
                request.puts.push((BENEATH_GROUP, text(id.as_str()), Vec::new()));
            }
            for (id, listed, scope) in state.assets() {
                let id = ScopeId::asset(id.clone());
                let written = write_asset(scope, listed, state.parallel_limit(&id));
                request.puts.push((COLD, scope_field(&id), written));
            }
            if let Some(other) = state.other() {
                let field = scope_field(&ScopeId::OTHER);
                request.puts.push((COLD, field, write_asset(other, false, None)));
            }
            let hot = state.every_scope().map(|(id, _)| put_hot(&state, &id, stamp));
            request.puts.extend(hot.flatten());
            let fields = [
                ("id", id.to_string()),
                ("workspace", workspace.to_string()),
                ("name", config.name.to_string()),
                ("format", FORMAT.to_owned()),
                ("version", "1".to_owned()),
                ("kind", if *kind == KeyKind::Group { GROUP } else { "" }.to_owned()),
            ];
            let most_have_none = [("labels", written_labels(&stored.labels))];
            let optional = secret_fields(&stored).into_iter().chain(most_have_none);
            let optional =
                optional.filter(|(field, value)| *field == "digest" || !value.is_empty());
            request.puts.extend(fields.into_iter().chain(optional).map(put_record));
            request.times = vec![(RECORD, "created"), (RECORD, "changed")];
            // Windows that begin are those of the time at which the key is created.
            let operation = beginning(&state);
            let reply = self.send(CREATE, id, &operation, Vec::new(), [stamp; 2], request).await?;
            let answer = self.answer(id, &reply)?;
            match answer.ended {
                Ended::Compared => {
                    let stored = StoredKey::new(key, answer.now);
                    return Ok(KeyRecord::of(&stored, &state, answer.now));
                }
                Ended::Guarded => {
                    let refused = self.check_group(workspace, id).await;
                    return Err(refused
                        .err()
                        .unwrap_or_else(|| KeysError::IdTaken(id.to_string()))
                        .into());
                }
                Ended::Late => return Err(Undone::TooLate),
                _ => now = answer.now,
            }
        }
    }

    /// Checks that the workspace has the group that an id names.
    pub(crate) async fn check_group(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
    ) -> Result<(), KeysError> {
        let Some(group) = id.group() else { return Ok(()) };
        let found = self.read(&group).await?;
        let is_here = |found: &Found| {
            found.record.workspace == *workspace && found.record.kind == KeyKind::Group
        };
        if found.as_ref().is_some_and(is_here) { Ok(()) } else { Err(KeysError::NoGroup(group)) }
    }

    /// Changes the configuration of a key of this workspace that is at the version of the update.
    #[cfg(test)]
    pub(crate) async fn update(
        &self,
        workspace: &WorkspaceId,
        update: &KeyUpdate,
        not_after: Option<u64>,
    ) -> Result<UpdatedKey, Undone> {
        let found = self.inspect(&update.id).await?.ok_or_else(|| not_found(&update.id))?;
        self.update_found(workspace, found, update, not_after).await
    }

    /// The same from what was found of the key a moment ago. That saves a trip, and if it is old by now, nothing but that.
    pub(crate) async fn update_found(
        &self,
        workspace: &WorkspaceId,
        found: Found,
        update: &KeyUpdate,
        not_after: Option<u64>,
    ) -> Result<UpdatedKey, Undone> {
        let KeyUpdate { id, version, config, effective, thresholds } = update;
        let mut found = Some(found);
        loop {
            let key = found.take().filter(|key| key.record.workspace == *workspace);
            let Found { now, record, stored, known } = key.ok_or_else(|| not_found(id))?;
            if record.version != *version {
                let (expected, actual) = (*version, record.version);
                return Err(KeysError::Conflict { expected, actual }.into());
            }
            let change = |known: &Known, now| {
                known.state.change(config, *thresholds, *effective, now).map_err(KeysError::from)
            };
            let planned = change(&known, now)?;
            if known.state == planned.after && stored.is_configured(config) {
                return Ok(UpdatedKey::new(record, Vec::new()));
            }
            let next = stored.clone().configured(config, now);
            let mut request = self.of_workspace(id, workspace, not_after);
            let text = |text: &str| text.as_bytes().to_vec();
            request.guards.push((RECORD, text("version"), text(&version.to_string())));
            let fields = [
                ("name", config.name.to_string()),
                ("version", next.version.to_string()),
                ("labels", written_labels(&config.labels)),
            ];
            let changed =
                |(field, _): &(&str, String)| *field != "labels" || stored.labels != config.labels;
            request.puts = fields.into_iter().filter(changed).map(put_record).collect();
            request.times = vec![(RECORD, "changed")];
            let Some((now, known)) = self.change(UPDATE, id, &known, planned, request).await?
            else {
                found = self.inspect(id).await?;
                continue;
            };
            // Calls may have come between: what the change reached follows from the records as they were.
            let Change { after, crossed, .. } = change(&known, now)?;
            let stored = stored.configured(config, now);
            return Ok(UpdatedKey::new(KeyRecord::of(&stored, &after, now), crossed));
        }
    }

    /// Gives a key of this workspace the access key of `rotated`, if it still has the one that was found.
    pub(crate) async fn rotate(
        &self,
        found: &Found,
        rotated: &StoredKey,
        not_after: u64,
    ) -> Result<KeyRecord, Undone> {
        let StoredKey { id, workspace, .. } = rotated;
        let mut request = self.of_workspace(id, workspace, Some(not_after));
        let [(digest, before), ..] = secret_fields(&found.stored);
        request.guards.push((RECORD, digest.into(), before.into_bytes()));
        request.puts = secret_fields(rotated).into_iter().map(put_record).collect();
        request.times = vec![(RECORD, "changed")];
        let (nothing, stamps) = (Operation::nothing(), [found.known.stamp; 2]);
        let reply = self.send(ROTATE, id, &nothing, Vec::new(), stamps, request).await?;
        let answer = self.answer(id, &reply)?;
        match answer.ended {
            Ended::Compared => {
                let rotated = StoredKey { changed_at: answer.now, ..rotated.clone() };
                Ok(KeyRecord::of(&rotated, &found.known.state, answer.now))
            }
            Ended::Late => Err(Undone::TooLate),
            _ => Err(not_found(id).into()),
        }
    }

    /// Sets what a key of this workspace has used to zero, in all windows that end.
    pub(crate) async fn reset(&self, workspace: &WorkspaceId, id: &KeyId) -> Result<(), Undone> {
        loop {
            let key = self.inspect(id).await?;
            let key = key.filter(|key| key.record.workspace == *workspace);
            let Found { now, known, .. } = key.ok_or_else(|| not_found(id))?;
            let request = self.of_workspace(id, workspace, None);
            let planned = known.state.reset_change(now);
            if self.change(RESET, id, &known, planned, request).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// A request about a key that must be of this workspace.
    fn of_workspace(&self, id: &KeyId, workspace: &WorkspaceId, not_after: Option<u64>) -> Request {
        let text = |text: &str| text.as_bytes().to_vec();
        Request {
            keys: vec![self.0.keyspace.record(id)],
            not_after: not_after.unwrap_or(0),
            guards: vec![(RECORD, text("workspace"), text(workspace.as_str()))],
            ..Request::default()
        }
    }

    /// Does a change of a key, and answers when, and the key as it was before; `None` if something was not as known.
    async fn change(
        &self,
        name: &'static str,
        id: &KeyId,
        known: &Known,
        change: Change,
        mut request: Request,
    ) -> Result<Option<(Timestamp, Known)>, Undone> {
        let Change { operation, scopes, after, .. } = change;
        let mut stamps = [known.stamp; 2];
        if put_changed(&mut request, &known.state, &after, [HOT, COLD]) {
            stamps[1] = Stamp::draw();
        }
        // Scopes that are counted from now on have whole records.
        let is_new = |id: &ScopeId| known.state.every_scope().all(|(before, _)| before != *id);
        for (id, _) in after.every_scope().filter(|(id, _)| is_new(id)) {
            request.puts.extend(put_hot(&after, &id, stamps[1]));
        }
        self.0.close_days(iter::once(id.clone()), &operation, &mut request, COLD, self.0.now());
        let fields: Vec<_> = scopes.iter().map(scope_field).collect();
        let reply = self.send(name, id, &operation, fields, stamps, request).await?;
        let answer = self.answer(id, &reply)?;
        match answer.ended {
            Ended::Compared => {
                let place = |id: &ScopeId| {
                    Some(LevelPlace { level: 0, place: place_of(&known.state, id)? })
                };
                let places: Vec<_> = scopes.iter().filter_map(place).collect();
                let alone = KnownLevels::new(vec![Arc::new(known.clone())]);
                let before = answer.before(&alone, &places);
                let before = before.map_err(|misread| self.0.misread(id, misread))?;
                Ok(before.level(0).map(|before| (answer.now, before.clone())))
            }
            Ended::Late => Err(Undone::TooLate),
            _ => Ok(None),
        }
    }

    /// Reads what is left of the record of a key whose data is damaged.
    pub(crate) async fn remains(&self, id: &KeyId) -> Result<Remains, CommandError> {
        let keys = [self.0.keyspace.record(id)];
        let reply = self.0.read_all(REMAINS, &keys, &["workspace", "digest"]).await?;
        let fields = match &reply {
            Value::Array(parts) => parts.get(2),
            _ => None,
        };
        let Some(Value::Array(fields)) = fields else { return Ok(Remains::default()) };
        let text = |at: usize| str::from_utf8(bytes(fields.get(at)?)?).ok();
        Ok(Remains {
            workspace: text(0).and_then(|text| text.parse().ok()),
            digest: text(1).and_then(|text| text.to_owned().try_into().ok()),
        })
    }

    /// Deletes state and record of a key of this workspace, and the slots of these scopes. Answers whether there was one.
    pub(crate) async fn delete(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        scopes: &[ScopeId],
        not_after: u64,
    ) -> Result<bool, Undone> {
        let text = |text: &str| text.as_bytes().to_vec();
        let owned = (RECORD, text("workspace"), text(workspace.as_str()));
        self.remove(id, scopes, not_after, Some(owned)).await
    }

    /// Deletes what is left of a damaged key, unless its record names another workspace.
    pub(crate) async fn remove_damaged(
        &self,
        workspace: &WorkspaceId,
        id: &KeyId,
        not_after: u64,
    ) -> Result<bool, Undone> {
        let remains = self.remains(id).await?;
        match remains.workspace {
            Some(owner) if owner == *workspace => self.delete(workspace, id, &[], not_after).await,
            Some(_) => Ok(false),
            // It may name none, or be no hash at all.
            None => self.remove(id, &[], not_after, None).await,
        }
    }

    /// Deletes a key, if nothing lies beneath it.
    async fn remove(
        &self,
        id: &KeyId,
        scopes: &[ScopeId],
        not_after: u64,
        owned: Option<(usize, Vec<u8>, Vec<u8>)>,
    ) -> Result<bool, Undone> {
        let keyspace = &self.0.keyspace;
        let mut keys =
            [&[keyspace.record(id), keyspace.history(id)][..], &keyspace.ledger(id)].concat();
        let whole = |key: usize| (key, Vec::new());
        let mut drops: Vec<_> = (HOT..=COLD + keys.len()).map(whole).collect();
        let assets = scopes.iter().filter(|scope| scope.scope == Scope::Asset);
        let scopes = [ScopeId::GLOBAL, ScopeId::OTHER].into_iter().chain(assets.cloned());
        let slots: Vec<_> = scopes.map(|scope| keyspace.slots(id, &scope)).collect();
        drops.extend((1..=slots.len()).map(|number| whole(COLD + keys.len() + number)));
        keys.extend(slots);
        keys.push(keyspace.beneath(id));
        let is_empty = (COLD + keys.len(), Vec::new(), Vec::new());
        let guards = owned.into_iter().chain([is_empty]).collect();
        if let Some(group) = id.group() {
            keys.push(keyspace.beneath(&group));
            drops.push((COLD + keys.len(), id.as_str().as_bytes().to_vec()));
        }
        let request = Request { not_after, guards, drops, keys, ..Request::default() };
        let script = Script { name: REMOVE, ..self.0.scripts.free.clone() };
        let (names, stamps) = (self.own_names(id), [[Stamp::default(); 2]]);
        let (none, operation) = (Vec::new(), Operation::nothing());
        let sent = self.0.send(
            &script,
            names,
            &operation,
            none.clone(),
            none,
            &stamps,
            request,
            Lane::Apart,
        );
        let answer = sent.await?;
        match self.answer(id, &answer)?.ended {
            Ended::Compared => Ok(true),
            Ended::Guarded if self.has_anything_beneath(id).await? => {
                Err(KeysError::NotEmpty(id.clone()).into())
            }
            Ended::Guarded => Ok(false),
            _ => Err(Undone::TooLate),
        }
    }

    async fn has_anything_beneath(&self, id: &KeyId) -> Result<bool, CommandError> {
        let reply = self.0.read_all(BENEATH, &[self.0.keyspace.beneath(id)], &[]).await?;
        let Value::Array(parts) = &reply else { return Ok(false) };
        Ok(matches!(parts.get(2), Some(Value::Array(fields)) if !fields.is_empty()))
    }

    /// The hot and the cold key of a key alone.
    fn own_names(&self, id: &KeyId) -> Vec<Vec<u8>> {
        vec![self.0.keyspace.hot(id), self.0.keyspace.cold(id)]
    }

    async fn inspect(&self, id: &KeyId) -> Result<Option<Found>, CommandError> {
        let keyspace = &self.0.keyspace;
        let keys = [keyspace.hot(id), keyspace.cold(id), keyspace.record(id)];
        let reply = self.0.read_all(INSPECT, &keys, &[]).await?;
        let key = Found::read(&reply).map_err(|misread| self.0.misread(id, misread))?;
        if key.as_ref().is_some_and(|key| key.record.id != *id) {
            return Err(self.0.misread(id, OF_ANOTHER_KEY));
        }
        Ok(key)
    }

    async fn send(
        &self,
        name: &'static str,
        id: &KeyId,
        operation: &Operation,
        fields: Vec<Vec<u8>>,
        stamps: [Stamp; 2],
        request: Request,
    ) -> Result<Value, CommandError> {
        let script = Script { name, ..self.0.scripts.apply.clone() };
        let (names, stamps) = (self.own_names(id), [stamps]);
        let sent = self.0.send(
            &script,
            names,
            operation,
            fields,
            Vec::new(),
            &stamps,
            request,
            Lane::Apart,
        );
        sent.await
    }

    fn answer<'a>(&self, id: &KeyId, reply: &'a Value) -> Result<Answer<'a>, CommandError> {
        self.0.answer(Subject { key: id, asset: None }, Answer::of_apply(reply))
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
            return if hot.is_empty() { Ok(None) } else { Err(lost) };
        }
        let (seconds, micros) = bytes(seconds).zip(bytes(micros)).ok_or(NOT_AN_ANSWER)?;
        let (now, stored) = (time_of(seconds, micros)?, stored_key(&record)?);
        let known = whole_key(&hot, &cold)?;
        let record = KeyRecord::of(&stored, &known.state, now);
        Ok(Some(Self { record, stored, now, known }))
    }
}

impl From<CommandError> for Undone {
    fn from(error: CommandError) -> Self {
        Self::Failed(error)
    }
}

impl From<KeysError> for Undone {
    fn from(error: KeysError) -> Self {
        Self::Refused(error)
    }
}

pub(crate) fn not_found(id: &KeyId) -> KeysError {
    KeysError::NotFound(id.to_string())
}

/// A slot: the key and the id of the reservation that holds it, and until when.
type Slot = (KeyId, RequestId, Timestamp);

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

/// Puts a field of the record of a key.
fn put_record((field, value): (&str, String)) -> (usize, Vec<u8>, Vec<u8>) {
    (RECORD, field.into(), value.into_bytes())
}

/// Puts the whole record of a scope.
fn put_hot(state: &KeyState, id: &ScopeId, stamp: Stamp) -> Option<(usize, Vec<u8>, Vec<u8>)> {
    let place = place_of(state, id)?;
    let record = state.scope_at(place)?.record();
    let layout = Layout::of(place == Place::Global, record);
    Some((HOT, scope_field(id), layout.write(stamp, &record.stored())))
}

fn place_of(state: &KeyState, id: &ScopeId) -> Option<Place> {
    match (id.scope, &id.asset) {
        (Scope::Asset, Some(asset)) => {
            state.assets().position(|(other, ..)| other == asset).map(Place::Asset)
        }
        (Scope::Other, _) => Some(Place::Other),
        _ => Some(Place::Global),
    }
}

/// Nothing to compare or to take, valid while the windows of a new key are open.
fn beginning(state: &KeyState) -> Operation {
    let mut operation = Operation::nothing();
    for (_, scope) in state.every_scope() {
        let record = scope.record();
        for window in record.windows().filter(|window| window.ends()) {
            let end = record.span(window).end;
            operation.from = operation.from.max(window.start(end, state.time_zone()));
            operation.until = operation.until.min(end);
        }
    }
    operation
}

/// Bounds how long one script keeps the server, also where keys have many assets.
pub(crate) const READ_TOGETHER: usize = 25;
/// The number of the record's key in a request: after the hot and the cold one.
const RECORD: usize = 3;
/// Of the record of its group, when it is created, and of what lies beneath that.
const GROUP_RECORD: usize = 4;
const BENEATH_GROUP: usize = 5;
/// The kind in the record of a group.
const GROUP: &str = "group";
/// The names of operations, in errors and in logs.
const CREATE: &str = "create";
const RESET: &str = "reset";
const ROTATE: &str = "rotate";
const HISTORY: &str = "history";
const UPDATE: &str = "configure";
const REMOVE: &str = "remove";
const INSPECT: &str = "inspect";
const REMAINS: &str = "remains";
const BENEATH: &str = "beneath";
const SLOTS: &str = "slots";
const OF_ANOTHER_KEY: Misread = Misread::Corrupt("its record is that of another key");
const NO_HOLDER: Misread = Misread::Corrupt("a slot that no reservation holds");
/// The format of records.
const FORMAT: &str = "1";
