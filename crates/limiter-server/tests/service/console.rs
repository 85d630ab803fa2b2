//! The console in a real browser, in memory and on Redis.

use std::time::{Duration, Instant};

use fantoccini::key::Key;
use serde_json::json;

use crate::browser::{Browser, Scheme};
use crate::support::{ADMIN, Answer, PATIENCE, Running, enough_of_this_minute};

/// The access key of a member.
const CI: &str = "access-key-of-ci-in-the-console";

impl Running {
    /// Creates the group `acme` and its key `acme/ci`, which has the plan `standard` and limits of its own.
    fn with_a_team(self) -> Self {
        let put = |path: &str, body: serde_json::Value| {
            let answer = self.call("PUT", ADMIN, path, &body.to_string());
            assert_eq!(answer.status, 201, "{answer:?}");
        };
        let plan = json!({"global": {"tokens_per_day": 200_000}, "thresholds": [50, 100]});
        put("/v1/plans/standard", plan);
        let group = json!({"name": "Acme", "budget": "25", "global": {"requests_per_day": 100}});
        put("/v1/keys", json!({"kind": "group", "id": "acme", "config": group}));
        let key = json!({
            "name": "ci", "plan": "standard", "global": {"requests_per_month": 4},
            "assets": {"gpt-5": {"output_tokens_per_day": 100}},
        });
        put("/v1/keys", json!({"id": "acme/ci", "access_key": CI, "config": key}));
        self
    }

    /// Makes a call of `acme/ci`.
    fn call_of_ci(&self, output_tokens: u64) -> Answer {
        let charge = json!({"input_tokens": 10, "output_tokens": output_tokens, "credits": "0.25"});
        self.post(CI, "/v1/check", &json!({"asset": "gpt-5", "charge": charge}))
    }
}

impl Browser {
    fn sign_in(&self, server: &Running) {
        self.open(&format!("{}/console/sign-in", server.url));
        self.fill("access_key", ADMIN);
        self.click("Sign in");
        self.expect("/console", &["Keys and groups"]);
    }

    /// Waits until the page is that of this path and shows these texts.
    fn expect(&self, path: &str, texts: &[&str]) {
        let started = Instant::now();
        loop {
            let (at, text) = (self.path(), self.text());
            if at == path && texts.iter().all(|it| text.contains(it)) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{path} {texts:?} is not shown: {at}: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn visit(&self, server: &Running, path: &str, texts: &[&str]) {
        self.open(&format!("{}{path}", server.url));
        self.expect(path, texts);
    }
}

#[test]
fn an_operator_signs_in_walks_the_tree_and_signs_out() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        enough_of_this_minute();
        assert_eq!(server.call_of_ci(60).body["outcome"], "allowed");
        browser.visit(&server, "/console/sign-in", &["Access key of an admin key"]);
        browser.sign_in(&server);
        browser.expect(
            "/console",
            &["Acme", "group", "1 of 100 requests per day", "0.25 of 25.00 credits in all"],
        );
        browser.click("Open");
        browser.expect(
            "/console?beneath=acme",
            &["Acme", "ci", "plan standard", "1 of 4 requests per month", "50 % reached"],
        );
        browser.click("ci");
        browser.expect(
            "/console/keys/acme%2Fci",
            &["60 of 100 output tokens per day", "Limits of the group Acme"],
        );
        browser.click("Sign out");
        browser.expect("/console/sign-in", &[]);
        browser.open(&format!("{}/console/plans", server.url));
        browser.expect("/console/sign-in?next=%2Fconsole%2Fplans", &["Sign in"]);
        browser.fill("access_key", ADMIN);
        browser.click("Sign in");
        browser.expect("/console/plans", &["standard"]);
        browser.click("Sign out");
    }
}

#[test]
fn a_member_key_and_a_stranger_are_refused() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        for (key, problem) in [
            (CI, "This is a member key."),
            ("an-access-key-of-nobody-at-all", "This is not the access key of a living key."),
            ("short", "This is not the access key of a living key."),
        ] {
            browser.open(&format!("{}/console/sign-in", server.url));
            browser.fill("access_key", key);
            browser.click("Sign in");
            browser.expect("/console/sign-in", &[problem]);
        }
        browser.open(&format!("{}/console", server.url));
        browser.expect("/console/sign-in?next=%2Fconsole", &["Sign in"]);
        // An access key in a header opens no session.
        let answer = server.get(ADMIN, "/console/keys/acme");
        assert!(!answer.text.contains("Acme") && answer.text.contains("Sign in"), "{answer:?}");
    }
}

#[test]
fn an_expired_session_leads_to_signing_in_and_back() {
    let browser = Browser::start();
    for server in Running::on_each_store_with(&["--console-session", "8"]).map(Running::with_a_team)
    {
        browser.sign_in(&server);
        let started = Instant::now();
        while browser.path() == "/console" {
            assert!(started.elapsed() < PATIENCE, "the session goes on");
            std::thread::sleep(Duration::from_millis(200));
            browser.open(&format!("{}/console", server.url));
        }
        browser.expect("/console/sign-in?next=%2Fconsole", &["Sign in"]);
        browser.open(&format!("{}/console/keys/acme%2Fci/edit", server.url));
        browser.fill("access_key", ADMIN);
        browser.click("Sign in");
        browser.expect("/console/keys/acme%2Fci/edit", &["Edit ci"]);
        let cookies = browser.run("return document.cookie");
        assert_eq!(cookies, json!(""), "scripts do not see the session");
    }
}

#[test]
fn the_session_of_an_access_key_that_is_replaced_ends() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        browser.sign_in(&server);
        let admin = server.get(ADMIN, "/v1/keys?name_contains=admin").body["keys"][0]["id"].clone();
        let path = format!("/v1/keys/{}/rotate", admin.as_str().expect("an id"));
        assert_eq!(server.post(ADMIN, &path, &json!({})).status, 200);
        browser.open(&format!("{}/console", server.url));
        browser.expect("/console/sign-in?next=%2Fconsole", &["Sign in"]);
    }
}

#[test]
fn a_forged_form_changes_nothing() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        browser.sign_in(&server);
        let reset = "/console/keys/acme%2Fci/reset";
        browser.visit(&server, reset, &["Reset ci"]);
        assert_eq!(server.call_of_ci(1).body["outcome"], "allowed");
        browser.run("document.querySelector('main [name=form_token]').value = 'guessed'");
        browser.click("Reset");
        browser.expect(reset, &["This form is not from a page of your session"]);
        assert_eq!(server.used_today(CI).0, 1, "it was not reset");

        // A page of another site has no token, and its forms come without the cookie.
        let body = "form_token=guessed";
        let forged = server.call_with("POST", reset, [("sec-fetch-site", "cross-site")], body);
        assert!(forged.text.contains("Sign in"), "{forged:?}");
        let headers = [("sec-fetch-site", "cross-site")];
        let sign_in = format!("access_key={ADMIN}");
        let forged = server.call_with("POST", "/console/sign-in", headers, &sign_in);
        assert_eq!((forged.status, forged.header("set-cookie")), (403, None), "{forged:?}");
        assert_eq!(server.used_today(CI).0, 1);
    }
}

#[test]
fn a_script_in_a_name_is_text() {
    let browser = Browser::start();
    let name =
        "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">";
    for server in Running::on_each_store().map(Running::with_a_team) {
        let config = json!({"name": name, "labels": {"owner": name}, "assets": {name: {"requests_per_day": 0}}});
        let body = json!({"kind": "group", "id": "scripted", "config": config}).to_string();
        assert_eq!(server.call("PUT", ADMIN, "/v1/keys", &body).status, 201);
        assert_eq!(
            server.call("PUT", ADMIN, &format!("/v1/plans/{}", "%3Cb%3E"), "{}").status,
            201
        );
        browser.sign_in(&server);
        browser.expect("/console", &[name]);
        browser.click_on(".tree a[href='/console/keys/scripted']");
        let page = browser.path();
        browser.expect(&page, &[name, "0 of 0 requests per day"]);
        for action in ["edit", "rotate", "reset", "delete"] {
            browser.open(&format!("{}{page}/{action}", server.url));
            assert!(browser.title().contains(name), "{action}: {}", browser.title());
        }
        browser.visit(&server, "/console/plans", &["<b>"]);
        browser.click("<b>");
        browser.expect("/console/plans/%3Cb%3E", &["Plan <b>"]);
        assert_eq!(
            browser.run("return document.querySelectorAll('main b, main img').length"),
            json!(0)
        );
    }
}

#[test]
fn a_group_and_a_key_are_created_and_the_access_key_is_shown_once() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        browser.sign_in(&server);
        browser.click("New group");
        browser.fill("segment", "beta");
        browser.fill("name", "Beta");
        browser.fill("toml", "global = { requests_per_minute = 0");
        browser.click("Create");
        browser.expect("/console/new", &["Around line 1"]);
        browser.fill("toml", "global = { requests_per_minutes = 50 }");
        browser.click("Create");
        browser.expect("/console/new", &["requests_per_minutes"]);
        browser.fill("toml", "global = { requests_per_month = 50 }\nthresholds = [50]");
        browser.click("Create");
        browser
            .expect("/console/keys/beta?done=created", &["Created.", "0 of 50 requests per month"]);
        browser.click("What lies beneath");
        browser.expect("/console?beneath=beta", &["No keys and no groups here."]);

        browser.click("New key");
        browser.fill("segment", "ci");
        browser.fill("name", "ci");
        browser.fill("prefix", "sk-beta-");
        browser.click("Create");
        browser.expect("/console/new", &["Another key of this workspace is named"]);
        browser.fill("name", "beta ci");
        browser.click("Create");
        browser.expect("/console/new", &["The access key of beta ci", "It is shown this once."]);
        let shown = browser.run("return document.getElementById('access-key').innerText");
        let access_key = shown.as_str().expect("it is shown").to_owned();
        assert!(access_key.starts_with("sk-beta-"), "{access_key}");
        assert_eq!(server.post(&access_key, "/v1/check", &json!({})).body["outcome"], "allowed");
        browser.click("I have copied it");
        browser.expect("/console/keys/beta%2Fci", &["beta/ci", "1 of 50 requests per month"]);
        assert!(!browser.text().contains(&access_key));
    }
}

#[test]
fn limits_are_changed_from_the_next_window_or_now() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        browser.sign_in(&server);
        let (page, edit) = ("/console/keys/acme%2Fci", "/console/keys/acme%2Fci/edit");
        let written =
            "assets.gpt-5 = { output_tokens_per_day = 100 }\nglobal = { requests_per_month = ";
        browser.visit(
            &server,
            edit,
            &["Changed limits take effect", "from the next window", "now, in the windows"],
        );
        let toml = browser.run("return document.querySelector('[name=toml]').value");
        assert!(toml.as_str().is_some_and(|it| it.contains("requests_per_month = 4")), "{toml}");
        browser.fill("toml", &format!("{written}7 }}"));
        browser.click("Save");
        browser.expect(
            &format!("{page}?done=saved"),
            &["Saved.", "0 of 4 requests per month", "Pending", "7 requests per month"],
        );
        browser.click("Edit");
        browser.fill("toml", &format!("{written}9 }}"));
        browser.choose("effective", "now");
        browser.click("Save");
        browser.expect(&format!("{page}?done=saved"), &["0 of 9 requests per month"]);
        assert!(!browser.text().contains("Pending"), "{}", browser.text());

        // A colleague was faster.
        browser.visit(&server, edit, &["Edit ci"]);
        let record = server.get(ADMIN, "/v1/keys/acme%2Fci").body;
        let config = json!({"name": "ci", "plan": "standard"});
        let update = json!({"version": record["version"], "config": config});
        assert_eq!(
            server.call("PUT", ADMIN, "/v1/keys/acme%2Fci", &update.to_string()).status,
            200
        );
        browser.fill("name", "ci of mine");
        browser.click("Save");
        browser.expect(edit, &["Edit ci of mine", "version"]);
        assert_eq!(server.get(ADMIN, "/v1/keys/acme%2Fci").body["name"], "ci");
    }
}

#[test]
fn an_access_key_is_replaced_a_key_is_reset_and_deleted_after_a_confirmation() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        browser.sign_in(&server);
        assert_eq!(server.call_of_ci(1).body["outcome"], "allowed");
        browser.visit(&server, "/console/keys/acme%2Fci", &["1 of 4 requests per month"]);
        browser.click("Replace the access key");
        browser.expect("/console/keys/acme%2Fci/rotate", &["The old access key works on for"]);
        browser.click("Cancel");
        browser.click("Reset");
        browser.click("Reset");
        browser.expect("/console/keys/acme%2Fci?done=reset", &["0 of 4 requests per month"]);

        browser.click("Replace the access key");
        browser.choose("grace_seconds", "0");
        browser.click("Replace");
        browser.expect("/console/keys/acme%2Fci/rotate", &["It is shown this once."]);
        let shown = browser.run("return document.getElementById('access-key').innerText");
        let access_key = shown.as_str().expect("it is shown").to_owned();
        assert_eq!(server.get(CI, "/v1/usage").status, 401);
        assert_eq!(server.get(&access_key, "/v1/usage").status, 200);

        // A group with a key in it stays.
        browser.visit(
            &server,
            "/console/keys/acme/delete",
            &["Delete Acme", "This cannot be undone."],
        );
        browser.click("Delete for good");
        browser.expect("/console/keys/acme/delete", &["This did not work"]);
        browser.visit(&server, "/console/keys/acme%2Fci/delete", &["Delete ci"]);
        browser.click("Delete for good");
        browser.expect(
            "/console?beneath=acme&done=deleted",
            &["Deleted.", "No keys and no groups here."],
        );
        assert_eq!(server.get(&access_key, "/v1/usage").status, 401);
    }
}

#[test]
fn a_key_shows_its_history_and_its_last_denials() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        browser.sign_in(&server);
        browser.visit(&server, "/console/keys/acme%2Fci", &["No calls.", "None since the start."]);
        assert_eq!(server.call_of_ci(60).body["outcome"], "allowed");
        let denied = server.call_of_ci(60).body["message"].clone();
        let denied = denied.as_str().expect("it is a sentence");
        browser.visit(
            &server,
            "/console/keys/acme%2Fci",
            &[denied, "Requests per day", "Credits per day"],
        );
        assert_eq!(browser.run("return document.querySelectorAll('figure svg').length"), json!(3));
        browser.click_on("summary");
        let table = browser.run("return document.querySelector('table').innerText");
        let table = table.as_str().expect("it is text").replace('\t', " ");
        assert!(table.contains("gpt-5 1 10 60 0.25"), "{table}");

        let group = json!({"version": 1, "effective": "now", "config": {"name": "Acme", "global": {"requests_per_day": 1}}});
        assert_eq!(server.call("PUT", ADMIN, "/v1/keys/acme", &group.to_string()).status, 200);
        let of_group = server.call_of_ci(1).body["message"].clone();
        let of_group = of_group.as_str().expect("it is a sentence");
        browser.visit(
            &server,
            "/console/keys/acme",
            &[of_group, "Calls that a limit of this group denied"],
        );
        assert!(!browser.text().contains(denied), "{}", browser.text());
    }
}

#[test]
fn plans_are_created_changed_and_deleted_unless_a_key_has_them() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        browser.sign_in(&server);
        browser.click("Plans");
        browser.expect("/console/plans", &["standard", "All calls: 200000 tokens per day"]);
        browser.click("New plan");
        browser.fill("name", "free");
        browser.fill("toml", "global = { requests_per_day = 5 }");
        browser.click("Create");
        browser.expect("/console/plans?done=saved", &["Saved.", "free", "5 requests per day"]);
        browser.click("standard");
        browser.fill("toml", "global = { tokens_per_day = 10 }");
        browser.choose("effective", "now");
        browser.click("Save");
        browser.expect("/console/plans?done=saved", &["10 tokens per day"]);
        browser.visit(&server, "/console/keys/acme%2Fci", &["0 of 10 tokens per day"]);
        browser.visit(&server, "/console/plans/standard/delete", &["Delete the plan standard"]);
        browser.click("Delete");
        browser.expect("/console/plans/standard/delete", &["This did not work"]);
        browser.visit(&server, "/console/plans/free/delete", &["Delete the plan free"]);
        browser.click("Delete");
        browser.expect("/console/plans?done=deleted", &["Deleted.", "standard"]);
        assert!(!browser.text().contains("free"), "{}", browser.text());
    }
}

#[test]
fn large_lists_come_in_pages_and_are_searched() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        let keys: Vec<_> =
            (0..60).map(|number| json!({"config": {"name": format!("key {number:02}")}})).collect();
        assert_eq!(server.post(ADMIN, "/v1/keys", &json!({"keys": keys})).status, 200);
        browser.sign_in(&server);
        let mut pages = 1;
        let mut seen = browser.text();
        while browser.text().contains("Next page") {
            browser.click("Next page");
            seen.push_str(&browser.text());
            pages += 1;
        }
        // 60 keys, the admin key and the group.
        assert_eq!(pages, 3);
        for number in 0..60 {
            assert_eq!(seen.matches(&format!("key {number:02}")).count(), 1, "key {number:02}");
        }
        browser.fill("name", "KEY 4");
        browser.click("Search");
        browser.expect("/console?name=KEY+4", &["key 40", "key 49"]);
        assert!(!browser.text().contains("key 50"), "{}", browser.text());
    }
}

#[test]
fn everything_is_done_by_keyboard_alone() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        let enter = Key::Enter.to_string();
        browser.open(&format!("{}/console/sign-in", server.url));
        browser.type_keys(ADMIN);
        browser.type_keys(&enter);
        browser.expect("/console", &["Acme"]);
        for (link, path) in [("Acme", "/console/keys/acme"), ("Edit", "/console/keys/acme/edit")] {
            browser.tab_to(link);
            browser.type_keys(&enter);
            browser.expect(path, &["Acme"]);
        }
        browser.tab_to("name");
        browser.type_keys("Acme Corporation");
        browser.type_keys(&enter);
        browser.expect("/console/keys/acme?done=saved", &["Acme Corporation"]);
    }
}

#[test]
fn times_are_shown_in_utc_and_in_the_zone_of_the_viewer() {
    let browser = Browser::start();
    for server in Running::on_each_store().map(Running::with_a_team) {
        let config = json!({"name": "ci", "expires_at": "2126-01-31T20:00:00Z"});
        let update = json!({"version": 1, "config": config});
        assert_eq!(
            server.call("PUT", ADMIN, "/v1/keys/acme%2Fci", &update.to_string()).status,
            200
        );
        browser.sign_in(&server);
        // Half past one of the next day.
        let shown = "2126-01-31 20:00 UTC (1 Feb 2126, 01:30 GMT+5:30)";
        browser.visit(&server, "/console/keys/acme%2Fci", &[shown]);
    }
}

#[test]
fn health_shows_the_store_and_the_state_file() {
    let browser = Browser::start();
    let folder = tempfile::TempDir::new().expect("there is room for files");
    let state = folder.path().join("state.json");
    let state = state.to_str().expect("it is text");
    let [in_memory, on_redis] =
        [Running::with(&["--state", state]), Running::on_redis_with(&["--leases"])];
    browser.sign_in(&in_memory);
    browser.visit(
        &in_memory,
        "/console/health",
        &["The server is ready.", "In memory", "state.json", "Off: each call"],
    );
    browser.sign_in(&on_redis);
    browser.visit(
        &on_redis,
        "/console/health",
        &["The server is ready.", "Redis", "Round trip now", "Out of leases"],
    );
}

/// No serious finding of axe, nothing wider than a phone, no page of more than 60 kB; and a picture of each in target/console.
#[test]
fn every_page_is_accessible_in_light_and_dark_and_fits_a_phone() {
    for (server, scheme) in Running::on_each_store().into_iter().zip([Scheme::Light, Scheme::Dark])
    {
        let (server, browser) = (server.with_a_team(), Browser::with(scheme));
        for output_tokens in [60, 30, 30] {
            assert_eq!(server.call_of_ci(output_tokens).status, 200);
        }
        let look_at = |name: &str| {
            let findings = browser.accessibility_findings();
            assert_eq!(findings, [""; 0], "{name} in {scheme:?}");
            let height = browser.run("return document.documentElement.scrollHeight");
            let height = height.as_u64().and_then(|height| u32::try_from(height).ok());
            browser.resize(1_000, height.unwrap_or(0).clamp(600, 2_400) + 150);
            browser.screenshot(&format!("{name}-{scheme:?}").to_lowercase());
            browser.resize(360, 740);
            let fits =
                "return window.innerWidth === 360 && document.documentElement.scrollWidth <= 360";
            assert_eq!(browser.run(fits), json!(true), "{name} is too wide for a phone");
            browser.screenshot(&format!("{name}-{scheme:?}-phone").to_lowercase());
            browser.resize(1_000, 900);
            let bytes = browser.run("return document.documentElement.outerHTML.length");
            assert!(bytes.as_u64().is_some_and(|bytes| bytes <= 60_000), "{name}: {bytes} bytes");
        };
        browser.open(&format!("{}/console/sign-in", server.url));
        look_at("sign-in");
        browser.sign_in(&server);
        for (name, path) in PAGES {
            browser.visit(&server, path, &[]);
            look_at(name);
        }
        browser.visit(&server, "/console/keys/acme%2Fci/rotate", &[]);
        browser.click("Replace");
        browser.expect("/console/keys/acme%2Fci/rotate", &["It is shown this once."]);
        look_at("access-key");
        browser.visit(&server, "/console/keys/nobody", &["This did not work"]);
        look_at("problem");
    }
}

const PAGES: [(&str, &str); 12] = [
    ("keys", "/console"),
    ("group", "/console?beneath=acme"),
    ("key", "/console/keys/acme%2Fci"),
    ("edit", "/console/keys/acme%2Fci/edit"),
    ("rotate", "/console/keys/acme%2Fci/rotate"),
    ("reset", "/console/keys/acme%2Fci/reset"),
    ("delete", "/console/keys/acme%2Fci/delete"),
    ("new-key", "/console/new?kind=member"),
    ("new-group", "/console/new?kind=group"),
    ("plans", "/console/plans"),
    ("plan", "/console/plans/standard"),
    ("health", "/console/health"),
];
