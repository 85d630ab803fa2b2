//! One kind of window of one scope: its charges and its limits.

use std::collections::BTreeMap;

use crate::replay::{
    Call, LARGEST, Limits, TokenType, Unit, Used, Window as WindowKind, WindowUsage,
};

use super::fired::Fired;

/// The last written window of a kind.
#[derive(Clone, Debug)]
pub(super) struct Window {
    kind: WindowKind,
    /// "The index of a window is stored with the counts of each scope and window kind, and moves only when those are
    /// written".
    index: u64,
    /// "How often it was rebased".
    rebases: u64,
    /// "Which counting of the scope it belongs to".
    counting: u64,
    /// Requests, input tokens and output tokens that each admitted call or settlement added; negative for a refund.
    charges: Vec<[i128; 3]>,
    in_force: WindowLimits,
    pending: Option<Pending>,
    fired: BTreeMap<Unit, Fired>,
}

/// "The identity of a window, by which a reservation finds it again, is its index, how often it was rebased, and which
/// counting of the scope it belongs to".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowId {
    kind: WindowKind,
    index: u64,
    rebases: u64,
    counting: u64,
}

/// The limits of one kind of window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowLimits {
    pub(super) requests: Option<u64>,
    pub(super) tokens: Option<u64>,
    /// "`Total` in a window kind without a token limit".
    pub(super) token_type: TokenType,
}

/// "At most one pending change with the window index from which it holds".
#[derive(Clone, Copy, Debug)]
struct Pending {
    limits: WindowLimits,
    from: u64,
}

impl Window {
    /// Creates the window open now, with counts of zero.
    pub(super) fn opened(
        kind: WindowKind,
        now: u64,
        in_force: WindowLimits,
        counting: u64,
    ) -> Self {
        let (index, charges, fired) = (index_of(kind, now), Vec::new(), BTreeMap::new());
        Self { kind, index, rebases: 0, counting, charges, in_force, pending: None, fired }
    }

    pub(super) fn id(&self) -> WindowId {
        let Self { kind, index, rebases, counting, .. } = *self;
        WindowId { kind, index, rebases, counting }
    }

    /// Returns the window as written now, by the three rules of the clock.
    pub(super) fn as_of(&self, now: u64) -> Self {
        let computed = index_of(self.kind, now);
        if computed > self.index { self.next(computed) } else { self.rebased(now) }
    }

    /// Applies a denial: only the rebase after a clock that had jumped far ahead.
    pub(super) fn rebased(&self, now: u64) -> Self {
        let computed = index_of(self.kind, now);
        if computed + 1 < self.index {
            self.carried_to(computed)
        } else {
            // "It is one behind: the stored window stays. A small step back never re-opens a window."
            self.clone()
        }
    }

    pub(super) fn admit(&mut self, call: &Call) {
        self.charges.push(figures(call));
    }

    pub(super) fn correct(&mut self, admitting: &[WindowId], estimate: &Call, actual: &Call) {
        let (estimate, actual) = (figures(estimate), figures(actual));
        let [requests, input, output] = [0, 1, 2].map(|figure| actual[figure] - estimate[figure]);
        self.charges.push(if admitting.contains(&self.id()) {
            // "In a window that is still the one that admitted the call, the count becomes what it would have been had
            // `actual` been charged."
            [requests, input, output]
        } else {
            // "In a window that has closed since, or that did not count the call, a surplus is forgotten, and an overrun
            // (what `actual` exceeds the estimate by, input and output each) is charged to the window open now."
            [0, input.max(0), output.max(0)]
        });
    }

    /// Changes the limits from the next window on.
    pub(super) fn change(&mut self, limits: WindowLimits) {
        // "Saving what is already configured changes nothing."
        if limits == self.configured() {
            return;
        }
        // "A second change in the same window replaces the pending one, and a change back to what is in force drops it."
        self.pending = if limits == self.in_force {
            None
        } else {
            Some(Pending { limits, from: self.index + 1 })
        };
    }

    /// Returns the configured limits: the pending ones, or else those in force.
    pub(super) fn configured(&self) -> WindowLimits {
        self.pending.map_or(self.in_force, |pending| pending.limits)
    }

    pub(super) fn in_force(&self) -> WindowLimits {
        self.in_force
    }

    /// Returns whether there is a limit, in force or pending.
    pub(super) fn has_limits(&self) -> bool {
        self.in_force.is_any() || self.pending.is_some_and(|pending| pending.limits.is_any())
    }

    /// Sums up the charges. "A scope counts tokens under the token type in force in that window."
    pub(super) fn used(&self, unit: Unit) -> u64 {
        let used = self.charges.iter().fold(0, |used: i128, &[requests, input, output]| {
            let tokens = tokens(self.in_force.token_type, input, output);
            let added = if unit == Unit::Requests { requests } else { tokens };
            // "A count that would pass 2^53 − 1 stays there, and is lowered from there."
            (used + added).clamp(0, LARGEST.into())
        });
        u64::try_from(used).expect("it was kept within its bounds")
    }

    /// Returns the thresholds of one of its counts that have fired.
    pub(super) fn fired(&mut self, unit: Unit) -> &mut Fired {
        self.fired.entry(unit).or_default()
    }

    /// Returns the end of the window, when its counts start at zero again.
    pub(super) fn resets_at(&self) -> u64 {
        (self.index + 1) * length_ms(self.kind)
    }

    pub(super) fn usage(&self) -> WindowUsage {
        let of = |unit| Used { used: Some(self.used(unit)), limit: self.in_force.limit(unit) };
        WindowUsage { requests: of(Unit::Requests), tokens: of(Unit::Tokens) }
    }

    /// "The computed index is greater than the stored one: a new window, its counts start at zero." No threshold of it
    /// has fired.
    fn next(&self, computed: u64) -> Self {
        let mut window = self.clone();
        window.index = computed;
        window.charges.clear();
        window.fired.clear();
        if let Some(pending) = self.pending
            && pending.from <= computed
        {
            window.in_force = pending.limits;
            window.pending = None;
        }
        window
    }

    /// "It is further behind (a clock that had jumped far ahead was set right): the computed index is taken and the counts
    /// are carried over; a pending change comes at the earlier of its own index and the one after the computed." So are
    /// the thresholds that have fired.
    fn carried_to(&self, computed: u64) -> Self {
        let mut window = self.clone();
        window.index = computed;
        // "After a rebase every earlier window is closed."
        window.rebases += 1;
        window.pending =
            self.pending.map(|pending| Pending { from: pending.from.min(computed + 1), ..pending });
        window
    }
}

impl WindowLimits {
    pub(super) const NONE: Self =
        Self { requests: None, tokens: None, token_type: TokenType::Total };

    pub(super) fn of(limits: &Limits, kind: WindowKind) -> Self {
        let (requests, tokens) = if kind == WindowKind::Minute {
            (limits.requests_per_minute, limits.tokens_per_minute)
        } else {
            (limits.requests_per_day, limits.tokens_per_day)
        };
        // "`Total` in a window kind without a token limit".
        let token_type = if tokens.is_some() { limits.token_type } else { TokenType::Total };
        Self { requests, tokens, token_type }
    }

    pub(super) fn limit(&self, unit: Unit) -> Option<u64> {
        if unit == Unit::Requests { self.requests } else { self.tokens }
    }

    fn is_any(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some()
    }
}

/// Returns requests, input tokens and output tokens.
fn figures(call: &Call) -> [i128; 3] {
    [call.requests, call.input, call.output].map(i128::from)
}

/// Returns the number of tokens that a token type counts.
pub(super) fn tokens<N: std::ops::Add<Output = N>>(
    token_type: TokenType,
    input: N,
    output: N,
) -> N {
    match token_type {
        TokenType::Output => output,
        TokenType::Input => input,
        _ => input + output,
    }
}

/// "A count that would pass 2^53 − 1 stays there".
pub(super) fn add(count: u64, added: u64) -> u64 {
    (count + added).min(LARGEST)
}

/// "Index = floor(unix_ms / length)".
fn index_of(kind: WindowKind, now: u64) -> u64 {
    now / length_ms(kind)
}

fn length_ms(kind: WindowKind) -> u64 {
    if kind == WindowKind::Minute { 60_000 } else { 86_400_000 }
}
