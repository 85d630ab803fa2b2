//! Properties of every state of the world, and events that some state must show.

use limiter_core::Window;
use stateright::Property;

use crate::callers::{Actual, At, Request};
use crate::server::COUNTED;
use crate::truth::{Call, Wrong, same_window};
use crate::world::{State, World};

pub(crate) const WITHIN_LIMITS: &str = "no limit is passed by more than the overruns on record";
pub(crate) const NO_STRAY_REFUND: &str = "no count is lowered by a call of another window";
pub(crate) const COUNTED_ONCE: &str =
    "what took effect is counted once, however often it is repeated";
pub(crate) const ANSWERED_ALIKE: &str =
    "what took effect is answered like that when it is repeated";
pub(crate) const FIRED_ONCE: &str =
    "each threshold fires once in a window, by the step with which the counts first reach it";
pub(crate) const ADDS_UP: &str = "the counts are what the calls that took effect add up to";

pub(crate) fn all() -> Vec<Property<World>> {
    vec![
        Property::always(WITHIN_LIMITS, is_within_limits),
        Property::always(NO_STRAY_REFUND, |_, state| !is_wrong(state, Wrong::StrayRefund)),
        Property::always(COUNTED_ONCE, |_, state| !is_wrong(state, Wrong::CountedAgain)),
        Property::always(ANSWERED_ALIKE, |_, state| !is_wrong(state, Wrong::AnsweredOtherwise)),
        Property::always(FIRED_ONCE, |_, state| !is_wrong(state, Wrong::FiredOtherwise)),
        Property::always(ADDS_UP, adds_up),
        Property::sometimes("a call is denied", |_, state| is_at(state, At::Denied)),
        Property::sometimes("a retry is replayed", |_, state| is_at(state, At::Resumed)),
        Property::sometimes("a surplus is refunded", |_, state| {
            any(state, |call| ends(call, Actual::Less) && !ends_after(call, Window::Minute))
        }),
        Property::sometimes("a surplus comes after its minute, and before midnight", |_, state| {
            any(state, |call| {
                ends(call, Actual::Less)
                    && ends_after(call, Window::Minute)
                    && !ends_after(call, Window::Day)
            })
        }),
        Property::sometimes("an overrun comes after midnight", |_, state| {
            any(state, |call| ends(call, Actual::More) && ends_after(call, Window::Day))
        }),
        Property::sometimes("an overrun stands past a limit", |_, state| is_past_a_limit(state)),
        Property::sometimes("a threshold that has fired is not reached any more", was_given_back),
        Property::sometimes("a call is amended in a later minute", |_, state| {
            any(state, |call| {
                call.amended_at.is_some_and(|at| !same_window(Window::Minute, call.admitted_at, at))
            })
        }),
        Property::sometimes(
            "a call is made again under an id that is forgotten",
            |_, state: &State| {
                state.truth.calls.windows(2).any(|pair| pair[0].caller == pair[1].caller)
            },
        ),
        Property::sometimes("a lowered limit is in force", |_, state: &State| {
            let lowered_at = state.truth.limits_lowered_at;
            lowered_at.is_some_and(|at| !same_window(Window::Day, at, state.now()))
        }),
    ]
}

fn is_within_limits(world: &World, state: &State) -> bool {
    let counts = state.server.counts(state.now());
    let rules_hold = COUNTED.iter().zip(counts.rules).all(|(rule, used)| {
        let most = state.truth.most(*rule, &world.plans, state.now());
        most.is_none_or(|most| used <= most)
    });
    rules_hold && counts.credits <= state.truth.most_credits(&world.plans)
}

fn is_past_a_limit(state: &State) -> bool {
    let limit = |rule| state.truth.limit(rule, state.now()).unwrap_or(u64::MAX);
    COUNTED
        .iter()
        .zip(state.server.counts(state.now()).rules)
        .any(|(rule, used)| used > limit(*rule))
}

fn adds_up(world: &World, state: &State) -> bool {
    state.server.counts(state.now()) == state.truth.counts(&world.plans, state.now())
}

fn was_given_back(world: &World, state: &State) -> bool {
    state.truth.reached.len() > state.truth.reached_now(&world.plans, state.now()).len()
}

fn is_wrong(state: &State, wrong: Wrong) -> bool {
    state.truth.wrongs.contains(&wrong)
}

fn is_at(state: &State, at: At) -> bool {
    state.callers.iter().any(|caller| caller.at == at)
}

fn any(state: &State, is_so: impl Fn(&Call) -> bool) -> bool {
    state.truth.calls.iter().any(is_so)
}

fn ends(call: &Call, actual: Actual) -> bool {
    call.ended.is_some_and(|(_, end)| end == Request::Settle(actual))
}

fn ends_after(call: &Call, window: Window) -> bool {
    call.ended.is_some_and(|(at, _)| !same_window(window, call.admitted_at, at))
}
