//! Entry points for the fuzz targets and for property tests: bytes from anywhere, read as if a provider had sent them.

use serde::de::IgnoredAny;

use super::api::Api;
use super::part::{Divide, MAX_PART_BYTES, Part, Parts};
use super::reader::AnswerReader;
use super::reported::Reported;
use super::sse::Events;
use super::values::Values;

/// Reads an answer in pieces: as server-sent events, as JSON values, and as an answer of each API. Its parts and its
/// tokens must not depend on the pieces.
///
/// The input is the number of lengths, then each length in a byte, then the answer. The pieces have these lengths in
/// turn.
///
/// Returns whether the bytes make sense, and must not panic.
#[must_use]
pub fn answer(bytes: &[u8]) -> bool {
    let (count, rest) = bytes.split_first().unwrap_or((&0, bytes));
    let (lengths, answer) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let mut made_sense = false;
    for parts in [events, values] {
        for max_bytes in [64, MAX_PART_BYTES] {
            let whole = parts(max_bytes, &[answer]);
            assert_eq!(parts(max_bytes, &pieces(answer, lengths)), whole);
            made_sense |= whole.iter().any(|(_, json)| is_object(json));
        }
    }
    for api in Api::ALL {
        assert_eq!(read(api, &pieces(answer, lengths)), read(api, &[answer]), "{api}");
    }
    made_sense
}

/// The kind of a part, and its bytes.
pub type Seen = (&'static str, Vec<u8>);

/// Reads pieces as server-sent events of at most this many bytes each.
#[must_use]
pub fn events(max_bytes: usize, pieces: &[&[u8]]) -> Vec<Seen> {
    parts::<Events>(max_bytes, pieces)
}

/// Reads pieces as JSON values of at most this many bytes each.
#[must_use]
pub fn values(max_bytes: usize, pieces: &[&[u8]]) -> Vec<Seen> {
    parts::<Values>(max_bytes, pieces)
}

fn parts<D: Divide>(max_bytes: usize, pieces: &[&[u8]]) -> Vec<Seen> {
    let (mut parts, mut seen) = (Parts::<D>::bounded(max_bytes), Vec::new());
    for piece in pieces {
        parts.push(piece, |part| see(part, max_bytes, &mut seen));
        assert!(parts.capacity() <= max_bytes);
    }
    parts.end(|part| see(part, max_bytes, &mut seen));
    seen
}

/// Reads an answer of this API. Returns the reported figures, and the tokens that were counted.
fn read(api: Api, pieces: &[&[u8]]) -> (Reported, u64) {
    let mut reader = AnswerReader::new(api);
    let counted: u64 = pieces.iter().map(|piece| reader.read(piece)).sum();
    let counted = counted + reader.finish();
    (reader.reported(), counted)
}

fn see(part: Part<'_>, max_bytes: usize, seen: &mut Vec<Seen>) {
    let (kind, bytes) = match part {
        Part::Whole(bytes) => ("whole", bytes),
        Part::Cut(bytes) => ("cut", bytes),
        Part::TooLarge => ("too large", &b""[..]),
    };
    assert!(bytes.len() <= max_bytes);
    seen.push((kind, bytes.to_vec()));
}

/// Cuts an answer into pieces of these lengths in turn. It is one piece if all lengths are zero.
fn pieces<'a>(answer: &'a [u8], lengths: &[u8]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), answer);
    for length in lengths.iter().filter(|length| **length > 0).cycle() {
        let Some(piece) = rest.split_off(..usize::from(*length)) else { break };
        pieces.push(piece);
    }
    pieces.push(rest);
    pieces
}

fn is_object(json: &[u8]) -> bool {
    json.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(json).is_ok()
}

#[cfg(test)]
pub(super) use self::tests::{assert_parts, cut, too_large, uncopied, whole};

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    pub(in super::super) fn whole<T: AsRef<[u8]> + ?Sized>(text: &T) -> Seen {
        ("whole", text.as_ref().to_vec())
    }

    pub(in super::super) fn cut<T: AsRef<[u8]> + ?Sized>(text: &T) -> Seen {
        ("cut", text.as_ref().to_vec())
    }

    pub(in super::super) const fn too_large() -> Seen {
        ("too large", Vec::new())
    }

    /// Reads this text as one piece, in pieces of each length, and in two pieces cut at each byte.
    pub(in super::super) fn assert_parts(
        parts: fn(usize, &[&[u8]]) -> Vec<Seen>,
        max_bytes: usize,
        text: &[u8],
        expected: &[Seen],
    ) {
        let shown = text.escape_ascii();
        for length in 1..=text.len().max(1) {
            let pieces: Vec<_> = text.chunks(length).collect();
            assert_eq!(parts(max_bytes, &pieces), expected, "{shown} in pieces of {length}");
        }
        for cut in 0..=text.len() {
            let pieces = [&text[..cut], &[], &text[cut..]];
            assert_eq!(parts(max_bytes, &pieces), expected, "{shown} cut at {cut}");
        }
    }

    /// Returns the number of parts of this text, each of which must be handed over without a copy.
    pub(in super::super) fn uncopied(parts: &mut Parts<impl Divide>, text: &[u8]) -> usize {
        let mut handed_over = 0;
        parts.push(text, |part| {
            let Part::Whole(bytes) = part else { panic!("{part:?}") };
            assert!(text.as_ptr_range().contains(&bytes.as_ptr()), "{}", text.escape_ascii());
            handed_over += 1;
        });
        handed_over
    }

    #[test]
    fn the_seeds_of_the_fuzz_target_make_sense() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/answer");
        let mut seen = 0;
        for seed in fs::read_dir(seeds).unwrap() {
            let path = seed.unwrap().path();
            assert!(answer(&fs::read(&path).unwrap()), "{}", path.display());
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn the_pieces_of_an_answer_are_the_answer() {
        for lengths in [&[][..], &[0], &[3], &[1, 0, 2], &[200]] {
            assert_eq!(pieces(b"0123456789", lengths).concat(), b"0123456789");
        }
        assert_eq!(pieces(b"01234", &[1, 2]), [&b"0"[..], b"12", b"3", b"4"]);
    }
}
