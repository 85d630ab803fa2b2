//! The settings of a layer.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, Method, response};
use limiter::__private::{KnownKeys, Throttle};
use limiter::store::BoxError;
use limiter::{AssetId, Charge, InvalidValue, Limiter};
use parking_lot::Mutex;

use crate::caller::{Caller, Credential, Identify};
use crate::config::{Config, Cost};
use crate::dialect::Dialect;
use crate::function::Function;
use crate::layer::RateLimitLayer;
use crate::path;
use crate::refusal::Refusal;
use crate::retry::Retry;
use crate::settlement::{ResponseCost, Settlement};
use crate::status::StatusMap;

/// Makes a [`RateLimitLayer`]; each setting has a default.
///
/// Functions of a call see the head of its request: method, URI, headers and extensions. A value in the body, such as the
/// model of a chat completion, is read by a layer around this one, which puts it into the extensions.
///
/// A panic in a function of yours is caught, logged at most every ten seconds, and counted
/// (`limiter_callback_panics_total`, of the limiter's feature `metrics`). If the function reads the call, the call is
/// refused with 500 and charges nothing. If the function settles the cost, the estimate stands.
pub type RateLimitLayerBuilder = LayerBuilder<()>;

/// The settings of a layer, with options of its kind.
#[derive(Debug)]
#[must_use]
pub struct LayerBuilder<O> {
    config: Config,
    known_keys: usize,
    pub(crate) options: O,
}

/// Settings of layers by functions of the request.
impl LayerBuilder<()> {
    pub(crate) fn new(limiter: Limiter) -> Self {
        let credentials = vec![Credential::Bearer, Credential::Header(X_API_KEY)];
        let config = Config {
            limiter,
            methods: None,
            identify: Identify::Credentials(credentials),
            known_keys: None,
            asset: None,
            cost: Cost::Request,
            on_service_error: Settlement::Keep,
            statuses: None,
            dialects: vec![Dialect::Ietf],
            retry_bound: Retry::BOUND,
            tells_service: false,
            warnings: Throttle::of_warnings(),
        };
        Self { config, known_keys: KNOWN_KEYS, options: () }
    }

    /// Sets the asset of a call by a function of the request; `None` is a call of no asset. By default there is none.
    ///
    /// An error, such as for an id of more than 256 bytes, refuses the call as invalid.
    ///
    /// Names are compared byte by byte. If the service accepts several spellings of one name, for example in any case,
    /// this function must return one of them for all. Otherwise the others are not limited.
    pub fn asset<F>(self, asset_of: F) -> Self
    where
        F: Fn(&Parts) -> Result<Option<AssetId>, InvalidValue> + Send + Sync + 'static,
    {
        self.named_by(move |parts| Ok(asset_of(parts)?))
    }

    /// The asset is the part of the path that this function returns.
    ///
    /// It gets the path as a router sees it: each segment percent-decoded, once. A `/` or `%` that was encoded inside of
    /// a segment appears as `%2F` or `%25`, so that the function can split the path into segments. In its result they
    /// are decoded too. For each encoding of a path, the asset equals the value of axum's `Path` for the same segments.
    ///
    /// ```
    /// # let builder = limiter_tower::RateLimitLayer::builder(limiter::Limiter::in_memory());
    /// // /v1/models/gpt-5/run, and /v1/models/gpt%2D5/run
    /// let builder = builder.asset_in_path(|path| path.strip_prefix("/v1/models/")?.split('/').next());
    /// ```
    ///
    /// A path is refused as malformed (400) if a `%` is not followed by two hexadecimal digits, if it is not UTF-8 once
    /// decoded, or if a segment is `.` or `..`, however encoded: services read such paths in different ways.
    ///
    /// Nothing else is changed, as in routers: case counts, `;` and `+` are literal, `//` is an empty segment, and a `/`
    /// at the end belongs to the path. A service that changes paths, for example merges slashes, must do so in front of
    /// this layer.
    pub fn asset_in_path<F>(self, find: F) -> Self
    where
        F: for<'a> Fn(&'a str) -> Option<&'a str> + Send + Sync + 'static,
    {
        self.named_by(move |parts| {
            let path = path::readable(parts.uri.path()).map_err(Refusal::malformed)?;
            Ok(find(&path).map(|found| AssetId::new(path::name(found))).transpose()?)
        })
    }

    /// The asset is the value of this header, without spaces around it. Without the header the call has no asset.
    ///
    /// If the value is not UTF-8 or the header comes twice, the call is refused as malformed (400): the service may read
    /// a limited name from it.
    pub fn asset_in_header(self, name: HeaderName) -> Self {
        self.named_by(move |parts| {
            let mut values = parts.headers.get_all(&name).iter();
            let Some(value) = values.next() else { return Ok(None) };
            if values.next().is_some() {
                return Err(Refusal::malformed(format!(
                    "the request has the header {name} more than once: send it once"
                )));
            }
            let text = str::from_utf8(value.as_bytes().trim_ascii()).map_err(|_| {
                Refusal::malformed(format!(
                    "the header {name} is not UTF-8: encode its text as UTF-8"
                ))
            })?;
            Ok(Some(AssetId::new(text)?))
        })
    }

    /// Sets the cost of a call by a function of the request. By default one request.
    ///
    /// An error refuses the call as invalid.
    pub fn charge<F>(mut self, charge_of: F) -> Self
    where
        F: Fn(&Parts) -> Result<Charge, InvalidValue> + Send + Sync + 'static,
    {
        self.config.cost = Cost::Charge(Function(Box::new(charge_of)));
        self
    }

    /// Charges an estimate before the call, by a function of the request, and settles it when the body of the response
    /// ends.
    ///
    /// The second function sees the head of the response and returns a [`ResponseCost`], which watches the body. If the
    /// head has the cost, it can return [`Totals`](limiter::Totals) or a [`Settlement`]. Headers show the limits after the
    /// estimate. If the client leaves before the response, the estimate stands, as it does if the call is not settled
    /// within [an hour](Limiter::RESERVATION_TTL). If the client leaves before the service is called, the estimate is
    /// [taken back](Limiter::reserve).
    ///
    /// ```
    /// # use limiter::{Charge, Totals};
    /// # use limiter_tower::{RateLimitLayer, ResponseCost, Settlement};
    /// # let builder = RateLimitLayer::builder(limiter::Limiter::in_memory());
    /// let builder = builder.reserve(
    ///     |_| Charge::request().with_tokens(1_000, 500),
    ///     |response| {
    ///         if response.status.is_server_error() {
    ///             return Settlement::Cancel;
    ///         }
    ///         let used = response.headers.get("x-output-tokens");
    ///         let used = used.and_then(|value| value.to_str().ok()?.parse().ok());
    ///         let totals = used.map(|used| Totals::unchanged().with_output_tokens(used));
    ///         totals.and_then(Result::ok).map_or(Settlement::Keep, Settlement::from)
    ///     },
    /// );
    /// ```
    pub fn reserve<E, S, C>(mut self, estimate_of: E, cost_of: S) -> Self
    where
        E: Fn(&Parts) -> Result<Charge, InvalidValue> + Send + Sync + 'static,
        S: Fn(&response::Parts) -> C + Send + Sync + 'static,
        C: ResponseCost,
    {
        let cost_of =
            move |parts: &response::Parts| -> Box<dyn ResponseCost> { Box::new(cost_of(parts)) };
        let estimate_of = Function(Box::new(estimate_of) as Box<_>);
        self.config.cost = Cost::Estimate(estimate_of, Function(Box::new(cost_of)));
        self
    }

    /// Builds the layer.
    #[must_use]
    pub fn build(self) -> RateLimitLayer {
        RateLimitLayer::with_config(Arc::new(self.into_parts().0))
    }

    fn named_by<F>(mut self, asset_of: F) -> Self
    where
        F: Fn(&Parts) -> Result<Option<AssetId>, Refusal> + Send + Sync + 'static,
    {
        self.config.asset = Some(Function(Box::new(asset_of)));
        self
    }
}

/// Settings of all layers.
impl<O> LayerBuilder<O> {
    /// Limits only calls of these methods; all methods by default. `GET` includes `HEAD`, which routers send to the
    /// same handler.
    ///
    /// Other calls bypass the layer: they need no access key, cost nothing, and get no rate limit headers. `OPTIONS`
    /// always bypasses it, even if it is named here, because a CORS preflight has no access key. A service that does
    /// work for `OPTIONS` must authenticate such calls itself: axum's `any` routes it to the handler, `post` and `get`
    /// do not. Calls over gRPC are `POST`.
    ///
    /// ```
    /// # use http::Method;
    /// # let builder = limiter_tower::RateLimitLayer::builder(limiter::Limiter::in_memory());
    /// // Anyone may list the models; running one needs a key.
    /// let builder = builder.methods([Method::POST]);
    /// ```
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        let mut methods: Vec<_> = methods.into_iter().collect();
        if methods.contains(&Method::GET) {
            methods.push(Method::HEAD);
        }
        self.config.methods = Some(methods);
        self
    }

    /// Sets where access keys are looked for; the first credential that a call has counts. By default
    /// [`Bearer`](Credential::Bearer), then the header `x-api-key`. Gateways also look at `api-key` (Azure) and
    /// `x-goog-api-key` (Gemini).
    ///
    /// A malformed access key is refused without a look-up: it has 16 to 256 visible ASCII characters.
    pub fn credentials(self, credentials: impl IntoIterator<Item = Credential>) -> Self {
        self.identified(Identify::Credentials(credentials.into_iter().collect()))
    }

    /// Identifies the caller by a function of the head of the request. A call without a caller is refused as one without an
    /// access key.
    ///
    /// Unregistered callers have a [path](Caller::path) beneath an [open group](limiter::Keys::open), such as their
    /// address:
    ///
    /// ```
    /// use http::request::Parts;
    /// use limiter::Limiter;
    /// use limiter_tower::{Caller, RateLimitLayer};
    ///
    /// // As the proxy in front of the service writes it. From elsewhere, anyone could.
    /// fn client_ip(head: &Parts) -> &str {
    ///     head.headers.get("x-real-ip").and_then(|address| address.to_str().ok()).unwrap_or("unknown")
    /// }
    ///
    /// let layer = RateLimitLayer::builder(Limiter::in_memory())
    ///     .caller(|head| Caller::path("ip", client_ip(head)))
    ///     .build();
    /// # drop(layer);
    /// ```
    pub fn caller<F>(self, caller: F) -> Self
    where
        F: Fn(&Parts) -> Option<Caller> + Send + Sync + 'static,
    {
        self.identified(Identify::Function(Box::new(caller)))
    }

    /// Identifies the caller by an asynchronous function. Its error refuses the call as
    /// [`Refusal::Identify`](crate::Refusal::Identify), and is logged.
    pub fn caller_async<F, I>(self, caller: F) -> Self
    where
        F: Fn(&Parts) -> I + Send + Sync + 'static,
        I: Future<Output = Result<Option<Caller>, BoxError>> + Send + 'static,
    {
        self.identified(Identify::Async(Box::new(move |head| Box::pin(caller(head)))))
    }

    /// Sets how the estimate is settled if the service behind the layer fails with an error instead of a response. By
    /// default it is [kept](Settlement::Keep), since the call may have gone upstream. If an error means that it never
    /// did, choose [`Settlement::Cancel`]. A plain charge always stands.
    pub fn on_service_error(mut self, settlement: Settlement) -> Self {
        self.config.on_service_error = settlement;
        self
    }

    /// Sets the HTTP statuses of refused calls; [`StatusMap::new`] by default. A gateway has by default
    /// [those of the API](crate::ErrorFormat::statuses) that is called.
    pub fn statuses(mut self, statuses: StatusMap) -> Self {
        self.config.statuses = Some(statuses);
        self
    }

    /// Sets the rate limit headers of allowed and denied calls, written over those of the service. By default
    /// [`Dialect::Ietf`], and for a gateway the dialect of its preset too; none for an empty list.
    pub fn dialects(mut self, dialects: impl IntoIterator<Item = Dialect>) -> Self {
        self.config.dialects = dialects.into_iter().collect();
        self
    }

    /// Sets the longest wait after which clients should retry a refused call automatically; [one minute](Retry::BOUND)
    /// by default.
    ///
    /// If the wait is longer, or no wait helps, the refusal has the header `x-should-retry: false`. The SDKs of OpenAI
    /// and Anthropic obey it and raise the error at once. `Retry-After` is sent beyond the bound too. With
    /// [`Duration::ZERO`] these clients never retry a refused call.
    pub fn retry_bound(mut self, longest_wait: Duration) -> Self {
        self.config.retry_bound = longest_wait;
        self
    }

    /// Puts an [`Admitted`](crate::Admitted) into the extensions of each admitted request. By default it is not.
    pub fn tell_service(mut self) -> Self {
        self.config.tells_service = true;
        self
    }

    /// Sets how many access keys are cached with the id of their key, so that not every call looks one up in the store:
    /// 4,096 by default, 0 for none. An entry is used for at most 1 s, and holds a digest instead of the access key.
    ///
    /// A limiter in memory needs no cache and has none.
    pub fn remember_keys(mut self, access_keys: usize) -> Self {
        self.known_keys = access_keys;
        self
    }

    pub(crate) fn with_options<P>(self, options: P) -> LayerBuilder<P> {
        LayerBuilder { config: self.config, known_keys: self.known_keys, options }
    }

    pub(crate) fn into_parts(self) -> (Config, O) {
        let is_cached = self.known_keys > 0 && !self.config.limiter.is_in_memory();
        let cache = || Mutex::new(KnownKeys::new(self.known_keys, KnownKeys::MAX_AGE));
        (Config { known_keys: is_cached.then(cache), ..self.config }, self.options)
    }

    fn identified(mut self, identify: Identify) -> Self {
        self.config.identify = identify;
        self
    }
}

pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The keys that are in use at a time in a large service; half a megabyte.
const KNOWN_KEYS: usize = 4_096;
