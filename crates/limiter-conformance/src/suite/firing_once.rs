//! Each threshold fires once in a window, whatever is given back, repeated, raced for, or done to the clock.

use std::collections::BTreeMap;

use limiter_core::{Crossing, Limits, Timestamp};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    suite.story("what_is_given_back_and_used_again_fires_nothing_again", |world| {
        let key = world.member(generous_config().with_budget(millionths(100)));
        key.reserving_fires("r1", both(80), [MOST_TOKENS, "80 % of the budget"]);
        key.settling_fires("r1", nothing(), []);
        for id in ["r2", "r3"] {
            key.reserving_fires(id, both(80), []).cancel(id);
        }
        assert_eq!(key.uses([1, 0, 1, 0]).spent(), 0);
        key.fires(both(80), []).fires(both(20), [ALL_TOKENS, "100 % of the budget"]);
    });

    suite.story("a_count_that_swings_about_its_limit_fires_once", |world| {
        let key = world.limited(requests_per_day(1));
        let both = ["80 % of global/day/requests", "100 % of global/day/requests"];
        key.reserving_fires("r0", requests(1), both).cancel("r0");
        for id in ["r1", "r2", "r3", "r4"] {
            key.reserving_fires(id, requests(1), []).cancel(id);
        }
    });

    // Of a call under a known id, in whatever way it is made.
    suite.story("a_repetition_fires_nothing", |world| {
        let key = world.limited(requests_per_day(10));
        let check = || fired(&key.check_once("q1", None, requests(8)));
        assert_eq!(check(), ["80 % of global/day/requests"]);
        key.reserving_fires("r1", requests(1), []);
        key.recording_fires("q2", requests(1), ["100 % of global/day/requests"]);
        for _ in 0..2 {
            assert!(check().is_empty());
            key.reserving_fires("r1", requests(1), []).recording_fires("q2", requests(1), []);
        }
    });

    suite.calls("a_repeated_correction_fires_nothing", |key| {
        key.reserve("r1", tokens(0, 10));
        key.amending_fires("r1", output(90), [MOST_TOKENS]).amending_fires("r1", output(90), []);
        key.settling_fires("r1", output(120), [ALL_TOKENS]).settling_fires("r1", output(120), []);
    });

    // The day, which goes on, fires nothing more until it is another one.
    suite.story("a_new_window_fires_again", |world| {
        let key = world.limited(hundred_a_minute_and_a_day());
        let reached = [MOST_TOKENS, "80 % of global/day/tokens"];
        key.reserving_fires("r1", tokens(0, 80), reached);
        key.after(MINUTE).settling_fires("r1", output(10), []).fires(tokens(0, 80), [MOST_TOKENS]);
        world.set_clock(MIDNIGHT);
        key.fires(tokens(0, 80), reached);
    });

    // The counts are carried over, and so are the thresholds that have fired.
    suite.story("a_rebase_fires_nothing_again", |world| {
        let key = world.limited(hundred_a_minute_and_a_day());
        key.after(10 * DAY).fires(tokens(0, 80), [MOST_TOKENS, "80 % of global/day/tokens"]);
        key.at(0).fires(tokens(0, 19), []).denied(None, tokens(0, 2));
        key.fires(tokens(0, 1), [ALL_TOKENS, "100 % of global/day/tokens"]);
    });

    // Nor does a small step back.
    suite.calls("a_rebase_by_a_denial_fires_nothing_again", |key| {
        key.after(10 * DAY).fires(tokens(0, 80), [MOST_TOKENS]);
        key.at(0).denied(None, tokens(0, 21)).fires(tokens(0, 9), []);
        key.at(-1).fires(tokens(0, 10), []);
    });

    // Its limits were cleared, ended, and were set again: these are other counts, also where the day is still the same.
    suite.story("a_scope_that_is_counted_again_fires_again", |world| {
        let key = world.member(named("ci").with_asset(asset("m1"), tokens_per_minute(100)));
        let fires = || fired(&key.check("m1", tokens(0, 80)));
        assert_eq!(fires(), ["80 % of m1/minute/tokens"]);
        for limits in [Limits::NONE, tokens_per_minute(100)] {
            key.update(|config| config.assets = [(asset("m1"), limits)].into());
            key.after(MINUTE);
        }
        assert_eq!(fires(), ["80 % of m1/minute/tokens"]);
    });

    // Each of 64 callers reserves, gives most of it back, and calls on.
    suite.story("of_many_callers_one_sees_a_threshold_fire", |world| {
        let all = limits(|it| it.requests_per_minute(CALLS).tokens_per_day(10 * CALLS));
        let config = named("busy").with_global(all).with_budget(millionths(CALLS));
        let key = world.member(config.with_asset(asset("m1"), requests_per_day(CALLS)));
        let seen = at_once(CALLERS, |caller| {
            let (id, charge) = (format!("r{caller}"), tokens(4, 16).with_credits(millionths(2)));
            let reserved = key.try_reserve(&id, Some("m1"), charge, DAY).expect("it is new");
            let mut seen = crossed(&reserved);
            let settled = key.try_settle(&id, output(1).with_credits(millionths(1)));
            seen.extend(settled.expect("the reservation is known").crossed);
            for call in 1..ROUNDS {
                let charge = tokens(5, 5).with_credits(millionths(1));
                let decision = match call % 2 {
                    0 => key.check("m1", charge),
                    _ => key.check_once(&format!("q{caller}/{call}"), Some("m1"), charge),
                };
                seen.extend(crossed(&decision));
            }
            seen
        });
        let mut expected = [
            "80 % of global/minute/requests",
            "100 % of global/minute/requests",
            "80 % of global/day/tokens",
            "80 % of m1/day/requests",
            "100 % of m1/day/requests",
            "80 % of the budget",
            "100 % of the budget",
        ];
        expected.sort_unstable();
        let counted = counted(&seen.concat());
        assert!(counted.values().all(|times| *times == 1), "{counted:#?}");
        assert!(counted.keys().map(|(words, _)| words).eq(&expected), "{counted:#?}");
    });

    // The minute ends while they call. The day goes on.
    suite.story("a_window_that_ends_amid_calls_fires_each_threshold_once", |world| {
        let both = limits(|it| it.requests_per_minute(200).requests_per_day(300));
        let key = world.member(named("busy").with_global(both));
        let mut seen = at_once(CALLERS, |caller| {
            let mut seen = Vec::new();
            for call in 0..ROUNDS {
                if (caller, call) == (0, ROUNDS / 2) {
                    world.advance(MINUTE);
                }
                seen.extend(crossed(&key.check(None, requests(1))));
            }
            seen
        })
        .concat();
        // The rest of this minute and of the day is used up in this one and the next.
        for _ in 0..2 {
            loop {
                let decision = key.check(None, requests(1));
                seen.extend(crossed(&decision));
                if !decision.is_allowed() {
                    break;
                }
            }
            world.advance(MINUTE);
        }
        let counted = counted(&seen);
        assert!(counted.values().all(|times| *times == 1), "{counted:#?}");
        for words in ["80 % of global/day/requests", "100 % of global/day/requests"] {
            let of_the_day = (words.to_owned(), Some(MIDNIGHT));
            assert!(counted.contains_key(&of_the_day), "{words}: {counted:#?}");
        }
    });
}

fn hundred_a_minute_and_a_day() -> Limits {
    limits(|it| it.tokens_per_minute(100).tokens_per_day(100))
}

/// How often each threshold has fired, in each window.
fn counted(seen: &[Crossing]) -> BTreeMap<(String, Option<Timestamp>), usize> {
    let mut times = BTreeMap::new();
    for (crossing, words) in seen.iter().zip(in_words(seen)) {
        *times.entry((words, crossing.resets_at)).or_default() += 1;
    }
    times
}

const CALLERS: usize = 64;
/// Of each caller.
const ROUNDS: usize = 10;
/// Of all callers.
const CALLS: u64 = 640;
