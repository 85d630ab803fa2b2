//! The messages of this crate, as `docs/messages.txt` lists them.

#[path = "../../../tests/messages.rs"]
#[expect(clippy::disallowed_methods, reason = "the list is a file")]
mod listed;

use std::time::Duration;

use self::listed::{Message, variants};
use crate::charge::Charge;
use crate::clock::Timestamp;
use crate::config::{KeyConfig, KeyKind};
use crate::credits::Credits;
use crate::denied::{DenialReason, Denied, LimitExceeded};
use crate::error::{BoxError, InvalidValue, KeysError, StoreError};
use crate::evaluate;
use crate::ledger::{Ledger, LedgerBounds};
use crate::levels::LevelsMut;
use crate::limits::{Limits, LimitsBuilder, MAX_COUNT};
use crate::names::{AssetId, KeyId, RequestId};
use crate::reservation::{self, ReservationError};
use crate::state::KeyState;
use crate::thresholds::Thresholds;
use crate::window::Window;

#[test]
fn messages_are_as_listed() {
    let all = [denials(), invalid_values(), store_errors(), keys_errors(), reservation_errors()];
    listed::check(env!("CARGO_PKG_NAME"), all.into_iter().flatten());
}

/// Each reason, and then those with several sentences.
fn denials() -> Vec<Message> {
    let render = |reason| Denied::new(Some(&key()), Some(&asset()), Some(NOON), reason).to_string();
    let budget = |text: &str| Limits::builder().credits_ever(text.parse::<Credits>().unwrap());
    let per_minute = |limit| Limits::builder().tokens_per_minute(limit);
    let limited = |limits: LimitsBuilder| rate_limited(&limited_to(limits));
    let mut messages = variants!(by render; DenialReason {
        KeyUnknown,
        KeyExpired { expired_at: NOON, group: None },
        AdminKey,
        AssetDenied { group: None },
        TooManyKeys { most: 1_000_000, retry_at: Some(NOON) },
        BudgetExhausted(limited(budget("5.50"))),
        RateLimited(limited(Limits::builder().output_tokens_per_minute(10).requests_per_day(1))),
    });
    let expires = limited_to(per_minute(10)).with_expiry(NOON.after(Duration::from_secs(1)));
    let more = [
        ("BudgetExhausted for good", DenialReason::BudgetExhausted(limited(budget("1")))),
        ("RateLimited for good", DenialReason::RateLimited(limited(per_minute(6)))),
        ("RateLimited by a group", DenialReason::RateLimited(limited_by_a_group())),
        ("RateLimited for want of a slot", DenialReason::RateLimited(without_a_slot(2))),
        ("RateLimited without any slot", DenialReason::RateLimited(without_a_slot(0))),
        ("KeyExpired of a group", DenialReason::KeyExpired { expired_at: NOON, group: acme() }),
        ("AssetDenied by a group", DenialReason::AssetDenied { group: acme() }),
        ("RateLimited until the key expires", DenialReason::RateLimited(rate_limited(&expires))),
    ];
    messages.extend(more.map(|(name, reason)| (name.to_owned(), render(reason))));
    messages
}

fn invalid_values() -> Vec<Message> {
    variants!(InvalidValue {
        TooLarge { what: "the number of requests", value: u128::from(MAX_COUNT) + 1 },
        Length { what: "a key name", length: 300, max: 256 },
        TooManySegments { count: 5, max: 4 },
        Slash,
        AdminInGroup { segments: 2 },
        GroupAccessKey,
        Character { what: "a key name", character: '\u{202e}' },
        Instant { what: "the expiry of a key", instant: Timestamp::MAX },
        AccessKey { min: 16, max: 256 },
        KeyPrefix { max: 16 },
        AccessKeyPrefix { prefix: "sk-acme-".parse().unwrap(), min: 16 },
        TooLongGrace { grace: Duration::from_secs(864_000), max: Duration::from_secs(604_800) },
        TooManyLabels { count: 17, max: 16 },
        LabelValue { name: "team".to_owned(), length: 300, max: 256 },
        TooManyAssets { count: 1_025, max: 1_024 },
        TooManyLimits { count: 13, max: 12 },
        TooManyKeys { count: 1_001, max: 1_000 },
        TooManyPlans { max: 1_024 },
        OpenKey,
        OpenInShadow,
        OpenUnlimited,
        OpenPlan { plan: "free".parse().unwrap(), window: Window::Month },
        UnknownWord { what: "window", text: "year".to_owned(), expected: "minute, hour, day, week, month or ever" },
        Credits { text: "1,50".to_owned() },
        Threshold { percent: 101 },
        TooManyThresholds { count: 5, max: 4 },
        Inconsistent { what: "a count is above the largest number" },
    })
}

fn store_errors() -> Vec<Message> {
    let mut messages = variants!(StoreError {
        Unavailable(cause()),
        OutcomeUnknown(cause()),
        Corrupt(cause()),
    });
    for (name, error) in
        [("not tried", StoreError::not_tried()), ("not answered", StoreError::not_answered())]
    {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        let name = format!("the source of a StoreError of a part that was {name}");
        messages.push((name, source.unwrap()));
    }
    messages
}

fn keys_errors() -> Vec<Message> {
    variants!(KeysError {
        UnknownCaller,
        ExpiredCaller,
        Forbidden,
        OwnerIsNoKey,
        NotFound("ci".to_owned()),
        NameTaken("ci".to_owned()),
        Damaged { id: key(), source: cause() },
        IdTaken("ci".to_owned()),
        NoGroup("acme".parse().unwrap()),
        NotEmpty("acme".parse().unwrap()),
        NoPlan("free".parse().unwrap()),
        PlanInUse("free".parse().unwrap()),
        AccessKeyTaken,
        AlreadyBootstrapped,
        FirstMustBeAdmin,
        LastAdmin,
        Conflict { expected: 3, actual: 4 },
        Invalid(InvalidValue::Threshold { percent: 0 }),
        Entropy(cause()),
        Store(StoreError::Unavailable(cause())),
    })
}

fn reservation_errors() -> Vec<Message> {
    let id = || RequestId::new("job-7").unwrap();
    variants!(ReservationError {
        KeyUnknown,
        Unknown(id()),
        OtherExists(id()),
        AlreadySettled(id()),
        TooMany { what: "open reservations of this key", most: 100_000, at: NOON, retry_at: NOON },
        Invalid(InvalidValue::Threshold { percent: 0 }),
        Store(StoreError::Unavailable(cause())),
    })
}

/// A key that uses 7 output tokens and 5 credits, and asks for as many more.
fn rate_limited(config: &KeyConfig) -> Box<LimitExceeded> {
    let mut state = KeyState::new(KeyKind::Member, config, Thresholds::DEFAULT, NOON);
    let asset = asset();
    let located = state.locate(Some(&asset));
    let charge =
        Charge::request().with_tokens(0, 7).unwrap().with_credits(Credits::whole(5).unwrap());
    let _ = evaluate::charge(&mut state, &key(), located, &charge, NOON);
    let decision = evaluate::charge(&mut state, &key(), located, &charge, NOON);
    Box::new(decision.denied().and_then(Denied::exceeded).unwrap().clone())
}

/// A key whose group has room for one request per minute and one of the asset per day.
fn limited_by_a_group() -> Box<LimitExceeded> {
    let limits = |builder: LimitsBuilder| builder.build().unwrap();
    let config = KeyConfig::named("acme")
        .unwrap()
        .with_global(limits(Limits::builder().requests_per_minute(1)))
        .with_asset(asset(), limits(Limits::builder().requests_per_day(1)));
    let mut group = KeyState::new(KeyKind::Group, &config, Thresholds::DEFAULT, NOON);
    let config = KeyConfig::named("ci").unwrap();
    let mut state = KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, NOON);
    let (key, asset) = ("acme/ci".parse().unwrap(), asset());
    let mut levels = LevelsMut::new(&key, Some(&asset), [&mut group, &mut state]);
    let _ = evaluate::charge_all(&mut levels, &Charge::request(), NOON);
    let decision = evaluate::charge_all(&mut levels, &Charge::request(), NOON);
    Box::new(decision.denied().and_then(Denied::exceeded).unwrap().clone())
}

/// A key whose slots for the asset are all held.
fn without_a_slot(limit: u64) -> Box<LimitExceeded> {
    let config = limited_to(Limits::builder().parallel(limit));
    let mut state = KeyState::new(KeyKind::Member, &config, Thresholds::DEFAULT, NOON);
    let (key, asset, call, ttl) = (key(), asset(), Charge::request(), Duration::from_secs(60));
    let (mut ledger, bounds) = (Ledger::default(), LedgerBounds::default());
    let mut levels = LevelsMut::of_key(&key, Some(&asset), &mut state);
    let mut denied = None;
    for number in 0..=limit {
        let id = number.to_string().parse().unwrap();
        let reserved =
            reservation::reserve(&mut levels, &mut ledger, &bounds, &call, &id, ttl, NOON);
        denied = reserved.unwrap().denied().and_then(Denied::exceeded).cloned();
    }
    Box::new(denied.unwrap())
}

fn acme() -> Option<KeyId> {
    Some("acme".parse().unwrap())
}

fn limited_to(limits: LimitsBuilder) -> KeyConfig {
    KeyConfig::named("ci").unwrap().with_asset(asset(), limits.build().unwrap())
}

fn key() -> KeyId {
    "ci".parse().unwrap()
}

fn asset() -> AssetId {
    "gpt-5".parse().unwrap()
}

fn cause() -> BoxError {
    "the cause is not part of the message".into()
}

const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
