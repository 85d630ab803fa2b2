//! Configuration as code: `apply` and `diff`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use limiter_test_servers::{fresh_name, shared};
use tempfile::TempDir;

use crate::support::Running;

/// A folder with a configuration file, and the store that it is applied to.
struct Folder {
    folder: TempDir,
    store: Vec<String>,
}

impl Folder {
    /// A state file, and the shared Redis under its own prefix: both must behave alike.
    fn on_each_store() -> [Self; 2] {
        let on_redis = ["--redis", shared().url(), "--redis-prefix", &fresh_name("apply")]
            .map(str::to_owned)
            .to_vec();
        [Self::in_memory(), Self { folder: TempDir::new().unwrap(), store: on_redis }]
    }

    fn in_memory() -> Self {
        let folder = TempDir::new().unwrap();
        let state = folder.path().join("state.json").display().to_string();
        Self { folder, store: vec!["--state".to_owned(), state] }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the file: the workspace `acme` with these lines, in which FOLDER is this folder.
    fn wants(&self, text: &str) -> &Self {
        let text = text.replace("FOLDER", &self.folder.path().display().to_string());
        fs::write(self.path("company.toml"), text).unwrap();
        self
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        let (command, flags) = arguments.split_first().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_limiter-server"))
            .args(&self.store)
            .arg(command)
            .arg(self.path("company.toml"))
            .args(flags)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        Said::from(output)
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.run_with(arguments, &[])
    }

    fn access_key(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap().trim().to_owned()
    }

    /// Starts a server on the store.
    fn server(&self) -> Running {
        let flags: Vec<&str> = self.store.iter().map(String::as_str).collect();
        Running::try_with(&[&flags[..], &["--workspace", "other"]].concat(), None).unwrap()
    }
}

/// What a run has said.
#[derive(Debug)]
struct Said {
    status: i32,
    out: String,
    error: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let Output { status, stdout, stderr } = output;
        Self { status: status.code().unwrap(), out: text(stdout), error: text(stderr) }
    }
}

impl Said {
    #[track_caller]
    fn succeeds(self) -> String {
        assert_eq!(self.status, 0, "{}{}", self.out, self.error);
        self.out
    }

    #[track_caller]
    fn fails(self) -> String {
        assert_ne!(self.status, 0, "{}", self.out);
        self.error
    }
}

fn checks(server: &Running, key: &str, expected: &str) {
    let answer = server.call("POST", key, "/v1/check", r#"{"charge": {}}"#);
    assert_eq!(answer.body["outcome"], expected, "{answer:?}");
}

const COMPANY: &str = r#"
[workspaces.acme.plans.free]
global = { requests_per_month = 2 }

[[workspaces.acme.groups]]
id = "team/search"

[[workspaces.acme.groups]]
id = "team"
name = "Team"
budget = 100

[[workspaces.acme.keys]]
name = "admin"
admin = true
write_access_key_to = "FOLDER/keys/admin"

[[workspaces.acme.keys]]
name = "ci"
beneath = "team/search"
plan = "free"
write_access_key_to = "FOLDER/keys/ci"
"#;

#[test]
fn what_a_file_wants_is_created_once() {
    for folder in Folder::on_each_store() {
        folder.wants(COMPANY);
        let created = "\
acme: create plan \"free\"
acme: create group \"Team\"
acme: create group \"team/search\"
";
        let shown = folder.run(&["apply", "--dry-run"]).succeeds();
        assert!(shown.starts_with(created), "{shown}");
        assert!(
            shown.contains("acme: create key \"ci\", and write its access key to \"/"),
            "{shown}"
        );
        assert!(shown.ends_with("5 to create, 0 to change, 0 left alone\n"), "{shown}");
        assert!(!folder.path("keys").exists() && !folder.path("state.json").exists());

        assert_eq!(folder.run(&["diff"]).status, 1);
        let made = folder.run(&["apply"]).succeeds();
        assert!(made.ends_with("5 created, 0 changed, 0 left alone\n"), "{made}");
        let again = folder.run(&["apply"]).succeeds();
        assert_eq!(again, "0 created, 0 changed, 5 left alone\n");
        assert_eq!(folder.run(&["diff"]).succeeds(), "0 to create, 0 to change, 5 left alone\n");

        let mode = fs::metadata(folder.path("keys/ci")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let server = folder.server();
        let (admin, ci) = (folder.access_key("keys/admin"), folder.access_key("keys/ci"));
        let listed = server.call("GET", &admin, "/v1/keys", "");
        assert_eq!(listed.body["keys"].as_array().unwrap().len(), 4, "{listed:?}");
        for expected in ["allowed", "allowed", "denied"] {
            checks(&server, &ci, expected);
        }
    }
}

#[test]
fn a_change_is_shown_with_both_values_and_when_it_takes_effect() {
    for folder in Folder::on_each_store() {
        folder.wants(COMPANY).run(&["apply"]).succeeds();
        let changed = COMPANY
            .replace("requests_per_month = 2", "requests_per_month = 3")
            .replace("budget = 100", "budget = 150");
        folder.wants(&changed);
        let differs = folder.run(&["diff"]);
        let expected = "\
acme: change plan \"free\"
    global.requests_per_month: 2 → 3, from the next month on
acme: change group \"Team\"
    budget: 100.00 → 150.00, at once
0 to create, 2 to change, 3 left alone
";
        assert_eq!((differs.status, differs.out.as_str()), (1, expected));

        let now = folder.run(&["apply", "--now"]).succeeds();
        assert!(now.contains("global.requests_per_month: 2 → 3, at once\n"), "{now}");
        folder.run(&["diff"]).succeeds();
        let (server, ci) = (folder.server(), folder.access_key("keys/ci"));
        for expected in ["allowed", "allowed", "allowed", "denied"] {
            checks(&server, &ci, expected);
        }
    }
}

#[test]
fn what_the_file_does_not_name_stays() {
    for folder in Folder::on_each_store() {
        folder.wants(COMPANY).run(&["apply"]).succeeds();
        let ci = folder.access_key("keys/ci");
        folder.wants("[workspaces.acme.plans.free]\nglobal = { requests_per_month = 2 }");
        let expected =
            "0 created, 0 changed, 1 left alone; 4 that the file does not name stay as they are\n";
        assert_eq!(folder.run(&["apply"]).succeeds(), expected);
        folder.run(&["diff"]).succeeds();
        checks(&folder.server(), &ci, "allowed");
    }
}

#[test]
fn an_access_key_from_the_environment_replaces_another_one() {
    const OLD: &str = "old-key-of-the-test-8d2Kq0Zf5Lw";
    const NEW: &str = "new-key-of-the-test-3nB7xT6Rj1V";
    for folder in Folder::on_each_store() {
        folder.wants("[[workspaces.acme.keys]]\nname = 'ci'\naccess_key_env = 'CI_KEY'");
        // Who reviews the change need not have the access key.
        let shown = folder.run(&["apply", "--dry-run"]).succeeds();
        assert!(shown.contains("create key \"ci\" with the access key in CI_KEY"), "{shown}");
        let missing = folder.run(&["apply"]).fails();
        assert!(missing.contains("\"ci\" is new, and CI_KEY has no access key for it: set it"));
        let created = folder.run_with(&["apply"], &[("CI_KEY", OLD)]).succeeds();
        assert!(!created.contains(OLD));
        // Someone who has not got the access key can still see how the limits differ.
        folder.run(&["diff"]).succeeds();
        folder.run_with(&["diff"], &[("CI_KEY", OLD)]).succeeds();
        let replaced = folder.run_with(&["apply"], &[("CI_KEY", NEW)]).succeeds();
        assert!(
            replaced.contains("access key: replaced by the one in CI_KEY, at once"),
            "{replaced}"
        );
        let server = folder.server();
        checks(&server, NEW, "allowed");
        assert_eq!(server.call("POST", OLD, "/v1/check", r#"{"charge": {}}"#).status, 401);
    }
}

#[test]
fn a_contradiction_changes_nothing() {
    const KEY: &str = "[[workspaces.acme.keys]]\nname = 'new'";
    for folder in Folder::on_each_store() {
        folder.wants(COMPANY).run(&["apply"]).succeeds();
        let ci = folder.access_key("keys/ci");
        let more = |key: &str| format!("{COMPANY}\n{KEY}\n{key}");
        fs::write(folder.path("stray"), "an-access-key-of-a-stranger").unwrap();
        fs::write(folder.path("taken"), ci).unwrap();
        for (text, expected) in [
            (
                COMPANY.replace(
                    "name = \"ci\"\nbeneath = \"team/search\"",
                    "name = \"ci\"\nadmin = true",
                ),
                "acme: \"ci\" is a member key: choose another name",
            ),
            (
                COMPANY.replace("beneath = \"team/search\"", "beneath = \"team\""),
                "\"ci\" lies beneath team in the file, and has the id team/search/",
            ),
            (
                more("plan = 'fre'\nwithout_access_key = true"),
                "\"new\" has the plan fre, and there is none",
            ),
            (
                more("beneath = 'tema'\nwithout_access_key = true"),
                "\"new\" lies in the group tema, and there is none of this id",
            ),
            (more("write_access_key_to = 'FOLDER/keys/ci'"), "/keys/ci: give each its own file"),
            (more("write_access_key_to = 'FOLDER/stray'"), "/stray: others may have written it"),
            (more("access_key_file = 'FOLDER/taken'"), "its access key is that of team/search/"),
            (more("access_key_file = 'FOLDER/stray'\nprefix = 'sk-'"), "\"new\": an access key"),
            (more("access_key_file = 'FOLDER/none'"), "none has no access key for it: write one"),
        ] {
            let error = folder.wants(&text).run(&["apply"]).fails();
            assert!(error.contains("the file contradicts the store, and nothing was changed:"));
            assert!(error.contains(expected), "{error}\nshould say: {expected}");
        }
        assert_eq!(folder.run(&["diff"]).status, 1, "who has no access key sees the difference");
        folder.wants(COMPANY).run(&["diff"]).succeeds();
    }
}

#[test]
fn a_key_with_an_id_is_renamed() {
    for folder in Folder::on_each_store() {
        folder.wants(COMPANY).run(&["apply"]).succeeds();
        let renamed = COMPANY.replace("name = \"Team\"", "name = \"The team\"");
        let said = folder.wants(&renamed).run(&["apply"]).succeeds();
        assert!(
            said.contains("    name: Team → The team, at once\n0 created, 1 changed"),
            "{said}"
        );
        folder.run(&["diff"]).succeeds();
    }
}

#[test]
fn a_change_that_waits_can_be_hastened() {
    for folder in Folder::on_each_store() {
        folder.wants(KEY_WITH_LIMIT).run(&["apply"]).succeeds();
        folder.wants(&KEY_WITH_LIMIT.replace("= 1", "= 2")).run(&["apply"]).succeeds();
        let hastened = folder.run(&["apply", "--now"]).succeeds();
        assert!(hastened.contains("limits that wait for their next window: at once"), "{hastened}");
        assert!(
            folder
                .run(&["apply", "--now"])
                .succeeds()
                .contains("0 created, 0 changed, 1 left alone")
        );
        let (server, ci) = (folder.server(), folder.access_key("ci"));
        for expected in ["allowed", "allowed", "denied"] {
            checks(&server, &ci, expected);
        }
    }
}

/// A point in the name of an asset once hid it.
#[test]
fn an_asset_that_is_listed_is_a_difference() {
    let folder = Folder::in_memory();
    folder.wants(&format!("{KEY_WITH_LIMIT}\nother = 'denied'")).run(&["apply"]).succeeds();
    let more = format!("{KEY_WITH_LIMIT}\nother = 'denied'\nassets = {{ 'gpt-4.1' = {{}} }}");
    let said = folder.wants(&more).run(&["diff"]);
    assert!(said.out.contains("assets.\"gpt-4.1\": none → listed, at once"), "{said:?}");
}

const KEY_WITH_LIMIT: &str = "
[[workspaces.acme.keys]]
name = 'ci'
write_access_key_to = 'FOLDER/ci'
global = { requests_per_month = 1 }";

#[test]
fn a_mistake_in_the_file_is_named() {
    let folder = Folder::in_memory();
    for (text, expected) in [
        ("shadow = false", "the file names no workspace"),
        (
            "[[workspaces.acme.keys]]\nname = 'ci'",
            "\"ci\": it has no source of an access key: set access_key_env",
        ),
        (
            "[[workspaces.acme.keys]]\nname = 'ci'\naccess_key_env = 'A'\naccess_key_file = 'b'",
            "\"ci\": its access key has two sources: leave one out",
        ),
        (
            "[[workspaces.acme.keys]]\nname = 'ci'\nid = 'a/b'\nbeneath = 'a'\nwithout_access_key = true",
            "\"ci\": both id and beneath are set: leave one out",
        ),
        (
            "[[workspaces.acme.keys]]\nname = 'ci'\nwithout_access_key = true\nglobal = { requests_per_mont = 1 }",
            "\"ci\": ",
        ),
        ("[[workspaces.acme.groups]]\nname = 'team'", "\"team\": a group has an id"),
        (
            "[[workspaces.acme.groups]]\nid = 'team'\naccess_key_env = 'A'",
            "\"team\": a group has no access key: leave it out",
        ),
        (
            "[[workspaces.acme.groups]]\nid = 'ci'\n[[workspaces.acme.keys]]\nname = 'ci'\nwithout_access_key = true",
            "two keys or groups are named \"ci\"",
        ),
        ("[workspaces.acme]\nkey = []", "unknown field `key`"),
    ] {
        let error = folder.wants(text).run(&["apply"]).fails();
        assert!(error.contains(expected), "{error}\nshould say: {expected}");
    }
    assert_eq!(folder.run(&["diff"]).status, 2);
    fs::remove_file(folder.path("company.toml")).unwrap();
    assert_eq!(folder.run(&["diff"]).status, 2, "an error is no difference");
    let nowhere = Folder { store: Vec::new(), ..folder };
    let error = nowhere.wants(COMPANY).run(&["apply"]).fails();
    assert!(error.contains("set redis or state in it"), "{error}");
}

#[test]
fn a_state_file_of_a_running_server_is_read_but_not_changed() {
    let folder = Folder::in_memory();
    folder.wants(COMPANY).run(&["apply"]).succeeds();
    let server = folder.server();
    folder.wants(&COMPANY.replace("budget = 100", "budget = 150"));
    let error = folder.run(&["apply"]).fails();
    assert!(
        error.contains("stop the server first, or send the changes to its /v1/keys"),
        "{error}"
    );
    assert_eq!(folder.run(&["diff"]).status, 1);
    assert!(server.stop().success());
    let made = folder.run(&["apply"]).succeeds();
    assert!(made.contains("budget: 100.00 → 150.00, at once"), "{made}");
    folder.run(&["diff"]).succeeds();
}

#[test]
fn a_workspace_without_an_admin_key_is_pointed_out() {
    let folder = Folder::in_memory();
    let said = folder.wants(KEY_WITH_LIMIT).run(&["apply"]).succeeds();
    assert!(said.contains("acme: has no admin key that never expires"), "{said}");
}

/// The file in the repository is a file that works.
#[test]
fn the_sample_is_applied() {
    let folder = Folder::in_memory();
    let sample = include_str!("../../../../examples/data/company.toml");
    let sample = sample.replace("target/company", "FOLDER/company");
    let said = folder.wants(&sample).run(&["apply"]).succeeds();
    assert!(said.ends_with("9 created, 0 changed, 0 left alone\n"), "{said}");
    folder.run(&["diff"]).succeeds();
    let (server, ci) = (folder.server(), folder.access_key("company/search-ci.key"));
    assert!(ci.starts_with("sk-acme-"));
    checks(&server, &ci, "allowed");
}
