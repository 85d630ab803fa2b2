//! The example `replay`: what it writes, and how it ends.

#[path = "../replay.rs"]
#[expect(dead_code, reason = "its `main` reads the standard input")]
mod replay;

use limiter::memory::MemoryStore;
use limiter::store::LedgerBounds;
use limiter::{ManualClock, Timestamp};
use limiter_conformance::model::Model;
use limiter_conformance::replay::read;
use limiter_test_servers::RedisServer;
use replay::{Failure, replayed_on, run};

#[tokio::test]
async fn the_day_is_answered_as_it_was_recorded() {
    let day = include_bytes!("../data/day.jsonl");
    let (ended, answers) = with_arguments(&["--rows", "v1"], day).await;
    ended.unwrap();
    let expected: Vec<_> = include_str!("../data/day.answers.jsonl").lines().collect();
    let answers: Vec<_> = answers.lines().collect();
    for (position, (answer, expected)) in answers.iter().zip(&expected).enumerate() {
        assert_eq!(answer, expected, "in line {}", position + 1);
    }
    assert_eq!(answers.len(), expected.len());
}

#[tokio::test]
async fn the_day_is_answered_the_same_on_redis_and_nothing_is_left() {
    let server = RedisServer::run();
    let arguments = ["--redis", &server.url(), "--rows=v1"];
    let (ended, answers) = with_arguments(&arguments, include_bytes!("../data/day.jsonl")).await;
    ended.unwrap();
    assert!(answers == include_str!("../data/day.answers.jsonl"), "{answers}");
    assert_eq!(server.text(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn reservations_are_answered_the_same_on_redis_and_nothing_is_left() {
    let server = RedisServer::run();
    let arguments = ["--redis", &server.url()];
    let (ended, answers) = with_arguments(&arguments, RESERVED.as_bytes()).await;
    ended.unwrap();
    let (_, in_memory) = replayed(RESERVED.as_bytes()).await;
    assert_eq!(answers, in_memory);
    assert_eq!(answers.lines().count(), RESERVED.lines().count());
    assert_eq!(server.text(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn a_replay_that_ends_early_leaves_nothing_in_redis() {
    let server = RedisServer::run();
    let arguments = [&*format!("--redis={}", server.url())];
    let input = b"{\"at\":0,\"op\":\"create\",\"key\":\"k\"}\nnonsense\n";
    let (ended, answers) = with_arguments(&arguments, input).await;
    assert!(ended.unwrap_err().sentence.starts_with("line 2: "));
    assert_eq!(answers, "{\"ok\":true}\n");
    assert_eq!(server.text(&["DBSIZE"]), "0");
}

#[tokio::test]
async fn where_there_is_no_redis_nothing_is_replayed() {
    // No server listens on port 1.
    for (url, status) in [("redis://127.0.0.1:1", 1), ("http://127.0.0.1", 2)] {
        let (ended, answers) = with_arguments(&["--redis", url], b"not read").await;
        let failure = ended.unwrap_err();
        assert_eq!(failure.status, status, "{failure:?}");
        assert!(!failure.sentence.contains("line 1"), "{failure:?}");
        assert_eq!(answers, "");
    }
}

/// The recorded answers are not merely a copy of the engine's own.
#[test]
fn the_model_answers_the_day_in_the_same_way() {
    let mut model = Model::new();
    let operations = include_str!("../data/day.jsonl").lines();
    for (operation, expected) in operations.zip(include_str!("../data/day.answers.jsonl").lines()) {
        let operation = read(operation).unwrap();
        assert_eq!(model.answer(&operation).to_first_line(), expected, "to {operation:?}");
    }
}

#[tokio::test]
async fn the_year_is_answered_as_it_was_worked_out() {
    let (ended, answers) = replayed(include_bytes!("../data/year.jsonl")).await;
    ended.unwrap();
    let expected = include_str!("../data/year.answers.jsonl");
    for (position, (answer, expected)) in answers.lines().zip(expected.lines()).enumerate() {
        assert_eq!(answer, expected, "in line {}", position + 1);
    }
    assert_eq!(answers.lines().count(), expected.lines().count());
}

#[tokio::test]
async fn the_year_is_answered_the_same_on_redis() {
    let server = RedisServer::run();
    let arguments = ["--redis", &server.url()];
    let (ended, answers) = with_arguments(&arguments, include_bytes!("../data/year.jsonl")).await;
    ended.unwrap();
    assert!(answers == include_str!("../data/year.answers.jsonl"), "{answers}");
}

#[test]
fn the_model_answers_the_year_in_the_same_way() {
    let mut model = Model::new();
    let operations = include_str!("../data/year.jsonl").lines();
    for (operation, expected) in operations.zip(include_str!("../data/year.answers.jsonl").lines())
    {
        let operation = read(operation).unwrap();
        assert_eq!(model.answer(&operation).to_line(), expected, "to {operation:?}");
    }
}

/// The 100,001st reserved call within two minutes, on a store that has room for two: a bound of the store ends no run.
#[tokio::test]
async fn a_call_that_cannot_be_remembered_is_an_answer_and_the_run_goes_on() {
    let input = br#"{"at":0,"op":"create","key":"k"}
{"at":1,"op":"reserve","key":"k","id":"a","ttl_ms":60000}
{"at":2,"op":"settle","key":"k","id":"a"}
{"at":3,"op":"reserve","key":"k","id":"b","ttl_ms":60000}
{"at":120001,"op":"reserve","key":"k","id":"b","ttl_ms":60000}
{"at":120002,"op":"reserve","key":"k","id":"b","ttl_ms":60000}
"#;
    let clock = ManualClock::at(Timestamp::from_unix_ms(0));
    let bounds = LedgerBounds::of_each(1);
    let store = MemoryStore::builder().clock(clock.clone()).ledger_bounds(bounds).build();
    let mut answers = Vec::new();
    replayed_on(store, clock, true, &input[..], &mut answers).await.unwrap();
    let allowed = r#"{"allowed":true,"remaining":{}}"#;
    let expected = [r#"{"ok":true}"#, allowed, r#"{"ok":true}"#, r#"{"error":"too_many"}"#];
    let answers = String::from_utf8(answers).unwrap();
    let answers: Vec<_> = answers.lines().collect();
    assert_eq!(answers[..4], expected);
    // The reservation ended at 2 ms.
    assert_eq!(answers[4..], [r#"{"error":"too_many"}"#, allowed]);
}

#[tokio::test]
async fn an_unreadable_line_ends_the_run_with_its_number() {
    let input = br#"{"at":0,"op":"create","key":"k"}
{"at":1,"op":"check","key":"k"}
{"at":2,"op":"check","key":"k","output":-1}
{"at":3,"op":"check","key":"k"}
"#;
    let (ended, answers) = replayed(input).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.status, 2);
    assert!(failure.sentence.starts_with("line 3: in `output`: expected "), "{failure:?}");
    assert_eq!(answers, "{\"ok\":true}\n{\"allowed\":true,\"remaining\":{}}\n");
}

#[tokio::test]
async fn a_line_that_is_no_text_is_unreadable() {
    let (ended, answers) = replayed(b"{\"at\":0,\"op\":\"delete\",\"key\":\"k\"}\n\xff\n").await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.status, 2);
    assert!(failure.sentence.starts_with("line 2: "), "{failure:?}");
    assert_eq!(answers, "{\"error\":\"unknown_key\"}\n");
}

#[tokio::test]
async fn the_last_line_needs_no_end() {
    let (ended, answers) = replayed(br#"{"at":0,"op":"usage","key":"k"}"#).await;
    ended.unwrap();
    assert_eq!(answers, "{\"error\":\"unknown_key\"}\n");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_before_anything_is_read() {
    for arguments in [&["--redis"][..], &["--redis=x"], &["--frobnicate"], &["--rows", "v3"]] {
        let failure = with_arguments(arguments, b"not read").await.0.unwrap_err();
        assert_eq!(failure.status, 2);
        assert!(!failure.sentence.contains("line 1"), "{failure:?}");
    }
}

/// Once it named the first argument, which is known.
#[tokio::test]
async fn the_argument_that_is_too_many_is_named() {
    let arguments = ["--redis", "redis://127.0.0.1:6379", "day.jsonl"];
    let failure = with_arguments(&arguments, b"not read").await.0.unwrap_err();
    assert!(failure.sentence.contains("day.jsonl"), "{}", failure.sentence);
}

#[tokio::test]
async fn the_help_shows_lines_that_the_replay_reads_and_writes() {
    let (ended, help) = with_arguments(&["--help"], b"").await;
    ended.unwrap();
    let shown = |line: &&str| line.trim_start().starts_with("{\"at\":");
    let operations: Vec<_> = help.lines().filter(shown).map(str::trim).collect();
    assert_eq!(operations.len(), 3);

    let (ended, answers) = replayed(operations.join("\n").as_bytes()).await;
    ended.unwrap();
    let unfolded: String = help.lines().map(str::trim).collect();
    for answer in answers.lines() {
        assert!(unfolded.contains(answer), "the help does not show {answer}");
    }
}

async fn replayed(input: &[u8]) -> (Result<(), Failure>, String) {
    with_arguments(&[], input).await
}

async fn with_arguments(arguments: &[&str], input: &[u8]) -> (Result<(), Failure>, String) {
    let arguments: Vec<_> = arguments.iter().copied().map(str::to_owned).collect();
    let mut output = Vec::new();
    let ended = run(&arguments, input, &mut output).await;
    (ended, String::from_utf8(output).unwrap())
}

/// A call that is reserved, repeated, extended and settled in the next minute, one that is cancelled, and one that is
/// retried.
const RESERVED: &str = r#"{"at":1760011200000,"op":"create","key":"k","global":{"tokens_per_minute":9,"tokens_per_day":20},"budget":9}
{"at":1760011200000,"op":"reserve","key":"k","asset":"m","output":5,"credits":3,"id":"r","ttl_ms":600000}
{"at":1760011200001,"op":"reserve","key":"k","asset":"m","output":5,"credits":3,"id":"r","ttl_ms":600000}
{"at":1760011200002,"op":"extend","key":"k","id":"r","output":7}
{"at":1760011200003,"op":"extend","key":"k","id":"r","output":10}
{"at":1760011260000,"op":"settle","key":"k","id":"r","output":8,"credits":1}
{"at":1760011260001,"op":"settle","key":"k","id":"r","output":8,"credits":1}
{"at":1760011260002,"op":"reserve","key":"k","output":4,"id":"s","ttl_ms":1000}
{"at":1760011260003,"op":"cancel","key":"k","id":"s"}
{"at":1760011261002,"op":"cancel","key":"k","id":"s"}
{"at":1760011261003,"op":"check","key":"k","output":2,"request_id":"q"}
{"at":1760011261004,"op":"check","key":"k","output":2,"request_id":"q"}
{"at":1760011261005,"op":"usage","key":"k"}
"#;
