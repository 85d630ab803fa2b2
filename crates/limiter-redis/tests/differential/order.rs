//! What the core says of the calls of a batch, in an order that explains their decisions.

use limiter_core::{AssetId, Charge, Decision, KeyState, Timestamp, evaluate};

/// The calls of one key that a script decides one after the other, and what the store decided.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) asset: Option<AssetId>,
    /// Meant for an earlier key of the same id.
    pub(crate) stale: bool,
    pub(crate) calls: Vec<(Charge, Decision)>,
}

/// The state of a key after groups of calls in the first order, of all that there are, in which the core decides every
/// call as the store did.
pub(crate) fn after_in_some_order(
    state: Option<&KeyState>,
    groups: &[Group],
    now: Timestamp,
) -> Result<Option<KeyState>, String> {
    let mut left: Vec<_> = groups.iter().collect();
    search(state.cloned(), &mut left, now).ok_or_else(|| difference(state, groups, now))
}

fn search(
    state: Option<KeyState>,
    left: &mut Vec<&Group>,
    now: Timestamp,
) -> Option<Option<KeyState>> {
    if left.is_empty() {
        return Some(state);
    }
    for number in 0..left.len() {
        let group = left.remove(number);
        let mut after = state.clone();
        let agrees = group
            .calls
            .iter()
            .all(|(charge, decision)| group.decide(after.as_mut(), charge, now) == *decision);
        if agrees && let Some(end) = search(after, left, now) {
            return Some(end);
        }
        left.insert(number, group);
    }
    None
}

impl Group {
    fn decide(&self, state: Option<&mut KeyState>, charge: &Charge, now: Timestamp) -> Decision {
        match state {
            Some(state) if !self.stale => {
                let located = state.locate(self.asset.as_ref());
                evaluate::check_and_consume(state, located, charge, now)
            }
            _ => Decision::key_unknown(self.asset.as_ref()),
        }
    }
}

/// All decisions, as they would be in the order of the groups.
fn difference(state: Option<&KeyState>, groups: &[Group], now: Timestamp) -> String {
    let mut after = state.cloned();
    let mut text = String::from("no order of the calls explains the decisions\n");
    for group in groups {
        for (charge, decision) in &group.calls {
            let core = group.decide(after.as_mut(), charge, now);
            let mark = if core == *decision { "same" } else { "DIFFERENT" };
            text += &format!(" {:?} {charge:?} {mark}\n  store: {decision:?}\n", group.asset);
            if core != *decision {
                text += &format!("  core:  {core:?}\n");
            }
        }
    }
    text + &format!(" the state before: {state:?}")
}
