//! Which thresholds were told, in words that stories compare.

use limiter_core::{Allowed, Charge, Crossing, Decision, Store, Totals};

use super::reserved_calls::Calls;

impl<S: Store> Calls<S> {
    /// What a call tells, which must be allowed and charged.
    pub(super) async fn tells(
        &self,
        called: impl Into<Option<&str>>,
        charge: Charge,
    ) -> Vec<String> {
        told(&self.world.check(&self.key, called, charge).await)
    }

    /// What a call of no asset tells that was allowed elsewhere.
    pub(super) async fn recording_tells(&self, id: &str, charge: Charge) -> Vec<String> {
        in_words(&self.record(id, None, charge).await.expect("it is never refused"))
    }

    /// What a settlement tells.
    pub(super) async fn settling_tells(&self, id: &str, actual: Totals) -> Vec<String> {
        in_words(&self.settle(id, actual).await.expect("the reservation is known").crossed)
    }
}

/// What a decision tells, which must be allowed and charged.
pub(super) fn told(decision: &Decision) -> Vec<String> {
    assert!(decision.is_charged(), "{decision:?}");
    decision.allowed().map(Allowed::crossed).map(in_words).unwrap_or_default()
}

/// `80 % of global/minute/requests`, or of `m1/minute/requests` or `the budget`.
pub(super) fn in_words(crossed: &[Crossing]) -> Vec<String> {
    let words = crossed.iter().map(|Crossing { rule, asset, percent, .. }| {
        let rule = rule.map_or_else(|| "the budget".to_owned(), |rule| rule.to_string());
        match asset {
            Some(asset) => format!("{percent} % of {}", rule.replace("asset", asset.as_str())),
            None => format!("{percent} % of {rule}"),
        }
    });
    words.collect()
}

/// Nothing is told.
pub(super) const NOTHING: [&str; 0] = [];
