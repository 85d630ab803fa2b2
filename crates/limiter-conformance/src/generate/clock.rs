//! Steps of the clock between two operations.

use proptest::prelude::*;

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
        30 => Just(ClockStep::Forward(0)),
        4 => forward(1_000, 1),
        4 => end_of(MINUTE_MS),
        3 => end_of(DAY_MS),
        3 => forward(3, MINUTE_MS),
        2 => forward(4, DAY_MS),
        2 => back(1_000, 1),
        3 => back(3, MINUTE_MS),
        2 => back(3, DAY_MS),
        1 => Just(ClockStep::Forward(FAR_MS)),
        1 => Just(ClockStep::Back(FAR_MS)),
    ]
}

/// Generates starts of histories: noon, a millisecond before midnight, midnight, or the beginning of unix time.
pub(super) fn starts() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => Just(MIDNIGHT_MS + DAY_MS / 2),
        2 => Just(MIDNIGHT_MS - 1),
        2 => Just(MIDNIGHT_MS),
        1 => Just(0),
    ]
}

pub(super) const MINUTE_MS: u64 = 60_000;
pub(super) const DAY_MS: u64 = 86_400_000;
/// The beginning of some day in October 2025.
pub(super) const MIDNIGHT_MS: u64 = 20_370 * DAY_MS;
/// Some 27 years: hundreds of such jumps still keep to 2^53.
const FAR_MS: u64 = 10_000 * DAY_MS;
