//! What a key with a plan takes, beside one that has the same limits of its own.

use limiter_conformance::fixtures::{named, requests, workspace};
use limiter_core::{
    KeyConfig, KeyId, KeyKind, Limits, NewRecord, Plan, PlanUpdate, Thresholds, WorkspaceId,
};
use limiter_memory::MemoryStore;

/// Limits stand beside the counts that they stop, so that a decision of a key with a plan looks at nothing else. What such keys
/// have in common beside them, they share.
#[test]
fn a_key_with_a_plan_takes_little_more_than_one_with_limits_of_its_own() {
    let limits = Limits::builder().requests_per_minute(60).tokens_per_minute(10_000);
    let limits = limits.requests_per_day(1_000).output_tokens_per_day(50_000).build().unwrap();
    let plan =
        PlanUpdate::new("free".parse().unwrap(), Plan::default().with_global(limits.clone()));
    let bytes_each = |config: &dyn Fn(&str) -> KeyConfig| {
        let store = MemoryStore::new();
        store.save_plan(&home(), &plan).unwrap();
        let allocated = allocation_counter::measure(|| {
            for number in 0..KEYS {
                let name = format!("key-{number:018}");
                let id: KeyId = name.parse().unwrap();
                store.create(member(&id, config(&name))).unwrap();
                assert!(store.check_and_consume(&id, None, &requests(1)).is_allowed());
            }
        });
        allocated.bytes_current / KEYS
    };
    let own = bytes_each(&|name| named(name).with_global(limits.clone()));
    let planned = bytes_each(&|name| named(name).with_plan("free".parse().unwrap()));
    println!("{own} bytes for a key with limits of its own, {planned} for one with a plan");
    assert!(planned <= own + own / 16, "{own} and {planned} bytes");
}

fn member(id: &KeyId, config: KeyConfig) -> NewRecord {
    NewRecord {
        id: id.clone(),
        workspace: home(),
        kind: KeyKind::Member,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    }
}

fn home() -> WorkspaceId {
    workspace("home")
}

const KEYS: i64 = 20_000;
