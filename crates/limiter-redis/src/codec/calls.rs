//! What scripts are given.

use limiter_core::{Charge, Limits, TokenType, Window, WindowLimits};

use super::{Incarnation, NO_LIMIT, Stamp};

/// Whether any key of the name is meant, or the one that a handle was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Named,
    Only(Incarnation),
}

/// The calls of a group, as `decide.lua` reads them.
#[derive(Debug)]
pub(crate) struct Calls(Vec<u8>);

impl Calls {
    /// No call yet. The stamp is of the limits that the caller knows.
    pub(crate) fn new(mode: Mode, known: Stamp, calls: usize) -> Self {
        let mut bytes = Vec::with_capacity(9 + 28 * calls);
        let known = match mode {
            Mode::Named => {
                bytes.push(0);
                known.bytes()
            }
            Mode::Only(incarnation) => {
                bytes.push(1);
                // What is known may be of an earlier key of the same id, at the same version.
                let known = Some(known).filter(|known| known.incarnation() == incarnation);
                let [a, b, c, d, ..] = known.unwrap_or_default().bytes();
                let [e, f, g, h] = incarnation.bytes();
                [a, b, c, d, e, f, g, h]
            }
        };
        bytes.extend_from_slice(&known);
        Self(bytes)
    }

    pub(crate) fn push(&mut self, charge: &Charge) {
        let numbers = [
            charge.requests(),
            charge.input_tokens(),
            charge.output_tokens(),
            charge.credits().millionths(),
        ];
        for number in numbers {
            push_int::<7>(&mut self.0, number.cast_signed());
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Limits as `create.lua` and `configure.lua` read them.
pub(crate) fn packed_limits(bytes: &mut Vec<u8>, limits: &Limits) {
    let windows = Window::ALL.map(|window| limits.of(window));
    for limits in windows {
        push_limit(bytes, limits.requests());
        push_limit(bytes, limits.tokens());
    }
    bytes.extend(windows.map(type_code));
}

pub(crate) fn push_limit(bytes: &mut Vec<u8>, limit: Option<u64>) {
    push_int::<7>(bytes, limit.map_or(NO_LIMIT, u64::cast_signed));
}

/// The lowest bytes of a number.
pub(crate) fn push_int<const N: usize>(bytes: &mut Vec<u8>, number: i64) {
    bytes.extend(number.to_le_bytes().into_iter().take(N));
}

const fn type_code(limits: WindowLimits) -> u8 {
    match limits.token_type() {
        TokenType::Output => 1,
        TokenType::Input => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Once it did, where both keys were at the same version: the script told no limits, and calls which it had
    /// charged ended in an error.
    #[test]
    fn a_handle_does_not_take_the_limits_of_an_earlier_key_for_its_own() {
        let stamp = |version, incarnation| Stamp([version, 0, 0, 0, incarnation, 2, 3, 4]);
        let handle = Mode::Only(stamp(1, 9).incarnation());
        let sent = |known| Calls::new(handle, known, 0).into_bytes();
        assert_eq!(sent(stamp(7, 9)), [1, 7, 0, 0, 0, 9, 2, 3, 4]);
        assert_eq!(sent(stamp(7, 8)), [1, 0, 0, 0, 0, 9, 2, 3, 4]);
        assert_eq!(sent(Stamp::default()), [1, 0, 0, 0, 0, 9, 2, 3, 4]);
    }
}
