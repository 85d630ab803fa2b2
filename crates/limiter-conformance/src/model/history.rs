//! The account of each day, once it has ended.

use std::collections::BTreeMap;

use crate::replay::{Cost, Day, ScopeName, Window};

use super::calendar;
use super::key::Key;

/// The account of one scope when its day, or a part of it, was closed.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    /// The end of the day.
    pub(super) end: i64,
    pub(super) scope: ScopeName,
    pub(super) account: Cost,
}

impl Key {
    /// "One row a day and scope with the account of that day …; a day not yet rolled is read from the live record." A
    /// day is one of the key's zone as it is now.
    pub(super) fn history(&self, days: u64, now: i64) -> Vec<Day> {
        if !self.is_registered() {
            return Vec::new();
        }
        let start_of = |instant| calendar::window(Window::Day, instant, &self.zone);
        let start_of = |instant| start_of(instant).map_or(instant, |(start, _)| start);
        let mut first = start_of(now);
        for _ in 1..days.min(KEPT_DAYS) {
            first = calendar::start_before(Window::Day, first, &self.zone);
        }
        let live = self.scopes.iter().map(|(name, scope)| {
            let (end, account) = scope.rebased(now, &self.zone).day();
            Closed { end, scope: name.clone(), account }
        });
        let mut rows: BTreeMap<i64, BTreeMap<ScopeName, Cost>> = BTreeMap::new();
        for Closed { end, scope, account } in self.closed.iter().cloned().chain(live) {
            let start = start_of(end - 1);
            if start >= first && account != Cost::default() {
                let row = rows.entry(start).or_default().entry(scope).or_default();
                let both = [(&mut row.requests, account.requests), (&mut row.input, account.input)];
                let others =
                    [(&mut row.output, account.output), (&mut row.credits, account.credits)];
                for (sum, more) in both.into_iter().chain(others) {
                    *sum = (*sum + more).min(crate::replay::LARGEST);
                }
            }
        }
        let day = |(start, scopes): (i64, BTreeMap<_, _>)| Day {
            start,
            scopes: scopes.into_iter().collect(),
        };
        rows.into_iter().map(day).collect()
    }
}

/// "For 35 days unless set otherwise".
const KEPT_DAYS: u64 = 35;
