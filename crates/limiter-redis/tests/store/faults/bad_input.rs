//! Each mistake of the people who run it is an error of its own, with a sentence that says what to do.

use limiter_core::{Store, StoreError};
use limiter_redis::{RedisError, RedisStore};
use limiter_test_servers::RedisServer;

use super::load::{call, cause, connect, key_with_budget};

#[tokio::test]
async fn a_wrong_url_is_answered_with_those_that_are_right() {
    for url in ["", "localhost", "http://localhost", "redis://", "redis://localhost:99999"] {
        let error = RedisStore::connect(url).await.unwrap_err();
        says(&error, "write redis://[user:password@]host:port/database");
        assert!(matches!(error, RedisError::InvalidUrl { .. }), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_to_be_looked_for_in_the_url_and_is_not_repeated() {
    let server = RedisServer::with(&["requirepass right"]);
    let url = server.url().replace("right", "mistaken");
    let error = RedisStore::connect(url).await.unwrap_err();
    says(&error, "check both in the URL");
    assert!(!format!("{error:?}").contains("mistaken"), "{error:?}");
    let error = RedisStore::connect(server.url().replace(":right@", "")).await.unwrap_err();
    says(&error, "check both in the URL");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_to_be_started() {
    let server = RedisServer::run();
    server.kill();
    let error = RedisStore::connect(server.url()).await.unwrap_err();
    says(&error, "check that it runs, its address, and the network between");
    assert!(error.to_string().contains(&server.address()), "{error}");
}

#[tokio::test]
async fn a_server_that_is_no_sentinel_is_named() {
    let server = RedisServer::run();
    let error = RedisStore::connect(format!("redis+sentinel://{}/main", server.address())).await;
    let error = error.unwrap_err();
    assert!(matches!(error, RedisError::NotASentinel { .. }), "{error:?}");
    says(&error, "write redis:// to use this server itself");
}

#[tokio::test]
async fn scripts_that_the_user_may_not_run_are_to_be_allowed() {
    for lacks in ["-@scripting", "-script", "-evalsha", "-eval"] {
        let rules = format!("on >secret ~* +@all {lacks}");
        let server = RedisServer::with(&[&format!("user limiter {rules}")]);
        let error = RedisStore::connect(as_limiter(&server)).await.unwrap_err();
        says(&error, "allow them with ACL SETUSER <user> +evalsha +eval +script|load");
    }
}

#[tokio::test]
async fn a_key_of_another_type_under_our_prefix_asks_for_a_prefix_of_our_own() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    server.command(&["LPUSH", "limiter:k:{stolen}", "x"]);
    let key = "stolen".parse().unwrap();
    let words = "give the limiter a prefix of its own";
    for error in [
        call(&store, &key).await.unwrap_err(),
        store.usage(&key).await.unwrap_err(),
        store.read(&key).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
        says(cause(&error), words);
        assert!(cause(&error).contains("limiter:k:{stolen}"));
    }
    let left = server.text(&["LINDEX", "limiter:k:{stolen}", "0"]);
    assert_eq!(left, "x", "it is left as it was");
}

#[tokio::test]
async fn a_record_of_a_newer_version_asks_for_an_upgrade_and_is_left_alone() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 10).await;
    // The first byte is the format.
    let newer = "local g = redis.call('HGET', KEYS[1], 'g') \
                 redis.call('HSET', KEYS[1], 'g', '\\2' .. string.sub(g, 2))";
    server.command(&["EVAL", newer, "1", LIMITS]);
    let stored = || [STATE, LIMITS].map(|key| format!("{:?}", server.command(&["HGETALL", key])));
    let before = stored();
    for error in [call(&store, &key).await.unwrap_err(), store.usage(&key).await.unwrap_err()] {
        assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
        says(cause(&error), "was written by a later version of the limiter: upgrade this one");
    }
    assert_eq!(stored(), before);
}

#[tokio::test]
async fn a_damaged_record_allows_nothing_and_says_which_it_is() {
    let server = RedisServer::run();
    let store = connect(server.url()).await;
    let key = key_with_budget(&store, 10).await;
    server.command(&["HSET", STATE, "g", "\u{1}damaged"]);
    let error = call(&store, &key).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    says(cause(&error), "restore or delete it");
    assert!(cause(&error).contains(STATE));
}

fn as_limiter(server: &RedisServer) -> String {
    format!("redis://limiter:secret@{}", server.address())
}

pub(crate) fn says(error: impl ToString, words: &str) {
    let error = error.to_string();
    println!("{error}");
    assert!(error.contains(words), "{error:?} does not say {words:?}");
}

const STATE: &str = "limiter:k:{busy}";
const LIMITS: &str = "limiter:l:{busy}";
