//! The oracle: it replays the effects of operations, in the order in which the server did them. It shares no code with the
//! core: whole numbers, plain sums, a set of the thresholds that have fired in each window.

mod key;
mod scope;
mod stored;

use limiter_core::Timestamp;

use self::key::{Call, Key};

/// The effect of an operation that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Check { asset: bool, cost: Cost },
    Reserve { id: u8, asset: bool, cost: Cost },
    Amend { id: u8, to: Cost },
    End { id: u8, actual: Cost },
    Rebase { asset: bool },
    Change(Wanted),
    Create(Wanted),
    Delete,
}

/// The cost of a call, with its credits in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Cost {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    pub(crate) credits: u64,
}

/// Requests and tokens of a minute, then of a day.
pub(crate) type Limits = [[Option<u64>; 2]; 2];

/// A configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wanted {
    pub(crate) global: Limits,
    pub(crate) asset: Limits,
    pub(crate) budget: Option<u64>,
    pub(crate) thresholds: Vec<u8>,
    pub(crate) expires_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Oracle {
    key: Option<Key>,
}

/// A threshold: scope, window and unit, percent, used, limit.
pub(crate) type Fired = ([usize; 3], u8, u64, u64);

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decided {
    Allowed,
    Unknown,
    Expired,
    Budget,
    /// The rules that are violated with their counts, and when it would fit.
    Limited(Vec<([usize; 3], u64, u64)>, Option<i64>),
}

impl Oracle {
    pub(crate) fn decide(&self, asset: bool, cost: Cost, now: Timestamp) -> Decided {
        let Some(key) = &self.key else { return Decided::Unknown };
        let now = now.unix_ms();
        let decided = key.decide(asset, cost, now);
        let Decided::Limited(violated, _) = decided else { return decided };
        let rebased = key.rebased(asset, now);
        let met = rebased.met(asset, now);
        let mut ends: Vec<i64> =
            met.iter().flat_map(|(_, scope)| scope.windows.iter().map(|it| it.end)).collect();
        ends.sort_unstable();
        let fits = |end: &i64| rebased.decide(asset, cost, *end) == Decided::Allowed;
        Decided::Limited(violated, ends.into_iter().find(fits))
    }

    /// The rules that apply to a call, with their counts and limits.
    pub(crate) fn rules(&self, asset: bool, now: Timestamp) -> Vec<([usize; 3], u64, u64)> {
        self.key.as_ref().map_or_else(Vec::new, |key| key.rules(asset, now.unix_ms()))
    }

    /// The sum of all counts.
    pub(crate) fn used(&self) -> u128 {
        let scopes = self.key.iter().flat_map(|key| key.scopes.iter().flatten());
        let used = scopes.flat_map(|scope| &scope.windows).flat_map(|window| window.used);
        used.map(u128::from).sum()
    }

    /// Whether a window of the call's scopes is so far in the future that it must be rebased.
    pub(crate) fn is_ahead(&self, asset: bool, now: Timestamp) -> bool {
        self.key.as_ref().is_some_and(|key| key.rebased(asset, now.unix_ms()) != *key)
    }

    /// Applies the effect of an operation, if that is allowed. Returns the thresholds that fire.
    pub(crate) fn take_effect(
        &mut self,
        effect: &Effect,
        now: Timestamp,
    ) -> Result<Vec<Fired>, String> {
        let allowed = |decided| match decided {
            Decided::Allowed => Ok(()),
            denied => Err(format!("{effect:?} was admitted: {denied:?}")),
        };
        match effect {
            Effect::Check { asset, cost } | Effect::Reserve { asset, cost, .. } => {
                allowed(self.decide(*asset, *cost, now))?;
            }
            Effect::Amend { id, to } => {
                let call =
                    self.key.as_ref().and_then(|key| key.call(*id)).filter(|call| !call.ended);
                let call = call.ok_or("an amendment of nothing")?;
                let added = to.beyond(call.cost);
                if added != Cost::default() {
                    allowed(self.decide(call.asset, added, now))?;
                }
            }
            _ => {}
        }
        let ms = now.unix_ms();
        if let Effect::Create(wanted) = effect {
            return match self.key {
                Some(_) => Err("a key was created twice".to_owned()),
                None => {
                    self.key = Some(Key::created(wanted, ms));
                    Ok(Vec::new())
                }
            };
        }
        let key = self.key.as_mut().ok_or("an operation on no key")?;
        let mut fired = Vec::new();
        match effect {
            Effect::Create(_) => {}
            Effect::Delete => self.key = None,
            Effect::Check { asset, cost } => key.charge(*asset, *cost, ms, &mut fired),
            Effect::Reserve { id, asset, cost } => {
                key.charge(*asset, *cost, ms, &mut fired);
                if key.call(*id).is_some() {
                    return Err("a call was reserved twice".to_owned());
                }
                let call =
                    Call { asset: *asset, cost: *cost, admitted: key.ids(*asset), ended: false };
                key.calls.push((*id, call));
            }
            Effect::Amend { id, to } => {
                let call = key.call(*id).cloned().expect("the server has it");
                key.call_mut(*id).cost = *to;
                key.correct(&call, *to, ms, &mut fired);
            }
            Effect::End { id, actual } => {
                let call = key.call_mut(*id);
                if std::mem::replace(&mut call.ended, true) {
                    return Err("a call ended twice".to_owned());
                }
                let call = call.clone();
                key.correct(&call, *actual, ms, &mut fired);
            }
            Effect::Rebase { asset } => *key = key.rebased(*asset, ms),
            Effect::Change(wanted) => key.change(wanted, ms),
        }
        fired.sort_unstable();
        Ok(fired)
    }
}

impl Cost {
    pub(crate) fn of(self, unit: usize) -> u64 {
        if unit == 0 { self.requests } else { self.tokens }
    }

    /// The tokens and credits by which it exceeds another cost.
    pub(crate) fn beyond(self, other: Self) -> Self {
        Self {
            requests: 0,
            tokens: self.tokens.saturating_sub(other.tokens),
            credits: self.credits.saturating_sub(other.credits),
        }
    }
}

pub(crate) const NO_LIMITS: Limits = [[None; 2]; 2];
