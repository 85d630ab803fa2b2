//! Each script in turn is not run, or runs without an answer: the caller gets a true answer, and the index follows.

use limiter_core::NewRecord;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::damaged::{STATE_GONE, damage};
use super::{LEASE, World, admin, config, id, is_unknown, member, with_secret};
use crate::servers::faults::{ALL, Fault};

const SECRET: &str = "abcd-of-a-faulty-day-wxyz";

#[tokio::test]
async fn a_creation_with_a_fault() {
    for script in ["workspace_begin", "pointer_set", "create", "workspace_finish"] {
        for fault in ALL {
            let world = World::with_short_lease().await;
            world.servers.faults.once(script, fault);
            let created = world.create(with_secret(member("ci"), SECRET)).await;
            let case = format!("{script} {fault:?}: {created:?}");
            assert!(world.servers.faults.have_happened(), "{case}");
            let exists = world.exists(&id("ci")).await;
            assert!(!is_unknown(&created, exists, fault, &case) || script == "create", "{case}");
            if fault == Fault::NotRun && script != "workspace_finish" {
                assert!(!world.is_changing().await, "{case}");
            }
            assert_eq!(world.names().await.len(), usize::from(exists), "{case}");
            sleep(LEASE).await;
            assert_eq!(world.names().await.len(), usize::from(exists), "{case}");
            assert_eq!(world.names().await, world.indexed_names().await, "{case}");
            assert!(!world.is_changing().await, "{case}");
            assert_eq!(world.resolve(SECRET).await, exists.then(|| id("ci")), "{case}");
            if !exists {
                assert_eq!(world.keys_in_redis().await, 0, "{case}");
                world.create(with_secret(member("ci"), SECRET)).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_deletion_with_a_fault() {
    for is_damaged in [false, true] {
        let mut cases = JoinSet::new();
        for script in ["remains", "workspace_begin", "remove", "pointer_remove", "workspace_finish"]
        {
            // The remains are read of damaged keys only.
            for fault in ALL.into_iter().filter(|_| is_damaged || script != "remains") {
                cases.spawn(deletion_with(script, fault, is_damaged));
            }
        }
        cases.join_all().await;
    }
}

async fn deletion_with(script: &'static str, fault: Fault, is_damaged: bool) {
    let world = World::with_short_lease().await;
    world.create(admin("other")).await.unwrap();
    world.create(with_secret(admin("ci"), SECRET)).await.unwrap();
    if is_damaged {
        damage(&world, "ci", STATE_GONE).await;
    }
    world.servers.faults.once(script, fault);
    let deleted = world.delete("ci").await;
    let case = format!("{script} {fault:?}, damaged: {is_damaged}: {deleted:?}");
    assert!(world.servers.faults.have_happened(), "{case}");
    let exists = !matches!(world.directory.records.read(&id("ci")).await, Ok(None));
    assert!(!is_unknown(&deleted, !exists, fault, &case) || script == "remove", "{case}");
    let resolved = (exists && !is_damaged).then(|| id("ci"));
    if !is_damaged {
        assert_eq!(world.resolve(SECRET).await, resolved, "{case}");
    }
    sleep(LEASE).await;
    let page = world.page().await;
    let shown = (page.keys.len(), page.damaged.len());
    let (readable, damaged) = (exists && !is_damaged, exists && is_damaged);
    assert_eq!(shown, (1 + usize::from(readable), usize::from(damaged)), "{case}");
    assert_eq!(world.indexed_names().await.len(), 1 + usize::from(exists), "{case}");
    if !is_damaged {
        // Counts, limits and record of each, names, taken and admins; and the pointer of the one.
        assert_eq!(world.keys_in_redis().await, if exists { 10 } else { 6 }, "{case}");
        assert_eq!(world.resolve(SECRET).await, resolved, "{case}");
    }
    if exists {
        world.delete("ci").await.unwrap();
    }
    world.create(with_secret(member("ci"), SECRET)).await.unwrap();
    assert_eq!(world.names().await, ["ci", "other"], "{case}");
    assert_eq!(world.indexed_names().await, ["ci", "other"], "{case}");
    assert!(!world.is_changing().await, "{case}");
}

#[tokio::test]
async fn a_rename_with_a_fault() {
    for script in ["workspace_begin", "configure", "workspace_finish"] {
        for fault in ALL {
            let world = World::with_short_lease().await;
            world.create(member("old")).await.unwrap();
            world.servers.faults.once(script, fault);
            let renamed = world.update("old", 1, &config("new")).await;
            let case = format!("{script} {fault:?}: {renamed:?}");
            assert!(world.servers.faults.have_happened(), "{case}");
            let found = world.directory.records.read(&id("old")).await.unwrap().unwrap();
            let name = found.record.config.name.to_string();
            if let Ok(record) = &renamed {
                let mut record = record.clone();
                record.read_at = found.record.read_at;
                assert_eq!(record, found.record, "{case}");
            }
            assert_eq!(world.names().await, std::slice::from_ref(&name), "{case}");
            sleep(LEASE).await;
            assert_eq!(world.names().await, std::slice::from_ref(&name), "{case}");
            assert_eq!(world.indexed_names().await, std::slice::from_ref(&name), "{case}");
            let free = if name == "old" { "new" } else { "old" };
            world.create(NewRecord { id: id("another"), ..member(free) }).await.unwrap();
        }
    }
}
