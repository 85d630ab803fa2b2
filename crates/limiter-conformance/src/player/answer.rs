//! Answers of the engine, in the words of the replay format.

use limiter_core::{
    Credits, Crossing, Decision, DenialReason, Denied, RateLimited, ReservationError, ScopeUsage,
    Settled, SettledAs, Timestamp, UnitUsage, Usage,
};

use super::PlayError;
use crate::replay::{self, Answer, Cost, Crossed, Denial, Problem, Remaining, Row, Used};

pub(super) fn of_decision(decision: &Decision) -> Result<Answer, PlayError> {
    match decision {
        Decision::Allowed(allowed) => {
            let remaining = Remaining {
                rules: allowed.rules().map(|state| (state.rule, state.remaining)).collect(),
                budget: allowed.credits().remaining().map(Credits::millionths),
            };
            let crossed = crossed(allowed.crossed())?;
            Ok(Answer::Allowed { replayed: allowed.replayed(), remaining, crossed })
        }
        Decision::Denied(denied) => denial(denied).map(Answer::Denied),
    }
}

/// The answer to a settlement or a cancellation.
pub(super) fn of_settlement(settled: &Settled) -> Result<Answer, PlayError> {
    let no_word = || PlayError::NoWord(format!("{settled:?}"));
    let charge = settled.charge.ok_or_else(no_word)?;
    let cost = Cost {
        asset: settled.asset.as_ref().map(ToString::to_string),
        requests: charge.requests(),
        input: charge.input_tokens(),
        output: charge.output_tokens(),
        credits: charge.credits().millionths(),
    };
    let repeated = match settled.outcome {
        SettledAs::First => false,
        SettledAs::Repeated => true,
        _ => return Err(no_word()),
    };
    Ok(Answer::Settled { cost, repeated, crossed: crossed(&settled.crossed)? })
}

pub(super) fn of_usage(usage: &Usage) -> Answer {
    let global = row("global", usage.global.as_ref());
    let assets = usage.assets.iter().map(|asset| row(asset.asset.as_str(), Some(&asset.usage)));
    Answer::Usage(replay::Usage {
        rows: std::iter::once(global).chain(assets).collect(),
        credits: replay::Credits {
            spent: usage.credits.spent.millionths(),
            budget: usage.credits.budget.map(Credits::millionths),
        },
    })
}

/// The answer to an operation on a reservation that was not done.
pub(super) fn of_refusal(error: ReservationError) -> Result<Answer, PlayError> {
    let problem = match error {
        ReservationError::KeyUnknown => Problem::UnknownKey,
        ReservationError::Unknown(_) => Problem::UnknownReservation,
        ReservationError::OtherExists(_) => Problem::AlreadyExists,
        ReservationError::AlreadySettled(_) => Problem::AlreadySettled,
        ReservationError::Shrinks | ReservationError::Invalid(_) => Problem::Invalid,
        ReservationError::TooMany { retry_at, .. } => {
            return Ok(Answer::TooMany { retry_at: unix_ms(retry_at)? });
        }
        ReservationError::Store(error) => return Err(error.into()),
        other => return Err(PlayError::NoWord(other.to_string())),
    };
    Ok(Answer::Error(problem))
}

fn crossed(crossings: &[Crossing]) -> Result<Vec<Crossed>, PlayError> {
    let crossed = crossings.iter().map(|crossing| {
        Ok(Crossed {
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

fn denial(denied: &Denied) -> Result<Denial, PlayError> {
    match denied.reason() {
        DenialReason::KeyUnknown => Ok(Denial::UnknownKey),
        DenialReason::KeyExpired { .. } => Ok(Denial::ExpiredKey),
        DenialReason::AdminKey => Ok(Denial::AdminKey),
        DenialReason::BudgetExhausted { .. } => Ok(Denial::BudgetExhausted),
        DenialReason::RateLimited(limited) => rate_limited(limited),
        _ => Err(PlayError::NoWord(denied.to_string())),
    }
}

fn rate_limited(limited: &RateLimited) -> Result<Denial, PlayError> {
    let no_rule = || PlayError::NoWord("rate limited, but no rule is violated".to_owned());
    Ok(Denial::RateLimited {
        violated: limited.violations().map(|violation| violation.rule).collect(),
        binding: limited.binding().ok_or_else(no_rule)?.rule,
        retry_at: limited.retry_at().map(unix_ms).transpose()?,
    })
}

fn unix_ms(instant: Timestamp) -> Result<u64, PlayError> {
    u64::try_from(instant.unix_ms())
        .map_err(|_| PlayError::NoWord(format!("{instant}, which is before 1970")))
}

fn row(scope: &str, usage: Option<&ScopeUsage>) -> Row {
    let used = |usage: &UnitUsage| Used { used: Some(usage.used), limit: usage.limit };
    let window = |usage: &limiter_core::WindowUsage| replay::WindowUsage {
        requests: used(&usage.requests),
        tokens: used(&usage.tokens),
    };
    Row {
        scope: scope.to_owned(),
        minute: usage.map(|usage| window(&usage.minute)).unwrap_or_default(),
        day: usage.map(|usage| window(&usage.day)).unwrap_or_default(),
    }
}
