//! A log of the admitted calls, their times and their ends. It is written from the server's answers, and added up
//! again each time, independent of the server's counts.

use std::collections::BTreeSet;

use limiter_core::{Charge, Rule, Scope, Timestamp, Window};

use crate::callers::{Answer, Plan, Request};
use crate::server::{BUDGET, COUNTED, Counts, THRESHOLDS, TTL, Threshold, limit};

/// Every admitted call, and the errors seen on the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Truth {
    /// In the order of their callers, then of time.
    pub(crate) calls: Vec<Call>,
    pub(crate) limits_lowered_at: Option<Timestamp>,
    /// The thresholds that the counts of the current windows, or the credits, have reached.
    pub(crate) reached: BTreeSet<Threshold>,
    pub(crate) wrongs: BTreeSet<Wrong>,
}

/// One call. A caller may make another under the id of a forgotten one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) caller: usize,
    pub(crate) admitted_at: Timestamp,
    pub(crate) amended_at: Option<Timestamp>,
    pub(crate) ended: Option<(Timestamp, Request)>,
}

/// A violation by one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wrong {
    /// A count was lowered, but not by the end of a call that its window admitted.
    StrayRefund,
    /// A request counted that had taken effect before, or did not take effect.
    CountedAgain,
    /// A request that had taken effect before was answered otherwise.
    AnsweredOtherwise,
    /// A threshold fired without being newly reached in its window, or was newly reached and did not fire.
    FiredOtherwise,
}

impl Truth {
    /// Logs the effect of a request by its answer, and checks the step's effect on the counts.
    pub(crate) fn record(
        &mut self,
        caller: usize,
        request: Request,
        answer: Answer,
        now: Timestamp,
        [before, after]: [Counts; 2],
    ) {
        let known = self.calls.iter_mut().rfind(|call| call.caller == caller && call.is_known(now));
        let repeats = known.as_ref().is_some_and(|call| call.has_seen(request));
        let may_be_refunded = |rule: Rule| {
            let admitted_here = known
                .as_ref()
                .is_some_and(|call| same_window(window_of(rule), call.admitted_at, now));
            admitted_here && !repeats && matches!(request, Request::Settle(_) | Request::Cancel)
        };
        let strays = COUNTED
            .iter()
            .zip(before.rules.iter().zip(&after.rules))
            .any(|(rule, (before, after))| after < before && !may_be_refunded(*rule));

        let mut takes_effect = !repeats;
        match (request, answer, known) {
            (Request::Check | Request::Reserve, Answer::Allowed, None) => {
                self.admit(Call { caller, admitted_at: now, amended_at: None, ended: None });
            }
            (Request::Amend, Answer::Allowed, Some(call)) if !repeats => {
                call.amended_at = Some(now);
            }
            (Request::Settle(_) | Request::Cancel, Answer::Done, Some(call)) if !repeats => {
                call.ended = Some((now, request));
            }
            _ => takes_effect = false,
        }
        let answered_alike = match request {
            Request::Check | Request::Reserve => answer == Answer::Replayed,
            Request::Amend => answer == Answer::Allowed,
            Request::Settle(_) | Request::Cancel => answer == Answer::Done,
        };
        let wrongs = [
            (strays, Wrong::StrayRefund),
            (!takes_effect && before != after, Wrong::CountedAgain),
            (repeats && !answered_alike, Wrong::AnsweredOtherwise),
        ];
        self.wrongs.extend(wrongs.into_iter().filter_map(|(is, wrong)| is.then_some(wrong)));
    }

    /// Logs the reached thresholds, and checks that the step fired exactly the newly reached ones.
    pub(crate) fn record_fired(&mut self, fired: &[Threshold], plans: &[Plan], now: Timestamp) {
        let reached = self.reached_now(plans, now);
        let first = |threshold: &&Threshold| !self.reached.contains(*threshold);
        if !reached.iter().filter(first).eq(fired) {
            self.wrongs.insert(Wrong::FiredOtherwise);
        }
        self.reached.extend(reached);
    }

    /// Forgets the reached thresholds of the windows that have ended.
    pub(crate) fn tick(&mut self, from: Timestamp, to: Timestamp) {
        self.reached.retain(|(rule, _)| same_window(window_of(*rule), from, to));
    }

    /// Returns the thresholds that the counts reach, in the order in which they fire.
    pub(crate) fn reached_now(&self, plans: &[Plan], now: Timestamp) -> Vec<Threshold> {
        let counts = self.counts(plans, now);
        let rules = COUNTED.iter().zip(counts.rules);
        let rules = rules.map(|(rule, used)| (*rule, self.limit(*rule, now), used));
        let reached = rules
            .chain([(Rule::BUDGET, Some(BUDGET), counts.credits)])
            .flat_map(|(rule, limit, used)| THRESHOLDS.map(|percent| (rule, percent, limit, used)))
            .filter(|(_, percent, limit, used)| {
                limit.is_some_and(|limit| used * 100 >= limit * u64::from(*percent))
            })
            .map(|(rule, percent, ..)| (rule, percent));
        let mut reached: Vec<_> = reached.collect();
        reached.sort_unstable();
        reached
    }

    /// Returns the counts that the current windows must have.
    pub(crate) fn counts(&self, plans: &[Plan], now: Timestamp) -> Counts {
        let used =
            |rule: Rule| self.of(plans).map(|(call, plan)| call.counts_in(rule, plan, now)).sum();
        let credits = |(call, plan): (&Call, &Plan)| call.cost(plan).credits().millionths();
        Counts { rules: COUNTED.map(used), credits: self.of(plans).map(credits).sum() }
    }

    /// Returns the most that may be used in the current window: the limit plus the overruns in it; `None` without
    /// a limit.
    pub(crate) fn most(&self, rule: Rule, plans: &[Plan], now: Timestamp) -> Option<u64> {
        let overrun = |(call, plan): (&Call, &Plan)| call.overrun_in(rule, plan, now);
        Some(self.limit(rule, now)? + self.of(plans).map(overrun).sum::<u64>())
    }

    /// Returns the limit in force in the current window.
    pub(crate) fn limit(&self, rule: Rule, now: Timestamp) -> Option<u64> {
        let lowered =
            self.limits_lowered_at.is_some_and(|at| !same_window(window_of(rule), at, now));
        limit(rule, lowered)
    }

    /// Returns the most credits that may be spent: the budget plus the overruns.
    pub(crate) fn most_credits(&self, plans: &[Plan]) -> u64 {
        let overrun = |(call, plan): (&Call, &Plan)| {
            let [cost, estimate] =
                [call.cost(plan), call.estimate(plan)].map(|charge| charge.credits().millionths());
            cost.saturating_sub(estimate)
        };
        BUDGET + self.of(plans).map(overrun).sum::<u64>()
    }

    fn admit(&mut self, call: Call) {
        let order = |call: &Call| (call.caller, call.admitted_at);
        let place = self.calls.partition_point(|other| order(other) < order(&call));
        self.calls.insert(place, call);
    }

    fn of<'a>(&'a self, plans: &'a [Plan]) -> impl Iterator<Item = (&'a Call, &'a Plan)> {
        self.calls.iter().map(|call| (call, &plans[call.caller]))
    }
}

impl Call {
    fn is_known(&self, now: Timestamp) -> bool {
        now < self.ended.map_or(self.admitted_at, |(at, _)| at).after(TTL)
    }

    /// Returns whether this request has taken effect.
    fn has_seen(&self, request: Request) -> bool {
        match request {
            Request::Check | Request::Reserve => true,
            Request::Amend => self.amended_at.is_some() && self.ended.is_none(),
            Request::Settle(_) | Request::Cancel => {
                self.ended.is_some_and(|(_, end)| end == request)
            }
        }
    }

    /// Returns its part of a rule's count in the current window.
    fn counts_in(&self, rule: Rule, plan: &Plan, now: Timestamp) -> u64 {
        match self.ended {
            Some((at, end)) if same_window(window_of(rule), at, now) => {
                if same_window(window_of(rule), self.admitted_at, now) {
                    amount(rule, plan, &plan.cost_after(end))
                } else {
                    self.charged_in(rule, plan, now) + self.overrun_in(rule, plan, now)
                }
            }
            _ => self.charged_in(rule, plan, now),
        }
    }

    /// Returns the charges of its estimate and its amendment in the current window.
    fn charged_in(&self, rule: Rule, plan: &Plan, now: Timestamp) -> u64 {
        let here = |at| same_window(window_of(rule), at, now);
        let estimate = amount(rule, plan, &plan.estimate);
        let admitted = if here(self.admitted_at) { estimate } else { 0 };
        let amended = match self.amended_at {
            Some(at) if here(at) => amount(rule, plan, &plan.raised) - estimate,
            _ => 0,
        };
        admitted + amended
    }

    /// Returns the overrun that its end has charged in the current window.
    fn overrun_in(&self, rule: Rule, plan: &Plan, now: Timestamp) -> u64 {
        let Some((at, end)) = self.ended else { return 0 };
        if !same_window(window_of(rule), at, now) {
            return 0;
        }
        let (actual, estimate) = (plan.cost_after(end), self.estimate(plan));
        if same_window(window_of(rule), self.admitted_at, now) {
            return amount(rule, plan, &actual).saturating_sub(amount(rule, plan, &estimate));
        }
        let beyond = |tokens: fn(&Charge) -> u64| tokens(&actual).saturating_sub(tokens(&estimate));
        let (input, output) = (beyond(Charge::input_tokens), beyond(Charge::output_tokens));
        let overrun =
            Charge::request().with_requests(0).unwrap().with_tokens(input, output).unwrap();
        amount(rule, plan, &overrun)
    }

    fn estimate(&self, plan: &Plan) -> Charge {
        if self.amended_at.is_some() { plan.raised } else { plan.estimate }
    }

    fn cost(&self, plan: &Plan) -> Charge {
        self.ended.map_or_else(|| self.estimate(plan), |(_, end)| plan.cost_after(end))
    }
}

/// Returns the amount that a charge adds to a rule.
fn amount(rule: Rule, plan: &Plan, charge: &Charge) -> u64 {
    if rule.scope == Scope::Asset && !plan.asset {
        return 0;
    }
    charge.amount(rule.unit().expect("a rule of amounts"))
}

fn window_of(rule: Rule) -> Window {
    rule.window().expect("a rule of amounts")
}

pub(crate) fn same_window(window: Window, one: Timestamp, other: Timestamp) -> bool {
    let length_ms = match window {
        Window::Minute => 60_000,
        Window::Ever => return true,
        _ => 86_400_000,
    };
    one.unix_ms() / length_ms == other.unix_ms() / length_ms
}
