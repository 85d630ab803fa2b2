//! Keys at their own slot: state and record, created, changed, read and deleted together.

mod reading;

use std::iter;
use std::sync::Arc;

use limiter_core::operation::Operation;
use limiter_core::{
    Change, Crossing, KeyConfig, KeyDigest, KeyId, KeyKind, KeyRecord, KeyState, KeyUpdate,
    KeysError, LevelPlace, NewRecord, Place, Scope, ScopeId, StoredKey, StoredPlan, Timestamp,
    UpdatedKey, WorkspaceId,
};
use redis::Value;

pub(crate) use self::reading::READ_TOGETHER;
use crate::answer::{Answer, Ended};
use crate::error::CommandError;
use crate::keys::{COLD, HOT, Keys, Life, Request, Subject, put_changed, put_whole};
use crate::schema::{
    GLOBAL, Known, KnownLevels, Layout, Stamp, bytes, scope_field, secret_fields, write_asset,
    write_global, written_labels, written_own,
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

    pub(crate) const fn keys(&self) -> &Keys {
        &self.0
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
        let plan = self.0.plan_of(workspace, config).await?;
        let opens = self.0.opening_plan(workspace, config).await?;
        loop {
            let state = KeyState::with_plan(*kind, config, plan.as_deref(), *thresholds, now);
            state.check_open(config, opens.as_deref(), now).map_err(KeysError::from)?;
            let mut request = Request { not_after, ..Request::default() };
            request.keys = vec![self.0.keyspace.record(id)];
            let text = |text: &str| text.as_bytes().to_vec();
            let absent = |key: usize, field: &[u8]| (key, field.to_vec(), Vec::new());
            request.guards = vec![absent(RECORD, b"id")];
            if let Some(group) = id.group() {
                let of_group = [self.0.keyspace.record(&group), self.0.keyspace.beneath(&group)];
                request.keys.extend(of_group);
                request.guards.extend([
                    (GROUP_RECORD, text("workspace"), text(workspace.as_str())),
                    (GROUP_RECORD, text("kind"), text(GROUP)),
                ]);
                // What calls have made of it before it was registered.
                let limits_slots = |scope: &ScopeId| state.parallel_limit(scope).is_some();
                let assets = state.assets().map(|(asset, ..)| ScopeId::asset(asset.clone()));
                let scopes = [ScopeId::GLOBAL, ScopeId::OTHER].into_iter();
                let scopes = scopes.chain(assets.filter(limits_slots));
                let slots = scopes.map(|scope| self.0.keyspace.slots(id, &scope));
                let made: Vec<_> = slots.chain(self.0.keyspace.ledger(id)).collect();
                let first = COLD + request.keys.len() + 1;
                let numbers = [HOT, COLD].into_iter().chain(first..first + made.len());
                request.drops = numbers.map(|key| (key, Vec::new())).collect();
                request.keys.extend(made);
            } else {
                request.guards.push(absent(HOT, GLOBAL));
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
            let most_have_none =
                [("labels", written_labels(&stored.labels)), ("own", written_own(&stored))];
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
        let (mut found, mut of_plan) = (Some(found), Vec::new());
        let plan = self.0.plan_of(workspace, config).await?;
        let opens = self.0.opening_plan(workspace, config).await?;
        loop {
            let key = found.take().filter(|key| key.record.workspace == *workspace);
            let Found { now, record, stored, known } = key.ok_or_else(|| not_found(id))?;
            if record.version != *version {
                let (expected, actual) = (*version, record.version);
                return Err(KeysError::Conflict { expected, actual }.into());
            }
            let change = |known: &Known, now| {
                let plan = plan.as_deref();
                let change = known.state.change_with(config, plan, *thresholds, *effective, now);
                let change = change.map_err(KeysError::from)?;
                change.after.check_open(config, opens.as_deref(), now).map_err(KeysError::from)?;
                Ok::<_, KeysError>(change)
            };
            let newer = self.0.newer_plan(&known.state, None).await?;
            let latest = match &newer {
                Some(newer) => {
                    let state = known.state.take(&stored.config(&known.state), newer, now).after;
                    known.with_state(state)
                }
                None => known.clone(),
            };
            let planned = change(&latest, now)?;
            if latest.state == planned.after && stored.is_configured(config) {
                let record = KeyRecord::of(&stored, &latest.state, now);
                return Ok(UpdatedKey::new(record, of_plan));
            }
            // The window of now begins with the plan as it is, and then changes.
            if let Some(newer) = newer {
                of_plan.extend(self.take_plan(id, &newer).await?);
                found = self.inspect(id).await?;
                continue;
            }
            let next = stored.clone().configured(config, now);
            let mut request = self.of_workspace(id, workspace, not_after);
            let text = |text: &str| text.as_bytes().to_vec();
            request.guards.push((RECORD, text("version"), text(&version.to_string())));
            let fields = [
                ("name", config.name.to_string()),
                ("version", next.version.to_string()),
                ("labels", written_labels(&config.labels)),
                ("own", written_own(&next)),
            ];
            let changed = |(field, _): &(&str, String)| match *field {
                "labels" => stored.labels != next.labels,
                "own" => stored.own != next.own,
                _ => true,
            };
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
            of_plan.extend(crossed);
            return Ok(UpdatedKey::new(KeyRecord::of(&stored, &after, now), of_plan));
        }
    }

    /// Lets a key take a version of its plan, unless it has taken that or a later one. Answers the thresholds that this
    /// reached.
    pub(crate) async fn take_plan(
        &self,
        id: &KeyId,
        plan: &StoredPlan,
    ) -> Result<Vec<Crossing>, CommandError> {
        while let Some(Found { now, stored, known, .. }) = self.inspect(id).await? {
            if !known.state.is_behind(plan) {
                break;
            }
            let own = stored.config(&known.state);
            let planned = known.state.take(&own, plan, now);
            let mut request = self.of_workspace(id, &stored.workspace, None);
            let version = stored.version.to_string().into_bytes();
            request.guards.push((RECORD, b"version".to_vec(), version));
            match self.change(TAKE, id, &known, planned, request).await {
                Ok(Some((now, known))) => return Ok(known.state.take(&own, plan, now).crossed),
                Ok(None) => {}
                Err(Undone::Failed(error)) => return Err(error),
                // It is gone, or of another workspace by now.
                Err(_) => break,
            }
        }
        Ok(Vec::new())
    }

    /// Lets an unregistered key take the plan with which its group is open. Answers the thresholds that this reached.
    pub(crate) async fn take_plan_of_group(
        &self,
        id: &KeyId,
        plan: &StoredPlan,
    ) -> Result<Vec<Crossing>, CommandError> {
        let own = KeyConfig::of_unregistered();
        while let Some((now, known)) = self.unregistered(id).await? {
            if !known.state.is_behind(plan) {
                break;
            }
            if known.state.begins_anew(now) {
                if self.begin_anew(id, &known, plan, now).await? {
                    break;
                }
                continue;
            }
            let planned = known.state.take(&own, plan, now);
            let until = planned.after.may_last_until(now).unix_ms();
            let life = Life { until, remembered: 0 };
            let request = Request {
                keys: vec![self.0.keyspace.record(id)],
                guards: vec![(RECORD, b"id".to_vec(), Vec::new())],
                lives: vec![(HOT, life), (COLD, life)],
                ..Request::default()
            };
            match self.change(TAKE, id, &known, planned, request).await {
                Ok(Some((now, known))) => return Ok(known.state.take(&own, plan, now).crossed),
                Ok(None) => {}
                Err(Undone::Failed(error)) => return Err(error),
                Err(_) => break,
            }
        }
        Ok(Vec::new())
    }

    /// Lets an unregistered key begin anew of which nothing is left. Answers whether it did.
    pub(crate) async fn begin_anew_if_over(
        &self,
        id: &KeyId,
        plan: &StoredPlan,
    ) -> Result<bool, CommandError> {
        while let Some((now, known)) = self.unregistered(id).await? {
            if !known.state.is_over(now) || !known.state.begins_differently(now) {
                break;
            }
            if self.begin_anew(id, &known, plan, now).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts the state of an unregistered key whose windows have ended in place of the one that was found. Answers whether that
    /// was still there.
    async fn begin_anew(
        &self,
        id: &KeyId,
        found: &Known,
        plan: &StoredPlan,
        now: Timestamp,
    ) -> Result<bool, CommandError> {
        let state = found.state.begun_anew(plan, now);
        let new = Known { stamp: Stamp::draw(), state, is_new: true };
        let record = found.state.global().record();
        let before = Layout::of(true, record).write(found.stamp, &record.stored());
        let mut request = Request {
            keys: vec![self.0.keyspace.record(id)],
            guards: vec![(RECORD, b"id".to_vec(), Vec::new()), (HOT, GLOBAL.to_vec(), before)],
            drops: vec![(HOT, Vec::new()), (COLD, Vec::new())],
            ..Request::default()
        };
        put_whole(&mut request, &new, now, [HOT, COLD]);
        let hot = new.state.every_scope().map(|(id, _)| put_hot(&new.state, &id, new.stamp));
        request.puts.extend(hot.flatten());
        let mut operation = beginning(&new.state);
        operation.from = operation.from.max(found.state.lasts_until());
        let stamps = [new.stamp; 2];
        let reply = self.send(TAKE, id, &operation, Vec::new(), stamps, request).await?;
        Ok(self.answer(id, &reply)?.ended == Ended::Compared)
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
            if self.0.catch_up([(id.clone(), &known)].into_iter(), now).await? {
                continue;
            }
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
        // An unregistered key has no history.
        let with_history = iter::once(id.clone()).filter(|_| known.state.is_registered());
        self.0.close_days(with_history, &operation, &mut request, COLD, self.0.now());
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
const TAKE: &str = "take_plan";
const UPDATE: &str = "configure";
const REMOVE: &str = "remove";
const REMAINS: &str = "remains";
const BENEATH: &str = "beneath";
/// The format of records.
const FORMAT: &str = "1";
