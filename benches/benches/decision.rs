//! The subjects and workloads of `scripts/bench decision` under criterion alone, longer than there.

use std::cell::LazyCell;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use limiter_benches::sampling::{group, sample};
use limiter_benches::subject::SUBJECTS;
use limiter_benches::workload::{Plan, Workload};

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(20);
    targets = decisions
}
criterion_main!(benches);

fn decisions(criterion: &mut Criterion) {
    for workload in Workload::ALL {
        let plan = LazyCell::new(|| Plan::whole(workload));
        let mut group = group(criterion, workload);
        for entry in SUBJECTS {
            // Made only when it runs: limitador needs minutes for a million keys.
            let subject = LazyCell::new(|| {
                let mut subject = (entry.new)(&plan);
                subject.fill(&plan);
                subject
            });
            sample(&mut group, workload, entry.name, || &**subject);
        }
        group.finish();
    }
}
