//! A cluster with one failed master: the keys of the other masters go on.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use limiter_core::{
    AccessKey, Credits, Decision, KeyConfig, KeyDigest, KeyId, KeyKind, NewRecord, Store,
    StoreError, StoredSecret, Thresholds,
};
use limiter_policy::{BreakerState, FailurePolicy, Share};
use limiter_test_servers::{RedisCluster, RedisServer, until_async};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::world::{DEADLINE, Guarded, connect, one_credit, settings};

/// A cluster with one key on each master, in the order of the masters. The other masters go on while one is down.
struct World {
    cluster: RedisCluster,
    keys: Vec<KeyId>,
    store: Guarded,
}

impl World {
    async fn new(policy: FailurePolicy) -> Self {
        let cluster = RedisCluster::with(&[
            "cluster-require-full-coverage no",
            "appendonly yes",
            "appendfsync always",
        ]);
        let store = settings(policy).guard(connect(cluster.url()).await.unwrap());
        let mut keys = Vec::new();
        for node in cluster.nodes() {
            let id = (0..).map(|number| format!("key-{number}"));
            let mut id =
                id.filter(|id| is_served_by(&cluster, &format!("limiter:k:{{{id}}}"), node));
            let id = id.next().unwrap();
            keys.push(create(&store, &id, None).await);
        }
        Self { cluster, keys, store }
    }

    async fn spent(&self, key: &KeyId) -> u64 {
        let usage = connect(self.cluster.url()).await.unwrap().usage(key).await.unwrap();
        usage.expect("the key is there").credits.spent.millionths() / 1_000_000
    }

    /// The master that the probe of a store without parts would reach, its key, and the keys of the other masters.
    fn probed_first(&self) -> (&RedisServer, &KeyId, Vec<&KeyId>) {
        let node = self.cluster.node_of_slot(self.cluster.slot_of("limiter-policy-probe"));
        let nodes = self.cluster.nodes();
        let dead = nodes.iter().position(|other| other.port() == node.port()).unwrap();
        let mut keys: Vec<_> = self.keys.iter().collect();
        let key = keys.remove(dead);
        (node, key, keys)
    }
}

fn is_served_by(cluster: &RedisCluster, key: &str, node: &RedisServer) -> bool {
    cluster.node_of_slot(cluster.slot_of(key)).port() == node.port()
}

async fn create(store: &impl Store, id: &str, secret: Option<StoredSecret>) -> KeyId {
    let config = KeyConfig::named(id).unwrap();
    let (id, workspace) = (id.parse().unwrap(), "home".parse().unwrap());
    let kind = KeyKind::Member;
    let thresholds = Thresholds::DEFAULT;
    let key = NewRecord { id, workspace, kind, config, thresholds, secret, bootstraps: false };
    store.create(key).await.unwrap().id
}

/// Starts tasks that call again and again, and return how many of their calls the store allowed.
fn start_calls(store: &Guarded, key: &KeyId) -> JoinSet<u64> {
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (store, key) = (store.clone(), key.clone());
        tasks.spawn(async move {
            let (began, mut allowed) = (Instant::now(), 0);
            while began.elapsed() < LOAD {
                let decision = call(&store, &key).await;
                let decision = decision.expect("the master of this key lives");
                assert!(decision.is_allowed() && !decision.is_degraded(), "{decision:?}");
                allowed += 1;
                sleep(PAUSE).await;
            }
            allowed
        });
    }
    tasks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_master_is_down_keys_of_the_others_are_decided_and_counted() {
    let world = World::new(FailurePolicy::FailClosed).await;
    let (node, dead, living) = world.probed_first();
    let open = connect(world.cluster.url()).await.unwrap();
    let stores = [world.store.clone(), settings(FailurePolicy::FailOpen).guard(open)];
    node.kill();
    let mut loads = Vec::new();
    for (store, key) in stores.iter().flat_map(|store| living.iter().map(move |key| (store, key))) {
        loads.push((*key, start_calls(store, key)));
    }
    for store in &stores {
        while store.breaker_of(dead) == BreakerState::Closed {
            let _fails = call(store, dead).await;
        }
        assert_ne!(store.breaker(), BreakerState::Closed, "the worst state of all parts");
    }
    for _ in 0..100 {
        let began = Instant::now();
        let refused = call(&stores[0], dead).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert!(call(&stores[1], dead).await.unwrap().is_degraded());
        assert!(began.elapsed() < DEADLINE / 2, "both are answered at once");
    }
    let mut allowed: HashMap<_, u64> = HashMap::new();
    for (key, tasks) in loads {
        let calls = tasks.join_all().await.into_iter().sum::<u64>();
        println!("{calls} calls of {key} while the master of {dead} was down");
        assert!(calls > 100, "{calls}");
        *allowed.entry(key).or_default() += calls;
    }
    for key in living {
        assert_eq!(world.spent(key).await, allowed[key]);
    }
    node.start();
    for store in &stores {
        until_async("the dead master is asked again", async || store.is_well()).await;
        assert!(!call(store, dead).await.unwrap().is_degraded());
    }
}

/// Two masters go down one after the other, and one of them comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_to_a_master_that_is_back_is_paid_while_another_is_down() {
    let share = Share::one_in(NonZeroU32::MIN);
    let world = World::new(FailurePolicy::LocalShare { share }).await;
    let (store, nodes) = (&world.store, world.cluster.nodes());
    let [down, back] = [&world.keys[0], &world.keys[1]];
    for key in [down, back] {
        assert!(call(store, key).await.unwrap().is_allowed());
        until_async("the limits of the key are known", async || store.knows(key)).await;
    }
    let owe = async |key: &KeyId| {
        for _ in 0..10 {
            assert!(call(store, key).await.unwrap().is_degraded());
        }
    };
    nodes[0].kill();
    owe(down).await;
    nodes[1].kill();
    owe(back).await;
    nodes[1].start();
    let paid = Credits::whole(11).unwrap();
    until_async("the key of the master that is back is paid", async || {
        let usage = store.usage(back).await.ok().flatten();
        usage.is_some_and(|usage| usage.credits.spent >= paid)
    })
    .await;
    assert_ne!(store.breaker_of(down), BreakerState::Closed);
    assert!(!call(store, back).await.unwrap().is_degraded());
    nodes[0].start();
    until_async("the other key is paid", async || store.is_well()).await;
    assert_eq!((world.spent(down).await, world.spent(back).await), (11, 12));
}

/// A look-up of an access key reaches two masters: that of the access key, and that of its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn look_ups_of_keys_on_a_dead_master_leave_the_master_of_their_access_keys_alone() {
    let world = World::new(FailurePolicy::FailClosed).await;
    let (store, (node, dead, living)) = (&world.store, world.probed_first());
    let (alive, other) = (living[0], living[1]);
    let on = |key: &KeyId| world.cluster.slot_of(&format!("limiter:k:{{{key}}}"));
    let digest_by = async |key: &KeyId, id: String, first: u32| {
        let master = world.cluster.node_of_slot(on(key));
        // Two keys of a workspace differ in the first and last four characters.
        let secrets = (first..).map(|n| format!("{n:04}-access-key-of-{id:-<24}").parse().unwrap());
        let named = |secret: &AccessKey| {
            let name = format!("limiter:d:{{{}}}", String::from(secret.digest()));
            is_served_by(&world.cluster, &name, master)
        };
        let secret: AccessKey = secrets.into_iter().find(named).unwrap();
        create(store, &id, Some(StoredSecret::from(&secret))).await;
        secret.digest()
    };
    // The pointer of an access key has one master, and the key itself another.
    let served_as = |key: &KeyId, name: &str| {
        let master = world.cluster.node_of_slot(on(key));
        let mut ids = (0..).map(|number| format!("{name}-{number}"));
        let is_there =
            |id: &String| is_served_by(&world.cluster, &format!("limiter:k:{{{id}}}"), master);
        ids.find(is_there).unwrap()
    };
    let (lost_id, found_id) = (served_as(dead, "lost"), served_as(other, "found"));
    let lost: KeyDigest = digest_by(alive, lost_id.clone(), 1_000).await;
    let found = digest_by(alive, found_id.clone(), 2_000).await;
    let unreachable = digest_by(dead, served_as(alive, "unreachable"), 3_000).await;
    node.freeze();
    let mut waited = 0;
    for _ in 0..10 {
        let began = Instant::now();
        assert!(store.resolve(&lost).await.is_err());
        waited += u32::from(began.elapsed() > DEADLINE / 4);
        assert!(store.resolve(&unreachable).await.is_err());
    }
    assert!(waited <= 5, "{waited} of 10 look-ups waited for the dead master");
    assert_ne!(store.breaker_of(dead), BreakerState::Closed);
    for key in [alive, other] {
        assert_eq!(store.breaker_of(key), BreakerState::Closed);
        assert!(!call(store, key).await.unwrap().is_degraded());
    }
    assert_eq!(store.resolve(&found).await.unwrap(), Some(found_id.parse().unwrap()));
    node.thaw();
    until_async("the dead master is asked again", async || store.is_well()).await;
    assert_eq!(store.resolve(&lost).await.unwrap(), Some(lost_id.parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_the_replica_is_asked_and_the_dead_master_is_forgotten() {
    let cluster = RedisCluster::with_replicas(&[
        "cluster-node-timeout 1000",
        "cluster-require-full-coverage no",
    ]);
    let store = settings(FailurePolicy::FailClosed).guard(connect(cluster.url()).await.unwrap());
    let key = create(&store, "busy", None).await;
    let master = cluster.node_of_slot(cluster.slot_of("limiter:k:{busy}"));
    assert!(call(&store, &key).await.is_ok());
    master.kill();
    while store.breaker_of(&key) == BreakerState::Closed {
        let _fails = call(&store, &key).await;
    }
    // The old master is never started again.
    until_async("the replica is asked", async || store.breaker() == BreakerState::Closed).await;
    assert!(!call(&store, &key).await.unwrap().is_degraded());
}

async fn call(store: &Guarded, key: &KeyId) -> Result<Decision, StoreError> {
    store.check_and_consume(key, None, &one_credit()).await
}

/// Tasks for each key.
const TASKS: usize = 2;
/// The pause between two calls of a task, so that a busy machine keeps up.
const PAUSE: Duration = Duration::from_millis(5);
/// Longer than the time until the dead master is given up.
const LOAD: Duration = Duration::from_secs(1);
