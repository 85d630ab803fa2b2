//! Our limiter, in memory: eight rules, a budget and an expiry in one step, whose answer has the rest of each.

use std::hint::black_box;

use limiter_core::{
    AccessKey, AssetId, Charge, Credits, Decision, KeyConfig, KeyId, KeyKind, KeyName, KeyState,
    Limits, NewRecord, StoredSecret, Thresholds, Timestamp,
};
use limiter_memory::{MemoryHandle, MemoryStore};

use crate::ASSET;
use crate::subject::Subject;
use crate::workload::{Plan, Random, Requests};

/// Calls with the ids of a key and an asset, both of which are looked up.
///
/// Each request has its own copy of the asset's id, as requests have.
pub(crate) struct ByString {
    store: MemoryStore,
    requests: Requests<(KeyId, AssetId)>,
    charge: Charge,
}

impl ByString {
    pub(crate) fn new(plan: &Plan) -> Self {
        let requests = plan.requests(|id| (key(id), asset()));
        Self { store: MemoryStore::new(), requests, charge: charge() }
    }
}

impl Subject for ByString {
    fn fill(&mut self, plan: &Plan) {
        fill(&self.store, plan, Extras::Realistic);
    }

    #[inline]
    fn decide(&self, access: usize) {
        let (key, asset) = &self.requests[access];
        check(&self.store.check_and_consume(key, Some(asset), black_box(&self.charge)));
    }
}

/// Calls with handles, whose key and asset were looked up before.
///
/// There is one for each access, like the ids in [`ByString`]: so each access reads a handle that the processor has
/// fetched ahead, and a cell that it has not.
pub(crate) struct ByHandle {
    store: MemoryStore,
    handles: Requests<MemoryHandle>,
    charge: Charge,
}

impl Default for ByHandle {
    fn default() -> Self {
        Self { store: MemoryStore::new(), handles: Requests::default(), charge: charge() }
    }
}

impl Subject for ByHandle {
    /// A handle remembers the position at which its first decision found the asset. It lives long, so the first
    /// decision comes before the clock starts.
    fn fill(&mut self, plan: &Plan) {
        fill(&self.store, plan, Extras::Realistic);
        self.handles = plan.requests(|id| {
            let handle = self.store.handle(&key(id), Some(&asset())).expect("the key is there");
            check(&handle.check_and_consume(&self.charge));
            handle
        });
    }

    #[inline]
    fn decide(&self, access: usize) {
        check(&self.handles[access].check_and_consume(black_box(&self.charge)));
    }
}

/// Calls of keys beneath a group with one limit for each and one of the group, by string: as one limits addresses.
pub(crate) struct InGroup {
    store: MemoryStore,
    requests: Requests<KeyId>,
    charge: Charge,
    /// Whether somebody registered the keys.
    registers: bool,
}

impl InGroup {
    pub(crate) fn new(plan: &Plan, registers: bool) -> Self {
        let requests = plan.requests(|id| key(&format!("ip/{id}")));
        Self { store: MemoryStore::new(), requests, charge: Charge::request(), registers }
    }
}

impl Subject for InGroup {
    fn fill(&mut self, plan: &Plan) {
        let workspace: limiter_core::WorkspaceId = "w".parse().expect("a workspace's id");
        let limits = Limits::builder().requests_per_minute(NEVER_REACHED).build();
        let limits = limits.expect("valid limits");
        let name: limiter_core::PlanName = "each".parse().expect("a plan's name");
        let each = limiter_core::PlanUpdate::new(name.clone(), limits.clone().into());
        self.store.save_plan(&workspace, &each).expect("the plan is new");
        let record = |id: KeyId, kind, config| NewRecord {
            id,
            workspace: workspace.clone(),
            kind,
            config,
            thresholds: Thresholds::DEFAULT,
            secret: None,
            bootstraps: false,
        };
        let group = KeyConfig::new("ip".parse().expect("a name")).with_global(limits.clone());
        let group = record(key("ip"), KeyKind::Group, group.with_open(name));
        self.store.create(group).expect("the group is new");
        for (index, id) in plan.ids.iter().enumerate() {
            let id = key(&format!("ip/{id}"));
            if self.registers {
                let config = KeyConfig::new(short_name(index)).with_global(limits.clone());
                let record = record(id.clone(), KeyKind::Member, config);
                self.store.create(record).expect("the key is new");
            }
            check(&self.store.check_and_consume(&id, None, &self.charge));
        }
    }

    #[inline]
    fn decide(&self, access: usize) {
        let key = &self.requests[access];
        check(&self.store.check_and_consume(key, None, black_box(&self.charge)));
    }
}

/// Creates a store with the keys of `plan`, without their extras.
pub(crate) fn bare_store(plan: &Plan) -> MemoryStore {
    let store = MemoryStore::new();
    fill(&store, plan, Extras::None);
    store
}

/// Returns the state of each key of `plan` and nothing else: what a decision reads and writes.
pub(crate) fn states(plan: &Plan) -> Vec<KeyState> {
    let config = config(short_name(0));
    let now = Timestamp::from_unix_ms(NOW_MS);
    plan.ids
        .iter()
        .map(|_| KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, now))
        .collect()
}

/// The data of a key that no decision uses.
#[derive(Clone, Copy)]
enum Extras {
    /// A name of usual length, and an access key, of which the store keeps the digest.
    Realistic,
    /// The shortest name, and no access key.
    None,
}

/// Creates the keys as a service does, and decides once about each.
fn fill(store: &MemoryStore, plan: &Plan, extras: Extras) {
    let workspace: limiter_core::WorkspaceId = "w".parse().expect("a workspace's id");
    let (asset, charge) = (asset(), charge());
    for (index, id) in plan.ids.iter().enumerate() {
        let (name, secret) = match extras {
            Extras::Realistic => (realistic_name(index), Some(secret(index))),
            Extras::None => (short_name(index), None),
        };
        let record = NewRecord {
            id: key(id),
            workspace: workspace.clone(),
            kind: KeyKind::Member,
            config: config(name),
            thresholds: Thresholds::DEFAULT,
            secret,
            bootstraps: false,
        };
        let created = store.create(record).expect("the key is new");
        check(&store.check_and_consume(&created.id, Some(&asset), &charge));
    }
}

#[inline]
fn check(decision: &Decision) {
    black_box(decision);
    assert!(decision.is_allowed());
}

/// Returns a configuration with every kind of limit, none of which ever denies.
fn config(name: KeyName) -> KeyConfig {
    let limits = limits();
    config_of(name, limits.clone()).with_asset(asset(), limits)
}

/// Returns a configuration with these limits over all calls, and with an expiry and a budget, which never deny.
pub(crate) fn config_of(name: KeyName, global: Limits) -> KeyConfig {
    KeyConfig::new(name)
        .with_global(global)
        .with_budget(Credits::from_millionths(NEVER_REACHED).expect("a valid budget"))
        .with_expiry(Timestamp::from_unix_ms(EXPIRY_MS))
}

/// Returns four limits that are never reached.
pub(crate) fn limits() -> Limits {
    Limits::builder()
        .requests_per_minute(NEVER_REACHED)
        .requests_per_day(NEVER_REACHED)
        .tokens_per_minute(NEVER_REACHED)
        .tokens_per_day(NEVER_REACHED)
        .build()
        .expect("valid limits")
}

/// Returns a charge of 1,550 tokens and 0.0042 credits.
pub(crate) fn charge() -> Charge {
    let credits = Credits::from_millionths(4_200).expect("valid credits");
    Charge::request().with_tokens(1_200, 350).expect("valid tokens").with_credits(credits)
}

pub(crate) fn key(id: &str) -> KeyId {
    id.parse().expect("a key's id")
}

fn asset() -> AssetId {
    ASSET.parse().expect("an asset's id")
}

/// Returns a name of 28 bytes, in no order that a sorted map could profit from.
pub(crate) fn realistic_name(index: usize) -> KeyName {
    let random = Random(!(index as u64)).next();
    format!("ingest-{:08x}-{index:07}-prod", random as u32).parse().expect("a name")
}

/// Returns a name of at most 7 bytes.
fn short_name(index: usize) -> KeyName {
    format!("{index:x}").parse().expect("a name")
}

/// Returns the secret of an access key of 36 characters, as long as generated ones. No two have the same ends.
pub(crate) fn secret(index: usize) -> StoredSecret {
    let mut random = Random(!(index as u64));
    let middle = u128::from(random.next()) << 64 | u128::from(random.next());
    let text = format!("{:04x}{:028x}{:04x}", index >> 16, middle >> 16, index & 0xffff);
    StoredSecret::from(&AccessKey::new(text).expect("visible ASCII"))
}

/// In requests, tokens and millionths of a credit. On Redis, windows with limits above 9 * 10^13 take a longer path
/// when they end; real limits are lower.
const NEVER_REACHED: u64 = 1 << 46;

/// In the year 2100.
const EXPIRY_MS: i64 = 4_102_444_800_000;

/// In the year 2026.
const NOW_MS: i64 = 1_767_225_600_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RULES;
    use crate::workload::{Workload, key_id};

    #[test]
    fn a_decision_checks_every_rule_and_returns_what_remains() {
        let plan = Plan::whole(Workload::Hot);
        let mut subject = ByHandle::default();
        subject.fill(&plan);
        let decision = subject.handles[0].check_and_consume(&subject.charge);
        // `fill` has decided twice: about the key, and with its handle.
        let rules = decision.rules().filter(|state| !state.rule.is_budget());
        let remaining: Vec<u64> = rules.map(|state| state.remaining).collect();
        let (requests, tokens) = (NEVER_REACHED - 3, NEVER_REACHED - 3 * 1_550);
        assert_eq!(remaining, [requests, tokens].repeat(RULES / 2));
        let credits = decision.allowed().expect("allowed").credits();
        assert_eq!(credits.spent.millionths(), 3 * 4_200);
        assert!(credits.budget.is_some());
        let record = subject.store.read(&key(&key_id(0))).expect("the key is there");
        assert!(record.config.expires_at.is_some());
    }
}
