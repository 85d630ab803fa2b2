//! A threshold that was reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::meter::Meter;
use crate::names::AssetId;
use crate::rule::{RULES, Rule, Scope, Unit};
use crate::state::{KeyState, LocatedAsset};

/// A threshold that a charge was the first to reach: in its window, or of the budget as it stands.
///
/// It is told once, by the step that reached it, whatever is refunded or repeated afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Crossing {
    /// The rule whose limit it is a share of, or `None` for the budget.
    pub rule: Option<Rule>,
    /// The asset, if the rule is one of an asset.
    pub asset: Option<AssetId>,
    /// The threshold, in percent of the limit.
    pub percent: u8,
    /// The limit; of a budget, in millionths of a credit.
    pub limit: u64,
    /// What was used after the charge, in the same unit.
    pub used: u64,
    /// When the window ends, and it can be reached again; `None` for the budget.
    pub resets_at: Option<Timestamp>,
}

impl Crossing {
    pub(crate) fn of_rule(
        rule: Rule,
        asset: Option<&AssetId>,
        percent: u8,
        meter: &Meter,
        resets_at: Timestamp,
    ) -> Self {
        let asset = asset.filter(|_| rule.scope == Scope::Asset).cloned();
        let of_budget = Self::of_budget(percent, meter);
        Self { rule: Some(rule), asset, resets_at: Some(resets_at), ..of_budget }
    }

    pub(crate) fn of_budget(percent: u8, meter: &Meter) -> Self {
        let limit = meter.limit().unwrap_or_default();
        Self { rule: None, asset: None, percent, limit, used: meter.used(), resets_at: None }
    }

    /// What was told since so much was told: of the rules that a call of this asset meets, and of the budget. For stores that
    /// keep what was told elsewhere.
    pub fn since(before: &Told, after: &KeyState, asset: LocatedAsset<'_>) -> Vec<Self> {
        let thresholds = after.thresholds();
        let mut crossed = Vec::new();
        for (rule, told) in RULES.into_iter().zip(before.rules) {
            let scope = match rule.scope {
                Scope::Global => after.global(),
                Scope::Asset => after.asset(asset),
            };
            if let Some(counts) = scope.map(|scope| scope.counts(rule.window)) {
                let (meter, resets_at) = (*counts.meter(rule.unit), counts.resets_at());
                let percents = thresholds.between(told, meter.told);
                let of_rule = |percent| Self::of_rule(rule, asset.id, percent, &meter, resets_at);
                crossed.extend(percents.map(of_rule));
            }
        }
        let credits = after.credits.meter();
        let percents = thresholds.between(before.budget, credits.told);
        crossed.extend(percents.map(|percent| Self::of_budget(percent, &credits)));
        crossed
    }
}

/// As in `80 % of 10 requests per minute for all calls: 8, until 2025-10-09T12:01:00Z`.
impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, asset, percent, limit, used, resets_at } = self;
        match rule {
            Some(Rule { window, unit: Unit::Requests, .. }) => {
                write!(f, "{percent} % of {limit} requests per {window}")?;
            }
            Some(Rule { window, unit: Unit::Tokens, .. }) => {
                write!(f, "{percent} % of {limit} tokens per {window}")?;
            }
            None => {
                let credits =
                    |millionths| Credits::from_millionths(millionths).unwrap_or(Credits::MAX);
                let (limit, used) = (credits(*limit), credits(*used));
                return write!(f, "{percent} % of the budget of {limit} credits: {used}");
            }
        }
        match asset {
            Some(asset) => write!(f, " for asset {asset:?}: {used}")?,
            None => write!(f, " for all calls: {used}")?,
        }
        match resets_at {
            Some(resets_at) => write!(f, ", until {resets_at}"),
            None => Ok(()),
        }
    }
}

/// How many thresholds were told of each count that a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Told {
    /// By rule, in their order.
    pub rules: [u8; 8],
    /// Of the budget.
    pub budget: u8,
}
