//! A key and an asset: the lease, the demand, and the last denial.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{Allowed, Charge, Denied, Grant, GrantTerms, KeyId, RequestId};
use tokio::sync::watch;

use crate::clock::Instant;
use crate::demand::Demand;
use crate::settings::Settings;

/// A key and an asset.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) lease: Option<Lease>,
    pub(crate) demand: Demand,
    pub(crate) asking: Option<Asking>,
    /// No grant is asked for before.
    pub(crate) asks_at: Instant,
    pub(crate) denial: Option<Denial>,
    /// Whether anything was drawn since the last tick.
    pub(crate) is_used: bool,
    /// Hand-backs in flight. The sender of each is dropped when it ends.
    going_back: Vec<watch::Receiver<()>>,
    #[cfg(test)]
    pub(crate) keeps_what_goes_back: bool,
}

/// A grant, which is raised as often as it is renewed.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: RequestId,
    /// In all, since its windows began.
    pub(crate) granted: Charge,
    pub(crate) left: Charge,
    /// What was left when it was renewed last.
    renewed_to: Charge,
    renews_at: Instant,
    dead_at: Instant,
    pub(crate) allowed: Arc<Allowed>,
}

/// A grant that is being asked for.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) id: RequestId,
    /// Whether it raises the lease that is there.
    pub(crate) raises: bool,
    /// Whether it goes back as soon as it comes.
    pub(crate) is_revoked: bool,
    /// Dropped when the request ends.
    done: watch::Sender<()>,
}

/// A denial, which holds for calls that ask for at least as much.
#[derive(Debug)]
pub(crate) struct Denial {
    pub(crate) charge: Charge,
    pub(crate) until: Instant,
    /// The denial epoch in which the store was asked. The denial holds in no other.
    pub(crate) epoch: u64,
    pub(crate) denied: Arc<Denied>,
}

/// A grant to be asked for, and what goes back together with it.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) id: RequestId,
    pub(crate) terms: GrantTerms,
    pub(crate) back: Option<Back>,
}

/// A lease to be handed back. It has left the book, so no call draws on it.
#[derive(Debug)]
pub(crate) struct Back {
    pub(crate) key: KeyId,
    pub(crate) id: RequestId,
    pub(crate) used: Charge,
    pub(crate) unused: Charge,
    /// When the store forgets it.
    pub(crate) until: Instant,
    /// Dropped when the store has answered.
    pub(crate) done: Option<watch::Sender<()>>,
}

impl Pair {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            lease: None,
            demand: Demand::new(now),
            asking: None,
            asks_at: Instant::ZERO,
            denial: None,
            is_used: false,
            going_back: Vec::new(),
            #[cfg(test)]
            keeps_what_goes_back: false,
        }
    }

    /// The denial that holds for such a call.
    #[inline]
    pub(crate) fn denies(&self, charge: &Charge, now: Instant, epoch: u64) -> Option<Arc<Denied>> {
        let holds = |denial: &&Denial| {
            denial.until > now && denial.epoch == epoch && charge.covers(&denial.charge)
        };
        self.denial.as_ref().filter(holds).map(|denial| Arc::clone(&denial.denied))
    }

    /// Takes a call out of the lease, if it holds so much.
    #[inline]
    pub(crate) fn draw(&mut self, charge: &Charge, now: Instant) -> Option<Arc<Allowed>> {
        let lease = self.lease.as_mut();
        let lease = lease.filter(|lease| lease.lives(now) && lease.left.covers(charge))?;
        lease.left = lease.left.beyond(charge);
        self.is_used = true;
        Some(Arc::clone(&lease.allowed))
    }

    /// The grant that is to be asked for now, if any.
    #[inline]
    pub(crate) fn asks(&mut self, key: &KeyId, now: Instant, settings: &Settings) -> Option<Ask> {
        if self.asking.is_some() || now < self.asks_at {
            return None;
        }
        if let Some(lease) = &self.lease
            && now < lease.renews_at
            && !lease.is_low()
        {
            return None;
        }
        self.asks_anew(key, now, settings)
    }

    #[cold]
    fn asks_anew(&mut self, key: &KeyId, now: Instant, settings: &Settings) -> Option<Ask> {
        let expected = self.demand.expected();
        if expected.requests() < settings.least_requests() {
            return None;
        }
        let lease = self.lease.as_ref().filter(|lease| now < lease.dead_at);
        let (held, left) =
            lease.map_or((Charge::NOTHING, Charge::NOTHING), |lease| (lease.granted, lease.left));
        let expected = expected.beyond(&left);
        if expected.requests() == 0 {
            return None;
        }
        let raises = lease.is_some();
        // Without random bytes there is no id, and no lease.
        let id = lease.map(|lease| lease.id.clone()).or_else(random_id)?;
        let (done, _) = watch::channel(());
        self.asking = Some(Asking { id: id.clone(), raises, is_revoked: false, done });
        let terms = GrantTerms { expected, held, part: settings.part, time: settings.time };
        Some(Ask { id, terms, back: self.take_dead(key, now) })
    }

    pub(crate) fn end_asking(&mut self, id: &RequestId) {
        self.asking.take_if(|asking| asking.id == *id);
    }

    pub(crate) fn take_dead(&mut self, key: &KeyId, now: Instant) -> Option<Back> {
        let is_dead = self.lease.as_ref().is_some_and(|lease| lease.dead_at <= now);
        if is_dead { self.take(key) } else { None }
    }

    /// Takes the lease out, which goes back.
    pub(crate) fn take(&mut self, key: &KeyId) -> Option<Back> {
        #[cfg(test)]
        if self.keeps_what_goes_back {
            return Some(self.lease.as_ref()?.back(key, watch::channel(()).0));
        }
        let lease = self.lease.take()?;
        let (done, goes_back) = watch::channel(());
        self.going_back.push(goes_back);
        Some(lease.back(key, done))
    }

    /// Revokes the request in flight, and returns a receiver of it and of each hand-back in flight.
    pub(crate) fn revoke(&mut self) -> impl Iterator<Item = watch::Receiver<()>> {
        let asking = self.asking.as_mut().map(|asking| {
            asking.is_revoked = true;
            asking.done.subscribe()
        });
        self.forget_what_has_gone_back();
        self.going_back.iter().cloned().chain(asking)
    }

    fn forget_what_has_gone_back(&mut self) {
        // An error means that the sender was dropped.
        self.going_back.retain(|goes_back| goes_back.has_changed().is_ok());
    }

    pub(crate) fn is_idle(&mut self) -> bool {
        self.forget_what_has_gone_back();
        self.lease.is_none()
            && self.asking.is_none()
            && self.denial.is_none()
            && self.going_back.is_empty()
            && self.demand.is_nothing()
    }
}

impl Lease {
    pub(crate) fn new(id: &RequestId, grant: Grant, renews_at: Instant, dead_at: Instant) -> Self {
        Self {
            id: id.clone(),
            granted: grant.charge,
            left: grant.charge,
            renewed_to: grant.charge,
            renews_at,
            dead_at,
            allowed: Arc::new(grant.allowed.out_of_lease()),
        }
    }

    /// It was raised to this. Of a store that has failed over it may be less than was known.
    pub(crate) fn renew(&mut self, grant: Grant, renews_at: Instant, dead_at: Instant) {
        let used = self.granted.beyond(&self.left);
        (self.granted, self.left) = (grant.charge, grant.charge.beyond(&used));
        self.renewed_to = self.left;
        (self.renews_at, self.dead_at) = (renews_at, dead_at);
        self.allowed = Arc::new(grant.allowed.out_of_lease());
    }

    /// It is at its end as soon as any unit of it is used up: a call that asks for nothing of that unit needs one left.
    #[inline]
    fn lives(&self, now: Instant) -> bool {
        let is_left = |of: fn(&Charge) -> u64| of(&self.left) > 0 || of(&self.granted) == 0;
        now < self.dead_at
            && is_left(Charge::requests)
            && is_left(Charge::input_tokens)
            && is_left(Charge::output_tokens)
            && is_left(|charge| charge.credits().millionths())
    }

    /// Whether four fifths of what it was renewed to are used up, in any unit.
    fn is_low(&self) -> bool {
        let is_low = |of: fn(&Charge) -> u64| of(&self.left) < of(&self.renewed_to).div_ceil(5);
        is_low(Charge::requests)
            || is_low(Charge::input_tokens)
            || is_low(Charge::output_tokens)
            || is_low(|charge| charge.credits().millionths())
    }

    /// What goes back, though all was used: until then it has a place among the open reservations.
    fn back(&self, key: &KeyId, done: watch::Sender<()>) -> Back {
        Back {
            key: key.clone(),
            id: self.id.clone(),
            used: self.granted.beyond(&self.left),
            unused: self.left,
            until: self.dead_at.saturating_add(LATE),
            done: Some(done),
        }
    }
}

impl Back {
    /// A grant of which nothing was used.
    pub(crate) fn whole(key: &KeyId, id: &RequestId, charge: &Charge, until: Instant) -> Self {
        let (key, id) = (key.clone(), id.clone());
        Self { key, id, used: Charge::NOTHING, unused: *charge, until, done: None }
    }
}

fn random_id() -> Option<RequestId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    format!("lease-{:032x}", u128::from_le_bytes(bytes)).parse().ok()
}

/// How much longer than the lease lasts, the store remembers it.
pub(crate) const LATE: Duration = Duration::from_secs(1);
