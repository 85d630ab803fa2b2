//! The meaning of a value of an answer.

/// The meaning of a value of an answer, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A value that is ignored.
    Skip,
    /// An object or array whose members or elements may have a meaning.
    Enter,
    /// Text of the answer: a string, or strings within.
    Text,
    /// The text of a choice outside its delta. Some providers send both, with the same text: the delta counts.
    ChoiceText,
    /// The arguments of a tool call: a string, or any JSON value as text.
    Json,
    /// Text of reasoning. Some providers send it twice in one delta, under two names: the larger one counts.
    Reasoning,
    /// A part of the answer without text of its own. It counts as one token if the same delta has no text.
    Mark,
    /// An object with counts of tokens.
    Usage,
    /// The usage at the beginning of an answer: its input is final, its output is not.
    FirstUsage,
    /// The type of an event.
    Type,
    /// An error, if it is a non-empty object or text.
    Error,
}
