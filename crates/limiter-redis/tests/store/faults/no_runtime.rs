//! Calls that are polled where no tokio runtime is: each is an error that says so, charges nothing, and harms no later call.

use std::fmt::Debug;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use limiter_core::{
    AccessKey, Charge, KeyConfig, KeyKind, NewRecord, RecordId, RequestId, Search, Store,
    Thresholds, Totals,
};
use limiter_redis::RedisError;
use limiter_test_servers::{RedisServer, at_once};
use tokio::runtime::Runtime;

use super::load::{call, connect, counted, key_with_budget, patient};
use crate::update::update;

#[test]
fn every_call_outside_of_a_runtime_is_an_error() {
    let server = RedisServer::run();
    let runtime = Runtime::new().unwrap();
    let (store, key) = runtime.block_on(async {
        let store = connect(server.url()).await;
        let key = key_with_budget(&store, 100).await;
        (store, key)
    });
    let (charge, workspace) = (Charge::request(), "home".parse().unwrap());
    let id: RequestId = "r".parse().unwrap();
    let total = Totals::unchanged();
    let digest = AccessKey::new("sk-0123456789abcdefghij-01").unwrap().digest();
    let config = KeyConfig::named("other").unwrap();
    let record = NewRecord {
        id: "other".parse().unwrap(),
        workspace: "home".parse().unwrap(),
        kind: KeyKind::Member,
        config: config.clone(),
        thresholds: Thresholds::DEFAULT,
        secret: None,
        bootstraps: false,
    };
    let day = Duration::from_secs(86_400);

    refused(store.check_and_consume(&key, None, &charge));
    refused(store.peek(&key, None, &charge));
    refused(store.usage(&key));
    refused(store.check_once(&key, None, &charge, &id));
    refused(store.record(&key, None, &charge, &RecordId::new(&id, day)));
    refused(store.reserve(&key, None, &charge, &id, day));
    refused(store.amend(&key, &id, &total));
    refused(store.settle(&key, &id, &total));
    refused(store.cancel(&key, &id));
    refused(store.resolve(&digest));
    refused(store.read(&key));
    refused(store.create(record));
    refused(store.update(&workspace, &update(&key, 1, &config)));
    refused(store.reset(&workspace, &key));
    refused(store.history(&key, 1));
    refused(store.find(&workspace, &config.name));
    refused(store.delete(&workspace, &key));
    refused(store.list(&workspace, &Search::all()));
    refused(store.state(&key));
    refused(store.ledger(&key));
    let named = |error: RedisError| {
        assert!(error.to_string().contains("outside of a tokio runtime"), "{error}");
    };
    named(at_once(store.health()).unwrap_err());
    named(at_once(store.delete_everything()).unwrap_err());
    named(at_once(patient(server.url()).connect()).unwrap_err());

    runtime.block_on(async {
        assert_eq!(counted(&store, &key).await, 0);
        assert!(call(&store, &key).await.unwrap().is_allowed());
        assert_eq!(store.list(&workspace, &Search::all()).await.unwrap().keys.len(), 1);
    });
}

/// A future that a runtime began, and that is polled and dropped elsewhere.
#[test]
fn a_call_that_leaves_its_runtime_is_an_error() {
    let server = RedisServer::run();
    let runtime = Runtime::new().unwrap();
    let charge = Charge::request();
    let (store, key) = runtime.block_on(async {
        let store = connect(server.url()).await;
        let key = key_with_budget(&store, 100).await;
        // So that the limits of the key are at hand: the next operation begins with nothing that only reads.
        let _ = store.check_and_consume(&key, None, &charge).await.unwrap();
        (store, key)
    });
    server.freeze();
    let workspace = "home".parse().unwrap();
    let id: RequestId = "r".parse().unwrap();
    let all = Search::all();
    let mut usage = pin!(store.usage(&key));
    let mut list = pin!(store.list(&workspace, &all));
    let mut reserve = pin!(store.reserve(&key, None, &charge, &id, Duration::from_secs(60)));
    let mut decide = pin!(store.check_and_consume(&key, None, &charge));
    let cx = &mut Context::from_waker(Waker::noop());
    {
        let _inside = runtime.enter();
        assert!(usage.as_mut().poll(cx).is_pending());
        assert!(list.as_mut().poll(cx).is_pending());
        assert!(reserve.as_mut().poll(cx).is_pending());
        assert!(decide.as_mut().poll(cx).is_pending());
    }
    refused(usage);
    refused(list);
    // It may have been sent.
    let error = at_once(reserve).unwrap_err();
    assert!(format!("{error:?}").contains("OutcomeUnknown(NoRuntime)"), "{error:?}");
    // All that it needed of the runtime it has.
    assert!(decide.as_mut().poll(cx).is_pending());
    drop(runtime);
    server.thaw();
}

/// Polls a call here, where no runtime is: it is refused at once.
fn refused<T: Debug, E: Debug>(call: impl Future<Output = Result<T, E>>) {
    let error = format!("{:?}", at_once(call).unwrap_err());
    assert!(error.contains("Unavailable(NoRuntime)"), "{error}");
}
