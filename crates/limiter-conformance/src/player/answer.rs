//! Answers of the engine, in the words of the replay format.

use limiter_core::{
    Charge, Credits, Crossing, DayHistory, Decision, DenialReason, Denied, KeyId, LimitExceeded,
    ReservationError, Rule, Scope, ScopeId, ScopeUsage, Settled, SettledAs, Timestamp, Usage,
};

use super::PlayError;
use crate::replay::{
    self, Answer, Charged, Cost, Crossed, Day, Denial, Event, Exceeded, LevelRule, Problem,
    Remaining, Row, RuleUsage, ScopeName, levels,
};

/// The key of an operation, by its label in the file and by its id.
#[derive(Clone, Debug)]
pub(super) struct Called<'a> {
    pub(super) label: &'a str,
    pub(super) id: KeyId,
}

impl Called<'_> {
    pub(super) fn of_decision(&self, decision: &Decision) -> Result<Answer, PlayError> {
        let allowed = match decision {
            Decision::Allowed(allowed) => allowed,
            Decision::Denied(denied) => {
                return match denied.reason() {
                    DenialReason::TooManyKeys { retry_at, .. } => {
                        let retry_at = retry_at.unwrap_or(Timestamp::MAX);
                        Ok(Answer::TooMany { retry_at: unix_ms(retry_at)? })
                    }
                    _ => self.denial(denied).map(Answer::Denied),
                };
            }
        };
        let rules = allowed
            .rules()
            .map(|state| Ok((self.rule(state.group.as_ref(), state.rule)?, state.remaining)));
        let remaining = Remaining(rules.collect::<Result<_, PlayError>>()?);
        let crossed = self.crossed(allowed.crossed())?;
        Ok(match allowed.shadowed() {
            None => Answer::Allowed { replayed: allowed.replayed(), remaining, crossed },
            Some(denied) => Answer::Shadowed {
                denial: self.denial(denied)?,
                charged: decision.is_charged().then_some(Charged { remaining, crossed }),
            },
        })
    }

    /// The answer to a settlement or a cancellation.
    pub(super) fn of_settlement(&self, settled: &Settled) -> Result<Answer, PlayError> {
        let no_word = || PlayError::NoWord(format!("{settled:?}"));
        let charge = settled.charge.ok_or_else(no_word)?;
        let asset = settled.asset.as_ref().map(ToString::to_string);
        let cost = Cost { asset, ..cost(&charge) };
        let repeated = match settled.outcome {
            SettledAs::First => false,
            SettledAs::Repeated => true,
            _ => return Err(no_word()),
        };
        Ok(Answer::Settled { cost, repeated, crossed: self.crossed(&settled.crossed)? })
    }

    pub(super) fn crossed(&self, crossings: &[Crossing]) -> Result<Vec<Crossed>, PlayError> {
        let crossed = crossings.iter().map(|crossing| {
            Ok(Crossed {
                group: self.group(crossing.group.as_ref())?,
                rule: crossing.rule,
                asset: crossing.asset.as_ref().map(ToString::to_string),
                percent: crossing.percent,
                limit: crossing.limit,
                used: crossing.used,
                resets_at: crossing.resets_at.map(unix_ms).transpose()?,
            })
        });
        crossed.collect()
    }

    /// The thresholds that levels of the key have reached outside of the answer, the outermost first.
    pub(super) fn late_events(
        &self,
        mut late: Vec<(KeyId, Vec<Crossing>)>,
    ) -> Result<Vec<Event>, PlayError> {
        late.sort_by_key(|(level, _)| level.depth());
        let mut events = Vec::new();
        for (level, crossed) in &late {
            let group = self.group(Some(level).filter(|level| **level != self.id))?;
            let label = group.unwrap_or_else(|| self.label.to_owned());
            events.extend(crossed.iter().map(|it| Event(label.clone(), it.rule, it.percent)));
        }
        Ok(events)
    }

    fn denial(&self, denied: &Denied) -> Result<Denial, PlayError> {
        Ok(match denied.reason() {
            DenialReason::KeyUnknown => Denial::UnknownKey,
            DenialReason::KeyExpired { group, .. } => {
                Denial::ExpiredKey { group: self.group(group.as_ref())? }
            }
            DenialReason::AdminKey => Denial::AdminKey,
            DenialReason::AssetDenied { group } => {
                Denial::AssetDenied { group: self.group(group.as_ref())? }
            }
            DenialReason::BudgetExhausted(limits) => {
                Denial::BudgetExhausted(self.exceeded(limits)?)
            }
            DenialReason::RateLimited(limits) => Denial::RateLimited(self.exceeded(limits)?),
            _ => return Err(PlayError::NoWord(denied.to_string())),
        })
    }

    fn exceeded(&self, limits: &LimitExceeded) -> Result<Exceeded, PlayError> {
        let no_rule = || PlayError::NoWord("denied by a limit, but no rule is violated".to_owned());
        let violated = limits.violations();
        let violated =
            violated.map(|violation| self.rule(violation.group.as_ref(), violation.rule));
        let binding = limits.binding().ok_or_else(no_rule)?;
        Ok(Exceeded {
            violated: violated.collect::<Result<_, _>>()?,
            binding: self.rule(binding.group.as_ref(), binding.rule)?,
            retry_at: limits.retry_at().map(unix_ms).transpose()?,
        })
    }

    fn rule(&self, group: Option<&KeyId>, rule: Rule) -> Result<LevelRule, PlayError> {
        Ok(LevelRule { group: self.group(group)?, rule })
    }

    /// The label of a group of the key.
    fn group(&self, group: Option<&KeyId>) -> Result<Option<String>, PlayError> {
        let Some(group) = group else { return Ok(None) };
        let mut levels = self.id.groups().zip(levels(self.label));
        let found = levels.find(|(id, _)| id == group);
        let no_word = || PlayError::NoWord(format!("{group} is no group of {}", self.id));
        Ok(Some(found.ok_or_else(no_word)?.1.to_owned()))
    }
}

pub(super) fn of_usage(usage: &Usage) -> Result<Answer, PlayError> {
    Ok(Answer::Usage(replay::Usage {
        rows: usage.scopes.iter().map(row).collect::<Result<_, _>>()?,
        credits: replay::Credits {
            spent: usage.credits.spent.millionths(),
            budget: usage.credits.budget.map(Credits::millionths),
        },
    }))
}

pub(super) fn of_history(days: &[DayHistory]) -> Answer {
    let days = days.iter().map(|day| Day {
        start: day.start.unix_ms(),
        scopes: day.scopes.iter().map(|it| (name(&it.scope), cost(&it.account))).collect(),
    });
    Answer::History(days.collect())
}

/// The answer to an operation on a reservation that was not done.
pub(super) fn of_refusal(error: ReservationError) -> Result<Answer, PlayError> {
    let problem = match error {
        ReservationError::KeyUnknown => Problem::UnknownKey,
        ReservationError::Unknown(_) => Problem::UnknownReservation,
        ReservationError::OtherExists(_) => Problem::AlreadyExists,
        ReservationError::AlreadySettled(_) => Problem::AlreadySettled,
        ReservationError::Invalid(_) => Problem::Invalid,
        ReservationError::TooMany { retry_at, .. } => {
            return Ok(Answer::TooMany { retry_at: unix_ms(retry_at)? });
        }
        ReservationError::Store(error) => return Err(error.into()),
        other => return Err(PlayError::NoWord(other.to_string())),
    };
    Ok(Answer::Error(problem))
}

fn unix_ms(instant: Timestamp) -> Result<u64, PlayError> {
    u64::try_from(instant.unix_ms())
        .map_err(|_| PlayError::NoWord(format!("{instant}, which is before 1970")))
}

fn row(usage: &ScopeUsage) -> Result<Row, PlayError> {
    let rules = usage.rules.iter().map(|state| {
        Ok(RuleUsage {
            measure: state.rule.measure,
            used: state.used,
            limit: state.limit,
            resets_at: state.resets_at.map(unix_ms).transpose()?,
        })
    });
    let pending = usage.pending.iter().map(|pending| {
        let limits = pending.limits.iter().map(|limit| (limit.unit, limit.amount)).collect();
        Ok((pending.window, limits, unix_ms(pending.effective_at)?))
    });
    Ok(Row {
        scope: name(&usage.scope),
        account: cost(&usage.account),
        rules: rules.collect::<Result<_, PlayError>>()?,
        pending: pending.collect::<Result<_, PlayError>>()?,
    })
}

fn name(scope: &ScopeId) -> ScopeName {
    match (scope.scope, &scope.asset) {
        (Scope::Asset, Some(asset)) => ScopeName::Asset(asset.to_string()),
        (Scope::Other, _) => ScopeName::Other,
        _ => ScopeName::Global,
    }
}

fn cost(charge: &Charge) -> Cost {
    Cost {
        asset: None,
        requests: charge.requests(),
        input: charge.input_tokens(),
        output: charge.output_tokens(),
        credits: charge.credits().millionths(),
    }
}
