//! Grants: the store charges in bulk, and the process that asked decides calls out of that charge for a while.
//!
//! A grant is a reservation without slots. It fits in every level or is not made, it reaches no threshold, and it is only a part
//! of what is left of any rule. It may be raised, as often as its windows go on. What was not used of it goes back into them, and
//! then nothing is remembered of it.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::charge::{Amounts, Charge};
use crate::clock::Timestamp;
use crate::credits::Credits;
use crate::decision::{Allowed, Decision};
use crate::explain;
use crate::ledger::{Ledger, LedgerBounds, Reservation};
use crate::levels::{LevelSet, Levels, LevelsMut};
use crate::names::RequestId;
use crate::parallel::Slots;
use crate::prepare::{self, Admission, Plan, Prepared};
use crate::rule::Unit;

/// The terms of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantTerms {
    /// The expected demand while the grant lasts. The grant is at most this charge, but at least one of each limited unit.
    pub expected: Charge,
    /// The charge of the grant that the caller holds under this id, or nothing for a new grant. If the store remembers another charge,
    /// the grant is repeated, not raised.
    pub held: Charge,
    /// A grant takes no more than this part of what is left of any rule up to its next threshold: 16 stands for a sixteenth.
    pub part: NonZeroU32,
    /// How long it lasts at most.
    pub time: Duration,
}

/// A charge in bulk, out of which calls may be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// The total charge of the grant, raises included.
    pub charge: Charge,
    /// How long calls may be decided out of it, from the instant at which it was charged: no window of it has ended before then,
    /// and no level of it has expired.
    pub lasts: Duration,
    /// The rules as they stand after it, as an allowed call shows them.
    pub allowed: Allowed,
}

/// Charges a grant, raises the one of this id, or repeats it if it is not what its holder knows; `None` if that would be less than a
/// request, if a level allows no call, or if the grant to be raised is not remembered or one of its windows has ended.
pub fn grant(
    levels: &mut LevelsMut<'_>,
    ledger: &mut Ledger,
    bounds: &LedgerBounds,
    terms: &GrantTerms,
    id: &RequestId,
    now: Timestamp,
) -> Option<Grant> {
    let known = ledger.reservation_at(id, now).cloned();
    if let Some(known) = &known {
        if known.estimate != terms.held {
            return known.granted_again(&levels.as_ref(), terms, now);
        }
        if !known.may_be_raised(&levels.as_ref(), now) {
            return None;
        }
    } else if terms.held != Charge::NOTHING || ledger.full_of_reservations(bounds, now).is_some() {
        return None;
    }
    let (charge, _) = prepare(&levels.as_ref(), terms, now)?;
    let granted = granted(levels, &charge, terms, now)?;
    let reservation = match known {
        Some(known) => Reservation { estimate: granted.charge, ..known },
        None => Reservation {
            asset: levels.asset.cloned(),
            reserved: charge,
            estimate: charge,
            admission: Admission::after(&levels.as_ref(), LevelSet::NONE, now),
            slots: Slots::NONE,
            end: None,
        },
    };
    ledger.open.remove(id);
    ledger.open.insert(id.clone(), now.after(remembered_for(terms)), reservation);
    Some(granted)
}

/// Charges a grant to the levels as they were before it, where it has been charged.
pub fn granted(
    levels: &mut LevelsMut<'_>,
    charge: &Charge,
    terms: &GrantTerms,
    now: Timestamp,
) -> Option<Grant> {
    let prepared = prepare::grant(&levels.as_ref(), charge, terms.part, now);
    let committed = prepared.commit(levels, now)?;
    let Decision::Allowed(allowed) = explain::allowed(committed, now) else { return None };
    let lasts = terms.lasts_until(prepared.operation().until, now);
    Some(Grant { charge: terms.held.plus(charge), lasts, allowed })
}

/// Hands a grant back, of which this much was used, and forgets it. One that is not remembered any more stays charged.
pub fn hand_back(
    levels: &mut LevelsMut<'_>,
    ledger: &mut Ledger,
    id: &RequestId,
    used: &Charge,
    now: Timestamp,
) {
    ledger.open.forget_until(now);
    let Some((_, granted)) = ledger.open.remove(id) else { return };
    let mut levels = levels.of_asset(granted.asset.as_ref());
    let prepared = granted.prepare_hand_back(&levels.as_ref(), used, now);
    let _done = prepared.commit(&mut levels, now);
}

/// Prepares a grant, and returns its charge; `None` if it would be less than a request, or if a level allows no call.
#[must_use]
pub fn prepare(
    levels: &Levels<'_>,
    terms: &GrantTerms,
    now: Timestamp,
) -> Option<(Charge, Prepared)> {
    if !levels.may_add(now) {
        return None;
    }
    let plan = Plan::at(levels, now);
    let charge = terms.sized(&plan)?.with_each_limited(&plan);
    Some((charge, prepare::grant(levels, &charge, terms.part, now)))
}

/// Returns how long a grant of these terms is remembered, should it not be handed back.
#[must_use]
pub const fn remembered_for(terms: &GrantTerms) -> Duration {
    terms.time.saturating_add(LATE)
}

impl GrantTerms {
    /// Returns the most that a grant may charge, in the proportions of what is expected.
    fn sized(&self, plan: &Plan) -> Option<Charge> {
        let amounts = Amounts::of(&self.expected);
        // The least share of what is expected that any count has room for.
        let (mut room, mut need) = (1_i64, 1_i64);
        for scope in plan.scopes() {
            let stored = scope.record.stored();
            let cells = stored.windows.iter().flat_map(|window| &window.cells);
            for (counted, cell) in scope.record.counted().zip(cells) {
                let asked = amounts.get(counted.unit);
                let left = cell.value.checked_div(i64::from(self.part.get())).unwrap_or(0).max(0);
                let is_less = i128::from(left).saturating_mul(i128::from(need))
                    < i128::from(room).saturating_mul(i128::from(asked));
                if is_less {
                    (room, need) = (left, asked);
                }
            }
        }
        let share = |amount: u64| -> u64 {
            let [room, need] = [room, need].map(|of| u128::from(of.unsigned_abs()));
            let share = u128::from(amount).saturating_mul(room).checked_div(need).unwrap_or(0);
            u64::try_from(share).unwrap_or(amount).min(amount)
        };
        let credits = Credits::of_count(share(self.expected.credits().millionths()));
        let [requests, input, output] =
            [self.expected.requests(), self.expected.input_tokens(), self.expected.output_tokens()]
                .map(share);
        (requests > 0).then(|| Charge::counted(requests, input, output, credits))
    }

    /// Returns how long a grant lasts that was charged now, in windows of which the first ends then.
    fn lasts_until(&self, end: Timestamp, now: Timestamp) -> Duration {
        // The clock counts whole milliseconds: part of this one has passed.
        end.since(now).saturating_sub(Duration::from_millis(1)).min(self.time)
    }
}

impl Charge {
    /// Adds one of each unit that is limited, where it has none. A call that asks for nothing of a unit is denied when none is
    /// left of it; where one is held and not used, one is left.
    fn with_each_limited(self, plan: &Plan) -> Self {
        let limited = plan.scopes().flat_map(|scope| scope.record.counted());
        let limited = limited.filter(|counted| counted.limit.is_some());
        limited.fold(self, |charge, counted| match charge.amount(counted.unit) {
            0 => charge.plus(&Self::one(counted.unit)),
            _ => charge,
        })
    }

    /// One of a unit, and of tokens an input token.
    const fn one(unit: Unit) -> Self {
        match unit {
            Unit::Requests => Self::request(),
            Unit::Tokens | Unit::InputTokens => Self::counted(0, 1, 0, Credits::ZERO),
            Unit::OutputTokens => Self::counted(0, 0, 1, Credits::ZERO),
            Unit::Credits => Self::NOTHING.with_credits(Credits::of_count(1)),
        }
    }
}

impl Reservation {
    /// Returns whether it may be raised as a grant: what is charged now counts in just the windows that admitted it.
    #[must_use]
    pub fn may_be_raised(&self, levels: &Levels<'_>, now: Timestamp) -> bool {
        self.end.is_none()
            && self.asset.as_ref() == levels.asset
            && self.admission.ends().all(|end| now < end)
            && self.admission == Admission::after(levels, LevelSet::NONE, now)
    }

    /// Returns the grant that was charged under its id; `None` if it is none of this asset, or has ended.
    #[must_use]
    pub fn granted_again(
        &self,
        levels: &Levels<'_>,
        terms: &GrantTerms,
        now: Timestamp,
    ) -> Option<Grant> {
        if self.end.is_some() || self.asset.as_ref() != levels.asset {
            return None;
        }
        let Decision::Allowed(allowed) = explain::replayed(levels, now) else { return None };
        let expiries = levels.states.iter().filter_map(|state| state.expires_at());
        let end = self.admission.ends().chain(expiries).min()?;
        Some(Grant { charge: self.estimate, lasts: terms.lasts_until(end, now), allowed })
    }

    /// Prepares that a grant is handed back, of which this much was used.
    #[must_use]
    pub fn prepare_hand_back(
        &self,
        levels: &Levels<'_>,
        used: &Charge,
        now: Timestamp,
    ) -> Prepared {
        self.prepare_end(levels, &used.at_most(&self.estimate), now)
    }
}

/// How much longer than it lasts a grant is remembered. What comes back later is lost.
const LATE: Duration = Duration::from_secs(1);
