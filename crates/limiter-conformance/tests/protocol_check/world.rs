//! The world that is checked: two clients, a clock that moves forward and back, a network that loses and delays messages, and
//! the server.

mod answers;
mod sights;
mod story;

use std::sync::Arc;
use std::time::Duration;

use limiter_core::Timestamp;
use stateright::{Model, Property};

use self::answers::{wrong_decision, wrong_thresholds};
pub(crate) use self::sights::{Seen, Sight};
pub(crate) use self::story::story;
use crate::bug::Bug;
use crate::client::{Busy, Call, Client};
use crate::oracle::{Effect, Fired, Oracle, Wanted};
use crate::path::{Path, Subject};
use crate::server::{Answer, Ended, Request, Server};

/// The constants of a check: the calls that clients may make, and how often each fault may happen.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) name: &'static str,
    /// Each level starts with the configuration of its number. Others are for changes.
    pub(crate) configs: Vec<Wanted>,
    /// The calls that each client may make, in any order.
    pub(crate) calls: [Vec<Call>; 2],
    /// The key of each client, and whether its calls are for the asset.
    pub(crate) paths: [Path; 2],
    pub(crate) assets: [bool; 2],
    /// How many calls each may make.
    pub(crate) most: [u8; 2],
    pub(crate) most_of_all: u8,
    /// How often the clock moves.
    pub(crate) moves: u8,
    /// The places in [`INSTANTS`] of the times that it shows.
    pub(crate) instants: &'static [usize],
    pub(crate) losses: u8,
    pub(crate) crashes: u8,
    pub(crate) delays: u8,
    pub(crate) bug: Option<Bug>,
    pub(crate) seen: Seen,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The place in [`INSTANTS`] of the current time.
    tick: usize,
    moves: u8,
    losses: u8,
    crashes: u8,
    delays: u8,
    pub(crate) clients: [Client; 2],
    server: Arc<Server>,
    oracle: Arc<Oracle>,
    /// A request that its client has given up, and that may still arrive.
    late: Option<Arc<(Client, Busy)>>,
    pub(crate) wrong: Option<Wrong>,
}

/// A violation of a property. The path ends with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wrong {
    /// The oracle refuses an operation that the server did.
    Admitted(String),
    /// The counts differ from what the operations add up to.
    Counts(String),
    /// A correction was counted in a window that did not admit the call, or not in one that did.
    Correction(String),
    /// The slots that are held differ.
    Slots(String),
    /// The thresholds that fired differ.
    Fired(String),
    /// A decision differs from the oracle's.
    Decision(String),
    /// A client cannot read the records that it received.
    Unreadable(String),
    /// A call was denied, and its windows were not rebased after a clock was set right.
    Frozen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A call begins; its first request arrives and is answered at once. The client may believe that the clock still shows
    /// the time of the last answer.
    Begins {
        client: usize,
        call: Call,
        lags: bool,
        loses: bool,
    },
    /// A call goes on: its next request arrives and is answered.
    GoesOn {
        client: usize,
        loses: bool,
    },
    /// A call is given up, and its request arrives later.
    GivesUp {
        client: usize,
    },
    Arrives,
    Crashes {
        client: usize,
    },
    /// The clock moves to this one of [`INSTANTS`].
    Moves(usize),
}

/// The outcome of a call of a request: the thresholds that fire, and the oracle after it.
type Moment = (Vec<Fired>, Arc<Oracle>);

impl State {
    pub(crate) fn now(&self) -> Timestamp {
        INSTANTS[self.tick]
    }

    /// Handles a request that arrives. Returns the answer and the outcome of each call.
    fn arrival(&mut self, request: &Request, world: &World) -> (Answer, Vec<Moment>) {
        let now = self.now();
        let mut server = (*self.server).clone();
        let answer = server.apply(request, now, world.bug);
        let mut moments = Vec::new();
        if answer.ended != Ended::Applied {
            if server != *self.server {
                let changed = format!("{:?}, and something has changed", answer.ended);
                self.wrong = Some(Wrong::Counts(changed));
            }
            return (answer, moments);
        }
        for (effect, done) in request.effects.iter().zip(&answer.done) {
            let mut oracle = (*self.oracle).clone();
            let mut fired = Vec::new();
            if *done {
                match oracle.take_effect(effect, now) {
                    Ok(fired_now) => fired = fired_now,
                    Err(wrong) => {
                        self.wrong = Some(Wrong::Admitted(wrong));
                        return (answer, moments);
                    }
                }
                self.see(effect, &fired, &oracle, world);
                self.disturbed_by(effect, &server);
            }
            self.oracle = Arc::new(oracle);
            moments.push((fired, Arc::clone(&self.oracle)));
        }
        if let Some(differs) = self.oracle.differs(&server) {
            let corrects = matches!(request.effects[..], [Effect::End { .. }]);
            let wrong = if corrects { Wrong::Correction } else { Wrong::Counts };
            self.wrong = Some(wrong(differs));
        } else if let Some(differs) = self.oracle.slots_differ(&server) {
            self.wrong = Some(Wrong::Slots(differs));
        }
        self.server = Arc::new(server);
        (answer, moments)
    }

    fn see(&self, effect: &Effect, fired: &[Fired], after: &Oracle, world: &World) {
        let see = |sight, is_seen| {
            if is_seen {
                world.seen.saw(sight)
            }
        };
        let (before, now) = (&self.oracle, self.now());
        match effect {
            Effect::End { id, path, .. } => {
                let levels = || after.used().into_iter().zip(before.used());
                let refunds = levels().filter(|(after, before)| after < before).count();
                see(Sight::Refunded, refunds > 0);
                see(Sight::RefundedAtOneLevel, refunds == 1 && path.levels().len() > 1);
                see(Sight::Overran, levels().any(|(after, before)| after > before));
                see(Sight::OutlivedItsSlots, before.has_outlived_its_slots(*path, *id, now));
            }
            Effect::Amend { id, path, .. } => {
                see(Sight::RenewedSlots, before.slots() != after.slots());
                see(Sight::OutlivedItsSlots, before.has_outlived_its_slots(*path, *id, now));
            }
            Effect::Reserve { of, .. } => {
                see(Sight::TookAnExpiredSlot, before.has_room_of_expired(*of, now));
            }
            Effect::Rebase { .. } => see(Sight::Rebased, true),
            Effect::Change { .. } => see(Sight::ChangedLimits, true),
            Effect::Create { level, .. } => {
                let has_begun = self.clients.iter().any(|client| client.calls > 0);
                let is_group = *level != self.clients[0].of.path.own();
                see(Sight::CreatedAGroupAgain, has_begun && is_group);
            }
            Effect::Check { .. } | Effect::Delete { .. } => {}
        }
        let fires = |place| fired.iter().any(|(rule, ..)| rule[0] == place);
        see(Sight::Fired, !fired.is_empty());
        see(Sight::FiredAtBothLevels, fires(0) && fires(1));
    }

    /// Sets the count of failures to zero for the calls that may have failed because of this effect.
    fn disturbed_by(&mut self, effect: &Effect, after: &Server) {
        let stamps = |server: &Server| -> Vec<u32> {
            server.keys.values().map(|key| key.stored.stamp).collect()
        };
        let limits = stamps(&self.server) != stamps(after);
        let rebases = matches!(effect, Effect::Rebase { .. });
        let of_call = match effect {
            Effect::Amend { id, .. } | Effect::End { id, .. } | Effect::Reserve { id, .. } => {
                Some(*id)
            }
            _ => None,
        };
        for busy in self.clients.iter_mut().filter_map(|client| client.busy.as_mut()) {
            if limits || rebases || of_call.is_some() && busy.call.id() == of_call {
                busy.failed = 0;
            }
        }
    }

    /// Delivers the request of a busy client, and the answer to it.
    fn exchange(&mut self, world: &World, number: usize) {
        let Some(busy) = self.clients[number].busy.take() else { return };
        let request = self.clients[number].request(&busy, &world.configs, world.bug);
        let (answer, moments) = self.arrival(&request, world);
        if self.wrong.is_some() {
            return;
        }
        if let Err(error) = answer.shown(&busy) {
            self.wrong = Some(Wrong::Unreadable(error.to_string()));
            return;
        }
        let now = self.now();
        let heard = self.clients[number].hear(busy, &request, &answer, &world.configs, world.bug);
        let of = self.clients[number].of;
        for (decision, cost, call) in &heard.decided {
            answers::see(&world.seen, decision);
            let moment = call.and_then(|call| moments.get(call));
            let oracle = moment.map_or(&self.oracle, |(_, oracle)| oracle);
            let mut wrong = wrong_decision(oracle, decision, of, *cost, now);
            if decision.denied().is_some() && request.repeats(&self.oracle) {
                wrong = Some(Wrong::Decision("a call that is reserved was denied".to_owned()));
            }
            if let (Some(allowed), Some((fired, _))) = (decision.allowed(), moment) {
                wrong = wrong.or_else(|| wrong_thresholds(of, allowed.crossed(), fired));
            }
            self.wrong = self.wrong.take().or(wrong);
        }
        if let (Some(crossed), Some((fired, _))) = (&heard.crossed, moments.first()) {
            self.wrong = self.wrong.take().or_else(|| wrong_thresholds(of, crossed, fired));
        }
        if heard.denied && self.oracle.is_ahead(of, now) {
            self.wrong = Some(Wrong::Frozen);
        }
        if heard.next.as_ref().is_some_and(|busy| busy.failed > 1) {
            world.seen.saw(Sight::FailedAgain);
        }
        self.clients[number].busy = heard.next;
    }

    /// Whether a call would lead to one of a new key with the id of one of the old key, whose slot of the group is still held.
    /// Ids are not to be used again: it takes that slot over, and its answer counts two.
    fn takes_over_a_slot(&self, client: &Client, call: &Call) -> bool {
        let is_left = |call: &Call| match call {
            Call::Reserve { id, .. } => self.oracle.has_left(client.of.path, *id),
            _ => false,
        };
        let mut busy = self.clients.iter().filter_map(|client| client.busy.as_ref());
        let creates = matches!(call, Call::Create { .. });
        is_left(call) || creates && busy.any(|busy| is_left(&busy.call))
    }

    /// Whether a busy client that runs alone from here ends within a few requests.
    fn ends_alone(&self, world: &World, number: usize) -> bool {
        let Some(busy) = &self.clients[number].busy else { return true };
        let mut alone = self.clone();
        (0..MOST_TRIES_ALONE * busy.call.count()).any(|_| {
            alone.exchange(world, number);
            alone.clients[number].busy.is_none() || alone.wrong.is_some()
        })
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let [first, second] = self.paths;
        let of = [(first, self.assets[0]), (second, self.assets[1])];
        let clients = of.map(|(path, asset)| {
            let of = Subject { path, asset };
            Client { of, ..Client::default() }
        });
        let mut state = State {
            tick: 0,
            moves: 0,
            losses: 0,
            crashes: 0,
            delays: 0,
            clients,
            server: Arc::default(),
            oracle: Arc::default(),
            late: None,
            wrong: None,
        };
        for path in self.paths {
            for level in path.levels() {
                let created = self.configs[level].created(path, level, INSTANTS[0]);
                let _answer = state.arrival(&created, self);
            }
        }
        // Both clients have seen their keys as they were created.
        for client in &mut state.clients {
            client.saw = Some(INSTANTS[0]);
            let known = state.server.known(client.of.path);
            client.known = known.map(|known| known.met(client.of.asset));
        }
        vec![state]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.wrong.is_some() {
            return;
        }
        let made: u8 = state.clients.iter().map(|client| client.calls).sum();
        let ended =
            made >= self.most_of_all && state.clients.iter().all(|client| client.busy.is_none());
        if ended && state.late.is_none() {
            return;
        }
        for (number, client) in state.clients.iter().enumerate() {
            let may_lose = state.losses < self.losses;
            if client.busy.is_some() {
                steps.push(Step::GoesOn { client: number, loses: false });
                steps.extend(may_lose.then_some(Step::GoesOn { client: number, loses: true }));
                let gives_up = state.delays < self.delays && state.late.is_none();
                steps.extend(gives_up.then_some(Step::GivesUp { client: number }));
            } else if client.calls < self.most[number] && made < self.most_of_all {
                for call in &self.calls[number] {
                    if state.takes_over_a_slot(client, call) {
                        continue;
                    }
                    let lags =
                        client.known.is_some() && client.saw.is_some_and(|saw| saw != state.now());
                    for lags in [false, true].into_iter().take(1 + usize::from(lags)) {
                        for loses in [false, true].into_iter().take(1 + usize::from(may_lose)) {
                            steps.push(Step::Begins { client: number, call: *call, lags, loses });
                        }
                    }
                }
            }
            let blank =
                client.known.is_none() && client.busy.is_none() && client.entries.is_empty();
            steps.extend(
                (state.crashes < self.crashes && !blank)
                    .then_some(Step::Crashes { client: number }),
            );
        }
        steps.extend(state.late.is_some().then_some(Step::Arrives));
        if state.moves < self.moves {
            let others = self.instants.iter().filter(|to| **to != state.tick);
            steps.extend(others.map(|to| Step::Moves(*to)));
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        match step {
            Step::Begins { client, call, lags, loses } => {
                let now = state.now();
                let estimated = if lags { state.clients[client].saw.unwrap_or(now) } else { now };
                next.clients[client].begin(call, estimated);
                self.goes_on(&mut next, client, loses);
            }
            Step::GoesOn { client, loses } => self.goes_on(&mut next, client, loses),
            Step::GivesUp { client } => {
                let gone = &mut next.clients[client];
                let as_was = gone.clone();
                let busy = gone.busy.take()?;
                gone.gives_up();
                next.late = Some(Arc::new((as_was, busy)));
                next.delays += 1;
            }
            Step::Arrives => {
                let late = next.late.take()?;
                let (client, busy) = &*late;
                let request = client.request(busy, &self.configs, self.bug);
                let (answer, _unheard) = next.arrival(&request, self);
                if answer.ended == Ended::Applied {
                    self.seen.saw(Sight::CameLate);
                }
            }
            Step::Crashes { client } => {
                next.clients[client].crashes();
                next.crashes += 1;
            }
            Step::Moves(to) => {
                next.tick = to;
                next.moves += 1;
                for busy in next.clients.iter_mut().filter_map(|client| client.busy.as_mut()) {
                    busy.failed = 0;
                }
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ADMITS, |_, state: &State| {
                !matches!(state.wrong, Some(Wrong::Admitted(_)))
            }),
            Property::always(ADDS_UP, |_, state: &State| {
                !matches!(state.wrong, Some(Wrong::Counts(_)))
            }),
            Property::always(CORRECTS, |_, state: &State| {
                !matches!(state.wrong, Some(Wrong::Correction(_)))
            }),
            Property::always(HOLDS, |_, state: &State| {
                !matches!(state.wrong, Some(Wrong::Slots(_)))
            }),
            Property::always(FIRES_ONCE, |_, state: &State| {
                !matches!(state.wrong, Some(Wrong::Fired(_)))
            }),
            Property::always(DECIDES, |_, state: &State| {
                !matches!(state.wrong, Some(Wrong::Decision(_)))
            }),
            Property::always(READS, |_, state: &State| {
                !matches!(state.wrong, Some(Wrong::Unreadable(_)))
            }),
            Property::always(THAWS, |_, state: &State| state.wrong != Some(Wrong::Frozen)),
            Property::always(ENDS_ALONE, |world: &Self, state: &State| {
                (0..2).all(|client| state.ends_alone(world, client))
            }),
            Property::always(STARVES_NOBODY, |_, state: &State| {
                let busy = state.clients.iter().filter_map(|client| client.busy.as_ref());
                busy.into_iter().all(|busy| busy.failed <= MOST_FAILURES)
            }),
        ]
    }
}

impl World {
    /// The same world, with this many more calls.
    pub(crate) fn with_more_calls(self, more: u8) -> Self {
        let most = self.most.map(|most| most + more);
        Self { most, most_of_all: self.most_of_all + more, ..self }
    }

    fn goes_on(&self, next: &mut State, client: usize, loses: bool) {
        if !loses {
            return next.exchange(self, client);
        }
        next.losses += 1;
        let Some(busy) = next.clients[client].busy.clone() else { return };
        let request = next.clients[client].request(&busy, &self.configs, self.bug);
        let _unheard = next.arrival(&request, self);
        // A call with an id is sent again.
        if !busy.is_repeatable() {
            next.clients[client].gives_up();
        }
    }
}

pub(crate) const ADMITS: &str = "nothing is done that the limits refuse";
pub(crate) const ADDS_UP: &str = "the counts are what the operations that took effect add up to";
pub(crate) const CORRECTS: &str =
    "a correction is counted in the windows that admitted the call, and in no others";
pub(crate) const HOLDS: &str = "a call holds one slot of each parallel limit, from its reserve until it ends or the slot expires";
pub(crate) const FIRES_ONCE: &str =
    "each threshold fires once in a window, in the answer to the call that reaches it";
pub(crate) const DECIDES: &str = "a decision is the one that the limits give at that moment";
pub(crate) const READS: &str = "a client can read what it is shown";
pub(crate) const THAWS: &str = "after a denial no window stays further ahead than the next";
pub(crate) const ENDS_ALONE: &str = "a client that runs alone ends within a few requests";
/// This holds whatever another client does. The limits change and windows end only a few times, so two clients never keep each
/// other from ending.
pub(crate) const STARVES_NOBODY: &str =
    "a request fails only a few times before the clock, the limits or its own reservation change";

/// For each call of a request: a look, the short form and the one with stops. If one of two calls is denied and stores a
/// rebase, the other one starts from the beginning.
const MOST_TRIES_ALONE: usize = 3;
/// One because its belief was stale, one because another client moved the windows to the time, and one of the short form.
const MOST_FAILURES: u8 = 3;

/// The last two minutes of a day, the first two of the next, and one three days later. A step forward ends a minute, or a
/// minute and a day. A step back leaves windows in place (by one), rebases minutes (by more), or days as well (from the last).
const INSTANTS: [Timestamp; 5] = {
    let midnight = 1_760_054_400_000;
    [
        Timestamp::from_unix_ms(midnight - 90_000),
        Timestamp::from_unix_ms(midnight - 30_000),
        Timestamp::from_unix_ms(midnight + 30_000),
        Timestamp::from_unix_ms(midnight + 90_000),
        Timestamp::from_unix_ms(midnight + 3 * 86_400_000 + 30_000),
    ]
};

/// Between the first two instants.
pub(crate) const EXPIRY: Timestamp = Timestamp::from_unix_ms(INSTANTS[0].unix_ms() + 40_000);

/// A slot that is taken at one of the first instants expires exactly at the next but one.
pub(crate) const SLOT_TIME: Duration = Duration::from_secs(120);
