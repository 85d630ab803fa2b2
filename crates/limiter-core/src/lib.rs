//! The rules of rate limits for API keys of LLM services: pure, deterministic, without I/O.
//!
//! This crate holds the only copy of each rule in Rust. A store keeps a [`KeyState`] for each key, and [`evaluate`]
//! decides a call on it: record, charge and time come in as arguments, a decision goes out, and the state has the new
//! counts. No code here reads a clock, a socket or a random number. Applications use the `limiter` crate; this one is
//! for authors of stores.
//!
//! ```
//! use limiter_core::{
//!     Charge, KeyConfig, KeyKind, KeyState, Limits, Thresholds, Timestamp, evaluate,
//! };
//!
//! let noon = Timestamp::from_unix_ms(1_760_011_200_000);
//! let config = KeyConfig::named("ci")?
//!     .with_asset("gpt-5".parse()?, Limits::builder().tokens_per_minute(10).build()?);
//! let mut state = KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, noon);
//!
//! let (key, gpt5) = ("ci".parse()?, "gpt-5".parse()?);
//! let asset = state.locate(Some(&gpt5));
//! let charge = Charge::request().with_tokens(4, 3)?;
//! assert!(evaluate::charge(&mut state, &key, asset, &charge, noon).is_allowed());
//!
//! let decision = evaluate::charge(&mut state, &key, asset, &charge, noon);
//! let denied = decision.denied().expect("7 of 10 tokens are used, and 7 more do not fit");
//! assert_eq!(
//!     denied.to_string(),
//!     "ci: 7 of 10 tokens per minute are used for asset \"gpt-5\", this call asks for 7, \
//!      reset at 2025-10-09T12:01:00Z. Retry at 2025-10-09T12:01:00Z"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(clippy::arithmetic_side_effects, clippy::float_arithmetic)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod access_key;
mod charge;
mod clock;
mod config;
mod configure;
mod credits;
mod crossing;
mod decision;
mod denied;
mod domain;
mod error;
pub mod evaluate;
pub mod explain;
pub mod grant;
mod history;
mod key;
pub mod keys;
mod known_keys;
mod labels;
mod ledger;
mod levels;
mod limits;
mod managed;
#[cfg(test)]
mod messages;
mod meter;
mod names;
mod new_key;
mod object;
mod open;
#[cfg(feature = "utoipa")]
mod openapi;
pub mod operation;
mod parallel;
mod plan;
pub mod prepare;
mod record;
mod remembered;
pub mod reservation;
mod rule;
mod rules;
mod schedule;
mod search;
mod settled;
mod state;
mod store;
mod thresholds;
mod throttle;
mod totals;
mod unpaid;
mod usage;
mod window;
mod words;
mod zone;

pub use access_key::{AccessKey, KeyDigest, KeyPrefix, MaskedKey};
pub use async_trait::async_trait;
pub use charge::Charge;
pub use clock::{ManualClock, Timestamp};
pub use config::{Effective, KeyConfig, KeyKind, Other};
pub use configure::Change;
pub use credits::Credits;
pub use crossing::Crossing;
pub use decision::{Allowed, Decision};
pub use denied::{DenialReason, Denied, LimitExceeded};
pub use domain::{FailureDomain, KeyFailure};
pub use error::{BoxError, CallError, InvalidValue, KeysError, StoreError, with_causes};
pub use grant::{Grant, GrantTerms};
pub use history::{ClosedDay, DayHistory, ScopeAccount};
pub use key::{
    CreatedKey, KeyRecord, ReplacedKey, ReplacedSecret, ScopeLimits, StoredKey, StoredSecret,
};
pub use keys::{Caller, Issuer, Keys, Upserted};
pub use known_keys::{KnownKey, KnownKeys};
pub use labels::Labels;
pub use ledger::{Ledger, LedgerBounds, RecordId, Reservation, ReservationEnd, SavedLedger};
pub use levels::{LevelPlace, LevelSet, Levels, LevelsMut};
pub use limits::{Limit, Limits, LimitsBuilder, MAX_COUNT};
pub use managed::{ManagedAs, ManagedKey};
pub use meter::{ANY, Ladder, Meter, STOPS, Stops, Take};
pub use names::{AssetId, KeyId, KeyName, PlanName, RequestId, WorkspaceId};
pub use new_key::{NewKey, Rotation};
pub use object::Object;
pub use parallel::{Parallel, Slots};
pub use plan::{Plan, PlanRecord, PlanUpdate, StoredPlan, TakenPlan};
pub use prepare::{Admission, AdmittedScope};
pub use record::{ACCOUNT, Cell, Counted, Record, Span, Stored, StoredWindow};
pub use reservation::ReservationError;
pub use rule::{Measure, Rule, Scope, Unit};
pub use rules::{RuleState, Violation};
pub use schedule::{Pending, ScopeState, Since};
pub use search::{DamagedKey, Page, Search};
pub use settled::{LateEvent, Settled, SettledAs};
pub use state::{AssetHint, CreditUsage, KeySettings, KeyState, LocatedAsset, Place, ScopeId};
pub use store::{CreateResults, KeyRotation, KeyUpdate, Listener, NewRecord, Store, UpdatedKey};
pub use thresholds::Thresholds;
pub use throttle::Throttle;
pub use totals::Totals;
pub use unpaid::Unpaid;
pub use usage::{PendingLimits, ScopeUsage, Usage};
pub use window::{Step, Window};
pub use zone::TimeZone;
