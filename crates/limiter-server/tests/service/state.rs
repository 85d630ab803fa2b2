//! The in-memory engine over restarts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use limiter_test_servers::until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ADMIN, Running};

#[test]
fn a_restart_goes_on_with_all_keys_and_counts() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
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

/// A key that a thread manages, and the server's answers so far.
#[derive(Clone, Debug)]
struct Asked {
    name: String,
    id: Option<String>,
    /// The last acknowledged step.
    acknowledged: Step,
    /// The step that was requested and never answered.
    unknown: Option<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Created,
    Renamed,
    Deleted,
}

impl Asked {
    /// Requests the next step, and returns whether it was acknowledged.
    fn ask(&mut self, server: &Running, step: Step) -> bool {
        self.unknown = Some(step);
        let path = format!("/sdk/api-keys/{}", self.id.as_deref().unwrap_or_default());
        let renamed = format!("{}-renamed", self.name);
        let (method, path, name) = match step {
            Step::Created => ("POST", "/sdk/api-keys", &self.name),
            Step::Renamed => ("PUT", path.as_str(), &renamed),
            _ => ("DELETE", path.as_str(), &self.name),
        };
        let body = json!({"name": name, "globalLimits": {"rpd": 7}}).to_string();
        let body = if method == "DELETE" { "" } else { &body };
        let Ok(answer) = server.try_call(method, ADMIN, path, body) else { return false };
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        self.id = self.id.take().or_else(|| answer.body["id"].as_str().map(str::to_owned));
        (self.acknowledged, self.unknown) = (step, None);
        true
    }

    /// Asserts that the server's keys match the last acknowledged step or the one after it, and records which.
    fn assert_kept(&mut self, keys: &[Value]) {
        let named = |name: &str| keys.iter().filter(|key| key["name"] == *name).count();
        let found = (named(&self.name), named(&format!("{}-renamed", self.name)));
        let further = self.unknown.take().unwrap_or(self.acknowledged);
        let kept = [self.acknowledged, further].into_iter().find(|step| step.leaves() == found);
        self.acknowledged =
            kept.unwrap_or_else(|| panic!("{self:?} or {further:?}, but there are {found:?}"));
    }
}

impl Step {
    /// Returns the number of keys after this step: of the first name, and of the second.
    fn leaves(self) -> (usize, usize) {
        match self {
            Self::Created => (1, 0),
            Self::Renamed => (0, 1),
            Self::Nothing | Self::Deleted => (0, 0),
        }
    }
}

/// Four managers at once, with repeated kills: acknowledged changes are kept, and deleted keys stay deleted.
#[test]
fn kill_9_undoes_no_change_of_a_key_that_was_acknowledged() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let mut known: Vec<Asked> = Vec::new();
    for (round, kill_after) in [1, 40, 90, 151].into_iter().enumerate() {
        let mut server = Running::with(&flags);
        let acknowledged = AtomicUsize::new(0);
        let asked: Vec<Asked> = thread::scope(|scope| {
            let managers: Vec<_> = (0..4)
                .map(|manager| {
                    let (server, acknowledged) = (&server, &acknowledged);
                    scope.spawn(move || manage(server, &format!("{round}-{manager}"), acknowledged))
                })
                .collect();
            until("changes are made", || acknowledged.load(Ordering::Relaxed) >= kill_after);
            server.signal(Signal::SIGKILL);
            managers.into_iter().flat_map(|manager| manager.join().unwrap()).collect()
        });
        server.ended();
        assert!(asked.iter().any(|key| key.unknown.is_some()), "it was killed in the middle");
        known.extend(asked);

        let again = Running::with(&flags);
        let keys = again.get(ADMIN, "/sdk/api-keys").body;
        let keys = keys.as_array().unwrap();
        known.iter_mut().for_each(|key| key.assert_kept(keys));
        let renamed = known.iter().filter(|key| key.acknowledged == Step::Renamed);
        for name in renamed.map(|key| format!("{}-renamed", key.name)) {
            let key = keys.iter().find(|key| key["name"] == *name).unwrap();
            assert_eq!(key["globalLimits"]["rpd"], 7, "{key}");
        }
        assert!(again.stop().success());
    }
    assert!(known.iter().filter(|key| key.acknowledged == Step::Deleted).count() > 20);
}

/// Creates keys, renames two of three and deletes one of three, until the server stops answering.
fn manage(server: &Running, manager: &str, acknowledged: &AtomicUsize) -> Vec<Asked> {
    let mut asked = Vec::new();
    for number in 0.. {
        let name = format!("{manager}-{number}");
        let mut key = Asked { name, id: None, acknowledged: Step::Nothing, unknown: None };
        let steps: &[Step] = match number % 3 {
            0 => &[Step::Created],
            1 => &[Step::Created, Step::Renamed],
            _ => &[Step::Created, Step::Renamed, Step::Deleted],
        };
        for step in steps {
            if !key.ask(server, *step) {
                asked.push(key);
                return asked;
            }
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        asked.push(key);
    }
    asked
}

#[test]
fn what_a_save_that_was_cut_off_leaves_behind_is_of_no_matter() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let mut first = Running::with(&flags);
    let (_, key) = first.member("member", json!({"globalLimits": {"rpd": 1000}}));
    first.signal(Signal::SIGKILL);
    first.ended();
    fs::write(folder.path().join("state.json.new"), "{\"format\":3,\"ke").unwrap();
    let mut cut_off = fs::read(&state).unwrap();
    cut_off.extend_from_slice(b"{\"number\":9,\"at\":\"2025");
    fs::write(&state, cut_off).unwrap();
    let second = Running::with(&flags);
    assert!(second.output().contains("was cut off by a crash"), "{}", second.output());
    assert_eq!(second.run(&key, "Hello").status, 200);
    assert!(second.stop().success());
}

/// Every change is either on the disk or refused without effect, and `/readyz` gives the reason.
#[test]
fn a_full_disk_refuses_changes_and_loses_none_that_was_acknowledged() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let mut full = Running::with_small_files(32, &flags);
    assert_eq!(full.get("", "/readyz").text, "ready\n");
    let mut acknowledged = vec!["admin".to_owned()];
    let refused = loop {
        let name = format!("key-{}", acknowledged.len());
        let answer = full.post(ADMIN, "/sdk/api-keys", &json!({"name": name}));
        if answer.status != 201 {
            break answer;
        }
        acknowledged.push(name);
    };
    refused.assert_refused_on_the_wire(503);
    let ready = full.get("", "/readyz");
    assert_eq!(ready.status, 503);
    assert!(
        ready.text.contains("state.json") && ready.text.contains("File too large"),
        "{ready:?}"
    );
    let names = |server: &Running| {
        let keys = server.get(ADMIN, "/sdk/api-keys").body;
        let keys = keys.as_array().unwrap().iter();
        let mut names: Vec<_> = keys.map(|key| key["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    acknowledged.sort();
    assert_eq!(names(&full), acknowledged);
    full.signal(Signal::SIGKILL);
    full.ended();
    let again = Running::with(&flags);
    assert_eq!(names(&again), acknowledged);
    assert_eq!(again.get("", "/readyz").status, 200);
}

#[test]
fn a_link_stays_and_the_file_behind_it_is_used() {
    let folder = TempDir::new().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link.json"));
    fs::create_dir(&real).unwrap();
    let state = real.join("state.json");
    // The link's target does not exist yet.
    std::os::unix::fs::symlink("real/state.json", &link).unwrap();
    let first = Running::with(&["--state", link.to_str().unwrap()]);
    let (_, key) = first.member("member", json!({"globalLimits": {"rpd": 2}}));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::symlink_metadata(&state).unwrap().is_file());

    // The lock holds for every path. It needs no file of its own: only the state file is left here.
    let others: Vec<_> = fs::read_dir(&real).unwrap().map(|file| file.unwrap().path()).collect();
    others.iter().filter(|path| **path != state).for_each(|path| fs::remove_file(path).unwrap());
    fs::hard_link(&state, folder.path().join("hard.json")).unwrap();
    for path in
        [&link, &state, &real.join("../real/./state.json"), &folder.path().join("hard.json")]
    {
        let output = Running::try_with(&["--state", path.to_str().unwrap()], Some(ADMIN));
        let output = output.unwrap_err();
        assert!(output.contains("used by another server"), "{path:?}: {output}");
    }
    assert!(first.stop().success());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let second = Running::with(&["--state", state.to_str().unwrap()]);
    assert_eq!(second.run(&key, "Hello").status, 200);
}

#[test]
fn a_damaged_file_is_reported_and_not_overwritten() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
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
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let _first = Running::with(&flags);
    let output = Running::try_with(&flags, Some(ADMIN)).unwrap_err();
    assert!(output.contains("used by another server"), "{output}");
}

#[test]
fn the_admin_key_is_shown_once() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
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
