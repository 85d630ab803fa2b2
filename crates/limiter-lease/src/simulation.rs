//! Processes with leases on one store, in a simulated network and on simulated clocks: whatever is delayed, lost, repeated or
//! overtaken, and whoever dies, no rule ever admits too much by the clock of the store.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use limiter_conformance::{Around, Called, Interpose};
use limiter_core::{
    CallError, Charge, Decision, Effective, KeyConfig, KeyId, KeyKind, KeyUpdate, Limits,
    ManualClock, NewRecord, Store, StoreError, Thresholds, Timestamp, Unit, WorkspaceId,
};
use limiter_memory::MemoryStore;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::LeasedStoreBuilder;
use crate::bug::Bug;

/// `LIMITER_TEST_LEASE_SEEDS` seeds, from `LIMITER_TEST_SEED` on if that is set.
#[test]
fn no_rule_admits_too_much_whatever_happens_to_leases() {
    let seeds = number_from("LIMITER_TEST_LEASE_SEEDS").unwrap_or(SEEDS);
    let first = number_from("LIMITER_TEST_SEED").unwrap_or(0);
    let mut total = Outcome::default();
    for seed in first..first + seeds {
        let outcome = run(seed, Bug::None);
        assert_eq!(outcome.broken, None, "LIMITER_TEST_SEED={seed}");
        total.add(&outcome);
    }
    println!(
        "{seeds} seeds: {} admitted, {} of them out of leases, {} denied, {} without an answer; windows in which more was asked for than \
         allowed: {}, in the worst of which {} of 1,000 were not admitted, with a process that died or an answer that was lost in it: {} of 1,000",
        total.admitted,
        total.leased,
        total.denied,
        total.unanswered,
        total.full_windows,
        total.worst_shortfall,
        total.worst_shortfall_of_dead,
    );
    assert!(total.leased * 3 > total.admitted, "leases are used");
    assert!(total.full_windows > seeds / 2, "limits are reached");
    assert!(total.worst_shortfall < 150, "too little is admitted");
}

#[test]
fn a_time_that_counts_from_the_answer_is_found() {
    finds(Bug::AnchorsAtTheAnswer);
}

#[test]
fn a_lease_that_goes_on_in_the_next_window_is_found() {
    finds(Bug::GoesOnInTheNextWindow);
}

#[test]
fn a_lease_that_is_drawn_from_while_it_goes_back_is_found() {
    finds(Bug::DrawsFromWhatGoesBack);
}

fn finds(bug: Bug) {
    let found = (0..SEEDS).find_map(|seed| Some((seed, run(seed, bug).broken?)));
    let (seed, broken) = found.unwrap_or_else(|| panic!("{bug:?} is not found in {SEEDS} seeds"));
    println!("{bug:?}: seed {seed}, {broken}");
}

/// What a run has shown.
#[derive(Clone, Debug, Default)]
struct Outcome {
    admitted: u64,
    leased: u64,
    denied: u64,
    unanswered: u64,
    full_windows: u64,
    /// Of a thousand, in windows in which nobody died and no answer was lost.
    worst_shortfall: u64,
    worst_shortfall_of_dead: u64,
    broken: Option<String>,
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.admitted += other.admitted;
        self.leased += other.leased;
        self.denied += other.denied;
        self.unanswered += other.unanswered;
        self.full_windows += other.full_windows;
        self.worst_shortfall = self.worst_shortfall.max(other.worst_shortfall);
        self.worst_shortfall_of_dead =
            self.worst_shortfall_of_dead.max(other.worst_shortfall_of_dead);
    }
}

fn run(seed: u64, bug: Bug) -> Outcome {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async { Scene::new(seed, bug).play().await })
}

/// The store, the callers, and what they have seen.
struct Scene {
    random: Random,
    bug: Bug,
    server: Arc<Server>,
    calls: Arc<Mutex<Vec<Call>>>,
}

/// The store, and its clock, by which all is judged.
#[derive(Debug)]
struct Server {
    store: MemoryStore,
    clock: ManualClock,
    began: Instant,
    at_first: Timestamp,
}

/// A call that was answered.
#[derive(Clone, Debug)]
struct Call {
    key: usize,
    charge: Charge,
    /// When it was admitted or denied, by the clock of the store; none if nobody knows.
    at: Option<Timestamp>,
    is_admitted: bool,
    is_leased: bool,
    /// By the limits of which levels and units it was denied.
    violated: Vec<(usize, usize)>,
}

impl Server {
    /// The time passes with that of the runtime.
    fn now(&self) -> Timestamp {
        let now = self.at_first.after(self.began.elapsed());
        self.clock.set(now);
        now
    }
}

impl Scene {
    fn new(seed: u64, bug: Bug) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        // Near the end of a minute, so that some windows roll.
        let before_end = random.below(4_000) as i64;
        let at_first = Timestamp::from_unix_ms(NOON_MS + 60_000 - before_end);
        let clock = ManualClock::at(at_first);
        let store = MemoryStore::builder().clock(clock.clone()).build();
        let server = Arc::new(Server { store, clock, began: Instant::now(), at_first });
        Self { random, bug, server, calls: Arc::default() }
    }

    async fn play(mut self) -> Outcome {
        let is_lowered = self.random.percent(20);
        let limits = self.create();
        let mut processes = JoinSet::new();
        let count = 2 + self.random.below(3);
        let mut died = false;
        for number in 0..count {
            let dies_after = self.random.percent(25).then(|| self.random.below(4_000));
            died |= dies_after.is_some();
            let process = Process {
                server: Arc::clone(&self.server),
                calls: Arc::clone(&self.calls),
                random: Random(self.random.next() | 1),
                bug: self.bug,
                dies_after: dies_after.map(Duration::from_millis),
                every: Duration::from_micros(500 + 500 * self.random.below(20)),
            };
            let local = process.live(number);
            processes.spawn(local);
        }
        let mut lowered_in = None;
        if is_lowered {
            sleep(Duration::from_millis(1_000 + self.random.below(2_000))).await;
            lowered_in = Some(minute_of(self.server.now()));
            self.change();
        }
        while let Some(ended) = processes.join_next().await {
            ended.expect("no process panics");
        }
        self.judge(&limits, died, lowered_in)
    }

    /// Creates the keys of a group, and returns the limits of the group and of each key: of requests and of tokens per minute.
    fn create(&mut self) -> [[u64; 2]; 1 + KEYS] {
        let mut limits = [[0; 2]; 1 + KEYS];
        for (number, of) in limits.iter_mut().enumerate() {
            let times = if number == 0 { 3 } else { 1 };
            *of = [
                (300 + self.random.below(3_000)) * times,
                (2_000 + self.random.below(20_000)) * times,
            ];
        }
        for (number, [requests, tokens]) in limits.into_iter().enumerate() {
            let (id, kind) = match number {
                0 => ("g".to_owned(), KeyKind::Group),
                key => (format!("g/{key}"), KeyKind::Member),
            };
            let all = Limits::builder().requests_per_minute(requests).tokens_per_minute(tokens);
            let all = all.requests_per_day(1_000_000).build().expect("valid limits");
            let config = KeyConfig::named(&id).expect("a name").with_global(all);
            self.server.store.create(record(&id, kind, config)).expect("the key is new");
        }
        limits
    }

    /// Lowers the limit of the group with its next window.
    fn change(&mut self) {
        self.server.now();
        let id: KeyId = "g".parse().expect("an id");
        let read = self.server.store.read(&id).expect("the group is there");
        let config = KeyConfig {
            global: Limits::builder().requests_per_minute(LOWERED).build().expect("limits"),
            ..read.config
        };
        let update = KeyUpdate {
            id,
            version: read.version,
            config,
            effective: Effective::Next,
            thresholds: Thresholds::DEFAULT,
        };
        self.server.store.update(&home(), &update).expect("nobody else changes it");
    }

    fn judge(&self, limits: &[[u64; 2]; 1 + KEYS], died: bool, lowered_in: Option<i64>) -> Outcome {
        let calls = self.calls.lock();
        let mut outcome = Outcome::default();
        for call in calls.iter() {
            outcome.admitted += u64::from(call.is_admitted);
            outcome.leased += u64::from(call.is_leased);
            outcome.denied += u64::from(!call.is_admitted && call.at.is_some());
            outcome.unanswered += u64::from(call.at.is_none());
        }
        let is_spoilt = died || outcome.unanswered > 0;
        let first = minute_of(self.server.at_first);
        for minute in first..=first + 1 {
            let in_minute = |call: &&Call| call.at.is_some_and(|at| minute_of(at) == minute);
            let in_minute: Vec<&Call> = calls.iter().filter(in_minute).collect();
            for (level, mut of_level) in limits.iter().copied().enumerate() {
                if level == 0 && lowered_in.is_some_and(|lowered_in| minute > lowered_in) {
                    of_level = [LOWERED, u64::MAX];
                }
                for (unit, limit) in of_level.into_iter().enumerate() {
                    let of_level = |call: &&&Call| level == 0 || call.key == level;
                    let admitted = in_minute.iter().filter(of_level).filter(|it| it.is_admitted);
                    let sum: u64 = admitted.map(|call| call.amounts()[unit]).sum();
                    if sum > limit {
                        outcome.broken = Some(format!(
                            "level {level} admits {sum} of {limit} {} in minute {}",
                            ["requests", "tokens"][unit],
                            minute - first
                        ));
                    }
                    let denied_by = |call: &&&Call| call.violated.contains(&(level, unit));
                    if in_minute.iter().filter(denied_by).count() < MANY {
                        continue;
                    }
                    outcome.full_windows += 1;
                    let shortfall = limit.saturating_sub(sum) * 1_000 / limit;
                    let worst = match is_spoilt {
                        true => &mut outcome.worst_shortfall_of_dead,
                        false => &mut outcome.worst_shortfall,
                    };
                    *worst = shortfall.max(*worst);
                }
            }
        }
        outcome
    }
}

impl Call {
    /// Requests and tokens.
    const fn amounts(&self) -> [u64; 2] {
        [self.charge.requests(), self.charge.input_tokens() + self.charge.output_tokens()]
    }
}

/// The levels and units of the limits that denied a call.
fn violated(decided: &Result<Decision, StoreError>, key: usize) -> Vec<(usize, usize)> {
    let denied = decided.as_ref().ok().and_then(Decision::denied);
    let exceeded = denied.and_then(|denied| denied.exceeded());
    let violations = exceeded.into_iter().flat_map(|exceeded| exceeded.violations());
    violations
        .map(|it| {
            let level = if it.group.is_some() { 0 } else { key };
            (level, usize::from(it.rule.unit() == Some(Unit::Tokens)))
        })
        .collect()
}

/// A process with leases, on a network and a clock of its own.
struct Process {
    server: Arc<Server>,
    calls: Arc<Mutex<Vec<Call>>>,
    random: Random,
    bug: Bug,
    dies_after: Option<Duration>,
    /// How often it calls.
    every: Duration,
}

impl Process {
    async fn live(mut self, number: u64) {
        let is_dead = Arc::new(AtomicBool::new(false));
        let network = Network {
            server: Arc::clone(&self.server),
            random: Arc::new(Mutex::new(Random(self.random.next() | 1))),
            slow: self.random.percent(30),
            loses: self.random.percent(30),
            is_dead: Arc::clone(&is_dead),
        };
        // The clock runs a little fast or slow, and jumps when the machine was suspended.
        let (began, drift) = (Instant::now(), 1_000_000 + self.random.below(2_001) as i64 - 1_000);
        let suspended = Arc::new(AtomicI64::new(number as i64 * 1_000_000));
        let jumped = Arc::clone(&suspended);
        let clock = move || {
            let elapsed = began.elapsed().as_nanos() as i64;
            let jumped = jumped.load(Ordering::Relaxed);
            Duration::from_nanos((elapsed / 1_000 * drift / 1_000 + jumped).unsigned_abs())
        };
        let builder = LeasedStoreBuilder::new(Around(network)).clock(clock);
        let store = builder.from_rate(50).planted(self.bug).build();
        let ends = self.dies_after.unwrap_or(LIFE).min(LIFE);
        let mut calling = JoinSet::new();
        while began.elapsed() < ends {
            let key = 1 + self.random.below(KEYS as u64) as usize;
            let tokens = if self.random.percent(5) { 200 } else { self.random.below(20) };
            let charge = Charge::request().with_tokens(tokens, tokens / 3).expect("few");
            let (store, server) = (store.clone(), Arc::clone(&self.server));
            let calls = Arc::clone(&self.calls);
            let call = async move {
                let id: KeyId = format!("g/{key}").parse().expect("an id");
                let decided = store.check_and_consume(&id, None, &charge).await;
                let is_leased = decided
                    .as_ref()
                    .is_ok_and(|it| it.allowed().is_some_and(limiter_core::Allowed::leased));
                let is_admitted = decided.as_ref().is_ok_and(Decision::is_allowed);
                let at = match &decided {
                    Ok(_) if is_leased => Some(server.now()),
                    Ok(Decision::Allowed(allowed)) => Some(allowed.decided_at()),
                    Ok(_) => Some(server.now()),
                    Err(_) => None,
                };
                let violated = violated(&decided, key);
                calls.lock().push(Call { key, charge, at, is_admitted, is_leased, violated });
            };
            // A burst now and then; few calls wait for one another.
            if self.random.percent(70) {
                calling.spawn(call);
            } else {
                call.await;
            }
            if self.random.percent(97) {
                sleep(self.every).await;
            }
            if self.random.percent(1) && self.random.percent(20) {
                let pause = 50_000_000 + self.random.below(500_000_000);
                // The process stands still, and the clock goes on.
                sleep(Duration::from_nanos(pause)).await;
                if self.random.percent(50) {
                    suspended.fetch_add(1_000_000_000, Ordering::Relaxed);
                }
            }
        }
        if self.dies_after.is_some() {
            is_dead.store(true, Ordering::Relaxed);
            calling.abort_all();
            return;
        }
        while calling.join_next().await.is_some() {}
        assert!(store.flush(Duration::from_secs(5)).await.is_nothing());
    }
}

/// A way to the store on which messages are late, lost, repeated and overtaken.
#[derive(Clone, Debug)]
struct Network {
    server: Arc<Server>,
    random: Arc<Mutex<Random>>,
    slow: bool,
    loses: bool,
    is_dead: Arc<AtomicBool>,
}

impl Network {
    fn random<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock())
    }

    async fn travel(&self) {
        let micros = self.random(|random| {
            let most = if self.slow { 60_000 } else { 3_000 };
            let usual = 100 + random.below(most);
            if random.percent(2) { usual + random.below(200_000) } else { usual }
        });
        sleep(Duration::from_micros(micros)).await;
    }

    fn loses(&self) -> bool {
        self.loses && self.random(|random| random.percent(2))
    }

    /// Asks for the same once more, later: the store has answered it before.
    fn repeat(&self, called: Called<'_>) {
        let (Some(key), Some(id)) = (called.key.cloned(), called.id.cloned()) else { return };
        let (network, operation, terms) = (self.clone(), called.operation, called.terms.copied());
        tokio::spawn(async move {
            network.travel().await;
            network.server.now();
            let store = &network.server.store;
            match (operation, terms) {
                (_, Some(terms)) => drop(store.grant(&key, None, &terms, &id)),
                ("hand_back", _) => store.hand_back(&key, &id, &Charge::NOTHING),
                _ => {}
            }
        });
    }
}

impl Interpose for Network {
    fn store(&self) -> &dyn Store {
        &self.server.store
    }

    async fn call<T: Send, E: CallError>(
        &self,
        called: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        self.travel().await;
        if self.is_dead.load(Ordering::Relaxed) || self.loses() {
            sleep(Duration::from_millis(500)).await;
            return Err(StoreError::outcome_unknown("the request was lost").into());
        }
        self.server.now();
        let answer = call.await;
        if self.random(|random| random.percent(5)) {
            self.repeat(called);
        }
        self.travel().await;
        if self.loses() {
            sleep(Duration::from_millis(500)).await;
            return Err(StoreError::outcome_unknown("the answer was lost").into());
        }
        answer
    }
}

/// Numbers that look random, the same for each seed.
#[derive(Debug)]
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    const fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    const fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn record(id: &str, kind: KeyKind, config: KeyConfig) -> NewRecord {
    NewRecord {
        id: id.parse().expect("an id"),
        workspace: home(),
        kind,
        config,
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    }
}

fn home() -> WorkspaceId {
    "home".parse().expect("a workspace")
}

fn number_from(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, but must be a number")))
}

fn minute_of(at: Timestamp) -> i64 {
    at.unix_ms().div_euclid(60_000)
}

/// In place of the limit of the group.
const LOWERED: u64 = 200;
/// A limit that has denied as many has been reached.
const MANY: usize = 50;
/// 2025-10-09T12:00:00Z
const NOON_MS: i64 = 1_760_011_200_000;
const KEYS: usize = 3;
const SEEDS: u64 = 200;
const LIFE: Duration = Duration::from_secs(8);
