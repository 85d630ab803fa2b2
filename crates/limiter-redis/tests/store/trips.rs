//! How many round trips each operation takes: exact numbers, and the table of them in ARCHITECTURE.md.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use limiter_conformance::fixtures::{
    NOON, access_key, asset, millionths, named, request_id, requests_per_minute, spend,
};
use limiter_core::{
    AssetId, Charge, KeyConfig, KeyId, KeyKind, KeyRotation, Limits, ManualClock, NewRecord,
    Search, Store, StoredSecret, Thresholds, Timestamp, Totals, WorkspaceId,
};
use limiter_redis::RedisStore;
use limiter_redis::probe::Beliefs;
use limiter_test_servers::shared;

use crate::common;
use crate::update::update;

#[tokio::test]
async fn each_operation_takes_as_many_trips_as_architecture_md_says() {
    let mut table = String::from("| operation | trips |\n|---|---|\n");
    let mut row =
        |what: &str, trips: String| writeln!(table, "| {what} | {trips} |").expect("memory");

    let world = World::new(large()).await;
    let [one, other] = &world.processes;
    row("a call that fits, of a key and an asset that the process has seen (warm)", {
        world.admit(one, None).await;
        world.trips(one, world.admit(one, None)).await
    });
    row(
        "the first such call of a process (cold)",
        world.trips(other, world.admit(other, None)).await,
    );
    row("cold, of an asset with limits", world.trips(other, world.admit(other, Some("m1"))).await);
    row("the first call of a minute, or of a day", {
        world.advance(MINUTE);
        let minute = world.trips(one, world.admit(one, None)).await;
        world.advance(DAY);
        assert_eq!(world.trips(one, world.admit(one, None)).await, minute);
        minute
    });
    row("each call of a key that makes one an hour", {
        let mut each = Vec::new();
        for _ in 0..3 {
            world.advance(60 * MINUTE);
            each.push(world.trips(one, world.admit(one, None)).await);
        }
        assert!(each.iter().all(|trips| *trips == each[0]), "{each:?}");
        each[0].clone()
    });
    row("a call at the edge of a window, if the process takes the time wrong", {
        world.admit(one, WITHOUT_LIMITS).await;
        world.advance(MINUTE - 1);
        one.mistake_time_by(1);
        let trips = world.trips(one, world.admit(one, None)).await;
        assert_eq!(world.trips(one, world.admit(one, WITHOUT_LIMITS)).await, trips);
        one.mistake_time_by(0);
        trips
    });
    row("the first call after another process has saved other limits", {
        world.admit_all(one).await;
        world.save(other, &large_but(7)).await;
        let trips = world.trips(one, world.admit(one, None)).await;
        for asset in [Some("m1"), WITHOUT_LIMITS] {
            assert_eq!(world.trips(one, world.admit(one, asset)).await, trips, "{asset:?}");
        }
        trips
    });
    row("the first call of the window in which they come into force", {
        world.advance(DAY);
        world.trips(one, world.admit(one, None)).await
    });
    row(
        "the call after that, since the limits are read again",
        world.trips(one, world.admit(one, None)).await,
    );
    row("`update`, `reset`", {
        let update = world.trips(one, world.save(one, &large_but(8))).await;
        let reset = async { one.reset(&world.workspace, &world.key).await.expect("a key") };
        assert_eq!(world.trips(one, reset).await, update);
        update
    });
    row("`rotate` of an access key whose old one works on, or ends at once", {
        let [first, second, third] = ["first", "second", "third"]
            .map(|name| StoredSecret::from(&access_key(&format!("the-{name}-access-key"))));
        world.rotate(one, first, Duration::ZERO).await;
        let works_on = world.trips(one, world.rotate(one, second, Duration::from_secs(60))).await;
        world.advance(MINUTE);
        world.rotate(one, first, Duration::ZERO).await;
        format!(
            "{works_on} or {}",
            world.trips(one, world.rotate(one, third, Duration::ZERO)).await
        )
    });
    row("a page of 100 keys with parallel limits, with what they have used", {
        let limits = Limits::builder().parallel(3).build().expect("limits within bounds");
        for number in 0..98 {
            let config = named(&format!("key {number}")).with_global(limits.clone());
            let id = config.name.as_str().parse().expect("an id");
            let key = world.member(id, config);
            one.create(key).await.expect("no other has its name");
        }
        world
            .trips(one, async {
                let page = one.list(&world.workspace, &Search::all().with_usage()).await;
                assert_eq!(page.expect("an answer").usage.len(), 100);
            })
            .await
    });
    row("`peek`, `usage`, `history`", {
        let peek = async {
            let peeked = one.peek(&world.key, None, &Charge::request()).await;
            assert!(peeked.expect("an answer").is_allowed());
        };
        let peek = world.trips(one, peek).await;
        let usage = async { drop(one.usage(&world.key).await.expect("an answer")) };
        assert_eq!(world.trips(one, usage).await, peek);
        let history = async { drop(one.history(&world.key, 35).await.expect("an answer")) };
        assert_eq!(world.trips(one, history).await, peek);
        peek
    });

    let world = World::new(large()).await;
    let [one, other] = &world.processes;
    row("`reserve`, cold", world.trips(one, world.reserve(one, "r0")).await);
    row("`reserve`", world.trips(one, world.reserve(one, "r1")).await);
    row("`amend`", world.trips(one, world.amend(one, "r1", 7)).await);
    row("`settle` or `cancel` by the process that reserved", {
        let settle = world.trips(one, world.settle(one, "r1", 5)).await;
        world.reserve(one, "r2").await;
        let cancel =
            async { drop(one.cancel(&world.key, &request_id("r2")).await.expect("it is open")) };
        assert_eq!(world.trips(one, cancel).await, settle);
        settle
    });
    row("`settle` in a later window", {
        world.reserve(one, "r3").await;
        world.advance(MINUTE);
        world.trips(one, world.settle(one, "r3", 9)).await
    });
    row("`settle` by another process that has seen the key", {
        world.reserve(one, "r4").await;
        world.admit(other, Some("m1")).await;
        world.trips(other, world.settle(other, "r4", 5)).await
    });
    row("`settle` by a process that has not", {
        world.reserve(one, "r5").await;
        other.believe(Beliefs::default());
        world.trips(other, world.settle(other, "r5", 5)).await
    });
    row("`settle` repeated", world.trips(one, world.settle(one, "r5", 5)).await);

    let world = World::new(large()).await;
    let [one, other] = &world.processes;
    let key = world.beneath_groups().await;
    row("a call of a key beneath three groups, cold or warm", {
        let cold = world.trips(one, world.admit_as(one, &key)).await;
        format!("{cold} or {}", world.trips(one, world.admit_as(one, &key)).await)
    });
    row("the first call after another process has saved other limits of its outermost group", {
        let group = key.groups().next().expect("it has three");
        world.admit_as(one, &key).await;
        world.save_as(other, &group, &large_but(7)).await;
        world.trips(one, world.admit_as(one, &key)).await
    });

    let world = World::new(per_minute(10)).await;
    let [one, _] = &world.processes;
    world.admit(one, None).await;
    world.advance(MINUTE);
    row("ten calls of a key with 10 requests a minute: two of them reach a threshold", {
        world
            .trips(one, async {
                for _ in 0..10 {
                    world.admit(one, None).await;
                }
            })
            .await
    });
    row("a denial", world.trips(one, world.deny(one)).await);
    row("a denial after the clock was set back by days (rebases)", {
        world.clock.set(Timestamp::from_unix_ms(NOON.unix_ms() - 3 * DAY as i64));
        world.trips(one, world.deny(one)).await
    });

    let world = World::new(per_minute(1)).await;
    let [one, _] = &world.processes;
    world.admit(one, None).await;
    row("each call of a key with 1 request a minute, which reaches both thresholds", {
        world.advance(MINUTE);
        let each = world.trips(one, world.admit(one, None)).await;
        world.advance(MINUTE);
        assert_eq!(world.trips(one, world.admit(one, None)).await, each);
        each
    });

    println!("{table}");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ARCHITECTURE.md");
    let text = std::fs::read_to_string(file).expect("it lies beside the crates");
    assert!(text.contains(&table), "ARCHITECTURE.md has another table under \"Trips\"");
}

/// It was sent again and again: the short form compared what a limit needs with a count that has none, and the core did not.
#[tokio::test]
async fn a_call_beside_a_count_at_the_largest_number_comes_to_an_end() {
    let limits = Limits::builder().tokens_per_minute(10).build().expect("limits within bounds");
    let world = World::new(per_minute(1_000).with_asset(asset("m1"), limits)).await;
    let [one, _] = &world.processes;
    let all = Charge::request().with_tokens(0, limiter_core::MAX_COUNT).expect("the most");
    let decision = one.check_and_consume(&world.key, None, &all).await.expect("an answer");
    assert!(decision.is_charged(), "{decision:?}");
    world.admit(one, Some("m1")).await;
    assert_eq!(world.trips(one, world.admit(one, Some("m1"))).await, "2");
}

#[tokio::test]
async fn a_cold_call_takes_little_longer_than_a_warm_one() {
    let world = World::new(large()).await;
    let [one, _] = &world.processes;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..CALLS {
        for (cold, times) in times.iter_mut().enumerate() {
            if cold == 1 {
                one.believe(Beliefs::default());
            }
            let begun = Instant::now();
            world.admit(one, None).await;
            times.push(begun.elapsed());
        }
    }
    let [warm, cold] = times.map(|mut times| {
        times.sort_unstable();
        times[CALLS / 2]
    });
    let ratio = cold.as_secs_f64() / warm.as_secs_f64();
    println!(
        "p50 of {CALLS} calls each: warm {warm:.1?}, cold {cold:.1?}, {ratio:.2} times as long"
    );
    // Two trips instead of one, and the second with loops.
    assert!(ratio < 6.0, "{ratio:.2}");
}

/// A member key, and two processes that share it.
struct World {
    clock: ManualClock,
    processes: [RedisStore; 2],
    key: KeyId,
    workspace: WorkspaceId,
}

impl World {
    async fn new(config: KeyConfig) -> Self {
        let clock = ManualClock::at(NOON);
        let builder = common::empty(shared().url()).clock(clock.clone());
        let connect =
            || async { builder.clone().connect().await.expect("the test server accepts it") };
        let processes = [connect().await, connect().await];
        let key: KeyId = "ci".parse().expect("an id");
        let workspace: WorkspaceId = "home".parse().expect("an id");
        let world = Self { clock, processes, key, workspace };
        let admin = world.member("admin".parse().expect("an id"), named("admin"));
        let admin = NewRecord { kind: KeyKind::Admin, ..admin };
        for key in [admin, world.member(world.key.clone(), config)] {
            world.processes[0].create(key).await.expect("no other has its name");
        }
        world
    }

    fn member(&self, id: KeyId, config: KeyConfig) -> NewRecord {
        NewRecord {
            id,
            workspace: self.workspace.clone(),
            kind: KeyKind::Member,
            config,
            thresholds: Thresholds::DEFAULT,
            secret: None,
            bootstraps: false,
        }
    }

    /// Creates a key beneath three groups, each of which has limits.
    async fn beneath_groups(&self) -> KeyId {
        let key: KeyId = "acme/search/team/ci".parse().expect("an id");
        for level in key.levels() {
            let config = KeyConfig { name: named(level.as_str()).name, ..large() };
            let kind = if level == key { KeyKind::Member } else { KeyKind::Group };
            let new = NewRecord { kind, ..self.member(level, config) };
            self.processes[0].create(new).await.expect("no other has its name");
        }
        key
    }

    async fn rotate(&self, process: &RedisStore, secret: StoredSecret, grace: Duration) {
        let rotation = KeyRotation { id: self.key.clone(), secret, grace };
        process.rotate(&self.workspace, &rotation).await.expect("it is a key");
    }

    /// The scripts that a process sends meanwhile.
    async fn trips(&self, process: &RedisStore, operation: impl Future<Output = ()>) -> String {
        process.take_trips();
        operation.await;
        process.take_trips().into_values().sum::<u64>().to_string()
    }

    fn advance(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }

    async fn admit(&self, process: &RedisStore, asset: Option<&str>) {
        let asset: Option<AssetId> = asset.map(|asset| asset.parse().expect("an id"));
        let decision =
            process.check_and_consume(&self.key, asset.as_ref(), &Charge::request()).await;
        let decision = decision.expect("an answer");
        assert!(decision.is_charged(), "{decision:?}");
    }

    async fn admit_as(&self, process: &RedisStore, key: &KeyId) {
        let decision = process.check_and_consume(key, None, &Charge::request()).await;
        assert!(decision.expect("an answer").is_charged());
    }

    async fn admit_all(&self, process: &RedisStore) {
        for asset in [None, Some("m1"), WITHOUT_LIMITS] {
            self.admit(process, asset).await;
        }
    }

    async fn deny(&self, process: &RedisStore) {
        let decision = process.check_and_consume(&self.key, None, &Charge::request()).await;
        let decision = decision.expect("an answer");
        assert!(!decision.is_allowed(), "{decision:?}");
    }

    async fn save(&self, process: &RedisStore, config: &KeyConfig) {
        self.save_as(process, &self.key, config).await;
    }

    async fn save_as(&self, process: &RedisStore, key: &KeyId, config: &KeyConfig) {
        let record = Store::read(process, key).await.expect("an answer").expect("a key");
        let config = KeyConfig { name: record.config.name, ..config.clone() };
        // Only the update counts.
        process.take_trips();
        let updated = process.update(&self.workspace, &update(key, record.version, &config)).await;
        updated.expect("the version is right");
    }

    async fn reserve(&self, process: &RedisStore, request: &str) {
        let (estimate, ttl) = (spend(6), Duration::from_millis(DAY));
        let reserved = process
            .reserve(&self.key, Some(&asset("m1")), &estimate, &request_id(request), ttl)
            .await;
        assert!(reserved.expect("an answer").is_charged());
    }

    async fn amend(&self, process: &RedisStore, request: &str, credits: u64) {
        let amended = process.amend(&self.key, &request_id(request), &totals(credits)).await;
        assert!(amended.expect("an answer").is_allowed());
    }

    async fn settle(&self, process: &RedisStore, request: &str, credits: u64) {
        process
            .settle(&self.key, &request_id(request), &totals(credits))
            .await
            .expect("it is open");
    }
}

/// Limits of all kinds that no test reaches, for all calls and for one asset.
fn large() -> KeyConfig {
    large_but(0)
}

fn large_but(more: u64) -> KeyConfig {
    let limits = Limits::builder()
        .requests_per_minute(1_000_000 + more)
        .requests_per_day(1_000_000)
        .tokens_per_minute(1_000_000)
        .tokens_per_day(1_000_000 + more);
    let limits = limits.build().expect("limits within bounds");
    named("ci").with_global(limits.clone()).with_asset(asset("m1"), limits)
}

fn per_minute(requests: u64) -> KeyConfig {
    named("ci").with_global(requests_per_minute(requests))
}

fn totals(amount: u64) -> Totals {
    Totals::unchanged().with_credits(millionths(amount))
}

/// An asset that meets the global limits alone.
const WITHOUT_LIMITS: Option<&str> = Some("other");
const MINUTE: u64 = 60_000;
const DAY: u64 = 86_400_000;
/// Of each kind.
const CALLS: usize = 2_000;
