//! Sets of slots: what `ledger.lua` of limiter-redis does with them. Slots that have expired stay; Redis drops them now and then.

use std::collections::BTreeMap;

use limiter_core::{ScopeId, Timestamp};

use super::{InLedger, Request, Server};
use crate::bug::Bug;
use crate::oracle::{Holder, Oracle};
use crate::path::Path;
use crate::world::SLOT_TIME;

/// The sets by level and scope: of each the holders, and until when they hold their slots.
pub(super) type SlotSets = BTreeMap<(usize, ScopeId), Vec<(Holder, Timestamp)>>;

/// A slot: its level, its scope, its holder, and until when it is held.
pub(crate) type Slot = (usize, usize, Holder, i64);

/// A set that a call names: the place of its level, its scope, and the most slots that may be held.
pub(crate) type Asked = (usize, ScopeId, u64);

impl Server {
    /// Of each set that a new reservation asks for, how many slots are held, and when one is free if none is.
    pub(super) fn open(
        &self,
        request: &Request,
        now: Timestamp,
        bug: Option<Bug>,
    ) -> Vec<(u64, Option<Timestamp>)> {
        let Some(InLedger::New { asked, .. }) = &request.ledger else { return Vec::new() };
        let of_set = |(place, scope, limit): &Asked| {
            let set = self.slots.get(&(request.path.at(*place), scope.clone()));
            let set = set.into_iter().flatten();
            let mut untils: Vec<_> = set.map(|(_, until)| *until).collect();
            untils.retain(|until| *until > now || bug == Some(Bug::CountsExpiredSlots));
            untils.sort_unstable();
            let held = untils.len() as u64;
            let above = held.checked_sub(*limit).and_then(|above| usize::try_from(above).ok());
            (held, above.and_then(|above| untils.get(above).copied()))
        };
        asked.iter().map(of_set).collect()
    }

    /// All slots, in order.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let of_set = |((level, scope), set): (&(usize, ScopeId), &Vec<(Holder, Timestamp)>)| {
            let (level, scope) = (*level, scope.scope as usize);
            let slots =
                set.iter().map(move |(holder, until)| (level, scope, *holder, until.unix_ms()));
            slots.collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(of_set).collect()
    }

    /// Takes the slots of a new reservation, renews those of one that goes on, and frees those of one that ends.
    pub(super) fn put_slots(
        &mut self,
        path: Path,
        ledger: &InLedger,
        now: Timestamp,
        bug: Option<Bug>,
    ) {
        let (holder, until) = ((path.own(), ledger.id()), now.after(SLOT_TIME));
        for (place, scope, _) in ledger.asked() {
            let name = (path.at(*place), scope.clone());
            let set = self.slots.entry(name.clone()).or_default();
            let is_held = set.iter().any(|(by, until)| *by == holder && *until > now);
            match ledger {
                InLedger::Known { entries, .. } if entries[1].ended.is_some() => {
                    let held = set.iter().position(|(by, _)| *by == holder);
                    held.filter(|_| bug != Some(Bug::FreesNoSlot)).map(|held| set.remove(held));
                }
                InLedger::Known { .. } if !is_held && bug != Some(Bug::RenewsExpiredSlots) => {}
                _ => {
                    set.retain(|(by, _)| *by != holder || bug == Some(Bug::CountsSlotsWithoutIds));
                    set.push((holder, until));
                }
            }
            set.sort_unstable();
            if set.is_empty() {
                self.slots.remove(&name);
            }
        }
    }
}

impl Request {
    /// Whether it reserves a call that is reserved already.
    pub(crate) fn repeats(&self, oracle: &Oracle) -> bool {
        let ledger = self.ledger.as_ref().filter(|ledger| matches!(ledger, InLedger::New { .. }));
        ledger.is_some_and(|ledger| oracle.has_reserved(self.path, ledger.id()))
    }

    /// Whether a new reservation finds no free slot in a set.
    pub(super) fn is_out_of_slots(&self, open: &[(u64, Option<Timestamp>)]) -> bool {
        let asked = self.ledger.as_ref().map_or(&[][..], InLedger::asked);
        asked.iter().zip(open).any(|((_, _, limit), (held, _))| held >= limit)
    }
}
