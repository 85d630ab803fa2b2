//! A key that something else has written over: a clear error, never a panic, never a call that is allowed by what
//! nobody can read. The keys beside it go on.

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod common;
mod damage;
mod reservations;
mod server;

use std::cell::RefCell;
use std::error::Error;
use std::{env, process};

use limiter_conformance::servers;
use limiter_core::{
    AssetId, Charge, Credits, Decision, DecisionStore, KeyConfig, KeyId, KeyKind, KeyStore,
    KeysError, Limits, ManualClock, NewRecord, Search, StoreError, Timestamp, TokenType,
    WorkspaceId,
};
use limiter_redis::RedisStore;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use tokio::runtime::Runtime;

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
    // State and record, each damaged, of another type, or as it was.
    let strategy = (
        prop_oneof![6 => damages(), 1 => Just(Vec::new())],
        prop_oneof![3 => damages(), 2 => Just(Vec::new())],
        other_types(),
        other_types(),
    );
    let outcome = runner.run(&strategy, |(state, record, state_type, record_type)| {
        let mut world = world.borrow_mut();
        let broken = Broken {
            state: damaged(&world.state, &state, &world.other_state),
            record: damaged(&world.record, &record, &world.other_record),
            state_type,
            record_type,
        };
        world.check(&broken).map_err(TestCaseError::fail)
    });
    let seen = world.into_inner().seen;
    println!("{seen:?}");
    if let Err(error) = outcome {
        panic!("{error}");
    }
    assert!(seen.errors > seen.decisions / 4 && seen.decisions > 0, "{seen:?}");
}

/// What is in Redis instead of the victim.
#[derive(Debug)]
struct Broken {
    state: Fields,
    record: Fields,
    state_type: Option<OtherType>,
    record_type: Option<OtherType>,
}

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
    state: Fields,
    record: Fields,
    other_state: Fields,
    other_record: Fields,
    seen: Seen,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (url, prefix) = (servers::shared().url(), format!("corruption-{}", process::id()));
        let clock = ManualClock::at(NOON);
        let builder = || common::empty(url).key_prefix(&prefix).clock(clock.clone());
        let (knowing, forgetful) = runtime.block_on(async {
            let knowing = builder().connect().await.expect("a store");
            for (id, budget) in [("victim", 50), ("other", 90), ("oracle", 50)] {
                knowing.create(record(id, budget)).await.expect("a key");
            }
            // A change is pending, so that every part of a record is there.
            let mut config = record("victim", 50).config;
            config.global = limits(60, TokenType::Input);
            config.assets.insert(asset(), limits(70, TokenType::Total));
            let updated = knowing.update(&workspace(), &key("victim"), 1, &config).await;
            updated.expect("a change");
            (knowing, builder().max_remembered_limits(1).connect().await.expect("a store"))
        });
        let mut server = Server::connect(url, &prefix);
        let (state, other_state) = (server.read('k', "victim"), server.read('k', "other"));
        let (record, other_record) = (server.read('m', "victim"), server.read('m', "other"));
        let seen = Seen::default();
        Self { runtime, server, knowing, forgetful, state, record, other_state, other_record, seen }
    }

    fn check(&mut self, broken: &Broken) -> Result<(), String> {
        for called in [None, Some(asset())] {
            self.forgetful_decides(broken, called.as_ref())?;
            self.knowing_decides(broken, called.as_ref())?;
        }
        self.restore(broken);
        self.the_rest_answers()
    }

    /// Without limits at hand, a call is decided as a peek has told, or is the same error.
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
        let (state, record) = (self.state.clone(), self.record.clone());
        self.restore(&Broken { state, record, state_type: None, record_type: None });
        let _ =
            self.decide(true, asset)?.map_err(|error| format!("before any damage: {error:?}"))?;

        self.restore(broken);
        let mut with_old_limits = broken.state.clone();
        with_old_limits.retain(|field, _| !matches!(field.first(), Some(b'H' | b'A' | b'T')));
        let limits = self
            .state
            .iter()
            .filter(|(field, _)| matches!(field.first(), Some(b'H' | b'A' | b'T')));
        with_old_limits.extend(limits.map(|(field, value)| (field.clone(), value.clone())));
        self.server.write('k', "oracle", &with_old_limits);
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
        self.server.write('k', "other", &self.other_state);
        let store = if knowing { &self.knowing } else { &self.forgetful };
        self.runtime.block_on(async {
            let call = |id: &str| {
                let (store, id, asset) = (store.clone(), key(id), asset.cloned());
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
        self.runtime.block_on(self.forgetful.peek(&key(id), asset, &charge()))
    }

    /// Nothing panics, and what is no answer is a clear error.
    fn the_rest_answers(&self) -> Result<(), String> {
        let (store, id) = (&self.knowing, key("victim"));
        self.runtime.block_on(async {
            store.usage(&id).await.map_or_else(|error| clear(&error), |_| Ok(()))?;
            store.state(&id).await.map_or_else(|error| clear(&error), |_| Ok(()))?;
            store
                .handle(&id, Some(&asset()))
                .await
                .map_or_else(|error| clear(&error), |_| Ok(()))?;
            let read = store.read(&id).await;
            let version =
                read.as_ref().map_or(2, |read| read.as_ref().map_or(2, |read| read.version));
            read.map_or_else(|error| clear(&error), |_| Ok(()))?;
            let listed = store.list(&workspace(), &Search::default()).await;
            listed.map_or_else(|error| clear(&error), |_| Ok(()))?;
            let mut config = record("victim", 50).config;
            let updated = store.update(&workspace(), &id, version, &config).await;
            updated.map_or_else(|error| refused(&error), |_| Ok(()))?;
            config.name = "victim'".parse().expect("a name");
            let updated = store.update(&workspace(), &id, version, &config).await;
            updated.map_or_else(|error| refused(&error), |_| Ok(()))?;
            let deleted = store.delete(&workspace(), &id).await;
            deleted.map_or_else(|error| refused(&error), |_| Ok(()))
        })
    }

    fn restore(&mut self, broken: &Broken) {
        match broken.state_type {
            None => self.server.write('k', "victim", &broken.state),
            Some(other) => self.server.write_other('k', "victim", other),
        }
        match broken.record_type {
            None => self.server.write('m', "victim", &broken.record),
            Some(other) => self.server.write_other('m', "victim", other),
        }
    }
}

/// As many as whoever runs the tests has set in the environment.
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
        .with_global(limits(40, TokenType::Output))
        .with_asset(asset(), limits(30, TokenType::Total))
        .with_budget(Credits::from_millionths(budget).expect("within bounds"));
    let (id, workspace) = (key(id), workspace());
    NewRecord { id, workspace, kind: KeyKind::Member, config, secret: None, bootstraps: false }
}

fn limits(each: u64, token_type: TokenType) -> Limits {
    let limits = Limits::builder()
        .requests_per_minute(each)
        .requests_per_day(each)
        .tokens_per_minute(each)
        .tokens_per_day(each);
    limits.token_type(token_type).build().expect("within bounds")
}

fn charge() -> Charge {
    let credits = Credits::from_millionths(2).expect("within bounds");
    Charge::request().with_tokens(3, 4).expect("within bounds").with_credits(credits)
}

fn key(id: &str) -> KeyId {
    id.parse().expect("a short id")
}

fn asset() -> AssetId {
    "m1".parse().expect("a short id")
}

fn workspace() -> WorkspaceId {
    "w".parse().expect("a short id")
}

const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
const CASES: u32 = 400;
/// Tests run in the directory of their crate.
const REGRESSIONS: &str = "proptest-regressions/corruption.txt";
