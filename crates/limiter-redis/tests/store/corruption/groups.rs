//! A group that another program has written over or deleted: no call of its keys is decided without it.

use limiter_conformance::fixtures::{DAY, NOON, asset, key_id, request_id};
use limiter_core::{KeyKind, ManualClock, NewRecord, Store, StoreError};
use limiter_redis::RedisStore;
use limiter_test_servers::{fresh_name, shared};

use super::damage::{Fields, OtherType};
use super::server::Server;
use super::{COUNTS, LIMITS, charge, clear, common, record};

/// A change of the value of a field; without a value it is gone.
type Damages = fn(Vec<u8>) -> Option<Vec<u8>>;

#[tokio::test]
async fn no_call_is_decided_without_a_group_that_is_damaged() {
    let (url, prefix) = (shared().url(), fresh_name("damaged-group"));
    let builder = || common::empty(url).key_prefix(&prefix).clock(ManualClock::at(NOON));
    let [store, cold] = [builder().connect().await, builder().connect().await];
    let (store, cold) = (store.expect("a store"), cold.expect("a store"));
    for group in ["victim", "victim/team"] {
        let group = NewRecord { kind: KeyKind::Group, ..record(group, 50) };
        store.create(group).await.expect("a group");
    }
    store.create(record("victim/team/ci", 50)).await.expect("a key");
    let mut server = Server::connect(url, &prefix);
    let damages: [(&str, Damages); 5] = [
        ("gone", |_| None),
        ("empty", |_| Some(Vec::new())),
        ("cut short", |mut value| value.pop().map(|_| value)),
        ("too long", |value| Some([value, vec![0]].concat())),
        ("all ones", |value| Some(vec![0xff; value.len()])),
    ];
    for group in ["victim", "victim/team"] {
        for kind in [COUNTS, LIMITS] {
            let whole = server.read(kind, group);
            for (what, damage) in damages {
                let is_warm = admits(&store).await;
                is_warm.unwrap_or_else(|error| panic!("before it is {what}: {error}"));
                let mut fields = whole.clone();
                let value = fields.remove(&b"g"[..]).expect("each group has it");
                fields.extend(damage(value).map(|value| (b"g".to_vec(), value)));
                server.write(kind, group, &fields);
                is_corrupt(&cold, &format!("{group} {kind} {what}")).await;
                // With limits at hand, those in Redis are not looked at.
                if kind == COUNTS {
                    is_corrupt(&store, &format!("{group} {kind} {what}, warm")).await;
                }
                server.write(kind, group, &whole);
            }
            for other in [OtherType::Text, OtherType::List, OtherType::Nothing] {
                server.write_other(kind, group, other);
                is_corrupt(&cold, &format!("{group} {kind} {other:?}")).await;
                server.write(kind, group, &whole);
            }
        }
        // All of the group is gone.
        let whole = [COUNTS, LIMITS].map(|kind| (kind, server.read(kind, group)));
        admits(&store).await.expect("nothing is damaged");
        whole.iter().for_each(|(kind, _)| server.write(*kind, group, &Fields::new()));
        for (store, what) in [(&cold, "cold"), (&store, "warm")] {
            is_corrupt(store, &format!("{group} is gone, {what}")).await;
        }
        whole.iter().for_each(|(kind, fields)| server.write(*kind, group, fields));
    }
    admits(&store).await.expect("nothing is damaged");
}

/// Makes a call of nothing, so that no limit is reached.
async fn admits(store: &RedisStore) -> Result<(), StoreError> {
    let nothing = limiter_core::Charge::NOTHING;
    let decision =
        store.check_and_consume(&key_id("victim/team/ci"), Some(&asset("m1")), &nothing).await?;
    assert!(decision.is_charged(), "{decision:?}");
    Ok(())
}

/// Each kind of call is the clear error of a damaged key.
async fn is_corrupt(store: &RedisStore, what: &str) {
    let (key, m1, id) = (key_id("victim/team/ci"), asset("m1"), request_id("r"));
    let called = store.check_and_consume(&key, Some(&m1), &charge()).await.map(drop);
    let peeked = store.peek(&key, Some(&m1), &charge()).await.map(drop);
    let checked = store.check_once(&key, Some(&m1), &charge(), &id).await.map(drop);
    let reserved = store.reserve(&key, None, &charge(), &id, DAY).await.map(drop);
    for (call, answer) in [("a call", called), ("a peek", peeked)] {
        let error = answer.err().unwrap_or_else(|| panic!("{what}: {call} has an answer"));
        clear(&error).unwrap_or_else(|error| panic!("{what}: {call}: {error}"));
    }
    for (call, answer) in [("a check with an id", checked), ("a reservation", reserved)] {
        let Err(limiter_core::ReservationError::Store(error)) = answer else {
            panic!("{what}: {call} has the answer {answer:?}");
        };
        clear(&error).unwrap_or_else(|error| panic!("{what}: {call}: {error}"));
    }
}
