//! The other data of a key's record: labels, and the times of its creation and its last change.

use limiter_core::{KeyRecord, Labels, Search};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("labels_are_read_as_they_were_saved", |world| {
        let longest: Vec<_> = (0..16).map(|n| (format!("{n:064}"), "v".repeat(256))).collect();
        for labels in [
            labels(&[]),
            labels(&[("team", "search"), ("tier", "")]),
            labels(&[("Ω", "é 🦀"), ("a b", "\"{}\\")]),
            Labels::new(longest).expect("it is within its bounds"),
        ] {
            let created = world.create(member("ci").with_id(key_id("ci")));
            assert!(created.record.config.labels.is_empty());
            let key = world.key(created.record.id);
            let updated = key.update(|config| config.labels = labels.clone());
            assert_eq!(updated.version, if labels.is_empty() { 1 } else { 2 });
            let listed = world.search(&Search::all().name_contains("ci")).keys;
            for record in [key.read(), listed[0].clone(), updated] {
                assert_eq!(record.config.labels, labels);
                let json = serde_json::to_string(&record).expect("a record is JSON");
                assert_eq!(serde_json::from_str::<KeyRecord>(&json).ok(), Some(record));
            }
            let removed = key.update(|config| config.labels = Labels::NONE);
            assert!(removed.config.labels.is_empty() && key.read().config.labels.is_empty());
            key.delete();
            let again = world.member(named("ci").with_labels(labels.clone()));
            assert_eq!(again.read().config.labels, labels);
            again.delete();
        }
    });

    // Calls, resets and saves of what is saved already change nothing.
    suite.story("a_record_shows_when_it_was_created_and_changed", |world| {
        world.at(1_000);
        let key = world.member(named("ci"));
        let times = || {
            let KeyRecord { created_at, changed_at, .. } = key.read();
            [created_at, changed_at].map(|at| at.unix_ms() - NOON.unix_ms())
        };
        assert_eq!(times(), [1_000, 1_000]);
        world.at(2_000);
        key.admit(None, 1).reset();
        key.update(|_| {});
        assert_eq!(times(), [1_000, 1_000]);
        for (ms, limit) in [(3_000, 5), (4_000, 6)] {
            world.at(ms);
            let updated = key.update(|config| config.global = requests_per_minute(limit));
            assert_eq!(updated.changed_at, at_noon_and(ms));
            assert_eq!(times(), [1_000, ms]);
        }
        // At its window the change takes effect, and is no other one.
        world.at(60_000);
        key.admit(None, 1);
        assert_eq!(times(), [1_000, 4_000]);
    });

    // Of groups and keys, in the order of the page, and as each is read alone.
    suite.story("a_page_shows_usage_if_it_is_asked_for", |world| {
        world.group(named("acme").with_global(requests_per_day(50)));
        for name in ["acme/a", "acme/b"] {
            let limits = limits(|it| it.requests_per_minute(10).parallel(2));
            world.member_at(named(name).with_global(limits)).admit(None, 3);
        }
        let b = world.key(key_id("acme/b"));
        let (call, id) = (requests(1), request_id("open"));
        let open = world.store.reserve(&b.id, None, &call, &id, MINUTE).wait();
        assert!(open.expect("the store answers").is_allowed());
        let search = Search::all().beneath(key_id("acme"));
        assert!(world.search(&search).usage.is_empty());
        for search in [search.with_usage(), Search::all().with_usage().page_size(1)] {
            let (mut search, mut seen) = (Some(search), 0);
            while let Some(page_of) = search {
                let page = world.search(&page_of);
                assert_eq!(page.usage.len(), page.keys.len());
                for (key, usage) in page.keys.iter().zip(&page.usage) {
                    assert_eq!(*usage, world.key(key.id.clone()).usage(), "{}", key.id);
                }
                seen += page.keys.len();
                search = page_of.following(&page);
            }
            assert!(seen >= 2);
        }
    });
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    Labels::new(labels.iter().copied()).expect("they are within their bounds")
}
