//! One key of a workspace over `/v1`: upserts, updates, resets and histories; and what the wire of the aiXplain SDK shows of it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::headers::instant;
use crate::support::{ADMIN, Answer, MODEL, Running};

impl Running {
    fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", ADMIN, path, &body.to_string())
    }

    fn outcome(&self, key: &str, body: Value) -> Value {
        let decision = self.post(key, "/v1/check", &body);
        assert_eq!(decision.status, 200, "{decision:?}");
        decision.body["outcome"].clone()
    }
}

#[test]
fn a_key_is_created_or_updated_by_its_name_and_changed_at_once_or_later() {
    for server in Running::on_each_store() {
        let with_limit =
            |limit: u64| json!({"name": "ci", "global": {"requests_per_month": limit}});
        let created = server.put("/v1/keys", &json!({"config": with_limit(9)}));
        assert_eq!((created.status, &created.body["created"]), (201, &json!(true)), "{created:?}");
        let key = created.body["access_key"].as_str().expect("it is shown once").to_owned();
        let id = created.body["key"]["id"].as_str().expect("it has one").to_owned();
        assert_eq!(server.outcome(&key, json!({})), json!("allowed"));

        let now = json!({"config": with_limit(1), "effective": "now"});
        let updated = server.put("/v1/keys", &now);
        assert_eq!((updated.status, &updated.body["created"]), (200, &json!(false)), "{updated:?}");
        assert_eq!(updated.body["key"]["version"], json!(2));
        assert_eq!(updated.body.get("access_key"), None);
        assert_eq!(server.outcome(&key, json!({})), json!("denied"));

        let path = format!("/v1/keys/{id}");
        let update = |version: u64, limit, effective: &str| {
            let body =
                json!({"version": version, "config": with_limit(limit), "effective": effective});
            server.put(&path, &body)
        };
        update(1, 5, "next").assert_problem(409);
        update(2, 5, "soon").assert_problem(400);
        assert_eq!(update(2, 5, "next").status, 200);
        assert_eq!(
            server.outcome(&key, json!({})),
            json!("denied"),
            "it holds from the next month on"
        );
        let read = server.get(ADMIN, &path).body;
        assert_eq!(read["global"], json!({"requests_per_month": 5}));
        let limits = &read["limits"][0];
        assert_eq!(
            (&limits["scope"], &limits["in_force"]),
            (&json!("global"), &json!({"requests_per_month": 1}))
        );
        assert_eq!(limits["pending"][0]["limits"], json!({"requests_per_month": 5}));
        assert_eq!(update(3, 5, "now").status, 200);
        assert_eq!(server.outcome(&key, json!({})), json!("allowed"));

        for path in ["/v1/keys/nobody", "/v1/keys/acme%2Fci"] {
            server.get(ADMIN, path).assert_problem(404);
        }
        for (method, path) in [("GET", &*path), ("PUT", &*path), ("PUT", "/v1/keys")] {
            let body = json!({"version": 4, "config": with_limit(1)});
            let body = if path == "/v1/keys" { json!({"config": with_limit(1)}) } else { body };
            server.call(method, &key, path, &body.to_string()).assert_problem(403);
        }
        let admin = json!({"config": {"name": "ci"}, "kind": "admin"});
        server.put("/v1/keys", &admin).assert_problem(422);
    }
}

#[test]
fn a_reset_frees_a_key_and_its_history_goes_on() {
    for server in Running::on_each_store() {
        let (id, key) = server.member("ci", json!({"globalLimits": {"rpd": 1}}));
        let (other, _) = server.member("other", json!({}));
        let call = json!({"charge": {"input_tokens": 2, "output_tokens": 3}});
        assert_eq!(server.outcome(&key, call.clone()), json!("allowed"));
        assert_eq!(server.outcome(&key, call.clone()), json!("denied"));
        let reset = format!("/v1/keys/{id}/reset");
        assert_eq!(server.call("POST", ADMIN, &reset, "").status, 204);
        assert_eq!(server.used_today(&key), (0, 0));
        assert_eq!(server.outcome(&key, call), json!("allowed"));

        let history = server.get(&key, "/v1/history?days=2");
        assert_eq!(history.status, 200, "{history:?}");
        let today = history.body.as_array().expect("it has days").last().expect("today").clone();
        let account =
            json!({"requests": 2, "input_tokens": 4, "output_tokens": 6, "credits": "0.00"});
        assert_eq!(today["scopes"], json!([{"scope": "global", "account": account}]));
        let of_key = server.get(ADMIN, &format!("/v1/history?key_id={id}&days=2"));
        assert_eq!(of_key.body, history.body);
        let page = server.get(ADMIN, "/v1/keys?history_days=2&name_contains=ci");
        assert_eq!(page.body["keys"][0]["id"], json!(id), "{page:?}");
        assert_eq!(page.body["history"], json!([history.body]));
        let of_all = server.get(ADMIN, "/v1/keys?history_days=2").body;
        let of_others = of_all["history"].as_array().expect("as many as keys");
        assert_eq!(of_others.len(), of_all["keys"].as_array().expect("keys").len());

        server.call("POST", &key, &reset, "").assert_problem(403);
        server.call("POST", ADMIN, "/v1/keys/nobody/reset", "").assert_problem(404);
        server.get(&key, &format!("/v1/history?key_id={other}")).assert_problem(403);
        server.get(ADMIN, "/v1/history?key_id=nobody").assert_problem(404);
        server.get(&key, "/v1/history?days=0").assert_problem(400);
        server.get(&key, "/v1/history?days=401").assert_problem(400);
        server.get(&key, "/v1/keys?history_days=2").assert_problem(403);
        server.get(ADMIN, "/v1/keys?history_days=401").assert_problem(400);
        let too_many = server.get(ADMIN, "/v1/keys?history_days=2&page_size=101");
        assert!(too_many.assert_problem(400).contains("at most 100 keys"));
    }
}

#[test]
fn an_access_key_is_rotated_with_and_without_a_grace() {
    for server in Running::on_each_store() {
        let new = json!({"config": {"name": "ci"}, "prefix": "sk-acme-"});
        let created = server.put("/v1/keys", &new);
        assert_eq!(created.status, 201, "{created:?}");
        let path =
            format!("/v1/keys/{}/rotate", created.body["key"]["id"].as_str().expect("an id"));
        let access_key = |answer: &Answer| answer.body["access_key"].as_str().map(str::to_owned);
        let first = access_key(&created).expect("it is shown once");
        let rotate = |request: Value| server.post(ADMIN, &path, &request);

        let rotated = rotate(json!({"grace_seconds": 3_600}));
        assert_eq!(rotated.status, 200, "{rotated:?}");
        let second = access_key(&rotated).expect("it is shown once");
        let key = &rotated.body["key"];
        for (shown, whole) in
            [(&key["access_key"], &second), (&key["replaced"][0]["access_key"], &first)]
        {
            let (start, end) = (&whole[..12], &whole[whole.len() - 4..]);
            assert_eq!(*shown, json!(format!("{start}****{end}")));
        }
        for access_key in [&first, &second] {
            assert_eq!(server.outcome(access_key, json!({})), json!("allowed"));
        }
        let brought = "an-access-key-of-the-caller";
        let leaked = rotate(json!({"access_key": brought}));
        assert_eq!((leaked.status, access_key(&leaked).as_deref()), (200, Some(brought)));
        assert_eq!(server.outcome(brought, json!({})), json!("allowed"));
        for access_key in [&first, &second] {
            server.post(access_key, "/v1/check", &json!({})).assert_problem(401);
        }

        rotate(json!({"access_key": brought})).assert_problem(409);
        rotate(json!({"grace_seconds": 604_801})).assert_problem(400);
        rotate(json!({"prefix": "sk acme"})).assert_problem(400);
        rotate(json!({"access_key": "an-access-key-of-mine", "prefix": "sk-"})).assert_problem(400);
        server.call("POST", brought, &path, "{}").assert_problem(403);
        server.post(ADMIN, "/v1/keys/nobody/rotate", &json!({})).assert_problem(404);
    }
}

#[test]
fn a_key_has_labels_and_times_and_a_page_shows_what_keys_have_used() {
    for server in Running::on_each_store() {
        let labels = json!({"team": "search", "tier": ""});
        let created = server.put("/v1/keys", &json!({"config": {"name": "ci", "labels": labels}}));
        let (key, access_key) = (&created.body["key"], &created.body["access_key"]);
        assert_eq!((created.status, &key["labels"]), (201, &labels), "{created:?}");
        assert_eq!(key["created_at"], key["changed_at"]);
        let path = format!("/v1/keys/{}", key["id"].as_str().expect("an id"));
        // The clock in memory is a few milliseconds late.
        std::thread::sleep(Duration::from_millis(50));
        let renamed = json!({"version": 1, "config": {"name": "renamed", "labels": labels}});
        let renamed = server.put(&path, &renamed);
        assert_eq!(renamed.body["created_at"], key["created_at"], "{renamed:?}");
        assert!(instant(&renamed.body["changed_at"]) > instant(&key["created_at"]), "{renamed:?}");
        let many: serde_json::Map<_, _> =
            (0..17).map(|number| (format!("label {number}"), json!("x"))).collect();
        let many = json!({"config": {"name": "other", "labels": many}});
        server.put("/v1/keys", &many).assert_problem(400);

        assert_eq!(
            server.outcome(access_key.as_str().expect("it is shown"), json!({})),
            json!("allowed")
        );
        let page = server.get(ADMIN, "/v1/keys?usage=true");
        let names: Vec<_> = page.body["keys"].as_array().expect("keys").iter().collect();
        let place = names.iter().position(|key| key["name"] == "renamed").expect("it is listed");
        let usage = &page.body["usage"][place];
        let alone =
            server.get(ADMIN, &format!("/v1/usage?key_id={}", key["id"].as_str().expect("an id")));
        assert_eq!(usage["scopes"], alone.body["scopes"], "{page:?}");
        assert!(server.get(ADMIN, "/v1/keys").body.get("usage").is_none());
    }
}

#[test]
fn the_wire_shows_what_it_can_of_a_key_and_counts_tokens_by_their_type() {
    for server in Running::on_each_store() {
        let config = json!({
            "name": "ci",
            "global": {"requests_per_hour": 100, "credits_per_month": "5"},
            "assets": {
                "in": {"input_tokens_per_day": 100},
                "out": {"output_tokens_per_minute": 100, "requests_per_day": 9},
                "both": {"tokens_per_day": 100, "output_tokens_per_day": 50},
                "counted": {},
            },
            "other": "denied",
            "time_zone": "Europe/Berlin",
        });
        let created = server.put("/v1/keys", &json!({"config": config}));
        assert_eq!(created.status, 201, "{created:?}");
        let key = created.body["access_key"].as_str().expect("it is shown once").to_owned();
        let id = created.body["key"]["id"].as_str().expect("it has one").to_owned();
        for asset in ["in", "out", "both", "counted"] {
            let charge = json!({"input_tokens": 2, "output_tokens": 3});
            assert_eq!(
                server.outcome(&key, json!({"asset": asset, "charge": charge})),
                json!("allowed")
            );
        }
        let denied = server.post(&key, "/v1/check", &json!({"asset": "another"}));
        assert_eq!(
            (denied.status, &denied.body["reason"]),
            (200, &json!("asset_denied")),
            "{denied:?}"
        );
        assert_eq!(server.run(&key, "Hello").assert_refused_on_the_wire(403), "Forbidden");

        let row = |requests: Value,
                   requests_limit: Value,
                   tokens: Value,
                   tokens_limit: Value,
                   asset: Value| {
            json!({
                "requestCount": requests, "requestCountLimit": requests_limit,
                "tokenCount": tokens, "tokenCountLimit": tokens_limit, "assetId": asset,
            })
        };
        let rows = server.get(&key, "/sdk/api-keys/usage-limits");
        assert_eq!(
            rows.body,
            json!([
                row(json!(4), json!(null), json!(20), json!(null), json!(null)),
                row(json!(1), json!(null), json!(5), json!(100), json!("both")),
                row(json!(1), json!(null), json!(5), json!(null), json!("counted")),
                row(json!(1), json!(null), json!(2), json!(100), json!("in")),
                row(json!(1), json!(9), json!(3), json!(null), json!("out")),
            ])
        );

        let path = format!("/sdk/api-keys/{id}");
        let record = server.get(ADMIN, &path).body;
        assert_eq!(record["globalLimits"], json!(null), "no limit of a minute or a day");
        let assets = record["assetsLimits"].as_array().expect("it is a list");
        let of = |name: &str| {
            let limits =
                assets.iter().find(|limits| limits["assetId"] == name).expect("it is listed");
            (limits["tpm"].clone(), limits["tpd"].clone(), limits["tokenType"].clone())
        };
        assert_eq!(of("in"), (json!(0), json!(100), json!("input")));
        assert_eq!(of("out"), (json!(100), json!(0), json!("output")));
        assert_eq!(of("both"), (json!(0), json!(100), json!(null)));
        assert_eq!(of("counted"), (json!(0), json!(0), json!(null)));
        assert_eq!(record["notShown"].as_array().map(Vec::len), Some(4), "{record}");

        // Sent back as it was shown, it changes nothing; and what it does not show stays.
        let configured = || {
            let mut key = server.get(ADMIN, &format!("/v1/keys/{id}")).body;
            ["global", "assets", "other", "time_zone", "version"].map(|field| key[field].take())
        };
        let before = configured();
        assert_eq!(server.put(&path, &record).status, 200);
        assert_eq!(configured(), before);
        let limits = json!({"rpm": 7, "assetId": MODEL});
        let changed = server.put(&path, &json!({"name": "ci", "assetsLimits": [limits]}));
        assert_eq!(changed.status, 200, "{changed:?}");
        let [global, assets, other, time_zone, _] = configured();
        assert_eq!([&global, &other, &time_zone], [&before[0], &before[2], &before[3]]);
        let kept =
            json!({"both": {"output_tokens_per_day": 50}, MODEL: {"requests_per_minute": 7}});
        assert_eq!(assets, kept);
    }
}
