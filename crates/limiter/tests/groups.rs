//! Groups, as users of a limiter meet them: managed as keys are, and seen by guards and events.

use futures_util::FutureExt;
use limiter::decision::SettledAs;
use limiter::memory::MemoryStore;
use limiter::redis::RedisStore;
use limiter::{
    Charge, DenialReason, KeyConfig, KeyId, KeysError, Limiter, LimiterBuilder, Limits,
    ManualClock, NewKey, Reserved, Search, Timestamp, Totals,
};
use limiter_test_servers::{fresh_name, shared};

use crate::{today, total_tokens, used};

/// The group `acme`, the group `acme/search` in it, and the key `acme/search/ci`.
struct Acme {
    limiter: Limiter,
    admin: KeyId,
    access_key: limiter::AccessKey,
}

impl Acme {
    /// Each level has this configuration; its name is its id.
    async fn new(builder: LimiterBuilder, config: impl Fn(&str) -> KeyConfig) -> Self {
        let limiter = builder.build();
        let admin = NewKey::admin(KeyConfig::named("admin").unwrap());
        let admin = limiter.bootstrap("home".parse().unwrap(), admin).await.unwrap().record.id;
        let keys = limiter.keys_as(&admin);
        for group in [ACME, SEARCH] {
            keys.create(NewKey::group(id(group), config(group))).await.unwrap();
        }
        let ci = keys.create(NewKey::member(config(CI)).with_id(id(CI))).await.unwrap();
        Self { limiter, admin, access_key: ci.access_key.unwrap() }
    }

    async fn tokens_used(&self, level: &str) -> u64 {
        total_tokens(&today(&self.limiter.usage(&id(level)).await.unwrap().unwrap()))
    }

    async fn requests_used(&self, level: &str) -> u64 {
        today(&self.limiter.usage(&id(level)).await.unwrap().unwrap()).requests()
    }
}

/// In memory and on Redis, at noon.
async fn on_each_store() -> [LimiterBuilder; 2] {
    let clock = ManualClock::at(NOON);
    let redis = RedisStore::builder(shared().url()).key_prefix(fresh_name("groups"));
    let redis = redis.clock(clock.clone()).connect().await.unwrap();
    [Limiter::builder(MemoryStore::builder().clock(clock).build()), Limiter::builder(redis)]
}

fn id(text: &str) -> KeyId {
    text.parse().unwrap()
}

fn named(level: &str) -> KeyConfig {
    KeyConfig::named(level).unwrap()
}

fn tokens_per_day(level: &str, tokens: u64) -> KeyConfig {
    named(level).with_global(Limits::builder().tokens_per_day(tokens).build().unwrap())
}

#[tokio::test]
async fn groups_are_managed_as_keys_are() {
    for builder in on_each_store().await {
        let acme = Acme::new(builder, |level| tokens_per_day(level, 100)).await;
        let (limiter, keys) = (&acme.limiter, acme.limiter.keys_as(&acme.admin));
        let (root, search, ci) = (&id(ACME), &id(SEARCH), &id(CI));
        let call = Charge::request().with_tokens(0, 60).unwrap();
        assert!(limiter.check_and_consume(ci, None, &call).await.unwrap().is_allowed());
        for level in [root, search, ci] {
            assert_eq!(used(&keys.usage(level).await.unwrap(), "global/day/tokens"), 60);
            let history = keys.history(level, 1).await.unwrap();
            assert_eq!(history[0].scopes[0].account, call, "{level}");
        }

        let record = keys.get(search).await.unwrap();
        keys.update_now(search, record.version, &tokens_per_day(SEARCH, 70)).await.unwrap();
        let denied = limiter.check_and_consume(ci, None, &call).await.unwrap();
        let text = denied.denied().unwrap().to_string();
        assert!(text.contains("60 of 70 tokens per day are used for group acme/search"), "{text}");
        for level in [root, search, ci] {
            keys.reset(level).await.unwrap();
        }
        assert!(limiter.check_and_consume(ci, None, &call).await.unwrap().is_allowed());

        let beneath = async |group: &KeyId| {
            let page = keys.search(&Search::all().beneath(group.clone())).await.unwrap();
            page.keys.into_iter().map(|key| key.id.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(beneath(root).await, [SEARCH, CI]);
        assert_eq!(beneath(search).await, [CI]);

        let elsewhere = NewKey::member(named("lost")).beneath(id("acme/chat"));
        let refused = keys.create(elsewhere).await.unwrap_err();
        assert!(matches!(&refused, KeysError::NoGroup(group) if *group == id("acme/chat")));
        let refused = keys.delete(root).await.unwrap_err();
        assert!(matches!(refused, KeysError::NotEmpty(group) if group == *root));
        let member = limiter.keys(&acme.access_key);
        for group in [root, search] {
            assert!(matches!(member.usage(group).await, Err(KeysError::Forbidden)));
            assert!(matches!(member.history(group, 1).await, Err(KeysError::Forbidden)));
        }
        for level in [ci, search, root] {
            keys.delete(level).await.unwrap();
            assert!(matches!(keys.get(level).await, Err(KeysError::NotFound(_))));
        }
    }
}

#[tokio::test]
async fn a_group_makes_no_calls() {
    for builder in on_each_store().await {
        let acme = Acme::new(builder, named).await;
        let (limiter, group) = (&acme.limiter, &id(ACME));
        let decision = limiter.check_and_consume(group, None, &Charge::request()).await.unwrap();
        assert_eq!(*decision.denied().unwrap().reason(), DenialReason::KeyUnknown);
        assert!(limiter.handle(group, None).await.unwrap().is_none());
    }
}

/// The group would deny the call and is not charged. The other levels are, and the guard corrects those.
#[tokio::test]
async fn a_guard_corrects_the_levels_that_were_charged_beside_one_in_shadow() {
    for shadowed in [ACME, SEARCH, CI] {
        for builder in on_each_store().await {
            let config = |level: &str| {
                let tokens = if level == shadowed { 10 } else { 1_000 };
                tokens_per_day(level, tokens).with_shadow(level == shadowed)
            };
            let acme = Acme::new(builder, config).await;
            let estimate = Charge::request().with_tokens(0, 50).unwrap();
            let reserved = acme.limiter.reserve(&id(CI), None, &estimate).await.unwrap();
            let Reserved::Allowed(mut call) = reserved else { panic!("it is let through") };
            assert!(call.decision().shadowed().is_some());
            let of = |level: &str, tokens| if level == shadowed { 0 } else { tokens };
            for level in LEVELS {
                assert_eq!(acme.tokens_used(level).await, of(level, 50), "{level}");
            }
            let less = Totals::unchanged().with_output_tokens(40).unwrap();
            assert!(call.amend(&less).await.unwrap().is_charged());
            assert_eq!(call.estimate().output_tokens(), 40);
            for level in LEVELS {
                assert_eq!(acme.tokens_used(level).await, of(level, 40), "{level}");
            }
            let actual = Totals::unchanged().with_output_tokens(20).unwrap();
            let settled = call.settle(&actual).await.unwrap();
            assert_eq!(settled.outcome, SettledAs::First);
            for level in LEVELS {
                assert_eq!(acme.tokens_used(level).await, of(level, 20), "{level}");
            }
        }
    }
}

#[tokio::test]
async fn a_limiter_in_shadow_charges_no_level_of_a_call_that_any_level_would_deny() {
    for denying in LEVELS {
        for builder in on_each_store().await {
            let config = |level: &str| tokens_per_day(level, if level == denying { 1 } else { 99 });
            let acme = Acme::new(builder.shadow(true), config).await;
            let call = Charge::request().with_tokens(0, 2).unwrap();
            let decision = acme.limiter.check_and_consume(&id(CI), None, &call).await.unwrap();
            assert!(decision.is_allowed() && !decision.is_charged(), "{decision:?}");
            let reserved = acme.limiter.reserve(&id(CI), None, &call).await.unwrap();
            let Reserved::Allowed(mut call) = reserved else { panic!("it is let through") };
            let settled = call.settle(&Totals::unchanged()).await.unwrap();
            assert_eq!(settled.outcome, SettledAs::Uncharged);
            for level in LEVELS {
                assert_eq!(acme.requests_used(level).await, 0, "{level}");
            }
        }
    }
}

#[tokio::test]
async fn events_name_the_group_whose_limit_it_is_and_the_whole_path_of_the_key() {
    for builder in on_each_store().await {
        let limit = |level: &str| if level == ACME { 10 } else { 1_000 };
        let acme = Acme::new(builder, |level| tokens_per_day(level, limit(level))).await;
        let mut thresholds = acme.limiter.threshold_events();
        let mut usage = acme.limiter.usage_events();
        let call = Charge::request().with_tokens(0, 8).unwrap();
        assert!(acme.limiter.check_and_consume(&id(CI), None, &call).await.unwrap().is_allowed());
        let event = thresholds.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!((event.key.as_str(), &event.crossing.group), (CI, &Some(id(ACME))));
        assert_eq!(
            event.to_string(),
            "a call of acme/search/ci has reached 80 % of 10 tokens per day for group acme: 8, until \
             2025-10-10T00:00:00Z"
        );
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!((&json["key"], &json["group"]), (&CI.into(), &ACME.into()));
        let charged = usage.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!((charged.key.as_str(), charged.charge), (CI, call));

        // The change of a group fires what it reaches itself: the group is the key of the event.
        let keys = acme.limiter.keys_as(&acme.admin);
        let search = id(SEARCH);
        let record = keys.get(&search).await.unwrap();
        keys.update_now(&search, record.version, &tokens_per_day(SEARCH, 9)).await.unwrap();
        let event = thresholds.next().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!((event.key, event.crossing.group), (search, None));
    }
}

const ACME: &str = "acme";
const SEARCH: &str = "acme/search";
const CI: &str = "acme/search/ci";
const LEVELS: [&str; 3] = [ACME, SEARCH, CI];
const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
