//! Access keys are shown once, to who creates them, and nowhere else.

use serde_json::json;

use crate::support::{ADMIN, Running, found_in};

#[test]
fn no_log_and_no_figure_has_an_access_key() {
    let guessed = "guessed-key-Zx81PqLm55TtRr02";
    for flags in [vec!["--log", "trace"], vec!["--log", "trace", "--log-json"]] {
        let server = Running::with(&flags);
        let (id, key) = server.member("member", json!({"globalLimits": {"rpd": 2}}));
        for _ in 0..3 {
            server.run(&key, "Hello");
            server.post(&key, "/v1/check", &json!({}));
        }
        for secret in [&key, guessed, ADMIN] {
            // Where it belongs, and where somebody puts it by mistake.
            server.get(secret, "/sdk/api-keys");
            server.get(ADMIN, &format!("/sdk/api-keys/{secret}"));
            server.get(secret, &format!("/v1/usage?key_id={secret}"));
            server.get("", &format!("/nowhere/{secret}?{secret}={secret}"));
            server.call("POST", ADMIN, "/sdk/api-keys", &format!("{{\"name\": {secret}"));
            server.post(secret, "/v1/check", &json!({"asset": 5}));
        }
        server.call("DELETE", ADMIN, &format!("/sdk/api-keys/{id}"), "");
        let figures = server.get("", "/metrics").text;
        let output = format!("{}{figures}", server.output());
        assert!(output.contains("/v1/check"), "there are logs:\n{output}");
        let found = found_in(&output, &[&key, guessed, ADMIN]);
        assert!(found.is_empty(), "{found:?} in\n{output}");
    }
}
