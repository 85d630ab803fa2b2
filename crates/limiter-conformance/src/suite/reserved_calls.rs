//! A key whose calls are reserved: what the stories of reservations begin with.

use std::time::Duration;

use limiter_core::{
    Charge, Credits, Crossing, Decision, KeyConfig, KeyId, LedgerBounds, Limits, RecordId,
    RequestId, ReservationError, Settled, Store, Timestamp, Totals,
};

use super::StoreUnderTest;
use super::world::{DAY, NOON, World, asset, limits, named};

/// A member key at noon, and its calls.
pub(super) struct Calls<S> {
    pub(super) world: World<S>,
    pub(super) key: KeyId,
}

impl<S: Store> Calls<S> {
    /// Of a key with [`generous`] limits.
    pub(super) async fn at_noon(store: &impl StoreUnderTest<Store = S>) -> Self {
        Self::of(store, named("ci").with_global(generous())).await
    }

    pub(super) async fn of(store: &impl StoreUnderTest<Store = S>, config: KeyConfig) -> Self {
        Self::bounded(store, config, LedgerBounds::default()).await
    }

    pub(super) async fn bounded(
        store: &impl StoreUnderTest<Store = S>,
        config: KeyConfig,
        bounds: LedgerBounds,
    ) -> Self {
        let world = World::bounded(store, bounds).await;
        let key = world.member(config).await;
        Self { world, key }
    }

    /// Reserves a call of no asset for a year, which must be allowed.
    pub(super) async fn reserve(&self, id: &str, estimate: Charge) {
        let decision = self.try_reserve(id, None, estimate, 365 * DAY).await;
        assert!(decision.as_ref().is_ok_and(Decision::is_allowed), "{decision:?}");
    }

    pub(super) async fn try_reserve(
        &self,
        id: &str,
        called: Option<&str>,
        estimate: Charge,
        ttl: Duration,
    ) -> Result<Decision, ReservationError> {
        let called = called.map(asset);
        let engine = &self.world.engine;
        engine.reserve(&self.key, called.as_ref(), &estimate, &request_id(id), ttl).await
    }

    pub(super) async fn extend(&self, id: &str, to: Totals) -> Result<Decision, ReservationError> {
        self.world.engine.extend(&self.key, &request_id(id), &to).await
    }

    pub(super) async fn settle(
        &self,
        id: &str,
        actual: Totals,
    ) -> Result<Settled, ReservationError> {
        self.world.engine.settle(&self.key, &request_id(id), &actual).await
    }

    pub(super) async fn cancel(&self, id: &str) -> Result<Settled, ReservationError> {
        self.world.engine.cancel(&self.key, &request_id(id)).await
    }

    pub(super) async fn check_once(
        &self,
        id: &str,
        called: Option<&str>,
        charge: Charge,
    ) -> Result<Decision, ReservationError> {
        let called = called.map(asset);
        let engine = &self.world.engine;
        engine.check_once(&self.key, called.as_ref(), &charge, &request_id(id)).await
    }

    /// Counts a call that was allowed elsewhere.
    pub(super) async fn record(
        &self,
        id: &str,
        called: Option<&str>,
        charge: Charge,
    ) -> Result<Vec<Crossing>, ReservationError> {
        let (store, called) = (self.world.engine.store(), called.map(asset));
        let id = request_id(id);
        store.record(&self.key, called.as_ref(), &charge, &RecordId::new(&id, DAY)).await
    }

    /// Counts a call that was allowed elsewhere, and confirms an earlier one.
    pub(super) async fn record_after(
        &self,
        confirmed: &str,
        id: &str,
        charge: Charge,
    ) -> Result<Vec<Crossing>, ReservationError> {
        let (id, confirmed) = (request_id(id), request_id(confirmed));
        let id = RecordId { confirms: Some(&confirmed), ..RecordId::new(&id, DAY) };
        self.world.engine.store().record(&self.key, None, &charge, &id).await
    }

    /// Whether a call of one output token is allowed now.
    pub(super) async fn admits(&self) -> bool {
        let one = Charge::request().with_tokens(0, 1).expect("within bounds");
        self.world.peek(&self.key, None, one).await.is_allowed()
    }

    /// Requests and tokens of the minute, then of the day, in the global scope.
    pub(super) async fn used(&self) -> [u64; 4] {
        let global = self.world.usage(&self.key).await.global.expect("the scope is counted");
        let (minute, day) = (global.minute, global.day);
        [minute.requests.used, minute.tokens.used, day.requests.used, day.tokens.used]
    }

    pub(super) async fn spent(&self) -> u64 {
        self.world.usage(&self.key).await.credits.spent.millionths()
    }
}

pub(super) fn request_id(id: &str) -> RequestId {
    id.parse().expect("an id of 1 to 128 bytes")
}

/// 10 requests and 100 tokens a minute, 1,000 tokens a day.
pub(super) fn generous() -> Limits {
    limits(|limits| limits.requests_per_minute(10).tokens_per_minute(100).tokens_per_day(1_000))
}

pub(super) fn output(tokens: u64) -> Totals {
    Totals::unchanged().with_output_tokens(tokens).expect("tokens within bounds")
}

pub(super) fn input_and_output(input: u64, tokens: u64) -> Totals {
    output(tokens).with_input_tokens(input).expect("tokens within bounds")
}

pub(super) fn millionths(millionths: u64) -> Credits {
    Credits::from_millionths(millionths).expect("an amount within bounds")
}

/// So many milliseconds after noon, or before it.
pub(super) const fn at_noon_and(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(NOON.unix_ms() + ms)
}
