//! Headers parse and agree with the decision, for all limits and charges.

use http::HeaderMap;
use limiter::config::LimitsBuilder;
use limiter::decision::{RuleState, Violation};
use limiter::{
    Charge, Credits, Decision, Denied, KeyConfig, KeyId, Limiter, Limits, MAX_COUNT, ManualClock,
    NewKey, TimeZone, Timestamp, Unit, Window,
};
use limiter_tower::{Dialect, Problem, Refusal, Standing, StatusMap, policy_name};
use proptest::prelude::*;

use crate::world::{asset, items};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn rendered_headers_parse_and_agree_with_the_decision(
        group in limits(),
        global in limits(),
        of_asset in limits(),
        charges in prop::collection::vec(charge(), 1..4),
        now_ms in 0_i64..4_102_444_800_000,
    ) {
        for decision in decide([group, global, of_asset], &charges, now_ms) {
            let mut headers = HeaderMap::new();
            for dialect in [Dialect::Ietf, Dialect::Legacy, Dialect::OpenAi, Dialect::Anthropic] {
                dialect.write(Standing::from(&decision), &mut headers);
            }
            let is_shown = |state: &RuleState| {
                state.rule.window() != Some(Window::Ever) && state.rule.unit() != Some(Unit::Credits)
            };
            let rules: Vec<RuleState> = decision.rules().filter(is_shown).collect();
            if rules.is_empty() {
                prop_assert!(headers.is_empty());
            } else {
                check_draft(&decision, &rules, &headers, now_ms);
                check_units(&decision, &rules, &headers);
            }
            check_problem(decision);
        }
    }
}

/// Asserts that every rule is listed, with its own rest and reset.
fn check_draft(decision: &Decision, rules: &[RuleState], headers: &HeaderMap, now_ms: i64) {
    let policies = items(headers, "ratelimit-policy");
    assert_eq!(policies.len(), rules.len());
    for (state, (name, parameters)) in rules.iter().zip(&policies) {
        assert_eq!(name, name_of(state));
        let (end, window) = (state.resets_at.unwrap(), state.rule.window().unwrap());
        assert_eq!(number(parameters, "q"), state.limit.min(LARGEST_INTEGER));
        let length = end.since(window.start(end, &TimeZone::UTC));
        assert_eq!(number(parameters, "w"), length.as_secs());
    }
    let limits = items(headers, "ratelimit");
    let mut listed: Vec<&str> = limits.iter().map(|(name, _)| name.as_str()).collect();
    for (state, (name, parameters)) in limits.iter().map(|limit| (state(rules, &limit.0), limit)) {
        assert_eq!(number(parameters, "r"), state.remaining.min(LARGEST_INTEGER), "{name}");
        if exceeds(decision, state) {
            assert!(!parameters.iter().any(|(parameter, _)| parameter == "t"), "{parameters:?}");
        } else {
            let left_ms = (state.resets_at.unwrap().unix_ms() - now_ms) as u64;
            assert_eq!(number(parameters, "t"), left_ms.div_ceil(1_000));
        }
    }
    // The binding limit comes first. Of a denied call the violated limits come before all others.
    let overall = Standing::from(decision).overall().unwrap();
    assert_eq!(listed[0], name_of(&overall));
    if let Some(exceeded) = decision.denied().and_then(Denied::exceeded) {
        let is_shown = |it: &Violation| rules.iter().any(|state| is_of(it, state));
        let binding = exceeded.binding().unwrap();
        if is_shown(&binding) {
            assert!(is_of(&binding, &overall));
        }
        let name_of = |broken: &Violation| policy_name(broken.group.as_ref(), broken.rule);
        let is_violated =
            |name: &&str| exceeded.violations().any(|broken| name_of(&broken) == *name);
        let violated = listed.iter().take_while(|name| is_violated(name)).count();
        assert_eq!(violated, exceeded.violations().filter(is_shown).count());
    }
    listed.sort_unstable();
    let mut known: Vec<&str> = policies.iter().map(|(name, _)| name.as_str()).collect();
    known.sort_unstable();
    assert_eq!(listed, known, "each limit is listed once");
    known.dedup();
    assert_eq!(listed, known, "each limit has a name of its own");
}

fn name_of(state: &RuleState) -> &'static str {
    policy_name(state.group.as_ref(), state.rule)
}

fn is_of(violation: &Violation, state: &RuleState) -> bool {
    (&violation.group, violation.rule) == (&state.group, state.rule)
}

fn state<'a>(rules: &'a [RuleState], name: &str) -> &'a RuleState {
    rules.iter().find(|state| name_of(state) == name).unwrap()
}

/// Returns whether a denied call exceeds the limit of this rule itself: then no reset is shown.
fn exceeds(decision: &Decision, state: &RuleState) -> bool {
    let exceeded = decision.denied().and_then(Denied::exceeded);
    exceeded.is_some_and(|exceeded| {
        let mut violations = exceeded.violations();
        let exceeds = |it: Violation| is_of(&it, state) && it.asked.max(1) > it.limit;
        exceeded.never_fits() && violations.any(exceeds)
    })
}

/// Asserts that a unit's three numbers belong to one rule: a violated one, or else the one with the fewest left.
fn check_units(decision: &Decision, rules: &[RuleState], headers: &HeaderMap) {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    for (of_requests, name) in [(true, "requests"), (false, "tokens")] {
        let of_unit =
            |state: &&RuleState| (state.rule.unit() == Some(Unit::Requests)) == of_requests;
        let mut of_unit = rules.iter().filter(of_unit).peekable();
        if of_unit.peek().is_none() {
            assert!(!headers.contains_key(format!("x-ratelimit-limit-{name}")));
            assert!(!headers.contains_key(format!("anthropic-ratelimit-{name}-limit")));
            continue;
        }
        let limit = text(&format!("x-ratelimit-limit-{name}"));
        let remaining = text(&format!("x-ratelimit-remaining-{name}"));
        let reset = headers.get(format!("anthropic-ratelimit-{name}-reset"));
        assert_eq!(reset.is_some(), headers.contains_key(format!("x-ratelimit-reset-{name}")));
        assert_eq!(text(&format!("anthropic-ratelimit-{name}-limit")), limit);
        assert_eq!(text(&format!("anthropic-ratelimit-{name}-remaining")), remaining);
        let violated: Vec<_> =
            of_unit.clone().filter(|state| Standing::from(decision).is_violated(state)).collect();
        if violated.is_empty() {
            let fewest = of_unit.clone().map(|state| state.remaining).min().unwrap();
            assert_eq!(remaining, fewest.to_string());
        } else {
            assert!(violated.iter().any(|state| state.limit.to_string() == limit));
        }
        assert!(of_unit.any(|state| {
            let numbers = (state.limit.to_string(), state.remaining.to_string());
            let resets_at =
                (!exceeds(decision, state)).then(|| state.resets_at.unwrap().to_string());
            numbers == (limit.clone(), remaining.clone())
                && reset.map(|reset| reset.to_str().unwrap()) == resets_at.as_deref()
        }));
    }
    let legacy = ["limit", "remaining"].map(|name| text(&format!("ratelimit-{name}")));
    assert!(
        rules
            .iter()
            .any(|state| { [state.limit.to_string(), state.remaining.to_string()] == legacy })
    );
}

/// Asserts that the body lists exactly the violated rules.
fn check_problem(decision: Decision) {
    let Decision::Denied(denied) = decision else { return };
    let exceeded = denied.exceeded().unwrap().clone();
    let refusal = Refusal::Denied(denied);
    let problem = Problem::of(&refusal, StatusMap::new().of(&refusal)).to_json();
    let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
    let listed = problem["violations"].as_array().unwrap();
    assert_eq!(listed.len(), exceeded.violations().count());
    for (listed, violation) in listed.iter().zip(exceeded.violations()) {
        assert_eq!(listed["rule"], violation.rule.to_string());
        assert_eq!(listed["group"].as_str(), violation.group.as_ref().map(KeyId::as_str));
        assert_eq!(listed["limit"], violation.limit);
        assert_eq!(listed["used"], violation.used);
        assert_eq!(listed["asked"], violation.asked);
        let resets_at = violation.resets_at.map(|at| at.to_string());
        assert_eq!(listed["resets_at"].as_str().map(str::to_owned), resets_at);
    }
    assert_eq!(
        problem["retry_at"].as_str().map(str::to_owned),
        exceeded.retry_at().map(|at| at.to_string())
    );
    assert_eq!(problem["retry_at"].is_null(), problem["retry_after"].is_null());
}

fn number(parameters: &[(String, String)], key: &str) -> u64 {
    let found = parameters.iter().find(|(name, _)| name == key);
    found.unwrap_or_else(|| panic!("no {key} in {parameters:?}")).1.parse().unwrap()
}

/// Returns the decisions on these charges, one after the other, of one key and asset. The limits are those of a group over all
/// calls, and those of its key over all calls and of the asset.
fn decide(limits: [Limits; 3], charges: &[Charge], now_ms: i64) -> Vec<Decision> {
    let [group, global, of_asset] = limits;
    let limiter = Limiter::in_memory_on(&ManualClock::at(Timestamp::from_unix_ms(now_ms)));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let admin = NewKey::admin(KeyConfig::named("ops").unwrap());
        let admin = limiter.bootstrap("acme".parse().unwrap(), admin).await.unwrap().record.id;
        let keys = limiter.keys_as(&admin);
        let team: KeyId = "team".parse().unwrap();
        let config = KeyConfig::named("team").unwrap().with_global(group);
        keys.create(NewKey::group(team.clone(), config)).await.unwrap();
        let config = KeyConfig::named("ci").unwrap();
        let config = config.with_global(global).with_asset(asset("gpt-5"), of_asset);
        let key = keys.create(NewKey::member(config).beneath(team)).await.unwrap().record.id;
        let mut decisions = Vec::new();
        for charge in charges {
            let decision = limiter.check_and_consume(&key, &asset("gpt-5"), charge).await.unwrap();
            decisions.push(decision);
        }
        decisions
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let window = prop::sample::select(Window::ALL.to_vec());
    let unit = prop::sample::select(Unit::ALL.to_vec());
    let limit = (window, unit, prop_oneof![0_u64..20, Just(MAX_COUNT)]);
    prop::collection::vec(limit, 0..6).prop_map(|limits| {
        let set =
            |builder: LimitsBuilder, (window, unit, amount)| builder.limit(window, unit, amount);
        limits.into_iter().fold(Limits::builder(), set).build().unwrap()
    })
}

fn charge() -> impl Strategy<Value = Charge> {
    (0_u64..3, 0_u64..12, 0_u64..12, 0_u64..12).prop_map(|(requests, input, output, spent)| {
        let charge = Charge::request().with_requests(requests).unwrap();
        let charge = charge.with_tokens(input, output).unwrap();
        charge.with_credits(Credits::from_millionths(spent).unwrap())
    })
}

/// The largest integer of a structured field.
const LARGEST_INTEGER: u64 = 999_999_999_999_999;
