//! Plans: one hash for those of a workspace, and for each plan the keys that have it.
//!
//! A key is noted among those that have a plan before it gets it, with the time, and once more when it has got it or was refused
//! it. It is not dropped when it leaves the plan, or is deleted: who deletes the plan looks at the keys themselves. One that does
//! not have the plan is dropped, unless it was noted less than a lease ago and then no more: it may be about to get it.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use limiter_core::{
    InvalidValue, KeyId, KeyRecord, KeysError, PlanName, PlanRecord, PlanUpdate, StoreError,
    StoredPlan, WorkspaceId,
};
use redis::Value;

use super::change::script;
use super::{Directory, changing_nothing, parsed, unexpected_reply};
use crate::error::CommandError;
use crate::keys::Keys;
use crate::keyspace::WorkspaceKey;
use crate::schema::{HashFields, Misread, NOT_AN_ANSWER, bytes, read_plan, time_of, written_plan};
use crate::script::Script;
use crate::servers::Lane;

/// A plan, and when it was noted that keys are about to get it.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    workspace: WorkspaceId,
    name: PlanName,
    since: String,
}

impl Directory {
    pub(crate) async fn save_plan(
        &self,
        workspace: &WorkspaceId,
        update: &PlanUpdate,
    ) -> Result<PlanRecord, KeysError> {
        update.plan.check()?;
        let (keys, name) = (self.keys(), update.name.as_str());
        let key = keys.keyspace.workspace(WorkspaceKey::Plans, workspace);
        loop {
            let reply = keys.read_all("plan", std::slice::from_ref(&key), &[name]).await;
            let reply = reply.map_err(StoreError::from)?;
            let read = || {
                let Value::Array(parts) = &reply else { return Err(NOT_AN_ANSWER) };
                let [seconds, micros, values] = parts.as_slice() else {
                    return Err(NOT_AN_ANSWER);
                };
                let time = bytes(seconds).zip(bytes(micros)).ok_or(NOT_AN_ANSWER)?;
                let Value::Array(values) = values else { return Err(Misread::WrongType) };
                let stored = values.first().and_then(bytes);
                Ok((time_of(time.0, time.1)?, stored, stored.map(read_plan).transpose()?))
            };
            let (now, stored, before) = read()
                .map_err(|misread| StoreError::from(keys.misread_plan(workspace, misread)))?;
            update.check_version(before.as_ref())?;
            if let Err(refused) = update.plan.check_for_open_groups(&update.name)
                && self.opens_any(workspace, &update.name).await?
            {
                return Err(refused.into());
            }
            let after = StoredPlan::updated(before.as_ref(), workspace, update, now);
            if before.as_ref() == Some(&after) {
                return Ok(PlanRecord::from(&after));
            }
            let arguments = [
                name.as_bytes().to_vec(),
                stored.unwrap_or_default().to_vec(),
                written_plan(&after),
                StoredPlan::MOST.to_string().into_bytes(),
            ];
            let (asked_at, keys_of) = (Instant::now(), [key.clone()]);
            let saved = keys.servers.run(&SAVE, &keys_of, &arguments, Lane::Apart).await;
            let saved = saved.map_err(CommandError::of_several_writes).map_err(StoreError::from)?;
            match bytes(&saved) {
                Some(b"done") => {
                    let record = PlanRecord::from(&after);
                    keys.plans.learn(workspace, &update.name, Some(Arc::new(after)), asked_at);
                    return Ok(record);
                }
                Some(b"other") => {}
                Some(b"full") => {
                    return Err(InvalidValue::TooManyPlans { max: StoredPlan::MOST }.into());
                }
                _ => return Err(unexpected_reply().into()),
            }
        }
    }

    pub(crate) async fn plans(
        &self,
        workspace: &WorkspaceId,
    ) -> Result<Vec<PlanRecord>, StoreError> {
        let keys = self.keys();
        let key = keys.keyspace.workspace(WorkspaceKey::Plans, workspace);
        let reply = keys.read_all("plans", &[key], &[]).await?;
        let read = || {
            let Value::Array(parts) = &reply else { return Err(NOT_AN_ANSWER) };
            let fields = HashFields::read(parts.get(2).ok_or(NOT_AN_ANSWER)?)?;
            fields.values().map(read_plan).collect::<Result<Vec<_>, _>>()
        };
        let plans = read().map_err(|misread| keys.misread_plan(workspace, misread))?;
        Ok(plans.iter().map(PlanRecord::from).collect())
    }

    pub(crate) async fn plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<Option<PlanRecord>, StoreError> {
        let plan = self.keys().read_plan(workspace, name).await?;
        Ok(plan.map(|plan| PlanRecord::from(&*plan)))
    }

    pub(crate) async fn delete_plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<(), KeysError> {
        let mut gone: Vec<KeyId> = Vec::new();
        loop {
            let lease = self.changes.lease_ms().to_string();
            let ids = gone.iter().map(KeyId::to_string);
            let arguments = [name.to_string(), lease].into_iter().chain(ids);
            let keys = self.keys();
            let of_plan = [
                keys.keyspace.workspace(WorkspaceKey::Plans, workspace),
                keys.keyspace.holders(workspace, name),
            ];
            let arguments: Vec<_> = arguments.map(String::into_bytes).collect();
            let reply = keys.servers.run(&DELETE, &of_plan, &arguments, Lane::Apart).await;
            let reply = reply.map_err(CommandError::of_several_writes).map_err(StoreError::from)?;
            let words: Vec<String> = parsed(reply)?;
            match words.split_first() {
                Some((word, _)) if word == "none" => return Err(KeysError::NoPlan(name.clone())),
                Some((word, _)) if word == "done" => {
                    keys.plans.learn(workspace, name, None, Instant::now());
                    return Ok(());
                }
                Some((_, held)) => {
                    let held: Vec<KeyId> = held.iter().filter_map(|id| id.parse().ok()).collect();
                    let was_in_vain = held.iter().any(|id| gone.contains(id));
                    if was_in_vain || self.has_any_plan(workspace, name, &held).await? {
                        return Err(KeysError::PlanInUse(name.clone()));
                    }
                    gone = held;
                }
                None => return Err(unexpected_reply().into()),
            }
        }
    }

    /// Whether any group is open with the plan.
    async fn opens_any(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
    ) -> Result<bool, StoreError> {
        let keys = self.keys();
        let reply =
            keys.read_all("holders", &[keys.keyspace.holders(workspace, name)], &[]).await?;
        let Value::Array(parts) = &reply else { return Ok(false) };
        let Some(Value::Array(held)) = parts.get(2) else { return Ok(false) };
        let ids = held.iter().step_by(2).filter_map(bytes);
        let ids: Vec<KeyId> = ids.filter_map(|id| str::from_utf8(id).ok()?.parse().ok()).collect();
        for ids in ids.chunks(READ_AT_ONCE) {
            let records = self.read_all(ids.to_vec()).await?;
            let mut records =
                records.values().filter_map(|found| Some(&found.as_ref().ok()?.record));
            let opens = |it: &KeyRecord| {
                it.workspace == *workspace && it.config.open.as_ref() == Some(name)
            };
            if records.any(opens) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether any of these keys has the plan, or is open with it. One that cannot be read may have it.
    async fn has_any_plan(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
        ids: &[KeyId],
    ) -> Result<bool, StoreError> {
        let records = self.read_all(ids.to_vec()).await?;
        Ok(records.values().any(|found| match found {
            Ok(found) => {
                let KeyRecord { workspace: of, config, .. } = &found.record;
                of == workspace && [&config.plan, &config.open].contains(&&Some(name.clone()))
            }
            Err(_) => true,
        }))
    }

    /// Notes that these keys are about to get a plan.
    pub(super) async fn hold(
        &self,
        workspace: &WorkspaceId,
        name: &PlanName,
        ids: &[&KeyId],
    ) -> Result<Hold, KeysError> {
        let ids = ids.iter().map(|id| id.to_string());
        let arguments: Vec<_> =
            [name.to_string()].into_iter().chain(ids).map(String::into_bytes).collect();
        let keys = self.keys();
        let of_plan = [
            keys.keyspace.workspace(WorkspaceKey::Plans, workspace),
            keys.keyspace.holders(workspace, name),
        ];
        let asked_at = Instant::now();
        let reply = keys.servers.run(&HOLD, &of_plan, &arguments, Lane::Apart).await;
        let reply = reply.map_err(changing_nothing)?;
        let parts: Vec<Vec<u8>> = parsed(reply)?;
        let [plan, since] = parts.as_slice() else {
            return Err(KeysError::NoPlan(name.clone()));
        };
        let plan = read_plan(plan)
            .map_err(|misread| StoreError::from(keys.misread_plan(workspace, misread)))?;
        keys.plans.learn(workspace, name, Some(Arc::new(plan)), asked_at);
        let since = String::from_utf8_lossy(since).into_owned();
        Ok(Hold { workspace: workspace.clone(), name: name.clone(), since })
    }

    /// Notes that these keys have got the plan, or will not get it. Without it, the plan can be deleted a lease later than
    /// otherwise.
    pub(super) async fn held(&self, hold: &Hold, ids: &[&KeyId]) {
        let ids = ids.iter().map(|id| id.to_string());
        let arguments: Vec<_> =
            [hold.since.clone()].into_iter().chain(ids).map(String::into_bytes).collect();
        let keys = self.keys();
        let of_plan = [keys.keyspace.holders(&hold.workspace, &hold.name)];
        if let Err(error) = keys.servers.run(&HELD, &of_plan, &arguments, Lane::Apart).await {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(workspace = %hold.workspace, plan = %hold.name, error, "the plan of keys is not noted for good");
        }
    }

    fn keys(&self) -> &Keys {
        self.records.keys()
    }
}

/// How many keys are read at once, to see whether they are open with a plan.
const READ_AT_ONCE: usize = 100;

static SAVE: LazyLock<Script> =
    LazyLock::new(|| script("plan_save", include_str!("../lua/plan_save.lua")));
static HOLD: LazyLock<Script> =
    LazyLock::new(|| script("plan_hold", include_str!("../lua/plan_hold.lua")));
static HELD: LazyLock<Script> =
    LazyLock::new(|| script("plan_held", include_str!("../lua/plan_held.lua")));
static DELETE: LazyLock<Script> =
    LazyLock::new(|| script("plan_delete", include_str!("../lua/plan_delete.lua")));
