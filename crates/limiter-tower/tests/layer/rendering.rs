//! Whatever the limits and the charges: headers parse, and say what the decision says.

use http::HeaderMap;
use limiter::{
    Charge, Decision, KeyConfig, Limiter, Limits, MAX_COUNT, ManualClock, NewKey, RuleState,
    Timestamp, TokenType, Unit, Window,
};
use limiter_tower::{Dialect, Problem, Refusal, Standing, StatusMap, policy_name};
use proptest::prelude::*;

use crate::world::{asset, items};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn rendered_headers_parse_and_agree_with_the_decision(
        global in limits(),
        of_asset in limits(),
        charges in prop::collection::vec(charge(), 1..4),
        now_ms in 0_i64..4_102_444_800_000,
    ) {
        for decision in decide(global, of_asset, &charges, now_ms) {
            let mut headers = HeaderMap::new();
            for dialect in [Dialect::Ietf, Dialect::Legacy, Dialect::OpenAi, Dialect::Anthropic] {
                dialect.write(Standing::from(&decision), &mut headers);
            }
            let rules: Vec<RuleState> = decision.rules().collect();
            if rules.is_empty() {
                prop_assert!(headers.is_empty());
                continue;
            }
            check_draft(&decision, &rules, &headers, now_ms);
            check_units(&rules, &headers);
            check_problem(decision);
        }
    }
}

/// Every rule is listed, and what is listed as its rest and reset is of that very rule.
fn check_draft(decision: &Decision, rules: &[RuleState], headers: &HeaderMap, now_ms: i64) {
    let policies = items(headers, "ratelimit-policy");
    assert_eq!(policies.len(), rules.len());
    for (state, (name, parameters)) in rules.iter().zip(&policies) {
        assert_eq!(name, policy_name(state.rule));
        let window = if state.rule.window == Window::Minute { 60 } else { 86_400 };
        assert_eq!(number(parameters, "q"), state.limit.min(LARGEST_INTEGER));
        assert_eq!(number(parameters, "w"), window);
    }
    let limits = items(headers, "ratelimit");
    assert!(!limits.is_empty() && limits.len() <= 2, "{limits:?}");
    for (name, parameters) in &limits {
        let state = rules.iter().find(|state| policy_name(state.rule) == name).unwrap();
        assert_eq!(number(parameters, "r"), state.remaining.min(LARGEST_INTEGER));
        let left_ms = (state.resets_at.unix_ms() - now_ms) as u64;
        assert_eq!(number(parameters, "t"), left_ms.div_ceil(1_000));
        // Nothing of the same unit is tighter, unless it was not violated and this was.
        let same_unit = |other: &&RuleState| other.rule.unit == state.rule.unit;
        if decision.is_allowed() {
            assert!(!rules.iter().filter(same_unit).any(|other| other.is_tighter_than(state)));
        } else {
            let limited = decision.denied().unwrap().rate_limited().unwrap();
            assert!(limited.violations().any(|violation| violation.rule == state.rule));
        }
    }
    if let Some(binding) = decision.denied().and_then(|denied| denied.rate_limited()?.binding()) {
        assert!(limits.iter().any(|(name, _)| name == policy_name(binding.rule)));
    }
}

/// The three numbers of a unit are those of one rule.
fn check_units(rules: &[RuleState], headers: &HeaderMap) {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    for (unit, name) in [(Unit::Requests, "requests"), (Unit::Tokens, "tokens")] {
        let mut of_unit = rules.iter().filter(|state| state.rule.unit == unit).peekable();
        if of_unit.peek().is_none() {
            assert!(!headers.contains_key(format!("x-ratelimit-limit-{name}")));
            assert!(!headers.contains_key(format!("anthropic-ratelimit-{name}-limit")));
            continue;
        }
        let limit = text(&format!("x-ratelimit-limit-{name}"));
        let remaining = text(&format!("x-ratelimit-remaining-{name}"));
        let reset = text(&format!("anthropic-ratelimit-{name}-reset"));
        assert_eq!(text(&format!("anthropic-ratelimit-{name}-limit")), limit);
        assert_eq!(text(&format!("anthropic-ratelimit-{name}-remaining")), remaining);
        assert!(of_unit.any(|state| {
            let numbers = (state.limit.to_string(), state.remaining.to_string());
            numbers == (limit.clone(), remaining.clone()) && state.resets_at.to_string() == reset
        }));
    }
    let legacy = ["limit", "remaining"].map(|name| text(&format!("ratelimit-{name}")));
    assert!(
        rules
            .iter()
            .any(|state| { [state.limit.to_string(), state.remaining.to_string()] == legacy })
    );
}

/// The body lists the violated rules, and none else.
fn check_problem(decision: Decision) {
    let Decision::Denied(denied) = decision else { return };
    let limited = denied.rate_limited().unwrap().clone();
    let refusal = Refusal::Denied(denied);
    let problem = Problem::of(&refusal, StatusMap::new().of(&refusal)).to_json();
    let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
    let listed = problem["violations"].as_array().unwrap();
    assert_eq!(listed.len(), limited.violations().count());
    for (listed, violation) in listed.iter().zip(limited.violations()) {
        assert_eq!(listed["rule"], violation.rule.to_string());
        assert_eq!(listed["limit"], violation.limit);
        assert_eq!(listed["used"], violation.used);
        assert_eq!(listed["asked"], violation.asked);
    }
    assert_eq!(
        problem["retry_at"].as_str().map(str::to_owned),
        limited.retry_at().map(|at| at.to_string())
    );
    assert_eq!(problem["retry_at"].is_null(), problem["retry_after"].is_null());
}

fn number(parameters: &[(String, String)], key: &str) -> u64 {
    let found = parameters.iter().find(|(name, _)| name == key);
    found.unwrap_or_else(|| panic!("no {key} in {parameters:?}")).1.parse().unwrap()
}

/// The answers to these charges, one after the other, of one key and asset.
fn decide(global: Limits, of_asset: Limits, charges: &[Charge], now_ms: i64) -> Vec<Decision> {
    let limiter = Limiter::in_memory_on(&ManualClock::at(Timestamp::from_unix_ms(now_ms)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let admin = NewKey::admin(KeyConfig::named("ops").unwrap());
        let admin = limiter.bootstrap("acme".parse().unwrap(), admin).await.unwrap().record.id;
        let config = KeyConfig::named("ci").unwrap();
        let config = config.with_global(global).with_asset(asset("gpt-5"), of_asset);
        let key = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap().record.id;
        let mut decisions = Vec::new();
        for charge in charges {
            let decision = limiter.check_and_consume(&key, &asset("gpt-5"), charge).await.unwrap();
            decisions.push(decision);
        }
        decisions
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let count = || prop::option::of(prop_oneof![0_u64..20, Just(MAX_COUNT)]);
    let token_type =
        prop_oneof![Just(TokenType::Total), Just(TokenType::Input), Just(TokenType::Output)];
    (count(), count(), count(), count(), token_type).prop_map(
        |(requests_minute, requests_day, tokens_minute, tokens_day, token_type)| {
            let mut limits = Limits::builder();
            if let Some(limit) = requests_minute {
                limits = limits.requests_per_minute(limit);
            }
            if let Some(limit) = requests_day {
                limits = limits.requests_per_day(limit);
            }
            if let Some(limit) = tokens_minute {
                limits = limits.tokens_per_minute(limit).token_type(token_type);
            }
            if let Some(limit) = tokens_day {
                limits = limits.tokens_per_day(limit).token_type(token_type);
            }
            limits.build().unwrap()
        },
    )
}

fn charge() -> impl Strategy<Value = Charge> {
    (0_u64..3, 0_u64..12, 0_u64..12).prop_map(|(requests, input, output)| {
        let charge = Charge::request().with_requests(requests).unwrap();
        charge.with_tokens(input, output).unwrap()
    })
}

/// The largest integer of a structured field.
const LARGEST_INTEGER: u64 = 999_999_999_999_999;
