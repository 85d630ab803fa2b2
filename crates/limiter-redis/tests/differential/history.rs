//! What happens in a history: data, so that it can be shown and made smaller.

use limiter_core::{
    AssetId, Charge, Credits, KeyConfig, KeyKind, Limits, MAX_COUNT, Thresholds, Timestamp,
    TokenType,
};

use crate::clock::{self, DAY_MS, MINUTE_MS, Step};
use crate::random::Random;
use crate::remembering::Remembered;

/// What happens to a few keys of one store, round after round.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) start: Timestamp,
    /// After how many rounds the stored states are compared, and again after as many.
    pub(crate) compare_every: usize,
    pub(crate) rounds: Vec<Round>,
}

/// The clock moves, then something happens.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) step: Step,
    pub(crate) action: Action,
}

/// Keys are named by their numbers.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Create {
        key: usize,
        kind: KeyKind,
        changes: Vec<Change>,
    },
    Update {
        key: usize,
        changes: Vec<Change>,
    },
    Delete {
        key: usize,
    },
    /// Calls at the same time, one of them or many.
    Calls(Vec<Call>),
    /// An operation on an id.
    Remembered(Remembered),
    Peek(Call),
    Usage {
        key: usize,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) key: usize,
    pub(crate) asset: Option<&'static str>,
    /// By a handle, which may have been made for an earlier key of this number.
    pub(crate) by_handle: bool,
    pub(crate) charge: Charge,
}

/// One change of a configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Global(Limits),
    Asset(&'static str, Limits),
    RemoveAsset(&'static str),
    Budget(Option<Credits>),
    /// In so many milliseconds.
    ExpiresIn(i64),
    ExpiresAt(Option<Timestamp>),
    Thresholds(Option<Thresholds>),
    Shadow(bool),
    Rename,
    /// To what was configured before the last update.
    Back,
}

/// What histories are mostly about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    /// Many calls at a time.
    Calls,
    /// What is remembered, with single calls between.
    Ids,
}

impl History {
    pub(crate) fn random(about: About, seed: u64) -> Self {
        let random = &mut Random::from_seed(seed);
        let start = clock::start(random);
        let compare_every = random.between(1, 6) as usize;
        let mut rounds = vec![Round { step: Step::Stand, action: create(random, 0) }];
        if random.percent(60) {
            rounds.push(Round { step: Step::Stand, action: create(random, 1) });
        }
        for _ in 0..random.between(20, 80) {
            let action = action(about, random);
            let made_again = match action {
                Action::Delete { key } if random.percent(80) => Some(create(random, key)),
                _ => None,
            };
            rounds.push(Round { step: Step::random(random), action });
            if let Some(action) = made_again {
                rounds.push(Round {
                    step: Step::random(random),
                    action: Action::Calls(calls(random)),
                });
                rounds.push(Round { step: Step::random(random), action });
            }
        }
        Self { start, compare_every, rounds }
    }
}

fn action(about: About, random: &mut Random) -> Action {
    match (about, random.below(100)) {
        (About::Ids, 0..=68) => {
            let key = key(random);
            Action::Remembered(Remembered::random(random, key))
        }
        (About::Ids, 69..=78) => Action::Calls(vec![call(random)]),
        (_, other) => other_action(other, random),
    }
}

fn other_action(number: u64, random: &mut Random) -> Action {
    match number {
        0..=78 => Action::Calls(calls(random)),
        79..=83 => Action::Peek(call(random)),
        84..=85 => Action::Usage { key: key(random) },
        86..=96 => {
            let count = random.one_of(&[0, 1, 1, 1, 1, 2, 3]);
            Action::Update { key: key(random), changes: changes(random, count) }
        }
        97..=98 => {
            let key = key(random);
            create(random, key)
        }
        _ => Action::Delete { key: key(random) },
    }
}

/// An admin key makes no calls, and there is little to be seen of it.
fn create(random: &mut Random, key: usize) -> Action {
    let kind = if random.percent(3) { KeyKind::Admin } else { KeyKind::Member };
    let mut changes = Vec::new();
    if random.percent(70) {
        changes.push(Change::Global(limits(random)));
    }
    for asset in ASSETS {
        if random.percent(40) {
            changes.push(Change::Asset(asset, limits(random)));
        }
    }
    if random.percent(20) {
        changes.push(Change::Budget(Some(budget(random))));
    }
    if random.percent(3) {
        changes.push(expiry(random));
    }
    if random.percent(50) {
        changes.push(Change::Thresholds(Some(thresholds(random))));
    }
    if random.percent(5) {
        changes.push(Change::Shadow(true));
    }
    Action::Create { key, kind, changes }
}

fn changes(random: &mut Random, count: usize) -> Vec<Change> {
    (0..count).map(|_| change(random)).collect()
}

fn change(random: &mut Random) -> Change {
    match random.below(100) {
        0..=26 => Change::Global(limits(random)),
        27..=31 => Change::Global(Limits::NONE),
        32..=53 => Change::Asset(random.one_of(&ASSETS), limits(random)),
        54..=62 => Change::RemoveAsset(random.one_of(&ASSETS)),
        63..=68 => Change::Thresholds(Some(thresholds(random))),
        69 => Change::Thresholds(None),
        70..=71 => Change::Shadow(random.percent(50)),
        72..=79 => Change::Budget(Some(budget(random))),
        80..=83 => Change::Budget(None),
        84..=85 => expiry(random),
        86..=88 => Change::ExpiresAt(None),
        89 => Change::Rename,
        _ => Change::Back,
    }
}

fn expiry(random: &mut Random) -> Change {
    let some = |random: &mut Random, most: i64| random.below(most.unsigned_abs()).cast_signed();
    match random.below(6) {
        0 => Change::ExpiresIn(0),
        1 => Change::ExpiresIn(-some(random, DAY_MS)),
        2 => Change::ExpiresIn(some(random, 2 * MINUTE_MS)),
        3 => Change::ExpiresIn(some(random, 2 * DAY_MS)),
        4 => Change::ExpiresAt(Some(Timestamp::END_OF_9999)),
        _ => Change::ExpiresAt(Some(Timestamp::START_OF_1970)),
    }
}

/// One call, or many, most of which meet the same counts.
fn calls(random: &mut Random) -> Vec<Call> {
    let count = match random.below(10) {
        0..=3 => 1,
        4..=6 => random.between(2, 5),
        _ => random.between(6, 24),
    };
    let first = call(random);
    let mut calls = vec![first.clone()];
    let alike = random.one_of(&[0, 50, 80, 100]);
    for _ in 1..count {
        let mut next = call(random);
        if random.percent(alike) {
            next = Call { charge: next.charge, ..first.clone() };
        }
        calls.push(next);
    }
    calls
}

fn call(random: &mut Random) -> Call {
    let asset = asset(random);
    Call { key: key(random), asset, by_handle: random.percent(15), charge: charge(random) }
}

pub(crate) fn asset(random: &mut Random) -> Option<&'static str> {
    match random.below(10) {
        0..=2 => None,
        3..=8 => Some(random.one_of(&ASSETS)),
        _ => Some("made-up"),
    }
}

pub(crate) fn charge(random: &mut Random) -> Charge {
    let requests = match random.below(40) {
        0..=29 => 1,
        30..=35 => 0,
        36..=38 => random.between(2, 3),
        _ => extreme(random),
    };
    let tokens = |random: &mut Random| match random.below(20) {
        0..=12 => random.below(3),
        13..=17 => random.between(3, 6),
        18 => random.between(7, 40),
        _ => extreme(random),
    };
    let (input, output) = (tokens(random), tokens(random));
    let credits = match random.below(20) {
        0..=11 => 0,
        12..=18 => random.between(1, 3),
        _ => extreme(random),
    };
    let charge = Charge::request().with_requests(requests).expect("within bounds");
    let tokens = charge.with_tokens(input, output).or_else(|_| charge.with_tokens(input, 0));
    tokens.expect("within bounds").with_credits(amount(credits))
}

fn limits(random: &mut Random) -> Limits {
    let mut limit = || match random.below(40) {
        0..=17 => None,
        18..=26 => Some(random.between(1, 8)),
        27..=36 => Some(random.between(9, 120)),
        37 => Some(0),
        _ => Some(extreme(random)),
    };
    let limits = Limits::builder()
        .requests_per_minute(limit())
        .requests_per_day(limit())
        .tokens_per_minute(limit())
        .tokens_per_day(limit());
    let token_type = random.one_of(&[TokenType::Total, TokenType::Output, TokenType::Input]);
    limits.token_type(token_type).build().expect("within bounds")
}

/// A spent budget hides the rules behind it, so most last for a while.
fn budget(random: &mut Random) -> Credits {
    amount(match random.below(10) {
        0..=2 => random.below(4),
        3..=8 => random.between(10, 80),
        _ => extreme(random),
    })
}

/// Of few of them, so that changed ones often have some in common.
fn thresholds(random: &mut Random) -> Thresholds {
    let count = random.below(5) as usize;
    let percents =
        (0..count).map(|_| random.one_of(&[1, 10, 25, 50, 50, 75, 80, 80, 90, 99, 100, 100]));
    Thresholds::new(percents).expect("at most four")
}

fn amount(millionths: u64) -> Credits {
    Credits::from_millionths(millionths).expect("within bounds")
}

/// Around the largest number, and around half of it, so that sums come to lie on both sides.
pub(crate) fn extreme(random: &mut Random) -> u64 {
    let near = random.below(9);
    random.one_of(&[
        MAX_COUNT,
        MAX_COUNT - near,
        MAX_COUNT / 2 - near,
        MAX_COUNT / 2 + near,
        1 << 31,
        1 << 32,
    ])
}

/// Mostly the first: a history is about something when its rounds meet.
fn key(random: &mut Random) -> usize {
    random.one_of(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
}

impl Change {
    pub(crate) fn apply(self, config: &mut KeyConfig, before: &KeyConfig, now: Timestamp) {
        let id = |asset: &str| asset.parse::<AssetId>().expect("a short id");
        match self {
            Self::Global(limits) => config.global = limits,
            Self::Asset(asset, limits) => drop(config.assets.insert(id(asset), limits)),
            Self::RemoveAsset(asset) => drop(config.assets.remove(&id(asset))),
            Self::Budget(budget) => config.budget = budget,
            Self::ExpiresIn(ms) => {
                let at = Timestamp::from_unix_ms(now.unix_ms() + ms);
                let at = at.clamp(Timestamp::START_OF_1970, Timestamp::END_OF_9999);
                config.expires_at = Some(at);
            }
            Self::ExpiresAt(expires_at) => config.expires_at = expires_at,
            Self::Thresholds(thresholds) => config.thresholds = thresholds,
            Self::Shadow(shadow) => config.shadow = shadow,
            Self::Rename => config.name = format!("{}'", config.name).parse().expect("a name"),
            Self::Back => *config = KeyConfig { name: config.name.clone(), ..before.clone() },
        }
    }
}

/// How many keys a history may have.
pub(crate) const KEYS: usize = 3;
const ASSETS: [&str; 3] = ["m1", "m2", "global"];
