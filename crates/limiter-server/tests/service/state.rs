//! The in-memory engine over restarts.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{ADMIN, Folder, Running, until};

#[test]
fn a_restart_goes_on_with_all_keys_and_counts() {
    let folder = Folder::new();
    let state = folder.file("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let first = Running::with(&flags);
    let (_, key) = first.member("member", json!({"globalLimits": {"rpd": 2}}));
    assert_eq!(first.run(&key, "Hello").status, 200);
    assert!(first.stop().success());

    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        !fs::read_to_string(&state).unwrap().contains(&key),
        "digests are kept, no access keys"
    );
    let second = Running::with(&flags);
    assert_eq!(second.used_today(&key).0, 1);
    assert_eq!(second.run(&key, "Hello").status, 200);
    assert_eq!(second.run(&key, "Hello").status, 429);
}

#[test]
fn a_kill_leaves_the_last_whole_state() {
    let folder = Folder::new();
    let state = folder.file("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let mut first = Running::with(&flags);
    let (_, key) = first.member("member", json!({"globalLimits": {"rpd": 1000}}));
    let saved = || fs::read_to_string(&state).unwrap();
    // The save of every ten seconds.
    until("the new key is saved", || saved().contains("\"member\""));
    first.run(&key, "Hello");
    first.signal(Signal::SIGKILL);
    first.ended();
    let whole: Value = serde_json::from_str(&saved()).unwrap();
    assert!(whole["keys"].as_array().is_some_and(|keys| keys.len() == 2));

    // What a save that was cut off leaves behind is of no matter.
    fs::write(folder.file("state.json.new"), "{\"format\":1,\"ke").unwrap();
    let second = Running::with(&flags);
    assert_eq!(second.run(&key, "Hello").status, 200);
    assert!(second.stop().success());
}

#[test]
fn a_damaged_file_is_told_and_not_overwritten() {
    let folder = Folder::new();
    let state = folder.file("state.json");
    for damaged in ["", "{\"format\":1,\"ke", "[]", "{\"format\":99,\"taken_at\":0,\"keys\":[]}"] {
        fs::write(&state, damaged).unwrap();
        let output =
            Running::try_with(&["--state", state.to_str().unwrap()], Some(ADMIN)).unwrap_err();
        assert!(output.contains("state.json") && output.contains("left as it is"), "{output}");
        assert_eq!(fs::read_to_string(&state).unwrap(), damaged);
    }
}

#[test]
fn two_servers_do_not_share_a_file() {
    let folder = Folder::new();
    let state = folder.file("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let _first = Running::with(&flags);
    let output = Running::try_with(&flags, Some(ADMIN)).unwrap_err();
    assert!(output.contains("used by another server"), "{output}");
}

#[test]
fn the_admin_key_is_shown_once() {
    let folder = Folder::new();
    let state = folder.file("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let first = Running::try_with(&flags, None).unwrap();
    until("it is shown", || first.output().contains("openapi.json"));
    let output = first.output();
    let shown =
        output.split("export TEAM_API_KEY=").nth(1).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(first.get(&shown, "/sdk/api-keys").status, 200);
    assert_eq!(first.output().matches(&shown).count(), 1);
    first.stop();

    let second = Running::try_with(&flags, None).unwrap();
    assert_eq!(second.get(&shown, "/sdk/api-keys").status, 200);
    assert!(!second.output().contains(&shown));
    second.stop();
    let output = Running::try_with(&flags, Some("another-key-of-somebody-else")).unwrap_err();
    assert!(output.contains("LIMITER_ADMIN_KEY"), "{output}");
    assert!(
        Running::try_with(&flags, Some(&shown)).is_ok(),
        "the one that was shown is the right one"
    );
}

#[test]
fn without_a_file_it_says_that_a_restart_forgets() {
    assert!(Running::in_memory().output().contains("a restart forgets everything"));
}
