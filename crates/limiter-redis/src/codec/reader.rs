//! Reads numbers from bytes, without trusting them.

use super::{FORMAT, Misread, NO_LIMIT, OUT_OF_BOUNDS};

/// What is left to read.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads a record that begins with its format.
    pub(super) fn of(bytes: &'a [u8]) -> Result<Self, Misread> {
        let mut reader = Self::new(bytes);
        match reader.byte()? {
            FORMAT => Ok(reader),
            0 => Err(Misread::Corrupt("a record of no format")),
            _ => Err(Misread::Newer),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Misread> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Misread> {
        let (array, rest) =
            self.0.split_first_chunk().ok_or(Misread::Corrupt("a record is too short"))?;
        self.0 = rest;
        Ok(*array)
    }

    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), Misread> {
        self.0 = self.0.get(bytes..).ok_or(Misread::Corrupt("a record is too short"))?;
        Ok(())
    }

    /// A signed number of up to eight bytes.
    pub(super) fn int<const N: usize>(&mut self) -> Result<i64, Misread> {
        let bytes: [u8; N] = self.array()?;
        let sign = if bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        for (wide, byte) in wide.iter_mut().zip(bytes) {
            *wide = byte;
        }
        Ok(i64::from_le_bytes(wide))
    }

    /// What is left in the four windows of a scope.
    pub(super) fn ints(&mut self) -> Result<[i64; 4], Misread> {
        Ok([self.int::<7>()?, self.int::<7>()?, self.int::<7>()?, self.int::<7>()?])
    }

    /// A whole number kept as a floating-point one.
    pub(super) fn float(&mut self) -> Result<i64, Misread> {
        let float = f64::from_le_bytes(self.array()?);
        // Exact for every count; what is no such number does not survive the way back.
        let int = float as i64;
        if int as f64 == float && int.unsigned_abs() <= 1 << 53 {
            Ok(int)
        } else {
            Err(OUT_OF_BOUNDS)
        }
    }

    pub(super) fn limit(&mut self) -> Result<Option<u64>, Misread> {
        match self.int::<7>()? {
            NO_LIMIT => Ok(None),
            limit => u64::try_from(limit).map(Some).map_err(|_| OUT_OF_BOUNDS),
        }
    }

    /// A count that is never negative.
    pub(super) fn count(&mut self) -> Result<u64, Misread> {
        u64::try_from(self.int::<7>()?).map_err(|_| OUT_OF_BOUNDS)
    }

    /// All that is left.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<(), Misread> {
        if self.0.is_empty() { Ok(()) } else { Err(Misread::Corrupt("a record is too long")) }
    }
}
