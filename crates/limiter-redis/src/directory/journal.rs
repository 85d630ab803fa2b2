//! The journal of a change: which keys it changes, for the client that may have to finish it.

use std::fmt::Write;

use limiter_core::{KeyDigest, KeyId};

use super::chance::Token;
use super::pointer::Pointer;

/// A key that is being changed. One that may lose several pointers is noted with each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub(super) id: KeyId,
    /// The pointer to remove if it turns out that the key does not exist, or does not answer to it.
    pub(super) pointer: Option<Pointer>,
}

/// The text that the index keeps: for each key its digest and its claim, or a dash for each, the length of its id in
/// bytes, and the id, which may have spaces.
pub(super) fn written(journal: &[Noted]) -> String {
    let mut text = String::with_capacity(journal.len() * TYPICAL_BYTES);
    for Noted { id, pointer } in journal {
        match pointer {
            Some(Pointer { digest, claim }) => {
                let _ = write!(text, "{} {claim} ", String::from(*digest));
            }
            None => text.push_str("- - "),
        }
        let _ = write!(text, "{} {id}", id.as_str().len());
    }
    text
}

/// Reads such a text.
pub(super) fn read(mut text: &str) -> Option<Vec<Noted>> {
    let mut journal = Vec::new();
    while !text.is_empty() {
        let mut words = text.splitn(4, ' ');
        let (digest, claim) = (words.next()?, words.next()?);
        let (length, rest) = (words.next()?.parse().ok()?, words.next()?);
        let pointer = match digest {
            "-" => None,
            digest => Some(Pointer {
                digest: KeyDigest::try_from(digest.to_owned()).ok()?,
                claim: Token(claim.to_owned()),
            }),
        };
        journal.push(Noted { id: rest.get(..length)?.parse().ok()?, pointer });
        text = rest.get(length..)?;
    }
    Some(journal)
}

/// A digest, a claim and a generated id.
const TYPICAL_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use limiter_core::AccessKey;

    use super::*;

    #[test]
    fn a_journal_is_read_as_it_was_written() {
        let digest = AccessKey::new("a-secret-of-somebody").unwrap().digest();
        let pointer = Pointer { digest, claim: Token::default() };
        let longest = [(); KeyId::MAX_SEGMENTS].map(|()| "x".repeat(64)).join("/");
        let ids = ["ci", "- - 1 x", "- - 2 x1 a", " ", "ö/2", &longest];
        let journal: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(number, id)| Noted {
                id: id.parse().unwrap(),
                pointer: (number % 2 == 0).then(|| pointer.clone()),
            })
            .collect();
        for length in 0..=journal.len() {
            let written = written(&journal[..length]);
            assert_eq!(read(&written).as_deref(), Some(&journal[..length]));
            for end in (1..written.len()).filter(|end| written.is_char_boundary(*end)) {
                let cut = read(&written[..end]);
                assert!(cut.is_none_or(|cut| cut.len() < length), "cut at {end}");
            }
        }
    }
}
