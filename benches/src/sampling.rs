//! Criterion: the same subjects one after the other, sampled, with its own statistics and reports.
//!
//! It shows one subject in detail, but is less fit to compare two on a busy machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

use crate::rounds::time;
use crate::subject::Subject;
use crate::workload::Workload;

/// Creates the settings of `scripts/bench decision`: short samples, after the rounds have warmed everything, with
/// reports in `directory`.
#[must_use]
pub fn brief(directory: &Path, quick: bool) -> Criterion {
    let (warm_up, measurement) = if quick { (20, 100) } else { (300, 1_000) };
    Criterion::default()
        .output_directory(directory)
        .without_plots()
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measurement))
        .sample_size(SAMPLES)
}

/// Creates the group of a workload.
pub fn group(criterion: &mut Criterion, workload: Workload) -> BenchmarkGroup<'_, WallTime> {
    let mut group = criterion.benchmark_group(format!("{GROUP}{}", workload.name()));
    group.throughput(Throughput::Elements(1));
    group
}

/// Samples one subject. Each sample continues where the last one ended: otherwise a few keys would stay in the caches.
pub fn sample<'a>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    workload: Workload,
    name: &str,
    subject: impl Fn() -> &'a dyn Subject,
) {
    let mut next = 0;
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|decisions| {
            let accesses = next..next + decisions as usize;
            next = accesses.end;
            time(subject(), accesses, workload.threads())
        });
    });
}

/// Reads the median that criterion has written to `directory`, in nanoseconds.
///
/// # Errors
/// If there is none, or it has another form.
pub fn median_ns(directory: &Path, workload: Workload, subject: &str) -> Result<f64, String> {
    let group = format!("{GROUP}{}", workload.name()).replace('/', "_");
    let path = directory.join(group).join(subject).join("new/estimates.json");
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| failed(&error))?;
    let estimates: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| failed(&error))?;
    estimates["median"]["point_estimate"].as_f64().ok_or_else(|| failed(&"no median"))
}

const GROUP: &str = "decision/";

/// The least that criterion accepts: their number matters less than their length.
const SAMPLES: usize = 10;
