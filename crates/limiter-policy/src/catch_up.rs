//! Catch-up after an outage: replays late operations to the store, and warns of those that it does not accept.

use std::sync::Arc;
use std::time::Duration;

use limiter_core::{KeyId, ReservationError, StoreError, Unpaid};
use tokio::time::{sleep, timeout};

use crate::asking::Asking;
use crate::error::with_causes;
use crate::local::Local;
use crate::metrics::Late;
use crate::runtime::in_runtime;

/// One pass over all late operations.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Whether operations that the store has just refused are tried again.
    pub(crate) also_refused: bool,
    /// Whether the store failed to answer some operation.
    pub(crate) meets_outage: bool,
    /// Payments that may have been charged, and are not sent again.
    pub(crate) given_up: Unpaid,
    refusals: u64,
    last_refused: Option<String>,
}

impl Round {
    /// Notes an operation that the store answered and refused.
    pub(crate) fn refused(&mut self, key: &KeyId, late: Late, error: &ReservationError) {
        self.refusals += 1;
        self.last_refused = Some(format!("{} of {key}: {}", late.name(), with_causes(error)));
    }
}

impl Asking {
    /// Sends the store all late operations that are due, one after the other.
    pub(crate) async fn catch_up(self: &Arc<Self>, mut round: Round) -> Round {
        // Two passes at a time would send the same operations twice.
        let _turn = self.catching_up.lock().await;
        self.later.tell(self, &mut round).await;
        if let Some(local) = &self.local {
            local.pay(self, &mut round).await;
        }
        if let Some(refusals) =
            self.refusals.add(round.refusals, tokio::time::Instant::now().into_std())
            && let Some(last) = &round.last_refused
        {
            tracing::warn!(
                refusals,
                last,
                "the store refuses what happened while it was away; it is tried again with longer and longer pauses"
            );
        }
        if !round.given_up.is_nothing() {
            tracing::warn!(
                given_up = %round.given_up,
                "what was allowed without the store may or may not be charged: the answer was lost, and the store may have \
                 forgotten the payment since, so that it is not sent again"
            );
        }
        round
    }

    /// Sends the store all late operations, for at most this long, and returns those that are left.
    pub(crate) async fn flush(self: &Arc<Self>, within: Duration) -> Unpaid {
        let all = async {
            while !self.owes_nothing() {
                // Starts the task that probes the store, if it is needed.
                self.recover();
                let round = Round { also_refused: true, ..Round::default() };
                if !self.catch_up(round).await.meets_outage {
                    return;
                }
                sleep(self.timing.probe_every.min(FLUSH_AGAIN)).await;
            }
        };
        let _ended_in_time = in_runtime(async { timeout(within, all).await }).await;
        self.unpaid()
    }
}

impl Asking {
    pub(crate) fn owes_nothing(&self) -> bool {
        self.later.is_empty() && self.local.as_ref().is_none_or(Local::owes_nothing)
    }

    /// The charges and ends of reservations that the store has not confirmed.
    pub(crate) fn unpaid(&self) -> Unpaid {
        let mut unpaid = self.local.as_ref().map(Local::unpaid).unwrap_or_default();
        unpaid.settlements = self.later.len();
        unpaid
    }
}

/// Warns of the debts that are lost with the last owner.
impl Drop for Asking {
    fn drop(&mut self) {
        let unpaid = self.unpaid();
        if !unpaid.is_nothing() {
            tracing::warn!(
                %unpaid,
                "a guarded store ends with debts, which are lost: call `flush` before its last owner is dropped"
            );
        }
    }
}

/// Whether the error proves that nothing was charged. Corrupt data and unknown outcomes leave it open.
pub(crate) const fn is_not_charged(error: &ReservationError) -> bool {
    matches!(error, ReservationError::Store(StoreError::Unavailable(_)))
        || !matches!(error, ReservationError::Store(_))
}

/// Whether a retry would always get the same answer: the reservation has ended otherwise, or the key is gone.
pub(crate) const fn is_final(error: &ReservationError) -> bool {
    !matches!(error, ReservationError::Store(_) | ReservationError::TooMany { .. })
}

/// The longest pause between two passes of a flush while the store is away.
const FLUSH_AGAIN: Duration = Duration::from_millis(100);
