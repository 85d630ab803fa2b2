//! Assets that are not listed meet the limits of others together, or may not be called.

use limiter_core::{DenialReason, KeyConfig, Limits, Other, Scope, ScopeId, Unit, Window};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // A call of no asset meets the limits over all calls alone, and so does one of an asset that is listed.
    suite.story("assets_that_are_not_listed_share_the_limits_of_others", |world| {
        let config = named("ci").with_asset(asset("m1"), requests_per_day(9));
        let key = world.member(config.with_other(requests_per_minute(2)));
        key.admit("a", 1).admit("b", 1).admit(None, 3).admit("m1", 3);
        let denied = key.check("c", requests(1));
        let violated: Vec<_> =
            denied.denied().and_then(|it| it.exceeded()).expect("a limit").violations().collect();
        assert_eq!(violated.len(), 1);
        assert_eq!(violated[0].rule.scope, Scope::Other);
        assert_eq!(key.other().account.requests(), 2);
        key.after(MINUTE).admit("c", 2).denied("a", requests(1));
    });

    suite.story("made_up_assets_create_no_state_under_limits_of_others", |world| {
        let key = world.member(named("ci").with_other(requests_per_day(1_000)));
        for number in 0..1_000 {
            key.admit(format!("made up {number}").as_str(), 1);
        }
        let scopes: Vec<_> = key.usage().scopes.into_iter().map(|it| it.scope).collect();
        assert_eq!(scopes, [ScopeId::GLOBAL, ScopeId::OTHER]);
        key.denied("another", requests(1));
    });

    suite.story("an_asset_whose_first_limit_is_pending_meets_others_too", |world| {
        let key = world.member(named("ci").with_other(requests_per_minute(2)));
        key.update(|config| config.assets = [(asset("m1"), requests_per_minute(1))].into());
        key.admit("m1", 2).denied("m1", requests(1));
        assert_eq!(key.asset("m1").account.requests(), 2);
        let scopes = |key: &Key<'_>| -> Vec<_> {
            key.peek("m1", requests(0)).rules().map(|rule| rule.rule.scope).collect()
        };
        assert_eq!(scopes(&key), [Scope::Other]);
        key.after(MINUTE).admit("m1", 1).denied("m1", requests(1));
        assert_eq!(scopes(&key), [Scope::Asset]);
    });

    suite.story("an_asset_that_is_listed_without_limits_is_only_counted", |world| {
        let config = named("ci").with_asset(asset("m1"), Limits::NONE);
        let key = world.member(config.with_other(requests_per_minute(1)));
        key.admit("m1", 5);
        let m1 = key.asset("m1");
        assert_eq!((m1.account.requests(), m1.rules), (5, Vec::new()));
        key.after(DAY).admit("m1", 1);
        assert_eq!(key.asset("m1").account.requests(), 1);
    });

    // Until its day is over, it does not meet the limits of others.
    suite.story("an_asset_that_is_no_longer_listed_keeps_its_scope_for_the_day", |world| {
        let config = named("ci").with_asset(asset("m1"), requests_per_minute(3));
        let key = world.member(config.with_other(requests_per_minute(1)));
        key.admit("m1", 1).update(|config| config.assets.clear());
        key.admit("m1", 2).denied("m1", requests(1));
        key.after(MINUTE).admit("m1", 5);
        assert_eq!(key.asset("m1").account.requests(), 8);
        world.set_clock(MIDNIGHT);
        assert_eq!(key.scope(&ScopeId::asset(asset("m1"))), None);
        key.admit("m1", 1).denied("m1", requests(1));
    });

    // A surplus goes back to where the call was counted, and nowhere else.
    suite.story("a_call_of_others_is_settled_where_it_was_counted", |world| {
        let key = world.member(named("ci").with_other(tokens_per_minute(100)));
        key.reserve_for(DAY, "r1", Some("a"), tokens(0, 60)).settle("r1", output(10));
        assert_eq!(used_of(&key.other(), Window::Minute, Unit::Tokens), 10);
        key.reserve_for(DAY, "r2", Some("a"), tokens(0, 60));
        key.update_now(|config| config.assets = [(asset("a"), tokens_per_minute(50))].into());
        key.settle("r2", output(70));
        assert_eq!(used_of(&key.other(), Window::Minute, Unit::Tokens), 80);
        let own = used_of(&key.asset("a"), Window::Minute, Unit::Tokens);
        assert_eq!(own, 10, "what exceeds the estimate");
    });

    // An amendment is decided by the rules that its call meets now.
    suite.story("an_amendment_meets_others_only_while_its_asset_is_not_listed", |world| {
        let key = world.member(named("ci").with_other(tokens_per_minute(100)));
        key.reserve_for(DAY, "r1", Some("a"), tokens(0, 60));
        let denied = key.try_amend("r1", output(101)).expect("the reservation is known");
        assert!(denied.denied().is_some(), "{denied:?}");
        key.update(|config| config.assets = [(asset("a"), Limits::NONE)].into());
        let amended = key.try_amend("r1", output(101)).expect("the reservation is known");
        assert!(amended.is_charged() && amended.rules().count() == 0, "{amended:?}");
        assert_eq!(key.global().account.output_tokens(), 101);
    });

    let denying = |config: KeyConfig| config.with_other(Other::Denied);
    suite.story("only_listed_assets_may_be_called_where_others_are_denied", move |world| {
        let key = world.member(denying(named("ci").with_asset(asset("m1"), Limits::NONE)));
        key.admit("m1", 1).admit(None, 1);
        let denied = key.check("a", requests(1));
        assert_eq!(reason(&denied), &DenialReason::AssetDenied { group: None });
        assert_eq!(denied.denied().and_then(|it| it.retry_at()), None);
        assert_eq!(key.global().account.requests(), 2, "a denial is free");
    });

    suite.story("a_key_in_shadow_may_call_what_it_would_be_denied", move |world| {
        let key = world.member(denying(named("ci")).with_shadow(true));
        let decision = key.check("a", requests(1));
        let shadowed = decision.shadowed().expect("the denial is shown");
        assert_eq!(shadowed.reason(), &DenialReason::AssetDenied { group: None });
        assert_eq!(key.global().account.requests(), 0, "nothing is charged");
    });

    // It takes effect at once, for an asset that was listed too.
    suite.story("others_are_denied_and_let_in_again_at_once", move |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), requests_per_day(9)));
        key.reserve_for(DAY, "r1", Some("m1"), tokens(0, 5)).update(|config| {
            config.assets.clear();
            config.other = Other::Denied;
        });
        assert_eq!(
            reason(&key.check("m1", requests(1))),
            &DenialReason::AssetDenied { group: None }
        );
        let amended = key.try_amend("r1", output(9)).expect("the reservation is known");
        assert_eq!(reason(&amended), &DenialReason::AssetDenied { group: None });
        key.amend("r1", output(4)).settle("r1", output(7));
        key.update(|config| config.other = Other::default());
        key.admit("m1", 1).admit("a", 1);
    });
}
