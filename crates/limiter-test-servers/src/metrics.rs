//! A recorder of the metrics of the code under test.

use std::fmt;

use metrics::{LocalRecorderGuard, set_default_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The metrics of this thread, from the creation of this value until it is dropped.
pub struct Metrics {
    recorded: PrometheusHandle,
    _recording: LocalRecorderGuard<'static>,
}

impl Metrics {
    /// Records all metrics of this thread.
    pub fn record() -> Self {
        Self::recorded_by(PrometheusBuilder::new())
    }

    /// Records all metrics of this thread, and histograms in these buckets.
    pub fn record_in_buckets(buckets: &[f64]) -> Self {
        Self::recorded_by(PrometheusBuilder::new().set_buckets(buckets).expect("there are buckets"))
    }

    fn recorded_by(recorder: PrometheusBuilder) -> Self {
        let recorder = Box::leak(Box::new(recorder.build_recorder()));
        Self { recorded: recorder.handle(), _recording: set_default_local_recorder(recorder) }
    }

    /// Returns all metrics so far, in the text format of Prometheus.
    pub fn text(&self) -> String {
        self.recorded.render()
    }

    /// Returns the value of a time series, which is a name and its labels.
    pub fn value(&self, series: &str) -> u64 {
        let text = self.text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = value.unwrap_or_else(|| panic!("{series} is not in\n{text}"));
        value.parse().unwrap_or_else(|_| panic!("{series} is {value}"))
    }

    /// Returns all time series, without their values.
    pub fn series(&self) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let mut series: Vec<_> =
            lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect();
        series.sort_unstable();
        series
    }

    /// Asserts that exactly these series of a name are not zero: `{outcome="allowed"} 1`.
    pub fn assert_counted(&self, name: &str, expected: &[&str]) {
        let text = self.text();
        let of_name = text.lines().filter_map(|line| line.strip_prefix(name));
        let mut counted: Vec<_> =
            of_name.filter(|line| line.starts_with(['{', ' ']) && !line.ends_with(" 0")).collect();
        counted.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(counted, expected, "{name} in\n{text}");
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
