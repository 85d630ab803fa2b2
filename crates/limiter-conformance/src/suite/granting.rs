//! Grants: a charge in bulk, sized by what is left, of which what was not used goes back.

use std::num::NonZeroU32;
use std::time::Duration;

use limiter_core::{Charge, Grant, GrantTerms, Limits, Other, Timestamp};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("a_grant_is_what_is_expected_where_there_is_room", |world| {
        let ci = world.limited(requests_per_minute(1_000));
        let grant = ci.granted("l1", tokens(30, 20).with_requests(10).expect("few"));
        assert_eq!(grant.charge, tokens(30, 20).with_requests(10).expect("few"));
        let rules: Vec<_> = grant.allowed.rules().map(|rule| (rule.used, rule.limit)).collect();
        assert_eq!(rules, [(10, 1_000)], "it shows the rules as they stand after it");
        ci.uses([10, 0, 10, 50]);
    });

    // The default thresholds are 80 % and 100 %, and one is reached by the last unit below it.
    suite.story("a_grant_is_a_part_of_what_is_left_up_to_the_next_threshold", |world| {
        let ci = world.limited(requests_per_minute(1_000));
        assert_eq!(ci.granted("l1", requests(900)).charge, requests(799 / 16));
        assert!(ci.at(60_000).check(None, requests(800)).is_allowed());
        assert_eq!(ci.granted("l2", requests(900)).charge, requests(199 / 16));
    });

    suite.story("it_keeps_the_proportions_of_what_is_expected", |world| {
        let ci = world.limited(limits(|it| it.output_tokens_per_day(1_601).requests_per_day(900)));
        ci.update(|config| config.thresholds = Some(limiter_core::Thresholds::NONE));
        let grant = ci.granted("l1", tokens(50, 200).with_requests(10).expect("few"));
        assert_eq!(grant.charge, tokens(25, 100).with_requests(5).expect("few"), "half of it");
    });

    // A call that asks for no credits is denied when none are left. As long as some are held and not used, some are left.
    suite.story("it_holds_something_of_each_unit_that_is_limited", |world| {
        let ci = world.limited(limits(|it| {
            it.requests_per_day(900).output_tokens_per_day(900).credits_per_day(millionths(900))
        }));
        let held = tokens(0, 1).with_requests(10).expect("few").with_credits(millionths(1));
        assert_eq!(ci.granted("l1", requests(10)).charge, held);
        let ci = world.member(named("sum").with_global(limits(|it| it.tokens_per_day(900))));
        assert_eq!(
            ci.granted("l1", requests(10)).charge,
            tokens(1, 0).with_requests(10).expect("few")
        );
        let ci =
            world.member(named("few").with_global(limits(|it| it.credits_per_day(millionths(15)))));
        assert_eq!(ci.grant("l1", None, requests(10)), None, "no part of it is one");
    });

    suite.story("the_least_that_is_left_at_any_level_bounds_it", |world| {
        let [acme, search, ci] = super::groups::three_levels(world);
        acme.update_now(|config| config.global = requests_per_day(1_000));
        search.update_now(|config| config.global = requests_per_day(401));
        ci.update_now(|config| config.global = requests_per_day(2_000));
        assert_eq!(ci.granted("l1", requests(50)).charge, requests(320 / 16));
        for level in [&acme, &search, &ci] {
            assert_eq!(level.calls(), 20, "{}", level.id);
        }
    });

    suite.story("where_a_part_would_be_less_than_a_request_nothing_is_granted", |world| {
        let ci = world.limited(requests_per_minute(20));
        assert_eq!(ci.grant("l1", None, requests(9)), None, "15 are left up to 80 %");
        assert_eq!(ci.calls(), 0);
    });

    suite.story("a_key_that_may_make_no_call_is_granted_nothing", |world| {
        let ci = world.limited(requests_per_minute(1_000));
        let expired = world.member(named("old").with_expiry(NOON));
        let full = world.member(named("full").with_global(requests_per_day(0)));
        let full_of_tokens =
            world.member(named("tokens").with_global(limits(|it| it.tokens_per_day(0))));
        let picky = world.member(named("picky").with_other(Other::Denied));
        let unknown = world.key(key_id("nobody"));
        for key in [&expired, &full, &full_of_tokens, &unknown, &world.first_admin()] {
            assert_eq!(key.grant("l1", None, requests(10)), None, "{}", key.id);
        }
        assert_eq!(picky.grant("l1", Some("m1"), requests(10)), None);
        assert!(ci.grant("l1", None, requests(10)).is_some());
    });

    suite.story("what_was_not_used_goes_back_at_every_level", |world| {
        let [acme, search, ci] = super::groups::three_levels(world);
        ci.granted("l1", tokens(300, 200).with_requests(10).expect("few"));
        ci.hand_back("l1", tokens(40, 50).with_requests(3).expect("few"));
        for level in [&acme, &search, &ci] {
            assert_eq!(level.global().account, tokens(40, 50).with_requests(3).expect("few"));
        }
    });

    // A message that comes late, or twice, changes nothing.
    suite.story("a_grant_that_was_handed_back_is_forgotten", |world| {
        let ci = world.limited(requests_per_minute(1_000));
        ci.granted("l1", requests(10));
        ci.hand_back("l1", requests(4)).hand_back("l1", requests(0)).hand_back("l2", requests(0));
        ci.uses([4, 0, 4, 0]).knows_no("l1");
        assert_eq!(ci.granted("l1", requests(10)).charge, requests(10), "the id is free again");
        ci.uses([14, 0, 14, 0]);
    });

    suite.story("no_more_goes_back_than_was_granted_and_no_less_than_nothing", |world| {
        let ci = world.limited(requests_per_minute(1_000));
        ci.granted("l1", requests(10));
        ci.hand_back("l1", tokens(5, 5).with_requests(12).expect("few")).uses([10, 0, 10, 0]);
    });

    suite.story("a_repeated_grant_is_the_same_and_charges_nothing", |world| {
        let ci = world.limited(requests_per_minute(1_000));
        let first = ci.granted("l1", requests(10));
        let again = ci.at(1_000).granted("l1", requests(20));
        assert_eq!((again.charge, again.lasts), (first.charge, TIME));
        ci.uses([10, 0, 10, 0]);
        assert_eq!(ci.at(59_899).granted("l1", requests(10)).lasts, TIME);
        assert_eq!(ci.at(59_999).granted("l1", requests(10)).lasts, Duration::ZERO);
    });

    suite.story("a_grant_is_raised_as_long_as_its_windows_go_on", |world| {
        let ci = world.limited(all_kinds());
        let first = ci.granted("l1", tokens(30, 20).with_requests(10).expect("few"));
        let raised = ci.at(50).raised("l1", &first, tokens(3, 2).with_requests(1).expect("few"));
        let raised = raised.expect("there is room");
        assert_eq!(
            raised.charge,
            tokens(33, 22).with_requests(11).expect("few").with_credits(millionths(2))
        );
        assert_eq!(raised.lasts, TIME);
        ci.uses_requests(11);
        let again =
            ci.at(1_000).raised("l1", &raised, requests(1)).expect("it is still remembered");
        assert_eq!(again.charge.requests(), 12);
        ci.hand_back("l1", requests(5)).uses_requests(5);
    });

    suite.story("a_raise_is_sized_as_a_new_grant_is", |world| {
        let ci = world.limited(requests_per_minute(1_000));
        let first = ci.granted("l1", requests(900));
        assert_eq!(first.charge, requests(799 / 16));
        let raised = ci.raised("l1", &first, requests(900)).expect("there is room");
        assert_eq!(raised.charge, requests(49 + (799 - 49) / 16));
        assert!(ci.check(None, requests(700)).is_allowed());
        assert_eq!(ci.raised("l1", &raised, requests(900)), None, "a sixteenth of 3 is none");
        ci.hand_back("l1", requests(10)).uses_requests(710);
    });

    // The answer to the first try was lost.
    suite.story("a_repeated_raise_is_the_same_and_charges_nothing", |world| {
        let ci = world.limited(requests_per_minute(1_000));
        let first = ci.granted("l1", requests(10));
        let raised = ci.raised("l1", &first, requests(5)).expect("there is room");
        let again = ci.at(70).raised("l1", &first, requests(7)).expect("it is remembered");
        assert_eq!((again.charge, again.lasts), (raised.charge, TIME));
        ci.uses_requests(15);
    });

    suite.story("a_grant_that_is_forgotten_or_of_another_window_is_not_raised", |world| {
        let ci = world.limited(limits(|it| it.requests_per_minute(1_000).requests_per_day(9_000)));
        let first = ci.at(59_990).granted("l1", requests(10));
        assert_eq!(ci.at(60_000).raised("l1", &first, requests(5)), None, "its minute is over");
        ci.hand_back("l1", requests(4));
        assert_eq!(ci.raised("l1", &first, requests(5)), None, "it went back");
        let second = ci.granted("l2", requests(10));
        let at_end = 60_000 + TIME.as_millis() as i64 + 1_000;
        assert_eq!(ci.at(at_end).raised("l2", &second, requests(5)), None, "it was forgotten");
        let third = ci.granted("l3", requests(10));
        ci.reset();
        assert_eq!(ci.raised("l3", &third, requests(5)), None, "the reset ended its windows");
        ci.uses_requests(0);
    });

    // Its clock counts whole milliseconds: some of the first one may have passed.
    suite.story("it_lasts_no_longer_than_any_window_and_the_key", |world| {
        let ci = world.limited(requests_per_minute(1_000));
        assert_eq!(ci.granted("l1", requests(1)).lasts, TIME);
        assert_eq!(ci.at(59_970).granted("l2", requests(1)).lasts, Duration::from_millis(29));
        let expires = Timestamp::from_unix_ms(NOON.unix_ms() + 60_050);
        let old = world.member(named("old").with_expiry(expires));
        assert_eq!(old.at(60_000).granted("l3", requests(1)).lasts, Duration::from_millis(49));
    });

    suite.story("what_goes_back_later_corrects_only_windows_that_go_on", |world| {
        let ci = world.limited(limits(|it| it.requests_per_minute(1_000).requests_per_day(9_000)));
        ci.at(59_999).granted("l1", requests(10));
        ci.at(60_000).admit(None, 2).hand_back("l1", requests(4));
        ci.uses([2, 0, 6, 0]);
    });

    // It came back a second after its time, when the store had forgotten it.
    suite.story("what_is_never_handed_back_stays_charged", |world| {
        let ci = world.limited(requests_per_day(1_000));
        ci.granted("l1", requests(10));
        ci.at(TIME.as_millis() as i64 + 1_000).hand_back("l1", requests(0));
        assert_eq!(ci.calls(), 10);
        ci.knows_no("l1");
    });

    suite.story("it_takes_no_slot_and_a_level_in_shadow_counts_as_any_other", |world| {
        let ci = world.limited(limits(|it| it.parallel(1).requests_per_day(1_000)));
        ci.granted("l1", requests(10));
        assert_eq!(ci.open(&limiter_core::ScopeId::GLOBAL), (0, 1));
        let shadow = named("shadow").with_global(requests_per_day(40)).with_shadow(true);
        let shadow = world.member(shadow);
        assert_eq!(shadow.granted("l1", requests(50)).charge, requests(31 / 16));
    });

    // At rest it is as if each call had asked for itself.
    suite.story("a_grant_of_which_all_is_used_counts_as_its_calls_do", |world| {
        let by_grant = world.limited(all_kinds());
        let by_call = world.member(named("by-call").with_global(all_kinds()));
        let call = tokens(3, 4).with_credits(millionths(500_000));
        let ten =
            tokens(30, 40).with_requests(10).expect("few").with_credits(millionths(5_000_000));
        assert_eq!(by_grant.granted("l1", ten).charge, ten);
        by_grant.hand_back("l1", ten);
        for _ in 0..10 {
            assert!(by_call.check(None, call).is_allowed());
        }
        assert_eq!(by_grant.usage().scopes, by_call.usage().scopes);
        assert_eq!(by_grant.spent(), by_call.spent());
    });
}

fn all_kinds() -> Limits {
    limits(|it| {
        it.requests_per_minute(1_000)
            .tokens_per_hour(10_000)
            .input_tokens_per_day(10_000)
            .output_tokens_per_month(10_000)
            .credits_ever(millionths(5_000_000_000))
    })
}

impl Key<'_> {
    fn grant(&self, id: &str, called: Option<&str>, expected: Charge) -> Option<Grant> {
        self.grant_on(id, called, expected, Charge::NOTHING)
    }

    fn raised(&self, id: &str, held: &Grant, expected: Charge) -> Option<Grant> {
        self.grant_on(id, None, expected, held.charge)
    }

    fn uses_requests(&self, requests: u64) -> &Self {
        assert_eq!(self.calls(), requests);
        self
    }

    fn grant_on(
        &self,
        id: &str,
        called: Option<&str>,
        expected: Charge,
        held: Charge,
    ) -> Option<Grant> {
        let (called, id) = (called.map(asset), id.parse().expect("an id"));
        let part = NonZeroU32::new(16).expect("it is not zero");
        let terms = GrantTerms { expected, held, part, time: TIME };
        let granted = self.world.store.grant(&self.id, called.as_ref(), &terms, &id);
        granted.wait().expect("the store answers")
    }

    #[track_caller]
    fn granted(&self, id: &str, expected: Charge) -> Grant {
        self.grant(id, None, expected).expect("there is room")
    }

    fn hand_back(&self, id: &str, used: Charge) -> &Self {
        let id = id.parse().expect("an id");
        let handed_back = self.world.store.hand_back(&self.id, &id, &used);
        handed_back.wait().expect("the store answers");
        self
    }
}

const TIME: Duration = Duration::from_millis(100);
