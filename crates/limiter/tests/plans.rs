//! Plans, as users of a limiter meet them.

use futures_util::FutureExt;
use limiter::memory::MemoryStore;
use limiter::{
    Charge, KeyConfig, KeyId, KeysError, Limiter, Limits, ManualClock, NewKey, Plan, PlanUpdate,
    Timestamp,
};

use crate::used;

/// A plan with this many requests per day.
fn free(requests: u64) -> PlanUpdate {
    let limits = Limits::builder().requests_per_day(requests).build().unwrap();
    PlanUpdate::new("free".parse().unwrap(), Plan::default().with_global(limits))
}

async fn key_with_plan(limiter: &Limiter, id: &str) -> KeyId {
    let config = KeyConfig::named(id).unwrap().with_plan("free".parse().unwrap());
    let key = NewKey::member(config).with_id(id.parse().unwrap());
    limiter.workspace("team-a").unwrap().create(key).await.unwrap().record.id
}

#[tokio::test]
async fn thresholds_that_a_changed_plan_reaches_are_events_of_each_key_at_its_next_call() {
    let clock = ManualClock::at(Timestamp::from_unix_ms(1_760_011_200_000));
    let limiter = Limiter::builder(MemoryStore::builder().clock(clock).build()).build();
    let keys = limiter.workspace("team-a").unwrap();
    let mut events = limiter.threshold_events();
    keys.save_plan(free(100)).await.unwrap();
    let ids = [key_with_plan(&limiter, "a").await, key_with_plan(&limiter, "b").await];
    let eight = Charge::request().with_requests(8).unwrap();
    for id in &ids {
        assert!(limiter.check_and_consume(id, None, &eight).await.unwrap().is_charged());
    }
    keys.save_plan(free(10).at_once()).await.unwrap();
    assert!(events.next().now_or_never().is_none(), "neither key has made a call since");
    for id in &ids {
        let one = Charge::request();
        assert!(limiter.check_and_consume(id, None, &one).await.unwrap().is_charged());
        let event = events.next().now_or_never().flatten().unwrap().unwrap();
        let crossing = event.crossing;
        assert_eq!((event.key, crossing.percent, crossing.limit), (id.clone(), 80, 10));
        assert!(events.next().now_or_never().is_none(), "once");
    }
}

#[tokio::test]
async fn a_plan_is_saved_from_its_version_listed_and_deleted_once_no_key_has_it() {
    let limiter = Limiter::in_memory();
    let keys = limiter.workspace("team-a").unwrap();
    let name = "free".parse().unwrap();
    assert!(matches!(keys.plan(&name).await, Err(KeysError::NoPlan(_))));
    let saved = keys.save_plan(free(9).from_version(0)).await.unwrap();
    let stale = keys.save_plan(free(8).from_version(0)).await;
    assert!(matches!(stale, Err(KeysError::Conflict { expected: 0, actual: 1 })), "{stale:?}");
    assert_eq!(keys.plans().await.unwrap(), std::slice::from_ref(&saved));
    assert_eq!(keys.plan(&name).await.unwrap(), saved);
    assert_eq!(limiter.workspace("team-b").unwrap().plans().await.unwrap(), []);

    let key = key_with_plan(&limiter, "a").await;
    assert!(matches!(keys.delete_plan(&name).await, Err(KeysError::PlanInUse(_))));
    let record = keys.get(&key).await.unwrap();
    let without = KeyConfig { plan: None, ..record.config };
    keys.update_now(&key, record.version, &without).await.unwrap();
    let charge = Charge::request();
    let decision = limiter.check_and_consume(&key, None, &charge).await.unwrap();
    assert_eq!(decision.allowed().unwrap().rules().count(), 0);
    keys.delete_plan(&name).await.unwrap();
    assert!(matches!(keys.delete_plan(&name).await, Err(KeysError::NoPlan(_))));
}

/// The account of a key is its own: a plan has limits, and no counts.
#[tokio::test]
async fn each_key_counts_for_itself() {
    let limiter = Limiter::in_memory();
    let keys = limiter.workspace("team-a").unwrap();
    keys.save_plan(free(1)).await.unwrap();
    for id in ["a", "b"] {
        let key = key_with_plan(&limiter, id).await;
        for is_allowed in [true, false] {
            let decision = limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap();
            assert_eq!(decision.is_allowed(), is_allowed);
        }
        assert_eq!(used(&keys.usage(&key).await.unwrap(), "global/day/requests"), 1);
    }
}
