//! Thresholds: the shares of a limit or a budget that fire an event.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;

/// The shares of a limit or of a budget, in percent, that fire an event. Each fires once when a charge reaches it: once
/// in a window, and once for a budget as it stands.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::Thresholds;
///
/// assert_eq!(Thresholds::default(), Thresholds::new([80, 100])?);
/// assert_eq!("50, 90".parse::<Thresholds>()?.to_string(), "50,90");
/// assert!(Thresholds::new([101]).is_err());
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
///
/// A share that is no whole number of units is reached with the unit that passes it. A limit of 0 has no shares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Thresholds {
    /// Rising; unused places are 0 and come last.
    percents: [u8; Self::MOST],
}

impl Thresholds {
    /// The most thresholds that a key has.
    pub const MOST: usize = 4;

    /// No thresholds.
    pub const NONE: Self = Self { percents: [0; Self::MOST] };

    /// Creates thresholds of these shares, in percent, in any order.
    ///
    /// # Errors
    /// [`InvalidValue::Threshold`] for 0 and above 100; [`InvalidValue::TooManyThresholds`] above [`Self::MOST`]
    /// different ones.
    pub fn new(percents: impl IntoIterator<Item = u8>) -> Result<Self, InvalidValue> {
        let mut given: Vec<u8> = percents.into_iter().take(MOST_GIVEN).collect();
        given.sort_unstable();
        given.dedup();
        if let Some(percent) = given.iter().copied().find(|percent| !(1..=100).contains(percent)) {
            return Err(InvalidValue::Threshold { percent });
        }
        if given.len() > Self::MOST {
            return Err(InvalidValue::TooManyThresholds { count: given.len(), max: Self::MOST });
        }
        let mut thresholds = Self::NONE;
        for (place, percent) in thresholds.percents.iter_mut().zip(given) {
            *place = percent;
        }
        Ok(thresholds)
    }

    /// 80 % and 100 %.
    pub const DEFAULT: Self = Self { percents: [80, 100, 0, 0] };

    /// Returns the shares in percent, rising.
    pub fn percents(&self) -> impl Iterator<Item = u8> + use<> {
        self.percents.into_iter().take_while(|percent| *percent > 0)
    }

    /// Returns whether there is no threshold.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.percents[0] == 0
    }

    /// Returns the next threshold after this many have fired.
    pub(crate) const fn after(&self, fired: u8) -> Option<u8> {
        let [a, b, c, d] = self.percents;
        let percent = match fired {
            0 => a,
            1 => b,
            2 => c,
            3 => d,
            _ => 0,
        };
        if percent == 0 { None } else { Some(percent) }
    }

    /// Returns the thresholds after the first `before`, up to `after` of them.
    pub(crate) fn between(self, before: u8, after: u8) -> impl Iterator<Item = u8> + use<> {
        (before..after).filter_map(move |fired| self.after(fired))
    }

    /// Returns the amount that must be left of a limit so that no further threshold fires after these; 0 if there is
    /// none.
    pub(crate) const fn floor(&self, limit: Option<u64>, fired: u8) -> i64 {
        match (limit, self.after(fired)) {
            (None | Some(0), _) | (_, None) => 0,
            (Some(limit), Some(percent)) => {
                let rest = 100_u64.saturating_sub(percent as u64);
                let (hundreds, odd) = (limit / 100, limit % 100);
                let share =
                    hundreds.saturating_mul(rest).saturating_add(odd.saturating_mul(rest) / 100);
                share.saturating_add(1).cast_signed()
            }
        }
    }
}

impl Default for Thresholds {
    /// Returns 80 % and 100 %.
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<Vec<u8>> for Thresholds {
    type Error = InvalidValue;

    fn try_from(percents: Vec<u8>) -> Result<Self, InvalidValue> {
        Self::new(percents)
    }
}

impl From<Thresholds> for Vec<u8> {
    fn from(thresholds: Thresholds) -> Self {
        thresholds.percents().collect()
    }
}

/// Formats the percents with commas between; empty for none.
impl fmt::Display for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, percent) in self.percents().enumerate() {
            write!(f, "{}{percent}", if number > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.percents()).finish()
    }
}

impl FromStr for Thresholds {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let percents: Option<Vec<u8>> = parts.map(|part| part.parse().ok()).collect();
        Self::new(percents.ok_or_else(|| {
            let expected = "whole percents from 1 to 100 with commas between, such as 80,100";
            InvalidValue::unknown_word("list of thresholds", text, expected)
        })?)
    }
}

/// A bound on the input: only 100 percents are valid.
const MOST_GIVEN: usize = 101;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_COUNT;

    #[test]
    fn a_share_is_reached_with_the_unit_that_passes_it() {
        let thresholds = Thresholds::default();
        // (limit, used when 80 % are reached)
        for (limit, reached) in [(1, 1), (2, 2), (4, 4), (5, 4), (10, 8), (11, 9), (100, 80)] {
            let left = |used: i64| limit - used;
            let floor = thresholds.floor(Some(limit.cast_unsigned()), 0);
            assert!(left(reached) < floor && left(reached - 1) >= floor, "{limit}: {floor}");
            assert_eq!(thresholds.floor(Some(limit.cast_unsigned()), 1), 1);
        }
    }

    #[test]
    fn what_cannot_be_reached_reserves_nothing() {
        let thresholds = Thresholds::default();
        for (limit, fired) in [(None, 0), (Some(0), 0), (Some(10), 2), (Some(10), u8::MAX)] {
            assert_eq!(thresholds.floor(limit, fired), 0);
        }
        assert_eq!(Thresholds::NONE.floor(Some(10), 0), 0);
        let largest = Thresholds::new([1]).unwrap().floor(Some(MAX_COUNT), 0);
        assert!(largest <= MAX_COUNT.cast_signed());
    }

    #[test]
    fn they_are_sorted_and_each_is_there_once() {
        let thresholds = Thresholds::new([100, 50, 100, 90]).unwrap();
        assert_eq!(thresholds.percents().collect::<Vec<_>>(), [50, 90, 100]);
        let json = serde_json::to_string(&thresholds).unwrap();
        assert_eq!(json, "[50,90,100]");
        assert_eq!(serde_json::from_str::<Thresholds>(&json).unwrap(), thresholds);
    }

    #[test]
    fn what_is_no_share_is_refused() {
        assert!(Thresholds::new([0]).is_err());
        assert!(Thresholds::new([101]).is_err());
        assert!(Thresholds::new([1, 2, 3, 4, 5]).is_err());
        assert!("eighty".parse::<Thresholds>().is_err());
        assert_eq!("".parse::<Thresholds>().unwrap(), Thresholds::NONE);
    }
}
