//! The calls that a client can make, and the keys that it creates.

use std::fmt;

use limiter_core::operation::Operation;
use limiter_core::{
    Charge, Credits, Effective, KeyConfig, KeyKind, KeyState, Limits, Thresholds, TimeZone,
    Timestamp, Window,
};

use crate::oracle::{Cost, Effect, Wanted};
use crate::path::Path;
use crate::server::{ASSET, Manages, Request};

/// A call that a client can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    /// A check of this many tokens.
    Check(u64),
    /// Two checks in one request.
    Pair(u64, u64),
    Reserve {
        id: u8,
        tokens: u64,
    },
    Amend {
        id: u8,
        tokens: u64,
    },
    Settle {
        id: u8,
        tokens: u64,
    },
    Cancel {
        id: u8,
    },
    /// A change of a level to the configuration with this number.
    Change {
        level: usize,
        to: usize,
    },
    Create {
        level: usize,
        to: usize,
    },
    Delete {
        level: usize,
    },
}

impl Call {
    /// How many calls go together.
    pub(crate) fn count(self) -> usize {
        self.checks().len().max(1)
    }

    pub(super) fn checks(self) -> Vec<u64> {
        match self {
            Self::Check(tokens) => vec![tokens],
            Self::Pair(one, other) => vec![one, other],
            _ => Vec::new(),
        }
    }

    /// The level that it manages, if it is no call of the key.
    pub(super) const fn level(self) -> Option<usize> {
        match self {
            Self::Create { level, .. } | Self::Change { level, .. } | Self::Delete { level } => {
                Some(level)
            }
            _ => None,
        }
    }

    pub(crate) fn id(self) -> Option<u8> {
        match self {
            Self::Reserve { id, .. }
            | Self::Amend { id, .. }
            | Self::Settle { id, .. }
            | Self::Cancel { id } => Some(id),
            _ => None,
        }
    }
}

impl Cost {
    pub(crate) fn charge(self) -> Charge {
        let charge = Charge::request().with_requests(self.requests).unwrap();
        let charge = charge.with_tokens(self.tokens, 0).unwrap();
        charge.with_credits(Credits::from_millionths(self.credits).unwrap())
    }
}

impl Wanted {
    fn config(&self) -> KeyConfig {
        let limits = |[minute, day]: [[Option<u64>; 2]; 2]| {
            let limits =
                Limits::builder().requests_per_minute(minute[0]).tokens_per_minute(minute[1]);
            limits.requests_per_day(day[0]).tokens_per_day(day[1]).build().unwrap()
        };
        let budget = self.budget.map(|budget| Credits::from_millionths(budget).unwrap());
        let global = limits(self.global).to_builder().credits_ever(budget).build().unwrap();
        let global = global.with_parallel(self.parallel[0]);
        let config = KeyConfig::named("ci").unwrap().with_global(global);
        let config =
            config.with_thresholds(Thresholds::new(self.thresholds.iter().copied()).unwrap());
        let config = KeyConfig { expires_at: self.expires_at, ..config };
        match self.lists(1) {
            true => {
                config.with_asset(ASSET.clone(), limits(self.asset).with_parallel(self.parallel[1]))
            }
            false => config,
        }
    }

    /// The change of a key to this configuration.
    pub(super) fn change(&self, state: &KeyState, now: Timestamp) -> limiter_core::Change {
        let change = state.change(&self.config(), Thresholds::DEFAULT, Effective::Next, now);
        change.expect("few assets")
    }

    /// The creation of a key, or of its group, with this configuration.
    pub(crate) fn created(&self, path: Path, level: usize, now: Timestamp) -> Request {
        let kind = if level == path.own() { KeyKind::Member } else { KeyKind::Group };
        let state = Box::new(KeyState::new(kind, &self.config(), Thresholds::DEFAULT, now));
        let group = path.group_of(level);
        let end = Window::Minute.end(now, &TimeZone::UTC);
        let from = Window::Minute.start(end, &TimeZone::UTC);
        let operation = Operation { from, until: end, ..Operation::nothing() };
        Request {
            operation: Some(operation),
            manages: Some(Manages::Create { group, state }),
            effects: vec![Effect::Create { level, group, wanted: self.clone() }],
            ..Request::looking(Path::of_level(level))
        }
    }
}

pub(super) fn cost(requests: u64, tokens: u64) -> Cost {
    Cost { requests, tokens, credits: tokens, slot: false }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(tokens) => write!(f, "check {tokens}"),
            Self::Pair(one, other) => write!(f, "check {one} and {other} together"),
            Self::Reserve { id, tokens } => write!(f, "reserve {tokens} as r{id}"),
            Self::Amend { id, tokens } => write!(f, "amend r{id} to {tokens}"),
            Self::Settle { id, tokens } => write!(f, "settle r{id} at {tokens}"),
            Self::Cancel { id } => write!(f, "cancel r{id}"),
            Self::Change { level, to } => write!(f, "change level {level} to configuration {to}"),
            Self::Create { level, to } => write!(f, "create level {level} with configuration {to}"),
            Self::Delete { level } => write!(f, "delete level {level}"),
        }
    }
}
