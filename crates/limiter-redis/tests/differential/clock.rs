//! How the clock of a history moves.

use limiter_core::Timestamp;

use crate::random::Random;

/// One movement, relative to what the clock shows, so that a history still makes sense when a round before it is taken
/// out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Stand,
    /// By some milliseconds, or back.
    By(i64),
    /// To the end of the minute, give or take a millisecond.
    MinuteEnd(i64),
    DayEnd(i64),
    /// To an instant.
    To(i64),
}

impl Step {
    pub(crate) fn from(self, now: Timestamp) -> Timestamp {
        let now = now.unix_ms();
        let end = |length: i64, offset: i64| now - now.rem_euclid(length) + length + offset;
        Timestamp::from_unix_ms(match self {
            Self::Stand => now,
            Self::By(ms) => now.saturating_add(ms),
            Self::MinuteEnd(offset) => end(MINUTE_MS, offset),
            Self::DayEnd(offset) => end(DAY_MS, offset),
            Self::To(unix_ms) => unix_ms,
        })
    }

    /// Most stay within the minute.
    pub(crate) fn random(random: &mut Random) -> Self {
        let some = |random: &mut Random, most| random.between(1, most).cast_signed();
        match random.below(100) {
            0..=49 => Self::Stand,
            50..=59 => Self::By(some(random, 1_000)),
            60..=65 => Self::MinuteEnd(some(random, 3) - 2),
            66..=69 => Self::DayEnd(some(random, 3) - 2),
            70..=75 => Self::By(some(random, 3) * MINUTE_MS),
            76..=79 => Self::By(some(random, 3) * DAY_MS),
            80..=83 => Self::By(-some(random, 1_000)),
            84..=88 => Self::By(-some(random, 4) * MINUTE_MS),
            89..=92 => Self::By(-some(random, 4) * DAY_MS),
            93..=94 => Self::By(FAR_MS),
            95..=96 => Self::By(-FAR_MS),
            97 => Self::By(some(random, FAR_MS.unsigned_abs()) - FAR_MS / 2),
            98 => Self::To(MIDNIGHT_MS + some(random, 5 * MINUTE_MS.unsigned_abs())),
            _ => Self::To(edge(random)),
        }
    }
}

/// When a history begins.
pub(crate) fn start(random: &mut Random) -> Timestamp {
    Timestamp::from_unix_ms(match random.below(20) {
        0..=9 => MIDNIGHT_MS + DAY_MS / 2,
        10..=12 => MIDNIGHT_MS - 1,
        13..=15 => MIDNIGHT_MS,
        _ => edge(random),
    })
}

/// The first and the last instants, and those around the beginning of unix time.
fn edge(random: &mut Random) -> i64 {
    let (first, last) = (Timestamp::MIN.unix_ms(), Timestamp::MAX.unix_ms());
    let near = random.below(3 * DAY_MS.unsigned_abs()).cast_signed();
    random.one_of(&[
        first,
        first + 1,
        first + near,
        0,
        -1,
        near,
        -near,
        last,
        last - 1,
        last - near,
    ])
}

pub(crate) const MINUTE_MS: i64 = 60_000;
pub(crate) const DAY_MS: i64 = 86_400_000;
/// The beginning of some day in October 2025.
const MIDNIGHT_MS: i64 = 20_370 * DAY_MS;
/// Some 27 years, as a broken clock jumps.
const FAR_MS: i64 = 10_000 * DAY_MS;
