//! `retry_at` is exact: denied until then, admitted then. Without a `retry_at` no wait helps.

use limiter_core::{Credits, Decision, Timestamp};

use super::prelude::*;
use super::property::{Broken, holds_for_histories, play, player};
use crate::player::{Player, request};
use crate::replay::{Action, Answer, Call, Exceeded, Operation};

pub(super) fn stories(suite: &mut Suite) {
    // Nothing else is consumed meanwhile.
    suite.exact_story("a_charge_is_admitted_at_retry_at_and_not_a_millisecond_earlier", |world| {
        holds_for_each_denial(world, 4, |player, call, operation, retry_at| {
            if let Some(retry_at) = retry_at {
                let [before, then] = [retry_at - 1, retry_at].map(|at| answer_at(player, call, at));
                if before.is_allowed() || !then.is_allowed() {
                    return Err(format!(
                        "{}\n  a millisecond before: {before:?}\n  at {retry_at}: {then:?}",
                        operation.to_line()
                    ));
                }
            }
            Ok(true)
        });
    });

    // Every end of a minute of three days is tried; ends of days are among them. Pending changes come meanwhile.
    suite.story("a_charge_that_never_fits_is_denied_at_every_window_end", |world| {
        holds_for_each_denial(world, 20, |player, call, operation, retry_at| {
            if retry_at.is_some() {
                return Ok(true);
            }
            let first_end = (operation.at / MINUTE_MS + 1) * MINUTE_MS;
            for end in (0..MINUTES_OF_THREE_DAYS).map(|minute| first_end + minute * MINUTE_MS) {
                if answer_at(player, call, end).is_allowed() {
                    return Err(format!("{}\n  is allowed at {end}", operation.to_line()));
                }
            }
            // Once in a history, as it takes thousands of peeks.
            Ok(false)
        });
    });

    // A budget has no window.
    suite.story("an_exhausted_budget_has_no_retry", |world| {
        let broke = named("ci").with_budget(Credits::ZERO);
        let key = world.member(broke.with_global(requests_per_minute(0)));
        for instant in [NOON, NEXT_MINUTE, MIDNIGHT, MIDNIGHT.after(DAY)] {
            world.set_clock(instant);
            assert_eq!(retry_at(&key), None);
        }
    });
}

/// Asserts a property of each check of random histories that a rule denies, until it answers `false`. The property gets
/// the call, its operation and its retry.
fn holds_for_each_denial(
    world: &World,
    share: u32,
    holds: impl Fn(&Player, &Call, &Operation, Option<u64>) -> Result<bool, Broken>,
) {
    holds_for_histories(world, share, |history| {
        let mut player = player(world);
        for operation in history {
            let answer = play(&mut player, operation).wait()?;
            if let Action::Check(call) = &operation.action
                && let Answer::Denied(denial) = answer
                && let Some(Exceeded { retry_at, .. }) = denial.exceeded()
                && !holds(&player, call, operation, *retry_at)?
            {
                break;
            }
        }
        Ok(())
    });
}

/// Returns the decision on the same call at another instant. The next operation sets the clock again.
fn answer_at(player: &Player, call: &Call, at: u64) -> Decision {
    player.clock().set(request::instant(at));
    player.peek(call).wait().expect("the store answers")
}

/// Returns the instant at which a denied call may be made again.
#[track_caller]
fn retry_at(key: &Key<'_>) -> Option<Timestamp> {
    key.check(None, tokens(0, 0)).denied().expect("the call is denied").retry_at()
}

const MINUTE_MS: u64 = 60_000;
const MINUTES_OF_THREE_DAYS: u64 = 3 * 24 * 60;
