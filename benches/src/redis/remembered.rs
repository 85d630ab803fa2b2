//! The cost of calls that are remembered by their ids.

use std::time::Duration;

use limiter_core::{Decision, LedgerBounds, RequestId, Store, Totals};
use limiter_redis::RedisStore;

use super::keys::{Keys, asset_id, id};
use crate::ours;

/// Makes this many reservations, in addition to the open ones, perhaps under a parallel limit.
pub(super) async fn reservations(url: &str, open: usize, parallel: Option<u64>, calls: usize) {
    let store = store(url, parallel).await;
    for call in 0..=open + calls {
        reserve(&store, call).await;
    }
}

/// Makes this many reservations and settles each at once, with fewer tokens, while others are open.
pub(super) async fn settlements(url: &str, open: usize, calls: usize) {
    let store = store(url, None).await;
    for call in 0..open {
        reserve(&store, call).await;
    }
    let actual = Totals::unchanged().with_output_tokens(1).expect("within bounds");
    for call in open..=open + calls {
        reserve(&store, call).await;
        store.settle(&id(0), &request_id(call), &actual).await.expect("it is settled");
    }
}

/// Makes this many checks, each with its own id, in addition to those that are remembered already.
pub(super) async fn checks(url: &str, remembered: usize, calls: usize) {
    let store = store(url, None).await;
    for call in 0..=remembered + calls {
        check_once(&store, call).await;
    }
}

/// Makes one check, and this many repetitions.
pub(super) async fn replays(url: &str, calls: usize) {
    let store = store(url, None).await;
    for _ in 0..=calls {
        check_once(&store, 0).await;
    }
}

/// Creates a store with one key, whose limits it knows.
async fn store(url: &str, parallel: Option<u64>) -> RedisStore {
    // Under callgrind, two minutes of the dedupe time would pass during the count.
    let builder = RedisStore::builder(url)
        .ledger_bounds(LedgerBounds { dedupe: HOUR, ..LedgerBounds::default() });
    let keys = Keys::connect_with(builder).await;
    keys.create_with(0, ours::limits().with_parallel(parallel), 1).await;
    keys.allow(0, 0).await;
    keys.store().clone()
}

async fn reserve(store: &RedisStore, call: usize) {
    let reserved =
        store.reserve(&id(0), Some(&asset_id(0)), &ours::charge(), &request_id(call), HOUR).await;
    assert!(reserved.as_ref().is_ok_and(Decision::is_allowed), "{reserved:?}");
}

async fn check_once(store: &RedisStore, call: usize) {
    let checked =
        store.check_once(&id(0), Some(&asset_id(0)), &ours::charge(), &request_id(call)).await;
    assert!(checked.as_ref().is_ok_and(Decision::is_allowed), "{checked:?}");
}

/// 20 characters.
fn request_id(call: usize) -> RequestId {
    format!("request-{call:012}").parse().expect("a request id")
}

const HOUR: Duration = Duration::from_secs(3_600);
