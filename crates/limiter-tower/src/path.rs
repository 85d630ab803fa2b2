//! Names in paths, as a router reads them: percent-decoded once, segment by segment.

use std::borrow::Cow;
use std::str::Utf8Error;

use percent_encoding::percent_decode_str;

/// Decodes each segment of a path. A `/` and a `%` inside of a segment stay encoded, as `%2F` and `%25`: two paths give
/// the same result exactly if a router reads the same segments in them.
///
/// # Errors
/// A sentence for the client, if the path is ambiguous.
pub(crate) fn readable(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if !path.contains('%') {
        return if has_dots(path) { Err(DOTS) } else { Ok(Cow::Borrowed(path)) };
    }
    let mut readable = String::with_capacity(path.len());
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            readable.push('/');
        }
        if !escapes_are_whole(segment) {
            return Err(ESCAPE);
        }
        let segment = percent_decode_str(segment).decode_utf8().map_err(|_: Utf8Error| NOT_UTF8)?;
        // Many services behind a router read an encoded slash as a slash.
        if has_dots(&segment) {
            return Err(DOTS);
        }
        for character in segment.chars() {
            match character {
                '/' => readable.push_str("%2F"),
                '%' => readable.push_str("%25"),
                other => readable.push(other),
            }
        }
    }
    Ok(Cow::Owned(readable))
}

/// Decodes the `%2F` and `%25` that are left in a part of a readable path.
pub(crate) fn name(part: &str) -> Cow<'_, str> {
    if part.contains('%') {
        Cow::Owned(part.replace("%2F", "/").replace("%25", "%"))
    } else {
        Cow::Borrowed(part)
    }
}

/// Returns whether each `%` has its two hexadecimal digits. The decoder, and so most routers, keep a `%` without them.
fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        matches!(after.as_bytes(), [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}

/// Returns whether a segment is `.` or `..`. Clients resolve these before they send a path, and some proxies do too.
fn has_dots(path: &str) -> bool {
    path.contains('.') && path.split('/').any(|segment| matches!(segment, "." | ".."))
}

const ESCAPE: &str =
    "the path has a `%` without two hexadecimal digits after it: send a percent sign as `%25`";
const NOT_UTF8: &str =
    "the percent-encoded bytes of the path are not UTF-8: encode its text as UTF-8";
const DOTS: &str = "the path has a segment `.` or `..`: send the path that it resolves to";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once_and_its_segments_stay_apart() {
        for (path, expected, decoded) in [
            ("/v1/models/gpt-5", "/v1/models/gpt-5", "/v1/models/gpt-5"),
            ("/v1/models/gpt%2D5", "/v1/models/gpt-5", "/v1/models/gpt-5"),
            ("/v1/models/gpt%2d5", "/v1/models/gpt-5", "/v1/models/gpt-5"),
            ("/v1/model%73/gpt-5", "/v1/models/gpt-5", "/v1/models/gpt-5"),
            ("/a%2Fb/c", "/a%2Fb/c", "/a/b/c"),
            ("/a%2fb/c", "/a%2Fb/c", "/a/b/c"),
            ("/gpt%252D5", "/gpt%252D5", "/gpt%2D5"),
            ("/gpt%252F5", "/gpt%252F5", "/gpt%2F5"),
            ("/gpt%25252D5", "/gpt%25252D5", "/gpt%252D5"),
            ("/100%25", "/100%25", "/100%"),
            ("/mod%C3%A8le", "/modèle", "/modèle"),
            ("/modèle", "/modèle", "/modèle"),
            ("/a+b;c=1/", "/a+b;c=1/", "/a+b;c=1/"),
            ("/a%2Bb%3Bc", "/a+b;c", "/a+b;c"),
            ("//a///%62", "//a///b", "//a///b"),
            ("/a%00b", "/a\0b", "/a\0b"),
            ("/gpt-5.1/.hidden/...", "/gpt-5.1/.hidden/...", "/gpt-5.1/.hidden/..."),
            ("*", "*", "*"),
            ("", "", ""),
        ] {
            let readable = readable(path).unwrap();
            assert_eq!((&*readable, &*name(&readable)), (expected, decoded), "{path}");
        }
    }

    #[test]
    fn a_path_without_one_meaning_is_refused() {
        for (path, why) in [
            ("/gpt%", ESCAPE),
            ("/gpt%2", ESCAPE),
            ("/gpt%/2D", ESCAPE),
            ("/gpt%2/D", ESCAPE),
            ("/gpt%zz5", ESCAPE),
            ("/gpt%%2D5", ESCAPE),
            ("/gpt%+15", ESCAPE),
            ("/%FF", NOT_UTF8),
            ("/gpt%C0%AD5", NOT_UTF8), // an overlong "-"
            ("/%ED%A0%80", NOT_UTF8),  // half of a surrogate pair
            ("/%C3/%A8", NOT_UTF8),
            ("/../gpt-5", DOTS),
            ("/./gpt-5", DOTS),
            ("/x/%2E%2e/gpt-5", DOTS),
            ("/x/.%2E", DOTS),
            ("/x%2F..%2Fgpt-5", DOTS),
        ] {
            assert_eq!(readable(path), Err(why), "{path}");
        }
    }
}
