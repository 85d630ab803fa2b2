//! A reservation that another program has written over: a clear error, never a panic, and a key whose counts can still be
//! read. Other valid bytes are accepted as they are.

use limiter_conformance::fixtures::{DAY, NOON, asset, key_id};
use limiter_core::{Decision, ManualClock, RequestId, ReservationError, Store, StoreError, Totals};
use limiter_redis::RedisStore;
use limiter_test_servers::{fresh_name, shared};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use std::cell::RefCell;
use tokio::runtime::Runtime;

use super::damage::{Damage, Fields, damages};
use super::server::Server;
use super::{cases, charge, clear, common, record};

#[test]
fn a_damaged_reservation_is_an_error_and_leaves_counts_that_can_be_read() {
    let mut runner = TestRunner::new(Config {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        ..Config::default()
    });
    let world = RefCell::new(World::new());
    let outcome = runner.run(&(damages(), 0_u8..4), |(damages, operation)| {
        world.borrow_mut().check(&damages, operation).map_err(TestCaseError::fail)
    });
    let World { answers, errors, .. } = world.into_inner();
    println!("{answers} answers, {errors} errors");
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(answers > 0 && errors > answers / 8);
}

/// A key with a reservation, which is damaged again and again.
struct World {
    runtime: Runtime,
    server: Server,
    store: RedisStore,
    state: Fields,
    reservations: Fields,
    answers: u32,
    errors: u32,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (url, prefix) = (shared().url(), fresh_name("reserved"));
        let store = runtime.block_on(async {
            let builder = common::empty(url).key_prefix(&prefix).clock(ManualClock::at(NOON));
            let store = builder.connect().await.expect("a store");
            store.create(record("victim", 50)).await.expect("a key");
            let reserved = reserve(&store).await;
            assert!(reserved.expect("it is new").is_allowed());
            store
        });
        let mut server = Server::connect(url, &prefix);
        let (state, reservations) = (server.read('k', "victim"), server.read('r', "victim"));
        Self { runtime, server, store, state, reservations, answers: 0, errors: 0 }
    }

    fn check(&mut self, damages: &[Damage], operation: u8) -> Result<(), String> {
        let mut reservations = self.reservations.clone();
        for damage in damages {
            damage.apply(&mut reservations, &Fields::new());
        }
        self.server.write('k', "victim", &self.state);
        self.server.write('r', "victim", &reservations);
        let (store, victim) = (&self.store, key_id("victim"));
        let total = Totals::unchanged().with_output_tokens(5).expect("within bounds");
        let ended = self.runtime.block_on(async {
            match operation {
                0 => reserve(store).await.map(drop),
                1 => store.amend(&victim, &id(), &total).await.map(drop),
                2 => store.settle(&victim, &id(), &total).await.map(drop),
                _ => store.cancel(&victim, &id()).await.map(drop),
            }
        });
        match ended {
            Ok(()) => self.answers += 1,
            Err(ReservationError::Store(error)) => {
                clear(&error)?;
                self.errors += 1;
            }
            // Bytes that say so.
            Err(
                ReservationError::Unknown(_)
                | ReservationError::OtherExists(_)
                | ReservationError::AlreadySettled(_)
                | ReservationError::Invalid(_),
            ) => self.answers += 1,
            Err(other) => return Err(format!("no answer of a damaged reservation: {other:?}")),
        }
        let (state, ledger) = self
            .runtime
            .block_on(async { (store.state(&victim).await, store.ledger(&victim).await) });
        state.map_err(|error| format!("the state: {error:?}"))?.ok_or("the key is there")?;
        match ledger {
            Ok(_) => Ok(()),
            Err(error @ StoreError::Corrupt(_)) => clear(&error),
            Err(other) => Err(format!("what is remembered: {other:?}")),
        }
    }
}

async fn reserve(store: &RedisStore) -> Result<Decision, ReservationError> {
    store.reserve(&key_id("victim"), Some(&asset("m1")), &charge(), &id(), DAY).await
}

fn id() -> RequestId {
    "r1".parse().expect("a short id")
}

/// Tests run in the directory of their crate.
const REGRESSIONS: &str = "proptest-regressions/reservations-corruption.txt";
