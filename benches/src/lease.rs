//! Decisions from leases, compared with direct decisions. All clients use one Redis server on the same machine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use limiter_core::{
    Allowed, AssetId, Charge, Decision, KeyConfig, KeyId, KeyKind, Limits, NewRecord, Store,
    Thresholds, Unit, Window,
};
use limiter_lease::LeasedStore;
use limiter_redis::RedisStore;
use limiter_test_servers::RedisServer;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::figures::Figures;
use crate::ours;
use crate::redis::keys::{Keys, asset_id, id, new_record};
use crate::redis::minute;
use crate::redis::plain::Plain;
use crate::redis::rates::{self, Client, Load, turn};
use crate::redis::targets::Target;
use crate::rounds::median;
use crate::workload::{Random, zipf};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    rates: rates::Effort,
    /// Keys of the load in which some have many calls and most have few.
    keys: usize,
    /// The limit of each key that is used up, in requests.
    pub limit: u64,
    /// The limit of the key that is asked for three times as much, in tokens a minute.
    tokens: u64,
}

impl Effort {
    /// For the published figures.
    pub const FULL: Self =
        Self { rates: rates::Effort::FULL, keys: 10_000, limit: 20_000, tokens: 1_000_000 };

    /// A short run that shows that all works.
    pub const QUICK: Self =
        Self { rates: rates::Effort::QUICK, keys: 1_000, limit: 1_000, tokens: 100_000 };
}

/// Adds all figures.
///
/// # Panics
/// If the server is not there, or a call is not answered as it must be.
pub async fn measure(server: &RedisServer, effort: Effort, figures: &mut Figures) {
    let url = server.url();
    let (direct, leased) = (connect(&url).await, LeasedStore::new(connect(&url).await));
    create(&direct, (0..effort.keys).map(record).collect()).await;

    let hot: Arc<[KeyId]> = (0..HOT).map(id).collect();
    let of = |store: &Arc<dyn Store>, keys: &Arc<[KeyId]>| Calls::new(Arc::clone(store), keys);
    let (direct, by_lease): (Arc<dyn Store>, Arc<dyn Store>) =
        (Arc::new(direct), Arc::new(leased.clone()));

    let load = Load { name: "lease_100_keys", keys: HOT, tasks: TASKS };
    let (mut ours, mut theirs) = (of(&by_lease, &hot), of(&direct, &hot));
    let rounds = rates::rounds(&mut ours, &mut theirs, load, effort.rates).await;
    figures.add("decisions_per_s_100_keys", middle(&rounds, |[ours, _]| *ours));
    figures.add("direct_per_s_100_keys", middle(&rounds, |[_, direct]| *direct));
    figures.add("over_direct_100_keys", middle(&rounds, |[ours, direct]| ours / direct));

    let mut plain = Plain::connect(server, &Keys::connect(&url).await, HOT).await;
    let load = Load { name: "lease_over_plain", ..load };
    let rounds = rates::rounds(&mut ours, &mut plain, load, effort.rates).await;
    figures.add("over_plain_100_keys", middle(&rounds, |[ours, plain]| ours / plain));

    let calls = zipf(effort.keys, 1 << 16, &mut Random(1)).into_iter();
    let calls: Arc<[KeyId]> = calls.map(|key| id(key as usize)).collect();
    let load = Load { name: "lease_zipf", keys: calls.len(), tasks: MANY_TASKS };
    let (mut ours, mut theirs) = (of(&by_lease, &calls), of(&direct, &calls));
    let rounds = rates::rounds(&mut ours, &mut theirs, load, effort.rates).await;
    figures.add("decisions_per_s_10000_keys_zipf", middle(&rounds, |[ours, _]| *ours));
    figures.add("over_direct_10000_keys_zipf", middle(&rounds, |[ours, direct]| ours / direct));

    local_times(&leased, &of(&by_lease, &hot), effort, figures).await;
    denials(&direct, &by_lease, effort, figures).await;
    let mut over = exhausted(&url, &direct, effort, figures).await;
    over += one_minute(&url, &direct, effort, figures).await;
    figures.add("over_admitted", over as f64);
}

/// How long a decision takes that is made in the process, and how often the store is asked meanwhile.
async fn local_times(leased: &LeasedStore, calls: &Calls, effort: Effort, figures: &mut Figures) {
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (calls, over) = (calls.clone(), Arc::clone(&over));
        tasks.spawn(async move {
            let (mut random, mut took) = (Random(task as u64), Vec::new());
            while !over.load(Ordering::Relaxed) {
                let called = random.below(HOT);
                let asked = Instant::now();
                let decision = calls.call(called).await;
                if decision.allowed().is_some_and(Allowed::leased) {
                    took.push(u32::try_from(asked.elapsed().as_nanos()).unwrap_or(u32::MAX));
                }
            }
            took
        });
    }
    // Until it is known what the keys need.
    sleep(effort.rates.turn * 2).await;
    let (before, started) = (leased.figures(), Instant::now());
    sleep(effort.rates.turn * 4).await;
    let (after, seconds) = (leased.figures(), started.elapsed().as_secs_f64());
    over.store(true, Ordering::Relaxed);
    let mut took = tasks.join_all().await.concat();
    took.sort_unstable();
    let at = |part: f64| f64::from(took[(took.len() as f64 * part) as usize]) / 1_000.0;
    figures.add("p50_local_us", at(0.5));
    figures.add("p99_local_us", at(0.99));
    let asked = |it: limiter_lease::Figures| it.asked + it.handed_back + it.direct;
    let asked = (asked(after) - asked(before)) as f64;
    figures.add("store_operations_per_key_s", asked / seconds / HOT as f64);
    let (local, direct) = (after.local - before.local, after.direct - before.direct);
    figures.add("local_share", local as f64 / (local + direct) as f64);
}

/// Denials a second of a key that has used up what it may.
async fn denials(
    direct: &Arc<dyn Store>,
    leased: &Arc<dyn Store>,
    effort: Effort,
    figures: &mut Figures,
) {
    let full = limited("full", Limits::builder().limit(Window::Ever, Unit::Requests, 1));
    let key: Arc<[KeyId]> = [full.id.clone()].into();
    create(&**direct, vec![full]).await;
    let calls = Calls::new(Arc::clone(leased), &key);
    assert!(calls.call(0).await.is_allowed());
    let load = Load { name: "lease_denied", keys: 1, tasks: TASKS };
    let mut denied = Denials(calls);
    let mut rates = Vec::new();
    for _ in 0..effort.rates.rounds {
        rates.push(turn(&mut denied, load, effort.rates.turn).await);
    }
    figures.add("denied_per_s", median(&rates));
}

/// Two processes use up a hundred keys, as fast as they can. Returns how much too much they were allowed.
async fn exhausted(
    url: &str,
    direct: &Arc<dyn Store>,
    effort: Effort,
    figures: &mut Figures,
) -> u64 {
    let records: Vec<NewRecord> = (0..HOT)
        .map(|key| {
            limited(
                &format!("used-up-{key}"),
                Limits::builder().limit(Window::Ever, Unit::Requests, effort.limit),
            )
        })
        .collect();
    let keys: Arc<[KeyId]> = records.iter().map(|record| record.id.clone()).collect();
    create(&**direct, records).await;
    let one = async || Calls::new(Arc::new(LeasedStore::new(connect(url).await)), &keys);
    let admitted = use_up([one().await, one().await], TASKS / 2).await;
    let least = admitted.iter().min().copied().unwrap_or_default();
    figures.add("admitted_of_limit", least as f64 / effort.limit as f64);
    admitted.iter().map(|admitted| admitted.saturating_sub(effort.limit)).sum()
}

/// A process that calls until nothing more is allowed.
pub trait Admits: Clone + Send + Sync + 'static {
    /// Whether another call of a key is allowed, by its number.
    fn admits(&self, key: usize) -> impl Future<Output = bool> + Send;
}

/// Two processes call a hundred keys as fast as they can, until all is used up. Returns how many calls of each were allowed.
///
/// # Panics
/// If a call is not answered.
pub async fn use_up(processes: [impl Admits; 2], tasks_each: usize) -> Vec<u64> {
    let admitted: Arc<[AtomicU64]> = (0..HOT).map(|_| AtomicU64::new(0)).collect();
    let mut tasks = JoinSet::new();
    for process in processes {
        for first in 0..tasks_each {
            let (process, admitted) = (process.clone(), Arc::clone(&admitted));
            tasks.spawn(async move {
                let mut open: Vec<usize> = (0..HOT).collect();
                open.rotate_left(first);
                while !open.is_empty() {
                    let mut is_open = Vec::with_capacity(open.len());
                    for key in open {
                        if process.admits(key).await {
                            admitted[key].fetch_add(1, Ordering::Relaxed);
                            is_open.push(key);
                        }
                    }
                    open = is_open;
                }
            });
        }
    }
    tasks.join_all().await;
    admitted.iter().map(|of| of.load(Ordering::Relaxed)).collect()
}

/// Adds a peer's decisions a second, and their ratio to our direct decisions. One task calls the peer, which leaves a thread to its
/// background work.
///
/// # Panics
/// If the server is not there.
pub async fn measure_peer(
    peer: &mut impl Client,
    server: &RedisServer,
    effort: Effort,
    figures: &mut Figures,
) {
    let mut ours = Keys::connect(&server.url()).await;
    for key in 0..HOT {
        ours.create(key, 1).await;
    }
    let load = Load { name: "lease_limitador", keys: HOT, tasks: TASKS };
    let (mut rounds, turns) = (Vec::new(), effort.rates);
    for _ in 0..turns.rounds {
        let peer = turn(peer, Load { tasks: 1, ..load }, turns.turn).await;
        rounds.push([peer, turn(&mut ours, load, turns.turn).await]);
    }
    figures.add("limitador_per_s_100_keys", middle(&rounds, |[peer, _]| *peer));
    figures.add("limitador_over_direct_100_keys", middle(&rounds, |[peer, ours]| peer / ours));
}

/// A limit of tokens a minute is asked for three times as much, by two processes with leases and by two without, each pair with
/// a key of its own. Returns how much too much was allowed.
async fn one_minute(
    url: &str,
    direct: &Arc<dyn Store>,
    effort: Effort,
    figures: &mut Figures,
) -> u64 {
    let records: Vec<_> = ["minute-leased", "minute-direct"]
        .map(|id| limited(id, Limits::builder().tokens_per_minute(effort.tokens)))
        .into();
    let ids: Vec<KeyId> = records.iter().map(|record| record.id.clone()).collect();
    create(&**direct, records).await;
    minute::next().await;
    let demand = async |store: [Arc<dyn Store>; 2], key: &KeyId| {
        let both = store.map(|store| demand(store, key.clone(), effort.tokens));
        let [one, other] = both;
        let (one, other) = tokio::join!(one, other);
        Admitted::sum(one, other)
    };
    let leased: [Arc<dyn Store>; 2] = [
        Arc::new(LeasedStore::new(connect(url).await)),
        Arc::new(LeasedStore::new(connect(url).await)),
    ];
    let stores: [Arc<dyn Store>; 2] = [Arc::new(connect(url).await), Arc::new(connect(url).await)];
    let (leased, one_by_one) = tokio::join!(demand(leased, &ids[0]), demand(stores, &ids[1]));
    let took = |admitted: &Admitted| admitted.last_sixteenth(effort.tokens).as_secs_f64() * 1_000.0;
    figures.add("minute_admitted_of_limit", leased.tokens() as f64 / effort.tokens as f64);
    figures.add("last_sixteenth_ms", took(&leased));
    figures.add("last_sixteenth_direct_ms", took(&one_by_one));
    figures.add("last_sixteenth_later_ms", took(&leased) - took(&one_by_one));
    leased.tokens().saturating_sub(effort.tokens)
}

/// When tokens were admitted: how many after how long.
struct Admitted(Vec<(Duration, u64)>);

impl Admitted {
    fn sum(one: Self, other: Self) -> Self {
        let mut all = [one.0, other.0].concat();
        all.sort_unstable();
        Self(all)
    }

    fn tokens(&self) -> u64 {
        self.0.iter().map(|(_, tokens)| tokens).sum()
    }

    /// How long it took to admit the last sixteenth of a limit.
    fn last_sixteenth(&self, limit: u64) -> Duration {
        let mut sum = 0;
        let before = self.0.iter().find(|(_, tokens)| {
            sum += tokens;
            sum >= limit / 16 * 15
        });
        let [before, last] = [before, self.0.last()].map(|it| it.map_or(Duration::ZERO, |it| it.0));
        last - before
    }
}

/// Half of the demand for a key, for as long as it takes to use the limit up twice.
async fn demand(store: Arc<dyn Store>, key: KeyId, limit: u64) -> Admitted {
    let charge = Charge::request().with_tokens(TOKENS, 0).expect("few tokens");
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (began, mut admitted) = (Instant::now(), Vec::new());
    // 50,000 tokens a second, by two: three times a million a minute.
    let calls_of_a_beat = 50_000 / 2 / TOKENS * BEAT.as_millis() as u64 / 1_000;
    for _ in 0..limit * 2 / 50_000 * 1_000 / BEAT.as_millis() as u64 {
        beat.tick().await;
        let mut tokens = 0;
        for _ in 0..calls_of_a_beat {
            let decided = store.check_and_consume(&key, None, &charge).await;
            tokens += u64::from(decided.expect("the server decides").is_allowed()) * TOKENS;
        }
        if tokens > 0 {
            admitted.push((began.elapsed(), tokens));
        }
    }
    Admitted(admitted)
}

/// Calls of one store, each with one of these keys.
#[derive(Clone)]
struct Calls {
    store: Arc<dyn Store>,
    keys: Arc<[KeyId]>,
    asset: AssetId,
    charge: Charge,
}

impl Calls {
    fn new(store: Arc<dyn Store>, keys: &Arc<[KeyId]>) -> Self {
        Self { store, keys: Arc::clone(keys), asset: asset_id(0), charge: ours::charge() }
    }

    async fn call(&self, number: usize) -> Decision {
        let (key, asset) = (&self.keys[number], Some(&self.asset));
        let decided = self.store.check_and_consume(key, asset, &self.charge).await;
        decided.expect("the server decides")
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Admits for Calls {
    async fn admits(&self, key: usize) -> bool {
        self.call(key).await.is_allowed()
    }
}

impl Client for Calls {
    /// Leases go back.
    async fn end(&mut self) {
        assert!(self.store.flush(PATIENCE).await.is_nothing());
    }

    async fn decide(&self, number: usize) {
        let decision = self.call(number).await;
        assert!(decision.is_allowed(), "{decision:?}");
    }
}

/// Calls that are all denied.
#[derive(Clone, Debug)]
struct Denials(Calls);

impl Client for Denials {
    async fn decide(&self, number: usize) {
        assert!(!self.0.call(number).await.is_allowed());
    }
}

async fn connect(url: &str) -> RedisStore {
    let store = RedisStore::builder(url).command_deadline(PATIENCE).connect().await;
    store.expect("the server accepts a store")
}

async fn create(store: &dyn Store, records: Vec<NewRecord>) {
    for records in records.chunks(1_000) {
        let created = store.create_many(records.to_vec()).await.expect("the server answers");
        created.into_iter().for_each(|created| drop(created.expect("the key is new")));
    }
}

/// A key with eight rules, none of which is ever reached.
fn record(number: usize) -> NewRecord {
    new_record(KeyKind::Member, id(number), number, ours::limits(), 1)
}

/// A key with these limits over all its calls.
fn limited(id: &str, limits: limiter_core::LimitsBuilder) -> NewRecord {
    NewRecord {
        id: id.parse().expect("an id"),
        workspace: "w".parse().expect("a workspace's id"),
        kind: KeyKind::Member,
        config: KeyConfig::named(id).expect("a name").with_global(limits.build().expect("limits")),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    }
}

fn middle(rounds: &[[f64; 2]], figure: fn(&[f64; 2]) -> f64) -> f64 {
    median(&rounds.iter().map(figure).collect::<Vec<_>>())
}

/// The table: each figure, its target, and what it is.
#[must_use]
pub fn table(figures: &Figures, version: &str) -> String {
    let mut text = format!("{:34} {:>11} {:22} {}\n", "figure", "", "target", "description");
    for (name, target, meaning) in ROWS {
        let Some(figure) = figures.of(name) else { continue };
        let digits = if figure.abs() < 100.0 { 3 } else { 0 };
        let verdict = target.verdict(figure);
        text += &format!("{name:34} {figure:>11.digits$} {verdict:22} {meaning}\n");
    }
    text + &format!(
        "\nServer: {version}. Callers and server share this machine. Each decision has eight rules, a budget and an expiry; {TASKS} \
         tasks\nmake them, {MANY_TASKS} where there are 10,000 keys. Rates are medians of rounds in which the clients take turns, \
         and of the\nrounds' own ratios.\n"
    )
}

const ROWS: &[(&str, Target, &str)] = &[
    ("decisions_per_s_100_keys", Target::AtLeast(2_000_000.0), "100 hot keys"),
    ("direct_per_s_100_keys", Target::None, "the same, each decided by Redis"),
    ("over_direct_100_keys", Target::AtLeast(15.0), "the ratio of both"),
    ("over_plain_100_keys", Target::None, "over a connection that batches nothing"),
    ("decisions_per_s_10000_keys_zipf", Target::None, "10,000 keys by Zipf's law, 0.99"),
    ("over_direct_10000_keys_zipf", Target::AtLeast(3.0), "over the same, each decided by Redis"),
    ("p50_local_us", Target::None, "microseconds of a decision out of a lease: half take less"),
    ("p99_local_us", Target::AtMost(5.0), "99 of 100 take less"),
    ("local_share", Target::None, "decisions out of leases, of all, 100 hot keys"),
    ("store_operations_per_key_s", Target::AtMost(25.0), "grants, hand-backs and direct decisions"),
    ("denied_per_s", Target::AtLeast(2_000_000.0), "calls of a key that has used up what it may"),
    ("over_admitted", Target::AtMost(0.0), "calls and tokens too many, of all that follows"),
    ("admitted_of_limit", Target::AtLeast(1.0), "100 keys that two processes use up: the least"),
    ("minute_admitted_of_limit", Target::AtLeast(1.0), "tokens of a minute, asked for three times"),
    ("last_sixteenth_ms", Target::None, "how long the last sixteenth of them took"),
    ("last_sixteenth_direct_ms", Target::None, "the same, each call decided by Redis"),
    ("last_sixteenth_later_ms", Target::AtMost(300.0), "the difference: three times of a lease"),
    (
        "limitador_over_direct_100_keys",
        Target::None,
        "limitador's cached storage over ours, direct",
    ),
    ("limitador_admitted_of_limit", Target::None, "what two of them admit of a limit"),
];

const HOT: usize = 100;
const TASKS: usize = 64;
const MANY_TASKS: usize = 512;
/// Of a call of the key that is asked for too much.
const TOKENS: u64 = 10;
const BEAT: Duration = Duration::from_millis(10);
/// The machine is busy.
const PATIENCE: Duration = Duration::from_secs(30);
