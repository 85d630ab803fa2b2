//! The report of a run: its figures, side by side with their targets.

use std::fmt::Write;

use super::rates::Load;
use crate::figures::Figures;

/// One line of the table, one entry of `redis.json`.
struct Row {
    name: &'static str,
    target: Target,
    figure: Source,
    meaning: &'static str,
}

/// The target of a figure.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
    /// It is only reported.
    None,
}

/// The source of a figure.
#[derive(Clone, Copy)]
enum Source {
    /// It was measured as it is.
    Measured,
    /// One measured figure divided by another.
    Ratio(&'static str, &'static str),
    /// The difference of two measured figures, divided by a third.
    Beyond(&'static str, &'static str, &'static str),
}

/// Returns the figures for `redis.json`, from all that were measured.
#[must_use]
pub fn report(measured: &Figures) -> Figures {
    let mut report = Figures::default();
    for row in ROWS {
        if let Some(figure) = row.figure(measured) {
            report.add(row.name, figure);
        }
    }
    report
}

/// Formats the table, and the notes that a reader needs.
#[must_use]
pub fn table(measured: &Figures, version: &str) -> String {
    let mut text = format!("{:26} {:>8} {:14} {}\n", "figure", "", "target", "description");
    for row in ROWS {
        let Some(figure) = row.figure(measured) else { continue };
        let digits = if figure < 100.0 { 3 } else { 0 };
        let target = row.target.verdict(figure);
        let _ = writeln!(text, "{:26} {figure:>8.digits$} {target:14} {}", row.name, row.meaning);
    }
    let _ = writeln!(
        text,
        "\n{:26} {:>10} {:>10} {:>10}",
        "decisions a second", "ours", "plain", "limitador"
    );
    for load in Load::ALL {
        let rate = |who| match measured.of(&format!("{}_{who}", load.name)) {
            Some(rate) => format!("{rate:.0}"),
            None => "-".to_owned(),
        };
        let _ = writeln!(
            text,
            "{:26} {:>10} {:>10} {:>10}",
            load.name,
            rate("ours"),
            rate("plain"),
            rate("limitador")
        );
    }
    let _ = writeln!(
        text,
        "\nServer: {version}. Instructions are its own, user space alone, by callgrind; a decision has eight rules, a \
         budget\nand an expiry, and its answer has the rest of each. Rates: medians of rounds in which the \
         clients take turns,\nand of the rounds' own ratios; clients and server share this machine. Bytes: MEMORY \
         USAGE, with ids of 22 characters\nfor keys and of 15 for assets; each character more of an asset's id takes \
         two bytes."
    );
    text
}

impl Row {
    fn figure(&self, measured: &Figures) -> Option<f64> {
        let figure = match self.figure {
            Source::Measured => measured.of(self.name)?,
            Source::Ratio(figure, base) => measured.of(figure)? / measured.of(base)?,
            Source::Beyond(figure, less, base) => {
                (measured.of(figure)? - measured.of(less)?) / measured.of(base)?
            }
        };
        Some((figure * 1000.0).round() / 1000.0)
    }
}

impl Target {
    /// Says whether a figure meets it.
    #[must_use]
    pub fn verdict(self, figure: f64) -> String {
        let (sign, target, met) = match self {
            Self::AtMost(most) => ("<=", most, figure <= most),
            Self::AtLeast(least) => (">=", least, figure >= least),
            Self::None => return String::new(),
        };
        let digits = if target < 100.0 { 2 } else { 0 };
        format!("{sign} {target:.digits$} {}", if met { "met" } else { "MISSED" })
    }
}

const fn row(name: &'static str, target: Target, figure: Source, meaning: &'static str) -> Row {
    Row { name, target, figure, meaning }
}

const fn counted(
    name: &'static str,
    target: Target,
    figure: &'static str,
    base: &'static str,
    meaning: &'static str,
) -> Row {
    row(name, target, Source::Ratio(figure, base), meaning)
}

const TRIVIAL: &str = "instructions_trivial";
const PLAIN: &str = "instructions_plain";

const ROWS: &[Row] = &[
    row(TRIVIAL, Target::None, Source::Measured, "of `return 1`, with one key and two arguments"),
    counted(
        "decision_over_trivial",
        Target::AtMost(4.7),
        PLAIN,
        TRIVIAL,
        "instructions of a full decision, on two records",
    ),
    counted(
        "global_over_trivial",
        Target::AtMost(3.6),
        "instructions_global",
        TRIVIAL,
        "the same of no asset, on one record",
    ),
    counted(
        "denied_over_plain",
        Target::AtMost(1.35),
        "instructions_denied",
        PLAIN,
        "the requests of the day are used up",
    ),
    counted(
        "month_over_plain",
        Target::AtMost(1.08),
        "instructions_month",
        PLAIN,
        "a ninth limit: requests per month",
    ),
    counted(
        "rollover_over_plain",
        Target::AtMost(1.35),
        "instructions_rollover_manual",
        "instructions_plain_manual",
        "each call a minute later; both on a manual clock",
    ),
    counted(
        "assets_50_over_plain",
        Target::AtMost(1.35),
        "instructions_assets_50",
        PLAIN,
        "the last of 50 assets",
    ),
    counted(
        "assets_1000_over_plain",
        Target::AtMost(1.35),
        "instructions_assets_1000",
        PLAIN,
        "the last of 1,000 assets",
    ),
    counted(
        "levels_2_over_plain",
        Target::AtMost(1.9),
        "instructions_levels_2",
        PLAIN,
        "a key beneath a group, each with two records",
    ),
    counted(
        "levels_4_over_plain",
        Target::None,
        "instructions_levels_4",
        PLAIN,
        "a key beneath three groups",
    ),
    counted(
        "open_over_registered",
        Target::AtMost(1.1),
        "instructions_open",
        "instructions_in_group",
        "a key that nobody registered",
    ),
    counted(
        "open_first_over_registered",
        Target::None,
        "instructions_open_first",
        "instructions_in_group",
        "its first call",
    ),
    counted(
        "limits_miss_over_plain",
        Target::None,
        "instructions_limits_miss",
        PLAIN,
        "the client does not know the limits",
    ),
    counted(
        "hot_batch_32_over_single",
        Target::AtMost(0.12),
        "instructions_hot_batch_32",
        PLAIN,
        "each of 32 decisions of one key, in one batch",
    ),
    counted(
        "batch_32_keys_over_single",
        Target::None,
        "instructions_batch_32_keys",
        PLAIN,
        "each of 32 decisions of different keys, in one batch",
    ),
    counted("reserve_over_trivial", Target::None, "instructions_reserve", TRIVIAL, "a reservation"),
    counted(
        "reserve_parallel_over_reserve",
        Target::AtMost(1.25),
        "instructions_reserve_parallel",
        "instructions_reserve",
        "a reservation that needs a slot",
    ),
    counted(
        "reserve_1000_over_trivial",
        Target::None,
        "instructions_reserve_1000",
        TRIVIAL,
        "a reservation, with 1,000 others open",
    ),
    row(
        "settle_over_trivial",
        Target::None,
        Source::Beyond("instructions_reserve_and_settle", "instructions_reserve", TRIVIAL),
        "its settlement",
    ),
    row(
        "settle_1000_over_trivial",
        Target::None,
        Source::Beyond(
            "instructions_reserve_and_settle_1000",
            "instructions_reserve_1000",
            TRIVIAL,
        ),
        "its settlement",
    ),
    counted(
        "reserve_and_settle_over_plain",
        Target::AtMost(5.0),
        "instructions_reserve_and_settle",
        PLAIN,
        "a reservation and its settlement",
    ),
    counted(
        "check_once_over_trivial",
        Target::None,
        "instructions_check_once",
        TRIVIAL,
        "a check with a new request id",
    ),
    counted(
        "check_once_1000_over_trivial",
        Target::None,
        "instructions_check_once_1000",
        TRIVIAL,
        "the same, with 1,000 others remembered",
    ),
    counted(
        "check_once_over_plain",
        Target::None,
        "instructions_check_once",
        PLAIN,
        "a check with a new request id over one without",
    ),
    counted(
        "replay_over_trivial",
        Target::None,
        "instructions_replay",
        TRIVIAL,
        "a check that is repeated",
    ),
    row("rate_1000_keys_64_tasks", Target::AtLeast(1.2), Source::Measured, RATE),
    row("rate_1000_keys_512_tasks", Target::AtLeast(1.2), Source::Measured, RATE),
    row("rate_one_key_64_tasks", Target::AtLeast(3.5), Source::Measured, RATE),
    row("rate_one_key_512_tasks", Target::AtLeast(5.5), Source::Measured, RATE),
    row("bytes_1_asset", Target::AtMost(700.0), Source::Measured, "counts and limits of a key"),
    row("bytes_10_assets", Target::AtMost(3_000.0), Source::Measured, "counts and limits of a key"),
    row("bytes_management", Target::None, Source::Measured, "management data of a key"),
    row(
        "limitador_instructions",
        Target::None,
        Source::Measured,
        "of a decision with eight limits",
    ),
    counted(
        "limitador_over_decision",
        Target::None,
        "limitador_instructions",
        PLAIN,
        "the same over one of ours",
    ),
    row("limitador_rate_1000_keys_64_tasks", Target::None, Source::Measured, PEER_RATE),
    row("limitador_rate_1000_keys_512_tasks", Target::None, Source::Measured, PEER_RATE),
    row("limitador_rate_one_key_64_tasks", Target::None, Source::Measured, PEER_RATE),
    row("limitador_rate_one_key_512_tasks", Target::None, Source::Measured, PEER_RATE),
];

const RATE: &str = "decisions a second over the plain client's";
const PEER_RATE: &str = "its decisions a second over those of ours";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_up_to_itself() {
        assert_eq!(Target::AtMost(3.8).verdict(3.8), "<= 3.80 met");
        assert_eq!(Target::AtMost(3.8).verdict(3.801), "<= 3.80 MISSED");
        assert_eq!(Target::AtLeast(1.5).verdict(1.5), ">= 1.50 met");
        assert_eq!(Target::AtLeast(1.5).verdict(1.499), ">= 1.50 MISSED");
        assert_eq!(Target::None.verdict(1.0), "");
    }

    #[test]
    fn the_report_divides_what_was_measured_and_leaves_out_what_was_not() {
        let mut measured = Figures::default();
        measured.add(TRIVIAL, 16_000.0);
        measured.add(PLAIN, 60_000.0);
        let report = report(&measured);
        assert_eq!(report.of("decision_over_trivial"), Some(3.75));
        assert_eq!(report.of("denied_over_plain"), None);
        measured.add("instructions_reserve", 144_000.0);
        measured.add("instructions_reserve_and_settle", 288_000.0);
        assert_eq!(super::report(&measured).of("settle_over_trivial"), Some(9.0));
    }
}
