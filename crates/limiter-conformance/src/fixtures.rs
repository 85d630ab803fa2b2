//! Values that many tests need. The functions panic on values that are out of bounds.

use std::fmt::Debug;
use std::str::FromStr;
use std::time::Duration;

use limiter_core::{
    AccessKey, AssetId, Charge, Credits, KeyConfig, KeyId, KeyPrefix, Limits, LimitsBuilder,
    RequestId, Timestamp, Totals, Unit, Window, WorkspaceId,
};

use crate::replay::{Operation, read};

/// The configuration of a key that has a name and nothing else.
pub fn named(name: &str) -> KeyConfig {
    KeyConfig::named(name).expect("a name of 1 to 256 bytes")
}

/// The id of a workspace.
pub fn workspace(id: &str) -> WorkspaceId {
    parsed(id)
}

/// The id of a key.
pub fn key_id(id: &str) -> KeyId {
    parsed(id)
}

/// The id of an asset.
pub fn asset(id: &str) -> AssetId {
    parsed(id)
}

/// The id of a reservation, of a check or of a record.
pub fn request_id(id: &str) -> RequestId {
    parsed(id)
}

/// An access key that its caller brings.
pub fn access_key(secret: &str) -> AccessKey {
    parsed(secret)
}

/// The visible start of access keys.
pub fn prefix(prefix: &str) -> KeyPrefix {
    parsed(prefix)
}

/// The limits that `set` sets.
pub fn limits(set: impl FnOnce(LimitsBuilder) -> LimitsBuilder) -> Limits {
    set(Limits::builder()).build().expect("limits within bounds")
}

/// A limit of requests per minute.
pub fn requests_per_minute(limit: u64) -> Limits {
    limits(|it| it.requests_per_minute(limit))
}

/// A limit of requests per day.
pub fn requests_per_day(limit: u64) -> Limits {
    limits(|it| it.requests_per_day(limit))
}

/// A limit of requests per month.
pub fn requests_per_month(limit: u64) -> Limits {
    limits(|it| it.requests_per_month(limit))
}

/// A limit of tokens per minute.
pub fn tokens_per_minute(limit: u64) -> Limits {
    limits(|it| it.tokens_per_minute(limit))
}

/// The charge of this many requests.
pub fn requests(requests: u64) -> Charge {
    Charge::request().with_requests(requests).expect("requests within bounds")
}

/// The charge of one request with input and output tokens.
pub fn tokens(input: u64, output: u64) -> Charge {
    Charge::request().with_tokens(input, output).expect("tokens within bounds")
}

/// The charge of one request that costs this many millionths of a credit.
pub fn spend(amount: u64) -> Charge {
    Charge::request().with_credits(millionths(amount))
}

/// Credits, in millionths.
pub fn millionths(millionths: u64) -> Credits {
    Credits::from_millionths(millionths).expect("an amount within bounds")
}

/// Sets the budget of a configuration, or takes it away.
pub fn set_budget(config: &mut KeyConfig, budget: Option<Credits>) {
    let global = config.global.to_builder();
    let budget = budget.map(Credits::millionths);
    config.global =
        global.limit(Window::Ever, Unit::Credits, budget).build().expect("limits within bounds");
}

/// New totals of a reservation: other output tokens.
pub fn output(tokens: u64) -> Totals {
    Totals::unchanged().with_output_tokens(tokens).expect("tokens within bounds")
}

/// New totals of a reservation: other input and output tokens.
pub fn input_and_output(input: u64, tokens: u64) -> Totals {
    output(tokens).with_input_tokens(input).expect("tokens within bounds")
}

/// An instant, written as RFC 3339.
pub fn instant(text: &str) -> Timestamp {
    parsed(text)
}

/// The operation with these fields of the replay format at an instant.
pub fn operation(at: u64, fields: &str) -> Operation {
    read(&format!(r#"{{"at":{at},{fields}}}"#)).unwrap_or_else(|error| panic!("{error}: {fields}"))
}

fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("a text within bounds")
}

/// The length of a minute.
pub const MINUTE: Duration = Duration::from_secs(60);
/// The length of a day.
pub const DAY: Duration = Duration::from_secs(86_400);
/// 2025-10-09T12:00:00Z, the start of a minute.
pub const NOON: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
/// A minute after noon.
pub const NEXT_MINUTE: Timestamp = Timestamp::from_unix_ms(1_760_011_260_000);
/// 2025-10-10T00:00:00Z, the start of the next day.
pub const MIDNIGHT: Timestamp = Timestamp::from_unix_ms(1_760_054_400_000);
