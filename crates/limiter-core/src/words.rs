//! The words of enums: each variant prints as one, and is read from it.

/// Implements `Display` by the word of each variant; and `FromStr`, if the kind of the words is given.
macro_rules! words {
    ($type:ident { $($variant:ident: $word:literal),+ }) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self { $(Self::$variant => $word),+ })
            }
        }
    };
    ($type:ident { $($variant:ident: $word:literal),+ }, $what:literal, $expected:literal) => {
        words!($type { $($variant: $word),+ });

        impl std::str::FromStr for $type {
            type Err = crate::error::InvalidValue;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Self::Err::unknown_word($what, text, $expected)),
                }
            }
        }
    };
}
pub(crate) use words;
