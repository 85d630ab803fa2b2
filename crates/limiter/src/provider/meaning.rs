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
    /// The text of a choice beside its delta. Some providers send both, with the same text: the delta counts.
    ChoiceText,
    /// The arguments of a tool call: a string, or any JSON value as text.
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
    /// An error, if it is an object or a text with something in it.
    Error,
}
