//! Many clients change few keys while scripts fail, answers get lost and steps are late by more than a lease.

use std::collections::BTreeSet;
use std::time::Duration;

use limiter_core::{KeyConfig, KeyKind, NewRecord, Search, WorkspaceId};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::super::change::Entry;
use super::{Directory, Waiting, World, config, id, member, some_day, update, with_secret};
use crate::keyspace::WorkspaceKey;
use crate::servers::faults::{Storm, chance};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_the_index_ends_up_as_the_records_are() {
    let waiting = Waiting { lease: STORM_LEASE, patience: Duration::from_secs(20) };
    let world = World::waiting(waiting).await;
    for workspace in WORKSPACES {
        for key in ["root", "boot"] {
            let key = NewRecord {
                kind: KeyKind::Admin,
                ..of(workspace, member(&format!("{key} of {workspace}")))
            };
            world.create(key).await.unwrap();
        }
    }
    for round in 0..rounds() {
        world.servers.faults.storm(Some(STORM));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let directory = world.directory.clone();
            tasks.spawn(async move {
                for _ in 0..25 {
                    let workspace = WORKSPACES[chance(2) as usize].parse().unwrap();
                    something(&directory, &workspace).await;
                }
            });
        }
        tasks.join_all().await;
        world.servers.faults.storm(None);
        sleep(STORM_LEASE * 2).await;
        for workspace in WORKSPACES {
            check(&world, &workspace.parse().unwrap(), round).await;
        }
    }
}

async fn something(directory: &Directory, workspace: &WorkspaceId) {
    let name = format!("{}", chance(5));
    let key = if chance(4) == 0 {
        id(&format!("{} of {workspace}", ["root", "boot"][chance(2) as usize]))
    } else {
        id(&format!("key {}", chance(8)))
    };
    let expiring = |config: KeyConfig| match chance(2) {
        0 => config.with_expiry(some_day()),
        _ => config,
    };
    match chance(7) {
        6 => {
            let keys = (0..1 + chance(6)).map(|_| {
                let number = chance(8);
                let new = NewRecord {
                    id: id(&format!("key {number}")),
                    config: config(&format!("{}", chance(5))),
                    ..of(workspace.as_str(), member("x"))
                };
                with_secret(new, &format!("{}-one-of-few-secrets-{0}", chance(8) + 1000))
            });
            let _ = directory.create_many(keys.collect()).await;
        }
        0..=1 => {
            let new = NewRecord {
                id: key,
                kind: if chance(2) == 0 { KeyKind::Admin } else { KeyKind::Member },
                config: expiring(config(&name)),
                ..of(workspace.as_str(), member("x"))
            };
            let secret = format!("{}-one-of-few-secrets-{0}", chance(8) + 1000);
            let new = if chance(3) == 0 { new } else { with_secret(new, &secret) };
            let _ = directory.create(new).await;
        }
        2 => {
            let _ = directory.delete(workspace, &key).await;
        }
        3..=4 => {
            if let Ok(Some(found)) = directory.read_in(workspace, &key).await {
                let version = found.record.version;
                let update = update(key.as_str(), version, &expiring(config(&name)));
                let _ = directory.update(workspace, &update).await;
            }
        }
        _ => {
            let _ = directory.list(workspace, &Search::all()).await;
        }
    }
}

async fn check(world: &World, workspace: &WorkspaceId, round: usize) {
    let case = format!("{workspace} in round {round}");
    let page = world.directory.list(workspace, &Search::all()).await.unwrap();
    // All records there are, from the ids that there can be.
    let mut records = Vec::new();
    let ids = (0..8).map(|number| format!("key {number}"));
    for key in ids.chain([format!("root of {workspace}"), format!("boot of {workspace}")]) {
        if let Some(found) = world.directory.read_in(workspace, &id(&key)).await.unwrap() {
            records.push(found);
        }
    }
    records.sort_by(|one, other| one.record.config.name.cmp(&other.record.config.name));
    let names: Vec<_> = records.iter().map(|found| found.record.config.name.to_string()).collect();
    let listed: Vec<_> = page.keys.iter().map(|key| key.config.name.to_string()).collect();
    assert_eq!(listed, names, "{case}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{case}");

    let key = |kind| world.keyspace.workspace(kind, workspace);
    let change: bool = world.command(redis::cmd("EXISTS").arg(key(WorkspaceKey::Change))).await;
    assert!(!change, "{case}");
    let indexed: Vec<String> =
        world.command(redis::cmd("ZRANGE").arg(key(WorkspaceKey::Names)).arg(0).arg(-1)).await;
    assert_eq!(indexed, names, "{case}");
    let admins: BTreeSet<String> =
        world.command(redis::cmd("SMEMBERS").arg(key(WorkspaceKey::Admins))).await;
    let permanent = records.iter().filter(|found| Entry::of_found(found).permanent_admin);
    let permanent: BTreeSet<_> = permanent.map(|found| found.record.id.to_string()).collect();
    assert_eq!(admins, permanent, "{case}");
    assert!(!permanent.is_empty(), "{case}");
    let taken: usize = world.command(redis::cmd("HLEN").arg(key(WorkspaceKey::Taken))).await;
    let masks = records.iter().filter(|found| found.stored.unique_mask().is_some()).count();
    assert_eq!(taken, 2 * (records.len() + masks), "{case}");
    for found in &records {
        if let Some(secret) = found.stored.secret {
            let resolved = world.directory.resolve(&secret.digest).await.unwrap();
            assert_eq!(resolved.as_ref(), Some(&found.record.id), "{case}");
        }
    }
}

fn of(workspace: &str, key: NewRecord) -> NewRecord {
    NewRecord { workspace: workspace.parse().unwrap(), ..key }
}

fn rounds() -> usize {
    std::env::var("LIMITER_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

const WORKSPACES: [&str; 2] = ["home", "elsewhere"];
const STORM_LEASE: Duration = Duration::from_millis(80);
/// Late by more than a lease, so that others take changes over whose clients go on afterwards.
const STORM: Storm = Storm { faults: 60, delays: 40, longest_delay: STORM_LEASE.saturating_mul(2) };
