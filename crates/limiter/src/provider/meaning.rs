//! The meaning of a value of an answer or of a request.

use super::media::Kind;
use super::walk::Look;

/// The meaning of a value, by its path: first those of both, then those of answers, then those of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A value that is ignored.
    Skip,
    /// An object or array whose members or elements may have a meaning.
    Enter,
    /// Text of the answer or of the prompt: a string, or strings within.
    Text,
    /// A JSON value that the model wrote or sees as it is: a schema, or the arguments of a tool call. Of an answer, it may
    /// be in a string.
    Json,

    /// The text of a choice outside its delta. Some providers send both, with the same text: the delta counts.
    ChoiceText,
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

    /// The name of the model.
    Model,
    /// Whether the answer streams.
    Stream,
    /// The object that has [`Self::IncludeUsage`].
    StreamOptions,
    /// Whether a stream reports its usage.
    IncludeUsage,
    /// The most output tokens of one answer.
    Maximum,
    /// The object that has [`Self::Maximum`], if it is not the request itself.
    Generation,
    /// The number of answers. The largest of several counts.
    Answers,
    /// A prompt, or an array of prompts, each with its own answers: texts or token ids.
    Prompts,
    /// Text of the prompt in which numbers are token ids.
    TextOrTokens,
    /// The query of a rerank, which the model reads with each document.
    Query,
    /// A document of a rerank: a string, or strings within.
    Document,
    /// The type of a part of the prompt, and so the kind of its media.
    PartType,
    /// A picture, sound, video or file: an address, base64, or an object with one of them.
    Media(Kind),
    /// Media of the kind that the type of its part names.
    MediaOfPart,
}

impl Meaning {
    /// Returns the action that hands over a value of this meaning.
    pub(super) const fn look(self) -> Look {
        match self {
            Self::Skip => Look::Skip,
            Self::Enter => Look::Enter,
            Self::StreamOptions | Self::Generation => Look::Both,
            Self::Text
            | Self::ChoiceText
            | Self::Reasoning
            | Self::TextOrTokens
            | Self::Query
            | Self::Document => Look::Leaf,
            _ => Look::Raw,
        }
    }
}
