//! The secret of a key: made of random bytes, shown once, kept as a digest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{BoxError, InvalidValue};
use crate::names::KeyId;

/// The secret that a key is called with: 16 to 256 visible ASCII characters.
///
/// It is wiped from memory when dropped, prints masked, and is not serialized; [`expose`](Self::expose) shows it. A
/// caller that brings its own must make it hard to guess, which is not checked here: at least 128 bits of randomness,
/// as 22 random letters and digits have.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::AccessKey;
///
/// let key: AccessKey = "jte9JHAFxw25KvoYP5rb9i".parse()?;
/// assert_eq!(format!("{key} {key:?}"), "jte9****rb9i AccessKey(jte9****rb9i)");
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone)]
pub struct AccessKey {
    secret: Zeroizing<String>,
    prefix: Option<KeyPrefix>,
}

impl AccessKey {
    /// The fewest characters, 16 bytes: shorter ones cannot hold 128 bits, whatever they are made of.
    pub const MIN_LENGTH: usize = 16;
    /// The most characters: HTTP servers accept longer headers, but none needs a longer key.
    pub const MAX_LENGTH: usize = 256;

    /// Creates an access key from text that the caller brings or received with a request.
    ///
    /// # Errors
    /// [`InvalidValue::AccessKey`] if it is too short, too long or not visible ASCII.
    pub fn new(secret: impl Into<String>) -> Result<Self, InvalidValue> {
        let secret = Zeroizing::new(secret.into());
        let bounds = Self::MIN_LENGTH..=Self::MAX_LENGTH;
        if bounds.contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self { secret, prefix: None })
        } else {
            Err(InvalidValue::AccessKey { min: Self::MIN_LENGTH, max: Self::MAX_LENGTH })
        }
    }

    /// Names the visible prefix that the key starts with, which its masked form then shows whole.
    ///
    /// # Errors
    /// [`InvalidValue::AccessKeyPrefix`] if it starts otherwise, or has fewer than [`Self::MIN_LENGTH`] characters after it.
    pub fn with_prefix(self, prefix: KeyPrefix) -> Result<Self, InvalidValue> {
        let secret_part = self.secret.strip_prefix(prefix.as_str());
        match secret_part.map(str::len) {
            Some(Self::MIN_LENGTH..) => Ok(Self { prefix: Some(prefix), ..self }),
            _ => Err(InvalidValue::AccessKeyPrefix { prefix, min: Self::MIN_LENGTH }),
        }
    }

    /// Makes an access key of 36 letters and digits, 214 bits of the given source, after the prefix.
    pub(crate) fn generate(entropy: &Entropy, prefix: Option<KeyPrefix>) -> Result<Self, BoxError> {
        let start = prefix.as_ref().map_or("", KeyPrefix::as_str);
        let random = random_text(entropy, GENERATED_LENGTH)?;
        // As long as it gets: a text that grows would leave a copy behind.
        let mut secret =
            Zeroizing::new(String::with_capacity(start.len().saturating_add(random.len())));
        secret.push_str(start);
        secret.push_str(&random);
        Ok(Self { secret, prefix })
    }

    /// Returns the secret itself. The caller must keep it from leaking.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.secret
    }

    /// Returns the digest, which stores keep instead of the secret.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        KeyDigest(Sha256::digest(self.secret.as_bytes()).into())
    }

    /// Returns the prefix, if it was named, and the first and last four of the other characters.
    #[must_use]
    pub fn masked(&self) -> MaskedKey {
        let prefix = self.prefix;
        let start = prefix.as_ref().map_or(0, |prefix| prefix.as_str().len());
        let rest = self.secret.as_bytes().get(start..).unwrap_or_default();
        // There are at least 16 bytes, so that both ends exist.
        let [first, last] =
            [rest.first_chunk(), rest.last_chunk()].map(|end| end.copied().unwrap_or(*b"****"));
        MaskedKey { prefix, first, last }
    }
}

impl FromStr for AccessKey {
    type Err = InvalidValue;

    fn from_str(secret: &str) -> Result<Self, InvalidValue> {
        Self::new(secret)
    }
}

impl fmt::Display for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.masked().fmt(f)
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKey({self})")
    }
}

/// The SHA-256 digest of an access key. Stores keep it instead of the secret, and look keys up by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares in constant time, so that timing does not reveal how many bytes are equal.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        digest.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = InvalidValue;

    fn try_from(hex: String) -> Result<Self, InvalidValue> {
        let malformed =
            || InvalidValue::Inconsistent { what: "a digest is not 64 hexadecimal digits" };
        let nibble =
            |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(nibble(high)?.wrapping_shl(4) | nibble(low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(byte).collect();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(malformed)
    }
}

/// The visible start of access keys, by which people and secret scanners recognise them: 1 to 16 ASCII letters, digits, `-`
/// and `_`.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::{KeyConfig, KeyPrefix, NewKey};
///
/// let prefix: KeyPrefix = "sk-acme-".parse()?;
/// let key = NewKey::member(KeyConfig::named("ci")?).with_prefix(prefix);
/// # let _ = key;
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPrefix {
    /// Followed by zeros.
    text: [u8; Self::MAX_LENGTH],
}

impl KeyPrefix {
    /// The most characters.
    pub const MAX_LENGTH: usize = 16;

    /// Creates a prefix.
    ///
    /// # Errors
    /// [`InvalidValue::KeyPrefix`] if it is empty, too long, or has other characters.
    pub fn new(prefix: impl AsRef<str>) -> Result<Self, InvalidValue> {
        let prefix = prefix.as_ref().as_bytes();
        let is_visible = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let mut text = [0; Self::MAX_LENGTH];
        match text.get_mut(..prefix.len()) {
            Some(start) if !prefix.is_empty() && prefix.iter().all(is_visible) => {
                start.copy_from_slice(prefix);
                Ok(Self { text })
            }
            _ => Err(InvalidValue::KeyPrefix { max: Self::MAX_LENGTH }),
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.text.iter().take_while(|byte| **byte != 0).count();
        self.text.get(..length).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl FromStr for KeyPrefix {
    type Err = InvalidValue;

    fn from_str(prefix: &str) -> Result<Self, InvalidValue> {
        Self::new(prefix)
    }
}

impl From<KeyPrefix> for String {
    fn from(prefix: KeyPrefix) -> Self {
        prefix.as_str().to_owned()
    }
}

impl TryFrom<String> for KeyPrefix {
    type Error = InvalidValue;

    fn try_from(prefix: String) -> Result<Self, InvalidValue> {
        Self::new(prefix)
    }
}

/// The prefix of an access key, if it has one, and the first and last four of its other characters, by which people recognise
/// it: `jte9****rb9i`, `sk-acme-jte9****rb9i`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaskedKey {
    prefix: Option<KeyPrefix>,
    first: [u8; 4],
    last: [u8; 4],
}

impl MaskedKey {
    /// Returns the prefix, if the key has one.
    #[must_use]
    pub const fn prefix(&self) -> Option<KeyPrefix> {
        self.prefix
    }
}

impl fmt::Display for MaskedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ascii = |bytes: [u8; 4]| bytes.map(char::from).into_iter().collect::<String>();
        let prefix = self.prefix.as_ref().map_or("", KeyPrefix::as_str);
        f.pad(&format!("{prefix}{}{MASK}{}", ascii(self.first), ascii(self.last)))
    }
}

impl fmt::Debug for MaskedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<MaskedKey> for String {
    fn from(masked: MaskedKey) -> Self {
        masked.to_string()
    }
}

impl TryFrom<String> for MaskedKey {
    type Error = InvalidValue;

    fn try_from(text: String) -> Result<Self, InvalidValue> {
        let malformed =
            || InvalidValue::Inconsistent { what: "a masked access key is not like abcd****wxyz" };
        let ends = |part: &str| {
            let ends: [u8; 4] = part.as_bytes().try_into().ok()?;
            ends.iter().all(u8::is_ascii_graphic).then_some(ends)
        };
        // Read from its end: the ends may have asterisks too.
        let (rest, last) = split_end(&text).ok_or_else(malformed)?;
        let (rest, first) = rest.strip_suffix(MASK).and_then(split_end).ok_or_else(malformed)?;
        let prefix = match rest {
            "" => None,
            prefix => Some(KeyPrefix::new(prefix).map_err(|_| malformed())?),
        };
        let ends = ends(first).zip(ends(last));
        ends.map(|(first, last)| Self { prefix, first, last }).ok_or_else(malformed)
    }
}

/// Splits off the last four bytes.
fn split_end(text: &str) -> Option<(&str, &str)> {
    text.split_at_checked(text.len().checked_sub(4)?)
}

/// The source of random bytes that an [`Issuer`](crate::Issuer) was created with, such as the operating system's.
pub(crate) struct Entropy(Box<Fill>);

type Fill = dyn Fn(&mut [u8]) -> Result<(), BoxError> + Send + Sync;

impl Entropy {
    pub(crate) fn new(
        fill: impl Fn(&mut [u8]) -> Result<(), BoxError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(fill))
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

/// Draws the id of a new key: 22 letters and digits, 130 bits, so that no id is ever drawn twice.
pub(crate) fn generate_key_id(entropy: &Entropy) -> Result<KeyId, BoxError> {
    let text = random_text(entropy, GENERATED_ID_LENGTH)?;
    KeyId::new(text.as_str()).map_err(BoxError::from)
}

/// Draws random letters and digits, all equally likely.
fn random_text(entropy: &Entropy, length: usize) -> Result<Zeroizing<String>, BoxError> {
    let mut text = Zeroizing::new(String::with_capacity(length));
    while text.len() < length {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        (entropy.0)(bytes.as_mut_slice())?;
        let missing = length.saturating_sub(text.len());
        // A byte beyond the last whole multiple of the alphabet would favour its first letters.
        let characters = bytes.iter().filter(|byte| **byte < UNBIASED_BYTES).take(missing);
        text.extend(
            characters
                .filter_map(|byte| ALPHABET.get(usize::from(*byte).rem_euclid(ALPHABET.len())))
                .copied()
                .map(char::from),
        );
    }
    Ok(text)
}

const MASK: &str = "****";
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 4 × 62.
const UNBIASED_BYTES: u8 = 248;
/// Enough that a second draw is almost never needed for 36 characters.
const RANDOM_BYTES: usize = 48;
const GENERATED_LENGTH: usize = 36;
const GENERATED_ID_LENGTH: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(bytes: &mut [u8]) -> Result<(), BoxError> {
        bytes.iter_mut().zip((0..=u8::MAX).cycle()).for_each(|(byte, value)| *byte = value);
        Ok(())
    }

    #[test]
    fn a_generated_key_is_36_letters_and_digits() {
        let key = AccessKey::generate(&Entropy::new(counting), None).unwrap();
        assert_eq!(key.expose(), "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        let prefix = Some("sk-acme-".parse().unwrap());
        let key = AccessKey::generate(&Entropy::new(counting), prefix).unwrap();
        assert_eq!(key.expose(), "sk-acme-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        assert_eq!(key.to_string(), "sk-acme-0123****WXYZ");
    }

    #[test]
    fn bytes_that_would_favour_some_letters_are_not_used() {
        let entropy = Entropy::new(|bytes| {
            bytes.fill(255);
            bytes[0] = 61;
            Ok(())
        });
        assert_eq!(generate_key_id(&entropy).unwrap().as_str(), "z".repeat(22));
    }

    #[test]
    fn without_random_bytes_there_is_no_key() {
        let error =
            AccessKey::generate(&Entropy::new(|_| Err("no entropy".into())), None).unwrap_err();
        assert_eq!(error.to_string(), "no entropy");
    }

    #[test]
    fn a_brought_key_has_at_least_128_bits_and_fits_into_a_header() {
        assert!(AccessKey::new("x".repeat(16)).is_ok());
        assert!(AccessKey::new("x".repeat(256)).is_ok());
        for refused in
            ["x".repeat(15), "x".repeat(257), "sixteen letters ok".into(), "ключ-ключ-ключ".into()]
        {
            let error = AccessKey::new(refused.clone()).unwrap_err();
            assert!(!error.to_string().contains(&refused), "an error must not show the secret");
        }
    }

    #[test]
    fn the_digest_is_sha_256() {
        let digest = String::from(AccessKey::new("abcdefghijklmnopqrstuvwxyz").unwrap().digest());
        assert_eq!(digest, "71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73");
        assert_eq!(String::from(KeyDigest::try_from(digest.clone()).unwrap()), digest);
        for malformed in ["", "71c4", &digest.replace('7', "g"), &format!("{digest}00")] {
            assert!(KeyDigest::try_from(String::from(malformed)).is_err());
        }
    }

    #[test]
    fn only_the_ends_of_a_key_are_shown() {
        let key = AccessKey::new("abcd-secret-secret-wxyz").unwrap();
        assert_eq!(format!("{key:?}{key}"), "AccessKey(abcd****wxyz)abcd****wxyz");
        assert_eq!(MaskedKey::try_from(key.to_string()).unwrap(), key.masked());
        for malformed in ["", "abcd", "abcd****wxy", "äbc****wxyz", "abcd***wxyz"] {
            assert!(MaskedKey::try_from(String::from(malformed)).is_err());
        }
    }

    #[test]
    fn a_prefix_is_shown_beside_the_ends() {
        let key = AccessKey::new("sk-proj-abcd-secret-secret-wxyz").unwrap();
        assert_eq!(key.to_string(), "sk-p****wxyz");
        let key = key.with_prefix("sk-proj-".parse().unwrap()).unwrap();
        assert_eq!(key.to_string(), "sk-proj-abcd****wxyz");
        let longest = AccessKey::new(format!("{}****-secret-key-****", "p".repeat(16))).unwrap();
        let longest = longest.with_prefix("p".repeat(16).parse().unwrap()).unwrap();
        for masked in [key.masked(), longest.masked()] {
            assert_eq!(MaskedKey::try_from(masked.to_string()), Ok(masked));
        }
        for malformed in ["p".repeat(17) + "abcd****wxyz", "sk.abcd****wxyz".to_owned()] {
            assert!(MaskedKey::try_from(malformed).is_err());
        }
    }

    #[test]
    fn behind_a_prefix_there_is_a_secret_of_at_least_128_bits() {
        let key = |secret: &str| AccessKey::new(secret).unwrap();
        let prefix = KeyPrefix::new("sk-").unwrap();
        assert!(key(&format!("sk-{}", "x".repeat(16))).with_prefix(prefix).is_ok());
        for refused in [format!("sk-{}", "x".repeat(15)), "x".repeat(36)] {
            let refused = key(&refused).with_prefix(prefix).unwrap_err();
            assert_eq!(refused, InvalidValue::AccessKeyPrefix { prefix, min: 16 });
        }
        for refused in ["", "sk ", "sk.", "ключ", "sk-acme-search-ci"] {
            assert_eq!(KeyPrefix::new(refused), Err(InvalidValue::KeyPrefix { max: 16 }));
        }
    }
}
