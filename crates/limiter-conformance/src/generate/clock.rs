//! Steps of the clock between two operations.

use proptest::prelude::*;
use proptest::sample::select;

/// One step of the clock. It is relative to the current time, so that a history still makes sense when an earlier
/// operation is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockStep {
    Forward(u64),
    Back(u64),
    /// To the end of the window of this length, plus this many milliseconds.
    EndOf(u64, i64),
}

impl ClockStep {
    /// Returns the time after the step, at least 0.
    pub(super) fn from(self, now: u64) -> u64 {
        match self {
            Self::Forward(ms) => now + ms,
            Self::Back(ms) => now.saturating_sub(ms),
            Self::EndOf(length_ms, offset_ms) => {
                ((now / length_ms + 1) * length_ms).saturating_add_signed(offset_ms)
            }
        }
    }
}

/// Generates steps that mostly stay within the minute; the simplest come first, as shrinking prefers them. The last two
/// are those of a broken clock: far ahead, and back to the right time.
pub(super) fn clock_steps() -> impl Strategy<Value = ClockStep> {
    let forward =
        |most, unit_ms| (1_u64..=most).prop_map(move |it| ClockStep::Forward(it * unit_ms));
    let back = |most, unit_ms| (1_u64..=most).prop_map(move |it| ClockStep::Back(it * unit_ms));
    let end_of = |length_ms| (-1_i64..=1).prop_map(move |ms| ClockStep::EndOf(length_ms, ms));
    prop_oneof![
        36 => Just(ClockStep::Forward(0)),
        4 => forward(1_000, 1),
        4 => end_of(MINUTE_MS),
        // Zones are whole quarters of an hour apart.
        3 => end_of(QUARTER_MS),
        2 => end_of(HOUR_MS),
        3 => end_of(DAY_MS),
        3 => forward(3, MINUTE_MS),
        2 => forward(30, HOUR_MS),
        2 => forward(9, DAY_MS),
        1 => forward(2, MONTH_MS),
        2 => back(1_000, 1),
        3 => back(3, MINUTE_MS),
        1 => back(30, HOUR_MS),
        2 => back(3, DAY_MS),
        1 => back(2, MONTH_MS),
        1 => Just(ClockStep::Forward(FAR_MS)),
        1 => Just(ClockStep::Back(FAR_MS)),
    ]
}

/// Generates starts of histories: noon, midnight, the beginning of unix time, or hours in which calendars are strange.
pub(super) fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => Just(MIDNIGHT_MS + DAY_MS / 2),
        2 => Just(MIDNIGHT_MS - 1),
        2 => Just(MIDNIGHT_MS),
        1 => Just(0),
        4 => select(STRANGE_HOURS),
    ]
}

pub(super) const MINUTE_MS: u64 = 60_000;
const QUARTER_MS: u64 = 15 * MINUTE_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
pub(super) const DAY_MS: u64 = 24 * HOUR_MS;
const MONTH_MS: u64 = 31 * DAY_MS;
/// The beginning of some day in October 2025.
pub(super) const MIDNIGHT_MS: u64 = 20_370 * DAY_MS;
/// Some 27 years: hundreds of such jumps still keep to 2^53.
const FAR_MS: u64 = 10_000 * DAY_MS;
/// Each is next to the end of a day of one of [`ZONES`](super::random::ZONES).
const STRANGE_HOURS: &[u64] = &[
    // 2025-03-29T22:59:00Z, before a day of 23 hours in Berlin.
    1_743_289_140_000,
    // 2025-10-25T21:59:00Z, before a day of 25 hours there.
    1_761_429_540_000,
    // 2011-12-30T09:59:00Z, before Apia goes without a day.
    1_325_239_140_000,
    // 2006-10-29T02:29:00Z: St John's has the last hour of the day once more, from a minute after midnight on.
    1_162_088_940_000,
    // 2018-11-04T02:59:00Z, before a day without a midnight in São Paulo.
    1_541_300_340_000,
    // 2024-02-28T23:59:00Z, before a leap day.
    1_709_164_740_000,
    // 2025-12-31T22:59:00Z, before the end of a year in Berlin.
    1_767_221_940_000,
    // 2024-12-29T23:59:00Z, before a week that ends in the next year.
    1_735_516_740_000,
];
