//! From the words of the engine to those of the replay format.

use limiter_core::{
    Credits, Crossing, Decision, DenialReason, Denied, RateLimited, Rule, Scope, ScopeUsage,
    Settled, SettledAs, Timestamp, Unit, UnitUsage, Usage, Window, WindowUsage,
};

use super::PlayError;
use crate::replay::{self, Answer, Cost, Crossed, Denial, Remaining, Row, Used};

/// How a decision is answered.
pub(super) fn of_decision(decision: &Decision) -> Result<Answer, PlayError> {
    match decision {
        Decision::Allowed(allowed) => {
            let rules = allowed.rules().map(|state| Ok((rule(state.rule)?, state.remaining)));
            let remaining = Remaining {
                rules: rules.collect::<Result<_, PlayError>>()?,
                budget: allowed.credits().remaining().map(Credits::millionths),
            };
            let crossed = crossed(allowed.crossed())?;
            Ok(Answer::Allowed { replayed: allowed.replayed(), remaining, crossed })
        }
        Decision::Denied(denied) => denial(denied).map(Answer::Denied),
    }
}

/// How a settlement or a cancellation is answered.
pub(super) fn of_settlement(settled: &Settled) -> Result<Answer, PlayError> {
    let charge = settled.charge.ok_or_else(|| PlayError::NoWord(format!("{settled:?}")))?;
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
        _ => return Err(PlayError::NoWord(format!("{settled:?}"))),
    };
    Ok(Answer::Settled { cost, repeated, crossed: crossed(&settled.crossed)? })
}

/// How a usage is answered.
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

fn crossed(crossings: &[Crossing]) -> Result<Vec<Crossed>, PlayError> {
    let crossed = crossings.iter().map(|crossing| {
        Ok(Crossed {
            rule: crossing.rule.map(rule).transpose()?,
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
    let binding = limited
        .binding()
        .ok_or_else(|| PlayError::NoWord("rate limited, but no rule is violated".to_owned()))?;
    let violated = limited.violations().map(|violation| rule(violation.rule));
    Ok(Denial::RateLimited {
        violated: violated.collect::<Result<_, _>>()?,
        binding: rule(binding.rule)?,
        retry_at: limited.retry_at().map(unix_ms).transpose()?,
    })
}

pub(super) fn unix_ms(instant: Timestamp) -> Result<u64, PlayError> {
    u64::try_from(instant.unix_ms())
        .map_err(|_| PlayError::NoWord(format!("{instant}, which is before 1970")))
}

fn rule(rule: Rule) -> Result<replay::Rule, PlayError> {
    let no_word = || PlayError::NoWord(format!("the rule {rule}"));
    Ok(replay::Rule {
        scope: match rule.scope {
            Scope::Global => replay::RuleScope::Global,
            Scope::Asset => replay::RuleScope::Asset,
            _ => return Err(no_word()),
        },
        window: match rule.window {
            Window::Minute => replay::WindowKind::Minute,
            Window::Day => replay::WindowKind::Day,
            _ => return Err(no_word()),
        },
        unit: match rule.unit {
            Unit::Requests => replay::Unit::Requests,
            Unit::Tokens => replay::Unit::Tokens,
            _ => return Err(no_word()),
        },
    })
}

fn row(scope: &str, usage: Option<&ScopeUsage>) -> Row {
    Row {
        scope: scope.to_owned(),
        minute: usage.map(|usage| window(&usage.minute)).unwrap_or_default(),
        day: usage.map(|usage| window(&usage.day)).unwrap_or_default(),
    }
}

fn window(usage: &WindowUsage) -> replay::WindowUsage {
    replay::WindowUsage { requests: used(&usage.requests), tokens: used(&usage.tokens) }
}

fn used(usage: &UnitUsage) -> Used {
    Used { used: Some(usage.used), limit: usage.limit }
}
