//! One kind of window of one scope: what was admitted in it, and its limits.

use crate::replay::{Call, LARGEST, Limits, TokenType, Unit, Used, WindowKind, WindowUsage};

/// The window of a kind that was written last.
#[derive(Clone, Debug)]
pub(super) struct Window {
    kind: WindowKind,
    /// "The index of a window is stored with the counts of each scope and window kind, and moves only when those are
    /// written".
    index: u64,
    admissions: Vec<Admission>,
    in_force: WindowLimits,
    pending: Option<Pending>,
}

/// What one admitted call added.
#[derive(Clone, Copy, Debug)]
struct Admission {
    requests: u64,
    input: u64,
    output: u64,
}

/// What limits say about one kind of window.
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
    /// The window open now, with nothing counted in it.
    pub(super) fn opened(kind: WindowKind, now: u64, in_force: WindowLimits) -> Self {
        Self { kind, index: index_of(kind, now), admissions: Vec::new(), in_force, pending: None }
    }

    /// What it is when it is written now: the three rules of the clock.
    pub(super) fn as_of(&self, now: u64) -> Self {
        let computed = index_of(self.kind, now);
        if computed > self.index {
            self.next(computed)
        } else if self.is_far_behind(now) {
            self.carried_to(computed)
        } else {
            // "It is one behind: the stored window stays. A small step back never re-opens a window."
            self.clone()
        }
    }

    /// What a denial stores: only the mending of a clock that had jumped far ahead.
    pub(super) fn mended(&self, now: u64) -> Self {
        if self.is_far_behind(now) {
            self.carried_to(index_of(self.kind, now))
        } else {
            self.clone()
        }
    }

    pub(super) fn admit(&mut self, call: &Call) {
        self.admissions.push(Admission {
            requests: call.requests,
            input: call.input,
            output: call.output,
        });
    }

    /// Asks for other limits from the next window on.
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

    /// What was asked for last, in force or not.
    pub(super) fn configured(&self) -> WindowLimits {
        self.pending.map_or(self.in_force, |pending| pending.limits)
    }

    pub(super) fn in_force(&self) -> WindowLimits {
        self.in_force
    }

    /// Whether there is a limit, in force or pending.
    pub(super) fn has_limits(&self) -> bool {
        self.in_force.is_any() || self.pending.is_some_and(|pending| pending.limits.is_any())
    }

    /// Counts the list. "A scope counts tokens under the token type in force in that window."
    pub(super) fn used(&self, unit: Unit) -> u64 {
        self.admissions.iter().fold(0, |used, admission| {
            let added = match unit {
                Unit::Requests => admission.requests,
                Unit::Tokens => tokens(self.in_force.token_type, admission.input, admission.output),
            };
            add(used, added)
        })
    }

    /// When its counts start at zero again.
    pub(super) fn resets_at(&self) -> u64 {
        (self.index + 1) * length_ms(self.kind)
    }

    pub(super) fn usage(&self) -> WindowUsage {
        let of = |unit| Used { used: Some(self.used(unit)), limit: self.in_force.limit(unit) };
        WindowUsage { requests: of(Unit::Requests), tokens: of(Unit::Tokens) }
    }

    /// "The computed index is greater than the stored one: a new window, its counts start at zero."
    fn next(&self, computed: u64) -> Self {
        let mut window = self.clone();
        window.index = computed;
        window.admissions.clear();
        if let Some(pending) = self.pending
            && pending.from <= computed
        {
            window.in_force = pending.limits;
            window.pending = None;
        }
        window
    }

    /// "It is further behind (a clock that had jumped far ahead was mended): the computed index is taken and the counts
    /// are carried over; a pending change comes at the earlier of its own index and the one after the computed."
    fn carried_to(&self, computed: u64) -> Self {
        let mut window = self.clone();
        window.index = computed;
        window.pending =
            self.pending.map(|pending| Pending { from: pending.from.min(computed + 1), ..pending });
        window
    }

    fn is_far_behind(&self, now: u64) -> bool {
        index_of(self.kind, now) + 1 < self.index
    }
}

impl WindowLimits {
    pub(super) const NONE: Self =
        Self { requests: None, tokens: None, token_type: TokenType::Total };

    pub(super) fn of(limits: &Limits, kind: WindowKind) -> Self {
        let (requests, tokens) = match kind {
            WindowKind::Minute => (limits.requests_per_minute, limits.tokens_per_minute),
            WindowKind::Day => (limits.requests_per_day, limits.tokens_per_day),
        };
        // "`Total` in a window kind without a token limit".
        let token_type = if tokens.is_some() { limits.token_type } else { TokenType::Total };
        Self { requests, tokens, token_type }
    }

    pub(super) fn limit(&self, unit: Unit) -> Option<u64> {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
        }
    }

    fn is_any(&self) -> bool {
        self.requests.is_some() || self.tokens.is_some()
    }
}

/// How many tokens a token type counts.
pub(super) fn tokens(token_type: TokenType, input: u64, output: u64) -> u64 {
    match token_type {
        TokenType::Total => input + output,
        TokenType::Output => output,
        TokenType::Input => input,
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
    match kind {
        WindowKind::Minute => 60_000,
        WindowKind::Day => 86_400_000,
    }
}
