//! The comparison of what the server has stored with what the oracle has counted.

use std::fmt;

use limiter_core::{Record, ScopeState, Stops, Thresholds, Timestamp, Unit, Window};

use super::Oracle;
use super::level::Level;
use super::scope::Scope;
use crate::server::{Server, Snapshot};

impl Oracle {
    /// Describes how the stored levels differ from the oracle's, if they do.
    pub(crate) fn differs(&self, server: &Server) -> Option<String> {
        if !server.keys.keys().eq(self.levels.keys()) {
            return Some("a level is there that must not be, or is not there".to_owned());
        }
        let pairs = server.keys.values().zip(&self.levels);
        pairs.into_iter().find_map(|(stored, (number, level))| {
            let differs = level.differs(&stored.stored)?;
            Some(format!("level {number}: {differs}"))
        })
    }

    /// Describes how the slots that the server has differ from those that are held, if they do.
    pub(crate) fn slots_differ(&self, server: &Server) -> Option<String> {
        let (is, must) = (server.slots(), self.slots());
        (is != must).then(|| format!("{is:?}, must be {must:?}"))
    }
}

impl Level {
    /// Describes how a stored level differs, if it does.
    fn differs(&self, stored: &Snapshot) -> Option<String> {
        if let Some(damage) = &stored.damage {
            return Some(format!("corrupt: {damage}"));
        }
        let state = &stored.state;
        let mut differs = String::new();
        let expires_at = state.expires_at().map(Timestamp::unix_ms);
        compare(&mut differs, "expiry", expires_at, self.expires_at);
        let credits = state.credits();
        compare(&mut differs, "spent", credits.spent.millionths(), self.spent);
        compare(
            &mut differs,
            "budget",
            credits.budget.map(|budget| budget.millionths()),
            self.budget,
        );
        let budget = cells(state.global().record(), state.thresholds()).pop().map(|cell| cell.mark);
        compare(&mut differs, "fired thresholds of the budget", budget, Some(self.fired.len()));
        let thresholds = state.thresholds();
        let same = thresholds.percents().eq(self.thresholds.iter().copied());
        compare(&mut differs, "thresholds as configured", same, true);
        let parallel = state.parallel_limits().map(|(id, limit)| (id.scope as usize, limit));
        let limits = self.slots.iter().enumerate();
        let limits = limits.filter_map(|(scope, slots)| Some((scope, slots.limit?)));
        compare(&mut differs, "parallel limits", parallel.eq(limits), true);
        let mut assets = state.assets();
        let of_asset = assets.next().map(|(_, listed, scope)| (listed, scope));
        let stored = [Some((true, state.global())), of_asset];
        for ((stored, must), name) in stored.into_iter().zip(&self.scopes).zip(NAMES) {
            compare(&mut differs, name, stored.is_some(), must.is_some());
            let (Some((listed, scope)), Some(must)) = (stored, must) else { continue };
            compare(&mut differs, "listed", listed, must.listed);
            must.compare(scope, state.thresholds(), name, &mut differs);
        }
        (!differs.is_empty()).then_some(differs)
    }
}

fn compare<T: PartialEq + fmt::Debug>(differs: &mut String, what: &str, is: T, must: T) {
    if is != must {
        *differs += &format!("{what}: {is:?}, must be {must:?}; ");
    }
}

impl Scope {
    /// Describes how a stored scope differs, if it does.
    pub(super) fn compare(
        &self,
        scope: &ScopeState,
        thresholds: Thresholds,
        name: &str,
        differs: &mut String,
    ) {
        let record = scope.record();
        let cells = cells(record, thresholds);
        for (must, window) in self.windows.iter().zip([Window::Minute, Window::Day]) {
            let mut compare = |what: &str, is: &dyn fmt::Debug, must: &dyn fmt::Debug| {
                let (is, must) = (format!("{is:?}"), format!("{must:?}"));
                if is != must {
                    *differs +=
                        &format!("{what} of the {window} of {name}: {is}, must be {must}; ");
                }
            };
            let counts = record.windows().any(|counted| counted == window);
            compare("counted", &counts, &(window == Window::Day || must.is_limited()));
            if !counts {
                continue;
            }
            compare("end", &record.span(window).end.unix_ms(), &must.end);
            let limits = |of: &limiter_core::Limits| UNITS.map(|unit| of.get(window, unit));
            compare("limits", &limits(&record.limits()), &must.limits);
            compare("pending limits", &scope.pending(window).map(limits), &must.pending);
            for (at, unit) in UNITS.into_iter().enumerate() {
                let limited = cells
                    .iter()
                    .find(|cell| cell.is_limited && (cell.window, cell.unit) == (window, unit));
                if let Some(cell) = limited {
                    compare("used", &cell.used, &must.used[at]);
                    compare("fired thresholds", &cell.mark, &must.fired[at].len());
                }
            }
            if window == Window::Day {
                let account = record.account();
                let is =
                    (account.requests(), account.input_tokens(), account.credits().millionths());
                compare("account", &is, &(must.used[0], must.used[1], must.credits));
            }
        }
    }
}

/// The count of a stored cell.
struct Cell {
    window: Window,
    unit: Unit,
    is_limited: bool,
    used: u64,
    mark: usize,
}

fn cells(record: &Record, thresholds: Thresholds) -> Vec<Cell> {
    let stored = record.stored();
    let cells = stored.windows.iter().flat_map(|window| &window.cells);
    let cell = |(counted, cell): (limiter_core::Counted, &limiter_core::Cell)| {
        let mark = usize::from(cell.mark);
        let stops = Stops::new(counted.limit, thresholds);
        let floor = stops.floors().get(mark).copied().unwrap_or(0);
        Cell {
            window: counted.window,
            unit: counted.unit,
            is_limited: counted.limit.is_some(),
            used: (stops.cap() - cell.value - floor).cast_unsigned(),
            mark,
        }
    };
    record.counted().zip(cells).map(cell).collect()
}

const UNITS: [Unit; 2] = [Unit::Requests, Unit::Tokens];
const NAMES: [&str; 2] = ["all calls", "the asset"];
