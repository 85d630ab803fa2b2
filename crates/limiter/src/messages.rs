//! The messages of this crate, as `docs/messages.txt` lists them.

#[path = "../../../tests/messages.rs"]
mod listed;

use std::error::Error;

use limiter_core::{BoxError, Decision, ReservationError};

use self::listed::variants;
use crate::events::Missed;
use crate::price::PriceTableError;
use crate::provider::{Api, RequestError};
use crate::stream::StreamError;

#[test]
fn messages_are_as_listed() {
    let table = variants!(PriceTableError {
        Length { length: 300 },
        Twice { model: "gpt-5*".to_owned() },
        TooMany,
    });
    let request = variants!(RequestError {
        NotJson,
        NotAnObject,
        Repeated { name: "max_tokens" },
        LetterCase { name: "max_tokens" },
        Model,
    });
    let Decision::Denied(denied) = Decision::key_unknown(None, None) else { unreachable!() };
    let stream = variants!(StreamError {
        Denied(denied),
        Unknown(ReservationError::KeyUnknown),
        Uncounted,
        Upstream(BoxError::from("the cause is not part of the message")),
    });
    let api = "openai".parse::<Api>().unwrap_err();
    let structs: [(&str, &dyn Error); 2] =
        [("UnknownApi", &api), ("Missed", &Missed { events: 12 })];
    let structs = structs.map(|(name, error)| (name.to_owned(), error.to_string()));
    let all = table.into_iter().chain(request).chain(stream).chain(structs);
    listed::check(env!("CARGO_PKG_NAME"), all);
}
