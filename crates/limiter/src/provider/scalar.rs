//! Scalars of a JSON text.

/// Reads a whole number: `12`, or `12.0` or `1.2e1`, as some encoders write it. None if it is negative, has a fraction,
/// or is more than [`MOST_TOKENS`].
pub(super) fn count(raw: &str) -> Option<u64> {
    let count = match raw.parse::<u64>() {
        Ok(count) => count,
        Err(_) if raw.starts_with(|first: char| first.is_ascii_digit()) => {
            whole(raw.parse().ok()?)?
        }
        Err(_) => return None,
    };
    (count <= MOST_TOKENS).then_some(count)
}

fn whole(number: f64) -> Option<u64> {
    let fits = number.fract() == 0.0 && (0.0..=MOST_TOKENS as f64).contains(&number);
    // It is whole and in range.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    fits.then_some(number as u64)
}

/// Returns whether this is a non-empty text, object or array.
pub(super) fn has_content(raw: &str) -> bool {
    let inside = raw.get(1..raw.len().saturating_sub(1)).unwrap_or_default();
    match raw.as_bytes().first() {
        Some(b'"') => !inside.is_empty(),
        Some(b'{' | b'[') => !inside.trim_ascii().is_empty(),
        _ => false,
    }
}

/// Returns the text of a JSON string, with its escapes decoded. None if it is no string.
///
/// A text that had escapes is in the buffer, which is reused, so that a text delta takes no allocation.
pub(super) fn text<'t>(raw: &'t str, buffer: &'t mut String) -> Option<&'t str> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(inner);
    }
    buffer.clear();
    let mut rest = inner;
    while let Some((plain, escape)) = rest.split_once('\\') {
        buffer.push_str(plain);
        rest = unescape(escape, buffer);
    }
    buffer.push_str(rest);
    Some(buffer)
}

/// Returns the length in bytes of the text of a JSON string, as [`text`] returns it, without a copy. None if it is no
/// string.
pub(super) fn text_bytes(raw: &str) -> Option<usize> {
    let mut rest = raw.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = 0;
    let mut character = String::new();
    while let Some((plain, escape)) = rest.split_once('\\') {
        character.clear();
        rest = unescape(escape, &mut character);
        bytes += plain.len() + character.len();
    }
    Some(bytes + rest.len())
}

/// Appends the character of the escape that begins here, and returns the text after it.
fn unescape<'t>(escape: &'t str, to: &mut String) -> &'t str {
    let mut characters = escape.chars();
    let character = match characters.next() {
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('u') => return unicode(characters.as_str(), to),
        Some(other) => other,
        None => return "",
    };
    to.push(character);
    characters.as_str()
}

/// Decodes an escape of four hexadecimal digits, or a surrogate pair of two. Half a pair becomes U+FFFD.
fn unicode<'t>(digits: &'t str, to: &mut String) -> &'t str {
    let Some((first, rest)) = unit(digits) else { return digits };
    let (second, after) = rest.strip_prefix("\\u").and_then(unit).unwrap_or((0, rest));
    let decoded = char::decode_utf16([first, second]).next().and_then(Result::ok);
    let character = decoded.unwrap_or(char::REPLACEMENT_CHARACTER);
    to.push(character);
    if character.len_utf16() == 2 { after } else { rest }
}

fn unit(digits: &str) -> Option<(u16, &str)> {
    let (digits, rest) = digits.split_at_checked(4)?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

/// A billion. The longest contexts have some millions of tokens. A figure above this is a fault, and would block a key
/// until the end of its window.
pub(super) const MOST_TOKENS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_whole_and_believable() {
        for (raw, number) in [
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("1.2e1", Some(12)),
            ("0", Some(0)),
            ("0.0", Some(0)),
            ("-1", None),
            ("-1.0", None),
            ("-0.0", None),
            ("12.5", None),
            ("1000000000", Some(MOST_TOKENS)),
            ("1000000001", None),
            ("1e300", None),
            ("18446744073709551616", None),
            ("\"12\"", None),
            ("null", None),
            ("true", None),
        ] {
            assert_eq!(count(raw), number, "{raw}");
        }
    }

    #[test]
    fn content_is_a_text_an_object_or_an_array_with_something_inside() {
        for raw in ["\"a\"", "\" \"", "{\"a\":1}", "[0]", "[ null ]"] {
            assert!(has_content(raw), "{raw}");
        }
        for raw in ["null", "false", "true", "0", "12", "\"\"", "{}", "[]", "{ }", "[\n]", ""] {
            assert!(!has_content(raw), "{raw}");
        }
    }

    #[test]
    fn a_text_is_read_as_serde_reads_it() {
        let mut buffer = String::new();
        for raw in [
            r#""""#,
            r#""plain é""#,
            r#""a\nb\t\"\\\/\b\f\r""#,
            r#""\u00e9\u4f60\ud83d\ude00 end""#,
            r#""\ud83d\ude00\ud83d\ude00""#,
        ] {
            let expected: String = serde_json::from_str(raw).unwrap();
            assert_eq!(text(raw, &mut buffer), Some(&*expected), "{raw}");
            assert_eq!(text_bytes(raw), Some(expected.len()), "{raw}");
        }
        assert_eq!(text(r#""\ud83d x""#, &mut buffer), Some("\u{fffd} x"));
        assert_eq!(text(r#""\ud83d\u0041""#, &mut buffer), Some("\u{fffd}A"));
        assert_eq!(text("12", &mut buffer), None);
        assert_eq!(text("null", &mut buffer), None);
    }
}
