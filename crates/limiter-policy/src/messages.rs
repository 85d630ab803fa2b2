//! The messages of this crate, as `docs/messages.txt` lists them.

#[path = "../../../tests/messages.rs"]
mod listed;

use std::time::Duration;

use self::listed::variants;
use crate::error::Outage;

#[test]
fn messages_are_as_listed() {
    let last_failure = "no answer within the deadline of 250ms";
    let errors = variants!(Outage {
        Deadline { after: Duration::from_millis(250) },
        NoRuntime,
        GivenUp { last_failure: last_failure.into() },
    });
    listed::check(env!("CARGO_PKG_NAME"), errors);
}
