//! Compares the messages of a crate with its section of `docs/messages.txt`, where all of them can be read at once.
//!
//! Each crate with errors includes this file in its unit tests: elsewhere, a `match` on a `#[non_exhaustive]` enum needs
//! a wildcard, and a new variant could be forgotten.

use std::fmt::Write;
use std::fs;

/// A name of a message, and the message.
pub(crate) type Message = (String, String);

/// Renders a value of each variant of an enum, by `Display` unless by the given function.
macro_rules! variants {
    ($enum:ident { $($variants:tt)* }) => {
        variants!(by |value: $enum| value.to_string(); $enum { $($variants)* })
    };
    (by $render:expr; $enum:ident {
        $($variant:ident $(($($value:expr),*))? $({ $($fields:tt)* })?),* $(,)?
    }) => {{
        // A variant that is not listed does not compile.
        let _is_listed = |value: &$enum| match value {
            $($enum::$variant { .. } => {})*
        };
        let render = $render;
        vec![$((
            concat!(stringify!($enum), "::", stringify!($variant)).to_owned(),
            render($enum::$variant $(($($value),*))? $({ $($fields)* })?),
        )),*]
    }};
}

/// Checks that the file has these messages of a crate, or writes them to it.
///
/// # Panics
/// If they differ: the message has the lines that differ, and the command that updates the file.
pub(crate) fn check(package: &str, messages: impl IntoIterator<Item = Message>) {
    let text = fs::read_to_string(FILE).expect("docs/messages.txt can be read");
    let mut sections = text.split(SECTION);
    let head = sections.next().expect("split gives at least one part");
    let mut sections: Vec<(&str, &str)> =
        sections.map(|section| section.split_once('\n').expect("a section has lines")).collect();
    let mut written = String::new();
    for (name, message) in messages {
        let _ = write!(written, "\n{name}\n    {message}\n");
    }
    let found = sections.iter().position(|(name, _)| *name == package);
    let before = found.map_or("", |index| sections[index].1);
    if before == written {
        return;
    }
    if std::env::var_os(UPDATE).is_none() {
        let differences = differences(before, &written);
        panic!(
            "docs/messages.txt differs from the messages of {package}:\n{differences}\n\
             Read them, then update the file: {UPDATE}=1 cargo test --all-features -p {package} messages"
        );
    }
    match found {
        Some(index) => sections[index].1 = &written,
        None => sections.push((package, &written)),
    }
    sections.sort_unstable();
    let sections = sections.iter().map(|(name, lines)| format!("{SECTION}{name}\n{lines}"));
    fs::write(FILE, format!("{head}{}", sections.collect::<String>())).expect("it is writable");
}

/// The lines that only one of the texts has.
fn differences(before: &str, after: &str) -> String {
    let only = |text: &str, other: &str, sign| {
        let missing = text.lines().filter(|line| !other.lines().any(|of_other| of_other == *line));
        missing.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    only(before, after, '-') + &only(after, before, '+')
}

pub(crate) use variants;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/messages.txt");
const SECTION: &str = "\n## ";
const UPDATE: &str = "UPDATE_MESSAGES";
