//! Clients whose limits, windows and clocks are stale in every way answer as the model does.
//!
//! Two or three clients share keys. Before an operation any of them may mistake the time, by up to two minutes or two days,
//! forget what is at hand, or believe again what it or another had at hand before; each call is by a client at random. Keys are
//! deleted and made again under the same id.
//!
//! | environment | |
//! |---|---|
//! | `LIMITER_TEST_STALE` | at least how many decisions, 500,000 by default |
//! | `LIMITER_TEST_SEED` | the seed of the first history; each one after it has the next |

mod clients;
mod entries;
mod starvation;
mod tally;
mod whim;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, process, thread};

use limiter_conformance::generate;
use limiter_conformance::model::{Bounds, Model};
use limiter_conformance::player::Player;
use limiter_conformance::replay::{Action, Operation, to_jsonl};
use limiter_core::{LedgerBounds, ManualClock, Timestamp};
use limiter_redis::RedisStore;
use limiter_test_servers::shared;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::task::{JoinSet, LocalSet};

use crate::common;
use clients::Clients;
use tally::{Tally, decides};
use whim::{Saved, Whim, makes_again};

#[test]
fn stale_clients_answer_as_the_model_does() {
    let wanted = number_from("LIMITER_TEST_STALE").unwrap_or(DECISIONS);
    let seed = number_from("LIMITER_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("LIMITER_TEST_SEED={seed}");
    let (begun, run) = (Instant::now(), Arc::new(Run::new(seed, wanted)));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let run = Arc::clone(&run);
            scope.spawn(move || LocalSet::new().block_on(&runtime(), run.on_thread(thread)));
        }
    });
    if let Some(seed) = *run.broken.lock().expect("no thread has failed") {
        shrink_and_panic(seed);
    }
    let total = run.total.lock().expect("no thread has failed");
    println!(
        "{total}\n{} histories in {:.1?}, all answered as the model answers",
        total.histories,
        begun.elapsed()
    );
    assert!(total.decisions >= wanted, "{} decisions are too few", total.decisions);
}

/// The histories of one run of the test.
struct Run {
    wanted: u64,
    /// The next seed of each kind.
    next: [AtomicU64; Kind::ALL.len()],
    total: Mutex<Tally>,
    broken: Mutex<Option<u64>>,
}

impl Run {
    fn new(seed: u64, wanted: u64) -> Self {
        let kinds = Kind::ALL.len() as u64;
        let first = |kind: usize| seed.wrapping_add((kind as u64 + kinds - seed % kinds) % kinds);
        let next = std::array::from_fn(|kind| AtomicU64::new(first(kind)));
        Self { wanted, next, total: Mutex::default(), broken: Mutex::default() }
    }

    /// Plays histories in many worlds at once, by one connection for each of the clients: so the system calls of a trip are
    /// shared.
    async fn on_thread(self: Arc<Self>, thread: usize) {
        let connections = Connections::open().await;
        let mut worlds = JoinSet::new();
        for number in 0..WORLDS {
            let kind = number % Kind::ALL.len();
            let world = World::new(&format!("{thread}-{number}"), kind, &connections).await;
            worlds.spawn_local(Arc::clone(&self).in_world(world, kind));
        }
        while let Some(world) = worlds.join_next().await {
            world.expect("no world panics");
        }
    }

    async fn in_world(self: Arc<Self>, mut world: World, kind: usize) {
        let mut enough = false;
        while !enough {
            let seed = self.next[kind].fetch_add(Kind::ALL.len() as u64, Ordering::Relaxed);
            let (history, whims) = Kind::ALL[kind].tree(seed).current();
            let broken = world.agrees(&history, &whims).await.err().map(|broken| {
                println!("LIMITER_TEST_SEED={seed}: {broken}");
                seed
            });
            enough = self.add(&std::mem::take(&mut world.tally), broken);
        }
    }

    /// Answers whether it is enough.
    fn add(&self, tally: &Tally, broken: Option<u64>) -> bool {
        let mut total = self.total.lock().expect("no thread has failed");
        total.add(tally);
        let mut first = self.broken.lock().expect("no thread has failed");
        *first = first.or(broken);
        first.is_some() || total.decisions >= self.wanted
    }
}

/// A record of more than twelve limits was called corrupt; a denial said that no retry helps, by the record of other assets as
/// it was before the clock was set right; a key made again under its old id took a slot of the one before it, or found one that
/// it had left, which the specification leaves open; a client whose clock was ahead ended the last day of a key's old time zone
/// when hours of it were left; and a reservation without a request took a trip too many, since what it had read was read again; one of
/// a key whose plan changed meanwhile found no key, since that was over by the new plan; and a caller whose plan had changed was
/// told when to retry by a record of another asset that was not read.
#[test]
fn histories_that_once_diverged_agree() {
    let seeds = [
        (2, 16347177277762261262_u64),
        (0, 9201800975084012040),
        (7, 10633577638218338671),
        (2, 14426833272820329530),
        (9, 18393035560691698123),
        (8, 3666397151723738024),
        (11, 4167479764458481612),
        (12, 18148401149108681762),
    ];
    for (number, seed) in seeds {
        let (history, whims) = Kind::ALL[number].tree(seed).current();
        runtime().block_on(async {
            let mut world = World::new(&seed.to_string(), number, &Connections::open().await).await;
            world
                .agrees(&history, &whims)
                .await
                .unwrap_or_else(|broken| panic!("{seed}: {broken}"));
        });
    }
}

/// Plays the history of a seed again, shrinks it, and shows it.
fn shrink_and_panic(seed: u64) -> ! {
    let number = (seed % Kind::ALL.len() as u64) as usize;
    let runtime = runtime();
    let mut world =
        runtime.block_on(async { World::new("shrink", number, &Connections::open().await).await });
    let world = std::cell::RefCell::new(&mut world);
    let config = Config {
        failure_persistence: None,
        // The largest number stands for a small one.
        max_shrink_iters: u32::MAX - 1,
        max_shrink_time: SHRINK_MS,
        ..Config::default()
    };
    let again =
        TestRunner::new(config).run_one(Kind::ALL[number].tree(seed), |(history, whims)| {
            let agrees = runtime.block_on(world.borrow_mut().agrees(&history, &whims));
            agrees.map_err(TestCaseError::fail)
        });
    let repeat = format!("To repeat it: LIMITER_TEST_SEED={seed} LIMITER_TEST_STALE=1");
    match again {
        Err(TestError::Fail(reason, (history, whims))) => {
            panic!(
                "{reason}\n{repeat}\nThe history and the whims:\n{}\n{whims:?}",
                to_jsonl(&history)
            )
        }
        other => panic!("it fails in the company of others alone ({other:?})\n{repeat}"),
    }
}

/// A connection for each client.
struct Connections(Vec<RedisStore>);

impl Connections {
    async fn open() -> Self {
        let mut connections = Vec::new();
        for _ in 0..MOST_CLIENTS {
            let builder = common::empty(shared().url());
            connections.push(builder.connect().await.expect("the test server accepts a store"));
        }
        Self(connections)
    }
}

/// Clients of one prefix, and a player that knows them as one store.
struct World {
    clients: Clients,
    player: Player,
    bounds: Bounds,
    saved: Saved,
    tally: Tally,
    most_trips: u64,
}

/// A kind of history, and of world.
#[derive(Clone, Copy, Debug)]
struct Kind {
    histories: Histories,
    clients: usize,
    bounds: Bounds,
}

#[derive(Clone, Copy, Debug)]
enum Histories {
    /// Of checks, without ids.
    Checks,
    /// Of reservations too.
    Reservations,
    /// Of keys that belong to groups.
    Groups,
    /// Of keys and groups that have plans.
    Plans,
    /// Of unregistered keys, beneath open groups.
    Open,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::with(Histories::Checks, 3, LARGE),
        Self::with(Histories::Checks, 2, LARGE),
        Self::with(Histories::Reservations, 2, LARGE),
        Self::with(Histories::Reservations, 3, LARGE),
        Self::with(Histories::Reservations, 2, Bounds { open: 1, ended: 2, checks: 1 }),
        Self::with(Histories::Reservations, 3, Bounds { open: 2, ended: 1, checks: 1 }),
        Self::with(Histories::Groups, 2, LARGE),
        Self::with(Histories::Groups, 3, LARGE),
        Self::with(Histories::Groups, 3, Bounds { open: 2, ended: 2, checks: 1 }),
        Self::with(Histories::Plans, 2, LARGE),
        Self::with(Histories::Plans, 3, Bounds { open: 2, ended: 2, checks: 1 }),
        Self::with(Histories::Open, 2, LARGE),
        Self::with(Histories::Open, 3, LARGE),
    ];

    const fn with(histories: Histories, clients: usize, bounds: Bounds) -> Self {
        Self { histories, clients, bounds }
    }

    /// The history of a seed, and what it shrinks to.
    fn tree(self, seed: u64) -> impl ValueTree<Value = (Vec<Operation>, Vec<Whim>)> {
        let rng = TestRng::from_seed(RngAlgorithm::XorShift, &[seed.to_le_bytes(); 2].concat());
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let histories = match self.histories {
            Histories::Checks => generate::histories(STEPS).boxed(),
            Histories::Reservations => generate::histories_with_reservations(STEPS).boxed(),
            Histories::Groups => generate::histories_with_groups(STEPS).boxed(),
            Histories::Plans => generate::histories_with_plans(STEPS).boxed(),
            Histories::Open => generate::histories_with_open_groups(STEPS).boxed(),
        };
        let strategy = (histories, vec(any::<Whim>(), WHIMS));
        strategy.new_tree(&mut runner).expect("nothing is filtered")
    }
}

type Broken = String;

impl World {
    async fn new(name: &str, kind: usize, connections: &Connections) -> Self {
        let Kind { clients, bounds, .. } = Kind::ALL[kind];
        let clock = ManualClock::at(Timestamp::from_unix_ms(0));
        let Bounds { open, ended, checks } = bounds;
        let remembered = LedgerBounds { open, ended, checks, ..LedgerBounds::default() };
        let prefix = format!("stale-{}-{name}", process::id());
        let clients = connections.0[..clients].iter().map(|connection| {
            let builder = common::empty("").key_prefix(&prefix).max_remembered_limits(MOST_KNOWN);
            let builder = builder.command_deadline(DEADLINE);
            let builder = builder.ledger_bounds(remembered).clock(clock.clone());
            builder.share_connection(connection).expect("settings within bounds")
        });
        let clients = Clients::new(clients);
        let player = Player::new(Arc::new(clients.clone()), clock).await;
        let player = player.expect("an empty store takes an admin key");
        Self {
            clients,
            player,
            bounds,
            saved: Saved::default(),
            tally: Tally::default(),
            most_trips: MOST_TRIPS,
        }
    }

    async fn agrees(&mut self, history: &[Operation], whims: &[Whim]) -> Result<(), Broken> {
        self.player.begin_with_ids_of_labels();
        self.saved.clear(&self.clients);
        self.tally.histories += 1;
        let is_plan = |operation: &Operation| matches!(operation.action, Action::Plan(_));
        let has_plans = history.iter().any(is_plan);
        self.most_trips = if has_plans { MOST_TRIPS_WITH_PLANS } else { MOST_TRIPS };
        let mut model = Model::bounded(self.bounds);
        for (number, operation) in history.iter().enumerate() {
            let whim = whims.get(number).copied().unwrap_or_default();
            self.saved.befall(whim, &self.clients);
            if makes_again(whim) {
                for operation in again(&history[..=number]) {
                    self.answers(&mut model, number, &operation).await?;
                }
            }
            if model.specifies(operation) {
                self.answers(&mut model, number, operation).await?;
            }
        }
        Ok(())
    }

    async fn answers(
        &mut self,
        model: &mut Model,
        number: usize,
        operation: &Operation,
    ) -> Result<(), Broken> {
        let line = || format!("line {}, {}", number + 1, operation.to_line());
        let expected = model.answer(operation);
        self.clients.take_trips();
        let answer = self.player.play(operation).await;
        let answer = answer.map_err(|error| format!("{} has no answer: {error}", line()))?;
        let trips = self.clients.take_trips();
        self.tally.count(operation, trips);
        if decides(operation) && trips > self.most_trips {
            return Err(format!("{} took {trips} trips", line()));
        }
        if answer != expected {
            return Err(format!(
                "{} is answered wrongly\n  the model answers {expected:?}\n  the store answers {answer:?}",
                line()
            ));
        }
        Ok(())
    }
}

/// The key of the last operation deleted, and made again as it was made last.
fn again(history: &[Operation]) -> Vec<Operation> {
    let Some((last, before)) = history.split_last() else { return Vec::new() };
    let made = before.iter().rev().find_map(|operation| match &operation.action {
        Action::Create(create) => Some(create.clone()),
        _ => None,
    });
    let Some(create) = made else { return Vec::new() };
    let delete = Action::Delete { key: create.key.clone() };
    let at = last.at;
    vec![Operation { at, action: delete }, Operation { at, action: Action::Create(create) }]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn number_from(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, but must be a number")))
}

const DECISIONS: u64 = 500_000;
/// The server needs about as much of a machine of two cores as one of them.
const THREADS: usize = 2;
/// For each thread. Enough that the server and the clients seldom wait for each other.
const WORLDS: usize = 18;
/// Long for a busy machine, and short for what never ends.
const DEADLINE: Duration = Duration::from_secs(10);
const MOST_CLIENTS: usize = 3;
/// More than the keys, the groups and the assets of a history.
const MOST_KNOWN: usize = 64;
const STEPS: std::ops::Range<usize> = 1..200;
/// One for each step, and for the keys and groups made first.
const WHIMS: usize = 208;
/// The scripts that one client sends for one operation while no other does anything.
const MOST_TRIPS: u64 = 5;
/// By a manual clock, a process reads the plan of each level each time that it looks at the level; and each level takes it in two.
const MOST_TRIPS_WITH_PLANS: u64 = 32;
/// Long enough for a history of a few lines.
const SHRINK_MS: u32 = 60_000;
const LARGE: Bounds = Bounds { open: 100_000, ended: 100_000, checks: 100_000 };
