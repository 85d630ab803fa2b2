//! Servers that share a Redis.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use limiter_test_servers::{RedisServer, fresh_name, shared, until};
use serde_json::json;

use crate::support::{ADMIN, Running};

#[test]
fn two_servers_admit_together_exactly_what_the_limit_allows() {
    const LIMIT: u64 = 200;
    let prefix = fresh_name("two");
    let flags = ["--redis", shared().url(), "--redis-prefix", &prefix];
    let servers = [Running::with(&flags), Running::with(&flags)];
    let (_, key) = servers[0].member("member", json!({"globalLimits": {"rpd": LIMIT}}));
    let (allowed, denied) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..8 {
            let (server, key, allowed, denied) = (&servers[number % 2], &key, &allowed, &denied);
            scope.spawn(move || {
                for _ in 0..50 {
                    match server.run(key, "Hello").status {
                        200 => allowed.fetch_add(1, Ordering::Relaxed),
                        429 => denied.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}: {}", server.output()),
                    };
                }
            });
        }
    });
    assert_eq!(allowed.into_inner(), LIMIT);
    assert_eq!(denied.into_inner(), 400 - LIMIT);
    assert_eq!(servers[1].used_today(&key).0, LIMIT);
}

/// Thresholds that fire, and what is used, are those of Redis.
#[test]
fn two_servers_with_leases_admit_together_exactly_what_the_limit_allows() {
    const LIMIT: u64 = 3_000;
    let prefix = fresh_name("leases");
    let flags = ["--redis", shared().url(), "--redis-prefix", &prefix, "--leases"];
    let servers = [Running::with(&flags), Running::with(&flags)];
    let (_, key) = servers[0].member("member", json!({"globalLimits": {"rpd": LIMIT}}));
    let (allowed, leased) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..8 {
            let (server, key, allowed, leased) = (&servers[number % 2], &key, &allowed, &leased);
            scope.spawn(move || {
                loop {
                    let answer = server.post(key, "/v1/check", &json!({}));
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let decision = &answer.body;
                    if decision["outcome"] != "allowed" {
                        break;
                    }
                    allowed.fetch_add(1, Ordering::Relaxed);
                    leased.fetch_add(u64::from(decision["leased"] == true), Ordering::Relaxed);
                }
            });
        }
    });
    let leased = leased.into_inner();
    println!("{leased} of {LIMIT} out of leases");
    assert_eq!(allowed.into_inner(), LIMIT);
    assert!(leased > LIMIT / 10, "{leased}");
    assert_eq!(servers[1].used_today(&key).0, LIMIT);
    let metrics = servers[0].get("", "/metrics").text;
    assert!(metrics.contains("limiter_lease_decisions_total"), "{metrics}");
}

/// A minute of the limit would be gone, had it not handed back what it had leased.
#[test]
fn a_server_that_is_stopped_hands_its_leases_back() {
    let prefix = fresh_name("leases-stop");
    let flags = ["--redis", shared().url(), "--redis-prefix", &prefix];
    let server = Running::with(&[&flags[..], &["--leases"]].concat());
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 1_000_000}}));
    for _ in 0..300 {
        assert_eq!(server.post(&key, "/v1/check", &json!({})).status, 200);
    }
    server.stop();
    assert_eq!(Running::with(&flags).used_today(&key).0, 300);
}

#[test]
fn a_restart_on_redis_goes_on() {
    let prefix = fresh_name("restart");
    let flags = ["--redis", shared().url(), "--redis-prefix", &prefix];
    let first = Running::with(&flags);
    let (_, key) = first.member("member", json!({"globalLimits": {"rpd": 1}}));
    assert_eq!(first.run(&key, "Hello").status, 200);
    first.stop();
    // With the admin key of the first time, and without any.
    assert_eq!(Running::with(&flags).run(&key, "Hello").status, 429);
    let without = Running::try_with(&flags, None).unwrap();
    assert_eq!(without.get(ADMIN, "/sdk/api-keys").status, 200);
    assert!(without.output().contains("has keys already"), "{}", without.output());
    let output = Running::try_with(&flags, Some("another-key-of-somebody-else")).unwrap_err();
    assert!(output.contains("LIMITER_ADMIN_KEY"), "{output}");
}

#[test]
fn no_redis_is_an_error_and_never_an_allow() {
    let redis = RedisServer::run();
    let server = Running::with(&["--redis", &redis.url()]);
    let (_, key) = server.member("member", json!({}));
    assert_eq!(server.run(&key, "Hello").status, 200);
    redis.kill();
    for _ in 0..2 {
        server.run(&key, "Hello").assert_refused_on_the_wire(503);
        server.post(&key, "/v1/check", &json!({})).assert_problem(503);
    }
    // An unreachable store may be back in a moment, and nothing was charged.
    for answer in [server.run(&key, "Hello"), server.post(&key, "/v1/check", &json!({}))] {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{answer:?}");
        assert_eq!(answer.header("x-should-retry"), None, "{answer:?}");
    }
    assert_eq!(server.get("", "/readyz").status, 503);
    assert_eq!(server.get("", "/healthz").status, 200);
    redis.start();
    until("it is ready again", || server.get("", "/readyz").status == 200);
}

/// Each refused call used to be a log line: 9,323 in three seconds.
#[test]
fn a_redis_that_is_gone_is_warned_of_once_and_not_with_each_call() {
    let redis = RedisServer::run();
    let server = Running::with(&["--redis", &redis.url(), "--log", "warn"]);
    let (id, key) = server.member("member", json!({}));
    redis.kill();
    for _ in 0..20 {
        server.run(&key, "Hello").assert_refused_on_the_wire(503);
        server.post(&key, "/v1/check", &json!({})).assert_problem(503);
        server.post(&key, "/v1/reserve", &json!({})).assert_problem(503);
        server.get(&key, "/v1/usage").assert_problem(503);
        server.get(ADMIN, "/sdk/api-keys").assert_refused_on_the_wire(503);
        server.get(ADMIN, &format!("/sdk/api-keys/{id}")).assert_refused_on_the_wire(503);
        // An access key that needs a look-up.
        server.post(&format!("{key}x"), "/v1/check", &json!({})).assert_problem(503);
    }
    let output = server.output();
    let warnings: Vec<&str> =
        output.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
}

#[test]
fn an_unreachable_redis_is_reported() {
    let output = Running::try_with(&["--redis", "redis://127.0.0.1:1"], Some(ADMIN)).unwrap_err();
    assert!(output.contains("--redis"), "{output}");
}

/// Once, one damaged value in Redis made the list of keys, and every call on that key, a 503 until somebody edited Redis.
#[test]
fn a_damaged_key_is_named_and_deleted_and_the_others_go_on() {
    let prefix = fresh_name("damaged");
    let flags = ["--redis", shared().url(), "--redis-prefix", &prefix];
    let server = Running::with(&flags);
    let (healthy, key) = server.member("healthy", json!({"globalLimits": {"rpd": 5}}));
    let limits = json!({"name": "a name of its own", "globalLimits": {"rpd": 5}});
    for damage in
        ["DEL {prefix}:k:{{id}}", "SET {prefix}:m:{{id}} text", "HDEL {prefix}:m:{{id}} name"]
    {
        let (damaged, _) = server.member("a name of its own", json!({}));
        let damage = damage.replace("{prefix}", &prefix).replace("{id}", &damaged);
        shared().command(&damage.split(' ').collect::<Vec<_>>());

        let listed = server.get(ADMIN, "/sdk/api-keys");
        assert_eq!(listed.status, 200, "{damage}: {listed:?}");
        assert!(listed.text.contains(&healthy) && !listed.text.contains(&damaged), "{listed:?}");
        // The log names those that it meets first, and then some of them every ten seconds.
        until("the log names it", || {
            server.output().contains("keys whose stored data cannot be read")
        });

        let page = server.get(ADMIN, "/v1/keys");
        assert_eq!(page.body["damaged"], json!([{"id": damaged, "name": "a name of its own"}]));
        assert!(page.text.contains(&healthy), "{page:?}");

        let path = format!("/sdk/api-keys/{damaged}");
        for answer in [
            server.get(ADMIN, &path),
            server.call("PUT", ADMIN, &path, &limits.to_string()),
            server.get(ADMIN, &format!("{path}/usage-limits")),
        ] {
            let message = answer.assert_refused_on_the_wire(500);
            assert!(message.contains(&damaged) && message.contains("delete the key"), "{message}");
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{answer:?}");
        }
        server.post(ADMIN, "/sdk/api-keys", &limits).assert_refused_on_the_wire(422);
        assert_eq!(server.run(&key, "Hello").status, 200, "{damage}");

        let deleted = server.call("DELETE", ADMIN, &path, "");
        assert_eq!(deleted.status, 200, "{damage}: {deleted:?}");
        server.get(ADMIN, &path).assert_refused_on_the_wire(404);
        let (again, _) = server.member("a name of its own", json!({}));
        assert_eq!(server.call("DELETE", ADMIN, &format!("/sdk/api-keys/{again}"), "").status, 200);
    }
    let metrics = server.get("", "/metrics").text;
    assert!(metrics.contains("limiter_damaged_keys_listed_total 6"), "{metrics}");
}
