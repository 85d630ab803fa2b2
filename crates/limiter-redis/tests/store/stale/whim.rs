//! Changes of the clients' beliefs before an operation.

use limiter_redis::probe::Beliefs;

use super::clients::Clients;

/// A number that stands for such a change: 0 for none at all, and every call to the first client.
pub(crate) type Whim = u64;

/// Beliefs that were at hand at some time, to be believed again later.
#[derive(Debug, Default)]
pub(crate) struct Saved(Vec<Beliefs>);

/// Digits of a whim.
struct Digits(Whim);

/// Whether the key is to be deleted and made again before the operation.
pub(crate) fn makes_again(whim: Whim) -> bool {
    Digits(whim).below(100) == 1
}

impl Saved {
    /// Changes the beliefs of the clients as the whim says.
    pub(crate) fn befall(&mut self, whim: Whim, clients: &Clients) {
        let mut digits = Digits(whim);
        digits.below(100);
        clients.take_turns(digits.below(3_u64.pow(6)));
        let one = digits.below(3) as usize % clients.all().len();
        let client = &clients.all()[one];
        match digits.below(8) {
            1 => client.mistake_time_by(0),
            // Up to two minutes, or up to two days, in either direction.
            2 => client.mistake_time_by(digits.either(2 * MINUTE_MS)),
            3 => client.mistake_time_by(digits.either(2 * DAY_MS)),
            4 => client.mistake_time_by(digits.either(2)),
            _ => {}
        }
        let other = digits.below(3) as usize % clients.all().len();
        let client = &clients.all()[other];
        match digits.below(12) {
            1 | 2 => client.believe(Beliefs::default()),
            3 | 4 => self.save(client.beliefs(), digits.below(MOST_SAVED as u64)),
            5..=7 if !self.0.is_empty() => {
                let which = digits.below(self.0.len() as u64) as usize;
                client.believe(self.0[which].clone());
            }
            _ => {}
        }
    }

    /// Resets all clients.
    pub(crate) fn clear(&mut self, clients: &Clients) {
        self.0.clear();
        for client in clients.all() {
            client.mistake_time_by(0);
            client.believe(Beliefs::default());
        }
        clients.take_turns(0);
    }

    fn save(&mut self, beliefs: Beliefs, instead: u64) {
        if self.0.len() < MOST_SAVED {
            self.0.push(beliefs);
        } else {
            self.0[instead as usize] = beliefs;
        }
    }
}

impl Digits {
    fn below(&mut self, bound: u64) -> u64 {
        let digit = self.0 % bound;
        self.0 /= bound;
        digit
    }

    fn either(&mut self, most: i64) -> i64 {
        self.below(2 * most.unsigned_abs() + 1) as i64 - most
    }
}

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const MOST_SAVED: usize = 6;
