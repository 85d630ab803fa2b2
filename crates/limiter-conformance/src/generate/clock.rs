//! How a clock moves between two operations.

use proptest::prelude::*;

/// One movement of the clock. It is relative to what the clock shows, so that a history still makes sense when an operation
/// before it is taken out. The ends of windows are met give or take some milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockStep {
    Stand,
    Forward(u64),
    MinuteEnd(i64),
    DayEnd(i64),
    Minutes(u64),
    Days(u64),
    Back(u64),
    BackMinutes(u64),
    BackDays(u64),
    /// As a broken clock jumps.
    FarAhead,
    /// To where a clock that had jumped far ahead is set right.
    FarBack,
}

impl ClockStep {
    /// What the clock shows after the step. It never shows less than 0.
    pub(super) fn from(self, now: u64) -> u64 {
        match self {
            Self::Stand => now,
            Self::Forward(ms) => now + ms,
            Self::MinuteEnd(offset_ms) => end_of(now, MINUTE_MS).saturating_add_signed(offset_ms),
            Self::DayEnd(offset_ms) => end_of(now, DAY_MS).saturating_add_signed(offset_ms),
            Self::Minutes(minutes) => now + minutes * MINUTE_MS,
            Self::Days(days) => now + days * DAY_MS,
            Self::Back(ms) => now.saturating_sub(ms),
            Self::BackMinutes(minutes) => now.saturating_sub(minutes * MINUTE_MS),
            Self::BackDays(days) => now.saturating_sub(days * DAY_MS),
            Self::FarAhead => now + FAR_MS,
            Self::FarBack => now.saturating_sub(FAR_MS),
        }
    }
}

/// Steps of which most stay within the minute; the simplest come first, as shrinking prefers them.
pub(super) fn clock_steps() -> impl Strategy<Value = ClockStep> {
    prop_oneof![
        30 => Just(ClockStep::Stand),
        4 => (1_u64..=1_000).prop_map(ClockStep::Forward),
        4 => (-1_i64..=1).prop_map(ClockStep::MinuteEnd),
        3 => (-1_i64..=1).prop_map(ClockStep::DayEnd),
        3 => (1_u64..=3).prop_map(ClockStep::Minutes),
        2 => (1_u64..=4).prop_map(ClockStep::Days),
        2 => (1_u64..=1_000).prop_map(ClockStep::Back),
        3 => (1_u64..=3).prop_map(ClockStep::BackMinutes),
        2 => (1_u64..=3).prop_map(ClockStep::BackDays),
        1 => Just(ClockStep::FarAhead),
        1 => Just(ClockStep::FarBack),
    ]
}

/// Where histories begin: at noon, a millisecond before midnight, at midnight, or when unix time began.
pub(super) fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => Just(MIDNIGHT_MS + DAY_MS / 2),
        2 => Just(MIDNIGHT_MS - 1),
        2 => Just(MIDNIGHT_MS),
        1 => Just(0),
    ]
}

fn end_of(now: u64, length_ms: u64) -> u64 {
    (now / length_ms + 1) * length_ms
}

pub(super) const MINUTE_MS: u64 = 60_000;
pub(super) const DAY_MS: u64 = 86_400_000;
/// The beginning of some day in October 2025.
pub(super) const MIDNIGHT_MS: u64 = 20_370 * DAY_MS;
/// Some 27 years: hundreds of such jumps still keep to 2^53.
const FAR_MS: u64 = 10_000 * DAY_MS;
