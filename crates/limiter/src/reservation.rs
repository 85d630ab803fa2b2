//! A call that is charged by its estimate, as a guard. If the guard is dropped unsettled, the estimate stands.

use std::fmt;

#[cfg(feature = "stream")]
use limiter_core::Throttle;
use limiter_core::{
    Allowed, AssetId, BoxError, Charge, Decision, Denied, KeyId, RequestId, ReservationError,
    Settled, StoreError, Totals,
};

use crate::limiter::Limiter;
use crate::price::Price;
use crate::token_usage::TokenUsage;

/// The answer to [`Limiter::reserve`]. A denial is an answer, not an error.
#[derive(Debug)]
#[must_use = "a reservation that nobody settles stands as estimated"]
pub enum Reserved {
    /// The call may go on; its estimate is charged.
    Allowed(Reservation),
    /// The call may not go on; nothing was charged.
    Denied(Denied),
}

/// A call whose cost is known only afterwards: charged by its estimate, to be [settled](Self::settle) once.
///
/// ```
/// use limiter::{AssetId, Charge, Reserved, Totals};
///
#[doc = include_str!("example.md")]
/// let estimate = Charge::request().with_tokens(120, 500)?; // the prompt, and the longest answer
/// let gpt5: AssetId = "gpt-5".parse()?;
/// let mut call = match limiter.reserve(&key, &gpt5, &estimate).await? {
///     Reserved::Allowed(call) => call,
///     Reserved::Denied(denied) => return Err(denied.to_string().into()),
/// };
/// // … the call goes upstream, and its answer says what it did cost …
/// call.settle(&Totals::unchanged().with_output_tokens(87)?).await?;
/// # let usage = limiter.usage(&key).await?.expect("the key lives");
/// # assert_eq!(usage.scopes[0].rules[0].used, 207);
/// # Ok(())
/// # }
/// ```
///
/// A repetition changes nothing more: if an answer was lost, settle again. Another process can go on with the call by
/// key and [id](Self::id): see [`keep`](Self::keep) and [`Limiter::settle`].
///
/// A call that shadow mode alone let through has charged nothing: its guard changes nothing. If a level in shadow mode would
/// have denied the call and the other levels were charged, the guard corrects those.
///
/// If the guard is dropped unsettled, as in a panic or when its future is cancelled, the estimate stands. A warning
/// through `tracing` has key, id and estimate, by which the call can still be settled until its ttl has passed. The
/// guard does not settle by itself, since the cost of the call is unknown.
#[must_use = "a reservation that nobody settles stands as estimated"]
pub struct Reservation {
    limiter: Limiter,
    key: KeyId,
    asset: Option<AssetId>,
    id: RequestId,
    estimate: Charge,
    price: Option<Price>,
    /// Boxed, so that a guard is cheap to move about.
    allowed: Box<Allowed>,
    /// Whether any level was charged. If not, there is nothing to correct.
    charged: bool,
    open: bool,
}

impl Reserved {
    /// Returns the reservation, if the call may go on.
    pub fn allowed(self) -> Option<Reservation> {
        match self {
            Self::Allowed(reservation) => Some(reservation),
            Self::Denied(_) => None,
        }
    }

    /// Returns the denial, if the call may not go on.
    #[must_use]
    pub const fn denied(&self) -> Option<&Denied> {
        match self {
            Self::Allowed(_) => None,
            Self::Denied(denied) => Some(denied),
        }
    }

    pub(crate) fn with_price(self, price: Option<Price>) -> Self {
        match (self, price) {
            (Self::Allowed(reservation), Some(price)) => {
                Self::Allowed(reservation.with_price(price))
            }
            (answer, _) => answer,
        }
    }
}

impl Reservation {
    pub(crate) fn new(
        limiter: Limiter,
        key: KeyId,
        asset: Option<AssetId>,
        id: RequestId,
        estimate: Charge,
        allowed: Allowed,
        charged: bool,
    ) -> Self {
        let allowed = Box::new(allowed);
        // Without a charge there is none that could stand.
        let open = charged;
        Self { limiter, key, asset, id, estimate, price: None, allowed, charged, open }
    }

    /// Sets the price that gives the credits of this call when it is settled. A reservation by
    /// [`Limiter::reserve_estimated`] has the price of its estimate already.
    pub fn with_price(mut self, price: Price) -> Self {
        self.price = Some(price);
        self
    }

    /// Returns the price of the call's tokens, if it has one: the estimate's, or that of
    /// [`with_price`](Self::with_price).
    #[must_use]
    pub const fn price(&self) -> Option<&Price> {
        self.price.as_ref()
    }

    /// Returns the key that is charged.
    #[must_use]
    pub const fn key(&self) -> &KeyId {
        &self.key
    }

    /// Returns the asset of the call, if it has one.
    #[must_use]
    pub const fn asset(&self) -> Option<&AssetId> {
        self.asset.as_ref()
    }

    /// Returns the id of the reservation among those of its key.
    #[must_use]
    pub const fn id(&self) -> &RequestId {
        &self.id
    }

    /// Returns the charge: the estimate, as amended through this guard.
    #[must_use]
    pub const fn estimate(&self) -> &Charge {
        &self.estimate
    }

    /// Returns the decision that made the reservation, with the state of the rules after the estimate.
    #[must_use]
    pub fn decision(&self) -> &Allowed {
        &self.allowed
    }

    /// Changes the estimate to new totals, up or down. What is added is checked and charged like a top-up, all or nothing,
    /// in the windows open now; what is taken away is handed back at once. A denial changes nothing, and a repetition
    /// changes nothing more.
    ///
    /// # Errors
    /// [`ReservationError::AlreadySettled`], [`ReservationError::Unknown`] after its ttl, or a store error.
    pub async fn amend(&mut self, to: &Totals) -> Result<Decision, ReservationError> {
        if !self.charged {
            self.estimate = to.applied_to(&self.estimate)?;
            return Ok(Decision::Allowed(Allowed::clone(&self.allowed)));
        }
        let decision = self.limiter.amend(&self.key, &self.id, to).await?;
        if decision.is_charged()
            && let Ok(amended) = to.applied_to(&self.estimate)
        {
            self.estimate = amended;
        }
        Ok(decision)
    }

    /// Corrects the estimate to the actual cost of the call, in the windows that admitted it while they are open. An
    /// overrun is always counted. Returns the final charge, to bill from. The number of requests can be corrected too, such
    /// as that of a batch.
    ///
    /// After a store error it can be repeated. If shadow mode alone let the call through, nothing was charged, and the answer
    /// is [`SettledAs::Uncharged`](limiter_core::SettledAs::Uncharged).
    ///
    /// # Errors
    /// [`ReservationError::AlreadySettled`] with another charge, [`ReservationError::Unknown`] after its ttl, or a
    /// store error.
    pub async fn settle(&mut self, actual: &Totals) -> Result<Settled, ReservationError> {
        if !self.charged {
            return self.ended(Ok(Settled::uncharged(None)));
        }
        let settled = self.limiter.settle(&self.key, &self.id, actual).await;
        self.ended(settled.map(|mut settled| {
            // Only this guard has the estimate, and so the charge, of a postponed settlement.
            settled.charge = settled.charge.or_else(|| actual.applied_to(&self.estimate).ok());
            settled
        }))
    }

    /// [Settles](Self::settle) the tokens of the call and, if it has a [price](Self::price), the credits that they cost.
    /// Without a price the credits stay as they were reserved.
    ///
    /// # Errors
    /// As [`settle`](Self::settle), and [`ReservationError::Invalid`] above [`MAX_COUNT`](crate::MAX_COUNT) tokens.
    pub async fn settle_usage(&mut self, usage: &TokenUsage) -> Result<Settled, ReservationError> {
        let actual = match &self.price {
            Some(price) => price.totals(usage)?,
            None => Totals::try_from(*usage)?,
        };
        self.settle(&actual).await
    }

    /// Takes the whole charge back, the request too: the call never went upstream. The final charge is nothing.
    ///
    /// After a store error it can be repeated.
    ///
    /// # Errors
    /// [`ReservationError::AlreadySettled`], [`ReservationError::Unknown`] after its ttl, or a store error.
    pub async fn cancel(&mut self) -> Result<Settled, ReservationError> {
        if !self.charged {
            return self.ended(Ok(Settled::uncharged(None)));
        }
        let cancelled = self.limiter.cancel(&self.key, &self.id).await;
        self.ended(cancelled)
    }

    /// Leaves the call to another task or process, which gets its id and goes on with
    /// [`Limiter::amend`], [`Limiter::settle`] or [`Limiter::cancel`].
    pub fn keep(mut self) -> RequestId {
        self.open = false;
        self.id.clone()
    }

    #[cfg(feature = "stream")]
    pub(crate) fn stream_warnings(&self) -> &Throttle {
        self.limiter.stream_warnings()
    }

    /// Notes how an end was answered. The guard stays open only if the store gave no answer or the totals are invalid.
    fn ended(
        &mut self,
        outcome: Result<Settled, ReservationError>,
    ) -> Result<Settled, ReservationError> {
        self.open =
            matches!(outcome, Err(ReservationError::Store(_) | ReservationError::Invalid(_)));
        outcome.map(|mut settled| {
            settled.asset.clone_from(&self.asset);
            settled
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.open {
            tracing::warn!(
                key = %self.key,
                reservation = %self.id,
                requests = self.estimate.requests(),
                input_tokens = self.estimate.input_tokens(),
                output_tokens = self.estimate.output_tokens(),
                credits = %self.estimate.credits(),
                "a reservation was dropped without being settled: its estimate stands as charged"
            );
        }
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("key", &self.key)
            .field("id", &self.id)
            .field("estimate", &self.estimate)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

/// Draws a new id of 128 random bits, so that no other process draws the same.
pub(crate) fn random_id() -> Result<RequestId, ReservationError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Unavailable(BoxError::from(error)))?;
    Ok(RequestId::new(format!("{:032x}", u128::from_be_bytes(bytes)))?)
}
