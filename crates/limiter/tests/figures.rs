//! The metrics of a limiter, as Prometheus scrapes them.

use std::time::Duration;

use allocation_counter::measure;
use futures_util::FutureExt;
use futures_util::{StreamExt, stream};
use limiter::memory::MemoryStore;
use limiter::policy::{FailurePolicy, GuardedStoreBuilder};
use limiter::stream::{AnswerReader, Api, StreamMeter};
use limiter::{
    AccessKey, AssetId, Charge, Credits, KeyConfig, KeyId, Limiter, Limits, ManualClock, NewKey,
    RequestId, ReservationError, Reserved, Timestamp, Totals, Unit, Window,
};
use limiter_conformance::Around;
use limiter_test_servers::Metrics;

use crate::custom_store::Custom;

/// A limiter in memory, with an admin key and a member key.
struct Team {
    limiter: Limiter,
    admin: KeyId,
    member: KeyId,
    access_key: AccessKey,
    clock: ManualClock,
}

impl Team {
    async fn new(config: KeyConfig) -> Self {
        let clock = ManualClock::at(Timestamp::from_unix_ms(1_760_011_200_000));
        let limiter = Limiter::in_memory_on(&clock);
        let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
        let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
        let member = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap();
        let access_key = member.access_key.unwrap();
        Self { limiter, admin, member: member.record.id, access_key, clock }
    }
}

fn ci() -> KeyConfig {
    KeyConfig::named("ci").unwrap()
}

fn asset(name: &str) -> AssetId {
    name.parse().unwrap()
}

fn id(text: &str) -> RequestId {
    text.parse().unwrap()
}

#[tokio::test]
async fn each_outcome_of_a_decision_is_counted_by_its_reason() {
    let metrics = Metrics::record();
    let gpt5 = asset("gpt-5");
    let limits = Limits::builder().requests_per_day(2).build().unwrap();
    let budget = Credits::whole(1).unwrap();
    let other = Limits::builder().limit(Window::Month, Unit::OutputTokens, 1).build().unwrap();
    let config = ci().with_asset(gpt5.clone(), limits).with_other(other).with_budget(budget);
    let Team { limiter, admin, member, clock, .. } =
        Team::new(config.with_expiry(Timestamp::from_unix_ms(1_760_011_300_000))).await;
    let one = Charge::request();

    let _allowed = limiter.check_and_consume(&member, &gpt5, &one).await.unwrap();
    let handle = limiter.handle(&member, &gpt5).await.unwrap().unwrap();
    let _allowed_by_handle = handle.check_and_consume(&one).await.unwrap();
    let _rate_limited = limiter.check_and_consume(&member, &gpt5, &one).await.unwrap();
    let dear = one.with_credits(Credits::whole(2).unwrap());
    let _too_dear = limiter.check_and_consume(&member, None, &dear).await.unwrap();
    let long = one.with_tokens(0, 2).unwrap();
    let _too_long = limiter.check_and_consume(&member, &asset("other"), &long).await.unwrap();
    let _by_admin = limiter.check_and_consume(&admin, None, &one).await.unwrap();
    let nobody = "nobody".parse().unwrap();
    let _unknown = limiter.check_and_consume(&nobody, None, &one).await.unwrap();
    clock.advance(Duration::from_secs(100));
    let _expired = limiter.check_and_consume(&member, None, &one).await.unwrap();
    let _peeked = limiter.peek(&member, None, &one).await.unwrap();

    metrics.assert_counted(
        "limiter_decisions_total",
        &[
            r#"{operation="check_and_consume",outcome="allowed",degraded="false"} 2"#,
            r#"{operation="check_and_consume",outcome="rate_limited",degraded="false"} 2"#,
            r#"{operation="check_and_consume",outcome="budget_exhausted",degraded="false"} 1"#,
            r#"{operation="check_and_consume",outcome="admin_key",degraded="false"} 1"#,
            r#"{operation="check_and_consume",outcome="key_unknown",degraded="false"} 1"#,
            r#"{operation="check_and_consume",outcome="key_expired",degraded="false"} 1"#,
        ],
    );
    metrics.assert_counted(
        "limiter_rate_limited_total",
        &[
            r#"{scope="asset",window="day",unit="requests",depth="1"} 1"#,
            r#"{scope="global",window="ever",unit="credits",depth="1"} 1"#,
            r#"{scope="other",window="month",unit="output_tokens",depth="1"} 1"#,
        ],
    );
}

/// The key is `acme/search/ci`: the limit of an outer level binds until it is raised.
#[tokio::test]
async fn a_denial_is_counted_by_the_depth_of_the_level_that_binds_and_never_by_its_name() {
    let metrics = Metrics::record();
    let Team { limiter, admin, .. } = Team::new(ci()).await;
    let keys = limiter.keys_as(&admin);
    let limited = |name: &str, requests| {
        let limits = Limits::builder().requests_per_day(requests).build().unwrap();
        KeyConfig::named(name).unwrap().with_global(limits)
    };
    for (id, requests) in [("acme", 0), ("acme/search", 0)] {
        let id: KeyId = id.parse().unwrap();
        keys.create(NewKey::group(id.clone(), limited(id.as_str(), requests))).await.unwrap();
    }
    let member = NewKey::member(limited("own", 0)).with_id("acme/search/ci".parse().unwrap());
    let member = keys.create(member).await.unwrap().record.id;
    let deny = async |key: &KeyId| {
        let denied = limiter.check_and_consume(key, None, &Charge::request()).await.unwrap();
        assert!(!denied.is_allowed(), "{denied:?}");
    };
    deny(&member).await;
    for id in ["acme", "acme/search"] {
        let id = id.parse().unwrap();
        let record = keys.get(&id).await.unwrap();
        keys.update_now(&id, record.version, &limited(id.as_str(), 9)).await.unwrap();
        deny(&member).await;
    }
    let alone = NewKey::member(limited("alone", 0));
    deny(&keys.create(alone).await.unwrap().record.id).await;
    metrics.assert_counted(
        "limiter_rate_limited_total",
        &[
            r#"{scope="global",window="day",unit="requests",depth="1"} 2"#,
            r#"{scope="global",window="day",unit="requests",depth="2"} 1"#,
            r#"{scope="global",window="day",unit="requests",depth="3"} 1"#,
        ],
    );
    let text = metrics.text();
    for hidden in ["acme", "search"] {
        assert!(!text.contains(hidden), "{hidden} is in\n{text}");
    }
}

#[tokio::test]
async fn reservations_are_counted_from_their_making_to_their_end() {
    let metrics = Metrics::record();
    let limits = Limits::builder().tokens_per_minute(1_000).build().unwrap();
    let Team { limiter, member, .. } = Team::new(ci().with_global(limits)).await;
    let estimate = Charge::request().with_tokens(100, 100).unwrap();
    let ttl = Limiter::RESERVATION_TTL;

    for _ in 0..2 {
        let reserved = limiter.reserve_as(&member, None, &estimate, &id("one"), ttl).await.unwrap();
        let _the_id = reserved.allowed().unwrap().keep();
    }
    let other = limiter.reserve_as(&member, None, &Charge::request(), &id("one"), ttl).await;
    assert!(matches!(other, Err(ReservationError::OtherExists(_))));
    let too_much = Totals::unchanged().with_output_tokens(5_000).unwrap();
    let _denied = limiter.amend(&member, &id("one"), &too_much).await.unwrap();
    limiter.settle(&member, &id("one"), &Totals::unchanged()).await.unwrap();
    limiter.cancel(&member, &id("one")).await.unwrap_err();
    for _ in 0..2 {
        let checked = limiter.check_once(&member, None, &Charge::request(), &id("two")).await;
        assert!(checked.unwrap().is_allowed());
    }

    metrics.assert_counted(
        "limiter_decisions_total",
        &[
            r#"{operation="reserve",outcome="allowed",degraded="false"} 1"#,
            r#"{operation="reserve",outcome="replayed",degraded="false"} 1"#,
            r#"{operation="reserve",outcome="refused",degraded="false"} 1"#,
            r#"{operation="amend",outcome="rate_limited",degraded="false"} 1"#,
            r#"{operation="check_once",outcome="allowed",degraded="false"} 1"#,
            r#"{operation="check_once",outcome="replayed",degraded="false"} 1"#,
        ],
    );
    metrics.assert_counted(
        "limiter_rate_limited_total",
        &[r#"{scope="global",window="minute",unit="tokens",depth="1"} 1"#],
    );
    metrics.assert_counted(
        "limiter_settlements_total",
        &[
            r#"{operation="settle",outcome="done"} 1"#,
            r#"{operation="cancel",outcome="refused"} 1"#,
        ],
    );
}

#[tokio::test]
async fn what_a_policy_answers_is_counted_as_degraded_and_what_it_does_not_answer_as_an_error() {
    let metrics = Metrics::record();
    let member = "ci".parse().unwrap();
    for policy in [FailurePolicy::FailOpen, FailurePolicy::FailClosed] {
        let nowhere = async || Err::<MemoryStore, _>("there is no store");
        let limiter = Limiter::from(GuardedStoreBuilder::new(policy).connect(nowhere).await);
        let _answer = limiter.check_and_consume(&member, None, &Charge::request()).await;
        let _reserved = limiter.reserve(&member, None, &Charge::request()).await;
        let _settled = limiter.settle(&member, &id("one"), &Totals::unchanged()).await;
    }
    metrics.assert_counted(
        "limiter_decisions_total",
        &[
            r#"{operation="check_and_consume",outcome="allowed",degraded="true"} 1"#,
            r#"{operation="check_and_consume",outcome="error",degraded="false"} 1"#,
            r#"{operation="reserve",outcome="allowed",degraded="true"} 1"#,
            r#"{operation="reserve",outcome="error",degraded="false"} 1"#,
        ],
    );
    metrics.assert_counted(
        "limiter_settlements_total",
        &[r#"{operation="settle",outcome="done"} 1"#, r#"{operation="settle",outcome="error"} 1"#],
    );
    metrics.assert_counted(
        "limiter_store_errors_total",
        &[
            r#"{operation="check_and_consume",error="unavailable"} 1"#,
            r#"{operation="reserve",error="unavailable"} 1"#,
            r#"{operation="settle",error="unavailable"} 1"#,
        ],
    );
    metrics.assert_counted(
        "limiter_degraded_answers_total",
        &[r#"{policy="fail_open",outcome="allowed"} 2"#],
    );
    metrics.assert_counted("limiter_breaker_state", &[]);
    metrics.assert_counted(
        "limiter_breaker_changes_total",
        &[r#"{to="open"} 4"#, r#"{to="half_open"} 2"#],
    );
}

#[tokio::test]
async fn a_store_that_is_waited_for_is_timed_by_operation_and_memory_is_not() {
    let metrics = Metrics::record();
    let Team { limiter, member, .. } = Team::new(ci()).await;
    let _allowed = limiter.check_and_consume(&member, None, &Charge::request()).await.unwrap();
    assert!(!metrics.text().contains("limiter_store_duration_seconds"), "{}", metrics.text());

    let elsewhere = Limiter::from(Around(Custom(MemoryStore::new())));
    let nobody = "nobody".parse().unwrap();
    for _ in 0..3 {
        let _denied = elsewhere.check_and_consume(&nobody, None, &Charge::request()).await.unwrap();
    }
    assert_eq!(elsewhere.usage(&nobody).await.unwrap(), None);
    metrics.assert_counted(
        "limiter_store_duration_seconds_count",
        &[r#"{operation="check_and_consume"} 3"#, r#"{operation="usage"} 1"#],
    );
}

#[tokio::test]
async fn made_up_keys_and_assets_add_no_series_and_are_in_none() {
    let metrics = Metrics::record();
    let limits = Limits::builder().requests_per_minute(1_500).build().unwrap();
    let Team { limiter, member, access_key, .. } = Team::new(ci().with_global(limits)).await;
    let call = async |key: &KeyId, asset: &AssetId| {
        let charge = Charge::request();
        let _decision = limiter.check_and_consume(key, asset, &charge).await.unwrap();
        let handle = limiter.handle(key, asset).await.unwrap();
        if let Some(handle) = handle {
            let _decision = handle.check_and_consume(&charge).await.unwrap();
        }
        let reserved = limiter.reserve(key, asset, &charge).await.unwrap();
        if let Reserved::Allowed(mut call) = reserved {
            call.cancel().await.unwrap();
        }
    };
    call(&member, &asset("made-up-first")).await;
    let first = metrics.series();
    for number in 0..1_000 {
        call(&member, &asset(&format!("made-up-{number}"))).await;
        call(&format!("nobody-{number}").parse().unwrap(), &asset("made-up")).await;
    }
    let found = limiter.authenticate(&access_key).await.unwrap();
    assert_eq!(found, Some(member.clone()));

    let of_rule = |series: &String| series.starts_with("limiter_rate_limited_total");
    let of_threshold = |series: &String| series.starts_with("limiter_events_fired_total");
    let (rules, others): (Vec<_>, Vec<_>) = metrics.series().into_iter().partition(of_rule);
    let (thresholds, others): (Vec<_>, Vec<_>) = others.into_iter().partition(of_threshold);
    assert_eq!(rules.len(), 1, "one for each rule that has denied a call: {rules:?}");
    assert!(thresholds.len() <= 2, "one for 80 % and one for 100 %: {thresholds:?}");
    assert_eq!(others, first);
    let text = metrics.text();
    for hidden in ["made-up", "nobody", member.as_str(), "gpt-5"] {
        assert!(!text.contains(hidden), "{hidden} is in\n{text}");
    }
    assert!(!text.contains(access_key.expose()), "an access key is in\n{text}");
}

#[tokio::test]
async fn metrics_show_keys_and_assets_only_if_asked_and_access_keys_never() {
    let metrics = Metrics::record();
    let gpt5 = asset("gpt-5");
    let limits = Limits::builder().requests_per_minute(1).build().unwrap();
    let team = Team::new(ci().with_asset(gpt5.clone(), limits)).await;
    let (quiet, member) = (&team.limiter, &team.member);
    let limiter = quiet.with_key_label().with_asset_label();
    let charge = Charge::request();

    let _allowed = quiet.check_and_consume(member, &gpt5, &charge).await.unwrap();
    let _denied = limiter.check_and_consume(member, &gpt5, &charge).await.unwrap();
    let handle = limiter.handle(member, &gpt5).await.unwrap().unwrap();
    let _denied = handle.check_and_consume(&charge).await.unwrap();
    match limiter.reserve(member, None, &charge).await.unwrap() {
        Reserved::Allowed(mut call) => drop(call.settle(&Totals::unchanged()).await.unwrap()),
        Reserved::Denied(denied) => panic!("{denied}"),
    }
    assert!(limiter.authenticate(&team.access_key).await.unwrap().is_some());

    let (checked, denied) =
        (r#"operation="check_and_consume""#, r#"outcome="rate_limited",degraded="false""#);
    metrics.assert_counted(
        "limiter_decisions_total",
        &[
            &format!(r#"{{{checked},outcome="allowed",degraded="false"}} 1"#),
            &format!(r#"{{key="{member}",asset="gpt-5",{checked},{denied}}} 2"#),
            &format!(
                r#"{{key="{member}",operation="reserve",outcome="allowed",degraded="false"}} 1"#
            ),
        ],
    );
    metrics.assert_counted(
        "limiter_rate_limited_total",
        &[&format!(
            r#"{{key="{member}",asset="gpt-5",scope="asset",window="minute",unit="requests",depth="1"}} 2"#
        )],
    );
    metrics
        .assert_counted("limiter_settlements_total", &[r#"{operation="settle",outcome="done"} 1"#]);
    let text = metrics.text();
    assert!(!text.contains(team.access_key.expose()), "an access key is in\n{text}");
}

/// The recorder gives the handles of an operation at its first call.
#[tokio::test]
async fn a_recorder_that_is_installed_before_the_first_call_sees_it() {
    let Team { limiter, member, .. } = Team::new(ci()).await;
    let metrics = Metrics::record();
    let _allowed = limiter.check_and_consume(&member, None, &Charge::request()).await.unwrap();
    metrics.assert_counted(
        "limiter_decisions_total",
        &[r#"{operation="check_and_consume",outcome="allowed",degraded="false"} 1"#],
    );
}

#[tokio::test]
async fn a_call_that_is_counted_allocates_nothing_for_it() {
    let metrics = Metrics::record();
    let gpt5 = asset("gpt-5");
    let limits = Limits::builder().requests_per_day(10_000).build().unwrap();
    let Team { limiter, member, .. } = Team::new(ci().with_asset(gpt5.clone(), limits)).await;
    let charge = Charge::request();
    let handle = limiter.handle(&member, &gpt5).await.unwrap().unwrap();
    let decide = || {
        let by_key = limiter.check_and_consume(&member, &gpt5, &charge).now_or_never();
        let by_handle = handle.check_and_consume(&charge).now_or_never();
        for decided in [by_key, by_handle] {
            assert!(decided.expect("it is in memory").unwrap().is_allowed());
        }
    };
    decide(); // The first call gets the handles from the recorder.
    let measured = measure(|| (0..100).for_each(|_| decide()));
    assert_eq!((measured.count_total, measured.bytes_total), (0, 0));
    metrics.assert_counted(
        "limiter_decisions_total",
        &[r#"{operation="check_and_consume",outcome="allowed",degraded="false"} 202"#],
    );
}

#[tokio::test]
async fn thresholds_that_are_reached_and_events_that_are_missed_are_counted() {
    let metrics = Metrics::record();
    let limiter = Limiter::builder(MemoryStore::new()).kept_events(1).build();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let limits = Limits::builder().requests_per_day(10).build().unwrap();
    let config = ci().with_global(limits);
    let member = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap().record.id;
    let mut events = limiter.threshold_events();
    for _ in 0..12 {
        let _decision = limiter.check_and_consume(&member, None, &Charge::request()).await.unwrap();
    }
    metrics.assert_counted(
        "limiter_events_fired_total",
        &[r#"{threshold="80"} 1"#, r#"{threshold="100"} 1"#],
    );
    assert_eq!(events.next().await.unwrap().unwrap_err().events, 1);
    assert_eq!(events.next().await.unwrap().unwrap().crossing.percent, 100);
    metrics.assert_counted("limiter_events_dropped_total", &[r#"{events="threshold"} 1"#]);
}

#[tokio::test]
async fn a_panic_of_a_callback_is_counted_each_time() {
    let metrics = Metrics::record();
    let store = MemoryStore::new();
    let limiter = Limiter::builder(store).on_threshold(|_| panic!("no")).build();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let limits = Limits::builder().requests_per_day(1).build().unwrap();
    let config = ci().with_global(limits);
    let member = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap().record.id;
    let decision = limiter.check_and_consume(&member, None, &Charge::request()).await.unwrap();
    assert!(decision.is_allowed());
    metrics.assert_counted("limiter_callback_panics_total", &[r#"{callback="on_threshold"} 2"#]);
}

#[tokio::test]
async fn what_shadow_mode_lets_through_is_counted_as_such_with_the_rule_that_would_have_bound() {
    let metrics = Metrics::record();
    let limiter = Limiter::builder(MemoryStore::new()).shadow(true).build();
    let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
    let admin = limiter.bootstrap("team-a".parse().unwrap(), admin).await.unwrap().record.id;
    let limits = Limits::builder().requests_per_day(1).build().unwrap();
    let config = ci().with_global(limits);
    let member = limiter.keys_as(&admin).create(NewKey::member(config)).await.unwrap().record.id;
    let handle = limiter.handle(&member, None).await.unwrap().unwrap();
    for _ in 0..2 {
        assert!(handle.check_and_consume(&Charge::request()).await.unwrap().is_allowed());
        let decision = limiter.check_and_consume(&member, None, &Charge::request()).await.unwrap();
        assert!(decision.is_allowed());
    }
    metrics.assert_counted(
        "limiter_decisions_total",
        &[
            r#"{operation="check_and_consume",outcome="allowed",degraded="false"} 1"#,
            r#"{operation="check_and_consume",outcome="shadowed",degraded="false"} 3"#,
        ],
    );
    metrics.assert_counted(
        "limiter_rate_limited_total",
        &[r#"{scope="global",window="day",unit="requests",depth="1"} 3"#],
    );
}

#[tokio::test]
async fn answers_are_counted_once_by_the_source_of_their_tokens() {
    let metrics = Metrics::record();
    let Team { limiter, member, .. } = Team::new(ci()).await;
    let text = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let usage = "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
    for answer in [&[text, usage][..], &[text], &["data: {\"output\":\"in other words\"}\n\n"]] {
        let estimate = Charge::request().with_tokens(5, 9).unwrap();
        let call = limiter.reserve(&member, None, &estimate).await.unwrap().allowed().unwrap();
        let upstream = stream::iter(answer.iter().map(|chunk| Ok::<_, std::io::Error>(*chunk)));
        let reader = AnswerReader::new(Api::OpenAiChat);
        let answer: Vec<_> = StreamMeter::stream(upstream, call, reader).collect().await;
        assert!(answer.iter().all(Result::is_ok));
    }
    metrics.assert_counted(
        "limiter_answers_total",
        &[
            r#"{api="openai-chat",tokens="reported"} 1"#,
            r#"{api="openai-chat",tokens="counted"} 1"#,
            r#"{api="openai-chat",tokens="estimated"} 1"#,
        ],
    );
}
