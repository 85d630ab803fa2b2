//! The limits of a scope: requests and tokens, per minute and per day.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;
use crate::object::checked_object;
use crate::token_type::TokenType;
use crate::window::Window;

/// The largest count or limit, 2^53 − 1: every integer up to it is exact in JSON readers and in Lua.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// The limits of one scope: each of the four numbers may be absent, which means no such limit.
///
/// A limit of 0 allows nothing. Limits without a single number are no limits at all. A token type without a token limit
/// becomes [`TokenType::Total`], as there is nothing for it to count.
///
/// ```
/// # use limiter_core as limiter;
/// use limiter::{Limits, TokenType};
///
/// let limits = Limits::builder()
///     .requests_per_minute(2)
///     .tokens_per_day(30)
///     .token_type(TokenType::Output)
///     .build()?;
/// assert_eq!(limits.requests_per_minute(), Some(2));
/// assert_eq!(limits.tokens_per_minute(), None);
/// # Ok::<(), limiter::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Limits {
    requests_per_minute: Option<u64>,
    requests_per_day: Option<u64>,
    tokens_per_minute: Option<u64>,
    tokens_per_day: Option<u64>,
    token_type: TokenType,
}

impl Limits {
    /// No limits.
    pub const NONE: Self = Self {
        requests_per_minute: None,
        requests_per_day: None,
        tokens_per_minute: None,
        tokens_per_day: None,
        token_type: TokenType::Total,
    };

    /// Creates a builder without any limit.
    pub fn builder() -> LimitsBuilder {
        LimitsBuilder::default()
    }

    /// Creates a builder with these limits, to change some of them.
    pub fn to_builder(self) -> LimitsBuilder {
        LimitsBuilder(self)
    }

    /// Returns the tokens that the token limits count.
    #[must_use]
    pub const fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// Returns whether there is no limit at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Returns the part that is counted in windows of one kind.
    #[must_use]
    pub const fn of(&self, window: Window) -> WindowLimits {
        let (requests, tokens) = match window {
            Window::Minute => (self.requests_per_minute, self.tokens_per_minute),
            Window::Day => (self.requests_per_day, self.tokens_per_day),
        };
        WindowLimits::new(requests, tokens, self.token_type)
    }

    /// Joins the limits of the minute and of the day.
    #[must_use]
    pub(crate) const fn from_parts(minute: WindowLimits, day: WindowLimits) -> Self {
        Self {
            requests_per_minute: minute.requests,
            requests_per_day: day.requests,
            tokens_per_minute: minute.tokens,
            tokens_per_day: day.tokens,
            token_type: if minute.tokens.is_some() { minute.token_type } else { day.token_type },
        }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.token_type.tokens();
        let parts = [
            (self.requests_per_minute, "requests", Window::Minute),
            (self.requests_per_day, "requests", Window::Day),
            (self.tokens_per_minute, tokens, Window::Minute),
            (self.tokens_per_day, tokens, Window::Day),
        ];
        let mut separator = "";
        for (limit, unit, window) in parts {
            if let Some(limit) = limit {
                write!(f, "{separator}{limit} {unit} per {window}")?;
                separator = ", ";
            }
        }
        if separator.is_empty() { f.write_str("no limits") } else { Ok(()) }
    }
}

/// Collects the numbers of [`Limits`]; bounds are checked by [`build`](Self::build).
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "limits are made by build()"]
pub struct LimitsBuilder(Limits);

/// Limits of a scope; null is no limit.
#[derive(Default, Deserialize)]
#[serde(remote = "Limits", default, deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
struct RawLimits {
    /// Requests per minute.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    requests_per_minute: Option<u64>,
    /// Requests per day.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    requests_per_day: Option<u64>,
    /// Tokens per minute.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    tokens_per_minute: Option<u64>,
    /// Tokens per day.
    #[cfg_attr(feature = "utoipa", schema(maximum = 9007199254740991_u64))]
    tokens_per_day: Option<u64>,
    /// Which tokens are counted: total if left out.
    token_type: TokenType,
}

checked_object!(Limits, RawLimits, |read| LimitsBuilder(read).build());

impl LimitsBuilder {
    /// Sets the tokens that the token limits count; [`TokenType::Total`] by default.
    pub fn token_type(mut self, token_type: TokenType) -> Self {
        self.0.token_type = token_type;
        self
    }

    /// Checks the bounds, and builds the limits.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] for a limit above [`MAX_COUNT`].
    pub fn build(self) -> Result<Limits, InvalidValue> {
        self.check()?;
        let Limits { tokens_per_minute, tokens_per_day, token_type, .. } = self.0;
        let limits_tokens = tokens_per_minute.is_some() || tokens_per_day.is_some();
        Ok(Limits {
            token_type: if limits_tokens { token_type } else { TokenType::Total },
            ..self.0
        })
    }
}

/// Adds the getter and the setter of each number, and a check of all.
macro_rules! numbers {
    ($($name:ident: $what:literal;)*) => {
        impl Limits {
            $(
                #[doc = concat!("Returns the limit of ", $what, ", if there is one.")]
                #[must_use]
                pub const fn $name(&self) -> Option<u64> {
                    self.$name
                }
            )*
        }

        impl LimitsBuilder {
            $(
                #[doc = concat!("Sets the limit of ", $what, "; `None`, the default, for no such limit.")]
                pub fn $name(mut self, limit: impl Into<Option<u64>>) -> Self {
                    self.0.$name = limit.into();
                    self
                }
            )*

            fn check(&self) -> Result<(), InvalidValue> {
                $(counted_if_any(concat!("the limit of ", $what), self.0.$name)?;)*
                Ok(())
            }
        }
    };
}

numbers! {
    requests_per_minute: "requests per minute";
    requests_per_day: "requests per day";
    tokens_per_minute: "tokens per minute";
    tokens_per_day: "tokens per day";
}

/// The part of [`Limits`] that is counted in windows of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize)]
pub struct WindowLimits {
    requests: Option<u64>,
    tokens: Option<u64>,
    token_type: TokenType,
}

impl WindowLimits {
    /// No limits.
    pub const NONE: Self = Self { requests: None, tokens: None, token_type: TokenType::Total };

    /// Creates limits from stored numbers.
    ///
    /// # Errors
    /// [`InvalidValue::TooLarge`] above [`MAX_COUNT`].
    pub fn from_parts(
        requests: Option<u64>,
        tokens: Option<u64>,
        token_type: TokenType,
    ) -> Result<Self, InvalidValue> {
        let checked = |limit| counted_if_any("a limit", limit);
        Ok(Self::new(checked(requests)?, checked(tokens)?, token_type))
    }

    pub(crate) const fn new(
        requests: Option<u64>,
        tokens: Option<u64>,
        token_type: TokenType,
    ) -> Self {
        let token_type = if tokens.is_some() { token_type } else { TokenType::Total };
        Self { requests, tokens, token_type }
    }

    /// Returns the limit of requests per window, if there is one.
    #[must_use]
    pub const fn requests(&self) -> Option<u64> {
        self.requests
    }

    /// Returns the limit of tokens per window, if there is one.
    #[must_use]
    pub const fn tokens(&self) -> Option<u64> {
        self.tokens
    }

    /// Returns the tokens that the token limit counts; `Total` if there is none.
    #[must_use]
    pub const fn token_type(&self) -> TokenType {
        self.token_type
    }

    /// Returns whether there is no limit at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

/// The limits of one window; null is no limit.
#[derive(Deserialize)]
#[serde(remote = "WindowLimits", deny_unknown_fields)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
struct RawWindowLimits {
    /// Requests.
    #[serde(deserialize_with = "Option::deserialize")]
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    requests: Option<u64>,
    /// Tokens.
    #[serde(deserialize_with = "Option::deserialize")]
    #[cfg_attr(feature = "utoipa", schema(required = true))]
    tokens: Option<u64>,
    /// Which tokens are counted.
    token_type: TokenType,
}

checked_object!(WindowLimits, RawWindowLimits, |read| {
    counted_if_any("a limit of requests", read.requests)?;
    counted_if_any("a limit of tokens", read.tokens)?;
    Ok(Self::new(read.requests, read.tokens, read.token_type))
});

impl fmt::Display for WindowLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.token_type.tokens();
        match (self.requests, self.tokens) {
            (Some(requests), Some(limit)) => write!(f, "{requests} requests, {limit} {tokens}"),
            (Some(requests), None) => write!(f, "{requests} requests"),
            (None, Some(limit)) => write!(f, "{limit} {tokens}"),
            (None, None) => f.write_str("no limits"),
        }
    }
}

/// Checks that a number can be counted exactly, if there is one.
pub(crate) fn counted_if_any(
    what: &'static str,
    value: Option<u64>,
) -> Result<Option<u64>, InvalidValue> {
    value.map(|value| counted(what, value)).transpose()
}

/// Checks that a number can be counted exactly.
pub(crate) fn counted(what: &'static str, value: u64) -> Result<u64, InvalidValue> {
    if value <= MAX_COUNT {
        Ok(value)
    } else {
        Err(InvalidValue::TooLarge { what, value: value.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> LimitsBuilder {
        Limits::builder().token_type(TokenType::Output)
    }

    #[test]
    fn a_limit_is_at_most_what_a_double_counts_exactly() {
        assert!(Limits::builder().tokens_per_day(MAX_COUNT).build().is_ok());
        let above = Limits::builder().tokens_per_day(MAX_COUNT + 1).build();
        let what = "the limit of tokens per day";
        assert_eq!(above, Err(InvalidValue::TooLarge { what, value: 1 << 53 }));
    }

    #[test]
    fn limits_and_parts_without_a_token_limit_count_the_total() {
        let requests = output().requests_per_day(1).build().unwrap();
        assert_eq!(requests.token_type(), TokenType::Total);
        let tokens = output().tokens_per_day(1).build().unwrap();
        assert_eq!(tokens.of(Window::Minute), WindowLimits::NONE);
        assert_eq!(tokens.of(Window::Day).token_type(), TokenType::Output);
    }

    #[test]
    fn parts_make_the_limits_again() {
        let builder = output().requests_per_minute(1).tokens_per_minute(2).tokens_per_day(3);
        let limits = builder.build().unwrap();
        assert_eq!(Limits::from_parts(limits.of(Window::Minute), limits.of(Window::Day)), limits);
    }

    #[test]
    fn limits_do_not_come_in_unchecked_by_serde() {
        assert!(serde_json::from_str::<Limits>(r#"{"tokens_per_day":9007199254740992}"#).is_err());
        assert!(serde_json::from_str::<Limits>(r#"{"tokens_per_dya":1}"#).is_err());
    }

    #[test]
    fn limits_read_like_a_sentence() {
        let limits = output().requests_per_minute(2).tokens_per_day(30).build().unwrap();
        assert_eq!(limits.to_string(), "2 requests per minute, 30 output tokens per day");
        assert_eq!(Limits::NONE.to_string(), "no limits");
    }
}
