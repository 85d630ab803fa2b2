//! Rate limits for API keys of LLM services.
//!
//! A service calls [`Limiter::check_and_consume`] for each call. In one atomic step, the limiter decides whether the
//! call may go on: requests, input and output tokens and credits, in windows from a minute to a month and for ever, over
//! all calls of the key, per asset (model) and over all other assets, and the same of each group of the key, whichever is
//! stricter; an expiry. An allowed call is charged, a denied call is not, and both decisions are explained.
//!
//! ```
//! use limiter::{AssetId, Charge, Decision, KeyConfig, Limiter, Limits, NewKey};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let limiter = Limiter::in_memory();
//!
//! let gpt5: AssetId = "gpt-5".parse()?;
//! let limits = Limits::builder().output_tokens_per_minute(10).build()?;
//! let config = KeyConfig::named("ci")?.with_asset(gpt5.clone(), limits);
//! let key = limiter.workspace("team-a")?.create(NewKey::member(config)).await?.record.id;
//!
//! let charge = Charge::request().with_tokens(900, 7)?;
//! assert!(limiter.check_and_consume(&key, &gpt5, &charge).await?.is_allowed());
//! match limiter.check_and_consume(&key, &gpt5, &charge).await? {
//!     Decision::Allowed(allowed) => println!("{:?} is left", allowed.tightest()),
//!     Decision::Denied(denied) => println!("{denied}"), // 7 of 10 output tokens per minute are used …
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//! - [`Limiter`] decides, on the store of your choice; [`Handle`] decides calls of one key and asset.
//! - [`Limiter::reserve`] charges a call by its estimate; the [`Reservation`] is settled once its cost is known.
//!   [`Estimate`] proposes the charge to reserve, [`Price`] and [`PriceTable`] give the credits.
//!   With the feature `stream`, an `ApiRequest` reads the estimate from a request of any known provider, and a `StreamMeter`
//!   counts an answer while it streams.
//! - [`Limiter::usage_events`] streams each final charge, to bill from. The answer to a settlement ([`Settled`]) has it
//!   too.
//! - [`Keys`] manages the keys, groups and plans of a workspace, as its owner or on behalf of one of its keys: [`Limiter::workspace`],
//!   [`Limiter::keys`].
//! - [`Limits`], [`Charge`], [`Credits`] go in; [`Decision`], [`Usage`], [`DayHistory`], [`KeyRecord`] come out. Their parts are in
//!   [`config`], [`decision`] and [`usage`].
//! - [`store`] has what the author of a store needs.
//!
//! # Limits that keys share
//! The id of a key is a path, such as `acme/search/ci`: what stands before a slash is the id of a group, `acme` and
//! `acme/search`. A group has what a key has but an access key: limits, a budget, an expiry, usage. A call meets the limits of
//! each group of its key and of the key itself, and is charged to all of them or to none. See [`NewKey::group`] and [`Keys`].
//!
//! # Limits that keys have in common
//! A [`Plan`] is a part of a configuration under a name: limits, thresholds, a time zone. Each key that has it counts for itself. A
//! changed plan is one write, however many keys have it. See [`Limiter::workspace`] and [`Keys::save_plan`].
//!
//! # Without a runtime
//! Each call returns an [`Answer`]: await it, or in memory get it as a value, by [`Answer::now`].
//!
//! # Features
//! Limits in memory need none.
//! - `redis`: [`Limiter::redis`], shared by many processes.
//! - `redis-tls`: `redis`, and TLS to its servers.
//! - `policy`: [`Limiter::guarded`], policies for outages of the store.
//! - `lease`: [`Limiter::leased`], decisions without a round trip to the store, and still never one too many.
//! - `stream`: [`stream::StreamMeter`], for answers that stream.
//! - `metrics`: metrics of all calls, through the crate [`metrics`](https://docs.rs/metrics).
//! - `tracing`: a span around each call, and a warning when the store fails, through the crate
//!   [`tracing`](https://docs.rs/tracing).
//! - `time-zones`: days, weeks and months of any [`TimeZone`], by its name in the IANA database.
//! - `utoipa`: OpenAPI schemas of the types, through the crate [`utoipa`](https://docs.rs/utoipa).
//!
//! # Metrics and spans
//! The README lists all metrics, with a query for each. Their labels are words of short lists: no key, no asset, and never an
//! access key. A limiter by `Limiter::with_key_label` or `Limiter::with_asset_label` shows keys or assets. Without the two
//! features, neither is compiled in.
//!
//! The label `depth` of `limiter_rate_limited_total`, and the field of spans, shows whose rule binds: the number of segments of
//! the id of its group or key, from 1 to 4.
//!
//! Install the recorder before the limiter is built: the handles of an operation are registered at its first call and
//! kept, so that a decision costs no look-up and no allocation. A call whose future is dropped is not counted.
//!
//! A span is called `limiter`, at the level DEBUG. Its fields are `operation`, `outcome`, `rule` (the binding rule of a
//! denial by limits), `depth` and `degraded`. A warning about a failing store is logged at most every 10 seconds, with the
//! number of failures since then. Calls that a circuit breaker refuses log no further warning.
//!
#![cfg_attr(not(feature = "redis"), doc = "[`Limiter::redis`]: #features")]
#![cfg_attr(not(feature = "policy"), doc = "[`Limiter::guarded`]: #features")]
#![cfg_attr(not(feature = "lease"), doc = "[`Limiter::leased`]: #features")]
#![cfg_attr(not(feature = "stream"), doc = "[`stream::StreamMeter`]: #features")]

mod answer;
mod asset;
mod builder;
mod deciding;
mod estimate;
pub mod events;
mod handle;
mod keys;
mod limiter;
#[cfg(all(test, feature = "stream"))]
mod messages;
mod observe;
mod price;
#[cfg(feature = "stream")]
mod provider;
mod reservation;
mod reserving;
pub mod store;
#[cfg(feature = "stream")]
pub mod stream;
mod token_usage;
mod user_code;

pub use answer::Answer;
pub use asset::OfAsset;
pub use builder::LimiterBuilder;
pub use estimate::Estimate;
pub use handle::Handle;
pub use keys::Keys;
pub use limiter::Limiter;
pub use limiter_core::{
    AccessKey, Allowed, AssetId, Charge, CreatedKey, Credits, DayHistory, Decision, DenialReason,
    Denied, Effective, InvalidValue, KeyConfig, KeyId, KeyKind, KeyName, KeyPrefix, KeyRecord,
    KeysError, Labels, Limit, Limits, MAX_COUNT, ManualClock, Measure, NewKey, Other, Page, Plan,
    PlanName, PlanRecord, PlanUpdate, RequestId, ReservationError, Rotation, Rule, Scope, ScopeId,
    Search, Settled, StoreError, Thresholds, TimeZone, Timestamp, Totals, Unit, Upserted, Usage,
    Window, WorkspaceId,
};
pub use price::{Price, PriceTable, PriceTableError};
pub use reservation::{Reservation, Reserved};
pub use token_usage::TokenUsage;

/// The parts of a [`Decision`] and of a [`Settled`] charge.
pub mod decision {
    pub use limiter_core::{LimitExceeded, RuleState, SettledAs, Violation};
}

/// The parts of a [`KeyConfig`], of the answers to its changes, and of the pages that a search finds.
pub mod config {
    pub use limiter_core::{
        DamagedKey, LimitsBuilder, MaskedKey, PendingLimits, ReplacedKey, ScopeLimits, UpdatedKey,
    };
}

/// The parts of a [`Usage`] and of a [`DayHistory`].
pub mod usage {
    pub use limiter_core::{CreditUsage, ScopeAccount, ScopeUsage};
}

/// The store in memory, with bounds of your own, snapshots and a journal of its keys.
pub mod memory {
    pub use limiter_memory::{
        Journal, KeyAction, KeyChange, MemoryStore, MemoryStoreBuilder, RestoreError, Snapshot,
    };
}

/// The store on Redis, which many processes share.
#[cfg(feature = "redis")]
pub mod redis {
    pub use limiter_redis::{RedisError, RedisStore, RedisStoreBuilder};
}

/// Policies for outages of a store.
#[cfg(feature = "policy")]
pub mod policy {
    pub use limiter_policy::{
        BreakerState, FailurePolicy, GuardedStore, GuardedStoreBuilder, Outage, Share,
    };
}

/// Leases from a store.
#[cfg(feature = "lease")]
pub mod lease {
    pub use limiter_lease::{Figures, LeasedStore, LeasedStoreBuilder};
}

// For the crates and the tests around this one; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use limiter_core::{KnownKey, KnownKeys, Object, Throttle, with_causes};

    #[cfg(all(feature = "stream", any(test, feature = "fuzzing")))]
    pub use crate::provider::fuzzing;
    pub use crate::user_code::UserCode;
}
