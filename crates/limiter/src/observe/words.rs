//! Enums whose variants are words in metrics and spans.

/// Declares an enum with a name for each variant, so that each is listed once.
macro_rules! words {
    ($(#[$on_enum:meta])* $enum:ident { $($(#[$on_variant:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$on_enum])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $enum { $($(#[$on_variant])* $variant,)* }

        #[cfg(any(feature = "metrics", feature = "tracing"))]
        impl $enum {
            #[cfg(feature = "metrics")]
            pub(crate) const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

pub(crate) use words;
