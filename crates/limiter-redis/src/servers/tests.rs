//! Against real servers.

use std::time::Duration;

use limiter_test_servers::{RedisCluster, RedisServer};
use redis::Value;

use super::*;
use crate::error::CommandError::{NotRun, Unknown};

/// A script that counts its runs exactly, so that each test sees how often it ran.
fn counting() -> Script {
    Script::new("count", "return redis.call('INCR', KEYS[1])".to_owned())
}

async fn connect(url: &str) -> Result<Servers, RedisError> {
    Servers::connect(settings(url), &[&counting()]).await
}

fn settings(url: &str) -> Settings {
    Settings {
        target: url.parse().unwrap(),
        connect_deadline: Duration::from_millis(500),
        command_deadline: Duration::from_millis(400),
        pool_size: 2,
        refuse_eviction: false,
    }
}

/// A server with these settings, and the connections to it.
async fn running(settings: &[&str]) -> (RedisServer, Servers) {
    let server = RedisServer::with(settings);
    let servers = connect(&server.url()).await.unwrap();
    (server, servers)
}

async fn run(
    servers: &Servers,
    script: &Script,
    keys: &[&str],
    lane: Lane,
) -> Result<Value, CommandError> {
    let keys: Vec<_> = keys.iter().map(|key| key.as_bytes().to_vec()).collect();
    servers.run(script, &keys, &[], lane).await
}

async fn count(servers: &Servers, key: &str, lane: Lane) -> Result<i64, CommandError> {
    let value = run(servers, &counting(), &[key], lane).await?;
    let Value::Int(count) = value else { panic!("{value:?}") };
    Ok(count)
}

/// Counts `k` on the shared connection and on another one, from this number on.
async fn count_twice(servers: &Servers, from: i64) {
    for (wanted, lane) in (from..).zip([Lane::Shared, Lane::Apart]) {
        assert_eq!(count(servers, "k", lane).await.unwrap(), wanted);
    }
}

/// The error of a call that must fail.
async fn failed(servers: &Servers, lane: Lane) -> CommandError {
    count(servers, "k", lane).await.unwrap_err()
}

/// The error of connecting that must fail.
async fn refused(url: &str) -> RedisError {
    connect(url).await.unwrap_err()
}

#[tokio::test]
async fn a_forgotten_script_is_loaded_again_and_runs_once() {
    let (server, servers) = running(&[]).await;
    assert!(!servers.is_cluster());
    let old = tell(&server, "INFO server").contains("redis_version:6");
    assert_eq!(servers.understand_shebangs(), !old);
    for (times, lane) in (1..).zip([Lane::Shared, Lane::Apart, Lane::Shared]) {
        tell(&server, "SCRIPT FLUSH");
        assert_eq!(count(&servers, "k", lane).await.unwrap(), times);
    }
    servers.health().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_ran_nothing() {
    let (server, servers) = running(&[]).await;
    count_twice(&servers, 1).await;
    server.kill();
    // A call that is sent before the client notices has an unknown outcome.
    sleep(50).await;
    for lane in [Lane::Shared, Lane::Apart] {
        assert_is!(failed(&servers, lane).await, NotRun(RedisError::Unreachable { .. }));
    }
    assert!(servers.health().await.is_err());
    assert_is!(refused(&server.url()).await, RedisError::Unreachable { .. });
    server.start();
    sleep(200).await;
    count_twice(&servers, 1).await;
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_unknown_and_not_sent_again() {
    let (server, servers) = running(&[]).await;
    count_twice(&servers, 1).await;
    server.freeze();
    assert_is!(failed(&servers, Lane::Shared).await, Unknown(RedisError::Deadline { .. }));
    // That connection is gone now and a new one cannot be made; one of the pool is tried before it is used.
    for lane in [Lane::Shared, Lane::Apart] {
        assert_is!(failed(&servers, lane).await, NotRun(_));
    }
    server.thaw();
    sleep(300).await;
    // Two that were answered, one that was not but ran, and this one.
    assert_eq!(count(&servers, "k", Lane::Shared).await.unwrap(), 4);
}

#[tokio::test]
async fn a_connection_that_breaks_during_a_call_leaves_it_unknown() {
    let (server, servers) = running(&[]).await;
    server.freeze();
    let calling = tokio::spawn(async move { count(&servers, "k", Lane::Shared).await });
    sleep(50).await;
    server.kill();
    assert_is!(calling.await.unwrap(), Err(Unknown(RedisError::ConnectionLost { .. })));
}

#[tokio::test]
async fn many_callers_share_one_new_connection() {
    let (server, servers) = running(&[]).await;
    tell(&server, "CLIENT KILL TYPE normal");
    sleep(20).await;
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let servers = servers.clone();
        calls.spawn(async move { count(&servers, "k", Lane::Shared).await.unwrap() });
    }
    let mut counts: Vec<_> = calls.join_all().await;
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).collect::<Vec<_>>());
    // Ours, and the one that asks.
    assert_eq!(tell(&server, "CLIENT LIST").lines().count(), 2);
}

#[tokio::test]
async fn users_who_may_not() {
    let server = RedisServer::with(&["requirepass right"]);
    for user in ["", ":wrong@", "nobody:right@"] {
        let url = format!("redis://{user}127.0.0.1:{}", server.port());
        let error = refused(&url).await;
        assert_is!(error, RedisError::Authentication { .. }, "{user}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
    let server = RedisServer::run();
    tell(&server, "ACL SETUSER noscripts on nopass ~* +@all -@scripting");
    tell(&server, "ACL SETUSER norun on nopass ~* +@all -evalsha");
    tell(&server, "ACL SETUSER noinfo on nopass ~* +@all -info -role");
    tell(&server, "ACL SETUSER noincr on nopass ~* +@all -incr");
    tell(&server, "ACL SETUSER nokeys on nopass ~other:* +@all");
    let with = |user: &str| format!("redis://{user}:x@127.0.0.1:{}", server.port());
    assert_is!(refused(&with("noscripts")).await, RedisError::ScriptsForbidden { .. });
    assert!(connect(&with("noinfo")).await.is_ok());
    for (user, says) in [
        ("norun", "may not use EVALSHA: the limiter decides in scripts"),
        ("noincr", "may not use INCR,"),
        ("nokeys", "may not use the keys *,"),
    ] {
        let servers = connect(&with(user)).await.unwrap();
        let error = failed(&servers, Lane::Shared).await;
        assert_is!(error, NotRun(_), "{user}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let cluster = format!("redis+cluster://127.0.0.1:{}", server.port());
    for url in [format!("{}/99", server.url()), cluster] {
        assert_is!(refused(&url).await, RedisError::InvalidSetting { .. }, "{url}");
    }
}

#[cfg(feature = "tls")]
mod tls {
    use limiter_test_servers::{Port, shared};
    use redis::{Client, IntoConnectionInfo, TlsCertificates};
    use tempfile::TempDir;

    use super::*;

    /// A server that speaks TLS on a port of its own.
    struct TlsServer {
        port: Port,
        _server: RedisServer,
        _certificates: TempDir,
    }

    /// Starts a server with one of the certificates below; `None` if `redis-server` was built without TLS.
    fn serve(certificate: &str, options: &[&str]) -> Option<TlsServer> {
        let speaks_tls = shared().command(&["CONFIG", "GET", "tls-port"]);
        if redis::from_redis_value::<Vec<String>>(speaks_tls).unwrap().is_empty() {
            println!("this redis-server speaks no TLS");
            return None;
        }
        let (certificates, port) = (TempDir::new().unwrap(), Port::take());
        for (name, text) in CERTIFICATES {
            std::fs::write(certificates.path().join(name), text).unwrap();
        }
        let file = |name: &str| certificates.path().join(name).display().to_string();
        let lines = [
            format!("tls-port {}", port.number()),
            format!("tls-cert-file {}", file(certificate)),
            format!("tls-key-file {}", file("key.pem")),
            format!("tls-ca-cert-file {}", file("authority.pem")),
        ];
        let lines = lines.iter().map(String::as_str).chain(options.iter().copied());
        let server = RedisServer::with(&lines.collect::<Vec<_>>());
        Some(TlsServer { port, _server: server, _certificates: certificates })
    }

    /// Connects by TLS, and trusts the authority of the certificates below.
    async fn connect_trusting(port: u16) -> Result<Servers, RedisError> {
        choose_cryptography();
        let root = CERTIFICATES.iter().find(|(name, _)| *name == "authority.pem").unwrap().1;
        let trusted = TlsCertificates { client_tls: None, root_cert: Some(root.into()) };
        let url = format!("rediss://localhost:{port}").into_connection_info().unwrap();
        let client = Client::build_with_tls(url, trusted).unwrap();
        let Target::Standalone(plain) = "redis://localhost".parse().unwrap() else { panic!() };
        let info = plain.set_addr(client.get_connection_info().addr().clone());
        let settings =
            Settings { target: Target::Standalone(info), ..settings("redis://localhost") };
        Servers::connect(settings, &[&counting()]).await
    }

    async fn fails(certificate: &str, options: &[&str], says: &[&str]) {
        let Some(server) = serve(certificate, options) else { return };
        let error = connect_trusting(server.port.number()).await.unwrap_err();
        assert_is!(error, RedisError::Tls { .. });
        for part in says {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn a_certificate_of_an_authority_that_is_trusted() {
        let Some(server) = serve("server.pem", &["tls-auth-clients no"]) else { return };
        let servers = connect_trusting(server.port.number()).await.unwrap();
        count_twice(&servers, 1).await;
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_accepted_is_said_to_be_that() {
        let open = &["tls-auth-clients no"];
        fails("expired.pem", open, &["has expired", "renew it"]).await;
        fails("other.pem", open, &["localhost", "redis.example", "name of the certificate"]).await;
        let Some(server) = serve("server.pem", open) else { return };
        let url = format!("rediss://localhost:{}", server.port.number());
        let error = refused(&url).await;
        assert!(error.to_string().contains("does not trust"), "{error}");
        assert!(error.to_string().contains("SSL_CERT_FILE"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_wants_a_client_certificate() {
        fails("server.pem", &["tls-auth-clients yes"], &["tls-auth-clients"]).await;
    }

    #[tokio::test]
    async fn a_plain_port_by_tls_and_a_tls_port_without_it() {
        for password in [&[][..], &["requirepass secret"]] {
            let server = RedisServer::with(password);
            let error = refused(&format!("rediss://127.0.0.1:{}", server.port())).await;
            assert_is!(error, RedisError::SpeaksNoTls { .. });
            assert!(error.to_string().contains("write redis://"), "{error}");
        }
        let Some(server) = serve("server.pem", &["tls-auth-clients no"]) else { return };
        let url = format!("redis://127.0.0.1:{}", server.port.number());
        let error = refused(&url).await;
        assert_is!(error, RedisError::WantsTls { .. });
        assert!(error.to_string().contains("write rediss://"), "{error}");
    }

    /// Certificates with one shared key, from an authority whose own key was thrown away. They are for localhost, for
    /// localhost until 2021, and for another name.
    const CERTIFICATES: [(&str, &str); 5] = [
        ("authority.pem", include_str!("certificates/authority.pem")),
        ("server.pem", include_str!("certificates/server.pem")),
        ("expired.pem", include_str!("certificates/expired.pem")),
        ("other.pem", include_str!("certificates/other.pem")),
        ("key.pem", include_str!("certificates/key.pem")),
    ];
}

#[tokio::test]
async fn settings_that_cannot_be() {
    for change in [
        (|settings| settings.pool_size = 0) as fn(&mut Settings),
        |settings| settings.pool_size = usize::MAX,
        |settings| settings.command_deadline = Duration::ZERO,
        |settings| settings.connect_deadline = Duration::MAX,
    ] {
        let mut settings = settings("redis://localhost");
        change(&mut settings);
        assert_is!(Servers::connect(settings, &[]).await, Err(RedisError::InvalidSetting { .. }));
    }
}

#[tokio::test]
async fn a_replica_decides_nothing() {
    let (master, replica) = (RedisServer::run(), RedisServer::run());
    let servers = connect(&replica.url()).await.unwrap();
    assert_eq!(count(&servers, "k", Lane::Apart).await.unwrap(), 1);
    tell(&replica, &format!("REPLICAOF 127.0.0.1 {}", master.port()));
    for lane in [Lane::Shared, Lane::Apart] {
        assert_is!(failed(&servers, lane).await, NotRun(RedisError::ReadOnly { .. }));
        assert_is!(failed(&servers, lane).await, NotRun(RedisError::Replica { .. }));
    }
    assert_is!(refused(&replica.url()).await, RedisError::Replica { .. });
}

#[tokio::test]
async fn a_server_that_evicts_or_is_full() {
    let (server, servers) = running(&["maxmemory-policy allkeys-lru"]).await;
    let strict = Settings { refuse_eviction: true, ..settings(&server.url()) };
    let error = Servers::connect(strict, &[]).await.unwrap_err();
    assert!(matches!(error, RedisError::Evicts { policy, .. } if policy == "allkeys-lru"));
    tell(&server, "CONFIG SET maxmemory-policy noeviction");
    tell(&server, "CONFIG SET maxmemory 1");
    assert_is!(failed(&servers, Lane::Shared).await, NotRun(RedisError::OutOfMemory { .. }));
    tell(&server, "CONFIG SET maxmemory 0");
    tell(&server, "LPUSH list x");
    let error = count(&servers, "list", Lane::Shared).await.unwrap_err();
    assert!(matches!(&error, NotRun(RedisError::WrongType { key }) if key == "list"));
}

#[tokio::test]
async fn what_our_scripts_raise() {
    let (_server, servers) = running(&[]).await;
    for (text, wanted) in [
        ("return redis.error_reply('LIMITER newer ' .. KEYS[1])", "later version"),
        ("return redis.error_reply('LIMITER corrupt too short')", "(too short)"),
        ("return nothing.at_all", "is damaged"),
        ("return (", "refused the script"),
    ] {
        let script = Script::new("odd", text.to_owned());
        let error = run(&servers, &script, &["k"], Lane::Shared).await.unwrap_err();
        assert_is!(error, NotRun(_), "{text}");
        assert!(error.to_string().contains(wanted), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_busy_server() {
    let (server, servers) = running(&["lua-time-limit 20"]).await;
    let endless = Script::new("endless", "while true do end".to_owned());
    let answer = run(&servers, &endless, &[], Lane::Apart).await;
    assert_is!(answer, Err(Unknown(RedisError::Deadline { .. })));
    assert_is!(failed(&servers, Lane::Shared).await, NotRun(RedisError::Busy { .. }));
    tell(&server, "SCRIPT KILL");
    sleep(100).await;
    assert_eq!(count(&servers, "k", Lane::Shared).await.unwrap(), 1);
}

#[tokio::test]
async fn a_cluster_whose_slots_move() {
    let cluster = cluster();
    let nodes = cluster.nodes();
    let url = format!("redis+cluster://127.0.0.1:{}", nodes[1].port());
    let servers = connect(&url).await.unwrap();
    assert!(servers.is_cluster());
    for lane in [Lane::Shared, Lane::Apart] {
        for key in ["a", "b", "c", "d"] {
            let wanted = if lane == Lane::Shared { 1 } else { 2 };
            assert_eq!(count(&servers, key, lane).await.unwrap(), wanted, "{key}");
        }
    }
    servers.health().await.unwrap();

    // "b" has slot 3300, at the first node. While it moves, what is not there yet is asked for at the second.
    let ids: Vec<_> = nodes.iter().map(|node| tell(node, "CLUSTER MYID")).collect();
    tell(&nodes[1], "SCRIPT FLUSH");
    tell(&nodes[1], &format!("CLUSTER SETSLOT 3300 IMPORTING {}", ids[0]));
    tell(&nodes[0], &format!("CLUSTER SETSLOT 3300 MIGRATING {}", ids[1]));
    assert_eq!(count(&servers, "b", Lane::Shared).await.unwrap(), 3);
    assert_eq!(count(&servers, "{b}new", Lane::Shared).await.unwrap(), 1);
    assert_eq!(count(&servers, "{b}new", Lane::Apart).await.unwrap(), 2);
    let script = Script::new("two", "return redis.call('EXISTS', KEYS[1], KEYS[2])".to_owned());
    // The node that such a script is refused by: before Redis 7 the one that the slot moves to.
    let tried = || nodes.iter().map(|node| errors(node, "TRYAGAIN")).sum::<u64>();
    // Some keys are here and some are there: it is tried until the deadline is near. On a busy machine the answer to the
    // last try may come too late.
    let mut refused = None;
    for _ in 0..3 {
        match run(&servers, &script, &["b", "{b}new"], Lane::Shared).await {
            Err(NotRun(error)) => refused = Some(error),
            Err(Unknown(RedisError::Deadline { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(
        matches!(&refused, Some(RedisError::ClusterDown { answer }) if answer.starts_with("TRYAGAIN"))
    );
    assert!(tried() > 3 * 6);
    let patient = Settings { command_deadline: Duration::from_secs(10), ..settings(&url) };
    let patient = Servers::connect(patient, &[]).await.unwrap();
    let (began, before) = (Instant::now(), tried());
    let waiting =
        tokio::spawn(async move { run(&patient, &script, &["b", "{b}new"], Lane::Shared).await });
    while began.elapsed() < Duration::from_millis(300) || tried() - before < 10 {
        assert!(!waiting.is_finished());
        sleep(10).await;
    }
    tell(&nodes[0], &format!("MIGRATE 127.0.0.1 {} b 0 1000", nodes[1].port()));
    assert_eq!(count(&servers, "b", Lane::Shared).await.unwrap(), 4);
    for node in nodes {
        tell(node, &format!("CLUSTER SETSLOT 3300 NODE {}", ids[1]));
    }
    // Moved: followed at once, and known afterwards.
    assert_eq!(count(&servers, "b", Lane::Shared).await.unwrap(), 5);
    sleep(200).await;
    assert_eq!(count(&servers, "b", Lane::Shared).await.unwrap(), 6);
    assert_is!(waiting.await.unwrap(), Ok(Value::Int(2)));
    let Place::Cluster(known) = &*servers.place else { panic!("no cluster") };
    let owner = known.owner(b"b", false, Instant::now() + Duration::from_secs(1)).await.unwrap();
    assert_eq!(owner.address(), format!("127.0.0.1:{}", nodes[1].port()));

    // A single node of it, taken for all there is.
    let single = connect(&nodes[0].url()).await.unwrap();
    let count_there = count(&single, "b", Lane::Shared).await;
    assert_is!(count_there, Err(NotRun(RedisError::InvalidSetting { .. })));
}

#[tokio::test]
async fn a_cluster_with_a_node_missing() {
    let cluster = cluster();
    let nodes = cluster.nodes();
    let url =
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", nodes[2].port(), nodes[0].port());
    let servers = connect(&url).await.unwrap();
    nodes[2].kill();
    sleep(50).await;
    // "a" has slot 15495, at the third; "b" is at the first.
    let error = count(&servers, "a", Lane::Shared).await.unwrap_err();
    assert_is!(error, NotRun(RedisError::Unreachable { .. }));
    assert_eq!(count(&servers, "b", Lane::Shared).await.unwrap(), 1);
    // Within the node time-out of the cluster, all that remain refuse.
    let end = Instant::now() + Duration::from_secs(5);
    while !matches!(
        count(&servers, "b", Lane::Shared).await,
        Err(NotRun(RedisError::ClusterDown { .. }))
    ) {
        assert!(Instant::now() < end);
        sleep(100).await;
    }
    assert!(servers.health().await.is_err());
}

#[tokio::test]
async fn the_master_that_sentinels_name() {
    let (first, second) = (RedisServer::run(), RedisServer::run());
    let sentinel =
        RedisServer::sentinel(&[&format!("sentinel monitor main 127.0.0.1 {} 1", first.port())]);
    // No server listens at the first address; another process may take a free port a moment later.
    let url = format!("redis+sentinel://127.0.0.1:1,127.0.0.1:{}/main", sentinel.port());
    let servers = connect(&url).await.unwrap();
    count_twice(&servers, 1).await;

    // The master is demoted, and the Sentinel knows the other one by then.
    tell(&second, "SET k 10");
    tell(&sentinel, "SENTINEL REMOVE main");
    tell(&sentinel, &format!("SENTINEL MONITOR main 127.0.0.1 {} 1", second.port()));
    tell(&first, &format!("REPLICAOF 127.0.0.1 {}", second.port()));
    count_twice(&servers, 11).await;
    servers.health().await.unwrap();

    // And back, seen first by the connections of the pool.
    tell(&sentinel, "SENTINEL REMOVE main");
    tell(&sentinel, &format!("SENTINEL MONITOR main 127.0.0.1 {} 1", first.port()));
    tell(&first, "REPLICAOF NO ONE");
    tell(&first, "SET k 20");
    tell(&second, &format!("REPLICAOF 127.0.0.1 {}", first.port()));
    assert_eq!(count(&servers, "k", Lane::Apart).await.unwrap(), 21);
    assert_eq!(count(&servers, "k", Lane::Shared).await.unwrap(), 22);

    let error = refused(&url.replace("/main", "/other")).await;
    assert!(matches!(error, RedisError::NoMaster { service, .. } if service == "other"));
}

/// How often this node has answered an error of this code; Redis 6.2 counts them too.
fn errors(node: &RedisServer, code: &str) -> u64 {
    let count = node.info(&format!("errorstat_{code}"));
    count.and_then(|count| count.strip_prefix("count=")?.parse().ok()).unwrap_or(0)
}

/// A server whose scripts are flushed again and again still runs each call, and once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_are_forgotten_all_the_time_run_nevertheless() {
    let (server, servers) = running(&[]).await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let flushing = tokio::spawn(async move {
        loop {
            redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut connection).await.unwrap();
        }
    });
    let mut times = 0;
    while times < 100 || errors(&server, "NOSCRIPT") < 50 {
        for lane in [Lane::Shared, Lane::Apart] {
            times += 1;
            assert_eq!(count(&servers, "k", lane).await.unwrap(), times);
        }
    }
    flushing.abort();
}

async fn sleep(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// Three masters; the first has the slots up to 5461, the second up to 10923.
fn cluster() -> RedisCluster {
    RedisCluster::with(&["cluster-node-timeout 500"])
}

/// The reply of a server to a command, if it is a text.
fn tell(server: &RedisServer, command: &str) -> String {
    match server.command(&command.split(' ').collect::<Vec<_>>()) {
        Value::BulkString(text) => String::from_utf8(text).unwrap(),
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    }
}
