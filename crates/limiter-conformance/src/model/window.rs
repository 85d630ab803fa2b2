//! One kind of window of one scope: its charges and its limits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::replay::{Call, Cost, LARGEST, TimeZone, Unit, Window as WindowKind};

use super::calendar;
use super::fired::Fired;

/// The last written window of a kind.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) kind: WindowKind,
    /// No other window has it: "after a rebase every earlier window is closed, and a scope that was dropped and comes back
    /// never finds its earlier windows".
    id: u64,
    /// "The end of a window is stored with its counts, and moves only when those are written". `Ever` has none.
    pub(super) end: Option<i64>,
    entries: Vec<Entry>,
    rules: BTreeMap<Unit, Counted>,
    /// "At most one pending set", from the next window on.
    pending: Option<Amounts>,
}

/// The limits of one window, by unit.
pub(super) type Amounts = BTreeMap<Unit, u64>;

/// The amounts that an operation added.
#[derive(Clone, Debug)]
enum Entry {
    /// A charge.
    Charge(Figures),
    /// The correction of a charge.
    Correction {
        /// The place of the charge among the entries, if this window admitted it.
        of: Option<usize>,
        /// The correction of a count that had counted the charge.
        difference: Figures,
        /// "What `actual` exceeds the estimate by, each amount by itself", for any other count.
        overrun: Figures,
    },
}

/// Requests, input tokens, output tokens and credits.
pub(super) type Figures = [i128; 4];

/// A limit in force.
#[derive(Clone, Debug)]
struct Counted {
    limit: u64,
    /// The amount that the count began with.
    base: u64,
    /// The entries from here on are counted.
    from: usize,
    /// Whether the count began with the earlier entries too.
    knows_earlier: bool,
    fired: Fired,
}

/// A window that has admitted a call, and the place of its charge there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    window: u64,
    place: usize,
}

/// How a limit starts that is new at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Starts {
    /// Whether it is of a global scope, which counts credits for ever.
    pub(super) is_global: bool,
    /// Whether its scope has an account of the day.
    pub(super) has_account: bool,
}

impl Window {
    /// Creates the current window, with nothing counted and no limits.
    pub(super) fn begun(kind: WindowKind, now: i64, zone: &TimeZone) -> Self {
        let end = calendar::window(kind, now, zone).map(|(_, end)| end);
        let (entries, rules) = (Vec::new(), BTreeMap::new());
        Self { kind, id: new_id(), end, entries, rules, pending: None }
    }

    /// Returns whether the window has ended, and the next one begins with the first write.
    pub(super) fn has_passed(&self, now: i64) -> bool {
        self.end.is_some_and(|end| end <= now)
    }

    /// Returns the window as written now, by the three rules of the clock.
    pub(super) fn as_of(&self, now: i64, zone: &TimeZone) -> Self {
        // "The window of now is later than the stored one: a new window, its counts start at zero."
        if self.has_passed(now) { self.next(now, zone) } else { self.rebased(now, zone) }
    }

    /// Returns the window after a denial: only a clock that had jumped far ahead moves it.
    pub(super) fn rebased(&self, now: i64, zone: &TimeZone) -> Self {
        let Some(end) = self.end else { return self.clone() };
        let (start, _) = calendar::window(self.kind, end - 1, zone).expect("it ends");
        if calendar::start_before(self.kind, start, zone) <= now {
            // "It is the one directly before: the stored window stays. A small step back never re-opens a window."
            return self.clone();
        }
        // "It is further back (a clock that had jumped far ahead was set right): the window of now is taken and the
        // counts are carried over; a pending change comes with the window after it."
        let now = Self::begun(self.kind, now, zone);
        Self { id: now.id, end: now.end, ..self.clone() }
    }

    fn next(&self, now: i64, zone: &TimeZone) -> Self {
        let mut next = Self::begun(self.kind, now, zone);
        let limits = self.pending.clone().unwrap_or_else(|| self.in_force());
        next.rules =
            limits.into_iter().map(|(unit, limit)| (unit, Counted::from_start(limit))).collect();
        next
    }

    /// Sets what is used to zero. The limits stay, and so does what is pending.
    pub(super) fn reset(&mut self) {
        self.id = new_id();
        self.entries.clear();
        for rule in self.rules.values_mut() {
            *rule = Counted::from_start(rule.limit);
        }
    }

    /// Adds a charge.
    pub(super) fn admit(&mut self, call: &Call) -> Admitted {
        self.entries.push(Entry::Charge(figures(call)));
        Admitted { window: self.id, place: self.entries.len() - 1 }
    }

    /// Corrects a charge.
    pub(super) fn correct(&mut self, admitting: &[Admitted], charged: &Call, actual: &Call) {
        let entry = self.correction(admitting, charged, actual);
        self.entries.push(entry);
    }

    fn correction(&self, admitting: &[Admitted], charged: &Call, actual: &Call) -> Entry {
        let (charged, actual) = (figures(charged), figures(actual));
        let difference = [0, 1, 2, 3].map(|figure| actual[figure] - charged[figure]);
        let of = admitting.iter().find(|it| it.window == self.id).map(|it| it.place);
        Entry::Correction { of, difference, overrun: difference.map(|it| it.max(0)) }
    }

    /// Returns what a correction would add to the count of a rule.
    pub(super) fn added(
        &self,
        unit: Unit,
        admitting: &[Admitted],
        charged: &Call,
        actual: &Call,
    ) -> i128 {
        let correction = self.correction(admitting, charged, actual);
        self.rules.get(&unit).map_or(0, |rule| rule.amount(unit, &correction))
    }

    /// Returns the amount used of a rule.
    pub(super) fn used(&self, unit: Unit) -> u64 {
        self.rules.get(&unit).map_or(0, |rule| rule.used(unit, &self.entries))
    }

    /// Returns whether a limit has counted anything: also if all of it was given back, once a threshold has fired.
    pub(super) fn has_counted(&self) -> bool {
        let has = |(unit, rule): (&Unit, &Counted)| {
            rule.used(*unit, &self.entries) > 0 || rule.fired.has_any()
        };
        self.rules.iter().any(has)
    }

    /// Returns what was counted whether limited or not.
    pub(super) fn account(&self) -> Cost {
        let count = |unit| Counted::from_start(0).used(unit, &self.entries);
        Cost {
            asset: None,
            requests: count(Unit::Requests),
            input: count(Unit::InputTokens),
            output: count(Unit::OutputTokens),
            credits: count(Unit::Credits),
        }
    }

    /// Returns the limits in force.
    pub(super) fn in_force(&self) -> Amounts {
        self.rules.iter().map(|(unit, rule)| (*unit, rule.limit)).collect()
    }

    /// Returns the limits from the next window on, if they are others.
    pub(super) fn pending(&self) -> Option<&Amounts> {
        self.pending.as_ref()
    }

    /// Returns the configured limits: the pending ones, or else those in force.
    pub(super) fn configured(&self) -> Amounts {
        self.pending.clone().unwrap_or_else(|| self.in_force())
    }

    /// Returns whether there is a limit, in force or pending.
    pub(super) fn has_limits(&self) -> bool {
        !self.rules.is_empty() || self.pending.as_ref().is_some_and(|limits| !limits.is_empty())
    }

    /// Changes the limits from the next window on. "A second change in the same window replaces the pending one, and a
    /// change back to what is in force drops it."
    pub(super) fn change_next(&mut self, limits: &Amounts) {
        self.pending = (*limits != self.in_force()).then(|| limits.clone());
    }

    /// Changes the limits at once: "what was used stays used; a rule that was not counted so far starts at the account
    /// where that counts it (units of the day; `Tokens` as input + output; credits for ever), else at zero". Returns the
    /// thresholds that this reaches, with their units.
    pub(super) fn change_now(
        &mut self,
        limits: &Amounts,
        starts: Starts,
        thresholds: &[u8],
    ) -> Vec<(Unit, u8)> {
        self.pending = None;
        let mut fired = Vec::new();
        let before = std::mem::take(&mut self.rules);
        for (&unit, &limit) in limits {
            let known = before.get(&unit);
            let mut rule = match known {
                Some(rule) => rule.clone(),
                None => self.started(unit, starts),
            };
            rule.limit = limit;
            if known.is_none_or(|known| known.limit != limit) {
                let used = rule.used(unit, &self.entries);
                fired.extend(
                    rule.fired.derive(thresholds, limit, used).iter().map(|it| (unit, *it)),
                );
            }
            self.rules.insert(unit, rule);
        }
        fired
    }

    fn started(&self, unit: Unit, starts: Starts) -> Counted {
        let is_account = match self.kind {
            WindowKind::Day => starts.has_account,
            WindowKind::Ever => starts.is_global && unit == Unit::Credits,
            _ => false,
        };
        let begun = Counted::from_start(0);
        if !is_account {
            return Counted { from: self.entries.len(), knows_earlier: false, ..begun };
        }
        let account = self.account();
        let base = match unit {
            Unit::Tokens => add(account.input, account.output),
            Unit::Requests => account.requests,
            Unit::InputTokens => account.input,
            Unit::OutputTokens => account.output,
            Unit::Credits => account.credits,
        };
        Counted { base, from: self.entries.len(), ..begun }
    }

    /// Fires the thresholds that were reached, with their units.
    pub(super) fn fire(&mut self, thresholds: &[u8]) -> Vec<(Unit, u8)> {
        self.each_mark(|fired, limit, used| fired.fire(thresholds, limit, used))
    }

    /// Derives the marks again under other thresholds, and fires those that this reaches.
    pub(super) fn rearm(&mut self, thresholds: &[u8]) -> Vec<(Unit, u8)> {
        self.each_mark(|fired, limit, used| fired.derive(thresholds, limit, used))
    }

    fn each_mark(&mut self, fire: impl Fn(&mut Fired, u64, u64) -> Vec<u8>) -> Vec<(Unit, u8)> {
        let mut all = Vec::new();
        for (unit, rule) in &mut self.rules {
            let used = rule.used(*unit, &self.entries);
            all.extend(fire(&mut rule.fired, rule.limit, used).iter().map(|it| (*unit, *it)));
        }
        all
    }
}

impl Counted {
    /// A rule that has counted the whole window.
    fn from_start(limit: u64) -> Self {
        Self { limit, base: 0, from: 0, knows_earlier: true, fired: Fired::default() }
    }

    /// Counts everything again. "A count that would pass 2^53 − 1 stays there, and a later correction moves it by the
    /// difference, at least to 0."
    fn used(&self, unit: Unit, entries: &[Entry]) -> u64 {
        let counted = entries.iter().skip(self.from);
        let used = counted.fold(i128::from(self.base), |used, entry| {
            (used + self.amount(unit, entry)).clamp(0, LARGEST.into())
        });
        u64::try_from(used).expect("it was kept within its bounds")
    }

    fn amount(&self, unit: Unit, entry: &Entry) -> i128 {
        let figures = match entry {
            Entry::Charge(figures) => figures,
            // "In a window that is still the one that admitted the call, the count becomes what it would have been had
            // `actual` been charged."
            Entry::Correction { of: Some(place), difference, .. }
                if self.knows_earlier || *place >= self.from =>
            {
                difference
            }
            // "In a window that has closed since, or that did not count the call, a surplus is forgotten, and an overrun
            // is charged to the window open now."
            Entry::Correction { overrun, .. } => overrun,
        };
        amount(unit, figures)
    }
}

/// Returns the amount that a rule of this unit counts.
pub(super) fn amount(unit: Unit, [requests, input, output, credits]: &Figures) -> i128 {
    match unit {
        Unit::Requests => *requests,
        Unit::Tokens => input + output,
        Unit::InputTokens => *input,
        Unit::OutputTokens => *output,
        Unit::Credits => *credits,
    }
}

/// Returns the figures of a charge.
pub(super) fn figures(call: &Call) -> Figures {
    [call.requests, call.input, call.output, call.credits].map(i128::from)
}

/// "A count that would pass 2^53 − 1 stays there".
fn add(count: u64, added: u64) -> u64 {
    (count + added).min(LARGEST)
}

fn new_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}
