//! A key that another program has written over: a clear error, never a panic, never a call that is allowed by data that
//! cannot be read. The other keys go on.

mod damage;
mod groups;
mod reservations;
mod server;

use std::cell::RefCell;
use std::env;
use std::error::Error;

use limiter_conformance::fixtures::{NOON, asset, key_id, millionths, tokens, workspace};
use limiter_core::{
    AssetId, Charge, Decision, KeyConfig, KeyKind, KeysError, Limits, ManualClock, NewRecord,
    Search, Store, StoreError, Thresholds, Unit, Window,
};
use limiter_redis::RedisStore;
use limiter_test_servers::{fresh_name, shared};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tokio::runtime::Runtime;

use crate::common;
use crate::update::update;
use damage::{Damage, Fields, OtherType, damages, other_types};
use server::Server;

#[test]
fn a_damaged_key_is_an_error_and_never_an_allowed_call() {
    let mut runner = TestRunner::new(Config {
        cases: cases(),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        ..Config::default()
    });
    let world = RefCell::new(World::new());
    // Counts, limits and record, each damaged, of another type, or as it was.
    let strategy = [
        prop_oneof![6 => damages(), 1 => Just(Vec::new())].boxed(),
        prop_oneof![6 => damages(), 1 => Just(Vec::new())].boxed(),
        prop_oneof![3 => damages(), 2 => Just(Vec::new())].boxed(),
    ];
    let strategy = strategy.map(|damages| (damages, other_types()));
    let outcome = runner.run(&strategy, |damages| {
        let mut world = world.borrow_mut();
        let mut hashes = damages.iter().zip(&world.hashes).zip(&world.other);
        let broken = std::array::from_fn(|_| {
            let (((damages, other_type), hash), other) = hashes.next().expect("there are three");
            (damaged(hash, damages, other), *other_type)
        });
        world.check(&broken).map_err(TestCaseError::fail)
    });
    let seen = world.into_inner().seen;
    println!("{seen:?}");
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(seen.errors > seen.decisions / 4 && seen.decisions > 0, "{seen:?}");
}

/// The contents of Redis in place of the hashes of the victim.
type Broken = [(Fields, Option<OtherType>); 3];

#[derive(Debug, Default)]
struct Seen {
    decisions: u32,
    allowed: u32,
    errors: u32,
}

/// Three keys, of which one is damaged again and again.
struct World {
    runtime: Runtime,
    server: Server,
    /// Remembers the limits of the victim as they once were.
    knowing: RedisStore,
    /// Remembers the limits of the last key alone.
    forgetful: RedisStore,
    /// Of the victim: counts, limits and record.
    hashes: [Fields; 3],
    /// Of the other key.
    other: [Fields; 3],
    seen: Seen,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (url, prefix) = (shared().url(), fresh_name("corruption"));
        let clock = ManualClock::at(NOON);
        let builder = || common::empty(url).key_prefix(&prefix).clock(clock.clone());
        let (knowing, forgetful) = runtime.block_on(async {
            let knowing = builder().connect().await.expect("a store");
            for (id, budget) in [("victim", 50), ("other", 90), ("oracle", 50)] {
                knowing.create(record(id, budget)).await.expect("a key");
            }
            // A change is pending, so that every part of a record is there.
            let mut config = record("victim", 50).config;
            config.global = limits(60, Unit::InputTokens);
            config.assets.insert(asset("m1"), limits(70, Unit::Tokens));
            let updated =
                knowing.update(&workspace("w"), &update(&key_id("victim"), 1, &config)).await;
            updated.expect("a change");
            (knowing, builder().max_remembered_limits(1).connect().await.expect("a store"))
        });
        let mut server = Server::connect(url, &prefix);
        let [hashes, other] =
            ["victim", "other"].map(|id| HASHES.map(|kind| server.read(kind, id)));
        Self { runtime, server, knowing, forgetful, hashes, other, seen: Seen::default() }
    }

    fn check(&mut self, broken: &Broken) -> Result<(), String> {
        for called in [None, Some(asset("m1"))] {
            self.forgetful_decides(broken, called.as_ref())?;
            self.knowing_decides(broken, called.as_ref())?;
        }
        self.restore(broken);
        self.the_rest_answers()
    }

    /// Without limits at hand, a call is decided as a peek has answered, or is the same error.
    fn forgetful_decides(
        &mut self,
        broken: &Broken,
        asset: Option<&AssetId>,
    ) -> Result<(), String> {
        self.restore(broken);
        let peeked = self.peek("victim", asset);
        let decided = self.decide(false, asset)?;
        match (&peeked, &decided) {
            (Ok(peeked), Ok(decided)) if peeked == decided => self.seen.decisions += 1,
            (Err(_), Err(_)) => self.seen.errors += 1,
            _ => return Err(format!("a peek: {peeked:?}\na call: {decided:?}")),
        }
        self.seen.allowed += u32::from(decided.as_ref().is_ok_and(Decision::is_allowed));
        peeked.map_or_else(|error| clear(&error), |_| Ok(()))?;
        decided.map_or_else(|error| clear(&error), |_| Ok(()))
    }

    /// With limits at hand, those in Redis may not be looked at: nothing is allowed but by them, or by those at hand.
    fn knowing_decides(&mut self, broken: &Broken, asset: Option<&AssetId>) -> Result<(), String> {
        let whole = self.hashes.clone().map(|hash| (hash, None));
        self.restore(&whole);
        // The cached data may be of an earlier damage, under the same stamp.
        let seen = self.runtime.block_on(self.knowing.peek(&key_id("victim"), asset, &charge()));
        let _ = seen.map_err(|error| format!("before any damage: {error:?}"))?;
        let _ =
            self.decide(true, asset)?.map_err(|error| format!("before any damage: {error:?}"))?;

        self.restore(broken);
        let [(counts, _), ..] = broken;
        let [_, limits, _] = &self.hashes;
        self.server.write(COUNTS, "oracle", counts);
        self.server.write(LIMITS, "oracle", limits);
        let possible = [self.peek("victim", asset), self.peek("oracle", asset)];
        let decided = self.decide(true, asset)?;
        if let Ok(decided) = &decided
            && decided.is_allowed()
            && !possible.iter().flatten().any(|peeked| peeked == decided)
        {
            return Err(format!("peeks: {possible:?}\na call: {decided:?}"));
        }
        decided.map_or_else(|error| clear(&error), |_| Ok(()))
    }

    /// A call of the victim between two of another key, which are not to notice.
    fn decide(
        &mut self,
        knowing: bool,
        asset: Option<&AssetId>,
    ) -> Result<Result<Decision, StoreError>, String> {
        for (kind, hash) in HASHES.into_iter().zip(&self.other) {
            self.server.write(kind, "other", hash);
        }
        let store = if knowing { &self.knowing } else { &self.forgetful };
        self.runtime.block_on(async {
            let call = |id: &str| {
                let (store, id, asset) = (store.clone(), key_id(id), asset.cloned());
                tokio::spawn(async move {
                    store.check_and_consume(&id, asset.as_ref(), &charge()).await
                })
            };
            let [before, decided, after] = [call("other"), call("victim"), call("other")];
            for beside in [before, after] {
                let beside = beside.await.map_err(|panic| panic.to_string())?;
                if !beside.as_ref().is_ok_and(Decision::is_allowed) {
                    return Err(format!("the key beside it: {beside:?}"));
                }
            }
            decided.await.map_err(|panic| panic.to_string())
        })
    }

    fn peek(&self, id: &str, asset: Option<&AssetId>) -> Result<Decision, StoreError> {
        self.runtime.block_on(self.forgetful.peek(&key_id(id), asset, &charge()))
    }

    /// Nothing panics, and every failure is a clear error.
    fn the_rest_answers(&self) -> Result<(), String> {
        let (store, id) = (&self.knowing, key_id("victim"));
        self.runtime.block_on(async {
            store.usage(&id).await.map_or_else(|error| clear(&error), |_| Ok(()))?;
            store.state(&id).await.map_or_else(|error| clear(&error), |_| Ok(()))?;
            let peeked = store.peek(&id, Some(&asset("m1")), &Charge::NOTHING).await;
            peeked.map_or_else(|error| clear(&error), |_| Ok(()))?;
            let read = store.read(&id).await;
            let version =
                read.as_ref().map_or(2, |read| read.as_ref().map_or(2, |read| read.version));
            read.map_or_else(|error| clear(&error), |_| Ok(()))?;
            // One damaged key does not keep the others from being listed.
            let listed = store.list(&workspace("w"), &Search::default()).await;
            let listed = listed.map_err(|error| format!("a listing: {error:?}"))?;
            if !listed.keys.iter().any(|key| key.id.as_str() == "other") {
                return Err(format!("the other key of the workspace is not listed: {listed:?}"));
            }
            let mut config = record("victim", 50).config;
            let updated = store.update(&workspace("w"), &update(&id, version, &config)).await;
            updated.map_or_else(|error| refused(&error), |_| Ok(()))?;
            config.name = "victim'".parse().expect("a name");
            let updated = store.update(&workspace("w"), &update(&id, version, &config)).await;
            updated.map_or_else(|error| refused(&error), |_| Ok(()))?;
            let deleted = store.delete(&workspace("w"), &id).await;
            deleted.map_or_else(|error| refused(&error), |_| Ok(()))
        })
    }

    fn restore(&mut self, broken: &Broken) {
        for (kind, (hash, other_type)) in HASHES.into_iter().zip(broken) {
            match other_type {
                None => self.server.write(kind, "victim", hash),
                Some(other) => self.server.write_other(kind, "victim", *other),
            }
        }
    }
}

/// The number of cases that is set in the environment.
fn cases() -> u32 {
    match env::var("LIMITER_TEST_CASES") {
        Ok(cases) => cases.parse().expect("LIMITER_TEST_CASES is a whole number"),
        Err(_) => CASES,
    }
}

fn damaged(fields: &Fields, damages: &[Damage], other: &Fields) -> Fields {
    let mut fields = fields.clone();
    for damage in damages {
        damage.apply(&mut fields, other);
    }
    fields
}

fn refused(error: &KeysError) -> Result<(), String> {
    match error {
        KeysError::Store(error) => clear(error),
        KeysError::NotFound(_) | KeysError::Conflict { .. } => Ok(()),
        other => Err(format!("not the error of a damaged key: {other:?}")),
    }
}

/// The error says that the key cannot be read, which key it is, and what to do about it.
fn clear(error: &StoreError) -> Result<(), String> {
    let said = error.source().map(ToString::to_string).unwrap_or_default();
    let names_the_key = said.contains("victim") || said.contains("oracle");
    let advises = ["restore or delete it", "upgrade this one", "a prefix of its own"];
    if matches!(error, StoreError::Corrupt(_))
        && names_the_key
        && advises.iter().any(|advice| said.contains(advice))
    {
        return Ok(());
    }
    Err(format!("not a clear error of a damaged key: {error:?}"))
}

fn record(id: &str, budget: u64) -> NewRecord {
    let config = KeyConfig::named(id)
        .expect("a name")
        .with_global(limits(40, Unit::OutputTokens))
        .with_asset(asset("m1"), limits(30, Unit::Tokens))
        .with_budget(millionths(budget));
    let (id, workspace) = (key_id(id), workspace("w"));
    NewRecord {
        id,
        workspace,
        kind: KeyKind::Member,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    }
}

/// Limits of requests, and of tokens of one unit.
fn limits(each: u64, tokens: Unit) -> Limits {
    let windows = [Window::Minute, Window::Day, Window::Month];
    let limits = windows.into_iter().fold(Limits::builder(), |limits, window| {
        limits.limit(window, Unit::Requests, each).limit(window, tokens, each)
    });
    limits.build().expect("within bounds")
}

fn charge() -> Charge {
    tokens(3, 4).with_credits(millionths(2))
}

const CASES: u32 = 400;
/// The hashes of a key.
const HASHES: [char; 3] = [COUNTS, LIMITS, 'm'];
const COUNTS: char = 'k';
const LIMITS: char = 'l';
/// Tests run in the directory of their crate.
const REGRESSIONS: &str = "proptest-regressions/corruption.txt";
