//! The account of a metered stream: the tokens seen, the estimate that covers them, and the settlement.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use limiter_core::{
    Charge, Credits, Decision, Denied, MAX_COUNT, ReservationError, Settled, Totals, Unit,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::count::CountTokens;
use super::error::StreamError;
use crate::price::Price;
use crate::provider::{Api, Reported, TokenSource, answer_accounted};
use crate::reservation::Reservation;
use crate::token_usage::TokenUsage;

type Amendment = Boxed<(Reservation, Result<Decision, ReservationError>)>;
type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Keeps a reservation in step with the tokens of a stream. All counts are of output tokens.
pub(super) struct Meter {
    phase: Phase,
    /// The runtime on which the call is settled if the stream is dropped.
    runtime: Option<Handle>,
    /// The charge of the reservation as last known.
    estimate: Charge,
    /// Tokens counted in the chunks so far.
    counted: u64,
    /// Up to this many tokens, chunks pass without an amendment: the estimate, or more if an amendment was denied and
    /// the stream goes on.
    covered: u64,
    /// The number of amendments that were asked for since the last chunk passed.
    asked: u32,
    state: State,
    pub(super) step: u64,
    pub(super) price: Option<Price>,
    pub(super) ends_at_limit: bool,
    /// Subscribers to the settlement.
    subscribers: Vec<oneshot::Sender<Settled>>,
    /// When the slots of the call were last renewed, if it meets a parallel limit.
    renewed_at: Option<Instant>,
}

/// The state of the counter after each chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    reported: Reported,
    estimate_stands: bool,
    api: Option<Api>,
}

impl State {
    pub(super) fn of<C>(counter: &impl CountTokens<C>) -> Self {
        Self {
            reported: counter.reported(),
            estimate_stands: counter.estimate_stands(),
            api: counter.api(),
        }
    }
}

/// There is at most one call of the store at a time.
enum Phase {
    Open(Reservation),
    Amending {
        to: u64,
        amendment: Amendment,
    },
    /// An amendment that changes no figure.
    Renewing(Amendment),
    Settling(Boxed<()>),
    Settled,
}

impl Meter {
    pub(super) fn new(call: Reservation, state: State) -> Self {
        let (estimate, price) = (*call.estimate(), call.price().copied());
        let has_slots = call.decision().rules().any(|state| state.rule.is_parallel());
        let mut meter = Self {
            phase: Phase::Open(call),
            runtime: None,
            estimate,
            counted: 0,
            covered: estimate.output_tokens(),
            asked: 0,
            state,
            step: DEFAULT_STEP,
            price,
            ends_at_limit: false,
            subscribers: Vec::new(),
            renewed_at: has_slots.then(Instant::now),
        };
        meter.note_runtime();
        meter
    }

    pub(super) fn subscribe(&mut self) -> oneshot::Receiver<Settled> {
        let (subscriber, settled) = oneshot::channel();
        self.subscribers.push(subscriber);
        settled
    }

    pub(super) const fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Settled)
    }

    /// Notes the current runtime. It is called wherever there may be one, since the meter may be dropped where there is
    /// none.
    pub(super) fn note_runtime(&mut self) {
        if let Ok(runtime) = Handle::try_current() {
            self.runtime = Some(runtime);
        }
    }

    pub(super) fn saw(&mut self, tokens: u64, state: State) {
        self.counted = self.counted.saturating_add(tokens).min(self.most());
        let Reported { input, output, .. } = state.reported;
        let input = input.unwrap_or_else(|| self.estimate.input_tokens());
        let output = output.unwrap_or(self.counted);
        let is_countable = input.saturating_add(output) <= MAX_COUNT;
        // Figures above `MAX_COUNT` are ignored.
        let reported = if is_countable { state.reported } else { Reported::default() };
        self.state = State { reported, ..state };
    }

    /// Returns the output so far: as reported, or else as counted.
    fn seen(&self) -> u64 {
        self.state.reported.output.unwrap_or(self.counted)
    }

    /// Renews the slots of the call once a minute, while chunks pass. If that fails, it is tried again a minute later.
    pub(super) fn renew(&mut self, cx: &mut Context<'_>) {
        let is_due = |renewed_at: Instant| renewed_at.elapsed() >= RENEW_EVERY;
        if self.renewed_at.is_some_and(is_due) && matches!(self.phase, Phase::Open(_)) {
            self.renewed_at = Some(Instant::now());
            self.phase = match mem::replace(&mut self.phase, Phase::Settled) {
                Phase::Open(call) => Phase::Renewing(Box::pin(amend(call, Totals::unchanged(), 1))),
                busy => busy,
            };
        }
        let _ = self.poll_renewed(cx);
    }

    fn poll_renewed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Phase::Renewing(amendment) = &mut self.phase {
            let (call, _) = ready!(amendment.as_mut().poll(cx));
            self.phase = Phase::Open(call);
        }
        Poll::Ready(())
    }

    /// Waits until the tokens seen may be passed on: they are within the estimate, or the stream goes on anyway. An
    /// error ends the stream.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        while self.seen() > self.covered {
            match &mut self.phase {
                Phase::Open(_) => self.ask(self.next_step()),
                Phase::Amending { to, amendment } => {
                    let (to, (call, answer)) = (*to, ready!(amendment.as_mut().poll(cx)));
                    self.estimate = *call.estimate();
                    self.phase = Phase::Open(call);
                    self.answered(to, answer)?;
                }
                Phase::Renewing(_) => ready!(self.poll_renewed(cx)),
                Phase::Settling(_) | Phase::Settled => break,
            }
        }
        self.asked = 0;
        Poll::Ready(Ok(()))
    }

    /// Starts to settle the tokens seen, except for those that were not passed on.
    pub(super) fn finish_without(&mut self, tokens: u64) {
        if matches!(self.phase, Phase::Settling(_) | Phase::Settled) {
            return;
        }
        let (actual, source) = self.actual_without(tokens);
        answer_accounted(self.state.api, source);
        let subscribers = mem::take(&mut self.subscribers);
        self.phase = match mem::replace(&mut self.phase, Phase::Settled) {
            Phase::Open(call) => Phase::Settling(Box::pin(settle(call, actual, subscribers))),
            Phase::Amending { amendment, .. } | Phase::Renewing(amendment) => {
                Phase::Settling(Box::pin(async move {
                    let (call, _) = amendment.await;
                    settle(call, actual, subscribers).await;
                }))
            }
            over => over,
        };
    }

    pub(super) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Phase::Settling(settlement) = &mut self.phase {
            ready!(settlement.as_mut().poll(cx));
            self.phase = Phase::Settled;
        }
        Poll::Ready(())
    }

    fn ask(&mut self, to: u64) {
        let phase = mem::replace(&mut self.phase, Phase::Settled);
        self.phase = match phase {
            Phase::Open(call) => {
                self.asked += 1;
                self.renewed_at = self.renewed_at.map(|_| Instant::now());
                let attempts = if self.ends_at_limit { ATTEMPTS } else { 1 };
                let amendment = Box::pin(amend(call, self.totals(to), attempts));
                Phase::Amending { to, amendment }
            }
            busy => busy,
        };
    }

    fn answered(
        &mut self,
        to: u64,
        answer: Result<Decision, ReservationError>,
    ) -> Result<(), StreamError> {
        match answer {
            Ok(Decision::Allowed(_)) => self.covered = to,
            Ok(Decision::Denied(denied)) if self.ends_at_limit => {
                if to <= self.seen() {
                    return Err(StreamError::Denied(denied));
                }
                // The last amendment asks for the tokens seen alone, so that the denial is about them and not about a
                // step.
                let last = self.asked + 1 >= MOST_ASKED;
                let fitting = if last { None } else { self.fitting(&denied) };
                self.ask(fitting.unwrap_or_else(|| self.seen()).clamp(self.seen(), to));
            }
            Err(error) if self.ends_at_limit => return Err(StreamError::Unknown(error)),
            Ok(Decision::Denied(denied)) => {
                tracing::debug!(%denied, "a stream goes on past its limit: its overrun is charged when it is settled");
                self.covered = self.next_step();
            }
            Err(error) => {
                if let Phase::Open(call) = &self.phase
                    && let Some(suppressed) =
                        call.stream_warnings().admit(std::time::Instant::now())
                {
                    tracing::warn!(
                        error = &error as &(dyn std::error::Error + 'static),
                        suppressed,
                        "a stream goes on, though its reservation could not be amended: what it brings is charged when it is settled"
                    );
                }
                self.covered = self.next_step();
            }
        }
        Ok(())
    }

    /// Returns the next tokens to cover: whole steps from those covered, as many as the tokens seen need.
    fn next_step(&self) -> u64 {
        let missing = self.seen().saturating_sub(self.covered).div_ceil(self.step);
        self.covered.saturating_add(missing.saturating_mul(self.step)).min(self.most())
    }

    /// Returns the most output tokens to which the estimate can be raised by the numbers of a denial, if it has any.
    fn fitting(&self, denied: &Denied) -> Option<u64> {
        let fitting = denied.exceeded()?.violations().map(|violation| {
            let room = violation.limit.saturating_sub(violation.used);
            match violation.rule.unit()? {
                Unit::Credits => {
                    let paid = self.estimate.credits() + Credits::from_millionths(room).ok()?;
                    self.price?.output_tokens_for(paid, self.estimate.input_tokens())
                }
                _ => Some(self.estimate.output_tokens().saturating_add(room)),
            }
        });
        // Without any of these numbers, the least of them is unknown.
        fitting.min().flatten()
    }

    /// Returns the totals of an estimate with this many output tokens. Credits are never lowered.
    fn totals(&self, output_tokens: u64) -> Totals {
        let totals = Totals::unchanged();
        let totals = totals.with_output_tokens(output_tokens.min(MAX_COUNT)).unwrap_or(totals);
        match self.price {
            None => totals,
            Some(price) => {
                let cost = price.at_most(self.estimate.input_tokens(), output_tokens);
                totals.with_credits(cost.max(self.estimate.credits()))
            }
        }
    }

    /// Returns the cost of the call without tokens that were not passed on.
    fn actual_without(&self, tokens: u64) -> (Totals, TokenSource) {
        let State { reported, estimate_stands, .. } = self.state;
        let (usage, source) = reported.usage(self.counted, estimate_stands, &self.estimate);
        let output = match source {
            TokenSource::Reported | TokenSource::Counted => usage.output.saturating_sub(tokens),
            TokenSource::Estimated => usage.output,
        };
        let usage = TokenUsage { output, reasoning: usage.reasoning.min(output), ..usage };
        let Ok(actual) = Totals::try_from(usage) else { return (Totals::unchanged(), source) };
        let actual = match (reported.credits, self.price) {
            (Some(credits), _) => actual.with_credits(credits),
            (None, Some(price)) => actual.with_credits(price.of(&usage)),
            (None, None) => actual,
        };
        (actual, source)
    }

    /// Returns the most output tokens that can be counted together with the input.
    const fn most(&self) -> u64 {
        MAX_COUNT - self.estimate.input_tokens()
    }
}

impl Drop for Meter {
    /// Settles the tokens seen if the client has left before the settlement. A settlement that cannot run drops the
    /// reservation, which logs a warning.
    fn drop(&mut self) {
        self.note_runtime();
        self.finish_without(0);
        if let (Phase::Settling(settlement), Some(runtime)) =
            (mem::replace(&mut self.phase, Phase::Settled), &self.runtime)
        {
            runtime.spawn(settlement);
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("estimate", &self.estimate)
            .field("counted", &self.counted)
            .field("covered", &self.covered)
            .field("state", &self.state)
            .field("settled", &self.is_settled())
            .finish_non_exhaustive()
    }
}

/// Amends the reservation. A repetition charges nothing more, so a failed amendment may be tried again.
async fn amend(
    mut call: Reservation,
    to: Totals,
    attempts: u32,
) -> (Reservation, Result<Decision, ReservationError>) {
    let mut answer = call.amend(&to).await;
    for _ in 1..attempts {
        if !matches!(answer, Err(ReservationError::Store(_))) {
            break;
        }
        answer = call.amend(&to).await;
    }
    (call, answer)
}

/// Settles the call, and sends the answer to its subscribers. A settlement counts once, so that it may be tried again.
async fn settle(mut call: Reservation, actual: Totals, subscribers: Vec<oneshot::Sender<Settled>>) {
    let mut outcome = call.settle(&actual).await;
    for _ in 1..ATTEMPTS {
        if !matches!(outcome, Err(ReservationError::Store(_))) {
            break;
        }
        outcome = call.settle(&actual).await;
    }
    let error = match outcome {
        Ok(settled) => {
            for subscriber in subscribers {
                // A dropped subscriber needs no answer.
                let _ = subscriber.send(settled.clone());
            }
            return;
        }
        Err(error) => error,
    };
    let cost = actual.applied_to(call.estimate()).unwrap_or_else(|_| *call.estimate());
    tracing::error!(
        key = %call.key(),
        reservation = %call.id(),
        input_tokens = cost.input_tokens(),
        output_tokens = cost.output_tokens(),
        credits = %cost.credits(),
        error = &error as &(dyn std::error::Error + 'static),
        "a streamed call could not be settled at these figures: its estimate stands as charged"
    );
    call.keep();
}

pub(super) const DEFAULT_STEP: u64 = 1_000;

/// Well within the time for which a slot is held.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// The most calls of the store for one amendment or settlement. Each call lasts up to the store's own deadline, within
/// which the store reconnects if that helps.
const ATTEMPTS: u32 = 3;

/// The most amendments that one chunk asks for at a limit: the whole step, the part that fits, and the chunk alone.
const MOST_ASKED: u32 = 3;
