//! Plans over HTTP: how they are managed, who may do so, and what the aiXplain SDK sees of keys that have one.

use limiter::{KeyConfig, Limiter, NewKey};
use limiter_server::{Bounds, Server};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ADMIN, Answer, MODEL, Running, call_at};

impl Running {
    fn manage(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.call(method, ADMIN, path, &body)
    }

    /// Saves the plan `free` with this many requests a day.
    fn save_free(&self, requests: u64) -> Answer {
        self.manage(
            "PUT",
            FREE,
            json!({"global": {"requests_per_day": requests}, "effective": "now"}),
        )
    }

    /// Creates a key of the plan `free` with these limits of its own.
    fn key_with_plan(&self, own: Value) -> Answer {
        let config = json!({"name": "ci", "plan": "free", "global": own});
        self.manage("PUT", "/v1/keys", json!({"id": "ci", "access_key": CI, "config": config}))
    }
}

#[test]
fn plans_are_created_read_changed_and_deleted() {
    for server in Running::on_each_store() {
        let plan = json!({
            "global": {"requests_per_day": 2, "parallel": 9}, "assets": {"gpt-5": {"tokens_per_day": 50}},
            "other": "denied", "budget": "25.00", "thresholds": [50], "time_zone": "Europe/Berlin",
        });
        let created = server.manage("PUT", FREE, plan.clone());
        assert_eq!((created.status, &created.body["version"]), (201, &json!(1)), "{created:?}");
        for (field, value) in plan.as_object().unwrap() {
            assert_eq!(created.body[field], *value, "{created:?}");
        }
        assert_eq!(
            (&created.body["name"], &created.body["workspace"]),
            (&json!("free"), &json!("default"))
        );
        let again = server.manage("PUT", FREE, plan);
        assert_eq!((again.status, &again.body), (200, &created.body));
        let read = server.get(ADMIN, FREE);
        assert_eq!((read.status, &read.body), (200, &created.body));

        // A name with a slash and one in another script.
        let path = "/v1/plans/pro%2F%C3%BC";
        let created = server.manage("PUT", path, json!({"version": 0}));
        assert_eq!((created.status, &created.body["name"]), (201, &json!("pro/ü")), "{created:?}");
        let listed = server.get(ADMIN, "/v1/plans").body;
        assert_eq!(listed, json!({"plans": [read.body, created.body]}));

        for (version, status, reason) in [(0, 409, "conflict"), (9, 409, "conflict")] {
            let refused = server.manage("PUT", path, json!({"version": version}));
            refused.assert_problem(status);
            assert_eq!(refused.body["reason"], reason);
        }
        let changed = json!({"version": 1, "global": {"requests_per_day": 1}});
        let changed = server.manage("PUT", path, changed);
        assert_eq!((changed.status, &changed.body["version"]), (200, &json!(2)), "{changed:?}");

        assert_eq!(server.manage("DELETE", path, Value::Null).status, 204);
        for (method, body) in
            [("GET", Value::Null), ("DELETE", Value::Null), ("PUT", json!({"version": 2}))]
        {
            let refused = server.manage(method, path, body);
            refused.assert_problem(404);
            assert_eq!(refused.body["reason"], "no_plan", "{method}");
        }
        for body in [
            json!({"unknown": 1}),
            json!({"global": {"requests_per_day": -1}}),
            json!({"global": [1]}),
            json!({"budget": "1", "global": {"credits_ever": "1"}}),
            json!({"effective": "soon"}),
            json!({"version": -1}),
            json!([]),
        ] {
            server.manage("PUT", FREE, body).assert_problem(400);
        }
        assert_eq!(server.get(ADMIN, FREE).body["version"], 1);
        let twice = r#"{"other": "denied", "other": "denied"}"#;
        server.call("PUT", ADMIN, FREE, twice).assert_problem(400);
        let long = format!("/v1/plans/{}", "x".repeat(129));
        server.get(ADMIN, &long).assert_problem(404);
        server.manage("PUT", &long, json!({})).assert_problem(400);
    }
}

#[test]
fn keys_have_the_limits_of_their_plan_and_a_plan_in_use_is_not_deleted() {
    for server in Running::on_each_store() {
        let refused = server.key_with_plan(json!({}));
        refused.assert_problem(422);
        assert_eq!(refused.body["reason"], "no_plan");
        assert_eq!(server.save_free(1).status, 201);
        let created = server.key_with_plan(json!({}));
        assert_eq!(
            (created.status, &created.body["key"]["plan"]),
            (201, &json!("free")),
            "{created:?}"
        );
        let in_force = &created.body["key"]["limits"][0]["in_force"];
        assert_eq!(*in_force, json!({"requests_per_day": 1}));
        for outcome in ["allowed", "denied"] {
            assert_eq!(server.post(CI, "/v1/check", &json!({})).body["outcome"], outcome);
        }
        assert_eq!(server.save_free(2).status, 200);
        // The process that has changed it learns of it at once.
        for outcome in ["allowed", "denied"] {
            assert_eq!(server.post(CI, "/v1/check", &json!({})).body["outcome"], outcome);
        }
        let refused = server.manage("DELETE", FREE, Value::Null);
        refused.assert_problem(409);
        assert_eq!(refused.body["reason"], "plan_in_use");

        let lifted =
            json!({"name": "ci", "plan": "free", "global": {"requests_per_day": "unlimited"}});
        let update = json!({"version": 1, "config": lifted, "effective": "now"});
        let updated = server.manage("PUT", "/v1/keys/ci", update);
        assert_eq!(
            (updated.status, &updated.body["global"]),
            (200, &lifted["global"]),
            "{updated:?}"
        );
        assert_eq!(updated.body["limits"], json!([]));
        assert_eq!(server.post(CI, "/v1/check", &json!({})).body["outcome"], "allowed");
        let unknown = json!({"version": 2, "config": {"name": "ci", "plan": "other"}});
        let refused = server.manage("PUT", "/v1/keys/ci", unknown);
        refused.assert_problem(422);
        assert_eq!(refused.body["reason"], "no_plan");
        let without = json!({"version": 2, "config": {"name": "ci"}, "effective": "now"});
        assert_eq!(server.manage("PUT", "/v1/keys/ci", without).status, 200);
        assert_eq!(server.manage("DELETE", FREE, Value::Null).status, 204);
    }
}

#[test]
fn a_member_reads_and_changes_no_plan() {
    for server in Running::on_each_store() {
        assert_eq!(server.save_free(9).status, 201);
        assert_eq!(server.key_with_plan(json!({})).status, 201);
        for path in [FREE, "/v1/plans/none"] {
            for (method, body) in [("GET", ""), ("PUT", "{}"), ("DELETE", "")] {
                server.call(method, CI, path, body).assert_problem(403);
                server.call(method, NOBODY, path, body).assert_problem(401);
            }
        }
        server.get(CI, "/v1/plans").assert_problem(403);
        server.get(NOBODY, "/v1/plans").assert_problem(401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_another_workspace_does_not_exist() {
    let limiter = Limiter::in_memory();
    for (workspace, access_key) in [("home", ADMIN), ("elsewhere", OTHER_ADMIN)] {
        let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
        let admin = admin.with_access_key(access_key.parse().unwrap());
        limiter.bootstrap(workspace.parse().unwrap(), admin).await.unwrap();
    }
    let url = serve(limiter).await;
    let call = |method: &str, key: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        tokio::task::block_in_place(|| call_at(&url, method, key, path, &body))
    };
    assert_eq!(call("PUT", ADMIN, FREE, json!({})).status, 201);
    for (method, body) in
        [("GET", Value::Null), ("DELETE", Value::Null), ("PUT", json!({"version": 1}))]
    {
        call(method, OTHER_ADMIN, FREE, body).assert_problem(404);
    }
    let key = json!({"config": {"name": "ci", "plan": "free"}});
    call("PUT", OTHER_ADMIN, "/v1/keys", key).assert_problem(422);
    assert_eq!(call("GET", OTHER_ADMIN, "/v1/plans", Value::Null).body, json!({"plans": []}));
    assert_eq!(call("PUT", OTHER_ADMIN, FREE, json!({})).status, 201, "it has one of its own");
    assert_eq!(call("GET", ADMIN, FREE, Value::Null).body["version"], 1);
}

#[test]
fn the_sdk_of_aixplain_sees_the_limits_in_force_and_keeps_the_plan() {
    for server in Running::on_each_store() {
        let plan = json!({
            "global": {"requests_per_day": 50, "tokens_per_minute": 100}, "budget": "9.00",
            "assets": {MODEL: {"requests_per_minute": 7}}, "effective": "now",
        });
        assert_eq!(server.manage("PUT", FREE, plan).status, 201);
        assert_eq!(server.key_with_plan(json!({"requests_per_day": 20})).status, 201);
        let path = "/sdk/api-keys/ci";
        let mut record = server.get(ADMIN, path).body;
        let limits = json!({"tpm": 100, "tpd": 0, "rpm": 0, "rpd": 20, "tokenType": null});
        assert_eq!((&record["globalLimits"], &record["budget"]), (&limits, &json!(9)), "{record}");
        assert_eq!(record["assetsLimits"][0]["rpm"], json!(7));
        let says = record["notShown"][0].as_str().unwrap();
        assert!(says.contains("the plan \"free\""), "{says}");
        let listed = server.get(ADMIN, "/sdk/api-keys").body;
        assert_eq!(listed[0], record);

        // Sent back as shown, the record changes nothing.
        let saved = server.manage("PUT", path, record.clone());
        assert_eq!((saved.status, &saved.body), (200, &record), "{saved:?}");
        assert_eq!(server.get(ADMIN, "/v1/keys/ci").body["version"], 1);

        record["globalLimits"]["rpd"] = json!(30);
        let saved = server.manage("PUT", path, record.clone());
        assert_eq!((saved.status, &saved.body["globalLimits"]), (200, &record["globalLimits"]));
        let key = server.get(ADMIN, "/v1/keys/ci").body;
        assert_eq!(key["plan"], "free");
        assert_eq!(
            (&key["global"], &key["budget"]),
            (&json!({"requests_per_day": 30}), &Value::Null)
        );

        // A later change of the plan reaches the key.
        let plan = json!({"global": {"requests_per_day": 50, "tokens_per_minute": 200}, "effective": "now"});
        assert_eq!(server.manage("PUT", FREE, plan).status, 200);
        let shown = server.get(ADMIN, path).body;
        assert_eq!(shown["globalLimits"]["tpm"], json!(200), "{shown}");
        assert_eq!((&shown["budget"], &shown["assetsLimits"]), (&Value::Null, &json!([])));
    }
}

#[test]
fn plans_are_kept_over_restarts_and_their_changes_over_kill_9() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state.json");
    let flags = ["--state", state.to_str().unwrap()];
    let mut first = Running::with(&flags);
    assert_eq!(first.save_free(9).status, 201);
    assert_eq!(first.key_with_plan(json!({})).status, 201);
    assert_eq!(first.save_free(1).status, 200);
    first.signal(Signal::SIGKILL);
    first.ended();

    let second = Running::with(&flags);
    assert_eq!(second.get(ADMIN, FREE).body["version"], 2);
    for outcome in ["allowed", "denied"] {
        assert_eq!(second.post(CI, "/v1/check", &json!({})).body["outcome"], outcome);
    }
    assert!(second.stop().success());
    let third = Running::with(&flags);
    assert_eq!(third.get(ADMIN, FREE).body["version"], 2);
    assert_eq!(third.post(CI, "/v1/check", &json!({})).body["outcome"], "denied");
    third.manage("DELETE", FREE, Value::Null).assert_problem(409);
}

#[test]
fn the_openapi_document_describes_plans() {
    let document = Running::in_memory().get("", "/openapi.json").body;
    let of_name = &document["paths"]["/v1/plans/{name}"];
    for method in ["get", "put", "delete"] {
        assert!(of_name[method]["responses"].get("404").is_some(), "{method}");
    }
    assert!(document["paths"]["/v1/plans"]["get"].is_object());
    let schemas = &document["components"]["schemas"];
    assert!(schemas["KeyConfig"]["properties"].get("plan").is_some(), "{}", schemas["KeyConfig"]);
    assert!(schemas["SavePlan"].to_string().contains("effective"), "{}", schemas["SavePlan"]);
    let of_record = &of_name["get"]["responses"]["200"]["content"]["application/json"]["schema"];
    let name = of_record["$ref"].as_str().and_then(|path| path.rsplit('/').next()).unwrap();
    assert!(schemas[name].to_string().contains("changed_at"), "{name}: {}", schemas[name]);
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

const FREE: &str = "/v1/plans/free";
/// The access key of `ci`.
const CI: &str = "access-key-of-ci-7Qm2vXc94bLr";
const OTHER_ADMIN: &str = "another-admin-key-8Rn3wYd05cMs";
const NOBODY: &str = "nobody-has-this-key-1234567890";

/// Who may use such a key has no access key: it is the embedding service that calls, and admins who read.
#[test]
fn a_group_is_open_with_a_plan_and_admins_read_what_its_keys_have_used() {
    for server in Running::on_each_store() {
        assert_eq!(server.save_free(2).status, 201);
        let group = |global: Value| {
            let config = json!({"name": "ip", "open": "free", "global": global});
            json!({"id": "ip", "kind": "group", "config": config})
        };
        let refused = server.manage("PUT", "/v1/keys", group(json!({"tokens_per_day": 9})));
        refused.assert_problem(400);
        assert!(refused.body["detail"].as_str().unwrap().contains("must limit its own requests"));
        let created = server.manage("PUT", "/v1/keys", group(json!({"requests_per_day": 9})));
        assert_eq!(
            (created.status, &created.body["key"]["open"]),
            (201, &json!("free")),
            "{created:?}"
        );
        let usage = server.get(ADMIN, "/v1/usage?key_id=ip%2F203.0.113.7");
        assert_eq!(usage.status, 200, "{usage:?}");
        assert_eq!(usage.body["scopes"][0]["rules"][0]["limit"], 2, "{usage:?}");
        let monthly = server.manage("PUT", FREE, json!({"global": {"requests_per_month": 2}}));
        monthly.assert_problem(400);
        assert_eq!(server.manage("DELETE", FREE, Value::Null).status, 409);
    }
}
