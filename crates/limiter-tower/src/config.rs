//! The settings of a layer: how calls are read, decided and refused.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method};
use limiter::__private::{KnownKeys, Throttle};
use limiter::{AssetId, Charge, InvalidValue, Limiter};
use parking_lot::Mutex;

use crate::caller::Identify;
use crate::dialect::Dialect;
use crate::function::Function;
use crate::refusal::Refusal;
use crate::settlement::{CostOf, Settlement};
use crate::standing::Standing;
use crate::status::StatusMap;

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) limiter: Limiter,
    /// All methods unless chosen.
    pub(crate) methods: Option<Vec<Method>>,
    pub(crate) identify: Identify,
    /// `None` if a look-up is as fast as the cache.
    pub(crate) known_keys: Option<Mutex<KnownKeys>>,
    pub(crate) asset: Option<Function<Box<AssetOf>>>,
    pub(crate) cost: Cost,
    pub(crate) on_service_error: Settlement,
    /// Those of the error format unless chosen.
    pub(crate) statuses: Option<StatusMap>,
    pub(crate) dialects: Vec<Dialect>,
    pub(crate) retry_bound: Duration,
    pub(crate) tells_service: bool,
    /// Throttles the warnings that calls cannot be decided: with a dead store there are thousands a second.
    pub(crate) warnings: Throttle,
}

impl Config {
    /// Whether a decision needs no wait: the limiter is in memory, and the caller is identified by a plain function.
    pub(crate) fn decides_at_once(&self) -> bool {
        self.limiter.is_in_memory() && !matches!(self.identify, Identify::Async(_))
    }

    /// Returns whether calls of this method are limited. A CORS preflight never is: it has no access key.
    pub(crate) fn limits(&self, method: &Method) -> bool {
        let chosen = |methods: &Vec<Method>| methods.contains(method);
        *method != Method::OPTIONS && self.methods.as_ref().is_none_or(chosen)
    }

    /// Returns the chosen statuses, or else the default ones.
    pub(crate) fn statuses_or(&self, default: StatusMap) -> StatusMap {
        self.statuses.clone().unwrap_or(default)
    }

    /// Writes the headers of all dialects.
    pub(crate) fn write_headers(&self, standing: Standing<'_>, headers: &mut HeaderMap) {
        Dialect::write_all(&self.dialects, standing, headers);
    }
}

/// The charge of a call.
#[derive(Debug)]
pub(crate) enum Cost {
    /// One request.
    Request,
    /// A cost that is known before the call.
    Charge(Function<Box<ChargeOf>>),
    /// An estimate before the call, and its cost by the response.
    Estimate(Function<Box<ChargeOf>>, Function<Box<CostOf>>),
}

pub(crate) type AssetOf = dyn Fn(&Parts) -> Result<Option<AssetId>, Refusal> + Send + Sync;
pub(crate) type ChargeOf = dyn Fn(&Parts) -> Result<Charge, InvalidValue> + Send + Sync;
