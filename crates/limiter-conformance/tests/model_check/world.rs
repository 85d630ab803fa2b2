//! The checked world: callers, a network that keeps all messages, a clock, an admin, and the server.

use std::fmt;
use std::sync::Arc;

use limiter_core::{RequestId, Timestamp};
use stateright::{Model, Path, Property};

use crate::callers::{Answer, Caller, Plan, Request};
use crate::properties;
use crate::server::{Bug, Server};
use crate::truth::Truth;

/// The part of the world that is the same in all states.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plans: Vec<Plan>,
    pub(crate) bug: Option<Bug>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The current time, as an index into [`TICKS`].
    tick: usize,
    pub(crate) callers: Vec<Caller>,
    /// Shared by the states with an equal server.
    pub(crate) server: Arc<Server>,
    pub(crate) truth: Truth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Sends(usize, Request),
    /// The server answers, and the answer is lost or no longer makes a difference.
    Arrives(usize, Request),
    /// The caller receives the answer too. Receiving it later is the same as being slow.
    IsAnswered(usize, Request),
    Crashes(usize),
    Ticks,
    LowersLimits,
}

impl World {
    pub(crate) fn with_callers(count: usize) -> Self {
        Self { plans: Plan::first(count), bug: None }
    }

    /// Delivers a message to the server, which answers.
    fn arrival(&self, state: &mut State, caller: usize, request: Request) -> Answer {
        let (plan, now) = (&self.plans[caller], state.now());
        let (server, answer, fired) = state.server.after(request, &id(caller), plan, now, self.bug);
        let counts = [state.server.counts(now), server.counts(now)];
        state.truth.record(caller, request, answer, now, counts);
        state.truth.record_fired(&fired, &self.plans, now);
        if *state.server != server {
            state.server = Arc::new(server);
        }
        answer
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let callers = vec![Caller::default(); self.plans.len()];
        let server = Arc::new(Server::new(TICKS[0]));
        vec![State { tick: 0, callers, server, truth: Truth::default() }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (number, (caller, plan)) in state.callers.iter().zip(&self.plans).enumerate() {
            steps.extend(caller.sends(plan).map(|request| Step::Sends(number, request)));
            for request in &caller.sent {
                steps.push(Step::Arrives(number, *request));
                let received =
                    caller.waits_for(*request).then_some(Step::IsAnswered(number, *request));
                steps.extend(received);
            }
            steps.extend(caller.may_crash().then_some(Step::Crashes(number)));
        }
        steps.extend((state.tick + 1 < TICKS.len()).then_some(Step::Ticks));
        // New limits hold from the next minute and the next day on.
        let may_lower = state.tick == 0 && state.truth.limits_lowered_at.is_none();
        steps.extend(may_lower.then_some(Step::LowersLimits));
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        match step {
            Step::Sends(caller, request) => next.callers[caller].send(request),
            Step::Arrives(caller, request) => {
                let _answer = self.arrival(&mut next, caller, request);
            }
            Step::IsAnswered(caller, request) => {
                let answer = self.arrival(&mut next, caller, request);
                next.callers[caller].receive(answer);
            }
            Step::Crashes(caller) => next.callers[caller].crash(),
            Step::Ticks => {
                next.tick += 1;
                next.truth.tick(state.now(), next.now());
            }
            Step::LowersLimits => {
                next.truth.limits_lowered_at = Some(state.now());
                next.server = Arc::new(state.server.with_lower_limits(state.now()));
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        TICKS[self.tick]
    }
}

/// Describes a path, one line for each step, with the tokens that the global minute counts after it.
pub(crate) fn story(path: Path<State, Step>) -> String {
    let (states, steps): (Vec<_>, Vec<_>) = path.into_vec().into_iter().unzip();
    let lines = steps.iter().flatten().zip(&states[1..]).map(|(step, state)| {
        let counted = state.server.counts(state.now()).rules[1];
        format!("  {}  {step}; tokens of the minute: {counted}\n", state.now())
    });
    lines.collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sends(caller, request) => write!(f, "{} sends {request}", id(*caller)),
            Self::Arrives(caller, request) => write!(f, "{request} of {} arrives", id(*caller)),
            Self::IsAnswered(caller, request) => {
                write!(f, "{request} of {} arrives, and it receives the answer", id(*caller))
            }
            Self::Crashes(caller) => write!(f, "{} crashes and starts again", id(*caller)),
            Self::Ticks => f.write_str("the clock ticks"),
            Self::LowersLimits => f.write_str("an admin lowers the limits"),
        }
    }
}

/// Returns the request id of a caller.
fn id(caller: usize) -> RequestId {
    ["a", "b", "c", "d"][caller].parse().unwrap()
}

/// The end of a minute, the end of a day in the next minute, and just after midnight, when the first calls are
/// forgotten. Many steps are taken at each, in place of all times of a minute.
const TICKS: [Timestamp; 3] = {
    let midnight = 1_760_054_400_000;
    [
        Timestamp::from_unix_ms(midnight - 90_000),
        Timestamp::from_unix_ms(midnight - 30_000),
        Timestamp::from_unix_ms(midnight + 15_000),
    ]
};
