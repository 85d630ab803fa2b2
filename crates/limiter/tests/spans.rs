//! The spans around calls, and the warnings when a store fails.

use limiter::memory::MemoryStore;
use limiter::{AssetId, Charge, KeyConfig, Limiter, Limits, NewKey, Totals};
use limiter_test_servers::Log;
use tracing::Level;

/// The fields of each span, in the order in which they were closed.
fn spans(log: &Log) -> Vec<String> {
    let text = log.text();
    let inside = text.lines().filter_map(|line| line.split_once("limiter{")?.1.split_once('}'));
    inside.map(|(fields, _)| fields.replace('"', "")).collect()
}

#[tokio::test]
async fn each_call_has_a_span_with_its_outcome_and_with_its_key_only_if_asked() {
    let limiter = Limiter::in_memory();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let gpt5: AssetId = "gpt-5".parse().unwrap();
    let limits = Limits::builder().requests_per_day(1).build().unwrap();
    let config = KeyConfig::named("ci").unwrap().with_asset(gpt5.clone(), limits);
    let created = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap();
    let (member, access_key) = (created.record.id, created.access_key.unwrap());
    let charge = Charge::request();

    let log = Log::listen(Level::TRACE);
    assert_eq!(limiter.authenticate(&access_key).await.unwrap().as_ref(), Some(&member));
    let _allowed = limiter.check_and_consume(&member, &gpt5, &charge).await.unwrap();
    let _denied = limiter.check_and_consume(&member, &gpt5, &charge).await.unwrap();
    let mut call = limiter.reserve(&member, None, &charge).await.unwrap().allowed().unwrap();
    call.settle(&Totals::unchanged()).await.unwrap();
    assert_eq!(
        spans(&log),
        [
            "operation=authenticate outcome=done",
            "operation=check_and_consume outcome=allowed",
            "operation=check_and_consume outcome=rate_limited rule=asset/day/requests depth=1",
            "operation=reserve outcome=allowed",
            "operation=settle outcome=done",
        ]
    );
    for hidden in [access_key.expose(), member.as_str(), "gpt-5"] {
        assert!(!log.text().contains(hidden), "{hidden} is in\n{}", log.text());
    }

    let showing = limiter.with_key_label().with_asset_label();
    let log = Log::listen(Level::TRACE);
    let handle = showing.handle(&member, &gpt5).await.unwrap().unwrap();
    let _denied = handle.check_and_consume(&charge).await.unwrap();
    assert!(showing.authenticate(&access_key).await.unwrap().is_some());
    assert_eq!(
        spans(&log),
        [
            format!("operation=handle key={member} outcome=done"),
            format!(
                "operation=check_and_consume key={member} asset=gpt-5 outcome=rate_limited rule=asset/day/requests depth=1"
            ),
            "operation=authenticate outcome=done".to_owned(),
        ]
    );
    assert!(!log.text().contains(access_key.expose()), "{}", log.text());
}

#[tokio::test]
async fn a_span_shows_the_depth_of_the_level_that_binds() {
    let limiter = Limiter::in_memory();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let limits = Limits::builder().requests_per_day(0).build().unwrap();
    let limits_of = [("acme", Limits::NONE), ("acme/search", limits)];
    for (id, limits) in limits_of {
        let config = KeyConfig::named(id).unwrap().with_global(limits);
        let group = NewKey::group(id.parse().unwrap(), config);
        limiter.keys_as(&admin).create(group).await.unwrap();
    }
    let member = NewKey::member(KeyConfig::named("ci").unwrap());
    let member = member.beneath("acme/search".parse().unwrap());
    let member = limiter.keys_as(&admin).create(member).await.unwrap().record.id;

    let log = Log::listen(Level::TRACE);
    let _denied = limiter.check_and_consume(&member, None, &Charge::request()).await.unwrap();
    let span = "operation=check_and_consume outcome=rate_limited rule=global/day/requests depth=2";
    assert_eq!(spans(&log), [span]);
}

/// A warning for each call would bury all others.
#[tokio::test]
async fn a_store_that_fails_is_warned_of_once_and_not_with_each_call() {
    use limiter::StoreError;
    use limiter::redis::RedisStore;
    use limiter_test_servers::RedisServer;

    let server = RedisServer::run();
    let limiter = Limiter::from(RedisStore::connect(server.url()).await.unwrap());
    server.kill();
    let log = Log::listen(Level::TRACE);
    for _ in 0..20 {
        let key = "ci".parse().unwrap();
        let failed = limiter.check_and_consume(&key, None, &Charge::request()).await;
        assert!(
            matches!(failed, Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))),
            "{failed:?}"
        );
    }
    let (text, warnings) = (log.text(), log.lines_with("WARN limiter"));
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("the store gave no answer to a call"), "{text}");
    assert_eq!(spans(&log).iter().filter(|span| span.contains("outcome=error")).count(), 20);
}

/// The breaker logs once that it gives a store up, and not with each call.
#[tokio::test]
async fn a_store_that_a_breaker_has_given_up_is_not_warned_of_again() {
    use limiter::memory::MemoryStore;
    use limiter::policy::{FailurePolicy, GuardedStoreBuilder};

    let log = Log::listen(Level::TRACE);
    let nowhere = async || Err::<MemoryStore, _>("there is no store");
    let store = GuardedStoreBuilder::new(FailurePolicy::FailClosed).connect(nowhere).await;
    let limiter = Limiter::from(store);
    let key = "ci".parse().unwrap();
    for _ in 0..5 {
        limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap_err();
    }
    let (text, warnings) = (log.text(), log.lines_with(" WARN "));
    assert_eq!(warnings.len(), 1, "{text}");
    assert!(warnings[0].contains("cannot be connected to yet"), "{text}");
}

/// An operator sees who has changed a key.
#[tokio::test]
async fn management_operations_are_logged() {
    let log = Log::listen(Level::INFO);
    let limiter = Limiter::in_memory();
    let ci = NewKey::member(KeyConfig::named("ci").unwrap()).with_id("acme-ci".parse().unwrap());
    limiter.workspace("home").unwrap().create(ci).await.unwrap();
    let lines = log.lines_with("the owner has created acme-ci of the workspace home");
    assert!(matches!(&lines[..], [line] if line.contains(" INFO ")), "{}", log.text());
}

/// A callback that panics at each event does not fill the log.
#[tokio::test]
async fn a_callback_that_panics_often_is_logged_once_and_by_name() {
    let log = Log::listen(Level::TRACE);
    let limiter = Limiter::builder(MemoryStore::new()).on_threshold(|_| panic!("no")).build();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    for number in 0..20 {
        let limits = Limits::builder().requests_per_day(1).build().unwrap();
        let config = KeyConfig::named(format!("key {number}")).unwrap().with_global(limits);
        let key = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap().record.id;
        assert!(
            limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap().is_allowed()
        );
    }
    let lines = log.lines_with("has panicked");
    assert!(matches!(&lines[..], [line] if line.contains("on_threshold")), "{lines:?}");
}

/// Reserving and settling without the store logs no line per call, even when no more calls can be remembered.
#[tokio::test]
async fn reservations_of_an_outage_are_not_warned_of_one_by_one() {
    use std::num::NonZeroU32;

    use limiter::Reserved;
    use limiter::memory::MemoryStore;
    use limiter::policy::{FailurePolicy, GuardedStoreBuilder, Share};

    let share = Share::one_in(NonZeroU32::MIN);
    for policy in
        [FailurePolicy::FailClosed, FailurePolicy::FailOpen, FailurePolicy::LocalShare { share }]
    {
        let log = Log::listen(Level::TRACE);
        let nowhere = async || Err::<MemoryStore, _>("there is no store");
        let store = GuardedStoreBuilder::new(policy).most_remembered(10).connect(nowhere).await;
        let limiter = Limiter::from(store);
        let key = "ci".parse().unwrap();
        for _ in 0..100 {
            let estimate = Charge::request().with_tokens(0, 10).unwrap();
            if let Ok(Reserved::Allowed(mut call)) = limiter.reserve(&key, None, &estimate).await {
                call.settle(&Totals::unchanged()).await.unwrap();
            }
        }
        let text = log.text();
        assert_eq!(log.lines_with(" WARN ").len(), 1, "{policy:?}: {text}");
    }
}
