//! The player: what the replay format says beyond what a decision does, and errors that are no answers.

use std::sync::Arc;

use limiter_conformance::fixtures::{self, NOON, workspace};
use limiter_conformance::player::{PlayError, Player};
use limiter_conformance::replay::{Action, Answer, Operation, Problem};
use limiter_conformance::waiting::{Wait, on_a_runtime};
use limiter_conformance::{Around, Called, Interpose};
use limiter_core::{CallError, KeysError, LedgerBounds, ManualClock, Store, StoreError};
use limiter_memory::MemoryStore;

#[test]
fn a_label_may_be_of_any_length() {
    let label = "k".repeat(100_000);
    answers(&[
        (&format!(r#""op":"create","key":"{label}""#), r#"{"ok":true}"#),
        (&format!(r#""op":"check","key":"{label}""#), r#"{"allowed":true,"remaining":{}}"#),
        (r#""op":"create","key":"""#, r#"{"ok":true}"#),
    ]);
}

/// The ids behind them have as many segments, and begin as that of their group does.
#[test]
fn each_segment_of_a_path_is_a_label_of_any_length() {
    let long = "k".repeat(1_000);
    on_a_runtime(|| {
        let mut player = player(MemoryStore::builder());
        for (label, kind) in [("", "group"), ("/", "group"), (&*format!("/{long}"), "member")] {
            let create = operation(&format!(r#""op":"create","key":"{label}","kind":"{kind}""#));
            assert_eq!(player.play(&create).wait().ok(), Some(Answer::Ok));
        }
        let [root, inner, key] = ["", "/", &*format!("/{long}")].map(|label| player.key(label));
        assert_eq!([&root, &inner, &key].map(|id| id.depth()), [1, 2, 2]);
        assert!(inner.is_beneath(&root) && key.is_beneath(&root) && !key.is_beneath(&inner));
        assert!(player.key("/unknown").is_beneath(&root), "also of what there is not");
        player.begin_with_ids_of_labels();
        for (label, kind) in [("acme", "group"), ("acme/ci", "member")] {
            let create = operation(&format!(r#""op":"create","key":"{label}","kind":"{kind}""#));
            assert_eq!(player.play(&create).wait().ok(), Some(Answer::Ok));
        }
        assert_eq!(player.key("acme/ci").segments().last(), Some("ci"));
        // Nor has any label a plan.
        let [save, delete] = [r#""op":"plan","plan":"p""#, r#""op":"delete_plan","plan":"p""#];
        assert_eq!(player.play(&operation(save)).wait().ok(), Some(Answer::Ok));
        player.begin_with_ids_of_labels();
        let deleted = player.play(&operation(delete)).wait();
        assert_eq!(deleted.ok(), Some(Answer::Error(Problem::NoPlan)));
    });
}

#[test]
fn groups_are_answered_with_their_paths() {
    answers(&[
        (r#""op":"create","key":"acme/ci""#, r#"{"error":"no_group"}"#),
        (
            r#""op":"create","key":"acme","kind":"group","global":{"requests_per_minute":1}"#,
            r#"{"ok":true}"#,
        ),
        (r#""op":"create","key":"acme/search","kind":"group","budget":9"#, r#"{"ok":true}"#),
        (r#""op":"create","key":"acme/search/ci""#, r#"{"ok":true}"#),
        (
            r#""op":"check","key":"acme/search/ci","credits":8"#,
            r#"{"allowed":true,"remaining":{"acme:global/minute/requests":0,"acme/search:budget":1}}"#,
        ),
        (
            r#""op":"check","key":"acme/search/ci","credits":2"#,
            r#"{"allowed":false,"reason":"budget_exhausted","violated":["acme:global/minute/requests","acme/search:budget"],"binding":"acme/search:budget","retry_at":null}"#,
        ),
        (
            r#""op":"events""#,
            r#"{"events":[["acme","global/minute/requests",80],["acme","global/minute/requests",100],["acme/search","global/ever/credits",80]]}"#,
        ),
        (r#""op":"check","key":"acme/search""#, r#"{"allowed":false,"reason":"unknown_key"}"#),
        (r#""op":"cancel","key":"acme/search","id":"r1""#, r#"{"error":"unknown_key"}"#),
        (r#""op":"delete","key":"acme""#, r#"{"error":"not_empty"}"#),
        (r#""op":"create","key":"a/b/c/d/e""#, r#"{"error":"invalid"}"#),
        (r#""op":"create","key":"acme/root","kind":"admin""#, r#"{"error":"invalid"}"#),
        (r#""op":"create","key":"acme/search/ci/x""#, r#"{"error":"no_group"}"#),
        (r#""op":"create","key":"acme""#, r#"{"error":"already_exists"}"#),
    ]);
}

#[test]
fn plans_are_answered_by_their_labels() {
    let requests = r#""global":{"requests_per_minute":1}"#;
    let long = "p".repeat(1_000);
    answers(&[
        (r#""op":"delete_plan","plan":"free""#, r#"{"error":"no_plan"}"#),
        (r#""op":"create","key":"k1","plan":"free""#, r#"{"error":"no_plan"}"#),
        (&format!(r#""op":"plan","plan":"free",{requests}"#), r#"{"ok":true}"#),
        (&format!(r#""op":"plan","plan":"{long}""#), r#"{"ok":true}"#),
        (r#""op":"create","key":"acme/k1","plan":"gone""#, r#"{"error":"no_plan"}"#),
        (r#""op":"create","key":"acme/k1","plan":"free""#, r#"{"error":"no_group"}"#),
        (r#""op":"create","key":"k1","plan":"free""#, r#"{"ok":true}"#),
        (r#""op":"create","key":"k1","plan":"gone""#, r#"{"error":"no_plan"}"#),
        (r#""op":"create","key":"k1","plan":"free""#, r#"{"error":"already_exists"}"#),
        (r#""op":"update","key":"k2","plan":"gone""#, r#"{"error":"no_plan"}"#),
        (r#""op":"update","key":"k1","plan":"gone","version":7"#, r#"{"error":"no_plan"}"#),
        (r#""op":"update","key":"k2","plan":"free""#, r#"{"error":"unknown_key"}"#),
        (
            r#""op":"update","key":"k1","plan":"gone","budget":9007199254740992"#,
            r#"{"error":"invalid"}"#,
        ),
        (
            r#""op":"check","key":"k1""#,
            r#"{"allowed":true,"remaining":{"global/minute/requests":0}}"#,
        ),
        (r#""op":"delete_plan","plan":"free""#, r#"{"error":"in_use"}"#),
        (
            r#""op":"plan","plan":"free","effective":"now","global":{"requests_per_minute":2}"#,
            r#"{"ok":true}"#,
        ),
        (
            r#""op":"check","key":"k1""#,
            r#"{"allowed":true,"remaining":{"global/minute/requests":0}}"#,
        ),
        (r#""op":"update","key":"k1","plan":null"#, r#"{"ok":true}"#),
        (r#""op":"delete_plan","plan":"free""#, r#"{"ok":true}"#),
    ]);
}

/// They are not part of an answer.
#[test]
fn thresholds_that_a_changed_plan_reaches_are_events_before_those_of_the_call() {
    let plan = |effective: &str, limit: u64| {
        format!(
            r#""op":"plan","plan":"p","effective":"{effective}","global":{{"limits":{{"day/requests":{limit}}}}}"#
        )
    };
    let ok = r#"{"ok":true}"#;
    answers(&[
        (&plan("next", 100), ok),
        (r#""op":"create","key":"g","kind":"group","plan":"p""#, ok),
        (r#""op":"create","key":"g/k","plan":"p""#, ok),
        (
            r#""op":"check","key":"g/k","requests":8"#,
            r#"{"allowed":true,"remaining":{"g:global/day/requests":92,"global/day/requests":92}}"#,
        ),
        (&plan("now", 10), ok),
        (
            r#""op":"peek","key":"g/k","requests":2"#,
            r#"{"allowed":true,"remaining":{"g:global/day/requests":0,"global/day/requests":0}}"#,
        ),
        (r#""op":"events""#, r#"{"events":[]}"#),
        (
            r#""op":"check","key":"g/k","requests":2"#,
            r#"{"allowed":true,"remaining":{"g:global/day/requests":0,"global/day/requests":0}}"#,
        ),
        (
            r#""op":"events""#,
            r#"{"events":[["g","global/day/requests",80],["g/k","global/day/requests",80],["g","global/day/requests",100],["g/k","global/day/requests",100]]}"#,
        ),
    ]);
}

#[test]
fn the_names_that_the_player_needs_are_free_for_labels() {
    answers(&[
        (r#""op":"create","key":"player""#, r#"{"ok":true}"#),
        (r#""op":"delete","key":"nobody""#, r#"{"error":"unknown_key"}"#),
        (r#""op":"create","key":"nobody""#, r#"{"ok":true}"#),
        (r#""op":"delete","key":"nobody""#, r#"{"ok":true}"#),
    ]);
}

#[test]
fn a_label_that_never_was_is_answered_like_a_deleted_one() {
    for prepare in [&[][..], &[r#""op":"create","key":"k1""#, r#""op":"delete","key":"k1""#]] {
        let mut lines: Vec<_> = prepare.iter().map(|line| (*line, r#"{"ok":true}"#)).collect();
        lines.extend([
            (r#""op":"check","key":"k1""#, r#"{"allowed":false,"reason":"unknown_key"}"#),
            (r#""op":"peek","key":"k1""#, r#"{"allowed":false,"reason":"unknown_key"}"#),
            (r#""op":"usage","key":"k1""#, r#"{"error":"unknown_key"}"#),
            (r#""op":"update","key":"k1""#, r#"{"error":"unknown_key"}"#),
            (r#""op":"delete","key":"k1""#, r#"{"error":"unknown_key"}"#),
        ]);
        answers(&lines);
    }
}

#[test]
fn every_admin_of_the_file_may_be_deleted() {
    answers(&[
        (r#""op":"create","key":"a1","kind":"admin""#, r#"{"ok":true}"#),
        (r#""op":"check","key":"a1""#, r#"{"allowed":false,"reason":"admin_key"}"#),
        (r#""op":"delete","key":"a1""#, r#"{"ok":true}"#),
    ]);
}

#[test]
fn an_update_leaves_what_it_does_not_name() {
    answers(&[
        (
            r#""op":"create","key":"k1","global":{"requests_per_day":9},"budget":5"#,
            r#"{"ok":true}"#,
        ),
        (r#""op":"update","key":"k1","budget":7"#, r#"{"ok":true}"#),
        (
            r#""op":"peek","key":"k1""#,
            r#"{"allowed":true,"remaining":{"global/day/requests":8,"budget":7}}"#,
        ),
        (r#""op":"update","key":"k1","budget":null"#, r#"{"ok":true}"#),
        (r#""op":"peek","key":"k1""#, r#"{"allowed":true,"remaining":{"global/day/requests":8}}"#),
    ]);
}

#[test]
fn more_assets_than_a_key_may_have_are_invalid_before_anything_else() {
    let assets = |count: usize| {
        let each = (0..count).map(|number| format!(r#""m{number}":{{"requests_per_day":1}}"#));
        each.collect::<Vec<_>>().join(",")
    };
    let invalid = r#"{"error":"invalid"}"#;
    answers(&[
        (&format!(r#""op":"update","key":"k1","assets":{{{}}}"#, assets(1_025)), invalid),
        (&format!(r#""op":"create","key":"k1","assets":{{{}}}"#, assets(1_024)), r#"{"ok":true}"#),
        (&format!(r#""op":"create","key":"k1","assets":{{{}}}"#, assets(1_025)), invalid),
        (&format!(r#""op":"update","key":"k1","assets":{{{}}}"#, assets(1_025)), invalid),
    ]);
}

#[test]
fn an_asset_that_is_null_is_not_listed() {
    let assets: Vec<_> = (0..2_000).map(|number| format!(r#""m{number}":null"#)).collect();
    let create = format!(r#""op":"create","key":"k1","assets":{{{}}}"#, assets.join(","));
    answers(&[(&create, r#"{"ok":true}"#)]);
}

#[test]
fn an_operation_out_of_bounds_is_invalid_and_does_nothing() {
    on_a_runtime(|| {
        let mut player = player(MemoryStore::builder());
        let create = operation(r#""op":"create","key":"k1""#);
        assert_eq!(player.play(&create).wait().ok(), Some(Answer::Ok));
        let delete = Action::Delete { key: "k1".to_owned() };
        let too_late = Operation { at: 1 << 53, action: delete };
        let answer = player.play(&too_late).wait().ok();
        assert_eq!(answer, Some(Answer::Error(Problem::Invalid)));
        let usage = operation(r#""op":"usage","key":"k1""#);
        assert!(matches!(player.play(&usage).wait(), Ok(Answer::Usage(_))), "the key lives");
    });
}

#[test]
fn a_workspace_that_has_keys_already_is_an_error() {
    on_a_runtime(|| {
        let store = MemoryStore::new();
        let clock = ManualClock::at(NOON);
        let first = Player::new(Arc::new(store.clone()), clock.clone()).wait();
        assert!(first.is_ok());
        let second = Player::new(Arc::new(store.clone()), clock.clone()).wait();
        assert!(matches!(second, Err(PlayError::Keys(KeysError::AlreadyBootstrapped))));
        let other = workspace("another");
        assert!(Player::in_workspace(Arc::new(store), clock, other).wait().is_ok());
    });
}

#[test]
fn a_store_that_fails_is_an_error_and_no_answer() {
    on_a_runtime(|| {
        let clock = ManualClock::at(NOON);
        let store = MemoryStore::builder().clock(clock.clone()).build();
        let store = Around(Unplugged(store));
        let mut player = Player::new(Arc::new(store), clock).wait().expect("keys can be managed");
        let create = operation(r#""op":"create","key":"k1""#);
        player.play(&create).wait().expect("keys can be managed");
        for line in [r#""op":"check","key":"k1""#, r#""op":"peek","key":"k1""#] {
            let failed = player.play(&operation(line)).wait().expect_err("the store is unplugged");
            assert!(matches!(failed, PlayError::Store(_)), "{failed:?}");
        }
        let usage = player.play(&operation(r#""op":"usage","key":"k1""#)).wait();
        let failed = usage.expect_err("the store is unplugged");
        let causes =
            std::iter::successors(Some(&failed as &dyn std::error::Error), |error| error.source());
        let sentences: Vec<_> = causes.map(ToString::to_string).collect();
        assert!(sentences.iter().any(|cause| cause.contains("unplugged")), "{sentences:?}");
    });
}

#[test]
fn the_first_error_of_the_format_is_answered() {
    let too_many = r#""input":9007199254740991,"output":1"#;
    let charged = r#"{"ok":true,"charged":{"requests":1,"input":0,"output":5,"credits":0}}"#;
    answers(&[
        (r#""op":"cancel","key":"k1","id":"r1""#, r#"{"error":"unknown_key"}"#),
        (r#""op":"amend","key":"k1","id":"r1""#, r#"{"allowed":false,"reason":"unknown_key"}"#),
        (r#""op":"create","key":"k1""#, r#"{"ok":true}"#),
        (
            &format!(r#""op":"settle","key":"k1","id":"r1",{too_many}"#),
            r#"{"error":"unknown_reservation"}"#,
        ),
        (
            r#""op":"reserve","key":"k1","id":"r1","ttl_ms":1000,"output":5"#,
            r#"{"allowed":true,"remaining":{}}"#,
        ),
        (
            r#""op":"reserve","key":"k1","id":"r1","ttl_ms":7,"output":5"#,
            r#"{"allowed":true,"replayed":true,"remaining":{}}"#,
        ),
        (
            r#""op":"reserve","key":"k1","id":"r1","ttl_ms":1000,"output":6"#,
            r#"{"error":"already_exists"}"#,
        ),
        (r#""op":"settle","key":"k1","id":"r1""#, charged),
        (r#""op":"settle","key":"k1","id":"r1","output":5,"input":0"#, charged),
        (&format!(r#""op":"settle","key":"k1","id":"r1",{too_many}"#), r#"{"error":"invalid"}"#),
        (r#""op":"extend","key":"k1","id":"r1","output":4"#, r#"{"error":"already_settled"}"#),
        (r#""op":"amend","key":"k1","id":"r1","output":5"#, r#"{"error":"already_settled"}"#),
        (r#""op":"cancel","key":"k1","id":"r1""#, r#"{"error":"already_settled"}"#),
    ]);
}

/// A replay goes on after it.
#[test]
fn a_bound_of_the_store_is_an_answer() {
    on_a_runtime(|| {
        let bounds = LedgerBounds { ended: 1, checks: 1, ..LedgerBounds::default() };
        let mut player = player(MemoryStore::builder().ledger_bounds(bounds));
        for (line, expected) in [
            (r#""op":"create","key":"k1""#, r#"{"ok":true}"#),
            (
                r#""op":"reserve","key":"k1","id":"r1","ttl_ms":9"#,
                r#"{"allowed":true,"remaining":{}}"#,
            ),
            (
                r#""op":"cancel","key":"k1","id":"r1""#,
                r#"{"ok":true,"charged":{"requests":0,"input":0,"output":0,"credits":0}}"#,
            ),
            (r#""op":"reserve","key":"k1","id":"r2","ttl_ms":9"#, r#"{"error":"too_many"}"#),
            (r#""op":"check","key":"k1","request_id":"q1""#, r#"{"allowed":true,"remaining":{}}"#),
            (r#""op":"check","key":"k1","request_id":"q2""#, r#"{"error":"too_many"}"#),
            (r#""op":"check","key":"k1""#, r#"{"allowed":true,"remaining":{}}"#),
        ] {
            let answer = player.play(&operation(line)).wait().expect("it is an answer");
            assert_eq!(answer.to_line(), expected, "{line}");
            if let Answer::TooMany { retry_at } = answer {
                assert_eq!(retry_at, NOON.unix_ms().cast_unsigned() + 120_000);
            }
        }
    });
}

/// Plays lines at noon, and compares the answers.
fn answers(lines: &[(&str, &str)]) {
    on_a_runtime(|| {
        let mut player = player(MemoryStore::builder());
        for (line, expected) in lines {
            let answer = player.play(&operation(line)).wait().expect("the store works");
            assert_eq!(answer.to_line(), *expected, "{line}");
        }
    });
}

fn player(store: limiter_memory::MemoryStoreBuilder) -> Player {
    let clock = ManualClock::at(NOON);
    Player::new(Arc::new(store.clock(clock.clone()).build()), clock)
        .wait()
        .expect("the store is empty")
}

fn operation(fields: &str) -> Operation {
    fixtures::operation(NOON.unix_ms().cast_unsigned(), fields)
}

/// A store that manages keys and decides nothing.
#[derive(Debug)]
struct Unplugged(MemoryStore);

impl Interpose for Unplugged {
    fn store(&self) -> &dyn Store {
        &self.0
    }

    async fn call<T: Send, E: CallError>(
        &self,
        called: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        if called.charges() || matches!(called.operation, "peek" | "usage") {
            return Err(StoreError::unavailable("it is unplugged").into());
        }
        call.await
    }
}
