//! Thresholds: the charge that is the first to reach a share of a limit fires its threshold.

use limiter_core::{Crossing, MAX_COUNT, Timestamp};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // The eighth of ten, and the tenth.
    suite.story("a_threshold_shows_its_limit_the_count_and_the_reset", |world| {
        let key = world.limited(requests_per_minute(10));
        let crossed = [(); 10].map(|()| crossed(&key.check(None, requests(1)))).concat();
        let reset = Some(NEXT_MINUTE);
        assert_eq!(shown(&crossed), [(80, 10, 8, reset), (100, 10, 10, reset)]);
    });

    // In rising order, and both with all that is used.
    suite.calls("a_call_that_reaches_both_shares_fires_both", |key| {
        let crossed = crossed(&key.check(None, tokens(40, 60)));
        assert_eq!(in_words(&crossed), [MOST_TOKENS, ALL_TOKENS]);
        let reset = Some(NEXT_MINUTE);
        assert_eq!(shown(&crossed), [(80, 100, 100, reset), (100, 100, 100, reset)]);
    });

    // 80 % of 11 are 8.8: eight do not reach them, nine do.
    suite.story("a_fraction_is_reached_with_the_unit_that_passes_it", |world| {
        let key = world.limited(requests_per_minute(11));
        key.admit(None, 7).fires(requests(1), []);
        key.fires(requests(1), ["80 % of global/minute/requests"]);
    });

    // In the order in which rules are listed.
    suite.story("each_rule_fires_for_itself", |world| {
        let all = limits(|it| {
            let it = it.requests_per_minute(5).requests_per_day(10);
            it.tokens_per_minute(100).tokens_per_day(160)
        });
        let key = world.limited(all);
        let mut seen = Vec::new();
        for call in 1..=10 {
            for words in fired(&key.check(None, tokens(8, 8))) {
                seen.push(format!("{call}: {words}"));
            }
            if call == 5 {
                world.advance(MINUTE);
            }
        }
        assert_eq!(
            seen,
            [
                "4: 80 % of global/minute/requests",
                "5: 100 % of global/minute/requests",
                "5: 80 % of global/minute/tokens",
                "8: 80 % of global/day/requests",
                "8: 80 % of global/day/tokens",
                "9: 80 % of global/minute/requests",
                "10: 100 % of global/minute/requests",
                "10: 80 % of global/minute/tokens",
                "10: 100 % of global/day/requests",
                "10: 100 % of global/day/tokens",
            ]
        );
    });

    // A call may reach a share of the asset's limit, of the key's, or of both; the key's comes first.
    suite.story("an_asset_and_its_key_fire_each_for_itself", |world| {
        let config = named("ci").with_global(requests_per_minute(10));
        let key = world.member(config.with_asset(asset("m1"), requests_per_minute(5)));
        let calls = [None, None, None, None, Some("m1"), Some("m1"), Some("m1"), Some("m1")];
        let seen = calls.map(|called| fired(&key.check(called, requests(1)))).concat();
        assert_eq!(seen, ["80 % of global/minute/requests", "80 % of m1/minute/requests"]);
        assert!(fired(&key.check("made up", requests(1))).is_empty());
        let last = fired(&key.check("m1", requests(1)));
        assert_eq!(last, ["100 % of global/minute/requests", "100 % of m1/minute/requests"]);
    });

    suite.story("each_asset_fires_for_itself", |world| {
        let one = requests_per_day(1);
        let config = named("ci").with_asset(asset("m1"), one.clone()).with_asset(asset("m2"), one);
        let key = world.member(config);
        for called in ["m1", "m2"] {
            let both = [80, 100].map(|it| format!("{it} % of {called}/day/requests"));
            assert_eq!(fired(&key.check(called, requests(1))), both);
        }
    });

    // It has no window: a threshold fires once, however long the key lives.
    suite.story("what_is_spent_fires_thresholds_of_the_budget", |world| {
        let key = world.member(named("ci").with_budget(millionths(10)));
        let crossed = crossed(&key.fires(spend(7), []).check(None, spend(1)));
        assert_eq!(in_words(&crossed), ["80 % of the budget"]);
        assert_eq!(shown(&crossed), [(80, 10, 8, None)]);
        key.after(DAY).fires(spend(1), []).fires(spend(1), ["100 % of the budget"]);
    });

    suite.story("of_a_limit_of_output_tokens_input_reaches_nothing", |world| {
        let output_tokens = limits(|it| it.output_tokens_per_day(100));
        let key = world.limited(output_tokens);
        key.fires(tokens(1_000, 79), [])
            .fires(tokens(1_000, 1), ["80 % of global/day/output_tokens"]);
    });

    suite.story("a_count_without_a_limit_fires_nothing", |world| {
        let key = world.limited(requests_per_day(9));
        let all = tokens(0, MAX_COUNT).with_credits(millionths(MAX_COUNT));
        key.fires(all, []);
        assert!(fired(&key.check("m1", all)).is_empty());
    });

    // Neither for a call of nothing nor for one that was admitted elsewhere.
    suite.story("a_limit_of_zero_fires_nothing", |world| {
        let zero = limits(|it| it.tokens_per_minute(0).requests_per_day(0));
        let key = world.member(named("ci").with_global(zero).with_budget(millionths(0)));
        let charge = tokens(3, 4).with_credits(millionths(5));
        key.fires(requests(0), []).recording_fires("r1", charge, []);
    });

    suite.story("a_limit_of_one_fires_both_with_its_one", |world| {
        let key = world.limited(requests_per_day(1));
        let both = ["80 % of global/day/requests", "100 % of global/day/requests"];
        key.fires(requests(1), both);
    });

    // Where a float would be off by some.
    suite.story("the_largest_limit_fires_to_the_unit", |world| {
        let largest = limits(|it| it.tokens_per_day(MAX_COUNT));
        let config = named("ci").with_global(largest).with_budget(millionths(MAX_COUNT));
        let key = world.member(config);
        // 4/5 of 2^53 − 1 are 7,205,759,403,792,792.8.
        let share = 7_205_759_403_792_793;
        key.fires(both(share - 1), []);
        key.fires(both(1), ["80 % of global/day/tokens", "80 % of the budget"]);
        key.fires(both(MAX_COUNT - share - 1), []);
        key.fires(both(1), ["100 % of global/day/tokens", "100 % of the budget"]);
    });

    // It leaves them to the call that fits.
    suite.calls("a_denied_call_fires_nothing", |key| {
        key.denied(None, tokens(0, 101)).fires(tokens(0, 79), []);
        key.denied(None, tokens(0, 22)).fires(tokens(0, 1), [MOST_TOKENS]);
    });

    // As often as it is repeated; and the call then fires them all the same.
    suite.calls("a_peek_answers_what_the_call_would_fire", |key| {
        for _ in 0..2 {
            assert_eq!(fired(&key.peek(None, tokens(0, 80))), [MOST_TOKENS]);
        }
        key.fires(tokens(0, 80), [MOST_TOKENS]);
        assert!(fired(&key.peek(None, tokens(0, 1))).is_empty());
    });

    // By the estimate, by what it is amended to, and by its actual cost.
    suite.story("a_reserved_call_fires_at_each_of_its_steps", |world| {
        let all = limits(|it| it.requests_per_minute(1).tokens_per_minute(100).tokens_per_day(200));
        let both = ["80 % of global/minute/requests", "100 % of global/minute/requests"];
        let key = world.limited(all);
        key.reserving_fires("r1", tokens(0, 50), both).amending_fires(
            "r1",
            output(90),
            [MOST_TOKENS],
        );
        key.settling_fires("r1", output(160), [ALL_TOKENS, "80 % of global/day/tokens"]);
    });

    // It is the first charge of that minute.
    suite.calls("an_overrun_fires_in_the_minute_open_then", |key| {
        key.reserve("r1", tokens(0, 90)).after(MINUTE);
        let settled = key.try_settle("r1", output(170)).expect("the reservation is known");
        assert_eq!(in_words(&settled.crossed), [MOST_TOKENS]);
        assert_eq!(shown(&settled.crossed), [(80, 100, 80, Some(NEXT_MINUTE.after(MINUTE)))]);
    });

    // Also past the limit and the budget, and with all that is used by then.
    suite.story("what_was_admitted_elsewhere_fires", |world| {
        let key = world.member(generous_config().with_budget(millionths(10)));
        let charge = tokens(0, 250).with_credits(millionths(9));
        let crossed = key.try_record("r1", None, charge, None).expect("it is never refused");
        assert_eq!(in_words(&crossed), [MOST_TOKENS, ALL_TOKENS, "80 % of the budget"]);
        assert!(crossed.iter().map(|crossing| crossing.used).eq([250, 250, 9]));
    });
}

/// Percent, limit, usage and reset of thresholds.
fn shown(crossed: &[Crossing]) -> Vec<(u8, u64, u64, Option<Timestamp>)> {
    let shown = crossed.iter().map(|it| (it.percent, it.limit, it.used, it.resets_at));
    shown.collect()
}
