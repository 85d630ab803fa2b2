//! Calls of keys in groups: headers and problem details of all levels.

use http::request::Parts;
use limiter::{Charge, KeyConfig, KeyId, Limits, NewKey, Other};
use limiter_tower::{Caller, Dialect, policy_name};
use serde_json::json;

use crate::world::{
    World, asset, at, bearer, hello, items, named, requests_per_day, requests_per_minute,
};

async fn group(world: &World, id: &str, config: KeyConfig) -> KeyId {
    let group = NewKey::group(id.parse().unwrap(), config);
    world.limiter.keys_as(&world.admin).create(group).await.unwrap().record.id
}

/// The service authenticates its callers itself: the path of a key is an id like any other.
fn user(parts: &Parts) -> Option<Caller> {
    let id = str::from_utf8(parts.headers.get("x-user")?.as_bytes()).ok()?;
    id.parse::<KeyId>().ok().map(Caller::from)
}

#[tokio::test]
async fn each_level_has_policies_of_its_own_and_one_limit_is_the_tightest_of_all() {
    for world in World::on_each_store().await {
        let dialects = [Dialect::Ietf, Dialect::OpenAi, Dialect::Anthropic, Dialect::Legacy];
        let service = hello(world.layer().caller(user).dialects(dialects).build()).await;
        let per_minute =
            |name: &str, requests| named(name).with_global(requests_per_minute(requests));
        group(&world, "acme", per_minute("acme", 20)).await;
        group(&world, "acme/search", named("search").with_global(requests_per_day(3))).await;
        // A name that no header could carry as it is.
        let team = group(&world, "acme/search/\"été\"", per_minute("team", 15)).await;
        let key = NewKey::member(per_minute("ci", 10)).with_id(team.child("ci").unwrap());
        let key = world.create(key).await.id;
        let answer = service.send("/", &[("x-user", key.as_str())]).await;
        assert_eq!(answer.status, 200);
        let names = |field| {
            items(&answer.headers, field).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        let policies = ["group1-permin", "group2-perday", "group3-permin", "permin"];
        assert_eq!(names("ratelimit-policy"), policies);
        let by_urgency = ["group2-perday", "group1-permin", "group3-permin", "permin"];
        assert_eq!(names("ratelimit"), by_urgency);
        for (name, value) in [
            ("x-ratelimit-limit-requests", "3"),
            ("x-ratelimit-remaining-requests", "2"),
            ("x-ratelimit-reset-requests", "12h0m31s"),
            ("anthropic-ratelimit-requests-remaining", "2"),
            ("ratelimit-limit", "3"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_denial_by_a_group_names_it_in_words_and_for_programs() {
    for world in World::on_each_store().await {
        let service = hello(world.layer().build()).await;
        let acme = group(&world, "acme", named("acme").with_global(requests_per_day(1))).await;
        let config = named("ci").with_global(requests_per_day(1));
        let ci = world.create(NewKey::member(config).with_id(acme.child("ci").unwrap())).await;
        assert_eq!(service.call(&ci).await.status, 200);
        let answer = service.call(&ci).await;
        assert_eq!(answer.status, 429);
        let problem = answer.problem();
        assert_eq!(
            problem["detail"],
            "acme/ci: 1 of 1 requests per day are used for group acme, this call asks for 1, reset at \
             2026-01-02T00:00:00Z; 1 of 1 requests per day are used for all calls, this call asks for 1, \
             reset at 2026-01-02T00:00:00Z. Retry at 2026-01-02T00:00:00Z"
        );
        assert_eq!(problem["key"], "acme/ci");
        let binding = (&problem["binding"], &problem["binding_group"]);
        assert_eq!(binding, (&json!("global/day/requests"), &json!("acme")));
        assert_eq!(problem["violated-policies"], json!(["group1-perday", "perday"]));
        let violations = problem["violations"].as_array().unwrap();
        assert_eq!(violations[0]["group"], "acme");
        assert_eq!(violations[0]["policy"], "group1-perday");
        assert_eq!(violations[1].get("group"), None, "it is of the key itself");
    }
}

#[tokio::test]
async fn a_group_that_has_expired_or_denies_the_asset_is_named() {
    let world = World::new().await;
    let layer = world.layer().asset_in_path(|path| path.strip_prefix("/v1/"));
    let service = hello(layer.build()).await;
    let strict = named("strict").with_asset(asset("gpt-5"), Limits::NONE).with_other(Other::Denied);
    let old = named("old").with_expiry(at("2026-01-01T11:00:00Z"));
    for (id, config, status, reason) in
        [("strict", strict, 403, "asset_denied"), ("old", old, 401, "key_expired")]
    {
        let id = group(&world, id, config).await;
        let ci = NewKey::member(named(&format!("ci of {id}"))).beneath(id.clone());
        let ci = bearer(&world.create(ci).await.access_key);
        let answer = service.send("/v1/gpt-6", &[("authorization", &ci)]).await;
        assert_eq!(answer.status.as_u16(), status);
        let problem = answer.problem();
        assert_eq!((&problem["reason"], &problem["group"]), (&json!(reason), &json!(id)));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&format!("group {id}")), "{detail}");
    }
}

/// The key has a budget too, with room.
#[tokio::test]
async fn an_exhausted_budget_of_a_group_is_the_one_that_is_shown() {
    let world = World::new().await;
    let price = |_: &Parts| Ok(Charge::request().with_credits("2".parse()?));
    let service = hello(world.layer().charge(price).build()).await;
    let budget = |name: &str, credits: &str| named(name).with_budget(credits.parse().unwrap());
    let acme = group(&world, "acme", budget("acme", "1.5")).await;
    let ci = world.create(NewKey::member(budget("ci", "9")).beneath(acme)).await;
    let answer = service.call(&ci).await;
    assert_eq!(answer.status, 402);
    let problem = answer.problem();
    assert_eq!((&problem["budget"], &problem["binding_group"]), (&json!("1.50"), &json!("acme")));
    assert_eq!(problem["violated-policies"], json!(["group1-credits-ever"]));
}

#[test]
fn the_names_of_policies_differ_by_the_depth_of_the_group() {
    let rule = "asset/minute/output_tokens".parse().unwrap();
    for (group, name) in [
        (None, "asset-output-tokens-permin"),
        (Some("a"), "group1-asset-output-tokens-permin"),
        (Some("a/b"), "group2-asset-output-tokens-permin"),
        (Some("a/b/c"), "group3-asset-output-tokens-permin"),
    ] {
        let group: Option<KeyId> = group.map(|group| group.parse().unwrap());
        assert_eq!(policy_name(group.as_ref(), rule), name);
    }
}
