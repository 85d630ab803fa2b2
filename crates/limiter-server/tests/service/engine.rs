//! The engine over HTTP.

use std::time::Duration;

use serde_json::json;

use crate::support::{ADMIN, MODEL, Running, room_in_this_minute};

#[test]
fn a_check_is_decided_and_charged_and_a_denial_is_an_answer() {
    for server in Running::on_each_store() {
        let limits =
            json!({"globalLimits": {"rpd": 2}, "assetsLimits": [{"tpd": 50, "assetId": MODEL}]});
        let (_, key) = server.member("service", limits);
        let call = json!({"asset": MODEL, "charge": {"input_tokens": 12, "output_tokens": 30}});
        let allowed = server.post(&key, "/v1/check", &call);
        assert_eq!(
            (allowed.status, &allowed.body["outcome"]),
            (200, &json!("allowed")),
            "{allowed:?}"
        );
        assert_eq!(allowed.body["rules"][1]["remaining"], json!(8));

        let denied = server.post(&key, "/v1/check", &call);
        assert_eq!((denied.status, &denied.body["outcome"]), (200, &json!("denied")), "{denied:?}");
        assert_eq!(denied.body["violated"][0]["rule"], json!("asset/day/tokens"));
        assert!(denied.header("retry-after").is_some());
        assert!(
            denied.body["message"].as_str().is_some_and(|message| message.contains("42 of 50"))
        );
        assert_eq!(server.used_today(&key), (1, 42), "a denial is free");
    }
}

#[test]
fn a_check_that_is_repeated_under_its_id_is_charged_once() {
    for server in Running::on_each_store() {
        let (_, key) = server.member("service", json!({"globalLimits": {"rpd": 5}}));
        let call = json!({"request_id": "first"});
        assert_eq!(server.post(&key, "/v1/check", &call).body["replayed"], json!(false));
        assert_eq!(server.post(&key, "/v1/check", &call).body["replayed"], json!(true));
        assert_eq!(server.used_today(&key).0, 1);
    }
}

#[test]
fn a_peek_is_answered_as_a_check_and_charges_nothing() {
    for server in Running::on_each_store() {
        let limits =
            json!({"globalLimits": {"rpd": 2}, "assetsLimits": [{"tpd": 50, "assetId": MODEL}]});
        let (_, key) = server.member("service", limits);
        let call = |output: u64| json!({"asset": MODEL, "charge": {"output_tokens": output}});
        for _ in 0..3 {
            let peeked = server.post(&key, "/v1/peek", &call(50));
            assert_eq!((peeked.status, &peeked.body["outcome"]), (200, &json!("allowed")));
            assert!(peeked.header("ratelimit").is_some(), "{peeked:?}");
            let denied = server.post(&key, "/v1/peek", &call(51));
            assert_eq!((denied.status, &denied.body["outcome"]), (200, &json!("denied")));
            assert_eq!(denied.body["violated"][0]["rule"], json!("asset/day/tokens"));
            let message = denied.body["message"].as_str().expect("a denial explains itself");
            assert!(message.contains("at most 50 tokens per day are allowed"), "{message}");
        }
        assert_eq!(server.used_today(&key), (0, 0));
        assert_eq!(server.post(&key, "/v1/check", &call(50)).body["outcome"], json!("allowed"));
        let used = server.post(&key, "/v1/peek", &json!({"asset": MODEL}));
        assert_eq!(used.body["outcome"], json!("denied"), "no token is left: {used:?}");
        server.post(ADMIN, "/v1/peek", &json!({})).assert_problem(403);
        server.post("nobody-has-this-key-1234567890", "/v1/peek", &json!({})).assert_problem(401);
    }
}

/// An admin limits a model by its path. Services call it by path or by id, and both share the limit.
#[test]
fn the_path_of_a_model_is_its_id() {
    let path = "openai/gpt-4o-mini/openai";
    for server in Running::on_each_store() {
        let limits = json!({"assetsLimits": [{"rpd": 3, "assetId": path}]});
        let (_, key) = server.member("service", limits);
        let outcome = |at: &str, asset: &str| {
            let answer = server.post(&key, at, &json!({ "asset": asset })).body;
            let decision = if at == "/v1/reserve" { &answer["decision"] } else { &answer };
            decision["outcome"].as_str().expect("it is decided").to_owned()
        };
        assert_eq!(outcome("/v1/check", path), "allowed");
        assert_eq!(outcome("/v1/reserve", path), "allowed");
        assert_eq!(outcome("/v1/peek", path), "allowed");
        assert_eq!(outcome("/v1/check", MODEL), "allowed");
        for at in ["/v1/check", "/v1/peek", "/v1/reserve"] {
            assert_eq!((outcome(at, path), outcome(at, MODEL)), ("denied".into(), "denied".into()));
        }
        server.run(&key, "Hello").assert_refused_on_the_wire(429);
        assert_eq!(outcome("/v1/check", "no model, but a name of ours"), "allowed");
    }
}

#[test]
fn an_insufficient_budget_is_a_denial() {
    let server = Running::in_memory();
    let (_, key) = server.member("service", json!({"budget": 0.01}));
    let denied = server.post(&key, "/v1/check", &json!({"charge": {"credits": "0.010001"}}));
    assert_eq!(
        (denied.status, &denied.body["reason"]),
        (200, &json!("budget_exhausted")),
        "{denied:?}"
    );
    assert_eq!(denied.body["binding"], json!("global/ever/credits"));
    let budget = json!({"rule": "global/ever/credits", "limit": 10_000, "used": 0, "remaining": 10_000, "resets_at": null});
    assert_eq!(denied.body["rules"], json!([budget]));
}

#[test]
fn a_reservation_is_amended_and_settled_by_its_own_key_alone() {
    for server in Running::on_each_store() {
        room_in_this_minute(Duration::from_secs(5));
        let (_, key) =
            server.member("service", json!({"globalLimits": {"tpm": 100, "tpd": 1_000}}));
        let (_, other) = server.member("other", json!({"globalLimits": {"tpm": 100}}));
        let estimate = json!({"asset": "gpt", "estimate": {"input_tokens": 10, "output_tokens": 50}, "request_id": "r1"});
        let reserved = server.post(&key, "/v1/reserve", &estimate);
        assert_eq!(reserved.body["reservation"], json!("r1"), "{reserved:?}");
        assert_eq!(server.used_today(&key), (1, 60));
        assert_eq!(
            server.post(&key, "/v1/reserve", &estimate).body["decision"]["replayed"],
            json!(true)
        );

        let path = |what: &str| format!("/v1/reservations/r1/{what}");
        server.post(&other, &path("settle"), &json!({})).assert_problem(404);
        let amend = |output| server.post(&key, &path("amend"), &json!({"output_tokens": output}));
        for (output, outcome, used) in
            [(80, "allowed", 90), (100, "denied", 90), (1, "allowed", 11), (80, "allowed", 90)]
        {
            let amended = amend(output);
            let told = (amended.status, &amended.body["outcome"]);
            assert_eq!(told, (200, &json!(outcome)), "{amended:?}");
            assert_eq!(server.used_today(&key), (1, used));
        }

        for outcome in ["first", "repeated"] {
            let settled = server.post(&key, &path("settle"), &json!({"output_tokens": 7}));
            assert_eq!(settled.status, 200, "{settled:?}");
            let charge =
                json!({"requests": 1, "input_tokens": 10, "output_tokens": 7, "credits": "0.00"});
            assert_eq!(settled.body["charge"], charge);
            let as_what = (&settled.body["asset"], &settled.body["outcome"]);
            assert_eq!(as_what, (&json!("gpt"), &json!(outcome)), "{settled:?}");
        }
        assert_eq!(server.used_today(&key), (1, 17));
        server.post(&key, &path("settle"), &json!({"output_tokens": 8})).assert_problem(409);
        server.call("POST", &key, &path("cancel"), "").assert_problem(409);
    }
}

#[test]
fn a_cancelled_reservation_costs_nothing() {
    for server in Running::on_each_store() {
        let (_, key) = server.member("service", json!({"globalLimits": {"rpd": 1}}));
        let reserved = server.post(&key, "/v1/reserve", &json!({}));
        let id = reserved.body["reservation"].as_str().expect("it has an id of its own").to_owned();
        let denied = server.post(&key, "/v1/reserve", &json!({}));
        assert_eq!((denied.status, &denied.body["reservation"]), (200, &json!(null)), "{denied:?}");
        let path = format!("/v1/reservations/{id}/cancel");
        let cancelled = server.call("POST", &key, &path, "");
        assert_eq!((cancelled.status, &cancelled.body["outcome"]), (200, &json!("first")));
        let nothing =
            json!({"requests": 0, "input_tokens": 0, "output_tokens": 0, "credits": "0.00"});
        assert_eq!(cancelled.body["charge"], nothing, "{cancelled:?}");
        assert_eq!(server.used_today(&key), (0, 0));
    }
}

#[test]
fn usage_is_read_by_its_key_and_by_admins() {
    for server in Running::on_each_store() {
        let (id, key) = server.member("service", json!({"globalLimits": {"rpd": 5}}));
        let (other, _) = server.member("other", json!({}));
        let own = server.get(&key, "/v1/usage");
        assert_eq!(own.status, 200, "{own:?}");
        let of_key = server.get(ADMIN, &format!("/v1/usage?key_id={id}"));
        for part in ["scopes", "credits"] {
            assert_eq!(of_key.body[part], own.body[part]);
        }
        server.get(&key, &format!("/v1/usage?key_id={other}")).assert_problem(403);
        server.get(ADMIN, "/v1/usage?key_id=nobody").assert_problem(404);
        server.get(ADMIN, "/v1/usage?key_id=").assert_problem(400);
        server.get("nobody-has-this-key-1234567890", "/v1/usage").assert_problem(401);
    }
}

#[test]
fn an_admin_key_makes_no_calls() {
    for server in Running::on_each_store() {
        server.post(ADMIN, "/v1/check", &json!({})).assert_problem(403);
    }
}

#[test]
fn what_is_wrong_with_a_request_is_a_problem() {
    let server = Running::in_memory();
    let (_, key) = server.member("service", json!({"globalLimits": {"rpd": 100}}));
    for body in [
        "",
        "{",
        "[1]",
        r#"{"asset":""}"#,
        r#"{"asset":5}"#,
        r#"{"charge":{"input_tokens":-1}}"#,
        r#"{"charge":{"input_tokens":9007199254740992}}"#,
        r#"{"charge":{"tokens":1}}"#,
        r#"{"request_id":""}"#,
        r#"{"x":1}"#,
        r#"["gpt",[5,1,1,1],"id"]"#,
        r#"{"charge":[5,1,1,1]}"#,
        r#"{"charge":{"requests":1,"requests":2}}"#,
        r#"{"asset":"a","asset":"b"}"#,
    ] {
        let refused = server.call("POST", &key, "/v1/check", body);
        assert!(!refused.assert_problem(400).is_empty(), "{body}");
    }
    for (path, body) in [
        ("/v1/peek", r#"{"request_id":"r"}"#),
        ("/v1/peek", r#"{"charge":[5,1,1,1]}"#),
        ("/v1/reserve", r#"{"estimate":[5,1,1,1]}"#),
        ("/v1/reserve", r#"{"estimat":{}}"#),
        ("/v1/reservations/r/settle", "[1,2,3]"),
        ("/v1/reservations/r/amend", "[1,2,3]"),
        ("/v1/reservations/r/settle", r#"{"request":1}"#),
    ] {
        let refused = server.call("POST", &key, path, body);
        assert!(!refused.assert_problem(400).is_empty(), "{path} {body}");
    }
    server.get(ADMIN, "/v1/usage?keyid=x").assert_problem(400);
    assert_eq!(server.used_today(&key), (0, 0), "nothing of this was charged");
    let long = json!({"asset": "x".repeat(257)});
    assert!(server.post(&key, "/v1/check", &long).assert_problem(400).contains("257"));
    server.post(&key, "/v1/reserve", &json!({"ttl_seconds": 0})).assert_problem(400);
    server.post(&key, "/v1/check", &json!({"asset": "x".repeat(2 << 20)})).assert_problem(413);
    server.get(&key, "/v1/nowhere").assert_problem(404);
    server.get(&key, "/v1/check").assert_problem(405);
    server.post("", "/v1/check", &json!({})).assert_problem(401);
}

#[test]
fn each_status_has_its_problem_and_its_reason() {
    for server in Running::on_each_store() {
        let (_, key) = server.member("service", json!({}));
        let (_, expired) = server.member("expired", json!({"expiresAt": "2020-01-01T00:00:00Z"}));
        let nobody = "nobody-has-this-key-1234567890";
        let reserve = |id: &str| server.post(&key, "/v1/reserve", &json!({"request_id": id}));
        assert_eq!(reserve("r1").status, 200);
        let other = json!({"request_id": "r1", "estimate": {"output_tokens": 1}});
        let long = json!({"asset": "x".repeat(2 << 20)});
        for (answer, status, reason) in [
            (server.post(&key, "/v1/check", &json!([])), 400, "malformed"),
            (server.post("", "/v1/check", &json!({})), 401, "key_unknown"),
            (server.post(nobody, "/v1/check", &json!({})), 401, "key_unknown"),
            // The body of an unknown caller is not read.
            (server.call("POST", nobody, "/v1/check", "no JSON"), 401, "key_unknown"),
            (server.post(&expired, "/v1/check", &json!({})), 401, "key_expired"),
            (server.post(ADMIN, "/v1/reserve", &json!({})), 403, "admin_key"),
            (server.post(&key, "/v1/reservations/r2/settle", &json!({})), 404, "not_found"),
            (server.get(&key, "/v1/check"), 405, "method"),
            (server.post(&key, "/v1/reserve", &other), 409, "conflict"),
            (server.post(&key, "/v1/check", &long), 413, "too_large"),
        ] {
            let detail = answer.assert_problem(status);
            assert!(detail.len() > 20, "a sentence is expected: {answer:?}");
            assert_eq!(answer.body["reason"], json!(reason), "{answer:?}");
            let asks_for_a_key = answer.header("www-authenticate") == Some("Bearer, Token");
            assert_eq!(asks_for_a_key, status == 401, "{answer:?}");
            // An SDK would retry a 409 automatically.
            assert_eq!(answer.header("x-should-retry"), Some("false"), "{answer:?}");
        }
    }
}

#[test]
fn health_and_figures_are_there_and_unknown_keys_are_counted() {
    for server in Running::on_each_store() {
        assert_eq!(server.get("", "/healthz").text, "ok\n");
        assert_eq!(server.get("", "/readyz").status, 200);
        let (id, key) = server.member("service", json!({}));
        server.post(&key, "/v1/check", &json!({"asset": "a-secret-project"}));
        server.post("nobody-has-this-key-1234567890", "/v1/check", &json!({}));
        let figures = server.get("", "/metrics").text;
        for line in [
            "limiter_requests_total{route=\"/v1/check\",status=\"200\"} 1",
            "limiter_decisions_total{operation=\"check_and_consume\",outcome=\"allowed\",degraded=\"false\"} 1",
            "limiter_unknown_keys_total 1",
        ] {
            assert!(figures.contains(line), "{line} is not in\n{figures}");
        }
        for hidden in [id.as_str(), &key, "a-secret-project"] {
            assert!(!figures.contains(hidden), "{hidden} is in\n{figures}");
        }
    }
}

#[test]
fn on_redis_the_calls_of_the_store_are_timed_and_its_batches_counted() {
    let server = Running::on_redis();
    let (_, key) = server.member("service", json!({}));
    server.post(&key, "/v1/check", &json!({}));
    let figures = server.get("", "/metrics").text;
    for line in [
        "limiter_store_duration_seconds_bucket{operation=\"check_and_consume\",le=\"+Inf\"} 1",
        "limiter_store_duration_seconds_count{operation=\"check_and_consume\"} 1",
        "limiter_redis_batch_calls_bucket{le=\"1\"} 1",
        "limiter_redis_batch_calls_sum 1",
    ] {
        assert!(figures.contains(line), "{line} is not in\n{figures}");
    }
}

#[test]
fn many_keys_are_created_in_one_request_each_with_its_own_status() {
    for server in Running::on_each_store() {
        let (taken, member) = server.member("taken", json!({}));
        let keys = json!({"keys": [
            {"config": {"name": "a", "global": {"requests_per_day": 1}}},
            {"config": {"name": "taken"}},
            {"kind": "admin", "config": {"name": "b"}, "access_key": "brought-by-its-caller-1234"},
            {"config": {"name": "c"}, "id": taken},
            {"config": {"name": "d"}, "id": "chosen", "without_access_key": true},
            {"config": {"name": "a"}},
        ]});
        let answer = server.post(ADMIN, "/v1/keys", &keys);
        assert_eq!(answer.status, 200, "{answer:?}");
        let results = answer.body["results"].as_array().expect("one for each key").clone();
        let outcomes: Vec<_> = results
            .iter()
            .map(|result| (result["status"].as_u64().unwrap(), result["reason"].as_str()))
            .collect();
        let (name, other) = ((422, Some("name_taken")), (409, Some("conflict")));
        assert_eq!(outcomes, [(201, None), name, (201, None), other, (201, None), name]);
        assert!(results[1]["detail"].as_str().unwrap().contains("taken"));
        assert_eq!(results[4]["key"]["id"], json!("chosen"));
        assert_eq!(results[4].get("access_key"), None);

        let drawn = results[0]["access_key"].as_str().expect("it is shown once");
        let check = |key: &str| server.post(key, "/v1/check", &json!({})).body["outcome"].clone();
        assert_eq!((check(drawn), check(drawn)), (json!("allowed"), json!("denied")));

        // The new admin lists all of them, and no access key is shown again.
        let page = server.get("brought-by-its-caller-1234", "/v1/keys?page_size=2&name_contains=");
        let names = |page: &crate::support::Answer| {
            let keys = page.body["keys"].as_array().expect("it is a page").clone();
            keys.iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            (names(&page), &page.body["next"]),
            (vec!["a".into(), "admin".into()], &json!("admin"))
        );
        let rest = server.get(ADMIN, "/v1/keys?after=admin");
        assert_eq!(names(&rest), ["b", "d", "taken"], "{rest:?}");
        assert!(rest.body["next"].is_null(), "{rest:?}");
        assert!(!page.text.contains(drawn) && !page.text.contains("brought-by"), "{page:?}");

        for refused in [
            json!({"keys": [{"config": {"name": "e"}, "access_key": "too short"}]}),
            json!({"keys": [{"config": {"name": "e"}}, {"config": {"name": ""}}]}),
            json!({"keys": [{"config": {"name": "e"}, "kind": "owner"}]}),
            json!({"keys": vec![json!({"config": {"name": "e"}}); 1_001]}),
            json!({"keys": [{
                "config": {"name": "e"}, "access_key": "long-enough-for-a-key", "without_access_key": true
            }]}),
        ] {
            server.post(ADMIN, "/v1/keys", &refused).assert_problem(400);
        }
        server.post(&member, "/v1/keys", &json!({"keys": []})).assert_problem(403);
        server.get(&member, "/v1/keys").assert_problem(403);
        server.post("nobody-has-this-key-1234567890", "/v1/keys", &keys).assert_problem(401);
        assert!(!names(&server.get(ADMIN, "/v1/keys")).contains(&"e".to_owned()));
    }
}
