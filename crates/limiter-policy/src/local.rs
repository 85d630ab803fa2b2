//! Keys whose limits this process knows, so that it can decide for them without the store.

use std::collections::HashSet;
use std::iter;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use limiter_core::{
    AssetId, CallError, KeyId, KeyKind, KeysError, LedgerBounds, RecordId, RequestId,
    ReservationError, Timestamp, Unpaid,
};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::asking::{Asking, Effect, Subject};
use crate::calls::Calls;
use crate::catch_up::{Round, is_not_charged};
use crate::debt::{Debt, Moment, Sending};
use crate::here::{Full, Here};
use crate::level::{Learned, Level};
use crate::metrics::{Late, Outcome};
use crate::share::Share;

/// The known keys and their groups, for which this process can decide, and their debts to the store.
///
/// One lock guards them all; it is held for one decision and never across a call of the store.
#[derive(Debug)]
pub(crate) struct Local {
    share: Share,
    bounds: LedgerBounds,
    /// The most calls that are remembered by their ids, over all keys.
    most_calls: usize,
    /// How long the store remembers the id of a payment.
    payments_remembered_for: Duration,
    keys: Mutex<Keys>,
    /// The number of concurrent reads of keys and groups.
    pub(crate) learning: Arc<Semaphore>,
    /// Held by the task that forgets calls in time: at most one runs.
    tidying: Arc<Semaphore>,
}

#[derive(Debug)]
struct Keys {
    /// Keys and groups. A group is used after each key beneath it, so that the key is evicted first.
    followed: LruCache<KeyId, Followed>,
    owing: HashSet<KeyId>,
    /// The keys with calls that are remembered by their ids; `calls` counts those calls.
    remembering: HashSet<KeyId>,
    calls: usize,
    tidied_at: Option<Instant>,
    /// The first instant at which a call is forgotten, as of `tidied_at`.
    first_forgotten_at: Option<Timestamp>,
}

/// A key or a group that this process reads now and then.
#[derive(Debug)]
struct Followed {
    asked_at: Instant,
    learned: Option<Arc<Learned>>,
    level: Option<Box<Level>>,
    /// The calls of a key that were decided here.
    calls: Option<Box<Calls>>,
}

impl Local {
    pub(crate) fn new(
        share: Share,
        most: NonZeroUsize,
        most_calls: usize,
        payments_remembered_for: Duration,
    ) -> Self {
        Self {
            share,
            bounds: LedgerBounds::of_each(most.get()),
            most_calls,
            payments_remembered_for,
            keys: Mutex::new(Keys::new(most)),
            learning: Arc::new(Semaphore::new(MOST_LEARNING)),
            tidying: Arc::new(Semaphore::new(1)),
        }
    }

    /// Runs a function on a key at the time of this process, if its limits and those of its groups are known.
    pub(crate) fn with<T>(
        &self,
        key: &KeyId,
        act: impl FnOnce(&mut Here<'_>, Timestamp) -> T,
    ) -> Option<T> {
        self.with_at(key, Timestamp::from(SystemTime::now()), act)
    }

    fn with_at<T>(
        &self,
        key: &KeyId,
        now: Timestamp,
        act: impl FnOnce(&mut Here<'_>, Timestamp) -> T,
    ) -> Option<T> {
        let mut keys = self.keys.lock();
        if keys.calls >= self.most_calls {
            keys.make_room(now);
        }
        let full = (keys.calls >= self.most_calls)
            .then(|| Full { most: self.most_calls, retry_at: keys.room_at(now) });
        keys.use_now(key);
        let mut levels = keys.take_levels(key, self.share, now)?;
        let Keys { followed, owing, remembering, calls: all_calls, .. } = &mut *keys;
        let calls = followed.peek_mut(key)?.calls.get_or_insert_default();
        let before = calls.remembered();
        let acted =
            act(&mut Here { key, levels: &mut levels, calls, bounds: self.bounds, full }, now);
        let after = calls.remembered();
        *all_calls = all_calls.saturating_sub(before).saturating_add(after);
        if after > 0 && !remembering.contains(key) {
            remembering.insert(key.clone());
        }
        if calls.owes() && !owing.contains(key) {
            owing.insert(key.clone());
        }
        keys.put_back(key, levels);
        Some(acted)
    }

    pub(crate) fn knows(&self, key: &KeyId) -> bool {
        self.keys.lock().knows(key)
    }

    /// Runs a function on a key with a call that was reserved here.
    pub(crate) fn with_reserved<T>(
        &self,
        key: &KeyId,
        id: &RequestId,
        act: impl FnOnce(&mut Here<'_>, Timestamp) -> T,
    ) -> Option<T> {
        self.with(key, |here, now| here.calls.has_reserved(id).then(|| act(here, now))).flatten()
    }

    /// Returns which to read of a key that has just made a call and its groups.
    pub(crate) fn due_to_learn(&self, key: &KeyId) -> Vec<KeyId> {
        let mut keys = self.keys.lock();
        let levels = iter::once(key.clone()).chain(key.groups());
        levels.filter(|level| keys.is_due_to_learn(level)).collect()
    }

    /// Takes over the store's answer about a key or a group. One that does not exist is not followed.
    pub(crate) fn learn(&self, key: &KeyId, learned: Option<Learned>) {
        let mut keys = self.keys.lock();
        match (learned, keys.followed.peek_mut(key)) {
            (Some(learned), Some(followed)) => followed.learned = Some(Arc::new(learned)),
            (None, _) => keys.forget(key),
            _ => {}
        }
    }

    /// Learning failed: the next call tries again.
    pub(crate) fn learned_nothing(&self, key: &KeyId) {
        if let Some(followed) = self.keys.lock().followed.peek_mut(key)
            && let Some(before) = Instant::now().checked_sub(LEARN_EVERY)
        {
            followed.asked_at = before;
        }
    }

    /// Drops a key that the store does not know. A group stays: it makes no calls, and each is answered as one of an unknown
    /// key.
    pub(crate) fn forget_key(&self, key: &KeyId) {
        let mut keys = self.keys.lock();
        if !keys.is_group(key) {
            keys.forget(key);
        }
    }

    pub(crate) fn owes_nothing(&self) -> bool {
        self.keys.lock().owing.is_empty()
    }

    /// The sum of all debts.
    pub(crate) fn unpaid(&self) -> Unpaid {
        let (keys, mut unpaid) = (self.keys.lock(), Unpaid::default());
        for key in &keys.owing {
            let owes = keys.calls_of(key).is_some_and(|calls| calls.add_unpaid(&mut unpaid));
            unpaid.keys += usize::from(owes);
        }
        unpaid
    }

    /// Charges the store for calls that were allowed here: each debt of a key and asset that is due. A failed payment
    /// does not stop those of other debts.
    pub(crate) async fn pay(&self, asking: &Arc<Asking>, round: &mut Round) {
        for (key, asset) in self.due(round.also_refused) {
            while let Some(Sending { id, charge, confirms }) =
                self.next_payment(&key, &asset, asking, round)
            {
                let remembered_for = self.payments_remembered_for;
                let id = RecordId { id: &id, remembered_for, confirms: confirms.as_ref() };
                let paid = asking
                    .ask(&key, Effect::Charges, |store| {
                        store.record(&key, asset.as_ref(), &charge, &id)
                    })
                    .await;
                match &paid {
                    Ok(crossed) => {
                        asking.late.count(Late::Record, Outcome::Done);
                        self.with_debt(&key, &asset, Debt::confirm);
                        asking.crossed(&key, crossed);
                        continue;
                    }
                    Err(ReservationError::KeyUnknown) => self.forget_key(&key),
                    Err(error) => {
                        let is_outage = error.is_outage();
                        self.with_debt(&key, &asset, |debt| {
                            if is_not_charged(error) {
                                debt.not_charged();
                            }
                            if !is_outage {
                                debt.refused(Instant::now());
                            }
                        });
                        round.meets_outage |= is_outage;
                        if !is_outage {
                            asking.late.count(Late::Record, Outcome::Refused);
                            round.refused(&key, Late::Record, error);
                        }
                    }
                }
                break;
            }
        }
        self.keys.lock().forget_what_is_paid();
    }

    /// The keys and assets with a debt that is due.
    fn due(&self, also_refused: bool) -> Vec<(KeyId, Option<AssetId>)> {
        let (keys, now) = (self.keys.lock(), Moment::now());
        let of_key = |key: &KeyId| {
            let assets = keys.calls_of(key).map(|calls| calls.due(now, also_refused));
            let assets = assets.unwrap_or_default();
            assets.into_iter().map(|asset| (key.clone(), asset)).collect::<Vec<_>>()
        };
        keys.owing.iter().flat_map(of_key).collect()
    }

    /// The next payment of this debt; `None` if it is settled, or if no id can be drawn.
    fn next_payment(
        &self,
        key: &KeyId,
        asset: &Option<AssetId>,
        asking: &Asking,
        round: &mut Round,
    ) -> Option<Sending> {
        let now = Moment::now();
        // Assumes that the answer takes the whole deadline.
        let safe_for = self.payments_remembered_for - self.payments_remembered_for / MARGIN;
        let safe_for = safe_for.saturating_sub(asking.timing.deadline);
        self.with_debt(key, asset, |debt| {
            if let Some(given_up) = debt.give_up(safe_for, now) {
                asking.late.count(Late::Record, Outcome::GivenUp);
                round.given_up.add(&given_up);
                round.given_up.keys += 1;
            }
            debt.send(now, new_id)
        })?
    }

    fn with_debt<T>(
        &self,
        key: &KeyId,
        asset: &Option<AssetId>,
        act: impl FnOnce(&mut Debt) -> T,
    ) -> Option<T> {
        let mut keys = self.keys.lock();
        let calls = keys.followed.peek_mut(key)?.calls.as_mut()?;
        calls.debt(asset).map(act)
    }

    /// Whether any call is remembered by its id.
    pub(crate) fn remembers_calls(&self) -> bool {
        !self.keys.lock().remembering.is_empty()
    }

    /// Forgets the calls whose time has passed.
    fn tidy(&self, now: Timestamp) {
        self.keys.lock().tidy(now);
    }
}

impl Asking {
    /// Reads the limits of a followed key or group, and what is used of them, from the store.
    pub(crate) async fn learn(self: &Arc<Self>, key: &KeyId) {
        let Some(local) = &self.local else { return };
        match self.read_level(key).await {
            Ok(learned) => local.learn(key, learned),
            Err(_) => local.learned_nothing(key),
        }
    }

    /// Reads a key or a group, with its plan; `None` if it does not exist.
    async fn read_level(self: &Arc<Self>, key: &KeyId) -> Result<Option<Learned>, KeysError> {
        let record = self.ask(key, Effect::Reads, |store| store.read(key)).await?;
        let Some(record) = record else { return Ok(None) };
        let plan = match &record.config.plan {
            Some(name) => {
                let (subject, workspace) = (Subject::Several, &record.workspace);
                let plan = self.ask(subject, Effect::Reads, |store| store.plan(workspace, name));
                // The key has another one by now.
                Some(plan.await?.ok_or_else(|| KeysError::NoPlan(name.clone()))?)
            }
            None => None,
        };
        let usage = self.ask(key, Effect::Reads, |store| store.usage(key)).await?;
        Ok(usage.map(|usage| Learned::new(record, plan.as_ref(), usage)))
    }

    /// Starts the task that forgets the calls of an outage in time, even if no other call ever comes.
    pub(crate) fn tidy_later(self: &Arc<Self>) {
        if let Some(local) = &self.local
            && local.remembers_calls()
            && let Ok(permit) = Arc::clone(&local.tidying).try_acquire_owned()
            && let Ok(runtime) = Handle::try_current()
        {
            let asking = Arc::downgrade(self);
            runtime.spawn(async move {
                let _permit = permit;
                loop {
                    sleep(TIDY_EVERY).await;
                    let Some(asking) = asking.upgrade() else { return };
                    let Some(local) = &asking.local else { return };
                    local.tidy(Timestamp::from(SystemTime::now()));
                    if !local.remembers_calls() {
                        return;
                    }
                }
            });
        }
    }
}

impl Keys {
    fn new(most: NonZeroUsize) -> Self {
        let (owing, remembering) = Default::default();
        let followed = LruCache::new(most);
        let (tidied_at, first_forgotten_at) = (None, None);
        Self { followed, owing, remembering, calls: 0, tidied_at, first_forgotten_at }
    }

    fn calls_of(&self, key: &KeyId) -> Option<&Calls> {
        // `peek`, since a payment is not a use of the key.
        self.followed.peek(key)?.calls.as_deref()
    }

    fn learned(&self, level: &KeyId) -> Option<&Arc<Learned>> {
        self.followed.peek(level)?.learned.as_ref()
    }

    /// Whether the key and all its groups are known.
    fn knows(&self, key: &KeyId) -> bool {
        key.levels().all(|level| self.learned(&level).is_some())
    }

    fn is_group(&self, level: &KeyId) -> bool {
        self.learned(level).is_some_and(|learned| learned.record.kind == KeyKind::Group)
    }

    /// Marks a key as used, and then its groups.
    fn use_now(&mut self, key: &KeyId) {
        self.followed.promote(key);
        for group in key.groups() {
            self.followed.promote(&group);
        }
    }

    /// Takes out the groups of a known key, the outermost first, and the key itself, as last learned.
    #[expect(clippy::vec_box, reason = "they are boxed where they are kept")]
    fn take_levels(
        &mut self,
        key: &KeyId,
        share: Share,
        now: Timestamp,
    ) -> Option<Vec<Box<Level>>> {
        if !self.knows(key) {
            return None;
        }
        let take = |level: KeyId| {
            let followed = self.followed.peek_mut(&level)?;
            let learned = followed.learned.as_ref()?;
            let level = followed.level.take();
            let mut level = level.unwrap_or_else(|| Box::new(Level::new(share, learned, now)));
            level.learn(learned, now);
            Some(level)
        };
        key.levels().map(take).collect()
    }

    #[expect(clippy::vec_box, reason = "they are boxed where they are kept")]
    fn put_back(&mut self, key: &KeyId, levels: Vec<Box<Level>>) {
        for (id, level) in key.levels().zip(levels) {
            if let Some(followed) = self.followed.peek_mut(&id) {
                followed.level = Some(level);
            }
        }
    }

    /// Whether it is time to read a key that has just made a call, or a group of it.
    fn is_due_to_learn(&mut self, level: &KeyId) -> bool {
        if let Some(followed) = self.followed.get_mut(level) {
            let due = followed.asked_at.elapsed() >= LEARN_EVERY;
            if due {
                followed.asked_at = Instant::now();
            }
            return due;
        }
        if !self.has_room() {
            return false;
        }
        let asked_at = Instant::now();
        let followed = Followed { asked_at, learned: None, level: None, calls: None };
        self.followed.put(level.clone(), followed);
        true
    }

    fn forget(&mut self, key: &KeyId) {
        let calls = self.followed.pop(key).and_then(|followed| followed.calls);
        self.calls = self.calls.saturating_sub(calls.map_or(0, |calls| calls.remembered()));
        self.owing.remove(key);
        self.remembering.remove(key);
    }

    /// Whether one more key or group can be followed. A key with a debt or with remembered calls is not evicted for another,
    /// nor are its groups.
    fn has_room(&mut self) -> bool {
        if self.followed.len() < self.followed.cap().get() {
            return true;
        }
        for _ in 0..MOST_PASSED_OVER {
            match self.followed.peek_lru().map(|(oldest, _)| oldest) {
                Some(oldest)
                    if self.owing.contains(oldest) || self.remembering.contains(oldest) =>
                {
                    let oldest = oldest.clone();
                    self.use_now(&oldest);
                }
                _ => return true,
            }
        }
        false
    }

    fn forget_what_is_paid(&mut self) {
        let mut owing = std::mem::take(&mut self.owing);
        owing.retain(|key| self.calls_of(key).is_some_and(Calls::owes));
        if !owing.is_empty() {
            self.owing = owing;
        }
    }

    /// Forgets the calls whose time has passed, and frees their memory.
    fn tidy(&mut self, now: Timestamp) {
        self.tidied_at = Some(Instant::now());
        let Self { followed, remembering, calls: all_calls, .. } = self;
        let mut first: Option<Timestamp> = None;
        remembering.retain(|key| {
            let calls = followed.peek_mut(key).and_then(|followed| followed.calls.as_mut());
            let Some(calls) = calls else { return false };
            let before = calls.remembered();
            calls.forget_until(now);
            *all_calls = all_calls.saturating_sub(before - calls.remembered());
            let of_key = calls.first_forgotten_at();
            first = first.into_iter().chain(of_key).min();
            of_key.is_some()
        });
        self.first_forgotten_at = first;
        if self.remembering.is_empty() {
            self.remembering = HashSet::new();
        }
    }

    /// The first instant at which a call is forgotten, while no more can be remembered.
    fn room_at(&self, now: Timestamp) -> Timestamp {
        let next_look = now.after(MAKE_ROOM_EVERY);
        self.first_forgotten_at.map_or(next_look, |first| first.max(next_look))
    }

    /// Forgets the calls whose time has passed, unless that was just done.
    fn make_room(&mut self, now: Timestamp) {
        if self.tidied_at.is_none_or(|before| before.elapsed() >= MAKE_ROOM_EVERY) {
            self.tidy(now);
        }
    }
}

/// Draws a unique id: 128 random bits.
fn new_id() -> Option<RequestId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    RequestId::new(format!("outage-{:032x}", u128::from_be_bytes(bytes))).ok()
}

/// Limits change rarely, and two reads of a key each minute cost nothing.
const LEARN_EVERY: Duration = Duration::from_secs(60);
/// Enough to follow a thousand keys within a second, and a small part of what a store does at a time.
const MOST_LEARNING: usize = 16;
/// A call may be remembered for this long after its time. A look at all keys takes a millisecond or so.
const TIDY_EVERY: Duration = Duration::from_secs(10);
/// Without a pause, each call would search for room while there is none.
const MAKE_ROOM_EVERY: Duration = Duration::from_secs(1);
/// How many keys that cannot be evicted are passed over before a new key is not followed.
const MOST_PASSED_OVER: usize = 16;
/// The margin is one part in `MARGIN` of the time that the store remembers a payment. It covers clocks that differ, and
/// payments that arrive late.
const MARGIN: u32 = 8;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use limiter_conformance::fixtures::{NOON, key_id, requests_per_day};
    use limiter_core::{
        Charge, Decision, KeyConfig, KeyRecord, KeyState, Limits, NewRecord, PlanUpdate, StoredKey,
        Thresholds, Totals, Usage,
    };
    use limiter_memory::MemoryStore;

    use crate::builder::GuardedStoreBuilder;
    use crate::policy::FailurePolicy;
    use crate::store::GuardedStore;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn with_room_for(keys: usize, most_calls: usize) -> Local {
        let most = NonZeroUsize::new(keys).unwrap();
        Local::new(Share::one_in(NonZeroU32::MIN), most, most_calls, HOUR)
    }

    /// Creates `keys` known keys without limits, which share room for `most_calls` calls.
    fn local(keys: usize, most_calls: usize) -> (Local, Vec<KeyId>) {
        let local = with_room_for(keys, most_calls);
        let keys = (0..keys).map(|number| known(&local, &format!("key-{number}"))).collect();
        (local, keys)
    }

    /// Makes a key without limits known.
    fn known(local: &Local, name: &str) -> KeyId {
        let id = key_id(name);
        assert!(local.due_to_learn(&id).contains(&id));
        learn(local, name, KeyKind::Member, Limits::NONE);
        id
    }

    /// Answers as a store that has a key or a group with these limits.
    fn learn(local: &Local, id: &str, kind: KeyKind, limits: Limits) {
        let config = KeyConfig::named("a name").unwrap().with_global(limits);
        let new = NewRecord {
            id: key_id(id),
            workspace: "home".parse().unwrap(),
            kind,
            config,
            thresholds: Thresholds::NONE,
            secret: None,
            bootstraps: false,
        };
        let state = KeyState::new(kind, &new.config, Thresholds::NONE, NOON);
        let record = KeyRecord::of(&StoredKey::new(&new, NOON), &state, NOON);
        local.learn(&new.id, Some(Learned::new(record, None, Usage::of(&state, NOON))));
    }

    /// Makes known two keys beneath a group with three requests per day here.
    fn group_of_two() -> (Local, [KeyId; 2]) {
        let local = with_room_for(9, usize::MAX);
        let keys = ["acme/a", "acme/b"].map(key_id);
        for key in &keys {
            let _ = local.due_to_learn(key);
            learn(&local, key.as_str(), KeyKind::Member, Limits::NONE);
        }
        learn(&local, "acme", KeyKind::Group, requests_per_day(3));
        (local, keys)
    }

    fn check(local: &Local, key: &KeyId) -> Option<Decision> {
        let check = |here: &mut Here<'_>, now| here.check(None, &Charge::request(), now);
        local.with_at(key, NOON, check)
    }

    fn id(text: &str) -> RequestId {
        text.parse().unwrap()
    }

    fn reserve(local: &Local, key: &KeyId, name: &str, ttl: Duration, now: Timestamp) -> bool {
        let reserve = |here: &mut Here<'_>, now| {
            here.reserve(None, &Charge::request(), &id(name), ttl, now).is_ok()
        };
        local.with_at(key, now, reserve).unwrap()
    }

    fn settle(local: &Local, key: &KeyId, name: &str, now: Timestamp) -> bool {
        let end = |here: &mut Here<'_>, now| here.end(&id(name), Some(&Totals::unchanged()), now);
        local.with_at(key, now, end).unwrap().is_ok()
    }

    fn calls(local: &Local) -> usize {
        local.keys.lock().calls
    }

    #[test]
    fn calls_that_have_ended_or_whose_ttl_has_passed_make_room_for_those_of_any_key() {
        let (local, keys) = local(2, 2);
        assert!(reserve(&local, &keys[0], "ends", HOUR, NOON));
        assert!(reserve(&local, &keys[0], "passes", 2 * HOUR, NOON));
        assert!(!reserve(&local, &keys[1], "one more", HOUR, NOON));
        assert!(settle(&local, &keys[0], "ends", NOON));
        assert!(settle(&local, &keys[0], "ends", NOON.after(Duration::from_secs(119))), "again");
        local.tidy(NOON.after(Duration::from_secs(119)));
        assert_eq!(calls(&local), 2);
        local.tidy(NOON.after(Duration::from_secs(120)));
        assert_eq!(calls(&local), 1, "long before its ttl");
        local.tidy(NOON.after(2 * HOUR));
        assert_eq!((calls(&local), local.remembers_calls()), (0, false));
        assert!(reserve(&local, &keys[1], "one more", HOUR, NOON.after(2 * HOUR)));
        local.forget_key(&keys[1]);
        assert_eq!((calls(&local), local.remembers_calls()), (0, false));
    }

    /// A call without room looks for some itself, but not on every call.
    #[tokio::test(start_paused = true)]
    async fn what_has_passed_makes_room_without_a_task_that_tidies() {
        let (local, keys) = local(2, 1);
        assert!(reserve(&local, &keys[0], "first", HOUR, NOON));
        assert!(!reserve(&local, &keys[1], "second", HOUR, NOON.after(HOUR / 2)));
        assert!(!reserve(&local, &keys[1], "second", HOUR, NOON.after(HOUR)), "it has just looked");
        tokio::time::advance(MAKE_ROOM_EVERY).await;
        assert!(reserve(&local, &keys[1], "second", HOUR, NOON.after(HOUR)));
        assert_eq!(calls(&local), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_have_passed_are_forgotten_also_if_no_other_call_ever_comes() {
        let share = Share::one_in(NonZeroU32::MIN);
        let builder = GuardedStoreBuilder::new(FailurePolicy::LocalShare { share });
        let store = builder.guard(MemoryStore::new());
        let local = store.asking().local.as_ref().unwrap();
        let (key, now) = (known(local, "ci"), Timestamp::from(SystemTime::now()));
        assert!(reserve(local, &key, "short", Duration::from_millis(1), now));
        store.asking().tidy_later();
        while local.remembers_calls() {
            sleep(TIDY_EVERY).await;
        }
        assert_eq!(calls(local), 0);
    }

    #[test]
    fn a_key_that_owes_does_not_keep_new_keys_from_being_followed() {
        let (local, keys) = local(2, 9);
        let owes = |here: &mut Here<'_>, now| here.check(None, &Charge::request(), now);
        assert!(local.with_at(&keys[0], NOON, owes).unwrap().is_allowed());
        assert_eq!(local.due_to_learn(&"another".parse().unwrap()).len(), 1);
        assert!(local.knows(&keys[0]) && !local.knows(&keys[1]));
        assert_eq!((local.unpaid().keys, local.unpaid().requests), (1, 1));
    }

    #[test]
    fn the_keys_beneath_a_group_have_its_share_together() {
        let (local, [a, b]) = group_of_two();
        assert!(reserve(&local, &a, "ends", HOUR, NOON));
        for key in [&a, &b] {
            assert!(check(&local, key).unwrap().is_charged());
        }
        for key in [&a, &b] {
            let denied = check(&local, key).unwrap();
            let exceeded = denied.denied().and_then(|denied| denied.exceeded()).unwrap();
            let binding = exceeded.binding().unwrap();
            assert_eq!((binding.group, binding.limit, binding.used), (Some(key_id("acme")), 3, 3));
        }
        let cancel = |here: &mut Here<'_>, now| here.end(&id("ends"), None, now);
        assert!(local.with_at(&a, NOON, cancel).unwrap().is_ok());
        assert!(check(&local, &b).unwrap().is_charged(), "it has the room that the other left");
        assert!(!check(&local, &a).unwrap().is_allowed());
        assert_eq!(
            (local.unpaid().keys, local.unpaid().requests),
            (2, 3),
            "the group owes nothing"
        );
    }

    #[test]
    fn changed_limits_of_a_group_hold_here_for_all_its_keys_and_keep_what_was_used() {
        let (local, [a, b]) = group_of_two();
        assert!(check(&local, &a).unwrap().is_charged());
        learn(&local, "acme", KeyKind::Group, requests_per_day(2));
        assert!(check(&local, &b).unwrap().is_charged());
        assert!(!check(&local, &a).unwrap().is_allowed());
    }

    #[test]
    fn a_key_is_decided_here_only_while_all_its_groups_are_known() {
        let (local, key) = (with_room_for(9, usize::MAX), key_id("acme/search/ci"));
        let all = ["acme/search/ci", "acme", "acme/search"].map(key_id);
        assert_eq!(local.due_to_learn(&key), all);
        assert!(local.due_to_learn(&key).is_empty(), "they were just asked about");
        assert_eq!(local.due_to_learn(&key_id("acme/b")), [key_id("acme/b")], "not for each key");
        for (name, kind) in [
            ("acme/search/ci", KeyKind::Member),
            ("acme", KeyKind::Group),
            ("acme/search", KeyKind::Group),
        ] {
            assert!(!local.knows(&key) && check(&local, &key).is_none());
            learn(&local, name, kind, Limits::NONE);
        }
        assert!(local.knows(&key) && check(&local, &key).unwrap().is_charged());
        local.forget_key(&key_id("acme"));
        assert!(local.knows(&key), "a call of the group itself was denied");
        local.learn(&key_id("acme"), None);
        assert!(!local.knows(&key) && check(&local, &key).is_none());
        assert_eq!(local.due_to_learn(&key), [key_id("acme")]);
    }

    /// Reads the key from the store, and returns the limits in force here, as `scope/window/unit limit`.
    async fn learned(store: &GuardedStore, key: &KeyId) -> Vec<String> {
        store.asking().learn(key).await;
        let local = store.asking().local.as_ref().unwrap();
        let now = Timestamp::from(SystemTime::now());
        let usage = |here: &mut Here<'_>, now| Usage::of(&here.levels[0].state, now);
        let usage = local.with_at(key, now, usage).unwrap();
        let rules = usage.scopes.iter().flat_map(|scope| &scope.rules);
        rules.map(|state| format!("{} {}", state.rule, state.limit)).collect()
    }

    #[tokio::test]
    async fn a_key_with_a_plan_has_a_share_of_its_own_limits_and_of_those_of_the_plan() {
        let (share, inner) = (Share::one_in(NonZeroU32::new(3).unwrap()), MemoryStore::new());
        let builder = GuardedStoreBuilder::new(FailurePolicy::LocalShare { share });
        let store = builder.guard(inner.clone());
        let (workspace, id) = ("home".parse().unwrap(), key_id("ci"));
        let plan = |text: &str| -> PlanUpdate {
            PlanUpdate::new("free".parse().unwrap(), serde_json::from_str(text).unwrap())
        };
        let free = plan(
            r#"{"global": {"requests_per_minute": 30, "tokens_per_day": 900, "parallel": 9},
                "assets": {"gpt-5": {}}, "other": "denied", "time_zone": "Europe/Berlin"}"#,
        );
        inner.save_plan(&workspace, &free).unwrap();
        let own = r#"{"name": "ci", "plan": "free",
                      "global": {"tokens_per_day": 3000, "parallel": "unlimited"}}"#;
        let new = NewRecord {
            id: id.clone(),
            workspace: workspace.clone(),
            kind: KeyKind::Member,
            config: serde_json::from_str(own).unwrap(),
            thresholds: Thresholds::NONE,
            secret: None,
            bootstraps: false,
        };
        inner.create(new).unwrap();
        let local = store.asking().local.as_ref().unwrap();
        let _ = local.due_to_learn(&id);
        let limits = ["global/minute/requests 10", "global/day/tokens 1000"];
        assert_eq!(learned(&store, &id).await, limits);
        let call = |name: &str| {
            let (asset, now) = (name.parse().unwrap(), Timestamp::from(SystemTime::now()));
            let peek = |here: &mut Here<'_>, now| here.peek(Some(&asset), &Charge::request(), now);
            local.with_at(&id, now, peek).unwrap().is_allowed()
        };
        assert_eq!(
            ["gpt-5", "gpt-4"].map(call),
            [true, false],
            "the plan lists one without limits"
        );
        let zone = |here: &mut Here<'_>, _| here.levels[0].state.time_zone().to_string();
        assert_eq!(local.with_at(&id, NOON, zone).unwrap(), "Europe/Berlin");
        let more = plan(r#"{"global": {"requests_per_minute": 60}}"#).at_once();
        inner.save_plan(&workspace, &more).unwrap();
        let limits = ["global/minute/requests 20", "global/day/tokens 1000"];
        assert_eq!(learned(&store, &id).await, limits);
        assert!(call("gpt-4"));
    }

    #[test]
    fn a_group_is_not_evicted_before_a_key_beneath_it() {
        let (local, key) = (with_room_for(3, usize::MAX), key_id("acme/ci"));
        let _ = local.due_to_learn(&key);
        learn(&local, "acme", KeyKind::Group, Limits::NONE);
        learn(&local, "acme/ci", KeyKind::Member, Limits::NONE);
        let first = known(&local, "first");
        assert!(check(&local, &key).unwrap().is_charged());
        known(&local, "second");
        assert!(local.knows(&key) && !local.knows(&first), "the key was used since");
        // It owes, so that it stays, and its group too.
        known(&local, "third");
        known(&local, "fourth");
        assert!(local.knows(&key));
        let paid = |debt: &mut Debt| {
            let _ = debt.send(Moment::now(), new_id);
            debt.confirm();
        };
        local.with_debt(&key, &None, paid);
        local.keys.lock().forget_what_is_paid();
        known(&local, "fifth");
        assert!(!local.knows(&key) && local.keys.lock().learned(&key_id("acme")).is_some());
    }

    #[test]
    fn a_reservation_of_an_outage_takes_at_most_650_bytes_and_gives_them_back() {
        const EACH: usize = 200;
        let (local, keys) = local(EACH, usize::MAX);
        let measured = |act: &mut dyn FnMut()| allocation_counter::measure(act).bytes_current;
        for key in &keys {
            assert!(reserve(&local, key, "what a key itself takes", Duration::ZERO, NOON));
        }
        local.tidy(NOON);
        let taken = measured(&mut || {
            for key in &keys {
                for number in 0..EACH {
                    let name = format!("01234567-89ab-cdef-0123-{number:012}");
                    assert!(reserve(&local, key, &name, HOUR, NOON));
                }
            }
        });
        let given_back = measured(&mut || local.tidy(NOON.after(HOUR)));
        let calls = i64::try_from(keys.len() * EACH).unwrap();
        println!(
            "{} bytes for each reservation, {} when it has passed",
            taken / calls,
            (taken + given_back) / calls
        );
        assert!(taken <= 650 * calls && taken + given_back <= 10 * calls, "{taken} {given_back}");
    }
}
