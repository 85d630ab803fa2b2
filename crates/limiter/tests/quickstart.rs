//! The example `quickstart`, run as a user runs it.

use std::path::PathBuf;
use std::process::{Command, Output};

use limiter_test_servers::RedisServer;

#[test]
fn the_tour_is_the_same_in_memory_and_on_redis_and_leaves_nothing() {
    let server = RedisServer::run();
    let in_memory = quickstart(&[]);
    let on_redis = quickstart(&["--redis", &server.url()]);
    assert!(in_memory.status.success(), "{in_memory:?}");
    assert!(on_redis.status.success(), "{on_redis:?}");
    let told = tale(&in_memory);
    assert!(told.lines().count() > 30, "{told}");
    assert_eq!(tale(&on_redis), told);
    assert_eq!(server.text(&["DBSIZE"]), "0");
    let commands = server.info("total_commands_processed").expect("the server counts");
    assert!(commands.parse::<u64>().expect("a number") > 20, "the tour was on Redis");
}

#[test]
fn help_is_there_and_nonsense_is_refused() {
    let help = quickstart(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("--redis URL"), "{text}");
    for arguments in [&["--frobnicate"][..], &["--redis"], &["--redis", "x", "y"]] {
        let refused = quickstart(arguments);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert_eq!(String::from_utf8(refused.stderr).unwrap(), text);
    }
    let nowhere = quickstart(&["--redis", "redis://127.0.0.1:1"]);
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("127.0.0.1:1"));
}

/// Returns the output without the access key, which is random.
fn tale(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines().map(|line| match line.split_once(" has the access key ") {
        Some((key, _)) => format!("{key} has an access key"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Examples are built with the tests of the workspace, into the folder next to theirs.
fn quickstart(arguments: &[&str]) -> Output {
    let test = std::env::current_exe().expect("a test is a file");
    let folder: PathBuf = test.ancestors().nth(2).expect("it lies in deps").into();
    let example = folder.join("examples").join("quickstart");
    let ran = Command::new(&example).args(arguments).output();
    ran.unwrap_or_else(|error| panic!("{example:?}: {error}; cargo build -p llm-limiter --example quickstart --features redis makes it"))
}
