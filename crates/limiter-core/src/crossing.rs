//! A threshold that was reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::names::AssetId;
use crate::record::{METERS, Record, meter_of};
use crate::rule::{Rule, Scope};

/// A threshold that a charge was the first to reach: in its window, or of the budget as it stands.
///
/// It fires once, in the step that reached it. A later refund or repetition does not fire it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Crossing {
    /// The rule whose limit it is a share of; null for the budget.
    pub rule: Option<Rule>,
    /// The asset, if the rule is one of an asset.
    pub asset: Option<AssetId>,
    /// The threshold, in percent of the limit.
    pub percent: u8,
    /// The limit; of a budget, in millionths of a credit.
    pub limit: u64,
    /// The amount used after the charge, in the same unit.
    pub used: u64,
    /// When the window ends, and it can be reached again; null for the budget.
    pub resets_at: Option<Timestamp>,
}

impl Crossing {
    /// Adds the thresholds that lie between two states of a record in the same windows.
    pub(crate) fn between(
        scope: Scope,
        asset: Option<&AssetId>,
        before: &Record,
        after: &Record,
        crossed: &mut Vec<Self>,
    ) {
        let changed = (0..METERS).filter(|meter| before.marks[*meter] < after.marks[*meter]);
        for meter in changed {
            let rule = Rule::ALL
                .into_iter()
                .find(|rule| rule.scope == scope && meter_of(rule.window, rule.unit) == meter);
            let resets_at = rule.map(|rule| after.span(rule.window).end);
            let counted = after.meter(meter);
            let percents = after.thresholds.between(before.marks[meter], after.marks[meter]);
            crossed.extend(percents.map(|percent| Self {
                rule,
                asset: asset.cloned(),
                percent,
                limit: counted.limit().unwrap_or_default(),
                used: counted.used(),
                resets_at,
            }));
        }
    }
}

/// As in `80 % of 10 requests per minute for all calls: 8, until 2025-10-09T12:01:00Z`.
impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, asset, percent, limit, used, resets_at } = self;
        match rule {
            Some(Rule { window, unit, .. }) => {
                write!(f, "{percent} % of {limit} {unit} per {window}")?;
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
