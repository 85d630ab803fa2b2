//! One pass over a JSON text, without a tree and without allocations.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The action for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Pass over it.
    Skip,
    /// Look at its members or elements.
    Enter,
    /// Hand it over if it is a scalar; otherwise look at its members or elements.
    Leaf,
    /// Hand it over, of any type.
    Raw,
    /// Hand it over, of any type, and look at its members.
    Both,
}

/// A receiver of the values of a JSON text. A path has the names of the members around a value; arrays add nothing to
/// it, so that each element has the path of its array.
pub(super) trait Receive<'de> {
    /// Chooses the action for the value at a path.
    fn look(&mut self, path: &[&str]) -> Look;

    /// Receives the JSON text of a value that [`Self::look`] asked for. It borrows from the walked text.
    fn value(&mut self, path: &[&str], raw: &'de str);

    /// Receives a string in place of an object or an array to enter.
    fn string(&mut self, path: &[&str], text: &str) {
        let _ = (path, text);
    }

    /// Receives the end of an object.
    fn close(&mut self, path: &[&str]) {
        let _ = path;
    }
}

/// Walks a JSON text. Values before an error are handed over.
///
/// # Errors
/// If the text is not one JSON value.
pub(super) fn walk<'de>(
    json: &'de [u8],
    receiver: &mut impl Receive<'de>,
) -> Result<(), serde_json::Error> {
    let mut text = serde_json::Deserializer::from_slice(json);
    Value { receiver, path: Path::ROOT, look: Some(Look::Enter), depth: 0 }
        .deserialize(&mut text)?;
    text.end()
}

/// The names of the members around a value.
#[derive(Clone, Copy)]
struct Path<'p> {
    names: [&'p str; MOST_NAMES],
    len: usize,
}

impl<'p> Path<'p> {
    const ROOT: Self = Self { names: [""; MOST_NAMES], len: 0 };

    fn names(&self) -> &[&'p str] {
        self.names.get(..self.len).unwrap_or_default()
    }

    /// Returns the path of a member. None if it is deeper than any value with a meaning.
    fn member<'m>(&self, name: &'m str) -> Option<Path<'m>>
    where
        'p: 'm,
    {
        let mut names: [&'m str; MOST_NAMES] = self.names;
        *names.get_mut(self.len)? = name;
        Some(Path { names, len: self.len + 1 })
    }
}

struct Value<'r, 'p, R> {
    receiver: &'r mut R,
    path: Path<'p>,
    /// The action for this path, if it is known: an array asks once for all its elements.
    look: Option<Look>,
    /// The number of times that the text around it was read again.
    depth: usize,
}

impl<'de, R: Receive<'de>> DeserializeSeed<'de> for Value<'_, '_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        let Self { receiver, path, look, depth } = self;
        let look = look.unwrap_or_else(|| receiver.look(path.names()));
        match look {
            Look::Skip => value.deserialize_ignored_any(IgnoredAny).map(drop),
            Look::Enter => value.deserialize_any(Inside { receiver, path, look, depth }),
            Look::Raw => {
                let raw = raw(value)?;
                receiver.value(path.names(), raw);
                Ok(())
            }
            Look::Leaf | Look::Both => {
                let raw = raw(value)?;
                let has_inside = raw.starts_with(['{', '[']);
                if look == Look::Both || !has_inside {
                    receiver.value(path.names(), raw);
                }
                if has_inside && depth < MOST_REREAD {
                    // It was read once already, so that this cannot fail.
                    let mut inner = serde_json::Deserializer::from_str(raw);
                    let depth = depth + 1;
                    let look = if look == Look::Both { Look::Enter } else { look };
                    let _ = inner.deserialize_any(Inside { receiver, path, look, depth });
                }
                Ok(())
            }
        }
    }
}

fn raw<'de, D: Deserializer<'de>>(value: D) -> Result<&'de str, D::Error> {
    let raw: &'de RawValue = Deserialize::deserialize(value)?;
    Ok(raw.get())
}

macro_rules! ignore {
    ($($visit:ident: $scalar:ty),*) => {
        $(fn $visit<E>(self, _: $scalar) -> Result<(), E> { Ok(()) })*
    };
}

/// The inside of a value. A scalar has none.
struct Inside<'r, 'p, R> {
    receiver: &'r mut R,
    path: Path<'p>,
    look: Look,
    depth: usize,
}

impl<'de, R: Receive<'de>> Visitor<'de> for Inside<'_, '_, R> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { receiver, path, depth, .. } = self;
        while let Some(Name(name)) = members.next_key::<Name<'_>>()? {
            match path.member(&name) {
                Some(path) => {
                    members.next_value_seed(Value {
                        receiver: &mut *receiver,
                        path,
                        look: None,
                        depth,
                    })?;
                }
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        receiver.close(path.names());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let Self { receiver, path, look, depth } = self;
        while elements
            .next_element_seed(Value { receiver: &mut *receiver, path, look: Some(look), depth })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.receiver.string(self.path.names(), text);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    ignore! { visit_bool: bool, visit_u64: u64, visit_i64: i64, visit_f64: f64 }
}

/// The name of a member, borrowed from the text unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'n>(#[serde(borrow)] Cow<'n, str>);

/// The deepest value with a meaning in any API is the text of a tool's result, six names deep.
const MOST_NAMES: usize = 8;

/// Leaves are looked for in a value that was read already, level by level. This bounds the stack and the time that arrays
/// in arrays take; no API has more than a few.
const MOST_REREAD: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct All(Vec<(String, String)>);

    impl<'de> Receive<'de> for All {
        fn look(&mut self, path: &[&str]) -> Look {
            match path {
                ["skipped", ..] => Look::Skip,
                [.., "raw"] => Look::Raw,
                _ => Look::Leaf,
            }
        }

        fn value(&mut self, path: &[&str], raw: &'de str) {
            self.0.push((path.join("."), raw.to_owned()));
        }
    }

    fn seen(json: &str) -> Vec<(String, String)> {
        let mut all = All::default();
        let _ = walk(json.as_bytes(), &mut all);
        all.0
    }

    #[test]
    fn arrays_add_nothing_to_a_path() {
        let seen =
            seen(r#"{"a":[{"b":1},[{"b":"x\n"}]],"skipped":{"b":2},"raw":{"c":[]},"\u0061":null}"#);
        let seen: Vec<_> = seen.iter().map(|(path, raw)| (&**path, &**raw)).collect();
        assert_eq!(
            seen,
            [("a.b", "1"), ("a.b", r#""x\n""#), ("raw", r#"{"c":[]}"#), ("a", "null")]
        );
    }

    #[test]
    fn values_before_an_error_are_seen() {
        assert_eq!(seen(r#"{"a":1,"b":"cut"#), [("a".to_owned(), "1".to_owned())]);
        assert_eq!(seen(r#"{"a":{"b":1"#), []);
        assert!(walk(b"{} x", &mut All::default()).is_err());
    }

    #[test]
    fn what_is_too_deep_is_passed_over() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(9), "}".repeat(9));
        assert_eq!(seen(&deep), []);
        let endless = r#"{"a":"#.repeat(100_000);
        assert!(walk(endless.as_bytes(), &mut All::default()).is_err());
        let arrays = format!(r#"{{"a":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(seen(&arrays), []);
    }
}
