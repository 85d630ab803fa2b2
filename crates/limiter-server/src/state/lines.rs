//! The form of a state file: lines of JSON. Each ends with a checksum over the file up to there.
//!
//! So a line cannot be changed, lost, moved or repeated without notice, other than the last one, which a crash may cut off.

use std::io::{self, Write};

use crc::{CRC_64_XZ, Crc, Digest};

/// The checksum of a file up to somewhere.
#[derive(Clone)]
pub(super) struct Sum(Digest<'static, u64>);

/// Writes lines.
pub(super) struct Writer<W> {
    out: W,
    sum: Sum,
}

/// Reads lines.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    sum: Sum,
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A line without its checksum, which is right.
    Line(&'a [u8]),
    /// The first bytes of a last line that was never finished: how many.
    Torn(usize),
    /// Something that was never written like this.
    Damage,
    /// Nothing.
    End,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self::go_on(out, Sum::default())
    }

    /// Writes behind what has this checksum.
    pub(super) fn go_on(out: W, sum: Sum) -> Self {
        Self { out, sum }
    }

    /// Writes the checksum of the line.
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        let end = self.sum.line_end();
        self.write_all(&end)
    }

    /// The checksum of all that was written.
    pub(super) fn finish(mut self) -> io::Result<Sum> {
        self.out.flush()?;
        Ok(self.sum)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.0.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<'a> Lines<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, sum: Sum::default() }
    }

    /// The next line. After anything else than a line, nothing more comes.
    pub(super) fn next(&mut self) -> Found<'a> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return Found::End;
        }
        let length = rest.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
        let (line, after) = rest.split_at(length.unwrap_or(rest.len()));
        if let Some(json) = self.sum.json_of(line) {
            self.sum.0.update(line);
            self.rest = after;
            return Found::Line(json);
        }
        if is_torn(&self.sum, line, after) { Found::Torn(rest.len()) } else { Found::Damage }
    }
}

/// Whether a crash can have left the end of a file like this, from a line that was not finished.
fn is_torn(sum: &Sum, line: &[u8], after: &[u8]) -> bool {
    // Blocks that were not written yet are zeros. JSON has none.
    let has_zeros = line.windows(2).any(|bytes| *bytes == [0, 0]);
    match line.split_last() {
        Some((b'\n', _)) => has_zeros && after.is_empty(),
        // A finished line whose newline was damaged is not torn: its change was acknowledged.
        Some((_, before)) => sum.json_of(&[before, b"\n"].concat()).is_none(),
        None => false,
    }
}

impl Sum {
    /// What ends a line, behind what has this checksum.
    fn line_end(&self) -> Vec<u8> {
        format!("\t{:016x}\n", self.0.clone().finalize()).into_bytes()
    }

    /// The JSON of a line behind what has this checksum, if it is as it was written.
    fn json_of<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (json, end) = line.split_at_checked(line.len().checked_sub(EXTRA)?)?;
        let mut sum = self.clone();
        sum.0.update(json);
        (end == sum.line_end()).then_some(json)
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self(CRC.digest())
    }
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0.clone().finalize())
    }
}

/// It notices every change of up to 64 bits in a row, such as a flipped bit.
static CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// Bytes of a line beside its JSON: a tab, 16 digits, a newline.
pub(super) const EXTRA: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        for line in lines {
            writer.write_all(line.as_bytes()).unwrap();
            writer.end_line().unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    /// The lines up to the first thing that is none, and that thing.
    fn read(bytes: &[u8]) -> (Vec<String>, Found<'_>) {
        let (mut lines, mut read) = (Lines::new(bytes), Vec::new());
        loop {
            match lines.next() {
                Found::Line(json) => read.push(String::from_utf8(json.to_vec()).unwrap()),
                other => return (read, other),
            }
        }
    }

    const LINES: [&str; 3] = ["{\"a\":1}", "{}", "{\"b\":\"J J\"}"];

    #[test]
    fn lines_are_read_as_they_were_written() {
        assert_eq!(read(&file(&LINES)), (LINES.map(str::to_owned).to_vec(), Found::End));
        assert_eq!(read(b""), (vec![], Found::End));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = file(&LINES);
        for (position, bit) in (0..whole.len()).flat_map(|byte| (0..8).map(move |bit| (byte, bit)))
        {
            let mut damaged = whole.clone();
            damaged[position] ^= 1 << bit;
            assert_eq!(read(&damaged).1, Found::Damage, "bit {bit} of byte {position}");
        }
    }

    #[test]
    fn a_last_line_that_was_cut_off_is_torn_and_the_others_stand() {
        let (whole, two) = (file(&LINES), file(&LINES[..2]));
        for length in two.len() + 1..whole.len() {
            let (lines, end) = read(&whole[..length]);
            assert_eq!((lines.len(), end), (2, Found::Torn(length - two.len())));
            let mut with_hole = whole.clone();
            with_hole[two.len()..length].fill(0);
            let expected = if length < two.len() + 2 {
                Found::Damage
            } else {
                Found::Torn(whole.len() - two.len())
            };
            assert_eq!(
                read(&with_hole),
                (LINES[..2].iter().map(|line| (*line).to_owned()).collect(), expected)
            );
        }
    }

    #[test]
    fn a_line_that_is_missing_moved_or_repeated_is_noticed() {
        let lines: Vec<Vec<u8>> =
            file(&LINES).split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        for order in [vec![1, 2], vec![0, 2], vec![1, 0, 2], vec![0, 1, 1, 2], vec![0, 2, 1]] {
            let bytes: Vec<u8> = order.iter().flat_map(|line| lines[*line].clone()).collect();
            assert_eq!(read(&bytes).1, Found::Damage, "{order:?}");
        }
    }
}
