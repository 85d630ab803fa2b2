//! Groups over HTTP: how they are managed, who may do so, and what the aiXplain SDK sees of them.

use limiter::redis::RedisStore;
use limiter::{KeyConfig, Limiter, NewKey};
use limiter_server::{Bounds, Server};
use limiter_test_servers::{fresh_name, shared};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ADMIN, Answer, Running, call_at};

impl Running {
    /// Creates the groups `acme` and `acme/search` and the key `acme/search/ci`. Each may make this many requests a day.
    fn acme(&self, requests: [u64; 3]) {
        for new in acme(requests) {
            let created = self.as_admin("PUT", "/v1/keys", new);
            assert_eq!(created.status, 201, "{created:?}");
        }
    }

    fn as_admin(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.call(method, ADMIN, path, &body)
    }
}

/// Two groups, the outermost first, and a key with the access key `CI`.
fn acme([of_acme, of_search, of_ci]: [u64; 3]) -> [Value; 3] {
    let key = |kind: &str, id: &str, requests: u64| {
        let config = json!({"name": id, "global": {"requests_per_day": requests}});
        json!({"kind": kind, "id": id, "config": config})
    };
    let mut ci = key("member", "acme/search/ci", of_ci);
    ci["access_key"] = json!(CI);
    [key("group", "acme", of_acme), key("group", "acme/search", of_search), ci]
}

/// The ids of the keys of a page.
fn ids(page: &Answer) -> Vec<&str> {
    let keys = page.body["keys"].as_array().expect("it is a page");
    keys.iter().map(|key| key["id"].as_str().expect("it is text")).collect()
}

#[test]
fn groups_are_created_read_changed_and_deleted_as_keys_are() {
    for server in Running::on_each_store() {
        server.acme([9, 9, 9]);
        let group = server.get(ADMIN, "/v1/keys/acme%2Fsearch");
        assert_eq!((group.status, &group.body["kind"]), (200, &json!("group")), "{group:?}");
        assert_eq!(group.body["access_key"], Value::Null);
        let check = server.post(CI, "/v1/check", &json!({}));
        assert_eq!(check.body["outcome"], "allowed", "{check:?}");
        let groups: Vec<_> =
            check.body["rules"].as_array().unwrap().iter().map(|rule| &rule["group"]).collect();
        assert_eq!(groups, [&json!("acme"), &json!("acme/search"), &Value::Null]);

        let less = json!({"name": "Search", "global": {"requests_per_day": 1}});
        let update = json!({"version": 1, "config": less, "effective": "now"});
        let updated = server.as_admin("PUT", "/v1/keys/acme%2Fsearch", update);
        assert_eq!((updated.status, &updated.body["version"]), (200, &json!(2)), "{updated:?}");
        let denied = server.post(CI, "/v1/check", &json!({})).body;
        assert_eq!(
            (&denied["outcome"], &denied["binding_group"]),
            (&json!("denied"), &json!("acme/search"))
        );
        assert_eq!(denied["violated"][0]["group"], "acme/search");
        let message = denied["message"].as_str().expect("it is a sentence");
        assert!(message.contains("are used for group acme/search"), "{message}");

        let reset = server.as_admin("POST", "/v1/keys/acme%2Fsearch/reset", Value::Null);
        assert_eq!(reset.status, 204, "{reset:?}");
        assert_eq!(server.post(CI, "/v1/check", &json!({})).body["outcome"], "allowed");
        for (id, used) in [("acme", 2), ("acme%2Fsearch", 1), ("acme%2Fsearch%2Fci", 2)] {
            let usage = server.get(ADMIN, &format!("/v1/usage?key_id={id}"));
            assert_eq!(usage.body["scopes"][0]["rules"][0]["used"], used, "{usage:?}");
            let history = server.get(ADMIN, &format!("/v1/history?key_id={id}&days=2"));
            let today = history.body.as_array().and_then(|days| days.last()).expect("today");
            assert_eq!(today["scopes"][0]["account"]["requests"], 2, "{history:?}");
        }

        assert_eq!(
            ids(&server.get(ADMIN, "/v1/keys?beneath=acme")),
            ["acme/search", "acme/search/ci"]
        );
        assert_eq!(ids(&server.get(ADMIN, "/v1/keys?beneath=acme%2Fsearch")), ["acme/search/ci"]);
        assert_eq!(ids(&server.get(ADMIN, "/v1/keys?beneath=acme&direct=true")), ["acme/search"]);
        assert_eq!(ids(&server.get(ADMIN, "/v1/keys?beneath=acme%2Fsearch%2Fci")), [""; 0]);
        for group in ["acme", "acme%2Fsearch"] {
            let refused = server.as_admin("DELETE", &format!("/v1/keys/{group}"), Value::Null);
            let detail = refused.assert_problem(409);
            assert!(detail.contains("lie beneath group"), "{detail}");
            assert_eq!(refused.body["reason"], "not_empty");
        }
        for id in ["acme%2Fsearch%2Fci", "acme%2Fsearch", "acme"] {
            let path = format!("/v1/keys/{id}");
            assert_eq!(server.as_admin("DELETE", &path, Value::Null).status, 204);
            server.get(ADMIN, &path).assert_problem(404);
            server.as_admin("DELETE", &path, Value::Null).assert_problem(404);
        }
        server.post(CI, "/v1/check", &json!({})).assert_problem(401);
    }
}

#[test]
fn a_group_and_what_lies_beneath_it_are_created_in_one_request() {
    for server in Running::on_each_store() {
        let created = server.post(ADMIN, "/v1/keys", &json!({ "keys": acme([9, 9, 9]) }));
        assert_eq!(created.status, 200, "{created:?}");
        let results = created.body["results"].as_array().expect("each has a result");
        assert!(results.iter().all(|result| result["status"] == 201), "{created:?}");
        assert_eq!(results[0].get("access_key"), None, "a group has none");
        assert_eq!(server.post(CI, "/v1/check", &json!({})).body["outcome"], "allowed");
    }
}

#[test]
fn an_id_may_be_drawn_beneath_a_group_and_a_mistake_is_refused_with_a_reason() {
    for server in Running::on_each_store() {
        server.acme([9, 9, 9]);
        let upsert = |fields: Value| {
            let mut request = json!({"config": {"name": "new"}});
            request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            server.as_admin("PUT", "/v1/keys", request)
        };
        for (kind, name) in [("member", "drawn"), ("group", "drawn group")] {
            let created =
                upsert(json!({"kind": kind, "beneath": "acme/search", "config": {"name": name}}));
            assert_eq!(
                (created.status, &created.body["key"]["kind"]),
                (201, &json!(kind)),
                "{created:?}"
            );
            let id = created.body["key"]["id"].as_str().expect("it is text");
            assert!(id.starts_with("acme/search/") && id.len() > 20, "{id}");
            assert_eq!(created.body.get("access_key").is_some(), kind == "member");
        }
        let again =
            upsert(json!({"kind": "group", "id": "other", "config": {"name": "acme/search"}}));
        assert_eq!(
            (again.status, &again.body["key"]["id"]),
            (200, &json!("acme/search")),
            "{again:?}"
        );

        for (fields, status, reason) in [
            (json!({"id": "acme/chat/ci"}), 422, "no_group"),
            (json!({"beneath": "nobody"}), 422, "no_group"),
            (json!({"beneath": "acme/search/ci"}), 422, "no_group"),
            (json!({"kind": "group", "id": "nobody/search"}), 422, "no_group"),
            (json!({"kind": "group", "id": "acme"}), 409, "conflict"),
            (json!({"config": {"name": "acme"}}), 422, "name_taken"),
            (json!({"id": "a", "beneath": "acme"}), 400, "malformed"),
            (json!({"kind": "group"}), 400, "malformed"),
            (
                json!({"kind": "group", "id": "a", "access_key": "0123456789abcdef0"}),
                400,
                "malformed",
            ),
            (json!({"kind": "admin", "id": "acme/ops"}), 400, "malformed"),
            (json!({"kind": "admin", "beneath": "acme"}), 400, "malformed"),
            (json!({"id": "a/b/c/d/e"}), 400, "malformed"),
            (json!({"id": "acme//ci"}), 400, "malformed"),
        ] {
            let refused = upsert(fields.clone());
            refused.assert_problem(status);
            assert_eq!(refused.body["reason"], reason, "{fields}: {refused:?}");
        }
        // One key of many is refused alone, for the same reason.
        let keys = json!([{"config": {"name": "a"}, "beneath": "nobody"}, {"config": {"name": "b"}, "beneath": "acme"}]);
        let results =
            server.post(ADMIN, "/v1/keys", &json!({ "keys": keys })).body["results"].take();
        assert_eq!(
            (&results[0]["status"], &results[0]["reason"]),
            (&json!(422), &json!("no_group"))
        );
        assert_eq!(results[1]["status"], 201, "{results}");
    }
}

/// Each row of the table of rights, for groups: an admin may do all, a member reads its own usage alone.
#[test]
fn a_member_manages_no_group_and_reads_none_and_a_group_makes_no_calls() {
    for server in Running::on_each_store() {
        server.acme([9, 9, 9]);
        let config = json!({"name": "acme"});
        let update = json!({"version": 1, "config": config});
        let new = json!({"kind": "group", "id": "other", "config": {"name": "other"}});
        let none = Value::Null;
        for (method, path, body, by_admin) in [
            ("POST", "/v1/keys", json!({"keys": [new]}), 200),
            ("PUT", "/v1/keys", new, 200),
            ("GET", "/v1/keys", none.clone(), 200),
            ("GET", "/v1/keys?beneath=acme", none.clone(), 200),
            ("GET", "/v1/keys/acme", none.clone(), 200),
            ("GET", "/v1/keys/acme%2Fsearch", none.clone(), 200),
            ("PUT", "/v1/keys/acme", update, 200),
            ("POST", "/v1/keys/acme%2Fsearch/reset", none.clone(), 204),
            ("GET", "/v1/usage?key_id=acme", none.clone(), 200),
            ("GET", "/v1/usage?key_id=acme%2Fsearch", none.clone(), 200),
            ("GET", "/v1/history?key_id=acme", none.clone(), 200),
            ("DELETE", "/v1/keys/other", none.clone(), 204),
        ] {
            let text = if body.is_null() { String::new() } else { body.to_string() };
            server.call(method, CI, path, &text).assert_problem(403);
            let nobody = server.call(method, "nobody-has-this-key-1234567890", path, &text);
            nobody.assert_problem(401);
            let answer = server.call(method, ADMIN, path, &text);
            assert_eq!(answer.status, by_admin, "{method} {path}: {answer:?}");
        }
        for own in ["/v1/usage", "/v1/usage?key_id=acme%2Fsearch%2Fci", "/v1/history"] {
            assert_eq!(server.get(CI, own).status, 200, "{own}");
        }
        server.post(ADMIN, "/v1/check", &json!({})).assert_problem(403);
    }
}

/// Asked for by any name, a group of another workspace is answered as one that does not exist, and so is all beneath it.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_another_workspace_does_not_exist() {
    let redis = RedisStore::builder(shared().url()).key_prefix(fresh_name("groups"));
    for limiter in [Limiter::in_memory(), Limiter::from(redis.connect().await.unwrap())] {
        for (workspace, access_key) in [("home", ADMIN), ("elsewhere", OTHER_ADMIN)] {
            let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
            let admin = admin.with_access_key(access_key.parse().unwrap());
            limiter.bootstrap(workspace.parse().unwrap(), admin).await.unwrap();
        }
        let url = serve(limiter).await;
        let call = |method: &str, key: &str, path: &str, body: &Value| {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            tokio::task::block_in_place(|| call_at(&url, method, key, path, &body))
        };
        for new in acme([9, 9, 9]) {
            assert_eq!(call("PUT", ADMIN, "/v1/keys", &new).status, 201);
        }
        let member = json!({"config": {"name": "member"}, "access_key": OTHER_MEMBER});
        assert_eq!(call("PUT", OTHER_ADMIN, "/v1/keys", &member).status, 201);

        let asked = |group: &str| {
            let update = json!({"version": 1, "config": {"name": "x"}});
            let create =
                |kind: &str, id: &str| json!({"kind": kind, "id": id, "config": {"name": "x"}});
            let mut asked = Vec::new();
            for beneath in ["", "%2Fsearch", "%2Fsearch%2Fci", "%2Fnone"] {
                let id = format!("{group}{beneath}");
                for (method, path, body) in [
                    ("GET", format!("/v1/keys/{id}"), Value::Null),
                    ("PUT", format!("/v1/keys/{id}"), update.clone()),
                    ("DELETE", format!("/v1/keys/{id}"), Value::Null),
                    ("POST", format!("/v1/keys/{id}/reset"), Value::Null),
                    ("POST", format!("/v1/keys/{id}/rotate"), json!({})),
                    ("GET", format!("/v1/usage?key_id={id}"), Value::Null),
                    ("GET", format!("/v1/history?key_id={id}"), Value::Null),
                    ("GET", format!("/v1/keys?beneath={id}"), Value::Null),
                    ("GET", format!("/sdk/api-keys/{id}"), Value::Null),
                    ("GET", format!("/sdk/api-keys/{id}/usage-limits"), Value::Null),
                    ("DELETE", format!("/sdk/api-keys/{id}"), Value::Null),
                ] {
                    asked.push((method, path, body));
                }
            }
            for beneath in ["search", "search/ci", "none", "none/ci"] {
                for kind in ["member", "group"] {
                    let new = create(kind, &format!("{group}/{beneath}"));
                    asked.push(("POST", "/v1/keys".to_owned(), json!({"keys": [new.clone()]})));
                    asked.push(("PUT", "/v1/keys".to_owned(), new));
                }
            }
            let drawn = json!({"beneath": group, "config": {"name": "x"}});
            asked.push(("PUT", "/v1/keys".to_owned(), drawn));
            asked
        };
        for caller in [OTHER_ADMIN, OTHER_MEMBER] {
            for (theirs, nobodys) in asked("acme").into_iter().zip(asked("void")) {
                let [theirs, nobodys] =
                    [(theirs, "acme"), (nobodys, "void")].map(|(asked, group)| {
                        let (method, path, body) = asked;
                        let answer = call(method, caller, &path, &body);
                        (method, answer.status, answer.text.replace(group, "GROUP"))
                    });
                assert_eq!(theirs, nobodys);
                assert!(theirs.1 != 201 && theirs.1 != 204, "{theirs:?}");
            }
        }
        let untouched = call("GET", ADMIN, "/v1/keys/acme%2Fsearch%2Fci", &Value::Null);
        assert_eq!(untouched.body["version"], 1, "{untouched:?}");
    }
}

#[test]
fn the_sdk_of_aixplain_sees_keys_in_groups_and_no_groups() {
    for server in Running::on_each_store() {
        server.acme([2, 9, 9]);
        let listed = server.get(ADMIN, "/sdk/api-keys").body;
        let listed: Vec<_> = listed.as_array().unwrap().iter().map(|key| &key["id"]).collect();
        assert_eq!((listed.len(), listed[0]), (2, &json!("acme/search/ci")), "and the admin");

        let key = "/sdk/api-keys/acme%2Fsearch%2Fci";
        let mut record = server.get(ADMIN, key).body;
        assert_eq!(record["globalLimits"]["rpd"], 9, "{record}");
        record["globalLimits"]["rpd"] = json!(5);
        let changed = server.as_admin("PUT", key, record.clone());
        assert_eq!((changed.status, &changed.body["globalLimits"]["rpd"]), (200, &json!(5)));
        for group in ["acme", "acme%2Fsearch"] {
            let path = format!("/sdk/api-keys/{group}");
            server.get(ADMIN, &path).assert_refused_on_the_wire(404);
            server.as_admin("PUT", &path, record.clone()).assert_refused_on_the_wire(404);
            server.as_admin("DELETE", &path, Value::Null).assert_refused_on_the_wire(404);
            server.get(ADMIN, &format!("{path}/usage-limits")).assert_refused_on_the_wire(404);
            server.get(CI, &format!("{path}/usage-limits")).assert_refused_on_the_wire(403);
        }

        for _ in 0..2 {
            assert_eq!(server.run(CI, "Hello").status, 200);
        }
        let denied = server.run(CI, "Hello");
        let message = denied.assert_refused_on_the_wire(429);
        assert!(
            message
                .contains("rpd. acme/search/ci: 2 of 2 requests per day are used for group acme,"),
            "{message}"
        );
        for caller in [ADMIN, CI] {
            let rows = server.get(caller, &format!("{key}/usage-limits"));
            assert_eq!((rows.status, &rows.body[0]["requestCount"]), (200, &json!(2)), "{rows:?}");
        }
        let deleted = server.as_admin("DELETE", key, Value::Null);
        assert_eq!((deleted.status, &deleted.body["id"]), (200, &json!("acme/search/ci")));
        assert_eq!(server.run(CI, "Hello").status, 401);
        // The name of a group is taken for keys too.
        let taken = server.post(ADMIN, "/sdk/api-keys", &json!({"name": "acme"}));
        taken.assert_refused_on_the_wire(422);
    }
}

#[test]
fn groups_and_their_counts_are_kept_over_restarts_and_their_changes_over_kill_9() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let mut first = Running::with(&flags);
    first.acme([2, 9, 9]);
    first.signal(Signal::SIGKILL);
    first.ended();

    let second = Running::with(&flags);
    assert_eq!(ids(&second.get(ADMIN, "/v1/keys?beneath=acme")).len(), 2);
    for _ in 0..2 {
        assert_eq!(second.run(CI, "Hello").status, 200);
    }
    let empty = json!({"kind": "group", "id": "empty", "config": {"name": "empty"}});
    assert_eq!(second.as_admin("PUT", "/v1/keys", empty).status, 201);
    assert!(second.stop().success());

    let mut third = Running::with(&flags);
    assert_eq!(third.run(CI, "Hello").status, 429);
    third.as_admin("DELETE", "/v1/keys/acme", Value::Null).assert_problem(409);
    assert_eq!(third.as_admin("DELETE", "/v1/keys/empty", Value::Null).status, 204);
    third.signal(Signal::SIGKILL);
    third.ended();
    let fourth = Running::with(&flags);
    fourth.get(ADMIN, "/v1/keys/empty").assert_problem(404);
    assert_eq!(fourth.get(ADMIN, "/v1/keys/acme").status, 200);
}

#[test]
fn the_openapi_document_describes_groups() {
    let document = Running::in_memory().get("", "/openapi.json").body;
    let schemas = &document["components"]["schemas"];
    assert!(schemas["KeyKind"].to_string().contains("\"group\""), "{}", schemas["KeyKind"]);
    for schema in ["RuleState", "Violation", "Crossing"] {
        assert!(schemas[schema]["properties"].get("group").is_some(), "{schema}");
    }
    assert!(schemas["CreateKey"]["properties"].get("beneath").is_some());
    assert!(document["paths"]["/v1/keys/{id}"].get("delete").is_some());
    let refused = &document["paths"]["/v1/keys/{id}"]["delete"]["responses"];
    assert!(refused["409"]["description"].as_str().unwrap().contains("beneath"), "{refused}");
}

/// Serves this limiter, and returns the URL.
async fn serve(limiter: Limiter) -> String {
    let address = "127.0.0.1:0".parse().unwrap();
    let models = limiter_server::Settings::default().models;
    let server = Server::embedded(limiter, address, models, Bounds::default(), []);
    let server = server.await.unwrap();
    let url = format!("http://{}", server.address().unwrap());
    tokio::spawn(server.run(std::future::pending()));
    url
}

/// The access key of `acme/search/ci`.
const CI: &str = "access-key-of-ci-7Qm2vXc94bLr";
const OTHER_ADMIN: &str = "another-admin-key-8Rn3wYd05cMs";
const OTHER_MEMBER: &str = "another-member-key-9So4xZe16dNt";
