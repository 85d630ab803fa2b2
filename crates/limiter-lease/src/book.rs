//! The leases and recent denials of this process. The book does no I/O: it returns the requests to be sent.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use limiter_core::{Allowed, AssetId, Charge, Denied, Grant, KeyId, RequestId, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

#[cfg(test)]
use crate::bug::Bug;
use crate::clock::Instant;
use crate::pair::{Ask, Back, Denial, LATE, Lease, Pair};
use crate::settings::Settings;

/// All leases, in shards by the first segment of the key, so that one lock covers a key and its groups.
#[derive(Debug)]
pub(crate) struct Book {
    shards: Box<[Shard]>,
    /// Seeded at random, so that no caller can choose ids that collide.
    hasher: RandomState,
    settings: Settings,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Shard(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    of: HashMap<KeyId, Pairs, RandomState>,
    pairs: usize,
    epochs: Epochs,
    /// Guards that pause new grants.
    pauses: u32,
    figures: Figures,
}

/// Denial epochs by the hash of a key's first segment. A refund or a change begins a new one, which ends earlier denials.
#[derive(Debug)]
struct Epochs([u64; 64]);

/// A guard: until it is dropped, its shards ask for no grant.
#[derive(Debug)]
pub(crate) struct GrantPause<'a>(&'a [Shard]);

/// A guard: when it is dropped, a new denial epoch begins.
#[derive(Debug)]
pub(crate) struct EpochEnd<'a> {
    book: &'a Book,
    key: Option<&'a KeyId>,
}

/// What has become of calls and leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Calls that were allowed out of a lease.
    pub local: u64,
    /// Calls that were denied as others had been.
    pub denied: u64,
    /// Checks that went to the store.
    pub direct: u64,
    /// Grants that were asked for.
    pub asked: u64,
    /// Leases that were handed back.
    pub handed_back: u64,
    /// Requests that were granted.
    pub leased: u64,
    /// Requests that were handed back.
    pub returned: u64,
    /// Requests that could not be handed back in time, and stay charged.
    pub stranded: u64,
}

/// The assets of a key.
#[derive(Debug, Default)]
struct Pairs {
    of_none: Option<Pair>,
    of_assets: HashMap<AssetId, Pair, RandomState>,
}

/// How a check is decided.
#[derive(Debug)]
pub(crate) enum Drawn {
    Allowed(Arc<Allowed>, Option<Ask>),
    Denied(Arc<Denied>),
    /// By the store.
    Direct(Option<Ask>),
    /// By the store; the book has nothing of the key and the asset yet.
    Unseen,
}

/// Which leases are meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// Those of this key.
    Key(&'a KeyId),
    /// Those of all keys beneath this group, and its own.
    Beneath(&'a KeyId),
    All,
}

impl Book {
    pub(crate) fn new(settings: Settings) -> Self {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        Self { shards, hasher: RandomState::default(), settings }
    }

    fn shard(&self, key: &KeyId) -> &Mutex<Pages> {
        &self.shards[shard_of(self.hash(key))].0
    }

    #[inline]
    fn hash(&self, key: &KeyId) -> u64 {
        self.hasher.hash_one(key.root())
    }

    /// Decides a check out of the leases of its key and asset, or by a denial of late.
    #[inline]
    pub(crate) fn draw(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        now: Instant,
    ) -> Drawn {
        let hash = self.hash(key);
        let mut pages = self.shards[shard_of(hash)].0.lock();
        let Pages { of, figures, epochs, pauses, .. } = &mut *pages;
        let pair = of.get_mut(key).and_then(|pairs| pairs.get(asset));
        let Some(pair) = pair else {
            figures.direct += 1;
            return Drawn::Unseen;
        };
        pair.demand.add(charge, now, self.settings.time);
        if let Some(denied) = pair.denies(charge, now, *epochs.of(hash)) {
            figures.denied += 1;
            return Drawn::Denied(denied);
        }
        let allowed = pair.draw(charge, now);
        let ask = if *pauses == 0 { pair.asks(key, now, &self.settings) } else { None };
        figures.asked += u64::from(ask.is_some());
        if let Some(allowed) = allowed {
            figures.local += 1;
            Drawn::Allowed(allowed, ask)
        } else {
            figures.direct += 1;
            Drawn::Direct(ask)
        }
    }

    /// Counts a call that the store has allowed, of a key and an asset that the book has nothing of yet.
    pub(crate) fn begin(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        now: Instant,
    ) {
        let mut pages = self.shard(key).lock();
        if let Some(pair) = pages.pair(key, asset, now, self.settings.most_pairs / SHARDS) {
            pair.demand.add(charge, now, self.settings.time);
        }
    }

    /// Takes a grant in that was asked for at this instant. Returns it if it comes too late.
    pub(crate) fn granted(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        id: &RequestId,
        asked_at: Instant,
        granted: Option<Grant>,
        now: Instant,
    ) -> Option<Back> {
        let mut pages = self.shard(key).lock();
        let Pages { of, figures, .. } = &mut *pages;
        let pair = of.get_mut(key).and_then(|pairs| pairs.get(asset));
        let asking = pair.as_ref().and_then(|pair| pair.asking.as_ref()).filter(|it| it.id == *id);
        let (is_known, raises) = (asking.is_some(), asking.is_some_and(|asking| asking.raises));
        let is_wanted = asking.is_some_and(|asking| !asking.is_revoked);
        let forgotten_at = asked_at.saturating_add(self.settings.time + LATE);
        // One that ends sooner, with its window, is not raised any more.
        let renews_at = asked_at.saturating_add(self.settings.time * 7 / 10);
        // Should this clock be slow, the lease is dead in time all the same.
        let lasts = |grant: &Grant| grant.lasts * 998 / 1_000;
        #[cfg(test)]
        let lasts = |grant: &Grant| match self.settings.bug {
            Bug::GoesOnInTheNextWindow => self.settings.time,
            _ => lasts(grant),
        };
        let Some(pair) = pair.filter(|_| is_known) else {
            // Nothing is left of the key and the asset.
            return granted.map(|grant| Back::whole(key, id, &grant.charge, forgotten_at));
        };
        let asks_later = now.saturating_add(self.settings.time);
        let Some(grant) = granted else {
            pair.asks_at = asks_later;
            pair.end_asking(id);
            return None;
        };
        let dead_at = asked_at.saturating_add(lasts(&grant));
        if raises {
            // If it has gone back meanwhile, so has all that the store has added to it.
            if let Some(lease) = pair.lease.as_mut().filter(|lease| lease.id == *id) {
                figures.leased += grant.charge.beyond(&lease.granted).requests();
                lease.renew(grant, renews_at, dead_at);
            }
        } else {
            figures.leased += grant.charge.requests();
            if !is_wanted || dead_at <= now {
                pair.asks_at = asks_later;
                // It is asked for until it has gone back.
                return Some(Back::whole(key, id, &grant.charge, forgotten_at));
            }
            pair.lease = Some(Lease::new(id, grant, renews_at, dead_at));
        }
        #[cfg(test)]
        {
            pair.keeps_what_goes_back = self.settings.bug == Bug::DrawsFromWhatGoesBack;
        }
        pair.end_asking(id);
        None
    }

    /// Keeps a denial of the store, which was asked at this instant and in this denial epoch.
    pub(crate) fn denied(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        charge: &Charge,
        denied: &Denied,
        (asked_at, epoch): (Instant, u64),
    ) {
        let (Some(exceeded), Some(decided_at)) = (denied.exceeded(), denied.decided_at()) else {
            return;
        };
        let ends = exceeded.violations().filter_map(|violation| violation.resets_at);
        // The store's clock counts whole milliseconds: part of this one has passed.
        let left = |end: Timestamp| end.since(decided_at).saturating_sub(Duration::from_millis(1));
        let first = ends.map(left).min();
        let lasts = first.map_or(self.settings.time, |first| first.min(self.settings.time));
        let mut pages = self.shard(key).lock();
        if *pages.epochs.of(self.hash(key)) != epoch {
            return;
        }
        let most = self.settings.most_pairs / SHARDS;
        let Some(pair) = pages.pair(key, asset, asked_at, most) else { return };
        let (charge, until) = (*charge, asked_at.saturating_add(lasts));
        pair.denial = Some(Denial { charge, until, epoch, denied: Arc::new(denied.clone()) });
    }

    /// Returns the denial epoch of a key and of all keys that share a level with it.
    pub(crate) fn epoch(&self, key: &KeyId) -> u64 {
        *self.shard(key).lock().epochs.of(self.hash(key))
    }

    /// Begins a new denial epoch, of one key or of all, when the guard is dropped.
    pub(crate) const fn end_epoch<'a>(&'a self, key: Option<&'a KeyId>) -> EpochEnd<'a> {
        EpochEnd { book: self, key }
    }

    /// Counts a lease that was handed back.
    pub(crate) fn has_gone_back(&self, back: &Back) {
        let mut pages = self.shard(&back.key).lock();
        *pages.epochs.of(self.hash(&back.key)) += 1;
        pages.figures.handed_back += 1;
        pages.figures.returned += back.unused.requests();
    }

    /// Counts a lease that the store forgot before it was handed back.
    pub(crate) fn is_stranded(&self, back: &Back) {
        self.shard(&back.key).lock().figures.stranded += back.unused.requests();
    }

    /// Pauses new grants of a key and of all keys that share a level with it, or of all keys, until the guard is dropped.
    pub(crate) fn pause_grants(&self, key: Option<&KeyId>) -> GrantPause<'_> {
        let shards = match key.map(|key| shard_of(self.hash(key))) {
            Some(shard) => &self.shards[shard..=shard],
            None => &self.shards[..],
        };
        for shard in shards {
            shard.0.lock().pauses += 1;
        }
        GrantPause(shards)
    }

    /// Takes leases out of the book, and returns them with receivers that resolve when requests and hand-backs in flight end.
    pub(crate) fn take_back(&self, whose: Whose<'_>) -> (Vec<Back>, Vec<watch::Receiver<()>>) {
        let mut taken = (Vec::new(), Vec::new());
        match whose {
            Whose::Key(key) => {
                if let Some(pairs) = self.shard(key).lock().of.get_mut(key) {
                    take_all(key, pairs, &mut taken);
                }
            }
            Whose::Beneath(group) => self.shard(group).lock().take_back(whose, &mut taken),
            Whose::All => {
                for shard in &self.shards {
                    shard.0.lock().take_back(whose, &mut taken);
                }
            }
        }
        taken
    }

    /// Takes dead leases and those unused since the last tick out of the book, and removes idle pairs.
    pub(crate) fn tick(&self, now: Instant) -> Vec<Back> {
        let mut goes_back = Vec::new();
        for shard in &self.shards {
            let mut pages = shard.0.lock();
            let Pages { of, pairs: count, .. } = &mut *pages;
            let mut stays = |key: &KeyId, pair: &mut Pair| {
                pair.demand.pass(now, self.settings.time);
                goes_back.extend(match std::mem::take(&mut pair.is_used) {
                    true => pair.take_dead(key, now),
                    false => pair.take(key),
                });
                pair.denial.take_if(|denial| denial.until <= now);
                let is_idle = pair.is_idle();
                *count -= usize::from(is_idle);
                !is_idle
            };
            of.retain(|key, pairs| {
                pairs.of_none.take_if(|pair| !stays(key, pair));
                pairs.of_assets.retain(|_, pair| stays(key, pair));
                pairs.of_none.is_some() || !pairs.of_assets.is_empty()
            });
        }
        goes_back
    }

    /// Ends the wait for a grant that has come and gone back.
    pub(crate) fn end_asking(&self, key: &KeyId, asset: Option<&AssetId>, id: &RequestId) {
        let mut pages = self.shard(key).lock();
        if let Some(pair) = pages.of.get_mut(key).and_then(|pairs| pairs.get(asset)) {
            pair.end_asking(id);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.0.lock().of.is_empty())
    }

    pub(crate) fn figures(&self) -> Figures {
        let mut sum = Figures::default();
        for shard in &self.shards {
            let Figures { local, denied, direct, asked, handed_back, leased, returned, stranded } =
                shard.0.lock().figures;
            sum.local += local;
            sum.denied += denied;
            sum.direct += direct;
            sum.asked += asked;
            sum.handed_back += handed_back;
            sum.leased += leased;
            sum.returned += returned;
            sum.stranded += stranded;
        }
        sum
    }
}

impl Whose<'_> {
    pub(crate) fn covers(&self, key: &KeyId) -> bool {
        match self {
            Self::Key(one) => key == *one,
            Self::Beneath(group) => key == *group || key.groups().any(|of| of == **group),
            Self::All => true,
        }
    }
}

impl Epochs {
    #[inline]
    const fn of(&mut self, hash: u64) -> &mut u64 {
        &mut self.0[hash as usize % 64]
    }
}

impl Default for Epochs {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Drop for GrantPause<'_> {
    fn drop(&mut self) {
        for shard in self.0 {
            shard.0.lock().pauses -= 1;
        }
    }
}

impl Drop for EpochEnd<'_> {
    fn drop(&mut self) {
        let book = self.book;
        match self.key {
            Some(key) => *book.shard(key).lock().epochs.of(book.hash(key)) += 1,
            None => {
                for shard in &book.shards {
                    shard.0.lock().epochs.0.iter_mut().for_each(|epoch| *epoch += 1);
                }
            }
        }
    }
}

impl Pages {
    fn take_back(&mut self, whose: Whose<'_>, taken: &mut (Vec<Back>, Vec<watch::Receiver<()>>)) {
        for (key, pairs) in self.of.iter_mut().filter(|(key, _)| whose.covers(key)) {
            take_all(key, pairs, taken);
        }
    }

    /// The pair of a key and an asset, made if there is room for one more.
    fn pair(
        &mut self,
        key: &KeyId,
        asset: Option<&AssetId>,
        now: Instant,
        most: usize,
    ) -> Option<&mut Pair> {
        let is_there = self.of.get_mut(key).is_some_and(|pairs| pairs.get(asset).is_some());
        if !is_there && self.pairs >= most.max(1) {
            return None;
        }
        self.pairs += usize::from(!is_there);
        let pairs = self.of.entry(key.clone()).or_default();
        Some(match asset {
            None => pairs.of_none.get_or_insert_with(|| Pair::new(now)),
            Some(asset) => pairs.of_assets.entry(asset.clone()).or_insert_with(|| Pair::new(now)),
        })
    }
}

impl Pairs {
    #[inline]
    fn get(&mut self, asset: Option<&AssetId>) -> Option<&mut Pair> {
        match asset {
            None => self.of_none.as_mut(),
            Some(asset) => self.of_assets.get_mut(asset),
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Pair> {
        self.of_none.iter_mut().chain(self.of_assets.values_mut())
    }
}

fn take_all(
    key: &KeyId,
    pairs: &mut Pairs,
    (back, waits): &mut (Vec<Back>, Vec<watch::Receiver<()>>),
) {
    for pair in pairs.all() {
        waits.extend(pair.revoke());
        back.extend(pair.take(key));
    }
}

#[inline]
const fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use limiter_core::{KeyConfig, KeyKind, Limits, NewRecord, Thresholds};
    use limiter_memory::MemoryStore;

    use super::*;
    use crate::bug::Bug;

    /// A master died before its replica had a raise of ten requests. What the callers were told of stays used.
    #[test]
    fn no_more_goes_back_than_a_store_that_has_failed_over_knows_of() {
        let settings = Settings {
            time: Duration::from_millis(100),
            part: NonZeroU32::new(16).expect("it is not zero"),
            from_rate: 0,
            most_pairs: 1_000,
            bug: Bug::None,
        };
        let (book, store) = (Book::new(settings), MemoryStore::new());
        let key: KeyId = "ci".parse().expect("an id");
        let limits = Limits::builder().requests_per_day(1_000).build().expect("limits");
        let record = NewRecord {
            id: key.clone(),
            workspace: "home".parse().expect("a workspace"),
            kind: KeyKind::Member,
            config: KeyConfig::named("ci").expect("a name").with_global(limits),
            thresholds: Thresholds::DEFAULT,
            secret: None,
            bootstraps: false,
        };
        store.create(record).expect("the key is new");
        let requests = |count| Charge::NOTHING.with_requests(count).expect("few");
        let ms = Duration::from_millis;
        let ask = |now| match book.draw(&key, None, &requests(8), now) {
            Drawn::Direct(Some(ask)) | Drawn::Allowed(_, Some(ask)) => ask,
            drawn => panic!("{drawn:?}"),
        };
        let granted =
            |ask: &Ask| store.grant(&key, None, &ask.terms, &ask.id).expect("there is room");

        book.begin(&key, None, &requests(1), ms(0));
        let first = ask(ms(1));
        let grant = granted(&first);
        assert_eq!(grant.charge, requests(9));
        book.granted(&key, None, &first.id, ms(1), Some(grant.clone()), ms(1));
        let second = ask(ms(2));
        let raised = granted(&second);
        assert!(raised.charge.requests() > 9);
        book.granted(&key, None, &second.id, ms(2), Some(raised), ms(2));
        let third = ask(ms(75));
        book.granted(&key, None, &third.id, ms(75), Some(grant), ms(75));
        let (back, _) = book.take_back(Whose::Key(&key));
        let [back] = &back[..] else { panic!("{back:?}") };
        assert_eq!((back.used, back.unused), (requests(9), Charge::NOTHING));
    }
}
