//! The messages of refusals, as `docs/messages.txt` lists them.

#[path = "../../../tests/messages.rs"]
mod listed;

use limiter::{AssetId, Decision, InvalidValue, ReservationError, StoreError};

use self::listed::variants;
use crate::gateway::{BROKEN_OFF, NO_MODEL};
use crate::path;
use crate::refusal::Refusal;

#[test]
fn messages_are_as_listed() {
    let Decision::Denied(denied) = Decision::key_unknown(None, None) else { unreachable!() };
    let invalid: InvalidValue = AssetId::new("").unwrap_err();
    let cause = "the cause is not part of the message";
    let refusals = variants!(Refusal {
        NoAccessKey,
        Denied(denied),
        TooManyReservations(ReservationError::KeyUnknown),
        Invalid(invalid),
        Malformed("the path, a header or the body is malformed".into()),
        TooLarge { max_bytes: 1024 },
        Store(StoreError::unavailable(cause)),
        Identify(cause.into()),
        Panicked("asset"),
    });
    let unknown = Refusal::Store(StoreError::outcome_unknown(cause)).to_string();
    let malformed = ["/%", "/%FF", "/.."].map(|path| path::readable(path).unwrap_err());
    let malformed = malformed.into_iter().chain([NO_MODEL, BROKEN_OFF]);
    let malformed = malformed.map(|why| ("Refusal::Malformed".to_owned(), why.to_owned()));
    let unknown = [("Refusal::Store of an unknown outcome".to_owned(), unknown)];
    listed::check(env!("CARGO_PKG_NAME"), refusals.into_iter().chain(unknown).chain(malformed));
}
