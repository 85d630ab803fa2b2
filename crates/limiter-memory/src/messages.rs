//! The messages of this crate, as `docs/messages.txt` lists them.

#[path = "../../../tests/messages.rs"]
mod listed;

use limiter_core::KeysError;

use self::listed::variants;
use crate::snapshot::RestoreError;

#[test]
fn messages_are_as_listed() {
    let cause = || KeysError::NameTaken("ci".to_owned());
    let errors = variants!(RestoreError {
        Format { found: 2, known: 3 },
        Inconsistent(cause()),
        Gap { expected: 7, found: 9 },
        Change { number: 7, source: cause() },
    });
    listed::check(env!("CARGO_PKG_NAME"), errors);
}
