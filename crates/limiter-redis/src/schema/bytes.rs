//! Numbers as bytes: little-endian, signed unless they count, read without trust.

use limiter_core::Timestamp;

use super::Misread;

/// Bytes that are left to read.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Misread> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Misread> {
        let (array, rest) = self.0.split_first_chunk().ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(*array)
    }

    /// Reads a signed number of at most eight bytes.
    pub(crate) fn int<const N: usize>(&mut self) -> Result<i64, Misread> {
        let bytes: [u8; N] = self.array()?;
        let sign = if bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..N].copy_from_slice(&bytes);
        Ok(i64::from_le_bytes(wide))
    }

    pub(crate) fn slice(&mut self, length: usize) -> Result<&'a [u8], Misread> {
        let (slice, rest) = self.0.split_at_checked(length).ok_or(TOO_SHORT)?;
        self.0 = rest;
        Ok(slice)
    }

    /// Reads a count, which is never negative.
    pub(crate) fn count(&mut self) -> Result<u64, Misread> {
        u64::try_from(self.int::<7>()?).map_err(|_| OUT_OF_BOUNDS)
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<(), Misread> {
        if self.0.is_empty() { Ok(()) } else { Err(Misread::Corrupt("a record is too long")) }
    }
}

/// Appends the lowest bytes of a number.
pub(crate) fn push_int<const N: usize>(bytes: &mut Vec<u8>, number: i64) {
    bytes.extend_from_slice(&number.to_le_bytes()[..N]);
}

pub(super) fn timestamp(unix_ms: i64) -> Result<Timestamp, Misread> {
    let at = Timestamp::from_unix_ms(unix_ms);
    if at.unix_ms() == unix_ms { Ok(at) } else { Err(OUT_OF_BOUNDS) }
}

/// The end of a window, which may lie just after the last instant.
pub(super) fn window_end(unix_ms: i64) -> Result<Timestamp, Misread> {
    Timestamp::from_stored_end(unix_ms).ok_or(OUT_OF_BOUNDS)
}

pub(crate) const OUT_OF_BOUNDS: Misread = Misread::Corrupt("a number out of bounds");
const TOO_SHORT: Misread = Misread::Corrupt("a record is too short");
