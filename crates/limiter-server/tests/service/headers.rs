//! The headers of a decision, in each dialect, as a client reads them: they agree with the body.

use chrono::{DateTime, FixedOffset};
use serde_json::{Value, json};
use sfv::{BareItem, List, ListEntry, Parser};

use crate::support::{Answer, MODEL, Running, enough_of_this_minute};

#[test]
fn the_headers_of_the_ietf_draft_are_the_default() {
    for server in Running::on_each_store() {
        let (allowed, denied) = allowed_and_denied(&server);
        for (answer, told) in [(&allowed, &allowed.body), (&denied, &denied.body)] {
            let policies = [
                ("permin", vec![("q", "50"), ("w", "60")]),
                (
                    "input-tokens-perday",
                    vec![("q", "1000"), ("qu", "input-tokens"), ("w", "86400")],
                ),
                (
                    "asset-output-tokens-permin",
                    vec![("q", "200"), ("qu", "output-tokens"), ("w", "60")],
                ),
                ("asset-perday", vec![("q", "10"), ("w", "86400")]),
            ];
            assert_eq!(list(answer, "ratelimit-policy"), owned(&policies), "{answer:?}");
            let day = seconds(told, "asset/day/requests");
            let minute = seconds(told, "asset/minute/output_tokens");
            // The binding limit comes first; the second call violates it.
            let limits = [
                ("asset-output-tokens-permin", vec![("r", "80"), ("t", minute.as_str())]),
                ("permin", vec![("r", "49"), ("t", minute.as_str())]),
                ("input-tokens-perday", vec![("r", "980"), ("t", day.as_str())]),
                ("asset-perday", vec![("r", "9"), ("t", day.as_str())]),
            ];
            assert_eq!(list(answer, "ratelimit"), owned(&limits), "{answer:?}");
        }
        assert_eq!(allowed.header("retry-after"), None);
        assert_eq!(denied.header("retry-after"), Some(&*seconds(&denied.body, MINUTE)));
        assert_eq!(denied.body["binding"], json!(MINUTE));
        assert_eq!(limit_headers(&allowed), ["ratelimit", "ratelimit-policy"]);
    }
}

#[test]
fn the_earlier_drafts_know_one_limit() {
    for server in Running::on_each_store_with(&["--headers", "legacy"]) {
        let (allowed, denied) = allowed_and_denied(&server);
        for answer in [&allowed, &denied] {
            assert_eq!(answer.header("ratelimit-limit"), Some("200"), "{answer:?}");
            assert_eq!(answer.header("ratelimit-remaining"), Some("80"));
            assert_eq!(answer.header("ratelimit-reset"), Some(&*seconds(&answer.body, MINUTE)));
            assert_eq!(limit_headers(answer).len(), 3, "{answer:?}");
        }
        assert_eq!(denied.header("retry-after"), denied.header("ratelimit-reset"));
    }
}

#[test]
fn openais_clients_read_requests_and_tokens() {
    for server in Running::on_each_store_with(&["--headers", "openai"]) {
        let (allowed, denied) = allowed_and_denied(&server);
        for answer in [&allowed, &denied] {
            for (unit, rule, limit, remaining) in
                [("requests", DAY, "10", "9"), ("tokens", MINUTE, "200", "80")]
            {
                let header = |what: &str| answer.header(&format!("x-ratelimit-{what}-{unit}"));
                assert_eq!(header("limit"), Some(limit), "{answer:?}");
                assert_eq!(header("remaining"), Some(remaining), "{answer:?}");
                let reset_ms = milliseconds(header("reset").expect("it is there"));
                assert_eq!(reset_ms, wait_ms(&answer.body, rule), "{answer:?}");
            }
            assert_eq!(limit_headers(answer).len(), 6, "{answer:?}");
        }
        assert_eq!(denied.header("retry-after"), Some(&*seconds(&denied.body, MINUTE)));
    }
}

#[test]
fn anthropics_clients_read_tokens_by_type_and_instants() {
    for server in Running::on_each_store_with(&["--headers", "anthropic"]) {
        let (allowed, denied) = allowed_and_denied(&server);
        for answer in [&allowed, &denied] {
            for (unit, rule, limit, remaining) in [
                ("requests", DAY, "10", "9"),
                ("tokens", MINUTE, "200", "80"),
                ("output-tokens", MINUTE, "200", "80"),
                ("input-tokens", "global/day/input_tokens", "1000", "980"),
            ] {
                let header =
                    |what: &str| answer.header(&format!("anthropic-ratelimit-{unit}-{what}"));
                assert_eq!(header("limit"), Some(limit), "{answer:?}");
                assert_eq!(header("remaining"), Some(remaining), "{answer:?}");
                let reset = header("reset").map(DateTime::parse_from_rfc3339);
                let reset = reset.expect("it is there").expect("it is of RFC 3339");
                assert_eq!(reset, instant(&state(&answer.body, rule)["resets_at"]));
            }
            assert_eq!(limit_headers(answer).len(), 12, "{answer:?}");
        }
        assert_eq!(denied.header("retry-after"), Some(&*seconds(&denied.body, MINUTE)));
    }
}

#[test]
fn dialects_are_combined_and_each_of_their_headers_is_in_the_openapi_document() {
    let all = ["--headers", "ietf,legacy,openai,anthropic"];
    for server in Running::on_each_store_with(&all) {
        let (allowed, denied) = allowed_and_denied(&server);
        assert_eq!(limit_headers(&allowed).len(), 2 + 3 + 6 + 12);
        let document = server.get("", "/openapi.json").body;
        for path in ["/v1/check", "/v1/peek", "/v1/reserve", "/v1/reservations/{id}/amend"] {
            let described = &document["paths"][path]["post"]["responses"]["200"]["headers"];
            let described = described.as_object().expect("it has headers");
            let known = |name: &str| described.keys().any(|key| key.eq_ignore_ascii_case(name));
            for name in limit_headers(&denied).into_iter().chain(["retry-after"]) {
                assert!(denied.header(name).is_some() && known(name), "{path}: {name}");
            }
            assert!(known("x-should-retry"), "{path}");
            assert_eq!(described.len(), limit_headers(&denied).len() + 2, "{path}");
        }
    }
}

#[test]
fn a_server_without_limit_headers_still_sends_retry_after() {
    for server in Running::on_each_store_with(&["--headers", "none"]) {
        let (allowed, denied) = allowed_and_denied(&server);
        assert!(limit_headers(&allowed).is_empty() && limit_headers(&denied).is_empty());
        assert_eq!(denied.header("retry-after"), Some(&*seconds(&denied.body, MINUTE)));
    }
}

#[test]
fn a_reservation_shows_how_its_limits_stand_when_it_is_made_denied_and_amended() {
    for server in Running::on_each_store() {
        enough_of_this_minute();
        let (_, key) = server.member("service", json!({"globalLimits": {"tpd": 100}}));
        let reserve = |output: u64, id: &str| {
            let call = json!({"estimate": {"output_tokens": output}, "request_id": id});
            server.post(&key, "/v1/reserve", &call)
        };
        let amend =
            |to| server.post(&key, "/v1/reservations/r1/amend", &json!({"output_tokens": to}));
        for (answer, remaining, is_allowed) in [
            (reserve(60, "r1"), "40", true),
            (reserve(60, "r2"), "40", false),
            (amend(90), "10", true),
            (amend(101), "10", false),
        ] {
            assert_eq!(answer.status, 200, "{answer:?}");
            let limits = list(&answer, "ratelimit");
            assert_eq!(limits[0].0, "tokens-perday", "{answer:?}");
            assert_eq!(limits[0].1[0], ("r".to_owned(), remaining.to_owned()), "{answer:?}");
            assert_eq!(answer.header("retry-after").is_none(), is_allowed, "{answer:?}");
        }
        let settled = server.post(&key, "/v1/reservations/r1/settle", &json!({}));
        assert_eq!((settled.status, limit_headers(&settled).len()), (200, 0), "{settled:?}");
    }
}

/// A service may pass these headers on to its own client, which may be an SDK that sleeps for all of `Retry-After`.
#[test]
fn clients_are_asked_to_retry_after_a_minute_and_not_after_a_day() {
    for server in Running::on_each_store() {
        enough_of_this_minute();
        for limit in ["rpm", "rpd"] {
            let (_, key) = server.member(limit, json!({"globalLimits": {limit: 1}}));
            let check = || server.post(&key, "/v1/check", &json!({}));
            let (allowed, denied) = (check(), check());
            assert_eq!(allowed.header("x-should-retry"), None, "{allowed:?}");
            assert_eq!((denied.status, &denied.body["outcome"]), (200, &json!("denied")));
            assert!(denied.header("retry-after").is_some(), "{denied:?}");
            denied.assert_retry_is_bounded();
        }
    }
}

/// The call exceeds the limit itself: retrying will not help.
#[test]
fn a_call_that_never_fits_gets_no_retry_time() {
    for server in Running::on_each_store() {
        let (_, key) = server.member("service", json!({"globalLimits": {"tpm": 9}}));
        let denied = server.post(&key, "/v1/check", &json!({"charge": {"output_tokens": 10}}));
        assert_eq!(denied.body["retry_at"], Value::Null, "{denied:?}");
        assert_eq!(denied.header("retry-after"), None);
        assert_eq!(denied.header("x-should-retry"), Some("false"));
        assert_eq!(denied.body["violated"][0]["resets_at"], Value::Null, "{denied:?}");
        let (policy, parameters) = &list(&denied, "ratelimit")[0];
        assert_eq!(policy, "tokens-permin");
        assert!(!parameters.iter().any(|(name, _)| name == "t"), "{parameters:?}");
    }
}

#[test]
fn what_is_no_decision_about_limits_has_no_such_headers() {
    let all = ["--headers", "ietf,legacy,openai,anthropic"];
    for server in Running::on_each_store_with(&all) {
        let (_, key) = server.member("limited", json!({"globalLimits": {"rpd": 2}}));
        let (_, free) = server.member("free", json!({}));
        let (_, poor) = server.member("poor", json!({"budget": 0.01}));
        let expensive = json!({"charge": {"credits": "0.010001"}});
        let nobody = "nobody-has-this-key-1234567890";
        let run = |key: &str| server.run(key, "Hello");
        for (answer, status) in [
            (server.post(&free, "/v1/check", &json!({})), 200),
            (server.post(&poor, "/v1/check", &expensive), 200),
            (server.get(&key, "/v1/usage"), 200),
            (server.post(&key, "/v1/check", &json!([])), 400),
            (server.post(nobody, "/v1/check", &json!({})), 401),
            (server.post(crate::support::ADMIN, "/v1/check", &json!({})), 403),
            (run(&key), 200),
            (run(&key), 200),
            (run(&key), 429),
        ] {
            assert_eq!(answer.status, status, "{answer:?}");
            assert!(limit_headers(&answer).is_empty(), "{answer:?}");
        }
        let denied = run(&key);
        assert!(denied.header("retry-after").is_some(), "{MODEL}: {denied:?}");
    }
}

#[test]
fn headers_that_nobody_knows_are_refused_with_those_that_there_are() {
    let output = Running::try_with(&["--headers", "itef"], None).unwrap_err();
    for word in ["itef", "ietf", "legacy", "openai", "anthropic", "none"] {
        assert!(output.contains(word), "{word}: {output}");
    }
    let output = Running::try_with(&["--headers", "none,ietf"], None).unwrap_err();
    assert!(output.contains("leave one of them out"), "{output}");
}

/// Of 50 requests a minute and 1,000 input tokens a day over all calls, 200 output tokens a minute and 10 requests a day of
/// the asset, a call takes 20 tokens in and 120 out; the second does not fit.
fn allowed_and_denied(server: &Running) -> (Answer, Answer) {
    enough_of_this_minute();
    let limits = json!({
        "globalLimits": {"rpm": 50, "tpd": 1000, "tokenType": "input"},
        "assetsLimits": [{"tpm": 200, "rpd": 10, "tokenType": "output", "assetId": MODEL}],
    });
    let (_, key) = server.member("service", limits);
    let call = json!({"asset": MODEL, "charge": {"input_tokens": 20, "output_tokens": 120}});
    let call = || server.post(&key, "/v1/check", &call);
    let (allowed, denied) = (call(), call());
    for (answer, outcome) in [(&allowed, "allowed"), (&denied, "denied")] {
        assert_eq!((answer.status, &answer.body["outcome"]), (200, &json!(outcome)), "{answer:?}");
    }
    (allowed, denied)
}

/// Returns the names of all headers that show limits.
fn limit_headers(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.iter().map(|(name, _)| name.as_str());
    let mut names: Vec<&str> = names.filter(|name| name.contains("ratelimit")).collect();
    names.sort_unstable();
    names
}

/// Returns the state of a rule from the body.
fn state<'a>(decision: &'a Value, rule: &str) -> &'a Value {
    let rules = decision["rules"].as_array().expect("it has rules");
    rules.iter().find(|state| state["rule"] == json!(rule)).expect("it has this rule")
}

/// Returns the time from the decision to the reset of a rule.
fn wait_ms(decision: &Value, rule: &str) -> u64 {
    let wait = instant(&state(decision, rule)["resets_at"]) - instant(&decision["decided_at"]);
    wait.num_milliseconds().try_into().expect("the decision comes before the reset")
}

pub(crate) fn instant(value: &Value) -> DateTime<FixedOffset> {
    let text = value.as_str().expect("it is a text");
    DateTime::parse_from_rfc3339(text).expect("it is of RFC 3339")
}

/// Returns the time to the reset of a rule in seconds, rounded up.
fn seconds(decision: &Value, rule: &str) -> String {
    wait_ms(decision, rule).div_ceil(1_000).to_string()
}

/// Reads a duration as Go prints it.
fn milliseconds(duration: &str) -> u64 {
    let (mut total, mut rest) = (0.0, duration);
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| letter.is_ascii_lowercase()).expect("it has a unit");
        let number: f64 = rest[..digits].parse().expect("it has a number");
        let units = [("ms", 1.0), ("h", 3_600_000.0), ("m", 60_000.0), ("s", 1_000.0)];
        let unit = units.into_iter().find(|(unit, _)| rest[digits..].starts_with(unit));
        let (unit, length_ms) = unit.expect("it has a unit");
        total += number * length_ms;
        rest = &rest[digits + unit.len()..];
    }
    total.round() as u64
}

type Item = (String, Vec<(String, String)>);

/// Reads a structured field that is a list of strings with parameters.
fn list(answer: &Answer, name: &str) -> Vec<Item> {
    let field = answer.header(name).unwrap_or_else(|| panic!("{name} is missing: {answer:?}"));
    let list: List = Parser::new(field).parse().unwrap_or_else(|error| panic!("{field}: {error}"));
    let text = |item: &BareItem| match item {
        BareItem::String(text) => text.as_str().to_owned(),
        BareItem::Integer(number) => number.to_string(),
        other => panic!("{field}: {other:?}"),
    };
    let item = |entry: &ListEntry| match entry {
        ListEntry::Item(item) => {
            assert!(matches!(item.bare_item, BareItem::String(_)), "{field}");
            let parameters = item.params.iter().map(|(key, value)| (key.to_string(), text(value)));
            (text(&item.bare_item), parameters.collect())
        }
        ListEntry::InnerList(_) => panic!("{field}"),
    };
    list.iter().map(item).collect()
}

fn owned(items: &[(&str, Vec<(&str, &str)>)]) -> Vec<Item> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    items
        .iter()
        .map(|(name, pairs)| ((*name).to_owned(), pairs.iter().map(pair).collect()))
        .collect()
}

const MINUTE: &str = "asset/minute/output_tokens";
const DAY: &str = "asset/day/requests";
