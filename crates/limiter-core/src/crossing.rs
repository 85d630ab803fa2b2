//! A threshold that was reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::limits::{Quantity, Within};
use crate::meter::Meter;
use crate::names::{AssetId, KeyId};
use crate::record::Record;
use crate::rule::{Measure, Rule, Scope, Unit};
use crate::state::{ScopeId, ScopeOf};
use crate::window::Window;

/// A threshold that was reached for the first time in its window.
///
/// It fires once, in the step that reached it. A later refund or repetition does not fire it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct Crossing {
    /// The group whose rule it is; left out if it is one of the key itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<KeyId>,
    /// The rule whose limit it is a share of.
    pub rule: Rule,
    /// The asset, if the rule is one of an asset.
    pub asset: Option<AssetId>,
    /// The threshold, in percent of the limit.
    pub percent: u8,
    /// The limit; credits in millionths.
    pub limit: u64,
    /// The amount used after the charge, in the same unit.
    pub used: u64,
    /// When the window ends, and it can be reached again; null if the window does not end.
    pub resets_at: Option<Timestamp>,
}

/// Where a threshold was reached.
#[derive(Clone, Copy)]
pub(crate) struct CrossedIn<'a> {
    pub(crate) group: Option<&'a KeyId>,
    pub(crate) scope: Scope,
    pub(crate) asset: Option<&'a AssetId>,
}

impl Crossing {
    /// Adds the thresholds that lie between two states of a record in the same windows and under the same limits.
    pub(crate) fn between(
        of: CrossedIn<'_>,
        before: &Record,
        after: &Record,
        crossed: &mut Vec<Self>,
    ) {
        for (before, now) in before.meters().zip(after.meters()) {
            if before.mark() < now.mark() {
                let percents = after.thresholds.between(before.mark(), now.mark());
                let id = |percent| Self::of(of, after, now, percent);
                crossed.extend(percents.filter_map(id));
            }
        }
    }

    /// Adds the thresholds that a change of limits or thresholds has reached by itself: those that had not fired before. A
    /// window that has passed is empty, and reaches none.
    pub(crate) fn reached(
        id: &ScopeId,
        before: &Record,
        after: &Record,
        at: Timestamp,
        crossed: &mut Vec<Self>,
    ) {
        for now in after.meters().filter(|meter| after.span(meter.window()).end > at) {
            let known = before.meter(now.window(), now.unit());
            let fired = known.map_or(0, Meter::mark);
            let fired: Vec<u8> = before.thresholds.percents().take(fired.into()).collect();
            let reached = after.thresholds.percents().take(now.mark().into());
            let new = reached.filter(|percent| !fired.contains(percent));
            let of = CrossedIn { group: None, scope: id.scope, asset: id.asset.as_ref() };
            let of = |percent| Self::of(of, after, now, percent);
            crossed.extend(new.filter_map(of));
        }
    }

    fn of(
        CrossedIn { group, scope, asset }: CrossedIn<'_>,
        record: &Record,
        meter: &Meter,
        percent: u8,
    ) -> Option<Self> {
        let (window, unit) = (meter.window(), meter.unit());
        Some(Self {
            group: group.cloned(),
            rule: Rule::of(scope, window, unit),
            asset: asset.cloned(),
            percent,
            limit: meter.limit()?,
            used: meter.used(record.thresholds),
            resets_at: window.ends().then(|| record.span(window).end),
        })
    }
}

/// As in `80 % of 10 requests per minute for all calls: 8, until 2025-10-09T12:01:00Z`, or `for group acme`.
impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, rule, asset, percent, limit, used, resets_at } = self;
        let unit = rule.unit().unwrap_or(Unit::Requests);
        let [used, limit] = [*used, *limit].map(|amount| Quantity(amount, unit));
        match rule.measure {
            Measure::Amount(Window::Ever, Unit::Credits) => {
                write!(f, "{percent} % of the budget of {limit} credits")
            }
            Measure::Amount(window, unit) => {
                write!(f, "{percent} % of {limit} {} {}", unit.label(), Within(window))
            }
            Measure::Parallel => write!(f, "{percent} % of {limit} calls in parallel"),
        }?;
        let scope = ScopeId { scope: rule.scope, asset: asset.clone() };
        write!(f, " for {}: {used}", ScopeOf(group.as_ref(), &scope))?;
        match resets_at {
            Some(resets_at) => write!(f, ", until {resets_at}"),
            None => Ok(()),
        }
    }
}
