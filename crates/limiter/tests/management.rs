//! Management operations are reported: which admin did what, to which key.

use std::sync::{Arc, Mutex};

use limiter::memory::MemoryStore;
use limiter::{Effective, KeyConfig, KeyId, Limiter, Limits, NewKey, Rotation};

/// A limiter, and what it has reported since the last look.
struct Watched {
    limiter: Limiter,
    events: Arc<Mutex<Vec<String>>>,
}

impl Watched {
    fn new() -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let reported = Arc::clone(&events);
        let limiter = Limiter::builder(MemoryStore::new())
            .on_management(|_| panic!("no"))
            .on_management(move |event| reported.lock().unwrap().push(event.to_string()))
            .build();
        Self { limiter, events }
    }

    fn reported(&self) -> Vec<String> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

#[tokio::test]
async fn each_operation_is_reported_with_its_admin_or_as_the_owners() {
    let watched = Watched::new();
    let limiter = &watched.limiter;
    let ops = id("ops");
    let admin = NewKey::admin(named("admin")).with_id(ops.clone());
    let bootstrapped = limiter.bootstrap("home".parse().unwrap(), admin).await.unwrap();
    assert_eq!(watched.reported(), ["the owner has created ops of the workspace home"]);
    let access_key = bootstrapped.access_key.unwrap();

    for (keys, by) in [
        (limiter.workspace("home").unwrap(), "the owner"),
        (limiter.keys(&access_key), "admin ops"),
        (limiter.keys_as(&ops), "admin ops"),
    ] {
        let ci = id("ci");
        keys.create(NewKey::member(named("ci")).with_id(ci.clone())).await.unwrap();
        let limits = Limits::builder().requests_per_day(1).build().unwrap();
        let config = named("ci").with_global(limits);
        keys.update(&ci, 1, &config).await.unwrap();
        keys.upsert(NewKey::member(named("ci")), Effective::Now).await.unwrap();
        keys.rotate(&ci, &Rotation::at_once()).await.unwrap();
        keys.reset(&ci).await.unwrap();
        keys.delete(&ci).await.unwrap();
        let all = ["created", "updated", "updated", "rotated", "reset", "deleted"];
        let all = all.map(|change| format!("{by} has {change} ci of the workspace home"));
        assert_eq!(watched.reported(), all);

        let many = ["a", "b"].map(|name| NewKey::member(named(name)).with_id(id(name)));
        let taken = NewKey::member(named("a"));
        keys.create_many(many.into_iter().chain([taken]).collect()).await.unwrap();
        let created = ["a", "b"].map(|key| format!("{by} has created {key} of the workspace home"));
        assert_eq!(watched.reported(), created);
        for key in ["a", "b"] {
            keys.delete(&id(key)).await.unwrap();
        }
        watched.reported();
    }
}

#[tokio::test]
async fn what_changes_nothing_is_not_reported() {
    let watched = Watched::new();
    let limiter = &watched.limiter;
    let (ops, ci, nobody) = (id("ops"), id("ci"), id("nobody"));
    let admin = || NewKey::admin(named("admin")).with_id(ops.clone()).without_access_key();
    limiter.bootstrap("home".parse().unwrap(), admin()).await.unwrap();
    let keys = limiter.keys_as(&ops);
    keys.create(NewKey::member(named("ci")).with_id(ci.clone())).await.unwrap();
    watched.reported();

    limiter.bootstrap("home".parse().unwrap(), admin()).await.unwrap();
    keys.update(&ci, 1, &named("ci")).await.unwrap();
    keys.upsert(NewKey::member(named("ci")), Effective::Next).await.unwrap();
    keys.update(&ci, 7, &named("other")).await.unwrap_err();
    keys.create(NewKey::member(named("ci"))).await.unwrap_err();
    keys.delete(&ops).await.unwrap_err();
    keys.reset(&nobody).await.unwrap_err();
    keys.rotate(&nobody, &Rotation::at_once()).await.unwrap_err();
    let of_member = limiter.keys_as(&ci);
    of_member.delete(&ci).await.unwrap_err();
    keys.get(&ci).await.unwrap();
    keys.usage(&ci).await.unwrap();
    assert!(watched.reported().is_empty());
}

fn named(name: &str) -> KeyConfig {
    KeyConfig::named(name).unwrap()
}

fn id(id: &str) -> KeyId {
    id.parse().unwrap()
}
