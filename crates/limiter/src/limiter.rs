//! The limiter: one path for each call, to a store in memory or a shared one.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use limiter_core::ManualClock;
#[cfg(feature = "stream")]
use limiter_core::Throttle;
use limiter_core::{
    AccessKey, AssetId, BoxError, CallError, Charge, CreatedKey, DayHistory, Decision,
    DenialReason, Denied, InvalidValue, Issuer, KeyId, KeysError, NewKey, RequestId,
    ReservationError, Settled, Store, StoreError, Thresholds, Totals, Unpaid, UpdatedKey, Usage,
    WorkspaceId,
};
#[cfg(feature = "lease")]
use limiter_lease::LeasedStore;
use limiter_memory::MemoryStore;
#[cfg(feature = "policy")]
use limiter_policy::{FailurePolicy, GuardedStoreBuilder};
#[cfg(feature = "redis")]
use limiter_redis::{RedisError, RedisStore};

use crate::answer::Answer;
use crate::asset::OfAsset;
use crate::builder::LimiterBuilder;
use crate::deciding::Deciding;
use crate::estimate::Estimate;
use crate::events::{EventSink, ThresholdEvents, UsageEvents, UsageKind};
use crate::handle::Handle;
use crate::keys::Keys;
#[cfg(any(feature = "metrics", feature = "tracing"))]
use crate::observe::Labels;
use crate::observe::{Call, Instruments, Observer, Operation};
use crate::reservation::{Reservation, Reserved, random_id};
use crate::reserving::{Reserving, Unanswered};

/// Decides for each call of an API key whether it may go on.
///
/// Clones share the store; one is enough for a process. Where several tasks or threads call at once, each
/// decision is one atomic step: together they never get more than the limits allow.
///
/// Key ids come from [`authenticate`](Self::authenticate), or from the service's own authentication.
///
/// Each call returns an [`Answer`]: a future to await, and in memory also a value, by [`now`](Answer::now).
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    backend: Backend,
    issuer: Arc<Issuer>,
    observer: Observer,
    /// Throttles the warnings that reservations of streams could not be amended: a failing store fails all of them.
    #[cfg(feature = "stream")]
    stream_warnings: Arc<Throttle>,
}

/// The store of a limiter. Calls in memory are functions; on any other store they are boxed futures, which cost nothing next
/// to a round trip.
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    Memory(MemoryStore),
    Shared(Arc<dyn Store>),
}

impl Limiter {
    /// Creates a limiter inside this process, on the system's clock.
    ///
    /// To continue from a [`Snapshot`](limiter_memory::Snapshot), build a [`MemoryStore`] and convert it:
    /// `Limiter::from(store)`. Keep a clone of the store to take snapshots of it.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::from(MemoryStore::new())
    }

    /// Creates a limiter inside this process, on a clock that is set by hand: for tests.
    #[must_use]
    pub fn in_memory_on(clock: &ManualClock) -> Self {
        Self::from(MemoryStore::builder().clock(clock.clone()).build())
    }

    /// Connects to limits in Redis, shared by all processes that use the same servers, on the servers' clock.
    ///
    /// ```no_run
    /// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    /// use limiter::{Charge, Limiter, StoreError};
    ///
    /// let limiter = Limiter::redis("redis://127.0.0.1:6379").await?;
    /// match limiter.check_and_consume(&"ci".parse()?, None, &Charge::request()).await {
    ///     Ok(decision) => println!("allowed: {}", decision.is_allowed()),
    ///     Err(StoreError::OutcomeUnknown(why)) => println!("it may have been charged: {why}"),
    ///     Err(error) => println!("no decision: {error}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The URL names one server, servers behind Sentinels, or a cluster:
    ///
    /// | URL | |
    /// |---|---|
    /// | `redis://user:password@host:port/database` | one server |
    /// | `rediss://…` | the same by TLS (feature `redis-tls`) |
    /// | `unix:///path` | one server, by a socket |
    /// | `redis+sentinel://host:port,host:port/service` | the master that Sentinels name |
    /// | `redis+cluster://host:port,host:port` | a cluster, by some of its nodes |
    ///
    /// Connecting to a server takes at most 5 s, and a call at most 500 ms, with waiting and reconnecting; after that
    /// it fails. These and all other settings are those of [`RedisStore::builder`], whose store becomes a limiter with
    /// `Limiter::from(store)`. Keep a clone of the store for its [`health`](RedisStore::health).
    ///
    /// If the answer to a call that was sent is late, or lost with the connection, the error is
    /// [`StoreError::OutcomeUnknown`]: the call may have been charged. It is not sent again, since it could be charged
    /// twice. [`StoreError::Unavailable`] means that nothing was charged. An error never allows a call: the service
    /// chooses whether to serve the request anyway.
    ///
    /// The limiter runs on the tokio runtime that it was connected on.
    ///
    /// # Errors
    /// [`RedisError`], for example for a malformed URL, an unreachable server, a wrong password, or a server that is
    /// too old or may not run scripts. Each message says what to do.
    #[cfg(feature = "redis")]
    pub async fn redis(url: impl Into<String>) -> Result<Self, RedisError> {
        // Connecting is rare and its future large: boxed, it does not make those of its callers large.
        Ok(Self::from(Box::pin(RedisStore::connect(url)).await?))
    }

    /// Creates a builder of a limiter with its own settings, on a store of any kind.
    ///
    /// ```
    /// use limiter::Limiter;
    /// use limiter::memory::MemoryStore;
    ///
    /// let limiter = Limiter::builder(MemoryStore::new())
    ///     .thresholds("50,80,100".parse()?)
    ///     .on_threshold(|event| eprintln!("{event}"))
    ///     .build();
    /// # Ok::<(), limiter::InvalidValue>(())
    /// ```
    pub fn builder(store: impl Store) -> LimiterBuilder {
        LimiterBuilder::new(store)
    }

    /// Subscribes to the thresholds that keys and groups reach by calls of this limiter and its clones, each once in its window.
    /// Of several processes on one store, the one whose call reaches a threshold raises the event.
    ///
    /// A subscriber slows no decision. A slow subscriber misses the oldest events, and gets their number. If the answer
    /// to a call is lost on its way from the store, its event is lost too.
    ///
    /// ```
    /// use limiter::{Charge, KeyConfig, Limiter, Limits, NewKey};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let limiter = Limiter::in_memory();
    /// let mut events = limiter.threshold_events();
    /// let limits = Limits::builder().requests_per_day(10).build()?;
    /// let ci = NewKey::member(KeyConfig::named("ci")?.with_global(limits)).with_id("ci".parse()?);
    /// let key = limiter.workspace("team-a")?.create(ci).await?.record.id;
    /// for _ in 0..8 {
    ///     let _ = limiter.check_and_consume(&key, None, &Charge::request()).await?;
    /// }
    /// let event = events.next().await.expect("the limiter lives")?;
    /// assert!(event.to_string().starts_with("ci has used 80 % of 10 requests per day for all calls: 8"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn threshold_events(&self) -> ThresholdEvents {
        self.observer().events.threshold_events()
    }

    /// Subscribes to the final charges of this limiter and its clones, to bill from: see
    /// [`UsageEvent`](crate::events::UsageEvent).
    ///
    /// A subscriber slows no decision. A slow subscriber misses the oldest events, and gets their number. Without a
    /// subscriber or a callback, an event costs one branch.
    ///
    /// A charge raises its event in the process that made it. If the answer to a check is lost on its way from
    /// the store, its event is lost too. A settlement whose answer was lost raises its event when this process repeats
    /// it.
    ///
    /// ```
    /// use limiter::events::UsageKind;
    /// use limiter::{AssetId, Charge, Reserved, Totals};
    ///
    #[doc = include_str!("example.md")]
    /// let mut events = limiter.usage_events();
    /// let gpt5: AssetId = "gpt-5".parse()?;
    /// let estimate = Charge::request().with_tokens(120, 500)?;
    /// if let Reserved::Allowed(mut call) = limiter.reserve(&key, &gpt5, &estimate).await? {
    ///     call.settle(&Totals::unchanged().with_output_tokens(87)?).await?;
    /// }
    /// let event = events.next().await.expect("the limiter lives")?;
    /// assert_eq!(event.kind, UsageKind::Settled);
    /// assert_eq!(event.charge, Charge::request().with_tokens(120, 87)?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn usage_events(&self) -> UsageEvents {
        self.observer().events.usage_events()
    }

    /// Creates a limiter on a store of any kind, with a policy for its outages: a deadline for each call, and a circuit
    /// breaker that keeps a dead store from costing every call its deadline.
    ///
    /// An answer without the store is flagged as [degraded](limiter_core::Allowed::degraded).
    ///
    /// The settings are those of a [`GuardedStoreBuilder`], whose store becomes a limiter with `Limiter::from(store)`.
    /// It also takes a store that cannot be reached yet:
    ///
    /// ```no_run
    /// # #[cfg(feature = "redis")]
    /// # async fn serve() {
    /// use std::time::Duration;
    ///
    /// use limiter::Limiter;
    /// use limiter::policy::{FailurePolicy, GuardedStoreBuilder};
    /// use limiter::redis::RedisStore;
    ///
    /// let store = GuardedStoreBuilder::new(FailurePolicy::FailOpen)
    ///     .probe_every(Duration::from_secs(2))
    ///     .connect(|| RedisStore::connect("redis://127.0.0.1:6379"))
    ///     .await;
    /// let limiter = Limiter::from(store);
    /// # }
    /// ```
    #[cfg(feature = "policy")]
    pub fn guarded(store: impl Store, policy: FailurePolicy) -> Self {
        Self::from(GuardedStoreBuilder::new(policy).guard(store))
    }

    /// Creates a limiter that decides most checks in the memory of this process, out of what a store of any kind has charged for
    /// them in advance: a *lease*, of a tenth of a second. It never admits one too many, and what was not used goes back.
    ///
    /// A decision out of a lease is flagged as [leased](limiter_core::Allowed::leased). The settings are those of a
    /// [`LeasedStoreBuilder`](crate::lease::LeasedStoreBuilder), whose store becomes a limiter with `Limiter::from(store)`. Call
    /// [`flush`](Self::flush) at the end of a process, so that nothing stays charged that was not used.
    ///
    /// ```no_run
    /// # #[cfg(feature = "redis")]
    /// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
    /// use limiter::Limiter;
    /// use limiter::redis::RedisStore;
    ///
    /// let limiter = Limiter::leased(RedisStore::connect("redis://127.0.0.1:6379").await?);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "lease")]
    pub fn leased(store: impl Store) -> Self {
        Self::from(LeasedStore::new(store))
    }

    /// Returns the same limiter with the label (and span field) `key`: the id of the key of each call.
    ///
    /// **Nothing bounds the number of time series**: each key that makes calls has its own series for as long as the
    /// process lives. So has each id that callers make up, if they can. Use it for few keys, which are authenticated
    /// first. Decisions and denials are labelled, durations are not. Each label costs a look-up.
    ///
    /// Clones and handles that were made before have no label.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    #[must_use]
    pub fn with_key_label(&self) -> Self {
        self.with_labels(|labels| labels.keys = true)
    }

    /// As [`with_key_label`](Self::with_key_label), with the asset of each call as the label `asset`.
    ///
    /// **Nothing bounds the number of time series**: each name of an asset by any caller has series of its own. Use it where
    /// the service looks the asset up first, in a list of its own. Calls of no asset, and amendments of reservations, have
    /// no such label.
    #[cfg(any(feature = "metrics", feature = "tracing"))]
    #[must_use]
    pub fn with_asset_label(&self) -> Self {
        self.with_labels(|labels| labels.assets = true)
    }

    #[cfg(any(feature = "metrics", feature = "tracing"))]
    fn with_labels(&self, change: impl FnOnce(&mut Labels)) -> Self {
        let mut parts = Parts::clone(&self.0);
        change(&mut parts.observer.instruments.labels);
        Self(Arc::new(parts))
    }

    /// Returns whether the limits are inside this process: then [`Answer::now`] answers every call.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.0.backend.is_in_memory()
    }

    /// Charges the calls that were allowed without the store, and reports ends of reservations to it, for at most this
    /// long. Returns the rest. Call it before the process ends: unpaid debts are then lost, and a warning has the sum.
    ///
    /// Only a limiter with a failure policy has debts; any other has nothing to do.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let limiter = limiter::Limiter::in_memory();
    /// let unpaid = limiter.flush(std::time::Duration::from_secs(5)).await;
    /// assert!(unpaid.is_nothing(), "lost: {unpaid}");
    /// # }
    /// ```
    pub async fn flush(&self, within: Duration) -> Unpaid {
        self.store().flush(within).await
    }

    /// Returns the id of the key with this access key, or `None` if it belongs to no living key.
    ///
    /// An expired key is found; its calls are denied.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub fn authenticate<'a>(
        &'a self,
        access_key: &'a AccessKey,
    ) -> Answer<impl Future<Output = Result<Option<KeyId>, StoreError>> + Send + 'a> {
        let call = Call::new(Operation::Authenticate);
        self.observed(call, async move {
            let digest = access_key.digest();
            match &self.0.backend {
                Backend::Memory(store) => Ok(store.resolve(&digest)),
                Backend::Shared(store) => store.resolve(&digest).await,
            }
        })
    }

    /// Decides whether the key may make this call, and charges it if so, in one atomic step.
    ///
    /// The call meets the limits of the key and of each [group](KeyId::groups) that it lies beneath, and is charged to all of
    /// them or to none. A denial names the group whose limit it is.
    ///
    /// Pass `None` for a call of no asset: it meets the global limits alone, as does a call of an asset
    /// without limits.
    ///
    /// Unless the limiter is in memory, a future that is dropped before its answer may or may not have charged. To
    /// repeat or cancel such a call, use [`check_once`](Self::check_once) or [`reserve`](Self::reserve).
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer; a denial is no error.
    #[inline(always)] // its future is small, and a call would build it on the stack
    pub fn check_and_consume<'a>(
        &'a self,
        key: &'a KeyId,
        asset: impl OfAsset<'a>,
        charge: &'a Charge,
    ) -> Answer<impl Future<Output = Result<Decision, StoreError>> + Send + 'a> {
        let asset = asset.asset();
        let call = move || {
            Call::of(Operation::CheckAndConsume, key).for_asset(asset).checking(charge, None)
        };
        self.answer(match &self.0.backend {
            Backend::Memory(store) => {
                let decide = move || store.check_and_consume(key, asset, charge);
                Deciding::Now { observer: self.observer(), call, decide }
            }
            Backend::Shared(store) => {
                self.later(call(), store.check_and_consume(key, asset, charge))
            }
        })
    }

    /// Answers as [`check_and_consume`](Self::check_and_consume) would, and changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub fn peek<'a>(
        &'a self,
        key: &'a KeyId,
        asset: impl OfAsset<'a>,
        charge: &'a Charge,
    ) -> Answer<impl Future<Output = Result<Decision, StoreError>> + Send + 'a> {
        let asset = asset.asset();
        let call = move || Call::of(Operation::Peek, key).for_asset(asset);
        self.answer(match &self.0.backend {
            Backend::Memory(store) => {
                let decide = move || store.peek(key, asset, charge);
                Deciding::Now { observer: self.observer(), call, decide }
            }
            Backend::Shared(store) => self.later(call(), store.peek(key, asset, charge)),
        })
    }

    /// As [`check_and_consume`](Self::check_and_consume), but charged once, however often it is repeated under this id
    /// within the dedupe time (120 s unless set otherwise): a retry after a timeout is safe.
    ///
    /// A repetition is allowed, flagged as [replayed](limiter_core::Allowed::replayed), and charges nothing, whatever
    /// its asset and charge. Only allowed calls are remembered; a denied call is decided again.
    ///
    /// # Errors
    /// [`ReservationError::TooMany`] if no more ids can be remembered, or a store error.
    pub fn check_once<'a>(
        &'a self,
        key: &'a KeyId,
        asset: impl OfAsset<'a>,
        charge: &'a Charge,
        id: &'a RequestId,
    ) -> Answer<impl Future<Output = Result<Decision, ReservationError>> + Send + 'a> {
        let asset = asset.asset();
        let call = Call::of(Operation::CheckOnce, key).for_asset(asset).checking(charge, Some(id));
        self.decided(call, async move { self.store().check_once(key, asset, charge, id).await })
    }

    /// Decides and charges a call by its estimate, which is corrected once the cost is known: see [`Reservation`].
    ///
    /// Its id is drawn, and it can be settled for an hour ([`Self::RESERVATION_TTL`]). To repeat it after a lost answer, bring an
    /// id of your own: [`reserve_as`](Self::reserve_as).
    ///
    /// If its future is dropped before the answer, the caller does not have the id. The call then goes on as a task on a
    /// tokio runtime, and the charge is taken back. The runtime is that of the thread, or the one that polled the future
    /// last. Without a runtime, or if that fails, a warning through `tracing` names key and id.
    ///
    /// # Errors
    /// [`ReservationError::TooMany`] if no more reservations of this key can be remembered, or a store error.
    pub fn reserve<'a>(
        &'a self,
        key: &'a KeyId,
        asset: impl OfAsset<'a>,
        estimate: &'a Charge,
    ) -> Answer<impl Future<Output = Result<Reserved, ReservationError>> + Send + 'a> {
        let asset = asset.asset();
        self.answer(async move {
            let id = random_id()?;
            if self.is_in_memory() {
                return self.reserve_here(key, asset, estimate, &id, Self::RESERVATION_TTL).await;
            }
            let (key, asset) = (key.clone(), asset.cloned());
            Reserving::new(self.clone(), key, asset, *estimate, id, Self::RESERVATION_TTL).await
        })
    }

    /// As [`reserve`](Self::reserve), under an id of the caller's choice and with a ttl of its own.
    ///
    /// A repetition under the same id is allowed, flagged as [replayed](limiter_core::Allowed::replayed), and charges
    /// nothing: a retry after a timeout is safe. The ttl runs from the first time and is not prolonged.
    ///
    /// If its future is dropped before the answer, the call may or may not be charged, and a warning says so. It is not
    /// cancelled, since a retry under the same id would then be free: repeat it, or cancel it by its id.
    ///
    /// # Errors
    /// [`ReservationError::OtherExists`] if the id is that of a reservation of another asset or another estimate,
    /// [`ReservationError::TooMany`], or a store error.
    pub fn reserve_as<'a>(
        &'a self,
        key: &'a KeyId,
        asset: impl OfAsset<'a>,
        estimate: &'a Charge,
        id: &'a RequestId,
        ttl: Duration,
    ) -> Answer<impl Future<Output = Result<Reserved, ReservationError>> + Send + 'a> {
        let asset = asset.asset();
        self.answer(async move {
            if self.is_in_memory() {
                return self.reserve_here(key, asset, estimate, id, ttl).await;
            }
            let unanswered = Unanswered::new(key, id);
            let answer = self.reserve_here(key, asset, estimate, id, ttl).await;
            unanswered.answered();
            answer
        })
    }

    /// Reserves without care for a dropped future: the caller handles a charge without an answer.
    pub(crate) async fn reserve_here(
        &self,
        key: &KeyId,
        asset: Option<&AssetId>,
        estimate: &Charge,
        id: &RequestId,
        ttl: Duration,
    ) -> Result<Reserved, ReservationError> {
        let call = Call::of(Operation::Reserve, key).for_asset(asset);
        let answer = self.store().reserve(key, asset, estimate, id, ttl);
        let decision = self.observer().decision(call, answer).await?;
        let is_charged = decision.is_charged();
        Ok(match decision {
            Decision::Allowed(allowed) => Reserved::Allowed(Reservation::new(
                self.clone(),
                key.clone(),
                asset.cloned(),
                id.clone(),
                *estimate,
                allowed,
                is_charged,
            )),
            Decision::Denied(denied) => Reserved::Denied(denied),
        })
    }

    /// Reserves an estimate as [`reserve`](Self::reserve) does. If its longest answer exceeds a limit itself, the
    /// reservation has as many output tokens as the limit allows.
    ///
    /// So a small limit does not shut out a call whose caller allows for a long answer. A denial then means one of three
    /// things: the prompt alone [never fits](limiter_core::Denied::never_fits), there is no room before
    /// [`retry_at`](limiter_core::Denied::retry_at), or the credits do not pay for it. The store is called a second time only if the whole estimate was
    /// denied and a limit is smaller than it.
    ///
    /// The reservation keeps the estimate's [price](crate::Reservation::price).
    ///
    /// ```
    /// use limiter::{AssetId, Estimate, Reserved};
    ///
    #[doc = include_str!("example.md")]
    /// let gpt5: AssetId = "gpt-5".parse()?;
    /// // 1,000 tokens a minute: the answer may be as long as the prompt leaves room for.
    /// let estimate = Estimate::for_prompt_bytes(800).max_output_tokens(32_000);
    /// match limiter.reserve_estimated(&key, &gpt5, &estimate).await? {
    ///     Reserved::Allowed(mut call) => {
    ///         assert_eq!(call.estimate().output_tokens(), 800);
    ///         call.cancel().await?;
    ///     }
    ///     Reserved::Denied(denied) if denied.never_fits() => println!("shorten the prompt: {denied}"),
    ///     Reserved::Denied(denied) => println!("come back later: {denied}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ReservationError::Invalid`] for an estimate of more than 2^53 − 1 tokens, and as [`reserve`](Self::reserve).
    pub fn reserve_estimated<'a>(
        &'a self,
        key: &'a KeyId,
        asset: impl OfAsset<'a>,
        estimate: &'a Estimate,
    ) -> Answer<impl Future<Output = Result<Reserved, ReservationError>> + Send + 'a> {
        let asset = asset.asset();
        self.answer(async move {
            let whole = estimate.charge()?;
            let mut answer = self.reserve(key, asset, &whole).await?;
            if let Some(exceeded) = answer.denied().and_then(Denied::exceeded) {
                let capped = estimate.capped_to(exceeded.rules()).charge()?;
                if capped != whole {
                    answer = self.reserve(key, asset, &capped).await?;
                }
            }
            Ok(answer.with_price(estimate.price))
        })
    }

    /// As [`Reservation::amend`], by the id of a reservation that this process or another made.
    ///
    /// # Errors
    /// As there; a deleted key is denied as unknown.
    pub fn amend<'a>(
        &'a self,
        key: &'a KeyId,
        id: &'a RequestId,
        to: &'a Totals,
    ) -> Answer<impl Future<Output = Result<Decision, ReservationError>> + Send + 'a> {
        let call = Call::of(Operation::Amend, key);
        self.decided(call, async move { self.store().amend(key, id, to).await })
    }

    /// Settles as [`Reservation::settle`], by the id of a reservation that this process or another made. If a failure
    /// policy [postpones](limiter_core::SettledAs::Postponed) it, the answer has no charge; a later usage event has it.
    ///
    /// # Errors
    /// As there, and [`ReservationError::KeyUnknown`] for a deleted key.
    pub fn settle<'a>(
        &'a self,
        key: &'a KeyId,
        id: &'a RequestId,
        actual: &'a Totals,
    ) -> Answer<impl Future<Output = Result<Settled, ReservationError>> + Send + 'a> {
        self.observed(Call::of(Operation::Settle, key), async move {
            let settled = self.store().settle(key, id, actual).await?;
            self.observer().events.ended(key, id, UsageKind::Settled, &settled);
            Ok(settled)
        })
    }

    /// As [`Reservation::cancel`], by the id of a reservation that this process or another made.
    ///
    /// # Errors
    /// As there, and [`ReservationError::KeyUnknown`] for a deleted key.
    pub fn cancel<'a>(
        &'a self,
        key: &'a KeyId,
        id: &'a RequestId,
    ) -> Answer<impl Future<Output = Result<Settled, ReservationError>> + Send + 'a> {
        self.observed(Call::of(Operation::Cancel, key), async move {
            let settled = self.store().cancel(key, id).await?;
            self.observer().events.ended(key, id, UsageKind::Cancelled, &settled);
            Ok(settled)
        })
    }

    /// The default ttl of a reservation, within which it can be settled: longer than any answer streams.
    pub const RESERVATION_TTL: Duration = Duration::from_secs(3_600);

    /// Resolves a key and an asset for many calls; `None` if the key is unknown.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub fn handle<'a>(
        &'a self,
        key: &'a KeyId,
        asset: impl OfAsset<'a>,
    ) -> Answer<impl Future<Output = Result<Option<Handle>, StoreError>> + Send + 'a> {
        let asset = asset.asset();
        self.observed(Call::of(Operation::Handle, key), async move {
            let handle = |memory| Handle::new(self, key, asset, memory);
            let store = match &self.0.backend {
                Backend::Memory(store) => {
                    return Ok(store.handle(key, asset).map(|memory| handle(Some(memory))));
                }
                Backend::Shared(store) => store,
            };
            let decision = store.peek(key, asset, &Charge::NOTHING).await?;
            let unknown = |denied: &Denied| *denied.reason() == DenialReason::KeyUnknown;
            Ok((!decision.denied().is_some_and(unknown)).then(|| handle(None)))
        })
    }

    /// Returns the usage of a key or a group, or `None` if there is none of this id: what was counted today, limited or not, and the limits
    /// in force, by scope.
    ///
    /// It checks no rights; [`Keys::usage`] does.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub fn usage<'a>(
        &'a self,
        key: &'a KeyId,
    ) -> Answer<impl Future<Output = Result<Option<Usage>, StoreError>> + Send + 'a> {
        self.observed(Call::of(Operation::Usage, key), async move { self.store().usage(key).await })
    }

    /// Returns what a key or a group has counted on each of the last days, the oldest first and today at the end, or `None` if
    /// there is none of this id. Days without any charge are left out.
    ///
    /// A store keeps [`DayHistory::DAYS`] days unless set otherwise, and at most [`DayHistory::MOST_DAYS`]. Make bills from
    /// [usage events](Self::usage_events): they have the actual cost of a call that was settled late.
    ///
    /// It checks no rights; [`Keys::history`] does.
    ///
    /// ```
    /// use limiter::{Charge, ScopeId};
    ///
    #[doc = include_str!("example.md")]
    /// let charge = Charge::request().with_tokens(120, 87)?;
    /// let _ = limiter.check_and_consume(&key, None, &charge).await?;
    /// let history = limiter.history(&key, 7).await?.expect("the key lives");
    /// let today = history.last().expect("a call was made today");
    /// assert_eq!(today.scopes[0].scope, ScopeId::GLOBAL);
    /// assert_eq!(today.scopes[0].account, charge);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot answer.
    pub fn history<'a>(
        &'a self,
        key: &'a KeyId,
        days: u16,
    ) -> Answer<impl Future<Output = Result<Option<Vec<DayHistory>>, StoreError>> + Send + 'a> {
        let call = Call::of(Operation::History, key);
        self.observed(call, async move { self.store().history(key, days).await })
    }

    /// Creates the first key of a workspace: an admin key without an expiry, for services that hand out admin keys. A service
    /// that manages the keys itself needs none: see [`workspace`](Self::workspace).
    ///
    /// Repeated with the access key that the caller brought, or without an access key under the id that the caller chose, it
    /// returns that admin key as it is: a service may call it at each start.
    ///
    /// # Errors
    /// [`KeysError::AlreadyBootstrapped`] if the workspace has other keys; [`KeysError::FirstMustBeAdmin`] if the key is no
    /// admin key or has an expiry; and the errors of [`Keys::create`].
    pub fn bootstrap(
        &self,
        workspace: WorkspaceId,
        admin: NewKey,
    ) -> Answer<impl Future<Output = Result<CreatedKey, KeysError>> + Send + '_> {
        let issuer = &self.0.issuer;
        self.observed(Call::new(Operation::Bootstrap), async move {
            issuer.bootstrap(self.store(), workspace, admin).await
        })
    }

    /// Returns the keys, groups and plans of this workspace, managed on behalf of its owner: the process itself, which is trusted
    /// and needs no admin key.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use limiter::{Charge, KeyConfig, Limiter, Limits, NewKey};
    ///
    /// let limiter = Limiter::in_memory();
    /// let limits = Limits::builder().requests_per_minute(60).build()?;
    /// let ci = NewKey::member(KeyConfig::named("ci")?.with_global(limits));
    /// let ci = limiter.workspace("team-a")?.create(ci).await?.record.id;
    /// assert!(limiter.check_and_consume(&ci, None, &Charge::request()).await?.is_allowed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A plan has the limits of many keys. A key may replace some of them, or lift them:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use limiter::{Charge, KeyConfig, Limiter, Limits, NewKey, Plan, PlanUpdate, Unit, Window};
    ///
    /// let limiter = Limiter::in_memory();
    /// let keys = limiter.workspace("team-a")?;
    /// let free = |requests| -> Result<_, limiter::InvalidValue> {
    ///     let limits = Limits::builder().requests_per_day(requests).tokens_per_day(10_000).build()?;
    ///     Ok(PlanUpdate::new("free".parse()?, Plan::default().with_global(limits)))
    /// };
    /// keys.save_plan(free(1)?).await?;
    ///
    /// let of_plan = |name, own| -> Result<_, limiter::InvalidValue> {
    ///     Ok(NewKey::member(KeyConfig::named(name)?.with_plan("free".parse()?).with_global(own)))
    /// };
    /// let more = Limits::builder().requests_per_day(3).build()?;
    /// let ci = keys.create(of_plan("ci", more)?).await?.record.id;
    /// let any = Limits::builder().unlimited(Window::Day, Unit::Tokens).build()?;
    /// let chat = keys.create(of_plan("chat", any)?).await?.record.id;
    ///
    /// let call = Charge::request().with_tokens(9_000, 9_000)?;
    /// assert!(!limiter.check_and_consume(&ci, None, &call).await?.is_allowed(), "10,000 tokens");
    /// assert!(limiter.check_and_consume(&chat, None, &call).await?.is_allowed(), "any tokens");
    /// assert!(!limiter.check_and_consume(&chat, None, &call).await?.is_allowed(), "one request");
    ///
    /// // Changed limits hold from the next window of each key on, or at once:
    /// keys.save_plan(free(2)?.at_once()).await?;
    /// assert!(limiter.check_and_consume(&chat, None, &call).await?.is_allowed());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`InvalidValue`] if the id of the workspace is malformed.
    pub fn workspace<W>(&self, id: W) -> Result<Keys<'_>, InvalidValue>
    where
        W: TryInto<WorkspaceId>,
        InvalidValue: From<W::Error>,
    {
        let caller = limiter_core::Caller::Owner(id.try_into()?);
        Ok(Keys::new(self, limiter_core::Keys::new(self.store(), &self.0.issuer, caller)))
    }

    /// Returns the keys and groups of a workspace, managed on behalf of the holder of this access key.
    #[must_use]
    pub fn keys<'a>(&'a self, caller: &'a AccessKey) -> Keys<'a> {
        Keys::new(self, limiter_core::Keys::new(self.store(), &self.0.issuer, caller))
    }

    /// Returns the keys and groups of a workspace, managed on behalf of this key: for services that authenticate their callers
    /// themselves.
    #[must_use]
    pub fn keys_as<'a>(&'a self, caller: &'a KeyId) -> Keys<'a> {
        Keys::new(self, limiter_core::Keys::new(self.store(), &self.0.issuer, caller))
    }

    pub(crate) fn new(backend: Backend, thresholds: Thresholds, events: EventSink) -> Self {
        let late = events.clone();
        backend.store().listen(Box::new(move |key, event| late.late(key, event)));
        let in_memory = backend.is_in_memory();
        let reported = events.clone();
        let issuer = Issuer::new(system_entropy)
            .with_thresholds(thresholds)
            .on_managed(move |managed| reported.managed(managed));
        Self(Arc::new(Parts {
            backend,
            issuer: Arc::new(issuer),
            observer: Observer { instruments: Instruments::new(in_memory), events },
            #[cfg(feature = "stream")]
            stream_warnings: Arc::new(Throttle::of_warnings()),
        }))
    }

    #[inline]
    pub(crate) fn observer(&self) -> &Observer {
        &self.0.observer
    }

    #[cfg(feature = "stream")]
    pub(crate) fn stream_warnings(&self) -> &Throttle {
        &self.0.stream_warnings
    }

    #[inline]
    pub(crate) fn answer<F: Future>(&self, call: F) -> Answer<F> {
        Answer::new(self.is_in_memory(), call)
    }

    /// Sends the events of a change of a key.
    pub(crate) fn updated(&self, updated: &UpdatedKey) {
        if !updated.crossed.is_empty() {
            self.observer().events.crossed(&updated.record.id, &updated.crossed);
        }
    }

    /// Returns the decision of a store that is not in memory.
    pub(crate) fn later<'a, C, D>(
        &'a self,
        call: Call<'a>,
        answer: impl Future<Output = Result<Decision, StoreError>> + Send + 'a,
    ) -> Deciding<'a, C, D> {
        Deciding::Later(Box::pin(self.observer().decision(call, answer)))
    }

    /// Observes a call that decides.
    fn decided<'a, E: CallError + 'a>(
        &'a self,
        call: Call<'a>,
        answer: impl Future<Output = Result<Decision, E>> + Send + 'a,
    ) -> Answer<impl Future<Output = Result<Decision, E>> + Send + 'a> {
        self.answer(self.observer().decision(call, answer))
    }

    /// Observes any other call.
    pub(crate) fn observed<'a, T: Send + 'a, E: CallError + 'a>(
        &'a self,
        call: Call<'a>,
        answer: impl Future<Output = Result<T, E>> + Send + 'a,
    ) -> Answer<impl Future<Output = Result<T, E>> + Send + 'a> {
        self.answer(self.observer().answer(call, answer))
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.0.backend.store()
    }
}

impl Backend {
    /// Recognises a [`MemoryStore`] of any origin, so that its calls need no boxed future.
    pub(crate) fn of(store: impl Store) -> Self {
        if let Some(memory) = (&store as &dyn Any).downcast_ref::<MemoryStore>() {
            return Self::Memory(memory.clone());
        }
        Self::Shared(Arc::new(store))
    }

    #[inline]
    const fn is_in_memory(&self) -> bool {
        !matches!(self, Self::Shared(_))
    }

    fn store(&self) -> &dyn Store {
        match self {
            Self::Memory(store) => store,
            Self::Shared(store) => &**store,
        }
    }
}

/// Creates a limiter on a store of any kind, with the default settings.
impl<S: Store> From<S> for Limiter {
    fn from(store: S) -> Self {
        Self::builder(store).build()
    }
}

fn system_entropy(bytes: &mut [u8]) -> Result<(), BoxError> {
    getrandom::fill(bytes).map_err(BoxError::from)
}
