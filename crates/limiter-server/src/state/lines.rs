//! The format of a state file: lines of JSON, each with a checksum over the file up to there.
//!
//! A changed, lost, moved or repeated line is always detected. Only the last line may be incomplete, after a crash.

use std::io::{self, Write};

use crc::{CRC_64_XZ, Crc, Digest};

/// The checksum of a file up to some position.
#[derive(Clone)]
pub(super) struct Sum(Digest<'static, u64>);

/// A writer of lines.
pub(super) struct Writer<W> {
    out: W,
    sum: Sum,
}

/// A reader of lines.
pub(super) struct Lines<'a> {
    rest: &'a [u8],
    sum: Sum,
}

/// The next item in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// The JSON of a line whose checksum is right.
    Line(&'a [u8]),
    /// An unfinished last line, with its length in bytes.
    Torn(usize),
    /// Content that no server wrote in this form.
    Damage,
    /// The end of the file.
    End,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self::go_on(out, Sum::default())
    }

    /// Continues a file whose content so far has this checksum.
    pub(super) fn go_on(out: W, sum: Sum) -> Self {
        Self { out, sum }
    }

    /// Ends the line with its checksum.
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        let end = self.sum.line_end();
        self.write_all(&end)
    }

    /// Flushes, and returns the checksum of everything written.
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

    /// Returns the next line. After any other item, only [`Found::End`] follows.
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

/// Returns whether a crash can leave such an end of a file: a line that was not finished.
fn is_torn(sum: &Sum, line: &[u8], after: &[u8]) -> bool {
    // Blocks not yet written are zeros, which JSON never contains.
    let has_zeros = line.windows(2).any(|bytes| *bytes == [0, 0]);
    match line.split_last() {
        Some((b'\n', _)) => has_zeros && after.is_empty(),
        // A finished line with a damaged newline is not torn: its change was acknowledged.
        Some((_, before)) => sum.json_of(&[before, b"\n"].concat()).is_none(),
        None => false,
    }
}

impl Sum {
    /// Returns the end of the line whose JSON this checksum already includes.
    fn line_end(&self) -> Vec<u8> {
        format!("\t{:016x}\n", self.0.clone().finalize()).into_bytes()
    }

    /// Returns the JSON of a line that follows this checksum, if its own checksum is right.
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

/// Detects every error burst of up to 64 bits, such as a flipped bit.
static CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// Bytes of a line in addition to its JSON: a tab, 16 digits, a newline.
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

    /// Reads the lines up to the first other item, and returns that item too.
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
        let (whole, two) = (file(&LINES), file(&LINES[..2]).len());
        let kept = LINES[..2].iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        for length in two + 1..whole.len() {
            assert_eq!(read(&whole[..length]), (kept.clone(), Found::Torn(length - two)));
            let mut with_hole = whole.clone();
            with_hole[two..length].fill(0);
            let is_torn = length >= two + 2;
            let end = if is_torn { Found::Torn(whole.len() - two) } else { Found::Damage };
            assert_eq!(read(&with_hole), (kept.clone(), end));
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
