//! Many callers call one key at once: exactly what its limits allow is admitted, and the totals are exact afterwards.

use limiter_core::{Charge, Decision, KeyConfig, Unit, Usage, Window};

use super::prelude::*;

pub(super) fn stories(suite: &mut Suite) {
    // Each of the 1,000 calls that are admitted leaves another rest.
    let config = named("busy").with_global(requests_per_minute(1_000));
    let one = |_| (None, requests(1));
    let leases = suite.source.leases;
    race(
        suite,
        "exactly_the_limit_of_requests_is_admitted",
        config,
        one,
        move |admitted, usage| {
            assert_eq!((admitted.len(), minute(&usage, Unit::Requests)), (1_000, 1_000));
            if leases {
                return;
            }
            let rests = admitted.iter().flat_map(Decision::rules).map(|rule| rule.remaining);
            let mut rests: Vec<_> = rests.collect();
            rests.sort_unstable();
            assert!(rests.into_iter().eq(0..1_000));
        },
    );

    let config = named("busy").with_global(tokens_per_minute(1_000_000));
    let call = |_| (None, tokens(1_500, 1_000));
    race(suite, "exactly_the_limit_of_tokens_is_admitted", config, call, |admitted, usage| {
        assert_eq!(admitted.len(), 400);
        assert_eq!(usage.scopes[0].account.requests(), 400);
        assert_eq!(minute(&usage, Unit::Tokens), 1_000_000);
    });

    // A call that does not fit is denied.
    let config = named("busy").with_global(tokens_per_minute(9_999));
    let call = |_| (None, tokens(0, 2_500));
    race(suite, "a_rest_that_is_too_small_stays", config, call, |admitted, usage| {
        assert_eq!((admitted.len(), minute(&usage, Unit::Tokens)), (3, 7_500));
    });

    // No count exceeds its limit, and the sums agree.
    let config = named("busy").with_global(requests_per_minute(500));
    let with_asset = |config: KeyConfig, id| config.with_asset(asset(id), requests_per_day(150));
    let config = ASSETS.into_iter().fold(config, with_asset);
    let call = |number: usize| (Some(ASSETS[number % 4]), requests(1));
    race(suite, "mixed_assets_share_one_global_limit", config, call, |admitted, usage| {
        let by_asset: Vec<_> = usage.scopes[1..].iter().map(|it| it.account.requests()).collect();
        assert!(by_asset.iter().all(|used| *used <= 150), "{by_asset:?}");
        assert_eq!((admitted.len(), by_asset.iter().sum()), (500, 500));
        assert_eq!(minute(&usage, Unit::Requests), 500);
    });

    let config = named("busy").with_global(requests_per_minute(4_000));
    let config = config.with_asset(asset("m1"), requests_per_minute(100));
    let call = |_| (Some("m1"), tokens(1, 1));
    let name = "what_an_asset_denies_costs_the_global_limit_nothing";
    race(suite, name, config, call, |admitted, usage| {
        assert_eq!(admitted.len(), 100);
        assert_eq!(minute(&usage, Unit::Requests), 100);
        assert_eq!(usage.scopes[0].account.amount(Unit::Tokens), 200);
    });

    let config = named("busy").with_budget(millionths(1_000));
    let call = |_| (None, spend(3));
    race(suite, "a_budget_is_spent_exactly", config, call, |admitted, usage| {
        assert_eq!((admitted.len(), usage.credits.spent), (333, millionths(999)));
    });
}

/// Adds a story in which 4,000 calls are made, and what was admitted and the usage afterwards judged; this is repeated with
/// other keys, as a race does not go wrong each time.
fn race(
    suite: &mut Suite,
    name: &str,
    config: KeyConfig,
    call: impl Fn(usize) -> (Option<&'static str>, Charge) + Send + Sync + 'static,
    judge: impl Fn(Vec<Decision>, Usage) + Send + 'static,
) {
    suite.story(name, move |world| {
        for round in 0..ROUNDS {
            let name = named(&format!("busy {round}")).name;
            let key = world.member(KeyConfig { name, ..config.clone() });
            let admitted = at_once(CALLERS, |_| {
                let decisions = (0..CALLS).map(|number| {
                    let (called, charge) = call(number);
                    key.check(called, charge)
                });
                decisions.filter(Decision::is_allowed).collect::<Vec<_>>()
            });
            judge(admitted.concat(), key.usage());
        }
    });
}

/// What a limit of the minute has counted over all calls.
fn minute(usage: &Usage, unit: Unit) -> u64 {
    used_of(&usage.scopes[0], Window::Minute, unit)
}

const ASSETS: [&str; 4] = ["m1", "m2", "m3", "m4"];
/// Of each caller.
const CALLS: usize = 500;
const ROUNDS: usize = 5;
