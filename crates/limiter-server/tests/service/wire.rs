//! Each status of the wire, and the errors that the SDK reads.

use std::thread;

use serde_json::{Value, json};

use crate::support::{ADMIN, MODEL, PATIENCE, Running, room_in_this_minute};

#[test]
fn a_key_is_created_read_listed_replaced_and_deleted() {
    for server in Running::on_each_store() {
        let request = json!({
            "id": "", "name": "member", "budget": 5.5, "expiresAt": "2030-01-01T00:00:00Z",
            "globalLimits": {"tpm": 100, "tpd": 1000, "rpm": 100, "rpd": 1000, "tokenType": null},
            "assetsLimits": [{"tpm": 10, "tpd": 30, "rpm": 2, "rpd": 2, "tokenType": "output", "assetId": MODEL}],
        });
        let created = server.post(ADMIN, "/sdk/api-keys", &request);
        assert_eq!(created.status, 201, "{created:?}");
        let access_key = created.body["accessKey"].as_str().unwrap();
        let path = format!("/sdk/api-keys/{}", created.body["id"].as_str().unwrap());

        let mut expected = created.body.clone();
        expected["accessKey"] =
            json!(format!("{}****{}", &access_key[..4], &access_key[access_key.len() - 4..]));
        assert_eq!(expected["expiresAt"], json!("2030-01-01T00:00:00.000000Z"));
        assert_eq!(expected["budget"], json!(5.5));
        assert_eq!(expected["assetsLimits"], request["assetsLimits"]);
        assert_eq!(server.get(ADMIN, &path).body, expected);
        let list = server.call("GET", ADMIN, "/sdk/api-keys", "{}").body;
        assert_eq!(list[0], expected, "members come first");
        assert_eq!(list[1]["isAdmin"], json!(true));

        let replaced = server.call("PUT", ADMIN, &path, r#"{"name":"renamed"}"#);
        assert_eq!(replaced.status, 200);
        for (field, cleared) in
            [("budget", Value::Null), ("expiresAt", Value::Null), ("globalLimits", Value::Null)]
        {
            assert_eq!(replaced.body[field], cleared, "{field}");
        }
        assert_eq!(replaced.body["assetsLimits"], json!([]));
        assert_eq!(server.call("DELETE", ADMIN, &path, "").status, 200);
        server.get(ADMIN, &path).assert_refused_on_the_wire(404);
        server.get(access_key, "/sdk/api-keys/usage-limits").assert_refused_on_the_wire(401);
    }
}

#[test]
fn unauthorized_calls_get_401_or_403() {
    for server in Running::on_each_store() {
        let (id, member) = server.member("member", json!({}));
        let (_, expired) = server.member("expired", json!({"expiresAt": "2020-01-01T00:00:00Z"}));
        for key in ["", "short", "nobody-has-this-key-1234567890", &expired] {
            for path in ["/sdk/api-keys", "/sdk/api-keys/usage-limits", "/v2/models/x"] {
                server.get(key, path).assert_refused_on_the_wire(401);
            }
            server.run(key, "Hello").assert_refused_on_the_wire(401);
        }
        let path = format!("/sdk/api-keys/{id}");
        for answer in [
            server.get(&member, "/sdk/api-keys"),
            server.get(&member, &path),
            server.post(&member, "/sdk/api-keys", &json!({"name": "mine"})),
            server.call("PUT", &member, &path, r#"{"name":"mine"}"#),
            server.call("DELETE", &member, &path, ""),
            server.run(ADMIN, "Hello"),
        ] {
            assert_eq!(answer.assert_refused_on_the_wire(403), "Forbidden");
        }
        assert_eq!(server.get(&member, &format!("{path}/usage-limits")).status, 200, "its own");
    }
}

#[test]
fn denials_name_the_window_of_their_limit() {
    for server in Running::on_each_store() {
        room_in_this_minute(PATIENCE / 5);
        let (_, by_minute) = server.member("minute", json!({"globalLimits": {"rpm": 1}}));
        let (_, by_day) =
            server.member("day", json!({"assetsLimits": [{"tpd": 4, "assetId": MODEL}]}));
        let (_, by_budget) = server.member("budget", json!({"budget": 0.0001}));
        for (key, status, named) in
            [(by_minute, 497, "rpm"), (by_day, 429, "tpd"), (by_budget, 429, "Budget exceeded")]
        {
            let allowed = server.run(&key, "two words");
            assert_eq!(allowed.status, 200, "{allowed:?}");
            assert_eq!(allowed.body["usedCredits"], json!(0.0001));
            let denied = server.run(&key, "two words");
            assert!(denied.assert_refused_on_the_wire(status).contains(named), "{denied:?}");
            assert_eq!(denied.header("retry-after").is_some(), named != "Budget exceeded");
            denied.assert_retry_is_bounded();
            assert_eq!(
                server.get(&key, "/sdk/api-keys/usage-limits").status,
                200,
                "no GET is ever limited"
            );
        }
    }
}

#[test]
fn what_cannot_be_read_is_400_with_a_sentence_and_422_is_for_names_alone() {
    let server = Running::in_memory();
    let (id, member) = server.member("member", json!({}));
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"name":5}"#,
        r#"{"name":""}"#,
        r#"{"budget":1}"#,
        r#"{"name":"a","budget":-1}"#,
        r#"{"name":"a","budget":"5"}"#,
        r#"{"name":"a","expiresAt":"soon"}"#,
        r#"{"name":"a","globalLimits":{"rpm":-1}}"#,
        r#"{"name":"a","globalLimits":{"rpm":1.5}}"#,
        r#"{"name":"a","globalLimits":{"tpm":9007199254740992}}"#,
        r#"{"name":"a","globalLimits":{"tokenType":"x"}}"#,
        r#"{"name":"a","assetsLimits":[{"rpm":1}]}"#,
        r#"{"name":"a","assetsLimits":{}}"#,
        "\u{0}",
    ] {
        for (method, path) in
            [("POST", "/sdk/api-keys".to_owned()), ("PUT", format!("/sdk/api-keys/{id}"))]
        {
            let refused = server.call(method, ADMIN, &path, body);
            assert!(!refused.assert_refused_on_the_wire(400).is_empty(), "{body}");
        }
    }
    for body in ["", "{", "[]", "{}", r#"{"text":null}"#] {
        let refused = server.call("POST", &member, &format!("/api/v2/execute/{MODEL}"), body);
        refused.assert_refused_on_the_wire(400);
    }
    server.post(ADMIN, "/sdk/api-keys", &json!({"name": "member"})).assert_refused_on_the_wire(422);
    server.get(ADMIN, "/sdk/api-keys/%FF").assert_refused_on_the_wire(400);
    server.get(ADMIN, "/nowhere").assert_refused_on_the_wire(404);
    server.call("PATCH", ADMIN, "/sdk/api-keys", "{}").assert_refused_on_the_wire(405);
    server.run(&member, &"x".repeat(2 << 20)).assert_refused_on_the_wire(413);
}

#[test]
fn a_model_is_found_by_its_id_and_by_its_path_as_one_segment() {
    let server = Running::in_memory();
    for path in [
        "/v2/models/openai%2Fgpt-5%2Fopenai",
        "/v2/models/6895d6d1d50c89537c1cf237",
        "/sdk/models/6895d6d1d50c89537c1cf237",
    ] {
        let model = server.get(ADMIN, path);
        assert_eq!(model.status, 200, "{model:?}");
        assert_eq!(model.body["path"], json!("openai/gpt-5/openai"));
        assert_eq!(model.body["connectionType"], json!(["synchronous"]));
    }
    server.get(ADMIN, "/v2/models/nothing").assert_refused_on_the_wire(404);
    server.get(ADMIN, "/v2/models/openai/gpt-5/openai").assert_refused_on_the_wire(404);
    let (_, member) = server.member("member", json!({}));
    for path in
        ["/api/v2/execute/openai%2Fgpt-5.1%2Fopenai", "/api/v1/execute/669a63646eb56306647e1091"]
    {
        assert_eq!(
            server.post(&member, path, &json!({"data": "Hello"})).body["status"],
            json!("SUCCESS")
        );
    }
}

#[test]
fn both_headers_name_the_caller() {
    let server = Running::in_memory();
    let call = |header: &str, value: &str| {
        ureq::get(format!("{}/sdk/api-keys", server.url))
            .header(header, value)
            .call()
            .map(|answer| answer.status().as_u16())
    };
    assert_eq!(call("x-api-key", ADMIN).unwrap(), 200);
    assert_eq!(call("authorization", &format!("Token {ADMIN}")).unwrap(), 200);
    assert_eq!(call("authorization", &format!("Bearer {ADMIN}")).unwrap(), 200);
    assert!(call("authorization", &format!("Basic {ADMIN}")).is_err());
}

#[test]
fn saves_at_once_lose_nothing_but_their_race() {
    let server = &Running::on_redis();
    let (id, _) = server.member("member", json!({}));
    thread::scope(|scope| {
        for number in 1..=4 {
            let path = format!("/sdk/api-keys/{id}");
            scope.spawn(move || {
                let body =
                    json!({"name": "member", "globalLimits": {"rpm": number}, "budget": number})
                        .to_string();
                let saved = server.call("PUT", ADMIN, &path, &body);
                assert!([200, 409].contains(&saved.status), "{saved:?}");
            });
        }
    });
    let record = server.get(ADMIN, &format!("/sdk/api-keys/{id}")).body;
    assert_eq!(
        record["budget"], record["globalLimits"]["rpm"],
        "one of them, as a whole: {record}"
    );
}

#[test]
fn the_list_has_all_keys_of_many() {
    let server = Running::in_memory();
    let names: Vec<String> = (0..1_050).map(|number| format!("key-{number:04}")).collect();
    for name in &names {
        server.member(name, json!({}));
    }
    let list = server.get(ADMIN, "/sdk/api-keys").body;
    let listed: Vec<&str> =
        list.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(listed[..names.len()], names);
    assert_eq!(listed[names.len()..], ["admin"]);
}

#[test]
fn a_field_that_nobody_reads_is_refused_and_named() {
    let server = Running::in_memory();
    let (id, _) = server.member("member", json!({}));
    for (body, named) in [
        (r#"{"name":"a","globalLimits":{"rps":3}}"#, ["rps", "rpm"]),
        (r#"{"name":"a","assetsLimits":[{"rpm":3,"asset":"x"}]}"#, ["asset", "assetId"]),
        (r#"{"name":"a","assetLimits":[]}"#, ["assetLimits", "assetsLimits"]),
        (r#"{"name":"a","globalLimits":{"rpm":3,"assetId":"x"}}"#, ["assetId", "assetsLimits"]),
        (r#"{"name":"a","globalLimits":{"rpm":3,"rpm":0}}"#, ["duplicate", "rpm"]),
        (r#"{"name":"a","name":"b"}"#, ["duplicate", "name"]),
        (r#"{"name":"a","globalLimits":[1,2,3,4,null,null]}"#, ["sequence", "an object"]),
        (r#"{"name":"a","assetsLimits":[[1,2,3,4,null,"x"]]}"#, ["sequence", "an object"]),
        (r#"["a"]"#, ["sequence", "an object"]),
        ("{\"name\":\"ci\\u202enimda\"}", ["U+202E", "name"]),
        ("{\"name\":\"ci\\u0000\"}", ["U+0000", "name"]),
        ("{\"name\":\"ci\\u0085\"}", ["U+0085", "name"]),
    ] {
        for (method, path) in
            [("POST", "/sdk/api-keys".to_owned()), ("PUT", format!("/sdk/api-keys/{id}"))]
        {
            let refused = server.call(method, ADMIN, &path, body);
            let message = refused.assert_refused_on_the_wire(400);
            assert!(named.iter().all(|word| message.contains(word)), "{body}: {message}");
        }
    }
    // Requests of both versions of the SDK, and a record sent back as it was read.
    let record = server.get(ADMIN, &format!("/sdk/api-keys/{id}")).body.to_string();
    for body in [
        r#"{"id":"","name":"member","budget":null,"assetsLimits":[],"expiresAt":null}"#,
        r#"{"id":"x","name":"member","budget":5.0,"expiresAt":"","globalLimits":null,"assetsLimits":[]}"#,
        &record,
    ] {
        assert_eq!(server.call("PUT", ADMIN, &format!("/sdk/api-keys/{id}"), body).status, 200);
    }
    let other_kind = record.replace("\"isAdmin\":false", "\"isAdmin\":true");
    let refused = server.call("PUT", ADMIN, &format!("/sdk/api-keys/{id}"), &other_kind);
    assert!(refused.assert_refused_on_the_wire(400).contains("isAdmin"), "{refused:?}");
    assert_eq!(server.get(ADMIN, "/sdk/api-keys").body.as_array().map(Vec::len), Some(2));
}

#[test]
fn a_limit_of_no_model_is_refused() {
    for server in Running::on_each_store() {
        let (id, _) = server.member("member", json!({}));
        let body = json!({"name": "other", "assetsLimits": [{"rpm": 1, "assetId": "p/echo"}]});
        let created = server.post(ADMIN, "/sdk/api-keys", &body);
        assert!(created.assert_refused_on_the_wire(400).contains("unknown model \"p/echo\""));
        let path = format!("/sdk/api-keys/{id}");
        let updated = server.call("PUT", ADMIN, &path, &body.to_string());
        assert!(updated.assert_refused_on_the_wire(400).contains("unknown model \"p/echo\""));
        assert_eq!(server.get(ADMIN, &path).body["name"], json!("member"));
        assert_eq!(server.get(ADMIN, "/sdk/api-keys").body.as_array().map(Vec::len), Some(2));
    }
}

#[test]
fn a_token_type_of_the_total_is_null() {
    for server in Running::on_each_store() {
        let limits = json!([null, "total", "input", "output"]).as_array().unwrap().clone();
        for (number, said) in limits.iter().enumerate() {
            let limits = json!({"tpm": 5, "tokenType": said});
            let mut of_model = limits.clone();
            of_model["assetId"] = json!(MODEL);
            let name = format!("member {number}");
            let key = json!({"name": name, "globalLimits": limits, "assetsLimits": [of_model]});
            let created = server.post(ADMIN, "/sdk/api-keys", &key);
            let shown = if *said == json!("total") { &Value::Null } else { said };
            let path = format!("/sdk/api-keys/{}", created.body["id"].as_str().unwrap());
            for record in [created.body, server.get(ADMIN, &path).body] {
                assert_eq!(&record["globalLimits"]["tokenType"], shown, "{record}");
                assert_eq!(&record["assetsLimits"][0]["tokenType"], shown, "{record}");
            }
        }
    }
}

#[test]
fn a_date_that_cannot_be_shown_is_refused_before_anything_is_stored() {
    for server in Running::on_each_store() {
        let (id, _) = server.member("member", json!({"expiresAt": "9999-12-31T23:59:59.999Z"}));
        let path = format!("/sdk/api-keys/{id}");
        let before = server.get(ADMIN, &path).body;
        assert_eq!(before["expiresAt"], json!("9999-12-31T23:59:59.999000Z"));
        for date in [
            "+12000-01-01T00:00:00",
            "-0001-01-01T00:00:00",
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59-00:01",
        ] {
            let body = json!({"name": "oops", "expiresAt": date});
            let created = server.post(ADMIN, "/sdk/api-keys", &body);
            assert!(created.assert_refused_on_the_wire(400).contains("1970 to 9999"), "{date}");
            let updated = server.call("PUT", ADMIN, &path, &body.to_string());
            assert!(updated.assert_refused_on_the_wire(400).contains("1970 to 9999"), "{date}");
        }
        assert_eq!(server.get(ADMIN, &path).body, before);
        let list = server.get(ADMIN, "/sdk/api-keys");
        assert_eq!((list.status, list.body.as_array().map(Vec::len)), (200, Some(2)), "{list:?}");
        server.member("past", json!({"expiresAt": "1970-01-01T00:00:00Z"}));
    }
}
