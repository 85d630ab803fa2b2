//! Servers start, break on demand, and leave nothing behind.

use std::io::{self, BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use std::{env, thread};

use limiter_test_servers::{Proxy, RedisCluster, RedisSentinel, RedisServer, shared, until};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

#[test]
fn a_server_answers_and_leaves_nothing() {
    let server = RedisServer::run();
    assert_eq!(server.text(&["PING"]), "PONG");
    let left = Left::of(&server);
    drop(server);
    left.is_nothing();
}

/// `scripts/deep-test` names the version that it has fetched in `LIMITER_TEST_REDIS_VERSION`.
#[test]
fn the_server_has_the_expected_version() {
    let server = RedisServer::run();
    let version = server.version();
    let expected = env::var("LIMITER_TEST_REDIS_VERSION");
    assert_eq!(version, expected.unwrap_or_else(|_| version.clone()));
}

#[test]
fn the_shared_server_is_one() {
    assert_eq!(shared().url(), shared().url());
    assert_eq!(format!("{:?}", shared().command(&["PING"])), "simple-string(\"PONG\")");
}

#[test]
fn many_servers_start_at_once() {
    let starting: Vec<_> = (0..8).map(|_| thread::spawn(RedisServer::run)).collect();
    let servers: Vec<_> = starting.into_iter().map(|server| server.join().unwrap()).collect();
    for server in &servers {
        assert_eq!(server.info("tcp_port"), Some(server.port().to_string()));
    }
}

#[test]
fn without_persistence_a_restart_forgets() {
    let server = RedisServer::run();
    server.command(&["SET", "key", "1"]);
    server.restart();
    assert_eq!(server.text(&["EXISTS", "key"]), "0");
    server.command(&["SET", "key", "1"]);
    server.stop_gracefully();
    server.start();
    assert_eq!(server.text(&["EXISTS", "key"]), "0");
}

#[test]
fn what_is_appended_survives_a_kill() {
    let server = RedisServer::durable();
    let url = server.url();
    server.command(&["SET", "key", "1"]);
    server.kill();
    assert!(server.try_command(&["PING"]).is_err());
    server.start();
    assert_eq!(server.text(&["GET", "key"]), "1");
    assert_eq!(server.url(), url);
}

#[test]
fn a_frozen_server_answers_when_it_is_thawed() {
    let server = RedisServer::run();
    server.freeze();
    thread::scope(|scope| {
        let asking = scope.spawn(|| server.text(&["PING"]));
        sleep(Duration::from_millis(200));
        assert!(!asking.is_finished());
        server.thaw();
        assert_eq!(asking.join().unwrap(), "PONG");
    });
    server.freeze();
    server.restart();
    assert_eq!(server.text(&["PING"]), "PONG");
}

#[test]
fn passwords_and_users_are_demanded() {
    let server = RedisServer::with(&[
        "requirepass secret",
        "user reader on >other ~* +get",
        "loglevel warning",
        "maxmemory 10mb",
    ]);
    assert_eq!(server.text(&["PING"]), "PONG");
    assert_eq!(server.text(&["ACL", "WHOAMI"]), "default");
    assert!(
        redis::Client::open(format!("redis://{}", server.address()))
            .unwrap()
            .get_connection()
            .is_ok_and(|mut connection| redis::cmd("PING")
                .query::<String>(&mut connection)
                .is_err())
    );
    let replica = RedisServer::replica_of(&server);
    replica.wait_for_master();
    server.restart();
    assert_eq!(server.info("maxmemory").as_deref(), Some("10485760"));
}

#[test]
fn a_server_that_ends_by_itself_can_be_started_again() {
    let server = RedisServer::run();
    let _ = server.try_command(&["SHUTDOWN", "NOSAVE"]);
    server.kill();
    server.start();
    assert_eq!(server.text(&["PING"]), "PONG");
}

#[test]
#[should_panic(expected = "does not start")]
fn a_setting_that_does_not_exist_is_an_error() {
    RedisServer::with(&["no-such-setting 1"]);
}

#[test]
fn a_cluster_serves_all_slots_and_leaves_nothing() {
    let cluster = RedisCluster::run();
    assert_eq!(cluster.nodes().len(), 3);
    for node in cluster.nodes() {
        assert!(node.text(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
    }
    assert_eq!(cluster.node_of_slot(0).port(), cluster.nodes()[0].port());
    assert_eq!(cluster.node_of_slot(16_383).port(), cluster.nodes()[2].port());
    let left: Vec<_> = cluster.nodes().iter().map(Left::of).collect();
    drop(cluster);
    left.iter().for_each(Left::is_nothing);
}

#[test]
fn a_slot_moves_step_by_step() {
    let cluster = RedisCluster::run();
    let slot = cluster.slot_of("key");
    let from = cluster.node_of_slot(slot);
    let to = cluster.nodes().iter().find(|node| node.port() != from.port()).unwrap();
    from.command(&["SET", "key", "1"]);

    cluster.begin_migration(slot, to);
    assert_eq!(from.text(&["GET", "key"]), "1");
    assert_eq!(from.try_command(&["GET", "{key}2"]).unwrap_err().code(), Some("ASK"));
    cluster.migrate_keys(slot, to);
    assert_eq!(from.try_command(&["GET", "key"]).unwrap_err().code(), Some("ASK"));
    assert_eq!(to.try_command(&["GET", "key"]).unwrap_err().code(), Some("MOVED"));
    cluster.finish_migration(slot, to);
    assert_eq!(cluster.node_of_slot(slot).port(), to.port());
    assert_eq!(to.text(&["GET", "key"]), "1");
    assert_eq!(from.try_command(&["GET", "key"]).unwrap_err().code(), Some("MOVED"));

    cluster.begin_migration(slot, from);
    cluster.migrate_keys(slot, from);
    cluster.finish_migration(slot, from);
    assert_eq!(from.text(&["GET", "key"]), "1");
    cluster.wait_until_ok();
}

#[test]
fn a_replica_takes_the_place_of_its_master() {
    let cluster = RedisCluster::with_replicas(&[]);
    let (master, replica) = (&cluster.nodes()[0], &cluster.nodes()[3]);
    master.kill();
    until("the replica serves the slots of its master", || {
        cluster.node_of_slot(0).port() == replica.port()
    });
    cluster.wait_until_ok();
}

#[test]
fn sentinels_name_the_master_and_leave_nothing() {
    let sentinel = RedisSentinel::run();
    let first = sentinel.master().port();
    assert_eq!(sentinel.master().info("role").as_deref(), Some("master"));
    sentinel.failover();
    assert_ne!(sentinel.master().port(), first);
    assert_eq!(sentinel.replica().port(), first);

    let servers = sentinel.sentinels().iter().chain([sentinel.master(), sentinel.replica()]);
    let left: Vec<_> = servers.map(Left::of).collect();
    drop(sentinel);
    left.iter().for_each(Left::is_nothing);
}

#[test]
fn sentinels_replace_a_dead_master() {
    let sentinel = RedisSentinel::run();
    let old = sentinel.kill_master();
    let new = sentinel.wait_for_failover_from(old);
    assert_eq!(sentinel.master().port(), new.port());
    new.command(&["SET", "key", "1"]);
}

#[test]
fn a_lost_reply_leaves_the_server_changed() {
    let server = RedisServer::run();
    let proxy = Proxy::to(&server.address());
    let client = redis::Client::open(proxy.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let mut increment = || redis::cmd("INCR").arg("key").query::<u64>(&mut connection);
    assert_eq!(increment().unwrap(), 1);
    proxy.lose_next_reply();
    assert!(increment().is_err());
    assert_eq!((proxy.executed(), proxy.replies_lost()), (2, 1));
    assert_eq!(server.text(&["GET", "key"]), "2");
}

#[test]
fn nothing_is_left_when_the_test_is_killed() {
    let mut test = Command::new(env::current_exe().unwrap())
        .args(["--exact", "servers_that_are_left_alone", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(test.stdout.take().unwrap());
    let left: Vec<_> =
        stdout.lines().filter_map(|line| Left::from_line(&line.unwrap())).take(5).collect();
    assert_eq!(left.len(), 5);
    assert!(left.iter().all(|left| left.is_running()));
    test.kill().unwrap();
    test.wait().unwrap();
    left.iter().for_each(Left::is_nothing);
}

#[test]
#[ignore = "nothing_is_left_when_the_test_is_killed runs and kills it"]
fn servers_that_are_left_alone() {
    let (frozen, durable, cluster) =
        (RedisServer::run(), RedisServer::durable(), RedisCluster::run());
    let servers = [&frozen, &durable].into_iter().chain(cluster.nodes());
    let left: Vec<_> = servers.map(Left::of).collect();
    frozen.freeze();
    left.iter().for_each(|left| println!("{}", left.to_line()));
    // Until it is killed, or the other end of its standard input is closed.
    let _ = io::stdin().read_line(&mut String::new());
}

/// The process and the files that a server could leave behind.
struct Left {
    process: i32,
    port: u16,
    directory: PathBuf,
}

impl Left {
    fn of(server: &RedisServer) -> Self {
        // A sentinel of Redis 6.2 has no other sections.
        let info = server.text(&["INFO", "server"]);
        let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let directory = PathBuf::from(field("config_file:")).parent().unwrap().to_owned();
        Self { process: field("process_id:").parse().unwrap(), port: server.port(), directory }
    }

    fn to_line(&self) -> String {
        format!("server {} {} {}", self.process, self.port, self.directory.display())
    }

    fn from_line(line: &str) -> Option<Self> {
        // The test runner may have printed before it, without an end of line.
        let mut words = line[line.find("server ")?..].split(' ').skip(1);
        let (process, port) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { process, port, directory: words.next()?.into() })
    }

    fn is_running(&self) -> bool {
        kill(Pid::from_raw(self.process), None) != Err(Errno::ESRCH)
    }

    fn is_nothing(&self) {
        until(format_args!("nothing is left: {}", self.to_line()), || {
            !self.is_running()
                && TcpStream::connect(("127.0.0.1", self.port)).is_err()
                && !self.directory.exists()
        });
    }
}
