//! Decisions a second: clients in turns, on one server, with which they share the machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limiter_test_servers::RedisServer;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::keys::Keys;
use super::plain::Plain;
use crate::figures::Figures;
use crate::rounds::median;
use crate::workload::Random;

/// A client that makes decisions. Clones share the connection.
pub trait Client: Clone + Send + Sync + 'static {
    /// Gets ready for a turn, untimed.
    fn begin(&mut self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// Leaves nothing that would disturb the turn of another.
    fn end(&mut self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// Decides about a key, by its number.
    fn decide(&self, key: usize) -> impl Future<Output = ()> + Send;
}

impl Client for Keys {
    async fn decide(&self, key: usize) {
        self.allow(key, 0).await;
    }
}

/// A load: a number of tasks that decide at once, each about one key after the other.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The name of its figures.
    pub name: &'static str,
    /// The number of keys, all equally likely, or that of calls among which one is drawn.
    pub keys: usize,
    /// The number of tasks.
    pub tasks: usize,
}

impl Load {
    /// Every load, in the order of the reports.
    pub const ALL: [Self; 4] = [
        Self { name: "rate_1000_keys_64_tasks", keys: Keys::MOST, tasks: 64 },
        Self { name: "rate_1000_keys_512_tasks", keys: Keys::MOST, tasks: 512 },
        Self { name: "rate_one_key_64_tasks", keys: 1, tasks: 64 },
        Self { name: "rate_one_key_512_tasks", keys: 1, tasks: 512 },
    ];
}

/// The duration of a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds for each load, in which each client has a turn.
    pub rounds: usize,
    /// The duration of a turn.
    pub turn: Duration,
}

impl Effort {
    /// For the published figures.
    pub const FULL: Self = Self { rounds: 11, turn: Duration::from_millis(700) };

    /// A short run that shows that all works.
    pub const QUICK: Self = Self { rounds: 3, turn: Duration::from_millis(150) };
}

/// Adds, for each load, the rates of the store and of the plain client, and the median of the rounds' ratios.
pub async fn measure(server: &RedisServer, effort: Effort, figures: &mut Figures) {
    let mut ours = Keys::connect(&server.url()).await;
    for key in 0..Keys::MOST {
        ours.create(key, 1).await;
    }
    let mut plain = Plain::connect(server, &ours, Keys::MOST).await;
    for load in Load::ALL {
        let rounds = rounds(&mut ours, &mut plain, load, effort).await;
        let of =
            |figure: fn(&[f64; 2]) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
        figures.add(load.name, of(|[ours, plain]| ours / plain));
        figures.add(&format!("{}_ours", load.name), of(|[ours, _]| *ours));
        figures.add(&format!("{}_plain", load.name), of(|[_, plain]| *plain));
    }
}

/// Returns the decisions a second of two clients, in each round. The order alternates, so that no client always comes
/// second.
pub async fn rounds(
    one: &mut impl Client,
    other: &mut impl Client,
    load: Load,
    effort: Effort,
) -> Vec<[f64; 2]> {
    let mut rounds = Vec::with_capacity(effort.rounds);
    for round in 0..effort.rounds {
        rounds.push(if round % 2 == 0 {
            let one = turn(one, load, effort.turn).await;
            [one, turn(other, load, effort.turn).await]
        } else {
            let other = turn(other, load, effort.turn).await;
            [turn(one, load, effort.turn).await, other]
        });
        let [one, other] = rounds[round];
        eprintln!("  {:26} {one:>9.0} {other:>9.0}", load.name);
    }
    rounds
}

/// Returns the decisions a second in one turn, after a lead-in that does not count.
pub async fn turn(client: &mut impl Client, load: Load, turn: Duration) -> f64 {
    client.begin().await;
    let decided = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for task in 0..load.tasks {
        let (client, decided, over) = (client.clone(), Arc::clone(&decided), Arc::clone(&over));
        tasks.spawn(async move {
            let mut random = Random(task as u64);
            while !over.load(Ordering::Relaxed) {
                client.decide(random.below(load.keys)).await;
                decided.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    sleep(turn / LEAD_IN_DIVISOR).await;
    let (start, before) = (Instant::now(), decided.load(Ordering::Relaxed));
    sleep(turn).await;
    let (took, after) = (start.elapsed(), decided.load(Ordering::Relaxed));
    over.store(true, Ordering::Relaxed);
    tasks.join_all().await;
    client.end().await;
    (after - before) as f64 / took.as_secs_f64()
}

/// The part of a turn that is added before it, untimed.
const LEAD_IN_DIVISOR: u32 = 4;
