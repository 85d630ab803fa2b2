//! The meaning of a value of a request.

use super::media::Kind;

/// The meaning of a value of a request, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestMeaning {
    /// A value that is ignored.
    Skip,
    /// An object or array whose members or elements may have a meaning.
    Enter,
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
    /// Text of the prompt: a string, or strings within.
    Text,
    /// Text of the prompt in which numbers are token ids.
    TextOrTokens,
    /// A JSON value that the model sees as it is: a schema, or the arguments of a tool call.
    Json,
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
