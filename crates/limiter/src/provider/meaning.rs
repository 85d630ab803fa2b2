//! The meaning of a value of an answer.

/// The meaning of a value of an answer, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It means nothing here.
    Skip,
    /// Its members or elements may mean something.
    Enter,
    /// Text of the answer: a string, or strings within.
    Text,
    /// Text of the answer as a JSON value: the arguments of a tool call.
    Json,
    /// Text of reasoning. Some providers send it twice in one delta, under two names: the larger one counts.
    Reasoning,
    /// Something of the answer that has no text of its own: it counts as one token if the same delta has no text.
    Mark,
    /// An object with counts of tokens.
    Usage,
    /// The same at the beginning of an answer: its input is final, its output is not.
    FirstUsage,
    /// The type of an event.
    Type,
    /// An error, unless it is null.
    Error,
}
