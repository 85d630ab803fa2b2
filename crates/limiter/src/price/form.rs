//! The serde form of a price, as a person writes it.

use std::fmt;

use limiter_core::{Credits, Object};
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::Price;

/// The fields of a price; `None` is the default of each.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Form {
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_input: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Decimal>,
}

impl From<Object<Form>> for Price {
    fn from(Object(form): Object<Form>) -> Self {
        let or =
            |amount: Option<Decimal>, default| amount.map_or(default, |Decimal(amount)| amount);
        let input = or(form.input, Credits::ZERO);
        let output = or(form.output, Credits::ZERO);
        Self {
            input,
            cached_input: or(form.cached_input, input),
            cache_write: or(form.cache_write, input),
            output,
            reasoning: or(form.reasoning, output),
            request: or(form.request, Credits::ZERO),
        }
    }
}

impl From<Price> for Form {
    /// Omits each field that has its default.
    fn from(price: Price) -> Self {
        let unless =
            |default: Credits, amount: Credits| (amount != default).then_some(Decimal(amount));
        Self {
            input: unless(Credits::ZERO, price.input),
            cached_input: unless(price.input, price.cached_input),
            cache_write: unless(price.input, price.cache_write),
            output: unless(Credits::ZERO, price.output),
            reasoning: unless(price.output, price.reasoning),
            request: unless(Credits::ZERO, price.request),
        }
    }
}

/// Credits as a decimal number in quotes; read from a whole number too. The serde form of [`Credits`] itself is in
/// millionths.
struct Decimal(Credits);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;

        impl Visitor<'_> for Amount {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an amount of credits: a decimal number in quotes such as \"1.25\", or a whole number",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Decimal, E> {
                text.parse().map(Decimal).map_err(E::custom)
            }

            fn visit_u64<E: Error>(self, credits: u64) -> Result<Decimal, E> {
                Credits::whole(credits).map(Decimal).map_err(E::custom)
            }

            fn visit_i64<E: Error>(self, credits: i64) -> Result<Decimal, E> {
                let credits = u64::try_from(credits)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(credits), &self))?;
                self.visit_u64(credits)
            }
        }

        deserializer.deserialize_any(Amount)
    }
}
