//! Every short sequence of some letters.

use crate::replay::Operation;

/// Every sequence of at most so many letters, as the history that it spells, the shorter ones first.
#[derive(Clone, Debug)]
pub struct Sequences<L: 'static> {
    alphabet: &'static [L],
    depth: u32,
    length: u32,
    /// Among those of this length, whose letters are its digits.
    number: u64,
    history: fn(&[L]) -> Vec<Operation>,
}

impl<L> Sequences<L> {
    pub(super) const fn of(
        alphabet: &'static [L],
        depth: u32,
        history: fn(&[L]) -> Vec<Operation>,
    ) -> Self {
        Self { alphabet, depth, length: 0, number: 0, history }
    }

    /// How many letters there are.
    #[must_use]
    pub const fn letters(&self) -> u64 {
        self.alphabet.len() as u64
    }

    /// How many sequences there are, from the shortest on.
    #[must_use]
    pub fn total(&self) -> u64 {
        (0..=self.depth).map(|length| self.letters().pow(length)).sum()
    }
}

impl<L: Copy> Iterator for Sequences<L> {
    type Item = Vec<Operation>;

    fn next(&mut self) -> Option<Self::Item> {
        let letters = self.letters();
        if self.number == letters.pow(self.length) {
            self.number = 0;
            self.length += 1;
        }
        if self.length > self.depth {
            return None;
        }
        let digits =
            (0..self.length).rev().map(|position| self.number / letters.pow(position) % letters);
        let spelled: Vec<_> = digits.map(|digit| self.alphabet[digit as usize]).collect();
        self.number += 1;
        Some((self.history)(&spelled))
    }
}
