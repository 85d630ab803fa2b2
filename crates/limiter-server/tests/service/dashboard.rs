//! The Grafana dashboard in docs/, and the table of metrics in the README: they name the metrics that there are.

use std::collections::BTreeSet;

use serde_json::Value;

const DASHBOARD: &str = include_str!("../../../../docs/grafana.json");
const README: &str = include_str!("../../../../README.md");
/// Each crate knows the names of its own metrics, in one file.
const SOURCES: [&str; 5] = [
    include_str!("../../../limiter/src/observe/metrics.rs"),
    include_str!("../../../limiter-redis/src/metrics.rs"),
    include_str!("../../../limiter-policy/src/metrics.rs"),
    include_str!("../../../limiter-lease/src/metrics.rs"),
    include_str!("../../src/metrics.rs"),
];

#[test]
fn the_dashboard_shows_each_metric_by_its_name() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    let shown: BTreeSet<&str> = queries.flat_map(names_in).map(of_series).collect();
    assert_eq!(shown, metrics());
}

#[test]
fn the_readme_lists_each_metric() {
    let rows = README.lines().filter_map(|line| line.strip_prefix("| `limiter_"));
    let listed: BTreeSet<String> =
        rows.filter_map(|row| Some(format!("limiter_{}", row.split_once('`')?.0))).collect();
    assert_eq!(listed, metrics().into_iter().map(str::to_owned).collect());
}

/// Returns the names of all metrics, by the sources.
fn metrics() -> BTreeSet<&'static str> {
    let literals = SOURCES.iter().flat_map(|source| source.split('"').skip(1).step_by(2));
    literals.filter(|text| names_in(text).next() == Some(text)).collect()
}

/// Returns the names of metrics in a text.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("limiter_"))
}

/// Returns the metric that a series belongs to: a histogram has three.
fn of_series(series: &str) -> &str {
    let parts = ["_bucket", "_sum", "_count"];
    parts.into_iter().find_map(|part| series.strip_suffix(part)).unwrap_or(series)
}
