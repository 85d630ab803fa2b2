//! Each fault, under each policy.

use std::num::NonZeroU32;
use std::time::Duration;

use limiter_policy::{BreakerState, FailurePolicy, Share};
use limiter_test_servers::until_async;
use tokio::time::sleep;

use super::load::{Load, TASKS, Tally};
use super::world::{DEADLINE, World};

type Fault = fn(&World);

/// Runs an outage that begins and ends at once: calls without the store are fast, and one probe brings it back.
async fn outage(what: &str, policy: FailurePolicy, begin: Fault, end: Fault) -> Tally {
    let world = World::new(policy).await;
    let load = Load::start(&world);
    load.until_allowed(200).await;
    world.until_known().await;
    let before = load.now().clone();
    begin(&world);
    let noticed = until_async("the store is given up", async || {
        world.store.breaker() != BreakerState::Closed
    });
    let noticed = noticed.await;
    load.until_without_store(1_000).await;
    end(&world);
    let recovered = world.until_closed().await;
    // Calls that began before the store came back have ended by then.
    sleep(2 * DEADLINE).await;
    let without_store = load.now().without_store();
    load.until_allowed(200).await;
    let after = load.now().without_store() - without_store;
    let tally = load.end().await;

    let counted = world.counted().await;
    println!(
        "{what}, {policy:?}: noticed in {noticed:.1?}, recovered in {recovered:.1?}; {} allowed by the store, {} degraded, {} \
         unavailable, {} unknown; {counted} counted; {} waited, the slowest {:.1?}; {} hung",
        tally.allowed,
        tally.degraded,
        tally.unavailable,
        tally.unknown,
        tally.waited,
        tally.slowest,
        tally.hung
    );
    assert_eq!(
        (tally.hung, tally.denied, before.without_store(), after),
        (0, 0, 0, 0),
        "{tally:?}"
    );
    assert!(tally.waited <= TASKS, "each task waited once at most: {tally:?}");
    keeps_its_promise(policy, &tally, counted, 1);
    tally
}

/// `FailClosed` allows only calls that the store has allowed; `FailOpen` allows all, and flags those without the store.
/// `LocalShare` pays for the calls that it allowed; the store may have charged those under way as well.
fn keeps_its_promise(policy: FailurePolicy, tally: &Tally, counted: u64, faults: u64) {
    assert!(tally.slowest < DEADLINE + SLACK, "{tally:?}");
    assert!(tally.allowed <= counted, "an answer without a flag is the store's: {tally:?}");
    match policy {
        FailurePolicy::FailClosed => {
            assert_eq!(tally.degraded, 0);
            assert!(counted <= tally.allowed + tally.unknown, "{counted} of {tally:?}");
        }
        FailurePolicy::LocalShare { .. } => {
            assert_eq!(tally.errors(), 0, "{tally:?}");
            let promised = tally.allowed + tally.degraded;
            assert!(
                (promised..=promised + TASKS * faults).contains(&counted),
                "{counted} of {tally:?}"
            );
        }
        _ => {
            assert_eq!(tally.errors(), 0, "{tally:?}");
            assert!(counted <= tally.allowed + tally.degraded, "{counted} of {tally:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_server_costs_each_task_one_deadline_and_then_nothing() {
    for policy in POLICIES {
        let stalled =
            outage("stalled", policy, |world| world.server.freeze(), |world| world.server.thaw());
        let tally = stalled.await;
        assert!(tally.waited > 0, "somebody has to notice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_on_which_no_answer_comes_costs_each_task_one_deadline_and_then_nothing() {
    for policy in POLICIES {
        let hold: Fault = |world| world.proxy.hold_replies();
        let _ = outage("half-open", policy, hold, |world| world.proxy.forward()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again_is_asked_again() {
    for policy in POLICIES {
        let kill: Fault = |world| world.server.kill();
        let _ = outage("kill -9", policy, kill, |world| world.server.start()).await;
    }
}

/// Connections that are cut, and answers that are lost, fail the calls that were under way; the next probe is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_and_replies_that_are_lost_fail_only_what_was_under_way() {
    let faults: [(&str, Fault); 2] = [
        ("20 cuts", |world| world.proxy.close_connections()),
        ("20 replies lost", |world| world.proxy.lose_next_reply()),
    ];
    for (what, fault) in faults {
        for policy in POLICIES {
            let world = World::new(policy).await;
            let load = Load::start(&world);
            world.until_known().await;
            for _ in 0..FAULTS {
                load.until_allowed(100).await;
                fault(&world);
            }
            load.until_allowed(500).await;
            let tally = load.end().await;
            let counted = world.counted().await;
            println!("{what}, {policy:?}: {tally:?}; {counted} counted");
            assert_eq!((tally.hung, tally.denied), (0, 0), "{tally:?}");
            assert!(tally.without_store() > 0, "the fault is noticed: {tally:?}");
            keeps_its_promise(policy, &tally, counted, FAULTS);
        }
    }
}

/// Each reply comes late, but within the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_slow_is_waited_for() {
    for policy in POLICIES {
        let world = World::new(policy).await;
        let load = Load::start(&world);
        for _ in 0..20 {
            world.proxy.hold_replies();
            sleep(DEADLINE / 10).await;
            world.proxy.release();
            load.until_allowed(1).await;
        }
        let tally = load.end().await;
        let counted = world.counted().await;
        println!("slow, {policy:?}: {tally:?}; {counted} counted");
        assert_eq!((tally.hung, tally.denied, tally.without_store()), (0, 0, 0), "{tally:?}");
        assert_eq!(tally.allowed, counted);
    }
}

/// The share is the whole limit: there is one process.
const POLICIES: [FailurePolicy; 3] = [
    FailurePolicy::FailClosed,
    FailurePolicy::FailOpen,
    FailurePolicy::LocalShare { share: Share::one_in(NonZeroU32::MIN) },
];
/// How often something is cut or lost.
const FAULTS: u64 = 20;
/// The delay that is accepted on a busy machine.
const SLACK: Duration = Duration::from_millis(500);
