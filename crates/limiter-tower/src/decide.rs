//! The decision on a call, from the head of its request.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use http::request::Parts;
use limiter::__private::UserCode;
use limiter::{
    AccessKey, Allowed, AssetId, Charge, Decision, KeyId, RequestId, Reservation, Reserved,
};

use crate::caller::{Caller, Identify};
use crate::config::{Config, Cost};
use crate::refusal::Refusal;

/// A call that may go on.
pub(crate) enum Admission {
    /// Its cost is final. Headers show the state of its rules, if it was decided and there are dialects.
    Final(Option<Box<Allowed>>),
    /// It will be settled.
    Reserved(Box<Reservation>),
}

/// The decision on a call, for the service behind the layer: it is in the extensions of the request if the layer
/// [puts it there](crate::LayerBuilder::tell_service).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admitted {
    /// The key that is charged.
    pub key: KeyId,
    /// The reservation of the call, if its cost is an estimate: to be [amended](limiter::Limiter::amend) while the call
    /// goes on. The layer settles it.
    pub reservation: Option<RequestId>,
}

/// Decides, and gives back the head of the request.
pub(crate) async fn decide(
    config: Arc<Config>,
    mut parts: Parts,
) -> (Parts, Result<Admission, Box<Refusal>>) {
    let admission = admit(&config, &mut parts).await;
    (parts, admission)
}

/// Decides without a future where nothing is awaited: in memory, or for a method that is not limited. Nothing is boxed,
/// and the head of the request is not moved.
pub(crate) fn decide_at_once(
    config: &Config,
    parts: &mut Parts,
) -> Option<Result<Admission, Box<Refusal>>> {
    if !config.limits(&parts.method) {
        return Some(Ok(Admission::Final(None)));
    }
    if !config.decides_at_once() {
        return None;
    }
    match pin!(admit(config, parts)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(admission) => Some(admission),
        // It cannot happen where no wait is needed. If it did, the other way would decide again.
        Poll::Pending => None,
    }
}

async fn admit(config: &Config, parts: &mut Parts) -> Result<Admission, Box<Refusal>> {
    let admission = consider(config, parts).await;
    if let Err(refusal) = &admission {
        refusal.log(&config.warnings);
    }
    admission
}

async fn consider(config: &Config, parts: &mut Parts) -> Result<Admission, Box<Refusal>> {
    let key = identify(config, parts).await?;
    let asset = match &config.asset {
        Some(asset_of) => read(&ASSET, || asset_of(parts)),
        None => Ok(None),
    };
    let Some(key) = key else {
        return Err(unknown(asset.ok().flatten().as_ref()));
    };
    let asset = asset?;
    let admission = match &config.cost {
        Cost::Request => {
            Admission::Final(charge(config, &key, asset.as_ref(), &Charge::request()).await?)
        }
        Cost::Charge(charge_of) => {
            let cost = read(&CHARGE, || charge_of(parts))?;
            Admission::Final(charge(config, &key, asset.as_ref(), &cost).await?)
        }
        Cost::Estimate(estimate_of, _) => {
            let estimate = read(&RESERVE, || estimate_of(parts))?;
            // Rarer than a plain charge, and its future larger: boxed, it does not make that one larger.
            let reserving = Box::pin(config.limiter.reserve(&key, asset.as_ref(), &estimate));
            match reserving.await.map_err(refused)? {
                Reserved::Allowed(reservation) => Admission::Reserved(Box::new(reservation)),
                Reserved::Denied(denied) => return Err(refused(denied)),
            }
        }
    };
    let reservation = match &admission {
        Admission::Reserved(reservation) => Some(&**reservation),
        Admission::Final(_) => None,
    };
    tell(config, parts, key, reservation);
    Ok(admission)
}

/// Puts an [`Admitted`] into the extensions, if the service wants it.
pub(crate) fn tell(
    config: &Config,
    parts: &mut Parts,
    key: KeyId,
    reservation: Option<&Reservation>,
) {
    if config.tells_service {
        let reservation = reservation.map(|reservation| reservation.id().clone());
        parts.extensions.insert(Admitted { key, reservation });
    }
}

/// Charges a call, and returns its state if headers are to show it.
pub(crate) async fn charge(
    config: &Config,
    key: &KeyId,
    asset: Option<&AssetId>,
    charge: &Charge,
) -> Result<Option<Box<Allowed>>, Box<Refusal>> {
    match config.limiter.check_and_consume(key, asset, charge).await.map_err(refused)? {
        Decision::Allowed(_) if config.dialects.is_empty() => Ok(None),
        Decision::Allowed(allowed) => Ok(Some(Box::new(allowed))),
        Decision::Denied(denied) => Err(refused(denied)),
    }
}

/// The key of the caller, or `None` for an access key that belongs to none.
pub(crate) async fn identify(
    config: &Config,
    parts: &Parts,
) -> Result<Option<KeyId>, Box<Refusal>> {
    let caller = match &config.identify {
        Identify::Credentials(credentials) => {
            let found = credentials.iter().find_map(|credential| credential.find(&parts.headers));
            return match found {
                Some(access_key) => authenticate(config, access_key).await,
                None => Err(Box::new(Refusal::NoAccessKey)),
            };
        }
        Identify::Function(identify) => read(&IDENTIFY, || Ok::<_, Refusal>(identify(parts)))?,
        Identify::Async(identify) => {
            let mut identifying = read(&IDENTIFY, || Ok::<_, Refusal>(identify(parts)))?;
            let identified = poll_fn(|cx| match IDENTIFY.run(|| identifying.as_mut().poll(cx)) {
                Some(identified) => identified.map(Some),
                None => Poll::Ready(None),
            });
            match identified.await {
                Some(caller) => caller.map_err(|error| Box::new(Refusal::Identify(error)))?,
                None => return Err(refused(Refusal::Panicked(IDENTIFY.name()))),
            }
        }
    };
    match caller {
        None => Err(Box::new(Refusal::NoAccessKey)),
        Some(Caller::Key(key)) => Ok(Some(key)),
        Some(Caller::AccessKey(access_key)) => {
            authenticate(config, access_key.expose().as_bytes()).await
        }
    }
}

async fn authenticate(config: &Config, access_key: &[u8]) -> Result<Option<KeyId>, Box<Refusal>> {
    let access_key = str::from_utf8(access_key).ok().and_then(|text| AccessKey::new(text).ok());
    let Some(access_key) = access_key else {
        return Err(Box::new(Refusal::NoAccessKey));
    };
    let look_up = || async { config.limiter.authenticate(&access_key).await.map_err(refused) };
    let Some(known_keys) = &config.known_keys else { return look_up().await };
    let (digest, now) = (access_key.digest(), Instant::now());
    if let Some(known) = known_keys.lock().get(&digest, now).filter(|known| known.is_fresh) {
        return Ok(Some(known.id));
    }
    let found = look_up().await?;
    if let Some(id) = &found {
        known_keys.lock().insert(&digest, id, now);
    }
    Ok(found)
}

/// Reads a call by a function of the service; a panic in it refuses the call.
pub(crate) fn read<T, E: Into<Refusal>>(
    function: &UserCode,
    code: impl FnOnce() -> Result<T, E>,
) -> Result<T, Box<Refusal>> {
    match function.run(code) {
        Some(read) => read.map_err(refused),
        None => Err(refused(Refusal::Panicked(function.name()))),
    }
}

#[cold]
pub(crate) fn unknown(asset: Option<&AssetId>) -> Box<Refusal> {
    match Decision::key_unknown(None, asset) {
        Decision::Denied(denied) => refused(denied),
        Decision::Allowed(_) => Box::new(Refusal::NoAccessKey),
    }
}

/// Boxed, so that a decision is not as large as the largest refusal.
#[cold]
pub(crate) fn refused(why: impl Into<Refusal>) -> Box<Refusal> {
    Box::new(why.into())
}

static IDENTIFY: UserCode = UserCode::new("identify");
static ASSET: UserCode = UserCode::new("asset");
static CHARGE: UserCode = UserCode::new("charge");
static RESERVE: UserCode = UserCode::new("reserve");
